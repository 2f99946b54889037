"""`export`, `inspect` and `enjoy --model`, through the command line."""

import json
import re
import shutil
import statistics
import zipfile
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from envs import BOX, RandomEnv, random_vec_env, small_ppo
from gymnasium import spaces
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecNormalize

from sb3_plastic import PlasticPPO, export_policy, load_policy
from sb3_plastic.adaptive import AdaptivePolicy
from sb3_plastic.artefacts import enjoying
from sb3_plastic.artefacts.enjoying import play
from sb3_plastic.artefacts.exporting import export_model
from sb3_plastic.artefacts.inspection import inspect_model
from sb3_plastic.artefacts.packaging import FOLDERS
from sb3_plastic.cli import main
from sb3_plastic.errors import UserError
from sb3_plastic.evaluation import evaluate_adaptation
from sb3_plastic.evaluation.settings import ModelSettings
from sb3_plastic.evaluation.zoo_files import zoo_files
from sb3_plastic.safe import RefusedError
from sb3_plastic.seals import digest
from sb3_plastic.simulator import is_headless
from sb3_plastic.snn.config import SNNConfig
from sb3_plastic.wrappers import PreviousActionReward

RUN = Path(__file__).parent.parent / "docs" / "results" / "learning" / "agents" / "plastic_ppo" / "HalfCheetah-v5_1"
ZIP = RUN / "HalfCheetah-v5.zip"
ADAPTIVE = RUN.parents[3] / "adaptive" / "HalfCheetah-v5"
NOTHING, PENDULUM = ModelSettings(), ModelSettings("Pendulum-v1")  # what is given beside the model


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "cheetah"
    assert main(["export", str(RUN), "--to", str(folder)]) == 0
    return folder


