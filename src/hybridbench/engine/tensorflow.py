"""A program as TensorFlow operations: the readable reference, and the way to XLA, to GPUs and to higher derivatives.

The state is a real matrix of shape (2 * 2**n_qubits, batch): real parts, below them imaginary parts, a sample per column. A
gate then is a matrix product over all samples, and a change of basis copies rows. The circuit becomes a list of two things:

- phases: all Z strings of a layer, shared and per sample, as one table;
- a matrix on the leading qubits of the index: the Kronecker product of up to `GROUP` one-qubit matrices, or a block, with
  real and imaginary parts as one real matrix.

The index of the state is not the physical index but its coordinates in a basis of virtual qubits, chosen so that the next
matrix acts on its leading bits; a change of basis is a linear permutation of rows. What the circuit's structure decides is
worked out once per program (`_plan`); the rest is TensorFlow and can be differentiated any number of times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np

from hybridbench.engine.program import Angle, Block, Kind, Layer, Program, Rotation, Term, ZString
from hybridbench.stack import import_tensorflow

tf = import_tensorflow()

_Products = dict[int, list[tf.Tensor]]  #: real matrices of the groups of each size

GROUP = 5  #: most one-qubit gates in a matrix: more cost arithmetic, fewer cost passes over the state
TABLE_BITS = 13  #: tables over an index of up to this many bits are constants; larger ones are computed from two smaller
X_AXIS, Z_AXIS = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)
# 1, -iX, -iY, -iZ as rows of a table: entries of a 2 x 2 matrix from the four numbers cos, x sin, y sin, z sin.
_SU2 = np.array([[1, 0, 0, 1], [0, -1j, -1j, 0], [0, -1, 1, 0], [-1j, 0, 0, 1j]])


def expectations(program: Program, shared: tf.Tensor, sample: tf.Tensor, initial: tf.Tensor | None = None) -> tf.Tensor:
    """Expectation values of the program's outputs.

    Args:
        program: the circuit.
        shared: (n_shared,) parameters, radians, float32 (computes in complex64) or float64 (complex128).
        sample: (batch, n_sample) parameters per sample, same type; batch is its length also where n_sample is 0.
        initial: (1 or batch, 2**n_qubits) complex amplitudes in wire order, where the program has no product start.

    Returns:
        (batch, n_outputs), real, of the type of `shared`.
    """
    return _run(_expectations, program, shared, sample, initial)


def state(program: Program, shared: tf.Tensor, sample: tf.Tensor, initial: tf.Tensor | None = None) -> tf.Tensor:
    """The state vector with its global phase: (batch, 2**n_qubits), complex, wire order (wire 0 most significant).

    Arguments as in `expectations`.
    """
    return _run(_state, program, shared, sample, initial)


def _run(function: Callable[..., tf.Tensor], program: Program, *tensors: tf.Tensor | None) -> tf.Tensor:
    """Call function(plan, shared, sample, initial); outside of graphs through one, since single operations are slow."""
    tensors = tuple(tensor if tensor is None else tf.convert_to_tensor(tensor) for tensor in tensors)
    return _graph(function, program)(*tensors) if tf.executing_eagerly() else function(_plan(program), *tensors)


@lru_cache(maxsize=64)
def _graph(function: Callable[..., tf.Tensor], program: Program) -> Callable[..., tf.Tensor]:
    return tf.function(partial(function, _plan(program)), autograph=False, reduce_retracing=True)


def _expectations(plan: _Plan, shared: tf.Tensor, sample: tf.Tensor, initial: tf.Tensor | None) -> tf.Tensor:
    rows = _evolve(plan, shared, sample, initial)
    values = tf.zeros((1, plan.n_outputs), shared.dtype)
    if plan.outputs:
        values = tf.transpose(tf.add_n([output.values(rows) for output in plan.outputs]))
    return _connected(values, plan, shared, sample)


def _state(plan: _Plan, shared: tf.Tensor, sample: tf.Tensor, initial: tf.Tensor | None) -> tf.Tensor:
    rows = _permute(_evolve(plan, shared, sample, initial), plan.to_wires)
    amplitudes = tf.transpose(tf.complex(*tf.split(rows, 2)))
    for is_sample, values in ((False, shared[:, None]), (True, tf.transpose(sample))):
        angles = [angle for angle in plan.global_phase if (angle.kind is Kind.SAMPLE) == is_sample]
        if angles:
            phase = tf.reduce_sum(_Angles(angles)(values), axis=0)[:, None]
            amplitudes *= tf.complex(tf.cos(phase), tf.sin(phase))
    return _connected(amplitudes, plan, shared, sample)


def _connected(values: tf.Tensor, plan: _Plan, shared: tf.Tensor, sample: tf.Tensor) -> tf.Tensor:
    """Make values depend on parameters that play no part, so that their gradient is 0 instead of None.

    Where no gate depends on the sample this repeats the one result for the whole batch.
    """
    if not plan.uses_shared:
        values += tf.cast(0 * tf.reduce_sum(shared), values.dtype)
    if not plan.uses_sample:
        values += tf.cast(0 * tf.reduce_sum(sample, axis=1, keepdims=True), values.dtype)
    return values


# --- bit masks and permutations --------------------------------------------------------------------------------------------


def _parity(number: int) -> int:
    return number.bit_count() & 1


def _dual(masks: Sequence[int]) -> tuple[int, ...]:
    """Masks d with parity(d[i] & masks[j]) = 1 where i == j and 0 elsewhere, for n independent masks of n bits."""
    n = len(masks)
    rows = [mask | 1 << (n + i) for i, mask in enumerate(masks)]  # Gauss-Jordan on (masks | identity)
    for bit in range(n):
        pivot = next(i for i in range(bit, n) if rows[i] >> bit & 1)
        rows[bit], rows[pivot] = rows[pivot], rows[bit]
        rows = [row ^ rows[bit] if i != bit and row >> bit & 1 else row for i, row in enumerate(rows)]
    inverse = [row >> n for row in rows]  # row b: which masks sum to the unit vector of bit b
    return tuple(sum((inverse[bit] >> i & 1) << bit for bit in range(n)) for i in range(n))


@dataclass(frozen=True)
class _Basis:
    """Virtual qubits as coordinates of the physical index: bit j of the state, most significant first, is qubit j."""

    x: tuple[int, ...]
    z: tuple[int, ...]

    @classmethod
    def of_wires(cls, n: int) -> _Basis:
        masks = tuple(1 << (n - 1 - w) for w in range(n))
        return cls(masks, masks)

    def leading_with(self, qubits: Sequence[tuple[int, int]]) -> _Basis:
        """A basis with `qubits`, which commute, in front, whose others differ from this one's only where they must."""
        x = [x for x, _ in qubits]
        span: list[int] = []  # of the others, as an echelon form
        for mask in self.x:
            for own, z in qubits:
                mask ^= own if _parity(mask & z) else 0
            rest = mask
            for row in span:
                rest = min(rest, rest ^ row)
            if rest:
                span.append(rest)
                x.append(mask)
        return _Basis(tuple(x), _dual(x))

    def shift(self, x_mask: int) -> int:
        """What the physical shift i -> i ^ x_mask is in these coordinates."""
        return self._number(_parity(z & x_mask) for z in self.z)

    def string(self, z_mask: int) -> int:
        """The mask over these coordinates with the parity that `z_mask` has over the physical index."""
        return self._number(_parity(x & z_mask) for x in self.x)

    def _number(self, bits: Iterable[int]) -> int:
        return int("".join(map(str, bits)), 2)


