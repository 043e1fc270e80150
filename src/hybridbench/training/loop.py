"""The training loop: one configuration → one history, one row per epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from hybridbench.circuits.embeddings import EMBEDDINGS
from hybridbench.circuits.qnode import original_circuit
from hybridbench.errors import ConfigurationError, TrainingDiverged
from hybridbench.stack import import_tensorflow
from hybridbench.tasks import PreparedTask, prepare
from hybridbench.training.config import EnergyConfig, TrainingConfig
from hybridbench.training.models import build_model, initial_weights
from hybridbench.training.optimizers import make_optimizer

tf = import_tensorflow()


def loss_of(task: PreparedTask) -> tf.keras.losses.Loss:
    """Cross-entropy of logits for classification, mean squared error of the standardised target for regression."""
    if task.kind == "classification":
        return tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return tf.keras.losses.MeanSquaredError()


def score(task: PreparedTask, outputs: np.ndarray, y: np.ndarray) -> float:
    """Accuracy (classification) or the coefficient of determination R squared (regression)."""
    if task.kind == "classification":
        return float(np.mean(np.argmax(outputs, axis=1) == y))
    residual = np.sum((outputs[:, 0] - y) ** 2)
    return float(1 - residual / np.sum((y - y.mean()) ** 2))


def batches(n_samples: int, batch_size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Index batches of one epoch in random order; the last, smaller one is left out so that one graph fits all."""
    order = rng.permutation(n_samples)
    for start in range(0, n_samples - batch_size + 1, batch_size):
        yield order[start : start + batch_size]


class _Updates:
    """Traced updates of one list of variables, one per optimizer, shared by all learning rates and seeds."""

    def __init__(self, variables: Sequence[tf.Variable]) -> None:
        self._variables = list(variables)
        self._made: dict[str, tuple[Any, Any, list[np.ndarray]]] = {}

    def fresh(self, name: str, learning_rate: float, gradients: Sequence[tf.Tensor]) -> Any:
        """The update of optimizer `name` with its state as new: gradients → nothing.

        `gradients` only trace it; the variables are changed by that and have to be set afterwards.
        """
        if name not in self._made:
            optimizer = make_optimizer(name, learning_rate)
            optimizer.build(self._variables)
            state = [variable.numpy() for variable in optimizer.variables]

            @tf.function
            def update(gradients: list[tf.Tensor]) -> None:
                optimizer.apply_gradients(zip(gradients, self._variables, strict=True))

            update(list(gradients))
            self._made[name] = (optimizer, update, state)
        optimizer, update, state = self._made[name]
        for variable, value in zip(optimizer.variables, state, strict=True):
            variable.assign(value)
        optimizer.learning_rate = learning_rate
        return update


@dataclass(frozen=True)
class _Traced:
    """A model with its traced functions, shared by all runs of one architecture: tracing costs hundreds of steps."""

    model: tf.keras.Model
    gradients: Any  #: (x, y) → loss, list of gradients
    outputs: Any  #: x → outputs
    updates: _Updates


