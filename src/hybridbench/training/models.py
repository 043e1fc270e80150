"""The models that are compared: hybrid, its twin without entanglement, and a classical one with as many parameters."""

from __future__ import annotations

import numpy as np

from hybridbench.circuits.embeddings import EMBEDDINGS
from hybridbench.circuits.layer import keras_layer
from hybridbench.circuits.spec import CircuitSpec
from hybridbench.stack import import_tensorflow
from hybridbench.tasks import PreparedTask
from hybridbench.training.config import TrainingConfig

tf = import_tensorflow()


def circuit_of(config: TrainingConfig) -> CircuitSpec:
    """The circuit of a hybrid or separable configuration."""
    spec = CircuitSpec(config.embedding, config.ansatz, config.n_qubits, config.n_layers)
    return spec.separable_twin() if config.model == "separable" else spec


def hidden_width(n_features: int, n_outputs: int, n_parameters: int) -> int:
    """Width of a one-hidden-layer network whose parameter count is nearest to `n_parameters` (at least 1).

    The network has h (n_features + 1) + n_outputs (h + 1) parameters.
    """
    return max(1, round((n_parameters - n_outputs) / (n_features + 1 + n_outputs)))


def n_outputs(task: PreparedTask) -> int:
    """Logits of a classifier, or 1 for regression."""
    return task.n_classes if task.kind == "classification" else 1


def build_model(config: TrainingConfig, task: PreparedTask, graph: bool = True) -> tf.keras.Model:
    """The Keras model of a configuration: (batch, n_features) → logits (batch, n_classes), or (batch, 1) for regression.

    Hybrid and separable: quantum layer (n_qubits expectation values), then one dense layer. Classical: a hidden layer of
    tanh units and a dense layer, with the nearest number of parameters.

    Args:
        config: what to build.
        task: the data, for the numbers of features and classes.
        graph: True for the layer that `tf.function` can trace, False for PennyLane's as shipped.
    """
    tf.keras.backend.set_floatx(config.precision)
    outputs = n_outputs(task)
    spec = circuit_of(config)
    if config.model == "classical":
        wanted = spec.n_parameters + outputs * (spec.n_qubits + 1)
        width = hidden_width(task.n_features, outputs, wanted)
        first = tf.keras.layers.Dense(width, activation="tanh", name="hidden")
    else:
        spec.check_features(task.n_features)
        first = keras_layer(spec, config.backend, config.diff_method, graph=graph, batch_size=config.batch_size)
    model = tf.keras.Sequential([first, tf.keras.layers.Dense(outputs, name="head")], name=config.model)
    if config.model != "classical" and EMBEDDINGS[spec.embedding].fixed_batch:
        model(tf.constant(task.x_train[: config.batch_size], config.precision))
    else:
        model.build((None, task.n_features))
    return model


def initial_weights(model: tf.keras.Model, seed: int) -> list[np.ndarray]:
    """Fresh weights for `model`, decided by `seed` and the shapes alone, so that runs can be paired across optimizers.

    Circuit angles are uniform in [0, 2 pi), as KerasLayer draws them; kernels are Glorot-uniform (Glorot and Bengio
    2010); biases are zero.
    """
    rng = np.random.default_rng(seed)
    weights = []
    for variable in model.trainable_variables:
        shape = tuple(variable.shape)
        if variable.name.startswith("quantum") or "weights" in variable.name:
            value = rng.uniform(0, 2 * np.pi, shape)
        elif len(shape) == 2:
            limit = np.sqrt(6 / sum(shape))
            value = rng.uniform(-limit, limit, shape)
        else:
            value = np.zeros(shape)
        weights.append(value.astype(variable.dtype.as_numpy_dtype))
    return weights
