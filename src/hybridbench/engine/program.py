"""What a circuit becomes before it runs: a short list of fused instructions that every engine reads.

Amplitudes have a *physical* index i in [0, 2**n_qubits). A wire is a pair of bit masks over it, `x_mask` and `z_mask`: X on
the wire maps i to i ^ x_mask, and its bit is parity(i & z_mask). Wire w starts as bit n_qubits - 1 - w (wire 0 is the most
significant, as in PennyLane). CNOT, SWAP and X only change masks and signs, so that they move no data: permutations cost
nothing, and gates of the circuit are gates on *virtual* qubits of the physical index (Pauli frame; see docs/engine.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import numpy as np


class Kind(Enum):
    """Where the value of an angle comes from."""

    CONSTANT = 0  #: no parameter
    SHARED = 1  #: one value for the whole batch: an entry of `shared`, shape (n_shared,)
    SAMPLE = 2  #: one value per sample: a column of `sample`, shape (batch, n_sample)


@dataclass(frozen=True)
class Angle:
    """offset + scale * parameter, radians."""

    kind: Kind = Kind.CONSTANT
    index: int = -1  #: entry of `shared` or column of `sample`; -1 for constants
    scale: float = 0.0
    offset: float = 0.0


@dataclass(frozen=True)
class Rotation:
    """exp(-i angle/2 (x X + y Y + z Z)) with the unit vector `axis` = (x, y, z)."""

    axis: tuple[float, float, float]
    angle: Angle


@dataclass(frozen=True)
class ZString:
    """exp(-i angle/2 Z...Z): amplitude i gets the phase -angle/2 where parity(i & mask) is 0 and +angle/2 where it is 1."""

    mask: int
    angle: Angle


@dataclass(frozen=True)
class Run:
    """Rotations of one virtual qubit in order of time, all constant or shared: one 2 x 2 matrix for the whole batch."""

    x_mask: int
    z_mask: int
    rotations: tuple[Rotation, ...]


@dataclass(frozen=True)
class SampleRotation:
    """exp(-i angle/2 Y) on one virtual qubit with an angle per sample."""

    x_mask: int
    z_mask: int
    angle: Angle


@dataclass(frozen=True, eq=False)
class Block:
    """A gate on k virtual qubits: V diag(exp(-i angle eigenvalues)) V^dagger, or a constant matrix where angle is None.

    Row and column index of the matrices: the first of `qubits` is the most significant bit.
    """

    qubits: tuple[tuple[int, int], ...]  #: (x_mask, z_mask) of each
    matrix: np.ndarray  #: (2**k, 2**k) complex: the gate if angle is None, else V
    eigenvalues: np.ndarray | None = None  #: (2**k,) real, of the generator
    angle: Angle | None = None


@dataclass(frozen=True, eq=False)
class Layer:
    """First all phases (they commute), then rotations and blocks (they commute with each other)."""

    strings: tuple[ZString, ...] = ()  #: constant or shared
    sample_strings: tuple[ZString, ...] = ()  #: per sample
    runs: tuple[Run, ...] = ()
    sample_rotations: tuple[SampleRotation, ...] = ()
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True)
class Term:
    """coefficient * i**power X^x_mask Z^z_mask (Z acts first): a Pauli word in the physical frame (Y = i X Z)."""

    coefficient: float
    power: int  #: number of Y factors, modulo 4
    x_mask: int
    z_mask: int


@dataclass(frozen=True, eq=False)
class Program:
    """A compiled circuit.

    The state starts as the product of `product[w]` applied to |0> on each wire w (initial frame), or as a state vector that
    the caller hands over where `product` is None. Layers follow in order. Physical amplitude i is the amplitude of the basis
    state whose bit on wire w is parity(i & frame[w][0]) ^ frame[w][1].
    """

    n_qubits: int
    n_shared: int
    n_sample: int
    product: tuple[tuple[Rotation, ...], ...] | None
    layers: tuple[Layer, ...]
    frame: tuple[tuple[int, int], ...]  #: (z_mask, flip) of each wire after the last gate
    outputs: tuple[tuple[Term, ...], ...] = ()  #: Hermitian observables, one sum of Pauli words each
    phase: tuple[Angle, ...] = field(default=())  #: global phase exp(i sum of angles) that the gates above leave out
