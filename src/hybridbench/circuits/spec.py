"""A circuit as four words: embedding, ansatz, number of qubits, number of layers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import pennylane as qml

from hybridbench.circuits.ansatze import ANSAETZE
from hybridbench.circuits.embeddings import EMBEDDINGS
from hybridbench.errors import ConfigurationError, check_name


@dataclass(frozen=True)
class CircuitSpec:
    """What the circuit is, without a device, a gradient method or weights.

    Args:
        embedding: a name of `EMBEDDINGS`.
        ansatz: a name of `ANSAETZE`.
        n_qubits: wires, at least 1.
        n_layers: repetitions of the ansatz, at least 1.
        entangled: False drops every two-qubit gate; see `separable_twin`.

    Raises:
        ConfigurationError: an unknown name, or a number below 1.
    """

    embedding: str
    ansatz: str
    n_qubits: int
    n_layers: int
    entangled: bool = True

    def __post_init__(self) -> None:
        check_name("embedding", self.embedding, EMBEDDINGS)
        check_name("ansatz", self.ansatz, ANSAETZE)
        for name in ("n_qubits", "n_layers"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigurationError(f"{name} is {value!r}, and a circuit needs a whole number of at least 1.")

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weights: (n_layers, n_qubits) or (n_layers, n_qubits, k)."""
        return ANSAETZE[self.ansatz].weight_shape(self.n_qubits, self.n_layers)

    @property
    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """The argument of that name of `KerasLayer`."""
        return {"weights": self.weight_shape}

    @property
    def n_parameters(self) -> int:
        """Trainable parameters of the circuit."""
        return math.prod(self.weight_shape)

    @property
    def n_features(self) -> int:
        """Features that the embedding takes; for "amplitude" the most that it takes."""
        return EMBEDDINGS[self.embedding].max_features(self.n_qubits)

    def check_features(self, n_features: int) -> None:
        """Check that a data set's number of features fits the circuit.

        Raises:
            ConfigurationError: it does not; says what would.
        """
        exact = EMBEDDINGS[self.embedding].exact
        if n_features == self.n_features or (not exact and 1 <= n_features < self.n_features):
            return
        wanted = f"exactly {self.n_features}" if exact else f"1 to {self.n_features}"
        raise ConfigurationError(
            f"{n_features} features do not fit {self.embedding!r} on {self.n_qubits} qubits, which takes {wanted}; "
            "change the number of features, n_qubits or the embedding."
        )

    def apply(self, inputs: Any, weights: Any) -> None:
        """Queue the gates of the circuit.

        Args:
            inputs: features, shape (n_features,) or (batch, n_features); ignored by embedding "none".
            weights: shape `weight_shape`, or (batch, *weight_shape) for a batch of parameter sets.

        Raises:
            ConfigurationError: a number of features that does not fit.
        """
        embedding, ansatz = EMBEDDINGS[self.embedding], ANSAETZE[self.ansatz]
        if self.n_features and (given := qml.math.shape(inputs)[-1]) is not None:  # None: unknown while tracing a graph
            self.check_features(given)
        for layer in range(self.n_layers):
            if layer == 0 or embedding.every_layer:
                embedding.apply(inputs, range(self.n_qubits))
            ansatz.apply_layer(weights, layer, self.n_qubits, self.entangled)

    def separable_twin(self) -> CircuitSpec:
        """The same one-qubit gates and weights without the two-qubit gates: what training gains without entanglement.

        The twin of "strongly_entangling" has the gates of "separable".
        """
        return replace(self, entangled=False)
