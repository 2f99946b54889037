"""Scores of the studies of trained agents as one frame, and their estimates over seeds."""

from __future__ import annotations

import operator
from collections.abc import Iterable

import numpy as np
import pandas as pd

from sb3_plastic.evaluation.scores import iqm, mean
from sb3_plastic.report.scores import Estimate, estimate, joint
from sb3_plastic.studies.agents import ARMS
from sb3_plastic.studies.differences import warn_of_gaps
from sb3_plastic.studies.layers import FITTED_STEPS
from sb3_plastic.studies.table import Result
from sb3_plastic.studies.trials import SCORES


def frame_of(results: Iterable[Result]) -> pd.DataFrame:
    """
    One row per condition of a trial.

    Of the layers in an arm and suite those that were fitted on most steps count, of a condition that was judged more
    than once the trial with most episodes.

    :param results: of the study; fits and watches are left out
    :return: what names the trial, the condition and its scores; ``in_life``, the episode of a life, counted from 1, 0
        without; ``family``, the scenario without its suite; ``speed``,
        forward reward where 1 is that of the same agent alone on the unperturbed robot: from the onset on, or of whole
        episodes where there is none, or too early a one. An agent that was not tried alone is compared with itself, and
        another agent, which stands as an arm beside it, with the mean of its seeds
    """
    named = ("robot", "agent", "agent_seed", "layer_seed", "arm", "suite")
    empty = dict.fromkeys(SCORES, float("nan")) | {"in_life": 0}
    rows = [
        {name: result.get(name) for name in (*named, "steps")} | empty | score
        for result in results
        for score in result.get("scores", ())
    ]
    frame = pd.DataFrame(rows)
    if frame.empty:
        return frame
    frame["layer_seed"] = frame["layer_seed"].astype(float).fillna(-1).astype(int)
    frame = _largest(frame, list(named))
    warn_of_gaps(frame, ["robot", "agent", "arm", "suite"], ["agent_seed", "layer_seed"])
    families = [
        scenario.removeprefix(f"{suite}/").removesuffix("/onset")
        for scenario, suite in zip(frame["scenario"], frame["suite"], strict=True)
    ]
    frame = frame.assign(family=families)
    one = ["robot", "agent", "agent_seed", "suite"]
    nominal = frame[(frame["split"] == "nominal") & (frame["control"] == "intact")]
    alone = nominal[nominal["arm"] == "frozen"].groupby(one)["forward_reward"].mean().rename("alone")
    own = nominal.groupby([*one, "layer_seed", "arm"])["forward_reward"].mean().rename("own")
    anyone = alone.groupby(beside := ["robot", "agent", "suite"]).mean().rename("anyone")
    frame = frame.join(alone, on=one).join(own, on=[*one, "layer_seed", "arm"]).join(anyone, on=beside)
    compared = frame["alone"].where(frame["arm"].isin(ARMS), frame["anyone"])
    share = frame["own"] / compared.fillna(frame["own"])
    frame = frame.assign(speed=frame["kept"].fillna(frame["relative"]) * share)
    return frame.drop(columns=["alone", "own", "anyone"])


def _largest(frame: pd.DataFrame, named: list[str]) -> pd.DataFrame:
    """One row for each condition of a trial. :param frame: all rows :param named: what names a trial"""
    layered = frame["layer_seed"] >= 0
    steps = frame["steps"].astype(float).fillna(FITTED_STEPS).where(layered)
    most = steps.groupby([frame[name] for name in ("robot", "agent", "arm", "suite")]).transform("max")
    frame = frame[~layered | (steps == most)]
    condition = [*named, "protocol", "split", "scenario", "control", "in_life"]
    return frame.sort_values("episodes", kind="stable").drop_duplicates(condition, keep="last").sort_index()


def by_seed(frame: pd.DataFrame, score: str) -> pd.DataFrame:
    """Scores [agents, families], means over the layers of each. :param frame: of an arm  :param score: column"""
    if frame.empty:
        return pd.DataFrame()
    # What a pivot table gives, in a tenth of its time; a report has thousands.
    values = frame[score].to_numpy(float)
    there = ~np.isnan(values)
    seeds, row = np.unique(frame["agent_seed"].to_numpy()[there], return_inverse=True)
    families, column = np.unique(frame["family"].to_numpy(str)[there], return_inverse=True)
    cell, size = row * len(families) + column, len(seeds) * len(families)
    with np.errstate(invalid="ignore"):
        means = np.bincount(cell, values[there], size) / np.bincount(cell, None, size)
    return pd.DataFrame(means.reshape(len(seeds), len(families)), seeds, families)


def over_seeds(frame: pd.DataFrame, score: str) -> Estimate:
    """
    The mean over seeds, with its interval; of several families, the interquartile mean of speeds.

    :param frame: of one arm and control
    :param score: column
    """
    matrix = by_seed(frame, score)
    if matrix.empty:
        return Estimate(float("nan"))
    return estimate(matrix, iqm if score == "speed" and matrix.shape[1] > 1 else mean)


def difference(frame: pd.DataFrame, other: pd.DataFrame) -> Estimate:
    """
    What speed one arm has more than another, seed by seed: of the same trained agent, in the families that both have.

    :param frame: of the one arm
    :param other: of the other, which may have no layer
    """
    one, two = by_seed(frame, "speed"), by_seed(other, "speed")
    shared = one.columns.intersection(two.columns)
    if shared.empty:
        return Estimate(float("nan"))
    two = two.reindex(one.index)
    return estimate(one[shared].to_numpy() - two[shared].to_numpy(dtype=np.float64), mean)


def ahead(frame: pd.DataFrame, other: pd.DataFrame) -> Estimate:
    """
    What speed one agent has more than another, of other seeds: how :func:`over_seeds` differs in the families of both.

    :param frame: of the one agent, one arm and control
    :param other: of the other agent
    """
    one, two = by_seed(frame, "speed"), by_seed(other, "speed")
    shared = one.columns.intersection(two.columns)
    middle = iqm if len(shared) > 1 else mean
    return joint(operator.sub, one, two, each=middle) if len(shared) else Estimate(np.nan)
