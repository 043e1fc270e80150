"""The benchmark of the fast engine: one training step of workload W in every way, its memory, and what a first call costs.

W(n, L, B) is dense 64 → n with pi·tanh, RX angle embedding, L strongly entangling layers, <Z> on each wire, dense n → 10
with softmax cross-entropy; B of the ten handwritten digits, Adam, float32. Nothing here imports a simulator: every arm runs
in a process of its own (`hybridbench.measurement.interleave`), and the factories stand in `bench_arms` and in `peers/`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hybridbench import paths
from hybridbench.design.constants import FALL_BACKS
from hybridbench.design.workload import N_CLASSES, N_DIGITS, N_FEATURES
from hybridbench.errors import BackendError, ConfigurationError
from hybridbench.measurement.campaign import Attempt, Campaign, Measured
from hybridbench.measurement.child import ChildFailed
from hybridbench.measurement.interleave import ProcessArm, Worker, cores_for, interleave
from hybridbench.measurement.machine import available_cores
from hybridbench.measurement.records import RecordStore
from hybridbench.progress import Report, ignore
from hybridbench.tasks import read_table

STUDY = "bench"
#: (qubits, layers, batch size) of the cells in which steps are timed.
SIZES = ((4, 2, 32), (8, 2, 32), (10, 2, 128), (12, 2, 32), (12, 2, 128), (16, 2, 32))
#: Cells whose peak memory is taken: the last two of the same width differ in depth only, the first is the libraries'.
MEMORY_SIZES = ((4, 2, 8), (20, 2, 8), (20, 8, 8), (24, 2, 1))
FIRST_CALL_SIZE = (8, 2, 32)
#: Where circuits that the compiled layer leaves to PennyLane are timed.
FALL_BACK_SIZE = (4, 2, 8)
FIRST_CALL_ARMS = ("swapped", "compiled, eager", "compiled", "engine")
#: Up to this width Keras itself is what counts, and its steps without a circuit are timed too.
NARROW = 8
#: From this width on PennyLane's own layers need gigabytes, and get the machine to themselves.
WIDE = 12
#: From this width on the shipped layer may not fit, and stands beside its graph.
VERY_WIDE = 16
PEERS_PYTHON = ".venv-peers/bin/python"
#: More is a slip of the finger: a cell would take days.
MOST_PROCESSES, MOST_SECONDS = 100, 3600
PACKAGES = ("pennylane", "tensorflow", "tf-keras", "jax", "jaxlib", "llvmlite", "numpy")
_ARMS = "hybridbench.training.bench_arms"


@dataclass(frozen=True)
class BenchCell:
    """What is measured at which size: its hash names the record."""

    cell: str  #: "step", "memory", "first_call", or one of `FALL_BACKS`
    n_qubits: int
    n_layers: int
    batch_size: int
    arms: tuple[ProcessArm, ...]
    threads: int  #: cores that all arms are held to
    processes: int  #: processes of every arm
    budget_seconds: float = 0.0  #: how long an arm gives samples in one process
    revision: int = 1

    @property
    def title(self) -> str:
        """The cell in words."""
        what = {"step": "", "first_call": "first call, "}.get(self.cell, f"{self.cell}, ")
        return f"{what}{self.n_qubits} qubits, {self.n_layers} layers, batch {self.batch_size}"


def _eager(name: str, layer: str, steps: int = 20, **more: Any) -> ProcessArm:
    return ProcessArm(name, f"{_ARMS}:fit_step", {"layer": layer, "mode": "eager", "steps": steps}, **more)


def _graph(name: str, layer: str, n_qubits: int, batch_size: int, mode: str = "graph", **more: Any) -> ProcessArm:
    # One epoch of the digits in one execution; wide circuits take seconds for it.
    given = {"layer": layer, "mode": mode, "steps": N_DIGITS // batch_size, "epochs": 3 if n_qubits < VERY_WIDE else 1}
    return ProcessArm(name, f"{_ARMS}:fit_step", given, **more)


def step_arms(n_qubits: int, batch_size: int, peers: bool) -> tuple[ProcessArm, ...]:
    """The ways of doing a step that are compared, the baseline first.

    Args:
        n_qubits, batch_size: size of W.
        peers: also PennyLane 0.45 with jax.jit, and C by hand, which needs a compiler.
    """
    wide = n_qubits >= WIDE
    arms = [
        _eager("shipped", "shipped", 1 if wide else 2, alone=wide),
        _eager("swapped", "swapped"),
        _eager("compiled, eager", "compiled"),
        _graph("compiled", "compiled", n_qubits, batch_size),
        _graph("compiled, XLA", "tensorflow", n_qubits, batch_size, "xla"),
        ProcessArm("engine", f"{_ARMS}:engine_step", losses=1),
        ProcessArm("engine, 1 thread", f"{_ARMS}:engine_step", threads=1, losses=1),
    ]
    if n_qubits <= NARROW:
        arms.append(_eager("Keras alone, eager", "none", losses=0))
        arms.append(_graph("Keras alone", "none", n_qubits, batch_size, losses=0))
    if n_qubits >= VERY_WIDE:
        # Traced, one step at a time.
        arms.insert(1, ProcessArm("shipped, graph", f"{_ARMS}:fit_step", {"layer": "graph"}, alone=True))
    if peers:
        place = {"python": PEERS_PYTHON, "folder": "peers"}
        arms.append(ProcessArm("jax.jit", "jax_step:jit_step", **place))
        arms.append(ProcessArm("C", "c_step:c_step", losses=1, **place))
        arms.append(ProcessArm("C, 1 thread", "c_step:c_step", threads=1, losses=1, **place))
    return tuple(arms)


def fall_back_arms(circuit: str) -> tuple[ProcessArm, ...]:
    """PennyLane's layer and the compiled one for a circuit that the latter runs as the former does, both in `model.fit`."""
    # Of a finite number of shots no two losses are alike.
    same = {"losses": 0} if circuit == "shots" else {}
    return tuple(
        ProcessArm(layer, f"{_ARMS}:fit_step", {"layer": layer, "mode": mode, "steps": 2, "circuit": circuit}, **same)
        for layer, mode in (("shipped", "eager"), ("compiled", "graph"))
    )


