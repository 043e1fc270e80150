"""The figures of the break-even atlas: where which route is fastest, by how much, and how well the cost model knows it."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullFormatter, ScalarFormatter

from hybridbench.analysis import costs
from hybridbench.analysis.costs import AXES, SHIPPED, CostModel
from hybridbench.analysis.tables import Number, one_machine
from hybridbench.design.routes import Route, route_of
from hybridbench.report.panels import bars, legend_below, need
from hybridbench.report.style import BLACK, GREY, in_order, style_of, use_style

WHERE = "'hybridbench measure --full' (or notebook 04_gpu_runs for GPU rows)"
#: The size that the lines go through: qubits, layers, batch.
CENTRE = (8, 2, 32)
QUBITS = tuple(range(2, 21))
BATCHES = tuple(2**power for power in range(11))
BASELINE = f"{SHIPPED}, complex128"
EXTENT = (QUBITS[0] - 0.5, QUBITS[-1] + 0.5, -0.5, len(BATCHES) - 0.5)
NOT_NEAR = "#E4E4E4"


def _all_threads(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of one machine at its largest number of threads."""
    rows = need(table, "the atlas", f"notebook 04_gpu_runs, or {WHERE}")
    rows = one_machine(rows)
    return rows[rows["threads"] == rows["threads"].max()]


def _models(rows: pd.DataFrame) -> dict[str, CostModel]:
    found = {f"{model.route}, {model.precision}": model for model in costs.models(rows).values()}
    return {name: found[name] for name in in_order(found)}


def _seconds(model: CostModel, layers: int) -> np.ndarray:
    """Seconds over (batch, qubits); NaN where nothing was measured near."""
    found = np.full((len(BATCHES), len(QUBITS)), np.nan)
    for i, batch in enumerate(BATCHES):
        for j, n_qubits in enumerate(QUBITS):
            if model.nearest(n_qubits, layers, batch).near:
                found[i, j] = model.seconds(n_qubits, layers, batch)
    return found


def _map_axes(axes: Axes, rows: pd.DataFrame) -> None:
    cells = rows.drop_duplicates(list(AXES))
    axes.scatter(
        cells["n_qubits"], np.log2(cells["batch_size"]), s=7, facecolor="white", edgecolor=BLACK, linewidth=0.6, zorder=3
    )
    axes.set_xlabel("qubits")
    axes.set_xticks(range(2, 21, 3))
    axes.set_yticks(range(0, 11, 2), [str(2**power) for power in range(0, 11, 2)])
    axes.set_xlim(*EXTENT[:2])
    axes.set_ylim(*EXTENT[2:])
    axes.set_facecolor(NOT_NEAR)
    axes.grid(False)


def surface(table: pd.DataFrame) -> Figure:
    """Over qubits and batch: the faster of PennyLane's own devices, the fastest route, and its factor over as shipped."""
    rows = _all_threads(table)
    layers = CENTRE[1]
    with use_style():
        models = _models(rows)
        need(pd.DataFrame({"arm": list(models)}), "enough cells of the atlas for a cost model", WHERE)
        maps = {name: _seconds(model, layers) for name, model in models.items()}
        own = [name for name in maps if _pennylanes(route_of(name))]
        # Between PennyLane's own there is no winner where one of them has no measurement near.
        known = ~np.isnan(np.sum([maps[name] for name in own], axis=0)) if own else None
        shown = [("fastest of PennyLane's own", {name: np.where(known, maps[name], np.nan) for name in own})]
        routes = {name: model.route for name, model in models.items()}
        if len(set(_fastest(maps, routes).values())) > 1:
            shown.append(("fastest of all", maps))
        fig = Figure(figsize=(3.4 * (len(shown) + 1) + 0.8, 4.1))
        *panels, right = fig.subplots(1, len(shown) + 1, sharey=True)
        used: list[str] = []
        for axes, (title, compared) in zip(panels, shown, strict=True):
            used += _winners(axes, compared, routes)
            axes.set_title(title)
        best = np.fmin.reduce(list(maps.values()))
        factor = maps[BASELINE] / best if BASELINE in maps else np.full_like(best, np.nan)
        finite = factor[np.isfinite(factor)]
        norm = LogNorm(max(finite.min(), 1), max(finite.max(), 2)) if finite.size else None
        image = right.imshow(factor, origin="lower", aspect="auto", cmap="viridis", norm=norm, extent=EXTENT)
        right.set_title("fastest over as shipped")
        bar = fig.colorbar(image, ax=right, label="times faster", format="{x:g}", ticks=LogLocator(subs=(1, 2, 5)))
        bar.ax.yaxis.set_minor_formatter(NullFormatter())
        bar.outline.set_visible(False)
        for axes in (*panels, right):
            _map_axes(axes, rows)
        panels[0].set_ylabel("batch size (samples)")
        handles = [Patch(color=style_of(name).colour, label=style_of(name).label) for name in in_order(used)]
        handles.append(Patch(color=NOT_NEAR, label="no measurement near"))
        ring = {"marker": "o", "markersize": 3.5, "markerfacecolor": "white", "markeredgecolor": BLACK, "linestyle": "none"}
        handles.append(Line2D([], [], label="measured (any depth)", **ring))
        fig.legend(handles=handles, loc="outside lower center", ncols=2)
    return fig


