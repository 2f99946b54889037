"""Small builders for the tests of perturbed locomotion."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium import spaces

from sb3_plastic.perturbations import env_id, register_envs

register_envs()

LIMB = {
    "HalfCheetah": "bfoot",
    "Ant": "ankle_1",
    "Hopper": "foot_joint",
    "Walker2d": "foot_joint",
    "Humanoid": "right_knee",
}


def make(robot: str, *, latent: bool = False, **kwargs: Any) -> Any:
    """A perturbed environment without the wrappers of gym.make."""
    return gym.make(env_id(robot, latent=latent), **kwargs).unwrapped


def stock(robot: str) -> Any:
    """Gymnasium's own environment."""
    return gym.make(f"{robot}-v5").unwrapped


def actions(env: Any, n_steps: int, seed: int = 0) -> np.ndarray:
    """Random actions over the whole range, [T, nu]."""
    space = env.action_space
    return np.random.default_rng(seed).uniform(space.low, space.high, (n_steps, *space.shape)).astype(np.float32)


def rollout(
    env: Any, n_steps: int = 60, *, seed: int = 0, options: Any = None
) -> tuple[np.ndarray, np.ndarray, list[dict]]:
    """Observations [T+1, D], rewards [T] and infos of random actions, past terminations."""
    obs, info = env.reset(seed=seed, options=options)
    observations, rewards, infos = [obs], [], [info]
    for action in actions(env, n_steps):
        obs, reward, _, _, info = env.step(action)
        observations.append(obs)
        rewards.append(reward)
        infos.append(info)
    return np.array(observations), np.array(rewards, dtype=np.float64), infos


def model_bytes(model: mujoco.MjModel) -> bytes:
    """All of a model, as MuJoCo itself stores it."""
    buffer = np.empty(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, buffer)
    return buffer.tobytes()


class Gauges(gym.Env):
    """Sends commands back in ``info``; observes three integers of 100, of 255 at most."""

    observation_space = spaces.Box(0, 255, (3,), np.uint8)
    action_space = spaces.Box(np.float32([-1, 0, 0]), np.float32([1, 1, 2]))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.full(3, 100, np.uint8), {}

    def step(self, action):
        return np.full(3, 100, np.uint8), 0.0, False, False, {"command": action}
