"""Atomic file writes: a file has its old content or its new content, never a part of it."""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path, new: bool = False) -> Iterator[Path]:
    """
    Write a file under a temporary name, and move it to its own name once it is complete. Without an error, that is:
    otherwise the old file stays.

    :param path: the file; its folder is made. What a link points to is written, and what is no file, a pipe or
        ``/dev/null``, as it is
    :param new: leave a file that is there by then: of two that write one at once, the second gets a FileExistsError
    :return: the temporary name, beside it, hidden, with the same suffix, which tells many libraries the format
    :raises OSError: naming the file, for instance on a full disk
    """
    path = Path(os.path.realpath(path)) if path.is_symlink() else path
    if path.is_dir():  # found out before any work; and `.` has no name to put a temporary one beside
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():
        yield path
        return
    temporary = path.with_name(f".{path.stem[:64]}.{secrets.token_hex(4)}{path.suffix}")  # names have a longest, too
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _link(temporary, path) if new else temporary.replace(path)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(temporary)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error  # a full disk alone names no file
    finally:
        with suppress(OSError):  # whose reason would hide the first
            temporary.unlink(missing_ok=True)


def _link(temporary: Path, path: Path) -> None:
    """Give a file its own name too, unless there is one."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
        temporary.replace(path)  # file systems without links, such as those of USB sticks: in a moment, not at once


def replace_file(path: Path, content: bytes | str) -> None:
    """
    Write a file at once.

    :param path: the file; its folder is made
    :param content: all of it; text is encoded as UTF-8
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def own_folder(path: str) -> str:
    """
    Make the folder of a run, or the next one if another process has made it meanwhile.

    :param path: ``NAME_1``, ``NAME_2`` and so on
    :return: that was made
    """
    try:
        Path(path).mkdir(parents=True)
    except FileExistsError:
        name, _, number = path.rpartition("_")
        return own_folder(f"{name}_{int(number) + 1}")
    return path


def is_taken(path: Path) -> bool:
    """
    Whether there is a file, or a folder that holds one, but for the hidden file that a killed :func:`replacing` leaves.

    :param path: where something is to be written
    """
    if not path.is_dir():
        return os.path.lexists(path)
    return any(is_taken(inside) for inside in path.iterdir() if not inside.name.startswith("."))


def write_json(path: Path, data: Any) -> None:
    """
    Write JSON at once, with sorted keys, so that equal data give equal files.

    :param path: the file; its folder is made
    :param data: plain data
    """
    replace_file(path, json.dumps(data, indent=2, sort_keys=True) + "\n")
