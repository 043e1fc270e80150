"""Instructions on wires: rotations, flips, swaps, matrices and phases, each with any number of controls."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from hybridbench.engine.program import Angle
from hybridbench.errors import HybridbenchError

MAX_STRINGS = 6  #: wires that a phase depends on: it becomes up to 2**MAX_STRINGS phases
X, Y, Z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
HALF_PI = math.pi / 2


class UnsupportedCircuit(HybridbenchError, NotImplementedError):
    """The engine cannot run a gate or a structure of this circuit."""


Axis = tuple[float, float, float]
Controls = tuple[tuple[int, int], ...]  #: (wire, value) of each control


@dataclass(frozen=True)
class Turn:
    """exp(-i angle/2 axis.sigma) on one wire."""

    wire: int
    axis: Axis
    angle: Angle
    controls: Controls = ()

    def adjoint(self) -> Turn:
        """The inverse instruction."""
        return replace(self, angle=times(self.angle, -1))


@dataclass(frozen=True)
class Word:
    """exp(-i angle/2 P) for a Pauli word: one of X, Y, Z for each wire."""

    wires: tuple[int, ...]
    letters: str
    angle: Angle
    controls: Controls = ()

    def adjoint(self) -> Word:
        """The inverse instruction."""
        return replace(self, angle=times(self.angle, -1))


@dataclass(frozen=True)
class Phase:
    """exp(i angle)."""

    angle: Angle
    controls: Controls = ()

    def adjoint(self) -> Phase:
        """The inverse instruction."""
        return replace(self, angle=times(self.angle, -1))


@dataclass(frozen=True)
class Flip:
    """X on a wire; with controls CNOT, Toffoli and so on."""

    wire: int
    controls: Controls = ()

    def adjoint(self) -> Flip:
        """The inverse instruction."""
        return self


@dataclass(frozen=True)
class Swap:
    """The exchange of two wires."""

    wires: tuple[int, int]
    controls: Controls = ()

    def adjoint(self) -> Swap:
        """The inverse instruction."""
        return self


@dataclass(frozen=True, eq=False)
class Matrix:
    """A gate of 2 to MAX_BLOCK wires as in `Block`."""

    wires: tuple[int, ...]
    matrix: np.ndarray
    eigenvalues: np.ndarray | None = None
    angle: Angle | None = None
    controls: Controls = ()

    def adjoint(self) -> Matrix:
        """The inverse instruction."""
        if self.angle is None:
            return replace(self, matrix=self.matrix.conj().T)
        return replace(self, angle=times(self.angle, -1))


Instruction = Turn | Word | Phase | Flip | Swap | Matrix


def times(angle: Angle, factor: float) -> Angle:
    """The angle times a number."""
    return replace(angle, scale=factor * angle.scale, offset=factor * angle.offset)


def constant(value: float) -> Angle:
    """An angle that no parameter changes, radians."""
    return Angle(offset=float(value))


def unsupported(op: object, why: str) -> UnsupportedCircuit:
    """The error that names a gate and why the engine cannot run it."""
    name = getattr(op, "name", type(op).__name__)
    return UnsupportedCircuit(f"The engine cannot run {name}: {why}; write it as standard gates, or use default.qubit.")
