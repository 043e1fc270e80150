"""The device hybridbench.qubit: PennyLane's own device tests, and agreement with default.qubit where those do not look."""

import importlib
import logging
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pennylane as qml
import pytest
from pennylane import numpy as pnp

import hybridbench
from hybridbench.engine.compiler import UnsupportedCircuit
from hybridbench.engine.plan import Source, make_plan, trace
from hybridbench.errors import MemoryEstimateError

tf = importlib.import_module("tensorflow")  # after hybridbench, which switches it to Keras 2

N = 4
WIRES = range(N)
TOLERANCE = {np.complex64: 2e-5, np.complex128: 1e-10}


def device(wires=N, **options):
    return qml.device("hybridbench.qubit", wires=wires, **options)


def reference(wires=N):
    return qml.device("default.qubit", wires=wires)


def parts(result):
    return list(result) if isinstance(result, list | tuple) else [result]


def loss(result):
    """A real number that depends on everything in a result, for autograd."""
    total = 0.0
    for k, value in enumerate(parts(result)):
        weights = np.cos(np.arange(np.size(value)) + k).reshape(np.shape(value))
        total = total + pnp.sum(pnp.real(value * weights * (1 - 0.3j)) + 0.5 * pnp.abs(value) ** 2)
    return total


def tf_loss(result):
    total = 0.0
    for k, value in enumerate(parts(result)):
        weights = tf.reshape(tf.cos(tf.range(tf.size(value), dtype=value.dtype.real_dtype) + k), tf.shape(value))
        real, imaginary = tf.math.real(value), tf.math.imag(value)
        total += tf.reduce_sum(weights * (real + 0.3 * imaginary) + 0.5 * (real**2 + imaginary**2))
    return total


def values_and_gradient(qnode, arguments):
    """Values and gradients of `loss` under autograd."""
    arguments = [pnp.array(a, requires_grad=True) for a in arguments]
    gradient = qml.grad(lambda *a: loss(qnode(*a)))(*arguments)
    return parts(qnode(*arguments)), parts(gradient)


def tf_values_and_gradient(qnode, arguments, dtype="float64"):
    tensors = [tf.Variable(a, dtype=dtype) for a in arguments]
    with tf.GradientTape() as tape:
        values = parts(qnode(*tensors))
        total = tf_loss(values)
    return values, [g.numpy() for g in tape.gradient(total, tensors)]


def assert_agree(found, wanted, tolerance=1e-10):
    for mine, theirs in zip(found, wanted, strict=True):
        assert np.shape(mine) == np.shape(theirs)
        np.testing.assert_allclose(np.asarray(mine), np.asarray(theirs), atol=tolerance, rtol=0)


def uniform(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).uniform(-2, 2, shape)


def layered(x, w):
    qml.AngleEmbedding(x, wires=WIRES)
    qml.StronglyEntanglingLayers(w, wires=WIRES)


MEASUREMENTS = {
    "expectations": lambda: [qml.expval(qml.Z(i)) for i in WIRES],
    "one": lambda: qml.expval(qml.X(0) @ qml.Y(1) + 0.5 * qml.Z(2)),
    "variance": lambda: (qml.var(qml.Z(1) @ qml.X(2)), qml.expval(qml.Z(0))),
    "probabilities": lambda: qml.probs(wires=[2, 0]),
    "all probabilities": lambda: qml.probs(),
    "of an observable": lambda: qml.probs(op=qml.X(1) @ qml.Y(2)),
    "state": lambda: qml.state(),
    "density matrix": lambda: qml.density_matrix([3, 1]),
    "entropies": lambda: [qml.purity([0, 1]), qml.vn_entropy([0]), qml.mutual_info([0], [1])],
    "hermitian": lambda: qml.var(qml.Hermitian(np.array([[1, 2j], [-2j, -0.5]]), 1)),
}


# --- PennyLane's own tests -------------------------------------------------------------------------------------------------

