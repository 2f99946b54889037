"""Loading a saved model of any known algorithm, and its checksum."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import torch

from sb3_plastic.algorithms import ALGORITHMS, algorithm_class
from sb3_plastic.errors import UserError


def detect_algorithm(path: Path) -> str:
    """
    The algorithm that saved a model.

    :param path: a zip file
    :return: a name in `ALGORITHMS`
    :raises UserError: if the file is no model, or none of them fits
    """
    try:
        with zipfile.ZipFile(path) as file:
            data = json.loads(file.read("data"))
    except (zipfile.BadZipFile, KeyError) as error:
        raise UserError(f"{path} is not a complete model of Stable-Baselines3: {error}.") from error
    module = data.get("policy_class", {}).get("__module__", "")
    for name, algorithm in ALGORITHMS.items():
        if module == algorithm.policies and algorithm.attribute in data:
            return name
    raise UserError(
        f"The policy of {path} is from {module or 'an unknown module'}, which tells no algorithm. "
        f"Name it: --algo, one of {', '.join(ALGORITHMS)}."
    )


def load_model(path: Path, algo: str | None = None) -> tuple[Any, str]:
    """
    Load a model on the CPU.

    :param path: a zip file
    :param algo: a name in `ALGORITHMS`; None: recognise it
    :return: the model, and its algorithm
    :raises UserError: on an unknown algorithm, or a file that is no model
    """
    path = path if path.suffix else path.with_suffix(".zip")
    if not path.is_file():
        raise UserError(f"There is no model {path}.")
    algo = detect_algorithm(path) if algo is None else algo
    cls = algorithm_class(algo)
    # Nothing is trained: no replay buffer, and schedules need not be unpickled.
    unused = {"buffer_size": 1, "learning_rate": 0.0, "lr_schedule": _zero, "clip_range": _zero}
    return cls.load(path, device="cpu", custom_objects=unused), algo


def _zero(progress: float) -> float:
    return 0.0


def sha256_of(model: Any, path: Path | None) -> str | None:
    """Checksum of the model's file, or else of its parameters; None for what has none."""
    if path is not None:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    policy = getattr(model, "policy", None)
    if not isinstance(policy, torch.nn.Module):
        return None
    digest = hashlib.sha256()
    for name, tensor in policy.state_dict().items():
        digest.update(name.encode() + tensor.detach().cpu().numpy().tobytes())
    return digest.hexdigest()
