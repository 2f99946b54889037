"""The environment that a model was trained in: found beside its file, and made anew for the evaluation."""

from __future__ import annotations

import inspect
import pkgutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper

from sb3_plastic.errors import UserError
from sb3_plastic.evaluation.settings import ModelSettings, WrapperSpec
from sb3_plastic.evaluation.zoo_files import statistics_of, zoo_files
from sb3_plastic.export import Normalization
from sb3_plastic.observations import channels_first
from sb3_plastic.perturbations.registration import ROBOTS, env_id, register_envs, registered
from sb3_plastic.perturbations.spec import Perturbation, PerturbationError
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
    :param vec_normalize: file with the statistics of VecNormalize, or these, or None
    :param trust: unpickle that file, whatever it runs; else only data is read from it
    """

    env_id: str
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    wrappers: Sequence[WrapperSpec] = ()
    vec_wrappers: Sequence[WrapperSpec] = ()
    vec_normalize: Path | Normalization | None = None
    trust: bool = False

    @property
    def time_limit(self) -> int:
        """Steps of an episode: as it was made or is registered; 1000 where nothing limits them."""
        steps = self.env_kwargs.get("max_episode_steps") or registered(self.env_id).max_episode_steps or -1
        return int(steps) if steps > 0 else 1000  # gymnasium takes -1 for no limit

    @cached_property
    def normalization(self) -> Normalization | None:
        """The statistics of VecNormalize, read from their file once: a training may write others meanwhile."""
        known = self.vec_normalize
        return Normalization.load(known, self.trust) if isinstance(known, Path) else known

    def unperturbed(self) -> TrainedIn:
        """Without the perturbations of the training, but for an oracle, which sees their context."""
        if self.env_kwargs.get("observe_context"):
            return self
        own = {name: value for name, value in self.env_kwargs.items() if name not in ("scenario", "perturbations")}
        return replace(self, env_kwargs=own)


def find_training(path: Path | None, about: ModelSettings | None = None) -> TrainedIn:
    """
    What is known of a model's training. What is given comes first, then RL Zoo's files beside the model
    (``<env>/args.yml``, ``config.yml``, ``vecnormalize.pkl``), or ``<model>.pkl`` for the statistics of VecNormalize.

    :param path: the model's file, None if it has none
    :param about: what is given
    :raises UserError: if no environment is known, or a file is missing
    """
    about = about or ModelSettings()
    zoo = zoo_files(path)
    known = zoo.env_id(about)
    if known is None:
        raise UserError(
            f"A model does not tell its environment, and there is none of RL Zoo's args.yml beside {path}. Name it: "
            "--env, for instance sb3_plastic/PerturbedHalfCheetahLatent-v0 or HalfCheetah-v5."
        )
    kwargs = zoo.env_kwargs(about)
    zoo.check_frames(path)
    of_envs, of_vec_env = split_wrappers(zoo.wrappers(about))
    statistics = statistics_of(path, zoo, about)
    return TrainedIn(perturbable(known), kwargs, tuple(of_envs), tuple(of_vec_env), statistics, about.trust)


def perturbable(name: str) -> str:
    """``HalfCheetah-v5`` and so on: the environment with the same observations that can be perturbed."""
    robot = name.removesuffix("-v5")
    return env_id(robot) if robot in ROBOTS else name


def robot_of(name: str) -> str:
    """The robot of an environment's id; empty if it is not ours. :param name: the id"""
    return next((r for r in ROBOTS if name in (env_id(r), env_id(r, latent=True))), "")


def called_in_suites(name: str) -> str:
    """What suites call the robot of an environment: ours by its name, others by their id. :param name: the id"""
    return robot_of(name) or name.rpartition(":")[2]


def make_env(trained: TrainedIn, n_envs: int, steps: int, heightfield: bool = False) -> VecEnv:
    """
    Environments as the model knows them, with statistics frozen and rewards as they are.

    :param trained: the model's environment
    :param n_envs: how many
    :param steps: time limit of an episode
    :param heightfield: whether the ground is a height field
    """
    register_envs()
    kwargs = {name: value for name, value in trained.env_kwargs.items() if name != "max_episode_steps"}
    ours = bool(robot_of(trained.env_id))
    if ours:
        kwargs["terrain"] = heightfield or None  # None: if the scenario of the training needs it
    wrappers = [_wrapper(w) for w in trained.wrappers]

    def make() -> gym.Env[Any, Any]:
        try:
            return gym.make(trained.env_id, max_episode_steps=steps, disable_env_checker=True, **kwargs)
        except TypeError as error:
            given = dict(trained.env_kwargs)
            raise UserError(f"{trained.env_id} cannot be made with the arguments {given}: {error}") from error

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
            assert wrap_all is not None
            venv = wrap_all(venv)
    else:
        venv = DummyVecEnv([wrapped] * n_envs)
    venv = wrapped_by(venv, trained.vec_wrappers)
    normalization = trained.normalization
    return venv if normalization is None else normalization.around(venv)


