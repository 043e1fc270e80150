"""The frontier: gradient variance, training from a random start, and memory, against qubits and depth, for two costs.

The question is from where on more hardware cannot help, because the gradient is gone (barren plateaus: McClean, Boixo,
Smelyanskiy, Babbush, Neven, Nat. Commun. 9, 4812 (2018)). Both costs are those of Cerezo, Sone, Volkoff, Cincio, Coles, Nat.
Commun. 12, 1791 (2021), lie in [0, 1] and have their optimum, 0, at |0...0>:

- "global": 1 - P(0...0), the projector on all wires at once;
- "local": 1 - mean over wires of P(0) = mean over wires of (1 - <Z>) / 2.

Each is diagonal in the computational basis, so that value, variance of one shot and gradient follow from the state.
No time is taken here: a run may share the machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
import pandas as pd
import pennylane as qml

from hybridbench.circuits.ansatze import ANSAETZE
from hybridbench.circuits.spec import CircuitSpec
from hybridbench.design.constants import COSTS, DEPTHS
from hybridbench.engine import cpu
from hybridbench.engine.compiler import compile_tape
from hybridbench.errors import ConfigurationError, check_name
from hybridbench.measurement.campaign import Campaign
from hybridbench.measurement.interleave import ProcessArm
from hybridbench.measurement.records import RecordStore
from hybridbench.progress import Report, ignore
from hybridbench.training import bench

STUDY = "frontier"
CELLS = ("gradient", "descent", "memory")
CIRCUITS = ("hardware_efficient", "strongly_entangling")
PRECISIONS = {"float32": "complex64", "float64": "complex128"}

# ------------------------------------------------------------------------------------------------------- gradient variance
QUBITS = (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16)
#: Batches of random points, independent of each other: what intervals are made from.
SEEDS = tuple(range(20))
POINTS, FEWER_POINTS = 64, 16
#: Amplitudes times layers above which a batch has fewer points.
LARGE = 2**18
# ----------------------------------------------------------------------------------------------------------------- descent
DESCENT_QUBITS = (4, 6, 8, 10, 12)
DESCENT_DEPTHS = (2, 16)
#: Shots at each of the two points of the parameter-shift rule; 0 for exact gradients.
DESCENT_SHOTS = (0, 1000, 100)
DESCENT_RATE = 0.1
DESCENT_STEPS, DESCENT_EVERY = 300, 15
#: (qubits, layers) that are also trained ten times as long, with exact gradients: is it the steps that are missing?
LONGER_SIZES = ((10, 16),)
LONGER = 10
# ------------------------------------------------------------------------------------------------------------------ memory
#: (qubits, layers, batch) of processes that train with adjoint gradients, and with backprop. The smallest of each says what
#: a process takes without states. Wider ones with adjoint no longer keep states from the forward to the backward pass.
ADJOINT_SIZES = ((4, 2, 16), (18, 2, 16), (19, 2, 16), (20, 2, 16), (21, 2, 16), (18, 8, 16), (18, 16, 16))
BACKPROP_SIZES = ((4, 2, 16), (10, 2, 16), (11, 2, 16), (12, 2, 16), (13, 2, 16), (12, 4, 16), (12, 8, 16))


def outcome_values(cost: str, n_qubits: int) -> tuple[float, np.ndarray]:
    """What each outcome of a measurement of all wires contributes: cost = constant + sum over x of P(x) values[x].

    Returns:
        The constant, and values of shape (2**n_qubits,), wire 0 most significant. The values are small where the state
        says nothing, so that rounding does not drown the gradient: -1 at 0...0 alone, or -(sum of Z) / (2 n).
    """
    if check_name("cost", cost, COSTS) == "global":
        values = np.zeros(2**n_qubits)
        values[0] = -1.0
        return 1.0, values
    return 0.5, np.bitwise_count(np.arange(2**n_qubits)) / n_qubits - 0.5


class CostCircuit:
    """An ansatz on |0...0> without data, compiled for weights that differ from sample to sample.

    Args:
        ansatz: a name of `ANSAETZE`.
        n_qubits, n_layers: its size.
    """

    def __init__(self, ansatz: str, n_qubits: int, n_layers: int) -> None:
        self.spec = CircuitSpec("none", ansatz, n_qubits, n_layers)
        # Each weight is its own index, so that the compiled circuit's columns say which weight they are.
        index = np.arange(self.spec.n_parameters, dtype=float).reshape(self.spec.weight_shape)
        with qml.queuing.AnnotatedQueue() as queue:
            self.spec.apply(None, np.stack([index, index]))
            qml.state()
        tape = qml.tape.QuantumScript.from_queue(queue)
        compiled = compile_tape(tape, range(n_qubits))
        self.program = compiled.program
        self._columns = np.array([int(tape.operations[op].data[i][0]) for op, i in compiled.sample])

    @property
    def first_rotation(self) -> int:
        """Index of the weight of the first RY on wire 0: the first whose derivative is not zero by construction."""
        before = 0
        for gate in ANSAETZE[self.spec.ansatz].rotations:
            if gate in (qml.RY, qml.Rot):
                return before + (gate is qml.Rot)  # Rot is RZ(phi), RY(theta), RZ(omega), and |0> does not feel RZ
            before += gate.num_params
        raise ConfigurationError(
            f"Ansatz {self.spec.ansatz!r} has no RY, whose derivative the study takes: use hardware_efficient or "
            "strongly_entangling."
        )

    def _numbers(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if weights.ndim != 2 or weights.shape[1] != self.spec.n_parameters:
            raise ConfigurationError(
                f"The weights have the shape {weights.shape}, and this circuit takes (batch, {self.spec.n_parameters})."
            )
        return np.zeros(0), weights[:, self._columns]

    def states(self, weights: np.ndarray, precision: str = "float64") -> np.ndarray:
        """State vectors (batch, 2**n_qubits) for flat weights (batch, n_parameters), radians."""
        return cpu.state(self.program, *self._numbers(weights), PRECISIONS[precision])

    def gradient(self, cost: str, weights: np.ndarray, states: np.ndarray, precision: str = "float64") -> np.ndarray:
        """Derivatives of the cost by all weights, (batch, n_parameters), by the adjoint method.

        d/dw sum of o |psi|^2 is the vector-Jacobian product of the state with the cotangent 2 o psi.

        Args:
            cost: one of `COSTS`.
            weights: (batch, n_parameters).
            states: `states(weights, precision)`.
            precision: "float32" or "float64".
        """
        _, values = outcome_values(cost, self.spec.n_qubits)
        cotangent = 2 * values.astype(states.real.dtype) * states
        _, by_column, _ = cpu.state_vjp(self.program, *self._numbers(weights), cotangent, PRECISIONS[precision])
        gradient = np.zeros(weights.shape)
        gradient[:, self._columns] = by_column
        return gradient


def cost_and_shot_variance(cost: str, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cost of each state, and the variance of what one shot (a measurement of all wires) says of it; both (batch,)."""
    constant, values = outcome_values(cost, states.shape[1].bit_length() - 1)
    probabilities = np.abs(states).astype(float) ** 2
    mean, square = probabilities @ values, probabilities @ values**2
    return constant + mean, np.maximum(square - mean**2, 0.0)


