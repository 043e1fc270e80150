"""Point estimates with intervals, and the tests that the claims are decided by.

Medians (times, steps to a target) get a percentile bootstrap from `scipy.stats.bootstrap`, times from several processes a
nested one, means over seeds get Student's interval from `scipy.stats`: with three to ten seeds, as studies of this kind
have, a bootstrap of a mean is too narrow and Student's interval is not. Every random generator is seeded, so the same
records give the same interval on every machine.

An interval that the data cannot support is (-inf, inf), never a guess: a rule that asks for a bound then stays open.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

CONFIDENCE = 0.95
EQUIVALENCE_CONFIDENCE = 0.90
EQUIVALENCE_MARGIN = 0.05
RESAMPLES = 9999
SEED = 20261123
#: With fewer values the widest interval between order statistics covers the median with less than 95 %: 1 - 2 / 2**n.
MIN_FOR_MEDIAN = 6
#: Seeds, or runs of a task, without which there is no bootstrap over them. With few it is too narrow, as it takes the spread
#: for sqrt((n - 1) / n) of what it is: the docstrings give the measured coverage.
MIN_FOR_BOOTSTRAP = 5
#: With fewer processes an interval would say nothing about how much they differ.
MIN_PROCESSES = 3
NESTED_RESAMPLES = 1999

Values = Sequence[float] | np.ndarray
Times = Mapping[Hashable, np.ndarray]  #: process → seconds of its samples


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


def _tasks(by_task: Sequence[Values]) -> tuple[np.ndarray, ...]:
    if len(by_task) == 0:
        raise ValueError("A statistic over tasks needs the runs of at least one task.")
    return tuple(_array(runs) for runs in by_task)


def _table(table: pd.DataFrame, columns: int) -> pd.DataFrame:
    if len(table) == 0 or table.shape[1] < columns or table.isna().any(axis=None):
        raise ValueError(
            f"A comparison needs a table without NaN with a row or more and {columns} columns or more, "
            f"not one of shape {table.shape} with {int(table.isna().sum().sum())} NaN; drop incomplete rows first."
        )
    return table


def _bootstrap(
    data: tuple[np.ndarray, ...], statistic: Callable, confidence: float, n_resamples: int = RESAMPLES, **how: bool
) -> tuple[float, float]:
    """Bounds of the percentile bootstrap; several samples are resampled each for itself unless `paired`."""
    result = stats.bootstrap(
        data,
        statistic,
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

    Exact for normal values. Skewed ones are covered less often than 95 %: with 20 values 93 % (log-normal, sigma 0.5), 92 %
    (exponential), 88 % (one run in ten fails: 0 instead of 1) and 87 % (log-normal, sigma 1); the misses lie on the side of
    the long tail. Infinite values have no interval.

    Raises:
        ValueError: no values, or NaN among them.
    """
    array = _array(values)
    mean = float(array.mean())
    if array.size < 2 or not np.isfinite(array).all():
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
        low, high = _bootstrap((a, b), statistic, confidence, paired=True, vectorized=True)
    return Interval(float(statistic(a, b)), low, high, a.size)


