"""Motors that are weaker, stronger or reversed, and a bias of each beside."""

from __future__ import annotations

import numpy as np

from sb3_plastic.adaptive.hypotheses.base import Array, Hypothesis, Transition
from sb3_plastic.adaptive.predictor import Prediction, Predictor

CAUTION = 0.003
"""Keeps the command finite where an effectiveness crosses 0."""


def cautious(intended: Array, g: Array, p: Array) -> Array:
    """
    The command u that is the minimum of E |a - g u|^2 when g is known with a variance: not a / g, which throws the
    robot over where g is near 0.

    :param intended: a [B, A]
    :param g: effectiveness [B, A]
    :param p: its variance [B, A]
    """
    return intended * g * (1 + CAUTION) / (g * g + p + CAUTION)


class Motors(Hypothesis):
    """Each motor has an effectiveness g: applied = g * commanded. A variance for each motor."""

    name = "motors"
    full = False
    watchful = True

    def start(self) -> Array:
        """Every motor does what it is told."""
        return np.ones(self.sizes.n_motors)

    def inflation(self) -> Array:
        """Up to .3 per step."""
        return np.full(self.sizes.n_motors, 0.3)

    def innovation(self, mean: Array, t: Transition, model: Predictor) -> tuple[Array, Array]:
        """``e = y - f - B (a * g)``, ``H = B diag(a)``."""
        H = t.expected.B * t.commands[:, 0, None, :]
        return t.y - t.expected.f - (H @ mean[..., None])[..., 0], H

    def decode(self, mean: Array, variance: Array, intended: Array, p: Prediction) -> Array:
        """The cautious inverse."""
        return cautious(intended, mean, variance)


class MotorsAndBias(Hypothesis):
    """Motors as above, and a bias b of each command: applied = g * commanded + b."""

    name = "motors_and_bias"
    full = True

    def start(self) -> Array:
        """Every motor does what it is told."""
        return np.repeat([1.0, 0.0], self.sizes.n_motors)

    def inflation(self) -> Array:
        """Up to .3 per step for motors, .1 for biases."""
        return np.repeat([0.3, 0.1], self.sizes.n_motors)

    def innovation(self, mean: Array, t: Transition, model: Predictor) -> tuple[Array, Array]:
        """``e = y - f - B (a * g + b)``, ``H = [B diag(a), B]``."""
        B = t.expected.B
        H = np.concatenate([B * t.commands[:, 0, None, :], B], 2)
        return t.y - t.expected.f - (H @ mean[..., None])[..., 0], H

    def decode(self, mean: Array, variance: Array, intended: Array, p: Prediction) -> Array:
        """The bias is taken from the action, the rest goes through the cautious inverse."""
        A = self.sizes.n_motors
        return cautious(intended - mean[:, A:], mean[:, :A], variance[:, :A])
