"""Circuits of specs as layers; how a circuit's angles are bound to inputs and weights, and what its graph then holds.

What `KerasLayer` has to do as PennyLane's layer does it stands in test_keraslayer_contract.py.
"""

import itertools

import numpy as np
import pennylane as qml
import pytest

import hybridbench
from hybridbench.circuits.layer import KerasLayer, TracedKerasLayer, keras_layer, tf
from hybridbench.circuits.spec import CircuitSpec
from hybridbench.circuits.tracing import ChangingCircuit, bind, check_qnode, reindex
from hybridbench.engine import tensorflow as engine
from hybridbench.engine.compiler import UnsupportedCircuit, compile_tape
from hybridbench.engine.program import Angle, Kind
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
    swapped = value_and_gradient(keras_layer(SPEC, "hybridbench.qubit", "adjoint"), x, weights, trace=False)
    compiled = value_and_gradient(keras_layer(SPEC, "hybridbench.qubit", graph=True), x, weights, trace=True)
    for other in (traced, lightning, swapped, compiled):
        np.testing.assert_allclose(other[0], shipped[0], atol=1e-12)
        np.testing.assert_allclose(other[1], shipped[1], atol=1e-12)


@pytest.mark.parametrize("backend", ["default.qubit", "hybridbench.qubit"])
def test_fit_runs_as_a_graph_only_with_the_subclasses(backend):
    for graph in (False, True):
        model = tf.keras.Sequential([keras_layer(SPEC, backend, graph=graph), tf.keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        history = model.fit(np.zeros((4, 3)), np.ones(4), batch_size=2, verbose=0)
        assert np.isfinite(history.history["loss"][0])
        assert model.run_eagerly is not graph


def test_the_package_offers_the_layer():
    assert hybridbench.KerasLayer is KerasLayer
    with pytest.raises(AttributeError, match="no attribute 'KerasLaye'"):
        hybridbench.KerasLaye  # noqa: B018


def test_the_backend_decides_which_layer_a_graph_gets():
    assert type(keras_layer(SPEC, graph=True)) is TracedKerasLayer
    assert type(keras_layer(SPEC, "hybridbench.qubit", "adjoint", graph=True)) is KerasLayer
    assert type(keras_layer(SPEC, "hybridbench.qubit", "adjoint")) is qml.qnn.KerasLayer


@pytest.mark.parametrize(
    ("floatx", "precision", "dtype"),
    [("float32", None, "float32"), ("float64", None, "float64"), ("float64", "complex64", "float32")],
)
def test_the_compiled_layer_computes_in_the_precision_asked_for(floatx, precision, dtype):
    tf.keras.backend.set_floatx(floatx)
    layer = keras_layer(SPEC, "hybridbench.qubit", precision=precision, graph=True)
    assert layer(np.zeros((2, 3))).dtype == dtype


def test_a_step_has_no_operation_per_gate():
    layer = keras_layer(SPEC, "hybridbench.qubit", graph=True)
    step = tf.function(lambda x: layer(x), input_signature=[tf.TensorSpec((None, 3), tf.float64)]).get_concrete_function()
    operations = [
        op.type for op in step.graph.get_operations() if op.type not in ("Placeholder", "Const", "Identity", "NoOp")
    ]
    assert sorted(operations) in (
        ["PartitionedCall", "ReadVariableOp", "Reshape"],
        ["HybridbenchExpectations", "ReadVariableOp", "Reshape"],
    )


def test_what_cannot_be_done_is_said():
    with pytest.raises(ConfigurationError, match=r"does not work on lightning.qubit; it has adjoint"):
        keras_layer(SPEC, "lightning.qubit", "backprop")
    with pytest.raises(ConfigurationError, match="'adjoint' cannot be traced"):
        keras_layer(SPEC, "lightning.qubit", "adjoint", graph=True)
    with pytest.raises(MemoryEstimateError, match="batch 1000, with backprop"):
        keras_layer(CircuitSpec("angle", "strongly_entangling", 26, 4), batch_size=1000)


# --- binding --------------------------------------------------------------------------------------------------------------


def bound(circuit, weights=(2, 3), inputs=(None, 2), dtype=tf.float64, device="default.qubit"):
    qnode = qml.QNode(circuit, qml.device(device))
    specs = {"weights": tf.TensorSpec(weights, dtype)}
    return bind(qnode, "inputs", tf.TensorSpec(inputs, dtype), specs)[1]


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_entries_columns_and_lines_are_recognised(dtype):
    def circuit(inputs, weights):
        qml.RX(inputs[:, 1], 0)
        qml.RY(weights[1, 2], 0)
        qml.RZ(inputs[..., 0] * np.pi - 1, 0)
        qml.RX(tf.reshape(weights, [-1])[1] / 2 + 0.25, 0)
        qml.RY(0.7, 0)
        qml.RZ(inputs[:, 0] - inputs[:, 0], 0)
        return qml.expval(qml.Z(0))

    found = bound(circuit, dtype=dtype)
    assert found.initial == "none"
    for angles, expected in (
        (found.sample, [(Kind.SAMPLE, 1, 1, 0), (Kind.SAMPLE, 0, np.pi, -1), (Kind.SAMPLE, 0, 0, 0)]),
        (found.shared, [(Kind.SHARED, 5, 1, 0), (Kind.SHARED, 1, 0.5, 0.25), (Kind.CONSTANT, -1, 0, 0.7)]),
    ):
        assert [(angle.kind, angle.index) for angle in angles] == [values[:2] for values in expected]
        np.testing.assert_allclose([(angle.scale, angle.offset) for angle in angles], [v[2:] for v in expected], atol=1e-6)


@pytest.mark.parametrize(
    "angle",
    [
        lambda x, w: x[:, 0] ** 2,
        lambda x, w: x[:, 0] * w[0, 0],
        lambda x, w: x[:, 0] + x[:, 1],
        lambda x, w: tf.sin(x[:, 0]),
        lambda x, w: tf.clip_by_value(x[:, 0], -100.0, 100.0),  # the line of a column wherever it is probed
        lambda x, w: tf.cast(tf.cast(x[:, 0], tf.int32), tf.float64),
        lambda x, w: tf.cond(tf.reduce_max(x) > 100, lambda: x[:, 0], lambda: x[:, 1]),
        lambda x, w: tf.stack([w[0, 0]] * x.shape[0]),
    ],
)
def test_other_functions_stay_in_the_graph(angle):
    def circuit(inputs, weights):
        qml.RX(angle(inputs, weights), 0)
        qml.RY(weights[0, 1], 0)
        return qml.expval(qml.Z(0))

    found = bound(circuit)
    assert found.sample is None
    assert found.shared == (Angle(Kind.SHARED, 1, 1.0, 0.0),)


def test_a_single_sample_is_bound_with_the_weights():
    found = bound(lambda inputs, weights: [qml.RX(2 * inputs[1], 0), qml.expval(qml.Z(0))][1], inputs=(2,))
    assert found.shared == (Angle(Kind.SHARED, 7, 2.0, 0.0),)


def test_amplitudes_are_recognised():
    def circuit(inputs, weights, **options):
        qml.AmplitudeEmbedding(inputs, wires=range(2), **options)
        qml.RX(weights[0, 0], 0)
        return qml.expval(qml.Z(0))

    assert bound(lambda inputs, weights: circuit(inputs, weights, pad_with=0.0), inputs=(None, 3)).initial == "normalised"
    assert bound(lambda inputs, weights: circuit(inputs, weights, normalize=True), inputs=(None, 4)).initial == "normalised"
    kept = {"validate_norm": False}
    assert bound(lambda inputs, weights: circuit(inputs, weights, **kept), inputs=(None, 4)).initial == "inputs"
    assert bound(lambda inputs, weights: circuit(abs(inputs), weights, normalize=True), inputs=(None, 4)).initial is None
    assert bound(lambda inputs, weights: circuit(inputs, weights, pad_with=0.5), inputs=(None, 3)).initial is None


def test_functions_that_change_are_refused():
    rng, gates = np.random.default_rng(0), itertools.cycle([qml.X, qml.Hadamard])

    def noise(inputs, weights):
        qml.RX(1e-6 * rng.normal() + weights[0, 0], 0)
        return qml.expval(qml.Z(0))

    def gate(inputs, weights):
        next(gates)(0)
        return qml.expval(qml.Z(0))

    def of_the_batch(inputs, weights):
        qml.RX(inputs[:, 0] - tf.reduce_mean(inputs[:, 0]), 0)
        return qml.expval(qml.Z(0))

    for circuit in (noise, gate, of_the_batch):
        with pytest.raises(ChangingCircuit, match=r"two calls|draws random numbers"):
            bound(circuit)


@pytest.mark.parametrize(
    ("device", "options", "message"),
    [
        (
            "default.mixed",
            {},
            "its device is default.mixed, and those that can be replaced are default.qubit, lightning.qubit",
        ),
        ("default.qubit", {"shots": 10}, "its device draws 10 shots"),
        ("default.qubit", {"diff_method": "spsa"}, "its diff_method 'spsa' is an estimator of its own"),
        ("default.qubit", {"diff_method": None}, "its diff_method None"),
    ],
)
def test_qnodes_that_ask_for_something_else_are_refused(device, options, message):
    shots = options.pop("shots", None)
    with pytest.raises(UnsupportedCircuit, match=message):
        check_qnode(qml.QNode(lambda: None, qml.device(device, wires=1, shots=shots), **options))


def test_reindexing_a_program_keeps_its_numbers():
    shared, sample = np.random.default_rng(0).uniform(-2, 2, (3,)), np.random.default_rng(1).uniform(-2, 2, (4, 2))
    tape = qml.tape.QuantumScript(
        [
            qml.RX(sample[:, 0], 0),
            qml.RY(shared[0], 1),
            qml.CRX(sample[:, 1], [0, 1]),
            qml.Rot(shared[0], shared[1], shared[2], 0),
            qml.SingleExcitation(shared[1], [1, 0]),
            qml.PhaseShift(sample[:, 1], 1),
        ],
        [qml.expval(qml.X(0)), qml.expval(qml.Y(1) @ qml.Z(0))],
    )
    compiled = compile_tape(tape)
    numbers = [tape.operations[op].data[i] for op, i in compiled.shared]
    columns = np.stack([tape.operations[op].data[i] for op, i in compiled.sample], axis=1)
    expected = engine.expectations(compiled.program, tf.constant(numbers), tf.constant(columns))
    # every parameter through a scale and an offset, in another order and with unused entries between
    to_shared = [Angle(Kind.SHARED, 2 * len(numbers) - 1 - 2 * i, -2.0, 0.5) for i in range(len(numbers))]
    to_sample = [Angle(Kind.SAMPLE, 1 + i, 4.0, -1.0) for i in range(columns.shape[1])]
    new_shared, new_sample = np.zeros(2 * len(numbers)), np.zeros((4, 1 + columns.shape[1]))
    for old, angle in zip(numbers, to_shared, strict=True):
        new_shared[angle.index] = (old - 0.5) / -2
    new_sample[:, 1:] = (columns + 1) / 4
    program = reindex(compiled.program, to_shared, to_sample, len(new_shared), new_sample.shape[1])
    assert (program.n_shared, program.n_sample) == (len(new_shared), new_sample.shape[1])
    found = engine.expectations(program, tf.constant(new_shared), tf.constant(new_sample))
    np.testing.assert_allclose(found, expected, atol=1e-12)
    constants = [Angle(offset=float(number)) for number in numbers]
    found = engine.expectations(
        reindex(compiled.program, constants, None, 0, 0), tf.zeros(0, tf.float64), tf.constant(columns)
    )
    np.testing.assert_allclose(found, expected, atol=1e-12)
