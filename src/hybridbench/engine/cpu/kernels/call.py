"""The CPU engine's inner loops: a program, forward and adjoint backward, over a batch, compiled by `native`.

Layout. A block holds 16 >> q samples: lane l of a vector is sample l & (16 >> q) - 1 of the block, and the upper q bits of l
are the lowest q bits of the physical index (q > 0 only for batches of less than 16, so that no lane is idle). A state of a
block is rows of two vectors, real and imaginary part; row r holds the amplitudes r << q | (l >> 4 - q).

Backward (Jones and Gacon 2020, arXiv:2009.02823): with L the loss, `lam` is the vector with dL = Re <lam|dpsi>; both go
back through the circuit, and a gate exp(-i a/2 P) contributes dL/da = 1/2 Im <lam|P psi>. For a run of rotations of one
virtual qubit Im <lam|P psi> is taken for P = X, Y, Z at one place, and each angle's share follows by rotating that vector.

Sums over rows are cut into the same chunks whatever the number of threads, so that results do not depend on it.

Functions take `ctx`, a table of 64-bit words (`TASK` ... below), and `one`, a number whose type is the precision.
"""

from __future__ import annotations

import math

from hybridbench.engine import encoding as E
from hybridbench.engine.cpu.native import INT, NOTHING, WORD, External
from hybridbench.engine.cpu.simd import (
    LANES,
    address_of,
    any_beyond,
    as_real,
    below_one,
    count_up,
    exchange,
    itemsize,
    load,
    lowest_bit,
    narrow,
    parity,
    pointer,
    splat,
    store,
    swap1,
    swap2,
    swap4,
    swap8,
    total,
    walsh1,
    walsh2,
    walsh4,
    walsh8,
    where_odd,
    widen,
)

#: Words of the table that a call hands over. Addresses are 0 where there is nothing.
(
    TASK,  # 0 forward, 1 backward
    CODE,
    SHARED,  # (n_shared,)
    SAMPLE,  # (batch, n_sample)
    BATCH,
    INITIAL,  # (1 or batch, 2**n) complex, wire order
    INITIAL_ROWS,  # 1 or batch
    KEPT,  # the states after the last gate, as blocks of rows
    OUTPUT,  # (batch, n_outputs)
    STATE,  # (batch, 2**n) complex, wire order: instead of OUTPUT
    COTANGENT,  # of OUTPUT or of STATE
    D_SHARED,
    D_SAMPLE,
    D_INITIAL,
    THREADS,
    WORK,  # shared scratch
    WORK_THREAD,  # scratch of the first thread
    POOL,  # address of a word that holds the scratch of the last call
    BARRIER,
    TOGETHER,  # 1 where threads share one block, 0 where each takes whole blocks
    NEXT_BLOCK,  # the first block that no thread has taken
) = range(21)
WORDS = 24
TABLE_BITS = 12  # up to so many qubits the phases of a layer are kept as a table
PHASE_BITS = 10  # above, they are made anew in pieces of this many bits
CHUNKS = 16
POOLED = 1 << 28  # bytes of scratch that are kept from call to call at most
WORTH_THREADS = 50_000  # rows times rotations from which a second thread is worth its start (about 20 us)
LARGE = 1e5  # angles up to this size have fast cosines; those beyond take the C library's, which are right for any number
SEGMENT = 4096  # rows that are summed in single precision before the sum is added in double

_pthread_create = External("pthread_create", INT, (WORD, WORD, WORD, WORD))
_pthread_join = External("pthread_join", INT, (WORD, WORD))
_mutex_init = External("pthread_mutex_init", INT, (WORD, WORD))
_mutex_lock = External("pthread_mutex_lock", INT, (WORD,))
_mutex_unlock = External("pthread_mutex_unlock", INT, (WORD,))
_mutex_destroy = External("pthread_mutex_destroy", INT, (WORD,))
_barrier_init = External("pthread_barrier_init", INT, (WORD, WORD, INT))
_barrier_wait = External("pthread_barrier_wait", INT, (WORD,))
_barrier_destroy = External("pthread_barrier_destroy", INT, (WORD,))
_aligned_alloc = External("aligned_alloc", WORD, (WORD, WORD))
_madvise = External("madvise", INT, (WORD, WORD, INT))
_free = External("free", NOTHING, (WORD,))


def _real(code, at):
    return as_real(code)[at]


# ---------------------------------------------------------------------------------------------------------- geometry


def _lane_qubits(code, batch):
    """How many qubits lie in the lanes."""
    n, q = code[E.N_QUBITS], 0
    if code[E.N_BLOCKS]:
        return q
    while q < E.MAX_LANE_QUBITS and q < n and (LANES >> (q + 1)) >= batch:
        q += 1
    return q


def _low_bits(n):
    return n if n <= TABLE_BITS else PHASE_BITS


def _n_chunks(n, q):
    return CHUNKS if n - q >= 14 else 1


#: Places in the scratch of a thread and in that which threads share, in bytes.
PSI, LAM, ROTATIONS, PRODUCT, STRINGS, VECTORS, PHASES, TABLE, SUMS, GROUP, WEIGHTS, BLOCKS, PARTS, SLOTS, END = range(15)
ANGLES, RUNS, RUN_ROTATIONS, RESULTS, BARRIER_PLACE, TABLES, SHARED_END = range(7)


