"""Whole QNodes drawn at random, for comparison with `default.qubit` in double precision.

A drawn circuit is a list of sentences and the functions that they stand for, of inputs (..., features) and weights (n,),
written with `qml.math`, so that every interface runs it. `check` compares one with PennyLane on every road to the engine.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import numpy as np
import pennylane as qml
from hypothesis import strategies as st

N_WEIGHTS = 12
SEEDS = st.integers(0, 2**31 - 1)
fnp = qml.math


@dataclass
class Column:
    """A feature as people have it: raw numbers around an offset, which the circuit brings back to about 1."""

    offset: float
    scale: float

    def values(self, rng, rows):
        return self.offset + self.scale * rng.uniform(-2, 2, rows)


@dataclass
class Drawn:
    """A circuit and data for it."""

    n_wires: int
    columns: list
    says: list = field(default_factory=list)
    steps: list = field(default_factory=list)
    measures: list = field(default_factory=list)
    single: bool = True
    transform: object = None
    dtype: str = "float64"
    batch: int = 3
    seed: int = 0

    def function(self, inputs, weights):
        for step in self.steps:
            step(inputs, weights)
        found = [measure() for measure in self.measures]
        return found[0] if self.single else found

    def data(self):
        rng = np.random.default_rng(self.seed)
        x = np.stack([column.values(rng, self.batch) for column in self.columns], axis=1)
        return x, rng.uniform(-3, 3, N_WEIGHTS)

    def __repr__(self):
        head = f"{self.n_wires} wires, {self.dtype}, batch {self.batch}, seed {self.seed}, columns {self.columns}"
        return "\n  ".join([head, *self.says, f"transform {self.transform}"])


# --- numbers ---------------------------------------------------------------------------------------------------------------

FUNCTIONS = {
    "sin": fnp.sin,
    "abs": fnp.abs,
    "clip": lambda v: fnp.clip(v, -1.0, 0.5),
    "floor": lambda v: fnp.floor(v * 2.0),
    "square": lambda v: v * v,
    "arctan": fnp.arctan,
    "exp": lambda v: fnp.exp(v * 0.3),
    "negative": lambda v: -v,
    "there and back": lambda v: (v + 1e6) - 1e6,
    "third": lambda v: v / 3 + 0.1 * v - v * 0.2,
    "high": lambda v: 40.0 * v + 3.0,
    "higher": lambda v: 1e3 * v,
}


class Source:
    """Draws numbers, wires and matrices of one circuit."""

    def __init__(self, draw, circuit):
        self.draw, self.circuit = draw, circuit
        self.rng = np.random.default_rng(draw(SEEDS))

    def pick(self, options):
        return self.draw(st.sampled_from(list(options)))

    def wires(self, k):
        order = self.draw(st.permutations(range(self.circuit.n_wires)))
        return list(order[:k])

    def _plain(self, kinds):
        kind = self.pick(kinds)
        if kind == "constant":
            value = self.pick([0.0, 0.3, -1.7, np.pi, 2])
            return f"{value}", lambda x, w: value
        if kind == "weight":
            i = self.draw(st.integers(0, N_WEIGHTS - 1))
            return f"w[{i}]", lambda x, w: w[i]
        j = self.draw(st.integers(0, len(self.circuit.columns) - 1))
        column = self.circuit.columns[j]
        if (column.offset, column.scale) == (0.0, 1.0):
            return f"x{j}", lambda x, w: x[..., j]
        if self.draw(st.booleans()):
            return f"(x{j} - {column.offset}) / {column.scale}", lambda x, w: (x[..., j] - column.offset) / column.scale
        by = 1 / column.scale
        return f"x{j} * {by} - {column.offset * by}", lambda x, w: x[..., j] * by - column.offset * by

    def angle(self, kinds=("weight", "feature", "constant")):
        """(sentence, function of inputs and weights)."""
        says, value = self._plain(kinds)
        if says[0].isdigit() or says[0] == "-" or self.draw(st.integers(0, 2)):
            return says, value
        if self.draw(st.booleans()):
            name = self.pick(FUNCTIONS)
            return f"{name}({says})", lambda x, w: FUNCTIONS[name](value(x, w))
        other_says, other = self._plain(("weight", "feature") if "feature" in kinds else ("weight",))
        if self.draw(st.booleans()):
            return f"{says} * {other_says}", lambda x, w: value(x, w) * other(x, w)
        return f"{says} + {other_says}", lambda x, w: value(x, w) + other(x, w)

    def weights(self, *shape):
        """An array out of the weights, whose sizes repeat."""
        size = int(np.prod(shape))
        index = [int(i) for i in self.rng.integers(0, N_WEIGHTS, size)]
        return lambda x, w: fnp.reshape(fnp.stack([w[i] for i in index]), shape)

    def features(self, n):
        """The first n features in their own size, shape (..., n)."""
        parts = []
        for j in range(n):
            column = self.circuit.columns[j % len(self.circuit.columns)]
            parts.append((j % len(self.circuit.columns), column))
        return lambda x, w: fnp.stack([(x[..., j] - c.offset) / c.scale for j, c in parts], axis=-1)

    def unitary(self, k):
        from scipy.stats import unitary_group

        return unitary_group.rvs(2**k, random_state=self.rng) if k else np.eye(1)

    def hermitian(self, k):
        matrix = self.rng.normal(size=(2**k, 2**k)) + 1j * self.rng.normal(size=(2**k, 2**k))
        return (matrix + matrix.conj().T) / 2

    def word(self, k):
        return "".join(self.pick("XYZ") for _ in range(k))

    def observable(self):
        """(sentence, function that makes it)."""
        kind = self.pick(["pauli", "pauli", "product", "sum", "hamiltonian", "hermitian", "projector", "hadamard", "sparse"])
        n = self.circuit.n_wires
        if kind == "pauli":
            name, wire = self.pick("XYZ"), self.wires(1)
            return f"{name}{wire}", lambda: getattr(qml, name)(wire[0])
        if kind == "hadamard":
            wire = self.wires(1)
            return f"Hadamard{wire}", lambda: qml.Hadamard(wire[0])
        if kind == "hermitian":
            k = min(n, self.draw(st.integers(1, 2)))
            wires, matrix = self.wires(k), self.hermitian(k)
            return f"Hermitian{wires}", lambda: qml.Hermitian(matrix, wires)
        if kind == "projector":
            wires = self.wires(min(n, 2))
            bits = [int(b) for b in self.rng.integers(0, 2, len(wires))]
            return f"Projector{bits}{wires}", lambda: qml.Projector(bits, wires)
        wires = self.wires(min(n, 2))
        words = [self.word(len(wires)) for _ in range(2)]
        coefficients = [float(c) for c in self.rng.uniform(-2, 2, 2)]
        terms = [
            lambda word=word: qml.pauli.string_to_pauli_word(
                word, dict(enumerate(wires)) and {w: i for i, w in enumerate(wires)}
            )
            for word in words
        ]
        if kind == "product":
            return f"{words[0]}{wires}", terms[0]
        if kind == "sum":
            return f"{coefficients} {words}{wires}", lambda: qml.dot(coefficients, [t() for t in terms])
        if kind == "sparse":
            return (
                f"sparse {coefficients} {words}{wires}",
                lambda: qml.SparseHamiltonian(
                    qml.dot(coefficients, [t() for t in terms]).sparse_matrix(wire_order=range(n)), wires=range(n)
                ),
            )
        return f"Hamiltonian {coefficients} {words}{wires}", lambda: qml.Hamiltonian(coefficients, [t() for t in terms])


# --- operations ------------------------------------------------------------------------------------------------------------

ONE = ["RX", "RY", "RZ", "PhaseShift", "U1"]
TWO = ["IsingXX", "IsingYY", "IsingZZ", "IsingXY", "CRX", "CRY", "CRZ", "ControlledPhaseShift", "CPhaseShift00",
       "CPhaseShift01", "CPhaseShift10", "PSWAP", "SingleExcitation",
       "SingleExcitationPlus", "SingleExcitationMinus", "FermionicSWAP"]  # fmt: skip
FOUR = ["DoubleExcitation", "DoubleExcitationPlus", "DoubleExcitationMinus", "OrbitalRotation"]
FIXED = {"Hadamard": 1, "PauliX": 1, "PauliY": 1, "PauliZ": 1, "S": 1, "T": 1, "SX": 1, "Identity": 1, "CNOT": 2, "CZ": 2,
         "CY": 2, "CH": 2, "SWAP": 2, "ISWAP": 2, "SISWAP": 2, "ECR": 2, "Toffoli": 3, "CSWAP": 3, "CCZ": 3, "QFT": 3,
         "GroverOperator": 3, "Barrier": 2, "WireCut": 1}  # fmt: skip


class Repeated(qml.operation.Operation):
    """An operation of somebody's own whose depth is an attribute."""

    num_wires, num_params, ndim_params = 1, 1, (0,)

    def __init__(self, angle, wires, times):
        self.times = times
        super().__init__(angle, wires=wires)

    def decomposition(self):
        return [qml.RY(self.data[0], self.wires) for _ in range(self.times)]


