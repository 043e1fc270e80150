"""The TensorFlow engine against the dense reference and default.qubit: eager, graph, XLA, first and second derivatives."""

import engine_reference as reference
import numpy as np
import pennylane as qml
import pytest

from hybridbench.engine import tensorflow as engine
from hybridbench.engine.compiler import compile_tape
from hybridbench.engine.program import Angle, Block, Kind, Layer, Program, Rotation, Run, SampleRotation, Term, ZString

tf = engine.tf
N_SHARED, N_SAMPLE, BATCH = 6, 4, 3
EXACT, SINGLE = 1e-10, 2e-5


# --- random programs -------------------------------------------------------------------------------------------------------


def random_angle(rng, *kinds):
    kind = Kind(int(rng.choice([k.value for k in kinds])))
    offset = float(rng.choice([0, rng.normal()]))
    if kind is Kind.CONSTANT:
        return Angle(offset=offset)
    count = N_SHARED if kind is Kind.SHARED else N_SAMPLE
    return Angle(kind, int(rng.integers(count)), float(rng.choice([1, -0.5, rng.normal()])), offset)


def random_rotations(rng, most, *kinds):
    axes = rng.normal(size=(int(rng.integers(most + 1)), 3))
    return tuple(Rotation(tuple((a / np.linalg.norm(a)).tolist()), random_angle(rng, *kinds)) for a in axes)


def random_qubits(rng, n):
    """Mutually commuting virtual qubits (x_mask, z_mask)."""
    x = [1 << w for w in range(n)]
    for _ in range(3 * n):
        i, j = rng.integers(n, size=2)
        x[i] ^= x[j] if i != j else 0
    return list(zip(x, engine._dual(x), strict=True))


def random_layer(rng, n):
    items = {"runs": [], "sample_rotations": [], "blocks": []}
    fixed = (Kind.CONSTANT, Kind.SHARED)
    qubits = random_qubits(rng, n)
    while qubits:
        kind = rng.integers(4)
        if kind == 0:
            items["runs"].append(Run(*qubits.pop(), random_rotations(rng, 4, *fixed)))
        elif kind == 1:
            items["sample_rotations"].append(SampleRotation(*qubits.pop(), random_angle(rng, Kind.SAMPLE)))
        elif kind == 2:
            qubits.pop()
        else:
            some = tuple(qubits.pop() for _ in range(min(len(qubits), int(rng.integers(1, 3)))))
            size = 2 ** len(some)
            matrix = np.linalg.qr(rng.normal(size=(size, size)) + 1j * rng.normal(size=(size, size)))[0]
            angle = random_angle(rng, *Kind)
            if angle.kind is Kind.CONSTANT:
                items["blocks"].append(Block(some, matrix))
            else:
                items["blocks"].append(Block(some, matrix, rng.normal(size=size), angle))
    masks = [int(rng.integers(2**n)) for _ in range(3)] + [run.z_mask for run in items["runs"]]
    return Layer(
        tuple(ZString(mask, random_angle(rng, *fixed)) for mask in masks if rng.integers(2)),
        tuple(ZString(mask, random_angle(rng, Kind.SAMPLE)) for mask in masks[:2] if rng.integers(2)),
        *(tuple(part) for part in items.values()),
    )


def random_program(seed, product=True):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 6))

    def term():
        x, z = int(rng.choice([0, rng.integers(2**n)])), int(rng.integers(2**n))
        return Term(float(rng.normal()), (x & z).bit_count() % 2 + 2 * int(rng.integers(2)), x, z)

    return Program(
        n,
        N_SHARED,
        N_SAMPLE,
        tuple(random_rotations(rng, 4, *Kind) for _ in range(n)) if product else None,
        tuple(random_layer(rng, n) for _ in range(3)),
        tuple((z, int(rng.integers(2))) for _, z in random_qubits(rng, n)),
        tuple(tuple(term() for _ in range(rng.integers(1, 4))) for _ in range(3)),
        tuple(random_angle(rng, *Kind) for _ in range(2)),
    )


def random_inputs(program, seed=0, batch=BATCH):
    rng = np.random.default_rng(seed)
    initial = rng.normal(size=(batch, 2**program.n_qubits)) + 1j * rng.normal(size=(batch, 2**program.n_qubits))
    initial /= np.linalg.norm(initial, axis=1, keepdims=True)
    shared, sample = rng.uniform(-3, 3, program.n_shared), rng.uniform(-3, 3, (batch, program.n_sample))
    return shared, sample, None if program.product else initial


def as_tensors(arrays, single=False):
    types = {"f": (np.float64, np.float32), "c": (np.complex128, np.complex64)}
    return [None if a is None else tf.constant(a.astype(types[a.dtype.kind][single])) for a in arrays]


def agree(program, tolerance=EXACT, call=lambda f, *arguments: f(*arguments), seed=0):
    inputs = random_inputs(program, seed)
    tensors = as_tensors(inputs, single=tolerance > EXACT)
    for name in ("expectations", "state"):
        found = call(getattr(engine, name), program, *tensors)
        np.testing.assert_allclose(found, getattr(reference, name)(program, *inputs), rtol=0, atol=tolerance)
        assert found.dtype.size == (4 if tolerance > EXACT else 8) * (2 if name == "state" else 1)


