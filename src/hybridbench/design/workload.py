"""The timed workload W(n, L, B): the hybrid model of every training step that routes are compared on.

Dense 64 → n with pi·tanh, RX angle embedding, L strongly entangling layers, <Z> on each of n wires, dense n → 10 with
softmax cross-entropy; B of the ten handwritten digits; Adam.
"""

N_FEATURES, N_CLASSES, N_DIGITS = 64, 10, 1797
LEARNING_RATE = 0.01


def n_gates(n_qubits: int, n_layers: int) -> int:
    """Gates of W's circuit: n RX of the embedding and, in every layer, n rotations and n CNOTs (none on one qubit)."""
    return n_qubits * (1 + n_layers * (2 if n_qubits > 1 else 1))
