"""What `qml.qnn.KerasLayer` does, `hybridbench.KerasLayer` does too: each test runs on both."""

import copy
import inspect
import json
import logging
import re
import subprocess
import sys
import warnings

import numpy as np
import pennylane as qml
import pytest

from hybridbench.circuits.layer import KerasLayer, tf
from hybridbench.errors import ConfigurationError

N = 3
SHAPES = {"weights": (1, N, 3)}
LAYERS = {"shipped": qml.qnn.KerasLayer, "compiled": KerasLayer}


@pytest.fixture(autouse=True)
def _float64():
    before = tf.keras.backend.floatx()
    tf.keras.backend.set_floatx("float64")
    tf.keras.utils.set_random_seed(0)
    yield
    tf.keras.backend.set_floatx(before)


@pytest.fixture(params=LAYERS)
def layer_class(request):
    return LAYERS[request.param]


def gates(inputs, weights):
    qml.AngleEmbedding(inputs, wires=range(N))
    qml.StronglyEntanglingLayers(weights, wires=range(N))


def expvals():
    return [qml.expval(qml.Z(wire)) for wire in range(N)]


def make_qnode(measure=expvals, device="default.qubit", transform=None, **options):
    def circuit(inputs, weights):
        gates(inputs, weights)
        return measure()

    qnode = qml.QNode(circuit, qml.device(device, wires=N), **options)
    return qnode if transform is None else transform(qnode)


