"""Temporal tasks: batched generators of spikes and questions, and the same tasks as gymnasium environments."""

from __future__ import annotations

from typing import Any

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
