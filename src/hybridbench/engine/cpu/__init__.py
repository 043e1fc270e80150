"""The CPU engine for numpy arrays: expectation values, states and their vector-Jacobian products over a batch."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from hybridbench.engine.backends import check_memory
from hybridbench.engine.cpu.kernels import layout as K
from hybridbench.engine.cpu.kernels.call import run
from hybridbench.engine.cpu.native import DOUBLE, FLOAT, WORD, machine_code
from hybridbench.engine.cpu.simd import LANES
from hybridbench.engine.encoding import encode
from hybridbench.engine.once import once
from hybridbench.engine.program import Kind, Program
from hybridbench.errors import ConfigurationError, MemoryEstimateError, check_name

_ENTRY = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_double)
ALWAYS_FREE = 2**24  #: bytes that need no look at the machine's memory, which takes as long as a small circuit
REAL = {"complex64": np.float32, "complex128": np.float64}


def n_threads() -> int:
    """Threads that the engine may use: OMP_NUM_THREADS where it is set, else the cores of this process."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdigit() and int(wanted) > 0 else len(os.sched_getaffinity(0))


#: Holds the scratch memory of the last call, for the next one.
POOL = np.zeros(1, np.int64)


@once
def engine(precision: str) -> int:
    """The address of `kernels.call.run` for a precision."""
    kinds = (WORD, FLOAT if precision == "complex64" else DOUBLE)
    return machine_code(f"kernels-{precision}", {f"run_{precision}": (run, kinds)})[f"run_{precision}"]


