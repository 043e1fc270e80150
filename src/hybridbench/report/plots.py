"""The figures: tables of records in, matplotlib figures out. Nothing here reads a file or runs a model.

Each function takes the rows of one study (see `hybridbench.measurement.columns` for units), picks those it shows, and raises
DataError naming what to run where there are none.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullFormatter, ScalarFormatter

from hybridbench.analysis.bench import BASELINES, findings
from hybridbench.analysis.claims import Verdict
from hybridbench.analysis.statistics import Interval, median_interval, median_ratio
from hybridbench.analysis.tables import nearest_runs, one_machine, update_arms
from hybridbench.report.panels import bars, legend_below, need, panels
from hybridbench.report.style import BLACK, GREY, VERMILLION, family, in_order, style_of, use_style

#: One repetition of a timing cell: arms with equal values here ran next to each other.
PAIR = ["machine", "cell", "n_qubits", "n_layers", "batch_size", "threads", "sample"]
#: Table 2 of the original study: mean energies of one seed each, printed as a ranking.
ORIGINAL_TABLE_2 = {"fused_adam": 0.6478, "adam": 0.6965, "adagrad": 0.6958}


def _cell(
    timing: pd.DataFrame, cell: str, where: str = "notebook 03_cpu_baseline ('hybridbench run --only 03_cpu_baseline')"
) -> pd.DataFrame:
    rows = need(timing[timing["cell"] == cell], f"timing cell {cell!r}", where)
    # The numbers beside a figure are those of the same machine.
    rows = rows[rows["machine"] == nearest_runs(rows)[0]["machine"].iloc[0]]
    return _most_common(rows, ["threads", "n_layers"])


def _most_common(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """The rows of the most frequent combination of `columns`, the first in order where several are."""
    counts = table.groupby(columns).size()
    chosen = counts.index[counts.argmax()]
    chosen = chosen if isinstance(chosen, tuple) else (chosen,)
    return table[(table[columns] == pd.Series(dict(zip(columns, chosen, strict=True)))).all(axis=1)]


def _steps(timing: pd.DataFrame) -> pd.DataFrame:
    return timing[timing["part"] == "step"]


def _log2_ticks(axes: Axes, values: Sequence[float]) -> None:
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(sorted(set(values))))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _log_scale(axes: Axes) -> None:
    """A logarithmic y axis with plain numbers at 1, 2 and 5, since many spans are shorter than a decade."""
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    axes.yaxis.set_minor_formatter("{x:g}")


def _median_line(axes: Axes, rows: pd.DataFrame, x: str, name: str, y: str = "seconds", scale: float = 1e3) -> None:
    """Median of `y` at each `x` with its 95 % bootstrap interval."""
    points = [(at, median_interval(group[y].to_numpy() * scale)) for at, group in rows.groupby(x)]
    intervals = [interval for _, interval in points]
    axes.errorbar([at for at, _ in points], [i.value for i in intervals], yerr=bars(intervals), **style_of(name).line())


def step_time(timing: pd.DataFrame) -> Figure:
    """Step time of every simulator and gradient method over qubits, one panel a batch size (cell "methods")."""
    rows = _steps(_cell(timing, "methods"))
    # A size at which only one simulator was timed, for how wide a circuit it can take, compares nothing.
    rows = rows[rows.groupby(["n_qubits", "batch_size"])["arm"].transform("nunique") > 1]
    batches = sorted(rows["batch_size"].unique())
    with use_style():
        fig, axes = panels(len(batches), 3.4, 3.3, sharey=True)
        for panel, batch in zip(axes, batches, strict=True):
            part = rows[rows["batch_size"] == batch]
            for arm in in_order(part["arm"]):
                _median_line(panel, part[part["arm"] == arm], "n_qubits", arm)
            panel.set_title(f"batch {batch}")
            panel.set_xlabel("qubits")
            _log_scale(panel)
            panel.xaxis.set_major_locator(FixedLocator(sorted(part["n_qubits"].unique())))
        axes[0].set_ylabel("time of one training step (ms)")
        legend_below(fig, axes, 2)
    return fig


def gpu_engine(timing: pd.DataFrame) -> Figure:
    """Step time of the CUDA engine and the CPU engine over qubits at batch 16, and over the batch at 12 qubits."""
    rows = _steps(_cell(timing, "engine", "the GPU study ('hybridbench gpu --part engine')"))
    chosen = (("n_qubits", "batch_size", 16, "qubits"), ("batch_size", "n_qubits", 12, "batch size (samples)"))
    with use_style():
        fig, axes = panels(2, 3.9, 3.2, sharey=True)
        for panel, (x, held, value, label) in zip(axes, chosen, strict=True):
            part = rows[rows[held] == value]
            for arm in in_order(part["arm"]):
                _median_line(panel, part[part["arm"] == arm], x, arm)
            panel.set_title(f"batch {value}" if held == "batch_size" else f"{value} qubits")
            panel.set_xlabel(label)
            if x == "batch_size":
                _log2_ticks(panel, part[x])
            _log_scale(panel)
        axes[0].set_ylabel("values and gradients (ms)")
        legend_below(fig, axes, 2)
    return fig


def step_parts(timing: pd.DataFrame) -> Figure:
    """What a step spends its time on: stacked shares of the median step (cell "parts")."""
    rows = _cell(timing, "parts")
    rows = rows[rows["part"] != "step"]
    keys = ["arm", "n_qubits", "batch_size"]
    medians = rows.groupby([*keys, "part"])["seconds"].median().unstack("part") * 1e3
    arms = in_order(medians.index.get_level_values("arm"))
    medians = medians.reindex([key for arm in arms for key in medians.index if key[0] == arm])
    parts = [part for part in family("part") if part in medians.columns]
    hatches = dict(zip(parts, ["", "///", "", "\\\\\\", "...", "xx"], strict=False))
    with use_style():
        fig = Figure(figsize=(7.6, 1.3 + 0.42 * len(medians)))
        axes = fig.subplots()
        place = np.arange(len(medians))[::-1]
        total = medians[parts].sum(axis=1).to_numpy()
        left = np.zeros(len(medians))
        for part in parts:
            share = 100 * medians[part].fillna(0).to_numpy() / total
            style = style_of(part)
            axes.barh(
                place,
                share,
                left=left,
                height=0.7,
                color=style.colour,
                hatch=hatches[part],
                edgecolor="white",
                label=style.label,
            )
            left += share
        for y, ms in zip(place, total, strict=True):
            axes.annotate(f"{ms:.3g} ms", (100, y), xytext=(4, 0), textcoords="offset points", va="center", fontsize=9)
        axes.set_yticks(place, [f"{style_of(arm).label}\n{n} qubits, batch {b}" for arm, n, b in medians.index])
        axes.set_xlabel("share of a training step (%)")
        axes.set_xlim(0, 100)
        axes.grid(False, axis="y")
        fig.legend(loc="outside upper center", ncols=3)
    return fig


def batching(timing: pd.DataFrame) -> Figure:
    """One sample at a time against the whole batch at once, over the batch size (cell "batching")."""
    rows = _steps(_cell(timing, "batching"))
    sizes = sorted(rows["n_qubits"].unique())
    with use_style():
        fig, axes = panels(len(sizes), 3.4, 3.2, sharey=True)
        for panel, n_qubits in zip(axes, sizes, strict=True):
            part = rows[rows["n_qubits"] == n_qubits]
            for arm in in_order(part["arm"]):
                _median_line(panel, part[part["arm"] == arm], "batch_size", arm)
            panel.set_title(f"{n_qubits} qubits")
            panel.set_xlabel("batch size (samples)")
            _log2_ticks(panel, part["batch_size"])
            _log_scale(panel)
        axes[0].set_ylabel("circuit's value and gradient (ms)")
        legend_below(fig, axes, 2)
    return fig


def batching_say(timing: pd.DataFrame) -> str:
    """What the smallest and the largest batch take, and where two processes' difference shows."""
    rows = _steps(_cell(timing, "batching"))
    medians = 1e3 * rows.groupby(["n_qubits", "arm", "batch_size"])["seconds"].median().unstack()
    parts, falls = [], False
    for n_qubits, of_size in medians.groupby("n_qubits"):
        small, large = of_size.columns.min(), of_size.columns.max()
        times = of_size.droplevel("n_qubits")[[small, large]]
        each = [f"{arm} {times.loc[arm, small]:.0f} and {times.loc[arm, large]:.0f} ms" for arm in in_order(times.index)]
        parts.append(f"{n_qubits} qubits, batches of {small} and {large}: {', '.join(each)}")
        falls |= bool((times[large] < times[small]).any())
    text = f"{'; '.join(parts)}."
    if falls:
        text += (
            " A larger batch cannot be less work: that fall is noise between two processes, since each batch size was timed "
            "in a process of its own."
        )
    return text


