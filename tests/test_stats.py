"""Statistics of a few trained seeds, by hand and against rliable."""

import operator

import numpy as np
import pytest

from sb3_plastic.report.stats import (
    COVERAGE,
    bootstrap_band,
    bootstrap_interval,
    cvar,
    iqm,
    joint_interval,
    kaplan_meier,
    mean,
    performance_profile,
    probability_of_improvement,
    worst,
)

X = np.random.default_rng(0).normal(1, 1, (5, 7)).round(3)
Y = np.random.default_rng(1).normal(0.5, 1, (4, 7)).round(3)


def test_the_interquartile_mean_leaves_out_a_quarter_at_either_end():
    assert iqm(np.array([-100, 1, 2, 3, 4, 5, 6, 100.0])) == 3.5
    assert iqm(np.array([0, 1, 5.0])) == 2  # a quarter of three is none
    assert iqm(np.array([np.nan, 1, 2, 3, 100])) == 2.5


def test_cvar_is_the_mean_of_the_worst_tenth_and_at_least_of_one():
    assert cvar(np.arange(20.0)) == 0.5
    assert cvar(np.array([3.0, 1, 2])) == 1
    assert cvar(np.arange(30.0)) == 1  # of the worst three
    assert worst(np.array([3.0, np.nan, 2])) == 2


def test_what_has_no_entries_is_not_a_number():
    empty = np.array([np.nan])
    assert all(np.isnan(f(empty)) for f in (iqm, cvar, mean, worst))


def test_probability_of_improvement_counts_pairs_and_ties_by_half():
    # Scenario 0: of 2 x 2 pairs three are won, one is tied. Scenario 1: all lost.
    assert probability_of_improvement(np.array([[2, 0], [3, 0]]), np.array([[1, 1], [2, 1]])) == (3.5 / 4 + 0) / 2
    with pytest.raises(ValueError, match="same scenarios"):
        probability_of_improvement(X, Y[:, 1:])


def test_they_agree_with_rliable():
    # rliable 1.2.0: metrics.aggregate_iqm(X), aggregate_mean(X), probability_of_improvement(X, Y)
    assert iqm(X) == pytest.approx(0.869736842105263, abs=1e-12)
    assert mean(X) == pytest.approx(0.8781142857142855, abs=1e-12)
    assert probability_of_improvement(X, Y) == 0.625
    # library.get_interval_estimates({"a": X}, <iqm and mean>, reps=20000), of two calls the mean: they differ by 0.007
    per_task = [X[:, k : k + 1] for k in range(7)]
    assert bootstrap_interval(per_task, iqm) == pytest.approx((0.6255, 1.1318), abs=0.02)
    assert bootstrap_interval(per_task, mean) == pytest.approx((0.6272, 1.1230), abs=0.02)


def test_seeds_are_the_unit_of_an_interval_however_many_scenarios_repeat_them():
    seeds = np.array([[0.0], [1.0], [2.0]])
    repeated = np.repeat(seeds, 50, axis=1)
    assert bootstrap_interval(repeated) == bootstrap_interval(seeds)
    # Of 27 resamples one is (0, 0, 0): more than the 2.5 % that the interval leaves out.
    assert bootstrap_interval(seeds) == (0, 2)


@pytest.mark.parametrize("n_seeds", COVERAGE)
def test_an_interval_of_few_seeds_holds_the_true_mean_as_often_as_is_told(n_seeds):
    samples = np.random.default_rng(0).standard_normal((1000, n_seeds, 1))
    held = [low < 0 < high for low, high in map(bootstrap_interval, samples)]
    assert 100 * np.mean(held) == pytest.approx(COVERAGE[n_seeds], abs=3)  # two standard errors


def test_strata_are_resampled_apart():
    robots = [np.array([[0.0, 0.0], [0.0, 0.0]]), np.array([[10.0], [10.0], [10.0]])]
    assert bootstrap_interval(robots) == pytest.approx((30 / 7, 30 / 7))


