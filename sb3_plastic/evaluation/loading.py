"""Loading a saved model of any known algorithm, or an exported policy, and its checksum."""

from __future__ import annotations

import hashlib
import json
import pickle
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from sb3_plastic.adaptive import AdaptivePolicy, is_adaptive_folder
from sb3_plastic.adaptive.files import CONFIG as ADAPTIVE_CONFIG
from sb3_plastic.algorithms import ALGORITHMS, algorithm_class
from sb3_plastic.errors import UserError
from sb3_plastic.export import ExportedPolicy, Normalization, is_export, load_policy
from sb3_plastic.export.folder import CONFIG
from sb3_plastic.safe import NO_REPLAY, DamagedError, RefusedError, raw_data, safe_objects
from sb3_plastic.safe.archives import NOT_NEEDED


def model_file(path: str | Path) -> Path:
    """
    The model that a path means. A path may be a model's zip file, with or without its suffix; an exported folder; or
    a run of RL Zoo, whose model is ``<env>.zip`` beside ``<env>/``, else the best or the only one.

    :param path: any of these
    :return: a zip file, or an exported folder
    :raises UserError: if there is no model, or which one is meant is not clear
    """
    path = Path(path)
    zipped = path.parent / f"{path.name}.zip"  # a name may have dots of its own, and that of the folder `.` is empty
    if path.is_dir():
        if is_export(path) or is_adaptive_folder(path):
            return path
        return zipped if zipped.is_file() else _model_of_run(path)
    found = path if path.is_file() else zipped
    if not found.is_file():
        raise UserError(f"There is no model {path if path.suffix else zipped}.")
    return found


def _model_of_run(folder: Path) -> Path:
    models = sorted(folder.glob("*.zip"))
    named = [path for path in models if path.with_suffix("").is_dir()]
    for chosen in (named, [path for path in models if path.stem == "best_model"], models):
        if len(chosen) == 1:
            return chosen[0]
    there = f"several models: name one of {', '.join(path.name for path in models)}" if models else "no model (.zip)"
    raise UserError(f"{folder} is no exported policy (it has no {CONFIG}), and has {there}.")


def detect_algorithm(path: Path) -> str:
    """
    The algorithm that saved a model.

    :param path: a zip file
    :return: a name in `ALGORITHMS`
    :raises UserError: if the file is no model, or none of them fits
    """
    data = raw_data(path)
    policy = data.get("policy_class")
    module = policy.get("__module__", "") if isinstance(policy, dict) else ""
    for name, algorithm in ALGORITHMS.items():
        if module == algorithm.policies and algorithm.attribute in data:
            return name
    raise UserError(
        f"The policy of {path} is from {module or 'an unknown module'}, and of none of the algorithms that are read "
        f"here: {', '.join(ALGORITHMS)}. If it is a class of your own, name the algorithm that trained it: --algo."
    )


def load_model(path: Path, algo: str | None = None, trust: bool = False) -> tuple[Any, str]:
    """
    Load a model on the CPU, to act and not to be trained. It takes observations that are normalised.

    :param path: a zip file, an exported folder, or the folder of an adaptive policy
    :param algo: a name in `ALGORITHMS`; None: recognise it
    :param trust: unpickle what is in the file, whatever it runs; else only data is read
    :return: the model, and its algorithm
    :raises UserError: on an unknown algorithm, a file that is no model, or one that asks for more than data
    """
    path = model_file(path)
    if is_adaptive_folder(path):
        return AdaptivePolicy.load(path), algo or "adaptive"
    if path.is_dir():
        exported = load_policy(path)
        return taken_apart(exported)[0], str(algo or exported.training.get("algo") or "exported")
    algo = detect_algorithm(path) if algo is None else algo
    cls = algorithm_class(algo)
    objects = {name: NOT_NEEDED[name] for name in TRAINING} if trust else safe_objects(path)
    try:
        return cls.load(path, device="cpu", custom_objects=objects), algo
    except UserError:
        raise
    except pickle.UnpicklingError as error:  # torch's, which reads tensors alone
        raise RefusedError(f"{path}, among its tensors,", str(error).splitlines()[-1]) from error
    except Exception as error:
        if trust and not isinstance(error.__cause__, zipfile.BadZipFile):
            raise  # of code that the file brought
        raise DamagedError(f"The model {path}", f"{type(error).__name__}: {error}") from error


def taken_apart(model: Any) -> tuple[Any, Normalization | None]:
    """
    A model in memory as one from a file is: its normalisation is made a part of the environment.

    :param model: with SB3's ``predict``
    :return: the model, and what it wants done to observations first
    :raises UserError: if that is not known
    """
    if isinstance(model, ExportedPolicy):
        known = model.normalization if model.normalization.mean else None
        return ExportedPolicy(model.policy, Normalization(), model.config), known
    return model, Normalization.of_training(model, "their file, or these, as normalization.")


TRAINING = (*NO_REPLAY, "learning_rate", "lr_schedule", "clip_range", "verbose")
"""What is left out of a trusted model, too: nothing is trained, so there need be no replay buffer and no schedules."""


def checksum_of_model(model: Any, path: Path | None) -> str | None:
    """
    Checksum of a model.

    :param model: whose parameters are summed where there is no file, and how its layer learns, if it has one
    :param path: its file or folder
    :return: None of a model without parameters
    """
    if path is not None:
        config = ADAPTIVE_CONFIG if is_adaptive_folder(path) else CONFIG
        file = path / config if path.is_dir() else path  # the configuration holds the checksums of all else
        return hashlib.sha256(file.read_bytes()).hexdigest()
    if isinstance(model, AdaptivePolicy):
        of_agent = checksum_of_model(model.agent, None)
        about = [of_agent, asdict(model.layer.settings), model.lifetime, model.is_frozen]
        return None if of_agent is None else _digest(model.layer.model, json.dumps(about, sort_keys=True))
    policy = getattr(model, "policy", None)
    return _digest(policy) if isinstance(policy, torch.nn.Module) else None


def _digest(module: torch.nn.Module, about: str = "") -> str:
    digest = hashlib.sha256(about.encode())
    for name, tensor in module.state_dict().items():
        digest.update(name.encode() + tensor.detach().cpu().numpy().tobytes())
    return digest.hexdigest()
