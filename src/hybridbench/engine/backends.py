"""The simulators that a circuit can run on, by name. Asked for one that is not there, this raises; it never falls back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hybridbench.design.constants import BYTES_PER_AMPLITUDE
from hybridbench.errors import BackendError, ConfigurationError, MemoryEstimateError, check_name
from hybridbench.measurement.machine import available_memory_bytes

if TYPE_CHECKING:
    import pennylane as qml


@dataclass(frozen=True)
class Backend:
    """A PennyLane device and how gradients can be taken on it."""

    name: str  #: PennyLane's device name
    diff_methods: tuple[str, ...]  #: differentiation methods that work through KerasLayer
    precisions: tuple[str, ...]  #: complex types of the state vector
    needs_gpu: bool  #: whether it runs on an NVIDIA GPU
    batches: bool  #: whether one call simulates a whole batch (otherwise one circuit per sample)
    about: str  #: one line for users


BACKENDS = {
    backend.name: backend
    for backend in (
        Backend(
            "default.qubit",
            ("backprop", "adjoint", "parameter-shift"),
            ("complex128",),
            needs_gpu=False,
            batches=True,
            about="PennyLane's reference simulator, written in the arrays of the interface",
        ),
        Backend(
            "lightning.qubit",
            ("adjoint", "parameter-shift"),
            ("complex64", "complex128"),
            needs_gpu=False,
            batches=False,
            about="PennyLane's C++ state-vector simulator, one circuit per sample",
        ),
        Backend(
            "lightning.gpu",
            ("adjoint", "parameter-shift"),
            ("complex64", "complex128"),
            needs_gpu=True,
            batches=False,
            about="PennyLane's cuStateVec simulator for NVIDIA GPUs, one circuit per sample",
        ),
        Backend(
            "hybridbench.qubit",
            ("adjoint", "backprop"),
            ("complex64", "complex128"),
            needs_gpu=False,
            batches=True,
            about="this package's simulator: compiled circuits, whole batches, adjoint gradients",
        ),
    )
}


def state_memory_bytes(
    n_qubits: int, diff_method: str = "adjoint", batch_size: int = 1, n_gates: int = 1, precision: str = "complex128"
) -> int:
    """Memory that the states of one forward and backward pass take at least, bytes.

    A state vector has 2**n_qubits amplitudes. Adjoint differentiation holds two states and one temporary whatever the depth
    (Jones and Gacon 2020, arXiv:2009.02823), one sample at a time; backpropagation keeps the batch after every gate.
    """
    states = batch_size * (n_gates + 2) if diff_method == "backprop" else 3
    return states * 2**n_qubits * BYTES_PER_AMPLITUDE[precision]


def check_memory(needed: int, what: str, available: int | None = None) -> None:
    """Raise MemoryEstimateError where `needed` bytes are more than can be had; nothing is allocated either way."""
    available = available_memory_bytes() if available is None else available
    if needed > available:
        raise MemoryEstimateError(
            f"{what} needs about {needed / 2**30:.3g} GiB of states, and {available / 2**30:.3g} GiB are free: "
            "use fewer qubits, a smaller batch, or diff_method 'adjoint' on lightning.qubit."
        )


def make_device(name: str, n_qubits: int, precision: str = "complex128") -> qml.devices.Device:
    """The PennyLane device `name` with `n_qubits` wires.

    Args:
        name: a key of `BACKENDS`.
        n_qubits: number of wires, at least 1.
        precision: complex type of the state vector, where the device lets one choose.

    Raises:
        ConfigurationError: an unknown backend, no wires, or a precision that the backend does not have.
        MemoryEstimateError: three states of this size do not fit into the free memory.
        BackendError: the backend is not installed, or finds no GPU.
    """
    backend = BACKENDS[check_name("backend", name, BACKENDS)]
    if n_qubits < 1:
        raise ConfigurationError(f"n_qubits is {n_qubits}, and a circuit needs at least one wire.")
    if precision not in backend.precisions:
        raise ConfigurationError(
            f"precision {precision!r} is not available on {name}; it computes in {' or '.join(backend.precisions)}."
        )
    check_memory(state_memory_bytes(n_qubits, precision=precision), f"A circuit of {n_qubits} qubits in {precision}")
    import numpy as np
    import pennylane as qml

    options = {"c_dtype": getattr(np, precision)} if len(backend.precisions) > 1 else {}
    try:
        return qml.device(name, wires=n_qubits, **options)
    except (qml.DeviceError, ImportError, ValueError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        hint = (
            "it needs an NVIDIA GPU and the packages of requirements-gpu.lock"
            if backend.needs_gpu
            else "run 'make setup' to install the pinned packages"
        )
        raise BackendError(f"The backend {name} cannot be used here: {first} Nothing ran; {hint}.") from error


def usable(name: str) -> tuple[bool, str]:
    """Whether backend `name` works on this machine, and if not, why."""
    try:
        make_device(name, 1)
    except BackendError as error:
        return False, str(error)
    return True, ""