def data(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(tf.keras.backend.floatx())


def value_and_gradients(layer, x):
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
        squares = tf.abs(y) ** 2 if y.dtype.is_complex else y**2
        loss = tf.reduce_sum(squares[..., :1]) + 2 * tf.reduce_sum(squares) if len(y.shape) > 1 else tf.reduce_sum(squares)
    return [y, *tape.gradient(loss, [x, *layer.trainable_variables])]


def pair(qnode, shapes=SHAPES, output_dim=N, **options):
    """Both layers with the same weights."""
    shipped, compiled = qml.qnn.KerasLayer(qnode, shapes, output_dim), KerasLayer(qnode, shapes, output_dim, **options)
    compiled.set_weights(shipped.get_weights())
    return shipped, compiled


def assert_same(qnode, x, shapes=SHAPES, output_dim=N, tolerance=1e-10, traced=True, **options):
    """Same values and gradients, eagerly and in a graph for any batch size; returns the compiled layer."""
    shipped, compiled = pair(qnode, shapes, output_dim, **options)
    expected, found = value_and_gradients(shipped, x), [value_and_gradients(compiled, x)]
    if traced:
        signature = [tf.TensorSpec((None,) * (x.ndim - 1) + x.shape[-1:], x.dtype)]
        found.append(tf.function(lambda x: value_and_gradients(compiled, x), input_signature=signature)(x))
    for results in found:
        for result, wanted in zip(results, expected, strict=True):
            assert result.shape == wanted.shape
            np.testing.assert_allclose(result, wanted, atol=tolerance)
    return compiled


def traced(layer):
    return tf.function(lambda x: layer(x))  # tf.function(layer) would look at the QNode's arguments


def notices(record):
    return [str(warning.message) for warning in record if "not compiled" in str(warning.message)]


# --- construction --------------------------------------------------------------------------------------------------------


def test_the_signature_has_two_arguments_more():
    shipped, ours = (inspect.signature(layer.__init__).parameters for layer in LAYERS.values())
    assert [name for name in ours if name not in ("engine", "verify")] == list(shipped)
    assert all(ours[name].default == shipped[name].default for name in shipped)
    assert ours["engine"].default == "auto"


@pytest.mark.parametrize(("size", "shape"), [(1, ()), (4, (4,)), ([2, 3], (2, 3)), ((2,), (2,))])
def test_weights_have_their_shapes_and_names(layer_class, size, shape):
    layer = layer_class(qml.QNode(lambda inputs, w: None, qml.device("default.qubit")), {"w": size}, output_dim=1)
    assert [weight.shape for weight in layer.trainable_weights] == [shape]
    assert layer.qnode_weights["w"].name.endswith("w:0")
    assert layer.built


def test_weight_specs_reach_keras(layer_class):
    specs = {"initializer": "zeros", "regularizer": tf.keras.regularizers.L2(0.5), "constraint": "non_neg"}
    layer = layer_class(make_qnode(), SHAPES, N, {"weights": specs})
    assert not layer.get_weights()[0].any()
    layer.set_weights([np.ones(SHAPES["weights"])])
    assert float(layer.losses[0]) == 4.5
    assert isinstance(layer.weights[0].constraint, tf.keras.constraints.NonNeg)
    fixed = layer_class(make_qnode(), SHAPES, N, weight_specs={"weights": {"trainable": False}})
    assert fixed.trainable_weights == []
    assert len(fixed.weights) == 1
    fixed(data(2, N))


@pytest.mark.parametrize(
    ("circuit", "shapes", "error", "message"),
    [
        (lambda x, weights: None, SHAPES, TypeError, "must include an argument with name inputs"),
        (lambda inputs, weights: None, {"inputs": 3}, ValueError, "should not have its dimension specified"),
        (lambda inputs, *weights: None, {}, TypeError, "variable number of positional arguments"),
        (lambda inputs, weights, more: None, SHAPES, ValueError, "Must specify a shape for every"),
    ],
)
def test_bad_circuits_are_refused(layer_class, circuit, shapes, error, message):
    with pytest.raises(error, match=message):
        layer_class(qml.QNode(circuit, qml.device("default.qubit")), shapes, output_dim=1)


def test_another_framework_is_refused(layer_class):
    with pytest.raises(ValueError, match="Invalid interface 'torch'"):
        layer_class(make_qnode(interface="torch"), SHAPES, N)


@pytest.mark.parametrize("interface", ["auto", "tf", "tf-autograph"])
@pytest.mark.parametrize(("device", "diff_method"), [("default.qubit", "best"), ("lightning.qubit", "adjoint")])
def test_devices_interfaces_and_methods_give_the_same_numbers(interface, device, diff_method):
    rounds = device == "lightning.qubit" and interface == "tf-autograph"  # PennyLane goes through float32 there
    qnode = make_qnode(device=device, interface=interface, diff_method=diff_method)
    assert_same(qnode, data(4, N), tolerance=1e-6 if rounds else 1e-10)


def test_it_looks_like_its_qnode(layer_class):
    qnode = make_qnode()
    layer = layer_class(qnode, SHAPES, N)
    assert str(layer) == repr(layer) == "<Quantum Keras Layer: func=circuit>"
    assert layer.diff_method == qnode.diff_method
    layer.diff_method = "adjoint"
    assert qnode.diff_method == "adjoint"
    assert layer.input_arg == "inputs"
    with pytest.raises(AttributeError):
        layer.nothing  # noqa: B018
    layer.construct((tf.constant(data(N)),), {})
    assert len(qnode._tape.operations) == 2


def test_the_name_of_the_inputs_can_be_set(layer_class):
    @qml.qnode(qml.device("default.qubit"))
    def circuit(w, features):
        qml.RX(features[:, 0] * w, 0)
        return qml.expval(qml.Z(0))

    layer_class.set_input_argument("features")
    try:
        layer = layer_class(circuit, {"w": 1}, output_dim=1)
        x = data(4, 1)
        np.testing.assert_allclose(layer(x), np.cos(x[:, 0] * layer.get_weights()[0]))
    finally:
        layer_class.set_input_argument("inputs")


# --- results -------------------------------------------------------------------------------------------------------------

HERMITIAN = np.array([[1, 2j], [-2j, 0.3]])
MEASUREMENTS = {
    "expval": (lambda: qml.expval(qml.Z(0)), ()),
    "list of one": (lambda: [qml.expval(qml.Z(0))], (1,)),
    "tuple": (lambda: (qml.expval(qml.X(0) @ qml.Z(2)), qml.expval(qml.Y(1))), (2,)),
    "hamiltonian": (lambda: qml.expval(qml.Hamiltonian([0.3, 1.2], [qml.Z(0) @ qml.X(1), qml.Y(2)])), ()),
    "matrices": (lambda: [qml.expval(qml.Hermitian(HERMITIAN, 0)), qml.expval(qml.Projector([1, 0], [0, 1]))], (2,)),
    "probs": (lambda: qml.probs(wires=[2, 0]), (4,)),
    "probs of all": (lambda: qml.probs(), (8,)),
    "probs of observable": (lambda: qml.probs(op=qml.X(0) @ qml.Y(1)), (4,)),
    "state": (lambda: qml.state(), (8,)),
    "density matrix": (lambda: qml.density_matrix([1]), (2, 2)),
    "several": (lambda: (qml.expval(qml.Z(0)), qml.probs(wires=[1]), qml.var(qml.X(2))), (4,)),
    "variance": (lambda: qml.var(qml.X(0) @ qml.Y(1)), ()),
    "purity": (lambda: qml.purity([0]), ()),
}


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_measurements(name):
    measure, shape = MEASUREMENTS[name]
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        layer = assert_same(make_qnode(measure), data(4, N), traced=name in ("expval", "tuple", "several"))
    assert notices(record) == []
    assert layer(data(5, N)).shape == (5, *shape)


@pytest.mark.parametrize("measure", [expvals, MEASUREMENTS["expval"][0], MEASUREMENTS["several"][0]])
@pytest.mark.parametrize("shape", [(N,), (1, N), (2, 4, N), (2, 1, 2, N)])
def test_inputs_of_any_rank(measure, shape):
    assert_same(make_qnode(measure), data(*shape), traced=shape == (2, 4, N))


def test_several_weights_and_scalars():
    @qml.qnode(qml.device("default.qubit"))
    def circuit(inputs, a, b, c):
        qml.RX(inputs[:, 1] + a, 0)
        qml.Rot(b[0], 2 * inputs[:, 0] - 1, b[1], 1)
        qml.CRX(c[1, 0], [0, 1])
        qml.RY(a / 2, 1)
        qml.IsingXX(c[0, 2] * b[1], [0, 1])
        return qml.expval(qml.Z(0)), qml.expval(qml.X(1))

    assert_same(circuit, data(4, 2), {"a": 1, "b": 2, "c": (2, 3)}, 2)


def test_weights_in_keyword_arguments():
    @qml.qnode(qml.device("default.qubit"))
    def circuit(inputs, **weights):
        qml.RX(inputs[:, 0], 0)
        qml.RY(weights["a"][0], 0)
        qml.RZ(weights["b"], 0)
        return qml.expval(qml.X(0))

    assert_same(circuit, data(4, 1), {"a": (1,), "b": ()}, 1)


def test_no_weights_at_all():
    @qml.qnode(qml.device("default.qubit"))
    def circuit(inputs):
        qml.AngleEmbedding(inputs, range(2))
        return qml.expval(qml.Z(0)), qml.expval(qml.Z(1))

    assert_same(circuit, data(4, 2), {}, 2)


@pytest.mark.parametrize("options", [{"normalize": True}, {"pad_with": 0.0}, {"pad_with": 0.5, "normalize": True}])
def test_amplitudes_from_inputs(options):
    @qml.qnode(qml.device("default.qubit"))
    def circuit(inputs, weights):
        qml.AmplitudeEmbedding(inputs, wires=range(N) if "pad_with" not in options else [2, 0], **options)
        qml.StronglyEntanglingLayers(weights, wires=range(N))
        return expvals()

    assert_same(circuit, data(4, 8 if "pad_with" not in options else 3), traced="pad_with" not in options)


@pytest.mark.parametrize(
    "transform", [qml.transforms.cancel_inverses, qml.transforms.merge_rotations, qml.transforms.split_non_commuting]
)
def test_transforms_of_the_qnode(transform):
    assert_same(make_qnode(lambda: [qml.expval(qml.X(0)), qml.expval(qml.Z(0))], transform=transform), data(4, N))


@pytest.mark.parametrize("output_dim", [3, (3,), [3], (2, 4), [2, 4]])
def test_output_shape(layer_class, output_dim):
    layer = layer_class(make_qnode(), SHAPES, output_dim)
    expected = (2, 4) if len(np.ravel(output_dim)) == 2 else (3,)
    assert layer.compute_output_shape((None, N)) == tf.TensorShape([None, *expected])
    assert layer.compute_output_shape(tf.TensorShape([5, N])) == (5, *expected)
    assert layer.output_dim == (expected if len(expected) == 2 else 3)


def test_float32_stays_float32_without_a_warning(caplog):
    tf.keras.backend.set_floatx("float32")
    for measure in (expvals, MEASUREMENTS["several"][0], MEASUREMENTS["state"][0]):
        shipped, layer = pair(make_qnode(measure))
        with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
            warnings.simplefilter("error")
            found = value_and_gradients(layer, data(4, N))
        assert found[0].dtype == (tf.complex64 if measure is MEASUREMENTS["state"][0] else tf.float32)
        assert {part.dtype for part in found[1:]} == {tf.float32}
        assert "casting" not in caplog.text
        for part, wanted in zip(found, value_and_gradients(shipped, data(4, N)), strict=True):
            np.testing.assert_allclose(part, wanted, atol=2e-5)


# --- files and configurations ---------------------------------------------------------------------------------------------


def test_configuration(layer_class):
    layer = layer_class(make_qnode(), SHAPES, N, {"weights": {"initializer": "zeros"}}, name="quantum", trainable=False)
    config = layer.get_config()
    assert config.pop("engine", "auto") == "auto"
    assert config.pop("verify", "first") == "first"
    assert config == {
        "name": "quantum",
        "trainable": False,
        "dtype": "float64",
        "output_dim": N,
        "weight_specs": {"weights": {"initializer": "zeros"}},
        "weight_shapes": {"weights": (1, N, 3)},
    }
    with pytest.raises(TypeError, match="qnode"):
        layer_class.from_config(config)  # the circuit is not part of it
    again = layer_class.from_config({**layer.get_config(), "qnode": make_qnode()})
    assert again.get_config() == layer.get_config()


def model_of(layer_class, device="default.qubit", **options):
    inputs = tf.keras.Input((2,))
    x = tf.keras.layers.Dense(N, activation="tanh")(inputs)
    x = layer_class(make_qnode(device=device), SHAPES, N, name="quantum", **options)(x)
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(2)(x))
    model.compile(tf.keras.optimizers.SGD(0.1), "mse")
    return model


