"""Any temporal task as a gymnasium environment, one step per tick."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces

from sb3_plastic.errors import UserError
from sb3_plastic.tasks.base import NOT_ASKED, Task, Trials


class TemporalTaskEnv(gym.Env):
    """
    One episode is one trial, one step is one tick: the observation is the input's spikes, and the action at the last
    tick of a question is the answer. Its reward is the fraction of the answer that is right; every other reward is 0.

    ``info`` has ``accuracy`` at the end of an episode, the mean over its questions.

    :param task: the task, its sizes and its noise
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.observation_space = spaces.Box(0.0, 1.0, (task.n_inputs,), np.float32)
        self.action_space: spaces.Space = (
            spaces.Discrete(task.n_choices)
            if task.n_groups == 1
            else spaces.MultiDiscrete([task.n_choices] * task.n_groups)
        )
        self._tick = task.n_ticks  # no episode has begun

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Draw a new trial."""
        super().reset(seed=seed)
        generator = torch.Generator().manual_seed(int(self.np_random.integers(2**63)))
        return self.begin(self.task.sample(1, generator)), {}

    def begin(self, trials: Trials) -> np.ndarray:
        """
        Begin an episode with a given trial.

        :param trials: a batch of one
        :return: the first observation
        """
        self._trials, self._inputs = trials, trials.inputs[:, 0].clone()
        self._tick = 0
        self._scores: list[float] = []
        return self._observe()

    def _observe(self) -> np.ndarray:
        return self._inputs[self._tick].numpy().copy()

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """
        As in gymnasium.

        :param action: read at the last tick of a question alone
        :raises UserError: where no episode goes on, or on an answer outside of the action space
        """
        if self._tick >= self.task.n_ticks:
            raise UserError("No episode goes on: call reset() before step().")
        self._tick += 1
        q = len(self._scores)
        reward, info = 0.0, {}
        if self._tick == self.task.windows[q][1]:
            reward = self._answer(q, self._checked(action))
        if self._tick < self.task.n_ticks:
            return self._observe(), reward, False, False, {}
        info["accuracy"] = float(np.mean(self._scores))
        return np.zeros(self.task.n_inputs, np.float32), reward, True, False, info

    def _checked(self, action: Any) -> torch.Tensor:
        answer = np.asarray(action)
        if answer.size == self.task.n_groups:
            answer = answer.reshape(self.action_space.shape or ())
        if not self.action_space.contains(answer):
            raise UserError(f"An answer is an element of {self.action_space}, got {action!r}.")
        return torch.as_tensor(np.atleast_1d(answer))

    def _answer(self, q: int, answer: torch.Tensor) -> float:
        target = self._trials.targets[q, 0]
        asked = target != NOT_ASKED
        self._scores.append(float((answer == target)[asked].float().mean()))
        consequence = self._trials.consequence(q, answer.unsqueeze(0))
        if consequence is not None:
            follows = self._inputs[self._tick : self._tick + len(consequence)]
            follows.copy_(consequence[: len(follows), 0])
        return self._scores[-1]
