"""Optimizers: every one learns, fused Adam is Adam, and NAdam is right in graph mode."""

import numpy as np
import pytest

from hybridbench.errors import ConfigurationError
from hybridbench.report.style import family
from hybridbench.training.optimizers import OPTIMIZERS, FusedAdam, Nadam, make_optimizer, tf

START = [np.array([[0.5, -1.5, 2.0], [1.0, 0.3, -0.7]]), np.array([0.2, -0.4])]


@pytest.fixture(autouse=True)
def _float64():
    before = tf.keras.backend.floatx()
    tf.keras.backend.set_floatx("float64")
    yield
    tf.keras.backend.set_floatx(before)


def trajectory(optimizer, graph=True, steps=60):
    variables = [tf.Variable(value) for value in START]
    optimizer.build(variables)

    def step():
        gradients = [2 * tf.sin(variable) + 0.1 * variable for variable in variables]
        optimizer.apply_gradients(zip(gradients, variables, strict=True))

    step = tf.function(step) if graph else step
    path = []
    for _ in range(steps):
        step()
        path.append(np.concatenate([variable.numpy().ravel() for variable in variables]))
    return np.array(path)


def objective(point):
    return float(np.sum(-2 * np.cos(point) + 0.05 * point**2))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_goes_downhill(name):
    path = trajectory(make_optimizer(name, 0.05))
    start = np.concatenate([value.ravel() for value in START])
    assert objective(path[-1]) < objective(start) - 0.1


@pytest.mark.parametrize("rate", [1e-4, 0.01, 0.5])
def test_fused_adam_follows_adam(rate):
    fused, adam = trajectory(FusedAdam(rate)), trajectory(make_optimizer("adam", rate))
    np.testing.assert_allclose(fused, adam, atol=1e-12, rtol=0)


def test_fused_adam_is_not_trivially_equal():
    """The comparison above can fail: another epsilon already shows."""
    other = trajectory(FusedAdam(0.01, epsilon=1e-3))
    assert np.abs(other - trajectory(make_optimizer("adam", 0.01))).max() > 1e-6


def test_nadam_is_the_same_traced_and_eager_and_equals_keras_where_keras_is_right():
    eager = trajectory(tf.keras.optimizers.Nadam(0.05), graph=False)
    np.testing.assert_allclose(trajectory(Nadam(0.05)), eager, atol=1e-12, rtol=0)
    np.testing.assert_allclose(trajectory(Nadam(0.05), graph=False), eager, atol=1e-12, rtol=0)


def test_keras_own_nadam_still_differs_when_traced():
    """Once this fails, Keras has mended its counter and our subclass can go."""
    eager, traced = (trajectory(tf.keras.optimizers.Nadam(0.05), graph) for graph in (False, True))
    assert np.abs(eager - traced).max() > 1e-6


def test_an_unknown_optimizer_names_the_nearest():
    with pytest.raises(ConfigurationError, match="Did you mean 'adam"):
        make_optimizer("adan", 0.1)


def test_every_optimizer_has_its_colour_marker_and_dash():
    assert set(OPTIMIZERS) <= set(family("optimizer"))
