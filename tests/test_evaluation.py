"""Evaluation under novel dynamics: real models, real robots, and toy policies of which the truth is known."""

import argparse
import inspect
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
import yaml
from command_line import answer
from evaluation_helpers import AdaptivePolicy, StaticPolicy, tracking_scenarios
from sb3_contrib import ARS, TQC, TRPO, CrossQ, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, DDPG, PPO, SAC, TD3, HerReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecCheckNan, VecMonitor, VecNormalize
from stray_lines import stray_lines

from sb3_plastic import PlasticES, PlasticPPO, PreviousActionReward, evaluation, export_policy, load_policy
from sb3_plastic.adaptive import AdaptivePolicy as LayeredPolicy
from sb3_plastic.adaptive.agents import agent_of as layer_agent
from sb3_plastic.cli import main
from sb3_plastic.errors import NotFiniteError, UserError
from sb3_plastic.evaluation import (
    ModelSettings,
    TrialSettings,
    evaluate_adaptation,
    load_traces,
    provenance,
    read_records,
)
from sb3_plastic.evaluation.arguments import add_model, model_settings
from sb3_plastic.evaluation.controls import Player
from sb3_plastic.evaluation.environment import TrainedIn, find_training, make_env
from sb3_plastic.evaluation.loading import detect_algorithm, load_model, model_file
from sb3_plastic.evaluation.outputs import what_next
from sb3_plastic.evaluation.protocols import PROTOCOLS, REMOVAL, onset_of, plan
from sb3_plastic.evaluation.provenance import claim
from sb3_plastic.evaluation.rollout import Row, rollout
from sb3_plastic.evaluation.settings import Given
from sb3_plastic.evaluation.zoo_files import zoo_files
from sb3_plastic.perturbations import Perturbation, PerturbationError, env_id, find_scenario
from sb3_plastic.perturbations.spec import Distribution, Schedule
from sb3_plastic.perturbations.suites import Scenario
from sb3_plastic.perturbations.vec_env import LocomotionVecEnv
from sb3_plastic.safe import DamagedError, was_normalised

CHEETAH = env_id("HalfCheetah", latent=True)
STEPS = 560  # every onset of the suite is before 500
PLASTIC = dict(net_arch=[16], alpha_init=2.0, eta_init=0.5, gain=3.0, decoder_gain=3.0)
TINY = dict(net_arch=[8])
SIGNALS = "sb3_plastic.perturbations.wrapper.PerturbSignals"
LSTM = dict(lstm_hidden_size=8)


@pytest.fixture(scope="module")
def plastic_model() -> PlasticPPO:
    """Untrained, with strong plasticity."""
    return PlasticPPO("PlasticPolicy", CHEETAH, n_steps=16, batch_size=16, seed=3, policy_kwargs={**PLASTIC})


@pytest.fixture(scope="module")
def static_model() -> PPO:
    return PPO("MlpPolicy", CHEETAH, n_steps=16, batch_size=16, seed=1, policy_kwargs={**TINY})


# What it finds out


def test_a_policy_that_adapts_is_told_from_a_better_one_that_does_not():
    adaptive = evaluate_adaptation(AdaptivePolicy(), **tracking_scenarios()).records
    static = evaluate_adaptation(StaticPolicy(), **tracking_scenarios()).records

    def onset(records, control="intact"):
        return records[(records.protocol == "onset") & (records.split == "novel") & (records.control == control)].mean(
            numeric_only=True
        )

    assert onset(static).forward_reward > onset(adaptive).forward_reward  # it is better, throughout
    assert onset(adaptive).plateau == pytest.approx(1, abs=0.01)
    assert onset(static).plateau == pytest.approx(1 - 8 * 0.04, abs=0.01)
    assert (onset(adaptive).recovered, onset(static).recovered) == (1, 0)
    assert onset(adaptive).adaptation_gain_late > onset(adaptive).adaptation_gain_early + 0.1
    assert onset(adaptive, "frozen_at_onset").recovered == 0
    assert set(static.control) == {"intact"}
    removal = adaptive[(adaptive.protocol == "removal")].groupby("control").after_effect.mean()
    assert removal["intact"] > 0.1
    assert removal["frozen_at_onset"] == pytest.approx(0, abs=0.02)


def test_carried_fast_weights_show_over_a_life():
    records = evaluate_adaptation(AdaptivePolicy(), **tracking_scenarios(protocols=("static", "lifetime"))).records
    lives = records[records.protocol == "lifetime"].groupby(["control", "episode"]).forward_reward.mean()
    assert lives["carried", 0] == lives["reset", 0] == lives["reset", 4]
    assert lives["carried", 1] > lives["reset", 1] + 1
    assert records[records.protocol == "lifetime"].groupby("eval_seed")["values"].nunique().max() == 1


def test_the_command_gives_an_evaluation_every_setting_that_it_has(tmp_path, monkeypatch):
    given = {}

    def evaluate(model, out, about, **kwargs):
        given.update(kwargs)
        raise UserError("enough")

    monkeypatch.setattr(evaluation, "evaluate_adaptation", evaluate)
    assert main(["evaluate", "--model", "m.zip", "--out", str(tmp_path), "--max-rows", "16"]) == 2
    assert {field.name for field in fields(TrialSettings)} <= {*given}
    assert given["max_rows"] == 16


# Real robots


def test_controls_are_the_intact_model_until_the_onset_and_differ_after_it(plastic_model):
    settings = dict(tier="smoke", env=CHEETAH, steps=STEPS, protocols=("onset",))
    by_cell = evaluate_adaptation(plastic_model, **settings).traces
    sham = next(t for c, t in by_cell.items() if (c.split, c.control) == ("sham", "frozen_at_onset"))
    traces = {c.control: t for c, t in by_cell.items() if c.split == "novel"}
    assert (sham.onset == traces["intact"].onset).all()
    assert (np.diff(sham.fast_weight_norm[0, sham.onset[0] :], axis=0) == 0).all()
    intact = traces["intact"]
    assert ((intact.onset >= 250) & (intact.onset <= 500)).all()
    for i, onset in enumerate(intact.onset):
        for control in ("frozen_at_onset", "zeroed_at_onset"):
            trace = traces[control]
            assert (trace.onset == intact.onset).all()
            # The first perturbed step is still the same: nobody has seen of the perturbation yet.
            assert np.array_equal(trace.forward_reward[i, : onset + 1], intact.forward_reward[i, : onset + 1])
            assert not np.array_equal(trace.forward_reward[i, onset + 1 :], intact.forward_reward[i, onset + 1 :])
        frozen = traces["frozen_at_onset"].fast_weight_norm[i]
        assert (frozen[onset:] == frozen[onset]).all()
        assert frozen[onset] > 0
        assert np.ptp(intact.fast_weight_norm[i, onset:]) > 0
        zeroed = traces["zeroed_at_onset"].fast_weight_norm[i]
        assert zeroed[onset + 1] < zeroed[onset]
    assert (traces["off"].fast_weight_norm == 0).all()


def test_actions_that_are_drawn_are_the_same_under_all_controls_until_the_onset(plastic_model):
    settings = dict(tier="smoke", env=CHEETAH, steps=STEPS, protocols=("onset",), deterministic=False)
    traces = evaluate_adaptation(plastic_model, controls=("intact", "frozen_at_onset"), **settings).traces
    intact, frozen = (
        next(t for c, t in traces.items() if c.split == "novel" and c.control == control)
        for control in ("intact", "frozen_at_onset")
    )
    for i, onset in enumerate(intact.onset):
        assert np.array_equal(frozen.forward_reward[i, : onset + 1], intact.forward_reward[i, : onset + 1])
        assert not np.array_equal(frozen.forward_reward[i, onset + 1 :], intact.forward_reward[i, onset + 1 :])


