"""Seeds: of a vector environment, one per environment, and of what policies draw."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from stable_baselines3.common.vec_env import VecEnv


def seed_each(env: VecEnv, seeds: Iterable[int | None]) -> None:
    """
    Give each environment its own seed for the next reset. (``VecEnv.seed`` takes one seed and counts up.)

    :param env: vector environment, also in wrappers
    :param seeds: one per environment; None: whatever it would take by itself
    """
    env.unwrapped._seeds = [None if seed is None else int(seed) for seed in seeds]


def seed_actions(model: Any, seed: int, n_envs: int = 1) -> None:
    """
    Seed what a model draws when it acts. With gSDE that is a matrix of noise, which is drawn anew here.

    :param model: with SB3's ``predict``
    :param seed: of torch
    :param n_envs: environments that it acts in at once
    """
    torch.manual_seed(seed)
    draw_noise(getattr(getattr(model, "agent", model), "policy", None), n_envs)


def draw_noise(policy: Any, n_envs: int = 1) -> None:
    """
    Draw the noise of gSDE anew, from the standard deviation as it is now. Other policies stay as they are.

    :param policy: of SB3 or sb3-contrib; of off-policy algorithms it is the actor that explores
    :param n_envs: environments that it acts in at once
    """
    parts: tuple[Any, ...] = policy, getattr(policy, "actor", None)
    for part in parts:
        if getattr(part, "use_sde", False):
            part.reset_noise(n_envs)
