"""Circuits that people write, on which a compiled one could differ from PennyLane: equal, refused or told."""

import concurrent.futures
import os
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pennylane as qml
import pytest
from fuzz_circuits import Repeated
from hypothesis import given, settings
from hypothesis import strategies as st
from pennylane import numpy as pnp
from pennylane.tape import QuantumScript

from hybridbench.circuits import compiled, proof
from hybridbench.circuits.layer import KerasLayer, tf
from hybridbench.circuits.tracing import bind
from hybridbench.engine import plan_proof, verification
from hybridbench.engine.compiler import UnsupportedCircuit, structure_key
from hybridbench.engine.plan import plan_key


@pytest.fixture(autouse=True, params=["float32"])
def _floatx(request):
    before = tf.keras.backend.floatx()
    tf.keras.backend.set_floatx(request.param)
    yield
    tf.keras.backend.set_floatx(before)


def layer_of(kind, circuit, n=2, shapes=None, values=None, device="default.qubit", **options):
    layer = kind(qml.QNode(circuit, qml.device(device, wires=n)), shapes or {"w": ()}, None, **options)
    for name, value in (values or {"w": 0.4}).items():
        layer.qnode_weights[name].assign(value)
    return layer


def told(record):
    return [str(w.message) for w in record if "not compiled" in str(w.message)]


def both(circuit, rows, graph=False, compiled_too=True, **options):
    """Values of PennyLane's layer and ours; asserts that ours is compiled, or that it says that it is not."""
    x = tf.constant(rows, tf.float32)
    wanted = layer_of(qml.qnn.KerasLayer, circuit, **options)(x).numpy()
    layer = layer_of(KerasLayer, circuit, **options)
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        call = tf.function(layer.call, input_signature=[tf.TensorSpec((None, x.shape[1]), tf.float32)]) if graph else layer
        found = call(x).numpy()
    assert bool(told(record)) is not compiled_too
    return found, wanted


# --- numbers ---------------------------------------------------------------------------------------------------------------

RAW = {
    "year": (2000.0, 10.0, [[1990.0], [1995.0], [2006.0]]),
    "price": (210000.0, 120000.0, [[100000.0], [250000.0], [400000.0]]),
    "unix time": (1.7e9, 1e7, [[1.69e9], [1.70e9], [1.712e9]]),
    "pressure": (101325.0, 500.0, [[100800.0], [101000.0], [101900.0]]),
    "large": (0.0, 1e6, [[1e6], [2e6], [-1e6]]),
    "tiny": (0.0, 1e-9, [[1e-9], [2e-9], [-1e-9]]),
}


@pytest.mark.parametrize("name", RAW)
@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("how", ["divided", "multiplied"])
def test_features_normalised_in_the_circuit(name, graph, how):
    offset, scale, rows = RAW[name]

    def circuit(inputs, w):
        angle = (inputs[:, 0] - offset) / scale if how == "divided" else inputs[:, 0] * (1 / scale) - offset / scale
        qml.RY(angle, wires=0)
        qml.RX(w, wires=0)
        return qml.expval(qml.X(0))

    found, wanted = both(circuit, rows, graph)
    np.testing.assert_allclose(
        found, wanted, atol=2e-5 if how == "divided" else 2e-3
    )  # their own order of operations rounds


@pytest.mark.parametrize("angle", [0.5 + 0.5j, 0.5 + 0.0j])
def test_complex_angles_are_not_cast(angle):
    def circuit(inputs, w):
        qml.RX(inputs[:, 0], 0)
        qml.RX(angle, 0)
        return qml.expval(qml.Z(0))

    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        try:
            found = layer_of(KerasLayer, circuit)(tf.constant([[0.3]]))
        except Exception as error:  # noqa: BLE001  (PennyLane's own)
            with pytest.raises(type(error)):
                layer_of(qml.qnn.KerasLayer, circuit)(tf.constant([[0.3]]))
            return
    np.testing.assert_allclose(found, layer_of(qml.qnn.KerasLayer, circuit)(tf.constant([[0.3]])), atol=1e-5)
    assert told(record) or angle.imag == 0


HAMILTONIAN = qml.dot([0.7, 0.4], [qml.X(0) @ qml.X(1), qml.Z(0)])
FIXED = {
    "exp": lambda: qml.exp(qml.X(0), 0.3j),
    "trotter": lambda: qml.TrotterProduct(HAMILTONIAN, time=0.8, n=2, order=2),
    "qdrift": lambda: qml.QDrift(HAMILTONIAN, 0.4, n=3, seed=1),
    "evolve": lambda: qml.evolve(HAMILTONIAN, 0.8),
    "controlled": lambda: qml.ctrl(qml.exp(qml.X(0), 0.3j), control=1),
    "power": lambda: qml.pow(qml.exp(qml.X(0), 0.3j), 2),
    "adjoint": lambda: qml.adjoint(qml.exp(qml.X(0), 0.3j)),
    "product": lambda: qml.prod(qml.exp(qml.X(0), 0.3j), qml.Hadamard(1)),
}