class Bent(qml.operation.Operation):
    """An operation of somebody's own that is not smooth in its angle."""

    num_wires, num_params, ndim_params = 1, 1, (0,)

    @staticmethod
    def compute_decomposition(angle, wires):
        return [qml.RX(fnp.abs(angle), wires), qml.RZ(fnp.clip(angle, -1.0, 1.0), wires)]


class Fixed(qml.operation.Operation):
    """An operation of somebody's own with a matrix that an attribute decides."""

    num_wires, num_params = 1, 0

    def __init__(self, turn, wires):
        self.turn = turn
        super().__init__(wires=wires)

    def matrix(self, wire_order=None):
        c, s = np.cos(self.turn), np.sin(self.turn)
        return np.array([[c, -s], [s, c]])

    has_matrix = True


def _queue(*parts):
    return lambda x, w: [part(x, w) for part in parts]


def gates(source, depth=0):
    """(sentence, step) of one drawn operation; a step queues it."""
    n = source.circuit.n_wires
    kinds = ["one", "one", "rot", "two", "fixed", "fixed", "word", "multirz", "unitary", "diagonal", "template", "template",
             "own", "exp", "evolve", "trotter", "controlled", "power", "adjoint", "product", "multi", "phase", "pcphase",
             "four", "special", "u2", "u3", "block"]  # fmt: skip
    kind = source.pick([k for k in kinds if depth == 0 or k in ("one", "rot", "two", "fixed", "word", "unitary", "exp")])
    (says, angle), wires = source.angle(), source.wires(min(n, 2))
    if kind in ("one", "two") and (kind == "one" or n < 2):
        name, wire = source.pick(ONE), wires[0]
        return f"{name}({says}, {wire})", lambda x, w: getattr(qml, name)(angle(x, w), wires=wire)
    if kind == "two":
        name = source.pick(TWO)
        return f"{name}({says}, {wires})", lambda x, w: getattr(qml, name)(angle(x, w), wires=wires)
    if kind == "four" and n >= 4:
        name, wires = source.pick(FOUR), source.wires(4)
        return f"{name}({says}, {wires})", lambda x, w: getattr(qml, name)(angle(x, w), wires=wires)
    if kind == "rot":
        others = [source.angle() for _ in range(2)]
        name = "CRot" if n > 1 and source.draw(st.booleans()) else "Rot"
        wires = wires if name == "CRot" else wires[:1]
        return f"{name}({says}, {others[0][0]}, {others[1][0]}, {wires})", lambda x, w: getattr(qml, name)(
            angle(x, w), others[0][1](x, w), others[1][1](x, w), wires=wires
        )
    if kind in ("u2", "u3"):
        others = [source.angle() for _ in range(2 if kind == "u3" else 1)]
        return f"{kind}({says}, {[o[0] for o in others]}, {wires[:1]})", lambda x, w: getattr(qml, kind.upper())(
            angle(x, w), *(o[1](x, w) for o in others), wires=wires[0]
        )
    if kind == "word":
        k = source.draw(st.integers(1, n))
        word, wires = "".join(source.pick("XYZI") for _ in range(k)), source.wires(k)
        return f"PauliRot({says}, {word}, {wires})", lambda x, w: qml.PauliRot(angle(x, w), word, wires=wires)
    if kind == "multirz":
        wires = source.wires(source.draw(st.integers(1, n)))
        return f"MultiRZ({says}, {wires})", lambda x, w: qml.MultiRZ(angle(x, w), wires=wires)
    if kind == "unitary":
        k = source.draw(st.integers(1, n))
        matrix, wires = source.unitary(k), source.wires(k)
        matrix = matrix.astype(np.complex64) if source.draw(st.integers(0, 4)) == 0 else matrix
        return f"QubitUnitary({matrix.dtype}, {wires})", lambda x, w: qml.QubitUnitary(matrix, wires=wires)
    if kind == "diagonal":
        k = source.draw(st.integers(1, n))
        values, wires = np.exp(1j * source.rng.uniform(0, 6, 2**k)), source.wires(k)
        return f"DiagonalQubitUnitary({wires})", lambda x, w: qml.DiagonalQubitUnitary(values, wires=wires)
    if kind == "phase":
        return f"GlobalPhase({says})", lambda x, w: qml.GlobalPhase(angle(x, w))
    if kind == "pcphase":
        dim = source.draw(st.integers(1, 2 ** len(wires)))
        return f"PCPhase({says}, {dim}, {wires})", lambda x, w: qml.PCPhase(angle(x, w), dim=dim, wires=wires)
    if kind == "special":
        k = len(wires)
        values = source.weights(4**k - 1)
        return f"SpecialUnitary({wires})", lambda x, w: qml.SpecialUnitary(values(x, w), wires=wires)
    if kind == "block":
        matrix = source.rng.uniform(-0.5, 0.5, (2, 2))
        return f"BlockEncode({wires})", lambda x, w: qml.BlockEncode(matrix, wires=wires) if len(wires) == 2 else None
    if kind == "own":
        name, wire, times = source.pick(["repeated", "bent", "fixed"]), wires[0], source.draw(st.integers(1, 3))
        made = {
            "repeated": lambda x, w: Repeated(angle(x, w), wire, times),
            "bent": lambda x, w: Bent(angle(x, w), wires=wire),
            "fixed": lambda x, w: Fixed(0.3 * times, wire),
        }[name]
        return f"{name}({says}, {times}, {wire})", made
    if kind in ("exp", "evolve", "trotter"):
        word = source.word(len(wires))
        made = lambda: qml.pauli.string_to_pauli_word(word, {w: i for i, w in enumerate(wires)})  # noqa: E731
        number = float(source.rng.uniform(-2, 2))
        if kind == "exp":
            return f"exp({number}j {word}{wires})", lambda x, w: qml.exp(made(), 1j * number)
        if kind == "evolve":
            if source.draw(st.booleans()):
                return f"evolve({word}{wires}, {number})", lambda x, w: qml.evolve(made(), number)
            i = source.draw(st.integers(0, N_WEIGHTS - 1))
            return f"evolve({word}{wires}, w[{i}])", lambda x, w: qml.evolve(made(), w[i])
        hamiltonian = lambda: qml.dot([0.7, number], [made(), qml.Z(wires[0])])  # noqa: E731
        order, steps = source.pick([1, 2]), source.draw(st.integers(1, 2))
        which = source.pick(["TrotterProduct", "ApproxTimeEvolution", "QDrift", "CommutingEvolution"])
        if which == "TrotterProduct":
            made_it = lambda x, w: qml.TrotterProduct(hamiltonian(), number, n=steps, order=order)  # noqa: E731
        elif which == "ApproxTimeEvolution":
            made_it = lambda x, w: qml.ApproxTimeEvolution(hamiltonian(), number, steps)  # noqa: E731
        elif which == "QDrift":
            made_it = lambda x, w: qml.QDrift(hamiltonian(), number, n=steps, seed=1)  # noqa: E731
        else:
            made_it = lambda x, w: qml.CommutingEvolution(qml.dot([0.7], [made()]), w[0])  # noqa: E731
        return f"{which}({number}, {word}{wires}, {steps}, {order})", made_it
    if kind == "multi" and n > 1:
        wires = source.wires(source.draw(st.integers(2, n)))
        values = [bool(b) for b in source.rng.integers(0, 2, len(wires) - 1)]
        return f"MultiControlledX({wires}, {values})", lambda x, w: qml.MultiControlledX(wires, control_values=values)
    if kind in ("controlled", "power", "adjoint", "product") and depth == 0:
        circuit, free = source.circuit, None
        if kind == "controlled" and n > 1:
            free = circuit.n_wires - 1
            circuit.n_wires = free
        says, inner = gates(source, depth + 1)
        if free is not None:
            circuit.n_wires = free + 1
            value = source.draw(st.booleans())
            return f"ctrl[{free}={value}] {says}", lambda x, w: _controlled(inner, x, w, free, value)
        if kind == "power":
            z = source.pick([2, 3, -1, 0, 0.5])
            return f"({says}) ** {z}", lambda x, w: _wrapped(inner, x, w, lambda op: qml.pow(op, z))
        if kind == "product":
            other_says, other = gates(source, depth + 1)
            return f"prod({says}, {other_says})", lambda x, w: _product(inner, other, x, w)
        return f"adjoint {says}", lambda x, w: _wrapped(inner, x, w, qml.adjoint)
    if kind == "template":
        return templates(source)
    name = source.pick([name for name, k in FIXED.items() if k <= n])
    wires = source.wires(FIXED[name])
    return f"{name}({wires})", lambda x, w: getattr(qml, name)(wires=wires)


