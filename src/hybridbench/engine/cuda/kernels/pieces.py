"""What the passes forward and back share."""

from __future__ import annotations

import math
from types import SimpleNamespace

from numba import cuda

from hybridbench.engine import encoding as E
from hybridbench.engine.cuda import passes as P
from hybridbench.engine.cuda.kernels.layout import WORKERS, angle_value, layer_at, odd


def pieces(real):
    """Device functions of both passes, in the arithmetic of one precision."""
    one, zero = real(1), real(0)

    @cuda.jit(device=True)
    def sample_coefficients(plan, code, real_code, shared, sample, row, u, store, at):
        """Cosine and sine of half the angle of each sample rotation, then half of each sample string's angle."""
        for j in range(u, code[E.N_SAMPLE_ROTATIONS], plan[WORKERS]):
            angle = 0.5 * angle_value(code, real_code, code[E.AT_SAMPLE_ROTATIONS] + 4 * j, shared, sample, row)
            store[at + 2 * j], store[at + 2 * j + 1] = math.cos(angle), math.sin(angle)
        at += 2 * code[E.N_SAMPLE_ROTATIONS]
        for j in range(u, code[E.N_SAMPLE_STRINGS], plan[WORKERS]):
            place = code[E.AT_SAMPLE_STRINGS] + j * E.STRING
            store[at + j] = 0.5 * angle_value(code, real_code, place + 1, shared, sample, row)

    @cuda.jit(device=True)
    def coefficient(code, turns, store, at, index):
        """Cosine and sine of a rotation: of a run, or of one sample."""
        if index < code[E.N_RUNS]:
            return turns[index, 0], turns[index, 1]
        j = at + 2 * (index - code[E.N_RUNS])
        return store[j], store[j + 1]

    @cuda.jit(device=True)
    def phase(code, layer, number, tables, i, store, at):
        """exp(i phase) of one amplitude: cosine and sine."""
        c, s = one, zero
        if number >= 0:
            c, s = tables[number, 0, i], tables[number, 1, i]
        place = layer_at(code, layer)
        if code[place + 3]:
            total = zero
            for j in range(code[place + 2], code[place + 2] + code[place + 3]):
                value = store[at + 2 * code[E.N_SAMPLE_ROTATIONS] + j]
                total += value if odd(i & code[code[E.AT_SAMPLE_STRINGS] + j * E.STRING]) else -value
            c1, s1 = math.cos(total), math.sin(total)
            c, s = c * c1 - s * s1, c * s1 + s * c1
        return c, s

    @cuda.jit(device=True)
    def in_set(plan, op, first, number):
        """The local index of amplitude `number` of the set that begins at `first`; the first qubit is the highest bit."""
        n = plan[op + P.QUBITS]
        for bit in range(n):
            if number >> (n - 1 - bit) & 1:
                first ^= plan[op + P.LOCAL_X + bit]
        return first

    @cuda.jit(device=True)
    def gather(plan, op, first, size, re, im, start, found):
        for number in range(size):
            index = start + in_set(plan, op, first, number)
            found[0, number], found[1, number] = re[index], im[index]

    @cuda.jit(device=True)
    def scatter(plan, op, first, size, re, im, start, given):
        for number in range(size):
            index = start + in_set(plan, op, first, number)
            re[index], im[index] = given[0, number], given[1, number]

    @cuda.jit(device=True)
    def multiply(real_code, place, size, adjoint, given, found):
        """A matrix of the code, or its adjoint, times the amplitudes of a set."""
        for r in range(size):
            re, im = zero, zero
            for c in range(size):
                entry = place + 2 * (c * size + r if adjoint else r * size + c)
                mr, mi = real(real_code[entry]), real(real_code[entry + 1])
                if adjoint:
                    mi = -mi
                re += mr * given[0, c] - mi * given[1, c]
                im += mr * given[1, c] + mi * given[0, c]
            found[0, r], found[1, r] = re, im

    @cuda.jit(device=True)
    def turn(real_code, values, size, angle, state):
        """exp(-i angle eigenvalue) on each amplitude."""
        for j in range(size):
            x = real(angle * real_code[values + j])
            c, s = math.cos(x), math.sin(x)
            re, im = state[0, j], state[1, j]
            state[0, j], state[1, j] = c * re + s * im, c * im - s * re

    return SimpleNamespace(
        sample_coefficients=sample_coefficients,
        coefficient=coefficient,
        phase=phase,
        gather=gather,
        scatter=scatter,
        multiply=multiply,
        turn=turn,
    )
