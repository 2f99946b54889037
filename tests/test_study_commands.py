"""The studies that train agents with `sb3-plastic train`, at their smallest size."""

import argparse
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from stable_baselines3 import PPO
from zoo_commands import COMMAND, run

from sb3_plastic.cli import main as cli
from sb3_plastic.errors import UserError
from sb3_plastic.evaluation import evaluate_adaptation
from sb3_plastic.files import replace_file
from sb3_plastic.studies import commands, estimates, evolution, learning, lifetime, meta
from sb3_plastic.studies.candidates import SEARCHED, candidates
from sb3_plastic.studies.cli import main
from sb3_plastic.studies.curves import read_curve
from sb3_plastic.studies.differences import beside
from sb3_plastic.studies.learning import ENVS
from sb3_plastic.studies.learning_report import report, summary
from sb3_plastic.studies.meta_scores import estimates as meta_estimates
from sb3_plastic.studies.results import keep, read_results
from sb3_plastic.studies.severity import crossing, forward_rewards
from sb3_plastic.studies.table import to_csv
from sb3_plastic.zoo import config_file

RUN = Path(__file__).parents[1] / "docs/results/learning/agents/plastic_ppo/HalfCheetah-v5_1"


@pytest.mark.slow
def test_the_study_of_learning_trains_plays_and_reports(tmp_path, capsys):
    logs, out = str(tmp_path / "logs"), str(tmp_path / "out")
    arguments = ["--envs", "HalfCheetah-v5", "--agents", "hebb", "MLP (RL Zoo)", "RecurrentPPO", "--seeds", "0"]
    arguments += ["--steps", "2048", "--episodes", "1", "--logs", logs, "--out", out]
    main(["learning", *arguments])
    first = capsys.readouterr().out
    results = read_results(tmp_path / "out")
    assert {len(result["deterministic"]) for result in results.values()} == {1}
    assert (tmp_path / "out" / "HalfCheetah-v5.png").is_file()
    main(["learning", *arguments])
    assert capsys.readouterr().out.splitlines()[-4:] == first.splitlines()[-4:]
    assert read_results(tmp_path / "out") == results


@pytest.mark.slow
def test_an_agent_is_judged_within_the_wrappers_that_it_was_trained_in(tmp_path, capsys):
    """Its critic sees what the robot alone does not tell."""
    arguments = ["--search", "--candidates", "critic", "--agents", "oja + simple", "--envs", "Hopper-v5"]
    arguments += ["--seeds", "0"]
    main(["learning", *arguments, *f"--steps 2048 --episodes 1 --logs {tmp_path}/logs --out {tmp_path}/out".split()])
    assert "critic" in capsys.readouterr().out


def test_each_agent_has_settings_for_each_robot(tmp_path):
    for label, (algo, _) in learning.AGENTS.items():
        path = learning.write_rl_zoo_config(tmp_path / "zoo.yml") if label == learning.RL_ZOO else config_file(algo)
        assert set(learning.ENVS) <= set(yaml.safe_load(Path(path).read_text())), label


def test_agents_that_are_judged_by_another_tier_are_not_trained_again(tmp_path, monkeypatch):
    """Who is trained once is known by the folder of the training; where a judgement would write is another."""
    trained, judged = [], []

    def train_once(arguments, algo, env_id, folder):
        trained.append(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "agent.zip").touch()
        return folder

    def judge(arguments, log):
        judged.append((arguments[arguments.index("--out") + 1], log))
        raise UserError("enough")

    monkeypatch.setattr(meta, "train_once", train_once)
    monkeypatch.setattr(meta, "run_command", judge)
    for tier in ("quick", "full"):
        with pytest.raises(UserError, match="enough"):
            meta.run_cell(meta.Cell("HalfCheetah", "oja + simple", 1000, tier, 0), tmp_path)
    assert trained[0] == trained[1]
    assert all(quick != full for quick, full in zip(*judged, strict=True))


