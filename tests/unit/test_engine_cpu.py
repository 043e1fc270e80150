"""The CPU engine agrees with default.qubit in value and gradient, for any batch, precision and number of threads."""

import ctypes
import os
import re
import subprocess
import sys
from dataclasses import replace

import engine_reference as reference
import numpy as np
import pennylane as qml
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pennylane.ops.functions import bind_new_parameters
from test_engine_compiler import BATCH, circuits, strongly_entangling, unitary, values

from hybridbench.engine import backends, cpu, operation
from hybridbench.engine.compiler import compile_tape
from hybridbench.engine.cpu.kernels import layout
from hybridbench.engine.program import Angle, Kind
from hybridbench.errors import ConfigurationError, MemoryEstimateError
from hybridbench.stack import import_tensorflow

tf = import_tensorflow()
#: default.qubit cannot differentiate these by backpropagation, or PennyLane cannot give them other parameters. Of a batch of
#: PCPhase it computes something else in TensorFlow than in NumPy, which the engine agrees with (test_engine_compiler.py).
LEFT_OUT = (qml.ops.Pow, qml.ops.Evolution, qml.ControlledQubitUnitary, qml.PCPhase)
TOLERANCE = {"complex64": 2e-5, "complex128": 1e-10}


def angles(operations):
    """Places (operation, parameter) of all gate angles."""
    compiled = compile_tape(qml.tape.QuantumScript(operations, [qml.state()]), range(5))
    return [*compiled.shared, *compiled.sample]


def bindable(operations):
    wrapped = (qml.ops.Controlled, qml.ops.ControlledOp)
    gates = [(op, getattr(op, "base", op)) for op in operations]
    return [
        op
        for op, base in gates
        if not isinstance(op, LEFT_OUT) and not isinstance(base, LEFT_OUT) and type(op) not in wrapped
    ]


def with_batch(operations, batch, rng):
    """The same gates with the broadcast angles drawn anew for another batch."""
    found = []
    for i, op in enumerate(operations):
        data = list(op.data)
        for place, parameter in angles(operations):
            if place == i and np.ndim(data[parameter]):
                data[parameter] = rng.uniform(-4, 4, batch)
        found.append(bind_new_parameters(op, data) if any(place == i for place, _ in angles(operations)) else op)
    return found


def observables(n, rng, diagonal):
    """Some sums of Pauli words."""
    letters = "IZ" if diagonal else "IXYZ"
    found = []
    for _ in range(3):
        words = [qml.pauli.string_to_pauli_word("".join(rng.choice(list(letters), n))) for _ in range(2)]
        found.append(qml.dot(rng.uniform(-1, 1, 2).tolist(), words))
    return found


def truth(operations, measurements, wires, cotangent):
    """Values and gradients by default.qubit and TensorFlow's backpropagation, float64."""
    places = angles(operations)
    variables = [tf.Variable(np.asarray(operations[i].data[j], float)) for i, j in places]
    with tf.GradientTape() as tape:
        data = [list(op.data) for op in operations]
        for (i, j), variable in zip(places, variables, strict=True):
            data[i][j] = tf.identity(variable)
        turned = {i for i, _ in places}  # binding a matrix anew drops the control values of a controlled unitary
        bound = [bind_new_parameters(op, data[i]) if i in turned else op for i, op in enumerate(operations)]
        script = qml.tape.QuantumScript(bound, measurements)
        device = qml.device("default.qubit", wires=wires)
        results = qml.execute([script], device, diff_method="backprop", interface="tf")[0]
        results = results if isinstance(results, list | tuple) else [results]
        batch = len(cotangent)
        rows = [tf.broadcast_to(tf.reshape(tf.cast(r, tf.float64), (-1,)), (batch,)) for r in results]
        out = tf.stack(rows, 1)
        loss = tf.reduce_sum(out * cotangent)
    gradients = tape.gradient(loss, variables, unconnected_gradients="zero")
    return out.numpy(), [g.numpy() for g in gradients]


