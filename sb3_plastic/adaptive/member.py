"""A network of the forward model: effects of the motors and noise, from standardised observations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sb3_plastic.adaptive.bodies import BODIES

LOG_NOISE = (-7.0, 4.0)
"""Range of log R. The floor keeps a component that is predicted nearly exactly from deciding everything alone."""


class Member(nn.Module):
    """
    Owns the parameters of one f, B and R.

    :param n_observations: components of the observation, O
    :param n_motors: components of the action, A
    :param body: a name in ``BODIES``
    :param net_arch: units of each layer of the body
    """

    def __init__(self, n_observations: int, n_motors: int, body: str, net_arch: tuple[int, ...]) -> None:
        super().__init__()
        self.n_motors = n_motors
        self.body: Any = BODIES[body](n_observations, net_arch)
        width = self.body.n_features
        self.f = nn.Linear(width, n_observations)
        self.B = nn.Linear(width, n_observations * n_motors)
        self.log_R = nn.Sequential(nn.Linear(width + n_motors, 64), nn.Tanh(), nn.Linear(64, n_observations))

    def forward(self, z: Tensor, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """
        :param z: standardised observations [n, O]
        :param a: commands [n, A], in units of half the control range
        :return: f [n, C], B [n, C, A] and log R [n, C]. The noise sends no gradient into the features
        """
        h = self.body(z)
        B = self.B(h).unflatten(-1, (-1, self.n_motors))
        return self.f(h), B, self.log_R(torch.cat([h.detach(), a], -1)).clamp(*LOG_NOISE)

    def keep(self, components: Tensor) -> None:
        """Predict only some components from now on. :param components: indices among those of today, [C]"""
        rows = (components[:, None] * self.n_motors + torch.arange(self.n_motors)).flatten()
        last: Any = self.log_R[-1]
        for head, kept in ((self.f, components), (self.B, rows), (last, components)):
            head.weight = nn.Parameter(head.weight.detach()[kept].clone())
            head.bias = nn.Parameter(head.bias.detach()[kept].clone())
            head.out_features = len(kept)
