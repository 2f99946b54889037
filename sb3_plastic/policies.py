"""The border between SB3 (numpy, spaces, distributions) and the plastic spiking network (tensors, state as a value)."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.torch_layers import (
    BaseFeaturesExtractor,
    CombinedExtractor,
    MlpExtractor,
    NatureCNN,
)
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor, nn

from sb3_plastic.buffers import Sequences
from sb3_plastic.errors import check_choice
from sb3_plastic.export import Normalization, export_policy
from sb3_plastic.observations import check_observation, map_obs
from sb3_plastic.snn.coding import PopulationDecoder
from sb3_plastic.snn.interventions import PlasticityInterventions
from sb3_plastic.snn.network import PlasticSNN
from sb3_plastic.snn.state import SNNState, tensors_from_arrays

State = tuple[Tensor, ...]


@contextmanager
def unvalidated_distributions() -> Iterator[None]:
    """
    Inside this context torch's distributions do not check what they are given, for which they need a tenth of a step's
    time. Whoever uses it looks at the outcome.
    """
    before = torch.distributions.Distribution._validate_args
    torch.distributions.Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        torch.distributions.Distribution.set_default_validate_args(before)


def flatten_steps(value: Tensor, steps: slice) -> Tensor:
    """[T, B, ...] -> [len(steps) * B, ...]."""
    return value[steps].flatten(0, 1)


class PlasticPolicy(PlasticityInterventions, ActorCriticPolicy):
    """
    Actor-critic policy whose actor is a plastic spiking network. Its state lives as long as an episode.

    All arguments are plain data, and those of :class:`~sb3_plastic.snn.network.PlasticSNN` (``rule``, ``modulation``,
    ``n_ticks``, ``recurrent``, ...) are accepted as well, as are those of SB3's ``ActorCriticPolicy``.

    :param observation_space: observation space
    :param action_space: any action space that SB3's on-policy algorithms serve
    :param lr_schedule: learning rate schedule
    :param net_arch: ``pi``: neurons of each spiking layer; ``vf``: units of each layer of the critic
    :param critic: ``mlp``, or ``plastic``: a spiking critic with a state of its own
    :param decoder: ``linear``, or ``population``: a further spiking layer in which each number that the action
        distribution needs has ``decoder_neurons`` neurons of its own; lists with a value per layer count it as well
    :param decoder_neurons: for the population decoder
    :param decoder_gain: scale of the orthogonal initialisation of the linear decoder
    :param log_std_init: initial log standard deviation of continuous actions
    :param critic_lr_scale: the critic's learning rate, as a multiple of the policy's
    :param plasticity_lr_scale: the learning rate of alpha, eta, the modulator and the learned rates, likewise
    :param snn_kwargs: arguments of :class:`~sb3_plastic.snn.network.PlasticSNN`
    :param kwargs: arguments of SB3's ``ActorCriticPolicy``, or of :class:`~sb3_plastic.snn.network.PlasticSNN`
    :raises ValueError: on an unknown argument or name, or a number out of range
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        net_arch: list[int] | dict[str, list[int]] | None = None,
        critic: str = "mlp",
        decoder: str = "linear",
        decoder_neurons: int = 10,
        decoder_gain: float = 0.1,
        log_std_init: float = -1.0,
        critic_lr_scale: float = 2.0,
        plasticity_lr_scale: float = 3.0,
        snn_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        check_choice("critic", critic, ("mlp", "plastic"))
        check_choice("decoder", decoder, ("linear", "population"))
        sb3_names = inspect.signature(ActorCriticPolicy.__init__).parameters
        snn_names = [
            name for name in inspect.signature(PlasticSNN).parameters if name not in ("n_inputs", "layer_sizes")
        ]
        self.snn_kwargs = dict(snn_kwargs or {})
        self.snn_kwargs |= {name: kwargs.pop(name) for name in snn_names if name in kwargs}
        for name in [*kwargs, *self.snn_kwargs]:
            if name not in sb3_names and name not in snn_names:
                close = get_close_matches(name, [*snn_names, *sb3_names], 1)
                hint = f"Did you mean {close[0]!r}? " if close else ""
                raise ValueError(
                    f"PlasticPolicy has no argument {name!r}. {hint}The network's are {', '.join(snn_names)}."
                )
        self.critic, self.decoder = critic, decoder
        self.decoder_neurons, self.decoder_gain = decoder_neurons, decoder_gain
        self.critic_lr_scale, self.plasticity_lr_scale = critic_lr_scale, plasticity_lr_scale

        if isinstance(net_arch, list) and net_arch and isinstance(net_arch[0], dict):
            net_arch = net_arch[0]  # the format before SB3 1.8, with SB3's warning
            warnings.warn("Pass net_arch=dict(pi=..., vf=...) instead of net_arch=[dict(pi=..., vf=...)]", stacklevel=2)
        sizes = net_arch if isinstance(net_arch, dict) else {} if net_arch is None else dict(pi=net_arch, vf=net_arch)
        net_arch = dict(pi=list(sizes.get("pi", [64, 64])), vf=list(sizes.get("vf", [64, 64])))
        super().__init__(
            observation_space, action_space, lr_schedule, net_arch=net_arch, log_std_init=log_std_init, **kwargs
        )

    def _get_constructor_parameters(self) -> dict[str, Any]:
        names = (
            *("critic", "decoder", "decoder_neurons", "decoder_gain", "critic_lr_scale", "plasticity_lr_scale"),
            *("snn_kwargs", "share_features_extractor"),
        )
        return super()._get_constructor_parameters() | {name: getattr(self, name) for name in names}

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)  # heads and their initialisation, from the sizes of _build_mlp_extractor
        if self.decoder == "population":
            self.action_net = PopulationDecoder(self.snn.n_outputs // self.decoder_neurons, self.decoder_neurons)
        elif self.ortho_init:
            self.action_net.apply(lambda module: self.init_weights(module, gain=self.decoder_gain))
        # Adam in one call per group instead of a dozen per tensor: these are many, and small.
        fused = {"fused": True} if issubclass(self.optimizer_class, torch.optim.Adam) else {}
        self.optimizer = self.optimizer_class(  # type: ignore[call-arg]
            self.parameter_groups(), lr=lr_schedule(1), **fused | self.optimizer_kwargs
        )

    def _build_mlp_extractor(self) -> None:
        assert isinstance(self.net_arch, dict)
        pi, vf = list(self.net_arch["pi"]), list(self.net_arch["vf"])
        if self.decoder == "population":
            pi.append(self._n_distribution_parameters() * self.decoder_neurons)
        self.snn = PlasticSNN(self.features_dim, pi, **self.snn_kwargs)
        self.critic_snn = PlasticSNN(self.features_dim, vf, **self.snn_kwargs) if self.critic == "plastic" else None
        # SB3's extractor serves as the critic's, and tells the heads their input sizes.
        self.mlp_extractor = MlpExtractor(self.features_dim, dict(vf=vf), self.activation_fn, device=self.device)
        self.mlp_extractor.latent_dim_pi = self.snn.n_outputs
        if self.critic_snn is not None:
            self.mlp_extractor.value_net = nn.Sequential()
            self.mlp_extractor.latent_dim_vf = self.critic_snn.n_outputs

    def _n_distribution_parameters(self) -> int:
        """How many numbers the action distribution takes from the decoder."""
        head = self.action_dist.proba_distribution_net(1)
        return (head[0] if isinstance(head, tuple) else head).out_features  # type: ignore[return-value]

    def parameter_groups(self) -> list[dict[str, Any]]:
        """
        Actor, plasticity and critic, each with the multiple of the learning rate at which it learns.

        :return: parameter groups for the optimiser, with the keys ``name`` and ``lr_scale``
        """
        critic: list[nn.Module] = [self.mlp_extractor, self.value_net]
        if self.critic_snn is not None:
            critic.append(self.critic_snn)
        if not self.share_features_extractor:
            critic.append(self.vf_features_extractor)
        groups = {
            "critic": [parameter for module in critic for parameter in module.parameters()],
            "plasticity": self.snn.plasticity_parameters(),
        }
        taken = {id(parameter) for parameters in groups.values() for parameter in parameters}
        groups["actor"] = [parameter for parameter in self.parameters() if id(parameter) not in taken]
        scales = {"critic": self.critic_lr_scale, "plasticity": self.plasticity_lr_scale, "actor": 1.0}
        return [
            dict(params=parameters, name=name, lr_scale=scales[name])
            for name, parameters in groups.items()
            if parameters
        ]

    def actor_parameters(self) -> list[nn.Parameter]:
        """All that decides the most likely action, in a fixed order: features, spiking network, decoder."""
        modules: list[nn.Module] = [self.pi_features_extractor, self.snn, self.action_net]
        return [parameter for module in modules for parameter in module.parameters()]

    def networks(self) -> list[PlasticSNN]:
        """The spiking networks: the actor's and, if it is plastic, the critic's."""
        return [self.snn] if self.critic_snn is None else [self.snn, self.critic_snn]

    # State

    def initial_state(self, n_envs: int, random: bool = True) -> State:
        """
        The state at the start of an episode, as a flat tuple of tensors; opaque to all but this class.

        :param n_envs: number of environments, B
        :param random: draw the keys of random encoders; else they are always the same
        """
        return tuple(tensor for net in self.networks() for tensor in net.initial_state(n_envs, random).tensors())

    # Forward passes. Observations are [T * B, ...] throughout, time first; T = len(episode_starts).

    def _latents(self, obs: PyTorchObs, episode_starts: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """
        :param obs: [T * B, ...]
        :param episode_starts: bool [T, B]
        :param state: before the first step
        :return: what :meth:`evaluate_latents` takes of actor and critic, [T * B, N] each, and the state after
        """
        features = self.extract_features(obs)
        pi_features, vf_features = features if isinstance(features, tuple) else (features, features)
        actor_state, critic_state = self.split_state(state)
        latent_pi, actor_state = self._scan(self.snn, pi_features, episode_starts, actor_state)
        if self.critic_snn is None:
            return latent_pi, vf_features, actor_state + critic_state
        latent_vf, critic_state = self._scan(self.critic_snn, vf_features, episode_starts, critic_state)
        return latent_pi, latent_vf, actor_state + critic_state

    def split_state(self, state: State) -> tuple[State, State]:
        """The actor's part of a state, and the critic's (empty for an MLP)."""
        n = SNNState.n_tensors(len(self.snn.layers))
        return state[:n], state[n:]

    @staticmethod
    def _scan(net: PlasticSNN, features: Tensor, episode_starts: Tensor, state: State) -> tuple[Tensor, State]:
        features = features.reshape(*episode_starts.shape, *features.shape[1:])
        latent, snn_state = net.scan(features, episode_starts, SNNState.from_tensors(state))
        return latent.flatten(0, 1), snn_state.tensors()

    def forward(  # type: ignore[override]
        self, obs: PyTorchObs, state: State, episode_starts: Tensor, deterministic: bool = False
    ) -> tuple[Tensor, Tensor, Tensor, State]:
        """
        One step in all networks.

        :param obs: observations [B, ...]
        :param state: state before the step
        :param episode_starts: bool [B]
        :param deterministic: take the most likely actions
        :return: actions, values [B, 1], log probabilities [B], and the state after
        :raises ValueError: if an action is not finite
        """
        actions, latents, state = self.sample(obs, state, episode_starts, deterministic)
        values, log_prob, _ = self.evaluate_latents(*latents, actions)
        return actions.reshape((-1, *self.action_space.shape)), values, log_prob, state  # type: ignore[misc]

    def sample(
        self, obs: PyTorchObs, state: State, episode_starts: Tensor, deterministic: bool = False
    ) -> tuple[Tensor, tuple[Tensor, Tensor], State]:
        """
        One step in all networks, for the collection of rollouts: what the actions are worth is asked later, of many
        steps at once.

        :param obs: observations [B, ...]
        :param state: state before the step
        :param episode_starts: bool [B]
        :param deterministic: take the most likely actions
        :return: actions as the distribution gives them, what :meth:`evaluate_latents` takes, and the state after
        :raises ValueError: if an action is not finite
        """
        latent_pi, latent_vf, state = self._latents(obs, episode_starts.unsqueeze(0), state)
        with unvalidated_distributions():
            actions = self._get_action_dist_from_latent(latent_pi).get_actions(deterministic=deterministic)
        if not math.isfinite(actions.sum()):
            raise ValueError(
                f"The policy's actions are not finite: {actions[~actions.isfinite()][:3].tolist()}. Its parameters "
                "have probably diverged: try a lower learning rate."
            )
        return actions, (latent_pi, latent_vf), state

    def evaluate_latents(
        self, latent_pi: Tensor, latent_vf: Tensor, actions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """
        Heads of actor and critic, which have no state: for any number n of steps.

        :param latent_pi: the actor's latent code, [n, N]
        :param latent_vf: the critic's features or, if it is plastic, its latent code, [n, F]
        :param actions: [n, ...]
        :return: values [n, 1], log probabilities [n] and entropies [n] (or None)
        """
        with unvalidated_distributions():
            distribution = self._get_action_dist_from_latent(latent_pi)
            return self._values(latent_vf), distribution.log_prob(actions), distribution.entropy()

    def _values(self, latent_vf: Tensor) -> Tensor:
        return self.value_net(self.mlp_extractor.forward_critic(latent_vf))

    def evaluate_actions(  # type: ignore[override]
        self, obs: Sequences, actions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """
        Replay sequences and evaluate the actions taken in them.

        :param obs: C sequences of L steps, as :class:`~sb3_plastic.buffers.ChunkedRolloutBuffer` yields them
        :param actions: [L * C, ...], time first
        :return: values [L * C, 1], log probabilities [L * C] and entropies [L * C] (or None)
        """
        if not isinstance(obs, Sequences):
            raise TypeError(
                f"A policy with a state evaluates actions of Sequences (observations, episode_starts, state), "
                f"got {type(obs).__name__}: use ChunkedRolloutBuffer."
            )
        latent_pi, latent_vf, _ = self._latents(obs.observations, obs.episode_starts, obs.state)
        return self.evaluate_latents(latent_pi, latent_vf, actions)

    def _with_defaults(self, obs: PyTorchObs, state: State | None, starts: Tensor | None) -> tuple[State, Tensor]:
        first = next(iter(obs.values())) if isinstance(obs, dict) else obs
        starts = torch.zeros(len(first), dtype=torch.bool, device=self.device) if starts is None else starts
        return self.initial_state(len(first), random=False) if state is None else state, starts.unsqueeze(0)

    def get_distribution(
        self, obs: PyTorchObs, state: State | None = None, episode_starts: Tensor | None = None
    ) -> Distribution:
        """
        The distribution of actions, given observations and state.

        :param obs: [B, ...]
        :param state: state before the step, None at the start of an episode
        :param episode_starts: bool [B], None if no episode starts here
        """
        state, starts = self._with_defaults(obs, state, episode_starts)
        return self._get_action_dist_from_latent(self._latents(obs, starts, state)[0])

    def predict_values(
        self, obs: PyTorchObs, state: State | None = None, episode_starts: Tensor | None = None
    ) -> Tensor:
        """
        Values of observations [B, 1]. An MLP critic needs the observations alone.

        :param obs: [B, ...]
        :param state: state before the step, None at the start of an episode
        :param episode_starts: bool [B], None if no episode starts here
        """
        if self.critic_snn is None:
            return super().predict_values(obs)
        state, starts = self._with_defaults(obs, state, episode_starts)
        return self._values(self._latents(obs, starts, state)[1])

    @contextmanager
    def cached_parameters(self, in_place: bool = False) -> Iterator[None]:
        """
        Inside this context the networks' effective parameters are computed once: for all steps of a rollout.

        :param in_place: a step overwrites the state that the step before has returned, if that is passed in again: for
            a caller who does not keep it
        """
        with ExitStack() as stack:
            for net in self.networks():
                stack.enter_context(net.cached_parameters(in_place=in_place))
            yield

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Batch norm and dropout of a features extractor as in a rollout, whatever the mode was, and is again after."""
        training = self.training
        self.set_training_mode(False)
        try:
            yield
        finally:
            self.set_training_mode(training)

    def chunk_states(self, obs: PyTorchObs, episode_starts: Tensor, state: State, chunk_len: int) -> list[Tensor]:
        """
        The states from which chunks of a rollout start, computed with the current parameters.

        :param obs: [T, B, ...]
        :param episode_starts: bool [T, B]
        :param state: state before the first step
        :param chunk_len: steps per chunk
        :return: as many tensors as a state has, each [T / chunk_len, B, ...]
        """
        states = []
        with torch.no_grad(), self.evaluating():
            for t in range(0, len(episode_starts), chunk_len):
                states.append(state)
                steps = slice(t, t + chunk_len)
                chunk = map_obs(partial(flatten_steps, steps=steps), obs)
                state = self._latents(chunk, episode_starts[steps], state)[2]
        return [torch.stack(tensors) for tensors in zip(*states, strict=True)]

    # predict

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
        features = super(ActorCriticPolicy, self).extract_features(obs, self.pi_features_extractor)
        actor_state, critic_state = self.split_state(state)
        latent_pi, actor_state = self._scan(self.snn, features, episode_starts.unsqueeze(0), actor_state)
        chosen = self._get_action_dist_from_latent(latent_pi).get_actions(deterministic=deterministic)
        actions = chosen.cpu().numpy().reshape((-1, *self.action_space.shape))  # type: ignore[misc, arg-type]
        if isinstance(self.action_space, spaces.Box):
            if self.squash_output:
                actions = self.unscale_action(actions)
            else:
                actions = np.clip(actions, self.action_space.low, self.action_space.high)
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
        :raises ValueError: on observations of the wrong shape or not finite, or a state of other environments
        """
        self.set_training_mode(False)
        if isinstance(observation, tuple):
            raise ValueError(
                "You have passed a tuple to the predict() function instead of a Numpy array or a Dict. "
                "You are probably mixing Gym API with SB3 VecEnv API: `obs, info = env.reset()` (Gym) "
                "vs `obs = vec_env.reset()` (SB3 VecEnv)."
            )
        obs_tensor, vectorized_env = self.obs_to_tensor(observation)
        first = next(iter(obs_tensor.values())) if isinstance(obs_tensor, dict) else obs_tensor
        n_envs = len(first)
        check_observation(map_obs(lambda tensor: tensor.cpu().numpy(), obs_tensor))
        starts = np.zeros(n_envs, bool) if episode_start is None else np.asarray(episode_start).reshape(-1)
        if len(starts) != n_envs:
            raise ValueError(
                f"episode_start has {len(starts)} entries, but there are observations of {n_envs} environments."
            )
        with torch.no_grad():
            tensors = self.initial_state(n_envs, random=not deterministic)
            if state is not None:
                tensors = tensors_from_arrays(state, tensors)
            starts_tensor = torch.as_tensor(starts.astype(bool), device=self.device)
            actions, new_state = self.act(obs_tensor, tensors, starts_tensor, deterministic)
        if not vectorized_env:
            actions = actions.squeeze(axis=0)
        # A copy: an array that shared memory with a tensor would change under its owner's hands.
        return actions, tuple(tensor.cpu().numpy().copy() for tensor in new_state)

    def export(self, folder: str | Path, normalization: VecNormalize | Normalization | None = None) -> Path:
        """
        Write the policy to a folder of plain files, which :func:`sb3_plastic.load_policy` reads without running code.

        :param folder: is made; an earlier export in it is replaced
        :param normalization: the VecNormalize of its training, if there was one
        :return: the folder
        :raises ValueError: if an argument of the policy is no plain data, or a weight is not finite
        """
        return export_policy(self, folder, normalization)


class PlasticMultiInputPolicy(PlasticPolicy):
    """:class:`PlasticPolicy` for dict observations."""

    def __init__(
        self,
        *args: Any,
        features_extractor_class: type[BaseFeaturesExtractor] = CombinedExtractor,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, features_extractor_class=features_extractor_class, **kwargs)


class PlasticCnnPolicy(PlasticPolicy):
    """:class:`PlasticPolicy` for images."""

    def __init__(
        self, *args: Any, features_extractor_class: type[BaseFeaturesExtractor] = NatureCNN, **kwargs: Any
    ) -> None:
        super().__init__(*args, features_extractor_class=features_extractor_class, **kwargs)


POLICY_ALIASES: dict[str, type[BasePolicy]] = {
    "PlasticPolicy": PlasticPolicy,
    "MlpPolicy": PlasticPolicy,
    "MultiInputPolicy": PlasticMultiInputPolicy,
    "CnnPolicy": PlasticCnnPolicy,
}
"""Policies by the names that SB3's algorithms take."""
