"""The schedule: each item in the earliest layer that commutation allows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain

import numpy as np

from hybridbench.engine.compiler.instructions import Axis, X, Y, Z, constant, times
from hybridbench.engine.program import Angle, Block, Kind, Layer, Rotation, Run, SampleRotation, Term, ZString

Qubit = tuple[int, int]  #: (x_mask, z_mask); a Z string of mask m counts as (0, m)


def _clash(a: Qubit, b: Qubit) -> bool:
    """Whether gates on two virtual qubits need not commute."""
    return bool(((a[0] & b[1]).bit_count() | (a[1] & b[0]).bit_count()) & 1)


class _Draft:
    """A layer under construction."""

    def __init__(self) -> None:
        self.strings: list[ZString] = []
        self.runs: dict[Qubit, list[Rotation]] = {}
        self.sample_rotations: list[SampleRotation] = []
        self.blocks: list[Block] = []
        self.masks: dict[int, None] = {}  #: of the strings
        self.turned: dict[Qubit, None] = {}  #: virtual qubits of rotations and blocks

    def freeze(self) -> Layer:
        constants: dict[int, float] = {}
        for s in self.strings:
            if s.angle.kind is Kind.CONSTANT:
                constants[s.mask] = constants.get(s.mask, 0.0) + s.angle.offset
        return Layer(
            (
                *(s for s in self.strings if s.angle.kind is Kind.SHARED),
                *(ZString(mask, constant(value)) for mask, value in constants.items() if abs(value) > 1e-14),
            ),
            tuple(s for s in self.strings if s.angle.kind is Kind.SAMPLE),
            tuple(Run(x, z, tuple(rotations)) for (x, z), rotations in self.runs.items()),
            tuple(self.sample_rotations),
            tuple(self.blocks),
        )


class Schedule:
    """Items in the earliest layer that commutation allows; one-qubit gates before all others go to the product state."""

    def __init__(self, n_qubits: int, from_product: bool) -> None:
        self.n = n_qubits
        self.product: list[list[Rotation]] | None = [[] for _ in range(n_qubits)] if from_product else None
        self.drafts: list[_Draft] = []

    def string(self, mask: int, angle: Angle) -> None:
        """A phase of the Z string of a mask."""
        level = self._last_turn((0, mask))
        if level < 0 and self._to_product(mask, Rotation(Z, angle)):
            return
        if level >= 0 and angle.kind is not Kind.SAMPLE:
            for (_, z), rotations in self.drafts[level].runs.items():
                if z == mask:
                    rotations.append(Rotation(Z, angle))
                    return
        draft = self._draft(level + 1)
        draft.strings.append(ZString(mask, angle))
        draft.masks[mask] = None

    def rotate(self, qubit: Qubit, axis: Axis, angle: Angle) -> None:
        """A rotation about any axis, of any kind."""
        about_x, about_y, about_z = (abs(component) > 1 - 1e-12 for component in axis)
        if about_z:
            self.string(qubit[1], times(angle, round(axis[2])))
            return
        x, z = qubit
        # a rotation about X leaves the choice of z_mask
        level, by_string = self._last_clash((x, 0) if about_x else qubit)
        if level < 0 and (about_x or x == z) and self._to_product(x, Rotation(axis, angle)):
            return
        if angle.kind is not Kind.SAMPLE:
            if level >= 0 and not by_string:
                for other, rotations in self.drafts[level].runs.items():
                    if other == qubit or (about_x and other[0] == x):
                        rotations.append(Rotation(axis, angle))
                        return
            draft = self._draft(level if by_string else level + 1)
            for other_x, other_z in draft.turned if about_x else ():
                if (other_x & z).bit_count() & 1:
                    z ^= other_z
            draft.runs[x, z] = [Rotation(axis, angle)]
            draft.turned[x, z] = None
        elif about_y:
            draft = self._draft(level if by_string else level + 1)
            draft.sample_rotations.append(SampleRotation(x, z, times(angle, round(axis[1]))))
            draft.turned[qubit] = None
        else:
            turn, by = turn_between(Y, axis)
            self.rotate(qubit, turn, constant(-by))
            self.rotate(qubit, Y, angle)
            self.rotate(qubit, turn, constant(by))

    def block(self, block: Block) -> None:
        """A gate that is applied as a matrix."""
        found = [self._last_clash(qubit) for qubit in block.qubits]
        draft = self._draft(max(level if by_string else level + 1 for level, by_string in found))
        draft.blocks.append(block)
        draft.turned.update(dict.fromkeys(block.qubits))

    def _draft(self, level: int) -> _Draft:
        level = max(level, 0)
        while len(self.drafts) <= level:
            self.drafts.append(_Draft())
        return self.drafts[level]

    def _to_product(self, bit: int, rotation: Rotation) -> bool:
        if self.product is None or bit.bit_count() != 1:
            return False
        self.product[self.n - bit.bit_length()].append(rotation)
        return True

    def _last_turn(self, qubit: Qubit) -> int:
        """The last layer with a rotation or block that the item need not commute with, or -1."""
        for level in range(len(self.drafts) - 1, -1, -1):
            if any(_clash(qubit, other) for other in self.drafts[level].turned):
                return level
        return -1

    def _last_clash(self, qubit: Qubit) -> tuple[int, bool]:
        """The same among strings too, which stand before the rotations of their layer; whether it is a string."""
        x = qubit[0]
        for level in range(len(self.drafts) - 1, -1, -1):
            draft = self.drafts[level]
            if any(_clash(qubit, other) for other in draft.turned):
                return level, False
            if any((x & mask).bit_count() & 1 for mask in draft.masks):
                return level, True
        return -1, False

    def prune(self, outputs: tuple[tuple[Term, ...], ...]) -> None:
        """Drop all that no output can see: what commutes with the outputs and with everything kept after it."""
        seen: dict[Qubit, None] = {(term.x_mask, term.z_mask): None for output in outputs for term in output}

        def hidden(qubits: Sequence[Qubit]) -> bool:
            return not any(_clash(qubit, other) for qubit in qubits for other in reversed(seen))

        for draft in reversed(self.drafts):
            keep: list[Qubit] = []
            for qubit, rotations in list(draft.runs.items()):
                if hidden([qubit]):
                    del draft.runs[qubit]
                    continue
                while rotations[-1].axis == Z and hidden([(0, qubit[1])]):
                    rotations.pop()
                keep.append(qubit)
            draft.sample_rotations = [r for r in draft.sample_rotations if not hidden([(r.x_mask, r.z_mask)])]
            draft.blocks = [b for b in draft.blocks if not hidden(b.qubits)]
            keep.extend((r.x_mask, r.z_mask) for r in draft.sample_rotations)
            keep.extend(chain(*(b.qubits for b in draft.blocks)))
            seen.update(dict.fromkeys(keep))
            draft.strings = [s for s in draft.strings if not hidden([(0, s.mask)])]
            seen.update(dict.fromkeys((0, s.mask) for s in draft.strings))

    def layers(self) -> tuple[Layer, ...]:
        """All layers that are not empty."""
        layers = [draft.freeze() for draft in self.drafts]
        while layers and not any(vars(layers[-1]).values()):
            layers.pop()
        if layers and layers[-1].runs:  # engines hand the last phase of a run to the next layer
            layers.append(Layer())
        return tuple(layers)


def turn_between(start: Axis, end: Axis) -> tuple[Axis, float]:
    """Axis and angle of a rotation that takes the unit vector `start` to `end`, which is not its opposite."""
    axis = np.cross(start, end)
    norm = float(np.linalg.norm(axis))
    if norm < 1e-12:
        return X, 0.0
    return tuple((axis / norm).tolist()), math.atan2(norm, float(np.dot(start, end)))
