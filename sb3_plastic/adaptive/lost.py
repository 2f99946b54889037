"""
Readings that are none: not finite, or silent. A sensor that is lost for a step, or dead, shows nothing; one that is
stuck shows what it showed before. By chance neither happens to what is measured, to the last digit. So a silent reading
is believed only where the forward model expects about as much (analytical redundancy: Frank, 1990).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

ABSURD = 1e30
"""No reading: a number as large overflows in what is learned from it, and would stay there as NaN."""

UNSEEN = 1e6
"""Variance, as a multiple of R, of a component that was not seen."""

SAME = 1e-6
"""Readings this close, in standard deviations, are the same: a normalisation rounds."""

MOST = 0.5
"""Where as large a share of an observation repeats, it is late as a whole: no sensor is stuck."""

FAMILIAR = 0.01
"""A value that the nominal robot shows in this share of the steps, to the last digit, is no silence."""

MOST_VALUES = 4
"""Familiar values of a sensor that are known: nothing, both of its bounds, and another."""


def is_finite(o: Array) -> Array:
    """Whether readings are numbers that can be reckoned with. :param o: of any shape"""
    return np.abs(o) < ABSURD  # of NaN, too, that is false


def silent(o: Array, before: Array, nothing: Array, std: Array, familiar: Array) -> Array:
    """
    Whether sensors show what a dead one or a stuck one would.

    :param o: readings [B, C]
    :param before: those of the step before, [B, C]
    :param nothing: what a sensor shows that shows nothing, [C]
    :param std: standard deviations of the nominal robot, [C]
    :param familiar: of :func:`familiar_values`
    :return: bool [B, C]
    """
    stuck = o == before
    found: Array = (np.abs(o - nothing) <= SAME * std) | (stuck & (stuck.mean(1) < MOST)[:, None])
    if found.any():
        found &= ~(o.astype(np.float32)[:, :, None] == familiar).any(2)
    return found


def familiar_values(examples: Array) -> Array:
    """
    What sensors often show: of a contact sensor what it shows in the air, of a velocity that is clipped its bounds.

    :param examples: observations of the nominal robot [n, C]
    :return: [C, 4], NaN where there are fewer
    """
    found = np.full((examples.shape[1], MOST_VALUES), np.nan, np.float32)
    if not examples.any():  # a forward model of before has none
        return found
    for column, places in zip(examples.T, found, strict=True):
        values, counts = np.unique(column, return_counts=True)
        often = np.argsort(-counts)[:MOST_VALUES]
        often = often[counts[often] > FAMILIAR * len(column)]
        places[: len(often)] = values[often]
    return found
