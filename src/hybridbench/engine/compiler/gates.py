"""Gates as instructions on wires."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain, combinations

import numpy as np
import pennylane as qml
from pennylane.operation import Operation, Operator
from pennylane.ops import Adjoint, Controlled, Pow, Prod

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
    X,
    Y,
    Z,
    constant,
    times,
    unsupported,
)
from hybridbench.engine.program import Angle

MAX_POWER = 8  #: how often a power repeats its gate
MAX_WORDS = 8  #: Pauli words beyond Z that a generator may have before a matrix is cheaper
EXACT = 1e-12  #: how far a matrix may be from a unitary one to be taken for rotations and phases
ROUNDED = 1e-5  #: how far it may be at all, as one that was made in single precision is; the adjoint method undoes gates
_Angles = Sequence[Angle | None]  #: of a gate's parameters, in their order; None stands for a constant matrix
_Builder = Callable[[Operator, tuple[int, ...], _Angles], list[Instruction]]


def _rot(wire: int, phi: Angle, theta: Angle, omega: Angle) -> list[Instruction]:
    return [Turn(wire, Z, phi), Turn(wire, Y, theta), Turn(wire, Z, omega)]


def _u3(wire: int, theta: Angle, phi: Angle, delta: Angle) -> list[Instruction]:
    return [Phase(times(phi, 0.5)), Phase(times(delta, 0.5)), *_rot(wire, delta, theta, phi)]


def _half_turn(wire: int, axis: Axis, part: float = 1.0) -> list[Instruction]:
    """axis.sigma to the power `part`."""
    return [Phase(constant(part * HALF_PI)), Turn(wire, axis, constant(part * math.pi))]


def _ones(wires: tuple[int, ...]) -> Controls:
    return tuple((wire, 1) for wire in wires)


def _between(first: Instruction, middle: list[Instruction]) -> list[Instruction]:
    """`middle` in the basis that `first` leads to."""
    return [first, *middle, first.adjoint()]


def _swapped_phase(wires: tuple[int, ...], angle: Angle) -> list[Instruction]:
    """SWAP, and exp(i angle) on 01 and 10."""
    return [Phase(times(angle, 0.5)), Word(wires, "ZZ", angle), Swap(wires)]


def _pauli_rotation(wires: tuple[int, ...], letters: str, angle: Angle) -> list[Instruction]:
    kept = [(wire, letter) for wire, letter in zip(wires, letters, strict=True) if letter != "I"]
    if not kept:
        return [Phase(times(angle, -0.5))]
    return [Word(tuple(wire for wire, _ in kept), "".join(letter for _, letter in kept), angle)]


def _diagonal(op: Operator, wires: tuple[int, ...], angles: _Angles) -> list[Instruction]:
    values = constant_of(op)
    if not np.allclose(np.abs(values), 1, rtol=0, atol=ROUNDED):
        raise unsupported(op, "its entries are not of modulus 1")
    if len(wires) <= MAX_STRINGS and np.allclose(np.abs(values), 1, rtol=0, atol=EXACT):
        return _phases(np.angle(values), wires, None)
    return [Matrix(wires, np.diag(values).astype(complex))]


def _adjoint(op: Adjoint, wires: tuple[int, ...], angles: _Angles) -> list[Instruction]:
    return _reverse(lower(op.base, wires, angles))


def _controlled(op: Controlled, wires: tuple[int, ...], angles: _Angles) -> list[Instruction]:
    n = len(op.control_wires)
    return _control(lower(op.base, wires[n:], angles), tuple(zip(wires[:n], map(int, op.control_values), strict=True)))


def _pow(op: Pow, wires: tuple[int, ...], angles: _Angles) -> list[Instruction]:
    if op.z == int(op.z) and abs(op.z) <= MAX_POWER:
        instructions = lower(op.base, wires, angles)
        return (instructions if op.z >= 0 else _reverse(instructions)) * abs(int(op.z))
    if any(angle is not None for angle in angles):
        raise unsupported(op, f"of gates with parameters it knows only whole powers up to {MAX_POWER}")
    return _matrix(op, qml.matrix(op), wires)


def _prod(op: Prod, wires: tuple[int, ...], angles: _Angles) -> list[Instruction]:
    index, start, found = dict(zip(op.wires, wires, strict=True)), 0, []
    for factor in op.operands:
        stop = start + len(factor.data)
        found.append(lower(factor, tuple(index[w] for w in factor.wires), angles[start:stop]))
        start = stop
    return list(chain(*reversed(found)))  # the last factor acts first


_WRAPPERS: tuple[tuple[type, _Builder], ...] = (
    (Adjoint, _adjoint),
    (Controlled, _controlled),
    (Pow, _pow),
    (Prod, _prod),
)
_GATES: dict[type, _Builder] = {
    qml.RX: lambda op, w, a: [Turn(w[0], X, a[0])],
    qml.RY: lambda op, w, a: [Turn(w[0], Y, a[0])],
    qml.RZ: lambda op, w, a: [Turn(w[0], Z, a[0])],
    qml.Rot: lambda op, w, a: _rot(w[0], *a),
    qml.PhaseShift: lambda op, w, a: [Phase(a[0], _ones(w))],
    qml.U1: lambda op, w, a: [Phase(a[0], _ones(w))],
    qml.U2: lambda op, w, a: _u3(w[0], constant(HALF_PI), *a),
    qml.U3: lambda op, w, a: _u3(w[0], *a),
    qml.PauliX: lambda op, w, a: [Flip(w[0])],
    qml.PauliY: lambda op, w, a: _half_turn(w[0], Y),
    qml.PauliZ: lambda op, w, a: _half_turn(w[0], Z),
    qml.Hadamard: lambda op, w, a: _half_turn(w[0], (math.sqrt(0.5), 0.0, math.sqrt(0.5))),
    qml.S: lambda op, w, a: _half_turn(w[0], Z, 0.5),
    qml.T: lambda op, w, a: _half_turn(w[0], Z, 0.25),
    qml.SX: lambda op, w, a: _half_turn(w[0], X, 0.5),
    qml.CNOT: lambda op, w, a: [Flip(w[1], _ones(w[:1]))],
    qml.Toffoli: lambda op, w, a: [Flip(w[2], _ones(w[:2]))],
    qml.CZ: lambda op, w, a: [Phase(constant(math.pi), _ones(w))],
    qml.CCZ: lambda op, w, a: [Phase(constant(math.pi), _ones(w))],
    qml.CY: lambda op, w, a: _between(Turn(w[1], Z, constant(-HALF_PI)), [Flip(w[1], _ones(w[:1]))]),
    qml.CH: lambda op, w, a: _between(Turn(w[1], Y, constant(-HALF_PI / 2)), [Phase(constant(math.pi), _ones(w))]),
    qml.SWAP: lambda op, w, a: [Swap(w)],
    qml.CSWAP: lambda op, w, a: [Swap(w[1:], _ones(w[:1]))],
    qml.ISWAP: lambda op, w, a: _swapped_phase(w, constant(HALF_PI)),
    qml.PSWAP: lambda op, w, a: _swapped_phase(w, a[0]),
    qml.SISWAP: lambda op, w, a: [Word(w, letters, constant(-math.pi / 4)) for letters in ("XX", "YY")],
    qml.IsingXX: lambda op, w, a: [Word(w, "XX", a[0])],
    qml.IsingYY: lambda op, w, a: [Word(w, "YY", a[0])],
    qml.IsingZZ: lambda op, w, a: [Word(w, "ZZ", a[0])],
    qml.MultiRZ: lambda op, w, a: [Word(w, "Z" * len(w), a[0])],
    qml.PauliRot: lambda op, w, a: _pauli_rotation(w, op.hyperparameters["pauli_word"], a[0]),
    qml.ControlledPhaseShift: lambda op, w, a: [Phase(a[0], _ones(w))],
    qml.CRX: lambda op, w, a: [Turn(w[1], X, a[0], _ones(w[:1]))],
    qml.CRY: lambda op, w, a: [Turn(w[1], Y, a[0], _ones(w[:1]))],
    qml.CRZ: lambda op, w, a: [Turn(w[1], Z, a[0], _ones(w[:1]))],
    qml.CRot: lambda op, w, a: _control(_rot(w[1], *a), _ones(w[:1])),
    qml.GlobalPhase: lambda op, w, a: [Phase(times(a[0], -1))],
    qml.Identity: lambda op, w, a: [],
    qml.Barrier: lambda op, w, a: [],
    qml.WireCut: lambda op, w, a: [],
    qml.Snapshot: lambda op, w, a: [],
    qml.QubitUnitary: lambda op, w, a: _matrix(op, constant_of(op), w),
    qml.DiagonalQubitUnitary: _diagonal,
}
MATRICES = (qml.QubitUnitary, qml.DiagonalQubitUnitary)  #: their parameter is a constant of the program
#: All that the program of these depends on are their wires and the axes of their parameters.
PLAIN = frozenset(_GATES) - {qml.PauliRot, *MATRICES}
PLAIN_CONTROLLED = frozenset(kind for kind in PLAIN if issubclass(kind, Controlled))


def lower(op: Operator, wires: tuple[int, ...], angles: _Angles) -> list[Instruction]:
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
    raise unsupported(op, "it is not a gate that the engine knows")


def _generated(op: Operator, generator: Operator, wires: tuple[int, ...], angle: Angle) -> list[Instruction]:
    """exp(i angle G) by the Pauli words of its generator G where they commute, else by its eigenvectors."""
    sentence = generator.pauli_rep
    if sentence is None:
        if len(wires) > MAX_STRINGS:
            raise unsupported(op, f"it has more than {MAX_STRINGS} wires")
        matrix = qml.matrix(generator, wire_order=op.wires)
        if not np.any(matrix - np.diag(np.diagonal(matrix))):
            return _phases(np.real(np.diagonal(matrix)), wires, angle)
        sentence = qml.pauli_decompose(matrix, wire_order=op.wires, pauli=True, check_hermitian=False)
    index = dict(zip(op.wires, wires, strict=True))
    if any(abs(np.imag(c)) > EXACT for c in sentence.values()):
        raise unsupported(op, "its generator is not Hermitian")
    words = {word: float(np.real(c)) for word, c in sentence.items() if abs(c) > 1e-14}
    commute = all(a.commutes_with(b) for a, b in combinations(words, 2))
    if commute and sum(any(letter != "Z" for letter in word.values()) for word in words) <= MAX_WORDS:
        return [
            Word(tuple(index[w] for w in word), "".join(word.values()), times(angle, -2 * c))
            if word
            else Phase(times(angle, c))
            for word, c in words.items()
        ]
    values, vectors = np.linalg.eigh(sentence.to_mat(op.wires))
    return [Matrix(wires, vectors, -values, angle)]


def _matrix(op: Operator, matrix: np.ndarray, wires: tuple[int, ...]) -> list[Instruction]:
    """A constant unitary; one that rounding has left off by more than `EXACT` is multiplied as it is."""
    error = np.abs(matrix @ matrix.conj().T - np.eye(len(matrix))).max()
    if not error <= ROUNDED:
        raise unsupported(op, "its matrix is not unitary")
    exact = error <= EXACT
    if exact and not np.any(matrix - np.diag(np.diagonal(matrix))) and len(wires) <= MAX_STRINGS:
        return _phases(np.angle(np.diagonal(matrix)), wires, None)
    if exact and len(wires) == 1:
        phase = np.angle(np.linalg.det(matrix)) / 2
        special = matrix * np.exp(-1j * phase)  # cos(a/2) - i sin(a/2) axis.sigma
        sines = np.array([-special[0, 1].imag, -special[0, 1].real, -special[0, 0].imag])
        norm = np.linalg.norm(sines)
        axis = tuple((sines / norm).tolist()) if norm > 1e-12 else Z
        turn = Turn(wires[0], axis, constant(2 * math.atan2(norm, special[0, 0].real)))
        return [Phase(constant(phase)), turn]
    return [Matrix(wires, np.asarray(matrix, dtype=complex))]


def is_unitary(op: Operator) -> bool:
    """Whether the matrix or the diagonal that an operation holds is unitary, up to single precision."""
    values = np.asarray(op.data[0])
    if isinstance(op, qml.DiagonalQubitUnitary):
        return bool(np.all(np.abs(np.abs(values) - 1) <= ROUNDED))
    product = values @ np.conj(np.swapaxes(values, -1, -2))
    return bool(np.all(np.abs(product - np.eye(values.shape[-1])) <= ROUNDED))


def _phases(diagonal: np.ndarray, wires: tuple[int, ...], angle: Angle | None) -> list[Instruction]:
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
    found: list[Instruction] = []
    for bits in np.argwhere(np.abs(coefficients) > 1e-14):
        value = float(coefficients[tuple(bits)])
        turned = constant(value) if angle is None else times(angle, value)
        on = tuple(w for w, bit in zip(wires, bits, strict=True) if bit)
        found.append(Word(on, "Z" * len(on), times(turned, -2)) if on else Phase(turned))
    return found


def _control(instructions: list[Instruction], controls: Controls) -> list[Instruction]:
    return [replace(item, controls=controls + item.controls) for item in instructions]


def _reverse(instructions: list[Instruction]) -> list[Instruction]:
    return [item.adjoint() for item in reversed(instructions)]


def constant_of(op: Operator) -> np.ndarray:
    """The constant that a matrix gate or a basis state holds, which must be a plain array."""
    value = op.data[0]
    if not isinstance(value, np.ndarray | list | tuple):
        raise unsupported(op, f"it holds a {type(value).__name__}, and must hold a NumPy array")
    value = np.asarray(value)
    if value.ndim != op.ndim_params[0]:
        raise unsupported(op, "its constants are broadcast over a batch")
    return value
