"""RL Zoo's search of hyperparameters, around a configuration of ours."""

import logging
import os
import shlex
import subprocess

import optuna
import pytest
import yaml
from command_line import answer
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.logging import get_verbosity
from optuna.trial import TrialState
from stray_lines import stray_lines
from zoo_commands import COMMAND, ENV, ROOT, RUN, SMALL, saved, zoo

from sb3_plastic import PlasticES
from sb3_plastic.journal import n_killed, searching
from sb3_plastic.tuning import budget, n_finished, not_called_existing, open_study, seed_of, winner


def test_tune_searches_around_the_configuration(tmp_path, monkeypatch):
    import pandas

    arguments = ["-n", "512", "--n-evaluations", "1", "--eval-episodes", "1"]
    arguments += ["--optimization-log-path", "trials", "--pruner", "none", "--seed", "1", *SMALL[:2]]
    arguments += ["--env-kwargs", "max_episode_steps:100"]
    output = zoo("tune", "--env", ENV, "--n-trials", "1", *arguments, cwd=tmp_path)
    assert output.index("Budget: 1 trials of 512 training steps, at most 512 steps in all") < output.index("Trial 0")
    assert all("max_episode_steps" in line for line in stray_lines(output))  # RL Zoo repeats what it was given
    for report in (tmp_path / "logs" / "plastic_ppo").glob("report_*.csv"):
        report.unlink()
    output = zoo("tune", "--env", ENV, "--n-trials", "2", *arguments, cwd=tmp_path)
    assert "at most 512 steps still to do" in output
    assert "1 trials are finished" in output
    (line,) = (line for line in stray_lines(output) if "max_episode_steps" not in line)
    assert "Using an existing study" in line  # which is now true
    assert [path.name for path in (tmp_path / "logs" / "plastic_ppo").iterdir() if path.is_dir()] == []
    (report,) = (tmp_path / "logs" / "plastic_ppo").glob("report_*.csv")
    trials = pandas.read_csv(report)
    assert list(trials.state) == ["COMPLETE"] * 2
    assert trials["params_policy.alpha_init"].nunique() == 2
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
    monkeypatch.chdir(tmp_path)
    answer([*command, *small])
    tried = saved(tmp_path / "trials" / f"trial_{best}" / "best_model.zip")["policy_kwargs"]
    assert saved(tmp_path / RUN / f"{ENV}.zip")["policy_kwargs"] == tried


