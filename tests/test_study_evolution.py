"""The study of evolution: trainings go on from their checkpoints, and the tables compare what can be compared."""

import json
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import pytest
import torch

from sb3_plastic.errors import UserError
from sb3_plastic.studies import evolution
from sb3_plastic.studies.cli import main
from sb3_plastic.studies.damage import SEEN, UNSEEN, scenarios
from sb3_plastic.studies.evolution_report import apart, damage_table, learning_table, report, share
from sb3_plastic.studies.evolution_training import newest, recipe, train
from sb3_plastic.studies.locks import alone
from sb3_plastic.studies.results import read_results


def small(algo):
    sizes = dict(population_size=2, n_envs=2, n_episodes=1, learning_rate=0.1) if algo == "plastic_es" else {}
    return recipe(algo, "Pendulum-v1", sizes)


def test_a_training_that_was_stopped_goes_on_from_its_checkpoint(tmp_path):
    for steps in (400, 1200):
        train(small("plastic_es"), tmp_path / "stopped", steps, 3, 0, steps // 400, 1)
    whole = train(small("plastic_es"), tmp_path / "whole", 1200, 3, 0, 3, 1)
    assert whole.name == "steps_1200"
    resumed = newest(tmp_path / "stopped")
    points, again = (json.loads((path / "progress.json").read_text())["points"] for path in (whole, resumed))
    assert points["steps"] == again["steps"] == [0, 400, 800, 1200]
    assert points["returns"] == again["returns"]


def test_a_training_of_another_recipe_is_not_gone_on_with(tmp_path):
    """Its folder has the name of the agent, and that stays when the configuration changes."""
    train(small("ars"), tmp_path, 1, 3, 0, 1, 1)
    other = small("ars")
    with pytest.raises(UserError, match="was trained with other settings, those in that file"):
        train(other._replace(settings={**other.settings, "delta_std": 0.5}), tmp_path, 10_000, 3, 0, 1, 1)
    assert newest(tmp_path).name == "steps_1600"


def test_an_ars_that_goes_on_draws_other_noise_than_at_its_start(tmp_path, monkeypatch):
    drawn = []

    def noted(*args, **kwargs):
        drawn.append(normal(*args, **kwargs))
        return drawn[-1]

    normal = torch.normal
    monkeypatch.setattr(torch, "normal", noted)
    first = train(small("ars"), tmp_path, 1, 3, 0, 1, 1)
    begun = len(drawn)
    steps = int(first.name.removeprefix("steps_"))
    train(small("ars"), tmp_path, steps + 1, 3, 0, 1, 1)
    assert len(drawn) > begun > 0
    assert drawn[begun].shape == drawn[0].shape
    assert not torch.equal(drawn[begun], drawn[0])


def test_a_training_ends_when_its_processor_time_is_used_up(tmp_path):
    trained = train(small("ars"), tmp_path, 10**9, 0, 1e-3, 10, 1)
    assert 0 < int(trained.name.removeprefix("steps_")) < 10**6


def test_a_training_waits_until_another_process_is_done_with_its_folder(tmp_path, monkeypatch):
    begun = []

    def train(how, folder, *_):
        begun.append(folder)
        raise UserError("enough")

    monkeypatch.setattr(evolution, "train", train)
    cell = evolution.Cell("learning", "Pendulum-v1", "ARS", 1600, 0, 0.0)
    folder = tmp_path / cell.training_name
    with ThreadPoolExecutor() as pool, alone(folder):
        training = pool.submit(evolution.run_cell, cell, tmp_path)
        wait([training], 0.2)
        assert not begun
    assert begun == [folder]


def test_the_study_trains_judges_and_reports(tmp_path, capsys):
    arguments = ["evolution", "--envs", "Pendulum-v1", "--agents", "ARS", "--steps", "1600", "--episodes", "2"]
    main([*arguments, "--seeds", "0", "--logs", str(tmp_path / "logs"), "--out", str(tmp_path / "out")])
    (result,) = read_results(tmp_path / "out").values()
    assert len(result["returns"]) == 2
    assert "| ARS | 0.0 |" in capsys.readouterr().out
    assert (tmp_path / "out" / "Pendulum-v1.png").is_file()


def run_of(agent, steps, minutes, returns):
    points = dict(steps=steps, minutes=minutes, returns=returns)
    about = dict(part="learning", environment="x", agent=agent, steps=int(steps[-1]), minutes=0.0, seed=0)
    return about | {"returns": [returns[-1]], "points": points}


def test_equal_steps_and_equal_time_are_those_that_all_have_reached():
    fast = [run_of("PlasticES", [0, 1e6, 4e6], [0, 1, 4], [0, 10, 40])]
    slow = [run_of("ARS", [0, 1e6], [0, 4], [0, 20])]
    lines = learning_table("x", {"PlasticES": fast, "ARS": slow})
    assert "at 1.0M steps | at 4.0 minutes" in lines[0]
    assert lines[2] == "| PlasticES | 4.0 | 4.0 | 40 (40) | 10 (10) | 40 (40) |"
    assert lines[3] == "| ARS | 1.0 | 4.0 | 20 (20) | 20 (20) | 20 (20) |"


def test_damage_that_was_seen_is_judged_apart_from_damage_that_was_not():
    assert len(UNSEEN) >= 8
    assert not SEEN.keys() & UNSEEN.keys()
    late = [scenario for scenario in scenarios() if scenario.onset]
    assert len(late) == len(SEEN) + len(UNSEEN) == sum(s.split != "nominal" and not s.onset for s in scenarios())

    def row(split, protocol, speed=0.0, kept=None, control="intact"):
        return dict(split=split, protocol=protocol, control=control, forward_reward=speed, kept=kept)

    scores = [row("nominal", "static", 4000.0), row("train", "static", 3000.0), row("novel", "static", 1000.0)]
    scores += [row("novel", "static", 3000.0)]
    scores += [row("novel", "onset", 0, 0.5), row("novel", "onset", 0, 0.25, "frozen_at_onset")]
    run = {"seed": 0, "scores": scores, "points": {"steps": [0, 2e6]}}
    expected = "| x | 2.0 | 4.00 (4.00) | 3.00 (3.00) | 2.00 (2.00) | 0.50 (0.50) | 0.50 (0.50) | 0.25 (0.25) | - |"
    assert damage_table({"x": [run]})[-1] == expected
    assert np.isnan(share({"scores": [row("nominal", "static", 10.0), row("novel", "static", 20.0)]}))  # it stands


def test_who_was_judged_on_fewer_episodes_or_trained_on_a_smaller_budget_is_no_other_seed():
    many = {"returns": [1.0] * 20, "steps": 10**6, "minutes": 0.0}
    few, short, timed = many | {"returns": [1.0] * 3}, many | {"steps": 20_000}, many | {"minutes": 0.5}
    labels = {
        "PlasticES": [many, many],
        "PlasticES, 3 episodes": [few],
        "PlasticES, 20000 steps": [short],
        "PlasticES, 1000000 steps in 0.5 minutes": [timed],
    }
    assert apart({"PlasticES": [many, few, short, timed, many]}) == labels
    assert apart({"PlasticES": [many], "ARS": [timed]}) == {"PlasticES": [many], "ARS": [timed]}, "each has its own"
    assert apart({}) == {}


def test_a_smoke_run_in_the_folder_changes_no_line_of_the_table(tmp_path, capsys):
    whole = run_of("PlasticES", [0, 1e6, 4e6], [0, 1, 4], [0, 10, 40])
    report([whole], tmp_path)
    alone = capsys.readouterr().out.splitlines()
    report([run_of("PlasticES", [0, 2e4], [0, 0.1], [0, 1]), whole], tmp_path)
    both = capsys.readouterr().out.splitlines()
    assert set(alone) <= set(both)
    assert "| PlasticES, 20000 steps | 0.0 | 0.1 | 1 (1) | - | - |" in both
