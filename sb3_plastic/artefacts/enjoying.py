"""`sb3-plastic enjoy --model`: watch an exported policy, or any model, without running what its files hold.

sb3-plastic enjoy --model logs/plastic_ppo/HalfCheetah-v5_1               # in a window
sb3-plastic enjoy --model ant --no-render --episodes 20                   # an exported folder; needs no display
sb3-plastic enjoy --model m.zip --env HalfCheetah-v5 --no-render --stochastic
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from sb3_plastic.artefacts.environment import environment_of, normalization_of
from sb3_plastic.errors import check_number
from sb3_plastic.evaluation.arguments import add_about_model, model_settings
from sb3_plastic.evaluation.loading import load_model, model_file
from sb3_plastic.evaluation.settings import ModelSettings
from sb3_plastic.seeding import seed_actions
from sb3_plastic.simulator import hush_mujoco


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command.

    :param argv: arguments; None: those of the process
    :return: exit status
    """
    parser = argparse.ArgumentParser(
        prog="sb3-plastic enjoy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", required=True, help="an exported folder, a model's zip file, a run of RL Zoo, or a folder of `adapt`"
    )
    add_about_model(parser)
    parser.add_argument("--episodes", type=int, default=5, help="how many (default: 5); RL Zoo's -n is of steps")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the first episode; the others count on (default: %(default)s)"
    )
    parser.add_argument("--stochastic", action="store_true", help="draw actions instead of taking the most likely ones")
    parser.add_argument("--no-render", action="store_true", help="show nothing, only print returns")
    args = parser.parse_args(argv)
    returns = play(
        args.model,
        model_settings(args),
        episodes=args.episodes,
        seed=args.seed,
        deterministic=not args.stochastic,
        render=not args.no_render,
    )
    print(f"Mean return of {len(returns)} episodes: {np.mean(returns):.1f}")
    return 0


def play(
    model: str | Path,
    given: ModelSettings,
    *,
    episodes: int,
    seed: int = 0,
    deterministic: bool = True,
    render: bool = False,
) -> list[float]:
    """
    Run episodes, and print the return of each.

    :param model: an exported folder, a model's zip file, or a run of RL Zoo
    :param given: what its file does not tell
    :param episodes: how many
    :param seed: of the first episode; the others count on
    :param deterministic: take the most likely actions
    :param render: show them in a window
    :return: returns
    :raises UserError: if no environment is known, or a file is damaged or refused
    """
    hush_mujoco()
    check_number("episodes", episodes, at_least=1, integer=True)
    path = model_file(model)
    agent, _ = load_model(path, given.algo, given.trust)
    returns = []
    with closing(environment_of(path, agent, given, render)) as made:
        normalization = normalization_of(path, given)
        venv = made if normalization is None else normalization.around(made)
        state = None  # an adaptive layer with `lifetime` keeps its estimates
        for episode in range(episodes):
            venv.seed(seed + episode)
            seed_actions(agent, seed + episode)
            observation, starts = venv.reset(), np.ones(1, bool)
            total, done = 0.0, False
            while not done:
                actions, state = agent.predict(observation, state, starts, deterministic=deterministic)
                observation, rewards, starts, _ = venv.step(actions)
                total, done = total + float(rewards[0]), bool(starts[0])
            returns.append(total)
            print(f"Episode {episode + 1}: return {total:.1f}")
    return returns
