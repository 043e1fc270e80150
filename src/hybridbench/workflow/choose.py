"""Which way of running a hybrid model is fastest at a size, by the records of the atlas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from hybridbench.analysis import costs, public
from hybridbench.analysis.costs import COMPILED, NOT_NEAR, SHIPPED, Interval
from hybridbench.analysis.tables import NotMeasured, Number, Records, machines
from hybridbench.design.routes import atlas_route
from hybridbench.errors import ConfigurationError, DataError, MemoryEstimateError, check_name
from hybridbench.measurement.machine import this_machine

HEADER = ("route", "states", "a training step", "times as fast as shipped", "evidence (qubits, layers, batch)")
PRECISIONS = ("complex64", "complex128")
#: A size above it is a slip of the finger, and 2 to the power of it no number.
MOST = 10**6
TOO_FEW = "too few cells"
#: Processors whose datasheets are asked where no GPU was measured.
SHOWN_HARDWARE = ("T4", "A100", "H100")


@dataclass(frozen=True)
class Offer:
    """One route at the size that was asked for."""

    route: str
    precision: str
    step: Interval | None  #: seconds; None where nothing is measured near
    faster: Interval | None  #: times faster than KerasLayer as shipped; None where one of the two is not known
    evidence: str  #: "measured", "model, …" or why there is no time

    @property
    def cells(self) -> tuple[str, ...]:
        """The row of a table, as HEADER names it."""
        step = Number.of(self.step.map(lambda s: 1e3 * s, "ms")).text if self.step else NOT_NEAR
        faster = Number.of(self.faster).text if self.faster else "-"
        return self.route, self.precision, step, faster, self.evidence


@dataclass(frozen=True)
class Choice:
    """A recommendation in words."""

    title: str
    offers: tuple[Offer, ...]  #: the fastest first, those without a time last
    answer: str  #: the best one and the runner-up, or what to do
    gpu: str  #: whether a GPU pays, measured or by datasheet
    rests_on: str

    @property
    def found(self) -> bool:
        """Whether any route has a time at this size."""
        return any(offer.step is not None for offer in self.offers)

    @property
    def rows(self) -> tuple[tuple[str, ...], ...]:
        """The table's rows."""
        return tuple(offer.cells for offer in self.offers)


def advise(
    qubits: int,
    batch: int,
    layers: int,
    precision: str = "",
    threads: int = 0,
    machine: str = "",
    source: str = "shipped",
) -> Choice:
    """The routes at one size of W, fastest first.

    Args:
        qubits, batch, layers: the size.
        precision: "complex64" or "complex128" for routes of that precision only.
        threads: of the timed process; the most that were measured where 0.
        machine: its id; this one where it has records, else the one with most cells.
        source: "shipped" or "build".

    Raises:
        ConfigurationError: a size below 1, or a precision, machine, number of threads or source that there is not.
        DataError: the source has no records of the atlas.
    """
    for name, value in (("qubits", qubits), ("batch", batch), ("layers", layers)):
        if not 1 <= value <= MOST:
            raise ConfigurationError(f"{name} is {str(value)[:20]}, and has to be from 1 to {MOST}.")
    if precision:
        check_name("precision", precision, PRECISIONS)
    try:
        table = Records(source)["atlas"]
    except NotMeasured as gap:
        raise DataError(
            f"No recommendation without records ({gap} in {source!r}): run 'hybridbench measure' first."
        ) from gap
    table = _of_machine(table, machine)
    known = sorted(int(count) for count in table["threads"].unique())
    if threads and threads not in known:
        raise ConfigurationError(
            f"threads is {threads}, and this machine was measured with {' and '.join(map(str, known))}: give one of these, "
            "or run 'hybridbench measure' on a machine that has so many."
        )
    table = table[table["threads"] == (threads or known[-1])]
    size = (qubits, layers, batch)
    offers = _offers(table, size)
    shown = [offer for offer in offers if not precision or offer.precision == precision]
    if not shown:
        raise ConfigurationError(f"No route was measured in {precision}: leave --precision out.")
    first = table.iloc[0]
    title = (
        f"One training step with {_count(qubits, 'qubit')}, {_count(layers, 'layer')} and batch {batch} on "
        f"{first['cpu']} ({_count(int(first['threads']), 'thread')})"
    )
    return Choice(title, tuple(shown), _answer(shown, size), _gpu(table, offers, size), _rests_on(table))


