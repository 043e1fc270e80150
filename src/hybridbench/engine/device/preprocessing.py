"""What the device accepts, and how it prepares a tape before the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pennylane as qml
from autograd.numpy.numpy_boxes import ArrayBox
from pennylane.devices import Device, ExecutionConfig
from pennylane.devices.default_qubit import accepted_analytic_measurement, accepted_sample_measurement
from pennylane.devices.preprocess import (
    decompose,
    null_postprocessing,
    validate_adjoint_trainable_params,
    validate_device_wires,
    validate_measurements,
)
from pennylane.math import Interface
from pennylane.measurements import ClassicalShadowMP, DensityMatrixMP, MidMeasureMP, ShadowExpvalMP, StateMP
from pennylane.operation import Channel, Operator
from pennylane.ops.functions import bind_new_parameters
from pennylane.tape import QuantumScript
from pennylane.transforms.core import TransformProgram
from scipy.sparse import issparse

from hybridbench.engine.compiler import UnsupportedCircuit
from hybridbench.engine.device.engines import load_tensorflow
from hybridbench.engine.device.measurements import array
from hybridbench.engine.plan import known, simpler, trace

TENSORFLOW = {Interface.TF, Interface.TF_AUTOGRAPH}
JAX = {Interface.JAX, Interface.JAX_JIT}
NO_BACKPROP = {Interface.TORCH, *JAX}
OWN_METHODS = {"best", "adjoint", "device", "backprop"}
NUMBERS = (np.ndarray, np.number, int, float, complex)
CONSTANTS = (qml.QubitUnitary, qml.DiagonalQubitUnitary, qml.BasisState)  #: their parameter is part of the program


def _refuse_torch_func(circuit: QuantumScript, name: str) -> None:
    """Raise DeviceError where torch.func holds a parameter of a circuit: it hides the numbers of its tensors."""
    import torch

    # PyTorch has no public way to ask; without this one its own error names no transform.
    is_wrapped = getattr(getattr(torch._C, "_functorch", None), "is_functorch_wrapped_tensor", lambda _: False)
    if any(isinstance(p, torch.Tensor) and is_wrapped(p) for p in circuit.get_parameters(trainable_only=False)):
        raise qml.DeviceError(
            f"{name} does not support the transforms of torch.func (grad, jacrev, vmap and the like): use torch.autograd "
            "(backward, or torch.autograd.functional.jacobian) and broadcasting, or run this circuit on default.qubit."
        )


@contextmanager
def as_device_error() -> Iterator[None]:
    """What the engine cannot run, or runs otherwise than PennyLane, as the error that PennyLane's devices raise."""
    try:
        yield
    except UnsupportedCircuit as error:
        raise qml.DeviceError(str(error)) from error


def refusal(engine: str, config: ExecutionConfig, circuit: QuantumScript | None) -> str:
    """Why the device cannot differentiate a circuit in this way, or "" where it can; without a circuit it can."""
    if circuit is None:
        return ""
    backprop = config.gradient_method == "backprop"
    if backprop and engine in {"cpu", "cuda"}:
        return f"needs the TensorFlow engine, and engine is {engine!r}: use diff_method='adjoint', or engine='auto'."
    if backprop and config.interface in NO_BACKPROP:
        return f"needs TensorFlow or autograd, and the interface is {config.interface.value!r}: use diff_method='adjoint'."
    if backprop and any(isinstance(m.obs, qml.SparseHamiltonian) for m in circuit.measurements):
        return "knows no sparse Hamiltonians: use diff_method='adjoint'."
    if circuit.shots:
        return (
            f"takes no shots, and there are {circuit.shots.total_shots}: use diff_method='parameter-shift', or shots=None."
        )
    twice = backprop or (config.interface in TENSORFLOW and engine not in {"cpu", "cuda"})
    if config.derivative_order > 1 and not twice:
        return f"gives first derivatives only, and max_diff is {config.derivative_order}: use diff_method='parameter-shift'."
    # "adjoint" has PennyLane's own rule there: a warning, and a gradient of zero.
    trained = any(_is_trained(m.obs, config.interface) for m in circuit.measurements)
    if trained and config.gradient_method in {"best", "backprop"}:
        return "does not reach the parameters of observables: use diff_method='parameter-shift'."
    return ""


def _is_trained(op: Operator | None, interface: Interface) -> bool:
    """Whether a gradient with respect to a parameter of `op` is being taken."""
    values = [] if op is None else op.data
    if interface == Interface.AUTOGRAD:  # an array of PennyLane's own NumPy calls itself trainable also where nobody asks
        return any(isinstance(value, ArrayBox) for value in values)
    return any(qml.math.get_interface(value) == interface.get_like() and qml.math.requires_grad(value) for value in values)


def has_constant_observables(circuit: QuantumScript) -> bool:
    """Whether all parameters of observables are numbers and no tensors."""
    data = (value for m in circuit.measurements if m.obs is not None for value in m.obs.data)
    return all(isinstance(value, NUMBERS) or issparse(value) for value in data)


