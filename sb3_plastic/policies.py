"""The border between SB3 (numpy, spaces, distributions) and the plastic spiking network (tensors, state as a value)."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

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
from torch import Tensor, nn

from sb3_plastic.acting import ActingPolicy
from sb3_plastic.adaptive.beside import LayerBeside
from sb3_plastic.adaptive.options import ACTOR, LayerOptions
from sb3_plastic.asymmetric import SelectKeys, seen_by
from sb3_plastic.buffers import Sequences
from sb3_plastic.errors import UserError, check_choice, check_names, check_number
from sb3_plastic.snn.config import SNNConfig
from sb3_plastic.snn.decoders import PopulationDecoder
from sb3_plastic.snn.network import PlasticSNN
from sb3_plastic.stepper import State, unvalidated_distributions
from sb3_plastic.teacher import divergence, with_loss

OWN_OPTIONS = (
    *("critic", "decoder", "decoder_neurons", "decoder_gain", "critic_lr_scale", "plasticity_lr_scale"),
    *("actor_keys", "critic_keys", "adaptive"),
)


class PlasticPolicy(ActingPolicy):
    """
    Actor-critic policy whose actor is a plastic spiking network. Its state lives as long as an episode.

    All arguments are plain data. The options of :class:`~sb3_plastic.snn.config.SNNConfig` (``rule``, ``modulation``,
    ``n_ticks``, ``recurrent``, ...) are arguments as well, and so are those of SB3's ``ActorCriticPolicy``.

    :param observation_space: observation space
    :param action_space: any action space that SB3's on-policy algorithms serve
    :param lr_schedule: learning rate schedule
    :param net_arch: ``pi``: neurons of each spiking layer; ``vf``: units of each layer of the critic; 64 64 by default
    :param critic: ``mlp``, or ``plastic``: a spiking critic with a state of its own
    :param decoder: ``linear``, or ``population``: a further spiking layer in which each number that the action
        distribution needs has ``decoder_neurons`` neurons of its own; lists with a value per layer count it as well
    :param decoder_neurons: for the population decoder
    :param decoder_gain: scale of the orthogonal initialisation of the linear decoder
    :param log_std_init: initial log standard deviation of continuous actions
    :param actor_keys: keys of a Dict observation that the actor alone sees
    :param critic_keys: keys that the critic alone sees, such as what only a simulator knows: when the policy acts, they
        may be missing. Keys named in neither are seen by both
    :param critic_lr_scale: the critic's learning rate, as a multiple of the policy's
    :param plasticity_lr_scale: the learning rate of alpha, eta, the modulator and the learned rates, likewise. A
        learned ``beta`` learns as the weights do
    :param adaptive: an adaptive layer whose forward model learns beside the training, from its rollouts: the trained
        policy goes on when its robot changes. True, or options of :class:`~sb3_plastic.adaptive.options.LayerOptions`
    :param snn_kwargs: options of :class:`~sb3_plastic.snn.config.SNNConfig` in a dict; the same as naming them here.
        An option is named in one of the two places
    :param kwargs: options of :class:`~sb3_plastic.snn.config.SNNConfig`, or arguments of SB3's ``ActorCriticPolicy``
    :raises ValueError: on an unknown argument or name, or a number out of range
    """

    options: ClassVar[tuple[str, ...]] = ("net_arch", "log_std_init", *OWN_OPTIONS, *SNNConfig.names())
    """Arguments whose defaults are ours: a saved model keeps those that it was saved with."""

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
        actor_keys: Sequence[str] = (),
        critic_keys: Sequence[str] = (),
        critic_lr_scale: float = 2.0,
        plasticity_lr_scale: float = 0.3,
        adaptive: bool | dict[str, Any] = False,
        snn_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        check_choice("critic", critic, ("mlp", "plastic"))
        check_choice("decoder", decoder, ("linear", "population"))
        check_number("decoder_neurons", decoder_neurons, at_least=1, integer=True)
        check_number("decoder_gain", decoder_gain, above=0)
        check_number("log_std_init", log_std_init)
        check_number("critic_lr_scale", critic_lr_scale, at_least=0)
        check_number("plasticity_lr_scale", plasticity_lr_scale, at_least=0)
        options, own = dict(snn_kwargs or {}), inspect.signature(PlasticPolicy).parameters
        host = inspect.signature(ActorCriticPolicy).parameters
        check_names("PlasticPolicy", [*kwargs, *options], dict.fromkeys([*SNNConfig.names(), *own, *host]))
        check_names("snn_kwargs", options, SNNConfig.names())
        for name in filter(kwargs.__contains__, options):
            got = f"{name}={kwargs[name]!r}, and {options[name]!r} in snn_kwargs"
            raise UserError(f"PlasticPolicy got {got}: an option is named in one of the two places.")
        options |= {name: kwargs.pop(name) for name in SNNConfig.names() if name in kwargs}
        self.snn_config = SNNConfig(**options)
        self.critic, self.decoder = critic, decoder
        self.decoder_neurons, self.decoder_gain = decoder_neurons, decoder_gain
        self.critic_lr_scale, self.plasticity_lr_scale = critic_lr_scale, plasticity_lr_scale
        given = (actor_keys, critic_keys)  # YAML invites to name a single one
        self.actor_keys, self.critic_keys = ([keys] if isinstance(keys, str) else list(keys) for keys in given)
        self.adaptive = adaptive
        if isinstance(observation_space, spaces.Dict):
            kwargs.setdefault("features_extractor_class", CombinedExtractor)
        if self.actor_keys or self.critic_keys:
            seen_by(observation_space, self.actor_keys, self.critic_keys)  # or an error, before anything is built
            kwargs["share_features_extractor"] = False

        if isinstance(net_arch, list) and net_arch and isinstance(net_arch[0], dict):
            net_arch = net_arch[0]  # the format before SB3 1.8, with SB3's warning
            warnings.warn("Pass net_arch=dict(pi=..., vf=...) instead of net_arch=[dict(pi=..., vf=...)]", stacklevel=2)
        sizes = net_arch if isinstance(net_arch, dict) else {} if net_arch is None else dict(pi=net_arch, vf=net_arch)
        if ignored := sizes.keys() - {"pi", "vf"}:  # no error: models that were saved with such names load
            warnings.warn(f"net_arch has sizes of pi and vf; {', '.join(sorted(ignored))} is ignored.", stacklevel=2)
        net_arch = {name: _layer_sizes(name, sizes.get(name, [64, 64])) for name in ("pi", "vf")}
        super().__init__(
            observation_space, action_space, lr_schedule, net_arch=net_arch, log_std_init=log_std_init, **kwargs
        )

    def _get_constructor_parameters(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in (*OWN_OPTIONS, "share_features_extractor")}
        return super()._get_constructor_parameters() | own | asdict(self.snn_config)

    def whole_options(self) -> dict[str, dict[str, Any]]:
        """Arguments that are mappings of options: all of these, those that were left to their defaults, too."""
        return {} if self.beside is None else {"adaptive": asdict(self.beside.options)}

    def _build(self, lr_schedule: Schedule) -> None:
        if self.actor_keys or self.critic_keys:
            spaces_seen = seen_by(self.observation_space, self.actor_keys, self.critic_keys)
            arguments = self.features_extractor_class, self.features_extractor_kwargs
            self.pi_features_extractor, self.vf_features_extractor = (SelectKeys(s, *arguments) for s in spaces_seen)
            self.features_extractor = self.pi_features_extractor
            self.features_dim = self.features_extractor.features_dim
        super()._build(lr_schedule)  # heads and their initialisation, from the sizes of _build_mlp_extractor
        if self.decoder == "population":
            self.action_net = PopulationDecoder(self.snn.n_outputs // self.decoder_neurons, self.decoder_neurons)
        elif self.ortho_init:
            self.action_net.apply(lambda module: self.init_weights(module, gain=self.decoder_gain))
        self.beside = None
        if self.adaptive is not False:  # an empty mapping: all defaults
            options, n_features = LayerOptions.of(self.adaptive), self.snn.n_outputs
            if options.forward_model == ACTOR and self.snn_config.readout != "leaky":
                raise UserError(
                    f"forward_model='actor' reads a leaky readout, got readout={self.snn_config.readout!r}."
                )
            self.beside = LayerBeside(self.observation_space, self.action_space, options, n_features)
        # Adam in one call per group instead of a dozen per tensor: these are many, and small.
        takes = inspect.signature(self.optimizer_class).parameters.keys() - self.optimizer_kwargs.keys()
        is_adam = issubclass(self.optimizer_class, torch.optim.Adam) and {"fused", "foreach", "differentiable"} <= takes
        fused = {"fused": True} if is_adam else {}
        make_optimizer: Callable[..., torch.optim.Optimizer] = self.optimizer_class
        self.optimizer = make_optimizer(self.parameter_groups(), lr=lr_schedule(1), **fused | self.optimizer_kwargs)

    def _build_mlp_extractor(self) -> None:
        assert isinstance(self.net_arch, dict)
        pi, vf = list(self.net_arch["pi"]), list(self.net_arch["vf"])
        if self.decoder == "population":
            pi.append(self._n_distribution_parameters() * self.decoder_neurons)
        self.snn = PlasticSNN(self.features_dim, pi, self.snn_config)
        n_seen = self.vf_features_extractor.features_dim
        self.critic_snn = PlasticSNN(n_seen, vf, self.snn_config) if self.critic == "plastic" else None
        # SB3's extractor serves as the critic's, and tells the heads their input sizes.
        self.mlp_extractor = MlpExtractor(n_seen, dict(vf=vf), self.activation_fn, device=self.device)
        self.mlp_extractor.latent_dim_pi = self.snn.n_outputs
        if self.critic_snn is not None:
            self.mlp_extractor.value_net = nn.Sequential()
            self.mlp_extractor.latent_dim_vf = self.critic_snn.n_outputs

    def _n_distribution_parameters(self) -> int:
        """How many numbers the action distribution takes from the decoder."""
        head = self.action_dist.proba_distribution_net(1)
        layer = head[0] if isinstance(head, tuple) else head
        assert isinstance(layer, nn.Linear)
        return layer.out_features

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
        apart = [] if self.beside is None else [*self.beside.parameters()]  # they learn by another error
        taken = {id(parameter) for parameters in [apart, *groups.values()] for parameter in parameters}
        groups["actor"] = [parameter for parameter in self.parameters() if id(parameter) not in taken]
        scales = self.lr_scales()
        return [
            dict(params=parameters, name=name, lr_scale=scales[name])
            for name, parameters in groups.items()
            if parameters
        ]

    def lr_scales(self) -> dict[str, float]:
        """The multiple of the learning rate at which each parameter group learns, by its name."""
        return {"critic": self.critic_lr_scale, "plasticity": self.plasticity_lr_scale, "actor": 1.0}

    def scale_rates(self, optimizer: torch.optim.Optimizer) -> None:
        """
        Multiply the learning rate of each parameter group.

        :param optimizer: all of whose groups have the same rate
        :raises UserError: if its groups are not those of :meth:`parameter_groups`
        """
        scales = self.lr_scales()  # set_parameters() brings those of another model into the groups
        for group in optimizer.param_groups:
            if group.get("name") not in scales:
                raise UserError(
                    "The policy's optimizer has a group of parameters that is neither actor, plasticity nor critic, "
                    "which have rates and gradient norms of their own. Make it of all three: policy.optimizer = "
                    f"{type(optimizer).__name__}(policy.parameter_groups(), lr=...), or name its class when the "
                    "model is made, policy_kwargs=dict(optimizer_class=...)."
                )
            group["lr"] *= scales[group["name"]]

    def actor_parameters(self) -> list[nn.Parameter]:
        """All that decides the most likely action, in a fixed order: features, spiking network, decoder."""
        modules: list[nn.Module] = [self.pi_features_extractor, self.snn, self.action_net]
        return [parameter for module in modules for parameter in module.parameters()]

    def forward(  # type: ignore[override]
        self,
        obs: PyTorchObs,
        state: State | None = None,
        episode_starts: Tensor | None = None,
        deterministic: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor, State]:
        """
        One step in all networks.

        :param obs: observations [B, ...]
        :param state: state before the step
        :param episode_starts: bool [B]
        :param deterministic: take the most likely actions
        :return: actions, values [B, 1], log probabilities [B], and the state after
        :raises UserError: without a state, which algorithms of SB3 do not carry
        :raises ValueError: if an action is not finite
        """
        if state is None or episode_starts is None:
            raise UserError(
                "A PlasticPolicy has a state from step to step: train it by PlasticPPO or PlasticES, act by `predict`, "
                "and write it as ONNX by `sb3-plastic convert`."
            )
        actions, latents, state = self.stepper().sample(obs, state, episode_starts, deterministic)
        values, log_prob, _ = self.evaluate_latents(*latents, actions)
        return actions.reshape((-1, *(self.action_space.shape or ()))), values, log_prob, state

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
        :raises TypeError: on anything but sequences
        """
        if not isinstance(obs, Sequences):
            raise TypeError(
                f"A policy with a state evaluates actions of Sequences (observations, episode_starts, state), "
                f"got {type(obs).__name__}: use ChunkedRolloutBuffer."
            )
        latent_pi, latent_vf, _ = self.stepper().latents(obs.observations, obs.episode_starts, obs.state)
        values, log_prob, entropy = self.evaluate_latents(latent_pi, latent_vf, actions)
        if obs.teacher_actions is not None:
            distribution = self._get_action_dist_from_latent(latent_pi)
            kl = divergence(distribution, obs.teacher_actions, self.action_space).mean()
            values = with_loss(values, obs.teacher_weight * kl)
        return values, log_prob, entropy

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
        return self._get_action_dist_from_latent(self.stepper().latents(obs, starts, state)[0])

    def predict_values(
        self, obs: PyTorchObs, state: State | None = None, episode_starts: Tensor | None = None
    ) -> Tensor:
        """
        Values of observations [B, 1], for which the critic alone is run. An MLP needs the observations alone.

        :param obs: [B, ...]
        :param state: state before the step, None at the start of an episode
        :param episode_starts: bool [B], None if no episode starts here
        """
        state, starts = self._with_defaults(obs, state, episode_starts)
        return self._values(self.stepper().critic_latent(obs, starts, state))


def _layer_sizes(name: str, sizes: Any) -> list[int]:
    if not isinstance(sizes, Sequence) or isinstance(sizes, str):
        raise UserError(f"net_arch has a list of sizes for {name}, such as [64, 64], got {sizes!r}.")
    for size in sizes:
        check_number(f"a size of net_arch ({name})", size, at_least=1, integer=True)
    return list(sizes)


class PlasticMultiInputPolicy(PlasticPolicy):
    """:class:`PlasticPolicy` under the name that SB3 asks for with dict observations."""


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
