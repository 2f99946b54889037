"""How hard perturbations are for nominal static policies: relative forward reward, as Markdown tables.

    OMP_NUM_THREADS=1 python scripts/measure_severity.py --robot Ant --models a/model.zip b/model.zip          # a suite
    OMP_NUM_THREADS=1 python scripts/measure_severity.py --robot Ant --models a/model.zip b/model.zip --sweep  # factors

Each model is a PPO policy trained on the unperturbed latent robot, with `vecnormalize.pkl` in a folder of the robot's
name beside it, as RL Zoo leaves it:

    sb3-plastic train --algo ppo --conf-file zoo_configs/ppo.yml --env sb3_plastic/PerturbedAntLatent-v0 --seed 10

Only perturbations from the start are run. A cell is the forward reward of an episode, summed over its steps and
averaged over episodes and models, divided by the same without perturbation; in brackets: by model. `--sweep` multiplies
each family of the suite by growing factors, and gives those at which 75, 50 and 25 % are left: the edges of the
training range and of the two shells outside.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from sb3_plastic.perturbations import ROBOTS, env_id, register_envs
from sb3_plastic.perturbations.kinds import KINDS
from sb3_plastic.perturbations.suites import load_suite
from sb3_plastic.perturbations.vec_env import LocomotionVecEnv

FACTORS = {
    "below": (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05),
    "above": (1.1, 1.2, 1.35, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0, 15.0),
}
LEVELS = (0.75, 0.5, 0.25)


def forward_rewards(path: Path, robot: str, conditions: Sequence[dict[str, Any]], episodes: int, seed: int) -> Any:
    """
    :param path: the model
    :param robot: its robot
    :param conditions: options of `reset`, one for each condition
    :param episodes: of each condition; the n-th has the same seed in all of them
    :param seed: of the first
    :return: forward reward of each condition's episodes, float64 [len(conditions), episodes]; NaN if one broke
    """
    n = len(conditions) * episodes
    venv = make_vec_env(env_id(robot, latent=True), n, vec_env_cls=LocomotionVecEnv)
    env = VecNormalize.load(str(next(path.parent.glob("*/vecnormalize.pkl"))), venv)
    env.training = env.norm_reward = False
    model = PPO.load(path, device="cpu")
    venv.set_options([condition for condition in conditions for _ in range(episodes)])
    venv._seeds = [seed + episode for _ in conditions for episode in range(episodes)]  # seed() counts on over all
    obs = env.reset()
    forward, running = np.zeros(n), np.ones(n, dtype=bool)
    while running.any():
        obs, _, dones, infos = env.step(model.predict(obs, deterministic=True)[0])  # type: ignore[arg-type]
        for i in np.flatnonzero(running):
            forward[i] += np.nan if infos[i]["sim_unstable"] else infos[i]["reward_forward"]
        running &= ~dones
    env.close()
    return forward.reshape(len(conditions), episodes)


def relative(args: argparse.Namespace, conditions: Sequence[dict[str, Any]]) -> tuple[Any, Any]:
    """Forward reward relative to that without perturbation [len(conditions), models], and the latter [models]."""
    by_model = [
        np.nanmean(forward_rewards(path, args.robot, [{"perturbations": []}, *conditions], args.episodes, args.seed), 1)
        for path in args.models
    ]
    forward = np.stack(by_model, axis=1)
    return forward[1:] / forward[0], forward[0]


def crossing(factors: Sequence[float], shares: Any, level: float) -> float:
    """
    The factor at which the share first falls to a level, by interpolation over the logarithm of the factor.

    :return: NaN if it does not
    """
    xs, ys = np.log([1.0, *factors]), np.array([1.0, *shares])
    for i in range(1, len(xs)):
        if ys[i] <= level:
            return float(np.exp(xs[i - 1] + (xs[i] - xs[i - 1]) * (ys[i - 1] - level) / (ys[i - 1] - ys[i])))
    return float("nan")


def sweep(args: argparse.Namespace, families: Sequence[str]) -> None:
    """Print the share at each factor of each family, and the factors at which it falls to each level."""
    limits = {kind: (KINDS[kind].limits | KINDS[kind].robot_limits.get(args.robot, {}))["scale"] for kind in families}
    possible = {
        (kind, side): [factor for factor in factors if limits[kind][0] <= factor <= limits[kind][1]]
        for kind in families
        for side, factors in FACTORS.items()
    }
    cells = [(kind, side, factor) for (kind, side), factors in possible.items() for factor in factors]
    conditions = [{"perturbations": [{"kind": kind, "value": factor}]} for kind, _, factor in cells]
    shares, nominal = relative(args, conditions)
    print(f"{args.robot}, forward reward, nominal: {', '.join(f'{value:.0f}' for value in nominal)}\n")
    print("| family | " + " | ".join(f"{level:.0%} left" for level in LEVELS) + " | share at each factor |")
    print("| --- |" + " --- |" * (len(LEVELS) + 1))
    for (kind, side), factors in possible.items():
        mean = [shares[i].mean() for i, cell in enumerate(cells) if cell[:2] == (kind, side)]
        edges = " | ".join(f"{crossing(factors, mean, level):.2f}" for level in LEVELS)
        row = ", ".join(f"{factor:g}: {share:.2f}" for factor, share in zip(factors, mean, strict=True))
        print(f"| {kind}, {side} | {edges} | {row} |", flush=True)


def table(args: argparse.Namespace) -> None:
    """Print the share in each scenario of the suite."""
    scenarios = [
        s for s in load_suite(args.suite).scenarios if s.robot == args.robot and not s.onset and s.perturbations
    ]
    shares, nominal = relative(args, [{"scenario": scenario.name} for scenario in scenarios])
    print(f"| scenario | {args.robot} |\n| --- | --- |")
    print(f"| forward reward, nominal | {', '.join(f'{value:.0f}' for value in nominal)} |")
    for scenario, row in zip(scenarios, shares, strict=True):
        print(f"| {scenario.name} | {row.mean():.2f} ({', '.join(f'{share:.2f}' for share in row)}) |")


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", default="nda-v1")
    parser.add_argument("--robot", choices=ROBOTS, required=True)
    parser.add_argument("--models", nargs="+", type=Path, required=True)
    parser.add_argument("--episodes", type=int, default=8)
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--sweep", action="store_true", help="factors of the suite's families instead of its scenarios")
    args = parser.parse_args()
    register_envs()
    if args.sweep:
        scenarios = load_suite(args.suite).scenarios
        sweep(args, sorted({p.kind for s in scenarios if s.split == "extrap1" for p in s.perturbations}))
    else:
        table(args)


if __name__ == "__main__":
    main()
