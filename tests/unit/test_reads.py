"""A layer follows what its quantum function reads, or says that it is not compiled."""

import array
import collections
import contextvars
import dataclasses
import functools
import multiprocessing
import operator
import os
import pickle
import random
import secrets
import time
import types
import warnings

import numpy as np
import pandas as pd
import pennylane as qml
import pytest
import scipy.sparse

from hybridbench.circuits.layer import KerasLayer, tf
from hybridbench.circuits.reads import reads
from hybridbench.engine.compiler import UnsupportedCircuit

X = tf.constant([[0.3], [0.7]])


@pytest.fixture(autouse=True)
def _floatx():
    before = tf.keras.backend.floatx()
    tf.keras.backend.set_floatx("float32")
    yield
    tf.keras.backend.set_floatx(before)


def layer_of(kind, circuit):
    return kind(qml.QNode(circuit, qml.device("default.qubit", wires=1), interface="tf"), {"w": ()}, 1)


def turned(times):
    """A circuit that turns `times()` times."""

    def circuit(inputs, w):
        for _ in range(times()):
            qml.RY(inputs[:, 0], 0)
        return qml.expval(qml.Z(0))

    return circuit


class Settings:
    depth = 1


class Slots:
    __slots__ = ("depth",)


@dataclasses.dataclass(slots=True)
class Data:
    depth: int = 1


class Base:
    def __call__(self, inputs, w):
        return self.block(inputs)


class Model(Base):
    def block(self, inputs):
        return turned(lambda: Settings.depth)(inputs, None)


def first():
    return second()


def second():
    return third()


def third():
    return fourth()


def fourth():
    return fifth()


def fifth():
    return Settings.depth


def changes():
    """name → (what gives the depth, what sets it)."""
    module, space, slots, data = types.ModuleType("cfg"), types.SimpleNamespace(depth=1), Slots(), Data()
    items, keys, queue, array = {1}, {("a", 1): 1}, collections.deque([1]), np.ones(100_000)
    module.depth = slots.depth = 1
    return {
        "class attribute": (lambda: Settings.depth, lambda v: setattr(Settings, "depth", v)),
        "module": (lambda: module.depth, lambda v: setattr(module, "depth", v)),
        "namespace": (lambda: space.depth, lambda v: setattr(space, "depth", v)),
        "slots": (lambda: slots.depth, lambda v: setattr(slots, "depth", v)),
        "dataclass": (lambda: data.depth, lambda v: setattr(data, "depth", v)),
        "set": (lambda: max(items), lambda v: (items.clear(), items.add(v))),
        "tuple as key": (lambda: keys["a", 1], lambda v: keys.update({("a", 1): v})),
        "deque": (lambda: queue[0], lambda v: queue.__setitem__(0, v)),
        "large array": (lambda: int(array[77_777]), lambda v: array.__setitem__(77_777, v)),
        "five helpers deep": (first, lambda v: setattr(Settings, "depth", v)),
        "environment": (lambda: int(os.environ["DEPTH"]), lambda v: os.environ.update(DEPTH=str(v))),
        "function": (
            lambda: DEPTHS["of"](),
            lambda v: DEPTHS.update(of=lambda: 1) if v == 1 else DEPTHS.update(of=lambda: 3),
        ),
    }


DEPTHS = {"of": lambda: 1}


@pytest.mark.parametrize("name", changes())
def test_what_changes_between_two_calls_changes_the_circuit(name):
    get, put = changes()[name]
    put(1)
    layer = layer_of(KerasLayer, turned(get))
    for depth in (1, 3, 1):
        put(depth)
        np.testing.assert_allclose(layer(X), np.cos(depth * X.numpy()[:, 0]), atol=1e-6)


def test_methods_and_inherited_calls_count():
    Settings.depth = 1
    layer = layer_of(KerasLayer, Model())
    for depth in (1, 3):
        Settings.depth = depth
        np.testing.assert_allclose(layer(X), np.cos(depth * X.numpy()[:, 0]), atol=1e-6)
    Settings.depth = 1


def test_a_function_made_anew_is_not_taken_for_one_that_is_gone():
    """Identities of what was freed are given to others."""
    layer = layer_of(KerasLayer, turned(lambda: 1))
    for k in (1, 2, 3, 1, 3, 2):
        space = {"qml": qml}
        exec(f"def circuit(inputs, w): qml.RX({k} * inputs[:, 0], 0); return qml.expval(qml.Z(0))", space)
        layer.qnode.func = space["circuit"]
        del space
        np.testing.assert_allclose(layer(X), np.cos(k * X.numpy()[:, 0]), atol=1e-6)


