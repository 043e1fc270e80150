"""A training step of workload W in PennyLane 0.45 with jax.jit: default.qubit, backprop, the batch broadcast, float32, Adam.

Runs in the environment of requirements-peers.lock ('make bench-peers' makes it), where hybridbench cannot be imported.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pennylane as qml

RATE, BETA_1, BETA_2, EPSILON = 0.01, 0.9, 0.999, 1e-7  #: Keras's Adam


def jit_step(problem: str, n_qubits: int, n_layers: int, batch_size: int) -> Callable[[], float]:
    """A function that does a step and returns the loss before it; compiled at its first call.

    Args:
        problem: the file of data and initial weights that all arms start from.
        n_qubits, n_layers, batch_size: size of W.
    """
    given = {name: jnp.asarray(value) for name, value in np.load(problem).items()}
    x, y = given["x"], given["y"]
    names = ("front_kernel", "front_bias", "weights", "head_kernel", "head_bias")
    parameters = {name: given[name] for name in names}
    assert x.shape[0] == batch_size
    assert parameters["weights"].shape == (n_layers, n_qubits, 3)

    @qml.qnode(qml.device("default.qubit", wires=n_qubits), diff_method="backprop", interface="jax")
    def circuit(inputs: jax.Array, weights: jax.Array) -> list[Any]:
        qml.AngleEmbedding(inputs, wires=range(n_qubits), rotation="X")
        qml.StronglyEntanglingLayers(weights, wires=range(n_qubits))
        return [qml.expval(qml.Z(wire)) for wire in range(n_qubits)]

    def loss(parameters: dict[str, jax.Array]) -> jax.Array:
        angles = jnp.pi * jnp.tanh(x @ parameters["front_kernel"] + parameters["front_bias"])
        values = jnp.stack(circuit(angles, parameters["weights"]), axis=-1)
        logits = values @ parameters["head_kernel"] + parameters["head_bias"]
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1))

    def step(state: tuple) -> tuple:
        parameters, mean, square, count = state
        value, gradient = jax.value_and_grad(loss)(parameters)
        count = count + 1
        mean = jax.tree.map(lambda m, g: BETA_1 * m + (1 - BETA_1) * g, mean, gradient)
        square = jax.tree.map(lambda v, g: BETA_2 * v + (1 - BETA_2) * g * g, square, gradient)
        rate = RATE * jnp.sqrt(1 - BETA_2**count) / (1 - BETA_1**count)
        parameters = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + EPSILON), parameters, mean, square)
        return value, (parameters, mean, square, count)

    compiled = jax.jit(step, donate_argnums=0)
    zeros = jax.tree.map(jnp.zeros_like, parameters)
    state = (parameters, zeros, jax.tree.map(jnp.zeros_like, parameters), jnp.float32(0))

    def call() -> float:
        nonlocal state
        value, state = compiled(state)
        jax.block_until_ready(state)
        return float(value)

    return call
