"""Arms of the CUDA engine and of the CPU engine beside it, from NumPy, without TensorFlow.

A step is the circuit's expectation values and their gradients by all parameters, for a batch. The same circuits check the
CUDA engine against `default.qubit` before anything is timed (`check`, in a process of its own).
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pennylane as qml
from pennylane import numpy as pnp

from hybridbench.circuits.qnode import build_qnode, original_circuit
from hybridbench.circuits.spec import CircuitSpec
from hybridbench.engine import cpu
from hybridbench.engine.compiler import compile_tape
from hybridbench.engine.program import Program
from hybridbench.errors import check_name

CIRCUITS = ("layers", "original")
#: Largest difference from `default.qubit` that a precision may make, in values and in gradients.
TOLERANCE = {"complex64": 2e-5, "complex128": 1e-10}
#: (qubits, layers, batch) that are checked: odd batches, one block and many, and circuits on which wires change places.
CHECKED = ((2, 1, 3), (5, 2, 17), (8, 3, 16), (11, 2, 5))
COPY_BYTES = 2**30


def _cuda() -> ModuleType:
    """The CUDA engine on the GPU of this process.

    Raises:
        BackendError: there is no GPU, or numba-cuda is not installed.
    """
    from hybridbench.engine import cuda

    cuda.require()
    return cuda


def wait_for_cuda() -> None:
    """Return when all that this process has started on its GPU is done, whichever library started it."""
    from numba import cuda

    cuda.synchronize()


def program_and_numbers(
    circuit: str, n_qubits: int, n_layers: int, batch_size: int
) -> tuple[Program, np.ndarray, np.ndarray, np.ndarray]:
    """A compiled circuit and random numbers for it.

    Args:
        circuit: "layers" (RX angle embedding, strongly entangling layers, <Z> on each wire) or "original" (the original
            study's energy, whose parameters all belong to a sample).
        n_qubits: wires.
        n_layers: strongly entangling layers; the original circuit has none.
        batch_size: samples.

    Returns:
        The program, shared parameters (n_shared,) and parameters per sample (batch, n_sample) in radians, and a cotangent
        (batch, n_outputs).
    """
    check_name("circuit", circuit, CIRCUITS)
    rng = np.random.default_rng(0)
    device = qml.device("default.qubit", wires=n_qubits)
    if circuit == "original":
        qnode = original_circuit(n_qubits, device, "backprop", "auto")
        arguments = (rng.normal(size=(batch_size, n_qubits)),)
    else:
        spec = CircuitSpec("angle", "strongly_entangling", n_qubits, n_layers)
        qnode = build_qnode(spec, device, "backprop", "auto")
        arguments = (rng.uniform(-np.pi, np.pi, (batch_size, n_qubits)), rng.uniform(0, 2 * np.pi, spec.weight_shape))
    tape = qml.workflow.construct_tape(qnode)(*arguments)
    compiled = compile_tape(tape, range(n_qubits))
    numbers = [[np.asarray(value) for value in operation.data] for operation in tape.operations]
    shared = np.array([numbers[op][index] for op, index in compiled.shared], float)
    sample = np.empty((batch_size, compiled.program.n_sample))
    for column, (op, index) in enumerate(compiled.sample):
        sample[:, column] = numbers[op][index]
    return compiled.program, shared, sample, rng.normal(size=(batch_size, len(compiled.program.outputs)))


def engine_step(
    n_qubits: int,
    n_layers: int,
    batch_size: int,
    engine: str = "cpu",
    precision: str = "complex64",
    circuit: str = "layers",
) -> Callable[[], list[np.ndarray]]:
    """Values and gradients of a batch by one of the package's engines, from NumPy to NumPy.

    Args:
        n_qubits: wires.
        n_layers: strongly entangling layers.
        batch_size: samples.
        engine: "cpu"; "cuda" with the states kept on the GPU from call to call; "cuda, one call" that builds and forgets
            everything in each call.
        precision: complex type of the states.
        circuit: one of `CIRCUITS`.

    Raises:
        BackendError: engine "cuda" without a GPU.
    """
    check_name("engine", engine, ("cpu", "cuda", "cuda, one call"))
    program, shared, sample, cotangent = program_and_numbers(circuit, n_qubits, n_layers, batch_size)
    shared, sample, cotangent = (np.asarray(numbers, cpu.REAL[precision]) for numbers in (shared, sample, cotangent))
    if engine == "cpu":
        step_evidence = cpu_evidence
        states = cpu.kept_states(program, batch_size, precision)

        def step() -> list[np.ndarray]:
            values = cpu.expectations(program, shared, sample, precision, kept=states)
            return [values, *cpu.expectations_vjp(program, shared, sample, cotangent, precision, kept=states)[:2]]

    elif engine == "cuda":
        session = _cuda().Session(program, batch_size, precision)
        step_evidence = _account(session.traffic_bytes)

        def step() -> list[np.ndarray]:
            return list(session.step(shared, sample, cotangent))

    else:
        cuda = _cuda()
        step_evidence = _account(cuda.Session(program, batch_size, precision).traffic_bytes)

        def step() -> list[np.ndarray]:
            values = cuda.expectations(program, shared, sample, precision)
            return [values, *cuda.expectations_vjp(program, shared, sample, cotangent, precision)[:2]]

    def losses() -> list[float]:
        """A loss, and the square of its gradient: how fast a step down from there lowers it."""
        values, d_shared, d_sample = step()
        return [float(np.mean((values - 0.5) ** 2)), float(np.sum(d_shared**2) + np.sum(d_sample**2))]

    step.losses = losses
    step.evidence = step_evidence
    if engine != "cpu":
        step.synchronize = _cuda().synchronize
    return step


def cpu_evidence() -> dict[str, Any]:
    """The evidence of an arm that computes on the CPU."""
    return {"devices": ["CPU"]}


def _account(traffic: int) -> Callable[[], dict[str, Any]]:
    """The evidence of a CUDA arm by the engine's own counters; `traffic` is what a step moves in the GPU's memory, bytes."""

    def account() -> dict[str, Any]:
        now = _cuda().counters()
        about = {"devices": [now["device"]], "kernels": now["launches"], "compilations": now["compilations"]}
        return {**about, "traffic_bytes": float(traffic)}

    return account


def copy_step() -> Callable[[], float]:
    """Copy `COPY_BYTES` from one place in the GPU's memory to another: the bandwidth that there is to be had.

    Raises:
        BackendError: there is no GPU.
    """
    cuda = _cuda()
    from numba import cuda as numba_cuda

    source, target = (numba_cuda.device_array(COPY_BYTES // 4, np.float32) for _ in range(2))

    def step() -> float:
        target.copy_to_device(source)
        return float(COPY_BYTES)

    step.evidence = lambda: {"devices": [cuda.counters()["device"]], "traffic_bytes": 2.0 * COPY_BYTES}
    step.synchronize = wait_for_cuda
    return step


def _values_and_gradients(name: str, diff_method: str, size: tuple[int, int, int], **options: Any) -> dict[str, np.ndarray]:
    n_qubits, n_layers, batch_size = size
    spec = CircuitSpec("angle", "strongly_entangling", n_qubits, n_layers)
    circuit = build_qnode(spec, qml.device(name, wires=n_qubits, **options), diff_method, "auto")
    rng = np.random.default_rng(n_qubits)
    inputs = pnp.array(rng.uniform(-np.pi, np.pi, (batch_size, n_qubits)), requires_grad=True)
    weights = pnp.array(rng.uniform(0, 2 * np.pi, spec.weight_shape), requires_grad=True)
    cotangent = rng.normal(size=(n_qubits, batch_size))

    def total(inputs: Any, weights: Any) -> Any:
        return pnp.sum(pnp.stack(circuit(inputs, weights)) * cotangent)

    d_inputs, d_weights = qml.grad(total)(inputs, weights)
    values = np.stack([np.asarray(value) for value in circuit(inputs, weights)])
    return {"value": values, "gradient_inputs": np.asarray(d_inputs), "gradient_weights": np.asarray(d_weights)}


def differences(engine: str, sizes: tuple[tuple[int, int, int], ...] = CHECKED) -> list[dict[str, Any]]:
    """Largest absolute differences of an engine of `hybridbench.qubit` from `default.qubit` with backprop.

    Args:
        engine: "cuda" or "cpu".
        sizes: (qubits, layers, batch size) of each circuit.

    Returns:
        A dict for each circuit, precision and quantity ("value", "gradient_inputs", "gradient_weights"), with
        `max_abs_difference` and the `tolerance`.
    """
    rows = []
    for size in sizes:
        expected = _values_and_gradients("default.qubit", "backprop", size)
        for precision, tolerance in TOLERANCE.items():
            options = {"engine": engine, "c_dtype": getattr(np, precision)}
            found = _values_and_gradients("hybridbench.qubit", "best", size, **options)
            about = dict(zip(("n_qubits", "n_layers", "batch_size"), size, strict=True))
            for quantity, value in found.items():
                gap = float(np.max(np.abs(value - expected[quantity])))
                rows.append(
                    {
                        **about,
                        "precision": precision,
                        "quantity": quantity,
                        "max_abs_difference": gap,
                        "tolerance": tolerance,
                    }
                )
    return rows


def check(engine: str) -> dict[str, Any]:
    """Differences of `engine`, "cuda", from `default.qubit`, and the counters of the CUDA engine before and after."""
    cuda = _cuda()
    before = cuda.counters()
    rows = differences(engine)
    return {"differences": rows, "before": before, "after": cuda.counters()}