def compiled_numbers(operations, measurements, wires, batch):
    compiled = compile_tape(qml.tape.QuantumScript(operations, measurements), wires)
    shared = values(operations, compiled.shared, ())
    sample = values(operations, compiled.sample, (batch,)).T.reshape(batch, -1)
    return compiled, shared, sample


@settings(max_examples=25, deadline=None, derandomize=True)
@given(circuits(), st.integers(0, 2**32), st.booleans(), st.sampled_from([1, 3, 7, 20]), st.sampled_from(list(TOLERANCE)))
def test_values_and_gradients_are_those_of_default_qubit(circuit, seed, diagonal, batch, precision):
    operations, wires = circuit
    operations = bindable(operations)
    rng = np.random.default_rng(seed)
    if any(np.ndim(op.data[j]) for op in operations for j in range(len(op.data)) if np.shape(op.data[j]) == (BATCH,)):
        operations = with_batch(operations, batch, rng)
    else:
        batch = 1
    measurements = [qml.expval(o) for o in observables(len(wires), rng, diagonal)]
    compiled, shared, sample = compiled_numbers(operations, measurements, wires, batch)
    cotangent = rng.uniform(-1, 1, (batch, 3))
    try:
        want, gradients = truth(operations, measurements, wires, cotangent)
    except tf.errors.UnimplementedError:  # TensorFlow cannot broadcast all of default.qubit's shapes
        assume(False)
    arguments = (compiled.program, shared, sample)
    atol = TOLERANCE[precision]
    np.testing.assert_allclose(cpu.expectations(*arguments, precision), want, atol=atol)
    d_shared, d_sample, _ = cpu.expectations_vjp(*arguments, cotangent, precision)
    found = [*d_shared, *d_sample.T]
    for place, gradient in zip(angles(operations), gradients, strict=True):
        order = [*compiled.shared, *compiled.sample].index(place)
        np.testing.assert_allclose(found[order], gradient, atol=atol * max(1, batch / 3))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(circuits(), st.integers(0, 2**32), st.sampled_from([1, 5, 17]))
def test_states_and_their_gradients(circuit, seed, batch):
    operations, wires = circuit
    rng = np.random.default_rng(seed)
    operations = with_batch(bindable(operations), batch, rng)
    if not any(np.shape(x) == (batch,) for op in operations for x in op.data):
        batch = 1
    compiled, shared, sample = compiled_numbers(operations, [qml.state()], wires, batch)
    found = operation.state(compiled.program, tf.constant(shared), tf.constant(sample)).numpy()
    np.testing.assert_allclose(cpu.state(compiled.program, shared, sample, "complex128"), found, atol=1e-12)
    script = qml.tape.QuantumScript(operations, [qml.state()])
    want = qml.execute([script], qml.device("default.qubit", wires=wires), diff_method=None)[0]
    np.testing.assert_allclose(found, np.broadcast_to(np.atleast_2d(want), found.shape), atol=1e-10)
    # A direction in parameter space: the derivative along it against a central difference.
    cotangent = rng.normal(size=found.shape) + 1j * rng.normal(size=found.shape)
    d_shared, d_sample, _ = cpu.state_vjp(compiled.program, shared, sample, cotangent, "complex128")
    a, b, step = rng.normal(size=shared.shape), rng.normal(size=sample.shape), 1e-5

    def value(t):
        state = cpu.state(compiled.program, shared + t * a, sample + t * b, "complex128")
        return np.sum((cotangent.conj() * state).real)

    slope = (value(step) - value(-step)) / (2 * step)
    assert np.sum(d_shared * a) + np.sum(d_sample * b) == pytest.approx(slope, rel=1e-6, abs=1e-6)


# --- threads, batches and starting states ----------------------------------------------------------------------------------


