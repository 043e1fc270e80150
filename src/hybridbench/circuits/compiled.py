"""A compiled QNode: from inputs and weights to what `qml.qnn.KerasLayer` returns, in few TensorFlow operations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from hybridbench.circuits.tracing import Binding, Trace, as_tensor, bind, check_qnode, reindex, tf, trace_circuit
from hybridbench.engine.compiler import UnsupportedCircuit
from hybridbench.engine.program import Program

import pennylane as qml  # isort: skip  (TensorFlow first, with its start-up notices held back)
from pennylane.devices.qubit.measure import measure  # isort: skip

_UNBOUND = Binding(None, None, None)


class CompiledCircuit:
    """A QNode compiled for inputs of one type and number of features.

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
        self._program = self._rewritten(self._compiled.program, self._binding, self._batched)
        if x.dtype.is_complex and self._program.product is not None:
            raise UnsupportedCircuit("its inputs are complex, and no state that it starts from")
        self._direct = trace.finish is None and bool(self._program.outputs) and None not in vars(self._binding).values()
        self._functions: dict[tuple, Callable[..., tf.Tensor]] = {}

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
        # Only a direct circuit is sure to be traceable for an unknown batch.
        key = engine, None if self._direct else tuple(x.shape)
        if key not in self._functions:
            run = tf.function(lambda x, weights: self._run(x, weights, engine), autograph=False)
            # Traced here, since TensorFlow warns of retracing where several layers are called for the first time, though
            # each is traced just once.
            inputs = self._inputs if self._direct else tf.TensorSpec(x.shape, x.dtype)
            self._functions[key] = run.get_concrete_function(inputs, self._weights)
        return self._functions[key](x, [tf.convert_to_tensor(weight) for weight in weights])

    def _run(self, x: tf.Tensor, weights: Sequence[tf.Tensor], engine: ModuleType) -> tf.Tensor:
        if self._direct:
            numbers = self._numbers(x, weights, self._binding, self._batched)
            return self._rows(engine.expectations(self._program, *numbers), x)
        arguments = dict(zip(self._names, [x, *map(tf.convert_to_tensor, weights)], strict=True))
        try:
            trace = trace_circuit(self._qnode, arguments)
        except Exception as error:  # it could be traced for a batch of known size when it was compiled
            raise UnsupportedCircuit(
                f"for inputs of shape {x.shape}, tracing it raises {type(error).__name__}: {error}"
            ) from error
        if trace.finish is None and trace.compiled[0].program.outputs:
            program, numbers = self._parts(trace, 0, x, weights)
            return self._rows(engine.expectations(program, *numbers), x)
        results = tuple(self._results(trace, i, x, weights, engine) for i in range(len(trace.tapes)))
        result = results[0] if trace.finish is None else trace.finish(results)[0]
        if not self._many:
            return self._typed(result)
        several = [self._typed(part) for part in (result if isinstance(result, list | tuple) else [result])]
        if x.shape.rank == 2:  # as PennyLane's layer: each measurement flat, one after the other
            several = [tf.reshape(part, (tf.shape(x)[0], math.prod(part.shape[1:]))) for part in several]
        return tf.experimental.numpy.hstack(several)

    def _rows(self, values: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        """Expectation values (batch or 1, n_outputs) in the layer's shape."""
        if x.shape.rank < 2:
            return tf.reshape(values, (-1,) if self._many else ())
        if not self._batched:
            values = tf.repeat(values, tf.shape(x)[0], axis=0)
        return values if self._many else tf.reshape(values, (-1,))

    def _results(self, trace: Trace, index: int, x: tf.Tensor, weights: Sequence[tf.Tensor], engine: ModuleType) -> Any:
        """Results of one tape, as a device returns them, but with a batch axis wherever the inputs have one."""
        program, numbers = self._parts(trace, index, x, weights)
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
        if x.shape.rank < 2:
            results = tuple(result[0] for result in results)
        elif not trace.batched(index):
            results = tuple(tf.repeat(result, tf.shape(x)[0], axis=0) for result in results)
        return results[0] if len(results) == 1 else results

    def _typed(self, result: tf.Tensor) -> tf.Tensor:
        return tf.cast(result, self._real) if result.dtype.is_floating else result

    def _parts(
        self, trace: Trace, index: int, x: tf.Tensor, weights: Sequence[tf.Tensor]
    ) -> tuple[Program, tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]]:
        """Program and numbers of a tape of the graph that is being built."""
        compiled, batched = trace.compiled[index], trace.batched(index)
        if compiled is self._compiled:
            return self._program, self._numbers(x, weights, self._binding, batched, trace)
        return compiled.program, self._numbers(x, weights, _UNBOUND, batched, trace, index)

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
        index: int = 0,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
        """Parameters shared and per sample, and the initial state: read from inputs and weights, or from a trace's gates."""
        gates = trace.numbers(index) if trace else ((), (), None)
        if binding.shared is not None:
            sources = [*weights, x] if x.shape.rank < 2 else weights
            flat = [self._as_real(tf.reshape(source, (-1,))) for source in sources]
            shared = flat[0] if len(flat) == 1 else tf.concat([*flat, tf.zeros((0,), self._real)], 0)
        else:
            shared = self._stack(gates[0], 0)
        initial = self._initial(x, binding.initial, gates[2])
        if not batched:
            sample = tf.zeros((1, 0), self._real)
        elif binding.sample is not None:
            sample = self._as_real(x)
        elif gates[1]:
            sample = self._stack(gates[1], -1)
        else:
            sample = tf.zeros((tf.shape(initial)[0], 0), self._real)
        return shared, sample, initial

    def _initial(self, x: tf.Tensor, how: str | None, prepared: tf.Tensor | None) -> tf.Tensor | None:
        """The first state: (1 or batch, 2**n_qubits), complex."""
        if how == "none" or (how is None and prepared is None):
            return None
        if how is None:
            state = prepared if prepared.shape.rank == 2 else prepared[None]
        else:
            state = self._as_real(x)
            if how == "normalised":
                state /= tf.norm(state, axis=1, keepdims=True)
            state = tf.pad(state, ((0, 0), (0, 2**self._program.n_qubits - state.shape[1])))
        if state.dtype.is_complex:
            return tf.cast(state, tf.complex128 if self._real == tf.float64 else tf.complex64)
        state = self._as_real(state)
        return tf.complex(state, tf.zeros_like(state))  # unlike of a cast, its gradient is real without a warning

    def _stack(self, values: Sequence[Any], axis: int) -> tf.Tensor:
        if not values:
            return tf.zeros((0,), self._real)
        return tf.stack([self._as_real(value) for value in values], axis)

    def _as_real(self, value: Any) -> tf.Tensor:
        return tf.cast(as_tensor(value), self._real)
