"""
Train a plastic and a static spiking network on HalfCheetah-v5, and compare them with what they were before.

Run it through scripts/quickstart.sh. What is done already is not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_plastic import PlasticPPO
from sb3_plastic.export import Normalization
from sb3_plastic.files import replace_file
from sb3_plastic.simulator import hush_mujoco
from sb3_plastic.studies.curves import draw_curves, read_curve
from sb3_plastic.studies.lifetime import end_with_parent

ENV = "HalfCheetah-v5"
AGENTS = {"plastic": [], "static": ["-params", "policy_kwargs:dict(rule='none')"]}
"""What each agent's training takes beside the configuration."""
SEED = 1


def train(folder: Path, steps: int, arguments: list[str]) -> None:
    """Train as a user would, with the command that is printed."""
    command = ["sb3-plastic", "train", "--env", ENV, "-n", str(steps), "--seed", str(SEED), "--eval-freq", "-1"]
    command += ["-f", str(folder), "-tb", str(folder / "tensorboard"), "--progress", "--verbose", "0", *arguments]
    # With double quotes around what holds single ones, so that people can read it.
    print("\n$", *(f'"{word}"' if "'" in word else shlex.quote(word) for word in command), flush=True)
    command[0] = str(Path(sys.executable).with_name(command[0]))
    subprocess.run(command, check=True, preexec_fn=partial(end_with_parent, os.getpid()))


def evaluate(folder: Path, n_episodes: int) -> dict[str, list[float]]:
    """
    Returns of a trained agent, as it trained (with exploration noise) and without, and of the same network with the
    weights it began with.

    :param folder: of the agent
    :param n_episodes: of each
    """
    run = folder / "plastic_ppo" / f"{ENV}_1"
    # Five robots at once; all agents meet the same ones.
    robots = make_vec_env(ENV, n_envs=min(5, n_episodes), seed=1000 + SEED)
    env = Normalization.load(run / ENV / "vecnormalize.pkl").around(robots)
    trained = PlasticPPO.load(run / f"{ENV}.zip", device="cpu")
    untrained = PlasticPPO("PlasticPolicy", env, policy_kwargs=trained.policy_kwargs, seed=SEED, device="cpu")
    returns: dict[str, list[float]] = {}
    for name, model, deterministic in (
        ("untrained", untrained, False),
        ("trained, exploring", trained, False),
        ("trained, deterministic", trained, True),
    ):
        env.seed(1000 + SEED)
        episodes, _ = evaluate_policy(model, env, n_episodes, deterministic=deterministic, return_episode_rewards=True)
        assert isinstance(episodes, list)
        returns[name] = [float(episode) for episode in episodes]
    return returns


def draw(root: Path) -> Path:
    """
    Draw the learning curves of all agents.

    :param root: folder of the quickstart
    :return: the picture
    """
    picture = root / "learning_curves.png"
    runs = {agent: root / agent / "plastic_ppo" / f"{ENV}_1" for agent in AGENTS}
    steps = max(int(root.name) // 20, 1)
    draw_curves({agent: [read_curve(run, steps)] for agent, run in runs.items()}, picture)
    return picture


def film(folder: Path, steps: int = 200) -> Path | None:
    """
    Film the trained agent, with its exploration noise, since after so short a training it may stand still without.

    :param folder: of the agent's training
    :param steps: length of the film
    :return: the video; None where nothing can be drawn
    """
    videos = folder / "videos"
    command = ["record", "--env", ENV, "-f", str(folder), "-o", str(videos), "-n", str(steps), "--n-envs", "1"]
    command = [str(Path(sys.executable).with_name("sb3-plastic")), *command, "--stochastic"]
    done = subprocess.run(command, capture_output=True, text=True)
    found = sorted(videos.glob("*.mp4"))
    if done.returncode or not found:
        print(f"No video: {(done.stderr.strip().splitlines() or ['nothing was written'])[-1]}")
        return None
    return found[-1]


def main() -> None:
    """Train what is not trained yet, print the table, draw the curves, film the plastic agent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=150_000, help="training steps of each agent")
    parser.add_argument("--episodes", type=int, default=10, help="episodes of each evaluation")
    args = parser.parse_args()
    torch.set_num_threads(1)
    hush_mujoco()

    root = Path("quickstart") / str(args.steps)
    table = Table(
        title=f"{ENV} after {args.steps} steps, return of {args.episodes} episodes: mean (standard deviation)"
    )
    columns = ("untrained", "trained, exploring", "trained, deterministic")
    table.add_column("spiking network")
    for column in columns:
        table.add_column(column, justify="right")
    for agent, arguments in AGENTS.items():
        folder = root / agent
        result = folder / "returns.json"  # written last: where it is, all else is complete
        if not result.exists():
            shutil.rmtree(folder, ignore_errors=True)
            train(folder, args.steps, arguments)
            replace_file(result, json.dumps(evaluate(folder, args.episodes)))
        returns = json.loads(result.read_text())
        if len(returns[columns[0]]) != args.episodes:
            returns = evaluate(folder, args.episodes)
            replace_file(result, json.dumps(returns))
        cells = [f"{round(np.mean(returns[name]))} ({round(np.std(returns[name]))})" for name in columns]
        table.add_row(agent, *cells)

    print()
    Console().print(table)
    folder = root / "plastic"
    print(f"Learning curves: {draw(root)}")
    video = film(folder)
    if video is not None:
        print(f"The plastic robot, 10 seconds: {video}")
    activate = Path(sys.prefix) / "bin" / "activate"
    activate = activate.relative_to(Path.cwd()) if activate.is_relative_to(Path.cwd()) else activate
    next_steps = {
        f"source {activate}": "",
        f"tensorboard --logdir {root}": "spikes, fast weights, modulators",
        f"sb3-plastic train --env {ENV} --progress": "the real thing: a million steps, into logs/",
        "QUICKSTART_STEPS=1000000 bash scripts/quickstart.sh": "this, with more steps",
    }
    print(f"Models and TensorBoard logs are in {root}. One training of each says little: seeds differ by hundreds.")
    print("An agent may stand still without its exploration noise: docs/results says what is known about that.\n")
    for command, comment in next_steps.items():
        print(f"  {command:<70}{comment and f'  # {comment}'}".rstrip())


if __name__ == "__main__":
    main()
