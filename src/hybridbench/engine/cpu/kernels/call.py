"""A whole call: both passes over each block of samples, threads, and their memory."""

from __future__ import annotations

from hybridbench.engine import encoding as E
from hybridbench.engine.cpu.kernels.angles import prepare, write_coefficients
from hybridbench.engine.cpu.kernels.blocks import apply_blocks
from hybridbench.engine.cpu.kernels.gradients import collect, finish
from hybridbench.engine.cpu.kernels.layout import (
    BARRIER,
    BARRIER_PLACE,
    BATCH,
    CODE,
    COTANGENT,
    D_INITIAL,
    END,
    INITIAL,
    INITIAL_ROWS,
    KEPT,
    LAM,
    NEXT_BLOCK,
    POOL,
    PSI,
    ROTATIONS,
    SHARED_END,
    SLOTS,
    STATE,
    TASK,
    THREADS,
    TOGETHER,
    WORK,
    WORK_THREAD,
    aligned,
    lane_qubits,
    n_chunks,
    share_of,
    shared_places,
    thread_places,
    wait,
)
from hybridbench.engine.cpu.kernels.observables import (
    adjoint_diagonal,
    adjoint_off_diagonal,
    measure_diagonal,
    measure_off_diagonal,
    write_outputs,
)
from hybridbench.engine.cpu.kernels.phases import (
    apply_phases,
    has_phases,
    only_probabilities,
    phase_tables,
    sample_phases,
    undo_phases,
)
from hybridbench.engine.cpu.kernels.product import product_gradient, product_state, wire_vectors
from hybridbench.engine.cpu.kernels.rotations import apply_rotations, mixed_rotations, undo_rotations
from hybridbench.engine.cpu.kernels.states import copy_states
from hybridbench.engine.cpu.native import INT, NOTHING, WORD, External
from hybridbench.engine.cpu.simd import LANES, address_of, count_up, exchange, itemsize, load, pointer, splat, store

POOLED = 1 << 28  # bytes of scratch that are kept from call to call at most
WORTH_THREADS = 50_000  # rows times rotations from which a second thread is worth its start (about 20 us)
_pthread_create = External("pthread_create", INT, (WORD, WORD, WORD, WORD))
_pthread_join = External("pthread_join", INT, (WORD, WORD))
_mutex_init = External("pthread_mutex_init", INT, (WORD, WORD))
_mutex_lock = External("pthread_mutex_lock", INT, (WORD,))
_mutex_unlock = External("pthread_mutex_unlock", INT, (WORD,))
_mutex_destroy = External("pthread_mutex_destroy", INT, (WORD,))
_barrier_init = External("pthread_barrier_init", INT, (WORD, WORD, INT))
_barrier_destroy = External("pthread_barrier_destroy", INT, (WORD,))
_aligned_alloc = External("aligned_alloc", WORD, (WORD, WORD))
_madvise = External("madvise", INT, (WORD, WORD, INT))
_free = External("free", NOTHING, (WORD,))


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
        product_state(ctx, one, where, scratch, psi, q, chunks, first, last)
    else:
        copy_states(ctx, one, psi, ctx[INITIAL], ctx[INITIAL_ROWS], 0, 0, block, q, chunks, first, last)
    for layer in range(code[E.N_LAYERS]):
        at = code[E.AT_LAYERS] + layer * E.LAYER
        if has_phases(code, layer, only_probabilities(ctx)):
            apply_phases(ctx, one, places, where, scratch, psi, layer, q, chunks, first, last)
        if code[at + 3]:
            sample_phases(ctx, one, where, scratch, psi, psi, 0, layer, q, 0, chunks, first, last)
        apply_rotations(ctx, one, where, scratch, psi, layer, q, chunks, first, last)
        if q:
            mixed_rotations(ctx, one, where, scratch, psi, psi, 0, layer, q, 0, chunks, first, last)
        if code[at + 7]:
            apply_blocks(ctx, one, where, scratch, psi, psi, 0, layer, block, q, 0, chunks, first, last)


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
        copy_states(ctx, one, psi, ctx[STATE], ctx[BATCH], 1, 1, block, q, chunks, first, last)
        return
    if code[E.N_OFF_DIAGONAL]:
        measure_off_diagonal(ctx, one, psi, slots, q, chunks, first, last)
    measure_diagonal(ctx, one, where, scratch, psi, slots, q, chunks, first, last)
    wait(ctx)
    if first == 0:
        write_outputs(ctx, one, slots, block, q, chunks)
    wait(ctx)


