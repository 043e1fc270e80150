"""How features become a quantum state: the registry of embeddings.

A new embedding is one function and one entry of `EMBEDDINGS`; every spec, model and notebook then knows its name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pennylane as qml

from hybridbench.errors import ConfigurationError


@dataclass(frozen=True)
class Embedding:
    """One way of putting features into a circuit.

    Attributes:
        apply: queues the gates; takes the features, shape (..., n_features), and the wires.
        max_features: most features that fit on a number of qubits.
        exact: exactly `max_features` features are needed; otherwise fewer are padded with zeros.
        every_layer: repeated before every layer of the ansatz instead of once before the first.
        inputs_need_backprop: gradients with respect to the features exist with backprop only.
        fixed_batch: a graph of it can be traced for one size of batch only, not for all at once.
        description: one line for tables and help.
    """

    apply: Callable[[Any, range], None]
    max_features: Callable[[int], int]
    description: str
    exact: bool = True
    every_layer: bool = False
    inputs_need_backprop: bool = False
    fixed_batch: bool = False


def angle(inputs: Any, wires: range) -> None:
    """RX(x_i) on wire i: one feature per wire, in radians. inputs: (..., n_qubits)."""
    for i in wires:
        qml.RX(inputs[..., i], wires=i)


def amplitude(inputs: Any, wires: range) -> None:
    """The features as amplitudes: padded with zeros to 2**n_qubits and scaled to length one.

    Differentiable with respect to the features with backprop only: adjoint and parameter-shift have no rule for a state
    preparation. A layer that is fed data, not another layer's output, needs no such gradient.

    Args:
        inputs: shape (..., at most 2**n_qubits).
        wires: the wires, first one most significant.

    Raises:
        ConfigurationError: a sample has only zeros, so that it has no direction. Under `tf.function` values are not known
            while the circuit is built; the outputs are then NaN.
    """
    if not qml.math.is_abstract(inputs):
        norms = qml.math.toarray(qml.math.sqrt(qml.math.sum(inputs * inputs, axis=-1)))
        if not norms.all():
            raise ConfigurationError(
                "Amplitude embedding got a sample whose features are all 0, which has no direction to encode: "
                "drop the sample, add a constant feature, or use the embedding 'angle'."
            )
    qml.AmplitudeEmbedding(inputs, wires=wires, pad_with=0.0, normalize=True)


def none(inputs: Any, wires: range) -> None:
    """No data: the ansatz acts on |0…0>."""


def _one_per_wire(n_qubits: int) -> int:
    return n_qubits


EMBEDDINGS: dict[str, Embedding] = {
    "angle": Embedding(angle, _one_per_wire, "RX(x_i) on wire i, once before the first layer"),
    # Pérez-Salinas, Cervera-Lierta, Gil-Fuster, Latorre, Quantum 4, 226 (2020): each repetition adds Fourier frequencies.
    "reuploading": Embedding(angle, _one_per_wire, "RX(x_i) on wire i, again before every layer", every_layer=True),
    "amplitude": Embedding(
        amplitude,
        lambda n: 2**n,
        "up to 2**n features as normalised amplitudes",
        exact=False,
        inputs_need_backprop=True,
        fixed_batch=True,
    ),
    "none": Embedding(none, lambda n: 0, "no data: an energy problem on |0…0>"),
}