def entangling(n, n_layers, batch, extra=(), measurements=None):
    """(program, shared, sample) of an embedding, layers of rotations and CNOTs, and the gates of `extra`."""
    operations, _ = strongly_entangling(n, n_layers, batch)
    measurements = measurements or [qml.expval(qml.Z(w)) for w in range(0, n, 3)]
    compiled, shared, sample = compiled_numbers([*operations, *extra], measurements, range(n), batch)
    return compiled.program, shared, sample


def mixed(n):
    """Observables with and without X."""
    return [qml.expval(qml.Z(0)), qml.expval(0.5 * qml.X(1) @ qml.Y(n - 1) - qml.Z(2) @ qml.X(0)), qml.expval(qml.Y(0))]


def blocks():
    """Gates that run as matrices on three and on two virtual qubits."""
    generator = 0.3 * qml.X(0) @ qml.Y(1) - 0.7 * qml.Z(0)
    gates = [qml.QubitUnitary(unitary(np.random.default_rng(6), 3), [0, 2, 1]), qml.evolve(generator, 0.7)]
    return [*gates, qml.RY(0.3, 2), qml.CNOT([2, 0])]


def per_sample(program):
    """The program with an angle per sample in the blocks that have one, which no gate of PennyLane compiles to."""
    angle = Angle(Kind.SAMPLE, 0, 0.8, 0.1)
    layers = [
        replace(layer, blocks=tuple(replace(b, angle=b.angle and angle) for b in layer.blocks)) for layer in program.layers
    ]
    return replace(program, layers=tuple(layers))


@pytest.fixture
def modes(monkeypatch):
    """(threads, whether they shared one block) of each call of the machine code."""
    found, entry = [], cpu._ENTRY

    def watched(address):
        function = entry(address)

        def run(table, one):
            failed = function(table, one)
            words = (ctypes.c_int64 * layout.WORDS).from_address(table)
            found.append((words[layout.THREADS], words[layout.TOGETHER]))
            return failed

        return run

    monkeypatch.setattr(cpu, "_ENTRY", watched)
    return found


#: name -> (qubits, layers, batch, gates after them, observables, (threads of 3, together)).
SHARED_WORK = {
    "a small circuit stays on one thread": (6, 1, 4, (), None, (1, 0)),
    "14 qubits, one sample": (14, 3, 1, (), None, (1, 0)),
    "18 qubits, one sample": (18, 2, 1, (), None, (3, 1)),
    "15 qubits, one sample, matrices": (15, 2, 1, blocks(), mixed(15), (3, 1)),
    "14 qubits, one block of samples": (14, 2, 13, (), mixed(14), (3, 1)),
    "10 qubits, many blocks of samples": (10, 4, 70, (), mixed(10), (3, 0)),
    "10 qubits, blocks of samples, matrices": (10, 4, 70, blocks(), mixed(10), (3, 0)),
}


@pytest.mark.parametrize("precision", list(TOLERANCE))
@pytest.mark.parametrize("case", SHARED_WORK)
def test_results_are_the_same_bits_with_any_number_of_threads(case, precision, modes):
    n, n_layers, batch, extra, measurements, mode = SHARED_WORK[case]
    program, shared, sample = entangling(n, n_layers, batch, extra, measurements)
    cotangent = np.random.default_rng(1).normal(size=(batch, len(program.outputs)))
    found = []
    for threads in (1, 2, 3):
        values_ = cpu.expectations(program, shared, sample, precision, threads=threads)
        d_shared, d_sample, _ = cpu.expectations_vjp(program, shared, sample, cotangent, precision, threads=threads)
        found.append((values_, d_shared, d_sample))
    assert modes[-1] == mode
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            np.testing.assert_array_equal(one, other)
    assert np.abs(found[0][1]).max() > 1e-3


