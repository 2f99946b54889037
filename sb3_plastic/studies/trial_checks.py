"""What a study of trained agents refuses before it begins: what could not be judged, or told from other results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

from sb3_plastic.errors import UserError
from sb3_plastic.evaluation.environment import check_scenarios, find_training, make_env
from sb3_plastic.evaluation.protocols import check_onsets, plan
from sb3_plastic.perturbations.registration import ROBOTS
from sb3_plastic.perturbations.suites import Scenario
from sb3_plastic.studies.agents import Agent
from sb3_plastic.studies.layers import agent_of
from sb3_plastic.studies.table import Result
from sb3_plastic.studies.trials import OF_THE_AGENT, Trial, checksum_of_layer, scenarios_of

WHOLE_EPISODE = 1000  # steps; of our robots


def check_trial(cell: Trial, agents: Sequence[Agent]) -> None:
    """
    Refuse protocols that have nothing to run, and scenarios that cannot act on an environment which is not ours, before
    a layer is fitted.

    :param cell: which
    :param agents: of the study
    :raises UserError: as the evaluation does; or without the protocol of the unperturbed robot
    """
    scenarios = scenarios_of(cell)
    if cell.protocols and cell.suite != OF_THE_AGENT:
        _check_protocols(cell.protocols, scenarios)
    if cell.robot in ROBOTS:
        return
    trained = find_training(agent_of(cell, agents).model)
    if cell.episode_steps is None:
        check_onsets(scenarios, trained.time_limit)
    with closing(make_env(trained, 1, cell.episode_steps or trained.time_limit)) as venv:
        check_scenarios(venv, [(scenario.name, scenario.perturbations) for scenario in scenarios])


def _check_protocols(protocols: Sequence[str], scenarios: Sequence[Scenario]) -> None:
    if "static" not in protocols:
        raise UserError(
            "Speeds are relative to the unperturbed robot, which the protocol static runs: name it in --protocols, too."
        )
    planned = {condition.cell.protocol for condition in plan(scenarios, protocols, ("intact",), WHOLE_EPISODE)}
    for protocol in protocols:
        if protocol not in planned:
            raise UserError(
                f"The protocol {protocol} runs none of the scenarios {', '.join(s.name for s in scenarios)}. onset and "
                "removal need an onset; the others need scenarios without one, such as novel/reversed: name them in "
                "--scenarios."
            )


def check_judged(agents: Sequence[Agent], known: Mapping[str, Result]) -> None:
    """
    Refuse agents of whom there are results under the label and seed of another model, or with another layer than they
    are named with.

    :param agents: of the study
    :param known: results of former runs; those that tell no checksum are taken as they are
    :raises UserError: if a result is of another model or layer
    """
    for agent in agents:
        of_it = [r for r in known.values() if agent_of_result(r) == (agent.robot, agent.label, agent.seed)]
        judged = {r["model_sha256"] for r in of_it if "model_sha256" in r}
        if judged and judged != {agent.checksum()}:
            raise UserError(
                f"{agent.label} of seed {agent.seed} is in the results already, another model than {agent.model}. Name "
                "another label or --out."
            )
        for seed, folder in agent.layers.items():
            around = {r["layer_sha256"] for r in of_it if "layer_sha256" in r and r["layer_seed"] == seed}
            if around and around != {checksum_of_layer(folder)}:
                raise UserError(
                    f"{agent.label} of seed {agent.seed} is in the results already with another layer of seed {seed} "
                    f"than {folder}. Name another label or --out."
                )


def agent_of_result(result: Result) -> tuple[Any, ...]:
    """Robot, label and seed. :param result: of a trial"""
    return tuple(result.get(name) for name in ("robot", "agent", "agent_seed"))
