"""The wrappers of environments that a file may name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sb3_plastic.safe.errors import DamagedError, RefusedError

WRAPPERS: set[str] = {
    "sb3_plastic.wrappers.PreviousActionReward",
    "sb3_plastic.wrappers.VecPreviousActionReward",
    "sb3_plastic.wrappers.MidRunChange",
    "sb3_plastic.wrappers.SplitObservation",
    "sb3_plastic.adaptive.training.VecAdaptiveLayer",  # reads the folder that its argument names, plain data
    "sb3_plastic.perturbations.vec_env.locomotion_vec_env",
    "sb3_plastic.perturbations.wrapper.PerturbSignals",
    *(
        f"gymnasium.wrappers.{name}"
        for name in (
            "ClipAction",
            "FilterObservation",
            "FlattenObservation",
            "NormalizeObservation",
            "NormalizeReward",
            "RescaleAction",
            "TimeAwareObservation",
            "TimeLimit",
        )
    ),
    "sb3_contrib.common.wrappers.TimeFeatureWrapper",
    *(
        f"rl_zoo3.wrappers.{name}"
        for name in ("FrameSkip", "HistoryWrapper", "MaskVelocityWrapper", "TimeFeatureWrapper", "DelayedRewardWrapper")
    ),
    *(
        f"stable_baselines3.common.atari_wrappers.{name}"
        for name in (
            "AtariWrapper",
            "ClipRewardEnv",
            "EpisodicLifeEnv",
            "FireResetEnv",
            "MaxAndSkipEnv",
            "NoopResetEnv",
        )
    ),
    "stable_baselines3.common.vec_env.VecFrameStack",
    "stable_baselines3.common.vec_env.VecTransposeImage",
}
"""By full name. None of them writes files, imports modules or calls what its arguments name. A program that trusts
another adds it: ``WRAPPERS.add("my_package.MyWrapper")``."""


def check_wrapper(wrapper: Any, where: str) -> None:
    """
    :param wrapper: ``module.name``, or ``{module.name: arguments}``
    :param where: the file that names it
    :raises RefusedError: if files may not name it
    :raises DamagedError: if it is neither
    """
    if isinstance(wrapper, Mapping) and len(wrapper) == 1:
        name, arguments = next(iter(wrapper.items()))
        if arguments is not None and not isinstance(arguments, Mapping):
            raise DamagedError(where, f"the arguments of {name} are no mapping")
    else:
        name = wrapper
    if not isinstance(name, str):
        raise DamagedError(where, f"{wrapper!r} names no wrapper")
    if name not in WRAPPERS:
        raise RefusedError(where, f"the wrapper {name}")


def listed(value: Any) -> list[Any]:
    """
    RL Zoo's ``env_wrapper`` as a list.

    :param value: one wrapper, a list of them, or None
    """
    return [*value] if isinstance(value, list | tuple) else [] if value is None else [value]