@pytest.mark.parametrize("product", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_random_programs_agree_with_the_reference(seed, product):
    agree(random_program(seed, product))


@pytest.mark.parametrize("seed", range(2))
def test_single_precision_stays_single(seed):
    agree(random_program(seed), SINGLE)


@pytest.mark.parametrize("seed", range(4))
def test_tables_of_large_circuits_agree_too(seed, monkeypatch):
    monkeypatch.setattr(engine, "TABLE_BITS", 2)
    agree(random_program(seed))


@pytest.mark.parametrize(("product", "compiled"), [(True, False), (False, False), (True, True)])
def test_one_graph_serves_every_batch_size(product, compiled):
    program = random_program(3, product)
    graphs = {
        name: tf.function(lambda *inputs, name=name: getattr(engine, name)(program, *inputs), jit_compile=compiled)
        for name in (["expectations"] if compiled else ["expectations", "state"])
    }
    for batch in (3, 5):
        inputs = random_inputs(program, batch=batch)
        tensors = [t for t in as_tensors(inputs) if t is not None]
        specs = [tf.TensorSpec((None, *t.shape[1:]) if t.shape.rank > 1 else t.shape, t.dtype) for t in tensors]
        for name, graph in graphs.items():
            found = graph.get_concrete_function(*specs)(*tensors)
            np.testing.assert_allclose(found, getattr(reference, name)(program, *inputs), rtol=0, atol=EXACT)


def test_one_initial_state_serves_the_whole_batch():
    program = random_program(5, product=False)
    shared, sample, initial = random_inputs(program)
    tensors = as_tensors((shared, sample, initial[:1]))
    np.testing.assert_allclose(
        engine.expectations(program, *tensors), reference.expectations(program, shared, sample, initial[:1]), atol=EXACT
    )


# --- circuits and their derivatives ----------------------------------------------------------------------------------------

N_WIRES, N_WEIGHTS, N_FEATURES = 4, 20, 5


def circuit(features, weights):
    """Gates of every kind; features (batch, 5) and weights (20,) are used in order."""
    feature, weight = iter(tf.unstack(features, axis=1)), iter(tf.unstack(weights))
    qml.Hadamard(0)
    for wire in range(3):
        qml.RX(next(feature), wires=wire)
        qml.Rot(next(weight), next(weight), next(weight), wires=wire)
    for wire in range(4):
        qml.CNOT((wire, (wire + 1) % 4))
    for wire in range(4):
        qml.RY(next(weight), wires=wire)
    qml.MultiRZ(next(weight), wires=(0, 2, 3))
    qml.IsingXX(next(weight), wires=(1, 2))
    qml.CRX(next(weight), wires=(3, 0))
    qml.RY(next(feature), wires=1)
    qml.SingleExcitation(next(weight), wires=(0, 2))
    qml.SWAP((1, 3))
    qml.IsingYY(next(feature), wires=(2, 3))
    for wire in range(3):
        qml.RX(next(weight), wires=wire)


OBSERVABLES = [qml.Z(0), qml.X(1) @ qml.Y(2), 0.5 * qml.Y(0) @ qml.Z(3) - qml.X(2), qml.Z(1) @ qml.Z(2)]


@qml.qnode(qml.device("default.qubit", wires=N_WIRES), interface="tf", diff_method="backprop")
def expected(features, weights):
    circuit(features, weights)
    return [qml.expval(o) for o in OBSERVABLES]


@pytest.fixture(scope="module")
def compiled_circuit():
    rng = np.random.default_rng(0)
    features, weights = rng.uniform(-3, 3, (BATCH, N_FEATURES)), rng.uniform(-3, 3, N_WEIGHTS)
    with qml.queuing.AnnotatedQueue() as queue:
        circuit(tf.constant(features), tf.constant(weights))
        for observable in OBSERVABLES:
            qml.expval(observable)
    program = compile_tape(qml.tape.QuantumScript.from_queue(queue), range(N_WIRES)).program
    assert (program.n_shared, program.n_sample) == (N_WEIGHTS, N_FEATURES)
    return program, features, weights


def gradients(values, features, weights):
    """Of a sum with different factors for every output and sample."""
    with tf.GradientTape() as tape:
        tape.watch([features, weights])
        outputs = values(features, weights)
        factors = tf.cast(tf.reshape(tf.range(1, tf.size(outputs) + 1), tf.shape(outputs)), outputs.dtype)
        total = tf.reduce_sum(outputs * factors) / 10
    return (outputs, *tape.gradient(total, [features, weights]))


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
def test_values_and_gradients_equal_default_qubit(compiled_circuit, mode):
    program, features, weights = compiled_circuit
    wanted = gradients(lambda x, w: tf.stack(expected(x, w), axis=1), tf.constant(features), tf.constant(weights))

    def found(features, weights):
        return gradients(lambda x, w: engine.expectations(program, w, x), features, weights)

    if mode != "eager":
        found = tf.function(found, jit_compile=mode == "xla")
    for dtype, tolerance in ((tf.float64, EXACT), (tf.float32, SINGLE)):
        for one, other in zip(found(tf.constant(features, dtype), tf.constant(weights, dtype)), wanted, strict=True):
            assert one.dtype == dtype
            np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def hessian_product(total, features, weights):
    """The gradient of a directional derivative: the Hessian times a vector."""
    rng = np.random.default_rng(1)
    parameters = [features, weights]
    with tf.GradientTape() as outer:
        outer.watch(parameters)
        with tf.GradientTape() as inner:
            inner.watch(parameters)
            value = total(*parameters)
        slope = sum(tf.reduce_sum(g * rng.normal(size=g.shape)) for g in inner.gradient(value, parameters))
    return outer.gradient(slope, parameters)


def test_second_derivatives_equal_those_of_default_qubit(compiled_circuit):
    program, features, weights = compiled_circuit
    arguments = tf.constant(features), tf.constant(weights)
    wanted = hessian_product(lambda x, w: tf.reduce_sum(expected(x, w)[2]), *arguments)

    def found(features, weights):
        return hessian_product(lambda x, w: tf.reduce_sum(engine.expectations(program, w, x)[:, 2]), features, weights)

    for one in (found, tf.function(found, jit_compile=True)):
        for a, b in zip(one(*arguments), wanted, strict=True):
            np.testing.assert_allclose(a, b, atol=EXACT)


def test_the_gradient_of_the_initial_state_is_that_of_a_dense_matrix():
    program = random_program(7, product=False)
    shared, sample, initial = as_tensors(random_inputs(program))
    size = initial.shape[1]
    rows = [
        engine.state(program, shared, tf.repeat(sample[b : b + 1], size, 0), tf.eye(size, dtype=initial.dtype))
        for b in range(BATCH)
    ]
    target = tf.constant(random_inputs(program, seed=1)[2])

    def loss(state):
        return tf.reduce_sum(tf.abs(tf.reduce_sum(tf.math.conj(target) * state, axis=1)) ** 2)

    with tf.GradientTape(persistent=True) as tape:
        tape.watch(initial)
        found = loss(engine.state(program, shared, sample, initial))
        wanted = loss(tf.einsum("bi,bij->bj", initial, tf.stack(rows)))
    np.testing.assert_allclose(tape.gradient(found, initial), tape.gradient(wanted, initial), atol=EXACT)


# --- corners ---------------------------------------------------------------------------------------------------------------


def test_what_plays_no_part_has_gradient_zero_and_results_cover_the_batch():
    program = Program(2, 2, 1, ((), ()), (), ((2, 0), (1, 1)), ((Term(1.0, 0, 0, 1),), ()))
    shared, sample = tf.zeros(2, tf.float64), tf.zeros((3, 1), tf.float64)
    with tf.GradientTape() as tape:
        tape.watch([shared, sample])
        values = engine.expectations(program, shared, sample)
    np.testing.assert_array_equal(values, [[1, 0]] * 3)
    for gradient in tape.gradient(values, [shared, sample]):
        np.testing.assert_array_equal(gradient, 0 * gradient)
    np.testing.assert_array_equal(engine.state(program, shared, sample), [[0, 1, 0, 0]] * 3)


def test_circuits_without_parameters():
    hadamard = (Rotation((0.0, 1.0, 0.0), Angle(offset=np.pi / 2)), Rotation((0.0, 0.0, 1.0), Angle(offset=np.pi)))
    output = ((Term(1.0, 0, 2, 0),), (Term(1.0, 1, 2, 2),))
    agree(Program(2, 0, 0, (hadamard, ()), (Layer(runs=(Run(1, 1, hadamard),)),), ((2, 0), (1, 0)), output))


def test_a_gate_per_sample_that_does_nothing_does_nothing():
    block = Block(
        ((2, 2), (1, 1)), np.linalg.qr(np.arange(16).reshape(4, 4) + 1j)[0], np.zeros(4), Angle(Kind.SAMPLE, 0, 1.0)
    )
    agree(Program(2, 0, 1, ((), ()), (Layer(blocks=(block,)),), ((2, 0), (1, 0)), ((Term(1.0, 0, 0, 1),),)))


def test_no_tensor_has_many_axes_and_depth_costs_few_operations():
    def operations(n_layers, n_wires=10):
        with qml.queuing.AnnotatedQueue() as queue:
            qml.StronglyEntanglingLayers(np.ones((n_layers, n_wires, 3)), wires=range(n_wires))
            qml.expval(qml.Z(0))
        tape = qml.tape.QuantumScript.from_queue(queue).expand()
        program = compile_tape(tape, range(n_wires)).program
        graph = tf.function(lambda s: engine.expectations(program, s, tf.zeros((1, 0)))).get_concrete_function(
            tf.TensorSpec((program.n_shared,), tf.float32)
        )
        ranks = [output.shape.rank for op in graph.graph.get_operations() for output in op.outputs]
        assert max(rank for rank in ranks if rank is not None) <= 8
        return len(graph.graph.get_operations())

    assert operations(6) - operations(4) < 2 * 60