def perturb(venv: VecEnv, entries: Sequence[Sequence[Perturbation]]) -> None:
    """
    Perturb environments from their next reset on. They are told themselves: options of a reset do not pass through
    every wrapper.

    :param venv: as `make_env` makes them
    :param entries: what acts, one list for each environment; further environments stay as they are
    :raises UserError: if an environment is to be perturbed that cannot be
    """
    base: Any = venv.unwrapped
    for env, one in zip(base.envs, entries, strict=False):
        try:
            perturber = env.get_wrapper_attr("perturber")
        except AttributeError:
            if not one:
                continue
            name = type(env.unwrapped).__name__ if env.spec is None else env.spec.id
            raise UserError(
                f"{name} cannot be perturbed: it is no perturbable robot, such as HalfCheetah-v5, and not in "
                "PerturbSignals (--wrapper sb3_plastic.perturbations.wrapper.PerturbSignals; a study takes it from "
                "`adapt`), which perturbs commands and senses of any environment."
            ) from None
        perturber.use(one)


def check_scenarios(venv: VecEnv, scenarios: Sequence[tuple[str, Sequence[Perturbation]]]) -> None:
    """
    Refuse scenarios that cannot act on an environment.

    :param venv: as `make_env` makes them
    :param scenarios: names, and what acts
    :raises UserError: saying why the first cannot, and naming those that can
    """
    refused: dict[str, PerturbationError] = {}
    for name, entries in scenarios:
        try:
            perturb(venv, [entries])
        except PerturbationError as error:
            refused.setdefault(name, error)
    if not refused:
        return
    first, *others = refused
    told = [f"{first} cannot act here. {refused[first]}", *([f"Nor can {', '.join(others)}."] if others else [])]
    if can := dict.fromkeys(name.partition("/")[2] for name, _ in scenarios if name not in refused):
        told.append(f"Name those that can: --scenarios {' '.join(can)}")
    raise PerturbationError(" ".join(told))


PREVIOUS = {"sb3_plastic.wrappers.PreviousActionReward": VecPreviousActionReward}
"""Wrappers of single environments, and what does the same for a vector environment."""

_BATCH = "sb3_plastic.perturbations.vec_env.locomotion_vec_env"


def _name(wrapper: WrapperSpec) -> str:
    return wrapper if isinstance(wrapper, str) else next(iter(wrapper))


def _named(wrapper: WrapperSpec) -> Any:
    name = _name(wrapper)
    try:
        return pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"There is no wrapper {name!r} ({error}). A wrapper is named as module.Class.") from error


def _is_for_vec_env(wrapper: WrapperSpec) -> bool:
    cls = _named(wrapper)
    return isinstance(cls, type) and issubclass(cls, VecEnvWrapper)


def _wrapper(wrapper: WrapperSpec) -> Callable[[Any], Any]:
    cls, kwargs = _named(wrapper), {} if isinstance(wrapper, str) else dict(next(iter(wrapper.values())) or {})
    if cls is gym.wrappers.NormalizeObservation:
        warnings.warn(
            f"{_name(wrapper)} begins with statistics of nothing, since those of the training are not saved: the model "
            "sees observations of another scale, and its results say little. Train it in VecNormalize instead.",
            stacklevel=2,
        )
    try:
        inspect.signature(cls).bind(None, **kwargs)
    except TypeError as error:
        raise UserError(f"{_name(wrapper)} cannot wrap an environment with the arguments {kwargs}: {error}.") from error
    return partial(cls, **kwargs)


def split_wrappers(wrappers: Sequence[WrapperSpec]) -> tuple[list[WrapperSpec], list[WrapperSpec]]:
    """
    :param wrappers: in any order
    :return: those of single environments, and those of vector environments, but for the batch of robots, which the
        evaluation has by itself, and normalised rewards, which measure nothing
    """
    kept = [w for w in wrappers if _name(w) != _BATCH and _named(w) is not gym.wrappers.NormalizeReward]
    of_vec_env = [wrapper for wrapper in kept if _is_for_vec_env(wrapper)]
    return [wrapper for wrapper in kept if wrapper not in of_vec_env], of_vec_env


def wrapped_by(env: Any, wrappers: Sequence[WrapperSpec]) -> Any:
    """
    An environment in its wrappers.

    :param env: the environment, or vector environment
    :param wrappers: that fit it, the first innermost
    """
    for wrapper in wrappers:
        env = _wrapper(wrapper)(env)
    return env


def shape_of(space: spaces.Space[Any] | None) -> Any:
    """What two spaces have in common that fit: their shape, of a Dict that of each key. :param space: or None"""
    if isinstance(space, spaces.Dict):
        return {key: part.shape for key, part in space.spaces.items()}
    return None if space is None else space.shape


def as_seen_by(model: Any, venv: VecEnv, env_id: str) -> VecEnv:
    """
    Environments as a model sees them: with the channels of images first, if SB3 turned them for it.

    :param model: with the spaces of its training
    :param venv: environments
    :param env_id: what they are called
    :raises UserError: if they are not the model's, saying which spaces differ
    """
    turned = channels_first(venv)
    venv = turned if turned.observation_space == getattr(model, "observation_space", None) else venv
    for what in ("observation_space", "action_space"):
        expected, got = (shape_of(space) for space in (getattr(model, what, None), getattr(venv, what)))
        if expected is not None and expected != got:
            raise UserError(
                f"The model's {what.replace('_', ' ')} has shape {expected}, that of {env_id} has "
                f"{got}. Likely another environment (Ant and Humanoid have a Latent variant), or arguments "
                "(--env-kwargs) or wrappers (--wrapper, wrappers=[...]) of the training are missing."
            )
    return venv
