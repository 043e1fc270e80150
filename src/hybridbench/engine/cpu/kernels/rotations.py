"""The rotations of a layer, applied and taken back."""

from __future__ import annotations

from hybridbench.engine import encoding as E
from hybridbench.engine.cpu.kernels.layout import (
    CODE,
    PHASES,
    ROTATIONS,
    SEGMENT,
    add_to_slot,
    group_lanes,
    lane_signs,
    row_of,
    share_of,
    swap_lanes,
    wait,
)
from hybridbench.engine.cpu.simd import LANES, load, lowest_bit, parity, pointer, store


def _rotate1(s, begin, end, basis, x0, c0, s0):
    row = row_of(begin, basis)
    for step in range(begin, end):
        i, j = row * 2 * LANES, (row ^ x0) * 2 * LANES
        for _ in range(2):  # real and imaginary part alike
            a, b = load(s, i), load(s, j)
            store(s, i, c0 * a - s0 * b)
            store(s, j, s0 * a + c0 * b)
            i += LANES
            j += LANES
        if step + 1 < end:
            row ^= basis[lowest_bit(step + 1)]


def _rotate2(s, begin, end, basis, x0, x1, c0, s0, c1, s1):
    row = row_of(begin, basis)
    for step in range(begin, end):
        i, j, k, m = row * 2 * LANES, (row ^ x0) * 2 * LANES, (row ^ x1) * 2 * LANES, (row ^ x0 ^ x1) * 2 * LANES
        for _ in range(2):
            a, b, c, d = load(s, i), load(s, j), load(s, k), load(s, m)
            a, b = c0 * a - s0 * b, s0 * a + c0 * b
            c, d = c0 * c - s0 * d, s0 * c + c0 * d
            store(s, i, c1 * a - s1 * c)
            store(s, j, c1 * b - s1 * d)
            store(s, k, s1 * a + c1 * c)
            store(s, m, s1 * b + c1 * d)
            i += LANES
            j += LANES
            k += LANES
            m += LANES
        if step + 1 < end:
            row ^= basis[lowest_bit(step + 1)]


def _rotate_mixed(s, begin, end, basis, x, lane_x, z, signs, c, sine, back):
    """Rotation whose masks reach into the lanes: new[i] = c old[i] -+ s old[i ^ x], minus where the bit of i is 0.

    `back` is -1 for the inverse, else 1; `lane_x` is the mask as a mask of lane numbers.
    """
    row = row_of(begin, basis)
    for step in range(begin, end):
        i, j = row * 2 * LANES, (row ^ x) * 2 * LANES
        sign = signs * sine
        flip = back * (1 - 2 * parity(row & z))
        if flip > 0:
            sign = -sign
        # The partner's rows have the other bit; within one row the partner lane has.
        for _ in range(2):
            if x:
                a, b = load(s, i), load(s, j)
                store(s, i, c * a + sign * swap_lanes(b, lane_x))
                other = sign if parity(x & z) == 0 else -sign
                store(s, j, c * b + other * swap_lanes(a, lane_x))
            else:
                a = load(s, i)
                store(s, i, c * a + sign * swap_lanes(a, lane_x))
            i += LANES
            j += LANES
        if step + 1 < end:
            row ^= basis[lowest_bit(step + 1)]


def apply_rotations(ctx, one, where, scratch, psi, layer, q, chunks, first, last):
    """Apply the rotations of a layer."""
    code = pointer(ctx[CODE], 1)
    coefficients = pointer(scratch + where[ROTATIONS], one)
    at = code[E.AT_GROUPS + q] + 2 * layer
    for group in range(code[at + 1]):
        record = code[at] + group * 10
        wires, c, x0, d, x1 = code[record], code[record + 1], code[record + 2], code[record + 3], code[record + 4]
        if wires == 0:
            continue
        basis = pointer(ctx[CODE] + 8 * code[record + 9], 1)
        begin, end = share_of(1 << code[record + 8], chunks, first, last)
        c0, s0 = load(coefficients, 2 * c * LANES), load(coefficients, (2 * c + 1) * LANES)
        if wires == 2:
            c1, s1 = load(coefficients, 2 * d * LANES), load(coefficients, (2 * d + 1) * LANES)
            _rotate2(psi, begin, end, basis, x0, x1, c0, s0, c1, s1)
        else:
            _rotate1(psi, begin, end, basis, x0, c0, s0)
        wait(ctx)