@pytest.mark.parametrize("name", FIXED)
def test_evolutions_with_an_imaginary_coefficient(name):
    def circuit(inputs, w):
        qml.AngleEmbedding(inputs, range(2))
        FIXED[name]()
        qml.RY(w, 0)
        return qml.expval(qml.Z(0))

    found, wanted = both(circuit, [[0.1, 0.3], [0.7, 1.1]])
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_unitary_that_rounding_left_off_is_not_renormalised():
    matrix = np.array([[0.6, 0.8], [-0.8, 0.6]], np.complex64) * np.float32(1 + 2e-6)

    def circuit(x):
        qml.RX(x, 0)
        qml.QubitUnitary(matrix, 0)
        return qml.probs(wires=[0])

    values = [qml.QNode(circuit, qml.device(d, wires=1))(0.3) for d in ("default.qubit", "hybridbench.qubit")]
    np.testing.assert_allclose(values[1], values[0], atol=1e-9, rtol=0)
    for wrong in (np.array([[1.0, 0.1], [0.0, 1.0]]), np.diag([1.0, 0.9])):
        with pytest.raises(qml.DeviceError, match="is not unitary"):
            qml.QNode(lambda x, m=wrong: (qml.QubitUnitary(m, 0), qml.expval(qml.Z(0)))[1], qml.device("hybridbench.qubit"))(
                0.1
            )


@pytest.mark.parametrize("angle", [None, "1", "x"])
def test_what_is_no_number_is_refused(angle):
    run = qml.QNode(lambda: (qml.RX(angle, 0), qml.expval(qml.Z(0)))[1], qml.device("hybridbench.qubit", wires=1))
    with pytest.raises(Exception, match=r".+"):
        run()


# --- states ----------------------------------------------------------------------------------------------------------------


def raw(inputs, w):
    qml.AmplitudeEmbedding(inputs, wires=[0, 1])
    qml.RY(w, 0)
    return qml.expval(qml.Z(0))


@pytest.mark.parametrize("graph", [False, True])
def test_amplitudes_that_are_not_of_norm_one_are_refused_as_pennylane_refuses_them(graph):
    x = tf.constant([[1.0, 2.0, 3.0, 4.0]])
    layer = layer_of(KerasLayer, raw)
    with pytest.raises(ValueError, match=r"must be a vector of norm 1\.0"):
        (tf.function(lambda x: layer(x)) if graph else layer)(x)


def test_a_later_batch_is_refused_too_and_a_good_one_is_computed():
    good, bad = tf.constant([[0.5, 0.5, 0.5, 0.5]]), tf.constant([[1.0, 2.0, 3.0, 4.0]])
    layer, shipped = layer_of(KerasLayer, raw), layer_of(qml.qnn.KerasLayer, raw)
    run = tf.function(lambda x: layer(x))
    for call in (layer, run):
        np.testing.assert_allclose(call(good), shipped(good), atol=1e-6)
        with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match=r"must be a vector of norm 1\.0"):
            call(bad)
        np.testing.assert_allclose(call(good), shipped(good), atol=1e-6)


def test_one_bad_batch_at_first_does_not_keep_a_circuit_from_being_compiled():
    layer = layer_of(KerasLayer, raw)
    with pytest.raises(ValueError, match="norm"):
        layer(tf.constant([[1.0, 2.0, 3.0, 4.0]]))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        layer(tf.constant([[0.5, 0.5, 0.5, 0.5]]))


def test_a_state_fed_by_a_softmax_in_graph_mode():
    layer = layer_of(KerasLayer, raw)
    model = tf.keras.Sequential(
        [tf.keras.layers.Dense(4, "softmax", input_shape=(3,)), tf.keras.layers.Lambda(tf.sqrt), layer]
    )
    model.compile("sgd", "mse")
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        model.fit(np.ones((6, 3)), np.ones(6), batch_size=3, verbose=0)
    assert told(record) == []


# --- operations of one's own -----------------------------------------------------------------------------------------------


class Bent(qml.operation.Operation):
    num_params = num_wires = 1
    ndim_params = (0,)
    bend = staticmethod(qml.math.abs)

    @classmethod
    def compute_decomposition(cls, angle, wires):
        return [qml.RY(Bent.bend(angle), wires)]


class Turned(qml.operation.Operation):
    num_wires, num_params = 1, 0
    has_matrix = True

    def __init__(self, turn, wires):
        self.turn = turn
        super().__init__(wires=wires)

    def matrix(self, wire_order=None):
        return np.array([[np.cos(self.turn), -np.sin(self.turn)], [np.sin(self.turn), np.cos(self.turn)]])


