"""SB3's two kinds of observation: an array, or a dict of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.vec_env import VecEnv, VecTransposeImage

from sb3_plastic.errors import NotFiniteError

Obs = Any  # an array or tensor, or a dict of them


def map_obs(function: Callable[[Any], Any], obs: Obs) -> Obs:
    """
    Apply a function to an observation, or to each entry of a dict observation.

    :param function: from one array or tensor to another
    :param obs: the observation
    """
    return {key: function(value) for key, value in obs.items()} if isinstance(obs, dict) else function(obs)


def stack_obs(observations: Sequence[Obs], stack: Callable[[Any], Any] = np.stack) -> Obs:
    """
    Observations of single environments as one of several: [...] each -> [B, ...].

    :param observations: all arrays, or all dicts of them
    :param stack: another way to join arrays, or tensors
    """
    first = observations[0]
    if isinstance(first, dict):
        return {key: stack([obs[key] for obs in observations]) for key in first}
    return stack(observations)


def check_observation(observation: Obs, rows: Sequence[int] | None = None) -> None:
    """
    Refuse observations that are not finite: a membrane that took in a NaN keeps it to the end of the episode.

    :param observation: observations of all environments, [B, ...]
    :param rows: the environments that they belong to; None: all
    :raises NotFiniteError: naming the environment, and the entry of the observation
    """
    if isinstance(observation, dict):
        entries = [(f" under {key!r}", value) for key, value in observation.items()]
    else:
        entries = [("", observation)]
    for where, value in entries:
        value = np.asarray(value)
        # The sum is finite whenever every entry is (overflow aside), and many times cheaper than isfinite().all().
        if value.dtype.kind == "f" and not np.isfinite(value.sum()) and not np.isfinite(value).all():
            first = np.argwhere(~np.isfinite(value))[0]
            row = first[0] if rows is None else rows[first[0]]
            raise NotFiniteError(
                f"The observation of environment {row}{where} is {value[tuple(first)]} at index "
                f"{tuple(int(i) for i in first[1:])}: the simulation has probably become unstable, "
                "or a normalisation was divided by zero."
            )


def channels_first(venv: VecEnv) -> VecEnv:
    """
    As SB3 turns environments when a model is made: images with their channels first.

    :param venv: environments
    :return: the same, if there is nothing to turn
    """
    space = venv.observation_space
    parts = space.spaces.values() if isinstance(space, spaces.Dict) else [space]
    images = [part for part in parts if isinstance(part, spaces.Box) and is_image_space(part)]
    return venv if all(map(is_image_space_channels_first, images)) else VecTransposeImage(venv)
