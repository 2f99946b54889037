"""Crossed wires, reversed motors, values of each target's own, and damage that lasts over episodes."""

import gymnasium as gym
import numpy as np
import pytest
from perturbation_helpers import make, rollout

from sb3_plastic.perturbations import Perturbation, PerturbationError, parse
from sb3_plastic.perturbations.kinds.wiring import draw_signs, draw_wires
from sb3_plastic.perturbations.wrapper import PerturbSignals

RNG = np.random.default_rng


class Plugs(gym.Env):
    """Three motors; the next observation is what they were told."""

    action_space = gym.spaces.Box(-2.0, 2.0, (3,), np.float64)
    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(3), {}

    def step(self, action):
        return action.copy(), 0.0, False, False, {}


def told(entries: list[dict], commands: list[float], n_steps: int = 1, seed: int = 0) -> np.ndarray:
    """What the motors are told in each step of an episode, [T, 3]."""
    env = PerturbSignals(Plugs(), entries)
    env.reset(seed=seed)
    return np.array([env.step(np.array(commands))[0] for _ in range(n_steps)])


# -- the draws ---------------------------------------------------------------------------------------------------------


def test_two_swapped_wires_exchange_two_commands_and_leave_the_others() -> None:
    for seed in range(5):
        matrix = draw_wires(4, "swap", RNG(seed))
        moved = np.flatnonzero(np.diag(matrix) == 0)
        assert len(moved) == 2
        expected = np.arange(4.0)
        expected[moved] = expected[moved[::-1]]
        np.testing.assert_array_equal(matrix @ np.arange(4.0), expected)


@pytest.mark.parametrize("mode", ["permute", "permute_signed"])
def test_permuted_wires_reach_no_motor_of_their_own_and_each_motor_once(mode) -> None:
    drawn = np.array([draw_wires(6, mode, RNG(seed)) for seed in range(50)])
    assert (np.abs(drawn).sum(1) == 1).all()
    assert (np.abs(drawn).sum(2) == 1).all()
    assert (drawn[:, range(6), range(6)] == 0).all()
    assert (drawn.min() < 0) == (mode == "permute_signed")


def test_signs_follow_the_probability_given_that_at_least_one_motor_is_reversed() -> None:
    rng = RNG(0)
    signs = np.array([draw_signs(3, 1 / 3, "all", rng) for _ in range(4000)])
    n_reversed = (signs == -1).sum(1)
    # Of 27: 12 + 6 + 1 patterns with one, two, three; 8 with none are left out.
    np.testing.assert_allclose(np.bincount(n_reversed, minlength=4) / 4000, [0, 12 / 19, 6 / 19, 1 / 19], atol=0.03)
    np.testing.assert_allclose((signs == -1).mean(0), [9 / 19] * 3, atol=0.03)


def test_even_and_odd_patterns_share_none() -> None:
    rng = RNG(0)
    even, odd = ({tuple(draw_signs(4, 0.5, which, rng)) for _ in range(400)} for which in ("even", "odd"))
    assert len(even) == 7
    assert len(odd) == 8
    assert not even & odd


# -- what motors are told ----------------------------------------------------------------------------------------------


def test_commands_reach_other_motors() -> None:
    ((a, b, c),) = told([{"kind": "wires"}], [0.25, 0.5, 1.0])
    assert (a, b, c) in [(0.5, 1.0, 0.25), (1.0, 0.25, 0.5)]


def test_a_list_gives_each_target_its_own_value_in_the_order_of_the_list() -> None:
    np.testing.assert_array_equal(told([{"kind": "action_gain", "value": [1, -1, 0.5]}], [1, 1, 1]), [[1, -1, 0.5]])
    entry = {"kind": "action_bias", "value": [0.5, 0.25], "target": [2, 0]}  # of half the range, 2
    np.testing.assert_array_equal(told([entry], [0, 0, 0]), [[0.5, 0, 1.0]])


def test_each_draws_a_value_for_each_target() -> None:
    ((a, b, c),) = told([{"kind": "action_gain", "value": {"uniform": [0.3, 1.3]}, "each": True}], [1, 1, 1])
    assert len({a, b, c}) == 3
    assert all(0.3 <= x <= 1.3 for x in (a, b, c))


@pytest.mark.parametrize("entry", [{"kind": "wires"}, {"kind": "motors_reversed", "value": 0.5}])
def test_a_switch_draws_patterns_anew(entry) -> None:
    out = told([entry | {"schedule": {"form": "switch", "every": 5}}], [0.25, 0.5, 1.0], 60).reshape(12, 5, 3)
    assert (np.ptp(out, axis=1) == 0).all()
    assert len({tuple(row) for row in out[:, 0]}) >= 2


@pytest.mark.parametrize("fixed", [0, 7])
def test_a_seed_fixes_the_pattern(fixed) -> None:
    entry = {"kind": "motors_reversed", "value": 0.5, "params": {"seed": fixed}}
    outs = {told([entry], [1, 1, 1], seed=seed).tobytes() for seed in range(5)}
    assert len(outs) == 1


def test_a_motor_of_ant_is_found_by_the_order_of_the_action_and_by_name() -> None:
    env = make("Ant")
    by_name, _, _ = rollout(env, options={"perturbations": [{"kind": "strength", "value": -1, "target": "ankle_1"}]})
    values = [1, 1, 1, -1, 1, 1, 1, 1]  # hip_4, ankle_4, hip_1, ankle_1, ...
    for kind in ("strength", "action_gain"):  # reversing a motor is reversing its command
        by_order, _, infos = rollout(env, options={"perturbations": [{"kind": kind, "value": values}]})
        np.testing.assert_array_equal(by_order, by_name)
        assert infos[0]["perturbation_values"] == (tuple(map(float, values)),)