def test_a_model_of_rough_ground_is_judged_on_the_ground_of_each_scenario(static_model):
    names = ("nominal", "novel/payload")
    settings = dict(env=CHEETAH, scenarios=names, steps=10, episodes=1, protocols=("static",))
    trained = dict(scenario="nda-v1/novel/terrain")
    records = evaluate_adaptation(static_model, env_kwargs=trained, **settings).records
    assert records["return"].tolist() == evaluate_adaptation(static_model, **settings).records["return"].tolist()


def test_perturbations_pass_through_wrappers_that_take_no_options(static_model):
    scenarios = ["nominal", "novel/wires_signed"]
    settings = dict(env=CHEETAH, suite="nda-v2", scenarios=scenarios, protocols=("static",), steps=20)
    plain = evaluate_adaptation(static_model, **settings).records
    wrapped = evaluate_adaptation(static_model, wrappers=["rl_zoo3.wrappers.DelayedRewardWrapper"], **settings).records
    assert wrapped.forward_reward.tolist() == plain.forward_reward.tolist()
    assert wrapped["values"].tolist() == plain["values"].tolist()


def test_an_environment_that_cannot_be_perturbed_is_refused_before_anything_is_run(tmp_path):
    settings = {**tracking_scenarios(), "env": "MountainCarContinuous-v0", "steps": 20}
    with pytest.raises(UserError, match=r"MountainCarContinuous-v0 cannot be perturbed: .* PerturbSignals"):
        evaluate_adaptation(StaticPolicy(), tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()
    wrapped = evaluate_adaptation(StaticPolicy(), wrappers=[SIGNALS], **settings).records
    assert set(wrapped["values"]) == {"", "action_bias=0.2"}


def test_returns_are_those_of_evaluate_policy(static_model):
    records = evaluate_adaptation(static_model, tier="smoke", env=CHEETAH, steps=100, seed=7).records
    for scenario in ("nda-v1/nominal", "nda-v1/extrap1/mass"):
        env = make_vec_env(CHEETAH, 2, seed=7, env_kwargs=dict(scenario=scenario, max_episode_steps=100))
        returns, _ = evaluate_policy(static_model, env, 2, return_episode_rewards=True)
        got = records[records.scenario == scenario]["return"]
        assert sorted(got) == pytest.approx(sorted(returns), abs=1e-6)  # the Monitor rounds


def test_scenarios_are_chosen_by_name_and_are_those_of_the_tier(static_model):
    settings = dict(tier="smoke", env=CHEETAH, steps=60)
    whole = evaluate_adaptation(static_model, **settings).records
    chosen = evaluate_adaptation(static_model, scenarios=("nominal", "novel/motor_*/onset"), **settings).records
    assert set(chosen.scenario) == {"nda-v1/nominal", "nda-v1/novel/motor_off/onset"}
    assert set(chosen.tier) == {"nominal novel/motor_*/onset"}
    same = whole[whole.scenario.isin(chosen.scenario)].assign(tier=chosen.tier.iloc[0])
    rows = ["scenario", "eval_seed"]
    assert same.sort_values(rows, ignore_index=True).equals(chosen.sort_values(rows, ignore_index=True))


@pytest.mark.parametrize("max_rows", [8, 4])  # a scenario at a time, and half of one
def test_episodes_depend_on_their_seed_alone(static_model, max_rows):
    settings = dict(tier="smoke", env=CHEETAH, steps=60, protocols=("static",), episodes=8)
    together = evaluate_adaptation(static_model, **settings).records
    apart = evaluate_adaptation(static_model, **settings, max_rows=max_rows).records
    assert together.equals(apart)
    assert together.groupby("scenario").eval_seed.apply(list).tolist() == [list(range(10_000, 10_008))] * 3
    assert together[together.split == "id"]["values"].nunique() == 8


def test_every_protocol_runs_on_a_robot(static_model):
    protocols = ("static", "onset", "removal", "switch", "lifetime", "horizon")
    settings = dict(tier="smoke", env=CHEETAH, protocols=protocols, episodes=1, horizon=2)
    records, traces = evaluate_adaptation(static_model, **settings, steps=720)
    assert set(records.protocol) == set(protocols)
    horizon = records[records.protocol == "horizon"]
    assert set(horizon.scenario) == {"nda-v1/nominal", "nda-v1/id"}
    assert (horizon.length == 1440).all()
    assert len(records[records.protocol == "lifetime"]) == 2 * 5  # scenarios, episodes; nothing could be carried over
    switch = records[records.protocol == "switch"]
    assert (switch.onset == 200).all()
    removal = next(t for c, t in traces.items() if c.protocol == "removal")
    onset = next(t for c, t in traces.items() if c.protocol == "onset")
    assert np.array_equal(removal.forward_reward[:, :REMOVAL], onset.forward_reward[:, :REMOVAL])
    assert not np.array_equal(removal.forward_reward[:, REMOVAL:], onset.forward_reward[:, REMOVAL:])


def test_of_episodes_that_end_before_it_there_is_no_removal_and_no_switch(static_model):
    settings = dict(tier="smoke", env=CHEETAH, protocols=("static", "removal", "switch"), episodes=1)
    assert set(evaluate_adaptation(static_model, **settings, steps=30).records.protocol) == {"static"}


@pytest.mark.parametrize("n_layers", [1, 3])
def test_an_agent_with_an_lstm_remembers_in_each_row_what_has_acted_there(n_layers):
    class Other:
        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            return np.zeros((len(observation), 1)), tuple(np.full_like(part, 7.0) for part in state)

    env = make_vec_env("Pendulum-v1", 3, seed=0)
    kwargs = {**LSTM, "n_lstm_layers": n_layers}
    model = RecurrentPPO("MlpLstmPolicy", env, n_steps=8, batch_size=8, policy_kwargs=kwargs)
    player = Player(model, later=Other())
    for perturbed in ([False] * 3, [False, True, False]):
        player.act(env.reset(), np.zeros(3, bool), np.array(perturbed))
    for part in player.state:
        assert np.all(part[:, 1] == 7)
        assert not np.any(part[:, [0, 2]] == 7)


def test_rough_ground_is_compared_with_level_ground_of_its_kind(static_model):
    scenarios = [find_scenario(f"nda-v1/{name}", "HalfCheetah") for name in ("nominal", "novel/terrain")]
    records = evaluate_adaptation(static_model, env=CHEETAH, scenarios=scenarios, steps=30).records
    reference = records[records.split == "reference"]
    assert reference.scenario.unique().tolist() == ["nda-v1/nominal/heightfield"]
    assert (reference.onset == -1).all()


def test_ground_that_is_level_everywhere_costs_nothing_whatever_its_scenario_is_called(static_model):
    entry = Perturbation("terrain", 0.1, params={"flat": 1e3})
    level = Scenario("mine/bumps", "HalfCheetah", "novel", False, (entry,))
    nominal = find_scenario("nda-v1/nominal", "HalfCheetah")
    records = evaluate_adaptation(static_model, env=CHEETAH, scenarios=[nominal, level], steps=30).records
    plane, reference, bumps = (
        records[records.split == split].forward_reward.to_numpy() for split in ("nominal", "reference", "novel")
    )
    np.testing.assert_allclose(bumps, reference, rtol=1e-5)  # BLAS rounds by the row of the batch
    assert not np.isclose(plane, reference, rtol=1e-4).any()  # contacts of a field are others
    assert (records[records.split == "novel"].kind == "terrain").all()  # by which it is compared with that


def test_two_nominal_scenarios_are_refused():
    nominal = find_scenario("nda-v1/nominal", "HalfCheetah")
    with pytest.raises(PerturbationError, match=r"One scenario has the split nominal.*mine/other"):
        plan([nominal, replace(nominal, name="mine/other")], ["static"], ["intact"], 30)


def test_what_may_begin_after_the_removal_is_not_removed():
    (entry,) = find_scenario("nda-v1/extrap2/mass/onset", "HalfCheetah").perturbations
    late = replace(entry, schedule=Schedule("onset", at=Distribution("uniform", (300, 800))))
    scenarios = [Scenario(f"mine/{i}/onset", "HalfCheetah", "novel", True, (p,)) for i, p in enumerate([entry, late])]
    planned = plan(scenarios, ["removal"], ["intact"], 1000)
    assert [condition.cell.scenario for condition in planned] == ["mine/0/onset"]


@pytest.mark.parametrize(("max_rows", "most"), [(12, 10), (4, 3), (1, 1)])
def test_no_more_environments_are_stepped_at_once_than_allowed(static_model, monkeypatch, max_rows, most):
    made = []

    def counted(trained, n_envs, *args, **kwargs):
        made.append(n_envs)
        return make_env(trained, n_envs, *args, **kwargs)

    monkeypatch.setattr("sb3_plastic.evaluation.evaluate.make_env", counted)
    nominal = find_scenario("nda-v1/nominal", "HalfCheetah")
    masses = [Scenario(f"mine/{i}", "HalfCheetah", "novel", False, (Perturbation("mass", 2.0),)) for i in range(6)]
    records = evaluate_adaptation(
        static_model, env=CHEETAH, scenarios=[nominal, *masses], steps=2, episodes=5, max_rows=max_rows
    ).records
    assert len(records) == 35
    assert max(made) == most


def test_an_onset_known_beforehand_is_that_of_the_environment():
    (entry,) = find_scenario("nda-v1/extrap2/mass/onset", "HalfCheetah").perturbations
    onset = onset_of(entry, 123)
    env = gym.make(CHEETAH, perturbations=[entry])
    _, info = env.reset(seed=123)
    for t in range(onset + 1):
        assert info["steps_since_onset"] == -1, t
        info = env.step(env.action_space.sample())[4]
    assert info["steps_since_onset"] == 0


# Models and their environments


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("ppo", lambda: PPO("MlpPolicy", CHEETAH, n_steps=8, batch_size=8, policy_kwargs={**TINY})),
        ("a2c", lambda: A2C("MlpPolicy", CHEETAH, policy_kwargs={**TINY})),
        ("sac", lambda: SAC("MlpPolicy", CHEETAH, buffer_size=10, policy_kwargs={**TINY})),
        ("td3", lambda: TD3("MlpPolicy", CHEETAH, buffer_size=10, policy_kwargs={**TINY})),
        ("tqc", lambda: TQC("MlpPolicy", CHEETAH, buffer_size=10, policy_kwargs={**TINY})),
        ("crossq", lambda: CrossQ("MlpPolicy", CHEETAH, buffer_size=10, policy_kwargs={**TINY})),
        ("ars", lambda: ARS("MlpPolicy", CHEETAH, policy_kwargs={**TINY})),
        ("td3", lambda: DDPG("MlpPolicy", CHEETAH, buffer_size=10, policy_kwargs={**TINY})),
        ("trpo", lambda: TRPO("MlpPolicy", CHEETAH, n_steps=8, batch_size=8, policy_kwargs={**TINY})),
        ("ppo_lstm", lambda: RecurrentPPO("MlpLstmPolicy", CHEETAH, n_steps=8, batch_size=8, policy_kwargs={**LSTM})),
        (
            "plastic_ppo",
            lambda: PlasticPPO("PlasticPolicy", CHEETAH, n_steps=16, batch_size=16, policy_kwargs={**PLASTIC}),
        ),
        ("plastic_es", lambda: PlasticES("PlasticPolicy", CHEETAH, policy_kwargs={**PLASTIC})),
    ],
)
def test_every_algorithm_is_recognised_and_judged(name, model, tmp_path):
    file = tmp_path / "m.zip"
    model().save(file)
    assert detect_algorithm(file) == name
    settings = dict(env=CHEETAH, tier="smoke", episodes=1, steps=10, protocols=("static", "lifetime"))
    records = evaluate_adaptation(file, **settings).records
    assert set(records.algo) == {name}
    assert (records.length == 10).all()
    has_memory = name in ("ppo_lstm", "plastic_ppo", "plastic_es")
    assert ("carried" in set(records.control)) == has_memory


