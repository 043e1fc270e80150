"""What hybridbench.qubit cannot do it refuses with an error of PennyLane that says what to do; copies of it work."""

import copy
import importlib
import pickle

import numpy as np
import pennylane as qml
import pytest
import scipy.sparse
from pennylane import numpy as pnp

import hybridbench  # switches TensorFlow to Keras 2
from hybridbench.engine import verification

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


# --- JAX -------------------------------------------------------------------------------------------------------------------


@pytest.fixture(name="jax")
def jax_in_double_precision():
    jax = pytest.importorskip("jax")
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield jax
    jax.config.update("jax_enable_x64", before)


def gates(angle, weights):
    qml.RX(angle, 0)
    qml.RY(weights[0], 0)
    qml.CRX(weights[1] * angle, [0, 1])


def with_expval(angle, weights):
    gates(angle, weights)
    return qml.expval(qml.Z(0) @ qml.Y(1) + qml.Z(0))


def with_probs(angle, weights):
    gates(angle, weights)
    return qml.expval(qml.Y(1)), qml.probs(wires=[0, 1])


def with_state(angle, weights):
    gates(angle, weights)
    return qml.state()


def summed(jax, qnode):
    """A real number of everything that a circuit returns."""

    def total(*arguments):
        found = jax.tree_util.tree_leaves(qnode(*arguments))
        return sum(jax.numpy.sum(jax.numpy.cos(jax.numpy.arange(v.size).reshape(v.shape)) * (v**2).real) for v in found)

    return total


ROADS = {
    "values": lambda jax, q, t, w: q(t, w),
    "jit": lambda jax, q, t, w: jax.jit(q)(t, w),
    "grad": lambda jax, q, t, w: jax.grad(summed(jax, q), argnums=(0, 1))(t, w),
    "grad of a Python float": lambda jax, q, t, w: jax.grad(summed(jax, q))(0.3, w),
    "jit of grad": lambda jax, q, t, w: jax.jit(jax.grad(summed(jax, q), argnums=(0, 1)))(t, w),
    "vmap": lambda jax, q, t, w: jax.vmap(q, in_axes=(0, None))(jax.numpy.stack([t, 2 * t, -t]), w),
    "vmap of vmap": lambda jax, q, t, w: jax.vmap(jax.vmap(q, in_axes=(0, None)), in_axes=(None, 0))(
        jax.numpy.stack([t, 2 * t, -t]), jax.numpy.stack([w, -w])
    ),
    "grad of vmap": lambda jax, q, t, w: jax.grad(
        lambda w: summed(jax, jax.vmap(q, in_axes=(0, None)))(jax.numpy.stack([t, 2 * t, -t]), w)
    )(w),
    "vmap of grad": lambda jax, q, t, w: jax.vmap(jax.grad(summed(jax, q), argnums=(0, 1)), in_axes=(0, None))(
        jax.numpy.stack([t, 2 * t, -t]), w
    ),
}


@pytest.mark.parametrize("name", ROADS)
@pytest.mark.parametrize("circuit", [with_expval, with_probs, with_state])
def test_jaxs_transforms(jax, name, circuit):
    angle, weights = jax.numpy.array(0.3), jax.numpy.array([0.4, -0.9])
    found, wanted = (
        jax.tree_util.tree_leaves(ROADS[name](jax, qml.QNode(circuit, d), angle, weights))
        for d in (device(), qml.device("default.qubit", wires=2))
    )
    assert len(found) == len(wanted)
    for mine, theirs in zip(found, wanted, strict=True):
        assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
        np.testing.assert_allclose(mine, theirs, atol=1e-9)


@pytest.mark.parametrize("method", ["best", "adjoint"])
@pytest.mark.parametrize("circuit", [with_expval, with_probs])
def test_jaxs_jacobian(jax, circuit, method):
    weights = jax.numpy.array([0.4, -0.9])
    mine = jax.jacobian(qml.QNode(circuit, device(), diff_method=method), argnums=1)(0.3, weights)
    theirs = jax.jacobian(qml.QNode(circuit, qml.device("default.qubit", wires=2)), argnums=1)(0.3, weights)
    for a, b in zip(jax.tree_util.tree_leaves(mine), jax.tree_util.tree_leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)


