"""What the study of temporal tasks found, in one sentence and one table: the report begins with it."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from sb3_plastic.studies.temporal.records import at_level, select
from sb3_plastic.studies.temporal.settings import CONTROLS, HEADLINE, STRONG

KEEPS_UP = 0.95
"""Of the reference decoder's accuracy, from which a network is said to solve a task."""


def conclusion(frame: pd.DataFrame, tasks: Iterable[str]) -> tuple[str, list[dict[str, str]]]:
    """
    The best plastic network and the best control of each task, at equal updates, as parts of the reference's accuracy.

    :param frame: records
    :param tasks: those that were run
    :return: a sentence, empty without a reference; and rows of a table
    """
    plastic: dict[str, float] = {}
    control: dict[str, float] = {}
    rows = []
    for task in tasks:
        best = _best(frame, task, HEADLINE[task]), _best(frame, task, CONTROLS)
        row = {"task": task}
        for kind, found, shares in zip(("plastic", "control"), best, (plastic, control), strict=True):
            if found is not None:
                name, shares[task], strong = found
                row[f"best {kind}"] = name
                row |= {f"{kind}, noise-free": f"{shares[task]:.1%}", f"{kind}, strong noise": f"{strong:.1%}"}
        rows.append(row)
    if not plastic or not control:
        return "", []
    solved, kept_up = ([t for t, share in s.items() if share >= KEEPS_UP] for s in (plastic, control))
    return (
        f"Without noise and at equal updates, the best plastic network reaches at least {KEEPS_UP:.0%} of the "
        f"reference decoder's accuracy in {len(solved)} of {len(plastic)} tasks{_named(solved)} (lowest: "
        f"{min(plastic.values()):.1%}), the best control in {len(kept_up)} of {len(control)}{_named(kept_up)} (lowest: "
        f"{min(control.values()):.1%}).",
        rows,
    )


def _best(frame: pd.DataFrame, task: str, names: Iterable[str]) -> tuple[str, float, float] | None:
    """Name of the best network without noise, and its share of the reference without noise and under strong noise."""
    found: list[tuple[str, float, float]] = []
    for name in names:
        chosen, reference = select(frame, task, name), select(frame, task, "reference")
        if not chosen.empty and not reference.empty:
            clean, strong = (
                float(at_level(chosen, i).accuracy.mean() / at_level(reference, i).accuracy.mean()) for i in (0, STRONG)
            )
            found.append((name, clean, strong))
    return max(found, key=lambda one: one[1]) if found else None


def _named(tasks: list[str]) -> str:
    return f", {', '.join(tasks)}" if tasks else ""
