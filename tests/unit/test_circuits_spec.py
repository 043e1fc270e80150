"""Circuits: names, shapes, gates against PennyLane's own templates, the separable twin, bad input."""

import numpy as np
import pennylane as qml
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridbench.circuits.ansatze import ANSAETZE, Ansatz
from hybridbench.circuits.embeddings import EMBEDDINGS
from hybridbench.circuits.properties import random_points, states
from hybridbench.circuits.spec import CircuitSpec
from hybridbench.errors import ConfigurationError

specs = st.builds(
    CircuitSpec,
    st.sampled_from(sorted(EMBEDDINGS)),
    st.sampled_from(sorted(ANSAETZE)),
    st.integers(1, 4),
    st.integers(1, 3),
)


def tape(spec: CircuitSpec, seed: int = 0):
    inputs, weights = random_points(spec, 1, np.random.default_rng(seed))
    with qml.tape.QuantumTape() as recorded:
        spec.apply(None if inputs is None else inputs[0], weights[0])
    return recorded, weights[0]


@pytest.mark.parametrize(
    ("ansatz", "template"),
    [("basic_entangler", qml.BasicEntanglerLayers), ("strongly_entangling", qml.StronglyEntanglingLayers)],
)
@pytest.mark.parametrize("n_qubits", [1, 2, 3, 5])
def test_the_gates_are_those_of_pennylanes_template(ansatz, template, n_qubits):
    spec = CircuitSpec("none", ansatz, n_qubits, 3)
    ours, weights = tape(spec)
    assert spec.weight_shape == template.shape(n_layers=3, n_wires=n_qubits)
    theirs = template(weights, wires=range(n_qubits)).decomposition()
    for mine, other in zip(ours.operations, theirs, strict=True):
        qml.assert_equal(mine, other)


def test_the_original_is_ry_and_a_cnot_chain():
    recorded, weights = tape(CircuitSpec("none", "original", 3, 1))
    expected = [*(qml.RY(weights[0, i], i) for i in range(3)), qml.CNOT((0, 1)), qml.CNOT((1, 2))]
    for mine, other in zip(recorded.operations, expected, strict=True):
        qml.assert_equal(mine, other)


def test_hardware_efficient_rotates_and_chains_cz():
    recorded, _ = tape(CircuitSpec("none", "hardware_efficient", 3, 1))
    names = [(op.name, tuple(op.wires)) for op in recorded.operations]
    rotations = [(gate, (i,)) for i in range(3) for gate in ("RY", "RZ")]
    assert names == [*rotations, ("CZ", (0, 1)), ("CZ", (1, 2))]


@settings(max_examples=60, deadline=None)
@given(specs)
def test_counts_agree_with_the_gates(spec):
    recorded, weights = tape(spec)
    angles = sum(op.num_params for op in recorded.operations if op.name != "AmplitudeEmbedding")
    data = {"none": 0, "amplitude": 0, "angle": 1, "reuploading": spec.n_layers}[spec.embedding] * spec.n_qubits
    assert angles - data == spec.n_parameters
    assert spec.n_parameters == weights.size
    assert spec.weight_shapes == {"weights": weights.shape}


