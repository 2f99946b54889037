"""One runner for all studies: it runs the cells that have no result yet, and keeps the results in one table.

A study is a list of cells and a function that runs one. A cell is a frozen dataclass of plain data: what to train, what
to judge, the seed. Its result is plain data, too::

    results = run_cells(cells, run, Path("study"), LocalProcesses(2))

Each result is written to ``study/cells/NAME.json`` at once and atomically, so a study that was stopped goes on where it
was. At the end all results are gathered in ``study/results.csv``, one row per cell, and the single files are removed.
"""

from __future__ import annotations

import os
import re
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import torch

from sb3_plastic.errors import UserError
from sb3_plastic.evaluation.outputs import check_out
from sb3_plastic.extensions import import_extensions
from sb3_plastic.snn.scan import set_num_threads
from sb3_plastic.studies.lifetime import end_with_parent
from sb3_plastic.studies.results import gather, keep, origin, read_results
from sb3_plastic.studies.table import Result
from sb3_plastic.versions import commit, versions


class Cell(Protocol):
    """One training and its tests, described by a frozen dataclass of plain data."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def name(self) -> str:
        """Unique within the study, and the name of a file: see :func:`file_name`."""
        ...


C = TypeVar("C", bound=Cell)
R = TypeVar("R")
"""What stands for a cell that runs elsewhere."""


class Place(Protocol):
    """
    Where cells run: local processes, or the machines of a cluster.

    A place needs this method alone. It does not look into cells or results, and writes no file.
    """

    def map(self, run: Callable[[C], Result], cells: Sequence[C]) -> Iterator[tuple[C, Result]]:
        """
        Run cells.

        :param run: what to call with each cell; it can be pickled
        :param cells: in the order in which to begin them
        :return: each cell with its result, as soon as it is finished, in any order
        """
        ...


@dataclass(frozen=True)
class LocalProcesses:
    """
    Processes of this machine, with one thread each. After an error those that run are finished first.

    :param n_jobs: number of processes; 1: this process alone
    """

    n_jobs: int = 1

    def map(self, run: Callable[[C], Result], cells: Sequence[C]) -> Iterator[tuple[C, Result]]:
        """See :class:`Place`."""
        if self.n_jobs == 1:
            for cell in cells:
                yield cell, run(cell)
            return
        # Spawned, not forked: torch's and the kernels' threads do not survive a fork.
        with ProcessPoolExecutor(self.n_jobs, get_context("spawn"), begin_worker, (os.getpid(),)) as pool:
            try:
                yield from in_turns(cells, lambda: self.n_jobs, lambda cell: pool.submit(run, cell), _ended)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def in_turns(
    cells: Sequence[C],
    n_at_once: Callable[[], int],
    start: Callable[[C], R],
    ended: Callable[[Sequence[R]], Iterable[tuple[R, Result | BaseException]]],
) -> Iterator[tuple[C, Result]]:
    """
    Run cells elsewhere, so many at once. After an error no other begins, and those that run are finished first.

    :param cells: in the order in which to begin them
    :param n_at_once: how many may run; asked again whenever one has ended
    :param start: begins a cell elsewhere, and returns what stands for it
    :param ended: waits until one of those that run has ended, and returns those that have: the result or the error
    :return: each cell with its result, as soon as it is finished
    """
    waiting, running = deque(cells), dict[R, C]()
    failed: BaseException | None = None
    while running or waiting:
        # No more than can run: what waits in a line elsewhere could not be taken back.
        while waiting and len(running) < n_at_once():
            cell = waiting.popleft()
            running[start(cell)] = cell
        for task, outcome in ended([*running]):
            cell = running.pop(task)
            if not isinstance(outcome, BaseException):
                yield cell, outcome
            elif failed is None:  # What others compute is not thrown away.
                failed = outcome
                waiting.clear()
                if isinstance(outcome, BrokenProcessPool):  # the others have gone with it
                    lost = ", ".join(map(str, [cell, *running.values()]))
                    failed = UserError(
                        f"A process has died, for want of memory maybe: try fewer --jobs. The same command runs {lost}."
                    )
                else:
                    print(f"{cell}: {outcome!r}. {len(running)} that run are finished first.", file=sys.stderr)
    if failed is not None:
        raise failed


def _ended(running: Sequence[Future[Result]]) -> list[tuple[Future[Result], Result | BaseException]]:
    done = wait(running, return_when=FIRST_COMPLETED).done
    return [(future, future.exception() or future.result()) for future in done]


def run_cells(
    cells: Sequence[C],
    run: Callable[[C], Result],
    out: Path,
    place: Place | None = None,
    summary: Callable[[Result], str] = lambda result: "",
) -> dict[str, Result]:
    """
    Run the cells that have no result in the folder, and gather all results.

    :param cells: cells of the study, in the order in which to begin them
    :param run: runs one cell; a function of a module, or a ``partial`` of one, since it may run in another process
    :param out: folder of the study
    :param place: where cells run; None: in this process
    :param summary: what to print of a result
    :return: all results of the folder by name, those of former runs included
    :raises ImportError: without tqdm, which shows the progress
    :raises UserError: if two cells that differ have one name, or one has that of a result of another, or if nothing can
        be written into the folder
    """
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise ImportError('Studies show their progress with tqdm: pip install "sb3_plastic[zoo]"') from error
    cells = unique(cells)
    done = read_results(out)
    for cell in cells:
        check_own(cell, done.get(cell.name, {}), out)
    waiting = [cell for cell in cells if cell.name not in done]
    if waiting:
        check_out(out)  # before hours of work
    there = len(cells) - len(waiting)
    source: Result = {"commit": commit(), "versions": versions()}
    if waiting:
        warn_of_others(done.values(), source, out)
    place = LocalProcesses() if place is None else place
    # disable=None: no bar where the output is no terminal.
    with tqdm(total=len(cells), initial=there, unit="cell", disable=None) as bar:
        for i, (cell, result) in enumerate(place.map(partial(timed, run), waiting), start=there + 1):
            result = {"cell": cell.name, **asdict(cell), **result, **source}
            keep(out, result)
            tqdm.write(f"[{i}/{len(cells)}] {cell.name}: {summary(result)}")
            bar.update()
    return gather(out)


def warn_of_others(results: Iterable[Result], source: Result, out: Path) -> None:
    """
    Warn if results that are there come from another commit or other versions than those that will join them.

    :param results: of the folder
    :param source: ``commit`` and ``versions`` of this installation
    :param out: folder of the study
    """
    others = [result for result in results if any(result.get(name, value) != value for name, value in source.items())]
    if others:
        warnings.warn(
            f"{out} holds {len(others)} results of other commits or versions; new ones join them. There:\n"
            f"{origin(others)}\nHere:\n{origin([source])}\nIf all should be of one, name another --out.",
            stacklevel=3,
        )


def unique(cells: Sequence[C]) -> list[C]:
    """
    Each cell once.

    :param cells: of a study
    :raises UserError: if two that differ have one name: one would write over the other's result
    """
    by_name: dict[str, C] = {}
    for cell in cells:
        if (other := by_name.setdefault(cell.name, cell)) != cell:
            raise UserError(f"Two cells have the name {cell.name}: {other} and {cell}. Give them other labels.")
    return list(by_name.values())


def check_own(cell: Cell, known: Result, out: Path) -> None:
    """
    Refuse the result of another cell with the same name. Text alone can differ there: names of files have no signs.

    :param cell: of a study
    :param known: the result under its name; fields that it lacks are of a later version
    :param out: folder of the study
    :raises UserError: if it is of a cell with another label
    """
    for field, value in asdict(cell).items():
        if isinstance(value, str) and known.get(field, value) != value:
            raise UserError(
                f"{out} holds the result of {field}={known[field]!r} under the name {cell.name}, which is also that of "
                f"{field}={value!r}: names of files have no signs. Name another label or --out."
            )


def timed(run: Callable[[C], Result], cell: C) -> Result:
    """
    Run a cell and measure its time.

    :param run: runs one cell
    :param cell: which
    :return: its result, with ``seconds`` (wall time) and ``cpu_seconds`` (computing time of this process)
    """
    started, cpu_started = time.perf_counter(), time.process_time()
    result = run(cell)
    times = dict(seconds=time.perf_counter() - started, cpu_seconds=time.process_time() - cpu_started)
    return {**result, **{name: round(value, 2) for name, value in times.items()}}


def file_name(*parts: object) -> str:
    """
    Parts of a cell's name as the name of a file: ``hebb + simple``, ``seed0`` -> ``hebb_simple-seed0``.

    :param parts: what tells the cell from others; empty ones are left out
    """
    return "-".join(re.sub(r"\W+", "_", str(part)).strip("_") for part in parts if part != "")


def begin_worker(parent: int) -> None:
    """In a process that runs cells: an end with the study's, and what that has. :param parent: id of its process"""
    end_with_parent(parent)
    import_extensions()
    one_thread()


def one_thread() -> None:
    """Use one thread for torch and one for the kernels: small networks are slower with more."""
    torch.set_num_threads(1)
    set_num_threads(1)
