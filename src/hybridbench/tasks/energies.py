"""Energy problems: objectives of a circuit alone, without data, whose optimum is known.

Each is a Hamiltonian as plain numbers; which circuit is trained on it stands in `hybridbench.training.problems`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

#: Two-frequency energy of problem "basins": -(cos t + BASIN_WEIGHT cos 3t).
BASIN_WEIGHT = 0.5


@dataclass(frozen=True)
class Energy:
    """One energy to be minimised.

    Attributes:
        name: how it is called in parameters and records.
        n_qubits: wires.
        n_sets: parameter sets that are trained side by side; the energy is their mean.
        terms: the Hamiltonian as (coefficient, Pauli letters by wire): (-1.0, "ZZIIIIII").
        lowest: the least energy that a circuit can reach.
        description: one line with the source.
    """

    name: str
    n_qubits: int
    n_sets: int
    terms: tuple[tuple[float, str], ...]
    lowest: float
    description: str


def _word(n_qubits: int, letter: str, *wires: int) -> str:
    return "".join(letter if wire in wires else "I" for wire in range(n_qubits))


def ising_ground_energy(n_qubits: int, field: float = 1.0) -> float:
    """Ground-state energy of the open transverse-field Ising chain H = -sum Z_i Z_{i+1} - field * sum X_i.

    The chain is free fermions: with the bidiagonal matrix M (`field` on the diagonal, 1 below it) the energy is minus the
    sum of M's singular values (Lieb, Schultz, Mattis, Annals of Physics 16, 407 (1961); Pfeuty, Annals of Physics 57, 79
    (1970)).
    """
    matrix = field * np.eye(n_qubits) + np.eye(n_qubits, k=-1)
    return -float(np.linalg.svd(matrix, compute_uv=False).sum())


def basin_edge(weight: float = BASIN_WEIGHT) -> float:
    """Angle in radians at which the global basin of -(cos t + weight cos 3t) ends on either side of t = 0.

    The derivative is sin t (1 + 3 weight (3 - 4 sin^2 t)); besides 0 and pi it vanishes where sin^2 t = (1 + 9 weight) / (12
    weight). The first such angle is the top of the barrier, pi minus it the bottom of the poor basin. The weight has to be
    above 1/3: up to there no other basin exists.
    """
    return math.asin(math.sqrt((1 + 9 * weight) / (12 * weight)))


def basin_share(weight: float = BASIN_WEIGHT) -> float:
    """Share of uniformly drawn angles that lie in the global basin: where following the gradient reaches the optimum."""
    return basin_edge(weight) / math.pi


def _ising(n_qubits: int = 8) -> Energy:
    bonds = [(-1.0, _word(n_qubits, "Z", wire, wire + 1)) for wire in range(n_qubits - 1)]
    fields = [(-1.0, _word(n_qubits, "X", wire)) for wire in range(n_qubits)]
    return Energy(
        "tfim",
        n_qubits,
        1,
        tuple(bonds + fields),
        ising_ground_energy(n_qubits),
        "Ground state of the transverse-field Ising chain at its critical field (Pfeuty 1970), 8 spins, open ends.",
    )


def _basins(n_qubits: int = 8, n_sets: int = 25) -> Energy:
    terms = [
        (-weight / (n_qubits // 2), _word(n_qubits, "Z", 2 * pair + which))
        for pair in range(n_qubits // 2)
        for which, weight in enumerate((1.0, BASIN_WEIGHT))
    ]
    return Energy(
        "basins",
        n_qubits,
        n_sets,
        tuple(terms),
        -(1 + BASIN_WEIGHT),
        "Angles that turn one wire by t and its neighbour by 3t: -(cos t + cos(3t)/2), one good and two poor basins each.",
    )


def _original(n_qubits: int = 8, n_sets: int = 100) -> Energy:
    return Energy(
        "original",
        n_qubits,
        n_sets,
        ((-1.0, _word(n_qubits, "Z", 0, 1)),),
        -1.0,
        "The original study's energy <Z0 Z1>, maximised: the cosine of one of its eight angles (see notebook 02).",
    )


ENERGIES: dict[str, Energy] = {energy.name: energy for energy in (_ising(), _basins(), _original())}
