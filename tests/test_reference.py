"""The definition itself: numbers worked out by hand, and derivatives against what they are the derivatives of."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sb3_plastic.snn.rules import RULES, Rule
from sb3_plastic.snn.scan import LayerConfig, LayerParameters, plastic_scan, plastic_tick
from sb3_plastic.snn.state import LayerState
from sb3_plastic.snn.surrogate import SURROGATES, spike


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def one_synapse(**changes: float) -> tuple[LayerState, LayerParameters]:
    """One input, one neuron, at rest. ``changes`` by name; round numbers for the rest."""
    state = {"v": 0.0, "z": 0.0, "x_trace": 0.0, "y_trace": 0.0, "theta": 0.0, "h": 0.0, "e": 0.0}
    p = {"w": 2.0, "b": 0.0, "beta": 0.5, "alpha": 1.0, "eta": 0.5, "lam_pre": 0.5, "lam_post": 0.5, "rho": 0.0}
    p |= {"kappa": 0.5, "kappa_e": 0.5, "a": 0.0, "u": 0.0, "c": 0.0, "d": 1.0}
    matrices = ("w", "alpha", "eta", "h", "e")
    for values in (state, p):
        values.update({name: value for name, value in changes.items() if name in values})

    def build(values: dict[str, float], rows: int) -> dict[str, Tensor]:
        return {n: tensor(x).reshape((1,) * (rows + (2 if n in matrices else 1))) for n, x in values.items()}

    return LayerState(**build(state, 1)), LayerParameters(**build(p, 0))


def run(inputs: list[float], config: LayerConfig, **changes: float) -> list[LayerState]:
    """The states after each tick, one tick per input."""
    state, p = one_synapse(**changes)
    states = []
    for x in inputs:
        state = plastic_tick(tensor(x).reshape(1, 1), state, p, config)
        states.append(state)
    return states


def course(states: list[LayerState], name: str) -> list[float]:
    return [getattr(state, name).item() for state in states]


def test_one_neuron_by_hand() -> None:
    """Below threshold it leaks and adds up; a spike takes one threshold off the next tick; at the threshold, none."""
    states = run([0.4, 0.4, 0.4, 0.1, 0.0], LayerConfig(rule="none"))
    # .8; .5 x .8 + .8 = 1.2, spike; .6 - 1 + .8 = .4; .2 + .2 = .4; .2
    assert course(states, "v") == pytest.approx([0.8, 1.2, 0.4, 0.4, 0.2])
    assert course(states, "z") == [0, 1, 0, 0, 0]
    assert course(run([0.5], LayerConfig(rule="none")), "z") == [0]


def test_hebb_by_hand() -> None:
    """``h += eta x y``, and h is part of the weight at the next tick."""
    states = run([1, 1], LayerConfig(rule="hebb"))
    # Tick 1: v = 2, spike; traces .5, .5; h = .5 x .25. Tick 2: v = 1 - 1 + 2.125; traces .75; h += .5 x .5625.
    assert course(states, "v") == pytest.approx([2, 2.125])
    assert course(states, "h") == pytest.approx([0.125, 0.40625])


def test_oja_by_hand() -> None:
    """``h += eta y (x - y h)``, minus rho h."""
    states = run([1, 1], LayerConfig(rule="oja"), h=0.4, rho=0.1)
    # Tick 1: traces .5: h = .9 x .4 + .5 x .5 (.5 - .5 x .4) = .435.
    # Tick 2: traces .75: h = .9 x .435 + .5 x .75 (.75 - .75 x .435) = .55040625.
    assert course(states, "h") == pytest.approx([0.435, 0.55040625])


def test_bcm_by_hand() -> None:
    """``h += eta x y (y - theta)`` with the threshold of before; then the threshold slides towards y^2."""
    states = run([1, 1], LayerConfig(rule="bcm"), theta=0.7)
    # Tick 1: h = .5 x .5 x .5 (.5 - .7) = -.025; theta = .35 + .125 = .475.
    # Tick 2: y = .75: h += .5 x .5625 (.75 - .475) = .07734375; theta = .2375 + .28125.
    assert course(states, "h") == pytest.approx([-0.025, 0.05234375])
    assert course(states, "theta") == pytest.approx([0.475, 0.51875])


def test_retroactive_by_hand() -> None:
    """What was eligible before the tick is learned; what the tick makes eligible is learned at the next."""
    states = run([1, 1, 1], LayerConfig(rule="hebb", modulation="retroactive"), d=2.0)
    # e: .5 x .25 = .125; .0625 + .5 x .5625 = .34375. h: 0; .5 x 2 x .125 = .125; .125 + .34375.
    assert course(states, "e")[:2] == pytest.approx([0.125, 0.34375])
    assert course(states, "h") == pytest.approx([0, 0.125, 0.46875])


def test_simple_modulation_by_hand() -> None:
    """``m = a tanh(u y + c) + d`` with the trace of after the tick, times the external modulator."""
    state, p = one_synapse(a=2.0, u=3.0, c=-1.0, d=0.25)
    config = LayerConfig(rule="hebb", modulation="simple", h_max=10)
    after = plastic_tick(tensor(1).reshape(1, 1), state, p, config, external=tensor(3).reshape(1, 1))
    assert after.h.item() == pytest.approx(0.5 * 3 * (2 * math.tanh(0.5) + 0.25) * 0.25)


def test_order_of_decay_and_clip() -> None:
    """The bound is the last thing that is applied, from both sides."""
    assert course(run([1], LayerConfig(rule="hebb", h_max=0.1)), "h") == [0.1]
    assert course(run([1], LayerConfig(rule="hebb", h_max=0.1), eta=-1.0), "h") == [-0.1]


def test_gradient_of_the_clip() -> None:
    """It passes inside the bound and exactly at it, and stops outside."""
    for h, expected in ((0.9, 1.0), (1.0, 1.0), (1.1, 0.0), (-1.0, 1.0), (-1.1, 0.0)):
        state, p = one_synapse(h=h)
        state.h.requires_grad_()
        after = plastic_tick(tensor(0).reshape(1, 1), state, p._replace(w=-p.w), LayerConfig(rule="hebb"))
        assert torch.autograd.grad(after.h.sum(), state.h)[0].item() == expected


def test_detached_reset_drops_only_the_reset() -> None:
    """``dv/dz`` of the last tick is -threshold, or 0 if detached."""
    for detach, expected in ((False, -1.5), (True, 0.0)):
        state, p = one_synapse(z=1.0)
        state.z.requires_grad_()
        p.w.requires_grad_()
        config = LayerConfig(rule="none", threshold=1.5, detach_reset=detach)
        after = plastic_tick(tensor(1).reshape(1, 1), state, p, config)
        (gradient,) = torch.autograd.grad(after.v.sum(), state.z, allow_unused=True)
        assert (0.0 if gradient is None else gradient.item()) == expected


def test_recurrent_spikes_come_after_the_inputs() -> None:
    state, _ = one_synapse(z=1.0)
    p = LayerParameters(w=tensor(2, 5).reshape(2, 1), b=tensor(0), beta=tensor(0))
    after = plastic_tick(tensor(10).reshape(1, 1), state, p, LayerConfig(rule="none", recurrent=True))
    assert after.v.item() == -1 + 2 * 10 + 5 * 1


def test_what_a_reset_keeps() -> None:
    """By default nothing; of a lifetime what the synapses have learned."""
    for keep, expected in ((False, 0.0), (True, 0.5)):
        state, p = one_synapse(v=0.3, h=0.5, theta=0.4)
        config = LayerConfig(rule="bcm", keep_fast_weights=keep)
        x = torch.zeros(1, 1, 1, 1, dtype=torch.float64)
        _, after = plastic_scan(x, torch.ones(1, 1, dtype=torch.bool), state, p, config, backend="reference")
        assert after.v.item() == 0
        assert after.h.item() == expected
        assert after.theta.item() == (0.2 if keep else 0)


PRIMITIVES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "fast_sigmoid": lambda u, slope: u / (1 + slope * u.abs()),
    "arctan": lambda u, slope: 2 / (math.pi * slope) * torch.arctan(0.5 * math.pi * slope * u),
    "triangle": lambda u, slope: torch.sign(u) * torch.where(
        u.abs() < 1 / slope, u.abs() - 0.5 * slope * u**2, 0.5 / slope * torch.ones_like(u)
    ),
}  # fmt: skip


@pytest.mark.parametrize("slope", [0.7, 2.0, 10.0])
@pytest.mark.parametrize("surrogate", SURROGATES)
def test_surrogate_is_the_derivative_of_its_primitive(surrogate: str, slope: float) -> None:
    u = torch.linspace(-2, 2, 40, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(spike(u, surrogate, slope).sum(), u)
    step, primitive = 1e-6, PRIMITIVES[surrogate]
    with torch.no_grad():
        difference = (primitive(u + step, slope) - primitive(u - step, slope)) / (2 * step)
    torch.testing.assert_close(gradient, difference, rtol=1e-5, atol=1e-5)


def test_spike_fires_above_the_threshold_only() -> None:
    assert spike(tensor(-1, 0, 1e-12, 1)).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if rule is not None])
def test_derivative_of_a_rule(name: str) -> None:
    rule: Any = RULES[name]
    assert isinstance(rule, Rule)
    y, theta = torch.rand(2, 50, dtype=torch.float64).requires_grad_().unbind()
    expected = []
    for result in rule.local(y, theta):
        found = torch.autograd.grad(result.sum(), (y, theta), allow_unused=True)
        expected += [torch.zeros_like(y) if g is None else g for g in found]
    torch.testing.assert_close(list(rule.derivative(y, theta)), expected)
