"""How a plastic policy acts: what steps it, its state, ``predict``, and what experiments with plasticity ask for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from sb3_plastic.adaptive import AdaptivePolicy
from sb3_plastic.adaptive.beside import LayerBeside
from sb3_plastic.adaptive.layer import AdaptiveLayer
from sb3_plastic.adaptive.options import ACTOR
from sb3_plastic.export import Normalization, export_policy
from sb3_plastic.snn.decoders import PopulationDecoder
from sb3_plastic.snn.interventions import fast_weight_norms, state_names, zero_learned
from sb3_plastic.snn.layer import Synapses
from sb3_plastic.snn.network import PlasticSNN
from sb3_plastic.stepper import PolicyStepper, State, initial_state


class ActingPolicy(ActorCriticPolicy):
    """
    Base of :class:`~sb3_plastic.policies.PlasticPolicy`, which builds the networks.

    With an adaptive layer (``adaptive``), ``predict`` has it between policy and body, and the state that it returns
    begins with the layer's arrays. All else, training above all, steps the policy without it.
    """

    snn: PlasticSNN
    critic_snn: PlasticSNN | None
    beside: LayerBeside | None
    """The adaptive layer, and what learns its forward model."""

    def networks(self) -> list[PlasticSNN]:
        """The spiking networks: the actor's and, if it is plastic, the critic's."""
        return [self.snn] if self.critic_snn is None else [self.snn, self.critic_snn]

    # Stepping. The state of all networks is a flat tuple of tensors, opaque to all but the networks.

    def initial_state(self, n_envs: int, random: bool = True) -> State:
        """
        The state at the start of an episode.

        :param n_envs: number of environments, B
        :param random: draw the keys of random encoders; else they are always the same
        """
        return initial_state(self.networks(), n_envs, random)

    def split_state(self, state: State) -> tuple[State, State]:
        """The actor's part of a state, and the critic's (empty for an MLP)."""
        return self._bare().split_state(state)

    def stepper(self) -> PolicyStepper:
        """What steps the policy with its present parameters, differentiable."""
        stepper = self._bare()
        return stepper if self._layer() is None else AdaptiveStepper(stepper, self.layered(stepper))

    def prepared(
        self, frozen: bool = False, keep_fast_weights: bool | None = None, in_place: bool = False
    ) -> PolicyStepper:
        """
        What steps the policy many times without gradients. The networks' parameters are computed once, here: make
        another when they have changed.

        :param frozen: nothing that synapses have learned changes
        :param keep_fast_weights: whether that survives the start of an episode; None: as the policy was made
        :param in_place: a step overwrites the state that the step before has returned, if that is passed in again: for
            a caller who does not keep it
        """
        actor, *critic = [net.prepared(frozen, keep_fast_weights, in_place) for net in self.networks()]
        stepper = PolicyStepper(self, self.networks(), actor, critic[0] if critic else None)
        if self._layer() is None:
            return stepper
        return AdaptiveStepper(stepper, self.layered(stepper).prepared(frozen, keep_fast_weights))

    # The adaptive layer

    def _layer(self) -> AdaptiveLayer | None:
        return self.beside.layer() if self.beside is not None and self.beside.is_settled() else None

    def layered(self, stepper: PolicyStepper) -> AdaptivePolicy:
        """
        The adaptive layer around what steps the policy.

        :param stepper: without a layer
        """
        assert self.beside is not None
        agent = Unlayered(stepper)
        options = self.beside.options
        # The last tensor of the actor's state is its readout's.
        features_at = (
            len(self.split_state(self.initial_state(1, random=False))[0]) - 1
            if options.forward_model == ACTOR
            else None
        )
        return AdaptivePolicy(agent, self.beside.layer(), options.lifetime, features_at=features_at)

    def adaptive_policy(self) -> AdaptivePolicy | None:
        """The layer around this policy, to ask it for ``estimates`` and ``acting``; None while there is none."""
        return None if self._layer() is None else self.layered(self._bare())

    def _bare(self) -> PolicyStepper:
        return PolicyStepper(self, self.networks(), self.snn, self.critic_snn)

    # predict, and what experiments with plasticity ask for (sb3_plastic.evaluation.controls)

    def act(
        self, obs: PyTorchObs, state: State, episode_starts: Tensor, deterministic: bool = False
    ) -> tuple[np.ndarray, State]:
        """See :meth:`~sb3_plastic.stepper.PolicyStepper.act`."""
        return self.stepper().act(obs, state, episode_starts, deterministic)

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """See :meth:`~sb3_plastic.stepper.PolicyStepper.predict`."""
        return self.stepper().predict(observation, state, episode_start, deterministic)

    def plastic_layers(self) -> list[str]:
        """The layers of the actor that have fast weights; before them, the hypotheses of an adaptive layer."""
        adaptive = self.adaptive_policy()
        own = [f"layer {i}" for i, layer in enumerate(self.snn.layers) if layer.config.rule != "none"]
        return own if adaptive is None else [*adaptive.plastic_layers(), *own]

    def zero_fast_weights(self, state: tuple[np.ndarray, ...], rows: NDArray[np.bool_]) -> tuple[np.ndarray, ...]:
        """
        Forget what synapses have learned, those of an adaptive layer, too.

        :param state: what ``predict`` returned
        :param rows: in which environments, [B]
        :return: the state with fast weights, eligibility and sliding threshold at zero there
        """
        adaptive = self.adaptive_policy()
        names, n = state_names(self.networks()), 0
        if adaptive is not None:
            state, n = adaptive.zero_fast_weights(state, rows), len(state) - len(names)
        return (*state[:n], *zero_learned(state[n:], names, rows))

    def fast_weight_norms(self, state: tuple[np.ndarray, ...]) -> np.ndarray:
        """
        Root mean square of the fast weights of the actor's plastic layers; before them, how far the estimates of each
        hypothesis of an adaptive layer are from nominal.

        :param state: what ``predict`` returned
        :return: [B, L]
        """
        adaptive, n = self.adaptive_policy(), len(state) - len(state_names(self.networks()))
        own = fast_weight_norms(state[n:], state_names([self.snn]))
        return own if adaptive is None else np.concatenate([adaptive.fast_weight_norms(state), own], 1)

    def actor_synapses(self) -> list[Synapses]:
        """The actor's synapses, layer by layer, for faults; the last layer computes the actions."""
        # Views, so that a change in place is one of the policy. A population decoder has [outputs, neurons of each].
        weight, bias = (self.action_net.get_parameter(name) for name in ("weight", "bias"))
        head = weight.view(-1, 1) if isinstance(self.action_net, PopulationDecoder) else weight.T
        return [*(layer.synapses() for layer in self.snn.layers), (head, None, bias, 0, False, None)]

    def export(self, folder: str | Path, normalization: VecEnv | Normalization | None = None) -> Path:
        """
        Write the policy to a folder of plain files, which :func:`sb3_plastic.load_policy` reads without running code.

        :param folder: is made; an earlier export in it is replaced
        :param normalization: the VecNormalize of its training, if there was one, or the environments with it
        :return: the folder
        :raises ValueError: if an argument of the policy is no plain data, or a weight is not finite
        """
        return export_policy(self, folder, normalization)


class Unlayered:
    """
    A policy without its adaptive layer, as the layer takes an agent.

    :param stepper: what steps it
    """

    def __init__(self, stepper: PolicyStepper) -> None:
        self.predict = stepper.predict
        self.observation_space, self.action_space = stepper.policy.observation_space, stepper.policy.action_space


class AdaptiveStepper(PolicyStepper):
    """
    Steps as another does; ``predict`` has the adaptive layer between policy and body.

    :param stepper: without a layer
    :param layered: the layer around it
    """

    def __init__(self, stepper: PolicyStepper, layered: AdaptivePolicy) -> None:
        super().__init__(stepper.policy, stepper.networks, stepper.actor, stepper.critic)
        self.layered = layered

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """See :meth:`~sb3_plastic.adaptive.AdaptivePolicy.predict`."""
        return self.layered.predict(observation, state, episode_start, deterministic)
