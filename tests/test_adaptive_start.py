"""The first reading of an episode: sensors that have been off since before it. On linear robots, and on a real one."""

from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from toy_robots import Observer, Robots, play, policy

from sb3_plastic.adaptive import AdaptivePolicy
from sb3_plastic.adaptive.beside import LayerBeside
from sb3_plastic.adaptive.calibration import calibrate
from sb3_plastic.adaptive.collect import Transitions
from sb3_plastic.adaptive.layer import AdaptiveLayer
from sb3_plastic.adaptive.options import LayerOptions
from sb3_plastic.adaptive.start import ENOUGH, LEAST, explained, starts_of
from sb3_plastic.export import load_policy

ALL = ("motors", "motors_and_bias", "plugs", "wires", "sensor_bias", "sensor_gain", "late_1")
OFF = np.array([0.4, -0.3, 0.5])
SPREAD = 0.05
EXPORTED = Path(__file__).parent.parent / "docs/results/learning/agents/exported"


class Starting(Robots):
    """Robots that start around 1, in places that differ a little."""

    def __init__(self, spread=SPREAD, **kwargs):
        super().__init__(**kwargs)
        self.o = 1 + spread * self.rng.normal(size=self.o.shape)


def knowing(p, std=(SPREAD,) * 3):
    """The policy, with nominal starts around 1."""
    settings = replace(p.layer.settings, start_mean=(1.0, 1.0, 1.0), start_std=tuple(std))
    return AdaptivePolicy(p.agent, AdaptiveLayer(p.layer.model, settings), p.lifetime).prepared(p.is_frozen)


def first_of(p, o, state=None):
    """State and estimates after the first reading."""
    _, state = p.predict(o, state, np.ones(len(o), bool), deterministic=True)
    return state, p.estimates(state)


def test_sensors_that_were_off_before_the_episode_are_put_right_from_its_first_step_on():
    p = policy(ALL, agent=Observer())
    robots = Starting(sensed=lambda o, t: o + OFF)
    true = []
    first = play(knowing(p), robots, 1, lambda u, s: true.append(robots.o.copy()))
    assert knowing(p).acting(first) == ["sensor_bias"] * 8
    np.testing.assert_allclose(p.agent.shown[0], np.ones((8, 3)), atol=4 * SPREAD)
    p.agent.shown.clear()
    play(p, Starting(sensed=lambda o, t: o + OFF), 1)
    assert np.abs(p.agent.shown[0] - 1).min() > 0.1  # who knows no starts shows what the sensors say


def test_sensors_with_the_wrong_gain_are_put_right_at_once_where_their_readings_tell_it():
    p = knowing(policy(ALL, agent=Observer()))
    state = play(p, Starting(sensed=lambda o, t: 0.5 * o), 1)
    found = p.estimates(state)["sensor_gain"].mean
    np.testing.assert_allclose(found, np.full((8, 3), 0.5), atol=0.15)


def test_nominal_starts_leave_everything_as_it_was():
    p = policy(ALL)
    o = 1 + SPREAD * np.random.default_rng(0).normal(size=(2000, 3))
    state, _ = first_of(knowing(p), o)
    plain, _ = first_of(p, o)
    assert knowing(p).acting(state) == ["nominal"] * 2000
    assert all(np.array_equal(x, y) for x, y in zip(state, plain, strict=True))


def test_a_robot_that_starts_elsewhere_is_believed_once_it_moves():
    p = knowing(policy(("sensor_bias",), agent=Observer()))
    robots = Starting()
    robots.o += OFF
    true = []
    state = play(p, robots, 300, lambda u, s: true.append(robots.o.copy()))
    wrong = np.abs(np.array(p.agent.shown[-50:]) - np.array(true[-51:-1])).mean()
    assert wrong < 0.25 * np.abs(OFF).mean()
    assert len(p.acting(state)) == 8


def test_a_sensor_that_starts_anywhere_or_is_lost_at_the_start_tells_nothing():
    o = np.tile(1 + OFF, (4, 1))
    anywhere = knowing(policy(ALL), std=(1.0, 1.0, 1.0))
    assert anywhere.acting(first_of(anywhere, o)[0]) == ["nominal"] * 4
    lost = knowing(policy(ALL))
    _, found = first_of(lost, np.where([True, False, False], np.nan, o))
    assert found["sensor_bias"].mean[:, 0] == pytest.approx(0)
    np.testing.assert_allclose(found["sensor_bias"].mean[:, 1:], np.tile(OFF[1:], (4, 1)), atol=4 * SPREAD)


