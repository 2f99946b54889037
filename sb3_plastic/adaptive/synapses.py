"""
Synapses with a mean ``m`` and a variance each, which follow the error of a prediction: a Kalman filter per environment,
whose state noise is opened by surprise. With the innovation e of the prediction made one step before, and H its
derivative by the means:

    c   <- .95 c + .05 mean_i e_i^2 / (H P H' + R)_ii          expected noise: errors that stay unexplained
    nis  = mean_i e_i^2 / (H P H' + R max(1, c))_ii            normalised innovation squared
    r   <- .5 r + .5 nis                                       surprise
    P   <- bounded( P + q + inflation sigmoid(2 (r - threshold)) )           covariance inflation
    K    = P H' (H P H' + k R max(1, c))^-1,   m <- m + K e,   P <- P - K H P

k is 1, of sensors 3, unless the rule has been learned, see :mod:`~sb3_plastic.adaptive.hindsight`.

Environment axis B first; C components of the observation, n synapses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sb3_plastic.errors import UserError, check_names, check_number

Array = NDArray[Any]

NIS_BOUND = 50.0
"""One step's normalised innovation squared counts at most so much: a single collision must not open everything."""


class Synapses(NamedTuple):
    """
    The synapses of one hypothesis.

    :param mean: [B, n]
    :param covariance: [B, n, n]; of synapses with variances alone [B, n]
    :param surprise: trace of the normalised innovation squared, [B]; near 1 when all is as expected
    :param noise: expected noise as a multiple of R, [B]
    """

    mean: Array
    covariance: Array
    surprise: Array
    noise: Array


class Rates(NamedTuple):
    """
    How the synapses of one hypothesis learn.

    :param threshold: surprise at which the variances open; calibrated on nominal transitions
    :param inflation: what surprise adds to each variance per step, at most, [n]
    :param process_noise: what is added without surprise
    :param start_variance: at the start of an episode
    :param low: smallest mean
    :param high: largest mean
    :param max_variance: bound of each variance
    :param noise_scale: k, what the gain takes the forward model's variance for, as a multiple
    :param caution: the decoder takes the variances for so many times what they are
    """

    threshold: float
    inflation: Array
    low: float
    high: float
    process_noise: float = 1e-5
    start_variance: float = 1e-4
    max_variance: float = 1.0
    noise_scale: float = 1.0
    caution: float = 1.0


LEARNABLE = ("inflation", "process_noise", "max_variance", "noise_scale", "caution")
"""Of the rates, beside the threshold: what a learned rule may set."""


def with_rule(rates: Rates, rule: Mapping[str, float]) -> Rates:
    """
    Rates as they were learned.

    :param rates: as they are without
    :param rule: some of ``LEARNABLE`` by name, above 0; ``inflation`` is a factor, the others replace what there was
    :raises UserError: on an unknown name, or a number out of range
    """
    check_names("a learned rule", rule, LEARNABLE)
    for name, value in rule.items():
        check_number(f"{name} of a learned rule", value, above=0)
    changed: dict[str, Any] = {**rule, "inflation": rates.inflation * rule.get("inflation", 1.0)}
    return rates._replace(**changed)


def initial_synapses(mean: Array, n_envs: int, full: bool, rates: Rates) -> Synapses:
    """
    Synapses at the start of an episode.

    :param mean: [n]
    :param n_envs: environments, B
    :param full: a covariance for each pair, instead of variances alone
    :param rates: for the variance at the start
    """
    mean, n = np.asarray(mean, np.float64), len(mean)
    variance = np.full(n, float(rates.start_variance))
    covariance = np.diag(variance) if full else variance
    ones = np.ones(n_envs)
    return Synapses(np.tile(mean, (n_envs, 1)), np.tile(covariance, (n_envs,) + (1,) * covariance.ndim), ones, ones)


def variances(covariance: Array) -> Array:
    """The variance of each synapse, [B, n]."""
    return covariance if covariance.ndim == 2 else covariance.diagonal(axis1=1, axis2=2)


def projected(H: Array, covariance: Array) -> Array:
    """``H P``, [B, C, n], for a full covariance or variances alone."""
    return H * covariance[:, None, :] if covariance.ndim == 2 else H @ covariance


def nis(e: Array, variance: Array) -> Array:
    """
    Normalised innovation squared, mean over components, [B].

    :param e: innovation [B, C]
    :param variance: its variance [B, C]
    """
    return np.minimum(e * e / variance, NIS_BOUND).mean(1)


def inflate(covariance: Array, amount: Array, max_variance: float) -> Array:
    """
    Open the variances, within their bound. Correlations stay.

    :param covariance: [B, n, n] or [B, n]
    :param amount: added to each variance, [B, n]
    :param max_variance: bound of each variance
    """
    if covariance.ndim == 2:
        return np.minimum(covariance + amount, max_variance)
    covariance = covariance.copy()
    diagonal = np.einsum("bii->bi", covariance)
    diagonal += amount
    if (diagonal > max_variance).any():
        shrink = np.sqrt(np.minimum(max_variance / diagonal, 1))
        covariance *= shrink[:, :, None] * shrink[:, None, :]
    return covariance


def kalman_update(mean: Array, covariance: Array, e: Array, H: Array, R: Array) -> tuple[Array, Array]:
    """
    The Kalman filter's measurement update.

    :param mean: [B, n]
    :param covariance: [B, n, n], or variances alone [B, n]: then the covariances that arise are dropped
    :param e: innovation [B, C]
    :param H: derivative of the prediction by the means, [B, C, n]
    :param R: variance of each measured component, [B, C]
    :return: mean and covariance after
    """
    HP = projected(H, covariance)
    return updated(mean, covariance, e, HP, plus_diagonal(HP @ H.transpose(0, 2, 1), R))


