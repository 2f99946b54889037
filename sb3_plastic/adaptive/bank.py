"""One step of learning of a bank of hypotheses, each on the environments in which it has to learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sb3_plastic.adaptive import kernels
from sb3_plastic.adaptive.hypotheses import Hypothesis, Transition
from sb3_plastic.adaptive.predictor import Prediction, Predictor
from sb3_plastic.adaptive.responsibility import against_nominal
from sb3_plastic.adaptive.synapses import Rates, Synapses

Array = NDArray[Any]

TRACES, LIKELIHOOD, MISFIT = slice(2), 2, 3  # places in `Bank.said`; traces: surprise and expected noise


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
        model: Predictor,
        noise: Array,
    ) -> None:
        self.hypotheses, self.rates, self.synapses, self.model = hypotheses, rates, list(synapses), model
        self.t, self.noise = t, noise
        self.learned = np.zeros((len(hypotheses), len(noise)), bool)
        # [4, K, B], one array for all, since most of a step's time goes into numpy's calls
        self.said = np.zeros((4, *self.learned.shape))
        self.said[TRACES] = [s.surprise for s in synapses], [s.noise for s in synapses]
        self._part: tuple[Array, Transition] | None = None
        self._judge_fixed()

    def _judge_fixed(self) -> None:
        """Those that have nothing to learn: they differ by their delays alone, and are judged at once, everywhere."""
        fixed = [(k, hypothesis.delay) for k, hypothesis in enumerate(self.hypotheses) if hypothesis.fixed]
        of, delays = np.array(fixed).T
        p = self.t.expected
        e = _innovations(self.t.y, p.f, p.B, self.t.commands, delays)
        kernels.judge(self.said, of, e, p.R, self.noise)

    def learn(self, k: int, rows: Array) -> None:
        """
        One hypothesis learns.

        :param k: which
        :param rows: where, indices
        """
        if not len(rows):
            return
        self.learned[k, rows] = True
        if self.hypotheses[k].fixed:
            return
        if self._part is None or rows.tobytes() != self._part[0].tobytes():
            self._part = rows, rows_of(self.t, rows)
        hypothesis, t, before = self.hypotheses[k], self._part[1], self.synapses[k]
        everywhere = len(rows) == len(self.noise)
        part = before if everywhere else Synapses(*(array.take(rows, 0) for array in before))
        e, H = hypothesis.innovation(part.mean, t, self.model)
        part, likelihood = hypothesis.learn(part, e, H, t, self.rates[k], self.noise[rows])
        said = part.surprise, part.noise, likelihood, -0.5 * (e * e / t.expected.R).sum(1)
        for place, values in zip(self.said[:, k], said, strict=True):
            place[rows] = values
        if not everywhere:
            mean, covariance = before.mean.copy(), before.covariance.copy()
            mean[rows], covariance[rows] = part.mean, part.covariance
            part = before._replace(mean=mean, covariance=covariance)
        self.synapses[k] = part

    def traces(self, acting: Array) -> tuple[Array, Array]:
        """Surprise and expected noise of the hypothesis that acts, [B] each. :param acting: its index, [B]"""
        return tuple(self.said[TRACES, acting, np.arange(len(acting))])

    def least_error(self) -> Array:
        """Of a closed step: mean squared innovation of the hypothesis that predicted best, in units of R, [B]."""
        return -2 * self.said[MISFIT].max(0) / self.t.y.shape[1]

    def finish(self, acting: Array) -> tuple[tuple[Synapses, ...], Array, Array]:
        """
        Close the step.

        :param acting: the hypothesis that has acted, [B]
        :return: synapses after, and what the step says for each hypothesis against nominal: evidence and hint, [B, K]
        """
        _fill_in(self.said, self.learned, acting)
        surprise, noise, likelihoods, misfits = self.said
        synapses = tuple(Synapses(*s[:2], *traces) for s, *traces in zip(self.synapses, surprise, noise, strict=True))
        return synapses, against_nominal(misfits / self.noise), against_nominal(likelihoods)


@kernels.compiled
def _fill_in(said: Array, learned: Array, acting: Array) -> None:
    """What those say that have not learned: the traces of the one that acts, and what nominal says."""
    for k in range(learned.shape[0]):
        for b in range(learned.shape[1]):
            if not learned[k, b]:
                for i in range(said.shape[0]):
                    said[i, k, b] = said[i, acting[b] if i < LIKELIHOOD else 0, b]


@kernels.compiled
def _innovations(y: Array, f: Array, B: Array, commands: Array, delays: Array) -> Array:
    """
    What the forward model did not expect, if commands arrived late: ``y - f - B a``.

    :param y: change of the observation, [B, C]
    :param f: expected without a command, [B, C]
    :param B: effect of each motor, [B, C, A]
    :param commands: sent so far, the last one first, [B, D, A]
    :param delays: steps, K' of them
    :return: [B, K', C]
    """
    n_envs, C, A = B.shape
    e = np.empty((n_envs, len(delays), C))
    for b in range(n_envs):
        for j in range(len(delays)):
            for i in range(C):
                moved = 0.0
                for k in range(A):
                    moved += B[b, i, k] * commands[b, delays[j], k]
                e[b, j, i] = y[b, i] - f[b, i] - moved
    return e


def rows_of(t: Transition, rows: Array) -> Transition:
    """The same step of some environments. :param t: of all :param rows: which, indices"""
    if len(rows) == len(t.o):
        return t
    o, y, commands = (array.take(rows, 0) for array in t[:3])
    seen = None if t.seen is None else t.seen.take(rows, 0)
    return Transition(o, y, commands, Prediction(*(array.take(rows, 0) for array in t.expected)), seen)
