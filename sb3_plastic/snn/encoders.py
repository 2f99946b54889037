"""Encoders turn features into the input of the first layer.

Each is a module with ``initial_state(n_envs, random)`` and
``forward(features, episode_start, state) -> (input, state)``, over T
steps at once. A new one is such a module and a line in ``ENCODERS``. In a population its learned parameters have a
leading axis, one entry per row of the batch, over which it has to broadcast.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sb3_plastic.errors import UserError, check_number


class Encoder(Protocol):
    """What :class:`~sb3_plastic.snn.network.PlasticSNN` asks of an encoder."""

    n_outputs: int

    def initial_state(self, n_envs: int, random: bool) -> Tensor:
        """The state at the start of an episode, [n_envs, ...]."""
        ...

    def __call__(self, features: Tensor, episode_start: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Features [T, B, F], bool [T, B] and the state: inputs of the first layer, and the state after."""
        ...


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
    widths to an activity ``a = exp(-((f - mean) / width)^2 / 2)`` in (0, 1], which is their spike probability per tick,
    or itself the current that enters the first layer (``analog``, as in MDC-SAN: Zhang et al., 2022).

    :param n_inputs: number of features, F
    :param n_ticks: ticks per environment step, K
    :param n_neurons: neurons per feature, P
    :param low: of the range that the means cover at the start, in the features' units
    :param high: likewise
    :param bernoulli: draw the spikes at random; else they are spread evenly over the ticks. The key of the random
        numbers is the encoder's state: it goes on over episodes, and to replay a sequence is to replay its spikes.
    :param analog: no spikes; the activities are currents that stay for the whole step
    :raises UserError: on a range or a number of neurons that makes no code, or ``bernoulli`` with ``analog``
    """

    def __init__(
        self,
        n_inputs: int,
        n_ticks: int,
        n_neurons: int = 10,
        low: float = -3.0,
        high: float = 3.0,
        bernoulli: bool = False,
        analog: bool = False,
    ) -> None:
        super().__init__()
        check_number("low", low)
        check_number("high", high)
        if bernoulli and analog:
            raise UserError("bernoulli draws spikes and analog has none: choose one of them.")
        check_number("n_neurons", n_neurons, at_least=2, integer=True)
        if not low < high:
            raise UserError(f"A population code needs low < high, got {low}, {high}.")
        self.n_ticks, self.n_outputs, self.bernoulli, self.analog = n_ticks, n_inputs * n_neurons, bernoulli, analog
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
        :return: spikes [T, K, B, F * P] (``analog``: activities, a view), state
        """
        T, K = features.shape[0], self.n_ticks
        distance = (features.unsqueeze(-1) - self.mean) * torch.exp(-self.log_width)  # [T, B, F, P]
        activity = torch.exp(-0.5 * distance**2).flatten(2).unsqueeze(1).expand(-1, K, -1, -1)  # [T, K, B, F * P]
        if self.analog:
            return activity, state
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


ENCODERS: dict[str, Any] = {"current": CurrentEncoder, "population": PopulationEncoder}
"""Encoders by name."""