def part_shares(timing: pd.DataFrame) -> pd.DataFrame:
    """Percent of a step by part: one row per arm and size (cell "parts")."""
    rows = _cell(timing, "parts")
    medians = rows[rows["part"] != "step"].groupby(["arm", "n_qubits", "batch_size", "part"])["seconds"].median().unstack()
    return 100 * medians.div(medians.sum(axis=1), axis=0)


def step_parts_say(timing: pd.DataFrame) -> str:
    """The range over arms and sizes of what the circuit, Keras's Python and the update take of a step."""
    shares = part_shares(timing)
    circuit = shares[[part for part in shares if part.startswith("quantum")]].sum(axis=1)
    parts = {"circuit": circuit, "Python around the parts": shares["python"], "update": shares["update"]}
    return f"Of a step: {', '.join(f'{name} {own.min():.0f} to {own.max():.0f} %' for name, own in parts.items())}."


def compilation(timing: pd.DataFrame) -> Figure:
    """First call and steady step of eager, graph and XLA execution, and the steps that pay for it (cell "compile")."""
    rows = _steps(_cell(timing, "compile"))
    cases = list(rows.groupby(["n_qubits", "batch_size"]).groups)
    with use_style():
        fig, axes = panels(2, 3.9, 3.0)
        for panel, column, title in zip(
            axes,
            ("first_call_seconds", "seconds"),
            ("first call: tracing and compiling", "every step after it"),
            strict=True,
        ):
            arms = in_order(rows["arm"])
            for shift, arm in zip(np.linspace(-0.22, 0.22, len(arms)), arms, strict=True):
                style = style_of(arm)
                groups = rows[rows["arm"] == arm].groupby(["n_qubits", "batch_size"])
                places = [cases.index(case) + shift for case, _ in groups]
                # The first call happens once a record; its rows repeat it.
                medians = [median_interval(group[column].drop_duplicates().to_numpy()) for _, group in groups]
                panel.errorbar(
                    places, [i.value for i in medians], yerr=bars(medians), **style.line(linestyle="none", markersize=7)
                )  # fmt: skip
            panel.set_title(title)
            _log_scale(panel)
            panel.set_ylabel("time (s)")
            panel.set_xlabel("circuit and batch size (samples)")
            panel.set_xticks(range(len(cases)), [f"{n} qubits\nbatch {b}" for n, b in cases])
            panel.set_xlim(-0.5, len(cases) - 0.5)
        legend_below(fig, axes, 3)
    return fig


