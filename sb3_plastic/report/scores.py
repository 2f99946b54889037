"""Tables of scores with intervals. The unit is the trained seed, see `stats`; scores: `evaluation.scores`."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sb3_plastic.evaluation.measures import gap_closed
from sb3_plastic.evaluation.scores import matrix
from sb3_plastic.report import stats
from sb3_plastic.report.document import formatted
from sb3_plastic.report.results import SPLITS, Results

Array = NDArray[Any]

RAW = "adaptation_gain"  # net gains: see `evaluation.scores.NET`


@dataclass(frozen=True)
class Estimate:
    """
    A number with its 95 % interval over trained seeds.

    :param value: of all seeds
    :param low: NaN with fewer than two seeds: then nothing is known of others
    :param high: likewise
    """

    value: float
    low: float = float("nan")
    high: float = float("nan")

    def __str__(self) -> str:
        interval = "" if np.isnan(self.low) else f" [{formatted(self.low)}, {formatted(self.high)}]"
        return formatted(self.value) + interval

    @property
    def above_zero(self) -> bool:
        """Whether the whole interval is; without one: no."""
        return bool(self.low > 0)

    @property
    def below_zero(self) -> bool:
        """Whether the whole interval is; without one: no."""
        return bool(self.high < 0)


def estimate(scores: Array | pd.DataFrame, statistic: stats.Statistic = stats.mean) -> Estimate:
    """
    A statistic of scores, and its interval.

    :param scores: [S, K]
    :param statistic: of all entries
    """
    x = np.asarray(scores, dtype=np.float64)
    x = x[~np.isnan(x).all(1)]  # a seed without any value is none
    if not len(x):
        return Estimate(float("nan"))
    return Estimate(statistic(x), *stats.bootstrap_interval(x, statistic))


def met_onset(onset: pd.DataFrame) -> pd.DataFrame:
    """Those episodes of the protocol ``onset`` in which the robot had not fallen before. :param onset: of it"""
    return onset[(onset["onset"] >= 0) & (onset["length"] > onset["onset"])]


def splits_of(records: pd.DataFrame) -> list[str]:
    """The splits that are there, from easy to hard. :param records: any"""
    there = set(records["split"])
    return [split for split in SPLITS if split in there] + sorted(there - set(SPLITS))


def perturbed(results: Results, group: str) -> pd.DataFrame:
    """Intact models, perturbed from the start or mid-episode. :param results: of the comparison :param group: robot"""
    intact = results.of(group, control="intact")
    return intact[intact["protocol"].isin(["static", "onset"]) & ~intact["split"].isin(["nominal", "reference"])]


def headline(results: Results, group: str, protocol: str) -> pd.DataFrame:
    """
    One row per split and label: what the intact model does.

    :param results: of the comparison
    :param group: robot or environment
    :param protocol: ``"static"`` or ``"onset"``
    """
    intact = results.of(group, protocol=protocol, control="intact")
    intact = intact[intact["split"] != "reference"]
    rows = []
    for split in splits_of(intact):
        for label in results.labels_of(group):
            chosen = intact[(intact["split"] == split) & (intact["label"] == label)]
            if chosen.empty:
                continue
            relative = matrix(chosen, "relative")
            kept = matrix(chosen, "kept")
            rows.append(
                {
                    "split": split,
                    "agent": label,
                    "seeds": chosen["train_seed"].nunique(),
                    "scenarios": chosen["scenario"].nunique(),
                    "relative forward, IQM": str(estimate(relative, stats.iqm)),
                    **({"speed kept, IQM": str(estimate(kept, stats.iqm))} if protocol == "onset" else {}),
                    "worst": stats.worst(relative.to_numpy()),
                    "CVaR10": stats.cvar(relative.to_numpy()),
                    "forward reward": str(estimate(matrix(chosen, "forward_reward"))),
                    "distance (m)": stats.mean(matrix(chosen, "distance").to_numpy()),
                    "survived": stats.mean(matrix(chosen, "survived").to_numpy()),
                    "fallen": stats.mean(matrix(chosen, "fell").to_numpy()),
                    "return": stats.mean(matrix(chosen, "return").to_numpy()),
                }
            )
    return pd.DataFrame(rows)


def against(results: Results, group: str, protocol: str) -> pd.DataFrame:
    """
    One row per split and label: how it compares with the baseline, and which part of the head-room it uses.

    Head-room is what the oracle's forward reward has above the baseline's. Where its interval holds 0 there is nothing
    to gain by knowing the context, and no gap to close is stated.

    :param results: with a baseline
    :param group: robot or environment
    :param protocol: ``"static"`` or ``"onset"``
    """
    intact = results.of(group, protocol=protocol, control="intact")
    intact = intact[intact["split"] != "reference"]
    rows = []
    for split in splits_of(intact):
        by_label = {
            str(label): matrix(part, "forward_reward")
            for label, part in intact[intact["split"] == split].groupby("label", sort=False)
        }
        base, oracle = by_label.get(results.baseline or ""), by_label.get(results.oracle or "")
        if base is None:
            continue
        room = Estimate(float("nan")) if oracle is None else joint(operator.sub, oracle, base)
        for label in results.labels_of(group):
            if label == results.baseline or label not in by_label:
                continue
            row: dict[str, Any] = {
                "split": split,
                "agent": label,
                f"P(better than {results.baseline})": str(
                    joint(stats.probability_of_improvement, by_label[label], base, each=None)
                ),
                f"forward reward minus {results.baseline}": str(joint(operator.sub, by_label[label], base)),
            }
            if oracle is not None:
                is_used = room.above_zero and label != results.oracle
                row["gap closed"] = str(joint(gap_closed, by_label[label], base, oracle)) if is_used else ""
            rows.append(row)
    return pd.DataFrame(rows)


def controls(results: Results, group: str) -> pd.DataFrame:
    """
    One row per plastic label and split, and one of the sham: where it ends up under each control, and its gains.

    :param results: of the comparison
    :param group: robot or environment
    """
    onset = pd.concat([results.of(group, protocol="onset"), results.sham_of(group)])
    rows = []
    for label in results.plastic_labels(group):
        for split in splits_of(onset):
            chosen = onset[(onset["label"] == label) & (onset["split"] == split)]
            if chosen.empty:
                continue
            intact = chosen[chosen["control"] == "intact"]
            plateaus = {
                f"plateau, {str(control).removesuffix('_at_onset').replace('_', ' ')}": stats.mean(
                    matrix(part, "plateau").to_numpy()
                )
                for control, part in chosen.groupby("control", sort=False)
            }
            rows.append(
                {
                    "agent": label,
                    "split": split,
                    "seeds": intact["train_seed"].nunique(),
                    **plateaus,
                    **{name: str(value) for name, value in gain_estimates(intact).items()},
                }
            )
    return pd.DataFrame(rows)


def gain_estimates(intact: pd.DataFrame) -> dict[str, Estimate]:
    """
    The adaptation gain net of the sham, by how much that grows after the onset, and the raw gain.

    :param intact: records of one label, intact, protocol ``"onset"``
    :return: by name; no value where there is no sham to compare with
    """
    early, late = matrix(intact, "net_early"), matrix(intact, "net_late")
    return {
        "net gain": estimate(matrix(intact, "net")),
        "net, early": estimate(early),
        "net, late": estimate(late),
        "net, late - early": estimate(late - early),
        "raw gain": estimate(matrix(intact, RAW)),
    }


def cells(results: Results, group: str) -> pd.DataFrame:
    """
    One row per cell and label, the sham's too, means over trained seeds: the appendix.

    :param results: of the comparison
    :param group: robot or environment
    """
    means = {
        "relative": "relative",
        "kept": "kept",
        "forward": "forward_reward",
        "distance (m)": "distance",
        "fallen": "fell",
        "drop": "drop",
        "plateau": "plateau",
        "recovery ratio": "recovery_ratio",
        "net gain": "net",
        "raw gain": RAW,
        "energy": "energy",
    }
    keys = ["protocol", "split", "scenario", "label", "control"]
    records = pd.concat([results.of(group), results.sham_of(group)])
    by_seed = records.groupby([*keys, "train_seed"], sort=False)
    table = by_seed[list(means.values())].mean()
    table = table.groupby(level=keys, sort=False).mean().rename(columns={old: new for new, old in means.items()})
    by_cell = records.groupby(keys, sort=False)
    table.insert(0, "seeds", by_cell["train_seed"].nunique())
    table.insert(1, "episodes", by_cell.size())
    return table.reset_index()


def other_protocols(results: Results, group: str) -> pd.DataFrame:
    """
    One row per protocol beyond ``static`` and ``onset``, label and control, with the measure that belongs to it.

    :param results: of the comparison
    :param group: robot or environment
    """
    measures = {
        "removal": ("after_effect", "after-effect"),
        "switch": ("switch_gain", "gain between switches"),
        "lifetime": ("forward_reward", "forward reward, last third of the life minus first"),
        "horizon": ("late_ratio", "forward reward beyond the training length / within it"),
    }
    rows = []
    for protocol, (column, meaning) in measures.items():
        for (label, control), part in results.of(group, protocol=protocol).groupby(["label", "control"], sort=False):
            scores = _growth(part) if protocol == "lifetime" else matrix(part, column)
            rows.append(
                {
                    "protocol": protocol,
                    "measure": meaning,
                    "agent": label,
                    "control": control,
                    "seeds": part["train_seed"].nunique(),
                    "value": str(estimate(scores)),
                }
            )
    return pd.DataFrame(rows)


def joint(combine: Callable[..., float], *scores: pd.DataFrame, each: stats.Statistic | None = stats.mean) -> Estimate:
    """
    A statistic of several labels, on the scenarios that all of them have.

    :param combine: of what ``each`` gives for them, for instance ``operator.sub``
    :param scores: [S, K] each, with scenarios as columns
    :param each: of one of them; None: ``combine`` takes the scores
    """
    names = [name for name in scores[0].columns if all(name in other.columns for other in scores[1:])]
    common = [part[names].to_numpy(dtype=np.float64) for part in scores]
    parts = common if each is None else map(each, common)
    return Estimate(combine(*parts), *stats.joint_interval(common, combine, each))


def _growth(life: pd.DataFrame) -> pd.DataFrame:
    """By how much the last third of the episodes of a life, rounded up, exceeds the first, [S, K]."""
    n = life["episode"].max() + 1
    third = np.ceil(n / 3)
    first, last = life[life["episode"] < third], life[life["episode"] >= n - third]
    return matrix(last, "forward_reward") - matrix(first, "forward_reward")
