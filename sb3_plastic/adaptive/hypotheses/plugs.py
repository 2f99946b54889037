"""
Cables that are plugged in elsewhere: each command reaches one motor, the right way round or the wrong one.

A discrete Bayes filter over signed permutations. Of each connection from command k to motor j it keeps two
probabilities, right way round ``p+`` and wrong ``p-``, as the mean ``m = p+ - p-`` and the variance
``p+ + p- - m^2`` of an entry of the matrix G, ``applied = G commanded``:

    p   <- (1 - tau) p + tau / (2 A)                           somebody may have plugged anew: tau grows with surprise
    w    = (B' W B)^-1 B' W (y - f),  V = its variances        what the motors seem to have done, W = R^-1
    p+- <- p+- exp( -(w_j -+ a_k)^2 / 2 V_j )                  Bayes' rule
    p   <- rows and columns sum to 1                           each motor has one cable (Sinkhorn 1964)

One step tells most of it, where a matrix of real numbers (``wires``) needs many: six motors have 46080 signed
permutations, 15 bits.
"""

from __future__ import annotations

import numpy as np

from sb3_plastic.adaptive.forward_model import Prediction
from sb3_plastic.adaptive.hypotheses.base import Array, Transition
from sb3_plastic.adaptive.hypotheses.wires import Wires
from sb3_plastic.adaptive.kernels import compiled
from sb3_plastic.adaptive.synapses import Rates, Synapses, nis

LEAST = 1e-9
"""The smallest probability: nothing is impossible."""

BALANCES = 8
"""How often rows and columns are balanced: less than a thousandth is left."""

RIDGE = 1e-2
"""What is added to B' W B: a motor that shows nothing has a variance of 100."""

MODEL_ERROR = 0.01
"""Variance of what a motor seems to have done, beside V: the effect B of a motor is itself known to a tenth."""


class Plugs(Wires):
    """A signed permutation: applied = G commanded, in G one entry of 1 or -1 in each row and column."""

    name = "plugs"
    full = False

    def inflation(self) -> Array:
        """Surprise makes it as likely as not that somebody has plugged anew."""
        return np.full(self.sizes.n_motors**2, 0.5)

    def bounds(self) -> tuple[float, float]:
        """Certainly the wrong way round to certainly the right one."""
        return -1.0, 1.0

    def learn(
        self, synapses: Synapses, e: Array, H: Array, t: Transition, rates: Rates, common_noise: Array
    ) -> tuple[Synapses, Array]:
        """The filter above. The likelihood is a lower bound: the fit less what it costs to have changed one's mind."""
        R, A = t.expected.R, self.sizes.n_motors
        noise = 0.95 * synapses.noise + 0.05 * nis(e, R + _explained(H, synapses.covariance))
        known = R * np.maximum(noise, 1)[:, None]
        surprise = 0.5 * synapses.surprise + 0.5 * nis(e, known + _explained(H, synapses.covariance))
        opened = 1 / (1 + np.exp(np.clip(2 * (rates.threshold - surprise), -30, 30)))
        before = connections(synapses.mean, synapses.covariance, A)
        tau = (rates.process_noise + opened * rates.inflation[0])[:, None, None, None]
        before = (1 - tau) * before + tau / (2 * A)

        seen, variance = motors_seen(t, known)
        after = posterior(before, seen, variance + MODEL_ERROR, t.commands[:, 0])
        mean = (after[:, 0] - after[:, 1]).reshape(len(e), -1)
        spread = np.maximum(after.sum(1).reshape(len(e), -1) - mean**2, 0)
        left = e - (H @ (mean - synapses.mean)[..., None])[..., 0]
        S = R * common_noise[:, None]
        fit = -0.5 * ((left**2 + _explained(H, spread)) / S + np.log(S)).sum(1)
        price = (after * np.log(after / before)).sum((1, 2, 3))
        return Synapses(mean, spread, surprise, noise), fit - price

    def decode(self, mean: Array, variance: Array, intended: Array, p: Prediction) -> Array:
        """The minimum of E |a - G u|^2. Every signed permutation has G' G = 1, so that it is ``u = E[G]' a``."""
        A = self.sizes.n_motors
        return (mean.reshape(-1, A, A).transpose(0, 2, 1) @ intended[..., None])[..., 0]


def connections(mean: Array, variance: Array, n_motors: int) -> Array:
    """
    Of each connection, right and wrong way round, [B, 2, A, A].

    :param mean: of the entries of G, [B, A * A]
    :param variance: of them, [B, A * A]
    :param n_motors: A
    """
    square = variance + mean**2
    both = np.stack([square + mean, square - mean], 1) / 2
    return np.maximum(both, LEAST).reshape(len(mean), 2, n_motors, n_motors)


def motors_seen(t: Transition, R: Array) -> tuple[Array, Array]:
    """
    What the motors seem to have done, by weighted least squares, and its variance, [B, A] each.

    :param t: the last step
    :param R: variance of each component, [B, C]
    """
    B = t.expected.B
    BW = (B / R[..., None]).transpose(0, 2, 1)
    V = np.linalg.inv(BW @ B + RIDGE * np.eye(B.shape[2]))
    return (V @ (BW @ (t.y - t.expected.f)[..., None]))[:, :, 0], np.einsum("bjj->bj", V)


def posterior(before: Array, seen: Array, variance: Array, commands: Array) -> Array:
    """
    Probabilities of connections after a step, [B, 2, A, A].

    :param before: before it, right and wrong way round
    :param seen: what each motor seems to have done, [B, A]
    :param variance: of it, [B, A]
    :param commands: what was commanded, [B, A]
    """
    meant = np.stack([commands, -commands], 1)[:, :, None, :]
    misfit = (seen[:, None, :, None] - meant) ** 2 / (2 * variance[:, None, :, None])
    likelihood = np.exp(misfit.min((1, 3), keepdims=True) - misfit)
    return balanced(np.maximum(before * likelihood, LEAST))


def balanced(p: Array) -> Array:
    """
    Scale rows and columns in turn, until both sum to nearly 1.

    :param p: of connections, right and wrong way round, [B, 2, A, A]
    """
    p = np.array(p, dtype=np.float64)
    _balance(p)
    return p


@compiled
def _balance(p: Array) -> None:
    n_envs, _, n, _ = p.shape
    for b in range(n_envs):
        for _ in range(BALANCES):
            for j in range(n):
                total = p[b, 0, j].sum() + p[b, 1, j].sum()
                p[b, :, j] /= total
            for k in range(n):
                total = p[b, 0, :, k].sum() + p[b, 1, :, k].sum()
                p[b, :, :, k] /= total


def _explained(H: Array, variance: Array) -> Array:
    """What the spread of the synapses makes of a prediction's variance, [B, C]."""
    return (H * H @ variance[..., None])[..., 0]
