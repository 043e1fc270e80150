"""Intervals cover, planted effects are found, nulls are not, and the same data give the same interval."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hybridbench.analysis import statistics as s

#: Simulated data sets of a coverage: its share is then known to ± 0.036 (3.3 standard errors at 95 %) ...
SETS = 400
#: ... or, where each takes a bootstrap, to ± 0.051.
FEW = 200


def assert_covers(interval, truth, draws, confidence=0.95, loss=0.01, excess=0.01):
    """The share of intervals that hold the truth fits `confidence`: with a probability of 0.999 or more where the coverage
    lies in [confidence - loss, confidence + excess], and hardly ever where it is 80 %.
    """
    held = [interval(draw).holds(truth) for draw in draws]
    low, high = stats.binom.ppf([0.0005, 0.9995], len(held), [confidence - loss, min(confidence + excess, 1.0)])
    assert low <= sum(held) <= high, f"{np.mean(held):.3f} of {len(held)} intervals hold the truth"


def assert_rare(alarms, level=0.05, safe=False):
    """Alarms come as often as `level` says, or at most as often where the test is on the `safe` side; not twice as often."""
    low, high = stats.binom.ppf([0.0005, 0.9995], len(alarms), level)
    assert (0 if safe else low) <= sum(alarms) <= high, f"{np.mean(alarms):.3f} of {len(alarms)} are alarms"


def test_the_check_of_coverage_sees_an_interval_that_is_too_narrow_or_none():
    draws = np.random.default_rng(1).normal(3.0, 1.0, (SETS, 5))
    assert_covers(lambda x: s.mean_interval(x, 0.80), 3.0, draws, confidence=0.80)
    with pytest.raises(AssertionError, match="hold the truth"):
        assert_covers(lambda x: s.mean_interval(x, 0.80), 3.0, draws)
    with pytest.raises(AssertionError, match="hold the truth"):
        assert_covers(lambda x: s.mean_interval(x[:1]), 3.0, draws)


@pytest.mark.parametrize("n_seeds", [3, 5, 20])
def test_mean_interval_covers(n_seeds):
    draws = np.random.default_rng(n_seeds).normal(3.0, 1.0, (SETS, n_seeds))
    assert_covers(s.mean_interval, 3.0, draws)


def test_mean_interval_of_twenty_skewed_values_falls_short_as_its_docstring_says():
    draws = np.random.default_rng(10).lognormal(0.0, 1.0, (2 * SETS, 20))
    assert_covers(s.mean_interval, math.exp(0.5), draws, confidence=0.87)
    draws = np.random.default_rng(11).exponential(1.0, (2 * SETS, 20))
    assert_covers(s.mean_interval, 1.0, draws, confidence=0.92)


def test_paired_difference_covers_and_uses_the_pairing():
    rng = np.random.default_rng(12)
    seed, noise = rng.normal(0.0, 1.0, (SETS, 20)), rng.normal(0.0, 0.1, (SETS, 2, 20))
    pairs = [(0.5 + of_seed + a, of_seed + b) for of_seed, (a, b) in zip(seed, noise, strict=True)]
    assert_covers(lambda pair: s.paired_difference(*pair), 0.5, pairs)
    assert width(s.paired_difference(*pairs[0])) < 0.5 * width(s.mean_interval(pairs[0][0]))


def test_median_interval_covers_a_skewed_distribution():
    draws = np.random.default_rng(2).lognormal(0.0, 0.5, (FEW, 20))
    assert_covers(s.median_interval, 1.0, draws, loss=0.02)


@pytest.mark.parametrize(("drift", "n", "excess"), [(0.0, FEW, 0.01), (0.3, 60, 0.05)])
def test_ratio_interval_covers(drift, n, excess):
    """On the safe side where the pairs share most of their spread."""
    rng = np.random.default_rng(3)
    shared, noise = rng.lognormal(0.0, drift, (n, 20)), rng.lognormal(0.0, 0.05, (n, 2, 20))
    pairs = [(2 * both * a, both * b) for both, (a, b) in zip(shared, noise, strict=True)]
    assert_covers(lambda pair: s.median_ratio(*pair), 2.0, pairs, loss=0.02, excess=excess)


def test_ratio_interval_uses_the_pairing():
    rng = np.random.default_rng(3)
    widths, unpaired = [], []
    for _ in range(20):
        drift = rng.lognormal(0.0, 0.3, 30)  # what both arms of one sample share
        a, b = 2 * drift * rng.lognormal(0, 0.03, 30), drift * rng.lognormal(0, 0.03, 30)
        widths.append(width(s.median_ratio(a, b)))
        unpaired.append(width(s.median_ratio(a, rng.permutation(b))))
    assert np.median(widths) < 0.5 * np.median(unpaired)


def width(interval):
    return interval.high - interval.low


def bounds(interval):
    return interval.low, interval.high


def test_seed_interval_covers():
    draws = np.random.default_rng(13).normal(0.0, 1.0, (FEW, 20))
    assert_covers(lambda x: s.seed_interval(20, lambda rows: x[rows].mean(), 0.95, "1"), 0.0, draws, loss=0.025)


def test_width_interval_covers():
    rates = np.logspace(-4, 1, 11)
    curve = 1 - 0.05 * (np.log10(rates) + 2) ** 2
    draws = curve + np.random.default_rng(14).normal(0.0, 0.02, (FEW, 20, 11))
    assert_covers(lambda y: s.width_interval(rates, y), s.width_near_best(rates, curve), draws, loss=0.025)


TASKS = (
    lambda rng, n: rng.normal(0.0, 0.1, n),
    lambda rng, n: 0.5 + 0.1 * rng.standard_t(2, n),  # heavy tails
    lambda rng, n: 1 - rng.beta(1, 5, n),  # skewed
    lambda rng, n: rng.beta(0.5, 0.5, n),  # runs end here or there
)


def test_interquartile_mean_covers():
    rng = np.random.default_rng(16)
    truth = stats.trim_mean(np.concatenate([task(rng, 500_000) for task in TASKS]), 0.25)
    draws = [[task(rng, 15) for task in TASKS] for _ in range(FEW)]
    assert_covers(s.interquartile_mean, truth, draws, loss=0.02)


def test_interquartile_mean_resamples_within_tasks():
    rng = np.random.default_rng(17)
    by_task = [level + rng.normal(0, 0.01, 10) for level in (0.2, 0.5, 0.6, 0.9)]
    stratified, pooled = s.interquartile_mean(by_task), s.interquartile_mean([np.concatenate(by_task)])
    assert stratified.value == pooled.value
    assert width(stratified) < 0.3 * width(pooled)


@pytest.mark.parametrize(("alike", "n", "excess"), [(0.0, FEW, 0.01), (0.8, 60, 0.05)])
def test_probability_of_improvement_covers(alike, n, excess):
    """On the safe side where equal seeds make the runs of both arms alike."""
    rng = np.random.default_rng(18)
    shifts = np.array([[0.3], [1.0]])
    truth = stats.norm.cdf(shifts / math.sqrt(2)).mean()
    draws = []
    for seed, a, b in rng.normal(0.0, 1.0, (n, 3, 2, 10)):
        a, b = (math.sqrt(alike) * seed + math.sqrt(1 - alike) * own for own in (a, b))
        draws.append((a + shifts, b))
    assert_covers(lambda draw: s.probability_of_improvement(*draw), truth, draws, loss=0.02, excess=excess)


def test_planted_effect_is_found_and_null_is_not():
    rng = np.random.default_rng(4)
    base = rng.lognormal(0, 0.05, 30)
    assert s.median_ratio(1.2 * base * rng.lognormal(0, 0.02, 30), base).low > 1.1
    assert s.median_ratio(base * rng.lognormal(0, 0.02, 30), base).holds(1.0)
    a = rng.normal(0, 1, 10)
    assert s.paired_difference(a + 0.5 + rng.normal(0, 0.1, 10), a).low > 0.3
    assert s.paired_difference(a + rng.normal(0, 0.1, 10), a).holds(0)


def test_paired_difference_rejects_a_null_about_one_time_in_twenty():
    rng = np.random.default_rng(5)
    assert_rare([not s.paired_difference(rng.normal(0, 1, 6), rng.normal(0, 1, 6)).holds(0) for _ in range(SETS)])


def test_equivalence_needs_precision_not_only_a_small_difference():
    rng = np.random.default_rng(6)
    base = rng.lognormal(0, 0.1, 40)
    assert s.equivalent(base * rng.lognormal(0, 0.01, 40), base)
    assert not s.equivalent(1.1 * base, base)
    assert not s.equivalent(rng.lognormal(0, 0.5, 8), rng.lognormal(0, 0.5, 8))
    assert s.equivalent_means([1.0, 1.1, 0.9, 1.0], [1.0, 1.1, 0.9, 1.05], 0.1)
    assert not s.equivalent_means([1.0, 3.0, 0.9, 1.0], [1.0, 1.1, 0.9, 1.05], 0.1)


@pytest.mark.parametrize("ratio", [0.95, 1.05])
def test_equivalence_is_rarely_found_at_the_margin(ratio):
    rng = np.random.default_rng(7)
    base = rng.lognormal(0, 0.1, (FEW, 20))
    assert_rare([s.equivalent(ratio * b * rng.lognormal(0, 0.05, 20), b) for b in base], safe=True)
    assert np.mean([s.equivalent(b * rng.lognormal(0, 0.05, 20), b) for b in base[:20]]) > 0.2


@pytest.mark.parametrize("margin", [-0.1, 0.1])
def test_equivalence_of_means_is_rarely_found_at_the_margin(margin):
    draws = np.random.default_rng(19).normal(margin, 0.1, (SETS, 20))
    assert_rare([s.equivalent_means(x, np.zeros(20), abs(margin)) for x in draws])


def test_too_few_values_give_no_interval():
    for found in (s.median_interval([1.0] * 5), s.median_ratio([1.0] * 5, [2.0] * 5), s.mean_interval([1.0])):
        assert not found.bounded
        assert (found.low, found.high) == (-math.inf, math.inf)
    assert not s.seed_interval(4, lambda rows: rows.mean(), 0.95, "1").bounded
    assert bounds(s.interquartile_mean([range(20), range(4)])) == (-math.inf, math.inf)
    assert bounds(s.probability_of_improvement([range(20)], [[1.0]])) == (-math.inf, math.inf)
    assert bounds(s.mean_interval([0.5, 0.7, -math.inf])) == (-math.inf, math.inf)
    assert s.mean_interval([2.0, 2.0]) == s.Interval(2.0, 2.0, 2.0, 2)


@pytest.mark.parametrize("bad", [[], [1.0, math.nan]])
def test_bad_values_are_refused(bad):
    with pytest.raises(ValueError, match="non-empty list of numbers without NaN"):
        s.median_interval(bad)
    with pytest.raises(ValueError, match="same length"):
        s.paired_difference([1.0], [1.0, 2.0])
    for function in (s.cliffs_delta, lambda a, b: s.paired_tests({"a": (a, b)}), lambda a, b: s.interquartile_mean([a, b])):
        with pytest.raises(ValueError, match="non-empty list of numbers without NaN"):
            function([1.0, 2.0], bad)


def test_bad_comparisons_are_refused():
    with pytest.raises(ValueError, match="at least one task"):
        s.interquartile_mean([])
    with pytest.raises(ValueError, match="\\+inf was given"):
        s.interquartile_mean([[1.0, math.inf]])
    with pytest.raises(ValueError, match="same tasks, not on 1 and 2"):
        s.probability_of_improvement([[1.0]], [[1.0], [2.0]])
    with pytest.raises(ValueError, match="at least one comparison"):
        s.paired_tests({})
    for test in (s.friedman, s.nemenyi):
        for table in ({"a": [1.0], "b": [2.0]}, {"a": [], "b": [], "c": []}, {"a": [1, 2], "b": [1, 2], "c": [1, math.nan]}):
            with pytest.raises(ValueError, match="table without NaN with a row or more and 3 columns or more"):
                test(pd.DataFrame(table))
    with pytest.raises(ValueError, match="with 1 NaN; drop incomplete rows"):
        s.performance_profile(pd.DataFrame({"a": [math.nan]}), [1])
    for times, factor in ((-1.0, 1), (1.0, 0.5)):
        with pytest.raises(ValueError, match="times from 0 and factors from 1"):
            s.performance_profile(pd.DataFrame({"a": [times]}), [factor])


def test_same_data_give_the_same_interval():
    values = np.random.default_rng(8).normal(size=30)
    assert s.median_interval(values) == s.median_interval(values.copy())
    a, b = values.reshape(3, 10), values[::-1].reshape(3, 10)
    assert s.interquartile_mean(a) == s.interquartile_mean(a.copy())
    assert s.probability_of_improvement(a, b) == s.probability_of_improvement(list(a), list(b))


def test_time_to_target():
    steps = [0, 10, 20, 30]
    assert s.time_to_target(steps, [0.1, 0.5, 0.9, 0.8], 0.9) == 20
    assert s.time_to_target(steps[::-1], [0.8, 0.9, 0.5, 0.1], 0.5) == 10
    assert s.time_to_target(steps, [3, 2, 1, 0], 1.5, higher_is_better=False) == 20
    assert s.time_to_target(steps, [0.1] * 4, 0.9) == math.inf


def test_median_of_misses_is_infinite():
    assert s.median_interval([math.inf] * 8).value == math.inf
    mostly = s.median_interval([10.0] * 7 + [math.inf])
    assert mostly.value == 10
    half = s.median_interval([10.0, 12.0, 14.0, 16.0] + [math.inf] * 4)
    assert half.low >= 10
    assert half.high == math.inf


def test_width_near_best():
    rates = [1e-3, 1e-2, 1e-1, 1.0, 10.0]
    assert s.width_near_best(rates, [0, 1, 1, 1, 0]) == pytest.approx(2 + 2 * 0.05)
    assert s.width_near_best(rates, [0, 0, 1, 0, 0]) == pytest.approx(2 * 0.05)
    assert s.width_near_best(rates, [1] * 5) == pytest.approx(4)
    # a second good region that is not connected to the best one does not count
    assert s.width_near_best(rates, [0.99, 0.0, 1.0, 0.0, 0.99]) == pytest.approx(2 * 0.05)


def test_width_interval_separates_wide_from_narrow():
    rng = np.random.default_rng(9)
    rates = np.logspace(-4, 0, 9)
    wide = 1 - 0.01 * (np.log10(rates) + 2) ** 2 + rng.normal(0, 0.003, (8, 9))
    narrow = 1 - 0.5 * (np.log10(rates) + 2) ** 2 + rng.normal(0, 0.003, (8, 9))
    assert s.width_interval(rates, wide).low > s.width_interval(rates, narrow).high


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.5, 2.0), min_size=6, max_size=20), st.floats(0.1, 10.0))
def test_ratio_scales_with_the_unit_and_holds_its_value(values, factor):
    a = np.array(values)
    found = s.median_ratio(factor * a, a)
    assert found.low <= found.value * (1 + 1e-9)
    assert found.value <= found.high * (1 + 1e-9)
    assert found.value == pytest.approx(factor)


def test_map_keeps_order_for_falling_functions():
    found = s.Interval(0.9, 0.8, 1.1, 30).map(lambda r: 100 * (1 - r), "%")
    assert found.low == pytest.approx(-10)
    assert found.high == pytest.approx(20)
    assert found.unit == "%"


def test_interquartile_mean_by_hand():
    # of -50 0 4 5 5 6 7 100 the middle half is 4 5 5 6
    found = s.interquartile_mean([[0, 100, 4, 6], [5, 5, -50, 7]], unit="points")
    assert (found.value, found.n, found.unit) == (5.0, 8, "points")
    # one task, six runs: one is cut on either side (1.5 rounded down)
    assert s.interquartile_mean([[60, 1, 2, 3, 4, -9]]).value == 2.5


def test_interquartile_mean_of_runs_without_a_score():
    runs = np.arange(20.0)
    few, many = runs.copy(), runs.copy()
    few[:2], many[:6] = -math.inf, -math.inf
    found = s.interquartile_mean([few])
    assert found.value == np.arange(5, 15).mean()
    assert math.isfinite(found.high)
    assert s.interquartile_mean([many]).value == s.interquartile_mean([many]).low == -math.inf


def test_interquartile_mean_of_equal_runs_is_a_point():
    assert s.interquartile_mean([[0.9] * 5, [0.9] * 5]) == s.Interval(0.9, 0.9, 0.9, 10)


def test_probability_of_improvement_by_hand():
    # 2 3 4 over 1 2 3: six pairs won, two tied, one lost
    assert s.probability_of_improvement([[2, 3, 4]], [[1, 2, 3]]).value == pytest.approx(7 / 9)
    found = s.probability_of_improvement([[2, 3, 4], [1, 1]], [[1, 2, 3], [1]])
    assert found.value == pytest.approx((7 / 9 + 1 / 2) / 2)
    assert found.n == 9
    assert s.probability_of_improvement([[-math.inf, 1]], [[-math.inf, -math.inf]]).value == 0.75


def test_probability_of_improvement_finds_a_planted_effect_and_no_other():
    rng = np.random.default_rng(20)
    tasks = [rng.normal(level, 1, 20) for level in (0, 10, 100)]
    better = [rng.normal(level + 1, 1, 20) for level in (0, 10, 100)]
    same = [rng.normal(level, 1, 20) for level in (0, 10, 100)]
    found = s.probability_of_improvement(better, tasks)
    assert 0.6 < found.low < 0.76 < found.high < 0.9  # 0.76: normal_cdf(1 / sqrt(2))
    assert s.probability_of_improvement(same, tasks).holds(0.5)
    mirrored = s.probability_of_improvement(tasks, better)
    assert mirrored.value == pytest.approx(1 - found.value)
    assert mirrored.high == pytest.approx(1 - found.low, abs=0.02)


def test_probability_of_improvement_without_overlap_is_not_certain():
    a, b = [np.arange(5) + 10.0] * 2, [np.arange(5) + 0.0] * 2
    found = s.probability_of_improvement(a, b)
    # were the probability p, ten pairs out of ten would come with p ** 10
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.05 ** (1 / 10))
    assert s.probability_of_improvement(b, a).high == pytest.approx(1 - found.low)
    tied = s.probability_of_improvement([[1.0] * 5], [[1.0] * 5])
    assert tied.value == 0.5
    assert tied.low == 1 - tied.high == pytest.approx(0.5 - (1 - 0.05 ** (1 / 5)))


def test_cliffs_delta_by_hand():
    assert s.cliffs_delta([2, 3, 4], [1, 2, 3]) == pytest.approx(5 / 9)  # 6 larger, 1 smaller of 9 pairs
    assert s.cliffs_delta([1, 2, 3], [2, 3, 4]) == pytest.approx(-5 / 9)
    assert s.cliffs_delta([5, 6], [1]) == 1
    assert s.cliffs_delta([1, 1], [1, 1, 1]) == 0
    assert s.cliffs_delta([math.inf, 0], [math.inf, -math.inf]) == pytest.approx(1 / 4)  # 2 larger, 1 smaller of 4
    assert isinstance(s.cliffs_delta([1], [2]), float)


def test_paired_tests_by_hand():
    zero = [0] * 6
    table = s.paired_tests({"up": ([1, 2, 3, 4, 5, 6], zero), "mixed": ([1, 2, 3, 4, 5, -6], zero), "same": (zero, zero)})
    assert list(table.index) == ["up", "mixed", "same"]
    assert table.index.name == "name"
    assert list(table.columns) == ["p", "p_holm", "delta", "median_difference"]
    # one of 2 ** 6 orders of signs is as good; rank sums of 6 or less have 14 orders
    assert table["p"].tolist() == pytest.approx([2 / 64, 2 * 14 / 64, 1.0])
    assert table["p_holm"].tolist() == pytest.approx([3 * 2 / 64, 2 * 2 * 14 / 64, 1.0])
    assert table["delta"].tolist() == pytest.approx([1.0, (30 - 6) / 36, 0.0])
    assert table["median_difference"].tolist() == [3.5, 2.5, 0.0]


def test_paired_tests_split_zeros_and_see_ties_through_rounding():
    # 0.15 - 0.1, 0.25 - 0.2 and 0.3 - 0.35 are not equal as floating point numbers, nor are 0.1 + 0.2 and 0.3
    rounded = s.paired_tests({"x": ([0.15, 0.25, 0.3, 0.1 + 0.2, 0.9], [0.1, 0.2, 0.35, 0.3, 0.1])})
    exact = s.paired_tests({"x": ([15, 25, 30, 30, 90], [10, 20, 35, 30, 10])})
    assert rounded["p"].item() == exact["p"].item()
    assert rounded["median_difference"].item() == pytest.approx(0.05)
    # 14 zeros share rank 7.5, half of them for either side: rank sum 52.5 + (15 + ... + 20) against a mean of 105
    zeros = s.paired_tests({"x": ([*range(7)] + [0] * 13, [0] * 20)})
    variance = (20 * 21 * 41 - (14**3 - 14) / 2) / 24
    assert zeros["p"].item() == pytest.approx(2 * stats.norm.sf(52.5 / math.sqrt(variance)))


def test_paired_tests_rank_a_run_without_a_score_as_the_largest_difference():
    a = [1.0, 2.0, 3.0, 4.0, 5.0, -math.inf, -math.inf]
    b = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -math.inf]
    finite = [1.0, 2.0, 3.0, 4.0, 5.0, -100.0, 0.0]
    found, expected = s.paired_tests({"x": (a, b)}), s.paired_tests({"x": (finite, [0.0] * 7)})
    assert found["p"].item() == expected["p"].item()
    assert found["median_difference"].item() == 2.0


def test_paired_tests_find_the_planted_effect_only():
    rng = np.random.default_rng(21)
    base = rng.normal(0, 1, 20)
    pairs = {str(i): (base + rng.normal(0, 0.5, 20), base) for i in range(13)}
    pairs["planted"] = (base + 0.6 + rng.normal(0, 0.5, 20), base)
    assert list(s.paired_tests(pairs).query("p_holm < 0.05").index) == ["planted"]


def test_paired_tests_give_a_false_alarm_in_one_family_of_twenty(monkeypatch):
    monkeypatch.setattr("gc.collect", lambda: 0)  # statsmodels calls it each time: 0.1 s
    rng = np.random.default_rng(22)
    families = [{str(i): rng.normal(0, 1, (2, 20)) for i in range(7)} for _ in range(SETS)]
    tables = [s.paired_tests(family) for family in families]
    assert_rare([table["p_holm"].min() < 0.05 for table in tables])
    assert np.mean([table["p"].min() < 0.05 for table in tables]) > 0.2  # what uncorrected tests would do


def test_friedman_by_hand():
    # the same order in four blocks of three: chi-squared 8 with 2 degrees of freedom, p = exp(-8 / 2)
    p, ranks = s.friedman(pd.DataFrame({"a": [3, 30, 0.3, 9], "b": [2, 20, 0.2, 8], "c": [1, 10, -math.inf, 7]}))
    assert p == pytest.approx(math.exp(-4))
    assert ranks.to_dict() == {"a": 1.0, "b": 2.0, "c": 3.0}
    _, ranks = s.friedman(pd.DataFrame({"a": [3, 1], "b": [2, 1], "c": [1, 0]}))
    assert ranks.to_dict() == {"a": 1.25, "b": 1.75, "c": 3.0}
    p, ranks = s.friedman(pd.DataFrame({"a": [1, 2], "b": [1, 2], "c": [1, 2]}))
    assert p == 1
    assert ranks.tolist() == [2.0, 2.0, 2.0]


def test_friedman_finds_a_planted_effect_and_seldom_a_null():
    rng = np.random.default_rng(23)
    level = rng.normal(0, 10, (9, 1))  # problems differ more than arms
    planted = pd.DataFrame(level + rng.normal([0, 0, 0, 0, 2], 1, (9, 5)), columns=list("abcde"))
    p, ranks = s.friedman(planted)
    assert p < 0.05
    assert ranks.idxmin() == "e"
    assert_rare([s.friedman(pd.DataFrame(rng.normal(0, 1, (30, 5))))[0] < 0.05 for _ in range(SETS)])


def test_nemenyi_by_hand():
    """Two of k = 3 arms differ at 5 % where their mean ranks do by 2.343 sqrt(k (k + 1) / 6 n) (Demšar 2006, table 5)."""
    scores = pd.DataFrame({"a": [3.0] * 4, "b": [2.0] * 4, "c": [1.0] * 4})
    p = s.nemenyi(scores)
    assert list(p.index) == list(p.columns) == ["a", "b", "c"]
    # mean ranks 1, 2, 3; critical difference 2.343 sqrt(3 4 / 24) = 1.66
    assert p.loc["a", "c"] < 0.05 < p.loc["a", "b"]
    assert p.loc["a", "b"] == pytest.approx(p.loc["c", "b"])
    assert np.diag(p).tolist() == [1.0] * 3
    # q = 2 sqrt(2) / sqrt(3 4 / 24) = 4
    assert p.loc["a", "c"] == pytest.approx(stats.studentized_range.sf(4.0, 3, np.inf), rel=1e-6)


def test_nemenyi_finds_the_planted_arm_and_seldom_a_null():
    rng = np.random.default_rng(24)
    planted = pd.DataFrame(rng.normal([0, 0, 0, 1.5], 1, (40, 4)), columns=list("abcd"))
    p = s.nemenyi(planted)
    assert (p.loc["d", ["a", "b", "c"]] < 0.01).all()
    assert (p.loc[["a", "b", "c"], ["a", "b", "c"]] > 0.05).all(axis=None)
    alarms = [s.nemenyi(pd.DataFrame(rng.normal(0, 1, (30, 3)))).min(axis=None) < 0.05 for _ in range(SETS)]
    assert_rare(alarms)


def test_performance_profile_by_hand():
    inf = math.inf
    times = pd.DataFrame(
        {"a": [10, 20, 30, inf, inf], "b": [20, 20, inf, 5, inf], "c": [39, 21, 90, 10, inf]},
        index=["one", "two", "three", "four", "nobody"],
    )
    found = s.performance_profile(times, [1, 2, 3.9, 1000])
    assert found.index.name == "factor"
    assert found.index.tolist() == [1, 2, 3.9, 1000]
    assert found["a"].tolist() == [0.6, 0.6, 0.6, 0.6]
    assert found["b"].tolist() == [0.4, 0.6, 0.6, 0.6]
    assert found["c"].tolist() == [0.0, 0.4, 0.8, 0.8]
    at_once = s.performance_profile(pd.DataFrame({"a": [0.0], "b": [1.0]}), [1, 100])
    assert at_once.to_numpy().tolist() == [[1, 0], [1, 0]]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.sampled_from([1.0, 2.0, 3.5, 90.0, math.inf]), min_size=3, max_size=3), min_size=1, max_size=6))
def test_performance_profile_rises_to_the_share_of_solved_problems(rows):
    times = pd.DataFrame(rows, columns=list("abc"))
    found = s.performance_profile(times, [1, 2, 5, 90])
    assert (found.diff().dropna() >= 0).all(axis=None)
    assert found.loc[90].tolist() == np.isfinite(times).mean().tolist()
    assert found.loc[1].sum() >= np.isfinite(times).any(axis=1).mean() - 1e-9  # someone is the fastest


# ------------------------------------------------------------------------------------------- times from several processes
def times(*processes):
    return {index: np.asarray(samples, float) for index, samples in enumerate(processes)}


def test_a_ratio_is_that_of_the_medians_over_all_samples():
    ratio = s.nested_ratio(times([4, 4, 5], [4, 4, 4], [3, 4, 4]), times([1, 2, 2], [2, 2, 2], [2, 2, 3]))
    assert ratio.value == 2
    assert ratio.low <= 2 <= ratio.high
    assert ratio.n == 3


def test_processes_that_differ_widen_the_interval_however_many_samples_they_gave():
    steady, rng = times(*[np.ones(50)] * 3), np.random.default_rng(0)
    jumping = times(*[level + 0.001 * rng.normal(size=50) for level in (1.0, 1.3, 1.6)])
    wide = s.nested_ratio(jumping, steady)
    assert wide.low < 1.05
    assert wide.high > 1.55
    same = times(*[1.3 + 0.001 * rng.normal(size=50) for _ in range(3)])
    narrow = s.nested_ratio(same, steady)
    assert narrow.high - narrow.low < 0.01


def test_what_slows_a_whole_round_down_cancels():
    slow = np.array([1.0, 2.0, 3.0])
    a, b = times(*np.outer(slow, np.full(9, 6.0))), times(*np.outer(slow, np.full(9, 2.0)))
    ratio = s.nested_ratio(a, b)
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((3, 3, 3))


def test_samples_of_one_process_vary_too():
    rng = np.random.default_rng(1)
    a = s.nested_median(times(*rng.uniform(0, 1, (3, 9))))
    assert a.high - a.low > 0.1


def test_few_processes_give_no_interval():
    assert not s.nested_ratio(times([1, 2], [1, 2]), times([1], [1])).bounded
    assert not s.nested_median(times([1, 2, 3])).bounded
    with pytest.raises(ValueError, match="same rounds"):
        s.nested_ratio({0: np.ones(2)}, {1: np.ones(2)})


def test_a_ratio_uses_the_processes_that_both_have():
    ratio = s.nested_ratio({0: np.full(3, 8.0), 1: np.full(3, 2.0)}, {1: np.full(3, 1.0), 2: np.full(3, 100.0)})
    assert (ratio.value, ratio.n) == (2, 1)


def test_samples_that_were_taken_next_to_each_other_drift_together():
    drift = np.random.default_rng(2).lognormal(0, 0.3, (3, 30))
    together = s.nested_ratio(times(*(4 * drift)), times(*drift))
    assert (together.low, together.high) == pytest.approx((4, 4))
    apart = s.nested_ratio(times(*(4 * drift)), times(*drift[:, :-1]))
    assert apart.high / apart.low > 1.1
