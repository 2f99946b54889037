"""Does plasticity adapt? Train agents under randomised dynamics, and evaluate them under novel ones.

sb3-plastic study meta --out study --logs logs/meta --robots HalfCheetah --jobs 2
sb3-plastic study meta --out docs/results/meta --report-only     # figures and tables of what is published

Each agent is trained by `sb3-plastic train` and judged by `sb3-plastic evaluate`; results.csv keeps its scores under
each condition, scores.csv the means over trainings with their intervals. With the evaluations of all agents, in --logs,
`sb3-plastic report` writes a full report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sb3_plastic.evaluation.records import SUMMARY
from sb3_plastic.perturbations import ROBOTS
from sb3_plastic.perturbations.suites import load_suite
from sb3_plastic.report.results import read_results as read_evaluations
from sb3_plastic.studies.commands import configuration, run_command, train_once
from sb3_plastic.studies.meta_report import write_report
from sb3_plastic.studies.meta_scores import CONDITION, SCORES
from sb3_plastic.studies.options import add_out, add_running, parser_of, place_of, whole
from sb3_plastic.studies.results import origin, read_results
from sb3_plastic.studies.runner import file_name, one_thread, run_cells
from sb3_plastic.studies.table import Result

SCENARIO = "nda-v1/train/switch"
WRAPPERS = [
    "sb3_plastic.perturbations.vec_env.locomotion_vec_env",
    "sb3_plastic.wrappers.VecPreviousActionReward",
]
AGENTS: dict[str, tuple[str, str]] = {
    # label: algorithm, and what `-params` changes; all see the previous action and reward
    "oja + simple": ("plastic_ppo", "policy_kwargs:dict(rule='oja', modulation='simple')"),
    "bcm + simple": ("plastic_ppo", "policy_kwargs:dict(rule='bcm', modulation='simple')"),
    "hebb": ("plastic_ppo", "policy_kwargs:dict(rule='hebb', modulation='none')"),
    "static SNN": ("plastic_ppo", "policy_kwargs:dict(rule='none')"),
    "MLP": ("ppo", f"vec_env_wrapper:{WRAPPERS}"),
    "oracle": ("ppo", f"vec_env_wrapper:{WRAPPERS}"),
}


@dataclass(frozen=True)
class Cell:
    """
    One training and its evaluation.

    :param robot: a name in ``ROBOTS``
    :param agent: a key of ``AGENTS``
    :param steps: training steps
    :param tier: tier of the suite that judges
    :param seed: seed of the training
    """

    robot: str
    agent: str
    steps: int
    tier: str
    seed: int

    @property
    def name(self) -> str:
        """Unique within the study, and the name of a file."""
        return file_name(self.robot, self.agent, self.steps, self.tier, f"seed{self.seed}")

    @property
    def training_name(self) -> str:
        """The name of the training, however it is judged."""
        return file_name(self.robot, self.agent, self.steps, f"seed{self.seed}")


def main(argv: Sequence[str] | None = None) -> None:
    """
    Run the study.

    :param argv: arguments; None: those of the process
    """
    parser = parser_of("meta", __doc__)
    add_out(parser)
    parser.add_argument(
        "--logs", type=Path, default=Path("logs/meta"), help="models and evaluations go there (default: %(default)s)"
    )
    parser.add_argument(
        "--robots", nargs="+", default=["HalfCheetah", "Ant"], choices=ROBOTS, help="default: HalfCheetah Ant"
    )
    parser.add_argument("--agents", nargs="+", default=list(AGENTS), choices=AGENTS, help="default: all")
    parser.add_argument("--steps", type=whole, default=300_000, help="of each training (default: %(default)s)")
    tiers = load_suite("nda-v1").tiers
    parser.add_argument("--tier", default="quick", choices=tiers, help="how much is judged (default: %(default)s)")
    add_running(parser, [0, 1, 2])
    args = parser.parse_args(argv)
    one_thread()
    results = read_results(args.out)
    if not args.report_only:
        # Seed by seed, so that what is done when time is up can be compared.
        cells = [
            Cell(robot, label, args.steps, args.tier, seed)
            for robot in args.robots
            for seed in args.seeds
            for label in args.agents
        ]
        results = run_cells(cells, partial(run_cell, logs=args.logs), args.out, place_of(args), _nominal)
    for path in write_report(list(results.values()), args.out):
        print(f"Wrote {path}")
    print(origin(list(results.values())))


def run_cell(cell: Cell, logs: Path) -> Result:
    """
    Train and evaluate one agent.

    :param cell: which
    :param logs: models and evaluations go there
    :return: ``scores``: for each condition the means of ``SCORES`` over its episodes
    """
    algo, changes = AGENTS[cell.agent]
    env_id = f"sb3_plastic/Perturbed{cell.robot}Latent-v0"
    env_kwargs = [f"scenario:'{SCENARIO}'", *(["observe_context:True"] if cell.agent == "oracle" else [])]
    arguments = ["--env", env_id, "-n", str(cell.steps), "--seed", str(cell.seed), "--eval-freq", "-1"]
    arguments += [*configuration(algo), "--env-kwargs", *env_kwargs, "-params", changes]
    folder = logs / cell.training_name
    (model,) = train_once(arguments, algo, env_id, folder / "training").glob("*.zip")
    judged = folder / f"evaluation-{cell.tier}"
    if not (judged / SUMMARY).is_file():  # written last
        names = ["--label", cell.agent, "--train-seed", str(cell.seed), "--tier", cell.tier, "--out", str(judged)]
        run_command(["evaluate", "--model", str(model), *names], folder / f"evaluate-{cell.tier}.log")
    evaluation = read_evaluations([judged])
    scores = []
    for records in (evaluation.records, evaluation.sham):
        means = records.groupby(list(CONDITION))[list(SCORES)].mean().round(4)
        # NaN is no JSON: a score that does not apply is left out.
        scores += [{k: v for k, v in row.items() if v == v} for row in means.reset_index().to_dict("records")]
    return {"scores": scores}


def _nominal(result: Result) -> str:
    nominal = [s["forward_reward"] for s in result["scores"] if s["split"] == "nominal" and s["control"] == "intact"]
    return f"forward reward {nominal[0]:.0f} unperturbed"
