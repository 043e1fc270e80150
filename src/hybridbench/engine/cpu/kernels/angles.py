"""Angles to numbers: cosines and sines, the matrices of runs, and what decides the gates of one block of samples."""

from __future__ import annotations

import math

from hybridbench.engine import encoding as E
from hybridbench.engine.cpu.kernels.layout import (
    ANGLES,
    BATCH,
    CODE,
    PHASES,
    PRODUCT,
    ROTATIONS,
    RUN_ROTATIONS,
    RUNS,
    SAMPLE,
    SHARED,
    STRINGS,
    WORK,
    real_at,
)
from hybridbench.engine.cpu.simd import LANES, any_beyond, below_one, load, narrow, pointer, splat, store, where_odd

LARGE = 1e5  # angles up to this size have fast cosines; those beyond take the C library's, which are right for any number


def cos_sin(x):
    """Cosine and sine of a float64 vector to about 1e-16 for |x| <= LARGE (polynomials of Moshier's Cephes library)."""
    shift = splat(6755399441055744.0)  # 1.5 * 2**52: adding and subtracting it rounds to a whole number
    k = (x * splat(0.6366197723675814) + shift) - shift
    # Not a number from about 1e17, where x no longer says which angle it is: the polynomials would give any number there.
    r = below_one((x - k * splat(1.57079632673412561417e00)) - k * splat(6.07710050650619224932e-11))
    z = r * r
    s = splat(1.58962301576546568060e-10) * z - splat(2.50507477628578072866e-8)
    s = s * z + splat(2.75573136213857245213e-6)
    s = s * z - splat(1.98412698295895385996e-4)
    s = s * z + splat(8.33333333332211858878e-3)
    s = s * z - splat(1.66666666666666307295e-1)
    s = s * z * r + r
    c = splat(2.08757008419747316778e-9) - splat(1.13585365213876817300e-11) * z
    c = c * z - splat(2.75573141792967388112e-7)
    c = c * z + splat(2.48015872888517045348e-5)
    c = c * z - splat(1.38888888888730564116e-3)
    c = c * z + splat(4.16666666666665929218e-2)
    c = c * z * z - splat(0.5) * z + splat(1.0)
    cosine, sine = where_odd(k, s, c), where_odd(k, c, s)
    # Quadrants 1 and 2 have a negative cosine, 2 and 3 a negative sine: k // 2 and (k + 1) // 2 odd.
    half = (k * splat(0.5) - splat(0.25) + shift) - shift
    upper = ((k + splat(1.0)) * splat(0.5) - splat(0.25) + shift) - shift
    return where_odd(upper, -cosine, cosine), where_odd(half, -sine, sine)


def _shared_angle(code, at, ctx, one):
    """Value of an angle that no sample changes; `at` is the place of [kind, index, scale, offset]."""
    value = real_at(code, at + 3)
    if code[at] == 1:
        value += real_at(code, at + 2) * float(pointer(ctx[SHARED], one)[code[at + 1]])
    return value


