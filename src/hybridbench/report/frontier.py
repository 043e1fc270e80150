"""The figures of the frontier study: its table in, matplotlib figures out, and for each the sentence that reads it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from hybridbench.analysis import frontier
from hybridbench.analysis.statistics import Interval
from hybridbench.analysis.tables import NotMeasured, Number, one_machine
from hybridbench.design.constants import COSTS, DEPTHS
from hybridbench.errors import DataError
from hybridbench.report.panels import legend_below, need
from hybridbench.report.style import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION, family, style_of, use_style

WHERE = "'hybridbench frontier'"
WIDTH = 7.2  #: inches: both columns of a journal page
ANSATZ = {"hardware_efficient": "hardware-efficient", "strongly_entangling": "strongly entangling"}
ARMS = ("compiled", "shipped")
#: Looks of machines, in the order given: colour and marker.
LOOKS = ((BLACK, "o"), (GREEN, "s"), (PURPLE, "D"), (SKY, "^"), (ORANGE, "v"))
MAP_ANSATZ = "strongly_entangling"  #: that of the workload whose step time is measured
MAP_SHOTS = 10**6
BATCH = 32


def _rows(table: pd.DataFrame, cell: str) -> pd.DataFrame:
    what = f"cell {cell!r} of the frontier study"
    try:
        return frontier.rows_of(need(table, what, WHERE), cell)
    except NotMeasured as gap:
        raise DataError(f"No records of {what}: run {WHERE}, then draw again.") from gap


def _name(ansatz: str) -> str:
    return ANSATZ.get(ansatz, ansatz)


def _depth(n_layers: int) -> str:
    return "1 layer" if n_layers == 1 else f"{n_layers} layers"


def _depths(rows: pd.DataFrame) -> list[int]:
    return [int(depth) for depth in sorted(rows["n_layers"].unique()) if _depth(depth) in family("depth")]


def _grid(rows: pd.DataFrame, height: float) -> tuple[Figure, dict[tuple[str, str], Axes]]:
    """A panel an ansatz (row) and cost (column)."""
    ansaetze = sorted(rows["ansatz"].unique())
    fig = Figure(figsize=(WIDTH, height * len(ansaetze) + 0.6))
    axes = fig.subplots(len(ansaetze), len(COSTS), sharex=True, sharey="row", squeeze=False)
    named = {}
    for across, ansatz in zip(axes, ansaetze, strict=True):
        for panel, cost in zip(across, COSTS, strict=True):
            panel.set_title(f"{_name(ansatz)}, {cost} cost")
            panel.xaxis.set_major_locator(FixedLocator(range(2, 41, 2)))
            panel.set_yscale("log")
            panel.set_xlabel("qubits" if ansatz == ansaetze[-1] else "")
            named[ansatz, cost] = panel
    return fig, named


# ------------------------------------------------------------------------------------------------------ gradient variance
def variance(table: pd.DataFrame) -> Figure:
    """Variance of the cost's derivative over qubits for several depths, with the fits and the limit of random circuits."""
    rows = _rows(table, "gradient")
    found = frontier.cells(rows)
    with use_style():
        fig, axes = _grid(rows, 2.75)
        for (ansatz, cost), panel in axes.items():
            own = found[(found["ansatz"] == ansatz) & (found["cost"] == cost)]
            n = np.array(sorted(own["n_qubits"].unique()))
            limit = [frontier.deep_variance(cost, k) for k in n]
            panel.plot(n, limit, color="#BBBBBB", linewidth=5, zorder=1, label="random circuit (closed form)")
            for depth in _depths(own):
                _points_and_fit(panel, rows, own[own["n_layers"] == depth], ansatz, cost, depth)
        for panel in list(axes.values())[::2]:
            panel.set_ylabel("variance of ∂C/∂θ (1/rad²)")
        legend_below(fig, list(axes.values()), 4)
    return fig


