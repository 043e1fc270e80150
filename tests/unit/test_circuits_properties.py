"""Properties of circuits against values that are known in closed form or from the literature."""

import numpy as np
import pennylane as qml
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridbench.circuits import properties as p
from hybridbench.circuits.ansatze import ANSAETZE
from hybridbench.circuits.spec import CircuitSpec
from hybridbench.errors import ConfigurationError
from hybridbench.measurement.records import RecordStore


def product_states(n, n_qubits, seed=0):
    spec = CircuitSpec("none", "separable", n_qubits, 1)
    return p.states(spec, *p.random_points(spec, n, np.random.default_rng(seed)))


def haar_states(n, dimension, seed=0):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, dimension)) + 1j * rng.normal(size=(n, dimension))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("dimension", [2, 16, 1024])
def test_an_idle_circuit_has_the_largest_divergence(dimension):
    assert p.divergence_from_haar(np.ones(500), dimension) == pytest.approx((dimension - 1) * np.log(75))


@pytest.mark.parametrize("dimension", [2, 16])
def test_haar_states_have_a_divergence_near_zero(dimension):
    values = p.fidelities(haar_states(5000, dimension, 1), haar_states(5000, dimension, 2))
    assert 0 <= p.divergence_from_haar(values, dimension) < 75 / 5000


def test_haar_probabilities_sum_to_one():
    for dimension in (2, 4, 256):
        assert np.exp(p.haar_log_probabilities(np.linspace(0, 1, 76), dimension)).sum() == pytest.approx(1)


def test_sims_single_qubit_circuits():
    # Sim, Johnson, Aspuru-Guzik 2019, figure 1: H RZ has 0.22, H RZ RX has 0.02 (5000 samples, 75 bins)
    def reached(gates, n=5000, seed=0):
        angles = np.random.default_rng(seed).uniform(0, 2 * np.pi, (2, n, 2))

        @qml.qnode(qml.device("default.qubit", wires=1))
        def state(a):
            qml.Hadamard(0)
            for i, gate in enumerate(gates):
                gate(a[:, i], 0)
            return qml.state()

        return p.divergence_from_haar(p.fidelities(state(angles[0]), state(angles[1])), 2)

    assert reached([qml.RZ]) == pytest.approx(0.22, abs=0.03)
    assert reached([qml.RZ, qml.RX]) == pytest.approx(0.02, abs=0.01)


def test_more_layers_are_more_expressive():
    one, four = (p.expressibility(CircuitSpec("angle", "hardware_efficient", 3, n), 1500) for n in (1, 4))
    assert four < one / 2


@pytest.mark.parametrize("n_qubits", [2, 3, 5])
def test_meyer_wallach_of_ghz_is_one(n_qubits):
    ghz = np.zeros((1, 2**n_qubits))
    ghz[0, [0, -1]] = np.sqrt(0.5)
    assert p.meyer_wallach(ghz)[0] == pytest.approx(1, abs=1e-12)


def test_meyer_wallach_of_w_is_eight_ninths():
    w = np.zeros((1, 8))
    w[0, [1, 2, 4]] = np.sqrt(1 / 3)
    assert p.meyer_wallach(w)[0] == pytest.approx(8 / 9)


def test_meyer_wallach_of_products_is_zero():
    np.testing.assert_allclose(p.meyer_wallach(product_states(50, 4)), 0, atol=1e-12)


def test_meyer_wallach_of_haar_states_has_the_known_mean():
    # (2**n - 2) / (2**n + 1): Sim, Johnson, Aspuru-Guzik 2019
    assert p.meyer_wallach(haar_states(4000, 16)).mean() == pytest.approx(14 / 17, abs=0.01)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(0, 2**31))
def test_meyer_wallach_stays_between_zero_and_one(n_qubits, seed):
    q = p.meyer_wallach(haar_states(20, 2**n_qubits, seed))
    assert (q > -1e-12).all()
    assert (q < 1 + 1e-12).all()


@pytest.mark.parametrize("ansatz", sorted(ANSAETZE))
def test_twins_do_not_entangle_and_the_others_do(ansatz):
    spec = CircuitSpec("reuploading", ansatz, 3, 2)
    assert abs(p.entangling_capability(spec.separable_twin(), 100)) < 1e-12
    if ansatz != "separable":
        assert p.entangling_capability(spec, 100) > 0.3


def test_the_original_has_one_live_parameter_of_eight():
    config = p.original_config(n_pairs=10, n_points=10, seed=0)
    found = p.gradient_liveness(config.spec, observables=config.observables)
    assert (found.n_live, found.share) == (1, 0.125)
    assert found.live[0].tolist() == [False, True, *[False] * 6]