@dataclass(frozen=True, eq=False)
class _Linear:
    """The permutation new row l <- old row offset ^ (xor of columns[j] over the bits of l, most significant first).

    The first bit of a row tells real from imaginary part.
    """

    columns: tuple[int, ...]
    inverse_columns: tuple[int, ...]
    offset: int = 0

    @classmethod
    def between(cls, old: _Basis, new: _Basis, x_offset: int = 0) -> _Linear | None:
        """From coordinates in `old` to those in `new` with the origin at physical index x_offset; None: nothing moves."""
        if old == new and not x_offset:
            return None
        part = 1 << len(old.x)
        columns = (part, *(old.shift(x) for x in new.x))
        return cls(columns, (part, *(new.shift(x) for x in old.x)), old.shift(x_offset))

    @classmethod
    def flip(cls, n_bits: int, mask: int) -> _Linear | None:
        """l -> l ^ mask; None if nothing moves."""
        columns = tuple(1 << (n_bits - 1 - j) for j in range(n_bits))
        return cls(columns, columns, mask) if mask else None

    def inverted(self) -> _Linear:
        offset = 0
        for j, column in enumerate(reversed(self.inverse_columns)):
            offset ^= column if self.offset >> j & 1 else 0
        return _Linear(self.inverse_columns, self.columns, offset)

    def rows(self) -> Any:
        """The row index: a constant, or for many qubits the xor of two short ones."""
        high, low = self.columns[:-TABLE_BITS], self.columns[-TABLE_BITS:]
        table = _xor_table(low, self.offset)
        if not high:
            return table
        return tf.reshape(tf.bitwise.bitwise_xor(tf.constant(_xor_table(high))[:, None], tf.constant(table)), (-1,))


