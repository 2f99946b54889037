"""The cells of the studies of trained agents: fit a layer, try an arm, watch a layer learn."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sb3_plastic.adaptive import AdaptivePolicy
from sb3_plastic.errors import UserError, check_choice
from sb3_plastic.evaluation import ModelSettings, TrialSettings, evaluate_adaptation, with_scores
from sb3_plastic.evaluation.controls import Player
from sb3_plastic.evaluation.environment import find_training, make_env
from sb3_plastic.evaluation.fault_kinds import parse_fault
from sb3_plastic.evaluation.faults import FaultyModel
from sb3_plastic.evaluation.loading import checksum_of_model, load_model
from sb3_plastic.evaluation.measures import TAIL, aligned, filled
from sb3_plastic.evaluation.records import Cell, Trace
from sb3_plastic.evaluation.rollout import Row, rollout
from sb3_plastic.perturbations.suites import Scenario, load_suite
from sb3_plastic.studies.agents import ARMS, Agent
from sb3_plastic.studies.layers import FITTED_STEPS, agent_of, layer_folder, layer_inside, layer_name, layer_of
from sb3_plastic.studies.runner import file_name
from sb3_plastic.studies.table import Result
from sb3_plastic.undisturbed import undisturbed_torch

Array = NDArray[Any]

SCORES = ("kept", "relative", "forward_reward", "survived", "net", "adaptation_gain", "steps_to_recovery", "recovered")
"""What is kept of a condition: means over episodes; of steps to recovery the median."""

FAULTS = (
    "weight_noise=0.3",
    "weights_quantised=8",
    "weights_quantised=4",
    "neurons_ablated=0.15",
    "spikes_dropped=0.1",
    "thresholds_drift=0.2",
    "fast_weights_reset=50",
)
OF_THE_AGENT = "faults"
"""The suite of faults of the agent itself, on the unperturbed robot."""

SUITE_SHOWN = "nda-v2"
SHOWN = {
    f"{SUITE_SHOWN}/novel/reversed/onset": "motors",
    f"{SUITE_SHOWN}/novel/wires_signed/onset": "plugs",
    f"{SUITE_SHOWN}/novel/sensors_far_off/onset": "sensor_bias",
    f"{SUITE_SHOWN}/novel/late_1/onset": "late_1",
}
"""Scenarios of the figure, each with the hypothesis whose estimates it shows."""

BIN, AFTER = 25, 500  # steps averaged into one point of a curve, and shown after the onset
CLOSE, CLOSE_BIN = 250, 5  # the same of estimates


@dataclass(frozen=True)
class Trial:
    """
    An agent in an arm, judged on a suite.

    :param robot: which the agent moves
    :param agent: label
    :param agent_seed: of its training
    :param layer_seed: of the forward model; None: without a layer
    :param arm: a key of ``ARMS``
    :param suite: name of a suite, or ``OF_THE_AGENT``
    :param tier: of the suite
    :param episodes: of each scenario
    :param first_episode: seed of the first
    :param scenarios: patterns of their names, instead of the tier's
    :param steps: that the layer was fitted on
    :param episode_steps: length of an episode; None: that of the environment, of our robots 1000
    :param protocols: how scenarios are run, names in ``records.PROTOCOLS``; empty: from the start, and from an onset on
    """

    robot: str
    agent: str
    agent_seed: int
    layer_seed: int | None
    arm: str
    suite: str
    tier: str
    episodes: int
    first_episode: int
    scenarios: tuple[str, ...] = ()
    steps: int = FITTED_STEPS
    episode_steps: int | None = None
    protocols: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Unique within the study, and the name of a file."""
        # A digest: patterns that differ in a wildcard alone would give one name, and many of them too long a one.
        digest = hashlib.sha256(" ".join(sorted({*self.scenarios})).encode()).hexdigest()[:8]
        only = f"only_{digest}" if self.scenarios else ""
        layer = "" if self.layer_seed is None else layer_name(self.layer_seed, self.steps)
        episodes = f"{self.episodes}_from_{self.first_episode}"
        long = "" if self.episode_steps is None else f"{self.episode_steps}_steps"
        named = self.robot, self.agent, f"seed{self.agent_seed}", self.arm, layer, self.suite, self.tier
        return file_name(*named, episodes, only, long, "_".join(self.protocols))


