"""Studies from Python: the options of the command as arguments."""

from __future__ import annotations

import os
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sb3_plastic.errors import UserError, check_choice
from sb3_plastic.studies.cli import STUDIES
from sb3_plastic.studies.results import read_results
from sb3_plastic.studies.table import Result


def run_study(study: str, **options: Any) -> list[Result]:
    """
    Run a study, or go on with it, as ``sb3-plastic study`` does::

        results = run_study("adaptation", out="study", agents={"plastic": ["logs/a", "logs/b"]}, seeds=[0], jobs=2)
        frame_of(results).pivot_table("speed", "family", "arm")

    With more than one job it belongs below ``if __name__ == "__main__":``, for each process imports the caller's file.

    :param study: ``adaptation``, ``robustness``, ``learning``, ``replugged``, ... (``sb3-plastic study --help``)
    :param options: those of the command, with ``_`` for ``-``, as listed by ``sb3-plastic study adaptation --help``. A
        list or tuple where the command takes several values; for what has no value True, or False to leave it out;
        ``None``: the default; for ``agents``, and the ``groups`` of ``curves``, the folders by label
    :return: the results in the folder ``out``, one for each cell, of earlier runs, too; none of ``severity`` and
        ``curves``, which print and draw alone
    :raises UserError: on a study, an option or a value that there is not; also whatever the study refuses
    """
    check_choice("study", study, STUDIES)
    if not all(name.isidentifier() for name in options):
        raise UserError(f"Options are written with _ for -: got {', '.join(options)}.")
    places = options.pop("groups", None)  # of `curves`, which have no name on the command line
    arguments = [*_values(places), *(word for name, value in options.items() for word in _option(name, value))]
    with _threads_as_they_were():
        pkgutil.resolve_name(STUDIES[study][0])(arguments)
    return [] if options.get("out") is None else list(read_results(Path(options["out"])).values())


@contextmanager
def _threads_as_they_were() -> Iterator[None]:
    """Studies run with one thread for each job; the caller goes on with its own."""
    from sb3_plastic.snn.scan import get_num_threads, set_num_threads
    from sb3_plastic.undisturbed import undisturbed_torch

    threads = get_num_threads()
    try:
        with undisturbed_torch():
            yield
    finally:
        set_num_threads(threads)


def _option(name: str, value: Any) -> Iterator[str]:
    is_flag = isinstance(value, bool | np.bool_)
    if value is None or (is_flag and not value):
        return
    yield f"--{name.replace('_', '-')}"
    if not is_flag:
        yield from _values(value)


def _values(value: Any) -> Iterator[str]:
    """Words of the command line."""
    if isinstance(value, Mapping):
        yield from (f"{label}={_joined(_values(folders))}" for label, folders in value.items())
    elif isinstance(value, Iterable) and not isinstance(value, str | bytes | os.PathLike):
        yield from map(str, value)
    elif value is not None:
        yield str(value)


def _joined(folders: Iterator[str]) -> str:
    words = list(folders)
    if split := [word for word in words if "," in word]:
        raise UserError(f"A comma stands between folders, so none may have one in its name: {', '.join(split)}.")
    return ",".join(words)
