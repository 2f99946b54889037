"""What is known of an adaptive layer, around an agent or inside a policy, by the titles under which it is shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sb3_plastic.adaptive.options import ACTOR, LayerOptions

INSIDE = "beside."
"""Tensors of a layer inside a policy begin so."""

FOUND = f"{INSIDE}_extra_state"
"""One of them: what the calibration found, as JSON in bytes."""


def around(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """
    Of a layer around an agent.

    :param config: its file
    :param tensors: of its forward model
    :raises KeyError: if something is missing; likewise other errors of plain data that is not what a layer writes
    """
    model, report = config["forward_model"], config["report"]
    shares = {int(i): float(share) for i, share in report.get("unexplained", {}).items()}
    sizes = ", ".join(map(str, model["net_arch"]))
    return {
        "forward model": f"{model['members']} x {model['body']}, layers of {sizes}",
        "parameters": sum(tensor.numel() for tensor in tensors.values()),
        "nominal steps learned from": report.get("n_steps"),
        "seed": report.get("seed"),
        **_unexplained(shares),
        "right after five steps, in hindsight": report.get("forecast"),
        "kept over episodes": config["lifetime"],
        "frozen": config.get("frozen", False),
        **_settings(config["settings"]),
    }


def inside(arguments: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """
    Of a layer that a policy has learned beside its training; empty if it has none.

    :param arguments: of the policy
    :param tensors: of the policy
    :raises UserError: on options that `adaptive` does not have
    :raises KeyError: if something is missing; likewise other errors of plain data that is not what a layer writes
    """
    if FOUND not in tensors or "adaptive" not in arguments:  # nor are they where they ask to run code
        return {}
    options = LayerOptions.of(arguments["adaptive"])
    found = json.loads(bytes(tensors[FOUND].tolist()).decode())
    sizes = ", ".join(map(str, options.net_arch))
    model = f"{options.members} x {options.forward_model}, layers of {sizes}"
    facts = {
        "forward model": "linear in observation and spikes" if options.forward_model == ACTOR else model,
        "parameters": sum(x.numel() for name, x in tensors.items() if name.startswith(INSIDE) and name != FOUND),
        "kept over episodes": options.lifetime,
    }
    if found["settings"] is None:
        return facts | {"calibrated": False}
    shares = dict(zip(found["components"], found["settings"].get("unexplained", ()), strict=False))
    return {**facts, **_unexplained(shares), **_settings(found["settings"])}


def _unexplained(shares: Mapping[int, float]) -> dict[str, Any]:
    mean = sum(shares.values()) / len(shares) if shares else None
    return {"share unexplained, mean": mean, "share unexplained, by observation": shares}


def _settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they are stored; those that say nothing are left out, and learned rules are one table."""
    said = ("surprise_threshold", "head_start", "calm", "lead", "always", "unexplained", "rule")
    learned = {f"{name}, {key}": x for name, rule in settings.get("rule", {}).items() for key, x in rule.items()}
    others = {name.replace("_", " "): value for name, value in settings.items() if name not in said}
    return {
        "surprise threshold of each hypothesis": dict(settings["surprise_threshold"]),
        "who acts": {name: settings[name] for name in ("head_start", "calm", "lead")},
        "always acts": settings["always"],
        **{name: value for name, value in {**others, "learned rules": learned}.items() if value not in ([], {})},
    }
