"""Point estimates with intervals, and the tests that the claims are decided by.

Medians (times, steps to a target) get a percentile bootstrap from `scipy.stats.bootstrap`, means over seeds get Student's
interval from `scipy.stats`: with three to ten seeds, as studies of this kind have, a bootstrap of a mean is too narrow and
Student's interval is not. Every random generator is seeded, so the same records give the same interval on every machine.

An interval that the data cannot support is (-inf, inf), never a guess: a rule that asks for a bound then stays open.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
EQUIVALENCE_CONFIDENCE = 0.90
EQUIVALENCE_MARGIN = 0.05
RESAMPLES = 9999
SEED = 20261123
#: With fewer values the widest interval between order statistics covers the median with less than 95 %: 1 - 2 / 2**n.
MIN_FOR_MEDIAN = 6

Values = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval; `n` independent values stand behind it."""

    value: float
    low: float
    high: float
    n: int
    unit: str = "1"

    @property
    def bounded(self) -> bool:
        """Whether the data supported an interval at all."""
        return math.isfinite(self.low) or math.isfinite(self.high)

    def holds(self, value: float) -> bool:
        """Whether `value` lies in the interval."""
        return self.low <= value <= self.high

    def within(self, low: float, high: float) -> bool:
        """Whether the whole interval lies in [low, high]."""
        return low <= self.low and self.high <= high

    def map(self, function: Callable[[float], float], unit: str) -> Interval:
        """The interval of a monotone function of the quantity, rising or falling."""
        low, high = sorted((function(self.low), function(self.high)))
        return Interval(function(self.value), low, high, self.n, unit)


def _array(values: Values) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    if array.ndim != 1 or array.size == 0 or np.isnan(array).any():
        raise ValueError(f"A statistic needs a non-empty list of numbers without NaN, not one of shape {array.shape}.")
    return array


def _paired(a: Values, b: Values) -> tuple[np.ndarray, np.ndarray]:
    a, b = _array(a), _array(b)
    if a.size != b.size:
        raise ValueError(f"Paired samples have the same length, not {a.size} and {b.size}.")
    return a, b


