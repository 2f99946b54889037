"""What an evaluation takes from a running training: by what its environments were made."""

from __future__ import annotations

from contextlib import suppress

from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common.vec_env import VecEnv


def spec_of(venv: VecEnv) -> EnvSpec | None:
    """What a training's environments were made by; None if gymnasium does not know. :param venv: the training's"""
    with suppress(AttributeError, NotImplementedError):  # a VecEnv of the user's own
        spec: EnvSpec | None = venv.unwrapped.get_attr("spec")[0]
        return spec
    return None
