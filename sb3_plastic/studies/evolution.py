"""What does evolution learn? PlasticES beside sb3-contrib's ARS, and agents evolved on damage judged on other damage.

sb3-plastic study evolution --out study --part learning --envs Pendulum-v1 HalfCheetah-v5 Hopper-v5 --minutes 20
sb3-plastic study evolution --out study --part damage --steps 3000000     # plastic and static at equal steps
sb3-plastic study evolution --out study --part rules --steps 3000000      # rules alone, over random weights
sb3-plastic study evolution --out docs/results/evolution --report-only    # tables and figures of what is published

PlasticES is trained with zoo_configs/plastic_es.yml, ARS with RL Zoo's own configuration. Each training ends after
--steps, or after --minutes of processor time, on one thread; the time of evaluations does not count. A training that
was stopped goes on from its last checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from sb3_plastic.es.algorithm import PlasticES
from sb3_plastic.studies import damage
from sb3_plastic.studies.evolution_report import report
from sb3_plastic.studies.evolution_training import FIRST_FINAL, file_stem, recipe, returns_of, statistics, train
from sb3_plastic.studies.locks import alone
from sb3_plastic.studies.options import add_out, add_running, from_zero, parser_of, place_of, whole
from sb3_plastic.studies.results import origin, required_results
from sb3_plastic.studies.runner import file_name, one_thread, run_cells
from sb3_plastic.studies.table import Result

ENVS = ("Pendulum-v1", "HalfCheetah-v5", "Hopper-v5")
N_POINTS = 40
"""Of a learning curve."""

OF_A_POINT = 8
"""Episodes of each point, whatever comes after the training: one training has one curve."""

EPISODES = 20
"""Of each evaluation."""


class Agent(NamedTuple):
    """
    How an agent is trained.

    :param algo: ``plastic_es`` or ``ars``
    :param changes: of the environment's entry in the algorithm's configuration
    """

    algo: str
    changes: Mapping[str, Any]


PLASTIC = {"rule": "oja", "modulation": "simple"}
ON_DAMAGE = {"scenarios": damage.TRAINED_ON}
PARTS: dict[str, dict[str, Agent]] = {
    "learning": {"PlasticES": Agent("plastic_es", {}), "ARS": Agent("ars", {})},
    "damage": {
        "static": Agent("plastic_es", {**ON_DAMAGE, "policy_kwargs": {"rule": "none"}}),
        "plastic": Agent("plastic_es", {**ON_DAMAGE, "policy_kwargs": PLASTIC}),
    },
    "rules": {
        # After Najarro and Risi (2020): weights drawn anew in each episode, rules alone evolve.
        "rules alone": Agent(
            "plastic_es",
            {**ON_DAMAGE, "policy_kwargs": PLASTIC, "evolve": "plasticity", "fixed": "redrawn"},
        ),
    },
}
"""The agents of each part, by name."""


@dataclass(frozen=True)
class Cell:
    """
    One training, and what is judged after it.

    :param part: a key of ``PARTS``
    :param environment: in which it is judged
    :param agent: a key of the part
    :param steps: of the training
    :param seed: of the training
    :param minutes: of processor time, at most; 0: no limit
    :param episodes: of each evaluation
    """

    part: str
    environment: str
    agent: str
    steps: int
    seed: int
    minutes: float
    episodes: int = EPISODES

    @property
    def name(self) -> str:
        """Unique within the study, and the name of a file."""
        return self.training_name + ("" if self.episodes == EPISODES else f"-{self.episodes}_episodes")

    @property
    def training_name(self) -> str:
        """The name of the training, however it is judged."""
        limit = f"{self.minutes:g}min" if self.minutes else ""
        return file_name(self.part, self.environment, self.agent, self.steps, limit, f"seed{self.seed}")


def main(argv: Sequence[str] | None = None) -> None:
    """
    Run the study.

    :param argv: arguments; None: those of the process
    """
    parser = parser_of("evolution", __doc__)
    add_out(parser)
    add = parser.add_argument
    add("--part", choices=PARTS, default="learning", help="default: %(default)s")
    add("--envs", nargs="+", choices=ENVS, default=ENVS, metavar="ENV", help=f"of learning: {', '.join(ENVS)}")
    agents = [agent for part in PARTS.values() for agent in part]
    add("--agents", nargs="+", choices=agents, metavar="AGENT", help="default: all of the part")
    add("--logs", type=Path, default=Path("logs/evolution"), help="models go there (default: %(default)s)")
    add("--steps", type=whole, default=10_000_000, help="of each training (default: %(default)s)")
    add(
        "--minutes", type=from_zero, default=0.0, help="of processor time of each training, at most (default: no limit)"
    )
    add("--episodes", type=whole, default=EPISODES, help="of each evaluation (default: %(default)s)")
    add_running(parser, [0, 1, 2])
    args = parser.parse_args(argv)
    one_thread()
    if not args.report_only:
        envs = args.envs if args.part == "learning" else [f"{damage.ROBOT}-v5"]
        # Seed by seed, so that what is done when time is up can be compared.
        cells = [
            Cell(args.part, env_id, agent, args.steps, seed, args.minutes, args.episodes)
            for seed in args.seeds
            for env_id in envs
            for agent in PARTS[args.part]
            if args.agents is None or agent in args.agents
        ]
        if not cells:
            parser.error(f"--agents: the part {args.part} has {', '.join(PARTS[args.part])}")
        run = partial(run_cell, logs=args.logs)
        run_cells(cells, run, args.out, place_of(args), lambda result: f"return {np.mean(result['returns']):.0f}")
    results = list(required_results(args.out, "part", "agent").values())
    for path in report(results, args.out):
        print(f"Wrote {path}")
    print(origin(results))


def run_cell(cell: Cell, logs: Path) -> Result:
    """
    Train and judge one agent.

    :param cell: which
    :param logs: checkpoints go there
    :return: ``points`` of the learning curve; ``returns`` of fresh episodes after the training; of the other parts also
        ``scores`` on all damage, see :func:`sb3_plastic.studies.damage.judge`
    """
    from sb3_contrib import ARS  # comes with RL Zoo

    agent = PARTS[cell.part][cell.agent]
    algorithm: type[BaseAlgorithm] = PlasticES if agent.algo == "plastic_es" else ARS
    how = recipe(agent.algo, cell.environment, agent.changes)
    folder = logs / cell.training_name
    with alone(folder):  # or another process would remove its checkpoints
        trained = train(how, folder, cell.steps, cell.seed, cell.minutes, N_POINTS, OF_A_POINT)
    model_file, normalize = trained / f"{file_stem(how)}.zip", statistics(how, trained)
    venv = VecNormalize.load(str(normalize), make_vec_env(cell.environment, min(cell.episodes, 10)))
    venv.training = venv.norm_reward = False
    returns = returns_of(algorithm.load(model_file, venv, device="cpu"), venv, cell.episodes, FIRST_FINAL + cell.seed)
    venv.close()
    points = json.loads((trained / "progress.json").read_text())["points"]
    result: Result = {"points": points, "returns": returns}
    if cell.part != "learning":
        first = 10_000 * (1 + cell.seed)
        result["scores"] = damage.judge(model_file, normalize, how.trained_in, cell.episodes, first)
    return result
