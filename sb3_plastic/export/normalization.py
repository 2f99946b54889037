"""What VecNormalize does to observations, as plain data: means, variances and two numbers."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_plastic.errors import UserError
from sb3_plastic.export.folder import read_config
from sb3_plastic.export.plain import from_plain, to_plain
from sb3_plastic.safe import DamagedError, Statistics, normalised, read_pickle

WHOLE = ""
"""The key of an observation that is no dict."""

STACK_INSTEAD = (
    "Stack frames within the normalisation instead of frame_stack: "
    "`vec_env_wrapper: [{stable_baselines3.common.vec_env.VecFrameStack: {n_stack: 4}}]` in the settings of RL Zoo."
)
"""What to do where RL Zoo has stacked frames around VecNormalize."""


@dataclass(frozen=True)
class Normalization:
    """
    Observations to zero mean and unit variance, with statistics that do not change.

    :param mean: of each entry of the observation that is normalised, of the key ``""`` if it is no dict
    :param variance: likewise; empty like ``mean`` if observations stay as they are
    :param epsilon: added to the variance
    :param clip: bound of what comes out
    """

    mean: dict[str, np.ndarray] = field(default_factory=dict)
    variance: dict[str, np.ndarray] = field(default_factory=dict)
    epsilon: float = 1e-8
    clip: float = 10.0

    def __call__(self, observation: Any, unseen: Sequence[str] = ()) -> Any:
        """
        The observation as the policy was trained on it: bit for bit what VecNormalize gives.

        :param observation: of one environment or of several
        :param unseen: keys that it may lack
        :raises UserError: on observations of another shape, or without a key
        """
        keys = observation.keys() if isinstance(observation, dict) else {WHOLE}
        if not self.mean.keys() <= {*keys, *unseen} and not isinstance(observation, tuple):
            raise UserError(f"The statistics are of other observations: {_named(self.mean)}, got {_named(keys)}.")
        if isinstance(observation, dict):
            return {key: self._one(key, value) if key in self.mean else value for key, value in observation.items()}
        return self._one(WHOLE, observation) if self.mean else observation

    def _one(self, key: str, value: Any) -> np.ndarray:
        shape = self.mean[key].shape
        if isinstance(value, tuple) or (shape and np.shape(value)[-len(shape) :] != shape):
            got = "a tuple: of what `reset` returns pass the first" if isinstance(value, tuple) else np.shape(value)
            raise UserError(f"The statistics are of observations of shape {shape}, got {got}.")
        scaled = (value - self.mean[key]) / np.sqrt(self.variance[key] + self.epsilon)
        return np.clip(scaled, -self.clip, self.clip).astype(np.float32)

    def check_space(self, space: spaces.Space[Any]) -> None:
        """
        :param space: of observations
        :raises UserError: if the statistics are of others
        """
        parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {WHOLE: space}
        if not self.mean.keys() <= parts.keys():
            raise UserError(f"The statistics are of other observations: {_named(self.mean)}, got {_named(parts)}.")
        for key, mean in self.mean.items():
            got = parts[key].shape or ()
            if mean.shape != got:
                stacked = mean.shape and got and mean.shape[:-1] == got[:-1] and got[-1] % mean.shape[-1] == 0
                raise UserError(
                    f"The statistics of VecNormalize are of observations of shape {mean.shape}, these have {got}: they "
                    "were made in another environment, or in other wrappers (wrappers=[...], --wrapper)"
                    + (f", or its frames were stacked after it. {STACK_INSTEAD}" if stacked else ".")
                )

    def around(self, venv: VecEnv) -> VecNormalize:
        """
        A VecNormalize whose statistics stay as they are, and that leaves rewards alone.

        :param venv: the environments
        :raises UserError: if the statistics are of other observations
        """
        self.check_space(venv.observation_space)
        keys = None if WHOLE in self.mean or not self.mean else list(self.mean)
        wrapped = VecNormalize(
            venv,
            training=False,
            norm_obs=bool(self.mean),
            norm_reward=False,
            clip_obs=self.clip,
            epsilon=self.epsilon,
            norm_obs_keys=keys,
        )
        for key, mean in self.mean.items():
            rms = wrapped.obs_rms if key == WHOLE else wrapped.obs_rms[key]
            assert isinstance(rms, RunningMeanStd)
            rms.mean, rms.var = mean, self.variance[key]
        return wrapped

    @classmethod
    def of(cls, normalize: VecNormalize | Statistics, where: str = "VecNormalize") -> Normalization:
        """
        :param normalize: a VecNormalize, or the attributes of one
        :param where: the file it comes from, for messages
        :raises DamagedError: if its statistics are missing or not finite
        """
        state = normalize if isinstance(normalize, Statistics) else vars(normalize)
        try:
            rms = state["obs_rms"] if state["norm_obs"] else {}
            kept = rms if isinstance(rms, dict) and not isinstance(rms, Statistics) else {WHOLE: rms}
            keys = state.get("norm_obs_keys")
            parts = {
                key: part if isinstance(part, Statistics) else vars(part)
                for key, part in kept.items()
                if keys is None or key in keys
            }
            mean = {key: np.asarray(part["mean"], np.float64) for key, part in parts.items()}
            variance = {key: np.asarray(part["var"], np.float64) for key, part in parts.items()}
            made = cls(mean, variance, float(state["epsilon"]), float(state["clip_obs"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamagedError(where, f"no statistics of VecNormalize ({type(error).__name__}: {error})") from error
        made.check(where)
        return made

    @classmethod
    def of_training(cls, model: Any, remedy: str) -> Normalization | None:
        """
        That of the environments in which a model in memory was trained, if it has them.

        :param model: of SB3, sb3-contrib or sb3_plastic; anything else is taken to normalise by itself
        :param remedy: what to do where they are missing, for the message
        :return: None where observations stay as they are, or nobody knows
        :raises UserError: if its observations were normalised, and nothing says how
        """
        if not isinstance(model, BaseAlgorithm):
            return None
        normalize = model.get_vec_normalize_env()
        if normalize is not None:
            return cls.of(normalize) if normalize.norm_obs else None
        if normalised(model._last_obs, model._last_original_obs, isinstance(model, OffPolicyAlgorithm)):
            raise UserError(
                "The model was trained with VecNormalize, and acts at random without its statistics: give " + remedy
            )
        return None

    def check(self, where: str) -> None:
        """
        :param where: where the statistics come from
        :raises DamagedError: if they are not finite, or do not fit together
        """
        for key, mean in self.mean.items():
            variance = self.variance[key]
            if not (np.isfinite(mean).all() and np.isfinite(variance).all() and (variance >= 0).all()):
                raise DamagedError(
                    where, "the statistics of VecNormalize are not finite: the training has seen NaN or inf"
                )
            if mean.shape != variance.shape:
                raise DamagedError(where, f"means have shape {mean.shape}, variances {variance.shape}")

    @classmethod
    def load(cls, path: Path, trust: bool = False) -> Normalization:
        """
        Statistics as ``VecNormalize.save`` writes them, or those of an exported folder.

        :param path: a pickle, or a folder
        :param trust: unpickle it, whatever it runs
        :raises RefusedError: if it is more than data, unless trusted
        :raises DamagedError: if it is not whole, or something else
        """
        if path.is_dir():
            return cls.from_plain(read_config(path).get("normalization"), str(path))
        content = path.read_bytes()
        value = pickle.loads(content) if trust else read_pickle(content, str(path))
        if not isinstance(value, Statistics | VecNormalize):
            raise DamagedError(str(path), f"it holds no VecNormalize, but {type(value).__name__}")
        return cls.of(value, str(path))

    def to_plain(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {name: to_plain(getattr(self, name), name) for name in ("mean", "variance", "epsilon", "clip")}

    @classmethod
    def from_plain(cls, plain: Any, where: str) -> Normalization:
        """
        The inverse of :meth:`to_plain`.

        :param plain: plain data
        :param where: the file and the place in it, for messages
        :raises DamagedError: if it is something else
        """
        try:
            made = cls(**{name: from_plain(plain[name], where) for name in ("mean", "variance", "epsilon", "clip")})
            made.check(where)
        except (KeyError, TypeError, AttributeError) as error:
            raise DamagedError(where, f"no statistics of VecNormalize ({type(error).__name__}: {error})") from error
        return made


def _named(keys: Iterable[str]) -> str:
    names = list(keys)
    return "one box" if names == [WHOLE] else f"a Dict of {', '.join(names)}"