def _count(number: int, what: str, plural: str = "s") -> str:
    return f"{number} {what}{plural if number != 1 else ''}"


def _of_machine(table: pd.DataFrame, machine: str) -> pd.DataFrame:
    known = machines(table)
    if machine:
        return table[table["machine"] == check_name("machine", machine, known)]
    here = this_machine().id
    return table[table["machine"] == (here if here in known else known[0])]


def _offers(table: pd.DataFrame, size: tuple[int, int, int]) -> list[Offer]:
    found: list[tuple[str, str, Interval | None, str]] = []
    for (route, precision), rows in table.groupby(["route", "precision"], sort=True):
        found.append((route, precision, *_step(rows, size)))
    base = next((step for route, _, step, _ in found if route == SHIPPED), None)
    offers = [
        Offer(route, precision, step, _faster(table, size, base, step, route, precision), evidence)
        for route, precision, step, evidence in found
    ]
    return sorted(offers, key=lambda offer: offer.step.value if offer.step else math.inf)


def _step(rows: pd.DataFrame, size: tuple[int, int, int]) -> tuple[Interval | None, str]:
    """The time of a step by one route's rows, and where it comes from or why there is none."""
    here = rows[(rows[list(costs.AXES)] == size).all(axis=1)]
    measured = costs.measured(costs.cells_of(here), size)
    if measured is not None:
        processes = here.loc[here["seconds"].notna(), "record"].nunique()
        return measured, f"measured in {_count(processes, 'process', 'es')}"
    notes = here[here["note"] != ""]["note"]
    try:
        model = costs.fitted(rows)
    except NotMeasured as gap:
        return None, notes.iloc[0] if len(notes) else f"{TOO_FEW}: {gap}"
    nearest = model.nearest(*size)
    n_qubits, n_layers, batch_size = nearest.cell
    where = f"({n_qubits}, {n_layers}, {batch_size})"
    if nearest.near:
        return model.predict(*size), f"model; nearest {where}"
    return None, notes.iloc[0] if len(notes) else f"nearest {where}"


def _faster(
    table: pd.DataFrame,
    size: tuple[int, int, int],
    base: Interval | None,
    step: Interval | None,
    route: str,
    precision: str,
) -> Interval | None:
    """Times faster than as shipped: paired where one process measured both, else the quotient of both intervals."""
    if base is None or step is None or route == SHIPPED:
        return None
    here = table[(table[list(costs.AXES)] == size).all(axis=1) & table["seconds"].notna() & (table["part"] == "step")]
    own = here.loc[(here["route"] == route) & (here["precision"] == precision), "arm"]
    shipped = here.loc[here["route"] == SHIPPED, "arm"]
    paired = costs.ratio_of(here, own.iloc[0], shipped.iloc[0]) if len(own) and len(shipped) else None
    if paired is not None:
        return paired
    # Two independent intervals, both symmetric in the logarithm.
    half = math.hypot(*(math.log(each.high / each.low) / 2 for each in (base, step)))
    ratio = base.value / step.value
    return Interval(ratio, ratio * math.exp(-half), ratio * math.exp(half), min(base.n, step.n))


def _answer(offers: Sequence[Offer], size: tuple[int, int, int]) -> str:
    known = [offer for offer in offers if offer.step]
    if not known and any(offer.evidence.startswith(TOO_FEW) for offer in offers):
        return (
            "There are too few cells for a cost model, and none of this size: run 'hybridbench measure' again, it goes on "
            "with what is missing."
        )
    if not known:
        return (
            f"There is {NOT_NEAR}: {size[0]} qubits, {size[1]} layers and batch {size[2]} lie outside what was measured, "
            "and nothing is extrapolated. 'hybridbench measure' measures the usual sizes on this machine; for a larger one "
            "time a few steps of your own model."
        )
    best = known[0]
    text = f"Use {best.route} in {best.precision}: {best.cells[2]} a step."
    if len(known) > 1:
        second = known[1]
        ratio = second.step.value / best.step.value
        overlap = second.step.low <= best.step.high
        text += f" Runner-up: {second.route} in {second.precision}, {ratio:.3g} times as long"
        text += "; their intervals overlap, so that either may be the faster one." if overlap else "."
    else:
        text += " There is no runner-up: no other route has a measurement near this size."
    return text


