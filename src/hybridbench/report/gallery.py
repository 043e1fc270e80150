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
from hybridbench.report import bench, plots
from hybridbench.report.figures import save_figure


class Entry(NamedTuple):
    """One figure of the paper. Captions and alt texts hold no measured numbers: those stand in `claims.json`."""

    draw: Callable[[pd.DataFrame], Figure]
    study: str  #: the table it is drawn from
    caption: str
    alt: str
    cell: str = ""  #: the timing cell, where the study is "timing"


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
    ),
    "batching": Entry(
        plots.batching,
        "timing",
        "One sample at a time against the whole batch in one simulation (median and 95 % bootstrap interval).",
        "One panel a number of qubits: step time in milliseconds over the batch size, both axes logarithmic, for the "
        "loop over samples and for the broadcast batch.",
        "batching",
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
    "loss_curves": Entry(
        plots.loss_curves,
        "training",
        "Training loss of the hybrid model, each optimizer at the learning rate with the lowest validation loss "
        "(line: median over seeds, band: all seeds).",
        "One panel a task: training loss over epochs, one line an optimizer with a band over seeds.",
    ),
    "learning_rates": Entry(
        plots.learning_rates,
        "training",
        "Validation loss after the last epoch over the learning rate (median over seeds; bars span all seeds). "
        "The panels end at one and a half times the loss of the untrained model; lines that leave them are worse. Points "
        "where most seeds diverged are left out.",
        "One panel a task: final validation loss over the learning rate on a logarithmic axis, one line an optimizer.",
    ),
    "target_epochs": Entry(
        plots.target_epochs,
        "training",
        "Epochs until the validation loss has covered most of the best optimizer's way, each optimizer at its best "
        "learning rate (marks: seeds; bar: median). Runs that never arrive stand at the right.",
        "One panel a task, one row an optimizer: marks for the epochs that each seed needs to the target, and a bar "
        "at the median.",
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
LEDGER = "ledger"
LEDGER_CAPTION = "The original study's claims at a glance: confirmed, refuted, or open where the records cannot decide."
LEDGER_ALT = (
    "A chart with one row for each of the 28 claims and three columns; a circle marks a confirmed claim, a cross a refuted "
    "one, a diamond an open one."
)


def _records(records: Records, entry: Entry) -> pd.DataFrame:
    try:
        table = records[entry.study]
    except NotMeasured as gap:
        raise DataError(f"A figure is missing its records ({gap}): run the notebooks first ('hybridbench run').") from gap
    return table[table["cell"] == entry.cell] if entry.cell else table


def draw(name: str, source: str = "shipped") -> tuple[Figure, str]:
    """One figure of the paper and its alt text.

    Raises:
        ConfigurationError: no figure of that name.
        DataError: its records are missing; names what to run.
    """
    entry = GALLERY[check_name("figure", name, GALLERY)]
    return entry.draw(_records(Records(source), entry)), entry.alt


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
    tables = {name: _records(records, entry) for name, entry in GALLERY.items()}
    drawn = {name: entry.draw(tables[name]) for name, entry in GALLERY.items()}
    if source == "shipped":
        # Of one's own records 'make bench' draws it: the notebooks make none of the benchmark.
        bench_steps = plots.bench_steps(records["bench"])
    claims = decide(source)
    overview = plots.ledger(claims)
    written = []
    for name, fig in drawn.items():
        entry = GALLERY[name]
        written += save_figure(fig, name, entry.caption, entry.alt, {entry.study: tables[name]}, folder)
    if source == "shipped":
        written += save_figure(bench_steps, "bench_steps", bench.CAPTION, bench.ALT, {"bench": records["bench"]}, folder)
    verdicts = pd.DataFrame([{"claim": claim.id, "verdict": claim.verdict} for claim in claims])
    return written + save_figure(overview, LEDGER, LEDGER_CAPTION, LEDGER_ALT, {"claims": verdicts}, folder)
