"""Timing that keeps the rules: fresh process, fixed threads, warm-up and compilation apart, arms interleaved, host results.

A *cell* compares *arms*, ways of doing the same work. All arms of a cell run in one fresh process whose thread counts are
fixed before any library starts. After one first call each (building, tracing, compiling; recorded by itself) and some
untimed repetitions, every sample calls each arm once, in an order shuffled anew: whatever disturbs the machine disturbs the
arms alike, and ratios are taken within a sample.

A cell with GPU arms is watched through the driver, and before the samples every arm runs alone for a moment: a GPU arm has
to make the GPU work, a CPU arm must not. The harness itself waits for the device before each reading of the clock. What the
arms have to say of themselves stands in `hybridbench.measurement.evidence`.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import math
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hybridbench import paths
from hybridbench.errors import ConfigurationError
from hybridbench.measurement import evidence
from hybridbench.measurement.campaign import Campaign, Measured
from hybridbench.measurement.child import Child, named, serving
from hybridbench.measurement.columns import MOST_SAMPLES
from hybridbench.measurement.evidence import Evidence, TimingError
from hybridbench.measurement.machine import available_cores
from hybridbench.measurement.proof import IDLE_MARGIN, LOG, SLOW_INTERVAL, GpuWatch, visible_gpus
from hybridbench.measurement.records import RecordStore, config_hash
from hybridbench.progress import counter

MIN_SAMPLES = 30


@dataclass(frozen=True)
class Arm:
    """One way of doing the work of a cell.

    `factory` is "module:function". Called with `arguments` it returns a function without arguments that does the work once
    and returns its result on the host: a number or NumPy array, or a dict of part name → seconds that it clocked itself,
    "step" for the whole among them. A GPU arm must not clock itself, and its function carries the attributes `evidence` and
    `synchronize` (`hybridbench.measurement.evidence`).
    """

    name: str
    factory: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    gpu: bool = False  #: whether the work is done by a GPU, which has to be proven


@dataclass(frozen=True)
class TimingCell:
    """What is timed against what, at which size."""

    cell: str
    n_qubits: int
    n_layers: int
    batch_size: int
    arms: tuple[Arm, ...]
    threads: int = 1
    samples: int = MIN_SAMPLES
    warmup: int = 3
    revision: int = 1

    def __post_init__(self) -> None:
        if self.samples < MIN_SAMPLES:
            raise ConfigurationError(f"samples is {self.samples}, and a timing needs at least {MIN_SAMPLES}.")
        if self.samples > MOST_SAMPLES:
            raise ConfigurationError(f"samples is {self.samples}, and {MOST_SAMPLES} are the most that a timing takes.")
        if not 1 <= self.threads <= available_cores():
            raise ConfigurationError(f"threads is {self.threads}; this process may use 1 to {available_cores()}.")
        if len({arm.name for arm in self.arms}) != len(self.arms) or not self.arms:
            names = [arm.name for arm in self.arms]
            raise ConfigurationError(f"The arms of cell {self.cell!r} need names of their own: {names}.")

    @property
    def title(self) -> str:
        """The cell in words."""
        size = f"{self.n_qubits} qubits, {self.n_layers} layers, batch {self.batch_size}"
        return f"{self.cell}, {size}, {self.threads} threads"


def _on_host(result: Any) -> bool:
    if isinstance(result, Mapping):
        return all(_on_host(value) for value in result.values())
    if isinstance(result, list | tuple):
        return bool(result) and all(_on_host(value) for value in result)
    if isinstance(result, np.ndarray):
        return result.dtype != object  # an array of objects may hold tensors
    return isinstance(result, float | int | np.generic)


def _check_on_host(cell: TimingCell, arm: str, result: Any) -> None:
    if not _on_host(result):
        raise TimingError(
            f"Arm {arm!r} of cell {cell.cell!r} returned {type(result).__name__}: a timed call must return numbers "
            "or NumPy arrays, or the clock may stop before the work is done."
        )


def _load(factory: str) -> Callable[..., Callable[[], Any]]:
    module, _, name = factory.partition(":")
    return getattr(importlib.import_module(module), name)


def _first_result(cell: TimingCell, arm: Arm, call: Callable[[], Any]) -> None:
    """Call an arm for the first time, wait until its work is done, and look at the result."""
    result = call()
    _waiter(arm, call)()
    _check_on_host(cell, arm.name, result)
    if not isinstance(result, Mapping):
        return
    if arm.gpu:
        raise TimingError(
            f"GPU arm {arm.name!r} of cell {cell.cell!r} clocks itself: only the harness waits for the device before it "
            "reads the clock; return the result, and name the steps of a call in the attribute `steps`."
        )
    if "step" not in result:
        raise TimingError(f"Arm {arm.name!r} of cell {cell.cell!r} clocks parts {list(result)} but not the whole, 'step'.")


def _waiter(arm: Arm, call: Callable[[], Any]) -> Callable[[], Any]:
    """What the harness calls before it reads the clock: for a GPU arm until the device has done all that was started."""
    return call.synchronize if arm.gpu else lambda: None


def time_in_process(cell: TimingCell, watch: GpuWatch | None = None) -> list[dict[str, Any]]:
    """Time the arms of a cell in this process; `measure` does it in a fresh one.

    Args:
        cell: what is timed.
        watch: the driver's witness, running; a must where an arm is a GPU arm.

    Raises:
        TimingError: an arm returned something that may not be computed yet (a tensor, None), does other work than the
            others, compiles while it is timed, or is not on the device that the cell says.
    """
    if watch is None and _needs_gpu(cell):
        raise TimingError(f"Cell {cell.cell!r} has GPU arms and nobody watches the GPU: time it through measure().")
    gpus = watch.names if watch else visible_gpus()[0]
    calls, first, memory = {}, {}, {}
    factories = {arm.name: _load(arm.factory) for arm in cell.arms}
    # What the libraries do once in a process would otherwise count as the first arm's compilation.
    factories[cell.arms[0].name](**cell.arms[0].arguments)()
    for arm in cell.arms:
        before = watch.memory_mib() if watch else 0.0
        begin = time.perf_counter()
        call = calls[arm.name] = factories[arm.name](**arm.arguments)
        if arm.gpu:
            evidence.check_attributes(arm.name, call)
        _first_result(cell, arm, call)
        first[arm.name] = time.perf_counter() - begin
        evidence.gathered(arm.name, arm.gpu, call, gpus)
        memory[arm.name] = watch.memory_mib() - before if watch else 0.0
    waits = {arm.name: _waiter(arm, calls[arm.name]) for arm in cell.arms}
    for name, call in calls.items():
        for _ in range(cell.warmup):
            call()
        waits[name]()
    evidence.check_same_work(evidence.declared_losses(calls))
    seen = _alone(cell, calls, waits, memory, watch) if watch else {}

    def account() -> dict[str, Evidence]:
        return {arm.name: evidence.gathered(arm.name, arm.gpu, calls[arm.name], gpus) for arm in cell.arms}

    accounts = account()
    with watch.during("samples", SLOW_INTERVAL) if watch else contextlib.nullcontext():
        rows = _samples(cell, calls, waits)
    after = account()
    for arm in cell.arms:
        evidence.check_timed(arm.name, arm.gpu, accounts[arm.name], after[arm.name])
    return [{**row, "first_call_seconds": first[row["arm"]], **seen.get(row["arm"], {})} for row in rows]


def _samples(
    cell: TimingCell, calls: Mapping[str, Callable[[], Any]], waits: Mapping[str, Callable[[], Any]]
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    order = list(calls)
    shuffle = random.Random(0)
    # No garbage collection within a timed call. Between samples only what was made since is looked through: going through
    # all objects that the libraries keep would take longer than many a step.
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        for sample in range(cell.samples):
            shuffle.shuffle(order)
            for name in order:
                call, wait = calls[name], waits[name]
                wait()
                begin = time.perf_counter()
                result = call()
                wait()
                seconds = (time.perf_counter() - begin) / getattr(call, "steps", 1)
                _check_on_host(cell, name, result)
                parts = result if isinstance(result, Mapping) else {"step": seconds}
                rows.extend(
                    {"arm": name, "sample": sample, "part": part, "seconds": float(value)} for part, value in parts.items()
                )
            gc.collect()
    finally:
        gc.unfreeze()
        gc.enable()
    return rows


def _alone(
    cell: TimingCell,
    calls: Mapping[str, Callable[[], Any]],
    waits: Mapping[str, Callable[[], Any]],
    memory: Mapping[str, float],
    watch: GpuWatch,
) -> dict[str, dict[str, Any]]:
    """Let every arm run alone under the watch, CPU arms first, and return the columns of what was seen of the GPU arms.

    Raises:
        TimingError: a CPU arm made the GPU work, or a GPU arm did not.
    """
    idle = watch.rest()
    columns = {}

    def kernels() -> dict[str, int]:
        found = {arm.name: evidence.gathered(arm.name, arm.gpu, calls[arm.name], watch.names).kernels for arm in cell.arms}
        return {name: count for name, count in found.items() if count is not None}

    for arm in sorted(cell.arms, key=lambda arm: arm.gpu):
        before, begin, done = kernels(), time.perf_counter(), 0
        with watch.during(arm.name) as seen:
            while not done or time.perf_counter() - begin < (
                watch.patience if arm.gpu and seen.utilisation == 0 else watch.probe
            ):
                calls[arm.name]()
                waits[arm.name]()
                done += 1
        launched = {name: count - before[name] for name, count in kernels().items()}
        if not arm.gpu and (seen.utilisation or 0) > (idle.utilisation or 0) + IDLE_MARGIN:
            raise TimingError(
                f"CPU arm {arm.name!r} ran alone and the GPU was busy, {seen.utilisation} % against {idle.utilisation} % "
                "before: it works on the GPU, or another program does; the row is refused."
            )
        if not arm.gpu and any(launched.values()):
            raise TimingError(f"CPU arm {arm.name!r} launched {max(launched.values())} kernels on the GPU; it is refused.")
        if arm.gpu and (seen.utilisation == 0 or launched.get(arm.name) == 0):
            raise TimingError(
                f"GPU arm {arm.name!r} ran alone for {seen.seconds:.2g} s and the GPU did nothing (utilisation "
                f"{seen.utilisation} %, {launched.get(arm.name, 'no count of')} kernels): it is refused."
            )
        found = evidence.gathered(arm.name, arm.gpu, calls[arm.name], watch.names)
        steps = done * getattr(calls[arm.name], "steps", 1)
        joules = None if seen.energy_joules is None else seen.energy_joules / steps
        watch.arms[arm.name] = {
            "gpu": arm.gpu,
            "devices": list(found.devices),
            "kernels": launched.get(arm.name),
            "steps": steps,
            "seconds": round(seen.seconds, 4),
            "utilisation_percent": seen.utilisation,
            "memory_mib": round(memory[arm.name], 1),
            "energy_joules": seen.energy_joules,
        }
        if arm.gpu:
            columns[arm.name] = {
                "gpu_utilisation_percent": seen.utilisation,
                "gpu_memory_mib": memory[arm.name],
                "gpu_energy_joules": joules,
                "kernels": launched[arm.name] / steps if arm.name in launched else None,
                "traffic_bytes": found.traffic_bytes,
            }
    return columns


def _needs_gpu(cell: TimingCell) -> bool:
    return any(arm.gpu for arm in cell.arms)


def _environment(cell: TimingCell) -> dict[str, str]:
    """The variables of the timed process: what TensorFlow may see."""
    # TensorFlow takes a GPU that it sees: only where an arm names one as TensorFlow's device may it see any.
    for_tensorflow = any(arm.gpu and "GPU" in str(arm.arguments.get("device", "")) for arm in cell.arms)
    return {
        "HYBRIDBENCH_TF_GPU": "1" if for_tensorflow else "0",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",  # else it takes all memory, whatever a step needs
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # the driver's order
    }


def measure(cell: TimingCell, limit: float = math.inf, log: Path | None = None) -> Measured:
    """Time a cell in a fresh process with fixed threads.

    TensorFlow sees a GPU in that process only where a GPU arm names one as its device, and the driver's proof is gathered
    while the arms run.

    Args:
        cell: what is timed.
        limit: seconds after which the process is ended.
        log: file to which every answer of the driver is appended, one line of JSON for the cell; `gpu/proof.jsonl` of the
            build folder unless given.

    Returns:
        The rows (arm, part, sample, seconds, first_call_seconds; in a cell with GPU arms also what was seen of these), and
        the proof of a cell with GPU arms.

    Raises:
        TimingError: the process failed, or a GPU arm could not be proven; says with what.
        TimeLimitReached: the limit was reached; nothing was kept.
    """
    evidence.refuse_simulator(os.environ, [arm.name for arm in cell.arms if arm.gpu])
    what = f"Timing of cell {cell.cell!r} at {cell.n_qubits} qubits"
    with named(what), Child(serving(f"{__name__}:answer"), cell.threads, _environment(cell)) as child:
        return accept(cell, cell.cell, child.ask(asdict(cell), limit), log)


def accept(config: Any, cell: str, found: Mapping[str, Any], log: Path | None = None) -> Measured:
    """Rows and proof of what a child of `answer` found, and the driver's answers go to the log."""
    if found["proof"]:
        write_answers(config, cell, found["proof"], found["polls"], log)
    return found["rows"], found["proof"]


