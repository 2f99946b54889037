"""Studies of trained agents: does the adaptive layer pay, and how sturdy are agents as they are?

sb3-plastic study adaptation --out study --agents plastic=docs/results/learning/agents/plastic_ppo/HalfCheetah-v5_1
sb3-plastic study robustness --out study --agents plastic=logs/a,logs/b "static SNN=logs/c" MLP=logs/d
sb3-plastic study adaptation --out docs/results/adaptation --report-only    # tables and figures of what is published

An agent is a folder with a trained model: a run of RL Zoo, or what `sb3-plastic adapt` wrote, whose layer is then used,
as is one inside the policy (`policy_kwargs=dict(adaptive=True)`), which has no rival estimators. Its environment is one
of our robots, or another that can be perturbed.
Several folders of a label are its trained seeds. Nobody is trained on what is judged. `adaptation` fits a layer to each
agent (once per seed of --seeds) and judges all arms on nda-v2; `robustness` judges agents as they are, their own
plasticity frozen, zeroed and off, under all of nda-v1, noise, and faults of the network itself. Both are one study with
other defaults: --arms and --suites take what the other has. Results gather in --out, whatever was run before.
"""

from __future__ import annotations

import argparse
import fnmatch
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from sb3_plastic.adaptive.hypotheses import RIVALS
from sb3_plastic.errors import UserError, check_choice, unknown
from sb3_plastic.evaluation.records import PROTOCOLS
from sb3_plastic.perturbations.suites import load_suite, none_for, suite_names
from sb3_plastic.studies.agents import ARMS, Agent, read_agents
from sb3_plastic.studies.layers import FITTED_STEPS, Fit, check_fitted, run_fit
from sb3_plastic.studies.options import add_out, add_running, parser_of, place_of, whole
from sb3_plastic.studies.results import origin, read_results, required_results
from sb3_plastic.studies.runner import one_thread, run_cells
from sb3_plastic.studies.table import Result
from sb3_plastic.studies.trial_checks import check_judged, check_trial
from sb3_plastic.studies.trial_report import report_adaptation, report_robustness
from sb3_plastic.studies.trials import (
    OF_THE_AGENT,
    SUITE_SHOWN,
    Trial,
    Watch,
    run_trial,
    run_watch,
)


class Preset(NamedTuple):
    """
    What a study asks, and what it does unless it is told otherwise.

    :param question: the first sentence of its help
    :param arms: keys of ``ARMS``
    :param suites: names of suites
    :param tier: of the suites
    :param report: prints and draws the results
    """

    question: str
    arms: tuple[str, ...]
    suites: tuple[str, ...]
    tier: str
    report: Callable[[Sequence[Result], Path], list[Path]]


ADAPTATION = Preset(
    "Does the adaptive layer pay? Trained agents with it, without it, told the truth, and with rival estimators.",
    ("frozen", "adaptive", "told", *RIVALS),
    ("nda-v2",),
    "quick",
    report_adaptation,
)
ROBUSTNESS = Preset(
    "How sturdy are trained agents as they are, on robots and networks with faults?",
    ("controls",),
    ("nda-v1", "noise-v1", OF_THE_AGENT),
    "full",
    report_robustness,
)


def main(argv: Sequence[str] | None = None) -> None:
    """
    Run the study of adaptation.

    :param argv: arguments; None: those of the process
    """
    _run("adaptation", ADAPTATION, argv)


def robustness(argv: Sequence[str] | None = None) -> None:
    """
    Run the study of robustness.

    :param argv: arguments; None: those of the process
    """
    _run("robustness", ROBUSTNESS, argv)


