"""Sessions: programs on the GPU for batches of one size, with their buffers and launches."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from itertools import count
from threading import RLock
from types import ModuleType
from typing import Any

import numpy as np

from hybridbench.engine import encoding as E
from hybridbench.engine.cpu import REAL
from hybridbench.engine.cuda import passes as P
from hybridbench.engine.cuda.gpu import Counters, require, simulated
from hybridbench.engine.encoding import encode
from hybridbench.engine.program import Angle, Kind, Program
from hybridbench.errors import ConfigurationError, MemoryEstimateError, check_name

#: Shared memory that every NVIDIA GPU gives a block of threads without asking, bytes.
SHARED_BYTES = 48 * 1024
#: Qubits whose state, with the adjoint one and what is added up, fits into it: local bits of a tile.
TILE_BITS = {"complex64": 11, "complex128": 10}
#: Local bits that are neighbours in memory: 64 bytes, what the memory moves at once.
LOW_BITS = {"complex64": 4, "complex128": 3}
THREADS = {"complex64": 128, "complex128": 64}
MAX_TILE_BLOCKS = 1024
MAX_GRID = 4096  #: blocks of threads for one sample, or for one layer's phases
SESSIONS = 8  #: whose buffers are kept
_RUNS = count(1)
LOCK = RLock()  #: sessions are shared: whoever works with one holds it


def memory_bytes(program: Program, batch: int, precision: str) -> int:
    """Memory of a session on the GPU, bytes: two states of each sample whatever the depth, tables of phases, and sums."""
    real, layers = np.dtype(REAL[precision]).itemsize, program.layers
    states = 4 * batch * 2**program.n_qubits * real
    tables = 2 * len(layers) * 2**program.n_qubits * real
    n_runs = sum(len(layer.runs) for layer in layers)
    others = sum(len(each) for layer in layers for each in (layer.strings, layer.sample_strings, layer.sample_rotations))
    others += sum(len(layer.blocks) for layer in layers)
    n_product = sum(map(len, program.product or ()))
    sums = 3 * n_runs + others + 3 * program.n_qubits + sum(map(len, program.outputs))
    contributions = 8 * batch * (3 * n_runs + others + n_product)
    return states + tables + batch * _tile_blocks(program.n_qubits, TILE_BITS[precision]) * sums * real + contributions


def _tile_blocks(n_qubits: int, tile_bits: int) -> int:
    return min(MAX_TILE_BLOCKS, 1 << max(0, n_qubits - tile_bits))


def _grid(jobs: int) -> tuple[int, int]:
    """Blocks and threads of a launch with a thread a job."""
    threads = min(128, jobs)
    return -(-jobs // threads), threads


class Session:
    """A program on the GPU for batches of one size: buffers that live there, and the launches of a step.

    Args:
        program: the circuit.
        batch: samples of a call.
        precision: "complex64" or "complex128".
        tile_bits, low_bits: sizes of tiles (`passes`); those that the GPU's shared memory allows unless given.
        for_states: whether states are asked for, and not expectation values.

    Raises:
        BackendError: there is no GPU.
        MemoryEstimateError: the states do not fit into the GPU's free memory.
        ConfigurationError: angles per sample that do not fit into a block's shared memory.
    """

    def __init__(
        self,
        program: Program,
        batch: int,
        precision: str = "complex64",
        tile_bits: int | None = None,
        low_bits: int | None = None,
        for_states: bool = False,
    ) -> None:
        self._cuda = require()
        from hybridbench.engine.cuda.kernels import kernels, sums

        self._K, self.program, self.batch, self.precision = sums, program, batch, precision
        self._kernels = kernels(check_name("precision", precision, REAL))
        real = REAL[precision]
        tile_bits, low_bits = tile_bits or TILE_BITS[precision], LOW_BITS[precision] if low_bits is None else low_bits
        self._check_memory()
        code = encode(program)
        n, n_runs = program.n_qubits, int(code[E.N_RUNS])
        self._probabilities_only = not code[E.N_OFF_DIAGONAL]
        n_terms = int(code[E.N_DIAGONAL] + code[E.N_OFF_DIAGONAL])
        # A state that is asked for needs the phases of the last layer too.
        self._from_probabilities = self._probabilities_only and not for_states
        found = P.passes(program, tile_bits, low_bits, self._from_probabilities)
        self._tile_blocks = _tile_blocks(n, len(found[0].vectors))
        self._plans = self._make_plans(found, code)
        wanted = sorted(
            int(op[P.INDEX])
            for one in found
            for op in one.operations
            if op[P.KIND] == P.PHASES and sum(code[code[E.AT_LAYERS] + op[P.INDEX] * E.LAYER + np.array([1, 5])])
        )
        layers = np.full(len(program.layers), -1, np.int64)
        layers[wanted] = np.arange(len(wanted))
        self._n_phases = max((int(sum(code[code[E.AT_LAYERS] + w * E.LAYER + np.array([1, 5])])) for w in wanted), default=0)
        if 16 * self._n_phases > SHARED_BYTES:
            raise ConfigurationError(
                f"A layer of the circuit has {self._n_phases} phases, and the CUDA engine takes {SHARED_BYTES // 16}: "
                "use engine='cpu'."
            )
        put, make = self._cuda.to_device, self._cuda.device_array
        self._code, self._real_code = put(code), put(code.view(np.float64))
        self._layers, self._tabled = put(layers), put(np.array(wanted, np.int64))
        self._tables = make((max(len(wanted), 1), 2, 2**n), real)
        self._turns = make((max(n_runs, 1), 2), real)
        self._psi, self._lam = make((batch, 2, 2**n), real), make((batch, 2, 2**n), real)
        self._terms = put(np.zeros((self._tile_blocks, batch, max(n_terms, 1)), real))
        self._values = make((batch, max(len(program.outputs), 1)), real)
        sizes = (max(program.n_shared, 1), (batch, max(program.n_sample, 1)), (batch, max(len(program.outputs), 1)))
        self._buffers = tuple(make(size, real) for size in sizes)
        self._shared, self._sample, self._cotangent = self._buffers
        self.number_of_run = 0
        self._make_gradients(code, real)

    def _check_memory(self) -> None:
        if simulated():
            return
        needed, context = memory_bytes(self.program, self.batch, self.precision), self._cuda.current_context()
        if needed > context.get_memory_info().free:  # sessions that are only kept, and what numba frees later, make room
            session.cache_clear()
            context.deallocations.clear()
        free = context.get_memory_info().free
        if needed > free:
            raise MemoryEstimateError(
                f"{self.program.n_qubits} qubits with batch {self.batch} in {self.precision} need about "
                f"{needed / 2**30:.3g} GiB on the GPU, and {free / 2**30:.3g} GiB are free: use fewer qubits or samples."
            )

    def _make_plans(self, found: tuple[P.Pass, ...], code: np.ndarray) -> list[_Plan]:
        plans = []
        for number, one in enumerate(found):
            later = found[number + 1 :]
            moves = bool(np.any(one.operations[:, P.KIND] != P.WIRE)) or not later
            plans.append(_Plan(self, one, code, moves))
        moving = [plan for plan in plans if plan.moves]
        for plan in plans:
            plan.upload(
                self._cuda,
                starts=self.program.product is not None and plan is moving[0],
                ends=plan is moving[-1],
                from_probabilities=self._from_probabilities,
                first=plan is plans[0],
            )
        return plans

    def _make_gradients(self, code: np.ndarray, real: type) -> None:
        """What depends on each parameter, as lists for the kernels."""
        program, put, make = self.program, self._cuda.to_device, self._cuda.device_array
        layers = program.layers
        runs = [rotation.angle for layer in layers for run in layer.runs for rotation in run.rotations]
        product = [r.angle for wire in reversed(program.product or ()) for r in wire]
        angles = [item.angle for layer in layers for item in layer.strings]
        angles += [item.angle for layer in layers for item in layer.sample_strings]
        angles += [item.angle for layer in layers for item in layer.sample_rotations]
        angles += [item.angle or Angle() for layer in layers for item in layer.blocks]
        angles += product
        n_runs = int(code[E.N_RUNS])
        n_slots = 3 * n_runs + len(angles) - len(product) + (3 * program.n_qubits if product else 0)
        self._slots = put(np.zeros((self._tile_blocks, self.batch, max(n_slots, 1)), real))
        self._n_jobs = n_slots - 2 * program.n_qubits if product else n_slots
        self._contributions = put(np.zeros((self.batch, max(3 * n_runs + len(angles), 1))))
        self._sums = make(max(3 * n_runs + len(angles), 1), np.float64)
        self._rotations = put(np.zeros(len(runs)))
        self._by_shared = [put(a) for a in _dependence(Kind.SHARED, program.n_shared, [*runs, *angles])]
        self._by_sample = [put(a) for a in _dependence(Kind.SAMPLE, program.n_sample, angles, 3 * n_runs)]
        self._d_shared = make(max(program.n_shared, 1), real)
        self._d_sample = make((self.batch, max(program.n_sample, 1)), real)

    def _placed(self, buffer: Any, given: Any) -> Any:
        """What kernels read: an array that is on the GPU as it is, one of the host in a buffer there."""
        if not isinstance(given, np.ndarray):
            return given
        buffer.copy_to_device(given)
        return buffer

    def _launch(self, kernel: Any, blocks: Any, threads: int, *arguments: Any, shared_bytes: int = 0) -> None:
        Counters.launches += 1
        kernel[blocks, threads, 0, shared_bytes](*arguments)

    @property
    def traffic_bytes(self) -> int:
        """Global memory that the states of one step take up on their way, read and written, bytes."""
        states = self.batch * 2**self.program.n_qubits * np.dtype(self.precision).itemsize
        return states * sum(plan.reads_and_writes for plan in self._plans)

    # --- the parts of a step: nothing waits for the GPU until results are copied ------------------------------------------

    def load(self, shared: Any, sample: Any) -> None:
        """Hand over parameters, (n_shared,) and (batch, n_sample), NumPy or device arrays; prepares rotations and phases."""
        if self.program.n_shared:
            self._shared = self._placed(self._buffers[0], shared)
        if self.program.n_sample:
            self._sample = self._placed(self._buffers[1], sample)
        n = self.program.n_qubits
        blocks = (max(1, min(MAX_GRID, 2**n // 128)), self._tabled.shape[0] + 1)
        arguments = (self._code, self._real_code, self._tabled, self._shared, self._turns, self._tables)
        self._launch(
            self._kernels.prepare, blocks, min(128, 2 ** max(n, 1)), *arguments, shared_bytes=16 * max(self._n_phases, 1)
        )

    def run(self) -> None:
        """The states after the last gate, on the GPU, and the sums of the observables' terms."""
        self.number_of_run = next(_RUNS)
        for plan in self._plans:
            if plan.moves:
                given = (self._code, self._real_code, self._layers, self._shared, self._sample, self._turns, self._tables)
                self._launch(
                    self._kernels.forward,
                    (plan.sample_blocks, self._tile_blocks),
                    plan.threads,
                    plan.forward,
                    *given,
                    self._psi,
                    self._terms,
                    shared_bytes=plan.forward_bytes,
                )

    def measure(self) -> Any:
        """Expectation values (batch, n_outputs) as a device array, after `run`."""
        if not self._probabilities_only:
            blocks, threads = (self.batch, self._tile_blocks), min(self._K.SUMMERS, 2**self.program.n_qubits)
            self._launch(self._K.measure_off_diagonal, blocks, threads, self._code, self._psi, self._terms)
        if self._tile_blocks > 1:
            self._launch(self._K.add_blocks, *_grid(self.batch * self._terms.shape[2]), self._terms)
        given = (self._code, self._real_code, self._terms, self._values)
        self._launch(self._K.outputs, *_grid(self._values.size), *given)
        return self._values

    def pull_back(self, cotangent: Any | None) -> tuple[Any, Any]:
        """Gradients (n_shared,) and (batch, n_sample) as device arrays, after `run`; overwrites the states.

        Args:
            cotangent: (batch, n_outputs), or None where `lam` holds the adjoint states already.
        """
        self.number_of_run = 0  # the states are taken back
        if cotangent is not None:
            self._cotangent = self._placed(self._buffers[2], cotangent)
            if not self._probabilities_only:
                size, threads = 2**self.program.n_qubits, min(128, 2**self.program.n_qubits)
                given = (self._code, self._real_code, self._cotangent, self._psi, self._lam)
                self._launch(self._K.start_adjoint, (self.batch, min(MAX_GRID, -(-size // threads))), threads, *given)
        given = (self._code, self._real_code, self._layers, self._shared, self._sample, self._cotangent, self._turns)
        for plan in reversed(self._plans):
            self._launch(
                self._kernels.backward,
                (plan.sample_blocks, self._tile_blocks),
                plan.threads,
                plan.backward,
                *given,
                self._tables,
                self._psi,
                self._lam,
                self._slots,
                shared_bytes=plan.backward_bytes,
            )
        K = self._K
        given = (self._code, self._real_code, self._shared)
        if self._n_jobs:
            grid = _grid(self.batch * self._n_jobs)
            self._launch(K.collect, *grid, *given, self._sample, self._slots, self._contributions)
        if self.program.n_shared:
            summers = min(K.SUMMERS, self.batch)
            self._launch(K.add_up, self._sums.size, summers, self._contributions, self._sums)
            _, threads = _grid(max(self._rotations.size, self.program.n_shared))
            self._launch(
                K.shared_gradients, 1, threads, *given, self._sums, self._rotations, *self._by_shared, self._d_shared
            )
        if self.program.n_sample:
            self._launch(
                K.sample_gradients, *_grid(self._d_sample.size), self._contributions, *self._by_sample, self._d_sample
            )
        return self._d_shared, self._d_sample

    # --- with NumPy arrays ----------------------------------------------------------------------------------------------

    def start_from(self, initial: np.ndarray) -> None:
        """Hand over first states, (1 or batch, 2**n_qubits) complex, where the program has no product start."""
        self._psi.copy_to_device(_planes(np.broadcast_to(initial, (self.batch, initial.shape[1])), REAL[self.precision]))

    def step(
        self, shared: np.ndarray, sample: np.ndarray, cotangent: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Expectation values (batch, n_outputs) and gradients of sum(cotangent * values): (n_shared,), (batch, n_sample)."""
        self.load(shared, sample)
        self.run()
        values = self.measure().copy_to_host()
        return values, *self.gradients(cotangent)

    def gradients(self, cotangent: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """`pull_back` with results on the host."""
        d_shared, d_sample = (found.copy_to_host() for found in self.pull_back(cotangent))
        return d_shared[: self.program.n_shared], d_sample[:, : self.program.n_sample]

    def states(self) -> np.ndarray:
        """The states after the last gate, (batch, 2**n_qubits) in wire order, without their global phase."""
        return self._complex(self._psi)[:, _physical_of_wire_order(self.program)]

    def start_adjoint_from(self, cotangent: np.ndarray) -> None:
        """Hand over the cotangent of `states`, (batch, 2**n_qubits) complex."""
        given = np.empty_like(cotangent)
        given[:, _physical_of_wire_order(self.program)] = cotangent
        self._lam.copy_to_device(_planes(given, REAL[self.precision]))

    def initial_gradient(self) -> np.ndarray:
        """Gradients with respect to the first states, (batch, 2**n_qubits), after `pull_back`."""
        return self._complex(self._lam)

    def _complex(self, planes: Any) -> np.ndarray:
        found = planes.copy_to_host()
        return (found[:, 0] + 1j * found[:, 1]).astype(self.precision)


class _Plan:
    """A pass as the kernels read it: one array forward and one backward, for a batch and a precision."""

    def __init__(self, session: Session, one: P.Pass, code: np.ndarray, moves: bool) -> None:
        self._pass, self._code, self.moves = one, code, moves
        bits = len(one.vectors)
        workers = min(2 ** max(bits - 1, 0), THREADS[session.precision])
        self._itemsize = np.dtype(REAL[session.precision]).itemsize
        self._workers, self._n = workers, session.program.n_qubits
        # Small states share a block of threads, up to a warp of them, if what each sample decides has room.
        self._samples = max(1, min(32 // workers, 1 << (session.batch - 1).bit_length()))
        decided = int(2 * code[E.N_SAMPLE_ROTATIONS] + code[E.N_SAMPLE_STRINGS]) + 4 * self._n
        while self._samples > 1 and self._samples * (6 * 2**bits + decided) * self._itemsize > SHARED_BYTES // 2:
            self._samples //= 2
        self.threads = self._samples * workers
        self.sample_blocks = -(-session.batch // self._samples)

    def upload(self, cuda: ModuleType, starts: bool, ends: bool, from_probabilities: bool, first: bool) -> None:
        from hybridbench.engine.cuda.kernels import layout as K

        code, one = self._code, self._pass
        bits = len(one.vectors)
        adjoint_starts = ends and from_probabilities
        # The last to go back need not write, unless the gradient of first states is asked for.
        goes_back = self.moves and (not first or not code[E.HAS_PRODUCT])
        # Forward the state, back the state and the adjoint one, which may begin here.
        self.reads_and_writes = self.moves * (2 - starts) + 2 - adjoint_starts + 2 * goes_back
        area = self._samples << bits
        scratch = max(area, K.COLUMNS * self.threads)
        decided = int(2 * code[E.N_SAMPLE_ROTATIONS] + code[E.N_SAMPLE_STRINGS])
        words = np.zeros(K.HEADER, np.int64)
        words[[K.TILE_BITS, K.SAMPLES, K.WORKERS, K.N_FREE]] = bits, self._samples, self._workers, len(one.free_bits)
        words[K.N_OPERATIONS] = len(one.operations)
        terms = [self._local(mask) for mask in self._masks(E.AT_DIAGONAL, E.N_DIAGONAL, E.TERM, 4)]
        strings = [self._local(mask) for mask in self._masks(E.AT_STRINGS, E.N_STRINGS, E.STRING, 0)]
        strings += [self._local(mask) for mask in self._masks(E.AT_SAMPLE_STRINGS, E.N_SAMPLE_STRINGS, E.STRING, 0)]
        parts = [one.vectors, one.free_bits, one.operations.ravel(), np.array(terms), np.array(strings)]
        starts_at = K.HEADER + np.cumsum([0, *map(len, parts)])
        words[[K.AT_FREE, K.AT_OPERATIONS, K.AT_TERMS, K.AT_STRINGS]] = starts_at[1:5]
        body = np.concatenate([np.asarray(part, np.int64) for part in parts])

        def uploaded(store: int, size: int, **flags: bool) -> tuple[Any, int]:
            words[[K.AT_STORE, K.STORE_SIZE]] = store, size
            for name in ("FROM_PRODUCT", "MEASURES", "ADJOINT_STARTS", "WRITES"):
                words[getattr(K, name)] = flags.get(name, False)
            needed = (store + self._samples * size) * self._itemsize
            if needed > SHARED_BYTES - 8 * K.COLUMNS:
                raise ConfigurationError(
                    f"The circuit has {decided} angles per sample after its first entangling gates, more than fit into a "
                    "block of the GPU's shared memory: use engine='cpu'."
                )
            return cuda.to_device(np.concatenate([words, body])), needed

        self.forward, self.forward_bytes = uploaded(
            2 * area + area, decided + 4 * self._n, FROM_PRODUCT=starts, MEASURES=ends, WRITES=True
        )
        self.backward, self.backward_bytes = uploaded(
            4 * area + scratch,
            decided,
            ADJOINT_STARTS=adjoint_starts,
            WRITES=goes_back,
        )

    def _masks(self, at: int, count: int, record: int, place: int) -> Iterable[int]:
        start = int(self._code[at])
        return (int(self._code[start + j * record + place]) for j in range(int(self._code[count])))

    def _local(self, mask: int) -> int:
        return P.local_z(self._pass.vectors, mask)


def _dependence(kind: Kind, n: int, angles: list[Angle], first: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each parameter of a kind the places of the angles that depend on it, and how much: starts, places, scales."""
    found: list[list[tuple[int, float]]] = [[] for _ in range(n)]
    for place, angle in enumerate(angles, first):
        if angle.kind is kind:
            found[angle.index].append((place, angle.scale))
    starts = np.cumsum([0, *map(len, found)])
    flat = [pair for pairs in found for pair in pairs] or [(0, 0.0)]
    return starts.astype(np.int64), np.array([p for p, _ in flat], np.int64), np.array([s for _, s in flat])


def _planes(states: np.ndarray, real: type) -> np.ndarray:
    return np.ascontiguousarray(np.stack([states.real, states.imag], axis=1), real)


@lru_cache(maxsize=64)
def _physical_of_wire_order(program: Program) -> np.ndarray:
    """For each index in wire order the physical index."""
    n = program.n_qubits
    physical = np.arange(2**n)
    wire_order = np.zeros_like(physical)
    for z_mask, flip in program.frame:
        wire_order = 2 * wire_order + ((np.bitwise_count(physical & z_mask) & 1) ^ flip)
    found = np.empty_like(physical)
    found[wire_order] = physical
    return found


@lru_cache(maxsize=SESSIONS)
def session(program: Program, batch: int, precision: str, for_states: bool = False) -> Session:
    """A session that is kept for the next call of the same size."""
    return Session(program, batch, precision, for_states=for_states)
