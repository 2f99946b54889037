"""Faults of the agent, beside those of the robot: what hardware does to a network.

    sb3-plastic evaluate --model m.zip --faults weight_noise=0.3 neurons_ablated=0.15 weights_quantised=4 --out results

Each acts on a copy of the policy, from the start of the episode (protocol ``static``) or from an onset in mid-episode
(protocol ``onset``), on the unperturbed robot. Each episode draws its own fault, from its seed. Critics are left alone.

The evaluation sees a network as layers of synapses; the last layer computes the actions. It finds the layers of an MLP
of SB3, and before it those of the LSTM of sb3-contrib's RecurrentPPO. A policy with networks of its own offers
`ActorSynapses`; nothing else is known of it here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import PolicyPredictor
from torch import Tensor, nn

from sb3_plastic.copying import copied
from sb3_plastic.errors import UserError
from sb3_plastic.evaluation.controls import controls_of
from sb3_plastic.evaluation.fault_kinds import Fault

Array = NDArray[Any]


class ActorLayer(NamedTuple):
    """
    One layer of the actor: the policy's own tensors, or views of them.

    :param weights: fixed weights, [inputs, outputs]; a recurrent layer's own neurons are its last inputs
    :param strengths: what fast weights are multiplied by, [inputs, outputs]; None without plasticity
    :param biases: [outputs]; None without
    :param recurrent: how many of the inputs are the layer's own neurons
    :param spiking: whether the outputs are neurons with a threshold
    :param modulator: what the outputs add to the layer's neuromodulator, [outputs]; None without
    :param own: weights from the layer's own neurons, [neurons, outputs], if they are a tensor of their own, as those of
        an LSTM, each of whose neurons has four outputs; None if not
    """

    weights: Tensor
    strengths: Tensor | None
    biases: Tensor | None
    recurrent: int = 0
    spiking: bool = False
    modulator: Tensor | None = None
    own: Tensor | None = None

    def fixed(self) -> list[Tensor]:
        """All fixed weights."""
        return [self.weights] if self.own is None else [self.weights, self.own]


@runtime_checkable
class ActorSynapses(Protocol):
    """What a policy with networks of its own offers."""

    def actor_synapses(self) -> Sequence[tuple[Any, ...]]:
        """Layer by layer, the fields of `ActorLayer`; the last layer computes the actions."""


def synapses_of(policy: Any) -> list[ActorLayer]:
    """
    The actor's synapses, layer by layer.

    :param policy: a policy of SB3 with an MLP as actor, of RecurrentPPO, or one that offers `ActorSynapses`
    :raises UserError: if there is no telling
    """
    if isinstance(policy, ActorSynapses):
        return [ActorLayer(*layer) for layer in policy.actor_synapses()]
    lstm = getattr(policy, "lstm_actor", None)
    known = {lstm, getattr(policy, "lstm_critic", None)}
    if isinstance(policy, nn.Module) and {m for m in policy.modules() if isinstance(m, nn.RNNBase)} - known:
        raise UserError(f"Of recurrent policies those of RecurrentPPO can have faults, got {type(policy).__name__}.")
    if isinstance(policy, ActorCriticPolicy):
        modules = [*policy.mlp_extractor.policy_net.modules(), policy.action_net]
    else:  # SAC, TD3, TQC; the deviation of actions is none of their actor's layers here
        named = getattr(policy, "actor", nn.Identity()).named_modules()
        modules = [module for name, module in named if "log_std" not in name]
    layers = [module for module in modules if isinstance(module, nn.Linear)]
    if not layers:
        raise UserError(f"Faults need an actor whose layers are known: an SNN or an MLP, got {type(policy).__name__}.")
    return [*_lstm_layers(lstm), *(ActorLayer(layer.weight.T, None, layer.bias) for layer in layers)]


def _lstm_layers(lstm: nn.LSTM | None) -> list[ActorLayer]:
    # Without biases: they matter to drifting thresholds alone, which no LSTM has.
    return [
        ActorLayer(getattr(lstm, f"weight_ih_l{i}").T, None, None, own=getattr(lstm, f"weight_hh_l{i}").T)
        for i in range(0 if lstm is None else lstm.num_layers)
    ]


# What a fault does: in place, to the tensors of a copy


def add_weight_noise(layers: Sequence[ActorLayer], std: float, rng: np.random.Generator) -> None:
    """``w <- w (1 + std N(0, 1))``. :param layers: changed in place  :param std: 0 or more  :param rng: to draw from"""
    for layer in layers:
        for weights in layer.fixed():
            weights.mul_(1 + std * _normal(weights, rng))


def quantise(layers: Sequence[ActorLayer], bits: int) -> None:
    """
    Round weights to ``2^bits - 1`` equal steps, symmetric about 0, up to the largest of the layer.

    :param layers: changed in place
    :param bits: 2 or more
    """
    for layer in layers:
        step = max(weights.abs().max() for weights in layer.fixed()) / (2 ** (bits - 1) - 1)
        for weights in layer.fixed() if step > 0 else ():
            weights.copy_(torch.round(weights / step) * step)


def ablate(layers: Sequence[ActorLayer], probability: float, rng: np.random.Generator) -> None:
    """
    Silence hidden neurons: what they send, to the next layer, within their own and to its neuromodulator, is 0.

    :param layers: changed in place
    :param probability: of each neuron
    :param rng: to draw from
    """
    for layer, after in pairwise(layers):
        n = layer.weights.shape[1] if layer.own is None else len(layer.own)
        lost = torch.as_tensor(rng.random(n) < probability)
        for to, first in ((after, 0), (layer, len(layer.weights) - layer.recurrent)):
            for tensor in (to.weights, to.strengths):
                if tensor is not None and first < len(tensor):
                    tensor[first : first + n][lost] = 0
        if layer.own is not None:
            layer.own[lost] = 0
        if layer.modulator is not None:
            layer.modulator[lost] = 0


def drift_thresholds(layers: Sequence[ActorLayer], std: float, rng: np.random.Generator) -> None:
    """
    Multiply thresholds by ``c = exp(std N(0, 1))``. A neuron is linear below its threshold, and its reset subtracts it:
    dividing all of its input by ``c`` is the same.

    :param layers: changed in place
    :param std: 0 or more
    :param rng: to draw from
    :raises UserError: if there are no spiking neurons
    """
    if not any(layer.spiking for layer in layers):
        raise UserError("thresholds_drift needs spiking neurons; this policy has none.")
    for layer in layers:
        if layer.spiking:
            factor = torch.exp(std * _normal(layer.weights[0], rng))
            for tensor in (layer.weights, layer.strengths, layer.biases):
                if tensor is not None:
                    tensor.div_(factor)


def _normal(like: Tensor, rng: np.random.Generator) -> Tensor:
    return torch.as_tensor(rng.standard_normal(tuple(like.shape)), dtype=like.dtype)


class FaultyModel:
    """
    A copy of a model with a fault; it has SB3's ``predict``.

    :param model: a model, or a policy; it stays as it is
    :param fault: which
    :param seed: of what the fault draws
    :raises UserError: if the policy cannot have this fault
    """

    def __init__(self, model: Any, fault: Fault, seed: int) -> None:
        policy: Any = getattr(model, "policy", model)
        if not isinstance(policy, nn.Module):
            raise UserError(f"Faults act on policies of torch, got {type(policy).__name__}. Give the model's zip file.")
        self.fault, self._rng = fault, np.random.default_rng(seed)
        self._policy: Any = copied(policy)
        self._steps = 0
        layers = synapses_of(self._policy)
        value = fault.value
        changes: dict[str, Callable[[], None]] = {
            "weight_noise": lambda: add_weight_noise(layers, value, self._rng),
            "weights_quantised": lambda: quantise(layers, int(value)),
            "neurons_ablated": lambda: ablate(layers, value, self._rng),
            "thresholds_drift": lambda: drift_thresholds(layers, value, self._rng),
        }
        self._layers = layers
        sending = [tensor for layer in layers for tensor in (*layer.fixed(), layer.strengths, layer.modulator)]
        self._whole = [(tensor, tensor.detach().clone()) for tensor in sending if tensor is not None]
        if fault.kind == "fast_weights_reset" and controls_of(self._policy) is None:
            raise UserError("fast_weights_reset needs fast weights; this policy has none.")
        if fault.kind in ("neurons_ablated", "spikes_dropped") and len(layers) < 2:
            raise UserError(f"{fault.kind} needs hidden neurons; this policy has none.")
        with torch.no_grad():
            changes.get(fault.kind, lambda: None)()
        self._predictor = self._prepared()

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        """As in SB3."""
        if self.fault.kind == "spikes_dropped":
            with torch.no_grad():
                for tensor, whole in self._whole:
                    tensor.copy_(whole)
                ablate(self._layers, self.fault.value, self._rng)
            self._predictor = self._prepared()
        plastic = controls_of(self._policy)
        if self.fault.kind == "fast_weights_reset" and state is not None and self._steps % self.fault.value == 0:
            assert plastic is not None
            state = plastic.zero_fast_weights(state, np.ones(len(state[0]), bool))
        self._steps += 1
        return self._predictor.predict(
            observation, state=state, episode_start=episode_start, deterministic=deterministic
        )

    def _prepared(self) -> PolicyPredictor:
        plastic = controls_of(self._policy)
        predictor: PolicyPredictor = self._policy if plastic is None else plastic.prepared()
        return predictor
