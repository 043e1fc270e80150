"""What a circuit can do before it is trained: size, expressibility, entangling capability, live parameters.

Random points: weights uniform in [0, 2 pi), features uniform in [-pi/2, pi/2), the range of the suite's data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pennylane as qml
from pennylane.pauli import PauliSentence, PauliWord, pauli_decompose, pauli_sentence
from scipy.special import xlogy

from hybridbench.circuits.ansatze import ANSAETZE
from hybridbench.circuits.qnode import original_circuit
from hybridbench.circuits.spec import CircuitSpec
from hybridbench.errors import ConfigurationError

LIVE_TOLERANCE = 1e-10  # backprop in complex128 leaves noise of about 1e-16 in a gradient that is exactly zero
_CHUNK = 500  # states simulated at once, so that memory does not grow with the number of samples


def random_points(spec: CircuitSpec, n: int, rng: np.random.Generator) -> tuple[np.ndarray | None, np.ndarray]:
    """Features, shape (n, n_features), or None without an embedding; weights, shape (n, *weight_shape). Radians."""
    inputs = rng.uniform(-np.pi / 2, np.pi / 2, (n, spec.n_features)) if spec.n_features else None
    return inputs, rng.uniform(0.0, 2 * np.pi, (n, *spec.weight_shape))


def states(spec: CircuitSpec, inputs: np.ndarray | None, weights: np.ndarray) -> np.ndarray:
    """State vectors of a batch of points, shape (n, 2**n_qubits), complex, wire 0 most significant."""

    @qml.qnode(qml.device("default.qubit", wires=spec.n_qubits), diff_method=None)
    def state(x: Any, w: Any) -> qml.measurements.StateMP:
        spec.apply(x, w)
        return qml.state()

    starts = range(0, len(weights), _CHUNK)
    chunks = [(None if inputs is None else inputs[i : i + _CHUNK], weights[i : i + _CHUNK]) for i in starts]
    return np.concatenate([np.broadcast_to(state(x, w), (len(w), 2**spec.n_qubits)) for x, w in chunks])


@dataclass(frozen=True)
class Size:
    """Gates of a circuit as it is written down; a state preparation counts as one gate."""

    n_parameters: int
    n_gates: int
    n_two_qubit_gates: int  #: gates of the ansatz's entangler
    depth: int  #: gates on the longest path


def size(spec: CircuitSpec) -> Size:
    """Parameters, gates and depth, counted by `qml.specs`."""

    @qml.qnode(qml.device("default.qubit", wires=spec.n_qubits))
    def circuit(x: Any, w: Any) -> qml.measurements.ExpectationMP:
        spec.apply(x, w)
        return qml.expval(qml.Z(0))

    resources = qml.specs(circuit, level="top")(np.ones(spec.n_features), np.ones(spec.weight_shape))["resources"]
    n_two = resources.gate_types.get(ANSAETZE[spec.ansatz].two_qubit_gate.__name__, 0)
    return Size(spec.n_parameters, resources.num_gates, n_two, resources.depth)


def fidelities(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """|<left|right>|^2 row by row, between 0 and 1. left, right: (n, 2**n_qubits)."""
    return np.clip(np.abs(np.einsum("ij,ij->i", left.conj(), right)) ** 2, 0.0, 1.0)


def haar_log_probabilities(edges: np.ndarray, dimension: int) -> np.ndarray:
    """Log of the chance that two Haar-random states have a fidelity in each bin.

    P(F) = (N-1)(1-F)^(N-2) integrates to (1-a)^(N-1) - (1-b)^(N-1) over a bin [a, b] (Zyczkowski, Sommers, Phys. Rev. A 71,
    032313, 2005). In logs, since the last bins underflow from about 8 qubits on.
    """
    a, b = edges[:-1], edges[1:]
    return (dimension - 1) * np.log1p(-a) + np.log1p(-(((1 - b) / (1 - a)) ** (dimension - 1)))


def divergence_from_haar(values: np.ndarray, dimension: int, n_bins: int = 75) -> float:
    """Kullback-Leibler divergence, in nats, of fidelities from those of Haar-random states.

    Expr of Sim, Johnson, Aspuru-Guzik, Adv. Quantum Technol. 2, 1900070 (2019), with their 75 bins. 0 is Haar; a circuit
    that does nothing has (dimension - 1) ln 75. Finite samples bias it upwards by about (filled bins - 1) / (2 len(values)).
    The bins are equally wide, so from about 7 qubits on nearly all fidelities (near 1 / dimension) share the first one.
    """
    counts, edges = np.histogram(values, bins=n_bins, range=(0.0, 1.0))
    p = counts / counts.sum()
    return float(np.sum(xlogy(p, p) - p * haar_log_probabilities(edges, dimension)))


def expressibility(spec: CircuitSpec, n_pairs: int = 2000, seed: int = 0) -> float:
    """How far the states that the weights reach are from Haar-random ones, in nats; lower is more expressive.

    Both states of a pair encode the same random features: it is the trainable part that is judged. See
    `divergence_from_haar`.
    """
    rng = np.random.default_rng(seed)
    inputs, left = random_points(spec, n_pairs, rng)
    _, right = random_points(spec, n_pairs, rng)
    return divergence_from_haar(fidelities(states(spec, inputs, left), states(spec, inputs, right)), 2**spec.n_qubits)


def meyer_wallach(vectors: np.ndarray) -> np.ndarray:
    """Meyer-Wallach measure of pure states: 0 for product states, 1 where every qubit alone is maximally mixed.

    Q = 2 (1 - mean over qubits of Tr rho_k^2) (Meyer, Wallach, J. Math. Phys. 43, 4273, 2002; this form: Brennen, 2003).

    Args:
        vectors: normalised states, shape (n, 2**n_qubits).

    Returns:
        Shape (n,).
    """
    n_qubits = int(vectors.shape[-1]).bit_length() - 1
    purity = np.zeros(len(vectors))
    for k in range(n_qubits):
        split = vectors.reshape(len(vectors), 2**k, 2, -1)
        rho = np.einsum("naib,najb->nij", split, split.conj())
        purity += np.sum(np.abs(rho) ** 2, axis=(1, 2))
    return 2 * (1 - purity / n_qubits)


def entangling_capability(spec: CircuitSpec, n_points: int = 1000, seed: int = 0) -> float:
    """Mean Meyer-Wallach measure over random points, 0 to 1 (Sim, Johnson, Aspuru-Guzik 2019).

    Embedding "amplitude" prepares entangled states by itself, so there it says little about the ansatz.
    """
    inputs, weights = random_points(spec, n_points, np.random.default_rng(seed))
    return float(meyer_wallach(states(spec, inputs, weights)).mean())


@dataclass(frozen=True)
class Liveness:
    """Which parameters ever move an output."""

    largest: np.ndarray  #: largest |d output / d parameter| over points and outputs, shape weight_shape

    @property
    def live(self) -> np.ndarray:
        """True where the gradient is ever above `LIVE_TOLERANCE`."""
        return self.largest > LIVE_TOLERANCE

    @property
    def n_live(self) -> int:
        """Number of live parameters."""
        return int(self.live.sum())

    @property
    def share(self) -> float:
        """n_live over all parameters."""
        return self.n_live / self.live.size


def gradient_liveness(
    spec: CircuitSpec, n_points: int = 20, seed: int = 0, observables: Sequence[qml.operation.Operator] | None = None
) -> Liveness:
    """Find the parameters whose gradient is ever non-zero; the others cannot be trained, whatever the optimizer.

    Args:
        spec: the circuit.
        n_points: random points; at a generic point a live parameter already shows, so few are enough.
        seed: of the points.
        observables: what is measured; Z on each wire unless given.
    """
    from pennylane import numpy as pnp  # autograd: gradients without importing TensorFlow

    observables = observables or [qml.Z(wire) for wire in range(spec.n_qubits)]
    inputs, weights = random_points(spec, n_points, np.random.default_rng(seed))
    device = qml.device("default.qubit", wires=spec.n_qubits)
    largest = np.zeros(spec.weight_shape)
    for observable in observables:

        @qml.qnode(device, diff_method="backprop", interface="autograd")
        def output(w: Any, observable: qml.operation.Operator = observable) -> qml.measurements.ExpectationMP:
            spec.apply(inputs, w)
            return qml.expval(observable)

        # Points do not mix, so the gradient of their sum holds each point's own gradient.
        gradient = qml.grad(lambda w, output=output: pnp.sum(output(w)))(pnp.array(weights, requires_grad=True))
        largest = np.maximum(largest, np.abs(np.asarray(gradient)).max(axis=0))
    return Liveness(largest)


def conjugate(observable: PauliSentence, gate: qml.operation.Operator) -> PauliSentence:
    """gate^dagger observable gate, for a gate that is its own inverse, by exact Pauli arithmetic.

    Raises:
        ConfigurationError: the gate is not its own inverse (CNOT, CZ, SWAP and the Paulis are).
    """
    matrix = qml.matrix(gate)
    if not np.array_equal(matrix @ matrix, np.eye(len(matrix))):
        raise ConfigurationError(f"{gate.name} is not its own inverse; conjugate takes CNOT, CZ, SWAP, X, Y or Z.")
    unitary = pauli_decompose(matrix, wire_order=list(gate.wires), pauli=True)
    image = unitary @ observable @ unitary
    image.simplify()
    return PauliSentence({word: float(np.real(factor)) for word, factor in image.items()})  # Hermitian: factors are real


def heisenberg_steps(n_qubits: int = 8, observable: qml.operation.Operator | None = None) -> list[tuple[str, PauliSentence]]:
    """The observable carried backwards through the CNOT chain of the original circuit, gate by gate.

    Args:
        n_qubits: wires.
        observable: a Pauli word; Z_0 Z_1 unless given.

    Returns:
        (gate, observable before that gate), from the last CNOT to the first, led by ("measured", observable).
    """
    current = pauli_sentence(observable if observable is not None else qml.Z(0) @ qml.Z(1))
    steps = [("measured", current)]
    for pair in reversed(ANSAETZE["original"].entanglers(n_qubits, 0)):
        current = conjugate(current, qml.CNOT(pair))
        steps.append((f"CNOT({pair[0]},{pair[1]})", current))
    return steps


def cosine_factors(observable: PauliSentence) -> list[int]:
    """Indices k of the cos(theta_k) whose product is the observable's expectation after RY(theta_i) on |0…0>.

    RY(theta)^dagger Z RY(theta) = cos(theta) Z - sin(theta) X, and |0> has <Z> = 1, <X> = 0: each Z_k gives one cosine.

    Raises:
        ConfigurationError: the observable is not one product of Z with factor 1.
    """
    words: list[PauliWord] = list(observable)
    if len(words) != 1 or observable[words[0]] != 1 or set(words[0].values()) - {"Z"}:
        raise ConfigurationError(f"{observable} is not a product of Z; only those turn into cosines alone.")
    return sorted(words[0])


@dataclass(frozen=True)
class CircuitConfig:
    """Everything that decides one row of the study "circuits".

    `circuit` "original" is the original study's: RY and CNOT chain without data, measured by Z_0 Z_1. Any other name stands
    for embedding and ansatz measured by Z on each wire.
    """

    circuit: str
    embedding: str
    ansatz: str
    n_qubits: int
    n_layers: int
    n_pairs: int  #: pairs of states behind the expressibility
    n_points: int  #: points behind the entangling capability
    seed: int
    revision: int = 1

    @property
    def spec(self) -> CircuitSpec:
        """The circuit."""
        return CircuitSpec(self.embedding, self.ansatz, self.n_qubits, self.n_layers)

    @property
    def observables(self) -> list[qml.operation.Operator]:
        """What is measured."""
        if self.circuit == "original":
            return [qml.Z(0) @ qml.Z(1)]
        return [qml.Z(wire) for wire in range(self.n_qubits)]


def circuit_config(
    embedding: str, ansatz: str, n_qubits: int, n_layers: int, n_pairs: int, n_points: int, seed: int
) -> CircuitConfig:
    """The configuration of a circuit of the suite, named "embedding/ansatz"."""
    return CircuitConfig(f"{embedding}/{ansatz}", embedding, ansatz, n_qubits, n_layers, n_pairs, n_points, seed)


def original_config(n_pairs: int, n_points: int, seed: int, n_qubits: int = 8) -> CircuitConfig:
    """The configuration of the original study's circuit."""
    return CircuitConfig("original", "none", "original", n_qubits, 1, n_pairs, n_points, seed)


