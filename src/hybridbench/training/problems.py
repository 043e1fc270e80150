"""What a trial trains: a problem and a model as variables, a loss of a batch, and measures of how good it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pennylane as qml

from hybridbench.circuits.layer import KerasLayer
from hybridbench.circuits.spec import CircuitSpec
from hybridbench.engine.backends import make_device
from hybridbench.errors import ConfigurationError, check_name
from hybridbench.stack import import_tensorflow
from hybridbench.tasks import TASKS, PreparedTask, prepare
from hybridbench.tasks.energies import ENERGIES, Energy, basin_edge
from hybridbench.training.config import TrainingConfig, TrialConfig
from hybridbench.training.models import build_model, circuit_of, initial_weights

tf = import_tensorflow()

#: Samples of a batch whose metric tensors are averaged: the metric is smooth, and costs a state per weight and sample.
METRIC_SAMPLES = 8
MEASURES = ("train_loss", "val_loss", "test_loss", "train_score", "val_score", "test_score")


@dataclass(frozen=True)
class Problem:
    """A problem with a model, ready to be traced; data and weights are variables, so that one graph serves all seeds.

    Attributes:
        variables: what is trained.
        loss: rows of the training part (batch,) → loss of that batch.
        measure: → the six `MEASURES`, float64.
        natural: gradients by `variables`, rows, damping → the circuit's part times its damped inverse metric; None where
            there is no circuit.
        load: seed → sets data and weights to their start.
        rows: seed, steps → the batches of a run, shape (steps, batch).
        n_parameters: trainable numbers.
    """

    variables: list[tf.Variable]
    loss: Callable[[tf.Tensor], tf.Tensor]
    measure: Callable[[], tf.Tensor]
    natural: Callable[[list[tf.Tensor], tf.Tensor, tf.Tensor], list[tf.Tensor]] | None
    load: Callable[[int], None]
    rows: Callable[[int, int], np.ndarray]

    @property
    def n_parameters(self) -> int:
        """Trainable numbers of the model."""
        return sum(int(np.prod(variable.shape)) for variable in self.variables)


def build(config: TrialConfig) -> Problem:
    """The problem and model of a trial.

    Raises:
        ConfigurationError: an unknown problem, or a model, size or start that the problem does not have.
    """
    check_name("problem", config.problem, [*TASKS, *ENERGIES])
    # Keras makes learning rates in its current type: in float32 they would be rounded, or not, by what ran before.
    tf.keras.backend.set_floatx("float64")
    if config.start != "uniform" and (config.problem != "tfim" or config.model == "classical"):
        raise ConfigurationError(
            f"start is {config.start!r}, and only circuits of problem 'tfim' begin otherwise than 'uniform'."
        )
    if config.problem not in ENERGIES:
        return _data_problem(config)
    energy = ENERGIES[config.problem]
    fixed = {"n_qubits": energy.n_qubits, "batch_size": 1} | ({} if energy.name == "tfim" else {"n_layers": 1})
    for name, value in fixed.items():
        if getattr(config, name) != value:
            raise ConfigurationError(f"{name} is {getattr(config, name)}, and has to be {value} for energy {energy.name!r}.")
    if energy.name == "tfim":
        return _wave_function_problem(config, energy) if config.model == "classical" else _ising_problem(config, energy)
    if config.model != "hybrid":
        raise ConfigurationError(f"Energy {energy.name!r} has the hybrid model only: its circuit is a product state.")
    return _sets_problem(energy)


def natural_gradient(gradient: tf.Tensor, metric: tf.Tensor, damping: tf.Tensor) -> tf.Tensor:
    """(metric + damping)^-1 gradient, in the gradient's shape (Stokes, Izaac, Killoran, Carleo, Quantum 4, 269 (2020))."""
    identity = tf.eye(metric.shape[0], dtype=metric.dtype)
    # A metric's entries are at most a quarter. Where a run diverged, angles may be too large to mean anything, and entries
    # are no numbers, with which TensorFlow refuses to solve: the damping alone is left.
    sound = tf.reduce_all(tf.abs(metric) < 1)
    damped = tf.where(sound, metric, tf.zeros_like(metric)) + damping * identity
    return tf.reshape(tf.linalg.solve(damped, tf.reshape(gradient, (-1, 1))), gradient.shape)