def test_jax_takes_batches_states_and_matrices(jax):
    def circuit(batch, state, matrix):
        qml.StatePrep(state / jax.numpy.linalg.norm(state), [0, 1])
        qml.RX(batch, 0)
        qml.QubitUnitary(matrix, 1)
        return qml.expval(qml.Y(0) @ qml.Z(1))

    batch, state = jax.numpy.array([0.3, 0.4, 1.5]), jax.numpy.array([0.5, 0.3 - 0.2j, 0.7j, -0.1])
    angle = 0.7
    matrix = jax.numpy.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    for wrap in (lambda f: f, jax.jit):
        mine, theirs = (
            wrap(jax.grad(summed(jax, qml.QNode(circuit, d)), argnums=(0, 1)))(batch, state, matrix)
            for d in (device(), qml.device("default.qubit", wires=2))
        )
        for a, b in zip(mine, theirs, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-9)


def test_jax_in_single_precision_and_with_fixed_numbers(jax):
    jax.config.update("jax_enable_x64", False)
    found = jax.jit(jax.grad(qml.QNode(with_expval, device(c_dtype=np.complex64))))(0.3, jax.numpy.array([0.4, -0.9]))
    wanted = jax.grad(qml.QNode(with_expval, qml.device("default.qubit", wires=2)))(0.3, jax.numpy.array([0.4, -0.9]))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    fixed = qml.QNode(lambda: with_expval(0.3, [0.4, -0.9]), device(), interface="jax")()
    assert isinstance(fixed, jax.Array)


def test_derivatives_of_derivatives_under_jax_are_refused(jax):
    qnode = qml.QNode(lambda t: (qml.RX(t, 0), qml.expval(qml.Z(0)))[1], device())
    with pytest.raises(qml.QuantumFunctionError, match="first derivatives only under JAX"):
        jax.grad(jax.grad(qnode))(0.3)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jacfwd(qnode)(0.3)


def test_trained_observables_under_jax(jax):
    coefficients = jax.numpy.array([0.4, 1.2])
    qnode = qml.QNode(trained_observable, device())
    for gradient in (jax.grad(qnode), jax.jit(jax.grad(qnode)), jax.grad(jax.jit(qnode))):
        np.testing.assert_allclose(gradient(coefficients), WANTED, atol=1e-9)
    with pytest.raises(qml.DeviceError, match="observable is not known"):
        jax.jit(qml.QNode(trained_observable, device(), diff_method="adjoint"))(coefficients)


@pytest.mark.parametrize("wires", [[0], [0, 1]])
def test_phases_of_matrices_of_templates_under_jax(jax, wires):
    angles = jax.numpy.array(np.random.default_rng(0).normal(size=4 ** len(wires) - 1))

    def circuit(angles):
        qml.SpecialUnitary(angles, wires)
        return qml.state()

    mine, theirs = (qml.QNode(circuit, d) for d in (device(wires=2), qml.device("default.qubit", wires=2)))
    np.testing.assert_allclose(mine(angles), theirs(angles), atol=1e-9)
    with pytest.raises(qml.DeviceError):  # PennyLane cannot write it as gates whose angles are not known
        jax.jit(mine)(angles)


def test_a_state_is_not_given_without_its_phase(jax):
    matrix = jax.numpy.array(qml.matrix(qml.QFT([0, 1])))
    mine = qml.QNode(lambda m: (qml.QubitUnitary(m, [0, 1]), qml.state())[1], device())
    with pytest.raises(qml.DeviceError, match=r"gives no state vector.*default\.qubit"):
        jax.grad(lambda m: jax.numpy.sum(mine(m)).real)(matrix)
    np.testing.assert_allclose(mine(matrix), np.full(4, 0.5), atol=1e-9)


def test_shots_under_jax(jax):
    dev = device(shots=20000, seed=1)
    qnode = qml.QNode(lambda t: (qml.RX(t, 0), qml.expval(qml.Z(0)))[1], dev)
    np.testing.assert_allclose(jax.grad(qnode)(jax.numpy.array(0.4)), -np.sin(0.4), atol=0.05)
    np.testing.assert_allclose(jax.jit(qnode)(jax.numpy.array(0.4)), np.cos(0.4), atol=0.05)