class Held(qml.operation.Operation):
    num_wires, num_params = 1, 0

    def __init__(self, matrix, wires):
        super().__init__(wires=wires)
        self._hyperparameters = {"U": matrix}

    @staticmethod
    def compute_matrix(U):
        return U


@pytest.mark.parametrize("bend", [qml.math.abs, lambda v: qml.math.clip(v, -1.0, 1.0), qml.math.floor])
def test_operations_that_are_not_smooth(bend, monkeypatch):
    monkeypatch.setattr(Bent, "bend", staticmethod(bend))
    runs = [
        qml.QNode(lambda a: (Bent(a, 0), qml.expval(qml.X(0)))[1], qml.device(d, wires=1))
        for d in ("default.qubit", "hybridbench.qubit")
    ]
    for angle in (0.5, -0.5, 2.0, -3.0):
        np.testing.assert_allclose(runs[1](angle), runs[0](angle), atol=1e-9)


def test_attributes_that_change_between_calls():
    calls = [
        *(lambda t=t: Repeated(0.5, 0, t) for t in (1, 3, 2)),
        *(lambda t=t: Turned(t, 0) for t in (0.3, 0.9)),
        *(lambda m=m: Held(m, 0) for m in (np.eye(2), np.eye(2)[::-1])),
        *(lambda t=t: qml.adjoint(Repeated(0.5, 0, t)) for t in (1, 3)),
    ]
    runs = [
        qml.QNode(lambda make: (qml.RX(0.2, 0), make(), qml.expval(qml.Z(0)))[-1], qml.device(d, wires=1))
        for d in ("default.qubit", "hybridbench.qubit")
    ]
    for make in calls:
        np.testing.assert_allclose(float(runs[1](make)), float(runs[0](make)), atol=1e-9)


# --- keys ------------------------------------------------------------------------------------------------------------------

CONSTRUCTIONS = [
    lambda: qml.RX(0.1, 0),
    lambda: qml.RX(0.1, 1),
    lambda: qml.RX(np.array([0.1, 0.2]), 0),
    lambda: qml.RX(0.1 + 0j, 0),
    lambda: qml.PauliRot(0.1, "XY", [0, 1]),
    lambda: qml.PauliRot(0.1, "YX", [0, 1]),
    lambda: qml.ctrl(qml.RX(0.1, 0), 1),
    lambda: qml.ctrl(qml.RX(0.1, 0), 1, control_values=[0]),
    lambda: qml.ctrl(qml.RX(0.1, 0), [1, 2], control_values=[0, 1]),
    lambda: qml.ctrl(qml.RX(0.1, 0), [1, 2], control_values=[1, 0]),
    lambda: qml.adjoint(qml.RX(0.1, 0)),
    lambda: qml.pow(qml.RX(0.1, 0), 2),
    lambda: qml.pow(qml.RX(0.1, 0), 3),
    lambda: qml.QubitUnitary(np.eye(2), 0),
    lambda: qml.QubitUnitary(np.eye(2)[::-1], 0),
    lambda: qml.BasisState(np.array([0, 1]), [0, 1]),
    lambda: qml.BasisState(np.array([1, 1]), [0, 1]),
    lambda: qml.MultiControlledX([0, 1, 2]),
    lambda: qml.MultiControlledX([0, 1, 2], control_values=[0, 1]),
    lambda: qml.PCPhase(0.1, dim=1, wires=[0, 1]),
    lambda: qml.PCPhase(0.1, dim=2, wires=[0, 1]),
    lambda: qml.FlipSign([0, 1], wires=[0, 1]),
    lambda: qml.FlipSign([1, 0], wires=[0, 1]),
    lambda: qml.evolve(qml.X(0), 0.1),
    lambda: qml.evolve(qml.Y(0), 0.1),
    lambda: qml.evolve(2 * qml.X(0), 0.1),
    lambda: qml.RandomLayers(np.array([[0.1]]), [0, 1], seed=1),
    lambda: qml.RandomLayers(np.array([[0.1]]), [0, 1], seed=2),
    lambda: qml.Select([qml.X(1), qml.Z(1)], control=0),
    lambda: qml.Select([qml.Z(1), qml.X(1)], control=0),
    lambda: qml.AngleEmbedding(np.array([0.1]), [0], rotation="X"),
    lambda: qml.AngleEmbedding(np.array([0.1]), [0], rotation="Y"),
    lambda: qml.BasicEntanglerLayers(np.array([[0.1]]), [0], rotation=qml.RX),
    lambda: qml.BasicEntanglerLayers(np.array([[0.1]]), [0], rotation=qml.RY),
    lambda: qml.TrotterProduct(HAMILTONIAN, 0.1, n=1),
    lambda: qml.TrotterProduct(HAMILTONIAN, 0.1, n=2),
    lambda: qml.Permute([1, 0], [0, 1]),
    lambda: qml.AQFT(1, [0, 1, 2]),
    lambda: qml.QFT([0, 1, 2]),
    lambda: qml.Projector([0], 0),
    lambda: Repeated(0.1, 0, 1),
    lambda: Turned(0.1, 0),
]


