"""The figures of the optimizer study: its table in, matplotlib figures out, and for each the sentence that reads it.

Fifteen lines in one panel cannot be told apart. Lines are therefore drawn family by family: a column shows the optimizers of
one family in colour and all others in grey, on common axes, so that a family can be compared with the rest. Definitions
(targets, scores, divergence) are those of `hybridbench.analysis.optimizers`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullLocator

from hybridbench.analysis import optimizers
from hybridbench.analysis.statistics import Interval, friedman, mean_interval, nemenyi
from hybridbench.analysis.tables import NotMeasured, Number
from hybridbench.errors import DataError
from hybridbench.report.panels import bars, legend_below, need, panels
from hybridbench.report.style import BLACK, GREY, family, in_order, style_of, use_style

WHERE = "notebook 05_optimizer_comparison, or 'hybridbench study' for all of it"
WIDTH = 7.2  #: inches: both columns of a journal page
LIGHT = "#C9C9C9"  #: lines of the other families
#: Which optimizers stand in one column.
FAMILIES: dict[str, tuple[str, ...]] = {
    "SGD, momentum": ("sgd", "momentum", "nesterov"),
    "RMSprop, Adagrad": ("rmsprop", "rmsprop_corrected", "rmsprop_torch", "adagrad", "adagrad_torch"),
    "Adam and kin": ("adam", "fused_adam", "nadam", "adamw", "amsgrad"),
    "quantum-aware": ("qng", "spsa"),
}
#: Share of a uniform start in the global basin of -(cos t + cos(3t)/2), which ends where sin^2 t = 11/12.
UNIFORM_SHARE = math.acos(math.sqrt(1 / 12)) / math.pi
LEAST_GAP = 1e-6  #: energies closer to their optimum are drawn here: below it is rounding and the end of the budget


def _phase(study: pd.DataFrame, phase: str, model: str = "hybrid") -> pd.DataFrame:
    what = f"phase {phase!r} of the optimizer study"
    return need(optimizers.of(need(study, what, WHERE), phase, model), what, WHERE)


def _label(name: str) -> str:
    return style_of(name).label


def _energies(rows: pd.DataFrame) -> set[str]:
    """Problems without data, whose loss is the gap to a known optimum: they have no test part."""
    untrained = rows[rows["step"] == 0].groupby("problem")["test_loss"].apply(lambda losses: losses.isna().all())
    return set(untrained.index[untrained])


def _by_family(arms: Iterable[str], rows: int, height: float) -> tuple[Figure, np.ndarray, list[tuple[str, ...]]]:
    """A figure with one column of `rows` panels a family, each family's legend below its column.

    Returns:
        The figure, its panels of shape (rows, families), and the optimizers of each column.
    """
    arms = set(arms)
    columns = {title: tuple(name for name in names if name in arms) for title, names in FAMILIES.items()}
    columns = {title: names for title, names in columns.items() if names}
    legend = 0.16 * max(map(len, columns.values()))
    fig = Figure(figsize=(WIDTH, rows * height + legend + 0.5))
    grid = fig.add_gridspec(rows + 1, len(columns), height_ratios=[height] * rows + [legend])
    axes = np.empty((rows, len(columns)), dtype=object)
    for at, (title, names) in enumerate(columns.items()):
        for row in range(rows):
            axes[row, at] = fig.add_subplot(grid[row, at], sharex=axes[0, 0], sharey=axes[row, 0])
            axes[row, at].tick_params(labelbottom=row == rows - 1, labelleft=at == 0, labelsize=8)
        axes[0, at].set_title(title, fontsize=9)
        below = fig.add_subplot(grid[rows, at])
        below.axis("off")
        handles = [Line2D([], [], **style_of(name).line(linewidth=1.3)) for name in names]
        below.legend(handles=handles, loc="upper left", fontsize=8, borderaxespad=0, labelspacing=0.25, handlelength=2.6)
    return fig, axes, list(columns.values())


def _lines(panel: Axes, lines: Mapping[str, pd.Series], names: Sequence[str], marks: int = 5, **how: str) -> None:
    """The lines of `names` in their styles, all others in grey below them."""
    for name, line in lines.items():
        if name not in names:
            panel.plot(line.index, line, color=LIGHT, linewidth=0.6, zorder=1.5, **how)
    for name in names:
        if name in lines:
            line, style = lines[name], style_of(name)
            every = (names.index(name), max(1, len(line) // marks))  # marks of close lines do not cover one another
            panel.plot(line.index, line, **style.line(linewidth=1.2, markersize=3.5, markevery=every), **how)


# ------------------------------------------------------------------------------------------------------- learning curves
def curves(study: pd.DataFrame) -> Figure:
    """Validation loss over steps of every tuned optimizer: median and interquartile band over seeds, a row a problem."""
    rows = _phase(study, "tuned")
    energies = _energies(rows)
    problems = _problems(rows["problem"])
    with use_style():
        fig, axes, columns = _by_family(rows["optimizer"], len(problems), 0.92)
        for across, problem in zip(axes, problems, strict=True):
            own = rows[rows["problem"] == problem]
            untrained = own.loc[own["step"] == 0, "val_loss"].median()
            # A run that diverged stays in the quartiles, above the panel.
            losses = own.assign(val_loss=own["val_loss"].fillna(np.inf).clip(upper=10 * untrained))
            quartiles = losses.groupby(["optimizer", "step"])["val_loss"].quantile([0.25, 0.5, 0.75]).unstack()
            if problem in energies:
                quartiles = quartiles.clip(lower=LEAST_GAP)
            by_arm = {name: quartiles.xs(name) for name in in_order(own["optimizer"])}
            medians = {name: band[0.5] for name, band in by_arm.items()}
            for panel, names in zip(across, columns, strict=True):
                _lines(panel, medians, names)
                for name in names:
                    if name in by_arm:
                        band = by_arm[name]
                        panel.fill_between(
                            band.index, band[0.25], band[0.75], color=style_of(name).colour, alpha=0.15, linewidth=0
                        )
            first = across[0]
            first.set_ylabel(problem, fontsize=8)
            lowest = quartiles[0.5].min()
            if problem in energies:
                first.set_yscale("log")
                first.yaxis.set_major_locator(LogLocator(numticks=4))
                first.yaxis.set_minor_locator(NullLocator())
                first.set_ylim(lowest / 1.6, 1.6 * untrained)
            else:
                first.yaxis.set_major_locator(MaxNLocator(3))
                first.set_ylim(lowest - 0.06 * (untrained - lowest), untrained + 0.12 * (untrained - lowest))
        for panel in axes[-1]:
            panel.set_xlabel("step", fontsize=8)
            panel.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        fig.supylabel("validation loss; for energies the gap to the optimum (logarithmic)", fontsize=9)
        fig.align_ylabels(axes[:, 0])
    return fig


def curves_say(study: pd.DataFrame) -> str:
    """Which tuned optimizer ends lowest on how many problems."""
    ends = optimizers.ends(_phase(study, "tuned"))
    finals = ends.assign(val_loss=ends["val_loss"].fillna(np.inf)).groupby(["problem", "optimizer"])["val_loss"].median()
    wins = finals.unstack().idxmin(axis=1).map(_label).value_counts(sort=False).sort_index(kind="stable")
    wins = wins.sort_values(ascending=False, kind="stable")
    told = ", ".join(f"{name} on {count}" for name, count in wins.items())
    return f"After the last step the lowest median validation loss belongs to: {told} of {wins.sum()} problems."


def _problems(names: Iterable[str]) -> list[str]:
    """Classification and regression before energies, in the order of the study; others after them."""
    known = [name for kind in optimizers.KINDS.values() for name in kind]
    return sorted(set(names), key=lambda name: (known.index(name) if name in known else len(known), name))


# -------------------------------------------------------------------------------------------------------- learning rates
def rates(study: pd.DataFrame) -> Figure:
    """How much of the possible drop in validation loss every optimizer reaches at every learning rate, a panel a problem."""
    rows = _phase(study, "rates")
    problems, arms = _problems(rows["problem"]), in_order(rows["optimizer"])
    ends = optimizers.rate_ends(study)
    ends = ends.assign(val_loss=ends["val_loss"].fillna(np.inf))
    untrained = rows[rows["step"] == 0].groupby("problem")["val_loss"].mean()
    means = ends.groupby(["problem", "optimizer", "learning_rate"])[["val_loss", "score"]].mean()
    with use_style():
        fig, axes = panels(len(problems), WIDTH / 3, 0.75 + 0.115 * len(arms), sharex=True, sharey=True)
        for panel, problem in zip(axes, problems, strict=True):
            losses, scores = (means.loc[problem, what].unstack().reindex(arms) for what in ("val_loss", "score"))
            share = ((untrained[problem] - losses) / (untrained[problem] - losses.min(axis=None))).clip(0, 1)
            places = np.log10(losses.columns.to_numpy(dtype=float))
            image = panel.pcolormesh(places, range(len(arms)), share, cmap="viridis", vmin=0, vmax=1, shading="nearest")
            lost = losses.eq(np.inf)
            panel.plot(*_cells(lost, places), linestyle="none", marker="x", color="white", markersize=3.2)
            best = scores.where(~lost).max(axis=1)
            near = scores.ge(best - optimizers.NEAR_BEST * best.abs(), axis=0) & ~lost
            panel.plot(
                *_cells(near, places), linestyle="none", marker="o", markersize=3.4, color="white",
                markeredgecolor=BLACK, markeredgewidth=0.6,
            )  # fmt: skip
            panel.set_title(problem, fontsize=9)
            panel.grid(False)
            panel.set_yticks(range(len(arms)), [_label(arm) for arm in arms], fontsize=7)
            panel.set_ylim(len(arms) - 0.5, -0.5)
            panel.tick_params(length=2)
        powers = range(math.ceil(places.min()), math.floor(places.max()) + 1)
        for panel in axes:
            panel.set_xticks(powers, [f"$10^{{{power}}}$" for power in powers], fontsize=8)
        for panel in axes[-min(3, len(axes)) :]:
            panel.set_xlabel("learning rate", fontsize=8)
            panel.tick_params(labelbottom=True)
        bar = fig.colorbar(image, ax=axes, location="bottom", aspect=50, shrink=0.7, pad=0.02)
        bar.set_label("share of the possible drop in validation loss, from untrained to the best of the panel", fontsize=8)
        bar.ax.tick_params(labelsize=8)
    return fig


def _cells(chosen: pd.DataFrame, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of the chosen cells of a map."""
    row, column = np.nonzero(chosen.to_numpy())
    return places[column], row


