"""Scores of a model, defined once: `evaluate` prints them, the callback logs them, the report tabulates them.

F is the sum of forward rewards of an episode, N that of the same episode (equal seed) of the intact model on the
unperturbed robot, E the episodes of a scenario under one control. G is the raw adaptation gain of an episode (see
measures.py), S that of the sham: same seed, same onset, nothing perturbed.

    relative = F / mean of N over E     relative forward reward. Its mean over E is a ratio of means: a mean of ratios
                                        would be ruled by the few unperturbed episodes that fell early
    kept     = 1 - r b / mean of i      speed kept from an onset on: r is the regret of an episode, b its speed before
                                        the onset (measures.py) and i that of the intact model in the same episode,
                                        which is b but for what is off from the start. 1 minus what is lost over the
                                        perturbed steps, against the same steps unperturbed, in units of the speed
                                        before them, as a ratio of means. What falls would cost unperturbed is not lost:
                                        who stops at the onset, and would have fallen later, keeps more than 0
    net      = G - S                    net adaptation gain: freezing costs S where there is nothing to adapt to

A score of several scenarios is taken over their means: the interquartile mean (`iqm`) of ``relative`` and ``kept``, the
mean of all else. Episodes whose simulation broke count nowhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sb3_plastic.evaluation.measures import MOVING

Array = NDArray[Any]

NET = {"adaptation_gain": "net", "adaptation_gain_early": "net_early", "adaptation_gain_late": "net_late"}
"""Raw gains, and what they are called net of the sham."""

MODEL = ["label", "train_seed", "env_id", "suite"]
CELL = [*MODEL, "protocol", "scenario", "control"]
EPISODE = [*MODEL, "protocol", "scenario", "eval_seed", "episode"]


def with_scores(records: pd.DataFrame) -> pd.DataFrame:
    """
    The trusted episodes, with the columns ``relative``, ``kept`` and those of `NET`.

    :param records: of one model or several, with all their episodes of each suite: scores compare them within it
    """
    broken = records["unstable"] == 1
    trusted = records[~broken].reset_index(drop=True)
    return _with_net(_with_kept(_with_relative(trusted)), records[broken])


def _with_relative(records: pd.DataFrame) -> pd.DataFrame:
    unperturbed = records[(records["protocol"] == "static") & (records["control"] == "intact")]
    nominal, level = (
        unperturbed[unperturbed["split"] == split].set_index([*MODEL, "eval_seed"])["forward_reward"]
        for split in ("nominal", "reference")
    )
    keys = pd.MultiIndex.from_frame(records[[*MODEL, "eval_seed"]])
    # Rough ground is compared with level ground of the same kind.
    rough = (records["kind"] == "terrain") & (len(level) > 0)
    compared = pd.Series(nominal.reindex(keys).to_numpy()).where(~rough, level.reindex(keys).to_numpy())
    compared = compared.where(records["protocol"] != "horizon")  # its episodes are longer
    mean_nominal = compared.groupby([records[name] for name in CELL]).transform("mean")
    usable = compared.notna() & (mean_nominal / records["steps"] >= MOVING)
    return records.assign(relative=(records["forward_reward"] / mean_nominal).where(usable))


def _with_kept(records: pd.DataFrame) -> pd.DataFrame:
    of_intact = records[records["control"] == "intact"].set_index(EPISODE)["before"]
    before = pd.Series(of_intact.reindex(pd.MultiIndex.from_frame(records[EPISODE])).to_numpy())
    before = before.fillna(records["before"]).where(records["regret"].notna())
    mean_before = before.groupby([records[name] for name in CELL]).transform("mean")
    return records.assign(kept=1 - records["regret"] * records["before"] / mean_before)


def _with_net(records: pd.DataFrame, broken: pd.DataFrame) -> pd.DataFrame:
    # An episode has no gain, raw or net, if its simulation broke while frozen.
    frozen = broken.loc[broken["control"] == "frozen_at_onset", EPISODE]
    lost = pd.MultiIndex.from_frame(records[EPISODE]).isin(pd.MultiIndex.from_frame(frozen))
    gains = records[list(NET)].mask(pd.Series(lost))
    pair = pd.MultiIndex.from_frame(records[[*MODEL, "protocol", "eval_seed", "onset"]])
    sham = (records["split"] == "sham") & (records["control"] == "intact")
    cost = gains[sham].set_index(pair[sham]).reindex(pair)
    # The sham is not net of itself.
    net = (gains - cost.to_numpy()).mask(records["split"] == "sham").rename(columns=NET)
    return records.assign(**gains, **net)


def chosen(records: pd.DataFrame, **values: object) -> pd.DataFrame:
    """The rows with these values. :param records: any :param values: by column, at least one"""
    these = [records[name].to_numpy() == value for name, value in values.items()]
    return records[np.logical_and.reduce(these)]  # at once: taking rows costs more than comparing them


def matrix(records: pd.DataFrame, column: str) -> pd.DataFrame:
    """
    Scores [S, K]: rows are trained seeds, columns scenarios, entries means over episodes.

    :param records: of one label, one control and one protocol
    :param column: what to average; NaN is left out
    """
    return records.groupby(["train_seed", "scenario"])[column].mean().unstack()


def iqm(scores: Array) -> float:
    """
    Interquartile mean: the mean of the middle half. The lowest and the highest quarter (rounded down) are left out.

    :param scores: any shape, all entries alike; NaN is left out
    """
    x = np.sort(valid(scores))
    cut = len(x) // 4
    return float(x[cut : len(x) - cut].mean()) if len(x) else float("nan")


def mean(scores: Array) -> float:
    """Mean of all entries. :param scores: any shape; NaN is left out"""
    x = valid(scores)
    return float(x.mean()) if len(x) else float("nan")


def valid(scores: Array) -> Array:
    """The numbers among the scores, as one vector. :param scores: any shape"""
    x = np.asarray(scores, dtype=np.float64).ravel()
    return x[~np.isnan(x)]


SUMMARY = {
    "forward reward": "forward_reward",
    "relative": "relative",
    "kept": "kept",
    "drop": "drop",
    "plateau": "plateau",
    "raw gain": "adaptation_gain",
    "net gain": "net",
    "fallen": "fell",
}
"""Columns of `summary`, and of `with_scores`."""


def summary(records: pd.DataFrame) -> pd.DataFrame:
    """
    The scores of one model: a row per protocol, split and control.

    :param records: of one evaluation, all episodes
    :return: the columns ``scenarios``, ``episodes`` and those of `SUMMARY`
    """
    rows = []
    for key, part in with_scores(records).groupby(["protocol", "split", "control"], sort=False):
        scores = {
            name: (iqm if name in ("relative", "kept") else mean)(matrix(part, column).to_numpy())
            for name, column in SUMMARY.items()
        }
        rows.append((*key, part["scenario"].nunique(), len(part), *scores.values()))
    names = ["protocol", "split", "control", "scenarios", "episodes", *SUMMARY]
    return pd.DataFrame(rows, columns=names).set_index(names[:3])


def remarks(records: pd.DataFrame) -> list[str]:
    """
    What the scores do not tell by themselves, as sentences: scenarios that changed nothing, and what relative scores
    are made of where an environment tells no forward reward.

    :param records: of one evaluation, all episodes
    """
    intact = chosen(records[records["unstable"] != 1], control="intact")
    nominal = chosen(intact, protocol="static", split="nominal").set_index("eval_seed")
    perturbed = intact[intact["protocol"].isin(["static", "onset"]) & ~intact["split"].isin(UNPERTURBED)]
    idle, partly = [], []
    for name, part in perturbed.groupby("scenario", sort=False):
        never = (part["protocol"] == "onset") & (part["onset"] < 0)
        if never.all() or _is_idle(part, nominal["return"]):
            idle.append(str(name))
        elif (never & (part["survived"] == 1)).any():
            partly.append(str(name))
    told = []
    if idle:
        told.append(
            f"Nothing was changed by {_listed(idle)}: it has no effect here, or begins after the end of the episodes."
        )
    if partly:
        told.append(f"Some episodes of {_listed(partly)} ended before anything began: they count as the others do.")
    if (records["robot"] == "").all() and (records["forward_reward"] == records["return"]).all():
        told.append(
            "Rewards stand for forward rewards, since this environment tells none (info['reward_forward']): what it "
            "pays for staying alive counts as speed."
        )
    if len(nominal) and (nominal["forward_reward"] / nominal["steps"]).mean() < MOVING:
        told.append(f"There are no relative scores: unperturbed, forward rewards are below {MOVING} a step.")
    return told


UNPERTURBED = ("nominal", "sham", "reference")
"""Splits in which the robot is as it was."""


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _is_idle(episodes: pd.DataFrame, nominal: pd.Series) -> bool:
    """Whether no episode of a scenario differs from the unperturbed one of its seed."""
    unperturbed = nominal.reindex(episodes["eval_seed"]).to_numpy()
    return bool(np.isclose(episodes["return"].to_numpy(), unperturbed, rtol=1e-9, atol=0).all())


def counts(records: pd.DataFrame) -> str:
    """
    How many episodes there are, in words. Those of the sham and broken ones are counted separately.

    :param records: all episodes
    """
    sham, broken = int((records["split"] == "sham").sum()), int((records["unstable"] == 1).sum())
    text = f"{len(records)} episodes"
    if sham:
        text += f", {len(records) - sham} of scenarios and {sham} of the sham"
    return text + (f"; {broken} whose simulation broke count nowhere" if broken else "")
