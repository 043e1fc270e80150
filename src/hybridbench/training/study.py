"""The optimizer study: which trials it takes, and how each optimizer is tuned (design and reasons: docs/protocol.md)."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import qmc

from hybridbench.errors import check_name
from hybridbench.tasks.energies import ENERGIES
from hybridbench.training.config import MODELS, STARTS, TrialConfig
from hybridbench.training.optimizers import OPTIMIZERS

STUDY = "optimizers"
#: Problems of the study: six data tasks, two energies, and the original study's objective as the counter-example.
PROBLEMS = (
    "digits_3v5",
    "breast_cancer",
    "wine",
    "hidden_manifold",
    "two_curves",
    "diabetes",
    "tfim",
    "basins",
    "original",
)
#: Learning rates that are searched, evenly in the logarithm.
RATES = (1e-4, 10.0)
BUDGET = 20  #: points that every optimizer gets
MORE = 10  #: points of one widening
WIDENING = 100.0  #: factor by which the range of rates grows there
MOST_WIDENINGS = 2
SCORE_DECIMALS = 9  #: mean losses that agree to so many are equal
TUNING_SEEDS = (1000, 1001, 1002, 1003, 1004)
SEEDS = tuple(range(20))
CONTROL_SEEDS = tuple(range(100, 120))
RATE_GRID = tuple(float(f"{10**exponent:.4g}") for exponent in np.arange(-4, 1.25, 0.5))
START_LAYERS = (2, 4, 8)
START_EVERY = 5
START_RATE = 0.03

Plan = Generator[list[TrialConfig], pd.DataFrame, None]


def size_of(problem: str) -> dict[str, int]:
    """Wires, layers and batch of a problem."""
    if problem not in ENERGIES:
        return {"n_qubits": 6, "n_layers": 2, "batch_size": 32}
    return {"n_qubits": ENERGIES[problem].n_qubits, "n_layers": 3 if problem == "tfim" else 1, "batch_size": 1}


def models_of(problem: str) -> tuple[str, ...]:
    """The models that a problem has; circuits that are product states anyway have no twin."""
    return ("hybrid",) if problem in ("basins", "original") else MODELS


def optimizers_of(model: str) -> tuple[str, ...]:
    """The optimizers that a model can be trained with."""
    return tuple(name for name, about in OPTIMIZERS.items() if model != "classical" or about.gradient != "natural")


def tuning_points(optimizer: str, n: int = BUDGET) -> list[tuple[float, dict[str, float]]]:
    """Learning rates and knobs that are tried, quasi-random (scrambled Halton), the same rates for every optimizer.

    The first points of a larger budget are those of a smaller one.
    """
    knobs = OPTIMIZERS[check_name("optimizer", optimizer, OPTIMIZERS)].knobs
    # Always as many dimensions as the largest search has: the first is the same for all.
    shares = qmc.Halton(d=1 + max(len(o.knobs) for o in OPTIMIZERS.values()), scramble=True, seed=0).random(n)
    low, high = RATES
    return [
        (_round(low * (high / low) ** share[0]), {k.name: _round(k.at(x)) for k, x in zip(knobs, share[1:], strict=False)})
        for share in shares
    ]


def _round(value: float) -> float:
    # Six digits: the last bits of a platform's power function must not name another record.
    return float(f"{value:.6g}")


def _trial(problem: str, model: str, optimizer: str, point: tuple[float, dict[str, float]], **more: Any) -> TrialConfig:
    rate, knobs = point
    given = {"learning_rate": rate, "knobs": tuple(knobs.items()), **size_of(problem), **more}
    return TrialConfig(problem, model, optimizer, **given)


def tuning_scores(rows: pd.DataFrame) -> pd.Series:
    """Mean final validation loss over the tuning seeds of every point, by (learning_rate, knobs); inf where one diverged."""
    last = rows[(rows["phase"] == "tuning") & (rows["step"] == rows["steps"])]
    points = last.groupby(["learning_rate", "knobs"])["val_loss"]
    # Optima that several points reach exactly are equal but for rounding, which another machine does otherwise.
    return points.agg(lambda losses: losses.mean() if losses.notna().all() else np.inf).round(SCORE_DECIMALS)


def best_point(rows: pd.DataFrame) -> tuple[float, dict[str, float]]:
    """Learning rate and knobs of the tuning point with the lowest score, of equals the one with the lowest rate.

    Where all diverged that is the lowest rate of all, so that `widened` goes on below it.
    """
    rate, knobs = tuning_scores(rows).idxmin()
    return float(rate), dict(json.loads(knobs))


def widened(rows: pd.DataFrame, optimizer: str) -> list[tuple[float, dict[str, float]]]:
    """Points beyond the range of rates tried so far, where the best one has its lowest or highest; else none."""
    tried = rows.loc[rows["phase"] == "tuning", "learning_rate"]
    best, low, high = best_point(rows)[0], tried.min(), tried.max()
    if low < best < high:
        return []
    factor = 1 / WIDENING if best == low else WIDENING
    shares = np.arange(1, MORE + 1) / MORE
    knobs = [knobs for _, knobs in tuning_points(optimizer, BUDGET + MORE)[BUDGET:]]
    return [(_round(best * factor**share), given) for share, given in zip(shares, knobs, strict=True)]


def plan(problem: str, model: str, optimizer: str, seeds: Sequence[int] = SEEDS, budget: int = BUDGET) -> Plan:
    """The trials of one optimizer on one model of a problem: tuning, then what is reported.

    Yields lists of configurations, and has to be sent the table of their records each time.
    """
    seeds = tuple(seeds)

    def tuning(points: list[tuple[float, dict[str, float]]]) -> list[TrialConfig]:
        return [_trial(problem, model, optimizer, p, phase="tuning", seeds=TUNING_SEEDS) for p in points]

    tried = tuning(tuning_points(optimizer, budget))
    rows = yield tried
    for _ in range(MOST_WIDENINGS):
        more = widened(rows, optimizer)
        if not more:
            break
        tried = tried + tuning(more)
        rows = yield tried
    best = best_point(rows)
    reported = [_trial(problem, model, optimizer, best, phase="tuned", seeds=seeds)]
    if model == "hybrid":
        about = OPTIMIZERS[optimizer]
        reported.append(_trial(problem, model, optimizer, (about.default_rate, {}), phase="default", seeds=seeds))
        reported += [_trial(problem, model, optimizer, (rate, {}), phase="rates", seeds=seeds) for rate in RATE_GRID]
        if optimizer == "adam":
            shifted = tuple(seed + CONTROL_SEEDS[0] for seed in seeds)
            reported.append(_trial(problem, model, optimizer, best, phase="control", seeds=shifted))
    yield reported


def starts_plan(seeds: Sequence[int] = SEEDS) -> Plan:
    """The trials of claim C06: how weights begin, over the depth of the Ising circuit, with Adam."""
    base = TrialConfig(
        "tfim", learning_rate=START_RATE, phase="starts", seeds=tuple(seeds), every=START_EVERY, **size_of("tfim")
    )
    yield [replace(base, n_layers=depth, start=start) for depth in START_LAYERS for start in STARTS]


def plans(
    problems: Sequence[str] = PROBLEMS,
    models: Sequence[str] = MODELS,
    optimizers: Sequence[str] = tuple(OPTIMIZERS),
    seeds: Sequence[int] = SEEDS,
    budget: int = BUDGET,
) -> list[Plan]:
    """All trials of the study, or those of some problems, models and optimizers; slow optimizers first.

    Raises:
        ConfigurationError: an unknown name; the nearest ones are named.
    """
    for what, names, known in (
        ("problem", problems, PROBLEMS),
        ("model", models, MODELS),
        ("optimizer", optimizers, OPTIMIZERS),
    ):
        for name in names:
            check_name(what, name, known)
    # The longest first, so that the end of a parallel run is not one worker's long tail.
    ordered = sorted(optimizers, key=lambda name: OPTIMIZERS[name].gradient != "natural")
    chosen = [
        plan(problem, model, optimizer, seeds, budget)
        for optimizer in ordered
        for problem in problems
        for model in models
        if model in models_of(problem) and optimizer in optimizers_of(model)
    ]
    whole = "tfim" in problems and "hybrid" in models and "adam" in optimizers
    return chosen + ([starts_plan(seeds)] if whole else [])