@dataclass(frozen=True)
class Watch:
    """
    A layer whose estimates are noted down in the scenarios ``SHOWN``.

    :param robot: which the agent moves
    :param agent: label
    :param agent_seed: of its training
    :param layer_seed: of the forward model
    :param episodes: of each scenario
    :param first_episode: seed of the first, whose estimates are kept
    """

    robot: str
    agent: str
    agent_seed: int
    layer_seed: int
    episodes: int
    first_episode: int
    steps: int = FITTED_STEPS

    @property
    def name(self) -> str:
        """Unique within the study, and the name of a file."""
        episodes = f"{self.episodes}_from_{self.first_episode}"
        return file_name(
            self.robot,
            self.agent,
            f"seed{self.agent_seed}",
            layer_name(self.layer_seed, self.steps),
            "watched",
            episodes,
        )


def run_trial(cell: Trial, agents: Sequence[Agent], logs: Path) -> Result:
    """
    Judge an agent in an arm.

    :param cell: which
    :param agents: of the study
    :param logs: where the layers are
    :return: ``scores``, one row of ``SCORES`` per condition; ``curves``: by scenario of ``SHOWN``, forward reward
        around the onset, the mean of the episodes and their quartiles; ``model_sha256``: :meth:`Agent.checksum`, and of
        a layer around it ``layer_sha256``
    """
    agent, arm = agent_of(cell, agents), ARMS[cell.arm]
    trained = find_training(agent.model)
    wrappers = [*trained.wrappers, *trained.vec_wrappers, *arm.wrappers]
    about = ModelSettings(wrappers=wrappers, label=cell.agent, train_seed=cell.agent_seed)
    model: Any = agent.model
    checksums = {"model_sha256": agent.checksum()}
    if agent.layer_inside and arm.layer is None and arm.controls is not None:
        model = _WithoutLayer(layer_inside(agent))
        about = dataclasses.replace(
            about, env=trained.env_id, env_kwargs=trained.env_kwargs, normalization=trained.vec_normalize
        )
    elif cell.layer_seed is not None and not agent.layer_inside:  # a policy that normalises by itself
        folder = layer_folder(agent, cell.layer_seed, logs)
        model, checksums["layer_sha256"] = layer_of(folder, arm, trained), checksum_of_layer(folder)
        about = dataclasses.replace(about, env=trained.env_id, env_kwargs=trained.env_kwargs, algo="adaptive")
    of_agent = cell.suite == OF_THE_AGENT
    trials = TrialSettings(
        suite="nda-v1" if of_agent else cell.suite,
        tier=cell.tier,
        scenarios=scenarios_of(cell),
        controls=arm.controls,
        seed=cell.first_episode,
        episodes=cell.episodes,
        steps=cell.episode_steps,
        faults=possible_faults(agent.model) if of_agent else (),
        protocols=cell.protocols or TrialSettings.protocols,
    )
    records, traces = evaluate_adaptation(model, None, about, trials)
    return {"scores": scores_of(records), "curves": curves_of(traces), **checksums}


def checksum_of_layer(folder: Path) -> str:
    """Of the parameters of a layer and the agent within. :param folder: of an adaptive policy"""
    return str(checksum_of_model(AdaptivePolicy.load(folder), None))


def run_watch(cell: Watch, agents: Sequence[Agent], logs: Path) -> Result:
    """
    Note down what a layer estimates.

    :param cell: which
    :param agents: of the study
    :param logs: where the layers are
    :return: ``names`` of the hypotheses; ``watched``: by scenario the share of the robots in which each acts, the
        estimates of the shown hypothesis in the first episode, and what had changed there
    """
    agent = agent_of(cell, agents)
    trained = find_training(agent.model)
    if agent.layer_inside:
        policy = layer_inside(agent)
    else:
        policy = AdaptivePolicy.load(layer_folder(agent, cell.layer_seed, logs))
        trained = dataclasses.replace(trained, vec_normalize=None)
    by_name = {scenario.name: scenario for scenario in load_suite(SUITE_SHOWN).of(cell.robot)}
    seeds = range(cell.first_episode, cell.first_episode + cell.episodes)
    watched = {}
    with undisturbed_torch(), closing(make_env(trained, len(seeds), steps := 500 + CLOSE)) as venv:
        for name, hypothesis in SHOWN.items():
            player = _Watcher(policy, hypothesis)
            trace = rollout(player, venv, [Row(by_name[name].perturbations, seed) for seed in seeds], steps)
            acting, means = (
                _binned(aligned(np.stack(values, 1), trace.onset, TAIL, CLOSE), CLOSE_BIN)
                for values in (player.acting, player.means)
            )
            watched[name] = {
                "acting": np.nanmean(acting, 0).T.round(2).tolist(),
                "estimates": means[0].T.round(2).tolist(),
                "values": str(trace.values[0]),
            }
    return {"names": policy.layer.names, "watched": watched}


class _WithoutLayer:
    """What acts, without the layer around it."""

    def __init__(self, layered: AdaptivePolicy) -> None:
        self.predict = layered.prepared(frozen=True).predict


