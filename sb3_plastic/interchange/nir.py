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
from sb3_plastic.export import Normalization
from sb3_plastic.files import replacing
from sb3_plastic.interchange.frozen import FrozenLayer, freeze
from sb3_plastic.interchange.step import DeterministicStep, begun, check_convertible, read_out
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


class NirPolicy:
    """
    A frozen policy whose spiking layers are run by Euler's method, from nothing but what is in a file of
    :func:`to_nir`: what another program makes of it. Encoder, readout and decoder, which are not in the file, are the
    policy's.

    :param file: of :func:`to_nir`
    :param policy: the policy that it was written from
    :param normalization: what the policy wants done to observations first
    """

    def __init__(self, file: str | Path, policy: Any, normalization: Normalization | None = None) -> None:
        import nir

        graph = nir.read(file)
        n_layers = sum(name.startswith("weights") for name in graph.nodes)
        self.layers = [(graph.nodes[f"weights{i}"], graph.nodes[f"neurons{i}"]) for i in range(n_layers)]
        self.coding = DeterministicStep(check_convertible(policy, "NIR"), normalization)

    def initial_state(self, n_envs: int) -> tuple[Tensor, ...]:
        """Membranes of each layer, [B, N], then the readout. :param n_envs: B"""
        readout = self.coding.policy.snn.readout.initial_state(n_envs, False)
        return (*(torch.zeros(n_envs, len(affine.bias), dtype=torch.float64) for affine, _ in self.layers), readout)

    def spikes(self, inputs: Tensor, membranes: Sequence[Tensor]) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        """
        Run the layers.

        :param inputs: of each tick, [K, B, M]
        :param membranes: of each layer, [B, N]
        :return: spikes of each layer, [K, B, N], and the membranes after
        """
        trains, after, x = [], [], inputs.double()
        for (affine, neurons), v in zip(self.layers, membranes, strict=True):
            tau, r, leak, threshold, reset = (
                torch.as_tensor(getattr(neurons, name)) for name in ("tau", "r", "v_leak", "v_threshold", "v_reset")
            )
            currents = x @ torch.as_tensor(affine.weight).double().T + torch.as_tensor(affine.bias)
            spikes = torch.zeros_like(currents)
            for k, current in enumerate(currents):
                v = v + DT / tau * (leak - v + r * current)
                spikes[k] = v > threshold
                v = torch.where(spikes[k] > 0, reset, v)
            trains.append(spikes)
            after.append(v)
            x = spikes
        return trains, tuple(after)

    @torch.no_grad()
    def predict(
        self, observation: np.ndarray, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, tuple[Tensor, ...]]:
        """As in SB3; the most likely action, always. The state is a tuple of tensors."""
        obs = torch.as_tensor(observation)
        state = begun(state, self.initial_state(len(obs)), episode_start)
        net, none = self.coding.policy.snn, torch.zeros(len(obs), dtype=torch.bool)
        x, _ = net.encoder(self.coding.features(obs).unsqueeze(0), none.unsqueeze(0), torch.zeros(len(none), 0))
        trains, membranes = self.spikes(x[0], state[:-1])
        latent, readout = read_out(net, list(trains[-1].float()), none, state[-1])
        return self.coding.action(latent).numpy(), (*membranes, readout)