#: Why PennyLane's tests may be left out: none of these is something that the device lacks.
REASONS = (
    r"could not import '(jax|torch)'",  # not installed with the suite
    r"test only works with (backprop|parameter-shift)",
    r"analytic(al)?[- ]mode|when shots is not None",
    r"test (is |specific )?.*old( device)? interface",
    r"only works on qutrit devices",
    r"operation not supported on the device",  # QubitDensityMatrix, a mixed state
    r"Shots must be specified|If shots!?=None no (warning|error)",
)


@pytest.mark.parametrize("shots", ["None", "20000"])
def test_pennylanes_device_tests_pass(shots, tmp_path):
    from pennylane.devices import tests

    command = [sys.executable, "-m", "pytest", str(Path(tests.__file__).parent), "-q", "-rs", "-p", "no:cacheprovider"]
    command += ["--device=hybridbench.qubit", f"--shots={shots}", "--benchmark-disable", "--no-flaky-report"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", done.stdout).group(1)) > 300
    skips = re.findall(r"^SKIPPED \[\d+\] \S+ (.*)$", done.stdout, re.MULTILINE)
    assert skips
    assert [reason for reason in skips if not re.search("|".join(REASONS), reason)] == []


# --- values and gradients --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [None, 1, 5])
@pytest.mark.parametrize("measurement", MEASUREMENTS)
def test_autograd_agrees_with_default_qubit(measurement, rows):
    def circuit(x, w):
        layered(x, w)
        return MEASUREMENTS[measurement]()

    arguments = [uniform(*([] if rows is None else [rows]), N), uniform(2, N, 3)]
    wanted = values_and_gradient(qml.QNode(circuit, reference()), arguments)
    for method in ("best", "adjoint", "device"):
        found = values_and_gradient(qml.QNode(circuit, device(), diff_method=method), arguments)
        assert_agree(found[0], wanted[0])
        assert_agree(found[1], wanted[1])


@pytest.mark.parametrize("method", ["best", "adjoint", "backprop"])
@pytest.mark.parametrize("measurement", MEASUREMENTS)
def test_tensorflow_agrees_and_keeps_the_type_of_the_parameters(measurement, method):
    def circuit(x, w):
        layered(x, w)
        return MEASUREMENTS[measurement]()

    arguments = [uniform(5, N), uniform(2, N, 3)]
    wanted = tf_values_and_gradient(qml.QNode(circuit, reference()), arguments)
    for c_dtype, dtype in ((np.complex128, "float64"), (np.complex64, "float64"), (np.complex64, "float32")):
        found = tf_values_and_gradient(qml.QNode(circuit, device(c_dtype=c_dtype), diff_method=method), arguments, dtype)
        assert {value.dtype.real_dtype.name for value in found[0]} == {dtype}
        tolerance = 1e-10 if c_dtype is np.complex128 else 5e-5
        assert_agree(found[0], wanted[0], tolerance)
        assert_agree(found[1], wanted[1], tolerance)


ROUND = (  # of two angles per sample, two shared ones and all wires in some order
    lambda x, y, v, w, wires: qml.RX(x, wires[0]),
    lambda x, y, v, w, wires: qml.Rot(v, x, w, wires[0]),
    lambda x, y, v, w, wires: qml.CNOT(wires[:2]),
    lambda x, y, v, w, wires: qml.IsingXY(y, wires[:2]),
    lambda x, y, v, w, wires: qml.CRY(v, wires[:2]),
    lambda x, y, v, w, wires: qml.PauliRot(y, "XYZ", wires[:3]),
    lambda x, y, v, w, wires: qml.MultiRZ(2 * v + 0.1, wires),
    lambda x, y, v, w, wires: qml.Toffoli(wires[:3]),
    lambda x, y, v, w, wires: qml.U3(v, x * y, w, wires[2]),
)


def random_circuit(seed, rows):
    """Gates with shared, per-sample and constant angles in random places."""
    rng = np.random.default_rng(seed)
    gates = []
    for _ in range(25):
        wires = [int(w) for w in rng.permutation(N)]
        kind = int(rng.integers(len(ROUND)))
        a, b, c = (int(i) for i in rng.integers(4, size=3))
        gates.append((kind, wires, a, b, c))
    arguments = [rng.uniform(-2, 2, (rows, 4)), rng.uniform(-2, 2, 4)]

    def circuit(x, w):
        # Constants are weights too: default.qubit rounds numbers of Python to float32 beside tensors.
        x = [x[:, i] for i in range(4)]
        for kind, wires, a, b, c in gates:
            ROUND[kind](x[a], x[b], w[b], w[c], wires)
        return [qml.expval(qml.Z(0) @ qml.Y(1)), qml.expval(qml.X(2) + 0.3 * qml.Z(3)), qml.expval(qml.Hadamard(1))]

    return circuit, arguments


@pytest.mark.parametrize("c_dtype", TOLERANCE)
@pytest.mark.parametrize("seed", range(6))
def test_random_broadcast_circuits(seed, c_dtype):
    circuit, arguments = random_circuit(seed, rows=1 + seed)
    # Under autograd default.qubit fails on U3 (1j times a box of PennyLane's arrays).
    wanted = tf_values_and_gradient(qml.QNode(circuit, reference()), arguments)
    for differentiate in (values_and_gradient, tf_values_and_gradient):
        found = differentiate(qml.QNode(circuit, device(c_dtype=c_dtype)), arguments)
        assert_agree(found[0], wanted[0], TOLERANCE[c_dtype])
        assert_agree(found[1], wanted[1], 10 * TOLERANCE[c_dtype])


MATRICES = np.stack([np.linalg.qr(uniform(4, 4, seed=s) + 1j * uniform(4, 4, seed=s + 9))[0] for s in range(3)])
TEMPLATES = {
    "amplitudes": (lambda x: qml.AmplitudeEmbedding(x, wires=[2, 0, 1], normalize=True), (3, 8)),
    "one state": (lambda x: qml.AmplitudeEmbedding(x, wires=WIRES, normalize=True), (16,)),
    "iqp": (lambda x: qml.IQPEmbedding(x, wires=WIRES, n_repeats=2), (3, 4)),
    "qaoa": (lambda w: qml.QAOAEmbedding(uniform(3, 4), w, wires=WIRES), (2, 8)),
    "basic": (lambda w: qml.BasicEntanglerLayers(w, wires=WIRES), (2, 4)),
    "many weights": (lambda w: qml.StronglyEntanglingLayers(w, wires=WIRES), (3, 2, 4, 3)),
    "random": (lambda w: qml.RandomLayers(w, wires=WIRES, seed=4), (2, 5)),
    "adjoint": (lambda w: qml.adjoint(qml.StronglyEntanglingLayers)(w, wires=WIRES), (2, 4, 3)),
    "controlled": (lambda w: (qml.RY(1.0, 0), qml.ctrl(qml.BasicEntanglerLayers(w, wires=[1, 2, 3]), 0)), (1, 3)),
    "uccsd": (lambda w: qml.UCCSD(w, WIRES, [[0, 1, 2]], [[[0, 1], [2, 3]]], np.array([1, 1, 0, 0])), (2,)),
    "trained matrix": (
        lambda w: qml.QubitUnitary(qml.math.stack([qml.math.stack([w[0], -w[1]]), qml.math.stack([w[1], w[0]])]), 0),
        (2,),
    ),
    "batch of matrices": (lambda w: (qml.RX(w[0], 0), qml.QubitUnitary(MATRICES, wires=[0, 2])), (1,)),
    "evolution": (lambda w: (qml.evolve(qml.Y(0) + qml.Z(1), w[0]), qml.exp(qml.X(0) @ qml.Z(1), 0.3j)), (1,)),
    "trotter": (lambda w: qml.TrotterProduct(qml.dot(w[1:], [qml.X(0), qml.Z(0) @ qml.X(1)]), w[0], n=2), (3,)),
    "states amid": (lambda w: (qml.RX(w[0], 0), qml.BasisState(np.array([1, 1]), [1, 2])), (1,)),
    "measured amid": (lambda w: (qml.RX(w[0], 0), qml.cond(qml.measure(0), qml.RY)(2 * w[0], 1)), (1,)),
    "constants": (lambda w: (qml.RX(w[0], 0), qml.QFT(wires=WIRES), qml.Permute([2, 0, 1, 3], WIRES)), (1,)),
}


def around(template, w):
    template(w / qml.math.sqrt(qml.math.sum(w**2)) if template is TEMPLATES["trained matrix"][0] else w)
    qml.CRY(0.4, [2, 3])
    qml.CNOT([3, 0])
    return MEASUREMENTS["expectations"]()


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates(name):
    template, shape = TEMPLATES[name]
    circuit = partial(around, template)
    mine, theirs = qml.QNode(circuit, device()), qml.QNode(circuit, reference())
    for seed in (0, 0, 1):  # the second call takes the plan of the first one
        weights = [uniform(*shape, seed=seed)]
        found, wanted = values_and_gradient(mine, weights), values_and_gradient(theirs, weights)
        assert_agree(found[0], wanted[0])
        assert_agree(found[1], wanted[1])
    if name not in {"evolution", "trotter"}:  # PennyLane cannot multiply a TensorFlow tensor by 1j
        assert_agree(tf_values_and_gradient(mine, weights)[1], wanted[1])


def test_only_templates_whose_gates_do_not_depend_on_values_are_traced():
    assert len(trace(qml.StronglyEntanglingLayers(uniform(2, 4, 3), WIRES))) == 16
    (gate, (source,)), *_ = trace(qml.AngleEmbedding(uniform(5, 3), [3, 2, 1]))
    assert (gate.wires.labels, source) == ((3,), Source(0, 0))
    assert [s for _, (s,) in trace(qml.ControlledSequence(qml.RX(0.3, 2), [0, 1]))] == [Source(0, 0, 2.0), Source(0)]
    assert Source(None, 0, 1.0, np.pi / 2) in [s for _, p in trace(qml.FermionicSingleExcitation(0.3, range(3))) for s in p]
    assert trace(qml.IQPEmbedding(uniform(3), range(3))) is None  # products of features
    assert trace(qml.BasisEmbedding(np.array([0, 1]), range(2))) is None  # gates that stand for values
    assert trace(qml.TrotterProduct(qml.dot([0.3, 0.4], [qml.X(0), qml.Z(0)]), 0.3)) is None  # coefficients count too
    assert trace(qml.AmplitudeDamping(0.1, 0)) is None
    with pytest.raises(UnsupportedCircuit, match="IQPEmbedding"):
        make_plan(qml.tape.QuantumScript([qml.IQPEmbedding(uniform(3), range(3))]), range(3), True)


def test_a_structure_is_planned_once():
    dev = device()
    qnode = qml.QNode(lambda x, w: (layered(x, w), qml.expval(qml.Z(0)))[-1], dev)
    for seed in range(3):
        qnode(uniform(5, N, seed=seed), uniform(2, N, 3, seed=seed))
    assert len(dev._plans) == 1
    qnode(uniform(6, N), uniform(3, N, 3))
    assert len(dev._plans) == 2


def test_wires_by_any_name():
    def circuit(x, measure):
        qml.RX(x, "b")
        qml.CNOT(["b", "a"])
        qml.RY(2 * x, "q")
        return measure()

    for measure in (lambda: qml.probs(wires=["q", "a"]), qml.state, lambda: qml.expval(qml.Z("a") @ qml.X("q"))):
        for wires in (["a", "b", "q"], ["z", "q", "b", "a"], None):
            run = partial(circuit, measure=measure)
            wanted = values_and_gradient(qml.QNode(run, reference(wires)), [np.array(0.7)])
            found = values_and_gradient(qml.QNode(run, device(wires)), [np.array(0.7)])
            assert_agree(found[0], wanted[0])
            assert_agree(found[1], wanted[1])


# --- gradients as PennyLane asks for them ----------------------------------------------------------------------------------


def test_vector_jacobian_products_have_the_shapes_of_the_trainable_parameters():
    x, w = uniform(5, N), uniform(2, N, 3)
    operations = [qml.AngleEmbedding(x, wires=WIRES), qml.RX(0.3, 0), qml.StronglyEntanglingLayers(w, wires=WIRES)]
    measurements = [qml.expval(qml.Z(0)), qml.expval(qml.X(1))]
    tape = qml.tape.QuantumScript(operations, measurements, trainable_params=[0, 1, 2])
    cotangents = (uniform(5), uniform(5, seed=1))
    values, (full,) = device().execute_and_compute_vjp((tape,), (cotangents,))
    assert [g.shape for g in full] == [(5, N), (), (2, N, 3)]
    assert_agree(values[0], reference().execute(tape.expand()))
    tape.trainable_params = [2]
    assert_agree(device().compute_vjp(tape, cotangents), full[2:])
    rows = [
        device().compute_vjp(
            qml.tape.QuantumScript([qml.AngleEmbedding(x[i], wires=WIRES), *operations[1:]], measurements),
            (cotangents[0][i], cotangents[1][i]),
        )
        for i in range(5)
    ]
    assert_agree([np.stack([row[0] for row in rows]), sum(row[1] for row in rows), sum(row[2] for row in rows)], full)
    assert np.squeeze(full).shape == (3,)  # as PennyLane's torch interface asks


def test_jacobians_and_their_products_with_tangents():
    operations = [qml.RX(0.4, 0), qml.RY(0.2, 1), qml.CNOT([0, 1])]
    tape = qml.tape.QuantumScript(operations, [qml.expval(qml.Z(1)), qml.expval(qml.X(0))], trainable_params=[0, 1])
    for name, argument in (("compute_derivatives", ()), ("compute_vjp", ((1.0, 2.0),)), ("compute_jvp", ((1.0, 2.0),))):
        mine, theirs = (getattr(dev, name)(tape, *argument) for dev in (device(2), reference(2)))
        np.testing.assert_allclose(mine, theirs, atol=1e-10)
    states = qml.tape.QuantumScript(operations, [qml.state()])
    np.testing.assert_allclose(
        device(2).compute_jvp(states, (1.0, 0.0)), device(2).compute_derivatives(states)[0], atol=1e-12
    )


def test_other_gradient_methods_are_pennylanes():
    def circuit(x):
        qml.RX(x, 0)
        return qml.expval(qml.Z(0))

    x = pnp.array(0.7)
    for method, tolerance in (("parameter-shift", 1e-10), ("finite-diff", 1e-5), ("hadamard", 1e-10)):
        assert np.isclose(qml.grad(qml.QNode(circuit, device(2), diff_method=method))(x), -np.sin(0.7), atol=tolerance)
    for method in ("best", "backprop"):
        twice = qml.jacobian(qml.grad(qml.QNode(circuit, device(1), diff_method=method, max_diff=2)))
        assert np.isclose(twice(x), -np.cos(0.7))
    trained = qml.QNode(lambda c: (qml.RX(0.3, 0), qml.expval(qml.dot(c, [qml.Z(0), qml.X(0)])))[-1], device(1))
    np.testing.assert_allclose(qml.grad(trained)(pnp.array([0.1, 0.2])), [np.cos(0.3), 0], atol=1e-10)
    with pytest.warns(UserWarning, match="not supported with the adjoint"):
        qml.grad(trained.update(diff_method="adjoint"))(pnp.array([0.1, 0.2]))


def test_sparse_hamiltonians():
    matrix = qml.dot([1.0, 0.5], [qml.Z(0), qml.X(1) @ qml.Y(2)]).sparse_matrix(wire_order=WIRES)

    def circuit(w, observable):
        qml.StronglyEntanglingLayers(w, wires=WIRES)
        return qml.expval(observable), qml.expval(qml.Hermitian(np.eye(2)[::-1], 0))

    sparse = partial(circuit, observable=qml.SparseHamiltonian(matrix, wires=WIRES))
    dense = partial(circuit, observable=qml.Hermitian(matrix.toarray(), wires=WIRES))
    found, wanted = (values_and_gradient(qml.QNode(c, device()), [uniform(2, N, 3)]) for c in (sparse, dense))
    assert_agree(found[0] + found[1], wanted[0] + wanted[1])


# --- TensorFlow ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("measurement", ["expectations", "probabilities", "state"])
@pytest.mark.parametrize("method", ["best", "backprop"])
def test_graphs_with_a_batch_of_unknown_size(measurement, method):
    def circuit(x, w):
        layered(x, w)
        return MEASUREMENTS[measurement]()

    qnode = qml.QNode(circuit, device(), interface="tf", diff_method=method)

    @tf.function(
        autograph=False, input_signature=[tf.TensorSpec([None, N], tf.float64), tf.TensorSpec([2, N, 3], tf.float64)]
    )
    def gradients(x, w):
        with tf.GradientTape() as tape:
            tape.watch([x, w])
            total = tf_loss(qnode(x, w))
        return tape.gradient(total, [x, w])

    for rows in (2, 5):
        arguments = [uniform(rows, N), uniform(2, N, 3)]
        wanted = tf_values_and_gradient(qml.QNode(circuit, reference()), arguments)
        assert_agree(gradients(*map(tf.constant, arguments)), wanted[1])


@pytest.mark.parametrize("measurement", ["expectations", "probabilities"])
def test_jacobians_of_tensors(measurement):
    def circuit(w):
        qml.StronglyEntanglingLayers(w, wires=WIRES)
        return MEASUREMENTS[measurement]()

    w, found = tf.Variable(uniform(1, N, 3)), []
    for dev in (device(), reference()):
        with tf.GradientTape() as tape:
            values = tf.concat([tf.reshape(v, [-1]) for v in parts(qml.QNode(circuit, dev)(w))], axis=0)
        found.append(tape.jacobian(values, w))
    assert_agree(found[:1], found[1:])


def test_second_derivatives_of_tensors():
    w = tf.Variable(0.7, dtype="float64")
    qnode = qml.QNode(lambda w: (qml.RX(w, 0), qml.expval(qml.Z(0)))[-1], device(1), diff_method="backprop")
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            value = qnode(w)
        slope = inner.gradient(value, w)
    assert np.isclose(outer.gradient(slope, w), -np.cos(0.7))


def test_a_keras_model_trains_in_float32_without_notices(caplog):
    @qml.qnode(device(c_dtype=np.complex64))
    def circuit(inputs, weights):
        layered(inputs, weights)
        return MEASUREMENTS["expectations"]()

    keras = tf.keras
    keras.utils.set_random_seed(0)
    keras.backend.set_floatx("float32")
    quantum = qml.qnn.KerasLayer(circuit, {"weights": (2, N, 3)}, output_dim=N)
    model = keras.Sequential([keras.layers.Dense(N, activation="tanh"), quantum, keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.05), "mse")
    x, y = uniform(12, 3).astype("float32"), uniform(12, 1).astype("float32")
    with caplog.at_level(logging.WARNING, logger="tensorflow"):
        history = model.fit(x, y, batch_size=5, epochs=4, verbose=0).history["loss"]  # the last batch has 2 samples
    assert history[-1] < history[0]
    assert {v.dtype.name for v in model.trainable_variables} == {"float32"}
    assert not caplog.records


def test_tensors_beside_other_numbers():
    dev = device(2)

    @qml.qnode(dev, interface="tf")
    def circuit(x, c=(0.3, 0.7)):
        qml.RX(x, 0)
        return qml.expval(qml.dot(c, [qml.Z(0), qml.X(0)])), qml.var(qml.dot(c, [qml.Z(0) @ qml.Z(1), qml.Z(1)]))

    wanted = [0.3 * np.cos(0.7), 0.09 * np.sin(0.7) ** 2]
    for x in (0.7, np.array(0.7), tf.constant(0.7, "float64")):
        for c in ((0.3, 0.7), tf.constant([0.3, 0.7], "float64"), pnp.array([0.3, 0.7])):
            found = circuit(x, c)
            assert all(tf.is_tensor(v) and v.dtype == tf.float64 for v in found)
            np.testing.assert_allclose(found, wanted, atol=1e-10)


def test_parameters_of_both_float_types():
    single, double = tf.Variable(0.7, dtype="float32"), tf.Variable(0.2, dtype="float64")
    for method in ("best", "backprop"):
        qnode = qml.QNode(lambda x, y: (qml.RX(x, 0), qml.RX(y, 0), qml.expval(qml.Z(0)))[-1], device(1), diff_method=method)
        with tf.GradientTape() as tape:
            value = qnode(single, double)
        gradients = tape.gradient(value, [single, double])
        assert [t.dtype for t in (value, *gradients)] == [tf.float64, tf.float32, tf.float64]
        np.testing.assert_allclose(gradients, -np.sin(0.9), atol=1e-6)


@pytest.mark.parametrize("shots", [None, 4000])
def test_float32_tensors_by_parameter_shift(shots):
    @qml.qnode(device(2, shots=shots, seed=1), diff_method="parameter-shift")
    def circuit(x):
        qml.RX(x, 0)
        qml.RY(0.3, 0)
        return qml.expval(qml.Z(0)), qml.probs(wires=0)

    x = tf.Variable(0.7, dtype="float32")
    with tf.GradientTape() as tape:
        mean, probabilities = circuit(1.0 * x)
        total = mean + probabilities[0]
    assert mean.dtype == probabilities.dtype == tf.float32
    assert np.isclose(tape.gradient(total, x), -1.5 * np.sin(0.7) * np.cos(0.3), atol=0.1 if shots else 1e-6)


def test_both_engines_on_arrays():
    def circuit(x, w):
        layered(x, w)
        return qml.probs(wires=[1, 2])

    arguments = [uniform(3, N), uniform(2, N, 3)]
    found = [values_and_gradient(qml.QNode(circuit, device(engine=engine)), arguments) for engine in ("cpu", "tensorflow")]
    assert_agree(found[0][0] + found[0][1], found[1][0] + found[1][1])


# --- shots -----------------------------------------------------------------------------------------------------------------


def test_shots_are_reproducible_by_seed():
    def sample(seed, **options):
        @qml.qnode(device(shots=50, seed=seed, **options))
        def circuit():
            qml.Hadamard(0)
            qml.CNOT([0, 1])
            return qml.sample()

        return circuit()

    assert sample(3).shape == (50, N)
    np.testing.assert_array_equal(sample(3), sample(3))
    assert (sample(3) != sample(4)).any()
    assert (sample(3, c_dtype=np.complex64)[:, 0] == sample(3, c_dtype=np.complex64)[:, 1]).all()


def test_measurements_with_shots():
    def run(x, *measurements, shots=20000):
        @qml.qnode(device(3, shots=shots, seed=1))
        def circuit(x):
            qml.RX(x, 0)
            qml.CNOT([0, 1])
            return [m() for m in measurements]

        return circuit(x)

    counts, mean, probabilities, variance = run(
        0.7, lambda: qml.counts(wires=[0, 1]), lambda: qml.expval(qml.Z(0) + qml.Z(1)), lambda: qml.probs(wires=0),
        lambda: qml.var(qml.Z(1)),
    )  # fmt: skip
    assert set(counts) == {"00", "11"}
    assert np.isclose(mean, 2 * np.cos(0.7), atol=0.05)
    assert np.isclose(probabilities[1], np.sin(0.35) ** 2, atol=0.02)
    assert np.isclose(variance, np.sin(0.7) ** 2, atol=0.02)
    (means,) = run(np.array([0.1, 0.9]), lambda: qml.expval(qml.Z(0)))
    np.testing.assert_allclose(means, np.cos([0.1, 0.9]), atol=0.03)
    few, many = run(0.7, lambda: qml.sample(wires=0), shots=[3, 5])
    assert (few[0].shape, many[0].shape) == ((3,), (5,))
    (shadows,) = run(np.array([0.1, 0.9]), lambda: qml.shadow_expval(qml.Z(0)))
    np.testing.assert_allclose(shadows, np.cos([0.1, 0.9]), atol=0.06)
    deferred = qml.QNode(lambda x: (qml.RX(x, 0), qml.sample(qml.measure(0)))[-1], device(1, shots=20000, seed=1))
    assert np.isclose(np.mean(deferred(0.7)), np.sin(0.35) ** 2, atol=0.02)


# --- what it refuses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "gpu"}, "engine 'gpu' does not exist.*auto, cpu, tensorflow, cuda"),
        ({"c_dtype": np.float32}, "not complex64 or complex128"),
        ({"c_dtype": "half"}, "c_dtype 'half' is not"),
    ],
)
def test_devices_that_cannot_be_made(options, message):
    with pytest.raises(qml.DeviceError, match=message):
        device(**options)


