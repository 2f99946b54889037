"""A MuJoCo model that can be edited while it runs and restored exactly.

`Robot.model` is the live model. It is compiled from the environment's own XML with two additions that leave the
dynamics bit-identical: an inactive lock on every driven joint and, only if terrain is asked for, a height field that
collides with nothing. `Robot.restore` copies every array back, so an episode inherits nothing from the one before.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from sb3_plastic.perturbations.spec import PerturbationError, unknown

Arrays = dict[str, NDArray[Any]]

TERRAIN_SPACING = 0.5  # m between neighbouring heights
TERRAIN_BEHIND, TERRAIN_AHEAD, TERRAIN_SIDE = 10.0, 390.0, 20.0  # m around the start; x is forward
FLOOR_DROP = 0.02  # m by which the plane is lowered under active terrain, so that it catches only who leaves it
LOCKABLE = (int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE))  # MuJoCo cannot hold a ball
OF_JOINT = (int(mujoco.mjtTrn.mjTRN_JOINT), int(mujoco.mjtTrn.mjTRN_JOINTINPARENT))
OF_TENDON = int(mujoco.mjtTrn.mjTRN_TENDON)
VARIANTS = 32  # limb geometries kept compiled (some 0.2 MB each)


def _arrays(model: mujoco.MjModel) -> Arrays:
    """Live views of all that perturbations or `mj_setConst` may write; textures and meshes are left out."""
    names = (name for name in dir(model) if not name.startswith(("_", "tex_", "mesh_", "skin_")))
    views = {name: getattr(model, name) for name in names if isinstance(getattr(model, name), np.ndarray)}
    views |= {f"opt.{name}": getattr(model.opt, name) for name in ("gravity", "wind")}
    return {name: view for name, view in views.items() if view.flags.writeable}


class Robot:
    """
    A live model, its nominal state and its names.

    :param path: the MuJoCo XML
    :param name: what error messages and suites call it
    :param terrain: compile a height field in. It slows a step by 10 to 16 %, hence only where asked for.
    :param width: least width of the off-screen frame buffer, in pixels
    :param height: least height of it
    """

    def __init__(self, path: str, name: str, *, terrain: bool, width: int, height: int) -> None:
        self.path, self.name, self.terrain = path, name, terrain
        self._frame = (width, height)
        self._mass_factor = 1.0  # what the XML's settotalmass scales masses by
        self.model = self._compile({})
        views = _arrays(self.model)
        self.fields = tuple(views)  # what perturbations may write; much of it is empty, such as tendons and sites
        self.live = {key: view for key, view in views.items() if view.size}
        self.nominal: Arrays = {key: view.copy() for key, view in self.live.items()}
        self._variants: dict[tuple[tuple[int, float], ...], Arrays] = {}
        self._density = float(self.model.opt.density)
        self.heights: NDArray[np.float64] | None = None  # the ground's, where terrain is active, in metres
        self.weight = float(self.model.body_mass.sum() * np.linalg.norm(self.model.opt.gravity))  # N

    # -- restoring ---------------------------------------------------------------------------------------------------

    def restore(self, base: Arrays | None = None) -> None:
        """Copy every array back. :param base: the arrays of `variant`; None: the nominal ones"""
        source = self.nominal if base is None else base
        for key, view in self.live.items():
            np.copyto(view, source[key])
        self.model.opt.density = self._density
        self.heights = None

    def restore_fields(self, fields: Sequence[str], base: Arrays | None = None) -> None:
        """
        Copy only some arrays back, which is quicker than all.

        :param fields: their names
        :param base: as in `restore`
        """
        source = self.nominal if base is None else base
        for key in fields:
            if key in self.live:
                np.copyto(self.live[key], source[key])
        if "opt.wind" in fields:
            self.model.opt.density = self._density

    def set_const(self) -> None:
        """Recompute what MuJoCo derives from masses, inertias and sizes, in a scratch MjData (it overwrites qpos)."""
        mujoco.mj_setConst(self.model, self._scratch)

    @cached_property
    def _scratch(self) -> mujoco.MjData:
        return mujoco.MjData(self.model)

    def variant(self, scales: Mapping[int, float]) -> Arrays:
        """
        The arrays of the same robot with limbs of another length.

        :param scales: length factor by body id; a body carries everything below it along
        :return: arrays for `restore`
        """
        key = tuple(sorted(scales.items()))
        if key not in self._variants:
            if len(self._variants) >= VARIANTS:
                del self._variants[next(iter(self._variants))]
            self._variants[key] = {k: v.copy() for k, v in _arrays(self._compile(scales)).items()}
        return self._variants[key]

    # -- names -------------------------------------------------------------------------------------------------------

    @cached_property
    def joints(self) -> dict[str, int]:
        """Driven joints by name, in the order of their motors."""
        m = self.model
        driven = dict.fromkeys(m.actuator_trnid[np.isin(m.actuator_trntype, OF_JOINT), 0].tolist())
        return {m.joint(j).name: j for j in driven}

    @cached_property
    def motors(self) -> dict[str, list[int]]:
        """Motors by the name of the joint or tendon that they move; one of a site or a body by its own."""
        m = self.model
        motors: dict[str, list[int]] = {}
        for i, (driven, how) in enumerate(zip(m.actuator_trnid[:, 0].tolist(), m.actuator_trntype, strict=True)):
            of_tendon = m.tendon(driven).name if how == OF_TENDON else m.actuator(i).name or f"motor{i}"
            motors.setdefault(m.joint(driven).name if how in OF_JOINT else of_tendon, []).append(i)
        return motors

    @cached_property
    def locks(self) -> dict[int, int]:
        """Id of the inactive equality constraint that can hold a driven hinge or slide, by the joint's id."""
        able = {name: j for name, j in self.joints.items() if int(self.model.jnt_type[j]) in LOCKABLE}
        return {j: self.model.equality(f"lock_{name}").id for name, j in able.items()}

    @cached_property
    def bodies(self) -> dict[str, int]:
        """Bodies by name; an unnamed one (Ant has four) also goes by the driven joint that moves it."""
        m = self.model
        names = {m.body(b).name: b for b in range(1, m.nbody) if m.body(b).name}
        return {name: int(m.jnt_bodyid[j]) for name, j in self.joints.items()} | names

    @cached_property
    def root(self) -> int:
        """Id of the body that carries the others: the highest that moves above the motors. Scenery may come first."""
        m = self.model
        body = root = int(m.jnt_bodyid[next(iter(self.joints.values()), 0)]) if m.njnt else 1
        while body := int(m.body_parentid[body]):
            root = body if m.body_jntnum[body] else root
        return root

    def find(self, names: Mapping[str, int], target: Any, what: str) -> NDArray[np.intp]:
        """
        The ids that a target means.

        :param names: the candidates
        :param target: a name with wildcards, or several
        :param what: what the names are, for the error
        :raises PerturbationError: if a name matches nothing, listing the candidates
        """
        ids: list[int] = []
        for pattern in (target,) if isinstance(target, str | int) else target:
            matches = [i for name, i in names.items() if fnmatch.fnmatchcase(name, str(pattern))]
            if not matches:
                raise unknown(f"{what} of {self.name}:", pattern, names)
            ids += [i for i in matches if i not in ids]
        return np.array(ids, dtype=np.intp)

    def subtree(self, body: int) -> list[int]:
        """A body and all that hang on it. :param body: its id"""
        found = [body]
        for b in range(body + 1, self.model.nbody):
            if self.model.body_parentid[b] in found:
                found.append(b)
        return found

    def geoms_of(self, bodies: Sequence[int]) -> NDArray[np.intp]:
        """Ids of the geoms of some bodies. :param bodies: their ids"""
        return np.flatnonzero(np.isin(self.model.geom_bodyid, bodies))

    def find_motors(self, target: Any) -> NDArray[np.intp]:
        """Ids of motors. :param target: names in `motors`, as for `find`, or None for all"""
        if target is None:
            return np.arange(self.model.nu)
        groups = list(self.motors.values())
        found = self.find({name: i for i, name in enumerate(self.motors)}, target, "joint")
        return np.array([motor for i in found for motor in groups[i]], dtype=np.intp)

    def joints_of(self, motors: Sequence[int] | NDArray[np.intp]) -> list[int]:
        """Ids of the joints of some motors, without those that move something else. :param motors: their ids"""
        return [int(self.model.actuator_trnid[i, 0]) for i in motors if self.model.actuator_trntype[i] in OF_JOINT]

    def actuators_of(self, joints: Sequence[int] | NDArray[np.intp]) -> NDArray[np.intp]:
        """Ids of the motors of some joints, in their order. :param joints: their ids"""
        of_joint = np.isin(self.model.actuator_trntype, OF_JOINT)  # else the id is that of a tendon, or else
        driven = np.where(of_joint, self.model.actuator_trnid[:, 0], -1)
        return np.array([motor for joint in joints for motor in np.flatnonzero(driven == joint)], dtype=np.intp)

    def can_move(self, direction: ArrayLike, bodies: Sequence[int] | NDArray[np.intp] | None = None) -> bool:
        """
        Whether anything can be displaced along a direction at all: of a planar robot nothing can along y.

        :param direction: in the world
        :param bodies: whether one of these can; None: of all
        """
        along = np.tensordot(self._jacobians, np.asarray(direction, dtype=float), (1, 0))
        moves = np.abs(along).max(axis=1, initial=0) > 1e-9
        return bool(moves.any() if bodies is None else moves[bodies].any())

    @cached_property
    def _jacobians(self) -> NDArray[np.float64]:
        """From the velocities of joints to those of bodies, at angles that are nowhere special, [nbody, 3, nv]."""
        model, data = self.model, mujoco.MjData(self.model)
        mujoco.mj_integratePos(model, data.qpos, np.random.default_rng(0).uniform(0.1, 0.4, model.nv), 1.0)
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        jacobians = np.zeros((model.nbody, 3, model.nv))
        for body in range(model.nbody):
            mujoco.mj_jacBodyCom(model, data, jacobians[body], None, body)
        return jacobians

    @cached_property
    def touches(self) -> bool:
        """Whether any two parts of the model can touch: without contacts there is no friction."""
        m = self.model
        one, other = np.triu_indices(m.ngeom, 1)
        collide = (m.geom_contype[one] & m.geom_conaffinity[other]) | (m.geom_contype[other] & m.geom_conaffinity[one])
        return bool((collide.astype(bool) & (m.geom_bodyid[one] != m.geom_bodyid[other])).any())

    # -- terrain -----------------------------------------------------------------------------------------------------

    def ground(self, x: float, y: float) -> float:
        """
        Height of the ground, in metres; 0 without terrain. As MuJoCo has it: a square between four heights is two
        triangles, divided along the diagonal from the smallest to the largest coordinates.

        :param x: forward, in metres
        :param y: to the left, in metres
        """
        if self.heights is None:
            return 0.0
        rows, columns = self.heights.shape
        c = min(max((x + TERRAIN_BEHIND) / TERRAIN_SPACING, 0.0), columns - 1.001)
        r = min(max((y + TERRAIN_SIDE) / TERRAIN_SPACING, 0.0), rows - 1.001)
        i, j = int(r), int(c)
        u, v = r - i, c - j
        (a, b), (d, e) = self.heights[i : i + 2, j : j + 2]
        return float(a + v * (b - a) + u * (e - b) if v > u else a + u * (d - a) + v * (e - d))

    @cached_property
    def planes(self) -> NDArray[np.intp]:
        """Ids of the planes. The first is what everything stands on; a pendulum has none."""
        return np.flatnonzero(self.model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE)

    # -- compiling ---------------------------------------------------------------------------------------------------

    def _compile(self, scales: Mapping[int, float]) -> mujoco.MjModel:
        spec, total_mass = _parse(self.path)
        driven = {actuator.target for actuator in spec.actuators}
        for joint in spec.joints:
            if joint.name in driven and int(joint.type) in LOCKABLE:
                lock = spec.add_equality(
                    type=mujoco.mjtEq.mjEQ_JOINT, objtype=mujoco.mjtObj.mjOBJ_JOINT, name1=joint.name
                )
                lock.name, lock.active = f"lock_{joint.name}", False
        for body, factor in sorted(scales.items()):
            _scale_limb(spec, body, factor)
        model = spec.compile()
        if self.terrain:
            extent, center = model.stat.extent, model.stat.center.copy()
            _add_height_field(spec)
            model = spec.compile()
            # Cameras, lights and clipping planes are scaled by these, and the robot is still the subject.
            model.stat.extent, model.stat.center[:] = extent, center
        if total_mass > 0:
            raw = model.body_mass.sum()
            if not scales:
                self._mass_factor = total_mass / raw
            mujoco.mj_setTotalmass(model, total_mass if not scales else raw * self._mass_factor)
        if self.terrain:
            geom = model.geom("terrain").id
            model.geom_contype[geom] = model.geom_conaffinity[geom] = 0
        if total_mass > 0 or self.terrain:
            mujoco.mj_setConst(model, mujoco.MjData(model))
        # As gymnasium does: grow the off-screen frame buffer, never shrink it.
        view = model.vis.global_
        view.offwidth, view.offheight = max(view.offwidth, self._frame[0]), max(view.offheight, self._frame[1])
        return model


