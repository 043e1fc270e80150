"""Keys that say whether two circuits compile to the same program."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import pennylane as qml
from pennylane.measurements import ExpectationMP, MeasurementProcess
from pennylane.operation import Operator
from pennylane.ops import Adjoint, Controlled, Pow, Prod
from pennylane.pauli import PauliSentence
from pennylane.tape import QuantumScript
from scipy.sparse import issparse

from hybridbench.engine.compiler.gates import MATRICES, PLAIN, PLAIN_CONTROLLED
from hybridbench.engine.compiler.instructions import UnsupportedCircuit


def n_axes(value: object) -> int:
    """Number of axes of a parameter of any interface, without reading it."""
    found = getattr(value, "ndim", None)
    return qml.math.ndim(value) if found is None else found


def is_constant(value: object) -> bool:
    """Whether a value is a number or a NumPy array."""
    return isinstance(value, int | float | complex | np.number | np.ndarray)


def has_constants(sentence: PauliSentence) -> bool:
    """Whether all coefficients are numbers."""
    return all(is_constant(c) and np.ndim(c) == 0 for c in sentence.values())


def is_pennylanes(kind: type) -> bool:
    """Whether PennyLane made a class. What a class from elsewhere computes may follow from anything."""
    return kind.__module__.partition(".")[0] == "pennylane"


def _freeze(value: object) -> Hashable:
    """A constant, with all operators, arrays and containers in it, as something to compare by content.

    Raises:
        UnsupportedCircuit: a value whose content cannot be compared, as an operation or a function from elsewhere.
    """
    if value is None or isinstance(value, bool | str | bytes | slice):
        return type(value), value if not isinstance(value, slice) else (value.start, value.stop, value.step)
    if isinstance(value, int | float | complex | np.number):
        return type(value).__name__, value if value == value else "nan"
    if isinstance(value, np.ndarray):
        if value.dtype == object:
            raise UnsupportedCircuit("The engine cannot compare an array of objects: pass an array of numbers.")
        return value.shape, value.dtype.str, value.tobytes()
    if isinstance(value, Operator):
        if not is_pennylanes(type(value)):
            raise UnsupportedCircuit(f"The engine cannot tell what decides {value.name}, an operation from elsewhere.")
        leaves, metadata = value._flatten()
        return type(value), value.wires.labels, _freeze(leaves), _freeze(metadata)
    if isinstance(value, MeasurementProcess) and is_pennylanes(type(value)):
        return type(value), *map(_freeze, value._flatten())
    if isinstance(value, QuantumScript):
        return _freeze(value.operations), _freeze(value.measurements)
    if isinstance(value, qml.wires.Wires):
        return value.labels
    if isinstance(value, dict):
        return type(value).__name__, tuple((_freeze(key), _freeze(part)) for key, part in value.items())
    if isinstance(value, list | tuple):
        return type(value).__name__, tuple(map(_freeze, value))
    if isinstance(value, set | frozenset):
        return "set", frozenset(map(_freeze, value))
    if issparse(value):
        value = value.tocsr()
        return "sparse", value.shape, _freeze(value.data), _freeze(value.indices), _freeze(value.indptr)
    if isinstance(value, type) and is_pennylanes(value):
        return value
    raise UnsupportedCircuit(
        f"The engine cannot read {type(value).__name__} values of constant matrices and states: "
        "pass them as NumPy arrays, or run this circuit on default.qubit."
    )


def operation_key(op: Operator) -> Hashable:
    """Type, wires, axes of the parameters, and all else that decides the gates.

    Raises:
        UnsupportedCircuit: an operation that is not PennyLane's, or has a value whose content cannot be compared.
    """
    kind = type(op)
    if not is_pennylanes(kind):
        raise UnsupportedCircuit(f"The engine cannot tell what decides {op.name}, an operation from elsewhere.")
    if kind in PLAIN_CONTROLLED:  # what op.wires adds up, without the making of new Wires
        hyperparameters = op.hyperparameters
        labels = hyperparameters["control_wires"].labels + hyperparameters["base"].wires.labels
    else:
        labels = op.wires.labels
    data = op.data
    ndims = tuple([n_axes(value) for value in data]) if data else ()
    return (kind, labels, ndims) if kind in PLAIN else (kind, labels, ndims, _static(op))


def _static(op: Operator) -> Hashable:
    """What the program of a gate depends on besides its type, wires and the axes of its parameters."""
    if isinstance(op, Controlled):
        return tuple(map(bool, op.control_values)), op.control_wires.labels, operation_key(op.base)
    if isinstance(op, Adjoint):
        return operation_key(op.base)
    if isinstance(op, Pow):
        return _freeze(op.z), operation_key(op.base)
    if isinstance(op, Prod):
        return tuple(map(operation_key, op.operands))
    if isinstance(op, (qml.BasisState, *MATRICES)):
        return _freeze(op.data)
    if isinstance(op, qml.StatePrep) or not isinstance(op, Operator):
        return None
    leaves, metadata = op._flatten()
    held = tuple(_freeze(leaf) for leaf in leaves if isinstance(leaf, Operator | list | tuple | QuantumScript))
    return held, _freeze(metadata)


def _measurement_key(measurement: MeasurementProcess) -> Hashable:
    """What the outputs depend on; None where the caller works from the state."""
    observable = measurement.obs
    if observable is None or not isinstance(measurement, ExpectationMP):
        return None
    if type(observable) in PLAIN:
        return type(observable), observable.wires.labels
    sentence = observable.pauli_rep
    if sentence is None:
        return _freeze(observable) if all(map(is_constant, observable.data)) else None
    return tuple((word, complex(c)) for word, c in sentence.items()) if has_constants(sentence) else None


def structure_key(tape: QuantumScript, wires: Sequence[Hashable] | None = None) -> Hashable:
    """A key that is equal for tapes that compile to the same program.

    Args:
        tape: a circuit; of gate parameters only the number of axes is read, of constant matrices the values.
        wires: the wire order, by default tape.wires.

    Raises:
        UnsupportedCircuit: a constant matrix or a basis state is not a NumPy array.
    """
    return (
        tuple(tape.wires if wires is None else wires),
        tuple([operation_key(op) for op in tape.operations]),
        tuple([_measurement_key(measurement) for measurement in tape.measurements]),
    )
