"""AdaptivePolicy through its doors: fit, predict, save and load, the command line."""

import copy
import inspect
import re
import tempfile
from dataclasses import replace
from pathlib import Path

import gymnasium
import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper, VecNormalize
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toy_robots import Counting, Robots, Wanderer, play, policy

from sb3_plastic import PlasticPPO
from sb3_plastic.adapt import summary
from sb3_plastic.adaptive import AdaptivePolicy, hindsight
from sb3_plastic.adaptive.agents import agent_of, as_actions, box
from sb3_plastic.adaptive.files import FORMAT
from sb3_plastic.adaptive.fit import FitCurve
from sb3_plastic.adaptive.forecasting import forecast
from sb3_plastic.adaptive.hypotheses import DEFAULT
from sb3_plastic.adaptive.settings import LayerSettings
from sb3_plastic.cli import main
from sb3_plastic.errors import UserError
from sb3_plastic.evaluation.controls import Player
from sb3_plastic.evaluation.loading import load_model
from sb3_plastic.progress import Progress

SMALL = dict(n_steps=3200, epochs=8, net_arch=(32,), members=2)
QUICK = dict(n_steps=800, epochs=20, net_arch=(8,), members=1)  # where it does not matter how well it is fitted


@pytest.fixture(scope="module")
def pendulums():
    venv = VecNormalize(make_vec_env("Pendulum-v1", 8, seed=0), norm_reward=False)
    model = PPO("MlpPolicy", venv, n_steps=32, batch_size=64, seed=0)
    model.learn(512)
    venv.training = False
    yield model, venv
    venv.close()


@pytest.fixture(scope="module")
def fitted(pendulums):
    return AdaptivePolicy.fit(*pendulums, **SMALL)


def test_fit_learns_the_robot_and_calibrates_itself(fitted):
    assert max(fitted.report["unexplained"].values()) < 0.2
    assert fitted.layer.settings.unexplained == pytest.approx([*fitted.report["unexplained"].values()], abs=1e-4)
    thresholds = fitted.layer.settings.surprise_threshold
    assert 1 < thresholds["nominal"] < 50
    assert set(thresholds) == {"nominal", *fitted.layer.settings.hypotheses}


def test_fit_is_repeatable(pendulums, fitted):
    again = AdaptivePolicy.fit(*pendulums, **SMALL)
    assert again.report == fitted.report
    assert again.layer.settings == fitted.layer.settings


def test_a_layer_without_units_is_refused_before_the_robot_moves(pendulums):
    with pytest.raises(UserError, match=r"net_arch.*at least 1.*got 0"):
        AdaptivePolicy.fit(*pendulums, n_steps=10**9, net_arch=(32, 0))


@pytest.mark.parametrize("names", [dict(hypotheses=("motor",)), dict(always="motor")])
def test_an_unknown_hypothesis_is_refused_before_the_robot_moves(pendulums, names):
    with pytest.raises(UserError, match="'motor'"):
        AdaptivePolicy.fit(*pendulums, n_steps=10**9, **names)


def test_frozen_it_is_the_model_on_normalised_observations(pendulums, fitted):
    model, venv = pendulums
    raw = np.random.default_rng(0).normal(size=(8, 3))
    actions, _ = fitted.prepared(frozen=True).predict(raw, deterministic=True)
    assert np.array_equal(actions, model.predict(venv.normalize_obs(raw).astype(np.float32), deterministic=True)[0])


def test_a_frozen_policy_stays_frozen_under_every_control(fitted):
    """`evaluate` would measure the layer where the user asked for the agent alone."""
    frozen = fitted.prepared(frozen=True)
    rng = np.random.default_rng(0)
    observations = [rng.normal(size=(2, 3)) for _ in range(20)]  # nothing that a pendulum does

    def actions(policy):
        player, starts = Player(policy), np.ones(2, bool)
        return [player.act(o, starts if i == 0 else ~starts, ~starts) for i, o in enumerate(observations)]

    np.testing.assert_array_equal(
        actions(frozen), [fitted.agent.predict(o, deterministic=True)[0] for o in observations]
    )
    assert not np.array_equal(actions(fitted), actions(frozen))