def _parse(path: str) -> tuple[mujoco.MjSpec, float]:
    """
    Read the XML without its `settotalmass`, which warns, writes a log file into the working directory, and would hide
    that a shortened limb has less mass. Scaling the compiled model instead gives bit-identical masses.

    :return: the spec, and the total mass in kg (-1: not set)
    """
    spec = mujoco.MjSpec.from_file(path)
    total, spec.compiler.settotalmass = spec.compiler.settotalmass, -1.0
    return spec, total


def _add_height_field(spec: mujoco.MjSpec) -> None:
    columns = int((TERRAIN_BEHIND + TERRAIN_AHEAD) / TERRAIN_SPACING) + 1
    rows = int(2 * TERRAIN_SIDE / TERRAIN_SPACING) + 1
    size = [(TERRAIN_BEHIND + TERRAIN_AHEAD) / 2, TERRAIN_SIDE, 1.0, 0.5]
    spec.add_hfield(name="terrain", size=size, nrow=rows, ncol=columns, userdata=np.zeros(rows * columns))
    floor = next((geom for geom in spec.worldbody.geoms if geom.type == mujoco.mjtGeom.mjGEOM_PLANE), None)
    if floor is None:
        raise PerturbationError("There can be no terrain: the model has no plane to stand on.")
    spec.worldbody.add_geom(
        name="terrain",
        type=mujoco.mjtGeom.mjGEOM_HFIELD,
        hfieldname="terrain",
        pos=[(TERRAIN_AHEAD - TERRAIN_BEHIND) / 2, 0, 0],
        rgba=[0, 0, 0, 0],  # invisible until it is active
        contype=floor.contype,
        conaffinity=floor.conaffinity,
        condim=floor.condim,
        friction=floor.friction,
        margin=floor.margin,
        solref=floor.solref,
        solimp=floor.solimp,
    )


def _scale_limb(spec: mujoco.MjSpec, body_id: int, factor: float) -> None:
    """
    Scale the lengths of a body and of all below it about its joint. Radii and densities stay, so mass follows length.
    """

    def anchor(body: Any) -> NDArray[np.float64]:
        return np.array(body.joints[0].pos) if body.joints else np.zeros(3)

    def scale(body: Any) -> None:
        pivot = anchor(body)
        for geom in body.geoms:
            if np.isfinite(geom.fromto).all():
                geom.fromto = np.tile(pivot, 2) + factor * (geom.fromto - np.tile(pivot, 2))
                continue
            geom.pos = pivot + factor * (geom.pos - pivot)
            if geom.type in (mujoco.mjtGeom.mjGEOM_CAPSULE, mujoco.mjtGeom.mjGEOM_CYLINDER):
                geom.size = np.array([geom.size[0], factor * geom.size[1], geom.size[2]])
        for child in body.bodies:
            turned = np.zeros(3)
            mujoco.mju_rotVecQuat(turned, anchor(child), child.quat)
            # The child's joint moves along the limb; its frame follows, since the child is scaled about that joint.
            child.pos = pivot + factor * (child.pos + turned - pivot) - turned
            scale(child)

    scale(spec.bodies[body_id])
