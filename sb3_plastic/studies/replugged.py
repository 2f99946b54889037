"""Pendulum, Reacher and Pusher whose motors are plugged in anew in mid-run: SB3's agents, alone and with the layer.

sb3-plastic study replugged --out results/replugged --envs Pendulum-v1 --algos sac ppo --seeds 0 1 2
sb3-plastic study replugged --out results/replugged --report-only

A cell trains an agent on the nominal environment, puts the adaptive layer around it, and plays the same episodes with
the layer and without. A number is the mean reward of a step from the onset on; what is drawn differs by episode. Agents
are kept in the folder of the study.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

from sb3_plastic.adaptive import AdaptivePolicy
from sb3_plastic.export import Normalization
from sb3_plastic.files import replacing
from sb3_plastic.seeding import seed_each
from sb3_plastic.studies.commands import check_recipe, note_recipe
from sb3_plastic.studies.options import above_zero, add_out, add_running, parser_of, place_of, whole
from sb3_plastic.studies.results import origin, required_results
from sb3_plastic.studies.runner import file_name, one_thread, run_cells
from sb3_plastic.studies.table import Result
from sb3_plastic.wrappers import MidRunChange

Array = NDArray[Any]

SIZES = {
    # environment: (motors, steps of an episode here, onset, steps of SAC's training, of PPO's)
    "Pendulum-v1": (1, 200, 100, 6_000, 100_000),
    "Reacher-v5": (2, 150, 50, 20_000, 300_000),
    "Pusher-v5": (7, 200, 100, 50_000, 500_000),
}

NET_ARCH = [64, 64]
"""Of agents and forward models: small ones learn these tasks, and are quick."""

PPO_ARGUMENTS: dict[str, dict[str, Any]] = {
    "Pendulum-v1": dict(n_steps=256, batch_size=256, gamma=0.9, learning_rate=1e-3, use_sde=True, sde_sample_freq=4),
    "Reacher-v5": dict(n_steps=512, batch_size=256, gamma=0.9, learning_rate=5e-4),
    "Pusher-v5": dict(n_steps=512, batch_size=256, gamma=0.95, learning_rate=5e-4),
}

N_TRANSITIONS = 40_000
"""Nominal ones, of which the forward model learns."""

Change = Callable[[np.random.Generator, int], dict[str, Any]]
"""Draws the arguments of ``MidRunChange``, given how many motors there are."""


def reversed_motors(rng: np.random.Generator, n: int) -> dict[str, Any]:
    """Each motor is reversed with probability .5, at least one."""
    signs = rng.choice([-1.0, 1.0], n)
    signs[rng.integers(n)] = -1.0
    return {"wires": np.diag(signs)}


def permuted(rng: np.random.Generator, n: int) -> dict[str, Any]:
    """Every motor is plugged in where another one was, with drawn signs."""
    order = np.arange(n)
    while (order == np.arange(n)).any():
        order = rng.permutation(n)
    return {"wires": np.eye(n)[order] * rng.choice([-1.0, 1.0], n)}


def gravity(rng: np.random.Generator, n: int, g: float) -> dict[str, Any]:
    """Of the pendulum, nominally 10 m/s^2, from the first step on: what matters is to swing up."""
    return {"attributes": {"g": g}, "at": 0}


def changes_of(env_id: str) -> dict[str, Change]:
    """What is changed, by name. :param env_id: a name in ``SIZES``"""
    changes: dict[str, Change] = {"nothing": lambda rng, n: {}, "reversed": reversed_motors}
    if env_id == "Pendulum-v1":
        return changes | {f"g {g:g}": partial(gravity, g=g) for g in (5.0, 14.0)}
    return changes | {"permuted": permuted}


@dataclass(frozen=True)
class Cell:
    """
    One agent and its tests.

    :param env: environment
    :param algo: ``sac`` or ``ppo``
    :param seed: of training and forward model
    :param scale: of all lengths of trainings
    :param episodes: of each change
    """

    env: str
    algo: str
    seed: int
    scale: float = 1.0
    episodes: int = 20

    @property
    def name(self) -> str:
        """Unique within the study."""
        return f"{self.training_name}-{self.episodes}"

    @property
    def training_name(self) -> str:
        """The name of the training, however it is judged."""
        return file_name(self.env, self.algo, f"seed{self.seed}", f"scale{self.scale:g}")


def main(argv: Sequence[str] | None = None) -> None:
    """
    Run the command.

    :param argv: arguments; None: those of the process
    """
    parser = parser_of("replugged", __doc__)
    add_out(parser)
    add_running(parser, [0, 1, 2])
    parser.add_argument("--envs", nargs="+", choices=SIZES, default=list(SIZES), metavar="ENV", help="default: all")
    parser.add_argument("--algos", nargs="+", choices=("sac", "ppo"), default=["sac", "ppo"], help="default: both")
    parser.add_argument("--episodes", type=whole, default=20, help="of each change (default: 20)")
    parser.add_argument("--scale", type=above_zero, default=1.0, help="of all lengths of trainings (default: 1)")
    args = parser.parse_args(argv)
    one_thread()
    if not args.report_only:
        cells = [
            Cell(env, algo, seed, args.scale, args.episodes)
            for env in args.envs
            for seed in args.seeds
            for algo in args.algos
        ]
        run_cells(cells, partial(run, out=args.out), args.out, place_of(args), lambda r: str(r["rewards"]))
    results = required_results(args.out, "env", "algo", "rewards")
    print("\n".join([*table(results), "", origin(list(results.values()))]))


def run(cell: Cell, out: Path) -> Result:
    """
    Train, adapt, and play.

    :param cell: which agent
    :param out: folder of the study
    :return: ``rewards``: for each change the mean reward of a step from the onset on, alone and with the layer
    """
    n_motors, steps, onset, *_ = SIZES[cell.env]
    model, venv = agent_of(cell, out / "agents" / cell.training_name)
    n_transitions = round(N_TRANSITIONS * cell.scale)
    policy = AdaptivePolicy.fit(model, venv, n_steps=n_transitions, seed=cell.seed, net_arch=NET_ARCH)
    venv.close()
    rewards = {}
    for name, change in changes_of(cell.env).items():
        rng = np.random.default_rng(10_000 + cell.seed)
        drawn = [{"at": onset, **change(rng, n_motors)} for _ in range(cell.episodes)]
        rewards[name] = {
            arm: round(float(np.mean(play(acting, cell.env, drawn, steps, 10_000 + cell.seed))), 4)
            for arm, acting in (("alone", policy.prepared(frozen=True)), ("with the layer", policy))
        }
    shares = list(policy.report["unexplained"].values())
    return {"rewards": rewards, "unexplained": round(float(np.mean(shares)), 4)}


def agent_of(cell: Cell, path: Path) -> tuple[BaseAlgorithm, VecEnv]:
    """
    The agent of a cell, trained unless that is done, and its nominal environments.

    :param cell: which
    :param path: its file, without suffix
    :raises UserError: if it was trained with other settings
    """
    _, steps, _, *lengths = SIZES[cell.env]
    length = round(lengths[cell.algo == "ppo"] * cell.scale)
    file, statistics, noted = (path.with_suffix(suffix) for suffix in (".zip", ".pkl", ".yml"))
    venv = make_vec_env(cell.env, 16, seed=cell.seed, env_kwargs={"max_episode_steps": steps})
    given: dict[str, Any] = {"policy_kwargs": {"net_arch": NET_ARCH}, "seed": cell.seed}
    given |= {"learning_rate": 1e-3} if cell.algo == "sac" else PPO_ARGUMENTS[cell.env]
    recipe = given | {"n_timesteps": length}
    if file.is_file():
        check_recipe(noted, recipe)
    else:
        note_recipe(noted, recipe)
        if cell.algo == "sac":
            model: BaseAlgorithm = SAC("MlpPolicy", cell.env, device="cpu", **given)
            model.learn(length)
        else:
            training = VecNormalize(make_vec_env(cell.env, 8, seed=cell.seed), gamma=given["gamma"])
            model = PPO("MlpPolicy", training, device="cpu", **given)
            model.learn(length)
            with replacing(statistics) as part:
                training.save(str(part))
        with replacing(file) as part, part.open("wb") as stream:
            model.save(stream)
        if model.env is not None:
            model.env.close()
    if cell.algo == "sac":
        return SAC.load(file, device="cpu"), venv
    return PPO.load(file, device="cpu"), Normalization.load(statistics).around(venv)


def play(policy: AdaptivePolicy, env_id: str, changes: Sequence[Mapping[str, Any]], steps: int, seed: int) -> Array:
    """
    One episode for each change, all at once.

    :param policy: what acts
    :param env_id: environment
    :param changes: arguments of ``MidRunChange``
    :param steps: of an episode
    :param seed: of the first episode; the others count on
    :return: mean reward of a step from the onset on, [len(changes)]
    """

    def make(change: Mapping[str, Any]) -> gym.Env[Any, Any]:
        return MidRunChange(gym.make(env_id, max_episode_steps=steps), **change)

    venv = DummyVecEnv([partial(make, change) for change in changes])
    seed_each(venv, range(seed, seed + len(changes)))
    observations, state, starts = venv.reset(), None, np.ones(len(changes), bool)
    rewards = np.full((steps, len(changes)), np.nan)
    for t in range(steps):
        actions, state = policy.predict(np.asarray(observations), state, starts, deterministic=True)
        observations, reward, starts, _ = venv.step(actions)
        after = np.array([t >= change.get("at", 0) for change in changes])
        rewards[t, after] = reward[after]
        if starts.any():  # none of these environments ends early
            break
    venv.close()
    return np.nanmean(rewards, 0)


def table(results: Mapping[str, Result]) -> list[str]:
    """
    Markdown: mean over seeds, and the seeds.

    :param results: of the study
    """
    lines = ["| environment | agent | what changes | alone | with the layer |", "|---|---|---|---|---|"]
    groups: dict[tuple[str, str, float, int], list[Result]] = {}
    for result in results.values():
        groups.setdefault(tuple(result[key] for key in ("env", "algo", "scale", "episodes")), []).append(result)
    for (env, algo, scale, episodes), rows in sorted(groups.items()):
        whole = (scale, episodes) == (Cell.scale, Cell.episodes)
        of = "" if whole else f" ({scale:g} of the steps, {episodes} episodes)"
        for change in rows[0]["rewards"]:
            cells = []
            for arm in ("alone", "with the layer"):
                values = [row["rewards"][change][arm] for row in rows]
                cells.append(f"{np.mean(values):.2f} ({', '.join(f'{value:.2f}' for value in values)})")
            lines.append(f"| {env} | {algo.upper()}{of} | {change} | {' | '.join(cells)} |")
    return lines
