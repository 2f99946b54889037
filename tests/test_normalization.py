"""What VecNormalize did to observations is done to those of an exported policy."""

import pickle

import numpy as np
import pytest
from envs import BOX, RandomEnv, random_vec_env, small_ppo
from gymnasium import spaces
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize

from sb3_plastic import load_policy
from sb3_plastic.errors import UserError
from sb3_plastic.export import Normalization
from sb3_plastic.safe import DamagedError

BOUNDED = spaces.Box(np.float32([-1, -2]), np.float32([1, 2]))


def statistics_of(space, **kwargs):
    """A VecNormalize that has seen some observations."""
    venv = VecNormalize(DummyVecEnv([lambda: RandomEnv(space, BOUNDED)]), clip_obs=2.0, epsilon=0.25, **kwargs)
    venv.seed(3)
    venv.reset()
    for _ in range(4):
        venv.step(np.zeros((1, 2), np.float32))
    return venv


DICT_OF_BOXES = spaces.Dict({"y": spaces.Box(-9, 9, (2,)), "x": spaces.Box(-1, 1, (1,))})


@pytest.mark.parametrize(("size", "what"), [(12, r"stacked after it\. Stack frames within"), (13, r"--wrapper\)\.$")])
def test_frames_that_were_stacked_after_the_normalisation_are_named_as_the_likely_cause(size, what):
    with pytest.raises(UserError, match=what):
        Normalization.of(statistics_of(spaces.Box(-9, 9, (3,)))).check_space(spaces.Box(-9, 9, (size,)))


@pytest.mark.parametrize("space", [spaces.Box(-9, 9, (3,)), DICT_OF_BOXES], ids=["box", "dict"])
def test_observations_are_normalised_as_vecnormalize_does(space, tmp_path):
    venv = statistics_of(space)
    venv.save(str(tmp_path / "statistics.pkl"))
    normalization = Normalization.load(tmp_path / "statistics.pkl")
    wrapped = normalization.around(random_vec_env(space, BOUNDED))
    observation = space.sample()
    for other in (normalization(observation), wrapped.normalize_obs(observation)):
        for key in ["x", "y"] if isinstance(observation, dict) else [...]:
            np.testing.assert_array_equal(other[key], venv.normalize_obs(observation)[key])


def test_statistics_of_other_observations_are_refused():
    normalization = Normalization.of(statistics_of(spaces.Box(-9, 9, (3,))))
    with pytest.raises(ValueError, match="another environment"):
        normalization.around(random_vec_env(spaces.Box(-9, 9, (4,)), BOUNDED))


def test_statistics_of_other_entries_are_refused_before_anything_is_written(tmp_path):
    model = small_ppo(random_vec_env(DICT_OF_BOXES), "MultiInputPolicy")
    for statistics in (spaces.Box(-9, 9, (3,)), spaces.Dict(z=spaces.Box(-9, 9, (3,)))):
        normalization = Normalization.of(statistics_of(statistics))
        with pytest.raises(ValueError, match="other observations"):
            model.policy.export(tmp_path / "policy", normalization)
        with pytest.raises(ValueError, match="other observations"):
            normalization({"x": np.zeros(3)})
    assert not (tmp_path / "policy").exists()
    with pytest.raises(ValueError, match="got one box"):
        Normalization.of(statistics_of(DICT_OF_BOXES))(np.zeros(3))


def test_statistics_are_found_in_the_wrappers_around_them(tmp_path):
    venv = statistics_of(spaces.Box(-9, 9, (3,)))
    model = small_ppo(random_vec_env(spaces.Box(-9, 9, (3,))))
    exported = load_policy(model.policy.export(tmp_path / "policy", VecMonitor(venv)))
    np.testing.assert_array_equal(exported.normalization.mean[""], venv.obs_rms.mean)


@pytest.mark.parametrize(
    ("observation", "got"),
    [(np.zeros(1), r"\(1,\)"), (np.zeros((2, 1)), r"\(2, 1\)"), ((np.zeros(3), {}), "pass the first")],
)
def test_observations_of_another_shape_are_not_normalised(observation, got):
    normalization = Normalization({"": np.zeros(3)}, {"": np.ones(3)})
    with pytest.raises(ValueError, match=rf"of shape \(3,\), got .*{got}"):
        normalization(observation)
    assert normalization(np.zeros((4, 3))).shape == (4, 3)


def test_statistics_that_are_not_finite_are_refused():
    venv = statistics_of(spaces.Box(-9, 9, (3,)))
    venv.obs_rms = RunningMeanStd(shape=(3,))
    venv.obs_rms.mean[1] = np.nan
    with pytest.raises(DamagedError, match="not finite"):
        Normalization.of(venv)


def test_entries_that_were_not_normalised_stay_as_they_are():
    venv = statistics_of(DICT_OF_BOXES, norm_obs_keys=["y"])
    normalization = Normalization.of(venv)
    wrapped = normalization.around(random_vec_env(DICT_OF_BOXES, BOUNDED))
    observation = DICT_OF_BOXES.sample()
    for other in (normalization(observation), wrapped.normalize_obs(observation)):
        np.testing.assert_array_equal(other["x"], observation["x"])
        np.testing.assert_array_equal(other["y"], venv.normalize_obs(observation)["y"])


def test_rewards_may_have_been_normalised_alone():
    normalization = Normalization.of(statistics_of(BOX, norm_obs=False))
    assert normalization(np.full(4, 7.0)).tolist() == [7.0] * 4
    assert normalization.around(random_vec_env()).normalize_obs(np.full(4, 7.0)).tolist() == [7.0] * 4


def test_statistics_around_environments_stay_as_they_are_and_leave_rewards_alone():
    venv = Normalization.of(statistics_of(BOX)).around(random_vec_env())
    plain, mean = random_vec_env(), venv.obs_rms.mean.copy()
    for each in (venv, plain):
        each.seed(0)
        each.reset()
    for _ in range(3):
        np.testing.assert_array_equal(*(each.step(np.zeros((3, 4), np.float32))[1] for each in (venv, plain)))
    np.testing.assert_array_equal(venv.obs_rms.mean, mean)


def test_a_variance_is_not_negative():
    with pytest.raises(DamagedError, match="not finite"):
        Normalization({"": np.zeros(2)}, {"": np.array([1.0, -1.0])}).check("here")


def test_means_and_variances_are_of_the_same_observations():
    with pytest.raises(DamagedError, match=r"means have shape \(2,\), variances \(3,\)"):
        Normalization({"": np.zeros(2)}, {"": np.ones(3)}).check("here")


def test_a_pickle_of_something_else_holds_no_statistics(tmp_path):
    (tmp_path / "other.pkl").write_bytes(pickle.dumps({"obs_rms": 3}))
    with pytest.raises(DamagedError, match="it holds no VecNormalize, but dict"):
        Normalization.load(tmp_path / "other.pkl")
