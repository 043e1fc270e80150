"""The product start: each wire's state, their product, and its gradients."""

from __future__ import annotations

from hybridbench.engine import encoding as E
from hybridbench.engine.cpu.kernels.layout import (
    CODE,
    PHASES,
    PRODUCT,
    SEGMENT,
    VECTORS,
    add_to_slot,
    real_at,
    share_of,
    wait,
)
from hybridbench.engine.cpu.simd import LANES, itemsize, load, narrow, pointer, splat, store, swap1, swap2, swap4, swap8


def _rotate_vector(v, at, c, s, x, y, z):
    """One rotation of the two complex numbers per lane that are vectors `at` ... `at` + 3 of v (re, im, re, im)."""
    ar, ai = load(v, at * LANES), load(v, (at + 1) * LANES)
    br, bi = load(v, (at + 2) * LANES), load(v, (at + 3) * LANES)
    x, y, z = s * x, s * y, s * z
    store(v, at * LANES, c * ar + z * ai - y * br + x * bi)
    store(v, (at + 1) * LANES, c * ai - z * ar - y * bi - x * br)
    store(v, (at + 2) * LANES, y * ar + x * ai + c * br - z * bi)
    store(v, (at + 3) * LANES, y * ai - x * ar + c * bi + z * br)


def _axis(code, rotation, one):
    at = code[E.AT_PRODUCT] + 2 * code[E.N_QUBITS] + rotation * E.ROTATION
    x, y, z = splat(real_at(code, at)), splat(real_at(code, at + 1)), splat(real_at(code, at + 2))
    return narrow(x, one), narrow(y, one), narrow(z, one)


def wire_vectors(ctx, one, where, scratch):
    """The state of each wire after its rotations of the product start."""
    code = pointer(ctx[CODE], 1)
    v = pointer(scratch + where[VECTORS], one)
    angles = pointer(scratch + where[PRODUCT], one)
    zero = narrow(splat(0.0), one)
    for bit in range(code[E.N_QUBITS]):
        store(v, 4 * bit * LANES, narrow(splat(1.0), one))
        for part in range(1, 4):
            store(v, (4 * bit + part) * LANES, zero)
        at = code[E.AT_PRODUCT] + 2 * bit
        for j in range(code[at], code[at] + code[at + 1]):
            x, y, z = _axis(code, j, one)
            _rotate_vector(v, 4 * bit, load(angles, 2 * j * LANES), load(angles, (2 * j + 1) * LANES), x, y, z)