@pytest.mark.parametrize("precision", list(TOLERANCE))
def test_states_are_the_same_bits_with_any_number_of_threads(precision):
    program, shared, sample = entangling(14, 1, 13, measurements=[qml.state()])
    rng = np.random.default_rng(2)
    cotangent = rng.normal(size=(13, 2**14)) + 1j * rng.normal(size=(13, 2**14))
    found = []
    for threads in (1, 3):
        amplitudes = cpu.state(program, shared, sample, precision, threads=threads)
        found.append((amplitudes, *cpu.state_vjp(program, shared, sample, cotangent, precision, threads=threads)[:2]))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("n", [1, 3, 7])
@pytest.mark.parametrize("batch", [1, 2, 5, 8, 15, 16, 17, 33])
def test_a_batch_is_its_samples_one_by_one(batch, n):
    extra = blocks() if n == 7 else ()
    program, shared, sample = entangling(n, 2, batch, extra, mixed(n) if n > 2 else [qml.expval(qml.Z(0) + qml.X(0))])
    program = per_sample(program)
    cotangent = np.random.default_rng(1).normal(size=(batch, len(program.outputs)))
    found = cpu.expectations(program, shared, sample, "complex128")
    d_shared, d_sample, _ = cpu.expectations_vjp(program, shared, sample, cotangent, "complex128")
    assert any(layer.blocks for layer in program.layers) == (n == 7)
    rows = [sample[i : i + 1] for i in range(batch)]
    np.testing.assert_allclose(
        found, np.concatenate([cpu.expectations(program, shared, row, "complex128") for row in rows]), atol=1e-13
    )
    alone = [
        cpu.expectations_vjp(program, shared, row, c[None], "complex128") for row, c in zip(rows, cotangent, strict=True)
    ]
    np.testing.assert_allclose(d_shared, sum(a[0] for a in alone), atol=1e-12)
    np.testing.assert_allclose(d_sample, np.concatenate([a[1] for a in alone]), atol=1e-13)
    amplitudes = cpu.state(program, shared, sample, "complex128")
    np.testing.assert_allclose(
        amplitudes, np.concatenate([cpu.state(program, shared, row, "complex128") for row in rows]), atol=1e-13
    )
    np.testing.assert_allclose(np.sum(np.abs(amplitudes) ** 2, axis=1), 1, atol=1e-13)


@pytest.mark.parametrize("precision", list(TOLERANCE))
def test_matrices_with_an_angle_per_sample(precision):
    program, shared, sample = entangling(5, 1, 3, blocks(), mixed(5))
    program, atol = per_sample(program), TOLERANCE[precision]
    assert any(block.angle and block.angle.kind is Kind.SAMPLE for layer in program.layers for block in layer.blocks)
    found = cpu.expectations(program, shared, sample, precision)
    np.testing.assert_allclose(found, reference.expectations(program, shared, sample), atol=atol)
    cotangent = np.random.default_rng(1).normal(size=found.shape)
    gradient = cpu.expectations_vjp(program, shared, sample, cotangent, precision)[1]
    step = np.zeros_like(sample)
    step[:, 0] = 1e-6
    up, down = (reference.expectations(program, shared, sample + s * step) for s in (1, -1))
    np.testing.assert_allclose(gradient[:, 0], np.sum(cotangent * (up - down), axis=1) / 2e-6, atol=max(atol, 1e-8))


def started(first, batch, measurements, n=4):
    """(operations, program, shared, sample, initial) of a circuit whose first gate prepares a state."""
    operations, _ = strongly_entangling(n, 1, batch)
    operations = [first, *operations]
    compiled, shared, sample = compiled_numbers(operations, measurements, range(n), batch)
    assert compiled.initial == 0
    initial = operations[0].state_vector(wire_order=range(n)).reshape(-1, 2**n)
    return operations, compiled.program, shared, sample, initial


