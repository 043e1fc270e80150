"""Gates on several qubits that nothing else covers, applied and taken back on whole rows only (q = 0)."""

from __future__ import annotations

from hybridbench.engine import encoding as E
from hybridbench.engine.cpu.kernels.angles import scaled_angle
from hybridbench.engine.cpu.kernels.layout import BLOCKS, CODE, PHASES, SEGMENT, add_to_slot, row_of, share_of, wait
from hybridbench.engine.cpu.simd import LANES, itemsize, load, narrow, pointer, splat, store

# Blocks are gates on several qubits that nothing above covers. They work on whole rows only (q = 0).


def first_block_slot(code):
    """The gradient slot of the first block."""
    n_strings = code[E.N_STRINGS] + code[E.N_SAMPLE_STRINGS]
    return 3 * code[E.N_RUNS] + n_strings + code[E.N_PRODUCT] + code[E.N_SAMPLE_ROTATIONS]


def _block_scratch(code, where, scratch, one, which):
    """Address of the gate (0), the generator (1), or the gathered rows (2) of the block at work."""
    k = code[E.MAX_BLOCK]
    row = 2 * LANES * itemsize(one)
    return scratch + where[BLOCKS] + which * (row << (2 * k))


def _block_gate(ctx, one, where, scratch, number, sample_block, q):
    """Write the gate's matrix, entries as pairs of vectors; where it has an angle also its generator."""
    code = pointer(ctx[CODE], 1)
    at = code[E.AT_BLOCKS] + number * E.BLOCK
    k = code[at]
    size = 1 << k
    matrix = pointer(ctx[CODE] + 8 * code[at + 4], 1.0)
    gate = pointer(_block_scratch(code, where, scratch, one, 0), one)
    if code[at + 5] < 0:
        for j in range(2 * size * size):
            store(gate, j * LANES, narrow(splat(matrix[j]), one))
        return
    generator = pointer(_block_scratch(code, where, scratch, one, 1), one)
    work = pointer(_block_scratch(code, where, scratch, one, 2), one)
    values = pointer(ctx[CODE] + 8 * code[at + 5], 1.0)
    lanes = pointer(scratch + where[PHASES], 1.0)
    for j in range(size):
        scaled_angle(ctx, one, at + 6, values[j], sample_block, q, lanes, work, 2 * j)
    for r in range(size):
        for s in range(size):
            re, im = narrow(splat(0.0), one), narrow(splat(0.0), one)
            gr, gi = 0.0, 0.0
            for j in range(size):
                ar, ai = matrix[2 * (r * size + j)], matrix[2 * (r * size + j) + 1]
                br, bi = matrix[2 * (s * size + j)], matrix[2 * (s * size + j) + 1]
                wr, wi = ar * br + ai * bi, ai * br - ar * bi  # V[r, j] conj(V[s, j])
                gr += values[j] * wr
                gi += values[j] * wi
                c, sine = load(work, 2 * j * LANES), load(work, (2 * j + 1) * LANES)
                vr, vi = narrow(splat(wr), one), narrow(splat(wi), one)
                re, im = re + vr * c + vi * sine, im + vi * c - vr * sine
            store(gate, 2 * (r * size + s) * LANES, re)
            store(gate, (2 * (r * size + s) + 1) * LANES, im)
            store(generator, 2 * (r * size + s) * LANES, narrow(splat(gr), one))
            store(generator, (2 * (r * size + s) + 1) * LANES, narrow(splat(gi), one))


def _multiply(state, row, offsets, size, gate, adjoint, work, out, one):
    """Rows row ^ offsets of a state times the gate or its adjoint: into `out`, which holds `size` pairs of vectors."""
    for r in range(size):
        i = (row ^ offsets[r]) * 2 * LANES
        store(work, 2 * r * LANES, load(state, i))
        store(work, (2 * r + 1) * LANES, load(state, i + LANES))
    for r in range(size):
        re, im = narrow(splat(0.0), one), narrow(splat(0.0), one)
        for s in range(size):
            k = 2 * ((s * size + r) if adjoint else (r * size + s)) * LANES
            ar, ai = load(gate, k), load(gate, k + LANES)
            br, bi = load(work, 2 * s * LANES), load(work, (2 * s + 1) * LANES)
            if adjoint:
                re, im = re + ar * br + ai * bi, im + ar * bi - ai * br
            else:
                re, im = re + ar * br - ai * bi, im + ar * bi + ai * br
        store(out, 2 * r * LANES, re)
        store(out, (2 * r + 1) * LANES, im)


def _put(state, row, offsets, size, values):
    for r in range(size):
        i = (row ^ offsets[r]) * 2 * LANES
        store(state, i, load(values, 2 * r * LANES))
        store(state, i + LANES, load(values, (2 * r + 1) * LANES))


def apply_blocks(ctx, one, where, scratch, psi, lam, slots, layer, sample_block, q, back, chunks, first, last):
    """Apply the blocks of a layer, or take them back on both states with the gradients of their angles."""
    code = pointer(ctx[CODE], 1)
    layer_at = code[E.AT_LAYERS] + layer * E.LAYER
    base = first_block_slot(code)
    for number in range(code[layer_at + 6], code[layer_at + 6] + code[layer_at + 7]):
        _block_gate(ctx, one, where, scratch, number, sample_block, q)
        at = code[E.AT_BLOCKS] + number * E.BLOCK
        size = 1 << code[at]
        offsets = pointer(ctx[CODE] + 8 * code[at + 1], 1)
        basis = pointer(ctx[CODE] + 8 * code[at + 3], 1)
        gate = pointer(_block_scratch(code, where, scratch, one, 0), one)
        generator = pointer(_block_scratch(code, where, scratch, one, 1), one)
        rows = _block_scratch(code, where, scratch, one, 2)
        work = pointer(rows, one)
        out = pointer(rows + (2 * LANES * itemsize(one) << code[E.MAX_BLOCK]), one)
        steps = 1 << code[at + 2]
        for chunk in range(first, last):
            begin, end = share_of(steps, chunks, chunk, chunk + 1)
            here = pointer(slots + chunk * code[E.N_SLOTS] * LANES * 8, 1.0)
            while begin < end:
                stop = min(begin + SEGMENT, end)
                gradient = narrow(splat(0.0), one)
                for step in range(begin, stop):
                    row = row_of(step, basis)
                    if back and code[at + 6] > 0:
                        _multiply(psi, row, offsets, size, generator, 0, work, out, one)
                        for r in range(size):
                            i = (row ^ offsets[r]) * 2 * LANES
                            re, im = load(out, 2 * r * LANES), load(out, (2 * r + 1) * LANES)
                            gradient = gradient + load(lam, i) * im - load(lam, i + LANES) * re
                    _multiply(psi, row, offsets, size, gate, back, work, out, one)
                    _put(psi, row, offsets, size, out)
                    if back:
                        _multiply(lam, row, offsets, size, gate, 1, work, out, one)
                        _put(lam, row, offsets, size, out)
                if back:
                    add_to_slot(here, base + number, gradient)
                begin = stop
        wait(ctx)
