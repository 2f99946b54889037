"""Decoders turn a latent code into the numbers that an action distribution takes."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PopulationDecoder(nn.Module):
    """
    Linear decoder in which each output has neurons of its own, as in PopSAN (Tang et al., 2020).

    :param n_outputs: numbers to decode, such as action means
    :param n_neurons: neurons per output; the input has ``n_outputs * n_neurons`` in all
    """

    def __init__(self, n_outputs: int, n_neurons: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_outputs, n_neurons) * 0.1 / n_neurons**0.5)
        self.bias = nn.Parameter(torch.zeros(n_outputs))

    def forward(self, latent: Tensor) -> Tensor:
        """
        :param latent: [..., n_outputs * n_neurons]
        :return: [..., n_outputs]
        """
        return (latent.unflatten(-1, self.weight.shape) * self.weight).sum(-1) + self.bias
