"""A compiled QNode: from inputs and weights to what `qml.qnn.KerasLayer` returns, in few TensorFlow operations."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import RLock
from types import ModuleType
from typing import Any

import numpy as np

from hybridbench.circuits.proof import RefusedByPennylane, prove
from hybridbench.circuits.tracing import (
    Binding,
    Trace,
    as_tensor,
    asks_for_norm,
    bind,
    check_qnode,
    reindex,
    tf,
    trace_circuit,
)
from hybridbench.engine.compiler import UnsupportedCircuit
from hybridbench.engine.program import Program

import pennylane as qml  # isort: skip  (TensorFlow first, with its start-up notices held back)
from pennylane.devices.qubit.measure import measure  # isort: skip

_UNBOUND = Binding(None, None, None)
_Parts = tuple[Program, tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]]
MAX_FUNCTIONS = 16  #: traced functions of one circuit that are kept
NORM_TOLERANCE = 1e-5 + 1e-10  #: of PennyLane's test whether a state has norm 1
NOT_OF_NORM_ONE = "The state must be a vector of norm 1.0. Use 'normalize=True' to automatically normalize. Norms:"


def _finished(trace: Trace, results: tuple[Any, ...]) -> Any:
    """What the QNode's transforms make of the results of its tapes."""
    try:
        return trace.finish(results)[0]
    except (TypeError, ValueError) as error:  # some need shapes that a graph of a batch of any size does not know
        raise UnsupportedCircuit(
            f"what a transform makes of its results cannot be traced: {error} "
            "Give the model a batch of known size (batch_size of the Input layer)"
        ) from error


