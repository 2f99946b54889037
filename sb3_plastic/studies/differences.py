"""Seeds beside each other: whether they were judged alike, and by how much the returns of two agents differ."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import pandas as pd

from sb3_plastic.report.stats import joint_interval


def warn_of_gaps(frame: pd.DataFrame, agent: list[str], seed: list[str]) -> None:
    """
    Warn of an agent whose seeds were judged in different scenarios: a score of several weighs those seeds differently.

    :param frame: a row for each condition of a seed: ``protocol, scenario, control``, and the columns below
    :param agent: columns that name one
    :param seed: columns that name one of its seeds
    """
    intact = frame[frame["control"] == "intact"]
    judged = intact.drop_duplicates([*agent, *seed, "protocol", "scenario"])
    sizes = judged.groupby([*agent, *seed], sort=False).size()
    spread = sizes.groupby(level=agent, sort=False).agg(["min", "max"]).reset_index()
    for *name, least, most in spread.itertuples(index=False):
        if least < most:
            warnings.warn(
                f"{', '.join(map(str, name))}: some seeds were judged in {least} scenarios, others in {most}, so that "
                "scores of several scenarios weigh them differently. Judge all seeds alike.",
                stacklevel=2,
            )


def relative_difference(ours: np.ndarray, theirs: np.ndarray) -> str:
    """
    Relative difference of the means, with its 95 % bootstrap interval over the seeds of both.

    :param ours: returns by seed, [S]
    :param theirs: likewise, of other seeds
    :return: empty if some are NaN, or some of theirs are not above 0, where a share has no meaning
    """
    if not len(ours) or not len(theirs) or np.isnan(ours).any() or not (theirs > 0).all():
        return ""
    return _with_interval(_relative(ours, theirs), joint_interval([ours[:, None], theirs[:, None]], _relative))


def beside(ours: Mapping[int, float], theirs: Mapping[int, float]) -> str:
    """
    The same of pairs: each of ours has its own of theirs, with the same seed. Two cells, the pairs in the second.

    :param ours: returns by seed
    :param theirs: likewise
    :return: empty without any pair, or if some are NaN, or some of theirs not above 0
    """
    seeds = sorted(ours.keys() & theirs.keys())
    pairs = np.array([[ours[seed], theirs[seed]] for seed in seeds])
    if not seeds or np.isnan(pairs).any() or not (pairs[:, 1] > 0).all():
        return ""
    interval = joint_interval([pairs], lambda drawn: _relative(*drawn.T))
    by_seed = ", ".join(f"{pair[0]:.0f} and {pair[1]:.0f} ({seed})" for pair, seed in zip(pairs, seeds, strict=True))
    return f"{_with_interval(_relative(*pairs.T), interval)} | {by_seed}"


def _relative(x: np.ndarray, y: np.ndarray) -> float:
    return float(x.mean() / y.mean() - 1)


def _with_interval(value: float, interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{value:+.0%}" + ("" if np.isnan(low) else f" [{low:+.0%}, {high:+.0%}]")
