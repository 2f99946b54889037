"""How hard the scenarios of a suite are for nominal static policies: relative forward reward, as a Markdown table.

    OMP_NUM_THREADS=1 python scripts/measure_severity.py --robot Ant --models ant_0 ant_1 --episodes 8

Each model is a PPO policy trained on the unperturbed latent robot: `ant_0.zip` with its VecNormalize `ant_0.pkl` beside
it. Only scenarios from the start are run. A cell is the forward reward of an episode, summed over its steps and
averaged over episodes and models, divided by the same without perturbation; in brackets: the share of nominal length.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from sb3_plastic.perturbations import ROBOTS, env_id, register_envs
from sb3_plastic.perturbations.suites import load_suite
from sb3_plastic.perturbations.vec_env import LocomotionVecEnv


def measure(model: PPO, env: VecNormalize, scenario: str, seed: int) -> tuple[float, float, int]:
    """Mean forward reward and length of the first episode of each environment, and how many simulations broke."""
    env.seed(seed)
    env.set_options({"scenario": scenario})
    obs = env.reset()
    forward, length, broken = np.zeros(env.num_envs), np.zeros(env.num_envs), 0
    running = np.ones(env.num_envs, dtype=bool)
    while running.any():
        obs, _, dones, infos = env.step(model.predict(obs, deterministic=True)[0])  # type: ignore[arg-type]
        forward += running * np.array([info["reward_forward"] for info in infos])
        length += running
        broken += sum(info["sim_unstable"] for info, runs in zip(infos, running, strict=True) if runs)
        running &= ~dones
    return float(forward.mean()), float(length.mean()), broken


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", default="nda-v1")
    parser.add_argument("--robot", choices=ROBOTS, required=True)
    parser.add_argument("--models", nargs="+", type=Path, required=True, help="without suffix")
    parser.add_argument("--episodes", type=int, default=8)
    parser.add_argument("--seed", type=int, default=100)
    args = parser.parse_args()
    register_envs()
    scenarios = [s for s in load_suite(args.suite).scenarios if s.robot == args.robot and not s.onset]
    print(f"| scenario | {args.robot} | by model |\n| --- | --- | --- |")
    nominal: list[tuple[float, float, int]] = []
    for scenario in scenarios:
        results = []
        for path in args.models:
            venv = make_vec_env(env_id(args.robot, latent=True), args.episodes, vec_env_cls=LocomotionVecEnv)
            env = VecNormalize.load(f"{path}.pkl", venv)
            env.training = env.norm_reward = False
            results.append(measure(PPO.load(path, device="cpu"), env, scenario.name, args.seed))
        nominal = nominal or results
        forward = [r[0] / n[0] for r, n in zip(results, nominal, strict=True)]
        length = np.mean([r[1] / n[1] for r, n in zip(results, nominal, strict=True)])
        broken = sum(r[2] for r in results)
        cells = ", ".join(f"{value:.2f}" for value in forward) + (f"; {broken} simulations broke" if broken else "")
        if scenario.split == "nominal":
            cells += f" ({', '.join(f'{r[0]:.0f}' for r in results)} forward reward)"
        print(f"| {scenario.name} | {np.mean(forward):.2f} ({length:.2f}) | {cells} |", flush=True)


if __name__ == "__main__":
    main()
