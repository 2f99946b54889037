"""
Readings that are none: not finite, or silent. A sensor that is lost for a step, or dead, shows nothing; one that is
stuck shows what it showed before. By chance neither happens to what is measured, to the last digit. So a silent reading
is believed only where the forward model expects about as much (analytical redundancy: Frank, 1990).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sb3_plastic.adaptive.kernels import compiled
from sb3_plastic.errors import UserError

Array = NDArray[Any]

ABSURD = 1e30
"""No reading: a number as large overflows in what is learned from it, and would stay there as NaN."""

UNSEEN = 1e6
"""Variance, as a multiple of R, of a component that was not seen."""

SAME = 1e-6
"""Readings this close, in standard deviations, are the same: a normalisation rounds."""

MOST = 0.5
"""Where a larger share of an observation repeats, it is late as a whole: no sensor is stuck."""

OFTEN = 0.01
"""What is silent in a larger share of nominal steps is believed: a contact sensor in the air, a thing at rest."""


def is_finite(o: Array) -> Array:
    """Whether readings are numbers that can be reckoned with. :param o: of any shape"""
    return np.abs(o) < ABSURD  # of NaN, too, that is false


def telling(name: str, quiet: tuple[int, ...], n: int) -> Array:
    """
    Of which components silence says something, bool [C].

    :param name: of the setting, for the message
    :param quiet: places of those of which it does not
    :param n: components, C
    :raises UserError: on what is no place
    """
    if not (isinstance(quiet, list | tuple) and all(type(place) is int and 0 <= place < n for place in quiet)):
        raise UserError(
            f"{name} must be places of predicted components, whole numbers from 0 to {n - 1}, got {quiet!r}."
        )
    return ~np.isin(np.arange(n), quiet)


def ends_of(examples: Array) -> Array:
    """
    Where sensors end, which clip what they show: the least and the largest of what they have shown, [2, C].

    :param examples: observations of the nominal robot [n, C]
    """
    return np.stack([examples.min(0), examples.max(0)]).astype(np.float64)


@compiled
def silences(o: Array, before: Array, nothing: Array, std: Array, ends: Array) -> Array:
    """
    Whether sensors show what a dead one would, and what a stuck one would. At its end a sensor may stay.

    :param o: readings [B, C]
    :param before: those of the step before, [B, C]
    :param nothing: what a sensor shows that shows nothing, [C]
    :param std: standard deviations of the nominal robot, [C]
    :param ends: of :func:`ends_of`
    :return: bool [2, B, C]
    """
    silent = np.empty((2, *o.shape), np.bool_)
    for b in range(o.shape[0]):
        for i in range(o.shape[1]):
            reading, near = o[b, i], SAME * std[i]
            at_an_end = abs(reading - ends[0, i]) <= near or abs(reading - ends[1, i]) <= near
            silent[0, b, i] = abs(reading - nothing[i]) <= near
            silent[1, b, i] = reading == before[b, i] and not at_an_end
    return silent


@compiled
def suspects(silent: Array, telling: Array) -> Array:
    """
    Readings that may be none.

    :param silent: of :func:`silences`
    :param telling: of which components either says something, bool [2, C]
    :return: bool [B, C]
    """
    found: Array = np.empty(silent.shape[1:], np.bool_)
    most = MOST * telling[1].sum()
    for b in range(found.shape[0]):
        n_stuck = 0
        for i in range(found.shape[1]):
            n_stuck += silent[1, b, i] and telling[1, i]
        late = n_stuck > most
        for i in range(found.shape[1]):
            dead, stuck = silent[0, b, i] and telling[0, i], silent[1, b, i] and telling[1, i]
            found[b, i] = dead or (stuck and not late)
    return found
