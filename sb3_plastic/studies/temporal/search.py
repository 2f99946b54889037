"""The search behind the settings of the study, on validation seeds that the study does not report.

The networks that are named here are trained with every change of their settings that is listed, and tested at all
levels of noise. The best changes were then written into ``settings.py``. The GRU was not searched.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
import torch

from sb3_plastic.errors import UserError
from sb3_plastic.studies.table import Result
from sb3_plastic.studies.temporal.networks import Answerer
from sb3_plastic.studies.temporal.settings import LEARNED, NETWORKS, NOISE, RECIPES, SPREAD, UPDATES, make_task
from sb3_plastic.studies.temporal.study import Cell
from sb3_plastic.studies.temporal.training import Recipe, evaluate, train

MEMBRANES: dict[str, dict[str, Any]] = {
    **{f"beta {beta}": dict(beta=beta) for beta in (0.8, 0.9, 0.95, 0.98)},
    "beta learned": SPREAD,
}
CHANGES: dict[str, dict[str, dict[str, Any]]] = {
    "static": MEMBRANES,
    "static, recurrent": MEMBRANES,
    "ALIF, recurrent": {
        "20 to 200 ticks": {},
        "10 to 100 ticks": dict(time_constants=(10.0, 100.0)),
        "gain 2": dict(adaptation_gain=2.0),
    },
    "hebb": {
        "traces .5": dict(lam_pre=0.5, lam_post=0.5),
        "traces .8": dict(lam_pre=0.8, lam_post=0.8),
        "eta .1": dict(eta_init=0.1),
        "membranes learned": SPREAD | dict(learn=("beta", *LEARNED)),
    },
}
"""Changes of settings, by network and label."""

FIRST_SEED = 100
"""Seeds below this one are reported, so no search may use them."""


def search_cells(tasks: Sequence[str], seeds: Sequence[int]) -> list[Cell]:
    """
    One cell per network, task, change and seed.

    :param tasks: names in ``TASKS``
    :param seeds: from ``FIRST_SEED`` on
    :raises UserError: if a seed is one of the reported ones
    """
    if min(seeds) < FIRST_SEED:
        raise UserError(f"Seeds below {FIRST_SEED} are for what is reported, got {list(seeds)}: search with others.")
    return [
        Cell(task, network, seed, UPDATES[task], label)
        for network in CHANGES
        for task in tasks
        for label in CHANGES[network]
        for seed in seeds
    ]


def run_search_cell(cell: Cell) -> Result:
    """
    Train and test one change of settings.

    :param cell: its ``ablation`` is the label of the change
    :return: ``tests``, as in :func:`~sb3_plastic.studies.temporal.study.run_cell`
    """
    torch.manual_seed(cell.seed)
    arguments = NETWORKS[cell.network].arguments(cell.task) | CHANGES[cell.network][cell.ablation]
    task = make_task(cell.task)
    network = Answerer(task, **arguments)
    train(network, task, Recipe(cell.n_updates, **RECIPES[cell.task]), cell.seed)
    conditions = [dict(drop=drop, spurious=spurious) for drop, spurious in NOISE]
    tests = [
        {**condition, "accuracy": evaluate(network, make_task(cell.task, **condition), cell.trials, 10_000 + cell.seed)}
        for condition in conditions
    ]
    return dict(tests=tests)


def ranking(results: Iterable[Result]) -> pd.DataFrame:
    """
    Accuracies of a search, the best change of each network and task first.

    :param results: of its cells
    """
    rows = []
    for result in results:
        levels = {f"drop {test['drop']}": test["accuracy"] for test in result["tests"]}
        row = {name: result.get(name, "") for name in ("task", "network", "ablation", "seed")}
        rows.append(row | {"mean": sum(levels.values()) / len(levels)} | levels)
    frame = pd.DataFrame(rows).rename(columns={"ablation": "change"})
    return frame.sort_values(["task", "network", "mean"], ascending=[True, True, False], ignore_index=True)
