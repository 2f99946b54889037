"""The search behind the settings of `sb3-plastic study temporal`, on validation seeds that the study does not report.

Each network of each task is trained with every change of its settings that is listed here, controls with no fewer than
plastic ones, and tested at all levels of noise. Resumable: finished runs are kept in the folder::

    python scripts/search_temporal.py --out search --jobs 2

writes search/search.csv, best mean accuracy first. The best were then written
into ``sb3_plastic/studies/temporal/settings.py``.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from sb3_plastic.report.document import replace_file
from sb3_plastic.studies.temporal.cells import Cell, one_thread, run_cells
from sb3_plastic.studies.temporal.networks import Answerer
from sb3_plastic.studies.temporal.settings import LEARNED, NETWORKS, NOISE, RECIPES, SPREAD, UPDATES, make_task
from sb3_plastic.studies.temporal.training import Recipe, evaluate, train
from sb3_plastic.tasks import TASKS

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
"""Changes by network and label."""


def run(cell: Cell, n_test: int) -> dict[str, Any]:
    """Train and test one change of settings, whose label is the cell's ablation."""
    torch.manual_seed(cell.seed)
    task = make_task(cell.task)
    arguments = NETWORKS[cell.network].arguments(cell.task) | CHANGES[cell.network][cell.ablation]
    network = Answerer(task, **arguments)
    train(network, task, Recipe(cell.n_updates, **RECIPES[cell.task]), cell.seed)
    conditions = [dict(drop=drop, spurious=spurious) for drop, spurious in NOISE]
    accuracies = [evaluate(network, make_task(cell.task, **c), n_test, 10_000 + cell.seed) for c in conditions]
    return dict(accuracies=accuracies)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--networks", nargs="+", choices=CHANGES, default=list(CHANGES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[100])
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    if min(args.seeds) < 100:
        parser.error(f"seeds below 100 are for what is reported, got {args.seeds}: search with 100 and above.")
    one_thread()
    cells = [
        Cell(task, network, seed, UPDATES[task], label)
        for network in args.networks
        for task in args.tasks
        for label in CHANGES[network]
        for seed in args.seeds
    ]
    rows = []
    for cell, result in run_cells(cells, partial(run, n_test=1024), args.out, args.jobs):
        levels = {f"drop {drop}": value for (drop, _), value in zip(NOISE, result["accuracies"], strict=True)}
        mean = sum(levels.values()) / len(levels)
        row = dict(task=cell.task, network=cell.network, change=cell.ablation, seed=cell.seed, mean=mean)
        rows.append(row | levels)
        print(cell.name, *(f"{value:.3f}" for value in levels.values()), flush=True)
    frame = pd.DataFrame(rows).sort_values(["task", "network", "mean"], ascending=[True, True, False])
    replace_file(args.out / "search.csv", frame.to_csv(index=False, float_format="%.4f").encode())


if __name__ == "__main__":
    main()
