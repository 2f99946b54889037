"""The report of the study of meta-RL: estimates over trainings, as a table, and their figures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from sb3_plastic.errors import UserError
from sb3_plastic.evaluation.scores import chosen
from sb3_plastic.files import replace_file
from sb3_plastic.report.document import draw
from sb3_plastic.report.scores import Estimate
from sb3_plastic.studies.meta_figures import gain_figure, relative_figure
from sb3_plastic.studies.meta_scores import estimates
from sb3_plastic.studies.table import Result


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
        replace_file(table, estimates(results).to_csv(index=False, float_format="%.6g"))
    if not table.is_file():
        raise UserError(f"There are no results in {out}: run the study first, without --report-only.")
    scores = pd.read_csv(table)
    written = [table]
    for robot in scores["robot"].unique():
        of_robot = scores[scores["robot"] == robot]
        print("\n".join(["", *markdown(of_robot, robot)]))
        for name, figure in (("relative", relative_figure), ("gain", gain_figure)):
            written += draw(out / f"{robot}-{name}.png", partial(figure, of_robot))
    return written


def value_of(scores: pd.DataFrame, **keys: str) -> str:
    """
    An estimate as text, with its interval; empty if there is none.

    :param scores: estimates
    :param keys: values of columns
    """
    found = chosen(scores, **keys)
    if found.empty:
        return ""
    return str(Estimate(*found.iloc[0][["value", "low", "high"]]))


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
        of_agent = scores[scores["agent"] == agent]
        cells = [value_of(of_agent, control="intact", **keys) for keys in columns.values()]
        lines.append(f"| {agent} | {of_agent['seeds'].max()} | {' | '.join(cells)} |")
    return lines
