"""Circuits become programs that mean the same, in few layers, without a look at the angles."""

import engine_reference as reference
import numpy as np
import pennylane as qml
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridbench.engine.compiler import UnsupportedCircuit, compile_tape, structure_key, supports, tapes
from hybridbench.engine.compiler.instructions import Y
from hybridbench.engine.program import Kind
from hybridbench.errors import HybridbenchError
from hybridbench.stack import import_tensorflow

BATCH = 3
ROTATIONS = (qml.RX, qml.RY, qml.RZ, qml.Rot, qml.PhaseShift, qml.U1, qml.U2, qml.U3)
FIXED = (qml.X, qml.Y, qml.Z, qml.H, qml.S, qml.T, qml.SX, qml.Identity)
PAIRS = (qml.CNOT, qml.CZ, qml.CY, qml.CH, qml.SWAP, qml.ISWAP, qml.SISWAP, qml.ECR)
TURNED_PAIRS = (
    *(qml.IsingXX, qml.IsingYY, qml.IsingZZ, qml.IsingXY, qml.PSWAP, qml.CRX, qml.CRY, qml.CRZ, qml.CRot),
    *(qml.ControlledPhaseShift, qml.CPhaseShift00, qml.CPhaseShift01, qml.CPhaseShift10, qml.FermionicSWAP),
    *(qml.SingleExcitation, qml.SingleExcitationPlus, qml.SingleExcitationMinus),
)
TRIPLES = (qml.Toffoli, qml.CSWAP, qml.CCZ, qml.QubitSum)
QUADRUPLES = (qml.DoubleExcitation, qml.DoubleExcitationPlus, qml.DoubleExcitationMinus, qml.OrbitalRotation)
QUADRUPLES = (*QUADRUPLES, qml.QubitCarry)
SPECIAL = (qml.PauliRot, qml.MultiRZ, qml.PCPhase, qml.MultiControlledX, qml.GlobalPhase, qml.QubitUnitary)
SPECIAL = (*SPECIAL, qml.DiagonalQubitUnitary, qml.ControlledQubitUnitary, qml.ops.Evolution)
ALL = (*ROTATIONS, *FIXED, *PAIRS, *TURNED_PAIRS, *TRIPLES, *QUADRUPLES, *SPECIAL)
SIZES = {gate: size for size, gates in ((2, (*PAIRS, *TURNED_PAIRS)), (3, TRIPLES), (4, QUADRUPLES)) for gate in gates}


def unitary(rng, n_wires):
    q, _ = np.linalg.qr(rng.normal(size=(2**n_wires,) * 2) + 1j * rng.normal(size=(2**n_wires,) * 2))
    return q


def make_gate(gate, wires, rng, batched=False):
    """A gate with random parameters, each of them broadcast or not if `batched`."""

    def angle():
        return rng.uniform(-4, 4, BATCH if batched and rng.random() < 0.5 else ())

    n = len(wires)
    match gate:
        case qml.PauliRot:
            return gate(angle(), "".join(rng.choice(list("IXYZ"), n)), wires)
        case qml.PCPhase:
            return gate(angle(), int(rng.integers(0, 2**n + 1)), wires)
        case qml.MultiControlledX:
            return gate(wires, control_values=rng.integers(0, 2, n - 1).tolist())
        case qml.GlobalPhase:
            return gate(rng.uniform(-4, 4))  # default.qubit cannot broadcast it
        case qml.QubitUnitary:
            return gate(unitary(rng, min(n, 4)), wires[:4])
        case qml.DiagonalQubitUnitary:
            return gate(np.exp(1j * rng.uniform(-4, 4, 2**n)), wires)
        case qml.ControlledQubitUnitary:
            return gate(unitary(rng, min(n - 1, 3)), wires=wires[:4], control_values=[bool(rng.integers(2))])
        case qml.ops.Evolution:
            return qml.evolve(0.3 * qml.X(wires[0]) @ qml.Y(wires[1]) - 0.7 * qml.Z(wires[0]), rng.uniform(-4, 4))
        case qml.MultiRZ:
            return gate(angle(), wires)
        case _:
            return gate(*(angle() for _ in range(gate.num_params)), wires=wires)


