"""evaluate_adaptation: a model, a suite, and a folder of results. An interrupted one goes on where it stopped."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Unpack

import pandas as pd
import torch
from stable_baselines3.common.vec_env import VecEnv

from sb3_plastic.errors import UserError
from sb3_plastic.evaluation.controls import Player, controls_of, without_layer
from sb3_plastic.evaluation.environment import (
    TrainedIn,
    as_seen_by,
    called_in_suites,
    check_scenarios,
    find_training,
    make_env,
    robot_of,
)
from sb3_plastic.evaluation.fault_kinds import Fault, parse_fault
from sb3_plastic.evaluation.faults import FaultyModel
from sb3_plastic.evaluation.loading import checksum_of_model, load_model, model_file, taken_apart
from sb3_plastic.evaluation.protocols import REMOVAL, SWITCH, Condition, check_onsets, onset_of, plan
from sb3_plastic.evaluation.provenance import claim, settings_of
from sb3_plastic.evaluation.reading import load_trace, read_json
from sb3_plastic.evaluation.records import (
    LAYER_OFF,
    PLASTICITY,
    RECORDS,
    SETTINGS,
    SUMMARY,
    TRACES,
    Cell,
    Trace,
    joined,
    records_of,
    save_trace,
    write_records,
)
from sb3_plastic.evaluation.rollout import Row, rollout
from sb3_plastic.evaluation.settings import Given, ModelSettings, TrialSettings, changed
from sb3_plastic.files import write_json
from sb3_plastic.finite import check_parameters
from sb3_plastic.perturbations.suites import Scenario, load_suite, none_for
from sb3_plastic.progress import Progress
from sb3_plastic.safe import DamagedError
from sb3_plastic.seals import seal
from sb3_plastic.seeding import seed_actions
from sb3_plastic.undisturbed import undisturbed_torch

STEPS = 1000
"""Of an episode of the robots, whatever the training had: the onsets of the suites lie in so many."""


class Evaluation(NamedTuple):
    """What :func:`evaluate_adaptation` returns."""

    records: pd.DataFrame
    traces: dict[Cell, Trace]


def evaluate_adaptation(
    model: Any,
    out: str | Path | None = None,
    about: ModelSettings | None = None,
    trials: TrialSettings | None = None,
    *,
    progress_bar: bool = False,
    command: str | None = None,
    **settings: Unpack[Given],
) -> Evaluation:
    """
    How a model fares when the dynamics become novel::

        evaluate_adaptation("m.zip", "results/oja_0", tier="quick", label="oja")

    :param model: file of a saved model, or a model with SB3's ``predict``
    :param out: folder for the results, see :mod:`~sb3_plastic.evaluation.records`; None: only return the records
    :param about: what the file does not tell; None: the defaults
    :param trials: which episodes are run; None: the defaults
    :param progress_bar: show progress (needs tqdm)
    :param command: command line to note down
    :param settings: fields of `ModelSettings` and `TrialSettings` by name, which replace those of the two
    :return: records, one row per episode with the columns ``records.COLUMNS``, and the traces of all cells
    :raises UserError: on an unknown name, spaces that do not fit, a folder with results of other settings, or weights
        that are not finite
    """
    started = time.perf_counter()
    about, trials = changed(about or ModelSettings(), trials or TrialSettings(), settings)
    path = model_file(model) if isinstance(model, str | Path) else None
    algo = about.algo
    read = checksum_of_model(None, path)
    if path is not None:
        model, algo = load_model(path, algo, about.trust)
    else:
        model, about = _as_from_file(model, about)
    policy = getattr(model, "policy", None)
    if isinstance(policy, torch.nn.Module):
        check_parameters(policy.named_parameters(), "There is nothing to evaluate")
    algo = algo or type(model).__name__
    trained = find_training(path, about)
    robot = robot_of(trained.env_id)
    trials, scenarios = _completed(trials, model, algo, trained)
    with undisturbed_torch():
        run = _Run(model, trained, trials, scenarios)
    common = {
        "label": algo if about.label is None else about.label,
        "algo": algo,
        "train_seed": int((getattr(model, "seed", None) or 0) if about.train_seed is None else about.train_seed),
        "env_id": trained.env_id,
        "robot": robot,
        "suite": trials.suite,
        "tier": trials.tier,
    }
    folder = None if out is None else Path(out)
    traces: dict[Cell, Trace] = {}
    n_steps = 0
    with undisturbed_torch(), closing(run), Progress(progress_bar) as progress:
        run.open()  # refuses what cannot be before the folder is claimed
        if read != checksum_of_model(None, path):
            raise UserError(f"{path} was replaced while it was read, by its training maybe: evaluate a copy of it.")
        if folder is not None:
            claim(folder, settings_of(common, run.trained, model, path, trials, run.conditions))
        progress.begin("episodes", run.n_episodes(run.conditions))
        for batch in run.batches():
            done = _load(folder, batch)
            if done is None:
                done = run.play(batch, progress)
                n_steps += sum(int(trace.length.sum()) for trace in done.values())
                for cell, trace in done.items():
                    if folder is not None:
                        save_trace(folder, cell, trace)
            else:
                progress.tick(run.n_episodes(batch))
            traces |= done
    records = records_of(traces, common)
    if folder is not None:
        write_records(folder, records)
        seconds = time.perf_counter() - started
        write_json(folder / "timing.json", {"seconds": seconds, "env_steps": n_steps, "per_second": n_steps / seconds})
        summary = _summary(read_json(folder / SETTINGS), run, traces, command)
        table = (folder / RECORDS).read_bytes()
        write_json(folder / SUMMARY, seal(summary, SUMMARY, {RECORDS: table}))
    return Evaluation(records, traces)


def check_evaluation(model: Any, **arguments: Any) -> None:
    """
    Refuse what :func:`evaluate_adaptation` would, without running an episode.

    :param model: with SB3's ``predict``
    :param arguments: as it takes them, by name
    :raises UserError: likewise
    """
    about, trials = arguments.pop("about", None) or ModelSettings(), arguments.pop("trials", None) or TrialSettings()
    decides = {name: value for name, value in arguments.items() if name not in ("out", "progress_bar", "command")}
    about, trials = changed(about, trials, decides)
    model, about = _as_from_file(model, about)
    trained = find_training(None, about)
    trials, scenarios = _completed(trials, model, type(model).__name__, trained)
    with undisturbed_torch(), closing(_Run(model, trained, trials, scenarios)) as run:
        run.open()


def _as_from_file(model: Any, about: ModelSettings) -> tuple[Any, ModelSettings]:
    """A model in memory, and what is known of it, as if both had been read."""
    if about.normalization is None:
        model, known = taken_apart(model)
        about = replace(about, normalization=known)
    return model, about


def _completed(
    trials: TrialSettings, model: Any, algo: str, trained: TrainedIn
) -> tuple[TrialSettings, Sequence[Scenario]]:
    """The settings with all numbers and controls filled in, ``tier`` as the records have it, and the scenarios."""
    given, tier, episodes, controls = trials.scenarios, trials.tier, trials.episodes, trials.controls
    for scenario in given or ():
        if not isinstance(scenario, str | Scenario):
            raise UserError(f"scenarios holds names and Scenario objects, got {scenario!r}.")
    patterns = None if given is None else sorted({name for name in given if isinstance(name, str)})
    scenarios = [scenario for scenario in given or () if isinstance(scenario, Scenario)]
    if given is None or patterns:
        suite, robot = load_suite(trials.suite), called_in_suites(trained.env_id)
        if not suite.of(robot):
            raise UserError(
                f"{none_for(suite, robot)} Name another suite, or one of your own; or pass scenarios to "
                "evaluate_adaptation()."
            )
        scenarios += suite.select(trials.tier, robot, patterns=patterns)
        tier = " ".join(patterns) if patterns else tier
        episodes = suite.tiers[trials.tier].episodes if episodes is None else episodes
    if controls is None:
        controls = PLASTICITY if controls_of(model) else ("intact",)
    elif controls_of(model) is None and set(controls) != {"intact"}:
        raise UserError(f"{algo} has no plasticity: its only control is 'intact', got {', '.join(controls)}.")
    if LAYER_OFF in controls:
        without_layer(model)  # refuses what cannot be before anything is run
    episodes = 2 if episodes is None else episodes
    steps = trials.steps
    if steps is None:
        steps = STEPS if robot_of(trained.env_id) else trained.time_limit
        if "onset" in trials.protocols:
            check_onsets(scenarios, steps)
    return replace(trials, tier=tier, episodes=episodes, controls=controls, steps=steps), scenarios


class _Run:
    """What is to be run, in batches that are always the same: they, not cells, are the unit of resumption."""

    def __init__(self, model: Any, trained: TrainedIn, trials: TrialSettings, scenarios: Sequence[Scenario]) -> None:
        assert trials.controls is not None
        assert trials.episodes is not None
        assert trials.steps is not None
        self.model, self.trained = model, trained.unperturbed()  # each reset brings its own
        self.deterministic = trials.deterministic
        self.seeds = list(range(trials.seed, trials.seed + trials.episodes))
        self.max_rows, n_shares = trials.max_rows, -(-trials.episodes // trials.max_rows)
        size = -(-trials.episodes // n_shares)
        self.shares = [self.seeds[i : i + size] for i in range(0, trials.episodes, size)]  # of a cell, run at once
        self.conditions = plan(
            scenarios,
            trials.protocols,
            trials.controls,
            trials.steps,
            trials.horizon,
            _has_memory(model),
            [parse_fault(text) for text in trials.faults],
        )
        _refuse_shared_files(self.conditions)
        for fault in dict.fromkeys(c.fault for c in self.conditions if c.fault is not None):
            FaultyModel(model, fault, 0)  # refuses what cannot be before anything is run
        self._env: tuple[Any, VecEnv] | None = None

    def batches(self) -> Iterator[list[Condition]]:
        """Conditions that run at once: the same control, time limit, ground and length of life."""
        groups: dict[Any, list[Condition]] = {}
        for c in self.conditions:
            key = (c.heightfield, c.steps, c.life, c.cell.protocol, c.cell.control, str(c.fault or ""))
            groups.setdefault(key, []).append(c)
        # Batches of one shape one after the other: they share their environments.
        for _, group in sorted(groups.items(), key=lambda item: (item[0][:3], len(item[1]))):
            n_batches = -(-len(group) // max(1, self.max_rows // len(self.seeds)))
            size = -(-len(group) // n_batches)
            for start in range(0, len(group), size):
                yield group[start : start + size]

    def n_episodes(self, conditions: Sequence[Condition]) -> int:
        """How many are run under these conditions."""
        return sum(c.life for c in conditions) * len(self.seeds)

    def open(self) -> None:
        """
        Make the environments of the first batch.

        :raises UserError: if nothing is to be run, or the environment is not the model's, or cannot be perturbed so
        """
        first = next(self.batches(), None)
        if first is None:
            raise UserError(
                "Nothing is to be run: none of the protocols applies to any of the scenarios. `onset` and `removal` "
                "take scenarios with an onset (.../onset), `static` those without; `removal` and `switch` take "
                f"episodes of more than {REMOVAL} and {SWITCH} steps."
            )
        venv = self._make(1 if first[0].fault else len(first) * len(self.shares[0]), first[0])
        # Another model has the other ground; in the sham, and with faults of the agent, nothing acts.
        alike = [c for c in self.conditions if c.heightfield == first[0].heightfield]
        acting = [c for c in alike if c.cell.split not in ("sham", "fault")]
        check_scenarios(venv, [(c.cell.scenario, c.perturbations) for c in acting])

    def play(self, batch: Sequence[Condition], progress: Progress) -> dict[Cell, Trace]:
        """Run a batch. :return: the episodes of each of its cells"""
        first = batch[0]
        if first.fault is not None:
            return {first.cell: self._play_faulty(first, first.fault, progress)}
        shares = [self._play_share(batch, seeds, progress) for seeds in self.shares]
        return {c.cell: joined([share[i] for share in shares]) for i, c in enumerate(batch)}

    def _play_share(self, batch: Sequence[Condition], seeds: Sequence[int], progress: Progress) -> list[Trace]:
        """The episodes of some seeds, by condition."""
        first, rows = batch[0], [self._row(c, seed) for c in batch for seed in seeds]
        venv = self._make(len(rows), first)
        self._seed(seeds[0], len(rows))
        player = Player(self.model, first.cell.control, self.deterministic)
        trace = rollout(player, venv, rows, first.steps, first.life, progress.tick)
        n = len(seeds) * first.life
        return [trace.rows(slice(i * n, (i + 1) * n)) for i in range(len(batch))]

    def _play_faulty(self, condition: Condition, fault: Fault, progress: Progress) -> Trace:
        """One episode at a time: each draws its own fault."""
        venv, traces = self._make(1, condition), []
        for seed in self.seeds:
            self._seed(seed, 1)
            faulty = FaultyModel(self.model, fault, seed)
            player = Player(self.model, "intact", self.deterministic, later=faulty, faulty=not condition.sham)
            traces.append(rollout(player, venv, [self._row(condition, seed)], condition.steps, tick=progress.tick))
        return joined(traces)

    def _seed(self, seed: int, n_rows: int) -> None:
        """Of actions, unless they are deterministic. With gSDE the noise is drawn for the whole batch."""
        if self.deterministic:
            torch.manual_seed(seed)  # of a fault, or of a policy of one's own
        else:
            seed_actions(self.model, seed, n_rows)

    def _row(self, condition: Condition, seed: int) -> Row:
        sham_at = onset_of(condition.sham[0], seed) if condition.sham else None
        return Row(condition.perturbations, seed, condition.begins_at, condition.removal, sham_at)

    def _make(self, n_envs: int, condition: Condition) -> VecEnv:
        key = (n_envs, condition.steps, condition.heightfield)
        if self._env is None or self._env[0] != key:
            self.close()
            self._env = key, make_env(self.trained, *key)
            self._env = key, as_seen_by(self.model, self._env[1], self.trained.env_id)
        return self._env[1]

    def specs(self) -> dict[str, str]:
        """The EnvSpec of each kind of environment that is used, as JSON; in words where that does not take it."""
        found = {}
        for steps, heightfield in sorted({(c.steps, c.heightfield) for c in self.conditions}):
            with closing(make_env(self.trained, 1, steps, heightfield)) as venv:
                base: Any = venv.unwrapped
                spec = base.envs[0].spec
            try:
                text = spec.to_json()
            except (AttributeError, TypeError, ValueError):  # a class, a number of numpy; no spec at all
                text = f"{self.trained.env_id}, whose entry point or arguments JSON does not take"
            found[f"{steps} steps{', height field' * heightfield}"] = text
        return found

    def close(self) -> None:
        """Close the environments."""
        if self._env is not None:
            self._env[1].close()
            self._env = None


def _refuse_shared_files(conditions: Sequence[Condition]) -> None:
    """Two scenarios of one name would write over each other's traces."""
    of_file: dict[str, Condition] = {}
    for c in conditions:
        other = of_file.setdefault(c.cell.file_name, c)
        if other != c:
            names = " and ".join(repr(name) for name in dict.fromkeys((other.cell.scenario, c.cell.scenario)))
            raise UserError(
                f"Several scenarios share a file of traces, {c.cell.file_name}: {names}. Give each a name of its own "
                "(/ and - count as the same)."
            )