def _aligned(size):
    return (size + 63) // 64 * 64


def _places(code, q, size, out):
    """Byte offsets of a thread's scratch, in order, and its length: states psi, lam; cosines and sines of run and sample
    rotations, of the product start, of sample strings; the wires' vectors and their gradients; phases (float64, and as
    numbers); sums over rows; observables; matrices of blocks; gradient slots."""
    n = code[E.N_QUBITS]
    row = 2 * LANES * size
    rows = 1 << (n - q)
    low = 1 << max(_low_bits(n), 4)
    k = code[E.MAX_BLOCK]
    matrix = (row << (2 * k)) * 3 + (row << k) * 4 if k else 0
    psi = 0
    lam = psi + _aligned(rows * row)
    rotations = lam + _aligned(rows * row)
    product = rotations + (code[E.N_RUNS] + code[E.N_SAMPLE_ROTATIONS]) * row
    strings = product + code[E.N_PRODUCT] * row
    vectors = strings + code[E.N_SAMPLE_STRINGS] * row
    phases = vectors + _aligned(n * 2 * row + 4 * row)
    table = phases + _aligned(low * 8)
    sums = table + _aligned(2 * low * size)
    group = sums + _aligned(low * 8)
    weights = group + 16 * row
    blocks = weights + _aligned((code[E.N_DIAGONAL] + code[E.N_OUTPUTS] + 1) * row)
    parts = blocks + _aligned(matrix)
    slots = parts + _aligned(code[E.N_SAMPLE_STRINGS] * row + 4 * row)
    end = slots + _n_chunks(n, q) * code[E.N_SLOTS] * LANES * 8
    out[PSI], out[LAM], out[ROTATIONS], out[PRODUCT], out[STRINGS], out[VECTORS] = (
        psi,
        lam,
        rotations,
        product,
        strings,
        vectors,
    )
    out[PHASES], out[TABLE], out[SUMS], out[GROUP], out[WEIGHTS] = phases, table, sums, group, weights
    out[BLOCKS], out[PARTS], out[SLOTS], out[END] = blocks, parts, slots, end


def _shared_places(code, q, size, n_blocks, out):
    """Byte offsets of the scratch that threads share: angles of strings, cos, sin, alpha and gamma of runs, half-angle
    cosines and sines of their rotations, sums of gradients per block, and tables of phases."""
    n = code[E.N_QUBITS]
    strings = 0
    runs = strings + code[E.N_STRINGS] * 8
    rotations = runs + code[E.N_RUNS] * 4 * 8
    n_rotations = 0
    if code[E.N_RUNS]:
        last = code[E.AT_RUNS] + (code[E.N_RUNS] - 1) * E.RUN
        n_rotations = code[last] + code[last + 1]
    results = _aligned(rotations + n_rotations * 2 * 8)
    barrier = _aligned(results + (n_blocks * code[E.N_SLOTS] + code[E.N_SHARED]) * 8)
    tables = barrier + 64
    end = tables
    if n <= TABLE_BITS:
        end += code[E.N_LAYERS] * 2 * size * (1 << max(n, 4))
    out[ANGLES], out[RUNS], out[RUN_ROTATIONS], out[RESULTS] = strings, runs, rotations, results
    out[BARRIER_PLACE], out[TABLES], out[SHARED_END] = barrier, tables, _aligned(end)


# ------------------------------------------------------------------------------------------------------------- phases


def _cos_sin(x):
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


def _shared_angle(code, at, ctx, one):
    """Value of an angle that no sample changes; `at` is the place of [kind, index, scale, offset]."""
    value = _real(code, at + 3)
    if code[at] == 1:
        value += _real(code, at + 2) * float(pointer(ctx[SHARED], one)[code[at + 1]])
    return value


def _prepare(ctx, one, places):
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
            x, y, z = s * _real(code, place), s * _real(code, place + 1), s * _real(code, place + 2)
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


def _phase_table(ctx, one, places, layer, high, phases, table):
    """cos and sin of the layer's shared phases for the 2**low indices whose upper bits are `high`: two planes in `table`."""
    code = pointer(ctx[CODE], 1)
    low = _low_bits(code[E.N_QUBITS])
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
        c, s = _cos_sin(load(p, i))
        store(out, i, narrow(c, one))
        store(out, size + i, narrow(s, one))


def _diagonal_only(ctx):
    """Whether only probabilities matter after the last gate."""
    return ctx[STATE] == 0 and pointer(ctx[CODE], 1)[E.N_OFF_DIAGONAL] == 0


def _has_phases(code, layer, diagonal_only):
    at = code[E.AT_LAYERS] + layer * E.LAYER
    # Phases after the last gate of another kind change no expectation of a diagonal observable.
    last = layer == code[E.N_LAYERS] - 1 and code[at + 7] + code[at + 8] == 0
    return code[at + 1] + code[at + 5] > 0 and not (diagonal_only and last)