def wrapped(op, how, free, rng):
    if how == "adjoint":
        return qml.adjoint(op)
    if how == "pow":
        return qml.pow(op, int(rng.integers(-3, 4)))
    if how == "ctrl" and free:
        found = qml.ctrl(op, free[:1], control_values=[bool(rng.integers(2))])
        return found if supports(found) else op  # a matrix with its control may be too large
    return op


@st.composite
def circuits(draw):
    """(operations, wires): up to 12 gates on up to 5 wires."""
    n = draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    operations = []
    for gate in draw(st.lists(st.sampled_from(ALL), max_size=12)):
        least = {qml.MultiControlledX: 2, qml.ControlledQubitUnitary: 2, qml.ops.Evolution: 2}.get(gate, 1)
        size = SIZES.get(gate) or (int(rng.integers(least, 5)) if gate in SPECIAL else 1)
        if size <= n and not (gate is qml.ops.Evolution and n < 2):
            wires = rng.permutation(n).tolist()
            op = make_gate(gate, wires[:size], rng, draw(st.booleans()))
            how = draw(st.sampled_from(["", "", "adjoint", "ctrl", "pow"]))
            if not (how == "pow" and gate is qml.ops.Evolution):
                operations.append(wrapped(op, how, [w for w in wires if w not in op.wires], rng))
    return operations, list(range(n))


def values(operations, entries, batch):
    """The vectors `shared` or `sample` by the entries that the compiler names."""
    return np.array([np.broadcast_to(operations[i].data[j], batch) for i, j in entries], float).reshape(len(entries), *batch)


def run(operations, measurements, wires):
    """The compiled program's state and expectation values by the reference interpreter, and the program."""
    tape = qml.tape.QuantumScript(operations, measurements)
    compiled = compile_tape(tape, wires)
    batch = tape.batch_size or 1
    shared = values(operations, compiled.shared, ())
    sample = values(operations, compiled.sample, (batch,)).T
    initial = None
    if compiled.initial is not None:
        initial = operations[compiled.initial].state_vector(wire_order=wires).reshape(-1, 2 ** len(wires))
    numbers = (compiled.program, shared, sample, initial)
    return reference.state(*numbers), reference.expectations(*numbers), compiled.program


def default_qubit(operations, measurements, wires):
    tape = qml.tape.QuantumScript(operations, measurements)
    return qml.execute([tape], qml.device("default.qubit", wires=wires), diff_method=None)[0]


def assert_same_state(operations, wires):
    found, _, program = run(operations, [qml.state()], wires)
    want = np.atleast_2d(default_qubit(operations, [qml.state()], wires))
    np.testing.assert_allclose(np.broadcast_to(found, want.shape), want, atol=1e-10)
    return program


def assert_same_expectations(operations, observables, wires):
    measurements = [qml.expval(observable) for observable in observables]
    _, found, program = run(operations, measurements, wires)
    want = default_qubit(operations, measurements, wires)
    want = np.stack([np.broadcast_to(w, len(found)) for w in (want if len(observables) > 1 else [want])], axis=1)
    np.testing.assert_allclose(found, want, atol=1e-10)
    return program


def entangled(wires):
    """Gates that leave no wire in a special state, and the frame in no simple one."""
    rng = np.random.default_rng(5)
    turns = [qml.Rot(*rng.uniform(-3, 3, 3), wires=w) for w in wires]
    ring = [qml.CNOT([w, wires[(i + 1) % len(wires)]]) for i, w in enumerate(wires)] if len(wires) > 2 else []
    return [*turns, *ring, qml.X(wires[-1])]


