"""Intervals cover, planted effects are found, nulls are not, and the same data give the same interval."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridbench.analysis import statistics as s


def coverage(interval, truth, draws):
    return np.mean([interval(draw).holds(truth) for draw in draws])


def test_mean_interval_covers_with_five_seeds():
    rng = np.random.default_rng(1)
    assert 0.91 < coverage(s.mean_interval, 3.0, rng.normal(3.0, 1.0, (400, 5))) < 0.985


def test_median_interval_covers_a_skewed_distribution(monkeypatch):
    monkeypatch.setattr(s, "_bootstrap", quick(s._bootstrap))
    rng = np.random.default_rng(2)
    assert 0.90 < coverage(s.median_interval, 1.0, rng.lognormal(0.0, 0.5, (250, 30))) < 0.99


def test_ratio_interval_covers_and_uses_the_pairing(monkeypatch):
    monkeypatch.setattr(s, "_bootstrap", quick(s._bootstrap))
    rng = np.random.default_rng(3)
    hits, widths, unpaired = [], [], []
    for _ in range(150):
        drift = rng.lognormal(0.0, 0.3, 30)  # what both arms of one sample share
        a, b = 2 * drift * rng.lognormal(0, 0.03, 30), drift * rng.lognormal(0, 0.03, 30)
        found = s.median_ratio(a, b)
        hits.append(found.holds(2.0))
        widths.append(found.high - found.low)
        shuffled = s.median_ratio(a, rng.permutation(b))
        unpaired.append(shuffled.high - shuffled.low)
    assert 0.88 < np.mean(hits) <= 1.0
    assert np.median(widths) < 0.5 * np.median(unpaired)


def quick(bootstrap):
    return lambda data, statistic, confidence, n_resamples=0, **how: bootstrap(data, statistic, confidence, 600, **how)


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
    wrong = [not s.paired_difference(rng.normal(0, 1, 6), rng.normal(0, 1, 6)).holds(0) for _ in range(400)]
    assert 0.015 < np.mean(wrong) < 0.09


def test_equivalence_needs_precision_not_only_a_small_difference():
    rng = np.random.default_rng(6)
    base = rng.lognormal(0, 0.1, 40)
    assert s.equivalent(base * rng.lognormal(0, 0.01, 40), base)
    assert not s.equivalent(1.1 * base, base)
    assert not s.equivalent(rng.lognormal(0, 0.5, 8), rng.lognormal(0, 0.5, 8))
    assert s.equivalent_means([1.0, 1.1, 0.9, 1.0], [1.0, 1.1, 0.9, 1.05], 0.1)
    assert not s.equivalent_means([1.0, 3.0, 0.9, 1.0], [1.0, 1.1, 0.9, 1.05], 0.1)


def test_equivalence_is_rarely_found_at_the_margin(monkeypatch):
    monkeypatch.setattr(s, "_bootstrap", quick(s._bootstrap))
    rng = np.random.default_rng(7)
    base = rng.lognormal(0, 0.1, (150, 30))
    found = [s.equivalent(1.05 * b * rng.lognormal(0, 0.05, 30), b) for b in base]
    assert np.mean(found) < 0.12


def test_too_few_values_give_no_interval():
    for found in (s.median_interval([1.0] * 5), s.median_ratio([1.0] * 5, [2.0] * 5), s.mean_interval([1.0])):
        assert not found.bounded
        assert (found.low, found.high) == (-math.inf, math.inf)
    assert not s.seed_interval(4, lambda rows: rows.mean(), 0.95, "1").bounded
    assert s.mean_interval([2.0, 2.0]) == s.Interval(2.0, 2.0, 2.0, 2)


@pytest.mark.parametrize("bad", [[], [1.0, math.nan]])
def test_bad_values_are_refused(bad):
    with pytest.raises(ValueError, match="non-empty list of numbers without NaN"):
        s.median_interval(bad)
    with pytest.raises(ValueError, match="same length"):
        s.paired_difference([1.0], [1.0, 2.0])


def test_same_data_give_the_same_interval():
    values = np.random.default_rng(8).normal(size=30)
    assert s.median_interval(values) == s.median_interval(values.copy())


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