def _pennylanes(route: Route) -> bool:
    """Whether it is PennyLane's layer on one of PennyLane's devices, as its users have it."""
    return route.layer == "KerasLayer" and route.mode == "eager" and route.backend != "hybridbench.qubit"


def _fastest(maps: dict[str, np.ndarray], route: dict[str, str]) -> dict[tuple[int, int], str]:
    """The route, whatever its precision, that is fastest at every point near measurements; `route` of each arm."""
    stack = np.stack([np.where(np.isnan(each), np.inf, each) for each in maps.values()])
    routes = [route[name] for name in maps]
    near = np.isfinite(stack.min(axis=0))
    return {(int(i), int(j)): routes[int(stack[:, i, j].argmin())] for i, j in np.argwhere(near)}


def _winners(axes: Axes, maps: dict[str, np.ndarray], route: dict[str, str]) -> list[str]:
    """Colour every point by the fastest route; returns an arm of each that wins somewhere."""
    fastest = _fastest(maps, route) if maps else {}
    arms = {route[name]: name for name in maps}
    routes = sorted(set(fastest.values()))
    winner = np.full((len(BATCHES), len(QUBITS)), np.nan)
    for at, route in fastest.items():
        winner[at] = routes.index(route)
    if routes:
        colours = ListedColormap([style_of(arms[route]).colour for route in routes])
        norm = BoundaryNorm(np.arange(-0.5, len(routes) + 0.5), len(routes))
        axes.imshow(winner, origin="lower", aspect="auto", cmap=colours, norm=norm, extent=EXTENT)
    return [arms[route] for route in routes]


def lines(table: pd.DataFrame) -> Figure:
    """Times faster than KerasLayer as shipped along the lines through the centre: measured with intervals, and the model."""
    rows = _all_threads(table)
    n_qubits, n_layers, batch = CENTRE
    about = (
        ("n_qubits", f"qubits (batch {batch}, {n_layers} layers)", range(2, 21)),
        ("batch_size", f"batch size (samples; {n_qubits} qubits, {n_layers} layers)", BATCHES),
        ("n_layers", f"layers ({n_qubits} qubits, batch {batch})", range(1, 9)),
    )
    fixed = dict(zip(AXES, CENTRE, strict=True))
    with use_style():
        models = _models(rows)
        fig = Figure(figsize=(10.4, 4.3))
        panels = fig.subplots(1, 3, sharey=True)
        for axes, (axis, label, values) in zip(panels, about, strict=True):
            others = [name for name in AXES if name != axis]
            here = rows[(rows[others] == [fixed[name] for name in others]).all(axis=1)]
            found = costs.speedups(here)
            for arm in in_order(found["arm"]):
                own = found[found["arm"] == arm].sort_values(axis)
                style = style_of(arm)
                axes.errorbar(own[axis], own["value"], yerr=bars(_intervals(own)), **style.line(linestyle="none"))
                _model_line(axes, models, arm, axis, fixed, values)
            axes.axhline(1, color=GREY, linewidth=1)
            axes.set_xlabel(label)
            if axis == "n_qubits":
                axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            else:
                axes.set_xscale("log", base=2)
                ticks = sorted(
                    {1, *[value for value in values if math.log2(value) % (2 if axis == "batch_size" else 1) == 0]}
                )
                axes.xaxis.set_major_locator(FixedLocator(ticks))
                axes.xaxis.set_major_formatter(ScalarFormatter())
                axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
        panels[0].set_ylabel("times faster than KerasLayer as shipped")
        legend_below(fig, panels, 2)
    return fig


