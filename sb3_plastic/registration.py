"""The ids of our environments. Registering imports neither torch nor MuJoCo: making an environment does."""

from __future__ import annotations

import gymnasium as gym

from sb3_plastic.perturbations import registration

TASK_NAMES = {
    "association": "OneShotAssociation",
    "accumulation": "CueAccumulation",
    "completion": "PatternCompletion",
    "reversal": "RewardReversal",
}
"""The temporal tasks, as :data:`sb3_plastic.tasks.TASKS` has them, and the names of their environments."""


def register_envs() -> None:
    """Register ``sb3_plastic/PerturbedAnt-v0``, ``sb3_plastic/OneShotAssociation-v0`` and so on with gymnasium."""
    registration.register_envs()
    for task, name in TASK_NAMES.items():
        gym.register(f"sb3_plastic/{name}-v0", entry_point="sb3_plastic.tasks:make_env", kwargs={"task": task})
