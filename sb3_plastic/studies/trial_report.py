"""The reports of the studies of trained agents: a row per family, a column per arm or agent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pandas as pd

from sb3_plastic.evaluation.measures import MOVING
from sb3_plastic.evaluation.scores import chosen
from sb3_plastic.report.document import draw
from sb3_plastic.report.scores import Estimate
from sb3_plastic.studies.agents import ARMS
from sb3_plastic.studies.runner import file_name
from sb3_plastic.studies.table import Result
from sb3_plastic.studies.trial_figures import onset_figure, robustness_figure
from sb3_plastic.studies.trial_scores import ahead, difference, frame_of, over_seeds

Column = Callable[[pd.DataFrame], Estimate]
"""What a column shows of the rows of a family."""


def report_adaptation(results: Sequence[Result], out: Path) -> list[Path]:
    """
    Print what all agents keep, a table per robot, agent and suite, and draw what happens around the onset. An agent
    that was judged alone, such as one trained on the faults, is shown beside the others of its robot.

    :param results: of the study
    :param out: figures go there, one per robot and agent
    :return: the figures
    """
    results = beside_the_others(results)
    frame, written = frame_of(results), []
    shown = frame[frame["split"] != "sham"]
    # What begins with the episode, and what begins later, are one table; the other protocols have their own.
    of_protocol = shown["protocol"].mask(shown["protocol"].isin(["static", "onset"]), "").rename("of_protocol")
    for titles, rows in shown.groupby(["robot", "suite", of_protocol]):
        if titles[-1] != "lifetime":
            print_overview(_title(titles), rows)
    for (robot, agent), part in shown.groupby(["robot", "agent"], sort=False):
        for titles, rows in part.groupby(["suite", of_protocol], sort=False):
            columns = life_columns(rows) if titles[-1] == "lifetime" else adaptation_columns(rows)
            print_table(_title((robot, agent, *titles)), rows, columns)
        own = [result for result in results if (result["robot"], result["agent"]) == (robot, agent)]
        written += draw(out / f"{file_name(robot, agent)}.png", partial(onset_figure, own))
    return written


def beside_the_others(results: Sequence[Result]) -> list[Result]:
    """
    Results in which agents that were judged alone, in no other arm, have become arms of those that were judged with a
    layer under the same suite, under their own names.

    :param results: of the study
    """
    arms: dict[tuple[str, str], set[str]] = {}
    hosts: dict[tuple[str, str], list[str]] = {}  # with a layer, by robot and suite
    for result in results:
        if "scores" in result:
            robot, agent, arm = result["robot"], result["agent"], result["arm"]
            arms.setdefault((robot, agent), set()).add(arm)
            there = hosts.setdefault((robot, result["suite"]), [])
            if ARMS[arm].layer is not None and agent not in there:
                there.append(agent)
    shown = []
    for result in results:
        beside = hosts.get((result["robot"], result.get("suite", "")), [])
        if beside and arms.get((result["robot"], result["agent"])) == {"frozen"}:
            shown += [{**result, "agent": agent, "arm": result["agent"]} for agent in beside]
        else:
            shown.append(result)
    return shown


def report_robustness(results: Sequence[Result], out: Path) -> list[Path]:
    """
    Print a table per robot, suite and protocol, and draw the speeds of each robot.

    :param results: of the study
    :param out: figures go there, one per robot
    :return: the figures
    """
    frame, written = frame_of(results), []
    for robot, part in frame.groupby("robot", sort=False):
        switched = part[part["control"] != "intact"]  # or else, who was asked for controls is known by the arm
        controlled = list(dict.fromkeys((chosen(part, arm="controls") if switched.empty else switched)["agent"]))
        for (suite, protocol), rows in part.groupby(["suite", "protocol"], sort=False):
            if not _changed(rows).empty:  # the static protocol of a suite of onsets has the unperturbed robot alone
                print_table(f"{robot}, {suite}, {protocol}", rows, agent_columns(rows, controlled))
        written += draw(out / f"{robot}.png", partial(robustness_figure, part))
    return written


def adaptation_columns(rows: pd.DataFrame) -> dict[str, Column]:
    """
    Speeds of all arms, then what the layer gains.

    :param rows: of one agent and suite
    """
    columns: dict[str, Column] = {}
    for arm in dict.fromkeys([*ARMS, *rows["arm"]]):
        if arm in set(rows["arm"]):
            columns[arm] = _estimate_of("speed", arm=arm)
        if arm == "adaptive" and {"adaptive", "frozen"} <= set(rows["arm"]):
            columns["adaptive - frozen"] = _adaptive_minus_frozen
    for name, score in {"net gain": "net", "recovered": "recovered", "steps": "steps_to_recovery"}.items():
        columns[name] = _estimate_of(score, arm="adaptive")
    for arm in ("frozen", "adaptive"):
        columns[f"upright, {arm}"] = _estimate_of("survived", arm=arm)
    return columns


def life_columns(rows: pd.DataFrame) -> dict[str, Column]:
    """
    Speeds in the first episode of a life, and in those after it, where an agent carries over what it has learned and
    where it begins anew; then what it is worth to carry over.

    :param rows: of one agent and suite, protocol ``lifetime``
    """
    columns: dict[str, Column] = {}
    later = rows["in_life"] > 1
    for arm, control in rows[["arm", "control"]].drop_duplicates().itertuples(index=False):
        columns[f"{arm}, {control}, first"] = partial(_in_life, False, arm, control)
        columns[f"{arm}, {control}, later"] = partial(_in_life, True, arm, control)
    for arm in dict.fromkeys(rows.loc[later & (rows["control"] == "carried"), "arm"]):
        columns[f"{arm}, later, carried - reset"] = partial(_worth_carrying, arm)
    return columns


def _in_life(later: bool, arm: str, control: str, rows: pd.DataFrame) -> Estimate:
    rows = chosen(rows, arm=arm, control=control)
    return over_seeds(rows[(rows["in_life"] > 1) == later], "speed")


def _worth_carrying(arm: str, rows: pd.DataFrame) -> Estimate:
    rows = chosen(rows[rows["in_life"] > 1], arm=arm)
    return difference(chosen(rows, control="carried"), chosen(rows, control="reset"))


def agent_columns(rows: pd.DataFrame, controlled: Sequence[str]) -> dict[str, Column]:
    """
    Speeds of all agents, in all arms and under all controls; then what a layer gives each agent that was judged with
    one, and what the agents that were judged under controls, of their own plasticity or of their layer, have more than
    each of the others, as they are. If none was, or all, what each has more than those before it.

    :param rows: of one robot, suite and protocol
    :param controlled: those agents
    """
    columns: dict[str, Column] = {}
    for agent, arm, control in rows[["agent", "arm", "control"]].drop_duplicates().itertuples(index=False):
        notes = [note for note in (arm, control) if note not in ("frozen", "controls", "intact")]
        columns[", ".join([agent, *notes])] = _estimate_of("speed", agent=agent, arm=arm, control=control)
    intact = chosen(rows, control="intact")
    alone = list(dict.fromkeys(_alone(intact)["agent"]))
    for agent in filter(alone.__contains__, dict.fromkeys(chosen(intact, arm="adaptive")["agent"])):
        columns[f"{agent}, adaptive - frozen"] = partial(_given_by_the_layer, agent)
    ours, others = ([agent for agent in alone if (agent in controlled) is wanted] for wanted in (True, False))
    for agent, other in product(ours, others) if ours and others else (pair[::-1] for pair in combinations(alone, 2)):
        columns[f"{agent} - {other}"] = partial(_one_agent_ahead, agent, other)
    return columns


def _title(names: Iterable[object]) -> str:
    return ", ".join(filter(None, map(str, names)))


def _estimate_of(score: str, control: str = "intact", **values: str) -> Column:
    return lambda rows: over_seeds(chosen(rows, control=control, **values), score)


def _one_agent_ahead(agent: str, other: str, rows: pd.DataFrame) -> Estimate:
    rows = chosen(_alone(rows), control="intact")
    return ahead(chosen(rows, agent=agent), chosen(rows, agent=other))


def _alone(rows: pd.DataFrame) -> pd.DataFrame:
    """Agents as they are, of which the arm `frozen` has the intact ones alone. Of both arms, the one with controls."""
    alone = rows[rows["arm"].isin(["frozen", "controls"])].sort_values("arm", kind="stable")  # controls come first
    return alone.drop_duplicates(["agent", "agent_seed", "suite", "protocol", "scenario", "control"])


def _given_by_the_layer(agent: str, rows: pd.DataFrame) -> Estimate:
    return _adaptive_minus_frozen(chosen(rows, agent=agent))


def _adaptive_minus_frozen(rows: pd.DataFrame) -> Estimate:
    rows = chosen(rows, control="intact")
    return difference(chosen(rows, arm="adaptive"), _alone(rows))


def print_overview(title: str, rows: pd.DataFrame) -> None:
    """
    Print a table of all agents that have a layer: a row per family, a column per agent, in it what is left of the speed
    without the layer and with it. Of one agent alone, its own table says as much.

    :param title: robot and suite
    :param rows: scores of that robot
    """
    both = {"frozen", "adaptive"}
    compared = rows.groupby("agent").filter(lambda part: both <= set(part["arm"]))
    agents = sorted(set(compared["agent"]))
    if len(agents) < 2:
        return
    print(f"\n{title}, all agents, without the layer and with it\n")
    _print_rows(f"{title}, frozen / adaptive", compared, {agent: partial(_without_and_with, agent) for agent in agents})


def _without_and_with(agent: str, rows: pd.DataFrame) -> str:
    rows = chosen(rows, agent=agent, control="intact")
    speeds = [over_seeds(chosen(rows, arm=arm), "speed").value for arm in ("frozen", "adaptive")]
    return "" if np.isnan(speeds).any() else "{:.2f} / {:.2f}".format(*speeds)


def print_table(title: str, rows: pd.DataFrame, columns: dict[str, Column]) -> None:
    """
    Print a Markdown table of estimates, and how many agents, layers and episodes they are of.

    :param title: of the first column
    :param rows: scores
    :param columns: by name
    """
    seeds = len(rows[["agent_seed", "layer_seed"]].drop_duplicates().query("layer_seed >= 0"))
    agents = rows.groupby(["agent", "arm"])["agent_seed"].nunique().max()  # other agents stand as arms
    print(f"\n{title}: agents {agents}, layers {seeds}, episodes {rows['episodes'].max()}\n")
    _print_rows(title, rows, {name: partial(_text_of, column) for name, column in columns.items()})
    if rows["speed"].isna().all():
        print(f"There are no speeds: unperturbed, forward rewards are below {MOVING} a step.")


def _print_rows(title: str, rows: pd.DataFrame, columns: Mapping[str, Callable[[pd.DataFrame], str]]) -> None:
    """A row per family, then one of all that are perturbed."""
    shown, changed = rows[rows["split"] != "reference"], _changed(rows)
    print(f"| {title} | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    groups = [(str(family), part) for family, part in shown.groupby("family", sort=False)]
    if len(groups) > 2:
        groups.append(("**all that change**", changed))
    for family, part in groups:
        print(f"| {family} | {' | '.join(column(part) for column in columns.values())} |")


def _changed(rows: pd.DataFrame) -> pd.DataFrame:
    """Those in which something has changed."""
    return rows[~rows["split"].isin(["nominal", "sham", "reference"])]


def _text_of(column: Column, rows: pd.DataFrame) -> str:
    estimate = column(rows)
    return "" if estimate.value != estimate.value else str(estimate)
