"""Stepping a policy with a state: from observations to actions, with tensors inside and arrays at SB3's border."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from threading import Lock

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy, BaseModel
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor

from sb3_plastic.errors import NotFiniteError, UserError
from sb3_plastic.finite import check_parameters, check_state
from sb3_plastic.observations import check_observation, map_obs
from sb3_plastic.snn.interventions import state_names
from sb3_plastic.snn.network import PlasticSNN, PreparedSNN
from sb3_plastic.snn.state import SNNState, masked_reset, tensors_from_arrays

State = tuple[Tensor, ...]
"""The state of all networks of a policy, one after the other: tensors with the environment axis first."""

_LOCK, _before = Lock(), list[bool]()  # whether torch's distributions checked, once for each thread that is inside


@contextmanager
def unvalidated_distributions() -> Iterator[None]:
    """
    Inside, torch's distributions do not check their arguments, which takes a tenth of a step's time. The caller checks
    the outcome.
    """
    distribution = torch.distributions.Distribution
    with _LOCK:
        _before.append(_before[0] if _before else distribution._validate_args)
        distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        with _LOCK:
            before = _before.pop()
            if not _before:
                distribution.set_default_validate_args(before)


@contextmanager
def evaluating(policy: BaseModel) -> Iterator[None]:
    """Inside, batch norm and dropout of a features extractor are as in a rollout. Afterwards all is as it was."""
    training = policy.training
    policy.set_training_mode(False)
    try:
        yield
    finally:
        policy.set_training_mode(training)


def initial_state(networks: Sequence[PlasticSNN], n_envs: int, random: bool = True) -> State:
    """
    The state of networks at the start of an episode.

    :param networks: actor and, if it is plastic, critic
    :param n_envs: number of environments, B
    :param random: draw the keys of random encoders; else they are always the same
    """
    return tuple(tensor for net in networks for tensor in net.initial_state(n_envs, random).tensors())


def scan(net: PlasticSNN | PreparedSNN, features: Tensor, episode_starts: Tensor, state: State) -> tuple[Tensor, State]:
    """
    Run a network over flattened steps.

    :param net: network, or a prepared one
    :param features: [T * B, F], time first
    :param episode_starts: bool [T, B]
    :param state: the network's own, before the first step
    :return: latent code [T * B, N], and the state after
    """
    features = features.reshape(*episode_starts.shape, *features.shape[1:])
    latent, after = net.scan(features, episode_starts, SNNState.from_tensors(state))
    return latent.flatten(0, 1), after.tensors()


def flatten_steps(value: Tensor, steps: slice) -> Tensor:
    """[T, B, ...] -> [len(steps) * B, ...]."""
    return value[steps].flatten(0, 1)


class PolicyStepper:
    """
    A policy with networks that may have been prepared: for many steps between two updates. It holds no state.

    :param policy: the policy, for features extractors and heads
    :param networks: the policy's networks
    :param actor: the actor's network, or a prepared one
    :param critic: the critic's, None for an MLP
    """

    def __init__(
        self,
        policy: ActorCriticPolicy,
        networks: Sequence[PlasticSNN],
        actor: PlasticSNN | PreparedSNN,
        critic: PlasticSNN | PreparedSNN | None,
    ) -> None:
        self.policy, self.networks, self.actor, self.critic = policy, networks, actor, critic

    def is_current(self) -> bool:
        """Whether prepared networks still have the parameters of the policy: see :meth:`PreparedSNN.is_current`."""
        return all(net.is_current() for net in (self.actor, self.critic) if isinstance(net, PreparedSNN))

    def split_state(self, state: State) -> tuple[State, State]:
        """The actor's part of a state, and the critic's (empty for an MLP)."""
        n = SNNState.n_tensors(len(self.networks[0].layers))
        return state[:n], state[n:]

    def latents(self, obs: PyTorchObs, episode_starts: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """
        Run all networks.

        :param obs: [T * B, ...], time first
        :param episode_starts: bool [T, B]
        :param state: before the first step
        :return: what the heads of actor and critic take, [T * B, N] each, and the state after
        """
        features = self.policy.extract_features(obs)
        pi_features, vf_features = features if isinstance(features, tuple) else (features, features)
        actor_state, critic_state = self.split_state(state)
        latent_pi, actor_state = scan(self.actor, pi_features, episode_starts, actor_state)
        if self.critic is None:
            return latent_pi, vf_features, actor_state + critic_state
        latent_vf, critic_state = scan(self.critic, vf_features, episode_starts, critic_state)
        return latent_pi, latent_vf, actor_state + critic_state

    def critic_latent(self, obs: PyTorchObs, episode_starts: Tensor, state: State) -> Tensor:
        """
        Run the critic alone.

        :param obs: [T * B, ...], time first
        :param episode_starts: bool [T, B]
        :param state: of all networks, before the first step
        :return: what the critic's head takes, [T * B, N]
        """
        features = BaseModel.extract_features(self.policy, obs, self.policy.vf_features_extractor)
        if self.critic is None:
            return features
        return scan(self.critic, features, episode_starts, self.split_state(state)[1])[0]

    def chunk_states(self, obs: PyTorchObs, episode_starts: Tensor, state: State, chunk_len: int) -> list[Tensor]:
        """
        The states from which chunks of a rollout start.

        :param obs: [T, B, ...]
        :param episode_starts: bool [T, B]
        :param state: state before the first step
        :param chunk_len: steps per chunk, L
        :return: as many tensors as a state has, each [T / L, B, ...]
        """
        states = []
        with torch.no_grad(), evaluating(self.policy):
            for t in range(0, len(episode_starts), chunk_len):
                states.append(state)
                steps = slice(t, t + chunk_len)
                chunk = map_obs(partial(flatten_steps, steps=steps), obs)
                state = self.latents(chunk, episode_starts[steps], state)[2]
        return [torch.stack(tensors) for tensors in zip(*states, strict=True)]

    def sample(
        self, obs: PyTorchObs, state: State, episode_starts: Tensor, deterministic: bool = False
    ) -> tuple[Tensor, tuple[Tensor, Tensor], State]:
        """
        One step of all networks, for rollouts: values and log probabilities are computed later, of many steps at once.

        :param obs: observations [B, ...]
        :param state: state before the step
        :param episode_starts: bool [B]
        :param deterministic: take the most likely actions
        :return: actions as the distribution gives them, what the heads of actor and critic take, and the state after
        :raises UserError: if an action is not finite
        """
        latent_pi, latent_vf, state = self.latents(obs, episode_starts.unsqueeze(0), state)
        with unvalidated_distributions():
            actions = self.policy._get_action_dist_from_latent(latent_pi).get_actions(deterministic=deterministic)
        if not math.isfinite(actions.detach().sum()):
            check_parameters(self.policy.named_parameters(), "There is no action")
            raise NotFiniteError(
                f"The policy's actions are not finite: {actions[~actions.isfinite()][:3].tolist()}. Its parameters "
                "have probably diverged: try a lower learning rate."
            )
        return actions, (latent_pi, latent_vf), state

    def act(
        self, obs: PyTorchObs, state: State, episode_starts: Tensor, deterministic: bool = False
    ) -> tuple[np.ndarray, State]:
        """
        One step of the actor alone.

        :param obs: [B, ...]
        :param state: state before the step
        :param episode_starts: bool [B]
        :param deterministic: take the most likely actions
        :return: actions as environments take them, [B, ...], and the state after
        """
        policy = self.policy
        features = BaseModel.extract_features(policy, obs, policy.pi_features_extractor)
        actor_state, critic_state = self.split_state(state)
        latent_pi, actor_state = scan(self.actor, features, episode_starts.unsqueeze(0), actor_state)
        chosen = policy._get_action_dist_from_latent(latent_pi).get_actions(deterministic=deterministic)
        actions = chosen.cpu().numpy().reshape((-1, *(policy.action_space.shape or ())))
        if isinstance(policy.action_space, spaces.Box):
            if policy.squash_output:
                actions = policy.unscale_action(actions)
            else:
                actions = np.clip(actions, policy.action_space.low, policy.action_space.high)
        return actions, actor_state + critic_state

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """
        Actions for observations, and the state to pass in next time.

        :param observation: of one environment or of several (first axis)
        :param state: what the last call returned, None to start afresh
        :param episode_start: where an episode starts, [B]; there the state is reset first
        :param deterministic: take the most likely actions
        :return: actions, and the state as a tuple of arrays with the environment axis first
        :raises UserError: on observations of the wrong shape, a state of other environments, or on an observation, a
            state or a parameter that is not finite
        """
        policy = self.policy
        policy.set_training_mode(False)
        if isinstance(observation, tuple):
            raise UserError(
                "You have passed a tuple to the predict() function instead of a Numpy array or a Dict. "
                "You are probably mixing Gym API with SB3 VecEnv API: `obs, info = env.reset()` (Gym) "
                "vs `obs = vec_env.reset()` (SB3 VecEnv)."
            )
        obs_tensor, vectorized_env = policy.obs_to_tensor(observation)
        first = next(iter(obs_tensor.values())) if isinstance(obs_tensor, dict) else obs_tensor
        n_envs = len(first)
        check_observation(map_obs(lambda tensor: tensor.cpu().numpy(), obs_tensor))
        starts = np.zeros(n_envs, bool) if episode_start is None else np.asarray(episode_start).reshape(-1)
        if len(starts) != n_envs:
            raise UserError(
                f"episode_start has {len(starts)} entries, but there are observations of {n_envs} environments."
            )
        with torch.no_grad():
            if state is None:
                tensors = initial_state(self.networks, n_envs, random=not deterministic)
            else:  # fast weights of many environments take long to make: here they only show their shape
                tensors = tensors_from_arrays(state, initial_state(self.networks, 1, random=False), n_envs)
            starts_tensor = torch.as_tensor(starts.astype(bool), device=policy.device)
            try:
                actions, new_state = self.act(obs_tensor, tensors, starts_tensor, deterministic)
                check_state(new_state, state_names(self.networks), "There is no action")
            except ValueError:
                check_parameters(policy.named_parameters(), "There is no action")  # the cause, if it is one
                before = [masked_reset(tensor, starts_tensor) for tensor in tensors]
                check_state(before, state_names(self.networks), "There is no action")
                raise
        if not vectorized_env:
            actions = actions.squeeze(axis=0)
        # A copy: an array that shared memory with a tensor would change under its owner's hands.
        return actions, tuple(tensor.cpu().numpy().copy() for tensor in new_state)