@qml.transform
def prepare(tape: QuantumScript, device: Device, config: ExecutionConfig) -> tuple[Sequence[QuantumScript], Callable]:
    """Check a circuit and turn it into one that the device can run; one of a known structure passes as it is."""
    if config.interface == Interface.TORCH:
        _refuse_torch_func(tape, device.name)
    if device._knows(tape):
        return (tape,), null_postprocessing
    name = device.name
    validate_device_wires(tape, device.wires, name=name)
    validate_measurements(tape, accepted_analytic_measurement, accepted_sample_measurement, name=name)
    if any(qml.math.is_abstract(_fixed(v)) for m in tape.measurements if m.obs is not None for v in m.obs.data):
        raise qml.DeviceError(
            f"A parameter of an observable is not known while this graph is traced, and {name} compiles observables with "
            "their numbers: give them as constants, run the circuit outside of the graph, or on default.qubit."
        )
    steps = TransformProgram()
    if any(isinstance(op, MidMeasureMP) for op in tape.operations):
        if any(isinstance(op, MidMeasureMP) and op.postselect is not None for op in tape.operations):
            raise qml.DeviceError(
                f"Postselection is not available on {name}, whose states keep their norm: run this circuit on "
                "default.qubit, or measure without postselect."
            )
        steps.add_transform(qml.defer_measurements, allow_postselect=False)
    # PennyLane's shadows know no batch, and programs no batch of matrices.
    shadows = any(isinstance(m, ClassicalShadowMP | ShadowExpvalMP) for m in tape.measurements)
    if shadows or any(isinstance(op, CONSTANTS) and op.batch_size is not None for op in tape.operations):
        steps.add_transform(qml.transforms.broadcast_expand)
    steps.add_transform(_with_constants)
    steps.add_transform(_decomposed, name=name)
    if config.gradient_method in OWN_METHODS and any(_is_trained(m.obs, config.interface) for m in tape.measurements):
        validate_adjoint_trainable_params(QuantumScript([], tape.measurements))  # warns
    with as_device_error():
        tapes, join = steps((tape,))
    for part in tapes:  # compiled, and compared with `default.qubit`
        device._plan(part)
    if device._verify != "never" and not tape.shots:
        device._prove_rewritten(tape, tapes, steps)
    return tapes, lambda results: join(results)[0]


@qml.transform
def _with_constants(tape: QuantumScript) -> tuple[Sequence[QuantumScript], Callable]:
    """Matrices and basis states that are not trained, and observables, as NumPy arrays."""
    operations = [_as_constant(op) for op in tape.operations]
    if any(new is not old for new, old in zip(operations, tape.operations, strict=True)):
        tape = tape.copy(operations=operations)
    if not has_constant_observables(tape):
        tape = tape.copy(measurements=[_constant_measurement(m) for m in tape.measurements])
    return (tape,), null_postprocessing


def _constant_measurement(measurement: Any) -> Any:
    if measurement.obs is None or not measurement.obs.data:
        return measurement
    return type(measurement)(obs=bind_new_parameters(measurement.obs, [array(_fixed(v)) for v in measurement.obs.data]))


def _as_constant(op: Operator) -> Operator:
    if isinstance(op, qml.QubitUnitary) and hasattr(op.data[0], "toarray"):
        return qml.QubitUnitary(op.data[0].toarray(), op.wires)
    if isinstance(op, qml.StatePrep) and getattr(op, "is_sparse", False):
        return qml.StatePrep(np.asarray(op.state_vector().todense()).reshape(-1), wires=op.wires)
    if not isinstance(op, CONSTANTS) or isinstance(op.data[0], np.ndarray):
        return op
    value = op.data[0] if qml.math.requires_grad(op.data[0]) else _fixed(op.data[0])
    if qml.math.is_abstract(value) or qml.math.requires_grad(value):
        return op
    return bind_new_parameters(op, [array(value)])


def _fixed(value: Any) -> Any:
    """A constant of a TensorFlow graph as the array that it is; any other value as it stands."""
    if not qml.math.is_abstract(value) or qml.math.get_interface(value) != "tensorflow":
        return value
    found = load_tensorflow().get_static_value(value)
    return value if found is None else found


@qml.transform
def _decomposed(tape: QuantumScript, name: str) -> tuple[Sequence[QuantumScript], Callable]:
    """The same circuit of gates and templates that a plan can be made of; what is decomposed keeps its interface."""
    for op in tape.operations:
        if isinstance(op, Channel):
            raise qml.DeviceError(
                f"{op.name} is noise, and {name} computes state vectors: run this circuit on default.mixed."
            )
    n_prepared = 0
    for op in tape.operations:
        if not isinstance(op, qml.BasisState):
            break
        n_prepared += 1
    first = tape.operations[:1]
    leading = first if first and isinstance(first[0], qml.StatePrep) else tape.operations[:n_prepared]
    kept = {id(op) for op in leading}

    def stop(op: Operator) -> bool:
        if isinstance(op, qml.operation.StatePrepBase):
            return id(op) in kept
        return known(op) or trace(op) is not None

    sees_phase = any(isinstance(m, StateMP) and not isinstance(m, DensityMatrixMP) for m in tape.measurements)

    def parts(op: Operator) -> list[Operator]:
        if sees_phase and isinstance(op, qml.QubitUnitary) and len(op.wires) > 1:  # PennyLane's gates lose its phase
            raise qml.DeviceError(
                f"{name} gives no state vector of a circuit with {op.name} on {len(op.wires)} wires whose matrix is trained "
                "or not known: measure something else, or run this circuit on default.qubit."
            )
        return [_as_constant(part) for part in simpler(op)]  # a template may bring a matrix of its own

    return decompose(tape, stop, skip_initial_state_prep=False, decomposer=parts, name=name)
