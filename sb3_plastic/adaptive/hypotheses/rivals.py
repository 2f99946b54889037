"""
Rival estimators of adaptive control, for comparison. They are no part of the default, and act as they were published if
they are named in ``always``: without responsibility, and certain of what they estimate.

    lms    g <- g + rate H' W e / (trace(H' W H) + eps),  W = R^-1
           normalised least mean squares: Nagumo and Noda, "A learning method for system identification", 1967
    rls    K = P H' (H P H' + R)^-1,  g <- g + K e,  P <- (P - K H P) / forgetting, bounded
           recursive least squares with forgetting: Ljung and Soderstrom, "Theory and Practice of Recursive
           Identification", 1983
"""

from __future__ import annotations

import numpy as np

from sb3_plastic.adaptive.hypotheses.base import Array, Transition
from sb3_plastic.adaptive.hypotheses.motors import Motors, cautious
from sb3_plastic.adaptive.predictor import Prediction
from sb3_plastic.adaptive.synapses import Rates, Synapses, kalman_update, nis


def moved(
    synapses: Synapses, mean: Array, covariance: Array, e: Array, R: Array, rates: Rates, common_noise: Array
) -> tuple[Synapses, Array]:
    """
    What a hypothesis returns that learns by another rule: new means within their bounds, the traces that all have.

    :param synapses: before
    :param mean: after, [B, n]
    :param covariance: after
    :param e: innovation [B, C]
    :param R: the forward model's variance, [B, C]
    :param rates: for the bounds
    :param common_noise: what hypotheses are compared under, [B]
    :return: synapses, and the log-likelihood of the innovation
    """
    noise = 0.95 * synapses.noise + 0.05 * nis(e, R)
    surprise = 0.5 * synapses.surprise + 0.5 * nis(e, R * np.maximum(noise, 1)[:, None])
    S = R * common_noise[:, None]
    likelihood = -0.5 * (e * e / S + np.log(S)).sum(1)
    return Synapses(np.clip(mean, rates.low, rates.high), covariance, surprise, noise), likelihood


class LeastMeanSquares(Motors):
    """Effectiveness of each motor by normalised least mean squares."""

    name = "lms"
    rate = 0.6

    def learn(
        self, synapses: Synapses, e: Array, H: Array, t: Transition, rates: Rates, common_noise: Array
    ) -> tuple[Synapses, Array]:
        """Down the gradient of the squared error, in units of what the model cannot know."""
        R = t.expected.R
        weighted = H / R[..., None]
        step = self.rate * (e[:, None, :] @ weighted)[:, 0] / ((weighted * H).sum((1, 2)) + 1e-3)[:, None]
        return moved(synapses, synapses.mean + step, synapses.covariance, e, R, rates, common_noise)

    def decode(self, mean: Array, variance: Array, intended: Array, p: Prediction) -> Array:
        """Certain of the estimate."""
        return cautious(intended, mean, np.zeros_like(variance))


class RecursiveLeastSquares(Motors):
    """Effectiveness of each motor by recursive least squares with forgetting."""

    name = "rls"
    full = True
    start_variance = 1.0
    forgetting = 0.8

    def learn(
        self, synapses: Synapses, e: Array, H: Array, t: Transition, rates: Rates, common_noise: Array
    ) -> tuple[Synapses, Array]:
        """The Kalman filter's update; then all are a little less certain, within the bound."""
        mean, covariance = kalman_update(synapses.mean, synapses.covariance, e, H, t.expected.R)
        covariance = covariance / self.forgetting
        largest = np.einsum("bii->bi", covariance).max(1)
        covariance *= np.minimum(rates.max_variance / largest, 1)[:, None, None]
        return moved(synapses, mean, covariance, e, t.expected.R, rates, common_noise)

    def decode(self, mean: Array, variance: Array, intended: Array, p: Prediction) -> Array:
        """Certain of the estimate."""
        return cautious(intended, mean, np.zeros_like(variance))
