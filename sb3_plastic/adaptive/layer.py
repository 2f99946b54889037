"""
The adaptive layer between an actor and the body: one step of all hypotheses, as functions of a state that is a value.

In each environment step: ``observe`` learns from what the last command did, ``sense`` says what the actor should see,
``command`` turns what the actor intends into what the motors are told.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sb3_plastic.adaptive.bank import Bank, rows_of
from sb3_plastic.adaptive.forward_model import ForwardModel
from sb3_plastic.adaptive.hypotheses import Hypothesis, Sizes, Transition, checked_names, make_hypotheses
from sb3_plastic.adaptive.lost import UNSEEN, ends_of, is_finite, silences, suspects, telling
from sb3_plastic.adaptive.predictor import Prediction, Predictor
from sb3_plastic.adaptive.probing import PERIOD, signs_of, varied
from sb3_plastic.adaptive.responsibility import (
    AT_EASE,
    HINT_LEAK,
    LEAK,
    accumulate,
    against_nominal,
    choose,
    needed,
    noise_after,
    relapses_after,
)
from sb3_plastic.adaptive.settings import LayerSettings
from sb3_plastic.adaptive.start import check_starts, learn_start
from sb3_plastic.adaptive.state import AdaptiveState, merge, where, with_estimates
from sb3_plastic.adaptive.synapses import Rates, Synapses, variances, with_rule
from sb3_plastic.errors import UserError, check_choice, check_number

Array = NDArray[Any]


class AdaptiveLayer:
    """
    Binds a forward model and settings to the functions of a step. It has no state of its own.

    :param model: forward model of the nominal robot
    :param settings: plain data
    """

    def __init__(self, model: ForwardModel, settings: LayerSettings) -> None:
        settings = replace(settings, hypotheses=checked_names(settings.hypotheses))
        self.model, self.settings, self.predictor = model, settings, Predictor(model)
        self.components, self.scale = model.components.numpy(), model.scale.numpy().astype(np.float64)
        self.mean, self.std = model.mean.numpy().astype(np.float64), model.std.numpy().astype(np.float64)
        sizes = self._sizes()
        self.zero, self.hypotheses = sizes.zero, make_hypotheses(settings.hypotheses, sizes)
        self.names = [hypothesis.name for hypothesis in self.hypotheses]
        quiet = {"often_nothing": settings.often_nothing, "often_still": settings.often_still}
        self.ends = ends_of(model.examples.numpy())
        self.telling = np.stack([telling(name, places, len(self.components)) for name, places in quiet.items()])
        self.rates = [
            with_rule(
                Rates(
                    settings.surprise_threshold.get(h.name, 6.0),
                    h.inflation(),
                    *h.bounds(),
                    start_variance=h.start_variance,
                    noise_scale=h.noise_scale,
                ),
                settings.rule.get(h.name, {}),
            )
            for h in self.hypotheses
        ]
        for name in ("lost_at", "probing", "head_start", "calm", "lead"):
            check_number(name, getattr(settings, name), at_least=0)
        check_starts(settings.start_mean, settings.start_std, len(self.components))
        if settings.always is not None:
            check_choice("hypothesis that always acts", settings.always, self.names)
        # The others let the actor see what the sensors say.
        self.senses = np.array([type(h).sense is not Hypothesis.sense for h in self.hypotheses])
        self.cases = {k: self.names.index(h.case_of) for k, h in enumerate(self.hypotheses) if h.case_of in self.names}
        self.asking = [k for k, h in enumerate(self.hypotheses) if type(h).doubt is not Hypothesis.doubt]
        self.watchful = [k for k, h in enumerate(self.hypotheses) if h.watchful]
        self.is_watched = np.array([k == 0 or h.watchful for k, h in enumerate(self.hypotheses)])
        self.in_noise = np.array([h.in_noise for h in self.hypotheses])
        self.lasting = np.array([h.lasting for h in self.hypotheses])
        self.signs = signs_of(model.n_motors)
        self.n_commands = 1 + max(h.delay for h in self.hypotheses)
        self.shapes = [array.shape[1:] for array in self.initial_state(1).arrays()]

    def _sizes(self) -> Sizes:
        zero, unexplained = np.zeros_like(self.mean), np.zeros_like(self.scale)
        # Features of the actor, which may follow the observation, have a zero of 0.
        zero[: len(self.settings.sensor_zero)] = self.settings.sensor_zero
        unexplained[: len(self.settings.unexplained)] = self.settings.unexplained
        return Sizes(self.model.n_motors, self.components, self.mean, self.std, self.scale, zero, unexplained)

    def initial_state(self, n_envs: int) -> AdaptiveState:
        """
        The state before the first observation of an episode.

        :param n_envs: B
        """
        C, A, K = len(self.components), self.model.n_motors, len(self.hypotheses)
        return AdaptiveState(
            steps=np.zeros(n_envs, np.int64),
            observation=np.tile(self.mean, (n_envs, 1)),
            seen=np.ones((n_envs, C), bool),
            shown=np.tile(self.mean, (n_envs, 1)),
            commands=np.zeros((n_envs, self.n_commands, A)),
            f=np.zeros((n_envs, C)),
            B=np.zeros((n_envs, C, A)),
            R=np.ones((n_envs, C)),
            evidence=np.zeros((n_envs, K)),
            hint=np.zeros((n_envs, K)),
            noise=np.ones(n_envs),
            relapses=np.zeros((n_envs, K)),
            acting=np.zeros(n_envs, np.int64),
            synapses=tuple(h.initial(n_envs, rates) for h, rates in zip(self.hypotheses, self.rates, strict=True)),
        )

    def state_of(self, arrays: tuple[Array, ...], n_envs: int | None = None) -> AdaptiveState:
        """
        Arrays of :meth:`AdaptiveState.arrays` as a state of this layer.

        :param arrays: all of them
        :param n_envs: B; None: as many as they have
        :raises UserError: if they are too few, of other environments, or of another layer
        """
        n_envs = len(arrays[0]) if n_envs is None else n_envs
        for i, (array, row) in enumerate(zip(arrays, self.shapes, strict=False)):
            if array.shape != (n_envs, *row):
                raise UserError(
                    f"Entry {i} of the state has shape {array.shape}, expected {(n_envs, *row)}: pass back what "
                    f"predict returned, for the same {n_envs} environments, or state=None to start afresh."
                )
        if (n := len(self.shapes)) > len(arrays):
            raise UserError(f"A state has at least {n} arrays, got {len(arrays)}: pass back what predict returned.")
        return AdaptiveState.from_arrays(arrays)

    def reset(self, state: AdaptiveState, rows: Array, keep_estimates: bool = False) -> AdaptiveState:
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
            fresh = with_estimates(fresh, self.kept(state))
        return merge(rows, fresh, state)

    def kept(self, state: AdaptiveState) -> AdaptiveState:
        """The same state, without what its synapses know of the last reading alone."""
        kept = (hypothesis.carried(s) for hypothesis, s in zip(self.hypotheses, state.synapses, strict=True))
        return state._replace(synapses=tuple(kept))

    def forget(self, state: AdaptiveState, rows: Array) -> AdaptiveState:
        """The same state, with all that was learned forgotten in some rows (bool [B])."""
        fresh = self.initial_state(len(rows))
        return merge(rows, with_estimates(state, fresh), state)

    def fill(self, state: AdaptiveState, o: Array, off: bool = False) -> tuple[AdaptiveState, Array, Array]:
        """
        Replace readings that are none by what the hypothesis that acts expects: see
        :mod:`~sb3_plastic.adaptive.lost`.

        :param state: after the last command
        :param o: observation [B, O]
        :param off: the layer is switched off: only what is not finite is replaced
        :return: the state, which knows what was shown; finite observation; whether its predicted components were seen,
            [B, C]
        """
        usable, i = is_finite(o), self.components
        suspect = suspects(silences(o[:, i], state.shown[:, i], self.zero[i], self.std[i], self.ends), self.telling)
        suspect &= (state.steps > 0)[:, None] & (self.settings.lost_at > 0 and not off)
        before, state = state, state._replace(shown=o)
        if usable.all() and not suspect.any():
            return state, o, usable[:, i]
        expected = self._expected(before)
        e = np.abs(o - expected)[:, i] / self.scale
        # Once silent, until it says something: of a slow change each step alone would be expected.
        silent = ~state.seen & is_finite(before.shown[:, i])
        usable[:, i] &= ~(suspect & (silent | (e > self.settings.lost_at * np.sqrt(state.R))))
        return state, np.where(usable, o, expected), usable[:, i]

    def _expected(self, state: AdaptiveState) -> Array:
        """The observation that the hypothesis that acts expects next, [B, O]. What is not predicted stays as it was."""
        change = state.f + (state.B @ state.commands[:, 0, :, None])[..., 0]  # nominal's; where others act, theirs
        unmoved = Transition(
            state.observation, np.zeros_like(change), state.commands, Prediction(state.f, state.B, state.R)
        )
        for k, rows in self._rows_acting(state):
            t = rows_of(unmoved, rows)
            change[rows] = -self.hypotheses[k].innovation(state.synapses[k].mean[rows], t, self.predictor)[0]
        expected = state.observation.copy()
        begun = (state.steps > 0)[:, None]  # before an episode nothing moves
        expected[:, self.components] += begun * change * self.scale
        return expected

    def observe(self, state: AdaptiveState, o: Array, seen: Array) -> AdaptiveState:
        """
        Learn from what the last command did; at the start of an episode from where the robot starts.

        :param state: after the last command
        :param o: finite observation [B, O]
        :param seen: whether its predicted components were observed, [B, C]
        """
        y = (o - state.observation)[:, self.components] / self.scale
        known = seen & state.seen
        state = state if known.all() else state._replace(R=np.where(known, state.R, UNSEEN * state.R))
        begun = state.steps > 0
        state = state if begun.all() else self.begin(state, o, seen)
        acting = state.acting
        t = Transition(state.observation, y, state.commands, Prediction(state.f, state.B, state.R), known)
        bank = Bank(self.hypotheses, self.rates, state.synapses, t, self.predictor, np.maximum(state.noise, 1))
        bank.learn(0, begun.nonzero()[0])
        for k, rows in self._rows_acting(state):
            bank.learn(k, rows[begun[rows]])
        # A dead zone: while who acts has errors no larger than the forward model's own, the others wait. The watchful
        # learn where nominal or one of them acts: what they are for can be lost in the errors of all components.
        surprise, expected = bank.traces(acting)
        shaken = begun & (surprise * np.maximum(expected, 1) > self.settings.calm)
        watched = begun & self.is_watched[acting]
        for k in range(1, len(self.hypotheses)) if shaken.any() else self.watchful:
            others = shaken | watched if k in self.watchful else shaken
            bank.learn(k, np.flatnonzero(others & (acting != k)))
        synapses, gained, hinted = bank.finish(acting)
        for k, general in self.cases.items():
            hinted[:, k] = np.maximum(hinted[:, k], hinted[:, general])
        evidence = accumulate(state.evidence, gained, LEAK)
        hint = accumulate(state.hint, hinted * (state.noise < AT_EASE)[:, None], HINT_LEAK)
        noise = np.where(begun, noise_after(state.noise, bank.least_error()), 1)
        chosen = choose(evidence + hint, acting, self.needed(noise, state.relapses), self.settings.lead)
        if self.settings.always is not None:
            chosen = np.where(begun, self.names.index(self.settings.always), 0)
        relapses = relapses_after(state.relapses, acting, chosen, self.lasting)
        after = state._replace(
            evidence=evidence, hint=hint, noise=noise, relapses=relapses, acting=chosen, synapses=synapses
        )
        return after if begun.all() else merge(begun, after, state)

    def begin(self, state: AdaptiveState, o: Array, seen: Array) -> AdaptiveState:
        """
        Where an episode starts, learn from where the robot does: see :mod:`~sb3_plastic.adaptive.start`.

        :param state: before :meth:`observe`, which does this first
        :param o: finite observation [B, O]
        :param seen: whether its predicted components were observed, [B, C]
        """
        rows, settings = state.steps == 0, self.settings
        if not rows.any() or not settings.start_mean or settings.always is not None:
            return state
        at, R = state.observation.copy(), np.square(np.asarray(settings.start_std) / self.scale)
        at[:, self.components] = settings.start_mean

        def unlike(o: Array) -> Array:
            return np.where(seen, (o - at)[:, self.components] / self.scale, 0)

        t = Transition(at, unlike(o), state.commands, Prediction(state.f, state.B, state.R), seen)
        synapses, gains, found = list(state.synapses), np.zeros((len(self.hypotheses), len(o))), np.zeros(len(o), bool)
        for k, (h, rates) in enumerate(zip(self.hypotheses, self.rates, strict=True)):
            unexplained = unlike(h.sense(synapses[k].mean, o, state.commands, self.predictor))
            learned = learn_start(h, synapses[k], unexplained, t, R, rates)
            if learned is None:
                continue
            fresh, gain, kept, gains[k] = learned
            better = rows & (gain > np.maximum(gains[k], 0) + settings.head_start)
            lasts = rows & ~better & (gains[k] > settings.head_start)
            gains[k, better], found = gain[better], found | better
            for which, after in ((better, fresh), (lasts, kept)):
                synapses[k] = Synapses(*(where(which, x, y) for x, y in zip(after, synapses[k], strict=True)))
        evidence = np.where(found[:, None], against_nominal(gains), state.evidence)  # the start begins it anew
        chosen = choose(evidence, state.acting, self.needed(state.noise, state.relapses), settings.lead)
        acting = np.where(found, chosen, state.acting)
        return state._replace(evidence=evidence, acting=acting, synapses=tuple(synapses))

    def sense(self, state: AdaptiveState, o: Array) -> Array:
        """
        What the actor should see.

        :param state: after :meth:`observe`
        :param o: finite observation [B, O]
        """
        if not self.senses[state.acting].any():
            return o
        sensed = o.copy()
        for k, rows in self._rows_acting(state):
            mean = state.synapses[k].mean[rows]
            sensed[rows] = self.hypotheses[k].sense(mean, o[rows], state.commands[rows], self.predictor)
        return sensed

    def command(self, state: AdaptiveState, o: Array, seen: Array, intended: Array) -> tuple[Array, AdaptiveState]:
        """
        What the motors are told.

        :param state: after :meth:`observe`
        :param o: finite observation [B, O]
        :param seen: as for :meth:`observe`
        :param intended: the actor's action in units of half the control range, [B, A]
        :return: command [B, A], within -1 and 1, and the state after it
        """
        p = self.predictor.predict(o, intended)
        u = intended
        for k, rows in self._rows_acting(state):
            if u is intended:
                u = intended.copy()
            s = state.synapses[k]
            at = Prediction(*(array.take(rows, 0) for array in p))
            variance = variances(s.covariance)[rows] * self.rates[k].caution
            u[rows] = self.hypotheses[k].decode(s.mean[rows], variance, intended[rows], at)
        u = self._varied(state, u.clip(-1, 1))
        return u, state._replace(
            steps=state.steps + 1,
            observation=o,
            seen=seen,
            commands=np.concatenate([u[:, None], state.commands[:, :-1]], 1),
            f=p.f,
            B=p.B,
            R=p.R,
        )

    def _varied(self, state: AdaptiveState, u: Array) -> Array:
        if not (self.asking and self.settings.probing and state.acting.any()) or self.settings.always is not None:
            return u
        by = self.settings.probing * self.signs[state.steps % PERIOD]

        def doubt_of(k: int, rows: Array) -> Array:
            doubt = self.hypotheses[k].doubt(variances(state.synapses[k].covariance)[rows])
            assert doubt is not None
            return doubt

        def needed_in(rows: Array) -> Array:
            return self.needed(state.noise[rows], state.relapses[rows])

        return varied(u, by, state.evidence + state.hint, state.acting, self.asking, doubt_of, needed_in)

    def needed(self, noise: Array, relapses: Array) -> Array:
        """Evidence that each hypothesis needs to act in nominal's place, [B, K]. The parameters are of the state."""
        return needed(self.settings.head_start, noise, self.in_noise, relapses)

    def _rows_acting(self, state: AdaptiveState) -> list[tuple[int, Array]]:
        """Each hypothesis that acts somewhere, beside nominal, and where."""
        n_rows = np.bincount(state.acting)
        return [(k, (state.acting == k).nonzero()[0]) for k in range(1, len(n_rows)) if n_rows[k]]
