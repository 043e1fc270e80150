"""Gradients of the device by the adjoint method: vector-Jacobian products and Jacobians."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import autograd
import numpy as np
import pennylane as qml
from pennylane.tape import QuantumScript

from hybridbench.engine.device.measurements import array, measure_state, one_or_all, standard
from hybridbench.engine.plan import Plan
from hybridbench.engine.plan_proof import numbers_of

if TYPE_CHECKING:
    from hybridbench.engine.device.qubit import HybridbenchQubit


def vjp(device: HybridbenchQubit, circuit: QuantumScript, cotangents: Any) -> tuple[np.ndarray, ...]:
    """Gradients of sum(cotangent * result) with respect to the trainable parameters."""
    cotangents = (cotangents,) if len(circuit.measurements) == 1 else cotangents
    parameters = numbers_of(circuit)
    gradients = parameter_gradients(device, device._plan(circuit), circuit, parameters, cotangents)
    return _Gradients(gradients[i] for i in circuit.trainable_params)


def parameter_gradients(
    device: HybridbenchQubit, plan: Plan, circuit: QuantumScript, parameters: Sequence[np.ndarray], cotangents: Sequence[Any]
) -> list[np.ndarray]:
    """Gradients of Re(sum(cotangent * result)) with respect to all parameters; a complex one's is d/dRe - i d/dIm."""
    if plan.program.outputs:
        rows = [np.reshape(np.real(array(c)), -1) for c in cotangents]
        d_shared, d_sample, d_initial = device._call("expectations_vjp", plan, parameters, np.stack(rows, axis=1))
    else:
        state = device._call("state", plan, parameters)
        d_state = _measurement_pull_back(state, standard(circuit, plan), plan.batched, cotangents)
        d_shared, d_sample, d_initial = device._call("state_vjp", plan, parameters, d_state)
    found = [np.zeros(np.shape(p), complex if np.iscomplexobj(p) else float) for p in parameters]
    for gather, gradient in ((plan.shared, d_shared[None]), (plan.sample, d_sample)):
        for position, part in gather.spread(np.asarray(gradient, float)):
            found[position] += part.reshape(found[position].shape)
    if plan.initial is not None:
        target = found[plan.initial]
        gradient = np.conj(np.asarray(d_initial)[:, plan.places])
        gradient = gradient if target.ndim > 1 else gradient.sum(axis=0)
        target += gradient if np.iscomplexobj(target) else np.real(gradient)
    return found


def jacobian(device: HybridbenchQubit, circuit: QuantumScript) -> Any:
    """The Jacobian: for each measurement and trainable parameter an array, result axes first."""
    plan, parameters = device._plan(circuit), numbers_of(circuit)
    values = [np.asarray(v) for v in device._measured(plan, circuit, parameters)]
    found = []
    for i, value in enumerate(values):
        columns = []
        for entry in range(value.size):
            cotangents = [np.zeros(v.shape) for v in values]
            cotangents[i].flat[entry] = 1
            real = parameter_gradients(device, plan, circuit, parameters, cotangents)
            if np.iscomplexobj(value):
                imaginary = parameter_gradients(device, plan, circuit, parameters, [-1j * c for c in cotangents])
                real = [a + 1j * b for a, b in zip(real, imaginary, strict=True)]
            columns.append(real)
        axes = value.shape if plan.batched else value.shape[1:]
        found.append(
            tuple(
                np.reshape([column[p] for column in columns], (*axes, *np.shape(parameters[p])))
                for p in circuit.trainable_params
            )
        )
    found = [rows[0] if len(rows) == 1 else rows for rows in found]
    return one_or_all(found)


def jvp(device: HybridbenchQubit, circuit: QuantumScript, tangents: Any) -> Any:
    """Changes of the results for given changes of the trainable parameters."""
    rows = jacobian(device, circuit)
    rows = (rows,) if len(circuit.measurements) == 1 else rows
    found = []
    for row in rows:
        blocks = (row,) if len(circuit.trainable_params) == 1 else row
        parts = [np.tensordot(b, t, axes=np.ndim(t)) for b, t in zip(blocks, map(array, tangents), strict=True)]
        found.append(sum(parts))
    return one_or_all(found)


def _measurement_pull_back(
    state: np.ndarray, measurements: Sequence[Any], batched: bool, cotangents: Sequence[Any]
) -> np.ndarray:
    """Gradient of Re(sum(cotangent * value)) with respect to the state, d/dRe + i d/dIm, shape (rows, 2**n)."""
    state = np.asarray(state, np.complex128)
    gradient, dense, given = np.zeros_like(state), [], []
    for m, cotangent in zip(measurements, map(array, cotangents), strict=True):
        if isinstance(m.obs, qml.SparseHamiltonian):  # autograd knows no sparse matrices
            matrix = m.obs.sparse_matrix(wire_order=range(state.shape[1].bit_length() - 1))
            gradient += 2 * np.reshape(np.real(cotangent), (-1, 1)) * (matrix @ state.T).T
        else:
            dense.append(m)
            given.append(cotangent)

    def values(planes: Any) -> Any:
        return autograd.builtins.tuple(measure_state(planes[0] + 1j * planes[1], dense, batched))

    if dense:
        pull, shaped = autograd.make_vjp(values)(np.stack([state.real, state.imag]))
        planes = pull(tuple(np.reshape(c, np.shape(v)) for c, v in zip(given, shaped, strict=True)))
        gradient += planes[0] + 1j * planes[1]
    return gradient


class _Gradients(tuple):
    """Arrays of different shapes that have a shape as a whole, for which PennyLane's torch interface asks NumPy."""

    __slots__ = ()

    def squeeze(self, axis: int | None = None) -> np.ndarray:
        """What `numpy.squeeze` calls: one entry for each array."""
        return np.empty(len(self))
