"""The layers of the studies of trained agents: where they are, and how they are fitted."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from sb3_plastic.adaptive import AdaptivePolicy
from sb3_plastic.adaptive.agents import layer_around
from sb3_plastic.adaptive.files import is_adaptive_folder, read_config
from sb3_plastic.adaptive.hypotheses import DEFAULT
from sb3_plastic.errors import UserError
from sb3_plastic.evaluation.environment import TrainedIn, make_env
from sb3_plastic.evaluation.loading import load_model
from sb3_plastic.studies.agents import Agent, Arm
from sb3_plastic.studies.commands import run_command
from sb3_plastic.studies.locks import alone
from sb3_plastic.studies.runner import file_name
from sb3_plastic.studies.table import Result

FITTED_STEPS = 400_000
"""Steps of the nominal robot that a layer is fitted on, by default."""

MOST_ENVS = 64
"""More environments than `adapt` steps at once by default: it completes the last step of all of them."""


def layer_name(seed: int, steps: int) -> str:
    """A layer in the name of a cell. :param seed: of its fit :param steps: that it was fitted on"""
    return f"layer{seed}" + (f"_of_{steps}" if steps != FITTED_STEPS else "")


class OfAnAgent(Protocol):
    """A cell that is about an agent."""

    @property
    def robot(self) -> str:
        """Which the agent moves."""

    @property
    def agent(self) -> str:
        """Label."""

    @property
    def agent_seed(self) -> int:
        """Of its training."""


@dataclass(frozen=True)
class Fit:
    """
    A layer to fit.

    :param robot: which the agent moves
    :param agent: label
    :param agent_seed: of its training
    :param layer_seed: of forward model and excitation
    :param steps: of the nominal robot
    """

    robot: str
    agent: str
    agent_seed: int
    layer_seed: int
    steps: int

    @property
    def name(self) -> str:
        """Unique within the study, and the name of a file."""
        return file_name(
            self.robot, self.agent, f"seed{self.agent_seed}", "layer", f"seed{self.layer_seed}", self.steps
        )


def run_fit(cell: Fit, agents: Sequence[Agent], logs: Path) -> Result:
    """
    Fit a layer with `sb3-plastic adapt`, unless that is done.

    :param cell: which
    :param agents: of the study
    :param logs: layers go there
    :return: ``unexplained``: share of the variance that the forward model leaves, its mean and the worst component's
    """
    agent = agent_of(cell, agents)
    folder = layer_folder(agent, cell.layer_seed, logs)
    arguments = ["adapt", "--model", str(agent.model), "--steps", str(cell.steps), "--seed", str(cell.layer_seed)]
    with alone(folder):
        if not is_adaptive_folder(folder):  # its configuration is written last
            run_command([*arguments, "--out", str(folder)], folder.with_suffix(".log"))
    report = read_config(folder)["report"]
    shares = list(report["unexplained"].values())
    return {"fitted_steps": report["n_steps"], "unexplained": [round(float(np.mean(shares)), 5), max(shares)]}


def agent_of(cell: OfAnAgent, agents: Sequence[Agent]) -> Agent:
    """The agent of a cell. :param cell: of the study  :param agents: all of them"""
    return next(a for a in agents if (a.label, a.robot, a.seed) == (cell.agent, cell.robot, cell.agent_seed))


def check_fitted(cell: Fit, agents: Sequence[Agent], logs: Path) -> None:
    """
    Refuse a layer that a former study fitted to something else. Those that the user names are as they are.

    :param cell: the layer
    :param agents: of the study
    :param logs: layers are there
    :raises UserError: if it is around another agent, or was fitted on another number of steps or with other hypotheses
    """
    agent, steps = agent_of(cell, agents), cell.steps
    folder = layer_folder(agent, cell.layer_seed, logs)
    if cell.layer_seed in agent.layers or not is_adaptive_folder(folder):
        return
    layered, (model, _) = AdaptivePolicy.load(folder), load_model(agent.model)
    inside, own = layered.agent.policy.state_dict(), model.policy.state_dict()
    same = inside.keys() == own.keys() and all(torch.equal(inside[name], own[name].cpu()) for name in own)
    fitted = layered.report["n_steps"]
    if not same or not steps <= fitted < steps + MOST_ENVS:
        raise UserError(
            f"{folder} holds a layer around {'this' if same else 'another'} agent, fitted on {fitted} steps: another "
            f"than {agent.label} of seed {agent.seed} with --steps {steps} asks for. Name other --logs, or delete it."
        )
    if {*layered.layer.names} != {"nominal", *DEFAULT}:
        raise UserError(
            f"{folder} holds a layer with the hypotheses {', '.join(layered.layer.names)}: others than the study would "
            f"fit today, {', '.join(DEFAULT)}. Name other --logs, or delete it."
        )


def layer_folder(agent: Agent, seed: int, logs: Path) -> Path:
    """Where a layer is, or is to be fitted. :param agent: inside it  :param seed: of it  :param logs: of the study"""
    name = file_name(agent.robot, agent.label, f"seed{agent.seed}", f"layer{seed}")
    return agent.layers.get(seed, logs / name)


def layer_of(folder: Path, arm: Arm, trained: TrainedIn) -> AdaptivePolicy:
    """
    A fitted layer with the settings of an arm, calibrated.

    :param folder: of the layer
    :param arm: with a layer
    :param trained: the agent's environment
    """
    policy = AdaptivePolicy.load(folder)
    if not arm.layer:
        return policy
    with closing(make_env(dataclasses.replace(trained, vec_normalize=None), 48, 1000)) as venv:
        changed = {"always": None, **arm.layer}  # who always acts need not be among the arm's hypotheses
        settings = dataclasses.replace(policy.layer.settings, **changed)
        return policy.with_settings(settings, venv)


def layer_inside(agent: Agent) -> AdaptivePolicy:
    """The layer that an agent was trained with. :param agent: which  :raises UserError: if none came of it"""
    layered: AdaptivePolicy | None = layer_around(load_model(agent.model)[0].policy)
    if layered is None:
        raise UserError(
            f"{agent.model} was trained with `adaptive`, but has no layer: its forward model predicted nothing yet. "
            "Train longer."
        )
    return layered
