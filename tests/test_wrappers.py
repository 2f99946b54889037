"""PreviousActionReward: the network sees what it did and what came of it."""

from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from envs import BOX, RandomEnv
from gymnasium import spaces
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from sb3_plastic import PlasticPPO, PreviousActionReward, VecPreviousActionReward
from sb3_plastic.errors import UserError
from sb3_plastic.perturbations.vec_env import LocomotionVecEnv
from sb3_plastic.perturbations.wrapper import PerturbSignals
from sb3_plastic.safe.wrappers import check_wrapper
from sb3_plastic.wrappers import MidRunChange, SplitObservation


@pytest.mark.parametrize(
    ("action_space", "action", "shown"),
    [
        (spaces.Box(-1, 1, (2,)), np.array([0.5, -0.5], np.float32), [0.5, -0.5]),
        (spaces.Discrete(3), 1, [0, 1, 0]),
        (spaces.MultiDiscrete([2, 2]), np.array([1, 0]), [0, 1, 1, 0]),
        (spaces.MultiBinary(2), np.array([1, 0], np.int8), [1, 0]),
    ],
)
def test_previous_action_and_reward_follow_the_observation(action_space, action, shown):
    env = PreviousActionReward(RandomEnv(BOX, action_space))
    observation, _ = env.reset(seed=0)
    np.testing.assert_array_equal(observation[4:], np.zeros(len(shown) + 1))
    observation, reward, *_ = env.step(action)
    np.testing.assert_allclose(observation[4:], [*shown, reward], rtol=1e-6)
    assert env.observation_space.contains(observation)
    observation, _ = env.reset()
    np.testing.assert_array_equal(observation[4:], np.zeros(len(shown) + 1))


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_whole_numbers_become_floating_so_that_rewards_are_not_cut(dtype):
    env = PreviousActionReward(RandomEnv(spaces.Box(0, 100, (2,), dtype), spaces.Discrete(2)))
    env.reset(seed=0)
    observation, reward, *_ = env.step(1)
    assert observation.dtype == np.float32
    np.testing.assert_allclose(observation[2:], [0, 1, reward], rtol=1e-6)
    assert env.observation_space.contains(observation)


def test_the_rest_of_a_split_observation_keeps_its_key():
    with pytest.raises(UserError, match="give the last numbers another"):
        SplitObservation(RandomEnv(BOX, BOX), n_last=1, key="sensors")
    check_wrapper({"sb3_plastic.wrappers.SplitObservation": {"n_last": 1}}, "config.yml")


@pytest.mark.parametrize("n_last", [0, 4, 1.0])
def test_a_split_observation_has_something_in_both_parts(n_last):
    with pytest.raises(UserError, match="n_last must be a whole number at least 1 and below 4"):
        SplitObservation(RandomEnv(BOX, BOX), n_last=n_last)


def test_the_last_numbers_of_an_observation_get_a_key_and_keep_their_bounds():
    space = spaces.Box(np.float32([0, 1, 2]), np.float32([1, 3, 5]))
    env = SplitObservation(RandomEnv(space, BOX), n_last=1, key="truth")
    assert env.observation_space == spaces.Dict(
        sensors=spaces.Box(np.float32([0, 1]), np.float32([1, 3])), truth=spaces.Box(2, 5, (1,))
    )
    assert env.observation_space.contains(env.reset(seed=0)[0])


def test_a_dict_observation_gets_two_more_keys():
    env = PreviousActionReward(RandomEnv(spaces.Dict({"a": BOX}), spaces.Discrete(2)))
    env.reset(seed=0)
    observation, reward, *_ = env.step(1)
    assert set(observation) == {"a", "previous_action", "previous_reward"}
    np.testing.assert_array_equal(observation["previous_action"], [0, 1])
    np.testing.assert_allclose(observation["previous_reward"], [reward], rtol=1e-6)
    assert env.observation_space.contains(observation)


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "CartPole-v1", "HalfCheetah-v5"])
@pytest.mark.filterwarnings("ignore:.*(symmetric and normalized|Box observation space)")
def test_real_environments_stay_valid(env_id):
    check_env(PreviousActionReward(gym.make(env_id)))


