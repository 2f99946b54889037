"""VecNormalize for algorithms that compare individuals: all of a generation are judged by the same statistics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy

import numpy as np
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize

from sb3_plastic.observations import check_observation, map_obs

Statistics = RunningMeanStd | dict[str, RunningMeanStd] | None
"""Mean and variance of observations, by key for dict observations; None: nothing is normalised."""


@contextmanager
def held(normalize: VecNormalize | None) -> Iterator[None]:
    """
    Environments stepped inside change no statistics. For single calls, so that a callback which saves the wrapper
    does not save it as one that has stopped learning.

    :param normalize: the wrapper, None if there is none
    """
    if normalize is None:
        yield
        return
    training, normalize.training = normalize.training, False
    try:
        yield
    finally:
        normalize.training = training


class Observed:
    """
    Statistics of what was observed in one sub-batch.

    :param normalize: the wrapper, None if there is none; then nothing happens
    """

    def __init__(self, normalize: VecNormalize | None) -> None:
        self.normalize = normalize
        self.statistics: Statistics = None
        if normalize is not None and normalize.training and normalize.norm_obs:
            self.statistics = deepcopy(normalize.obs_rms)
            for part in _parts(self.statistics):
                part.mean[...], part.var[...], part.count = 0, 1, 1e-12

    def observe(self, rows: np.ndarray) -> None:
        """
        Take in the last observations of some environments.

        :param rows: which, bool [n_envs]
        :raises NotFiniteError: if one is not finite: VecNormalize clips infinity, but the statistics would keep it
        """
        if self.statistics is None or self.normalize is None or not rows.any():
            return
        obs = self.normalize.get_original_obs()
        check_observation(map_obs(lambda array: array[rows], obs), np.flatnonzero(rows).tolist())
        if isinstance(self.statistics, dict):
            for key, part in self.statistics.items():
                part.update(obs[key][rows])
        else:
            self.statistics.update(obs[rows])  # type: ignore[index]


def original_rewards(normalize: VecNormalize | None, rewards: np.ndarray) -> np.ndarray:
    """
    The last rewards, not normalised.

    :param normalize: the wrapper, None if there is none
    :param rewards: as it returned them, [n_envs]
    """
    return rewards if normalize is None else normalize.get_original_reward()


def merge(normalize: VecNormalize | None, observed: Sequence[Statistics]) -> None:
    """
    Add what a generation has observed to the wrapper's statistics.

    :param normalize: the wrapper, None if there is none
    :param observed: of each sub-batch, in a fixed order, on which rounding depends
    """
    for statistics in observed:
        if statistics is None:
            continue
        assert normalize is not None
        for mine, new in zip(_parts(normalize.obs_rms), _parts(statistics), strict=True):
            mine.combine(new)


def _parts(statistics: Statistics) -> list[RunningMeanStd]:
    if statistics is None:
        return []
    return [*statistics.values()] if isinstance(statistics, dict) else [statistics]
