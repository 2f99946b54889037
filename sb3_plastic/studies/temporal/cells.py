"""Cells: what is trained and tested on its own, and the folder that keeps what came of each."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from sb3_plastic.files import replace_file
from sb3_plastic.snn.scan import set_num_threads


@dataclass(frozen=True)
class Cell:
    """
    One training and its tests.

    :param task: a name in ``TASKS``
    :param network: a name in ``NETWORKS``, or ``reference`` for the reference decoder
    :param seed: of everything random in it
    :param n_updates: gradient steps
    :param ablation: a name in ``ABLATIONS``, or nothing
    """

    task: str
    network: str
    seed: int
    n_updates: int
    ablation: str = ""

    @property
    def name(self) -> str:
        """As a name of a file."""
        parts = [self.task, self.network, self.ablation, str(self.n_updates), f"seed{self.seed}"]
        return "-".join(re.sub(r"\W+", "_", part) for part in parts if part)


def cell_path(out: Path, cell: Cell) -> Path:
    """Where a cell's result is."""
    return out / "cells" / f"{cell.name}.json"


def run_cells(
    cells: Sequence[Cell], run: Callable[[Cell], dict[str, Any]], out: Path, n_jobs: int = 1
) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """
    Run what has no result yet. Each result is written as one file under a temporary name and moved, so that a study
    that was stopped goes on where it was.

    :param cells: in the order in which they are to run
    :param run: a function of a module, since it runs in other processes if ``n_jobs`` is above 1
    :param out: the folder of the study
    :param n_jobs: processes
    :return: cells and results as they come; first those that are there already
    """
    waiting = []
    for cell in cells:
        path = cell_path(out, cell)
        if path.exists():
            yield cell, json.loads(path.read_text())
        else:
            waiting.append(cell)
    if n_jobs == 1:
        for cell in waiting:
            yield cell, _keep(cell, timed(run, cell), out)
        return
    # Spawned, not forked: torch's and the kernels' threads do not survive a fork.
    with ProcessPoolExecutor(n_jobs, get_context("spawn"), one_thread) as pool:
        futures = {pool.submit(timed, run, cell): cell for cell in waiting}
        try:
            for future in as_completed(futures):
                yield futures[future], _keep(futures[future], future.result(), out)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def timed(run: Callable[[Cell], dict[str, Any]], cell: Cell) -> dict[str, Any]:
    """Run a cell and say how long it took: by the clock, and in computing time of its process."""
    started, cpu_started = time.perf_counter(), time.process_time()
    result = run(cell)
    times = dict(seconds=time.perf_counter() - started, cpu_seconds=time.process_time() - cpu_started)
    return {**result, **{name: round(value, 2) for name, value in times.items()}}


def _keep(cell: Cell, result: dict[str, Any], out: Path) -> dict[str, Any]:
    content = json.dumps({**asdict(cell), **result}, indent=1)
    replace_file(cell_path(out, cell), content.encode())
    return json.loads(content)


def one_thread() -> None:
    """One thread for torch and one for the kernels: these networks are too small for more."""
    torch.set_num_threads(1)
    set_num_threads(1)
