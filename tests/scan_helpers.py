"""Random layers of known kinds, and what a scan of them gives, for the tests of the scan."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sb3_plastic.snn.rules import MODULATIONS, RULES
from sb3_plastic.snn.scan import LayerConfig, LayerParameters, plastic_scan
from sb3_plastic.snn.state import LayerState

RULES_AND_MODULATIONS = [(r, m) for r in RULES if r != "none" for m in MODULATIONS] + [("none", "none")]

OTHER_OPTIONS: dict[str, Any] = {
    field.name: not field.default if isinstance(field.default, bool) else 0.7 * field.default
    for field in fields(LayerConfig)
    if isinstance(field.default, bool | float)
}
"""Each option of a layer that is no name, those to come too, with another value than by default."""


class Problem(NamedTuple):
    """Arguments of a scan, with x [T, K, B, M_in], or [T, 1, B, M_in] if it stays for the K ticks of a step."""

    K: int
    x: Tensor
    episode_start: Tensor
    state: LayerState
    p: LayerParameters
    config: LayerConfig
    external: Tensor | None

    def leaves(self) -> list[Tensor]:
        """Everything that can have a gradient."""
        tensors = (self.x, *self.state, *self.p, *(() if self.external is None else (self.external,)))
        return [tensor for tensor in tensors if tensor.numel()]

    def to(self, dtype: torch.dtype) -> Problem:
        """The same numbers in another type."""
        return self._replace(
            x=self.x.to(dtype),
            state=LayerState(*(s.to(dtype) for s in self.state)),
            p=LayerParameters(*(q.to(dtype) for q in self.p)),
            external=None if self.external is None else self.external.to(dtype),
        )

    def rows(self, rows: slice) -> Problem:
        """The problem of some rows of the batch alone."""
        return self._replace(
            x=self.x[:, :, rows],
            episode_start=self.episode_start[:, rows],
            state=LayerState(*(s[rows] for s in self.state)),
            external=None if self.external is None else self.external[:, rows],
        )

    def steps(self, steps: slice, state: LayerState) -> Problem:
        """The problem of some steps, from ``state``."""
        return self._replace(
            x=self.x[steps],
            episode_start=self.episode_start[steps],
            state=state,
            external=None if self.external is None else self.external[steps],
        )


def problem(
    rule: str = "oja",
    modulation: str = "simple",
    *,
    T: int = 9,
    K: int = 3,
    B: int = 3,
    M_in: int = 13,
    N: int = 11,
    external: int | None = None,
    constant_input: bool = False,
    population: bool = False,
    resets: float = 0.2,
    seed: int = 0,
    **options: Any,
) -> Problem:
    """A random layer whose neurons fire and whose fast weights reach their bound. ``external``: its last axis."""
    config = LayerConfig(rule=rule, modulation=modulation, **{"h_max": 0.6, **options})
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, dtype=torch.float64, generator=generator)

    def normal(scale: float, *shape: int) -> Tensor:
        return scale * torch.randn(*shape, dtype=torch.float64, generator=generator)

    plastic, kind = rule != "none", RULES[rule]
    sliding = kind is not None and kind.sliding_threshold
    modulated, retroactive = plastic and modulation != "none", plastic and modulation == "retroactive"
    M = M_in + N * config.recurrent
    rows = (B,) if population else ()
    p = {
        "w": normal(1.4 / max(1, M) ** 0.5, *rows, M, N),
        "b": uniform(0.3, 0.6, *rows, N),
        "beta": uniform(0.3, 0.7, *rows, N),
    }
    if plastic:
        p["alpha"], p["eta"] = normal(0.5, *rows, M, N), uniform(0, 0.4, *rows, M, N)
        p["lam_pre"], p["lam_post"] = uniform(0.5, 0.9, *rows, M), uniform(0.5, 0.9, *rows, N)
        p["rho"] = uniform(0, 0.1, *rows, N)
    if sliding:
        p["kappa"] = uniform(0, 0.3, *rows, N)
    if retroactive:
        p["kappa_e"] = uniform(0.2, 0.7, *rows, N)
    if modulated:
        p["a"], p["u"], p["c"], p["d"] = (normal(0.5, *rows, n) for n in (N, N, 1, N))
    state = LayerState(
        v=uniform(0, 1, B, N),
        z=uniform(0, 1, B, N).round(),
        x_trace=uniform(0, 1, B, M if plastic else 0),
        y_trace=uniform(0, 1, B, N if plastic else 0),
        theta=uniform(0, 0.2, B, N if sliding else 0),
        h=normal(0.3, B, *((M, N) if plastic else (0, 0))),
        e=normal(0.3, B, *((M, N) if retroactive else (0, 0))),
    )
    x = uniform(0, 1.3, T, 1, B, M_in) if constant_input else uniform(0, 1, T, K, B, M_in).round()
    episode_start = uniform(0, 1, T, B) < resets
    modulator = None if external is None else 1 + normal(0.3, T, B, external)
    return Problem(K, x, episode_start, state, LayerParameters(**p), config, modulator)


def scan(problem: Problem, backend: str = "fused") -> tuple[Tensor, LayerState]:
    """Spikes and outgoing state."""
    K, x, *rest = problem
    return plastic_scan(x.expand(-1, K, -1, -1), *rest, backend=backend)  # type: ignore[arg-type]


def outputs(problem: Problem, backend: str) -> list[Tensor]:
    """The same as a list."""
    spikes, state = scan(problem, backend)
    return [spikes, *state]


def outputs_and_gradients(problem: Problem, backend: str) -> tuple[list[Tensor], list[Tensor]]:
    """Also the gradients of a random function of all outputs."""
    for leaf in problem.leaves():
        leaf.requires_grad_()
    results = outputs(problem, backend)
    return results, gradients(results, problem.leaves())


def gradients(results: list[Tensor], leaves: list[Tensor]) -> list[Tensor]:
    """Gradients of a random function of the results."""
    generator = torch.Generator().manual_seed(1)
    loss = sum((r * torch.randn(r.shape, dtype=torch.float64, generator=generator).to(r.dtype)).sum() for r in results)
    found = torch.autograd.grad(loss, leaves, allow_unused=True)
    return [torch.zeros_like(leaf) if g is None else g for g, leaf in zip(found, leaves, strict=True)]


def assert_equal_bits(got: list[Tensor], expected: list[Tensor]) -> None:
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a, b)


def assert_agree(problem: Problem) -> None:
    """Spikes equal, states and all gradients to 1e-9, with neurons that do fire."""
    expected, expected_gradients = outputs_and_gradients(problem, "reference")
    got, got_gradients = outputs_and_gradients(problem, "fused")
    assert 0.05 < expected[0].mean() < 0.95
    assert torch.equal(got[0], expected[0])
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(got_gradients, expected_gradients, rtol=1e-9, atol=1e-9)
