"""The physical frame, where CNOT, SWAP and X only change masks."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from hybridbench.engine.compiler.instructions import (
    HALF_PI,
    MAX_STRINGS,
    Axis,
    Controls,
    Flip,
    Instruction,
    Matrix,
    Phase,
    Swap,
    Turn,
    UnsupportedCircuit,
    Word,
    Y,
    Z,
    constant,
    times,
)
from hybridbench.engine.compiler.schedule import Qubit, Schedule, turn_between
from hybridbench.engine.program import Angle, Block, Term

MAX_BLOCK = 8  #: wires of a gate that is applied as a matrix


class Frame:
    """The masks and flips of the wires, and the schedule that instructions are added to."""

    def __init__(self, n_qubits: int, from_product: bool) -> None:
        self.x = [1 << (n_qubits - 1 - w) for w in range(n_qubits)]
        self.z = list(self.x)
        self.flip = [0] * n_qubits
        self.phase: list[Angle] = []
        self.schedule = Schedule(n_qubits, from_product)

    def add(self, item: Instruction) -> None:
        """Add an instruction."""
        match item:
            case Turn():
                w = item.wire
                self._turn((self.x[w], self.z[w]), self._flipped(item.axis, w), item.angle, item.controls)
            case Word():
                self._word(item)
            case Phase():
                self._phase(item)
            case Flip():
                self._flip(item)
            case Swap():
                self._swap(item)
            case Matrix():
                self._matrix(item)

    def term(self, wires: Iterable[int], letters: Iterable[str], coefficient: float) -> Term:
        """A Pauli word of wires in the physical frame."""
        x, z, power, sign = self._pauli(wires, letters)
        return Term(coefficient * sign, power % 4, x, z)

    def _flipped(self, axis: Axis, wire: int) -> Axis:
        return (axis[0], -axis[1], -axis[2]) if self.flip[wire] else axis

    def _pauli(self, wires: Iterable[int], letters: Iterable[str]) -> tuple[int, int, int, int]:
        """sign * i**power X^x Z^z of a Pauli word: (x, z, power, sign)."""
        x = z = power = 0
        sign = 1
        for w, letter in zip(wires, letters, strict=True):
            if letter != "Z":
                x ^= self.x[w]
            if letter != "X":
                z ^= self.z[w]
                sign *= -1 if self.flip[w] else 1
            power += letter == "Y"
        return x, z, power, sign

    def _subsets(self, controls: Controls) -> list[tuple[int, float]]:
        """The projector on the control values as a sum of Z strings: (mask, coefficient)."""
        if len(controls) > MAX_STRINGS:
            raise UnsupportedCircuit(
                f"The engine cannot run a phase that {len(controls)} wires control, only up to {MAX_STRINGS}: "
                "write it as smaller gates, or run this circuit on default.qubit."
            )
        found = [(0, 1.0)]
        for wire, value in controls:
            sign = -0.5 if value ^ self.flip[wire] else 0.5
            found = [(mask ^ part, c * half) for mask, c in found for part, half in ((0, 0.5), (self.z[wire], sign))]
        return found

    def _turn(self, qubit: Qubit, axis: Axis, angle: Angle, controls: Controls) -> None:
        if not controls:
            self.schedule.rotate(qubit, axis, angle)
            return
        sign = -1 if axis[2] < 0 else 1  # the same rotation about the opposite axis
        turn, by = turn_between(Z, tuple(sign * component for component in axis))
        if by:
            self.schedule.rotate(qubit, turn, constant(-by))
        for mask, coefficient in self._subsets(controls):
            self.schedule.string(mask ^ qubit[1], times(angle, sign * coefficient))
        if by:
            self.schedule.rotate(qubit, turn, constant(by))

    def _word(self, item: Word) -> None:
        x, z, power, sign = self._pauli(item.wires, item.letters)
        if not x:
            for mask, coefficient in self._subsets(item.controls):
                self.schedule.string(mask ^ z, times(item.angle, sign * coefficient))
            return
        if power % 2:  # Y of a virtual qubit
            self._turn((x, z), (0.0, float(sign * (-1) ** (power // 2)), 0.0), item.angle, item.controls)
            return
        pivot = next(self.z[w] for w, letter in zip(item.wires, item.letters, strict=True) if letter != "Z")
        sign *= (-1) ** (power // 2)
        if not z:
            self._turn((x, pivot), (float(sign), 0.0, 0.0), item.angle, item.controls)
            return
        # X^x Z^z = -S Y S^dagger with S = exp(-i pi/4 Z^(z + pivot)) and Y that of the virtual qubit (x, pivot)
        self.schedule.string(z ^ pivot, constant(-HALF_PI))
        self._turn((x, pivot), (0.0, float(-sign), 0.0), item.angle, item.controls)
        self.schedule.string(z ^ pivot, constant(HALF_PI))

    def _phase(self, item: Phase) -> None:
        for mask, coefficient in self._subsets(item.controls):
            if mask:
                self.schedule.string(mask, times(item.angle, -2 * coefficient))
            else:
                self.phase.append(times(item.angle, coefficient))

    def _flip(self, item: Flip) -> None:
        t = item.wire
        if len(item.controls) > 1:  # the phase -1 between two changes of basis
            half = Turn(t, Y, constant(HALF_PI))
            for part in (half.adjoint(), Phase(constant(math.pi), (*item.controls, (t, 1))), half):
                self.add(part)
            return
        for c, value in item.controls:
            self.z[t] ^= self.z[c]
            self.flip[t] ^= self.flip[c] ^ 1 ^ value
            self.x[c] ^= self.x[t]
        if not item.controls:
            self.flip[t] ^= 1

    def _swap(self, item: Swap) -> None:
        a, b = item.wires
        if item.controls:
            for part in (Flip(a, ((b, 1),)), Flip(b, (*item.controls, (a, 1))), Flip(a, ((b, 1),))):
                self.add(part)
            return
        for values in (self.x, self.z, self.flip):
            values[a], values[b] = values[b], values[a]

    def _matrix(self, item: Matrix) -> None:
        wires = (*(c for c, _ in item.controls), *item.wires)
        if len(wires) > MAX_BLOCK:
            raise UnsupportedCircuit(
                f"The engine cannot run a matrix on {len(wires)} wires, only up to {MAX_BLOCK}: "
                "write it as smaller gates, or run this circuit on default.qubit."
            )
        matrix, eigenvalues = item.matrix, item.eigenvalues
        for _, value in reversed(item.controls):
            blocks = [np.eye(len(matrix), dtype=complex), matrix]
            matrix = np.zeros((2 * len(matrix),) * 2, dtype=complex)
            half = len(matrix) // 2
            matrix[:half, :half], matrix[half:, half:] = blocks if value else blocks[::-1]
            if eigenvalues is not None:
                parts = [np.zeros(half), eigenvalues]
                eigenvalues = np.concatenate(parts if value else parts[::-1])
        rows = np.arange(len(matrix)) ^ int("".join(str(self.flip[w]) for w in wires), 2)
        matrix = matrix[rows] if item.angle is not None else matrix[np.ix_(rows, rows)]
        self.schedule.block(Block(tuple((self.x[w], self.z[w]) for w in wires), matrix, eigenvalues, item.angle))
