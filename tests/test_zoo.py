"""RL Zoo's pipelines, each through the door that a user takes: a command in a process of its own."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import zipfile
from ctypes.util import find_library
from pathlib import Path

import numpy as np
import pytest
import yaml
from command_line import answer
from stray_lines import stray_lines

from sb3_plastic.safe import read_pickle
from sb3_plastic.tuning import open_study

ENV = "HalfCheetah-v5"
COMMAND = Path(sys.executable).with_name("sb3-plastic")
ROOT = Path(__file__).parent.parent
# Two robots, and one epoch of updates where the configuration asks for ten.
SMALL = ["-params", "n_envs:2", "n_steps:1024", "n_epochs:1"]


def run(command, cwd, code=0, **environ):
    """Run a command on a machine without a display, and return what it prints."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    environ = {"OMP_NUM_THREADS": "1", **inherited, **environ}
    result = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert result.returncode == code, result.stdout
    return result.stdout


def zoo(*arguments, cwd, code=0, **environ):
    return run([COMMAND, *arguments], cwd, code, **environ)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder in which an agent was trained, two episodes long for each robot."""
    cwd = tmp_path_factory.mktemp("trained")
    arguments = [
        "--seed",
        "1",
        "-tb",
        "tensorboard",
        "--save-freq",
        "2048",
        "--eval-freq",
        "2048",
        "--eval-episodes",
        "2",
        *SMALL,
    ]
    output = zoo("train", "--env", ENV, "-n", "4096", *arguments, cwd=cwd)
    (cwd / "output.txt").write_text(output)
    return cwd


RUN = Path("logs") / "plastic_ppo" / f"{ENV}_1"


def saved(path):
    """The hyperparameters in a saved model."""
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("data"))


# Train


def test_train_writes_what_rl_zoo_reads(trained):
    assert saved(trained / RUN / f"{ENV}.zip")["num_timesteps"] == 4096
    assert {path.name for path in (trained / RUN / ENV).iterdir()} == {
        *("args.yml", "command.txt", "config.yml", "vecnormalize.pkl")
    }
    assert "sb3-plastic train --env" in (trained / RUN / ENV / "command.txt").read_text()


def test_train_prints_no_settings_and_no_warnings(trained):
    output = (trained / "output.txt").read_text()
    assert "Loading hyperparameters from" in output
    assert "OrderedDict" not in output
    assert "Default hyperparameters" not in output
    assert stray_lines(output) == []
    assert not (trained / "MUJOCO_LOG.TXT").exists()


def test_train_logs_the_network_to_tensorboard(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    [run] = (trained / "tensorboard" / ENV).iterdir()
    assert run.name.startswith("PlasticPPO_oja_simple_seed")
    events = EventAccumulator(str(run))
    events.Reload()
    scalars = events.Tags()["scalars"]
    for layer in (0, 1):
        names = ("spike_rate", "silent", "h_norm", "h_saturated", "modulator_mean", "modulator_std", "eta_mean")
        assert {f"snn/layer{layer}_{name}" for name in names} <= {*scalars}
    assert {f"train/grad_norm_{name}" for name in ("actor", "critic", "plasticity")} <= {*scalars}
    rates = events.Scalars("snn/layer0_spike_rate")
    assert [event.step for event in rates] == [2048, 4096] or [event.step for event in rates] == [4096]
    assert all(0 < event.value < 1 for event in rates)


def test_a_teacher_named_in_the_configuration_teaches_less_and_less(tmp_path):
    from stable_baselines3 import PPO
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    PPO("MlpPolicy", "Pendulum-v1", n_steps=16, batch_size=16, seed=0, device="cpu").save(tmp_path / "teacher.zip")
    settings = dict(policy="PlasticPolicy", n_envs=2, n_steps=64, n_epochs=1, policy_kwargs=dict(net_arch=[8]))
    config = {"Pendulum-v1": settings | dict(teacher=dict(model="teacher.zip", algo="PPO", until=0.5))}
    (tmp_path / "taught.yml").write_text(yaml.safe_dump(config))
    arguments = ["--log-interval", "1", "--eval-freq", "-1", "-tb", "board"]
    zoo("train", "--env", "Pendulum-v1", "-conf", "taught.yml", "-n", "512", *arguments, cwd=tmp_path)
    [run] = (tmp_path / "board/Pendulum-v1").iterdir()
    events = EventAccumulator(str(run))
    events.Reload()
    assert [event.value for event in events.Scalars("train/teacher_weight")] == pytest.approx([1.0, 0.5, 0.0])
    assert all(event.value > 0 for event in events.Scalars("train/teacher_kl"))


def test_films_figures_and_a_schedule_of_noise_are_asked_for_in_yaml(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = yaml.safe_load((ROOT / "zoo_configs" / "plastic_ppo.yml").read_text())[ENV]
    settings |= {"n_timesteps": 512, "n_envs": 2, "n_steps": 128, "n_epochs": 1, "batch_size": 256}
    shown = {"sb3_plastic.callbacks.PlasticityCallback": {"every": 2, "video": 12}}
    settings |= {"callback": [shown, {"sb3_plastic.exploration.LogStdSchedule": {"start": -1.5, "end": -3.0}}]}
    (tmp_path / "mine.yml").write_text(yaml.safe_dump({ENV: settings}))
    output = zoo("train", "--env", ENV, "-conf", "mine.yml", "--eval-freq", "-1", "-tb", "runs", cwd=tmp_path)
    assert [line.split(":")[0] for line in stray_lines(output)] == ["Warning"]  # of the file that RL Zoo evaluates
    [run] = (tmp_path / "runs" / ENV).iterdir()
    events = EventAccumulator(str(run))
    events.Reload()
    assert {"snn/episode", "snn/evaluation"} == {*events.Tags()["images"]}
    [film] = events.Images("snn/episode")
    assert film.encoded_image_string.startswith(b"GIF")
    assert "snn/layer0/h" in events.Tags()["histograms"]
    assert events.Scalars("train/std")[0].value == pytest.approx(np.exp(-1.5), rel=1e-5)
    assert {"_hparams_/experiment", "custom_scalars__config__"} <= {*events.summary_metadata}


@pytest.mark.slow
def test_an_interrupted_training_leaves_its_model_and_says_where(tmp_path):
    command = [COMMAND, "train", "--env", "CartPole-v1", "-n", "1000000", "--eval-freq", "-1"]
    environ = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **os.environ}
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    with subprocess.Popen(command, cwd=tmp_path, env=environ, **pipes) as process:
        seen = []
        for line in process.stdout:
            seen.append(line)
            if "fps" in line:
                process.send_signal(signal.SIGINT)
                break
        seen += process.stdout.readlines()
    assert process.returncode == 0, "".join(seen)
    assert seen[-1] == "Saving to logs/plastic_ppo/CartPole-v1_1\n"
    assert 0 < saved(tmp_path / "logs/plastic_ppo/CartPole-v1_1/CartPole-v1.zip")["num_timesteps"] < 1000000


def test_training_continues_from_a_model(trained, tmp_path):
    model = trained / RUN / f"{ENV}.zip"
    # More than a rollout: at the end of its schedule the learning rate is 0.
    output = zoo("train", "--env", ENV, "-n", "4096", "-i", model, "--eval-freq", "-1", *SMALL, cwd=tmp_path)
    assert "Loading pretrained agent" in output
    assert "Loading saved VecNormalize stats" in output
    from sb3_plastic import PlasticPPO

    before, after = (PlasticPPO.load(path, device="cpu").policy for path in (model, tmp_path / RUN / f"{ENV}.zip"))
    assert before.snn_config == after.snn_config
    w_before, w_after = before.snn.layers[0].w, after.snn.layers[0].w
    assert 0 < (w_before - w_after).abs().max() < 0.1  # it learned on, from there


def test_a_training_that_goes_on_has_the_network_of_its_model(trained, tmp_path):
    arguments = ["train", "--env", ENV, "-n", "64", "-i", str(trained / RUN / f"{ENV}.zip"), "-f", str(tmp_path)]
    output = answer([*arguments, "-params", "policy_kwargs:dict(rule='none')"], code=2)
    assert "-i goes on with the network of its model, whatever policy_kwargs are: leave them out." in output


def test_numbers_that_yaml_takes_for_text_are_numbers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yml").write_text(
        "CartPole-v1: {policy: PlasticPolicy, n_timesteps: 64, n_steps: 64, batch_size: 32, learning_rate: 1e-2}"
    )
    answer(["train", "--env", "CartPole-v1", "-conf", "mine.yml", "--eval-freq", "-1", "--save-freq", "-1"], code=0)
    from sb3_plastic import PlasticPPO

    assert PlasticPPO.load(tmp_path / "logs/plastic_ppo/CartPole-v1_1/CartPole-v1.zip").lr_schedule(1) == 0.01


def test_a_search_whose_trials_all_fail_says_why(tmp_path):
    entries = "{policy: PlasticPolicy, n_timesteps: 64, callback: [sb3_plastic.callbacks.PlasticityCallback]}"
    (tmp_path / "mine.yml").write_text(f"CartPole-v1: {entries}")
    arguments = ["--algo", "plastic_es", "--env", "CartPole-v1", "-conf", "mine.yml", "-n", "64", "--n-trials", "1"]
    output = zoo("tune", *arguments, "--n-evaluations", "1", cwd=tmp_path, code=2)
    assert "there is no best one; the last by an error: PlasticityCallback" in output
    assert "the same command goes on" not in output.split("Study:")[1].split("\n", 1)[1]


def test_training_continues_from_a_checkpoint_with_its_statistics(trained, tmp_path):
    shutil.copytree(trained / RUN, tmp_path / "killed")
    shutil.rmtree(tmp_path / "killed" / ENV)  # a training that was killed has not come to its own statistics
    checkpoint = tmp_path / "killed" / "rl_model_2048_steps.zip"
    statistics = [
        checkpoint.with_name("rl_model_vecnormalize_2048_steps.pkl"),
        tmp_path / RUN / ENV / "vecnormalize.pkl",
    ]
    small = ["-params", "n_envs:2", "n_steps:16", "batch_size:32", "n_epochs:1"]
    output = zoo("train", "--env", ENV, "-n", "32", "-i", checkpoint, "--eval-freq", "-1", *small, cwd=tmp_path)
    assert f"Loading VecNormalize stats of the checkpoint, {statistics[0]}" in output
    before, after = (read_pickle(path.read_bytes(), "statistics") for path in statistics)
    assert 0 < after["obs_rms"]["count"] - before["obs_rms"]["count"] <= 2 * 17 + 1  # what it saw since, and a reset
    assert after["training"]
    assert after["norm_reward"]


def test_parameters_change_only_what_they_name(tmp_path):
    change = "policy_kwargs:dict(rule='none', net_arch=dict(pi=[8], vf=[8]))"
    arguments = ["-n", "32", "--eval-freq", "-1", "-params", "n_envs:2", "n_steps:16", "batch_size:32", change]
    zoo("train", "--env", ENV, *arguments, cwd=tmp_path)
    configured = yaml.safe_load((ROOT / "zoo_configs" / "plastic_ppo.yml").read_text())[ENV]["policy_kwargs"]
    changed = {**configured, "rule": "none", "net_arch": {"pi": [8], "vf": [8]}}
    assert changed != configured
    assert saved(tmp_path / RUN / f"{ENV}.zip")["policy_kwargs"] == changed


def test_linear_schedules_in_configurations(tmp_path):
    output = zoo("train", "--env", "CartPole-v1", "-n", "1024", "--eval-freq", "-1", cwd=tmp_path)
    rates = [float(rate) for rate in re.findall(r"learning_rate +\| ([\d.e-]+)", output)]
    assert rates[-1] == pytest.approx(5e-4)  # of 1e-3, half way


def test_users_configuration_wins(tmp_path, monkeypatch):
    (tmp_path / "mine.yml").write_text(
        "CartPole-v1:\n  policy: PlasticPolicy\n  n_timesteps: 64\n  n_steps: 64\n  batch_size: 64\n  n_epochs: 1\n"
    )
    output = zoo("train", "--env", "CartPole-v1", "--conf-file", "mine.yml", "--eval-freq", "-1", cwd=tmp_path)
    assert "Loading hyperparameters from: mine.yml" in output
    monkeypatch.chdir(tmp_path)
    output = answer(["train", "--env", ENV, "--conf-file", "mine.yml"], code=2)
    assert f"Hyperparameters not found for plastic_ppo-{ENV} in mine.yml" in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("CartPole-v1: [", "mine.yml is no YAML"),
        ("", "mine.yml holds a mapping of hyperparameters for each environment, got None"),
        ("CartPole-v1: 3", "mine.yml holds a mapping of hyperparameters for each environment, got 3"),
    ],
)
def test_a_configuration_that_is_none_is_answered(text, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yml").write_text(text)
    output = answer(["train", "--env", "CartPole-v1", "-conf", "mine.yml"], code=2)
    assert message in output
    assert "Traceback" not in output


@pytest.mark.parametrize("missing", ["policy", "n_timesteps"])
def test_an_entry_that_a_configuration_lacks_is_named(missing, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    entries = dict(policy="PlasticPolicy", n_timesteps=64)
    del entries[missing]
    (tmp_path / "mine.yml").write_text(yaml.safe_dump({"CartPole-v1": entries}))
    output = answer(["train", "--env", "CartPole-v1", "-conf", "mine.yml"], code=2)
    assert f"CartPole-v1 in mine.yml has no entry '{missing}': add it" in output
    assert "Traceback" not in output


def test_other_algorithms_keep_rl_zoos_configurations(tmp_path):
    arguments = ["-n", "64", "--eval-freq", "-1", "-params", "n_envs:1", "batch_size:32", "n_epochs:1"]
    output = zoo("train", "--algo", "ppo", "--env", "CartPole-v1", *arguments, cwd=tmp_path)
    assert re.search(r"Loading hyperparameters from: \S*rl_zoo3/hyperparams/ppo.yml", output)
    assert (tmp_path / "logs" / "ppo" / "CartPole-v1_1" / "CartPole-v1.zip").exists()


# Enjoy, record, plot


def test_enjoy_prints_returns(trained):
    output = zoo("enjoy", "--env", ENV, "--no-render", "-n", "1000", cwd=trained)
    assert f"Loading {RUN / ENV}.zip" in output
    assert "Episode Length 1000" in output
    assert re.search(r"Mean reward: -?\d+\.\d+ \+/- 0\.00", output)


@pytest.mark.parametrize(("env", "least"), [("HalfCheetah-v5", 3000), ("Ant-v5", 1200)])
def test_the_agents_in_the_repository_walk(env, least):
    agents = ROOT / "docs" / "results" / "learning" / "agents"
    assert sum(file.stat().st_size for file in agents.rglob("*") if file.is_file()) < 3e6
    output = zoo("enjoy", "--env", env, "-f", agents, "--no-render", "-n", "3000", cwd=ROOT)
    # An agent that stands still gets 0 and 1000.
    assert float(re.search(r"Mean reward: (-?[\d.]+)", output)[1]) > least


def test_enjoy_loads_the_best_model(trained):
    output = zoo("enjoy", "--env", ENV, "--no-render", "--load-best", "-n", "10", cwd=trained)
    assert f"Loading {RUN / 'best_model.zip'}" in output


@pytest.mark.skipif(
    not (find_library("EGL") and find_library("OpenGL")) and "CI" not in os.environ,
    reason="MuJoCo needs libegl1 and libopengl0 to draw without a display",
)
def test_record_shows_the_robot(trained):
    from imageio_ffmpeg import get_ffmpeg_exe

    zoo("record", "--env", ENV, "-n", "25", cwd=trained)
    (video,) = (trained / RUN / "videos").glob(f"final-model-plastic_ppo-{ENV}-*.mp4")
    decode = [get_ffmpeg_exe(), "-v", "error", "-i", video, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    pixels = subprocess.run(decode, capture_output=True, check=True).stdout
    frames = np.frombuffer(pixels, np.uint8).reshape(-1, 480, 480, 3).astype(int)
    assert len(frames) >= 20
    assert frames[0].std() > 10  # a scene, not a blank
    moved = abs(frames[-1] - frames[0]).max(axis=2) > 60
    assert 0.001 < moved.mean() < 0.5  # something moves before a background that mostly stays


def test_plots_are_written_without_a_display(trained, tmp_path):
    for i in (1, 2):  # RL Zoo's plot_from_file wants two runs
        shutil.copytree(trained / RUN, tmp_path / RUN.with_name(f"{ENV}_{i}"))
    zoo("plot", "train", "-e", ENV, "-w", "2", "--save", "curve.png", cwd=tmp_path)
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    zoo("plot", "all", "-e", ENV, "--save", "evaluations.svg", "-o", "evaluations", cwd=tmp_path)
    assert "<svg" in (tmp_path / "evaluations.svg").read_text()
    zoo("plot", "file", "-i", "evaluations", cwd=tmp_path)
    assert (tmp_path / "plot_from_file.png").read_bytes().startswith(b"\x89PNG")
    assert "--save takes a file that ends in ." in answer(["plot", "train", "-e", ENV, "--save", "curve"], code=2)
    output = zoo("plot", "train", "-e", ENV, "-w", "500", "--save", "empty.png", cwd=tmp_path, code=2)
    assert "fewer episodes than the window" in output
    assert not (tmp_path / "empty.png").exists()
    output = zoo("plot", "all", "-e", "Ant-v5", "--save", "empty.png", cwd=tmp_path, code=2)  # was not trained
    assert output.startswith("sb3-plastic plot: error: There is nothing to plot")


# Tune


def test_tune_searches_around_the_configuration(tmp_path):
    import pandas

    arguments = ["-n", "512", "--n-evaluations", "1", "--eval-episodes", "1"]
    arguments += ["--optimization-log-path", "trials", "--pruner", "none", "--seed", "1", *SMALL[:2]]
    output = zoo("tune", "--env", ENV, "--n-trials", "1", *arguments, cwd=tmp_path)
    assert output.index("Budget: 1 trials of 512 training steps, at most 512 steps in all") < output.index("Trial 0")
    assert stray_lines(output) == []
    output = zoo("tune", "--env", ENV, "--n-trials", "3", *arguments, cwd=tmp_path)
    assert "at most 1,024 steps still to do" in output
    assert "1 trials are finished" in output
    (line,) = stray_lines(output)
    assert "Using an existing study" in line  # which is now true
    for report in (tmp_path / "logs" / "plastic_ppo").glob("report_*1-trials*.csv"):
        report.unlink()
    assert [path.name for path in (tmp_path / "logs" / "plastic_ppo").iterdir() if path.is_dir()] == []
    (report,) = (tmp_path / "logs" / "plastic_ppo").glob("report_*.csv")
    trials = pandas.read_csv(report)
    assert list(trials.state) == ["COMPLETE"] * 3
    assert trials["params_policy.alpha_init"].nunique() == 3
    configured = yaml.safe_load((ROOT / "zoo_configs" / "plastic_ppo.yml").read_text())[ENV]["policy_kwargs"]
    for i, trial in trials.iterrows():
        tried = saved(tmp_path / "trials" / f"trial_{i}" / "best_model.zip")["policy_kwargs"]
        assert tried["alpha_init"] == pytest.approx(trial["params_policy.alpha_init"])
        sampled = {"alpha_init", "eta_init", "rho", "plasticity_lr_scale", "log_std_init"}
        assert {*tried} == {*configured} | sampled
        assert all(tried[name] == value for name, value in configured.items() if name not in sampled)
    # Train with what was found: the command stands last.
    best = int(trials.value.argmax())
    _, *command = shlex.split(output.strip().splitlines()[-1])
    assert command[-2:] == ["--trial-id", str(best)]
    small = ["-n", "32", "--eval-freq", "-1", *SMALL[:2], "n_steps:16", "batch_size:32", "chunk_len:16", "n_epochs:1"]
    zoo(*command, *small, cwd=tmp_path)
    tried = saved(tmp_path / "trials" / f"trial_{best}" / "best_model.zip")["policy_kwargs"]
    assert saved(tmp_path / RUN / f"{ENV}.zip")["policy_kwargs"] == tried


def test_what_a_search_was_given_is_given_to_the_training_but_not_over_what_was_drawn(tmp_path):
    given = ["--env-kwargs", "sutton_barto_reward:True", "-params", "learning_rate:0.5", "n_epochs:1"]
    given += ["policy_kwargs:dict(net_arch=[9], alpha_init=0.3)"]
    arguments = ["--env", "CartPole-v1", "-n", "64", "--n-evaluations", "1", "--eval-episodes", "1", "--n-trials", "1"]
    output = zoo("tune", *arguments, "--pruner", "none", *given, cwd=tmp_path)
    command = shlex.split(output.strip().splitlines()[-1])
    assert command[-2:] == ["--trial-id", "0"]
    assert command[command.index("--env-kwargs") + 1] == "sutton_barto_reward:True"
    assert command[command.index("-params") + 1 : -2] == ["policy_kwargs:{'net_arch': [9]}"]


@pytest.mark.slow
def test_two_processes_search_together(tmp_path):
    arguments = ["--algo", "plastic_es", "--env", "CartPole-v1", "-n", "100", "--n-evaluations", "1"]
    arguments += ["--max-total-trials", "4", "--storage", "study.log", "--study-name", "both", "--pruner", "none"]
    searches = [
        subprocess.Popen([COMMAND, "tune", *arguments, "--seed", seed], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        for seed in ("1", "2")
    ]
    for search in searches:
        assert "Train with it" in search.communicate()[0]
    trials = open_study(str(tmp_path / "study.log"), "both")[0].trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * len(trials)
    assert 4 <= len(trials) <= 5  # both may begin the last one
    assert len({trial.params["sigma"] for trial in trials}) == len(trials)


# A script of one's own


def test_registration_from_a_users_own_script(tmp_path):
    (tmp_path / "own.py").write_text(
        "from rl_zoo3.train import train\nimport sb3_plastic.zoo\nif __name__ == '__main__':\n    train()\n"
    )
    arguments = ["--algo", "plastic_ppo", "--env", ENV, "-n", "64", "--eval-freq", "-1"]
    arguments += ["-params", "n_envs:2", "n_steps:32", "batch_size:64", "n_epochs:1"]
    output = run([sys.executable, "own.py", *arguments], tmp_path)
    assert f"Loading hyperparameters from: {ROOT / 'zoo_configs' / 'plastic_ppo.yml'}" in output
    assert saved(tmp_path / RUN / f"{ENV}.zip")["policy_kwargs"]["rule"] == "oja"


EVERY_ENTRY = """
import argparse, sys, yaml
from sb3_plastic.zoo import ExperimentManager