# ------------------------------------------------------------------------------------------- times from several processes
# The same step differs from process to process by more than from call to call, so the bootstrap resamples processes first,
# and samples within each of them second. With three processes the bounds are about the lowest and the highest of their
# medians, between which the median of all processes lies in three of four cases (1 - 2 / 2**3) where calls vary little.
def _resampled(times: Sequence[np.ndarray], drawn: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Medians of resamples: `drawn` (resamples, processes) says which processes, samples are drawn from each anew.

    Args:
        times: of each process, shape (samples,) or (samples, arms); arms are drawn together.

    Returns:
        Shape (resamples,) or (resamples, arms).
    """
    longest = max(len(values) for values in times)
    taken = np.full((*drawn.shape, longest, *times[0].shape[1:]), np.nan)
    for process, values in enumerate(times):
        at = drawn == process
        taken[at, : len(values)] = rng.choice(values, (int(at.sum()), len(values)))
    return np.nanmedian(taken.reshape(len(drawn), -1, *times[0].shape[1:]), axis=1)


def _drawn(processes: int) -> tuple[np.ndarray, np.random.Generator]:
    rng = np.random.default_rng(SEED)
    return rng.choice(processes, (NESTED_RESAMPLES, processes)), rng


def nested_median(times: Times, scale: float = 1.0, unit: str = "s", confidence: float = CONFIDENCE) -> Interval:
    """Median over all samples of all processes, with the interval of the nested bootstrap; n counts processes."""
    each = [times[process] for process in sorted(times)]
    value = float(np.median(np.concatenate(each)))
    low, high = -math.inf, math.inf
    if len(each) >= MIN_PROCESSES:
        drawn, rng = _drawn(len(each))
        low, high = np.quantile(_resampled(each, drawn, rng), [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value * scale, float(low) * scale, float(high) * scale, len(each), unit)


def nested_ratio(a: Times, b: Times, confidence: float = CONFIDENCE) -> Interval:
    """median(a) / median(b) over the processes that both have, with the interval of the nested bootstrap.

    Processes of the same name ran both arms, interleaved, and are drawn together: what disturbed the machine then disturbed
    both. So are the samples of a process that has as many of either arm; others are drawn apart.

    Raises:
        ValueError: they have no process in common.
    """
    both = sorted(set(a) & set(b))
    if not both:
        raise ValueError("A ratio needs two arms that ran in the same rounds of processes.")
    each_a, each_b = ([times[process] for process in both] for times in (a, b))
    value = float(np.median(np.concatenate(each_a)) / np.median(np.concatenate(each_b)))
    low, high = -math.inf, math.inf
    if len(both) >= MIN_PROCESSES:
        drawn, rng = _drawn(len(both))
        if all(len(x) == len(y) for x, y in zip(each_a, each_b, strict=True)):
            pairs = [np.column_stack(pair) for pair in zip(each_a, each_b, strict=True)]
            medians = _resampled(pairs, drawn, rng).T
        else:
            medians = [_resampled(each, drawn, rng) for each in (each_a, each_b)]
        ratios = medians[0] / medians[1]
        low, high = np.quantile(ratios, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value, float(low), float(high), len(both))


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

    The best rate of a noisy curve is the one that noise favours, which makes the width too small. The 95 % interval holds
    the true width in 86, 90 and 92 % of cases with 5, 10 and 20 seeds where a seed's score spreads by 0.4 of the tolerance,
    but only in 40, 67 and 81 % where it spreads by twice the tolerance: its upper bound is then no bound.

    Args:
        rates: learning rates, shape (n_rates,).
        by_seed: scores, shape (n_seeds, n_rates).
        confidence: of the interval.
    """
    return seed_interval(
        len(by_seed), lambda rows: width_near_best(rates, by_seed[rows].mean(axis=0)), confidence, "decades"
    )


def seed_interval(n_seeds: int, statistic: Callable[[np.ndarray], float], confidence: float, unit: str) -> Interval:
    """Any statistic of a set of seeds (given as row numbers), with a bootstrap over seeds; five seeds or no interval.

    Of a mean of normal values the 95 % interval holds the truth in 81, 91 and 93 % of cases with 5, 10 and 20 seeds.
    """
    rows = np.arange(n_seeds)
    low, high = -math.inf, math.inf
    if n_seeds >= MIN_FOR_BOOTSTRAP:
        # A plain call per resample is slow: fewer resamples are enough for a bound that is quoted to two digits.
        low, high = _bootstrap((rows,), lambda picked: statistic(picked.astype(int)), confidence, 999, vectorized=False)
    return Interval(float(statistic(rows)), low, high, n_seeds, unit)


def interquartile_mean(by_task: Sequence[Values], confidence: float = CONFIDENCE, unit: str = "1") -> Interval:
    """Mean of the middle half of all runs of all tasks, with a stratified bootstrap (Agarwal et al. 2021, rliable).

    Each task's runs are resampled among themselves, so the interval speaks about other seeds of these tasks, not about other
    tasks; the 95 % interval holds the truth in 89, 92 and 94 % of cases with 5, 10 and 20 runs per task. A task counts by
    its number of runs. A run without a score may enter as -inf, the worst; the mean is finite where at most a quarter do.

    Args:
        by_task: for each task the scores of its runs, on a scale that the tasks share.
        confidence: of the interval; (-inf, inf) where a task has fewer than `MIN_FOR_BOOTSTRAP` runs.
        unit: of the scores.

    Raises:
        ValueError: no tasks, a task without runs, NaN or +inf among the scores.
    """
    tasks = _tasks(by_task)
    if any(np.isposinf(runs).any() for runs in tasks):
        raise ValueError("A score is finite, or -inf for a run without one; +inf was given.")

    def statistic(*runs: np.ndarray, axis: int = -1) -> np.ndarray:
        return stats.trim_mean(np.concatenate(runs, axis=axis), 0.25, axis=axis)

    low, high = -math.inf, math.inf
    if min(runs.size for runs in tasks) >= MIN_FOR_BOOTSTRAP:
        with np.errstate(invalid="ignore"):  # SciPy also takes the standard error, which -inf has none of
            low, high = _bootstrap(tasks, statistic, confidence, vectorized=True)
    return Interval(float(statistic(*tasks)), low, high, sum(runs.size for runs in tasks), unit)


def _superiority(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
    """P(a > b) + P(a = b) / 2 over all pairs: Mann and Whitney's U as a share of its maximum."""
    # The method decides about a p value that is not used; this one costs nothing.
    return stats.mannwhitneyu(a, b, method="asymptotic", axis=axis).statistic / (a.shape[axis] * b.shape[axis])


def probability_of_improvement(a: Sequence[Values], b: Sequence[Values], confidence: float = CONFIDENCE) -> Interval:
    """Mean over tasks of the probability that a run of `a` scores above one of `b`, ties half (Agarwal et al. 2021).

    The runs of every task and arm are resampled for themselves. Where equal seeds make the runs of both arms alike, the
    interval is therefore wider than it need be. Where the arms overlap in no task there is nothing to resample; the bounds
    are then those at which such a result, of as many pairs of runs, would have probability 1 - `confidence`.

    Args:
        a: for each task the scores of the first arm's runs, higher better; infinite scores only have to be comparable.
        b: the same tasks, in the same order, for the second arm; the number of runs may differ.
        confidence: of the interval; (-inf, inf) where an arm has fewer than `MIN_FOR_BOOTSTRAP` runs on a task.

    Returns:
        The probability, in [0, 1]; `n` counts the runs of both arms.

    Raises:
        ValueError: no tasks, different numbers of tasks, a task without runs, NaN among the scores.
    """
    a, b = _tasks(a), _tasks(b)
    if len(a) != len(b):
        raise ValueError(f"Both arms need runs on the same tasks, not on {len(a)} and {len(b)}.")

    def statistic(*runs: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.mean([_superiority(*pair, axis) for pair in zip(runs[: len(a)], runs[len(a) :], strict=True)], axis=0)

    value = float(statistic(*a, *b))
    fewest = min(runs.size for runs in a + b)
    low, high = -math.inf, math.inf
    if fewest >= MIN_FOR_BOOTSTRAP:
        low, high = _bootstrap((*a, *b), statistic, confidence, vectorized=True)
        if low == high:
            # With probability q_t of another outcome on task t, `fewest` independent pairs per task all show the same one
            # with at most (1 - mean q) ** (tasks * fewest), and the mean is off by at most the mean of q.
            slack = 1 - (1 - confidence) ** (1 / (len(a) * fewest))
            low, high = max(0.0, value - slack), min(1.0, value + slack)
    return Interval(value, low, high, sum(runs.size for runs in a + b))


def cliffs_delta(a: Values, b: Values) -> float:
    """Cliff's delta (1993): P(a > b) - P(a < b) over all pairs, from -1 to 1; positive where `a` is larger.

    Infinite values are allowed: they only have to be comparable.

    Raises:
        ValueError: no values, or NaN among them.
    """
    return float(2 * _superiority(_array(a), _array(b)) - 1)


def _signed_rank(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Wilcoxon's two-sided p value, and the median of a - b."""
    with np.errstate(invalid="ignore"):  # equal infinities differ by 0; a median between infinities of both signs is NaN
        difference = np.where(a == b, 0.0, a - b)
        median = float(np.median(difference))
    # Scores are shares of a few samples: 0.9 - 0.85 and 0.85 - 0.8 have to tie although their last bits differ.
    both = np.abs(np.concatenate([a, b]))
    difference = np.round(difference / both[np.isfinite(both)].max(initial=np.finfo(float).tiny), 12)
    return float(stats.wilcoxon(difference, zero_method="zsplit").pvalue) if difference.any() else 1.0, median


def paired_tests(pairs: Mapping[str, tuple[Values, Values]]) -> pd.DataFrame:
    """Wilcoxon's signed-rank test of each pair of arms, with Holm's correction (1979) for testing all of them.

    With fewer than six pairs of values no p value is below 0.05, whatever the data. An infinite value (a run without a
    score) ranks as the largest difference; against the same infinity the difference is 0. A zero difference counts half for
    each side; where all are zero p is 1.

    Args:
        pairs: by name of the comparison two lists of the same length, a[i] and b[i] of the same block (task and seed).

    Returns:
        Index `name`, in the order given; columns p (two-sided), p_holm (the probability of one false alarm among all
        comparisons stays below the level that p_holm is held against), delta (`cliffs_delta`, which does not use the
        pairing) and median_difference (of a - b, in their unit).

    Raises:
        ValueError: no comparisons, lengths differ, no values, or NaN among them.
    """
    from statsmodels.stats.multitest import multipletests  # slow to import

    if not pairs:
        raise ValueError("Paired tests need at least one comparison.")
    rows = {}
    for name, (a, b) in pairs.items():
        a, b = _paired(a, b)
        p, median = _signed_rank(a, b)
        rows[name] = {"p": p, "delta": cliffs_delta(a, b), "median_difference": median}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("name")
    table.insert(1, "p_holm", multipletests(table["p"], method="holm")[1])
    return table


def friedman(scores: pd.DataFrame) -> tuple[float, pd.Series]:
    """Friedman's test that no arm is better than another, and the arms' mean ranks (Demšar 2006).

    Args:
        scores: a row for each block (problem, or problem and seed), a column for each of three arms or more, higher better.
            Only the order within a row counts, so infinite scores are allowed.

    Returns:
        The p value (1 where every row is one tie) and by arm the mean rank; 1 is the best, ties share the mean of their
        ranks. The p value is that of chi-squared: false alarms at 5 % are 4 to 5 % with nine blocks of five to fifteen arms,
        but 7 % with four blocks of three.

    Raises:
        ValueError: no rows, fewer than three columns, or NaN.
    """
    ranks = _table(scores, 3).rank(axis=1, ascending=False)
    tied = ranks.nunique(axis=1).eq(1).all()
    p = 1.0 if tied else float(stats.friedmanchisquare(*ranks.to_numpy().T).pvalue)
    return p, ranks.mean()


def nemenyi(scores: pd.DataFrame) -> pd.DataFrame:
    """Nemenyi's test of every pair of arms after Friedman's: p values, corrected for testing all pairs (Demšar 2006).

    Args:
        scores: as for `friedman`.

    Returns:
        Symmetric, arms by arms, 1 on the diagonal.

    Raises:
        ValueError: as for `friedman`.
    """
    from scikit_posthocs import posthoc_nemenyi_friedman  # slow to import

    ranks = _table(scores, 3).rank(axis=1)
    p = posthoc_nemenyi_friedman(ranks.to_numpy()).to_numpy()
    return pd.DataFrame(p, index=scores.columns, columns=scores.columns)


def performance_profile(times: pd.DataFrame, factors: Values) -> pd.DataFrame:
    """Share of problems on which an arm needs at most `factor` times what the fastest arm needs (Dolan and Moré 2002).

    Args:
        times: a row for each problem, a column for each arm; any unit, inf where the target was missed. A problem that no
            arm solves counts against all of them. A time of 0 is only matched by another 0.
        factors: from 1 (the share of problems on which an arm is the fastest, ties counting for all).

    Returns:
        Index `factor`, columns arms, shares from 0 to 1.

    Raises:
        ValueError: no rows, no columns, NaN, a negative time, no factors or one below 1.
    """
    factors = _array(factors)
    if (_table(times, 1) < 0).any(axis=None) or (factors < 1).any():
        raise ValueError("A performance profile needs times from 0 and factors from 1.")
    fastest = times.min(axis=1)
    solved = times.lt(math.inf)
    shares = {factor: (times.le(factor * fastest, axis=0) & solved).mean() for factor in factors}
    return pd.DataFrame.from_dict(shares, orient="index", columns=times.columns).rename_axis("factor")