def test_sb3s_evaluate_policy_takes_it(fitted):
    venv = make_vec_env("Pendulum-v1", 2, seed=3)
    mean, _ = evaluate_policy(fitted, venv, n_eval_episodes=2, warn=False)
    assert -2000 < mean < 0


def test_a_single_observation_gets_a_single_action(fitted):
    action, state = fitted.predict(np.zeros(3), deterministic=True)
    assert action.shape == (1,)
    action, _ = fitted.predict(np.zeros(3), state, np.array([False]), deterministic=True)
    assert action.shape == (1,)


@pytest.mark.parametrize("make", [lambda env: SAC("MlpPolicy", env), lambda env: PlasticPPO("PlasticPolicy", env)])
def test_it_saves_and_loads_around_any_model_bit_for_bit(tmp_path, make):
    venv = make_vec_env("Pendulum-v1", 4, seed=1)
    saved = AdaptivePolicy.fit(make(venv), venv, n_steps=800, epochs=20, net_arch=(32,), lifetime=True)
    saved.save(tmp_path / "p")
    loaded = AdaptivePolicy.load(tmp_path / "p")
    assert loaded.report == saved.report
    rng, states = np.random.default_rng(1), [None, None]
    for _ in range(5):
        raw, actions = rng.normal(size=(2, 3)), []
        for i, p in enumerate((saved, loaded)):
            action, states[i] = p.predict(raw, states[i], deterministic=True)
            actions.append(action)
        assert np.array_equal(*actions)
    assert all(np.array_equal(a, b) for a, b in zip(*states, strict=True))


def test_what_does_not_fit_is_refused_with_what_was_got(tmp_path, fitted):
    with pytest.raises(ValueError, match=r"got \(2, 4\)"):
        fitted.predict(np.zeros((2, 4)))
    _, state = fitted.predict(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="for the same 3 environments"):
        fitted.predict(np.zeros((3, 3)), state)
    with pytest.raises(ValueError, match="Box with one axis as action space"):
        AdaptivePolicy.fit(PPO("MlpPolicy", "CartPole-v1"), make_vec_env("CartPole-v1"))
    with pytest.raises(ValueError, match="Unknown hypothesis 'wings'"):
        policy(("wings",))
    with pytest.raises(ValueError, match="is no adaptive policy"):
        AdaptivePolicy.load(tmp_path)


def test_numbers_of_numpy_are_numbers_and_what_is_none_leaves_a_folder_as_it_was(tmp_path, fitted):
    venv = make_vec_env("Pendulum-v1", 4, seed=1)
    model = PPO("MlpPolicy", venv)
    numbers = dict(n_steps=np.int64(800), epochs=np.int64(20), members=np.int64(1), net_arch=np.array([8]))
    saved = AdaptivePolicy.fit(model, venv, seed=np.int64(3), lifetime=np.True_, **numbers)
    saved.save(tmp_path)
    assert AdaptivePolicy.load(tmp_path).lifetime is True
    saved.report = {"seed": object()}
    with pytest.raises(UserError, match="cannot be exported"):
        saved.save(tmp_path)
    assert AdaptivePolicy.load(tmp_path).report["seed"] == 3


def test_a_policy_alone_gets_the_normalisation_of_the_environments(pendulums, fitted):
    model, venv = pendulums
    policy, obs = AdaptivePolicy.fit(model.policy, venv, **QUICK), np.ones((2, 3))
    alone = [p.prepared(frozen=True).predict(obs, deterministic=True)[0] for p in (policy, fitted)]
    assert np.array_equal(*alone)
    with pytest.raises(UserError, match="Wanderer is no model of SB3"):
        AdaptivePolicy.fit(Wanderer(), venv)


def test_an_environment_may_write_over_its_observations_during_the_fit(pendulums, fitted):
    model, venv = pendulums

    class Reusing(VecEnvWrapper):
        def reset(self):
            self.buffer = self.venv.reset().astype(np.float64)
            return self.buffer

        def step_wait(self):
            obs, *rest = self.venv.step_wait()
            self.buffer[:] = obs
            return self.buffer, *rest

    normalized = VecNormalize(Reusing(venv.venv))
    normalized.obs_rms = venv.obs_rms
    policy = AdaptivePolicy.fit(model, normalized, **SMALL)
    assert policy.report == fitted.report


