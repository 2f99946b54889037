"""Gymnasium environments that can be perturbed: the five v5 robots and any other MujocoEnv.

    env = gym.make("sb3_plastic/PerturbedAnt-v0", perturbations=[{"kind": "motor_off", "target": "ankle_1"}])
    env.reset(options={"perturbations": [{"kind": "mass", "value": {"uniform": [0.5, 1.5]}}]})  # from now on

Without perturbations they are the stock environments, bit for bit. The hook is below the reward, in the step of the
simulation: damage changes neither the control cost nor, before it begins, anything else.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import mujoco
import numpy as np
from gymnasium import spaces
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.envs.mujoco.ant_v5 import AntEnv
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv
from gymnasium.envs.mujoco.hopper_v5 import HopperEnv
from gymnasium.envs.mujoco.humanoid_v5 import HumanoidEnv
from gymnasium.envs.mujoco.walker2d_v5 import Walker2dEnv
from gymnasium.utils import EzPickle

from sb3_plastic.perturbations.checks import Plant
from sb3_plastic.perturbations.kinds.world import needs_terrain
from sb3_plastic.perturbations.perturber import Perturber
from sb3_plastic.perturbations.robot import Robot
from sb3_plastic.perturbations.spec import Perturbation, PerturbationError, parse
from sb3_plastic.simulator import hush_mujoco

hush_mujoco()

BAD_STATE = [
    int(w)
    for w in (mujoco.mjtWarning.mjWARN_BADQPOS, mujoco.mjtWarning.mjWARN_BADQVEL, mujoco.mjtWarning.mjWARN_BADQACC)
]


class PerturbableEnv(MujocoEnv):
    """
    Mix-in that perturbs a MujocoEnv; see `make_perturbable`.

    `info`, at reset and at each step, has ``perturbation_names``, ``perturbation_values`` (as drawn),
    ``perturbation_active``, ``context`` (present deviations from nominal), ``steps_since_onset`` (-1 before) and
    ``sim_unstable``. When MuJoCo finds its state broken, it silently starts over and so pays a jump; here the episode
    ends with reward 0, in ``info`` too, and ``sim_unstable``.

    :param perturbations: a list of mappings or `Perturbation` objects, drawn anew at each reset
    :param scenario: name of a scenario of a suite, instead of perturbations
    :param observe_context: append the context vector to the observation: the oracle. It is that of the perturbations
        given here. After a reset to other perturbations it shows those of their variables that are in this context, too
    :param terrain: compile a height field in, for later resets with terrain; None: if the perturbations need it
    :raises PerturbationError: naming the entry that cannot act on this robot
    """

    robot_name = "?"

    def __init__(
        self,
        *args: Any,
        perturbations: Sequence[Perturbation | Mapping[str, Any]] | None = None,
        scenario: str | None = None,
        observe_context: bool = False,
        terrain: bool | None = None,
        **kwargs: Any,
    ) -> None:
        entries = self._read(perturbations, scenario)
        self._robot: Robot | None = None
        self._terrain = needs_terrain(entries) if terrain is None else terrain
        given = inspect.signature(super().__init__).parameters
        chooses = "camera_name" in given or any(p.kind is p.VAR_KEYWORD for p in given.values())
        if chooses and not {"camera_id", "camera_name", "default_camera_config"} & {*kwargs}:
            kwargs["camera_name"] = "track"  # follows the robot; where a model has none, MuJoCo's free camera is taken
        super().__init__(*args, **kwargs)
        own = {
            "perturbations": perturbations,
            "scenario": scenario,
            "observe_context": observe_context,
            "terrain": terrain,
        }
        if isinstance(self, EzPickle):
            self._ezpickle_kwargs |= own
        shape = self.observation_space.shape or ()
        if len(shape) != 1:
            raise PerturbationError(
                f"A perturbable environment observes a box of one axis, got {self.observation_space}."
            )
        (self._n_sensors,) = shape
        self.perturber = self._make_perturber()
        self.perturber.use(entries)
        self.observe_context = observe_context
        self.context_layout = entries
        if observe_context:
            size = self._n_sensors + self.perturber.context_size(entries)
            self.observation_space = spaces.Box(-np.inf, np.inf, (size,), np.float64)

    @property
    def robot(self) -> Robot:
        """The live model with its nominal state and names."""
        assert self._robot is not None
        return self._robot

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """
        Start an episode with the nominal model and newly drawn perturbations.

        :param seed: also starts the sequence of drawn perturbations anew
        :param options: ``{"perturbations": [...]}`` or ``{"scenario": name}`` replaces the perturbations from now on
        :return: observation and info
        """
        options = options or {}
        if "perturbations" in options or "scenario" in options:
            self._replace(self._asked(options))
        p = self.perturber
        if seed is not None:
            p.seed(seed)
        p.begin()
        obs, info = super().reset(seed=seed, options=options)
        info |= p.info | {"steps_since_onset": p.steps_since_onset(), "sim_unstable": False}
        return self._sense(obs), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One step of the environment, perturbed. :param action: the action"""
        p = self.perturber
        if p.busy:
            p.before_step(self.data)
        obs, reward, terminated, truncated, step_info = super().step(action)
        info: dict[str, Any] = step_info
        info.update(p.info)
        info["steps_since_onset"] = -1 if p.onset is None else p.t - p.onset
        warnings = self._warnings
        if warnings[BAD_STATE[0]] or warnings[BAD_STATE[1]] or warnings[BAD_STATE[2]]:
            info["sim_unstable"] = terminated = True
            reward = np.float64(0)
            info.update({name: 0.0 for name in info if name.startswith("reward_")})
        else:
            info["sim_unstable"] = False
        if p.filters_observations or self.observe_context:
            obs = self._sense(obs)
        p.t += 1
        return obs, reward, terminated, truncated, info

    def _step_mujoco_simulation(self, ctrl: Any, n_frames: int) -> None:
        p, data = self.perturber, self.data
        if not (p.filters_actions or p.forces):
            super()._step_mujoco_simulation(ctrl, n_frames)
            return
        data.ctrl[:] = p.command(ctrl) if p.filters_actions else ctrl
        for body, force in p.forces.items():
            data.xfrc_applied[body, :3] = force
        mujoco.mj_step(self.model, data, nstep=n_frames)
        # Cleared before contact forces are computed, or observation and contact cost would contain the push; and the
        # command put back, since Humanoid's control cost reads it from here.
        data.xfrc_applied[list(p.forces)] = 0
        data.ctrl[:] = ctrl
        mujoco.mj_rnePostConstraint(self.model, data)

    @property
    def is_healthy(self) -> bool:
        """As the stock environment judges it, with heights above the ground."""
        robot = self._robot
        if robot is None or robot.heights is None:
            return super().is_healthy  # type: ignore[misc]
        free = self.model.jnt_type[0] == mujoco.mjtJoint.mjJNT_FREE
        x, y = self.data.qpos[0], self.data.qpos[1] if free else 0.0
        height = 2 if free else 1
        saved = self.data.qpos[height]
        self.data.qpos[height] -= robot.ground(x, y)
        try:
            return super().is_healthy  # type: ignore[misc]
        finally:
            self.data.qpos[height] = saved

    def render(self) -> Any:
        """Render; terrain is uploaded first, since it changes between episodes."""
        if self.robot.terrain:
            for viewer in self.mujoco_renderer._viewers.values():
                viewer.make_context_current()
                mujoco.mjr_uploadHField(self.model, viewer.con, 0)
        return super().render()

    def asks_terrain(self, options: Mapping[str, Any]) -> bool:
        """Whether a reset with these options needs a height field. :param options: as for `reset`"""
        return needs_terrain(self._asked(options))

    def use_terrain(self) -> None:
        """Compile a height field in, if there is none yet. The episode is over with that: reset next."""
        if self.robot.terrain:
            return
        self._terrain = True
        self.model, self.data = self._initialize_simulation()
        entries, old = self.perturber.perturbations, self.perturber
        self.perturber = self._make_perturber()
        self.perturber.use(entries)
        self.perturber.take_over(old)
        renderer = self.mujoco_renderer
        renderer.close()
        renderer._viewers.clear()
        renderer.model, renderer.data = self.model, self.data

    def _initialize_simulation(self) -> tuple[Any, Any]:
        self._robot = Robot(self.fullpath, self.robot_name, terrain=self._terrain, width=self.width, height=self.height)
        data = mujoco.MjData(self._robot.model)
        self._warnings = memoryview(data.warning.number)  # live; reading it is cheaper than reading an array
        return self._robot.model, data

    def _make_perturber(self) -> Perturber:
        m, structure, sensors = self.model, getattr(self, "observation_structure", {}), {}
        if {"qpos", "qvel"} <= {*structure}:  # nothing else tells which component is whose: then they have but indices
            skipped = structure.get("skipped_qpos", 0)
            for name, j in self.robot.joints.items():
                sensors[name] = [int(m.jnt_qposadr[j]) - skipped, m.nq - skipped + int(m.jnt_dofadr[j])]
        ctrlrange = np.where(m.actuator_ctrllimited[:, None], m.actuator_ctrlrange, (-1.0, 1.0))  # no range: units
        half_range, middle = np.diff(ctrlrange, axis=1)[:, 0] / 2, ctrlrange.mean(axis=1)
        return Perturber(Plant(self.robot_name, self.robot, half_range, middle, sensors, self._n_sensors))

    def _asked(self, options: Mapping[str, Any]) -> tuple[Perturbation, ...]:
        return self._read(options.get("perturbations"), options.get("scenario"))

    def _read(self, perturbations: Any, scenario: str | None) -> tuple[Perturbation, ...]:
        if scenario is None:
            return parse(perturbations)
        if perturbations:
            raise PerturbationError("Give perturbations or a scenario, not both.")
        from sb3_plastic.perturbations.suites import find_scenario

        return find_scenario(scenario, self.robot_name).perturbations

    def _replace(self, entries: tuple[Perturbation, ...]) -> None:
        if needs_terrain(entries):
            self.use_terrain()
        self.perturber.use(entries)

    def _sense(self, obs: Any) -> Any:
        if self.perturber.filters_observations:
            obs = self.perturber.observe(obs)
        if self.observe_context:
            obs = np.concatenate([obs, self.perturber.context(self.context_layout)])
        return obs


