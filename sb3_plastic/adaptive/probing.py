"""
Commands that tell what is not known of cables (dual control: Feldbaum, 1960).

A slow gait commands the same for many steps, and which of two equal commands moved a motor cannot be seen. So each
command varies by a multiple of the standard deviation of what it does, over all hypotheses. It ends by itself: when the
cables are known, or when they explain nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sb3_plastic.adaptive.responsibility import probabilities

Array = NDArray[Any]

PROBING = 0.5
"""Standard deviations by which commands vary, unless it is told otherwise."""

PERIOD = 64
"""Steps after which the signs repeat."""

LOG_DOUBTFUL, LEAST_DOUBT = np.log(0.01), 0.01
"""Nobody probes for hypotheses that are less probable, or of less variance."""


def signs_of(n_motors: int) -> Array:
    """Which way each command varies in each step: fixed, so that a step is a function of its state. [PERIOD, A]"""
    return np.random.default_rng(0).choice((-1.0, 1.0), (PERIOD, n_motors))


def varied(
    commands: Array,
    by: Array,
    evidence: Array,
    acting: Array,
    asking: Sequence[int],
    doubt_of: Callable[[int, Array], Array],
    needed_in: Callable[[Array], Array],
) -> Array:
    """
    Commands, varied in the environments in which a hypothesis beside nominal acts.

    :param commands: within -1 and 1, [B, A]
    :param by: standard deviations with a sign, [B, A]
    :param evidence: of each hypothesis, hint included, [B, K]
    :param acting: the hypothesis that acts, [B]
    :param asking: the hypotheses that can be in doubt about commands, K' of them
    :param doubt_of: hypothesis and rows [B'] -> variance of what each command does, [B', A]
    :param needed_in: rows [B'] -> what each hypothesis needs more than nominal, [B', K]
    :return: within -1 and 1, [B, A]; at a bound a command varies the other way
    """
    # Odds against the one that acts bound a probability: mostly nobody is in doubt, and little time is spent.
    odds = (evidence[:, asking] - evidence[np.arange(len(acting)), acting, None]) > LOG_DOUBTFUL
    rows = (odds.any(1) & (acting > 0)).nonzero()[0]
    if not len(rows):
        return commands
    doubt = np.zeros((len(asking), len(rows), commands.shape[1]))
    for i in odds[rows].any(0).nonzero()[0]:
        doubt[i] = doubt_of(asking[i], rows)
    some = ((doubt > LEAST_DOUBT) & odds[rows].T[:, :, None]).any((0, 2)).nonzero()[0]
    if not len(some):
        return commands
    rows, doubt = rows[some], doubt[:, some].clip(0, 1)
    probable = probabilities(evidence[rows], needed_in(rows))[:, asking]
    step = by[rows] * np.sqrt(np.einsum("bk,kba->ba", probable, doubt))
    before, after = commands[rows], commands.copy()
    after[rows] = np.where(np.abs(before + step) > 1, before - step, before + step).clip(-1, 1)
    return after