def rungs(timing: pd.DataFrame) -> Figure:
    """How many times faster a step is on each rung than as shipped, paired, with its interval (cell "rungs")."""
    rows = _steps(_cell(timing, "rungs"))
    cases = list(rows.groupby(["n_qubits", "n_layers", "batch_size"]))
    arms = [arm for arm in in_order(rows["arm"]) if arm != "as shipped"][::-1]
    with use_style():
        fig, axes = panels(len(cases), 6.4 if len(cases) == 1 else 4.2, 1.0 + 0.42 * len(arms), columns=2, sharey=True)
        for panel, ((n_qubits, n_layers, batch), group) in zip(axes, cases, strict=True):
            both = group.pivot_table(index=[*PAIR, "record"], columns="arm", values="seconds")
            for at, arm in enumerate(arms):
                pairs = both[["as shipped", arm]].dropna()
                ratio = median_ratio(pairs["as shipped"].to_numpy(), pairs[arm].to_numpy())
                panel.errorbar(ratio.value, at, xerr=bars([ratio]), **style_of(arm).line(linestyle="none", markersize=8))
                milliseconds = 1e3 * pairs[arm].median()
                text = f"{ratio.value:.0f}×, {milliseconds:.2g} ms"
                panel.annotate(text, (ratio.high, at), xytext=(7, 0), textcoords="offset points", va="center", fontsize=9)
            shipped = 1e3 * both["as shipped"].median()
            panel.set_title(f"{n_qubits} qubits, {n_layers} layers, batch {batch}: {shipped:.0f} ms as shipped")
            panel.set_xscale("log")
            panel.set_xlim(1, 12 * max(panel.get_xlim()[1], 10))  # room for the numbers
            panel.xaxis.set_major_formatter("{x:g}")
            panel.set_xlabel("times faster than as shipped")
            panel.set_yticks(range(len(arms)), [style_of(arm).label for arm in arms])
            panel.set_ylim(-0.6, len(arms) - 0.4)
    return fig


