"""Perturbed commands and senses for any gymnasium environment; needs no MuJoCo model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from sb3_plastic.perturbations.checks import Plant
from sb3_plastic.perturbations.perturber import Perturber
from sb3_plastic.perturbations.spec import Perturbation, PerturbationError, parse
from sb3_plastic.perturbations.suites import find_scenario


class PerturbSignals(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """
    Perturb what motors are told and what senses say, in any environment with Box spaces of one dimension.

    The inner environment gets the perturbed action, clipped to its space, and so bases its costs on it.

    :param env: the environment
    :param perturbations: a list of mappings or `Perturbation` objects of the kinds action_*, motor_stuck and obs_*;
        targets are indices of components
    :raises PerturbationError: naming the entry that cannot act here
    """

    def __init__(
        self, env: gym.Env[Any, Any], perturbations: Sequence[Perturbation | Mapping[str, Any]] | None = None
    ) -> None:
        RecordConstructorArgs.__init__(self, perturbations=perturbations)
        gym.Wrapper.__init__(self, env)
        actions, observations = _flat_box("actions", env.action_space), _flat_box("observations", env.observation_space)
        low, high = (bound.astype(np.result_type(bound, np.float32)) for bound in (actions.low, actions.high))
        name = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
        finite = np.isfinite(high - low)
        half_range = np.where(finite, (high - low) / 2, 1.0).astype(np.float64)
        middle = np.where(finite, low + half_range, 0.0).astype(np.float64)
        self.perturber = Perturber(Plant(name, None, half_range, middle, {}, observations.shape[0]))
        self.perturber.use(parse(perturbations))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """
        Start an episode.

        :param seed: as everywhere
        :param options: ``{"perturbations": [...]}`` or ``{"scenario": name}`` replaces them, as of the robots
        :raises PerturbationError: on a scenario that there is not, both, or what cannot act here
        """
        options = dict(options or {})
        p = self.perturber
        if {"scenario", "perturbations"} <= options.keys():
            raise PerturbationError("Give perturbations or a scenario, not both.")
        if "scenario" in options:
            options["perturbations"] = find_scenario(options.pop("scenario"), p.plant.name).perturbations
        if "perturbations" in options:
            p.use(parse(options.pop("perturbations")))
        if seed is not None:
            p.seed(seed)
        p.begin()
        obs, info = self.env.reset(seed=seed, options=options)
        return self._seen(obs), info | p.info | {"steps_since_onset": p.steps_since_onset()}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One step, perturbed. :param action: the action"""
        p, space = self.perturber, self.env.action_space
        assert isinstance(space, spaces.Box)
        p.before_step(None)
        obs, reward, terminated, truncated, info = self.env.step(_within(space, p.command(action)))
        info |= p.info | {"steps_since_onset": p.steps_since_onset()}
        obs = self._seen(obs)
        p.t += 1
        return obs, reward, terminated, truncated, info

    def _seen(self, obs: Any) -> Any:
        """What the senses say, in the type of the space: integers rounded, and within it."""
        seen, space = self.perturber.observe(obs), self.env.observation_space
        assert isinstance(space, spaces.Box)
        if seen.dtype == np.asarray(obs).dtype:
            return seen
        # A reset may return integers in a space of floats.
        return _within(space, seen) if np.dtype(space.dtype).kind != "f" else seen.astype(space.dtype)


def _within(space: spaces.Box, x: Any) -> Any:
    """A vector, within the bounds of a space and in its type: integers are rounded, not cut."""
    whole = np.dtype(space.dtype).kind != "f"
    return np.clip(np.rint(x) if whole else x, space.low, space.high).astype(space.dtype)


def _flat_box(what: str, space: spaces.Space[Any]) -> spaces.Box:
    if not isinstance(space, spaces.Box) or len(space.shape) != 1:
        raise PerturbationError(f"PerturbSignals needs {what} that are a Box of one dimension, got {space}.")
    return space
