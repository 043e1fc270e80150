"""The CUDA engine's kernels (numba-cuda): a program, forward and adjoint backward, over a batch.

A block of threads holds `S` samples of one tile (`passes`) in shared memory: `A = S * 2**k` amplitudes as planes of real and
imaginary parts, and backward the same of `lam`, the vector with dL = Re <lam|dpsi>. `2**k / 2` threads or fewer work on each
sample. A circuit whose state is one tile is one launch, whatever its depth; a larger one goes through global memory once a
pass.

Gradients are sums over amplitudes of Im <lam|P psi> (see `kernels` for the CPU). Each sum has a slot: threads keep their
shares in columns of shared memory, which are added up in the same order whatever runs beside, so that equal calls give
equal results to the last bit. `partial` holds the slots of each block of tiles and sample; `collect`, `add_up` and
`gradients` make gradients of them.

`code` and `real_code` are one array, the encoded program (`encoding`), read as integers and as float64. `plan` describes a
pass: a header, the vectors of the tile, its free bits, the operations, and the local masks of diagonal observables.
"""

from __future__ import annotations

import math
from functools import lru_cache
from types import SimpleNamespace

import numba
import numpy as np
from numba import cuda

from hybridbench.engine import encoding as E
from hybridbench.engine.cuda import passes as P

#: Words of the header of a pass.
(
    TILE_BITS,
    SAMPLES,  # of a block
    WORKERS,  # threads of each sample
    N_FREE,
    N_OPERATIONS,
    FROM_PRODUCT,  # 1 where the state starts here as a product
    MEASURES,  # 1 where diagonal observables are measured at the end
    ADJOINT_STARTS,  # 1 where `lam` starts here from the observables
    WRITES,  # 1 where the states go back to global memory
    AT_FREE,
    AT_OPERATIONS,
    AT_TERMS,  # local mask Z of each diagonal observable
    AT_STRINGS,  # local mask Z of each string, then of each sample string
    AT_STORE,  # place in shared memory of what each sample decides, numbers
    STORE_SIZE,  # of each sample
) = range(15)
AT_VECTORS = HEADER = 16
COLUMNS = 16  #: sums over amplitudes that are kept at once
LANES = 8  #: threads that add up one of them
SUMMERS = 64  #: threads that add up a column over the batch, or a share of a state
MAX_SIZE = 1 << P.MAX_QUBITS
TWO_PI = 2.0 * math.pi


@cuda.jit(device=True)
def _odd(number):
    return cuda.popc(number) & 1


@cuda.jit(device=True)
def _physical(plan, base, local):
    """The physical index of a local one."""
    if plan[N_FREE] == 0:  # one tile: they are the same
        return local
    j = HEADER
    while local:
        if local & 1:
            base ^= plan[j]
        local >>= 1
        j += 1
    return base


@cuda.jit(device=True)
def _base(plan, tile):
    """The physical index of a tile's first amplitude."""
    base = 0
    for j in range(plan[N_FREE]):
        base |= ((tile >> j) & 1) << plan[plan[AT_FREE] + j]
    return base


@cuda.jit(device=True)
def _first_of_pair(number, pivot, x, z, side):
    """The local index of the amplitude 0 of pair `number`; `side` is the tile's sign of Z."""
    low = (1 << pivot) - 1
    index = ((number & ~low) << 1) | (number & low)
    return index ^ x if _odd(index & z) ^ side else index


@cuda.jit(device=True)
def _first_of_four(number, pivot, higher, x, z, side, y, w, other_side):
    """The local index of the amplitude 00 of set `number` of two commuting qubits, (x, z) and (y, w)."""
    low, high = (1 << pivot) - 1, (1 << higher) - 1
    index = ((number & ~low) << 1) | (number & low)
    index = ((index & ~high) << 1) | (index & high)
    found = index ^ x if _odd(index & z) ^ side else index
    return found ^ y if _odd(index & w) ^ other_side else found


@cuda.jit(device=True)
def _first_of_set(plan, at, base, number):
    """The local index of a gate's amplitude 0...0 in its set `number`."""
    index = number
    for j in range(plan[at + P.QUBITS]):
        low = (1 << plan[at + P.PIVOTS + j]) - 1
        index = ((index & ~low) << 1) | (index & low)
    found = index
    for j in range(plan[at + P.QUBITS]):
        if _odd(index & plan[at + P.LOCAL_Z + j]) ^ _odd(base & plan[at + P.PHYSICAL_Z + j]):
            found ^= plan[at + P.LOCAL_X + j]
    return found


