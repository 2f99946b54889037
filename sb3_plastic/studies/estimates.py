"""Does it pay to read what the layer believes? Agents trained on weak and dead motors, judged on damage of one limb.

sb3-plastic study estimates --out study --logs logs/estimates --seeds 0 1 --jobs 2
sb3-plastic study estimates --out docs/results/estimates --report-only    # the table of what is published

A dead motor asks for another gait, which no compensation gives, so here the agents are trained on it: in each episode
every motor has a strength of its own. `layer` and `layer, estimates read` have an adaptive layer in the loop; its
forward model is that of the undamaged robot (--layer: a folder of `sb3-plastic adapt`). They are judged with one motor
dead, one joint locked and one limb longer; nobody was trained on the last two, and the strengths do not tell of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from sb3_plastic.adaptive.files import CONFIG, read_config
from sb3_plastic.evaluation import ModelSettings, TrialSettings, evaluate_adaptation
from sb3_plastic.perturbations.spec import parse
from sb3_plastic.perturbations.suites import Scenario, load_suite
from sb3_plastic.seals import SUMS
from sb3_plastic.studies.commands import configuration, train_once
from sb3_plastic.studies.damage import JOINTS, ROBOT, Entry, kept, speed
from sb3_plastic.studies.evolution_report import each
from sb3_plastic.studies.options import add_out, add_running, parser_of, place_of, whole
from sb3_plastic.studies.results import origin, required_results
from sb3_plastic.studies.runner import file_name, one_thread, run_cells
from sb3_plastic.studies.table import Result
from sb3_plastic.studies.trials import scores_of

ENV_ID = f"sb3_plastic/Perturbed{ROBOT}Latent-v0"
BATCH = "sb3_plastic.perturbations.vec_env.locomotion_vec_env"
IN_THE_LOOP = "sb3_plastic.adaptive.training.VecAdaptiveLayer"
TRAINED_ON: Entry = {"kind": "strength", "value": {"choice": [0.0, 0.4, 0.7, 1.0, 1.3]}, "each": True}
EPISODES = 20
FIRST_EPISODE = 40_000
DEAD, LOCKED, LONGER = "estimates/dead_", "nda-v2/novel/locked_joint", "nda-v2/novel/longer_limb"
"""How the names of scenarios begin."""


class Agent(NamedTuple):
    """
    What the networks of an agent see. All are plastic spiking agents with the same settings.

    :param truth: the strengths are in the observation
    :param hypotheses: of the layer in the loop; None: there is no layer
    :param critic_keys: what the critic alone sees
    """

    truth: bool
    hypotheses: tuple[str, ...] | None = None
    critic_keys: tuple[str, ...] = ()


AGENTS: dict[str, Agent] = {
    "not told": Agent(False),
    "critic told": Agent(True, (), ("context",)),
    "layer": Agent(True, ("motors",), ("context", "estimates")),
    "layer, estimates read": Agent(True, ("motors",), ("context",)),
    "told": Agent(True),
}
"""Agents by name."""


@dataclass(frozen=True)
class Cell:
    """
    One training, and what is judged after it.

    :param agent: a key of ``AGENTS``
    :param steps: of the training
    :param seed: of the training
    :param episodes: of each scenario
    :param layer: first digits of the checksum of the layer that is in the loop; empty: there is none
    """

    agent: str
    steps: int
    seed: int
    episodes: int = EPISODES
    layer: str = ""

    @property
    def name(self) -> str:
        """Unique within the study, and the name of a file."""
        return self.training_name + ("" if self.episodes == EPISODES else f"-{self.episodes}_episodes")

    @property
    def training_name(self) -> str:
        """The name of the training, however it is judged."""
        layer = f"layer_{self.layer}" if self.layer else ""
        return file_name(ROBOT, self.agent, self.steps, f"seed{self.seed}", layer)


def main(argv: Sequence[str] | None = None) -> None:
    """
    Run the study.

    :param argv: arguments; None: those of the process
    """
    parser = parser_of("estimates", __doc__)
    add_out(parser)
    add = parser.add_argument
    add(
        "--agents",
        nargs="+",
        choices=AGENTS,
        default=list(AGENTS),
        metavar="AGENT",
        help=f"of {'; '.join(AGENTS)} (default: all)",
    )
    add("--layer", type=Path, default=Path(f"docs/results/adaptive/{ROBOT}-v5"), help="default: %(default)s")
    add("--logs", type=Path, default=Path("logs/estimates"), help="models go there (default: %(default)s)")
    add("--steps", type=whole, default=1_000_000, help="of each training (default: %(default)s)")
    add("--episodes", type=whole, default=EPISODES, help="of each scenario (default: %(default)s)")
    add_running(parser, [0, 1, 2])
    args = parser.parse_args(argv)
    one_thread()
    if not args.report_only:
        # Seed by seed, so that what is done when time is up can be compared.
        layers = {label: digest_of(args.layer) for label in args.agents if AGENTS[label].hypotheses is not None}
        cells = [
            Cell(label, args.steps, seed, args.episodes, layers.get(label, ""))
            for seed in args.seeds
            for label in args.agents
        ]
        run = partial(run_cell, layer=args.layer, logs=args.logs)
        run_cells(cells, run, args.out, place_of(args), lambda result: f"{speed(result, DEAD):.2f} m/s, dead motors")
    results = list(required_results(args.out, "agent", "steps", "scores").values())
    print("\n".join(["", *table(results)]))
    if unknown := {result["agent"] for result in results} - AGENTS.keys():
        print(f"Left out, since this version has no such agents: {', '.join(sorted(unknown))}")
    print(origin(results))


def digest_of(layer: Path) -> str:
    """
    First digits of a layer's checksum.

    :param layer: folder of an adaptive policy
    :raises UserError: if it is none
    """
    return str(read_config(layer)[SUMS][CONFIG])[:8]


def run_cell(cell: Cell, layer: Path, logs: Path) -> Result:
    """
    Train and judge one agent.

    :param cell: which
    :param layer: folder of an adaptive policy around an agent of the undamaged robot
    :param logs: models go there
    :return: ``scores``, see :func:`sb3_plastic.studies.trials.scores_of`
    """
    agent, algo = AGENTS[cell.agent], "plastic_ppo"
    wrappers: list[str | Mapping[str, object]] = [BATCH]
    if agent.hypotheses is not None:
        wrappers.append({IN_THE_LOOP: {"layer": str(layer.absolute()), "hypotheses": list(agent.hypotheses)}})
    arguments = ["--env", ENV_ID, "-n", str(cell.steps), "--seed", str(cell.seed), "--eval-freq", "-1"]
    arguments += [
        *configuration(algo),
        "--env-kwargs",
        f"perturbations:{[TRAINED_ON]}",
        f"observe_context:{agent.truth}",
    ]
    arguments += ["-params", f"vec_env_wrapper:{wrappers}"]
    if agent.critic_keys:
        arguments.append(f"policy_kwargs:dict(critic_keys={list(agent.critic_keys)})")
    (model,) = train_once(arguments, algo, ENV_ID, logs / cell.training_name / "training").glob("*.zip")
    trials = TrialSettings(
        scenarios=scenarios(), episodes=cell.episodes, controls=("intact",), seed=FIRST_EPISODE + 1000 * cell.seed
    )
    records, _ = evaluate_adaptation(model, None, ModelSettings(label=cell.agent, train_seed=cell.seed), trials)
    return {"scores": scores_of(records)}


def scenarios() -> tuple[Scenario, ...]:
    """
    The undamaged robot and what was trained on; each motor dead, and nda-v2's locked joints and longer limbs, from the
    start and from an onset.
    """
    made = [Scenario("estimates/nominal", ROBOT, "nominal", False, ())]
    made.append(Scenario("estimates/drawn", ROBOT, "id", False, parse([TRAINED_ON])))
    for joint in JOINTS:
        dead = {"kind": "strength", "target": joint, "value": 0.0}
        late = dead | {"schedule": {"form": "onset", "at": {"uniform": [250, 500]}}}
        made.append(Scenario(f"{DEAD}{joint}", ROBOT, "novel", False, parse([dead])))
        made.append(Scenario(f"{DEAD}{joint}/onset", ROBOT, "novel", True, parse([late])))
    made.extend(one for one in load_suite("nda-v2").of(ROBOT) if one.name.startswith((LOCKED, LONGER)))
    return tuple(made)


def table(results: Sequence[Result]) -> list[str]:
    """
    Speed under each condition, by agent, the mean over trainings and each of them.

    :param results: of the study
    :return: lines of Markdown
    """
    lines = [
        f"| {ROBOT} | million steps | undamaged, m/s | drawn strengths | one dead motor | a locked joint "
        "| a longer limb | kept after a motor dies | a joint locks | a limb grows |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for agent in AGENTS:
        groups: dict[tuple[object, ...], list[Result]] = {}
        for result in results:  # what was trained or judged otherwise is no other seed
            if result["agent"] == agent:
                how = (result["steps"], result.get("episodes") or EPISODES, result.get("layer") or "")
                groups.setdefault((*how, len(result["scores"])), []).append(result)
        for runs in groups.values():
            values = [
                each(runs, partial(speed, of=of), ".2f")
                for of in ("estimates/nominal", "estimates/drawn", DEAD, LOCKED, LONGER)
            ]
            values.extend(each(runs, partial(kept, of=of), ".2f") for of in (DEAD, LOCKED, LONGER))
            lines.append(f"| {agent} | {runs[0]['steps'] / 1e6:.1f} | {' | '.join(values)} |")
    return lines