def _bit_of_lanes(bit, q, lanes, one):
    """1 in the lanes whose index has `bit` set, 0 in the others, as a vector."""
    for lane in range(LANES):
        lanes[lane] = float((lane // (LANES >> q)) >> bit & 1)
    return narrow(load(lanes, 0), one)


def _lane_factor(ctx, one, where, scratch, q, skip):
    """Product of the amplitudes of the wires that lie in the lanes, but for wire `skip`: real and imaginary vector."""
    v = pointer(scratch + where[VECTORS], one)
    lanes = pointer(scratch + where[PHASES], 1.0)
    re, im = narrow(splat(1.0), one), narrow(splat(0.0), one)
    for bit in range(q):
        if bit != skip:
            on = _bit_of_lanes(bit, q, lanes, one)
            off = narrow(splat(1.0), one) - on
            fr = off * load(v, 4 * bit * LANES) + on * load(v, (4 * bit + 2) * LANES)
            fi = off * load(v, (4 * bit + 1) * LANES) + on * load(v, (4 * bit + 3) * LANES)
            re, im = re * fr - im * fi, re * fi + im * fr
    return re, im


def product_state(ctx, one, where, scratch, psi, q, chunks, first, last):
    """Write the product of the wires' states to `psi`, doubling the number of rows with each wire."""
    code = pointer(ctx[CODE], 1)
    v = pointer(scratch + where[VECTORS], one)
    n = code[E.N_QUBITS]
    if first == 0:
        re, im = _lane_factor(ctx, one, where, scratch, q, -1)
        store(psi, 0, re)
        store(psi, LANES, im)
    for bit in range(q, n):
        half = 1 << (bit - q)
        if half < SEGMENT:
            begin, end = (0, half) if first == 0 else (0, 0)
        else:
            wait(ctx)
            begin, end = share_of(half, chunks, first, last)
        ar, ai = load(v, 4 * bit * LANES), load(v, (4 * bit + 1) * LANES)
        br, bi = load(v, (4 * bit + 2) * LANES), load(v, (4 * bit + 3) * LANES)
        for row in range(begin, end):
            i = row * 2 * LANES
            j = (row + half) * 2 * LANES
            re, im = load(psi, i), load(psi, i + LANES)
            store(psi, i, re * ar - im * ai)
            store(psi, i + LANES, re * ai + im * ar)
            store(psi, j, re * br - im * bi)
            store(psi, j + LANES, re * bi + im * br)
    wait(ctx)


def _sum_lane_qubits(value, q, skip):
    """Sum over the lanes that differ in the q qubits of the lanes, but for qubit `skip`; in each of them."""
    for bit in range(q):
        if bit != skip:
            place = 4 - q + bit
            if place == 0:
                value = value + swap1(value)
            elif place == 1:
                value = value + swap2(value)
            elif place == 2:
                value = value + swap4(value)
            else:
                value = value + swap8(value)
    return value


def _wire_gradient(ctx, one, where, scratch, bit, er, ei, fr, fi, q, slots):
    """Back through the rotations of one wire: e and f are <lam| contracted with all other wires, for its states 0 and 1."""
    code = pointer(ctx[CODE], 1)
    v = pointer(scratch + where[VECTORS], one)
    e = pointer(scratch + where[VECTORS] + 4 * code[E.N_QUBITS] * LANES * itemsize(one), one)
    for part in range(4):  # a copy: another chunk needs the vector again
        store(e, (4 + part) * LANES, load(v, (4 * bit + part) * LANES))
    angles = pointer(scratch + where[PRODUCT], one)
    # The contraction is conjugate-linear in lam: as a vector it is the conjugate. One lane of each sample counts.
    keep = narrow(splat(1.0), one)
    if q:
        lanes = pointer(scratch + where[PHASES], 1.0)
        for lane in range(LANES):
            lanes[lane] = 1.0 if lane < (LANES >> q) else 0.0
        keep = narrow(load(lanes, 0), one)
    store(e, 0, keep * er)
    store(e, LANES, -keep * ei)
    store(e, 2 * LANES, keep * fr)
    store(e, 3 * LANES, -keep * fi)
    at = code[E.AT_PRODUCT] + 2 * bit
    base = 3 * code[E.N_RUNS] + code[E.N_STRINGS]
    for j in range(code[at] + code[at + 1] - 1, code[at] - 1, -1):
        x, y, z = _axis(code, j, one)
        ar, ai, br, bi = load(e, 4 * LANES), load(e, 5 * LANES), load(e, 6 * LANES), load(e, 7 * LANES)
        gr, gi, hr, hi = load(e, 0), load(e, LANES), load(e, 2 * LANES), load(e, 3 * LANES)
        # P v = (z a + (x - iy) b, (x + iy) a - z b)
        first = gr * (z * ai + x * bi - y * br) - gi * (z * ar + x * br + y * bi)
        second = hr * (x * ai + y * ar - z * bi) - hi * (x * ar - y * ai - z * br)
        add_to_slot(slots, base + j, first + second)
        c, s = load(angles, 2 * j * LANES), -load(angles, (2 * j + 1) * LANES)
        _rotate_vector(e, 4, c, s, x, y, z)
        _rotate_vector(e, 0, c, s, x, y, z)


def product_gradient(ctx, one, where, scratch, psi, lam, slots, q, chunks, first, last):
    """Gradients of the product start from `lam`, wire by wire; overwrites both states.

    psi gets the products of the wires below each: 2**p rows from row 2**p on.
    """
    code = pointer(ctx[CODE], 1)
    v = pointer(scratch + where[VECTORS], one)
    n = code[E.N_QUBITS]
    slot_bytes = code[E.N_SLOTS] * LANES * 8
    wait(ctx)
    if first == 0 and n > q:
        re, im = _lane_factor(ctx, one, where, scratch, q, -1)
        store(psi, 2 * LANES, re)
        store(psi, 3 * LANES, im)
    for bit in range(q, n - 1):
        half = 1 << (bit - q)
        if half < SEGMENT:
            begin, end = (0, half) if first == 0 else (0, 0)
        else:
            wait(ctx)
            begin, end = share_of(half, chunks, first, last)
        ar, ai = load(v, 4 * bit * LANES), load(v, (4 * bit + 1) * LANES)
        br, bi = load(v, (4 * bit + 2) * LANES), load(v, (4 * bit + 3) * LANES)
        for row in range(begin, end):
            i = (half + row) * 2 * LANES
            j = (2 * half + row) * 2 * LANES
            k = j + half * 2 * LANES
            re, im = load(psi, i), load(psi, i + LANES)
            store(psi, j, re * ar - im * ai)
            store(psi, j + LANES, re * ai + im * ar)
            store(psi, k, re * br - im * bi)
            store(psi, k + LANES, re * bi + im * br)
    zero = narrow(splat(0.0), one)
    for bit in range(n - 1, q - 1, -1):
        half = 1 << (bit - q)
        wait(ctx)
        ar, ai = load(v, 4 * bit * LANES), load(v, (4 * bit + 1) * LANES)
        br, bi = load(v, (4 * bit + 2) * LANES), load(v, (4 * bit + 3) * LANES)
        for chunk in range(first, last):
            if half < SEGMENT:
                begin, end = (0, half) if chunk == 0 else (0, 0)
            else:
                begin, end = share_of(half, chunks, chunk, chunk + 1)
            if begin == end:
                continue
            er, ei, fr, fi = zero, zero, zero, zero
            for row in range(begin, end):
                i = row * 2 * LANES
                j = (row + half) * 2 * LANES
                k = (row + half) * 2 * LANES
                pr, pi = load(psi, k), load(psi, k + LANES)
                lr, li, mr, mi = load(lam, i), load(lam, i + LANES), load(lam, j), load(lam, j + LANES)
                er, ei = er + (lr * pr + li * pi), ei + (lr * pi - li * pr)
                fr, fi = fr + (mr * pr + mi * pi), fi + (mr * pi - mi * pr)
                store(lam, i, lr * ar + li * ai + mr * br + mi * bi)
                store(lam, i + LANES, li * ar - lr * ai + mi * br - mr * bi)
            er, ei = _sum_lane_qubits(er, q, -1), _sum_lane_qubits(ei, q, -1)
            fr, fi = _sum_lane_qubits(fr, q, -1), _sum_lane_qubits(fi, q, -1)
            # Each chunk takes its share back through the rotations: the gradient is linear in it.
            _wire_gradient(ctx, one, where, scratch, bit, er, ei, fr, fi, q, pointer(slots + chunk * slot_bytes, 1.0))
    if first == 0:
        lr, li = load(lam, 0), load(lam, LANES)
        lanes = pointer(scratch + where[PHASES], 1.0)
        for bit in range(q):
            pr, pi = _lane_factor(ctx, one, where, scratch, q, bit)
            rr, ri = lr * pr + li * pi, lr * pi - li * pr
            on = _bit_of_lanes(bit, q, lanes, one)
            off = narrow(splat(1.0), one) - on
            er, ei = _sum_lane_qubits(off * rr, q, -1), _sum_lane_qubits(off * ri, q, -1)
            fr, fi = _sum_lane_qubits(on * rr, q, -1), _sum_lane_qubits(on * ri, q, -1)
            _wire_gradient(ctx, one, where, scratch, bit, er, ei, fr, fi, q, pointer(slots, 1.0))
