"""Temporal tasks: batched generators of spikes and questions, and the same tasks as gymnasium environments."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from sb3_plastic.tasks.accumulation import CueAccumulation
from sb3_plastic.tasks.association import OneShotAssociation
from sb3_plastic.tasks.base import NOT_ASKED, Task, Trials, accuracy, play
from sb3_plastic.tasks.completion import PatternCompletion
from sb3_plastic.tasks.environment import TemporalTaskEnv
from sb3_plastic.tasks.reversal import RewardReversal

__all__ = [
    "NOT_ASKED",
    "TASKS",
    "CueAccumulation",
    "OneShotAssociation",
    "PatternCompletion",
    "RewardReversal",
    "Task",
    "TemporalTaskEnv",
    "Trials",
    "accuracy",
    "make_env",
    "play",
    "register_envs",
]

TASKS: dict[str, type[Task]] = {
    "association": OneShotAssociation,
    "accumulation": CueAccumulation,
    "completion": PatternCompletion,
    "reversal": RewardReversal,
}
"""Tasks by name."""


def make_env(task: str, **sizes: Any) -> TemporalTaskEnv:
    """
    :param task: a name in ``TASKS``
    :param sizes: the task's own parameters, its noise among them
    :return: its environment
    """
    return TemporalTaskEnv(TASKS[task](**sizes))


def register_envs() -> None:
    """Register the tasks with gymnasium: ``sb3_plastic/OneShotAssociation-v0`` and so on."""
    for name, task in TASKS.items():
        gym.register(f"sb3_plastic/{task.__name__}-v0", entry_point="sb3_plastic.tasks:make_env", kwargs={"task": name})