def _made(inner, x, w):
    with qml.QueuingManager.stop_recording():
        return inner(x, w)


def _wrapped(inner, x, w, wrap):
    op = _made(inner, x, w)
    return wrap(op) if op is not None else None


def _controlled(inner, x, w, wire, value):
    op = _made(inner, x, w)
    return qml.ctrl(op, control=wire, control_values=value) if op is not None else None


def _product(first, second, x, w):
    a, b = _made(first, x, w), _made(second, x, w)
    return qml.prod(a, b) if a is not None and b is not None else None


def templates(source):
    n = source.circuit.n_wires
    wires = list(range(n))
    options = {
        "AngleEmbedding": lambda: _angle_embedding(source, wires),
        "BasicEntanglerLayers": lambda: _weighted(qml.BasicEntanglerLayers, source.weights(2, n), wires),
        "StronglyEntanglingLayers": lambda: _weighted(qml.StronglyEntanglingLayers, source.weights(1, n, 3), wires),
        "SimplifiedTwoDesign": lambda: _two_design(source, wires),
        "RandomLayers": lambda: _random_layers(source, wires),
        "ArbitraryUnitary": lambda: _weighted(qml.ArbitraryUnitary, source.weights(4 ** min(n, 2) - 1), wires[:2]),
        "QFT": lambda: lambda x, w: qml.QFT(wires=wires),
        "AQFT": lambda: lambda x, w: qml.AQFT(order=1, wires=wires),
        "IQPEmbedding": lambda: (lambda f: lambda x, w: qml.IQPEmbedding(f(x, w), wires=wires))(source.features(n)),
        "QAOAEmbedding": lambda: (
            lambda f, v: lambda x, w: qml.QAOAEmbedding(f(x, w), v(x, w), wires=wires)
        )(source.features(n), source.weights(1, {1: 1, 2: 3}.get(n, 2 * n))),
        "Permute": lambda: (lambda p: lambda x, w: qml.Permute(p, wires=wires) if n > 1 else None)(source.wires(n)),
        "FlipSign": lambda: (lambda b: lambda x, w: qml.FlipSign(b, wires=wires))(
            [int(b) for b in source.rng.integers(0, 2, n)]
        ),
        "ControlledSequence": lambda: (
            lambda a: lambda x, w: qml.ControlledSequence(qml.RX(a(x, w), n - 1), control=wires[:-1]) if n > 1 else None
        )(source.angle(("weight",))[1]),
        "Select": lambda: (
            lambda a: lambda x, w: qml.Select([qml.RX(a(x, w), n - 1), qml.Z(n - 1)], control=0) if n > 1 else None
        )(source.angle(("weight",))[1]),
        "QuantumPhaseEstimation": lambda: (
            lambda u: lambda x, w: qml.QuantumPhaseEstimation(
                qml.QubitUnitary(u, wires=n - 1), estimation_wires=wires[:-1]
            ) if n > 1 else None
        )(source.unitary(1)),
        "FermionicSingleExcitation": lambda: (
            lambda a: lambda x, w: qml.FermionicSingleExcitation(a(x, w), wires=wires) if n > 1 else None
        )(source.angle(("weight",))[1]),
        "ParticleConservingU2": lambda: (
            lambda v: lambda x, w: qml.ParticleConservingU2(v(x, w), wires=wires, init_state=[0] * n) if n > 1 else None
        )(source.weights(1, 2 * n - 1)),
        "TwoLocalSwapNetwork": lambda: lambda x, w: qml.TwoLocalSwapNetwork(wires, qml.CZ) if n > 1 else None,
        "Reflection": lambda: (
            lambda a: lambda x, w: qml.Reflection(qml.Hadamard(0), alpha=a(x, w))
        )(source.angle(("weight",))[1]),
        "Snapshot": lambda: lambda x, w: qml.Snapshot(),
    }  # fmt: skip
    name = source.pick(options)
    return name, options[name]()