def write_answers(config: Any, cell: str, proof: Mapping[str, Any], polls: Sequence[Any], log: Path | None = None) -> None:
    """Append every answer of the driver while a cell was taken: no record with a GPU's times is shipped without them."""
    line = {"record": config_hash(config), "cell": cell, "proof": proof, "polls": polls}
    paths.append_line(log or paths.build_dir() / LOG, json.dumps(line))


def measure_missing(cells: Sequence[TimingCell], store: RecordStore) -> pd.DataFrame:
    """Time the cells that have no record yet, one at a time, and return the records of all as one table.

    Raises:
        TimingError: a cell could not be timed.
    """
    with counter("timing") as report:
        campaign = Campaign(cells, store, lambda cell, attempt: measure(cell, attempt.limit), report=report)
        return campaign.run().complete()


def answer(
    given: Mapping[str, Any], kind: Callable[..., Any] = TimingCell, take: Callable[..., Any] = time_in_process
) -> dict[str, Any]:
    """What a child answers to a cell: the rows that `take` gives, and the driver's proof where a GPU arm was timed."""
    cell = kind(**{**given, "arms": tuple(Arm(**arm) for arm in given["arms"])})
    with GpuWatch() if _needs_gpu(cell) else contextlib.nullcontext() as watch:
        rows = take(cell, watch)
    gpu = {arm.name for arm in cell.arms if arm.gpu}
    # Where every GPU arm was too slow the GPU did nothing that had to be proven.
    proven = any(row["arm"] in gpu and "seconds" in row for row in rows)
    return {"rows": rows, "proof": watch.proof().as_dict() if proven else None, "polls": watch.log if proven else []}