def test_a_transform_added_later_counts():
    @qml.transform
    def without_rx(tape):
        return (tape.copy(operations=[op for op in tape.operations if op.name != "RX"]),), lambda results: results[0]

    def circuit(inputs, w):
        qml.RY(inputs[:, 0], 0)
        qml.RX(w, 0)
        return qml.expval(qml.Z(0))

    layer = layer_of(KerasLayer, circuit)
    layer.qnode_weights["w"].assign(1.0)
    np.testing.assert_allclose(layer(X), np.cos(X.numpy()[:, 0]) * np.cos(1.0), atol=1e-6)
    layer.qnode.transform_program.add_transform(without_rx)
    np.testing.assert_allclose(layer(X), np.cos(X.numpy()[:, 0]), atol=1e-6)


class Chance(qml.operation.Operation):
    num_wires = num_params = 1

    @staticmethod
    def compute_decomposition(angle, wires):
        return [qml.RX(angle, wires) if np.random.default_rng().random() > 0.01 else qml.RZ(angle, wires)]


class Holder:
    rng = np.random.default_rng(0)


def counts():
    return next(COUNTER)


def imports():
    import secrets as own

    return own.randbelow(2)


COUNTER = iter(range(10**6))
SECRET, RANDOM = secrets.randbelow, random.Random(1).random
CHANCES = {
    "secrets": lambda: SECRET(1000) == 0,
    "imported within": imports,
    "unseeded generator": lambda: np.random.default_rng().random() < 0.001,
    "class attribute": lambda: Holder.rng.random() < 0.001,
    "bound method": lambda: RANDOM() < 0.001,
    "clock": lambda: time.perf_counter() < 0,
    "iterator": lambda: counts() < 0,
}


@pytest.mark.parametrize("name", CHANCES)
def test_rare_chances_are_not_frozen(name):
    layer = layer_of(KerasLayer, turned(lambda: 1 + int(CHANCES[name]())))
    with pytest.warns(UserWarning, match="is not compiled .* at every call"):
        layer(X)


def test_chance_is_not_frozen_in_a_graph():
    layer = layer_of(KerasLayer, turned(lambda: 1 + int(np.random.default_rng().random() < 0.5)))
    call = tf.function(layer.call, input_signature=[tf.TensorSpec((None, 1), tf.float32)])
    with pytest.warns(UserWarning, match="is not compiled .* at every call"):
        assert len({round(float(np.ravel(call(X))[0]), 4) for _ in range(30)}) == 2


def test_chance_in_a_decomposition_is_not_frozen():
    def circuit(inputs, w):
        Chance(inputs[:, 0], 0)
        return qml.expval(qml.Z(0))

    with pytest.warns(UserWarning, match=r"is not compiled .* can draw random numbers .*default_rng"):
        layer_of(KerasLayer, circuit)(X)


def test_a_function_that_changes_what_it_reads_is_told_of():
    count = {"calls": 0}

    def times():
        count["calls"] += 1
        return 1 + (count["calls"] > 1000)

    with pytest.warns(UserWarning, match="is not compiled .* changes what it reads"):
        layer_of(KerasLayer, turned(times))(X)


def test_what_cannot_be_compared_is_named():
    class Odd:
        @property
        def __dict__(self):
            raise RuntimeError("no look")

    odd = Odd()
    with pytest.raises(UnsupportedCircuit, match="cannot be compared: RuntimeError: no look"):
        reads(lambda: odd.depth)
    many = [object() for _ in range(6000)]
    with pytest.raises(UnsupportedCircuit, match="more than 5000 values"):
        reads(lambda: many[0])


@pytest.mark.parametrize("sizes", [(16, 4), (4, 16)])
def test_a_branch_on_the_size_of_the_batch(sizes):
    def circuit(inputs, w):
        qml.RX(inputs[:, 0] * (2.0 if inputs.shape[0] >= 8 else 1.0), 0)
        return qml.expval(qml.Z(0))

    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        layer = layer_of(KerasLayer, circuit)
        for size in sizes:
            np.testing.assert_allclose(layer(tf.fill((size, 1), 0.4)), np.cos(0.8 if size >= 8 else 0.4), atol=1e-6)
    assert [w for w in record if "not compiled" in str(w.message)]