def test_what_cannot_be_fitted_or_saved_is_refused_in_words(tmp_path, pendulums, fitted):
    model, venv = pendulums
    model.save(tmp_path / "model.zip")
    with pytest.raises(UserError, match="acts at random without its statistics"):
        AdaptivePolicy.fit(PPO.load(tmp_path / "model.zip"), make_vec_env("Pendulum-v1", 1), **SMALL)
    with pytest.raises(UserError, match=r"seen no observation yet.*VecNormalize\.load"):
        AdaptivePolicy.fit(model, VecNormalize(make_vec_env("Pendulum-v1", 1)), **SMALL)
    with pytest.raises(UserError, match=r"The model is a str, .*load it first"):
        AdaptivePolicy.fit("m.zip", venv, **SMALL)
    with pytest.raises(UserError, match="The environment is 'Pendulum-v1': make it first"):
        AdaptivePolicy.fit(model, "Pendulum-v1", **SMALL)
    with pytest.raises(UserError, match="n_steps must be at least 21 for each of 8 environments, got 160"):
        AdaptivePolicy.fit(model, venv, n_steps=160)
    (tmp_path / "m.zip").touch()
    with pytest.raises(UserError, match=r"m.zip is a file: a policy that adapts is a folder"):
        fitted.save(tmp_path / "m.zip")
    with pytest.raises(UserError, match="n_steps must be at least 21 for each of 1 environments, got 8"):
        fitted.with_settings(fitted.layer.settings, gymnasium.make("Pendulum-v1"), n_steps=8)


def test_a_folder_is_plain_data_and_says_what_is_wrong_with_it(tmp_path, fitted):
    fitted.save(tmp_path)
    assert {file.suffix for file in tmp_path.rglob("*") if file.is_file()} == {".json", ".safetensors"}
    (tmp_path / "adaptive.safetensors").write_bytes(b"half")
    with pytest.raises(ValueError, match="checksum is not the one"):
        AdaptivePolicy.load(tmp_path)
    (tmp_path / "adaptive.json").write_text("[" * 200_000)  # deeper than JSON is read
    with pytest.raises(ValueError, match=r"adaptive.json is damaged"):
        AdaptivePolicy.load(tmp_path)


def test_a_layer_of_another_version_is_refused_with_the_way_to_a_new_one(tmp_path, fitted):
    fitted.save(tmp_path)
    file = tmp_path / "adaptive.json"
    file.write_text(file.read_text().replace(FORMAT, "sb3_plastic.adaptive 3"))
    says = f"format 'sb3_plastic.adaptive 3', .* reads '{FORMAT}' .* --model {re.escape(str(tmp_path / 'agent'))} "
    with pytest.raises(UserError, match=says):
        AdaptivePolicy.load(tmp_path)


def test_a_layer_of_a_later_version_is_not_to_be_fitted_anew(tmp_path, fitted):
    fitted.save(tmp_path)
    file = tmp_path / "adaptive.json"
    file.write_text(file.read_text().replace(FORMAT, "sb3_plastic.adaptive 10"))
    with pytest.raises(UserError, match=r"adaptive 10.* alone: a later version made it. Read it with that one.$"):
        AdaptivePolicy.load(tmp_path)


def test_a_state_is_a_tuple_of_arrays_with_the_environment_axis_first():
    p = policy(("motors", "wires", "sensor_bias", "late_1"))
    assert all(len(array) == 5 for array in play(p, Robots(5), 3))


def test_the_agent_explores_where_it_is_asked_to():
    asked = []

    class Notes(Wanderer):
        def predict(self, *args, deterministic=False, **kwargs):
            asked.append(deterministic)
            return super().predict(*args, deterministic=deterministic, **kwargs)

    for deterministic in (True, False):
        policy(agent=Notes()).predict(np.zeros((2, 3)), deterministic=deterministic)
    assert asked == [True, False]


def test_a_state_keeps_its_observation_where_the_caller_writes_another_over_it():
    o = np.zeros((2, 3))
    state = policy().split_state(policy().predict(o)[1])[0]
    o[:] = 9
    assert not state.observation.any()


