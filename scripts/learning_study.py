"""How well do they learn? PlasticPPO, the static network and two PPOs with an MLP, side by side, for a million steps.

    python scripts/learning_study.py --logs logs/learning --out docs/results/learning

Everything is trained by `sb3-plastic train`, whose commands are printed; then each agent plays 20 episodes without and
20 with its exploration noise. What is finished is not done again: kill it, and start it again with the same arguments.
One process and thread per job. `--search` compares candidate settings instead, on other seeds and shorter trainings.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import re
import shlex
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import rl_zoo3
import torch
import yaml
from adaptation_study import run
from learning_curves import plot, read_curve
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecNormalize

from sb3_plastic import PlasticPPO
from sb3_plastic.evaluation.provenance import commit, versions
from sb3_plastic.files import replace_file

ENVS = ["HalfCheetah-v5", "Ant-v5"]
SNN = ["--algo", "plastic_ppo", "--conf-file", "zoo_configs/plastic_ppo.yml"]
MLP = ["--algo", "ppo", "--conf-file", "zoo_configs/ppo.yml"]
RL_ZOO = ["--algo", "ppo", "--conf-file", "{logs}/rl_zoo.yml"]

AGENTS: dict[str, tuple[list[str], list[str]]] = {
    # label: the configuration, and what `-params` changes in it
    "oja + simple": (SNN, []),
    "static SNN": (SNN, ["policy_kwargs:dict(rule='none')"]),
    "MLP": (MLP, []),
    "MLP (RL Zoo)": (RL_ZOO, []),
}

SEARCHED = ("oja + simple", "static SNN", "MLP")  # RL Zoo's is tuned
N_EPISODES = 20


def candidates(env_id: str, label: str) -> dict[str, list[str]]:
    """What a search compares, by name: what ``-params`` changes. As many for each, and four more of plasticity."""
    falling, spiking = "learning_rate:'lin_1e-3'", label != "MLP"
    policy = {
        "oja + simple": "rule='oja'",
        "static SNN": "rule='none'",
        "MLP": "ortho_init=True, net_arch=dict(pi=[64, 64], vf=[64, 64])",  # all: RL Zoo merges those of ours alone
    }[label]
    if env_id == "Ant-v5":
        # HalfCheetah's choice, and three ways to smaller steps: a lower rate, fewer epochs, more exploration noise.
        tried = {
            "lin_1e-3": [falling],
            "lin_3e-4": ["learning_rate:'lin_3e-4'"],
            "4_epochs": [falling, "n_epochs:4"],
            "noise": ["learning_rate:'lin_3e-4'", f"policy_kwargs:dict({policy}, log_std_init=0)"],
        }
        if label == "oja + simple":
            # The critic is an MLP, and MLPs want the lower rate here. Or is it what plasticity adds at the start?
            slow = f"policy_kwargs:dict({policy}, critic_lr_scale=0.3)"
            small = f"policy_kwargs:dict({policy}, alpha_init=0.05)"
            tried |= {"slow_critic": [falling, slow], "4_epochs_slow_critic": [falling, "n_epochs:4", slow]}
            tried |= {"small": [falling, small], "4_epochs_small": [falling, "n_epochs:4", small]}
        return tried
    # Learning rates, constant and falling; with the best of these a shorter horizon, fewer epochs, and more ticks or
    # smaller minibatches.
    rates = (5e-4 if spiking else 1e-3, "lin_5e-4", "lin_1e-3", "lin_2e-3")
    both = {str(rate): [f"learning_rate:{rate!r}"] for rate in rates} | {
        "gamma": [falling, "gamma:0.98"],
        "4_epochs": [falling, "n_epochs:4"],
    }
    if spiking:
        return both | {"4_ticks": [falling, f"policy_kwargs:dict({policy}, n_ticks=4)"]}
    return both | {"batch": [falling, "batch_size:128"]}


def write_rl_zoo_config(path: Path) -> None:
    """RL Zoo's own tuned settings of PPO, which it lists under the environments' former versions."""
    tuned = yaml.safe_load((Path(rl_zoo3.__file__).parent / "hyperparams" / "ppo.yml").read_text())
    entries = {name: tuned[name.replace("v5", "v4")] for name in ENVS}
    replace_file(path, yaml.safe_dump(entries).encode())


def evaluate(algo: str, run_folder: Path, env_id: str, seed: int) -> dict[str, list[float]]:
    """Returns of a trained agent's episodes, without its exploration noise and with it."""
    torch.set_num_threads(1)
    env = VecNormalize.load(str(run_folder / env_id / "vecnormalize.pkl"), make_vec_env(env_id, n_envs=5))
    env.training = env.norm_reward = False
    algorithm: type[BaseAlgorithm] = PlasticPPO if algo == "plastic_ppo" else PPO
    model = algorithm.load(run_folder / f"{env_id}.zip", device="cpu")
    returns: dict[str, list[float]] = {}
    for name, deterministic in (("deterministic", True), ("exploring", False)):
        env.seed(1000 + seed)
        model.set_random_seed(1000 + seed)
        episodes, _ = evaluate_policy(model, env, N_EPISODES, deterministic=deterministic, return_episode_rewards=True)
        assert isinstance(episodes, list)
        returns[name] = [round(float(episode), 1) for episode in episodes]
    return returns


