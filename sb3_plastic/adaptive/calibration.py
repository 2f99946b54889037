"""Thresholds from the layer's own surprise on nominal transitions that its forward model has not seen."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sb3_plastic.adaptive.collect import Transitions
from sb3_plastic.adaptive.fit import unexplained
from sb3_plastic.adaptive.hindsight import DECODERS, learn_rule_of, sequences_of
from sb3_plastic.adaptive.layer import AdaptiveLayer
from sb3_plastic.adaptive.lost import OFTEN, silences
from sb3_plastic.adaptive.responsibility import STEP_BOUND
from sb3_plastic.adaptive.settings import LayerSettings
from sb3_plastic.adaptive.start import starts_of
from sb3_plastic.adaptive.state import AdaptiveState

Array = NDArray[Any]

QUANTILE = 0.999
"""Nominal surprise stays below its threshold in this share of the steps."""

MARGIN = 1.5
"""The threshold is so many times the quantile, since the quantile itself is known from few steps."""

EVIDENCE_QUANTILE = 0.99
"""Nominal evidence stays below the head start in this share of the steps. To act for a few steps on an estimate that is
hardly wrong costs nothing, to wait for certainty costs the robot's speed."""

HEAD_START = (2.0, STEP_BOUND / 2)
"""Its range. However good the forward model is, evidence is asked for; but the first step of a change, which can say
40, must be heard: what comes a step late has to catch a robot that is falling."""

CALM_QUANTILE = 0.99
"""Nominal errors stay within the dead zone in this share of the steps."""

AT_REST = 1e-3
"""A robot whose components change by less is at rest: their mean square, of nominal steps 1."""


def replay(layer: AdaptiveLayer, transitions: Transitions) -> Iterator[AdaptiveState]:
    """
    Run the layer beside an agent that it does not influence. It learns, and does not act.

    :param layer: the layer
    :param transitions: T steps
    :return: its state after each step
    """
    T, n, _ = transitions.o.shape
    state = layer.initial_state(n)
    for t in range(T):
        o, a, after = (x[t].astype(np.float64) for x in transitions[:3])
        state = layer.reset(state, transitions.starts[t] | (t == 0))
        state = state._replace(acting=np.zeros_like(state.acting))
        state, o, seen = layer.fill(state, o)
        _, state = layer.command(state, o, seen, a)
        state = layer.observe(*layer.fill(state, after))
        yield state


def calibrate(
    layer: AdaptiveLayer, held_out: Transitions, first: Array | None = None, learn_rule: bool = False
) -> LayerSettings:
    """
    Settings whose thresholds nominal surprise and nominal evidence hardly ever reach.

    :param layer: with a trained forward model
    :param held_out: nominal transitions that the model has not seen
    :param first: first readings of nominal episodes, [n, O]; None: those of ``held_out``
    :param learn_rule: learn the rules, too, of hypotheses that have one: see :mod:`~sb3_plastic.adaptive.hindsight`
    """
    left = tuple(round(float(share), 4) for share in unexplained(layer.model, held_out))
    nothing, still = often_silent(layer, held_out)
    i, first = layer.components, held_out.o[held_out.starts] if first is None else first
    start_mean, start_std = starts_of(first[:, i].astype(np.float64), layer.std[i])
    settings = dataclasses.replace(
        layer.settings,
        surprise_threshold={},
        calm=0.0,
        unexplained=left,
        often_nothing=nothing,
        often_still=still,
        start_mean=start_mean,
        start_std=start_std,
    )
    if learn_rule:
        settings = dataclasses.replace(settings, rule={})
    layer = AdaptiveLayer(layer.model, settings)
    traces = np.array([[(s.surprise, s.noise) for s in state.synapses] for state in replay(layer, held_out)])
    surprise, noise = traces[:, :, 0], traces[:, :, 1]  # [T, K, B]
    thresholds = MARGIN * np.quantile(surprise, QUANTILE, axis=(0, 2))
    settings = dataclasses.replace(layer.settings, surprise_threshold=_named(layer, thresholds))
    if learn_rule:
        settings = with_learned_rules(AdaptiveLayer(layer.model, settings), held_out)
    # Evidence depends on what surprise has opened: with the thresholds just found.
    layer = AdaptiveLayer(layer.model, settings)
    evidence = np.array([state.evidence + state.hint for state in replay(layer, held_out)])  # [T, B, K]
    head_start = round(float(np.clip(np.quantile(evidence.max(2), EVIDENCE_QUANTILE), *HEAD_START)), 3)
    errors = surprise[:, 0] * np.maximum(noise[:, 0], 1)
    calm = round(float(np.quantile(errors, CALM_QUANTILE)), 3)
    return dataclasses.replace(settings, head_start=head_start, calm=calm)


def often_silent(layer: AdaptiveLayer, held_out: Transitions) -> list[tuple[int, ...]]:
    """
    Places of the predicted components that often show nothing, and of those that often show what they showed before,
    while the robot moves: when it lies still all do, as is expected.

    :param layer: whose components, and what shows nothing
    :param held_out: nominal transitions
    """
    i = layer.components
    before, after = (o[..., i].reshape(-1, len(i)).astype(np.float64) for o in (held_out.o, held_out.after))
    moves = np.square((after - before) / layer.scale).mean(1) > AT_REST
    of_it = moves if moves.any() else slice(None)
    shares = silences(after[of_it], before[of_it], layer.zero[i], layer.std[i], layer.ends).mean(1)
    return [tuple(np.flatnonzero(share > OFTEN).tolist()) for share in shares]


def with_learned_rules(layer: AdaptiveLayer, held_out: Transitions) -> LayerSettings:
    """
    Settings with the learned rules of those hypotheses that have one.

    :param layer: calibrated, nothing learned
    :param held_out: nominal transitions that the model has not seen
    :raises UserError: if no episode among them is long enough
    """
    settings, sequences = layer.settings, sequences_of(layer.model, held_out)
    for hypothesis, rates in zip(layer.hypotheses, layer.rates, strict=True):
        if hypothesis.name in DECODERS:
            learned = learn_rule_of(hypothesis, rates, sequences)
            settings = dataclasses.replace(
                settings,
                rule={**settings.rule, hypothesis.name: learned.rule},
                surprise_threshold={**settings.surprise_threshold, hypothesis.name: learned.threshold},
            )
    return settings


def _named(layer: AdaptiveLayer, values: Array) -> dict[str, float]:
    return {name: round(float(value), 3) for name, value in zip(layer.names, values, strict=True)}
