"""QNodes under TensorFlow: every embedding, simulator and gradient method gives the same numbers."""

import importlib
import logging

import numpy as np
import pennylane as qml
import pytest

from hybridbench.circuits.qnode import build_qnode, original_circuit
from hybridbench.circuits.spec import CircuitSpec
from hybridbench.errors import BackendError

tf = importlib.import_module("tensorflow")  # after hybridbench, which switches it to Keras 2

METHODS = [("default.qubit", "backprop"), ("default.qubit", "adjoint"), ("lightning.qubit", "adjoint")]
EMBEDDED = ["angle", "reuploading", "amplitude"]


def run(spec, backend, diff_method, n_features=None, watch=False):
    rng = np.random.default_rng(3)
    x = tf.constant(rng.normal(size=(4, n_features or spec.n_features)))
    w = tf.Variable(rng.normal(size=spec.weight_shape))
    circuit = build_qnode(spec, qml.device(backend, wires=spec.n_qubits), diff_method)
    with tf.GradientTape() as tape:
        if watch:
            tape.watch(x)
        values = tf.stack(circuit(x, w))
        loss = tf.reduce_sum(values**2)
    gradients = tape.gradient(loss, [w, x] if watch else [w])
    return values.numpy(), [g.numpy() for g in gradients]


@pytest.mark.parametrize("embedding", EMBEDDED)
@pytest.mark.parametrize("ansatz", ["original", "strongly_entangling"])
def test_methods_agree_on_values_and_gradients(embedding, ansatz):
    spec = CircuitSpec(embedding, ansatz, 3, 2)
    watch = embedding != "amplitude"
    values, gradients = run(spec, *METHODS[0], watch=watch)
    assert values.shape == (3, 4)
    for method in METHODS[1:]:
        others, other_gradients = run(spec, *method, watch=watch)
        np.testing.assert_allclose(others, values, atol=1e-10)
        for mine, theirs in zip(gradients, other_gradients, strict=True):
            np.testing.assert_allclose(theirs, mine, atol=1e-10)


def test_amplitude_takes_fewer_features_and_differentiates_them_with_backprop():
    values, gradients = run(CircuitSpec("amplitude", "original", 3, 1), *METHODS[0], n_features=5, watch=True)
    assert values.shape == (3, 4)
    assert gradients[1].shape == (4, 5)
    assert np.abs(gradients[1]).max() > 1e-3


@pytest.mark.parametrize("method", [*METHODS[1:], ("default.qubit", "parameter-shift")])
def test_amplitude_says_which_gradient_it_lacks(method):
    with pytest.raises(BackendError, match=r"'amplitude' has no gradient with respect to its inputs.*backprop"):
        run(CircuitSpec("amplitude", "original", 2, 1), *method, watch=True)


def test_a_graph_of_unknown_batch_size_is_traced():
    spec = CircuitSpec("reuploading", "hardware_efficient", 2, 2)
    circuit = build_qnode(spec, qml.device("default.qubit", wires=2), "backprop")
    w = tf.Variable(np.ones(spec.weight_shape))
    signature = [tf.TensorSpec((None, 2), tf.float64)]
    graph = tf.function(lambda x: tf.stack(circuit(x, w)), autograph=False, input_signature=signature)
    x = tf.constant(np.linspace(-1, 1, 6).reshape(3, 2))
    np.testing.assert_allclose(graph(x), tf.stack(circuit(x, w)), atol=1e-12)


def test_the_first_argument_has_the_name_that_keras_layer_looks_for():
    spec = CircuitSpec("angle", "original", 2, 1)
    circuit = build_qnode(spec, qml.device("default.qubit", wires=2), "backprop")
    layer = qml.qnn.KerasLayer(circuit, spec.weight_shapes, output_dim=2)
    assert layer(tf.zeros((5, 2))).shape == (5, 2)


def test_only_the_cast_notice_is_silenced():
    heard = []
    logger = logging.getLogger("tensorflow")
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())
    logger.addHandler(handler)
    try:
        run(CircuitSpec("angle", "original", 2, 1), *METHODS[0])
        assert heard == []
        logger.warning("something else")
        assert heard == ["something else"]
    finally:
        logger.removeHandler(handler)


@pytest.mark.parametrize(("backend", "diff_method"), METHODS)
def test_the_original_energy_is_the_cosine_of_its_second_angle(backend, diff_method):
    energy = original_circuit(8, qml.device(backend, wires=8), diff_method)
    theta = np.random.default_rng(0).normal(size=(20, 8))
    np.testing.assert_allclose(energy(theta), np.cos(theta[:, 1]), atol=1e-12)
    assert np.abs(energy(theta) - np.cos(theta[:, 0])).max() > 0.1


def test_the_original_gradient_lives_in_one_place():
    theta = tf.Variable(np.random.default_rng(1).normal(size=(6, 8)))
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(original_circuit(8, interface="tf")(theta))
    gradient = tape.gradient(loss, theta).numpy()
    np.testing.assert_allclose(gradient[:, 1], np.sin(theta.numpy()[:, 1]) / 6, atol=1e-12)
    np.testing.assert_allclose(np.delete(gradient, 1, axis=1), 0.0, atol=1e-12)