def bench_steps(bench: pd.DataFrame) -> Figure:
    """One training step in every way, one panel a size, with how many times faster than PennyLane's layer it is."""
    found = findings(one_machine(need(bench[bench["cell"] == "step"], "benchmark cell 'step'", "'make bench'")))
    steps = found[found["quantity"] == "step"].dropna(subset=["value"])
    faster = found[found["quantity"] == "times faster"]
    arms = in_order(steps["arm"])[::-1]
    sizes = list(steps.groupby(["n_qubits", "n_layers", "batch_size"]))
    with use_style():
        fig, axes = panels(len(sizes), 3.6, 1.1 + 0.27 * len(arms), sharey=True)
        for panel, ((n_qubits, n_layers, batch), rows) in zip(axes, sizes, strict=True):
            for row in rows.itertuples():
                at, style = arms.index(row.arm), style_of(row.arm)
                bar = bars([Interval(row.value, row.low, row.high, row.processes)])
                panel.errorbar(row.value, at, xerr=bar, **style.line(linestyle="none", markersize=6.5))
                factor = faster[
                    (faster[["n_qubits", "n_layers", "batch_size"]] == (n_qubits, n_layers, batch)).all(axis=1)
                    & (faster["arm"] == row.arm)
                    & faster["against"].isin(BASELINES)
                ]["value"]
                for value in factor:
                    text = f"{value:,.0f}×" if value >= 100 else f"{value:.3g}×"
                    place = (row.high if np.isfinite(row.high) else row.value, at)
                    panel.annotate(text, place, xytext=(6, 0), textcoords="offset points", va="center", fontsize=8)
            panel.set_title(f"{n_qubits} qubits, {n_layers} layers, batch {batch}")
            panel.set_xscale("log")
            panel.xaxis.set_major_formatter("{x:g}")
            panel.margins(x=0.16)
            panel.set_xlabel("one training step (ms)")
            panel.set_yticks(range(len(arms)), [style_of(arm).label for arm in arms])
    return fig


def precision(timing: pd.DataFrame) -> Figure:
    """Step time in complex128 over step time in complex64, paired, with its interval (cell "precision")."""
    rows = _steps(_cell(timing, "precision"))
    with use_style():
        fig = Figure(figsize=(5.0, 3.1))
        axes = fig.subplots()
        batches = sorted(rows["batch_size"].unique())
        marks = "os^DPX"
        for index, batch in enumerate(batches):
            part = rows[rows["batch_size"] == batch]
            points = []
            for n_qubits, group in part.groupby("n_qubits"):
                both = group.pivot_table(index=[*PAIR, "record"], columns="arm", values="seconds").dropna()
                points.append((n_qubits, median_ratio(both["complex128"].to_numpy(), both["complex64"].to_numpy())))
            ratios = [ratio for _, ratio in points]
            axes.errorbar(
                [n for n, _ in points], [i.value for i in ratios], yerr=bars(ratios), color=BLACK, marker=marks[index % 6],
                linestyle=(0, (5, 1 + index)), label=f"batch {batch}",
            )  # fmt: skip
        axes.axhline(1, color=VERMILLION, linewidth=1.2, label="no gain")
        axes.set_xlabel("qubits")
        axes.set_ylabel("time complex128 / complex64")
        axes.xaxis.set_major_locator(FixedLocator(sorted(rows["n_qubits"].unique())))
        legend_below(fig, [axes], 4)
    return fig


