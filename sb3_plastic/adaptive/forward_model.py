"""
The forward model of the nominal robot, control-affine, with a noise that depends on state and action:

    y = (o' - o)_observed / s ~ N( f(o) + B(o) a , diag R(o, a) )

``o``: observation, ``a``: applied command in units of half the control range, ``s``: standard deviation of each
component's change. Components that cannot be predicted (constants, contact forces) are left out, see
:meth:`ForwardModel.keep`.

It is the mean of an ensemble of networks that differ by their first weights (Lakshminarayanan et al., 2017): where a
wrong sensor shows a state that nobody has walked through, one network is far off, and the mean is less so.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sb3_plastic.adaptive.member import Member

FAR = 10
"""Bound of what the body reads, in standard deviations."""

NET_ARCH = (192, 192)
"""Units of each layer unless it is told otherwise."""

MEMBERS = 3
"""Networks of an ensemble unless it is told otherwise."""

EXAMPLES = 2048
"""Observations that are kept, spread over those that the model has learned from."""


class ForwardModel(nn.Module):
    """
    Owns the networks, the scales of observations and changes, and some observations as examples.

    :param n_observations: components of the observation, O
    :param n_motors: components of the action, A
    :param body: a name in ``BODIES``
    :param net_arch: units of each layer of the body
    :param members: networks, M
    """

    mean: Tensor
    std: Tensor
    scale: Tensor
    components: Tensor
    examples: Tensor

    def __init__(
        self,
        n_observations: int,
        n_motors: int,
        body: str = "mlp",
        net_arch: tuple[int, ...] = NET_ARCH,
        members: int = 1,
    ) -> None:
        super().__init__()
        self.n_motors, self.kind, self.net_arch = n_motors, body, tuple(net_arch)
        self.members = nn.ModuleList(Member(n_observations, n_motors, body, self.net_arch) for _ in range(members))
        self.register_buffer("mean", torch.zeros(n_observations))
        self.register_buffer("std", torch.ones(n_observations))
        self.register_buffer("scale", torch.ones(n_observations))
        self.register_buffer("components", torch.arange(n_observations))
        self.register_buffer("examples", torch.zeros(EXAMPLES, n_observations))

    def forward(self, o: Tensor, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """
        What each member says.

        :param o: observations [n, O]
        :param a: commands [n, A], in units of half the control range
        :return: f [M, n, C], B [M, n, C, A] and log R [M, n, C]
        """
        z = self.standardised(o)
        f, B, log_R = zip(*(member(z, a) for member in self.members), strict=True)
        return torch.stack(f), torch.stack(B), torch.stack(log_R)

    def standardised(self, o: Tensor) -> Tensor:
        """Observations in standard deviations from their mean, bounded."""
        return ((o - self.mean) / self.std).clamp(-FAR, FAR)

    def keep(self, components: Tensor) -> None:
        """
        Predict only some components of the observation from now on.

        :param components: their indices among those of today, [C]
        """
        for member in self._each():
            member.keep(components)
        self.components, self.scale = self.components[components], self.scale[components]
        self.examples = self.examples[:, components]

    def finish(self, o: Tensor) -> None:
        """After the training: examples, and what a body makes of its weights. :param o: observations [n, O]"""
        spread = torch.linspace(0, len(o) - 1, EXAMPLES, dtype=torch.float64).long()  # float32 counts to 2**24
        self.examples.copy_(o[spread][:, self.components])
        z = self.standardised(o)
        for member in self._each():
            member.body.finish(z, member.f)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        state_dict.setdefault(f"{prefix}examples", self.examples)  # models of before have none
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _each(self) -> list[Any]:
        return list(self.members)