@lru_cache(maxsize=16)
def _traced(architecture: TrainingConfig, task_shape: tuple[str, int, int]) -> _Traced:
    task = prepare(architecture.task, architecture.n_qubits, 0, architecture.max_samples)
    model = build_model(architecture, task)
    loss_function = loss_of(task)
    any_batch = architecture.model == "classical" or not EMBEDDINGS[architecture.embedding].fixed_batch

    @tf.function(reduce_retracing=any_batch)
    def gradients(x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            loss = loss_function(y, model(x))
        return loss, tape.gradient(loss, model.trainable_variables)

    @tf.function(reduce_retracing=any_batch)
    def outputs(x: tf.Tensor) -> tf.Tensor:
        return model(x)

    return _Traced(model, gradients, outputs, _Updates(model.trainable_variables))


def _architecture(config: TrainingConfig, task: PreparedTask) -> _Traced:
    """The traced model of `config`: everything that does not change the graph is set to one value."""
    same = replace(config, optimizer="adam", learning_rate=1.0, seed=0, epochs=1)
    return _traced(same, (task.kind, task.n_features, task.n_classes))


def train(config: TrainingConfig, on_divergence: str = "raise") -> list[dict[str, Any]]:
    """Train one model and return its history.

    Args:
        config: what to train, on what, how.
        on_divergence: "raise", or "record" to end the history with a row of NaN: in a comparison of optimizers a
            divergence is a result.

    Returns:
        One row per epoch, the first for the untrained model: epoch, step, seconds (training only: no tracing, no
        evaluation), losses and scores on all three parts, n_parameters.

    Raises:
        TrainingDiverged: the loss stopped being finite; names the step and the settings.
        ConfigurationError: the batch is larger than the training part, or the circuit does not fit the task.
    """
    task = prepare(config.task, config.n_qubits, config.seed, config.max_samples)
    if config.batch_size > len(task.x_train):
        raise ConfigurationError(
            f"batch_size is {config.batch_size}, and the training part of {config.task} has {len(task.x_train)} samples."
        )
    traced = _architecture(config, task)
    model, dtype = traced.model, config.precision
    start = initial_weights(model, config.seed)
    x_all, y_all = tf.constant(task.x_train, dtype), tf.constant(task.y_train)
    # Trace everything before the clock runs; the weights are set after it.
    _, example = traced.gradients(x_all[: config.batch_size], y_all[: config.batch_size])
    update = traced.updates.fresh(config.optimizer, config.learning_rate, example)
    for variable, value in zip(model.trainable_variables, start, strict=True):
        variable.assign(value)

    parts = {"train": (task.x_train, task.y_train), "val": (task.x_val, task.y_val), "test": (task.x_test, task.y_test)}
    loss_function = loss_of(task)
    rng = np.random.default_rng(config.seed)
    seconds, step, rows = 0.0, 0, []

    def evaluate(epoch: int) -> dict[str, Any]:
        row: dict[str, Any] = {"epoch": epoch, "step": step, "seconds": seconds, "n_parameters": model.count_params()}
        for part, (x, y) in parts.items():
            outputs = traced.outputs(tf.constant(x, dtype)).numpy()
            # Tensors, as in training: of arrays Keras would compare every output with every target.
            row[f"{part}_loss"] = float(loss_function(tf.constant(y), tf.constant(outputs)))
            row[f"{part}_score"] = score(task, outputs, y)
        return row

    rows.append(evaluate(0))
    for epoch in range(1, config.epochs + 1):
        for index in batches(len(task.x_train), config.batch_size, rng):
            x, y = tf.gather(x_all, index), tf.gather(y_all, index)
            begin = time.perf_counter()
            loss, gradients = traced.gradients(x, y)
            update(gradients)
            value = float(loss)
            seconds += time.perf_counter() - begin
            step += 1
            if not math.isfinite(value):
                if on_divergence == "raise":
                    raise TrainingDiverged(
                        f"The loss became {value} at step {step} with {config.optimizer}, learning rate "
                        f"{config.learning_rate}, on {config.task} (seed {config.seed}): lower the learning rate."
                    )
                nan = {f"{part}_{what}": math.nan for part in parts for what in ("loss", "score")}
                rows.append({**rows[0], **nan, "epoch": epoch, "step": step, "seconds": seconds})
                return rows
        rows.append(evaluate(epoch))
    return rows


@lru_cache(maxsize=4)
def _traced_energy(n_qubits: int, batch_size: int) -> tuple[tf.Variable, Any, _Updates]:
    circuit = original_circuit(n_qubits, diff_method="backprop", interface="tf")
    theta = tf.Variable(tf.zeros((batch_size, n_qubits), tf.float64), name="theta")

    @tf.function(jit_compile=True)
    def gradients() -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            energy = tf.reduce_mean(tf.autograph.experimental.do_not_convert(circuit)(theta))
            loss = -energy
        return energy, tape.gradient(loss, theta)

    return theta, gradients, _Updates([theta])


def maximise_energy(config: EnergyConfig) -> list[dict[str, Any]]:
    """Run the original study's objective with its circuit, batch and starting distribution, N(0, 1).

    Returns:
        One row per step, the first before any update: step, energy (mean of <Z0 Z1> over the batch), seconds.

    Raises:
        TrainingDiverged: the energy stopped being finite.
    """
    theta, gradients, updates = _traced_energy(config.n_qubits, config.batch_size)
    update = updates.fresh(config.optimizer, config.learning_rate, [gradients()[1]])
    theta.assign(np.random.default_rng(config.seed).normal(size=(config.batch_size, config.n_qubits)))
    rows, seconds = [], 0.0
    for step in range(config.steps + 1):
        begin = time.perf_counter()
        energy, gradient = gradients()
        if step < config.steps:
            update([gradient])
        value = float(energy)
        if not math.isfinite(value):
            raise TrainingDiverged(
                f"The energy became {value} at step {step} with {config.optimizer}, learning rate {config.learning_rate}."
            )
        rows.append({"step": step, "energy": value, "seconds": seconds})
        seconds += time.perf_counter() - begin
    return rows