def optimizer_step_time(timing: pd.DataFrame, margin: float = 0.05) -> Figure:
    """Step time of every optimizer over Adam's, paired, against the ±5 % equivalence band (cell "optimizers")."""
    rows = _steps(
        _cell(timing, "optimizers", "notebook 05_optimizer_comparison ('hybridbench run --only 05_optimizer_comparison')")
    )
    both = rows.pivot_table(index=[*PAIR, "record"], columns="arm", values="seconds")
    arms = [arm for arm in in_order(both.columns) if arm != "adam"]
    ratios = []
    with use_style():
        fig = Figure(figsize=(6.4, 1.2 + 0.3 * len(arms)))
        axes = fig.subplots()
        axes.axvspan(1 - margin, 1 + margin, color="#E8E8E8", label=f"within ±{margin:.0%}")
        axes.axvline(1, color=BLACK, linewidth=1)
        for y, arm in enumerate(reversed(arms)):
            pairs = both[["adam", arm]].dropna()
            ratio = median_ratio(pairs[arm].to_numpy(), pairs["adam"].to_numpy())
            ratios.append(ratio.value)
            style = style_of(arm)
            axes.errorbar(
                ratio.value, y, xerr=bars([ratio]), color=style.colour, marker=style.marker, markersize=7, linestyle="none"
            )  # fmt: skip
        if max(ratios) > 2:  # one optimizer of many times the work would press all others together
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(FixedLocator([0.5, 0.7, 1, 1.4, 2, 3, 5, 7, 10, 20, 50, 100]))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_xlim(0.9 * min(ratios), 1.1 * max(ratios))
        axes.set_yticks(range(len(arms)), [style_of(arm).label for arm in reversed(arms)])
        axes.set_xlabel("step time over Adam's (ratio; median and 95 % interval)")
        axes.legend(loc="best")
    return fig


def update_time(timing: pd.DataFrame) -> Figure:
    """Time of the update alone over the number of parameters, for Adam and for fused Adam (cell "update")."""
    where = "notebook 05_optimizer_comparison ('hybridbench run --only 05_optimizer_comparison')"
    rows = _steps(_cell(timing, "update", where))
    named = {arm: at for at, arm in update_arms(rows).items()}
    rows = rows.assign(
        arm=rows["arm"].map(lambda arm: named[arm][0]), n_parameters=rows["arm"].map(lambda arm: named[arm][1])
    )
    with use_style():
        fig = Figure(figsize=(5.2, 3.4))
        axes = fig.subplots()
        for arm in in_order(rows["arm"]):
            _median_line(axes, rows[rows["arm"] == arm], "n_parameters", arm)
        axes.set_xscale("log")
        _log_scale(axes)
        axes.yaxis.set_minor_formatter(NullFormatter())  # the axis spans several decades
        axes.set_xlabel("parameters")
        axes.set_ylabel("time of one update (ms)")
        axes.legend(loc="upper left")
    return fig


def final_rows(training: pd.DataFrame) -> pd.DataFrame:
    """The last row of every run; a run that diverged has an infinite loss there."""
    last = training.loc[training.groupby("record")["epoch"].idxmax()].copy()
    losses = [column for column in last if column.endswith("_loss")]
    last[losses] = last[losses].fillna(np.inf)
    return last