def _intervals(found: pd.DataFrame) -> list[costs.Interval]:
    return [costs.Interval(row.value, row.low, row.high, row.n) for row in found.itertuples()]


def _model_line(
    axes: Axes, models: dict[str, CostModel], arm: str, axis: str, fixed: dict[str, int], values: range | tuple[int, ...]
) -> None:
    if arm not in models or BASELINE not in models:
        return
    points = []
    for value in values:
        size = tuple({**fixed, axis: value}[name] for name in AXES)
        if all(models[name].nearest(*size).near for name in (arm, BASELINE)):
            points.append((value, models[BASELINE].seconds(*size) / models[arm].seconds(*size)))
    style = style_of(arm)
    axes.plot(*zip(*points, strict=True), color=style.colour, linestyle=style.dash, linewidth=1.2) if points else None


def validation(table: pd.DataFrame) -> Figure:
    """Predicted against measured step times of the cells that the cost model has not seen."""
    rows = need(table, "the atlas", f"notebook 04_gpu_runs, or {WHERE}")
    found = costs.validate(costs.models(one_machine(rows)))
    need(found, "held-out cells of the atlas", WHERE)
    with use_style():
        fig = Figure(figsize=(6.4, 5.6))
        axes = fig.subplots()
        arms = found["route"] + ", " + found["precision"]
        ends = np.array(
            [found[["measured", "predicted"]].min(axis=None) / 1.6, found[["measured", "predicted"]].max(axis=None) * 1.6]
        )
        ends *= 1e3
        axes.plot(ends, ends, color=GREY, linewidth=1)
        label = f"within a factor of {costs.WITHIN:g}"
        axes.fill_between(ends, ends / costs.WITHIN, ends * costs.WITHIN, color="#DDDDDD", zorder=0, label=label)
        for arm in in_order(arms):
            own = found[arms == arm] * 1
            errors = 1e3 * np.array([own["predicted"] - own["low"], own["high"] - own["predicted"]], dtype=float)
            style = style_of(arm).line(linestyle="none", markersize=4.5, elinewidth=0.8)
            axes.errorbar(1e3 * own["measured"], 1e3 * own["predicted"], yerr=errors, **style)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(*ends)
        axes.set_ylim(*ends)
        for each in (axes.xaxis, axes.yaxis):
            each.set_major_formatter("{x:g}")
        axes.set_xlabel("measured step (ms)")
        axes.set_ylabel("predicted step (ms)")
        legend_below(fig, [axes], 2)
    return fig


def validation_say(table: pd.DataFrame) -> str:
    """The share of held-out cells that the cost model predicts to within its goal."""
    found = costs.validate(costs.models(one_machine(table)))
    share = Number.of(costs.share_within(found)).text
    inside = Number.of(costs.share_within(found, "inside")).text
    return (
        f"The cost model predicts {share} of {len(found)} held-out times to within a factor of {costs.WITHIN:g}; its 95 % "
        f"prediction intervals hold {inside} of them."
    )


def lines_say(table: pd.DataFrame) -> str:
    """By how much the fastest route beats the shipped one at the centre."""
    rows = _all_threads(table)
    here = rows[(rows[list(AXES)] == CENTRE).all(axis=1)]
    found = costs.speedups(here).sort_values("value")
    if found.empty:
        return "At the centre of the grid the shipped layer was not timed, so that there is no factor to it."
    best = found.iloc[-1]
    factor = Number.of(costs.Interval(best["value"], best["low"], best["high"], int(best["n"]))).text
    n_qubits, n_layers, batch = CENTRE
    return (
        f"At {n_qubits} qubits, {n_layers} layers and batch {batch} {style_of(best['arm']).label} is {factor} times as fast "
        "as KerasLayer as shipped."
    )


def surface_say(table: pd.DataFrame) -> str:
    """Which route is the fastest at most of the points near which there are measurements."""
    models = _models(_all_threads(table))
    maps = {name: _seconds(model, CENTRE[1]) for name, model in models.items()}
    fastest = list(_fastest(maps, {name: model.route for name, model in models.items()}).values())
    counts = {route: fastest.count(route) for route in dict.fromkeys(fastest)}
    most = max(counts, key=counts.get)
    share = 100 * counts[most] / len(fastest)
    return f"{most} is the fastest route at {share:.0f} % of the points near which there are measurements."
