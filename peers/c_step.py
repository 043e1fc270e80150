"""The circuit of workload W by hand in C (step.c): forward and adjoint, as a floor for what any engine can do.

Compiled by the system's C compiler when first needed; where there is none the arm says so. Needs NumPy and no more.
"""

import ctypes
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

SOURCE = Path(__file__).with_name("step.c")
FLAGS = ("-O3", "-march=native", "-ffast-math", "-fopenmp", "-shared", "-fPIC")

Step = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]


def compile_step(n_qubits: int, n_layers: int, threads: int) -> Step:
    """f(angles, weights, cotangent) → expectations, gradient by angles, gradient by weights; all float32.

    Args:
        n_qubits, n_layers: size of the circuit.
        threads: how many share the samples of a batch.

    Raises:
        FileNotFoundError: no C compiler.
    """
    compiler = os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), None)
    if not compiler:
        raise FileNotFoundError("no C compiler here (Debian: the package gcc)")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "step.so"
        subprocess.run([compiler, *FLAGS, str(SOURCE), "-lm", "-o", str(library)], check=True)
        code = ctypes.CDLL(str(library))
    code.create.restype = ctypes.c_void_p
    circuit = ctypes.c_void_p(code.create(n_qubits, n_layers, threads))

    def step(angles: np.ndarray, weights: np.ndarray, cotangent: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        given = [np.ascontiguousarray(array, np.float32) for array in (angles, weights, cotangent)]
        results = np.empty_like(given[0]), np.empty_like(given[0]), np.empty_like(given[1])
        code.step(circuit, len(angles), *(array.ctypes.data_as(ctypes.c_void_p) for array in (*given, *results)))
        return results

    return step


def c_step(problem: str, n_qubits: int, n_layers: int, batch_size: int) -> Callable[[], dict[str, float]]:
    """A function that does forward and adjoint, clocks them, and returns the loss that the expectations give.

    Args:
        problem: the file of data and initial weights that all arms start from.
        n_qubits, n_layers, batch_size: size of W.
    """
    given = dict(np.load(problem))
    angles = np.pi * np.tanh(given["x"] @ given["front_kernel"] + given["front_bias"])
    step = compile_step(n_qubits, n_layers, int(os.environ["OMP_NUM_THREADS"]))
    assert angles.shape == (batch_size, n_qubits)

    def call() -> dict[str, float]:
        begin = time.perf_counter()
        values, _, _ = step(angles, given["weights"], given["cotangent"])
        seconds = time.perf_counter() - begin
        logits = values @ given["head_kernel"] + given["head_bias"]
        chosen = logits[np.arange(batch_size), given["y"]]
        return {"step": seconds, "loss": float(np.mean(np.log(np.exp(logits).sum(axis=1)) - chosen))}

    return call
