"""The pass back, with the sums that gradients are made of."""

from __future__ import annotations

import numba
from numba import cuda

from hybridbench.engine import encoding as E
from hybridbench.engine.cuda import passes as P
from hybridbench.engine.cuda.kernels.layout import (
    ADJOINT_STARTS,
    AT_OPERATIONS,
    AT_STORE,
    AT_STRINGS,
    COLUMNS,
    MAX_SIZE,
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
    term_at,
    walsh,
)

LANES = 8  #: threads that add up one column


def backward_kernel(real, kind, shared_pieces):
    """The kernel of a pass back."""
    one, zero = real(1), real(0)
    sample_coefficients, coefficient, phase = (
        shared_pieces.sample_coefficients,
        shared_pieces.coefficient,
        shared_pieces.phase,
    )
    gather, scatter, multiply, turn = shared_pieces.gather, shared_pieces.scatter, shared_pieces.multiply, shared_pieces.turn

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
            base = base_of(plan, tile)
            for local in range(u, size, workers):
                i = physical_of(plan, base, local)
                a, b = psi[here, 0, i], psi[here, 1, i]
                re[start + local], im[start + local] = a, b
                if plan[ADJOINT_STARTS]:
                    weight = zero
                    for term in range(code[E.N_DIAGONAL]):
                        place_ = term_at(code, term)
                        value = real(real_code[place_ + 1]) * cotangent[here, code[place_]]
                        weight += -value if odd(i & code[place_ + 4]) else value
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
                    record = layer_at(code, layer)
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
                        walsh(scratch, start, bits, u, workers)
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
                                if odd(base & mask):
                                    value = -value
                                if add:
                                    partial[y, row, slot] += value
                                else:
                                    partial[y, row, slot] = value
                        cuda.syncthreads()
                    for local in range(u, size, workers):
                        i, j = physical_of(plan, base, local), start + local
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
                    x0, z0, side0 = plan[op + P.LOCAL_X], plan[op + P.LOCAL_Z], odd(base & plan[op + P.PHYSICAL_Z])
                    x1, z1, side1 = (
                        plan[op + P.LOCAL_X + 1],
                        plan[op + P.LOCAL_Z + 1],
                        odd(base & plan[op + P.PHYSICAL_Z + 1]),
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
                                first = first_of_pair(p, pivot, x0, z0, side0)
                            else:
                                first = first_of_four(p, pivot, higher, x0, z0, side0, x1, z1, side1)
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
                    angle = angle_value(code, real_code, block + 6, shared, sample, here)
                    total = zero
                    for p in range(u, size // width, workers):
                        first = first_of_set(plan, op, base, p)
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
                    i, j = physical_of(plan, base, local), start + local
                    psi[row, 0, i], psi[row, 1, i] = re[j], im[j]
                    lam[row, 0, i], lam[row, 1, i] = gr[j], gi[j]
            cuda.syncthreads()

    return backward
