"""Features of the forward model by a multilayer perceptron."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Array = NDArray[Any]


def stacked(layers: Iterable[nn.Module]) -> tuple[Array, Array]:
    """
    Copies of what M linear layers of one shape hold.

    :param layers: of I inputs and O outputs
    :return: weights [M, I, O] and biases [M, 1, O]
    """
    parameters = [[p.detach().numpy() for p in (layer.weight.T, layer.bias)] for layer in cast(Any, layers)]
    weights, biases = zip(*parameters, strict=True)
    return np.stack(weights), np.stack(biases)[:, None]


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

    @staticmethod
    def side_by_side(bodies: Sequence[MLPBody]) -> Callable[[Array], Array]:
        """
        What several make of the same observations, in numpy.

        :param bodies: M, whose weights are copied
        :return: a function of standardised observations [B, O], which returns features [M, B, F]
        """
        layers = [stacked(same) for same in zip(*(body.layers for body in bodies), strict=True)]

        def features(z: Array) -> Array:
            h = np.broadcast_to(z, (len(bodies), *z.shape))
            for weight, bias in layers:
                h = np.tanh(h @ weight + bias)
            return h

        return features

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
