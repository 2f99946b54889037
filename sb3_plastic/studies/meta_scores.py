"""The scores of the study of meta-RL: which there are, and their estimates over trainings."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from sb3_plastic.report import stats
from sb3_plastic.report.scores import estimate
from sb3_plastic.studies.differences import warn_of_gaps
from sb3_plastic.studies.table import Result

CONDITION = ("protocol", "split", "scenario", "control")
SCORES = {
    # column of the records: name of the estimate
    "relative": "relative",
    "forward_reward": "forward_reward",
    "survived": "survived",
    "plateau": "plateau",
    "net": "net_gain",
    "adaptation_gain": "raw_gain",
}
"""Scores of a condition: see `evaluation.measures` and `report.results`."""


def estimates(results: Sequence[Result]) -> pd.DataFrame:
    """
    Estimates over trainings, with their 95 % bootstrap intervals.

    :param results: of the study; of each agent the longest trainings, and of these the largest evaluations, count
    :return: ``robot, agent, protocol, split, control, score, seeds, value, low, high``; the split ``all`` holds all
        scenarios of the protocol. ``relative`` is an interquartile mean, the others are means
    """
    keys = ["robot", "agent", "protocol", "split", "control"]
    shared = ("robot", "agent", "seed")
    longest: dict[tuple[str, str], int] = {}
    for r in results:
        key = r["robot"], r["agent"]
        longest[key] = max(longest.get(key, 0), r.get("steps", 0))
    counted = [r for r in results if r.get("steps", 0) == longest[r["robot"], r["agent"]]]
    counted.sort(key=lambda r: len(r["scores"]))
    frame = pd.DataFrame([{name: r[name] for name in shared} | score for r in counted for score in r["scores"]])
    frame = frame.drop_duplicates([*shared, "protocol", "split", "scenario", "control"], keep="last")
    warn_of_gaps(frame, ["robot", "agent"], ["seed"])
    perturbed = frame[~frame["split"].isin(["nominal", "reference", "sham"])]
    frame = pd.concat([frame, perturbed.assign(split="all")])
    rows = []
    for values, part in frame.groupby(keys, sort=False):
        for column, score in SCORES.items():
            if column not in part or part[column].isna().all():
                continue
            matrix = part.pivot_table(column, "seed", "scenario")
            found = estimate(matrix, stats.iqm if score == "relative" else stats.mean)
            row = {**dict(zip(keys, values, strict=True)), "score": score, "seeds": len(matrix)}
            rows.append(row | {"value": found.value, "low": found.low, "high": found.high})
    return pd.DataFrame(rows)