@pytest.mark.parametrize("extension", ["", ".weights.h5"])
def test_weights_go_from_either_layer_to_either_layer(layer_class, tmp_path, extension):
    model = model_of(layer_class)
    model.save_weights(tmp_path / f"saved{extension}")
    x = data(4, 2)
    for other in LAYERS.values():
        tf.keras.utils.set_random_seed(1)
        loaded = model_of(other)
        assert not np.allclose(loaded(x), model(x))
        loaded.load_weights(tmp_path / f"saved{extension}")
        np.testing.assert_allclose(loaded(x), model(x), atol=1e-12)


def test_saved_model(layer_class, tmp_path, monkeypatch):
    # AutoGraph would take half a minute to translate PennyLane's simulator.
    as_shipped = tf.autograph.experimental.do_not_convert(qml.qnn.KerasLayer.call)
    monkeypatch.setattr(qml.qnn.KerasLayer, "call", lambda self, inputs: as_shipped(self, inputs))
    model = model_of(layer_class)
    model.save(tmp_path / "saved", save_format="tf")
    loaded = tf.keras.models.load_model(tmp_path / "saved")
    np.testing.assert_allclose(loaded(data(4, 2)), model(data(4, 2)), atol=1e-12)
    before = loaded.get_weights()
    loaded.fit(data(4, 2), data(4, 2), verbose=0)
    assert all(np.any(old != new) for old, new in zip(before, loaded.get_weights(), strict=True))


