"""Static LIF networks of equal size in other packages, which the extra `bench` installs.

They take the input at each tick, ours once per step; norse's LIF has a synaptic current, which the others have not.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from common import medians
from scan_network import SIZES, Setting, check, forward_backward, inputs
from torch import nn


def peers(repeats: int) -> list[dict[str, Any]]:
    """Static LIF networks of equal size in other libraries, forward and backward, beside ours, plastic and static."""
    settings = {"ours, oja + simple": Setting(), "ours, static": Setting("none", "none")}
    functions = {}
    for name, setting in settings.items():
        check(setting._replace(T=16))
        functions[name] = forward_backward(setting, "fused")
    for name, peer in {"snntorch": snntorch, "spikingjelly": spikingjelly, "norse": norse}.items():
        try:
            functions[f"{name}, static"] = peer()
        except ImportError:
            print(f"{name} is not installed: left out. The extra [bench] brings it.")
    seconds = medians(functions, repeats)
    ours = seconds["ours, oja + simple"]
    return [{"network": name, "ms": 1e3 * s, "ratio to ours, plastic": s / ours} for name, s in seconds.items()]


def linears() -> list[nn.Linear]:
    torch.manual_seed(0)
    return [nn.Linear(m, n) for m, n in pairwise(SIZES)]


def snntorch() -> Callable[[], object]:
    """As in its tutorials: a loop over ticks."""
    snn, surrogate = importlib.import_module("snntorch"), importlib.import_module("snntorch.surrogate")
    layers = linears()
    neurons = [snn.Leaky(beta=0.5, spike_grad=surrogate.fast_sigmoid(slope=2)) for _ in layers]
    leaves = [p for layer in layers for p in layer.parameters()]
    x = inputs(Setting())[0].flatten(0, 1)

    def run() -> object:
        membranes = [neuron.init_leaky() for neuron in neurons]
        spikes = []
        for z in x:
            for i, (layer, neuron) in enumerate(zip(layers, neurons, strict=True)):
                z, membranes[i] = neuron(layer(z), membranes[i])
            spikes.append(z)
        return torch.autograd.grad(torch.stack(spikes).sum(), leaves)

    return run


def spikingjelly() -> Callable[[], object]:
    """In its multi-step mode, the fastest that it has on a CPU: each layer over all ticks at once."""
    neuron = importlib.import_module("spikingjelly.activation_based.neuron")
    functional = importlib.import_module("spikingjelly.activation_based.functional")
    layers = linears()
    neurons = [neuron.LIFNode(tau=2.0, decay_input=False, v_reset=None, step_mode="m") for _ in layers]
    leaves = [p for layer in layers for p in layer.parameters()]
    x = inputs(Setting())[0].flatten(0, 1)

    def run() -> object:
        z = x
        for layer, node in zip(layers, neurons, strict=True):
            functional.reset_net(node)
            z = node(layer(z))
        return torch.autograd.grad(z.sum(), leaves)

    return run


def norse() -> Callable[[], object]:
    """Its modules over time, each layer over all ticks at once."""
    norse_torch = importlib.import_module("norse.torch")
    layers, neurons = linears(), [norse_torch.LIF() for _ in SIZES[1:]]
    leaves = [p for layer in layers for p in layer.parameters()]
    x = inputs(Setting())[0].flatten(0, 1)

    def run() -> object:
        z = x
        for layer, neuron in zip(layers, neurons, strict=True):
            z, _ = neuron(layer(z))
        return torch.autograd.grad(z.sum(), leaves)

    return run