@pytest.mark.parametrize("graph", [False, True])
def test_a_batch_of_one_after_a_larger_one(graph):
    def circuit(inputs, w):
        c, s = (tf.cast(f(inputs[:, 0]), tf.complex128) for f in (tf.cos, tf.sin))
        qml.QubitUnitary(tf.stack([tf.stack([c, -s], -1), tf.stack([s, c], -1)], -2), 0)
        return qml.expval(qml.Z(0))

    layer = layer_of(KerasLayer, circuit)
    call = tf.function(layer.call, input_signature=[tf.TensorSpec((None, 1), tf.float32)]) if graph else layer
    for rows in ([[0.3], [0.7]], [[0.4]]):
        x = tf.constant(rows)
        with tf.GradientTape() as tape:
            tape.watch(x)
            found = call(x)
        np.testing.assert_allclose(found, np.cos(2 * x.numpy()[:, 0]), atol=1e-6)
        np.testing.assert_allclose(tape.gradient(found, x), -2 * np.sin(2 * x.numpy()), atol=1e-5)


def test_weights_of_another_shape_or_type():
    layer = layer_of(KerasLayer, turned(lambda: 1))
    layer(X)
    layer.qnode_weights["w"] = tf.Variable([0.1, 0.2], dtype=tf.float64)
    np.testing.assert_allclose(layer(X), np.cos(X.numpy()[:, 0]), atol=1e-6)


def test_a_layer_is_pickled_after_its_first_call():
    layer = layer_of(KerasLayer, Model())
    found = layer(X).numpy()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(layer))(X), found)


# --- what code reads without naming it, and what libraries hold -----------------------------------------------------------


class Numbered:
    def __init__(self):
        self.depth_0 = 1

    def depth(self, number=0):
        return getattr(self, f"depth_{number}")


def _indirect(kind, folder, patch):
    """A reader of a depth of 1, and what makes it 2."""
    if kind == "getattr":
        space = types.SimpleNamespace(depth=1)
        return lambda: getattr(space, "depth"), lambda: setattr(space, "depth", 2)  # noqa: B009
    if kind == "vars":
        space = types.SimpleNamespace(depth=1)
        return lambda: vars(space)["depth"], lambda: setattr(space, "depth", 2)
    if kind == "name made of parts":
        numbered = Numbered()
        return numbered.depth, lambda: setattr(numbered, "depth_0", 2)
    if kind == "attrgetter":
        space, get = types.SimpleNamespace(depth=1), operator.attrgetter("depth")
        return lambda: get(space), lambda: setattr(space, "depth", 2)
    if kind == "globals":
        return lambda: globals()["GLOBAL_DEPTH"], lambda: patch.setitem(globals(), "GLOBAL_DEPTH", 2)
    if kind == "array.array":
        numbers = array.array("d", [1.0])
        return lambda: int(numbers[0]), lambda: numbers.__setitem__(0, 2.0)
    if kind == "UserList":
        several = collections.UserList([1])
        return lambda: several[0], lambda: several.__setitem__(0, 2)
    if kind == "multiprocessing.Value":
        shared = multiprocessing.Value("i", 1)
        return lambda: shared.value, lambda: setattr(shared, "value", 2)
    if kind == "context variable":
        variable = contextvars.ContextVar("depth")
        variable.set([1])
        return lambda: variable.get()[0], lambda: variable.get().__setitem__(0, 2)
    if kind == "sparse matrix":
        matrix = scipy.sparse.csr_matrix([[1]])
        return lambda: int(matrix[0, 0]), lambda: matrix.data.__setitem__(0, 2)
    if kind == "table":
        table = pd.DataFrame({"depth": [1]})
        return lambda: int(table["depth"][0]), lambda: table.__setitem__("depth", [2])
    if kind == "variable's value":
        variable = tf.Variable(1.0)
        return lambda: int(tf.keras.backend.get_value(variable)), lambda: variable.assign(2.0)
    if kind == "environment":
        patch.setenv("TEST_DEPTH", "1")
        return lambda: int(os.getenv("TEST_DEPTH")), lambda: patch.setenv("TEST_DEPTH", "2")
    path = folder / "depth"
    path.write_text("1")
    return lambda: int(path.read_text()), lambda: path.write_text("2")