def _weighted(template, weights, wires):
    return lambda x, w: template(weights(x, w), wires=wires)


def _angle_embedding(source, wires):
    features, axis = source.features(len(wires)), source.pick("XYZ")
    return lambda x, w: qml.AngleEmbedding(features(x, w), wires=wires, rotation=axis)


def _two_design(source, wires):
    first, rest = source.weights(len(wires)), source.weights(1, max(len(wires) - 1, 1), 2)
    return lambda x, w: qml.SimplifiedTwoDesign(first(x, w), rest(x, w), wires=wires) if len(wires) > 1 else None


def _random_layers(source, wires):
    weights, seed = source.weights(1, 3), source.draw(st.integers(0, 5))
    return lambda x, w: qml.RandomLayers(weights(x, w), wires=wires, seed=seed)


def preparations(source):
    """(sentence, step) of a first state, or of none."""
    n = source.circuit.n_wires
    kind = source.pick(["none", "none", "none", "amplitudes", "softmax", "raw", "basis", "constant", "padded", "mottonen"])
    wires = list(range(n))
    if kind == "none":
        return None
    if kind == "basis":
        bits = np.array([int(b) for b in source.rng.integers(0, 2, n)])
        return f"BasisState({bits})", lambda x, w: qml.BasisState(bits, wires=wires)
    if kind == "constant":
        state = source.rng.normal(size=2**n) + 1j * source.rng.normal(size=2**n)
        return "StatePrep(constant)", lambda x, w: qml.StatePrep(state / np.linalg.norm(state), wires=wires)
    if kind == "mottonen":
        state = np.abs(source.rng.normal(size=2**n)) + 0.1
        return "Mottonen", lambda x, w: qml.MottonenStatePreparation(state / np.linalg.norm(state), wires=wires)
    features = source.features(2**n)
    if kind == "amplitudes":
        return "AmplitudeEmbedding(normalize)", lambda x, w: qml.AmplitudeEmbedding(features(x, w), wires, normalize=True)
    if kind == "padded":
        few, fill = source.features(max(2**n - 1, 1)), source.pick([0.0, 0.3])
        return f"AmplitudeEmbedding(pad {fill})", lambda x, w: qml.AmplitudeEmbedding(
            few(x, w), wires, pad_with=fill, normalize=True
        )
    if kind == "softmax":

        def softmax(x, w):
            grown = fnp.exp(features(x, w))
            return qml.StatePrep(fnp.sqrt(grown / fnp.sum(grown, axis=-1)[..., None]), wires=wires)

        return "StatePrep(softmax)", softmax
    return "StatePrep(raw)", lambda x, w: qml.StatePrep(features(x, w), wires=wires)


