"""Where results come from: settings, checksums, versions. Results of different settings are never mixed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sb3_plastic.errors import UserError
from sb3_plastic.evaluation.environment import TrainedIn
from sb3_plastic.evaluation.loading import checksum_of_model
from sb3_plastic.evaluation.protocols import Condition
from sb3_plastic.evaluation.reading import read_json
from sb3_plastic.evaluation.records import SETTINGS
from sb3_plastic.evaluation.settings import TrialSettings
from sb3_plastic.export import Normalization
from sb3_plastic.files import is_taken, replacing, write_json
from sb3_plastic.perturbations.spec import Perturbation
from sb3_plastic.versions import commit, versions


def settings_of(
    common: Mapping[str, Any],
    trained: TrainedIn,
    model: Any,
    path: Path | None,
    trials: TrialSettings,
    conditions: Sequence[Condition],
) -> dict[str, Any]:
    """
    All that decides the results.

    :param common: the columns that are the same in all records
    :param trained: the model's environment
    :param model: the model
    :param path: its file, if it has one
    :param trials: which episodes are run
    :param conditions: what is run
    """
    return {
        **common,
        "model_sha256": checksum_of_model(model, path),
        "vec_normalize_sha256": _checksum(trained.vec_normalize),
        "env_kwargs": _plain(trained.env_kwargs),
        "wrappers": _plain([*trained.wrappers, *trained.vec_wrappers]),
        "protocols": _plain(trials.protocols),
        "controls": _plain(trials.controls),
        "cells": [condition.cell.file_name for condition in conditions],
        "perturbations_sha256": _digest([(*c.perturbations, *c.sham) for c in conditions]),
        "scenarios_sha256": {
            f"{c.cell.protocol} {c.cell.scenario}": _digest([c.perturbations])
            for c in conditions
            if c.cell.split not in ("reference", "sham", "fault")  # they borrow a ground or an onset from another
        },
        "base_seed": trials.seed,
        "episodes": trials.episodes,
        "deterministic": trials.deterministic,
        "steps": trials.steps,
        "horizon": trials.horizon,
        "max_rows": trials.max_rows,
        "versions": versions(),
        "commit": commit(),
    }


def _checksum(statistics: Path | Normalization | None) -> str | None:
    if isinstance(statistics, Normalization):  # of a model in memory
        return hashlib.sha256(json.dumps(statistics.to_plain(), sort_keys=True).encode()).hexdigest()
    return checksum_of_model(None, statistics)


def _digest(acting: Sequence[Sequence[Perturbation]]) -> str:
    """Of what cells mean: their names do not tell, where a suite was edited or scenarios are the user's own."""
    plain = [[p.to_dict() for p in entries] for entries in acting]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value if isinstance(value, str | int | float | bool | None) else repr(value)


def claim(folder: Path, settings: dict[str, Any]) -> None:
    """
    Begin a folder, or go on in it.

    :param folder: the results folder
    :param settings: as :func:`settings_of` returns them
    :raises UserError: if it holds results of other settings, or perhaps of another model, or something else
    """
    file = folder / SETTINGS
    if is_taken(folder) and not file.is_file():  # in this order: the settings are the first file of an evaluation
        raise UserError(f"{folder} is not empty, and no results folder. Choose another for the results.")
    if not file.is_file():
        with suppress(FileExistsError):  # another evaluation has begun here meanwhile
            with replacing(file, new=True) as temporary:
                write_json(temporary, settings)
            return
    before = read_json(file)
    changed = [key for key in sorted({*before, *settings}) if before.get(key) != settings.get(key)]
    if changed:
        lines = [f"  {key}: {_short(before.get(key))} there, {_short(settings.get(key))} now" for key in changed]
        raise UserError(
            f"{folder} holds results of other settings, which must not be mixed:\n"
            + "\n".join(lines)
            + "\nChoose another folder, or delete this one."
        )
    if settings["model_sha256"] is None:
        raise UserError(
            f"{folder} holds results already, and a model in memory without parameters cannot be told from another. "
            "Choose another folder, or delete this one."
        )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
