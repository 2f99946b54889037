"""
Results as a table: CSV with JSON in the fields that are not text.

A list of records (mappings, such as the scores of an agent) is a table in the table: the names once, then the values of
each record, null where one has none, as in pandas' ``orient="split"``. So the published tables are half as large.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

csv.field_size_limit(2**30)  # a field may hold curves, and the limit of the library is 128 KiB

RECORDS = {"columns", "data"}
"""What names a list of records that was taken apart: a mapping with just these names comes back as such a list."""

Result = dict[str, Any]
"""What came of a cell: plain data (numbers, strings, lists, mappings) by name."""


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
    :raises ValueError: if a row is cut
    :raises TypeError: likewise
    """
    rows = csv.DictReader(io.StringIO(text))
    found = [{name: _decoded(value) for name, value in row.items() if value != ""} for row in rows]
    if found and not text.endswith("\n"):
        raise ValueError("the last row is cut")
    return found


def _encoded(value: object) -> str:
    is_plain_text = isinstance(value, str) and _decoded(value) is value
    return str(value) if is_plain_text else json.dumps(_split(value), separators=(",", ":"))


def _decoded(text: str) -> Any:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return text
    if not isinstance(value, dict) or set(value) != RECORDS:
        return value
    columns = value["columns"]
    return [{k: v for k, v in zip(columns, row, strict=True) if v is not None} for row in value["data"]]


def _split(value: Any) -> Any:
    """Records as names and values; all else, and records that themselves hold nothing (None), as it is."""
    if not isinstance(value, list) or not value or not all(isinstance(row, dict) for row in value):
        return value
    if any(v is None for row in value for v in row.values()):
        return value
    columns = list(dict.fromkeys(name for row in value for name in row))
    return {"columns": columns, "data": [[row.get(name) for name in columns] for row in value]}
