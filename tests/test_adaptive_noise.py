"""Sensors that are noisy: the filter through the forward model, on a linear robot and on a real one."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from filterpy.kalman import KalmanFilter
from toy_robots import NOISE, A, B, Observer, Robots, play, policy

from sb3_plastic.adaptive import AdaptivePolicy
from sb3_plastic.adaptive.hypotheses import DEFAULT, Transition
from sb3_plastic.adaptive.hypotheses.noise import SensorNoise
from sb3_plastic.adaptive.predictor import Prediction

CHEETAH = Path(__file__).parent.parent / "docs/results/adaptive/HalfCheetah-v5"
LEVEL = np.array([0.5, 0.0, 0.2])


class Noisy(Robots):
    """Robots whose sensors are noisy from step 20 on. What is, what is sensed and what acts are remembered."""

    def __init__(self, level, **kwargs):
        super().__init__(n=16, **kwargs)
        self.level, self.of_sensors = level, np.random.default_rng(1)
        self.true, self.sensed_, self.commands = [], [], []

    def see(self):
        self.true.append(self.o.copy())
        self.sensed_.append(self.o + self.level * self.of_sensors.normal(size=self.o.shape) * (self.t >= 20))
        return self.sensed_[-1].copy()

    def step(self, u):
        self.commands.append(self.applied(u, self.t))
        super().step(u)


def errors(shown, true, since=150):
    return np.sqrt(np.square(np.array(shown[since:]) - np.array(true[since:])).mean((0, 1)))


def test_the_agent_is_shown_what_the_robot_does_behind_noisy_sensors():
    p = policy(("motors", "sensor_bias", "sensor_noise"), agent=Observer())
    robots = Noisy(LEVEL)
    state = play(p, robots, 400)
    assert p.acting(state) == ["sensor_noise"] * 16
    left = errors(p.agent.shown, robots.true)
    assert (left[[0, 2]] < 0.25 * LEVEL[[0, 2]]).all()
    assert left[1] < NOISE  # a sensor that is not noisy is believed


def test_it_filters_nearly_as_well_as_a_kalman_filter_that_knows_the_noise():
    p = policy(("sensor_noise",), agent=Observer()).with_hypotheses("sensor_noise", always="sensor_noise")
    robots = Noisy(LEVEL)
    play(p, robots, 400)
    best = []
    for i in range(16):
        known = KalmanFilter(3, 3, 2)
        known.F, known.B, known.H, known.Q = np.eye(3) + A, B, np.eye(3), NOISE**2 * np.eye(3)
        known.R, known.P = np.diag(LEVEL**2 + 1e-12), 1e-6 * np.eye(3)
        known.x = robots.sensed_[19][i][:, None]
        track = [robots.sensed_[t][i] for t in range(20)]
        for t in range(20, 400):
            known.predict(u=robots.commands[t - 1][i][:, None])
            known.update(robots.sensed_[t][i][:, None])
            track.append(known.x[:, 0].copy())
        best.append(track)
    optimal = errors(np.array(best).transpose(1, 0, 2), robots.true)
    assert (errors(p.agent.shown, robots.true) < 1.3 * optimal + 1e-3).all()


def test_it_learns_how_noisy_each_sensor_is():
    p = policy(("sensor_noise",))
    levels = []
    play(p, Noisy(LEVEL), 600, lambda u, s: levels.append(p.estimates(s)["sensor_noise"].mean[:, :3].mean(0)))
    np.testing.assert_allclose(np.mean(levels[200:], 0), LEVEL, atol=0.05)


def test_it_gives_way_when_the_sensors_are_quiet_again():
    p = policy(("motors", "sensor_noise"), agent=Observer())
    robots = Noisy(LEVEL)

    def watch(u, state):
        if robots.t == 200:
            robots.level = 0 * LEVEL

    state = play(p, robots, 600, watch)
    assert p.acting(state) == ["nominal"] * 16
    np.testing.assert_array_equal(p.agent.shown[-1], robots.sensed_[-1])


def test_a_motor_that_is_reversed_is_no_noise():
    p = policy(("motors", "sensor_noise"))
    state = play(p, Robots(applied=lambda u, t: u * [-1.0, 1.0] if t >= 50 else u), 120)
    assert p.acting(state) == ["motors"] * 8


def test_while_nothing_happens_it_shows_what_the_sensors_show():
    p = policy(("motors", "sensor_noise"), agent=Observer())
    robots = Noisy(0 * LEVEL)
    state = play(p, robots, 300)
    assert p.acting(state) == ["nominal"] * 16
    np.testing.assert_array_equal(p.agent.shown, robots.sensed_)


def test_a_reading_that_is_missing_does_not_wipe_what_is_known_of_the_noise():
    p = policy(("sensor_noise",), agent=Observer())
    robots = Noisy(LEVEL)
    state = play(p, robots, 300)
    known = p.estimates(state)["sensor_noise"].mean[:, :3].copy()
    _, state = p.predict(np.full((16, 3), np.nan), state, deterministic=True)
    after = p.estimates(state)["sensor_noise"].mean[:, :3]
    assert np.isfinite(p.agent.shown[-1]).all()
    np.testing.assert_allclose(after, known, rtol=0.05)


def test_of_a_sensor_that_the_next_step_hardly_depends_on_it_learns_no_noise():
    layer, rng = policy(("sensor_noise",)).layer, np.random.default_rng(0)
    filter_, rates = layer.hypotheses[1], layer.rates[1]
    synapses, F, R = filter_.initial(200, rates), np.tile(np.diag([1.0, 1.0, 0.02]), (200, 1, 1)), np.ones((200, 3))
    t = Transition(R, R, np.zeros((200, 1, 2)), Prediction(R, np.zeros((200, 3, 2)), R))
    for _ in range(200):
        synapses, _ = filter_.learn(synapses, rng.normal(size=(200, 3)), F, t, rates, np.ones(200))
    assert (np.square(synapses.mean[:, :3]).mean(0) < 0.5).all()


def test_how_sure_it_is_is_a_number_where_rounding_leaves_less_than_nothing():
    p = policy(("sensor_noise",))
    state = play(p, Noisy(LEVEL), 1)
    synapses = p.estimates(state)["sensor_noise"]
    _, variance = p.layer.hypotheses[1].believed(synapses._replace(covariance=synapses.covariance - 1e-18 * np.eye(3)))
    np.testing.assert_array_equal(variance, 0)


def test_it_filters_again_after_readings_that_were_absurd():
    p = policy(("motors", "sensor_noise"), agent=Observer())
    robots, wrong = Noisy(LEVEL), np.random.default_rng(3)
    see = robots.see

    def absurd():
        return np.where((50 <= robots.t < 100) & (wrong.random((16, 3)) < 0.1), 1e25, see())

    robots.see = absurd
    play(p, robots, 500)
    left = errors(p.agent.shown, robots.true, 400)
    assert (left[[0, 2]] < 0.5 * LEVEL[[0, 2]]).all()


def test_the_next_episode_of_a_lifetime_keeps_the_noise_and_not_what_was_shown_too_much_last():
    p = policy(("sensor_noise",), agent=Observer(), lifetime=True)
    robots = Noisy(LEVEL)
    state = play(p, robots, 300)
    known = p.estimates(state)["sensor_noise"].mean[:, :3].copy()
    o = robots.see()
    _, state = p.predict(o, state, np.ones(16, bool), deterministic=True)
    np.testing.assert_array_equal(p.agent.shown[-1], o)
    np.testing.assert_array_equal(p.estimates(state)["sensor_noise"].mean[:, :3], known)
    for _ in range(30):
        u, state = p.predict(robots.see(), state, deterministic=True)
        robots.step(u)
    left = errors(p.agent.shown[-20:], robots.true[-20:], 0)
    assert (left[[0, 2]] < 0.5 * LEVEL[[0, 2]]).all()


def test_a_layer_that_is_frozen_among_noise_shows_what_the_sensors_show_from_then_on():
    p = policy(("sensor_noise",), agent=Observer())
    robots = Noisy(LEVEL)
    state = play(p, robots, 300)
    frozen = p.prepared(frozen=True)
    for _ in range(3):
        o = robots.see()
        u, state = frozen.predict(o, state, deterministic=True)
        np.testing.assert_array_equal(p.agent.shown[-1], o)
        robots.step(u)
    assert p.acting(state).count("sensor_noise") > 8


def test_estimates_are_what_the_hypothesis_has_synapses_for():
    p = policy(("motors", "sensor_noise"))
    estimates = p.estimates(play(p, Noisy(LEVEL), 30))
    shapes = {h.name: estimates[h.name].mean.shape for h in p.layer.hypotheses}
    assert shapes == {h.name: (16, len(h.start())) for h in p.layer.hypotheses}


def test_it_runs_by_default():
    assert SensorNoise.name in DEFAULT


@pytest.mark.parametrize("body", [{"noise": 10 * NOISE}, {"drift": 4.0}], ids=["shaken", "another body"])
def test_what_happens_to_the_body_is_no_noise_of_its_sensors(body):
    p = policy(("sensor_noise",), agent=Observer()).with_hypotheses("sensor_noise", always="sensor_noise")
    robots = Noisy(0 * LEVEL, **body)
    shares = []

    def watch(u, state):
        shares.append(errors(p.agent.shown[-1:], robots.true[-1:], 0))

    play(p, robots, 400, watch)
    moved = np.sqrt(np.square(np.diff(robots.true, axis=0)[150:]).mean((0, 1)))
    assert (np.sqrt(np.square(shares[150:]).mean(0)) < 0.35 * moved).all()


def test_a_cheetah_with_noisy_sensors_runs_on():
    p = AdaptivePolicy.load(CHEETAH)
    speeds = {}
    for name, agent in (("filtered", p.with_hypotheses(*DEFAULT)), ("as it is", p)):
        kept = []
        for seed in range(3):
            noise = {"kind": "obs_noise", "value": 0.1, "schedule": {"form": "onset", "at": 100}}
            env = gym.make("sb3_plastic/PerturbedHalfCheetah-v0", perturbations=[noise])
            o, _ = env.reset(seed=seed)
            state = None
            for t in range(350):
                u, state = agent.predict(o, state, deterministic=True)
                o, _, _, _, info = env.step(u)
                kept += [info["x_velocity"]] * (t >= 150)
            env.close()
        speeds[name] = np.mean(kept)
    assert speeds["filtered"] > 1.1 * speeds["as it is"], speeds