def _gpu(table: pd.DataFrame, offers: Sequence[Offer], size: tuple[int, int, int]) -> str:
    timed = [offer for offer in offers if offer.step]
    measured = [offer for offer in timed if atlas_route(offer.route, offer.precision).gpu]
    others = [offer for offer in timed if offer not in measured]
    if measured and others:
        best, cpu = measured[0].step, others[0].step
        verdict = "pays" if best.high < cpu.low else "does not pay" if best.low > cpu.high else "may pay or not"
        share = f"{best.value / cpu.value:.3g} times as long as the best CPU route"
        return f"GPU, measured here: it {verdict}; {measured[0].route} takes {share}."
    text = "No GPU measurement."
    if not others:
        return text
    cpu, precision = others[0].step, others[0].precision
    calibration = public.public_calibration(public.read_public())
    # What Keras does on the host for each step stays, whatever computes the circuit.
    keras = costs.models(table[table["route"] == COMPILED]).values()
    if not keras:
        return (
            f"{text} None is predicted either: what Keras does on the host for each step stays, and there are too few cells "
            "to fit it here."
        )
    host = min(model.parts(*size)["constant"] for model in keras)
    lines = []
    for name in SHOWN_HARDWARE:
        try:
            found = costs.predict_unmeasured(
                costs.HARDWARE[name], *size, precision=precision, calibration=calibration, host_seconds=host
            ).interval
        except MemoryEstimateError:
            lines.append(f"{name} too little memory")
            continue
        # Keras's own work beside a GPU may be another: only what pays with twice as much of it is said to pay.
        pays = found.high + host < cpu.low
        verdict = "would pay" if pays else "would not pay" if found.low > cpu.high else "too close to say"
        lines.append(f"{name} {Number.of(found.map(lambda s: 1e3 * s, 'ms')).text} ({verdict})")
    return (
        f"{text} Predicted, not measured, from datasheets, for a circuit compiled in {precision} with the launches and "
        f"passes of the CUDA engine: {'; '.join(lines)}. In each are {1e3 * host:.2g} ms of Keras's own work, fitted on "
        "this CPU; TensorFlow's work between host and GPU is not. The intervals are how far the same formula misses public "
        "times of a V100."
    )


def _rests_on(table: pd.DataFrame) -> str:
    cells = table[table["seconds"].notna()].drop_duplicates(list(costs.AXES))
    days = table["created_utc"].str.slice(0, 10)
    when = days.min() if days.min() == days.max() else f"{days.min()} to {days.max()}"
    return (
        f"It rests on {_count(len(cells), 'measured cell')} of machine {table['machine'].iloc[0]} ({when}): a dense layer, "
        "angle embedding, strongly entangling layers, expectation values and a dense layer, trained with Adam. An interval "
        "of a cost model is for one more process on that machine; other machines are faster or slower, but ratios carry "
        "over better than times. To add a machine, run 'hybridbench measure' there (about five minutes if it does nothing "
        "else) and ask with --source build."
    )


def show(choice: Choice) -> None:
    """Print a recommendation: the answer, its table, whether a GPU pays, and what it rests on."""
    from hybridbench.workflow.terminal import show_answer

    show_answer(choice.answer, choice.title, HEADER, choice.rows, choice.gpu, choice.rests_on)


def as_json(choice: Choice) -> dict[str, Any]:
    """The same for programs: seconds with their intervals, None where nothing is known."""
    routes = [
        {
            "route": offer.route,
            "precision": offer.precision,
            "seconds": offer.step and [offer.step.value, offer.step.low, offer.step.high],
            "times_as_fast_as_shipped": offer.faster and [offer.faster.value, offer.faster.low, offer.faster.high],
            "evidence": offer.evidence,
        }
        for offer in choice.offers
    ]
    return {"answer": choice.answer, "routes": routes, "gpu": choice.gpu, "rests_on": choice.rests_on}


def markdown(choice: Choice) -> str:
    """The same as Markdown, for notebooks."""
    lines = [HEADER, ("---",) * len(HEADER), *choice.rows]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{choice.title}:\n\n{table}\n\n{choice.answer}\n\n{choice.gpu}\n\n{choice.rests_on}\n"