def random_weights(circuit: CostCircuit, n_points: int, seed: int) -> np.ndarray:
    """Flat weights (n_points, n_parameters), uniform in [0, 2 pi)."""
    return np.random.default_rng(seed).uniform(0, 2 * np.pi, (n_points, circuit.spec.n_parameters))


@dataclass(frozen=True)
class GradientConfig:
    """What decides one record of gradient variances: a circuit, and the random points that it is looked at."""

    ansatz: str
    n_qubits: int
    n_layers: int
    n_points: int  #: random points of a batch
    seeds: tuple[int, ...] = SEEDS  #: of the batches
    precision: str = "float32"
    cell: str = "gradient"
    revision: int = 1

    @property
    def title(self) -> str:
        """The record in words."""
        return f"gradients, {self.ansatz}, {self.n_qubits} qubits, {self.n_layers} layers"

    @property
    def expected_seconds(self) -> float:
        """About how long it takes on one core."""
        return 0.2 + 8e-8 * len(self.seeds) * self.n_points * self.n_layers * 2.0**self.n_qubits

    def measure(self) -> list[dict[str, Any]]:
        """Moments of the derivative over each batch of points: rows of cost and seed.

        A derivative by an angle averages to zero over that angle's period, so that its variance is its mean square.
        """
        circuit = CostCircuit(self.ansatz, self.n_qubits, self.n_layers)
        rows = []
        for seed in self.seeds:
            weights = random_weights(circuit, self.n_points, seed)
            states = circuit.states(weights, self.precision)
            exact = circuit.states(weights) if seed == self.seeds[0] else None
            for cost in COSTS:
                value, shot = cost_and_shot_variance(cost, states)
                gradient = circuit.gradient(cost, weights, states, self.precision)
                first = gradient[:, circuit.first_rotation]
                row = {
                    "cost": cost,
                    "seed": seed,
                    "cost_mean": float(value.mean()),
                    "gradient_variance": float(np.mean(first**2)),
                    "gradient_fourth_moment": float(np.mean(first**4)),
                    "gradient_mean_square": float(np.mean(gradient**2)),
                    "shot_variance": float(shot.mean()),
                    "rounding_error": float("nan"),
                }
                if exact is not None:
                    error = gradient - circuit.gradient(cost, weights, exact)
                    row["rounding_error"] = float(np.sqrt(np.mean(error**2)))
                rows.append(row)
        return rows