def test_motors_that_take_whole_numbers_get_the_models_own_fractions():
    class Whole(Wanderer):
        action_space = spaces.Box(-10, 10, (2,), np.int64)

    o = np.ones((2, 3))
    actions, state = policy(agent=Whole()).predict(o)
    assert policy().acting(state) == ["nominal", "nominal"]
    np.testing.assert_array_equal(actions, Whole().predict(o)[0])


def test_adapt_from_the_command_line(tmp_path, capsys, pendulums, monkeypatch):
    monkeypatch.setattr(hindsight, "UPDATES", 8)
    model, venv = pendulums
    model.save(tmp_path / "m.zip")
    venv.save(str(tmp_path / "m.pkl"))
    arguments = ["--env", "Pendulum-v1", "--steps", "3600", "--n-envs", "8", "--epochs", "3"]
    arguments += ["--learn-rule", "--net-arch", "48", "32", "--members", "2", "--env-kwargs", "g:9.8"]
    arguments += ["--probing", "0.2", "--lost-at", "0", "--hypotheses", "default", "motors_and_disturbance"]
    assert main(["adapt", "--model", str(tmp_path / "m.zip"), *arguments, "--out", str(tmp_path / "a")]) == 0
    out = capsys.readouterr().out
    assert "unexplained" in out
    assert "Learned for wires" in out
    loaded, algorithm = load_model(tmp_path / "a")
    assert algorithm == "adaptive"
    assert loaded.agent.normalization.mean[""] == pytest.approx(venv.obs_rms.mean)
    assert loaded.agent.training["env_id"] == "Pendulum-v1"
    assert loaded.agent.training["env_kwargs"] == {"g": 9.8}
    assert set(loaded.layer.settings.rule) == {"motors", "motors_and_bias", "motors_and_disturbance", "wires"}
    assert loaded.layer.model.net_arch == (48, 32)
    assert len(loaded.layer.model.members) == 2
    assert (loaded.layer.settings.probing, loaded.layer.settings.lost_at) == (0.2, 0)
    assert loaded.layer.settings.hypotheses == (*DEFAULT, "motors_and_disturbance")
    assert [*loaded.report["forecast"]] == ["motors", "plugs"]
    assert "right after 5 steps: motors reversed" in out
    assert main(["inspect", str(tmp_path / "a")]) == 0
    assert "right after five steps, in hindsight" in capsys.readouterr().out


def test_a_fit_without_tensorboard_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with FitCurve(None, Progress(False)) as curve:
        curve.begin(4)
        curve.tick(4, 0.1)
        curve.end(np.array([0.1]))
    assert [*tmp_path.iterdir()] == []


def test_the_command_fits_what_fit_does_with_the_same_arguments(tmp_path, pendulums):
    model, venv = pendulums
    model.save(tmp_path / "m.zip")
    venv.save(str(tmp_path / "v.pkl"))
    arguments = "--seed 4 --steps 800 --n-envs 4 --episode-steps 30 --forward-model spiking --net-arch 16 --members 1"
    arguments += " --epochs 10 --hypotheses wires motors --always wires --lifetime --probing 0.2"
    arguments += f" --env Pendulum-v1 --wrapper gymnasium.wrappers.ClipAction --tensorboard-log {tmp_path / 'runs'}"
    arguments += " --env-kwargs g:9.8 scenario:nda-v1/train"  # of the training, which is not that of the fit
    paths = ["--model", str(tmp_path / "m.zip"), "--vecnorm", str(tmp_path / "v.pkl"), "--out", str(tmp_path / "a")]
    assert main(["adapt", *paths, *arguments.split()]) == 0
    found, _ = load_model(tmp_path / "a")

    env_kwargs = dict(g=9.8, max_episode_steps=30)
    robots = VecNormalize.load(str(tmp_path / "v.pkl"), make_vec_env("Pendulum-v1", 4, env_kwargs=env_kwargs))
    settings = dict(forward_model="spiking", net_arch=(16,), members=1, epochs=10, always="wires", probing=0.2)
    expected = AdaptivePolicy.fit(model, robots, 800, seed=4, hypotheses=("wires", "motors"), **settings)
    assert found.layer.settings == expected.layer.settings
    assert found.report == expected.report | {"forecast": forecast(expected, robots, seed=5)}
    assert found.lifetime
    about = dict(env_id="Pendulum-v1", env_kwargs={"g": 9.8}, env_wrapper=["gymnasium.wrappers.ClipAction"])
    assert found.agent.training == expected.agent.training | about

    events = EventAccumulator(str(tmp_path / "runs" / "adapt_1"))
    events.Reload()
    losses = events.Scalars("adaptive/loss")
    assert np.mean([loss.value for loss in losses[-5:]]) < 0.8 * losses[0].value
    (unexplained,) = events.Scalars("adaptive/unexplained")
    assert unexplained.value == pytest.approx(np.mean([*found.report["unexplained"].values()]), abs=1e-4)
    assert unexplained.step == losses[-1].step