def _bootstrap(
    data: tuple[np.ndarray, ...], statistic: Callable, confidence: float, n_resamples: int = RESAMPLES, **how: bool
) -> tuple[float, float]:
    result = stats.bootstrap(
        data,
        statistic,
        paired=len(data) > 1,
        confidence_level=confidence,
        n_resamples=n_resamples,
        method="percentile",
        rng=np.random.default_rng(SEED),
        **how,
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def median_interval(values: Values, confidence: float = CONFIDENCE, unit: str = "1") -> Interval:
    """Median with a percentile bootstrap interval.

    Infinite values ("never reached") are allowed: they count as larger than every finite one.

    Raises:
        ValueError: no values, or NaN among them.
    """
    array = _array(values)
    # inf - inf is not a number, so misses enter as one more than the largest finite value and leave as inf.
    finite = array[np.isfinite(array)]
    ceiling = (finite.max() if finite.size else 0.0) + 1.0
    array = np.where(np.isfinite(array), array, ceiling)

    def back(value: float) -> float:
        return math.inf if finite.size < array.size and value > ceiling - 1.0 else float(value)

    low, high = -math.inf, math.inf
    if array.size >= MIN_FOR_MEDIAN:
        low, high = (back(x) for x in _bootstrap((array,), np.median, confidence, vectorized=True))
    return Interval(back(np.median(array)), low, high, array.size, unit)


def mean_interval(values: Values, confidence: float = CONFIDENCE, unit: str = "1") -> Interval:
    """Mean with Student's interval (`scipy.stats.ttest_1samp`).

    Raises:
        ValueError: no values, or NaN among them.
    """
    array = _array(values)
    mean = float(array.mean())
    if array.size < 2:
        return Interval(mean, -math.inf, math.inf, array.size, unit)
    if np.ptp(array) == 0:
        return Interval(mean, mean, mean, array.size, unit)
    bounds = stats.ttest_1samp(array, 0.0).confidence_interval(confidence)
    return Interval(mean, float(bounds.low), float(bounds.high), array.size, unit)


def paired_difference(a: Values, b: Values, confidence: float = CONFIDENCE, unit: str = "1") -> Interval:
    """Mean of `a - b` over pairs (equal seeds), with Student's interval of the paired t-test.

    Raises:
        ValueError: the lengths differ, no values, or NaN among them.
    """
    a, b = _paired(a, b)
    return mean_interval(a - b, confidence, unit)


def median_ratio(a: Values, b: Values, confidence: float = CONFIDENCE) -> Interval:
    """median(a) / median(b) where a[i] and b[i] were taken next to each other; pairs are resampled together.

    Raises:
        ValueError: the lengths differ, no values, or NaN among them.
    """
    a, b = _paired(a, b)

    def statistic(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.median(x, axis=axis) / np.median(y, axis=axis)

    low, high = -math.inf, math.inf
    if a.size >= MIN_FOR_MEDIAN:
        low, high = _bootstrap((a, b), statistic, confidence, vectorized=True)
    return Interval(float(statistic(a, b)), low, high, a.size)


def equivalent(a: Values, b: Values, margin: float = EQUIVALENCE_MARGIN) -> bool:
    """Whether the ratio of medians is 1 to within `margin`: its 90 % interval lies in [1 - margin, 1 + margin].

    Inclusion of the 90 % interval is the two one-sided tests procedure at 5 % (Schuirmann 1987).
    """
    return median_ratio(a, b, EQUIVALENCE_CONFIDENCE).within(1 - margin, 1 + margin)


def equivalent_means(a: Values, b: Values, margin: float) -> bool:
    """Whether paired means are equal to within ±`margin` (in their unit): inclusion of the 90 % interval, as above."""
    return paired_difference(a, b, EQUIVALENCE_CONFIDENCE).within(-margin, margin)


def time_to_target(steps: Values, values: Values, target: float, higher_is_better: bool = True) -> float:
    """The first of `steps` at which `values` reach `target`; inf where they never do.

    The resolution is that of the recorded steps: nothing is interpolated.
    """
    steps, values = _paired(steps, values)
    order = np.argsort(steps, kind="stable")
    reached = values[order] >= target if higher_is_better else values[order] <= target
    return float(steps[order][np.argmax(reached)]) if reached.any() else math.inf


def width_near_best(rates: Values, scores: Values, tolerance: float = 0.05) -> float:
    """Decades of learning rate around the best one whose score stays within `tolerance` of the best (relative).

    Higher scores are better. Between grid points the score is taken as linear in log10 of the rate; at the ends of the grid
    the interval ends too, so a wide interval is a lower bound.
    """
    rates, scores = _paired(rates, scores)
    order = np.argsort(rates)
    x, y = np.log10(rates[order]), scores[order]
    best = int(np.argmax(y))
    threshold = y[best] - tolerance * abs(y[best])

    def edge(step: int) -> float:
        at = best
        while 0 <= at + step < y.size and y[at + step] >= threshold:
            at += step
        beyond = at + step
        if not 0 <= beyond < y.size:
            return float(x[at])
        return float(x[at] + (x[beyond] - x[at]) * (y[at] - threshold) / (y[at] - y[beyond]))

    return edge(+1) - edge(-1)


def width_interval(rates: Values, by_seed: np.ndarray, confidence: float = CONFIDENCE) -> Interval:
    """`width_near_best` of the mean score over seeds, seeds resampled.

    Args:
        rates: learning rates, shape (n_rates,).
        by_seed: scores, shape (n_seeds, n_rates).
        confidence: of the interval.
    """
    return seed_interval(
        len(by_seed), lambda rows: width_near_best(rates, by_seed[rows].mean(axis=0)), confidence, "decades"
    )


def seed_interval(n_seeds: int, statistic: Callable[[np.ndarray], float], confidence: float, unit: str) -> Interval:
    """Any statistic of a set of seeds (given as row numbers), with a bootstrap over seeds; five seeds or no interval."""
    rows = np.arange(n_seeds)
    low, high = -math.inf, math.inf
    if n_seeds >= 5:
        # A plain call per resample is slow: fewer resamples are enough for a bound that is quoted to two digits.
        low, high = _bootstrap((rows,), lambda picked: statistic(picked.astype(int)), confidence, 999, vectorized=False)
    return Interval(float(statistic(rows)), low, high, n_seeds, unit)
