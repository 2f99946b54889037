"""LocomotionVecEnv: many perturbed robots on all cores of one process.

    venv = make_vec_env("sb3_plastic/PerturbedAntLatent-v0", n_envs=16, vec_env_cls=LocomotionVecEnv)

and in a YAML of RL Zoo: ``vec_env_wrapper: sb3_plastic.perturbations.vec_env.locomotion_vec_env``.

It holds the same environments as a DummyVecEnv and gives the same trajectories, bit for bit. They reset themselves
(so seeds, options and perturbations mean the same); between resets the simulations run in one `mujoco.batch.Batch`,
each on its own model, and observations, rewards and terminations are computed for all at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_plastic.perturbations.batched_envs import FUNCTIONS, Rows
from sb3_plastic.perturbations.envs import BAD_STATE, PerturbableEnv
from sb3_plastic.perturbations.spec import PerturbationError
from sb3_plastic.seeding import seed_each

STATE = mujoco.mjtState.mjSTATE_INTEGRATION
TRANSPARENT = (Monitor, TimeLimit, OrderEnforcing, PassiveEnvChecker)  # wrappers that the batch knows how to honour


class LocomotionVecEnv(DummyVecEnv):
    """
    The perturbed robots as one vector environment; takes the place of SB3's DummyVecEnv.

    :param env_fns: functions that make the environments: one robot, with the same arguments except for perturbations,
        in no wrappers but Monitor and those of ``gym.make``
    :param n_threads: simulation threads; None: one per core that this process may use
    :raises ImportError: without `mujoco.batch`, which comes with mujoco 3.17
    :raises PerturbationError: for environments that cannot be batched, saying which and why
    """

    def __init__(self, env_fns: Sequence[Callable[[], gym.Env[Any, Any]]], n_threads: int | None = None) -> None:
        try:
            from mujoco import batch as mujoco_batch
        except ImportError as error:
            raise ImportError(
                f"LocomotionVecEnv needs mujoco.batch (mujoco 3.17 or later), got mujoco {mujoco.__version__}. "
                "Upgrade mujoco, or use DummyVecEnv, which gives the same trajectories."
            ) from error
        super().__init__(list(env_fns))
        self._make_batch = mujoco_batch.Batch
        self._n_threads = n_threads or usable_cores()
        self.robots = [_unwrap(env, i) for i, env in enumerate(self.envs)]
        _check_alike(self.robots)
        self._functions = FUNCTIONS[self.robots[0].robot_name]
        self._limits = np.array([_time_limit(env) for env in self.envs])
        self._monitors = [_found(env, Monitor) for env in self.envs]
        self._contacts = self._functions.needs_contacts(self.robots[0])
        self._elapsed = np.zeros(self.num_envs, dtype=np.int64)
        self._rewards: list[list[float]] = [[] for _ in range(self.num_envs)]
        self._started = False
        self._idle = np.zeros(self.num_envs, dtype=bool)
        self._build()

    # -- stepping ----------------------------------------------------------------------------------------------------

    def reset(self) -> Any:
        """Reset all robots, with the seeds and options given beforehand."""
        if not self._terrain and any(r.asks_terrain(o) for r, o in zip(self.robots, self._options, strict=True)):
            for robot in self.robots:
                robot.use_terrain()
            self._build()
        obs = super().reset()
        for i in range(self.num_envs):
            self._load(i)
        self._sort()
        self._started = True
        return obs

    def step_wait(self) -> Any:
        """One step of all robots; those that are done are reset."""
        if not self._started:
            raise gym.error.ResetNeeded("Call reset() before step().")
        batch, actions = self._batch, np.asarray(self.actions)
        self._act(actions)
        batch.step(ids=~self._idle if self._idle.any() else None, nstep=self.robots[0].frame_skip)
        for i in self._pushed:
            self._xfrc[i] = 0
        rows = self._rows(actions)
        obs = self._functions.observe(rows)
        rewards, unhealthy, columns = self._functions.judge(rows)
        self._before = rows.after
        unstable = batch.warning[:, BAD_STATE, 1].any(axis=1)
        terminated = unstable if unhealthy is None else unhealthy | unstable
        if unstable.any():
            for column in (rewards, *(column for name, column in columns.items() if name.startswith("reward_"))):
                column[unstable] = 0
        obs = self._sense(obs)
        self._elapsed += ~self._idle
        truncated = self._elapsed >= self._limits
        dones = (terminated | truncated) & ~self._idle
        infos = self._infos(columns, unstable, truncated & ~terminated)
        values = rewards.tolist()
        for i in np.flatnonzero(~self._idle).tolist():
            self._rewards[i].append(values[i])
            self._fresh[i] = False
        if dones.any():
            for i in np.flatnonzero(dones).tolist():
                infos[i]["terminal_observation"] = obs[i].copy()
                self._record(i, bool(terminated[i]), bool(truncated[i]), infos[i])
                obs[i], self.reset_infos[i] = self.envs[i].reset()
                self._load(i)
            self._sort()
        return obs, rewards.astype(np.float32), dones, infos

    def set_idle(self, rows: np.ndarray) -> None:
        """
        Leave some robots as they are: steps do not move them, are not counted, and end no episode.

        :param rows: which, bool [n_envs]; all others move
        """
        self._idle = np.array(rows, dtype=bool)
        self._sort()

    def _act(self, actions: Any) -> None:
        """Give the simulations their models, commands and forces for this step."""
        changed = False
        for i, p in self._busy:
            if p.before_step(self._row_views[i]):
                changed = True
                if p.t > 0 and self._functions.weighs:
                    # The velocity is that of the centre of mass with the masses of this step, also before it.
                    x = SimpleNamespace(xipos=self._batch.xipos[i])
                    self._before[i] = self._functions.place(self.robots[i], x)
        if changed:
            self._batch.set_models(self._models)
        self._ctrl[:] = actions
        for i, p in self._commanded:
            self._ctrl[i] = p.command(actions[i])
        for i in self._pushed:
            for body, force in self._perturbers[i].forces.items():
                self._xfrc[i, body, :3] = force

    def _rows(self, actions: Any) -> Rows:
        place, robots, batch = self._functions.place, self.robots, self._batch
        cfrc_ext = self._contact_forces() if self._contacts else None
        qpos, qvel = self._qpos.copy(), self._qvel.copy()
        if "xpos" in self._functions.outputs:  # Ant: the place of one body
            ant: Any = robots[0]
            body = ant._main_body
            after = batch.xpos[:, body if isinstance(body, int) else batch.model.body(body).id, :2].copy()
        elif self._functions.weighs:
            after = np.array(
                [place(robot, SimpleNamespace(xipos=x)) for robot, x in zip(robots, batch.xipos, strict=True)]
            )
        else:
            after = qpos[:, 0]
        ground = None
        if self._terrain:
            y = qpos[:, 1] if after.ndim == 2 else np.zeros(self.num_envs)
            ground = np.array(
                [r.robot.ground(*xy) for r, xy in zip(robots, zip(qpos[:, 0], y, strict=True), strict=True)]
            )
        return Rows(robots[0], self._models, actions, self._before, after, qpos, qvel, ground, batch, cfrc_ext)

    def _contact_forces(self) -> Any:
        """`cfrc_ext`, which a step does not compute. Without contacts it is 0."""
        forces = np.zeros((self.num_envs, *self._scratch.cfrc_ext.shape))
        for i in np.flatnonzero(self._batch.ncon):
            self._batch.get_data(int(i), self._scratch)
            mujoco.mj_rnePostConstraint(self._models[i], self._scratch)
            forces[i] = self._scratch.cfrc_ext
        return forces

    def _sense(self, obs: Any) -> Any:
        for i, p in self._sensed:
            obs[i] = p.observe(obs[i])
        if self.robots[0].observe_context:
            obs = np.concatenate(
                [obs, [robot.perturber.context(robot.context_layout) for robot in self.robots]], axis=1
            )
        return obs

    def _infos(self, columns: dict[str, Any], unstable: Any, truncated: Any) -> list[dict[str, Any]]:
        keys = list(columns)
        values = zip(*(column.tolist() if column.ndim == 1 else column for column in columns.values()), strict=True)
        infos = []
        flags = (flag.tolist() for flag in (unstable, truncated, self._idle))
        for row, p, bad, cut, idle in zip(values, self._perturbers, *flags, strict=True):
            info = dict(zip(keys, row, strict=True))
            info.update(p.info)
            info["steps_since_onset"] = -1 if p.onset is None else p.t - p.onset
            info["sim_unstable"] = bad
            info["TimeLimit.truncated"] = cut
            p.t += not idle
            infos.append(info)
        return infos

    def _record(self, i: int, terminated: bool, truncated: bool, info: dict[str, Any]) -> None:
        """Let Monitors write the episode: they are shown the last step of an environment that has just ended."""
        *earlier, last = self._rewards[i]
        for monitor in self._monitors[i]:
            monitor.rewards = [*earlier]
            monitor.total_steps += len(earlier)
            inner, monitor.env = monitor.env, _LastStep((None, last, terminated, truncated, info))
            try:
                monitor.step(None)
            finally:
                monitor.env = inner

    # -- between the environments and the batch ----------------------------------------------------------------------

    def _build(self) -> None:
        """Make the batch: at the start, and when a height field comes in."""
        self._terrain = self.robots[0].robot.terrain
        if any(robot.robot.terrain != self._terrain for robot in self.robots):
            for robot in self.robots:
                robot.use_terrain()
            self._terrain = True
        batch = self._make_batch(self.robots[0].model, self.num_envs, self._n_threads, persistent=self._contacts)
        self._batch = batch
        self._models = [robot.model for robot in self.robots]
        self._perturbers = [robot.perturber for robot in self.robots]
        batch.set_models(self._models)
        self._qpos, self._qvel, self._ctrl, self._xfrc = batch.qpos, batch.qvel, batch.ctrl, batch.xfrc_applied
        for name in self._functions.outputs:
            batch.bind(name)
        self._row_views = [
            SimpleNamespace(qpos=batch.qpos[i], eq_active=batch.eq_active[i]) for i in range(self.num_envs)
        ]
        self._scratch = mujoco.MjData(self.robots[0].model)
        self._before = np.array([self._functions.place(robot, robot.data) for robot in self.robots])
        self._fresh = [True] * self.num_envs  # whether robot.data is the state of the batch
        self._sort()

    def _load(self, i: int) -> None:
        """Take a robot's state, after its reset, into the batch."""
        robot = self.robots[i]
        mujoco.mj_getState(robot.model, robot.data, self._batch.state[i], STATE)
        self._batch.warning[i] = 0
        self._before[i] = self._functions.place(robot, robot.data)
        self._elapsed[i], self._rewards[i], self._fresh[i] = 0, [], True

    def _sort(self) -> None:
        """Note which robots need what at each step, so that nominal ones cost nothing; show the batch their models."""
        numbered = [(i, p) for i, p in enumerate(self._perturbers) if not self._idle[i]]
        self._busy = [(i, p) for i, p in numbered if p.busy]
        self._commanded = [(i, p) for i, p in numbered if p.filters_actions]
        self._sensed = [(i, p) for i, p in numbered if p.filters_observations]
        self._pushed = [i for i, p in numbered if p.pushes]
        self._batch.set_models(self._models)

    def _show(self, i: int) -> Any:
        """Bring a robot's own MjData up to the batch. :return: its state"""
        robot, state = self.robots[i], self._batch.state[i].copy()
        if not self._fresh[i]:
            mujoco.mj_setState(robot.model, robot.data, state, STATE)
            mujoco.mj_forward(robot.model, robot.data)
            mujoco.mj_setState(robot.model, robot.data, state, STATE)  # the forward pass moved the warm start
            self._fresh[i] = True
        return state

    def look_ahead(self, i: int, commands: Sequence[Any]) -> Any:
        """
        What a robot would observe if its motors got some commands from now on. Nothing is stepped.

        :param i: which robot
        :param commands: what the motors get, step by step, each [nu]
        :return: the observation after the last of them, as senses that are not perturbed would give it
        """
        robot: Any = self.robots[i]
        mujoco.mj_setState(robot.model, robot.data, self._batch.state[i].copy(), STATE)
        for command in commands:
            robot.data.ctrl[:] = command
            mujoco.mj_step(robot.model, robot.data, nstep=robot.frame_skip)
        mujoco.mj_rnePostConstraint(robot.model, robot.data)
        self._fresh[i] = False
        return robot._get_obs()

    # -- what SB3 asks of the environments ---------------------------------------------------------------------------

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """As in DummyVecEnv, with the robots' MjData brought up to date first."""
        for i in self._get_indices(indices) if hasattr(self, "_batch") else ():
            self._show(i)
        return super().get_attr(attr_name, indices)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """As in DummyVecEnv; what a method does to the state or the model takes effect in the batch."""
        results = []
        for i in self._get_indices(indices):
            robot, before = self.robots[i], self._show(i)
            method = self.envs[i].get_wrapper_attr(method_name)
            results.append(method(*method_args, **method_kwargs))
            if robot.robot.terrain != self._terrain:
                raise PerturbationError("Terrain cannot come in for one robot alone; use set_options(...) and reset().")
            after = np.empty_like(before)
            mujoco.mj_getState(robot.model, robot.data, after, STATE)
            if method_name == "reset" or not np.array_equal(before, after):
                elapsed, rewards = self._elapsed[i], self._rewards[i]
                self._load(i)
                if method_name != "reset":
                    self._elapsed[i], self._rewards[i] = elapsed, rewards
        self._sort()
        return results

    def get_images(self) -> Sequence[Any]:
        """As in DummyVecEnv."""
        for i in range(self.num_envs):
            self._show(i)
        return super().get_images()


