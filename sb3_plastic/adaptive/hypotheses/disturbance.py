"""Motors that are weaker, stronger or reversed, and a body that is pushed, or changes faster by itself, beside."""

from __future__ import annotations

import numpy as np

from sb3_plastic.adaptive.hypotheses.base import Array, Hypothesis, Transition
from sb3_plastic.adaptive.hypotheses.motors import cautious
from sb3_plastic.adaptive.kernels import compiled, invert
from sb3_plastic.adaptive.predictor import Prediction, Predictor

DAMPING = 0.05
"""lambda: how dear a command is that fights a disturbance."""


def against_disturbance(d: Array, p: Prediction) -> Array:
    """
    What to take from a command so that it fights a disturbance: ``(B' S B + lambda I)^-1 B' S d``, S = 1 / R normalised
    to mean 1.

    :param d: disturbance of each component, [B, C]
    :param p: the forward model's prediction
    """
    S = 1 / p.R
    BS = (p.B * (S / S.mean(1, keepdims=True))[..., None]).transpose(0, 2, 1)
    u = (BS @ d[..., None])[..., 0]
    _solve(BS @ p.B, u)
    return u


@compiled
def _solve(M: Array, u: Array) -> None:
    """u <- (M + lambda I)^-1 u of each environment: numpy's solver is made for larger matrices."""
    n_envs, A = u.shape
    V, moved = np.empty((A, A)), np.empty(A)
    for b in range(n_envs):
        for j in range(A):
            V[j] = M[b, j]
            V[j, j] += DAMPING
        invert(V)
        for j in range(A):
            moved[j] = 0.0
            for k in range(A):
                moved[j] += V[j, k] * u[b, k]
        u[b] = moved


class MotorsAndDisturbance(Hypothesis):
    """Each motor has an effectiveness, and there is a constant d in each component: payload, slope."""

    name = "motors_and_disturbance"
    full = True

    def start(self) -> Array:
        """Every motor does what it is told, and nothing else acts."""
        return np.concatenate([np.ones(self.sizes.n_motors), np.zeros(len(self.sizes.components))])

    def inflation(self) -> Array:
        """Up to .3 per step for motors, .1 for the disturbance."""
        return np.concatenate([np.full(self.sizes.n_motors, 0.3), np.full(len(self.sizes.components), 0.1)])

    def force(self, p: Prediction) -> Array:
        """The disturbance for d = 1, [B, C]. :param p: the forward model's prediction"""
        return np.ones_like(p.f)

    def innovation(self, mean: Array, t: Transition, model: Predictor) -> tuple[Array, Array]:
        """``e = y - f - B (a * g) - F d``, ``H = [B diag(a), F]``, ``F = diag(force)``."""
        by_motor = t.expected.B * t.commands[:, 0, None, :]
        by_force = self.force(t.expected)[..., None] * np.eye(t.y.shape[1])
        H = np.concatenate([by_motor, by_force], 2)
        return t.y - t.expected.f - (H @ mean[..., None])[..., 0], H

    def decode(self, mean: Array, variance: Array, intended: Array, p: Prediction) -> Array:
        """What fights the disturbance is taken from the action, the rest goes through the cautious inverse."""
        A = self.sizes.n_motors
        d = mean[:, A:] * self.force(p)
        return cautious(intended - against_disturbance(d, p), mean[:, :A], variance[:, :A])


class MotorsAndDrift(MotorsAndDisturbance):
    """Each motor has an effectiveness, and what happens without a command is 1 + d times what it was: gravity."""

    name = "motors_and_drift"

    def force(self, p: Prediction) -> Array:
        """What happens without a command."""
        return p.f
