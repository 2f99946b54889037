"""
The adaptive layer between an actor and the body: one step of all hypotheses, as functions of a state that is a value.

In each environment step: ``observe`` learns from what the last command did, ``sense`` says what the actor should see,
``command`` turns what the actor intends into what the motors are told.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sb3_plastic.adaptive.forward_model import ForwardModel, Prediction
from sb3_plastic.adaptive.hypotheses import DEFAULT, Sizes, Transition, make_hypotheses
from sb3_plastic.adaptive.kernels import learn
from sb3_plastic.adaptive.responsibility import accumulate, choose, log_likelihood_ratios
from sb3_plastic.adaptive.synapses import Rates, Synapses, initial_synapses, variances

Array = NDArray[Any]

UNSEEN = 1e6
"""Variance, as a multiple of R, of a component that was not finite."""


class LayerState(NamedTuple):
    """
    Of B environments; the first axis of every array.

    :param steps: since the episode began, [B]; 0: there is nothing to learn from yet
    :param observation: the last one, [B, O]
    :param seen: whether its predicted components were finite, [B, C]
    :param commands: sent so far, the last one first, in units of half the control range, [B, D, A]
    :param f: see :class:`~sb3_plastic.adaptive.forward_model.Prediction`
    :param B: likewise
    :param R: likewise
    :param sensed_change: see :class:`~sb3_plastic.adaptive.hypotheses.base.Transition`
    :param sensed_slope: likewise
    :param evidence: of each hypothesis against nominal, [B, K]
    :param acting: the hypothesis that acts, [B]
    :param synapses: of each hypothesis
    """

    steps: Array
    observation: Array
    seen: Array
    commands: Array
    f: Array
    B: Array
    R: Array
    sensed_change: Array
    sensed_slope: Array
    evidence: Array
    acting: Array
    synapses: tuple[Synapses, ...]

    def arrays(self) -> tuple[Array, ...]:
        """All arrays in a flat tuple."""
        return (*self[:-1], *(array for synapses in self.synapses for array in synapses))

    @classmethod
    def from_arrays(cls, arrays: tuple[Array, ...]) -> LayerState:
        """The inverse of :meth:`arrays`."""
        n, width = len(cls._fields) - 1, len(Synapses._fields)
        rest = arrays[n:]
        synapses = tuple(Synapses(*rest[i : i + width]) for i in range(0, len(rest), width))
        return cls(**dict(zip(cls._fields[:n], arrays[:n], strict=True)), synapses=synapses)


@dataclass(frozen=True)
class LayerSettings:
    """
    Plain data, saved with the layer.

    :param hypotheses: names that run side by side
    :param surprise_threshold: of each hypothesis by name, nominal first; calibrated
    :param head_start: evidence that each hypothesis needs, likewise
    :param lead: evidence that a rival needs more than the one that acts
    """

    hypotheses: tuple[str, ...] = DEFAULT
    surprise_threshold: dict[str, float] = field(default_factory=dict)
    head_start: dict[str, float] = field(default_factory=dict)
    lead: float = 2.0


class AdaptiveLayer:
    """
    Binds a forward model and settings to the functions of a step. It has no state of its own.

    :param model: forward model of the nominal robot
    :param settings: plain data
    """

    def __init__(self, model: ForwardModel, settings: LayerSettings) -> None:
        self.model, self.settings = model, settings
        self.components, self.scale = model.components.numpy(), model.scale.numpy().astype(np.float64)
        self.mean, self.std = model.mean.numpy().astype(np.float64), model.std.numpy().astype(np.float64)
        self.hypotheses = make_hypotheses(settings.hypotheses, Sizes(model.n_motors, self.components, self.std))
        self.names = [hypothesis.name for hypothesis in self.hypotheses]
        self.rates = [
            Rates(settings.surprise_threshold.get(h.name, 6.0), h.inflation(), *h.bounds()) for h in self.hypotheses
        ]
        self.head_start = np.array([0.0] + [settings.head_start.get(name, 3.0) for name in self.names[1:]])
        self.n_commands = 1 + max((getattr(h, "delay", 0) for h in self.hypotheses), default=0)

    def initial_state(self, n_envs: int) -> LayerState:
        """
        The state before the first observation of an episode.

        :param n_envs: B
        """
        n_observations, C = len(self.mean), len(self.components)
        A, K = self.model.n_motors, len(self.hypotheses)
        return LayerState(
            steps=np.zeros(n_envs, np.int64),
            observation=np.tile(self.mean, (n_envs, 1)),
            seen=np.ones((n_envs, C), bool),
            commands=np.zeros((n_envs, self.n_commands, A)),
            f=np.zeros((n_envs, C)),
            B=np.zeros((n_envs, C, A)),
            R=np.ones((n_envs, C)),
            sensed_change=np.zeros((n_envs, C)),
            sensed_slope=np.zeros((n_envs, C, n_observations)),
            evidence=np.zeros((n_envs, K)),
            acting=np.zeros(n_envs, np.int64),
            synapses=tuple(
                initial_synapses(h.start(), n_envs, h.full, rates)
                for h, rates in zip(self.hypotheses, self.rates, strict=True)
            ),
        )

    def reset(self, state: LayerState, rows: Array, keep_estimates: bool = False) -> LayerState:
        """
        Clear the rows of environments that start an episode.

        :param state: before
        :param rows: bool [B]
        :param keep_estimates: keep what the synapses have learned: a damaged robot stays damaged
        """
        if not rows.any():
            return state
        fresh = self.initial_state(len(rows))
        if keep_estimates:
            fresh = fresh._replace(evidence=state.evidence, acting=state.acting, synapses=state.synapses)
        return merge(rows, fresh, state)

    def forget(self, state: LayerState, rows: Array) -> LayerState:
        """The same state, with all that was learned forgotten in some rows (bool [B])."""
        fresh = self.initial_state(len(rows))
        return merge(
            rows,
            state._replace(evidence=fresh.evidence, acting=fresh.acting, synapses=fresh.synapses),
            state,
        )

    def fill(self, state: LayerState, o: Array) -> tuple[Array, Array]:
        """
        Replace what is not finite by what is expected.

        :param state: after the last command
        :param o: observation [B, O]
        :return: finite observation, and whether its predicted components were finite, [B, C]
        """
        finite = np.isfinite(o)
        if finite.all():
            return o, finite[:, self.components]
        expected = state.observation.copy()
        change = state.f + (state.B @ state.commands[:, 0, :, None])[..., 0]
        expected[:, self.components] += change * self.scale
        return np.where(finite, o, expected), finite[:, self.components]

    def observe(self, state: LayerState, o: Array, seen: Array) -> LayerState:
        """
        Learn from what the last command did. Rows at the start of an episode stay as they are.

        :param state: after the last command
        :param o: finite observation [B, O]
        :param seen: whether its predicted components were observed, [B, C]
        """
        y = (o - state.observation)[:, self.components] / self.scale
        t = Transition(
            state.observation,
            y,
            state.commands,
            Prediction(state.f, state.B, state.R),
            state.sensed_change,
            state.sensed_slope,
        )
        known = seen & state.seen
        R = state.R if known.all() else np.where(known, state.R, UNSEEN * state.R)
        innovations, synapses = [], []
        for hypothesis, before, rates in zip(self.hypotheses, state.synapses, self.rates, strict=True):
            e, H = hypothesis.innovation(before.mean, t)
            innovations.append(e)
            synapses.append(learn(before, e, H, R, rates))
        least_noise = np.maximum(np.min([s.noise for s in synapses], axis=0), 1)
        ratios = log_likelihood_ratios(np.array(innovations), R * least_noise[:, None])
        evidence = accumulate(state.evidence, ratios)
        acting = choose(evidence, state.acting, self.head_start, self.settings.lead)
        after = state._replace(evidence=evidence, acting=acting, synapses=tuple(synapses))
        begun = state.steps > 0
        return after if begun.all() else merge(begun, after, state)

    def sense(self, state: LayerState, o: Array) -> Array:
        """
        What the actor should see.

        :param state: after :meth:`observe`
        :param o: finite observation [B, O]
        """
        sensed = o
        for k, rows in self._rows_acting(state):
            if sensed is o:
                sensed = o.copy()
            mean = state.synapses[k].mean[rows]
            sensed[rows] = self.hypotheses[k].sense(mean, o[rows], state.commands[rows], self.model)
        return sensed

    def command(self, state: LayerState, o: Array, seen: Array, intended: Array) -> tuple[Array, LayerState]:
        """
        What the motors are told.

        :param state: after :meth:`observe`
        :param o: finite observation [B, O]
        :param seen: as for :meth:`observe`
        :param intended: the actor's action in units of half the control range, [B, A]
        :return: command [B, A], within -1 and 1, and the state after it
        """
        p = self.model.predict(o, intended)
        u = intended
        for k, rows in self._rows_acting(state):
            if u is intended:
                u = intended.copy()
            s = state.synapses[k]
            at = Prediction(p.f[rows], p.B[rows], p.R[rows])
            u[rows] = self.hypotheses[k].decode(s.mean[rows], variances(s.covariance[rows]), intended[rows], at)
        u = np.clip(u, -1, 1)
        change, slope = self._from_sensed(state, o, u, p)
        return u, state._replace(
            steps=state.steps + 1,
            observation=o,
            seen=seen,
            commands=np.concatenate([u[:, None], state.commands[:, :-1]], 1),
            f=p.f,
            B=p.B,
            R=p.R,
            sensed_change=change,
            sensed_slope=slope,
        )

    def _rows_acting(self, state: LayerState) -> list[tuple[int, Array]]:
        """Each hypothesis that acts somewhere, beside nominal, and where."""
        if not state.acting.any():
            return []
        return [(k, np.flatnonzero(state.acting == k)) for k in np.unique(state.acting).tolist() if k]

    def _from_sensed(self, state: LayerState, o: Array, u: Array, p: Prediction) -> tuple[Array, Array]:
        """The prediction from the observation as the sensors' hypothesis corrects it, whoever acts."""
        if "sensor_bias" not in self.names:
            return state.sensed_change, state.sensed_slope
        k = self.names.index("sensor_bias")
        corrected = self.hypotheses[k].sense(state.synapses[k].mean, o, state.commands, self.model)
        return self.model.linearise(corrected, u)


def merge(rows: Array, a: LayerState, b: LayerState) -> LayerState:
    """Of some rows (bool [B]) the one state, of the others the other."""
    chosen = (
        np.where(rows.reshape(-1, *[1] * (x.ndim - 1)), x, y) for x, y in zip(a.arrays(), b.arrays(), strict=True)
    )
    return LayerState.from_arrays(tuple(chosen))