def examine(config: CircuitConfig) -> dict[str, float | int]:
    """Measure one circuit: the result columns of its record."""
    spec = config.spec
    written, live = size(spec), gradient_liveness(spec, seed=config.seed, observables=config.observables)
    return {
        "n_parameters": written.n_parameters,
        "depth": written.depth,
        "n_two_qubit_gates": written.n_two_qubit_gates,
        "expressibility": expressibility(spec, config.n_pairs, config.seed),
        "entangling_capability": entangling_capability(spec, config.n_points, config.seed),
        "n_live": live.n_live,
        "live_share": live.share,
    }


@dataclass(frozen=True)
class ClosedFormConfig:
    """Everything that decides the comparison of the original circuit's energy with cos(theta_1) (study "gradients")."""

    n_qubits: int
    batch_size: int  #: random points
    seed: int
    n_layers: int = 1
    ansatz: str = "original"
    embedding: str = "none"
    revision: int = 1


def compare_with_closed_form(config: ClosedFormConfig) -> list[dict[str, str | float]]:
    """Largest |energy(theta) - cos(theta_1)| over random points theta ~ N(0, 1), one row a simulator."""
    theta = np.random.default_rng(config.seed).normal(size=(config.batch_size, config.n_qubits))
    rows = []
    for backend, diff_method in (("default.qubit", "backprop"), ("lightning.qubit", "adjoint")):
        energy = original_circuit(config.n_qubits, qml.device(backend, wires=config.n_qubits), diff_method)
        difference = float(np.abs(energy(theta) - np.cos(theta[:, 1])).max())
        rows.append({"method": f"{backend}/{diff_method}", "quantity": "energy_vs_cos", "max_abs_difference": difference})
    return rows
