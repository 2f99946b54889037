"""Where results come from: settings, checksums, versions. Results of different settings are never mixed."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import sb3_plastic
from sb3_plastic.errors import UserError
from sb3_plastic.evaluation.environment import TrainedIn
from sb3_plastic.evaluation.loading import sha256_of
from sb3_plastic.evaluation.reading import read_json
from sb3_plastic.evaluation.settings import TrialSettings
from sb3_plastic.files import is_taken, write_json
from sb3_plastic.versions import versions


def settings_of(
    common: Mapping[str, Any],
    trained: TrainedIn,
    model: Any,
    path: Path | None,
    trials: TrialSettings,
    cells: Sequence[str],
) -> dict[str, Any]:
    """
    All that decides the results.

    :param common: the columns that are the same in all records
    :param trained: the model's environment
    :param model: the model
    :param path: its file, if it has one
    :param trials: which episodes are run
    :param cells: file names of the cells
    """
    return {
        **common,
        "model_sha256": sha256_of(model, path),
        "vec_normalize_sha256": None if trained.vec_normalize is None else sha256_of(None, trained.vec_normalize),
        "env_kwargs": _plain(trained.env_kwargs),
        "wrappers": _plain([*trained.wrappers, *trained.vec_wrappers]),
        "protocols": _plain(trials.protocols),
        "controls": _plain(trials.controls),
        "cells": list(cells),
        "base_seed": trials.seed,
        "episodes": trials.episodes,
        "deterministic": trials.deterministic,
        "steps": trials.steps,
        "horizon": trials.horizon,
        "max_rows": trials.max_rows,
        "versions": versions(),
        "commit": commit(),
    }


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
    :raises UserError: if it holds results of other settings, or something else
    """
    file = folder / "settings.json"
    if not file.is_file():
        if is_taken(folder):
            raise UserError(f"{folder} is not empty, and no results folder. Choose another for the results.")
        write_json(file, settings)
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


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def commit() -> str | None:
    """The commit of the source tree, with ``+`` if files differ from it; None outside of one."""
    root = Path(sb3_plastic.__file__).parents[1]
    if not (root / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
