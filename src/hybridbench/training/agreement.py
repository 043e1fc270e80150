"""Do all ways of differentiating a circuit give the same numbers?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hybridbench.circuits.qnode import build_qnode
from hybridbench.circuits.spec import CircuitSpec
from hybridbench.design.routes import route_of
from hybridbench.engine.backends import make_device
from hybridbench.stack import import_tensorflow

tf = import_tensorflow()

REFERENCE = "default.qubit/backprop"
#: PennyLane cannot shift a broadcast input (its issue 4462), so this method differentiates the weights only.
WEIGHTS_ONLY = ("parameter-shift",)


@dataclass(frozen=True)
class AgreementConfig:
    """One circuit, one random batch, one method compared against default.qubit with backprop."""

    method: str  #: "backend/diff_method"
    embedding: str = "angle"
    ansatz: str = "strongly_entangling"
    n_qubits: int = 4
    n_layers: int = 2
    batch_size: int = 8
    seed: int = 0
    revision: int = 1


def value_and_gradients(config: AgreementConfig, method: str) -> dict[str, np.ndarray]:
    """Expectation values (batch, n_qubits) and the gradients of a random weighted sum of them.

    Returns:
        value; gradient_weights, of the weights' shape; gradient_inputs (batch, n_features), where the method can.
    """
    route = route_of(method)
    spec = CircuitSpec(config.embedding, config.ansatz, config.n_qubits, config.n_layers)
    circuit = build_qnode(spec, make_device(route.backend, config.n_qubits), route.diff_method, "tf")
    rng = np.random.default_rng(config.seed)
    inputs = tf.constant(rng.uniform(-np.pi, np.pi, (config.batch_size, spec.n_features)))
    weights = tf.Variable(rng.uniform(0, 2 * np.pi, spec.weight_shape))
    cotangent = tf.constant(rng.normal(size=(config.batch_size, config.n_qubits)))
    watched = {"gradient_weights": weights}
    with tf.GradientTape() as tape:
        if route.diff_method not in WEIGHTS_ONLY:
            tape.watch(inputs)
            watched["gradient_inputs"] = inputs
        values = tf.stack(circuit(inputs, weights), axis=-1)
        total = tf.reduce_sum(values * cotangent)
    gradients = tape.gradient(total, list(watched.values()))
    return {"value": values.numpy()} | {name: g.numpy() for name, g in zip(watched, gradients, strict=True)}


def compare(config: AgreementConfig) -> list[dict[str, Any]]:
    """Largest absolute difference from the reference method, one row per quantity."""
    expected = value_and_gradients(config, REFERENCE)
    found = value_and_gradients(config, config.method)
    return [
        {"quantity": name, "max_abs_difference": float(np.max(np.abs(value - expected[name])))}
        for name, value in found.items()
    ]
