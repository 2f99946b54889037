"""The environment that a model was trained in: found beside its file, and made anew for the evaluation."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import yaml
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper, VecNormalize

from sb3_plastic.errors import UserError
from sb3_plastic.evaluation.settings import ModelSettings, WrapperSpec
from sb3_plastic.perturbations.registration import ROBOTS, env_id, register_envs
from sb3_plastic.wrappers import VecPreviousActionReward


@dataclass(frozen=True)
class TrainedIn:
    """
    The environment in which a model was trained.

    :param env_id: its id
    :param env_kwargs: arguments of it
    :param wrappers: of each environment, ``module.name`` or ``{module.name: arguments}``, the first innermost: RL Zoo's
        ``env_wrapper``
    :param vec_wrappers: of the vector environment, likewise: ``vec_env_wrapper``
    :param vec_normalize: file with the statistics of VecNormalize, or None
    """

    env_id: str
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    wrappers: Sequence[WrapperSpec] = ()
    vec_wrappers: Sequence[WrapperSpec] = ()
    vec_normalize: Path | None = None


def find_training(path: Path | None, about: ModelSettings | None = None) -> TrainedIn:
    """
    What is known of a model's training. What is given comes first, then RL Zoo's files beside the model
    (``<env>/args.yml``, ``config.yml``, ``vecnormalize.pkl``), or ``<model>.pkl`` for the statistics of VecNormalize.

    :param path: the model's file, None if it has none
    :param about: what is given
    :raises UserError: if no environment is known, or a file is missing
    """
    about = about or ModelSettings()
    vec_normalize = None if about.vec_normalize is None else Path(about.vec_normalize)
    if vec_normalize is not None and not vec_normalize.is_file():
        raise UserError(f"There are no statistics of VecNormalize in {vec_normalize}.")
    args, config, folder = _zoo_files(path)
    known = about.env or args.get("env")
    if known is None:
        raise UserError(
            f"A model does not tell its environment, and there is none of RL Zoo's args.yml beside {path}. Name it: "
            "--env, for instance sb3_plastic/PerturbedHalfCheetahLatent-v0 or HalfCheetah-v5."
        )
    kwargs = {**(args.get("env_kwargs") or config.get("env_kwargs") or {}), **(about.env_kwargs or {})}
    if config.get("frame_stack"):
        raise UserError(f"{path} was trained with frame_stack, which the evaluation does not serve.")
    wrappers = about.wrappers
    if wrappers is None:
        wrappers = [*_listed(config.get("env_wrapper")), *_listed(config.get("vec_env_wrapper"))]
    wrappers = [wrapper for wrapper in wrappers if _name(wrapper) != _BATCH]  # which the evaluation has by itself
    of_vec_env = [wrapper for wrapper in wrappers if _is_for_vec_env(wrapper)]
    of_envs = [wrapper for wrapper in wrappers if wrapper not in of_vec_env]
    if vec_normalize is None and path is not None:
        candidates = [path.with_suffix(".pkl"), *([folder / "vecnormalize.pkl"] if folder else [])]
        vec_normalize = next((file for file in candidates if file.is_file()), None)
    return TrainedIn(perturbable(known), kwargs, tuple(of_envs), tuple(of_vec_env), vec_normalize)


class _ZooLoader(yaml.SafeLoader):
    """Reads RL Zoo's files, ordered dictionaries among them, without running what they say."""


_ZooLoader.add_constructor(
    "tag:yaml.org,2002:python/object/apply:collections.OrderedDict",
    lambda loader, node: dict(loader.construct_sequence(node, deep=True)[0]),  # type: ignore[arg-type]
)
_ZooLoader.add_constructor(
    "tag:yaml.org,2002:python/tuple",
    lambda loader, node: loader.construct_sequence(node, deep=True),  # type: ignore[arg-type]
)


