"""Time of the scan: against the reference, in a rollout's step, and as one size grows."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from common import medians
from scan_memory import in_process
from scan_network import Layer, Setting, check, forward_backward, inputs, network, scan, states_of
from torch import Tensor

from sb3_plastic.snn.scan import FusedLayers


def speed(repeats: int) -> list[dict[str, Any]]:
    """Forward and backward against the reference."""
    rows = []
    for rule, modulation in (("oja", "simple"), ("bcm", "retroactive"), ("none", "none")):
        setting = Setting(rule, modulation)
        error = check(setting)
        seconds = medians({b: forward_backward(setting, b) for b in ("fused", "reference")}, repeats)
        rows.append(
            {
                "rule": rule,
                "modulation": modulation,
                "fused ms": 1e3 * seconds["fused"],
                "reference ms": 1e3 * seconds["reference"],
                "ratio": seconds["reference"] / seconds["fused"],
                "ns per synapse and tick": 1e9 * seconds["fused"] / setting.synapse_ticks(),
                "relative error": error,
            }
        )
    return rows


def stepping(layers: list[Layer], x: Tensor, episode_start: Tensor, backend: str) -> Callable[[], object]:
    """A function that does one step from where the last one ended."""
    states = [layer.state for layer in layers]
    fused = FusedLayers([(layer.config, layer.p) for layer in layers], in_place=True)

    def step() -> None:
        nonlocal states
        if backend == "fused":
            states = fused(x, episode_start, states, [None] * len(layers))[1]
        else:
            now = [layer._replace(state=state) for layer, state in zip(layers, states, strict=True)]
            states = states_of(scan(now, x, episode_start, "reference")[1])

    return step


def rollout(repeats: int) -> list[dict[str, Any]]:
    """One step of 8 environments without gradients, from the state after the last: in place, as PlasticPPO collects."""
    rows = []
    for rule, modulation in (("oja", "simple"), ("none", "none")):
        for ticks in (2, 4):
            setting = Setting(rule, modulation, T=1, K=ticks, B=8)
            error = check(setting._replace(T=16))
            layers, (x, episode_start) = network(setting), inputs(setting)
            fused = FusedLayers([(layer.config, layer.p) for layer in layers], in_place=True)
            states, following = [layer.state for layer in layers], layers
            for _ in range(2):
                trains, states = fused(x, episode_start, states, [None] * len(layers))
                expected = scan(following, x, episode_start, "fused")[1]
                following = [
                    layer._replace(state=state) for layer, state in zip(layers, states_of(expected), strict=True)
                ]
            got = [tensor for spikes, state in zip(trains, states, strict=True) for tensor in (spikes, *state)]
            if not all(map(torch.equal, got, expected)):
                sys.exit(f"{setting}: layers in one call differ from one call per layer. No speeds are given.")
            steps = {backend: stepping(layers, x, episode_start, backend) for backend in ("fused", "reference")}
            with torch.no_grad():
                seconds = medians(steps, 40 * repeats)
            rows.append(
                {
                    "rule": rule,
                    "modulation": modulation,
                    "K": ticks,
                    "fused us": 1e6 * seconds["fused"],
                    "reference us": 1e6 * seconds["reference"],
                    "ratio": seconds["reference"] / seconds["fused"],
                    "relative error": error,
                }
            )
    return rows


def growth(repeats: int) -> list[dict[str, Any]]:
    """Time and memory of the fused kernel as one size grows and the others stay."""
    check(Setting(T=16))
    series: dict[str, list[tuple[int, Setting]]] = {
        "N": [(n, Setting(sizes=(105, n, n, 8), T=32)) for n in (32, 64, 128, 256, 512)],
        "T": [(t, Setting(T=t)) for t in (16, 64, 256, 1024, 2048)],
        "B": [(b, Setting(B=b, T=32)) for b in (1, 4, 16, 64, 256)],
        "K": [(k, Setting(K=k, T=32)) for k in (1, 2, 4, 8, 16)],
    }
    rows = []
    for axis, settings in series.items():
        for value, setting in settings:
            seconds = medians({"fused": forward_backward(setting, "fused")}, repeats)["fused"]
            rows.append(
                {
                    "axis": axis,
                    "value": value,
                    "synapses x ticks": setting.synapse_ticks(),
                    "ms": 1e3 * seconds,
                    "ns per synapse and tick": 1e9 * seconds / setting.synapse_ticks(),
                }
            )
    # Apart: a processor that has waited for another process is slow for the first milliseconds.
    for row, (_, setting) in zip(rows, (pair for settings in series.values() for pair in settings), strict=True):
        row["peak MB"] = in_process("memory", setting, "fused")["bytes"] / 1e6
    return rows
