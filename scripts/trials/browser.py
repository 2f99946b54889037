"""Reports of results whose names try to run scripts, opened in a real browser."""

from __future__ import annotations

from pathlib import Path

from trials.journal import Journal


def pages(journal: Journal, work: Path) -> None:
    """
    :param journal: for the trials
    :param work: scratch
    """
