"""The learning rate follows how far an update moves the policy."""

import numpy as np
import pytest
from envs import random_vec_env, small_ppo
from sb3_contrib import TRPO, MaskablePPO, RecurrentPPO
from sb3_contrib.common.envs import InvalidActionEnvDiscrete
from stable_baselines3 import A2C, PPO, SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

from sb3_plastic.errors import UserError
from sb3_plastic.learning_rate import KLAdaptiveRate

ROLLOUT = 96


class Rates(BaseCallback):
    """The rate and the KL divergence of each update but the last."""

    def __init__(self) -> None:
        super().__init__()
        self.rates: list[float] = []
        self.kl: list[float] = []

    def _on_rollout_start(self) -> None:
        values = self.logger.name_to_value
        if "train/approx_kl" in values:
            self.rates.append(values["train/learning_rate"])
            self.kl.append(values["train/approx_kl"])

    def _on_step(self) -> bool:
        return True


def ppo(**kwargs):
    return PPO("MlpPolicy", random_vec_env(), n_steps=32, batch_size=32, seed=0, **kwargs)


def recurrent_ppo(**kwargs):
    policy = dict(lstm_hidden_size=8)
    return RecurrentPPO(
        "MlpLstmPolicy", random_vec_env(), n_steps=32, batch_size=32, policy_kwargs=policy, seed=0, **kwargs
    )


def maskable_ppo(**kwargs):
    env = make_vec_env(lambda: InvalidActionEnvDiscrete(dim=4, n_invalid_actions=1), n_envs=3, seed=0)
    return MaskablePPO("MlpPolicy", env, n_steps=32, batch_size=32, seed=0, **kwargs)


@pytest.mark.parametrize(
    ("algorithm", "target"), [(small_ppo, 0.01), (ppo, 0.03), (recurrent_ppo, 0.1), (maskable_ppo, 0.03)]
)
def test_after_an_update_that_moved_the_policy_far_steps_are_smaller_and_after_a_short_one_larger(algorithm, target):
    model, seen = algorithm(learning_rate=3e-2), Rates()
    model.learn(6 * ROLLOUT, callback=[KLAdaptiveRate(target, low=1e-5, high=2e-2, factor=10), seen])
    rates, kl = np.array(seen.rates), np.array(seen.kl)
    assert rates[0] == 2e-2  # the model's own, but for the bound
    steps = np.where(kl > 2 * target, 0.1, np.where(kl < target / 2, 10, 1))[:-1]
    assert {0.1, 10} <= set(steps)
    np.testing.assert_allclose(rates[1:], np.clip(rates[:-1] * steps, 1e-5, 2e-2))


def test_a_model_is_saved_with_its_own_schedule_and_follows_it_without_the_callback(tmp_path):
    model, seen = small_ppo(learning_rate=1e-3), Rates()
    model.learn(2 * ROLLOUT, callback=KLAdaptiveRate(1e-9))
    model.save(tmp_path / "model")
    for again in (model, type(model).load(tmp_path / "model", random_vec_env())):
        again.learn(2 * ROLLOUT, callback=seen)
    assert seen.rates == [1e-3] * len(seen.rates) != []


@pytest.mark.parametrize("arguments", [{"target": 0}, {"target": 1, "factor": 1}, {"target": 1, "low": 1, "high": 0.5}])
def test_a_value_out_of_range_is_refused(arguments):
    with pytest.raises(UserError, match="must be a finite number"):
        KLAdaptiveRate(**arguments)


@pytest.mark.parametrize("algorithm", [A2C, TRPO, SAC])
def test_an_algorithm_that_measures_no_divergence_is_refused(algorithm):
    model = algorithm("MlpPolicy", "Pendulum-v1", seed=0)
    with pytest.raises(UserError, match=f"got {algorithm.__name__}"):
        model.learn(8, callback=KLAdaptiveRate(0.02))