@cuda.jit(device=True)
def _shared_value(code, real_code, at, shared):
    """Value of an angle that no sample changes, radians, float64; `at` is the place of [kind, index, scale, offset]."""
    value = real_code[at + 3]
    if code[at] == 1:
        value += real_code[at + 2] * shared[code[at + 1]]
    return value


@cuda.jit(device=True)
def _value(code, real_code, at, shared, sample, row):
    """Value of any angle for one sample, radians, float64."""
    if code[at] == 2:
        return real_code[at + 3] + real_code[at + 2] * sample[row, code[at + 1]]
    return _shared_value(code, real_code, at, shared)


@cuda.jit(device=True)
def _walsh(p, start, bits, first, workers):
    """In place over p[start:]: p[i] becomes the sum over j of (-1)**parity(i & j) p[j]; all threads of a block call it."""
    for stage in range(bits):
        h = 1 << stage
        for number in range(first, 1 << (bits - 1), workers):
            i = start + (((number >> stage) << (stage + 1)) | (number & (h - 1)))
            a, b = p[i], p[i + h]
            p[i], p[i + h] = a + b, a - b
        cuda.syncthreads()


@cuda.jit(device=True)
def _rotated(ar, ai, br, bi, real_code, place, angle):
    """The amplitudes a and b of one qubit after a rotation about the axis at `place`."""
    c, s = math.cos(0.5 * angle), math.sin(0.5 * angle)
    x, y, z = s * real_code[place], s * real_code[place + 1], s * real_code[place + 2]
    return (
        c * ar + z * ai - y * br + x * bi,
        c * ai - z * ar - y * bi - x * br,
        y * ar + x * ai + c * br - z * bi,
        y * ai - x * ar + c * bi + z * br,
    )


@cuda.jit(device=True)
def _run_matrix(code, real_code, run, shared):
    """|a|, |b|, alpha and gamma of a run's matrix exp(i d) RZ(alpha) RY(beta) RZ(gamma) with first column (a, b)."""
    at = code[E.AT_RUNS] + run * E.RUN
    ar, ai, br, bi = 1.0, 0.0, 0.0, 0.0
    for r in range(code[at], code[at] + code[at + 1]):
        place = code[E.AT_RUN_ROTATIONS] + r * E.ROTATION
        angle = _shared_value(code, real_code, place + 3, shared)
        ar, ai, br, bi = _rotated(ar, ai, br, bi, real_code, place, angle)
    up, down = math.atan2(ai, ar), math.atan2(bi, br)
    return math.sqrt(ar * ar + ai * ai), math.sqrt(br * br + bi * bi), down - up, -down - up


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


@cuda.jit(device=True)
def _layer(code, layer):
    return code[E.AT_LAYERS] + layer * E.LAYER


# --------------------------------------------------------------------------------------------------------- after the passes


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
        gx, gy, gz = _rodrigues(gx, gy, gz, x, y, z, _value(code, real_code, place + 3, shared, sample, row))


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
        _, _, alpha, _ = _run_matrix(code, real_code, run, shared)
        # The sums were taken between RY and RZ(alpha).
        c, s = math.cos(alpha), math.sin(alpha)
        gx, gy, gz = sums[3 * run], sums[3 * run + 1], sums[3 * run + 2]
        gx, gy = c * gx - s * gy, c * gy + s * gx
        at = code[E.AT_RUNS] + run * E.RUN
        for r in range(code[at] + code[at + 1] - 1, code[at] - 1, -1):
            place = code[E.AT_RUN_ROTATIONS] + r * E.ROTATION
            x, y, z = real_code[place], real_code[place + 1], real_code[place + 2]
            rotations[r] = 0.5 * (x * gx + y * gy + z * gz)
            gx, gy, gz = _rodrigues(gx, gy, gz, x, y, z, _shared_value(code, real_code, place + 3, shared))
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
            at = _term(code, term)
            if code[at] == output:
                total += real_code[at + 1] * partial[0, row, term]
        out[row, output] = total


