"""What hybridbench.qubit cannot do it refuses with an error of PennyLane that says what to do; copies of it work."""

import importlib

import numpy as np
import pennylane as qml
import pytest
from pennylane import numpy as pnp

import hybridbench  # noqa: F401  (switches TensorFlow to Keras 2)

tf = importlib.import_module("tensorflow")


def device(**options):
    return qml.device("hybridbench.qubit", **{"wires": 2, **options})


def trained_observable(coefficients):
    qml.RX(0.3, 0)
    return qml.expval(qml.Hamiltonian(coefficients, [qml.Z(0), qml.Y(0)]))


WANTED = [np.cos(0.3), -np.sin(0.3)]  #: gradient of `trained_observable`


def autograd_gradient(qnode):
    return qml.grad(qnode)(pnp.array([0.4, 1.2], requires_grad=True))


def tf_gradient(qnode):
    coefficients = tf.Variable([0.4, 1.2], dtype=tf.float64)
    with tf.GradientTape() as tape:
        value = qnode(coefficients)
    return tape.gradient(value, coefficients, unconnected_gradients="zero").numpy()


# --- parameters of observables ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gradient", [autograd_gradient, tf_gradient])
def test_trained_observables_are_refused_by_backprop_and_right_by_best(gradient):
    with pytest.raises(qml.QuantumFunctionError, match=r"does not reach the parameters of observables.*parameter-shift"):
        gradient(qml.QNode(trained_observable, device(), diff_method="backprop"))
    for method in ("best", "parameter-shift"):
        np.testing.assert_allclose(gradient(qml.QNode(trained_observable, device(), diff_method=method)), WANTED, atol=1e-9)
    with pytest.warns(UserWarning, match="not supported with the adjoint"):
        found = gradient(qml.QNode(trained_observable, device(), diff_method="adjoint"))
    np.testing.assert_array_equal(found, [0, 0])


@pytest.mark.parametrize("method", ["best", "backprop"])
def test_constant_observables_still_train_the_gates(method):
    @qml.qnode(device(), diff_method=method)
    def circuit(angle):
        qml.RX(angle, 0)
        return qml.expval(qml.Hamiltonian(pnp.array([0.4, 1.2], requires_grad=False), [qml.Z(0), qml.Y(0)]))

    wanted = -0.4 * np.sin(0.3) - 1.2 * np.cos(0.3)
    np.testing.assert_allclose(qml.grad(circuit)(pnp.array(0.3, requires_grad=True)), wanted, atol=1e-9)


def test_observables_that_are_not_known_in_a_graph_are_refused():
    @tf.function(autograph=False)
    def graph(coefficient):
        @qml.qnode(device(), interface="tf")
        def circuit(c):
            qml.RX(0.3, 0)
            return qml.expval(c * qml.Z(0))

        return circuit(coefficient)

    with pytest.raises(qml.DeviceError, match=r"observable.*not known.*constants.*default.qubit"):
        graph(tf.constant(0.4, tf.float64))
