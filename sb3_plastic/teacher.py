"""A teacher, whose actions the student imitates less and less while it learns from reward.

The loss of PPO gets the term ``weight * KL(teacher || student)``, whose weight falls linearly to 0. The teacher sees
what the student met, as in proximal policy distillation (Spigler, 2024, arXiv 2407.15134). That also weighs each step
by its probability ratio; here all count the same. Only the teacher's most likely action is asked for, so that any model
can teach. With a Gaussian student it counts as the mean of a Gaussian of the student's own standard deviation, else as
certain:

    Box:     KL = sum_j (a_j - mean_j)^2 / (2 std_j^2)          others:  KL = -log pi(a)

Where a_j is at a bound of the action space and mean_j beyond it, both are the same action, and the term is 0.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.distributions import (
    DiagGaussianDistribution,
    Distribution,
    StateDependentNoiseDistribution,
    TanhBijector,
)
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, VecTransposeImage, unwrap_vec_normalize
from torch import Tensor

from sb3_plastic.algorithms import ALGORITHMS, algorithm_class
from sb3_plastic.errors import NotFiniteError, UserError, check_names, check_number
from sb3_plastic.export import Normalization, is_export, load_policy
from sb3_plastic.observations import map_obs
from sb3_plastic.safe import NO_REPLAY

LIBRARIES = ("stable_baselines3", "sb3_contrib", "sb3_plastic")
"""Where the class of a saved teacher is looked up, by its name."""


@dataclass(frozen=True)
class Teacher:
    """
    The teacher, and how long it teaches.

    :param model: a model with SB3's ``predict``; the path of a saved one, or of an exported folder; or a function of
        the observations [B, ...] that returns actions [B, ...]. Observations are as the environment returned them,
        before any VecNormalize of the student's, with all keys of a Dict; of images the channels come first where SB3
        turns them
    :param algo: algorithm of a saved model, by its name in ``algorithms.ALGORITHMS`` (``ppo``, ``plastic_ppo``, ...) or
        that of its class (``PPO``, ``DDPG``, ...)
    :param weight: of the KL term at the start, above 0
    :param until: fraction of the training, above 0, after which the weight is 0
    :param normalization: the VecNormalize of the teacher's own training, its file or an exported folder, which are read
        as data; None: that of the model's own environments, if it has one. A saved model is unpickled: use only one
        that you trust
    """

    model: Any
    algo: str = "ppo"
    weight: float = 1.0
    until: float = 0.5
    normalization: VecNormalize | Normalization | str | Path | None = None

    def __post_init__(self) -> None:
        check_number("The teacher's weight", self.weight, above=0)
        check_number("The teacher's until, a fraction of the training,", self.until, above=0, at_most=1)

    @staticmethod
    def of(value: Any) -> Teacher:
        """
        :param value: a teacher, its arguments by name, as in YAML, or its model alone
        :raises UserError: on an unknown argument, a number out of range, or what cannot teach
        """
        if isinstance(value, Teacher):
            return value
        if isinstance(value, str | Path) or callable(getattr(value, "predict", value)):
            return Teacher(value)
        if not isinstance(value, Mapping) or "model" not in value:
            raise UserError(
                f"teacher is a model, a function, a file, or a mapping with the entry 'model', got {value!r}."
            )
        check_names("teacher", value, [field.name for field in fields(Teacher)])
        return Teacher(**value)

    def weight_at(self, remaining: float) -> float:
        """
        The weight of the KL term.

        :param remaining: fraction of the training that remains, from 1 to 0
        """
        return self.weight * max(0.0, 1 - (1 - remaining) / self.until)

    def lessons(self, action_space: spaces.Space) -> Lessons:
        """
        The teacher at work, from the start of an episode on. A saved model is loaded here.

        :param action_space: of the student
        """
        model, normalization = self.model, self.normalization
        if isinstance(model, str | Path) and is_export(Path(model)):
            model = load_policy(model)
        elif isinstance(model, str | Path):
            cls = self._class()
            try:
                model = cls.load(model, device="cpu", custom_objects={**NO_REPLAY})
            except UserError:  # of a file that is damaged, for instance
                raise
            except (TypeError, ValueError, KeyError, AttributeError) as error:
                raise UserError(
                    f"{model} is no model of {self.algo}: name its algorithm as 'algo' ({error})."
                ) from error
        if isinstance(normalization, str | Path):
            normalization = Normalization.load(Path(normalization))
        elif isinstance(normalization, VecNormalize):
            normalization = Normalization.of(normalization)
        elif normalization is None:
            normalization = Normalization.of_training(model, "their file, or these, as normalization.")
        return Lessons(model, normalization, action_space)

    def _class(self) -> type[BaseAlgorithm]:
        if self.algo in ALGORITHMS:
            return algorithm_class(self.algo)
        for name in LIBRARIES:
            cls = getattr(_library(name), self.algo, None)
            if isinstance(cls, type) and issubclass(cls, BaseAlgorithm):
                return cls
        raise UserError(
            f"There is no algorithm {self.algo!r}: name it as one of {', '.join(ALGORITHMS)}, or by its class in "
            f"{', '.join(LIBRARIES)}."
        )


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


class Lessons:
    """
    What a teacher would do in the states that a student meets.

    :param model: with ``predict``, or a function of the observations
    :param normalization: of the teacher's observations
    :param action_space: of the student
    """

    def __init__(self, model: Any, normalization: Normalization | None, action_space: spaces.Space) -> None:
        self.predict: Callable[..., Any] = getattr(model, "predict", None) or (lambda obs, **_: (model(obs), None))
        self.normalization, self.shape = normalization, action_space.shape or ()
        self.forget()

    def forget(self) -> None:
        """Drop what a teacher with memory remembers: what comes next is of another moment."""
        self.state: Any = None

    def actions(self, obs: Any, episode_starts: np.ndarray) -> np.ndarray:
        """
        :param obs: as the environments returned them, [B, ...]
        :param episode_starts: bool [B]
        :return: actions [B, *shape]
        :raises UserError: if it does not return an action for each observation
        :raises NotFiniteError: if one is not finite
        """
        # A copy: a function may write over what it is given, which is the student's.
        obs = map_obs(np.copy, obs)
        obs = obs if self.normalization is None else self.normalization(obs)
        actions, self.state = self.predict(obs, state=self.state, episode_start=episode_starts, deterministic=True)
        actions = np.asarray(actions)
        expected = (len(episode_starts), *self.shape)
        fits = actions.shape[:1] == expected[:1] and actions.size == math.prod(expected)
        if actions.dtype.kind not in "biuf" or not fits:
            raise UserError(
                f"A teacher returns an array with an action for each of {expected[0]} observations, of shape "
                f"{expected}, got shape {actions.shape} of {actions.dtype}."
            )
        if not np.isfinite(actions).all():
            raise NotFiniteError("The teacher's actions are not finite: are these the observations that it knows?")
        return actions.reshape(expected)


def as_returned(obs: Any, env: VecEnv | None) -> Any:
    """
    What the environment returned, before its VecNormalize.

    :param obs: what the student sees, [B, ...]
    :param env: its environments, around which SB3 turns images
    :raises UserError: if other wrappers around VecNormalize change observations
    """
    normalize = None if env is None else unwrap_vec_normalize(env)
    if normalize is None or not normalize.norm_obs:
        return obs
    turned = env if isinstance(env, VecTransposeImage) else None
    around: Any = env if turned is None else turned.venv
    if around.observation_space != normalize.observation_space:
        raise UserError(
            "A teacher sees observations before VecNormalize, which are not known where another wrapper around it "
            "changes them (VecFrameStack): put VecNormalize around that one."
        )
    original = normalize.get_original_obs()
    return original if turned is None else turned.transpose_observations(original)


def divergence(distribution: Distribution, actions: Tensor, space: spaces.Space) -> Tensor:
    """
    KL from the teacher's to the student's distribution of actions.

    :param distribution: the student's
    :param actions: the teacher's, [n, A]; as rollouts hold them
    :param space: of the actions. SB3 clips those of a Gaussian to its bounds: beyond the teacher's bound is no error
    :return: [n], in nats
    """
    if isinstance(distribution, DiagGaussianDistribution | StateDependentNoiseDistribution):
        assert isinstance(space, spaces.Box)
        normal = distribution.distribution
        low, high = (torch.as_tensor(bound.reshape(-1), device=actions.device) for bound in (space.low, space.high))
        actions = actions.clamp(low, high)
        if getattr(distribution, "bijector", None) is not None:  # what it squashes is in units of half the range
            middle, half = (low + high) / 2, (high - low) / 2
            low, actions, high = (TanhBijector.inverse((x - middle) / half) for x in (low, actions, high))
        same = (actions >= high) & (normal.mean > high) | (actions <= low) & (normal.mean < low)
        return ((actions - normal.mean) / normal.stddev.detach()).masked_fill(same, 0).square().sum(1) / 2
    return -distribution.log_prob(actions.long().flatten() if isinstance(space, spaces.Discrete) else actions)


class _AddLoss(torch.autograd.Function):
    # Identity forward; backward, the gradient of `loss` is 1, whatever is made of `value`.

    @staticmethod
    def forward(ctx: Any, value: Tensor, loss: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        return grads[0], torch.ones((), dtype=grads[0].dtype, device=grads[0].device)


def with_loss(value: Tensor, loss: Tensor) -> Tensor:
    """
    A tensor whose backward pass minimises a loss of its own besides: so that SB3's update needs no change.

    :param value: any tensor that the update's loss depends on
    :param loss: a number
    :return: the same values
    """
    return _AddLoss.apply(value, loss)
