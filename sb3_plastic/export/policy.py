"""A policy as plain data and tensors, and back: for folders, and for whatever else keeps policies."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.utils import get_device
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize
from torch import Tensor

from sb3_plastic.copying import sharing
from sb3_plastic.export.folder import CONFIG, read_folder, write_folder
from sb3_plastic.export.normalization import Normalization
from sb3_plastic.export.plain import from_plain, space_from_plain, space_to_plain, to_plain
from sb3_plastic.safe import DamagedError, RefusedError
from sb3_plastic.safe.archives import constant_zero
from sb3_plastic.seeding import draw_noise
from sb3_plastic.versions import reading, versions

LEFT_OUT = ("observation_space", "action_space", "lr_schedule", "optimizer_class", "optimizer_kwargs")
"""Arguments of a policy that are stored elsewhere, or that only a training needs."""

_LSTM = ("shared_lstm", "enable_critic_lstm", "lstm_kwargs")


def policy_to_plain(policy: BasePolicy) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """
    :param policy: any policy whose class is in ``sb3_plastic.safe.CLASSES``
    :return: plain data, and tensors by name
    :raises UserError: if an argument of it is neither data nor such a class
    """
    arguments = policy._get_constructor_parameters()
    accepted = inspect.signature(type(policy).__init__).parameters
    if "share_features_extractor" in accepted:  # which SB3's own method forgets
        arguments.setdefault("share_features_extractor", getattr(policy, "share_features_extractor"))  # noqa: B009
    if "lstm_hidden_size" in accepted:
        shape: Any = policy.lstm_hidden_state_shape
        layers, _, size = shape
        arguments |= {"lstm_hidden_size": size, "n_lstm_layers": layers}
        arguments |= {name: getattr(policy, name) for name in _LSTM}
    if "with_bias" in accepted:  # ARS, of which that method forgets these two
        arguments |= {"with_bias": getattr(policy, "action_net")[0].bias is not None}  # noqa: B009
        arguments |= {"squash_output": policy.squash_output}
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values()):
        arguments = {name: value for name, value in arguments.items() if name in accepted}
    kept = {name: value for name, value in arguments.items() if name not in LEFT_OUT}
    plain = {
        "class": to_plain(type(policy), "The class of the policy"),
        "arguments": {name: to_plain(value, f"The policy's {name}") for name, value in kept.items()},
        "observation_space": space_to_plain(policy.observation_space),
        "action_space": space_to_plain(policy.action_space),
    }
    return plain, dict(policy.state_dict())


def policy_from_plain(plain: Any, tensors: Mapping[str, Tensor], where: str, device: str) -> BasePolicy:
    """
    The inverse of :func:`policy_to_plain`. The class is the installed one of that name.

    :param plain: plain data
    :param tensors: by name
    :param where: the file, for messages
    :param device: where the policy is to be
    :raises RefusedError: if a class is not in ``sb3_plastic.safe.CLASSES``
    :raises DamagedError: if data and tensors do not fit together
    """
    try:
        cls = from_plain(plain["class"], where)
        spaces_of = [space_from_plain(plain[name], where) for name in ("observation_space", "action_space")]
        arguments = {name: from_plain(value, f"{where}: {name}") for name, value in plain["arguments"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise DamagedError(where, f"no policy ({type(error).__name__}: {error})") from error
    if not isinstance(cls, type) or not issubclass(cls, BasePolicy):
        raise RefusedError(where, f"a policy of {cls!r}")
    try:
        with torch.random.fork_rng(devices=[]):  # of who loads it: weights are drawn only to be replaced
            if _takes_schedule(cls):
                arguments["lr_schedule"] = constant_zero
            policy = cls(*spaces_of, **arguments)
            policy.load_state_dict(dict(tensors), strict=True)
            draw_noise(policy)  # by the standard deviation of the training, not of its start
    except (TypeError, ValueError, RuntimeError, AssertionError, KeyError, AttributeError) as error:
        why = f"the arguments of {cls.__name__} and its tensors do not fit: another version made them, or an edit"
        raise DamagedError(where, f"{why} ({error})") from error
    policy.set_training_mode(False)
    return policy.to(get_device(device))


def _takes_schedule(cls: type[BasePolicy]) -> bool:
    """Whether its optimiser asks for one; ARS has none."""
    parameters = inspect.signature(cls).parameters.values()
    return any(parameter.name == "lr_schedule" or parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


class ExportedPolicy:
    """
    A policy from a folder: SB3's ``predict``, for observations as the environment gives them.

    :param policy: the policy
    :param normalization: what it wants done to observations first
    :param config: the folder's ``config.json``
    """

    def __init__(self, policy: BasePolicy, normalization: Normalization, config: Mapping[str, Any]) -> None:
        self.policy, self.normalization, self.config = policy, normalization, config
        self.observation_space: spaces.Space[Any] = policy.observation_space
        self.action_space: spaces.Space[Any] = policy.action_space
        self.training: Mapping[str, Any] = config.get("training", {})
        self.seed = self.training.get("seed")

    def __deepcopy__(self, memo: dict[int, Any]) -> ExportedPolicy:
        """A copy with parameters of its own, also just after a training with gSDE."""
        memo[id(self)] = copied = object.__new__(ExportedPolicy)
        memo.update(sharing(self.policy))
        vars(copied).update(deepcopy(vars(self), memo))
        return copied

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """
        As in SB3. Observations are normalised here: no VecNormalize belongs around the environment.

        :param observation: of one environment or of several (first axis), as the environment gives them
        :param state: what the last call returned, None to start afresh
        :param episode_start: where an episode starts, [B]
        :param deterministic: take the most likely actions
        :return: actions, and the state
        """
        unseen = getattr(self.policy, "critic_keys", ())
        return self.policy.predict(self.normalization(observation, unseen), state, episode_start, deterministic)


def export_policy(
    policy: BasePolicy,
    folder: str | Path,
    normalization: VecEnv | Normalization | None = None,
    training: Mapping[str, Any] | None = None,
) -> Path:
    """
    Write a policy to a folder of plain files, ``config.json`` and ``policy.safetensors``.

    :param policy: a policy of SB3, sb3-contrib or sb3_plastic
    :param folder: is made; an earlier export in it is replaced
    :param normalization: the VecNormalize of its training, if there was one, or the environments around or in it
    :param training: plain data on where it comes from: ``algo``, ``env_id``, ``num_timesteps``, ``seed``, ...
    :return: the folder
    :raises UserError: if something of it is no plain data, or not finite, or the statistics are of other observations
    """
    folder = Path(folder)
    if isinstance(normalization, VecEnv):
        found = unwrap_vec_normalize(normalization)
        normalization = None if found is None else Normalization.of(found)
    scaled = normalization or Normalization()
    scaled.check_space(policy.observation_space)
    plain, tensors = policy_to_plain(policy)
    config = {
        "policy": plain,
        "normalization": scaled.to_plain(),
        "training": to_plain(dict(training or {}), "training"),
        "versions": versions(),
    }
    write_folder(folder, config, tensors)
    return folder


def load_policy(folder: str | Path, device: str = "cpu") -> ExportedPolicy:
    """
    A policy from a folder that :func:`export_policy` made. Reads JSON and numbers, no pickle; its classes are those of
    the installed packages.

    :param folder: the folder
    :param device: where the policy is to be
    :return: an object with SB3's ``predict``
    :raises UserError: if there is no such folder, or a later version of the package wrote it
    :raises RefusedError: if it names a class that files may not name
    :raises DamagedError: if it is not as it was written
    """
    folder = Path(folder)
    config, tensors = read_folder(folder)
    where = str(folder / CONFIG)
    with reading(config.get("versions")):
        policy = policy_from_plain(config.get("policy"), tensors, where, device)
        return ExportedPolicy(policy, Normalization.from_plain(config.get("normalization"), where), config)
