"""How the parameters of a tape reach the angles of its program, templates included.

A tape of a QNode holds few parameters: the array of an embedding, the array of an ansatz. Decomposing them into gates with
the arrays of a machine-learning framework costs an operation for each angle, forward and backward. So templates are
decomposed once, with numbers that are recognised in the gates: each angle is then known as offset + scale * one entry of one
parameter, and every later call only gathers.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pennylane as qml
from pennylane.operation import Operator
from pennylane.ops.functions import bind_new_parameters
from pennylane.tape import QuantumScript

from hybridbench.engine.compiler import (
    MAX_BLOCK,
    UnsupportedCircuit,
    are_angles,
    compile_tape,
    is_pennylanes,
    is_unitary,
    number_kind,
    structure_key,
    supports,
)
from hybridbench.engine.program import Program

UNKNOWN_BATCH = 11  #: rows that stand for a batch whose size is not known while a graph is traced; no usual other size
CACHE_SIZE = 1024  #: templates whose gates are kept
MATRICES = qml.QubitUnitary | qml.DiagonalQubitUnitary
TOLERANCE = 1e-9  #: relative, in recognising a parameter in a gate


@dataclass(frozen=True)
class Source:
    """The angle offset + scale * entry; `parameter` is a position in the tape's parameters, or None for a constant."""

    parameter: int | None
    entry: int = 0  #: of the flattened parameter; for one value per sample, of the flattened row
    scale: float = 1.0
    offset: float = 0.0

    def moved(self, position: int) -> Source:
        """The same source for an operation whose first parameter is at `position` in the tape."""
        return self if self.parameter is None else replace(self, parameter=self.parameter + position)


