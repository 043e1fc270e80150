"""Results as tensors of PyTorch with a first derivative."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pennylane as qml
from pennylane.tape import QuantumScript

from hybridbench.engine.device.gradients import parameter_gradients
from hybridbench.engine.device.measurements import array, as_tuple, one_or_all, shaped

if TYPE_CHECKING:
    from hybridbench.engine.device.qubit import HybridbenchQubit


def on_torch(device: HybridbenchQubit, circuit: QuantumScript) -> Any:
    """Results as PyTorch tensors; their gradient is the adjoint method, and a second one is refused."""
    import torch

    plan = device._plan(circuit)
    parameters = circuit.get_parameters(trainable_only=False)
    chosen = [i for i, p in enumerate(parameters) if isinstance(p, torch.Tensor) and p.requires_grad]
    plain = [array(p.detach() if isinstance(p, torch.Tensor) else p) for p in parameters]
    kind = np.dtype(device._precision).type(0).real.dtype

    def placed(tensors: Sequence[Any]) -> list[np.ndarray]:
        given = list(plain)
        for i, tensor in zip(chosen, tensors, strict=True):
            given[i] = tensor.detach().cpu().numpy()
        return given

    class Gradient(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *tensors: Any) -> tuple:
            inputs, cotangents = tensors[: len(chosen)], tensors[len(chosen) :]
            given = [np.conj(c.detach().cpu().resolve_conj().numpy()) for c in cotangents]
            found = parameter_gradients(device, plan, circuit, placed(inputs), given)
            return tuple(
                torch.as_tensor(np.conj(found[i])).to(t.dtype).to(t.device) for i, t in zip(chosen, inputs, strict=True)
            )

        @staticmethod
        def backward(ctx: Any, *upstream: Any) -> Any:
            raise qml.QuantumFunctionError(
                f"{device.name} gives first derivatives only under PyTorch, and a derivative of a derivative was asked "
                "for: use diff_method='backprop' on default.qubit, or TensorFlow or autograd with this device."
            )

    class Run(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *tensors: Any) -> tuple:
            ctx.save_for_backward(*tensors)
            found = as_tuple(shaped(device._measured(plan, circuit, placed(tensors)), plan, kind))
            return tuple(torch.as_tensor(np.array(value)) for value in found)

        @staticmethod
        def backward(ctx: Any, *cotangents: Any) -> Any:
            return Gradient.apply(*ctx.saved_tensors, *cotangents)

    return one_or_all(Run.apply(*(parameters[i] for i in chosen)))
