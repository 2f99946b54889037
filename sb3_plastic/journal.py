"""A search's trials in a journal file of Optuna, and what a killed search has left in it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from optuna import Study
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import TrialState

LONGEST = 30.0
"""Seconds after which Optuna, too, takes a lock for forgotten. To write a line takes less than one."""


def open_journal(path: Path) -> JournalStorage:
    """
    A journal, made if it is not there. A last line without an end, as a full disk leaves it, is taken away: Optuna
    would go on in it, and never read the file again. So is the lock of a process that was killed as it wrote: Optuna
    waits for it, without an end where the link leads nowhere, as it does from a relative path or in a moved folder.

    :param path: of the file; its folder is made
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path = path.absolute()  # where the link of the lock leads
    link = path.with_name(f"{path.name}.lock")
    with suppress(FileNotFoundError):
        if time.time() - link.lstat().st_mtime > LONGEST:
            link.unlink()
    backend, lock = JournalFileBackend(str(path)), JournalFileSymlinkLock(str(path))
    lock.acquire()  # as who writes a line
    try:
        whole = path.read_bytes().rfind(b"\n") + 1
        with path.open("r+b") as file:
            file.truncate(whole)
    finally:
        lock.release()
    return JournalStorage(backend)


@contextmanager
def searching(storage: str) -> Iterator[bool]:
    """
    The time of a search.

    :param storage: a journal file, ``*.log``, or the address of a database
    :return: whether no other process was searching in it when this one began; of a database nobody knows
    """
    if not storage.endswith(".log"):
        yield False
        return
    path = Path(storage)
    with path.with_name(f".{path.name}.searching").open("w") as file:
        alone = _locked(file, exclusively=True)  # the lock of a killed process is gone
        _locked(file, exclusively=False)
        yield alone


def _locked(file: TextIO, exclusively: bool) -> bool:
    """Whether a file could be locked: not where others search, nor where there are no locks, as on Windows."""
    with suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB if exclusively else fcntl.LOCK_SH)
        return True
    return False


def n_killed(study: Study, alone: bool) -> int:
    """
    How many trials a killed search has left, which look as if they ran. The study keeps a note of them.

    :param study: before a search
    :param alone: whether nobody else is searching, so that none can be running
    """
    running = {trial.number for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))}
    killed = running if alone else running & {*study.user_attrs.get("killed", ())}
    if alone and killed:
        study.set_user_attr("killed", sorted(killed))
    return len(killed)