def _points_and_fit(panel: Axes, rows: pd.DataFrame, own: pd.DataFrame, ansatz: str, cost: str, depth: int) -> None:
    own = own[own["resolved"]].sort_values("n_qubits")
    style = style_of(_depth(depth))
    # A symmetric interval of a heavy tail may reach below zero, where a logarithmic axis ends.
    lengths = np.array([np.minimum(own["variance"] - own["low"], 0.999 * own["variance"]), own["high"] - own["variance"]])
    panel.errorbar(own["n_qubits"], own["variance"], yerr=lengths, **style.line(linestyle="none", markersize=4))
    try:
        best = frontier.growth_of(rows, ansatz, cost, depth).best
    except NotMeasured:
        return
    n = np.linspace(frontier.FIRST_QUBITS, own["n_qubits"].max(), 60)
    panel.plot(n, best.at(n), color=style.colour, linestyle=style.dash, linewidth=1.2)


def _deepest(rows: pd.DataFrame) -> dict[str, int]:
    """By ansatz the greatest number of layers at which both costs have exponents.

    Raises:
        DataError: no ansatz has one.
    """
    known = set(frontier.growths(rows))
    found = {}
    for ansatz in sorted(rows["ansatz"].unique()):
        both = [depth for depth in _depths(rows) if all((ansatz, cost, depth) in known for cost in COSTS)]
        if both:
            found[ansatz] = max(both)
    if not found:
        raise DataError(f"Too few numbers of qubits of the frontier study for an exponent: run {WHERE}, then draw again.")
    return found


def variance_say(table: pd.DataFrame) -> str:
    """What the figure of variances shows, in numbers."""
    rows = _rows(table, "gradient")
    parts = []
    for ansatz, depth in _deepest(rows).items():
        fall = {}
        for cost in COSTS:
            growth = frontier.growth_of(rows, ansatz, cost, depth)
            fall[cost] = Number.of(growth.base.map(lambda base: 1 / base, "1")).text
        shallow = frontier.growth_of(rows, ansatz, "local", int(rows["n_layers"].min()))
        power = Number.of(shallow.power.slope.map(lambda slope: -slope, "1")).text
        how = f"falls as a power {power} of the qubits" if shallow.better == "power" else "has no decided law"
        parts.append(
            f"in the {_name(ansatz)} circuit of {_depth(depth)} the variance falls by a factor {fall['global']} a qubit for "
            f"the global cost and {fall['local']} for the local one, which with {_depth(rows['n_layers'].min())} {how}"
        )
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


# ------------------------------------------------------------------------------------------------------------------- shots
def shots(table: pd.DataFrame) -> Figure:
    """Shots at which the average derivative equals its own noise, over qubits, for several depths."""
    rows = _rows(table, "gradient")
    found = frontier.cells(rows)
    with use_style():
        fig, axes = _grid(rows, 2.75)
        for (ansatz, cost), panel in axes.items():
            own = found[(found["ansatz"] == ansatz) & (found["cost"] == cost)]
            n = np.array(sorted(own["n_qubits"].unique()))
            limit = [frontier.deep_shots(k) for k in n]
            panel.plot(n, limit, color="#BBBBBB", linewidth=5, zorder=1, label="random circuit (closed form)")
            for depth in _depths(own):
                part = own[own["resolved"] & (own["n_layers"] == depth)].sort_values("n_qubits")
                panel.plot(part["n_qubits"], part["shots"], **style_of(_depth(depth)).line(markersize=4, linewidth=1.2))
            panel.axhline(frontier.SHOTS[0], color=BLACK, linewidth=0.9, linestyle=(0, (2, 2)))
            text, place = f"{frontier.SHOTS[0]:,} shots", (n[0], frontier.SHOTS[0])
            panel.annotate(text, place, xytext=(0, 3), textcoords="offset points", fontsize=8)
        for panel in list(axes.values())[::2]:
            panel.set_ylabel("shots for signal = noise")
        legend_below(fig, list(axes.values()), 4)
    return fig