def _has_memory(model: Any) -> bool:
    space = getattr(model, "observation_space", None)
    if space is None or controls_of(model) is not None:
        return True
    return model.predict(deepcopy(space).sample(), deterministic=True)[1] is not None


def _load(folder: Path | None, batch: Sequence[Condition]) -> dict[Cell, Trace] | None:
    """The cells of a batch, if all of them are there."""
    if folder is None:
        return None
    paths = [folder / TRACES / c.cell.file_name for c in batch]
    if not all(path.is_file() for path in paths):
        return None
    found = [load_trace(path) for path in paths]
    for (cell, _), c, path in zip(found, batch, paths, strict=True):
        if cell != c.cell:
            raise DamagedError(str(path), f"it holds episodes of {cell.scenario}. Delete it, and they are run again")
    return dict(found)


def _summary(settings: dict[str, Any], run: _Run, traces: Mapping[Cell, Trace], command: str | None) -> dict[str, Any]:
    return {
        "versions": settings.pop("versions"),
        "commit": settings.pop("commit"),
        "settings": settings,
        "env_specs": run.specs(),
        "command": command,
        "plastic_layers": [] if (plastic := controls_of(run.model)) is None else plastic.plastic_layers(),
        "unstable_cells": {
            cell.file_name: int(trace.unstable.sum()) for cell, trace in traces.items() if trace.unstable.any()
        },
    }