def test_a_policy_learns_with_it():
    env = PreviousActionReward(gym.make("Pendulum-v1"))
    PlasticPPO("MlpPolicy", env, n_steps=32, batch_size=32, policy_kwargs=dict(external_modulation=True)).learn(64)


@pytest.mark.parametrize(
    ("env_id", "kwargs", "vec_env_cls"),
    [
        ("CartPole-v1", {}, DummyVecEnv),
        ("CartPole-v1", {}, partial(SubprocVecEnv, start_method="fork")),
        ("sb3_plastic/PerturbedHopperLatent-v0", {"scenario": "nda-v1/train"}, LocomotionVecEnv),
    ],
)
def test_around_a_vector_environment_it_shows_what_it_shows_around_each(env_id, kwargs, vec_env_cls):
    each = make_vec_env(env_id, 3, seed=0, env_kwargs=kwargs, wrapper_class=PreviousActionReward)
    whole = VecPreviousActionReward(make_vec_env(env_id, 3, seed=0, env_kwargs=kwargs, vec_env_cls=vec_env_cls))
    assert each.observation_space == whole.observation_space
    np.testing.assert_array_equal(each.reset(), whole.reset())
    each.action_space.seed(0)
    ends = 0
    for _ in range(100):
        actions = np.stack([each.action_space.sample() for _ in range(3)])
        (obs, rewards, dones, infos), others = each.step(actions), whole.step(actions)
        np.testing.assert_array_equal(obs, others[0])
        np.testing.assert_array_equal(rewards, others[1])
        np.testing.assert_array_equal(dones, others[2])
        for i in np.flatnonzero(dones):
            np.testing.assert_array_equal(infos[i]["terminal_observation"], others[3][i]["terminal_observation"])
            ends += 1
    assert ends > 2


def test_a_vector_environment_that_is_reset_in_mid_episode_has_no_previous_action():
    venv = VecPreviousActionReward(make_vec_env("Pendulum-v1", 2, seed=0))
    for _ in range(2):
        np.testing.assert_array_equal(venv.reset()[:, 3:], np.zeros((2, 2)))
        assert venv.step(np.ones((2, 1), np.float32))[0][:, 3:].all()


def test_what_the_observation_has_already_is_not_written_over():
    env = RandomEnv(spaces.Dict({"previous_reward": spaces.Box(-1, 1, (4,))}), spaces.Discrete(2))
    with pytest.raises(UserError, match="has previous_reward already"):
        PreviousActionReward(env)


@pytest.mark.parametrize(
    ("change", "onsets"), [({}, [-1, 0, 1]), (dict(at=2, wires=[[-1]]), [-1, 0, 1]), (dict(wires=[[-1]]), [0, 1, 2])]
)
def test_the_first_of_two_changes_is_the_onset(change, onsets):
    class Changed(gym.Wrapper):
        def step(self, action):
            *rest, info = self.env.step(action)
            self.t += 1
            return *rest, {**info, "steps_since_onset": self.t - 1}

        def reset(self, **kwargs):
            self.t = -1
            return self.env.reset(**kwargs)

    env = MidRunChange(Changed(gym.make("Pendulum-v1")), **change)
    env.reset(seed=0)
    assert [env.step([0.0])[4]["steps_since_onset"] for _ in range(3)] == onsets


def test_images_are_refused():
    with pytest.raises(ValueError, match="box observation of one axis, or a dict"):
        PreviousActionReward(RandomEnv(spaces.Box(0, 255, (3, 8, 8), np.uint8), spaces.Discrete(2)))


