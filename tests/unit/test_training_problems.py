"""Problems: every one builds, its loss and gradients are those of other code, and its metric is the circuit's."""

from functools import cache, reduce

import numpy as np
import pennylane as qml
import pytest
from pennylane import numpy as pnp
from scipy.optimize import minimize

from hybridbench import tasks
from hybridbench.circuits.spec import CircuitSpec
from hybridbench.errors import ConfigurationError
from hybridbench.tasks.energies import BASIN_WEIGHT, ENERGIES, basin_edge
from hybridbench.training import loop, models, problems, study
from hybridbench.training.config import STARTS, TrainingConfig, TrialConfig
from hybridbench.training.optimizers import tf
from hybridbench.training.trial import run_trial

ALL = [(problem, model) for problem in study.PROBLEMS for model in study.models_of(problem)]
DATA = [name for name in study.PROBLEMS if name not in ENERGIES]
DEAD = 1e-10  #: gradients below are rounding errors


@cache
def built(problem, model="hybrid"):
    return problems.build(TrialConfig(problem, model, **study.size_of(problem)))


def batch(problem, seed=0):
    return tf.constant(problem.rows(seed, 1)[0], tf.int64)


def loss_and_gradients(problem, rows):
    with tf.GradientTape() as tape:
        loss = problem.loss(rows)
    return float(loss), [gradient.numpy() for gradient in tape.gradient(loss, problem.variables)]


def set_at_random(problem, seed):
    rng = np.random.default_rng(seed)
    for variable in problem.variables:
        angles = "weights" in variable.name or "angles" in variable.name
        variable.assign(rng.uniform(0, 2 * np.pi, variable.shape) if angles else rng.normal(size=variable.shape))


# ------------------------------------------------------------------------------------------------------------ all of them
@pytest.mark.parametrize(("problem", "model"), ALL)
def test_every_problem_builds_and_measures_itself(problem, model):
    made = built(problem, model)
    made.load(3)
    loss, gradients = loss_and_gradients(made, batch(made, 3))
    assert np.isfinite(loss)
    assert made.n_parameters == sum(gradient.size for gradient in gradients)
    assert all(variable.dtype == tf.float64 for variable in made.variables)
    measures = dict(zip(problems.MEASURES, made.measure().numpy(), strict=True))
    if problem in ENERGIES:
        assert measures["train_loss"] == measures["val_loss"] >= 0
        assert measures["train_score"] == measures["val_score"] <= 1
        assert np.isnan([measures["test_loss"], measures["test_score"]]).all()
        assert measures["train_loss"] == pytest.approx(loss - ENERGIES[problem].lowest, abs=1e-9)
    else:
        assert np.isfinite(list(measures.values())).all()


@pytest.mark.parametrize(("problem", "model"), ALL)
def test_a_seed_decides_where_a_problem_starts(problem, model):
    made = built(problem, model)
    found = {}
    for seed in (0, 1, 0):
        made.load(seed)
        loss = loss_and_gradients(made, batch(made, seed))[0]
        assert found.setdefault(seed, loss) == loss
    assert found[0] != found[1]


def test_the_models_of_a_problem_have_about_as_many_parameters():
    for problem in study.PROBLEMS:
        counts = {model: built(problem, model).n_parameters for model in study.models_of(problem)}
        assert counts.get("separable", counts["hybrid"]) == counts["hybrid"]
        assert counts.get("classical", counts["hybrid"]) == pytest.approx(counts["hybrid"], rel=0.08)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"problem": "tfimm"}, "Unknown problem 'tfimm'. Did you mean 'tfim'"),
        ({"problem": "wines"}, "Did you mean 'wine'"),
        ({"problem": "tfim", "n_qubits": 6}, "n_qubits is 6, and has to be 8 for energy 'tfim'"),
        ({"problem": "tfim", "batch_size": 32}, "batch_size is 32, and has to be 1"),
        ({"problem": "basins", "n_layers": 2}, "n_layers is 2, and has to be 1"),
        ({"problem": "basins", "model": "separable"}, "has the hybrid model only"),
        ({"problem": "wine", "start": "small"}, "start is 'small', and only circuits of problem 'tfim'"),
        ({"problem": "tfim", "model": "classical", "start": "small"}, "start is 'small'"),
        ({"problem": "wine", "batch_size": 500}, "training part of wine has 106"),
    ],
)
def test_what_a_problem_does_not_have_is_named(change, message):
    size = study.size_of(change["problem"])
    with pytest.raises(ConfigurationError, match=message):
        problems.build(TrialConfig(**{**size, **change}))


