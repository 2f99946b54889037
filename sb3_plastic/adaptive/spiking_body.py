"""Features of the forward model by a population of spiking neurons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sb3_plastic.adaptive.mlp_body import Array
from sb3_plastic.snn.network import PlasticSNN
from sb3_plastic.snn.state import SNNState

STEPS = 300
"""Of Adam, in which the slopes are fitted."""

REACH = 0.3
"""Standard deviation of the differences that they are fitted to, in those of the observation."""


class SideBySide:
    """
    What several bodies make of the same observations, as :class:`~sb3_plastic.adaptive.mlp_body.SideBySide` has it.

    :param bodies: M
    """

    def __init__(self, bodies: Sequence[SpikingBody]) -> None:
        self.bodies = bodies

    def __call__(self, z: Array) -> Array:
        """Features [M, B, F] of standardised observations [B, O]."""
        return np.stack([body(torch.from_numpy(z)).detach().numpy() for body in self.bodies])

    @torch.no_grad()
    def pull_back(self, z: Array, weight: Array) -> tuple[Array, Array]:
        """
        ``weight @ features``, and its mean derivative by the standardised observation.

        :param z: [B, O]
        :param weight: [M, B, C, F]
        :return: [M, B, C] and [M, B, C, O]
        """
        at = torch.from_numpy(z)
        pulled = [body.pull_back(at, torch.from_numpy(w)) for body, w in zip(self.bodies, weight, strict=True)]
        features, derivatives = (np.stack([part.numpy() for part in parts]) for parts in zip(*pulled, strict=True))
        return (weight @ features[..., None])[..., 0], derivatives


class SpikingBody(nn.Module):
    """
    Features by a static spiking population: rates of its last layer over ``n_ticks`` ticks, from rest.

    Spikes have no derivative by the observation, but rates have a mean one: ``slopes[l, n]`` is the change of a
    neuron's rate in layer l per change of its current, if it fired n times. :meth:`finish` fits it to differences.

    :param n_inputs: components of the observation
    :param net_arch: neurons of each layer
    :param n_ticks: ticks, K
    """

    side_by_side = SideBySide

    def __init__(self, n_inputs: int, net_arch: Sequence[int], n_ticks: int = 4) -> None:
        super().__init__()
        options: dict[str, Any] = {"rule": "none", "modulation": "none", "readout": "rate", "n_ticks": n_ticks}
        self.snn = PlasticSNN(n_inputs, list(net_arch), **options, readout_kwargs={"gain": 1.0})
        self.n_features, self.n_ticks = self.snn.n_outputs, n_ticks
        self.slopes = nn.Parameter(torch.full((len(net_arch), n_ticks + 1), 0.5), requires_grad=False)

    def forward(self, z: Tensor) -> Tensor:
        """Features [B, F] of standardised observations [B, O]."""
        return self._rates(z)[-1]

    def _rates(self, z: Tensor) -> list[Tensor]:
        starts = torch.ones(1, len(z), dtype=torch.bool)
        state: SNNState = self.snn.initial_state(len(z), random=False)
        trains, _ = self.snn.spike_trains(z.unsqueeze(0), starts, state)
        return [spikes[0].mean(0) for spikes in trains]

    def pull_back(self, z: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """
        Features, and the mean derivative of ``weight @ features`` by the standardised observation.

        :param z: [B, O]
        :param weight: [B, C, F]
        :return: [B, F] and [B, C, O]
        """
        rates = self._rates(z)
        for layer, slopes, rate in zip(
            reversed(list(self.snn.layers)), self.slopes.flip(0), reversed(rates), strict=True
        ):
            slope = slopes[(rate * self.n_ticks).round().long()]
            weight = (weight * slope.unsqueeze(1)) @ layer.w.T
        return rates[-1], weight

    def finish(self, z: Tensor, head: Callable[[Tensor], Tensor]) -> None:
        """
        Fit the slopes: the derivative along random directions to what ``head`` sees change.

        :param z: standardised observations, [n, O]
        :param head: what reads the features, linear
        """
        weight = head(torch.eye(self.n_features)).T - head(torch.zeros(1, self.n_features)).T  # [C, F]
        generator = torch.Generator().manual_seed(0)
        self.slopes.requires_grad_(True)
        optimizer = torch.optim.Adam([self.slopes], 0.02)
        for _ in range(STEPS):
            at = z[torch.randint(len(z), (256,), generator=generator)]
            by = REACH * torch.randn(at.shape, generator=generator)
            with torch.no_grad():
                change = (self(at + by) - self(at - by)) @ weight.T
            derivative = self.pull_back(at, weight.detach().expand(len(at), -1, -1))[1]
            loss = (2 * (derivative @ by.unsqueeze(-1)).squeeze(-1) - change).pow(2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        self.slopes.requires_grad_(False)
