"""Features of the forward model by a multilayer perceptron."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

OF_OLD_FILES = "tanh"
"""The activation of files that do not name theirs."""


class MLPBody(nn.Module):
    """
    Features by a multilayer perceptron.

    :param n_inputs: components of the observation
    :param net_arch: units of each layer; without any, the observation is its own features: a linear model
    :param activation: a name in ``ACTIVATIONS``
    """

    def __init__(self, n_inputs: int, net_arch: Sequence[int], activation: str = "silu") -> None:
        super().__init__()
        sizes = [n_inputs, *net_arch]
        self.n_features, self.activation = sizes[-1], activation
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(sizes))

    def forward(self, z: Tensor) -> Tensor:
        """Features [B, F] of standardised observations [B, O]."""
        activate, _ = ACTIVATIONS[self.activation]
        for layer in self.layers:
            z = activate(layer(z))
        return z

    def pull_back(self, z: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """
        Features, and the derivative of ``weight @ features`` by the standardised observation.

        :param z: [B, O]
        :param weight: [B, C, F]
        :return: [B, F] and [B, C, O]
        """
        activate, slope = ACTIVATIONS[self.activation]
        inputs = []
        for layer in self.layers:
            inputs.append(layer(z))
            z = activate(inputs[-1])
        for layer, x in zip(reversed(list(self.layers)), reversed(inputs), strict=True):
            assert isinstance(layer, nn.Linear)
            weight = (weight * slope(x).unsqueeze(1)) @ layer.weight
        return z, weight

    def finish(self, z: Tensor, head: Callable[[Tensor], Tensor]) -> None:
        """After the training: nothing is left to do. :param z: observations :param head: what reads the features"""


def _slope_of_tanh(x: Tensor) -> Tensor:
    return 1 - torch.tanh(x).square()


def _slope_of_silu(x: Tensor) -> Tensor:
    s = torch.sigmoid(x)
    return s * (1 + x * (1 - s))


Function = Callable[[Tensor], Tensor]
ACTIVATIONS: dict[str, tuple[Function, Function]] = {
    "silu": (nn.functional.silu, _slope_of_silu),
    "tanh": (torch.tanh, _slope_of_tanh),
}
"""Activation and its derivative, by name."""
