"""Perturbations that begin again, of which there are two, and what is drawn, kept or left alone at each step."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from perturbation_helpers import Gauges, make, rollout

from sb3_plastic.evaluation.protocols import onset_of
from sb3_plastic.perturbations.spec import Distribution, Perturbation, PerturbationError, Schedule
from sb3_plastic.perturbations.wrapper import PerturbSignals

TWICE = {"form": "intermittent", "duration": 3, "pause": 4, "at": 2}  # steps 2 to 4, and 9 to 11


def test_a_sense_that_sticks_again_keeps_the_value_that_it_has_then() -> None:
    fresh = rollout(make("Hopper"), 12)[0]
    seen = rollout(make("Hopper", perturbations=[{"kind": "obs_stuck", "schedule": TWICE}]), 12)[0]
    np.testing.assert_array_equal(seen, fresh[[0, 1, 2, 3, 3, 3, 6, 7, 8, 9, 10, 10, 10]])


def test_a_joint_that_locks_again_is_held_at_the_angle_that_it_has_then() -> None:
    env = make("HalfCheetah", perturbations=[{"kind": "joint_lock", "target": "bfoot", "schedule": TWICE}])
    env.reset(seed=0)
    joint = env.model.joint("bfoot")
    before = []
    for t in range(10):
        before.append(env.data.qpos[joint.qposadr[0]])
        env.step(np.full(6, 0.5 if t < 6 else -0.5, np.float32))
    (lock,) = (env.robot.locks[int(j)] for j in env.perturber.active[0].ids)
    assert env.model.eq_data[lock, 0] == before[9]
    assert abs(before[9] - before[2]) > 0.01


def test_an_oracle_sees_each_of_two_perturbations_of_one_sensor() -> None:
    entries = [{"kind": "obs_bias", "value": value, "target": [0]} for value in (0.2, 0.3)]
    obs, _ = make("Hopper", perturbations=entries, observe_context=True).reset(seed=0)
    assert obs[-2:].tolist() == [0.2, 0.3]


def test_pushes_of_one_body_and_scales_of_one_limb_add_up() -> None:
    one, two = (
        make("Ant", perturbations=[{"kind": "push", "value": v} for v in values]) for values in ([0.5], [0.2, 0.3])
    )
    np.testing.assert_allclose(rollout(one, 10)[0], rollout(two, 10)[0], atol=1e-9)
    small = [{"kind": "limb_scale", "value": value, "target": "ankle_1"} for value in (0.8, 0.5)]
    once, twice = make("Ant", perturbations=[small[0] | {"value": 0.4}]), make("Ant", perturbations=small)
    for env in (once, twice):
        env.reset(seed=0)
    np.testing.assert_allclose(once.model.geom_size, twice.model.geom_size)


def test_noise_is_a_fraction_of_the_control_range_and_each_motor_has_its_own() -> None:
    env = PerturbSignals(Gauges(), [{"kind": "action_noise", "value": 0.1}])
    env.reset(seed=0)
    middle = np.float32([0, 0.5, 1])
    noise = np.array([env.step(middle)[4]["command"] for _ in range(1000)]) - middle
    np.testing.assert_allclose(noise.std(0), [0.1, 0.05, 0.1], rtol=0.1)
    assert np.abs(np.corrcoef(noise.T) - np.eye(3)).max() < 0.15


def test_each_command_is_lost_with_the_probability() -> None:
    env = PerturbSignals(Gauges(), [{"kind": "action_dropout", "value": 0.3}])
    env.reset(seed=0)
    lost = np.array([env.step(np.float32([0.5, 0.25, 0.5]))[4]["command"] for _ in range(1000)]) == 0
    np.testing.assert_allclose(lost.mean(0), 0.3, atol=0.05)
    assert np.abs(np.corrcoef(lost.T) - np.eye(3)).max() < 0.15


def test_what_an_environment_gets_is_within_its_action_space() -> None:
    env = PerturbSignals(Gauges(), [{"kind": "action_bias", "value": 1.0}])
    env.reset(seed=0)
    assert env.step(np.float32([0.5, 0.25, 1.5]))[4]["command"].tolist() == [1, 0.75, 2]


def test_an_onset_is_drawn_before_how_long_it_takes() -> None:
    ramp = Schedule("onset", at=Distribution("uniform", (2, 50)), ramp=Distribution("uniform", (1, 9)))
    entry = Perturbation("gravity", 1.5, schedule=ramp)
    for seed in range(5):
        infos = rollout(make("Hopper", perturbations=[entry]), 52, seed=seed)[2]
        assert [info["steps_since_onset"] for info in infos].index(0) - 1 == onset_of(entry, seed)


class Lines(gym.Env):
    """Two unbounded motors and two sensors that count: the observation is an array of the environment's own."""

    observation_space = action_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation = np.zeros(2)
        return self.observation, {}

    def step(self, action):
        self.observation += (1, -1)
        return self.observation, 0.0, False, False, {"command": np.array(action)}