def test_a_saved_model_needs_no_hybridbench_and_works_for_every_device(tmp_path):
    model = model_of(KerasLayer, "lightning.qubit")  # as shipped, this model cannot be saved
    model.fit(data(4, 2), data(4, 2), verbose=0)
    model.save(tmp_path / "saved", save_format="tf")
    code = (
        "import sys, json, tensorflow as tf\n"
        f"model = tf.saved_model.load({str(tmp_path / 'saved')!r})\n"
        "print(json.dumps(model(tf.constant(json.loads(sys.argv[1]), tf.float64)).numpy().tolist()))\n"
        "assert 'hybridbench' not in sys.modules and 'pennylane' not in sys.modules"
    )
    x = data(4, 2)
    done = subprocess.run([sys.executable, "-c", code, json.dumps(x.tolist())], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout.splitlines()[-1]), model(x), atol=1e-12)


@pytest.mark.parametrize("extension", ["keras", "h5"])
def test_files_without_the_circuit_load_where_a_class_brings_it(layer_class, tmp_path, extension):
    model = model_of(layer_class)
    model.save(tmp_path / f"saved.{extension}")

    class Known(layer_class):
        @classmethod
        def from_config(cls, config):
            return layer_class(make_qnode(), **config)

    loaded = tf.keras.models.load_model(tmp_path / f"saved.{extension}", custom_objects={"KerasLayer": Known})
    np.testing.assert_allclose(loaded(data(4, 2)), model(data(4, 2)), atol=1e-12)


