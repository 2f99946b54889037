"""Encoders turn features into the input of the first layer, readouts turn spikes of the last layer into a latent code.

Each is a module with ``initial_state(n_envs, random)`` and ``forward(input, episode_start, state) -> (output, state)``,
over T steps at once. A new one is such a module and a line in ``ENCODERS`` or ``READOUTS``. In a population its learned
parameters have a leading axis, one entry per row of the batch, over which it has to broadcast.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sb3_plastic.snn.scan.leaky import leaky_scan


class Readout(Protocol):
    """What :class:`~sb3_plastic.snn.network.PlasticSNN` asks of a readout."""

    def initial_state(self, n_envs: int, random: bool) -> Tensor: ...

    def __call__(self, inputs: Tensor, episode_start: Tensor, state: Tensor) -> tuple[Tensor, Tensor]: ...


class Encoder(Readout, Protocol):
    """What :class:`~sb3_plastic.snn.network.PlasticSNN` asks of an encoder."""

    n_outputs: int


class CurrentEncoder(nn.Module):
    """
    Features as currents that stay for the whole environment step. The learned linear map is the first layer's own: its
    synapses see the features, and are plastic like all others.

    :param n_inputs: number of features
    :param n_ticks: ticks per environment step, K
    """

    def __init__(self, n_inputs: int, n_ticks: int) -> None:
        super().__init__()
        self.n_ticks, self.n_outputs = n_ticks, n_inputs

    def initial_state(self, n_envs: int, random: bool = True) -> Tensor:
        """No memory: [n_envs, 0]."""
        return torch.zeros(n_envs, 0, dtype=torch.int64)

    def forward(self, features: Tensor, episode_start: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """
        :param features: [T, B, F]
        :param episode_start: bool [T, B]
        :param state: [B, 0]
        :return: currents [T, K, B, F] (a view), state
        """
        return features.unsqueeze(1).expand(-1, self.n_ticks, -1, -1), state


class _StraightThrough(torch.autograd.Function):
    # `hard` forward, the gradient of `soft` backward. The usual trick, hard + soft - soft.detach(),
    # is not exactly 0 or 1.

    generate_vmap_rule = True

    @staticmethod
    def forward(hard: Tensor, soft: Tensor) -> Tensor:
        return hard.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor]:
        return None, grads[0]


def counter_uniform(key: Tensor, n: int) -> Tensor:
    """
    Uniform numbers that are a pure function of a key, so that a key is all that has to be stored to draw them again.
    An integer hash in counter mode: two rounds of the 32-bit mixer "lowbias32" (Wellons, 2018).

    :param key: int64, any shape
    :param n: how many numbers per key
    :return: float32 in [0, 1), [*key.shape, n]
    """

    def mix(x: Tensor) -> Tensor:
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
            x = ((x ^ (x >> shift)) * factor) & 0xFFFFFFFF
        return x ^ (x >> 16)

    counter = torch.arange(n, dtype=torch.int64, device=key.device)
    return (mix(mix(key & 0xFFFFFFFF).unsqueeze(-1) ^ mix(counter + 1)) >> 8).float() * 2.0**-24


class PopulationEncoder(nn.Module):
    """
    Gaussian population code, as in PopSAN (Tang et al., 2020): each feature f drives P neurons with learned means and
    widths to an activity ``a = exp(-((f - mean) / width)^2 / 2)`` in (0, 1], which is their spike probability per tick.

    :param n_inputs: number of features, F
    :param n_ticks: ticks per environment step, K
    :param n_neurons: neurons per feature, P
    :param low, high: range of the features that the means cover at the start, in the features' units
    :param bernoulli: draw the spikes at random; else they are spread evenly over the ticks. The key of the random
        numbers is the encoder's state: it goes on over episodes, and to replay a sequence is to replay its spikes.
    """

    def __init__(
        self,
        n_inputs: int,
        n_ticks: int,
        n_neurons: int = 10,
        low: float = -3.0,
        high: float = 3.0,
        bernoulli: bool = False,
    ) -> None:
        super().__init__()
        if n_neurons < 2 or not low < high:
            raise ValueError(f"A population code needs n_neurons >= 2 and low < high, got {n_neurons}, {low}, {high}.")
        self.n_ticks, self.n_outputs, self.bernoulli = n_ticks, n_inputs * n_neurons, bernoulli
        means = torch.linspace(low, high, n_neurons)
        self.mean = nn.Parameter(means.repeat(n_inputs, 1))  # [F, P]
        # Neighbours overlap at one standard deviation; the logarithm keeps the width above 0.
        self.log_width = nn.Parameter((means[1] - means[0]).log().expand(n_inputs, n_neurons).clone())

    def initial_state(self, n_envs: int, random: bool = True) -> Tensor:
        """Keys of the random numbers, int64 [n_envs, 1]; [n_envs, 0] if none are drawn."""
        if not self.bernoulli:
            return torch.zeros(n_envs, 0, dtype=torch.int64)
        return torch.randint(2**31, (n_envs, 1)) if random else torch.arange(n_envs).unsqueeze(1) << 16

    def forward(self, features: Tensor, episode_start: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """
        :param features: [T, B, F]
        :param episode_start: bool [T, B]
        :param state: int64 [B, 1] or [B, 0]
        :return: spikes [T, K, B, F * P], state
        """
        T, K = features.shape[0], self.n_ticks
        distance = (features.unsqueeze(-1) - self.mean) * torch.exp(-self.log_width)  # [T, B, F, P]
        activity = torch.exp(-0.5 * distance**2).flatten(2).unsqueeze(1).expand(-1, K, -1, -1)  # [T, K, B, F * P]
        ticks = torch.arange(K, device=features.device)
        if self.bernoulli:
            steps = torch.arange(T, device=features.device).view(T, 1, 1)
            key = (state.squeeze(1) + steps) * K + ticks.unsqueeze(1)  # [T, K, B]
            spikes = counter_uniform(key, self.n_outputs) < activity
            state = state + T
        else:
            phase = ticks.view(K, 1, 1) * activity + 0.5
            spikes = torch.floor(phase + activity) > torch.floor(phase)
        return _StraightThrough.apply(spikes.to(features.dtype), activity), state


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
        if not 0 <= decay < 1:
            raise ValueError(f"The readout's decay must be in [0, 1), got {decay}.")
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


ENCODERS: dict[str, Any] = {"current": CurrentEncoder, "population": PopulationEncoder}
"""Encoders by name."""

READOUTS: dict[str, Any] = {"leaky": LeakyReadout, "rate": RateReadout}
"""Readouts by name."""


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
