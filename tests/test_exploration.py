"""Exploration noise follows a schedule: the same for a spiking network and an MLP, and learned again afterwards."""

import numpy as np
import pytest
from envs import random_vec_env, small_ppo
from sb3_contrib import TRPO
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.callbacks import BaseCallback

from sb3_plastic.errors import UserError
from sb3_plastic.exploration import LogStdSchedule

ROLLOUT = 96


class Record(BaseCallback):
    """The logarithms of the standard deviations in each rollout."""

    def __init__(self) -> None:
        super().__init__()
        self.log_stds: list[np.ndarray] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.log_stds.append(self.model.policy.log_std.detach().numpy().copy())


def ppo(env=None, **kwargs):
    return PPO("MlpPolicy", env or random_vec_env(), n_steps=32, batch_size=32, n_epochs=1, seed=0, **kwargs)


@pytest.mark.parametrize("algorithm", [small_ppo, ppo])
def test_the_noise_moves_linearly_from_start_to_end_whatever_the_policy_learns(algorithm):
    model, record = algorithm(learning_rate=0.1), Record()
    model.learn(4 * ROLLOUT, callback=[LogStdSchedule(start=-1, end=-2), record])
    np.testing.assert_allclose(record.log_stds, np.repeat([[-1], [-1.25], [-1.5], [-1.75]], 4, axis=1), atol=1e-6)
    np.testing.assert_array_equal(model.policy.log_std.detach(), record.log_stds[-1])


def test_without_an_end_the_noise_is_constant():
    model, record = small_ppo(), Record()
    model.learn(2 * ROLLOUT, callback=[LogStdSchedule(-0.5), record])
    np.testing.assert_allclose(record.log_stds, -0.5)


@pytest.mark.parametrize("algorithm", [small_ppo, ppo])
def test_with_gsde_a_rollout_explores_with_the_noise_of_its_own_time(algorithm):
    class Drawn(Record):
        def _on_rollout_end(self) -> None:
            self.log_stds.append(np.log(self.model.policy.action_dist.exploration_mat.std().item()))

    model, record = algorithm(use_sde=True), Drawn()
    model.learn(3 * ROLLOUT, callback=[LogStdSchedule(-4, -7), record])
    np.testing.assert_allclose(record.log_stds, [-4, -5, -6], atol=0.6)


@pytest.mark.parametrize("algorithm", [small_ppo, ppo])
def test_a_training_that_goes_on_takes_up_the_schedule_or_learns_the_noise_without_it(algorithm):
    model, record = algorithm(), Record()
    model.learn(ROLLOUT)
    model.learn(ROLLOUT, reset_num_timesteps=False, callback=[LogStdSchedule(-1, -3), record])
    np.testing.assert_allclose(record.log_stds, -2)
    np.testing.assert_allclose(model.policy.log_std.detach(), -2)
    model.learn(ROLLOUT, reset_num_timesteps=False)
    assert (model.policy.log_std.detach() != -2).all()


@pytest.mark.parametrize("algorithm", [small_ppo, ppo])
def test_an_interrupted_training_leaves_the_noise_to_be_learned(algorithm):
    class Interrupt(BaseCallback):
        def _on_step(self) -> bool:
            raise KeyboardInterrupt

    model = algorithm()
    with pytest.raises(KeyboardInterrupt):
        model.learn(ROLLOUT, callback=[LogStdSchedule(-1), Interrupt()])
    model.learn(ROLLOUT)
    assert (model.policy.log_std.detach() != -1).all()


def test_a_noise_that_cannot_be_is_refused_before_the_training():
    with pytest.raises(UserError, match=r"start must be .*at most 2"):
        LogStdSchedule(start=5)
    with pytest.raises(UserError, match="end"):
        LogStdSchedule(-1, float("nan"))


MODELS = [
    lambda: PPO("MlpPolicy", "CartPole-v1"),
    lambda: SAC("MlpPolicy", "Pendulum-v1"),
    lambda: TRPO("MlpPolicy", "Pendulum-v1"),
]


@pytest.mark.parametrize("model", MODELS)
def test_a_policy_without_such_a_noise_is_refused(model):
    with pytest.raises(UserError, match=r"log_std.*got (PPO|SAC|TRPO)"):
        model().learn(8, callback=LogStdSchedule(-1))