def memory_bytes(program: Program, batch: int, precision: str, state: bool = False, threads: int | None = None) -> int:
    """Memory of one forward or backward pass, bytes: two states of a block for each thread whatever the depth, and results.

    A block is 16 samples; up to 15 samples take as much as the next power of two (16 where the program has blocks).
    """
    amplitude = np.dtype(precision).itemsize
    lanes = _lanes(program, batch)
    blocks = -(-batch // lanes)
    owners = min(threads or n_threads(), blocks)
    results = batch * 2**program.n_qubits * amplitude if state or program.product is None else 0
    return 2 * owners * lanes * 2**program.n_qubits * amplitude + results


def checked(
    program: Program, shared: np.ndarray, sample: np.ndarray, precision: str, initial: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Parameters and first states as contiguous arrays of the precision; None where the program has a product start.

    Raises:
        ConfigurationError: an unknown precision, or shapes that do not fit the program.
    """
    real = REAL[check_name("precision", precision, REAL)]
    shared, sample = np.ascontiguousarray(shared, real), np.ascontiguousarray(sample, real)
    if shared.shape != (program.n_shared,) or sample.ndim != 2 or sample.shape[1] != program.n_sample or not len(sample):
        raise ConfigurationError(
            f"The circuit takes shared parameters of shape ({program.n_shared},) and per-sample parameters of shape "
            f"(batch, {program.n_sample}) with at least one sample; it got {shared.shape} and {sample.shape}."
        )
    if program.product is not None:
        return shared, sample, None
    given, batch, size = None if initial is None else np.shape(initial), len(sample), 2**program.n_qubits
    if given not in {(1, size), (batch, size)}:
        raise ConfigurationError(f"The circuit starts from a state of shape (1 or {batch}, {size}); it got {given}.")
    return shared, sample, np.ascontiguousarray(initial, precision)


class _Given(NamedTuple):
    """What a caller hands over: see `expectations`."""

    program: Program
    shared: np.ndarray
    sample: np.ndarray
    precision: str
    initial: np.ndarray | None
    threads: int | None
    kept: np.ndarray | None = None


def _call(given: _Given, backward: bool, state: bool, cotangent: np.ndarray | None = None) -> Any:
    """Values, or gradients where `backward`: of states where `state`, else of expectation values."""
    program, shared, sample, precision, initial, threads, kept = given
    shared, sample, initial = checked(program, shared, sample, precision, initial)
    real, complex_ = REAL[precision], np.dtype(precision)
    batch, size, threads = len(sample), 2**program.n_qubits, threads or n_threads()
    results = (batch, size) if state else (batch, len(program.outputs))
    result_type = complex_ if state else np.dtype(real)
    needed = memory_bytes(program, batch, precision, state, threads)
    if needed > ALWAYS_FREE:
        check_memory(needed, f"A pass of {program.n_qubits} qubits, batch {batch}, in {precision}")
    code = encode(program)
    ctx = np.zeros(K.WORDS, np.int64)
    ctx[K.TASK], ctx[K.CODE], ctx[K.BATCH] = backward, code.ctypes.data, batch
    ctx[K.SHARED], ctx[K.SAMPLE] = shared.ctypes.data, sample.ctypes.data
    ctx[K.THREADS], ctx[K.POOL] = threads, POOL.ctypes.data
    if kept is not None:
        lanes = _lanes(program, batch)
        wanted = -(-batch // lanes) * lanes * size * complex_.itemsize
        if kept.nbytes != wanted or kept.ctypes.data % 64:
            raise ConfigurationError(f"`kept` has {kept.nbytes} bytes, and kept_states() of this batch has {wanted}.")
        ctx[K.KEPT] = kept.ctypes.data
    if initial is not None:
        ctx[K.INITIAL], ctx[K.INITIAL_ROWS] = initial.ctypes.data, len(initial)
    if backward:
        cotangent = np.ascontiguousarray(cotangent, result_type)
        if cotangent.shape != results:
            raise ConfigurationError(f"The cotangent has the shape {cotangent.shape}, and the results have {results}.")
        d_shared, d_sample = np.zeros(program.n_shared, real), np.zeros((batch, program.n_sample), real)
        d_initial = np.empty((batch, size), complex_) if program.product is None else None
        ctx[K.COTANGENT], ctx[K.D_SHARED], ctx[K.D_SAMPLE] = (a.ctypes.data for a in (cotangent, d_shared, d_sample))
        ctx[K.D_INITIAL] = 0 if d_initial is None else d_initial.ctypes.data
        ctx[K.STATE] = cotangent.ctypes.data if state else 0
    else:
        out = np.empty(results, result_type)
        ctx[K.STATE if state else K.OUTPUT] = out.ctypes.data
    if _ENTRY(engine(precision))(ctx.ctypes.data, 0):
        raise MemoryEstimateError(f"{needed / 2**30:.3g} GiB for the states could not be had: use fewer qubits or samples.")
    return (d_shared, d_sample, d_initial) if backward else out


def _lanes(program: Program, batch: int) -> int:
    """Samples of a block, a power of two: see `kernels`."""
    blocked = any(layer.blocks for layer in program.layers)
    return LANES if blocked else max(min(LANES, 2 ** (batch - 1).bit_length()), LANES >> min(program.n_qubits, 4))


def kept_states(program: Program, batch: int, precision: str) -> np.ndarray:
    """Room for the states of a batch after the last gate, from `expectations` to `expectations_vjp` of the same numbers."""
    lanes = _lanes(program, batch)
    length = -(-batch // lanes) * lanes * 2**program.n_qubits * np.dtype(precision).itemsize
    room = np.empty(length + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + length]


def expectations(
    program: Program,
    shared: np.ndarray,
    sample: np.ndarray,
    precision: str = "complex64",
    initial: np.ndarray | None = None,
    threads: int | None = None,
    kept: np.ndarray | None = None,
) -> np.ndarray:
    """Expectation values of the program's outputs.

    Args:
        program: the circuit.
        shared: (n_shared,) parameters, radians.
        sample: (batch, n_sample) parameters per sample; batch is its length also where n_sample is 0.
        precision: "complex64" (float32 results) or "complex128" (float64).
        initial: (1 or batch, 2**n_qubits) complex amplitudes in wire order, where the program has no product start.
        threads: most threads to use; `n_threads()` unless given. Results do not depend on it.
        kept: from `kept_states`; the states are left there, and `expectations_vjp` with it need not compute them again.

    Returns:
        (batch, n_outputs).

    Raises:
        ConfigurationError: shapes that do not fit the program.
        MemoryEstimateError: the states do not fit into the free memory.
    """
    return _call(_Given(program, shared, sample, precision, initial, threads, kept), backward=False, state=False)


def state(
    program: Program,
    shared: np.ndarray,
    sample: np.ndarray,
    precision: str = "complex64",
    initial: np.ndarray | None = None,
    threads: int | None = None,
) -> np.ndarray:
    """State vectors with their global phase: (batch, 2**n_qubits), wire order (wire 0 most significant).

    Arguments and errors as in `expectations`.
    """
    amplitudes = _call(_Given(program, shared, sample, precision, initial, threads), backward=False, state=True)
    return with_phase(program, shared, sample, amplitudes)


def expectations_vjp(
    program: Program,
    shared: np.ndarray,
    sample: np.ndarray,
    cotangent: np.ndarray,
    precision: str = "complex64",
    initial: np.ndarray | None = None,
    threads: int | None = None,
    kept: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Gradients of sum(cotangent * expectations) by the adjoint method (Jones and Gacon 2020, arXiv:2009.02823).

    Args:
        cotangent: (batch, n_outputs); the others as in `expectations`.

    Returns:
        With respect to shared (n_shared,), sample (batch, n_sample), and the initial states (batch, 2**n_qubits) with real
        part d/d(real part) and imaginary part d/d(imaginary part), or None.
    """
    return _call(_Given(program, shared, sample, precision, initial, threads, kept), True, False, cotangent)


def state_vjp(
    program: Program,
    shared: np.ndarray,
    sample: np.ndarray,
    cotangent: np.ndarray,
    precision: str = "complex64",
    initial: np.ndarray | None = None,
    threads: int | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Gradients of sum(real(conj(cotangent) * state)); cotangent (batch, 2**n_qubits) complex, the rest as above."""
    given = _Given(program, shared, sample, precision, initial, threads)

    def pull(cotangent: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        return _call(given, True, True, cotangent)

    def amplitudes() -> np.ndarray:
        return _call(given, False, True)

    return with_phase_gradient(program, shared, sample, cotangent, pull, amplitudes)


def with_phase(program: Program, shared: np.ndarray, sample: np.ndarray, amplitudes: np.ndarray) -> np.ndarray:
    """States (batch, 2**n_qubits) with the global phase that the program leaves out of them, of the same type."""
    if not program.phase:
        return amplitudes
    return amplitudes * np.exp(1j * global_phase(program, shared, sample)).astype(amplitudes.dtype)[:, None]


def with_phase_gradient(
    program: Program,
    shared: np.ndarray,
    sample: np.ndarray,
    cotangent: np.ndarray,
    pull: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray | None]],
    amplitudes: Callable[[], np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """What `pull` says of states without their global phase, for states with it; `amplitudes` gives the former."""
    if not program.phase:
        return pull(cotangent)
    # exp(i p) psi: turn the cotangent back, and add what the phase itself contributes, Re <c|i exp(i p) psi>.
    turned = cotangent * np.exp(-1j * global_phase(program, shared, sample))[:, None]
    d_shared, d_sample, d_initial = pull(turned)
    slope = -np.sum((turned.conj() * amplitudes()).imag, axis=1)
    for angle in program.phase:
        if angle.kind is Kind.SHARED:
            d_shared[angle.index] += angle.scale * slope.sum()
        elif angle.kind is Kind.SAMPLE:
            d_sample[:, angle.index] += angle.scale * slope
    return d_shared, d_sample, d_initial


def global_phase(program: Program, shared: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """(batch,) phases that the program leaves out of its states, radians."""
    total = np.zeros(len(sample))
    for angle in program.phase:
        parameter = {Kind.SHARED: shared, Kind.SAMPLE: np.transpose(sample)}.get(angle.kind)
        total += angle.offset + (0.0 if parameter is None else angle.scale * parameter[angle.index])
    return total