def _run(name: str, preset: Preset, argv: Sequence[str] | None) -> None:
    """
    Run a study of trained agents.

    :param name: of the study
    :param preset: defaults
    :param argv: arguments; None: those of the process
    :raises UserError: if agents are neither named nor in the results, or a result is of another model
    """
    args = _parser(name, preset).parse_args(argv)
    one_thread()
    if not args.report_only:
        if not args.agents:
            raise UserError("Name the trained agents: --agents LABEL=FOLDER,FOLDER,...")
        agents = read_agents(args.agents)
        place, known = place_of(args), {"agents": agents, "logs": args.logs.absolute()}
        judged, fitted = list(trials(agents, args)), list(fits(agents, args))  # refuse what there is not
        for arm in args.arms:
            if any(agent.can_be_in(arm) for agent in agents) and all(trial.arm != arm for trial in judged):
                raise UserError(
                    f"Nothing is judged in the arm {arm}: faults of the network act only on agents without a layer. "
                    f"Leave it out, or name another suite than {', '.join(args.suites)}."
                )
        for fit in fitted:
            check_fitted(fit, agents, args.logs.absolute())
        check_judged(agents, read_results(args.out))
        for trial in {(trial.robot, trial.agent, trial.agent_seed, trial.suite): trial for trial in judged}.values():
            check_trial(trial, agents)
        run_cells(fitted, partial(run_fit, **known), args.out, place, _unexplained)
        run_cells(judged, partial(run_trial, **known), args.out, place, _nominal)
        run_cells(list(watches(agents, args)), partial(run_watch, **known), args.out, place)
    results = list(required_results(args.out, "robot").values())
    if unknown := {result.get("arm", "frozen") for result in results} - ARMS.keys():
        raise UserError(f"{args.out} has arms that this version does not have: {', '.join(sorted(unknown))}.")
    if not any("scores" in result for result in results):
        raise UserError(f"No agent has been judged yet in {args.out}: run the study to its end.")
    for path in preset.report(results, args.out):
        print(f"Wrote {path}")
    print(origin(results))


def fits(agents: Sequence[Agent], args: argparse.Namespace) -> Iterator[Fit]:
    """
    Layers to fit, if an arm needs them.

    :param agents: of the study
    :param args: of the command
    """
    if any(ARMS[arm].layer is not None for arm in args.arms):
        for agent in agents:
            for seed in [] if agent.layer_inside else agent.layer_seeds(args.seeds):
                yield Fit(agent.robot, agent.label, agent.seed, seed, args.steps)


def trials(agents: Sequence[Agent], args: argparse.Namespace) -> Iterator[Trial]:
    """
    What is judged, agent by agent. Faults of the network act on agents without a layer alone.

    :param agents: of the study
    :param args: of the command
    :raises UserError: on a scenario that there is not, or an agent for which none of the arms makes sense
    """
    for agent in agents:
        if not any(map(agent.can_be_in, args.arms)):
            possible = ", ".join(arm for arm in ARMS if agent.can_be_in(arm))
            why = "has its layer inside, around which no other fits" if agent.layer_inside else "moves no robot of ours"
            raise UserError(f"{agent.label} {why} ({', '.join(args.arms)}): judge it in some of the arms {possible}.")
        suites = judged_on(agent.robot, args.suites, args.scenarios, args.tier)
        for arm in filter(agent.can_be_in, args.arms):
            seeds = [None] if ARMS[arm].layer is None else agent.layer_seeds(args.seeds)
            for suite, patterns in suites.items():
                if suite == OF_THE_AGENT and seeds != [None]:
                    continue
                settings = suite, args.tier, args.episodes, args.first_episode, patterns, args.steps, args.episode_steps
                protocols = tuple(args.protocols or ())
                for seed in seeds:
                    yield Trial(agent.robot, agent.label, agent.seed, seed, arm, *settings, protocols)


