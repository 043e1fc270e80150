"""Which optimizer to start with, by the records of the optimizer study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from hybridbench.analysis import optimizers
from hybridbench.analysis.statistics import Interval
from hybridbench.analysis.tables import NotMeasured, Number, Records
from hybridbench.errors import ConfigurationError, DataError, check_name

HEADER = ("optimizer", "learning rate", "score", "diverged", "evidence")
SCORES = {
    "classification": "accuracy on test data",
    "regression": "R² on test data",
    "energy": "share of the optimum that is reached (basins: share of coordinates in the global basin)",
}


@dataclass(frozen=True)
class Advice:
    """A recommendation in words."""

    title: str
    answer: str  #: the best one, and which others cannot be told from it
    rows: tuple[tuple[str, ...], ...]  #: the best optimizer first; cells as HEADER names them
    found: tuple[dict[str, Any], ...]  #: the same as numbers
    rests_on: str
    limits: str


def advise(task: str, budget: int, source: str = "shipped") -> Advice:
    """What the records say about training on one kind of problem for `budget` steps.

    Args:
        task: "classification", "regression" or "energy".
        budget: optimizer steps.
        source: "shipped" or "build".

    Raises:
        ConfigurationError: an unknown task or source, or a budget before the first evaluation.
        DataError: the source has no records of such problems.
    """
    kinds = optimizers.KINDS
    check_name("task", task, kinds)
    try:
        table = Records(source)["optimizers"]
    except NotMeasured as gap:
        raise DataError(f"No recommendation without records ({gap} in {source!r}): run 'hybridbench study' first.") from gap
    problems = [problem for problem in kinds[task] if problem != optimizers.LEFT_OUT]
    # Before a machine is chosen: it has to be the one with these problems.
    table = table[table["problem"].isin(problems)]
    tuned = optimizers.of(table, "tuned")
    if tuned.empty:
        raise DataError(f"The {source} records have no tuned runs of {task}: run 'hybridbench study' first.")
    first, longest = int(tuned.loc[tuned["step"] > 0, "step"].min()), int(tuned["steps"].max())
    if budget < first:
        raise ConfigurationError(f"budget is {budget} steps, and the records begin at {first}: give {first} or more.")
    found = optimizers.recommendation(table, task, budget)
    measured = optimizers.of(table, "rates")
    return Advice(
        f"Optimizers for {task} within {budget} steps, best first",
        _answer(task, found),
        tuple(_cells(name, row) for name, row in found.iterrows()),
        tuple(_numbers(name, row) for name, row in found.iterrows()),
        _rests_on(task, tuned, measured),
        _limits(budget, longest, tuned),
    )


def _cells(name: str, row: pd.Series) -> tuple[str, ...]:
    score = Number.of(Interval(row["score"], row["low"], row["high"], 0)).text
    diverged = "not measured" if pd.isna(row["diverged"]) else f"{100 * row['diverged']:.0f} %"
    rates = (
        "not measured"
        if pd.isna(row["rate_low"])
        else _range(*(float(f"{row[end]:.1g}") for end in ("rate_low", "rate_high")))
    )
    return str(name), rates, score, diverged, row["evidence"]


def _numbers(name: str, row: pd.Series) -> dict[str, Any]:
    def known(*columns: str) -> list[float] | None:
        return None if row[list(columns)].isna().any() else [float(row[column]) for column in columns]

    return {
        "optimizer": str(name),
        "learning_rate": known("rate_low", "rate_high"),
        "score": known("score", "low", "high"),
        "diverged": None if pd.isna(row["diverged"]) else float(row["diverged"]),
        "evidence": row["evidence"],
    }


def _answer(task: str, found: pd.DataFrame) -> str:
    best = found.iloc[0]
    name, rates, score, *_ = _cells(str(found.index[0]), best)
    rate = "" if pd.isna(best["rate_low"]) else f", with a learning rate of {rates}"
    text = f"Start with {name}{rate}: {score} {SCORES[task]}."
    alike = [str(other) for other, row in found.iloc[1:].iterrows() if row["high"] >= best["low"]]
    if alike:
        names = alike[0] if len(alike) == 1 else f"{', '.join(alike[:-1])} and {alike[-1]}"
        text += f" {names} may be as good: their intervals overlap with its own."
    return text


def _range(low: float, high: float, digits: str = "g") -> str:
    return f"{low:{digits}}" if low == high else f"{low:{digits}} to {high:{digits}}"


def _span(counts: pd.Series, what: str) -> str:
    return f"{_range(counts.min(), counts.max(), 'd')} {what}{'' if counts.eq(1).all() else 's'}"


def _rests_on(task: str, tuned: pd.DataFrame, measured: pd.DataFrame) -> str:
    problems = ", ".join(sorted(tuned["problem"].unique()))
    seeds = tuned.groupby("problem")["seed"].nunique()
    text = (
        f"Score: {SCORES[task]}; interquartile mean over problems and seeds with a 95 % bootstrap interval, at the best "
        f"evaluation within the budget by validation data, each optimizer at the setting that its own tuning chose. It "
        f"rests on hybrid models for {problems}, with {_span(tuned['n_qubits'], 'qubit')}, "
        f"{_span(tuned['n_layers'], 'layer')} and batches of {_span(tuned['batch_size'], 'sample')}, over "
        f"{_span(seeds, 'seed')}. Diverged: share of its tuning runs, at whatever rate, that did."
    )
    if len(measured):
        rates = measured["learning_rate"]
        text += (
            f" Learning rates: those within 5 % of the best result, from the smallest to the largest over these problems, "
            f"of {rates.nunique()} from {_range(rates.min(), rates.max())} at the framework's other defaults."
        )
    return text


def _limits(budget: int, longest: int, tuned: pd.DataFrame) -> str:
    text = (
        f"It says nothing about circuits of more than {tuned['n_qubits'].max()} qubits or {tuned['n_layers'].max()} layers, "
        "about noise or shots, or about learning rates that change during a run: none of these was measured. Where "
        "intervals overlap, the order may be a matter of chance."
    )
    if budget < longest:
        text = (
            f"Settings were tuned, and learning rates and divergence measured, over runs of {longest} steps: for fewer "
            f"steps other rates may be better. {text}"
        )
    if budget > longest:
        text = (
            f"The longest measured runs have {longest} steps: the scores are those of {longest} steps and not of {budget}, "
            f"and nothing is extrapolated. {text}"
        )
    return text


def show(advice: Advice) -> None:
    """Print a recommendation: the answer, its table, what it rests on and where it does not hold."""
    from hybridbench.workflow.terminal import show_answer

    show_answer(advice.answer, advice.title, HEADER, advice.rows, advice.rests_on, advice.limits)


def as_json(advice: Advice) -> dict[str, Any]:
    """The same for programs: scores and learning rates as numbers, None where nothing was measured."""
    return {"answer": advice.answer, "optimizers": advice.found, "rests_on": advice.rests_on, "limits": advice.limits}
