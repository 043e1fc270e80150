"""What the records of the optimizer study say: targets, scores, widths, ranks (definitions: docs/protocol.md).

Every function takes the study's table (`Records("shipped")["optimizers"]`) and is a function of it alone. Tables have one
column an optimizer; an optimizer that did not run on a problem has NaN there.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy import stats

from hybridbench.analysis import tables
from hybridbench.analysis.statistics import (
    CONFIDENCE,
    RESAMPLES,
    SEED,
    Interval,
    cliffs_delta,
    interquartile_mean,
    paired_difference,
    paired_tests,
    performance_profile,
    probability_of_improvement,
    width_interval,
)
from hybridbench.analysis.tables import NotMeasured
from hybridbench.errors import ConfigurationError, check_name

STUDY = "optimizers"
#: The problems by kind.
KINDS = {
    "classification": ("digits_3v5", "breast_cancer", "wine", "hidden_manifold", "two_curves"),
    "regression": ("diabetes",),
    "energy": ("tfim", "basins", "original"),
}
#: The original study's objective is a counter-example with one useful parameter: it counts in no aggregate over problems.
LEFT_OUT = "original"
#: The optimizers whose best results set the target of a problem.
REFERENCE = ("adamw", "nadam", "momentum", "nesterov")
TARGET_SHARE = 0.75  #: of the steps, in which the target has to be reachable
RATES = (1e-4, 10.0)  #: learning rates that are searched first
BUDGET = 20  #: points of that search
SCORE_DECIMALS = 9  #: mean losses that agree to so many are equal
NEAR_BEST = 0.05
NEAR_DROP = 0.9  #: of the way from the untrained loss to the best, for the exploratory targets
FACTORS = np.linspace(1, 4, 61)
#: What tells the runs of a phase apart.
RUN = ["problem", "optimizer", "learning_rate", "knobs", "start", "n_layers", "seed"]
ARM = ["problem", "optimizer"]


def of(table: pd.DataFrame, phase: str, model: str = "hybrid") -> pd.DataFrame:
    """The rows of one phase and model, each run once, on the machine with most rows; empty where there are none.

    Where a folder holds runs of several lengths (a notebook's own beside the full study's) the longest are taken, and of
    several tuned settings of an optimizer the one that the tuning in this table chooses.
    """
    rows = table[(table["phase"] == phase) & (table["model"] == model)]
    if rows.empty:
        return rows
    rows = rows[rows["machine"] == table["machine"].mode().iloc[0]]
    rows = rows[rows["steps"] == rows["steps"].max()].drop_duplicates([*RUN, "step"])
    if phase in ("tuned", "control") and rows.groupby(ARM)["record"].nunique().max() > 1:
        rows = rows.merge(choices(table, model).reset_index()[[*ARM, "learning_rate", "knobs"]])
    return rows


def ends(rows: pd.DataFrame) -> pd.DataFrame:
    """The last row of every run, with the boolean column `diverged`.

    A run diverged if a loss stopped being finite or its last training loss is above its first.
    """
    ordered = rows.sort_values(["record", "seed", "step"], kind="stable")
    finite = np.isfinite(ordered["train_loss"]) & np.isfinite(ordered["val_loss"])
    always = finite.groupby([ordered["record"], ordered["seed"]]).all().to_numpy()
    first = ordered.drop_duplicates(["record", "seed"])["train_loss"].to_numpy()
    last = ordered.drop_duplicates(["record", "seed"], keep="last").reset_index(drop=True)
    return last.assign(diverged=~(always & (last["train_loss"].to_numpy() <= first)))


def _by_arm(rows: pd.DataFrame, value: str) -> pd.DataFrame:
    """Index (problem, seed), columns optimizer."""
    return rows.pivot(index=["problem", "seed"], columns="optimizer", values=value).sort_index(axis=1)


# ---------------------------------------------------------------------------------------------------------------- tuning
def _points(table: pd.DataFrame, model: str) -> pd.DataFrame:
    """Every tuning point, one row a record: mean final validation loss (inf if a seed diverged), and that of the start."""
    rows = of(table, "tuning", model)
    last, first = ends(rows), rows[rows["step"] == 0]
    lost = last.assign(val_loss=last["val_loss"].fillna(math.inf))
    point = ["record", *ARM, "learning_rate", "knobs"]
    points = lost.groupby(point, sort=True).agg(val_loss=("val_loss", "mean"), seeds=("seed", "nunique")).reset_index()
    points["untrained"] = points["record"].map(first.groupby("record")["val_loss"].mean())
    # A point that a shorter study tried with fewer seeds is not comparable.
    return points[points["seeds"] == points.groupby(ARM)["seeds"].transform("max")]


def choices(table: pd.DataFrame, model: str = "hybrid") -> pd.DataFrame:
    """What the tuning chose: index (problem, optimizer).

    Returns:
        Columns learning_rate, knobs and val_loss (mean over the tuning seeds) of the chosen point (of points that agree to
        `SCORE_DECIMALS` decimals, the one with the lowest rate), n_points that were tried,
        widened (the search went beyond `RATES`) and at_edge (the chosen rate is the lowest or highest tried).
    """
    points = _points(table, model)
    # Ties as `training.study.best_point` breaks them: equal but for rounding, the lowest rate first.
    points = points.sort_values(["learning_rate", "knobs"])
    by_arm = points.assign(val_loss=points["val_loss"].round(SCORE_DECIMALS)).groupby(ARM)
    best = points.loc[by_arm["val_loss"].idxmin()].set_index(ARM)[["learning_rate", "knobs", "val_loss"]]
    low, high = by_arm["learning_rate"].min(), by_arm["learning_rate"].max()
    best["n_points"] = by_arm.size()
    best["widened"] = (low < RATES[0]) | (high > RATES[1])
    best["at_edge"] = (best["learning_rate"] == low) | (best["learning_rate"] == high)
    return best


def budget_curves(table: pd.DataFrame) -> pd.DataFrame:
    """Expected lowest mean validation loss after n of the `BUDGET` tuning points, drawn without replacement (hybrid model).

    Points beyond `RATES` are left out. A point that diverged, or ends above the untrained model, counts as the untrained
    model, which one has in any case.

    Returns:
        Index (problem, n), n from 1, columns optimizer.
    """
    points = _points(table, "hybrid")
    points = points[points["learning_rate"].between(*RATES)]
    points = points.assign(val_loss=points[["val_loss", "untrained"]].min(axis=1))
    found = {key: _expected_minimum(losses.to_numpy()) for key, losses in points.groupby(ARM)["val_loss"]}
    curves = pd.DataFrame.from_dict(found, orient="index").rename_axis(columns="n")
    curves.index = pd.MultiIndex.from_tuples(curves.index, names=ARM)
    return curves.stack().unstack("optimizer").sort_index()


def _expected_minimum(values: np.ndarray) -> dict[int, float]:
    """Mean of the lowest of n values drawn without replacement, for n = 1 … `BUDGET` or all."""
    values = np.sort(values)
    # The k-th lowest (from 0) is the lowest drawn if it is drawn and the other n - 1 come from those above it.
    above = range(len(values) - 1, -1, -1)
    return {
        n: float(np.dot([math.comb(k, n - 1) for k in above], values) / math.comb(len(values), n))
        for n in range(1, min(len(values), BUDGET) + 1)
    }


# --------------------------------------------------------------------------------------------------------------- targets
def targets(table: pd.DataFrame) -> pd.Series:
    """The target loss by problem, from the tuned hybrid runs of `REFERENCE` (those of them that there are).

    The lowest, over these optimizers, of the median over seeds of the lowest validation loss in the first 75 % of the steps.

    Raises:
        NotMeasured: none of them was tuned.
    """
    rows = of(table, "tuned")
    rows = rows[rows["optimizer"].isin(REFERENCE) & (rows["step"] <= TARGET_SHARE * rows["steps"])]
    if rows.empty:
        raise NotMeasured(f"no tuned runs of {', '.join(REFERENCE)}, which set the targets")
    lowest = rows.groupby([*ARM, "seed"])["val_loss"].min()
    return lowest.groupby(level=ARM).median().groupby(level="problem").min().rename("target")


def near_targets(table: pd.DataFrame) -> pd.Series:
    """By problem a loss that most tuned optimizers reach: `NEAR_DROP` of the way from untrained to the best final median.

    Exploratory: the protocol's targets, which few reach, are `targets`.

    Raises:
        NotMeasured: no tuned runs.
    """
    rows = of(table, "tuned")
    if rows.empty:
        raise NotMeasured("no tuned runs")
    untrained = rows[rows["step"] == 0].groupby("problem")["val_loss"].mean()
    best = ends(rows).groupby(ARM)["val_loss"].median().groupby(level="problem").min()
    return (untrained - NEAR_DROP * (untrained - best)).rename("target")


def steps_to_target(table: pd.DataFrame, target: pd.Series | None = None) -> pd.DataFrame:
    """The first evaluated step at which a tuned hybrid run's validation loss is at the target; inf where it never is.

    Args:
        table: of the study.
        target: by problem; `targets` if left out.

    Returns:
        Index (problem, seed), columns optimizer.

    Raises:
        NotMeasured: as `targets`.
    """
    target = targets(table) if target is None else target
    rows = of(table, "tuned")
    rows = rows[rows["problem"].isin(target.index)]
    reached = rows["step"].astype(float).where(rows["val_loss"] <= rows["problem"].map(target), math.inf)
    return reached.groupby([rows[name] for name in ("problem", "seed", "optimizer")]).min().unstack("optimizer")


def seconds_to_target(table: pd.DataFrame, timing: pd.DataFrame, target: pd.Series | None = None) -> pd.DataFrame:
    """`steps_to_target` times the median step time of each optimizer.

    Args:
        table: of the study.
        timing: rows of the study "timing"; of cell "optimizers" the run nearest to the original study's workload counts.
        target: by problem; `targets` if left out.

    Raises:
        NotMeasured: as `targets`, or no step times.
    """
    cell = timing[(timing["cell"] == "optimizers") & (timing["part"] == "step")]
    if cell.empty:
        raise NotMeasured("no timing of cell 'optimizers'")
    step = tables.nearest_runs(cell)[0].groupby("arm")["seconds"].median()
    steps = steps_to_target(table, target)
    return steps * step.reindex(steps.columns)


def median_steps(table: pd.DataFrame, target: pd.Series | None = None) -> pd.DataFrame:
    """Median over seeds of the steps to the target, by problem, columns optimizer; without `LEFT_OUT`.

    Raises:
        NotMeasured: as `targets`.
    """
    steps = steps_to_target(table, target).groupby(level="problem").median()
    return steps.drop(index=LEFT_OUT, errors="ignore")


def profile(table: pd.DataFrame, target: pd.Series | None = None) -> pd.DataFrame:
    """Performance profile of the median steps to the target, over the problems that all tuned optimizers ran on.

    Returns:
        Index factor (1 to 4 times the fastest), columns optimizer, shares from 0 to 1.

    Raises:
        NotMeasured: as `targets`.
    """
    return performance_profile(median_steps(table, target).dropna(), FACTORS)


# ---------------------------------------------------------------------------------------------------------------- scores
def _normalised(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of all problems but `LEFT_OUT`, with the column `score`."""
    rows = rows[rows["problem"] != LEFT_OUT]
    score = rows["test_score"].where(~rows["problem"].isin(KINDS["energy"]), rows["val_score"])
    # Without a bound below, one run that went astray would outweigh all others.
    return rows.assign(score=score.fillna(0.0).clip(lower=0.0))