def strongly_entangling(n, n_layers, n_samples=BATCH, observables=None):
    """Operations of AngleEmbedding and StronglyEntanglingLayers, expanded, and a tape with <Z> of each wire."""
    rng = np.random.default_rng(0)
    operations = [qml.RX(rng.uniform(-3, 3, n_samples), w) for w in range(n)]
    shape = qml.StronglyEntanglingLayers.shape(n_layers, n)
    operations += qml.StronglyEntanglingLayers(rng.uniform(-3, 3, shape), range(n)).decomposition()
    observables = [qml.Z(w) for w in range(n)] if observables is None else observables
    return operations, qml.tape.QuantumScript(operations, [qml.expval(o) for o in observables])


# --- the same circuit ------------------------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(circuits())
def test_states_are_those_of_default_qubit(circuit):
    assert_same_state(*circuit)


@settings(max_examples=80, deadline=None)
@given(circuits(), st.integers(0, 2**32), st.booleans())
def test_expectations_are_those_of_default_qubit(circuit, seed, diagonal):
    operations, wires = circuit
    rng, letters = np.random.default_rng(seed), list("IZ" if diagonal else "IXYZ")
    words = [qml.pauli.string_to_pauli_word("".join(rng.choice(letters, len(wires)))) for _ in range(3)]
    observables = [words[0], qml.dot(rng.normal(size=3), words)]
    if not diagonal:
        matrix = rng.normal(size=(2, 2)) + 1j * rng.normal(size=(2, 2))
        hermitian = qml.Hermitian(matrix + matrix.conj().T, wires[-1])
        observables += [hermitian, qml.Projector([0] * len(wires[:3]), wires[:3]), qml.H(0)]
        observables += [hermitian @ qml.H(0)] if len(wires) > 1 else []
    program = assert_same_expectations(operations, observables, wires)
    assert len(program.outputs) == len(observables)


@pytest.mark.parametrize("how", ["", "adjoint", "ctrl", "pow"])
@pytest.mark.parametrize("gate", ALL, ids=lambda gate: gate.__name__)
def test_each_gate_alone_and_wrapped(gate, how):
    rng = np.random.default_rng(1)
    size = SIZES.get(gate, 3 if gate in SPECIAL else 1)
    wires = [3, 1, 4, 0, 2]
    op = make_gate(gate, wires[:size], rng, batched=True)
    if how == "pow" and gate is qml.ops.Evolution:
        pytest.skip("default.qubit has no such power")
    assert supports(op)
    assert_same_state([*entangled(range(5)), wrapped(op, how, wires[size:], rng), qml.CNOT([0, 3])], range(5))


def test_controls_of_controls_and_of_products():
    inner = qml.prod(qml.RX(0.3, 0), qml.Rot(0.1, 0.2, 0.3, wires=1), qml.CNOT([0, 1]), qml.QubitUnitary(np.eye(2)[::-1], 1))
    gates = [
        qml.ctrl(qml.ctrl(qml.RX(0.4, 0), 1, control_values=[0]), [2, 3]),
        qml.ctrl(inner, 2),
        qml.adjoint(inner),
        qml.ctrl(qml.IsingXX(0.4, [0, 1]), [2, 3]),
        qml.ctrl(qml.IsingYY(np.array([0.1, 0.2, 0.3]), [0, 1]), [2, 3]),
        qml.ctrl(qml.QubitUnitary(unitary(np.random.default_rng(0), 2), [0, 1]), [2], control_values=[0]),
        qml.ctrl(qml.GlobalPhase(0.3), [0, 1]),
        qml.pow(qml.X(0), 0.5),
        qml.pow(qml.SWAP([0, 2]), 0.3),
        qml.pow(qml.QubitUnitary(unitary(np.random.default_rng(0), 1), 0), 20),
    ]
    for gate in gates:
        assert_same_state([*entangled(range(4)), gate], range(4))


