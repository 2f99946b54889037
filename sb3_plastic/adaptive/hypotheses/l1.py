"""
A rival estimator, see :mod:`~sb3_plastic.adaptive.hypotheses.rivals`: the last error through a low-pass filter, as the
piecewise constant law of L1 adaptive control has it (Hovakimyan and Cao, "L1 Adaptive Control Theory", 2010).

    d <- d + omega (y - f - B a - d),   u = a - (B' S B + lambda I)^-1 B' S d
"""

from __future__ import annotations

import numpy as np

from sb3_plastic.adaptive.hypotheses.base import Array, Hypothesis, Transition
from sb3_plastic.adaptive.hypotheses.disturbance import against_disturbance
from sb3_plastic.adaptive.hypotheses.rivals import moved
from sb3_plastic.adaptive.predictor import Prediction, Predictor
from sb3_plastic.adaptive.synapses import Rates, Synapses


class L1(Hypothesis):
    """A disturbance in each component, estimated from the last error and taken away through a low-pass filter."""

    name = "l1"
    full = False
    omega = 0.3
    """Of the filter, per step."""

    def start(self) -> Array:
        """Nothing disturbs."""
        return np.zeros(len(self.sizes.components))

    def inflation(self) -> Array:
        """There is no covariance."""
        return np.zeros(len(self.sizes.components))

    def bounds(self) -> tuple[float, float]:
        """Five standard deviations of what the nominal robot does in a step."""
        return -5.0, 5.0

    def innovation(self, mean: Array, t: Transition, model: Predictor) -> tuple[Array, Array]:
        """``e = y - f - B a - d``; every component has its own d, so that H is not needed."""
        e, H = super().innovation(mean, t, model)
        return e - mean, H

    def learn(
        self, synapses: Synapses, e: Array, H: Array, t: Transition, rates: Rates, common_noise: Array
    ) -> tuple[Synapses, Array]:
        """The filter."""
        mean = synapses.mean + self.omega * e
        return moved(synapses, mean, synapses.covariance, e, t.expected.R, rates, common_noise)

    def decode(self, mean: Array, variance: Array, intended: Array, p: Prediction) -> Array:
        """Against the disturbance."""
        return intended - against_disturbance(mean, p)
