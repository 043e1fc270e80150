"""Results as tensors of TensorFlow with gradients, eagerly or in a graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from pennylane.devices.qubit.measure import measure
from pennylane.tape import QuantumScript

from hybridbench.engine.device.engines import engine_on_tensors, load_tensorflow
from hybridbench.engine.device.gradients import parameter_gradients
from hybridbench.engine.device.measurements import as_tuple, is_complex, one_or_all, shape, standard
from hybridbench.engine.plan import Plan

if TYPE_CHECKING:
    from hybridbench.engine.device.qubit import HybridbenchQubit

SMALL = 2**17  #: amplitudes of a batch


def on_tensorflow(device: HybridbenchQubit, circuit: QuantumScript, engine: str, parameters: Sequence[Any]) -> Any:
    """Results as tensors with gradients, eagerly or in a graph."""
    tf = load_tensorflow()
    plan = device._plan(circuit)
    wanted = _result_type(device, tf, parameters)
    if engine == "cpu":
        # The operation keeps the final state for the gradient; called eagerly it costs more than a small circuit.
        small = tf.executing_eagerly() and plan.rows(parameters) * 2 ** len(plan.wires) <= SMALL
        if small or not plan.program.outputs:
            return _through_numpy(device, tf, plan, circuit, parameters, wanted)
    run = engine_on_tensors(engine)
    real = tf.float32 if device._precision == "complex64" else tf.float64
    shared = plan.shared.tensors(tf, parameters, real, False)
    sample = plan.sample.tensors(tf, parameters, real, True)
    initial = plan.first_state_tensor(tf, parameters, device.c_dtype)
    if plan.initial is not None and not plan.sample.parameters:
        sample = tf.zeros([tf.shape(initial)[0], 0], real)
    if engine == "tensorflow" and sample.shape[0] is not None:
        device._check_memory(plan, sample.shape[0], len(plan.program.layers))
    if plan.program.outputs:
        values = tf.cast(run.expectations(plan.program, shared, sample, initial=initial), wanted)
        found = tf.unstack(values, num=len(circuit.measurements), axis=1)
        return one_or_all([v if plan.batched else tf.reshape(v, []) for v in found])
    state = run.state(plan.program, shared, sample, initial=initial)
    state = tf.reshape(state, ([-1] if plan.batched else []) + [2] * len(plan.wires))
    found = [measure(m, state, is_state_batched=plan.batched) for m in standard(circuit, plan)]
    complex_ = tf.complex64 if wanted == tf.float32 else tf.complex128
    return one_or_all([tf.cast(v, complex_ if v.dtype.is_complex else wanted) for v in found])


def _result_type(device: HybridbenchQubit, tf: Any, parameters: Sequence[Any]) -> Any:
    """The type of the parameters, since TensorFlow joins no gradient of one type to a parameter of another one."""
    types = {p.dtype for p in parameters if tf.is_tensor(p)}
    for found in (tf.float64, tf.float32):
        if found in types:
            return found
    return tf.float32 if device._precision == "complex64" else tf.float64


def _through_numpy(
    device: HybridbenchQubit, tf: Any, plan: Plan, circuit: QuantumScript, parameters: Sequence[Any], wanted: Any
) -> Any:
    """All measurements on the CPU engine as one function of tensors whose gradient is the adjoint method."""
    complex_ = tf.complex64 if wanted == tf.float32 else tf.complex128
    kinds = [complex_ if is_complex(m) else wanted for m in circuit.measurements]
    chosen = [i for i, p in enumerate(parameters) if tf.is_tensor(p)]
    drop = slice(None) if plan.batched else 0

    def numbers(values: Sequence[np.ndarray]) -> list[np.ndarray]:
        found = list(parameters)
        for i, value in zip(chosen, values, strict=True):
            found[i] = value
        return [np.asarray(value) for value in found]

    def forward(*values: np.ndarray) -> list[np.ndarray]:
        found = device._measured(plan, circuit, numbers(values))
        return [np.asarray(v[drop], kind.as_numpy_dtype) for v, kind in zip(found, kinds, strict=True)]

    def backward(*values: np.ndarray) -> list[np.ndarray]:
        values, cotangents = values[: len(chosen)], values[len(chosen) :]
        found = parameter_gradients(device, plan, circuit, numbers(values), [np.conj(c) for c in cotangents])
        return [np.conj(found[i]).astype(p.dtype) for i, p in zip(chosen, values, strict=True)]

    def call(function: Callable, inputs: Sequence[Any], types: Sequence[Any], shapes: Sequence[Any]) -> tuple[Any, ...]:
        if tf.executing_eagerly():
            return tuple(map(tf.constant, function(*(tensor.numpy() for tensor in inputs))))
        found = as_tuple(tf.numpy_function(function, inputs, types))
        for tensor, wanted_shape in zip(found, shapes, strict=True):
            tensor.set_shape(wanted_shape)
        return found

    @tf.custom_gradient
    def run(*tensors: Any) -> tuple[tuple[Any, ...], Callable]:
        batch = [None] if plan.batched else []
        values = call(forward, tensors, kinds, [[*batch, *shape(m, plan)] for m in circuit.measurements])

        def gradient(*cotangents: Any) -> tuple[Any, ...]:
            return pull_back(*tensors, *cotangents)

        return values, gradient

    @tf.custom_gradient
    def pull_back(*inputs: Any) -> tuple[tuple[Any, ...], Callable]:
        found = call(backward, inputs, [t.dtype for t in inputs[: len(chosen)]], [t.shape for t in inputs[: len(chosen)]])
        return found, lambda *upstream: _second_derivative(device, tf, circuit, parameters, chosen, inputs, upstream)

    return one_or_all(as_tuple(run(*(tf.convert_to_tensor(parameters[i]) for i in chosen))))


def _second_derivative(
    device: HybridbenchQubit,
    tf: Any,
    circuit: QuantumScript,
    parameters: Sequence[Any],
    chosen: Sequence[int],
    inputs: Sequence[Any],
    upstream: Sequence[Any],
) -> list[Any]:
    """Gradient of a gradient with respect to tensors and cotangents, by TensorFlow's engine."""
    n = len(chosen)

    # Symbolic gradients in a graph, and no tapes: TensorFlow holds these while it works out forward mode.
    @partial(tf.function, autograph=False)
    def second(*numbers: Any) -> list[Any]:
        inputs, upstream = [*map(tf.identity, numbers[:-n])], numbers[-n:]
        given = list(parameters)
        for i, tensor in zip(chosen, inputs[:n], strict=True):
            given[i] = tensor
        values = as_tuple(on_tensorflow(device, circuit, "tensorflow", given))
        found = tf.gradients(list(values), inputs[:n], inputs[n:], unconnected_gradients="zero")
        return tf.gradients(found, inputs, list(upstream), stop_gradients=inputs, unconnected_gradients="zero")

    return second(*inputs, *map(tf.convert_to_tensor, upstream))