@pytest.mark.parametrize("features", [np.arange(1, 5), np.arange(1, 13).reshape(3, 4)])
def test_prepared_amplitudes_are_the_callers(features):
    first = qml.AmplitudeEmbedding(features, [2, 0], normalize=True)
    program = assert_same_state([first, qml.RX(0.3, 0), qml.CNOT([0, 1]), qml.RY(np.array([0.1, 0.2, 0.3]), 1)], [0, 1, 2])
    assert program.product is None


@pytest.mark.parametrize("kind", [qml.BasisState, qml.BasisEmbedding])
def test_basis_states_are_flips(kind):
    first = kind(np.array([1, 0, 1]), wires=[2, 0, 1])
    program = assert_same_state([first, qml.RX(0.3, 0), qml.CNOT([2, 1]), qml.RY(0.1, 1)], [0, 1, 2])
    assert program.product is not None
    assert len(assert_same_state([first], [0, 1, 2]).layers) == 0


def test_wires_may_have_names_and_an_order():
    operations = [qml.RX(0.3, "b"), qml.CNOT(["b", "a"]), qml.RY(0.2, "a")]
    assert_same_state(operations, ["a", 7, "b"])
    assert_same_expectations(operations, [qml.Z("a") @ qml.X(7), qml.Y("b")], ["b", "a", 7])


def test_identity_and_empty_circuits():
    assert_same_state([], [0, 1])
    assert_same_expectations([qml.H(0)], [qml.Identity(0), 2 * qml.Identity(0) + qml.X(0)], [0])


# --- few layers ------------------------------------------------------------------------------------------------------------


def clash(a, b):
    return (bin(a[0] & b[1]).count("1") + bin(a[1] & b[0]).count("1")) % 2 > 0


@settings(max_examples=60, deadline=None)
@given(circuits())
def test_the_rotations_of_a_layer_commute(circuit):
    operations, wires = circuit
    for layer in compile_tape(qml.tape.QuantumScript(operations, [qml.state()]), wires).program.layers:
        qubits = [(item.x_mask, item.z_mask) for item in (*layer.runs, *layer.sample_rotations)]
        qubits += [qubit for block in layer.blocks for qubit in block.qubits]
        assert not any(clash(a, b) for i, a in enumerate(qubits) for b in qubits[:i])
        assert all(clash((x, 0), (0, z)) for x, z in qubits)
        assert all(s.angle.kind is not Kind.SAMPLE for s in layer.strings)
        assert all(s.angle.kind is Kind.SAMPLE for s in layer.sample_strings)
        assert all(r.angle.kind is not Kind.SAMPLE for run in layer.runs for r in run.rotations)


@settings(max_examples=60, deadline=None)
@given(circuits(), st.booleans())
def test_the_last_layer_has_no_runs(circuit, state):
    operations, wires = circuit
    tape = qml.tape.QuantumScript(operations, [qml.state() if state else qml.expval(qml.Z(0))])
    layers = compile_tape(tape, wires).program.layers
    assert not layers or not layers[-1].runs


def test_a_ring_of_cnots_is_no_layer():
    ring = [qml.CNOT([w, (w + 1) % 5]) for w in range(5)]
    assert assert_same_state([*ring, qml.SWAP([0, 3]), qml.X(2), *ring], range(5)).layers == ()


@pytest.mark.parametrize(("n", "n_layers"), [(3, 1), (4, 2), (5, 3)])
def test_strongly_entangling_layers_start_as_a_product(n, n_layers):
    operations, tape = strongly_entangling(n, n_layers)
    program = compile_tape(tape).program
    assert [len(layer.runs) for layer in program.layers] == [n] * (n_layers - 1) + [0] * (n_layers > 1)
    assert [len(rotations) for rotations in program.product] == [4] * n  # RX and Rot
    assert (program.n_shared, program.n_sample) == (3 * n * n_layers, n)
    assert_same_expectations(operations, [m.obs for m in tape.measurements], list(range(n)))


