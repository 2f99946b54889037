"""The compiled readout against the equation that it is."""

import pytest
import torch

from sb3_plastic.snn.scan import call
from sb3_plastic.snn.scan.leaky import leaky_scan
from sb3_plastic.snn.state import masked_reset


def by_hand(spikes, weights, decay, episode_start, state):
    """One step after the other, in torch."""
    steps = []
    for t in range(len(spikes)):
        drive = sum(weights[k] * spikes[t, k] for k in range(len(weights)))
        state = decay * masked_reset(state, episode_start[t]) + drive
        steps.append(state)
    return torch.stack(steps), state


@pytest.fixture(autouse=True)
def _poison(monkeypatch):
    """Buffers without content are full of NaN, so that no result can rest on what happened to be in them."""
    monkeypatch.setattr(call, "empty", lambda shape, dtype: torch.full(shape, torch.nan, dtype=dtype))


@pytest.fixture
def arguments():
    generator = torch.Generator().manual_seed(0)
    spikes = torch.rand(6, 2, 3, 5, dtype=torch.float64, generator=generator)
    state = torch.rand(3, 5, dtype=torch.float64, generator=generator)
    weights = torch.tensor([0.16, 0.2], dtype=torch.float64)
    episode_start = torch.rand(6, 3, generator=generator) < 0.3
    return spikes.requires_grad_(), weights, 0.64, episode_start, state.requires_grad_()


def test_values_and_gradients_are_those_of_the_equation(arguments):
    found = []
    for scan in (by_hand, leaky_scan):
        steps, last = scan(*arguments)
        loss = (steps * torch.arange(steps.numel()).view_as(steps)).sum() + 3 * last.sum()
        found.append([steps, last, *torch.autograd.grad(loss, (arguments[0], arguments[4]))])
    torch.testing.assert_close(found[1], found[0], rtol=1e-12, atol=1e-12)


def test_weights_that_are_learned_have_a_gradient(arguments):
    spikes, weights, *others = arguments
    steps, _ = leaky_scan(spikes.detach(), weights.requires_grad_(), *others[:2], others[2].detach())
    expected, _ = by_hand(spikes.detach(), weights, *others[:2], others[2].detach())
    found, known = (torch.autograd.grad(x.square().sum(), weights)[0] for x in (steps, expected))
    torch.testing.assert_close(found, known)


def test_step_by_step_equals_all_at_once_bit_for_bit(arguments):
    spikes, weights, decay, episode_start, state = (
        a.detach().float() if torch.is_tensor(a) and a.is_floating_point() else a for a in arguments
    )
    expected, _ = leaky_scan(spikes, weights, decay, episode_start, state)
    for t in range(6):
        step, state = leaky_scan(spikes[t : t + 1], weights, decay, episode_start[t : t + 1], state)
        assert torch.equal(step[0], expected[t])


def test_a_reset_clears_nan(arguments):
    spikes, weights, decay, episode_start, state = arguments
    state = torch.full_like(state, torch.nan)
    steps, _ = leaky_scan(spikes, weights, decay, torch.ones_like(episode_start), state)
    assert torch.isfinite(steps).all()


def test_steps_without_length_leave_the_state_alone(arguments):
    spikes, weights, decay, episode_start, state = arguments
    steps, last = leaky_scan(spikes[:0], weights, decay, episode_start[:0], state)
    assert steps.shape == (0, 3, 5)
    assert last is state


@pytest.mark.parametrize("place", [1, 3, 4])
def test_wrong_shapes_and_devices_are_named(arguments, place):
    name = {1: "weights", 3: "episode_start", 4: "state"}[place]
    wrong = [tensor if i != place else tensor[:1] for i, tensor in enumerate(arguments)]
    with pytest.raises(ValueError, match=f"{name} has the shape"):
        leaky_scan(*wrong)
    elsewhere = [tensor if i != place else tensor.to("meta") for i, tensor in enumerate(arguments)]
    with pytest.raises(ValueError, match=f"{name} is a Tensor on meta"):
        leaky_scan(*elsewhere)


def test_views_are_read_as_what_they_show(arguments):
    spikes, weights, decay, episode_start, state = (a.detach() if torch.is_tensor(a) else a for a in arguments)
    negated = torch.complex(torch.zeros_like(spikes), -spikes).conj().imag
    expected, _ = leaky_scan(spikes, weights, decay, episode_start, state)
    assert torch.equal(leaky_scan(negated, weights, decay, episode_start, state)[0], expected)
