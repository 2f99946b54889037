"""What may have changed: hypotheses that run side by side on one forward model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial

import numpy as np

from sb3_plastic.adaptive.hypotheses.base import Hypothesis, Sizes, Transition
from sb3_plastic.adaptive.hypotheses.disturbance import MotorsAndDisturbance, MotorsAndDrift
from sb3_plastic.adaptive.hypotheses.l1 import L1
from sb3_plastic.adaptive.hypotheses.late import Late
from sb3_plastic.adaptive.hypotheses.motors import Motors, MotorsAndBias
from sb3_plastic.adaptive.hypotheses.noise import SensorNoise
from sb3_plastic.adaptive.hypotheses.plugs import Plugs
from sb3_plastic.adaptive.hypotheses.rivals import LeastMeanSquares, RecursiveLeastSquares
from sb3_plastic.adaptive.hypotheses.sensors import SensorBias, SensorGain
from sb3_plastic.adaptive.hypotheses.wires import Wires
from sb3_plastic.errors import UserError, check_choice

HYPOTHESES: dict[str, Callable[[Sizes], Hypothesis]] = {
    "nominal": Hypothesis,
    "motors": Motors,
    "motors_and_bias": MotorsAndBias,
    "motors_and_disturbance": MotorsAndDisturbance,
    "motors_and_drift": MotorsAndDrift,
    "plugs": Plugs,
    "wires": Wires,
    "sensor_bias": SensorBias,
    "sensor_gain": SensorGain,
    "sensor_noise": SensorNoise,
    "late_1": partial(Late, delay=1),
    "late_2": partial(Late, delay=2),
    "late_3": partial(Late, delay=3),
    "lms": LeastMeanSquares,
    "rls": RecursiveLeastSquares,
    "l1": L1,
}
"""Hypotheses by name. Add your own class here to use it by name."""

RIVALS = ("lms", "rls", "l1")
"""Estimators of others, for comparison."""

NAMED = ("motors_and_disturbance",)
"""Those that run only where they are named."""

DEFAULT = tuple(name for name in HYPOTHESES if name not in ("nominal", *NAMED, *RIVALS))
"""
Those that run by default; nominal always does. A constant disturbance is left to those who ask for it: no robot was
served by it, and Hoppers whose leg is longer fell by it (docs/results/adaptation/tried.md).
"""

ALL_BY_DEFAULT = "default"
"""Stands for all of ``DEFAULT`` in a list of names."""

OF_COMMANDS = ["motors", "motors_and_bias", "motors_and_disturbance", "motors_and_drift", "plugs", "wires"]
"""Those that ask the forward model about the observation that there is, and no other. Append your own, if it does."""


def checked_names(names: Sequence[str], allowed: Collection[str] = HYPOTHESES) -> tuple[str, ...]:
    """
    :param names: of hypotheses; ``default`` stands for those of ``DEFAULT`` that the forward model serves
    :param allowed: those that it serves
    :return: the names, with ``default`` written out: those that are named beside it keep their places
    :raises UserError: on something that is no name, an unknown one, one that is there twice, or is not served
    """
    if isinstance(names, str):
        raise UserError(f"Hypotheses are a list of names, got {names!r}: write [{names!r}].")
    if not all(isinstance(name, str) for name in names):
        raise UserError(f"A hypothesis is a name, got {[*names]}.")
    default = [name for name in DEFAULT if name in allowed and name not in names]
    names = [n for name in names for n in (default if name == ALL_BY_DEFAULT else [name])]
    if len({*names}) < len(names):
        raise UserError(f"Each hypothesis is named once, got {', '.join(names)}.")
    for name in names:
        check_choice("hypothesis", name, HYPOTHESES)
        if name not in allowed:
            raise UserError(
                f"A forward model of the actor's spikes cannot serve {name!r}, but {', '.join(allowed)}: it knows only "
                "the observation that there is. Those of `forward_model: mlp` and `spiking` serve all. Append one of "
                "your own to OF_COMMANDS, beside HYPOTHESES, if it asks about no other."
            )
    return tuple(names)


def make_hypotheses(names: Sequence[str], sizes: Sizes) -> list[Hypothesis]:
    """
    :param names: in ``HYPOTHESES``; nominal comes first, whether it is named or not
    :param sizes: of the robot
    :raises UserError: on an unknown name, one that is there twice, or one that its class does not have; on
        an inflation that is not one number per synapse
    """
    names = checked_names(names)
    made = {name: HYPOTHESES[name](sizes) for name in ("nominal", *(name for name in names if name != "nominal"))}
    for name, hypothesis in made.items():
        if hypothesis.name != name:
            raise UserError(f"HYPOTHESES[{name!r}] calls itself {hypothesis.name!r}: give its class name = {name!r}.")
        n, inflated = len(hypothesis.start()), np.shape(hypothesis.inflation())
        if inflated not in ((), (n,)):
            raise UserError(f"{name} starts with {n} synapses, but inflation() has the shape {inflated}, not ({n},).")
    return list(made.values())


__all__ = [
    "ALL_BY_DEFAULT",
    "DEFAULT",
    "HYPOTHESES",
    "OF_COMMANDS",
    "RIVALS",
    "Hypothesis",
    "Sizes",
    "Transition",
    "checked_names",
    "make_hypotheses",
]