@cuda.jit(device=True)
def _term(code, term):
    """Place of a term of the observables: the diagonal ones come first."""
    if term < code[E.N_DIAGONAL]:
        return code[E.AT_DIAGONAL] + term * E.TERM
    return code[E.AT_OFF_DIAGONAL] + (term - code[E.N_DIAGONAL]) * E.TERM


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
            if _odd(i & z):
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
            at = _term(code, term)
            power, j = code[at + 2], i ^ code[at + 3]
            weight = 2.0 * real_code[at + 1] * cotangent[row, code[at]]
            if _odd(j & code[at + 4]):
                weight = -weight
            pr, pi = psi[row, 0, j], psi[row, 1, j]
            re += weight * _turned(power, pr, pi)
            im += weight * _turned((power + 3) % 4, pr, pi)
        lam[row, 0, i], lam[row, 1, i] = re, im


# ------------------------------------------------------------------------------------------------------------- the passes


@lru_cache
def kernels(precision: str) -> SimpleNamespace:
    """The kernels whose arithmetic is in one precision: prepare, forward and backward."""
    real = np.float32 if precision == "complex64" else np.float64
    kind = numba.float32 if precision == "complex64" else numba.float64
    one, zero = real(1), real(0)

    @cuda.jit
    def prepare(code, real_code, plan_layers, shared, turns, tables):
        """Cosine and sine of each run's RY, and the shared phases of each layer as a table.

        A row of blocks of threads a layer of `plan_layers`, -1 for one without phases, whose runs are prepared only.
        """
        # The same memory, read as numbers and as whole numbers: angles first, then masks.
        angles = cuda.shared.array(0, dtype=numba.float64)
        masks = cuda.shared.array(0, dtype=numba.int64)
        number = cuda.blockIdx.y
        t, n_threads = cuda.threadIdx.x, cuda.blockDim.x
        if number == plan_layers.shape[0]:
            for run in range(cuda.blockIdx.x * n_threads + t, code[E.N_RUNS], cuda.gridDim.x * n_threads):
                c, s, _, _ = _run_matrix(code, real_code, run, shared)
                turns[run, 0], turns[run, 1] = c, s
            return
        at = _layer(code, plan_layers[number])
        n_strings, n_phases = code[at + 1], code[at + 1] + code[at + 5]
        for j in range(t, n_phases, n_threads):
            if j < n_strings:
                place = code[E.AT_STRINGS] + (code[at] + j) * E.STRING
                angles[j] = 0.5 * _shared_value(code, real_code, place + 1, shared)
            else:
                place = code[at + 4] + 3 * (j - n_strings)
                _, _, alpha, gamma = _run_matrix(code, real_code, code[place + 1], shared)
                angles[j] = 0.5 * (alpha if code[place + 2] else gamma)
            masks[n_phases + j] = code[place]
        cuda.syncthreads()
        for i in range(cuda.blockIdx.x * n_threads + t, tables.shape[2], cuda.gridDim.x * n_threads):
            phase = 0.0
            for j in range(n_phases):
                value = angles[j]
                phase += value if _odd(i & masks[n_phases + j]) else -value
            # Reduced in double precision, so that single precision loses nothing to large angles.
            rest = real(phase - TWO_PI * math.floor(phase / TWO_PI + 0.5))
            tables[number, 0, i], tables[number, 1, i] = math.cos(rest), math.sin(rest)

    @cuda.jit(device=True)
    def sample_coefficients(plan, code, real_code, shared, sample, row, u, store, at):
        """Cosine and sine of half the angle of each sample rotation, then half of each sample string's angle."""
        for j in range(u, code[E.N_SAMPLE_ROTATIONS], plan[WORKERS]):
            angle = 0.5 * _value(code, real_code, code[E.AT_SAMPLE_ROTATIONS] + 4 * j, shared, sample, row)
            store[at + 2 * j], store[at + 2 * j + 1] = math.cos(angle), math.sin(angle)
        at += 2 * code[E.N_SAMPLE_ROTATIONS]
        for j in range(u, code[E.N_SAMPLE_STRINGS], plan[WORKERS]):
            place = code[E.AT_SAMPLE_STRINGS] + j * E.STRING
            store[at + j] = 0.5 * _value(code, real_code, place + 1, shared, sample, row)

    @cuda.jit(device=True)
    def wire_vectors(plan, code, real_code, shared, sample, row, u, store, at):
        """The state of each wire after its rotations of the product start: re, im of 0 and of 1, the lowest bit first."""
        rotations = code[E.AT_PRODUCT] + 2 * code[E.N_QUBITS]
        for bit in range(u, code[E.N_QUBITS], plan[WORKERS]):
            ar, ai, br, bi = 1.0, 0.0, 0.0, 0.0
            place = code[E.AT_PRODUCT] + 2 * bit
            for r in range(code[place], code[place] + code[place + 1]):
                here = rotations + r * E.ROTATION
                angle = _value(code, real_code, here + 3, shared, sample, row)
                ar, ai, br, bi = _rotated(ar, ai, br, bi, real_code, here, angle)
            store[at + 4 * bit], store[at + 4 * bit + 1] = ar, ai
            store[at + 4 * bit + 2], store[at + 4 * bit + 3] = br, bi

    @cuda.jit(device=True)
    def coefficient(code, turns, store, at, index):
        """Cosine and sine of a rotation: of a run, or of one sample."""
        if index < code[E.N_RUNS]:
            return turns[index, 0], turns[index, 1]
        j = at + 2 * (index - code[E.N_RUNS])
        return store[j], store[j + 1]

    @cuda.jit(device=True)
    def phase(code, layer, number, tables, i, store, at):
        """exp(i phase) of one amplitude: cosine and sine."""
        c, s = one, zero
        if number >= 0:
            c, s = tables[number, 0, i], tables[number, 1, i]
        place = _layer(code, layer)
        if code[place + 3]:
            total = zero
            for j in range(code[place + 2], code[place + 2] + code[place + 3]):
                value = store[at + 2 * code[E.N_SAMPLE_ROTATIONS] + j]
                total += value if _odd(i & code[code[E.AT_SAMPLE_STRINGS] + j * E.STRING]) else -value
            c1, s1 = math.cos(total), math.sin(total)
            c, s = c * c1 - s * s1, c * s1 + s * c1
        return c, s

    @cuda.jit(device=True)
    def in_set(plan, op, first, number):
        """The local index of amplitude `number` of the set that begins at `first`; the first qubit is the highest bit."""
        n = plan[op + P.QUBITS]
        for bit in range(n):
            if number >> (n - 1 - bit) & 1:
                first ^= plan[op + P.LOCAL_X + bit]
        return first

    @cuda.jit(device=True)
    def gather(plan, op, first, size, re, im, start, found):
        for number in range(size):
            index = start + in_set(plan, op, first, number)
            found[0, number], found[1, number] = re[index], im[index]

    @cuda.jit(device=True)
    def scatter(plan, op, first, size, re, im, start, given):
        for number in range(size):
            index = start + in_set(plan, op, first, number)
            re[index], im[index] = given[0, number], given[1, number]

    @cuda.jit(device=True)
    def multiply(real_code, place, size, adjoint, given, found):
        """A matrix of the code, or its adjoint, times the amplitudes of a set."""
        for r in range(size):
            re, im = zero, zero
            for c in range(size):
                entry = place + 2 * (c * size + r if adjoint else r * size + c)
                mr, mi = real(real_code[entry]), real(real_code[entry + 1])
                if adjoint:
                    mi = -mi
                re += mr * given[0, c] - mi * given[1, c]
                im += mr * given[1, c] + mi * given[0, c]
            found[0, r], found[1, r] = re, im

    @cuda.jit(device=True)
    def turn(real_code, values, size, angle, state):
        """exp(-i angle eigenvalue) on each amplitude."""
        for j in range(size):
            x = real(angle * real_code[values + j])
            c, s = math.cos(x), math.sin(x)
            re, im = state[0, j], state[1, j]
            state[0, j], state[1, j] = c * re + s * im, c * im - s * re

    @cuda.jit(device=True)
    def put_back(columns, targets, used, partial, block, row_of_first, n_rows, add, n_samples, workers, n_threads, t):
        """Add up the columns that are in use, in a fixed order, and write them to their slots."""
        cuda.syncthreads()
        lanes = min(LANES, workers)
        for job in range(t, used * n_samples * lanes, n_threads):
            pile, lane = job // lanes, job % lanes
            column, place = pile // n_samples, pile % n_samples
            start = column * n_threads + place * workers
            total = columns[start + lane]
            for j in range(lane + lanes, workers, lanes):
                total += columns[start + j]
            columns[start + lane] = total
        cuda.syncthreads()
        for pile in range(t, used * n_samples, n_threads):
            column, place = pile // n_samples, pile % n_samples
            row = row_of_first + place
            if row < n_rows:
                start = column * n_threads + place * workers
                total = columns[start]
                for lane in range(1, lanes):
                    total += columns[start + lane]
                if add:
                    partial[block, row, targets[column]] += total
                else:
                    partial[block, row, targets[column]] = total
        cuda.syncthreads()

    @cuda.jit
    def forward(plan, code, real_code, layers, shared, sample, turns, tables, psi, partial):
        """One pass: tiles from global memory or from the product start, their gates, and then to global memory.

        Where it is the last pass, the terms without X are measured: `partial` (blocks of tiles, batch, n_terms).
        Blocks of threads: (samples / S, blocks of tiles).
        """
        memory = cuda.shared.array(0, dtype=kind)
        bits, workers, n_samples = plan[TILE_BITS], plan[WORKERS], plan[SAMPLES]
        size, t = 1 << bits, cuda.threadIdx.x
        place, u = t // workers, t % workers
        row = cuda.blockIdx.x * n_samples + place
        present = row < sample.shape[0]
        start = place * size
        area = n_samples * size
        re, im, scratch = memory[:area], memory[area : 2 * area], memory[2 * area :]
        # Samples beyond the batch compute as the last one does, and write nothing.
        here = min(row, sample.shape[0] - 1)
        store = memory[plan[AT_STORE] :]
        at = place * plan[STORE_SIZE]
        wires = at + 2 * code[E.N_SAMPLE_ROTATIONS] + code[E.N_SAMPLE_STRINGS]
        sample_coefficients(plan, code, real_code, shared, sample, here, u, store, at)
        if plan[FROM_PRODUCT]:
            wire_vectors(plan, code, real_code, shared, sample, here, u, store, wires)
        cuda.syncthreads()
        for tile in range(cuda.blockIdx.y, 1 << plan[N_FREE], cuda.gridDim.y):
            base = _base(plan, tile)
            for local in range(u, size, workers):
                i = _physical(plan, base, local)
                if plan[FROM_PRODUCT]:
                    ar, ai = one, zero
                    for bit in range(code[E.N_QUBITS]):
                        j = wires + 4 * bit + 2 * (i >> bit & 1)
                        br, bi = store[j], store[j + 1]
                        ar, ai = ar * br - ai * bi, ar * bi + ai * br
                    re[start + local], im[start + local] = ar, ai
                else:
                    re[start + local], im[start + local] = psi[here, 0, i], psi[here, 1, i]
            cuda.syncthreads()
            for number in range(plan[N_OPERATIONS]):
                op = plan[AT_OPERATIONS] + number * P.WORDS
                what = plan[op + P.KIND]
                if what == P.PHASES:
                    layer = plan[op + P.INDEX]
                    for local in range(u, size, workers):
                        i = _physical(plan, base, local)
                        c, s = phase(code, layer, layers[layer], tables, i, store, at)
                        a, b = re[start + local], im[start + local]
                        re[start + local], im[start + local] = a * c - b * s, a * s + b * c
                elif what == P.ROTATIONS:
                    # What a loop needs is read before it: stores could change a plan for all that the compiler knows.
                    c, s = coefficient(code, turns, store, at, plan[op + P.INDEX])
                    pivot, x, z = plan[op + P.PIVOTS], plan[op + P.LOCAL_X], plan[op + P.LOCAL_Z]
                    side = _odd(base & plan[op + P.PHYSICAL_Z])
                    if plan[op + P.QUBITS] == 1:
                        for p in range(u, size >> 1, workers):
                            first = _first_of_pair(p, pivot, x, z, side)
                            i, j = start + first, start + (first ^ x)
                            a, b = re[i], re[j]
                            re[i], re[j] = c * a - s * b, s * a + c * b
                            a, b = im[i], im[j]
                            im[i], im[j] = c * a - s * b, s * a + c * b
                    else:
                        d, v = coefficient(code, turns, store, at, plan[op + P.SECOND])
                        higher, y, w = plan[op + P.PIVOTS + 1], plan[op + P.LOCAL_X + 1], plan[op + P.LOCAL_Z + 1]
                        other_side = _odd(base & plan[op + P.PHYSICAL_Z + 1])
                        for p in range(u, size >> 2, workers):
                            first = _first_of_four(p, pivot, higher, x, z, side, y, w, other_side)
                            i, j, k, m = start + first, start + (first ^ x), start + (first ^ y), start + (first ^ x ^ y)
                            e, f, g, h = re[i], re[j], re[k], re[m]
                            e, f = c * e - s * f, s * e + c * f
                            g, h = c * g - s * h, s * g + c * h
                            re[i], re[j], re[k], re[m] = d * e - v * g, d * f - v * h, v * e + d * g, v * f + d * h
                            e, f, g, h = im[i], im[j], im[k], im[m]
                            e, f = c * e - s * f, s * e + c * f
                            g, h = c * g - s * h, s * g + c * h
                            im[i], im[j], im[k], im[m] = d * e - v * g, d * f - v * h, v * e + d * g, v * f + d * h
                elif what == P.BLOCK:
                    given = cuda.local.array((2, MAX_SIZE), kind)
                    found = cuda.local.array((2, MAX_SIZE), kind)
                    block = code[E.AT_BLOCKS] + plan[op + P.INDEX] * E.BLOCK
                    width = 1 << plan[op + P.QUBITS]
                    angle = _value(code, real_code, block + 6, shared, sample, here)
                    for p in range(u, size // width, workers):
                        first = _first_of_set(plan, op, base, p)
                        gather(plan, op, first, width, re, im, start, given)
                        if code[block + 5] < 0:
                            multiply(real_code, code[block + 4], width, 0, given, found)
                        else:
                            multiply(real_code, code[block + 4], width, 1, given, found)
                            turn(real_code, code[block + 5], width, angle, found)
                            multiply(real_code, code[block + 4], width, 0, found, given)
                            for j in range(width):
                                found[0, j], found[1, j] = given[0, j], given[1, j]
                        scatter(plan, op, first, width, re, im, start, found)
                cuda.syncthreads()
            if plan[WRITES] and present:
                for local in range(u, size, workers):
                    i = _physical(plan, base, local)
                    psi[row, 0, i], psi[row, 1, i] = re[start + local], im[start + local]
            if plan[MEASURES]:
                for local in range(u, size, workers):
                    a, b = re[start + local], im[start + local]
                    scratch[start + local] = a * a + b * b
                cuda.syncthreads()
                _walsh(scratch, start, bits, u, workers)
                if present:
                    for term in range(u, code[E.N_DIAGONAL], workers):
                        value = scratch[start + plan[plan[AT_TERMS] + term]]
                        if _odd(base & code[_term(code, term) + 4]):
                            value = -value
                        if tile == cuda.blockIdx.y:
                            partial[cuda.blockIdx.y, row, term] = value
                        else:
                            partial[cuda.blockIdx.y, row, term] += value
                cuda.syncthreads()

    @cuda.jit(device=True)
    def keep(columns, targets, column, target, n_threads, t, value):
        """A thread's share of a sum over amplitudes."""
        columns[column * n_threads + t] = value
        if t == 0:
            targets[column] = target

    @cuda.jit
    def backward(plan, code, real_code, layers, shared, sample, cotangent, turns, tables, psi, lam, partial):
        """One pass back, with the sums that gradients are made of: `partial` (blocks of tiles, batch, n_slots)."""
        memory = cuda.shared.array(0, dtype=kind)
        targets = cuda.shared.array(COLUMNS, dtype=numba.int64)
        bits, workers, n_samples = plan[TILE_BITS], plan[WORKERS], plan[SAMPLES]
        size, t, n_threads = 1 << bits, cuda.threadIdx.x, cuda.blockDim.x
        place, u = t // workers, t % workers
        first_row = cuda.blockIdx.x * n_samples
        row, n_rows = first_row + place, sample.shape[0]
        present = row < n_rows
        start = place * size
        area = n_samples * size
        re, im = memory[:area], memory[area : 2 * area]
        gr, gi = memory[2 * area : 3 * area], memory[3 * area : 4 * area]
        scratch = memory[4 * area :]
        here = min(row, n_rows - 1)
        store = memory[plan[AT_STORE] :]
        at = place * plan[STORE_SIZE]
        sample_coefficients(plan, code, real_code, shared, sample, here, u, store, at)
        cuda.syncthreads()
        y = cuda.blockIdx.y
        strings = 3 * code[E.N_RUNS]
        sample_strings = strings + code[E.N_STRINGS]
        rotations = sample_strings + code[E.N_SAMPLE_STRINGS]
        blocks = rotations + code[E.N_SAMPLE_ROTATIONS]
        wires = blocks + code[E.N_BLOCKS]
        for tile in range(y, 1 << plan[N_FREE], cuda.gridDim.y):
            add = tile != y
            base = _base(plan, tile)
            for local in range(u, size, workers):
                i = _physical(plan, base, local)
                a, b = psi[here, 0, i], psi[here, 1, i]
                re[start + local], im[start + local] = a, b
                if plan[ADJOINT_STARTS]:
                    weight = zero
                    for term in range(code[E.N_DIAGONAL]):
                        place_ = _term(code, term)
                        value = real(real_code[place_ + 1]) * cotangent[here, code[place_]]
                        weight += -value if _odd(i & code[place_ + 4]) else value
                    weight += weight
                    gr[start + local], gi[start + local] = weight * a, weight * b
                else:
                    gr[start + local], gi[start + local] = lam[here, 0, i], lam[here, 1, i]
            cuda.syncthreads()
            used = 0
            for number in range(plan[N_OPERATIONS] - 1, -1, -1):
                op = plan[AT_OPERATIONS] + number * P.WORDS
                what = plan[op + P.KIND]
                if what == P.PHASES:
                    layer = plan[op + P.INDEX]
                    record = _layer(code, layer)
                    if code[record + 1] + code[record + 3]:
                        if used:
                            put_back(
                                scratch, targets, used, partial, y, first_row, n_rows, add, n_samples, workers, n_threads, t
                            )
                            used = 0
                        for local in range(u, size, workers):
                            j = start + local
                            scratch[j] = gr[j] * im[j] - gi[j] * re[j]
                        cuda.syncthreads()
                        _walsh(scratch, start, bits, u, workers)
                        if present:
                            for j in range(u, code[record + 1] + code[record + 3], workers):
                                if j < code[record + 1]:
                                    string = code[record] + j
                                    slot = strings + string
                                    mask = code[code[E.AT_STRINGS] + string * E.STRING]
                                else:
                                    string = code[record + 2] + j - code[record + 1]
                                    slot = sample_strings + string
                                    mask = code[code[E.AT_SAMPLE_STRINGS] + string * E.STRING]
                                value = scratch[start + plan[plan[AT_STRINGS] + slot - strings]]
                                if _odd(base & mask):
                                    value = -value
                                if add:
                                    partial[y, row, slot] += value
                                else:
                                    partial[y, row, slot] = value
                        cuda.syncthreads()
                    for local in range(u, size, workers):
                        i, j = _physical(plan, base, local), start + local
                        c, s = phase(code, layer, layers[layer], tables, i, store, at)
                        a, b = re[j], im[j]
                        re[j], im[j] = a * c + b * s, b * c - a * s
                        a, b = gr[j], gi[j]
                        gr[j], gi[j] = a * c + b * s, b * c - a * s
                elif what == P.ROTATIONS or what == P.WIRE:
                    n = plan[op + P.QUBITS]
                    if used + 3 * n > COLUMNS:
                        put_back(
                            scratch, targets, used, partial, y, first_row, n_rows, add, n_samples, workers, n_threads, t
                        )
                        used = 0
                    pivot, higher = plan[op + P.PIVOTS], plan[op + P.PIVOTS + 1]
                    x0, z0, side0 = plan[op + P.LOCAL_X], plan[op + P.LOCAL_Z], _odd(base & plan[op + P.PHYSICAL_Z])
                    x1, z1, side1 = (
                        plan[op + P.LOCAL_X + 1],
                        plan[op + P.LOCAL_Z + 1],
                        _odd(base & plan[op + P.PHYSICAL_Z + 1]),
                    )
                    for q in range(n):
                        index = plan[op + P.SECOND] if q else plan[op + P.INDEX]
                        x, other = (x1, x0) if q else (x0, x1)
                        sx, sy, sz = zero, zero, zero
                        c, s = one, zero
                        if what == P.ROTATIONS:
                            c, s = coefficient(code, turns, store, at, index)
                        for p in range(u, size >> n, workers):
                            if n == 1:
                                first = _first_of_pair(p, pivot, x0, z0, side0)
                            else:
                                first = _first_of_four(p, pivot, higher, x0, z0, side0, x1, z1, side1)
                            for pair in range(n):
                                i = first ^ other if pair else first
                                j = start + (i ^ x)
                                i += start
                                a, b, c0, d = re[i], im[i], re[j], im[j]
                                e, f, g, h = gr[i], gi[i], gr[j], gi[j]
                                # Im <lam|P psi>: X swaps, Y swaps with -i and i, Z changes the second one's sign.
                                sx += e * d - f * c0 + g * b - h * a
                                sy += g * a + h * b - e * c0 - f * d
                                sz += e * b - f * a - g * d + h * c0
                                if what == P.ROTATIONS:
                                    re[i], im[i], re[j], im[j] = c * a + s * c0, c * b + s * d, c * c0 - s * a, c * d - s * b
                                    gr[i], gi[i], gr[j], gi[j] = c * e + s * g, c * f + s * h, c * g - s * e, c * h - s * f
                        if what == P.WIRE:
                            keep(scratch, targets, used, wires + 3 * index, n_threads, t, sx)
                            keep(scratch, targets, used + 1, wires + 3 * index + 1, n_threads, t, sy)
                            keep(scratch, targets, used + 2, wires + 3 * index + 2, n_threads, t, sz)
                            used += 3
                        elif index < code[E.N_RUNS]:
                            keep(scratch, targets, used, 3 * index, n_threads, t, sx)
                            keep(scratch, targets, used + 1, 3 * index + 1, n_threads, t, sy)
                            keep(scratch, targets, used + 2, 3 * index + 2, n_threads, t, sz)
                            used += 3
                        else:
                            keep(scratch, targets, used, rotations + index - code[E.N_RUNS], n_threads, t, sy)
                            used += 1
                elif what == P.BLOCK:
                    given = cuda.local.array((2, MAX_SIZE), kind)
                    found = cuda.local.array((2, MAX_SIZE), kind)
                    other_ = cuda.local.array((2, MAX_SIZE), kind)
                    block = code[E.AT_BLOCKS] + plan[op + P.INDEX] * E.BLOCK
                    width = 1 << plan[op + P.QUBITS]
                    matrix, values = code[block + 4], code[block + 5]
                    angle = _value(code, real_code, block + 6, shared, sample, here)
                    total = zero
                    for p in range(u, size // width, workers):
                        first = _first_of_set(plan, op, base, p)
                        gather(plan, op, first, width, re, im, start, given)
                        multiply(real_code, matrix, width, 1, given, found)
                        gather(plan, op, first, width, gr, gi, start, given)
                        multiply(real_code, matrix, width, 1, given, other_)
                        if values >= 0:
                            for j in range(width):
                                total += real(real_code[values + j]) * (
                                    other_[0, j] * found[1, j] - other_[1, j] * found[0, j]
                                )
                            turn(real_code, values, width, -angle, found)
                            multiply(real_code, matrix, width, 0, found, given)
                            scatter(plan, op, first, width, re, im, start, given)
                            turn(real_code, values, width, -angle, other_)
                            multiply(real_code, matrix, width, 0, other_, given)
                            scatter(plan, op, first, width, gr, gi, start, given)
                        else:
                            scatter(plan, op, first, width, re, im, start, found)
                            scatter(plan, op, first, width, gr, gi, start, other_)
                    if values >= 0:
                        if used == COLUMNS:
                            put_back(
                                scratch, targets, used, partial, y, first_row, n_rows, add, n_samples, workers, n_threads, t
                            )
                            used = 0
                        keep(scratch, targets, used, blocks + plan[op + P.INDEX], n_threads, t, total)
                        used += 1
                cuda.syncthreads()
            if used:
                put_back(scratch, targets, used, partial, y, first_row, n_rows, add, n_samples, workers, n_threads, t)
            if plan[WRITES] and present:
                for local in range(u, size, workers):
                    i, j = _physical(plan, base, local), start + local
                    psi[row, 0, i], psi[row, 1, i] = re[j], im[j]
                    lam[row, 0, i], lam[row, 1, i] = gr[j], gi[j]
            cuda.syncthreads()

    return SimpleNamespace(prepare=prepare, forward=forward, backward=backward)
