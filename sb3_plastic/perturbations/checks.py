"""Whether a perturbation can act on a robot at all, and on which of its parts. Errors say what is allowed."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sb3_plastic.perturbations.kinds import KINDS, Kind
from sb3_plastic.perturbations.robot import Robot
from sb3_plastic.perturbations.schedules import SIGNED
from sb3_plastic.perturbations.spec import Distribution, Perturbation, PerturbationError, extremes_of, number, unknown


@dataclass(frozen=True)
class Plant:
    """
    What perturbations act on.

    :param name: the robot or environment, for errors
    :param robot: the model to perturb, or None where only actions and observations can be
    :param half_range: half the range of every control (or action component)
    :param middle: the middle of that range
    :param sensors: observation components by name
    :param n_sensors: number of observation components
    """

    name: str
    robot: Robot | None
    half_range: NDArray[np.float64]
    middle: NDArray[np.float64]
    sensors: Mapping[str, Sequence[int]]
    n_sensors: int


def check(p: Perturbation, plant: Plant) -> None:
    """
    Refuse what cannot act here.

    :param p: one perturbation
    :param plant: what it shall act on
    :raises PerturbationError: saying what is allowed
    """
    if p.kind not in KINDS:
        raise unknown("kind", p.kind, KINDS)
    kind = KINDS[p.kind]
    if plant.robot is None and kind.layer not in ("action", "observation"):
        usable = [k.name for k in KINDS.values() if k.layer in ("action", "observation")]
        raise PerturbationError(f"without access to the model only these kinds are possible: {', '.join(usable)}.")
    if p.kind == "terrain" and plant.robot is not None and not plant.robot.terrain:
        raise PerturbationError("the model was compiled without terrain; make the environment with terrain=True.")
    fields = () if plant.robot is None else plant.robot.fields
    for name in kind.fields:
        if fields and name not in fields:
            raise unknown(f"field of the MjModel that {kind.name!r} names:", name, fields)
    _check_schedule(p, kind)
    op = _check_value(p, kind, plant)
    for name, value in p.params.items():
        if name not in kind.params:
            raise unknown(f"parameter of {kind.name!r}:", name, kind.params)
        _check_param(f"{name} of {kind.name!r}", value, kind.params[name])
    if isinstance(p.target, Distribution) and p.target.law != "choice":
        raise PerturbationError(
            f"a target is drawn by a choice, such as {{choice: [bthigh, ffoot]}}, got {p.target.to_dict()}."
        )
    targets = p.target.args if isinstance(p.target, Distribution) else (p.target,)
    for target in targets:
        _check_target(p.kind, target)
        ids = find_ids(kind, target, plant)
        reason = kind.refuse(plant.robot, ids, dict(kind.params) | dict(p.params), op) if kind.refuse else None
        if reason:
            raise PerturbationError(f"{reason}.")
        if isinstance(p.value, tuple) and len(p.value) != len(ids):
            raise PerturbationError(
                f"the list has {len(p.value)} values, but the target is {len(ids)} {kind.target}s. Give one value for "
                "each, in their order: that of the action, of the observation, or of the target's own list."
            )


def _check_target(kind: str, target: Any) -> None:
    """Refuse what is no name, and no list of names (of sensors, their indices)."""
    parts = target if isinstance(target, tuple) else (target,)
    if target is None or (parts and all(isinstance(p, str | int) and not isinstance(p, bool) for p in parts)):
        return
    raise PerturbationError(
        f"The target of {kind!r} is a name such as ankle_*, a list of names (of sensors, also of indices from 0), or "
        f"left out; got {list(target) if isinstance(target, tuple) else target!r}."
    )


def _check_param(what: str, value: Any, default: Any) -> None:
    """Refuse what is not of the default's kind; which words there are, the kind itself checks."""
    if default is None:  # a seed; drawn by default
        if value is not None and not (isinstance(value, int) and value >= 0):
            raise PerturbationError(f"{what} must be a whole number from 0 on, or left out, got {value!r}.")
    elif isinstance(default, tuple):
        if not isinstance(value, tuple) or len(value) != len(default):
            raise PerturbationError(f"{what} must be {len(default)} numbers, got {value!r}.")
        for part in value:
            number(part, what)
    elif isinstance(default, bool):
        if not isinstance(value, bool):
            raise PerturbationError(f"{what} must be true or false, got {value!r}.")
    elif not isinstance(default, str):
        number(value, what)


