"""A search's trials in a journal file of Optuna."""

from __future__ import annotations

from pathlib import Path

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock


def open_journal(path: Path) -> JournalStorage:
    """
    A journal, made if it is not there. A last line without an end, as a full disk leaves it, is taken away: Optuna
    would go on in it, and never read the file again.

    :param path: of the file; its folder is made
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    backend, lock = JournalFileBackend(str(path)), JournalFileSymlinkLock(str(path))
    lock.acquire()  # as who writes a line
    try:
        whole = path.read_bytes().rfind(b"\n") + 1
        with path.open("r+b") as file:
            file.truncate(whole)
    finally:
        lock.release()
    return JournalStorage(backend)