class CompiledCircuit:
    """A QNode compiled for inputs of one type and number of features.

    There are four ways to the numbers that the circuit's program takes; the first that is proved is taken:

    - "direct": each is read from an entry of the inputs or weights, with no call of the quantum function;
    - "whole": the quantum function is traced in each graph, for a batch of unknown size;
    - "rows": it is traced for one sample, and that graph is mapped over the batch;
    - "sized": it is traced anew for each size of the batch, which a graph has to know.

    Args:
        qnode: the circuit.
        names: its arguments: the inputs, then the weights.
        x: inputs, shape () or (n_features,) or (batch, n_features), for shape and type; the batch does not matter.
        weights: for shapes and types.

    Raises:
        UnsupportedCircuit: it cannot be compiled.
        Exception: whatever the quantum function raises when it is traced.
    """

    def __init__(self, qnode: qml.QNode, names: Sequence[str], x: tf.Tensor, weights: Sequence[tf.Variable]) -> None:
        check_qnode(qnode)
        if None in x.shape[-1:]:
            raise UnsupportedCircuit("the number of its inputs' features is not known when it is first called")
        self._inputs = tf.TensorSpec(((None,) if x.shape.rank == 2 else ()) + tuple(x.shape[-1:]), x.dtype)
        self._weights = [tf.TensorSpec(weight.shape, weight.dtype) for weight in weights]
        trace, self._binding = bind(qnode, names[0], self._inputs, dict(zip(names[1:], self._weights, strict=True)))
        self._qnode, self._names, self._many = qnode, names, trace.many
        self._real = tf.float64 if tf.float64 in (x.dtype, *(spec.dtype for spec in self._weights)) else tf.float32
        self._compiled, self._batched = trace.compiled[0], trace.batched(0)
        if x.shape.rank == 2 and not any(trace.batched(i) for i in range(len(trace.tapes))):
            raise UnsupportedCircuit("its results do not depend on its inputs, so that it has no row for each sample")
        self._program = self._rewritten(self._compiled.program, self._binding, self._batched)
        if x.dtype.is_complex and self._program.product is not None:
            raise UnsupportedCircuit("its inputs are complex, and no state that it starts from")
        direct = trace.finish is None and bool(self._program.outputs) and None not in vars(self._binding).values()
        self._asks_for_norm = self._checks_norm(trace, 0)
        self._n_qubits = max(tape.num_wires for tape in trace.tapes)
        self._gates = sum(len(tape.operations) for tape in trace.tapes)
        self._way = "direct" if direct else "whole"
        self._functions: OrderedDict[tuple, Callable[..., tf.Tensor]] = OrderedDict()
        self._lock = RLock()

    def prove(self, x: tf.Tensor | None, weights: Sequence[tf.Tensor], engine: ModuleType) -> None:
        """Choose the first way that gives PennyLane's numbers.

        Args:
            x: inputs that came in, where they are known.
            weights: their values now.
            engine: as for a call.

        Raises:
            Mismatch: none does.
            RefusedByPennylane: PennyLane raises an error for `x`.
            UnsupportedCircuit: it cannot be compared.
        """
        ways = ["whole", "rows", "sized"] if self._inputs.shape.rank == 2 else ["whole"]
        ways = ["direct"] if self._way == "direct" else ways
        with tf.init_scope():
            now = [tf.convert_to_tensor(weight) for weight in weights]
        for way in ways:
            self._way = way
            try:
                # A thread of its own: here a graph may be built, and tapes may be held.
                with ThreadPoolExecutor(1) as apart:
                    apart.submit(
                        prove,
                        lambda rows, values: self(rows, values, engine),
                        self._qnode,
                        self._names,
                        self._inputs,
                        now,
                        x,
                        self._gates,
                        self._n_qubits,
                        "complex128" if self._real == tf.float64 else "complex64",
                    ).result()
                return
            except RefusedByPennylane:
                raise
            except UnsupportedCircuit:
                if way == ways[-1]:
                    raise

    def __call__(self, x: tf.Tensor, weights: Sequence[tf.Tensor], engine: ModuleType) -> tf.Tensor:
        """Run the circuit.

        Args:
            x: inputs like those of the constructor.
            weights: values of the weights.
            engine: a module with `expectations` and `state`.

        Returns:
            Results of shape (batch, ...), or (...) for a single sample; several measurements are one after the other in the
            last axis.

        Raises:
            UnsupportedCircuit: the circuit needs to know the size of the batch while it is traced.
        """
        if not tf.executing_eagerly():
            return self._run(x, weights, engine)
        key = engine, self._way, tuple(x.shape) if self._way == "sized" else None
        with self._lock:
            function = self._functions.get(key)
            if function is None:
                run = tf.function(lambda x, weights: self._run(x, weights, engine), autograph=False)
                # Traced here, since TensorFlow warns of retracing where several layers are called for the first time,
                # though each is traced just once.
                inputs = tf.TensorSpec(x.shape, x.dtype) if self._way == "sized" else self._inputs
                function = self._functions[key] = run.get_concrete_function(inputs, self._weights)
                while len(self._functions) > MAX_FUNCTIONS:
                    self._functions.popitem(last=False)
        return function(x, [tf.convert_to_tensor(weight) for weight in weights])

    def _run(self, x: tf.Tensor, weights: Sequence[tf.Tensor], engine: ModuleType) -> tf.Tensor:
        if self._way == "direct":
            numbers = self._numbers(x, weights, self._binding, self._batched)
            return self._rows(engine.expectations(self._program, *numbers), x)
        weights = [*map(tf.convert_to_tensor, weights)]
        if self._way != "whole" or x.shape.rank < 2 or x.shape[0] not in (None, 1):
            return self._traced_run(x, weights, engine)
        # Operations of PennyLane take a batch of one for a single sample, and the graph of a larger batch does not fit.
        n_rows = tf.shape(x)[0]
        twice = tf.repeat(x, tf.where(n_rows == 1, 2, 1), axis=0)
        return self._traced_run(tf.ensure_shape(twice, (None, *x.shape[1:])), weights, engine)[:n_rows]

    def _traced_run(self, x: tf.Tensor, weights: Sequence[tf.Tensor], engine: ModuleType) -> tf.Tensor:
        trace, per_row = self._traced(x, weights)
        parts = [self._parts(trace, i, x, weights, per_row) for i in range(len(trace.tapes))]
        if trace.finish is None and trace.compiled[0].program.outputs:
            return self._rows(engine.expectations(parts[0][0], *parts[0][1]), x)
        results = tuple(self._results(trace, i, parts[i], x, engine) for i in range(len(trace.tapes)))
        result = results[0] if trace.finish is None else _finished(trace, results)
        if not self._many:
            return self._typed(result)
        several = [self._typed(part) for part in (result if isinstance(result, list | tuple) else [result])]
        if x.shape.rank == 2:  # as PennyLane's layer: each measurement flat, one after the other
            several = [tf.reshape(part, (tf.shape(x)[0], math.prod(part.shape[1:]))) for part in several]
        return tf.experimental.numpy.hstack(several)

    def _traced(self, x: tf.Tensor, weights: Sequence[tf.Tensor]) -> tuple[Trace, list[Any] | None]:
        """The circuit in the graph that is being built; in rows, also the numbers per sample of each of its tapes."""
        try:
            if self._way != "rows":
                return trace_circuit(self._qnode, dict(zip(self._names, [x, *weights], strict=True))), None
            # Numbers that the whole batch shares come from a trace whose sample does not matter.
            one = tf.zeros((1, *x.shape[1:]), x.dtype)
            trace = trace_circuit(self._qnode, dict(zip(self._names, [one, *weights], strict=True)))

            def numbers(row: tf.Tensor) -> list[tuple[list[tf.Tensor], list[tf.Tensor]]]:
                each = trace_circuit(self._qnode, dict(zip(self._names, [row[None], *weights], strict=True)))
                found = [each.numbers(i) for i in range(len(each.tapes))]
                return [
                    ([as_tensor(v)[0] for v in b], [] if c is None else [c[0] if c.shape.rank == 2 else c])
                    for _, b, c in found
                ]

            return trace, tf.vectorized_map(numbers, x)
        except Exception as error:  # it could be traced for a batch of another kind when it was compiled
            raise UnsupportedCircuit(
                f"for inputs of shape {x.shape}, tracing it raises {type(error).__name__}: {error}; "
                "give the model a batch of known size (batch_size of the Input layer)"
            ) from error

    def _rows(self, values: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        """Expectation values (batch or 1, n_outputs) in the layer's shape."""
        if x.shape.rank < 2:
            return tf.reshape(values, (-1,) if self._many else ())
        return values if self._many else tf.reshape(values, (-1,))

    def _results(self, trace: Trace, index: int, parts: _Parts, x: tf.Tensor, engine: ModuleType) -> Any:
        """Results of one tape, as a device returns them, but with a batch axis wherever the inputs have one."""
        program, numbers = parts
        n, measurements = program.n_qubits, trace.tapes[index].measurements
        if program.outputs:
            values = engine.expectations(program, *numbers)
            results = tuple(values[:, i] for i in range(len(measurements)))
        else:
            # One sample after the other, for PennyLane's measurements do not take a batch of unknown size.
            state = engine.state(program, *numbers)
            results = tf.vectorized_map(
                lambda one: tuple(measure(m, tf.reshape(one, (2,) * n)) for m in measurements), state
            )
            for result, m in zip(results, measurements, strict=True):
                result.set_shape((state.shape[0], *m.shape(shots=None, num_device_wires=n)))
        if x.shape.rank < 2:
            results = tuple(result[0] for result in results)
        elif not trace.batched(index):
            results = tuple(tf.repeat(result, tf.shape(x)[0], axis=0) for result in results)
        return results[0] if len(results) == 1 else results

    def _typed(self, result: tf.Tensor) -> tf.Tensor:
        return tf.cast(result, self._real) if result.dtype.is_floating else result

    def _parts(
        self, trace: Trace, index: int, x: tf.Tensor, weights: Sequence[tf.Tensor], per_row: list[Any] | None
    ) -> _Parts:
        """Program and numbers of a tape of the graph that is being built."""
        compiled, batched = trace.compiled[index], trace.batched(index)
        gates = trace.numbers(index)
        if per_row is not None and batched:
            sample, initial = per_row[index]
            gates = gates[0], sample, initial[0] if initial else None
        if compiled is self._compiled:
            return self._program, self._numbers(x, weights, self._binding, batched, trace, gates)
        return compiled.program, self._numbers(x, weights, _UNBOUND, batched, trace, gates, index)

    def _rewritten(self, program: Program, binding: Binding, batched: bool) -> Program:
        n_shared = sum(math.prod(spec.shape) for spec in self._weights)
        if self._inputs.shape.rank == 2:
            return reindex(program, binding.shared, binding.sample, n_shared, self._inputs.shape[1] if batched else 0)
        return reindex(program, binding.shared, binding.sample, n_shared + math.prod(self._inputs.shape), 0)

    def _numbers(
        self,
        x: tf.Tensor,
        weights: Sequence[tf.Tensor],
        binding: Binding,
        batched: bool,
        trace: Trace | None = None,
        gates: tuple[Sequence[Any], Sequence[Any], Any] = ((), (), None),
        index: int = 0,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
        """Parameters shared and per sample, and the initial state: read from inputs and weights, or from a trace's gates."""
        if binding.shared is not None:
            sources = [*weights, x] if x.shape.rank < 2 else weights
            flat = [self._as_real(tf.reshape(source, (-1,))) for source in sources]
            shared = flat[0] if len(flat) == 1 else tf.concat([*flat, tf.zeros((0,), self._real)], 0)
        else:
            shared = self._stack(gates[0], 0)
        initial = self._initial(x, binding.initial, gates[2], self._checks_norm(trace, index))
        if not batched:
            sample = tf.zeros((1, 0), self._real)
        elif binding.sample is not None:
            sample = self._as_real(x)
        elif gates[1]:
            sample = self._stack(gates[1], -1)
        else:
            sample = tf.zeros((tf.shape(initial)[0], 0), self._real)
        return shared, sample, initial

    def _checks_norm(self, trace: Trace | None, index: int) -> bool:
        """Whether PennyLane asks for a first state of norm 1."""
        if trace is None:
            return self._asks_for_norm
        compiled = trace.compiled[index]
        return compiled.initial is not None and asks_for_norm(trace.tapes[index].operations[compiled.initial])

    def _initial(self, x: tf.Tensor, how: str | None, prepared: tf.Tensor | None, checked: bool) -> tf.Tensor | None:
        """The first state: (1 or batch, 2**n_qubits), complex."""
        if how == "none" or (how is None and prepared is None):
            return None
        if how is None:
            state = prepared if prepared.shape.rank == 2 else prepared[None]
        else:
            state = self._as_real(x)
            if how == "normalised":
                norms = tf.norm(state, axis=1, keepdims=True)
                # As in PennyLane: a batch whose states all have norm 1 is taken as it is, also by its gradient.
                state = tf.where(tf.reduce_all(_near_one(norms)), state, state / norms)
            state = tf.pad(state, ((0, 0), (0, 2**self._program.n_qubits - state.shape[1])))
        if checked:
            state = _of_norm_one(state)
        if state.dtype.is_complex:
            return tf.cast(state, tf.complex128 if self._real == tf.float64 else tf.complex64)
        state = self._as_real(state)
        return tf.complex(state, tf.zeros_like(state))  # unlike of a cast, its gradient is real without a warning

    def _stack(self, values: Sequence[Any], axis: int) -> tf.Tensor:
        if not values:
            return tf.zeros((0,), self._real)
        return tf.stack([self._as_real(value) for value in values], axis)

    def _as_real(self, value: Any) -> tf.Tensor:
        tensor = as_tensor(value)
        if tensor.dtype.is_complex:
            raise UnsupportedCircuit("one of its angles is complex")
        return tf.cast(tensor, self._real)


def _near_one(norms: tf.Tensor) -> tf.Tensor:
    """PennyLane's test of a norm."""
    return tf.abs(norms - 1) <= NORM_TOLERANCE


def _of_norm_one(state: tf.Tensor) -> tf.Tensor:
    """The states, where all have norm 1; else the graph fails with PennyLane's sentence, and XLA gives no number."""
    norms = tf.norm(state, axis=1)
    right = tf.reduce_all(_near_one(tf.math.real(norms)))
    state = tf.where(right, state, tf.cast(np.nan, state.dtype))  # XLA leaves assertions out
    with tf.control_dependencies([tf.debugging.Assert(right, [NOT_OF_NORM_ONE, norms])]):
        return tf.identity(state)
