"""What does PlasticityCallback cost? Trains with and without it, in turns, and prints the share of processor time.

    OMP_NUM_THREADS=1 python scripts/bench/callback.py --env HalfCheetah-v5
    OMP_NUM_THREADS=1 python scripts/bench/callback.py --video 200

Rollouts are of 8 environments with 256 steps each and updates of 10 epochs, as in zoo_configs. Each training has as
many rollouts as the callback lets pass between two figures, so that it draws one; with --video, one more training makes
one film and nothing else. All take turns in one process, and write the event files of TensorBoard. What is timed is
the callback itself, and what the logger writes, with and without it: a few tenths of a second, which the difference of
two whole trainings would hide in its noise. Medians.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from statistics import median
from typing import Any
from unittest.mock import patch

from common import timed
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import Logger

from sb3_plastic import PlasticityCallback, PlasticPPO
from sb3_plastic.simulator import hush_mujoco


def train(env_id: str, n_steps: int, callback: PlasticityCallback | None, rollouts: int) -> tuple[float, float]:
    """
    Train, and write the events to a folder that is thrown away.

    :return: processor time of all, and of callback and logger, in seconds
    """
    env = make_vec_env(env_id, n_envs=8, seed=0)
    network = dict(rule="oja", modulation="simple")
    spent = {"callback and logger": 0.0}
    dump = timed(Logger.dump, spent, "callback and logger", time.process_time)
    with tempfile.TemporaryDirectory() as folder, patch.object(Logger, "dump", dump):
        model = PlasticPPO(
            "PlasticPolicy", env, n_steps=n_steps, seed=0, tensorboard_log=folder, policy_kwargs=network, device="cpu"
        )
        if callback is not None:
            for name in ("on_training_start", "on_rollout_end"):
                method = timed(getattr(callback, name), spent, "callback and logger", time.process_time)
                setattr(callback, name, method)
        start = time.process_time()
        model.learn(rollouts * n_steps * 8, callback=callback)
        return time.process_time() - start, spent["callback and logger"]


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="HalfCheetah-v5")
    parser.add_argument("--n-steps", type=int, default=256, help="steps of each environment in a rollout")
    parser.add_argument("--rollouts", type=int, default=PlasticityCallback().every, help="of each training")
    parser.add_argument("--repeats", type=int, default=5, help="trainings with and without")
    parser.add_argument("--video", type=int, default=0, help="steps of the film; 0: none")
    args = parser.parse_args()
    hush_mujoco()
    # Compiles the kernels, loads matplotlib.
    train(args.env, args.n_steps, PlasticityCallback(every=1, video=args.video), 1)
    nothing: dict[str, Any] = dict.fromkeys(("histograms", "figure", "hparams", "layout"), False)
    arms: dict[str, dict[str, Any] | None] = {"no callback": None, "the defaults": {}}
    if args.video:
        arms["a film alone"] = nothing | {"video": args.video}
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in arms}
    for _ in range(args.repeats):
        for name, switches in arms.items():
            callback = None if switches is None else PlasticityCallback(every=args.rollouts, **switches)
            spent[name].append(train(args.env, args.n_steps, callback, args.rollouts))
    whole, logger = (median(values) for values in zip(*spent.pop("no callback"), strict=True))
    print(f"{args.rollouts} rollouts: {whole:.2f} s of the processor, {logger:.3f} s of them the logger's")
    for name, times in spent.items():
        own = median(seconds for _, seconds in times) - logger
        share = f"{own / whole:.1%} of the training"
        print(f"{name}: {own:.3f} s, {share}, as much as {own / whole * args.rollouts:.2f} rollouts")


if __name__ == "__main__":
    main()