def test_the_observable_kills_the_original_not_its_gates():
    assert p.gradient_liveness(CircuitSpec("none", "original", 8, 1)).share == 1.0


def test_rotations_about_the_measured_axis_at_the_end_are_dead():
    # Rot = RZ RY RZ: the last RZ commutes with the CNOT ring's image of every Z, in the last layer only.
    live = p.gradient_liveness(CircuitSpec("angle", "strongly_entangling", 3, 2)).live
    assert not live[1, :, 2].any()
    assert live[0].all()
    assert live[1, :, :2].all()


def test_liveness_sees_a_parameter_that_is_alive_at_one_point_only(monkeypatch):
    spec = CircuitSpec("none", "separable", 1, 1)
    points = np.zeros((2, 1, 1, 3))
    points[1, 0, 0, 1] = 0.3  # RY at 0 has gradient 0, at 0.3 it has not
    monkeypatch.setattr(p, "random_points", lambda *_: (None, points))
    assert p.gradient_liveness(spec).live[0, 0].tolist() == [False, True, False]


def test_the_observable_pulled_back_is_z_on_the_second_wire():
    steps = p.heisenberg_steps(8)
    assert [name for name, _ in steps] == ["measured", *(f"CNOT({i},{i + 1})" for i in reversed(range(7)))]
    assert steps[-1][1] == qml.pauli.pauli_sentence(qml.Z(1))
    assert p.cosine_factors(steps[-1][1]) == [1]


@pytest.mark.parametrize("wire", range(4))
def test_z_on_each_wire_of_the_chain_is_a_product_of_cosines(wire):
    last = p.heisenberg_steps(4, qml.Z(wire))[-1][1]
    assert p.cosine_factors(last) == list(range(wire + 1))


@settings(max_examples=30, deadline=None)
@given(st.text("IXYZ", min_size=3, max_size=3), st.permutations([0, 1, 2]), st.sampled_from([qml.CNOT, qml.CZ]))
def test_conjugation_is_that_of_the_matrices(letters, wires, gate):
    word = qml.pauli.PauliWord({i: c for i, c in enumerate(letters) if c != "I"})
    entangler = gate(wires[:2])
    image = p.conjugate(qml.pauli.PauliSentence({word: 1.0}), entangler)
    u = qml.matrix(entangler, wire_order=range(3))
    np.testing.assert_allclose(image.to_mat(range(3)), u.conj().T @ word.to_mat(range(3)) @ u, atol=1e-12)


def test_conjugation_and_cosines_refuse_what_they_cannot():
    with pytest.raises(ConfigurationError, match="not its own inverse"):
        p.conjugate(qml.pauli.pauli_sentence(qml.Z(0)), qml.S(0))
    with pytest.raises(ConfigurationError, match="not a product of Z"):
        p.cosine_factors(qml.pauli.pauli_sentence(qml.X(0)))


def test_size_counts_what_is_drawn():
    assert p.size(CircuitSpec("none", "original", 8, 1)) == p.Size(8, 15, 7, 8)
    assert p.size(CircuitSpec("amplitude", "hardware_efficient", 2, 1)) == p.Size(4, 6, 1, 4)


def test_every_record_column_is_documented_and_a_record_is_written_once(tmp_path):
    store = RecordStore("circuits", tmp_path)
    configs = [p.circuit_config("angle", "original", 2, 1, 50, 20, 0), p.original_config(50, 20, 0)]
    for config in store.missing(configs):
        store.write(config, [p.examine(config)])
    assert store.missing(configs) == []
    table = store.read(configs).set_index("circuit")
    assert list(table.index) == ["angle/original", "original"]
    assert table.loc["original", "n_live"] == 1
    assert table.loc["angle/original", "live_share"] == 1.0


def test_the_closed_form_holds_on_both_simulators(tmp_path):
    rows = p.compare_with_closed_form(config := p.ClosedFormConfig(8, 20, 0))
    assert [row["method"] for row in rows] == ["default.qubit/backprop", "lightning.qubit/adjoint"]
    assert all(row["max_abs_difference"] < 1e-12 for row in rows)
    RecordStore("gradients", tmp_path).write(config, rows)


def test_results_repeat_with_the_seed_and_change_with_it():
    spec = CircuitSpec("angle", "original", 2, 1)
    assert p.expressibility(spec, 200, 1) == p.expressibility(spec, 200, 1)
    assert p.expressibility(spec, 200, 1) != p.expressibility(spec, 200, 2)
