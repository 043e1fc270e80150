"""Timing that keeps the rules: fresh process, fixed threads, warm-up and compilation apart, arms interleaved, host results.

A *cell* compares *arms*, ways of doing the same work. All arms of a cell run in one fresh process whose thread counts are
fixed before any library starts. After one first call each (building, tracing, compiling; recorded by itself) and some
untimed repetitions, every sample calls each arm once, in an order shuffled anew: whatever disturbs the machine disturbs the
arms alike, and ratios are taken within a sample.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hybridbench.errors import ConfigurationError, HybridbenchError
from hybridbench.measurement.machine import available_cores
from hybridbench.measurement.proof import GpuWatch
from hybridbench.measurement.records import RecordStore

MIN_SAMPLES = 30

#: Every library that starts threads reads one of these when it is loaded.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)


class TimingError(HybridbenchError, RuntimeError):
    """A measurement broke one of the rules, or the timed process failed."""


@dataclass(frozen=True)
class Arm:
    """One way of doing the work of a cell.

    `factory` is "module:function". Called with `arguments` it returns a function without arguments that does the work once
    and returns its result on the host: a number or NumPy array, or a dict of part name → seconds that it clocked itself,
    "step" for the whole among them.
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
        if not 1 <= self.threads <= available_cores():
            raise ConfigurationError(f"threads is {self.threads}; this process may use 1 to {available_cores()}.")
        if len({arm.name for arm in self.arms}) != len(self.arms) or not self.arms:
            names = [arm.name for arm in self.arms]
            raise ConfigurationError(f"The arms of cell {self.cell!r} need names of their own: {names}.")


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


def time_here(cell: TimingCell) -> list[dict[str, Any]]:
    """Time the arms of a cell in this process; `measure` does it in a fresh one.

    Raises:
        TimingError: an arm returned something that may not be computed yet (a tensor, None).
    """
    calls, first = {}, {}
    factories = {arm.name: _load(arm.factory) for arm in cell.arms}
    # What the libraries do once in a process would otherwise count as the first arm's compilation.
    factories[cell.arms[0].name](**cell.arms[0].arguments)()
    for arm in cell.arms:
        begin = time.perf_counter()
        calls[arm.name] = factories[arm.name](**arm.arguments)
        result = calls[arm.name]()
        first[arm.name] = time.perf_counter() - begin
        _check_on_host(cell, arm.name, result)
        if isinstance(result, Mapping) and "step" not in result:
            raise TimingError(
                f"Arm {arm.name!r} of cell {cell.cell!r} clocks parts {list(result)} but not the whole, 'step'."
            )
    for call in calls.values():
        for _ in range(cell.warmup):
            call()
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
                begin = time.perf_counter()
                result = calls[name]()
                seconds = time.perf_counter() - begin
                _check_on_host(cell, name, result)
                row = {"arm": name, "sample": sample, "first_call_seconds": first[name]}
                parts = result if isinstance(result, Mapping) else {"step": seconds}
                rows.extend({**row, "part": part, "seconds": float(value)} for part, value in parts.items())
            gc.collect()
    finally:
        gc.unfreeze()
        gc.enable()
    return rows


def _needs_gpu(cell: TimingCell) -> bool:
    return any(arm.gpu for arm in cell.arms)


def measure(cell: TimingCell) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Time a cell in a fresh process with fixed threads.

    TensorFlow sees a GPU in that process only where an arm is a GPU arm, and then the driver's proof is gathered while the
    arms run.

    Returns:
        The rows (arm, part, sample, seconds, first_call_seconds), and the proof of a cell with GPU arms.

    Raises:
        TimingError: the process failed, or a GPU arm could not be proven; says with what.
    """
    environment = {**os.environ, **{name: str(cell.threads) for name in THREAD_VARIABLES}}
    environment["HYBRIDBENCH_TF_GPU"] = "1" if _needs_gpu(cell) else "0"
    with tempfile.TemporaryDirectory() as folder:
        question, answer = Path(folder, "cell.json"), Path(folder, "rows.json")
        question.write_text(json.dumps(asdict(cell)))
        command = [sys.executable, "-m", "hybridbench.measurement.timing", str(question), str(answer)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0 or not answer.is_file():
            last = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit code {done.returncode}"
            raise TimingError(f"Timing of cell {cell.cell!r} at {cell.n_qubits} qubits failed: {last}")
        found = json.loads(answer.read_text())
        return found["rows"], found["proof"]


def measure_missing(cells: Sequence[TimingCell], store: RecordStore) -> Any:
    """Time the cells that have no record yet, one at a time, and return the records of all as one table."""
    from hybridbench.progress import track

    for cell in track(store.missing(cells), "timing", lambda c: f"{c.cell} {c.n_qubits} qubits, batch {c.batch_size}"):
        rows, proof = measure(cell)
        store.write(cell, rows, proof)
    return store.read(cells)


def _main(question: str, answer: str) -> None:
    given = json.loads(Path(question).read_text())
    cell = TimingCell(**{**given, "arms": tuple(Arm(**arm) for arm in given["arms"])})
    proof = None
    if _needs_gpu(cell):
        with GpuWatch() as watch:
            rows = time_here(cell)
        proof = watch.proof().as_dict()
    else:
        rows = time_here(cell)
    Path(answer).write_text(json.dumps({"rows": rows, "proof": proof}))


if __name__ == "__main__":
    _main(*sys.argv[1:])