def _zoo_files(path: Path | None) -> tuple[dict[str, Any], dict[str, Any], Path | None]:
    """RL Zoo's args.yml and config.yml, and their folder."""
    if path is None:
        return {}, {}, None
    folder = next((file.parent for file in sorted(path.parent.glob("*/args.yml"))), None)
    if folder is None:
        return {}, {}, None
    files = []
    for name in ("args.yml", "config.yml"):
        file = folder / name
        loaded = yaml.load(file.read_text(), _ZooLoader) if file.is_file() else {}
        files.append(dict(loaded or {}))
    return files[0], files[1], folder


def perturbable(name: str) -> str:
    """``HalfCheetah-v5`` and so on: the environment with the same observations that can be perturbed."""
    robot = name.removesuffix("-v5")
    return env_id(robot) if robot in ROBOTS else name


def robot_of(name: str) -> str:
    """The robot of an environment's id; empty if it is not ours. :param name: the id"""
    return next((r for r in ROBOTS if name in (env_id(r), env_id(r, latent=True))), "")


def make_env(trained: TrainedIn, n_envs: int, steps: int, heightfield: bool = False) -> VecEnv:
    """
    Environments as the model knows them, with statistics frozen and rewards as they are.

    :param trained: the model's environment
    :param n_envs: how many
    :param steps: time limit of an episode
    :param heightfield: whether the ground is a height field
    """
    register_envs()
    kwargs = {**trained.env_kwargs}
    ours = bool(robot_of(trained.env_id))
    if ours:
        kwargs["terrain"] = heightfield
    wrappers = [_wrapper(w) for w in trained.wrappers]

    def make() -> gym.Env[Any, Any]:
        return gym.make(trained.env_id, max_episode_steps=steps, disable_env_checker=True, **kwargs)

    def wrapped() -> gym.Env[Any, Any]:
        env = make()
        for wrap in wrappers:
            env = wrap(env)
        return env

    # PreviousActionReward exists for a whole batch, too; what else is wrapped around single environments needs them.
    around_all = [PREVIOUS.get(_name(wrapper)) for wrapper in trained.wrappers]
    if ours and None not in around_all:
        from sb3_plastic.perturbations.vec_env import LocomotionVecEnv

        venv: VecEnv = LocomotionVecEnv([make] * n_envs)
        for wrap_all in around_all:
            venv = wrap_all(venv)  # type: ignore[misc]
    else:
        venv = DummyVecEnv([wrapped] * n_envs)
    for wrapper in trained.vec_wrappers:
        venv = _wrapper(wrapper)(venv)
    if trained.vec_normalize is not None:
        venv = VecNormalize.load(str(trained.vec_normalize), venv)
        venv.training = venv.norm_reward = False
    return venv


PREVIOUS = {"sb3_plastic.wrappers.PreviousActionReward": VecPreviousActionReward}
"""Wrappers of single environments, and what does the same for a vector environment."""

_BATCH = "sb3_plastic.perturbations.vec_env.locomotion_vec_env"


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _name(wrapper: WrapperSpec) -> str:
    return wrapper if isinstance(wrapper, str) else next(iter(wrapper))


def _is_for_vec_env(wrapper: WrapperSpec) -> bool:
    cls = pkgutil.resolve_name(_name(wrapper))
    return isinstance(cls, type) and issubclass(cls, VecEnvWrapper)


def _wrapper(wrapper: WrapperSpec) -> Callable[[Any], Any]:
    kwargs = {} if isinstance(wrapper, str) else next(iter(wrapper.values()))
    return partial(pkgutil.resolve_name(_name(wrapper)), **(kwargs or {}))


def check_spaces(model: Any, venv: VecEnv, trained: TrainedIn) -> None:
    """
    Refuse an environment that is not the model's.

    :raises UserError: saying which spaces differ
    """
    for what in ("observation_space", "action_space"):
        expected, got = getattr(model, what, None), getattr(venv, what)
        if expected is not None and expected.shape != got.shape:
            raise UserError(
                f"The model's {what.replace('_', ' ')} has shape {expected.shape}, that of {trained.env_id} has "
                f"{got.shape}. Likely another environment (Ant and Humanoid have a Latent variant), or arguments "
                "(--env-kwargs) or wrappers (--wrapper) of the training are missing."
            )
