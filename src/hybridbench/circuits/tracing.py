"""From a QNode to a compiled circuit: its gates, and how their angles follow from the inputs and the weights.

A circuit is traced with TensorFlow placeholders, so that every angle is a small graph over inputs and weights. Almost always
an angle is one entry of a weight or one column of the inputs, perhaps scaled and shifted: then the program is rewritten to
read that entry itself, and a step needs no TensorFlow operation per gate.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np

from hybridbench.engine.program import Angle, Kind, Program
from hybridbench.stack import import_tensorflow

tf = import_tensorflow()
import pennylane as qml  # noqa: E402  (TensorFlow first, with its start-up notices held back)
from pennylane.devices.default_qubit import accepted_analytic_measurement  # noqa: E402
from pennylane.devices.preprocess import decompose, validate_device_wires  # noqa: E402

from hybridbench.engine.compiler import (  # noqa: E402
    Compiled,
    UnsupportedCircuit,
    compile_tape,
    structure_key,
    supports,
)

#: Devices that simulate an ideal circuit, so that another exact simulator gives the same numbers.
IDEAL_DEVICES = ("default.qubit", "lightning.qubit", "hybridbench.qubit")
#: Differentiation methods that give the exact gradient; the others are estimators that a user asks for by name.
EXACT_METHODS = ("best", "backprop", "adjoint", "parameter-shift", "device")
#: Batch sizes of the two traces that are compared: different from each other and from usual numbers of features.
PROBE_BATCHES = (3, 5)


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
        raise UnsupportedCircuit("it measures in the middle: use qml.defer_measurements on it, or leave it to PennyLane")
    for measurement in tape.measurements:
        if not accepted_analytic_measurement(measurement):
            raise UnsupportedCircuit(f"{measurement} has no exact value")
    (tape,), _ = validate_device_wires(tape, wires)
    (tape,), _ = decompose(tape, supports, skip_initial_state_prep=False, error=UnsupportedCircuit, name="the engine")
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
    with tf.init_scope():
        batches = PROBE_BATCHES if inputs.shape.rank == 2 else (None, None)
        first, second = (_Probe(qnode, name, inputs, weights, batch) for batch in batches)
        rng = np.random.default_rng(0)
        first.check_same(second, rng)
        return first.trace, first.binding(rng)


class _Probe:
    """A trace as a function that can be evaluated for any numbers."""

    def __init__(
        self, qnode: qml.QNode, name: str, inputs: tf.TensorSpec, weights: Mapping[str, tf.TensorSpec], batch: int | None
    ) -> None:
        self.inputs = inputs if batch is None else tf.TensorSpec((batch, *inputs.shape[1:]), inputs.dtype)
        self.weights = list(weights.values())
        self.trace: Trace

        def numbers(x: tf.Tensor, *values: tf.Tensor) -> list[tuple[list[tf.Tensor], list[tf.Tensor], list[tf.Tensor]]]:
            self.trace = trace_circuit(qnode, {name: x, **dict(zip(weights, values, strict=True))})
            found = (self.trace.numbers(i) for i in range(len(self.trace.tapes)))
            return [([*map(as_tensor, a)], [*map(as_tensor, b)], [] if c is None else [c]) for a, b, c in found]

        self._function = tf.function(numbers, autograph=False).get_concrete_function(self.inputs, *self.weights)

    def evaluate(self, x: np.ndarray, weights: Sequence[np.ndarray]) -> list[tuple[list, list, list]]:
        tensors = [
            tf.cast(value, spec.dtype) for value, spec in zip([x, *weights], [self.inputs, *self.weights], strict=True)
        ]
        return tf.nest.map_structure(lambda tensor: tensor.numpy(), self._function(*tensors))

    def check_same(self, other: _Probe, rng: np.random.Generator) -> None:
        """Raise where another trace is another function: a circuit that draws random numbers, for example."""
        keys, other_keys = ([structure_key(tape) for tape in probe.trace.tapes] for probe in (self, other))
        if len(keys) != len(other_keys):
            raise UnsupportedCircuit("its transforms make as many circuits as the batch has samples")
        x, weights = rng.uniform(-2, 2, other.inputs.shape), [rng.uniform(-2, 2, spec.shape) for spec in self.weights]
        mine = tf.nest.flatten(self.evaluate(x[: self.inputs.shape[0]] if x.ndim == 2 else x, weights))
        others = tf.nest.flatten(other.evaluate(x, weights))
        near = {"rtol": _tolerance(self.inputs), "atol": _tolerance(self.inputs), "equal_nan": True}
        if keys != other_keys or not all(
            np.allclose(a, b[: len(a)] if a.ndim else b, **near) for a, b in zip(mine, others, strict=True)
        ):
            raise ChangingCircuit("two calls of its quantum function with equal arguments differ")

    def binding(self, rng: np.random.Generator) -> Binding:
        """Find the binding from values at 0, at 1 and at random points; only graphs of sums and products are looked at.

        Sums and products that agree with a line at random points are that line; a function with branches, as clip, could
        agree by chance.
        """
        if len(self.trace.tapes) > 1 or not self.inputs.dtype.is_floating:
            return Binding(None, None, None)
        ((shared, sample, initial),) = self._function.structured_outputs
        draws = [np.zeros, np.ones, *[lambda shape: rng.uniform(-2, 2, shape)] * 3]
        points = [(draw(self.inputs.shape), [draw(spec.shape) for spec in self.weights]) for draw in draws]
        values = [self.evaluate(*point)[0] for point in points]
        tolerance = _tolerance(self.inputs)
        shared_map = sample_map = initial_map = None
        if _is_polynomial(shared):
            sources = ([*weights, x] if x.ndim < 2 else [*weights, np.zeros(0)] for x, weights in points)
            entries = np.stack([np.concatenate([np.ravel(source) for source in point]) for point in sources])
            at = np.array([value[0] for value in values], dtype=float).reshape(len(points), -1)
            shared_map = _lines(at, entries, Kind.SHARED, tolerance)
        if not sample:
            sample_map = ()
        elif _is_polynomial(sample):
            columns = np.concatenate([x for x, _ in points])
            at = np.concatenate([np.stack(value[1], axis=-1) for value in values])
            rows = np.r_[0, self.inputs.shape[0], 2 * self.inputs.shape[0] : len(columns)]  # zeros and ones once
            sample_map = _lines(at[rows], columns[rows], Kind.SAMPLE, tolerance)
        if not initial:
            initial_map = "none"
        elif self.inputs.shape.rank == 2 and _is_polynomial(initial, {"Sum", "Sqrt"}):
            probes = [(value[2][0], x) for value, (x, _) in zip(values[2:], points[2:], strict=True)]
            initial_map = _amplitudes(probes, tolerance)
        return Binding(shared_map, sample_map, initial_map)


# fmt: off
_PLAIN_OPERATIONS = frozenset({
    "AddN", "AddV2", "BroadcastTo", "Cast", "ConcatV2", "Const", "ExpandDims", "Fill", "GatherNd", "GatherV2", "Identity",
    "Mul", "Neg", "Pack", "Pad", "PadV2", "Placeholder", "Range", "RealDiv", "Reshape", "ReverseV2", "Shape", "Slice",
    "Split", "SplitV", "Squeeze", "StridedSlice", "Sub", "Tile", "Transpose", "Unpack", "ZerosLike",
})
# fmt: on


def _is_polynomial(tensors: Sequence[tf.Tensor], also: set[str] = frozenset()) -> bool:
    """Whether only operations without branches (on real numbers) lead to the tensors."""
    seen, waiting = set(), [tensor.op for tensor in tensors]
    while waiting:
        op = waiting.pop()
        if op.name in seen:
            continue
        seen.add(op.name)
        rounds = op.type == "Cast" and not op.outputs[0].dtype.is_floating and op.inputs[0].dtype.is_floating
        if rounds or not (op.type in _PLAIN_OPERATIONS or op.type in also):
            return False
        waiting += [source.op for source in op.inputs]
    return True


def _tolerance(inputs: tf.TensorSpec) -> float:
    """How far equal numbers may differ by rounding."""
    return 1e-11 if inputs.dtype.is_floating and inputs.dtype.size == 8 else 1e-5


def _lines(values: np.ndarray, sources: np.ndarray, kind: Kind, tolerance: float) -> tuple[Angle, ...] | None:
    """Each column of `values` as offset + scale * one column of `sources`, or None where one of them is not.

    Args:
        values: (points, n) at points 0, 1, random …
        sources: (points, m), the points; random ones differ in every entry.
        kind: kind of the angles.
        tolerance: relative.
    """
    offset, scale = values[0], values[1] - values[0]
    moves = np.abs(scale) > tolerance
    if not np.isfinite(values).all() or (moves.any() and not sources.shape[1]):
        return None
    index = np.zeros(len(offset), dtype=int)
    if moves.any():
        order = np.argsort(sources[2])
        wanted = (values[2] - offset)[moves] / scale[moves]
        edges = (sources[2][order][1:] + sources[2][order][:-1]) / 2
        index[moves] = order[np.searchsorted(edges, wanted)]
    lines = offset + np.where(moves, scale, 0) * (sources[:, index] if sources.shape[1] else 0)
    if not np.allclose(lines, values, rtol=tolerance, atol=tolerance):
        return None
    if kind is Kind.SAMPLE:  # an angle that is per sample stays so, even if it does not move
        return tuple(
            Angle(kind, int(i), float(s) if m else 0.0, float(o))
            for i, s, m, o in zip(index, scale, moves, offset, strict=True)
        )
    return tuple(
        Angle(kind, int(i), float(s), float(o)) if m else Angle(offset=float(o))
        for i, s, m, o in zip(index, scale, moves, offset, strict=True)
    )


def _amplitudes(probes: Sequence[tuple[np.ndarray, np.ndarray]], tolerance: float) -> str | None:
    """How initial states (batch, 2**n) follow from inputs (batch, n_features): "inputs", "normalised" or None."""
    for name in ("inputs", "normalised"):
        if all(
            state.ndim == 2
            and state.shape[1] >= x.shape[1]
            and not state[:, x.shape[1] :].any()
            and np.allclose(
                state[:, : x.shape[1]],
                x / (1 if name == "inputs" else np.linalg.norm(x, axis=1, keepdims=True)),
                atol=tolerance,
            )
            for state, x in probes
        ):
            return name
    return None


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
