"""
A folder that holds a policy: ``config.json``, all that is no tensor, and ``policy.safetensors``.

The configuration is written last and holds the checksums of both files: a folder that was left half-written, or changed
since, is found out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from sb3_plastic.errors import UserError
from sb3_plastic.files import is_taken, replace_file
from sb3_plastic.safe import DamagedError
from sb3_plastic.seals import broken_seal, seal

CONFIG, TENSORS = "config.json", "policy.safetensors"
RESULTS = "results.json"  # of a package, beside them
FORMAT = "sb3_plastic.policy"
VERSION = 1
"""Of the format. A reader refuses versions above its own."""


def is_export(path: Path) -> bool:
    """Whether a folder holds an exported policy. :param path: the folder"""
    return (path / CONFIG).is_file()


def write_folder(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """
    :param folder: is made; files of an earlier export in it are replaced
    :param config: plain data
    :param tensors: by name
    :raises UserError: if the folder holds something else, or a tensor is not finite
    """
    check_folder(folder)
    check_finite(tensors, "export")
    # Copies: tensors that share memory, as a features extractor's of actor and critic do, are refused by the format.
    content = safetensors.torch.save({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()})
    whole = seal({"format": FORMAT, "format_version": VERSION, **config}, CONFIG, {TENSORS: content})
    replace_file(folder / TENSORS, content)
    replace_file(folder / CONFIG, json.dumps(whole, indent=2, allow_nan=False) + "\n")


def check_folder(folder: Path) -> None:
    """
    :param folder: that an export is to be written into
    :raises UserError: if it holds something else
    """
    if is_taken(folder) and not (folder / TENSORS).is_file():
        raise UserError(f"{folder} is not empty, and no exported policy. Choose another folder.")
    if (folder / RESULTS).is_file():
        raise UserError(
            f"{folder} holds a package, whose card tells of the model that is in it. Choose another folder, or "
            "`sb3-plastic package` the model."
        )


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """
    The configuration and the tensors. Nothing but JSON and numbers is read.

    :param folder: as :func:`write_folder` leaves it
    :raises UserError: if there is no such folder, or it was made by a later version
    :raises DamagedError: if a file is missing or not as it was written
    """
    config = read_config(folder)
    try:
        content = (folder / TENSORS).read_bytes()
    except FileNotFoundError as error:
        raise DamagedError(str(folder), f"there is no {TENSORS}") from error
    if broken_seal(config, CONFIG, {TENSORS: content}):
        raise DamagedError(str(folder / TENSORS), f"its checksum is not the one in {CONFIG}")
    try:
        tensors = safetensors.torch.load(content)
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise DamagedError(str(folder / TENSORS), error) from error
    check_finite(tensors, "load")
    return config, tensors


def read_config(folder: Path) -> dict[str, Any]:
    """
    The configuration alone.

    :param folder: as :func:`write_folder` leaves it
    :raises UserError: if there is no such folder, or it was made by a later version
    :raises DamagedError: if the file is not as it was written
    """
    file = folder / CONFIG
    if not file.is_file():
        raise UserError(f"{folder} holds no exported policy: there is no {CONFIG}. `sb3-plastic export` makes one.")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DamagedError(str(file), error) from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise DamagedError(str(file), f"its format is not {FORMAT}")
    version = config.get("format_version")
    if not isinstance(version, int) or version > VERSION:
        raise UserError(
            f"{file} has version {version} of the format, and this sb3_plastic reads versions up to {VERSION}: "
            "pip install --upgrade sb3_plastic"
        )
    if broken_seal(config, CONFIG, {}):
        raise DamagedError(str(file), "its checksum does not fit: it was changed after the export")
    return config


def check_finite(tensors: Mapping[str, Tensor], doing: str) -> None:
    """
    Refuse tensors that are not finite.

    :param tensors: by name
    :param doing: ``export`` or ``load``
    :raises UserError: naming a tensor that is not finite
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise UserError(
                f"Cannot {doing} the policy: {name} has values that are not finite. Its training has diverged: take an "
                "earlier checkpoint, or train with a lower learning rate."
            )
