"""Models of Stable-Baselines3, read without running what is in them."""

from __future__ import annotations

import base64
import binascii
import copy
import errno
import json
import lzma
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sb3_plastic.safe.errors import DamagedError, RefusedError
from sb3_plastic.safe.records import read_pickle


def constant_zero(progress: float) -> float:
    """A schedule for models that are not trained."""
    return 0.0


NOT_NEEDED: dict[str, Any] = {
    "learning_rate": 0.0,
    "lr_schedule": constant_zero,
    "clip_range": constant_zero,
    "clip_range_vf": None,
    "exploration_schedule": constant_zero,
    "delta_std_schedule": constant_zero,
    "weights": None,  # of ARS, which its policy has as well
    "action_noise": None,
    "train_freq": 1,
    "target_entropy": 0.0,
    "buffer_size": 1,
    "replay_buffer_class": None,
    "replay_buffer_kwargs": {},
    "optimize_memory_usage": False,
    "rollout_buffer_class": None,
    "rollout_buffer_kwargs": {},
    "tensorboard_log": None,
    "ep_info_buffer": None,
    "ep_success_buffer": None,
    "_last_obs": None,
    "_last_original_obs": None,
    "_last_episode_starts": None,
    "_last_lstm_states": None,
    "env": None,
    "start_time": 0,
    "verbose": 0,
}
"""What a model that only acts does without, and what stands in its place. Pickled entries of these names are not even
looked at (of the last observations :func:`was_normalised` reads the types, as data): schedules are functions, which
nobody can tell from an attack."""

NO_REPLAY: dict[str, Any] = {
    name: NOT_NEEDED[name]
    for name in ("buffer_size", "replay_buffer_class", "replay_buffer_kwargs", "optimize_memory_usage")
}
"""What is left out of a model that is unpickled as well, if it only acts: the buffer of HER asks for environments."""

UNREADABLE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError)
"""What a damaged archive raises, by its compression; bzip2 raises an OSError."""


def read_member(path: Path, member: str) -> bytes:
    """
    One file of a model.

    :param path: the model, a zip file
    :param member: the file in it
    :raises DamagedError: if the archive, or the file in it, is not whole
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(member)
    # zipfile's NotImplementedError: a compression that it does not know; its RuntimeError: a password.
    except (*UNREADABLE, KeyError, EOFError, NotImplementedError, RuntimeError, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # EINVAL: of a seek to nowhere
            raise  # the disk's answer, not the file's
        why = f"{member}: {error}"
        if isinstance(error, KeyError):
            why = f"it lacks {member!r}, which an algorithm's save() writes; policy.save() and torch.save() do not"
        raise DamagedError(f"The model {path}", why) from error


def raw_data(path: Path) -> dict[str, Any]:
    """
    What SB3 keeps in the file ``data`` of a model, pickles as the text that they are stored as.

    :param path: the model, a zip file
    :raises DamagedError: if it is no model of SB3's
    """
    try:
        data = json.loads(read_member(path, "data"))
    except (ValueError, RecursionError) as error:
        if isinstance(error, DamagedError):
            raise
        raise DamagedError(f"The model {path}", f"data: {error}") from error
    if not isinstance(data, dict):
        raise DamagedError(f"The model {path}", "data is no mapping")
    return data


def was_normalised(path: Path) -> bool:
    """
    Whether a VecNormalize changed the observations of a model's training, see :func:`normalised`.

    :param path: the model, a zip file
    :raises DamagedError: if it is no model of SB3's
    """
    data = raw_data(path)
    last, original = (_observation(path, name, data.get(name)) for name in ("_last_obs", "_last_original_obs"))
    return normalised(last, original, off_policy="buffer_size" in data)


def normalised(last: Any, original: Any, off_policy: bool) -> bool:
    """
    Whether a VecNormalize changed a training's observations, by the last one as SB3 keeps it, after it and before.

    VecNormalize makes float32 of what it changes, so that the types tell. Where all are float32, on-policy algorithms
    have kept the one before it because there was a VecNormalize. Off-policy ones keep one anyway: then nobody knows.

    :param last: ``_last_obs`` of a model
    :param original: its ``_last_original_obs``
    :param off_policy: whether it is a model of an off-policy algorithm
    """
    if original is None:
        return False
    before, after = _types(original), _types(last)
    return (before != after and None not in (before, after)) or (not off_policy and before in (None, {"float32"}))


def _types(observation: Any) -> set[str] | None:
    """Those of an observation's arrays by name, None of anything else."""
    arrays = list(observation.values()) if isinstance(observation, Mapping) else [observation]
    return {array.dtype.name for array in arrays} if all(isinstance(a, np.ndarray) for a in arrays) else None


def _observation(path: Path, name: str, entry: Any) -> Any:
    """What can be read of it as data."""
    try:
        return unpickled(path, name, entry) if is_pickled(entry) else entry
    except (RefusedError, DamagedError):
        return entry


def is_pickled(entry: Any) -> bool:
    """Whether an entry of ``data`` is a pickle."""
    return isinstance(entry, Mapping) and ":serialized:" in entry


def unpickled(path: Path, name: str, entry: Mapping[str, Any]) -> Any:
    """
    What a pickled entry of ``data`` holds, without running it.

    :param path: the model
    :param name: of the entry
    :param entry: the entry
    :raises RefusedError: if it is more than data
    :raises DamagedError: if it is not whole
    """
    where = f"the entry {name!r} of {path}"
    try:
        content = base64.b64decode(entry[":serialized:"], validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise DamagedError(where, error) from error
    return read_pickle(content, where)


def safe_objects(path: Path) -> dict[str, Any]:
    """
    Stand-ins for all that is pickled in a model: what a model needs to act, read as data, and nothing for the rest.

    :param path: the model, a zip file
    :return: ``custom_objects`` for SB3's ``load``, which then unpickles nothing
    :raises RefusedError: if an entry that is needed, or that nobody knows, is more than data
    :raises DamagedError: if the file is not whole
    """
    from stable_baselines3.common.policies import BasePolicy  # here alone: what reads no models waits for no torch

    objects = copy.deepcopy(NOT_NEEDED)
    for name, entry in raw_data(path).items():
        if is_pickled(entry) and name not in objects:
            objects[name] = unpickled(path, name, entry)
    policy = objects.get("policy_class")
    if isinstance(policy, type) and not issubclass(policy, BasePolicy):
        raise RefusedError(f"the entry 'policy_class' of {path}", f"{policy.__qualname__}, which is no policy")
    return objects
