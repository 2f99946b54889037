"""How fast does PlasticPPO train, beside SB3's PPO and sb3-contrib's RecurrentPPO? Prints a table, writes JSON.

    OMP_NUM_THREADS=1 python scripts/bench/train.py --json train.json

Each algorithm has 8 environments in one process, rollouts of 2048 samples and 10 epochs; the plastic policy is oja +
simple, 64-64, two ticks. Minibatches are of 512 samples for PlasticPPO, as in zoo_configs, and of the default size for
PPO (64) and RecurrentPPO (128); many small ones take longer than few large ones, so --batch-size gives all the same.
--defaults names nothing at all: each algorithm has the rollouts, minibatches and epochs of its class.
The algorithms take turns, so that a busy machine slows all of them alike; figures are medians. Before any speed is
printed, the replay of a rollout must equal the rollout (the first log ratios are 0), and the gradients of the fused
backend those of the reference.

The time of an iteration is split into physics (MuJoCo), environment (the rest of its step, vector environment and
normalisation), policy (the rest of the rollout) and update.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import gymnasium
import mujoco
import stable_baselines3
import torch
from common import CLOCKS, timed
from gymnasium.envs.mujoco.mujoco_env import MujocoEnv
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecNormalize

import sb3_plastic
from sb3_plastic import PlasticPPO
from sb3_plastic.files import replace_file
from sb3_plastic.snn.scan import get_num_threads, set_num_threads

N_ENVS = 8
PARTS = ("physics", "environment", "policy", "update")


def make(name: str, env_id: str, n_steps: int | None, batch_size: int | None = None) -> OnPolicyAlgorithm:
    """An algorithm on environments of its own. Without a number of steps it has the defaults of its class."""
    env = VecNormalize(make_vec_env(env_id, N_ENVS, seed=0))
    common: dict[str, Any] = dict(seed=0, device="cpu")
    if n_steps:
        common |= dict(n_steps=n_steps, n_epochs=10)
    if name.startswith("PlasticPPO") and n_steps:
        batch_size = batch_size or min(512, N_ENVS * n_steps)
    if batch_size:
        common["batch_size"] = batch_size
    if name == "PPO":
        return PPO("MlpPolicy", env, **common)
    if name == "RecurrentPPO":
        from sb3_contrib import RecurrentPPO

        return RecurrentPPO("MlpLstmPolicy", env, **common)
    rule = {"PlasticPPO": "oja", "PlasticPPO, static": "none"}[name]
    return PlasticPPO("PlasticPolicy", env, policy_kwargs=dict(rule=rule), **common)


def check(env_id: str, n_steps: int | None) -> None:
    """Exit unless the replay is exact and the backends agree."""
    model = make("PlasticPPO", env_id, n_steps)
    assert isinstance(model, PlasticPPO)
    collect(model)
    batch = next(model.rollout_buffer.get(model.batch_size))
    gradients = []
    for backend in ("fused", "reference"):
        model.policy.snn.backend = backend
        _, log_prob, _ = model.policy.evaluate_actions(batch.observations, batch.actions)  # type: ignore[arg-type]
        if backend == "fused" and not torch.allclose(log_prob, batch.old_log_prob, rtol=0, atol=1e-5):
            sys.exit("The replay of a rollout differs from the rollout: no speed is worth printing.")
        model.policy.zero_grad()
        log_prob.sum().backward()
        gradients.append([p.grad for p in model.policy.snn.parameters()])
    for fused, reference in zip(*gradients, strict=True):
        # A spike that rounding tips over would move a few gradients, not all: float32, hence the tolerance.
        if (fused - reference).norm() > 1e-2 * reference.norm() + 1e-6:
            sys.exit("Gradients of the fused and the reference backend differ: no speed is worth printing.")


def collect(model: OnPolicyAlgorithm) -> None:
    """One rollout."""
    _, callback = model._setup_learn(10**9, reset_num_timesteps=False)
    assert model.env is not None
    model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)


def iteration(model: OnPolicyAlgorithm, now: Callable[[], float]) -> dict[str, float]:
    """Microseconds per environment step of one rollout and update, by part."""
    total: dict[str, float] = defaultdict(float)
    assert model.env is not None
    env: Any = model.env
    physics, step = MujocoEnv._step_mujoco_simulation, env.step
    MujocoEnv._step_mujoco_simulation = timed(physics, total, "physics", now)  # type: ignore[method-assign]
    env.step = timed(step, total, "step", now)
    try:
        timed(collect, total, "rollout", now)(model)
    finally:
        MujocoEnv._step_mujoco_simulation, env.step = physics, step  # type: ignore[method-assign]
    timed(model.train, total, "update", now)()
    split = {
        "physics": total["physics"],
        "environment": total["step"] - total["physics"],
        "policy": total["rollout"] - total["step"],
        "update": total["update"],
    }
    return {part: seconds / (N_ENVS * model.n_steps) * 1e6 for part, seconds in split.items()}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="Ant-v5")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--n-steps", type=int, default=256, help="steps of each environment in a rollout")
    parser.add_argument("--batch-size", type=int, help="samples per minibatch of all algorithms")
    parser.add_argument("--defaults", action="store_true", help="name neither: what each class has by itself")
    parser.add_argument("--threads", type=int, help="of the kernels, default all cores")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: for one thread on a busy machine")
    parser.add_argument("--json", type=Path, help="file for the figures")
    args = parser.parse_args()
    if args.defaults:
        args.n_steps = args.batch_size = None
    torch.set_num_threads(1)
    if args.threads:
        set_num_threads(args.threads)
    now = CLOCKS[args.clock]

    check(args.env, args.n_steps)
    names = ["PlasticPPO", "PlasticPPO, static", "PPO"]
    names += ["RecurrentPPO"] if importlib.util.find_spec("sb3_contrib") else []
    models: dict[str, Any] = {name: make(name, args.env, args.n_steps, args.batch_size) for name in names}
    for model in models.values():
        iteration(model, now)  # compilation and first-use allocations
    runs: dict[str, list[dict[str, float]]] = defaultdict(list)
    for _ in range(args.repeats):
        for name, model in models.items():
            runs[name].append(iteration(model, now))

    def speed(name: str) -> float:
        return 1e6 / median(sum(run.values()) for run in runs[name])

    sizes = {name: f"{N_ENVS * model.n_steps} / {model.batch_size}" for name, model in models.items()}
    print("samples of a rollout / minibatch: " + ", ".join(f"{name} {size}" for name, size in sizes.items()))
    print(f"{args.env}, microseconds per environment step, medians of {args.repeats}")
    print(f"{'':20}" + "".join(f"{part:>13}" for part in PARTS) + f"{'steps/s':>10}{'PlasticPPO is':>15}")
    results = {}
    for name in names:
        parts = {part: median(run[part] for run in runs[name]) for part in PARTS}
        ratio = speed("PlasticPPO") / speed(name)
        results[name] = parts | {"steps_per_second": speed(name), "plastic_ratio": ratio}
        print(f"{name:20}" + "".join(f"{parts[p]:13.1f}" for p in PARTS) + f"{speed(name):10.0f}{ratio:14.2f}x")
    if args.json:
        modules = (gymnasium, mujoco, stable_baselines3, torch, sb3_plastic)
        versions = {module.__name__: module.__version__ for module in modules} | {"python": platform.python_version()}
        record = {"env": args.env, "versions": versions, "cores": os.cpu_count(), "results": results}
        record |= {"batch sizes": {name: model.batch_size for name, model in models.items()}}
        record |= {"command": " ".join(sys.argv), "clock": args.clock, "kernel threads": get_num_threads()}
        replace_file(args.json, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