def test_entries_are_in_order_of_appearance():
    mixed = qml.Rot(np.array([0.1, 0.2]), 0.3, np.array([0.4, 0.5]), wires=0)
    compiled = compile_tape(qml.tape.QuantumScript([qml.RX(0.1, 0), mixed, qml.IsingZZ(0.3, [0, 1])], [qml.state()]))
    assert compiled.shared == ((0, 0), (1, 1), (2, 0))
    assert compiled.sample == ((1, 0), (1, 2))


def test_rotations_that_no_output_sees_are_dropped():
    turns = [qml.Rot(0.1, 0.2, 0.3, wires=w) for w in range(4)]
    circuit = [*turns, qml.CNOT([0, 1]), qml.CNOT([2, 3]), *turns]
    program = assert_same_expectations(circuit, [qml.Z(1)], range(4))
    assert [[[r.axis for r in run.rotations] for run in layer.runs] for layer in program.layers] == [[[Y]], []]
    both = assert_same_expectations(circuit, [qml.X(1) @ qml.Z(3)], range(4))
    assert len(both.layers[0].runs) == 2
    assert len(assert_same_state(circuit, range(4)).layers[0].runs) == 4


def test_diagonal_gates_become_phases():
    gates = [
        qml.CZ([0, 1]),
        qml.CCZ([0, 1, 2]),
        qml.T(1),
        qml.CRZ(0.1, [2, 0]),
        qml.MultiRZ(0.2, [0, 1, 2]),
        qml.PCPhase(1, 3, [2, 1]),
    ]
    program = assert_same_state([*[qml.H(w) for w in range(3)], *gates], range(3))
    assert len(program.layers) == 1
    assert not program.layers[0].runs
    assert len({s.mask for s in program.layers[0].strings}) <= 7


def test_commuting_pairs_of_x_share_a_layer():
    chain = [qml.IsingXX(0.1 * w, [w, w + 1]) for w in range(4)]
    program = assert_same_state([*[qml.RY(0.3, w) for w in range(5)], *chain], range(5))
    assert [len(layer.runs) for layer in program.layers] == [4, 0]


def test_rotations_per_sample_need_no_matrix():
    x = np.array([0.1, 0.2, 0.3])
    embedding = [qml.RX(x, w) for w in range(3)]
    program = assert_same_state([*entangled(range(3)), *embedding], range(3))
    assert [len(layer.sample_rotations) for layer in program.layers] == [3, 0]
    assert not any(layer.runs for layer in program.layers)


# --- keys ------------------------------------------------------------------------------------------------------------------


def test_equal_structures_share_a_program_and_others_do_not():
    def tape(gate, observable):
        return qml.tape.QuantumScript([gate, qml.CNOT([0, 1])], [qml.expval(observable)])

    plain = compile_tape(tape(qml.RX(0.1, 0), qml.Z(0)))
    assert compile_tape(tape(qml.RX(0.7, 0), qml.Z(0))) is plain
    others = [
        tape(qml.RX(np.array([0.1, 0.2]), 0), qml.Z(0)),
        tape(qml.RX(0.1, 1), qml.Z(0)),
        tape(qml.RY(0.1, 0), qml.Z(0)),
        tape(qml.RX(0.1, 0), qml.Z(1)),
        tape(qml.RX(0.1, 0), qml.X(0)),
        tape(qml.RX(0.1, 0), 0.5 * qml.Z(0)),
        tape(qml.RX(0.1, 0), 0.7 * qml.Z(0)),
        tape(qml.RX(0.1, 0), qml.Hermitian(np.eye(2), 0)),
        tape(qml.RX(0.1, 0), qml.Hermitian(np.diag([1.0, 2.0]), 0)),
        tape(qml.adjoint(qml.RX(0.1, 0)), qml.Z(0)),
        tape(qml.pow(qml.RX(0.1, 0), 2), qml.Z(0)),
        tape(qml.pow(qml.RX(0.1, 0), 3), qml.Z(0)),
        tape(qml.PauliRot(0.1, "XY", [0, 1]), qml.Z(0)),
        tape(qml.PauliRot(0.1, "YX", [0, 1]), qml.Z(0)),
        tape(qml.ctrl(qml.RX(0.1, 0), 1, control_values=[0]), qml.Z(0)),
        tape(qml.ctrl(qml.RX(0.1, 0), 1), qml.Z(0)),
        tape(qml.QubitUnitary(np.eye(2), 0), qml.Z(0)),
        tape(qml.QubitUnitary(np.eye(2)[::-1], 0), qml.Z(0)),
        tape(qml.BasisState(np.array([0]), 0), qml.Z(0)),
        tape(qml.BasisState(np.array([1]), 0), qml.Z(0)),
        tape(qml.PCPhase(0.1, 1, [0]), qml.Z(0)),
        tape(qml.PCPhase(0.1, 2, [0]), qml.Z(0)),
        tape(qml.evolve(0.1 * qml.X(0), 0.1), qml.Z(0)),
        tape(qml.evolve(0.2 * qml.X(0), 0.1), qml.Z(0)),
    ]
    keys = [structure_key(other) for other in others]
    assert len({structure_key(tape(qml.RX(0.1, 0), qml.Z(0))), *keys}) == len(others) + 1
    assert structure_key(others[0], [0, 1]) != structure_key(others[0], [1, 0])


