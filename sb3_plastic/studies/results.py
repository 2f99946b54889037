"""The results of a study: one file per cell while it runs, one table in the end."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from sb3_plastic.errors import UserError
from sb3_plastic.files import replace_file
from sb3_plastic.safe import DamagedError
from sb3_plastic.studies.locks import check_locks, wait_for
from sb3_plastic.studies.table import Result, from_csv, to_csv


def origin(results: Sequence[Result]) -> str:
    """
    Commits and versions that results come from, one line each.

    :param results: of a study
    """
    commits = sorted({str(result.get("commit") or "not recorded") for result in results})
    used = {", ".join(f"{k} {v}" for k, v in result.get("versions", {}).items()) for result in results}
    return "\n".join([f"commits  {', '.join(commits)}", *(f"versions {text}" for text in sorted(used - {""}))])


def keep(out: Path, result: Result) -> None:
    """
    Write the result of one cell.

    :param out: folder of the study
    :param result: with its name as ``cell``
    """
    out.mkdir(parents=True, exist_ok=True)
    with _locked(out):  # or another process, which gathers, removes the folder of cells beneath it
        replace_file(out / "cells" / f"{result['cell']}.json", json.dumps(result))


def read_results(out: Path) -> dict[str, Result]:
    """
    All results of a study by name: those of its table, and those that were not gathered yet.

    :param out: folder of the study
    :raises DamagedError: if a file is cut, or holds something else
    """
    single = {}
    for path in _single(out):
        try:
            single[path.stem] = dict(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:  # another process has gathered it: it is in the table, which is read after it
            continue
        except (TypeError, ValueError) as error:
            raise DamagedError(str(path), "it holds no result. Delete it, and its cell is run again") from error
    table = out / "results.csv"
    results = {row["cell"]: row for row in read_table(table, "cell")} if table.is_file() else {}
    return dict(sorted((results | single).items()))


def read_table(table: Path, key: str) -> list[Result]:
    """
    The rows of a table.

    :param table: as `to_csv` makes it
    :param key: a column that all rows have
    :raises DamagedError: if a row is cut, or the file is something else
    """
    try:
        rows = from_csv(table.read_text(encoding="utf-8"))
        if not rows or any(key not in row for row in rows):
            raise ValueError("no table is written without rows")
    except (TypeError, ValueError) as error:
        raise DamagedError(str(table), "a row is cut, or it is no table of a study. Fetch it again") from error
    return rows


def required_results(out: Path, *needed: str) -> dict[str, Result]:
    """
    All results of a study by name.

    :param out: folder of the study
    :param needed: columns that all of them have
    :raises UserError: if there are none, or they are of another study or version
    """
    results = read_results(out)
    if not results:
        raise UserError(f"There are no results in {out}: run the study first, without --report-only.")
    for name, result in results.items():
        if lacking := [column for column in needed if column not in result]:
            raise UserError(f"{out} is of another study, or of another version: {name} has no {', '.join(lacking)}.")
    return results


def gather(out: Path) -> dict[str, Result]:
    """
    Write all results into one table, and remove the single files. Other processes may do so, too, or keep results.

    :param out: folder of the study
    :return: all results by name
    """
    if not _single(out):
        return read_results(out)
    with _locked(out):
        single = _single(out)  # first: what is kept from now on stays as it is
        results = read_results(out)
        replace_file(out / "results.csv", to_csv(list(results.values())))
        for path in single:
            path.unlink(missing_ok=True)
        with suppress(OSError):  # not empty
            (out / "cells").rmdir()
    return results


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Inside this context no other process is in it with the same folder."""
    check_locks()
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems lock no folders
            wait_for(descriptor)
        yield
    finally:
        os.close(descriptor)


def _single(out: Path) -> list[Path]:
    """The files of single cells; hidden ones are what a killed process was writing."""
    return [path for path in sorted((out / "cells").glob("*.json")) if not path.name.startswith(".")]
