"""Environments as a model was trained in them, from what is noted down beside the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_plastic.errors import UserError
from sb3_plastic.evaluation.environment import TrainedIn, as_seen_by, split_wrappers, wrapped_by
from sb3_plastic.evaluation.settings import ModelSettings
from sb3_plastic.evaluation.zoo_files import statistics_of, zoo_files
from sb3_plastic.export import Normalization


def normalization_of(path: Path, about: ModelSettings) -> Normalization | None:
    """
    The statistics of VecNormalize that a model was trained with.

    :param path: of the model
    :param about: what is given, instead of what is beside it
    :raises UserError: if they are missing or damaged, or ask to run code and are not trusted
    """
    found = statistics_of(path, zoo_files(path), about)
    return Normalization.load(found, about.trust) if isinstance(found, Path) else found


def environment_of(path: Path, agent: Any, about: ModelSettings, render: bool = False, n_envs: int = 1) -> VecEnv:
    """
    Environments in the wrappers that a model was trained with, without VecNormalize.

    :param path: of the model, beside which they are noted down
    :param agent: the model
    :param about: what is given, instead of what is noted down
    :param render: show it in a window
    :param n_envs: how many
    :raises UserError: if no environment is known, or it is not the model's
    """
    zoo = zoo_files(path)
    zoo.check_frames(path)
    env_id, kwargs = zoo.env_id(about), zoo.env_kwargs(about)
    if env_id is None:
        raise UserError(
            f"{path} does not tell its environment. Name it: --env, for instance HalfCheetah-v5; `convert` needs none "
            "with --check 0."
        )
    limited = {**kwargs, "max_episode_steps": TrainedIn(env_id, kwargs).time_limit}
    of_env, of_vec_env = split_wrappers(zoo.wrappers(about))

    def make() -> gym.Env[Any, Any]:
        shown: dict[str, Any] = {"render_mode": "human"} if render else {}  # not every environment has that argument
        try:
            made = gym.make(env_id, **shown, **limited)
        except TypeError as error:
            raise UserError(f"{env_id} cannot be made with the arguments {kwargs}: {error}") from error
        return wrapped_by(made, of_env)

    venv: VecEnv = wrapped_by(DummyVecEnv([make] * n_envs), of_vec_env)
    try:
        return as_seen_by(agent, venv, env_id)
    except UserError:
        venv.close()
        raise