def test_the_caches_are_bounded(monkeypatch):
    monkeypatch.setattr(tapes, "CACHE_SIZE", 4)
    cache = tapes._Cache()
    for i in range(10):
        assert cache.get(i, lambda i=i: i) == i
        assert cache.get(0, lambda: 0) == 0  # used again and again, so it stays
    assert list(cache.found) == [7, 8, 9, 0]


def test_symbolic_tensors_of_unknown_batch_size_compile():
    tf = import_tensorflow()
    seen = []

    @tf.function(input_signature=[tf.TensorSpec((None, 2)), tf.TensorSpec((1, 2, 3))])
    def trace(x, weights):
        operations = [qml.RX(x[:, w], w) for w in range(2)]
        operations += [qml.Rot(*tf.unstack(weights[0, w]), wires=w) for w in range(2)]
        seen.append(compile_tape(qml.tape.QuantumScript([*operations, qml.CNOT([0, 1])], [qml.expval(qml.Z(0))])))
        return x

    trace.get_concrete_function()
    x = np.zeros((5, 2))
    numeric = [qml.RX(x[:, w], w) for w in range(2)] + [qml.Rot(0.1, 0.2, 0.3, wires=w) for w in range(2)]
    assert compile_tape(qml.tape.QuantumScript([*numeric, qml.CNOT([0, 1])], [qml.expval(qml.Z(0))])) is seen[0]


def test_variables_and_traced_numbers_compile():
    tf = import_tensorflow()
    eager = qml.tape.QuantumScript([qml.RX(tf.Variable(0.3), 0), qml.RY(tf.constant([0.1, 0.2]), 0)], [qml.state()])
    assert (compile_tape(eager).shared, compile_tape(eager).sample) == (((0, 0),), ((1, 0),))

    def traced(x):
        tape = qml.tape.QuantumScript([qml.RX(x[0], 0), qml.RY(x, 0)], [qml.state()])
        assert (compile_tape(tape).shared, compile_tape(tape).sample) == (((0, 0),), ((1, 0),))
        return x[0]

    assert qml.grad(traced)(qml.numpy.array([0.1, 0.2], requires_grad=True))[0] == 1


# --- what it cannot --------------------------------------------------------------------------------------------------------

