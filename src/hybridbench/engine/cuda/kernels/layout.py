"""How kernels read a pass and a program: the words of a plan's header, indices, angles, and sums in place."""

from __future__ import annotations

import math

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
MAX_SIZE = 1 << P.MAX_QUBITS
COLUMNS = 16  #: sums over amplitudes that are kept at once


@cuda.jit(device=True)
def odd(number):
    """1 where a number has an odd number of one bits, else 0."""
    return cuda.popc(number) & 1


@cuda.jit(device=True)
def physical_of(plan, base, local):
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
def base_of(plan, tile):
    """The physical index of a tile's first amplitude."""
    base = 0
    for j in range(plan[N_FREE]):
        base |= ((tile >> j) & 1) << plan[plan[AT_FREE] + j]
    return base


@cuda.jit(device=True)
def first_of_pair(number, pivot, x, z, side):
    """The local index of the amplitude 0 of pair `number`; `side` is the tile's sign of Z."""
    low = (1 << pivot) - 1
    index = ((number & ~low) << 1) | (number & low)
    return index ^ x if odd(index & z) ^ side else index


@cuda.jit(device=True)
def first_of_four(number, pivot, higher, x, z, side, y, w, other_side):
    """The local index of the amplitude 00 of set `number` of two commuting qubits, (x, z) and (y, w)."""
    low, high = (1 << pivot) - 1, (1 << higher) - 1
    index = ((number & ~low) << 1) | (number & low)
    index = ((index & ~high) << 1) | (index & high)
    found = index ^ x if odd(index & z) ^ side else index
    return found ^ y if odd(index & w) ^ other_side else found


@cuda.jit(device=True)
def first_of_set(plan, at, base, number):
    """The local index of a gate's amplitude 0...0 in its set `number`."""
    index = number
    for j in range(plan[at + P.QUBITS]):
        low = (1 << plan[at + P.PIVOTS + j]) - 1
        index = ((index & ~low) << 1) | (index & low)
    found = index
    for j in range(plan[at + P.QUBITS]):
        if odd(index & plan[at + P.LOCAL_Z + j]) ^ odd(base & plan[at + P.PHYSICAL_Z + j]):
            found ^= plan[at + P.LOCAL_X + j]
    return found


@cuda.jit(device=True)
def shared_angle_value(code, real_code, at, shared):
    """Value of an angle that no sample changes, radians, float64; `at` is the place of [kind, index, scale, offset]."""
    value = real_code[at + 3]
    if code[at] == 1:
        value += real_code[at + 2] * shared[code[at + 1]]
    return value


@cuda.jit(device=True)
def angle_value(code, real_code, at, shared, sample, row):
    """Value of any angle for one sample, radians, float64."""
    if code[at] == 2:
        return real_code[at + 3] + real_code[at + 2] * sample[row, code[at + 1]]
    return shared_angle_value(code, real_code, at, shared)


@cuda.jit(device=True)
def walsh(p, start, bits, first, workers):
    """In place over p[start:]: p[i] becomes the sum over j of (-1)**parity(i & j) p[j]; all threads of a block call it."""
    for stage in range(bits):
        h = 1 << stage
        for number in range(first, 1 << (bits - 1), workers):
            i = start + (((number >> stage) << (stage + 1)) | (number & (h - 1)))
            a, b = p[i], p[i + h]
            p[i], p[i + h] = a + b, a - b
        cuda.syncthreads()


@cuda.jit(device=True)
def rotated(ar, ai, br, bi, real_code, place, angle):
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
def run_matrix(code, real_code, run, shared):
    """|a|, |b|, alpha and gamma of a run's matrix exp(i d) RZ(alpha) RY(beta) RZ(gamma) with first column (a, b)."""
    at = code[E.AT_RUNS] + run * E.RUN
    ar, ai, br, bi = 1.0, 0.0, 0.0, 0.0
    for r in range(code[at], code[at] + code[at + 1]):
        place = code[E.AT_RUN_ROTATIONS] + r * E.ROTATION
        angle = shared_angle_value(code, real_code, place + 3, shared)
        ar, ai, br, bi = rotated(ar, ai, br, bi, real_code, place, angle)
    up, down = math.atan2(ai, ar), math.atan2(bi, br)
    return math.sqrt(ar * ar + ai * ai), math.sqrt(br * br + bi * bi), down - up, -down - up


@cuda.jit(device=True)
def layer_at(code, layer):
    """The place of a layer's record in the code."""
    return code[E.AT_LAYERS] + layer * E.LAYER


@cuda.jit(device=True)
def term_at(code, term):
    """Place of a term of the observables: the diagonal ones come first."""
    if term < code[E.N_DIAGONAL]:
        return code[E.AT_DIAGONAL] + term * E.TERM
    return code[E.AT_OFF_DIAGONAL] + (term - code[E.N_DIAGONAL]) * E.TERM