def rates_say(study: pd.DataFrame) -> str:
    """The widest and the narrowest range of learning rates near the best."""
    _phase(study, "rates")
    widths = optimizers.rate_widths(study)["value"].drop(index=optimizers.LEFT_OUT, level="problem", errors="ignore")
    widths = widths.dropna().groupby(level="optimizer").median()
    (narrow, least), *_, (wide, most) = widths.sort_values(kind="stable").items()
    return (
        f"Median over problems of the range within {100 * optimizers.NEAR_BEST:g} % of the best: widest for {_label(wide)} "
        f"({most:.2g} decades), narrowest for {_label(narrow)} ({least:.2g} decades)."
    )


# --------------------------------------------------------------------------------------------------- performance profiles
def _profiles(study: pd.DataFrame) -> list[pd.DataFrame]:
    """In percent, for the protocol's targets and for the near ones."""
    _phase(study, "tuned")
    try:
        return [100 * optimizers.profile(study), 100 * optimizers.profile(study, optimizers.near_targets(study))]
    except NotMeasured as gap:
        raise DataError(f"No targets to be reached ({gap}): run {WHERE}, then draw again.") from gap


def profiles(study: pd.DataFrame) -> Figure:
    """Share of problems on which an optimizer reaches a target within a factor of the fastest's steps, a row a target."""
    both = _profiles(study)
    with use_style():
        fig, axes, columns = _by_family(both[0].columns, len(both), 1.9)
        for row, shares, what in zip(axes, both, ("the target", f"{optimizers.NEAR_DROP:.0%} of the drop"), strict=True):
            lines = {name: shares[name] for name in in_order(shares.columns)}
            for panel, names in zip(row, columns, strict=True):
                _lines(panel, lines, names, drawstyle="steps-post")
            row[0].set_ylabel(f"problems at\n{what} (%)", fontsize=8)
            row[0].set_ylim(-4, 104)
        for panel in axes[-1]:
            panel.set_xlabel("times the fastest", fontsize=8)
        axes[0, 0].set_xlim(0.93, both[0].index.max() + 0.07)
        axes[0, 0].xaxis.set_major_locator(MaxNLocator(integer=True))
    return fig