def test_one_seed_has_no_interval():
    assert np.isnan(bootstrap_interval(X[:1])).all()
    assert np.isnan(joint_interval([X[:1], Y], probability_of_improvement)).all()


def test_an_interval_is_the_same_each_time_and_contains_the_estimate():
    low, high = joint_interval([X, Y], probability_of_improvement)
    assert (low, high) == joint_interval([X, Y], probability_of_improvement)
    assert low < probability_of_improvement(X, Y) < high
    with pytest.raises(ValueError, match="average over the episodes"):
        bootstrap_interval(X[0])


def test_a_difference_is_resampled_over_the_seeds_of_both():
    # Each of two seeds: (0, 0), (0, 1), (1, 0), (1, 1), so means 0, .5, .5, 1; differences from -1 to 1.
    zero_one = np.array([[0.0], [1.0]])
    assert joint_interval([zero_one, zero_one], lambda x, y: mean(x) - mean(y)) == (-1, 1)
    # Of the 256 resamples of (0, 0, 0, 1) one is (1, 1, 1, 1), and 12 have three: 0.4 % and 4.7 %.
    rare = np.array([[0.0], [0.0], [0.0], [1.0]])
    assert joint_interval([rare, zero_one * 0], lambda x, y: mean(x) - mean(y)) == (0, 0.75)
    assert np.isnan(joint_interval([zero_one, zero_one[:1]], lambda x, y: mean(x) - mean(y))).all()
    assert np.isnan(joint_interval([zero_one], lambda x: float("nan"))).all()


@pytest.mark.parametrize("statistic", [mean, iqm])
def test_what_is_computed_for_all_resamples_at_once_is_what_each_gives(statistic):
    holes = X.copy()
    holes[[0, 3], [2, 5]] = np.nan
    one_by_one = bootstrap_interval(holes, lambda x: statistic(x))
    assert bootstrap_interval(holes, statistic) == pytest.approx(one_by_one, abs=1e-12)
    difference = joint_interval([holes, Y], lambda x, y: statistic(x) - statistic(y))
    assert joint_interval([holes, Y], operator.sub, each=statistic) == pytest.approx(difference, abs=1e-12)
    holes[1:] = np.nan  # one of five seeds has values: resamples without it have none
    assert bootstrap_interval(holes) == pytest.approx([mean(holes)] * 2)


def test_a_band_is_the_interval_of_each_point():
    curves = np.array([[0.0, 5.0, 1.0], [1.0, 5.0, np.nan], [2.0, 5.0, 3.0]])
    low, high = bootstrap_band(curves)
    assert (low[0], high[0]) == bootstrap_interval(curves[:, :1]) == (0, 2)
    assert (low[1], high[1]) == (5, 5)
    assert np.transpose(bootstrap_band(X))[0] == pytest.approx(bootstrap_interval(X[:, :1]), abs=1e-12)
    assert np.isnan([low[2], high[2]]).all()  # some resamples hold nothing but the seed without a value
    assert np.isnan(bootstrap_band(curves[:1])).all()
    still = np.full((1, 3), np.nan)  # a seed without any value takes no band away
    assert np.array_equal(bootstrap_band(np.concatenate([curves[:2], still])), bootstrap_band(curves[:2]), True)


def test_a_profile_is_the_share_above_each_threshold():
    assert performance_profile(np.array([0.1, 0.5, np.nan, 0.9, 1.0]), np.array([0, 0.5, 2])).tolist() == [1, 0.5, 0]


def test_survival_accounts_for_those_watched_too_briefly():
    # Five: events at 1 and 3, one lost at 2; then of the two at risk at 3 one remains, lost at 5. One event at 1 more.
    times, fraction = kaplan_meier(np.array([1, 1, 2, 3, 5]), np.array([1, 1, 0, 1, 0]))
    assert times.tolist() == [0, 1, 3]
    assert fraction == pytest.approx([1, 3 / 5, 3 / 5 * 1 / 2])
    times, fraction = kaplan_meier(np.array([0, 4]), np.array([1, 0]))
    assert (times.tolist(), fraction.tolist()) == ([0], [0.5])
