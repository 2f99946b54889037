"""
The filter over plugs, compiled: :func:`learn` has the signature and the meaning of ``plugs.learn``, which defines it.

Row by row: in most steps few robots learn, and numpy's calls cost more than their arithmetic.
"""

from __future__ import annotations

import numpy as np

from sb3_plastic.adaptive.hypotheses.base import Array, Transition
from sb3_plastic.adaptive.kernels import compiled, invert, opened_by
from sb3_plastic.adaptive.synapses import NIS_BOUND, Rates, Synapses

LEAST = 1e-9
"""The smallest probability: nothing is impossible."""

BALANCES = 8
"""How often rows and columns are balanced: mostly less than a thousandth is left, where cables contradict each other up
to about a tenth."""

BALANCED = 1e-9
"""Nothing more is done once every sum is so near to 1."""

RIDGE = 1e-2
"""What is added to B' W B: a motor that shows nothing has a variance of 100."""

MODEL_ERROR = 0.01
"""Variance of what a motor seems to have done, beside V: the effect B of a motor is itself known to a tenth."""


def learn(synapses: Synapses, e: Array, t: Transition, rates: Rates, common_noise: Array) -> tuple[Synapses, Array]:
    """As :func:`sb3_plastic.adaptive.hypotheses.plugs.learn`; arguments and result are the same."""
    mean, spread, surprise, noise = (np.array(x, np.float64) for x in synapses)
    likelihood = np.empty(len(e))
    B, R = t.expected.B, t.expected.R
    arrays = (e, t.y - t.expected.f, B, R, common_noise, t.commands[:, 0])
    arguments = (np.ascontiguousarray(x, dtype=np.float64) for x in arrays)
    n_motors = B.shape[2]
    shaped = (x.reshape(-1, n_motors, n_motors) for x in (mean, spread))
    numbers = rates.threshold, rates.process_noise, float(rates.inflation[0])
    _learn(*shaped, surprise, noise, likelihood, *arguments, *numbers)
    return Synapses(mean, spread, surprise, noise), likelihood


def balanced(p: Array) -> Array:
    """
    Scale rows and columns in turn, until both sum to nearly 1.

    :param p: of connections, right and wrong way round, [B, 2, A, A]
    """
    p = np.array(p, dtype=np.float64)
    for row in p:
        _balance(row)
    return p


@compiled
def _learn(
    mean: Array,
    spread: Array,
    surprise: Array,
    noise: Array,
    likelihood: Array,
    e: Array,
    y: Array,
    B: Array,
    R: Array,
    common_noise: Array,
    a: Array,
    threshold: float,
    process_noise: float,
    reopened: float,
) -> None:
    n_envs, C, A = B.shape
    before, p = np.empty((2, A, A)), np.empty((2, A, A))
    of_plugs, W, moved = np.empty(C), np.empty(C), np.empty(A)
    V, seen = np.empty((A, A)), np.empty(A)
    for b in range(n_envs):
        _explained(B[b], spread[b], a[b], moved, of_plugs)
        nis = 0.0
        for i in range(C):
            nis += min(e[b, i] * e[b, i] / (R[b, i] + of_plugs[i]), NIS_BOUND)
        noise[b] = 0.95 * noise[b] + 0.05 * nis / C
        raised, nis = max(noise[b], 1.0), 0.0
        for i in range(C):
            W[i] = 1 / (R[b, i] * raised)
            nis += min(e[b, i] * e[b, i] / (R[b, i] * raised + of_plugs[i]), NIS_BOUND)
        surprise[b] = 0.5 * surprise[b] + 0.5 * nis / C
        tau = process_noise + opened_by(threshold, surprise[b]) * reopened
        _motors_seen(B[b], W, y[b], V, seen)
        for j in range(A):
            for k in range(A):
                square = spread[b, j, k] + mean[b, j, k] ** 2
                for way in range(2):
                    sign = 1.0 - 2.0 * way
                    at = max((square + sign * mean[b, j, k]) / 2, LEAST)
                    before[way, j, k] = (1 - tau) * at + tau / (2 * A)
                    p[way, j, k] = (seen[j] - sign * a[b, k]) ** 2 / (2 * (V[j, j] + MODEL_ERROR))
            least = min(p[0, j].min(), p[1, j].min())
            for way in range(2):
                for k in range(A):
                    p[way, j, k] = max(before[way, j, k] * np.exp(least - p[way, j, k]), LEAST)
        _balance(p)
        price = 0.0
        for j in range(A):
            moved[j] = 0.0
            for k in range(A):
                for way in range(2):
                    price += p[way, j, k] * np.log(p[way, j, k] / before[way, j, k])
                m = p[0, j, k] - p[1, j, k]
                moved[j] += (m - mean[b, j, k]) * a[b, k]
                mean[b, j, k] = m
                spread[b, j, k] = max(p[0, j, k] + p[1, j, k] - m * m, 0.0)
        for i in range(C):
            W[i] = e[b, i]
            for j in range(A):
                W[i] -= B[b, i, j] * moved[j]
        _explained(B[b], spread[b], a[b], moved, of_plugs)
        likelihood[b] = -price
        for i in range(C):
            S = R[b, i] * common_noise[b]
            likelihood[b] -= 0.5 * ((W[i] * W[i] + of_plugs[i]) / S + np.log(S))


@compiled
def _explained(B: Array, spread: Array, a: Array, of_motors: Array, variance: Array) -> None:
    """variance <- what the spread of the synapses makes of a prediction's."""
    C, A = B.shape
    for j in range(A):
        of_motors[j] = 0.0
        for k in range(A):
            of_motors[j] += spread[j, k] * a[k] * a[k]
    for i in range(C):
        variance[i] = 0.0
        for j in range(A):
            variance[i] += B[i, j] * B[i, j] * of_motors[j]


@compiled
def _motors_seen(B: Array, W: Array, y: Array, V: Array, seen: Array) -> None:
    """V <- (B' W B + ridge)^-1, seen <- V B' W y."""
    C, A = B.shape
    drive = np.zeros(A)
    V[:] = 0.0
    for i in range(C):  # row by row of B, as it lies in memory
        for j in range(A):
            weighted = W[i] * B[i, j]
            drive[j] += weighted * y[i]
            for k in range(j + 1):
                V[j, k] += weighted * B[i, k]
    for j in range(A):
        V[j, j] += RIDGE
        for k in range(j):
            V[k, j] = V[j, k]
    invert(V)
    for j in range(A):
        seen[j] = 0.0
        for k in range(A):
            seen[j] += V[j, k] * drive[k]


@compiled
def _balance(p: Array) -> None:
    """In plain loops, for rows and for columns: slices, or one loop over a transposed view, take twice as long."""
    n = p.shape[1]
    for done in range(BALANCES):
        left = 0.0
        for j in range(n):
            total = 0.0
            for k in range(n):
                total += p[0, j, k] + p[1, j, k]
            left = max(left, abs(total - 1))
            for k in range(n):
                p[0, j, k] /= total
                p[1, j, k] /= total
        if done and left < BALANCED:  # columns sum to 1 since the time before
            return
        for k in range(n):
            total = 0.0
            for j in range(n):
                total += p[0, j, k] + p[1, j, k]
            for j in range(n):
                p[0, j, k] /= total
                p[1, j, k] /= total
