"""From states to the values that PennyLane expects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pennylane as qml
from pennylane.devices.qubit.measure import measure
from pennylane.tape import QuantumScript

from hybridbench.engine.plan import Plan

FLOATS = {np.dtype("float32"), np.dtype("float64")}


def standard(circuit: QuantumScript, plan: Plan) -> list[Any]:
    """The measurements on the wires 0 to n - 1."""
    if plan.wires == tuple(range(len(plan.wires))):
        return circuit.measurements
    positions = {wire: i for i, wire in enumerate(plan.wires)}
    return [m.map_wires(positions) for m in circuit.measurements]


def shape(measurement: Any, plan: Plan) -> tuple[int, ...]:
    """Shape of a measurement's value for one sample."""
    return measurement.shape(shots=None, num_device_wires=len(plan.wires))


def is_complex(measurement: Any) -> bool:
    """Whether the values of a measurement are complex."""
    return measurement.numeric_type is complex


def measure_state(state: Any, measurements: Sequence[Any], batched: bool) -> list[Any]:
    """PennyLane's measurements of each row of `state`, (rows, 2**n): values with a leading axis of rows."""
    rows, n = len(state), state.shape[1].bit_length() - 1
    state = state.reshape(([rows] if batched else []) + [2] * n)
    values = [measure(m, state, is_state_batched=batched) for m in measurements]
    shapes = [tuple(qml.math.shape(v)) for v in values]
    # PennyLane drops the axis of a batch of one sample in some measurements.
    return [
        v if batched and s[:1] == (rows,) else qml.math.reshape(v, (rows, *s)) for v, s in zip(values, shapes, strict=True)
    ]


def cast(value: Any, real: np.dtype) -> Any:
    """Results of shots with their floating numbers in another type."""
    if isinstance(value, list | tuple):
        return tuple(cast(part, real) for part in value)
    return np.asarray(value, real) if getattr(value, "dtype", None) in FLOATS else value


def shaped(values: Sequence[Any], plan: Plan, real: np.dtype) -> Any:
    """Results as PennyLane expects them: no batch axis where there is no batch, of the real type or its complex one."""
    complex_ = np.result_type(real, np.complex64)
    found = []
    for value in values:
        value = np.asarray(value)
        value = value.astype(complex_ if np.iscomplexobj(value) else real, copy=False)
        found.append(value if plan.batched else value.reshape(value.shape[1:]))
    return one_or_all(found)


def one_or_all(values: Sequence[Any]) -> Any:
    """Results as PennyLane wants them: the value itself where there is one measurement."""
    return values[0] if len(values) == 1 else tuple(values)


def as_tuple(value: Any) -> tuple:
    """One result or several as a tuple."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def array(value: Any) -> np.ndarray:
    """A value of any interface as a NumPy array."""
    return np.asarray(qml.math.unwrap(value))
