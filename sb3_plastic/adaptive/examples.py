"""Observations that a robot has really made: where a mean is none that it could make, the nearest of these is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sb3_plastic.adaptive.forward_model import FAR

Array = NDArray[Any]


def standardised(o: Array, mean: Array, std: Array) -> Array:
    """Observations as the body reads them: in standard deviations from their mean, bounded, in single precision."""
    return ((o.astype(np.float32) - mean) / std).clip(-FAR, FAR)


class Examples:
    """
    Observations to look up. Each is compared with all, which takes a product of matrices: some thousands are cheap.

    :param observed: observations, [E, C], in the units of the robot
    :param mean: of each component, [C]
    :param std: standard deviation of each, [C]
    """

    def __init__(self, observed: Array, mean: Array, std: Array) -> None:
        self.observed, self.mean, self.std = observed, mean, std
        z = standardised(observed, mean, std)
        self._z, self._squared = z.T.copy(), (z * z).sum(1)

    def nearest(self, o: Array) -> Array:
        """
        The examples nearest to observations, by the sum of squares in standard deviations.

        :param o: such as predicted ones, [B, C]
        :return: [B, C]
        """
        z = standardised(o, self.mean, self.std)
        return self.observed[(self._squared - 2 * z @ self._z).argmin(1)]
