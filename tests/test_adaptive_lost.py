"""Sensors that say nothing: dropped, dead, stuck. On a linear robot with an exact forward model, and on a real one."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from toy_robots import NOISE, Observer, Robots, play, policy

from sb3_plastic.adaptive import AdaptivePolicy
from sb3_plastic.adaptive.calibration import calibrate
from sb3_plastic.adaptive.collect import Transitions
from sb3_plastic.adaptive.layer import AdaptiveLayer
from sb3_plastic.adaptive.lost import ends_of, silences, suspects
from sb3_plastic.errors import UserError

CHEETAH = Path(__file__).parent.parent / "docs/results/adaptive/HalfCheetah-v5"
NONE = np.full((2, 3), np.nan)  # sensors without ends
ALL = ("motors", "motors_and_bias", "plugs", "wires", "sensor_bias", "sensor_gain", "late_1")


class Faulty(Robots):
    """
    Robots with faulty sensors, around a middle of 1, since 0 would be no fault there.

    :param fault: (what is [N, 3], step, what was sensed last) -> what is sensed
    """

    def __init__(self, fault, **kwargs):
        super().__init__(**kwargs)
        self.o += 1.0
        self.fault, self.true, self.last = fault, [], self.o.copy()

    def see(self):
        self.true.append(self.o.copy())
        self.last = self.fault(self.o.copy(), self.t, self.last)
        return self.last


def dropped(o, t, last):
    return np.where(np.random.default_rng(t).random(o.shape) < 0.2, 0.0, o) if t > 20 else o


def dead(o, t, last, which=0):
    return np.where(np.arange(3) == which, 0.0, o) if t > 20 else o


def stuck(o, t, last, which=2):
    return np.where(np.arange(3) == which, last, o) if t > 20 else o


def without_filling(p):
    other = AdaptivePolicy(p.agent, AdaptiveLayer(p.layer.model, replace(p.layer.settings, lost_at=0.0)))
    return other.prepared(p.is_frozen)


def errors_of(p, fault, steps=120):
    """Root mean square of what the agent sees wrong of each component, after the first 40 steps, and the last state."""
    p.agent.shown.clear()
    robots = Faulty(fault)
    state = play(p, robots, steps)
    wrong = np.array(p.agent.shown[40:]) - np.array(robots.true[40:])
    return np.sqrt(np.square(wrong).mean((0, 1))), state


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("fault", [dead, stuck])
def test_the_agent_is_shown_what_the_robot_does_in_place_of_what_a_dead_or_stuck_sensor_shows(fault, which):
    check_filled(partial(fault, which=which))


def test_the_agent_is_shown_what_the_robot_does_in_place_of_readings_that_drop_out():
    check_filled(dropped)


def check_filled(fault):
    p = policy(ALL, agent=Observer())
    wrong, state = errors_of(p, fault)
    assert wrong.max() < 3 * NOISE
    assert errors_of(without_filling(p), fault)[0].max() > 10 * NOISE
    assert p.acting(state) == ["nominal"] * 8


def test_what_is_often_silent_on_the_nominal_robot_is_believed():
    rng = np.random.default_rng(0)
    o = rng.normal(size=(500, 4, 3))  # a contact sensor, a thing that lies still, and an angle
    o[:, :, 0] *= rng.random((500, 4)) < 0.3
    o[:, :, 1] = np.repeat(o[::20, :, 1], 20, 0)
    nominal = Transitions(o[:-1], np.zeros((499, 4, 2)), o[1:], np.zeros((499, 4), bool))
    p = policy(("motors",))
    settings = calibrate(p.layer, nominal)
    assert (settings.often_nothing, settings.often_still) == ((0,), (1,))
    layer = AdaptiveLayer(p.layer.model, settings)
    state = layer.initial_state(3)._replace(
        steps=np.ones(3, np.int64), shown=np.full((3, 3), 9.0), f=np.full((3, 3), 5.0)
    )
    shown = np.array([[0.0, 5.0, 5.0], [5.0, 9.0, 5.0], [5.0, 0.0, 9.0]])
    _, filled, seen = layer.fill(state, shown)
    np.testing.assert_array_equal(seen, [[True, True, True], [True, True, True], [True, False, False]])
    np.testing.assert_array_equal(filled[seen], shown[seen])


def test_a_robot_that_lies_still_does_not_make_its_sensors_often_silent():
    walk = np.random.default_rng(0).normal(size=(60, 4, 3)).cumsum(0)
    walk[:, 0] = [0.0, 0.3, 0.7]  # one of four has fallen
    walks = Transitions(walk[:-1], np.zeros((59, 4, 2)), walk[1:], np.zeros((59, 4), bool))
    settings = calibrate(policy(("motors",)).layer, walks)
    assert (settings.often_nothing, settings.often_still) == ((), ())


def test_a_motor_is_found_reversed_behind_sensors_that_drop_out():
    p = policy(("motors",), agent=Observer())
    robots = Faulty(dropped, applied=lambda u, t: u * [-1.0, 1.0])
    state = play(p, robots, 150)
    assert p.acting(state) == ["motors"] * 8
    assert p.estimates(state)["motors"].mean == pytest.approx(np.tile([-1.0, 1.0], (8, 1)), abs=0.2)


def test_a_sensor_that_shows_something_again_is_believed_at_once():
    p = policy(("motors",), agent=Observer())
    errors_of(p, lambda o, t, last: dead(o, t, last) if t < 80 else o)
    robots = Faulty(lambda o, t, last: dead(o, t, last) if t < 80 else o)
    p.agent.shown.clear()
    play(p, robots, 120)
    np.testing.assert_array_equal(p.agent.shown[80:], robots.true[80:])


@pytest.mark.parametrize("fault", [dropped, dead, stuck])
def test_a_layer_that_is_frozen_shows_what_the_sensors_show(fault):
    p = policy(("motors",), agent=Observer()).prepared(frozen=True)
    robots = Faulty(fault)
    seen = []
    see = robots.see
    robots.see = lambda: seen.append(see()) or seen[-1].copy()
    play(p, robots, 60)
    np.testing.assert_array_equal(p.agent.shown, seen)


def test_zero_is_believed_where_it_is_expected():
    p = policy(("motors",), agent=Observer())
    quiet = Robots(noise=0.0)
    p.agent.predict = lambda o, *_, **__: (np.zeros((8, 2)), None)
    state = None
    for _ in range(50):
        u, state = p.predict(quiet.see(), state, deterministic=True)
        quiet.step(u)
        assert p.split_state(state, 8)[0].seen.all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e31])
def test_a_sensor_at_rest_is_believed_again_after_a_reading_that_is_no_number(bad):
    p = policy(("motors",), agent=Observer())
    p.agent.predict = lambda o, *_, **__: (np.zeros((8, 2)), None)
    at_rest, missing, state = np.zeros((8, 3)), np.tile([bad, 0.0, 0.0], (8, 1)), None
    for t in range(30):
        _, state = p.predict(missing if t == 20 else at_rest, state, deterministic=True)
        seen = p.split_state(state, 8)[0].seen
        np.testing.assert_array_equal(seen, np.tile([t != 20, True, True], (8, 1)))


def test_an_observation_that_repeats_as_a_whole_is_late_and_no_sensor_is_stuck():
    stuck = np.array([[True, True, True, True], [True, True, False, True], [False, False, False, True]])
    silent = np.stack([np.zeros_like(stuck), stuck])
    all_tell, the_last_is_often_still = np.ones((2, 4), bool), np.array([[True] * 4, [True, True, True, False]])
    one = [False, False, False, True]
    np.testing.assert_array_equal(suspects(silent, all_tell), [[False] * 4, [False] * 4, one])
    np.testing.assert_array_equal(suspects(silent, the_last_is_often_still), [[False] * 4] * 3)


def test_a_sensor_at_its_end_may_stay_there():
    ends = ends_of(np.random.default_rng(0).normal(size=(2048, 3)).clip(-2, 2.1))
    o = np.array([[-2.0, 2.1, 1.0], [2.1, -2.0, 0.0]])
    np.testing.assert_array_equal(silences(o, o, np.zeros(3), np.ones(3), ends)[1], [[False, False, True]] * 2)


def test_a_sensor_that_shows_nothing_is_known_behind_a_normalisation_that_rounds():
    nothing = np.array([0.1, -2.0, 0.5])
    o = nothing * (1 + 1e-7)
    assert silences(o[None], np.ones((1, 3)), nothing, np.ones(3), NONE)[0].all()
    assert not silences(o[None] + 1e-3, np.ones((1, 3)), nothing, np.ones(3), NONE).any()


def test_at_the_start_of_an_episode_nothing_is_filled_in():
    p = policy(("motors",), agent=Observer())
    _, state = p.predict(np.ones((8, 3)), deterministic=True)
    starts = np.arange(8) < 4
    _, state = p.predict(np.zeros((8, 3)), state, starts, deterministic=True)
    seen = p.split_state(state, 8)[0].seen
    assert seen[:4].all()
    assert not seen[4:].any()
    np.testing.assert_array_equal(p.agent.shown[-1][:4], 0)


def test_a_whole_observation_that_is_lost_is_filled_in():
    p = policy(("motors",), agent=Observer())
    wrong, _ = errors_of(p, lambda o, t, last: o * (t % 10 != 9))
    assert wrong.max() < 2 * NOISE


def test_what_counts_as_lost_is_a_setting_and_is_saved_with_the_layer(tmp_path):
    p = AdaptivePolicy.load(CHEETAH)
    assert p.layer.settings.lost_at == 3.0
    without_filling(p).save(tmp_path / "believing")
    assert AdaptivePolicy.load(tmp_path / "believing").layer.settings.lost_at == 0.0


@pytest.mark.parametrize("name", ["lost_at", "probing", "head_start", "calm", "lead"])
@pytest.mark.parametrize("bad", [-1.0, float("nan"), "5"])
def test_a_setting_that_is_no_number_of_at_least_0_is_refused(name, bad):
    layer = policy().layer
    with pytest.raises(UserError, match=f"{name} must be a finite number at least 0"):
        AdaptiveLayer(layer.model, replace(layer.settings, **{name: bad}))


@pytest.mark.parametrize(
    "fault", [{"kind": "obs_dropout", "value": 0.2}, {"kind": "obs_stuck", "target": ["bthigh", "fshin"]}]
)
def test_a_cheetah_whose_sensors_fail_runs_on_with_the_layer(fault):
    p = AdaptivePolicy.load(CHEETAH)
    kept = {}
    for name, agent in (("filled", p), ("believed", without_filling(p))):
        env = gym.make(
            "sb3_plastic/PerturbedHalfCheetah-v0", perturbations=[fault | {"schedule": {"form": "onset", "at": 100}}]
        )
        o, _ = env.reset(seed=3)
        state, speeds = None, []
        for _ in range(300):
            u, state = agent.predict(o, state, deterministic=True)
            o, _, _, _, info = env.step(u)
            speeds.append(info["x_velocity"])
        kept[name] = np.mean(speeds[120:]) / np.mean(speeds[50:100])
        env.close()
    assert kept["filled"] > 0.8
    assert kept["filled"] > kept["believed"] + 0.2


@pytest.mark.parametrize("name", ["often_nothing", "often_still"])
@pytest.mark.parametrize("bad", [(3,), (-1,), (0.5,), (True,), ("0",), 1, None])
def test_what_is_no_place_of_a_predicted_component_is_refused(name, bad):
    layer = policy().layer
    with pytest.raises(UserError, match=f"{name} must be places of predicted components, whole numbers from 0 to 2"):
        AdaptiveLayer(layer.model, replace(layer.settings, **{name: bad}))
