"""The evaluation during training, in real event files."""

from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch
from rl_zoo3.utils import get_callback_list
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sb3_plastic import PlasticityCallback, PlasticPPO
from sb3_plastic.errors import UserError
from sb3_plastic.evaluation import AdaptationEvalCallback
from sb3_plastic.evaluation.callback import adaptation_scalars
from sb3_plastic.evaluation.running_training import wrappers_of
from sb3_plastic.perturbations import SUITES, PerturbationError, env_id
from sb3_plastic.perturbations.envs import PerturbedHalfCheetahEnv
from sb3_plastic.perturbations.vec_env import LocomotionVecEnv
from sb3_plastic.perturbations.wrapper import PerturbSignals
from sb3_plastic.wrappers import MidRunChange, PreviousActionReward, SplitObservation

CHEETAH = env_id("HalfCheetah", latent=True)


def events(folder) -> EventAccumulator:
    (file,) = folder.rglob("events.out*")
    return EventAccumulator(str(file)).Reload()


def test_curves_and_figures_come_to_tensorboard_through_rl_zoos_yaml(tmp_path):
    arguments = {"eval_freq": 16, "steps": 510, "episodes": 2}
    (callback,) = get_callback_list({"callback": [{"sb3_plastic.evaluation.AdaptationEvalCallback": arguments}]})
    venv = VecNormalize(make_vec_env(CHEETAH, 2, seed=0, vec_env_cls=LocomotionVecEnv))
    policy_kwargs = dict(net_arch=[16], gain=3.0, decoder_gain=3.0)
    settings = dict(n_steps=16, batch_size=16, n_epochs=1, policy_kwargs=policy_kwargs, tensorboard_log=str(tmp_path))
    PlasticPPO("PlasticPolicy", venv, **settings).learn(64, callback=callback)
    log = events(tmp_path)
    nominal = log.Scalars("adaptation/nominal")
    assert [event.step for event in nominal] == [32, 64]
    assert nominal[1].value == pytest.approx(
        callback.records[(callback.records.split == "nominal")].forward_reward.mean(), rel=1e-5
    )
    assert log.Scalars("adaptation/fell")[0].value == 0
    sham = callback.records.split == "sham"
    assert sham.any()
    fallen = callback.records.assign(fell=sham.astype(int))
    assert adaptation_scalars(fallen)["fell"] == 0  # the sham is the unperturbed robot again
    assert [event.step for event in log.Images("adaptation/onset")] == [32, 64]
    assert set(callback.records.control) == {"intact", "frozen_at_onset"}


SWING = """
title: A pendulum whose torque changes
onset: {uniform: [40, 60]}
faults:
  novel:
    back: {about: reversed torque, perturbations: [{kind: action_gain, value: -1}]}
robots: {Pendulum-v1: {}}
tiers:
  smoke: {robots: [Pendulum-v1], episodes: 1, scenarios: [nominal, novel/*]}
"""


@pytest.mark.filterwarnings("ignore:The forward model predicts no component")
def test_a_layer_of_another_environment_is_watched_in_a_scenario_of_its_suite(tmp_path, monkeypatch):
    (tmp_path / "swing.yaml").write_text(SWING)
    monkeypatch.setitem(SUITES, "swing-v1", tmp_path / "swing.yaml")
    policy_kwargs = dict(net_arch=[8], adaptive=dict(net_arch=[8], epochs=1))
    venv = make_vec_env("Pendulum-v1", 2, seed=0)
    model = PlasticPPO("PlasticPolicy", venv, n_steps=64, batch_size=64, n_epochs=1, policy_kwargs=policy_kwargs)
    asked = dict(suite="swing-v1", wrappers=["sb3_plastic.perturbations.wrapper.PerturbSignals"], episodes=1)
    with pytest.raises(PerturbationError, match="nda-v1 has no scenarios for Pendulum-v1"):
        model.learn(128, callback=AdaptationEvalCallback(watched="nda-v1/novel/slope/onset", **asked))
    callback = AdaptationEvalCallback(64, watched="swing-v1/novel/back/onset", **asked)
    model.learn(128, callback=callback)
    assert "swing-v1/novel/back/onset" in set(callback.records.scenario)


