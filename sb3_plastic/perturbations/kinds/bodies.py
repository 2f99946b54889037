"""Kinds that change the robot's body: its inertia, joints, motors and limbs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from sb3_plastic.perturbations.kinds.base import Active, Change, Refusal, kind
from sb3_plastic.perturbations.robot import Robot
from sb3_plastic.perturbations.schedules import ONE_SIDED, STEPWISE


def _zero(name: str, unit: str) -> Refusal:
    """Refuse to scale what is zero."""

    def refuse(robot: Robot, joints: NDArray[np.intp], params: Mapping[str, Any], op: str) -> str | None:
        ids = joints if name.startswith("jnt") else np.isin(robot.model.dof_jntid, joints)
        if op == "scale" and not robot.nominal[name][ids].any():
            return f"{name} is 0 there, and scaling 0 changes nothing; use op 'add' or 'set' ({unit})"
        return None

    return refuse


# -- inertia ---------------------------------------------------------------------------------------------------------


def _scale_mass(robot: Robot, bodies: NDArray[np.intp], change: Change) -> None:
    model = robot.model
    bodies = bodies[model.body_mass[bodies] > 0]
    mass = change(model.body_mass[bodies])
    model.body_inertia[bodies] *= (mass / model.body_mass[bodies])[:, None]
    model.body_mass[bodies] = mass


_MASS = ("body_mass", "body_inertia")


def _simple(robot: Robot, ids: NDArray[np.intp], params: Mapping[str, Any], op: str) -> str | None:
    if not robot.model.body_simple[robot.root]:
        return None
    name = robot.model.body(robot.root).name
    return f"MuJoCo took {name!r} for a body whose load never changes: give it simple='false' in the XML"


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
    probes=(
        {"value": 0.5, "target": "torso"},
        {"value": 2.0, "target": "torso"},
        {"value": 1.0, "op": "add", "target": "torso"},
    ),
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
    schedules=ONE_SIDED,
    params={"offset": (0.0, 0.0, 0.1)},  # m, in the frame of the body
    probes=({"value": 0.3}, {"value": 0.3, "params": {"offset": (0.2, 0.0, 0.0)}}),
    refuse=_simple,
)
def payload(active: Active) -> None:
    model, body = active.robot.model, active.robot.root
    added = active.amount * float(active.robot.nominal["body_mass"].sum())
    own, own_center = float(model.body_mass[body]), model.body_ipos[body].copy()
    offset = np.asarray(active.params["offset"], dtype=float)
    center = (own * own_center + added * offset) / (own + added)
    flat = np.zeros(9)
    mujoco.mju_quat2Mat(flat, model.body_iquat[body])
    axes = flat.reshape(3, 3)
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


# -- joints and motors -----------------------------------------------------------------------------------------------


def _change_dofs(active: Active, x: NDArray[np.float64]) -> None:
    """Change all degrees of freedom of the joints, three of a ball and six of a free one, by the joint's value."""
    joints, dofs = np.nonzero(active.ids[:, None] == active.robot.model.dof_jntid)
    change = active.change
    if np.ndim(change.value):
        change = replace(change, value=change.value[joints])
    x[dofs] = change(x[dofs])


@kind(
    "model",
    "viscous damping of joints",
    "factor; N m s/rad",
    ops=("scale", "add", "set"),
    target="joint",
    limits={"scale": (0, 100), "add": (0, 100), "set": (0, 100)},
    robot_limits={
        "Humanoid": {"scale": (0, 4), "add": (0, 10), "set": (0, 10)},  # unstable from a factor of 5
        "Walker2d": {"add": (0, 30), "set": (0, 30)},
    },
    fields=("dof_damping",),
    each=True,
    probes=({"value": 0.3}, {"value": 3.0}),
    refuse=_zero("dof_damping", "N m s/rad"),
)
def damping(active: Active) -> None:
    _change_dofs(active, active.robot.model.dof_damping)


@kind(
    "model",
    "armature (rotor inertia) of joints",
    "factor; kg m^2",
    ops=("scale", "add", "set"),
    target="joint",
    limits={"scale": (0.2, 20), "add": (0, 20), "set": (0.002, 20)},
    fields=("dof_armature",),
    set_const=True,
    each=True,
    probes=({"value": 0.5}, {"value": 3.0}),
    refuse=_zero("dof_armature", "kg m^2"),
)
def armature(active: Active) -> None:
    _change_dofs(active, active.robot.model.dof_armature)


@kind(
    "model",
    "stiffness of joint springs about their nominal angle",
    "factor; N m/rad",
    ops=("scale", "add", "set"),
    target="joint",
    limits={"scale": (0, 10), "add": (0, 300), "set": (0, 2000)},
    fields=("jnt_stiffness",),
    each=True,
    probes=({"value": 0.3}, {"value": 3.0}, {"value": 5.0, "op": "add"}),
    refuse=_zero("jnt_stiffness", "N m/rad"),
)
def stiffness(active: Active) -> None:
    active.robot.model.jnt_stiffness[active.ids] = active.change(active.robot.model.jnt_stiffness[active.ids])


