"""Kernels before the first pass back and after the last one: observables and gradients from sums."""

from __future__ import annotations

import math

import numba
from numba import cuda

from hybridbench.engine import encoding as E
from hybridbench.engine.cuda.kernels.layout import angle_value, odd, run_matrix, shared_angle_value, term_at

SUMMERS = 64  #: threads that add up a column over the batch, or a share of a state


@cuda.jit(device=True)
def _rodrigues(gx, gy, gz, x, y, z, angle):
    """The vector of Im <lam|P psi> for P = X, Y, Z before a rotation about (x, y, z), from that after it."""
    along = x * gx + y * gy + z * gz
    c, s = math.cos(angle), math.sin(angle)
    return (
        c * gx - s * (y * gz - z * gy) + (1.0 - c) * along * x,
        c * gy - s * (z * gx - x * gz) + (1.0 - c) * along * y,
        c * gz - s * (x * gy - y * gx) + (1.0 - c) * along * z,
    )


@cuda.jit
def collect(code, real_code, shared, sample, partial, contributions):
    """Add up the blocks of tiles: a thread a sample and a slot, or a wire's three slots and its rotations.

    Columns of `contributions` (batch, n): Im <lam|P psi> of the runs, three each; then dL/dangle of strings, sample strings,
    sample rotations, blocks, and the rotations of the product start.
    """
    n_runs, n_product = code[E.N_RUNS], code[E.N_PRODUCT]
    n_plain = code[E.N_STRINGS] + code[E.N_SAMPLE_STRINGS] + code[E.N_SAMPLE_ROTATIONS]
    n_single = 3 * n_runs + n_plain + code[E.N_BLOCKS]
    n_jobs = n_single + (code[E.N_QUBITS] if n_product else 0)
    number = cuda.grid(1)
    row = number // n_jobs
    if row >= sample.shape[0]:
        return
    job = number - row * n_jobs
    if job < n_single:
        total = 0.0
        for block in range(partial.shape[0]):
            total += partial[block, row, job]
        if 3 * n_runs <= job < 3 * n_runs + n_plain:
            total *= 0.5
        contributions[row, job] = total
        return
    bit = job - n_single
    gx, gy, gz = 0.0, 0.0, 0.0
    for block in range(partial.shape[0]):
        gx += partial[block, row, n_single + 3 * bit]
        gy += partial[block, row, n_single + 3 * bit + 1]
        gz += partial[block, row, n_single + 3 * bit + 2]
    at = code[E.AT_PRODUCT] + 2 * bit
    rotations = code[E.AT_PRODUCT] + 2 * code[E.N_QUBITS]
    for r in range(code[at] + code[at + 1] - 1, code[at] - 1, -1):
        place = rotations + r * E.ROTATION
        x, y, z = real_code[place], real_code[place + 1], real_code[place + 2]
        contributions[row, n_single + r] = 0.5 * (x * gx + y * gy + z * gz)
        gx, gy, gz = _rodrigues(gx, gy, gz, x, y, z, angle_value(code, real_code, place + 3, shared, sample, row))


@cuda.jit
def add_up(contributions, sums):
    """Sum over the batch: a block of threads a column, in the same order always."""
    shares = cuda.shared.array(SUMMERS, dtype=numba.float64)
    t, column = cuda.threadIdx.x, cuda.blockIdx.x
    total = 0.0
    for row in range(t, contributions.shape[0], cuda.blockDim.x):
        total += contributions[row, column]
    shares[t] = total
    cuda.syncthreads()
    if t == 0:
        total = 0.0
        for j in range(cuda.blockDim.x):
            total += shares[j]
        sums[column] = total


@cuda.jit
def shared_gradients(code, real_code, shared, sums, rotations, starts, sources, scales, out):
    """dL/dshared, one block of threads: back through the rotations of each run, then what depends on each parameter.

    `sources[starts[p]:starts[p + 1]]` are the places, in the rotations of runs followed by the columns of `sums` after the
    runs', of what depends on parameter p, and `scales` how much.
    """
    n_runs = code[E.N_RUNS]
    for run in range(cuda.threadIdx.x, n_runs, cuda.blockDim.x):
        _, _, alpha, _ = run_matrix(code, real_code, run, shared)
        # The sums were taken between RY and RZ(alpha).
        c, s = math.cos(alpha), math.sin(alpha)
        gx, gy, gz = sums[3 * run], sums[3 * run + 1], sums[3 * run + 2]
        gx, gy = c * gx - s * gy, c * gy + s * gx
        at = code[E.AT_RUNS] + run * E.RUN
        for r in range(code[at] + code[at + 1] - 1, code[at] - 1, -1):
            place = code[E.AT_RUN_ROTATIONS] + r * E.ROTATION
            x, y, z = real_code[place], real_code[place + 1], real_code[place + 2]
            rotations[r] = 0.5 * (x * gx + y * gy + z * gz)
            gx, gy, gz = _rodrigues(gx, gy, gz, x, y, z, shared_angle_value(code, real_code, place + 3, shared))
    cuda.syncthreads()
    n_rotations = rotations.shape[0]
    for p in range(cuda.threadIdx.x, out.shape[0], cuda.blockDim.x):
        total = 0.0
        for j in range(starts[p], starts[p + 1]):
            source = sources[j]
            if source < n_rotations:
                total += scales[j] * rotations[source]
            else:
                total += scales[j] * sums[3 * n_runs + source - n_rotations]
        out[p] = total