def prepare(ctx, one, places):
    """Angles of the shared strings; each run's matrix as exp(i d) RZ(alpha) RY(beta) RZ(gamma)."""
    code = pointer(ctx[CODE], 1)
    strings = pointer(ctx[WORK] + places[ANGLES], 1.0)
    runs = pointer(ctx[WORK] + places[RUNS], 1.0)
    rotations = pointer(ctx[WORK] + places[RUN_ROTATIONS], 1.0)
    for j in range(code[E.N_STRINGS]):
        strings[j] = _shared_angle(code, code[E.AT_STRINGS] + j * E.STRING + 1, ctx, one)
    for j in range(code[E.N_STRINGS]):  # a loop of its own: as part of the one above it costs 5 % of a step of 10 qubits
        angle = strings[j]
        if angle > LARGE or angle < -LARGE:  # the phases of several strings are added up before their cosine is taken
            strings[j] = 2.0 * math.atan2(math.sin(0.5 * angle), math.cos(0.5 * angle))
    for j in range(code[E.N_RUNS]):
        at = code[E.AT_RUNS] + j * E.RUN
        ar, ai, br, bi = 1.0, 0.0, 0.0, 0.0  # first column (a, b); the second is (-conj b, conj a)
        for r in range(code[at], code[at] + code[at + 1]):
            place = code[E.AT_RUN_ROTATIONS] + r * E.ROTATION
            half = 0.5 * _shared_angle(code, place + 3, ctx, one)
            c, s = math.cos(half), math.sin(half)
            rotations[2 * r], rotations[2 * r + 1] = c, s
            x, y, z = s * real_at(code, place), s * real_at(code, place + 1), s * real_at(code, place + 2)
            ar, ai, br, bi = (
                c * ar + z * ai - y * br + x * bi,
                c * ai - z * ar - y * bi - x * br,
                y * ar + x * ai + c * br - z * bi,
                y * ai - x * ar + c * bi + z * br,
            )
        up, down = math.atan2(ai, ar), math.atan2(bi, br)
        runs[4 * j] = math.sqrt(ar * ar + ai * ai)
        runs[4 * j + 1] = math.sqrt(br * br + bi * bi)
        runs[4 * j + 2] = down - up  # alpha
        runs[4 * j + 3] = -down - up  # gamma


def scaled_angle(ctx, one, at, factor, block, q, lanes, out, place):
    """Cosine and sine of factor * angle, one per lane, as vectors `place` and `place` + 1 of `out`."""
    code = pointer(ctx[CODE], 1)
    if code[at] == 2:
        sample = pointer(ctx[SAMPLE], one)
        n_sample, batch, samples = code[E.N_SAMPLE], ctx[BATCH], LANES >> q
        for lane in range(LANES):
            row = block * samples + (lane & (samples - 1))
            lanes[lane] = float(sample[row * n_sample + code[at + 1]]) if row < batch else 0.0
        angle = splat(real_at(code, at + 3)) + splat(real_at(code, at + 2)) * load(lanes, 0)
    else:
        angle = splat(_shared_angle(code, at, ctx, one))
    angle = splat(factor) * angle
    c, s = cos_sin(angle)
    store(out, place * LANES, narrow(c, one))
    store(out, (place + 1) * LANES, narrow(s, one))
    if any_beyond(angle, LARGE):
        store(lanes, 0, angle)
        _exact_cos_sin(lanes, out, place)


def _exact_cos_sin(lanes, out, place):
    """Cosine and sine of the angles in `lanes` by the C library, which is right for any number."""
    for lane in range(LANES):
        out[place * LANES + lane] = math.cos(lanes[lane])
        out[(place + 1) * LANES + lane] = math.sin(lanes[lane])


def write_coefficients(ctx, one, places, where, scratch, block, q):
    """Everything that decides the gates of one block of samples."""
    code = pointer(ctx[CODE], 1)
    lanes = pointer(scratch + where[PHASES], 1.0)
    runs = pointer(ctx[WORK] + places[RUNS], 1.0)
    out = pointer(scratch + where[ROTATIONS], one)
    n_runs = code[E.N_RUNS]
    for j in range(n_runs):
        store(out, 2 * j * LANES, narrow(splat(runs[4 * j]), one))
        store(out, (2 * j + 1) * LANES, narrow(splat(runs[4 * j + 1]), one))
    for j in range(code[E.N_SAMPLE_ROTATIONS]):
        scaled_angle(ctx, one, code[E.AT_SAMPLE_ROTATIONS] + 4 * j, 0.5, block, q, lanes, out, 2 * (n_runs + j))
    out = pointer(scratch + where[PRODUCT], one)
    first = code[E.AT_PRODUCT] + 2 * code[E.N_QUBITS]
    for j in range(code[E.N_PRODUCT]):
        scaled_angle(ctx, one, first + j * E.ROTATION + 3, 0.5, block, q, lanes, out, 2 * j)
    out = pointer(scratch + where[STRINGS], one)
    for j in range(code[E.N_SAMPLE_STRINGS]):
        scaled_angle(ctx, one, code[E.AT_SAMPLE_STRINGS] + j * E.STRING + 1, 0.5, block, q, lanes, out, 2 * j)