@pytest.mark.parametrize("rows", ["one", "all"])
@pytest.mark.parametrize("kind", [qml.StatePrep, qml.AmplitudeEmbedding])
@pytest.mark.parametrize("batch", [1, 3, 17])
def test_given_states_and_gradients_with_respect_to_them(kind, rows, batch):
    rng = np.random.default_rng(4)
    amplitudes = rng.normal(size=(16,) if rows == "one" else (batch, 16)) + 1j * rng.normal(size=16)
    first = kind(amplitudes, range(4), normalize=True)
    operations, program, shared, sample, initial = started(first, batch, mixed(4))
    assert len(initial) == (1 if rows == "one" else batch)
    want = qml.execute(
        [qml.tape.QuantumScript(operations, mixed(4))], qml.device("default.qubit", wires=4), diff_method=None
    )[0]
    for precision, atol in TOLERANCE.items():
        found = cpu.expectations(program, shared, sample, precision, initial)
        np.testing.assert_allclose(found, np.stack(want, -1).reshape(found.shape), atol=atol)
    cotangent = rng.normal(size=(batch, 3))
    gradients = cpu.expectations_vjp(program, shared, sample, cotangent, "complex128", initial)
    # The values hold for vectors of any length, so that each amplitude can move on its own.
    directions = [rng.normal(size=shared.shape), rng.normal(size=sample.shape), rng.normal(size=(2, *initial.shape))]
    directions[2] = directions[2][0] + 1j * directions[2][1]

    def value(t):
        moved = [x + t * d for x, d in zip((shared, sample, initial), directions, strict=True)]
        return np.sum(cotangent * cpu.expectations(program, moved[0], moved[1], "complex128", moved[2]))

    assert gradients[2].shape == (batch, 16)
    slope = np.sum(gradients[0] * directions[0]) + np.sum(gradients[1] * directions[1])
    slope += np.sum((gradients[2].conj() * directions[2]).real)
    assert slope == pytest.approx((value(1e-5) - value(-1e-5)) / 2e-5, rel=1e-7, abs=1e-7)
    for at in (0, 7):
        change = np.zeros((1, 16), complex)
        change[0, at] = 1e-5j
        moved = [cpu.expectations(program, shared, sample, "complex128", initial + s * change) for s in (1, -1)]
        difference = np.sum(cotangent * (moved[0] - moved[1])) / 2e-5
        assert np.sum(gradients[2][:, at].imag) == pytest.approx(difference, rel=1e-7, abs=1e-7)


def test_states_from_given_states_and_their_gradients():
    rng = np.random.default_rng(5)
    amplitudes = rng.normal(size=(5, 16)) + 1j * rng.normal(size=(5, 16))
    first = qml.StatePrep(amplitudes, range(4), normalize=True)
    operations, program, shared, sample, initial = started(first, 5, [qml.state()])
    script = qml.tape.QuantumScript(operations, [qml.state()])
    want = qml.execute([script], qml.device("default.qubit", wires=4), diff_method=None)[0]
    np.testing.assert_allclose(cpu.state(program, shared, sample, "complex128", initial), want, atol=1e-12)
    cotangent = rng.normal(size=(5, 16)) + 1j * rng.normal(size=(5, 16))
    d_initial = cpu.state_vjp(program, shared, sample, cotangent, "complex128", initial)[2]
    # The state is linear in the starting state, and its gradient the adjoint of that map.
    for at in range(16):
        unit = np.eye(16)[at : at + 1]
        column = cpu.state(program, shared, sample, "complex128", unit)
        np.testing.assert_allclose(d_initial[:, at], np.sum(column.conj() * cotangent, axis=1), atol=1e-12)


# --- errors and memory -----------------------------------------------------------------------------------------------------


