"""Folders that several processes may want to write to, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TextIO

from sb3_plastic.errors import UserError


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Inside this context no other process is, nor thread, with the same folder. :param folder: need not be there"""
    check_locks()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        wait_for(lock)
        yield


def check_locks() -> None:
    """:raises UserError: where the system has no such locks"""
    if find_spec("fcntl") is None:
        raise UserError(
            "Studies lock their folders against one another, with locks that Windows lacks: run them on Linux, or "
            "in the Windows Subsystem for Linux."
        )


def wait_for(file: TextIO | int) -> None:
    """
    Lock a file, or a folder by its descriptor, until it is closed; wait while another process has it locked.

    :param file: open file, or descriptor
    :raises OSError: where the file system has no locks
    """
    import fcntl  # not on Windows, where reports without a training need no lock

    fcntl.flock(file, fcntl.LOCK_EX)
