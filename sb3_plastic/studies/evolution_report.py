"""The report of the study of evolution: curves over steps and over time, and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from sb3_plastic.evaluation.measures import MOVING
from sb3_plastic.report.document import COLORS, PAGE, draw, new_figure
from sb3_plastic.studies.damage import kept, speed
from sb3_plastic.studies.table import Result

Groups = dict[str, list[Result]]
"""Trainings by agent."""


def report(results: Sequence[Result], out: Path) -> list[Path]:
    """
    Print the tables of all parts, and draw the learning curves of each environment.

    :param results: of the study
    :param out: ``ENVIRONMENT.png`` goes there
    :return: files that were written
    """
    learning: dict[str, Groups] = {}
    damaged: Groups = {}
    for result in results:
        group = learning.setdefault(result["environment"], {}) if result["part"] == "learning" else damaged
        group.setdefault(result["agent"], []).append(result)
    learning, damaged = {env_id: apart(group) for env_id, group in learning.items()}, apart(damaged)
    paths = []
    for env_id, groups in learning.items():
        paths += draw(out / f"{env_id}.png", partial(learning_figure, env_id, groups))
        print("\n".join(["", *learning_table(env_id, groups)]))
    if damaged:
        print("\n".join(["", *damage_table(damaged)]))
    return paths


def apart(groups: Groups) -> Groups:
    """
    Trainings under a label of their own that were shorter than the agent's longest, or judged on fewer episodes: they
    are no other seeds.

    :param groups: trainings by agent
    """
    most = max((len(run["returns"]) for runs in groups.values() for run in runs), default=0)
    found: Groups = {}
    for agent, runs in groups.items():
        longest = max(map(_budget, runs))
        for run in runs:
            label, n = agent, len(run["returns"])
            if _budget(run) != longest:
                label += f", {run['steps']} steps" + (f" in {run['minutes']:g} minutes" if run["minutes"] else "")
            found.setdefault(label if n == most else f"{label}, {n} episodes", []).append(run)
    return found


def _budget(run: Result) -> tuple[int, float]:
    """Steps and minutes that a training was given; 0 minutes are no limit."""
    return run["steps"], run["minutes"] or float("inf")


def learning_figure(env_id: str, groups: Groups) -> Figure:
    """
    Returns over steps, and over minutes of processor time: a thin line per seed.

    :param env_id: environment
    :param groups: trainings by agent
    """
    figure = new_figure(PAGE, 2.6)
    by_steps, by_time = figure.subplots(1, 2, sharey=True)
    for (agent, runs), color in zip(sorted(groups.items(), reverse=True), cycle(COLORS), strict=False):
        for i, run in enumerate(runs):
            points, label = run["points"], f"{agent} ({len(runs)} seeds)" if i == 0 else None
            by_steps.plot(np.array(points["steps"]) / 1e6, points["returns"], color=color, lw=1.1, label=label)
            by_time.plot(points["minutes"], points["returns"], color=color, lw=1.1)
    by_steps.set(xlabel="million environment steps", ylabel=f"return, {env_id}")
    by_time.set(xlabel="minutes of processor time")
    by_steps.legend()
    return figure


def learning_table(env_id: str, groups: Groups) -> list[str]:
    """
    Returns after the training; and from the curves at the steps, and at the time, that all trainings have reached, but
    for those that are set apart.

    :param env_id: environment
    :param groups: trainings by agent
    :return: lines of Markdown
    """
    everyone = [run for group in groups.values() for run in group]
    runs = [run for agent, group in groups.items() for run in group if run["agent"] == agent] or everyone
    steps, minutes = (min(run["points"][name][-1] for run in runs) for name in ("steps", "minutes"))
    header = [
        "million steps",
        "minutes",
        "return, by seed",
        f"at {steps / 1e6:.1f}M steps",
        f"at {minutes:.1f} minutes",
    ]
    lines = [f"| {env_id} | {' | '.join(header)} |", "|---|---|---|---|---|---|"]
    for agent, group in sorted(groups.items(), reverse=True):
        ends = [np.mean([run["points"][name][-1] for run in group]) for name in ("steps", "minutes")]
        seeds = each(group, lambda run: float(np.mean(run["returns"])))
        equal = [
            each(group, partial(value_at, name=name, at=at)) for name, at in (("steps", steps), ("minutes", minutes))
        ]
        lines.append(f"| {agent} | {ends[0] / 1e6:.1f} | {ends[1]:.1f} | {seeds} | {' | '.join(equal)} |")
    return lines


def value_at(run: Result, name: str, at: float) -> float:
    """
    The last point of a curve that is not beyond a place.

    :param run: a training
    :param name: ``steps`` or ``minutes``
    :param at: the place
    :return: NaN if the curve ends before it
    """
    points = run["points"]
    if points[name][-1] < at:
        return float("nan")
    return float(np.array(points["returns"])[np.array(points[name]) <= at][-1])


def damage_table(groups: Groups) -> list[str]:
    """
    Speed without damage and under it from the start; share of the speed that is kept from an onset on, under each
    control. Of several damages the mean.

    :param groups: trainings by agent
    :return: lines of Markdown
    """
    lines = [
        "| | million steps | undamaged, m/s | seen damage, m/s | unseen, m/s | unseen / undamaged | kept from an onset "
        "of unseen damage: intact | frozen | zeroed |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for agent, runs in sorted(groups.items(), reverse=True):
        steps = np.mean([run["points"]["steps"][-1] for run in runs]) / 1e6
        values = [
            each(runs, partial(speed, of=split, column="split"), ".2f") for split in ("nominal", "train", "novel")
        ]
        values.append(each(runs, share, ".2f"))
        values += [
            each(runs, partial(kept, of="novel", column="split", control=name), ".2f")
            for name in ("intact", "frozen_at_onset", "zeroed_at_onset")
        ]
        lines.append(f"| {agent} | {steps:.1f} | {' | '.join(values)} |")
    return lines


def share(run: Result) -> float:
    """Of the undamaged speed, under unseen damage from the start. :param run: a training  :return: NaN if it stands"""
    undamaged = speed(run, "nominal", "split")
    return speed(run, "novel", "split") / undamaged if undamaged >= MOVING else float("nan")


def each(runs: Iterable[Result], value: Callable[[Result], float], form: str = ".0f") -> str:
    """
    The mean over trainings, and each in brackets; a dash if there is none.

    :param runs: trainings
    :param value: of a training
    :param form: of each number
    """
    values = [value(run) for run in sorted(runs, key=lambda run: run["seed"])]
    if np.isnan(values).any():
        return "-"
    return f"{np.mean(values):{form}} ({', '.join(f'{one:{form}}' for one in values)})"