def shots_say(table: pd.DataFrame) -> str:
    """From how many qubits on a derivative is below its own shot noise."""
    rows = _rows(table, "gradient")
    parts = []
    for ansatz, depth in _deepest(rows).items():
        for cost in COSTS:
            gone = frontier.gone_by_shots(rows, ansatz, cost, depth, frontier.SHOTS[0])
            never = f"up to {frontier.MOST_QUBITS} qubits never"
            where = f"from {gone.first:.0f} qubits on" if math.isfinite(gone.first) else never
            parts.append(f"{where} for the {cost} cost of the {_name(ansatz)} circuit with {_depth(depth)}")
    what = f"With {frontier.SHOTS[0]:,} shots a point the average derivative is below its own noise"
    return f"{what} {'; '.join(parts)}."


# ----------------------------------------------------------------------------------------------------------------- descent
def _noise(n_shots: int) -> str:
    return f"{n_shots} shots" if n_shots else "exact gradients"


def _usual_descents(table: pd.DataFrame) -> pd.DataFrame:
    """Those of the usual, the lowest, number of steps."""
    found = frontier.descents(_rows(table, "descent"))
    return found[found["steps"] == found["steps"].min()]


def descent(table: pd.DataFrame) -> Figure:
    """Cost after training from a random start over qubits, with exact gradients and with the noise of shots."""
    found = _usual_descents(table)
    columns = sorted(set(zip(found["ansatz"], found["n_layers"], strict=True)), key=lambda key: (key[0], key[1]))
    with use_style():
        fig = Figure(figsize=(WIDTH, 4.7))
        axes = fig.subplots(len(COSTS), len(columns), sharex=True, sharey=True, squeeze=False)
        for across, cost in zip(axes, COSTS, strict=True):
            for panel, (ansatz, depth) in zip(across, columns, strict=True):
                own = found[(found["ansatz"] == ansatz) & (found["n_layers"] == depth) & (found["cost"] == cost)]
                for n_shots in sorted(own["shots"].unique(), key=lambda number: number or math.inf, reverse=True):
                    part = own[own["shots"] == n_shots].sort_values("n_qubits")
                    style = style_of(_noise(n_shots))
                    n = part["n_qubits"]
                    panel.fill_between(n, part["low"], part["high"], color=style.colour, alpha=0.15, linewidth=0)
                    panel.plot(n, part["final"], **style.line(markersize=4, linewidth=1.3))
                panel.axhline(frontier.TRAINED, color=GREY, linewidth=0.9, linestyle=(0, (2, 2)))
                panel.set_ylim(-0.04, 1.04)
                panel.xaxis.set_major_locator(FixedLocator(sorted(found["n_qubits"].unique())))
                if cost == COSTS[0]:
                    panel.set_title(f"{_name(ansatz)}\n{_depth(depth)}", fontsize=9)
                if cost == COSTS[-1]:
                    panel.set_xlabel("qubits")
            across[0].set_ylabel(f"{cost} cost after training")
        legend_below(fig, list(axes.ravel()), 4)
    return fig


def descent_say(table: pd.DataFrame) -> str:
    """How many seeds trained at the widest circuits."""
    found = _usual_descents(table)
    widest = found["n_qubits"].max()
    parts = []
    for (ansatz, depth), own in found[found["n_qubits"] == widest].groupby(["ansatz", "n_layers"]):
        counts = [
            f"{row.trained} ({row.cost}, {_noise(row.shots)})" for row in own.sort_values(["cost", "shots"]).itertuples()
        ]
        parts.append(f"{_name(ansatz)}, {_depth(depth)}: {', '.join(counts)}")
    steps, seeds = int(found["steps"].max()), int(found["seeds"].max())
    text = f"On {widest} qubits, of {seeds} random starts so many trained within {steps} steps: {'; '.join(parts)}."
    return f"{text} {_noise_helps(found[found['n_qubits'] == widest])}"