LESS_MEMORY = dict(optimize_memory_usage=True, replay_buffer_kwargs=dict(handle_timeout_termination=False))


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize(
    "model",
    [
        lambda: SAC("MlpPolicy", CHEETAH, buffer_size=10, policy_kwargs={**TINY}, **LESS_MEMORY),
        lambda: SAC(
            "MultiInputPolicy",
            BitFlippingEnv(n_bits=4, continuous=True, max_steps=4),
            replay_buffer_class=HerReplayBuffer,
            buffer_size=10,
            policy_kwargs={**TINY},
        ),
    ],
)
def test_a_model_is_read_whatever_its_replay_buffer_was(model, trust, tmp_path):
    trained = model()
    trained.save(tmp_path / "m.zip")
    loaded, _ = load_model(tmp_path / "m.zip", trust=trust)
    observation = trained.observation_space.sample()
    actions = (m.predict(observation, deterministic=True)[0] for m in (trained, loaded))
    np.testing.assert_array_equal(*actions)


def test_a_model_of_an_algorithm_that_is_not_read_is_told_so(tmp_path):
    MaskablePPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8).save(tmp_path / "m.zip")
    with pytest.raises(UserError, match=r"none of the algorithms that are read here: .* a class of your own"):
        load_model(tmp_path / "m.zip")


def test_a_model_of_rl_zoo_is_evaluated_as_it_was_trained(tmp_path):
    venv = VecNormalize(DummyVecEnv([lambda: PreviousActionReward(gym.make(CHEETAH))] * 2))
    model = PPO("MlpPolicy", venv, n_steps=32, batch_size=32, policy_kwargs={**TINY}).learn(64)
    folder = tmp_path / CHEETAH.replace("/", "-")
    folder.mkdir()
    model.save(tmp_path / "m.zip")
    venv.save(str(folder / "vecnormalize.pkl"))
    args = {"env": CHEETAH, "env_kwargs": {"scenario": "nda-v1/train", "max_episode_steps": 7}}
    config = {"env_wrapper": ["sb3_plastic.wrappers.PreviousActionReward"], "normalize": True}
    for name, content in (("args.yml", args), ("config.yml", config)):
        pairs = [[key, value] for key, value in content.items()]
        listed = yaml.dump(pairs, default_flow_style=True)
        (folder / name).write_text(f"!!python/object/apply:collections.OrderedDict\n- {listed}")
    trained = find_training(tmp_path / "m.zip")
    assert (trained.env_id, trained.vec_normalize) == (CHEETAH, folder / "vecnormalize.pkl")
    env = make_env(trained, 3, 10)
    assert isinstance(env, VecNormalize)
    assert not env.training
    assert not env.norm_reward
    statistics = env.obs_rms.mean.copy()
    records = evaluate_adaptation(tmp_path / "m.zip", tier="smoke", episodes=1, steps=10).records
    assert (records.length == 10).all()
    assert np.array_equal(make_env(trained, 1, 10).obs_rms.mean, statistics)


@pytest.mark.parametrize(
    ("normalize", "asked"),
    [(True, True), (False, False), ("dict(norm_obs=False, norm_reward=True)", False), ("{'norm_reward': False}", True)],
)
def test_statistics_are_asked_for_where_observations_were_normalised(normalize, asked, tmp_path):
    (tmp_path / CHEETAH.replace("/", "-")).mkdir()
    for name, content in (("args.yml", {"env": CHEETAH}), ("config.yml", {"normalize": normalize})):
        (tmp_path / CHEETAH.replace("/", "-") / name).write_text(yaml.safe_dump(content))
    if not asked:
        assert find_training(tmp_path / "m.zip").vec_normalize is None
        return
    with pytest.raises(UserError, match="acts at random without its statistics"):
        find_training(tmp_path / "m.zip")