def judged_on(
    robot: str, suites: Sequence[str], patterns: Sequence[str] | None, tier: str
) -> dict[str, tuple[str, ...]]:
    """
    The suites that a robot is judged on, each with those of the patterns that it has scenarios for. Suites that have
    none for it are left out, and with patterns so are faults of the agent, which are no scenarios.

    :param robot: of the agent
    :param suites: of the command
    :param patterns: of the command; None: all that the tier has
    :param tier: of the command
    :raises UserError: on a tier that there is not, a pattern that fits nothing, if no suite has anything for the robot,
        or if the unperturbed one is not asked for
    """
    names = {suite: () if suite == OF_THE_AGENT else load_suite(suite).names(robot) for suite in suites}
    if patterns is None:
        for suite in {*suites} - {OF_THE_AGENT}:
            check_choice("tier", tier, load_suite(suite).tiers)
        without = [none_for(load_suite(suite), robot) for suite in suites if suite != OF_THE_AGENT and not names[suite]]
        if len(without) == len(suites):
            raise UserError(f"{' '.join(without)} Name others with --suites.")
        for line in without:
            print(f"{line} It is left out.")
        return {suite: () for suite in suites if suite == OF_THE_AGENT or names[suite]}
    found = {suite: tuple(p for p in patterns if fnmatch.filter(there, p)) for suite, there in names.items()}
    for pattern in patterns:
        if not any(pattern in chosen for chosen in found.values()):
            there = dict.fromkeys(name for some in names.values() for name in some)
            raise unknown(f"scenario of {', '.join(names)} for {robot}:", pattern, there)
    if not any(fnmatch.fnmatchcase("nominal", pattern) for pattern in patterns):
        raise UserError("Speeds are relative to the unperturbed robot: name `nominal` in --scenarios, too.")
    return {suite: chosen for suite, chosen in found.items() if chosen}


def watches(agents: Sequence[Agent], args: argparse.Namespace) -> Iterator[Watch]:
    """
    One layer of each label and robot, for the figure, unless other scenarios are asked for.

    :param agents: of the study
    :param args: of the command
    """
    onsets = args.protocols is None or "onset" in args.protocols
    if "adaptive" in args.arms and SUITE_SHOWN in args.suites and args.scenarios is None and onsets:
        first = {(agent.label, agent.robot): agent for agent in reversed(agents)}
        for agent in first.values():
            seed = agent.layer_seeds(args.seeds)[0]
            yield Watch(agent.robot, agent.label, agent.seed, seed, args.episodes, args.first_episode, args.steps)


def _parser(name: str, preset: Preset) -> argparse.ArgumentParser:
    parser = parser_of(name, preset.question + "\n" + (__doc__ or "").partition("\n")[2])
    add_out(parser)
    add = parser.add_argument
    add("--agents", nargs="+", metavar="LABEL=FOLDER,...", help="trained agents, one folder per trained seed")
    add("--logs", type=Path, default=Path(f"logs/{name}"), help="layers go there (default: %(default)s)")
    add(
        "--arms",
        nargs="+",
        default=preset.arms,
        choices=ARMS,
        metavar="ARM",
        help=f"of {', '.join(ARMS)} (default: {' '.join(preset.arms)})",
    )
    suites = [*suite_names(), OF_THE_AGENT]
    add(
        "--suites",
        nargs="+",
        default=preset.suites,
        choices=suites,
        metavar="SUITE",
        help=f"of {', '.join(suites)} (default: {' '.join(preset.suites)})",
    )
    add("--tier", default=preset.tier, help="scenarios of the suites, of any robot (default: %(default)s)")
    add(
        "--scenarios",
        nargs="+",
        metavar="PATTERN",
        help="these instead of the tier's, names without the suite's: nominal 'novel/wires_*/onset'",
    )
    add("--episodes", type=whole, default=16, help="of each scenario (default: %(default)s)")
    add("--first-episode", type=int, default=20_000, help="seed of the first episode (default: %(default)s)")
    compared = [protocol for protocol in PROTOCOLS if protocol != "horizon"]  # which has no speed relative to another
    add(
        "--protocols",
        nargs="+",
        choices=compared,
        metavar="PROTOCOL",
        help=f"how scenarios are run, of {', '.join(compared)} (default: static onset); lifetime: episode after "
        "episode on the robot that stays damaged",
    )
    add(
        "--episode-steps",
        type=whole,
        help="length of an episode; by default the environment's, of our robots 1000",
    )
    add("--steps", type=whole, default=FITTED_STEPS, help="of the nominal robot, to fit a layer (default: %(default)s)")
    add_running(parser, [0, 1, 2])
    return parser


def _unexplained(result: Result) -> str:
    return f"{result['unexplained'][0]:.1%} of the change unexplained"


def _nominal(result: Result) -> str:
    speeds = [row["forward_reward"] for row in result["scores"] if row["split"] == "nominal"]
    return f"forward reward {speeds[0]:.0f} unperturbed"
