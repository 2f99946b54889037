"""The kinds of perturbation that change the body or the world: one function each, with its metadata.

A kind's function gets one argument, the `Active` perturbation, and edits `active.robot.model`, which has been restored to
its nominal values just before. It never has to undo anything. To add a kind, write such a function here (or a filter
in `signals.py`) under the decorator `kind`; listing, checks, documentation and the guard against perturbations
without effect follow from the metadata.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sb3_plastic.perturbations.robot import FLOOR_DROP, TERRAIN_BEHIND, TERRAIN_SIDE, TERRAIN_SPACING, Robot
from sb3_plastic.perturbations.schedules import STEPWISE, Timing
from sb3_plastic.perturbations.spec import FORMS, Perturbation, PerturbationError

Limits = tuple[float, float]


@dataclass(frozen=True)
class Change:
    """A value and an activation, as a function from the nominal quantity to the perturbed one."""

    op: str
    value: float
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
    ids: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))  # joints, bodies, motors or observations
    target: Any = None  # as drawn
    value: float = 1.0  # as drawn; 1 for kinds that are only on or off
    activation: float = 0.0
    memory: dict[str, Any] = field(default_factory=dict)
    data: Any = None  # MjData or its row of a batch: qpos, eq_active

    @property
    def change(self) -> Change:
        """From nominal to perturbed, at the present activation."""
        return Change(self.spec.op or (*self.kind.ops, "set")[0], self.value, self.activation)

    @property
    def amount(self) -> float:
        """The perturbed value of a quantity that is nominally 0: a force, an angle, a noise level."""
        return float(self.change(0.0))


@dataclass(frozen=True)
class Kind:
    """
    What a kind is, for checks, listing and documentation.

    :param name: the name in data
    :param layer: ``"model"``, ``"shape"`` (another compiled model), ``"lock"``, ``"force"``, ``"action"``, ``"observation"``
    :param apply: the function
    :param law: what it does, in words
    :param unit: the unit of the value
    :param ops: the operations that it knows, its own first; empty: it is only on or off
    :param target: ``"joint"``, ``"body"``, ``"limb"`` (a body or joint that has to be named), ``"sensor"``, or None
    :param limits: legal values by op; beyond them a simulation has been seen to break, or the value has no meaning
    :param robot_limits: narrower limits by robot
    :param fields: the fields of the MjModel that it writes
    :param set_const: whether MuJoCo's derived constants depend on them
    :param schedules: the forms that it takes; `STEPWISE` if it cannot be there in part
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
    records: bool = False
    observable: str = "no"
    params: Mapping[str, Any] = field(default_factory=dict)
    probes: tuple[Mapping[str, Any], ...] = ()
    refuse: Callable[[Robot, NDArray[np.intp], Mapping[str, Any], str], str | None] | None = None


KINDS: dict[str, Kind] = {}


