"""Small environments and builders for the tests."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_plastic import PlasticPPO


class RandomEnv(gym.Env):
    """Random observations and rewards, of any space; episodes of ``length`` steps, truncated at the end."""

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space, length: int = 7) -> None:
        self.observation_space, self.action_space, self.length = observation_space, action_space, length

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), f"{action} is not in {self.action_space}"
        self.t += 1
        return self.observation_space.sample(), self.np_random.normal(), False, self.t >= self.length, {}


class Ending(RandomEnv):
    """Whose episodes end by themselves: nothing would have followed."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, _, is_over, info = super().step(action)
        return observation, reward, is_over, False, info


class WholeEnds(DummyVecEnv):
    """Tells ends by 0 and 1: as SubprocVecEnv, which casts nothing, where environments do so."""

    def step_wait(self) -> Any:
        obs, rewards, dones, infos = super().step_wait()
        return obs, rewards, dones.astype(int), infos


class Dropping(BaseFeaturesExtractor):
    """A features extractor that learns, and drops a half of its features where it is not told that it is evaluated."""

    def __init__(self, observation_space: spaces.Box) -> None:
        super().__init__(observation_space, 8)
        n_inputs = int(np.prod(observation_space.shape))
        self.layers = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(n_inputs, 8), torch.nn.Dropout(0.5))

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return self.layers(observations)


class CartPoleNoVelocity(gym.ObservationWrapper):
    """CartPole that shows positions alone, so that acting well takes memory. Without, about 50 is the ceiling."""

    def __init__(self) -> None:
        env = gym.make("CartPole-v1")
        super().__init__(env)
        assert isinstance(env.observation_space, spaces.Box)
        high = env.observation_space.high[[0, 2]]
        self.observation_space = spaces.Box(-high, high, dtype=np.float32)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        return observation[[0, 2]]


BOX = spaces.Box(-2, 2, (4,), np.float32)


def random_vec_env(
    observation_space: spaces.Space = BOX, action_space: spaces.Space = BOX, n_envs: int = 3, length: int = 7
) -> VecEnv:
    """A vector of :class:`RandomEnv`, whose episodes end inside the chunks of :func:`small_ppo`."""
    return make_vec_env(lambda: RandomEnv(observation_space, action_space, length), n_envs, seed=0)


def small_ppo(env: VecEnv | None = None, policy: str = "MlpPolicy", **kwargs: Any) -> PlasticPPO:
    """A PlasticPPO that learns in a moment: 3 environments, 32 steps, chunks of 16, two small layers that fire well."""
    policy_kwargs = {"net_arch": [9, 7], "gain": 3.0, **kwargs.pop("policy_kwargs", {})}
    defaults = dict(n_steps=32, batch_size=32, n_epochs=1, seed=0, device="cpu")
    return PlasticPPO(policy, env or random_vec_env(), policy_kwargs=policy_kwargs, **{**defaults, **kwargs})
