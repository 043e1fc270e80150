"""The phases of a layer, applied and taken back."""

from __future__ import annotations

from hybridbench.engine import encoding as E
from hybridbench.engine.cpu.kernels.angles import cos_sin
from hybridbench.engine.cpu.kernels.layout import (
    ANGLES,
    CODE,
    GROUP,
    PARTS,
    PHASES,
    RUNS,
    SEGMENT,
    STATE,
    STRINGS,
    SUMS,
    TABLE,
    TABLE_BITS,
    TABLES,
    WORK,
    WORK_THREAD,
    add_to_slot,
    lane_signs,
    low_bits,
    share_of,
    wait,
)
from hybridbench.engine.cpu.simd import (
    LANES,
    itemsize,
    load,
    narrow,
    parity,
    pointer,
    splat,
    store,
    total,
    walsh1,
    walsh2,
    walsh4,
    walsh8,
)


def _walsh(p, bits):
    """In place: p[i] becomes the sum over j of (-1)**parity(i & j) p[j], for 2**bits numbers, bits at least 4."""
    size = 1 << bits
    for i in range(0, size, 16):
        v = walsh8(walsh4(walsh2(walsh1(load(p, i)))))
        store(p, i, v)
    h = 16
    while 2 * h < size:  # two stages a pass
        for i in range(0, size, 4 * h):
            for j in range(i, i + h, 16):
                a, b, c, d = load(p, j), load(p, j + h), load(p, j + 2 * h), load(p, j + 3 * h)
                e, f, g, k = a + b, a - b, c + d, c - d
                store(p, j, e + g)
                store(p, j + h, f + k)
                store(p, j + 2 * h, e - g)
                store(p, j + 3 * h, f - k)
        h *= 4
    if h < size:
        for j in range(0, h, 16):
            a, b = load(p, j), load(p, j + h)
            store(p, j, a + b)
            store(p, j + h, a - b)


def _phase_table(ctx, one, places, layer, high, phases, table):
    """cos and sin of the layer's shared phases for the 2**low indices whose upper bits are `high`: two planes in `table`."""
    code = pointer(ctx[CODE], 1)
    low = low_bits(code[E.N_QUBITS])
    bits = max(low, 4)
    size = 1 << bits
    mask = (1 << low) - 1
    p = pointer(phases, 1.0)
    strings = pointer(ctx[WORK] + places[ANGLES], 1.0)
    runs = pointer(ctx[WORK] + places[RUNS], 1.0)
    for i in range(0, size, 16):
        store(p, i, splat(0.0))
    at = code[E.AT_LAYERS] + layer * E.LAYER
    for j in range(code[at], code[at] + code[at + 1]):
        z = code[code[E.AT_STRINGS] + j * E.STRING]
        p[z & mask] -= (0.5 - parity(high & (z >> low))) * strings[j]
    for j in range(code[at + 5]):
        place = code[at + 4] + 3 * j
        z = code[place]
        p[z & mask] -= (0.5 - parity(high & (z >> low))) * runs[4 * code[place + 1] + 3 - code[place + 2]]
    _walsh(p, bits)
    out = pointer(table, one)
    for i in range(0, size, 16):
        c, s = cos_sin(load(p, i))
        store(out, i, narrow(c, one))
        store(out, size + i, narrow(s, one))


def only_probabilities(ctx):
    """Whether only probabilities matter after the last gate."""
    return ctx[STATE] == 0 and pointer(ctx[CODE], 1)[E.N_OFF_DIAGONAL] == 0


def has_phases(code, layer, diagonal_only):
    """Whether a layer has shared phases that matter."""
    at = code[E.AT_LAYERS] + layer * E.LAYER
    # Phases after the last gate of another kind change no expectation of a diagonal observable.
    last = layer == code[E.N_LAYERS] - 1 and code[at + 7] + code[at + 8] == 0
    return code[at + 1] + code[at + 5] > 0 and not (diagonal_only and last)


