"""A compiled QNode against PennyLane's own execution of it, before it is used."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hybridbench.stack import import_tensorflow

tf = import_tensorflow()
import pennylane as qml  # noqa: E402  (TensorFlow first, with its start-up notices held back)
from pennylane.ops.functions import bind_new_parameters  # noqa: E402

from hybridbench.engine import verification as V  # noqa: E402
from hybridbench.engine.compiler import UnsupportedCircuit  # noqa: E402

MOST_WORK = 2**22  #: gates times amplitudes of a batch that is compared as a whole

Compiled = Callable[[tf.Tensor, Sequence[tf.Tensor]], tf.Tensor]


class RefusedByPennylane(Exception):
    """PennyLane raises an error for the numbers that came in; the cause is that error."""


class Reference:
    """What PennyLane computes for one set of numbers, and along one direction from there.

    Args:
        qnode: the circuit.
        arguments: every argument of the quantum function, by name: eager tensors.
        tangents: how each argument moves, for those that do.
        batched: whether the inputs are a batch.

    Raises:
        UnsupportedCircuit: PennyLane cannot put numbers in double precision into an operation.
    """

    def __init__(
        self, qnode: qml.QNode, arguments: Mapping[str, tf.Tensor], tangents: Mapping[str, tf.Tensor], batched: bool
    ) -> None:
        self._qnode, self._batched = copy.copy(qnode), batched
        moving = list(tangents)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with tf.autodiff.ForwardAccumulator([arguments[k] for k in moving], [tangents[k] for k in moving]) as along:
                tape = self._qnode.construct((), dict(arguments))
                numbers = tape.get_parameters(trainable_only=False)
                moves = [along.jvp(value) if tf.is_tensor(value) else None for value in numbers]
        output = self._qnode._qfunc_output
        self._many = isinstance(output, list | tuple)
        self.numbers = [V.in_double(value.numpy()) if tf.is_tensor(value) else value for value in numbers]
        changed = [i for i, value in enumerate(numbers) if tf.is_tensor(value)]
        self.moves = {i: move.numpy() for i, move in enumerate(moves) if move is not None and np.any(move.numpy())}
        try:
            bound = V.bound(tape, [self.numbers[i] for i in changed], changed)
        except (IndexError, TypeError, ValueError) as error:
            raise UnsupportedCircuit(f"its gradient cannot be compared with PennyLane's: {error}") from error
        self._tape = bound.copy(measurements=[_with_numbers(m) for m in bound.measurements])

    def values(self, by: float = 0.0) -> V.Values:
        """The layer's results at a distance along the direction: a list of one array."""
        tape = self._tape
        if by:
            at = list(self.moves)
            tape = V.bound(tape, [self.numbers[i] + by * self.moves[i] for i in at], at)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            # Some transforms change the list of operations that they are handed.
            tapes, finish = self._qnode.transform_program((tape.copy(copy_operations=True),))
            found = finish(tuple(self._executed(part) for part in tapes))[0]
        parts = [np.asarray(part) for part in (found if isinstance(found, list | tuple) else [found])]
        if not self._many:
            return parts
        if self._batched:
            # PennyLane drops a batch of one from the value of a Hamiltonian.
            rows = max((len(part) for part in parts if part.ndim), default=1)
            parts = [part.reshape(rows, -1) for part in parts]
        return [np.hstack(parts)]

    def _executed(self, tape: qml.tape.QuantumScript) -> Any:
        wires = self._qnode.device.wires
        found = V.executed(tape, wires)
        return found[0] if len(found) == 1 else tuple(found)


def _with_numbers(measurement: Any) -> Any:
    """A measurement whose observable holds NumPy numbers."""
    if measurement.obs is None or not any(tf.is_tensor(value) for value in measurement.obs.data):
        return measurement
    data = [np.asarray(qml.math.unwrap(value)) for value in measurement.obs.data]
    return type(measurement)(obs=bind_new_parameters(measurement.obs, data))