def test_the_command_gives_fit_every_argument_that_it_has(tmp_path, pendulums, monkeypatch):
    model, venv = pendulums
    model.save(tmp_path / "m.zip")
    venv.save(str(tmp_path / "m.pkl"))
    arguments, given = {*inspect.signature(AdaptivePolicy.fit).parameters}, {"model", "env"}

    def fit(model, env, **kwargs):
        given.update(kwargs)
        raise UserError("enough")

    monkeypatch.setattr(AdaptivePolicy, "fit", fit)
    paths = ["--model", str(tmp_path / "m.zip"), "--out", str(tmp_path / "a"), "--env", "Pendulum-v1"]
    assert main(["adapt", *paths]) == 2
    assert given == {"model", "env", "progress_bar"}  # the others are as in fit
    everything = "--steps 9 --seed 1 --hypotheses wires --always wires --lifetime --learn-rule --probing 1 --lost-at 1"
    everything += " --forward-model mlp --net-arch 8 --members 1 --epochs 1 --tensorboard-log runs"
    assert main(["adapt", *paths, *everything.split()]) == 2
    assert given == arguments


def test_the_defaults_in_the_help_are_those_of_fit(capsys):
    with pytest.raises(SystemExit):
        main(["adapt", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    options = dict(
        steps="n_steps", seed="seed", members="members", epochs="epochs", probing="probing", lost_at="lost_at"
    )
    options |= dict(forward_model="forward_model", net_arch="net_arch")
    parameters = inspect.signature(AdaptivePolicy.fit).parameters
    for option, name in options.items():
        default = parameters[name].default
        words = " ".join(map(str, default)) if isinstance(default, tuple) else str(default)
        after = said[said.rindex("--" + option.replace("_", "-")) :]
        assert re.match(rf"[^(]*\(default: {re.escape(words)}[);]", after), option


def test_the_command_gives_a_fitted_layer_other_settings_on_the_same_forward_model(tmp_path, capsys, fitted):
    fitted.agent.training |= dict(env_id="Pendulum-v1")
    fitted.save(tmp_path / "a")
    asked = "--hypotheses motors --always motors --probing 0.1 --lost-at 0 --lifetime --steps 3200 --n-envs 8 --seed 7"
    assert main(["adapt", "--model", str(tmp_path / "a"), *asked.split(), "--out", str(tmp_path / "b")]) == 0
    assert "motors" in capsys.readouterr().out
    found = AdaptivePolicy.load(tmp_path / "b")
    settings = replace(fitted.layer.settings, hypotheses=("motors",), always="motors", probing=0.1, lost_at=0)
    venv = make_vec_env("Pendulum-v1", 8)
    assert found.layer.settings == fitted.with_settings(settings, venv, 3200, seed=7).layer.settings
    assert found.lifetime
    assert found.layer.model.state_dict().keys() == (weights := fitted.layer.model.state_dict()).keys()
    assert all(torch.equal(weight, weights[name]) for name, weight in found.layer.model.state_dict().items())
    assert {name: found.report[name] for name in fitted.report if name != "forecast"} == {
        name: value for name, value in fitted.report.items() if name != "forecast"
    }

    back = "--no-lifetime --steps 3200 --n-envs 8"  # into its own folder; what is not named stays
    assert main(["adapt", str(tmp_path / "b"), *back.split(), "--out", str(tmp_path / "b")]) == 0
    again = AdaptivePolicy.load(tmp_path / "b")
    assert not again.lifetime
    kept = dict(hypotheses=("motors",), always="motors", probing=0.1, lost_at=0)
    assert {name: getattr(again.layer.settings, name) for name in kept} == kept
    assert main(["adapt", str(tmp_path / "b"), "--always", "none", *back.split(), "--out", str(tmp_path / "b")]) == 0
    assert AdaptivePolicy.load(tmp_path / "b").layer.settings.always is None


def test_a_fitted_layer_keeps_its_forward_model(tmp_path, capsys, fitted):
    fitted.save(tmp_path / "a")
    asked = ["--env", "Pendulum-v1", "--members", "3", "--net-arch", "8", "--out", str(tmp_path / "b")]
    assert main(["adapt", str(tmp_path / "a"), *asked]) == 2
    said = capsys.readouterr().err
    assert "has a forward model already, which --net-arch, --members cannot change" in said
    assert f"--model {tmp_path / 'a' / 'agent'}" in said
    assert not (tmp_path / "b").exists()


def test_loading_draws_no_random_numbers(tmp_path, fitted):
    fitted.save(tmp_path)
    torch.manual_seed(3)
    AdaptivePolicy.load(tmp_path)
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert drawn == torch.rand(1)


def test_a_poor_forward_model_is_said_to_be_poor(fitted):
    assert "poor" not in summary(fitted)
    poor = dict.fromkeys(fitted.report["unexplained"], 0.3)
    with_poor = AdaptivePolicy(fitted.agent, fitted.layer, report={**fitted.report, "unexplained": poor})
    assert "a poor forward model makes a poor layer" in summary(with_poor)


@pytest.mark.parametrize("inside", ["agent/thesis.tex", "Pendulum-v1.zip"])
def test_a_folder_that_holds_something_else_is_refused_before_the_fit(
    inside, tmp_path, capsys, pendulums, fitted, monkeypatch
):
    model, venv = pendulums
    model.save(tmp_path / "m.zip")
    venv.save(str(tmp_path / "m.pkl"))
    (tmp_path / "a" / inside).parent.mkdir(parents=True)
    (tmp_path / "a" / inside).touch()
    monkeypatch.setattr(AdaptivePolicy, "fit", None)
    assert (
        main(["adapt", "--model", str(tmp_path / "m.zip"), "--env", "Pendulum-v1", "--out", str(tmp_path / "a")]) == 2
    )
    assert "Choose another folder" in capsys.readouterr().err
    with pytest.raises(UserError, match="Choose another folder"):
        fitted.save(tmp_path / "a")
    assert [path.name for path in (tmp_path / "a").rglob("*") if path.is_file()] == [Path(inside).name]


def test_a_layer_is_written_over_an_earlier_one_and_over_what_a_killed_one_left(tmp_path, fitted):
    fitted.save(tmp_path)
    (tmp_path / "adaptive.json").unlink()
    (tmp_path / "adaptive.safetensors").unlink()
    for _ in range(2):
        fitted.save(tmp_path)
    assert AdaptivePolicy.load(tmp_path).report == fitted.report


def test_settings_of_its_own_are_calibrated_as_new_ones_are(pendulums, fitted):
    raw = pendulums[1].venv
    of_its_own = fitted.with_settings(fitted.layer.settings, raw, 3200, seed=5)
    assert of_its_own.layer.settings == fitted.with_settings(LayerSettings(), raw, 3200, seed=5).layer.settings


def test_settings_are_calibrated_on_other_transitions_than_those_of_the_fit_unless_a_seed_is_given(pendulums, fitted):
    raw, settings = pendulums[1].venv, fitted.layer.settings
    default, other, known = (
        fitted.with_settings(settings, raw, 3200, seed=seed).layer.settings
        for seed in (None, fitted.report["seed"] + 1000, fitted.report["seed"])
    )
    assert default == other != known


def test_a_frozen_policy_is_frozen_under_other_settings_too(pendulums, fitted):
    raw = pendulums[1].venv
    frozen = fitted.prepared(frozen=True, keep_fast_weights=True).with_settings(fitted.layer.settings, raw, 3200)
    assert (frozen.lifetime, frozen.report) == (True, fitted.report)
    first, state = frozen.predict(raw.reset())
    _, state = frozen.predict(raw.step(-first)[0], state)
    assert not frozen.split_state(state, raw.num_envs)[0].evidence.any()
    for wrong in (dict(n_steps=0), dict(seed=-1)):
        with pytest.raises(UserError, match=next(iter(wrong))):
            fitted.with_settings(fitted.layer.settings, raw, **wrong)


def test_a_policy_alone_is_fitted_and_written(pendulums, tmp_path):
    model, venv = pendulums
    AdaptivePolicy.fit(model.policy, venv.venv, **QUICK).save(tmp_path / "a")
    loaded = AdaptivePolicy.load(tmp_path / "a")
    observation = venv.venv.reset()
    expected, _ = model.policy.predict(observation, deterministic=True)
    np.testing.assert_array_equal(loaded.predict(observation, deterministic=True)[0], expected)


def test_an_exported_policy_keeps_its_normalisation_where_the_environments_have_none(pendulums, fitted):
    exported, bare = fitted.agent, pendulums[1].venv
    policy = AdaptivePolicy.fit(exported, VecNormalize(bare, norm_obs=False), **QUICK)
    assert policy.agent.normalization is exported.normalization
    with pytest.raises(UserError, match="has seen no observation yet"):
        AdaptivePolicy.fit(exported, VecNormalize(bare), n_steps=10**9)


def test_motors_without_bounds_are_refused():
    class Unbounded(Wanderer):
        action_space = spaces.Box(-np.inf, np.inf, (2,))

    with pytest.raises(UserError, match=r"actions with bounds.*RescaleAction"):
        policy(agent=Unbounded())


def test_a_model_brings_the_normalisation_of_its_own_environment(pendulums, fitted):
    model, venv = pendulums
    policy = AdaptivePolicy.fit(model, venv.venv, **QUICK)
    (own,), (given,) = (p.agent.normalization.mean.values() for p in (policy, fitted))
    assert np.array_equal(own, given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(always="lms"), "hypothesis that always acts 'lms'"),
        (dict(n_steps=0), "n_steps must be a whole number at least 1, got 0"),
        (dict(epochs=0), "epochs must be a whole number at least 1, got 0"),
        (dict(members=2.0), "members must be a whole number at least 1, got 2.0"),
        (dict(seed=-1), "seed must be a whole number at least 0, got -1"),
        (dict(hypotheses="motors"), r"a list of names, got 'motors': write \['motors'\]"),
        (dict(forward_model="spiking", net_arch=()), "needs a layer"),
        (dict(n_steps=1000, learn_rule=True), "20 steps of an episode in a row"),
    ],
)
def test_what_cannot_be_fitted_is_refused_before_the_robot_moves(pendulums, arguments, message):
    with pytest.raises(UserError, match=message):
        AdaptivePolicy.fit(*pendulums, **{"n_steps": 10**9, **arguments})


