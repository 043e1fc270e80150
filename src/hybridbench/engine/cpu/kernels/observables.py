"""Observables: their expectation values, and the states that the adjoint method starts from."""

from __future__ import annotations

from hybridbench.engine import encoding as E
from hybridbench.engine.cpu.kernels.layout import (
    BATCH,
    CODE,
    COTANGENT,
    GROUP,
    OUTPUT,
    PHASES,
    SEGMENT,
    WEIGHTS,
    add_to_slot,
    group_lanes,
    real_at,
    share_of,
    swap_lanes,
    wait,
)
from hybridbench.engine.cpu.simd import LANES, load, narrow, parity, pointer, splat, store


def _walsh_rows(group, bits):
    """Walsh-Hadamard transform over 2**bits vectors."""
    h = 1
    while h < (1 << bits):
        for i in range(0, 1 << bits, 2 * h):
            for j in range(i, i + h):
                a, b = load(group, j * LANES), load(group, (j + h) * LANES)
                store(group, j * LANES, a + b)
                store(group, (j + h) * LANES, a - b)
        h *= 2


def _turned(power, re, im):
    """Real part of i**power (re + i im)."""
    if power == 0:
        return re
    if power == 1:
        return -im
    if power == 2:
        return -re
    return im


def measure_diagonal(ctx, one, where, scratch, psi, slots, q, chunks, first, last):
    """Sums over rows of each diagonal term of the observables, per lane and chunk, into the slots."""
    code = pointer(ctx[CODE], 1)
    rows_bits = code[E.N_QUBITS] - q
    bits = min(4, rows_bits)
    group = pointer(scratch + where[GROUP], one)
    sums = pointer(scratch + where[WEIGHTS], one)
    n_diagonal = code[E.N_DIAGONAL]
    zero = narrow(splat(0.0), one)
    for chunk in range(first, last):
        here = pointer(slots + chunk * code[E.N_SLOTS] * LANES * 8, 1.0)
        for term in range(n_diagonal):
            store(here, term * LANES, splat(0.0))
        begin, end = share_of(1 << (rows_bits - bits), chunks, chunk, chunk + 1)
        while begin < end and n_diagonal:
            stop = min(begin + SEGMENT // 16, end)
            for term in range(n_diagonal):
                store(sums, term * LANES, zero)
            for high in range(begin, stop):
                for row in range(1 << bits):
                    i = ((high << bits) + row) * 2 * LANES
                    re, im = load(psi, i), load(psi, i + LANES)
                    store(group, row * LANES, re * re + im * im)
                _walsh_rows(group, bits)
                for term in range(n_diagonal):
                    z = code[code[E.AT_DIAGONAL] + term * E.TERM + 4] >> q
                    value = load(group, (z & ((1 << bits) - 1)) * LANES)
                    old = load(sums, term * LANES)
                    store(sums, term * LANES, old - value if parity(high & (z >> bits)) else old + value)
            for term in range(n_diagonal):
                add_to_slot(here, term, load(sums, term * LANES))
            begin = stop


def measure_off_diagonal(ctx, one, psi, slots, q, chunks, first, last):
    """The same for the other terms."""
    code = pointer(ctx[CODE], 1)
    rows_bits = code[E.N_QUBITS] - q
    zero = narrow(splat(0.0), one)
    for chunk in range(first, last):
        here = pointer(slots + chunk * code[E.N_SLOTS] * LANES * 8, 1.0)
        for term in range(code[E.N_OFF_DIAGONAL]):
            store(here, (code[E.N_DIAGONAL] + term) * LANES, splat(0.0))
            at = code[E.AT_OFF_DIAGONAL] + term * E.TERM
            power, x, z = code[at + 2], code[at + 3] >> q, code[at + 4] >> q
            lane_x = group_lanes(q, code[at + 3] & ((1 << q) - 1))
            begin, end = share_of(1 << rows_bits, chunks, chunk, chunk + 1)
            while begin < end:
                stop = min(begin + SEGMENT, end)
                total_ = zero
                for row in range(begin, stop):
                    i, j = row * 2 * LANES, (row ^ x) * 2 * LANES
                    pr, pi = load(psi, i), load(psi, i + LANES)
                    ar, ai = swap_lanes(load(psi, j), lane_x), swap_lanes(load(psi, j + LANES), lane_x)
                    value = _turned(power, ar * pr + ai * pi, ar * pi - ai * pr)
                    total_ = total_ - value if parity(row & z) else total_ + value
                add_to_slot(here, code[E.N_DIAGONAL] + term, total_)
                begin = stop


def _term(code, term):
    """Place of a term: the diagonal ones come first."""
    if term < code[E.N_DIAGONAL]:
        return code[E.AT_DIAGONAL] + term * E.TERM
    return code[E.AT_OFF_DIAGONAL] + (term - code[E.N_DIAGONAL]) * E.TERM


def write_outputs(ctx, one, slots, block, q, chunks):
    """Expectation values of the samples of one block from the sums of `_measure`."""
    code = pointer(ctx[CODE], 1)
    out = pointer(ctx[OUTPUT], one)
    n_outputs, samples, batch = code[E.N_OUTPUTS], LANES >> q, ctx[BATCH]
    for sample in range(min(samples, batch - block * samples)):
        row = (block * samples + sample) * n_outputs
        for output in range(n_outputs):
            out[row + output] = 0.0
        for term in range(code[E.N_DIAGONAL] + code[E.N_OFF_DIAGONAL]):
            at = _term(code, term)
            value = 0.0
            for chunk in range(chunks):
                here = pointer(slots + (chunk * code[E.N_SLOTS] + term) * LANES * 8, 1.0)
                for high in range(1 << q):
                    value += (1 - 2 * parity(high & code[at + 4])) * here[high * samples + sample]
            out[row + code[at]] += real_at(code, at + 1) * value


def adjoint_diagonal(ctx, one, where, scratch, psi, lam, block, q, chunks, first, last):
    """lam = 2 sum over outputs of cotangent * observable * psi."""
    code = pointer(ctx[CODE], 1)
    rows_bits = code[E.N_QUBITS] - q
    bits = min(4, rows_bits)
    group = pointer(scratch + where[GROUP], one)
    weights = pointer(scratch + where[WEIGHTS], one)
    lanes = pointer(scratch + where[PHASES], 1.0)
    cotangent = pointer(ctx[COTANGENT], one)
    n_diagonal = code[E.N_DIAGONAL]
    samples, batch = LANES >> q, ctx[BATCH]
    zero = narrow(splat(0.0), one)
    for term in range(n_diagonal):
        at = _term(code, term)
        for lane in range(LANES):
            row = block * samples + (lane & (samples - 1))
            sign = 1 - 2 * parity(int(lane // samples) & code[at + 4])
            given = cotangent[row * code[E.N_OUTPUTS] + code[at]] if row < batch else 0.0
            lanes[lane] = 2.0 * sign * real_at(code, at + 1) * given
        store(weights, term * LANES, narrow(load(lanes, 0), one))
    begin, end = share_of(1 << (rows_bits - bits), chunks, first, last)
    for high in range(begin, end):
        for row in range(1 << bits):
            store(group, row * LANES, zero)
        for term in range(n_diagonal):
            z = code[code[E.AT_DIAGONAL] + term * E.TERM + 4] >> q
            k = (z & ((1 << bits) - 1)) * LANES
            w = load(weights, term * LANES)
            store(group, k, load(group, k) - w if parity(high & (z >> bits)) else load(group, k) + w)
        _walsh_rows(group, bits)
        for row in range(1 << bits):
            i = ((high << bits) + row) * 2 * LANES
            factor = load(group, row * LANES)
            store(lam, i, factor * load(psi, i))
            store(lam, i + LANES, factor * load(psi, i + LANES))
    wait(ctx)


def adjoint_off_diagonal(ctx, one, where, scratch, psi, lam, block, q, chunks, first, last):
    """The same for the other terms, added."""
    code = pointer(ctx[CODE], 1)
    rows_bits = code[E.N_QUBITS] - q
    lanes = pointer(scratch + where[PHASES], 1.0)
    cotangent = pointer(ctx[COTANGENT], one)
    n_diagonal, n_off = code[E.N_DIAGONAL], code[E.N_OFF_DIAGONAL]
    samples, batch = LANES >> q, ctx[BATCH]
    for term in range(n_diagonal, n_diagonal + n_off):
        at = _term(code, term)
        power, x, z = code[at + 2], code[at + 3] >> q, code[at + 4] >> q
        low = (1 << q) - 1
        lane_x = group_lanes(q, code[at + 3] & low)
        for lane in range(LANES):
            row = block * samples + (lane & (samples - 1))
            high = int(lane // samples) ^ (code[at + 3] & low)  # the sign is that of the amplitude the term acts on
            sign = 1 - 2 * parity(high & code[at + 4])
            given = cotangent[row * code[E.N_OUTPUTS] + code[at]] if row < batch else 0.0
            lanes[lane] = 2.0 * sign * real_at(code, at + 1) * given
        w = narrow(load(lanes, 0), one)
        begin, end = share_of(1 << rows_bits, chunks, first, last)
        for row in range(begin, end):
            i, j = row * 2 * LANES, (row ^ x) * 2 * LANES
            pr, pi = swap_lanes(load(psi, j), lane_x), swap_lanes(load(psi, j + LANES), lane_x)
            signed = -w if parity((row ^ x) & z) else w
            store(lam, i, load(lam, i) + signed * _turned(power, pr, pi))
            store(lam, i + LANES, load(lam, i + LANES) + signed * _turned((power + 3) % 4, pr, pi))
    wait(ctx)
