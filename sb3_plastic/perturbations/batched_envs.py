"""Observation, reward and termination of the five robots for many simulations at once.

Each function restates one gymnasium v5 environment in numpy, operation for operation, so that results are
bit-identical; weights and ranges are read from an environment. Arrays have the environment axis N first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from gymnasium.envs.mujoco.humanoid_v5 import mass_center
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass
class Rows:
    """What the simulations hold after a step."""

    env: Any  # one of the environments: they all have the same weights and ranges
    models: list[Any]  # [N]
    actions: Array  # [N, nu]
    before: Array  # [N, ...] `place` before the step
    after: Array  # [N, ...] and after it
    qpos: Array  # [N, nq]
    qvel: Array  # [N, nv]
    ground: Array | None  # [N] height of the ground in m; None: all level
    batch: Any
    cfrc_ext: Array | None  # [N, nbody, 6]

    @property
    def z(self) -> Array:
        """Height of the root above ground, as termination judges it."""
        z = self.qpos[:, 2 if self.after.ndim == 2 else 1]
        return z if self.ground is None else z - self.ground


@dataclass(frozen=True)
class RobotFunctions:
    """One robot in the batch."""

    place: Callable[[Any, Any], Any]  # (environment, what has qpos, xpos and xipos) -> where it is, for the velocity
    observe: Callable[[Rows], Array]
    judge: Callable[[Rows], tuple[Array, Array | None, dict[str, Array]]]  # reward, unhealthy (None: never), info
    outputs: tuple[str, ...] = ()  # derived fields that are needed after each step
    needs_contacts: Callable[[Any], bool] = lambda env: False
    weighs: bool = False  # whether its place is its centre of mass


def _positions(rows: Rows) -> Array:
    return rows.qpos[:, rows.env.observation_structure["skipped_qpos"] :]


def _clipped(rows: Rows) -> Array:
    return np.concatenate([_positions(rows), np.clip(rows.qvel, -10, 10)], axis=1)


def _control_cost(rows: Rows, actions: Array) -> Array:
    return rows.env._ctrl_cost_weight * np.sum(np.square(actions), axis=1)


def _within(x: Array, bounds: tuple[float, float]) -> Array:
    return (bounds[0] < x) & (x < bounds[1])


def _run(rows: Rows, healthy: Array | None) -> tuple[Array, Array | None, dict[str, Array]]:
    """The planar robots: forward and healthy reward minus control cost."""
    env = rows.env
    x_velocity = (rows.after - rows.before) / env.dt
    forward, cost = env._forward_reward_weight * x_velocity, _control_cost(rows, rows.actions)
    info = {"x_position": rows.after, "x_velocity": x_velocity, "reward_forward": forward, "reward_ctrl": -cost}
    if healthy is None:
        return forward - cost, None, info
    survive = healthy * env._healthy_reward
    info |= {"reward_survive": survive, "z_distance_from_origin": rows.qpos[:, 1] - env.init_qpos[1]}
    return forward + survive - cost, ~healthy & env._terminate_when_unhealthy, info


def _judge_hopper(rows: Rows) -> tuple[Array, Array | None, dict[str, Array]]:
    env = rows.env
    state = np.concatenate([rows.qpos, rows.qvel], axis=1)[:, 2:]
    healthy = _within(state, env._healthy_state_range).all(axis=1) & _within(rows.z, env._healthy_z_range)
    return _run(rows, healthy & _within(rows.qpos[:, 2], env._healthy_angle_range))


def _judge_walker(rows: Rows) -> tuple[Array, Array | None, dict[str, Array]]:
    env = rows.env
    return _run(rows, _within(rows.z, env._healthy_z_range) & _within(rows.qpos[:, 2], env._healthy_angle_range))


def _walk(
    rows: Rows, healthy: Array, actions: Array, contact_cost: Array
) -> tuple[Array, Array | None, dict[str, Array]]:
    """Ant and Humanoid: also contact cost, and two directions."""
    env = rows.env
    velocity = (rows.after - rows.before) / env.dt
    forward, survive = velocity[:, 0] * env._forward_reward_weight, healthy * env._healthy_reward
    cost = _control_cost(rows, actions)
    info = {
        "x_position": rows.qpos[:, 0],
        "y_position": rows.qpos[:, 1],
        "distance_from_origin": np.sqrt([xy.dot(xy) for xy in rows.qpos[:, :2]]),  # as np.linalg.norm does it
        "x_velocity": velocity[:, 0],
        "y_velocity": velocity[:, 1],
        "reward_forward": forward,
        "reward_ctrl": -cost,
        "reward_contact": -contact_cost,
        "reward_survive": survive,
    }
    return forward + survive - (cost + contact_cost), ~healthy & env._terminate_when_unhealthy, info


def _judge_ant(rows: Rows) -> tuple[Array, Array | None, dict[str, Array]]:
    env = rows.env
    low, high = env._healthy_z_range
    finite = np.isfinite(rows.qpos).all(axis=1) & np.isfinite(rows.qvel).all(axis=1)
    return _walk(rows, finite & (low <= rows.z) & (rows.z <= high), rows.actions, _ant_contact_cost(rows))


def _ant_contact_cost(rows: Rows) -> Array:
    if rows.cfrc_ext is None:
        return np.zeros(len(rows.qpos))
    forces = np.clip(rows.cfrc_ext, *rows.env._contact_force_range).reshape(len(rows.qpos), -1)
    return rows.env._contact_cost_weight * np.sum(np.square(forces), axis=1)


def _observe_ant(rows: Rows) -> Array:
    parts = [_positions(rows), rows.qvel]
    if rows.env._include_cfrc_ext_in_observation:
        assert rows.cfrc_ext is not None
        parts.append(np.clip(rows.cfrc_ext[:, 1:], *rows.env._contact_force_range).reshape(len(rows.qpos), -1))
    return np.concatenate(parts, axis=1)


def _judge_humanoid(rows: Rows) -> tuple[Array, Array | None, dict[str, Array]]:
    env = rows.env
    contact_cost = np.zeros(len(rows.qpos))
    if rows.cfrc_ext is not None:
        contact_cost = env._contact_cost_weight * np.sum(np.square(rows.cfrc_ext.reshape(len(rows.qpos), -1)), axis=1)
    contact_cost = np.clip(contact_cost, *env._contact_cost_range)
    healthy = _within(rows.z, env._healthy_z_range)
    reward, unhealthy, info = _walk(rows, healthy, rows.actions.astype(np.float64), contact_cost)
    # Copies: the batch overwrites its outputs at the next step.
    info |= {"tendon_length": rows.batch.ten_length.copy(), "tendon_velocity": rows.batch.ten_velocity.copy()}
    return reward, unhealthy, info


def _observe_humanoid(rows: Rows) -> Array:
    env, batch, n = rows.env, rows.batch, len(rows.qpos)
    parts = [_positions(rows), rows.qvel]
    if env._include_cinert_in_observation:
        parts.append(batch.cinert[:, 1:].reshape(n, -1))
    if env._include_cvel_in_observation:
        parts.append(batch.cvel[:, 1:].reshape(n, -1))
    if env._include_qfrc_actuator_in_observation:
        parts.append(batch.qfrc_actuator[:, 6:])
    if env._include_cfrc_ext_in_observation:
        assert rows.cfrc_ext is not None
        parts.append(rows.cfrc_ext[:, 1:].reshape(n, -1))
    return np.concatenate(parts, axis=1)


def _x(env: Any, data: Any) -> float:
    return float(data.qpos[0])


def _ant_place(env: Any, data: Any) -> Array:
    body = env._main_body if isinstance(env._main_body, int) else env.model.body(env._main_body).id
    return data.xpos[body, :2].copy()


def _humanoid_place(env: Any, data: Any) -> Array:
    return mass_center(env.model, SimpleNamespace(xipos=data.xipos))


def _feels_contacts(env: Any) -> bool:
    return bool(env._include_cfrc_ext_in_observation or env._contact_cost_weight != 0)


FUNCTIONS: dict[str, RobotFunctions] = {
    "HalfCheetah": RobotFunctions(
        _x, lambda rows: np.concatenate([_positions(rows), rows.qvel], axis=1), lambda rows: _run(rows, None)
    ),
    "Hopper": RobotFunctions(_x, _clipped, _judge_hopper),
    "Walker2d": RobotFunctions(_x, _clipped, _judge_walker),
    "Ant": RobotFunctions(_ant_place, _observe_ant, _judge_ant, ("xpos", "ncon"), _feels_contacts),
    "Humanoid": RobotFunctions(
        _humanoid_place,
        _observe_humanoid,
        _judge_humanoid,
        ("xipos", "cinert", "cvel", "qfrc_actuator", "ten_length", "ten_velocity", "ncon"),
        _feels_contacts,
        weighs=True,
    ),
}
