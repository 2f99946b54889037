"""Ray as a place for the cells of a study: one machine, or a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sb3_plastic.es.workers import connect
from sb3_plastic.studies.runner import C, one_thread
from sb3_plastic.studies.table import Result


def run_alone(run: Callable[[C], Result], cell: C) -> Result:
    """Run one cell on one thread. :param run: runs one cell  :param cell: which  :return: its result"""
    one_thread()
    return run(cell)


@dataclass(frozen=True)
class RayTasks:
    """
    Ray tasks with one processor each. A cell whose worker dies is run again, by another; an error of the cell itself
    stops the study, which goes on where it was when it is started again.

    :param address: of the cluster's head, ``host:port``; ``auto``: the cluster that this machine belongs to; ``local``:
        this machine alone
    :param n_jobs: processors to ask for; the number used is that of the cluster, unless ``local``
    :param n_retries: how often a cell is run again after its worker has died
    """

    address: str
    n_jobs: int = 1
    n_retries: int = 3

    def map(self, run: Callable[[C], Result], cells: Sequence[C]) -> Iterator[tuple[C, Result]]:
        """See :class:`~sb3_plastic.studies.runner.Place`."""
        owns_ray = connect(self.n_jobs, None if self.address == "local" else self.address, "--ray with --jobs")
        import ray

        task: Any = ray.remote(num_cpus=1, max_retries=self.n_retries)(run_alone)
        running = {task.remote(run, cell): cell for cell in cells}
        try:
            while running:
                (finished,), _ = ray.wait([*running], num_returns=1)
                try:
                    yield running.pop(finished), ray.get(finished)
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from None
        finally:
            for reference in running:
                ray.cancel(reference)
            if owns_ray:
                ray.shutdown()
