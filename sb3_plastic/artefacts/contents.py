"""What a model's files hold, read without running any of it."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sb3_plastic.adaptive import is_adaptive_folder
from sb3_plastic.adaptive.files import AGENT, read_layer
from sb3_plastic.adaptive.files import CONFIG as LAYER_CONFIG
from sb3_plastic.adaptive.files import TENSORS as LAYER_TENSORS
from sb3_plastic.artefacts import layers
from sb3_plastic.errors import UserError
from sb3_plastic.evaluation.loading import model_file
from sb3_plastic.evaluation.zoo_files import statistics_files, zoo_folder
from sb3_plastic.export import Normalization
from sb3_plastic.export.folder import CONFIG, TENSORS, read_folder
from sb3_plastic.export.plain import from_plain
from sb3_plastic.safe import DamagedError, RefusedError, check_wrapper, listed, raw_data, read_literal, read_yaml
from sb3_plastic.safe.archives import NOT_NEEDED, UNREADABLE, is_pickled, read_member, unpickled
from sb3_plastic.snn.config import SNNConfig

EVALUATED = (
    "normalize",
    "policy_kwargs",
    "env_kwargs",
    "monitor_kwargs",
    "replay_buffer_class",
    "replay_buffer_kwargs",
)
"""Entries of config.yml that RL Zoo evaluates if they are strings."""

PACKAGES = {
    "Python": "python",
    "Stable-Baselines3": "stable_baselines3",
    "Gymnasium": "gymnasium",
    "Numpy": "numpy",
    "PyTorch": "torch",
}
"""Packages as SB3 writes their names -> as they are imported."""


@dataclass
class Contents:
    """
    What is in a model, an export, a run of RL Zoo, or the folder of an adaptive policy.

    :param kind: ``model``, ``export``, ``run`` or ``adaptive``
    :param policy: name of its class
    :param arguments: of the policy, as they were given
    :param tensors: the policy's, by name
    :param facts: what else is known, by the titles under which it is shown
    :param versions: of the packages with which it was made
    :param code: what in it would run code: place -> what it asks for
    :param files: the files, by the names under which they are shown
    :param layer: the adaptive layer around or inside it, by the titles under which it is shown; empty without one
    :param stamped: all arguments of the policy, as a model's stamp has them; empty where there is none
    """

    kind: str
    policy: str
    arguments: dict[str, Any]
    tensors: dict[str, Tensor]
    facts: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    code: dict[str, str] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    layer: dict[str, Any] = field(default_factory=dict)
    stamped: dict[str, Any] = field(default_factory=dict)

    def checksums(self) -> dict[str, str]:
        """SHA-256 of each file."""
        return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in self.files.items()}

    def network_argument(self, name: str) -> Any:
        """
        An argument of the spiking network; one that was not given has the default of the version that saved it, if the
        file tells that, else today's.

        :param name: of the argument
        """
        given = {**self.stamped, **self.arguments, **(self.arguments.get("snn_kwargs") or {})}
        return given.get(name, getattr(SNNConfig(), name))


def contents(path: Path) -> Contents:
    """
    Look into a model's zip file, an exported folder, a run of RL Zoo, or a folder of `sb3-plastic adapt`.

    :param path: of any of these
    :raises UserError: if it is none of them, or damaged
    """
    file = model_file(path)
    if is_adaptive_folder(file):
        return _of_adaptive(file)
    found = _of_export(file) if file.is_dir() else _of_model(file)
    try:
        found.layer = layers.inside(found.arguments, found.tensors)
    except UserError:
        raise  # of an option of a later version, for instance
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedError(str(file), f"no layer ({type(error).__name__}: {error})") from error
    found.tensors.pop(layers.FOUND, None)  # text, which is not counted among the parameters
    found.kind = "run" if path.is_dir() and found.kind == "model" else found.kind
    return found


def _of_export(folder: Path) -> Contents:
    config, tensors = read_folder(folder)
    policy = config.get("policy", {})
    try:
        facts = {
            "observation space": _space_text(policy["observation_space"]),
            "action space": _space_text(policy["action_space"]),
            **{name.replace("_", " "): value for name, value in from_plain(config.get("training", {}), CONFIG).items()},
            "normalised entries": sum(
                len(part["$array"]) if "$array" in part else 1 for part in config["normalization"]["mean"].values()
            ),
        }
        name = policy["class"]["$class"]
        arguments = {
            key: v["$class"] if isinstance(v, dict) and "$class" in v else v for key, v in policy["arguments"].items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise DamagedError(str(folder / CONFIG), f"no policy ({type(error).__name__}: {error})") from error
    files = {name: folder / name for name in (CONFIG, TENSORS)}
    return Contents("export", name, arguments, tensors, facts, config.get("versions", {}), files=files)


def _of_adaptive(folder: Path) -> Contents:
    """The wrapped agent, and the layer around it."""
    config, tensors = read_layer(folder)
    found = _of_export(folder / AGENT)
    try:
        found.layer = layers.around(config, tensors)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedError(str(folder / LAYER_CONFIG), f"no layer ({type(error).__name__}: {error})") from error
    layer_files = {name: folder / name for name in (LAYER_CONFIG, LAYER_TENSORS)}
    found.files = layer_files | {f"{AGENT}/{name}": path for name, path in found.files.items()}
    found.kind = "adaptive"
    return found


def _space_text(plain: Mapping[str, Any]) -> str:
    kind = plain["type"]
    if kind == "Dict":
        return "Dict(" + ", ".join(f"{key}: {_space_text(part)}" for key, part in plain["spaces"].items()) + ")"
    shape = plain.get("shape", plain.get("n", plain.get("nvec")))
    return f"{kind}({shape}" + (f", {plain['dtype']})" if "dtype" in plain else ")")


def _add_zoo_files(found: Contents, beside: Path) -> None:
    """RL Zoo's files, which the other commands read, too. :param found: of the model :param beside: their folder"""
    for name in ("args.yml", "config.yml"):
        file = beside / name
        if not file.is_file():
            continue
        found.files[f"{beside.name}/{name}"] = file
        try:
            data = read_yaml(file)
        except RefusedError as error:
            found.code[f"{beside.name}/{name}"] = error.what
            continue
        if name == "args.yml":
            found.facts["environment"] = data.get("env")
            if ":" in str(data.get("env")):
                found.code[f"{beside.name}/{name}: env"] = f"the import of a module, {data['env']}"
        else:
            _check_config(found, data, f"{beside.name}/{name}")


