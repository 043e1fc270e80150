"""What the frontier study says: exponents of gradient variance and memory, and from where on more hardware cannot help."""

from __future__ import annotations

from hybridbench.errors import check_name

COSTS = ("local", "global")


def deep_variance(cost: str, n_qubits: int) -> float:
    """Variance of the derivative by the first rotation where all that follows it is Haar-random, 1/rad^2.

    With E[Tr(W^dagger O W X)^2] = (Tr O^2 - (Tr O)^2 / d) Tr X^2 / (d^2 - 1) for a traceless X (second moment of the Haar
    measure: Collins and Sniady, Commun. Math. Phys. 264, 773 (2006)) and X = -i/2 [Y, |0><0|], whose Tr X^2 is 1/2:
    (Tr O^2 - (Tr O)^2 / d) / (2 (d^2 - 1)), d = 2^n. This is the case of McClean et al. 2018 in which the circuit behind the
    rotation is a 2-design. The local cost has Tr O^2 - (Tr O)^2 / d = d / (4 n), the global one 1 - 1/d: 2^-n / (8 n) and
    4^-n / 2 for many qubits.

    Raises:
        ConfigurationError: another cost.
    """
    d = 2.0**n_qubits
    spread = d / (4 * n_qubits) if check_name("cost", cost, COSTS) == "local" else 1 - 1 / d
    return spread / (2 * (d * d - 1))