def _noise_helps(found: pd.DataFrame) -> str:
    """In how many cases more starts trained with the noise of shots than without, and in how many none did at all."""
    trained = found.pivot_table(index=["ansatz", "n_layers", "cost"], columns="shots", values="trained")
    noisy = trained.drop(columns=0, errors="ignore").max(axis=1)
    none = int((trained.max(axis=1) == 0).sum())
    text = f"In {none} of {len(trained)} cases no start trained, with exact gradients or with shots."
    if 0 in trained and (more := noisy > trained[0]).any():
        ansatz, depth, cost = (noisy - trained[0]).idxmax()
        best, exact = noisy[ansatz, depth, cost], trained[0][ansatz, depth, cost]
        text = (
            f"In {more.sum()} cases more starts trained with shots than with exact gradients, by most in {_name(ansatz)}, "
            f"{_depth(depth)}, {cost} cost: {best:.0f} against {exact:.0f}. {text}"
        )
    return text


# ------------------------------------------------------------------------------------------------------------------ memory
def memory(table: pd.DataFrame) -> Figure:
    """Memory beyond the smallest model over qubits and over depth: adjoint and backprop."""
    found = frontier.memory(_rows(table, "memory"))
    found = found[found["n_qubits"] > found.groupby("arm")["n_qubits"].transform("min")]
    with use_style():
        fig = Figure(figsize=(WIDTH, 3.4))
        left, right = fig.subplots(1, 2)
        for arm in ARMS:
            style = style_of(arm)
            own = found[found["arm"] == arm]
            if own.empty:
                continue
            wide = own[own["n_layers"] == own["n_layers"].min()].groupby("n_qubits")["extra"].mean()
            wide = wide[wide > 0]
            left.plot(wide.index, wide, **style.line())
            at = own.groupby("n_qubits")["n_layers"].nunique().idxmax()
            deep = own[own["n_qubits"] == at].groupby("n_layers")["extra"].mean()
            deep = deep / frontier.batch_mib(at, own["batch_size"].iloc[0])
            right.plot(deep.index, deep, **style.line(label=None))
            right.annotate(
                f"{at} qubits", (deep.index[-1], deep.iloc[-1]), xytext=(0, 7), textcoords="offset points",
                fontsize=8, ha="right", color=style.colour,
            )  # fmt: skip
        batch = int(found["batch_size"].iloc[0])
        left.set_yscale("log", base=2)
        left.yaxis.set_major_formatter("{x:g}")
        left.set_xlabel("qubits")
        left.set_ylabel("memory beyond the start (MiB)")
        left.xaxis.set_major_locator(FixedLocator(range(2, 41, 2)))
        left.set_title(f"{_depth(int(found['n_layers'].min()))}, batch {batch}")
        right.set_xlabel("layers")
        right.xaxis.set_major_locator(FixedLocator(sorted(found["n_layers"].unique())))
        right.set_ylabel("the same in states of the batch")
        right.set_yscale("log")
        right.set_ylim(1, 3000)
        right.yaxis.set_major_formatter("{x:g}")
        right.set_title(f"at one width, batch {batch}")
        legend_below(fig, [left], 2)
    return fig


def memory_say(table: pd.DataFrame) -> str:
    """The factor of memory per qubit, and what a layer takes."""
    found = frontier.memory(_rows(table, "memory"))
    parts = []
    for arm in ARMS:
        try:
            factor = Number.of(frontier.memory_growth(found, arm)).text
            layer = Number.of(frontier.memory_per_layer(found, arm)).text
        except NotMeasured as gap:
            raise DataError(f"There are {gap}: run {WHERE} to its end, then draw again.") from gap
        parts.append(
            f"with {style_of(arm).label} a qubit more takes {factor} times the memory and a layer more {layer} of the batch"
        )
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


