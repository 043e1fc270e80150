"""Synthetic records with planted effects, written through the real store."""

from dataclasses import dataclass

import numpy as np
import sealed

from hybridbench.measurement.records import RecordStore


@dataclass(frozen=True)
class TimingCell:
    cell: str
    n_qubits: int = 8
    n_layers: int = 2
    batch_size: int = 100
    threads: int = 2
    samples: int = 30
    warmup: int = 3
    arms: str = "[]"
    revision: int = 1


@dataclass(frozen=True)
class EnergyConfig:
    optimizer: str
    learning_rate: float
    seed: int
    steps: int = 100
    batch_size: int = 100
    n_qubits: int = 8
    revision: int = 1


@dataclass(frozen=True)
class TrainingConfig:
    task: str = "digits_3v5"
    model: str = "hybrid"
    embedding: str = "angle"
    ansatz: str = "strongly_entangling"
    n_qubits: int = 4
    n_layers: int = 2
    backend: str = "default.qubit"
    diff_method: str = "backprop"
    optimizer: str = "adam"
    learning_rate: float = 0.01
    batch_size: int = 32
    epochs: int = 3
    max_samples: int = 0
    seed: int = 0
    precision: str = "float64"
    revision: int = 1


@dataclass(frozen=True)
class CircuitConfig:
    circuit: str
    embedding: str = "angle"
    ansatz: str = "chain"
    n_qubits: int = 8
    n_layers: int = 1
    n_pairs: int = 100
    n_points: int = 20
    seed: int = 0
    revision: int = 1


@dataclass(frozen=True)
class ClosedFormConfig:
    n_qubits: int = 4
    n_layers: int = 2
    ansatz: str = "strongly_entangling"
    embedding: str = "angle"
    batch_size: int = 2
    seed: int = 0
    revision: int = 1


@dataclass(frozen=True)
class TrialConfig:
    problem: str = "wine"
    model: str = "hybrid"
    optimizer: str = "adam"
    learning_rate: float = 0.01
    knobs: tuple = ()
    phase: str = "tuned"
    seeds: tuple = (0,)
    steps: int = 300
    every: int = 15
    n_qubits: int = 6
    n_layers: int = 2
    batch_size: int = 32
    start: str = "uniform"
    revision: int = 1


PROOF = sealed.proof()


def _write(study, config, rows, proof=None, on=None):
    """All these records are of one machine, which has a GPU; or of another, `on`."""
    with sealed.on(**(on or {})):
        RecordStore(study).write(config, rows, proof)


def write_timing(cell, arms, proof=None, noise=0.02, parts=None, first=None, on=None, **config):
    """`arms`: name → median seconds; all arms of one sample share a drift, as interleaved arms do."""
    config = TimingCell(cell, arms=sealed.arms(arms), **config)
    rng = np.random.default_rng(config.n_qubits * 1000 + config.batch_size)
    rows = []
    for sample in range(config.samples):
        drift = rng.lognormal(0, 0.1)
        for arm, seconds in arms.items():
            here = {"arm": arm, "sample": sample, "first_call_seconds": (first or {}).get(arm, 1.0)}
            rows.append({**here, "part": "step", "seconds": seconds * drift * rng.lognormal(0, noise)})
            for part, share in (parts or {}).items():
                rows.append({**here, "part": part, "seconds": share * seconds * drift * rng.lognormal(0, noise)})
    _write("timing", config, rows, proof, on)


def write_energy(optimizer, rate, finals, starts=None, steps=100, when=10, every=1):
    """One record a seed: a straight line from the start to `finals[seed]`, reached after `when` (or `when[seed]`) steps."""
    for seed, final in enumerate(finals):
        start = 0.6065 if starts is None else starts[seed]
        slow = when if isinstance(when, int) else when[seed]
        rows = [
            {"step": step, "energy": start + (final - start) * min(step / slow, 1.0), "seconds": 0.01 * step}
            for step in range(0, steps + 1, every)
        ]
        _write("energy", EnergyConfig(optimizer, rate, seed), rows)


def write_training(scores, losses=None, n_parameters=20, **config):
    """One record a seed with `scores[seed]` as its final test score."""
    for seed, score in enumerate(scores):
        rows = [
            {
                "epoch": epoch,
                "step": 10 * epoch,
                "seconds": 0.1 * epoch,
                "train_loss": 1.0 - 0.1 * epoch,
                "val_loss": (losses[seed] if losses is not None else 1.0 - score) + 0.1 * (3 - epoch),
                "test_loss": 1.0 - score,
                "train_score": score,
                "val_score": score,
                "test_score": score - 0.1 * (3 - epoch),
                "n_parameters": n_parameters,
            }
            for epoch in range(4)
        ]
        _write("training", TrainingConfig(seed=seed, **config), rows)


def write_circuit(n_live, n_parameters=8, circuit="original"):
    row = {
        "n_parameters": n_parameters,
        "depth": 8,
        "n_two_qubit_gates": 7,
        "expressibility": 1.0,
        "entangling_capability": 0.5,
        "n_live": n_live,
        "live_share": n_live / n_parameters,
    }
    _write("circuits", CircuitConfig(circuit), [row])


def write_gradients(gaps):
    """`gaps`: method → largest difference of its weight gradient."""
    rows = [{"method": m, "quantity": "gradient_weights", "max_abs_difference": gap} for m, gap in gaps.items()]
    rows += [{"method": "default.qubit/adjoint", "quantity": "value", "max_abs_difference": 1e-15}]
    _write("gradients", ClosedFormConfig(), rows)


def write_trial(scores, losses=None, early=0.0, when=None, **config):
    """One record of the optimizer study, seed by seed: `scores` and `losses` after the last step.

    The loss starts at 1, has fallen by `early` (a number, or one a seed) at the first evaluation, and is at its end after
    the last step; the score is at its end after `when` steps (of each seed; by default all), and at 0.4 before.
    """
    config = TrialConfig(seeds=tuple(range(len(scores))), **config)
    losses = [1 - score for score in scores] if losses is None else losses
    rows = []
    for seed, score in enumerate(scores):
        for step in range(0, config.steps + 1, config.every):
            fallen = early if isinstance(early, float) else early[seed]
            loss = 1.0 if step == 0 else losses[seed] if step == config.steps else 1.0 - fallen
            now = score if step >= (config.steps if when is None else when[seed]) else 0.4
            row = {f"{part}_loss": loss for part in ("train", "val", "test")}
            row |= {f"{part}_score": now for part in ("train", "val", "test")}
            rows.append({"seed": seed, "step": step, **row, "n_parameters": 62, "batch_losses": ""})
    _write("optimizers", config, rows)
