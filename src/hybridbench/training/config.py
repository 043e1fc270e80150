"""Everything that decides the result of a training run, as frozen dataclasses whose hash names the record."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hybridbench.errors import ConfigurationError, check_name

MODELS = ("hybrid", "separable", "classical")


def _check_positive(config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigurationError(f"{name} is {value!r}, and must be a whole number of at least 1.")


def _check_optimizer(name: str, learning_rate: float) -> None:
    from hybridbench.training.optimizers import OPTIMIZERS

    check_name("optimizer", name, OPTIMIZERS)
    number = isinstance(learning_rate, int | float) and not isinstance(learning_rate, bool)
    if not (number and math.isfinite(learning_rate) and learning_rate > 0):
        raise ConfigurationError(f"learning_rate is {learning_rate!r}, and must be a positive number.")


def _check_seed(seed: object) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ConfigurationError(f"seed is {seed!r}, and must be a whole number from 0 to 4294967295.")


def _as_float(config: object, name: str) -> None:
    """1 and 1.0 are the same setting and must name the same record."""
    object.__setattr__(config, name, float(getattr(config, name)))


@dataclass(frozen=True)
class TrainingConfig:
    """One training run of one model on one task with one optimizer and one seed."""

    task: str
    model: str = "hybrid"  #: hybrid, separable (the twin without entanglement) or classical (parameter-matched)
    embedding: str = "angle"
    ansatz: str = "strongly_entangling"
    n_qubits: int = 4  #: wires, and features after PCA
    n_layers: int = 2
    backend: str = "hybridbench.qubit"
    diff_method: str = "adjoint"
    optimizer: str = "adam"
    learning_rate: float = 0.01
    batch_size: int = 32
    epochs: int = 5
    max_samples: int = 0  #: most samples used of the task; 0 for all
    seed: int = 0  #: decides split, initialisation and order
    precision: str = "float64"
    revision: int = 1  #: raised when the code changes what this record means

    def __post_init__(self) -> None:
        check_name("model", self.model, MODELS)
        _check_positive(self, "n_qubits", "n_layers", "batch_size", "epochs")
        _check_seed(self.seed)
        _check_optimizer(self.optimizer, self.learning_rate)
        _as_float(self, "learning_rate")
        check_name("precision", self.precision, ("float32", "float64"))


@dataclass(frozen=True)
class EnergyConfig:
    """One run of the original study's objective: maximise the mean <Z0 Z1> of `batch_size` parameter sets."""

    optimizer: str
    learning_rate: float
    seed: int
    steps: int = 100
    batch_size: int = 100
    n_qubits: int = 8
    revision: int = 1

    def __post_init__(self) -> None:
        _check_positive(self, "steps", "batch_size", "n_qubits")
        if self.n_qubits < 2:
            raise ConfigurationError("n_qubits is 1, and <Z0 Z1> needs two wires.")
        _check_seed(self.seed)
        _check_optimizer(self.optimizer, self.learning_rate)
        _as_float(self, "learning_rate")
