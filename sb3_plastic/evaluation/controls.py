"""Controls: the same model, with its plasticity taken away, so that nothing else can explain a difference.

    intact           as it is
    frozen_at_onset  from the first observation that the perturbation can have changed, no fast weight changes any more
    zeroed_at_onset  there, fast weights are set to zero once; plasticity goes on: does it need what it learned before?
    off              fast weights are zero from the start of the episode and stay so
    layer_off        an adaptive layer inside the policy is off from the start; its own fast weights go on
    carried, reset   over a life of several episodes, fast weights survive the start of an episode, or do not

Until the onset, frozen and zeroed are bit for bit the intact model. A policy with plasticity offers the methods of
`PlasticityControls`; this is all that the evaluation knows of it. Models without have no controls, but recurrent ones
can be carried: then their whole state survives.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.type_aliases import PolicyPredictor

from sb3_plastic.adaptive.agents import layer_around
from sb3_plastic.errors import UserError
from sb3_plastic.evaluation.records import LAYER_OFF, LIFETIME, WITHIN

Array = NDArray[Any]
State = tuple[Array, ...]


@runtime_checkable
class PlasticityControls(Protocol):
    """What a policy with plasticity offers. States are what ``predict`` returns: arrays, environment axis first."""

    def plastic_layers(self) -> list[str]:
        """Names of the layers that have fast weights; a static network has none, and no controls."""

    def prepared(self, frozen: bool = False, keep_fast_weights: bool | None = None) -> PolicyPredictor:
        """
        The policy as it is now, for many steps. Frozen: no fast weight changes; ``keep_fast_weights``: whether they
        survive the start of an episode, None: as the policy is.
        """

    def zero_fast_weights(self, state: State, rows: Array) -> State:
        """The same state, with all that synapses have learned at zero in some rows (bool [B])."""

    def fast_weight_norms(self, state: State) -> Array:
        """Root mean square of the fast weights of each plastic layer, [B, L]."""


def controls_of(model: Any) -> PlasticityControls | None:
    """The policy's controls, None if it has no plasticity. :param model: a model with ``predict``"""
    policy = getattr(model, "policy", model)
    return policy if isinstance(policy, PlasticityControls) and policy.plastic_layers() else None


def without_layer(model: Any) -> PolicyPredictor:
    """
    What acts under the control ``layer_off``.

    :param model: a model with ``predict``
    :raises UserError: if it does not have an adaptive layer and fast weights beside it
    """
    policy = controls_of(model)
    layered = layer_around(policy)
    if policy is None or layered is None or policy.plastic_layers() == layered.plastic_layers():
        raise UserError(
            f"{type(model).__name__} has no control {LAYER_OFF!r}: it is for a PlasticPolicy that was trained with an "
            "adaptive layer (policy_kwargs=dict(adaptive=...)) and has fast weights of its own. Where a layer is all "
            "that is plastic, `off` takes it away."
        )
    frozen: PolicyPredictor = layered.prepared(frozen=True)
    return frozen


class Player:
    """
    A model that acts under a control, with its state. Its parameters are those of the moment in which this is made.

    :param model: a model with SB3's ``predict``
    :param control: one of `records.CONTROLS`
    :param deterministic: take the most likely actions
    :param later: what acts from the first observation on that the perturbation can have changed, with the same state;
        None: the model, or under ``frozen_at_onset`` the model with frozen plasticity
    :param faulty: whether that acts from the start
    :raises UserError: on a control that the model does not have
    """

    def __init__(
        self,
        model: Any,
        control: str = "intact",
        deterministic: bool = True,
        later: PolicyPredictor | None = None,
        faulty: bool = False,
    ) -> None:
        self.model, self.control, self.deterministic = model, control, deterministic
        self.plastic = controls_of(model)
        agent = getattr(model, "agent", model)  # within a layer
        self._has_lstm = hasattr(getattr(agent, "policy", agent), "lstm_actor")
        if self.plastic is None and control in WITHIN[1:]:
            raise UserError(f"{type(model).__name__} has no plasticity, so there is no control {control!r} of it.")
        self.state: Any = None
        self._perturbed: Array = np.zeros(0, bool)
        self._intact: PolicyPredictor = model
        if self.plastic is not None:
            keep = control == "carried" if control in LIFETIME else None
            self._intact = self.plastic.prepared(frozen=control == "off", keep_fast_weights=keep)
            if control == LAYER_OFF:
                self._intact = without_layer(model)
            if control == "frozen_at_onset":
                later = self.plastic.prepared(frozen=True, keep_fast_weights=keep)
        self._later = later
        if faulty and later is not None:
            self._intact = later

    def act(self, observations: Any, starts: Array, perturbed: Array) -> Array:
        """
        Actions for one step.

        :param observations: of all environments
        :param starts: where an episode starts, bool [B]
        :param perturbed: where a step has been perturbed already in this episode, bool [B]
        :return: actions [B, ...]
        """
        if self.plastic is None and self.control == "carried" and self.state is not None:
            starts = np.zeros_like(starts)
        newly = perturbed & ~self._perturbed if self.state is not None else perturbed
        self._perturbed = perturbed
        if self.control == "zeroed_at_onset" and newly.any() and self.state is not None:
            assert self.plastic is not None
            self.state = self.plastic.zero_fast_weights(self.state, newly)
        if self._later is None or not perturbed.any():
            return self._predict(self._intact, observations, starts)
        if perturbed.all():
            return self._predict(self._later, observations, starts)
        return self._predict_both(self._later, observations, starts, perturbed)

    def norms(self) -> Array | None:
        """Root mean square of the fast weights after the last step, [B, L]; None without plasticity."""
        return None if self.plastic is None else self.plastic.fast_weight_norms(self.state)

    def _predict(self, predictor: PolicyPredictor, observations: Any, starts: Array) -> Array:
        actions, self.state = predictor.predict(
            observations, state=self.state, episode_start=starts, deterministic=self.deterministic
        )
        return np.asarray(actions)

    def _predict_both(self, later: PolicyPredictor, observations: Any, starts: Array, perturbed: Array) -> Array:
        """Some rows are perturbed, others not yet. Both are computed for all, so that no row depends on others."""
        before, drawn = self.state, torch.get_rng_state()
        actions, state = self._predict(self._intact, observations, starts), self.state
        self.state = before
        torch.set_rng_state(drawn)  # both draw the same noise, as if there were one
        later_actions = self._predict(later, observations, starts)
        if state is not None:
            axes = [0] * len(state)
            if self._has_lstm:  # of sb3-contrib: its two arrays are the last, and have its layers first
                axes[-2:] = 1, 1
            self.state = tuple(_choose(perturbed, *pair) for pair in zip(self.state, state, axes, strict=True))
        return _choose(perturbed, later_actions, actions)


def _choose(rows: Array, a: Array, b: Array, axis: int = 0) -> Array:
    return np.where(rows.reshape(-1, *[1] * (a.ndim - 1 - axis)), a, b)