def scores(table: pd.DataFrame, phase: str = "tuned", model: str = "hybrid") -> pd.DataFrame:
    """Normalised final score of every run: index (problem, seed), columns optimizer, values 0 to 1, without `LEFT_OUT`.

    Test accuracy or R squared of a data task, share of the optimum of an energy (of `basins`: of the coordinates in the
    global basin). What is below 0, or was lost to a divergence, counts as 0.
    """
    return _by_arm(_normalised(ends(of(table, phase, model))), "score")


def gaps(table: pd.DataFrame, phase: str = "tuned", model: str = "hybrid") -> pd.DataFrame:
    """Final training score less test score of every run on a data task: index (problem, seed), columns optimizer."""
    last = ends(of(table, phase, model))
    last = last[~last["problem"].isin(KINDS["energy"])]
    return _by_arm(last.assign(gap=last["train_score"] - last["test_score"]), "gap")


def by_problem(values: pd.Series) -> list[np.ndarray]:
    """The values of one optimizer (index problem, seed), one array a problem."""
    return [of_problem.to_numpy() for _, of_problem in values.dropna().groupby(level="problem")]


def aggregate(table: pd.DataFrame, phase: str = "tuned", model: str = "hybrid") -> pd.Series:
    """Interquartile mean of the normalised scores over problems and seeds, an `Interval` by optimizer."""
    by_arm = scores(table, phase, model)
    return pd.Series({name: interquartile_mean(by_problem(by_arm[name])) for name in by_arm}, dtype=object)


