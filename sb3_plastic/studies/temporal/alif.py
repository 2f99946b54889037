"""Neurons with an adaptive threshold: memory without plasticity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sb3_plastic.snn.surrogate import spike


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
        """See :class:`~sb3_plastic.studies.temporal.bodies.Body`."""
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
