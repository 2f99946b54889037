"""Compilation of the kernels by numba, and its cache on disk, which a change of any of the scan's files makes void.

Numba's own cache looks at the file of the function that is called from Python alone. But kernels are put together from
functions of several files, which are compiled into them: after an edit of one of those, the old code would go on
running. So the cache here lies in a folder that is named after a digest of all source files of the scan.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba
from numba.core import event
from numba.core.caching import FunctionCache, IndexDataCacheFile

logger = logging.getLogger(__name__)

# error_model="numpy": a division by zero gives inf, as in the reference, instead of a branch and an exception.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}

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
        self._cache_file = IndexDataCacheFile(self._cache_path, self._impl.filename_base, DIGEST)

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep what has been compiled. Without success where the disk is full: then it is compiled again next time."""
        with suppress(OSError):
            self.folder.mkdir(exist_ok=True)
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
