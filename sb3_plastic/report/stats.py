"""Statistics of a few trained seeds. Pure numpy.

The unit is the trained model: scores are matrices [S, K], S trained seeds by K scenarios, each entry the mean over the
episodes of a model in a scenario. Episodes are never pooled as if they were seeds.

Aggregates and intervals follow Agarwal et al. (2021), "Deep reinforcement learning at the edge of the statistical
precipice". Of few seeds an interval is too narrow (`COVERAGE`); of one there is none (NaN).

An interval is about other seeds, not about other episodes: all seeds of a method meet the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sb3_plastic.errors import UserError
from sb3_plastic.evaluation.scores import iqm as iqm
from sb3_plastic.evaluation.scores import mean as mean
from sb3_plastic.evaluation.scores import valid

Array = NDArray[Any]
Statistic = Callable[[Array], float]

RESAMPLES, SEED = 2000, 0
"""How often seeds are drawn for an interval, and of that drawing: the same results have the same intervals."""

COVERAGE = {3: 75, 5: 83, 10: 90}
"""Seeds, and in how many per cent of the samples of so many an interval, of 95 % by name, holds the true mean. Measured
on normal draws; on skewed ones it is less."""

_TAILS = 2.5, 97.5  # percentiles between which 95 % of the resamples are


def cvar(scores: Array) -> float:
    """
    Conditional value at risk: the mean of the worst tenth, rounded up, so of at least one.

    :param scores: any shape, higher is better; NaN is left out
    """
    x = np.sort(valid(scores))
    return float(x[: math.ceil(len(x) / 10)].mean()) if len(x) else float("nan")


def worst(scores: Array) -> float:
    """The smallest. :param scores: any shape; NaN is left out"""
    x = valid(scores)
    return float(x.min()) if len(x) else float("nan")


def bootstrap_interval(scores: Array | Sequence[Array], statistic: Statistic = mean) -> tuple[float, float]:
    """
    Percentile interval of a statistic, by a stratified bootstrap over trained seeds.

    Seeds are drawn with replacement within each stratum, each with all its scenarios, since these are judged by the
    same network and rise and fall together. (rliable draws anew for each task; that is a stratum [S, 1] per task here.)

    :param scores: [S, K], or a list of such matrices, one per stratum, for instance per robot
    :param statistic: of a vector of all entries
    :return: low and high; NaN if a stratum has fewer than two seeds
    """
    strata = _strata(scores)
    if any(len(x) < 2 for x in strata):
        return float("nan"), float("nan")
    rows, times = _resamples(tuple(len(x) for x in strata))
    drawn = [
        x[distinct][inverse].reshape(len(inverse), -1) for x, (distinct, inverse) in zip(strata, rows, strict=True)
    ]
    return _percentiles(np.repeat(_of_rows(np.concatenate(drawn, axis=1), statistic), times))


def joint_interval(
    scores: Sequence[Array], statistic: Callable[..., float], each: Statistic | None = None
) -> tuple[float, float]:
    """
    Bootstrap interval of a statistic of several methods, for instance of a difference, over the trained seeds of each.

    :param scores: [S, K] of each method; their seeds are drawn independently of each other
    :param statistic: of as many matrices; it must not depend on the order of the seeds
    :param each: of one matrix: the statistic takes what it gives for each. So it is computed once for the resamples of
        a method, not for all pairs of them
    :return: low and high; NaN with fewer than two seeds of any, or where the statistic has no value
    """
    if any(len(x) < 2 for x in scores):
        return float("nan"), float("nan")
    rows, times = _resamples(tuple(len(x) for x in scores))
    drawn = [_drawn(x, row, each) for x, row in zip(scores, rows, strict=True)]
    values = np.array([statistic(*parts) for parts in zip(*drawn, strict=True)])
    return _percentiles(np.repeat(values, times))


def _drawn(x: Array, rows: tuple[Array, Array], each: Statistic | None) -> Iterable[Any]:
    """What is drawn of a method in each resample, or a statistic of it. :param x: [S, K] :param rows: of it"""
    distinct, inverse = rows
    if each is None:
        return (x[row] for row in distinct[inverse])
    return _of_rows(x[distinct].reshape(len(distinct), -1), each)[inverse].tolist()


@lru_cache(maxsize=16)
def _resamples(n_seeds: tuple[int, ...]) -> tuple[list[tuple[Array, Array]], Array]:
    """
    N resamples: of each method the different ones of its seeds, [D, S], and which of them each is, [N]; and how often
    each is drawn, [N]. Few seeds make few different ones: 10 of three seeds. Each is computed once, and drawn once for
    all cells of a table.
    """
    rng = np.random.default_rng(SEED)
    drawn = [np.sort(rng.integers(k, size=(RESAMPLES, k)), axis=1) for k in n_seeds]
    distinct, times = np.unique(np.concatenate(drawn, axis=1), axis=0, return_counts=True)
    parts = np.split(distinct, np.cumsum(n_seeds)[:-1], axis=1)
    each = (np.unique(part, axis=0, return_inverse=True) for part in parts)
    return [(rows, inverse.ravel()) for rows, inverse in each], times


def _of_rows(x: Array, statistic: Statistic) -> Array:
    """A statistic of each row; of means, which most are, of all at once. :param x: [N, K]"""
    if statistic is not mean:
        return np.array([statistic(row) for row in x])
    there = ~np.isnan(x)
    with np.errstate(invalid="ignore"):
        return np.where(there, x, 0).sum(1) / there.sum(1)


def probability_of_improvement(x: Array, y: Array) -> float:
    """
    P(X > Y) for a seed of either, averaged over scenarios; ties count one half (Mann-Whitney).

    :param x: scores [S, K] of one method
    :param y: scores [R, K] of another, same scenarios
    :return: in [0, 1]; .5 is no difference
    """
    x, y = np.atleast_2d(x), np.atleast_2d(y)
    if x.shape[1] != y.shape[1]:
        raise UserError(f"Scores of the same scenarios are compared, got {x.shape[1]} and {y.shape[1]} scenarios.")
    a, b = x[:, None, :], y[None, :, :]
    wins = np.where(np.isnan(a) | np.isnan(b), np.nan, (a > b) + 0.5 * (a == b))
    return mean(np.array([mean(wins[:, :, k]) for k in range(x.shape[1])]))


def bootstrap_band(curves: Array) -> tuple[Array, Array]:
    """
    Pointwise bootstrap interval of the mean of curves, over trained seeds.

    :param curves: [S, N], one per seed; NaN is left out, and a seed without any value is none
    :return: low and high [N]; NaN with fewer than two seeds, and where a resample may be without any value
    """
    curves = np.asarray(curves, dtype=np.float64)
    curves = curves[~np.isnan(curves).all(1)]
    if len(curves) < 2:
        return np.full(curves.shape[1], np.nan), np.full(curves.shape[1], np.nan)
    drawn = np.random.default_rng(SEED).integers(len(curves), size=(RESAMPLES, len(curves)))
    weights = (drawn[:, :, None] == np.arange(len(curves))).sum(1)  # how often each seed was drawn, [R, S]
    there = ~np.isnan(curves)
    with np.errstate(invalid="ignore"):
        means = weights @ np.nan_to_num(curves) / (weights @ there)
    low, high = np.percentile(means, _TAILS, axis=0)
    return low, high


def performance_profile(scores: Array, thresholds: Array) -> Array:
    """
    Fraction of scores above each threshold.

    :param scores: any shape; NaN is left out
    :param thresholds: [N]
    :return: [N]
    """
    x = valid(scores)
    return (x[None, :] > np.asarray(thresholds)[:, None]).mean(1) if len(x) else np.full(len(thresholds), np.nan)


def kaplan_meier(time: Array, observed: Array) -> tuple[Array, Array]:
    """
    Fraction to which an event has not happened yet, where some are watched for too short a time to tell
    (right-censored; Kaplan & Meier, 1958). For recovery curves: one minus it.

    :param time: [E], of the event, or until when there was none
    :param observed: [E], whether the event happened
    :return: times of events in ascending order, and the fraction from each of them on; both begin with (0, 1) unless an
        event is at 0
    """
    time, observed = np.asarray(time, dtype=np.float64), np.asarray(observed, dtype=bool)
    times = np.unique(time[observed])
    at_risk = np.array([(time >= t).sum() for t in times])
    events = np.array([(observed & (time == t)).sum() for t in times])
    fraction = np.cumprod(1 - events / np.maximum(at_risk, 1))
    if len(times) and times[0] == 0:
        return times, fraction
    return np.concatenate(([0.0], times)), np.concatenate(([1.0], fraction))


def _strata(scores: Array | Sequence[Array]) -> list[Array]:
    one = isinstance(scores, np.ndarray)
    strata = [np.asarray(s, dtype=np.float64) for s in ([scores] if one else scores)]
    for s in strata:
        if s.ndim != 2:
            raise UserError(
                f"Scores are a matrix [seeds, scenarios], got shape {s.shape}: "
                "average over the episodes of a seed first."
            )
    return strata


def _percentiles(values: Array) -> tuple[float, float]:
    low, high = np.percentile(x, _TAILS) if len(x := valid(values)) else (np.nan, np.nan)
    return float(low), float(high)