algo, config = sys.argv[1:]
for env in yaml.safe_load(open(config)):
    if env != "default":
        manager = ExperimentManager(argparse.Namespace(), algo, env, "logs", eval_freq=-1, config=config, verbose=0)
        model, _ = manager.setup_experiment()
        print("entry", env, type(model).__name__, getattr(model, "chunk_len", None))
"""


@pytest.mark.parametrize("config", sorted((ROOT / "zoo_configs").glob("*.yml")), ids=lambda config: config.stem)
def test_every_configuration_makes_a_model(config, tmp_path):
    output = run([sys.executable, "-c", EVERY_ENTRY, config.stem.removesuffix("_adaptive"), str(config)], tmp_path)
    entries = yaml.safe_load(config.read_text())
    expected = {env: str(entry.get("chunk_len")) for env, entry in entries.items() if env != "default"}
    assert dict(re.findall(r"entry (\S+) \w+ (\S+)", output)) == expected
    robots = ("Hopper", "Walker2d", "HalfCheetah", "Ant", "Humanoid")
    named = {"plastic_ppo": robots, "plastic_es": ("HalfCheetah",), "ppo": ("HalfCheetah", "Ant")}.get(config.stem, ())
    assert {*expected} >= {f"{robot}-v5" for robot in named}


# The command itself


@pytest.mark.parametrize(
    ("command", "argument"),
    [
        *((name, "--env-kwargs") for name in ("train", "enjoy", "record", "tune")),
        *(
            ("plot", "figure"),
            ("plot train", "--episode-window"),
            ("plot all", "--no-million"),
            ("plot file", "--boxplot"),
            ("perturbations render", "--model"),
        ),
        ("enjoy --model m.zip", "--stochastic"),
        *(("evaluate", "--vecnorm"), ("report", "--baseline"), ("perturbations", "render"), ("study", "temporal")),
        *(("export", "--to"), ("inspect", "model")),
    ],
)
def test_help_says_what_a_command_does_with_examples_and_arguments(command, argument):
    output = answer([*command.split(), "--help"])
    command = command.split(" --")[0]
    assert f"usage: sb3-plastic {command}" in output
    assert argument in output
    assert re.search(rf"^ *sb3-plastic {command} \S", output, re.MULTILINE)  # examples
    assert "usage: Gather" not in output


def test_command_names_its_commands_and_version(tmp_path):
    import sb3_plastic
    from sb3_plastic.cli import COMMANDS

    output = answer(["--help"])
    assert {"train", "enjoy", "record", "plot", "tune"} <= {*COMMANDS}
    assert all(f"  {name} " in output for name in COMMANDS)
    assert zoo("--version", cwd=tmp_path) == f"sb3_plastic {sb3_plastic.__version__}\n"
    assert "invalid choice: 'trian'" in answer(["trian"], code=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--env", "HalfCheeta-v5"], "you maybe meant HalfCheetah-v5?"),
        (["train", "--env", "CartPole-v1", "-params", "policy_kwargs:dict(rule=none)"], "a string needs quotes"),
        (["train", "--env", "CartPole-v1", "-params", "learning_rat:0.1"], "Did you mean 'learning_rate'?"),
        (["train", "--env", "CartPole-v1", "-i", "missing.zip"], "must be a valid path to a .zip file"),
        (["train", "--env", "CartPole-v1", "-conf", "missing.yml"], "No such file or directory: missing.yml"),
        (["enjoy", "--env", ENV, "--no-render"], "There are no models in logs: train one with `sb3-plastic train`"),
        (["enjoy", "--env", ENV], "There is no display: add --no-render"),
        (["plot", "train", "-e", ENV], "There are no models in logs"),
    ],
)
def test_errors_teach(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for display in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(display, raising=False)
    output = answer(arguments, code=2)
    assert message in output
    assert f"sb3-plastic {arguments[0]}: error: " in output
    assert "Traceback" not in output


@pytest.mark.parametrize(("argument", "message"), [("rule='ojo'", "'oja'"), ("adaptive='yes'", "got 'yes'")])
def test_a_wrong_argument_of_the_policy_is_answered(argument, message, tmp_path):
    policy = ["-params", f"policy_kwargs:dict({argument})"]
    output = zoo("train", "--env", "CartPole-v1", *policy, cwd=tmp_path, code=2)
    assert message in output
    assert "Traceback" not in output


def test_missing_model_names_those_there_are(trained, monkeypatch):
    monkeypatch.chdir(trained)
    output = answer(["enjoy", "--env", "Hopper-v5", "--no-render"], code=2)
    assert "No model found for plastic_ppo on Hopper-v5" in output
    assert f"--algo plastic_ppo --env {ENV} --exp-id 1" in output


def test_a_command_whose_output_nobody_reads_ends_without_a_word(tmp_path):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "sb3_plastic.cli", "perturbations", "list"]
    result = subprocess.run(command, cwd=tmp_path, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (result.returncode, result.stderr) == (128 + signal.SIGPIPE, "")


def test_missing_rl_zoo_names_the_extra(tmp_path):
    code = "import sys; sys.modules['rl_zoo3'] = None; from sb3_plastic.cli import main; sys.exit(main(['train']))"
    output = run([sys.executable, "-c", code], tmp_path, code=2)
    assert 'pip install "sb3_plastic[zoo]"' in output
    assert "Traceback" not in output


@pytest.mark.parametrize(("environ", "expected"), [({}, "1"), ({"OMP_NUM_THREADS": "2"}, "2")])
def test_one_torch_thread_unless_told_otherwise(environ, expected, tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    code = "from sb3_plastic import cli; cli.prepare(); import torch; print(torch.get_num_threads())"
    environ = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")} | environ
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environ, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == expected


# The quickstart


@pytest.mark.slow
def test_quickstart_is_quick_the_second_time(tmp_path):
    command = [sys.executable, ROOT / "scripts" / "quickstart.py", "--steps", "2048"]
    first = run(command, tmp_path)
    assert first.count("$ sb3-plastic train") == 2
    second = run(command, tmp_path)
    assert "$ sb3-plastic train" not in second
    rows = re.findall(r"(plastic|static) +(?:│ +-?\d+ \(\d+\) ){3}", second)
    assert rows == ["plastic", "static"]
    assert second in first  # the same table again
