"""From a QNode to a compiled circuit: its gates, and how their angles follow from the inputs and the weights.

A circuit is traced with TensorFlow placeholders, so that every angle is a small graph over inputs and weights. Almost always
an angle is one entry of a weight or one column of the inputs, perhaps scaled and shifted: then the program is rewritten to
read that entry itself, and a step needs no TensorFlow operation per gate.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np

from hybridbench.circuits.forms import MOVES, Form, Forms
from hybridbench.engine.program import Angle, Kind, Program
from hybridbench.stack import import_tensorflow

tf = import_tensorflow()
import pennylane as qml  # noqa: E402  (TensorFlow first, with its start-up notices held back)
from pennylane.devices.default_qubit import accepted_analytic_measurement  # noqa: E402
from pennylane.devices.preprocess import decompose, validate_device_wires  # noqa: E402

from hybridbench.circuits.reads import random_numbers, watched  # noqa: E402
from hybridbench.engine.compiler import (  # noqa: E402
    Compiled,
    UnsupportedCircuit,
    compile_tape,
    structure_key,
)
from hybridbench.engine.plan import draws, known, simpler  # noqa: E402

#: Devices that simulate an ideal circuit, so that another exact simulator gives the same numbers.
IDEAL_DEVICES = ("default.qubit", "lightning.qubit", "hybridbench.qubit")
#: Differentiation methods that give the exact gradient; the others are estimators that a user asks for by name.
EXACT_METHODS = ("best", "backprop", "adjoint", "parameter-shift", "device")
#: Batch sizes of the two traces that are compared: of the small and of the large ones the first that is no other size.
PROBE_BATCHES = (3, 5, 7, 11, 13, 17, 19, 23, 29, 31), (101, 103, 107, 109, 113, 127)
DRAWS = 4  #: further calls of a quantum function, to see whether it is the same each time


class ChangingCircuit(UnsupportedCircuit):
    """A quantum function that is not the same at every call."""


@dataclass(frozen=True)
class Trace:
    """What a QNode queued in one call."""

    tapes: tuple[qml.tape.QuantumScript, ...]  #: on wires 0 … n-1, in gates that the compiler knows
    compiled: tuple[Compiled, ...]  #: one for each tape
    finish: Callable[[tuple], Any] | None  #: results of the tapes → result of the circuit; None where it is the one tape's
    many: bool  #: whether the QNode returns a list or tuple of measurements

    def batched(self, index: int) -> bool:
        """Whether a tape has values per sample."""
        compiled = self.compiled[index]
        prepared = None if compiled.initial is None else self.tapes[index].operations[compiled.initial].data[0]
        return bool(compiled.sample) or (prepared is not None and len(prepared.shape) == 2)

    def numbers(self, index: int) -> tuple[list[Any], list[Any], Any]:
        """Shared parameters, parameters per sample, and initial state (or None) of a tape.

        Returns:
            Numbers or tensors without an axis; with shape (batch,); (2**n,) or (batch, 2**n).
        """
        tape, compiled = self.tapes[index], self.compiled[index]
        shared, sample = ([tape.operations[op].data[i] for op, i in at] for at in (compiled.shared, compiled.sample))
        if compiled.initial is None:
            return shared, sample, None
        state = tape.operations[compiled.initial].state_vector(wire_order=range(tape.num_wires))
        axes = (-1,) if len(state.shape) > tape.num_wires else ()
        return shared, sample, tf.reshape(state, (*axes, 2**tape.num_wires))


def check_qnode(qnode: qml.QNode) -> None:
    """Raise UnsupportedCircuit where a QNode asks for something that an exact simulation of its circuit is not."""
    if qnode.device.name not in IDEAL_DEVICES:
        raise UnsupportedCircuit(
            f"its device is {qnode.device.name}, and those that can be replaced are {_words(IDEAL_DEVICES)}"
        )
    if qnode.device.shots:
        raise UnsupportedCircuit(f"its device draws {qnode.device.shots.total_shots} shots: use shots=None for exact values")
    if qnode.diff_method not in EXACT_METHODS:
        raise UnsupportedCircuit(
            f"its diff_method {qnode.diff_method!r} is an estimator of its own; the exact ones are {_words(EXACT_METHODS)}"
        )


def as_tensor(value: Any) -> tf.Tensor:
    """A parameter of a gate as a tensor; numbers of Python stay in double precision."""
    return value if tf.is_tensor(value) else tf.constant(np.asarray(value))


def asks_for_norm(op: Any) -> bool:
    """Whether PennyLane refuses a state preparation whose amplitudes are not of norm 1."""
    settings = op.hyperparameters
    rescaled = settings.get("normalize") or settings.get("pad_with") is not None
    return bool(settings.get("validate_norm", True)) and not rescaled


def _words(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1]


def trace_circuit(qnode: qml.QNode, arguments: Mapping[str, Any]) -> Trace:
    """Call the quantum function and compile what it queued; tensors of a graph stay in the gates as they are.

    Args:
        qnode: passed `check_qnode`.
        arguments: every argument of the quantum function, by name.

    Raises:
        UnsupportedCircuit: the circuit cannot be compiled.
        Exception: whatever the quantum function raises, for example where it branches on the value of a tensor.
    """
    qnode = copy.copy(qnode)  # constructing leaves its tape in the QNode
    tape = qnode.construct((), dict(arguments))
    output = qnode._qfunc_output
    if not isinstance(output, qml.measurements.MeasurementProcess | list | tuple):
        raise UnsupportedCircuit(f"it returns a {type(output).__name__}: return a measurement, or a list of them")
    transforms = qnode.transform_program
    if transforms.is_informative or transforms.has_final_transform:
        raise UnsupportedCircuit(f"its transform {transforms[-1].transform.__name__} returns something else than results")
    tapes, finish = transforms((tape,))
    tapes = tuple(_standard(tape, qnode.device.wires) for tape in tapes)
    compiled = tuple(compile_tape(tape, range(tape.num_wires)) for tape in tapes)
    many = not isinstance(output, qml.measurements.MeasurementProcess)
    if many and len({id(measurement) for measurement in output}) < len(output):
        raise UnsupportedCircuit("it returns one measurement several times")
    return Trace(tapes, compiled, None if _returns_its_argument(finish, len(tapes)) else finish, many)


def _returns_its_argument(finish: Callable[[tuple], Any], n_tapes: int) -> bool:
    marker = object()
    try:
        return n_tapes == 1 and finish((marker,))[0] is marker
    except Exception:  # noqa: BLE001  (a post-processing of numbers may raise anything for what is none)
        return False


def _standard(tape: qml.tape.QuantumScript, wires: Any) -> qml.tape.QuantumScript:
    """The tape in gates of the compiler, measuring all wires of the device where it names none, on wires 0 … n-1."""
    if any(isinstance(op, qml.measurements.MidMeasureMP | qml.ops.Conditional) for op in tape.operations):
        raise UnsupportedCircuit("it measures in the middle: put qml.defer_measurements around it, or leave it to PennyLane")
    for measurement in tape.measurements:
        if not accepted_analytic_measurement(measurement):
            raise UnsupportedCircuit(f"{measurement} has no exact value")
    (tape,), _ = validate_device_wires(tape, wires)
    (tape,), _ = decompose(
        tape, known, skip_initial_state_prep=False, decomposer=simpler, error=UnsupportedCircuit, name="the engine"
    )
    return tape.map_to_standard_wires()


# --- how angles follow from inputs and weights -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Binding:
    """Where the numbers of a program come from; None where only the graph of the circuit itself can say.

    The vector `shared` is all weights flattened, one after the other, then the inputs where they are a single sample; the
    matrix `sample` is the inputs, shape (batch, n_features).
    """

    shared: tuple[Angle, ...] | None  #: each shared parameter as offset + scale * entry of that vector
    sample: tuple[Angle, ...] | None  #: each parameter per sample as offset + scale * column of the inputs
    initial: str | None  #: "none", or the inputs padded with zeros: "inputs" as they are, "normalised" to length one


def bind(qnode: qml.QNode, name: str, inputs: tf.TensorSpec, weights: Mapping[str, tf.TensorSpec]) -> tuple[Trace, Binding]:
    """Trace a circuit twice with placeholders and find out where its numbers come from.

    Args:
        qnode: passed `check_qnode`.
        name: the argument that takes the inputs.
        inputs: shape (n_features,), or (batch, n_features) where the batch counts as unknown.
        weights: the other arguments.

    Returns:
        One trace, whose tensors belong to a graph of its own, and the binding.

    Raises:
        UnsupportedCircuit: the circuit cannot be compiled, or is not the same function at every call.
        Exception: as `trace_circuit`.
    """
    with tf.init_scope(), random_numbers(qnode.func) as drawn:
        batches = (None, None)
        if inputs.shape.rank == 2:
            sizes = {size for spec in [inputs, *weights.values()] for size in spec.shape}
            batches = tuple(next(size for size in several if size not in sizes) for several in PROBE_BATCHES)
        first = _Probe(qnode, name, inputs, weights, batches[0])
        with watched() as ran:  # decompositions run in a trace, the quantum function in both
            second = _Probe(qnode, name, inputs, weights, batches[1])
            calls = set() if drawn() else {first.queued() for _ in range(DRAWS)}
        try:
            ran.refuse(qnode.func)
        except UnsupportedCircuit as error:
            raise ChangingCircuit(str(error)) from error
        if not drawn():
            first.check_same(second, np.random.default_rng(0))
            if len(calls) > 1 or None in calls:
                raise ChangingCircuit("its quantum function queues other gates from call to call")
        if drawn():
            raise ChangingCircuit("its quantum function draws random numbers, and is another one at every call")
        return first.trace, first.binding(np.random.default_rng(1))


class _Probe:
    """A trace as a function that can be evaluated for any numbers."""

    def __init__(
        self,
        qnode: qml.QNode,
        name: str,
        inputs: tf.TensorSpec,
        weights: Mapping[str, tf.TensorSpec],
        batch: int | None,
    ) -> None:
        self.batch, self._qnode, self._names = batch, qnode, [name, *weights]
        self.inputs = inputs if batch is None else tf.TensorSpec((batch, *inputs.shape[1:]), inputs.dtype)
        self.weights = list(weights.values())
        self.trace: Trace

        def numbers(x: tf.Tensor, *values: tf.Tensor) -> list[tuple[list[tf.Tensor], list[tf.Tensor], list[tf.Tensor]]]:
            self.trace = trace_circuit(qnode, {name: x, **dict(zip(weights, values, strict=True))})
            found = (self.trace.numbers(i) for i in range(len(self.trace.tapes)))
            return [([*map(as_tensor, a)], [*map(as_tensor, b)], [] if c is None else [c]) for a, b, c in found]

        self._function = tf.function(numbers, autograph=False).get_concrete_function(self.inputs, *self.weights)
        self._check_rows()

    def _check_rows(self) -> None:
        """Raise where values per sample are not one for each sample: a circuit that is written for one sample."""
        for _, sample, initial in self._function.structured_outputs:
            rows = {t.shape[0] for t in sample} | {t.shape[0] for t in initial if t.shape.rank == 2}
            if self.batch is not None and rows - {self.batch}:
                raise UnsupportedCircuit(
                    f"some of its gates have {min(rows - {self.batch})} values for a batch of {self.batch} samples: "
                    "write inputs[..., i] for feature i of every sample"
                )

    def evaluate(self, x: np.ndarray, weights: Sequence[np.ndarray]) -> list[tuple[list, list, list]]:
        tensors = [
            tf.cast(value, spec.dtype) for value, spec in zip([x, *weights], [self.inputs, *self.weights], strict=True)
        ]
        return tf.nest.map_structure(lambda tensor: tensor.numpy(), self._function(*tensors))

    def queued(self) -> Hashable:
        """What one more call of the quantum function queues, as far as it can be compared; None for random templates."""
        with tf.Graph().as_default():
            values = [tf.compat.v1.placeholder(spec.dtype, spec.shape) for spec in [self.inputs, *self.weights]]
            tape = copy.copy(self._qnode).construct((), dict(zip(self._names, values, strict=True)))
        return None if any(map(draws, tape.operations)) else tuple(map(_seen, tape.operations))

    def keys(self) -> list[Hashable]:
        return [structure_key(tape) for tape in self.trace.tapes]

    def check_same(self, other: _Probe, rng: np.random.Generator) -> None:
        """Raise where another trace is another function: a circuit that draws random numbers, for example."""
        if len(self.trace.tapes) != len(other.trace.tapes):
            raise UnsupportedCircuit("its transforms make as many circuits as the batch has samples")
        x, weights = rng.uniform(-2, 2, other.inputs.shape), [rng.uniform(-2, 2, spec.shape) for spec in self.weights]
        mine = tf.nest.flatten(self.evaluate(x[: self.inputs.shape[0]] if x.ndim == 2 else x, weights))
        others = tf.nest.flatten(other.evaluate(x, weights))
        near = {"rtol": _tolerance(self.inputs), "atol": _tolerance(self.inputs), "equal_nan": True}
        if self.keys() != other.keys() or not all(
            np.allclose(a, b[: len(a)] if a.ndim else b, **near) for a, b in zip(mine, others, strict=True)
        ):
            raise ChangingCircuit("two calls of its quantum function with equal arguments differ")

    def binding(self, rng: np.random.Generator) -> Binding:
        """Read from the graph how each number follows from the inputs and the weights."""
        if len(self.trace.tapes) > 1 or not self.inputs.dtype.is_floating:
            return Binding(None, None, None)
        ((shared, sample, initial),) = self._function.structured_outputs
        x, *weights = self._function.inputs[: 1 + len(self.weights)]
        # The vector of shared numbers holds the weights first, and the inputs where they are a single sample.
        forms = Forms([*weights, x])
        n_weights = sum(math.prod(spec.shape) for spec in self.weights)
        single = self.inputs.shape.rank < 2
        shared_map = _shared_lines(forms, shared, n_weights, single)
        sample_map = _sample_lines(forms, sample, n_weights, self.inputs.shape)
        initial_map = "none"
        if initial:
            initial_map = None if single else self._amplitudes(forms, initial[0], n_weights, rng)
        return Binding(shared_map, sample_map, initial_map)

    def _amplitudes(self, forms: Forms, state: tf.Tensor, n_weights: int, rng: np.random.Generator) -> str | None:
        """How initial states (batch, 2**n) follow from inputs (batch, n_features): "inputs", "normalised" or None."""
        (batch, features), size = self.inputs.shape, state.shape[-1]
        if state.shape.rank != 2 or size < features:
            return None
        found = forms.of(state)
        entry = [
            [n_weights + row * features + i for i in range(features)] + [-1] * (size - features) for row in range(batch)
        ]
        wanted = [Form(0.0, 1.0, e) if e >= 0 else Form(0.0, 0.0, -1) for row in entry for e in row]
        if found == wanted:
            return "inputs"
        prepared = self.trace.tapes[0].operations[self.trace.compiled[0].initial]
        if asks_for_norm(prepared) or not _only_moves_and_norms(state):
            return None
        for _ in range(3):
            x = rng.uniform(-2, 2, self.inputs.shape)
            ((_, _, (value,)),) = self.evaluate(x, [rng.uniform(-2, 2, spec.shape) for spec in self.weights])
            normalised = np.pad(x / np.linalg.norm(x, axis=1, keepdims=True), ((0, 0), (0, size - features)))
            if not np.allclose(value, normalised, atol=_tolerance(self.inputs)):
                return None
        return "normalised"


def _seen(op: Any) -> Hashable:
    """Type, wires and numbers of an operation; of tensors only the shape."""
    numbers = [tuple(v.shape) if tf.is_tensor(v) else np.asarray(v).tobytes() for v in op.data]
    return op.name, op.wires.labels, tuple(numbers)


#: Operations that lead from inputs to inputs of length 1.
_NORM_OPERATIONS = frozenset(MOVES) | {
    "Abs", "Cast", "ComplexAbs", "Conj", "Const", "Mul", "Placeholder", "RealDiv", "Shape", "Sqrt", "Square", "Sum"
}  # fmt: skip


def _only_moves_and_norms(tensor: tf.Tensor) -> bool:
    seen, waiting = set(), [tensor.op]
    while waiting:
        op = waiting.pop()
        if op.name in seen:
            continue
        seen.add(op.name)
        if op.type not in _NORM_OPERATIONS:
            return False
        waiting += [source.op for source in op.inputs]
    return True


def _tolerance(inputs: tf.TensorSpec) -> float:
    """How far equal numbers may differ by rounding."""
    return 1e-11 if inputs.dtype.is_floating and inputs.dtype.size == 8 else 1e-5


def _shared_lines(forms: Forms, tensors: Sequence[tf.Tensor], n_weights: int, single: bool) -> tuple[Angle, ...] | None:
    """Parameters of the whole batch as offset + scale * an entry of the weights (or of a single sample's inputs)."""
    found = []
    for tensor in tensors:
        (form,) = forms.of(tensor)
        if form is None or (form.entry >= n_weights and not single):
            return None
        found.append(
            Angle(offset=form.offset) if form.entry < 0 else Angle(Kind.SHARED, form.entry, form.scale, form.offset)
        )
    return tuple(found)


def _sample_lines(
    forms: Forms, tensors: Sequence[tf.Tensor], n_weights: int, shape: tf.TensorShape
) -> tuple[Angle, ...] | None:
    """Parameters of shape (batch,) as offset + scale * a column of the inputs."""
    found = []
    for tensor in tensors:
        columns = set()
        for row, form in enumerate(forms.of(tensor)):
            if form is None or 0 <= form.entry < n_weights:
                return None
            at = 0 if form.entry < 0 else form.entry - n_weights - row * shape[1]
            if not 0 <= at < max(shape[1], 1):  # of another sample
                return None
            columns.add(Angle(Kind.SAMPLE, at, form.scale, form.offset))
        if len(columns) != 1:
            return None
        found += columns
    return tuple(found)


def reindex(
    program: Program, shared: Sequence[Angle] | None, sample: Sequence[Angle] | None, n_shared: int, n_sample: int
) -> Program:
    """The program with its parameters read from other vectors.

    Args:
        program: any program.
        shared: old shared parameter i as offset + scale * a number of the new vectors, or None to keep the old ones.
        sample: the same for parameters per sample.
        n_shared: length of the new vector of shared parameters (ignored where `shared` is None).
        n_sample: columns of the new matrix of parameters per sample (ignored where `sample` is None).
    """
    maps = {Kind.SHARED: shared, Kind.SAMPLE: sample}

    def moved(part: Any) -> Any:
        if isinstance(part, Angle):
            if maps.get(part.kind) is None:
                return part
            new = maps[part.kind][part.index]
            return replace(new, scale=part.scale * new.scale, offset=part.offset + part.scale * new.offset)
        if isinstance(part, tuple):
            return tuple(map(moved, part))
        if is_dataclass(part):
            return replace(part, **{field.name: moved(getattr(part, field.name)) for field in fields(part)})
        return part

    return replace(
        moved(program),
        n_shared=program.n_shared if shared is None else n_shared,
        n_sample=program.n_sample if sample is None else n_sample,
    )
