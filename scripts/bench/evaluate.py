"""Throughput of the evaluation against a loop over SB3's evaluate_policy on the same scenarios, in one run.

    OMP_NUM_THREADS=1 python scripts/bench/evaluate.py [--algorithm plastic] [--tier quick] [--rounds 3]

The loop makes the environment of each scenario, and plays the same episodes, with the same seeds: with as many
environments as episodes, or with one. Making environments counts for both. Nothing is printed unless the returns are
the same: all of them for the loop with several environments; with a single one, actions differ in the last digit
(torch multiplies one row in another way), which a robot amplifies, so there the first 20 steps are compared.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_plastic import PlasticPPO
from sb3_plastic.evaluation import evaluate_adaptation
from sb3_plastic.perturbations import ROBOTS, env_id, load_suite

SEED = 10_000


def loop(model: Any, scenarios: Any, episodes: int, n_envs: int, **env_kwargs: Any) -> np.ndarray:
    """Returns of all episodes by evaluate_policy, [scenarios, episodes], in no order within a scenario."""
    returns = []
    for scenario in scenarios:
        env = make_vec_env(scenario.env_id, n_envs, env_kwargs={"scenario": scenario.name, **env_kwargs})
        row: list[float] = []
        for first in range(SEED, SEED + episodes, n_envs):
            env.seed(first)
            played, _ = evaluate_policy(model, env, n_envs, return_episode_rewards=True)
            assert isinstance(played, list)
            row += played
        returns.append(sorted(row))
        env.close()
    return np.array(returns)


def evaluation(model: Any, scenarios: Any, episodes: int, **settings: Any) -> tuple[np.ndarray, int]:
    """The same by evaluate_adaptation, and the number of steps."""
    common: Any = dict(env=scenarios[0].env_id, scenarios=scenarios, episodes=episodes, controls=("intact",), seed=SEED)
    records = evaluate_adaptation(model, **common, **settings).records
    records = records[records.split != "reference"]
    returns = [sorted(records[records.scenario == s.name]["return"]) for s in scenarios]
    return np.array(returns), int(records.length.sum())


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--robot", choices=ROBOTS, default="HalfCheetah")
    parser.add_argument("--algorithm", choices=("ppo", "plastic"), default="ppo")
    parser.add_argument("--tier", default="quick")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1000, help="of an episode")
    args = parser.parse_args()
    suite = load_suite("nda-v1")
    scenarios, episodes = suite.select(args.tier, args.robot), suite.tiers[args.tier].episodes
    name = env_id(args.robot, latent=True)
    model: Any = PPO("MlpPolicy", name, seed=0, device="cpu")
    if args.algorithm == "plastic":
        model = PlasticPPO("PlasticPolicy", name, seed=0, device="cpu")

    start, _ = evaluation(model, scenarios, 2, steps=20)  # also compiles what is compiled
    if not np.allclose(start, loop(model, scenarios, 2, 1, max_episode_steps=20), rtol=1e-3, atol=1e-3):
        raise SystemExit("The returns of the first 20 steps differ from those of a single environment: no figures.")

    rates: dict[str, list[float]] = {"evaluate_adaptation": [], f"loop, {episodes} environments": [], "loop, 1": []}
    for _ in range(args.rounds):
        begin = time.perf_counter()
        returns, steps = evaluation(model, scenarios, episodes, steps=args.steps)
        ours = time.perf_counter() - begin
        seconds = {"evaluate_adaptation": ours}
        for label, n_envs in ((f"loop, {episodes} environments", episodes), ("loop, 1", 1)):
            begin = time.perf_counter()
            expected = loop(model, scenarios, episodes, n_envs, max_episode_steps=args.steps)
            seconds[label] = time.perf_counter() - begin
            if n_envs > 1 and not np.allclose(returns, expected, rtol=1e-5, atol=1e-4):
                raise SystemExit("The returns differ from those of evaluate_policy: no figures.")
        for label, value in seconds.items():
            rates[label].append(steps / value)
    print(f"{args.robot}, {args.algorithm}, {args.tier}: {len(scenarios)} scenarios, {steps} steps")
    for label, values in rates.items():
        ratio = np.median(np.array(rates["evaluate_adaptation"]) / np.array(values))
        print(f"  {label:<24}{np.median(values):>8.0f} steps/s   evaluate_adaptation is {ratio:.2f} times as fast")


if __name__ == "__main__":
    main()
