"""One definition of each score: worked out by hand, and the same at every door."""

import numpy as np
import pandas as pd
import pytest
from evaluation_helpers import episode, write_results

from sb3_plastic.evaluation import read_records, summary, with_scores
from sb3_plastic.evaluation.callback import adaptation_scalars
from sb3_plastic.evaluation.measures import episode_measures
from sb3_plastic.evaluation.scores import counts, remarks
from sb3_plastic.report import read_results
from sb3_plastic.report.page import DEFINITIONS
from sb3_plastic.report.scores import controls, headline

ROBOT = "HalfCheetah"


def gain(scenario: str, raw: float, eval_seed: int = 0, onset: int = 300, **values: object) -> dict[str, object]:
    """One row of an intact model in the onset protocol, with its raw gain over the frozen one."""
    gains = dict(adaptation_gain=raw, adaptation_gain_early=raw / 2, adaptation_gain_late=raw * 2)
    return episode(scenario, 1000.0, eval_seed, protocol="onset", onset=onset, **gains, **values)


def scored(*rows: dict[str, object]) -> pd.DataFrame:
    return with_scores(pd.DataFrame(rows))


def test_relative_forward_reward_is_a_ratio_of_means():
    # Unperturbed 60 and 940, perturbed 500 each: 1000 / 1000. The mean of ratios would be 500/60 and 500/940: 4.4.
    table = scored(episode("nominal", 60, 0), episode("nominal", 940, 1), episode("a", 500, 0), episode("a", 500, 1))
    assert table[table.scenario == "a"].relative.mean() == 1.0


def test_relative_forward_reward_pairs_seeds():
    # Only seed 1 was run perturbed, so seed 0 unperturbed does not count.
    table = scored(episode("nominal", 60, 0), episode("nominal", 1000, 1), episode("a", 250, 1))
    assert table[table.scenario == "a"].relative.tolist() == [0.25]


def test_each_suite_of_a_model_is_relative_to_its_own_unperturbed_episodes():
    other = [episode("nominal", 500, suite="t"), episode("b", 500, suite="t")]
    assert scored(episode("nominal", 1000), episode("a", 500), *other).relative.tolist() == [1.0, 0.5, 1.0, 1.0]


def test_rough_ground_is_relative_to_level_ground_of_its_kind():
    rows = episode("nominal", 1000), episode("reference", 500), episode("rocks", 250, kind="terrain")
    assert scored(*rows).relative.tolist() == [1.0, 0.5, 0.5]


def test_nothing_is_relative_to_a_robot_that_stands_still():
    assert scored(episode("nominal", 49.0), episode("a", 500)).relative.isna().all()  # 0.049 per step


def remarked(robot: str, *rows: dict[str, object]) -> list[str]:
    """Remarks on episodes that got no reward but the forward reward, unless it is said otherwise."""
    return remarks(pd.DataFrame([{**row, "robot": robot, "return": row["values"]} for row in rows]))


def got(scenario: str, reward: float, eval_seed: int = 0, **values: object) -> dict[str, object]:
    return episode(scenario, reward, eval_seed, **{"values": reward, **values})


def test_scenarios_that_changed_nothing_are_named():
    nominal = [got("nominal", 900.0, seed) for seed in (0, 1)]
    acts = [got("acts", 900.0, 0), got("acts", 899.0, 1), got("met", 800.0, protocol="onset", onset=300)]
    idle = [got("idle", 900.0, 0), got("idle", 900.0, 1), got("late", 800.0, protocol="onset", onset=-1)]
    assert remarked("Ant", *nominal, *acts) == []
    (told,) = remarked("Ant", *nominal, *acts, *idle)
    assert told.startswith("Nothing was changed by idle, late: it has no effect here, or begins after")
    mixed = [got("mixed", 800.0, i, protocol="onset", onset=onset, survived=1) for i, onset in enumerate((300, -1))]
    assert remarked("Ant", *nominal, *mixed)[0].startswith("Some episodes of mixed ended before anything began")
    fell = [{**mixed[0]}, {**mixed[1], "survived": 0}]
    assert remarked("Ant", *nominal, *fell) == []
    assert "idle4 and 2 more" in remarked("Ant", *nominal, *(got(f"idle{i}", 900.0) for i in range(7)))[0]


