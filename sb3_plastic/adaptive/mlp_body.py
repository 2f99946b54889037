"""Features of the forward model by a multilayer perceptron."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sb3_plastic.adaptive.activation import tanh_of

Array = NDArray[Any]


def stacked(layers: Iterable[nn.Module]) -> tuple[Array, Array]:
    """
    Copies of what M linear layers of one shape hold.

    :param layers: of I inputs and O outputs
    :return: weights [M, I, O] and biases [M, 1, O]
    """
    parameters = [[p.detach().numpy() for p in (layer.weight.T, layer.bias)] for layer in cast(Any, layers)]
    weights, biases = zip(*parameters, strict=True)
    # Row by row: np.stack keeps torch's layout, and products of few rows with that take three times as long.
    return np.ascontiguousarray(np.stack(weights)), np.stack(biases)[:, None]


class SideBySide:
    """
    What several bodies make of the same observations, in numpy.

    :param bodies: M, whose weights are copied
    """

    def __init__(self, bodies: Sequence[MLPBody]) -> None:
        self.n_members = len(bodies)
        self.layers = [stacked(same) for same in zip(*(body.layers for body in bodies), strict=True)]
        self.transposed = [np.ascontiguousarray(weight.transpose(0, 2, 1)) for weight, _ in self.layers]

    def __call__(self, z: Array) -> Array:
        """Features [M, B, F] of standardised observations [B, O]."""
        return self._of_each(self._activations(z)[-1])

    def pull_back(self, z: Array, weight: Array) -> tuple[Array, Array]:
        """
        ``weight @ features``, and its derivative by the standardised observation.

        :param z: [B, O]
        :param weight: [M, B, C, F]; it is overwritten, since most of the time would go into new memory
        :return: [M, B, C] and [M, B, C, O]
        """
        activations = self._activations(z)
        value = (weight @ self._of_each(activations[-1])[..., None])[..., 0]
        for w, h in zip(reversed(self.transposed), reversed(activations), strict=False):
            weight *= (1 - h * h)[:, :, None]
            M, B, C, n = weight.shape
            weight = (weight.reshape(M, B * C, n) @ w).reshape(M, B, C, -1)
        return value, weight

    def _activations(self, z: Array) -> list[Array]:
        """The observations, which enter the first layer of each, then what each layer makes of them, [M, B, ...]."""
        activations = [z]
        for weight, bias in self.layers:
            activations.append(tanh_of(activations[-1] @ weight, bias))
        return activations

    def _of_each(self, h: Array) -> Array:
        """A linear model has no layers: its features are the observations."""
        return h if self.layers else np.broadcast_to(h, (self.n_members, *h.shape))


class MLPBody(nn.Module):
    """
    Features by a multilayer perceptron with tanh.

    :param n_inputs: components of the observation
    :param net_arch: units of each layer; without any, the observation is its own features: a linear model
    """

    side_by_side = SideBySide

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

    def finish(self, z: Tensor, head: Callable[[Tensor], Tensor]) -> None:
        """After the training: nothing is left to do. :param z: observations :param head: what reads the features"""
