"""The TensorFlow operation over the CPU engine: eager and in graphs, any batch, gradients, and errors in a sentence."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pennylane as qml
import pytest
from test_engine_compiler import strongly_entangling

from hybridbench.engine import cpu, operation
from hybridbench.engine import tensorflow as engine
from hybridbench.engine.compiler import compile_tape

tf = operation.tf
N = 4
TOLERANCE = {tf.float32: 2e-5, tf.float64: 1e-11}
PRECISION = {tf.float32: "complex64", tf.float64: "complex128"}


def circuit(depth=1, start=False, measurements=None):
    """A program of N qubits; another depth is another program."""
    operations, _ = strongly_entangling(N, depth, 3)
    gates = [*operations, qml.GlobalPhase(0.3), qml.IsingXX(0.4, [0, 2])]
    first = [qml.StatePrep(np.eye(2**N)[0], range(N))] if start else []
    observables = [qml.Z(0), qml.X(1) @ qml.Y(2), 0.5 * qml.Z(3) - qml.Z(0) @ qml.Z(1)]
    measurements = measurements or [qml.expval(observable) for observable in observables]
    return compile_tape(qml.tape.QuantumScript([*first, *gates], measurements), range(N)).program


def parameters(program, batch, real=tf.float64, rows=None, seed=0):
    """(shared, sample, initial) with `rows` random starting states, or None where the program has its own start."""
    rng = np.random.default_rng(seed)
    shared = tf.constant(rng.uniform(-3, 3, program.n_shared), real)
    sample = tf.constant(rng.uniform(-3, 3, (batch, program.n_sample)), real)
    if program.product is not None:
        return shared, sample, None
    amplitudes = rng.normal(size=(rows or batch, 2**N)) + 1j * rng.normal(size=(rows or batch, 2**N))
    return shared, sample, tf.constant(amplitudes / np.linalg.norm(amplitudes, axis=1, keepdims=True), PRECISION[real])


def gradients(function, program, arguments, weights):
    """Values and the gradients of sum(real(conj(weights) * values)) by a tape."""
    watched = [argument for argument in arguments if argument is not None]
    with tf.GradientTape() as tape:
        tape.watch(watched)
        values = function(program, *arguments)
        loss = tf.reduce_sum(tf.math.real(tf.math.conj(tf.cast(weights, values.dtype)) * values))
    return values, tape.gradient(loss, watched)


def assert_same(found, want, atol):
    for one, other in zip(found, want, strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, atol=atol)


# --- values and gradients --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [None, 1, 5])
@pytest.mark.parametrize("real", list(TOLERANCE), ids=lambda real: real.name)
@pytest.mark.parametrize("task", ["expectations", "state"])
def test_values_and_gradients_are_those_of_the_tensorflow_engine(task, real, rows):
    program = circuit(start=rows is not None)
    arguments = parameters(program, 5, real, rows)
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(5, 3 if task == "expectations" else 2**N))
    if task == "state":
        weights = weights + 1j * rng.normal(size=weights.shape)
    found = gradients(getattr(operation, task), program, arguments, weights)
    want = gradients(getattr(engine, task), program, arguments, weights)
    assert found[0].dtype == (real if task == "expectations" else PRECISION[real])
    assert_same([found[0], *found[1]], [want[0], *want[1]], TOLERANCE[real])


@pytest.mark.parametrize("real", list(TOLERANCE), ids=lambda real: real.name)
def test_values_are_those_of_the_numpy_front_end_to_the_bit(real):
    program = circuit()
    shared, sample, _ = parameters(program, 20, real)
    found = operation.expectations(program, shared, sample).numpy()
    np.testing.assert_array_equal(found, cpu.expectations(program, shared.numpy(), sample.numpy(), PRECISION[real]))


def test_eager_and_graph_agree_also_with_a_tape_inside_the_graph():
    program = circuit()
    arguments = parameters(program, 5)
    weights = np.random.default_rng(1).normal(size=(5, 3))
    eager = gradients(operation.expectations, program, arguments, weights)

    @tf.function
    def values(shared, sample):
        return operation.expectations(program, shared, sample)

    @tf.function
    def step(shared, sample):
        return gradients(operation.expectations, program, (shared, sample, None), weights)

    np.testing.assert_array_equal(values(*arguments[:2]), eager[0])
    graph = step(*arguments[:2])
    assert_same([graph[0], *graph[1]], [eager[0], *eager[1]], 1e-14)
    # A tape around the graph, and one of tf.gradients within.
    outside = gradients(lambda _, *arguments: values(*arguments[:2]), program, arguments, weights)
    assert_same(outside[1], eager[1], 1e-14)

    @tf.function
    def symbolic(shared, sample):
        return tf.gradients(tf.reduce_sum(weights * operation.expectations(program, shared, sample)), [shared, sample])

    assert_same(symbolic(*arguments[:2]), eager[1], 1e-14)


@pytest.mark.parametrize("task", ["expectations", "state"])
def test_a_graph_of_an_unknown_batch_takes_any_and_none(task):
    program, run = circuit(start=True), getattr(operation, task)
    width = 3 if task == "expectations" else 2**N
    traces = []
    signature = [
        tf.TensorSpec((program.n_shared,), tf.float64),
        tf.TensorSpec((None, program.n_sample), tf.float64),
        tf.TensorSpec((None, 2**N), tf.complex128),
    ]

    @tf.function(input_signature=signature)
    def step(shared, sample, initial):
        traces.append(1)
        with tf.GradientTape() as tape:
            tape.watch([shared, sample, initial])
            values = run(program, shared, sample, initial)
            assert values.shape.as_list() == [None, width]
            loss = tf.reduce_sum(tf.math.real(values))
        return values, tape.gradient(loss, [shared, sample, initial])

    for batch, rows in ((1, 1), (7, 7), (7, 1), (16, 1), (33, 33), (0, 1), (0, 0)):
        shared, sample, initial = parameters(program, batch, rows=1 if rows == 0 else rows)
        initial = initial[:rows]
        values, found = step(shared, sample, initial)
        assert values.shape == (batch, width)
        assert [g.shape for g in found] == [shared.shape, sample.shape, initial.shape]
        if batch:
            np.testing.assert_allclose(values, getattr(engine, task)(program, shared, sample, initial), atol=1e-11)
            assert np.abs(found[0]).max() > 1e-3
        else:
            assert not np.any(found[0])
            assert not np.any(found[2])
    assert len(traces) == 1


def test_no_samples_when_called_eagerly():
    program = circuit()
    values, (d_shared, d_sample) = gradients(operation.expectations, program, parameters(program, 0), np.zeros((0, 3)))
    assert values.shape == (0, 3)
    assert d_sample.shape == (0, program.n_sample)
    np.testing.assert_array_equal(d_shared, np.zeros(program.n_shared))


def test_states_that_were_not_kept_are_computed_again():
    arguments, weights = parameters(circuit(2), 5), np.ones((5, 3))
    want = gradients(engine.expectations, circuit(2), arguments, weights)
    found = gradients(operation.expectations, circuit(2), arguments, weights)
    assert_same(found[1], want[1], 1e-11)
    # The limit is a constant of the kernel's machine code: here the gradient gets no states, as if they had been too large.
    kept = operation._traced("Expectations", circuit(2), tf.float64).get_concrete_function()
    nodes = [op for op in kept.graph.get_operations() if op.type == "HybridbenchExpectations"]
    code, none = nodes[0].get_attr("code"), tf.zeros((0,), tf.float64)

    @tf.function
    def again():
        inputs = [arguments[0], arguments[1], tf.zeros((1, 0), tf.complex128), none, tf.constant(weights)]
        return operation._node("ExpectationsGrad", inputs, code, [tf.float64, tf.float64, tf.complex128])

    assert_same(again()[:2], want[1], 1e-11)


# --- errors ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["expectations", "state"])
@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
def test_wrong_shapes_are_an_error_with_a_sentence(task, graph):
    program = circuit(start=True)
    shared, sample, initial = parameters(program, 3)

    def run(*arguments):
        return getattr(operation, task)(program, *arguments)

    run = tf.function(run) if graph else run
    sentence = (
        r"hybridbench: the parameters of the circuit have the wrong shapes: shared \(n_shared,\), sample \(batch, n_sample\)"
    )
    for wrong in ((shared[1:], sample), (shared, sample[:, 1:]), (shared, tf.zeros((3, 0), tf.float64))):
        with pytest.raises(tf.errors.InvalidArgumentError, match=sentence):
            run(*wrong, initial)
    sentence = r"hybridbench: the starting state must have the shape \(1 or batch, 2\*\*n_qubits\)"
    for wrong in (initial[:2], initial[:, 1:], None):
        with pytest.raises(tf.errors.InvalidArgumentError, match=sentence):
            run(shared, sample, wrong)
    np.testing.assert_allclose(
        run(shared, sample, initial), getattr(engine, task)(program, shared, sample, initial), atol=1e-11
    )


def test_a_gradient_of_the_wrong_shape_is_refused():
    program = circuit()
    shared, sample, _ = parameters(program, 3)
    with tf.GradientTape() as tape:
        tape.watch(shared)
        values = operation.expectations(program, shared, sample)
    with pytest.raises(tf.errors.InvalidArgumentError, match="gradient handed over must have the shape of the results"):
        tape.gradient(values, shared, output_gradients=tf.ones((1, 1), tf.float64))


def test_too_much_memory_is_an_error_with_numbers(monkeypatch):
    monkeypatch.setattr(operation, "available_memory_bytes", lambda: 3 << 20)
    operations, tape = strongly_entangling(14, 3, 1)
    program = compile_tape(tape, range(14)).program
    assert len(operations) > 14
    shared = tf.zeros((program.n_shared,), tf.float64)
    two = tf.zeros((2, program.n_sample), tf.float64)
    assert operation.expectations(program, shared, two).shape == (2, 14)  # two states of two samples: 1 MiB
    many = tf.zeros((16, program.n_sample), tf.float64)
    sentence = (
        r"hybridbench: the states of this batch need about +8 MiB, and +3 MiB were free\. "
        r"Use fewer qubits, a smaller batch or complex64\."
    )
    with pytest.raises(tf.errors.ResourceExhaustedError, match=sentence):
        operation.expectations(program, shared, many)
    with pytest.raises(tf.errors.ResourceExhaustedError, match=sentence):
        tf.function(lambda: operation.expectations(program, shared, many))()
    single = operation.expectations(program, tf.cast(shared, tf.float32), tf.cast(two, tf.float32))
    assert single.dtype == tf.float32


@pytest.mark.parametrize("task", ["expectations", "state"])
@pytest.mark.parametrize("graph", [False, True])
def test_derivatives_of_derivatives_and_forward_mode(task, graph):
    program = circuit()
    shared, sample, _ = parameters(program, 2)

    def second(run):
        with tf.GradientTape() as outer:
            outer.watch([shared, sample])
            with tf.GradientTape() as inner:
                inner.watch([shared, sample])
                values = run(program, shared, sample)
                loss = tf.reduce_sum(tf.math.real(values) ** 2 + 0.3 * tf.math.imag(values))
            slopes = inner.gradient(loss, [shared, sample])
            total = sum(tf.reduce_sum(tf.sin(slope)) for slope in slopes)
        return outer.gradient(total, [shared, sample])

    def forward(run):
        with tf.autodiff.ForwardAccumulator(shared, tf.ones_like(shared)) as along:
            values = run(program, shared, sample)
        return [along.jvp(values)]

    for derivative in (second, forward):
        mine, theirs = (
            (tf.function(derivative) if graph else derivative)(getattr(module, task)) for module in (operation, engine)
        )
        for found, wanted in zip(mine, theirs, strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-9)


def test_several_first_derivatives_from_one_tape():
    program = circuit()
    shared, sample, _ = parameters(program, 2)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(shared)
        values = operation.expectations(program, shared, sample)
        parts = [values[:, 0], values[:, 2]]
    jacobian = tape.jacobian(values, shared, experimental_use_pfor=False)
    for part, column in ((0, 0), (1, 2)):
        np.testing.assert_allclose(tape.gradient(parts[part], shared), tf.reduce_sum(jacobian[:, column], 0), atol=1e-12)


def test_under_xla_tensorflow_says_which_operation_it_cannot_compile():
    program = circuit()
    shared, sample, _ = parameters(program, 2)
    run = tf.function(lambda *arguments: operation.expectations(program, *arguments), jit_compile=True)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"unsupported operations .*HybridbenchExpectations \(No registered"
    ):
        run(shared, sample)


# --- graphs that outlive the process ---------------------------------------------------------------------------------------

LOAD = """
import sys
import numpy as np
from hybridbench.engine import operation
tf = operation.tf
operation.register()
if len(sys.argv) > 4:
    sys.path.insert(0, sys.argv[4])
    from test_engine_operation import circuit, parameters
    operation.expectations(circuit(), *parameters(circuit(), 3))
