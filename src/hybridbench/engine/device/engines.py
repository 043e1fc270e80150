"""The engines that the device runs on, imported on first use."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from hybridbench.stack import import_tensorflow


@lru_cache
def load_tensorflow() -> Any:
    """TensorFlow."""
    return import_tensorflow()


def engine_on_arrays(name: str) -> Any:
    """The engine for NumPy arrays."""
    if name == "tensorflow":
        return _TensorflowOnArrays
    if name == "cuda":
        from hybridbench.engine import cuda as found
    else:
        from hybridbench.engine import cpu as found
    return found


def engine_on_tensors(name: str) -> Any:
    """The engine for tensors of TensorFlow."""
    if name == "cpu":
        from hybridbench.engine import operation as found
    elif name == "cuda":
        from hybridbench.engine.cuda import operation as found
    else:
        from hybridbench.engine import tensorflow as found
    return found


class _TensorflowOnArrays:
    """The TensorFlow engine with the interface of the CPU engine."""

    @staticmethod
    def _run(task: str, program: Any, shared: Any, sample: Any, precision: str, initial: Any, cotangent: Any = None) -> Any:
        tf = load_tensorflow()
        real = tf.float32 if precision == "complex64" else tf.float64

        def values() -> Any:
            return getattr(engine_on_tensors("tensorflow"), task)(
                program, *inputs[:2], initial=None if initial is None else inputs[2]
            )

        with tf.init_scope():  # numbers are wanted also where PennyLane asks while TensorFlow traces a graph
            inputs = [tf.constant(shared, real), tf.constant(sample, real)]
            inputs += [] if initial is None else [tf.constant(initial, precision)]
            if cotangent is None:
                return values().numpy()
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            found = values()
        found = tape.gradient(found, inputs, tf.constant(cotangent, found.dtype), unconnected_gradients="zero")
        return *(tf.convert_to_tensor(g).numpy() for g in found), *([None] if initial is None else [])

    @classmethod
    def expectations(cls, program: Any, shared: Any, sample: Any, precision: str, initial: Any) -> Any:
        return cls._run("expectations", program, shared, sample, precision, initial)

    @classmethod
    def state(cls, program: Any, shared: Any, sample: Any, precision: str, initial: Any) -> Any:
        return cls._run("state", program, shared, sample, precision, initial)

    @classmethod
    def expectations_vjp(cls, program: Any, shared: Any, sample: Any, cotangent: Any, precision: str, initial: Any) -> Any:
        return cls._run("expectations", program, shared, sample, precision, initial, cotangent)

    @classmethod
    def state_vjp(cls, program: Any, shared: Any, sample: Any, cotangent: Any, precision: str, initial: Any) -> Any:
        return cls._run("state", program, shared, sample, precision, initial, cotangent)
