"""One environment as a model was trained in it, from what is noted down beside the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_plastic.errors import UserError
from sb3_plastic.evaluation.environment import as_seen_by, split_wrappers, wrapped_by
from sb3_plastic.evaluation.zoo_files import zoo_files


def environment_of(path: Path, agent: Any, env: str | None = None, render: bool = False, trust: bool = False) -> VecEnv:
    """
    One environment in the wrappers that a model was trained with, without VecNormalize.

    :param path: of the model, beside which they are noted down
    :param agent: the model
    :param env: environment; None: as noted down
    :param render: show it in a window
    :param trust: run what the model's files ask for
    :raises UserError: if no environment is known, or it is not the model's
    """
    zoo = zoo_files(path)
    zoo.check_frames(path)
    env_id = env or zoo.env_id(trust)
    if env_id is None:
        raise UserError(
            f"{path} does not tell its environment. Name it: --env, for instance HalfCheetah-v5; `convert` needs none "
            "with --check 0."
        )
    of_env, of_vec_env = split_wrappers(zoo.wrappers(trust))

    def make() -> gym.Env[Any, Any]:
        shown: dict[str, Any] = {"render_mode": "human"} if render else {}  # not every environment has that argument
        kwargs = zoo.env_kwargs()
        try:
            made = gym.make(env_id, **shown, **kwargs)
        except TypeError as error:
            raise UserError(f"{env_id} cannot be made with the arguments {kwargs}: {error}") from error
        return wrapped_by(made, of_env)

    venv: VecEnv = wrapped_by(DummyVecEnv([make]), of_vec_env)
    try:
        return as_seen_by(agent, venv, env_id)
    except UserError:
        venv.close()
        raise
