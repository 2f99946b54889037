"""Kinds that change which motor a command reaches, and with which sign.

With commands u and applied commands a, as fractions of half the control range, about its middle:

    motors_reversed    a_i = s_i u_i    s_i = -1 with probability p, else 1, at least one of them -1
    wires              a = P u          P a permutation, or one with a sign for each row

Both are drawn by the episode's own generator, or by ``params: {seed: ...}``. With a schedule ``switch`` they are drawn
anew in mid-episode. To hold patterns out of training, train on ``patterns: even`` (the number of reversed motors is
even) and test on ``patterns: odd``: half of all patterns each, and every motor takes part in both.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sb3_plastic.perturbations.kinds.base import Active, Pattern, kind
from sb3_plastic.perturbations.schedules import STEPWISE

Vector = NDArray[np.float64]

PATTERNS = ("all", "even", "odd")
MODES = ("swap", "permute", "permute_signed")


def draw_signs(n: int, p: float, patterns: str, rng: np.random.Generator) -> Vector:
    """
    Which motors are reversed, given that at least one is and that the pattern is allowed.

    :param n: number of motors, 2 or more if ``patterns`` is ``"even"``
    :param p: probability of each, above 0 and below 1
    :param patterns: ``"all"``; ``"even"`` or ``"odd"``: only patterns with such a number of reversed motors
    :param rng: the generator to draw from
    :return: -1 or 1 for each motor, [n]
    """
    # The number of reversed motors is binomial; given their number, all sets of motors are equally likely.
    counts = np.array([k for k in range(1, n + 1) if patterns == "all" or k % 2 == (patterns == "odd")])
    weights = np.array([comb(n, k) * p**k * (1 - p) ** (n - k) for k in counts])
    reversed_ones = rng.permutation(n)[: rng.choice(counts, p=weights / weights.sum())]
    signs = np.ones(n)
    signs[reversed_ones] = -1
    return signs


def draw_wires(n: int, mode: str, rng: np.random.Generator) -> NDArray[np.float64]:
    """
    The matrix from commands to applied commands.

    :param n: number of motors, 2 or more
    :param mode: ``"swap"``: two motors change places; ``"permute"``: no command reaches its own motor;
        ``"permute_signed"``: the same, and each motor is reversed with probability 1/2
    :param rng: the generator to draw from
    :return: [n, n], one entry of -1 or 1 in each row and column
    """
    order = np.arange(n)
    if mode == "swap":
        i, j = rng.choice(n, 2, replace=False)
        order[[i, j]] = j, i
    else:
        while (order == np.arange(n)).any():  # 2.7 tries on average
            order = rng.permutation(n)
    signs = rng.choice([-1.0, 1.0], n) if mode == "permute_signed" else np.ones(n)
    return signs[:, None] * np.eye(n)[order]


def _generator(active: Active) -> np.random.Generator:
    return np.random.default_rng(active.params["seed"])


def _signs_of(active: Active) -> Vector:
    return draw_signs(len(active.ids), active.value, active.params["patterns"], _generator(active))


def _wires_of(active: Active) -> NDArray[np.float64]:
    return draw_wires(len(active.ids), active.params["mode"], _generator(active))


def _refuse_patterns(robot: Any, motors: NDArray[np.intp], params: Mapping[str, Any], op: str) -> str | None:
    if params["patterns"] not in PATTERNS:
        return f"patterns must be one of {', '.join(PATTERNS)}, got {params['patterns']!r}"
    if len(motors) < 2 and params["patterns"] == "even":
        return "an even number of motors cannot be reversed where there is but one"
    return None


def _refuse_mode(robot: Any, motors: NDArray[np.intp], params: Mapping[str, Any], op: str) -> str | None:
    if params["mode"] not in MODES:
        return f"mode must be one of {', '.join(MODES)}, got {params['mode']!r}"
    if len(motors) < 2:
        return "crossing wires needs two motors or more; to reverse a single one, use action_gain with value -1"
    return None


@kind(
    "action",
    "each motor is reversed with a probability, at least one of them",
    "probability",
    ops=("set",),
    target="joint",
    limits={"set": (0.01, 0.99)},
    schedules=STEPWISE,
    params={"patterns": "all", "seed": None},
    pattern=Pattern(_signs_of, np.ones),
    probes=(
        {"value": 0.5},
        {"value": 0.5, "params": {"patterns": "even"}},
        {"value": 0.5, "params": {"patterns": "odd"}},
    ),
    refuse=_refuse_patterns,
)
def motors_reversed(active: Active, x: Vector) -> Vector:
    middle = active.params["middle"][active.ids]
    x[active.ids] = middle + active.value * (x[active.ids] - middle)
    return x


@kind(
    "action",
    "commands reach other motors: two swapped, all permuted, or all permuted and each reversed with probability 1/2",
    "on or off",
    target="joint",
    schedules=STEPWISE,
    params={"mode": "permute", "seed": None},
    pattern=Pattern(_wires_of, np.eye),
    probes=tuple({"params": {"mode": mode}} for mode in MODES),
    refuse=_refuse_mode,
)
def wires(active: Active, x: Vector) -> Vector:
    half_range, middle = active.params["half_range"][active.ids], active.params["middle"][active.ids]
    x[active.ids] = middle + half_range * (active.value @ ((x[active.ids] - middle) / half_range))
    return x
