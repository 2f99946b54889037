"""The results of a study: one file per cell while it runs, one table in the end."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sb3_plastic.errors import UserError
from sb3_plastic.files import replace_file

Result = dict[str, Any]
"""What came of a cell: plain data (numbers, strings, lists, mappings) by name."""


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
    replace_file(out / "cells" / f"{result['cell']}.json", json.dumps(result).encode())


def read_results(out: Path) -> dict[str, Result]:
    """
    All results of a study by name: those of its table, and those that were not gathered yet.

    :param out: folder of the study
    """
    table = out / "results.csv"
    results = {result["cell"]: result for result in from_csv(table.read_text())} if table.is_file() else {}
    for path in sorted((out / "cells").glob("*.json")):
        results[path.stem] = json.loads(path.read_text())
    return dict(sorted(results.items()))


def required_results(out: Path) -> dict[str, Result]:
    """
    All results of a study by name.

    :param out: folder of the study
    :raises UserError: if there are none
    """
    results = read_results(out)
    if not results:
        raise UserError(f"There are no results in {out}: run the study first, without --report-only.")
    return results


def gather(out: Path) -> dict[str, Result]:
    """
    Write all results into one table, and remove the single files.

    :param out: folder of the study
    :return: all results by name
    """
    results, single = read_results(out), sorted((out / "cells").glob("*.json"))
    if single:
        replace_file(out / "results.csv", to_csv(list(results.values())).encode())
        for path in single:
            path.unlink()
        if not any((out / "cells").iterdir()):
            (out / "cells").rmdir()
    return results


def to_csv(results: Sequence[Mapping[str, Any]]) -> str:
    """
    Results as a table: one row each, text as it is, all else as JSON; empty where a result lacks a column.

    :param results: plain data by name
    """
    columns = list(dict.fromkeys(name for result in results for name in result))
    table = io.StringIO()
    writer = csv.DictWriter(table, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows([{name: _encoded(value) for name, value in result.items()} for result in results])
    return table.getvalue()


def from_csv(text: str) -> list[Result]:
    """
    The results that :func:`to_csv` wrote. An empty text comes back as a missing column.

    :param text: the table
    """
    csv.field_size_limit(2**30)
    rows = csv.DictReader(io.StringIO(text))
    return [{name: _decoded(value) for name, value in row.items() if value != ""} for row in rows]


def _encoded(value: object) -> str:
    is_plain_text = isinstance(value, str) and _decoded(value) is value
    return str(value) if is_plain_text else json.dumps(value, separators=(",", ":"))


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
