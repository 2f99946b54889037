"""`sb3-plastic inspect`: what is in a model, an exported folder, a run of RL Zoo or an adaptive policy. It never runs
what they hold.

sb3-plastic inspect logs/plastic_ppo/Ant-v5_1
sb3-plastic inspect docs/results/adaptive/HalfCheetah-v5
sb3-plastic inspect agent.zip --json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from sb3_plastic.artefacts.contents import Contents, as_json, contents
from sb3_plastic.evaluation.arguments import add_model_file
from sb3_plastic.versions import versions


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command.

    :param argv: arguments; None: those of the process
    :return: exit status
    """
    parser = argparse.ArgumentParser(
        prog="sb3-plastic inspect", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_model_file(parser, "a zip file, a run of RL Zoo, or a folder of `sb3-plastic export`, `adapt` or `package`")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(argv)
    found = inspect_model(args.model)
    print(as_json(found) if args.json else "\n".join(_lines(found)))
    return 0


def inspect_model(path: str | Path) -> dict[str, Any]:
    """
    What is in a model, as plain data: architecture, parameters, what was learned, versions, checksums, and what in it
    asks to run code. Of an agent that adapts also the layer, around or inside it: ``adaptive layer``.

    :param path: a zip file, an exported folder, a run of RL Zoo, or a folder of `sb3-plastic adapt`
    :raises UserError: if it is none of these, or damaged
    """
    found = contents(Path(path))
    return {
        "path": str(path),
        "kind": found.kind,
        "policy": found.policy,
        **found.facts,
        "arguments": found.arguments,
        "parameters": _counts(found.tensors),
        "layers": [layer for prefix in ("snn", "critic_snn") for layer in _layers(found, prefix)],
        "adaptive layer": found.layer,
        "asks to run code": found.code,
        "versions": {"made with": found.versions, "here": versions()},
        "sha256": found.checksums(),
    }


def _counts(tensors: dict[str, Tensor]) -> dict[str, int]:
    """How many numbers each part of the policy has, and all of it."""
    parts: dict[str, int] = {}
    seen: set[int] = set()
    for name, tensor in sorted(tensors.items()):  # safetensors tells them in another order each time
        # SB3's names for the extractor that actor and critic share: an export holds a copy of it under each.
        shared = tensors.get(name.removeprefix("pi_").removeprefix("vf_"))
        if shared is not None and shared is not tensor and torch.equal(shared, tensor):
            continue
        if tensor.data_ptr() not in seen or not tensor.numel():
            part = name.split(".")[0]
            parts[part] = parts.get(part, 0) + tensor.numel()
            seen.add(tensor.data_ptr())
    return {"all": sum(parts.values()), **parts}


def _layers(found: Contents, prefix: str) -> list[dict[str, Any]]:
    """Shapes of the layers of a spiking network, and statistics of what they learned."""
    layers = []
    i = 0
    while (weights := found.tensors.get(f"{prefix}.layers.{i}.w")) is not None:
        part = {
            name.removeprefix(f"{prefix}.layers.{i}."): tensor
            for name, tensor in sorted(found.tensors.items())
            if name.startswith(f"{prefix}.layers.{i}.")
        }
        layer: dict[str, Any] = {
            "name": f"{prefix}.layers.{i}",
            "inputs": weights.shape[0],
            "neurons": weights.shape[1],
        }
        for name in ("rule", "modulation", "recurrent", "neuron"):
            value = found.network_argument(name)
            layer[name] = value[i] if isinstance(value, list | tuple) and i < len(value) else value
        layer["parameters"] = sum(tensor.numel() for tensor in part.values())
        layer["learned"] = {name: _summary(value) for name, value in sorted(_in_own_units(part).items())}
        layers.append(layer)
        i += 1
    return layers


def _in_own_units(part: dict[str, Tensor]) -> dict[str, Tensor]:
    """Parameters of a layer as its equations have them: eta above 0, rates in [0, 1]."""
    own = {}
    for name, value in part.items():
        if name == "raw_eta":
            own["eta"] = softplus(value)
        elif name.startswith("raw_rates."):
            own[name.removeprefix("raw_rates.")] = torch.sigmoid(value)
        else:
            own[{"a": "modulator a", "u": "modulator u", "c": "modulator c", "d": "modulator d"}.get(name, name)] = (
                value
            )
    return own


def _summary(tensor: Tensor) -> dict[str, float]:
    values = tensor.double().flatten()
    if not values.numel():
        return {}
    return {
        "mean": values.mean().item(),
        "std": values.std(unbiased=False).item(),
        "min": values.min().item(),
        "max": values.max().item(),
    }


def _lines(found: dict[str, Any]) -> list[str]:
    """As text."""
    known = {"arguments", "parameters", "layers", "adaptive layer", "versions", "sha256", "asks to run code"}
    others = {key: value for key, value in found.items() if key not in known}
    lines = [
        f"{key + ':':<22}{json.dumps(value, default=str) if isinstance(value, dict | list) else value}"
        for key, value in others.items()
    ]
    for key in ("arguments", "parameters"):
        lines += [f"{key}:", *(f"  {name + ':':<27}{value}" for name, value in found[key].items())]
    for layer in found["layers"]:
        kind = f"rule {layer['rule']}, modulation {layer['modulation']}" + ", recurrent" * bool(layer["recurrent"])
        lines.append(f"{layer['name']}: {layer['inputs']} -> {layer['neurons']} neurons, {kind}")
        lines.append(f"  {'':<14}{'mean':>10}{'std':>10}{'min':>10}{'max':>10}")
        for name, numbers in layer["learned"].items():
            lines.append(f"  {name:<14}" + "".join(f"{numbers[column]:>10.4f}" for column in numbers))
    if found["adaptive layer"]:
        lines += ["adaptive layer:", *_layer_lines(found["adaptive layer"])]
    lines.append("versions:" + " " * 16 + "made with     here")
    made, here = found["versions"]["made with"], found["versions"]["here"]
    for name in [*made, *(name for name in here if name not in made)]:
        lines.append(f"  {name:<22} {made.get(name, '-'):<14}{here.get(name, '-')}")
    lines += ["sha256:", *(f"  {name}: {value}" for name, value in found["sha256"].items())]
    if found["asks to run code"]:
        lines += ["ASKS TO RUN CODE (nothing was run; without --trust no command of ours will):"]
        lines += [f"  {place}: {what}" for place, what in found["asks to run code"].items()]
    else:
        lines.append("asks to run code:     no")
    return lines


def _layer_lines(layer: dict[str, Any]) -> list[str]:
    lines = []
    for name, value in layer.items():
        if not isinstance(value, dict):
            lines.append(f"  {name + ':':<38}{f'{value:.4f}' if isinstance(value, float) else value}")
            continue
        lines += [f"  {name}:", *(f"    {key!s:<36}{number:>8.3f}" for key, number in value.items())]
    return lines