class Silent(gym.Wrapper):
    """Does not tell its arguments."""


@pytest.mark.filterwarnings("ignore:.*precision lowered by casting")
def test_an_evaluation_wraps_environments_as_the_training_does(tmp_path, monkeypatch):
    (tmp_path / "swing.yaml").write_text(SWING)
    monkeypatch.setitem(SUITES, "swing-v1", tmp_path / "swing.yaml")

    def swung(asked, where, *wrappers):
        def make():
            env = PerturbSignals(gym.make("Pendulum-v1"))
            for wrapper in wrappers:
                env = wrapper(env)
            return env

        model = PPO("MlpPolicy", make_vec_env(make, 2, vec_env_cls=where), n_steps=8, batch_size=16)
        callback = AdaptationEvalCallback(8, suite="swing-v1", episodes=1, **asked)
        model.learn(16, callback=callback)
        model.env.close()
        return callback.records

    unit = partial(gym.wrappers.RescaleAction, min_action=-1.0, max_action=1.0)
    mirrored = partial(MidRunChange, at=5, wires=np.array([[-1.0]]))
    named = dict(wrappers=[
        "sb3_plastic.perturbations.wrapper.PerturbSignals",
        {"gymnasium.wrappers.RescaleAction": {"min_action": -1.0, "max_action": 1.0}},
        {"sb3_plastic.wrappers.MidRunChange": {"at": 5, "wires": [[-1]]}},
        "sb3_plastic.wrappers.PreviousActionReward",
    ])  # fmt: skip
    without_effect = gym.wrappers.NormalizeReward, partial(gym.wrappers.TransformReward, func=abs)
    torch.manual_seed(0)
    found = swung({}, SubprocVecEnv, unit, *without_effect, mirrored, PreviousActionReward)
    torch.manual_seed(0)
    assert (
        found["return"].tolist() == swung(named, DummyVecEnv, unit, mirrored, PreviousActionReward)["return"].tolist()
    )
    with pytest.raises(UserError, match=r"in .*Silent, which does not tell how it is made: .*RecordConstructorArgs"):
        swung({}, DummyVecEnv, Silent)


def test_the_parts_of_an_observation_are_those_of_the_training():
    env = SplitObservation(gym.make("Pendulum-v1"), n_last=1, key="speed")
    assert wrappers_of(env.spec) == [{"sb3_plastic.wrappers.SplitObservation": {"n_last": 1, "key": "speed"}}]


def test_training_is_the_same_with_and_without(tmp_path):
    def parameters(callback):
        venv = VecNormalize(make_vec_env(CHEETAH, 2, seed=0, vec_env_cls=LocomotionVecEnv))
        policy_kwargs = dict(net_arch=[8])
        model = PPO("MlpPolicy", venv, n_steps=16, batch_size=16, seed=0, policy_kwargs=policy_kwargs)
        model.learn(64, callback=callback)
        return model.policy.parameters_to_vector(), venv.obs_rms.mean

    plain = parameters(None)
    watched = parameters(AdaptationEvalCallback(16, steps=20, protocols=("static",), out=tmp_path / "results"))
    assert np.array_equal(plain[0], watched[0])
    assert np.array_equal(plain[1], watched[1])
    assert {path.parent.name for path in tmp_path.glob("results/*/records.csv")} == {"32_steps", "64_steps"}


