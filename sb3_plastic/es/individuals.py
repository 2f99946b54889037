"""Individuals of a generation as a few numbers: workers draw the parameters themselves."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Individuals(NamedTuple):
    """
    The individuals ``x_k = mean + side_k sigma eps_k``, where ``eps_k ~ N(0, I)`` is drawn from seed k. A generation of
    1000 individuals with 10,000 parameters is 100 KB in this form, 40 MB as vectors.

    :param mean: [D]
    :param sigma: standard deviation of each parameter, [D]
    :param seeds: int64 [P]; the members of an antithetic pair have the same
    :param sides: float32 [P]: 1 and -1 for the members of an antithetic pair, 0 for the mean itself
    """

    mean: Tensor
    sigma: Tensor
    seeds: np.ndarray
    sides: np.ndarray

    def __len__(self) -> int:
        return len(self.seeds)

    def vectors(self, which: np.ndarray | None = None) -> Tensor:
        """
        Parameters of individuals.

        :param which: their numbers, int [B]; None: all
        :return: [B, D]
        """
        chosen = np.arange(len(self)) if which is None else which
        if not len(chosen):
            return self.mean.new_zeros(0, len(self.mean))
        noise = np.stack([normal(seed, len(self.mean)) for seed in self.seeds[chosen]])  # [B, D]
        signed = torch.from_numpy(self.sides[chosen, None] * noise)
        return self.mean.detach() + self.sigma * signed


def normal(seed: int, n: int) -> np.ndarray:
    """
    Standard normal numbers.

    :param seed: on which alone they depend
    :param n: how many
    :return: float32 [n]
    """
    return np.random.default_rng(int(seed)).standard_normal(n, np.float32)


def draw_seeds(rng: np.random.Generator, n: int) -> np.ndarray:
    """
    Seeds of a generation's noise.

    :param rng: source of randomness
    :param n: how many
    :return: int64 [n]
    """
    return rng.integers(2**63 - 1, size=n)


def antithetic(mean: Tensor, sigma: Tensor, population_size: int, rng: np.random.Generator) -> Individuals:
    """
    Antithetic pairs: first all ``mean + sigma eps_k``, then all ``mean - sigma eps_k``.

    :param mean: [D]
    :param sigma: [D]
    :param population_size: P, even
    :param rng: source of randomness
    """
    sides = np.repeat(np.array([1, -1], np.float32), population_size // 2)
    return Individuals(mean.detach().clone(), sigma, np.tile(draw_seeds(rng, population_size // 2), 2), sides)