def test_in_a_lifetime_the_start_overrides_what_was_believed_only_where_it_tells_otherwise():
    p = knowing(policy(ALL, lifetime=True))
    state = play(p, Starting(applied=lambda u, t: u * [-1.0, 1.0]), 80)
    believed = p.acting(state)
    assert "nominal" not in believed
    assert "sensor_bias" not in believed
    after, _ = first_of(p, Starting(seed=1).see(), state)
    assert p.acting(after) == believed
    after, found = first_of(p, Starting(seed=1).see() + OFF, state)
    assert p.acting(after) == ["sensor_bias"] * 8
    np.testing.assert_allclose(found["sensor_bias"].mean, np.tile(OFF, (8, 1)), atol=4 * SPREAD)


def test_frozen_and_rivals_do_not_read_the_start():
    o = np.tile(1 + OFF, (4, 1))
    frozen = knowing(policy(ALL)).prepared(frozen=True)
    assert frozen.acting(first_of(frozen, o)[0]) == ["nominal"] * 4
    rival = knowing(policy(ALL).with_hypotheses("motors", "sensor_bias", always="motors"))
    assert np.all(first_of(rival, o)[1]["sensor_bias"].mean == 0)


def test_the_evidence_is_bayes_factor_and_the_estimate_the_posterior():
    rng = np.random.default_rng(1)
    e, J = rng.normal(size=(5, 3)), rng.normal(size=(5, 3))
    R, q = np.array([0.1, 1.0, 2.0]), np.array([0.3, 0.1, 0.5])
    change, variance, gain = explained(e, R, J, q)

    def density(x, v):
        return -0.5 * (x * x / v + np.log(v))

    np.testing.assert_allclose(gain, (density(e, R + J * J * q) - density(e, R)).sum(1))
    np.testing.assert_allclose(1 / variance, 1 / q + J * J / R)  # precisions add
    np.testing.assert_allclose(change, variance * J * e / R)


def test_starts_are_known_from_enough_episodes_alone_and_never_as_a_single_point():
    std = np.array([2.0, 2.0])
    o = np.column_stack([np.random.default_rng(0).normal(3, 0.5, ENOUGH), np.full(ENOUGH, 7.0)])
    mean, spread = starts_of(o, std)
    np.testing.assert_allclose(mean, o.mean(0))
    np.testing.assert_allclose(spread, [o[:, 0].std(ddof=1), LEAST * 2.0])
    assert starts_of(o[1:], std) == ((), ())


def test_a_calibration_takes_the_starts_it_is_given_or_those_of_its_transitions():
    o = np.random.default_rng(0).normal(size=(60, 4, 3)).cumsum(0).astype(np.float32)
    starts = np.zeros((59, 4), bool)
    starts[::10] = True
    nominal = Transitions(o[:-1], np.zeros((59, 4, 2), np.float32), o[1:], starts)
    layer = policy(("motors",)).layer
    np.testing.assert_allclose(calibrate(layer, nominal).start_mean, o[:-1][starts].mean(0), rtol=1e-5)
    assert calibrate(layer, nominal, np.full((ENOUGH, 3), 4.0)).start_mean == (4.0, 4.0, 4.0)
    assert calibrate(layer, nominal, np.zeros((3, 3))).start_mean == ()


def test_a_layer_inside_a_policy_learns_the_starts_of_its_training():
    beside = LayerBeside(Observer.observation_space, Observer.action_space, LayerOptions(epochs=2))
    rng = np.random.default_rng(0)
    for seed in range(2):
        robots = Starting(n=30, seed=seed)
        o, a = [robots.see()], rng.uniform(-1, 1, (40, 30, 2))
        for u in a:
            robots.step(u)
            o.append(robots.see())
        starts = np.zeros((40, 30), bool)
        starts[0] = True
        o = np.array(o, np.float32)
        beside.learn(Transitions(o[:-1], a.astype(np.float32), o[1:], starts), 1.0)
    beside.settle()
    assert beside.settings is not None
    np.testing.assert_allclose(beside.settings.start_mean, np.ones(3), atol=0.05)
    np.testing.assert_allclose(beside.settings.start_std, np.full(3, SPREAD), rtol=0.4)


@pytest.mark.slow
def test_a_hopper_whose_sensors_were_off_before_it_was_switched_on_hops():
    env = gym.make_vec("Hopper-v5", 16, "sync")
    p = AdaptivePolicy.fit(load_policy(EXPORTED / "Hopper-v5-seed0"), gym.make("Hopper-v5"), 100_000, epochs=10)
    stood = {}
    for name, q in {"adaptive": p, "frozen": p.prepared(frozen=True)}.items():
        o, _ = env.reset(seed=5)
        state, start, up = None, np.ones(16, bool), np.ones(16, bool)
        for _ in range(300):
            a, state = q.predict(o + 0.3 * p.layer.std, state, start, deterministic=True)
            o, _, fallen, _, _ = env.step(a)
            start, up = np.zeros(16, bool), up & ~fallen
        stood[name] = up.mean()
    assert stood["frozen"] < 0.2
    assert stood["adaptive"] > 0.8