def _xor_table(columns: Sequence[int], offset: int = 0) -> np.ndarray:
    """offset ^ (xor of columns[j] over the bits of l, most significant first), for all l."""
    table = np.array([offset], np.int32)
    for column in columns:
        table = (table[:, None] ^ np.array([0, column], np.int32)).reshape(-1)
    return table


def _permute(rows: tf.Tensor, permutation: _Linear | None) -> tf.Tensor:
    """Reorder rows. The gradient is the inverse permutation, where TensorFlow's own would add rows into zeros one by one."""
    if permutation is None:
        return rows

    @tf.custom_gradient
    def apply(rows: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        return tf.gather(rows, permutation.rows()), lambda g: _permute(g, permutation.inverted())

    return apply(rows)


# --- angles and 2 x 2 matrices ---------------------------------------------------------------------------------------------


def _take(values: tf.Tensor, index: np.ndarray) -> tf.Tensor:
    """Rows `index` of values, and zeros where index is -1. The gradient is dense; TensorFlow's own would be slices."""

    @tf.custom_gradient
    def apply(values: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        n = values.shape[0]
        filled = tf.concat([values, tf.zeros_like(values[:1])], axis=0) if (index < 0).any() else values
        return tf.gather(filled, np.where(index < 0, n, index)), lambda g: tf.math.unsorted_segment_sum(g, index, n)

    return apply(values)


class _Angles:
    """Angles of shape (k, ...) as a function of parameters of shape (n_parameters, ...)."""

    def __init__(self, angles: Sequence[Angle], factor: float = 1.0) -> None:
        self.index = np.array([-1 if a.kind is Kind.CONSTANT else a.index for a in angles], np.int32)
        self.scale = np.array([factor * a.scale for a in angles])
        self.offset = np.array([factor * a.offset for a in angles])
        self.constant = bool((self.index < 0).all())

    def __call__(self, values: tf.Tensor) -> tf.Tensor:
        column = (-1, *(1,) * (len(values.shape) - 1))
        offset = tf.constant(self.offset.reshape(column), values.dtype)
        if self.constant:
            return offset
        taken = _take(values, self.index) * tf.constant(self.scale.reshape(column), values.dtype)
        return taken + offset if self.offset.any() else taken


class _Chains:
    """The 2 x 2 matrices of many runs at once, (n_runs, 2, 2) complex: padded to one length, multiplied in pairs."""

    def __init__(self, runs: Sequence[tuple[Rotation, ...]]) -> None:
        self.length = 1 << max(len(run) - 1 for run in runs).bit_length() if runs else 0
        idle = Rotation(Z_AXIS, Angle())
        rotations = [r for run in runs for r in (*run, *[idle] * (self.length - len(run)))]
        # Each half angle four times, since cos and three times sin = cos(... - pi/2) are one operation then.
        self.halves = _Angles([r.angle for r in rotations for _ in range(4)], 0.5)
        self.halves.offset -= np.tile([0, np.pi / 2, np.pi / 2, np.pi / 2], len(rotations))
        self.axes = np.array([(1.0, *r.axis) for r in rotations])

    def __call__(self, shared: tf.Tensor) -> tf.Tensor:
        numbers = tf.reshape(tf.cos(self.halves(shared)), (-1, 4)) * tf.constant(self.axes, shared.dtype)
        parts = [tf.matmul(numbers, tf.constant(part, shared.dtype)) for part in (_SU2.real, _SU2.imag)]
        matrices, length = tf.complex(*parts), self.length
        while length > 1:
            first, second = tf.unstack(tf.reshape(matrices, (-1, 2, 2, 2)), axis=1)
            matrices = tf.matmul(second, first)
            length //= 2
        return tf.reshape(matrices, (-1, 2, 2))


def _kron_pair(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Kronecker products of (m, r, c) and (m, r', c'): (m, r r', c c')."""
    (_, r, c), (_, r2, c2) = a.shape, b.shape
    outer = tf.matmul(tf.reshape(a, (-1, r * c, 1)), tf.reshape(b, (-1, 1, r2 * c2)))
    return tf.reshape(tf.transpose(tf.reshape(outer, (-1, r, c, r2, c2)), (0, 1, 3, 2, 4)), (-1, r * r2, c * c2))


def _kron(factors: tf.Tensor) -> tf.Tensor:
    """Kronecker products over axis 1 of (m, k, r, c): (m, r**k, c**k)."""
    _, k, r, c = factors.shape
    if k == 1:
        return tf.reshape(factors, (-1, r, c))
    if k % 2:
        return _kron_pair(_kron(factors[:, :-1]), factors[:, -1])
    first, second = tf.unstack(tf.reshape(factors, (-1, 2, r, c)), axis=1)
    return _kron(tf.reshape(_kron_pair(first, second), (-1, k // 2, r * r, c * c)))


def _real_matrices(matrices: tf.Tensor) -> tf.Tensor:
    """Complex matrices (m, r, r) as real ones on (real plane, imaginary plane): (m, 2r, 2r)."""
    r = matrices.shape[1]
    columns = tf.concat([matrices, 1j * matrices], axis=2)
    return tf.reshape(tf.stack([tf.math.real(columns), tf.math.imag(columns)], axis=1), (-1, 2 * r, 2 * r))


# --- start -----------------------------------------------------------------------------------------------------------------


def _repeat(vectors: tf.Tensor, repeats: int) -> tf.Tensor:
    """(m, d, batch) to (m, d * repeats, batch), each row `repeats` times: TensorFlow's broadcast takes ten times as long."""
    m, d, _ = vectors.shape
    index = np.repeat(np.arange(d, dtype=np.int32), repeats)

    @tf.custom_gradient
    def apply(vectors: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        return tf.gather(vectors, index, axis=1), lambda g: tf.reduce_sum(tf.reshape(g, (m, d, repeats, -1)), axis=2)

    return apply(vectors)


@tf.custom_gradient
def _parts(amplitudes: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """Real parts above imaginary parts. TensorFlow's own gradient would fill up each with zeros first."""
    parts = tf.concat([tf.math.real(amplitudes), tf.math.imag(amplitudes)], axis=0)
    return parts, lambda g: tf.complex(*tf.split(g, 2))


def _outer(vectors: tf.Tensor) -> tf.Tensor:
    """Products over axis 0 of (k, d, batch), first factor most significant: (d**k, batch)."""
    k, d, _ = vectors.shape
    if k == 1:
        return tf.reshape(vectors, (d, -1))
    if k % 2:
        first, second = _outer(vectors[:-1])[None], vectors[-1:]
    else:
        first, second = tf.unstack(tf.reshape(vectors, (k // 2, 2, d, -1)), axis=1)
    m, rows, _ = first.shape
    product = tf.reshape(_repeat(first, d), (m, rows, -1)) * tf.reshape(second, (m, 1, -1))
    return _outer(tf.reshape(product, (m, rows * d, -1)))


class _Product:
    """The product start: on each wire alternately one 2 x 2 matrix for all and a rotation per sample."""

    def __init__(self, product: Sequence[Sequence[Rotation]]) -> None:
        wires: list[list[Any]] = []
        for rotations in product:
            parts: list[Any] = [()]
            for rotation in rotations:
                if rotation.angle.kind is Kind.SAMPLE:
                    parts += [rotation, ()]
                else:
                    parts[-1] += (rotation,)
            wires.append(parts)
        idle = [Rotation(Z_AXIS, Angle()), ()]
        length = max(len(parts) for parts in wires)
        columns = list(zip(*[parts + idle * ((length - len(parts)) // 2) for parts in wires], strict=True))
        self.runs: list[tuple[tuple[Rotation, ...], ...]] = columns[::2]
        self.halves = [_Angles([r.angle for r in column], 0.5) for column in columns[1::2]]
        self.generators = [np.array([np.tensordot(r.axis, _SU2[1:], 1).reshape(2, 2) for r in c]) for c in columns[1::2]]

    def state(self, matrices: Sequence[tf.Tensor | None], sample: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        """(2**n, batch or 1) complex, from the matrices (n, 2, 2) of `runs` and the sample parameters (n_sample, batch)."""
        vectors = tf.constant(np.tile([[1.0], [0.0]], (len(self.runs[0]), 1, 1)), dtype)
        for step, matrix in enumerate(matrices):
            if step:
                halves = self.halves[step - 1](sample)
                turned = tf.matmul(tf.constant(self.generators[step - 1], dtype), vectors)
                weights = tf.cast(tf.stack([tf.cos(halves), tf.sin(halves)], axis=1), dtype)
                if vectors.shape[2] == 1:
                    vectors = tf.matmul(tf.concat([vectors, turned], axis=2), weights)
                else:
                    vectors = weights[:, :1] * vectors + weights[:, 1:] * turned
            if matrix is not None:
                vectors = tf.matmul(matrix, vectors)
        return _outer(vectors)


# --- Z strings -------------------------------------------------------------------------------------------------------------


def _signs(masks: np.ndarray, n_bits: int) -> np.ndarray:
    """(-1)**parity(l & mask): (n_masks, 2**n_bits)."""
    return 1.0 - 2.0 * (np.bitwise_count(masks[:, None] & np.arange(2**n_bits)) & 1)


def _split_signs(masks: Sequence[int], n_bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Signs over the high bits of an index and over the rest: their products are the signs over the whole index."""
    low = max(0, n_bits - TABLE_BITS)
    masks = np.array(masks, np.int64)
    return _signs(masks >> low, n_bits - low), _signs(masks, low)


class _Sum:
    """The phase of every amplitude that some strings give, (2**n, batch) from parameters (n_parameters, batch)."""

    def __init__(self, strings: Sequence[ZString], basis: _Basis) -> None:
        self.angles = _Angles([string.angle for string in strings], -0.5)
        self.high, self.low = _split_signs([basis.string(string.mask) for string in strings], len(basis.x))

    def __call__(self, values: tf.Tensor) -> tf.Tensor:
        angles, (k, low) = self.angles(values), self.low.shape
        if low > 1:
            angles = tf.reshape(angles[:, None] * tf.constant(self.low[:, :, None], angles.dtype), (k, -1))
        return tf.reshape(tf.matmul(tf.constant(self.high.T, angles.dtype), angles), (self.high.shape[1] * low, -1))


class _Phases:
    """exp(i phase) on every amplitude: one table for all samples, or one per sample where a string varies with it."""

    def __init__(self, shared: Sequence[ZString], sample: Sequence[ZString], basis: _Basis) -> None:
        self.shared = _Sum(shared, basis) if shared else None
        self.sample = _Sum(sample, basis) if sample else None

    def __call__(self, rows: tf.Tensor, shared: tf.Tensor, sample: tf.Tensor, products: _Products) -> tf.Tensor:
        phases = [part(values) for part, values in ((self.shared, shared[:, None]), (self.sample, sample)) if part]
        phase = phases[0] if len(phases) == 1 else phases[0] + phases[1]
        real, imaginary = tf.split(rows, 2)
        cos, sin = tf.cos(phase), tf.sin(phase)
        return tf.concat([real * cos - imaginary * sin, real * sin + imaginary * cos], axis=0)


# --- plan ------------------------------------------------------------------------------------------------------------------


@dataclass
class _Stage:
    """Phases, then matrices that commute with each other."""

    strings: list[ZString] = field(default_factory=list)
    sample_strings: list[ZString] = field(default_factory=list)
    runs: dict[tuple[int, int], tuple[Rotation, ...]] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)


def _of_layer(layer: Layer) -> list[_Stage]:
    """A layer in which only Z strings vary by sample: RY(a) = RX(-pi/2) RZ(a) RX(pi/2), and blocks by their eigenbasis."""
    quarter = [(Rotation(X_AXIS, Angle(offset=sign * np.pi / 2)),) for sign in (1, -1)]
    before = _Stage([*layer.strings], [*layer.sample_strings], {(r.x_mask, r.z_mask): r.rotations for r in layer.runs})
    after = _Stage()
    for rotation in layer.sample_rotations:
        qubit = (rotation.x_mask, rotation.z_mask)
        before.runs[qubit], after.runs[qubit] = quarter
        after.sample_strings.append(ZString(rotation.z_mask, rotation.angle))
    for block in layer.blocks:
        if block.angle is None or block.angle.kind is not Kind.SAMPLE:
            before.blocks.append(block)
            continue
        before.blocks.append(Block(block.qubits, block.matrix.conj().T))
        after.blocks.append(Block(block.qubits, block.matrix))
        after.sample_strings += _strings_of(block)
    for string in layer.strings:  # a string of one qubit is the first rotation of its run
        for qubit, rotations in before.runs.items():
            if qubit[1] == string.mask:
                before.strings.remove(string)
                before.runs[qubit] = (Rotation(Z_AXIS, string.angle), *rotations)
    return [before, after] if after.runs or after.blocks else [before]


def _strings_of(block: Block) -> list[ZString]:
    """exp(-i angle diag(eigenvalues)) as Z strings, by the Walsh-Hadamard transform of the eigenvalues."""
    k = len(block.qubits)
    masks = _xor_table([z for _, z in block.qubits])
    index = np.arange(2**k)
    signs = _signs(index, k)
    weights = 2 * (signs @ block.eigenvalues) / 2**k  # a string turns by half its angle
    angle = block.angle
    return [
        ZString(int(mask), replace(angle, scale=weight * angle.scale, offset=weight * angle.offset))
        for mask, weight in zip(masks, weights, strict=True)
        if weight
    ]


def _stages(program: Program) -> list[_Stage]:
    """All layers, with runs joined to later runs of their qubit, and phases to later phases, if nothing lies between."""
    stages: list[_Stage] = []
    for stage in (stage for layer in program.layers for stage in _of_layer(layer)):
        if stages:
            last = stages[-1]
            masks = [s.mask for s in (*stage.strings, *stage.sample_strings)]
            for qubit in [q for q in last.runs if q in stage.runs and not any(_parity(q[0] & mask) for mask in masks)]:
                stage.runs[qubit] = last.runs.pop(qubit) + stage.runs[qubit]
            if not last.runs and not last.blocks:
                stages.pop()
                stage.strings[:0], stage.sample_strings[:0] = last.strings, last.sample_strings
        stages.append(stage)
    return stages


@dataclass(frozen=True, eq=False)
class _Matrix:
    """A real matrix on the leading bits: entry `position` of the products of `size` runs, or a block."""

    permutation: _Linear | None
    size: int
    position: int = -1
    block: Block | None = None

    def __call__(self, rows: tf.Tensor, shared: tf.Tensor, sample: tf.Tensor, products: _Products) -> tf.Tensor:
        matrix = _block_matrix(self.block, shared) if self.block else products[self.size][self.position]
        n_rows = rows.shape[0]
        columns = tf.reshape(_permute(rows, self.permutation), (2 << self.size, -1))
        return tf.reshape(tf.matmul(matrix, columns), (n_rows, -1))


def _block_matrix(block: Block, shared: tf.Tensor) -> tf.Tensor:
    dtype = tf.complex128 if shared.dtype == tf.float64 else tf.complex64
    matrix = tf.constant(block.matrix, dtype)
    if block.angle is not None:
        angle = _Angles([block.angle])(shared[:, None])[0] * tf.constant(-block.eigenvalues, shared.dtype)
        matrix = tf.matmul(matrix * tf.complex(tf.cos(angle), tf.sin(angle)), matrix, adjoint_b=True)
    return _real_matrices(matrix[None])[0]


class _Output:
    """The part of all outputs whose terms have one x_mask, and are real or imaginary (odd powers of i).

    With real parts r above imaginary parts m, l' = l ^ x_mask and signs s, the expectation of X^x_mask Z^z_mask has the real
    part sum s(l) (r(l) r(l') + m(l) m(l')) and the imaginary part sum s(l) (r(l') m(l) - r(l) m(l')): both are sums over
    rows of sign times row times another row, and for the imaginary part the other row is flipped in its first bit too.
    """

    def __init__(self, x_mask: int, odd: bool, terms: Sequence[tuple[int, Term]], n_outputs: int, basis: _Basis) -> None:
        n_bits = len(basis.x) + 1
        first = odd << (n_bits - 1)
        self.flip = _Linear.flip(n_bits, first | basis.shift(x_mask))
        self.high, self.low = _split_signs([first | basis.string(term.z_mask) for _, term in terms], n_bits)
        self.weights = np.zeros((n_outputs, len(terms)))
        for column, (output, term) in enumerate(terms):
            self.weights[output, column] = term.coefficient * (1 if term.power < 2 else -1)
        if self.low.shape[1] == 1:
            self.weights = self.weights @ self.high

    def values(self, rows: tf.Tensor) -> tf.Tensor:
        """(n_outputs, batch)."""
        density, weights = rows * _permute(rows, self.flip), tf.constant(self.weights, rows.dtype)
        if self.low.shape[1] > 1:
            partial = tf.matmul(tf.constant(self.high, rows.dtype), tf.reshape(density, (self.high.shape[1], -1)))
            signs = tf.constant(self.low[:, :, None], rows.dtype)
            density = tf.reduce_sum(tf.reshape(partial, (*self.low.shape, -1)) * signs, axis=1)
        return tf.matmul(weights, density)


class _Plan:
    """All that a program's structure decides."""

    def __init__(self, program: Program) -> None:
        self.product = _Product(program.product) if program.product is not None else None
        self.steps: list[_Phases | _Matrix] = []
        self.groups: dict[int, list[tuple[Rotation, ...]]] = {}  #: by size: the runs of all groups of that size
        basis = _Basis.of_wires(program.n_qubits)
        for stage in _stages(program):
            basis = self._add(stage, basis)

        product_runs = [column for column in self.product.runs if any(column)] if self.product else []
        self.chain_sizes = [len(runs) for runs in (*product_runs, *self.groups.values())]
        self.chains = _Chains([run for column in (*product_runs, *self.groups.values()) for run in column])

        self.to_wires = _to_wires(basis, program.frame)
        self.global_phase = program.phase
        self.n_outputs = len(program.outputs)
        terms: dict[tuple[int, bool], list[tuple[int, Term]]] = {}
        for position, output in enumerate(program.outputs):
            for term in output:
                terms.setdefault((term.x_mask, term.power % 2 == 1), []).append((position, term))
        self.outputs = [_Output(x_mask, odd, some, self.n_outputs, basis) for (x_mask, odd), some in terms.items()]

        phases = [step for step in self.steps if isinstance(step, _Phases)]
        blocks = [step.block for step in self.steps if isinstance(step, _Matrix) and step.block]
        self.uses_shared = (
            not self.chains.halves.constant
            or any(step.shared and not step.shared.angles.constant for step in phases)
            or any(block.angle and block.angle.kind is Kind.SHARED for block in blocks)
        )
        self.uses_sample = bool(self.product and self.product.halves) or any(step.sample for step in phases)

    def _add(self, stage: _Stage, basis: _Basis) -> _Basis:
        """Append a stage to the steps, from coordinates in `basis`; returns those it leaves."""
        if stage.strings or stage.sample_strings:
            self.steps.append(_Phases(stage.strings, stage.sample_strings, basis))
        place = {qubit: j for j, qubit in enumerate(zip(basis.x, basis.z, strict=True))}
        qubits = sorted(stage.runs, key=lambda qubit: place.get(qubit, len(place)))
        # A basis with all of the stage's qubits: only the way to it mixes bits, the ways between its matrices swap them.
        common = basis.leading_with([*qubits, *(qubit for block in stage.blocks for qubit in block.qubits)])
        n_groups = -(-len(qubits) // GROUP)
        for group in (qubits[len(qubits) * g // n_groups : len(qubits) * (g + 1) // n_groups] for g in range(n_groups)):
            common = common.leading_with(group)
            same = self.groups.setdefault(len(group), [])
            self.steps.append(_Matrix(_Linear.between(basis, common), len(group), len(same) // len(group)))
            same += [stage.runs[qubit] for qubit in group]
            basis = common
        for block in stage.blocks:
            common = common.leading_with(block.qubits)
            self.steps.append(_Matrix(_Linear.between(basis, common), len(block.qubits), block=block))
            basis = common
        return basis


def _to_wires(basis: _Basis, frame: Sequence[tuple[int, int]]) -> _Linear | None:
    """From coordinates in `basis` to basis states of the wires, where the bit of a wire is parity(i & z_mask) ^ flip."""
    z_masks, flips = zip(*frame, strict=True)
    wires = _Basis(_dual(z_masks), z_masks)
    origin = 0
    for x, flip in zip(wires.x, flips, strict=True):
        origin ^= x * flip
    return _Linear.between(basis, wires, origin)


@lru_cache(maxsize=64)
def _plan(program: Program) -> _Plan:
    return _Plan(program)


def _evolve(plan: _Plan, shared: tf.Tensor, sample: tf.Tensor, initial: tf.Tensor | None) -> tf.Tensor:
    """The final state in the plan's last basis: (2 * 2**n, batch), or one column where nothing depends on the sample."""
    dtype = tf.complex128 if shared.dtype == tf.float64 else tf.complex64
    by_parameter = tf.transpose(sample)
    matrices = tf.split(plan.chains(shared), plan.chain_sizes) if plan.chain_sizes else []
    if plan.product is None:
        start = tf.transpose(tf.cast(initial, dtype))
    else:
        start = plan.product.state(
            [matrices.pop(0) if any(column) else None for column in plan.product.runs], by_parameter, dtype
        )
    products = {
        size: tf.unstack(_real_matrices(_kron(tf.reshape(some, (-1, size, 2, 2)))))
        for size, some in zip(plan.groups, matrices, strict=True)
    }
    rows = _parts(start)
    for step in plan.steps:
        rows = step(rows, shared, by_parameter, products)
    return rows
