"""The report of the study of adaptation: estimates over trainings, as a table, and their figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from sb3_plastic.errors import UserError
from sb3_plastic.files import replace_file
from sb3_plastic.report import stats
from sb3_plastic.report.document import COLORS, PAGE, formatted, new_figure, plot_style, small_png
from sb3_plastic.report.scores import estimate
from sb3_plastic.studies.runner import Result

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

SPLITS = ("interp", "extrap1", "extrap2", "novel")
GAINS = {"raw_gain": "raw", "net_gain": "net of the sham"}


def write_report(results: Sequence[Result], out: Path) -> list[Path]:
    """
    Write ``scores.csv`` if there are results, and from it a table and two figures per robot.

    :param results: of the study; empty: the table that is there is drawn
    :param out: folder of the study
    :return: what was written
    :raises UserError: if there are neither results nor scores
    """
    table = out / "scores.csv"
    if results:
        replace_file(table, estimates(results).to_csv(index=False, float_format="%.6g").encode())
    if not table.is_file():
        raise UserError(f"There are no results in {out}: run the study first, without --report-only.")
    scores = pd.read_csv(table)
    written = [table]
    for robot in scores["robot"].unique():
        chosen = scores[scores["robot"] == robot]
        print("\n".join(["", *markdown(chosen, robot)]))
        for name, figure in (("relative", relative_figure), ("gain", gain_figure)):
            with plot_style():
                path = out / f"{robot}-{name}.png"
                replace_file(path, small_png(figure(chosen)))
                written.append(path)
    return written


def estimates(results: Sequence[Result]) -> pd.DataFrame:
    """
    Estimates over trainings, with their 95 % bootstrap intervals.

    :param results: of the study
    :return: ``robot, agent, protocol, split, control, score, seeds, value, low, high``; the split ``all`` holds all
        scenarios of the protocol. ``relative`` is an interquartile mean, the others are means
    """
    keys = ["robot", "agent", "protocol", "split", "control"]
    shared = ("robot", "agent", "seed")
    frame = pd.DataFrame([{name: r[name] for name in shared} | score for r in results for score in r["scores"]])
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


def value_of(scores: pd.DataFrame, **keys: str) -> str:
    """
    An estimate as text, with its interval; empty if there is none.

    :param scores: estimates
    :param keys: values of columns
    """
    found = _chosen(scores, **keys)
    if found.empty:
        return ""
    row = found.iloc[0]
    interval = "" if pd.isna(row["low"]) else f" [{formatted(row['low'])}, {formatted(row['high'])}]"
    return formatted(row["value"]) + interval


def markdown(scores: pd.DataFrame, robot: str) -> list[str]:
    """
    The table of a robot, one row per agent.

    :param scores: estimates of the robot
    :param robot: its name
    """
    columns: dict[str, dict[str, str]] = {
        "forward reward, nominal": dict(protocol="static", split="nominal", score="forward_reward"),
        "novel kinds, from an onset": dict(protocol="onset", split="novel", score="forward_reward"),
        "relative": dict(protocol="onset", split="novel", score="relative"),
        "upright at the end, novel": dict(protocol="onset", split="novel", score="survived"),
        "net adaptation gain": dict(protocol="onset", split="all", score="net_gain"),
        "raw gain": dict(protocol="onset", split="all", score="raw_gain"),
        "sham": dict(protocol="onset", split="sham", score="raw_gain"),
    }
    lines = [f"| {robot} | seeds | {' | '.join(columns)} |", "|---" * (len(columns) + 2) + "|"]
    for agent in scores["agent"].unique():
        chosen = scores[scores["agent"] == agent]
        cells = [value_of(chosen, control="intact", **keys) for keys in columns.values()]
        lines.append(f"| {agent} | {chosen['seeds'].max()} | {' | '.join(cells)} |")
    return lines


def relative_figure(scores: pd.DataFrame) -> Any:
    """Relative forward reward from an onset on, by split and agent. :param scores: estimates of a robot"""
    figure = new_figure(PAGE, 2.6)
    axes = figure.subplots()
    chosen = _chosen(scores, protocol="onset", control="intact", score="relative")
    splits = [split for split in SPLITS if split in set(chosen["split"])]
    agents = list(chosen["agent"].unique())
    for i, agent in enumerate(agents):
        part = chosen[chosen["agent"] == agent].set_index("split").reindex(splits)
        x = [j + (i - (len(agents) - 1) / 2) * 0.12 for j in range(len(splits))]
        _points(axes, x, part, COLORS[i % len(COLORS)], agent)
    axes.axhline(1, color="grey", linewidth=0.8)
    axes.set_xticks(range(len(splits)), splits)
    axes.set_ylabel("forward reward, relative to nominal")
    axes.legend(ncols=3)
    return figure


def gain_figure(scores: pd.DataFrame) -> Any:
    """Adaptation gains of each plastic agent by split, and those of the sham. :param scores: estimates of a robot"""
    figure = new_figure(PAGE, 2.4)
    chosen = _chosen(scores, protocol="onset", control="intact")
    agents = list(chosen[chosen["score"] == "net_gain"]["agent"].unique())
    splits = [split for split in (*SPLITS, "all", "sham") if split in set(chosen["split"])]
    panels = figure.subplots(1, max(len(agents), 1), sharey=True, squeeze=False)[0]
    for axes, agent in zip(panels, agents, strict=False):
        for i, (score, label) in enumerate(GAINS.items()):
            part = chosen[(chosen["agent"] == agent) & (chosen["score"] == score)].set_index("split").reindex(splits)
            _points(axes, [j + 0.24 * i - 0.12 for j in range(len(splits))], part, COLORS[i], label)
        axes.axhline(0, color="grey", linewidth=0.8)
        axes.set_xticks(range(len(splits)), splits, rotation=30)
        axes.set_title(agent)
    panels[0].set_ylabel("adaptation gain")
    panels[0].legend()
    return figure


def _points(axes: Any, x: Sequence[float], part: pd.DataFrame, color: str, label: str) -> None:
    low, high = part["value"] - part["low"], part["high"] - part["value"]
    errors = [low.fillna(0).clip(lower=0), high.fillna(0).clip(lower=0)]
    axes.errorbar(x, part["value"], errors, fmt="o", color=color, markersize=3, elinewidth=0.9, label=label)


def _chosen(scores: pd.DataFrame, **keys: str) -> pd.DataFrame:
    for name, value in keys.items():
        scores = scores[scores[name] == value]
    return scores