def test_wrong_shapes_are_named():
    program, shared, sample = entangling(3, 1, 4)
    takes = (
        r"The circuit takes shared parameters of shape \(9,\) and per-sample parameters of shape \(batch, 3\) with at least "
    )
    for wrong in (
        (shared[1:], sample),
        (shared[None], sample),
        (shared, sample[:, 1:]),
        (shared, sample[0]),
        (shared, sample[:0]),
    ):
        got = rf"one sample; it got {re.escape(str(wrong[0].shape))} and {re.escape(str(wrong[1].shape))}\."
        with pytest.raises(ConfigurationError, match=takes + got):
            cpu.expectations(program, *wrong)
        with pytest.raises(ConfigurationError, match=takes + got):
            cpu.state_vjp(program, *wrong, np.zeros((4, 8)))
    with pytest.raises(ConfigurationError, match=r"The cotangent has the shape \(4, 2\), and the results have \(4, 1\)\."):
        cpu.expectations_vjp(program, shared, sample, np.zeros((4, 2)))
    with pytest.raises(ConfigurationError, match=r"The cotangent has the shape \(1, 8\), and the results have \(4, 8\)\."):
        cpu.state_vjp(program, shared, sample, np.zeros((1, 8)))
    with pytest.raises(ConfigurationError, match=r"Unknown precision 'complex12'\. Did you mean 'complex128' or"):
        cpu.expectations(program, shared, sample, "complex12")


@pytest.mark.parametrize("wrong", [None, (2, 16), (5, 16), (1, 8), (16,)])
def test_wrong_starting_states_are_named(wrong):
    first = qml.StatePrep(np.eye(16)[0], range(4))
    _, program, shared, sample, _ = started(first, 3, mixed(4))
    sentence = rf"The circuit starts from a state of shape \(1 or 3, 16\); it got {re.escape(str(wrong))}\."
    with pytest.raises(ConfigurationError, match=sentence):
        cpu.expectations(program, shared, sample, initial=None if wrong is None else np.zeros(wrong))


def test_too_little_memory_is_an_error_with_numbers_before_anything_is_allocated(monkeypatch):
    program, shared, sample = entangling(10, 1, 20)
    needed = cpu.memory_bytes(program, 20, "complex128", threads=2)
    assert needed == 2 * 2 * 16 * 2**10 * 16  # two states of a block of 16 samples for each of two threads
    monkeypatch.setattr(cpu, "ALWAYS_FREE", 0)
    monkeypatch.setattr(backends, "available_memory_bytes", lambda: needed - 1)
    sentence = (
        r"A pass of 10 qubits, batch 20, in complex128 needs about 0\.000977 GiB of states, and 0\.000977 GiB are free: "
        r"use fewer qubits, a smaller batch, "
    )
    with pytest.raises(MemoryEstimateError, match=sentence):
        cpu.expectations(program, shared, sample, "complex128", threads=2)
    with pytest.raises(MemoryEstimateError, match=sentence):
        cpu.expectations_vjp(program, shared, sample, np.zeros((20, 4)), "complex128", threads=2)
    cpu.expectations(program, shared, sample, "complex64", threads=2)
    monkeypatch.setattr(backends, "available_memory_bytes", lambda: needed)
    cpu.expectations(program, shared, sample, "complex128", threads=2)


def test_memory_that_the_system_refuses_is_an_error(monkeypatch):
    program, shared, sample = entangling(3, 1, 4)
    monkeypatch.setattr(cpu, "_ENTRY", lambda _address: lambda _table, _one: 1)
    with pytest.raises(MemoryEstimateError, match=r"GiB for the states could not be had: use fewer qubits or samples\."):
        cpu.expectations(program, shared, sample)


def test_memory_does_not_depend_on_depth():
    sizes = {cpu.memory_bytes(entangling(8, n_layers, 20)[0], 20, "complex64") for n_layers in (1, 4, 16)}
    assert len(sizes) == 1


