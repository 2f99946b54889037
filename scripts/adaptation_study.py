"""Does plasticity adapt? Train agents under randomised dynamics, evaluate them under novel ones, write the report.

    python scripts/adaptation_study.py --robots HalfCheetah --out docs/results/adaptation --logs logs/adaptation

Everything is done by the commands `sb3-plastic train`, `evaluate` and `report`, which it prints. What is finished is
not done again: kill it, and start it again with the same arguments. One process and thread per job.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SCENARIO = "nda-v1/train/switch"
WRAPPERS = [
    "sb3_plastic.perturbations.vec_env.locomotion_vec_env",
    "sb3_plastic.wrappers.VecPreviousActionReward",
]

AGENTS: dict[str, list[str]] = {
    # label: arguments of `sb3-plastic train`; all see the same observations, previous action and reward among them
    "oja + simple": ["policy_kwargs:dict(rule='oja', modulation='simple')"],
    "bcm + simple": ["policy_kwargs:dict(rule='bcm', modulation='simple')"],
    "hebb": ["policy_kwargs:dict(rule='hebb', modulation='none')"],
    "static SNN": ["policy_kwargs:dict(rule='none')"],
    "MLP": ["ppo", f"vec_env_wrapper:{WRAPPERS}"],
    "oracle": ["ppo", f"vec_env_wrapper:{WRAPPERS}"],
}


def train_command(robot: str, label: str, seed: int, steps: int, folder: Path) -> list[str]:
    """The command that trains an agent."""
    arguments, env_kwargs = AGENTS[label], [f"scenario:'{SCENARIO}'"]
    command = ["train", "--env", f"sb3_plastic/Perturbed{robot}Latent-v0", "-n", str(steps), "--seed", str(seed)]
    if arguments[0] == "ppo":
        command += ["--algo", "ppo", "--conf-file", "zoo_configs/ppo.yml"]
        arguments = arguments[1:]
    if label == "oracle":
        env_kwargs.append("observe_context:True")
    return [*command, "--env-kwargs", *env_kwargs, "-params", *arguments, "--eval-freq", "-1", "-f", str(folder)]


def run(arguments: Sequence[str], log: Path) -> None:
    """
    Run `sb3-plastic`.

    :raises RuntimeError: if it fails, with the end of its output
    """
    print("sb3-plastic", shlex.join(arguments), flush=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    threads = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    with log.open("w") as output:
        command = [sys.executable, "-m", "sb3_plastic.cli", *arguments]
        code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | threads).returncode
    if code:
        raise RuntimeError(f"{shlex.join(arguments)} failed:\n{log.read_text()[-2000:]}")


def train_and_evaluate(robot: str, label: str, seed: int, args: argparse.Namespace) -> Path:
    """
    :param robot: robot
    :param label: a key of `AGENTS`
    :param seed: of the training
    :return: the results folder of its evaluation
    """
    folder = args.logs / robot / label.replace(" + ", "_").replace(" ", "_") / f"seed_{seed}"
    training, results = folder / "training", folder / "evaluation"
    name = f"sb3_plastic-Perturbed{robot}Latent-v0"
    if not list(training.glob(f"*/{name}_1/{name}.zip")):  # written last
        shutil.rmtree(training, ignore_errors=True)
        run(train_command(robot, label, seed, args.steps, training), folder / "train.log")
    (model,) = training.glob(f"*/{name}_1/{name}.zip")
    if not (results / "summary.json").is_file():  # likewise
        names = ["--label", label, "--train-seed", str(seed)]
        run(
            ["evaluate", "--model", str(model), *names, "--tier", args.tier, "--out", str(results)],
            folder / "evaluate.log",
        )
    return results


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--robots", nargs="+", default=["HalfCheetah", "Ant"])
    parser.add_argument("--agents", nargs="+", default=list(AGENTS), choices=AGENTS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=300_000, help="of each training")
    parser.add_argument("--tier", default="quick")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--logs", type=Path, default=Path("logs/adaptation"), help="models and evaluations go there")
    parser.add_argument("--out", type=Path, default=Path("docs/results/adaptation"), help="the reports go there")
    args = parser.parse_args()
    for robot in args.robots:
        # Seed by seed, so that what is done when time is up can be compared.
        cells = [(robot, label, seed, args) for seed in args.seeds for label in args.agents]
        with ThreadPoolExecutor(args.jobs) as pool:
            results = list(pool.map(lambda cell: train_and_evaluate(*cell), cells))
        run(["report", *map(str, results), "--out", str(args.out / robot)], args.logs / robot / "report.log")


if __name__ == "__main__":
    main()
