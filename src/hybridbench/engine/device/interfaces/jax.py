"""Results as arrays of JAX with a first derivative."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pennylane as qml
from pennylane.tape import QuantumScript

from hybridbench.engine.device.gradients import parameter_gradients
from hybridbench.engine.device.measurements import array, is_complex, one_or_all, shape

if TYPE_CHECKING:
    from hybridbench.engine.device.qubit import HybridbenchQubit


def on_jax(device: HybridbenchQubit, circuit: QuantumScript) -> Any:
    """Results as JAX arrays; their gradient is the adjoint method, and a second one is refused.

    Where JAX traces, it calls back. A batch that it maps over comes as leading axes of all arrays, and each sample of
    it is one call of the engine.
    """
    import jax

    plan = device._plan(circuit)
    parameters = circuit.get_parameters(trainable_only=False)
    chosen = [i for i, p in enumerate(parameters) if isinstance(p, jax.Array)]
    plain = {i: array(p) for i, p in enumerate(parameters) if i not in chosen}
    sizes = [np.shape(parameters[i]) for i in chosen]
    real = np.dtype(device._precision).type(0).real.dtype
    kinds = [np.result_type(real, np.complex64) if is_complex(m) else real for m in circuit.measurements]
    batch = (plan.rows(parameters),) if plan.batched else ()
    results = [
        jax.ShapeDtypeStruct((*batch, *shape(m, plan)), jax.dtypes.canonicalize_dtype(kind))
        for m, kind in zip(circuit.measurements, kinds, strict=True)
    ]
    drop = slice(None) if plan.batched else 0

    def placed(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        given = plain | dict(zip(chosen, arrays, strict=True))
        return [given[i] for i in range(len(parameters))]

    def values(*arrays: np.ndarray) -> list[np.ndarray]:
        return [np.asarray(v)[drop] for v in device._measured(plan, circuit, placed(arrays))]

    def gradients(*arrays: np.ndarray) -> list[np.ndarray]:
        found = parameter_gradients(device, plan, circuit, placed(arrays[: len(chosen)]), arrays[len(chosen) :])
        return [found[i] for i in chosen]

    def call(function: Callable, wanted: Sequence[Any], arrays: Sequence[Any]) -> tuple:
        """`function` of arrays, at once where JAX knows them."""
        inner = [*sizes, *(r.shape for r in results)]

        def mapped(*given: Any) -> tuple:
            given = [*map(np.asarray, given)]
            outer = given[0].shape[: given[0].ndim - len(inner[0])]
            rows = [g.reshape(math.prod(outer), *size) for g, size in zip(given, inner, strict=False)]
            found = [function(*row) for row in zip(*rows, strict=True)]
            return tuple(
                np.asarray([row[k] for row in found], w.dtype).reshape((*outer, *w.shape)) for k, w in enumerate(wanted)
            )

        if not any(isinstance(a, jax.core.Tracer) for a in arrays):
            return tuple(map(jax.numpy.asarray, mapped(*arrays)))
        return jax.pure_callback(mapped, tuple(wanted), *arrays, **_callback_options(jax))

    @jax.custom_vjp
    def run(*arrays: Any) -> tuple:
        return call(values, results, arrays)

    @jax.custom_vjp
    def pull_back(*arrays: Any) -> tuple:
        return call(gradients, [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in arrays[: len(chosen)]], arrays)

    def refuse(_: None, upstream: Any) -> Any:
        raise qml.QuantumFunctionError(
            f"{device.name} gives first derivatives only under JAX, and a derivative of a derivative was asked for: use "
            "diff_method='backprop' on default.qubit, or TensorFlow or autograd with this device."
        )

    def backward(arrays: Any, cotangents: Any) -> tuple:
        found = pull_back(*arrays, *cotangents)
        differentiable = [np.issubdtype(a.dtype, np.inexact) for a in arrays]
        return tuple(g if is_number else None for g, is_number in zip(found, differentiable, strict=True))

    # JAX differentiates at Python's numbers too, which have no type.
    run.defvjp(lambda *arrays: (run(*arrays), tuple(map(jax.numpy.asarray, arrays))), backward)
    pull_back.defvjp(lambda *arrays: (pull_back(*arrays), None), refuse)
    if not chosen:
        return one_or_all([jax.numpy.asarray(v, r.dtype) for v, r in zip(values(), results, strict=True)])
    return one_or_all(run(*(parameters[i] for i in chosen)))


def _callback_options(jax: Any) -> dict[str, Any]:
    """How JAX maps a callback over a batch: in one call, or in many where it is too old to repeat what has no batch."""
    known = inspect.signature(jax.pure_callback).parameters
    return {"vmap_method": "broadcast_all"} if "vmap_method" in known else {"vectorized": False}
