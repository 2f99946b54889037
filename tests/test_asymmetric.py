"""Actor and critic that see different keys of a Dict observation."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from envs import BOX, random_vec_env, small_ppo
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecNormalize

from sb3_plastic import PlasticPPO, load_policy
from sb3_plastic.asymmetric import SelectKeys
from sb3_plastic.errors import UserError
from sb3_plastic.perturbations import env_id
from sb3_plastic.wrappers import SplitObservation

SPACE = spaces.Dict({"sensors": BOX, "truth": spaces.Box(-1, 1, (2,), np.float32), "goal": spaces.Discrete(3)})


def make(**policy_kwargs) -> PlasticPPO:
    return small_ppo(random_vec_env(SPACE), "PlasticPolicy", policy_kwargs=policy_kwargs)


def other(observation: dict[str, np.ndarray], key: str) -> dict[str, np.ndarray]:
    return {**observation, key: observation[key][::-1].copy()}


@pytest.mark.parametrize("critic", ["mlp", "plastic"])
def test_the_critic_sees_what_the_actor_does_not_and_the_other_way_round(critic):
    model = make(critic=critic, critic_keys=["truth"], actor_keys=["goal"], gain=6.0).learn(96)
    observation = model.env.reset()
    observation["goal"] = np.array([0, 1, 2])

    def action_and_value(obs):
        obs_tensor, _ = model.policy.obs_to_tensor(obs)
        state, starts = model.policy.initial_state(3), torch.ones(1, 3, dtype=torch.bool)
        with torch.no_grad():
            latent_pi, latent_vf, _ = model.policy.stepper().latents(obs_tensor, starts, state)
        return latent_pi, latent_vf

    action, value = action_and_value(observation)
    with_truth, with_goal, with_sensors = (
        action_and_value(other(observation, key)) for key in ("truth", "goal", "sensors")
    )
    assert torch.equal(with_truth[0], action)
    assert not torch.equal(with_truth[1], value)
    assert torch.equal(with_goal[1], value)
    assert not torch.equal(with_sensors[1], value)


def test_the_policy_acts_without_what_the_critic_alone_sees(tmp_path):
    model = make(critic_keys=["truth"]).learn(96)
    observation = model.env.reset()
    expected, _ = model.predict(observation, deterministic=True)
    model.save(tmp_path / "model")
    loaded = PlasticPPO.load(tmp_path / "model")
    observation.pop("truth")
    np.testing.assert_array_equal(loaded.predict(observation, deterministic=True)[0], expected)
    observation.pop("sensors")
    with pytest.raises(UserError, match="The observation has no 'sensors', got"):
        model.predict(observation)


def test_an_export_with_statistics_acts_without_what_the_critic_alone_sees(tmp_path):
    env = VecNormalize(random_vec_env(spaces.Dict({name: SPACE[name] for name in ("sensors", "truth")})))
    model = small_ppo(env, "PlasticPolicy", policy_kwargs=dict(critic_keys=["truth"])).learn(96)
    agent = load_policy(model.policy.export(tmp_path / "exported", env))
    observation = env.get_original_obs()
    expected, _ = agent.predict(observation, deterministic=True)
    observation.pop("truth")
    np.testing.assert_array_equal(agent.predict(observation, deterministic=True)[0], expected)
    with pytest.raises(UserError, match="The statistics are of other observations"):
        agent.predict({"truth": np.zeros((3, 2), np.float32)})


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(critic_keys=["thruth"]), "Unknown observation key 'thruth'. Did you mean 'truth'"),
        (dict(critic_keys=["truth"], actor_keys=["truth"]), "'truth' is in actor_keys and in critic_keys"),
        (dict(critic_keys=["truth", "goal", "sensors"]), "The actor sees nothing"),
        (dict(actor_keys=["truth", "goal", "sensors"]), "The critic sees nothing"),
        (dict(actor_keys=["gaol"]), "Unknown observation key 'gaol'. Did you mean 'goal'"),
    ],
)
def test_keys_that_cannot_be_are_refused(kwargs, message):
    with pytest.raises(UserError, match=message):
        make(**kwargs)


def test_a_plain_observation_has_no_keys():
    with pytest.raises(UserError, match="the observation space is a Box: give the environment a Dict"):
        small_ppo(policy_kwargs=dict(critic_keys=["truth"]))


def test_the_truth_about_a_perturbed_robot_is_for_its_critic():
    def perturbed() -> gym.Env:
        env = gym.make(
            env_id("HalfCheetah"),
            perturbations=[{"kind": "strength", "value": {"uniform": [0.5, 1.5]}}],
            observe_context=True,
        )
        return SplitObservation(env, n_last=1)

    env = VecNormalize(make_vec_env(perturbed, 2, seed=0))
    model = small_ppo(env, "PlasticPolicy", policy_kwargs=dict(critic_keys=["context"])).learn(64)
    assert model.policy.snn.layers[0].n_inputs == 17
    assert model.policy.vf_features_extractor.features_dim == 18
    action, _ = model.predict({"sensors": np.zeros(17, np.float32)})
    assert action.shape == (6,)


def test_an_extractor_gets_its_arguments_and_no_keys_of_others():
    class Counts(BaseFeaturesExtractor):
        def __init__(self, observation_space, factor):
            super().__init__(observation_space, 1)
            self.factor = factor

        def forward(self, observations):
            return torch.full((1, 1), self.factor * len(observations))

    select = SelectKeys(spaces.Dict({"sensors": BOX}), Counts, dict(factor=3.0))
    assert select({"sensors": torch.zeros(1, 4), "truth": torch.zeros(1, 2)}).item() == 3.0