class Gather:
    """Rows of angles from a tape's parameters, and gradients of the angles back to the parameters.

    Args:
        sources: where each angle comes from.
        sizes: number of entries (of a row) of each parameter that a source names.
    """

    def __init__(self, sources: Sequence[Source], sizes: dict[int, int]) -> None:
        self.parameters = tuple(dict.fromkeys(s.parameter for s in sources if s.parameter is not None))
        starts = dict(zip(self.parameters, np.cumsum([0, *(sizes[p] for p in self.parameters)]), strict=False))
        total = sum(sizes[p] for p in self.parameters)
        index = np.array([0 if s.parameter is None else starts[s.parameter] + s.entry for s in sources], dtype=np.int64)
        scale = np.array([0.0 if s.parameter is None else s.scale for s in sources])
        offset = np.array([s.offset for s in sources])
        self.sizes = tuple(sizes[p] for p in self.parameters)
        self.length = len(sources)
        self.index = None if np.array_equal(index, np.arange(total)) else index
        self.scale = None if np.all(scale == 1) else scale
        self.offset = offset if np.any(offset) else None

    def read(self, parameters: Sequence[np.ndarray], rows: int) -> np.ndarray:
        """Angles, shape (rows, n), from the tape's parameters; a parameter has the same number of entries in each row."""
        if not self.parameters:
            return np.broadcast_to(np.zeros(self.length) if self.offset is None else self.offset, (rows, self.length))
        if max(self.sizes) == 1:
            values = np.stack([np.reshape(parameters[p], rows) for p in self.parameters], axis=1)
        else:
            values = np.concatenate([np.reshape(parameters[p], (rows, -1)) for p in self.parameters], axis=1)
        values = values if self.index is None else values[:, self.index]
        values = values if self.scale is None else values * self.scale
        return values if self.offset is None else values + self.offset

    def spread(self, gradient: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Pairs of a parameter's position and the gradient with respect to it, shape (rows, entries), from (rows, n)."""
        if not self.parameters:
            return
        gradient = gradient if self.scale is None else gradient * self.scale
        if self.index is not None:
            summed = np.zeros((sum(self.sizes), len(gradient)), gradient.dtype)
            np.add.at(summed, self.index, gradient.T)
            gradient = summed.T
        yield from zip(self.parameters, np.split(gradient, np.cumsum(self.sizes)[:-1], axis=1), strict=True)

    def tensors(self, tf: Any, parameters: Sequence[Any], dtype: Any, per_sample: bool) -> Any:
        """The same as `read` with TensorFlow's operations: shape (n,), or (batch, n) with `per_sample`."""
        if not self.parameters:
            values = tf.constant(np.zeros(self.length) if self.offset is None else self.offset, dtype)
            return tf.reshape(values, [1, -1]) if per_sample else values
        chosen = [parameters[p] for p in self.parameters]
        if len({getattr(p, "dtype", None) for p in chosen}) > 1 or not tf.is_tensor(chosen[0]):
            # A number of Python would become float32 in a cast.
            chosen = [tf.cast(p, dtype) if tf.is_tensor(p) else tf.constant(p, dtype) for p in chosen]
        if len(chosen) == 1:
            (values,) = chosen
            shape = [-1, self.sizes[0]] if per_sample else [-1]
            values = values if len(values.shape) == len(shape) else tf.reshape(values, shape)
        elif max(self.sizes) == 1:
            rank = int(per_sample)
            chosen = [p if len(p.shape) == rank else tf.reshape(p, [-1] * rank) for p in chosen]
            values = tf.stack(chosen, axis=rank)
        elif per_sample:
            values = tf.concat([tf.reshape(p, [-1, n]) for p, n in zip(chosen, self.sizes, strict=True)], axis=1)
        else:
            values = tf.concat([tf.reshape(p, [-1]) for p in chosen], axis=0)
        values = tf.cast(values, dtype)
        values = values if self.index is None else tf.gather(values, self.index, axis=-1)
        values = values if self.scale is None else values * tf.constant(self.scale, dtype)
        return values if self.offset is None else values + tf.constant(self.offset, dtype)


@dataclass(frozen=True, eq=False)
class Plan:
    """A program with the way from a tape's parameters to its angles.

    `program.outputs` are the tape's measurements, or () where the caller measures the state.
    """

    program: Program
    wires: tuple[Hashable, ...]  #: most significant first
    shared: Gather
    sample: Gather
    initial: int | None  #: position of the parameter that holds the first state, or None where the program has its own
    places: np.ndarray | None  #: which amplitude each entry of that parameter is
    batched: bool  #: whether results have a batch axis

    def rows(self, parameters: Sequence[Any]) -> int:
        """Samples of one call; 1 where there is no batch."""
        if self.sample.parameters:
            return shape(parameters[self.sample.parameters[0]])[0]
        return shape(parameters[self.initial])[0] if self.batched else 1

    def first_state(self, parameters: Sequence[np.ndarray]) -> np.ndarray | None:
        """The state vector that the program starts from, shape (1 or batch, 2**n) in wire order."""
        if self.initial is None:
            return None
        given = np.asarray(parameters[self.initial]).reshape(-1, len(self.places))
        state = np.zeros((len(given), 2 ** len(self.wires)), dtype=complex)
        state[:, self.places] = given
        return state

    def first_state_tensor(self, tf: Any, parameters: Sequence[Any], dtype: Any) -> Any:
        """The same with TensorFlow's operations."""
        if self.initial is None:
            return None
        given = parameters[self.initial]
        given = tf.cast(given, dtype) if tf.is_tensor(given) else tf.constant(given, dtype)
        given = tf.reshape(given, [-1, len(self.places)])
        if np.array_equal(self.places, np.arange(2 ** len(self.wires))):
            return given
        index = np.full(2 ** len(self.wires), len(self.places))
        index[self.places] = np.arange(len(self.places))
        return tf.gather(tf.concat([given, tf.zeros_like(given[:, :1])], axis=1), index, axis=1)


def make_plan(tape: QuantumScript, wires: Sequence[Hashable], from_state: bool) -> Plan:
    """Compile a tape of gates and templates.

    Args:
        tape: operations that `supports` or `trace` know, constant matrices as NumPy arrays.
        wires: the wire order.
        from_state: whether the caller measures the state, so that the program must not leave out what no output sees.

    Raises:
        UnsupportedCircuit: names the gate or structure that the engine cannot run.
    """
    gates: list[Operator] = []
    sources: list[tuple[Source | None, ...]] = []
    position = 0
    for op in tape.operations:
        found = [(op, tuple(map(Source, range(len(op.data)))))] if known(op) else trace(op)
        if found is None:
            raise UnsupportedCircuit(
                f"The engine cannot run {op.name} as it stands: decompose it, or run it on default.qubit."
            )
        gates.extend(gate for gate, _ in found)
        sources.extend(tuple(source.moved(position) for source in parts) for _, parts in found)
        position += len(op.data)
    shapes = [shape(value) for op in tape.operations for value in op.data]
    compiled = compile_tape(QuantumScript(gates, [] if from_state else tape.measurements), wires)
    program = compiled.program
    sizes = [int(np.prod([1 if n is None else n for n in found])) for found in shapes]
    row_sizes = [int(np.prod(found[1:])) for found in shapes]
    shared = Gather([sources[op][i] for op, i in compiled.shared], dict(enumerate(sizes)))
    sample = Gather([sources[op][i] for op, i in compiled.sample], dict(enumerate(row_sizes)))
    initial = places = None
    batched = bool(compiled.sample)
    if compiled.initial is not None:
        prepared = gates[compiled.initial]
        initial = sources[compiled.initial][0].parameter
        batched = batched or len(shapes[initial]) > 1
        places = _places([list(wires).index(w) for w in prepared.wires], len(wires))
    counts = {
        shapes[p][0] for p in (*sample.parameters, *([initial] if initial is not None and len(shapes[initial]) > 1 else ()))
    }
    counts.discard(None)
    if len(counts) > 1:
        raise ValueError(
            f"The parameters of the circuit have batches of different sizes: {', '.join(map(str, sorted(counts)))}."
        )
    return Plan(program, tuple(wires), shared, sample, initial, places, batched)


def _places(positions: Sequence[int], n_qubits: int) -> np.ndarray:
    """The amplitude that each basis state of some wires is, the other wires being in state 0."""
    entry = np.arange(2 ** len(positions))
    bits = (entry[:, None] >> np.arange(len(positions))[::-1]) & 1
    return bits @ (1 << (n_qubits - 1 - np.array(positions, dtype=np.int64)))


def shape(value: Any) -> tuple[int | None, ...]:
    """Shape of a parameter of any interface; None stands for a size that is not known while a graph is traced."""
    found = getattr(value, "shape", None)
    return tuple(qml.math.shape(value) if found is None else found)


def plan_key(tape: QuantumScript, wires: Sequence[Hashable]) -> Hashable:
    """A key that is equal for tapes with the same plan and the same kinds of measurements.

    Raises:
        UnsupportedCircuit: a constant matrix is not a NumPy array, or an operation is not PennyLane's.
    """
    return (
        structure_key(tape, wires),
        tuple((shape(value), number_kind(value)) for op in tape.operations for value in op.data),
        tuple((type(m), type(m.obs)) for m in tape.measurements),
        bool(tape.shots),
    )


def known(op: Operator) -> bool:
    """Whether the compiler takes an operation as it stands; the angles of its gates are real numbers."""
    if not supports(op):
        return False
    if isinstance(op, qml.operation.StatePrepBase):
        return True
    # Matrices are complex, also those within wrappers; PennyLane's own ways to write these as gates lose their phase.
    return all(number_kind(value) == "real" for value, is_angle in zip(op.data, are_angles(op), strict=True) if is_angle)


def draws(op: Operator) -> bool:
    """Whether an operation draws its gates anew at each call, as qml.RandomLayers(seed=None)."""
    return getattr(op, "hyperparameters", {}).get("seed", 0) is None or (
        getattr(op, "base", None) is not None and draws(op.base)
    )


def simpler(op: Operator) -> list[Operator]:
    """An operation as simpler ones; a constant one that has only a matrix as that matrix.

    Raises:
        UnsupportedCircuit: a matrix on more wires than the engine multiplies.
        DecompositionUndefinedError: there is no other way to write it.
    """
    held = op
    while hasattr(held, "base"):
        held = held.base
    if isinstance(held, MATRICES) and not supports(op) and isinstance(held.data[0], np.ndarray) and not is_unitary(held):
        raise UnsupportedCircuit(
            f"The engine cannot run {op.name}: its matrix is not unitary; run this circuit on default.qubit."
        )
    if isinstance(op, MATRICES) and len(op.wires) > MAX_BLOCK:
        raise UnsupportedCircuit(
            f"The engine cannot run {op.name} on {len(op.wires)} wires, only up to {MAX_BLOCK}: "
            "write it as smaller gates, or run this circuit on default.qubit."
        )
    try:
        found = op.decomposition()
        found = found if isinstance(found, list | tuple) else [found]  # a power of an evolution is an evolution
    except qml.operation.DecompositionUndefinedError:
        found = None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        if isinstance(op, MATRICES) or not op.has_matrix or _varies(op):
            raise UnsupportedCircuit(
                f"The engine cannot run {op.name}: run this circuit on default.qubit. Writing it as simpler gates raises "
                f"{type(error).__name__}: {error}"
            ) from error
        found = None
    if found is not None and (is_pennylanes(type(op)) or _agrees(op, found)):
        return found
    if isinstance(op, MATRICES) or not op.has_matrix or _varies(op):
        if found is not None:
            raise UnsupportedCircuit(f"The engine cannot run {op.name}: its decomposition is not its matrix.")
        if isinstance(op, qml.operation.Operation) and op.has_generator and op.ndim_params == (0,):
            return [qml.evolve(op.generator(), -1 * op.data[0])]
        raise qml.operation.DecompositionUndefinedError
    return [qml.QubitUnitary(np.asarray(qml.math.unwrap(op.matrix())), wires=op.wires)]


def _varies(op: Operator) -> bool:
    """Whether its parameters are trained, unknown or different for each sample."""
    return qml.operation.is_trainable(op) or op.batch_size is not None or any(map(qml.math.is_abstract, op.data))


def _agrees(op: Operator, decomposition: list[Operator]) -> bool:
    """Whether the gates of an operation from elsewhere multiply to its matrix, which `default.qubit` takes if it has one."""
    if not op.has_matrix or any(map(qml.math.is_abstract, op.data)) or len(op.wires) > MAX_BLOCK:
        return True
    wanted = qml.math.unwrap(op.matrix(wire_order=op.wires))
    tape = QuantumScript(
        [bind_new_parameters(gate, [np.asarray(qml.math.unwrap(v)) for v in gate.data]) for gate in decomposition]
    )
    return np.allclose(qml.math.unwrap(qml.matrix(tape, wire_order=op.wires)), wanted, atol=1e-9)


# --- templates -------------------------------------------------------------------------------------------------------------


Traced = list[tuple[Operator, tuple[Source, ...]]] | None
_traces: dict[Hashable, Traced] = {}


def trace(op: Operator) -> Traced:
    """Gates of a template with the source of each of their parameters, or None where its decomposition is not that simple.

    The template is decomposed with several sets of numbers as its parameters. Each number in a gate must be the same
    function offset + scale * entry of them in every set, and the gates must be the same, also for zeros, for ones and for
    the values at hand: otherwise gates depend on values, and the template must be decomposed anew on each call.

    Args:
        op: any operation; `Source.parameter` counts its own parameters.
    """
    if isinstance(op, qml.operation.StatePrepBase | MATRICES) or any(number_kind(value) != "real" for value in op.data):
        return None
    try:
        key = (structure_key(QuantumScript([op], []), op.wires), tuple(map(shape, op.data)))
    except UnsupportedCircuit:
        return None  # it keeps parameters where the compiler cannot follow them
    if key not in _traces:
        if len(_traces) >= CACHE_SIZE:
            _traces.clear()
        _traces[key] = _trace(op)
    return _traces[key]


def _trace(op: Operator) -> Traced:
    shapes = [tuple(UNKNOWN_BATCH if n is None else n for n in shape(value)) for value in op.data]
    rng = np.random.default_rng(0)
    sets = [[rng.uniform(0.1, 0.9, s) for s in shapes] for _ in range(3)]
    sets += [[np.zeros(s) for s in shapes], [np.ones(s) for s in shapes]]
    sets += [[rng.uniform(-size, size, s) for s in shapes] for size in (4.0, 4.0, 100.0)]  # of either sign, and large
    if not any(qml.math.is_abstract(value) for value in op.data):
        sets.append([np.asarray(qml.math.unwrap(value)) for value in op.data])
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            decomposed = [_gates(bind_new_parameters(op, values) if shapes else op) for values in sets]
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError, qml.operation.OperatorPropertyUndefined):
        return None  # it does not take any numbers (such as amplitudes, which have norm 1), or has no decomposition
    if len({structure_key(QuantumScript(gates, []), op.wires) for gates in decomposed}) > 1:
        return None
    found = []
    for gate, *variants in zip(*decomposed, strict=True):
        if isinstance(gate, MATRICES):  # a constant: the comparison above read it
            found.append((gate, (Source(None),)))
            continue
        parts = []
        for numbers in zip(gate.data, *(v.data for v in variants), strict=True):
            numbers = [np.asarray(n) for n in numbers]
            source = None if any(number_kind(n) != "real" for n in numbers) else _source(numbers[:4], sets[:3])
            if source is None or not all(_follows(source, n, s) for n, s in zip(numbers, sets, strict=True)):
                return None
            parts.append(source)
        found.append((gate, tuple(parts)))
    # A parameter without effect is one that the template keeps elsewhere too, as TrotterProduct its coefficients.
    used = {source.parameter for _, parts in found for source in parts}
    return found if used.issuperset(range(len(shapes))) else None