def profiles_say(study: pd.DataFrame) -> str:
    """Who is first most often, and who arrives at all most often, for both targets."""
    told = []
    for shares, what in zip(_profiles(study), ("the target", f"{optimizers.NEAR_DROP:.0%} of the drop"), strict=True):
        first, last = shares.iloc[0], shares.iloc[-1]
        told.append(
            f"First at {what} most often: {_leaders(first)}, on {first.max():.0f} % of the problems; within "
            f"{shares.index.max():g} times the fastest's steps most often: {_leaders(last)}, on {last.max():.0f} %."
        )
    return " ".join(told)


def _leaders(values: pd.Series) -> str:
    """The names with the highest value, in the style table's order."""
    names = [_label(name) for name in in_order(values.index[values.eq(values.max())])]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


# ----------------------------------------------------------------------------------------------------------------- ranks
def _blocks(study: pd.DataFrame) -> pd.DataFrame:
    """Normalised scores by problem and seed, of the optimizers that ran on all of them."""
    _phase(study, "tuned")
    scores = optimizers.scores(study).dropna(axis=1)
    return need(scores if scores.shape[1] > 2 else scores.iloc[:0], "three optimizers on the same problems", WHERE)


def ranks(study: pd.DataFrame) -> Figure:
    """Critical-difference diagram: mean ranks over problems and seeds; bars join what Nemenyi's test does not tell apart."""
    from scikit_posthocs import critical_difference_diagram  # loads seaborn: only who draws this waits for it

    blocks = _blocks(study)
    mean_ranks, different = friedman(blocks)[1], nemenyi(blocks)
    labels = {name: _label(name) for name in blocks.columns}
    with use_style():
        fig = Figure(figsize=(WIDTH, 1.2 + 0.17 * len(labels)))
        axes = fig.subplots()
        drawn = critical_difference_diagram(
            mean_ranks.rename(labels),
            different.rename(index=labels, columns=labels),
            ax=axes,
            label_fmt_left="{label}  {rank:.1f} ",
            label_fmt_right=" {rank:.1f}  {label}",
            color_palette={label: style_of(name).colour for name, label in labels.items()},
            label_props={"fontsize": 9},
            elbow_props={"linewidth": 1.0},
            crossbar_props={"linewidth": 2.4, "color": BLACK},
            marker_props={"s": 14},
            text_h_margin=0.3,
        )
        for bar in chain.from_iterable(drawn["crossbars"]):
            bar.set_xdata(sorted(bar.get_xdata()))  # it comes from a set of names, in another order every time
        axes.grid(False)
        axes.spines["top"].set_visible(True)
        axes.xaxis.set_label_position("top")
        axes.set_xlabel(f"mean rank over {len(blocks)} pairs of problem and seed (1 is best)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return fig


def ranks_say(study: pd.DataFrame) -> str:
    """How many optimizers the best-ranked one is not told apart from."""
    blocks = _blocks(study)
    p, mean_ranks = friedman(blocks)
    best = mean_ranks.idxmin()
    same = nemenyi(blocks).loc[best].drop(best).gt(0.05)
    return (
        f"Friedman's test gives p {_p_value(p)}; {_label(best)} has the best mean rank ({mean_ranks[best]:.1f}) and is "
        f"not told apart from {same.sum()} of the {len(same)} others."
    )


def _p_value(p: float) -> str:
    return "below 0.001" if p < 0.001 else f"= {p:.3f}"


# --------------------------------------------------------------------------------------------------------- tuning budget
def missing_share(study: pd.DataFrame) -> pd.DataFrame:
    """Share of the possible drop in validation loss that is still missing after n tuning points, mean over problems.

    The possible drop of a problem is from the untrained loss to the lowest expected loss of any optimizer; an optimizer that
    does not beat the untrained model misses all of it. `original` is left out, as from all aggregates, and so is an
    optimizer that did not run on every problem.

    Returns:
        Index n (tuning points), columns optimizer, values 0 (nothing is missing) to 1.
    """
    rows = _phase(study, "tuning")
    untrained = rows[rows["step"] == 0].groupby("problem")["val_loss"].median()
    expected = optimizers.budget_curves(study).drop(index=optimizers.LEFT_OUT, level="problem", errors="ignore")
    expected = expected.dropna(axis=1)
    best = expected.min(axis=1).groupby(level="problem").min()
    problem = expected.index.get_level_values("problem")
    low, high = best.reindex(problem).to_numpy(), untrained.reindex(problem).to_numpy()
    share = expected.sub(low, axis=0).div(high - low, axis=0).clip(0, 1)
    return share.groupby(level="n").mean()


def budget(study: pd.DataFrame) -> Figure:
    """Best-so-far against the number of tuning points: the share of the possible loss drop that is still missing."""
    missing = 100 * missing_share(study)
    with use_style():
        fig, axes, columns = _by_family(missing.columns, 1, 2.1)
        lines = {name: missing[name] for name in in_order(missing.columns)}
        for panel, names in zip(axes[0], columns, strict=True):
            _lines(panel, lines, names)
            panel.set_xlabel("tuning points", fontsize=8)
        axes[0, 0].set_ylabel("missing of the loss drop (%)", fontsize=8)
        axes[0, 0].set_ylim(bottom=0)
        axes[0, 0].xaxis.set_major_locator(FixedLocator([n for n in (1, 5, 10, 15, 20) if n in missing.index]))
    return fig


def budget_say(study: pd.DataFrame) -> str:
    """Best and worst after five points, and after all."""
    missing = 100 * missing_share(study)
    few = missing.index[min(4, len(missing) - 1)]
    told = []
    for n in dict.fromkeys([few, missing.index[-1]]):
        line = missing.loc[n].sort_values(kind="stable")
        told.append(
            f"after {n} tuning points {_label(line.index[0])} misses the least of the possible drop ({line.iloc[0]:.0f} %) "
            f"and {_label(line.index[-1])} the most ({line.iloc[-1]:.0f} %)"
        )
    text = "; ".join(told)
    return f"{text[0].upper()}{text[1:]}."


# ------------------------------------------------------------------------------------------- generalisation and controls
def _models(study: pd.DataFrame, of: Callable[..., pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Mean over seeds of a quantity of the data tasks by model: index problem, columns optimizer."""
    rows = _phase(study, "tuned")
    tasks = [problem for problem in _problems(rows["problem"]) if problem not in _energies(rows)]
    need(rows[rows["problem"].isin(tasks)], "data tasks in the optimizer study", WHERE)
    found = {}
    for model in family("model"):
        if not optimizers.of(study, "tuned", model).empty:
            found[model] = of(study, "tuned", model).groupby(level="problem").mean().reindex(tasks)
    return found


def gaps(study: pd.DataFrame) -> Figure:
    """Test score and generalisation gap of hybrid, twin and classical model: a mark an optimizer, a bar at their median."""
    quantities = [
        (optimizers.scores, "test score (accuracy; diabetes: R²)"),
        (optimizers.gaps, "gap: training less test score"),
    ]
    with use_style():
        found = [_models(study, of) for of, _ in quantities]
        tasks = list(next(iter(found[0].values())).index)
        fig = Figure(figsize=(WIDTH, 1.0 + 0.62 * len(tasks)))
        axes = fig.subplots(1, 2, sharey=True)
        for panel, by_model, (_, label) in zip(axes, found, quantities, strict=True):
            for shift, (model, means) in zip(np.linspace(-0.27, 0.27, len(by_model)), by_model.items(), strict=True):
                style = style_of(model)
                for place, task in enumerate(tasks):
                    values = means.loc[task].dropna()
                    panel.plot(
                        values, np.full(len(values), place + shift), linestyle="none", marker=style.marker, markersize=4,
                        color=style.colour, alpha=0.55, markeredgewidth=0, label=style.label if place == 0 else None,
                    )  # fmt: skip
                    middle = [values.median()] * 2
                    panel.plot(middle, [place + shift - 0.12, place + shift + 0.12], color=BLACK, linewidth=2, zorder=3)
            panel.set_xlabel(label, fontsize=9)
            panel.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
            panel.tick_params(labelsize=8)
        axes[1].axvline(0, color=GREY, linewidth=0.9)
        axes[0].set_yticks(range(len(tasks)), tasks)
        axes[0].set_ylim(len(tasks) - 0.5, -0.5)
        for panel in axes:
            panel.grid(False, axis="y")
            for border in np.arange(0.5, len(tasks) - 1):
                panel.axhline(border, color="#DDDDDD", linewidth=0.6)
        legend_below(fig, axes, 3)
    return fig


def gaps_say(study: pd.DataFrame) -> str:
    """Median over optimizers, mean over tasks, of score and gap, model by model."""
    scores, wide = (_models(study, of) for of in (optimizers.scores, optimizers.gaps))
    told = [
        f"{_label(model)} {scores[model].median(axis=1).mean():.3f} and {wide[model].median(axis=1).mean():.3f}"
        for model in scores
    ]
    return f"Median optimizer, mean over tasks, test score and generalisation gap: {'; '.join(told)}."


# ---------------------------------------------------------------------------------------------------- aggregates, basins
def _rows_of(intervals: Mapping[str, Interval]) -> list[str]:
    """Names from the lowest value to the highest, which is how rows are drawn upwards."""
    return sorted(intervals, key=lambda name: intervals[name].value)


def _aggregates(study: pd.DataFrame) -> dict[str, dict[str, Interval]]:
    """By phase and optimizer the interquartile mean of normalised scores."""
    for phase in family("phase"):
        _phase(study, phase)
    return {phase: optimizers.aggregate(study, phase).to_dict() for phase in family("phase")}


def _name_rows(fig: Figure, axes: Axes, arms: Sequence[str], values: str) -> None:
    """Label a dot plot with a row an optimizer, and put its legend below."""
    axes.set_yticks(range(len(arms)), [_label(arm) for arm in arms])
    axes.set_ylim(-0.6, len(arms) - 0.4)
    axes.set_xlabel(values)
    legend_below(fig, [axes], 2)


def iqm(study: pd.DataFrame) -> Figure:
    """Interquartile mean of the normalised scores over all problems and seeds, tuned beside the framework's defaults."""
    aggregates = _aggregates(study)
    arms = _rows_of(aggregates["tuned"])
    with use_style():
        fig = Figure(figsize=(WIDTH, 1.1 + 0.235 * len(arms)))
        axes = fig.subplots()
        for place, arm in enumerate(arms):
            ends = [known[arm].value for known in aggregates.values() if arm in known]
            axes.plot([min(ends), max(ends)], [place, place], color=LIGHT, linewidth=1.2, zorder=1)
        for phase, known in aggregates.items():
            own = [arm for arm in arms if arm in known]
            intervals = [known[arm] for arm in own]
            style = style_of(phase).line(linestyle="none", markersize=6)
            axes.errorbar([i.value for i in intervals], [arms.index(arm) for arm in own], xerr=bars(intervals), **style)
        _name_rows(fig, axes, arms, "interquartile mean of normalised scores (1 is best; 95 % interval)")
    return fig


def iqm_say(study: pd.DataFrame) -> str:
    """The best aggregate, who shares it, and who needs tuning the most and the least."""
    tuned, default = _aggregates(study).values()
    best = _rows_of(tuned)[-1]
    same = sum(interval.high >= tuned[best].low for interval in tuned.values()) - 1
    gains = pd.Series({arm: tuned[arm].value - default[arm].value for arm in tuned if arm in default})
    return (
        f"Tuned, {_label(best)} is highest with {Number.of(tuned[best]).text}; the intervals of {same} others overlap "
        f"its own; tuning adds most to {_label(gains.idxmax())} ({gains.max():.2f}) and least to {_label(gains.idxmin())} "
        f"({gains.min():.2f})."
    )


def _basin_shares(study: pd.DataFrame) -> dict[str, pd.Series]:
    """By optimizer, share of coordinates in the global basin after the last step, one value a seed, in percent."""
    rows = _phase(study, "tuned")
    need(rows[rows["problem"] == "basins"], "problem 'basins' of the optimizer study", WHERE)
    shares = 100 * optimizers.scores(study).loc["basins"].dropna(axis=1)
    return {name: shares[name] for name in shares}


def basins(study: pd.DataFrame) -> Figure:
    """Share of coordinates that end in the global basin, against the share that starts there."""
    shares = _basin_shares(study)
    means = {name: mean_interval(values.to_numpy(), unit="%") for name, values in shares.items()}
    arms = _rows_of(means)
    with use_style():
        fig = Figure(figsize=(WIDTH, 1.1 + 0.235 * len(arms)))
        axes = fig.subplots()
        start = 100 * UNIFORM_SHARE
        axes.axvline(start, color=BLACK, linewidth=1.2, linestyle=(0, (5, 2)), label=f"uniform start, {start:.1f} %")
        for place, arm in enumerate(arms):
            seeds = np.sort(shares[arm].to_numpy())
            axes.plot(
                seeds, place + 0.22 * np.cos(np.arange(len(seeds)) * np.pi), linestyle="none", marker=".", markersize=3.5,
                color=LIGHT, zorder=1.5, label="one seed" if place == 0 else None,
            )  # fmt: skip
            style = style_of(arm).line(linestyle="none", markersize=6, label=None)
            axes.errorbar(means[arm].value, place, xerr=bars([means[arm]]), **style)
        _name_rows(fig, axes, arms, "coordinates that end in the global basin (%; mean and 95 % interval over seeds)")
    return fig


def basins_say(study: pd.DataFrame) -> str:
    """How many optimizers leave poor basins more, or less, often than a uniform start fills the good one."""
    means = {name: mean_interval(values.to_numpy(), unit="%") for name, values in _basin_shares(study).items()}
    above = [name for name in means if means[name].low > 100 * UNIFORM_SHARE]
    below = [name for name in means if means[name].high < 100 * UNIFORM_SHARE]
    best = _rows_of(means)[-1]
    return (
        f"Of {len(means)} optimizers {len(above)} end in the global basin more often than a uniform start and {len(below)} "
        f"less often (95 % intervals); the highest share is that of {_label(best)}, {Number.of(means[best]).text}."
    )
