"""One step of learning of a bank of hypotheses, each on the environments in which it has to learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sb3_plastic.adaptive.forward_model import ForwardModel, Prediction
from sb3_plastic.adaptive.hypotheses import Hypothesis, Transition
from sb3_plastic.adaptive.responsibility import against_nominal
from sb3_plastic.adaptive.synapses import Rates, Synapses

Array = NDArray[Any]


class Bank:
    """
    A scratchpad for one step: which hypotheses have learned where, and what the step says for each of them. One that
    has not learned in a step is taken to be as good as nominal, and has the traces of the one that acts.

    :param hypotheses: K of them, nominal first
    :param rates: of each
    :param synapses: of each, before the step; they stay as they are
    :param t: the step, of all environments
    :param model: the forward model
    :param noise: what hypotheses are compared under, a multiple of R of at least 1, [B]
    """

    def __init__(
        self,
        hypotheses: Sequence[Hypothesis],
        rates: Sequence[Rates],
        synapses: Sequence[Synapses],
        t: Transition,
        model: ForwardModel,
        noise: Array,
    ) -> None:
        self.hypotheses, self.rates, self.synapses, self.model = hypotheses, rates, list(synapses), model
        self.t, self.noise = t, noise
        self.learned = np.zeros((len(hypotheses), len(noise)), bool)
        self.misfits, self.likelihoods = np.zeros(self.learned.shape), np.zeros(self.learned.shape)
        self._part: tuple[Array, Transition] | None = None

    def learn(self, k: int, rows: Array) -> None:
        """
        One hypothesis learns.

        :param k: which
        :param rows: where, indices
        """
        if not len(rows):
            return
        if self._part is None or not np.array_equal(rows, self._part[0]):
            self._part = rows, _rows(self.t, rows)
        hypothesis, t, before = self.hypotheses[k], self._part[1], self.synapses[k]
        everywhere = len(rows) == len(self.noise)
        part = before if everywhere else Synapses(*(array[rows] for array in before))
        e, H = hypothesis.innovation(part.mean, t, self.model)
        R = t.expected.R
        part, self.likelihoods[k, rows] = hypothesis.learn(part, e, H, t, self.rates[k], self.noise[rows])
        self.misfits[k, rows] = -0.5 * (e * e / R).sum(1)
        self.learned[k, rows] = True
        if not everywhere:
            part = Synapses(*(_with_rows(array, new, rows) for array, new in zip(before, part, strict=True)))
        self.synapses[k] = part

    def traces(self, acting: Array) -> tuple[Array, Array]:
        """Surprise and expected noise of the hypothesis that acts, [B] each. :param acting: its index, [B]"""
        rows = np.arange(len(acting))
        surprise, noise = self._all_traces()
        return surprise[acting, rows], noise[acting, rows]

    def _all_traces(self) -> tuple[Array, Array]:
        return np.array([s.surprise for s in self.synapses]), np.array([s.noise for s in self.synapses])

    def least_error(self) -> Array:
        """Mean squared innovation of the hypothesis that has predicted best, in units of R, [B]."""
        return -2 * np.where(self.learned, self.misfits, -np.inf).max(0) / self.t.y.shape[1]

    def finish(self, acting: Array) -> tuple[tuple[Synapses, ...], Array, Array]:
        """
        Close the step.

        :param acting: the hypothesis that has acted, [B]
        :return: synapses after, and what the step says for each hypothesis against nominal: evidence and hint, [B, K]
        """
        of_acting = acting, np.arange(len(acting))
        traces = (np.where(self.learned, trace, trace[of_acting]) for trace in self._all_traces())
        self.synapses = [
            s._replace(surprise=surprise, noise=noise)
            for s, surprise, noise in zip(self.synapses, *traces, strict=True)
        ]
        misfits, likelihoods = (np.where(self.learned, x, x[0]) for x in (self.misfits, self.likelihoods))
        return tuple(self.synapses), against_nominal(misfits / self.noise), against_nominal(likelihoods)


def _with_rows(array: Array, new: Array, rows: Array) -> Array:
    array = array.copy()
    array[rows] = new
    return array


def _rows(t: Transition, rows: Array) -> Transition:
    if len(rows) == len(t.o):
        return t
    return Transition(t.o[rows], t.y[rows], t.commands[rows], Prediction(*(array[rows] for array in t.expected)))
