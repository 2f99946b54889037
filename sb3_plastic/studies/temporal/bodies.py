"""The bodies of the study's networks: what remembers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sb3_plastic.snn.network import PlasticSNN
from sb3_plastic.studies.temporal.alif import AdaptiveBody


class Body(Protocol):
    """What turns inputs into activity."""

    n_outputs: int

    def initial_state(self, n_envs: int) -> Any:
        """State at the start of a trial."""
        ...

    def scan(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        """``inputs`` [T, B, M] -> activity [T, B, N], state after"""
        ...


class SpikingBody(nn.Module):
    """
    One layer of :class:`~sb3_plastic.snn.network.PlasticSNN`, one tick per step.

    :param n_inputs: inputs, M
    :param n_neurons: neurons, N
    :param arguments: further arguments of ``PlasticSNN``
    """

    def __init__(self, n_inputs: int, n_neurons: int, **arguments: Any) -> None:
        super().__init__()
        self.snn = PlasticSNN(n_inputs, [n_neurons], n_ticks=1, readout="rate", **arguments)
        self.n_outputs = n_neurons

    def initial_state(self, n_envs: int) -> Any:
        """At the start of a trial."""
        return self.snn.initial_state(n_envs)

    def scan(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        """See :class:`Body`."""
        (spikes,), state = self.snn.spike_trains(inputs, torch.zeros(inputs.shape[:2], dtype=torch.bool), state)
        return spikes.squeeze(1), state


class GRUBody(nn.Module):
    """
    A gated recurrent unit (Cho et al., 2014), for scale: what a network of real numbers does.

    :param n_inputs: inputs, M
    :param n_neurons: hidden units, N
    """

    def __init__(self, n_inputs: int, n_neurons: int) -> None:
        super().__init__()
        self.gru = nn.GRU(n_inputs, n_neurons)
        self.n_outputs = n_neurons

    def initial_state(self, n_envs: int) -> Any:
        """Hidden units, [1, B, N]."""
        return torch.zeros(1, n_envs, self.n_outputs)

    def scan(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        """See :class:`Body`."""
        return self.gru(inputs, state)


BODIES: dict[str, Callable[..., Body]] = {"snn": SpikingBody, "alif": AdaptiveBody, "gru": GRUBody}
"""Bodies by name."""