def measurements(source):
    n = source.circuit.n_wires
    kind = source.pick(["expval", "expval", "expval", "var", "probs", "probs of", "state", "density", "purity", "entropy"])
    if kind in ("expval", "var"):
        says, observable = source.observable()
        return f"{kind} {says}", lambda: getattr(qml, kind)(observable())
    wires = source.wires(source.draw(st.integers(1, n)))
    if kind == "probs of":
        word, wires = source.word(min(n, 2)), source.wires(min(n, 2))
        return f"probs of {word}{wires}", lambda: qml.probs(
            op=qml.pauli.string_to_pauli_word(word, {w: i for i, w in enumerate(wires)})
        )
    made = {
        "probs": lambda: qml.probs(wires=wires),
        "state": qml.state,
        "density": lambda: qml.density_matrix(wires[:1]),
        "purity": lambda: qml.purity(wires[:1]),
        "entropy": lambda: qml.vn_entropy(wires[:1]),
    }[kind]
    return f"{kind} {wires}", made


TRANSFORMS = {
    "none": None,
    "cancel_inverses": qml.transforms.cancel_inverses,
    "merge_rotations": qml.transforms.merge_rotations,
    "commute_controlled": qml.transforms.commute_controlled,
    "single_qubit_fusion": qml.transforms.single_qubit_fusion,
    "split_non_commuting": qml.transforms.split_non_commuting,
    "broadcast_expand": qml.transforms.broadcast_expand,
    "compile": qml.compile,
    "defer_measurements": qml.defer_measurements,
    "combine_global_phases": qml.transforms.combine_global_phases,
    "split_to_single_terms": qml.transforms.split_to_single_terms,
}