def test_deep_copies(layer_class):
    layer = layer_class(make_qnode(), SHAPES, N)
    expected = layer(data(4, N))
    copied = copy.deepcopy(layer)
    layer.set_weights([np.zeros(SHAPES["weights"])])
    np.testing.assert_allclose(copied(data(4, N)), expected)


def test_cloning(layer_class):
    model = model_of(layer_class)

    def clone(layer):
        own = isinstance(layer, layer_class)
        return layer_class(qnode=layer.qnode, **layer.get_config()) if own else type(layer).from_config(layer.get_config())

    with pytest.raises(TypeError, match="qnode"):
        tf.keras.models.clone_model(model)
    cloned = tf.keras.models.clone_model(model, clone_function=clone)
    cloned.set_weights(model.get_weights())
    np.testing.assert_allclose(cloned(data(4, 2)), model(data(4, 2)), atol=1e-12)


# --- training -------------------------------------------------------------------------------------------------------------


class Subclassed(tf.keras.Model):
    def __init__(self, layers):
        super().__init__()
        self.parts = layers

    def call(self, inputs):
        for part in self.parts:
            inputs = part(inputs)
        return inputs


def functional(layers, width):
    inputs = tf.keras.Input((width,))
    x = inputs
    for layer in layers:
        x = layer(x)
    return tf.keras.Model(inputs, x)


MODELS = {
    "sequential": lambda layers, width: tf.keras.Sequential(layers),
    "functional": functional,
    "subclassed": lambda layers, width: Subclassed(layers),
}
MODES = {
    "eager": {"run_eagerly": True},
    "graph": {},
    "steps_per_execution": {"steps_per_execution": 4},
    "jit_compile": {"jit_compile": True},
}


def fit(layer, kind="sequential", epochs=3, n=16, front=True, **compile_options):
    tf.keras.utils.set_random_seed(0)
    dense = [
        tf.keras.layers.Dense(width, activation, kernel_initializer="ones") for width, activation in ((N, "tanh"), (2, None))
    ]
    layer.set_weights([np.random.default_rng(1).uniform(0, 6, shape) for shape in SHAPES.values()])
    model = MODELS[kind]([*dense[:front], layer, dense[1]], N if not front else 2)
    model.compile(tf.keras.optimizers.Adam(0.05), "mse", **compile_options)
    x = data(n, 2 if front else N)
    history = model.fit(x, data(n, 2, seed=1), batch_size=6, epochs=epochs, verbose=0)
    np.testing.assert_allclose(model.predict(x, verbose=0), model(x), atol=1e-4)
    return model, history.history["loss"]


@pytest.fixture(scope="module")
def shipped_loss():
    tf.keras.backend.set_floatx("float64")
    model, loss = fit(qml.qnn.KerasLayer(make_qnode(), SHAPES, N))
    assert model.run_eagerly
    return loss


@pytest.mark.parametrize(
    ("mode", "kind", "engine"),
    [
        (mode, "sequential", engine)
        for mode in MODES
        for engine in ("cpu", "tensorflow")
        if (mode, engine) != ("jit_compile", "cpu")
    ]
    + [("jit_compile", "functional", "auto"), ("graph", "functional", "auto"), ("graph", "subclassed", "auto")],
)
def test_the_same_seed_gives_the_same_history(shipped_loss, mode, kind, engine):
    model, loss = fit(KerasLayer(make_qnode(), SHAPES, N, engine=engine), kind, **MODES[mode])
    np.testing.assert_allclose(loss, shipped_loss, rtol=1e-8)
    assert model.run_eagerly is (mode == "eager")


def test_float32_training_follows_the_shipped_layer(shipped_loss):
    tf.keras.backend.set_floatx("float32")
    _, loss = fit(KerasLayer(make_qnode(), SHAPES, N))
    np.testing.assert_allclose(loss, shipped_loss, rtol=1e-4)