def divergence(table: pd.DataFrame) -> pd.DataFrame:
    """Share of hybrid runs that diverged: index phase (tuning, tuned, default), columns optimizer."""
    found = {phase: ends(of(table, phase)) for phase in ("tuning", "tuned", "default")}
    shares = {phase: last.groupby("optimizer")["diverged"].mean() for phase, last in found.items()}
    return pd.DataFrame(shares).T.rename_axis(index="phase", columns="optimizer")


# -------------------------------------------------------------------------------------------------------- learning rates
def rate_ends(table: pd.DataFrame) -> pd.DataFrame:
    """`ends` of the phase "rates", with the column `score`, which is compared; -inf where a loss is not finite.

    Minus the validation loss; of an energy the share of the untrained gap that is closed, since 5 % of a gap that may reach
    zero would be no tolerance.
    """
    rows = of(table, "rates")
    last, untrained = ends(rows), rows[rows["step"] == 0].groupby("problem")["val_loss"].mean()
    closed = 1 - last["val_loss"] / last["problem"].map(untrained)
    return last.assign(score=closed.where(last["problem"].isin(KINDS["energy"]), -last["val_loss"]).fillna(-math.inf))


def _rate_scores(table: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """By (problem, optimizer) the scores of `rate_ends`: index seed, columns learning rate."""
    wide = rate_ends(table).pivot(index=[*ARM, "seed"], columns="learning_rate", values="score")
    return {key: rows.droplevel(ARM).dropna(axis=1) for key, rows in wide.groupby(level=ARM)}


def rate_widths(table: pd.DataFrame) -> pd.DataFrame:
    """Decades of learning rate within 5 % of the best (`statistics.width_interval`), at default knobs.

    Returns:
        Index (problem, optimizer), columns value, low, high; NaN where at every rate a seed diverged.
    """
    found = {}
    for key, by_seed in _rate_scores(table).items():
        width = Interval(math.nan, math.nan, math.nan, 0)
        if np.isfinite(by_seed.mean()).any():
            width = width_interval(by_seed.columns, by_seed.to_numpy())
        found[key] = {"value": width.value, "low": width.low, "high": width.high}
    widths = pd.DataFrame.from_dict(found, orient="index", columns=["value", "low", "high"])
    widths.index = pd.MultiIndex.from_tuples(widths.index, names=ARM)
    return widths


# ----------------------------------------------------------------------------------------------------------- comparisons
def comparisons(table: pd.DataFrame, against: str = "adam") -> pd.DataFrame:
    """Every tuned optimizer against one, on the normalised scores of the hybrid model.

    Returns:
        Index optimizer; columns p, p_holm, delta and median_difference (`statistics.paired_tests`, blocks are problem and
        seed), n (blocks) and improvement, improvement_low, improvement_high (`statistics.probability_of_improvement`).

    Raises:
        NotMeasured: `against` was not tuned, or nothing else was.
    """
    by_arm = scores(table)
    others = [name for name in by_arm if name != against]
    if against not in by_arm or not others:
        raise NotMeasured(f"no tuned runs of {against} and of another optimizer")
    pairs = {name: by_arm[[name, against]].dropna() for name in others}
    tests = paired_tests({name: (both[name], both[against]) for name, both in pairs.items()}).rename_axis("optimizer")
    better = [probability_of_improvement(by_problem(both[name]), by_problem(both[against])) for name, both in pairs.items()]
    return tests.assign(
        n=[len(both) for both in pairs.values()],
        improvement=[interval.value for interval in better],
        improvement_low=[interval.low for interval in better],
        improvement_high=[interval.high for interval in better],
    )


def control(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Adam against itself on other seeds: by problem the difference of mean normalised scores, tuned less control.

    Returns:
        By problem: difference, low, high (95 % bootstrap of two independent samples), p (Mann and Whitney), p_holm
        (corrected over problems) and delta (Cliff's).

    Raises:
        NotMeasured: one of the two phases has no runs of Adam.
    """
    from statsmodels.stats.multitest import multipletests  # slow to import

    found: dict[str, dict[str, float]] = {}
    both = [scores(table, phase) for phase in ("tuned", "control")]
    if not all("adam" in by_arm for by_arm in both):
        raise NotMeasured("no runs of Adam with tuned and with control seeds")
    tuned, other = (dict(list(by_arm["adam"].dropna().groupby(level="problem"))) for by_arm in both)
    for problem in sorted(tuned.keys() & other.keys()):
        a, b = tuned[problem].to_numpy(), other[problem].to_numpy()
        bounds = stats.bootstrap(
            (a, b),
            lambda x, y, axis: x.mean(axis=axis) - y.mean(axis=axis),
            confidence_level=CONFIDENCE,
            n_resamples=RESAMPLES,
            method="percentile",
            rng=np.random.default_rng(SEED),
        ).confidence_interval
        # Equal scores throughout leave nothing to rank.
        p = float(stats.mannwhitneyu(a, b).pvalue) if np.ptp(np.concatenate([a, b])) else 1.0
        found[problem] = {
            "difference": float(a.mean() - b.mean()),
            "low": float(bounds.low),
            "high": float(bounds.high),
            "p": p,
            "delta": cliffs_delta(a, b),
        }
    corrected = multipletests([values["p"] for values in found.values()], method="holm")[1]
    for values, p_holm in zip(found.values(), corrected, strict=True):
        values["p_holm"] = float(p_holm)
    return found


def models(table: pd.DataFrame) -> pd.DataFrame:
    """The hybrid model against its twin and the classical model, each with the optimizer that its tuning found best.

    Returns:
        Index (problem, against), against separable or classical; columns value, low, high: hybrid less the other in
        normalised score, paired by seed, with intervals that hold together (Bonferroni); n seeds; optimizer and
        optimizer_other.

    Raises:
        NotMeasured: no problem has two models.
    """
    best, by_model = {}, {}
    for model in ("hybrid", "separable", "classical"):
        if not of(table, "tuned", model).empty:
            best[model] = choices(table, model)["val_loss"].unstack("optimizer").idxmin(axis=1)
            by_model[model] = scores(table, "tuned", model)
    pairs = {}
    for other in [model for model in by_model if model != "hybrid" and "hybrid" in by_model]:
        for problem in by_model["hybrid"].index.unique("problem").intersection(by_model[other].index.unique("problem")):
            names = best["hybrid"][problem], best[other][problem]
            sides = [by_model[m][name].loc[problem] for m, name in zip(("hybrid", other), names, strict=True)]
            pairs[problem, other] = (pd.concat(sides, axis=1, join="inner").dropna().to_numpy(), names)
    if not pairs:
        raise NotMeasured("no problem with a hybrid model and another one")
    found = {}
    for key, (both, names) in pairs.items():
        lead = paired_difference(both[:, 0], both[:, 1], 1 - (1 - CONFIDENCE) / len(pairs))
        found[key] = {"value": lead.value, "low": lead.low, "high": lead.high, "n": lead.n}
        found[key] |= {"optimizer": names[0], "optimizer_other": names[1]}
    leads = pd.DataFrame.from_dict(found, orient="index")
    leads.index = pd.MultiIndex.from_tuples(leads.index, names=["problem", "against"])
    return leads.sort_index()


def recommendation(table: pd.DataFrame, kind: str, budget: int) -> pd.DataFrame:
    """The optimizers for a kind of problem, best first, by what a tuned hybrid run has reached within `budget` steps.

    Of each run the row with the lowest validation loss counts, as early stopping would have kept it.

    Args:
        table: of the study.
        kind: classification, regression or energy.
        budget: steps that one can afford.

    Returns:
        Index optimizer; columns score, low, high (interquartile mean of normalised scores), rate_low and rate_high (over the
        problems, the learning rates whose mean is within 5 % of the best at default knobs), diverged (share of its tuning
        runs) and evidence (how many problems and seeds).

    Raises:
        ConfigurationError: another kind, or a budget that is not a whole number of at least 1.
        NotMeasured: no tuned runs of that kind.
    """
    check_name("kind", kind, KINDS)
    if isinstance(budget, bool) or not isinstance(budget, int) or budget < 1:
        raise ConfigurationError(f"budget is {budget!r}, and must be a whole number of steps, at least 1.")
    here = table[table["problem"].isin(KINDS[kind]) & (table["problem"] != LEFT_OUT)]
    rows = _normalised(of(here, "tuned"))
    rows = rows[rows["step"] <= budget]
    if rows.empty:
        raise NotMeasured(f"no tuned runs on problems of kind {kind!r}")
    kept = rows.sort_values(["val_loss", "step"], kind="stable").drop_duplicates(["record", "seed"])
    by_arm = _by_arm(kept, "score")
    tuning = ends(of(here, "tuning")).groupby("optimizer")["diverged"].mean()
    near = _near_best(here)
    found = {}
    for name in by_arm:
        score = interquartile_mean(by_problem(by_arm[name]))
        problems = by_arm[name].dropna().groupby(level="problem").size()
        found[name] = {"score": score.value, "low": score.low, "high": score.high}
        found[name] |= {"rate_low": near["low"].get(name, math.nan), "rate_high": near["high"].get(name, math.nan)}
        found[name] |= {"diverged": tuning.get(name, math.nan)}
        found[name] |= {"evidence": f"{_count(len(problems), 'problem')}, {_count(int(problems.min()), 'seed')}"}
    ranked = pd.DataFrame.from_dict(found, orient="index").rename_axis("optimizer")
    return ranked.sort_values("score", ascending=False, kind="stable")


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _near_best(table: pd.DataFrame) -> pd.DataFrame:
    """Lowest and highest learning rate, over problems, whose mean score is within 5 % of the best: index optimizer."""
    rows = []
    for (_, name), by_seed in _rate_scores(table).items():
        means = by_seed.mean()
        if np.isfinite(means).any():
            near = means.index[means >= means.max() - NEAR_BEST * abs(means.max())]
            rows.append({"optimizer": name, "low": near.min(), "high": near.max()})
    found = pd.DataFrame(rows, columns=["optimizer", "low", "high"])
    return found.groupby("optimizer").agg({"low": "min", "high": "max"})
