"""`sb3-plastic package`: the folder that a model hub expects, through the command line."""

import json
import math
import re
import statistics
from pathlib import Path

import gymnasium as gym
import pytest
from huggingface_hub import ModelCard
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from sb3_plastic import PlasticPPO, export_policy, load_policy
from sb3_plastic.adaptive import AdaptivePolicy
from sb3_plastic.artefacts.card import card
from sb3_plastic.artefacts.contents import Contents
from sb3_plastic.artefacts.enjoying import play
from sb3_plastic.artefacts.packaging import _noted
from sb3_plastic.cli import main
from sb3_plastic.evaluation.loading import load_model
from sb3_plastic.evaluation.settings import ModelSettings

RUN = Path(__file__).parents[1] / "docs" / "results" / "learning" / "agents" / "plastic_ppo" / "HalfCheetah-v5_1"


@pytest.fixture(scope="module")
def cheetah(tmp_path_factory):
    """The package of the shipped HalfCheetah."""
    folder = tmp_path_factory.mktemp("hub") / "cheetah"
    arguments = ["--episodes", "2", "--seed", "0", "--video-steps", "3"]  # seed 0: as the card's code has it
    assert main(["package", str(RUN), "--to", str(folder), *arguments]) == 0
    return folder


def results_of(folder):
    return json.loads((folder / "results.json").read_text())


def test_a_package_holds_model_card_results_and_video(cheetah):
    names = {"config.json", "policy.safetensors", "README.md", "results.json", "replay.mp4", ".gitattributes"}
    assert {path.name for path in cheetah.iterdir()} == names
    assert (cheetah / "replay.mp4").read_bytes()[4:8] == b"ftyp"
    lines = (cheetah / ".gitattributes").read_text().splitlines()
    kept_apart = {line.split()[0] for line in lines if "filter=lfs" in line}
    assert kept_apart == {"*.mp4", "*.safetensors"}  # which a hub refuses in git itself
    assert "*.json -text" in lines  # or git for Windows changes what the checksums are of


def test_a_hub_reads_the_return_from_the_card(cheetah):
    card, results = ModelCard.load(cheetah / "README.md"), results_of(cheetah)
    (measured,) = card.data.eval_results
    assert (measured.dataset_name, measured.metric_type) == ("HalfCheetah-v5", "mean_reward")
    assert measured.metric_value == f"{results['mean_reward']:.2f} +/- {results['std_reward']:.2f}"
    assert card.data.library_name == "stable-baselines3"
    assert {"reinforcement-learning", "HalfCheetah-v5", "spiking-neural-network"} <= {*card.data.tags}
    assert results["command"].startswith("sb3-plastic package ")
    assert results["command"] in card.text
    assert f" {RUN.name} --to {cheetah.name} " in results["command"]  # no folder of this machine