def kind(layer: str, law: str, unit: str, **metadata: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated function as the kind of its name. :param layer: and the rest: see `Kind`"""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        name = function.__name__
        if name in KINDS:
            raise PerturbationError(f"There is already a kind {name!r}.")
        KINDS[name] = Kind(name, layer, function, law, unit, **metadata)
        return function

    return register


def _zero(name: str, unit: str) -> Callable[[Robot, NDArray[np.intp], Mapping[str, Any], str], str | None]:
    """Refuse to scale what is zero."""

    def refuse(robot: Robot, joints: NDArray[np.intp], params: Mapping[str, Any], op: str) -> str | None:
        ids = joints if name.startswith("jnt") else robot.model.jnt_dofadr[joints]
        if op == "scale" and not robot.nominal[name][ids].any():
            return f"{name} is 0 there, and scaling 0 changes nothing; use op 'add' or 'set' ({unit})"
        return None

    return refuse


def _unreachable(robot: Robot, ids: NDArray[np.intp], params: Mapping[str, Any], op: str) -> str | None:
    direction = np.asarray(params["direction"], dtype=float)
    if direction.shape != (3,) or not np.isfinite(direction).all() or not direction.any():
        return f"direction must be three numbers that are not all 0, got {params['direction']!r}"
    if not robot.can_move(direction):
        return f"the robot is planar and cannot move along {list(params['direction'])}; use a direction with an x or z part"
    return None


def _direction(active: Active) -> NDArray[np.float64]:
    direction = np.asarray(active.params["direction"], dtype=float)
    return direction / np.linalg.norm(direction)


# -- inertia -------------------------------------------------------------------------------------------------------------


def _scale_mass(robot: Robot, bodies: NDArray[np.intp], change: Change) -> None:
    model = robot.model
    bodies = bodies[model.body_mass[bodies] > 0]
    mass = change(model.body_mass[bodies])
    model.body_inertia[bodies] *= (mass / model.body_mass[bodies])[:, None]
    model.body_mass[bodies] = mass


_MASS = ("body_mass", "body_inertia")


@kind(
    "model",
    "mass and inertia of all bodies by the same factor",
    "factor",
    ops=("scale",),
    limits={"scale": (0.05, 10)},
    fields=_MASS,
    set_const=True,
    observable="Humanoid: cinert, cvel",
    probes=({"value": 0.5}, {"value": 2.0}),
)
def mass(active: Active) -> None:
    _scale_mass(active.robot, np.arange(1, active.robot.model.nbody), active.change)


@kind(
    "model",
    "mass and inertia of some bodies by the same factor, or kg added to each",
    "factor; kg",
    ops=("scale", "add"),
    target="body",
    limits={"scale": (0.05, 10), "add": (0, 100)},
    fields=_MASS,
    set_const=True,
    observable="Humanoid: cinert, cvel",
    probes=({"value": 0.5, "target": "torso"}, {"value": 2.0, "target": "torso"}, {"value": 1.0, "op": "add", "target": "torso"}),
)
def body_mass(active: Active) -> None:
    _scale_mass(active.robot, active.ids, active.change)


@kind(
    "model",
    "a point mass fixed to the root body at an offset",
    "fraction of the robot's mass",
    ops=("add",),
    limits={"add": (0, 2)},
    fields=(*_MASS, "body_ipos", "body_iquat", "body_sameframe", "geom_sameframe", "site_sameframe"),
    set_const=True,
    observable="Humanoid: cinert, cvel",
    params={"offset": (0.0, 0.0, 0.1)},  # m, in the frame of the body
    probes=({"value": 0.3}, {"value": 0.3, "params": {"offset": (0.2, 0.0, 0.0)}}),
)
def payload(active: Active) -> None:
    import mujoco

    model, body = active.robot.model, active.robot.root
    added = active.amount * float(active.robot.nominal["body_mass"].sum())
    own, own_center = float(model.body_mass[body]), model.body_ipos[body].copy()
    offset = np.asarray(active.params["offset"], dtype=float)
    center = (own * own_center + added * offset) / (own + added)
    axes = np.zeros(9)
    mujoco.mju_quat2Mat(axes, model.body_iquat[body])
    axes = axes.reshape(3, 3)
    inertia = axes @ np.diag(model.body_inertia[body]) @ axes.T
    for weight, place in ((own, own_center), (added, offset)):
        r = place - center
        inertia += weight * (r @ r * np.eye(3) - np.outer(r, r))  # parallel axes
    moments, principal = np.linalg.eigh(inertia)
    if np.linalg.det(principal) < 0:
        principal[:, 0] *= -1
    mujoco.mju_mat2Quat(model.body_iquat[body], principal.ravel())
    model.body_mass[body], model.body_inertia[body], model.body_ipos[body] = own + added, moments, center
    # MuJoCo skips frame transformations for frames that were compiled as identical; they no longer are.
    model.body_sameframe[body] = 0
    model.geom_sameframe[model.geom_bodyid == body] = 0
    model.site_sameframe[model.site_bodyid == body] = 0


# -- joints and motors -----------------------------------------------------------------------------------------------------


@kind(
    "model",
    "viscous damping of joints",
    "factor; N m s/rad",
    ops=("scale", "add", "set"),
    target="joint",
    limits={"scale": (0, 100), "add": (0, 100), "set": (0, 100)},
    robot_limits={"Humanoid": {"scale": (0, 4), "add": (0, 10), "set": (0, 10)}},  # unstable from a factor of 5
    fields=("dof_damping",),
    probes=({"value": 0.3}, {"value": 3.0}),
    refuse=_zero("dof_damping", "N m s/rad"),
)
def damping(active: Active) -> None:
    dofs = active.robot.model.jnt_dofadr[active.ids]
    active.robot.model.dof_damping[dofs] = active.change(active.robot.model.dof_damping[dofs])


@kind(
    "model",
    "armature (rotor inertia) of joints",
    "factor; kg m^2",
    ops=("scale", "add", "set"),
    target="joint",
    limits={"scale": (0.2, 20), "add": (0, 20), "set": (0.002, 20)},
    fields=("dof_armature",),
    set_const=True,
    probes=({"value": 0.5}, {"value": 3.0}),
    refuse=_zero("dof_armature", "kg m^2"),
)
def armature(active: Active) -> None:
    dofs = active.robot.model.jnt_dofadr[active.ids]
    active.robot.model.dof_armature[dofs] = active.change(active.robot.model.dof_armature[dofs])


@kind(
    "model",
    "stiffness of joint springs about their nominal angle",
    "factor; N m/rad",
    ops=("scale", "add", "set"),
    target="joint",
    limits={"scale": (0, 10), "add": (0, 300), "set": (0, 2000)},
    fields=("jnt_stiffness",),
    probes=({"value": 0.3}, {"value": 3.0}, {"value": 5.0, "op": "add"}),
    refuse=_zero("jnt_stiffness", "N m/rad"),
)
def stiffness(active: Active) -> None:
    active.robot.model.jnt_stiffness[active.ids] = active.change(active.robot.model.jnt_stiffness[active.ids])


@kind(
    "model",
    "torque per control (gear) of motors; negative is reversed",
    "factor",
    ops=("scale",),
    target="joint",
    limits={"scale": (-4, 4)},
    fields=("actuator_gear",),
    observable="Humanoid: qfrc_actuator",
    probes=({"value": 0.5}, {"value": 1.5}),
)
def strength(active: Active) -> None:
    motors = active.robot.actuators_of(active.ids)
    active.robot.model.actuator_gear[motors] = active.change(active.robot.model.actuator_gear[motors])


@kind(
    "model",
    "motors give no torque; their joints swing freely",
    "on or off",
    target="joint",
    fields=("actuator_gear",),
    schedules=STEPWISE,
    observable="Humanoid: qfrc_actuator",
    probes=({},),
)
def motor_off(active: Active) -> None:
    active.robot.model.actuator_gear[active.robot.actuators_of(active.ids)] = 0


@kind(
    "lock",
    "joints are held at the angle that they have when it begins (a constraint: 0.001 to 0.02 rad of play)",
    "on or off",
    target="joint",
    fields=("eq_data",),
    schedules=STEPWISE,
    observable="joint angle and velocity",
    probes=({},),
)
def joint_lock(active: Active) -> None:
    model, data = active.robot.model, active.data
    places = model.jnt_qposadr[active.ids]
    angles = active.memory.setdefault("angles", data.qpos[places].copy())
    locks = [active.robot.locks[int(joint)] for joint in active.ids]
    model.eq_data[locks, 0] = angles - model.qpos0[places]
    data.eq_active[locks] = 1


@kind(
    "model",
    "range of motion of joints, about its middle",
    "factor",
    ops=("scale",),
    target="joint",
    limits={"scale": (0.05, 1.5)},
    fields=("jnt_range",),
    probes=({"value": 0.5}, {"value": 1.4}),
)
def joint_range(active: Active) -> None:
    model = active.robot.model
    low, high = model.jnt_range[active.ids].T
    middle, half = (low + high) / 2, active.change((high - low) / 2)
    model.jnt_range[active.ids] = np.stack([middle - half, middle + half], axis=1)


# -- limbs -----------------------------------------------------------------------------------------------------------------


@kind(
    "shape",
    "length of a limb and of all below it; radii and densities stay, so mass follows length",
    "factor",
    ops=("scale",),
    target="limb",
    limits={"scale": (0.2, 1.5)},
    fields=("geom_size", "geom_pos", "body_pos", "jnt_pos", "body_mass", "body_inertia", "body_ipos", "body_iquat"),
    schedules=STEPWISE,
    observable="Humanoid: cinert, cvel",
    probes=({"value": 0.6}, {"value": 1.3}),
)
def limb_scale(active: Active) -> dict[int, float]:
    robot = active.robot
    below = {b for body in active.ids for b in robot.subtree(int(body))[1:]}
    return {int(body): float(active.change(1.0)) for body in active.ids if int(body) not in below}


@kind(
    "model",
    "a limb is lost, but keeps its place in the spaces: no contact, 1e-4 of its mass, no torque",
    "on or off",
    target="limb",
    fields=("geom_contype", "geom_conaffinity", "geom_rgba", "body_mass", "body_inertia", "actuator_gear"),
    set_const=True,
    schedules=STEPWISE,
    observable="Humanoid: cinert, cvel, qfrc_actuator",
    probes=({},),
)
def ghost_limb(active: Active) -> None:
    robot, model = active.robot, active.robot.model
    bodies = sorted({b for body in active.ids for b in robot.subtree(int(body))})
    geoms = robot.geoms_of(bodies)
    model.geom_contype[geoms] = model.geom_conaffinity[geoms] = 0
    model.geom_rgba[geoms, 3] = 0.15
    model.body_mass[bodies] *= 1e-4
    model.body_inertia[bodies] *= 1e-4
    joints = np.flatnonzero(np.isin(model.jnt_bodyid, bodies))
    model.actuator_gear[robot.actuators_of(joints)] = 0


# -- world -----------------------------------------------------------------------------------------------------------------


@kind(
    "model",
    "sliding friction of the floor and of every part of the robot (MuJoCo takes the larger of the two in contact)",
    "factor",
    ops=("scale", "set"),
    limits={"scale": (0, 10), "set": (0, 10)},
    fields=("geom_friction",),
    probes=({"value": 0.3}, {"value": 3.0}),
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
    refuse=_unreachable,
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
    active.robot.model.opt.wind[:] = active.amount * _direction(active)
    active.robot.model.opt.density = float(active.params["density"])


@kind(
    "force",
    "a force on a body (the root, if none is named) along a direction of the world; contact forces do not show it",
    "body weights",
    ops=("add",),
    target="body",
    limits={"add": (-10, 10)},
    params={"direction": (1.0, 0.0, 0.0)},
    probes=({"value": 0.3}, {"value": -0.3}, {"value": 0.3, "params": {"direction": (0.0, 1.0, 0.0)}}),
    refuse=_unreachable,
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
    floor, ground = robot.floor_geom, model.geom("terrain").id
    model.geom_contype[ground], model.geom_conaffinity[ground] = model.geom_contype[floor], model.geom_conaffinity[floor]
    model.geom_rgba[ground] = model.geom_rgba[floor]
    model.geom_pos[floor, 2] -= FLOOR_DROP