def test_a_reward_that_stands_for_speed_is_told():
    (told,) = remarked("", got("nominal", 900.0), got("a", 100.0))
    assert "Rewards stand for forward rewards" in told
    assert remarked("", got("nominal", 900.0, values=800.0)) == []
    *_, told = remarked("", got("nominal", -900.0), got("a", -1000.0))
    assert told == "There are no relative scores: unperturbed, forward rewards are below 0.05 a step."


def test_the_speed_kept_from_an_onset_on_is_a_ratio_of_means():
    # Speeds before 1 and 4, unperturbed the same; perturbed .5 and 4: 4.5 of 5, and not the mean of .5 and 1.
    lost = [dict(before=1.0, regret=0.5, onset=300), dict(before=4.0, regret=0.0, onset=300)]
    table = scored(*(episode("a", 1.0, seed, protocol="onset", **values) for seed, values in enumerate(lost)))
    assert table.kept.mean() == pytest.approx(0.9)


def test_who_would_have_fallen_anyway_is_not_at_0_when_it_stops_at_the_onset():
    unperturbed, stopped = (np.where(np.arange(1000) < end, 1.0, 0.0) for end in (750, 500))
    measures = episode_measures(stopped, 500, nominal=unperturbed)
    assert scored(episode("a", 500.0, protocol="onset", onset=500, **measures)).kept[0] == 0.5
    assert "who stops there, and would have fallen later, keeps more than 0" in DEFINITIONS["speed kept"]


def test_what_is_slow_from_the_start_keeps_its_share_of_the_speed_of_the_intact_model():
    # The intact model runs at 4, and at 3 from the onset on; without plasticity at 2 throughout, 2 less than at 4.
    rows = dict(intact=dict(before=4.0, regret=1 / 4), off=dict(before=2.0, regret=2 / 2))
    table = scored(*(episode("a", 1.0, protocol="onset", control=c, **values) for c, values in rows.items()))
    assert table.kept.tolist() == [0.75, 0.5]
    assert scored(episode("a", 1.0, protocol="onset", control="off", **rows["off"])).kept[0] == 0  # there is no other


def test_the_net_gain_is_the_raw_gain_minus_that_of_the_sham_with_the_same_seed_and_onset():
    table = scored(gain("sham", 0.1, 0), gain("sham", 0.3, 1), gain("a", 0.5, 0), gain("a", 0.5, 1))
    assert table.net.tolist() == [pytest.approx(np.nan, nan_ok=True)] * 2 + [pytest.approx(0.4), pytest.approx(0.2)]
    assert table.net_early.tolist()[2:] == [pytest.approx(0.2), pytest.approx(0.1)]
    assert table.net_late.tolist()[2:] == [pytest.approx(0.8), pytest.approx(0.4)]


def test_without_a_sham_of_the_same_onset_there_is_no_net_gain():
    assert scored(gain("sham", 0.1, onset=250), gain("a", 0.5)).net.isna().all()
    assert scored(gain("sham", 0.1), gain("a", 0.5) | {"protocol": "removal"}).net.isna().all()  # it ends earlier


def test_an_episode_whose_simulation_broke_counts_nowhere():
    frozen = gain("a", np.nan, control="frozen_at_onset", unstable=1)
    table = scored(gain("sham", 0.1), gain("a", 0.5), frozen)
    assert table.control.tolist() == ["intact"] * 2
    assert np.isnan(table.adaptation_gain[1])  # what froze beside it is not known


def test_a_score_of_several_scenarios_is_taken_over_their_means():
    rows = [episode("nominal", 1000, seed) for seed in range(2)]
    for scenario, rewards in {"a": (0, 200), "b": (300, 300), "c": (500, 500), "d": (2000, 2000)}.items():
        rows += [episode(scenario, reward, seed) for seed, reward in enumerate(rewards)]
    table = summary(pd.DataFrame(rows).assign(drop=0.0, plateau=1.0, fell=0)).loc["static", "novel", "intact"]
    assert (table["scenarios"], table["episodes"]) == (4, 8)
    assert table["relative"] == pytest.approx(0.4)  # the middle half of .1, .3, .5, 2
    assert table["forward reward"] == pytest.approx(725)


