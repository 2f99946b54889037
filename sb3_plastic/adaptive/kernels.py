"""
The synapses' rule, compiled: :func:`learn` has the signature and the meaning of ``synapses.learn``, which defines it.

Row by row, with the Cholesky factor of the innovation's covariance: numpy's batched products and solves are made for
larger matrices, and take many times as long.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba.core.caching import FunctionCache
from numpy.typing import NDArray

from sb3_plastic.adaptive.synapses import NIS_BOUND, Rates, Synapses, check_jump, check_shapes
from sb3_plastic.snn.scan.compile import KernelFiles, digest_of

Array = NDArray[Any]


DIGEST = digest_of(Path(__file__).parent) + digest_of(Path(__file__).parent / "hypotheses")
"""Of all files whose functions and constants are compiled into a kernel: it is made anew if any of them changes."""


def compiled(function: Callable[..., Any]) -> Any:
    """Compile; sums may be vectorised, NaN and inf keep their meaning. Kept on disk where a folder can be written."""
    options: dict[str, Any] = {"fastmath": {"contract", "reassoc", "nsz", "arcp"}, "error_model": "numpy"}
    kernel = numba.njit(**options)(function)
    with suppress(RuntimeError):  # neither this file's folder, nor the user's can be written
        kernel._cache = cache = FunctionCache(function)
        cache._cache_file = KernelFiles(cache._cache_path, cache._impl.filename_base, DIGEST)
    return kernel


def learn(
    synapses: Synapses, e: Array, H: Array, R: Array, rates: Rates, common_noise: Array, jump: Array | None = None
) -> tuple[Synapses, Array]:
    """As :func:`sb3_plastic.adaptive.synapses.learn`; arguments and result are the same."""
    check_shapes(synapses, e, H, R)
    if not H.shape[2]:
        said = np.empty((4, 1, len(e)))
        said[:2, 0] = synapses.surprise, synapses.noise
        judge(said, np.zeros(1, np.int64), e[:, None], R, common_noise)
        return synapses._replace(surprise=said[0, 0], noise=said[1, 0]), said[2, 0]
    after = Synapses(*(x.astype(np.float64) for x in synapses))  # copies, changed below
    e, H, R = (np.ascontiguousarray(x, dtype=np.float64) for x in (e, H, R))
    likelihood, inflation = np.empty(len(e)), np.empty(after.mean.shape[1])
    inflation[:] = rates.inflation  # or it is refused: the kernel checks no bounds
    numbers = rates.threshold, rates.process_noise, rates.max_variance, rates.noise_scale
    check_jump(synapses, jump)
    if after.covariance.ndim == 2:
        _learn_alone(*after, likelihood, common_noise, e, H, R, inflation, *numbers)
    else:
        jump = np.zeros((len(e), 0)) if jump is None else np.ascontiguousarray(jump, dtype=np.float64)
        _learn(*after, likelihood, common_noise, e, H, jump, R, inflation, *numbers)
    after.mean.clip(rates.low, rates.high, out=after.mean)
    return after, likelihood


def judge(said: Array, of: Array, e: Array, R: Array, common_noise: Array) -> None:
    """
    The same of hypotheses without synapses: nothing is to be learned.

    :param said: surprise, expected noise, log-likelihood, and ``-1/2 sum e^2 / R`` of all K hypotheses, [4, K, B]. The
        first two are before the step; all are changed of those that are judged
    :param of: which are judged, indices [K']
    :param e: their innovations [B, K', C]
    :param R: variance of each component, [B, C]
    :param common_noise: as for :func:`learn`, [B]
    """
    e, R = (np.ascontiguousarray(x, dtype=np.float64) for x in (e, R))
    _judge(said, of, e, R, common_noise)


@compiled
def _judge(said: Array, of: Array, e: Array, R: Array, common_noise: Array) -> None:
    n_envs, n, C = e.shape
    inverse, squares = np.empty(C), np.empty(C)
    for b in range(n_envs):
        logs, product, raised = 0.0, 1.0, common_noise[b]
        for i in range(C):
            inverse[i] = 1 / R[b, i]
            product *= R[b, i]
            if i % 4 == 3:  # a logarithm costs as much as all else
                logs += np.log(product)
                product = 1.0
        logs += np.log(product) + C * np.log(raised)
        for j in range(n):
            k, total, bounded = of[j], 0.0, 0.0
            for i in range(C):
                squares[i] = e[b, j, i] * e[b, j, i] * inverse[i]
                total += squares[i]
                bounded += min(squares[i], NIS_BOUND)
            noise = 0.95 * said[1, k, b] + 0.05 * bounded / C
            if noise > 1.0:
                bounded = 0.0
                for i in range(C):
                    bounded += min(squares[i] / noise, NIS_BOUND)
            said[0, k, b] = 0.5 * said[0, k, b] + 0.5 * bounded / C
            said[1, k, b] = noise
            said[2, k, b] = -0.5 * (total / raised + logs)
            said[3, k, b] = -0.5 * total


@compiled
def _learn(
    mean: Array,
    P: Array,
    surprise: Array,
    noise: Array,
    likelihood: Array,
    common_noise: Array,
    e: Array,
    H: Array,
    jump: Array,
    R: Array,
    inflation: Array,
    threshold: float,
    process_noise: float,
    max_variance: float,
    noise_scale: float,
) -> None:
    n_envs, C, n = H.shape
    HP, HPH, S, variance = np.empty((C, n)), np.empty((C, C)), np.empty((C, C)), np.empty(C)
    added, shrink, solved = np.empty(n), np.empty(n), np.empty(C)
    for b in range(n_envs):
        _product(H[b], P[b], HP)
        for i in range(C):
            variance[i] = 0.0
            for j in range(n):
                variance[i] += HP[i, j] * H[b, i, j]
        noise[b] = 0.95 * noise[b] + 0.05 * _nis(e[b], variance, R[b], 1.0)
        raised = max(noise[b], 1.0)
        before = opened_by(threshold, surprise[b])
        surprise[b] = 0.5 * surprise[b] + 0.5 * _nis(e[b], variance, R[b], raised)
        opened = opened_by(threshold, surprise[b])
        rise = max(opened - before, 0.0) if jump.shape[1] > 0 else 0.0
        beyond = False
        for j in range(n):
            added[j] = process_noise + (opened - rise) * inflation[j]
            P[b, j, j] += added[j]
            beyond |= P[b, j, j] > max_variance
        if beyond:
            for j in range(n):
                # Variances alone are cut; with their correlations kept, rows and columns shrink by the same.
                shrink[j] = np.sqrt(min(max_variance / P[b, j, j], 1.0))
            for j in range(n):
                for k in range(n):
                    P[b, j, k] *= shrink[j] * shrink[k]
            _product(H[b], P[b], HP)
        else:
            for i in range(C):
                for j in range(n):
                    HP[i, j] += H[b, i, j] * added[j]
        _lower_product(HP, H[b], HPH)
        if rise > 0.0:
            _add_jump(jump[b], rise * inflation, HP, HPH, P[b])
        _factor(HPH, R[b], common_noise[b], S)
        likelihood[b] = 0.0
        for i in range(C):
            solved[i] = e[b, i]
            for k in range(i):
                solved[i] -= S[i, k] * solved[k]
            solved[i] /= S[i, i]
            likelihood[b] -= 0.5 * solved[i] * solved[i] + np.log(S[i, i])
        if noise_scale * raised != common_noise[b]:
            _factor(HPH, R[b], noise_scale * raised, S)
        _update(mean[b], P[b], e[b], HP, S, solved)


@compiled
def _learn_alone(
    mean: Array,
    p: Array,
    surprise: Array,
    noise: Array,
    likelihood: Array,
    common_noise: Array,
    e: Array,
    H: Array,
    R: Array,
    inflation: Array,
    threshold: float,
    process_noise: float,
    max_variance: float,
    noise_scale: float,
) -> None:
    """
    The same for variances alone, p, of few synapses: by the matrix inversion lemma (Woodbury, 1950) with
    S = H D D H' + r R, D D = p, all factors are of K = I + D (H' R^-1 H) D / r, which has a row for each synapse, not
    for each component.
    """
    n_envs, C, n = H.shape
    information, K, L = np.empty((n, n)), np.empty((n, n)), np.empty((n, n))
    drive, solved, root, variance = np.empty(n), np.empty(n), np.empty(n), np.empty(C)
    for b in range(n_envs):
        for i in range(C):
            variance[i] = 0.0
            for j in range(n):
                variance[i] += H[b, i, j] * H[b, i, j] * p[b, j]
        noise[b] = 0.95 * noise[b] + 0.05 * _nis(e[b], variance, R[b], 1.0)
        raised = max(noise[b], 1.0)
        surprise[b] = 0.5 * surprise[b] + 0.5 * _nis(e[b], variance, R[b], raised)
        opened = opened_by(threshold, surprise[b])
        for j in range(n):
            p[b, j] = min(p[b, j] + process_noise + opened * inflation[j], max_variance)
        information[:] = 0.0
        drive[:] = 0.0
        squares, logs, product = 0.0, 0.0, 1.0
        for i in range(C):
            inverse = 1 / R[b, i]
            squares += e[b, i] * e[b, i] * inverse
            product *= R[b, i]
            if i % 4 == 3:  # as in _judge
                logs += np.log(product)
                product = 1.0
            for j in range(n):
                scaled = H[b, i, j] * inverse
                drive[j] += scaled * e[b, i]
                for k in range(j + 1):
                    information[j, k] += scaled * H[b, i, k]
        logs += np.log(product)
        for j in range(n):
            root[j] = np.sqrt(p[b, j])
            drive[j] *= root[j]
            for k in range(j + 1):
                information[j, k] *= root[j] * root[k]
        r = common_noise[b]
        _whiten(information, drive, r, K, L, solved)
        likelihood[b] = -0.5 * (squares / r + C * np.log(r) + logs)
        for j in range(n):
            likelihood[b] += 0.5 * solved[j] * solved[j] / (r * r) + np.log(L[j, j])
        if noise_scale * raised != r:
            r = noise_scale * raised
            _whiten(information, drive, r, K, L, solved)
        for j in range(n):
            left = moved = 0.0
            for i in range(j, n):
                left += L[i, j] * L[i, j]
                moved += L[i, j] * solved[i]
            mean[b, j] += root[j] * moved / r
            p[b, j] *= left


@compiled
def _whiten(information: Array, drive: Array, r: float, K: Array, L: Array, solved: Array) -> None:
    """L <- inverse of the Cholesky factor of I + information / r, solved <- L drive; K is changed."""
    n = len(drive)
    for j in range(n):
        for k in range(j + 1):
            dot = information[j, k] / r + (1.0 if j == k else 0.0)
            for i in range(k):
                dot -= K[j, i] * K[k, i]
            K[j, k] = np.sqrt(dot) if j == k else dot / K[k, k]
    for j in range(n):
        L[j, j] = 1 / K[j, j]
        solved[j] = L[j, j] * drive[j]
        for k in range(j):
            dot = 0.0
            for i in range(k, j):
                dot -= K[j, i] * L[i, k]
            L[j, k] = dot / K[j, j]
            solved[j] += L[j, k] * drive[k]


@compiled
def _nis(e: Array, variance: Array, R: Array, raised: float) -> float:
    """Normalised innovation squared, mean over components."""
    total = 0.0
    for i in range(len(e)):
        total += min(e[i] * e[i] / (variance[i] + raised * R[i]), NIS_BOUND)
    return total / len(e)


@compiled
def opened_by(threshold: float, surprise: float) -> float:
    """How far surprise opens the variances."""
    return 1 / (1 + np.exp(min(max(2 * (threshold - surprise), -30.0), 30.0)))


@compiled
def invert(V: Array) -> None:
    """V <- V^-1 by Gauss and Jordan, for a positive definite V, which needs no pivots."""
    n = len(V)
    for pivot in range(n):
        scale = 1 / V[pivot, pivot]
        V[pivot, pivot] = 1.0
        for k in range(n):
            V[pivot, k] *= scale
        for j in range(n):
            if j != pivot:
                factor = V[j, pivot]
                V[j, pivot] = 0.0
                for k in range(n):
                    V[j, k] -= factor * V[pivot, k]


@compiled
def _add_jump(jump: Array, q: Array, HP: Array, HPH: Array, P: Array) -> None:
    """A change of the means with variances q within the step: HP += J Q, HPH += J Q J', P += Q. J is diagonal."""
    for i in range(len(jump)):
        HPH[i, i] += jump[i] * q[i] * jump[i]
        HP[i, i] += jump[i] * q[i]
        P[i, i] += q[i]


@compiled
def _product(H: Array, P: Array, HP: Array) -> None:
    """HP <- H P."""
    C = len(H)
    for i in range(C):
        HP[i] = 0.0
        _add_rows(HP[i], H[i], P)


@compiled
def _add_rows(total: Array, factors: Array, rows: Array) -> None:
    """total <- total + factors' rows, four rows at a time: the sum stays in registers for so long."""
    n_rows, n = rows.shape
    whole = n_rows - n_rows % 4
    for i in range(0, whole, 4):
        f0, f1, f2, f3 = factors[i], factors[i + 1], factors[i + 2], factors[i + 3]
        for j in range(n):
            total[j] += f0 * rows[i, j] + f1 * rows[i + 1, j] + f2 * rows[i + 2, j] + f3 * rows[i + 3, j]
    for i in range(whole, n_rows):
        for j in range(n):
            total[j] += factors[i] * rows[i, j]


@compiled
def _lower_product(HP: Array, H: Array, HPH: Array) -> None:
    """HPH <- HP H', lower triangle."""
    C, n = H.shape
    for i in range(C):
        for k in range(i + 1):
            dot = 0.0
            for j in range(n):
                dot += HP[i, j] * H[k, j]
            HPH[i, k] = dot


@compiled
def _factor(HPH: Array, R: Array, raised: float, S: Array) -> None:
    """S <- Cholesky factor of HPH + raised R, lower triangle."""
    C = len(R)
    for i in range(C):
        for j in range(i + 1):
            dot = HPH[i, j]
            if i == j:
                dot += raised * R[i]
            for k in range(j):
                dot -= S[i, k] * S[j, k]
            S[i, j] = np.sqrt(max(dot, 1e-300)) if i == j else dot / S[j, j]


@compiled
def _update(mean: Array, P: Array, e: Array, HP: Array, S: Array, solved: Array) -> None:
    """With S = L L': HP <- L^-1 HP, m <- m + HP' L^-1 e, P <- P - HP' HP."""
    C, n = HP.shape
    for i in range(C):
        solved[i] = e[i]
        for k in range(i):
            factor = S[i, k]
            solved[i] -= factor * solved[k]
            for j in range(n):
                HP[i, j] -= factor * HP[k, j]
        solved[i] /= S[i, i]
        for j in range(n):
            HP[i, j] /= S[i, i]
            mean[j] += HP[i, j] * solved[i]
    factors = np.empty(C)
    for j in range(n):
        for i in range(C):
            factors[i] = -HP[i, j]
        _add_rows(P[j], factors, HP)
