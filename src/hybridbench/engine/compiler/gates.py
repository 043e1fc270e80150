"""From a PennyLane tape to a Program: gates become rotations, phases and changes of masks, packed into few layers.

Three steps. `_lower` turns a gate into a short list of instructions on wires: rotations about an axis or a Pauli word,
flips, swaps, matrices and phases, each with any number of control wires. `_Frame` moves them into the physical frame, where
CNOT, SWAP and X only change masks. `_Schedule` puts each into the earliest layer that commutation allows. No value of an
angle is read, so that one program serves all calls of the same structure, and symbolic tensors too.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations
from threading import Lock
from typing import Any

import numpy as np
import pennylane as qml
from pennylane.measurements import ExpectationMP, MeasurementProcess
from pennylane.operation import Operation, Operator
from pennylane.ops import Adjoint, Controlled, Pow, Prod
from pennylane.pauli import PauliSentence
from pennylane.tape import QuantumScript
from scipy.sparse import issparse

from hybridbench.engine.program import (
    Angle,
    Block,
    Kind,
    Layer,
    Program,
    Rotation,
    Run,
    SampleRotation,
    Term,
    ZString,
)
from hybridbench.errors import HybridbenchError

MAX_BLOCK = 8  #: wires of a gate that is applied as a matrix
MAX_OBSERVABLE = 4  #: wires of an observable given as a matrix, which becomes up to 4**MAX_OBSERVABLE Pauli words
MAX_STRINGS = 6  #: wires that a phase depends on: it becomes up to 2**MAX_STRINGS phases
MAX_POWER = 8  #: how often a power repeats its gate
MAX_WORDS = 8  #: Pauli words beyond Z that a generator may have before a matrix is cheaper
CACHE_SIZE = 256  #: compiled circuits that are kept
EXACT = 1e-12  #: how far a matrix may be from a unitary one to be taken for rotations and phases
ROUNDED = 1e-5  #: how far it may be at all, as one that was made in single precision is; the adjoint method undoes gates

X, Y, Z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
HALF_PI = math.pi / 2


class UnsupportedCircuit(HybridbenchError, NotImplementedError):
    """The engine cannot run a gate or a structure of this circuit."""


@dataclass(frozen=True)
class Compiled:
    """A program and where its numbers come from.

    `shared` and `sample` say for each entry of the vectors of the same name which (operation, parameter of it) it is.
    `program.outputs` follows tape.measurements; it is () where one of them is not an expectation value of a constant
    observable, and then the caller works from the state.
    """

    program: Program
    shared: tuple[tuple[int, int], ...]
    sample: tuple[tuple[int, int], ...]
    initial: int | None  #: index of the operation that prepares the first state, to be computed by the caller


# --- instructions on wires -------------------------------------------------------------------------------------------------

_Axis = tuple[float, float, float]
_Controls = tuple[tuple[int, int], ...]  #: (wire, value) of each control


@dataclass(frozen=True)
class _Turn:
    """exp(-i angle/2 axis.sigma) on one wire."""

    wire: int
    axis: _Axis
    angle: Angle
    controls: _Controls = ()

    def adjoint(self) -> _Turn:
        return replace(self, angle=_times(self.angle, -1))


@dataclass(frozen=True)
class _Word:
    """exp(-i angle/2 P) for a Pauli word: one of X, Y, Z for each wire."""

    wires: tuple[int, ...]
    letters: str
    angle: Angle
    controls: _Controls = ()

    def adjoint(self) -> _Word:
        return replace(self, angle=_times(self.angle, -1))


@dataclass(frozen=True)
class _Phase:
    """exp(i angle)."""

    angle: Angle
    controls: _Controls = ()

    def adjoint(self) -> _Phase:
        return replace(self, angle=_times(self.angle, -1))


@dataclass(frozen=True)
class _Flip:
    """X on a wire; with controls CNOT, Toffoli and so on."""

    wire: int
    controls: _Controls = ()

    def adjoint(self) -> _Flip:
        return self


@dataclass(frozen=True)
class _Swap:
    wires: tuple[int, int]
    controls: _Controls = ()

    def adjoint(self) -> _Swap:
        return self


@dataclass(frozen=True, eq=False)
class _Matrix:
    """A gate of 2 to MAX_BLOCK wires as in `Block`."""

    wires: tuple[int, ...]
    matrix: np.ndarray
    eigenvalues: np.ndarray | None = None
    angle: Angle | None = None
    controls: _Controls = ()

    def adjoint(self) -> _Matrix:
        if self.angle is None:
            return replace(self, matrix=self.matrix.conj().T)
        return replace(self, angle=_times(self.angle, -1))


_Instruction = _Turn | _Word | _Phase | _Flip | _Swap | _Matrix


def _times(angle: Angle, factor: float) -> Angle:
    return replace(angle, scale=factor * angle.scale, offset=factor * angle.offset)


def _constant(value: float) -> Angle:
    return Angle(offset=float(value))


# --- gates to instructions -------------------------------------------------------------------------------------------------

_Angles = Sequence[Angle | None]  #: of a gate's parameters, in their order; None stands for a constant matrix
_Builder = Callable[[Operator, tuple[int, ...], _Angles], list[_Instruction]]


def _rot(wire: int, phi: Angle, theta: Angle, omega: Angle) -> list[_Instruction]:
    return [_Turn(wire, Z, phi), _Turn(wire, Y, theta), _Turn(wire, Z, omega)]


def _u3(wire: int, theta: Angle, phi: Angle, delta: Angle) -> list[_Instruction]:
    return [_Phase(_times(phi, 0.5)), _Phase(_times(delta, 0.5)), *_rot(wire, delta, theta, phi)]


def _half_turn(wire: int, axis: _Axis, part: float = 1.0) -> list[_Instruction]:
    """axis.sigma to the power `part`."""
    return [_Phase(_constant(part * HALF_PI)), _Turn(wire, axis, _constant(part * math.pi))]


def _ones(wires: tuple[int, ...]) -> _Controls:
    return tuple((wire, 1) for wire in wires)


def _between(first: _Instruction, middle: list[_Instruction]) -> list[_Instruction]:
    """`middle` in the basis that `first` leads to."""
    return [first, *middle, first.adjoint()]


def _swapped_phase(wires: tuple[int, ...], angle: Angle) -> list[_Instruction]:
    """SWAP, and exp(i angle) on 01 and 10."""
    return [_Phase(_times(angle, 0.5)), _Word(wires, "ZZ", angle), _Swap(wires)]


def _pauli_rotation(wires: tuple[int, ...], letters: str, angle: Angle) -> list[_Instruction]:
    kept = [(wire, letter) for wire, letter in zip(wires, letters, strict=True) if letter != "I"]
    if not kept:
        return [_Phase(_times(angle, -0.5))]
    return [_Word(tuple(wire for wire, _ in kept), "".join(letter for _, letter in kept), angle)]


def _diagonal(op: Operator, wires: tuple[int, ...], angles: _Angles) -> list[_Instruction]:
    values = _data(op)
    if not np.allclose(np.abs(values), 1, rtol=0, atol=ROUNDED):
        raise _unsupported(op, "its entries are not of modulus 1")
    if len(wires) <= MAX_STRINGS and np.allclose(np.abs(values), 1, rtol=0, atol=EXACT):
        return _phases(np.angle(values), wires, None)
    return [_Matrix(wires, np.diag(values).astype(complex))]


def _adjoint(op: Adjoint, wires: tuple[int, ...], angles: _Angles) -> list[_Instruction]:
    return _reverse(_lower(op.base, wires, angles))


def _controlled(op: Controlled, wires: tuple[int, ...], angles: _Angles) -> list[_Instruction]:
    n = len(op.control_wires)
    return _control(_lower(op.base, wires[n:], angles), tuple(zip(wires[:n], map(int, op.control_values), strict=True)))


def _pow(op: Pow, wires: tuple[int, ...], angles: _Angles) -> list[_Instruction]:
    if op.z == int(op.z) and abs(op.z) <= MAX_POWER:
        instructions = _lower(op.base, wires, angles)
        return (instructions if op.z >= 0 else _reverse(instructions)) * abs(int(op.z))
    if any(angle is not None for angle in angles):
        raise _unsupported(op, f"of gates with parameters it knows only whole powers up to {MAX_POWER}")
    return _matrix(op, qml.matrix(op), wires)


def _prod(op: Prod, wires: tuple[int, ...], angles: _Angles) -> list[_Instruction]:
    index, start, found = dict(zip(op.wires, wires, strict=True)), 0, []
    for factor in op.operands:
        stop = start + len(factor.data)
        found.append(_lower(factor, tuple(index[w] for w in factor.wires), angles[start:stop]))
        start = stop
    return list(chain(*reversed(found)))  # the last factor acts first


_WRAPPERS: tuple[tuple[type, _Builder], ...] = (
    (Adjoint, _adjoint),
    (Controlled, _controlled),
    (Pow, _pow),
    (Prod, _prod),
)
_GATES: dict[type, _Builder] = {
    qml.RX: lambda op, w, a: [_Turn(w[0], X, a[0])],
    qml.RY: lambda op, w, a: [_Turn(w[0], Y, a[0])],
    qml.RZ: lambda op, w, a: [_Turn(w[0], Z, a[0])],
    qml.Rot: lambda op, w, a: _rot(w[0], *a),
    qml.PhaseShift: lambda op, w, a: [_Phase(a[0], _ones(w))],
    qml.U1: lambda op, w, a: [_Phase(a[0], _ones(w))],
    qml.U2: lambda op, w, a: _u3(w[0], _constant(HALF_PI), *a),
    qml.U3: lambda op, w, a: _u3(w[0], *a),
    qml.PauliX: lambda op, w, a: [_Flip(w[0])],
    qml.PauliY: lambda op, w, a: _half_turn(w[0], Y),
    qml.PauliZ: lambda op, w, a: _half_turn(w[0], Z),
    qml.Hadamard: lambda op, w, a: _half_turn(w[0], (math.sqrt(0.5), 0.0, math.sqrt(0.5))),
    qml.S: lambda op, w, a: _half_turn(w[0], Z, 0.5),
    qml.T: lambda op, w, a: _half_turn(w[0], Z, 0.25),
    qml.SX: lambda op, w, a: _half_turn(w[0], X, 0.5),
    qml.CNOT: lambda op, w, a: [_Flip(w[1], _ones(w[:1]))],
    qml.Toffoli: lambda op, w, a: [_Flip(w[2], _ones(w[:2]))],
    qml.CZ: lambda op, w, a: [_Phase(_constant(math.pi), _ones(w))],
    qml.CCZ: lambda op, w, a: [_Phase(_constant(math.pi), _ones(w))],
    qml.CY: lambda op, w, a: _between(_Turn(w[1], Z, _constant(-HALF_PI)), [_Flip(w[1], _ones(w[:1]))]),
    qml.CH: lambda op, w, a: _between(_Turn(w[1], Y, _constant(-HALF_PI / 2)), [_Phase(_constant(math.pi), _ones(w))]),
    qml.SWAP: lambda op, w, a: [_Swap(w)],
    qml.CSWAP: lambda op, w, a: [_Swap(w[1:], _ones(w[:1]))],
    qml.ISWAP: lambda op, w, a: _swapped_phase(w, _constant(HALF_PI)),
    qml.PSWAP: lambda op, w, a: _swapped_phase(w, a[0]),
    qml.SISWAP: lambda op, w, a: [_Word(w, letters, _constant(-math.pi / 4)) for letters in ("XX", "YY")],
    qml.IsingXX: lambda op, w, a: [_Word(w, "XX", a[0])],
    qml.IsingYY: lambda op, w, a: [_Word(w, "YY", a[0])],
    qml.IsingZZ: lambda op, w, a: [_Word(w, "ZZ", a[0])],
    qml.MultiRZ: lambda op, w, a: [_Word(w, "Z" * len(w), a[0])],
    qml.PauliRot: lambda op, w, a: _pauli_rotation(w, op.hyperparameters["pauli_word"], a[0]),
    qml.ControlledPhaseShift: lambda op, w, a: [_Phase(a[0], _ones(w))],
    qml.CRX: lambda op, w, a: [_Turn(w[1], X, a[0], _ones(w[:1]))],
    qml.CRY: lambda op, w, a: [_Turn(w[1], Y, a[0], _ones(w[:1]))],
    qml.CRZ: lambda op, w, a: [_Turn(w[1], Z, a[0], _ones(w[:1]))],
    qml.CRot: lambda op, w, a: _control(_rot(w[1], *a), _ones(w[:1])),
    qml.GlobalPhase: lambda op, w, a: [_Phase(_times(a[0], -1))],
    qml.Identity: lambda op, w, a: [],
    qml.Barrier: lambda op, w, a: [],
    qml.WireCut: lambda op, w, a: [],
    qml.Snapshot: lambda op, w, a: [],
    qml.QubitUnitary: lambda op, w, a: _matrix(op, _data(op), w),
    qml.DiagonalQubitUnitary: _diagonal,
}
_MATRICES = (qml.QubitUnitary, qml.DiagonalQubitUnitary)  #: their parameter is a constant of the program
#: All that the program of these depends on are their wires and the axes of their parameters.
_PLAIN = frozenset(_GATES) - {qml.PauliRot, *_MATRICES}
_PLAIN_CONTROLLED = frozenset(kind for kind in _PLAIN if issubclass(kind, Controlled))


def _lower(op: Operator, wires: tuple[int, ...], angles: _Angles) -> list[_Instruction]:
    """The instructions of one gate."""
    builder = _GATES.get(type(op))
    if builder is not None:
        return builder(op, wires, angles)
    for kind, wrapper in _WRAPPERS:
        if isinstance(op, kind):
            return wrapper(op, wires, angles)
    if isinstance(op, Operation):
        if isinstance(op, qml.ops.Evolution):
            # Asked for its generator it would ask for the truth of a whole batch of angles.
            return _generated(op, -1 * op.base, wires, angles[0])
        if op.has_generator and op.ndim_params == (0,):
            return _generated(op, op.generator(), wires, angles[0])
        if op.has_matrix and not angles:
            return _matrix(op, op.matrix(), wires)
    raise _unsupported(op, "it is not a gate that the engine knows")


def _generated(op: Operator, generator: Operator, wires: tuple[int, ...], angle: Angle) -> list[_Instruction]:
    """exp(i angle G) by the Pauli words of its generator G where they commute, else by its eigenvectors."""
    sentence = generator.pauli_rep
    if sentence is None:
        if len(wires) > MAX_STRINGS:
            raise _unsupported(op, f"it has more than {MAX_STRINGS} wires")
        matrix = qml.matrix(generator, wire_order=op.wires)
        if not np.any(matrix - np.diag(np.diagonal(matrix))):
            return _phases(np.real(np.diagonal(matrix)), wires, angle)
        sentence = qml.pauli_decompose(matrix, wire_order=op.wires, pauli=True, check_hermitian=False)
    index = dict(zip(op.wires, wires, strict=True))
    if any(abs(np.imag(c)) > EXACT for c in sentence.values()):
        raise _unsupported(op, "its generator is not Hermitian")
    words = {word: float(np.real(c)) for word, c in sentence.items() if abs(c) > 1e-14}
    commute = all(a.commutes_with(b) for a, b in combinations(words, 2))
    if commute and sum(any(letter != "Z" for letter in word.values()) for word in words) <= MAX_WORDS:
        return [
            _Word(tuple(index[w] for w in word), "".join(word.values()), _times(angle, -2 * c))
            if word
            else _Phase(_times(angle, c))
            for word, c in words.items()
        ]
    values, vectors = np.linalg.eigh(sentence.to_mat(op.wires))
    return [_Matrix(wires, vectors, -values, angle)]


def _matrix(op: Operator, matrix: np.ndarray, wires: tuple[int, ...]) -> list[_Instruction]:
    """A constant unitary; one that rounding has left off by more than `EXACT` is multiplied as it is."""
    error = np.abs(matrix @ matrix.conj().T - np.eye(len(matrix))).max()
    if not error <= ROUNDED:
        raise _unsupported(op, "its matrix is not unitary")
    exact = error <= EXACT
    if exact and not np.any(matrix - np.diag(np.diagonal(matrix))) and len(wires) <= MAX_STRINGS:
        return _phases(np.angle(np.diagonal(matrix)), wires, None)
    if exact and len(wires) == 1:
        phase = np.angle(np.linalg.det(matrix)) / 2
        special = matrix * np.exp(-1j * phase)  # cos(a/2) - i sin(a/2) axis.sigma
        sines = np.array([-special[0, 1].imag, -special[0, 1].real, -special[0, 0].imag])
        norm = np.linalg.norm(sines)
        axis = tuple((sines / norm).tolist()) if norm > 1e-12 else Z
        turn = _Turn(wires[0], axis, _constant(2 * math.atan2(norm, special[0, 0].real)))
        return [_Phase(_constant(phase)), turn]
    return [_Matrix(wires, np.asarray(matrix, dtype=complex))]


def is_unitary(op: Operator) -> bool:
    """Whether the matrix or the diagonal that an operation holds is unitary, up to single precision."""
    values = np.asarray(op.data[0])
    if isinstance(op, qml.DiagonalQubitUnitary):
        return bool(np.all(np.abs(np.abs(values) - 1) <= ROUNDED))
    product = values @ np.conj(np.swapaxes(values, -1, -2))
    return bool(np.all(np.abs(product - np.eye(values.shape[-1])) <= ROUNDED))


def _phases(diagonal: np.ndarray, wires: tuple[int, ...], angle: Angle | None) -> list[_Instruction]:
    """exp(i diagonal), times `angle` in the exponent where there is one, as phases of Z words (Walsh-Hadamard transform)."""
    n = len(wires)
    if n > MAX_STRINGS:
        raise UnsupportedCircuit(
            f"The engine cannot run a diagonal gate on {n} wires, only up to {MAX_STRINGS}: "
            "write it as smaller gates, or run this circuit on default.qubit."
        )
    coefficients = np.asarray(diagonal, dtype=float).reshape((2,) * n)
    for axis in range(n):
        a, b = np.take(coefficients, 0, axis), np.take(coefficients, 1, axis)
        coefficients = np.stack([(a + b) / 2, (a - b) / 2], axis)
    found: list[_Instruction] = []
    for bits in np.argwhere(np.abs(coefficients) > 1e-14):
        value = float(coefficients[tuple(bits)])
        turned = _constant(value) if angle is None else _times(angle, value)
        on = tuple(w for w, bit in zip(wires, bits, strict=True) if bit)
        found.append(_Word(on, "Z" * len(on), _times(turned, -2)) if on else _Phase(turned))
    return found


def _control(instructions: list[_Instruction], controls: _Controls) -> list[_Instruction]:
    return [replace(item, controls=controls + item.controls) for item in instructions]


def _reverse(instructions: list[_Instruction]) -> list[_Instruction]:
    return [item.adjoint() for item in reversed(instructions)]


def _data(op: Operator) -> np.ndarray:
    """The constant that a matrix gate or a basis state holds, which must be a plain array."""
    value = op.data[0]
    if not isinstance(value, np.ndarray | list | tuple):
        raise _unsupported(op, f"it holds a {type(value).__name__}, and must hold a NumPy array")
    value = np.asarray(value)
    if value.ndim != op.ndim_params[0]:
        raise _unsupported(op, "its constants are broadcast over a batch")
    return value


def _unsupported(op: object, why: str) -> UnsupportedCircuit:
    name = getattr(op, "name", type(op).__name__)
    return UnsupportedCircuit(f"The engine cannot run {name}: {why}; write it as standard gates, or use default.qubit.")


# --- layers ----------------------------------------------------------------------------------------------------------------

_Qubit = tuple[int, int]  #: (x_mask, z_mask); a Z string of mask m counts as (0, m)


def _clash(a: _Qubit, b: _Qubit) -> bool:
    """Whether gates on two virtual qubits need not commute."""
    return bool(((a[0] & b[1]).bit_count() | (a[1] & b[0]).bit_count()) & 1)


class _Draft:
    """A layer under construction."""

    def __init__(self) -> None:
        self.strings: list[ZString] = []
        self.runs: dict[_Qubit, list[Rotation]] = {}
        self.sample_rotations: list[SampleRotation] = []
        self.blocks: list[Block] = []
        self.masks: dict[int, None] = {}  #: of the strings
        self.turned: dict[_Qubit, None] = {}  #: virtual qubits of rotations and blocks

    def freeze(self) -> Layer:
        constants: dict[int, float] = {}
        for s in self.strings:
            if s.angle.kind is Kind.CONSTANT:
                constants[s.mask] = constants.get(s.mask, 0.0) + s.angle.offset
        return Layer(
            (
                *(s for s in self.strings if s.angle.kind is Kind.SHARED),
                *(ZString(mask, _constant(value)) for mask, value in constants.items() if abs(value) > 1e-14),
            ),
            tuple(s for s in self.strings if s.angle.kind is Kind.SAMPLE),
            tuple(Run(x, z, tuple(rotations)) for (x, z), rotations in self.runs.items()),
            tuple(self.sample_rotations),
            tuple(self.blocks),
        )


class _Schedule:
    """Items in the earliest layer that commutation allows; one-qubit gates before all others go to the product state."""

    def __init__(self, n_qubits: int, from_product: bool) -> None:
        self.n = n_qubits
        self.product: list[list[Rotation]] | None = [[] for _ in range(n_qubits)] if from_product else None
        self.drafts: list[_Draft] = []

    def string(self, mask: int, angle: Angle) -> None:
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

    def rotate(self, qubit: _Qubit, axis: _Axis, angle: Angle) -> None:
        """A rotation about any axis, of any kind."""
        about_x, about_y, about_z = (abs(component) > 1 - 1e-12 for component in axis)
        if about_z:
            self.string(qubit[1], _times(angle, round(axis[2])))
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
            draft.sample_rotations.append(SampleRotation(x, z, _times(angle, round(axis[1]))))
            draft.turned[qubit] = None
        else:
            turn, by = _turn_between(Y, axis)
            self.rotate(qubit, turn, _constant(-by))
            self.rotate(qubit, Y, angle)
            self.rotate(qubit, turn, _constant(by))

    def block(self, block: Block) -> None:
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

    def _last_turn(self, qubit: _Qubit) -> int:
        """The last layer with a rotation or block that the item need not commute with, or -1."""
        for level in range(len(self.drafts) - 1, -1, -1):
            if any(_clash(qubit, other) for other in self.drafts[level].turned):
                return level
        return -1

    def _last_clash(self, qubit: _Qubit) -> tuple[int, bool]:
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
        seen: dict[_Qubit, None] = {(term.x_mask, term.z_mask): None for output in outputs for term in output}

        def hidden(qubits: Sequence[_Qubit]) -> bool:
            return not any(_clash(qubit, other) for qubit in qubits for other in reversed(seen))

        for draft in reversed(self.drafts):
            keep: list[_Qubit] = []
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
        layers = [draft.freeze() for draft in self.drafts]
        while layers and not any(vars(layers[-1]).values()):
            layers.pop()
        if layers and layers[-1].runs:  # engines hand the last phase of a run to the next layer
            layers.append(Layer())
        return tuple(layers)


def _turn_between(start: _Axis, end: _Axis) -> tuple[_Axis, float]:
    """Axis and angle of a rotation that takes the unit vector `start` to `end`, which is not its opposite."""
    axis = np.cross(start, end)
    norm = float(np.linalg.norm(axis))
    if norm < 1e-12:
        return X, 0.0
    return tuple((axis / norm).tolist()), math.atan2(norm, float(np.dot(start, end)))


# --- wires to the physical frame -------------------------------------------------------------------------------------------


class _Frame:
    """The masks and flips of the wires, and the schedule that instructions are added to."""

    def __init__(self, n_qubits: int, from_product: bool) -> None:
        self.x = [1 << (n_qubits - 1 - w) for w in range(n_qubits)]
        self.z = list(self.x)
        self.flip = [0] * n_qubits
        self.phase: list[Angle] = []
        self.schedule = _Schedule(n_qubits, from_product)

    def add(self, item: _Instruction) -> None:
        match item:
            case _Turn():
                w = item.wire
                self._turn((self.x[w], self.z[w]), self._flipped(item.axis, w), item.angle, item.controls)
            case _Word():
                self._word(item)
            case _Phase():
                self._phase(item)
            case _Flip():
                self._flip(item)
            case _Swap():
                self._swap(item)
            case _Matrix():
                self._matrix(item)

    def term(self, wires: Iterable[int], letters: Iterable[str], coefficient: float) -> Term:
        """A Pauli word of wires in the physical frame."""
        x, z, power, sign = self._pauli(wires, letters)
        return Term(coefficient * sign, power % 4, x, z)

    def _flipped(self, axis: _Axis, wire: int) -> _Axis:
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

    def _subsets(self, controls: _Controls) -> list[tuple[int, float]]:
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

    def _turn(self, qubit: _Qubit, axis: _Axis, angle: Angle, controls: _Controls) -> None:
        if not controls:
            self.schedule.rotate(qubit, axis, angle)
            return
        sign = -1 if axis[2] < 0 else 1  # the same rotation about the opposite axis
        turn, by = _turn_between(Z, tuple(sign * component for component in axis))
        if by:
            self.schedule.rotate(qubit, turn, _constant(-by))
        for mask, coefficient in self._subsets(controls):
            self.schedule.string(mask ^ qubit[1], _times(angle, sign * coefficient))
        if by:
            self.schedule.rotate(qubit, turn, _constant(by))

    def _word(self, item: _Word) -> None:
        x, z, power, sign = self._pauli(item.wires, item.letters)
        if not x:
            for mask, coefficient in self._subsets(item.controls):
                self.schedule.string(mask ^ z, _times(item.angle, sign * coefficient))
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
        self.schedule.string(z ^ pivot, _constant(-HALF_PI))
        self._turn((x, pivot), (0.0, float(-sign), 0.0), item.angle, item.controls)
        self.schedule.string(z ^ pivot, _constant(HALF_PI))

    def _phase(self, item: _Phase) -> None:
        for mask, coefficient in self._subsets(item.controls):
            if mask:
                self.schedule.string(mask, _times(item.angle, -2 * coefficient))
            else:
                self.phase.append(_times(item.angle, coefficient))

    def _flip(self, item: _Flip) -> None:
        t = item.wire
        if len(item.controls) > 1:  # the phase -1 between two changes of basis
            half = _Turn(t, Y, _constant(HALF_PI))
            for part in (half.adjoint(), _Phase(_constant(math.pi), (*item.controls, (t, 1))), half):
                self.add(part)
            return
        for c, value in item.controls:
            self.z[t] ^= self.z[c]
            self.flip[t] ^= self.flip[c] ^ 1 ^ value
            self.x[c] ^= self.x[t]
        if not item.controls:
            self.flip[t] ^= 1

    def _swap(self, item: _Swap) -> None:
        a, b = item.wires
        if item.controls:
            for part in (_Flip(a, ((b, 1),)), _Flip(b, (*item.controls, (a, 1))), _Flip(a, ((b, 1),))):
                self.add(part)
            return
        for values in (self.x, self.z, self.flip):
            values[a], values[b] = values[b], values[a]

    def _matrix(self, item: _Matrix) -> None:
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


# --- tapes -----------------------------------------------------------------------------------------------------------------


def _ndim(value: object) -> int:
    """Number of axes of a parameter of any interface, without reading it."""
    found = getattr(value, "ndim", None)
    return qml.math.ndim(value) if found is None else found


def are_angles(op: Operator) -> list[bool]:
    """For each parameter whether it is an angle; the others are constant matrices."""
    if isinstance(op, Prod):
        return [found for factor in op.operands for found in are_angles(factor)]
    if isinstance(op, Adjoint | Controlled | Pow):
        return are_angles(op.base)
    return [not isinstance(op, _MATRICES)] * len(op.data)


def number_kind(value: object) -> str:
    """ "real" or "complex" for a number, an array or a tensor of any interface; "none" for what is no number."""
    if isinstance(value, bool | int | float):
        return "real"
    name = str(getattr(value, "dtype", None) or qml.math.get_dtype_name(value))
    if "complex" in name:
        return "complex"
    return "real" if any(part in name for part in ("float", "int", "bool")) else "none"


def _described(value: object) -> str:
    return "complex" if number_kind(value) == "complex" else f"a {type(value).__name__}"


def _angles(op: Operator, position: int, shared: list, sample: list) -> list[Angle | None]:
    """The parameters of a gate as angles, entered into `shared` and `sample`; None for constant matrices."""
    found: list[Angle | None] = []
    for i, (value, is_angle) in enumerate(zip(op.data, are_angles(op), strict=True)):
        if not is_angle:
            found.append(None)
            continue
        ndim = _ndim(value)
        if ndim > 1:
            raise _unsupported(op, f"its parameter {i} has {ndim} axes, and may have one, the batch")
        if number_kind(value) != "real":
            raise _unsupported(op, f"its parameter {i} is {_described(value)}, and an angle is a real number")
        entries, kind = (sample, Kind.SAMPLE) if ndim else (shared, Kind.SHARED)
        found.append(Angle(kind, len(entries), 1.0))
        entries.append((position, i))
    return found


def _is_constant(value: object) -> bool:
    return isinstance(value, int | float | complex | np.number | np.ndarray)


def _has_constants(sentence: PauliSentence) -> bool:
    return all(_is_constant(c) and np.ndim(c) == 0 for c in sentence.values())


def _sentence(observable: Operator) -> PauliSentence | None:
    """An observable as Pauli words with real, constant coefficients, or None."""
    sentence = observable.pauli_rep
    if sentence is None and len(observable.wires) <= MAX_OBSERVABLE and all(map(_is_constant, observable.data)):
        matrix = qml.matrix(observable, wire_order=observable.wires)
        sentence = qml.pauli_decompose(matrix, wire_order=observable.wires, pauli=True, check_hermitian=False)
    if sentence is None or not _has_constants(sentence):
        return None
    return sentence if all(abs(np.imag(c)) < 1e-12 for c in sentence.values()) else None


def _outputs(tape: QuantumScript, frame: _Frame, index: dict) -> tuple[tuple[Term, ...], ...]:
    found = []
    for measurement in tape.measurements:
        expectation = isinstance(measurement, ExpectationMP) and measurement.obs is not None
        sentence = _sentence(measurement.obs) if expectation else None
        if sentence is None:
            return ()
        found.append(
            tuple(
                frame.term([index[w] for w in word], word.values(), float(np.real(coefficient)))
                for word, coefficient in sentence.items()
            )
        )
    return tuple(found)


def _compile(tape: QuantumScript, wires: Sequence[Hashable]) -> Compiled:
    index = {wire: i for i, wire in enumerate(wires)}
    missing = [wire for wire in tape.wires if wire not in index]
    if missing:
        raise UnsupportedCircuit(f"The circuit uses wire {missing[0]!r}, and the wires are {list(index)}: add it to them.")
    operations = tape.operations
    initial = 0 if operations and isinstance(operations[0], qml.StatePrep) else None
    frame = _Frame(len(index), initial is None)
    shared: list[tuple[int, int]] = []
    sample: list[tuple[int, int]] = []
    first = initial is None
    for position, op in enumerate(operations):
        if position == initial:
            continue
        at = tuple(index[w] for w in op.wires)
        if isinstance(op, qml.BasisState):
            if not first:
                raise _unsupported(op, "a state can be prepared only at the start")
            for wire, bit in zip(at, _data(op), strict=True):
                frame.flip[wire] = int(bit)
            continue
        if isinstance(op, qml.StatePrep):
            raise _unsupported(op, "a state can be prepared only at the start")
        first = False
        for item in _lower(op, at, _angles(op, position, shared, sample)):
            frame.add(item)
    outputs = _outputs(tape, frame, index)
    if outputs:
        frame.schedule.prune(outputs)
    product = frame.schedule.product
    program = Program(
        n_qubits=len(index),
        n_shared=len(shared),
        n_sample=len(sample),
        product=None if product is None else tuple(tuple(rotations) for rotations in product),
        layers=frame.schedule.layers(),
        frame=tuple(zip(frame.z, frame.flip, strict=True)),
        outputs=outputs,
        phase=tuple(frame.phase),
    )
    return Compiled(program, tuple(shared), tuple(sample), initial)


def is_pennylanes(kind: type) -> bool:
    """Whether PennyLane made a class. What a class from elsewhere computes may follow from anything."""
    return kind.__module__.partition(".")[0] == "pennylane"


def _freeze(value: object) -> Hashable:
    """A constant, with all operators, arrays and containers in it, as something to compare by content.

    Raises:
        UnsupportedCircuit: a value whose content cannot be compared, as an operation or a function from elsewhere.
    """
    if value is None or isinstance(value, bool | str | bytes | slice):
        return type(value), value if not isinstance(value, slice) else (value.start, value.stop, value.step)
    if isinstance(value, int | float | complex | np.number):
        return type(value).__name__, value if value == value else "nan"
    if isinstance(value, np.ndarray):
        if value.dtype == object:
            raise UnsupportedCircuit("The engine cannot compare an array of objects: pass an array of numbers.")
        return value.shape, value.dtype.str, value.tobytes()
    if isinstance(value, Operator):
        if not is_pennylanes(type(value)):
            raise UnsupportedCircuit(f"The engine cannot tell what decides {value.name}, an operation from elsewhere.")
        leaves, metadata = value._flatten()
        return type(value), value.wires.labels, _freeze(leaves), _freeze(metadata)
    if isinstance(value, MeasurementProcess) and is_pennylanes(type(value)):
        return type(value), *map(_freeze, value._flatten())
    if isinstance(value, QuantumScript):
        return _freeze(value.operations), _freeze(value.measurements)
    if isinstance(value, qml.wires.Wires):
        return value.labels
    if isinstance(value, dict):
        return type(value).__name__, tuple((_freeze(key), _freeze(part)) for key, part in value.items())
    if isinstance(value, list | tuple):
        return type(value).__name__, tuple(map(_freeze, value))
    if isinstance(value, set | frozenset):
        return "set", frozenset(map(_freeze, value))
    if issparse(value):
        value = value.tocsr()
        return "sparse", value.shape, _freeze(value.data), _freeze(value.indices), _freeze(value.indptr)
    if isinstance(value, type) and is_pennylanes(value):
        return value
    raise UnsupportedCircuit(
        f"The engine cannot read {type(value).__name__} values of constant matrices and states: "
        "pass them as NumPy arrays, or run this circuit on default.qubit."
    )


def _operation_key(op: Operator) -> Hashable:
    """Type, wires, axes of the parameters, and all else that decides the gates.

    Raises:
        UnsupportedCircuit: an operation that is not PennyLane's, or has a value whose content cannot be compared.
    """
    kind = type(op)
    if not is_pennylanes(kind):
        raise UnsupportedCircuit(f"The engine cannot tell what decides {op.name}, an operation from elsewhere.")
    if kind in _PLAIN_CONTROLLED:  # what op.wires adds up, without the making of new Wires
        hyperparameters = op.hyperparameters
        labels = hyperparameters["control_wires"].labels + hyperparameters["base"].wires.labels
    else:
        labels = op.wires.labels
    data = op.data
    ndims = tuple([_ndim(value) for value in data]) if data else ()
    return (kind, labels, ndims) if kind in _PLAIN else (kind, labels, ndims, _static(op))


def _static(op: Operator) -> Hashable:
    """What the program of a gate depends on besides its type, wires and the axes of its parameters."""
    if isinstance(op, Controlled):
        return tuple(map(bool, op.control_values)), op.control_wires.labels, _operation_key(op.base)
    if isinstance(op, Adjoint):
        return _operation_key(op.base)
    if isinstance(op, Pow):
        return _freeze(op.z), _operation_key(op.base)
    if isinstance(op, Prod):
        return tuple(map(_operation_key, op.operands))
    if isinstance(op, (qml.BasisState, *_MATRICES)):
        return _freeze(op.data)
    if isinstance(op, qml.StatePrep) or not isinstance(op, Operator):
        return None
    leaves, metadata = op._flatten()
    held = tuple(_freeze(leaf) for leaf in leaves if isinstance(leaf, Operator | list | tuple | QuantumScript))
    return held, _freeze(metadata)


def _measurement_key(measurement: MeasurementProcess) -> Hashable:
    """What the outputs depend on; None where the caller works from the state."""
    observable = measurement.obs
    if observable is None or not isinstance(measurement, ExpectationMP):
        return None
    if type(observable) in _PLAIN:
        return type(observable), observable.wires.labels
    sentence = observable.pauli_rep
    if sentence is None:
        return _freeze(observable) if all(map(_is_constant, observable.data)) else None
    return tuple((word, complex(c)) for word, c in sentence.items()) if _has_constants(sentence) else None


def structure_key(tape: QuantumScript, wires: Sequence[Hashable] | None = None) -> Hashable:
    """A key that is equal for tapes that compile to the same program.

    Args:
        tape: a circuit; of gate parameters only the number of axes is read, of constant matrices the values.
        wires: the wire order, by default tape.wires.

    Raises:
        UnsupportedCircuit: a constant matrix or a basis state is not a NumPy array.
    """
    return (
        tuple(tape.wires if wires is None else wires),
        tuple([_operation_key(op) for op in tape.operations]),
        tuple([_measurement_key(measurement) for measurement in tape.measurements]),
    )


class _Cache:
    """The last CACHE_SIZE results, by key."""

    def __init__(self) -> None:
        self.found: OrderedDict[Hashable, Any] = OrderedDict()
        self.lock = Lock()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        with self.lock:
            if key in self.found:
                self.found.move_to_end(key)
                return self.found[key]
        made = make()
        with self.lock:
            self.found[key] = made
            while len(self.found) > CACHE_SIZE:
                self.found.popitem(last=False)
        return made


_compiled = _Cache()
_supported = _Cache()


def compile_tape(tape: QuantumScript, wires: Sequence[Hashable] | None = None) -> Compiled:
    """Compile a circuit, once for each structure (see `structure_key`).

    Args:
        tape: operations and measurements; parameters with no axis are shared by the batch, those with one are per sample.
        wires: the wire order (first is most significant), by default tape.wires.

    Raises:
        UnsupportedCircuit: names the gate or structure that the engine cannot run.
    """
    order = tape.wires if wires is None else wires
    try:
        key = structure_key(tape, order)
    except UnsupportedCircuit:  # nothing says that another circuit is the same
        return _compile(tape, order)
    return _compiled.get(key, lambda: _compile(tape, order))


def _can_lower(op: Operator) -> bool:
    try:
        frame = _Frame(len(op.wires), from_product=True)
        for item in _lower(op, tuple(range(len(op.wires))), _angles(op, 0, [], [])):
            frame.add(item)
    except UnsupportedCircuit:
        return False
    return True


def supports(op: Operator) -> bool:
    """Whether the compiler knows a gate or state preparation; its place in the circuit is not looked at."""
    if type(op) in _PLAIN:
        return True
    if isinstance(op, qml.StatePrep | qml.BasisState):
        return is_pennylanes(type(op))
    try:
        key = _operation_key(op)
    except UnsupportedCircuit:
        return False
    return _supported.get(key, lambda: _can_lower(op))