def prove(
    compiled: Compiled,
    qnode: qml.QNode,
    names: Sequence[str],
    inputs: tf.TensorSpec,
    weights: Sequence[tf.Tensor],
    rows: tf.Tensor | None,
    gates: int,
    n_qubits: int,
    precision: str,
) -> None:
    """Compare a compiled circuit with PennyLane: at the inputs that came in, and at others.

    Args:
        compiled: results of inputs and weights.
        qnode: the circuit.
        names: of its arguments, the inputs first.
        inputs: shape and type; a batch counts as unknown.
        weights: their values now.
        rows: the inputs that came in, where they are known.
        gates: how many gates round.
        n_qubits: wires of the circuit.
        precision: complex type of the amplitudes.

    Raises:
        Mismatch: they differ.
        RefusedByPennylane: PennyLane raises an error for `rows`.
        UnsupportedCircuit: PennyLane takes none of the inputs that were tried, or no other numbers in an operation.
    """
    rng = np.random.default_rng(0)
    large = n_qubits > V.LARGE
    if not V.fits(n_qubits, 1 if inputs.shape.rank < 2 else V.rows_of(n_qubits)):
        V.tell_of_memory("The layer", n_qubits)
        return
    compared, error = 0, None
    for at_hand, x in _points(inputs, rows, V.rows_of(n_qubits), max(1, MOST_WORK // (max(gates, 1) * 2**n_qubits)), rng):
        if compared == 2:
            break
        given = weights if at_hand or not compared else [_moved(weight, rng) for weight in weights]
        arguments = dict(zip(names, [x, *map(tf.convert_to_tensor, given)], strict=True))
        moving = [name for name, value in arguments.items() if value.dtype.is_floating and not (compared and large)]
        along = V.directions([arguments[name].numpy() for name in moving], [False] * len(moving), rng)
        tangents = {name: tf.cast(d, arguments[name].dtype) for name, d in zip(moving, along, strict=True)}
        try:
            reference = Reference(qnode, arguments, tangents, x.shape.rank == 2)
            wanted = reference.values()
        except UnsupportedCircuit:
            raise
        except Exception as refusal:
            if at_hand:
                raise RefusedByPennylane from refusal
            error = refusal
            continue
        _compare(compiled, arguments, tangents, reference, wanted, gates, precision, rng)
        compared += 1
    if not compared:
        raise UnsupportedCircuit(
            f"it could not be compared with PennyLane, which raises {type(error).__name__} for all inputs that were tried: "
            "call the layer once with your data before it is traced"
        ) from error


def _points(
    inputs: tf.TensorSpec, rows: tf.Tensor | None, n_rows: int, most_rows: int, rng: np.random.Generator
) -> Iterator[tuple[bool, tf.Tensor]]:
    """Inputs to compare at, those that came in and others; whether they came in.

    All rows are compared, where there are at most `most_rows`: for a batch of another size a circuit may be another one.
    """
    shape = tuple(inputs.shape) if inputs.shape.rank < 2 else (n_rows, *inputs.shape[1:])
    uniform = rng.uniform(-np.pi, np.pi, shape)
    draws = [kind(uniform) for kind in V.KINDS]
    if rows is not None and tf.size(rows) > 0:
        some = inputs.shape.rank == 2 and len(rows) > most_rows
        yield True, rows[:n_rows] if some else rows
        if rows.dtype.is_floating and inputs.shape.rank == 2:  # one sample in their range, and others away from it
            low, high = tf.reduce_min(rows, axis=0).numpy(), tf.reduce_max(rows, axis=0).numpy()
            draws.insert(0, np.concatenate([(low + (high - low) * rng.uniform(size=shape))[:1], uniform[1:]]))
    for draw in draws:
        if inputs.dtype.is_complex:
            draw = (draw / np.sqrt(2)) * (1 + 1j)
        yield False, tf.cast(draw, inputs.dtype)


def _moved(weight: tf.Tensor, rng: np.random.Generator) -> tf.Tensor:
    return weight + tf.cast(rng.uniform(-np.pi, np.pi, weight.shape), weight.dtype)


def _compare(
    compiled: Compiled,
    arguments: Mapping[str, tf.Tensor],
    tangents: Mapping[str, tf.Tensor],
    reference: Reference,
    wanted: V.Values,
    gates: int,
    precision: str,
    rng: np.random.Generator,
) -> None:
    names, x = list(arguments), next(iter(arguments.values()))
    if x.shape.rank == 2 and any(v.ndim == 0 or len(v) != x.shape[0] for v in wanted):
        raise V.Mismatch(
            f"it returns the shape {wanted[0].shape} for {x.shape[0]} samples, and a layer a row for each sample"
        )
    sources = [arguments[name] for name in names]
    with tf.GradientTape() as tape:
        watched = [source for source in sources if source.dtype.is_floating]
        tape.watch(watched)
        try:
            found = compiled(sources[0], sources[1:])
        except (tf.errors.OpError, TypeError, ValueError) as error:
            raise V.Mismatch(f"it raises {type(error).__name__} where PennyLane gives a value") from error
        cotangent = V.random_like(wanted, rng)[0]
        shaped = np.reshape(cotangent, found.shape) if np.size(cotangent) == np.prod(found.shape) else cotangent
        total = tf.reduce_sum(tf.math.real(tf.math.conj(tf.cast(shaped, found.dtype)) * found))
    numbers = [np.abs(v[np.isfinite(v)]) for v in reference.numbers if isinstance(v, np.ndarray) and v.dtype.kind in "fc"]
    largest = max((float(np.max(v)) for v in numbers if v.size), default=0.0)
    size = max(1.0, float(np.max(np.abs(wanted[0]), initial=0.0)))
    allowed = V.tolerance(precision, size, gates, largest)
    V.compare("its values", [found.numpy()], wanted, allowed)
    if not reference.moves:
        return
    gradients = dict(zip([k for k in names if arguments[k].dtype.is_floating], tape.gradient(total, watched), strict=True))
    mine = 0.0
    for k in tangents:
        if gradients[k] is not None:
            mine += float(np.sum(tf.convert_to_tensor(gradients[k]).numpy() * tangents[k].numpy()))
    moves = list(reference.moves.values())
    V.compare_slopes("its gradient's entries", mine, reference.values, [cotangent], moves, allowed)