def _gates(op: Operator) -> list[Operator]:
    """Gates that the compiler knows, from repeated decomposition."""
    if known(op) and not isinstance(op, qml.operation.StatePrepBase):
        return [op]
    with qml.queuing.QueuingManager.stop_recording():
        parts = op.decomposition()
    return [gate for part in parts for gate in _gates(part)]


def _follows(source: Source, number: np.ndarray, parameters: Sequence[np.ndarray]) -> bool:
    """Whether a gate's parameter is what its source says for one set of numbers."""
    if source.parameter is None:
        wanted = np.full(number.shape, source.offset)
    else:
        values = np.asarray(parameters[source.parameter], float)
        rows = values.reshape(len(values), -1) if number.ndim else values.reshape(1, -1)
        wanted = (source.offset + source.scale * rows[:, source.entry]).reshape(number.shape)
    return np.allclose(number, wanted, rtol=TOLERANCE, atol=TOLERANCE)


def _source(numbers: Sequence[np.ndarray], sets: Sequence[Sequence[np.ndarray]]) -> Source | None:
    """The source of a gate's parameter from its values for three sets of numbers and, last, for zeros."""
    offset = numbers[3]
    rows = [number - offset for number in numbers[:3]]
    if offset.ndim > 1 or np.ptp(offset) > 0:
        return None
    constant = float(offset.flat[0])
    if not any(np.any(row) for row in rows):
        return Source(None, offset=constant) if offset.ndim == 0 else None
    for parameter in range(len(sets[0])):
        values = [s[parameter] for s in sets]
        if offset.ndim == 1:
            if not values[0].ndim or len(values[0]) != len(offset):
                continue
            columns = [v.reshape(len(v), -1) for v in values]
        else:
            columns = [v.reshape(1, -1) for v in values]
        ratios = [np.reshape(row, (-1, 1)) / column for row, column in zip(rows, columns, strict=True)]
        scale = ratios[0][:1]
        same = [np.all(np.abs(ratio - scale) <= TOLERANCE * np.abs(scale), axis=0) for ratio in ratios]
        entries = np.flatnonzero(np.logical_and.reduce(same))
        if len(entries) == 1:
            exact = float(scale[0, entries[0]])
            near = round(8 * exact) / 8  # the division above is not exact, and such factors are
            scale_found = near if abs(near - exact) < TOLERANCE else exact
            return Source(parameter, int(entries[0]), scale_found, constant)
    return None