def _backward(ctx, one, places, where, scratch, owner, block, q, chunks, first, last):
    """Gradients of one block of samples."""
    code = pointer(ctx[CODE], 1)
    psi, lam, slots = pointer(owner + where[PSI], one), pointer(owner + where[LAM], one), owner + where[SLOTS]
    if ctx[KEPT]:
        kept = _kept(ctx, one, block, q)
        begin, end = share_of(1 << (code[E.N_QUBITS] - q), chunks, first, last)
        for i in range(begin * 2 * LANES, end * 2 * LANES, LANES):
            store(psi, i, load(kept, i))
        wait(ctx)
    else:
        _evolve(ctx, one, places, where, scratch, psi, block, q, chunks, first, last)
    for chunk in range(first, last):
        here = pointer(slots + chunk * code[E.N_SLOTS] * LANES * 8, 1.0)
        for slot in range(code[E.N_SLOTS]):
            store(here, slot * LANES, splat(0.0))
    if ctx[STATE]:
        copy_states(ctx, one, lam, ctx[COTANGENT], ctx[BATCH], 1, 0, block, q, chunks, first, last)
    else:
        adjoint_diagonal(ctx, one, where, scratch, psi, lam, block, q, chunks, first, last)
        if code[E.N_OFF_DIAGONAL]:
            adjoint_off_diagonal(ctx, one, where, scratch, psi, lam, block, q, chunks, first, last)
    for layer in range(code[E.N_LAYERS] - 1, -1, -1):
        at = code[E.AT_LAYERS] + layer * E.LAYER
        if code[at + 7]:
            apply_blocks(ctx, one, where, scratch, psi, lam, slots, layer, block, q, 1, chunks, first, last)
        if q:
            mixed_rotations(ctx, one, where, scratch, psi, lam, slots, layer, q, 1, chunks, first, last)
        undo_rotations(ctx, one, where, scratch, psi, lam, slots, layer, q, chunks, first, last)
        if code[at + 3]:
            sample_phases(ctx, one, where, scratch, psi, lam, slots, layer, q, 1, chunks, first, last)
        if has_phases(code, layer, only_probabilities(ctx)):
            undo_phases(ctx, one, places, where, scratch, psi, lam, slots, layer, q, chunks, first, last)
    if code[E.HAS_PRODUCT]:
        product_gradient(ctx, one, where, scratch, psi, lam, slots, q, chunks, first, last)
    else:
        copy_states(ctx, one, lam, ctx[D_INITIAL], ctx[BATCH], 0, 1, block, q, chunks, first, last)
    wait(ctx)
    if first == 0:
        collect(ctx, one, places, slots, block, q, chunks)
    wait(ctx)


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
        write_coefficients(ctx, one, places, where, scratch, block, q)
        wire_vectors(ctx, one, where, scratch)
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
    q = lane_qubits(code, batch)
    samples = LANES >> q
    n_blocks = (batch + samples - 1) // samples
    chunks = n_chunks(n, q)
    rotations = code[E.N_RUNS] + code[E.N_SAMPLE_ROTATIONS] + code[E.N_BLOCKS]
    threads = ctx[THREADS] if (1 << (n - q)) * n_blocks * (2 + rotations) >= WORTH_THREADS else 1
    ctx[TOGETHER] = 1 if n_blocks < threads and chunks > 1 else 0
    threads = max(1, min(threads, chunks if ctx[TOGETHER] else n_blocks))
    ctx[THREADS], ctx[NEXT_BLOCK] = threads, 0
    shared_block = ctx[TOGETHER]
    # A first frame tells how much scratch there must be.
    gate_place = aligned(8 * threads * FRAME)
    frames = _aligned_alloc(64, gate_place + 64)
    if frames == 0:
        return 1
    where, places = pointer(frames + 8 * WHERE, 1), pointer(frames + 8 * PLACES, 1)
    thread_places(code, q, size, where)
    shared_places(code, q, size, n_blocks, places)
    # Threads that share a block need no states of their own: their scratch begins where the coefficients do.
    each = where[END] - where[ROTATIONS] if ctx[TOGETHER] else where[END]
    address = _take(ctx[POOL], places[SHARED_END] + aligned(where[END] + (threads - 1) * each))
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
    prepare(ctx, one, places)
    phase_tables(ctx, one, places, where)
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
        finish(ctx, one, places, n_blocks)
    _give_back(ctx[POOL], address)
    _free(frames)
    return 0
