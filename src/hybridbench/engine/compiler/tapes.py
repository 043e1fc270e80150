"""Tapes to programs, once for each structure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import pennylane as qml
from pennylane.measurements import ExpectationMP
from pennylane.operation import Operator
from pennylane.ops import Adjoint, Controlled, Pow, Prod
from pennylane.pauli import PauliSentence
from pennylane.tape import QuantumScript

from hybridbench.engine.compiler.frame import Frame
from hybridbench.engine.compiler.gates import MATRICES, PLAIN, constant_of, lower
from hybridbench.engine.compiler.instructions import UnsupportedCircuit, unsupported
from hybridbench.engine.compiler.keys import has_constants, is_constant, is_pennylanes, n_axes, operation_key, structure_key
from hybridbench.engine.program import Angle, Kind, Program, Term

MAX_OBSERVABLE = 4  #: wires of an observable given as a matrix, which becomes up to 4**MAX_OBSERVABLE Pauli words
CACHE_SIZE = 256  #: compiled circuits that are kept


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


def are_angles(op: Operator) -> list[bool]:
    """For each parameter whether it is an angle; the others are constant matrices."""
    if isinstance(op, Prod):
        return [found for factor in op.operands for found in are_angles(factor)]
    if isinstance(op, Adjoint | Controlled | Pow):
        return are_angles(op.base)
    return [not isinstance(op, MATRICES)] * len(op.data)


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
        ndim = n_axes(value)
        if ndim > 1:
            raise unsupported(op, f"its parameter {i} has {ndim} axes, and may have one, the batch")
        if number_kind(value) != "real":
            raise unsupported(op, f"its parameter {i} is {_described(value)}, and an angle is a real number")
        entries, kind = (sample, Kind.SAMPLE) if ndim else (shared, Kind.SHARED)
        found.append(Angle(kind, len(entries), 1.0))
        entries.append((position, i))
    return found


def _sentence(observable: Operator) -> PauliSentence | None:
    """An observable as Pauli words with real, constant coefficients, or None."""
    sentence = observable.pauli_rep
    if sentence is None and len(observable.wires) <= MAX_OBSERVABLE and all(map(is_constant, observable.data)):
        matrix = qml.matrix(observable, wire_order=observable.wires)
        sentence = qml.pauli_decompose(matrix, wire_order=observable.wires, pauli=True, check_hermitian=False)
    if sentence is None or not has_constants(sentence):
        return None
    return sentence if all(abs(np.imag(c)) < 1e-12 for c in sentence.values()) else None


def _outputs(tape: QuantumScript, frame: Frame, index: dict) -> tuple[tuple[Term, ...], ...]:
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
    frame = Frame(len(index), initial is None)
    shared: list[tuple[int, int]] = []
    sample: list[tuple[int, int]] = []
    first = initial is None
    for position, op in enumerate(operations):
        if position == initial:
            continue
        at = tuple(index[w] for w in op.wires)
        if isinstance(op, qml.BasisState):
            if not first:
                raise unsupported(op, "a state can be prepared only at the start")
            for wire, bit in zip(at, constant_of(op), strict=True):
                frame.flip[wire] = int(bit)
            continue
        if isinstance(op, qml.StatePrep):
            raise unsupported(op, "a state can be prepared only at the start")
        first = False
        for item in lower(op, at, _angles(op, position, shared, sample)):
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
        frame = Frame(len(op.wires), from_product=True)
        for item in lower(op, tuple(range(len(op.wires))), _angles(op, 0, [], [])):
            frame.add(item)
    except UnsupportedCircuit:
        return False
    return True


def supports(op: Operator) -> bool:
    """Whether the compiler knows a gate or state preparation; its place in the circuit is not looked at."""
    if type(op) in PLAIN:
        return True
    if isinstance(op, qml.StatePrep | qml.BasisState):
        return is_pennylanes(type(op))
    try:
        key = operation_key(op)
    except UnsupportedCircuit:
        return False
    return _supported.get(key, lambda: _can_lower(op))
