"""What a kind of perturbation is: one function with its metadata.

The function of a kind gets the `Active` perturbation and edits `active.robot.model`, which has been restored to its
nominal values just before: it never has to undo anything. A kind is such a function under the decorator `kind`, here in
`bodies.py` or `world.py`, or a filter of commands or observations, here in `signals.py` or `wiring.py`; a user's stands
in any module that is imported. Listing, checks, documentation and the guard against perturbations without effect follow
from the metadata.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sb3_plastic.perturbations.robot import Robot
from sb3_plastic.perturbations.schedules import Timing
from sb3_plastic.perturbations.spec import FORMS, Perturbation, PerturbationError, unknown

Limits = tuple[float, float]
Refusal = Callable[[Any, NDArray[np.intp], Mapping[str, Any], str], str | None]
"""(robot or None, ids, params, op) -> why the perturbation cannot act there, or None."""


@dataclass(frozen=True)
class Change:
    """A value and an activation, as a function from the nominal quantity to the perturbed one."""

    op: str
    value: Any  # a number, or an array with one for each target along the last axis of x
    activation: float

    def __call__(self, x: Any) -> Any:
        full = x * self.value if self.op == "scale" else x + self.value if self.op == "add" else x * 0 + self.value
        # Exact at 1, so that an edit at run time equals a recompiled model.
        return full if self.activation == 1 else x + self.activation * (full - x)


@dataclass
class Active:
    """One perturbation in one episode: what the functions of the kinds work on."""

    spec: Perturbation
    kind: Kind
    robot: Robot
    rng: np.random.Generator  # its own, so that no perturbation shifts the draws of another
    params: dict[str, Any]
    timing: Timing
    ids: NDArray[np.intp] = field(
        default_factory=lambda: np.empty(0, np.intp)
    )  # joints, bodies, motors or observations
    target: Any = None  # as drawn
    value: Any = 1.0  # as drawn: a number, or an array where targets differ; 1 for kinds that are only on or off
    activation: float = 0.0
    memory: dict[str, Any] = field(default_factory=dict)
    data: Any = None  # MjData or its row of a batch: qpos, eq_active

    @property
    def change(self) -> Change:
        """From nominal to perturbed, at the present activation."""
        return Change(self.spec.op or (*self.kind.ops, "set")[0], self.value, self.activation)

    @property
    def deviation(self) -> NDArray[np.float64]:
        """How far the value is from one that changes nothing, at the present activation, as a flat array."""
        if self.kind.pattern is not None:
            neutral: Any = self.kind.pattern.nothing(len(self.ids))
        else:
            neutral = 1.0 if self.kind.ops and self.change.op == "scale" else 0.0
        deviation = np.ravel(self.activation * (self.value - neutral))
        return np.rint(deviation) if self.kind.whole else deviation

    @property
    def amount(self) -> Any:
        """The perturbed value of a quantity that is nominally 0: a force, an angle, a noise level."""
        amount = self.change(0.0)
        return np.rint(amount) if self.kind.whole else amount


class Pattern(NamedTuple):
    """
    A value that is drawn for several targets together, such as which of the motors are reversed.

    :param draw: draws it, from ``active.rng``, when ids and parameters are known
    :param nothing: from the number of targets to the pattern that changes nothing
    """

    draw: Callable[[Active], NDArray[np.float64]]
    nothing: Callable[[int], NDArray[np.float64]]


@dataclass(frozen=True)
class Kind:
    """
    What a kind is, for checks, listing and documentation.

    :param name: the name in data
    :param layer: ``"model"``, ``"shape"`` (another compiled model), ``"lock"``, ``"force"``, ``"action"`` or
        ``"observation"``
    :param apply: the function
    :param law: what it does, in words
    :param unit: the unit of the value
    :param ops: the operations that it knows, its own first; empty: it is only on or off
    :param target: ``"joint"``, ``"motor"`` (by what it moves), ``"body"``, ``"limb"`` (a body or joint that has to be
        named), ``"sensor"``, or None. A filter of commands gets motors for ``"joint"``, too
    :param limits: legal values by op; beyond them a simulation has been seen to break, or the value has no meaning
    :param robot_limits: narrower limits by robot
    :param fields: the fields of the MjModel that it writes
    :param set_const: whether MuJoCo's derived constants depend on them
    :param schedules: the forms that it takes; `STEPWISE` if it cannot be there in part, `ONE_SIDED` if
        it has no opposite
    :param each: whether targets can have values of their own
    :param pattern: how it draws for several targets together, if it does
    :param whole: whether it acts in whole steps: its amount is rounded
    :param records: whether a filter has to see vectors before it acts
    :param observable: which observations reveal it directly
    :param params: further arguments and their defaults
    :param probes: entries (without the kind) that must change a trajectory, in both directions
    :param refuse: returns why it cannot act on a robot, or None
    """

    name: str
    layer: str
    apply: Callable[..., Any]
    law: str
    unit: str
    ops: tuple[str, ...] = ()
    target: str | None = None
    limits: Mapping[str, Limits] = field(default_factory=dict)
    robot_limits: Mapping[str, Mapping[str, Limits]] = field(default_factory=dict)
    fields: tuple[str, ...] = ()
    set_const: bool = False
    schedules: tuple[str, ...] = tuple(FORMS)
    each: bool = False
    pattern: Pattern | None = None
    whole: bool = False
    records: bool = False
    observable: str = "no"
    params: Mapping[str, Any] = field(default_factory=dict)
    probes: tuple[Mapping[str, Any], ...] = ()
    refuse: Refusal | None = None


KINDS: dict[str, Kind] = {}

LAYERS = ("model", "shape", "lock", "force", "action", "observation")
TARGETS = ("joint", "motor", "body", "limb", "sensor")


def kind(layer: str, law: str, unit: str, **metadata: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """
    Register the decorated function as the kind of its name.

    :param layer: see `Kind`
    :param law: likewise
    :param unit: likewise
    :param metadata: its other fields
    :raises PerturbationError: on an unknown layer or target, a name that there is, or a model's kind without fields
    """
    if layer not in LAYERS:
        raise unknown("layer", layer, LAYERS)
    if metadata.get("target") not in (None, *TARGETS):
        raise unknown("target", metadata["target"], TARGETS)

    if layer == "model" and not metadata.get("fields"):
        raise PerturbationError(
            "A kind of the layer 'model' names the fields of the MjModel that it writes, fields=(...)."
        )

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        name = function.__name__
        if name in KINDS:
            raise PerturbationError(f"There is already a kind {name!r}.")
        function.__doc__ = f"{law[0].upper()}{law[1:]}."
        KINDS[name] = Kind(name, layer, function, law, unit, **metadata)
        return function

    return register
