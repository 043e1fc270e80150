"""KerasLayer as shipped and the one that can be traced give the same numbers."""

import numpy as np
import pytest

import hybridbench
from hybridbench.circuits.layer import KerasLayer, keras_layer, tf
from hybridbench.circuits.spec import CircuitSpec
from hybridbench.errors import ConfigurationError, MemoryEstimateError

SPEC = CircuitSpec("angle", "strongly_entangling", 3, 1)


@pytest.fixture(autouse=True)
def _float64():
    before = tf.keras.backend.floatx()
    tf.keras.backend.set_floatx("float64")
    yield
    tf.keras.backend.set_floatx(before)


def value_and_gradient(layer, x, weights, trace):
    layer.set_weights([weights])

    def both(x):
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(layer(x) ** 2)
        return total, tape.gradient(total, layer.trainable_variables[0])

    return [part.numpy() for part in (tf.function(both) if trace else both)(x)]


def test_the_traced_layer_equals_the_shipped_one():
    rng = np.random.default_rng(0)
    x, weights = tf.constant(rng.uniform(-1, 1, (4, 3))), rng.uniform(0, 6, SPEC.weight_shape)
    shipped = value_and_gradient(keras_layer(SPEC), x, weights, trace=False)
    traced = value_and_gradient(keras_layer(SPEC, graph=True), x, weights, trace=True)
    lightning = value_and_gradient(keras_layer(SPEC, "lightning.qubit", "adjoint"), x, weights, trace=False)
    for other in (traced, lightning):
        np.testing.assert_allclose(other[0], shipped[0], atol=1e-12)
        np.testing.assert_allclose(other[1], shipped[1], atol=1e-12)


def test_fit_runs_as_a_graph_only_with_the_subclass():
    for graph in (False, True):
        model = tf.keras.Sequential([keras_layer(SPEC, graph=graph), tf.keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        history = model.fit(np.zeros((4, 3)), np.ones(4), batch_size=2, verbose=0)
        assert np.isfinite(history.history["loss"][0])
        assert model.run_eagerly is not graph


def test_the_package_offers_the_layer():
    assert hybridbench.KerasLayer is KerasLayer
    with pytest.raises(AttributeError, match="no attribute 'KerasLaye'"):
        hybridbench.KerasLaye  # noqa: B018


def test_what_cannot_be_done_is_said():
    with pytest.raises(ConfigurationError, match=r"does not work on lightning.qubit; it has adjoint"):
        keras_layer(SPEC, "lightning.qubit", "backprop")
    with pytest.raises(ConfigurationError, match="'adjoint' cannot be traced"):
        keras_layer(SPEC, "lightning.qubit", "adjoint", graph=True)
    with pytest.raises(MemoryEstimateError, match="batch 1000, with backprop"):
        keras_layer(CircuitSpec("angle", "strongly_entangling", 26, 4), batch_size=1000)
