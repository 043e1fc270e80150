"""QNodes: a circuit on a device with a gradient method."""

from __future__ import annotations

from typing import Any

import pennylane as qml

from hybridbench.circuits.embeddings import EMBEDDINGS
from hybridbench.circuits.spec import CircuitSpec
from hybridbench.errors import BackendError


def build_qnode(spec: CircuitSpec, device: qml.devices.Device, diff_method: str, interface: str = "tf") -> qml.QNode:
    """The circuit as a function f(inputs, weights) → [<Z_0>, …, <Z_{n-1}>].

    `KerasLayer` looks its first argument up by the name `inputs`.

    Args:
        spec: the circuit.
        device: a PennyLane device with wires 0 … n_qubits - 1.
        diff_method: "backprop", "adjoint" or "parameter-shift".
        interface: "tf", or "auto" to follow the arguments' type.

    Returns:
        A QNode. inputs: (n_features,) or (batch, n_features); weights: `spec.weight_shape`. Each of the n_qubits results is
        a scalar or has shape (batch,), between -1 and 1. Calling it raises BackendError where a gradient with respect to
        the inputs is asked for that the embedding does not have under `diff_method`.
    """
    no_input_gradient = EMBEDDINGS[spec.embedding].inputs_need_backprop and diff_method != "backprop"

    @qml.qnode(device, diff_method=diff_method, interface=interface)
    def circuit(inputs: Any, weights: Any) -> list[qml.measurements.ExpectationMP]:
        if no_input_gradient and qml.math.requires_grad(inputs):
            raise BackendError(
                f"Embedding {spec.embedding!r} has no gradient with respect to its inputs with {diff_method!r}: use "
                "backprop on default.qubit, another embedding, or feed the circuit data instead of another layer's output."
            )
        spec.apply(inputs, weights)
        return [qml.expval(qml.Z(wire)) for wire in range(spec.n_qubits)]

    return circuit


def original_circuit(
    n_qubits: int = 8,
    device: qml.devices.Device | None = None,
    diff_method: str = "backprop",
    interface: str = "auto",
) -> qml.QNode:
    """The original study's energy(theta) → <Z_0 Z_1>: RY(theta_i) on wire i, then CNOT (0,1) … (n-2,n-1).

    It equals cos(theta_1) (`hybridbench.circuits.properties.heisenberg_steps` shows why).

    Args:
        n_qubits: wires, at least 2; the study used 8.
        device: `default.qubit` unless given.
        diff_method: as in `build_qnode`.
        interface: as in `build_qnode`.

    Returns:
        A QNode. theta: (n_qubits,) or (batch, n_qubits); the result is a scalar or has shape (batch,).
    """
    spec = CircuitSpec("none", "original", n_qubits, 1)

    @qml.qnode(device or qml.device("default.qubit", wires=n_qubits), diff_method=diff_method, interface=interface)
    def energy(theta: Any) -> qml.measurements.ExpectationMP:
        spec.apply(None, theta[..., None, :])
        return qml.expval(qml.Z(0) @ qml.Z(1))

    return energy