def test_a_layer_is_put_around_no_other_layer_and_into_no_other_environment(pendulums, fitted):
    with pytest.raises(UserError, match="adapts by itself"):
        AdaptivePolicy.fit(fitted, pendulums[1], n_steps=10**9)
    with pytest.raises(UserError, match="3 observations and 1 motors, the environment"):
        AdaptivePolicy.fit(pendulums[0], make_vec_env("MountainCarContinuous-v0", 1), n_steps=10**9)


def test_inputs_that_are_none_are_answered(fitted):
    with pytest.raises(UserError, match="returns pass the first"):
        fitted.predict((np.zeros(3), {}))
    with pytest.raises(UserError, match="is a name, got"):
        fitted.with_hypotheses(["motors"])
    for question in (fitted.estimates, fitted.acting, fitted.fast_weight_norms):
        with pytest.raises(UserError, match="got None: before the first step there is none"):
            question(None)
    nominal = fitted.with_hypotheses("nominal")
    assert nominal.fast_weight_norms(nominal.predict(np.zeros((2, 3)))[1]).shape == (2, 0)


def test_commands_stay_within_bounds_that_rounding_would_pass():
    space = spaces.Box(np.array([-0.1, -0.1]), np.array([0.3, 0.7]), dtype=np.float64)
    for a in np.random.default_rng(0).choice([-1.0, 1.0], (20, 2)):
        assert space.contains(as_actions(a, space))


