"""An oracle that needs no training: any model, told the truth about motors, wires and sensors, by compensation.

    sb3-plastic evaluate --model m.zip --suite nda-v2 --wrapper sb3_plastic.evaluation.told.Told --label told --out told

Between the model and the robot, `Told` undoes what is known: commands are divided by gains, freed of biases, sent along
the inverse of the wires, and clipped to the action space; observations are freed of biases and gains; where commands
arrive late, the model sees the state at their arrival, which the simulator itself looks up. The truth is told after the
first perturbed step, never before. What has no inverse (a dead motor, a locked joint, another mass) stays as it is:
there, an oracle is a policy that was trained with ``observe_context=True``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from sb3_plastic.perturbations.kinds import Active
from sb3_plastic.perturbations.perturber import Perturber
from sb3_plastic.perturbations.spec import PerturbationError
from sb3_plastic.perturbations.vec_env import LocomotionVecEnv

Array = NDArray[Any]


class Told(VecEnvWrapper):
    """
    A model in this environment is told the truth.

    :param venv: a `LocomotionVecEnv`
    :raises PerturbationError: for another vector environment
    """

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(venv)
        if not isinstance(venv.unwrapped, LocomotionVecEnv):
            raise PerturbationError(f"Told needs a LocomotionVecEnv, which can look ahead, got {type(venv).__name__}.")
        self._robots = venv.unwrapped
        assert isinstance(self.action_space, spaces.Box)
        self._low, self._high = self.action_space.low, self.action_space.high

    @property
    def _perturbers(self) -> list[Perturber]:
        return [robot.perturber for robot in self._robots.robots]

    def reset(self) -> Any:
        """Reset all robots; their first observations are corrected."""
        return self._corrected(self.venv.reset())

    def step_async(self, actions: Array) -> None:
        """Send commands that do what was meant. :param actions: what was meant, [B, nu]"""
        undone = [undo_command(p, action) for p, action in zip(self._perturbers, actions, strict=True)]
        self.venv.step_async(np.clip(undone, self._low, self._high).astype(actions.dtype))

    def step_wait(self) -> Any:
        """One step; observations are corrected."""
        obs, rewards, dones, infos = self.venv.step_wait()
        return self._corrected(obs), rewards, dones, infos

    def _corrected(self, obs: Any) -> Array:
        corrected = obs.copy()
        for i, p in enumerate(self._perturbers):
            commands = [command for active in p.active for command in commands_on_the_way(active)]
            seen = self._robots.look_ahead(i, commands) if commands else undo_senses(p, obs[i])
            corrected[i, : len(seen)] = seen  # what was looked up has no context behind it
        return corrected


def undo_command(perturber: Perturber, action: Array) -> Array:
    """
    The action that makes motors do what an unperturbed robot's would do with this one.

    :param perturber: with what acts now
    :param action: [nu]
    :return: [nu], not clipped; a motor without force gets the action as it is
    """
    u = np.array(action, dtype=np.float64)
    acting = [active for active in perturber.active if active.activation != 0]
    for active in acting:
        if active.kind.name == "strength":
            _divide(u, active.ids, active.change(1.0))
    for active in reversed(acting):
        ids, half_range, middle = active.ids, active.params["half_range"], active.params["middle"]
        if active.kind.name == "action_gain":
            _divide(u, ids, active.change(1.0))
        elif active.kind.name == "motors_reversed":
            u[ids] = middle[ids] + active.value * (u[ids] - middle[ids])
        elif active.kind.name == "wires":
            u[ids] = middle[ids] + half_range[ids] * (active.value.T @ ((u[ids] - middle[ids]) / half_range[ids]))
        elif active.kind.name == "action_bias":
            u[ids] -= active.amount * half_range[ids]
    return u


def undo_senses(perturber: Perturber, obs: Array) -> Array:
    """
    The observation of sensors that are not perturbed.

    :param perturber: with what acts now
    :param obs: [D]
    :return: [D]; a sensor without gain stays as it is
    """
    x = np.array(obs)
    for active in reversed(perturber.active):
        if active.activation != 0 and active.kind.name == "obs_bias":
            x[active.ids] -= active.amount
        elif active.activation != 0 and active.kind.name == "obs_gain":
            _divide(x, active.ids, active.change(1.0))
    return x


def commands_on_the_way(active: Active) -> list[Array]:
    """The commands that a late motor has been sent and has yet to get, in order. :param active: one perturbation"""
    history = active.memory.get("history", ())
    steps = round(active.amount) if active.kind.name == "action_delay" and len(history) else 0
    # As the filter picks them, once for each step until a command sent now arrives.
    return [history[max(len(history) - 1 + step - steps, 0)] for step in range(1, steps + 1)]


def _divide(x: Array, ids: Array, factor: Any) -> None:
    factor = np.broadcast_to(factor, ids.shape)
    x[ids] = np.where(factor == 0, x[ids], x[ids] / np.where(factor == 0, 1.0, factor))
