"""What the adaptive layer costs: ``predict`` with it against the agent's own, in turns in one run, and a fit.

    OMP_NUM_THREADS=1 python scripts/bench/adaptive.py adaptive/cheetah --n-envs 1 64
    python scripts/bench/adaptive.py --fit MODEL.zip --steps 400000

Times of ``predict`` are processor time of the thread, medians over steps, before and after all motors have been drawn
reversed or not at step 150. A fit is split into stepping, training and calibration.
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
from sb3_plastic.evaluation.environment import find_training, make_env
from sb3_plastic.evaluation.loading import load_model, model_file
from sb3_plastic.evaluation.settings import ModelSettings
from sb3_plastic.perturbations.spec import parse
from sb3_plastic.seeding import seed_each

ONSET, STEPS = 150, 450


def predict_cost(folder: str, n_envs: int, perturbation: dict[str, Any]) -> None:
    """Print the ratio of the two, before the onset and from 50 steps after it."""
    policy = AdaptivePolicy.load(folder)
    events = parse([{**perturbation, "schedule": {"form": "onset", "at": ONSET}}])
    with closing(make_env(find_training(model_file(folder), ModelSettings()), n_envs, STEPS)) as venv:
        seed_each(venv, range(n_envs))
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
    for name, steps in (("nothing is wrong", slice(50, ONSET)), ("motors reversed", slice(ONSET + 50, None))):
        agent, layer = np.median(seconds[steps], 0)
        mean = np.sum(seconds[steps], 0)
        print(
            f"{n_envs:>4} environments, {name:<18}agent {agent * 1e6:6.0f} us, with the layer {layer * 1e6:6.0f} us: "
            f"{layer / agent:.2f} times (of the means {mean[1] / mean[0]:.2f})",
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
    parser.add_argument("--fit", metavar="MODEL", help="fit this model instead")
    parser.add_argument("--steps", type=int, default=400_000)
    parser.add_argument("--forward-model", default="mlp")
    args = parser.parse_args()
    if args.fit:
        fit_cost(args.fit, args.steps, args.forward_model)
        return
    torch.set_num_threads(1)
    for n_envs in args.n_envs:
        predict_cost(args.folder, n_envs, {"kind": "motors_reversed", "value": 1 / 3, "params": {"patterns": "even"}})


if __name__ == "__main__":
    main()