def _unrotate1(p, g, begin, end, basis, x0, c0, s0, slots, slot):
    """Take one wire's rotation back on both states; add Im <g|X p> and Im <g|Y p>."""
    row = row_of(begin, basis)
    while begin < end:
        stop = min(begin + SEGMENT, end)
        gx = s0 - s0
        gy = gx
        for step in range(begin, stop):
            i, j = row * 2 * LANES, (row ^ x0) * 2 * LANES
            ar, br, fr, hr = load(p, i), load(p, j), load(g, i), load(g, j)
            ai, bi, fi, hi = load(p, i + LANES), load(p, j + LANES), load(g, i + LANES), load(g, j + LANES)
            gx = gx + fr * bi - fi * br + hr * ai - hi * ar
            gy = gy + hr * ar + hi * ai - fr * br - fi * bi
            store(p, i, c0 * ar + s0 * br)
            store(p, j, c0 * br - s0 * ar)
            store(g, i, c0 * fr + s0 * hr)
            store(g, j, c0 * hr - s0 * fr)
            store(p, i + LANES, c0 * ai + s0 * bi)
            store(p, j + LANES, c0 * bi - s0 * ai)
            store(g, i + LANES, c0 * fi + s0 * hi)
            store(g, j + LANES, c0 * hi - s0 * fi)
            if step + 1 < end:
                row ^= basis[lowest_bit(step + 1)]
        _add_pair(slots, slot, gx, gy)
        begin = stop


def _add_pair(slots, slot, x, y):
    """Add to the slots of a run (X at slot >= 0, Y after it) or of a sample rotation (Y alone, at -1 - slot)."""
    if slot >= 0:
        add_to_slot(slots, slot, x)
        add_to_slot(slots, slot + 1, y)
    else:
        add_to_slot(slots, -1 - slot, y)


def _turn_back(state, i, j, k, m, a, b, c, d, c0, s0, c1, s1):
    """Write four rows with two wires' rotations taken back: wire 0 pairs (a, b) and (c, d), wire 1 (a, c) and (b, d)."""
    a, b, c, d = c0 * a + s0 * b, c0 * b - s0 * a, c0 * c + s0 * d, c0 * d - s0 * c
    store(state, i, c1 * a + s1 * c)
    store(state, j, c1 * b + s1 * d)
    store(state, k, c1 * c - s1 * a)
    store(state, m, c1 * d - s1 * b)


def _unrotate2(p, g, begin, end, basis, x0, x1, c0, s0, c1, s1, slots, slot0, slot1):
    """`_unrotate1` for two wires in one pass."""
    row = row_of(begin, basis)
    while begin < end:
        stop = min(begin + SEGMENT, end)
        gx0 = s0 - s0
        gy0, gx1, gy1 = gx0, gx0, gx0
        for step in range(begin, stop):
            i, j, k, m = row * 2 * LANES, (row ^ x0) * 2 * LANES, (row ^ x1) * 2 * LANES, (row ^ x0 ^ x1) * 2 * LANES
            ar, br, cr, dr = load(p, i), load(p, j), load(p, k), load(p, m)
            ai, bi, ci, di = load(p, i + LANES), load(p, j + LANES), load(p, k + LANES), load(p, m + LANES)
            er, fr, ur, vr = load(g, i), load(g, j), load(g, k), load(g, m)
            ei, fi, ui, vi = load(g, i + LANES), load(g, j + LANES), load(g, k + LANES), load(g, m + LANES)
            gx0 = gx0 + er * bi - ei * br + fr * ai - fi * ar
            gx0 = gx0 + ur * di - ui * dr + vr * ci - vi * cr
            gy0 = gy0 + fr * ar + fi * ai - er * br - ei * bi
            gy0 = gy0 + vr * cr + vi * ci - ur * dr - ui * di
            gx1 = gx1 + er * ci - ei * cr + ur * ai - ui * ar
            gx1 = gx1 + fr * di - fi * dr + vr * bi - vi * br
            gy1 = gy1 + ur * ar + ui * ai - er * cr - ei * ci
            gy1 = gy1 + vr * br + vi * bi - fr * dr - fi * di
            _turn_back(p, i, j, k, m, ar, br, cr, dr, c0, s0, c1, s1)
            _turn_back(p, i + LANES, j + LANES, k + LANES, m + LANES, ai, bi, ci, di, c0, s0, c1, s1)
            _turn_back(g, i, j, k, m, er, fr, ur, vr, c0, s0, c1, s1)
            _turn_back(g, i + LANES, j + LANES, k + LANES, m + LANES, ei, fi, ui, vi, c0, s0, c1, s1)
            if step + 1 < end:
                row ^= basis[lowest_bit(step + 1)]
        _add_pair(slots, slot0, gx0, gy0)
        _add_pair(slots, slot1, gx1, gy1)
        begin = stop