def test_a_model_is_named_by_its_place_or_as_an_option_and_not_twice(tmp_path, capsys):
    by_name, by_place = tmp_path / "name", tmp_path / "place"
    assert main(["export", "--model", str(RUN), "--out", str(by_name)]) == 0
    assert main(["export", str(RUN), "--to", str(by_place)]) == 0
    assert (by_name / "policy.safetensors").read_bytes() == (by_place / "policy.safetensors").read_bytes()
    capsys.readouterr()
    printed = []
    for words in ([str(by_name)], ["--model", str(by_name)]):
        assert main(["inspect", *words]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    for words in ([], [str(RUN), "--model", str(RUN)]):
        with pytest.raises(SystemExit):
            main(["export", *words, "--out", str(tmp_path / "none")])


def test_an_export_notes_where_it_comes_from(exported):
    training = load_policy(exported).training
    assert training["algo"] == "plastic_ppo"
    assert training["env_id"] == "HalfCheetah-v5"
    assert training["num_timesteps"] == 1001472


def test_statistics_and_an_environment_that_are_named_are_exported_instead_of_those_beside_the_model(tmp_path):
    VecNormalize(make_vec_env("HalfCheetah-v5")).save(
        str(tmp_path / "others.pkl")
    )  # of no observation: all means are 0
    words = ["--to", str(tmp_path / "export"), "--vecnorm", str(tmp_path / "others.pkl"), "--env", "Mine-v0"]
    assert main(["export", str(RUN), *words]) == 0
    exported = load_policy(tmp_path / "export")
    assert not exported.normalization.mean[""].any()
    assert exported.training["env_id"] == "Mine-v0"


def test_an_export_is_replaced_but_nothing_else_is(exported, tmp_path, capsys):
    shutil.copytree(exported, tmp_path / "again")
    assert main(["export", str(ZIP), "--to", str(tmp_path / "again")]) == 0
    assert main(["export", str(ZIP), "--to", str(tmp_path)]) == 2
    assert "Choose another folder" in capsys.readouterr().err
    assert main(["export", str(exported), "--to", str(tmp_path / "third")]) == 2


def test_an_export_into_a_package_is_refused_whose_card_would_be_of_another_model(exported, tmp_path, capsys):
    shutil.copytree(exported, tmp_path / "package")
    (tmp_path / "package" / "results.json").write_text("{}")
    assert main(["export", str(ZIP), "--to", str(tmp_path / "package")]) == 2
    assert "holds a package" in capsys.readouterr().err


def test_a_model_has_as_many_parameters_in_its_export(tmp_path):
    model = PPO("CnnPolicy", FakeImageEnv(n_channels=1, screen_height=36, screen_width=36), n_steps=8, batch_size=8)
    model.save(tmp_path / "cnn.zip")
    export_policy(model.policy, tmp_path / "export")
    counts = [inspect_model(tmp_path / name)["parameters"] for name in ("cnn.zip", "export")]
    assert counts[0]["all"] == counts[1]["all"] == sum(p.numel() for p in model.policy.parameters())


def test_drawn_actions_follow_the_seed(exported):
    first, again, other = (play(exported, NOTHING, episodes=1, seed=seed, deterministic=False) for seed in (3, 3, 4))
    assert first == again != other


@pytest.mark.parametrize("algorithm", [PPO, SAC])
def test_noise_of_gsde_follows_the_seed(algorithm, tmp_path):
    algorithm("MlpPolicy", "Pendulum-v1", use_sde=True, policy_kwargs=dict(net_arch=[8])).save(tmp_path / "m.zip")
    first, again, other = (
        play(tmp_path / "m.zip", PENDULUM, episodes=1, seed=seed, deterministic=False) for seed in (3, 3, 4)
    )
    assert first == again != other


def test_evaluations_of_zip_run_and_export_are_the_same(exported):
    settings = dict(tier="smoke", episodes=1, steps=30, protocols=("static",), controls=("intact", "off"))
    tables = [evaluate_adaptation(path, label="x", **settings).records for path in (ZIP, RUN, exported)]
    for table in tables[1:]:
        assert table.equals(tables[0])


def test_enjoy_plays_run_and_export_alike(exported, capsys):
    (total,) = play(RUN, NOTHING, episodes=1)
    capsys.readouterr()
    assert main(["enjoy", f"--model={exported}", "--no-render", "--episodes", "1"]) == 0
    assert f"Mean return of 1 episodes: {total:.1f}" in capsys.readouterr().out


def test_a_checkpoint_has_the_statistics_that_were_saved_with_it(exported, tmp_path, capsys):
    zoo = tmp_path / "HalfCheetah-v5"
    shutil.copytree(RUN / "HalfCheetah-v5", zoo)
    shutil.copy(ZIP, tmp_path / "rl_model_1001472_steps.zip")
    (zoo / "vecnormalize.pkl").rename(tmp_path / "rl_model_vecnormalize_1001472_steps.pkl")
    assert play(tmp_path, NOTHING, episodes=1) == play(exported, NOTHING, episodes=1)
    (tmp_path / "rl_model_vecnormalize_1001472_steps.pkl").unlink()
    for command in ("enjoy", "evaluate", "export"):
        more = {"enjoy": ["--no-render"], "evaluate": ["--out", "o"], "export": ["--to", str(tmp_path / "e")]}[command]
        model = [*(["--model"] if command != "export" else []), str(tmp_path)]
        assert main([command, *model, *more]) == 2
        assert "was trained with VecNormalize" in capsys.readouterr().err
    assert not (tmp_path / "e").exists()


class Endless(RandomEnv):
    """Nothing ends its episodes: neither itself, nor what is registered of it."""

    def __init__(self):
        super().__init__(BOX, BOX, length=10**9)


def test_an_episode_that_nothing_limits_is_played_for_a_thousand_steps(tmp_path, monkeypatch):
    monkeypatch.setitem(gym.registry, "Endless-v0", gym.envs.registration.EnvSpec("Endless-v0", entry_point=Endless))
    PPO("MlpPolicy", gym.make("Endless-v0"), n_steps=8, batch_size=8).save(tmp_path / "m.zip")
    steps = []
    monkeypatch.setattr(Endless, "step", lambda env, action: steps.append(1) or RandomEnv.step(env, action))
    play(tmp_path / "m.zip", ModelSettings(env="Endless-v0"), episodes=1)
    assert len(steps) == 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--episodes", "0"], "episodes must be a whole number at least 1, got 0"),
        (["--env", "Ant-v5"], "observation space has shape (17,), that of Ant-v5 has (105,)"),
    ],
)
def test_enjoy_refuses_what_it_cannot_play(exported, arguments, message, capsys):
    assert main(["enjoy", "--model", str(exported), "--no-render", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_model_whose_frames_were_stacked_is_left_to_rl_zoo(tmp_path, capsys):
    shutil.copytree(RUN, tmp_path / "run")
    config = tmp_path / "run" / "HalfCheetah-v5" / "config.yml"
    config.write_text(config.read_text() + "  - - frame_stack\n    - 2\n")
    for command in (["enjoy", "--no-render"], ["evaluate", "--out", str(tmp_path / "results")]):
        assert main([*command, "--model", str(tmp_path / "run")]) == 2
        said = capsys.readouterr().err
        assert "was trained with frame_stack" in said
        assert "vec_env_wrapper: [{stable_baselines3.common.vec_env.VecFrameStack: {n_stack: 4}}]" in said
    assert main(["export", str(tmp_path / "run"), "--to", str(tmp_path / "export")]) == 0
    assert main(["enjoy", "--model", str(tmp_path / "export"), "--no-render"]) == 2
    assert "was trained with frame_stack" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["model", "run", "export"])
def test_inspect_tells_what_is_there(exported, kind, capsys):
    path = {"model": ZIP, "run": RUN, "export": exported}[kind]
    assert main(["inspect", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kind"] == kind
    assert found["asks to run code"] == {}
    assert found["parameters"]["all"] == sum(count for part, count in found["parameters"].items() if part != "all")
    first, second = found["layers"]
    assert (first["inputs"], first["neurons"], first["rule"], second["inputs"]) == (17, 64, "oja", 64)
    assert found["versions"]["made with"]["torch"]
    assert main(["inspect", str(path)]) == 0
    assert "snn.layers.1: 64 -> 64 neurons, rule oja, modulation simple" in capsys.readouterr().out


def test_inspect_gives_parameters_in_their_own_units(exported):
    policy = load_policy(exported).policy
    parameters = policy.snn.layers[0].effective_parameters()
    learned = inspect_model(exported)["layers"][0]["learned"]
    for name, tensor in (("alpha", parameters.alpha), ("eta", parameters.eta), ("modulator a", parameters.a)):
        values = tensor.detach().double().numpy()
        np.testing.assert_allclose(learned[name]["mean"], values.mean(), rtol=1e-6)
        np.testing.assert_allclose(learned[name]["max"], values.max(), rtol=1e-6)


def test_inspect_tells_of_an_adaptive_policy_its_agent_and_its_layer(capsys):
    config = json.loads((ADAPTIVE / "adaptive.json").read_text())
    assert main(["inspect", str(ADAPTIVE), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["layers"][0]["rule"], found["asks to run code"]) == ("adaptive", "oja", {})
    sums = {name: found["sha256"][name] for name in config["sha256"]}
    assert sums == config["sha256"] | {"adaptive.json": sums["adaptive.json"]}  # its own is one of its data
    layer = found["adaptive layer"]
    assert layer["forward model"] == "3 x mlp, layers of 192, 192"
    assert layer["nominal steps learned from"] == config["report"]["n_steps"]
    assert layer["share unexplained, by observation"]["9"] == config["report"]["unexplained"]["9"]
    assert layer["surprise threshold of each hypothesis"]["wires"] == config["settings"]["surprise_threshold"]["wires"]
    assert main(["inspect", str(ADAPTIVE)]) == 0
    out = capsys.readouterr().out
    mean = statistics.mean(config["report"]["unexplained"].values())
    assert re.search(r"share unexplained, mean: +(\S+)", out)[1] == f"{mean:.4f}"
    assert "sb3_plastic            0.1.0" in out


@pytest.mark.parametrize("named", ["HalfCheetah-v5.zip", "best_model.zip", "."])
def test_inspect_looks_at_what_the_other_commands_read(named, tmp_path, capsys):
    shutil.copytree(RUN, tmp_path / "run")
    if named != "HalfCheetah-v5.zip":
        (tmp_path / "run" / "HalfCheetah-v5.zip").rename(tmp_path / "run" / "best_model.zip")
    (tmp_path / "run" / "HalfCheetah-v5" / "args.yml").write_text("env: !!python/name:os.system\n")
    assert main(["inspect", str(tmp_path / "run" / named)]) == 0
    assert "python/name:os.system" in capsys.readouterr().out
    assert main(["enjoy", "--no-render", "--model", str(tmp_path / "run" / named)]) == 2


def test_arguments_of_the_environment_that_are_not_finite_come_back(tmp_path):
    shutil.copytree(RUN, tmp_path / "run")
    config = tmp_path / "run" / "HalfCheetah-v5" / "args.yml"
    config.write_text("env: HalfCheetah-v5\nenv_kwargs: {forward_reward_weight: .inf}\n")
    assert main(["export", str(tmp_path / "run"), "--to", str(tmp_path / "cheetah")]) == 0
    assert zoo_files(tmp_path / "cheetah").env_kwargs(NOTHING) == {"forward_reward_weight": float("inf")}


def test_an_environment_that_does_not_take_the_arguments_of_the_training_is_answered(exported, tmp_path, capsys):
    shutil.copytree(RUN, tmp_path / "run")
    (tmp_path / "run" / "HalfCheetah-v5" / "args.yml").write_text("env: HalfCheetah-v5\nenv_kwargs: {wings: 2}\n")
    assert main(["enjoy", "--no-render", "--model", str(tmp_path / "run")]) == 2
    assert "cannot be made with the arguments {'wings': 2}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ("wings:Swing-v0", "No module named 'wings'"),
        ("wings/Swing-v0", "needs the module that registers it"),
        ("Swing-v0", "needs the module that registers it: --env module:Env-v0, or --import module"),
    ],
)
@pytest.mark.parametrize("command", [["enjoy", "--no-render"], ["adapt", "--out", "adaptive"]])
def test_an_environment_whose_module_is_missing_is_answered(command, env, message, exported, capsys):
    name, *arguments = command
    assert main([name, "--model", str(exported), *arguments, "--env", env]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.skipif(not is_headless(), reason="there is a display")
def test_without_a_display_enjoy_says_so_before_a_window_is_asked_for(exported, capsys):
    assert main(["enjoy", "--model", str(exported)]) == 2
    assert "add --no-render" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["adaptive.safetensors", "agent/config.json", "agent/policy.safetensors"])
def test_inspect_refuses_an_adaptive_policy_that_was_changed(name, tmp_path, capsys):
    shutil.copytree(ADAPTIVE, tmp_path / "changed")
    file = tmp_path / "changed" / name
    file.write_bytes(file.read_bytes()[:-1] + b" ")
    assert main(["inspect", str(tmp_path / "changed")]) == 2
    assert file.name in capsys.readouterr().err


def test_inspect_refuses_a_layer_without_its_settings(tmp_path, capsys):
    shutil.copytree(ADAPTIVE, tmp_path / "changed")
    file = tmp_path / "changed" / "adaptive.json"
    config = json.loads(file.read_text())
    del config["settings"]["calm"]
    config["sha256"][file.name] = digest(config, file.name)
    file.write_text(json.dumps(config))
    assert main(["inspect", str(tmp_path / "changed")]) == 2
    assert "calm" in capsys.readouterr().err


def with_settings(folder, **settings):
    """The layer that ships, with other settings, whole."""
    shutil.copytree(ADAPTIVE, folder)
    file = folder / "adaptive.json"
    config = json.loads(file.read_text())
    config["settings"] |= settings
    config["sha256"][file.name] = digest(config, file.name)
    file.write_text(json.dumps(config))
    return folder


def test_inspect_shows_every_setting_of_a_layer(tmp_path, capsys):
    settings = dict(probing=0.25, rule={"wires": {"rate": 1.5}}, sensor_zero=[0.5], setting_to_come=7.5)
    assert main(["inspect", str(with_settings(tmp_path / "layer", **settings))]) == 0
    out = capsys.readouterr().out
    for shown in ("probing: +0.2500", "wires, rate +1.500", r"sensor zero: +\[0.5\]", "setting to come: +7.5000"):
        assert re.search(shown, out), shown


@pytest.mark.parametrize("frozen", [False, True])
def test_inspect_says_whether_a_layer_is_frozen(frozen, tmp_path, capsys):
    AdaptivePolicy.load(ADAPTIVE).prepared(frozen).save(tmp_path / "layer")
    assert main(["inspect", str(tmp_path / "layer")]) == 0
    assert re.search(f"frozen: +{frozen}", capsys.readouterr().out)


def test_a_layer_with_settings_of_a_later_version_is_not_said_to_be_damaged(tmp_path):
    with pytest.raises(UserError, match="does not know, setting_to_come: it was made by a later version"):
        AdaptivePolicy.load(with_settings(tmp_path / "layer", setting_to_come=7.5))


@pytest.mark.parametrize(
    ("name", "value"), [("settings", {"head_start": 1e9}), ("sha256", []), ("sha256", {}), ("lifetime", True)]
)
def test_a_layer_whose_settings_were_changed_is_refused(name, value, tmp_path, capsys):
    shutil.copytree(ADAPTIVE, tmp_path / "changed")
    file = tmp_path / "changed" / "adaptive.json"
    config = json.loads(file.read_text())
    config[name] = config[name] | value if name == "settings" else value
    file.write_text(json.dumps(config))
    assert main(["inspect", str(tmp_path / "changed")]) == 2
    assert "its checksum does not fit: it was changed since it was written" in capsys.readouterr().err


def test_a_folder_without_a_model_is_answered(tmp_path, capsys):
    for command in (["inspect", str(tmp_path)], ["export", str(tmp_path), "--to", str(tmp_path / "x")]):
        assert main(command) == 2
    shutil.copy(ZIP, tmp_path / "a.zip")
    shutil.copy(ZIP, tmp_path / "b.zip")
    assert main(["inspect", str(tmp_path)]) == 2
    assert "a.zip, b.zip" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["inspect", "export", "evaluate"])
def test_damaged_models_are_answered(command, tmp_path, capsys):
    whole, rng = ZIP.read_bytes(), np.random.default_rng(0)
    path = tmp_path / "m.zip"
    arguments = {
        "inspect": [path],
        "export": [path, "--to", tmp_path / "out"],
        "evaluate": ["--model", path, "--env", "HalfCheetah-v5", "--out", tmp_path / "out"],
    }[command]
    with zipfile.ZipFile(ZIP) as archive:
        policy = archive.getinfo("policy.pth").header_offset
    for at in [0, 100, policy + 300, *rng.integers(len(whole), size=3)]:
        path.write_bytes(whole[:at])
        assert main([command, *map(str, arguments)]) == 2
        assert "m.zip" in capsys.readouterr().err
    path.write_bytes(whole[: policy + 300] + b"\x00\xff" + whole[policy + 302 :])
    assert main([command, *map(str, arguments)]) == 2
    assert "damaged" in capsys.readouterr().err


def test_a_saved_policy_is_no_model_and_the_answer_says_what_to_save(tmp_path, capsys):
    PlasticPPO.load(ZIP).policy.save(str(tmp_path / "policy.zip"))
    assert main(["inspect", str(tmp_path / "policy.zip")]) == 2
    assert "it lacks 'data', which an algorithm's save() writes" in capsys.readouterr().err


def test_rl_zoos_doors_warn_in_one_line(tmp_path, monkeypatch, capsys):
    from sb3_plastic import cli

    monkeypatch.setattr(cli, "call", lambda *arguments: None)
    monkeypatch.setattr(cli, "save_figures", lambda path: None)
    for arguments in (
        ["enjoy", "--env", "Ant-v5", "--no-render"],
        ["record", "--env", "Ant-v5"],
        ["train", "-i", "model.zip"],
        ["train", "--conf-file=mine.yml"],
        ["tune", "-conf", "mine.yml"],
        ["train", "-imodel.zip"],
        ["train", "--trained", "model.zip"],
        ["plot", "file", "-i", "x", "--save", str(tmp_path / "x.png")],
        ["plot", "file", "--input", "x", "--save", str(tmp_path / "x.png")],
    ):
        assert main(arguments) == 0
        assert capsys.readouterr().err.count("Warning: RL Zoo unpickles") == 1, arguments
    assert main(["train", "--env", "Ant-v5"]) == 0
    assert "RL Zoo unpickles" not in capsys.readouterr().err


def test_a_refusal_of_what_an_export_notes_down_names_its_file(exported, tmp_path):
    policy = load_policy(exported)
    training = {**policy.training, "env_wrapper": "os.system"}
    export_policy(policy.policy, tmp_path / "asking", policy.normalization, training)
    with pytest.raises(RefusedError, match=r"asking/config\.json"):
        zoo_files(tmp_path / "asking").wrappers(NOTHING)


def test_inspect_tells_of_actor_and_critic_with_the_arguments_of_each_layer(tmp_path, capsys):
    options = dict(critic="plastic", rule=["none", "oja"], learn=["rho"], recurrent=True)
    env = random_vec_env(spaces.Dict({"a": BOX, "n": spaces.Discrete(3)}))
    model = small_ppo(env, "MultiInputPolicy", policy_kwargs=options)
    model.save(tmp_path / "m.zip")
    export_model(tmp_path / "m.zip", tmp_path / "export")
    for name in ("m.zip", "export"):
        found = inspect_model(tmp_path / name)
        layers = {layer["name"]: layer for layer in found["layers"]}
        assert [*layers] == [f"{part}.layers.{i}" for part in ("snn", "critic_snn") for i in (0, 1)]
        assert [layer["rule"] for layer in layers.values()] == ["none", "oja"] * 2
        w = model.policy.snn.layers[1].w.detach().double()
        assert layers["snn.layers.1"]["learned"]["w"]["std"] == pytest.approx(w.std(unbiased=False).item())
        assert found["seed"] == 0
        assert {"python", "torch", "stable_baselines3", "gymnasium", "numpy"} <= {*found["versions"]["made with"]}
        assert found["parameters"]["all"] == sum(p.numel() for p in model.policy.parameters())
    assert found["observation space"] == "Dict(a: Box([4], float32), n: Discrete(3))"


def test_inspect_tells_the_default_with_which_a_model_was_saved_whatever_it_is_today(tmp_path, monkeypatch):
    small_ppo(random_vec_env(BOX)).save(tmp_path / "m.zip")
    monkeypatch.setattr("sb3_plastic.artefacts.contents.SNNConfig", lambda: SNNConfig(recurrent=True))
    assert [layer["recurrent"] for layer in inspect_model(tmp_path / "m.zip")["layers"]] == [False, False]


# Episodes


@pytest.fixture(scope="module")
def pendulum(tmp_path_factory):
    """A model that swings a pendulum, as SB3 saves it."""
    file = tmp_path_factory.mktemp("pendulum") / "m.zip"
    PPO("MlpPolicy", "Pendulum-v1", n_steps=8, batch_size=8, seed=0, device="cpu").save(file)
    return file


def test_the_seeds_of_episodes_count_on(pendulum):
    first, second = play(pendulum, PENDULUM, episodes=2, seed=3)
    assert [second] == play(pendulum, PENDULUM, episodes=1, seed=4) != [first]


def test_actions_are_drawn_and_another_seed_is_played_where_that_is_asked_for(pendulum, capsys):
    said = []
    for words in ([], ["--stochastic"], ["--seed", "4"]):
        command = ["enjoy", "--model", str(pendulum), "--env", "Pendulum-v1", "--no-render", "--episodes", "1"]
        assert main([*command, *words]) == 0
        said.append(capsys.readouterr().out)
    assert len({*said}) == 3


def test_a_model_is_given_the_state_of_its_last_episode_when_another_starts(pendulum, monkeypatch):
    seen = []

    class Counting:
        def predict(self, observation, state, episode_start, deterministic):
            seen.append((bool(episode_start[0]), state))
            return np.zeros((1, 1), np.float32), (state or 0) + 1

    monkeypatch.setattr(enjoying, "load_model", lambda *arguments: (Counting(), "counting"))
    play(pendulum, PENDULUM, episodes=2)
    assert [state for starts, state in seen if starts] == [None, 200]  # steps of an episode


def test_a_model_and_its_export_play_in_the_wrappers_of_the_training(tmp_path):
    run = tmp_path / "run"
    (run / "Pendulum-v1").mkdir(parents=True)
    env = PreviousActionReward(gym.make("Pendulum-v1"))
    PPO("MlpPolicy", env, n_steps=8, batch_size=8, seed=0, device="cpu").save(run / "Pendulum-v1.zip")
    (run / "Pendulum-v1" / "args.yml").write_text("env: Pendulum-v1\n")
    (run / "Pendulum-v1" / "config.yml").write_text("env_wrapper: sb3_plastic.wrappers.PreviousActionReward\n")
    assert play(export_model(run, tmp_path / "export"), NOTHING, episodes=1) == play(run, NOTHING, episodes=1)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A model beside which nothing lies, what its commands must be given, and the returns of two episodes."""
    folder = tmp_path_factory.mktemp("alone")
    venv = make_vec_env(lambda: PreviousActionReward(gym.make("InvertedPendulum-v5", reset_noise_scale=0.15)))
    env, returns = VecNormalize(venv), []
    model = PlasticPPO("PlasticPolicy", env, n_steps=32, batch_size=32, seed=0, policy_kwargs=dict(net_arch=[8]))
    model.learn(64)
    model.save(folder / "m.zip")
    env.save(str(folder / "statistics.pkl"))
    env.training = env.norm_reward = False
    for seed in (10_000, 10_001):
        env.seed(seed)
        returns += evaluate_policy(model, env, 1, return_episode_rewards=True)[0]
    given = ["--env", "InvertedPendulum-v5", "--env-kwargs", "reset_noise_scale:0.15"]
    given += ["--wrapper", "sb3_plastic.wrappers.PreviousActionReward"]
    return str(folder / "m.zip"), [*given, "--vecnorm", str(folder / "statistics.pkl")], returns


def test_a_model_beside_which_nothing_lies_plays_as_in_its_training_if_that_is_given(alone, capsys):
    model, given, returns = alone
    assert main(["enjoy", "--model", model, "--no-render", "--episodes", "2", "--seed", "10000", *given]) == 0
    assert [float(line.split()[-1]) for line in capsys.readouterr().out.splitlines()[:2]] == pytest.approx(
        returns, abs=0.06
    )


def test_an_export_notes_what_is_given_of_the_training(alone, tmp_path):
    model, given, returns = alone
    assert main(["export", model, "--to", str(tmp_path / "e"), *given]) == 0
    assert play(tmp_path / "e", NOTHING, episodes=2, seed=10_000) == pytest.approx(returns)


def test_a_package_is_judged_in_the_environment_that_is_given(alone, tmp_path):
    model, given, returns = alone
    words = ["--to", str(tmp_path / "hub"), "--episodes", "2", "--video-steps", "2"]
    assert main(["package", model, *words, *given]) == 0
    assert json.loads((tmp_path / "hub" / "results.json").read_text())["returns"] == pytest.approx(returns)


def test_a_model_beside_which_nothing_lies_is_converted_and_compared(alone, tmp_path, capsys):
    model, given, _ = alone
    words = ["--format", "onnx", "--to", str(tmp_path / "m.onnx"), "--check", "20"]
    assert main(["convert", model, *words, *given]) == 0
    assert "Over 20 steps the actions differ by" in capsys.readouterr().out


def test_a_model_beside_which_nothing_lies_is_filmed(alone, tmp_path, capsys):
    model, given, _ = alone
    words = ["--output", str(tmp_path / "film.gif"), "--steps", "3"]
    assert main(["record", "--model", model, *words, *given[:4], *given[6:]]) == 2
    assert "or in other wrappers" in capsys.readouterr().err
    assert main(["record", "--model", model, *words, *given]) == 0
    assert (tmp_path / "film.gif").is_file()
    assert main(["record", "--model", model, model, *words, *given]) == 2
    assert "--normalization is of one model" in capsys.readouterr().err


# What `inspect` tells


EVALUATED = (
    "normalize",
    "policy_kwargs",
    "env_kwargs",
    "monitor_kwargs",
    "replay_buffer_class",
    "replay_buffer_kwargs",
)
"""What `eval` gets in RL Zoo's exp_manager.py, not what `inspect` looks at: of that an entry may be missing."""


@pytest.mark.parametrize("name", EVALUATED)
def test_inspect_tells_of_every_setting_that_rl_zoo_evaluates(name, tmp_path):
    shutil.copytree(RUN, tmp_path / "run")
    (tmp_path / "run" / "HalfCheetah-v5" / "config.yml").write_text(f"{name}: __import__('os').getcwd()\n")
    assert [*inspect_model(tmp_path / "run")["asks to run code"]] == [f"HalfCheetah-v5/config.yml: {name}"]


def test_the_name_of_a_class_is_no_code(tmp_path):
    shutil.copytree(RUN, tmp_path / "run")
    (tmp_path / "run" / "HalfCheetah-v5" / "config.yml").write_text("replay_buffer_class: HerReplayBuffer\n")
    assert inspect_model(tmp_path / "run")["asks to run code"] == {}


def test_inspect_counts_the_statistics_that_the_other_commands_read(tmp_path):
    shutil.copytree(RUN, tmp_path / "run")
    VecNormalize(make_vec_env("HalfCheetah-v5"), norm_obs=False).save(str(tmp_path / "run" / "HalfCheetah-v5.pkl"))
    exported = export_model(tmp_path / "run", tmp_path / "export")
    found = inspect_model(tmp_path / "run"), inspect_model(exported)
    assert [each["normalised entries"] for each in found] == [0, 0]


@pytest.mark.parametrize(
    ("word", "published"),
    [
        ("/some/folder/m.zip", "m.zip"),
        ("--out=/some/folder/hub", "--out=hub"),
        (r"C:\some\folder\m.zip", "m.zip"),
        (r"\\server\folder\m.zip", "m.zip"),
        ("C:/some/folder/m.zip", "m.zip"),
        ("models/m.zip", "models/m.zip"),
    ],
)
def test_a_published_command_names_no_folders_of_the_machine(word, published):
    assert FOLDERS.sub(r"\1", word) == published
