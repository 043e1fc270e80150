"""The CUDA engine for TensorFlow: tensors on TensorFlow's GPU pass without a copy, others through the host.

Graphs call it as Python code (`tf.py_function`), on the GPU where TensorFlow has one. Tensors cross by DLPack; both sides
wait for each other, since they use streams of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hybridbench.engine.cuda import dlpack
from hybridbench.engine.cuda.gpu import require, synchronize
from hybridbench.engine.cuda.sessions import LOCK, Session, session
from hybridbench.engine.program import Kind, Program
from hybridbench.errors import ConfigurationError
from hybridbench.stack import import_tensorflow

tf = import_tensorflow()

_PRECISION = {tf.float32: "complex64", tf.float64: "complex128"}


def expectations(program: Program, shared: tf.Tensor, sample: tf.Tensor, initial: tf.Tensor | None = None) -> tf.Tensor:
    """Expectation values (batch, n_outputs); arguments as in `hybridbench.engine.tensorflow.expectations`.

    Raises:
        BackendError: there is no GPU that numba-cuda can use.
    """
    return _apply(program, False, shared, sample, initial)


def state(program: Program, shared: tf.Tensor, sample: tf.Tensor, initial: tf.Tensor | None = None) -> tf.Tensor:
    """State vectors (batch, 2**n_qubits) with their global phase; arguments as in `expectations`."""
    amplitudes = _apply(program, True, shared, sample, initial)
    angle = tf.zeros((1,), shared.dtype)
    for part in program.phase:
        value = {Kind.SHARED: shared[None, :], Kind.SAMPLE: sample}.get(part.kind)
        angle += part.offset if value is None else part.offset + part.scale * value[:, part.index]
    return amplitudes * tf.complex(tf.cos(angle), tf.sin(angle))[:, None]


def _apply(program: Program, for_states: bool, shared: Any, sample: Any, initial: Any) -> tf.Tensor:
    require()
    shared, sample = tf.convert_to_tensor(shared), tf.convert_to_tensor(sample)
    real = shared.dtype
    complex_ = tf.complex64 if real == tf.float32 else tf.complex128
    start = tf.zeros((1, 0), complex_) if initial is None else tf.cast(initial, complex_)
    width = 2**program.n_qubits if for_states else len(program.outputs)
    forward, backward = _forward(program, for_states, _PRECISION[real]), _backward(program, for_states, _PRECISION[real])

    @tf.custom_gradient
    def run(shared: tf.Tensor, sample: tf.Tensor, start: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        values, ticket = _call(forward, [shared, sample, start], [complex_ if for_states else real, tf.int64])
        values.set_shape((sample.shape[0], width))

        def gradient(cotangent: tf.Tensor) -> list[tf.Tensor]:
            given = [shared, sample, start, cotangent, ticket]
            found = _call(backward, given, [real, real, complex_])
            for tensor, like in zip(found, (shared, sample, start), strict=True):
                tensor.set_shape(like.shape)
            return found

        return values, gradient

    return run(shared, sample, start)


def _call(function: Callable, inputs: Sequence[tf.Tensor], types: Sequence[tf.DType]) -> list[tf.Tensor]:
    def alone(*tensors: tf.Tensor) -> Any:
        with LOCK:  # TensorFlow may call from several threads
            return function(*tensors)

    if tf.executing_eagerly():
        return list(alone(*inputs))
    with tf.device("GPU:0" if tf.config.list_logical_devices("GPU") else "CPU:0"):
        return tf.py_function(alone, inputs, types)


def _forward(program: Program, for_states: bool, precision: str) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
    """Values and the number of the run, by which `_backward` knows whether its states are still there."""

    def run(shared: tf.Tensor, sample: tf.Tensor, start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        one = _started(program, for_states, precision, shared, sample, start)
        if for_states:
            values = tf.constant(one.states())
        else:
            values = _to_tensor(one.measure(), (one.batch, len(program.outputs)), sample)
        return values, tf.constant(one.number_of_run, tf.int64)

    return run


def _backward(program: Program, for_states: bool, precision: str) -> Callable[..., tuple[tf.Tensor, ...]]:
    def run(
        shared: tf.Tensor, sample: tf.Tensor, start: tf.Tensor, cotangent: tf.Tensor, ticket: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        one = session(program, sample.shape[0], precision, for_states)
        if one.number_of_run != int(ticket):
            one = _started(program, for_states, precision, shared, sample, start)
        if for_states:
            one.start_adjoint_from(cotangent.numpy())
            d_shared, d_sample = one.pull_back(None)
        else:
            d_shared, d_sample = one.pull_back(_to_device(cotangent))
        d_initial = tf.zeros_like(start)
        if program.product is None:
            found = one.initial_gradient()
            d_initial = tf.constant(found if start.shape[0] == len(found) else found.sum(axis=0, keepdims=True))
        return _to_tensor(d_shared, shared.shape, shared), _to_tensor(d_sample, sample.shape, sample), d_initial

    return run


def _started(
    program: Program, for_states: bool, precision: str, shared: tf.Tensor, sample: tf.Tensor, start: tf.Tensor
) -> Session:
    if sample.shape[0] == 0:
        raise ConfigurationError("The batch is empty, and the CUDA engine needs at least one sample.")
    one = session(program, sample.shape[0], precision, for_states)
    if program.product is None:
        one.start_from(start.numpy())
    one.load(_to_device(shared), _to_device(sample))
    one.run()
    return one


def _is_on_gpu(tensor: tf.Tensor) -> bool:
    return "GPU" in tensor.device


def _to_device(tensor: tf.Tensor) -> Any:
    """A tensor as what `Session` takes: the GPU's own memory, or a NumPy array where the tensor is on the host."""
    if not _is_on_gpu(tensor) or not tensor.shape.num_elements():
        return tensor.numpy()
    numba_cuda = require()
    synchronize()  # TensorFlow's stream may still be writing
    return numba_cuda.as_cuda_array(dlpack.Borrowed(tf.experimental.dlpack.to_dlpack(tensor)), sync=False)


def _to_tensor(array: Any, shape: Sequence[int], like: tf.Tensor) -> tf.Tensor:
    """The first numbers of a device array as a tensor of a shape, where `like` is and of its type."""
    if 0 in shape:
        return tf.zeros(shape, like.dtype)
    part = array[: shape[0]]
    if not _is_on_gpu(like):
        return tf.constant(part.copy_to_host())
    numba_cuda = require()
    fresh = numba_cuda.device_array(tuple(shape), array.dtype)  # the session writes its own again at the next call
    fresh.copy_to_device(part)
    synchronize()
    address = fresh.__cuda_array_interface__["data"][0]
    place = (dlpack.CUDA, numba_cuda.get_current_device().id)
    return tf.experimental.dlpack.from_dlpack(dlpack.capsule(fresh, address, fresh.shape, array.dtype, place))
