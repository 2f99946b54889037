"""What the layer is put around: an agent that takes observations as the environment gives them, and its spaces."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecNormalize

from sb3_plastic.errors import UserError
from sb3_plastic.export import ExportedPolicy, Normalization

Array = NDArray[Any]


@runtime_checkable
class HasLayer(Protocol):
    """What may have an adaptive layer: AdaptivePolicy, and policies that learn one beside their training."""

    def adaptive_policy(self) -> Any:
        """The AdaptivePolicy, None while there is none."""


def layer_around(policy: Any) -> Any:
    """The AdaptivePolicy of a policy; None if it has no layer. :param policy: any"""
    return policy.adaptive_policy() if isinstance(policy, HasLayer) else None


def agent_of(model: Any, normalize: VecNormalize | None) -> Any:
    """
    A model as the layer takes it: its policy, with the normalisation of its training inside.

    :param model: of SB3, sb3-contrib or sb3_plastic; anything else with ``predict`` is taken as it is
    :param normalize: the VecNormalize of its training; None: that of the model's own environment, if it has one
    :raises UserError: if it has an adaptive layer already, or is nothing that could be given a normalisation
    """
    if layer_around(model) is not None or layer_around(getattr(model, "policy", None)) is not None:
        raise UserError("The model adapts by itself: it has an adaptive layer already. Use it as it is.")
    if not callable(getattr(model, "predict", None)):
        raise UserError(f"The model is a {type(model).__name__}, without `predict`: load it first, as PPO.load(...).")
    if normalize is not None:
        normalization = Normalization.of(normalize)
        parts = normalization.mean.items()
        fresh = any(not mean.any() and (normalization.variance[key] == 1).all() for key, mean in parts)
        if fresh and (isinstance(model, ExportedPolicy) or getattr(model, "num_timesteps", 0) > 0):
            raise UserError(
                "The VecNormalize of the environments has seen no observation yet, and the model was trained with "
                "another, or none: give environments in that one, VecNormalize.load('statistics.pkl', env), or in none."
            )
    else:
        remedy = "environments in it, VecNormalize.load('statistics.pkl', env)."
        normalization = Normalization.of_training(model, remedy) or Normalization()
    if isinstance(model, ExportedPolicy):
        return ExportedPolicy(model.policy, normalization if normalization.mean else model.normalization, model.config)
    if isinstance(model, BasePolicy):
        return ExportedPolicy(model, normalization, {})
    if not isinstance(model, BaseAlgorithm) and not normalization.mean:
        return model
    if not isinstance(model, BaseAlgorithm):
        raise UserError(
            f"A {type(model).__name__} is no model of SB3, so that nothing can normalise its observations: give "
            "environments without VecNormalize, or the model itself."
        )
    training = {"algo": type(model).__name__, "num_timesteps": int(model.num_timesteps), "seed": model.seed}
    return ExportedPolicy(model.policy, normalization, {"training": training})


def box(what: str, space: spaces.Space[Any]) -> spaces.Box:
    """
    A space that the layer serves.

    :param what: ``action`` or ``observation``
    :param space: of the model
    :raises UserError: if it is no Box with one axis, or of actions without bounds
    """
    if not isinstance(space, spaces.Box) or len(space.shape) != 1:
        raise UserError(f"The adaptive layer needs a Box with one axis as {what} space, got {space}.")
    if what == "action" and not space.is_bounded():
        raise UserError(
            f"The adaptive layer needs actions with bounds, which say how far a motor can go; got {space}. "
            "Train the model in an environment with bounds, such as gymnasium's RescaleAction makes."
        )
    if what == "action" and (space.low >= space.high).any():
        raise UserError(f"The adaptive layer needs motors that can move, some have no range: {space}.")
    return space


def as_actions(commands: Array, space: spaces.Box) -> Array:
    """
    Commands as the environment takes them, within its bounds, which rounding may pass. Where it takes whole numbers
    they stay fractions, as those of SB3's models.

    :param commands: in units of half the control range, [B, A]
    :param space: of actions, bounded
    """
    middle, half = middle_and_half(space)
    return (commands * half + middle).clip(space.low, space.high).astype(np.result_type(np.float32, space.dtype))


def middle_and_half(space: spaces.Box) -> tuple[Array, Array]:
    """Middle and half of the control range. :param space: of actions, bounded"""
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    return (low + high) / 2, (high - low) / 2