def test_episodes_are_counted_apart_from_the_sham():
    rows = [gain("sham", 0.1, seed) for seed in range(8)] + [gain("a", 0.1, seed) for seed in range(20)]
    rows[-1]["unstable"] = 1
    said = "28 episodes, 20 of scenarios and 8 of the sham; 1 whose simulation broke count nowhere"
    assert counts(pd.DataFrame(rows)) == said


def test_evaluate_callback_and_report_show_the_same_figures(tmp_path):
    write_results(tmp_path / "r", "a", episodes=3, sham=True)
    records = read_records(tmp_path / "r")
    printed, logged, report = summary(records), adaptation_scalars(records), read_results([tmp_path / "r"])
    table = headline(report, ROBOT, "static").set_index("split")
    gains = controls(report, ROBOT).set_index("split")
    assert logged["gain_net"] > 0.1
    for split in ("extrap1", "extrap2"):
        relative = printed.loc[("static", split, "intact"), "relative"]
        assert table.loc[split, "relative forward, IQM"] == f"{relative:.2f}"
        net = printed.loc[("onset", split, "intact"), "net gain"]
        assert gains.loc[split, "net gain"] == f"{net:.2f}"
    onset = printed.loc["onset"].drop("sham", level="split").xs("intact", level="control")
    weighted = (onset["net gain"] * onset["scenarios"]).sum() / onset["scenarios"].sum()
    assert logged["gain_net"] == pytest.approx(weighted)


def test_rough_ground_without_level_ground_of_its_kind_is_relative_to_the_plane():
    assert scored(episode("nominal", 1000), episode("rocks", 250, kind="terrain")).relative.tolist() == [1.0, 0.25]


def test_longer_episodes_are_relative_to_nothing():
    table = scored(episode("nominal", 1000), episode("nominal", 3000, protocol="horizon", steps=3000))
    assert table.relative.tolist() == pytest.approx([1.0, np.nan], nan_ok=True)


def test_a_simulation_that_broke_takes_the_gain_of_its_own_scenario_and_of_the_frozen_model_alone():
    broken = gain("a", np.nan, control="frozen_at_onset", unstable=1), gain("b", np.nan, control="off", unstable=1)
    table = scored(gain("sham", 0.1), gain("a", 0.5), gain("b", 0.5), *broken).set_index("scenario")
    assert np.isnan(table.net["a"])
    assert table.net["b"] == pytest.approx(0.4)


def test_an_episode_without_an_unperturbed_one_has_no_part_in_the_speed_kept():
    lost = [dict(before=1.0, regret=0.5, onset=300), dict(before=4.0, regret=np.nan, onset=300)]
    table = scored(*(episode("a", 1.0, seed, protocol="onset", **values) for seed, values in enumerate(lost)))
    assert table.kept.mean() == pytest.approx(0.5)


def test_the_nominal_forward_reward_that_is_logged_is_that_of_training_episodes(tmp_path):
    records = read_records(write_results(tmp_path / "r", "a", episodes=2))
    nominal = records[(records.split == "nominal") & (records.control == "intact")]
    longer = nominal.assign(protocol="horizon", steps=3000, forward_reward=3 * nominal.forward_reward)
    assert adaptation_scalars(pd.concat([records, longer]))["nominal"] == adaptation_scalars(records)["nominal"]


def test_the_speed_kept_that_is_logged_is_the_interquartile_mean_over_scenarios():
    lost = {"a": 0.1, "b": 0.2, "c": 0.4, "d": 2.0}
    others = dict(before=1.0, fell=0, drop=0.5, plateau=0.5)
    rows = [gain(name, 0.0, regret=regret, **others) for name, regret in lost.items()]
    assert adaptation_scalars(pd.DataFrame([episode("nominal", 1000.0), *rows]))["kept"] == pytest.approx(0.7)