def test_of_an_adaptive_layer_surprise_who_acts_and_estimates_come_to_tensorboard(tmp_path):
    venv = VecNormalize(make_vec_env(CHEETAH, 4, seed=0, vec_env_cls=LocomotionVecEnv))
    adaptive = dict(net_arch=[], epochs=40, batch_size=64, learning_rate=1e-2, hypotheses=("motors", "wires"))
    policy_kwargs = dict(net_arch=[8], adaptive=adaptive)
    settings = dict(n_steps=128, batch_size=128, n_epochs=1, policy_kwargs=policy_kwargs, tensorboard_log=str(tmp_path))
    evaluation = AdaptationEvalCallback(200, steps=20, protocols=("static",), episodes=1)
    callbacks = [evaluation, PlasticityCallback(histograms=False, figure=False, hparams=False)]
    PlasticPPO("PlasticPolicy", venv, seed=0, **settings).learn(4 * 255, callback=callbacks)
    log = events(tmp_path)
    assert 0 < log.Scalars("adaptive/unexplained")[0].value < 2
    for when in ("nominal", "before", "after"):
        shares = [log.Scalars(f"adaptive/{when}/acting/{name}")[0].value for name in ("nominal", "motors", "wires")]
        assert sum(shares) == pytest.approx(1)
        assert log.Scalars(f"adaptive/{when}/surprise")[0].value > 0
        assert log.Scalars(f"adaptive/{when}/spread/motors")[0].value > 0
    layout = log.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    assert b"adaptive layer" in layout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(tier="smok"), "Unknown tier 'smok'"),
        (dict(controls=("layer_of",)), "layer_of"),
        (dict(env="sb3_plastic/PerturbedAnt-v0"), "Likely another environment"),
        (dict(wrappers=["sb3_plastic.wrappers.PreviousActionReward"]), "has shape"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_before_the_training(arguments, message):
    venv = make_vec_env(CHEETAH, 2, vec_env_cls=LocomotionVecEnv)
    model = PlasticPPO("PlasticPolicy", venv, n_steps=16, batch_size=16, policy_kwargs=dict(net_arch=[8]))
    with pytest.raises(ValueError, match=message):
        model.learn(64, callback=AdaptationEvalCallback(**arguments))
    assert model.num_timesteps == 0


@pytest.mark.filterwarnings("ignore:The forward model predicts no component")
def test_controls_of_a_layer_that_has_still_to_learn_are_not_refused():
    venv = make_vec_env(CHEETAH, 2, vec_env_cls=LocomotionVecEnv)
    policy_kwargs = dict(net_arch=[8], rule="none", adaptive=dict(net_arch=[], epochs=1, hypotheses=["motors"]))
    model = PlasticPPO("PlasticPolicy", venv, n_steps=16, batch_size=16, n_epochs=1, policy_kwargs=policy_kwargs)
    callback = AdaptationEvalCallback(1000, controls=("intact", "layer_off"), progress_bar=False)
    assert model.learn(32, callback=callback).num_timesteps == 32
    with pytest.raises(ValueError, match="Unknown tier 'smok'"):
        model.learn(32, callback=AdaptationEvalCallback(tier="smok"))


class Unknown(DummyVecEnv):
    """A VecEnv of one's own, which has no environments to ask."""

    def get_attr(self, attr_name, indices=None):
        if attr_name != "render_mode":  # for which SB3 asks
            raise AttributeError(attr_name)
        return [None]


@pytest.mark.parametrize("vec_env", [DummyVecEnv, Unknown])
def test_an_environment_that_cannot_be_made_anew_has_to_be_named(vec_env):
    venv = vec_env([PerturbedHalfCheetahEnv])
    model = PPO("MlpPolicy", venv, n_steps=16, batch_size=16, policy_kwargs=dict(net_arch=[8]))
    with pytest.raises(UserError, match=r"not registered with gymnasium.* Name one: env="):
        model.learn(16, callback=AdaptationEvalCallback())


def test_a_frequency_is_at_least_one():
    with pytest.raises(ValueError, match="at least 1"):
        AdaptationEvalCallback(0)
