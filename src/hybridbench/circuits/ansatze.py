"""The trainable part of a circuit: the registry of ansätze.

An ansatz is a layer of one-qubit rotations and a layer of entangling gates, repeated. A new one is an entry of `ANSAETZE`;
its separable twin comes for free, because the two halves are kept apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pennylane as qml


@dataclass(frozen=True)
class Ansatz:
    """One layered ansatz.

    Attributes:
        rotations: one-qubit gates of a wire, in order; each takes one parameter.
        entanglers: pairs (control, target) of a layer, from the number of qubits and the layer's index.
        two_qubit_gate: the entangling gate.
        description: one line for tables and help.
    """

    rotations: Sequence[type[qml.operation.Operator]]
    entanglers: Callable[[int, int], list[tuple[int, int]]]
    description: str
    two_qubit_gate: type[qml.operation.Operator] = qml.CNOT

    def weight_shape(self, n_qubits: int, n_layers: int) -> tuple[int, ...]:
        """(n_layers, n_qubits) for one parameter a wire, (n_layers, n_qubits, k) for k of them."""
        k = sum(gate.num_params for gate in self.rotations)
        return (n_layers, n_qubits) if k == 1 else (n_layers, n_qubits, k)

    def apply_layer(self, weights: Any, layer: int, n_qubits: int, entangled: bool = True) -> None:
        """Queue one layer.

        Args:
            weights: all layers' weights, shape (..., *weight_shape); leading axes are a batch of parameter sets.
            layer: index of the layer.
            n_qubits: number of wires.
            entangled: False leaves the two-qubit gates out (the separable twin).
        """
        single = len(self.weight_shape(n_qubits, 1)) == 2
        for wire in range(n_qubits):
            taken = 0
            for gate in self.rotations:
                n = gate.num_params
                angles = [weights[..., layer, wire]] if single else [weights[..., layer, wire, taken + j] for j in range(n)]
                gate(*angles, wires=wire)
                taken += n
        if entangled:
            for pair in self.entanglers(n_qubits, layer):
                self.two_qubit_gate(wires=pair)


def chain(n_qubits: int, layer: int = 0) -> list[tuple[int, int]]:
    """(0,1), (1,2) … (n-2,n-1)."""
    return [(i, i + 1) for i in range(n_qubits - 1)]


def ring(n_qubits: int, layer: int = 0) -> list[tuple[int, int]]:
    """The chain closed by (n-1,0); two wires have one pair, as in `qml.BasicEntanglerLayers`."""
    return chain(n_qubits) + ([(n_qubits - 1, 0)] if n_qubits > 2 else [])


def ranged_ring(n_qubits: int, layer: int) -> list[tuple[int, int]]:
    """(i, i + r mod n) with r growing by one a layer, as in `qml.StronglyEntanglingLayers`."""
    if n_qubits == 1:
        return []
    reach = layer % (n_qubits - 1) + 1
    return [(i, (i + reach) % n_qubits) for i in range(n_qubits)]


def nothing(n_qubits: int, layer: int = 0) -> list[tuple[int, int]]:
    """No pair."""
    return []


ANSAETZE: dict[str, Ansatz] = {
    "original": Ansatz([qml.RY], chain, "RY on each wire, CNOT chain: the original study's"),
    "basic_entangler": Ansatz([qml.RX], ring, "RX on each wire, CNOT ring"),
    # Schuld, Bocharov, Svore, Wiebe, Phys. Rev. A 101, 032308 (2020)
    "strongly_entangling": Ansatz([qml.Rot], ranged_ring, "Rot on each wire, CNOT ring whose reach grows with the layer"),
    # Kandala et al., Nature 549, 242 (2017): native rotations and a native entangler along a line
    "hardware_efficient": Ansatz([qml.RY, qml.RZ], chain, "RY and RZ on each wire, CZ chain", qml.CZ),
    "separable": Ansatz([qml.Rot], nothing, "Rot on each wire, no entanglement"),
}
