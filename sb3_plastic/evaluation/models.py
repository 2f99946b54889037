"""What is judged: a saved model of any SB3 algorithm, its VecNormalize, and the environment that it was trained in."""

from __future__ import annotations

import hashlib
import json
import pkgutil
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import torch
import yaml
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper, VecNormalize

from sb3_plastic.perturbations.registration import ROBOTS, env_id, register_envs
from sb3_plastic.perturbations.spec import unknown
from sb3_plastic.wrappers import VecPreviousActionReward

WrapperSpec = str | Mapping[str, Any]


class Algorithm(NamedTuple):
    """
    How to load, and to recognise, what an algorithm saves.

    :param cls: where its class is, ``module:name``
    :param policies: module of its policies
    :param attribute: what only its files have, among those with the same policies
    """

    cls: str
    policies: str
    attribute: str = "policy_class"


ALGORITHMS = {
    # The first that fits is taken.
    "plastic_ppo": Algorithm("sb3_plastic.ppo:PlasticPPO", "sb3_plastic.policies", "chunk_len"),
    "plastic_es": Algorithm("sb3_plastic.es.algorithm:PlasticES", "sb3_plastic.policies", "population_size"),
    "ppo_lstm": Algorithm("sb3_contrib:RecurrentPPO", "sb3_contrib.common.recurrent.policies"),
    "tqc": Algorithm("sb3_contrib:TQC", "sb3_contrib.tqc.policies"),
    "trpo": Algorithm("sb3_contrib:TRPO", "stable_baselines3.common.policies", "cg_max_steps"),
    "ppo": Algorithm("stable_baselines3:PPO", "stable_baselines3.common.policies", "clip_range"),
    "a2c": Algorithm("stable_baselines3:A2C", "stable_baselines3.common.policies", "normalize_advantage"),
    "sac": Algorithm("stable_baselines3:SAC", "stable_baselines3.sac.policies"),
    "td3": Algorithm("stable_baselines3:TD3", "stable_baselines3.td3.policies"),
}
"""Algorithms by RL Zoo's names."""


def detect_algorithm(path: Path) -> str:
    """
    The algorithm that saved a model.

    :param path: a zip file
    :return: a name in `ALGORITHMS`
    :raises ValueError: if the file is no model, or none of them fits
    """
    try:
        with zipfile.ZipFile(path) as file:
            data = json.loads(file.read("data"))
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"{path} is not a complete model of Stable-Baselines3: {error}.") from error
    module = data.get("policy_class", {}).get("__module__", "")
    for name, algorithm in ALGORITHMS.items():
        if module == algorithm.policies and algorithm.attribute in data:
            return name
    raise ValueError(
        f"The policy of {path} is from {module or 'an unknown module'}, which tells no algorithm. "
        f"Name it: --algo, one of {', '.join(ALGORITHMS)}."
    )


def load_model(path: Path, algo: str | None = None) -> tuple[Any, str]:
    """
    Load a model on the CPU.

    :param path: a zip file
    :param algo: a name in `ALGORITHMS`; None: recognise it
    :return: the model, and its algorithm
    :raises ValueError: on an unknown algorithm, or a file that is no model
    """
    path = path if path.suffix else path.with_suffix(".zip")
    if not path.is_file():
        raise ValueError(f"There is no model {path}.")
    algo = detect_algorithm(path) if algo is None else algo
    if algo not in ALGORITHMS:
        raise unknown("algorithm", algo, ALGORITHMS)
    try:
        cls = pkgutil.resolve_name(ALGORITHMS[algo].cls)
    except ImportError as error:
        raise ValueError(f"{algo} needs a package that is not installed: {error}. pip install sb3-contrib") from error
    # Nothing is trained: no replay buffer, and schedules need not be unpickled.
    unused = {"buffer_size": 1, "learning_rate": 0.0, "lr_schedule": _zero, "clip_range": _zero}
    return cls.load(path, device="cpu", custom_objects=unused), algo


def _zero(progress: float) -> float:
    return 0.0


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


def find_training(
    path: Path | None,
    env: str | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    vec_normalize: Path | None = None,
    wrappers: Sequence[WrapperSpec] | None = None,
) -> TrainedIn:
    """
    What is known of a model's training. What is given comes first, then RL Zoo's files beside the model
    (``<env>/args.yml``, ``config.yml``, ``vecnormalize.pkl``), or ``<model>.pkl`` for the statistics of VecNormalize.

    :param path: the model's file, None if it has none
    :param env: environment, replaces what is found
    :param env_kwargs: arguments of it, likewise
    :param vec_normalize: file, likewise
    :param wrappers: of environments or of a vector environment, likewise
    :raises ValueError: if no environment is known, or a file is missing
    """
    if vec_normalize is not None and not vec_normalize.is_file():
        raise ValueError(f"There are no statistics of VecNormalize in {vec_normalize}.")
    args, config, folder = _zoo_files(path)
    known = env or args.get("env")
    if known is None:
        raise ValueError(
            f"A model does not tell its environment, and there is none of RL Zoo's args.yml beside {path}. Name it: "
            "--env, for instance sb3_plastic/PerturbedHalfCheetahLatent-v0 or HalfCheetah-v5."
        )
    kwargs = {**(args.get("env_kwargs") or config.get("env_kwargs") or {}), **(env_kwargs or {})}
    if config.get("frame_stack"):
        raise ValueError(f"{path} was trained with frame_stack, which the evaluation does not serve.")
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

    :raises ValueError: saying which spaces differ
    """
    for what in ("observation_space", "action_space"):
        expected, got = getattr(model, what, None), getattr(venv, what)
        if expected is not None and expected.shape != got.shape:
            raise ValueError(
                f"The model's {what.replace('_', ' ')} has shape {expected.shape}, that of {trained.env_id} has "
                f"{got.shape}. Likely another environment (Ant and Humanoid have a Latent variant), or arguments "
                "(--env-kwargs) or wrappers (--wrapper) of the training are missing."
            )


def sha256_of(model: Any, path: Path | None) -> str | None:
    """Checksum of the model's file, or else of its parameters; None for what has none."""
    if path is not None:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    policy = getattr(model, "policy", None)
    if not isinstance(policy, torch.nn.Module):
        return None
    digest = hashlib.sha256()
    for name, tensor in policy.state_dict().items():
        digest.update(name.encode() + tensor.detach().cpu().numpy().tobytes())
    return digest.hexdigest()