def metric_tensor(state: Callable[[tf.Tensor], tf.Tensor], features: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Fubini-Study metric tensor of a circuit's weights, averaged over samples; shape (weights, weights).

    Every weight has to turn one Pauli rotation: its derivative of the state is then half the state with that angle turned by
    pi, exactly, and g_ij = Re(<d_i|d_j> - <d_i|psi><psi|d_j>) (Stokes et al. 2020, equation 11).

    Args:
        state: angles (rows, features + weights) → states (rows, 2^n).
        features: of the samples, shape (samples, features).
        weights: shape (weights,).
    """
    n = weights.shape[0]
    turned = weights + np.pi * tf.eye(n + 1, n, dtype=weights.dtype)  # the last row is not turned
    samples = tf.shape(features)[0]
    angles = tf.concat([tf.repeat(features, n + 1, axis=0), tf.tile(turned, (samples, 1))], axis=1)
    states = state(angles)
    states = tf.reshape(states, (samples, n + 1, states.shape[1]))
    overlaps = tf.linalg.matmul(states, states, adjoint_b=True)
    along = overlaps[:, :n, n]
    metric = tf.math.real(overlaps[:, :n, :n] - along[:, :, None] * tf.math.conj(along[:, None, :]))
    return tf.reduce_mean(metric, axis=0) / 4


def _state_layer(n_qubits: int, apply: Callable[[Any], None]) -> Callable[[tf.Tensor], tf.Tensor]:
    """Angles (rows, n) → states (rows, 2^n_qubits), compiled."""

    @qml.qnode(make_device("hybridbench.qubit", n_qubits), diff_method="adjoint", interface="tf")
    def circuit(inputs: Any) -> qml.measurements.StateMP:
        apply(inputs)
        return qml.state()

    return KerasLayer(circuit, {}, output_dim=2**n_qubits, dtype="float64")


def _weights_index(variables: Sequence[tf.Variable]) -> int:
    """Which of a model's variables holds the circuit's weights."""
    return next(i for i, variable in enumerate(variables) if "weights" in variable.name)


# ------------------------------------------------------------------------------------------------------------- data tasks
@lru_cache(maxsize=256)
def _prepared(task: str, n_features: int, seed: int) -> PreparedTask:
    return prepare(task, n_features, seed)


def _data_problem(config: TrialConfig) -> Problem:
    given = TrainingConfig(
        config.problem, config.model, n_qubits=config.n_qubits, n_layers=config.n_layers, batch_size=config.batch_size
    )
    first = _prepared(config.problem, config.n_qubits, 0)
    if config.batch_size > len(first.x_train):
        raise ConfigurationError(
            f"batch_size is {config.batch_size}, and the training part of {config.problem} has {len(first.x_train)} samples."
        )
    model = build_model(given, first)
    parts = {part: (getattr(first, f"x_{part}"), getattr(first, f"y_{part}")) for part in ("train", "val", "test")}
    data = {part: (tf.Variable(x, trainable=False), tf.Variable(y, trainable=False)) for part, (x, y) in parts.items()}
    classes = first.kind == "classification"
    x_train, y_train = data["train"]

    def mean_loss(outputs: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        if classes:
            return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, outputs))
        return tf.reduce_mean(tf.square(outputs[:, 0] - y))

    def score(outputs: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        if classes:
            return tf.reduce_mean(tf.cast(tf.equal(tf.argmax(outputs, 1), y), tf.float64))
        return 1 - tf.reduce_sum(tf.square(outputs[:, 0] - y)) / tf.reduce_sum(tf.square(y - tf.reduce_mean(y)))

    def loss(rows: tf.Tensor) -> tf.Tensor:
        return mean_loss(model(tf.gather(x_train, rows)), tf.gather(y_train, rows))

    def measure() -> tf.Tensor:
        outputs = {part: (model(x.value()), y.value()) for part, (x, y) in data.items()}
        losses = [mean_loss(*pair) for pair in outputs.values()]
        return tf.stack(losses + [score(*pair) for pair in outputs.values()])

    def load(seed: int) -> None:
        task = _prepared(config.problem, config.n_qubits, seed)
        for part, (x, y) in data.items():
            x.assign(getattr(task, f"x_{part}"))
            y.assign(getattr(task, f"y_{part}"))
        for variable, value in zip(model.trainable_variables, initial_weights(model, seed), strict=True):
            variable.assign(value)

    def rows(seed: int, steps: int) -> np.ndarray:
        """Whole batches of one random order after another; what is left of an order is left out, as in `loop.batches`."""
        rng, size = np.random.default_rng(seed), config.batch_size
        per_order = len(first.x_train) // size
        orders = [rng.permutation(len(first.x_train))[: per_order * size] for _ in range(-(-steps // per_order))]
        return np.concatenate(orders).reshape(-1, size)[:steps]

    natural = None
    if config.model != "classical":
        spec = circuit_of(given)
        n, shape = spec.n_features, spec.weight_shape
        at = _weights_index(model.trainable_variables)
        state = _state_layer(
            config.n_qubits, lambda angles: spec.apply(angles[..., :n], qml.math.reshape(angles[..., n:], (-1, *shape)))
        )

        def natural(gradients: list[tf.Tensor], rows: tf.Tensor, damping: tf.Tensor) -> list[tf.Tensor]:
            features = tf.gather(x_train, rows[:METRIC_SAMPLES])
            metric = metric_tensor(state, features, tf.reshape(model.trainable_variables[at], (-1,)))
            changed = list(gradients)
            changed[at] = natural_gradient(gradients[at], metric, damping)
            return changed

    return Problem(list(model.trainable_variables), loss, measure, natural, load, rows)


# --------------------------------------------------------------------------------------------------------------- energies
def _gap_measures(gap: tf.Tensor, score: tf.Tensor) -> tf.Tensor:
    nothing = tf.constant(np.nan, tf.float64)  # an energy has no data, and so no test part
    return tf.stack([gap, gap, nothing, score, score, nothing])


def _no_rows(seed: int, steps: int) -> np.ndarray:
    return np.zeros((steps, 1), int)


def _hamiltonian(energy: Energy) -> qml.Hamiltonian:
    words = [qml.pauli.string_to_pauli_word(word) for _, word in energy.terms]
    return qml.Hamiltonian([coefficient for coefficient, _ in energy.terms], words)


def apply_mirrored(weights: Any, n_qubits: int, n_layers: int, entangled: bool) -> None:
    """Layers of rotations, a CNOT chain and rotations; the chain runs backward in every second layer.

    So every second layer can undo the one before it, which an identity start needs.

    Args:
        weights: shape (..., n_layers, 2, n_qubits, 3).
        n_qubits: wires.
        n_layers: layers.
        entangled: False leaves the chains out (the separable twin).
    """
    for layer in range(n_layers):
        pairs = [(wire, wire + 1) for wire in range(n_qubits - 1)]
        for half in range(2):
            for wire in range(n_qubits):
                qml.Rot(*(weights[..., layer, half, wire, k] for k in range(3)), wires=wire)
            if half == 0 and entangled:
                for pair in pairs if layer % 2 == 0 else reversed(pairs):
                    qml.CNOT(pair)


def start_weights(start: str, n_qubits: int, n_layers: int, seed: int) -> np.ndarray:
    """Weights of `apply_mirrored`, shape (n_layers, 2, n_qubits, 3), as one of `config.STARTS` begins.

    Raises:
        ConfigurationError: an identity start of an odd number of layers.
    """
    rng, shape = np.random.default_rng(seed), (n_layers, 2, n_qubits, 3)
    if start == "normal":
        return rng.normal(size=shape)
    if start == "small":
        return rng.normal(scale=0.1, size=shape)
    weights = rng.uniform(0, 2 * np.pi, shape)
    if start == "identity":
        if n_layers % 2:
            raise ConfigurationError(f"n_layers is {n_layers}, and an identity start needs pairs of layers.")
        # Rot(a, b, c) is undone by Rot(-c, -b, -a), and the halves of a layer by those of the next in reverse order.
        weights[1::2] = -weights[0::2, ::-1, :, ::-1]
    return weights


def _ising_problem(config: TrialConfig, energy: Energy) -> Problem:
    n, depth, entangled = energy.n_qubits, config.n_layers, config.model == "hybrid"
    shape = (depth, 2, n, 3)
    device = make_device("hybridbench.qubit", n)

    @qml.qnode(device, diff_method="adjoint", interface="tf")
    def circuit(inputs: Any, weights: Any) -> qml.measurements.ExpectationMP:
        apply_mirrored(weights, n, depth, entangled)
        return qml.expval(_hamiltonian(energy))

    layer = KerasLayer(circuit, {"weights": shape}, output_dim=1, dtype="float64")
    nothing = tf.zeros((1,), tf.float64)  # a sample of no meaning: the circuit reads no inputs
    layer(nothing)

    def value() -> tf.Tensor:
        return tf.reduce_sum(layer(nothing))

    state = _state_layer(n, lambda angles: apply_mirrored(qml.math.reshape(angles, (-1, *shape)), n, depth, entangled))

    def natural(gradients: list[tf.Tensor], rows: tf.Tensor, damping: tf.Tensor) -> list[tf.Tensor]:
        weights = tf.reshape(layer.trainable_variables[0], (-1,))
        return [natural_gradient(gradients[0], metric_tensor(state, tf.zeros((1, 0), tf.float64), weights), damping)]

    def load(seed: int) -> None:
        layer.trainable_variables[0].assign(start_weights(config.start, n, depth, seed))

    return Problem(
        list(layer.trainable_variables),
        lambda rows: value(),
        lambda: _gap_measures(value() - energy.lowest, value() / energy.lowest),
        natural,
        load,
        _no_rows,
    )


def _wave_function_problem(config: TrialConfig, energy: Energy) -> Problem:
    """A classical model of the ground state: log psi(s) = sum_h log cosh(w_h s + b_h) (Carleo, Troyer, Science 355, 602).

    The Ising chain has a ground state without signs, so a positive wave function can hold it; with 2^8 spin configurations
    the energy is a sum over all of them, and nothing is sampled.
    """
    n = energy.n_qubits
    n_weights = 2 * n * 3 * config.n_layers  # of the circuit it stands beside
    hidden = max(1, round(n_weights / (n + 1)))
    spins = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)[::-1]) & 1).astype(float)
    words = [qml.pauli.string_to_pauli_word(word) for _, word in energy.terms]
    matrix = sum(c * qml.matrix(word, wire_order=range(n)) for (c, _), word in zip(energy.terms, words, strict=True))
    hamiltonian, spins = tf.constant(matrix.real), tf.constant(spins)
    kernel = tf.Variable(tf.zeros((n, hidden), tf.float64), name="kernel")
    bias = tf.Variable(tf.zeros((hidden,), tf.float64), name="bias")

    def value() -> tf.Tensor:
        field = spins @ kernel + bias
        log_psi = tf.reduce_sum(tf.abs(field) + tf.nn.softplus(-2 * tf.abs(field)), axis=1)  # log cosh, but for a constant
        psi = tf.exp(log_psi - tf.reduce_max(log_psi))[:, None]
        return tf.reduce_sum(psi * (hamiltonian @ psi)) / tf.reduce_sum(tf.square(psi))

    def load(seed: int) -> None:
        rng = np.random.default_rng(seed)
        limit = np.sqrt(6 / (n + hidden))
        kernel.assign(rng.uniform(-limit, limit, (n, hidden)))
        bias.assign(np.zeros(hidden))

    return Problem(
        [kernel, bias],
        lambda rows: value(),
        lambda: _gap_measures(value() - energy.lowest, value() / energy.lowest),
        None,
        load,
        _no_rows,
    )


def _sets_problem(energy: Energy) -> Problem:
    """Energies of many parameter sets side by side: "basins" and "original"."""
    basins = energy.name == "basins"
    n_angles = energy.n_qubits // 2 if basins else energy.n_qubits
    original = CircuitSpec("none", "original", energy.n_qubits, 1)

    @qml.qnode(make_device("hybridbench.qubit", energy.n_qubits), diff_method="adjoint", interface="tf")
    def circuit(inputs: Any) -> qml.measurements.ExpectationMP:
        if basins:
            for pair in range(n_angles):
                qml.RY(inputs[..., pair], wires=2 * pair)
                qml.RY(3 * inputs[..., pair], wires=2 * pair + 1)
        else:
            original.apply(None, inputs[..., None, :])
        return qml.expval(_hamiltonian(energy))

    layer = KerasLayer(circuit, {}, output_dim=1, dtype="float64")
    angles = tf.Variable(tf.zeros((energy.n_sets, n_angles), tf.float64), name="angles")
    # The metric of these product states is the same everywhere: a quarter for each turned wire, times the frequency squared.
    metric = (1 + 9) / 4 if basins else 1 / 4

    def value() -> tf.Tensor:
        return tf.reduce_mean(layer(angles.value()))

    def measure() -> tf.Tensor:
        mean = value()
        from_optimum = tf.abs(angles - 2 * np.pi * tf.round(angles / (2 * np.pi)))
        inside = tf.reduce_mean(tf.cast(from_optimum < basin_edge(), tf.float64))
        return _gap_measures(mean - energy.lowest, inside if basins else mean / energy.lowest)

    def load(seed: int) -> None:
        rng = np.random.default_rng(seed)
        drawn = rng.uniform(-np.pi, np.pi, angles.shape) if basins else rng.normal(size=angles.shape)
        angles.assign(drawn)

    def natural(gradients: list[tf.Tensor], rows: tf.Tensor, damping: tf.Tensor) -> list[tf.Tensor]:
        return [gradients[0] / (metric + damping)]

    return Problem([angles], lambda rows: value(), measure, natural, load, _no_rows)
