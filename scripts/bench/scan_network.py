"""The network that the benchmarks of the scan time, and the check that its results are the reference's."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from sb3_plastic.snn.scan import LayerConfig, LayerParameters, plastic_scan
from sb3_plastic.snn.state import LayerState

SIZES = (105, 64, 64, 8)
T, K, B = 128, 4, 16


class Layer(NamedTuple):
    """One layer of the network: what it is made of and where it starts."""

    config: LayerConfig
    p: LayerParameters
    state: LayerState


class Setting(NamedTuple):
    """A network and how much it has to do."""

    rule: str = "oja"
    modulation: str = "simple"
    sizes: tuple[int, ...] = SIZES
    T: int = T
    K: int = K
    B: int = B
    dtype: torch.dtype = torch.float32

    def synapse_ticks(self) -> int:
        """Synapses x ticks x rows."""
        return sum(m * n for m, n in pairwise(self.sizes)) * self.T * self.K * self.B


def network(setting: Setting) -> list[Layer]:
    """Random layers whose neurons fire in some 10 to 40 % of all ticks."""
    generator = torch.Generator().manual_seed(0)

    def normal(scale: float, *shape: int) -> Tensor:
        return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)

    config = LayerConfig(rule=setting.rule, modulation=setting.modulation)
    plastic, sliding = setting.rule != "none", setting.rule == "bcm"
    retroactive = plastic and setting.modulation == "retroactive"
    layers = []
    for M, N in pairwise(setting.sizes):
        p = {"w": normal(1.4 / M**0.5, M, N), "b": 0.3 + normal(0.1, N), "beta": normal(0, N) + 0.5}
        if plastic:
            p |= {"alpha": normal(0.2, M, N), "eta": 0.1 * torch.exp(normal(0.1, M, N))}
            p |= {"lam_pre": normal(0, M) + 0.8, "lam_post": normal(0, N) + 0.8, "rho": normal(0, N) + 0.02}
        if sliding:
            p["kappa"] = normal(0, N) + 0.05
        if retroactive:
            p["kappa_e"] = normal(0, N) + 0.3
        if plastic and setting.modulation != "none":
            p |= {"a": normal(0.1, N), "u": normal(0.3, N), "c": normal(0, 1), "d": 1 + normal(0, N)}
        shapes: list[tuple[int, ...]] = [(N,), (N,), (M * plastic,), (N * plastic,), (N * sliding,)]
        shapes += [(M * on, N * on) for on in (plastic, retroactive)]
        state = LayerState(*(torch.zeros(setting.B, *shape, dtype=setting.dtype) for shape in shapes))
        leaves = {name: value.to(setting.dtype).requires_grad_() for name, value in p.items()}
        layers.append(Layer(config, LayerParameters(**leaves), state))
    return layers


def inputs(setting: Setting) -> tuple[Tensor, Tensor]:
    """Currents that stay for a step, and episode starts."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(setting.T, 1, setting.B, setting.sizes[0], generator=generator, dtype=torch.float64)
    episode_start = torch.rand(setting.T, setting.B, generator=generator) < 0.02
    return x.to(setting.dtype).expand(-1, setting.K, -1, -1), episode_start


def scan(layers: list[Layer], x: Tensor, episode_start: Tensor, backend: str) -> tuple[Tensor, list[Tensor]]:
    """The spikes of the last layer, and all outputs."""
    outputs: list[Tensor] = []
    for config, p, state in layers:
        x, after = plastic_scan(x, episode_start, state, p, config, backend=backend)
        outputs += [x, *after]
    return x, outputs


def states_of(outputs: list[Tensor]) -> list[LayerState]:
    """The layers' states among the outputs of ``scan``."""
    return [LayerState(*outputs[i + 1 : i + 8]) for i in range(0, len(outputs), 8)]


def parameters(layers: list[Layer]) -> list[Tensor]:
    return [tensor for layer in layers for tensor in layer.p if tensor.requires_grad]


def forward_backward(setting: Setting, backend: str) -> Callable[[], object]:
    """A function that does one forward and one backward pass."""
    layers, (x, episode_start) = network(setting), inputs(setting)
    leaves = parameters(layers)
    return lambda: torch.autograd.grad(scan(layers, x, episode_start, backend)[0].sum(), leaves, allow_unused=True)


def check(setting: Setting) -> float:
    """
    Compare with the reference in float64.

    :param setting: any type of number; float64 is used
    :return: the largest relative error of a state or gradient
    """
    setting = setting._replace(dtype=torch.float64)
    found = []
    for backend in ("reference", "fused"):
        layers, (x, episode_start) = network(setting), inputs(setting)
        spikes, outputs = scan(layers, x, episode_start, backend)
        gradients = torch.autograd.grad(spikes.sum(), parameters(layers), allow_unused=True)
        found.append(([o.detach() for o in outputs], [g for g in gradients if g is not None]))
    (expected, expected_gradients), (got, got_gradients) = found
    rates = [expected[i].mean().item() for i in range(0, len(expected), 8)]
    spikes_equal = all(torch.equal(got[i], expected[i]) for i in range(0, len(expected), 8))
    error = max(
        ((a - b).norm() / b.norm().clamp(min=1e-30)).item()
        for a, b in zip([*got, *got_gradients], [*expected, *expected_gradients], strict=True)
        if b.numel()
    )
    if not spikes_equal or not error < 1e-9 or not all(0.05 < rate < 0.95 for rate in rates):
        sys.exit(
            f"{setting}: spikes equal: {spikes_equal}, relative error {error:.1e}, rates {rates}. No speeds are given."
        )
    return error
