"""The study of temporal tasks: its cells, and how one is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Generator

from sb3_plastic.studies.runner import file_name
from sb3_plastic.studies.temporal.analysis import LESIONS, cut, trace
from sb3_plastic.studies.temporal.networks import Answerer
from sb3_plastic.studies.temporal.settings import (
    ABLATED,
    ABLATIONS,
    ANALYSED,
    CONTROLS,
    HEADLINE,
    LONGER,
    LONGER_SEEDS,
    N_TEST,
    NETWORKS,
    NOISE,
    PLASTIC_NETWORKS,
    RECIPES,
    STRONG,
    UPDATES,
    make_task,
)
from sb3_plastic.studies.temporal.training import Recipe, evaluate, train
from sb3_plastic.tasks import CueAccumulation


@dataclass(frozen=True)
class Cell:
    """
    One training and its tests.

    :param task: a name in ``TASKS``
    :param network: a name in ``NETWORKS``, or ``reference`` for the reference decoder
    :param seed: seed of the weights, the trials and the exploration
    :param n_updates: gradient steps
    :param ablation: a name in ``ABLATIONS`` (in a search: the change of settings), or nothing
    :param trials: per test
    """

    task: str
    network: str
    seed: int
    n_updates: int
    ablation: str = ""
    trials: int = N_TEST

    @property
    def name(self) -> str:
        """Unique within the study, and the name of a file."""
        trials = "" if self.trials == N_TEST else f"{self.trials}_trials"
        return file_name(self.task, self.network, self.ablation, self.n_updates, f"seed{self.seed}", trials)


def list_cells(tasks: Sequence[str], seeds: Sequence[int], n_grid_seeds: int) -> list[Cell]:
    """
    All cells of the study, those that the headline needs first, one seed after the other.

    :param tasks: names in ``TASKS``
    :param seeds: of the headline and the ablations; the first of them of the rest
    :param n_grid_seeds: how many of them those rules and modulations get that are in no other table
    """

    def of(seed: int, tasks: Sequence[str], names: Mapping[str, Sequence[str]], **changes: Any) -> list[Cell]:
        times = changes.pop("times", 1)
        return [Cell(task, name, seed, times * UPDATES[task], **changes) for task in tasks for name in names[task]]

    headline = {task: (*HEADLINE[task], *CONTROLS) for task in tasks}
    longer = dict.fromkeys(tasks, LONGER)
    analysed = [task for task in tasks if task in ANALYSED]
    watched = {task: (ANALYSED[task],) for task in analysed}
    grid = dict.fromkeys(tasks, tuple(PLASTIC_NETWORKS))
    cells = []
    for seed in seeds:
        cells += [Cell(task, "reference", seed, 0) for task in tasks] + of(seed, tasks, headline)
    for seed in seeds:
        cells += of(seed, analysed, watched)
        for task in analysed:
            for name in ABLATED[task]:
                cells += of(seed, [task], watched, ablation=name)
    for i, seed in enumerate(seeds):
        cells += of(seed, [task for task in tasks if i < LONGER_SEEDS[task]], longer, times=10)
    for seed in seeds[:n_grid_seeds]:
        cells += of(seed, tasks, grid)
    return list(dict.fromkeys(cells))


def conditions(task: str) -> list[dict[str, Any]]:
    """
    What a cell is tested under: changes of the task.

    :param task: a name in ``TASKS``
    """
    levels: list[dict[str, Any]] = [dict(drop=drop, spurious=spurious) for drop, spurious in NOISE]
    setting = make_task(task)
    if isinstance(setting, CueAccumulation):
        levels += [dict(drop=0.0, spurious=0.0, delay=times * setting.delay) for times in (2, 4)]
    return levels


def run_cell(cell: Cell) -> dict[str, Any]:
    """
    Train and test one network.

    :param cell: which
    :return: plain data: ``tests``, a list of conditions with their accuracies, the learning curve, sizes and times
    """
    n_test, test_seed = cell.trials, 10_000 + cell.seed  # training draws from cell.seed
    if cell.network == "reference":
        tests = []
        for condition in conditions(cell.task):
            task = make_task(cell.task, **condition)
            tests.append({**condition, "accuracy": task.reference_accuracy(n_test, Generator().manual_seed(test_seed))})
        return dict(tests=tests, chance=task.chance, memory_free_ceiling=task.memory_free_ceiling)

    task = make_task(cell.task)
    network = build(cell)
    recipe = Recipe(cell.n_updates, **RECIPES[cell.task], **ABLATIONS.get(cell.ablation, {}))
    n_parameters = network.n_parameters()
    curve = train(network, task, recipe, cell.seed)
    tests = [
        {**condition, "accuracy": evaluate(network, make_task(cell.task, **condition), n_test, test_seed)}
        for condition in conditions(cell.task)
    ]
    watched = ANALYSED.get(cell.task) == cell.network and not cell.ablation
    return dict(
        tests=tests,
        lesions=lesions(cell, network, n_test, test_seed) if watched else [],
        trace=trace(network, make_task(cell.task), min(n_test, 256), test_seed) if watched else None,
        curve=[float(part.mean()) for part in np.array_split(np.array(curve), min(20, len(curve)))],
        n_parameters=n_parameters,
    )


def build(cell: Cell) -> Answerer:
    """The untrained network of a cell."""
    torch.manual_seed(cell.seed)
    return Answerer(make_task(cell.task), **NETWORKS[cell.network].arguments(cell.task))


def lesions(cell: Cell, network: Answerer, n_test: int, seed: int) -> list[dict[str, Any]]:
    """
    Take one learned tensor at a time out of a trained network, and test what is left, noise-free and in strong noise.

    :param cell: whose network it is
    :param network: trained
    :param n_test: trials per test
    :param seed: of the trials
    :return: one record per lesion and level of noise; empty for networks without plasticity
    """
    records = []
    for lesion in LESIONS:
        lesioned = cut(network, lesion)
        if lesioned is None:
            continue
        for drop, spurious in (NOISE[0], NOISE[STRONG]):
            task = make_task(cell.task, drop=drop, spurious=spurious)
            records.append(
                dict(lesion=lesion, drop=drop, spurious=spurious, accuracy=evaluate(lesioned, task, n_test, seed))
            )
    return records


def smoke_cells(tasks: Sequence[str]) -> list[Cell]:
    """
    A few cells that pass through everything.

    :param tasks: names in ``TASKS``
    """
    cells = [Cell(task, "reference", 0, 0) for task in tasks]
    cells += [Cell(task, name, 0, 4) for task in tasks for name in (HEADLINE[task][0], "static", "ALIF, recurrent")]
    for task in tasks:
        if task in ANALYSED:
            cells += [Cell(task, ANALYSED[task], 0, 4, ablation) for ablation in ("", "h detached")]
    return [replace(cell, trials=32) for cell in cells]