def test_an_agent_that_two_cells_need_is_trained_once(tmp_path, monkeypatch):
    """The second would remove what the first is writing, as if it were left over."""
    trainings = []

    def train(arguments, log):
        trainings.append(arguments)
        time.sleep(0.3)
        model = log.parent / "ppo" / "Toy-v0_1" / "Toy-v0.zip"
        model.parent.mkdir(parents=True)
        model.touch()

    monkeypatch.setattr(commands, "run_command", train)
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda _: commands.train_once([], "ppo", "Toy-v0", tmp_path / "agent"), range(2)))
    assert len(trainings) == 1
    assert found[0] == found[1]


def test_an_agent_whose_training_was_interrupted_is_trained_anew(tmp_path, monkeypatch):
    path, trainings = tmp_path / "agent" / "ppo" / "Toy-v0_1" / "Toy-v0.zip", []
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8)

    def train(arguments, log):
        trainings.append(arguments)
        path.parent.mkdir(parents=True)
        model.learn(8, reset_num_timesteps=False)
        model.save(path)

    monkeypatch.setattr(commands, "run_command", train)
    for steps, n_trained in (("8", 1), ("8", 1), ("16", 2)):
        commands.train_once(["-n", steps], "ppo", "Toy-v0", tmp_path / "agent")
        assert len(trainings) == n_trained
    with pytest.raises(UserError, match="was interrupted"):  # 24 steps, and no error
        commands.train_once(["-n", "32"], "ppo", "Toy-v0", tmp_path / "agent")


def test_an_agent_of_other_settings_is_not_taken_for_one_of_todays(tmp_path, monkeypatch):
    """A folder of models outlives an edit of the configuration, and its name says nothing of that."""
    settings, trainings = tmp_path / "ppo.yml", []
    arguments = ["--conf-file", str(settings)]

    def train(arguments, log):
        trainings.append(arguments)
        model = log.parent / "ppo" / "Toy-v0_1" / "Toy-v0.zip"
        model.parent.mkdir(parents=True)
        model.touch()

    monkeypatch.setattr(commands, "run_command", train)
    for text in ("Toy-v0: {gamma: 0.99}", "Toy-v0: {gamma: 0.99}  # why\nOther-v0: {gamma: 0.9}"):
        settings.write_text(text)
        commands.train_once(arguments, "ppo", "Toy-v0", tmp_path / "agent")
    settings.write_text("Toy-v0: {gamma: 0.98}")
    with pytest.raises(UserError, match="trained with other settings"):
        commands.train_once(arguments, "ppo", "Toy-v0", tmp_path / "agent")
    assert len(trainings) == 1
    (tmp_path / "agent" / "settings.yml").unlink()  # of an earlier version, which noted none
    with pytest.warns(UserWarning, match="Taken as it is"):
        commands.train_once(arguments, "ppo", "Toy-v0", tmp_path / "agent")
    shutil.rmtree(tmp_path / "agent")
    commands.train_once(arguments, "ppo", "Toy-v0", tmp_path / "agent")
    assert len(trainings) == 2


def test_an_agent_whose_training_wrote_its_model_and_no_statistics_is_trained_anew(tmp_path, monkeypatch):
    """A training can fail after its model is there, which tells nothing of the other files."""
    path = tmp_path / "agent" / "ppo" / "Toy-v0_1" / "Toy-v0.zip"

    def train(arguments, log):
        path.parent.mkdir(parents=True)
        path.touch()
        if not failures:
            failures.append("No space left on device")
            raise UserError(failures[0])
        path.with_name("statistics").touch()

    failures = []
    monkeypatch.setattr(commands, "run_command", train)
    with pytest.raises(UserError, match="No space left"):
        commands.train_once([], "ppo", "Toy-v0", tmp_path / "agent")
    trained = commands.train_once([], "ppo", "Toy-v0", tmp_path / "agent")
    assert {file.name for file in trained.iterdir()} == {"Toy-v0.zip", "statistics"}