# ---------------------------------------------------------------------------------------------------------------- the map
MAP_CAPTION = (
    "What trains in an hour, and from where on more hardware cannot help. Left: time of a training over qubits; lines end "
    "where the memory does. Right: the widest circuit that trains in an hour, for each depth. Hatched: more qubits than "
    "those at which the average derivative is below its own noise with a million shots a point, for both costs; dotted: "
    "an exact gradient whose root mean square is below the epsilon of Keras's Adam. Solid lines are "
    "measured machines, with filled marks where a measurement is near; dashed lines are predicted, not measured."
)
MAP_ALT = (
    "Two panels. Left, training time in seconds on a logarithmic axis over qubits, one rising line a machine, with a line "
    "at one hour. Right, depth on a logarithmic axis over qubits: one line a machine at the widest circuit that trains in "
    "an hour, and hatched regions on the right where the gradient of the global and of the local cost is gone."
)


def frontier_map(table: pd.DataFrame, machines: Sequence[frontier.Machine], n_layers: int = 8) -> Figure:
    """Training time over qubits, and the regions of depth and qubits that train, end by time or memory, or have no gradient.

    Args:
        table: records of the study.
        machines: whose times are shown, measured or predicted (`analysis.frontier.machines`).
        n_layers: depth of the left panel.
    """
    rows = _rows(table, "gradient")
    edges = {cost: _edge(rows, cost) for cost in COSTS}
    with use_style():
        fig = Figure(figsize=(WIDTH + 0.8, 4.1))
        left, right = fig.subplots(1, 2)
        handles = []
        for (colour, marker), machine in zip(LOOKS, machines, strict=False):
            _time_line(left, machine, n_layers, colour)
            look = {"color": colour, "marker": marker, "linestyle": "-" if machine.measured else (0, (4, 2))}
            reached = [(depth, frontier.largest_in_an_hour(machine, depth, BATCH)) for depth in DEPTHS]
            right.plot([found.n_qubits for _, found in reached], DEPTHS, markerfacecolor="white", **look)
            known = [(found.n_qubits, depth) for depth, found in reached if machine.measured and found.near]
            right.plot([n for n, _ in known], [depth for _, depth in known], **{**look, "linestyle": "none"})
            fill = colour if machine.measured else "white"
            handles.append(Line2D([], [], label=machine.label, markerfacecolor=fill, **look))
        left.axhline(frontier.HOUR, color=GREY, linewidth=1)
        left.annotate("one hour", (0.02, frontier.HOUR), xycoords=("axes fraction", "data"), xytext=(0, 3),
                      textcoords="offset points", fontsize=8, color=GREY)  # fmt: skip
        left.set_yscale("log")
        left.set_ylim(top=30 * frontier.HOUR)
        left.set_xlabel("qubits")
        left.set_ylabel(f"time of {frontier.STEPS} steps (s)")
        left.set_title(f"{_depth(n_layers)}, batch {BATCH}")
        widest = max(40, *(n for line in right.get_lines() for n in line.get_xdata()))
        for cost, colour, hatch in (("global", VERMILLION, "///"), ("local", BLUE, "\\\\\\")):
            depth, first = zip(*edges[cost], strict=True)
            first = np.minimum(first, widest)
            label = f"{cost} cost: gradient below the noise of {MAP_SHOTS:,} shots"
            shade = right.fill_betweenx(
                depth, first, widest, facecolor="none", edgecolor=colour, hatch=hatch, alpha=0.45, linewidth=0, label=label
            )
            right.plot(first, depth, color=colour, linewidth=1)
            handles.append(shade)
        for cost, colour in (("global", VERMILLION), ("local", BLUE)):
            depth, first = zip(*_edge(rows, cost, exact=True), strict=True)
            label = f"{cost} cost: exact gradient below Adam's epsilon"
            handles += right.plot(first, depth, color=colour, linewidth=1.8, linestyle=(0, (1, 1)), label=label)
        right.set_yscale("log", base=2)
        right.yaxis.set_major_locator(FixedLocator(DEPTHS))
        right.yaxis.set_major_formatter("{x:g}")
        right.yaxis.set_minor_locator(NullLocator())
        right.set_xlim(4, widest)
        right.set_xlabel("qubits")
        right.set_ylabel("layers")
        right.set_title("trains in an hour, left of a line")
        fig.legend(handles=handles, loc="outside lower center", ncols=2)
    return fig