UNSUPPORTED = [
    (qml.AmplitudeDamping(0.1, 0), "cannot run AmplitudeDamping: it is not a gate that the engine knows"),
    (qml.StronglyEntanglingLayers(np.zeros((1, 2, 3)), [0, 1]), "cannot run StronglyEntanglingLayers"),
    (qml.QubitUnitary(np.eye(512)[::-1], range(9)), "matrix on 9 wires, only up to 8"),
    (qml.QubitUnitary(np.ones((2, 2)), 0), "QubitUnitary: its matrix is not unitary"),
    (qml.QubitUnitary(np.stack([np.eye(2)] * 3), 0), "broadcast over a batch"),
    (qml.DiagonalQubitUnitary(np.ones(512), range(9)), "matrix on 9 wires, only up to 8"),
    (qml.MultiControlledX(range(8)), "phase that 8 wires control, only up to 6"),
    (qml.pow(qml.RX(0.1, 0), 0.5), "only whole powers up to 8"),
    (qml.pow(qml.RX(0.1, 0), 9), "only whole powers up to 8"),
    (qml.ctrl(qml.QubitUnitary(unitary(np.random.default_rng(0), 7), range(7)), [7, 8]), "matrix on 9 wires"),
    (qml.CosineWindow([0, 1]), "cannot run CosineWindow"),
    (qml.SpecialUnitary(np.array([0.1, 0.2, 0.3]), 0), "cannot run SpecialUnitary"),
]


@pytest.mark.parametrize(("op", "sentence"), UNSUPPORTED, ids=lambda value: getattr(value, "name", ""))
def test_what_it_cannot_run_is_one_sentence(op, sentence):
    assert not supports(op)
    with pytest.raises(UnsupportedCircuit, match=sentence) as found:
        compile_tape(qml.tape.QuantumScript([op], [qml.state()]))
    assert isinstance(found.value, HybridbenchError)
    assert "default.qubit" in str(found.value)
    assert str(found.value).endswith(".")


def test_states_are_prepared_at_the_start_only():
    for first in (qml.StatePrep(np.array([0, 1]), 0), qml.BasisState(np.array([1]), 0)):
        assert supports(first)
        with pytest.raises(UnsupportedCircuit, match="only at the start"):
            compile_tape(qml.tape.QuantumScript([qml.H(0), first], [qml.state()]))


def test_constants_must_be_plain_arrays():
    tf = import_tensorflow()
    for op in (qml.QubitUnitary(tf.eye(2, dtype=tf.complex128), 0), qml.BasisState(tf.constant([1]), 0)):
        with pytest.raises(UnsupportedCircuit, match="NumPy array"):
            compile_tape(qml.tape.QuantumScript([op], [qml.state()]))


def test_measurements_in_the_middle_are_named():
    measured = qml.measurements.MidMeasureMP(qml.wires.Wires(0))
    assert not supports(measured)
    with pytest.raises(UnsupportedCircuit, match="cannot run MidMeasureMP"):
        compile_tape(qml.tape.QuantumScript([measured], [qml.state()]))


def test_a_wire_must_be_in_the_order():
    with pytest.raises(UnsupportedCircuit, match="uses wire 'q', and the wires are"):
        compile_tape(qml.tape.QuantumScript([qml.H("q")], [qml.state()]), wires=[0])


@pytest.mark.parametrize(
    "measurement",
    [
        qml.probs(wires=0),
        qml.var(qml.Z(0)),
        qml.expval(qml.Hermitian(np.eye(32), range(5))),
        qml.sample(wires=0),
    ],
    ids=lambda m: type(m).__name__,
)
def test_other_measurements_leave_the_state_to_the_caller(measurement):
    tape = qml.tape.QuantumScript([qml.RZ(0.1, 0)], [qml.expval(qml.Z(0)), measurement])
    assert compile_tape(tape).program.outputs == ()


def test_trained_coefficients_leave_the_state_to_the_caller():
    tf = import_tensorflow()
    observable = qml.Hamiltonian(tf.Variable([0.5, 0.7]), [qml.Z(0), qml.X(0)])
    assert compile_tape(qml.tape.QuantumScript([qml.H(0)], [qml.expval(observable)])).program.outputs == ()
