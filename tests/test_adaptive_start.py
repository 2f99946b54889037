"""The first reading of an episode: sensors that have been off since before it. On linear robots, and on a real one."""

from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv
from toy_robots import Observer, Robots, play, policy

from sb3_plastic.adaptive import AdaptivePolicy
from sb3_plastic.adaptive.beside import LayerBeside
from sb3_plastic.adaptive.calibration import calibrate
from sb3_plastic.adaptive.collect import Transitions
from sb3_plastic.adaptive.layer import AdaptiveLayer
from sb3_plastic.adaptive.options import LayerOptions
from sb3_plastic.adaptive.start import ENOUGH, LEAST, explained, starts_of
from sb3_plastic.adaptive.training import VecAdaptiveLayer
from sb3_plastic.errors import UserError
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


def test_in_a_lifetime_a_nominal_start_leaves_motors_as_they_were_believed_to_be():
    p = knowing(policy(ALL, lifetime=True))
    state = play(p, Starting(applied=lambda u, t: u * [-1.0, 1.0]), 80)
    after, _ = first_of(p, Starting(seed=1).see(), state)
    assert "nominal" not in p.acting(state)
    assert p.acting(after) == p.acting(state)


def test_in_a_lifetime_estimates_stay_where_they_explain_the_start_and_are_made_anew_where_they_do_not():
    p = knowing(policy(ALL, lifetime=True))
    state = play(p, Starting(sensed=lambda o, t: o + OFF), 80)
    kept = p.estimates(state)["sensor_bias"].mean
    o = Starting(seed=1).see() + OFF
    after, found = first_of(p, o, state)
    np.testing.assert_allclose(found["sensor_bias"].mean, kept, atol=SPREAD)
    assert p.acting(after) == ["sensor_bias"] * 8
    layer, agent = p.split_state(state)
    k = p.layer.names.index("sensor_bias")
    fallen = layer.synapses[k]._replace(mean=kept + 2)  # what a robot that lies has made of it
    layer = layer._replace(synapses=(*layer.synapses[:k], fallen, *layer.synapses[k + 1 :]))
    _, found = first_of(p, o, (*layer.arrays(), *agent))
    np.testing.assert_allclose(found["sensor_bias"].mean, np.tile(OFF, (8, 1)), atol=4 * SPREAD)


def test_a_gain_that_was_learned_in_motion_outlives_a_start_that_tells_of_one_sensor_alone():
    p = knowing(policy(("sensor_gain",), lifetime=True), std=(0.02,) * 3)
    settings = replace(p.layer.settings, start_mean=(1.0, 0.0, 0.0))
    p = AdaptivePolicy(p.agent, AdaptiveLayer(p.layer.model, settings), lifetime=True)

    def robots(seed):
        r = Starting(sensed=lambda o, t: 0.5 * o, seed=seed)
        r.o = [1.0, 0.0, 0.0] + 0.02 * r.rng.normal(size=r.o.shape)
        return r

    state = play(p, robots(0), 300)
    kept = p.estimates(state)["sensor_gain"].mean
    assert p.acting(state) == ["sensor_gain"] * 8
    np.testing.assert_allclose(first_of(p, robots(1).see(), state)[1]["sensor_gain"].mean, kept, atol=0.05)


def test_training_with_the_layer_in_the_loop_reads_every_start():
    class Off(gym.Env):
        observation_space, action_space = Observer.observation_space, Observer.action_space

        def reset(self, *, seed=None, options=None):
            self.t = 0
            return 1 + OFF, {}

        def step(self, action):
            self.t += 1
            return 1 + OFF, 0.0, self.t == 3, False, {}

    venv = VecAdaptiveLayer(DummyVecEnv([Off] * 2), knowing(policy(ALL)), ("sensor_bias",))
    shown = [venv.reset()["sensors"]]
    for _ in range(3):
        shown.append(venv.step(np.zeros((2, 2)))[0]["sensors"])
    np.testing.assert_array_equal(shown[3], shown[0])  # after the reset
    np.testing.assert_allclose(shown[0], np.ones((2, 3)), atol=SPREAD)


def test_starts_that_fit_no_layer_are_refused():
    layer = policy(("motors",)).layer
    for mean, std in [((1.0,), (1.0,)), ((1.0,) * 3, ()), ((1.0,) * 3, (1.0, 0.0, 1.0)), ((np.nan,) * 3, (1.0,) * 3)]:
        with pytest.raises(UserError, match="start_mean and start_std"):
            AdaptiveLayer(layer.model, replace(layer.settings, start_mean=mean, start_std=std))


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
    far = np.full(3, 1e9)
    change, variance, gain = explained(e, R, J, q, -far, far)

    d = np.linspace(-60, 60, 40_001)[:, None, None]  # what each synapse may be off by
    step = d[1, 0, 0] - d[0, 0, 0]
    prior = np.mean([np.exp(-0.5 * d**2 / v) / np.sqrt(2 * np.pi * v) for v in (q, 10 * q, 100 * q)], 0)
    joint = prior * np.exp(-0.5 * (e - J * d) ** 2 / R) * step
    evidence = joint.sum(0)
    mean = (d * joint).sum(0) / evidence
    np.testing.assert_allclose(gain, np.log(evidence / np.exp(-0.5 * e**2 / R)).sum(1), rtol=1e-6)
    np.testing.assert_allclose(change, mean, rtol=1e-6)
    spread = ((d - mean) ** 2 * joint).sum(0) / evidence
    np.testing.assert_allclose(variance, np.minimum(spread, q), rtol=1e-5)
    assert np.any(spread < q)
    assert np.any(spread > q)
    bounded, _, less = explained(e, R, J, q, np.full(3, -0.05), np.full(3, 0.05))
    assert np.abs(bounded).max() <= 0.05
    assert np.all(less < gain)  # what is out of bounds explains less


def test_what_is_off_by_far_is_put_right_where_starts_differ():
    one, e = np.ones(1), np.array([[0.0], [0.5], [2.5]])  # in standard deviations of the sensor
    change, _, gain = explained(e, 0.5**2 * one, np.ones((3, 1)), 0.1 * one, -10 * one, 10 * one)
    assert change[0, 0] == 0
    assert gain[0] < 0
    assert gain[1] < 0
    assert change[1, 0] < 0.3  # within what starts differ by
    assert 2.0 < change[2, 0] < 2.5
    assert gain[2] > 5


def test_starts_are_known_from_enough_episodes_alone_and_never_as_a_single_point():
    std = np.array([2.0, 2.0])
    o = np.column_stack([np.random.default_rng(0).normal(3, 0.5, ENOUGH), np.full(ENOUGH, 7.0)])
    mean, spread = starts_of(o, std)
    np.testing.assert_allclose(mean, o.mean(0))
    assert o[:, 0].std(ddof=1) < spread[0] < 1.1 * o[:, 0].std(ddof=1)  # the next start, from few
    assert spread[1] == LEAST * 2.0
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
    again = LayerBeside(Observer.observation_space, Observer.action_space, LayerOptions(epochs=2))
    again.load_state_dict(beside.state_dict())
    once = Transitions(o[:-1, :3], a[:, :3].astype(np.float32), o[1:, :3], starts[:, :3])
    again.learn(once, 1.0)
    again.settle()  # resumed: of three episodes too little is known
    assert again.settings.start_mean == beside.settings.start_mean
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
