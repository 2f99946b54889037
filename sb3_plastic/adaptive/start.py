"""
The first reading of an episode. The nominal robot starts in places that are known, so sensors that have been off since
before the episode show it at once; later they repeat their error, and no change of a reading tells of it.

    e_i = (o_i - m_i) / s_i                             against the mean of nominal starts, of variance R_i
    for v in q_i, 10 q_i, 100 q_i:                      variances before the reading; q: what surprise opens
        S = R_i + J_i^2 v                               J: the hypothesis's jump
        d = J_i v / S e_i                               within the bounds of the synapse
        g = 1/2 ( e_i^2 / R_i - (e_i - J_i d)^2 / R_i - d^2 / v - log S / R_i )
    d_i = sum_v exp(g_v) d_v / sum_v exp(g_v)
    gain = sum_i log mean_v exp(g_v)

Each synapse learns as from a jump (Kalman, 1960). Its reading says whether it is off by a little or by far: the three
variances are weighed by their likelihoods (Magill, 1965). The gain is evidence (Bayes' factor, but for the bounds); log
S / R is the price of what could explain any start. A sensor that starts anywhere tells nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sb3_plastic.adaptive.hypotheses import Hypothesis, Transition
from sb3_plastic.adaptive.synapses import Rates, Synapses, kalman_update, variances
from sb3_plastic.errors import UserError

Array = NDArray[Any]

ENOUGH = 20
"""Nominal starts, of which mean and variance are known well enough."""

LEAST = 0.01
"""Standard deviation of a start, in those of the sensor: where none was seen to differ another may."""

SCALES = 1.0, 10.0, 100.0
"""Variances of synapses before the first reading, in those that surprise opens."""


class Starts(NamedTuple):
    """
    First readings of nominal episodes, of the components that are predicted.

    :param mean: [C]
    :param std: [C]
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


def starts_of(o: Array, std: Array) -> Starts:
    """
    :param o: first readings of the components that are predicted, [n, C]
    :param std: standard deviation of each on the walking robot, [C]
    :return: empty if there are too few
    """
    if len(o) < ENOUGH:
        return Starts()
    n = len(o)
    wider = np.sqrt((1 + 1 / n) * (n - 1) / (n - 3))  # the next start, of a mean and a variance that are estimates
    spread = np.maximum(wider * o.std(0, ddof=1), LEAST * std)
    return Starts(tuple(o.mean(0).tolist()), tuple(spread.tolist()))


def check_starts(mean: Sequence[float], std: Sequence[float], n: int) -> None:
    """
    Refuse starts that are not those of a nominal robot's predicted components.

    :param mean: of nominal starts; empty: unknown
    :param std: likewise
    :param n: components that are predicted
    :raises UserError: on another number of them, or a number that is none
    """
    if {len(mean), len(std)} - {n} and (len(mean) or len(std)):
        raise UserError(
            f"start_mean and start_std have a number for each of {n} predicted components, or none; got "
            f"{len(mean)} and {len(std)}."
        )
    if not np.isfinite([*mean, *std]).all() or not np.all(np.asarray(std) > 0):
        raise UserError("start_mean and start_std must be finite, and start_std above 0.")


def explained(e: Array, R: Array, J: Array, q: Array, low: Array, high: Array) -> tuple[Array, Array, Array]:
    """
    What a hypothesis makes of the first readings.

    :param e: what they are off by, [B, C]
    :param R: variance of nominal starts, [C]
    :param J: derivative of the reading by the synapse of each component, [B, C]
    :param q: variance of the synapses, [C]
    :param low: smallest change of each synapse's mean, [C]
    :param high: largest
    :return: change of the synapses' means and their variances after it, at most q, [B, C]; the evidence for it, [B]
    """
    wide = np.array(SCALES)[:, None, None] * q  # [K, 1, C]
    S = R + J**2 * wide
    d = (J * wide / S * e).clip(low, high)
    gain = 0.5 * ((e**2 - (e - J * d) ** 2) / R - d**2 / wide - np.log(S / R))
    total = np.logaddexp.reduce(gain, axis=0)
    share = np.exp(gain - total)
    change = (share * d).sum(0)
    variance = (share * (wide * R / S + d**2)).sum(0) - change**2
    return change, np.minimum(variance, q), (total - np.log(len(SCALES))).sum(1)


def learn_start(
    hypothesis: Hypothesis, kept: Synapses, unexplained: Array, t: Transition, R: Array, rates: Rates
) -> tuple[Synapses, Array, Synapses, Array] | None:
    """
    What a hypothesis learns from the first reading, if it jumps, each component by a synapse of its own.

    :param hypothesis: which
    :param kept: its synapses: those of a nominal robot, or in a lifetime of the episode before
    :param unexplained: what readings are off by with them, [B, C]
    :param t: a step from the mean of nominal starts to the reading
    :param R: variance of nominal starts, [C]
    :param rates: how it learns
    :return: synapses that begin afresh and the evidence for them, [B]; those kept, after the reading, and that for them
    """
    fresh = hypothesis.initial(len(t.y), rates)
    jump, of_kept = (hypothesis.jump(s.mean, t._replace(y=y), y) for s, y in ((fresh, t.y), (kept, unexplained)))
    if jump is None or of_kept is None or not hypothesis.full or not jump.shape == fresh.mean.shape == t.y.shape:
        return None
    J, J_kept = (np.where(True if t.seen is None else t.seen, x, 0) for x in (jump, of_kept))
    d, variance, gain = explained(t.y, R, J, rates.inflation, rates.low - fresh.mean, rates.high - fresh.mean)
    fresh = fresh._replace(mean=fresh.mean + d, covariance=variance[:, :, None] * np.eye(variance.shape[1]))
    S = R + J_kept**2 * variances(kept.covariance)
    gain_of_kept = likelihood(unexplained, S) - likelihood(t.y, R)
    H, noise = J_kept[:, :, None] * np.eye(len(R)), np.tile(R, (len(t.y), 1))
    mean, covariance = kalman_update(kept.mean, kept.covariance, unexplained, H, noise)
    mean = mean.clip(rates.low, rates.high)
    return fresh, gain, kept._replace(mean=mean, covariance=covariance), gain_of_kept


def likelihood(e: Array, variance: Array) -> Array:
    """Log-likelihood of independent errors up to a constant, [B]. :param e: [B, C] :param variance: [C] or [B, C]"""
    return -0.5 * (e**2 / variance + np.log(variance)).sum(1)
