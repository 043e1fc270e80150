"""A program as a few passes over the state, for engines that work on one tile of it at a time.

A GPU's fast memory holds 2**k amplitudes (a *tile*): all of a small circuit's state, or the part of a large one whose
physical indices are base ^ span(vectors) for k independent vectors. A gate whose masks X lie in that span moves amplitudes
within tiles only, so that one pass over memory takes every gate whose mask is, or can still be put, into the span. Where
the state fits into one tile there is one pass, whatever the circuit.

Within a tile an amplitude has the local index l: i = base ^ (xor of vectors[j] over the bits j of l). A mask X of the
physical index is a mask of local bits, and so is a mask Z up to the sign (-1)**parity(base & z).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count

import numpy as np

from hybridbench.engine.encoding import parity
from hybridbench.engine.program import Program
from hybridbench.errors import ConfigurationError

#: Words of an operation: what it is and which one, how many qubits it acts on, then for up to four qubits the bits that
#: number its sets of amplitudes, and each qubit's local masks X and Z and its physical mask Z.
KIND, INDEX, SECOND, QUBITS, PIVOTS, LOCAL_X, LOCAL_Z, PHYSICAL_Z = 0, 1, 2, 3, 4, 8, 12, 16
WORDS = 20
#: Kinds: INDEX is the layer; one or two rotations (also SECOND); the block; the bit of a wire, which nothing happens to.
PHASES, ROTATIONS, BLOCK, WIRE = range(4)
MAX_QUBITS = 4


@dataclass(frozen=True, eq=False)
class Pass:
    """What happens to a tile between reading and writing it."""

    vectors: np.ndarray  #: (k,) physical index of each local bit, lowest first
    free_bits: np.ndarray  #: (n - k,) bits of the physical index that number the tiles
    operations: np.ndarray  #: (n_operations, WORDS), in order of time


class _Span:
    """Vectors over bits, with coordinates in terms of those that were given."""

    def __init__(self) -> None:
        self.vectors: list[int] = []
        self._rows: list[tuple[int, int, int]] = []  # (pivot bit, reduced vector, coordinates of it)

    def coordinates(self, vector: int) -> tuple[int, int]:
        """What is left of a vector outside of the span, and which of `vectors` make up the rest."""
        found = 0
        for pivot, row, coordinates in self._rows:
            if vector >> pivot & 1:
                vector, found = vector ^ row, found ^ coordinates
        return vector, found

    def copy(self) -> _Span:
        """Another one with the same vectors."""
        found = _Span()
        found.vectors, found._rows = list(self.vectors), list(self._rows)
        return found

    def add(self, vector: int) -> None:
        """Take a vector in that is not in the span."""
        rest, found = self.coordinates(vector)
        pivot = rest.bit_length() - 1
        own = found ^ (1 << len(self.vectors))
        self._rows = [(p, row ^ rest, at ^ own) if row >> pivot & 1 else (p, row, at) for p, row, at in self._rows]
        self._rows.append((pivot, rest, own))
        self.vectors.append(vector)

    @property
    def pivots(self) -> set[int]:
        """Bits that the span decides: the others number its cosets."""
        return {pivot for pivot, _, _ in self._rows}


@dataclass(frozen=True)
class _Gate:
    kind: int
    index: int
    layer: int
    qubits: tuple[tuple[int, int], ...] = ()  #: masks (x, z) of each


def _layers(program: Program) -> Iterator[list[_Gate]]:
    """Each layer's gates; rotations per sample are numbered on from the runs."""
    runs = count(0)
    rotations = count(sum(len(layer.runs) for layer in program.layers))
    blocks = count(0)
    for number, layer in enumerate(program.layers):
        yield [
            *(_Gate(ROTATIONS, next(runs), number, ((item.x_mask, item.z_mask),)) for item in layer.runs),
            *(_Gate(ROTATIONS, next(rotations), number, ((item.x_mask, item.z_mask),)) for item in layer.sample_rotations),
            *(_Gate(BLOCK, next(blocks), number, item.qubits) for item in layer.blocks),
        ]


def has_phases(program: Program, layer: int, probabilities_only: bool) -> bool:
    """Whether the phases of a layer are there and matter: after the last gate probabilities do not see them."""
    here = program.layers[layer]
    before = program.layers[layer - 1].runs if layer else ()
    last = layer == len(program.layers) - 1 and not (here.runs or here.sample_rotations or here.blocks)
    return bool(here.strings or here.sample_strings or here.runs or before) and not (probabilities_only and last)


