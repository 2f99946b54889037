"""Seeds of a vector environment, one per environment."""

from __future__ import annotations

from collections.abc import Iterable

from stable_baselines3.common.vec_env import VecEnv


def seed_each(env: VecEnv, seeds: Iterable[int | None]) -> None:
    """
    Give each environment its own seed for the next reset. (``VecEnv.seed`` takes one seed and counts up.)

    :param env: vector environment, also in wrappers
    :param seeds: one per environment; None: whatever it would take by itself
    """
    env.unwrapped._seeds = [None if seed is None else int(seed) for seed in seeds]
