"""How far two forms of one agent are apart over a rollout."""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv


class Difference(NamedTuple):
    """
    What :func:`compare` measures.

    :param steps: compared
    :param largest: largest difference of a number of the actions
    :param equal: share of the steps in which all numbers are the same
    """

    steps: int
    largest: float
    equal: float


def compare(agent: Any, other: Any, env: gym.Env[Any, Any] | VecEnv, steps: int = 200, seed: int = 0) -> Difference:
    """
    Both agents see the same observations, of a rollout that the first one acts in; each carries its own state.

    :param agent: with SB3's ``predict``
    :param other: likewise
    :param env: one environment or several; an episode that ends is followed by another
    :param steps: of the rollout
    :param seed: of the first episode
    """
    venv = env if isinstance(env, VecEnv) else DummyVecEnv([lambda: env])
    venv.seed(seed)
    observation, states, starts = venv.reset(), [None, None], np.ones(venv.num_envs, bool)
    largest, equal = 0.0, 0
    for _ in range(steps):
        actions = []
        for i, one in enumerate((agent, other)):
            action, states[i] = one.predict(observation, states[i], starts, deterministic=True)
            actions.append(np.asarray(action))
        gap = np.inf
        if actions[0].shape == actions[1].shape:
            gap = float(np.nan_to_num(np.abs(np.float64(actions[0]) - np.float64(actions[1])), nan=np.inf).max())
        largest, equal = max(largest, gap), equal + (gap == 0)
        observation, _, starts, _ = venv.step(actions[0])
    return Difference(steps, largest, equal / steps)