def lines(entry: dict, n_steps: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """What the motors get if they are told 1, 2, 3, ... and -1, -2, -3, ..., and what is seen of the sensors."""
    env = PerturbSignals(Lines(), [entry])
    seen, commands = [env.reset(seed=0)[0]], []
    for t in range(1, n_steps + 1):
        obs, _, _, _, info = env.step(np.array([t, -t], np.float64))
        seen.append(obs)
        commands.append(info["command"])
    return np.array(commands), np.array(seen)


def test_each_sensor_has_noise_of_its_own() -> None:
    noise = np.diff(lines({"kind": "obs_noise", "value": 0.5}, 2000)[1][::2], axis=0) - [2, -2]
    np.testing.assert_allclose(noise.std(0), 0.5 * np.sqrt(2), rtol=0.1)
    assert abs(np.corrcoef(noise.T)[0, 1]) < 0.15


def test_a_delay_that_begins_delivers_what_came_before_it() -> None:
    late = {"value": 2, "schedule": {"form": "onset", "at": 3}}
    assert lines({"kind": "action_delay", **late})[0][:, 0].tolist() == [1, 2, 3, 2, 3, 4]
    assert lines({"kind": "obs_delay", **late})[1][:, 0].tolist() == [0, 1, 2, 3, 2, 3, 4]


def test_a_sense_that_sticks_after_another_keeps_its_own_value() -> None:
    env = PerturbSignals(
        Lines(), [{"kind": "obs_stuck", "target": {"choice": [0, 1]}, "schedule": {"form": "switch", "every": 4}}]
    )
    env.reset(seed=0)
    which = set()
    for t in range(1, 33):
        obs, _, _, _, info = env.step(np.zeros(2))
        sensor = int(info["perturbation_names"][0][-1])
        which.add(sensor)
        since = (t - 1) // 4 * 4 + 1 if t > 4 else 0  # the first one sticks from the reset on
        assert obs[sensor] == (1, -1)[sensor] * since
        assert obs[1 - sensor] == (-1, 1)[sensor] * t
    assert which == {0, 1}


def test_only_the_targets_of_a_delay_are_late() -> None:
    commands = lines({"kind": "action_delay", "value": 2, "target": 1})[0]
    assert commands.T.tolist() == [[1, 2, 3, 4, 5, 6], [-1, -1, -1, -2, -3, -4]]
    seen = lines({"kind": "obs_delay", "value": 2, "target": [0]})[1]
    assert seen.T.tolist() == [[0, 0, 0, 1, 2, 3, 4], [0, -1, -2, -3, -4, -5, -6]]


def test_the_longest_delay_is_as_long_as_it_says() -> None:
    assert lines({"kind": "action_delay", "value": 50}, 53)[0][-3:, 0].tolist() == [1, 2, 3]


def test_motors_without_bounds_are_perturbed_in_their_own_units() -> None:
    assert lines({"kind": "action_bias", "value": 0.5}, 2)[0].tolist() == [[1.5, -0.5], [2.5, -1.5]]
    assert lines({"kind": "motor_stuck", "value": 0.25}, 1)[0].tolist() == [[0.25, 0.25]]


def test_signals_tell_how_long_they_have_been_perturbed_and_the_environment_within_gets_its_own_options() -> None:
    class Told(Gauges):
        def reset(self, *, seed=None, options=None):
            self.options = options
            return super().reset(seed=seed)

    env = PerturbSignals(Told())
    late = {"kind": "action_gain", "value": 0.5, "schedule": {"form": "onset", "at": 2}}
    _, info = env.reset(seed=0, options={"perturbations": [late], "low": 0.1})
    assert env.unwrapped.options == {"low": 0.1}
    steps = [env.step(np.float32([0.5, 0.25, 0.5]))[4] for _ in range(4)]
    assert [told["steps_since_onset"] for told in (info, *steps)] == [-1, -1, -1, 0, 1]
    assert [told["perturbation_active"] for told in steps] == [(False,)] * 2 + [(True,)] * 2


@pytest.mark.parametrize("kind", ["action_bias", "obs_bias"])
def test_arrays_of_the_agent_and_of_the_environment_are_left_alone(kind) -> None:
    env = PerturbSignals(Lines(), [{"kind": kind, "value": 1.0}])
    options = {"perturbations": [{"kind": kind, "value": 0.5}]}
    env.reset(options=options)
    assert options == {"perturbations": [{"kind": kind, "value": 0.5}]}
    action = np.ones(2)
    env.step(action)
    assert action.tolist() == [1, 1]
    assert env.unwrapped.observation.tolist() == [1, -1]


def test_perturbed_signals_take_a_scenario_by_its_name_at_a_reset():
    env = PerturbSignals(Gauges())
    env.reset(options={"scenario": "nda-v2/novel/late_2"})
    assert [(p.kind, p.value) for p in env.perturber.perturbations] == [("action_delay", 2)]
    with pytest.raises(PerturbationError, match="Unknown scenario"):
        env.reset(options={"scenario": "nda-v2/novel/wings"})
    with pytest.raises(PerturbationError, match="not both"):
        env.reset(options={"scenario": "nda-v2/nominal", "perturbations": []})
