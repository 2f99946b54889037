"""evaluate_adaptation: a model, a suite, and a folder of results. An interrupted one goes on where it stopped."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from stable_baselines3.common.vec_env import VecEnv

from sb3_plastic.evaluation.controls import PLASTICITY, Player, controls_of, undisturbed_torch
from sb3_plastic.evaluation.models import (
    TrainedIn,
    check_spaces,
    find_training,
    load_model,
    make_env,
    robot_of,
)
from sb3_plastic.evaluation.protocols import Condition, onset_of, plan
from sb3_plastic.evaluation.provenance import claim, settings_of
from sb3_plastic.evaluation.records import (
    Cell,
    Trace,
    load_trace,
    read_json,
    records_of,
    save_trace,
    write_records,
)
from sb3_plastic.evaluation.rollout import Row, rollout
from sb3_plastic.files import write_json
from sb3_plastic.perturbations.suites import Scenario, load_suite


class Results(NamedTuple):
    """What :func:`evaluate_adaptation` returns."""

    records: pd.DataFrame
    traces: dict[Cell, Trace]


def evaluate_adaptation(
    model: Any,
    out: str | Path | None = None,
    *,
    env: str | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    wrappers: Sequence[str | Mapping[str, Any]] | None = None,
    vec_normalize: str | Path | None = None,
    algo: str | None = None,
    suite: str = "nda-v1",
    tier: str = "quick",
    scenarios: Sequence[Scenario] | None = None,
    protocols: Sequence[str] = ("static", "onset"),
    controls: Sequence[str] | None = None,
    label: str | None = None,
    train_seed: int | None = None,
    seed: int = 10_000,
    episodes: int | None = None,
    deterministic: bool = True,
    steps: int = 1000,
    horizon: int = 3,
    max_rows: int = 128,
    progress_bar: bool = False,
    command: str | None = None,
) -> Results:
    """
    How a model fares when the dynamics become novel.

    :param model: file of a saved model, or a model with SB3's ``predict``
    :param out: folder for the results, see :mod:`~sb3_plastic.evaluation.records`; None: only return the records
    :param env: environment; None: as RL Zoo wrote beside the model. Of the stock ``HalfCheetah-v5`` and so on, the one
        with the same observations that can be perturbed is taken
    :param env_kwargs: arguments of it, for instance ``observe_context=True`` and the ``scenario`` of the training: an
        oracle, which sees of other scenarios what they have in common with that
    :param wrappers: as RL Zoo's ``env_wrapper``; None: as it wrote beside the model
    :param vec_normalize: file with the statistics of VecNormalize, which stay frozen; None: found beside the model
    :param algo: a name in ``models.ALGORITHMS``; None: recognised
    :param suite: name of a suite
    :param tier: ``smoke``, ``quick`` or ``full``
    :param scenarios: these instead of the suite's, for environments that are not ours
    :param protocols: names in ``records.PROTOCOLS``
    :param controls: names in ``controls.PLASTICITY``; None: all that the model has
    :param label: name of the method; None: the algorithm
    :param train_seed: the training's seed; None: the model's own
    :param seed: of the first episode of each cell; the others count on. Equal seeds are paired
    :param episodes: per cell; None: as the tier says
    :param deterministic: take the most likely actions
    :param steps: length of a training episode
    :param horizon: multiple of it in the protocol ``horizon``
    :param max_rows: environments that are stepped at once, at most
    :param progress_bar: show progress (needs tqdm)
    :param command: command line to note down
    :return: records, one row per episode with the columns ``records.COLUMNS``, and the traces of all cells
    :raises ValueError: on an unknown name, spaces that do not fit, or a folder with results of other settings
    """
    started = time.perf_counter()
    path = Path(model) if isinstance(model, str | Path) else None
    if path is not None:
        path = path if path.suffix else path.with_suffix(".zip")
        model, algo = load_model(path, algo)
    algo = algo or type(model).__name__
    trained = find_training(path, env, env_kwargs, None if vec_normalize is None else Path(vec_normalize), wrappers)
    robot = robot_of(trained.env_id)
    if scenarios is None:
        tier_of = load_suite(suite)
        scenarios = tier_of.select(tier, robot) if robot else ()
        if not scenarios:
            there = ", ".join(sorted({s.robot for s in tier_of.select(tier)}))
            raise ValueError(
                f"The tier {tier!r} of {suite} has no scenarios for {robot or trained.env_id}, but for {there}. "
                "The tier 'full' has all robots; for other environments pass scenarios to evaluate_adaptation()."
            )
        episodes = tier_of.tiers[tier].episodes if episodes is None else episodes
    episodes = 2 if episodes is None else episodes
    if controls is None:
        controls = PLASTICITY if controls_of(model) else ("intact",)
    elif controls_of(model) is None and set(controls) != {"intact"}:
        raise ValueError(f"{algo} has no plasticity: its only control is 'intact', got {', '.join(controls)}.")
    with undisturbed_torch():
        has_memory = _has_memory(model)
    conditions = plan(scenarios, protocols, controls, steps, horizon, has_memory)
    run = _Run(model, trained, conditions, seed, episodes, deterministic, max_rows)
    common = {
        "label": algo if label is None else label,
        "algo": algo,
        "train_seed": (getattr(model, "seed", None) or 0) if train_seed is None else train_seed,
        "env_id": trained.env_id,
        "robot": robot,
        "suite": suite,
        "tier": tier,
    }
    folder = None if out is None else Path(out)
    if folder is not None:
        claim(
            folder,
            settings_of(
                common,
                trained,
                model,
                path,
                protocols=protocols,
                controls=controls,
                cells=[c.cell.file_name for c in run.conditions],
                base_seed=seed,
                episodes=episodes,
                deterministic=deterministic,
                steps=steps,
                horizon=horizon,
                max_rows=max_rows,
            ),
        )
    traces: dict[Cell, Trace] = {}
    n_steps = 0
    with undisturbed_torch(), closing(run), _Progress(run, progress_bar) as progress:
        for batch in run.batches():
            done = _load(folder, batch)
            if done is None:
                done = run.play(batch, progress)
                n_steps += sum(int(trace.length.sum()) for trace in done.values())
                for cell, trace in done.items():
                    if folder is not None:
                        save_trace(folder, cell, trace)
            else:
                progress.skip(batch)
            traces |= done
    records = records_of(traces, common)
    if folder is not None:
        write_records(folder, records)
        seconds = time.perf_counter() - started
        write_json(folder / "timing.json", {"seconds": seconds, "env_steps": n_steps, "per_second": n_steps / seconds})
        write_json(folder / "summary.json", _summary(read_json(folder / "settings.json"), run, traces, command))
    return Results(records, traces)


class _Run:
    """What is to be run, in batches that are always the same: they, not cells, are the unit of resumption."""

    def __init__(
        self,
        model: Any,
        trained: TrainedIn,
        conditions: Sequence[Condition],
        seed: int,
        episodes: int,
        deterministic: bool,
        max_rows: int,
    ) -> None:
        self.model, self.trained, self.deterministic = model, trained, deterministic
        self.seeds = list(range(seed, seed + episodes))
        self.max_rows = max(max_rows, episodes)
        self.conditions = list(conditions)
        self._env: tuple[Any, VecEnv] | None = None

    def batches(self) -> Iterator[list[Condition]]:
        """Conditions that run at once: the same control, time limit, ground and length of life."""
        groups: dict[Any, list[Condition]] = {}
        for c in self.conditions:
            groups.setdefault((c.heightfield, c.steps, c.life, c.cell.protocol, c.cell.control), []).append(c)
        # Batches of one shape one after the other: they share their environments.
        for _, group in sorted(groups.items(), key=lambda item: (item[0][:3], len(item[1]))):
            n_batches = -(-len(group) * len(self.seeds) // self.max_rows)
            size = -(-len(group) // n_batches)
            for start in range(0, len(group), size):
                yield group[start : start + size]

    def play(self, batch: Sequence[Condition], progress: _Progress | None = None) -> dict[Cell, Trace]:
        """Run a batch. :return: the episodes of each of its cells"""
        first = batch[0]
        rows = [self._row(c, seed) for c in batch for seed in self.seeds]
        venv = self._make(len(rows), first)
        torch.manual_seed(self.seeds[0])  # of actions, unless they are deterministic
        player = Player(self.model, first.cell.control, self.deterministic)
        trace = rollout(player, venv, rows, first.steps, first.life, None if progress is None else progress.tick)
        n = len(self.seeds) * first.life
        return {c.cell: _part(trace, slice(i * n, (i + 1) * n)) for i, c in enumerate(batch)}

    def _row(self, condition: Condition, seed: int) -> Row:
        sham_at = onset_of(condition.sham[0], seed) if condition.sham else None
        return Row(condition.perturbations, seed, condition.begins_at, condition.removal, sham_at)

    def _make(self, n_envs: int, condition: Condition) -> VecEnv:
        key = (n_envs, condition.steps, condition.heightfield)
        if self._env is None or self._env[0] != key:
            self.close()
            self._env = key, make_env(self.trained, *key)
            check_spaces(self.model, self._env[1], self.trained)
        return self._env[1]

    def specs(self) -> dict[str, str]:
        """The EnvSpec of each kind of environment that is used, as JSON."""
        found = {}
        for steps, heightfield in sorted({(c.steps, c.heightfield) for c in self.conditions}):
            with closing(make_env(self.trained, 1, steps, heightfield)) as venv:
                spec = venv.unwrapped.envs[0].spec  # type: ignore[attr-defined]
            found[f"{steps} steps{', height field' * heightfield}"] = spec.to_json()
        return found

    def close(self) -> None:
        """Close the environments."""
        if self._env is not None:
            self._env[1].close()
            self._env = None


class _Progress:
    """A progress bar of episodes, if it is wanted."""

    def __init__(self, run: _Run, show: bool) -> None:
        self.bar: Any = None
        self.episodes = len(run.seeds)
        if show:
            try:
                from tqdm import tqdm
            except ImportError as error:
                raise ImportError("The progress bar needs tqdm: pip install stable-baselines3[extra]") from error
            self.bar = tqdm(total=sum(c.life * self.episodes for c in run.conditions), unit="episode")

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def tick(self, ended: int) -> None:
        """Count episodes that ended."""
        if self.bar is not None and ended:
            self.bar.update(ended)

    def skip(self, batch: Sequence[Condition]) -> None:
        """Count those that were there already."""
        self.tick(sum(c.life * self.episodes for c in batch))


def _part(trace: Trace, rows: slice) -> Trace:
    return Trace(**{field.name: getattr(trace, field.name)[rows] for field in dataclasses.fields(trace)})


def _has_memory(model: Any) -> bool:
    space = getattr(model, "observation_space", None)
    if space is None or controls_of(model) is not None:
        return True
    return model.predict(deepcopy(space).sample(), deterministic=True)[1] is not None


def _load(folder: Path | None, batch: Sequence[Condition]) -> dict[Cell, Trace] | None:
    """The cells of a batch, if all of them are there."""
    if folder is None:
        return None
    paths = [folder / "traces" / c.cell.file_name for c in batch]
    return dict(map(load_trace, paths)) if all(path.is_file() for path in paths) else None


def _summary(settings: dict[str, Any], run: _Run, traces: Mapping[Cell, Trace], command: str | None) -> dict[str, Any]:
    return {
        "versions": settings.pop("versions"),
        "commit": settings.pop("commit"),
        "settings": settings,
        "env_specs": run.specs(),
        "command": command,
        "unstable_cells": {
            cell.file_name: int(trace.unstable.sum()) for cell, trace in traces.items() if trace.unstable.any()
        },
    }
