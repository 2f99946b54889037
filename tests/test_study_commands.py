"""The studies that train agents with `sb3-plastic train`, at their smallest size."""

import pytest

from sb3_plastic.errors import UserError
from sb3_plastic.studies.candidates import SEARCHED, candidates
from sb3_plastic.studies.cli import main
from sb3_plastic.studies.learning import ENVS
from sb3_plastic.studies.meta_scores import estimates
from sb3_plastic.studies.results import read_results


@pytest.mark.slow
def test_the_study_of_learning_trains_plays_and_reports(tmp_path, capsys):
    arguments = ["--envs", "HalfCheetah-v5", "--agents", "static SNN", "MLP (RL Zoo)", "--seeds", "0"]
    arguments += [
        "--steps",
        "2048",
        "--episodes",
        "1",
        "--logs",
        str(tmp_path / "logs"),
        "--out",
        str(tmp_path / "out"),
    ]
    main(["learning", *arguments])
    first = capsys.readouterr().out
    results = read_results(tmp_path / "out")
    assert {len(result["deterministic"]) for result in results.values()} == {1}
    assert (tmp_path / "out" / "HalfCheetah-v5.png").is_file()
    main(["learning", *arguments])
    assert capsys.readouterr().out.splitlines()[-4:] == first.splitlines()[-4:]
    assert read_results(tmp_path / "out") == results


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
    found = estimates(results).set_index(["split", "score"])
    assert found.loc[("novel", "net_gain"), "value"] == found.loc[("all", "net_gain"), "value"] == 1.0
    assert found.loc[("novel", "relative"), "value"] == 0.5
    assert found.loc[("novel", "net_gain"), "seeds"] == 2
    assert found.loc[("novel", "net_gain"), ["low", "high"]].tolist() == [0.5, 1.5]


@pytest.mark.parametrize("study", ["learning", "meta", "temporal"])
def test_a_report_without_results_says_what_to_do(study, tmp_path):
    with pytest.raises(UserError, match="run the study first"):
        main([study, "--out", str(tmp_path), "--report-only"])


def test_agents_have_as_many_candidates_as_each_other():
    """And the plastic one has eleven more on Ant, which ask what plasticity adds and why it costs."""
    for env_id in ENVS:
        plastic, static, mlp = (len(candidates(env_id, label)) for label in SEARCHED)
        assert static == mlp
        assert plastic - static == (11 if env_id == "Ant-v5" else 0)
