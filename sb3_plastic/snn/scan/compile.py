"""Numba: how kernels are compiled, kept on disk until any of the scan's files changes, and run on threads.

Numba's own cache looks at the file of the function that is called from Python alone. But kernels are put together from
functions of several files, which are compiled into them: after an edit of one of those, the old code would go on
running. So the cache here lies in a folder that is named after a digest of all source files of the scan.

The threads are Python's, one per part of the batch, for kernels release the interpreter's lock. Against the compiler's
own parallel loops this needs no threading layer, survives a fork at any time, costs nothing in processes that never use
it, and compiles in a third of the time.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from numba import types
from numba.core import event
from numba.core.bytecode import FunctionIdentity
from numba.core.caching import FunctionCache, IndexDataCacheFile

logger = logging.getLogger(__name__)

# error_model="numpy": a division by zero gives inf, as in the reference, instead of a branch and an exception.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}

# The symbol of compiled code has numba's numbers of the function and of its records' types, which each process counts
# from the start. Code from the cache may then have the symbol of other code compiled here, and the linker takes either
# for both: silently wrong results, or overwritten memory (numba's issue 10486). So functions get numbers by chance.
FunctionIdentity._unique_ids = iter(functools.partial(secrets.randbits, 62), -1)  # type: ignore[assignment]

KEPT = 4
"""Folders of compiled code that are kept, of the present digest and of earlier ones: to go back is then quick."""


def digest_of(folder: Path) -> str:
    """
    :param folder: of Python files
    :return: a digest of their names and contents, as 16 characters
    """
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)} ".encode() + content)
    return digest.hexdigest()[:16]


DIGEST = digest_of(Path(__file__).parent)


class KernelFiles(IndexDataCacheFile):
    """
    The files of numba's cache of one function, with data named after its signature. Numba numbers data by what the
    index holds: two processes that compile at once may take one number, and then a signature runs another's code.
    """

    def save(self, key: Any, data: Any) -> None:
        """Data first: an index never names what is not there yet. Of two at once one may go missing from the index."""
        name = f"{self._index_name}.{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}.nbc"
        self._save_data(name, data)
        self._save_index(self._load_index() | {key: name})


class KernelCache(FunctionCache):
    """
    Numba's cache of one function, in a subfolder of its usual folder that is named after :data:`DIGEST`.

    :param function: the Python function
    :raises RuntimeError: if no folder for it can be written
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self.folder = Path(self._cache_path) / f"scan-{DIGEST}"
        self._cache_path = str(self.folder)
        self._cache_file = KernelFiles(self._cache_path, self._impl.filename_base, DIGEST)

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep what has been compiled. Without success where the disk is full: then it is compiled again next time."""
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            super().save_overload(sig, data)
            others = [path for path in self.folder.parent.glob("scan-*") if path != self.folder]
            for path in sorted(others, key=lambda path: path.stat().st_mtime)[: 1 - KEPT]:
                shutil.rmtree(path, ignore_errors=True)


def jit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """
    :param options: for ``numba.njit``, beyond ``OPTIONS``
    :return: a decorator like ``numba.njit``, with a :class:`KernelCache` where a folder can be written
    """

    def decorate(function: Callable[..., Any]) -> Any:
        compiled = numba.njit(**OPTIONS, **options)(function)
        with suppress(RuntimeError):  # neither the folder of the function's file, nor the user's can be written
            compiled._cache = KernelCache(function)
        return compiled

    return decorate


piece = jit(no_cpython_wrapper=True, no_cfunc_wrapper=True)
"""For what only other compiled functions call: it has no code to be called from Python, which would take a fifth of the
time to compile. Called from Python it crashes."""

inlined = jit(no_cpython_wrapper=True, no_cfunc_wrapper=True, forceinline=True)
"""A ``piece`` that is called once per tick or more often: a dozen arrays take longer to hand over than to work on. Not
for all, since what is copied into its callers takes longer to compile."""

expanded = jit(inline="always")
"""For a part of one long kernel: its code is put into its caller's before that is compiled. As a function of its own it
would be optimised once more, and the kernel would take half as long again to compile."""


class _Notice(event.Listener):
    """Says so when numba begins to compile a kernel, which it does not when it finds it in its cache."""

    def on_start(self, compilation: Any) -> None:
        if compilation.data["dispatcher"].py_func.__module__.startswith(__package__):
            _say_once()

    def on_end(self, compilation: Any) -> None:
        pass


@functools.cache  # There are several kernels.
def _say_once() -> None:
    logger.warning("Compiling the fused kernels, once per version and type of number: some twenty seconds in all.")


event.register("numba:compile", _Notice())


# ----------------------------------------------------------------- rules and surrogates, which kernels call by address

FLOATS: dict[torch.dtype, Any] = {torch.float32: types.float32, torch.float64: types.float64}
"""The types of number that there are kernels for."""


def _signature(n_arrays: int, dtype: torch.dtype) -> Any:
    return types.void(*[types.CPointer(FLOATS[dtype])] * n_arrays, types.intp)


@functools.cache
def rule_functions(local: Callable[..., Any], derivative: Callable[..., Any], dtype: torch.dtype) -> tuple[Any, Any]:
    """
    A rule's functions over all neurons of a layer, compiled, so that one kernel serves all rules. They live as long as
    the process.

    :param local: of :class:`sb3_plastic.snn.rules.Rule`
    :param derivative: likewise
    :param dtype: float32 or float64
    :return: ``(y, theta, b, g, n)`` and ``(y, theta, db_dy, db_dtheta, dg_dy, dg_dtheta, n)``, with an ``address`` each
    """
    local, derivative = numba.njit(**OPTIONS)(local), numba.njit(**OPTIONS)(derivative)

    @numba.cfunc(_signature(4, dtype), **OPTIONS)
    def local_of_all(y: Any, theta: Any, b: Any, g: Any, n: Any) -> None:
        for j in range(n):
            b[j], g[j] = local(y[j], theta[j])

    @numba.cfunc(_signature(6, dtype), **OPTIONS)
    def derivative_of_all(y: Any, theta: Any, db_dy: Any, db_dtheta: Any, dg_dy: Any, dg_dtheta: Any, n: Any) -> None:
        for j in range(n):
            db_dy[j], db_dtheta[j], dg_dy[j], dg_dtheta[j] = derivative(y[j], theta[j])

    return local_of_all, derivative_of_all


@functools.cache
def surrogate_function(derivative: Callable[..., Any], slope: float, dtype: torch.dtype) -> Any:
    """
    The same for a surrogate.

    :param derivative: in ``SURROGATES``
    :param slope: its slope
    :param dtype: float32 or float64
    :return: ``(u, out, n)``, with an ``address``
    """
    derivative = numba.njit(**OPTIONS)(derivative)

    @numba.cfunc(_signature(2, dtype), **OPTIONS)
    def derivative_of_all(u: Any, out: Any, n: Any) -> None:
        for j in range(n):
            out[j] = derivative(u[j], slope)

    return derivative_of_all


# -------------------------------------------------------------------------------------------------------------- threads


class _Task(NamedTuple):
    """
    What a thread does beside the caller's own. Not for a pool of the standard library: Ctrl-C in the middle of its
    locks leaves them locked, and the process never ends. Those here are taken and released in one instruction.

    :param claim: taken by the thread that begins, or by the caller, who does not wait for it then
    :param ended: gets None, or an error
    :param call: a kernel and its arguments
    :param memory: that the kernel writes to
    """

    claim: Lock
    ended: SimpleQueue[BaseException | None]
    call: tuple[Any, ...]
    memory: Any


PARALLEL_WORK = 500_000
"""Synapses x ticks x rows, some 0.1 ms, from which a second thread is worth its start, some 30 microseconds."""

# Numba's convention: the variable NUMBA_NUM_THREADS, or all cores.
_num_threads: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
_tasks: SimpleQueue[_Task | None] = SimpleQueue()
_workers: list[Thread] = []


def get_num_threads() -> int:
    """How many threads the kernels use at most."""
    return _num_threads


def set_num_threads(n: int) -> None:
    """
    Set the threads of the kernels. Torch's own threads are set elsewhere: networks this small want one thread of torch,
    and all cores for the kernels.

    :param n: how many threads the kernels may use, above 0; results do not depend on it
    :raises ValueError: if it is not above 0
    """
    global _num_threads
    if n < 1:
        raise ValueError(f"The kernels need at least 1 thread, got {n}.")
    _num_threads = n


def _forget_workers() -> None:
    global _tasks, _workers
    _tasks, _workers = SimpleQueue(), []


@atexit.register
def _end_workers() -> None:
    """A thread that is still at work after an interrupt must not outlive the interpreter."""
    for _ in _workers:
        _tasks.put(None)
    for worker in _workers:
        worker.join()


if hasattr(os, "register_at_fork"):  # Threads do not survive a fork, which Windows has not.
    os.register_at_fork(after_in_child=_forget_workers)


def threads_for(work: int, parts: int) -> int:
    """
    :param work: synapses x ticks x rows
    :param parts: how many parts it has that can run side by side
    :return: how many threads to use
    """
    return min(_num_threads, parts) if work >= PARALLEL_WORK else 1


def run(kernel: Any, threads: int, parts: int, calls: np.ndarray, memory: Sequence[Any]) -> None:
    """
    Call a kernel for all rows, or groups of rows. Threads take one after the other from a queue, so that one which
    starts late, or shares its core with another program, does less.

    :param kernel: compiled, of (queue, number of parts, number of the thread, records)
    :param threads: how many threads
    :param parts: how many parts
    :param calls: records of what is to be done
    :param memory: what they point at. An interrupt (Ctrl-C) ends this function, not the other threads: they hold it for
        as long as they write to it
    """
    queue = np.zeros(1, np.int64)
    if threads == 1:
        kernel(queue, parts, 0, calls)
        return
    while len(_workers) < threads - 1:
        worker = Thread(target=_work, args=(_tasks,), name="plastic_scan", daemon=True)
        worker.start()
        _workers.append(worker)
    tasks = [_Task(Lock(), SimpleQueue(), (kernel, queue, parts, i, calls), memory) for i in range(1, threads)]
    for task in tasks:
        _tasks.put(task)
    kernel(queue, parts, 0, calls)
    for task in tasks:
        if not task.claim.acquire(blocking=False):  # One that has not even started finds nothing left to do.
            error = task.ended.get()
            if error is not None:
                raise error


def _work(tasks: SimpleQueue[_Task | None]) -> None:
    while (task := tasks.get()) is not None:
        if task.claim.acquire(blocking=False):
            kernel, *arguments = task.call
            try:
                kernel(*arguments)
                task.ended.put(None)
            except BaseException as error:
                task.ended.put(error)
        del task  # and with it the memory, until there is another