def phase_tables(ctx, one, places, where):
    """The phases of all layers, where these are so few that they are kept."""
    code = pointer(ctx[CODE], 1)
    if code[E.N_QUBITS] <= TABLE_BITS:
        for layer in range(code[E.N_LAYERS]):
            if has_phases(code, layer, only_probabilities(ctx)):
                table = _kept_table(ctx, one, places, layer)
                _phase_table(ctx, one, places, layer, 0, ctx[WORK_THREAD] + where[PHASES], table)


def _kept_table(ctx, one, places, layer):
    bits = max(pointer(ctx[CODE], 1)[E.N_QUBITS], 4)
    return ctx[WORK] + places[TABLES] + layer * (2 * itemsize(one) << bits)


def _lane_phases(table, size, first, q, one, out):
    """The phases of one row whose lanes hold 2**q indices from `first` on, as two vectors in `out`."""
    samples = LANES >> q
    for lane in range(LANES):
        out[lane] = table[first + lane // samples]
        out[LANES + lane] = table[size + first + lane // samples]


def _layer_table(ctx, one, places, layer, high, scratch, where):
    """Address of the phases of a layer for one piece of the index."""
    if pointer(ctx[CODE], 1)[E.N_QUBITS] <= TABLE_BITS:
        return _kept_table(ctx, one, places, layer)
    _phase_table(ctx, one, places, layer, high, scratch + where[PHASES], scratch + where[TABLE])
    return scratch + where[TABLE]


def apply_phases(ctx, one, places, where, scratch, psi, layer, q, chunks, first, last):
    """Apply the shared phases of a layer."""
    code = pointer(ctx[CODE], 1)
    n = code[E.N_QUBITS]
    low = low_bits(n)
    size = 1 << max(low, 4)
    rows = 1 << (low - q) if low > q else 1
    begin, end = share_of(1 << (n - low), chunks, first, last)
    lanes = pointer(scratch + where[GROUP], one)
    for high in range(begin, end):
        table = pointer(_layer_table(ctx, one, places, layer, high, scratch, where), one)
        for row in range(rows):
            i = (high * rows + row) * 2 * LANES
            if q:
                _lane_phases(table, size, row << q, q, one, lanes)
                c, s = load(lanes, 0), load(lanes, LANES)
            else:
                c, s = splat(table[row]), splat(table[size + row])
            re, im = load(psi, i), load(psi, i + LANES)
            store(psi, i, c * re - s * im)
            store(psi, i + LANES, c * im + s * re)
    wait(ctx)


def undo_phases(ctx, one, places, where, scratch, psi, lam, slots, layer, q, chunks, first, last):
    """Take the shared phases of a layer back on both states; gradients of its strings, and Z of the runs before it.

    With t[i] = Im <lam_i|psi_i> summed over samples, Im <lam|Z-string psi> is the Walsh-Hadamard transform of t at its mask.
    """
    code = pointer(ctx[CODE], 1)
    n = code[E.N_QUBITS]
    low = low_bits(n)
    size = 1 << max(low, 4)
    mask = (1 << low) - 1
    rows = 1 << (low - q) if low > q else 1
    lanes = pointer(scratch + where[GROUP], one)
    sums = pointer(scratch + where[SUMS], 1.0)
    at = code[E.AT_LAYERS] + layer * E.LAYER
    base = 3 * code[E.N_RUNS]
    for chunk in range(first, last):
        begin, end = share_of(1 << (n - low), chunks, chunk, chunk + 1)
        here = pointer(slots + chunk * code[E.N_SLOTS] * LANES * 8, 1.0)
        for high in range(begin, end):
            table = pointer(_layer_table(ctx, one, places, layer, high, scratch, where), one)
            for i in range(1 << low, size):
                sums[i] = 0.0
            for row in range(rows):
                i = (high * rows + row) * 2 * LANES
                pr, pi, gr, gi = load(psi, i), load(psi, i + LANES), load(lam, i), load(lam, i + LANES)
                t = gr * pi - gi * pr
                if q:
                    _lane_phases(table, size, row << q, q, one, lanes)
                    c, s = load(lanes, 0), load(lanes, LANES)
                    store(lanes, 2 * LANES, t)
                    samples = LANES >> q
                    for j in range(1 << q):
                        value = 0.0
                        for lane in range(j * samples, (j + 1) * samples):
                            value += lanes[2 * LANES + lane]
                        sums[(row << q) + j] = value
                else:
                    c, s = splat(table[row]), splat(table[size + row])
                    sums[row] = total(t)
                store(psi, i, c * pr + s * pi)
                store(psi, i + LANES, c * pi - s * pr)
                store(lam, i, c * gr + s * gi)
                store(lam, i + LANES, c * gi - s * gr)
            _walsh(sums, max(low, 4))
            for j in range(code[at], code[at] + code[at + 1]):
                z = code[code[E.AT_STRINGS] + j * E.STRING]
                here[(base + j) * LANES] += (1 - 2 * parity(high & (z >> low))) * sums[z & mask]
            for j in range(code[at + 5]):
                place = code[at + 4] + 3 * j
                if code[place + 2] == 1:
                    z = code[place]
                    here[(3 * code[place + 1] + 2) * LANES] += (1 - 2 * parity(high & (z >> low))) * sums[z & mask]
    wait(ctx)


def sample_phases(ctx, one, where, scratch, psi, lam, slots, layer, q, back, chunks, first, last):
    """Apply the per-sample strings of a layer, or take them back on both states with their gradients."""
    code = pointer(ctx[CODE], 1)
    n = code[E.N_QUBITS]
    at = code[E.AT_LAYERS] + layer * E.LAYER
    begin_string, count = code[at + 2], code[at + 3]
    angles = pointer(scratch + where[STRINGS], one)
    lanes = pointer(scratch + where[PHASES], 1.0)
    signs = pointer(scratch + where[PARTS], one)
    parts = pointer(scratch + where[PARTS] + code[E.N_SAMPLE_STRINGS] * LANES * itemsize(one), one)
    low = (1 << q) - 1
    for j in range(count):
        z = code[code[E.AT_SAMPLE_STRINGS] + (begin_string + j) * E.STRING]
        store(signs, j * LANES, lane_signs(z & low, q, lanes, one))
    base = 3 * code[E.N_RUNS] + code[E.N_STRINGS] + code[E.N_PRODUCT] + begin_string
    zero = narrow(splat(0.0), one)
    for chunk in range(first, last):
        begin, end = share_of(1 << (n - q), chunks, chunk, chunk + 1)
        while begin < end:
            stop = min(begin + SEGMENT, end)
            for j in range(count):
                store(parts, j * LANES, zero)
            for row in range(begin, stop):
                i = row * 2 * LANES
                re, im = narrow(splat(1.0), one), zero
                pr, pi = load(psi, i), load(psi, i + LANES)
                t = zero
                if back:
                    t = load(lam, i) * pi - load(lam, i + LANES) * pr
                for j in range(count):
                    z = code[code[E.AT_SAMPLE_STRINGS] + (begin_string + j) * E.STRING] >> q
                    k = 2 * (begin_string + j) * LANES
                    sign = load(signs, j * LANES)
                    if parity(row & z):
                        sign = -sign
                    c, s = load(angles, k), sign * load(angles, k + LANES)
                    re, im = re * c + im * s, im * c - re * s  # times exp(-i sign a/2)
                    if back:
                        store(parts, j * LANES, load(parts, j * LANES) + sign * t)
                if back:
                    im = -im
                    gr, gi = load(lam, i), load(lam, i + LANES)
                    store(lam, i, re * gr - im * gi)
                    store(lam, i + LANES, re * gi + im * gr)
                store(psi, i, re * pr - im * pi)
                store(psi, i + LANES, re * pi + im * pr)
            if back:
                here = pointer(slots + chunk * code[E.N_SLOTS] * LANES * 8, 1.0)
                for j in range(count):
                    add_to_slot(here, base + j, load(parts, j * LANES))
            begin = stop
    wait(ctx)
