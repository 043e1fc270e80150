"""The break-even atlas: the time of one training step of workload W(n, L, B) by every way of doing it, over all its axes.

A *cell* is one point (qubits, layers, batch, threads). A *route* is one way of doing the step through Keras. The cells are
designed before anything is measured: lines through a centre, a set that fills the space for the fit of the cost model, and a
third set, drawn with a seed of its own, that the model never sees (`role` "held_out").

The rules are those of `hybridbench.measurement.timing`, which does the timing: fresh process, fixed threads, arms
interleaved within each sample, first calls apart. To start a process takes longer than most cells, so up to
`CELLS_A_PROCESS` cells of the same threads share one, one after the other. Cells of all roles are dealt to the processes at
random.

One and the same step differs from process to process by more than from call to call, most of all on a shared host. So the
whole grid is measured `REPETITIONS` times, one pass after the other and dealt to other processes each time, and what counts
is a cell's median over them.
"""

from __future__ import annotations

import gc
import itertools
import math
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

from scipy.stats import qmc

from hybridbench.design.constants import BYTES_PER_AMPLITUDE
from hybridbench.design.routes import Route, atlas_route
from hybridbench.design.workload import n_gates
from hybridbench.engine.backends import usable
from hybridbench.errors import ConfigurationError
from hybridbench.measurement.campaign import Attempt, Campaign, Measured, Outcome
from hybridbench.measurement.child import Child, serving
from hybridbench.measurement.machine import available_cores, available_memory_bytes
from hybridbench.measurement.proof import GpuWatch, visible_gpus
from hybridbench.measurement.records import RecordStore
from hybridbench.measurement.timing import MIN_SAMPLES, Arm, TimingCell, accept, answer, time_in_process
from hybridbench.progress import Report, ignore

STUDY = "atlas"
STEPS = "hybridbench.training.steps"
#: (qubits, layers, batch size) that all lines of the grid go through.
CENTRE = (8, 2, 32)
SHORT_LINES = (CENTRE, (4, 2, 32), (8, 2, 1), (14, 2, 32), (8, 2, 1024), (16, 2, 1))
QUBITS, LAYERS, BATCHES = (2, 20), (1, 8), (1, 1024)
#: n·L·2**n·B of the largest cell: about a third of a second for the compiled layer on two cores.
LARGEST_WORK = 2**27
#: An arm gets this long in a cell for all its samples, and in a cell that is to reach far for the slow routes.
LIMIT_SECONDS, REACH_SECONDS = 10.0, 90.0
CELLS_A_PROCESS = 12
#: Passes over the full grid: the least number of processes whose median one slow process hardly moves.
REPETITIONS = 3
WARMUP = 2
#: A sample of a compiled route is the mean of as many steps as fill about this, at most `MOST_STEPS`.
SAMPLE_SECONDS, MOST_STEPS = 0.05, 50
#: Seeds of the design; fixed before the first record.
FIT_SEED, HELD_OUT_SEED, ORDER_SEED = 20261124, 20261125, 20261126
#: Share of the free memory that the states of one step may take.
SHARE_OF_MEMORY = 0.5
#: An arm whose step is expected to take more than this many times what it may is not tried at all.
FAR_TOO_SLOW = 8.0
#: A fresh process and its libraries.
START_SECONDS = 9.0
#: Of a run's time this is kept for what comes before and after: loading libraries, reading the records.
RESERVE_SECONDS = 15.0