def pendulum_torques(**change):
    """Angular velocities of a pendulum at rest at its lowest point, with a torque of 1 N m, for six steps."""
    env = MidRunChange(gym.make("Pendulum-v1"), **change)
    speeds, since = [], []
    for episode in range(2):
        env.reset(seed=episode)
        env.unwrapped.state = np.array([np.pi, 0.0])
        for _ in range(3):
            observation, _, _, _, info = env.step(np.array([1.0], np.float32))
            speeds.append(observation[2])
            since.append(info["steps_since_onset"])
            env.unwrapped.state = np.array([np.pi, 0.0])
    return speeds, since


def test_motors_are_plugged_in_anew_in_mid_episode_and_back_at_the_next():
    speeds, since = pendulum_torques(at=2, wires=[[-1]])
    assert speeds == pytest.approx([0.15, 0.15, -0.15] * 2, abs=1e-5)
    assert since == [-1, -1, 0] * 2


def test_wires_act_in_units_of_half_the_control_range():
    class Record(gym.Env):
        observation_space, action_space = (
            gym.spaces.Box(-1, 1, (1,)),
            gym.spaces.Box(np.array([0, -4]), np.array([2, 4])),
        )

        def reset(self, *, seed=None, options=None):
            return np.zeros(1), {}

        def step(self, action):
            self.action = action
            return np.zeros(1), 0.0, False, False, {}

    env = MidRunChange(Record(), wires=[[0, 1], [-0.5, 0]])
    env.reset()
    env.step(np.array([2.0, 9.0]))
    assert env.unwrapped.action == pytest.approx([2.0, -2.0])  # the command was clipped first
    assert env.unwrapped.action.dtype == env.action_space.dtype


def test_attributes_change_at_the_onset_and_come_back():
    env = MidRunChange(gym.make("Pendulum-v1"), at=1, attributes={"g": 3.0})
    seen = []
    for _ in range(2):
        env.reset(seed=0)
        for _ in range(2):
            env.step(np.zeros(1, np.float32))
            seen.append(env.unwrapped.g)
    assert seen == [10.0, 3.0] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wires": np.eye(2)}, r"shape \(2, 2\) do not fit"),
        ({"wires": [[1, 2], [3]]}, "wires is a matrix of numbers"),
        ({"wires": [[np.nan]]}, "wires is a matrix of finite numbers"),
        ({"attributes": {"mass": 1}}, "'mass'"),
        ({"attributes": ["g"]}, "attributes is a mapping"),
        ({"at": -1}, "at must be a whole number at least 0"),
    ],
)
def test_changes_that_do_not_fit_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        MidRunChange(gym.make("Pendulum-v1"), **change)


def test_motors_without_bounds_cannot_be_plugged_in_anew():
    env = RandomEnv(BOX, spaces.Box(-np.inf, np.inf, (1,)))
    with pytest.raises(UserError, match="do not fit the action space"):
        MidRunChange(env, wires=[[-1]])


def test_an_episode_begins_in_an_environment_that_is_unchanged_again():
    class Placed(RandomEnv):
        place = 0.0

        def reset(self, **kwargs):
            return super().reset(**kwargs)[0] * 0 + np.float32(self.place), {}

    placed = Placed(BOX, BOX)
    placed.place = 1.0
    env = MidRunChange(placed, attributes={"place": 2.0})
    for _ in range(2):
        assert env.reset()[0].tolist() == [1.0] * 4
        env.step(np.zeros(4, np.float32))
        assert placed.place == 2.0


@pytest.mark.parametrize("wrapper", [PreviousActionReward, MidRunChange, PerturbSignals])
def test_seed_and_options_of_a_reset_reach_the_environment(wrapper):
    given = []

    class Notes(RandomEnv):
        def reset(self, *, seed=None, options=None):
            given.append((seed, options))
            return super().reset(seed=seed, options=options)

    wrapper(Notes(BOX, BOX)).reset(seed=3, options={"place": 1})
    assert given == [(3, {"place": 1})]