@cuda.jit
def sample_gradients(contributions, starts, sources, scales, out):
    """dL/dsample, a thread an entry; `sources` are columns of `contributions`."""
    number = cuda.grid(1)
    row = number // out.shape[1]
    if row < out.shape[0]:
        column = number - row * out.shape[1]
        total = 0.0
        for j in range(starts[column], starts[column + 1]):
            total += scales[j] * contributions[row, sources[j]]
        out[row, column] = total


@cuda.jit
def add_blocks(partial):
    """Add the blocks of tiles up, into the first: a thread a sample and a term."""
    number = cuda.grid(1)
    row = number // partial.shape[2]
    if row < partial.shape[1]:
        term = number - row * partial.shape[2]
        total = 0.0
        for block in range(partial.shape[0]):
            total += partial[block, row, term]
        partial[0, row, term] = total


@cuda.jit
def outputs(code, real_code, partial, out):
    """Expectation values (batch, n_outputs) from the sums of the terms, which `add_blocks` has added up: a thread each."""
    number = cuda.grid(1)
    row = number // out.shape[1]
    if row < out.shape[0]:
        output = number - row * out.shape[1]
        total = 0.0
        for term in range(partial.shape[2]):
            at = term_at(code, term)
            if code[at] == output:
                total += real_code[at + 1] * partial[0, row, term]
        out[row, output] = total


@cuda.jit(device=True)
def _turned(power, re, im):
    """Real part of i**power (re + i im)."""
    if power == 0:
        return re
    if power == 1:
        return -im
    if power == 2:
        return -re
    return im


@cuda.jit
def measure_off_diagonal(code, psi, partial):
    """Sums of the terms with X over the states in global memory: a block of threads a sample and a share of the state."""
    shares = cuda.shared.array(SUMMERS, dtype=numba.float64)
    t, row, share = cuda.threadIdx.x, cuda.blockIdx.x, cuda.blockIdx.y
    for term in range(code[E.N_OFF_DIAGONAL]):
        at = code[E.AT_OFF_DIAGONAL] + term * E.TERM
        power, x, z = code[at + 2], code[at + 3], code[at + 4]
        total = 0.0
        for i in range(share * cuda.blockDim.x + t, psi.shape[2], cuda.gridDim.y * cuda.blockDim.x):
            pr, pi = psi[row, 0, i], psi[row, 1, i]
            ar, ai = psi[row, 0, i ^ x], psi[row, 1, i ^ x]
            value = _turned(power, ar * pr + ai * pi, ar * pi - ai * pr)
            if odd(i & z):
                value = -value
            total += value
        shares[t] = total
        cuda.syncthreads()
        if t == 0:
            total = 0.0
            for j in range(cuda.blockDim.x):
                total += shares[j]
            partial[share, row, code[E.N_DIAGONAL] + term] = total
        cuda.syncthreads()


@cuda.jit
def start_adjoint(code, real_code, cotangent, psi, lam):
    """lam = 2 sum over terms of cotangent * term psi, in global memory: a row of blocks of threads a sample."""
    row = cuda.blockIdx.x
    first = cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    for i in range(first, psi.shape[2], cuda.gridDim.y * cuda.blockDim.x):
        re, im = 0.0, 0.0
        for term in range(code[E.N_DIAGONAL] + code[E.N_OFF_DIAGONAL]):
            at = term_at(code, term)
            power, j = code[at + 2], i ^ code[at + 3]
            weight = 2.0 * real_code[at + 1] * cotangent[row, code[at]]
            if odd(j & code[at + 4]):
                weight = -weight
            pr, pi = psi[row, 0, j], psi[row, 1, j]
            re += weight * _turned(power, pr, pi)
            im += weight * _turned((power + 3) % 4, pr, pi)
        lam[row, 0, i], lam[row, 1, i] = re, im
