"""VecNormalize for algorithms that compare individuals: all of a generation are judged by the same statistics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecNormalize


class HeldStatistics:
    """
    The statistics of a ``VecNormalize``, held as they are for a generation, and what is observed meanwhile.

    :param normalize: the wrapper, None if there is none; then nothing happens
    """

    def __init__(self, normalize: VecNormalize | None) -> None:
        self.normalize, self.next = normalize, None
        if normalize is not None and normalize.training and normalize.norm_obs:
            self.next = deepcopy(normalize.obs_rms)

    @contextmanager
    def held(self) -> Iterator[None]:
        """
        Environments stepped inside change no statistics. For single calls, so that a callback which saves the wrapper
        does not save it as one that has stopped learning.
        """
        if self.normalize is None:
            yield
            return
        training, self.normalize.training = self.normalize.training, False
        try:
            yield
        finally:
            self.normalize.training = training

    def observe(self, rows: np.ndarray) -> None:
        """
        Take in the last observations of some environments.

        :param rows: which, bool [n_envs]
        """
        if self.next is None or not rows.any():
            return
        assert self.normalize is not None
        obs: Any = self.normalize.get_original_obs()
        for key, statistics in self.next.items() if isinstance(self.next, dict) else [(None, self.next)]:
            statistics.update((obs if key is None else obs[key])[rows])

    def original(self, rewards: np.ndarray) -> np.ndarray:
        """
        The last rewards as they were.

        :param rewards: as the wrapper returned them, [n_envs]
        """
        return rewards if self.normalize is None else self.normalize.get_original_reward()

    def release(self) -> None:
        """Let what was observed count, from now on."""
        if self.normalize is not None and self.next is not None:
            self.normalize.obs_rms = self.next
