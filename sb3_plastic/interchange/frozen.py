"""A network at one moment: its fast weights as they are, plasticity off. What formats of static networks can hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from sb3_plastic.export import Normalization
from sb3_plastic.policies import PlasticPolicy
from sb3_plastic.snn.state import SNNState, tensors_from_arrays


@dataclass(frozen=True)
class FrozenLayer:
    """
    A static layer, ``v' = beta v - threshold z + x W + b`` (or the neuron's own form of it).

    :param weights: ``w + alpha h``, [M, N]
    :param bias: [N]
    :param beta: decay of the membrane per tick, [N]
    :param threshold: firing threshold
    :param neuron: name of the neuron
    :param recurrent: whether the layer's spikes of the last tick are its last N inputs
    """

    weights: Tensor
    bias: Tensor
    beta: Tensor
    threshold: float
    neuron: str
    recurrent: bool


def freeze(policy: PlasticPolicy, state: Sequence[np.ndarray] | None = None) -> list[FrozenLayer]:
    """
    The actor's layers at one moment.

    :param policy: the policy
    :param state: what ``predict`` returned at that moment, of one environment; None: before anything was learned
    """
    like = policy.initial_state(1, random=False)
    tensors, _ = policy.stepper().split_state(like if state is None else tensors_from_arrays(state, like, 1))
    layers = []
    for layer, s in zip(policy.snn.layers, SNNState.from_tensors(tensors).layers, strict=True):
        p = layer.effective_parameters()
        plastic = layer.config.rule != "none"
        weights = p.w + p.alpha * s.h[0] if plastic else p.w
        layers.append(
            FrozenLayer(
                weights.detach().clone(),
                p.b.detach().clone(),
                p.beta.detach().clone(),
                layer.config.threshold,
                layer.config.neuron,
                layer.config.recurrent,
            )
        )
    return layers


class FrozenPolicy:
    """
    SB3's ``predict`` of a policy whose fast weights stay what they were at one moment: what a frozen network in another
    format is compared with.

    :param policy: the policy
    :param state: what ``predict`` returned at that moment, of one environment; None: before anything was learned
    :param normalization: of observations; None: there is none
    """

    def __init__(
        self,
        policy: PlasticPolicy,
        state: Sequence[np.ndarray] | None = None,
        normalization: Normalization | None = None,
    ) -> None:
        self.normalization = normalization or Normalization()
        self._stepper = policy.prepared(frozen=True, keep_fast_weights=True)
        like = tuple(tensor.numpy() for tensor in policy.initial_state(1, random=False))
        learned = policy.zero_fast_weights(like if state is None else tuple(state), np.zeros(1, bool))
        # Nothing but what was learned: membranes, traces and the readout start an episode afresh.
        forgotten = policy.zero_fast_weights(learned, np.ones(1, bool))
        self._start = tuple(
            np.zeros_like(before) if np.array_equal(before, after) else before
            for before, after in zip(learned, forgotten, strict=True)
        )

    def predict(
        self, observation: np.ndarray, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, Any]:
        """As in SB3."""
        before = self._start if state is None else state
        return self._stepper.predict(self.normalization(observation), before, episode_start, deterministic)
