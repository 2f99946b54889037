"""Processes that end with the one that began them, however that ends."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int) -> None:
    """
    Have the kernel kill this process when its parent ends: what a killed study has begun must not go on beside the
    next one, which writes to the same folders. Linux alone can do that; elsewhere nothing happens.

    To be called in the child first: as ``preexec_fn`` of a command, or by the initializer of a pool.

    :param parent: id of the process that began this one, which may have ended meanwhile
    """
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