# -- sensors -----------------------------------------------------------------------------------------------------------


def test_sensors_have_gains_and_biases_of_their_own() -> None:
    entries = [
        {"kind": "obs_gain", "value": [2, 1, 0]},
        {"kind": "obs_bias", "value": {"uniform": [-0.3, 0.3]}, "each": True},
    ]
    env = PerturbSignals(Plugs(), entries)
    bias, _ = env.reset(seed=0)
    assert len(set(bias)) == 3
    np.testing.assert_allclose(env.step(np.ones(3))[0] - bias, [2, 1, 0])


# -- over episodes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "entry",
    [
        {"kind": "motors_reversed", "value": 0.5},
        {"kind": "mass", "value": {"uniform": [0.5, 2]}},
        {"kind": "motor_off", "target": {"choice": ["bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot"]}},
    ],
)
def test_lasting_damage_survives_resets_until_the_environment_is_seeded_again(entry) -> None:
    def drawn(lasting: bool) -> list[tuple]:
        env = make("HalfCheetah", perturbations=[entry | {"lasting": lasting}])
        infos = [env.reset(seed=seed)[1] for seed in (1, None, None, None, 2)]
        return [(info["perturbation_names"], info["perturbation_values"]) for info in infos]

    lasting, fresh = drawn(True), drawn(False)
    assert len(set(lasting[:4])) == 1
    assert len(set(fresh[:4])) > 1
    assert lasting[0] == fresh[0]
    assert lasting[4] == fresh[4]


def test_noise_is_not_the_same_in_each_episode_even_if_its_level_lasts() -> None:
    env = PerturbSignals(Plugs(), [{"kind": "action_noise", "value": {"uniform": [0.1, 0.2]}, "lasting": True}])
    env.reset(seed=0)
    first = env.step(np.zeros(3))[0]
    _, info = env.reset()
    assert not np.array_equal(env.step(np.zeros(3))[0], first)
    assert info["perturbation_values"] == env.reset()[1]["perturbation_values"]


def test_damage_that_lasts_and_switches_is_drawn_anew_at_the_first_switch_too() -> None:
    entry = {"kind": "mass", "value": {"uniform": [0.5, 1.5]}, "lasting": True}
    env = make("HalfCheetah", perturbations=[entry | {"schedule": {"form": "switch", "every": 5}}])
    env.reset(seed=3)
    values = [env.step(np.zeros(6, np.float32))[4]["perturbation_values"] for _ in range(12)]
    assert len(set(values)) == 3


# -- context and plain data --------------------------------------------------------------------------------------------


def test_the_oracle_sees_every_sign_gain_and_wire() -> None:
    entries = [
        {"kind": "motors_reversed", "value": 0.5},
        {"kind": "strength", "value": [1, 1, 0.5, 1, 1, 1]},
        {"kind": "wires", "schedule": {"form": "onset", "at": 1}},
    ]
    env = make("HalfCheetah", perturbations=entries, observe_context=True)
    observations, _, infos = rollout(env, 2)
    assert observations.shape == (3, 17 + 6 + 6 + 36)
    context = np.array(infos[-1]["context"])
    np.testing.assert_array_equal(observations[-1, 17:], context)
    signs, _, wires = infos[-1]["perturbation_values"]
    np.testing.assert_array_equal(context[:6], np.array(signs) - 1)
    np.testing.assert_array_equal(context[6:12], [0, 0, -0.5, 0, 0, 0])
    np.testing.assert_array_equal(context[12:], np.array(wires) - np.eye(6).ravel())
    assert (observations[0, 17 + 12 :] == 0).all()
    other, _ = env.reset(options={"perturbations": [{"kind": "mass", "value": 2.0}]})
    assert (other[17:] == 0).all()


def test_each_and_lasting_survive_being_written_down() -> None:
    entries = [{"kind": "strength", "value": {"uniform": [0.5, 1]}, "each": True, "lasting": True}]
    (p,) = parse(entries)
    assert p.to_dict() == {**entries[0]}
    assert Perturbation.from_dict(p.to_dict()) == p
    assert parse([{"kind": "strength", "value": [1, -1]}])[0].to_dict() == {"kind": "strength", "value": [1, -1]}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"kind": "strength", "value": [1, -1]}, "list has 2 values, but the target is 6 motors"),
        ({"kind": "strength", "value": []}, "is empty"),
        ({"kind": "mass", "value": [1, 2]}, "one value for all.*strength"),
        ({"kind": "strength", "value": 0.5, "each": True}, "is not drawn: 0.5"),
        ({"kind": "strength", "value": 0.5, "each": 1}, "'each' must be true or false"),
        ({"kind": "obs_bias", "value": {"uniform": [0, 1]}, "each": True, "target": {"choice": [0, 1]}}, "name it"),
        ({"kind": "wires", "params": {"mode": "swop"}}, "mode must be one of swap"),
        ({"kind": "wires", "target": "bfoot"}, "two motors or more"),
        ({"kind": "motors_reversed", "value": 0.5, "params": {"patterns": "some"}}, "patterns must be one of all"),
        ({"kind": "motors_reversed", "value": 0.5, "target": "bfoot", "params": {"patterns": "even"}}, "but one"),
        ({"kind": "motors_reversed", "value": 1}, "0.01 to 0.99"),
    ],
)
def test_an_error_says_what_is_allowed(entry, message) -> None:
    with pytest.raises(PerturbationError, match=f"(?s){message}"):
        make("HalfCheetah", perturbations=[entry])
