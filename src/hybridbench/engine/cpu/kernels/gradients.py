"""Gradients of parameters from the sums of all chunks and blocks."""

from __future__ import annotations

import math

from hybridbench.engine import encoding as E
from hybridbench.engine.cpu.kernels.blocks import first_block_slot
from hybridbench.engine.cpu.kernels.layout import (
    BATCH,
    CODE,
    D_SAMPLE,
    D_SHARED,
    RESULTS,
    RUN_ROTATIONS,
    RUNS,
    WORK,
    real_at,
)
from hybridbench.engine.cpu.simd import LANES, load, pointer, store, total


def _sample_slot(ctx, one, slots, slot, at, factor, block, q):
    """Write a slot's lanes to the column of the angle at `at`, if a sample decides it."""
    code = pointer(ctx[CODE], 1)
    if code[at] != 2:
        return
    out = pointer(ctx[D_SAMPLE], one)
    samples, batch = LANES >> q, ctx[BATCH]
    here = pointer(slots + slot * LANES * 8, 1.0)
    for sample in range(min(samples, batch - block * samples)):
        value = 0.0
        for high in range(1 << q):
            value += here[high * samples + sample]
        out[(block * samples + sample) * code[E.N_SAMPLE] + code[at + 1]] += factor * real_at(code, at + 2) * value


def collect(ctx, one, places, slots, block, q, chunks):
    """Sum the chunks of a block: gradients of its samples are final, those of shared parameters wait for other blocks."""
    code = pointer(ctx[CODE], 1)
    n_slots = code[E.N_SLOTS]
    total_ = pointer(slots, 1.0)
    for chunk in range(1, chunks):
        here = pointer(slots + chunk * n_slots * LANES * 8, 1.0)
        for i in range(0, n_slots * LANES, LANES):
            store(total_, i, load(total_, i) + load(here, i))
    out = pointer(ctx[D_SAMPLE], one)
    samples, batch, n_sample = LANES >> q, ctx[BATCH], code[E.N_SAMPLE]
    for i in range(block * samples * n_sample, min((block + 1) * samples, batch) * n_sample):
        out[i] = 0.0
    slot = 3 * code[E.N_RUNS] + code[E.N_STRINGS]
    first = code[E.AT_PRODUCT] + 2 * code[E.N_QUBITS]
    for j in range(code[E.N_PRODUCT]):
        _sample_slot(ctx, one, slots, slot + j, first + j * E.ROTATION + 3, 0.5, block, q)
    slot += code[E.N_PRODUCT]
    for j in range(code[E.N_SAMPLE_STRINGS]):
        _sample_slot(ctx, one, slots, slot + j, code[E.AT_SAMPLE_STRINGS] + j * E.STRING + 1, 0.5, block, q)
    slot += code[E.N_SAMPLE_STRINGS]
    for j in range(code[E.N_SAMPLE_ROTATIONS]):
        _sample_slot(ctx, one, slots, slot + j, code[E.AT_SAMPLE_ROTATIONS] + 4 * j, 0.5, block, q)
    slot += code[E.N_SAMPLE_ROTATIONS]
    for j in range(code[E.N_BLOCKS]):
        _sample_slot(ctx, one, slots, slot + j, code[E.AT_BLOCKS] + j * E.BLOCK + 6, 1.0, block, q)
    results = pointer(ctx[WORK] + places[RESULTS], 1.0)
    for slot in range(n_slots):
        results[block * n_slots + slot] = total(load(total_, slot * LANES))


def _give(code, at, factor, value, gradient):
    if code[at] == 1:
        gradient[code[at + 1]] += factor * real_at(code, at + 2) * value


def finish(ctx, one, places, n_blocks):
    """Gradients of the shared parameters from the sums of all blocks."""
    code = pointer(ctx[CODE], 1)
    n_slots, n_runs, n_shared = code[E.N_SLOTS], code[E.N_RUNS], code[E.N_SHARED]
    g = pointer(ctx[WORK] + places[RESULTS], 1.0)
    for block in range(1, n_blocks):
        for slot in range(n_slots):
            g[slot] += g[block * n_slots + slot]
    out = pointer(ctx[D_SHARED], one)
    gradient = pointer(ctx[WORK] + places[RESULTS] + n_blocks * n_slots * 8, 1.0)
    for j in range(n_shared):
        gradient[j] = 0.0
    runs = pointer(ctx[WORK] + places[RUNS], 1.0)
    rotations = pointer(ctx[WORK] + places[RUN_ROTATIONS], 1.0)
    for j in range(n_runs):
        alpha = runs[4 * j + 2]
        c, s = math.cos(alpha), math.sin(alpha)
        gx, gy, gz = c * g[3 * j] - s * g[3 * j + 1], c * g[3 * j + 1] + s * g[3 * j], g[3 * j + 2]
        at = code[E.AT_RUNS] + j * E.RUN
        for r in range(code[at] + code[at + 1] - 1, code[at] - 1, -1):
            place = code[E.AT_RUN_ROTATIONS] + r * E.ROTATION
            x, y, z = real_at(code, place), real_at(code, place + 1), real_at(code, place + 2)
            along = x * gx + y * gy + z * gz
            _give(code, place + 3, 0.5, along, gradient)
            half_c, half_s = rotations[2 * r], rotations[2 * r + 1]
            c, s = half_c * half_c - half_s * half_s, 2.0 * half_c * half_s
            gx, gy, gz = (  # back through the rotation (Rodrigues' formula)
                c * gx - s * (y * gz - z * gy) + (1.0 - c) * along * x,
                c * gy - s * (z * gx - x * gz) + (1.0 - c) * along * y,
                c * gz - s * (x * gy - y * gx) + (1.0 - c) * along * z,
            )
    slot = 3 * n_runs
    for j in range(code[E.N_STRINGS]):
        _give(code, code[E.AT_STRINGS] + j * E.STRING + 1, 0.5, g[slot + j], gradient)
    slot += code[E.N_STRINGS]
    first = code[E.AT_PRODUCT] + 2 * code[E.N_QUBITS]
    for j in range(code[E.N_PRODUCT]):
        _give(code, first + j * E.ROTATION + 3, 0.5, g[slot + j], gradient)
    slot = first_block_slot(code)
    for j in range(code[E.N_BLOCKS]):
        _give(code, code[E.AT_BLOCKS] + j * E.BLOCK + 6, 1.0, g[slot + j], gradient)
    for j in range(n_shared):
        out[j] = gradient[j]