def test_one_layer_twice_and_two_models_of_one_layer(layer_class):
    layer = layer_class(make_qnode(), SHAPES, N)
    inputs = tf.keras.Input((N,))
    model = tf.keras.Model(inputs, tf.keras.layers.Add()([layer(inputs), layer(layer(inputs))]))
    x = data(4, N)
    np.testing.assert_allclose(model(x), layer(x) + layer(layer(x)), atol=1e-12)
    model.compile("sgd", "mse")
    model.fit(x, x, verbose=0)


@pytest.mark.parametrize("measure", [expvals, MEASUREMENTS["several"][0]])
def test_xla_gives_the_same_numbers(measure):
    _, layer = pair(make_qnode(measure))
    found = tf.function(lambda x: value_and_gradients(layer, x), jit_compile=True)(data(4, N))
    for result, wanted in zip(found, value_and_gradients(layer, data(4, N)), strict=True):
        np.testing.assert_allclose(result, wanted, atol=1e-10)


def test_the_tensorflow_engine_can_be_differentiated_twice():
    @qml.qnode(qml.device("default.qubit"))
    def circuit(inputs, a):
        qml.RX(inputs[:, 0] * a, 0)
        return qml.expval(qml.Z(0))

    layer, x = KerasLayer(circuit, {"a": 1}, 1, engine="tensorflow"), tf.constant(data(4, 1))
    with tf.GradientTape() as outer, tf.GradientTape() as inner:
        outer.watch(x)
        inner.watch(x)
        y = layer(x)
        first = inner.gradient(y, x)
    a = layer.get_weights()[0]
    np.testing.assert_allclose(outer.gradient(first, x), -(a**2) * np.cos(a * x), atol=1e-12)


def test_changed_settings_of_the_qnode_count():
    layer = KerasLayer(make_qnode(), SHAPES, N)
    exact = layer(data(4, N))
    layer.device = qml.device("default.qubit", wires=N, shots=100, seed=0)
    with pytest.warns(UserWarning, match="its device draws 100 shots"):
        assert np.any(layer(data(4, N)) != exact)
    layer.qnode = make_qnode(MEASUREMENTS["expval"][0])
    assert layer(data(4, N)).shape == (4,)


def test_xla_needs_an_engine_that_it_can_compile():
    with pytest.raises(Exception, match="ConfigurationError: engine 'cpu' cannot run under XLA"):
        fit(KerasLayer(make_qnode(), SHAPES, N, engine="cpu"), jit_compile=True)
    with pytest.raises(ConfigurationError, match="Unknown engine 'gpu'"):
        KerasLayer(make_qnode(), SHAPES, N, engine="gpu")


# --- what cannot be compiled ----------------------------------------------------------------------------------------------


def noisy(inputs, weights):
    gates(inputs, weights)
    qml.DepolarizingChannel(0.1, 0)
    return expvals()


def measured(inputs, weights):
    gates(inputs, weights)
    qml.cond(qml.measure(0), qml.X)(1)
    return qml.expval(qml.Z(1)), qml.expval(qml.Z(2))


def branching(inputs, weights):
    gates(inputs, weights)
    if weights[0, 0, 0] > 0:
        qml.X(0)
    return expvals()


def unknown_gate(inputs, weights):
    gates(inputs, weights)
    qml.BlockEncode(weights[0, 0, 0] / 7, wires=0)
    return expvals()


def reading_values(inputs, weights):
    gates(inputs, weights)
    qml.RX(float(weights[0, 0, 0]), 0)
    return expvals()


FALLBACKS = {
    "noise": (noisy, {"device": "default.mixed", "diff_method": "backprop"}, "its device is default.mixed"),
    "mid-circuit": (measured, {"diff_method": "backprop"}, "it measures in the middle"),
    "branch": (branching, {"diff_method": "backprop"}, "tracing it raises OperatorNotAllowedInGraphError"),
    "branch, adjoint": (branching, {"device": "lightning.qubit", "diff_method": "adjoint"}, "tracing it raises"),
    "gate": (unknown_gate, {"diff_method": "backprop"}, "Operator BlockEncode"),
    "values": (reading_values, {"diff_method": "parameter-shift"}, "tracing it raises TypeError"),
    "finite differences": (
        lambda inputs, weights: gates(inputs, weights) or expvals(),
        {"diff_method": "finite-diff"},
        "finite-diff",
    ),
    "expansion": (
        lambda inputs, weights: gates(inputs, weights) or expvals(),
        {"diff_method": "adjoint", "transform": qml.transforms.broadcast_expand},
        "as many circuits as the batch has samples",
    ),
}


