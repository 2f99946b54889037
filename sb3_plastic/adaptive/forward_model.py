"""
The forward model of the nominal robot, control-affine, with a noise that depends on state and action:

    y = (o' - o)_observed / s ~ N( f(o) + B(o) a , diag R(o, a) )

``o``: observation, ``a``: applied command in units of half the control range, ``s``: standard deviation of each
component's change. Components that cannot be predicted (constants, contact forces) are left out, see
:meth:`ForwardModel.keep`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sb3_plastic.adaptive.bodies import BODIES
from sb3_plastic.adaptive.mlp_body import affine

Array = NDArray[Any]

LOG_NOISE = (-7.0, 4.0)
"""Range of log R. The floor keeps a component that is predicted nearly exactly from deciding everything alone."""


FAR = 10
"""Bound of what the body reads, in standard deviations."""


class Prediction(NamedTuple):
    """
    What the nominal robot is expected to do, in standard deviations of the change.

    :param f: change without a command, [B, C]
    :param B: effect of each motor, [B, C, A]
    :param R: variance of what the model cannot know, [B, C]
    """

    f: Array
    B: Array
    R: Array


NET_ARCH = (192, 192)
"""Units of each layer unless it is told otherwise."""


class ForwardModel(nn.Module):
    """
    Owns the parameters of f, B and R, and the scales of observations and changes.

    :param n_observations: components of the observation, O
    :param n_motors: components of the action, A
    :param body: a name in ``BODIES``
    :param net_arch: units of each layer of the body
    """

    mean: Tensor
    std: Tensor
    scale: Tensor
    components: Tensor

    def __init__(
        self, n_observations: int, n_motors: int, body: str = "mlp", net_arch: tuple[int, ...] = NET_ARCH
    ) -> None:
        super().__init__()
        self.n_motors, self.kind, self.net_arch = n_motors, body, tuple(net_arch)
        self.body: Any = BODIES[body](n_observations, self.net_arch)
        width = self.body.n_features
        self.f = nn.Linear(width, n_observations)
        self.B = nn.Linear(width, n_observations * n_motors)
        self.log_R = nn.Sequential(nn.Linear(width + n_motors, 64), nn.Tanh(), nn.Linear(64, n_observations))
        self.register_buffer("mean", torch.zeros(n_observations))
        self.register_buffer("std", torch.ones(n_observations))
        self.register_buffer("scale", torch.ones(n_observations))
        self.register_buffer("components", torch.arange(n_observations))

    def forward(self, o: Tensor, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """
        :param o: observations [B, O]
        :param a: commands [B, A], in units of half the control range
        :return: f [B, C], B [B, C, A] and log R [B, C]. The noise sends no gradient into the features
        """
        h = self.body(self.standardised(o))
        B = self.B(h).unflatten(-1, (-1, self.n_motors))
        return self.f(h), B, self.log_R(torch.cat([h.detach(), a], -1)).clamp(*LOG_NOISE)

    def standardised(self, o: Tensor) -> Tensor:
        """Observations in standard deviations from their mean, bounded."""
        return ((o - self.mean) / self.std).clamp(-FAR, FAR)

    def keep(self, components: Tensor) -> None:
        """
        Predict only some components of the observation from now on.

        :param components: their indices, [C]
        """
        rows = (components[:, None] * self.n_motors + torch.arange(self.n_motors)).flatten()
        last: Any = self.log_R[-1]
        for head, kept in ((self.f, components), (self.B, rows), (last, components)):
            head.weight = nn.Parameter(head.weight.detach()[kept].clone())
            head.bias = nn.Parameter(head.bias.detach()[kept].clone())
            head.out_features = len(kept)
        self.components, self.scale = self.components[components], self.scale[components]

    # What the layer asks, in numpy

    @torch.no_grad()
    def predict(self, o: Array, a: Array) -> Prediction:
        """
        As :meth:`forward`, in numpy: for the few rows of a step a call of torch takes longer than what it computes.

        :param o: observations [B, O]
        :param a: commands [B, A]
        """
        z = ((o.astype(np.float32) - self.mean.numpy()) / self.std.numpy()).clip(-FAR, FAR)
        h = self.body.features(z)
        noise: Any = self.log_R
        first, _, last = noise
        log_R = affine(np.tanh(affine(np.concatenate([h, a.astype(np.float32)], 1), first)), last)
        B = affine(h, self.B).reshape(len(o), -1, self.n_motors)
        return Prediction(affine(h, self.f), B, np.exp(log_R.clip(*LOG_NOISE)))

    @torch.no_grad()
    def linearise(self, o: Array, a: Array) -> tuple[Array, Array]:
        """
        The expected change and its derivative by the observation: what a wrong sensor does to the prediction.

        :param o: observations [B, O]
        :param a: commands [B, A]
        :return: ``f(o) + B(o) a`` [B, C], and its derivative by the observation in standard deviations, [B, C, O]
        """
        a_tensor = _tensor(a)
        motors = self.B.weight.unflatten(0, (-1, self.n_motors))  # [C, A, F]
        weight = self.f.weight + torch.einsum("ba,caf->bcf", a_tensor, motors)
        bias = self.f.bias + a_tensor @ self.B.bias.unflatten(0, (-1, self.n_motors)).T
        h, jacobian = self.body.pull_back(self.standardised(_tensor(o)), weight)
        return (bias + (weight @ h.unsqueeze(-1)).squeeze(-1)).numpy(), jacobian.numpy()

    def advance(self, o: Array, a: Array) -> Array:
        """
        The observation that is expected next.

        :param o: observations [B, O]
        :param a: commands [B, A]
        :return: [B, O]; components that are not predicted stay
        """
        p = self.predict(o, a)
        after = o.copy()
        after[:, self.components.numpy()] += (p.f + (p.B @ a[..., None])[..., 0]) * self.scale.numpy()
        return after


def _tensor(x: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))