@settings(max_examples=40, deadline=None)
@given(specs)
def test_a_batch_gives_the_states_of_its_rows(spec):
    inputs, weights = random_points(spec, 3, np.random.default_rng(1))
    batch = states(spec, inputs, weights)
    assert batch.shape == (3, 2**spec.n_qubits)
    for i in range(3):
        alone = states(spec, None if inputs is None else inputs[i : i + 1], weights[i : i + 1])
        np.testing.assert_allclose(batch[i], alone[0], atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(specs)
def test_the_twin_has_the_same_one_qubit_gates_and_no_others(spec):
    ours, _ = tape(spec)
    twin, _ = tape(spec.separable_twin())
    kept = [op for op in ours.operations if op.name not in {"CNOT", "CZ"}]
    for mine, other in zip(kept, twin.operations, strict=True):
        qml.assert_equal(mine, other)
    assert spec.separable_twin().weight_shape == spec.weight_shape


def test_the_twin_of_strongly_entangling_is_separable():
    twin, _ = tape(CircuitSpec("angle", "strongly_entangling", 3, 2).separable_twin())
    separable, _ = tape(CircuitSpec("angle", "separable", 3, 2))
    for mine, other in zip(twin.operations, separable.operations, strict=True):
        qml.assert_equal(mine, other)


def test_angle_is_pennylanes_angle_embedding():
    x = np.array([0.1, -0.4, 1.2])
    recorded, _ = tape(CircuitSpec("angle", "original", 3, 1))
    with qml.tape.QuantumTape() as ours:
        EMBEDDINGS["angle"].apply(x, range(3))
    assert [op.name for op in recorded.operations[:3]] == ["RX"] * 3
    for mine, other in zip(ours.operations, qml.AngleEmbedding(x, wires=range(3)).decomposition(), strict=True):
        qml.assert_equal(mine, other)


def test_reuploading_repeats_the_data_before_every_layer():
    once, _ = tape(CircuitSpec("angle", "original", 2, 3))
    again, _ = tape(CircuitSpec("reuploading", "original", 2, 3))
    assert [op.name for op in once.operations].count("RX") == 2
    assert [op.name for op in again.operations] == ["RX", "RX", "RY", "RY", "CNOT"] * 3


def test_amplitudes_are_padded_and_normalised():
    spec = CircuitSpec("amplitude", "original", 2, 1)
    state = states(spec, np.array([[3.0, 0.0, 4.0]]), np.zeros((1, 1, 2)))
    np.testing.assert_allclose(state[0], [0.6, 0.0, 0.0, 0.8], atol=1e-12)  # CNOT(0,1) swaps |10> and |11>


def test_a_zero_sample_has_no_amplitudes():
    spec = CircuitSpec("amplitude", "original", 2, 1)
    with pytest.raises(ConfigurationError, match=r"all 0.*'angle'"):
        states(spec, np.array([[1.0, 2.0], [0.0, 0.0]]), np.zeros((2, 1, 2)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("angel", "original", 2, 1), "Unknown embedding 'angel'. Did you mean 'angle'"),
        (("angle", "strong_entangling", 2, 1), "Did you mean 'strongly_entangling'"),
        (("angle", "original", 0, 1), "n_qubits is 0"),
        (("angle", "original", 2.0, 1), "n_qubits is 2.0"),
        (("angle", "original", 2, -1), "n_layers is -1"),
        (("angle", "original", 2, True), "n_layers is True"),
    ],
)
def test_bad_specs_are_refused_by_name(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        CircuitSpec(*arguments)


@pytest.mark.parametrize(
    ("embedding", "fits", "too_many"), [("angle", [3], [2, 4]), ("amplitude", [1, 5, 8], [0, 9]), ("none", [0], [1])]
)
def test_features_must_fit(embedding, fits, too_many):
    spec = CircuitSpec(embedding, "original", 3, 1)
    for n in fits:
        spec.check_features(n)
    for n in too_many:
        with pytest.raises(ConfigurationError, match=f"{n} features do not fit"):
            spec.check_features(n)


def test_apply_refuses_features_that_do_not_fit():
    with pytest.raises(ConfigurationError, match="exactly 3"):
        CircuitSpec("angle", "original", 3, 1).apply(np.ones((5, 2)), np.ones((1, 3)))


def test_a_new_ansatz_is_one_entry(monkeypatch):
    pairs = Ansatz([qml.RX, qml.RZ], lambda n, layer: [(i, i + 1) for i in range(0, n - 1, 2)], "pairs", qml.SWAP)
    monkeypatch.setitem(ANSAETZE, "pairs", pairs)
    spec = CircuitSpec("angle", "pairs", 4, 2)
    recorded, _ = tape(spec)
    assert spec.weight_shape == (2, 4, 2)
    assert [op.name for op in recorded.operations].count("SWAP") == 4
    assert "SWAP" not in [op.name for op in tape(spec.separable_twin())[0].operations]
