"""The GPU: numba's interface to it, and what this process had it do."""

from __future__ import annotations

import importlib.util
import warnings
from functools import lru_cache
from types import ModuleType
from typing import Any

from hybridbench.engine.cpu import REAL
from hybridbench.errors import BackendError, StackError
from hybridbench.stack import NUMBA_CUDA, check_package

SIMULATOR = "numba's simulator of a GPU"


class Counters:
    """What this process had the GPU do."""

    launches = 0
    device = ""


@lru_cache
def require() -> ModuleType:
    """numba's CUDA interface, with a GPU behind it.

    Raises:
        BackendError: numba-cuda is not installed, or finds no NVIDIA GPU that it can use.
    """
    if importlib.util.find_spec("numba") is None or importlib.util.find_spec("numba.cuda") is None:
        raise BackendError(
            "The CUDA engine needs numba-cuda, which is not installed. Nothing ran; install the packages of "
            "requirements-gpu.lock, or use engine='cpu'."
        )
    try:
        check_package("numba-cuda", "which compiles the kernels of the CUDA engine", least=NUMBA_CUDA)
    except StackError as error:
        raise BackendError(f"{error} Nothing ran.") from error
    from numba import cuda
    from numba.core.errors import NumbaPerformanceWarning

    # Small batches are small grids; that is not for users to hear of.
    warnings.filterwarnings("ignore", message="Grid size", category=NumbaPerformanceWarning)
    try:
        name = cuda.get_current_device().name if not simulated() else SIMULATOR
    except (cuda.cudadrv.error.CudaSupportError, cuda.cudadrv.driver.CudaAPIError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split()).rstrip(" .:)")[:200]
        raise BackendError(f"The CUDA engine found no NVIDIA GPU ({reason}). Nothing ran; use engine='cpu'.") from error
    Counters.device = name.decode() if isinstance(name, bytes) else str(name)
    return cuda


def simulated() -> bool:
    """Whether numba's simulator stands in for a GPU, as NUMBA_ENABLE_CUDASIM asks."""
    from numba import config

    return bool(config.ENABLE_CUDASIM)


def counters() -> dict[str, Any]:
    """Name of the device, kernels launched so far by this engine, and kernels compiled so far."""
    compiled = 0
    if Counters.launches and not simulated():
        compiled = sum(len(kernel.overloads) for kernel in _all_kernels())
    return {"device": Counters.device, "launches": Counters.launches, "compilations": compiled}


def synchronize() -> None:
    """Wait until the GPU has done all it was told."""
    require().synchronize()


def _all_kernels() -> list[Any]:
    from hybridbench.engine.cuda.kernels import kernels
    from hybridbench.engine.cuda.kernels import sums as K

    plain = [
        K.collect,
        K.add_up,
        K.shared_gradients,
        K.sample_gradients,
        K.add_blocks,
        K.outputs,
        K.measure_off_diagonal,
        K.start_adjoint,
    ]
    return plain + [kernel for precision in REAL for kernel in vars(kernels(precision)).values()]
