"""A program as one array of 64-bit words, for machine code to walk through. Real numbers are stored as the bits of float64.

The array holds no addresses, so that it can be an attribute of a graph. Its layout is the constants below; `encode` writes
it and `hybridbench.engine.cpu.kernels` reads it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import lru_cache

import numpy as np

from hybridbench.engine.program import Angle, Block, Kind, Program, Rotation
from hybridbench.errors import ConfigurationError

#: Words of the header.
(
    N_QUBITS,
    N_SHARED,
    N_SAMPLE,
    N_LAYERS,
    N_RUNS,
    N_PRODUCT,  # rotations of the product start
    N_STRINGS,
    N_SAMPLE_STRINGS,
    N_SAMPLE_ROTATIONS,
    N_BLOCKS,
    N_OUTPUTS,
    N_DIAGONAL,  # terms without X
    N_OFF_DIAGONAL,
    N_SLOTS,
    HAS_PRODUCT,
    MAX_BLOCK,  # most qubits of a block
    AT_PRODUCT,
    AT_RUNS,
    AT_RUN_ROTATIONS,
    AT_STRINGS,
    AT_SAMPLE_STRINGS,
    AT_SAMPLE_ROTATIONS,
    AT_BLOCKS,
    AT_LAYERS,
    AT_DIAGONAL,
    AT_OFF_DIAGONAL,
    AT_FRAME,
    AT_GROUPS,  # five words: the groups of rotations for 0 to 4 qubits in the lanes
) = range(28)
HEADER = 40
ROTATION = 7  # words: axis x, y, z, kind, index, scale, offset
STRING = 5  # words: mask, kind, index, scale, offset
TERM = 6  # words: output, coefficient, power, x_mask, z_mask, unused
RUN = 2  # words: first rotation, count
LAYER = 9  # words, see `_layers`
BLOCK = 10  # words, see `_block`
MAX_LANE_QUBITS = 4


def _bits(number: float) -> int:
    return struct.unpack("<q", struct.pack("<d", number))[0]


def _angle(angle: Angle) -> list[int]:
    return [angle.kind.value, angle.index, _bits(angle.scale), _bits(angle.offset)]


def _rotation(rotation: Rotation) -> list[int]:
    return [*map(_bits, rotation.axis), *_angle(rotation.angle)]


def parity(number: int) -> int:
    """1 where an odd number of bits is set."""
    return number.bit_count() & 1


def null_space(z_masks: Iterable[int], n_bits: int) -> list[int]:
    """A basis of all indices whose parity with each mask is 0, as bit vectors, low ones first."""
    rows: list[tuple[int, int]] = []  # (pivot bit, row), fully reduced
    for mask in z_masks:
        for pivot, row in rows:
            if mask >> pivot & 1:
                mask ^= row
        if not mask:
            continue
        pivot = mask.bit_length() - 1
        rows = [(p, row ^ mask if row >> pivot & 1 else row) for p, row in rows]
        rows.append((pivot, mask))
    pivots = {pivot for pivot, _ in rows}
    basis = []
    for bit in range(n_bits):
        if bit not in pivots:
            vector = 1 << bit
            for pivot, row in rows:
                if row >> bit & 1:
                    vector |= 1 << pivot
            basis.append(vector)
    return basis


class _Writer:
    def __init__(self) -> None:
        self.words: list[int] = [0] * HEADER

    def add(self, words: Iterable[int]) -> int:
        at = len(self.words)
        self.words.extend(words)
        return at


def _groups(writer: _Writer, items: list[tuple[int, int, int]], n_qubits: int, lane_qubits: int) -> tuple[int, int]:
    """The rotations (x_mask, z_mask, coefficient) of one layer in passes over memory; returns place and count.

    A record is [wires of the pass, or 0 where the lanes take part; coefficient, x of each of two wires; x in the lanes, z in
    the rows, z in the lanes; size of the basis; place of the basis]. Rows that a pass starts from are the span of the basis.
    """
    low = (1 << lane_qubits) - 1
    n_rows = n_qubits - lane_qubits
    plain = [item for item in items if not (item[0] & low or item[1] & low)]
    mixed = [item for item in items if item[0] & low or item[1] & low]
    records = []
    for first in range(0, len(plain), 2):
        pair = plain[first : first + 2]
        basis = null_space([z >> lane_qubits for _, z, _ in pair], n_rows)
        (x0, _, c0), (x1, _, c1) = pair[0], pair[-1]
        records.append([len(pair), c0, x0 >> lane_qubits, c1, x1 >> lane_qubits, 0, 0, 0, len(basis), writer.add(basis)])
    for x, z, coefficient in mixed:
        row = x >> lane_qubits
        basis = [1 << bit for bit in range(n_rows) if bit != row.bit_length() - 1]
        words = [0, coefficient, row, 0, 0, x & low, z >> lane_qubits, z & low, len(basis), writer.add(basis)]
        records.append(words)
    return writer.add(word for record in records for word in record), len(records)


def _block(writer: _Writer, block: Block, n_qubits: int) -> list[int]:
    """[qubits, place of masks, basis size, place of basis, place of matrix, of eigenvalues, kind, index, scale, offset]."""
    matrix = np.asarray(block.matrix, complex)
    numbers = [_bits(part) for value in matrix.ravel() for part in (value.real, value.imag)]
    basis = null_space([z for _, z in block.qubits], n_qubits)
    angle = block.angle or Angle()
    # Offsets of the 2**k amplitudes of a set from its first one: the first qubit is the most significant bit.
    offsets = []
    for value in range(2 ** len(block.qubits)):
        offset = 0
        for bit, (x, _) in enumerate(reversed(block.qubits)):
            offset ^= x if value >> bit & 1 else 0
        offsets.append(offset)
    eigenvalues = -1 if block.eigenvalues is None else writer.add(map(_bits, map(float, block.eigenvalues)))
    places = [writer.add(offsets), len(basis), writer.add(basis), writer.add(numbers), eigenvalues]
    return [len(block.qubits), *places, *_angle(angle)]


@lru_cache(maxsize=256)
def encode(program: Program) -> np.ndarray:
    """The words of `program`, shape (n,), int64.

    Raises:
        ConfigurationError: more than 30 qubits.
    """
    n = program.n_qubits
    if n > 30:
        raise ConfigurationError(f"A circuit of {n} qubits needs 2**{n} amplitudes; the CPU engine takes at most 30 qubits.")
    writer = _Writer()
    head = writer.words
    product = program.product or ((),) * n
    # Product start: for each bit of the index, low first, which rotations; wire n - 1 is bit 0.
    at, counts = 0, []
    for wire in reversed(range(n)):
        counts += [at, len(product[wire])]
        at += len(product[wire])
    at_product = writer.add(counts)
    writer.add(word for wire in reversed(range(n)) for rotation in product[wire] for word in _rotation(rotation))

    runs = [run for layer in program.layers for run in layer.runs]
    sample_rotations = [item for layer in program.layers for item in layer.sample_rotations]
    strings = [item for layer in program.layers for item in layer.strings]
    sample_strings = [item for layer in program.layers for item in layer.sample_strings]
    blocks = [item for layer in program.layers for item in layer.blocks]
    place, words = 0, []
    for run in runs:
        words += [place, len(run.rotations)]
        place += len(run.rotations)
    at_runs = writer.add(words)
    at_run_rotations = writer.add(word for run in runs for rotation in run.rotations for word in _rotation(rotation))
    at_strings = writer.add(word for item in strings for word in (item.mask, *_angle(item.angle)))
    at_sample_strings = writer.add(word for item in sample_strings for word in (item.mask, *_angle(item.angle)))
    at_sample_rotations = writer.add(word for item in sample_rotations for word in _angle(item.angle))
    at_blocks = writer.add(word for record in [_block(writer, block, n) for block in blocks] for word in record)

    # Layers: [first string, strings, first sample string, sample strings, place of run phases, run phases,
    #          first block, blocks, rotations]; a run phase is [mask, run, 0 before or 1 after its Y rotation].
    records, groups = [], {q: [] for q in range(MAX_LANE_QUBITS + 1)}
    first = {"strings": 0, "sample_strings": 0, "runs": 0, "sample_rotations": 0, "blocks": 0}
    after: list[int] = []
    for layer in program.layers:
        phases = list(after)
        after, items = [], []
        for number, run in enumerate(layer.runs, first["runs"]):
            phases += [run.z_mask, number, 0]
            after += [run.z_mask, number, 1]
            items.append((run.x_mask, run.z_mask, number))
        for number, item in enumerate(layer.sample_rotations, len(runs) + first["sample_rotations"]):
            items.append((item.x_mask, item.z_mask, number))
        records += [first["strings"], len(layer.strings), first["sample_strings"], len(layer.sample_strings)]
        records += [writer.add(phases), len(phases) // 3, first["blocks"], len(layer.blocks), len(items)]
        for q in groups:
            groups[q] += _groups(writer, items, n, q) if q <= n else (0, 0)
        for name in first:
            first[name] += len(getattr(layer, name))
    if after:
        raise ConfigurationError("The last layer of a program has runs; a layer of strings must follow it.")
    at_layers = writer.add(records)

    terms = [(output, term) for output, sum_ in enumerate(program.outputs) for term in sum_]
    diagonal = [item for item in terms if not item[1].x_mask]
    others = [item for item in terms if item[1].x_mask]
    at_terms = [
        writer.add(
            word
            for output, term in part
            for word in (output, _bits(term.coefficient), term.power, term.x_mask, term.z_mask, 0)
        )
        for part in (diagonal, others)
    ]
    at_frame = writer.add(word for z_mask, flip in program.frame for word in (z_mask, flip))
    n_product = sum(map(len, product))
    n_slots = 3 * len(runs) + len(strings) + n_product + len(sample_strings) + len(sample_rotations) + len(blocks)
    n_slots = max(n_slots, len(terms))  # a forward pass sums its observables there
    head[: AT_GROUPS] = [
        n, program.n_shared, program.n_sample, len(program.layers), len(runs), n_product, len(strings), len(sample_strings),
        len(sample_rotations), len(blocks), len(program.outputs), len(diagonal), len(others), n_slots,
        program.product is not None, max((len(block.qubits) for block in blocks), default=0),
        at_product, at_runs, at_run_rotations, at_strings, at_sample_strings, at_sample_rotations, at_blocks, at_layers,
        *at_terms, at_frame,
    ]  # fmt: skip
    for q, words in groups.items():
        head[AT_GROUPS + q] = writer.add(words)
    return np.array(writer.words, np.int64)


__all__ = ["Kind", "encode", "null_space", "parity"]