def _phase_tables(ctx, one, places, where):
    """The phases of all layers, where these are so few that they are kept."""
    code = pointer(ctx[CODE], 1)
    if code[E.N_QUBITS] <= TABLE_BITS:
        for layer in range(code[E.N_LAYERS]):
            if _has_phases(code, layer, _diagonal_only(ctx)):
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


# ------------------------------------------------------------------------------------------------- coefficients of a block


def _scaled_angle(ctx, one, at, factor, block, q, lanes, out, place):
    """Cosine and sine of factor * angle, one per lane, as vectors `place` and `place` + 1 of `out`."""
    code = pointer(ctx[CODE], 1)
    if code[at] == 2:
        sample = pointer(ctx[SAMPLE], one)
        n_sample, batch, samples = code[E.N_SAMPLE], ctx[BATCH], LANES >> q
        for lane in range(LANES):
            row = block * samples + (lane & (samples - 1))
            lanes[lane] = float(sample[row * n_sample + code[at + 1]]) if row < batch else 0.0
        angle = splat(_real(code, at + 3)) + splat(_real(code, at + 2)) * load(lanes, 0)
    else:
        angle = splat(_shared_angle(code, at, ctx, one))
    angle = splat(factor) * angle
    c, s = _cos_sin(angle)
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


def _coefficients(ctx, one, places, where, scratch, block, q):
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
        _scaled_angle(ctx, one, code[E.AT_SAMPLE_ROTATIONS] + 4 * j, 0.5, block, q, lanes, out, 2 * (n_runs + j))
    out = pointer(scratch + where[PRODUCT], one)
    first = code[E.AT_PRODUCT] + 2 * code[E.N_QUBITS]
    for j in range(code[E.N_PRODUCT]):
        _scaled_angle(ctx, one, first + j * E.ROTATION + 3, 0.5, block, q, lanes, out, 2 * j)
    out = pointer(scratch + where[STRINGS], one)
    for j in range(code[E.N_SAMPLE_STRINGS]):
        _scaled_angle(ctx, one, code[E.AT_SAMPLE_STRINGS] + j * E.STRING + 1, 0.5, block, q, lanes, out, 2 * j)


# --------------------------------------------------------------------------------------------------------- product start


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
    x, y, z = splat(_real(code, at)), splat(_real(code, at + 1)), splat(_real(code, at + 2))
    return narrow(x, one), narrow(y, one), narrow(z, one)


def _wire_vectors(ctx, one, where, scratch):
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


def _share(n, chunks, first, last):
    """The part of range(n) that belongs to chunks first ... last - 1 of `chunks`."""
    return n * first // chunks, n * last // chunks


def _wait(ctx):
    if ctx[TOGETHER]:
        _barrier_wait(ctx[BARRIER])


def _product_state(ctx, one, where, scratch, psi, q, chunks, first, last):
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
            _wait(ctx)
            begin, end = _share(half, chunks, first, last)
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
    _wait(ctx)


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


def _add(slots, slot, value):
    """Add a vector to a gradient slot, in float64."""
    store(slots, slot * LANES, load(slots, slot * LANES) + widen(value))


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
        _add(slots, base + j, first + second)
        c, s = load(angles, 2 * j * LANES), -load(angles, (2 * j + 1) * LANES)
        _rotate_vector(e, 4, c, s, x, y, z)
        _rotate_vector(e, 0, c, s, x, y, z)


def _product_gradient(ctx, one, where, scratch, psi, lam, slots, q, chunks, first, last):
    """Gradients of the product start from `lam`, wire by wire; overwrites both states.

    psi gets the products of the wires below each: 2**p rows from row 2**p on.
    """
    code = pointer(ctx[CODE], 1)
    v = pointer(scratch + where[VECTORS], one)
    n = code[E.N_QUBITS]
    slot_bytes = code[E.N_SLOTS] * LANES * 8
    _wait(ctx)
    if first == 0 and n > q:
        re, im = _lane_factor(ctx, one, where, scratch, q, -1)
        store(psi, 2 * LANES, re)
        store(psi, 3 * LANES, im)
    for bit in range(q, n - 1):
        half = 1 << (bit - q)
        if half < SEGMENT:
            begin, end = (0, half) if first == 0 else (0, 0)
        else:
            _wait(ctx)
            begin, end = _share(half, chunks, first, last)
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
        _wait(ctx)
        ar, ai = load(v, 4 * bit * LANES), load(v, (4 * bit + 1) * LANES)
        br, bi = load(v, (4 * bit + 2) * LANES), load(v, (4 * bit + 3) * LANES)
        for chunk in range(first, last):
            if half < SEGMENT:
                begin, end = (0, half) if chunk == 0 else (0, 0)
            else:
                begin, end = _share(half, chunks, chunk, chunk + 1)
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


# -------------------------------------------------------------------------------------------------- rotations of a layer


def _row_of(step, basis):
    """Row number `step` of the span of a basis in Gray-code order, in which neighbours differ by one vector."""
    row, code, j = 0, step ^ (step >> 1), 0
    while code:
        if code & 1:
            row ^= basis[j]
        code >>= 1
        j += 1
    return row


def _rotate1(s, begin, end, basis, x0, c0, s0):
    row = _row_of(begin, basis)
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
    row = _row_of(begin, basis)
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


