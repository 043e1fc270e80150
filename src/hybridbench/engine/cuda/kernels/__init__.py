"""The CUDA engine's kernels (numba-cuda): a program, forward and adjoint backward, over a batch.

A block of threads holds `S` samples of one tile (`passes`) in shared memory: `A = S * 2**k` amplitudes as planes of real and
imaginary parts, and backward the same of `lam`, the vector with dL = Re <lam|dpsi>. `2**k / 2` threads or fewer work on each
sample. A circuit whose state is one tile is one launch, whatever its depth; a larger one goes through global memory once a
pass.

Gradients are sums over amplitudes of Im <lam|P psi> (see `cpu.kernels`). Each sum has a slot: threads keep their
shares in columns of shared memory, which are added up in the same order whatever runs beside, so that equal calls give
equal results to the last bit. `partial` holds the slots of each block of tiles and sample; `collect`, `add_up` and
`gradients` make gradients of them.

`code` and `real_code` are one array, the encoded program (`encoding`), read as integers and as float64. `plan` describes a
pass: a header, the vectors of the tile, its free bits, the operations, and the local masks of diagonal observables.
"""

from __future__ import annotations

from functools import lru_cache
from types import SimpleNamespace

import numba
import numpy as np

from hybridbench.engine.cuda.kernels.backward import backward_kernel
from hybridbench.engine.cuda.kernels.forward import forward_kernel, prepare_kernel
from hybridbench.engine.cuda.kernels.pieces import pieces


@lru_cache
def kernels(precision: str) -> SimpleNamespace:
    """The kernels whose arithmetic is in one precision: prepare, forward and backward."""
    real = np.float32 if precision == "complex64" else np.float64
    kind = numba.float32 if precision == "complex64" else numba.float64
    shared_pieces = pieces(real)
    return SimpleNamespace(
        prepare=prepare_kernel(real),
        forward=forward_kernel(real, kind, shared_pieces),
        backward=backward_kernel(real, kind, shared_pieces),
    )