def key_of(op, measurement):
    try:
        return plan_key(QuantumScript([op], [measurement]), [0, 1, 2])
    except UnsupportedCircuit:
        return None  # never taken for another


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(CONSTRUCTIONS) - 1), st.integers(0, len(CONSTRUCTIONS) - 1))
def test_two_circuits_that_differ_have_keys_that_differ(i, j):
    keys = [key_of(CONSTRUCTIONS[k](), qml.expval(qml.Z(0))) for k in (i, j)]
    if i == j:
        assert keys[0] == keys[1]
    else:
        assert keys[0] != keys[1] or keys[0] is None


def test_all_pairs_of_circuits_have_different_keys():
    keys = [key_of(make(), qml.expval(qml.Z(0))) for make in CONSTRUCTIONS]
    known = [key for key in keys if key is not None]
    assert len(set(known)) == len(known) > 30


def test_observables_and_measurements_count():
    kinds = [qml.expval(qml.Z(0)), qml.expval(qml.Z(1)), qml.expval(2 * qml.Z(0)), qml.var(qml.Z(0)), qml.probs(wires=[0])]
    kinds += [qml.expval(qml.Hermitian(np.diag([1.0, k]), 0)) for k in (2, 3)]
    keys = [key_of(qml.RX(0.1, 0), m) for m in kinds]
    assert len(set(keys)) == len(keys)


def test_what_the_function_reads_counts():
    settings_ = {"depth": 1, "shift": 0.2}

    class Model:
        gain = 1.0

    model = Model()
    model.gain = 0.5

    def circuit(inputs, w):
        for _ in range(settings_["depth"]):
            qml.RY(inputs[:, 0] * model.gain + settings_["shift"], 0)
        qml.RX(w, 0)
        return qml.expval(qml.Z(0))

    layer, shipped, x = layer_of(KerasLayer, circuit), layer_of(qml.qnn.KerasLayer, circuit), tf.constant([[0.3], [0.7]])
    for change in ({}, {"depth": 3}, {"shift": -0.4}):
        settings_.update(change)
        np.testing.assert_allclose(layer(x), shipped(x), atol=1e-5)
    model.gain = 2.0
    np.testing.assert_allclose(layer(x), shipped(x), atol=1e-5)


# --- circuits that change --------------------------------------------------------------------------------------------------


def dropped(rng):
    def circuit(inputs, w):
        qml.AngleEmbedding(inputs, range(4))
        for i in range(4):
            if rng.random() > 0.1:
                qml.RX(w[i], i)
        return [qml.expval(qml.Z(i)) for i in range(4)]

    return circuit


def test_random_numbers_are_never_frozen():
    x = np.ones((2, 4), "float32")
    frozen = 0
    for seed in range(6):
        layer = layer_of(KerasLayer, dropped(np.random.default_rng(seed)), 4, {"w": (4,)}, {"w": [0.1, 0.5, 0.9, 1.3]})
        with warnings.catch_warnings(record=True) as record:
            warnings.simplefilter("always")
            values = {layer(x).numpy().tobytes() for _ in range(20)}
        frozen += len(values) == 1 and not told(record)
    assert frozen == 0


def test_looking_at_a_circuit_takes_no_random_numbers_away():
    rng = np.random.default_rng(0)

    def circuit(inputs, w):
        qml.RX(w + rng.normal(), 0)
        qml.RY(inputs[:, 0], 0)
        return qml.expval(qml.Z(0))

    specs = tf.TensorSpec((None, 1), tf.float32), {"w": tf.TensorSpec((), tf.float32)}
    with pytest.raises(UnsupportedCircuit, match="draws random numbers"):
        bind(qml.QNode(circuit, qml.device("default.qubit", wires=1)), "inputs", *specs)
    assert rng.normal() == np.random.default_rng(0).normal()


def test_no_slope_is_compared_at_numbers_that_are_not_finite(monkeypatch):
    given, compare_values = [], plan_proof._compare_values

    def refuses_others(runner, plan, circuit):
        given.append(circuit)
        if len(given) == 2:  # the first of other numbers
            raise ValueError("a template that takes no such numbers")
        return compare_values(runner, plan, circuit)

    monkeypatch.setattr(plan_proof, "_compare_values", refuses_others)
    monkeypatch.setattr(verification, "compare_slopes", lambda *a: pytest.fail("at infinity"))
    circuit = qml.QNode(lambda x: (qml.RX(x, 0), qml.expval(qml.Z(0)))[1], qml.device("hybridbench.qubit", wires=1))
    with pytest.warns(verification.NotVerified, match="a slope needs finite numbers"):
        assert np.isnan(circuit(np.inf))


