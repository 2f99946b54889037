"""Ray as a place for the cells of a study: one machine, or a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sb3_plastic.es.workers import connect
from sb3_plastic.extensions import import_extensions
from sb3_plastic.studies.runner import C, in_turns, one_thread
from sb3_plastic.studies.table import Result


def run_alone(run: Callable[[C], Result], cell: C) -> Result:
    """Run one cell on one thread. :param run: runs one cell  :param cell: which  :return: its result"""
    import_extensions()
    one_thread()
    return run(cell)


@dataclass(frozen=True)
class RayTasks:
    """
    Ray tasks with one processor each, as many at once as the cluster has. A cell whose worker dies is run again, by
    another. After an error of a cell itself those that run are finished first, as with processes.

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
        running = set[Any]()

        def start(cell: C) -> Any:
            running.add(begun := task.remote(run, cell))
            return begun

        def ended(begun: Sequence[Any]) -> list[tuple[Any, Result | BaseException]]:
            (finished,), _ = ray.wait(list(begun), num_returns=1)
            running.remove(finished)
            try:
                return [(finished, ray.get(finished))]
            except ray.exceptions.RayTaskError as error:
                return [(finished, error.cause)]
            except ray.exceptions.RayError as error:
                return [(finished, error)]

        try:
            yield from in_turns(cells, lambda: max(int(ray.cluster_resources().get("CPU", 0)), 1), start, ended)
        finally:
            for reference in running:
                ray.cancel(reference)
            if owns_ray:
                ray.shutdown()
