"""What the adaptive layer costs: ``predict`` with it against the agent's own, in turns in one run, and a fit.

    OMP_NUM_THREADS=1 python scripts/bench/adaptive.py adaptive/cheetah --n-envs 1 64 --runs 5
    python scripts/bench/adaptive.py --fit MODEL.zip --steps 400000

Times of ``predict`` are processor time of the thread, medians over steps, before and after a change at step 150: motors
reversed (drawn), noise of .1 in all sensors, noise of .5 in all commands; then the median over runs. A fit is split
into stepping, training and calibration.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sb3_plastic.adaptive import AdaptivePolicy
from sb3_plastic.adaptive import policy as fitting
from sb3_plastic.adaptive.hypotheses import DEFAULT
from sb3_plastic.evaluation.environment import find_training, make_env
from sb3_plastic.evaluation.loading import load_model, model_file
from sb3_plastic.evaluation.settings import ModelSettings
from sb3_plastic.perturbations.spec import parse
from sb3_plastic.seeding import seed_each

ONSET, STEPS = 150, 450


CHANGES = {
    "motors reversed": {"kind": "motors_reversed", "value": 1 / 3, "params": {"patterns": "even"}},
    "noisy sensors": {"kind": "obs_noise", "value": 0.1},
    "noisy commands": {"kind": "action_noise", "value": 0.5},
}


def predict_cost(
    policy: AdaptivePolicy, folder: str, n_envs: int, seed: int, change: str
) -> dict[str, tuple[float, float]]:
    """Seconds of the agent and with the layer, before the onset and from 50 steps after it."""
    events = parse([{**CHANGES[change], "schedule": {"form": "onset", "at": ONSET}}])
    with closing(make_env(find_training(model_file(folder), ModelSettings()), n_envs, STEPS)) as venv:
        seed_each(venv, range(seed, seed + n_envs))
        venv.set_options([{"perturbations": list(events)}] * n_envs)
        starts, alone, state = np.ones(n_envs, bool), None, None
        o: Any = venv.reset()
        seconds = []
        for _ in range(STEPS - 1):
            begun = time.thread_time()
            _, alone = policy.agent.predict(o, alone, starts, deterministic=True)
            middle = time.thread_time()
            actions, state = policy.predict(o, state, starts, deterministic=True)
            seconds.append((middle - begun, time.thread_time() - middle))
            o, _, starts, _ = venv.step(actions)
    steps = {"nothing is wrong": slice(50, ONSET), change: slice(ONSET + 50, None)}
    return {name: tuple(np.median(seconds[of_it], 0)) for name, of_it in steps.items()}


def report(policy: AdaptivePolicy, folder: str, n_envs: int, runs: int) -> None:
    """Print the ratio of the two, the median over runs, and each run's."""
    times = [
        {name: cost for change in CHANGES for name, cost in predict_cost(policy, folder, n_envs, seed, change).items()}
        for seed in range(0, 100 * runs, 100)
    ]
    for name in times[0]:
        seconds = np.array([run[name] for run in times])
        ratios = seconds[:, 1] / seconds[:, 0]
        agent, layer = np.median(seconds, 0) * 1e6
        print(
            f"{n_envs:>4} environments, {name:<18}agent {agent:6.0f} us, with the layer {layer:6.0f} us: "
            f"{np.median(ratios):.2f} times ({', '.join(f'{ratio:.2f}' for ratio in sorted(ratios))})",
            flush=True,
        )


def fit_cost(model: str, steps: int, forward_model: str) -> None:
    """Print the seconds of each part of a fit, of the clock and of the processor."""
    seconds: dict[str, tuple[float, float]] = {}

    def timed(name: str) -> None:
        function: Callable[..., Any] = getattr(fitting, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter(), time.process_time()
            result = function(*args, **kwargs)
            seconds[name] = time.perf_counter() - begun[0], time.process_time() - begun[1]
            return result

        setattr(fitting, name, wrapped)

    for name in ("collect", "fit", "calibrate"):
        timed(name)
    path = Path(model)
    agent, _ = load_model(path)
    begun = time.perf_counter()
    with closing(make_env(find_training(path, ModelSettings()), 48, 1000)) as venv:
        AdaptivePolicy.fit(agent, venv, n_steps=steps, forward_model=forward_model)
    parts = ", ".join(f"{name} {wall:.0f} s ({processor:.0f} s)" for name, (wall, processor) in seconds.items())
    print(f"fit of {steps} steps: {time.perf_counter() - begun:.0f} s of wall time (of the processor): {parts}")


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", help="of sb3-plastic adapt")
    parser.add_argument("--n-envs", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--runs", type=int, default=1, help="of each number of environments, on seeds of their own")
    parser.add_argument("--hypotheses", nargs="+", default=[*DEFAULT], help="that the layer has (default: fit's)")
    parser.add_argument("--fit", metavar="MODEL", help="fit this model instead")
    parser.add_argument("--steps", type=int, default=400_000)
    parser.add_argument("--forward-model", default="mlp")
    args = parser.parse_args()
    if args.fit:
        fit_cost(args.fit, args.steps, args.forward_model)
        return
    torch.set_num_threads(1)
    policy = AdaptivePolicy.load(args.folder).with_hypotheses(*args.hypotheses)
    for n_envs in args.n_envs:
        report(policy, args.folder, n_envs, args.runs)


if __name__ == "__main__":
    main()
