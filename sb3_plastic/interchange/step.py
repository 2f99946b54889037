"""One step of a policy as a module of plain tensor operations: observation and state in, action and state out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import preprocess_obs
from torch import Tensor, nn

from sb3_plastic.copying import copied
from sb3_plastic.errors import UserError
from sb3_plastic.export import Normalization
from sb3_plastic.export.normalization import WHOLE
from sb3_plastic.policies import PlasticPolicy
from sb3_plastic.snn.encoders import PopulationEncoder
from sb3_plastic.snn.network import PlasticSNN
from sb3_plastic.snn.readouts import LeakyReadout, RateReadout
from sb3_plastic.snn.scan.reference import plastic_tick
from sb3_plastic.snn.state import LayerState, SNNState, masked_reset, reset_layer


def check_convertible(policy: Any, format_name: str) -> PlasticPolicy:
    """
    Refuse what other formats have no form for.

    :param policy: the policy
    :param format_name: of the other format, for the message
    :return: a copy of it on the CPU, so that what is made of it changes nothing of the original
    :raises UserError: saying what it is, and what to do instead
    """

    def refuse(what: str) -> UserError:
        return UserError(f"{format_name} export does not serve {what}. `sb3-plastic export` writes any policy.")

    if not isinstance(policy, PlasticPolicy):
        raise refuse(f"{type(policy).__name__}, only PlasticPolicy (SB3's documentation has recipes for the rest)")
    if policy.adaptive_policy() is not None:
        raise refuse("an adaptive layer, which the network alone would leave out")
    if not isinstance(policy.observation_space, spaces.Box):
        raise refuse(f"the observation space {policy.observation_space}: only boxes")
    if not isinstance(policy.action_space, spaces.Box | spaces.Discrete) or policy.squash_output:
        raise refuse(f"the action space {policy.action_space}: only boxes that are not squashed, and discrete ones")
    if isinstance(policy.snn.encoder, PopulationEncoder) and policy.snn.encoder.bernoulli:
        raise refuse("encoders that draw spikes at random")
    return copied(policy).cpu().eval()


class DeterministicStep(nn.Module):
    """
    The most likely action, and the next state, in plain tensor operations: a step of the reference backend.

    :param policy: the policy
    :param normalization: what it wants done to observations first
    """

    mean: Tensor
    std: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, policy: PlasticPolicy, normalization: Normalization | None = None) -> None:
        super().__init__()
        self.policy = policy
        self.discrete = isinstance(policy.action_space, spaces.Discrete)
        self.scaled = normalization is not None and bool(normalization.mean)
        if normalization is not None and self.scaled:
            self.clip = normalization.clip
            self.register_buffer("mean", torch.as_tensor(normalization.mean[WHOLE]))
            std = np.sqrt(normalization.variance[WHOLE] + normalization.epsilon)
            self.register_buffer("std", torch.as_tensor(std))
        if isinstance(policy.action_space, spaces.Box):
            self.register_buffer("low", torch.as_tensor(policy.action_space.low))
            self.register_buffer("high", torch.as_tensor(policy.action_space.high))

    def features(self, observation: Tensor) -> Tensor:
        """:param observation: [B, ...], as the environment gives it"""
        if self.scaled:
            observation = ((observation - self.mean) / self.std).clamp(-self.clip, self.clip).float()
        policy = self.policy
        processed = preprocess_obs(observation, policy.observation_space, policy.normalize_images)
        return policy.pi_features_extractor(processed)

    def action(self, latent: Tensor) -> Tensor:
        """:param latent: [B, N]"""
        values = self.policy.action_net(latent)
        if self.discrete:
            return values.argmax(-1)
        return torch.minimum(torch.maximum(values.reshape(-1, *self.low.shape), self.low), self.high)

    def forward(self, observation: Tensor, episode_start: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """
        :param observation: [B, ...], as the environment gives it
        :param episode_start: bool [B]
        :param state: the tensors of the actor's state that are not empty
        :return: action [B, ...], and the state after, likewise
        """
        whole = whole_state(self.policy.snn, state, len(episode_start))
        latent, after = network_step(self.policy.snn, self.features(observation), episode_start, whole)
        return self.action(latent), *(tensor for tensor in after.tensors() if tensor.numel())


def network_step(net: PlasticSNN, features: Tensor, episode_start: Tensor, state: SNNState) -> tuple[Tensor, SNNState]:
    """
    One environment step of a network, tick by tick: what :meth:`PlasticSNN.step` computes.

    :param net: the network
    :param features: [B, F]
    :param episode_start: bool [B]
    :param state: before the step
    :return: latent code [B, N], and the state after
    """
    x, encoder_state = net.encoder(features.unsqueeze(0), episode_start.unsqueeze(0), state.encoder)
    inputs = [x[0, k] for k in range(net.config.n_ticks)]
    states = []
    for layer, before in zip(net.layers, state.layers, strict=True):
        p = layer.effective_parameters()
        external = layer.external_modulator(features)
        layer_state = reset_layer(before, episode_start, layer.config.keep_fast_weights)
        spikes = []
        for x_k in inputs:
            layer_state = plastic_tick(x_k, layer_state, p, layer.config, external)
            spikes.append(layer_state.z)
        states.append(layer_state)
        inputs = spikes
    latent, readout_state = read_out(net, inputs, episode_start, state.readout)
    return latent, SNNState(encoder_state, tuple(states), readout_state)


def read_out(net: PlasticSNN, spikes: list[Tensor], episode_start: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """
    The readout in plain tensor operations.

    :param net: the network
    :param spikes: of the last layer, [B, N] for each tick
    :param episode_start: bool [B]
    :param state: of the readout, [B, N]; [B, 0] of one without memory
    :return: latent code [B, N], and the state after
    :raises UserError: on another readout
    """
    readout = net.readout
    if isinstance(readout, LeakyReadout):
        state = readout.decay * masked_reset(state, episode_start)
        for z, weight in zip(spikes, readout.weights.tolist(), strict=True):
            state = state + weight * z
        return readout.gain * state, state
    if isinstance(readout, RateReadout):
        return readout.gain * torch.stack(spikes).mean(0), state
    raise UserError(f"The readout {type(readout).__name__} has no form in plain tensor operations.")


def whole_state(net: PlasticSNN, given: tuple[Tensor, ...], n_envs: int) -> SNNState:
    """
    A state from its tensors that are not empty.

    :param net: the network
    :param given: those tensors, in the order of ``SNNState.tensors``
    :param n_envs: number of rows, B
    """
    rest = iter(given)
    return SNNState.from_tensors(
        [next(rest) if tensor.numel() else tensor for tensor in net.initial_state(n_envs, random=False).tensors()]
    )


def state_names(net: PlasticSNN) -> list[str]:
    """Names of the tensors of a network's state that are not empty: ``layer0.v`` and so on. :param net: the network"""
    names = ["encoder", *(f"layer{i}.{name}" for i in range(len(net.layers)) for name in LayerState._fields), "readout"]
    tensors = net.initial_state(1, random=False).tensors()
    return [name for name, tensor in zip(names, tensors, strict=True) if tensor.numel()]


def begun(state: Any, fresh: tuple[Tensor, ...], episode_start: Any) -> tuple[Tensor, ...]:
    """
    The state with which a step begins: afresh where an episode does.

    :param state: tensors [B, ...]; None: no episode has begun
    :param fresh: the state at the start of an episode, alike
    :param episode_start: bool [B]; None: nowhere
    """
    if state is None:
        return fresh
    if episode_start is None:
        return tuple(state)
    starts = torch.as_tensor(np.asarray(episode_start, bool)).view(-1, 1)
    return tuple(torch.where(starts, new, old) for new, old in zip(fresh, state, strict=True))
