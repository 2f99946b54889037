"""The two tables of docs/results, as Markdown."""

from __future__ import annotations

import pandas as pd

from sb3_plastic.studies.temporal.analysis import LESIONS
from sb3_plastic.studies.temporal.figures import tasks_of
from sb3_plastic.studies.temporal.records import at_level, compared, differences_by_seed, interval, select
from sb3_plastic.studies.temporal.settings import ABLATIONS, ANALYSED, STRONG


def headline(frame: pd.DataFrame) -> list[str]:
    """
    Accuracy of each network without noise and in strong noise, and relative to the reference decoder.

    :param frame: records
    :return: lines of Markdown
    """
    lines = [
        "| task | network | noise-free | 40 % dropped, 5 % spurious | of the reference | seeds |",
        "|---|---|---|---|---|---|",
    ]
    for task in tasks_of(frame):
        reference = select(frame, task, "reference")
        for name, chosen in compared(frame, task):
            levels = [at_level(chosen, level).accuracy for level in (0, STRONG)]
            attainable = [at_level(reference, level).accuracy for level in (0, STRONG)]
            shares = ", ".join(f"{a.mean() / b.mean():.1%}" for a, b in zip(levels, attainable, strict=True))
            label = f"{name} decoder" if name == "reference" else name
            cells = [task, label, *(interval(level) for level in levels), shares, str(chosen.seed.nunique())]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def parts(frame: pd.DataFrame) -> list[str]:
    """
    By how much accuracy changes without one part of a network, paired by seed.

    :param frame: records
    :return: lines of Markdown
    """
    lines = ["| where | left out | noise-free | strong noise | seeds |", "|---|---|---|---|---|"]
    for task, network in ANALYSED.items():
        whole = select(frame, task, network)
        kinds = [("in training", ablation, ablation, "") for ablation in ABLATIONS]
        kinds += [("at test", label, "", lesion) for lesion, label in LESIONS.items()]
        for where, label, ablation, lesion in kinds:
            chosen = select(frame, task, network, 1, ablation, lesion)
            if chosen.empty:
                continue
            lost = [differences_by_seed(at_level(chosen, level), at_level(whole, level)) for level in (0, STRONG)]
            cells = [f"{task}, {where}", label, *(interval(change) for change in lost), str(len(lost[0]))]
            lines.append(f"| {' | '.join(cells)} |")
    return lines