def cells(peers: bool, chosen: Sequence[str] = (), processes: int = 3, seconds: float = 4.0) -> list[BenchCell]:
    """The cells of the benchmark, cheap ones first.

    Args:
        peers: with the arms that run in the environment of requirements-peers.lock.
        chosen: names of cells ("8,2,32", "memory", "first_call", "fall_back"); all where empty.
        processes: processes of every arm, at least 3 for an interval.
        seconds: how long an arm gives samples in one process.

    Raises:
        ConfigurationError: a name that is none, or a number below 1.
        BackendError: the peers' environment is not there.
    """
    if not 1 <= processes <= MOST_PROCESSES or not 0 < seconds <= MOST_SECONDS:
        raise ConfigurationError(
            f"processes is {processes} and seconds is {seconds}; from 1 to {MOST_PROCESSES} processes and up to "
            f"{MOST_SECONDS} seconds are allowed."
        )
    if peers and not (paths.root() / PEERS_PYTHON).exists():
        raise BackendError(f"There is no {PEERS_PYTHON}, in which the peers run: 'make bench-peers' makes it.")
    threads = min(2, available_cores())
    settings = {"threads": threads, "processes": processes}
    named: dict[str, list[BenchCell]] = {}
    for n_qubits, n_layers, batch_size in SIZES:
        arms = step_arms(n_qubits, batch_size, peers)
        cell = BenchCell("step", n_qubits, n_layers, batch_size, arms, budget_seconds=seconds, **settings)
        named[f"{n_qubits},{n_layers},{batch_size}"] = [cell]
    n_qubits, n_layers, batch_size = FIRST_CALL_SIZE
    starts = tuple(arm for arm in step_arms(n_qubits, batch_size, False) if arm.name in FIRST_CALL_ARMS)
    named["first_call"] = [BenchCell("first_call", n_qubits, n_layers, batch_size, starts, **settings)]
    one = {**settings, "processes": 1}
    # Traced, but one step at a time: what `fit` does without `steps_per_execution`.
    trained = (ProcessArm("compiled", f"{_ARMS}:fit_step", {"layer": "compiled"}),)
    named["memory"] = [BenchCell("memory", *size, trained, **one) for size in MEMORY_SIZES]
    named["fall_back"] = [
        BenchCell(circuit, *FALL_BACK_SIZE, fall_back_arms(circuit), budget_seconds=seconds, **settings)
        for circuit in FALL_BACKS
    ]
    unknown = [name for name in chosen if name not in named]
    if unknown:
        raise ConfigurationError(f"Unknown cell {unknown[0]!r}. Known: {', '.join(named)}.")
    return [cell for name in chosen or named for cell in named[name]]


def write_problem(cell: BenchCell, folder: Path) -> Path:
    """Data and initial weights that all arms of a cell start from, as one file.

    It holds x (batch, 64), y (batch,), front_kernel (64, n), front_bias (n,), weights (L, n, 3), head_kernel (n, 10),
    head_bias (10,) and cotangent (batch, n), a gradient of the loss by the expectations for arms without a loss.
    """
    n, batch = cell.n_qubits, cell.batch_size
    table = read_table("digits")
    rng = np.random.default_rng(0)
    arrays = {
        "x": table.drop(columns="target").to_numpy()[:batch] / 16.0,
        "front_kernel": rng.normal(0, 0.125, (N_FEATURES, n)),
        "front_bias": np.zeros(n),
        "weights": rng.uniform(0, 2 * np.pi, (cell.n_layers, n, 3)),
        "head_kernel": rng.normal(0, 0.3, (n, N_CLASSES)),
        "head_bias": np.zeros(N_CLASSES),
        "cotangent": rng.normal(0, 1 / batch, (batch, n)),
    }
    target = folder / "problem.npz"
    single = {name: array.astype(np.float32) for name, array in arrays.items()}
    np.savez(target, y=table["target"].to_numpy()[:batch].astype(np.int32), **single)
    return target


