"""Studies from Python."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sb3_plastic.errors import UserError
from sb3_plastic.snn.scan import get_num_threads, set_num_threads
from sb3_plastic.studies import frame_of, run_study
from sb3_plastic.studies.cli import main

AGENTS = Path(__file__).parents[1] / "docs/results/learning/agents"
RUN = AGENTS / "plastic_ppo" / "HalfCheetah-v5_1"


def test_a_study_from_python_returns_what_its_command_leaves_in_the_folder(tmp_path, capsys):
    few = dict(arms=["frozen"], scenarios=("nominal", "novel/reversed/onset"), episodes=1, suites="nda-v2")
    results = run_study("adaptation", out=tmp_path / "python", agents={"cheetah": [RUN]}, protocols=None, **few)
    arguments = ["--arms", "frozen", "--scenarios", *few["scenarios"], "--episodes", "1", "--suites", "nda-v2"]
    main(["adaptation", "--out", str(tmp_path / "shell"), "--agents", f"cheetah={RUN}", *arguments])
    again = run_study("adaptation", out=tmp_path / "shell", report_only=True)
    assert [result["scores"] for result in results] == [result["scores"] for result in again]
    frame = frame_of(results)
    assert [*frame["family"]] == ["nominal", "novel/reversed"]
    assert frame["speed"][0] == 1 > frame["speed"][1]
    assert "| nominal | 1.00 | " in capsys.readouterr().out


def test_threads_are_as_they_were_after_a_study(tmp_path):
    before = torch.get_num_threads(), get_num_threads()
    try:
        torch.set_num_threads(2)
        set_num_threads(2)
        with pytest.raises(UserError, match="There are no results in"):
            run_study("robustness", out=tmp_path, report_only=np.bool_(True), ray=None)
        assert (torch.get_num_threads(), get_num_threads()) == (2, 2)
    finally:
        torch.set_num_threads(before[0])
        set_num_threads(before[1])


def test_curves_are_drawn_of_trainings_named_by_label(tmp_path):
    (tmp_path / "0.monitor.csv").write_text('#{"t_start": 1.0, "env_id": "Toy-v0"}\nr,l,t\n1.0,6,0.1\n3.0,6,0.2\n')
    assert run_study("curves", out=tmp_path / "o", groups={"toy": tmp_path}, bin_size=np.int64(12)) == []
    assert (tmp_path / "o" / "curves.csv").is_file()


@pytest.mark.parametrize(
    ("study", "options", "message"),
    [
        ("adaption", {}, "Unknown study 'adaption'. Did you mean 'adaptation'?"),
        ("learning", {}, "the following arguments are required: --out"),
        ("learning", {"out": "o", "step": 5, "sed": [1]}, "unrecognized arguments: --step 5 --sed 1"),
        ("learning", {"out": "o", "n-jobs": 2}, "with _ for -"),
        ("learning", {"out": "o", "jobs": 0}, "argument --jobs/--n-jobs: a whole number from 1 on, got '0'"),
        ("robustness", {"out": "o", "agents": {"plastic": ["a,b"]}}, "none may have one in its name: a,b"),
        ("robustness", {"out": "o", "agents": {"plastic": []}}, "An agent is LABEL=FOLDER"),
    ],
)
def test_what_a_study_does_not_take_is_an_error_that_python_can_catch(study, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        run_study(study, **options)
    assert message in str(caught.value)
    assert not Path("o").exists()
