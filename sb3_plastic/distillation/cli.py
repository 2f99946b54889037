"""`sb3-plastic distill`: a spiking network that acts as a trained model does, in minutes.

sb3-plastic distill --model logs/ppo/HalfCheetah-v5_1/HalfCheetah-v5.zip --out distilled/cheetah
sb3-plastic distill --model m.zip --env Pendulum-v1 --steps 40000 --policy-kwargs "dict(rule='none')" --out distilled/p

The model is written as RL Zoo writes a run. Then teacher and student are judged on the same episodes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv, VecMonitor, VecNormalize

from sb3_plastic.distillation import distill
from sb3_plastic.errors import UserError, check_number
from sb3_plastic.evaluation.arguments import add_model, model_settings
from sb3_plastic.evaluation.environment import TrainedIn, find_training, make_env
from sb3_plastic.evaluation.loading import load_model, model_file
from sb3_plastic.evaluation.outputs import check_out, what_next
from sb3_plastic.evaluation.zoo_files import zoo_files
from sb3_plastic.export import Normalization
from sb3_plastic.files import is_taken, replace_file, replacing
from sb3_plastic.policies import POLICY_ALIASES
from sb3_plastic.progress import add_no_progress, is_wanted
from sb3_plastic.safe import RefusedError, read_literal


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command.

    :param argv: arguments; None: those of the process
    :return: exit status
    """
    args = _parser().parse_args(argv)
    for name, number in (("--n-envs", args.n_envs), ("--episodes", args.episodes)):
        check_number(name, number, at_least=1, integer=True)
    check_out(Path(args.out))
    if is_taken(Path(args.out)):  # the teacher's own run, for instance
        raise UserError(f"{args.out} is not empty. Choose another folder for the student.")
    path = model_file(args.model)
    teacher, _ = load_model(path, args.algo, args.trust)
    trained = find_training(path, model_settings(args))
    episode_steps = trained.time_limit if args.episode_steps is None else args.episode_steps
    check_number("--episode-steps", episode_steps, at_least=1, integer=True)
    normalization = trained.normalization
    try:
        kwargs = read_literal(args.policy_kwargs, "--policy-kwargs")
    except RefusedError:
        kwargs = None
    if not isinstance(kwargs, dict):
        raise UserError(
            f"--policy-kwargs is a dict of numbers, strings, lists and dicts, such as \"dict(rule='none')\", got "
            f"{args.policy_kwargs!r}."
        )
    begun = time.perf_counter()
    with closing(make_env(replace(trained, vec_normalize=None), args.n_envs, episode_steps)) as venv:
        student = distill(
            dict(model=teacher, normalization=normalization),
            venv,
            args.steps,
            seed=args.seed,
            policy=args.policy,
            policy_kwargs=kwargs,
            noise=args.noise,
            tensorboard_log=args.tensorboard_log,
            progress_bar=is_wanted(args),
        )
        took = time.perf_counter() - begun
        normalize = student.get_vec_normalize_env()
        assert normalize is not None
        known_as = zoo_files(path).env_id(model_settings(args)) or trained.env_id
        write(student, normalize, replace(trained, env_id=known_as), Path(args.out))
        for name, agent, seen in (
            ("teacher", teacher, venv if normalization is None else normalization.around(venv)),
            ("student", student, Normalization.of(normalize).around(venv)),
        ):
            returns = judge(agent, seen, args.episodes, 1000 + args.seed)
            print(f"{name}: {np.mean(returns):.6g} (standard deviation {np.std(returns):.3g}, {len(returns)} episodes)")
    print(f"Wrote {args.out} after {took:.0f} s. Next: sb3-plastic {what_next(Path(args.out), trained)}")
    return 0


def write(student: PPO, normalize: VecNormalize, trained: TrainedIn, folder: Path, algo: str = "plastic_ppo") -> None:
    """
    Write a run as RL Zoo does, which it reads itself, and `evaluate`, `enjoy`, `record`, `adapt`, `export`, `train -i`.

    :param student: the model
    :param normalize: what normalises its observations
    :param trained: its environment
    :param folder: is made
    :param algo: the model's algorithm, as RL Zoo calls it
    """
    name = trained.env_id.replace("/", "-")
    about = folder / name
    config = {
        "env_kwargs": dict(trained.env_kwargs),
        "env_wrapper": [*trained.wrappers],
        "vec_env_wrapper": [*trained.vec_wrappers],
        "normalize": True,
    }
    replace_file(
        about / "args.yml",
        yaml.safe_dump({"algo": algo, "env": trained.env_id, "env_kwargs": dict(trained.env_kwargs) or None}),
    )
    replace_file(about / "config.yml", yaml.safe_dump(config))
    with replacing(about / "vecnormalize.pkl") as temporary:
        normalize.save(str(temporary))
    student.save(folder / f"{name}.zip")


def judge(model: Any, venv: VecEnv, n_episodes: int, seed: int) -> list[float]:
    """
    Returns of episodes without exploration noise.

    :param model: with SB3's ``predict``
    :param venv: environments as it knows them
    :param n_episodes: how many
    :param seed: of the environments
    """
    venv.seed(seed)
    returns, _ = evaluate_policy(model, VecMonitor(venv), n_episodes, return_episode_rewards=True)
    assert isinstance(returns, list)
    return returns


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sb3-plastic distill", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add_model(parser, "the teacher: file or folder of a model saved by SB3, sb3-contrib or sb3_plastic")
    add("--out", required=True, help="folder for the student")
    add("--policy", choices=POLICY_ALIASES, default="PlasticPolicy", help="of the student (default: %(default)s)")
    add("--policy-kwargs", default="dict()", metavar="DICT", help="of it, in Python; n_ticks is 4 by default")
    add("--steps", type=int, default=200_000, help="of all environments together (default: %(default)s)")
    add(
        "--noise",
        type=float,
        default=0.1,
        help="on continuous actions meanwhile, in half ranges (default: %(default)s)",
    )
    add("--seed", type=int, default=0, help="of environments, network and training (default: %(default)s)")
    add("--n-envs", type=int, default=8, help="environments that are stepped at once (default: %(default)s)")
    add("--episode-steps", type=int, help="time limit of an episode (default: the environment's own)")
    add("--episodes", type=int, default=20, help="that teacher and student are judged on (default: %(default)s)")
    add("--tensorboard-log", metavar="DIR", help="write the loss there for TensorBoard")
    add_no_progress(parser)
    return parser
