"""Motors that are plugged in anew."""

from __future__ import annotations

import numpy as np

from sb3_plastic.adaptive.hypotheses.base import Array, Hypothesis, Transition
from sb3_plastic.adaptive.hypotheses.motors import CAUTION
from sb3_plastic.adaptive.predictor import Prediction, Predictor


class Wires(Hypothesis):
    """A full matrix: applied = G commanded, one synapse from each command to each motor."""

    name = "wires"
    full = True

    def start(self) -> Array:
        """Every command reaches its own motor."""
        return np.eye(self.sizes.n_motors).ravel()

    def inflation(self) -> Array:
        """Up to .3 per step on the diagonal, .1 beside it: a wrong gain is commoner than crossed wires."""
        return np.where(self.start() > 0, 0.3, 0.1)

    def innovation(self, mean: Array, t: Transition, model: Predictor) -> tuple[Array, Array]:
        """``e = y - f - B G a``, ``H_(jk) = B_j a_k``."""
        H = t.expected.B[..., None] * t.commands[:, 0, None, None, :]
        H = H.reshape(*t.y.shape, -1)
        return t.y - t.expected.f - (H @ mean[..., None])[..., 0], H

    def decode(self, mean: Array, variance: Array, intended: Array, p: Prediction) -> Array:
        """The cautious inverse of a matrix: ``u = (G' G + diag(sum_j P_jk) + eps)^-1 G' a``."""
        A = self.sizes.n_motors
        G = mean.reshape(-1, A, A)
        caution = variance.reshape(-1, A, A).sum(1) + CAUTION
        Gt = G.transpose(0, 2, 1)
        return np.linalg.solve(Gt @ G + caution[:, :, None] * np.eye(A), Gt @ intended[..., None])[..., 0]

    def doubt(self, variance: Array) -> Array:
        """Of each command, over all motors that it may reach."""
        A = self.sizes.n_motors
        return variance.reshape(-1, A, A).sum(1)
