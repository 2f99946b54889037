"""
Cables that are plugged in elsewhere: each command reaches one motor, the right way round or the wrong one.

A discrete Bayes filter over signed permutations. Of each connection from command k to motor j it keeps two
probabilities, right way round ``p+`` and wrong ``p-``, as the mean ``m = p+ - p-`` and the variance
``p+ + p- - m^2`` of an entry of the matrix G, ``applied = G commanded``:

    p   <- (1 - tau) p + tau / (2 A)                           somebody may have plugged anew: tau grows with surprise
    w    = (B' W B + .01)^-1 B' W (y - f)                      what the motors seem to have done, W = (R max(1, c))^-1
    V    = its variances + .01                                 B is known to a tenth itself
    p+- <- p+- exp( -(w_j -+ a_k)^2 / 2 V_j )                  Bayes' rule
    p   <- rows and columns sum to 1                           each motor has one cable (Sinkhorn 1964)

One step tells most of it, where a matrix of real numbers (``wires``) needs many: six motors have 46080 signed
permutations, 15 bits.
"""

from __future__ import annotations

import numpy as np

from sb3_plastic.adaptive.hypotheses import plugs_kernel
from sb3_plastic.adaptive.hypotheses.base import Array, Hypothesis, Transition
from sb3_plastic.adaptive.hypotheses.plugs_kernel import LEAST, MODEL_ERROR, RIDGE, balanced
from sb3_plastic.adaptive.hypotheses.wires import Wires
from sb3_plastic.adaptive.predictor import Prediction, Predictor
from sb3_plastic.adaptive.synapses import Rates, Synapses, nis, opened_by


class Plugs(Wires):
    """A signed permutation: applied = G commanded, in G one entry of 1 or -1 in each row and column."""

    name = "plugs"
    full = False
    case_of = Wires.name

    def inflation(self) -> Array:
        """Surprise makes it as likely as not that somebody has plugged anew."""
        return np.full(self.sizes.n_motors**2, 0.5)

    def bounds(self) -> tuple[float, float]:
        """Certainly the wrong way round to certainly the right one."""
        return -1.0, 1.0

    def innovation(self, mean: Array, t: Transition, model: Predictor) -> tuple[Array, Array]:
        """``e = y - f - B G a``; the filter needs no derivative."""
        e, H = Hypothesis.innovation(self, mean, t, model)
        A = self.sizes.n_motors
        a = t.commands[:, 0, :, None]
        return e + (t.expected.B @ (a - mean.reshape(-1, A, A) @ a))[..., 0], H

    def learn(
        self, synapses: Synapses, e: Array, H: Array, t: Transition, rates: Rates, common_noise: Array
    ) -> tuple[Synapses, Array]:
        """The filter above, compiled."""
        return plugs_kernel.learn(synapses, e, t, rates, common_noise)

    def decode(self, mean: Array, variance: Array, intended: Array, p: Prediction) -> Array:
        """The minimum of E |a - G u|^2. Every signed permutation has G' G = 1, so that it is ``u = E[G]' a``."""
        A = self.sizes.n_motors
        return (mean.reshape(-1, A, A).transpose(0, 2, 1) @ intended[..., None])[..., 0]


def learn(synapses: Synapses, e: Array, t: Transition, rates: Rates, common_noise: Array) -> tuple[Synapses, Array]:
    """
    One step of the filter at the head of this module, which ``plugs_kernel.learn`` has compiled.

    :param synapses: before
    :param e: innovation [B, C]
    :param t: the last step
    :param rates: how they learn; ``inflation``: how likely it is, under surprise, that somebody has plugged anew
    :param common_noise: what hypotheses are compared under, [B]
    :return: synapses after, and a lower bound of the log-likelihood, [B]: the fit, less what it costs to have changed
        one's mind
    """
    B, R, a = t.expected.B, t.expected.R, t.commands[:, 0]
    A = B.shape[2]
    noise = 0.95 * synapses.noise + 0.05 * nis(e, R + _explained(B, synapses.covariance, a))
    known = R * np.maximum(noise, 1)[:, None]
    surprise = 0.5 * synapses.surprise + 0.5 * nis(e, known + _explained(B, synapses.covariance, a))
    opened = opened_by(surprise, rates)
    before = connections(synapses.mean, synapses.covariance, A)
    tau = (rates.process_noise + opened * rates.inflation[0])[:, None, None, None]
    before = (1 - tau) * before + tau / (2 * A)

    seen, variance = motors_seen(t, known)
    after = posterior(before, seen, variance + MODEL_ERROR, a)
    mean = (after[:, 0] - after[:, 1]).reshape(len(e), -1)
    spread = np.maximum(after.sum(1).reshape(len(e), -1) - mean**2, 0)
    moved = (mean - synapses.mean).reshape(-1, A, A) @ a[..., None]
    left = e - (B @ moved)[..., 0]
    S = R * common_noise[:, None]
    fit = -0.5 * ((left**2 + _explained(B, spread, a)) / S + np.log(S)).sum(1)
    price = (after * np.log(after / before)).sum((1, 2, 3))
    return Synapses(mean, spread, surprise, noise), fit - price


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


def _explained(B: Array, variance: Array, commands: Array) -> Array:
    """What the spread of the synapses makes of a prediction's variance, [B, C]."""
    of_motors = variance.reshape(len(B), -1, B.shape[2]) @ (commands**2)[..., None]
    return (B**2 @ of_motors)[..., 0]
