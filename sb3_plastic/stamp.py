"""A stamp in every saved model: the version that made it, and the configuration with which it must load.

A file that was edited, or loaded with other arguments, would otherwise give another network silently. Defaults that
change between versions do not: what was saved stands, see saving.py.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Collection, Mapping
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_plastic.errors import UserError
from sb3_plastic.versions import versions

NOT_STAMPED = ("verbose", "device", "tensorboard_log", "seed", "stats_window_size", "_init_setup_model")
"""Arguments of an algorithm that do not change what it computes."""

CAUSES = {
    "policy": "its file was edited, or load() was given another {name}, or other policy_kwargs. Leave it out, or give "
    "policy_kwargs with {name}={value!r} in load(..., custom_objects={{'policy_kwargs': ...}}).",
    "algorithm": "its file was edited. Give the value that you want, load(..., {name}=...).",
}
"""Why a configuration differs, and a remedy, by part."""


def plain(value: Any) -> Any:
    """
    A value as JSON gives it back.

    :param value: any value
    :return: numbers, strings, lists and dicts of them; None for everything else
    """
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return None


def configuration(model: BaseAlgorithm) -> dict[str, dict[str, Any]]:
    """
    What a model computes with, beside its weights.

    :param model: with a policy
    :return: the arguments of ``policy`` and ``algorithm`` that are plain data, by name; of arguments that are mappings
        of options, in ``whole_options``, all options, those that were left to their defaults, too
    """
    names = [name for name in inspect.signature(type(model)).parameters if name not in NOT_STAMPED]
    own = {name: vars(model)[name] for name in names if isinstance(vars(model).get(name), bool | int | float | str)}
    whole: dict[str, Any] = getattr(model.policy, "whole_options", dict)()
    arguments = plain(model.policy._get_constructor_parameters())
    return {"policy": arguments, "algorithm": own, "whole_options": plain(whole)}


def digest(configuration: Mapping[str, Any]) -> str:
    """SHA-256 of a configuration."""
    return hashlib.sha256(json.dumps(configuration, sort_keys=True).encode()).hexdigest()


def make_stamp(model: BaseAlgorithm, exclude: Collection[str]) -> dict[str, Any]:
    """
    :param model: about to be saved
    :param exclude: attributes that are not saved
    :return: plain data: versions, configuration, and the configuration's digest
    """
    found = configuration(model)
    found["algorithm"] = {name: value for name, value in found["algorithm"].items() if name not in exclude}
    return {"versions": versions(), "configuration": found, "digest": digest(found)}


def check_stamp(stamp: Mapping[str, Any], model: BaseAlgorithm, part: str, given: Collection[str] = ()) -> None:
    """
    Refuse a model that has loaded with another configuration than it was saved with.

    :param stamp: the stamp in its file
    :param model: as it has loaded
    :param part: ``policy`` or ``algorithm``
    :param given: arguments that the user gave anew
    :raises UserError: naming the first argument that differs, and its two values
    """
    saved, found = stamp["configuration"], json.loads(json.dumps(configuration(model)))
    if digest(saved) != stamp["digest"]:
        raise UserError("The stamp in the model's file has been edited: its digest is not that of its configuration.")
    whole = saved.get("whole_options", {}) if part == "policy" else {}  # files of early commits have none
    wanted, loaded = saved[part] | whole, found[part] | {name: found["whole_options"].get(name) for name in whole}
    made_with = stamp["versions"].get("sb3_plastic", "an unknown version")
    known = {*loaded, *inspect.signature(type(model)).parameters}
    for name, value in wanted.items():
        if name in given or loaded.get(name) == value:
            continue
        what = f"The model was saved by sb3_plastic {made_with} with {name}={value!r}, "
        if name not in known:
            raise UserError(f"{what}which is no argument of this version: read it with that one.")
        cause = CAUSES[part].format(name=name, value=value)
        raise UserError(f"{what}but loads with {name}={loaded.get(name)!r}: {cause}")
