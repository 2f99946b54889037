"""The synapses' rule, learned by gradient through adaptation: no robot is broken for it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_robots import NOISE, A, B, Robots, linear_model, play, policy

import sb3_plastic.adaptive.calibration as calibration
from sb3_plastic.adaptive import differentiable, hindsight, synapses
from sb3_plastic.adaptive.calibration import calibrate, replay
from sb3_plastic.adaptive.collect import Transitions
from sb3_plastic.adaptive.differentiable import TensorSynapses
from sb3_plastic.adaptive.hindsight import DECODERS, draw, learn_rule_of, sequences_of, tensor_rates
from sb3_plastic.adaptive.layer import AdaptiveLayer
from sb3_plastic.adaptive.synapses import LEARNABLE, Rates, initial_synapses, with_rule
from sb3_plastic.errors import UserError


def walk(steps=60, n=12, seed=0):
    """What linear robots do whose motors are moved at random."""
    rng = np.random.default_rng(seed)
    o, rows = np.zeros((n, 3)), []
    for t in range(steps):
        a = rng.uniform(-1, 1, (n, 2))
        after = o + o @ A.T + a @ B.T + NOISE * rng.normal(size=o.shape)
        rows.append((o, a, after, np.full(n, t == 0)))
        o = after
    return Transitions(*(np.stack(x) for x in zip(*rows, strict=True)))


def hypothesis_of(name):
    layer = policy((name,)).layer
    return layer.hypotheses[1], layer.rates[1]


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("n", [1, 6, 23])
def test_the_rule_in_torch_is_the_rule(n, full):
    rng = np.random.default_rng(n)
    rates = Rates(3.0, rng.uniform(0.1, 0.3, n), -1.6, 1.6, noise_scale=1.7)
    one = initial_synapses(rng.normal(size=n), 4, full, rates)
    other = TensorSynapses(*(torch.from_numpy(x.copy()) for x in one))
    for t in range(20):
        e, H = rng.normal(size=(4, 7)) * (4 if t % 6 > 3 else 0.5), rng.normal(size=(4, 7, n))
        R = rng.uniform(0.1, 1, (4, 7))
        one, _ = synapses.learn(one, e, H, R, rates, np.ones(4))
        tensors = (torch.from_numpy(x) for x in (e, H, R))
        other = differentiable.learn(other, *tensors, tensor_rates(rates, torch.zeros(6, dtype=torch.float64)))
        for a, b in zip(one, other, strict=True):
            assert b.numpy() == pytest.approx(a, abs=1e-9)
    assert one.covariance.max() > 0.01


@pytest.mark.parametrize("name", DECODERS)
def test_the_decoder_in_torch_is_the_hypothesis_s(name):
    hypothesis, _ = hypothesis_of(name)
    rng, s = np.random.default_rng(0), sequences_of(linear_model(), walk())
    mean = hypothesis.start() + 0.5 * rng.normal(size=(12, len(hypothesis.start())))
    variance = rng.uniform(0, 0.3, mean.shape)
    at = hindsight.Prediction(*(x[0, :12] for x in s.expected))
    in_torch = DECODERS[name](*(torch.from_numpy(x) for x in (s.a[0, :12], mean, variance, at.B, at.R)))
    assert in_torch.numpy() == pytest.approx(hypothesis.decode(mean, variance, s.a[0, :12], at))


def test_in_hindsight_the_known_command_brought_about_what_the_motors_did():
    rng = np.random.default_rng(0)
    for name in DECODERS:
        change, a = draw(name, 200, 2, rng), rng.uniform(-1, 1, (hindsight.LENGTH, 200, 2))
        assert np.array_equal(change.G[0], np.tile(np.eye(2), (200, 1, 1)))
        same = (np.abs(change.G - np.eye(2)) == 0).all((0, 2, 3)) & (change.d == 0).all((0, 2))
        assert 0.15 < same.mean() < 0.5
        command = np.linalg.solve(change.G, (a - change.d)[..., None])
        assert (change.G @ command)[..., 0] + change.d == pytest.approx(a)


def test_gradients_through_adaptation_are_those_of_finite_differences():
    hypothesis, rates = hypothesis_of("motors")
    s, change = sequences_of(linear_model(), walk()), draw("motors", 36, 2, np.random.default_rng(1))
    start = TensorSynapses(
        *(torch.from_numpy(np.array(x)) for x in initial_synapses(hypothesis.start(), 36, False, rates))
    )

    def loss(logs):
        return hindsight.loss_of(hypothesis, s, change, tensor_rates(rates, logs), start)

    logs = torch.zeros(1 + len(LEARNABLE), dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(logs), logs)
    steps = 1e-5 * torch.eye(len(logs), dtype=torch.float64)
    expected = [(loss(step) - loss(-step)).item() / 2e-5 for step in steps]
    assert gradient.numpy() == pytest.approx(expected, rel=1e-3, abs=1e-7)
    assert (gradient != 0).sum() >= 5


def test_from_bad_rates_the_learned_rule_finds_better_ones(monkeypatch):
    for name, value in dict(UPDATES=12, RATE=0.4, BATCH=8, CHECKED=32).items():
        monkeypatch.setattr(hindsight, name, value)
    hypothesis, rates = hypothesis_of("motors")
    learned = learn_rule_of(hypothesis, with_rule(rates, {"inflation": 0.02}), sequences_of(linear_model(), walk()))
    assert learned.loss[1] < 0.8 * learned.loss[0]
    assert learned.rule["inflation"] > 1.5


def test_the_layer_takes_what_was_learned_and_still_finds_a_reversed_motor(monkeypatch):
    monkeypatch.setattr(hindsight, "UPDATES", 3)
    p = policy(("motors", "late_1"))
    settings = calibrate(p.layer, walk(120), learn_rule=True)
    again = AdaptiveLayer(p.layer.model, replace(p.layer.settings, rule={"motors": {"inflation": 9.0}}))
    assert calibrate(again, walk(120), learn_rule=True) == settings  # an older rule leaves no trace
    assert set(settings.rule) == {"motors"}
    assert set(settings.rule["motors"]) == set(LEARNABLE)
    learned, plain = AdaptiveLayer(p.layer.model, settings), AdaptiveLayer(p.layer.model, replace(settings, rule={}))
    assert learned.rates[1].noise_scale == settings.rule["motors"]["noise_scale"] != plain.rates[1].noise_scale == 1
    p.layer = learned
    state = play(p, Robots(applied=lambda u, t: u * [-1, 1] if t >= 50 else u), 70)
    assert p.estimates(state)["motors"].mean == pytest.approx(np.tile([-1, 1], (8, 1)), abs=0.3)


def test_what_is_no_rule_is_refused():
    rates = hypothesis_of("motors")[1]
    with pytest.raises(UserError, match="inflatoin"):
        with_rule(rates, {"inflatoin": 1.0})
    with pytest.raises(UserError, match="caution of a learned rule must be a finite number above 0, got 0"):
        with_rule(rates, {"caution": 0})
    with pytest.raises(UserError, match="gather more steps"):
        sequences_of(linear_model(), walk(10))


def test_thresholds_are_quantiles_of_what_the_layer_shows_on_nominal_transitions():
    p, held_out = policy(("motors",)), walk(60)
    noise = 0.03 * np.random.default_rng(1).normal(size=held_out.after.shape)  # more than the model knows of
    held_out = held_out._replace(after=held_out.after + noise)
    settings = calibrate(p.layer, held_out)
    fresh = type(p.layer)(p.layer.model, replace(p.layer.settings, surprise_threshold={}, calm=0.0))
    nominal = [state.synapses[0] for state in replay(fresh, held_out)]
    surprise = np.array([s.surprise for s in nominal])
    assert settings.surprise_threshold["nominal"] == pytest.approx(1.5 * np.quantile(surprise, 0.999), abs=1e-3)
    errors = surprise * np.maximum([s.noise for s in nominal], 1)
    assert settings.calm == pytest.approx(np.quantile(errors, 0.99), abs=1e-3)


def test_the_head_start_is_what_evidence_and_hints_reach_under_the_calibrated_thresholds(monkeypatch):
    monkeypatch.setattr(calibration, "HEAD_START", (-100.0, 100.0))
    p, held_out = policy(("motors",)), walk(60)
    settings = calibrate(p.layer, held_out)
    states = [*replay(type(p.layer)(p.layer.model, replace(settings, calm=0.0)), held_out)]
    largest = [(s.evidence + s.hint).max(1) for s in states]
    assert settings.head_start == pytest.approx(np.quantile(largest, 0.99), abs=2e-3)
    assert abs(settings.head_start - np.quantile([s.evidence.max(1) for s in states], 0.99)) > 0.01


def test_while_it_is_calibrated_the_layer_forgets_where_an_episode_starts():
    held_out = walk(20, 4)
    starts = held_out.starts.copy()
    starts[9, 2] = True
    states = list(replay(policy().layer, held_out._replace(starts=starts)))
    # What was learned from the first step of an episode: as if there had been nothing before.
    alone = list(replay(policy().layer, Transitions(*(x[9:, 2:3] for x in held_out))))
    for mine, its in zip(states[9:], alone, strict=True):
        for a, b in zip(mine.arrays(), its.arrays(), strict=True):
            np.testing.assert_allclose(a[2], b[0], rtol=1e-4, atol=1e-6)  # BLAS rounds by the size of the batch
    assert [state.steps[2] for state in states[8:10]] == [9, 1]


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_reading_that_is_not_finite_spoils_no_calibration(bad):
    held_out = walk(60)
    o, after = held_out.o.copy(), held_out.after.copy()
    after[20, 3, 1] = o[21, 3, 1] = bad
    layer, whole = policy().layer, calibrate(policy().layer, held_out)
    settings = calibrate(layer, held_out._replace(o=o, after=after))
    assert settings.surprise_threshold == pytest.approx(whole.surprise_threshold, rel=0.2)
    assert settings.head_start == pytest.approx(whole.head_start, rel=0.2)