@dataclass(frozen=True)
class TimedRoute:
    """A route of the catalogue as the atlas times it: a whole training step of W through Keras.

    `expected` is about how long a step takes on two cores, in seconds: a constant, then what comes on top for every gate,
    every sample, every gate of every sample, and every amplitude of every gate of every sample. It decides what is not even
    tried and what time is left, and enters no result.
    """

    name: str  #: in the column "route"
    precision: str  #: complex type of the state vector
    expected: tuple[float, float, float, float, float]
    first_seconds: float = 0.5  #: building, tracing, compiling

    @property
    def arm(self) -> str:
        """Its name in the records: route and precision."""
        return f"{self.name}, {self.precision}"

    @property
    def route(self) -> Route:
        """Its entry in the catalogue."""
        return atlas_route(self.name, self.precision)

    @property
    def compiled(self) -> bool:
        """Whether several steps are done in one execution."""
        return self.route.layer == "hybridbench.KerasLayer"

    @property
    def factory(self) -> str:
        """What makes its step, in hybridbench.training.steps."""
        return "fit_step" if self.compiled or self.route.mode == "eager" else "keras_step"

    @property
    def arguments(self) -> dict[str, Any]:
        """What the factory is given besides the size."""
        route = self.route
        given = {"backend": route.backend, "diff_method": route.diff_method, "device": route.device}
        given |= {} if route.mode == "eager" else {"mode": route.mode}
        given |= {"engine": route.engine} if route.engine else {}
        if self.factory == "fit_step":
            given["floatx"] = "float32" if self.precision == "complex64" else "float64"
        return given

    def step_seconds(self, n_qubits: int, n_layers: int, batch_size: int) -> float:
        """About how long a step takes, seconds."""
        gates = n_gates(n_qubits, n_layers)
        sizes = (1, gates, batch_size, gates * batch_size, gates * batch_size * 2.0**n_qubits)
        return sum(each * size for each, size in zip(self.expected, sizes, strict=True))

    def memory_bytes(self, n_qubits: int, n_layers: int, batch_size: int) -> float:
        """Memory that the states of a step take, bytes: backpropagation keeps the batch's states after every gate."""
        keeps_states = self.route.work == "broadcast"
        states = batch_size * (n_gates(n_qubits, n_layers) + 2) if keeps_states else 3 * min(batch_size, 32)
        return states * 2.0**n_qubits * BYTES_PER_AMPLITUDE[self.precision]


#: The routes, the cheapest eager one first: what libraries do once in a process would count as the first arm's first call.
ROUTES = (
    TimedRoute("KerasLayer, hybridbench.qubit", "complex128", (0.012, 2e-5, 0, 0, 1e-9)),
    TimedRoute("KerasLayer, default.qubit", "complex128", (5e-3, 4.1e-3, 0, 0, 1e-7)),
    TimedRoute("KerasLayer, lightning.qubit", "complex128", (0.03, 0, 2e-3, 9e-5, 1.2e-8)),
    TimedRoute("hybridbench.KerasLayer", "complex64", (2e-4, 1e-6, 1e-7, 0, 3e-10), 1.2),
    TimedRoute("hybridbench.KerasLayer", "complex128", (2e-4, 1e-6, 1e-7, 0, 8e-10), 1.2),
    TimedRoute("KerasLayer, lightning.gpu", "complex128", (0.03, 0, 2e-3, 5e-4, 1e-10)),
    TimedRoute("TensorFlow on the GPU, graph", "complex128", (4e-3, 2e-4, 0, 0, 4e-10), 10.0),
    TimedRoute("TensorFlow on the GPU, xla", "complex128", (4e-3, 2e-4, 0, 0, 4e-10), 60.0),
    TimedRoute("hybridbench.KerasLayer, cuda", "complex64", (5e-4, 2e-5, 0, 0, 1e-11), 1.2),
    TimedRoute("hybridbench.KerasLayer, cuda", "complex128", (5e-4, 2e-5, 0, 0, 2e-11), 1.2),
)
_BY_ARM = {route.arm: route for route in ROUTES}


