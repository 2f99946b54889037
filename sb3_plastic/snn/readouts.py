"""Readouts turn the spikes of the last layer into a latent code.

Each is a module with ``initial_state(n_envs, random)`` and
``forward(spikes, episode_start, state) -> (latent, state)``, over T
steps at once. A new one is such a module and a line in ``READOUTS``. In a population its learned parameters have a
leading axis, one entry per row of the batch, over which it has to broadcast.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sb3_plastic.errors import check_number
from sb3_plastic.snn.scan.leaky import leaky_scan


class Readout(Protocol):
    """What :class:`~sb3_plastic.snn.network.PlasticSNN` asks of a readout."""

    def initial_state(self, n_envs: int, random: bool) -> Tensor:
        """The state at the start of an episode, [n_envs, ...]."""
        ...

    def __call__(self, spikes: Tensor, episode_start: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Spikes [T, K, B, N], bool [T, B] and the state: latent code [T, B, L], and the state after."""
        ...


class LeakyReadout(nn.Module):
    """
    Leaky integrator of the last layer's spikes, ``r[k] = decay r[k-1] + (1 - decay) z[k]``, read after the K ticks and
    scaled by ``gain``. It remembers from step to step, and forgets at the start of an episode.

    :param n_neurons: neurons of the last layer, N
    :param n_ticks: ticks per environment step, K
    :param decay: per tick, in [0, 1)
    :param gain: scale of the output; spike rates of .1 to .4 want about 2
    """

    def __init__(self, n_neurons: int, n_ticks: int, decay: float = 0.8, gain: float = 2.0) -> None:
        super().__init__()
        check_number("The readout's decay", decay, at_least=0, below=1)
        check_number("The readout's gain", gain)
        self.n_neurons, self.decay, self.gain = n_neurons, decay**n_ticks, gain
        # The K ticks of a step enter at once, each with what will be left of it at the end of the step.
        weights = (1 - decay) * decay ** torch.arange(n_ticks - 1, -1, -1, dtype=torch.float64)
        self.weights: Tensor
        self.register_buffer("weights", weights.float(), persistent=False)  # [K]

    def initial_state(self, n_envs: int, random: bool = True) -> Tensor:
        """Nothing integrated yet: [n_envs, N]."""
        return torch.zeros(n_envs, self.n_neurons)

    def forward(self, spikes: Tensor, episode_start: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """
        :param spikes: [T, K, B, N]
        :param episode_start: bool [T, B]
        :param state: [B, N]
        :return: filtered spikes [T, B, N], state
        """
        filtered, state = leaky_scan(spikes, self.weights, self.decay, episode_start, state)
        return self.gain * filtered, state


class RateReadout(nn.Module):
    """
    Mean of the last layer's spikes over the K ticks: no memory beyond the network's own.

    :param n_neurons: neurons of the last layer, N
    :param n_ticks: ticks per environment step, K
    :param gain: scale of the output
    """

    def __init__(self, n_neurons: int, n_ticks: int, gain: float = 2.0) -> None:
        super().__init__()
        check_number("The readout's gain", gain)
        self.gain = gain

    def initial_state(self, n_envs: int, random: bool = True) -> Tensor:
        """No memory: [n_envs, 0]."""
        return torch.zeros(n_envs, 0)

    def forward(self, spikes: Tensor, episode_start: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """
        :param spikes: [T, K, B, N]
        :param episode_start: bool [T, B]
        :param state: [B, 0]
        :return: rates [T, B, N], state
        """
        return self.gain * spikes.mean(1), state


READOUTS: dict[str, Any] = {"leaky": LeakyReadout, "rate": RateReadout}
"""Readouts by name."""