@pytest.mark.parametrize(
    ("algo", "env", "normalize", "told"),
    [
        (PPO, "Pendulum-v1", None, False),
        (PPO, "Pendulum-v1", {}, True),
        (PPO, "MountainCarContinuous-v0", {"norm_obs": True}, True),
        (SAC, "Pendulum-v1", None, False),
        (SAC, CHEETAH, None, False),
        (SAC, CHEETAH, {}, True),  # VecNormalize has made float32 of float64
        (SAC, CHEETAH, {"norm_obs": False}, False),
        (PPO, CHEETAH, {"norm_obs": False}, False),
    ],
)
def test_a_model_alone_tells_whether_its_observations_were_normalised(algo, env, normalize, told, tmp_path):
    venv = make_vec_env(env, 1)
    venv = venv if normalize is None else VecNormalize(venv, **normalize)
    sizes = dict(n_steps=8, batch_size=8) if algo is PPO else dict(learning_starts=8, batch_size=8)
    model = algo("MlpPolicy", venv, policy_kwargs=dict(net_arch=[4]), **sizes).learn(16)
    model.save(tmp_path / "m.zip")
    venv.close()
    assert was_normalised(tmp_path / "m.zip") is told
    if not told:
        assert find_training(tmp_path / "m.zip", ModelSettings(env=env)).vec_normalize is None
        assert layer_agent(model, None) is not None
        return
    with pytest.raises(UserError, match=r"acts at random without its statistics.*--normalization"):
        find_training(tmp_path / "m.zip", ModelSettings(env=env))
    with pytest.raises(UserError, match="acts at random without its statistics"):
        layer_agent(algo.load(tmp_path / "m.zip"), None)


def test_statistics_beside_a_model_that_was_normalised_are_found(tmp_path):
    venv = VecNormalize(make_vec_env("Pendulum-v1", 1))
    PPO("MlpPolicy", venv, n_steps=8, batch_size=8).learn(8).save(tmp_path / "m.zip")
    venv.save(str(tmp_path / "m.pkl"))
    assert find_training(tmp_path / "m.zip", ModelSettings(env="Pendulum-v1")).vec_normalize == tmp_path / "m.pkl"


def test_a_model_in_memory_is_judged_with_its_normalisation_as_its_files_are(tmp_path):
    venv = VecNormalize(make_vec_env(CHEETAH, 1))
    small = dict(n_steps=16, batch_size=16, seed=0, policy_kwargs={**TINY})
    settings = dict(env=CHEETAH, scenarios="nominal", protocols="static", controls="intact", steps=10)
    settings["faults"] = "weight_noise=0"
    for model in (PlasticPPO("MlpPolicy", venv, **small).learn(16), PPO("MlpPolicy", venv, **small).learn(16)):
        venv.obs_rms.mean = venv.obs_rms.mean + 3  # whoever does without acts otherwise
        model.save(tmp_path / "m.zip")
        venv.save(str(tmp_path / "m.pkl"))
        export_policy(model.policy, tmp_path / model.policy.__class__.__name__, venv)
        expected = evaluate_adaptation(tmp_path / "m.zip", **settings).records["return"].tolist()
        for other in (model, load_policy(tmp_path / model.policy.__class__.__name__)):
            assert evaluate_adaptation(other, **settings).records["return"].tolist() == expected
    with pytest.raises(UserError, match=r"acts at random without its statistics: .* normalization"):
        evaluate_adaptation(PPO.load(tmp_path / "m.zip"), **settings)
    found = evaluate_adaptation(PPO.load(tmp_path / "m.zip"), normalization=tmp_path / "m.pkl", **settings)
    assert found.records["return"].tolist() == expected


def test_results_of_one_normalisation_are_not_taken_for_those_of_another(tmp_path):
    venv = VecNormalize(make_vec_env(CHEETAH, 1))
    model = PPO("MlpPolicy", venv, n_steps=16, batch_size=16, policy_kwargs={**TINY})
    settings = dict(env=CHEETAH, scenarios="nominal", protocols="static", steps=5, out=tmp_path)
    evaluate_adaptation(model, **settings)
    evaluate_adaptation(model, **settings)  # goes on
    venv.obs_rms.mean = venv.obs_rms.mean + 3
    with pytest.raises(UserError, match="vec_normalize_sha256"):
        evaluate_adaptation(model, **settings)


class Replacing(gym.Wrapper):
    """The training of the model that is judged goes on, and writes over its files."""

    def __init__(self, env, made=(), reset=()):
        super().__init__(env)
        self.at_reset = reset
        for old, new in made:
            shutil.copy(new, old)

    def reset(self, **kwargs):
        for old, new in self.at_reset:
            shutil.copy(new, old)
        return self.env.reset(**kwargs)


def test_statistics_that_are_replaced_meanwhile_do_not_count_and_a_model_that_is_replaced_is_refused(tmp_path):
    venv = VecNormalize(make_vec_env(CHEETAH, 1))
    model = PPO("MlpPolicy", venv, n_steps=16, batch_size=16, seed=0, policy_kwargs={**TINY})
    for name in ("a", "b"):
        model.save(tmp_path / f"{name}.zip")
        venv.save(str(tmp_path / f"{name}.pkl"))
        model.learn(16)
    settings = dict(env=CHEETAH, scenarios="nominal", protocols=("static", "horizon"), steps=5)  # environments twice

    def returns(**replaced):
        settings["wrappers"] = [{f"{Replacing.__module__}.Replacing": replaced}]
        return evaluate_adaptation(tmp_path / "a.zip", **settings).records["return"].tolist()

    assert returns() == returns(reset=[(str(tmp_path / "a.pkl"), str(tmp_path / "b.pkl"))])
    with pytest.raises(UserError, match=r"a\.zip was replaced while it was read"):
        returns(made=[(str(tmp_path / "a.zip"), str(tmp_path / "b.zip"))])


def test_an_oracle_is_judged_with_its_context_by_the_same_seeds(static_model):
    oracle_kwargs = dict(scenario="nda-v1/train", observe_context=True)
    oracle = PPO("MlpPolicy", gym.make(CHEETAH, **oracle_kwargs), n_steps=8, batch_size=8, policy_kwargs={**TINY})
    settings = dict(env=CHEETAH, tier="smoke", steps=10)
    judged = evaluate_adaptation(oracle, env_kwargs=oracle_kwargs, **settings).records
    assert judged["values"].tolist() == evaluate_adaptation(static_model, **settings).records["values"].tolist()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (dict(env=None), "Name it: --env"),
        (dict(env="sb3_plastic/PerturbedAnt-v0"), "Likely another environment"),
        (dict(tier="huge"), "Unknown tier"),
        (dict(controls=("off",)), "has no plasticity"),
        (dict(protocols=("sometimes",)), "Unknown protocol"),
        (dict(protocols="horizon", scenarios="nominal", faults="weight_noise=0.2"), "protocols static and onset"),
        (dict(scenarios=[5]), "got 5"),
        (dict(scenarios=[]), "Nothing is to be run"),
        (dict(protocols="removal", steps=50), "more than 700 and 200 steps"),
        (
            dict(scenarios=("nominal", "novel/wings")),
            "scenario of nda-v1 for HalfCheetah: 'novel/wings'.*novel/motor_off",
        ),
    ],
)
def test_errors_teach(static_model, settings, says):
    with pytest.raises(ValueError, match=says):
        evaluate_adaptation(static_model, **{**dict(env=CHEETAH, tier="smoke", steps=5), **settings})


def test_wrappers_are_one_or_a_list_as_in_rl_zoo():
    wrapper = "sb3_contrib.common.wrappers.TimeFeatureWrapper"
    for given in ({wrapper: {"test_mode": True}}, [{wrapper: {"test_mode": True}}], ({wrapper: {"test_mode": True}},)):
        found = find_training(None, ModelSettings(env="Pendulum-v1", wrappers=given))
        env = make_env(found, 1, 10).envs[0]
        assert env.get_wrapper_attr("_test_mode") is True
    assert find_training(None, ModelSettings(env="Pendulum-v1", wrappers=SIGNALS)).wrappers == (SIGNALS,)


