"""How hard the perturbations of a suite are for nominal static policies: relative forward reward, as Markdown tables.

sb3-plastic study severity --robot Ant --models a/model.zip b/model.zip           # the scenarios of a suite
sb3-plastic study severity --robot Ant --models a/model.zip b/model.zip --sweep   # growing factors

Each model is a PPO policy trained on the unperturbed latent robot, with `vecnormalize.pkl` in a folder of the robot's
name beside it, as RL Zoo leaves it:

sb3-plastic train --algo ppo --conf-file zoo_configs/ppo.yml --env sb3_plastic/PerturbedAntLatent-v0 --seed 10

Only perturbations from the start are run. A cell is the forward reward of an episode, summed over its steps and
averaged over episodes, divided by the same without perturbation, model by model, and then averaged over models; in
brackets: by model. Episodes whose simulation broke are left out. `--sweep` multiplies
each family of the suite by growing factors, and prints the factors at which 75, 50 and 25 % are left: the bounds
of the training range and of the two shells outside it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.env_util import make_vec_env

from sb3_plastic.errors import UserError
from sb3_plastic.evaluation.loading import load_model
from sb3_plastic.export import Normalization
from sb3_plastic.perturbations import ROBOTS, env_id, register_envs
from sb3_plastic.perturbations.kinds import KINDS
from sb3_plastic.perturbations.suites import load_suite
from sb3_plastic.perturbations.vec_env import LocomotionVecEnv
from sb3_plastic.seeding import seed_each
from sb3_plastic.studies.options import parser_of, whole
from sb3_plastic.studies.runner import one_thread

Array = NDArray[np.float64]

FACTORS = {
    "below": (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05),
    "above": (1.1, 1.2, 1.35, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0, 15.0),
}
LEVELS = (0.75, 0.5, 0.25)


def main(argv: Sequence[str] | None = None) -> None:
    """
    Run the measurement.

    :param argv: arguments; None: those of the process
    """
    parser = parser_of("severity", __doc__)
    parser.add_argument("--suite", default="nda-v1", help="default: %(default)s")
    parser.add_argument("--robot", choices=ROBOTS, required=True)
    parser.add_argument("--models", nargs="+", type=Path, required=True, help="of several trainings")
    parser.add_argument("--episodes", type=whole, default=8, help="of each scenario (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=100, help="of the first episode (default: %(default)s)")
    parser.add_argument("--steps", type=whole, default=1000, help="of an episode (default: %(default)s)")
    parser.add_argument("--sweep", action="store_true", help="factors of the suite's families instead of its scenarios")
    args = parser.parse_args(argv)
    for model in args.models:
        if not (model.is_file() and any(model.parent.glob("*/vecnormalize.pkl"))):
            raise UserError(f"{model} is no run of RL Zoo: its zip, with */vecnormalize.pkl beside it.")
    one_thread()
    register_envs()
    rows = sweep(args) if args.sweep else table(args)
    print("\n".join(rows))


def forward_rewards(path: Path, conditions: Sequence[dict[str, Any]], args: argparse.Namespace) -> Array:
    """
    Forward rewards of whole episodes.

    :param path: the model
    :param conditions: options of `reset`, one for each condition
    :param args: ``robot``; ``episodes`` of each condition, the n-th with the same seed in all of them; ``seed`` of the
        first; ``steps`` of an episode
    :return: float64 [len(conditions), episodes]; NaN if the simulation broke
    """
    n = len(conditions) * args.episodes
    env_kwargs = {"max_episode_steps": args.steps}
    venv = make_vec_env(env_id(args.robot, latent=True), n, env_kwargs=env_kwargs, vec_env_cls=LocomotionVecEnv)
    env = Normalization.load(next(path.parent.glob("*/vecnormalize.pkl"))).around(venv)
    model, _ = load_model(path)  # as data, nothing in it is run
    venv.set_options([condition for condition in conditions for _ in range(args.episodes)])
    seed_each(venv, (args.seed + i for _ in conditions for i in range(args.episodes)))
    obs: Any = env.reset()
    state, dones = None, np.ones(n, dtype=bool)
    forward, running = np.zeros(n), np.ones(n, dtype=bool)
    while running.any():
        actions, state = model.predict(obs, state, dones, deterministic=True)
        obs, _, dones, infos = env.step(actions)
        for i in np.flatnonzero(running):
            forward[i] += np.nan if infos[i]["sim_unstable"] else infos[i]["reward_forward"]
        running &= ~dones
    env.close()
    return forward.reshape(len(conditions), args.episodes)


def relative(conditions: Sequence[dict[str, Any]], args: argparse.Namespace) -> tuple[Array, Array]:
    """
    Forward reward relative to that without perturbation.

    :param conditions: options of `reset`
    :param args: as :func:`forward_rewards` takes them, and ``models``
    :return: the ratios [len(conditions), models], and the forward reward without perturbation [models]
    """
    everything = [{"perturbations": []}, *conditions]
    forward = np.stack([np.nanmean(forward_rewards(path, everything, args), 1) for path in args.models], axis=1)
    return forward[1:] / forward[0], forward[0]


def crossing(factors: Sequence[float], shares: Sequence[float], level: float) -> float:
    """
    The factor at which the share first falls to a level, by interpolation over the logarithm of the factor.

    :param factors: in the order of growing severity
    :param shares: what is left at each
    :param level: a share
    :return: NaN if it does not
    """
    xs, ys = np.log([1.0, *factors]), np.array([1.0, *shares])
    for i in range(1, len(xs)):
        if ys[i] <= level:
            return float(np.exp(xs[i - 1] + (xs[i] - xs[i - 1]) * (ys[i - 1] - level) / (ys[i - 1] - ys[i])))
    return float("nan")


def sweep(args: argparse.Namespace) -> list[str]:
    """
    What is left at each factor of each family of the suite, and the factors at which it falls to each level.

    :param args: arguments of the command
    :return: lines of Markdown
    """
    scenarios = load_suite(args.suite).scenarios
    families = sorted({p.kind for s in scenarios if s.split == "extrap1" for p in s.perturbations})
    limits = {
        kind: {**KINDS[kind].limits, **KINDS[kind].robot_limits.get(args.robot, {})}["scale"] for kind in families
    }
    possible = {
        (kind, side): [factor for factor in factors if limits[kind][0] <= factor <= limits[kind][1]]
        for kind in families
        for side, factors in FACTORS.items()
    }
    cells = [(kind, side, factor) for (kind, side), factors in possible.items() for factor in factors]
    conditions = [{"perturbations": [{"kind": kind, "value": factor}]} for kind, _, factor in cells]
    shares, nominal = relative(conditions, args)
    lines = [
        f"{args.robot}, forward reward, nominal: {', '.join(f'{value:.0f}' for value in nominal)}",
        "",
        "| family | " + " | ".join(f"{level:.0%} left" for level in LEVELS) + " | share at each factor |",
        "| --- |" + " --- |" * (len(LEVELS) + 1),
    ]
    for (kind, side), factors in possible.items():
        mean = [shares[i].mean() for i, cell in enumerate(cells) if cell[:2] == (kind, side)]
        edges = " | ".join(f"{crossing(factors, mean, level):.2f}" for level in LEVELS)
        row = ", ".join(f"{factor:g}: {share:.2f}" for factor, share in zip(factors, mean, strict=True))
        lines.append(f"| {kind}, {side} | {edges} | {row} |")
    return lines


def table(args: argparse.Namespace) -> list[str]:
    """
    What is left in each scenario of the suite.

    :param args: arguments of the command
    :return: lines of Markdown
    """
    scenarios = [
        s for s in load_suite(args.suite).scenarios if s.robot == args.robot and not s.onset and s.perturbations
    ]
    shares, nominal = relative([{"scenario": scenario.name} for scenario in scenarios], args)
    lines = [f"| scenario | {args.robot} |", "| --- | --- |"]
    lines.append(f"| forward reward, nominal | {', '.join(f'{value:.0f}' for value in nominal)} |")
    for scenario, row in zip(scenarios, shares, strict=True):
        lines.append(f"| {scenario.name} | {row.mean():.2f} ({', '.join(f'{share:.2f}' for share in row)}) |")
    return lines