# --- PyTorch ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transform", ["grad", "jacrev", "jacfwd", "hessian", "vmap"])
def test_transforms_of_torch_func_are_refused(transform):
    torch = pytest.importorskip("torch")

    def circuit(angles):
        qml.RX(angles[0], 0)
        qml.RY(angles[1], 0)
        return qml.expval(qml.Z(0))

    qnode = qml.QNode(circuit, device())
    angles = torch.tensor([[0.3, 0.7], [0.1, 0.2]], dtype=torch.float64, requires_grad=True)
    given = angles if transform == "vmap" else angles[0]
    for _ in range(2):  # a new circuit, and a known one
        with pytest.raises(qml.DeviceError, match=r"torch\.func.*torch\.autograd.*default\.qubit"):
            getattr(torch.func, transform)(qnode)(given)
        value = qnode(angles[0])
    (gradient,) = torch.autograd.grad(value, angles)
    np.testing.assert_allclose(gradient[0], [-np.sin(0.3) * np.cos(0.7), -np.cos(0.3) * np.sin(0.7)], atol=1e-9)


# --- matrices and chance ---------------------------------------------------------------------------------------------------


def test_a_sparse_matrix_is_a_matrix():
    def circuit(x):
        qml.RX(x, 0)
        qml.QubitUnitary(scipy.sparse.csr_matrix(qml.matrix(qml.RY(0.7, 0))), 0)
        return qml.expval(qml.Z(0))

    wanted = qml.QNode(circuit, qml.device("default.qubit"))(0.4)
    assert qml.QNode(circuit, device())(0.4) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("verify", ["first", "never"])
def test_a_controlled_matrix_that_is_not_unitary_is_refused(verify):
    def circuit(x):
        qml.RX(x, 0)
        qml.ctrl(qml.QubitUnitary(np.array([[0.0, 0.0], [0.0, 1.0]]), 1), 0)
        return qml.expval(qml.Z(0))

    with pytest.raises(qml.DeviceError, match="its matrix is not unitary"):
        qml.QNode(circuit, device(verify=verify))(0.4)


def test_random_templates_run_and_are_told_of():
    def circuit(x):
        qml.RX(x, 0)
        qml.RandomLayers(np.array([[0.3, 0.8, 1.1]]), wires=[0, 1], seed=None)
        return qml.expval(qml.Z(0))

    qnode = qml.QNode(circuit, device())
    with pytest.warns(hybridbench.NotVerified, match="RandomLayers.* at random at every call"):
        found = {round(float(qnode(0.4)), 9) for _ in range(40)}
    assert len(found) > 1


def test_the_reference_of_wide_circuits_is_that_of_narrow_ones(monkeypatch):
    angles = np.array([[0.3, 0.7, 0.2], [1.1, 0.4, 0.9]])
    tape = qml.tape.QuantumScript(
        [
            qml.AngleEmbedding(angles, wires=[0, 1, 2]),
            qml.StronglyEntanglingLayers(np.full((2, 3, 3), 0.4), wires=[0, 1, 2]),
            qml.ctrl(qml.QubitUnitary(qml.matrix(qml.QFT([0, 1])), [1, 2]), 0),
        ],
        [
            *(qml.expval(qml.Z(0) @ qml.X(2)), qml.var(qml.Y(1)), qml.probs([2, 0]), qml.purity([1]), qml.state()),
            *(qml.density_matrix([1]), qml.expval(qml.Hamiltonian([0.3, 0.4], [qml.Z(0), qml.X(1)]))),
        ],
    )
    wanted = verification.executed(tape, [0, 1, 2])
    used = []
    monkeypatch.setattr(verification, "WIDE", 2)
    monkeypatch.setattr(
        verification.qml, "device", lambda name, make=qml.device, **of: used.append(name) or make(name, **of)
    )
    for mine, theirs in zip(verification.executed(tape, [0, 1, 2]), wanted, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-10)
    assert used[0] == "lightning.qubit"
    plain = tape.copy(measurements=[qml.expval(qml.Z(0))])
    used.clear()
    np.testing.assert_allclose(verification.executed(plain, [0, 1, 2])[0], verification.executed(plain, None)[0], atol=1e-10)
    assert used == ["lightning.qubit", "default.qubit"]