@dataclass(frozen=True)
class AtlasCell:
    """One point of the atlas: its hash names the record."""

    n_qubits: int
    n_layers: int
    batch_size: int
    threads: int
    role: str  #: "line", "fit" or "held_out"; the cost model is fitted to the first two only
    arms: tuple[Arm, ...] = field(default=())
    limit_seconds: float = LIMIT_SECONDS  #: how long an arm may take for all its samples
    samples: int = MIN_SAMPLES
    warmup: int = WARMUP
    repetition: int = 1  #: which pass over the grid, from 1; each pass times the cell in another process
    revision: int = 1

    def __post_init__(self) -> None:
        for name in ("n_qubits", "n_layers", "batch_size", "threads", "repetition"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigurationError(f"{name} is {value!r}, and must be a whole number of at least 1.")
        if self.role not in ROLES:
            raise ConfigurationError(f"Unknown role {self.role!r} of a cell: {', '.join(ROLES)}.")
        if self.limit_seconds <= 0:
            raise ConfigurationError(f"limit_seconds is {self.limit_seconds!r}, and must be a positive number.")

    @property
    def size(self) -> tuple[int, int, int]:
        """(n_qubits, n_layers, batch_size)."""
        return self.n_qubits, self.n_layers, self.batch_size

    @property
    def title(self) -> str:
        """The cell in words."""
        return (
            f"{self.n_qubits} qubits, {self.n_layers} layers, batch {self.batch_size}, {self.threads} "
            f"thread{'s' * (self.threads > 1)}"
        )


ROLES = ("line", "fit", "held_out")


# ------------------------------------------------------------------------------------------------------------ the design
def _work(size: tuple[int, int, int]) -> float:
    n, layers, batch = size
    return n * layers * 2.0**n * batch


def _filling(count: int, seed: int, qubits: tuple[int, int], batches: tuple[int, int]) -> list[tuple[int, int, int]]:
    """`count` sizes that fill the space evenly (Halton's sequence), batch and layers in the logarithm, whole numbers."""
    # Scrambled: the seed decides, and two seeds give other points.
    unit = qmc.Halton(3, scramble=True, rng=seed).random(64 * count)
    found: list[tuple[int, int, int]] = []
    for x, y, z in unit:
        n = round(qubits[0] + x * (qubits[1] - qubits[0]))
        layers = round(LAYERS[0] * (LAYERS[1] / LAYERS[0]) ** y)
        batch = round(batches[0] * (batches[1] / batches[0]) ** z)
        if _work((n, layers, batch)) <= LARGEST_WORK and (n, layers, batch) not in found:
            found.append((n, layers, batch))
        if len(found) == count:
            break
    return found


def _sizes(all_cores: bool) -> tuple[dict[tuple[int, int, int], float], list, list]:
    """Lines (size → limit), fitting set and held-out set of one number of threads."""
    n, layers, batch = CENTRE
    lines = {CENTRE: LIMIT_SECONDS}
    for other in (2, 4, 6, 10, 12, 14, 16) if all_cores else (4, 10, 12, 14, 16):
        # The slow routes reach as far as 12 qubits, and no further at this batch.
        lines[other, layers, batch] = REACH_SECONDS if other in (10, 12) and all_cores else LIMIT_SECONDS
    for other in (1, 4, 128, 1024) if all_cores else (1, 128):
        lines[n, layers, other] = REACH_SECONDS if other == 128 and all_cores else LIMIT_SECONDS
    for other in (1, 4, 8) if all_cores else (8,):
        lines[n, other, batch] = LIMIT_SECONDS
    if all_cores:
        lines |= dict.fromkeys([(12, 2, 1), (16, 2, 1), (18, 2, 4), (20, 2, 2), (4, 2, 1024), (12, 2, 256)], LIMIT_SECONDS)
    # Half of either set lies where the slow routes can be timed too.
    near, far = ((2, 11), (1, 64)), (QUBITS, BATCHES)
    counts = (10, 6) if all_cores else (4, 3)
    fit, held_out = (
        [point for seed, box in ((seed, near), (seed + 100, far)) for point in _filling(count, seed, *box)]
        for seed, count in ((FIT_SEED, counts[0]), (HELD_OUT_SEED, counts[1]))
    )
    fit = [size for size in fit if size not in lines]
    taken = {*lines, *fit}
    return lines, fit, [size for size in held_out if size not in taken]


def usable_routes(has_gpu: bool | None = None) -> tuple[list[TimedRoute], dict[str, str]]:
    """The routes that can be taken on this machine, and why the others cannot.

    A GPU route needs an NVIDIA GPU that the driver lists; without one nothing stands in its place.

    Args:
        has_gpu: whether there is a GPU; asks the driver where left out.

    Returns:
        Routes in order, and arm → reason for the rest.
    """
    names, _, reason = visible_gpus() if has_gpu is None else (["a GPU"] if has_gpu else [], "", "no GPU")
    found, left = [], {}
    for timed in ROUTES:
        route = timed.route
        if route.gpu and not names:
            left[timed.arm] = f"no GPU ({reason})"
            continue
        works, why = usable(route.backend) if route.backend == "lightning.gpu" else (True, "")
        if works:
            found.append(timed)
        else:
            left[timed.arm] = why
    return found, left


def arms_of(routes: Sequence[TimedRoute], size: tuple[int, int, int]) -> tuple[Arm, ...]:
    """The arms of a cell: one a route, compiled ones with as many steps in an execution as a sample needs."""
    n_qubits, n_layers, batch_size = size
    arms = []
    for route in routes:
        given = {"n_qubits": n_qubits, "n_layers": n_layers, "batch_size": batch_size, **route.arguments}
        if route.factory == "fit_step":
            expected = route.step_seconds(*size)
            given["steps"] = max(1, min(MOST_STEPS, int(SAMPLE_SECONDS / expected))) if route.compiled else 1
        arms.append(Arm(route.arm, f"{STEPS}:{route.factory}", given, route.route.gpu))
    return tuple(arms)


def cells(
    full: bool = True, threads: Iterable[int] | None = None, routes: Sequence[TimedRoute] | None = None
) -> list[AtlasCell]:
    """The cells of the atlas, in the order in which they are measured.

    Args:
        full: the shipped grid, `REPETITIONS` times; else the short one, a part of it, once and on all cores.
        threads: numbers of threads; 1 and all cores where left out.
        routes: what is timed; all that can be taken here where left out.

    Raises:
        ConfigurationError: more threads than this process may use.
    """
    cores = available_cores()
    wanted = sorted(set(threads if threads is not None else (1, cores)), reverse=True) if full else [cores]
    if bad := [count for count in wanted if not 1 <= count <= cores]:
        raise ConfigurationError(f"threads is {bad[0]}; this process may use 1 to {cores}.")
    routes = usable_routes()[0] if routes is None else list(routes)
    passes = range(1, REPETITIONS + 1) if full else (1,)
    found: list[AtlasCell] = []
    for repetition, count in itertools.product(passes, wanted):
        lines, fit, held_out = _sizes(count == max(wanted))
        if not full:
            lines = dict.fromkeys(SHORT_LINES, LIMIT_SECONDS)
            # Enough that the slow routes can follow for a model of them.
            fit, held_out = fit[:6] + fit[11:12], held_out[:2] + held_out[6:8]
        sized = [(size, "line", limit) for size, limit in lines.items()]
        sized += [(size, role, LIMIT_SECONDS) for role, sizes in (("fit", fit), ("held_out", held_out)) for size in sizes]
        own = [
            AtlasCell(*size, count, role, arms_of(routes, size), limit, repetition=repetition) for size, role, limit in sized
        ]
        shuffle = random.Random(ORDER_SEED + count + 1000 * (repetition - 1))
        if full:
            # Otherwise a process would hold cells of one kind, and what differs from process to process would look like it.
            shuffle.shuffle(own)
        else:
            # In order of use: a run that has little time still has a point of every axis, and some of every role.
            rest = own[len(lines) :]
            shuffle.shuffle(rest)
            own = own[:4] + rest + own[4 : len(lines)]
        found += own
    return found


# ------------------------------------------------------------------------------------------------------------ the timing
def expected_seconds(cell: AtlasCell) -> float:
    """About how long a cell takes on two cores with its share of a process's start, seconds."""
    total = 0.5 + START_SECONDS / CELLS_A_PROCESS
    for arm in cell.arms:
        route = _BY_ARM[arm.name]
        step = route.step_seconds(*cell.size) * arm.arguments.get("steps", 1)
        calls = cell.samples + cell.warmup + 1
        if too_slow(cell, step) == "":
            total += route.first_seconds + calls * step
        elif cell.samples * step <= FAR_TOO_SLOW * cell.limit_seconds:
            total += route.first_seconds + 2 * step
    return total


def too_slow(cell: AtlasCell, call_seconds: float) -> str:
    """Why an arm whose call takes so long is not timed in this cell; empty where it is."""
    if cell.samples * call_seconds <= cell.limit_seconds:
        return ""
    return (
        f"a sample takes about {call_seconds:.2g} s, and {cell.samples} of them more than the {cell.limit_seconds:g} s "
        "that an arm has in this cell"
    )


def _time_cell(cell: AtlasCell, watch: GpuWatch | None = None) -> list[dict[str, Any]]:
    """Time a cell in this process: rows of the arms that were timed, and a row with a note for every other one.

    Whether an arm is too slow is decided before its timing: by the expected time where that is far from the limit, else by
    its second call.
    """
    from hybridbench.training.steps import tf

    timed, notes = [], {}
    for arm in cell.arms:
        route = _BY_ARM[arm.name]
        memory = route.memory_bytes(*cell.size)
        if memory > SHARE_OF_MEMORY * available_memory_bytes():
            notes[arm.name] = f"not tried: its states take about {memory / 2**30:.2g} GiB"
            continue
        call = route.step_seconds(*cell.size) * arm.arguments.get("steps", 1)
        if cell.samples * call > FAR_TOO_SLOW * cell.limit_seconds:
            notes[arm.name] = f"not tried: {too_slow(cell, call)}"
            continue
        if cell.samples * call > cell.limit_seconds / FAR_TOO_SLOW:
            why = too_slow(cell, _second_call(arm))
            tf.keras.backend.clear_session()
            if why:
                notes[arm.name] = f"not timed: {why}"
                continue
        timed.append(arm)
    rows: list[dict[str, Any]] = []
    if timed:
        own = TimingCell(STUDY, *cell.size, tuple(timed), cell.threads, cell.samples, cell.warmup)
        rows = [{**row, "note": ""} for row in time_in_process(own, watch)]
    rows += [{"arm": name, "part": "step", "note": note} for name, note in notes.items()]
    tf.keras.backend.clear_session()
    gc.collect()
    for row in rows:
        row |= {"route": _BY_ARM[row["arm"]].name, "precision": _BY_ARM[row["arm"]].precision}
    return rows


def _second_call(arm: Arm) -> float:
    """Seconds of an arm's second call: the first one builds and traces."""
    from hybridbench.training import steps

    call = getattr(steps, arm.factory.partition(":")[2])(**arm.arguments)
    call()
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


class _Processes:
    """Fresh processes with fixed threads, each of which times up to `CELLS_A_PROCESS` cells, one after the other."""

    def __init__(self) -> None:
        self._child: Child | None = None
        self._served, self._serves = 0, (0, 0)

    def time(self, cell: AtlasCell, attempt: Attempt) -> Measured:
        """The rows of a cell and the proof of its GPU arms; raises as `Child.ask` does."""
        # A process never serves two passes: the repetitions of a cell are to differ in it.
        serves = cell.threads, cell.repetition
        if self._child is None or self._child.closed or self._served == CELLS_A_PROCESS or self._serves != serves:
            self.close()
            visible = {"HYBRIDBENCH_TF_GPU": "1" if any(arm.gpu for arm in cell.arms) else "0"}
            self._child = Child(serving(f"{__name__}:answer_atlas"), cell.threads, visible)
            self._served, self._serves = 0, serves
        self._served += 1
        return accept(cell, STUDY, self._child.ask(asdict(cell), attempt.limit))

    def close(self) -> None:
        """End the process that is there."""
        if self._child:
            self._child.close()


def run(
    wanted: Sequence[AtlasCell], store: RecordStore, minutes: float | None = None, report: Report = ignore
) -> Outcome[AtlasCell]:
    """Time the cells that have no record yet, one at a time.

    Args:
        wanted: cells, from `cells`.
        store: where records are; a run that was cut off continues with what is missing.
        minutes: time limit. Without one a cell is still stopped where it takes far longer than expected.
        report: called before every cell.

    Raises:
        ConfigurationError: `minutes` is not a positive number.
    """
    if minutes is not None and not 0 < minutes < math.inf:
        raise ConfigurationError(f"minutes is {minutes:g}, and has to be a positive number.")
    seconds = math.inf if minutes is None else 60 * minutes - RESERVE_SECONDS
    with closing(_Processes()) as processes:
        return Campaign(wanted, store, processes.time, expected_seconds, seconds, report).run()


def answer_atlas(given: Mapping[str, Any]) -> dict[str, Any]:
    """What a child answers that times an `AtlasCell`."""
    return answer(given, AtlasCell, _time_cell)
