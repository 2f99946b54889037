"""
The frozen network in NIR (Neuromorphic Intermediate Representation), where that is exact.

NIR's LIF is continuous in time, with a reset to ``v_reset``: ``tau dv/dt = v_leak - v + r I``. With ``tau = dt / (1 -
beta)`` and ``r = tau / dt``, Euler's step of length dt is ``v' = beta v + I``, and a spike sets v to zero. That is the
neuron with a hard reset of docs/extending.md. NIR has no reset by subtraction, and no plasticity.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sb3_plastic.errors import UserError
from sb3_plastic.files import replacing
from sb3_plastic.interchange.frozen import FrozenLayer, freeze
from sb3_plastic.interchange.step import check_convertible
from sb3_plastic.snn.neurons import NEURONS

DT = 1e-4
"""Length of a tick, s: what snntorch's importer assumes. It cancels out."""


def is_hard_reset(neuron: Callable[..., tuple[Tensor, Tensor]]) -> bool:
    """
    Whether a neuron is ``v' = beta v (1 - z) + I``, found out by trying.

    :param neuron: as in ``NEURONS``
    """
    v, z = torch.tensor([[0.3, 1.7, -0.6]]), torch.tensor([[0.0, 1.0, 0.0]])
    current, beta = torch.tensor([[0.2, 0.5, 2.1]]), torch.tensor([0.5, 0.9, 0.7])
    after, spikes = neuron(v, z, current, beta, 1.0, lambda u: (u > 0).float())
    expected = beta * v * (1 - z) + current
    return torch.equal(after, expected) and torch.equal(spikes, (expected > 1).float())


def check_layers(layers: Sequence[FrozenLayer]) -> None:
    """
    :param layers: a frozen network
    :raises UserError: if NIR has no exact form of it, saying why
    """
    for i, layer in enumerate(layers):
        if not is_hard_reset(NEURONS[layer.neuron]):
            raise UserError(
                f"Layer {i} has neurons {layer.neuron!r}. NIR knows no reset by subtraction: whoever reads the file "
                "would reset to zero, and the network would be another. Exact is the neuron with a hard reset of "
                "docs/extending.md; for 'lif', snntorch and ONNX are exact."
            )
        if layer.recurrent:
            raise UserError(
                f"Layer {i} is recurrent: NIR leaves the delay of its connections to whoever reads the file."
            )
        if bool((layer.beta >= 1).any()):
            raise UserError(f"Layer {i} has beta = 1, an integrator without leak: in NIR tau would be infinite.")


def to_nir(policy: Any, file: str | Path, state: Sequence[np.ndarray] | None = None) -> Path:
    """
    Write the frozen spiking network, features in and spikes out, as NIR: Affine, LIF, Affine, LIF, ...

    :param policy: a PlasticPolicy of neurons with a hard reset, without recurrent layers
    :param file: to write
    :param state: what ``predict`` returned, for one environment; its fast weights are taken. None: before anything was
        learned
    :return: the file
    :raises UserError: if NIR has no exact form of the policy, or the package nir is missing
    """
    try:
        import nir
    except ImportError as error:
        raise UserError('NIR needs: pip install "sb3_plastic[nir]"') from error
    policy = check_convertible(policy, "NIR")
    layers = freeze(policy, state)
    check_layers(layers)
    nodes: dict[str, Any] = {"input": nir.Input({"input": np.array([len(layers[0].weights)])})}
    for i, layer in enumerate(layers):
        beta = layer.beta.double().numpy()
        tau = DT / (1 - beta)
        nodes[f"weights{i}"] = nir.Affine(layer.weights.T.numpy(), layer.bias.numpy())
        nodes[f"neurons{i}"] = nir.LIF(
            tau=tau,
            r=tau / DT,
            v_leak=np.zeros_like(tau),
            v_threshold=np.full_like(tau, layer.threshold),
            v_reset=np.zeros_like(tau),
        )
    nodes["output"] = nir.Output({"output": np.array([layers[-1].weights.shape[1]])})
    names = list(nodes)
    graph = nir.NIRGraph(nodes, list(pairwise(names)))
    with replacing(Path(file)) as temporary:
        nir.write(temporary, graph)
    return Path(file)


def simulate(file: str | Path, inputs: np.ndarray) -> list[np.ndarray]:
    """
    Run a file of :func:`to_nir` by Euler's method, from nothing but what is in it: to check what was written.

    :param file: the file
    :param inputs: input of each tick, [K, M]
    :return: spikes of each layer, [K, N]
    """
    import nir

    graph = nir.read(file)
    trains = []
    x = np.asarray(inputs, np.float64)
    for i in range(sum(name.startswith("weights") for name in graph.nodes)):
        affine, neurons = graph.nodes[f"weights{i}"], graph.nodes[f"neurons{i}"]
        v = np.zeros(len(affine.bias))
        spikes = np.zeros((len(x), len(v)))
        for k, current in enumerate(x @ affine.weight.T + affine.bias):
            v = v + DT / neurons.tau * (neurons.v_leak - v + neurons.r * current)
            spikes[k] = v > neurons.v_threshold
            v = np.where(spikes[k], neurons.v_reset, v)
        trains.append(spikes)
        x = spikes
    return trains