def test_a_problem_leaves_keras_in_double_precision():
    """Keras makes learning rates in its current type, whatever the model's: 0.1 would be 0.100000001."""
    tf.keras.backend.set_floatx("float32")
    problems.build(TrialConfig("basins", **study.size_of("basins")))
    assert tf.keras.backend.floatx() == "float64"


# --------------------------------------------------------------------------------------------------------------- liveness
def dead_parameters(problem, seeds=(0, 1, 2)):
    """Masks by variable: the gradient is zero at random points of several seeds."""
    largest = [np.zeros(variable.shape) for variable in problem.variables]
    for seed in seeds:
        problem.load(seed)
        set_at_random(problem, 100 + seed)
        gradients = loss_and_gradients(problem, batch(problem, seed))[1]
        largest = [np.maximum(most, np.abs(gradient)) for most, gradient in zip(largest, gradients, strict=True)]
    return [most < DEAD for most in largest]


@pytest.mark.parametrize(("problem", "model"), ALL)
def test_every_parameter_is_live_but_those_that_cannot_be(problem, model):
    """Dead are RZ right before a measurement of Z (the data circuits: 6 of 36), RZ on |0> (the Ising circuits: 8 of 144),
    and seven of the eight angles of each set of the original objective, which is why it is a counter-example."""
    made = built(problem, model)
    dead = dead_parameters(made)
    expected = [np.zeros(variable.shape, bool) for variable in made.variables]
    if problem == "original":
        expected[0][:] = np.arange(8) != 1
    elif problem == "tfim" and model != "classical":
        expected[0][0, 0, :, 0] = True
    elif problem in DATA and model != "classical":
        expected[0][-1, :, 2] = True
    for found, wanted in zip(dead, expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_the_wave_functions_biases_begin_where_their_gradient_is_zero():
    """By symmetry: the chain does not change when all spins are flipped, nor does the model while its biases are 0."""
    made = built("tfim", "classical")
    made.load(0)
    kernel, bias = loss_and_gradients(made, batch(made))[1]
    assert np.abs(bias).max() < DEAD < np.abs(kernel).min()


# ----------------------------------------------------------------------------------------------------------------- metric
def difference_metric(state, weights, step=0.01):
    """Fubini-Study metric by its definition, derivatives of states by differences of fourth order.

    state: (rows, weights) → (rows, 2^n).
    """
    n = len(weights)
    moved = {k: state(weights + k * step * np.eye(n)) for k in (-2, -1, 1, 2)}
    slopes = (moved[-2] - moved[2] + 8 * (moved[1] - moved[-1])) / (12 * step)
    here = state(weights[None])[0]
    along = slopes @ here.conj()
    return (slopes @ slopes.conj().T - np.outer(along, along.conj())).real


def default_state(n_qubits, apply):
    @qml.qnode(qml.device("default.qubit", wires=n_qubits))
    def circuit(weights):
        apply(weights)
        return qml.state()

    return lambda weights: np.reshape(circuit(weights), (len(weights), -1))


def pennylane_metric(n_qubits, apply, weights):
    @qml.qnode(qml.device("default.qubit", wires=n_qubits + 1))  # one more for Hadamard tests
    def circuit(weights):
        apply(weights)
        return qml.expval(qml.Z(0))

    metric = qml.metric_tensor(circuit, approx=None)(pnp.array(weights, requires_grad=True))
    return np.reshape(metric, (np.size(weights), np.size(weights)))


@pytest.mark.parametrize("entangled", [True, False])
def test_the_metric_tensor_is_pennylanes(entangled):
    """Of the Ising circuit, and of the data circuit averaged over two samples; on two qubits, to last seconds."""
    rng = np.random.default_rng(1)
    shape = (2, 2, 2, 3)
    weights = rng.uniform(0, 2 * np.pi, shape)
    state = problems._state_layer(
        2, lambda angles: problems.apply_mirrored(qml.math.reshape(angles, (-1, *shape)), 2, 2, entangled)
    )
    found = problems.metric_tensor(state, tf.zeros((1, 0), tf.float64), tf.constant(weights.ravel())).numpy()
    expected = pennylane_metric(2, lambda w: problems.apply_mirrored(w, 2, 2, entangled), weights)
    np.testing.assert_allclose(found, expected, atol=1e-8)

    spec = CircuitSpec("angle", "strongly_entangling", 2, 2, entangled=entangled)
    samples, weights = rng.uniform(-1.5, 1.5, (2, 2)), rng.uniform(0, 2 * np.pi, spec.weight_shape)
    state = problems._state_layer(
        2, lambda angles: spec.apply(angles[..., :2], qml.math.reshape(angles[..., 2:], (-1, *spec.weight_shape)))
    )
    found = problems.metric_tensor(state, tf.constant(samples), tf.constant(weights.ravel())).numpy()
    expected = [pennylane_metric(2, lambda w, x=x: spec.apply(x, w), weights) for x in samples]
    np.testing.assert_allclose(found, np.mean(expected, axis=0), atol=1e-8)
    assert np.abs(expected[0] - expected[1]).max() > 1e-3


@pytest.mark.parametrize("model", ["hybrid", "separable"])
def test_the_natural_gradient_of_the_data_circuits_is_damped_by_the_mean_metric_of_eight_samples(model):
    made = built("wine", model)
    made.load(4)
    rows = batch(made, 4)
    _, gradients = loss_and_gradients(made, rows)
    found = [g.numpy() for g in made.natural([tf.constant(g) for g in gradients], rows, tf.constant(0.03, tf.float64))]
    spec = CircuitSpec("angle", "strongly_entangling", 6, 2, entangled=model == "hybrid")
    x = tasks.prepare("wine", 6, 4).x_train[rows.numpy()[:8]]
    metrics = [
        difference_metric(
            default_state(6, lambda w, one=one: spec.apply(one, np.reshape(w, (-1, *spec.weight_shape)))),
            made.variables[0].numpy().ravel(),
        )
        for one in x
    ]
    damped = np.mean(metrics, axis=0) + 0.03 * np.eye(36)
    expected = np.linalg.solve(damped, gradients[0].ravel()).reshape(gradients[0].shape)
    np.testing.assert_allclose(found[0], expected, atol=1e-8)
    for left, given in zip(found[1:], gradients[1:], strict=True):
        np.testing.assert_array_equal(left, given)


@pytest.mark.parametrize("model", ["hybrid", "separable"])
def test_the_natural_gradient_of_the_ising_circuit_is_damped_by_its_metric(model):
    made = built("tfim", model)
    made.load(2)
    _, (gradient,) = loss_and_gradients(made, batch(made))
    (found,) = made.natural([tf.constant(gradient)], batch(made), tf.constant(0.1, tf.float64))
    state = default_state(8, lambda w: problems.apply_mirrored(np.reshape(w, (-1, 3, 2, 8, 3)), 8, 3, model == "hybrid"))
    damped = difference_metric(state, made.variables[0].numpy().ravel()) + 0.1 * np.eye(144)
    np.testing.assert_allclose(found.numpy().ravel(), np.linalg.solve(damped, gradient.ravel()), atol=1e-8)


@pytest.mark.parametrize(("problem", "closed"), [("basins", (1 + 9) / 4), ("original", 1 / 4)])
def test_the_metric_of_a_product_state_is_the_same_number_everywhere(problem, closed):
    spec = CircuitSpec("none", "original", 3, 1)

    def apply(angles):
        if problem == "basins":
            for pair in range(2):
                qml.RY(angles[..., pair], wires=2 * pair)
                qml.RY(3 * angles[..., pair], wires=2 * pair + 1)
        else:
            spec.apply(None, angles[..., None, :])

    n_qubits, angles = (4, np.array([0.4, -2.0])) if problem == "basins" else (3, np.array([0.4, -2.0, 1.1]))
    metric = difference_metric(default_state(n_qubits, apply), angles)
    np.testing.assert_allclose(metric, closed * np.eye(len(angles)), atol=1e-8)
    made = built(problem)
    made.load(0)
    _, (gradient,) = loss_and_gradients(made, batch(made))
    (found,) = made.natural([tf.constant(gradient)], batch(made), tf.constant(0.2, tf.float64))
    np.testing.assert_allclose(found.numpy(), gradient / (closed + 0.2), atol=1e-15)


@pytest.mark.parametrize("entry", [np.nan, np.inf, 1e300, 1e30])
def test_a_natural_gradient_by_what_is_no_metric_any_more_is_no_error(entry):
    """TensorFlow raises where it cannot solve, and would stop the study for one run that diverges."""
    gradient, damping = tf.constant([np.nan, 1.0], tf.float64), tf.constant(0.1, tf.float64)
    found = problems.natural_gradient(gradient, tf.constant(np.array([[entry, 0.1], [0.1, entry]])), damping).numpy()
    assert np.isnan(found[0])
    found = problems.natural_gradient(gradient[1:], tf.constant([[entry]], tf.float64), damping).numpy()
    assert found == pytest.approx([10.0])


# ------------------------------------------------------------------------------------------------------------- data tasks
@pytest.mark.parametrize("model", ["hybrid", "separable", "classical"])
@pytest.mark.parametrize("task", ["wine", "diabetes"])
def test_a_data_problem_is_pennylanes_layer_in_a_keras_model(task, model):
    """Loss and gradients of a batch, and all measures, by default.qubit, Keras's losses and the training loop's scores."""
    made = built(task, model)
    made.load(5)
    data = tasks.prepare(task, 6, 5)
    given = TrainingConfig(task, model, n_qubits=6, n_layers=2, backend="default.qubit", diff_method="backprop")
    other = models.build_model(given, data, graph=False)
    other.set_weights(models.initial_weights(other, 5))
    function = loop.loss_of(data)
    rows = batch(made, 5)
    x, y = data.x_train[rows.numpy()], data.y_train[rows.numpy()]
    with tf.GradientTape() as tape:
        loss = function(tf.constant(y), other(tf.constant(x)))
    expected = tape.gradient(loss, other.trainable_variables)
    found, gradients = loss_and_gradients(made, rows)
    assert found == pytest.approx(float(loss), abs=1e-10)
    for one, another in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(one, another.numpy(), atol=1e-10)
    measures = dict(zip(problems.MEASURES, made.measure().numpy(), strict=True))
    for part in ("train", "val", "test"):
        x, y = getattr(data, f"x_{part}"), getattr(data, f"y_{part}")
        outputs = other(tf.constant(x)).numpy()
        assert measures[f"{part}_loss"] == pytest.approx(float(function(tf.constant(y), tf.constant(outputs))), abs=1e-10)
        assert measures[f"{part}_score"] == pytest.approx(loop.score(data, outputs, y), abs=1e-10)


def test_batches_are_those_of_the_training_loop():
    made, rng = built("wine"), np.random.default_rng(7)
    epochs = [index for _ in range(3) for index in loop.batches(106, 32, rng)]
    np.testing.assert_array_equal(made.rows(7, 8), epochs[:8])


# --------------------------------------------------------------------------------------------------------------- energies
def product_state_energy(angles):
    """Of real product states: <Z> = cos a, <X> = sin a on each wire."""
    z, x = np.cos(angles), np.sin(angles)
    return -np.sum(z[1:] * z[:-1]) - np.sum(x)


def test_separable_ising_circuits_reach_the_mean_field_energy_and_no_more():
    rng = np.random.default_rng(0)
    best = min(minimize(product_state_energy, rng.uniform(0, np.pi, 8)).fun for _ in range(10))
    share = best / ENERGIES["tfim"].lowest
    assert share == pytest.approx(0.956, abs=5e-4)
    config = TrialConfig("tfim", "separable", "adam", 0.1, seeds=(0, 1, 2), **study.size_of("tfim"))
    reached = [row["val_score"] for row in run_trial(config) if row["step"] == 300]
    assert max(reached) == pytest.approx(share, abs=1e-4)
    assert max(reached) < share + 1e-9


def test_the_ising_circuits_energy_and_gradient_are_default_qubits():
    made = built("tfim")
    made.load(6)
    energy = ENERGIES["tfim"]

    @qml.qnode(qml.device("default.qubit", wires=8), diff_method="backprop", interface="tf")
    def circuit(weights):
        problems.apply_mirrored(weights, 8, 3, True)
        return qml.expval(problems._hamiltonian(energy))

    with tf.GradientTape() as tape:
        value = circuit(made.variables[0].value())
    (expected,) = tape.gradient(value, made.variables)
    found, (gradient,) = loss_and_gradients(made, batch(made))
    assert found == pytest.approx(float(value), abs=1e-10)
    np.testing.assert_allclose(gradient, tf.convert_to_tensor(expected).numpy(), atol=1e-10)


@pytest.mark.parametrize("n_layers", [2, 4, 8])
def test_an_identity_start_is_the_identity(n_layers):
    weights = problems.start_weights("identity", 4, n_layers, seed=3)
    state = default_state(4, lambda w: problems.apply_mirrored(w, 4, n_layers, True))(weights[None])[0]
    np.testing.assert_allclose(np.abs(state), np.eye(16)[0], atol=1e-12)
    moved = weights + 0.1 * np.eye(n_layers)[0][:, None, None, None]
    assert np.abs(default_state(4, lambda w: problems.apply_mirrored(w, 4, n_layers, True))(moved[None])[0, 0]) < 0.99


def test_an_identity_start_has_the_energy_of_spins_up_and_needs_pairs_of_layers():
    made = problems.build(TrialConfig("tfim", start="identity", n_qubits=8, n_layers=2, batch_size=1))
    for seed in (0, 1):
        made.load(seed)
        assert loss_and_gradients(made, batch(made))[0] == pytest.approx(-7, abs=1e-12)
    with pytest.raises(ConfigurationError, match="n_layers is 3, and an identity start needs pairs"):
        problems.start_weights("identity", 4, 3, 0)


def test_starts_are_drawn_as_they_say():
    drawn = {start: problems.start_weights(start, 8, 50, seed=1) for start in STARTS}
    assert {weights.shape for weights in drawn.values()} == {(50, 2, 8, 3)}
    assert drawn["normal"].std() == pytest.approx(1, abs=0.05)
    assert drawn["small"].std() == pytest.approx(0.1, abs=0.005)
    assert abs(drawn["normal"].mean()) < 0.1
    assert 0 <= drawn["uniform"].min() < 0.1
    assert 6.2 < drawn["uniform"].max() < 2 * np.pi
    np.testing.assert_array_equal(drawn["small"], problems.start_weights("small", 8, 50, seed=1))
    assert np.abs(drawn["small"] - problems.start_weights("small", 8, 50, seed=2)).max() > 0.1


def test_the_wave_functions_energy_is_that_of_its_formula():
    """psi(s) is a product of cosh; H = -sum s_i s_{i+1} - sum of flips; every term written out."""
    made = built("tfim", "classical")
    set_at_random(made, 8)
    kernel, bias = (variable.numpy() for variable in made.variables)
    spins = 1 - 2 * np.array([[int(bit) for bit in f"{number:08b}"] for number in range(256)])

    def psi(spin):
        return reduce(lambda product, h: product * np.cosh(spin @ kernel[:, h] + bias[h]), range(len(bias)), 1.0)

    total, norm = 0.0, 0.0
    for spin in spins:
        here = psi(spin)
        norm += here**2
        total -= here**2 * np.sum(spin[1:] * spin[:-1])
        for wire in range(8):
            flipped = spin.copy()
            flipped[wire] *= -1
            total -= here * psi(flipped)
    assert loss_and_gradients(made, batch(made))[0] == pytest.approx(total / norm, abs=1e-10)


def test_the_wave_function_holds_the_ground_state():
    config = TrialConfig("tfim", "classical", "adam", 0.03, **study.size_of("tfim"))
    assert run_trial(config)[-1]["val_score"] > 0.999


def test_the_basins_energy_and_share_are_those_of_the_curve():
    made = built("basins")
    made.load(9)
    angles = made.variables[0].numpy()
    assert angles.shape == (25, 4)
    curve = -(np.cos(angles) + BASIN_WEIGHT * np.cos(3 * angles))
    slope = (np.sin(angles) + 3 * BASIN_WEIGHT * np.sin(3 * angles)) / angles.size
    loss, (gradient,) = loss_and_gradients(made, batch(made))
    assert loss == pytest.approx(curve.mean(), abs=1e-12)
    np.testing.assert_allclose(gradient, slope, atol=1e-12)
    # Whole turns do not change where an angle is.
    made.variables[0].assign(angles + 2 * np.pi * np.random.default_rng(0).integers(-3, 4, angles.shape))
    assert made.measure().numpy()[4] == np.mean(np.abs(angles) < basin_edge())


def test_the_originals_energy_is_the_cosine_of_its_second_angles():
    made = built("original")
    made.load(9)
    angles = made.variables[0].numpy()
    assert angles.shape == (100, 8)
    loss, (gradient,) = loss_and_gradients(made, batch(made))
    assert loss == pytest.approx(-np.cos(angles[:, 1]).mean(), abs=1e-12)
    np.testing.assert_allclose(gradient[:, 1], np.sin(angles[:, 1]) / 100, atol=1e-12)
    assert made.measure().numpy()[4] == pytest.approx(-loss, abs=1e-12)
