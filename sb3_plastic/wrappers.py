"""Environment wrappers."""

from __future__ import annotations

from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class PreviousActionReward(gym.Wrapper):
    """
    Add the previous action and reward to the observation: what a network needs to know that things go wrong. Both are
    zero at the start of an episode.

    A box observation stays one, with the flattened action and the reward appended; a dict gets the keys
    ``previous_action`` and ``previous_reward``. As a wrapper, not a part of the policy, it serves ``predict`` (which is
    told no rewards), other algorithms, and RL Zoo (``env_wrapper: sb3_plastic.wrappers.PreviousActionReward``), and
    VecNormalize scales what it adds.

    :param env: environment with a box (of one axis) or dict observation, and a box, discrete, multi-discrete or
        multi-binary action; discrete actions are one-hot
    :raises ValueError: on other spaces
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        space = env.observation_space
        if not isinstance(env.action_space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
            raise ValueError(f"PreviousActionReward cannot serve the action space {env.action_space}.")
        self._action = spaces.flatten_space(env.action_space)
        assert isinstance(self._action, spaces.Box)
        n_actions = self._action.shape[0]
        added = {
            "previous_action": spaces.Box(-np.inf, np.inf, (n_actions,), np.float32),
            "previous_reward": spaces.Box(-np.inf, np.inf, (1,), np.float32),
        }
        if isinstance(space, spaces.Dict):
            self.observation_space: spaces.Space = spaces.Dict({**space.spaces, **added})
        elif isinstance(space, spaces.Box) and len(space.shape) == 1:
            free = np.full(n_actions + 1, np.inf, space.dtype)
            self.observation_space = spaces.Box(
                np.concatenate((space.low, -free)), np.concatenate((space.high, free)), dtype=space.dtype.type
            )
        else:
            raise ValueError(f"PreviousActionReward needs a box observation of one axis, or a dict, got {space}.")

    def _observe(self, observation: Any, action: Any, reward: float) -> Any:
        n_actions = self._action.shape[0]  # type: ignore[index]
        flat = np.zeros(n_actions) if action is None else np.asarray(spaces.flatten(self.env.action_space, action))
        if isinstance(observation, dict):
            added = {"previous_action": flat.astype(np.float32), "previous_reward": np.array([reward], np.float32)}
            return {**observation, **added}
        return np.concatenate((observation, flat, [reward])).astype(observation.dtype)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """As in gymnasium."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._observe(observation, None, 0.0), info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """As in gymnasium."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._observe(observation, action, float(reward)), reward, terminated, truncated, info
