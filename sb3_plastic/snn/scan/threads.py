"""Threads of the fused kernels: Python's, one per part of the batch, for the kernels release the interpreter's lock.

:func:`set_num_threads` or the variable ``NUMBA_NUM_THREADS`` sets their number. Against the compiler's own parallel
loops this needs no threading layer, survives a fork at any time, costs nothing in processes that never use it, and
compiles in a third of the time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np

PARALLEL_WORK = 500_000
"""Synapses x ticks x rows, some 0.1 ms, from which a second thread is worth its start, some 30 microseconds."""

# Numba's convention: the variable NUMBA_NUM_THREADS, or all cores.
_num_threads: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
_pool: ThreadPoolExecutor | None = None


def get_num_threads() -> int:
    """How many threads the kernels use at most."""
    return _num_threads


def set_num_threads(n: int) -> None:
    """
    Torch's threads and these are set apart: networks this small want one of torch's, and all cores for the kernels.

    :param n: how many threads the kernels may use, above 0; results do not depend on it
    :raises ValueError: if it is not above 0
    """
    global _num_threads
    if n < 1:
        raise ValueError(f"The kernels need at least 1 thread, got {n}.")
    _num_threads = n


def _forget_pool() -> None:
    global _pool
    _pool = None


os.register_at_fork(after_in_child=_forget_pool)  # Threads do not survive a fork.


def threads_for(work: int, parts: int) -> int:
    """
    :param work: synapses x ticks x rows
    :param parts: how many parts it has that can run side by side
    :return: how many threads to use
    """
    return min(_num_threads, parts) if work >= PARALLEL_WORK else 1


def run(kernel: Any, threads: int, parts: int, arguments: Callable[[int], tuple[Any, ...]]) -> None:
    """
    Call a kernel for all rows, or groups of rows. Threads take one after the other from a queue, so that one which
    starts late, or shares its core with another program, does less.

    :param kernel: compiled, with the queue and the number of parts as its first arguments
    :param threads: how many threads
    :param parts: how many parts
    :param arguments: the kernel's further arguments on a thread, by its number
    """
    queue = np.zeros(1, np.int64)
    if threads == 1:
        kernel(queue, parts, *arguments(0))
        return
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="plastic_scan")
    futures = [_pool.submit(kernel, queue, parts, *arguments(i)) for i in range(1, threads)]
    kernel(queue, parts, *arguments(0))
    for future in futures:
        if not future.cancel():  # One that has not even started finds nothing left to do: no need to wait for it.
            future.result()