@st.composite
def circuits(draw):
    """A `Drawn` circuit."""
    n = draw(st.integers(1, 5))
    columns = []
    for _ in range(draw(st.integers(1, 4))):
        if draw(st.integers(0, 2)):
            columns.append(Column(0.0, 1.0))
        else:
            columns.append(Column(*draw(st.sampled_from([
                (2000.0, 10.0), (210000.0, 120000.0), (1.7e9, 1e7), (101325.0, 500.0), (0.0, 1e6), (0.0, 1e-6), (0.0, 1e12),
                (0.0, 1e-12), (1e10, 1e9), (-3.0, 0.25), (0.5, 1.0), (255.0, 80.0)
            ]))))  # fmt: skip
    circuit = Drawn(n, columns)
    circuit.dtype = draw(st.sampled_from(["float64", "float64", "float32", "float32", "float16"]))
    circuit.batch, circuit.seed = draw(st.sampled_from([1, 2, 3, 4, 5])), draw(SEEDS)
    source = Source(draw, circuit)
    found = preparations(source)
    steps = [found] if found else []
    for _ in range(draw(st.integers(1, 7))):
        steps.append(gates(source))
    if draw(st.integers(0, 2)):
        (says, angle), wire = source.angle(("feature",)), source.wires(1)[0]
        steps.append((f"RX({says}, {wire})", lambda x, w: qml.RX(angle(x, w), wires=wire)))
    circuit.says, circuit.steps = [says for says, _ in steps], [step for _, step in steps]
    several = [measurements(source) for _ in range(draw(st.sampled_from([1, 1, 2, 3])))]
    circuit.single = len(several) == 1 and draw(st.booleans())
    circuit.says += [f"return {[says for says, _ in several]}{' alone' if circuit.single else ''}"]
    circuit.measures = [made for _, made in several]
    name = draw(st.sampled_from(["none"] * 6 + list(TRANSFORMS)))
    circuit.transform = None if name == "none" else name
    return circuit


def qnode(circuit, device, **options):
    made = qml.QNode(circuit.function, qml.device(device, wires=circuit.n_wires), **options)
    return TRANSFORMS[circuit.transform](made) if circuit.transform else made


def quiet():
    return warnings.catch_warnings(record=True)
