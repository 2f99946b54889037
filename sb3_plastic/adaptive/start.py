"""
The first reading of an episode. The nominal robot starts in places that are known, so sensors that have been off since
before the episode show it at once; later they repeat their error, and no change of a reading tells of it.

    e_i = (o_i - m_i) / s_i                             against the mean of nominal starts, of variance R_i
    S_i = R_i + J_i^2 q_i                               J, q: the hypothesis's jump, and what surprise opens
    gain = 1/2 sum_i ( e_i^2 / R_i - e_i^2 / S_i - log S_i / R_i )

The synapses learn from it as from a jump (Kalman, 1960), and the gain is evidence (Bayes' factor): the logarithm is the
price of what could explain any start. A sensor that starts anywhere tells nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

ENOUGH = 20
"""Nominal starts, of which mean and variance are known well enough."""

LEAST = 0.01
"""Standard deviation of a start, in those of the sensor: where none was seen to differ another may."""


class Starts(NamedTuple):
    """
    First readings of nominal episodes, of the components that are predicted.

    :param mean: [C]
    :param std: [C]
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


def starts_of(o: Array, std: Array) -> Starts:
    """
    :param o: first readings of the components that are predicted, [n, C]
    :param std: standard deviation of each on the walking robot, [C]
    :return: empty if there are too few
    """
    if len(o) < ENOUGH:
        return Starts()
    spread = np.maximum(o.std(0, ddof=1), LEAST * std)
    return Starts(tuple(o.mean(0).tolist()), tuple(spread.tolist()))


def explained(e: Array, R: Array, J: Array, q: Array) -> tuple[Array, Array, Array]:
    """
    What a hypothesis makes of the first readings.

    :param e: what they are off by, [B, C]
    :param R: variance of nominal starts, [C]
    :param J: derivative of the reading by the synapse of each component, [B, C]
    :param q: variance of the synapses, [C]
    :return: change of the synapses' means and their variances after it, [B, C], and the evidence for it, [B]
    """
    S = R + J**2 * q
    gain = 0.5 * (e**2 * (1 / R - 1 / S) - np.log(S / R)).sum(1)
    return J * q / S * e, q * R / S, gain