@dataclass(frozen=True)
class DescentConfig:
    """What decides one record of training a bare circuit from uniformly random weights.

    `shots` 0 takes exact gradients. Otherwise each derivative carries the noise of the parameter-shift rule with so many
    shots at each of its two points, as a normal deviate of variance (one-shot variance of the cost) / (2 shots): both points
    are taken to have the one-shot variance of the point between them.
    """

    ansatz: str
    n_qubits: int
    n_layers: int
    cost: str
    shots: int = 0
    optimizer: str = "adam"
    learning_rate: float = DESCENT_RATE
    steps: int = DESCENT_STEPS
    every: int = DESCENT_EVERY
    seeds: tuple[int, ...] = SEEDS
    precision: str = "float32"
    cell: str = "descent"
    revision: int = 1

    @property
    def title(self) -> str:
        """The record in words."""
        noise = f"{self.shots} shots" if self.shots else "exact"
        how = f"{self.cost} cost, {noise}, {self.steps} steps"
        return f"descent, {self.ansatz}, {self.n_qubits} qubits, {self.n_layers} layers, {how}"

    @property
    def expected_seconds(self) -> float:
        """About how long it takes on one core."""
        amplitudes = self.n_layers * 2.0**self.n_qubits
        return 0.5 + self.steps * (0.002 + 4e-8 * len(self.seeds) * amplitudes)

    def measure(self) -> list[dict[str, Any]]:
        """The cost of each seed over the steps. All seeds are one batch: Adam treats each weight for itself."""
        from hybridbench.stack import import_tensorflow
        from hybridbench.training.optimizers import make_optimizer

        tf = import_tensorflow()
        circuit = CostCircuit(self.ansatz, self.n_qubits, self.n_layers)
        starts = np.concatenate([random_weights(circuit, 1, seed) for seed in self.seeds])
        variable = tf.Variable(starts, dtype=self.precision)
        optimizer = make_optimizer(self.optimizer, self.learning_rate)
        noise = np.random.default_rng(self.seeds)
        rows = []
        for step in range(self.steps + 1):
            weights = variable.numpy()
            states = circuit.states(weights, self.precision)
            values, shot_variance = cost_and_shot_variance(self.cost, states)
            if step % self.every == 0 or step == self.steps:
                rows += [
                    {"seed": seed, "step": step, "train_loss": float(value)}
                    for seed, value in zip(self.seeds, values, strict=True)
                ]
            if step < self.steps:
                gradient = circuit.gradient(self.cost, weights, states, self.precision)
                if self.shots:
                    spread = np.sqrt(shot_variance / (2 * self.shots))[:, None]
                    gradient += spread * noise.standard_normal(gradient.shape)
                optimizer.apply_gradients([(tf.constant(gradient, self.precision), variable)])
        return rows


