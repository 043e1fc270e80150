"""The pass forward, and what is prepared before it."""

from __future__ import annotations

import math

import numba
from numba import cuda

from hybridbench.engine import encoding as E
from hybridbench.engine.cuda import passes as P
from hybridbench.engine.cuda.kernels.layout import (
    AT_OPERATIONS,
    AT_STORE,
    AT_TERMS,
    FROM_PRODUCT,
    MAX_SIZE,
    MEASURES,
    N_FREE,
    N_OPERATIONS,
    SAMPLES,
    STORE_SIZE,
    TILE_BITS,
    WORKERS,
    WRITES,
    angle_value,
    base_of,
    first_of_four,
    first_of_pair,
    first_of_set,
    layer_at,
    odd,
    physical_of,
    rotated,
    run_matrix,
    shared_angle_value,
    term_at,
    walsh,
)

TWO_PI = 2.0 * math.pi


def prepare_kernel(real):
    """The kernel that prepares rotations and phases."""

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
                c, s, _, _ = run_matrix(code, real_code, run, shared)
                turns[run, 0], turns[run, 1] = c, s
            return
        at = layer_at(code, plan_layers[number])
        n_strings, n_phases = code[at + 1], code[at + 1] + code[at + 5]
        for j in range(t, n_phases, n_threads):
            if j < n_strings:
                place = code[E.AT_STRINGS] + (code[at] + j) * E.STRING
                angles[j] = 0.5 * shared_angle_value(code, real_code, place + 1, shared)
            else:
                place = code[at + 4] + 3 * (j - n_strings)
                _, _, alpha, gamma = run_matrix(code, real_code, code[place + 1], shared)
                angles[j] = 0.5 * (alpha if code[place + 2] else gamma)
            masks[n_phases + j] = code[place]
        cuda.syncthreads()
        for i in range(cuda.blockIdx.x * n_threads + t, tables.shape[2], cuda.gridDim.x * n_threads):
            phase = 0.0
            for j in range(n_phases):
                value = angles[j]
                phase += value if odd(i & masks[n_phases + j]) else -value
            # Reduced in double precision, so that single precision loses nothing to large angles.
            rest = real(phase - TWO_PI * math.floor(phase / TWO_PI + 0.5))
            tables[number, 0, i], tables[number, 1, i] = math.cos(rest), math.sin(rest)

    return prepare


def forward_kernel(real, kind, shared_pieces):
    """The kernel of a pass forward."""
    one, zero = real(1), real(0)
    sample_coefficients, coefficient, phase = (
        shared_pieces.sample_coefficients,
        shared_pieces.coefficient,
        shared_pieces.phase,
    )
    gather, scatter, multiply, turn = shared_pieces.gather, shared_pieces.scatter, shared_pieces.multiply, shared_pieces.turn

    @cuda.jit(device=True)
    def wire_vectors(plan, code, real_code, shared, sample, row, u, store, at):
        """The state of each wire after its rotations of the product start: re, im of 0 and of 1, the lowest bit first."""
        rotations = code[E.AT_PRODUCT] + 2 * code[E.N_QUBITS]
        for bit in range(u, code[E.N_QUBITS], plan[WORKERS]):
            ar, ai, br, bi = 1.0, 0.0, 0.0, 0.0
            place = code[E.AT_PRODUCT] + 2 * bit
            for r in range(code[place], code[place] + code[place + 1]):
                here = rotations + r * E.ROTATION
                angle = angle_value(code, real_code, here + 3, shared, sample, row)
                ar, ai, br, bi = rotated(ar, ai, br, bi, real_code, here, angle)
            store[at + 4 * bit], store[at + 4 * bit + 1] = ar, ai
            store[at + 4 * bit + 2], store[at + 4 * bit + 3] = br, bi

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
            base = base_of(plan, tile)
            for local in range(u, size, workers):
                i = physical_of(plan, base, local)
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
                        i = physical_of(plan, base, local)
                        c, s = phase(code, layer, layers[layer], tables, i, store, at)
                        a, b = re[start + local], im[start + local]
                        re[start + local], im[start + local] = a * c - b * s, a * s + b * c
                elif what == P.ROTATIONS:
                    # What a loop needs is read before it: stores could change a plan for all that the compiler knows.
                    c, s = coefficient(code, turns, store, at, plan[op + P.INDEX])
                    pivot, x, z = plan[op + P.PIVOTS], plan[op + P.LOCAL_X], plan[op + P.LOCAL_Z]
                    side = odd(base & plan[op + P.PHYSICAL_Z])
                    if plan[op + P.QUBITS] == 1:
                        for p in range(u, size >> 1, workers):
                            first = first_of_pair(p, pivot, x, z, side)
                            i, j = start + first, start + (first ^ x)
                            a, b = re[i], re[j]
                            re[i], re[j] = c * a - s * b, s * a + c * b
                            a, b = im[i], im[j]
                            im[i], im[j] = c * a - s * b, s * a + c * b
                    else:
                        d, v = coefficient(code, turns, store, at, plan[op + P.SECOND])
                        higher, y, w = plan[op + P.PIVOTS + 1], plan[op + P.LOCAL_X + 1], plan[op + P.LOCAL_Z + 1]
                        other_side = odd(base & plan[op + P.PHYSICAL_Z + 1])
                        for p in range(u, size >> 2, workers):
                            first = first_of_four(p, pivot, higher, x, z, side, y, w, other_side)
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
                    angle = angle_value(code, real_code, block + 6, shared, sample, here)
                    for p in range(u, size // width, workers):
                        first = first_of_set(plan, op, base, p)
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
                    i = physical_of(plan, base, local)
                    psi[row, 0, i], psi[row, 1, i] = re[start + local], im[start + local]
            if plan[MEASURES]:
                for local in range(u, size, workers):
                    a, b = re[start + local], im[start + local]
                    scratch[start + local] = a * a + b * b
                cuda.syncthreads()
                walsh(scratch, start, bits, u, workers)
                if present:
                    for term in range(u, code[E.N_DIAGONAL], workers):
                        value = scratch[start + plan[plan[AT_TERMS] + term]]
                        if odd(base & code[term_at(code, term) + 4]):
                            value = -value
                        if tile == cuda.blockIdx.y:
                            partial[cuda.blockIdx.y, row, term] = value
                        else:
                            partial[cuda.blockIdx.y, row, term] += value
                cuda.syncthreads()

    return forward