def test_a_model_of_other_keys_is_refused():
    class Keys(StaticPolicy):
        observation_space = gym.spaces.Dict({"a": gym.spaces.Box(-1, 1, (3,))})

        def predict(self, observation, *args, **kwargs):
            return super().predict([observation], *args, **kwargs)

    split = {"sb3_plastic.wrappers.SplitObservation": {"n_last": 1}}
    with pytest.raises(UserError, match=r"shape \{'a': \(3,\)\}.*sensors"):
        evaluate_adaptation(Keys(), **tracking_scenarios() | dict(env="Pendulum-v1", wrappers=split, steps=300))


@pytest.mark.parametrize("algorithm", [PPO, SAC])
def test_noise_of_gsde_is_that_of_the_seed(algorithm):
    def judged() -> np.ndarray:
        torch.manual_seed(next(states))
        model = algorithm("MlpPolicy", CHEETAH, use_sde=True, policy_kwargs={**TINY})
        model.policy.load_state_dict(weights or model.policy.state_dict())
        weights.update(model.policy.state_dict())
        settings = dict(env=CHEETAH, scenarios="nominal", steps=20, episodes=2, deterministic=False)
        return evaluate_adaptation(model, **settings).records["forward_reward"].to_numpy()

    states, weights = iter((1, 2)), {}
    np.testing.assert_array_equal(judged(), judged())


def test_the_nominal_robot_is_the_one_without_the_perturbations_of_the_training():
    given = ModelSettings(env="Hopper-v5", env_kwargs={"scenario": "nda-v1/train", "healthy_reward": 2.0})
    assert find_training(None, given).unperturbed().env_kwargs == {"healthy_reward": 2.0}
    oracle = ModelSettings(env="Hopper-v5", env_kwargs={"scenario": "nda-v1/train", "observe_context": True})
    assert find_training(None, oracle).unperturbed() == find_training(None, oracle)


@pytest.mark.parametrize(
    ("env", "arguments"),
    [
        ("Pendulum-v1", ["enjoy", "--model", "my runs/a"]),
        ("swings:Swing-v0", ["enjoy", "--model", "my runs/a", "--env", "swings:Swing-v0"]),
        (CHEETAH, ["evaluate", "--model", "my runs/a", "--out", "results/a"]),
    ],
)
def test_the_command_to_go_on_with_can_be_pasted_into_a_shell(env, arguments, monkeypatch):
    assert shlex.split(what_next(Path("my runs/a"), TrainedIn(env))) == arguments
    monkeypatch.setenv("SB3_PLASTIC_IMPORT", "my_rules")
    assert shlex.split(what_next(Path("my runs/a"), TrainedIn(env)))[3:5] == ["--import", "my_rules"]


@pytest.mark.parametrize(
    ("given", "steps"), [({}, 200), ({"max_episode_steps": 77}, 77), ({"max_episode_steps": -1}, 1000)]
)
def test_a_time_limit_is_the_environments_own(given, steps):
    assert find_training(None, ModelSettings(env="Pendulum-v1", env_kwargs=given)).time_limit == steps
    assert find_training(None, ModelSettings(env="HalfCheetah-v5")).time_limit == 1000