def _gradient_mixed(p, g, begin, end, basis, x, lane_x, z, signs, slots, slot):
    """Im <g|X p> and Im <g|Y p> of a wire whose masks reach into the lanes; Y|i> = -+i |i ^ x>, minus where its bit is 1."""
    row = row_of(begin, basis)
    while begin < end:
        stop = min(begin + SEGMENT, end)
        gx = signs - signs
        gy = gx
        for step in range(begin, stop):
            here = row
            for _ in range(2 if x else 1):
                i, j = here * 2 * LANES, (here ^ x) * 2 * LANES
                pr, pi = swap_lanes(load(p, j), lane_x), swap_lanes(load(p, j + LANES), lane_x)
                fr, fi = load(g, i), load(g, i + LANES)
                gx = gx + fr * pi - fi * pr
                # (Y p)[i] = -i p[i ^ x] where the bit of i is 0, +i p[i ^ x] where it is 1.
                part = signs * (fr * pr + fi * pi)
                gy = gy + part if parity(here & z) else gy - part
                here = row ^ x
            if step + 1 < end:
                row ^= basis[lowest_bit(step + 1)]
        _add_pair(slots, slot, gx, gy)
        begin = stop


def _rotation_slot(code, coefficient):
    """Slot of a run, or -1 - slot of a sample rotation."""
    n_runs = code[E.N_RUNS]
    if coefficient < n_runs:
        return 3 * coefficient
    before = 3 * n_runs + code[E.N_STRINGS] + code[E.N_PRODUCT] + code[E.N_SAMPLE_STRINGS]
    return -1 - (before + coefficient - n_runs)


def undo_rotations(ctx, one, where, scratch, psi, lam, slots, layer, q, chunks, first, last):
    """Take the rotations of a layer back on both states and add their gradients."""
    code = pointer(ctx[CODE], 1)
    coefficients = pointer(scratch + where[ROTATIONS], one)
    at = code[E.AT_GROUPS + q] + 2 * layer
    slot_bytes = code[E.N_SLOTS] * LANES * 8
    for group in range(code[at + 1]):
        record = code[at] + group * 10
        wires, c, x0, d, x1 = code[record], code[record + 1], code[record + 2], code[record + 3], code[record + 4]
        if wires == 0:
            continue
        basis = pointer(ctx[CODE] + 8 * code[record + 9], 1)
        c0, s0 = load(coefficients, 2 * c * LANES), load(coefficients, (2 * c + 1) * LANES)
        c1, s1 = load(coefficients, 2 * d * LANES), load(coefficients, (2 * d + 1) * LANES)
        slot0, slot1 = _rotation_slot(code, c), _rotation_slot(code, d)
        size = 1 << code[record + 8]
        for chunk in range(first, last):
            begin, end = share_of(size, chunks, chunk, chunk + 1)
            here = pointer(slots + chunk * slot_bytes, 1.0)
            if wires == 2:
                _unrotate2(psi, lam, begin, end, basis, x0, x1, c0, s0, c1, s1, here, slot0, slot1)
            else:
                _unrotate1(psi, lam, begin, end, basis, x0, c0, s0, here, slot0)
        wait(ctx)


def mixed_rotations(ctx, one, where, scratch, psi, lam, slots, layer, q, back, chunks, first, last):
    """Apply the rotations of a layer that reach into the lanes, or take them back on both states with their gradients."""
    code = pointer(ctx[CODE], 1)
    coefficients = pointer(scratch + where[ROTATIONS], one)
    lanes = pointer(scratch + where[PHASES], 1.0)
    at = code[E.AT_GROUPS + q] + 2 * layer
    for group in range(code[at + 1]):
        record = code[at] + group * 10
        if code[record]:
            continue
        c, x, z = code[record + 1], code[record + 2], code[record + 6]
        basis = pointer(ctx[CODE] + 8 * code[record + 9], 1)
        c0, s0 = load(coefficients, 2 * c * LANES), load(coefficients, (2 * c + 1) * LANES)
        signs = lane_signs(code[record + 7], q, lanes, one)
        lane_x = group_lanes(q, code[record + 5])
        size = 1 << code[record + 8]
        begin, end = share_of(size, chunks, first, last)
        if back:
            for chunk in range(first, last):
                here = pointer(slots + chunk * code[E.N_SLOTS] * LANES * 8, 1.0)
                low, high = share_of(size, chunks, chunk, chunk + 1)
                _gradient_mixed(psi, lam, low, high, basis, x, lane_x, z, signs, here, _rotation_slot(code, c))
            _rotate_mixed(lam, begin, end, basis, x, lane_x, z, signs, c0, s0, -1)
        _rotate_mixed(psi, begin, end, basis, x, lane_x, z, signs, c0, s0, 1 - 2 * back)
        wait(ctx)
