"""What an evaluation takes from a running training: by what its environments were made."""

from __future__ import annotations

import pkgutil
from contextlib import suppress

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv

from sb3_plastic.errors import UserError
from sb3_plastic.evaluation.settings import WrapperSpec


def spec_of(venv: VecEnv) -> EnvSpec | None:
    """What a training's environments were made by; None if gymnasium does not know. :param venv: the training's"""
    with suppress(AttributeError, NotImplementedError):  # a VecEnv of the user's own
        spec: EnvSpec | None = venv.unwrapped.get_attr("spec")[0]
        return spec
    return None


WITHOUT_EFFECT = (Monitor, gym.wrappers.RecordEpisodeStatistics, gym.wrappers.RecordVideo, gym.RewardWrapper)
"""Wrappers that change neither what a policy sees nor what it does."""


def wrappers_of(spec: EnvSpec) -> list[WrapperSpec]:
    """
    What a training's environments are wrapped in, the first innermost, but for what has no effect on a policy.

    :param spec: of one of them
    :raises UserError: if a wrapper does not tell its arguments, as those of gymnasium and ours do
    """
    found: list[WrapperSpec] = []
    for wrapper in spec.additional_wrappers:
        name, cls = wrapper.entry_point.replace(":", "."), None
        with suppress(ImportError, AttributeError, ValueError):  # of a class within a function
            cls = pkgutil.resolve_name(name)
        if isinstance(cls, type) and issubclass(cls, WITHOUT_EFFECT):
            continue
        if wrapper.kwargs is None or cls is None:
            raise UserError(
                f"The training wraps its environments in {name}, which does not tell how it is made: name its wrappers "
                f"for evaluations, too, such as wrappers=[{name!r}], or [] for none. A wrapper of your own tells "
                "it as a gymnasium.utils.RecordConstructorArgs."
            )
        found.append({name: dict(wrapper.kwargs)})
    return found
