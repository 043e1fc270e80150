"""The GPU study: what runs only where there is a GPU, in three parts that each take at most ten minutes.

Every part is a list of timing cells for the study "timing": cells that have a record are not measured again, and a part
whose time is up goes on where it stopped. Records carry the driver's proof; its every answer goes to
`build/gpu/proof.jsonl`, and what the driver says of the card to `build/gpu/machine.json`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from hybridbench import paths
from hybridbench.design.routes import route_of
from hybridbench.errors import ConfigurationError, check_name
from hybridbench.measurement import evidence
from hybridbench.measurement.campaign import Campaign, Outcome
from hybridbench.measurement.child import Child, named, serving
from hybridbench.measurement.machine import available_cores, this_machine
from hybridbench.measurement.proof import gpu_facts, require_gpu
from hybridbench.measurement.records import RecordStore
from hybridbench.measurement.timing import Arm, TimingCell, TimingError, measure
from hybridbench.progress import Report, ignore

STUDY = "timing"
PARTS = ("engine", "lightning", "tensorflow")
MOST_MINUTES = 10.0
STEPS = "hybridbench.training.steps"
ENGINE_ARMS = "hybridbench.training.engine_arms"
#: Packages whose versions say by which route a GPU was reached.
ROUTE_PACKAGES = (
    "pennylane",
    "pennylane-lightning",
    "pennylane-lightning-gpu",
    "custatevec-cu12",
    "custatevec-cu13",
    "cuquantum-cu12",
    "cuquantum-cu13",
    "nvidia-cublas",
    "nvidia-cublas-cu12",
    "nvidia-cuda-runtime",
    "nvidia-cuda-runtime-cu12",
    "nvidia-cudnn-cu12",
    "tensorflow",
    "tf-keras",
    "numba",
    "numba-cuda",
    "numpy",
)


@dataclass(frozen=True)
class Part:
    """What is run with one set of packages."""

    name: str
    cells: tuple[TimingCell, ...]


# ------------------------------------------------------------------------------------------------------------------ the grid
def _engine_cell(
    cell: str, size: tuple[int, int, int], arms: Sequence[str], threads: int, circuit: str = "layers"
) -> TimingCell:
    about = {**dict(zip(("n_qubits", "n_layers", "batch_size"), size, strict=True)), "circuit": circuit}
    routes = {name: route_of(name) for name in arms}
    timed = (
        Arm(name, f"{ENGINE_ARMS}:engine_step", {**about, "engine": route.engine, "precision": route.precision}, route.gpu)
        for name, route in routes.items()
    )
    return TimingCell(cell, *size, tuple(timed), threads)


_GPU = ("engine, gpu", "engine, complex128, gpu")
_BOTH = ("engine", "engine, complex128", *_GPU)
_ALL = (*_BOTH, "engine, one call, gpu")
_SINGLE = ("engine", "engine, gpu")


def engine_cells(threads: int) -> list[TimingCell]:
    """Part "engine": the CUDA engine beside the CPU engine, without TensorFlow, and the bandwidth that it reaches."""
    size = (20, 2, 16)
    copy = Arm("copy, gpu", f"{ENGINE_ARMS}:copy_step", {}, gpu=True)
    bandwidth = _engine_cell("bandwidth", size, _GPU, threads)
    cells = [
        TimingCell("bandwidth", *size, (copy, *bandwidth.arms), threads),
        # The original study's circuit, whose parameters all belong to a sample.
        _engine_cell("original_engine", (8, 1, 100), _ALL, threads, "original"),
        _engine_cell("engine", (8, 2, 100), _ALL, threads),
    ]
    # One thing changes at a time: qubits, then samples, then layers. The widest are too slow on a CPU, those before for both
    # precisions.
    cells += [_engine_cell("engine", (n, 2, 16), _BOTH, threads) for n in (2, 4, 8, 12, 16)]
    cells += [_engine_cell("engine", size, _SINGLE, threads) for size in ((18, 2, 16), (20, 2, 4), (20, 2, 1))]
    cells += [_engine_cell("engine", (n, 2, 1), _GPU, threads) for n in (22, 24, 26)]
    cells += [_engine_cell("engine", (n, 2, batch), _BOTH, threads) for batch in (1024, 1, 256) for n in (8, 12)]
    cells += [_engine_cell("engine", (n, layers, 64), _BOTH, threads) for layers in (8, 1) for n in (8, 12)]
    cells += [_engine_cell("engine", (16, 2, 256), _SINGLE, threads)]
    return cells


def _arm(name: str, factory: str, size: tuple[int, int, int], **arguments: Any) -> Arm:
    about = dict(zip(("n_qubits", "n_layers", "batch_size"), size, strict=True))
    return Arm(name, f"{STEPS}:{factory}", {**about, **arguments}, gpu=route_of(name).gpu)


def _method(size: tuple[int, int, int], name: str) -> Arm:
    """Whole steps through KerasLayer as shipped."""
    route = route_of(name)
    given = {"backend": route.backend, "diff_method": route.diff_method, "front": False}
    return _arm(name, "keras_step", size, **given, device=route.device, precision=route.precision)


def methods_cell(size: tuple[int, int, int], methods: Sequence[str], threads: int, cell: str = "gpu_methods") -> TimingCell:
    """Whole steps through KerasLayer as shipped, GPU arms beside the CPU's.

    Args:
        size: qubits, layers, batch size.
        methods: what records call the routes.
        threads: of the CPU arms.
        cell: "methods", as in notebook 03, where a claim is decided by it.
    """
    return TimingCell(cell, *size, tuple(_method(size, name) for name in methods), threads)


def layers_cell(size: tuple[int, int, int], layers: dict[str, int], threads: int) -> TimingCell:
    """Steps of `model.fit` through one layer or another: what records call the route → steps of one call."""
    arms = tuple(
        _arm(name, "layer_step", size, layer=name, steps=steps, device=route_of(name).device)
        for name, steps in layers.items()
    )
    return TimingCell("gpu_layers", *size, arms, threads)


def original_cell(threads: int, samples: int, gpu_arms: Sequence[str]) -> TimingCell:
    """The original study's exact workload, 8 wires and 100 parameter sets, with CPU and GPU arms in one run.

    Args:
        threads: of the CPU arms.
        samples: timed repetitions; of two runs of this cell the one with more decides a claim.
        gpu_arms: "lightning.gpu/loop", "default.qubit/broadcast, gpu", or both.
    """
    arms = []
    for name in ["default.qubit/broadcast", "lightning.qubit/loop", *gpu_arms]:
        route = route_of(name)
        given = {"backend": route.backend, "mode": route.mode, "device": route.device}
        arms.append(Arm(name, f"{STEPS}:original_step", given, gpu=route.gpu))
    return TimingCell("original", 8, 1, 100, tuple(arms), threads, samples)


_LIGHTNING = ("lightning.qubit/adjoint", "lightning.gpu/adjoint")
_BOTH_PRECISIONS = (*_LIGHTNING, *(f"{name}, complex64" for name in _LIGHTNING))


def lightning_cells(threads: int) -> list[TimingCell]:
    """Part "lightning": PennyLane's lightning.gpu beside its CPU simulators and the CUDA engine's layer."""
    every = ("default.qubit/backprop", *_LIGHTNING)
    cells = [
        methods_cell((8, 1, 100), every, threads, "methods"),
        original_cell(threads, 30, ["lightning.gpu/loop"]),
        layers_cell((8, 2, 32), {"shipped, lightning.gpu": 1, "compiled": 200, "compiled, gpu": 200}, threads),
        *(methods_cell((n, 1, 8), ("default.qubit/backprop", *_BOTH_PRECISIONS), threads) for n in (2, 4, 8, 12)),
        layers_cell((12, 2, 128), {"compiled": 20, "compiled, gpu": 20}, threads),
        layers_cell((16, 2, 32), {"compiled": 5, "compiled, gpu": 5}, threads),
        methods_cell((16, 1, 2), _BOTH_PRECISIONS, threads),
        methods_cell((20, 1, 1), _LIGHTNING, threads, "methods"),
        methods_cell((24, 1, 1), _LIGHTNING[1:], threads, "methods"),
    ]
    wide = Arm(
        "lightning.gpu/loop",
        f"{STEPS}:original_step",
        {"backend": "lightning.gpu", "mode": "loop", "n_qubits": 26, "batch_size": 2},
        gpu=True,
    )
    return [*cells, TimingCell("original", 26, 1, 2, (wide,), threads)]


def tensorflow_cells(threads: int, with_lightning: bool) -> list[TimingCell]:
    """Part "tensorflow": default.qubit on TensorFlow's GPU, eagerly, as a graph and under XLA, and the study's workload.

    Args:
        threads: of the CPU arms.
        with_lightning: whether lightning.gpu is installed, and takes part in the study's workload.
    """
    gpu_arms = [*(["lightning.gpu/loop"] if with_lightning else []), "default.qubit/broadcast, gpu"]
    modes = ("eager", "graph", "xla")
    methods = ("default.qubit/backprop", "lightning.qubit/adjoint", "default.qubit/backprop, gpu")

    def compiled(size: tuple[int, int, int]) -> TimingCell:
        arms = [_arm(mode, "keras_step", size, mode=mode) for mode in modes]
        arms += [_arm(f"{mode}, gpu", "keras_step", size, mode=mode, device="GPU:0") for mode in modes]
        return TimingCell("gpu_compile", *size, tuple(arms), threads)

    return [
        original_cell(threads, 60, gpu_arms),
        *([original_cell(1, 60, gpu_arms)] if threads > 1 else []),
        methods_cell((8, 1, 100), methods, threads, "methods"),
        compiled((8, 1, 100)),
        layers_cell((8, 2, 32), {"compiled": 200, "compiled, XLA": 200, "compiled, XLA, gpu": 200}, threads),
        *(methods_cell((n, 1, 8), methods, threads) for n in (4, 12, 16)),
        methods_cell((8, 1, 1024), ("default.qubit/backprop", "default.qubit/backprop, gpu"), threads),
        compiled((4, 1, 32)),
        layers_cell((12, 2, 128), {"compiled": 20, "compiled, XLA": 20, "compiled, XLA, gpu": 20}, threads),
    ]


def part(name: str, threads: int | None = None) -> Part:
    """The cells of one part, the most important first.

    Args:
        name: one of `PARTS`.
        threads: of the CPU arms; all cores that this process may use unless given.

    Raises:
        ConfigurationError: no such part.
    """
    check_name("part", name, PARTS)
    threads = threads or available_cores()
    if name == "engine":
        return Part(name, tuple(engine_cells(threads)))
    if name == "lightning":
        return Part(name, tuple(lightning_cells(threads)))
    return Part(name, tuple(tensorflow_cells(threads, _installed("pennylane_lightning", "lightning_gpu_ops"))))


def _installed(package: str, module: str) -> bool:
    """Whether `package.module` can be found, which is asked without importing it: that would start CUDA in this process."""
    return importlib.util.find_spec(package) is not None and importlib.util.find_spec(f"{package}.{module}") is not None


# ------------------------------------------------------------------------------------------------------------- the estimates
def estimated_seconds(cell: TimingCell) -> float:
    """About how long a cell takes: rough, high rather than low, to plan by; what is measured replaces it."""
    tensorflow = any(arm.factory.startswith(STEPS) for arm in cell.arms)
    return START_SECONDS[tensorflow] + sum(_arm_seconds(cell, arm) for arm in cell.arms)


#: A fresh process, its libraries, and the pause in which the driver's readings come to rest; with and without TensorFlow.
START_SECONDS = {False: 6.0, True: 12.0}
#: Seconds of a first call (tracing, compiling) by the route's mode, and what starting a GPU takes where there is no graph.
FIRST_SECONDS = {"xla": 25.0, "graph": 6.0, "gpu": 3.0}


def _arm_seconds(cell: TimingCell, arm: Arm) -> float:
    work = cell.batch_size * 2.0**cell.n_qubits * cell.n_qubits * cell.n_layers  # amplitudes times gates
    adjoint = work * cell.n_qubits if "methods" in cell.cell else work  # once for every expectation value
    route = route_of(arm.name)
    if route.backend in ("engine", "hybridbench.qubit"):
        step = 3e-4 + work * (1e-10 if arm.gpu else 2e-9 / min(cell.threads, 4))
    elif not route.backend:  # a copy in the GPU's memory
        step = 2e-3
    elif route.backend in ("lightning.qubit", "lightning.gpu"):
        step = cell.batch_size * 4e-3 * cell.n_layers + adjoint * (2e-10 if arm.gpu else 8e-9 / min(cell.threads, 8))
    else:
        step = 0.02 + 2e-3 * cell.n_qubits * cell.n_layers + work * (1e-9 if arm.gpu else 3e-8)
    first = FIRST_SECONDS.get(route.mode, FIRST_SECONDS["gpu"] if route.gpu else 1.0)
    return first + 0.6 + (cell.samples + cell.warmup + 2) * step * arm.arguments.get("steps", 1)


# ------------------------------------------------------------------------------------------------------------------ the runs
def folder() -> Path:
    """Where what is no record goes: `gpu/` of the build folder."""
    return paths.build_dir() / "gpu"


def write_machine() -> Path:
    """Write what the driver says of the card, and the packages that reach it, to `machine.json`: no host name, no id.

    Raises:
        BackendError: there is no GPU.
    """
    found = {"gpu": gpu_facts(), "machine": {"id": this_machine().id, **asdict(this_machine())}}
    found["packages"] = {name: version for name in ROUTE_PACKAGES if (version := _version(name))}
    target = folder() / "machine.json"
    paths.write_atomically(target, json.dumps(found, indent=2) + "\n")
    return target


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def check_engine(seconds: float) -> dict[str, Any]:
    """Compare the CUDA engine with `default.qubit`, in a fresh process, and append what was found to `proof.jsonl`.

    Args:
        seconds: after which the process is ended.

    Returns:
        The largest difference by precision.

    Raises:
        TimingError: a difference above the tolerance, no kernel launched, or a process that failed: nothing is timed then.
    """
    evidence.refuse_simulator(os.environ, ["engine, gpu"])
    with named("The check of the CUDA engine against default.qubit"), Child(serving(f"{ENGINE_ARMS}:check")) as child:
        found = child.ask("cuda", seconds)
    paths.append_line(folder() / "proof.jsonl", json.dumps({"check": "engine", **found}))
    return judge(found)


def judge(found: dict[str, Any]) -> dict[str, float]:
    """The largest difference by precision, of what `engine_arms` answers.

    Raises:
        TimingError: a difference above its tolerance, or no kernel launched.
    """
    launched = found["after"]["launches"] - found["before"]["launches"]
    if launched <= 0:
        raise TimingError("The CUDA engine launched no kernel while it was checked: something else did its work.")
    # Written so that what is no number counts as too large.
    bad = [row for row in found["differences"] if not row["max_abs_difference"] <= row["tolerance"]]
    if bad:
        worst = bad[0]
        raise TimingError(
            f"The CUDA engine differs from default.qubit by {worst['max_abs_difference']:.2g} in {worst['quantity']} at "
            f"{worst['n_qubits']} qubits in {worst['precision']}, where {worst['tolerance']:g} is allowed: nothing is timed."
        )
    largest: dict[str, float] = {}
    for row in found["differences"]:
        largest[row["precision"]] = max(largest.get(row["precision"], 0.0), row["max_abs_difference"])
    return largest


def run_part(
    name: str, minutes: float = MOST_MINUTES, report: Report = ignore, clock: Callable[[], float] = time.monotonic
) -> Outcome[TimingCell]:
    """Measure the cells of a part that have no record, until they are done or the time is up.

    Args:
        name: one of `PARTS`.
        minutes: time limit, more than 0 and at most `MOST_MINUTES`.
        report: called before every cell.
        clock: seconds that pass.

    Raises:
        BackendError: there is no GPU; nothing was written.
        ConfigurationError: no such part, or a time limit out of range.
        TimingError: the CUDA engine computes something else than default.qubit.
    """
    if not 0 < minutes <= MOST_MINUTES:
        raise ConfigurationError(f"minutes is {minutes:g}; a part takes more than 0 and at most {MOST_MINUTES:g}.")
    cells, store = part(name).cells, RecordStore(STUDY)
    require_gpu()
    end = clock() + 60 * minutes
    write_machine()
    if name == "engine" and store.missing(cells):
        check_engine(end - clock())
    given = {"expected": estimated_seconds, "seconds": end - clock(), "report": report, "clock": clock}
    return Campaign(cells, store, lambda cell, attempt: measure(cell, attempt.limit), **given).run()


def measured_cells(names: Sequence[str] = PARTS) -> list[TimingCell]:
    """The cells of these parts that have a record."""
    store = RecordStore(STUDY)
    return [cell for name in names for cell in part(name).cells if store.has(cell)]
