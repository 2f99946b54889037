"""
The folder of an AdaptivePolicy: ``adaptive.json`` and ``adaptive.safetensors`` of the layer, and in ``agent`` the
wrapped policy as ``sb3_plastic.export`` writes it. Plain data and numbers: nothing in it is run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from sb3_plastic.errors import UserError
from sb3_plastic.export.folder import CONFIG as AGENT_CONFIG
from sb3_plastic.export.folder import check_folder as check_agent_folder
from sb3_plastic.files import is_taken, replace_file
from sb3_plastic.safe import DamagedError
from sb3_plastic.seals import broken_seal, seal

CONFIG, TENSORS, AGENT = "adaptive.json", "adaptive.safetensors", "agent"
CHECKED = (TENSORS, f"{AGENT}/{AGENT_CONFIG}")  # the agent's configuration holds the checksum of its tensors
FORMAT = "sb3_plastic.adaptive 4"


def is_adaptive_folder(path: Path) -> bool:
    """Whether a path is what :func:`write_layer` wrote."""
    return (path / CONFIG).is_file()


def check_folder(folder: Path) -> None:
    """
    :param folder: that a policy that adapts is to be written into
    :raises UserError: if it holds something else, or is a file
    """
    if folder.is_file():
        raise UserError(f"{folder} is a file: a policy that adapts is a folder.")
    if is_taken(folder) and not any((folder / name).exists() for name in (CONFIG, TENSORS, AGENT)):
        raise UserError(f"{folder} is not empty, and holds no policy that adapts. Choose another folder.")
    check_agent_folder(folder / AGENT)


def write_layer(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """
    Write the layer; its configuration last, with the checksums of all files: a folder is whole, or refused.

    :param folder: holds the agent already
    :param config: plain data
    :param tensors: by name
    """
    content = safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()})
    replace_file(folder / TENSORS, content)
    others = {name: (folder / name).read_bytes() for name in CHECKED}
    whole = seal({"format": FORMAT, **config}, CONFIG, others)
    replace_file(folder / CONFIG, json.dumps(whole, indent=2) + "\n")


def read_config(folder: Path) -> dict[str, Any]:
    """
    The configuration alone.

    :param folder: what :func:`write_layer` wrote
    :raises UserError: if it is missing, or not ours
    :raises DamagedError: if it is not as it was written
    """
    if not is_adaptive_folder(folder):
        raise UserError(f"{folder} is no adaptive policy: there is no {CONFIG}. `sb3-plastic adapt` makes one.")
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DamagedError(str(folder / CONFIG), error) from error
    found = config.get("format") if isinstance(config, dict) else None
    if found != FORMAT:
        name, _, number = str(found).rpartition(" ")
        later = (
            name == FORMAT.rpartition(" ")[0] and number.isdecimal() and int(number) > int(FORMAT.rpartition(" ")[2])
        )
        refit = f"Fit a new layer around its agent: `sb3-plastic adapt --model {folder / AGENT} --out ...`"
        raise UserError(
            f"{folder / CONFIG} is of the format {found!r}, and this sb3_plastic reads {FORMAT!r} alone: "
            + ("a later version made it. Read it with that one." if later else f"another version made it. {refit}")
        )
    if broken_seal(config, CONFIG, {}):
        raise DamagedError(str(folder / CONFIG), "its checksum does not fit: it was changed since it was written")
    return config


def read_layer(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """
    Configuration and tensors.

    :param folder: what :func:`write_layer` wrote
    :raises UserError: if the folder is not ours
    :raises DamagedError: if a file is missing or not as it was written
    """
    config = read_config(folder)
    others = {name: (folder / name).read_bytes() if (folder / name).is_file() else b"" for name in CHECKED}
    if broken := broken_seal(config, CONFIG, others):
        raise DamagedError(str(folder / broken), f"it is missing, or its checksum is not the one in {CONFIG}")
    return config, safetensors.torch.load(others[TENSORS])