def _swap_lanes(value, mask):
    """The vector with lane l from lane l ^ mask."""
    if mask & 1:
        value = swap1(value)
    if mask & 2:
        value = swap2(value)
    if mask & 4:
        value = swap4(value)
    if mask & 8:
        value = swap8(value)
    return value


def _lane_signs(z, q, lanes, one):
    """(-1)**parity(lane's qubits & z), as a vector."""
    for lane in range(LANES):
        lanes[lane] = 1.0 - 2.0 * parity(int(lane // (LANES >> q)) & z)
    return narrow(load(lanes, 0), one)


def _rotate_mixed(s, begin, end, basis, x, lane_x, z, signs, c, sine, back):
    """Rotation whose masks reach into the lanes: new[i] = c old[i] -+ s old[i ^ x], minus where the bit of i is 0.

    `back` is -1 for the inverse, else 1; `lane_x` is the mask as a mask of lane numbers.
    """
    row = _row_of(begin, basis)
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
                store(s, i, c * a + sign * _swap_lanes(b, lane_x))
                other = sign if parity(x & z) == 0 else -sign
                store(s, j, c * b + other * _swap_lanes(a, lane_x))
            else:
                a = load(s, i)
                store(s, i, c * a + sign * _swap_lanes(a, lane_x))
            i += LANES
            j += LANES
        if step + 1 < end:
            row ^= basis[lowest_bit(step + 1)]


def _group_lanes(q, x):
    """A mask of lane qubits as a mask of lane numbers."""
    return x << (4 - q)


def _rotations(ctx, one, where, scratch, psi, layer, q, chunks, first, last):
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
        begin, end = _share(1 << code[record + 8], chunks, first, last)
        c0, s0 = load(coefficients, 2 * c * LANES), load(coefficients, (2 * c + 1) * LANES)
        if wires == 2:
            c1, s1 = load(coefficients, 2 * d * LANES), load(coefficients, (2 * d + 1) * LANES)
            _rotate2(psi, begin, end, basis, x0, x1, c0, s0, c1, s1)
        else:
            _rotate1(psi, begin, end, basis, x0, c0, s0)
        _wait(ctx)


def _unrotate1(p, g, begin, end, basis, x0, c0, s0, slots, slot):
    """Take one wire's rotation back on both states; add Im <g|X p> and Im <g|Y p>."""
    row = _row_of(begin, basis)
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
        _add(slots, slot, x)
        _add(slots, slot + 1, y)
    else:
        _add(slots, -1 - slot, y)


def _turn_back(state, i, j, k, m, a, b, c, d, c0, s0, c1, s1):
    """Write four rows with two wires' rotations taken back: wire 0 pairs (a, b) and (c, d), wire 1 (a, c) and (b, d)."""
    a, b, c, d = c0 * a + s0 * b, c0 * b - s0 * a, c0 * c + s0 * d, c0 * d - s0 * c
    store(state, i, c1 * a + s1 * c)
    store(state, j, c1 * b + s1 * d)
    store(state, k, c1 * c - s1 * a)
    store(state, m, c1 * d - s1 * b)


def _unrotate2(p, g, begin, end, basis, x0, x1, c0, s0, c1, s1, slots, slot0, slot1):
    """`_unrotate1` for two wires in one pass."""
    row = _row_of(begin, basis)
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
    row = _row_of(begin, basis)
    while begin < end:
        stop = min(begin + SEGMENT, end)
        gx = signs - signs
        gy = gx
        for step in range(begin, stop):
            here = row
            for _ in range(2 if x else 1):
                i, j = here * 2 * LANES, (here ^ x) * 2 * LANES
                pr, pi = _swap_lanes(load(p, j), lane_x), _swap_lanes(load(p, j + LANES), lane_x)
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


def _unrotations(ctx, one, where, scratch, psi, lam, slots, layer, q, chunks, first, last):
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
            begin, end = _share(size, chunks, chunk, chunk + 1)
            here = pointer(slots + chunk * slot_bytes, 1.0)
            if wires == 2:
                _unrotate2(psi, lam, begin, end, basis, x0, x1, c0, s0, c1, s1, here, slot0, slot1)
            else:
                _unrotate1(psi, lam, begin, end, basis, x0, c0, s0, here, slot0)
        _wait(ctx)


def _mixed_rotations(ctx, one, where, scratch, psi, lam, slots, layer, q, back, chunks, first, last):
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
        signs = _lane_signs(code[record + 7], q, lanes, one)
        lane_x = _group_lanes(q, code[record + 5])
        size = 1 << code[record + 8]
        begin, end = _share(size, chunks, first, last)
        if back:
            for chunk in range(first, last):
                here = pointer(slots + chunk * code[E.N_SLOTS] * LANES * 8, 1.0)
                low, high = _share(size, chunks, chunk, chunk + 1)
                _gradient_mixed(psi, lam, low, high, basis, x, lane_x, z, signs, here, _rotation_slot(code, c))
            _rotate_mixed(lam, begin, end, basis, x, lane_x, z, signs, c0, s0, -1)
        _rotate_mixed(psi, begin, end, basis, x, lane_x, z, signs, c0, s0, 1 - 2 * back)
        _wait(ctx)


# ------------------------------------------------------------------------------------------------------ phases of a layer


def _phases(ctx, one, places, where, scratch, psi, layer, q, chunks, first, last):
    """Apply the shared phases of a layer."""
    code = pointer(ctx[CODE], 1)
    n = code[E.N_QUBITS]
    low = _low_bits(n)
    size = 1 << max(low, 4)
    rows = 1 << (low - q) if low > q else 1
    begin, end = _share(1 << (n - low), chunks, first, last)
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
    _wait(ctx)


def _unphases(ctx, one, places, where, scratch, psi, lam, slots, layer, q, chunks, first, last):
    """Take the shared phases of a layer back on both states; gradients of its strings, and Z of the runs before it.

    With t[i] = Im <lam_i|psi_i> summed over samples, Im <lam|Z-string psi> is the Walsh-Hadamard transform of t at its mask.
    """
    code = pointer(ctx[CODE], 1)
    n = code[E.N_QUBITS]
    low = _low_bits(n)
    size = 1 << max(low, 4)
    mask = (1 << low) - 1
    rows = 1 << (low - q) if low > q else 1
    lanes = pointer(scratch + where[GROUP], one)
    sums = pointer(scratch + where[SUMS], 1.0)
    at = code[E.AT_LAYERS] + layer * E.LAYER
    base = 3 * code[E.N_RUNS]
    for chunk in range(first, last):
        begin, end = _share(1 << (n - low), chunks, chunk, chunk + 1)
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
    _wait(ctx)


def _sample_phases(ctx, one, where, scratch, psi, lam, slots, layer, q, back, chunks, first, last):
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
        store(signs, j * LANES, _lane_signs(z & low, q, lanes, one))
    base = 3 * code[E.N_RUNS] + code[E.N_STRINGS] + code[E.N_PRODUCT] + begin_string
    zero = narrow(splat(0.0), one)
    for chunk in range(first, last):
        begin, end = _share(1 << (n - q), chunks, chunk, chunk + 1)
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
                    _add(here, base + j, load(parts, j * LANES))
            begin = stop
    _wait(ctx)


# ------------------------------------------------------------------------------------------------------------------ blocks
# Blocks are gates on several qubits that nothing above covers. They work on whole rows only (q = 0).


def _first_block_slot(code):
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
        _scaled_angle(ctx, one, at + 6, values[j], sample_block, q, lanes, work, 2 * j)
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


def _blocks(ctx, one, where, scratch, psi, lam, slots, layer, sample_block, q, back, chunks, first, last):
    """Apply the blocks of a layer, or take them back on both states with the gradients of their angles."""
    code = pointer(ctx[CODE], 1)
    layer_at = code[E.AT_LAYERS] + layer * E.LAYER
    base = _first_block_slot(code)
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
            begin, end = _share(steps, chunks, chunk, chunk + 1)
            here = pointer(slots + chunk * code[E.N_SLOTS] * LANES * 8, 1.0)
            while begin < end:
                stop = min(begin + SEGMENT, end)
                gradient = narrow(splat(0.0), one)
                for step in range(begin, stop):
                    row = _row_of(step, basis)
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
                    _add(here, base + number, gradient)
                begin = stop
        _wait(ctx)


# ------------------------------------------------------------------------------------------------- observables and states


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


def _measure_diagonal(ctx, one, where, scratch, psi, slots, q, chunks, first, last):
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
        begin, end = _share(1 << (rows_bits - bits), chunks, chunk, chunk + 1)
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
                _add(here, term, load(sums, term * LANES))
            begin = stop


def _measure_off_diagonal(ctx, one, psi, slots, q, chunks, first, last):
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
            lane_x = _group_lanes(q, code[at + 3] & ((1 << q) - 1))
            begin, end = _share(1 << rows_bits, chunks, chunk, chunk + 1)
            while begin < end:
                stop = min(begin + SEGMENT, end)
                total_ = zero
                for row in range(begin, stop):
                    i, j = row * 2 * LANES, (row ^ x) * 2 * LANES
                    pr, pi = load(psi, i), load(psi, i + LANES)
                    ar, ai = _swap_lanes(load(psi, j), lane_x), _swap_lanes(load(psi, j + LANES), lane_x)
                    value = _turned(power, ar * pr + ai * pi, ar * pi - ai * pr)
                    total_ = total_ - value if parity(row & z) else total_ + value
                _add(here, code[E.N_DIAGONAL] + term, total_)
                begin = stop


def _term(code, term):
    """Place of a term: the diagonal ones come first."""
    if term < code[E.N_DIAGONAL]:
        return code[E.AT_DIAGONAL] + term * E.TERM
    return code[E.AT_OFF_DIAGONAL] + (term - code[E.N_DIAGONAL]) * E.TERM


def _write_outputs(ctx, one, slots, block, q, chunks):
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
            out[row + code[at]] += _real(code, at + 1) * value


def _adjoint_diagonal(ctx, one, where, scratch, psi, lam, block, q, chunks, first, last):
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
            lanes[lane] = 2.0 * sign * _real(code, at + 1) * given
        store(weights, term * LANES, narrow(load(lanes, 0), one))
    begin, end = _share(1 << (rows_bits - bits), chunks, first, last)
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
    _wait(ctx)


def _adjoint_off_diagonal(ctx, one, where, scratch, psi, lam, block, q, chunks, first, last):
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
        lane_x = _group_lanes(q, code[at + 3] & low)
        for lane in range(LANES):
            row = block * samples + (lane & (samples - 1))
            high = int(lane // samples) ^ (code[at + 3] & low)  # the sign is that of the amplitude the term acts on
            sign = 1 - 2 * parity(high & code[at + 4])
            given = cotangent[row * code[E.N_OUTPUTS] + code[at]] if row < batch else 0.0
            lanes[lane] = 2.0 * sign * _real(code, at + 1) * given
        w = narrow(load(lanes, 0), one)
        begin, end = _share(1 << rows_bits, chunks, first, last)
        for row in range(begin, end):
            i, j = row * 2 * LANES, (row ^ x) * 2 * LANES
            pr, pi = _swap_lanes(load(psi, j), lane_x), _swap_lanes(load(psi, j + LANES), lane_x)
            signed = -w if parity((row ^ x) & z) else w
            store(lam, i, load(lam, i) + signed * _turned(power, pr, pi))
            store(lam, i + LANES, load(lam, i + LANES) + signed * _turned((power + 3) % 4, pr, pi))
    _wait(ctx)


def _wire_order(code, index):
    """Index in wire order of a physical index."""
    n = code[E.N_QUBITS]
    found = 0
    for wire in range(n):
        at = code[E.AT_FRAME] + 2 * wire
        found = 2 * found + (parity(index & code[at]) ^ code[at + 1])
    return found


def _exchange(ctx, one, state, address, rows, in_wire_order, write, block, q, chunks, first, last):
    """Copy between a block's rows and complex vectors (`rows`, 2**n) at `address`; `write` 1 writes them, 0 reads them.

    Vectors are in wire order after the last gate, or before the first one (`in_wire_order` 0), where that is the physical.
    """
    code = pointer(ctx[CODE], 1)
    n, samples, batch = code[E.N_QUBITS], LANES >> q, ctx[BATCH]
    outside = pointer(address, one)
    begin, end = _share(1 << (n - q), chunks, first, last)
    for row in range(begin, end):
        for high in range(1 << q):
            index = (row << q) | high
            if in_wire_order:
                index = _wire_order(code, index)
            for sample in range(samples):
                number = block * samples + sample
                here = row * 2 * LANES + high * samples + sample
                if write and number < batch:
                    there = 2 * ((number << n) + index)
                    outside[there], outside[there + 1] = state[here], state[here + LANES]
                elif not write:
                    there = 2 * ((min(number, rows - 1) << n) + index)
                    known = number < batch
                    state[here] = outside[there] if known else 0.0
                    state[here + LANES] = outside[there + 1] if known else 0.0
    _wait(ctx)


# -------------------------------------------------------------------------------------------------------------- gradients


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
        out[(block * samples + sample) * code[E.N_SAMPLE] + code[at + 1]] += factor * _real(code, at + 2) * value


def _collect(ctx, one, places, slots, block, q, chunks):
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
        gradient[code[at + 1]] += factor * _real(code, at + 2) * value


def _finish(ctx, one, places, n_blocks):
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
            x, y, z = _real(code, place), _real(code, place + 1), _real(code, place + 2)
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
    slot = _first_block_slot(code)
    for j in range(code[E.N_BLOCKS]):
        _give(code, code[E.AT_BLOCKS] + j * E.BLOCK + 6, 1.0, g[slot + j], gradient)
    for j in range(n_shared):
        out[j] = gradient[j]


# -------------------------------------------------------------------------------------------------------------- the whole

#: Words of a thread's frame.
(
    CTX,
    THREAD,  # its number
    HANDLE,  # of pthread_create
    SCRATCH,  # of this thread
    LANE_QUBITS,
    N_CHUNKS,
    GATE,  # of threads that share a block: a mutex that is free once all of them run; else 0
    WHERE,  # END + 1 words
) = range(8)
PLACES = WHERE + END + 1
FRAME = PLACES + SHARED_END + 1


def _evolve(ctx, one, places, where, scratch, psi, block, q, chunks, first, last):
    """The state of a block of samples after the last gate."""
    code = pointer(ctx[CODE], 1)
    if code[E.HAS_PRODUCT]:
        _product_state(ctx, one, where, scratch, psi, q, chunks, first, last)
    else:
        _exchange(ctx, one, psi, ctx[INITIAL], ctx[INITIAL_ROWS], 0, 0, block, q, chunks, first, last)
    for layer in range(code[E.N_LAYERS]):
        at = code[E.AT_LAYERS] + layer * E.LAYER
        if _has_phases(code, layer, _diagonal_only(ctx)):
            _phases(ctx, one, places, where, scratch, psi, layer, q, chunks, first, last)
        if code[at + 3]:
            _sample_phases(ctx, one, where, scratch, psi, psi, 0, layer, q, 0, chunks, first, last)
        _rotations(ctx, one, where, scratch, psi, layer, q, chunks, first, last)
        if q:
            _mixed_rotations(ctx, one, where, scratch, psi, psi, 0, layer, q, 0, chunks, first, last)
        if code[at + 7]:
            _blocks(ctx, one, where, scratch, psi, psi, 0, layer, block, q, 0, chunks, first, last)


def _kept(ctx, one, block, q):
    """Where the state of a block after the last gate is kept."""
    rows = 1 << (pointer(ctx[CODE], 1)[E.N_QUBITS] - q)
    return pointer(ctx[KEPT] + block * rows * 2 * LANES * itemsize(one), one)


def _forward(ctx, one, places, where, scratch, owner, block, q, chunks, first, last):
    """Expectation values or states of one block of samples."""
    code = pointer(ctx[CODE], 1)
    psi = _kept(ctx, one, block, q) if ctx[KEPT] else pointer(owner + where[PSI], one)
    slots = owner + where[SLOTS]
    _evolve(ctx, one, places, where, scratch, psi, block, q, chunks, first, last)
    if ctx[STATE]:
        _exchange(ctx, one, psi, ctx[STATE], ctx[BATCH], 1, 1, block, q, chunks, first, last)
        return
    if code[E.N_OFF_DIAGONAL]:
        _measure_off_diagonal(ctx, one, psi, slots, q, chunks, first, last)
    _measure_diagonal(ctx, one, where, scratch, psi, slots, q, chunks, first, last)
    _wait(ctx)
    if first == 0:
        _write_outputs(ctx, one, slots, block, q, chunks)
    _wait(ctx)


def _backward(ctx, one, places, where, scratch, owner, block, q, chunks, first, last):
    """Gradients of one block of samples."""
    code = pointer(ctx[CODE], 1)
    psi, lam, slots = pointer(owner + where[PSI], one), pointer(owner + where[LAM], one), owner + where[SLOTS]
    if ctx[KEPT]:
        kept = _kept(ctx, one, block, q)
        begin, end = _share(1 << (code[E.N_QUBITS] - q), chunks, first, last)
        for i in range(begin * 2 * LANES, end * 2 * LANES, LANES):
            store(psi, i, load(kept, i))
        _wait(ctx)
    else:
        _evolve(ctx, one, places, where, scratch, psi, block, q, chunks, first, last)
    for chunk in range(first, last):
        here = pointer(slots + chunk * code[E.N_SLOTS] * LANES * 8, 1.0)
        for slot in range(code[E.N_SLOTS]):
            store(here, slot * LANES, splat(0.0))
    if ctx[STATE]:
        _exchange(ctx, one, lam, ctx[COTANGENT], ctx[BATCH], 1, 0, block, q, chunks, first, last)
    else:
        _adjoint_diagonal(ctx, one, where, scratch, psi, lam, block, q, chunks, first, last)
        if code[E.N_OFF_DIAGONAL]:
            _adjoint_off_diagonal(ctx, one, where, scratch, psi, lam, block, q, chunks, first, last)
    for layer in range(code[E.N_LAYERS] - 1, -1, -1):
        at = code[E.AT_LAYERS] + layer * E.LAYER
        if code[at + 7]:
            _blocks(ctx, one, where, scratch, psi, lam, slots, layer, block, q, 1, chunks, first, last)
        if q:
            _mixed_rotations(ctx, one, where, scratch, psi, lam, slots, layer, q, 1, chunks, first, last)
        _unrotations(ctx, one, where, scratch, psi, lam, slots, layer, q, chunks, first, last)
        if code[at + 3]:
            _sample_phases(ctx, one, where, scratch, psi, lam, slots, layer, q, 1, chunks, first, last)
        if _has_phases(code, layer, _diagonal_only(ctx)):
            _unphases(ctx, one, places, where, scratch, psi, lam, slots, layer, q, chunks, first, last)
    if code[E.HAS_PRODUCT]:
        _product_gradient(ctx, one, where, scratch, psi, lam, slots, q, chunks, first, last)
    else:
        _exchange(ctx, one, lam, ctx[D_INITIAL], ctx[BATCH], 0, 1, block, q, chunks, first, last)
    _wait(ctx)
    if first == 0:
        _collect(ctx, one, places, slots, block, q, chunks)
    _wait(ctx)


def _work(frame, one):
    """What one thread does: whole blocks of samples, or its chunks of every block."""
    f = pointer(frame, 1)
    if f[GATE]:
        _mutex_lock(f[GATE])
        _mutex_unlock(f[GATE])
    ctx, thread, q, chunks = pointer(f[CTX], 1), f[THREAD], f[LANE_QUBITS], f[N_CHUNKS]
    if thread >= ctx[THREADS]:
        return 0
    where, places, scratch = pointer(frame + 8 * WHERE, 1), pointer(frame + 8 * PLACES, 1), f[SCRATCH]
    samples = LANES >> q
    n_blocks = (ctx[BATCH] + samples - 1) // samples
    if ctx[TOGETHER]:  # on states of the first thread
        first, last = chunks * thread // ctx[THREADS], chunks * (thread + 1) // ctx[THREADS]
        owner, block = ctx[WORK_THREAD], 0
    else:
        # Whoever is free takes the next block: a thread that starts late, or has to share its core, keeps none waiting.
        first, last = 0, chunks
        owner, block = scratch, count_up(pointer(f[CTX] + 8 * NEXT_BLOCK, 1))
    while block < n_blocks:
        _coefficients(ctx, one, places, where, scratch, block, q)
        _wire_vectors(ctx, one, where, scratch)
        if ctx[TASK] == 0:
            _forward(ctx, one, places, where, scratch, owner, block, q, chunks, first, last)
        else:
            _backward(ctx, one, places, where, scratch, owner, block, q, chunks, first, last)
        block = block + 1 if ctx[TOGETHER] else count_up(pointer(f[CTX] + 8 * NEXT_BLOCK, 1))
    return 0


def _take(pool, size):
    """Scratch of `size` bytes, from the last call if it left enough; 0 where there is no memory.

    New pages cost more than the work of a small circuit, and huge pages save half the time of a large one. 64 bytes in front
    hold the size.
    """
    address = exchange(pointer(pool, 1), 0)
    if address:
        if pointer(address, 1)[0] >= size:
            return address + 64
        _free(address)
    page = 2 << 20 if size >= 4 << 20 else 64
    length = (size + 64 + page - 1) // page * page
    address = _aligned_alloc(page, length)
    if address == 0:
        return 0
    if page > 64:
        _madvise(address, length, 14)  # MADV_HUGEPAGE; where it is not known it does nothing
    pointer(address, 1)[0] = length - 64
    return address + 64


def _give_back(pool, address):
    """Leave scratch to the next call; very large ones go back to the system."""
    if pointer(address - 64, 1)[0] > POOLED:
        _free(address - 64)
    else:
        _free(exchange(pointer(pool, 1), address - 64))


def run(ctx_address, one):
    """Do the call that the table at `ctx_address` describes; 0, or 1 where there is no memory."""
    ctx = pointer(ctx_address, 1)
    code = pointer(ctx[CODE], 1)
    n, batch, size = code[E.N_QUBITS], ctx[BATCH], itemsize(one)
    q = _lane_qubits(code, batch)
    samples = LANES >> q
    n_blocks = (batch + samples - 1) // samples
    chunks = _n_chunks(n, q)
    rotations = code[E.N_RUNS] + code[E.N_SAMPLE_ROTATIONS] + code[E.N_BLOCKS]
    threads = ctx[THREADS] if (1 << (n - q)) * n_blocks * (2 + rotations) >= WORTH_THREADS else 1
    ctx[TOGETHER] = 1 if n_blocks < threads and chunks > 1 else 0
    threads = max(1, min(threads, chunks if ctx[TOGETHER] else n_blocks))
    ctx[THREADS], ctx[NEXT_BLOCK] = threads, 0
    shared_block = ctx[TOGETHER]
    # A first frame tells how much scratch there must be.
    gate_place = _aligned(8 * threads * FRAME)
    frames = _aligned_alloc(64, gate_place + 64)
    if frames == 0:
        return 1
    where, places = pointer(frames + 8 * WHERE, 1), pointer(frames + 8 * PLACES, 1)
    _places(code, q, size, where)
    _shared_places(code, q, size, n_blocks, places)
    # Threads that share a block need no states of their own: their scratch begins where the coefficients do.
    each = where[END] - where[ROTATIONS] if ctx[TOGETHER] else where[END]
    address = _take(ctx[POOL], places[SHARED_END] + _aligned(where[END] + (threads - 1) * each))
    if address == 0:
        _free(frames)
        return 1
    ctx[WORK], ctx[WORK_THREAD] = address, address + places[SHARED_END]
    ctx[BARRIER] = address + places[BARRIER_PLACE]
    for thread in range(threads):
        f = pointer(frames + 8 * thread * FRAME, 1)
        f[CTX], f[THREAD], f[SCRATCH] = ctx_address, thread, ctx[WORK_THREAD] + thread * each
        f[LANE_QUBITS], f[N_CHUNKS] = q, chunks
        f[GATE] = frames + gate_place if ctx[TOGETHER] and thread else 0
        for i in range(FRAME - WHERE):
            f[WHERE + i] = where[i]
    _prepare(ctx, one, places)
    _phase_tables(ctx, one, places, where)
    if ctx[TOGETHER]:
        _barrier_init(ctx[BARRIER], 0, threads)
        _mutex_init(frames + gate_place, 0)
        _mutex_lock(frames + gate_place)
    # A thread starts with one argument; `one` has a type but no value that matters.
    started = 1
    while started < threads:
        frame = frames + 8 * started * FRAME
        if _pthread_create(frame + 8 * HANDLE, 0, address_of(_work, frame, one), frame):
            break
        started += 1
    if ctx[TOGETHER]:
        if started < threads:  # threads that share a block wait for one another: without one of them all have to go
            ctx[THREADS], ctx[TOGETHER] = 1, 0
        _mutex_unlock(frames + gate_place)
    _work(frames, one)
    for thread in range(1, started):
        _pthread_join(pointer(frames + 8 * thread * FRAME, 1)[HANDLE], 0)
    if shared_block:
        _barrier_destroy(ctx[BARRIER])
        _mutex_destroy(frames + gate_place)
    if ctx[TASK] == 1:
        _finish(ctx, one, places, n_blocks)
    _give_back(ctx[POOL], address)
    _free(frames)
    return 0
