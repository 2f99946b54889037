"""Kinds that change the world: ground, gravity, air, and what pushes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sb3_plastic.perturbations.kinds.base import Active, kind
from sb3_plastic.perturbations.robot import FLOOR_DROP, TERRAIN_BEHIND, TERRAIN_SIDE, TERRAIN_SPACING, Robot
from sb3_plastic.perturbations.spec import Perturbation


def _unreachable(robot: Robot, ids: NDArray[np.intp], params: Mapping[str, Any], op: str) -> str | None:
    direction = np.asarray(params["direction"], dtype=float)
    if direction.shape != (3,) or not np.isfinite(direction).all() or not direction.any():
        return f"direction must be three numbers that are not all 0, got {params['direction']!r}"
    if not robot.can_move(direction):
        return f"the robot is planar and cannot move along {list(params['direction'])}; use one with an x or z part"
    if ids.size and not robot.can_move(direction, ids):
        names = ", ".join(robot.model.body(int(body)).name for body in ids)
        return f"no joint lets {names} move along {list(params['direction'])}"
    return None


def _weighs_nothing(robot: Robot, ids: NDArray[np.intp], params: Mapping[str, Any], op: str) -> str | None:
    reason = _unreachable(robot, ids, params, op)
    return reason or (None if robot.weight else "without gravity nothing has a weight, by which pushes are measured")


def _weightless(robot: Robot, ids: NDArray[np.intp], params: Mapping[str, Any], op: str) -> str | None:
    pull = robot.nominal["opt.gravity"]
    return None if robot.can_move(pull) else f"gravity is {pull.tolist()}, and nothing here moves along it"


def _untouched(robot: Robot, ids: NDArray[np.intp], params: Mapping[str, Any], op: str) -> str | None:
    return None if robot.touches else "no two parts of the model can touch"


def _upright(robot: Robot, ids: NDArray[np.intp], params: Mapping[str, Any], op: str) -> str | None:
    reason = _unreachable(robot, ids, params, op)
    if not robot.nominal["opt.gravity"].any():
        return "there is no gravity, which a slope would tilt"
    if reason is None and params["direction"][2]:
        return f"a slope rises along a direction on the ground, whose z is 0, got {list(params['direction'])}"
    return reason


def _direction(active: Active) -> NDArray[np.float64]:
    direction = np.asarray(active.params["direction"], dtype=float)
    return direction / np.linalg.norm(direction)


@kind(
    "model",
    "sliding friction of the floor and of every part of the robot (MuJoCo takes the larger of the two in contact)",
    "factor",
    ops=("scale", "set"),
    limits={"scale": (0, 10), "set": (0, 10)},
    fields=("geom_friction",),
    probes=({"value": 0.3}, {"value": 3.0}),
    refuse=_untouched,
)
def friction(active: Active) -> None:
    active.robot.model.geom_friction[:, 0] = active.change(active.robot.model.geom_friction[:, 0])


@kind(
    "model",
    "gravity",
    "factor",
    ops=("scale",),
    limits={"scale": (0.1, 3)},
    fields=("opt.gravity",),
    probes=({"value": 0.6}, {"value": 1.5}),
    refuse=_weightless,
)
def gravity(active: Active) -> None:
    active.robot.model.opt.gravity[:] = active.change(active.robot.model.opt.gravity)


@kind(
    "model",
    "the world slopes, rising along a direction: gravity is tilted, so heights and resets stay valid",
    "degrees",
    ops=("add",),
    limits={"add": (-45, 45)},
    fields=("opt.gravity",),
    params={"direction": (1.0, 0.0, 0.0)},
    probes=({"value": 8.0}, {"value": -8.0}, {"value": 8.0, "params": {"direction": (0.0, 1.0, 0.0)}}),
    refuse=_upright,
)
def slope(active: Active) -> None:
    down, angle = active.robot.model.opt.gravity.copy(), np.radians(active.amount)
    axis = np.cross([0.0, 0.0, 1.0], _direction(active))  # turns upwards into uphill
    active.robot.model.opt.gravity[:] = (
        down * np.cos(angle) + np.cross(axis, down) * np.sin(angle) + axis * (axis @ down) * (1 - np.cos(angle))
    )


def _no_air(robot: Robot, ids: NDArray[np.intp], params: Mapping[str, Any], op: str) -> str | None:
    if not params["density"] > 0:
        return f"wind needs a medium: density must be above 0 kg/m^3 (air: 1.2), got {params['density']!r}"
    return _unreachable(robot, ids, params, op)


@kind(
    "model",
    "wind along a direction, through a medium that also brakes (MuJoCo's inertia-box drag)",
    "m/s",
    ops=("add",),
    limits={"add": (-40, 40)},
    fields=("opt.wind",),
    params={"direction": (1.0, 0.0, 0.0), "density": 1.2},  # kg/m^3
    probes=({"value": 10.0}, {"value": -10.0}, {"value": 10.0, "params": {"direction": (0.0, 1.0, 0.0)}}),
    refuse=_no_air,
)
def wind(active: Active) -> None:
    air = active.robot.model.opt
    air.wind[:] += active.amount * _direction(active)
    air.density = max(air.density, abs(active.activation) * float(active.params["density"]))


@kind(
    "force",
    "a force on a body (the root, if none is named) along a direction of the world; contact forces do not show it",
    "body weights",
    ops=("add",),
    target="body",
    limits={"add": (-4, 4)},
    params={"direction": (1.0, 0.0, 0.0)},
    probes=({"value": 0.3}, {"value": -0.3}, {"value": 0.3, "params": {"direction": (0.0, 1.0, 0.0)}}),
    refuse=_weighs_nothing,
)
def push(active: Active) -> NDArray[np.float64]:
    return active.amount * active.robot.weight * _direction(active)


@kind(
    "model",
    f"rough ground: heights drawn uniformly between 0 and the value at each {TERRAIN_SPACING} m, linear between them, "
    "level within `flat` m of the start; falling is judged by the height above ground",
    "m",
    ops=("add",),
    limits={"add": (0.005, 0.5)},
    fields=("hfield_data", "hfield_size", "geom_contype", "geom_conaffinity", "geom_pos", "geom_rgba"),
    set_const=True,
    schedules=("episode",),  # ground does not rise under feet: `flat` puts it ahead instead
    params={"flat": 1.5, "seed": None},  # m around the start; None: drawn for each episode
    probes=({"value": 0.1},),
    refuse=_untouched,
)
def terrain(active: Active) -> None:
    robot, model = active.robot, active.robot.model
    rows, columns = int(model.hfield_nrow[0]), int(model.hfield_ncol[0])
    rng = np.random.default_rng(active.params["seed"])
    # A planar robot is in one row only, and a ridge must not be narrower than its feet.
    planar = not robot.can_move((0.0, 1.0, 0.0))
    heights = np.repeat(rng.random((1, columns)), rows, axis=0) if planar else rng.random((rows, columns))
    x = np.arange(columns) * TERRAIN_SPACING - TERRAIN_BEHIND
    y = np.zeros(rows) if planar else np.arange(rows) * TERRAIN_SPACING - TERRAIN_SIDE
    heights[np.hypot(*np.meshgrid(x, y)) <= active.params["flat"]] = 0
    model.hfield_data[:] = heights.ravel()
    model.hfield_size[0, 2] = active.value
    robot.heights = heights * active.value
    floor, ground = robot.planes[0], model.geom("terrain").id
    model.geom_contype[ground], model.geom_conaffinity[ground] = (
        model.geom_contype[floor],
        model.geom_conaffinity[floor],
    )
    model.geom_rgba[ground] = (0.3, 0.35, 0.3, 1)
    model.geom_pos[floor, 2] = robot.nominal["geom_pos"][floor, 2] - FLOOR_DROP


def needs_terrain(perturbations: Sequence[Perturbation]) -> bool:
    """Whether a robot needs a model with a height field for these. :param perturbations: what acts"""
    return any(p.kind == "terrain" for p in perturbations)
