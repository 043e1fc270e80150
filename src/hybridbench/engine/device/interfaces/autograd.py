"""Results as arrays of autograd that can be differentiated any number of times."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from autograd import numpy as anp
from autograd.extend import defvjp_argnums, primitive
from autograd.numpy.numpy_boxes import ArrayBox
from pennylane.math import Interface
from pennylane.tape import QuantumScript

from hybridbench.engine.device.engines import load_tensorflow
from hybridbench.engine.device.gradients import parameter_gradients
from hybridbench.engine.device.interfaces.tensorflow import on_tensorflow
from hybridbench.engine.device.measurements import array, as_tuple, is_complex, one_or_all, shape

if TYPE_CHECKING:
    from hybridbench.engine.device.qubit import HybridbenchQubit


def on_autograd(device: HybridbenchQubit, circuit: QuantumScript, engine: str) -> Any:
    """Results as autograd arrays: first derivatives by the adjoint method, unless `engine` is "tensorflow".

    Derivatives of derivatives are always the TensorFlow engine's.
    """
    plan = device._plan(circuit)
    parameters = circuit.get_parameters(trainable_only=False)
    boxes = [i for i, p in enumerate(parameters) if isinstance(p, ArrayBox)]
    if not boxes:
        return device._values(circuit, Interface.AUTOGRAD)
    tf = load_tensorflow()
    parts = (anp.real, anp.imag)  # complex numbers cross as two real ones: the two frameworks conjugate differently
    inputs = [part(parameters[i]) for i in boxes for part in parts]
    plain = [array(p) for p in parameters]
    batch = [plan.rows(plain)] if plan.batched else []
    axes = [(*batch, *shape(m, plan)) for m in circuit.measurements]

    def placed(planes: Sequence[Any], join: Callable) -> list[Any]:
        given = list(plain)
        for k, i in enumerate(boxes):
            real, imaginary = planes[2 * k : 2 * k + 2]
            given[i] = join(real, imaginary) if np.iscomplexobj(given[i]) else real
        return given

    def values(*tensors: Any) -> Any:
        found = as_tuple(on_tensorflow(device, circuit, "tensorflow", placed(tensors, tf.complex)))
        return tf.concat([tf.reshape(part(v), [-1]) for v in found for part in (tf.math.real, tf.math.imag)], axis=0)

    def on_arrays(*planes: np.ndarray) -> np.ndarray:
        found = device._measured(plan, circuit, placed(planes, lambda re, im: re + 1j * im))
        return np.concatenate([np.ravel(part(v)).astype(float) for v in found for part in (np.real, np.imag)])

    def gradients(cotangent: np.ndarray, *planes: np.ndarray) -> list[np.ndarray]:
        cotangents, start = [], 0
        for shape_ in axes:
            real, imaginary = cotangent[start : start + 2 * math.prod(shape_)].reshape(2, *shape_)
            cotangents.append(real - 1j * imaginary)
            start += 2 * math.prod(shape_)
        found = parameter_gradients(device, plan, circuit, placed(planes, lambda re, im: re + 1j * im), cotangents)
        return [part for i in boxes for part in (np.real(found[i]), -np.imag(found[i]))]

    fast = (on_arrays, gradients) if engine != "tensorflow" else ()
    flat, results = _differentiable(tf, values, *fast)(*inputs), []
    for m, shape_ in zip(circuit.measurements, axes, strict=True):
        n = math.prod(shape_)
        real, imaginary = anp.reshape(flat[:n], shape_), anp.reshape(flat[n : 2 * n], shape_)
        flat = flat[2 * n :]
        results.append(real + 1j * imaginary if is_complex(m) else real)
    return one_or_all(results)


def _differentiable(
    tf: Any, function: Callable, on_arrays: Callable | None = None, gradient_on_arrays: Callable | None = None
) -> Callable:
    """A function of TensorFlow tensors as one of autograd arrays, which can be differentiated any number of times.

    Args:
        tf: TensorFlow.
        function: of tensors, to one tensor.
        on_arrays: the same function of NumPy arrays, where there is a faster one.
        gradient_on_arrays: its gradients from (cotangent, *arrays), one for each; further derivatives are TensorFlow's.
    """

    @primitive
    def run(*arrays: np.ndarray) -> np.ndarray:
        return function(*map(tf.constant, arrays)).numpy() if on_arrays is None else on_arrays(*arrays)

    def flat_gradient(cotangent: Any, *tensors: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            found = function(*tensors)
        gradients = tape.gradient(found, tensors, cotangent, unconnected_gradients="zero")
        return tf.concat([tf.reshape(gradient, [-1]) for gradient in gradients], axis=0)

    def flat_gradient_on_arrays(cotangent: np.ndarray, *arrays: np.ndarray) -> np.ndarray:
        return np.concatenate([np.ravel(gradient) for gradient in gradient_on_arrays(cotangent, *arrays)])

    def pull(argnums: Sequence[int], value: np.ndarray, arrays: Sequence[Any], options: dict) -> Callable:
        shapes = [np.shape(array) for array in arrays]
        stops = np.cumsum([math.prod(shape) for shape in shapes])

        def pulled(cotangent: Any) -> tuple:
            fast = None if gradient_on_arrays is None else flat_gradient_on_arrays
            flat = _differentiable(tf, flat_gradient, fast)(cotangent, *arrays)
            return tuple(anp.reshape(flat[stops[a] - math.prod(shapes[a]) : stops[a]], shapes[a]) for a in argnums)

        return pulled

    defvjp_argnums(run, pull)
    return run