def fallback_qnode(name):
    circuit, options, why = FALLBACKS[name]
    options = {"device": "default.qubit", "transform": None, **options}
    qnode = qml.QNode(
        circuit,
        qml.device(options.pop("device"), wires=4),
        interface="tf",
        **{k: v for k, v in options.items() if k != "transform"},
    )
    return (qnode if options["transform"] is None else options["transform"](qnode)), why


@pytest.mark.parametrize("name", FALLBACKS)
def test_a_circuit_that_is_not_compiled_says_why_once_and_works_as_shipped(name):
    qnode, why = fallback_qnode(name)
    n_outputs = 2 if name == "mid-circuit" else N
    shipped, layer = pair(qnode, output_dim=n_outputs)
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        found = layer(data(4, N)), layer(data(5, N)), layer(data(2, 2, N)), traced(layer)(data(4, N))
    (notice,) = notices(record)
    assert notice.startswith(f"Layer {layer.name!r} is not compiled and runs as qml.qnn.KerasLayer does: ")
    assert why in notice
    for result, x in zip(found, (data(4, N), data(5, N), data(2, 2, N), data(4, N)), strict=True):
        np.testing.assert_allclose(result, shipped(x), atol=1e-7)


@pytest.mark.filterwarnings("ignore:Layer")
@pytest.mark.parametrize(
    ("name", "kind"),
    [*((name, "sequential") for name in FALLBACKS), ("branch", "functional"), ("branch, adjoint", "functional")],
)
def test_a_circuit_that_is_not_compiled_trains_in_graph_mode_as_shipped(name, kind):
    qnode, _ = fallback_qnode(name)
    losses = []
    for layer_class in LAYERS.values():
        layer = layer_class(qnode, SHAPES, 2 if name == "mid-circuit" else N)
        front = name not in ("values", "finite differences")  # PennyLane's rules for them take no gradient of batched inputs
        model, loss = fit(layer, kind, epochs=1, n=6, front=front)
        losses.append(loss)
        assert model.run_eagerly is (layer_class is not KerasLayer)
    np.testing.assert_allclose(*losses, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:Layer")
@pytest.mark.parametrize("inside", [True, False])
def test_a_circuit_called_from_a_graph_has_all_gradients(inside):
    shipped, layer = pair(fallback_qnode("branch, adjoint")[0])
    x = data(4, N)
    expected = value_and_gradients(shipped, x)
    if inside:
        found = tf.function(lambda x: value_and_gradients(layer, x))(x)
    else:
        in_graph = traced(layer)
        in_graph.trainable_variables = layer.trainable_variables
        found = value_and_gradients(in_graph, x)
    for result, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(result, wanted, atol=1e-6)


def test_a_circuit_that_counts_its_samples_is_compiled_for_any_number_of_them():
    def circuit(inputs, weights):
        gates(inputs, weights)
        qml.RX(tf.stack([weights[0, 0, 0]] * inputs.shape[0]), 0)
        return expvals()

    shipped, layer = pair(qml.QNode(circuit, qml.device("default.qubit"), diff_method="backprop"))
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        found = [layer(data(4, N)), layer(data(5, N)), traced(layer)(data(4, N))]
        found.append(tf.function(layer.call, input_signature=[tf.TensorSpec((None, N), tf.float64)])(data(4, N)))
    assert notices(record) == []
    for result, n in zip(found, (4, 5, 4, 4), strict=True):
        np.testing.assert_allclose(result, shipped(data(n, N)), atol=1e-10)


@pytest.mark.filterwarnings("ignore:Layer")
def test_shots_are_drawn_in_graph_mode_and_parameter_shift_gets_no_batch_of_inputs():
    def circuit(inputs, weights):
        gates(inputs, weights)
        return expvals()

    qnode = qml.QNode(circuit, qml.device("default.qubit", wires=N, shots=2000, seed=0), diff_method="parameter-shift")
    layer = KerasLayer(qnode, SHAPES, N)
    exact = KerasLayer(make_qnode(), SHAPES, N)
    exact.set_weights(layer.get_weights())
    x = data(4, N)
    noisy_value, again = layer(x), layer(x)
    assert np.any(noisy_value != again)
    np.testing.assert_allclose(noisy_value, exact(x), atol=0.12)

    @tf.function
    def gradient(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x))
        return tape.gradient(loss, layer.trainable_variables[0])

    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(exact(x))
    np.testing.assert_allclose(gradient(x), tape.gradient(loss, exact.trainable_variables[0]), atol=0.3)


