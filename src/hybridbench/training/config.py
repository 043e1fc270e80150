"""Everything that decides the result of a training run, as frozen dataclasses whose hash names the record."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hybridbench.errors import ConfigurationError, check_name

MODELS = ("hybrid", "separable", "classical")
#: What a trial is run for; it changes no result, but says which rows belong together and how many of them are kept.
PHASES = ("tuning", "tuned", "default", "control", "rates", "starts")
#: How the weights of an Ising circuit begin (the other problems have one start each, which is called "uniform" here too):
#: "uniform" in [0, 2 pi), "normal" N(0, 1), "small" N(0, 0.1^2), "identity" uniform, with the second of each two layers
#: undoing the first (Grant, Wossnig, Ostaszewski, Benedetti, Quantum 3, 214 (2019)).
STARTS = ("uniform", "normal", "small", "identity")


def _check_positive(config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigurationError(f"{name} is {value!r}, and must be a whole number of at least 1.")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_keras_optimizer(name: str) -> None:
    from hybridbench.training.optimizers import check_keras_optimizer

    check_keras_optimizer(name)


def _check_learning_rate(learning_rate: float) -> None:
    if not (_is_number(learning_rate) and learning_rate > 0):
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
        _check_keras_optimizer(self.optimizer)
        _check_learning_rate(self.learning_rate)
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
        _check_keras_optimizer(self.optimizer)
        _check_learning_rate(self.learning_rate)
        _as_float(self, "learning_rate")


@dataclass(frozen=True)
class TrialConfig:
    """One setting of an optimizer on one problem, run once per seed: a row of the optimizer study."""

    problem: str  #: a task or an energy
    model: str = "hybrid"
    optimizer: str = "adam"
    learning_rate: float = 0.01
    knobs: tuple[tuple[str, float], ...] = ()  #: the optimizer's other settings; its framework's default where absent
    phase: str = "tuned"
    seeds: tuple[int, ...] = (0,)  #: each decides split, initialisation and order
    steps: int = 300
    every: int = 15  #: steps from one evaluation to the next
    n_qubits: int = 6
    n_layers: int = 2
    batch_size: int = 32
    start: str = "uniform"
    revision: int = 1

    def __post_init__(self) -> None:
        check_name("model", self.model, MODELS)
        check_name("phase", self.phase, PHASES)
        check_name("start", self.start, STARTS)
        _check_positive(self, "steps", "every", "n_qubits", "n_layers", "batch_size")
        if self.steps % self.every:
            raise ConfigurationError(f"every is {self.every}, and must divide steps, which is {self.steps}.")
        if isinstance(self.seeds, str) or not isinstance(self.seeds, Sequence):
            raise ConfigurationError(f"seeds is {self.seeds!r}, and must be a tuple of whole numbers.")
        object.__setattr__(self, "seeds", tuple(self.seeds))
        if not self.seeds:
            raise ConfigurationError("seeds is empty, and a trial needs at least one seed.")
        for seed in self.seeds:
            _check_seed(seed)
        if len(set(self.seeds)) < len(self.seeds):
            raise ConfigurationError(f"seeds is {self.seeds!r}, and must name every seed once.")
        _check_learning_rate(self.learning_rate)
        _as_float(self, "learning_rate")
        from hybridbench.training.optimizers import OPTIMIZERS

        known = [knob.name for knob in OPTIMIZERS[check_name("optimizer", self.optimizer, OPTIMIZERS)].knobs]
        if not isinstance(self.knobs, Sequence) or not all(isinstance(p, Sequence) and len(p) == 2 for p in self.knobs):
            raise ConfigurationError(f"knobs is {self.knobs!r}, and must be pairs of a name and a number.")
        if len({name for name, _ in self.knobs}) < len(self.knobs):
            raise ConfigurationError(f"knobs is {self.knobs!r}, and must name every knob once.")
        for name, value in self.knobs:
            check_name(f"knob of {self.optimizer}", name, known)
            if not _is_number(value):
                raise ConfigurationError(f"knob {name} is {value!r}, and must be a finite number.")
        # One setting, one record: whatever the order it was written in.
        object.__setattr__(self, "knobs", tuple(sorted((name, float(value)) for name, value in self.knobs)))