def rx(x, *operations):
    qml.RX(x, 0)
    return qml.expval(qml.Z(0))


@pytest.mark.parametrize(
    ("circuit", "device_options", "options", "error", "message"),
    [
        (rx, {"shots": 9}, {"diff_method": "adjoint"}, qml.QuantumFunctionError, "takes no shots, and there are 9: use"),
        (rx, {"shots": 9}, {"diff_method": "backprop"}, qml.QuantumFunctionError, "takes no shots"),
        (rx, {}, {"diff_method": "adjoint", "max_diff": 2}, qml.QuantumFunctionError, "max_diff is 2: use"),
        (
            rx,
            {"engine": "cpu"},
            {"diff_method": "backprop"},
            qml.QuantumFunctionError,
            "needs the TensorFlow engine.*engine='auto'",
        ),
        (rx, {}, {"mcm_method": "tree-traversal"}, qml.DeviceError, "use mcm_method='deferred', or run .* on default.qubit"),
        (lambda x: (qml.RX(x, 9), qml.expval(qml.Z(0)))[-1], {}, {}, qml.wires.WireError, "not found on the device"),
        (lambda x: rx(x, qml.AmplitudeDamping(x, 0)), {}, {}, qml.DeviceError, "is noise.*default.mixed"),
        (lambda x: rx(x, qml.Displacement(x, 0, 0)), {}, {}, qml.DeviceError, "not supported with hybridbench.qubit"),
        (lambda x: rx(x, qml.measure(0, postselect=1)), {}, {}, qml.DeviceError, "Postselection is not available"),
        (lambda x: qml.sample(), {}, {}, qml.DeviceError, "not accepted for analytic simulation on hybridbench.qubit"),
        (lambda x: qml.state(), {"shots": 9}, {}, qml.DeviceError, "not accepted with finite shots on hybridbench.qubit"),
        (
            lambda x: rx(x, qml.RY(uniform(3), 0), qml.RY(uniform(2), 1)),
            {},
            {},
            ValueError,
            "batches of different sizes: 2, 3",
        ),
        (lambda x: (qml.RX(x, 0), qml.state())[-1], {"wires": 40}, {}, MemoryEstimateError, "40 qubits in complex128.*GiB"),
    ],
)
def test_refused_circuits(circuit, device_options, options, error, message):
    qnode = qml.QNode(circuit, device(**{"wires": 2, **device_options}), **options)
    with pytest.raises(error, match=message):
        qnode(pnp.array(0.4))