def test_what_a_search_was_given_is_given_to_the_training_but_not_over_what_was_drawn(tmp_path, monkeypatch):
    given = ["--env-kwargs", "sutton_barto_reward:True", "-params", "learning_rate:0.5", "n_epochs:1"]
    given += ["policy_kwargs:dict(net_arch=[9], alpha_init=0.3)", "--eval-env-kwargs", "sutton_barto_reward:False"]
    given += ["--gym-packages", "json", "csv", "-conf", "mine.yml"]
    arguments = ["--env", "CartPole-v1", "-n", "64", "--n-evaluations", "1", "--eval-episodes", "1", "--n-trials", "1"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yml").write_text("CartPole-v1: {policy: PlasticPolicy, n_timesteps: 64}")
    monkeypatch.setenv("SB3_PLASTIC_IMPORT", "")  # is put back
    output = answer(["tune", "--import", "json", *arguments, "--pruner", "none", "--seed", "1", *given])
    command = shlex.split(output.strip().splitlines()[-1])
    assert command[:4] == ["sb3-plastic", "train", "--import", "json"]
    assert command[-2:] == ["--trial-id", "0"]
    for flag, values in {
        "--env-kwargs": ["sutton_barto_reward:True"],
        "--eval-env-kwargs": ["sutton_barto_reward:False"],
        "--gym-packages": ["json", "csv"],
        "-conf": ["mine.yml"],
        "-f": ["logs"],
    }.items():
        assert command[command.index(flag) + 1 :][: len(values)] == values
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


SEARCH = ["--algo", "plastic_es", "--env", "CartPole-v1", "-n", "64", "--n-evaluations", "1", "--eval-episodes", "1"]
SEARCH += ["--env-kwargs", "max_episode_steps:20"]
SEARCH += ["--seed", "1"]  # some of what is drawn are 128 individuals that balance for long


def test_trials_of_a_killed_search_are_not_counted_when_the_same_command_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    search = ["tune", *SEARCH, "--pruner", "none", "--storage", "study.log", "--study-name", "a"]
    study, _ = open_study("study.log", "a")
    for _ in range(2):
        study.ask()  # a kill leaves them like this
    assert "Best of 1 finished trials: number 2" in answer([*search, "--max-total-trials", "1"])
    assert "Best of 2 finished trials" in answer([*search, "--max-total-trials", "2"])


def test_a_search_that_was_begun_with_another_space_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study, _ = open_study("study.log", "a")
    study.tell(study.ask({"policy.rho": FloatDistribution(0, 1), "n_epochs": CategoricalDistribution([1, 2])}), 1.0)
    search = ["tune", "--algo", "plastic_ppo", *SEARCH[2:], "--storage", "study.log", "--study-name", "a"]
    output = answer([*search, "--n-trials", "2"], code=2)
    assert "The study 'a' was begun with another search space, by another version perhaps" in output


def test_a_search_of_no_trials_shows_the_best_of_those_that_are_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    search = ["tune", *SEARCH, "--n-trials"]
    assert answer([*search, "0"]).endswith("No trial is finished.\n")
    answer([*search, "1"])
    assert "Best of 1 finished trials: number 0" in answer([*search, "0"])


def test_a_search_counts_trials_that_run_while_others_search_too(tmp_path):
    storage = str(tmp_path / "study.log")
    study, _ = open_study(storage, "a")
    study.ask()
    with searching(storage) as alone:
        assert n_killed(study, alone) == 1
        running = study.ask()
        with searching(storage) as second_is_alone:
            assert n_killed(study, second_is_alone) == 1  # the one that the first has noted down
    study.tell(running, 1.0)
    with searching(storage) as alone:
        assert n_killed(study, alone) == 1
    with searching("sqlite:///a.db") as alone:
        assert not alone


def test_a_search_goes_on_after_a_kill_has_left_the_lock_of_its_journal(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "logs" / "a.study.log"
    open_study("logs/a.study.log", "a")
    lock = path.with_name("a.study.log.lock")
    lock.symlink_to("logs/a.study.log")  # as Optuna makes it of a relative path: it leads nowhere
    os.utime(lock, (0, 0), follow_symlinks=False)
    assert not open_study("logs/a.study.log", "a")[1]
    assert not lock.is_symlink()


def test_the_lock_of_a_journal_leads_to_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    link, led, journal = os.symlink, [], tmp_path / "logs/plastic_es/CartPole-v1.study.log"

    def noted(target, name, **kwargs):
        link(target, name, **kwargs)
        led.append(journal.samefile(name))

    monkeypatch.setattr(os, "symlink", noted)
    command = shlex.split(answer(["tune", *SEARCH, "--n-trials", "1", "-f", "logs"]).splitlines()[-1])
    assert len(led) > 5
    assert all(led)
    assert command[command.index("--storage") + 1] == "logs/plastic_es/CartPole-v1.study.log"


def test_a_search_whose_trials_all_fail_says_why(tmp_path, monkeypatch):
    entries = "{policy: PlasticPolicy, n_timesteps: 64, callback: [sb3_plastic.callbacks.PlasticityCallback]}"
    (tmp_path / "mine.yml").write_text(f"CartPole-v1: {entries}")
    arguments = ["--algo", "plastic_es", "--env", "CartPole-v1", "-conf", "mine.yml", "-n", "64", "--n-trials", "1"]
    monkeypatch.chdir(tmp_path)
    output = answer(["tune", *arguments, "--n-evaluations", "1"], code=2)
    assert "there is no best one; the last by an error: PlasticityCallback" in output
    assert "the same command goes on" not in output.split("Study:")[1].split("\n", 1)[1]


def test_the_best_trial_is_that_of_the_highest_return_and_a_search_goes_on_with_other_draws():
    study = optuna.create_study(direction="maximize")
    for value in (1.0, 3.0, 2.0):
        study.add_trial(optuna.trial.create_trial(value=value))
    said = winner(study, 3, lambda trial: ["train", str(trial.number)])
    assert said.startswith("Best of 3 finished trials: number 1, mean return 3.0.")
    assert said.endswith("train 1")
    assert seed_of(7, 0) == 7
    assert len({seed_of(seed, n) for seed in (1, 2) for n in range(4)}) == 8
    assert "at most 200 steps still to do" in budget(5, 3, 100, 1, 1)


def test_what_was_drawn_becomes_arguments():
    from sb3_plastic.sampling import convert

    drawn = {"n_steps_pow": 6, "one_minus_gamma": 0.25, "policy.rho": 0.1, "n_epochs": 5}
    assert convert(drawn) == {"n_steps": 64, "gamma": 0.75, "n_epochs": 5, "policy_kwargs": {"rho": 0.1}}


def test_what_a_search_draws_for_evolution_makes_a_model():
    from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER

    import sb3_plastic.zoo  # noqa: F401 - enters what is drawn

    trial = optuna.create_study().ask()
    sampled = HYPERPARAMS_SAMPLER["plastic_es"](trial, 0, 1, {})
    assert sampled == HYPERPARAMS_CONVERTER["plastic_es"](trial.params)
    assert PlasticES("MlpPolicy", "CartPole-v1", **sampled).population_size in (16, 32, 64, 128)


def test_pruned_trials_count_as_finished_and_none_of_them_is_the_best():
    study = optuna.create_study(direction="maximize")
    assert winner(study, 1, lambda trial: []) == "No trial is finished yet: the same command goes on."
    pruned = optuna.trial.create_trial(state=TrialState.PRUNED, intermediate_values={0: 9.0})
    for trial in (pruned, optuna.trial.create_trial(state=TrialState.FAIL)):
        study.add_trial(trial)
    assert n_finished(study) == 1
    assert winner(study, 1, lambda trial: []) == "No trial is finished."
    study.add_trial(optuna.trial.create_trial(value=1.0))
    assert winner(study, 3, lambda trial: ["train"]).startswith("Best of 1 finished trials: number 2,")


def test_a_budget_that_is_spent_leaves_nothing_to_do():
    assert "at most 0 steps still to do; 1 evaluation of 2 episodes" in budget(3, 5, 100, 1, 2)
    assert "at most 300 steps in all; 4 evaluations of" in budget(3, 0, 100, 4, 2)


def test_a_study_that_is_opened_leaves_the_log_as_it_was(tmp_path):
    storage, level = str(tmp_path / "deep" / "s.log"), get_verbosity()
    assert [open_study(storage, "a")[1] for _ in range(2)] == [True, False]
    assert get_verbosity() == level


def test_of_a_new_study_alone_it_is_not_said_that_it_exists():
    logger = logging.getLogger("optuna.study.study")

    def said():
        return [text for text in ("Using an existing study", "Trial 0") if logger.filter(record(text))]

    def record(text):
        return logging.LogRecord(logger.name, logging.INFO, "", 0, text, (), None)

    with not_called_existing(True):
        assert said() == ["Trial 0"]
    with not_called_existing(False):
        assert said() == ["Using an existing study", "Trial 0"]
    assert said() == ["Using an existing study", "Trial 0"]


def test_a_search_goes_on_after_a_full_disk_has_cut_its_last_line(tmp_path):
    path = tmp_path / "logs" / "a.study.log"
    study, _ = open_study(str(path), "a")
    study.enqueue_trial({"x": 1})
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    for _ in range(2):
        study, is_new = open_study(str(path), "a")
        assert not is_new
        study.enqueue_trial({"x": 2})
    assert [trial.system_attrs["fixed_params"] for trial in open_study(str(path), "a")[0].trials] == [{"x": 2}] * 2