# --- shapes ----------------------------------------------------------------------------------------------------------------


def test_a_transform_that_needs_the_size_of_the_batch_falls_back_in_a_graph():
    @qml.transforms.split_non_commuting
    @qml.qnode(qml.device("default.qubit", wires=2))
    def circuit(inputs, w):
        qml.RX(inputs[..., 0], 0)
        qml.RX(w, 1)
        qml.CNOT([0, 1])
        return qml.expval(0.4 * qml.Z(0) @ qml.Y(1) - 0.3 * qml.Y(0) @ qml.Z(1))

    x = tf.constant(np.random.default_rng(0).normal(size=(4, 1)), tf.float32)
    layer = KerasLayer(circuit, {"w": ()}, None)
    layer.qnode_weights["w"].assign(0.4)
    with pytest.warns(UserWarning, match="not compiled"):
        found = tf.function(layer.call, input_signature=[tf.TensorSpec((None, 1), tf.float32)])(x)
    np.testing.assert_allclose(found, circuit(x, 0.4), atol=1e-6)


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("values", ["one", "list of one", "two"])
@pytest.mark.parametrize("rows", [1, 3])
def test_a_batch_of_one_that_pennylane_drops_from_a_hamiltonian(rows, values, graph):
    def circuit(inputs, w):
        qml.AmplitudeEmbedding(inputs, range(2), normalize=True)
        qml.RX(w, 0)
        terms = qml.Hamiltonian([0.3, 0.5], [qml.X(0) @ qml.X(1), qml.Z(1) @ qml.Z(0)])
        one = qml.expval(terms)
        return {"one": lambda: one, "list of one": lambda: [one], "two": lambda: [one, qml.expval(2.0 * terms)]}[values]()

    x = np.random.default_rng(1).normal(size=(rows, 4))
    # Of one value no shape is left at all, and the layer leaves that to PennyLane.
    found, wanted = both(circuit, x, graph, compiled_too=(rows, values) != (1, "one"))
    assert found.shape == wanted.shape
    assert found == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("batch", [2, 3, 5, 6])
def test_a_circuit_for_one_sample_is_refused_as_pennylane_refuses_it(batch):
    def circuit(inputs, w):
        for i in range(3):
            qml.RX(inputs[i], i)
        return [qml.expval(qml.Z(i)) for i in range(3)]

    x = tf.constant(np.random.default_rng(0).uniform(size=(batch, 3)), tf.float32)
    outcomes = []
    for kind in (qml.qnn.KerasLayer, KerasLayer):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                outcomes.append(layer_of(kind, circuit, 3)(x).numpy())
            except Exception as error:  # noqa: BLE001  (the same refusal is wanted)
                outcomes.append(type(error))
    if isinstance(outcomes[0], type):
        assert outcomes[0] is outcomes[1]
    else:
        np.testing.assert_allclose(outcomes[1], outcomes[0], atol=1e-5)


EMBEDDINGS = {
    "normalised": lambda x: qml.AmplitudeEmbedding(x[:, :8], range(3), normalize=True),
    "padded with a number": lambda x: qml.AmplitudeEmbedding(x[:, :6], range(3), pad_with=0.3, normalize=True),
    "padded with zero": lambda x: qml.AmplitudeEmbedding(x[:, :6], range(3), pad_with=0.0, normalize=True),
    "mixed": lambda x: qml.AmplitudeEmbedding(x[:, :8] / 2 + x[:, 8:], range(3), normalize=True),
    "products": lambda x: qml.IQPEmbedding(x[:, :3], range(3)),
}


@pytest.mark.parametrize("embedding", EMBEDDINGS)
@pytest.mark.parametrize("measure", [lambda: qml.probs(wires=[0, 1]), lambda: [qml.expval(qml.Z(i)) for i in range(3)]])
def test_a_batch_of_unknown_size_is_compiled(embedding, measure):
    def circuit(inputs, w):
        EMBEDDINGS[embedding](inputs)
        qml.StronglyEntanglingLayers(w, range(3))
        return measure()

    rows = np.random.default_rng(0).uniform(0.1, 1, (4, 16))
    w = np.random.default_rng(1).uniform(0, 6, (1, 3, 3))
    found, wanted = both(circuit, rows, graph=True, n=3, shapes={"w": (1, 3, 3)}, values={"w": w})
    np.testing.assert_allclose(found, wanted, atol=2e-5)


# --- derivatives of derivatives --------------------------------------------------------------------------------------------


