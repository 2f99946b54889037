"""Rollouts of a training as nominal transitions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sb3_plastic.adaptive.collect import Transitions

Array = NDArray[Any]

HELD_OUT = 8
"""One of so many environments is held out, at least one; of a single environment a fifth of each rollout's steps."""


def split(rollout: Transitions) -> tuple[Transitions, Transitions]:
    """
    What is trained on, and what is held out: whole environments if there are several, so that nobody has seen them.

    :param rollout: T steps of N environments
    """
    n_steps, n = rollout.starts.shape
    if n > 1:
        cut = n - max(n // HELD_OUT, 1)
        return Transitions(*(x[:, :cut] for x in rollout)), Transitions(*(x[:, cut:] for x in rollout))
    cut = max(n_steps * 4 // 5, 1)
    return Transitions(*(x[:cut] for x in rollout)), Transitions(*(x[cut:] for x in rollout))


def side_by_side(rollouts: Iterable[Transitions]) -> Transitions:
    """Rollouts of one length as if they were one of more environments. :param rollouts: oldest first"""
    return Transitions(*(np.concatenate(arrays, 1) for arrays in zip(*rollouts, strict=True)))


def transitions_of(observations: Array, commands: Array, starts: Array) -> Transitions:
    """
    Transitions of a rollout. What follows the last step of an episode, or of the rollout, is not in it.

    :param observations: [T, N, O]
    :param commands: in units of half the control range, clipped, [T, N, A]
    :param starts: whether an episode starts, [T, N]
    """
    after = np.where(starts[1:, :, None] > 0, np.nan, observations[1:])
    o, a, after = (x.astype(np.float32) for x in (observations[:-1], commands[:-1], after))
    return Transitions(o, a, after, starts[:-1] > 0)
