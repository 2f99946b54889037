"""Interventions in plasticity do exactly what they say."""

from typing import Any

import numpy as np
import pytest
import torch
from envs import small_ppo

from sb3_plastic.evaluation.controls import Player
from sb3_plastic.policies import PlasticPolicy
from sb3_plastic.snn import network
from sb3_plastic.snn.scan import FusedLayers
from sb3_plastic.snn.state import SNNState

B = 3
RULES = [("oja", "simple"), ("bcm", "simple"), ("bcm", "retroactive"), ("hebb", "none")]


def policy_of(**policy_kwargs: Any) -> PlasticPolicy:
    """With three ticks per step, and plasticity that matters."""
    torch.manual_seed(0)
    defaults = dict(n_ticks=3, alpha_init=1.0, eta_init=0.5, rho=0.1)
    return small_ppo(policy_kwargs={**defaults, **policy_kwargs}).policy


def play(policy: Any, state: Any, n_steps: int = 5, seed: int = 0) -> tuple[np.ndarray, Any]:
    """Actions [T, B, 4] of a policy, or of one that was prepared, and the state after."""
    actions = []
    for observation in np.random.default_rng(seed).normal(size=(n_steps, B, 4)).astype(np.float32):
        action, state = policy.predict(observation, state, np.zeros(B, bool), deterministic=True)
        actions.append(action)
    return np.array(actions), state


def layers(state: Any) -> Any:
    return SNNState.from_tensors([torch.as_tensor(array) for array in state]).layers


@pytest.mark.parametrize("backend", ["fused", "reference"])
@pytest.mark.parametrize(("rule", "modulation"), RULES)
def test_frozen_holds_all_that_synapses_learned_exactly(rule, modulation, backend):
    policy = policy_of(rule=rule, modulation=modulation, backend=backend)
    _, learned = play(policy, None)
    frozen_actions, frozen = play(policy.prepared(frozen=True), learned, seed=1)
    for before, after in zip(layers(learned), layers(frozen), strict=True):
        for name in ("h", "e", "theta"):
            assert torch.equal(getattr(before, name), getattr(after, name)), name
        assert not torch.equal(before.v, after.v)
    intact_actions, intact = play(policy, learned, seed=1)
    assert not torch.equal(layers(intact)[0].h, layers(learned)[0].h)
    assert not np.array_equal(intact_actions, frozen_actions)


def test_frozen_from_the_start_is_the_network_without_fast_weights():
    policy = policy_of(rule="oja")
    frozen, _ = play(policy.prepared(frozen=True), None)
    intact, _ = play(policy, None)
    assert not np.array_equal(frozen, intact)
    with torch.no_grad():
        for layer in policy.snn.layers:
            layer.alpha.zero_()
    off, _ = play(policy, None)
    assert np.array_equal(frozen, off)


def test_zeroing_forgets_in_the_chosen_rows_and_nothing_else():
    policy = policy_of(rule="bcm", modulation="retroactive", critic="plastic")
    _, learned = play(policy, None)
    zeroed = policy.zero_fast_weights(learned, np.array([False, True, False]))
    actor = policy.split_state(zeroed)[0]
    for before, after in zip(layers(policy.split_state(learned)[0]), layers(actor), strict=True):
        for name in before._fields:
            old, new = getattr(before, name), getattr(after, name)
            assert torch.equal(new[[0, 2]], old[[0, 2]])
            assert torch.equal(new[1], torch.zeros_like(old[1]) if name in ("h", "e", "theta") else old[1]), name
    norms = policy.fast_weight_norms(zeroed)
    assert norms.shape == (B, 2)
    assert (norms[1] == 0).all()
    h = layers(policy.split_state(learned)[0])[0].h
    assert norms[0, 0] == pytest.approx(float(h[0].square().mean().sqrt()))


def test_fast_weights_are_kept_over_an_episode_start_if_asked():
    policy = policy_of(rule="oja")
    _, learned = play(policy, None)
    for keep in (True, False):
        prepared = policy.prepared(frozen=True, keep_fast_weights=keep)
        _, after = prepared.predict(np.zeros((B, 4), np.float32), learned, np.ones(B, bool), deterministic=True)
        expected = layers(learned)[0].h if keep else torch.zeros_like(layers(learned)[0].h)
        assert torch.equal(layers(after)[0].h, expected)
    assert not policy.snn.layers[0].config.keep_fast_weights


@pytest.mark.parametrize("control", ["frozen_at_onset", "off"])
def test_frozen_stepping_is_planned_once_and_not_at_each_step(control, monkeypatch):
    policy, plans = policy_of(rule="oja"), []

    def counted(*args: Any) -> FusedLayers:
        plans.append(args)
        return FusedLayers(*args)

    monkeypatch.setattr(network, "FusedLayers", counted)
    player = Player(policy, control)
    after_making = len(plans)
    for onset in (4, 2, 1):  # no row, some rows, all rows are perturbed
        for observation in np.random.default_rng(0).normal(size=(3, B, 4)).astype(np.float32):
            player.act(observation, np.zeros(B, bool), np.arange(1, B + 1) >= onset)
    assert len(plans) == after_making


@pytest.mark.parametrize("backend", ["fused", "reference"])
def test_a_prepared_policy_acts_as_the_policy_itself(backend):
    policy = policy_of(rule=["bcm", "none"], modulation="retroactive", backend=backend, critic="plastic")
    for prepared in (policy.prepared(), policy.prepared(in_place=True)):
        for (actions, state), (expected, expected_state) in [(play(prepared, None), play(policy, None))]:
            assert np.array_equal(actions, expected)
            assert all(np.array_equal(a, b) for a, b in zip(state, expected_state, strict=True))


def test_a_static_network_has_no_plastic_layers():
    policy = policy_of(rule=["none", "none"])
    assert policy.plastic_layers() == []
    assert policy.fast_weight_norms(play(policy, None)[1]).shape == (B, 0)
    assert policy_of(rule=["none", "oja"]).plastic_layers() == ["layer 1"]