def physics(x, w, measure=lambda: qml.expval(qml.Z(0))):
    qml.AngleEmbedding(x, [0])
    qml.RY(w[0], 0)
    qml.RZ(w[1], 0)
    qml.CNOT([0, 1])
    qml.RX(w[1], 0)
    return measure()


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("measure", [lambda: qml.expval(qml.Z(0)), lambda: qml.probs(wires=[0])])
def test_a_derivative_in_the_loss_on_the_device(graph, measure):
    x, w = tf.constant(np.linspace(0.1, 0.9, 4)[:, None]), tf.constant([0.4, 1.1], tf.float64)

    def circuit(x, w):
        return physics(x, w, measure)

    def slope(device):
        run = qml.QNode(circuit, qml.device(device, wires=2), interface="tf")

        def loss(x, w):
            with tf.GradientTape() as outer:
                outer.watch(w)
                with tf.GradientTape() as inner:
                    inner.watch(x)
                    u = run(x, w)
                    total = tf.reduce_sum(u**2)
                du = inner.gradient(total, x)
                value = tf.reduce_mean((du[:, 0] - tf.cos(x[:, 0])) ** 2) + tf.reduce_sum(u) ** 2
            return outer.gradient(value, w)

        return (tf.function(loss, autograph=False) if graph else loss)(x, w).numpy()

    np.testing.assert_allclose(slope("hybridbench.qubit"), slope("default.qubit"), atol=1e-9)


@pytest.mark.parametrize("graph", [False, True])
def test_a_gradient_penalty_with_the_layer(graph):
    x = tf.constant([[0.3, 0.1], [0.9, -0.4]])

    def circuit(inputs, w):
        qml.AngleEmbedding(inputs, range(2))
        qml.CNOT([0, 1])
        qml.RY(w, 1)
        return qml.expval(qml.Z(1)), qml.expval(qml.X(1))

    def penalty(kind):
        layer = layer_of(kind, circuit)

        def loss(x):
            with tf.GradientTape() as outer:
                with tf.GradientTape() as inner:
                    inner.watch(x)
                    y = tf.reduce_sum(layer(x) ** 2)
                norm = tf.norm(inner.gradient(y, x), axis=1)
                value = tf.reduce_mean((norm - 1) ** 2)
            return outer.gradient(value, layer.trainable_variables[0])

        return (tf.function(loss) if graph and kind is KerasLayer else loss)(x).numpy()

    np.testing.assert_allclose(penalty(KerasLayer), penalty(qml.qnn.KerasLayer), atol=2e-5)


def test_forward_mode_of_layer_and_device():
    x, w = tf.constant([[0.3], [0.9]], tf.float64), tf.constant([0.4, 1.1], tf.float64)
    found = []
    for device in ("default.qubit", "hybridbench.qubit"):
        run = qml.QNode(physics, qml.device(device, wires=2), interface="tf")
        with tf.autodiff.ForwardAccumulator(w, tf.ones_like(w)) as along:
            value = run(x, w)
        found.append(along.jvp(value).numpy())
    np.testing.assert_allclose(found[1], found[0], atol=1e-9)


def without_rz(x, w):  # PennyLane's own RZ has no second derivative under autograd
    qml.AngleEmbedding(x, [0])
    qml.RY(w[0], 0)
    qml.CNOT([0, 1])
    qml.RX(w[1], 1)
    return qml.expval(qml.Z(1))


def test_derivatives_of_derivatives_under_autograd():
    x, w = pnp.array(np.linspace(0.1, 0.9, 3)[:, None], requires_grad=True), pnp.array([0.4, 1.1], requires_grad=True)
    found = []
    for device in ("default.qubit", "hybridbench.qubit"):
        run = qml.QNode(without_rz, qml.device(device, wires=2))

        def penalty(w, run=run):
            return pnp.sum(qml.grad(lambda x: pnp.sum(run(x, w) ** 2))(x) ** 2)

        found.append((qml.grad(penalty)(w), qml.jacobian(qml.grad(lambda w, run=run: pnp.sum(run(x, w) ** 2)))(w)))
    for mine, theirs in zip(found[1], found[0], strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-9)


# --- the proof itself ------------------------------------------------------------------------------------------------------


def good(inputs, w):
    qml.RX(inputs[:, 0], 0)
    qml.RY(w, 0)
    return qml.expval(qml.Z(0))


@pytest.mark.parametrize("fault", ["values", "gradient"])
def test_a_tampered_engine_is_found_and_told_of(monkeypatch, fault):
    run = compiled.CompiledCircuit._rows

    def tampered(self, values, x):
        wrong = values * 1.01 if fault == "values" else values + tf.stop_gradient(0.01 * values) - 0.01 * values
        return run(self, wrong, x)

    monkeypatch.setattr(compiled.CompiledCircuit, "_rows", tampered)
    x = tf.constant([[0.3], [0.7]])
    with pytest.warns(UserWarning, match=f"its {fault.rstrip('s')}.* differ from PennyLane's"):
        found = layer_of(KerasLayer, good)(x).numpy()
    np.testing.assert_allclose(found, layer_of(qml.qnn.KerasLayer, good)(x), atol=1e-6)
    trusted = layer_of(KerasLayer, good, verify="never")(x).numpy()
    assert np.abs(trusted - found).max() > 1e-3 or fault == "gradient"