class _Watcher(Player):
    """Notes down in each step which hypothesis acts, one-hot [B, K], and what one of them estimates, [B, n]."""

    def __init__(self, policy: AdaptivePolicy, hypothesis: str) -> None:
        super().__init__(policy)
        self.policy, self.hypothesis = policy, hypothesis
        self.acting: list[Array] = []
        self.means: list[Array] = []

    def act(self, observations: Any, starts: Array, perturbed: Array) -> Array:
        """See :class:`~sb3_plastic.evaluation.controls.Player`."""
        actions = super().act(observations, starts, perturbed)
        layer, _ = self.policy.split_state(self.state, len(starts))
        self.acting.append(np.eye(len(self.policy.layer.names))[layer.acting])
        known = self.policy.estimates(self.state)  # of this layer's hypotheses
        none = np.zeros((len(actions), 0))
        self.means.append(known[self.hypothesis].mean.copy() if self.hypothesis in known else none)
        return actions


def scenarios_of(cell: Trial) -> tuple[Scenario, ...]:
    """
    The scenarios of a trial: those that it names, or that the tier names.

    :param cell: the trial
    :raises UserError: if there are none
    """
    if cell.suite == OF_THE_AGENT:
        return (Scenario("nda-v1/nominal", cell.robot, "nominal", False, (), "nothing is perturbed"),)
    suite = load_suite(cell.suite)
    if cell.scenarios:
        return suite.select(robot=cell.robot, patterns=cell.scenarios)
    check_choice("tier", cell.tier, suite.tiers)
    chosen = suite.select(cell.tier, cell.robot)
    if not chosen:
        raise UserError(f"{cell.suite} has no scenarios for {cell.robot} in the tier {cell.tier}.")
    return chosen


def possible_faults(path: Path) -> list[str]:
    """Those of ``FAULTS`` that a model can have: an MLP has no thresholds. :param path: of the agent"""
    found, (model, _) = [], load_model(path)
    for fault in FAULTS:
        try:
            FaultyModel(model, parse_fault(fault), 0)
        except UserError:
            continue
        found.append(fault)
    return found


def scores_of(records: pd.DataFrame) -> list[Result]:
    """
    One row per condition, and of a life one per episode in it: ``in_life``, counted from 1.

    :param records: all episodes
    """
    table = with_scores(records)
    last = table["steps"].where(table["removal"] < 0, table["removal"])
    # Right-censored: who is not back at 90 % when it ends has not recovered.
    back = (table["steps_to_recovery"] < last - table["onset"]).where(table["steps_to_recovery"].notna())
    back = back.where(table["protocol"] != "switch")  # whose stretches end sooner
    table = table.assign(recovered=back.astype(float))
    table["in_life"] = (table["episode"] + 1).where(table["protocol"] == "lifetime", 0)
    keys = ["protocol", "split", "scenario", "control"]
    rows = []
    for (*values, _), part in table.groupby([*keys, "in_life"], sort=False):
        means = {**part[list(SCORES)].mean(), "steps_to_recovery": part["steps_to_recovery"].dropna().median()}
        row = dict(zip(keys, values, strict=True)) | {"episodes": len(part)}
        if nth := int(part["in_life"].iloc[0]):
            row["in_life"] = nth
        # NaN is no JSON: a score that does not apply is left out.
        rows.append(row | {name: round(float(value), 4) for name, value in means.items() if value == value})
    return rows


def curves_of(traces: Mapping[Cell, Trace]) -> Result:
    """
    Forward reward around the onset, from 100 steps before, in bins of 25 steps.

    :param traces: of an evaluation
    :return: by scenario of ``SHOWN``: mean, lower and upper quartile of the episodes
    """
    curves = {}
    for cell, trace in traces.items():
        if cell.scenario in SHOWN and cell.protocol == "onset" and cell.control == "intact":
            whole = ~trace.unstable  # where the simulation broke nothing is known of the robot
            if not whole.any():
                continue
            speed = _binned(aligned(filled(trace.forward_reward[whole]), trace.onset[whole], TAIL, AFTER), BIN)
            speed = speed[:, ~np.isnan(speed).all(0)]  # where all episodes have ended there is nothing
            quartiles = np.nanquantile(speed, [0.25, 0.75], axis=0)
            curves[cell.scenario] = np.stack([np.nanmean(speed, 0), *quartiles]).round(3).tolist()
    return curves


def _binned(values: Array, size: int) -> Array:
    """Mean over the steps of each bin: [E, N * size, ...] -> [E, N, ...]."""
    return values.reshape(len(values), values.shape[1] // size, size, *values.shape[2:]).mean(2)
