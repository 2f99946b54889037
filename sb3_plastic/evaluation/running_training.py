"""What an evaluation takes from a running training: by what its environments were made, and their statistics."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common.vec_env import VecEnv


@contextmanager
def statistics_of(model: Any) -> Iterator[Path | None]:
    """
    A file with the statistics of the training's VecNormalize, as any evaluation gets them: the training's own goes on
    learning undisturbed.

    :param model: in training
    :return: None without VecNormalize
    """
    normalizer = model.get_vec_normalize_env()
    if normalizer is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vecnormalize.pkl"
        normalizer.save(str(file))
        yield file


def spec_of(venv: VecEnv) -> EnvSpec | None:
    """What a training's environments were made by; None if gymnasium does not know. :param venv: the training's"""
    with suppress(AttributeError, NotImplementedError):  # a VecEnv of the user's own
        spec: EnvSpec | None = venv.unwrapped.get_attr("spec")[0]
        return spec
    return None