def train_and_evaluate(
    env_id: str, label: str, seed: int, changes: list[str], name: str, args: argparse.Namespace
) -> None:
    """Train one agent, and write its curve and returns as JSON, unless that is done."""
    result = args.out / env_id / f"{name}-seed{seed}.json"
    if result.is_file():
        return
    folder = args.logs / env_id / name / f"seed_{seed}"
    configuration, own = AGENTS[label]
    command = ["train", "--env", env_id, "-n", str(args.steps), "--seed", str(seed), "--eval-freq", "-1"]
    command += [part.format(logs=args.logs) for part in configuration]
    command += ["-params", *own, *changes] if own or changes else []
    algo = configuration[1]
    training = folder / algo / f"{env_id}_1"
    if not (training / f"{env_id}.zip").is_file():  # written last
        shutil.rmtree(folder, ignore_errors=True)
        run([*command, "-f", str(folder)], folder / "train.log")
    record = {
        "environment": env_id,
        "agent": label,
        "changes": changes,
        "seed": seed,
        "steps": args.steps,
        "command": f"sb3-plastic {shlex.join(command)}",
        "commit": commit(),
        "versions": versions(),
        "training": read_curve(training, args.steps // 50),
        **evaluate(algo, training, env_id, seed),
    }
    replace_file(result, (json.dumps(record, indent=1) + "\n").encode())
    print(f"{env_id} {name} seed {seed}: {summary([record])}", flush=True)


def file_name(label: str) -> str:
    """A label as part of the name of a file."""
    return re.sub(r"\W+", "_", label.lower()).strip("_")


def summary(records: list[dict]) -> list[float]:
    """Mean over runs of the training return over the last tenth of the steps, and of both evaluations' means."""
    last = [np.mean(record["training"]["returns"][-5:]) for record in records]
    rest = [[np.mean(record[kind]) for record in records] for kind in ("exploring", "deterministic")]
    return [round(float(np.mean(values)), 1) for values in (last, *rest)]


def search(args: argparse.Namespace) -> None:
    """Train candidates, and list what each gave, with those of former searches."""
    cells = [
        (env_id, label, seed, changes, f"{file_name(label)}-{name}", args)
        for seed in args.seeds
        for env_id in args.envs
        for label in SEARCHED
        if label in args.agents
        for name, changes in candidates(env_id, label).items()
        if not args.candidates or name in args.candidates
    ]
    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(lambda cell: train_and_evaluate(*cell), cells))
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["environment", "agent", "changes", "steps", "seed", "training", "exploring", "deterministic"])
    for env_id in ENVS:
        for label in SEARCHED:
            for name in candidates(env_id, label):
                for file in sorted((args.out / env_id).glob(f"{file_name(label)}-{name}-seed*.json")):
                    record = json.loads(file.read_text())
                    what = [env_id, label, " ".join(record["changes"]), record["steps"], record["seed"]]
                    writer.writerow([*what, *summary([record])])
    replace_file(args.out / "search.csv", table.getvalue().encode())


def study(args: argparse.Namespace) -> None:
    """Train all agents, and draw their curves."""
    # Seed by seed, so that what is done when time is up can be compared.
    nothing: list[str] = []
    cells = [
        (env_id, label, seed, nothing, file_name(label), args)
        for seed in args.seeds
        for label in args.agents
        for env_id in args.envs
    ]
    if not args.report_only:
        with ThreadPoolExecutor(args.jobs) as pool:
            list(pool.map(lambda cell: train_and_evaluate(*cell), cells))
    for env_id in args.envs:
        records: dict[str, list[dict]] = {label: [] for label in args.agents}
        for file in sorted((args.out / env_id).glob("*.json")):
            record = json.loads(file.read_text())
            records.setdefault(record["agent"], []).append(record)
        done = {label: runs for label, runs in records.items() if runs}
        plot({label: [run["training"] for run in runs] for label, runs in done.items()}, args.out / f"{env_id}.png")
        print(f"\n| {env_id} | runs | training, last tenth | exploring | deterministic | seeds, deterministic |")
        print("|---|---|---|---|---|---|")
        for label, runs in done.items():
            seeds = ", ".join(f"{np.mean(run['deterministic']):.0f}" for run in runs)
            numbers = " | ".join(f"{value:.0f}" for value in summary(runs))
            print(f"| {label} | {len(runs)} | {numbers} | {seeds} |")


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", default=ENVS, choices=ENVS)
    parser.add_argument("--agents", nargs="+", default=list(AGENTS), choices=AGENTS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=1_000_000, help="of each training")
    parser.add_argument("--search", action="store_true", help="compare candidates; give it other seeds, logs and out")
    names = sorted({name for env_id in ENVS for label in SEARCHED for name in candidates(env_id, label)})
    parser.add_argument("--candidates", nargs="+", choices=names, help="of a search: these alone")
    parser.add_argument("--report-only", action="store_true", help="report on what is there, and train nothing")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--logs", type=Path, default=Path("logs/learning"), help="models go there")
    parser.add_argument("--out", type=Path, default=Path("docs/results/learning"), help="the results go there")
    args = parser.parse_args()
    write_rl_zoo_config(args.logs / "rl_zoo.yml")
    (search if args.search else study)(args)


if __name__ == "__main__":
    main()
