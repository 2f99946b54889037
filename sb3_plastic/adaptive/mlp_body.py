"""Features of the forward model by a multilayer perceptron."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Array = NDArray[Any]


def affine(x: Array, layer: nn.Linear) -> Array:
    """What a layer makes of x, in numpy. :param x: [B, I] :param layer: I inputs, O outputs :return: [B, O]"""
    return x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()


class MLPBody(nn.Module):
    """
    Features by a multilayer perceptron with tanh.

    :param n_inputs: components of the observation
    :param net_arch: units of each layer; without any, the observation is its own features: a linear model
    """

    def __init__(self, n_inputs: int, net_arch: Sequence[int]) -> None:
        super().__init__()
        sizes = [n_inputs, *net_arch]
        self.n_features = sizes[-1]
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(sizes))

    def forward(self, z: Tensor) -> Tensor:
        """Features [B, F] of standardised observations [B, O]."""
        for layer in self.layers:
            z = torch.tanh(layer(z))
        return z

    def features(self, z: Array) -> Array:
        """As :meth:`forward`, in numpy."""
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)
            z = np.tanh(affine(z, layer))
        return z

    def pull_back(self, z: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """
        Features, and the derivative of ``weight @ features`` by the standardised observation.

        :param z: [B, O]
        :param weight: [B, C, F]
        :return: [B, F] and [B, C, O]
        """
        activations = []
        for layer in self.layers:
            z = torch.tanh(layer(z))
            activations.append(z)
        for layer, h in zip(reversed(list(self.layers)), reversed(activations), strict=True):
            assert isinstance(layer, nn.Linear)
            weight = (weight * (1 - h * h).unsqueeze(1)) @ layer.weight
        return z, weight

    def finish(self, z: Tensor, head: Callable[[Tensor], Tensor]) -> None:
        """After the training: nothing is left to do. :param z: observations :param head: what reads the features"""
