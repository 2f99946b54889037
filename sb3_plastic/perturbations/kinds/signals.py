"""The kinds of perturbation that change what motors are told and what senses say: filters on a vector.

A filter gets the `Active` perturbation and the vector (its own copy) and returns the vector. Motors are perturbed after
the reward has seen the command: the control cost is that of the command, so damage never raises the reward.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from sb3_plastic.perturbations.kinds.base import Active, kind
from sb3_plastic.perturbations.schedules import ONE_SIDED, STEPWISE

Vector = NDArray[np.float64]
LONGEST_DELAY = 50  # steps


def _past(active: Active, x: Vector) -> Vector:
    """The vector of `amount` steps ago; the oldest one known, if that is later."""
    history = active.memory.setdefault("history", deque(maxlen=LONGEST_DELAY + 1))
    history.append(x.copy())
    past = history[max(len(history) - 1 - int(active.amount), 0)]
    x[active.ids] = past[active.ids]
    return x


def _lost(active: Active, x: Vector) -> Vector:
    x[active.ids[active.rng.random(len(active.ids)) < active.amount]] = 0
    return x


# -- motors; fractions are of half the control range, about its middle -----------------------------------------------


@kind(
    "action",
    "motors get a constant command, whatever the action",
    "fraction of the control range, -1 to 1",
    ops=("set",),
    target="joint",
    limits={"set": (-1, 1)},
    schedules=STEPWISE,
    each=True,
    probes=({"value": 1.0}, {"value": -1.0}),
)
def motor_stuck(active: Active, x: Vector) -> Vector:
    x[active.ids] = active.params["middle"][active.ids] + active.value * active.params["half_range"][active.ids]
    return x


@kind(
    "action",
    "Gaussian noise on commands",
    "std, fraction of the control range",
    ops=("add",),
    target="joint",
    limits={"add": (0, 2)},
    schedules=ONE_SIDED,
    each=True,
    probes=({"value": 0.3},),
)
def action_noise(active: Active, x: Vector) -> Vector:
    noise = active.rng.standard_normal(len(active.ids))
    x[active.ids] += active.amount * active.params["half_range"][active.ids] * noise
    return x


@kind(
    "action",
    "a constant added to commands",
    "fraction of the control range",
    ops=("add",),
    target="joint",
    limits={"add": (-1, 1)},
    each=True,
    probes=({"value": 0.3}, {"value": -0.3}),
)
def action_bias(active: Active, x: Vector) -> Vector:
    x[active.ids] += active.amount * active.params["half_range"][active.ids]
    return x


@kind(
    "action",
    "commands times a factor, within the control range; negative is reversed",
    "factor",
    ops=("scale",),
    target="joint",
    limits={"scale": (-4, 4)},
    each=True,
    probes=({"value": 0.5}, {"value": -1.0}),
)
def action_gain(active: Active, x: Vector) -> Vector:
    x[active.ids] = active.change(x[active.ids])
    return x


@kind(
    "action",
    "each command is lost (0) with a probability, at each step",
    "probability",
    ops=("add",),
    target="joint",
    limits={"add": (0, 1)},
    schedules=ONE_SIDED,
    probes=({"value": 0.3},),
)
def action_dropout(active: Active, x: Vector) -> Vector:
    return _lost(active, x)


@kind(
    "action",
    "commands arrive late",
    "steps, rounded",
    ops=("add",),
    target="joint",
    limits={"add": (0, LONGEST_DELAY)},
    schedules=ONE_SIDED,
    whole=True,
    records=True,
    probes=({"value": 2},),
)
def action_delay(active: Active, x: Vector) -> Vector:
    return _past(active, x)


# -- senses, in the unit of each observation -------------------------------------------------------------------------


@kind(
    "observation",
    "Gaussian noise on observations",
    "std, unit of the observation",
    ops=("add",),
    target="sensor",
    limits={"add": (0, 100)},
    schedules=ONE_SIDED,
    observable="yes",
    each=True,
    probes=({"value": 0.1},),
)
def obs_noise(active: Active, x: Vector) -> Vector:
    x[active.ids] += active.amount * active.rng.standard_normal(len(active.ids))
    return x


@kind(
    "observation",
    "a constant added to observations",
    "unit of the observation",
    ops=("add",),
    target="sensor",
    limits={"add": (-100, 100)},
    observable="yes",
    each=True,
    probes=({"value": 0.2}, {"value": -0.2}),
)
def obs_bias(active: Active, x: Vector) -> Vector:
    x[active.ids] += active.amount
    return x


@kind(
    "observation",
    "observations times a factor",
    "factor",
    ops=("scale",),
    target="sensor",
    limits={"scale": (-10, 10)},
    each=True,
    observable="yes",
    probes=({"value": 0.7}, {"value": 1.3}),
)
def obs_gain(active: Active, x: Vector) -> Vector:
    x[active.ids] = active.change(x[active.ids])
    return x


@kind(
    "observation",
    "each observation is lost (0) with a probability, at each step",
    "probability",
    ops=("add",),
    target="sensor",
    limits={"add": (0, 1)},
    schedules=ONE_SIDED,
    observable="yes",
    probes=({"value": 0.3},),
)
def obs_dropout(active: Active, x: Vector) -> Vector:
    return _lost(active, x)


@kind(
    "observation",
    "observations keep the value that they have when it begins",
    "on or off",
    target="sensor",
    schedules=STEPWISE,
    observable="yes",
    probes=({},),
)
def obs_stuck(active: Active, x: Vector) -> Vector:
    x[active.ids] = active.memory.setdefault("stuck", x[active.ids].copy())
    return x


@kind(
    "observation",
    "observations arrive late",
    "steps, rounded",
    ops=("add",),
    target="sensor",
    limits={"add": (0, LONGEST_DELAY)},
    schedules=ONE_SIDED,
    whole=True,
    records=True,
    observable="yes",
    probes=({"value": 2},),
)
def obs_delay(active: Active, x: Vector) -> Vector:
    return _past(active, x)
