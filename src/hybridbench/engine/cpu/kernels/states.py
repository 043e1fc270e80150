"""States copied in and out."""

from __future__ import annotations

from hybridbench.engine import encoding as E
from hybridbench.engine.cpu.kernels.layout import BATCH, CODE, share_of, wait
from hybridbench.engine.cpu.simd import LANES, parity, pointer


def _wire_order(code, index):
    """Index in wire order of a physical index."""
    n = code[E.N_QUBITS]
    found = 0
    for wire in range(n):
        at = code[E.AT_FRAME] + 2 * wire
        found = 2 * found + (parity(index & code[at]) ^ code[at + 1])
    return found


def copy_states(ctx, one, state, address, rows, in_wire_order, write, block, q, chunks, first, last):
    """Copy between a block's rows and complex vectors (`rows`, 2**n) at `address`; `write` 1 writes them, 0 reads them.

    Vectors are in wire order after the last gate, or before the first one (`in_wire_order` 0), where that is the physical.
    """
    code = pointer(ctx[CODE], 1)
    n, samples, batch = code[E.N_QUBITS], LANES >> q, ctx[BATCH]
    outside = pointer(address, one)
    begin, end = share_of(1 << (n - q), chunks, first, last)
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
    wait(ctx)