def _check_schedule(p: Perturbation, kind: Kind) -> None:
    if p.schedule.form not in kind.schedules:
        why = "which has no opposite" if "drift" in kind.schedules else "which is all or nothing"
        raise unknown(f"schedule for {kind.name!r}, {why}:", p.schedule.form, kind.schedules)
    if p.schedule.ramp not in (None, 0) and "drift" not in kind.schedules:
        raise PerturbationError(f"{kind.name!r} is all or nothing and cannot rise over a ramp; leave ramp out.")


def _check_value(p: Perturbation, kind: Kind, plant: Plant) -> str:
    if not kind.each and (p.each or isinstance(p.value, tuple)):
        able = ", ".join(k.name for k in KINDS.values() if k.each)
        raise PerturbationError(f"{kind.name!r} has one value for all of its targets. Kinds with one for each: {able}.")
    if isinstance(p.target, Distribution) and (p.each or kind.pattern or isinstance(p.value, tuple)):
        raise PerturbationError(f"each target of {kind.name!r} has its own value, so it cannot be drawn; name it.")
    if not kind.ops:
        if p.value is not None or p.op is not None:
            raise PerturbationError(f"{kind.name!r} is only on or off and takes no value and no op; leave them out.")
        return ""
    op = p.op or kind.ops[0]
    if op not in kind.ops:
        raise unknown(f"op of {kind.name!r}:", op, kind.ops)
    if p.value is None:
        raise PerturbationError(f"{kind.name!r} needs a value ({kind.unit}).")
    low, high = {**kind.limits, **kind.robot_limits.get(plant.name, {})}.get(op, (-math.inf, math.inf))
    extremes = list(extremes_of(p.value))
    if p.schedule.form in SIGNED:
        if op == "set":
            raise PerturbationError(
                f"a {p.schedule.form} is symmetric about the nominal value; use op 'scale' or 'add'."
            )
        extremes += [(2 if op == "scale" else 0) - value for value in extremes if kind.layer != "force"]
    for value in extremes:
        if not low <= value <= high:
            raise PerturbationError(
                f"value {value:g} is outside of what is possible: {low:g} to {high:g} ({op}, {kind.unit}). "
                + (
                    "A random walk or a sine also reaches the mirror image of the value."
                    if p.schedule.form in SIGNED
                    else ""
                )
            )
    return op


def find_ids(kind: Kind, target: Any, plant: Plant) -> NDArray[np.intp]:
    """
    What a target means.

    :param kind: the kind of the perturbation
    :param target: names, indices of components, or None for all that the kind serves
    :param plant: where
    :return: ids of joints, bodies or motors, or indices of components, by the kind's target and layer
    :raises PerturbationError: if there is no such thing, listing those that there are
    """
    if kind.target is None:
        if target is not None:
            raise PerturbationError(f"{kind.name!r} takes no target, got {target!r}.")
        return np.empty(0, np.intp)
    if kind.target == "sensor" or plant.robot is None:
        return _find_components(kind, target, plant)
    robot = plant.robot
    if kind.target == "motor" or (kind.target == "joint" and kind.layer == "action"):
        return robot.find_motors(target)
    if kind.target == "joint":
        return robot.find(robot.joints, "*" if target is None else target, "joint")
    if target is None:
        if kind.target == "limb":
            raise unknown(f"target: {kind.name!r} needs a limb by name, got", None, robot.bodies)
        return np.array([robot.root]) if kind.layer == "force" else np.arange(1, robot.model.nbody)
    found = robot.find(robot.bodies, target, "body or joint")
    if kind.target == "limb" and robot.root in found:
        raise PerturbationError(f"{kind.name!r} cannot take {target!r}, the body that carries all others.")
    return found


def _find_components(kind: Kind, target: Any, plant: Plant) -> NDArray[np.intp]:
    size = plant.n_sensors if kind.layer == "observation" else len(plant.half_range)
    if target is None:
        return np.arange(size)
    found: list[int] = []
    for name in (target,) if isinstance(target, str | int) else target:
        if isinstance(name, int) and 0 <= name < size:
            found.append(name)
            continue
        named = [sensor for sensor in plant.sensors if fnmatch.fnmatchcase(sensor, str(name))]
        if kind.layer != "observation" or not named:
            raise unknown("component:", name, [*plant.sensors, f"an index from 0 to {size - 1}"])
        found += [i for sensor in named for i in plant.sensors[sensor]]
    return np.array(list(dict.fromkeys(found)), dtype=np.intp)
