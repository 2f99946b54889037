"""How well do they learn? Plastic networks, a static one, a distilled one, three PPOs with an MLP and one with an LSTM.

sb3-plastic study learning --out study --logs logs/learning --jobs 2
sb3-plastic study learning --out study --search --seeds 100 --steps 300000   # candidate settings, other seeds
sb3-plastic study learning --out docs/results/learning --report-only         # figures and tables of what is published

Each agent is trained by `sb3-plastic train` for a million steps, the distilled one then by `sb3-plastic distill`, and
plays episodes without and with its exploration noise.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import yaml
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_plastic.algorithms import algorithm_class
from sb3_plastic.evaluation.zoo_files import zoo_files
from sb3_plastic.export import Normalization
from sb3_plastic.files import replace_file
from sb3_plastic.studies.candidates import SEARCHED, candidates, noise_by_schedule
from sb3_plastic.studies.commands import configuration, run_command, train_once
from sb3_plastic.studies.curves import read_curve
from sb3_plastic.studies.learning_report import report, report_search, summary
from sb3_plastic.studies.locks import alone
from sb3_plastic.studies.options import add_out, add_running, parser_of, place_of, whole
from sb3_plastic.studies.results import origin, required_results
from sb3_plastic.studies.runner import file_name, one_thread, run_cells
from sb3_plastic.studies.table import Result

LOGS = Path("logs/learning")
ENVS = ["HalfCheetah-v5", "Ant-v5", "Hopper-v5", "Walker2d-v5"]
RL_ZOO = "MLP (RL Zoo)"
DISTILLED = "oja + simple, distilled"
AGENTS = {
    # label: algorithm, and what `-params` changes in its configuration
    "oja + simple": ("plastic_ppo", []),
    "oja + simple, 4 ticks": ("plastic_ppo", ["policy_kwargs:dict(n_ticks=4)", "chunk_len:4"]),
    # More sequences in a minibatch, which are less alike, and gradients through fewer steps.
    "oja + simple, chunks of 4": ("plastic_ppo", ["chunk_len:4"]),
    "bcm + simple": ("plastic_ppo", ["policy_kwargs:dict(rule='bcm')"]),
    "hebb": ("plastic_ppo", ["policy_kwargs:dict(rule='hebb', modulation='none')"]),
    "static SNN": ("plastic_ppo", ["policy_kwargs:dict(rule='none')"]),
    "MLP": ("ppo", []),
    # Its noise falls to where a spiking actor's does; left to PPO, it falls to a third of that.
    "MLP, noise by schedule": ("ppo", [noise_by_schedule("noise_of_snn")]),
    RL_ZOO: ("ppo", []),  # with RL Zoo's own configuration
    "RecurrentPPO": ("ppo_lstm", []),
    DISTILLED: ("plastic_ppo", []),  # from the MLP of the same seed, in N_DISTILLED steps more
}

N_DISTILLED = 200_000
EPISODES = 20


def teacher_of(env_id: str) -> str:
    """The MLP that a distilled agent learns from, the better of two. :param env_id: environment"""
    return "MLP, noise by schedule" if env_id == "HalfCheetah-v5" else "MLP"


@dataclass(frozen=True)
class Cell:
    """
    One training and its evaluation.

    :param environment: its ID
    :param agent: a key of ``AGENTS``
    :param steps: training steps
    :param seed: seed of the training
    :param candidate: of a search, a key of :func:`~sb3_plastic.studies.candidates.candidates`
    :param episodes: of each evaluation
    """

    environment: str
    agent: str
    steps: int
    seed: int
    candidate: str = ""
    episodes: int = EPISODES

    @property
    def name(self) -> str:
        """Unique within the study, and the name of a file."""
        return self.training_name + ("" if self.episodes == EPISODES else f"-{self.episodes}_episodes")

    @property
    def training_name(self) -> str:
        """The name of the training, however it is judged."""
        teacher = f"of {teacher_of(self.environment)}" if self.agent == DISTILLED else ""
        return file_name(self.environment, self.agent, teacher, self.candidate, self.steps, f"seed{self.seed}")


def main(argv: Sequence[str] | None = None) -> None:
    """
    Run the study.

    :param argv: arguments; None: those of the process
    """
    parser = parser_of("learning", __doc__)
    add_out(parser)
    parser.add_argument("--logs", type=Path, default=LOGS, help="models go there (default: %(default)s)")
    parser.add_argument("--envs", nargs="+", default=ENVS[:2], choices=ENVS, help=f"default: {' '.join(ENVS[:2])}")
    parser.add_argument(
        "--agents",
        nargs="+",
        default=list(AGENTS),
        choices=AGENTS,
        metavar="AGENT",
        help=f"of {'; '.join(AGENTS)} (default: all)",
    )
    parser.add_argument("--steps", type=whole, default=1_000_000, help="of each training (default: %(default)s)")
    parser.add_argument("--episodes", type=whole, default=EPISODES, help="of each evaluation (default: %(default)s)")
    add_running(parser, [0, 1, 2])
    parser.add_argument("--search", action="store_true", help="compare candidate settings; use other seeds")
    names = sorted({name for env_id in ENVS for label in SEARCHED for name in candidates(env_id, label)})
    parser.add_argument("--candidates", nargs="+", choices=names, help="of a search: these alone")
    args = parser.parse_args(argv)
    if args.candidates and not args.search:
        parser.error("--candidates are compared by --search, and nothing else")
    one_thread()
    if not args.report_only:
        # Seed by seed, so that what is done when time is up can be compared.
        cells = [
            Cell(env_id, label, args.steps, seed, candidate, args.episodes)
            for seed in args.seeds
            for label in args.agents
            for env_id in args.envs
            for candidate in (_candidates(env_id, label, args.candidates) if args.search else [""])
        ]
        if not cells:
            parser.error("--candidates: none of them is a candidate of these agents in these environments")
        run = partial(run_cell, logs=args.logs)
        run_cells(cells, run, args.out, place_of(args), _returns)
    results = list(required_results(args.out, "environment", "agent", "steps").values())
    if args.search:
        report_search([result for result in results if result["steps"] == args.steps or args.report_only])
    else:  # all, since the longest trainings have the figure of the environment's name
        report(results, AGENTS, args.out, {DISTILLED: teacher_of})
        if unknown := {result["agent"] for result in results} - AGENTS.keys():
            print(f"\nLeft out, since this version has no such agents: {', '.join(sorted(unknown))}")
    print(f"\n{origin(results)}")


def _returns(result: Result) -> str:
    training, exploring, deterministic = summary([result])
    return f"return {training} at the end of the training, {exploring} with its noise, {deterministic} without"


def run_cell(cell: Cell, logs: Path) -> Result:
    """
    Train and evaluate one agent.

    :param cell: which
    :param logs: models go there
    :return: ``training``, its learning curve; ``deterministic`` and ``exploring``, returns of the episodes; ``command``
    """
    if cell.agent == DISTILLED:
        return distilled(cell, logs)
    algo, _ = AGENTS[cell.agent]
    trained, arguments, changes = train(cell, logs)
    return {
        "changes": changes,
        "command": _told("train", arguments, logs),
        "training": read_curve(trained, max(cell.steps // 50, 1)),
        **evaluate(algo, trained / f"{cell.environment}.zip", cell.environment, cell.seed, cell.episodes),
    }


def train(cell: Cell, logs: Path) -> tuple[Path, list[str], list[str]]:
    """
    Train one agent, unless that is done.

    :param cell: which
    :param logs: models go there
    :return: folder of the agent, the arguments of ``sb3-plastic train``, and what the candidate changes
    """
    algo, own = AGENTS[cell.agent]
    changes = [*own, *(candidates(cell.environment, cell.agent)[cell.candidate] if cell.candidate else [])]
    arguments = ["--env", cell.environment, "-n", str(cell.steps), "--seed", str(cell.seed), "--eval-freq", "-1"]
    if cell.agent == RL_ZOO:
        config = write_rl_zoo_config(logs / f"rl_zoo-{cell.training_name}.yml")
        arguments += ["--algo", algo, "--conf-file", str(config)]
    else:
        arguments += configuration(algo)
    arguments += ["-params", *changes] if changes else []
    trained = train_once(arguments, algo, cell.environment, logs / cell.training_name)
    return trained, arguments, changes[len(own) :]


def distilled(cell: Cell, logs: Path) -> Result:
    """
    A spiking agent from an MLP: no learning curve, and no exploration noise of its own.

    :param cell: which
    :param logs: models go there
    """
    teacher, _, _ = train(replace(cell, agent=teacher_of(cell.environment)), logs)
    folder = logs / cell.training_name
    arguments = ["--model", str(teacher), "--steps", str(N_DISTILLED), "--seed", str(cell.seed), "--out", str(folder)]
    model = folder / f"{cell.environment}.zip"
    with alone(folder):
        if not model.is_file():  # written last
            shutil.rmtree(folder, ignore_errors=True)  # `distill` takes no folder that holds anything
            run_command(["distill", *arguments], folder.with_name(f"{folder.name}.log"))
    return {
        "changes": [],
        "command": _told("distill", arguments, logs),
        "training": {"steps": [], "returns": []},
        **evaluate("plastic_ppo", model, cell.environment, cell.seed, cell.episodes, exploring=False),
    }


def _told(command: str, arguments: Sequence[str], logs: Path) -> str:
    """A command as results tell it: with the default folder of models, not with that of this machine."""

    told = (str(LOGS / a.removeprefix(f"{logs}/")) if a.startswith(f"{logs}/") else a for a in arguments)
    return f"sb3-plastic {command} {shlex.join(told)}"


def evaluate(
    algo: str, path: Path, env_id: str, seed: int, n_episodes: int, exploring: bool = True
) -> dict[str, list[float]]:
    """
    Returns of a trained agent's episodes, without its exploration noise and with it.

    :param algo: RL Zoo's name of the algorithm
    :param path: file of the agent, with its VecNormalize beside it, and what wrapped its environments
    :param env_id: environment
    :param seed: of its training
    :param n_episodes: of each kind
    :param exploring: whether there are episodes with noise
    """
    from sb3_plastic.zoo import env_wrapper

    wrapper = env_wrapper(zoo_files(path).config)
    venv = make_vec_env(env_id, n_envs=min(5, n_episodes), wrapper_class=wrapper)
    env = Normalization.load(path.with_suffix("") / "vecnormalize.pkl").around(venv)
    model = algorithm_class(algo).load(path, device="cpu")
    returns: dict[str, list[float]] = {"deterministic": [], "exploring": []}
    for name, deterministic in (("deterministic", True), ("exploring", False))[: 1 + exploring]:
        env.seed(1000 + seed)
        model.set_random_seed(1000 + seed)
        episodes, _ = evaluate_policy(model, env, n_episodes, deterministic=deterministic, return_episode_rewards=True)
        assert isinstance(episodes, list)
        returns[name] = [round(float(episode), 1) for episode in episodes]
    env.close()
    return returns


def write_rl_zoo_config(path: Path) -> Path:
    """
    Write RL Zoo's own tuned settings of PPO, which it lists under the environments' former versions.

    :param path: of the file
    :return: the path
    """
    from sb3_plastic.zoo import rl_zoo_file

    tuned = yaml.safe_load(rl_zoo_file("ppo").read_text())
    entries = {name: tuned[name.replace("v5", "v4")] for name in ENVS}
    replace_file(path, yaml.safe_dump(entries))
    return Path(os.path.relpath(path))


def _candidates(env_id: str, label: str, chosen: Sequence[str] | None) -> list[str]:
    names = list(candidates(env_id, label)) if label in SEARCHED else []
    return [name for name in names if not chosen or name in chosen]
