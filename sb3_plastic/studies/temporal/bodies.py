"""The bodies of the study's networks: what remembers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sb3_plastic.snn.network import PlasticSNN
from sb3_plastic.snn.surrogate import spike


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


class AdaptiveBody(nn.Module):
    """
    A recurrent layer of ALIF neurons, whose threshold rises with their own activity and falls back slowly: memory
    without plasticity (Bellec et al., 2018, "Long short-term memory and learning-to-learn in networks of spiking
    neurons")::

        v[k] = beta v[k-1] - threshold[k-1] z[k-1] + I[k],    threshold[k] = 1 + gain a[k]
        z[k] = H(v[k] - threshold[k]),                        a[k+1] = decay a[k] + (1 - decay) z[k]

    :param n_inputs: inputs, M
    :param n_neurons: neurons, N
    :param beta: decay of the membrane per tick
    :param time_constants: of the adaptation in ticks; spread over the neurons between these two, on a logarithmic scale
    :param adaptation_gain: how far a rate of 1 raises the threshold
    """

    def __init__(
        self,
        n_inputs: int,
        n_neurons: int,
        beta: float = 0.8,
        time_constants: Sequence[float] = (20.0, 200.0),
        adaptation_gain: float = 10.0,
    ) -> None:
        super().__init__()
        M = n_inputs + n_neurons
        self.w = nn.Parameter(torch.randn(M, n_neurons) / M**0.5)
        self.b = nn.Parameter(torch.zeros(n_neurons))
        first, last = (torch.tensor(float(tau)).log() for tau in time_constants)
        self.raw_decay = nn.Parameter(torch.logit(torch.exp(-1 / torch.linspace(first, last, n_neurons).exp())))
        self.beta, self.adaptation_gain, self.n_outputs = beta, adaptation_gain, n_neurons

    def initial_state(self, n_envs: int) -> Any:
        """Membranes, spikes, adaptations: [B, N] each."""
        return tuple(self.w.new_zeros(n_envs, self.n_outputs) for _ in range(3))

    def scan(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        """See :class:`Body`."""
        v, z, a = state
        decay, spikes = torch.sigmoid(self.raw_decay), []
        n_inputs = inputs.shape[2]
        currents = inputs @ self.w[:n_inputs] + self.b
        threshold = 1 + self.adaptation_gain * a
        for current in currents:
            v = self.beta * v - threshold * z + current + z @ self.w[n_inputs:]
            a = decay * a + (1 - decay) * z
            threshold = 1 + self.adaptation_gain * a
            z = spike(v - threshold)
            spikes.append(z)
        return torch.stack(spikes), (v, z, a)


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
