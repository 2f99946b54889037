"""What the fused scan is given: it equals the reference, or says what is wrong, and never crashes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scan_helpers import (
    RULES_AND_MODULATIONS,
    Problem,
    assert_equal_bits,
    outputs,
    outputs_and_gradients,
    problem,
    scan,
)
from torch import Tensor

from sb3_plastic.snn.scan import FusedLayers, LayerParameters
from sb3_plastic.snn.state import LayerState

NAMES = ("x", "episode_start", "external", *LayerState._fields, *LayerParameters._fields)


def replaced(case: Problem, name: str, change: Any) -> Problem:
    """The same problem, but for one of its tensors."""
    if name in LayerState._fields:
        return case._replace(state=case.state._replace(**{name: change(getattr(case.state, name))}))
    if name in LayerParameters._fields:
        return case._replace(p=case.p._replace(**{name: change(getattr(case.p, name))}))
    return case._replace(**{name: change(getattr(case, name))})


def step(case: Problem) -> list[Tensor]:
    """What a rollout's layers make of it."""
    x = case.x.expand(-1, case.K, -1, -1)
    (spikes,), (state,) = FusedLayers([(case.config, case.p)])(x, case.episode_start, [case.state], [case.external])
    return [spikes, *state]


def with_sign_to_come(tensor: Tensor) -> Tensor:
    """The same numbers as a view of a complex tensor, whose sign torch keeps as a flag."""
    return torch.complex(torch.zeros_like(tensor), -tensor).conj().imag


def strided(tensor: Tensor) -> Tensor:
    """The same numbers with others between them."""
    return torch.stack((tensor, torch.full_like(tensor, 99)), dim=-1)[..., 0]


@pytest.mark.parametrize("name", NAMES)
def test_a_tensor_on_another_device_is_named(name: str) -> None:
    case = replaced(problem("bcm", "retroactive", external=11), name, lambda tensor: tensor.to("meta"))
    with pytest.raises(ValueError, match=f"{name} is a Tensor on meta|the tensors are on meta"):
        scan(case)
    with pytest.raises(ValueError, match=f"{name} is a Tensor on meta"):
        step(case)


def test_a_tensor_on_another_device_is_named_in_the_middle_of_a_rollout() -> None:
    case = problem("oja", "simple", external=11)
    layers = FusedLayers([(case.config, case.p)], in_place=True)
    x = case.x.expand(-1, case.K, -1, -1)
    _, states = layers(x, case.episode_start, [case.state], [case.external])
    with pytest.raises(ValueError, match="external is a Tensor on meta"):
        layers(x, case.episode_start, states, [case.external.to("meta")])


def test_a_tensor_without_memory_is_named() -> None:
    case = replaced(problem(), "w", lambda w: torch._efficientzerotensor(w.shape, dtype=w.dtype))
    with pytest.raises(ValueError, match="w is a Tensor on cpu"):
        scan(case)


@pytest.mark.parametrize("view", [with_sign_to_come, strided])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "episode_start"])
def test_views_are_read_as_what_they_show(name: str, view: Any) -> None:
    case = problem("bcm", "retroactive", external=11)
    expected = outputs(case, "fused")
    assert_equal_bits(outputs(replaced(case, name, view), "fused"), expected)
    assert_equal_bits(step(replaced(case, name, view)), expected)


@pytest.mark.parametrize("view", [with_sign_to_come, strided])
def test_incoming_gradients_are_read_as_what_they_show(view: Any) -> None:
    case = problem("bcm", "retroactive", external=11)
    for leaf in case.leaves():
        leaf.requires_grad_()
    found = []
    for change in (torch.clone, view):
        results = outputs(case, "fused")
        grads = [
            change(torch.linspace(-1, 1, result.numel(), dtype=result.dtype).view_as(result)) for result in results
        ]
        found.append(torch.autograd.grad(results, case.leaves(), grads))
    assert_equal_bits(list(found[1]), list(found[0]))


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("empty", ["T", "K", "B", "M_in", "N"])
@pytest.mark.parametrize(("rule", "modulation"), RULES_AND_MODULATIONS)
def test_an_axis_without_length_gives_what_the_reference_gives(
    rule: str, modulation: str, empty: str, recurrent: bool
) -> None:
    sizes = {"T": 4, "K": 3, "B": 2, "M_in": 5, "N": 6, empty: 0}
    found = []
    for backend in ("reference", "fused"):
        case = problem(rule, modulation, recurrent=recurrent, **sizes)
        results, gradients = outputs_and_gradients(case, backend)
        found.append([*results, *gradients])
    assert found[0][0].shape == (sizes["T"], sizes["K"], sizes["B"], sizes["N"])
    assert_equal_bits(found[1], found[0])
    assert_equal_bits(step(case), found[0][:8])


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_what_is_not_finite_stays_in_its_row(number: float) -> None:
    case = problem("oja", "simple", resets=0)
    expected = outputs(case, "fused")
    for tensor in (case.x, *case.state):
        tensor.select(2 if tensor is case.x else 0, 1).fill_(number)
    got = outputs(case, "fused")
    assert not torch.isfinite(got[6][1]).any(), "the fast weights of that row"
    assert_equal_bits(
        [spikes for t in (0, 2) for spikes in (got[0][:, :, t], *(s[t] for s in got[1:]))],
        [spikes for t in (0, 2) for spikes in (expected[0][:, :, t], *(s[t] for s in expected[1:]))],
    )