def updated(mean: Array, covariance: Array, e: Array, HP: Array, S: Array) -> tuple[Array, Array]:
    """
    The same, of covariances that are known already.

    :param mean: [B, n]
    :param covariance: [B, n, n] or [B, n]
    :param e: innovation [B, C]
    :param HP: its covariance with the means, [B, C, n]
    :param S: its own covariance, [B, C, C]
    """
    gain = np.linalg.solve(S, HP)  # K', [B, C, n]
    mean = mean + (e[:, None, :] @ gain)[:, 0]
    if covariance.ndim == 2:
        return mean, np.maximum(covariance - (gain * HP).sum(1), 0)
    covariance = covariance - HP.transpose(0, 2, 1) @ gain
    return mean, (covariance + covariance.transpose(0, 2, 1)) / 2


def plus_diagonal(matrices: Array, diagonal: Array) -> Array:
    """Matrices [B, n, n] with something added to their diagonals, [B, n]."""
    matrices = matrices.copy()
    np.einsum("bii->bi", matrices)[...] += diagonal
    return matrices


def opened_by(surprise: Array, rates: Rates) -> Array:
    """How far surprise [B] opens the variances, 0 to 1."""
    return 1 / (1 + np.exp(np.clip(2 * (rates.threshold - surprise), -30, 30)))


def log_likelihood(e: Array, S: Array) -> Array:
    """
    Of an innovation, up to a constant: ``-(e' S^-1 e + log det S) / 2``, [B].

    :param e: innovation [B, C]
    :param S: its covariance, [B, C, C]
    """
    return -0.5 * ((e * np.linalg.solve(S, e[..., None])[..., 0]).sum(1) + np.linalg.slogdet(S)[1])


def learn(
    synapses: Synapses, e: Array, H: Array, R: Array, rates: Rates, common_noise: Array, jump: Array | None = None
) -> tuple[Synapses, Array]:
    """
    One step of the rule at the head of this module.

    :param synapses: before
    :param e: innovation [B, C]
    :param H: derivative of the prediction by the means, [B, C, n]
    :param R: the forward model's variance, [B, C]
    :param rates: how they learn
    :param common_noise: what hypotheses are compared under: the expected noise of the one that acts, at least 1, [B]
    :param jump: derivative of each component by a change of its own synapse within the step, [B, C], where n = C and
        the covariance is full; None: a change shows from the next step on
    :return: synapses after, and the log-likelihood of the innovation before the means were updated, [B]
    :raises UserError: on a jump of synapses that have variances alone
    """
    check_jump(synapses, jump)
    mean, covariance, surprise, noise = synapses
    of_synapses = (projected(H, covariance) * H).sum(2)
    noise = 0.95 * noise + 0.05 * nis(e, of_synapses + R)
    common_R, R = R * common_noise[:, None], R * np.maximum(noise, 1)[:, None]
    before, surprise = opened_by(surprise, rates), 0.5 * surprise + 0.5 * nis(e, of_synapses + R)
    opened = opened_by(surprise, rates)
    # Who jumps has changed within the step in which surprise rises: a change before it would have been seen before.
    rise = np.zeros_like(opened) if jump is None else np.maximum(opened - before, 0)
    amount = rates.process_noise + (opened - rise)[:, None] * rates.inflation
    covariance = inflate(covariance, amount, rates.max_variance)
    HP = projected(H, covariance)
    S = HP @ H.transpose(0, 2, 1)
    if jump is not None:
        q = rise[:, None] * rates.inflation
        HP, S = plus_diagonal(HP, jump * q), plus_diagonal(S, jump**2 * q)
        covariance = plus_diagonal(covariance, q)
    likelihood = log_likelihood(e, plus_diagonal(S, common_R))
    mean, covariance = updated(mean, covariance, e, HP, plus_diagonal(S, R * rates.noise_scale))
    return Synapses(np.clip(mean, rates.low, rates.high), covariance, surprise, noise), likelihood


def check_shapes(synapses: Synapses, e: Array, H: Array, R: Array) -> None:
    """
    Refuse what does not fit together, which a kernel would not see: it reads memory without asking whose it is.

    :param synapses: before
    :param e: as for :func:`learn`, [B, C]
    :param H: [B, C, n]
    :param R: [B, C]
    :raises UserError: naming the shapes
    """
    expected = (*e.shape, synapses.mean.shape[1])
    if H.shape != expected or R.shape != e.shape:
        raise UserError(
            f"With innovations e [B, C] = {e.shape} and n = {expected[-1]} synapses, H = -de/dm has the shape "
            f"{expected} and R that of e; got {H.shape} and {R.shape}."
        )


def check_jump(synapses: Synapses, jump: Array | None) -> None:
    """
    Refuse a jump of synapses that have variances alone, which it correlates, or of another number.

    :param synapses: before
    :param jump: as for :func:`learn`
    :raises UserError: if they have variances alone, or each component has not one synapse of its own
    """
    if jump is not None and jump.shape != synapses.mean.shape:
        raise UserError(f"A jump has the shape of the means, {synapses.mean.shape}, got {jump.shape}.")
    if jump is not None and synapses.covariance.ndim == 2:
        raise UserError("A jump within the step needs a full covariance: set full = True in the hypothesis.")
