"""Circuits as Keras layers: PennyLane's `KerasLayer` as shipped, and a subclass that also runs in graph mode."""

from __future__ import annotations

from typing import Any

from hybridbench.circuits.qnode import build_qnode
from hybridbench.circuits.spec import CircuitSpec
from hybridbench.engine.backends import BACKENDS, check_memory, make_device, state_memory_bytes
from hybridbench.errors import ConfigurationError, check_name
from hybridbench.stack import import_tensorflow

tf = import_tensorflow()
import pennylane as qml  # noqa: E402  (TensorFlow first, with its start-up notices held back)

# AutoGraph would translate the whole simulator line by line: 42-58 s for a first step instead of 2-5 s.
_call_without_autograph = tf.autograph.experimental.do_not_convert(qml.qnn.KerasLayer.call)


class KerasLayer(qml.qnn.KerasLayer):
    """`qml.qnn.KerasLayer` that can be traced by `tf.function`, with the same signature, weights and results.

    PennyLane's class declares itself dynamic, so that Keras runs every step of it eagerly. With a QNode whose simulator is
    made of TensorFlow operations (`default.qubit` with backprop) there is no need for that.

    Raises:
        ConfigurationError: the QNode does not differentiate by backprop, so that it cannot be part of a graph.
    """

    def __init__(self, qnode: qml.QNode, *args: Any, **kwargs: Any) -> None:
        super().__init__(qnode, *args, **kwargs)
        if qnode.diff_method != "backprop":
            raise ConfigurationError(
                f"A QNode with diff_method {qnode.diff_method!r} cannot be traced into a graph: use 'backprop' on "
                "default.qubit, or qml.qnn.KerasLayer, which runs eagerly."
            )
        self._dynamic = False

    def call(self, inputs: Any) -> Any:
        """Evaluate the circuit for inputs of shape (..., n_features); returns shape (..., n_qubits)."""
        return _call_without_autograph(self, inputs)


def keras_layer(
    spec: CircuitSpec,
    backend: str = "default.qubit",
    diff_method: str = "backprop",
    precision: str = "complex128",
    graph: bool = False,
    batch_size: int = 1,
) -> qml.qnn.KerasLayer:
    """The circuit of `spec` as a Keras layer from (batch, n_features) to (batch, n_qubits).

    Args:
        spec: the circuit; its weights become the layer's one trainable weight.
        backend: a name of `hybridbench.engine.backends.BACKENDS`.
        diff_method: one of the backend's differentiation methods.
        precision: complex type of the state vector.
        graph: True for the subclass that graph mode takes (backprop only), False for PennyLane's class as shipped.
        batch_size: samples per step, for the memory estimate.

    Raises:
        ConfigurationError: an unknown backend, or a differentiation method that the backend does not have.
        MemoryEstimateError: a training step would not fit into the free memory.
        BackendError: the backend cannot be used here.
    """
    methods = BACKENDS[check_name("backend", backend, BACKENDS)].diff_methods
    if diff_method not in methods:
        raise ConfigurationError(f"diff_method {diff_method!r} does not work on {backend}; it has {', '.join(methods)}.")
    gates = spec.n_parameters + spec.n_qubits * (spec.n_layers + 1)
    needed = state_memory_bytes(spec.n_qubits, diff_method, batch_size, gates, precision)
    check_memory(needed, f"A training step of {spec.n_qubits} qubits, batch {batch_size}, with {diff_method}")
    device = make_device(backend, spec.n_qubits, precision)
    qnode = build_qnode(spec, device, diff_method, interface="tf")
    layer = KerasLayer if graph else qml.qnn.KerasLayer
    return layer(qnode, spec.weight_shapes, output_dim=spec.n_qubits, name="quantum")
