"""Features of the forward model by a multilayer perceptron."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

OF_OLD_FILES = "tanh"
"""The activation of files that do not name theirs."""


class MLPBody(nn.Module):
    """
    Features by a multilayer perceptron.

    :param n_inputs: components of the observation
    :param net_arch: units of each layer; without any, the observation is its own features: a linear model
    :param activation: of the hidden layers, a name in ``ACTIVATIONS``. The last layer has tanh: features without a
        bound are far off where the robot has rarely been
    """

    def __init__(self, n_inputs: int, net_arch: Sequence[int], activation: str = "silu") -> None:
        super().__init__()
        sizes = [n_inputs, *net_arch]
        self.n_features, self.activation = sizes[-1], activation
        self._last = len(net_arch) - 1
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(sizes))

    def forward(self, z: Tensor) -> Tensor:
        """Features [B, F] of standardised observations [B, O]."""
        for i, layer in enumerate(self.layers):
            z = self._functions(i)[0](layer(z))
        return z

    def _functions(self, i: int) -> tuple[Function, Function]:
        return ACTIVATIONS["tanh" if i == self._last else self.activation]

    def pull_back(self, z: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """
        Features, and the derivative of ``weight @ features`` by the standardised observation.

        :param z: [B, O]
        :param weight: [B, C, F]
        :return: [B, F] and [B, C, O]
        """
        inputs = []
        for i, linear in enumerate(self.layers):
            inputs.append(linear(z))
            z = self._functions(i)[0](inputs[-1])
        for i in reversed(range(len(inputs))):
            layer: Any = self.layers[i]
            slope = self._functions(i)[1](inputs[i])
            weight = (weight * slope.unsqueeze(1)) @ layer.weight
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