def make_perturbable(env_class: type[MujocoEnv], name: str | None = None) -> type[PerturbableEnv]:
    """
    A perturbable version of a MuJoCo environment.

    :param env_class: a subclass of gymnasium's MujocoEnv that leaves loading and stepping to it
    :param name: what errors call the robot; None: the name of the class
    :return: a class with the further arguments of `PerturbableEnv`
    :raises TypeError: if the class is no MujocoEnv, or loads or steps the simulation on its own
    """
    if not issubclass(env_class, MujocoEnv):
        raise TypeError(f"{env_class.__name__} is no MujocoEnv; wrap an instance in PerturbSignals instead.")
    for method in ("_initialize_simulation", "_step_mujoco_simulation"):
        if getattr(env_class, method) is not getattr(MujocoEnv, method):
            raise TypeError(f"{env_class.__name__} has a {method} of its own, which perturbations would bypass.")
    robot = name or env_class.__name__.removesuffix("Env")
    return type(f"Perturbed{env_class.__name__}", (PerturbableEnv, env_class), {"robot_name": robot})


PerturbedHalfCheetahEnv = make_perturbable(HalfCheetahEnv)
PerturbedAntEnv = make_perturbable(AntEnv)
PerturbedHopperEnv = make_perturbable(HopperEnv)
PerturbedWalker2dEnv = make_perturbable(Walker2dEnv)
PerturbedHumanoidEnv = make_perturbable(HumanoidEnv)