def test_a_tampered_device_is_refused():
    device = qml.device("hybridbench.qubit", wires=1)
    device._measured = lambda plan, circuit, parameters: [np.array([0.3])]
    with pytest.raises(qml.DeviceError, match="differ from PennyLane's"):
        qml.QNode(lambda x: (qml.RX(x, 0), qml.expval(qml.Z(0)))[1], device)(0.1)


def test_what_takes_no_other_numbers_is_told_of(monkeypatch):
    def unbound(tape, values, at):
        raise verification.Unbound("RX takes no other numbers")

    monkeypatch.setattr(verification, "bound", unbound)
    x = tf.constant([[0.3], [0.7]])
    with pytest.warns(UserWarning, match="is not compiled .* its gradient cannot be compared with PennyLane's: RX"):
        found = layer_of(KerasLayer, good)(x).numpy()
    np.testing.assert_allclose(found, np.cos([0.3, 0.7]) * np.cos(0.4), atol=1e-6)
    for number, what in ((np.array(0.1), "and not its gradient: RX"), (tf.constant(0.1), "did not compare .*: RX")):
        run = qml.QNode(lambda x: (qml.RX(x, 0), qml.expval(qml.Z(0)))[1], qml.device("hybridbench.qubit", wires=1))
        with pytest.warns(verification.NotVerified, match=what):
            assert float(run(number)) == pytest.approx(np.cos(0.1))


def test_a_trained_trotter_product_is_compared(monkeypatch):
    def circuit(w):
        qml.TrotterProduct(qml.dot(w[1:], [qml.X(0), qml.Z(0) @ qml.X(1)]), w[0], n=2)
        return qml.expval(qml.Z(0))

    at = pnp.array([0.4, 0.7, -0.3], requires_grad=True)
    wanted = qml.grad(qml.QNode(circuit, qml.device("default.qubit", wires=2)))(at)
    with warnings.catch_warnings():
        warnings.simplefilter("error", verification.NotVerified)
        found = qml.grad(qml.QNode(circuit, qml.device("hybridbench.qubit", wires=2)))(at)
    np.testing.assert_allclose(found, wanted, atol=1e-9)


def test_verify_always_compares_every_call(monkeypatch):
    layer = layer_of(KerasLayer, good, verify="always")
    x = tf.constant([[0.3], [0.7]])
    layer(x)
    monkeypatch.setattr(proof.Reference, "values", lambda self, by=0.0: [np.zeros(2)])
    with pytest.warns(UserWarning, match="differ from PennyLane's"):
        layer(x)
    device = qml.device("hybridbench.qubit", wires=1, verify="always")
    run = qml.QNode(lambda x: (qml.RX(x, 0), qml.expval(qml.Z(0)))[1], device)
    run(0.1)
    monkeypatch.setattr(verification, "executed", lambda tape, wires: [np.array(0.0)])
    with pytest.raises(qml.DeviceError, match="differ from PennyLane's"):
        run(0.2)


def test_an_unknown_setting_is_named():
    with pytest.raises(ValueError, match="Unknown verify 'sometimes'"):
        layer_of(KerasLayer, good, verify="sometimes")
    with pytest.raises(qml.DeviceError, match="Unknown verify 'sometimes'"):
        qml.device("hybridbench.qubit", wires=1, verify="sometimes")


# --- threads and processes -------------------------------------------------------------------------------------------------

FIRST_CALLS = {
    "layer": """
        import concurrent.futures as cf, numpy as np, hybridbench, pennylane as qml
        x = np.ones((4, 3), "float32")
        def work(seed):
            @qml.qnode(qml.device("default.qubit", wires=3))
            def c(inputs, weights):
                qml.AngleEmbedding(inputs, range(3)); qml.StronglyEntanglingLayers(weights, range(3))
                return [qml.expval(qml.Z(i)) for i in range(3)]
            return hybridbench.KerasLayer(c, {"weights": (1, 3, 3)}, 3)(x).shape
        hybridbench.KerasLayer
        with cf.ThreadPoolExecutor(4) as pool: print("ok", list(pool.map(work, range(4))))
    """,
    "device": """
        import concurrent.futures as cf, numpy as np, hybridbench, pennylane as qml
        X, W = np.random.default_rng(0).uniform(-1, 1, (32, 3)), np.random.default_rng(1).uniform(0, 6, (1, 3, 3))
        @qml.qnode(qml.device("hybridbench.qubit", wires=3))
        def c(x, w):
            qml.AngleEmbedding(x, range(3)); qml.StronglyEntanglingLayers(w, range(3)); return qml.expval(qml.Z(0))
        with cf.ThreadPoolExecutor(4) as pool: found = list(pool.map(lambda i: c(X[:4 + i], W), range(8)))
        print("ok", len(found))
    """,
    "fork": """
        import os, numpy as np, hybridbench, pennylane as qml
        @qml.qnode(qml.device("hybridbench.qubit", wires=2))
        def c(x):
            qml.RX(x, 0); qml.CNOT([0, 1]); return qml.expval(qml.Z(1))
        before = float(c(0.3))
        child = os.fork()
        if child == 0:
            os._exit(0 if abs(float(c(0.3)) - before) < 1e-12 else 1)
        print("ok" if os.waitpid(child, 0)[1] == 0 else "bad")
    """,
}


