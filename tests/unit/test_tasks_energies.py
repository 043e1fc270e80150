"""Energies: the optima and basins that are known in closed form are those of the numbers themselves."""

from functools import reduce

import numpy as np
import pytest

from hybridbench.tasks.energies import (
    BASIN_WEIGHT,
    ENERGIES,
    basin_edge,
    basin_share,
    ising_ground_energy,
)

PAULI = {"I": np.eye(2), "X": np.array([[0, 1], [1, 0]]), "Z": np.diag([1, -1])}


def operator(n_qubits, letters):
    """Matrix of Pauli letters by wire, {wire: letter}, wire 0 most significant."""
    return reduce(np.kron, [PAULI[letters.get(wire, "I")] for wire in range(n_qubits)])


def chain(n_qubits, field):
    bonds = sum(operator(n_qubits, {wire: "Z", wire + 1: "Z"}) for wire in range(n_qubits - 1))
    return -bonds - field * sum(operator(n_qubits, {wire: "X"}) for wire in range(n_qubits))


def matrix(energy):
    return sum(c * operator(energy.n_qubits, dict(enumerate(word))) for c, word in energy.terms)


def curve(t, weight=BASIN_WEIGHT):
    return -(np.cos(t) + weight * np.cos(3 * t))


@pytest.mark.parametrize("field", [0.0, 0.3, 1.0, 2.5])
@pytest.mark.parametrize("n_qubits", [2, 3, 5, 7])
def test_the_ising_chains_ground_energy_is_that_of_exact_diagonalisation(n_qubits, field):
    exact = np.linalg.eigvalsh(chain(n_qubits, field))[0]
    assert ising_ground_energy(n_qubits, field) == pytest.approx(exact, abs=1e-10)


def test_the_ising_problem_is_the_open_chain_at_field_one():
    energy = ENERGIES["tfim"]
    np.testing.assert_array_equal(matrix(energy), chain(8, 1.0))
    assert energy.lowest == pytest.approx(np.linalg.eigvalsh(matrix(energy))[0], abs=1e-10)
    assert len(energy.terms) == 7 + 8


def test_the_basin_problems_hamiltonian_gives_the_two_frequency_curve_of_each_angle():
    """In the state that RY(t), RY(3t) prepare on each pair of wires."""
    energy = ENERGIES["basins"]
    angles = np.random.default_rng(0).uniform(-np.pi, np.pi, 4)
    wires = [np.array([np.cos(turn / 2), np.sin(turn / 2)]) for t in angles for turn in (t, 3 * t)]
    state = reduce(np.kron, wires)
    assert state @ matrix(energy) @ state == pytest.approx(curve(angles).mean(), abs=1e-12)
    assert energy.lowest == pytest.approx(curve(np.linspace(-np.pi, np.pi, 10_001)).min(), abs=1e-12)


def test_the_original_problem_is_one_correlation():
    energy = ENERGIES["original"]
    np.testing.assert_array_equal(matrix(energy), -operator(8, {0: "Z", 1: "Z"}))
    assert energy.lowest == np.linalg.eigvalsh(matrix(energy))[0]


@pytest.mark.parametrize("weight", [0.4, BASIN_WEIGHT, 1.0, 3.0])
def test_the_basins_edge_is_the_top_of_the_barrier(weight):
    t = np.linspace(0, np.pi, 200_001)
    values = curve(t, weight)
    inner = (values[1:-1] > values[:-2]) & (values[1:-1] > values[2:])
    (barrier,) = t[1:-1][inner]
    assert basin_edge(weight) == pytest.approx(barrier, abs=2e-5)
    inner = (values[1:-1] < values[:-2]) & (values[1:-1] < values[2:])
    (poor,) = t[1:-1][inner]
    assert np.pi - basin_edge(weight) == pytest.approx(poor, abs=2e-5)
    assert curve(poor, weight) > curve(0, weight)


def test_the_basins_share_is_that_of_angles_from_which_descent_finds_the_optimum():
    t = np.linspace(-np.pi, np.pi, 4001)
    for _ in range(3000):
        t = t - 0.02 * (np.sin(t) + 3 * BASIN_WEIGHT * np.sin(3 * t))
    assert basin_share() == pytest.approx(np.mean(np.abs(t) < 0.1), abs=1e-3)
    assert basin_share() == pytest.approx(0.407, abs=5e-4)
    assert np.degrees(basin_edge()) == pytest.approx(73.2, abs=0.05)


def test_words_have_a_letter_for_each_wire():
    for name, energy in ENERGIES.items():
        assert energy.name == name
        assert {len(word) for _, word in energy.terms} == {energy.n_qubits}
