"""What does PlasticityCallback cost? Trains with and without it, in turns, and prints the ratio of processor times.

    OMP_NUM_THREADS=1 python scripts/bench/callback.py --env HalfCheetah-v5

Rollouts are of 8 environments with 256 steps each and updates of 10 epochs, as in zoo_configs. Each training has as
many rollouts as the callback lets pass between two figures, so that it draws one; both write the event files of
TensorBoard. Medians.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from statistics import median

from stable_baselines3.common.env_util import make_vec_env

from sb3_plastic import PlasticityCallback, PlasticPPO
from sb3_plastic.simulator import hush_mujoco


def train(env_id: str, n_steps: int, callback: PlasticityCallback | None, rollouts: int) -> float:
    """
    Train, and write the events to a folder that is thrown away.

    :return: processor time, in seconds
    """
    env = make_vec_env(env_id, n_envs=8, seed=0)
    network = dict(rule="oja", modulation="simple")
    with tempfile.TemporaryDirectory() as folder:
        model = PlasticPPO(
            "PlasticPolicy", env, n_steps=n_steps, seed=0, tensorboard_log=folder, policy_kwargs=network, device="cpu"
        )
        start = time.process_time()
        model.learn(rollouts * n_steps * 8, callback=callback)
        return time.process_time() - start


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="HalfCheetah-v5")
    parser.add_argument("--n-steps", type=int, default=256, help="steps of each environment in a rollout")
    parser.add_argument("--rollouts", type=int, default=PlasticityCallback().every, help="of each training")
    parser.add_argument("--repeats", type=int, default=5, help="trainings with and without")
    args = parser.parse_args()
    hush_mujoco()
    train(args.env, args.n_steps, PlasticityCallback(every=1), 1)  # compiles the kernels, loads matplotlib
    without, with_it = [], []
    for _ in range(args.repeats):
        without.append(train(args.env, args.n_steps, None, args.rollouts))
        with_it.append(train(args.env, args.n_steps, PlasticityCallback(every=args.rollouts), args.rollouts))
    ratios = [b / a for a, b in zip(without, with_it, strict=True)]
    print(f"without {median(without):.2f} s, with {median(with_it):.2f} s of processor time, {args.rollouts} rollouts")
    print(f"PlasticityCallback costs {median(ratios) - 1:.1%} (from {min(ratios) - 1:.1%} to {max(ratios) - 1:.1%})")


if __name__ == "__main__":
    main()
