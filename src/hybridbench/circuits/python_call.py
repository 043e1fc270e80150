"""Python code as an operation of a TensorFlow graph, with gradients."""

from __future__ import annotations

import itertools
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from hybridbench.stack import import_tensorflow

tf = import_tensorflow()
import pennylane as qml  # noqa: E402  (TensorFlow first, with its start-up notices held back)

KEPT_RUNS = 4  #: forward passes of one place in a graph that are remembered for their backward pass


def call_from_graph(
    function: Callable[[tf.Tensor, Sequence[tf.Tensor]], tf.Tensor],
    x: tf.Tensor,
    weights: Sequence[tf.Tensor],
    dtype: tf.DType,
    shape: tf.TensorShape | None,
) -> tf.Tensor:
    """Call `function` eagerly whenever the graph runs.

    Not every circuit has a gradient with respect to its inputs. So that is asked for in one pass with the weights' only
    where a tape wants it while the graph is built, and otherwise by a call of its own, which the graph leaves out where
    nobody uses the result (`tf.py_function` would always ask for both).

    Args:
        function: of inputs and weights, made of eager TensorFlow operations.
        x: inputs.
        weights: the other arguments, all of them floating-point numbers.
        dtype: of the result, which is cast to it.
        shape: of the result as far as it is known, or None.
    """
    with_inputs = qml.math.requires_grad(x)
    taped = with_inputs or any(map(qml.math.requires_grad, weights))
    keys = itertools.count()
    runs: OrderedDict[int, tuple[tf.GradientTape, Sequence[tf.Tensor], tf.Tensor]] = OrderedDict()

    def run(wanted: slice, *arguments: np.ndarray) -> tuple[tf.GradientTape, Sequence[tf.Tensor], tf.Tensor]:
        tensors = [*map(tf.constant, arguments)]
        with tf.GradientTape() as tape:
            tape.watch(tensors[wanted])
            return tape, tensors[wanted], tf.cast(function(tensors[0], tensors[1:]), dtype)

    def forward(*arguments: np.ndarray) -> tuple[np.ndarray, np.int64]:
        if not taped:
            tensors = [*map(tf.constant, arguments)]
            return tf.cast(function(tensors[0], tensors[1:]), dtype).numpy(), np.int64(-1)
        key = next(keys)
        runs[key] = run(slice(0 if with_inputs else 1, None), *arguments)
        if len(runs) > KEPT_RUNS:
            runs.popitem(last=False)
        return runs[key][2].numpy(), np.int64(key)

    def backward(wanted: slice, upstream: np.ndarray, key: np.int64, *arguments: np.ndarray) -> list[np.ndarray]:
        tape, sources, result = runs.pop(int(key), None) or run(wanted, *arguments)
        gradients = tape.gradient(result, sources, tf.constant(upstream))
        # The inputs' own pass may find none. Keras warns of weights whose gradient is None; in a graph it would be zero.
        if wanted != slice(1) and all(gradient is None for gradient in gradients):
            warnings.warn(
                "PennyLane gives no gradient of this circuit with respect to its weights, and they are not trained: give "
                "the QNode another diff_method or device.",
                stacklevel=2,
            )
        pairs = zip(gradients, sources, strict=True)
        return [np.zeros(source.shape, source.dtype.as_numpy_dtype) if g is None else g.numpy() for g, source in pairs]

    @tf.custom_gradient
    def call(*arguments: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], Any]]:
        result, key = tf.numpy_function(forward, arguments, [dtype, tf.int64])
        result.set_shape(shape)

        def gradient(upstream: tf.Tensor) -> list[tf.Tensor | None]:
            found: list[tf.Tensor | None] = []
            for wanted in [slice(None)] if with_inputs else [slice(1), slice(1, None)]:
                sources = [argument for argument in arguments[wanted] if argument.dtype.is_floating]
                kept = key if taped and wanted != slice(1) else tf.constant(-1, tf.int64)
                types = [source.dtype for source in sources]
                inputs = [upstream, kept, *arguments]
                parts = tf.numpy_function(partial(backward, wanted), inputs, types, stateful=False) if sources else []
                for part, source in zip(parts, sources, strict=True):
                    part.set_shape(source.shape)
                found += parts or [None] * len(arguments[wanted])
            return found

        return result, gradient

    return call(x, *weights)