def _edge(rows: pd.DataFrame, cost: str, exact: bool = False) -> list[tuple[int, float]]:
    """Depth and the number of qubits from which on the gradient is gone there; infinite where it is not.

    Args:
        rows: of the cell "gradient".
        cost: which.
        exact: gone for Adam with exact gradients, instead of for `MAP_SHOTS` shots.
    """
    found = []
    for depth in DEPTHS:
        try:
            gone = (
                frontier.gone_for_adam(rows, MAP_ANSATZ, cost, depth)
                if exact
                else frontier.gone_by_shots(rows, MAP_ANSATZ, cost, depth, MAP_SHOTS)
            )
        except NotMeasured:
            continue
        found.append((depth, gone.qubits.value))
    if not found:
        raise DataError(f"No depth of the {MAP_ANSATZ} circuit was measured at enough widths: run {WHERE}, then draw again.")
    return found


def _time_line(panel: Axes, machine: frontier.Machine, n_layers: int, colour: str) -> None:
    points: list[tuple[int, Interval, bool]] = []
    for n in range(2, frontier.MOST_QUBITS + 1):
        step = machine.seconds(n, n_layers, BATCH)
        if step is None:
            break
        points.append((n, step, machine.near(n, n_layers, BATCH)))
        if frontier.STEPS * step.value > 20 * frontier.HOUR:
            break
    if not points:
        return
    n = [point[0] for point in points]
    values = np.array([[s.low, s.value, s.high] for _, s, _ in points]) * frontier.STEPS
    near = [point[2] for point in points]
    if np.isfinite(values).all():
        panel.fill_between(n, values[:, 0], values[:, 2], color=colour, alpha=0.12, linewidth=0)
    # What no measurement is near is extrapolated by the model, and drawn like a prediction.
    solid = np.where(np.array(near) & machine.measured, values[:, 1], np.nan)
    panel.plot(n, values[:, 1], color=colour, linestyle=(0, (4, 2)), linewidth=1.3)
    panel.plot(n, solid, color=colour, linewidth=1.8)


def map_say(table: pd.DataFrame, machines: Sequence[frontier.Machine], n_layers: int = 8) -> str:
    """What trains in an hour on each machine, and where the gradient is gone."""
    rows = _rows(table, "gradient")
    parts = []
    for machine in machines:
        found = frontier.largest_in_an_hour(machine, n_layers, BATCH)
        beyond = "" if found.near else ", extrapolated"
        parts.append(f"{found.n_qubits} qubits on {machine.label}{beyond} (what ends it: {found.ends_by})")
    gone = frontier.gone_by_shots(rows, MAP_ANSATZ, "global", n_layers, MAP_SHOTS)
    where = f"{gone.first:.0f} qubits" if math.isfinite(gone.first) else f"more than {frontier.MOST_QUBITS} qubits"
    return (
        f"With {n_layers} layers and a batch of {BATCH}, {frontier.STEPS} steps fit into an hour up to "
        + "; ".join(parts)
        + f"; a single derivative of the global cost is below the noise of {MAP_SHOTS:,} shots from {where} on."
    )


def hour_map(table: pd.DataFrame, atlas: pd.DataFrame) -> Figure:
    """`frontier_map` with the machine of the atlas's records, and GPUs by their datasheets."""
    return frontier_map(table, frontier.measured_and_predicted(one_machine(atlas)))


def hour_say(table: pd.DataFrame, atlas: pd.DataFrame) -> str:
    """`map_say` for the same machines."""
    return map_say(table, frontier.measured_and_predicted(one_machine(atlas)))