module = tf.saved_model.load(sys.argv[1])
given = np.load(sys.argv[2])
with tf.GradientTape() as tape:
    values = module.run(tf.constant(given["sample"]))
    loss = tf.reduce_sum(values)
np.savez(sys.argv[3], values=values, gradient=tape.gradient(loss, module.shared))
"""


def test_a_saved_graph_runs_in_a_process_that_compiled_its_circuit(tmp_path):
    program = circuit()
    shared, sample, _ = parameters(program, 3)
    module = tf.Module()
    module.shared = tf.Variable(shared)

    @tf.function(input_signature=[tf.TensorSpec((None, program.n_sample), tf.float64)])
    def run(sample):
        return operation.expectations(program, module.shared, sample)

    module.run = run
    tf.saved_model.save(module, str(tmp_path / "model"))
    np.savez(tmp_path / "given.npz", sample=sample)
    files = [str(tmp_path / name) for name in ("model", "given.npz", "found.npz")]
    refused = subprocess.run([sys.executable, "-c", LOAD, *files], capture_output=True, text=True, check=False)
    assert refused.returncode == 1  # and no signal: what a file says is not run
    assert "a circuit that this process did not compile" in refused.stderr
    files.append(str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-c", LOAD, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = np.load(tmp_path / "found.npz")
    with tf.GradientTape() as tape:
        values = run(sample)
        loss = tf.reduce_sum(values)
    np.testing.assert_array_equal(found["values"], values)
    np.testing.assert_allclose(found["gradient"], tape.gradient(loss, module.shared), atol=1e-13)