@pytest.mark.parametrize("interface", ["torch", "jax"])
def test_backprop_is_for_tensorflow_and_autograd(interface):
    config = qml.devices.ExecutionConfig(gradient_method="backprop", interface=interface)
    tape = qml.tape.QuantumScript([qml.RX(0.1, 0)], [qml.expval(qml.Z(0))])
    with pytest.raises(qml.QuantumFunctionError, match=f"the interface is '{interface}': use diff_method='adjoint'"):
        device().supports_derivatives(config, tape)


def test_sparse_hamiltonians_have_no_backprop():
    def circuit(x):
        qml.RX(x, 0)
        return qml.expval(qml.SparseHamiltonian(qml.Z(0).sparse_matrix(), 0))

    with pytest.raises(qml.QuantumFunctionError, match="sparse Hamiltonians: use diff_method='adjoint'"):
        qml.QNode(circuit, device(), diff_method="backprop")(pnp.array(0.1))


def test_the_device_is_found_by_name_and_stays_light():
    source = Path(hybridbench.__file__).parent.parent
    code = (
        "import sys, pennylane as qml; qml.device('hybridbench.qubit', wires=2); "
        "sys.exit(', '.join({'tensorflow', 'llvmlite'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=source)
    assert done.returncode == 0, done.stderr


def test_an_evolution_takes_a_batch_of_times():
    def circuit(times):
        qml.RY(0.4, 0)
        qml.evolve(qml.X(0) @ qml.X(1) + 0.3 * qml.Z(0), times)
        return qml.expval(qml.Z(0))

    times = np.array([0.1, 0.7, -2.0])
    assert_agree(qml.QNode(circuit, device())(times), qml.QNode(circuit, reference())(times))