@lru_cache(maxsize=256)
def passes(program: Program, tile_bits: int, low_bits: int, probabilities_only: bool) -> tuple[Pass, ...]:
    """The passes of a program in order of time.

    Args:
        program: the circuit.
        tile_bits: most bits of a tile's local index; a state of so many qubits or fewer is one tile.
        low_bits: how many of the lowest bits of the index every tile holds, so that neighbours in memory stay together.
        probabilities_only: whether only observables without X are measured.

    Raises:
        ConfigurationError: a tile is too small for a gate of the circuit, or a matrix is too large.
    """
    n = program.n_qubits
    widest = max((len(block.qubits) for layer in program.layers for block in layer.blocks), default=0)
    if widest > MAX_QUBITS:
        raise ConfigurationError(
            f"The CUDA engine runs matrices on up to {MAX_QUBITS} qubits, and the circuit has one on {widest}: "
            "use engine='cpu', or write it as smaller gates."
        )
    groups: list[tuple[_Span, list[_Gate]]] = []

    def open_pass() -> None:
        span = _Span()
        for bit in range(n if n <= tile_bits else low_bits):
            span.add(1 << bit)
        groups.append((span, []))

    def take(gates: list[_Gate]) -> None:
        while gates:
            left = [gate for gate in gates if not _taken(*groups[-1], gate, tile_bits)]
            if len(left) == len(gates) and not groups[-1][1]:
                raise ConfigurationError(
                    f"A tile of {tile_bits} bits has no room for a gate on {len(left[0].qubits)} qubits."
                )
            if left:
                open_pass()
            gates = left

    open_pass()
    if any(program.product or ()):  # where gradients of the product start are taken, wire by wire
        take([_Gate(WIRE, bit, -1, ((1 << bit, 1 << bit),)) for bit in range(n)])
    for layer, gates in enumerate(_layers(program)):
        if has_phases(program, layer, probabilities_only):
            groups[-1][1].append(_Gate(PHASES, layer, layer))
        take(gates)
    return tuple(_finished(span, gates, n, tile_bits) for span, gates in groups)


def _taken(span: _Span, taken: list[_Gate], gate: _Gate, tile_bits: int) -> bool:
    """Add a gate to a pass if all its masks X are, or can be put, into the span."""
    new: list[int] = []
    trial = span.copy()
    for x, _ in gate.qubits:
        if trial.coordinates(x)[0]:
            trial.add(x)
            new.append(x)
    if len(trial.vectors) > tile_bits:
        return False
    for x in new:
        span.add(x)
    taken.append(gate)
    return True


def _finished(span: _Span, gates: Sequence[_Gate], n: int, tile_bits: int) -> Pass:
    for bit in range(n):  # a tile is always full
        if len(span.vectors) == min(n, tile_bits):
            break
        if span.coordinates(1 << bit)[0]:
            span.add(1 << bit)
    rows: list[np.ndarray] = []
    waiting: list[_Gate] = []
    for gate in gates:
        # Two rotations of one layer together read and write each amplitude once; they commute.
        if waiting and not (gate.kind == ROTATIONS and gate.layer == waiting[0].layer and len(waiting) == 1):
            rows.append(_row(span, *waiting))
            waiting = []
        if gate.kind == ROTATIONS:
            waiting.append(gate)
        else:
            rows.append(_row(span, gate))
    rows += [_row(span, *waiting)] if waiting else []
    free = [bit for bit in range(n) if bit not in span.pivots]
    operations = np.array(rows, np.int64).reshape(-1, WORDS)
    return Pass(np.array(span.vectors, np.int64), np.array(free, np.int64), operations)


def local_z(vectors: Iterable[int], z: int) -> int:
    """The mask over local bits with the parity that `z` has over the physical index, up to the sign of the tile's base."""
    return sum(parity(int(vector) & z) << bit for bit, vector in enumerate(vectors))


def _row(span: _Span, *gates: _Gate) -> np.ndarray:
    row = np.zeros(WORDS, np.int64)
    qubits = [qubit for gate in gates for qubit in gate.qubits]
    row[KIND], row[INDEX], row[SECOND], row[QUBITS] = gates[0].kind, gates[0].index, gates[-1].index, len(qubits)
    masks = _Span()
    for place, (x, z) in enumerate(qubits):
        row[LOCAL_X + place] = span.coordinates(x)[1]
        row[LOCAL_Z + place] = local_z(span.vectors, z)
        row[PHYSICAL_Z + place] = z
        masks.add(int(row[LOCAL_X + place]))
    row[PIVOTS : PIVOTS + len(qubits)] = sorted(masks.pivots)
    return row
