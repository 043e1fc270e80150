"""What hybridbench.qubit cannot do it refuses with an error of PennyLane that says what to do; copies of it work."""

import copy
import importlib
import pickle

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


# --- what is not known while a graph is traced -----------------------------------------------------------------------------

FLIP = np.array([[0.0, 1.0], [1.0, 0.0]])
CNOT = np.eye(4)[[0, 1, 3, 2]]
GATES = {  #: a number, and a gate of it
    "matrix": (FLIP + 0j, lambda m: qml.QubitUnitary(m, 0)),
    "real matrix": (FLIP, lambda m: qml.QubitUnitary(m, 0)),
    "adjoint": (FLIP + 0j, lambda m: qml.adjoint(qml.QubitUnitary(m, 0))),
    "controlled": (FLIP + 0j, lambda m: qml.ctrl(qml.QubitUnitary(m, 1), 0)),
    "diagonal": (np.array([1, -1j]), lambda m: qml.DiagonalQubitUnitary(m, 0)),
    "product": (FLIP + 0j, lambda m: qml.prod(qml.QubitUnitary(m, 0), qml.RY(0.3, 0))),
    "two qubits": (CNOT + 0j, lambda m: qml.QubitUnitary(m, [0, 1])),
}

#: What PennyLane itself cannot write as gates while a graph is traced.
REFUSED = {("controlled", "constant"), *((name, "argument") for name in ("controlled", "diagonal", "two qubits"))}


@pytest.mark.parametrize("road", ["constant", "argument"])
@pytest.mark.parametrize("name", GATES)
def test_constant_matrices_in_a_graph(name, road):
    number, gate = GATES[name]

    def circuit(angle, matrix=None):
        qml.RX(angle, 0)
        gate(tf.constant(number) if matrix is None else matrix)
        qml.RY(0.2, 0)
        return qml.expval(qml.Z(0) @ qml.Y(1)), qml.probs(wires=[0, 1])

    angle = tf.constant(0.4, tf.float64)
    wanted = qml.QNode(circuit, qml.device("default.qubit", wires=2), interface="tf")(angle)
    graph = tf.function(qml.QNode(circuit, device(), interface="tf"), autograph=False)
    given = (angle,) if road == "constant" else (angle, tf.constant(number))
    if (name, road) in REFUSED:
        with pytest.raises(qml.DeviceError, match=r"default\.qubit\. Writing it as simpler gates raises"):
            graph(*given)
        return
    for mine, theirs in zip(graph(*given), wanted, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-9)


@pytest.mark.parametrize("verify", ["first", "never"])
def test_what_the_engine_cannot_run_is_a_device_error_on_every_road(verify):
    tape = qml.tape.QuantumScript([qml.IQPEmbedding(np.ones(2), range(2))], [qml.expval(qml.Z(0))])
    dev = device(verify=verify)  # called without what PennyLane does to a circuit before
    for call in (dev.execute, dev.compute_derivatives, lambda tapes: dev.compute_vjp(tapes, (1.0,))):
        with pytest.raises(qml.DeviceError, match="cannot run IQPEmbedding"):
            call((tape,))


# --- copies ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda d: pickle.loads(pickle.dumps(d))])
def test_a_copy_gives_the_same_numbers_and_shares_nothing_that_is_compiled(copied):
    def circuit(angle):
        qml.RX(angle, "a")
        return qml.expval(qml.Z("a"))

    def sample(d):
        return qml.QNode(lambda: (qml.Hadamard("a"), qml.sample(wires="a"))[1], d)(shots=20)

    first = device(wires=["a"], c_dtype=np.complex64, seed=3)
    angle = pnp.array(0.4, requires_grad=True)
    wanted = qml.grad(qml.QNode(circuit, first))(angle)
    second = copied(first)
    assert (second.c_dtype, second.wires, len(first._plans), len(second._plans)) == (np.complex64, first.wires, 1, 0)
    assert qml.grad(qml.QNode(circuit, second))(angle) == wanted
    np.testing.assert_array_equal(sample(copied(first)), sample(copied(first)))


# --- postselection ---------------------------------------------------------------------------------------------------------


def test_postselection_names_the_device_that_can():
    @qml.qnode(device(wires=3))
    def circuit(angle):
        qml.RX(angle, 0)
        qml.CNOT([0, 1])
        qml.measure(0, postselect=1)
        return qml.expval(qml.Z(1))

    for _ in range(2):
        with pytest.raises(qml.DeviceError, match=r"Postselection is not available on hybridbench\.qubit.*default\.qubit"):
            circuit(0.3)


def test_observables_take_constants_of_a_graph():
    @tf.function(autograph=False)
    @qml.qnode(device(), interface="tf")
    def circuit(angle):
        qml.RX(angle, 0)
        return qml.expval(tf.constant(0.4, tf.float64) * qml.Z(0))

    np.testing.assert_allclose(circuit(tf.constant(0.3, tf.float64)), 0.4 * np.cos(0.3), atol=1e-9)
