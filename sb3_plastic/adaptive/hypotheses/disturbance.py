"""Motors that are weaker, stronger or reversed, and a constant disturbance of the body beside."""

from __future__ import annotations

import numpy as np

from sb3_plastic.adaptive.forward_model import ForwardModel, Prediction
from sb3_plastic.adaptive.hypotheses.base import Array, Hypothesis, Transition
from sb3_plastic.adaptive.hypotheses.motors import cautious

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
    return np.linalg.solve(BS @ p.B + DAMPING * np.eye(p.B.shape[2]), BS @ d[..., None])[..., 0]


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

    def innovation(self, mean: Array, t: Transition, model: ForwardModel) -> tuple[Array, Array]:
        """``e = y - f - B (a * g) - d``, ``H = [B diag(a), 1]``."""
        n_envs, n_components = t.y.shape
        by_motor = t.expected.B * t.commands[:, 0, None, :]
        H = np.concatenate([by_motor, np.broadcast_to(np.eye(n_components), (n_envs, n_components, n_components))], 2)
        return t.y - t.expected.f - (H @ mean[..., None])[..., 0], H

    def decode(self, mean: Array, variance: Array, intended: Array, p: Prediction) -> Array:
        """What fights the disturbance is taken from the action, the rest goes through the cautious inverse."""
        A = self.sizes.n_motors
        return cautious(intended - against_disturbance(mean[:, A:], p), mean[:, :A], variance[:, :A])