def test_an_environment_may_be_named_with_the_module_that_registers_it(tmp_path, monkeypatch):
    """As gym.make takes it: ``module:Env-v0``."""
    code = "gymnasium.register('Swing-v0', 'gymnasium.envs.classic_control.pendulum:PendulumEnv', max_episode_steps=7)"
    (tmp_path / "swings.py").write_text(f"import gymnasium\n{code}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "swings", None)  # so that it is forgotten after the test
    monkeypatch.delitem(sys.modules, "swings")
    trained = find_training(None, ModelSettings(env="swings:Swing-v0"))
    try:
        assert trained.time_limit == 7
        assert make_env(trained, 2, 10).reset().shape == (2, 3)
    finally:
        gym.registry.pop("Swing-v0", None)


def test_episodes_that_lie_in_the_file_of_others_are_refused(static_model, tmp_path):
    settings = dict(env=CHEETAH, scenarios=["nominal", "novel/slope"], protocols="static", steps=5, episodes=1)
    evaluate_adaptation(static_model, out=tmp_path, **settings)
    one, other = sorted((tmp_path / "traces").glob("*.npz"))
    other.write_bytes(one.read_bytes())
    with pytest.raises(DamagedError, match="it holds episodes of nda-v1/"):
        evaluate_adaptation(static_model, out=tmp_path, **settings)


def test_results_of_one_model_in_memory_are_not_taken_for_those_of_another(tmp_path):
    layered = LayeredPolicy.load(Path(__file__).parents[1] / "docs" / "results" / "adaptive" / "HalfCheetah-v5")
    settings = dict(env=CHEETAH, scenarios=["nominal"], protocols="static", controls=("intact",), steps=5, episodes=1)
    evaluate_adaptation(layered, out=tmp_path / "layered", **settings)
    evaluate_adaptation(layered, out=tmp_path / "layered", **settings)  # goes on
    assert json.loads((tmp_path / "layered" / "summary.json").read_text())["plastic_layers"] == layered.plastic_layers()
    for other in (layered.with_hypotheses("motors"), layered.prepared(frozen=True), layered.prepared(False, True)):
        with pytest.raises(UserError, match="results of other settings"):
            evaluate_adaptation(other, out=tmp_path / "layered", **settings)

    class Still:
        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            return np.zeros((len(observation), 6), np.float32), None

    evaluate_adaptation(Still(), out=tmp_path / "plain", **settings)
    with pytest.raises(UserError, match="a model in memory without parameters cannot be told from another"):
        evaluate_adaptation(Still(), out=tmp_path / "plain", **settings)


@pytest.mark.parametrize("name", ["value_net.bias", "log_std"])
def test_weights_that_are_not_finite_are_not_evaluated(name):
    model = PPO("MlpPolicy", gym.make(CHEETAH), n_steps=8, batch_size=8, policy_kwargs={**TINY})
    with torch.no_grad():
        dict(model.policy.named_parameters())[name][0] = np.nan
    with pytest.raises(NotFiniteError, match=f"nothing to evaluate: 1 of .* parameter '{name}'"):
        evaluate_adaptation(model, env=CHEETAH, tier="smoke", steps=5)


# The folder, through the command line


def command(model: Path) -> list[str]:
    settings = ["--env", CHEETAH, "--tier", "smoke", "--episodes", "1", "--steps", "201"]
    settings += ["--protocols", *PROTOCOLS]
    return ["evaluate", "--model", str(model), "--out", "results", *settings]


KILLED = """
import os, signal, sys
from sb3_plastic.cli import main
from sb3_plastic.evaluation import evaluate

save, saved = evaluate.save_trace, []

def save_and_die(*arguments):
    saved.append(save(*arguments))
    if len(saved) == 3:
        os.kill(os.getpid(), signal.SIGKILL)

evaluate.save_trace = save_and_die
main(sys.argv[1:])
"""
"""The command, killed as soon as it has written its third trace."""


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "timing.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_killed_evaluation_goes_on_and_leaves_the_same_files(static_model, tmp_path, monkeypatch):
    model = tmp_path / "m.zip"
    static_model.save(model)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    arguments = command(model)
    process = subprocess.run([sys.executable, "-c", KILLED, *arguments], cwd=killed, capture_output=True)
    assert process.returncode == -signal.SIGKILL
    done = list(killed.glob("results/traces/[!.]*.npz"))
    assert len(done) == 3
    assert not (killed / "results" / "records.csv").exists()
    first = {path: path.stat().st_mtime_ns for path in done}
    for folder in (killed, whole):
        monkeypatch.chdir(folder)
        printed = answer(arguments)
        assert "forward reward" in printed
        assert stray_lines(printed) == []
    assert contents(killed / "results") == contents(whole / "results")
    records = read_records(whole / "results")
    assert not records.duplicated(["protocol", "scenario", "control", "eval_seed", "episode"]).any()
    cells = records.groupby(["protocol", "scenario", "control"]).ngroups
    assert len(load_traces(whole / "results")) == cells == 3 + 1 + 2 + 2 + 2
    assert all((killed / path).stat().st_mtime_ns == written for path, written in first.items())


def test_results_of_other_settings_are_not_mixed(static_model, tmp_path):
    settings = dict(env=CHEETAH, tier="smoke", steps=5, protocols=("static",))
    records = evaluate_adaptation(static_model, tmp_path / "r", **settings).records
    assert evaluate_adaptation(static_model, tmp_path / "r", **settings).records.equals(records)
    with pytest.raises(ValueError, match="base_seed: 10000 there, 5 now"):
        evaluate_adaptation(static_model, tmp_path / "r", **settings, seed=5)
    with pytest.raises(UserError, match="is not empty, and no results folder"):
        evaluate_adaptation(static_model, tmp_path, **settings)


def test_results_of_another_perturbation_of_the_same_name_are_not_mixed(static_model, tmp_path):
    nominal = find_scenario("nda-v1/nominal", "HalfCheetah")
    settings = dict(env=CHEETAH, steps=5, episodes=1, protocols=("static",), out=tmp_path / "r")
    for mass, refused in ((1.5, nullcontext()), (3.0, pytest.raises(ValueError, match="perturbations_sha256"))):
        heavy = Scenario("mine/heavy", "HalfCheetah", "novel", False, (Perturbation("mass", mass),))
        with refused:
            evaluate_adaptation(static_model, scenarios=[nominal, heavy], **settings)


@pytest.mark.parametrize("names", [("toy/a", "toy/a"), ("toy/a-b", "toy/a/b")])
def test_scenarios_that_would_write_over_each_other_are_refused(names):
    acting = [(Perturbation("action_bias", value),) for value in (0.1, 0.2)]
    scenarios = [Scenario(n, "", "novel", False, a) for n, a in zip(names, acting, strict=True)]
    with pytest.raises(UserError, match=f"'{names[1]}'. Give each a name of its own"):
        evaluate_adaptation(StaticPolicy(), **{**tracking_scenarios(), "scenarios": scenarios})


def test_a_model_is_not_given_what_belongs_to_another(tmp_path):
    for env in ("HalfCheetah-v5", "Walker2d-v5"):  # they have as many sensors and motors
        (tmp_path / env).mkdir()
        (tmp_path / env / "args.yml").write_text(f"algo: ppo\nenv: {env}\n")
        (tmp_path / f"{env}.zip").touch()
        assert find_training(tmp_path / f"{env}.zip").env_id == env_id(env.removesuffix("-v5"))
    with pytest.raises(UserError, match=r"Which of HalfCheetah-v5, Walker2d-v5 .* belongs to best_model\.zip"):
        find_training(tmp_path / "best_model.zip")


def test_the_command_judges_the_scenarios_that_it_is_told(static_model, tmp_path, capsys):
    static_model.save(tmp_path / "m.zip")
    arguments = ["evaluate", "--model", str(tmp_path / "m.zip"), "--env", CHEETAH, "--steps", "20", "--episodes", "1"]
    words = "--seed 5 --label mine --train-seed 7 --stochastic --horizon 2 --faults weight_noise=0.3"
    arguments += [*words.split(), "--no-progress", "--suite", "nda-v2", "--out", str(tmp_path / "r"), "--scenarios"]
    assert main([*arguments, "nominal", "id/reversed", "novel/wires_s*d/onset"]) == 0
    names = {"nominal", "id/reversed", "novel/wires_swapped/onset", "novel/wires_signed/onset"}
    faults = {f"faults/weight_noise=0.3{late}" for late in ("", "/onset")}
    assert set(read_records(tmp_path / "r").scenario) == faults | {f"nda-v2/{name}" for name in names}
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    asked = dict(label="mine", train_seed=7, base_seed=5, episodes=1, deterministic=False, steps=20, horizon=2)
    assert summary["settings"] == summary["settings"] | asked
    assert words in summary["command"]
    assert main([*arguments, "nominal"]) == 2
    assert "results of other settings" in capsys.readouterr().err
    assert main([*arguments, "nominal", "novel/wings"]) == 2
    assert "Unknown scenario of nda-v2 for HalfCheetah: 'novel/wings'" in capsys.readouterr().err


def test_the_command_names_scenarios_that_begin_after_the_end(static_model, tmp_path, capsys):
    static_model.save(tmp_path / "m.zip")
    arguments = ["--model", str(tmp_path / "m.zip"), "--env", CHEETAH, "--episodes", "1", "--steps", "20"]
    arguments += ["--scenarios", "nominal", "extrap2/mass", "extrap2/mass/onset", "--out", str(tmp_path / "r")]
    assert main(["evaluate", *arguments]) == 0
    assert "Nothing was changed by nda-v1/extrap2/mass/onset: it" in capsys.readouterr().out


def test_the_table_of_the_command_fits_the_terminal(static_model, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    static_model.save(tmp_path / "m.zip")
    arguments = ["--model", str(tmp_path / "m.zip"), "--env", CHEETAH, "--episodes", "1", "--no-progress"]
    arguments += ["--scenarios", "nominal", "extrap2/mass/onset", "--out", str(tmp_path / "r")]
    assert main(["evaluate", *arguments]) == 0
    table, _ = capsys.readouterr().out.split("\nThere are no relative scores: unperturbed, ")
    assert max(map(len, table.splitlines())) <= 60
    assert "fallen" in table
    assert "-0.00" not in table


def test_the_command_judges_a_policy_without_its_adaptive_layer_if_told(tmp_path, capsys):
    adaptive = dict(net_arch=[], epochs=40, batch_size=64, learning_rate=1e-2, hypotheses=("motors", "wires"))
    venv = LocomotionVecEnv([lambda: gym.make(CHEETAH)] * 4)
    policy_kwargs = dict(net_arch=[8], gain=3.0, decoder_gain=3.0, adaptive=adaptive)
    kwargs = dict(n_steps=128, batch_size=128, n_epochs=1, seed=0, policy_kwargs=policy_kwargs)
    PlasticPPO("PlasticPolicy", venv, **kwargs).learn(4 * 256).save(tmp_path / "m.zip")
    arguments = ["--model", str(tmp_path / "m.zip"), "--env", CHEETAH, "--steps", "20", "--no-progress"]
    arguments += ["--scenarios", "nominal", "extrap2/mass", "extrap2/mass/onset", "--out", str(tmp_path / "r")]
    assert main(["evaluate", *arguments, "--controls", "intact", "layer_off"]) == 0
    controls = read_records(tmp_path / "r").groupby("protocol").control.agg(set).to_dict()
    assert controls == {"static": {"intact", "layer_off"}, "onset": {"intact", "layer_off"}}
    norms = {c.control: t.fast_weight_norm for c, t in load_traces(tmp_path / "r").items() if c.protocol == "static"}
    assert norms["intact"][..., :2].any()  # motors and wires
    assert not norms["layer_off"][..., :2].any()
    assert norms["layer_off"][..., 2].any()
    PlasticPPO("PlasticPolicy", CHEETAH, n_steps=16, batch_size=16).save(tmp_path / "m.zip")
    assert main(["evaluate", *arguments, "--controls", "layer_off"]) == 2
    assert "PlasticPPO has no control 'layer_off'" in capsys.readouterr().err


def test_results_are_written_whatever_numbers_and_arguments_are_made_of(tmp_path):
    numbers = dict(seed=np.int64(3), episodes=np.int64(1), train_seed=np.int32(2), steps=np.int16(5))
    env_kwargs = dict(reset_noise_scale=np.float32(0.1))  # gymnasium has no JSON for it
    settings = {**tracking_scenarios(("static",)), "env": "InvertedPendulum-v5", "wrappers": [SIGNALS], **numbers}
    evaluate_adaptation(StaticPolicy(), tmp_path / "out", env_kwargs=env_kwargs, **settings)
    specs = json.loads((tmp_path / "out" / "summary.json").read_text())["env_specs"]
    assert specs == {"5 steps": "InvertedPendulum-v5, whose entry point or arguments JSON does not take"}
    assert read_records([tmp_path / "out"]).train_seed.tolist() == [2, 2]


def test_episodes_are_as_long_as_the_environments_own_but_for_the_robots_whatever_they_were_trained_in(static_model):
    settings = {**tracking_scenarios(("static",)), "episodes": 1, "env_kwargs": dict(max_episode_steps=3)}
    other = evaluate_adaptation(StaticPolicy(), **{**settings, "env": "InvertedPendulum-v5", "wrappers": [SIGNALS]})
    assert set(other.records.length) == {3}
    limits = dict(
        env=CHEETAH, env_kwargs=dict(max_episode_steps=7), scenarios="nominal", protocols="static", episodes=1
    )
    assert evaluate_adaptation(static_model, **limits).records.length.tolist() == [1000]


def test_a_kill_while_the_settings_are_written_does_not_spoil_the_folder(tmp_path):
    (tmp_path / ".settings.4f1d2a3b.json").write_text('{"seed"')
    claim(tmp_path, {"seed": 1})
    assert json.loads((tmp_path / "settings.json").read_text()) == {"seed": 1}


@pytest.mark.parametrize("links", [True, False])
def test_of_two_evaluations_that_begin_at_once_the_second_is_refused(links, tmp_path, monkeypatch):
    def meanwhile(folder):  # between the first look at the folder and the writing
        monkeypatch.setattr(provenance, "is_taken", lambda folder: False)
        claim(folder, {"seed": 1})
        return False

    monkeypatch.setattr(provenance, "is_taken", meanwhile)
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: Path("/no/links").stat())
    with pytest.raises(UserError, match="seed: 1 there, 2 now"):
        claim(tmp_path, {"seed": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env", "Ant-v5"], "has shape"),
        (["--episodes", "0"], "episodes must be a whole number at least 1, got 0"),
        (["--steps", "0"], "steps must be a whole number at least 1, got 0"),
        (["--scenarios", "nominal", "--protocols", "onset"], "Nothing is to be run"),
        (["--seed", "-1"], "seed must be a whole number at least 0, got -1"),
        (
            ["--env-kwargs", "observe_contxt:true"],
            "cannot be made with the arguments {'observe_contxt': True}",
        ),
        (["--wrapper", "sb3_plastic.wrappers.NoSuch"], "There is no wrapper 'sb3_plastic.wrappers.NoSuch'"),
        (["--wrapper", "nosuch.X"], "There is no wrapper 'nosuch.X'"),
        (["--wrapper", "gymnasium.wrappers.RescaleAction"], "with the arguments {}: missing a required argument"),
        (["--env", "Pendulum-v1"], "nda-v1 has no scenarios for Pendulum-v1, only for HalfCheetah, "),
    ],
)
def test_a_refused_evaluation_takes_no_folder(static_model, arguments, message, tmp_path, capsys):
    static_model.save(tmp_path / "m.zip")
    settings = ["--env", CHEETAH, "--scenarios", "nominal", "--protocols", "static", *arguments]
    assert main(["evaluate", "--model", str(tmp_path / "m.zip"), "--out", str(tmp_path / "out"), *settings]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_whose_settings_are_damaged_is_given_up(tmp_path):
    (tmp_path / "settings.json").write_text('{"seed"')
    with pytest.raises(UserError, match="Choose another folder, or delete this one"):
        claim(tmp_path, {"seed": 1})


def test_settings_are_given_by_name_or_as_values(static_model):
    by_name = evaluate_adaptation(static_model, env=CHEETAH, tier="smoke", steps=5, episodes=1, label="a").records
    about, trials = ModelSettings(env=CHEETAH, label="a"), TrialSettings(tier="smoke", steps=5, episodes=1)
    assert evaluate_adaptation(static_model, about=about, trials=trials).records.equals(by_name)
    with pytest.raises(UserError, match=r"argument of evaluate_adaptation 'teir'. Did you mean 'tier'\?"):
        evaluate_adaptation(static_model, env=CHEETAH, teir="smoke")


def test_a_type_checker_knows_the_settings_that_are_given_by_name():
    assert inspect.signature(evaluate_adaptation).parameters["settings"].annotation == "Unpack[Given]"
    known = {name: hint.__forward_arg__ for name, hint in Given.__annotations__.items()}
    assert known == {field.name: field.type for part in (ModelSettings, TrialSettings) for field in fields(part)}


class Walk(gym.Env):
    """Half a metre per step. Of seed 1 it falls in its fourth step, of seed 2 it breaks in its third."""

    observation_space = gym.spaces.Box(-1, 1, (1,))
    action_space = gym.spaces.Box(-1, 1, (2,))

    def reset(self, *, seed=None, options=None):
        self.seed, self.x = (seed, 3.0) if seed is not None else (self.seed, 7.0)  # the next life begins elsewhere
        self.t = 0
        return np.zeros(1, np.float32), {"x_position": self.x}

    def step(self, action):
        self.t, self.x = self.t + 1, self.x + 0.5
        falls, breaks = (self.seed, self.t) == (1, 4), (self.seed, self.t) == (2, 3)
        info = {"x_position": 0.0 if breaks else self.x, "reward_forward": 0.5, "sim_unstable": breaks}
        return np.zeros(1, np.float32), 1.0, falls or breaks, False, info


class Steady:
    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return np.tile(np.float32([0.5, 1.0]), (len(observation), 1)), None


def test_what_happens_is_written_down():
    venv = DummyVecEnv([lambda: gym.wrappers.TimeLimit(Walk(), 6)] * 3)
    trace = rollout(Player(Steady()), venv, [Row((), seed, begins_at=1.0) for seed in (1, 2, 3)], 6, life=2)
    assert trace.eval_seed.tolist() == [1, 1, 2, 2, 3, 3]
    assert trace.length.tolist() == [4, 4, 3, 3, 6, 6]
    assert trace.fell.tolist() == [True, True, False, False, False, False]
    assert trace.unstable.tolist() == [False, False, True, True, False, False]
    assert trace.distance.tolist() == [2.0, 2.0, 1.0, 1.0, 3.0, 3.0]  # of a broken one, before it was put back
    assert trace.onset.tolist() == [2] * 6  # the step after that in which a metre was reached
    late = rollout(Player(Steady()), venv, [Row((), seed, begins_at=3.0) for seed in (1, 2, 3)], 6)
    assert late.onset.tolist() == [-1] * 3  # met in the last step: there is none after it
    assert np.nansum(trace.effort, 1).tolist() == [1.25 * n for n in trace.length]


class Paying(gym.Wrapper):
    """Pays something else in its second step."""

    def __init__(self, env, paid, broken=False):
        super().__init__(env)
        self.paid, self.broken = paid, broken

    def step(self, action):
        observation, _, _, truncated, info = self.env.step(action)
        odd = self.env.get_wrapper_attr("t") == 2
        info = {"reward_forward": 0.5, "sim_unstable": odd and self.broken}
        return observation, self.paid if odd else 1.0, info["sim_unstable"], truncated, info


@pytest.mark.parametrize("paid", [float("nan"), float("inf")])
def test_a_reward_that_is_not_finite_is_refused_unless_the_simulation_is_said_to_have_broken(paid):
    venv = DummyVecEnv([lambda: gym.wrappers.TimeLimit(Paying(Walk(), paid), 6)])
    with pytest.raises(NotFiniteError, match=rf"step 1 in the episode of seed 3 is {paid}.*info\['sim_unstable'\]"):
        rollout(Player(Steady()), venv, [Row((), 3)], 6)
    venv = DummyVecEnv([lambda: gym.wrappers.TimeLimit(Paying(Walk(), paid, broken=True), 6)])
    trace = rollout(Player(Steady()), venv, [Row((), 3)], 6)
    assert (trace.length.tolist(), trace.unstable.tolist()) == ([2], [True])
    assert np.isfinite(trace.reward[0, :2]).all()


def test_each_protocol_plans_what_it_says():
    names = ("nominal", "id", "extrap1/mass", "novel/terrain/onset")
    scenarios = [find_scenario(f"nda-v1/{name}", "HalfCheetah") for name in names]
    planned = {(c.cell.protocol, c.cell.scenario): c for c in plan(scenarios, PROTOCOLS, ["intact"], 1000, horizon=3)}
    switch, life = (planned[protocol, "nda-v1/extrap1/mass"] for protocol in ("switch", "lifetime"))
    assert switch.cell.switch_every == 200
    assert [p.schedule for p in switch.perturbations] == [Schedule("switch", every=200, at=200)]
    assert (life.life, [p.lasting for p in life.perturbations]) == (5, [True])
    horizon = planned["horizon", "nda-v1/id"]
    assert (horizon.steps, horizon.cell.training_steps) == (3000, 1000)
    assert planned["onset", "nda-v1/novel/terrain/onset"].begins_at == 9.0  # a metre before the ground gets rough
    assert ("horizon", "nda-v1/extrap1/mass") not in planned


def test_fast_weights_are_zeroed_once():
    player, norms = Player(AdaptivePolicy(), "zeroed_at_onset"), []
    for t in range(6):
        player.act(np.zeros((1, 1)), np.array([t == 0]), np.array([t >= 3]))
        norms.append(float(player.norms()[0, 0]))
    assert norms[3] < norms[2]
    assert norms[3] < norms[4] < norms[5]


def test_a_life_carries_over_what_an_lstm_remembers():
    env = gym.make("Pendulum-v1")
    model = RecurrentPPO("MlpLstmPolicy", env, n_steps=8, batch_size=8, policy_kwargs=dict(lstm_hidden_size=8))
    obs, never = np.ones((2, 3), np.float32), np.zeros(2, bool)
    for control, same in (("reset", True), ("carried", False)):
        player = Player(model, control)
        first, _, again = (player.act(obs, np.full(2, start), never) for start in (True, False, True))
        assert np.array_equal(first, again) == same


def test_what_is_given_comes_before_what_rl_zoo_wrote(tmp_path):
    zoo, model, mine = tmp_path / "Hopper-v5", tmp_path / "m.zip", tmp_path / "mine.pkl"
    zoo.mkdir()
    (zoo / "args.yml").write_text("env: Hopper-v5\nenv_kwargs: {healthy_reward: 2.0, ctrl_cost_weight: 0.1}\n")
    previous = "sb3_plastic.wrappers.PreviousActionReward"
    (zoo / "config.yml").write_text(f"env_wrapper: {previous}\nenv_kwargs: {{healthy_reward: 9.0}}\n")
    for file in (zoo / "vecnormalize.pkl", model, mine):
        file.touch()
    found = find_training(model)
    assert (found.env_id, found.wrappers) == (env_id("Hopper"), (previous,))
    assert found.env_kwargs == {"healthy_reward": 2.0, "ctrl_cost_weight": 0.1}  # of the command line, as in RL Zoo
    assert found.vec_normalize == zoo / "vecnormalize.pkl"
    given = ModelSettings(env="Walker2d-v5", env_kwargs={"healthy_reward": 1.0}, wrappers=(), normalization=mine)
    found = find_training(model, given)
    assert (found.env_id, found.wrappers, found.vec_normalize) == (env_id("Walker2d"), (), mine)
    assert found.env_kwargs == {"healthy_reward": 1.0, "ctrl_cost_weight": 0.1}
    model.with_suffix(".pkl").touch()
    assert find_training(model).vec_normalize == tmp_path / "m.pkl"


def test_wrappers_lie_as_in_rl_zoo_the_first_innermost_and_the_normalisation_around_all(tmp_path):
    VecNormalize(DummyVecEnv([lambda: gym.make("Pendulum-v1")])).save(str(tmp_path / "v.pkl"))
    own = ("gymnasium.wrappers.ClipAction", {"gymnasium.wrappers.ClipReward": {"min_reward": -1}})
    of_all = tuple(f"stable_baselines3.common.vec_env.{name}" for name in ("VecMonitor", "VecCheckNan"))
    about = ModelSettings(env="Pendulum-v1", wrappers=(*of_all, *own), normalization=tmp_path / "v.pkl")
    venv = make_env(find_training(None, about), 1, 10)
    assert [type(v) for v in (venv, venv.venv, venv.venv.venv)] == [VecNormalize, VecCheckNan, VecMonitor]
    env = venv.unwrapped.envs[0]
    assert [type(e).__name__ for e in (env, env.env)] == ["ClipReward", "ClipAction"]


def test_a_run_means_its_last_model_or_else_its_best(tmp_path):
    for name in ("best_model", "rl_model_8_steps"):
        (tmp_path / f"{name}.zip").touch()
    assert model_file(tmp_path).name == "best_model.zip"
    (tmp_path / "Ant-v5.zip").touch()
    (tmp_path / "Ant-v5").mkdir()
    assert model_file(tmp_path).name == "Ant-v5.zip"
    assert model_file(tmp_path / "Ant-v5").name == "Ant-v5.zip"  # as SB3 leaves out the suffix, beside RL Zoo's folder
    (tmp_path / "model_1.5.zip").touch()
    assert model_file(tmp_path / "model_1.5").name == "model_1.5.zip"


def test_the_folder_that_one_is_in_is_a_run_as_well(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"has no model \(\.zip\)"):
        model_file(".")
    Path("Ant-v5.zip").touch()
    assert model_file(".") == Path("Ant-v5.zip")


def test_a_wrapper_that_forgets_what_it_was_in_the_training_is_warned_of(static_model):
    wrappers = ["gymnasium.wrappers.NormalizeObservation"]
    with pytest.warns(UserWarning, match="NormalizeObservation begins with statistics of nothing"):
        evaluate_adaptation(static_model, env=CHEETAH, tier="smoke", steps=2, protocols="static", wrappers=wrappers)


def test_wrappers_on_the_command_line_take_arguments_as_in_rl_zoos_yaml(capsys):
    parser = argparse.ArgumentParser()
    add_model(parser, "")
    args = parser.parse_args(["--model", "m", "--wrapper", "a.B: {x: 1e-1}", "c.D"])
    assert model_settings(args).wrappers == [{"a.B": {"x": 0.1}}, "c.D"]
    for wrong in ("{a", "a.B: 1, c.D: 2", "{a.B: {}, c.D: {}}"):
        with pytest.raises(SystemExit):
            parser.parse_args(["--model", "m", "--wrapper", wrong])
        assert repr(wrong) in capsys.readouterr().err


def test_numbers_in_yaml_are_those_of_json_too(tmp_path):
    parser = argparse.ArgumentParser()
    add_model(parser, "")
    args = parser.parse_args(["--model", "m", "--env-kwargs", "reset_noise_scale:1e-3", "name:'1e-3'", "scenario:e5"])
    assert model_settings(args).env_kwargs == {"reset_noise_scale": 0.001, "name": "1e-3", "scenario": "e5"}
    (tmp_path / "Ant-v5").mkdir()  # as RL Zoo writes down what a configuration says
    (tmp_path / "Ant-v5" / "args.yml").write_text("env: Ant-v5\n")
    wrapper = "sb3_plastic.wrappers.MidRunChange: {at: 5, attributes: {g: 1e1}}"
    (tmp_path / "Ant-v5" / "config.yml").write_text(f"env_wrapper:\n- {wrapper}\n")
    (found,) = zoo_files(tmp_path / "Ant-v5.zip").wrappers(ModelSettings())
    assert found == {"sb3_plastic.wrappers.MidRunChange": {"at": 5, "attributes": {"g": 10}}}