GLOBAL_DEPTH = 1


@pytest.mark.parametrize(
    "kind",
    [
        *("getattr", "vars", "name made of parts", "attrgetter", "globals", "array.array", "UserList"),
        *("multiprocessing.Value", "context variable", "sparse matrix", "table", "variable's value", "environment", "file"),
    ],
)
def test_what_is_read_on_other_ways_is_followed_or_told_of(kind, tmp_path, monkeypatch):
    times, change = _indirect(kind, tmp_path, monkeypatch)
    mine, theirs = (layer_of(layer, turned(times)) for layer in (KerasLayer, qml.qnn.KerasLayer))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_allclose(mine(X), theirs(X), atol=1e-6)
        change()
        np.testing.assert_allclose(mine(X), theirs(X), atol=1e-6)
        np.testing.assert_allclose(mine(X), np.cos(2 * X.numpy()[:, 0]), atol=1e-5)


def _rarely(kind):
    """How often to turn: almost always once, by chance that no name in its code shows."""
    make = np.random.default_rng
    if kind == "closure":
        return lambda: 1 + (make().random() < 1e-9)
    if kind == "list":
        several = [make]
        return lambda: 1 + (several[0]().random() < 1e-9)
    if kind == "mapping":
        named, key = {"one": make}, "".join(["o", "ne"])
        return lambda: 1 + (named[key]().random() < 1e-9)
    if kind == "partial":
        return functools.partial(lambda draw: 1 + (draw().random() < 1e-9), make)
    return lambda draw=make: 1 + (draw().random() < 1e-9)


@pytest.mark.parametrize("kind", ["closure", "list", "mapping", "partial", "default"])
def test_chance_under_another_name_is_told_of(kind):
    with pytest.warns(UserWarning, match=r"is not compiled .* can draw random numbers"):
        layer_of(KerasLayer, turned(_rarely(kind)))(X)


@pytest.mark.parametrize("number", [0, 1, 0.0, False, ""])
def test_plain_values_are_no_chance(number):
    """As `time.timezone` is 0, and both are one object."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*not compiled.*")
        layer_of(KerasLayer, turned(lambda: 1 + (number == 7)))(X)


def test_a_class_with_files_and_chance_elsewhere_is_compiled(tmp_path):
    class Saved:
        def __init__(self):
            self.start = np.random.default_rng(0).random()

        def circuit(self, inputs, w):
            qml.RY(inputs[:, 0], 0)
            return qml.expval(qml.Z(0))

        def save(self):
            with open(tmp_path / "saved", "w") as file:
                file.write(os.getenv("HOME"))

    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*not compiled.*")
        np.testing.assert_allclose(layer_of(KerasLayer, Saved().circuit)(X), np.cos(X.numpy()[:, 0]), atol=1e-6)


# --- circuits that are called from a graph as Python code -----------------------------------------------------------------


def test_one_value_has_the_same_shape_in_a_graph():
    def circuit(inputs, w):
        qml.RY(inputs[:, 0] / tf.norm(inputs), 0)  # of the whole batch: such a circuit is not compiled
        return qml.expval(qml.Z(0))

    layer = layer_of(KerasLayer, circuit)
    with pytest.warns(UserWarning, match="not compiled"):
        wanted = layer(X)
    assert wanted.shape == (2,)
    found = tf.function(lambda x: layer(x))(X)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_weights_without_a_gradient_are_told_of_in_a_graph():
    def circuit(inputs, w):
        qml.RY(inputs[:, 0] * w, 0)
        qml.DepolarizingChannel(0.1, 0)
        return qml.expval(qml.Z(0))

    def gradient_of(kind):
        layer = kind(qml.QNode(circuit, qml.device("default.mixed", wires=1), interface="tf"), {"w": ()}, 1)

        def gradient():
            with tf.GradientTape() as tape:
                total = tf.reduce_sum(layer(X))
            return tape.gradient(total, layer.trainable_weights)

        return gradient

    assert gradient_of(qml.qnn.KerasLayer)() == [None]  # PennyLane's own: the day it has one, this test has had its time
    with pytest.warns(UserWarning, match="gives no gradient of this circuit with respect to its weights"):
        tf.function(gradient_of(KerasLayer))()