def _check_config(found: Contents, config: Mapping[str, Any], where: str) -> None:
    """Note down strings that RL Zoo would evaluate to more than data, and wrappers that files may not name."""
    for name in EVALUATED:
        if name == "replay_buffer_class" and str(config.get(name)).isidentifier():
            continue  # HerReplayBuffer: a name alone runs nothing
        try:
            read_literal(config.get(name), where)
        except RefusedError as error:
            found.code[f"{where}: {name}"] = error.what
    for name in ("env_wrapper", "vec_env_wrapper"):
        for wrapper in listed(config.get(name)):
            try:
                check_wrapper(wrapper, where)
            except RefusedError as error:
                found.code[f"{where}: {name}"] = error.what


def _of_model(path: Path) -> Contents:
    data = raw_data(path)
    values: dict[str, Any] = {}
    code: dict[str, str] = {}
    for name, entry in data.items():
        if not is_pickled(entry):
            values[name] = entry
            continue
        try:
            values[name] = unpickled(path, name, entry)
        except RefusedError as error:
            if name not in NOT_NEEDED:  # these are never unpickled: schedules are functions in every model
                code[f"data: {name}"] = error.what
        except DamagedError:
            if name not in NOT_NEEDED:
                raise
    policy = values.get("policy_class")
    arguments = values.get("policy_kwargs")
    facts = {
        "observation space": str(values.get("observation_space", "not readable as data")),
        "action space": str(values.get("action_space", "not readable as data")),
        "num timesteps": values.get("num_timesteps"),
        "updates": values.get("_n_updates"),
        "seed": values.get("seed"),
        "environments": values.get("n_envs"),
        "configuration digest": _part(values.get("stamp"), "digest"),
    }
    found = Contents(
        "model",
        f"{policy.__module__}.{policy.__qualname__}" if isinstance(policy, type) else "not readable as data",
        dict(arguments) if isinstance(arguments, Mapping) else {},
        _tensors(path, code),
        {name: value for name, value in facts.items() if value is not None},
        _versions(path, data),
        code,
        {path.name: path},
    )
    try:
        folder = zoo_folder(path)
    except UserError:  # those of several runs: the other commands refuse to choose
        folder = None
    stamped = _part(_part(values.get("stamp"), "configuration"), "policy")
    found.stamped = dict(stamped) if isinstance(stamped, Mapping) else {}
    if folder is not None:
        _add_zoo_files(found, folder)
    for statistics in filter(Path.is_file, statistics_files(path, folder)):
        _add_statistics(found, statistics)
    return found


def _part(of: Any, name: str) -> Any:
    """An entry of a mapping; None if it is none, which an edited file may have there."""
    return of.get(name) if isinstance(of, Mapping) else None


def _add_statistics(found: Contents, file: Path) -> None:
    found.files[file.name] = file
    try:
        entries = sum(mean.size for mean in Normalization.load(file).mean.values())
    except RefusedError as error:
        found.code[file.name] = error.what
    else:
        found.facts.setdefault("normalised entries", entries)  # of the first, which the other commands read


def _tensors(path: Path, code: dict[str, str]) -> dict[str, Tensor]:
    """The policy's tensors; none, and a line in ``code``, if their file asks for more than tensors."""
    content = read_member(path, "policy.pth")
    try:
        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        code["policy.pth"] = str(error).splitlines()[-1][:200] if "GLOBAL" not in str(error) else _unsupported(error)
        return {}
    except Exception as error:  # torch has no family of errors for damaged files
        raise DamagedError(f"The model {path}", f"policy.pth: {error}") from error
    if not isinstance(loaded, Mapping):
        raise DamagedError(f"The model {path}", "policy.pth holds no tensors")
    return {str(name): loaded[name] for name in loaded if isinstance(loaded[name], Tensor)}


def _unsupported(error: Exception) -> str:
    words = str(error).split("GLOBAL", 1)[1].split()
    return words[0] if words else "more than tensors"


def _versions(path: Path, data: Mapping[str, Any]) -> dict[str, str]:
    """As SB3 noted them down in the file."""
    found: dict[str, str] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            if "system_info.txt" in archive.namelist():
                for line in archive.read("system_info.txt").decode("utf-8", "replace").splitlines():
                    name, colon, value = line.removeprefix("- ").partition(": ")
                    if colon and name not in ("OS", "GPU Enabled"):
                        found[name] = value
    except (*UNREADABLE, KeyError, EOFError) as error:
        raise DamagedError(f"The model {path}", error) from error
    named = {PACKAGES.get(name, name): value for name, value in found.items()}
    stamped = _part(data.get("stamp"), "versions")
    return {**named, **stamped} if isinstance(stamped, Mapping) else named


def as_json(value: Any) -> str:
    """
    Plain data as JSON; what has no form there as text.

    :param value: nested mappings and lists
    """
    return json.dumps(value, indent=2, default=str)