def test_a_student_is_taught_whatever_a_kill_has_left_of_it_and_an_error_is_told_in_words(tmp_path, monkeypatch):
    monkeypatch.setattr(learning, "train", lambda cell, logs: (tmp_path / "nowhere.zip", [], []))
    cell = learning.Cell("Hopper-v5", learning.DISTILLED, 2048, 1, episodes=1)
    left = tmp_path / cell.training_name / "Hopper-v5" / "args.yml"
    left.parent.mkdir(parents=True)
    left.touch()
    with pytest.raises(UserError, match="There is no model"):  # --out is looked at first
        learning.run_cell(cell, tmp_path)


@pytest.mark.parametrize(
    ("logs", "told"),
    [
        ("kept/models", "--env train --out logs/learning/a --conf zoo/plastic_ppo.yml -params learning_rate:1"),
        (".", "--env train --out kept/models/a --conf zoo/plastic_ppo.yml -params learning_rate:1"),
        ("learning", "--env train --out kept/models/a --conf zoo/plastic_ppo.yml -params learning_rate:1"),
    ],
)
def test_results_tell_a_command_with_the_default_folder_of_models(logs, told):
    arguments = [
        "--env",
        "train",
        "--out",
        "kept/models/a",
        "--conf",
        "zoo/plastic_ppo.yml",
        "-params",
        "learning_rate:1",
    ]
    assert learning._told("train", arguments, Path(logs)) == f"sb3-plastic train {told}"


@pytest.mark.parametrize(
    "cell",
    [
        estimates.Cell("layer", 1000, 0, layer="0123abcd"),
        evolution.Cell("learning", "Pendulum-v1", "oja + simple", 1000, 0, 0.0),
    ],
)
def test_other_episodes_are_another_result_of_the_same_training(cell):
    other = replace(cell, episodes=3)
    assert other.name != cell.name
    assert other.training_name == cell.training_name


def test_another_layer_in_the_loop_is_another_training():
    cell = estimates.Cell("layer", 1000, 0, layer="0123abcd")
    assert replace(cell, layer="4567cdef").training_name != cell.training_name
    with pytest.raises(UserError, match="is no adaptive policy"):
        estimates.main(["--out", "study", "--layer", "nowhere", "--agents", "layer"])


@pytest.mark.parametrize("study", ["adaptation", "robustness", "meta"])
def test_a_tier_that_there_is_not_is_refused_before_anything_is_run(study, tmp_path, capsys):
    agents = [] if study == "meta" else ["--agents", f"cheetah={RUN}"]
    assert cli(["study", study, "--out", str(tmp_path / "o"), "--tier", "quik", *agents]) == 2
    assert "quik" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("option", ["--episodes", "--steps", "--jobs"])