def test_the_code_of_the_card_gives_a_return_that_was_measured(cheetah, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", (cheetah / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(cheetah)
    exec(code, {})
    results = results_of(cheetah)
    assert float(capsys.readouterr().out) == pytest.approx(results["returns"][0])
    assert sum(results["returns"]) / 2 == pytest.approx(results["mean_reward"])
    assert results["mean_reward"] > 4000
    assert results["std_reward"] == pytest.approx(statistics.pstdev(results["returns"]))


def test_a_robot_that_is_not_perturbed_goes_by_its_stock_name(cheetah, tmp_path):
    assert _noted(cheetah, ModelSettings()) == "HalfCheetah-v5"
    training = {"env_id": "sb3_plastic/PerturbedHalfCheetah-v0"}
    for kwargs, expected in (({}, "HalfCheetah-v5"), ({"scenario": "nda-v1/train"}, training["env_id"])):
        export_policy(load_policy(cheetah).policy, tmp_path / "other", training={**training, "env_kwargs": kwargs})
        assert _noted(tmp_path / "other", ModelSettings()) == expected


def test_an_adaptive_policy_is_packaged_as_it_is(tmp_path, capsys):
    venv = make_vec_env("Pendulum-v1", n_envs=2)
    policy = AdaptivePolicy.fit(PPO("MlpPolicy", venv), venv, n_steps=400, epochs=8, hypotheses=("motors",))
    policy.save(tmp_path / "adaptive")
    arguments = ["--to", str(tmp_path / "hub"), "--env", "Pendulum-v1", "--episodes", "1", "--no-video"]
    (tmp_path / "hub" / "agent").mkdir(parents=True)
    (tmp_path / "hub" / "agent" / ".policy.0123abcd.safetensors").touch()  # as a kill leaves it
    assert main(["package", str(tmp_path / "adaptive"), *arguments]) == 0
    for name in ("results.json", "README.md"):  # as one that was killed after its film
        (tmp_path / "hub" / name).unlink()
    (tmp_path / "hub" / "replay.mp4").write_text("of another model")
    assert main(["package", str(tmp_path / "adaptive"), *arguments]) == 0
    assert load_model(tmp_path / "hub")[1] == "adaptive"
    assert not (tmp_path / "hub" / "replay.mp4").exists()
    assert "adaptive-control" in ModelCard.load(tmp_path / "hub" / "README.md").data.tags
    capsys.readouterr()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    arguments = ["--to", str(tmp_path / "other"), "--env", "Pendulum-v1"]
    assert main(["package", str(tmp_path / "adaptive"), *arguments]) == 2
    assert "Choose another folder" in capsys.readouterr().err


def test_what_is_in_the_folder_stays_where_nothing_can_be_packaged(tmp_path, capsys):
    mine = {"README.md": "mine", "results.json": "{}", "replay.mp4": "film", "thesis.tex": "all"}
    for name, content in mine.items():
        (tmp_path / name).write_text(content)
    for model in ("typo.zip", str(RUN)):
        assert main(["package", model, "--to", str(tmp_path)]) == 2
    assert "Choose another folder" in capsys.readouterr().err
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == mine


def test_a_folder_with_a_configuration_of_something_else_is_no_package(tmp_path, capsys):
    mine = {"README.md": "mine", "config.json": "{}"}
    for name, content in mine.items():
        (tmp_path / name).write_text(content)
    assert main(["package", str(RUN), "--to", str(tmp_path), "--no-video"]) == 2
    assert "Choose another folder" in capsys.readouterr().err
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == mine


def test_a_damaged_model_replaces_no_package(tmp_path, capsys):
    damaged = PPO("MlpPolicy", "Pendulum-v1", n_steps=8, batch_size=8).policy
    export_policy(damaged, tmp_path / "damaged", training={"env_id": "Pendulum-v1"})
    tensors = tmp_path / "damaged" / "policy.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1])
    hub = {"README.md": "card", "results.json": "{}", "config.json": "{}", "policy.safetensors": "tensors"}
    (tmp_path / "hub").mkdir()
    for name, content in hub.items():
        (tmp_path / "hub" / name).write_text(content)
    assert main(["package", str(tmp_path / "damaged"), "--to", str(tmp_path / "hub"), "--no-video"]) == 2
    assert "policy.safetensors" in capsys.readouterr().err
    assert {path.name: path.read_text() for path in (tmp_path / "hub").iterdir()} == hub


def test_an_export_without_an_environment_has_a_card_whose_command_names_it(tmp_path, capsys):
    policy = tmp_path / "pendulum"
    PlasticPPO("PlasticPolicy", "Pendulum-v1", seed=0).policy.export(policy)
    argv = ["package", str(policy), "--to", str(tmp_path / "hub"), "--no-video", "--episodes", "1"]
    assert main([*argv, "--env", "Pendulum-v1"]) == 0
    assert "sb3-plastic enjoy --model . --env Pendulum-v1 --no-render" in (tmp_path / "hub" / "README.md").read_text()
    assert results_of(tmp_path / "hub")["returns"] == play(
        policy, ModelSettings("Pendulum-v1"), episodes=1, seed=10_000
    )
    before = {path.name for path in (tmp_path / "hub").iterdir()}
    for wrong in ([], ["--env", "Pendulum-v1", "--vecnorm", "s.pkl"], ["--env", "Pendulum-v1", "--algo", "sac"]):
        assert main([*argv, *wrong]) == 2
        assert {path.name for path in (tmp_path / "hub").iterdir()} == before
    assert "leave out --algo" in capsys.readouterr().err


class Broken(gym.RewardWrapper):
    def reward(self, reward):
        return float("nan")


def test_returns_that_are_not_finite_are_not_published(tmp_path, capsys):
    PPO("MlpPolicy", "Pendulum-v1", n_steps=8, batch_size=8).save(tmp_path / "m.zip")
    argv = ["--env", "Pendulum-v1", "--wrapper", f"{Broken.__module__}.Broken", "--episodes", "1", "--no-video"]
    assert main(["package", str(tmp_path / "m.zip"), "--to", str(tmp_path / "hub"), *argv]) == 2
    assert "Returns in Pendulum-v1 are [nan]: a reward is not finite" in capsys.readouterr().err
    assert not (tmp_path / "hub" / "README.md").exists()


def test_where_nothing_can_be_drawn_the_error_names_the_way_out(tmp_path, capsys):
    env = "sb3_plastic/CueAccumulation-v0"
    PPO("MlpPolicy", env, n_steps=8, batch_size=8).save(tmp_path / "m.zip")
    argv = ["package", str(tmp_path / "m.zip"), "--to", str(tmp_path / "hub"), "--env", env, "--episodes", "1"]
    assert main(argv) == 2
    assert "Without one: --no-video" in capsys.readouterr().err
    assert not (tmp_path / "hub" / "README.md").exists()
    VecNormalize(make_vec_env(env)).save(str(tmp_path / "v.pkl"))
    assert main([*argv, "--no-video", "--vecnorm", str(tmp_path / "v.pkl")]) == 0
    assert load_policy(tmp_path / "hub").normalization.mean
    assert main(argv) == 2
    assert not (tmp_path / "hub" / "README.md").exists(), "the card of the former package"


def test_a_card_says_what_was_measured_and_how_it_is_played():
    results = dict(env_id="Pendulum-v1", mean_reward=-150.0, std_reward=50.0, returns=[-100.0, -200.0], seed=7)
    results |= dict(n_eval_episodes=2, command="", eval_datetime="today", versions={"sb3_plastic": "1"})
    facts = {"env id": "Pendulum-v1", "env kwargs": {"g": 9.8, "bounds": [math.inf, "inf"]}, "env wrapper": ["a.b"]}
    agent = Contents("export", "stable_baselines3.common.policies.ActorCriticPolicy", {}, {}, facts)
    text = card(results, agent, adaptive=False, with_video=False)
    assert "| -150.0 | 50.0 | -200.0 | -100.0 | 2 |" in text
    assert "Seeds 7 to 8, the most likely actions" in text
    assert "The training wrapped the environment" in text
    assert "spiking" not in text
    assert "enjoy --model . --no-render" in text
    (kwargs,) = re.findall(r'gym\.make\("Pendulum-v1", \*\*(.*)\)', text)
    assert eval(kwargs) == facts["env kwargs"], "code that runs: no name is needed for what is not finite"
    elsewhere = card(results | {"env_id": "Pole-v0", "seed": 7, "n_eval_episodes": 1}, agent, False, False)
    assert "enjoy --model . --env Pole-v0 --no-render" in elsewhere
    assert "Seed 7, the most likely actions" in elsewhere
