"""Reading results folders. Whatever is damaged is an error that names the file, and says what to do."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sb3_plastic.errors import UserError
from sb3_plastic.evaluation.records import COLUMNS, CONTROLS, PROTOCOLS, RECORDS, SETTINGS, SUMMARY, TRACES, Cell, Trace
from sb3_plastic.safe import DamagedError
from sb3_plastic.seals import SUMS, broken_seal

AGAIN = "Delete it and start the same `sb3-plastic evaluate` again: it goes on with what is complete."

CLAIMED = "Choose another folder, or delete this one: nobody knows what its episodes are of."

TEXT = ("label", "algo", "env_id", "robot", "suite", "tier", "scenario", "split", "kind", "values")
CHOICES = {"control": CONTROLS, "protocol": PROTOCOLS}
FLAGS = ("survived", "fell", "unstable")
INTEGERS = ("train_seed", "eval_seed", "episode", "onset", "removal", "steps", "length", *FLAGS)
ALWAYS = (*INTEGERS, "return", "forward_reward", "energy")
"""Columns that are never empty."""


def read_records(folders: Path | str | Iterable[Path | str]) -> pd.DataFrame:
    """
    The records of one results folder or of several, one below the other.

    :param folders: results folders
    :raises UserError: if a folder has no records, damaged ones, or the same model twice
    """
    chosen: Sequence[Path | str] = [folders] if isinstance(folders, Path | str) else list(folders)
    records = pd.concat([_read_table(Path(folder) / RECORDS) for folder in chosen], ignore_index=True)
    check_once(records)
    return records


def check_once(records: pd.DataFrame) -> None:
    """
    Refuse an episode that is there twice.

    :param records: of one results folder or of several
    :raises UserError: naming the episode
    """
    key = ["label", "train_seed", "control", "protocol", "scenario", "env_id", "eval_seed", "episode"]
    twice = records.duplicated(key)
    if twice.any():
        first = records.loc[twice, key].iloc[0].to_dict()
        raise UserError(
            f"The same episode is there twice, which would be counted twice: {first}. Give each trained model its own "
            "--train-seed, and each method its own --label."
        )


def _read_table(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise UserError(
            f"{path.parent} has no records.csv: it is no results folder of `sb3-plastic evaluate`, or that was "
            "interrupted. Start the same command again, it goes on where it stopped."
        )
    try:
        content = path.read_bytes()
        raw = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)
    except ValueError as error:  # no columns, rows that are too long, not UTF-8
        raise UserError(f"{path} is no table: {str(error).strip()}. {AGAIN}") from error
    if not content.endswith(b"\n") or raw.isna().any(axis=None):  # a row that is too short is filled up with NaN
        raise UserError(f"{path} is no table: a row is cut. {AGAIN}")
    lacking = [name for name in COLUMNS if name not in raw]
    if missing := [name for name in lacking if name in (*TEXT, *CHOICES, *ALWAYS)]:
        raise UserError(
            f"{path} lacks the columns {', '.join(missing)}: it is of another program or version, or damaged. {AGAIN}"
        )
    if raw.empty:
        raise UserError(f"{path} holds no episodes. {AGAIN}")
    raw = raw.assign(**dict.fromkeys(lacking, ""))  # of an earlier version
    return raw.assign(**{name: _values(raw[name], path) for name in COLUMNS})


def _values(column: pd.Series, path: Path) -> pd.Series:
    """The values of a column, checked."""
    name, text = str(column.name), column
    if name in TEXT:
        return text
    if name in CHOICES:
        _refuse(~text.isin(CHOICES[name]), text, f"is one of {', '.join(CHOICES[name])}", path)
        return text
    values = pd.to_numeric(text, errors="coerce").astype(float)
    bad = ~np.isfinite(values) & ((text != "") | (name in ALWAYS))
    _refuse(bad, text, "is a finite number" + ("" if name in ALWAYS else ", or empty"), path)
    if name in INTEGERS:
        _refuse(values % 1 != 0, text, "is a whole number", path)
    if name in FLAGS:
        _refuse(~values.isin([0, 1]), text, "is 0 or 1", path)
    if name in INTEGERS:
        return values.astype(np.int64)
    return text.where(text != "", "nan").astype(float)  # which, unlike pandas' reader, loses no digit


def _refuse(bad: Any, text: pd.Series, allowed: str, path: Path) -> None:
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise UserError(f"{path}, line {row + 2}: {text.name} {allowed}, got {text.iloc[row]!r}. {AGAIN}")


def read_json(path: Path) -> dict[str, Any]:
    """
    Read a mapping from a JSON file.

    :param path: file
    :raises UserError: if it is missing, or holds anything else
    """
    advice = CLAIMED if path.name == SETTINGS else AGAIN
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"There is no {path}. {AGAIN}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON: {error}. {advice}") from error
    if not isinstance(data, dict):
        raise UserError(f"{path} holds no mapping, but {type(data).__name__}. {advice}")
    return data


def check_sums(folder: Path, summary: dict[str, Any]) -> None:
    """
    Check that the records and the summary are as the evaluation wrote them. Earlier evaluations have
    no checksums.

    :param folder: of the results
    :param summary: content of ``summary.json``
    :raises DamagedError: naming the file that is not
    """
    if summary.get(SUMS) is None:
        return
    if broken := broken_seal(summary, SUMMARY, {RECORDS: (folder / RECORDS).read_bytes()}):
        reason = f"its checksum does not fit: it was changed since. {AGAIN.removesuffix('.')}"
        raise DamagedError(str(folder / broken), reason)


def load_trace(path: Path | str) -> tuple[Cell, Trace]:
    """
    Read a file of ``traces``.

    :param path: the file
    :return: the cell, and its episodes
    :raises DamagedError: if it is not whole
    :raises UserError: if a later version wrote it
    """
    try:
        with Path(path).open("rb") as opened, np.load(opened) as file:  # numpy alone leaves a damaged file open
            arrays = dict(file)
        named = json.loads(str(arrays.pop("cell")))
        if unknown := {*named, *arrays} - {field.name for kind in (Cell, Trace) for field in fields(kind)}:
            raise UserError(
                f"{path} has {', '.join(sorted(unknown))}, which this version does not know: a later one wrote it."
            )
        cell = Cell(**named)
        trace = Trace(**arrays)
        shape = trace.reward.shape
        alike = all(getattr(trace, field.name).shape[:1] == shape[:1] for field in fields(Trace))
        per_step = (trace.forward_reward, trace.effort, trace.fast_weight_norm)
        if len(shape) != 2 or not alike or any(values.shape[:2] != shape for values in per_step):
            raise ValueError("its arrays do not belong together")
        if np.isinf(trace.reward).any() or np.isinf(trace.forward_reward).any():
            raise ValueError("its rewards are infinite")
    except (FileNotFoundError, PermissionError, UserError):
        raise
    except Exception as error:  # numpy's, zipfile's, zlib's and json's: damage has no family of its own
        raise DamagedError(str(path), f"{type(error).__name__}: {error}. {AGAIN.removesuffix('.')}") from error
    return cell, trace


def load_traces(folder: Path | str) -> dict[Cell, Trace]:
    """All cells of a results folder, by name. :param folder: the results folder"""
    return dict(load_trace(path) for path in sorted((Path(folder) / TRACES).glob("[!.]*.npz")))