def test_a_study_of_nothing_is_refused_before_anything_is_trained(option, tmp_path):
    with pytest.raises(UserError, match=rf"argument {option}(/\S+)?: a whole number from 1 on, got '0'"):
        main(["learning", "--out", str(tmp_path), option, "0"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("learning --candidates quiet", "--candidates are compared by --search"),
        ("learning --search --agents MLP --candidates quiet", "none of them is a candidate of these agents"),
        ("evolution --part damage --agents ARS", "--agents: the part damage has static, plastic"),
        ("evolution --minutes -5", "argument --minutes: a finite number from 0 on, got '-5'"),
        ("evolution --minutes nan", "argument --minutes: a finite number from 0 on, got 'nan'"),
    ],
)
def test_what_would_run_nothing_or_something_else_is_refused(arguments, message, tmp_path):
    with pytest.raises(UserError, match=re.escape(message)):
        main([*arguments.split(), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_a_short_run_is_reported_with_what_was_there_so_that_it_takes_nobodys_figure(tmp_path, monkeypatch):
    reported = []
    monkeypatch.setattr("sb3_plastic.studies.learning.run_cells", lambda *_: {})
    monkeypatch.setattr(
        "sb3_plastic.studies.learning.required_results", lambda *_: {key: {"steps": 64, "agent": "MLP"} for key in "ab"}
    )
    monkeypatch.setattr("sb3_plastic.studies.learning.report", lambda results, *_: reported.append(len(results)))
    main(["learning", "--steps", "2048", "--out", str(tmp_path)])
    assert reported == [2]


def test_curves_say_what_is_missing(tmp_path, capsys):
    assert cli(["study", "curves", "--out", str(tmp_path), f"a={tmp_path / 'typo'}"]) == 2
    assert "is no training: there are no *.monitor.csv in it" in capsys.readouterr().err
    (tmp_path / "0.monitor.csv").write_text('#{"t_start": 1.0, "env_id": "Toy-v0"}\nr,l,t\n')
    assert cli(["study", "curves", "--out", str(tmp_path), f"a={tmp_path}"]) == 2
    assert "no episode has ended yet" in capsys.readouterr().err
    assert cli(["study", "curves", "--out", str(tmp_path), f"a={tmp_path},{tmp_path}"]) == 2
    assert "one folder for each seed, each once" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", ["", '#{"t_st', "r,l,t\n1.0,6,0.1\n", '#{"t_start": 1.0}\n', '#{"t_start": 1.0}\nr,l,t\na,6,0.1\n']
)
def test_a_monitor_file_that_is_none_is_answered(content, tmp_path, capsys):
    (tmp_path / "0.monitor.csv").write_text(content)
    assert cli(["study", "curves", "--out", str(tmp_path), f"a={tmp_path}"]) == 2
    assert f"A *.monitor.csv in {tmp_path}" in capsys.readouterr().err


def test_an_episode_whose_row_is_cut_does_not_count(tmp_path):
    (tmp_path / "0.monitor.csv").write_text('#{"t_start": 0.0}\nr,l,t\n1.0,6,0.1\n-123.4,1')
    assert read_curve(tmp_path, 10) == {"steps": [10], "returns": [1.0]}


@pytest.mark.parametrize("content", ["", "x,y\n1,2\n", "label,steps,returns\na,[1],[2"])
def test_a_table_of_curves_that_is_none_is_answered(content, tmp_path, capsys):
    (tmp_path / "curves.csv").write_text(content)
    assert cli(["study", "curves", "--out", str(tmp_path), "--report-only"]) == 2
    assert "a row is cut, or it is no table of a study" in capsys.readouterr().err
    assert not (tmp_path / "curves.png").exists()


def test_labels_survive_a_terminal_that_cannot_show_them(tmp_path):
    replace_file(tmp_path / "curves.csv", to_csv([{"label": "Übung", "steps": [1], "returns": [2.0]}]))
    ascii_alone = dict(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    told = run([COMMAND, "study", "curves", "--report-only", "--out", "."], tmp_path, **ascii_alone)
    assert "\\xdcbung" in told


@pytest.mark.slow
def test_a_distilled_agent_learns_from_the_mlp_of_its_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(learning, "N_DISTILLED", 4096)
    cell = learning.Cell("Hopper-v5", learning.DISTILLED, 2048, 1, episodes=1)
    result = learning.run_cell(cell, tmp_path)
    assert "--steps 4096 --seed 1" in result["command"]
    assert "--model logs/learning/Hopper_v5-MLP-2048-seed1" in result["command"]
    assert str(tmp_path) not in result["command"]
    assert len(result["deterministic"]) == 1
    assert result["exploring"] == result["training"]["returns"] == []


def test_agents_differ_by_a_share_with_an_interval_over_their_seeds(tmp_path, capsys):
    def trained(agent, seed, score):
        curve = {"steps": [1, 2], "returns": [score, score]}
        returns = {"training": curve, "deterministic": [score], "exploring": [2 * score]}
        return {"environment": "Toy-v0", "agent": agent, "steps": 2, "seed": seed, "candidate": "", **returns}

    results = [trained("ours", 0, 100.0), trained("ours", 1, 150.0), trained("theirs", 0, 100.0)]
    distilled = trained("distilled", 0, 100.0) | {"training": {"steps": [], "returns": []}, "exploring": []}
    results += [trained("theirs", 1, 100.0), trained("alone", 0, 50.0), distilled]
    results += [trained("ours", 2, 900.0) | {"candidate": "of a search"}]
    taught = {"distilled": lambda env_id: "alone"}
    report(results, ["ours", "theirs", "alone", "distilled"], tmp_path, taught)
    output = capsys.readouterr().out
    assert "| theirs | +25% [+0%, +50%] | +25% [+0%, +50%] | +25% [+0%, +50%] |" in output
    assert "| alone | +150% | +150% | +150% |" in output
    assert "| distilled |  |  | 100 | 100 (0) |" in output
    assert "| distilled |  |  | +25% |" in output
    assert "| alone | +100% | 100 and 50 (0) |" in output


def test_pupils_are_compared_with_the_teachers_of_their_own_seeds():
    # Each is twice as good as its teacher, and the pupil of seed 2 has none.
    shown = beside({2: 300.0, 0: 100.0, 1: 400.0}, {1: 200.0, 0: 50.0})
    assert shown == "+100% [+100%, +100%] | 100 and 50 (0), 400 and 200 (1)"


def test_the_return_in_training_is_that_of_the_last_tenth_of_the_steps():
    def told(steps, returns):
        curve = {"steps": steps, "returns": returns}
        return summary([{"steps": 500, "training": curve, "exploring": [], "deterministic": [1.0, 2.0]}])[0]

    assert told([*range(10, 510, 10)], [0.0] * 45 + [7.0] * 5) == 7
    assert told([*range(10, 520, 10)], [0.0] * 46 + [7.0] * 5) == 7, "the last rollout goes beyond the steps"
    assert told([100, 200, 300, 460, 500], [0.0, 0.0, 0.0, 6.0, 8.0]) == 7, "in most bins no episode has ended"
    assert np.isnan(told([100, 450], [0.0, 0.0]))


def test_a_point_of_a_curve_is_the_mean_of_the_episodes_that_ended_up_to_it(tmp_path):
    for name, rows in (("0", "1.0,6,0.1\n7.0,5,0.3\n"), ("1", "3.0,4,0.2\n")):  # the second ends in between
        (tmp_path / f"{name}.monitor.csv").write_text('#{"t_start": 0.0, "env_id": "Toy-v0"}\nr,l,t\n' + rows)
    assert read_curve(tmp_path, 10) == {"steps": [10, 20], "returns": [2.0, 7.0]}


def processes_about(folder):
    """Command lines of living processes that name a folder."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(file.read_bytes().decode(errors="replace"))
        except OSError:  # it ended meanwhile
            continue
    return [line for line in found if str(folder) in line]


def until(condition):
    while not condition():
        time.sleep(0.05)


PARENT = """
import os, runpy, subprocess, sys

if len(sys.argv) > 2:  # without the whole package, which takes seconds to import
    end_with_parent = runpy.run_path(sys.argv[2])["end_with_parent"]
    parent = os.getpid()
    subprocess.run([sys.executable, __file__, sys.argv[1]], preexec_fn=lambda: end_with_parent(parent))
print("the child runs", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux does it")
def test_a_child_ends_with_its_parent(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    command = [sys.executable, str(script), str(tmp_path), lifetime.__file__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout.readline() == "the child runs\n"
        assert len(processes_about(tmp_path)) == 2
        parent.kill()
        assert parent.stdout.read() == ""  # the end of the output: nobody holds it any more
    until(lambda: not processes_about(tmp_path))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux does it")
def test_a_child_whose_parent_has_ended_before_it_asks_ends(tmp_path):
    code = f"import runpy; runpy.run_path({lifetime.__file__!r})['end_with_parent'](0); print('it goes on')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux does it")
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_killed_study_leaves_no_training_behind(jobs, tmp_path):
    arguments = ["--envs", "HalfCheetah-v5", "--agents", "static SNN", "--seeds", "0", "1", "--jobs", jobs]
    arguments += ["--logs", str(tmp_path / "logs"), "--out", str(tmp_path / "out")]
    study = subprocess.Popen([sys.executable, "-m", "sb3_plastic.cli", "study", "learning", *arguments])
    until(lambda: len([*tmp_path.glob("logs/*/plastic_ppo/*/*.monitor.csv")]) == int(jobs) * 8)
    assert len(processes_about(tmp_path)) == 1 + int(jobs)
    study.kill()
    study.wait()
    until(lambda: not processes_about(tmp_path))


@pytest.mark.slow
def test_the_study_of_meta_rl_trains_judges_and_reports(tmp_path, capsys):
    arguments = ["--robots", "HalfCheetah", "--agents", "hebb", "--seeds", "0", "--steps", "2048", "--tier", "smoke"]
    main(["meta", *arguments, "--logs", str(tmp_path / "logs"), "--out", str(tmp_path / "out")])
    (result,) = read_results(tmp_path / "out").values()
    controls = {score["control"] for score in result["scores"]}
    assert {"intact", "frozen_at_onset"} <= controls
    assert "| hebb | 1 |" in capsys.readouterr().out


def test_estimates_are_means_over_trainings_of_their_means_over_scenarios():
    def score(scenario, relative, net):
        where = {"protocol": "onset", "split": "novel", "scenario": scenario, "control": "intact"}
        return {**where, "relative": relative, "net": net}

    results = [
        {"robot": "Ant", "agent": "hebb", "seed": seed, "scores": [score("a", 0.5, seed), score("b", 0.5, seed + 1)]}
        for seed in (0, 1)
    ]
    short = {**results[0], "seed": 2, "steps": 2048, "scores": [score("a", 0.0, 0)]}
    results = [{**result, "steps": 300_000} for result in results] + [short]  # another budget is no third seed
    found = meta_estimates(results).set_index(["split", "score"])
    assert found.loc[("novel", "net_gain"), "value"] == found.loc[("all", "net_gain"), "value"] == 1.0
    assert found.loc[("novel", "relative"), "value"] == 0.5
    assert found.loc[("novel", "net_gain"), "seeds"] == 2
    assert found.loc[("novel", "net_gain"), ["low", "high"]].tolist() == [0.5, 1.5]


def test_seeds_that_were_judged_in_other_scenarios_than_others_are_told():
    def judged(seed, *scenarios):
        where = {"protocol": "onset", "split": "novel", "control": "intact", "relative": 1.0}
        scores = [{**where, "scenario": name} for name in scenarios]
        return {"robot": "Ant", "agent": "hebb", "seed": seed, "scores": scores}

    meta_estimates([judged(0, "a", "b"), judged(1, "a"), judged(1, "b")])  # in two runs
    with pytest.warns(UserWarning, match=r"Ant, hebb: some seeds were judged in 1 scenarios, others in 2.*seeds alike"):
        meta_estimates([judged(0, "a", "b"), judged(1, "a")])


@pytest.mark.parametrize("study", ["learning", "meta", "temporal"])
def test_a_report_without_results_says_what_to_do(study, tmp_path):
    with pytest.raises(UserError, match="run the study first"):
        main([study, "--out", str(tmp_path), "--report-only"])


@pytest.mark.parametrize("study", ["learning", "temporal", "estimates", "evolution", "adaptation", "replugged"])
def test_a_report_of_the_results_of_another_study_or_version_says_so(study, tmp_path):
    keep(tmp_path, {"cell": "a", "score": 1.0})
    with pytest.raises(UserError, match="of another study, or of another version: a has no "):
        main([study, "--out", str(tmp_path), "--report-only"])


def test_agents_that_this_version_does_not_have_are_named_as_left_out(tmp_path, capsys):
    run = {"environment": "Ant-v5", "steps": 9, "seed": 0, "deterministic": [1.0], "exploring": [], "command": ""}
    run |= {"training": {"steps": [], "returns": []}, "commit": "abc"}
    for agent in ("MLP", "transformer"):
        keep(tmp_path, {"cell": agent, "agent": agent, **run})
    main(["learning", "--out", str(tmp_path), "--report-only"])
    assert "this version has no such agents: transformer\n\ncommits  abc\n" in capsys.readouterr().out


def test_agents_have_as_many_candidates_as_each_other():
    """But for what is asked about plasticity and about spikes (an MLP has a batch size for one)."""
    spiking = {"analog", "lag", "1_tick", "chunk_4", "chunk_8", "lag_chunk_4", "4_ticks_chunk_4"}
    spiking |= {"chunk_1", "lag_4_ticks", "lag_chunk_1", "lag_4_ticks_chunk_1", "rate", "rate_4_ticks"}
    spiking |= {"slope_1", "slope_4", "slope_8", "slope_8_half_rate", "slope_8_4_ticks_chunk_4"}
    spiking |= {"detach_reset", "arctan", "triangle", "beta_.2", "beta_.8", "learn_beta", "gain_x2", "critic"}
    for env_id in ENVS:
        plastic, static, mlp = (set(candidates(env_id, label)) for label in SEARCHED)
        if env_id == "Ant-v5":
            assert mlp < static < plastic
            assert static - mlp == spiking | {"4_ticks"}
            assert len(plastic - static) == 14
        else:
            assert plastic - static == {"quiet", "rho_.002", "rho_.2", "eta_.01"}
            assert len(static - spiking) == len(mlp)


def test_what_was_trained_or_judged_otherwise_is_no_other_seed(tmp_path, capsys):
    def run_of(steps, episodes, value):
        curve = dict(steps=[1, steps], returns=[value] * 2)
        played = dict.fromkeys(("exploring", "deterministic"), [value] * episodes)
        return dict(environment="Ant-v5", agent="MLP", steps=steps, seed=0, training=curve, **played)

    runs = [run_of(1000, 2, 7.0), run_of(300, 2, 3.0), run_of(1000, 1, 5.0)]
    report([*runs, run_of(200, 2, 1.0) | {"agent": "of an earlier version"}], ["MLP"], tmp_path)
    printed = capsys.readouterr().out
    assert "200 steps" not in printed
    assert "| Ant-v5 | training" in printed
    assert "| Ant-v5 (300 steps, 2 episodes) | training" in printed
    assert [line for line in printed.splitlines() if line.startswith("| MLP")] == [
        f"| MLP | {value} | {value} | {value} | {value} (0) |" for value in (7, 3, 5)
    ]
    assert {path.name for path in tmp_path.glob("*.png")} == {"Ant-v5.png", "Ant-v5-300-2.png", "Ant-v5-1000-1.png"}


def test_of_two_evaluations_of_a_training_the_larger_counts_and_the_unperturbed_robot_is_none_of_all():
    def score(split, scenario, relative):
        return dict(protocol="static", split=split, scenario=scenario, control="intact", relative=relative)

    one = {"robot": "Ant", "agent": "hebb", "seed": 0, "steps": 10}
    novel = [score("novel", name, relative) for name, relative in dict(a=0.0, b=0.4, c=0.6, d=9.0).items()]
    large = {**one, "scores": [score("nominal", "n", 1.0), score("sham", "s", 1.0), *novel]}
    small = {**one, "scores": [score("novel", "a", 5.0)]}
    for order in ([large, small], [small, large]):
        found = meta_estimates(order).set_index(["split", "score"])["value"]
        assert found["novel", "relative"] == found["all", "relative"] == 0.5, "the interquartile mean"


def test_a_level_is_crossed_between_two_factors():
    assert crossing([1.2, 2.0], [0.8, 0.4], 0.5) == pytest.approx(1.2 * (2.0 / 1.2) ** 0.75)
    assert crossing([0.5], [0.2], 0.6) == pytest.approx(0.5**0.5)
    assert np.isnan(crossing([1.2, 2.0], [0.8, 0.6], 0.5))


def test_a_plastic_agent_has_its_state_from_step_to_step_where_severities_are_measured():
    asked = dict(episodes=2, seed=3, steps=60)
    args = argparse.Namespace(robot="HalfCheetah", **asked)
    (found,) = forward_rewards(RUN / "HalfCheetah-v5.zip", [{"perturbations": []}], args)
    settings = dict(scenarios="nominal", protocols="static", controls="intact", **asked)
    expected = evaluate_adaptation(RUN, **settings).records.forward_reward
    np.testing.assert_allclose(found, expected, rtol=1e-4)
