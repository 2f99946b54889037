"""The frozen network in snntorch, whose ``Leaky`` neuron with the delayed reset by subtraction is this package's.

snntorch's ``mem[k] = beta mem[k-1] + I[k] - threshold H(mem[k-1] - threshold)`` is ``lif`` here, letter by letter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sb3_plastic.errors import UserError
from sb3_plastic.export import Normalization
from sb3_plastic.interchange.frozen import freeze
from sb3_plastic.interchange.step import DeterministicStep, begun, check_convertible, read_out


class SnnTorchPolicy(nn.Module):
    """
    A frozen policy whose spiking layers are ``snntorch.Leaky``: to go on with in snntorch.

    :param policy: a PlasticPolicy of ``lif`` neurons
    :param state: what ``predict`` returned, for one environment; its fast weights are taken. None: before anything was
        learned
    :param normalization: what the policy wants done to observations first
    :raises UserError: if snntorch is missing or has no form for the policy
    """

    def __init__(
        self,
        policy: Any,
        state: Sequence[np.ndarray] | None = None,
        normalization: Normalization | None = None,
    ) -> None:
        super().__init__()
        try:
            import snntorch
        except ImportError as error:
            raise UserError('The form for snntorch needs: pip install "sb3_plastic[snntorch]"') from error
        policy = check_convertible(policy, "snntorch")
        self.coding = DeterministicStep(policy, normalization)
        self.linears, self.neurons = nn.ModuleList(), nn.ModuleList()
        self.recurrent = []
        for i, layer in enumerate(freeze(policy, state)):
            if layer.neuron != "lif":
                raise UserError(f"Layer {i} has neurons {layer.neuron!r}; snntorch's Leaky is 'lif' exactly, no other.")
            linear = nn.Linear(*layer.weights.shape)
            with torch.no_grad():
                linear.weight.copy_(layer.weights.T)
                linear.bias.copy_(layer.bias)
            self.linears.append(linear)
            self.neurons.append(
                snntorch.Leaky(layer.beta, threshold=layer.threshold, reset_mechanism="subtract", reset_delay=True)
            )
            self.recurrent.append(layer.recurrent)

    def forward(self, observation: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """
        One environment step.

        :param observation: [B, ...], as the environment gives it
        :param state: membranes of each layer, [B, N], then the readout
        :return: actions, and the state after
        """
        net = self.coding.policy.snn
        none = torch.zeros(len(observation), dtype=torch.bool)
        x, _ = net.encoder(self.coding.features(observation).unsqueeze(0), none.unsqueeze(0), torch.zeros(len(none), 0))
        inputs, membranes = [x[0, k] for k in range(net.config.n_ticks)], []
        for linear, neuron, recurrent, membrane in zip(self.linears, self.neurons, self.recurrent, state, strict=False):
            spikes = []
            z = neuron.fire(membrane)  # type: ignore[operator]
            for current in inputs:
                seen = torch.cat((current, z), dim=-1) if recurrent else current
                z, membrane = neuron(linear(seen), membrane)
                spikes.append(z)
            membranes.append(membrane)
            inputs = spikes
        latent, readout = read_out(net, inputs, none, state[-1])
        return self.coding.action(latent), (*membranes, readout)

    @torch.no_grad()
    def predict(
        self, observation: np.ndarray, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, tuple[Tensor, ...]]:
        """As in SB3; the most likely action, always. The state is a tuple of tensors."""
        obs = torch.as_tensor(observation)
        net = self.coding.policy.snn
        fresh = (
            *(torch.zeros(len(obs), layer.n_neurons) for layer in net.layers),
            net.readout.initial_state(len(obs), False),
        )
        action, after = self(obs, begun(state, fresh, episode_start))
        return action.numpy(), after