@pytest.mark.parametrize("precision", list(TOLERANCE))
def test_memory_is_two_states_of_a_block_for_each_thread(precision):
    amplitude = np.dtype(precision).itemsize
    plain, blocked = entangling(7, 1, 3)[0], entangling(7, 1, 3, blocks())[0]

    def states(program, batch, **options):
        return cpu.memory_bytes(program, batch, precision, **options) / (2**7 * amplitude)

    assert [states(plain, batch, threads=1) for batch in (1, 2, 3, 5, 15, 16, 17, 100)] == [2, 4, 8, 16, 32, 32, 32, 32]
    assert [states(plain, batch, threads=3) for batch in (1, 16, 17, 33, 100)] == [2, 32, 64, 96, 96]
    assert states(blocked, 1, threads=3) == 32
    assert states(plain, 17, threads=1, state=True) == 32 + 17


def test_threads_are_those_of_the_environment(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert cpu.n_threads() == 3
    for other in ("", "0", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", other)
        assert cpu.n_threads() == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("precision", ["complex64", "complex128"])
def test_large_angles_are_turned_as_the_c_library_turns_them(precision):
    def circuit(x):
        qml.RX(x, 0)
        qml.RY(0.3, 1)
        qml.CNOT([0, 1])
        qml.RY(x, 1)
        return qml.expval(qml.Z(1))

    mine = qml.QNode(circuit, qml.device("hybridbench.qubit", wires=2, c_dtype=precision))
    expected = qml.QNode(circuit, qml.device("default.qubit", wires=2))
    for x in (1e6, 1e9, 2.0**40):  # exact in single precision too
        np.testing.assert_allclose(mine(np.array(x)), expected(np.array(x)), atol=1e-5)
    if precision == "complex128":
        for x in (1e20, 1e100, -4.6e18, 123456.789, -1e7):
            np.testing.assert_allclose(mine(np.array(x)), expected(np.array(x)), atol=1e-12)
            rows = np.array([0.3, x])  # one large angle among others
            np.testing.assert_allclose(mine(rows), expected(rows), atol=1e-12)
    for x in (np.inf, np.nan):
        assert np.isnan(mine(np.array(x)))


def test_threads_that_cannot_be_started_are_done_without():
    """In a process of its own: threads get a stack by default that no machine has, so that none can be started."""
    script = """
import ctypes
import numpy as np, pennylane as qml
from hybridbench.engine import cpu
from hybridbench.engine.compiler import compile_tape

def program(n, batch):
    angles = np.linspace(0, 3, batch * n).reshape(batch, n)
    tape = qml.tape.QuantumScript(
        [qml.RX(angles[:, i], i) for i in range(n)] + [qml.CNOT([i, (i + 1) % n]) for i in range(n)]
        + [qml.RY(0.3 * i, i) for i in range(n)] * 3, [qml.expval(qml.Z(i)) for i in range(n)])
    compiled = compile_tape(tape, range(n))
    values = [[np.asarray(value) for value in operation.data] for operation in tape.operations]
    shared = np.array([values[op][index] for op, index in compiled.shared], float)
    sample = np.stack([values[op][index] for op, index in compiled.sample], axis=1).astype(float)
    return compiled.program, shared, sample

cases = [program(9, 128), program(16, 2)]
expected = [cpu.expectations(*case, threads=1) for case in cases]
libc = ctypes.CDLL(None)
attributes = ctypes.create_string_buffer(256)
assert libc.pthread_attr_init(attributes) == 0
assert libc.pthread_attr_setstacksize(attributes, ctypes.c_size_t(1 << 46)) == 0
assert libc.pthread_setattr_default_np(attributes) == 0
import threading
try:
    threading.Thread(target=print).start()
except RuntimeError:
    print("no threads")
for case, wanted in zip(cases, expected):
    assert np.array_equal(cpu.expectations(*case, threads=4), wanted)
    d = cpu.expectations_vjp(*case, np.ones_like(wanted), threads=4)
    assert np.isfinite(d[0]).all()
print("the same")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split("\n")[:2] == ["no threads", "the same"]
