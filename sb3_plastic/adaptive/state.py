"""The state of an adaptive layer, a value: what it knows of each environment."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sb3_plastic.adaptive.synapses import Synapses

Array = NDArray[Any]


class AdaptiveState(NamedTuple):
    """
    Of B environments; the first axis of every array.

    :param steps: since the episode began, [B]; 0: there is nothing to learn from yet
    :param observation: the last one, lost readings filled in, [B, O]
    :param seen: whether its predicted components were seen, [B, C]
    :param shown: what the sensors showed last, finite or not, [B, O]
    :param commands: sent so far, the last one first, in units of half the control range, [B, D, A]
    :param f: see :class:`~sb3_plastic.adaptive.predictor.Prediction`
    :param B: likewise
    :param R: likewise
    :param evidence: of each hypothesis against nominal, [B, K]; see :mod:`~sb3_plastic.adaptive.responsibility`
    :param hint: likewise
    :param noise: that no hypothesis explains, likewise, [B]
    :param relapses: how often nominal took over from each one of late, likewise, [B, K]
    :param acting: the hypothesis that acts, [B]
    :param synapses: of each hypothesis
    """

    steps: Array
    observation: Array
    seen: Array
    shown: Array
    commands: Array
    f: Array
    B: Array
    R: Array
    evidence: Array
    hint: Array
    noise: Array
    relapses: Array
    acting: Array
    synapses: tuple[Synapses, ...]

    def arrays(self) -> tuple[Array, ...]:
        """All arrays in a flat tuple."""
        return (*self[:-1], *(array for synapses in self.synapses for array in synapses))

    @classmethod
    def from_arrays(cls, arrays: tuple[Array, ...]) -> AdaptiveState:
        """The inverse of :meth:`arrays`."""
        n, width = len(cls._fields) - 1, len(Synapses._fields)
        rest = arrays[n:]
        synapses = tuple(Synapses(*rest[i : i + width]) for i in range(0, len(rest), width))
        return cls._make((*arrays[:n], synapses))


def merge(rows: Array, a: AdaptiveState, b: AdaptiveState) -> AdaptiveState:
    """Of some rows (bool [B]) the one state, of the others the other."""
    return AdaptiveState.from_arrays(tuple(where(rows, x, y) for x, y in zip(a.arrays(), b.arrays(), strict=True)))


def with_estimates(state: AdaptiveState, of: AdaptiveState) -> AdaptiveState:
    """The same state, with all that was learned as another has it."""
    learned = ("evidence", "hint", "noise", "relapses", "acting", "synapses")
    return state._replace(**{name: getattr(of, name) for name in learned})


def where(rows: Array, a: Array, b: Array) -> Array:
    """Of some rows (bool [B]) the one array, of the others the other."""
    return np.where(rows.reshape(-1, *[1] * (a.ndim - 1)), a, b)