def test_motors_without_a_range_are_refused():
    space = spaces.Box(np.float32([-1, 0]), np.float32([1, 0]))
    with pytest.raises(UserError, match="motors that can move"):
        box("action", space)


def test_a_layer_of_late_commands_alone_can_be_switched_off():
    p = policy(("late_1",))
    assert len(p.plastic_layers()) == 1
    Player(p, "off")
    state = play(p, Robots(), 5)
    np.testing.assert_array_equal(p.fast_weight_norms(state), np.zeros((8, 1)))


def test_a_policy_that_was_saved_frozen_comes_back_frozen(tmp_path, fitted):
    fitted.prepared(frozen=True).save(tmp_path)
    raw = np.random.default_rng(0).normal(size=(30, 2, 3))  # nothing that a pendulum does
    loaded, state = AdaptivePolicy.load(tmp_path), None
    for o in raw:
        actions, state = loaded.predict(o, state, deterministic=True)
        np.testing.assert_array_equal(actions, fitted.agent.predict(o, deterministic=True)[0])


def test_what_is_held_out_are_the_last_steps_and_the_starts_are_those_of_all(monkeypatch):
    seen = {}

    def fit(model, training, held_out, *args):
        seen.update(training=training, held_out=held_out)
        model.requires_grad_(False)
        return np.zeros(len(model.components))

    monkeypatch.setattr("sb3_plastic.adaptive.policy.fit", fit)

    def calibrate(layer, held_out, first, learn_rule):
        seen.update(on=held_out, first=first)
        return layer.settings

    monkeypatch.setattr("sb3_plastic.adaptive.policy.calibrate", calibrate)
    AdaptivePolicy.fit(Wanderer(), DummyVecEnv([Counting] * 2), n_steps=200, net_arch=(4,), members=1)
    assert seen["training"].o[:, 0, 0].tolist() == [*range(95)]
    assert seen["held_out"].o[:, 0, 0].tolist() == [*range(95, 100)]
    assert seen["on"] is seen["held_out"]
    np.testing.assert_array_equal(seen["first"], np.zeros((2, 3)))