def _seed_band(axes: Axes, rows: pd.DataFrame, x: str, y: str, style_name: str, **more: Any) -> None:
    """Median over seeds as a line, all seeds as a band."""
    by_seed = rows.groupby(x)[y]
    middle = by_seed.median()
    style = style_of(style_name)
    every = max(1, len(middle) // 6)
    axes.plot(middle.index, middle, **style.line(markevery=every, **more))
    axes.fill_between(middle.index, by_seed.min(), by_seed.max(), color=style.colour, alpha=0.13, linewidth=0)


def model_comparison(training: pd.DataFrame) -> pd.DataFrame:
    """Final rows of the runs in which hybrid, separable and classical had the same data, budget and optimizer.

    Raises:
        DataError: no task has all three.
    """
    where = "notebook 03_cpu_baseline ('hybridbench run --only 03_cpu_baseline')"
    final = final_rows(one_machine(need(training, "trained models", where)))
    # The classical model has no circuit and the twin another ansatz; what must agree is data and budget.
    budget = ["task", "optimizer", "learning_rate", "batch_size", "epochs", "max_samples", "n_qubits"]
    groups = [rows for _, rows in final.groupby(budget) if set(rows["model"]) == set(family("model"))]
    chosen = {rows["task"].iloc[0]: rows for rows in sorted(groups, key=len)}  # per task the comparison with most runs
    return pd.concat(chosen.values()) if chosen else need(final.iloc[:0], "hybrid, separable and classical models", where)


def score_comparison(training: pd.DataFrame) -> Figure:
    """Test score of the hybrid model, its separable twin and the classical model: every seed, and the median."""
    rows = model_comparison(training)
    tasks = sorted(rows["task"].unique())
    models = in_order(rows["model"])
    with use_style():
        fig = Figure(figsize=(max(4.6, 1.4 + 1.7 * len(tasks)), 3.4))
        axes = fig.subplots()
        for shift, model in zip(np.linspace(-0.26, 0.26, len(models)), models, strict=True):
            style = style_of(model)
            for place, task in enumerate(tasks):
                score = rows.loc[(rows["task"] == task) & (rows["model"] == model), "test_score"]
                spread = np.linspace(-0.05, 0.05, len(score)) if len(score) > 1 else [0]
                axes.scatter(
                    place + shift + np.asarray(spread), score, s=26, color=style.colour, marker=style.marker,
                    label=style.label if place == 0 else None,
                )  # fmt: skip
                middle = score.median()
                axes.plot([place + shift - 0.1, place + shift + 0.1], [middle, middle], color=style.colour, linewidth=2.2)
        axes.set_xticks(range(len(tasks)), tasks)
        axes.set_xlabel("task")
        axes.set_ylabel("test score\n(accuracy; R² for diabetes)" if "diabetes" in tasks else "test accuracy (share)")
        axes.grid(False, axis="x")
        legend_below(fig, [axes], 3)
    return fig


def energy_curves(energy: pd.DataFrame) -> Figure:
    """The original objective: energy over steps for every optimizer, and what its Table 2 looks like beside seed noise.

    Left: each optimizer at its best learning rate. Right: the energies of untrained parameters, one mark a seed, with
    the closed form exp(-1/2) for N(0,1) angles, beside the three energies of the original study's Table 2.
    """
    where = "notebook 05_optimizer_comparison ('hybridbench run --only 05_optimizer_comparison')"
    rows = one_machine(need(energy, "the original objective", where))
    last = rows[rows["step"] == rows["steps"]]
    medians = last.groupby(["optimizer", "learning_rate"])["energy"].median()
    with use_style():
        fig = Figure(figsize=(8.4, 3.9))
        left, right = fig.subplots(1, 2, width_ratios=[1.25, 1])
        for name in in_order(rows["optimizer"]):
            # The study's own grid ends at 0.5; above it the objective is chaotic, whatever an optimizer ends at.
            rate = medians[name][medians[name].index <= 0.5].idxmax()
            _seed_band(left, rows[(rows["optimizer"] == name) & (rows["learning_rate"] == rate)], "step", "energy", name)
        left.axhline(1, color=GREY, linewidth=1, linestyle=(0, (2, 2)))
        left.annotate("optimum", (0, 1), xytext=(2, 3), textcoords="offset points", fontsize=8, color=GREY)
        left.set_xlabel("step")
        left.xaxis.set_major_locator(MaxNLocator(integer=True))
        left.set_ylabel("mean energy ⟨Z₀Z₁⟩ (to be maximised)")
        left.set_title("trained, best learning rate")
        start = rows[rows["step"] == 0].drop_duplicates(["seed", "batch_size", "n_qubits"]).sort_values("seed")["energy"]
        heights = np.linspace(0.1, 0.9, len(start)) if len(start) > 1 else [0.5]
        right.scatter(start, heights, s=20, color=GREY, marker="o", label=f"untrained, {len(start)} seeds")
        right.axvline(np.exp(-0.5), color=BLACK, linewidth=1.2, label="exp(−1/2), closed form")
        for name, value in ORIGINAL_TABLE_2.items():
            style = style_of(name)
            right.axvline(value, color=style.colour, linestyle=style.dash, linewidth=2, label=f"Table 2: {style.label}")
        right.set_yticks([])
        right.xaxis.set_major_locator(MaxNLocator(5))
        right.grid(False, axis="y")
        right.set_ylim(0, 1)
        right.set_xlabel("mean energy ⟨Z₀Z₁⟩")
        right.set_title("seed noise and Table 2")
        legend_below(fig, [left, right], 4)
    return fig


def circuits(table: pd.DataFrame) -> Figure:
    """Expressibility, entangling capability and live parameters of every examined circuit, one row a circuit."""
    rows = need(table, "circuit properties", "notebook 02_circuit_design ('hybridbench run --only 02_circuit_design')")
    rows = (
        one_machine(rows)
        .drop_duplicates(["circuit", "n_qubits", "n_layers"])
        .sort_values(["live_share", "entangling_capability"])
    )
    labels = [f"{r.circuit} ({r.n_qubits} qubits, {r.n_layers} layer{'s' * (r.n_layers > 1)})" for r in rows.itertuples()]
    quantities = [
        ("expressibility", "expressibility (nat)\nlower: closer to Haar"),
        ("entangling_capability", "entangling capability\n(Meyer–Wallach, 0 to 1)"),
        ("live_share", "live parameters (%)"),
    ]
    with use_style():
        fig = Figure(figsize=(8.6, 1.3 + 0.34 * len(rows)))
        axes = fig.subplots(1, 3, sharey=True)
        place = np.arange(len(rows))
        original = rows["circuit"].eq("original").to_numpy()
        for panel, (column, label) in zip(axes, quantities, strict=True):
            values = rows[column].to_numpy(dtype=float) * (100 if column == "live_share" else 1)
            panel.hlines(place, 0, values, color="#BBBBBB", linewidth=1)
            panel.scatter(values[~original], place[~original], color=BLACK, marker="o", s=32, zorder=3)
            panel.scatter(values[original], place[original], color=VERMILLION, marker="X", s=46, zorder=3)
            panel.set_xlabel(label)
            panel.set_xlim(left=-0.03 * max(values.max(), 1e-9))
            panel.grid(False, axis="y")
        for y, row in zip(place, rows.itertuples(), strict=True):
            axes[2].annotate(
                f"{row.n_live:.0f} of {row.n_parameters:.0f}", (100 * row.live_share, y), xytext=(6, 0), va="center",
                textcoords="offset points", fontsize=8,
            )  # fmt: skip
        axes[2].set_xlim(-4, 135)
        axes[2].set_xticks([0, 50, 100])
        axes[0].set_yticks(place, labels)
    return fig


def ledger(claims: Sequence[Verdict]) -> Figure:
    """The claims at a glance: one row each, its verdict by place, shape and colour (see `analysis.claims.decide`)."""
    verdicts = list(family("verdict"))
    with use_style():
        fig = Figure(figsize=(8.2, 0.9 + 0.235 * len(claims)))
        axes = fig.subplots()
        for y, claim in enumerate(reversed(claims)):
            style = style_of(claim.verdict)
            axes.scatter(verdicts.index(claim.verdict), y, color=style.colour, marker=style.marker, s=52, zorder=3)
        names = [f"{c.id}  {textwrap.shorten(c.claim, 82, placeholder=' …')}" for c in reversed(claims)]
        axes.set_yticks(range(len(claims)), names, ha="left")
        axes.tick_params(axis="y", pad=390)
        axes.set_xticks(range(len(verdicts)), verdicts)
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        axes.set_xlim(-0.5, len(verdicts) - 0.5)
        axes.set_ylim(-0.7, len(claims) - 0.3)
        axes.spines[["left", "bottom"]].set_visible(False)
        counts = [sum(claim.verdict == verdict for claim in claims) for verdict in verdicts]
        handles = [
            Line2D([], [], **style_of(v).line(linestyle="none", label=f"{c} {v}"))
            for v, c in zip(verdicts, counts, strict=True)
        ]
        fig.legend(handles=handles, loc="outside lower center", ncols=3)
    return fig
