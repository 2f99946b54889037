"""When a perturbation acts: a schedule, drawn for one episode, as functions of the step.

An activation is 0 (nothing), 1 (all of the perturbation) or between; random walks and sines reach down to -1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sb3_plastic.perturbations.spec import FORMS, Schedule

Activation = Callable[[int], float]
"""From the index of the environment step, called with 0, 1, 2, ... in this order, to the activation."""

SIGNED = ("random_walk", "periodic")
"""Forms whose activation also becomes negative: the value is mirrored at the nominal one."""

ONE_SIDED = tuple(form for form in FORMS if form not in SIGNED)
"""All others: what kinds accept whose value has no mirror image, such as a probability."""

STEPWISE = ("episode", "onset", "switch", "intermittent")
"""Forms that know only off and on (an onset without a ramp): all that kinds which cannot be graded accept."""


class Timing(NamedTuple):
    """A schedule, drawn for one episode."""

    level: Activation
    redraw: Callable[[int], bool] | None = None  # whether value and target are drawn anew before this step
    until: float = math.inf  # from this step on it stays as it is


def draw_timing(schedule: Schedule, rng: np.random.Generator) -> Timing:
    """
    Draw the schedule's own randomness.

    :param schedule: the form and its fields
    :param rng: the generator to draw from
    :return: the activation, and whether to draw the value anew, as functions of the step
    """
    if schedule.form == "switch":
        at, every = schedule.draw("at", rng), schedule.draw("every", rng)
        return Timing(lambda t: float(t >= at), lambda t: t > at and (t - at) % every == 0)
    if schedule.form == "episode":
        return Timing(lambda t: 1.0, until=0)
    if schedule.form == "onset":
        return _onset(schedule, rng)
    return Timing(_FORMS[schedule.form](schedule, rng))


def _onset(schedule: Schedule, rng: np.random.Generator) -> Timing:
    at, ramp, end = (schedule.draw(name, rng) for name in ("at", "ramp", "end"))

    def a(t: int) -> float:
        if t < at or t >= end:
            return 0.0
        return 1.0 if t >= at + ramp else (t - at + 1) / (ramp + 1)

    return Timing(a, until=at + ramp if math.isinf(end) else end)


def _drift(schedule: Schedule, rng: np.random.Generator) -> Activation:
    at, end = schedule.draw("at", rng), schedule.draw("end", rng)
    return lambda t: min(max((t - at) / max(end - at, 1), 0.0), 1.0)


def _random_walk(schedule: Schedule, rng: np.random.Generator) -> Activation:
    at, every, sigma = (schedule.draw(name, rng) for name in ("at", "every", "sigma"))
    level = 0.0

    def a(t: int) -> float:
        nonlocal level
        if t >= at and (t - at) % every == 0:
            # Reflection at -1 and 1: fold the line onto a triangle wave of period 4.
            level = abs((level + sigma * rng.standard_normal() + 3) % 4 - 2) - 1
        return level

    return a


def _periodic(schedule: Schedule, rng: np.random.Generator) -> Activation:
    at, period = schedule.draw("at", rng), schedule.draw("period", rng)
    return lambda t: math.sin(2 * math.pi * (t - at) / period) if t >= at else 0.0


def _intermittent(schedule: Schedule, rng: np.random.Generator) -> Activation:
    turn = schedule.draw("at", rng)
    on = False

    def a(t: int) -> float:
        nonlocal turn, on
        while t >= turn:
            on = not on
            turn += schedule.draw("duration" if on else "pause", rng)
        return float(on)

    return a


_FORMS: dict[str, Callable[[Schedule, np.random.Generator], Activation]] = {
    "drift": _drift,
    "random_walk": _random_walk,
    "periodic": _periodic,
    "intermittent": _intermittent,
}
