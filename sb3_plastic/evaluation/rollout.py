"""Many episodes at once: each environment of a batch has its own scenario and seed, all have the same control."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from sb3_plastic.errors import NotFiniteError
from sb3_plastic.evaluation.controls import Player
from sb3_plastic.evaluation.environment import perturb
from sb3_plastic.evaluation.records import Trace
from sb3_plastic.perturbations.spec import Perturbation
from sb3_plastic.seeding import seed_each

Array = NDArray[Any]


@dataclass(frozen=True)
class Row:
    """
    What one environment of the batch runs.

    :param perturbations: what acts
    :param seed: seed of the environment, on which alone everything random in it depends
    :param begins_at: distance at which the perturbation is met, m; None: where info says
    :param removal: first step that is unperturbed again, -1 without
    :param sham_at: step at which an onset is feigned
    """

    perturbations: tuple[Perturbation, ...]
    seed: int
    begins_at: float | None = None
    removal: int = -1
    sham_at: int | None = None


def rollout(
    player: Player,
    venv: VecEnv,
    rows: Sequence[Row],
    steps: int,
    life: int = 1,
    tick: Callable[[int], None] | None = None,
) -> Trace:
    """
    Run `life` episodes of each row.

    All environments are stepped until the last one is done, so that a row does not depend on how long others take.

    :param player: the model, under a control
    :param venv: as many environments as rows
    :param rows: what each of them runs
    :param steps: time limit of an episode
    :param life: episodes in a row
    :param tick: called after each step with the number of episodes that ended with it
    :raises NotFiniteError: if a reward is not finite, and the environment does not say that its simulation broke
    :return: the episodes of the first row, then of the second, ...
    """
    recorder = _Recorder(rows, steps, life)
    base = venv.unwrapped
    seed_each(venv, (row.seed for row in rows))
    perturb(venv, [row.perturbations for row in rows])
    observations = venv.reset()
    recorder.begin(range(len(rows)), base.reset_infos)
    starts, perturbed = np.ones(len(rows), bool), recorder.perturbed()
    while recorder.running.any():
        actions = player.act(observations, starts, perturbed)
        observations, rewards, dones, infos = venv.step(actions)
        ended = recorder.step(actions, rewards, dones, infos, player.norms())
        recorder.begin(np.flatnonzero(dones).tolist(), base.reset_infos)
        starts, perturbed = dones, recorder.perturbed()
        if tick is not None:
            tick(ended)
    return recorder.trace()


class _Recorder:
    """Writes down what happens, by row, episode and step."""

    def __init__(self, rows: Sequence[Row], steps: int, life: int) -> None:
        self.rows, self.life, n = rows, life, len(rows)
        self.forward, self.reward, self.effort = (np.full((n, life, steps), np.nan, np.float32) for _ in range(3))
        self.norm: Array | None = None
        self.onset = np.full((n, life), -1)
        self.fell, self.unstable = np.zeros((n, life), bool), np.zeros((n, life), bool)
        self.distance = np.full((n, life), np.nan)
        self.values = np.full((n, life), "", dtype=object)
        self.episode, self.t = np.full(n, -1), np.zeros(n, int)
        self.start = np.full(n, np.nan)

    @property
    def running(self) -> Array:
        """Rows with an episode left to record, bool [B]."""
        return self.episode < self.life

    def begin(self, rows: Sequence[int] | range, infos: Sequence[dict[str, Any]]) -> None:
        """Start the next episode of some rows, with what their reset said."""
        for i in rows:
            self.episode[i] += 1
            self.t[i], self.start[i] = 0, infos[i].get("x_position", np.nan)
            if self.episode[i] < self.life:
                names, values = (infos[i].get(f"perturbation_{what}", ()) for what in ("names", "values"))
                drawn = [f"{n}={_short(v)}" for n, v in zip(names, values, strict=True)]
                self.values[i, self.episode[i]] = ";".join(drawn)

    def perturbed(self) -> Array:
        """Rows in which a step of the present episode has been perturbed, bool [B]."""
        episode = np.minimum(self.episode, self.life - 1)
        return (self.onset[np.arange(len(self.rows)), episode] >= 0) & self.running

    def step(self, actions: Array, rewards: Array, dones: Array, infos: Sequence[Any], norms: Array | None) -> int:
        """Write down one step of all rows. :return: how many episodes ended"""
        effort = np.square(actions.reshape(len(actions), -1).astype(np.float64)).sum(1)
        if norms is not None and self.norm is None:
            self.norm = np.full((*self.reward.shape, norms.shape[1]), np.nan, np.float32)
        rows = np.flatnonzero(self.running)
        at = rows, self.episode[rows], self.t[rows]
        self.reward[at] = rewards[rows]
        self.effort[at] = effort[rows]
        if norms is not None and self.norm is not None:
            self.norm[at] = norms[rows]
        for i in rows.tolist():
            self._note(i, self.episode[i], self.t[i], infos[i], float(rewards[i]), bool(dones[i]))
        self.t += 1
        return int(dones[rows].sum())

    def _note(self, i: int, k: int, t: int, info: dict[str, Any], reward: float, done: bool) -> None:
        forward, unstable = info.get("reward_forward", reward), info.get("sim_unstable", False)
        if not math.isfinite(reward + forward):
            if not unstable:
                raise NotFiniteError(
                    f"The reward of step {t} in the episode of seed {self.rows[i].seed} is {reward:g}, the forward "
                    f"reward {forward:g}: the environment is wrong there. If its simulation has broken, it has to end "
                    "the episode with info['sim_unstable']: such episodes are listed apart."
                )
            forward = self.reward[i, k, t] = 0.0  # NaN stands for the steps after the end
        self.forward[i, k, t] = forward
        if not unstable:  # where the simulation broke, it has been put back to its start
            self.distance[i, k] = info.get("x_position", np.nan) - self.start[i]
        if self.onset[i, k] < 0:
            begins_at, sham_at = self.rows[i].begins_at, self.rows[i].sham_at
            if sham_at is not None:
                if t == sham_at:
                    self.onset[i, k] = t
            elif begins_at is not None:
                if self.distance[i, k] >= begins_at and not done:  # or there is no such step
                    self.onset[i, k] = t + 1
            elif info.get("steps_since_onset", -1) >= 0:
                self.onset[i, k] = t - info["steps_since_onset"]
        if done:
            self.unstable[i, k] = unstable
            self.fell[i, k] = not unstable and not info.get("TimeLimit.truncated", False)

    def trace(self) -> Trace:
        """All episodes, those of a row one after the other."""
        n, life, steps = self.reward.shape
        norm = np.zeros((n, life, steps, 0), np.float32) if self.norm is None else self.norm
        row = np.repeat(np.arange(n), life)
        return Trace(
            forward_reward=self.forward.reshape(-1, steps),
            reward=self.reward.reshape(-1, steps),
            effort=self.effort.reshape(-1, steps),
            onset=self.onset.ravel(),
            removal=np.array([r.removal for r in self.rows])[row],
            eval_seed=np.array([r.seed for r in self.rows])[row],
            episode=np.tile(np.arange(life), n),
            fell=self.fell.ravel(),
            unstable=self.unstable.ravel(),
            distance=self.distance.ravel(),
            values=self.values.ravel().astype(str),
            fast_weight_norm=norm.reshape(n * life, steps, -1),
        )


def _short(value: float | tuple[float, ...]) -> str:
    """A drawn value, or those of all targets: ``0.5|1.2|-1``."""
    return "|".join(f"{v:.6g}" for v in (value if isinstance(value, tuple) else (value,)))