def test_hypotheses_keep_their_thresholds_and_new_ones_get_the_median():
    known = {"nominal": 2.0, "motors": 3.0, "wires": 9.0, "plugs": 4.0}
    p = policy(("motors", "wires", "plugs"))
    p.layer = type(p.layer)(p.layer.model, replace(p.layer.settings, surprise_threshold=known))
    other = p.with_hypotheses("wires", "lms").layer
    assert [rates.threshold for rates in other.rates] == [2.0, 9.0, 3.5]
    again = p.with_hypotheses("lms").with_hypotheses("wires", "motors").layer  # by way of another
    assert [rates.threshold for rates in again.rates] == [2.0, 9.0, 3.0]


def test_a_seed_of_numpy_seeds_a_calibration_too():
    class Still(gym.Env):
        observation_space, action_space = Wanderer.observation_space, Wanderer.action_space

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return self.np_random.normal(size=3), {}

        def step(self, action):
            return self.np_random.normal(size=3), 0.0, False, False, {}

    found = [policy().with_settings(policy().layer.settings, Still(), 100, seed=s) for s in (3, np.int64(3), 4)]
    one, same, other = (p.layer.settings for p in found)
    assert one == same != other


@pytest.mark.parametrize("algorithm", [PPO, SAC])
def test_a_layer_around_an_agent_just_trained_with_gsde_is_copied(algorithm):
    length = dict(n_steps=32, batch_size=32) if algorithm is PPO else dict(learning_starts=8)
    model = algorithm("MlpPolicy", Counting(20), use_sde=True, policy_kwargs=dict(net_arch=[8]), seed=0, **length)
    own = policy(agent=agent_of(model.learn(32), None))
    other = copy.deepcopy(own)
    observations = np.ones((2, 3))
    expected = own.predict(observations, deterministic=True)[0]
    with torch.no_grad():
        for parameter in own.agent.policy.parameters():
            parameter.zero_()
    np.testing.assert_array_equal(other.predict(observations, deterministic=True)[0], expected)
    assert not own.predict(observations, deterministic=True)[0].any()