PLAIN = (int(mujoco.mjtGain.mjGAIN_FIXED), int(mujoco.mjtBias.mjBIAS_NONE))
LINEAR = (int(mujoco.mjtGain.mjGAIN_AFFINE), int(mujoco.mjtBias.mjBIAS_AFFINE))


def _muscles(robot: Robot, motors: NDArray[np.intp], params: Mapping[str, Any], op: str) -> str | None:
    m = robot.model
    known = np.isin(m.actuator_gaintype, (PLAIN[0], LINEAR[0])) & np.isin(m.actuator_biastype, (PLAIN[1], LINEAR[1]))
    others = [m.actuator(int(i)).name or f"motor{i}" for i in motors if not known[i]]
    return f"{', '.join(others)} is neither a motor nor a servo; use action_gain, which scales commands" * bool(others)


@kind(
    "model",
    "torque per control of motors (gear), all torque of servos (gain and bias); negative is reversed",
    "factor",
    ops=("scale",),
    target="motor",
    limits={"scale": (-4, 4)},
    fields=("actuator_gear", "actuator_gainprm", "actuator_biasprm"),
    observable="Humanoid: qfrc_actuator",
    each=True,
    probes=({"value": 0.5}, {"value": 1.5}),
    refuse=_muscles,
)
def strength(active: Active) -> None:
    model, motors = active.robot.model, active.ids
    factor = active.change(np.ones(len(motors)))
    # The gear of a servo scales the angle that it holds, too: half of it would double the angle.
    plain = (model.actuator_gaintype[motors] == PLAIN[0]) & (model.actuator_biastype[motors] == PLAIN[1])
    model.actuator_gear[motors] *= np.where(plain, factor, np.where(factor < 0, -1, 1))[:, None]
    for parameters in (model.actuator_gainprm, model.actuator_biasprm):
        parameters[motors[~plain], :3] *= np.abs(factor[~plain])[:, None]


@kind(
    "model",
    "motors give no torque; their joints swing freely",
    "on or off",
    target="motor",
    fields=("actuator_gear",),
    schedules=STEPWISE,
    observable="Humanoid: qfrc_actuator",
    probes=({},),
)
def motor_off(active: Active) -> None:
    active.robot.model.actuator_gear[active.ids] = 0


def _not_lockable(robot: Any, ids: NDArray[np.intp], params: Mapping[str, Any], op: str) -> str | None:
    balls = [robot.model.joint(int(j)).name for j in ids if int(j) not in robot.locks]
    return f"a joint that is held is a hinge or a slide; {', '.join(balls)} is a ball" if balls else None


@kind(
    "lock",
    "joints are held at the angle that they have when it begins (a constraint: 0.001 to 0.02 rad of play)",
    "on or off",
    target="joint",
    fields=("eq_data",),
    schedules=STEPWISE,
    observable="joint angle and velocity",
    probes=({},),
    refuse=_not_lockable,
)
def joint_lock(active: Active) -> None:
    model, data = active.robot.model, active.data
    places = model.jnt_qposadr[active.ids]
    angles = active.memory.setdefault("angles", data.qpos[places].copy())
    locks = [active.robot.locks[int(joint)] for joint in active.ids]
    model.eq_data[locks, 0] = angles - model.qpos0[places]
    data.eq_active[locks] = 1


def _without_limits(robot: Robot, joints: NDArray[np.intp], params: Mapping[str, Any], op: str) -> str | None:
    return None if robot.model.jnt_limited[joints].any() else "a joint without limits has no range of motion"


@kind(
    "model",
    "range of motion of joints, about its middle",
    "factor",
    ops=("scale",),
    target="joint",
    limits={"scale": (0.05, 1.5)},
    fields=("jnt_range",),
    each=True,
    probes=({"value": 0.5}, {"value": 1.4}),
    refuse=_without_limits,
)
def joint_range(active: Active) -> None:
    model = active.robot.model
    low, high = model.jnt_range[active.ids].T
    middle, half = (low + high) / 2, active.change((high - low) / 2)
    model.jnt_range[active.ids] = np.stack([middle - half, middle + half], axis=1)


# -- limbs -----------------------------------------------------------------------------------------------------------


@kind(
    "shape",
    "length of a limb and of all below it; radii and densities stay, so mass follows length",
    "factor",
    ops=("scale",),
    target="limb",
    limits={"scale": (0.2, 1.5)},
    fields=("geom_size", "geom_pos", "body_pos", "body_mass", "body_inertia", "body_ipos", "body_iquat"),
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