@pytest.mark.parametrize("what", FIRST_CALLS)
def test_first_calls_from_threads_and_forks(what, tmp_path):
    code = textwrap.dedent(FIRST_CALLS[what])
    env = {**os.environ, "HYBRIDBENCH_CACHE_DIR": str(tmp_path)} if what == "device" else None
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("ok")


def test_several_threads_trace_one_layer():
    layer, shipped = layer_of(KerasLayer, good), layer_of(qml.qnn.KerasLayer, good)
    rows = [tf.constant(np.linspace(0, 1, n)[:, None], tf.float32) for n in range(1, 9)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(layer, rows))
    for x, values in zip(rows, found, strict=True):
        np.testing.assert_allclose(values, shipped(x), atol=1e-6)
    assert len(layer._kept.circuits) == 1


def test_an_error_of_circumstance_is_not_kept(monkeypatch):
    layer, real, calls = layer_of(KerasLayer, good), compiled.bind, []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == 1:
            raise MemoryError("no room just now")
        return real(*arguments)

    monkeypatch.setattr(compiled, "bind", failing)
    with pytest.warns(UserWarning, match="MemoryError"):
        layer(tf.constant([[0.3]]))
    layer(tf.constant([[0.3]]))
    assert any(isinstance(c, compiled.CompiledCircuit) for c in layer._kept.circuits.values())


def test_structure_keys_name_what_cannot_be_compared():
    with pytest.raises(UnsupportedCircuit, match="an operation from elsewhere"):
        structure_key(QuantumScript([Repeated(0.1, 0, 2)], []))


# --- as wide as PennyLane --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [5, 6])
def test_constant_unitaries_on_many_wires(n):
    from scipy.stats import unitary_group

    matrix, values = unitary_group.rvs(2**n, random_state=0), []

    def circuit(x):
        qml.RX(x, 0)
        qml.QubitUnitary(matrix, range(n))
        qml.RY(x, 1)
        return qml.expval(qml.Z(0) @ qml.X(1))

    for device in ("default.qubit", "hybridbench.qubit"):
        run, x = qml.QNode(circuit, qml.device(device, wires=n)), pnp.array(0.3, requires_grad=True)
        values.append((float(run(x)), float(qml.grad(run)(x))))
    np.testing.assert_allclose(values[1], values[0], atol=1e-9)


def test_a_unitary_on_too_many_wires_is_named_without_its_matrix():
    run = qml.QNode(
        lambda: (qml.QubitUnitary(np.eye(512)[::-1], range(9)), qml.expval(qml.Z(0)))[1],
        qml.device("hybridbench.qubit", wires=9),
    )
    with pytest.raises(qml.DeviceError, match="QubitUnitary on 9 wires, only up to 8") as found:
        run()
    assert len(str(found.value)) < 300


@pytest.mark.parametrize("around", ["the QNode", "its function"])
def test_deferred_measurements_are_compiled_as_the_warning_says(around):
    def circuit(inputs, w):
        qml.RX(inputs[:, 0], 0)
        qml.cond(qml.measure(0), qml.RX)(w, 1)
        return qml.expval(qml.Z(1))

    device = qml.device("default.qubit", wires=3)
    defer = qml.defer_measurements
    qnode = defer(qml.QNode(circuit, device)) if around == "the QNode" else qml.QNode(defer(circuit), device)
    plain = KerasLayer(qml.QNode(circuit, device), {"w": ()}, 1)
    x = tf.constant([[0.3], [0.7]])
    with pytest.warns(UserWarning, match=r"qml\.defer_measurements around it"):
        wanted = plain(x)
    deferred = KerasLayer(qnode, {"w": ()}, 1)
    deferred.qnode_weights["w"].assign(plain.qnode_weights["w"])
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*not compiled.*")
        np.testing.assert_allclose(deferred(x), wanted, atol=1e-6)
