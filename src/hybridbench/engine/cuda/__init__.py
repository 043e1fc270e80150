"""The CUDA engine: the CPU engine's functions on an NVIDIA GPU, for NumPy arrays, with whole batches in few launches.

Asked for a GPU that is not there it raises; it never computes anywhere else. `NUMBA_ENABLE_CUDASIM=1`, set before Python
starts, runs the same kernels on numba's simulator: for tests, slowly, and named as what it is in `counters`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hybridbench.engine.cpu import REAL, checked, with_phase, with_phase_gradient
from hybridbench.engine.cuda.gpu import counters, require, simulated, synchronize
from hybridbench.engine.cuda.sessions import LOCK, Session, memory_bytes, session
from hybridbench.engine.program import Program
from hybridbench.errors import ConfigurationError


def expectations(
    program: Program, shared: np.ndarray, sample: np.ndarray, precision: str = "complex64", initial: np.ndarray | None = None
) -> np.ndarray:
    """Expectation values (batch, n_outputs); arguments and errors as in `cpu.expectations`; BackendError without a GPU."""
    with LOCK:
        return _started(program, shared, sample, precision, initial).measure().copy_to_host()


def expectations_vjp(
    program: Program,
    shared: np.ndarray,
    sample: np.ndarray,
    cotangent: np.ndarray,
    precision: str = "complex64",
    initial: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Gradients of sum(cotangent * expectations) by the adjoint method, as `cpu.expectations_vjp`."""
    wanted = (len(sample), len(program.outputs))
    if np.shape(cotangent) != wanted:
        raise ConfigurationError(f"The cotangent has the shape {np.shape(cotangent)}, and the results have {wanted}.")
    with LOCK:
        one = _started(program, shared, sample, precision, initial)
        gradients = one.gradients(np.ascontiguousarray(cotangent, REAL[precision]))
        return *gradients, None if program.product is not None else one.initial_gradient()


def state(
    program: Program, shared: np.ndarray, sample: np.ndarray, precision: str = "complex64", initial: np.ndarray | None = None
) -> np.ndarray:
    """State vectors with their global phase, (batch, 2**n_qubits) in wire order, as `cpu.state`."""
    with LOCK:
        amplitudes = _started(program, shared, sample, precision, initial, True).states()
    return with_phase(program, shared, sample, amplitudes)


def state_vjp(
    program: Program,
    shared: np.ndarray,
    sample: np.ndarray,
    cotangent: np.ndarray,
    precision: str = "complex64",
    initial: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Gradients of sum(real(conj(cotangent) * state)), as `cpu.state_vjp`."""

    def pull(cotangent: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        one = _started(program, shared, sample, precision, initial, True)
        one.start_adjoint_from(np.ascontiguousarray(cotangent, precision))
        gradients = one.gradients(None)
        return *gradients, None if program.product is not None else one.initial_gradient()

    def amplitudes() -> np.ndarray:
        return _started(program, shared, sample, precision, initial, True).states()

    with LOCK:
        return with_phase_gradient(program, shared, sample, cotangent, pull, amplitudes)


def _started(
    program: Program, shared: Any, sample: Any, precision: str, initial: np.ndarray | None, for_states: bool = False
) -> Session:
    """A session with the states after the last gate."""
    require()
    shared, sample, initial = checked(program, shared, sample, precision, initial)
    found = session(program, len(sample), precision, for_states)
    if initial is not None:
        found.start_from(initial)
    found.load(shared, sample)
    found.run()
    return found


__all__ = [
    "Session",
    "counters",
    "expectations",
    "expectations_vjp",
    "memory_bytes",
    "require",
    "simulated",
    "state",
    "state_vjp",
    "synchronize",
]
