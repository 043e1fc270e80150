"""The paper's figures: what each shows, from which records, its caption and its alt text. A new one is one entry here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from hybridbench import paths
from hybridbench.analysis.claims import decide
from hybridbench.analysis.tables import NotMeasured, Records
from hybridbench.errors import DataError, check_name
from hybridbench.measurement.checksums import write_checksums
from hybridbench.report import atlas, bench, frontier, plots, study
from hybridbench.report.figures import save_figure


class Entry(NamedTuple):
    """One figure of the paper. Captions and alt texts hold no measured numbers: those stand in `claims.json`."""

    draw: Callable[..., Figure]  #: from the table of its study, and that of `beside` where there is one
    study: str  #: the table it is drawn from
    caption: str
    alt: str
    cell: str = ""  #: the timing cell, where the study is "timing"
    says: Callable[..., str] | None = None  #: the sentence that reads it, with numbers from the same records
    beside: str = ""  #: a second table it is drawn from


GALLERY: dict[str, Entry] = {
    "circuits": Entry(
        plots.circuits,
        "circuits",
        "What the circuits can do. The original study's circuit is marked by a cross: of its parameters only one ever "
        "has a gradient. The separable twin has no entanglement and serves as a control.",
        "Three dot plots with one row a circuit: expressibility, entangling capability and the share of live "
        "parameters. The original circuit has one live parameter; the trained ansätze stand beside it.",
    ),
    "energy": Entry(
        plots.energy_curves,
        "energy",
        "The original study's objective. Left: mean energy over steps, each optimizer at its best rate of the study's grid "
        "(line: median over seeds, band: all seeds). Right: energies of untrained parameters for different seeds, "
        "their closed-form mean, and the three energies that the study ranked in its Table 2.",
        "Left, rising energy curves of the optimizers towards the optimum of one. Right, a scatter of untrained "
        "energies along one axis, with vertical lines for the closed form and for the three values of Table 2 beside "
        "them.",
    ),
    "step_time": Entry(
        plots.step_time,
        "timing",
        "Time of one training step of the hybrid model, by simulator and gradient method (median and 95 % bootstrap "
        "interval).",
        "One panel a batch size: step time in milliseconds on a logarithmic axis over the number of qubits, one line "
        "a simulator with its gradient method.",
        "methods",
    ),
    "step_parts": Entry(
        plots.step_parts,
        "timing",
        "Where the time of a training step goes (medians of each part; the total stands at the right of its bar).",
        "Stacked horizontal bars, one a simulator and size: shares of classical forward and backward, quantum forward "
        "and backward, update and Python in a training step.",
        "parts",
        says=plots.step_parts_say,
    ),
    "batching": Entry(
        plots.batching,
        "timing",
        "One sample at a time against the whole batch in one simulation (median and 95 % bootstrap interval).",
        "One panel a number of qubits: step time in milliseconds over the batch size, both axes logarithmic, for the "
        "loop over samples and for the broadcast batch.",
        "batching",
        says=plots.batching_say,
    ),
    "compilation": Entry(
        plots.compilation,
        "timing",
        "What compilation costs at the first call and saves in every step after it (note the two scales).",
        "Two panels with logarithmic time axes: the first call and the later steps of eager and compiled execution, "
        "for each circuit size.",
        "compile",
    ),
    "rungs": Entry(
        plots.rungs,
        "timing",
        "A training step from KerasLayer as shipped to the compiled layer, rung by rung: how many times faster (median "
        "ratio and 95 % bootstrap interval) and the median step.",
        "One row a rung: the factor by which a step is faster than with KerasLayer as shipped, on a logarithmic axis.",
        "rungs",
    ),
    "precision": Entry(
        plots.precision,
        "timing",
        "Step time in double precision over step time in single precision, repetitions paired (95 % bootstrap "
        "interval); above the line single precision is faster.",
        "Ratio of the step time in complex128 to that in complex64 over the number of qubits, with a line at one for "
        "no gain.",
        "precision",
    ),
    "optimizer_step_time": Entry(
        plots.optimizer_step_time,
        "timing",
        "Step time with each optimizer over that with Adam, repetitions paired (median ratio and 95 % bootstrap "
        "interval); the band marks a difference too small to matter.",
        "One row an optimizer: the ratio of its step time to Adam's with an interval, against a shaded band around one.",
        "optimizers",
    ),
    "update_time": Entry(
        plots.update_time,
        "timing",
        "Time of the update alone, without circuit and gradient, over the number of parameters: Keras's Adam and the same "
        "formula in one compiled call (median and 95 % bootstrap interval).",
        "Two rising lines over the number of parameters, both axes logarithmic: the update's time in milliseconds for Adam "
        "and for fused Adam.",
        "update",
    ),
    "study_curves": Entry(
        study.curves,
        "optimizers",
        "Validation loss of the hybrid model over training steps, each optimizer at its tuned setting (line: median over "
        "seeds, band: quartiles). A row is a problem, a column a family of optimizers; grey lines are the other families. "
        "For the energies (tfim, basins, original) the loss is the gap to the known optimum, on a logarithmic axis.",
        "A grid of panels, a row a problem and a column a family of optimizers: validation loss falling over steps, "
        "coloured lines with bands for the family and grey lines for all others.",
        says=study.curves_say,
    ),
    "study_rates": Entry(
        study.rates,
        "optimizers",
        "Sensitivity to the learning rate with the framework's other defaults: the colour is the share of the possible "
        "drop in validation loss (from the untrained model to the best cell of the panel; means over seeds). Dots mark "
        "rates within 5 % of the optimizer's own best (in loss; for energies in the share of the gap that is closed), "
        "crosses rates at which a seed's loss stopped being a number.",
        "One map a problem with a row an optimizer and a column a learning rate, dark where training gains little and "
        "bright where it gains most; dots mark the best rates of each row, crosses divergence.",
        says=study.rates_say,
    ),
    "study_profiles": Entry(
        study.profiles,
        "optimizers",
        "Performance profiles of the tuned optimizers: share of problems on which a target is reached within a factor of "
        "the fastest optimizer's steps (medians over seeds). Above: the target that the protocol set before the records, "
        "near the best that training can reach. Below, added after seeing them: nine tenths of the drop in validation loss "
        "from untrained to best. A problem whose target is missed never counts. Grey: other families.",
        "Two rows of panels, a panel a family of optimizers: rising steps of the share of problems over the factor to the "
        "fastest, from one to four; above for the target of the protocol, below for nine tenths of the drop.",
        says=study.profiles_say,
    ),
    "study_ranks": Entry(
        study.ranks,
        "optimizers",
        "Critical-difference diagram of the tuned optimizers: mean ranks of the normalised score over pairs of problem and "
        "seed. Thick bars join optimizers that Nemenyi's test does not tell apart at 5 %. It speaks of new seeds on these "
        "problems, not of new problems.",
        "A horizontal axis of mean ranks with a label for each optimizer, the better half on the left, and thick bars "
        "joining those that are not told apart.",
        says=study.ranks_say,
    ),
    "study_budget": Entry(
        study.budget,
        "optimizers",
        "What tuning buys: the share of the possible drop in validation loss that is still missing after so many random "
        "tuning points (expected best of the points, mean over problems; the drop goes from the untrained model to the "
        "best optimizer). Grey: other families.",
        "One panel a family of optimizers: curves of the missing share in percent falling over the number of tuning points.",
        says=study.budget_say,
    ),
    "study_gaps": Entry(
        study.gaps,
        "optimizers",
        "Test score and generalisation gap of the hybrid model, its separable twin and the classical model with matched "
        "parameters, each tuned for each optimizer on its own (marks: one optimizer, mean over seeds; bar: median "
        "optimizer).",
        "Two panels with one row a task: marks of three models for the test score on the left and for training less test "
        "score on the right, with a line at zero.",
        says=study.gaps_say,
    ),
    "study_iqm": Entry(
        study.iqm,
        "optimizers",
        "Interquartile mean of the normalised scores of the hybrid model over all problems and seeds, with a stratified "
        "bootstrap interval: each optimizer tuned, and with its framework's default settings.",
        "A dot plot with one row an optimizer, sorted by the tuned score: one mark tuned, one with the framework's "
        "defaults, each with an interval and joined by a line.",
        says=study.iqm_say,
    ),
    "study_basins": Entry(
        study.basins,
        "optimizers",
        "Escape from poor basins: share of coordinates of problem basins that end in the global basin (grey: seeds). The "
        "dashed line is the share of a uniform start in closed form, which an optimizer that only slides downhill keeps.",
        "A dot plot with one row an optimizer: the share of coordinates in the global basin in percent with an interval, "
        "small grey marks for the seeds, and a dashed vertical line at the share of a uniform start.",
        says=study.basins_say,
    ),
    "test_scores": Entry(
        plots.score_comparison,
        "training",
        "Test score of the hybrid model, its separable twin and a classical model with matched parameters, with the "
        "same data and the same budget (marks: seeds; bar: median).",
        "For each task three columns of marks, one mark a seed, with a bar at the median: hybrid, separable twin and "
        "parameter-matched classical model.",
    ),
}
#: Figures of the break-even atlas, drawn wherever a source has its records ('hybridbench measure' makes them, no notebook).
ATLAS: dict[str, Entry] = {
    "atlas_surface": Entry(
        atlas.surface,
        "atlas",
        "The break-even atlas over qubits and batch size (two layers, all cores). Left: the fastest of PennyLane's own "
        "routes. Right: how many times faster than KerasLayer as shipped the fastest of all routes is. By the cost model, "
        "where there are measurements near.",
        "Maps with qubits to the right and batch size upwards, coloured by the fastest of PennyLane's own routes and by the "
        "factor of the fastest of all over KerasLayer as shipped; grey where nothing was measured near, small rings at the "
        "measured sizes.",
        says=atlas.surface_say,
    ),
    "atlas_speedups": Entry(
        atlas.lines,
        "atlas",
        "How many times faster than KerasLayer as shipped a training step is by every route, along three lines through one "
        "size: marks are measured (median ratio and bootstrap interval over processes), lines are the cost model.",
        "Three panels over qubits, batch size and layers: marks with intervals and a line for each route on a logarithmic "
        "axis of the factor, with a line at one for no gain.",
        says=atlas.lines_say,
    ),
    "atlas_validation": Entry(
        atlas.validation,
        "atlas",
        "The cost model on the cells that it was not fitted to: predicted against measured time of a step, with 95 % "
        "prediction intervals, and the band of its goal.",
        "A scatter of predicted over measured step times in milliseconds, both axes logarithmic, around the diagonal with a "
        "grey band, one mark and colour a route.",
        says=atlas.validation_say,
    ),
}
#: Figures of the frontier study, drawn wherever a source has its records ('hybridbench frontier' makes them, no notebook).
FRONTIER: dict[str, Entry] = {
    "frontier_variance": Entry(
        frontier.variance,
        "frontier",
        "Variance of the cost's derivative by the first rotation, over random weights (mean and 95 % interval over batches; "
        "line: the better of an exponential and a power of the qubits). Grey: the closed form for a random circuit. Those "
        "whose variance is too heavy-tailed for the points that were drawn are left out.",
        "Four panels, a row a circuit and a column a cost: the variance on a logarithmic axis over qubits, a line a depth. "
        "The global cost falls steeply at every depth; the local one bends away from the steep grey line where the circuit "
        "is shallow.",
        says=frontier.variance_say,
    ),
    "frontier_shots": Entry(
        frontier.shots,
        "frontier",
        "Shots at each point of the parameter-shift rule from which the average derivative is as large as its own noise. "
        "Grey: the closed form for a random circuit, two to the number of qubits, for either cost.",
        "Four panels, a row a circuit and a column a cost: the number of shots on a logarithmic axis over qubits, a line a "
        "depth, with a horizontal line at ten thousand shots.",
        says=frontier.shots_say,
    ),
    "frontier_descent": Entry(
        frontier.descent,
        "frontier",
        "Cost after training with Adam from uniformly random weights, with exact gradients and with the noise of shots "
        "(median and quartiles over seeds). Below the dotted line a run counts as trained.",
        "Panels with a row a cost and a column a circuit and depth: the cost after training from zero to one over qubits, a "
        "line for exact gradients and one for each number of shots.",
        says=frontier.descent_say,
    ),
    "frontier_memory": Entry(
        frontier.memory,
        "frontier",
        "Peak memory of a process that trains, beyond that of the smallest model of its kind: the compiled layer with "
        "adjoint gradients and KerasLayer as shipped with backprop.",
        "Two panels: memory on a logarithmic axis over qubits, two rising lines; and over layers in single-precision states "
        "of the batch, a few for adjoint and hundreds, rising, for backprop.",
        says=frontier.memory_say,
    ),
}
#: The figure of two studies, drawn wherever a source has both.
MAP: dict[str, Entry] = {
    "frontier_map": Entry(
        frontier.hour_map,
        "frontier",
        frontier.MAP_CAPTION,
        frontier.MAP_ALT,
        says=frontier.hour_say,
        beside="atlas",
    ),
}
ALL: dict[str, Entry] = {**GALLERY, **ATLAS, **FRONTIER, **MAP}
#: The cell of the study that each is drawn from.
FRONTIER_CELLS = {
    "frontier_variance": "gradient",
    "frontier_shots": "gradient",
    "frontier_descent": "descent",
    "frontier_memory": "memory",
}
LEDGER = "ledger"
LEDGER_CAPTION = "The original study's claims at a glance: confirmed, refuted, or open where the records cannot decide."
LEDGER_ALT = (
    "A chart with one row for each of the 28 claims and three columns; a circle marks a confirmed claim, a cross a refuted "
    "one, a diamond an open one."
)


def _tables(records: Records, entry: Entry) -> list[pd.DataFrame]:
    try:
        found = [records[study] for study in (entry.study, entry.beside) if study]
    except NotMeasured as gap:
        raise DataError(f"A figure is missing its records ({gap}): run the notebooks first ('hybridbench run').") from gap
    return [found[0][found[0]["cell"] == entry.cell] if entry.cell else found[0], *found[1:]]


def draw(name: str, source: str | Records = "shipped") -> tuple[Figure, str]:
    """One figure of the paper and its alt text, from the records of a source ("shipped", "build") or from opened ones.

    Raises:
        ConfigurationError: no figure of that name.
        DataError: its records are missing; names what to run.
    """
    entry = ALL[check_name("figure", name, ALL)]
    return entry.draw(*_tables(Records.of(source), entry)), entry.alt


def read(name: str, source: str | Records = "shipped") -> str:
    """The sentence that reads a figure, with numbers from the records that it is drawn from.

    Raises:
        ConfigurationError: no figure of that name has one.
        DataError: its records are missing; names what to run.
    """
    reading = {name: entry for name, entry in ALL.items() if entry.says}
    entry = reading[check_name("figure with a sentence", name, reading)]
    return entry.says(*_tables(Records.of(source), entry))


def write_frontier(table: pd.DataFrame, folder: Path) -> tuple[str, list[Path]]:
    """Write the figures of the frontier study whose cells a table has.

    Args:
        table: records of the study.
        folder: where.

    Returns:
        What the figures say, a paragraph each, and the files.

    Raises:
        DataError: a cell has too few records for its figure.
    """
    there = set(table["cell"])
    said, files = [], []
    for name, entry in FRONTIER.items():
        if FRONTIER_CELLS[name] in there:
            fig = entry.draw(table)
            said.append(entry.says(table))
            files += save_figure(fig, name, entry.caption, entry.alt, {entry.study: table}, folder)
    return "\n\n".join(said), files


def build_figures(source: str = "shipped", folder: Path | None = None) -> list[Path]:
    """Make every figure of the paper: into `figures/` from shipped records, into `build/figures` from this machine's own.

    Everything is drawn before anything is written: where the records of one figure are missing, none appears.

    Args:
        source: "shipped" or "build".
        folder: another place to write to.

    Raises:
        DataError: the records of a figure are missing; names what to run.
    """
    records = Records(source)
    folder = folder or (paths.root() if source == "shipped" else paths.build_dir()) / "figures"
    # No notebook makes the records of the atlas and of the frontier: their figures are drawn where there are some.
    entries = {
        name: entry
        for name, entry in ALL.items()
        if name in GALLERY or all(records.has(study) for study in (entry.study, entry.beside) if study)
    }
    tables = {name: _tables(records, entry) for name, entry in entries.items()}
    drawn = {name: entry.draw(*tables[name]) for name, entry in entries.items()}
    if source == "shipped":
        # Of one's own records 'make bench' draws it: the notebooks make none of the benchmark.
        bench_steps = plots.bench_steps(records["bench"])
    claims = decide(source)
    overview = plots.ledger(claims)
    written = []
    for name, fig in drawn.items():
        entry = entries[name]
        studies = (entry.study, entry.beside) if entry.beside else (entry.study,)
        inputs = dict(zip(studies, tables[name], strict=True))
        written += save_figure(fig, name, entry.caption, entry.alt, inputs, folder)
    if source == "shipped":
        written += save_figure(bench_steps, "bench_steps", bench.CAPTION, bench.ALT, {"bench": records["bench"]}, folder)
    verdicts = pd.DataFrame([{"claim": claim.id, "verdict": claim.verdict} for claim in claims])
    written += save_figure(overview, LEDGER, LEDGER_CAPTION, LEDGER_ALT, {"claims": verdicts}, folder)
    return [*written, write_checksums(folder)]
