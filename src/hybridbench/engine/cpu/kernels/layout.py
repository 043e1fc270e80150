"""Where a call finds its numbers: the table of words, the scratch memory, and the rows and lanes of a state."""

from __future__ import annotations

from hybridbench.engine import encoding as E
from hybridbench.engine.cpu.native import INT, WORD, External
from hybridbench.engine.cpu.simd import LANES, as_real, load, narrow, parity, store, swap1, swap2, swap4, swap8, widen

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
SEGMENT = 4096  # rows that are summed in single precision before the sum is added in double
_barrier_wait = External("pthread_barrier_wait", INT, (WORD,))


def real_at(code, at):
    """The float64 at a place of the code."""
    return as_real(code)[at]


def lane_qubits(code, batch):
    """How many qubits lie in the lanes."""
    n, q = code[E.N_QUBITS], 0
    if code[E.N_BLOCKS]:
        return q
    while q < E.MAX_LANE_QUBITS and q < n and (LANES >> (q + 1)) >= batch:
        q += 1
    return q


def low_bits(n):
    """Bits of the index that one table of phases covers."""
    return n if n <= TABLE_BITS else PHASE_BITS


def n_chunks(n, q):
    """Parts that sums over rows are cut into."""
    return CHUNKS if n - q >= 14 else 1


#: Places in the scratch of a thread and in that which threads share, in bytes.
PSI, LAM, ROTATIONS, PRODUCT, STRINGS, VECTORS, PHASES, TABLE, SUMS, GROUP, WEIGHTS, BLOCKS, PARTS, SLOTS, END = range(15)
ANGLES, RUNS, RUN_ROTATIONS, RESULTS, BARRIER_PLACE, TABLES, SHARED_END = range(7)


def aligned(size):
    """The next multiple of 64."""
    return (size + 63) // 64 * 64


def thread_places(code, q, size, out):
    """Byte offsets of a thread's scratch, in order, and its length: states psi, lam; cosines and sines of run and sample
    rotations, of the product start, of sample strings; the wires' vectors and their gradients; phases (float64, and as
    numbers); sums over rows; observables; matrices of blocks; gradient slots."""
    n = code[E.N_QUBITS]
    row = 2 * LANES * size
    rows = 1 << (n - q)
    low = 1 << max(low_bits(n), 4)
    k = code[E.MAX_BLOCK]
    matrix = (row << (2 * k)) * 3 + (row << k) * 4 if k else 0
    psi = 0
    lam = psi + aligned(rows * row)
    rotations = lam + aligned(rows * row)
    product = rotations + (code[E.N_RUNS] + code[E.N_SAMPLE_ROTATIONS]) * row
    strings = product + code[E.N_PRODUCT] * row
    vectors = strings + code[E.N_SAMPLE_STRINGS] * row
    phases = vectors + aligned(n * 2 * row + 4 * row)
    table = phases + aligned(low * 8)
    sums = table + aligned(2 * low * size)
    group = sums + aligned(low * 8)
    weights = group + 16 * row
    blocks = weights + aligned((code[E.N_DIAGONAL] + code[E.N_OUTPUTS] + 1) * row)
    parts = blocks + aligned(matrix)
    slots = parts + aligned(code[E.N_SAMPLE_STRINGS] * row + 4 * row)
    end = slots + n_chunks(n, q) * code[E.N_SLOTS] * LANES * 8
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


def shared_places(code, q, size, n_blocks, out):
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
    results = aligned(rotations + n_rotations * 2 * 8)
    barrier = aligned(results + (n_blocks * code[E.N_SLOTS] + code[E.N_SHARED]) * 8)
    tables = barrier + 64
    end = tables
    if n <= TABLE_BITS:
        end += code[E.N_LAYERS] * 2 * size * (1 << max(n, 4))
    out[ANGLES], out[RUNS], out[RUN_ROTATIONS], out[RESULTS] = strings, runs, rotations, results
    out[BARRIER_PLACE], out[TABLES], out[SHARED_END] = barrier, tables, aligned(end)


def share_of(n, chunks, first, last):
    """The part of range(n) that belongs to chunks first ... last - 1 of `chunks`."""
    return n * first // chunks, n * last // chunks


def wait(ctx):
    """Wait for the threads that share a block."""
    if ctx[TOGETHER]:
        _barrier_wait(ctx[BARRIER])


def add_to_slot(slots, slot, value):
    """Add a vector to a gradient slot, in float64."""
    store(slots, slot * LANES, load(slots, slot * LANES) + widen(value))


def row_of(step, basis):
    """Row number `step` of the span of a basis in Gray-code order, in which neighbours differ by one vector."""
    row, code, j = 0, step ^ (step >> 1), 0
    while code:
        if code & 1:
            row ^= basis[j]
        code >>= 1
        j += 1
    return row


def swap_lanes(value, mask):
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


def lane_signs(z, q, lanes, one):
    """(-1)**parity(lane's qubits & z), as a vector."""
    for lane in range(LANES):
        lanes[lane] = 1.0 - 2.0 * parity(int(lane // (LANES >> q)) & z)
    return narrow(load(lanes, 0), one)


def group_lanes(q, x):
    """A mask of lane qubits as a mask of lane numbers."""
    return x << (4 - q)