def measure(cell: BenchCell, started: Callable[[int], None] = lambda process: None) -> list[dict[str, Any]]:
    """Measure one cell, whatever it takes.

    Args:
        cell: which.
        started: called with the number of every round of processes that starts, from 0.

    Returns:
        Rows with the columns of `interleave`; in the cells "memory" and "first_call" one row a process.

    Raises:
        TimingError: two arms do not do the same work.
    """
    with paths.scratch_folder() as folder:
        given = {"n_qubits": cell.n_qubits, "n_layers": cell.n_layers, "batch_size": cell.batch_size}
        given["problem"] = str(write_problem(cell, folder))
        if cell.cell not in ("memory", "first_call"):
            return interleave(
                cell.arms, cell.threads, cell.processes, cell.budget_seconds, given, packages=PACKAGES, started=started
            )
        rows = []
        for process in range(cell.processes):
            started(process)
            for arm in cell.arms:
                rows += _memory(cell, arm, given) if cell.cell == "memory" else _first_call(cell, arm, given, process)
        return rows


def _single(
    cell: BenchCell,
    arm: ProcessArm,
    given: Mapping[str, Any],
    part: str,
    process: int = 0,
    variables: Mapping[str, str] | None = None,
    steps: int = 0,
) -> list[dict[str, Any]]:
    """One process of an arm as one row: its fastest of `steps` steps, or where there are none its first call."""
    row: dict[str, Any] = {"arm": arm.name, "part": part, "process": process, "sample": 0, "calls": 1, "note": ""}
    worker = None
    try:
        with Worker(arm, cores_for(cell.threads), given, variables, PACKAGES) as worker:
            seconds = worker.take(steps) if steps else [worker.ready["first_call_seconds"]]
    except ChildFailed as failure:
        return [{**row, "note": f"{'stopped' if worker else 'not measured'}: {failure}"}]
    about = {name: worker.ready[name] for name in ("first_call_seconds", "import_seconds", "peak_memory_mib")}
    packages = json.dumps(worker.ready["packages"], sort_keys=True)
    return [{**row, **about, "seconds": min(seconds), "packages": packages}]


def _memory(cell: BenchCell, arm: ProcessArm, given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Peak memory of a process that trains a few steps."""
    return _single(cell, arm, given, "peak memory", steps=3)


def _first_call(cell: BenchCell, arm: ProcessArm, given: Mapping[str, Any], process: int) -> list[dict[str, Any]]:
    """Seconds to the end of the first step, libraries imported, with an empty cache of compiled kernels and a filled one."""
    with paths.scratch_folder() as cache:
        variables = {"HYBRIDBENCH_CACHE_DIR": str(cache)}
        return [
            row for part in ("empty cache", "filled cache") for row in _single(cell, arm, given, part, process, variables)
        ]


def expected_seconds(cell: BenchCell) -> float:
    """About how long a cell takes on two cores, for the time left: start-up of every process, samples, slow arms."""
    amplitudes = 2.0**cell.n_qubits * cell.batch_size
    if cell.cell in ("memory", "first_call"):
        return 2 * len(cell.arms) * cell.processes * (8.0 + amplitudes / 2**18)
    # A step of the shipped layer takes 0.2 s at (8, 2, 32), 10 s at (12, 2, 128); to compile jax.jit's 60 s at (16, 2, 32).
    shipped = 0.2 + 2e-5 * amplitudes
    each = sum(8.0 + cell.budget_seconds * (not arm.alone) + (2 * shipped if arm.alone else 0) for arm in cell.arms)
    return cell.processes * (each + amplitudes / 2**15)


def run(wanted: Sequence[BenchCell], store: RecordStore, report: Report = ignore) -> pd.DataFrame:
    """Measure the cells that have no record yet, one at a time, and return the records of all as one table.

    Args:
        wanted: cells, from `cells`.
        store: where records are; a run that was cut off continues with the cells that are missing.
        report: called at the start of every round of processes.

    Raises:
        TimingError: a cell could not be measured.
    """

    def take(cell: BenchCell, attempt: Attempt) -> Measured:
        def started(process: int) -> None:
            if process:  # the first is the cell's own start
                attempt.report(process / cell.processes, f"process {process + 1} of {cell.processes}")

        return measure(cell, started), None

    return Campaign(wanted, store, take, expected_seconds, report=report).run().complete()