@dataclass(frozen=True)
class MemoryConfig(bench.BenchCell):
    """What decides one record of peak memory: the hybrid model of `bench`, trained a few steps in processes of its own."""

    @property
    def expected_seconds(self) -> float:
        """About how long it takes."""
        per_amplitude = 4e-6 if self.arms[0].name == "shipped" else 8e-8
        return self.processes * (8.0 + 6 * per_amplitude * self.n_layers * self.batch_size * 2.0**self.n_qubits)

    def measure(self) -> list[dict[str, Any]]:
        """One row a process."""
        return bench.measure(self)


Config = GradientConfig | DescentConfig | MemoryConfig


def gradient_configs() -> list[Config]:
    """Every circuit of the study at every size; beside the fixed depths as many layers as qubits."""
    sizes = sorted({(n, depth) for n in QUBITS for depth in (*DEPTHS, n)})
    return [
        GradientConfig(ansatz, n, depth, POINTS if 2**n * depth <= LARGE else FEWER_POINTS)
        for n, depth in sizes
        for ansatz in CIRCUITS
    ]


def descent_configs() -> list[Config]:
    """Every circuit that is trained, with both costs; last those that are trained longer."""
    usual: list[Config] = [
        DescentConfig(ansatz, n, depth, cost, shots)
        for n in DESCENT_QUBITS
        for depth in DESCENT_DEPTHS
        for ansatz in CIRCUITS
        for cost in COSTS
        for shots in DESCENT_SHOTS
    ]
    longer = {"steps": LONGER * DESCENT_STEPS, "every": LONGER * DESCENT_EVERY}
    return usual + [
        DescentConfig("strongly_entangling", n, depth, cost, **longer) for n, depth in LONGER_SIZES for cost in COSTS
    ]


def memory_configs() -> list[Config]:
    """Processes that train with the compiled layer (adjoint) and with PennyLane's on default.qubit (backprop)."""
    factory = "hybridbench.training.bench_arms:fit_step"
    adjoint = ProcessArm("compiled", factory, {"layer": "compiled"})
    backprop = ProcessArm("shipped", factory, {"layer": "shipped", "mode": "eager"})
    sized = [(adjoint, size) for size in ADJOINT_SIZES] + [(backprop, size) for size in BACKPROP_SIZES]
    return [MemoryConfig("memory", *size, (arm,), threads=1, processes=2) for arm, size in sized]


def configs(chosen: Sequence[str] = ()) -> list[Config]:
    """The records of the study, cheap ones first in each cell.

    Args:
        chosen: names of `CELLS`; all where empty.

    Raises:
        ConfigurationError: a name that is none.
    """
    made = {"gradient": gradient_configs, "descent": descent_configs, "memory": memory_configs}
    for name in chosen:
        check_name("cell", name, CELLS)
    return [config for name in chosen or CELLS for config in made[name]()]


def run(wanted: Sequence[Config], store: RecordStore, report: Report = ignore) -> pd.DataFrame:
    """Make the records that are not there yet, one at a time, and return all of them as one table.

    Args:
        wanted: from `configs`.
        store: where records are; a run that was cut off goes on with what is missing.
        report: called before each record is made.

    Raises:
        TimingError: a record could not be made.
    """
    expected = attrgetter("expected_seconds")
    return Campaign(wanted, store, lambda config, _: (config.measure(), None), expected, report=report).run().complete()