def test_random_numbers_of_python_are_drawn_at_every_call():
    rng = np.random.default_rng(0)

    def circuit(inputs, weights):
        gates(inputs, weights)
        qml.RX(rng.normal(), 0)
        return expvals()

    layer = KerasLayer(qml.QNode(circuit, qml.device("default.qubit")), SHAPES, N)
    with pytest.warns(UserWarning, match="its quantum function draws random numbers"):
        first = layer(data(4, N))
    assert np.any(first != layer(data(4, N)))
    in_graph = traced(layer)
    assert np.any(in_graph(data(4, N)) != in_graph(data(4, N)))


@pytest.mark.filterwarnings("ignore:Layer")
def test_python_cannot_be_called_from_xla():
    qnode, _ = fallback_qnode("values")
    with pytest.raises(Exception, match=re.escape("XLA (jit_compile=True) cannot call Python")):
        fit(KerasLayer(qnode, SHAPES, N), jit_compile=True)


@pytest.mark.filterwarnings("ignore:Layer")
def test_a_wrong_output_dim_of_a_circuit_called_from_a_graph_is_named():
    qnode, _ = fallback_qnode("values")
    layer = KerasLayer(qnode, SHAPES, N + 2)
    with pytest.raises(Exception, match=r"output_dim"):
        traced(layer)(data(4, N))


def test_errors_of_the_circuit_are_its_own(layer_class):
    @qml.qnode(qml.device("default.qubit", wires=1))
    def circuit(inputs, weights):
        raise ZeroDivisionError("mine")

    layer = layer_class(circuit, {"weights": 1}, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ZeroDivisionError, match="mine"):
            layer(data(4, 1))


def special(measure):
    @qml.qnode(qml.device("default.qubit", wires=N), interface="tf")
    def circuit(inputs, weights):
        qml.AngleEmbedding(inputs, wires=range(N))
        qml.StronglyEntanglingLayers(weights, wires=range(N))
        return measure()

    return circuit


@pytest.mark.parametrize("measure", [lambda: qml.sample(), lambda: qml.expval(qml.S(0))])
def test_a_measurement_without_exact_value_is_refused_as_pennylane_refuses_it(measure):
    shipped, layer = pair(special(measure))
    with pytest.raises(Exception) as expected:
        shipped(data(4, N))
    with pytest.warns(UserWarning, match="has no exact value"), pytest.raises(type(expected.value)) as found:
        layer(data(4, N))
    assert str(found.value).partition("\n")[0].strip(), "an error says something"


@pytest.mark.filterwarnings("ignore:Layer")
def test_one_measurement_returned_several_times_has_pennylane_s_shape():
    shipped, layer = pair(special(lambda: [qml.expval(qml.Z(0))] * 3), output_dim=1)
    x = data(4, N)
    assert layer(x).shape == shipped(x).shape
    np.testing.assert_allclose(layer(x), shipped(x), atol=1e-7)


@pytest.mark.filterwarnings("ignore:Layer")
def test_complex_inputs_keep_their_imaginary_part():
    shipped, layer = pair(special(lambda: [qml.expval(qml.Z(wire)) for wire in range(N)]))
    x = tf.cast(data(4, N), tf.complex128) + 0.1j
    np.testing.assert_allclose(layer(x), shipped(x), atol=1e-7)


def test_many_layers_in_one_process_make_no_warning_of_retracing(caplog):
    for measure in (qml.probs, lambda: qml.var(qml.Z(0) @ qml.X(1))):
        for _ in range(8):
            _, layer = pair(special(measure), output_dim=2**N)
            layer(data(4, N))
    assert "retracing" not in caplog.text