class _LastStep(gym.Env[Any, Any]):
    """Shows a Monitor a step that has been made elsewhere."""

    def __init__(self, result: tuple[Any, ...]) -> None:
        self.result = result

    def step(self, action: Any) -> Any:
        return self.result


def locomotion_vec_env(venv: VecEnv, n_threads: int | None = None) -> VecEnv:
    """
    Turn a DummyVecEnv of perturbed robots into a LocomotionVecEnv; for ``vec_env_wrapper`` in RL Zoo's YAML.

    :param venv: a DummyVecEnv, not yet reset or wrapped
    :param n_threads: simulation threads; None: one per core
    :return: the same environments in a LocomotionVecEnv
    """
    if type(venv) is not DummyVecEnv:
        raise PerturbationError(f"Only a DummyVecEnv can become a LocomotionVecEnv, got {type(venv).__name__}.")
    fast = LocomotionVecEnv([partial(_itself, env) for env in venv.envs], n_threads)
    seed_each(fast, venv._seeds)
    fast._options = venv._options
    return fast


def usable_cores() -> int:
    """How many cores this process may use, which in a container is fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _found(env: Any, wrapper: type) -> list[Any]:
    """All wrappers of a kind, the innermost first."""
    found: list[Any] = []
    while isinstance(env, gym.Wrapper):
        found = [env, *found] if isinstance(env, wrapper) else found
        env = env.env
    return found


def _unwrap(env: Any, i: int) -> PerturbableEnv:
    while isinstance(env, gym.Wrapper):
        if not isinstance(env, TRANSPARENT):
            raise PerturbationError(
                f"Environment {i} is in a {type(env).__name__}, which a batched step would bypass. Allowed: "
                f"{', '.join(w.__name__ for w in TRANSPARENT)}. Use DummyVecEnv, or wrap the vector environment."
            )
        env = env.env
    if not isinstance(env, PerturbableEnv) or env.robot_name not in FUNCTIONS:
        raise PerturbationError(
            f"Environment {i} is a {type(env).__name__}; LocomotionVecEnv knows the perturbed {', '.join(FUNCTIONS)}. "
            "Use DummyVecEnv for others."
        )
    return env


def _itself(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    return env


def _check_alike(robots: Sequence[Any]) -> None:
    own = ("perturbations", "scenario", "terrain")
    first = None
    for i, robot in enumerate(robots):
        arguments: Any = {k: v for k, v in robot._ezpickle_kwargs.items() if k not in own}
        settings = (type(robot), robot._ezpickle_args, arguments)
        if first is None:
            first = settings
        elif str(settings) != str(first):
            raise PerturbationError(
                f"Environment {i} differs from environment 0 in more than its perturbations: {settings} and {first}."
            )


def _time_limit(env: Any) -> float:
    return min((limit._max_episode_steps for limit in _found(env, TimeLimit)), default=np.inf)
