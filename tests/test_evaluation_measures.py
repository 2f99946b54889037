"""Measures of an episode, worked out by hand on toy traces; the results folder."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from evaluation_helpers import make_trace, write_results

from sb3_plastic.evaluation.measures import MEASURES, aligned, episode_measures, gain_curve, gap_closed, recovery
from sb3_plastic.evaluation.reading import load_traces, read_records
from sb3_plastic.evaluation.records import COLUMNS, Cell, Trace, records_of, save_trace
from sb3_plastic.report.stats import mean


def pieces(*stretches: tuple[float, int]) -> np.ndarray:
    """A trace of constant stretches, (level, steps) each."""
    return np.concatenate([np.full(steps, level, dtype=float) for level, steps in stretches])


# Two per step until 300; half of that for 100 steps, then 1.8, until 1000.
RECOVERING = pieces((2.0, 300), (1.0, 100), (1.8, 600))


def test_a_recovery_by_hand():
    m = episode_measures(RECOVERING, onset=300)
    assert m["before"] == 2
    assert m["drop"] == pytest.approx(0.5)
    assert m["plateau"] == pytest.approx(0.9)
    assert m["recovery_ratio"] == pytest.approx((1.8 - 1) / (2 - 1))
    # 80 % of before is 1.6: a window of 50 has that level once 38 of its steps (37.5) are at 1.8, from 400 - 12 on.
    assert (m["recovery_time"], m["recovered"]) == (88, 1)
    assert m["slope"] == pytest.approx(0, abs=1e-12)


def test_the_measures_of_ns_gym_by_hand():
    m = episode_measures(RECOVERING, onset=300, nominal=pieces((2.0, 1000)))
    assert m["retention"] == pytest.approx(0.5)  # the first 50 perturbed steps
    assert m["regret"] == pytest.approx((100 * 1 + 600 * 0.2) / 700 / 2)
    # 1.8 is 90 % of before, up to rounding: a window has that level when all of it is there.
    assert episode_measures(pieces((2.0, 300), (1.0, 100), (1.9, 600)), onset=300)["steps_to_recovery"] == 95


def test_a_recovery_that_does_not_come_is_censored_at_the_end():
    m = episode_measures(pieces((2, 300), (1, 700)), onset=300)
    assert (m["recovery_time"], m["recovered"]) == (700, 0)
    assert m["recovery_ratio"] == pytest.approx(0)


def test_a_late_decline_does_not_pass_for_an_immediate_recovery():
    m = episode_measures(pieces((2, 300), (2, 200), (1, 500)), onset=300)
    assert (m["drop"], m["recovered"]) == (0, 0)


def test_without_a_drop_there_is_nothing_to_recover():
    m = episode_measures(pieces((2, 300), (1.9, 700)), onset=300)
    assert (m["recovery_time"], m["recovered"]) == (0, 1)
    assert np.isnan(m["recovery_ratio"])


def test_a_fall_is_no_forward_reward_from_there_on():
    fallen = np.where(np.arange(1000) < 400, 2.0, np.nan)
    m = episode_measures(fallen, onset=300)
    assert (m["plateau"], m["recovered"]) == (0, 0)
    assert np.isnan(episode_measures(fallen, onset=500)["before"])  # it never came to the onset


def test_a_steady_rise_has_a_slope():
    rising = np.concatenate([pieces((2, 300)), 1 + np.arange(700) * 0.001])
    assert episode_measures(rising, onset=300)["slope"] == pytest.approx(0.001 * 100 / 2)


def test_nothing_is_said_of_robots_that_stand_still_or_of_perturbations_from_the_start():
    for trace, onset in ((pieces((0.01, 1000)), 300), (RECOVERING, 0), (RECOVERING, -1), (RECOVERING, 60)):
        m = episode_measures(trace, onset)
        assert all(np.isnan(value) for value in m.values())


def test_the_adaptation_gain_is_paired_and_in_units_of_the_level_before():
    frozen = pieces((2, 300), (1, 700))
    m = episode_measures(RECOVERING, 300, frozen=frozen)
    assert m["adaptation_gain"] == pytest.approx(0.8 * 600 / 700 / 2)
    assert m["adaptation_gain_early"] == 0
    assert m["adaptation_gain_late"] == pytest.approx(0.4)


def test_a_uniform_gap_is_a_better_policy_and_no_adaptation():
    static = pieces((4, 300), (2, 700))  # twice as good as the one that recovers from 1 to 1.8, and flat
    m = episode_measures(static, 300, frozen=static)
    assert (m["adaptation_gain"], m["adaptation_gain_late"], m["recovered"]) == (0, 0, 0)
    assert m["plateau"] < episode_measures(RECOVERING, 300)["plateau"]


def test_an_episode_that_has_ended_before_the_onset_has_no_gain():
    fallen = pieces((2, 280), (np.nan, 720))
    gain = gain_curve(
        np.stack([RECOVERING, fallen]), np.stack([pieces((2, 300), (1, 700)), fallen]), np.array([300] * 2)
    )
    assert np.isnan(gain[1]).all()
    assert not np.isnan(gain[0]).any()


def test_an_after_effect_is_what_is_lost_after_the_removal():
    removed = pieces((2, 300), (1, 400), (1.5, 50), (2, 250))
    m = episode_measures(removed, 300, removal=700, nominal=pieces((2, 1000)))
    assert m["after_effect"] == pytest.approx(0.25)
    assert m["plateau"] == pytest.approx(0.5)  # of the perturbed part


def test_getting_better_between_switches():
    stretch = [(1.0, 100), (1.5, 100)]
    m = episode_measures(pieces((2, 200), *stretch * 4), onset=200, switch_every=200)
    assert m["switch_gain"] == pytest.approx(0.25)
    assert m["plateau"] == pytest.approx(0.75)  # at the end of the first stretch


def test_the_late_ratio_compares_beyond_training_with_within():
    assert episode_measures(pieces((2, 1000), (1, 2000)), -1, training_steps=1000)["late_ratio"] == 0.5


def test_curves_are_aligned_at_the_onset():
    trace = np.arange(10.0)
    cut = aligned(np.stack([trace, trace, trace]), np.array([4, 9, -1]), before=2, after=3)
    assert cut[0].tolist() == [2, 3, 4, 5, 6]
    assert cut[1, :3].tolist() == [7, 8, 9]
    assert np.isnan(cut[1, 3:]).all()
    assert np.isnan(cut[2]).all()
    assert aligned(trace[None], np.array([2]), before=2, after=1).tolist() == [[0, 1, 2]]


def test_the_gain_over_time_is_zero_until_the_onset_and_opens_after_it():
    gain = gain_curve(RECOVERING[None], pieces((2, 300), (1, 700))[None], np.array([300]))[0]
    assert (gain[:200] == 0).all()
    assert gain[200:] == pytest.approx(0.4)


def test_the_gap_closed_needs_a_gap():
    assert gap_closed(6, baseline=4, oracle=8) == 0.5
    assert np.isnan(gap_closed(6, baseline=4, oracle=4))
    assert np.isnan(gap_closed(6, baseline=4, oracle=2))


def test_who_adapts_by_construction_is_recognised_and_who_is_better_but_static_is_not(tmp_path):
    write_results(tmp_path / "adapts", "adapts", level=3.0)
    write_results(tmp_path / "static", "static", level=6.0, plastic=False)
    records = read_records([tmp_path / "adapts", tmp_path / "static"])
    onset = (
        records[(records.protocol == "onset") & (records.control == "intact")].groupby("label").mean(numeric_only=True)
    )
    assert onset.forward_reward["static"] > onset.forward_reward["adapts"]
    assert onset.plateau["adapts"] > onset.plateau["static"] + 0.2
    assert onset.recovered["adapts"] > onset.recovered["static"] + 0.3
    assert onset.adaptation_gain_late["adapts"] > onset.adaptation_gain_early["adapts"] + 0.1


def test_records_of_an_earlier_version_lack_later_columns_that_may_be_empty(tmp_path):
    write_results(tmp_path / "r")
    table = tmp_path / "r" / "records.csv"
    pd.read_csv(table, dtype=str, keep_default_na=False).drop(columns=["distance", "slope"]).to_csv(table, index=False)
    records = read_records(tmp_path / "r")
    assert records[["distance", "slope"]].isna().all(axis=None)
    assert records["forward_reward"].notna().all()


def test_a_measure_that_is_not_of_the_forward_rewards_is_kept(tmp_path, monkeypatch):
    monkeypatch.setitem(MEASURES, "energy", "known of each episode already")
    write_results(tmp_path / "r")
    assert read_records(tmp_path / "r")["energy"].notna().all()


def test_records_have_the_documented_columns_and_come_back_as_they_were(tmp_path):
    write_results(tmp_path / "r", falls=True, sham=True)
    records = read_records(tmp_path / "r")
    assert tuple(records.columns) == tuple(COLUMNS)
    assert records.severity[records.split == "extrap2"].unique() == [3]
    assert records.severity[records.split == "novel"].isna().all()
    assert set(records["values"][records.split == "nominal"]) == {""}
    assert mean(records.fell) > 0
    assert records.unstable.sum() > 0


def test_traces_come_back_and_equal_ones_have_equal_bytes(tmp_path):
    cell = Cell("onset", "nda-v1/extrap1/mass/onset", "intact", "extrap1", "mass", 2, "nda-v1/nominal")
    trace = make_trace(RECOVERING[None], 300)
    first = save_trace(tmp_path, cell, trace)
    before = first.read_bytes()
    assert first.name == "onset__nda-v1-extrap1-mass-onset__intact.npz"
    assert save_trace(tmp_path, cell, trace).read_bytes() == before
    ((loaded_cell, loaded),) = load_traces(tmp_path).items()
    assert loaded_cell == cell
    for field in dataclasses.fields(trace):
        assert np.array_equal(getattr(loaded, field.name), getattr(trace, field.name)), field.name


def test_episodes_of_the_same_seed_are_paired_whatever_their_order():
    nominal = make_trace(np.stack([pieces((1, 1000)), pieces((4, 1000))]), -1, eval_seed=np.array([7, 8]))
    removed = make_trace(pieces((4, 700), (2, 300))[None], 300, eval_seed=np.array([8]))
    removed = dataclasses.replace(removed, removal=np.array([700]))
    traces = {
        Cell("static", "nominal", "intact", "nominal", "none", 0): nominal,
        Cell("removal", "mass", "intact", "extrap1", "mass", 2, "nominal"): removed,
    }
    assert records_of(traces, {}).after_effect.tolist()[-1] == 0.5
    nominal.unstable[1] = True
    assert np.isnan(records_of(traces, {}).after_effect.tolist()[-1])


def test_a_trace_is_read_as_often_for_many_episodes_as_for_few(monkeypatch):
    read, length = [], Trace.length.fget
    monkeypatch.setattr(Trace, "length", property(lambda trace: read.append(trace) or length(trace)))
    records = records_of({Cell("onset", "x", "intact", "id", "mass"): make_trace(np.ones((9, 400)), 200)}, {})
    assert (len(read), records["length"].tolist()) == (1, [400] * 9)


def test_without_nominal_episodes_nothing_is_compared_with_itself():
    slower = np.concatenate([np.full((2, 300), 5.0), np.full((2, 200), 4.0)], 1)
    switch, nominal = (Cell("static", name, "intact", name, name) for name in ("train", "nominal"))
    traces = {switch: make_trace(slower, 300)}
    assert records_of(traces, {}).regret.isna().all()
    compared = {dataclasses.replace(switch, reference="nominal"): traces[switch], nominal: make_trace(slower + 1, -1)}
    assert records_of(compared, {}).regret.tolist()[:2] == pytest.approx([0.2, 0.2])


def test_the_same_model_twice_is_refused(tmp_path):
    write_results(tmp_path / "a")
    with pytest.raises(ValueError, match="twice"):
        read_records([tmp_path / "a", tmp_path / "a"])
    with pytest.raises(ValueError, match=r"no records\.csv"):
        read_records(tmp_path)


def test_a_switch_is_measured_over_all_of_its_whole_stretches():
    f = pieces((2, 200), (1, 200), (1.5, 200), (1.2, 400))
    m = episode_measures(f, 200, nominal=pieces((2, 1000)), frozen=pieces((2, 200), (1, 800)), switch_every=200)
    assert m["regret"] == pytest.approx((200 * 1 + 200 * 0.5 + 400 * 0.8) / 800 / 2)
    assert m["adaptation_gain"] == pytest.approx((200 * 0.5 + 400 * 0.2) / 800 / 2)
    cut = episode_measures(pieces((2, 200), *[(1, 100), (1.5, 100)] * 4, (1, 100)), 200, switch_every=200)
    assert cut["switch_gain"] == pytest.approx(0.25)  # the last stretch is no whole one


def test_until_the_next_switch_nothing_else_counts():
    rising = 1 + np.arange(200) * 0.001
    f = np.concatenate([pieces((2, 200)), rising, pieces((2, 200))])
    m = episode_measures(f, 200, switch_every=200)
    assert m["slope"] == pytest.approx(0.001 * 100 / 2)
    assert (m["recovery_time"], m["recovered"], m["steps_to_recovery"]) == (200, 0, 200)
    short = episode_measures(pieces((2, 200), (1, 50), (1.5, 100)), 200, switch_every=200)  # ends before a switch
    assert short["plateau"] == pytest.approx(0.75)


def test_a_hundred_steps_before_an_onset_are_enough_and_who_falls_in_it_has_met_it():
    f = np.where(np.arange(500) < 100, 2.0, np.nan)
    assert (episode_measures(f, 100)["before"], episode_measures(f, 100)["drop"]) == (2, 1)
    assert gain_curve(pieces((2, 600))[None], pieces((2, 100), (1, 500))[None], np.array([100]))[0, -1] == 0.5


def test_regret_is_to_the_intact_model_whatever_else_was_run():
    onset = Cell("onset", "mass", "intact", "extrap1", "mass", 2, "nominal")
    nominal = Cell("static", "nominal", "intact", "nominal", "none", 0)
    traces = {onset: make_trace(pieces((4, 300), (3, 200))[None], 300)}
    for cell, level in ((nominal, 4.0), (dataclasses.replace(nominal, control="off"), 1.0)):
        traces[cell] = make_trace(np.full((1, 500), level), -1)
    assert records_of(traces, {}).regret[0] == pytest.approx(0.25)


def test_the_end_is_the_last_hundred_steps_of_what_is_perturbed():
    f = pieces((2, 300), (1, 600), (1.4, 50), (1.8, 50))
    m = episode_measures(f, 300, frozen=pieces((2, 300), (1, 700)))
    assert m["plateau"] == pytest.approx(0.8)
    assert m["recovery_ratio"] == pytest.approx(0.6)
    assert m["adaptation_gain_late"] == pytest.approx(0.3)
    removed = np.concatenate([pieces((2, 300)), 1 + np.arange(400) * 0.001, pieces((2, 300))])
    assert episode_measures(removed, 300, removal=700)["slope"] == pytest.approx(0.001 * 100 / 2)
    assert episode_measures(pieces((2, 300), (1, 60)), 300)["plateau"] == 0.5  # nothing from before the onset


def test_stretches_that_are_too_short_and_robots_that_stand_have_no_measure():
    assert np.isnan(episode_measures(pieces((2, 300), (1, 150)), 300)["slope"])  # 50 steps
    assert recovery(np.full(50, 1.0), 2.0)["recovery_time"] == 50
    assert np.isnan(recovery(np.full(49, 1.0), 2.0)["recovery_time"])
    assert np.isnan(episode_measures(pieces((0.04, 1000), (1, 2000)), -1, training_steps=1000)["late_ratio"])
    f, g = pieces((2, 300), (1.8, 700))[None], pieces((2, 300), (1, 700))[None]
    assert np.isnan(gain_curve(f, g, np.array([60]))).all()
    assert np.isnan(gain_curve(0.01 * f, 0.01 * g, np.array([300]))).all()


def test_who_is_frozen_gains_nothing_over_itself():
    intact, frozen = (Cell("onset", "mass", control, "extrap1", "mass", 2) for control in ("intact", "frozen_at_onset"))
    traces = {intact: make_trace(np.full((1, 500), 5.0), 300), frozen: make_trace(np.full((1, 500), 4.0), 300)}
    gains = records_of(traces, {}).set_index("control").adaptation_gain
    assert gains["intact"] == pytest.approx(0.2)
    assert np.isnan(gains["frozen_at_onset"])


def test_an_episode_whose_simulation_broke_has_not_survived():
    trace = make_trace(np.full((2, 500), 5.0), -1, unstable=np.array([False, True]))
    cell = Cell("static", "nominal", "intact", "nominal", "none", 0)
    assert records_of({cell: trace}, {}).survived.tolist() == [1, 0]
