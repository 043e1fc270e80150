"""Views of the record tables that rules and figures share, and the number type that everything quoted goes through."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from hybridbench import paths
from hybridbench.analysis.statistics import Interval
from hybridbench.design.constants import STUDY_BATCH, STUDY_QUBITS, STUDY_STEPS
from hybridbench.errors import ConfigurationError
from hybridbench.measurement.records import RecordStore, read_records

#: What has to be equal for two training runs to differ by optimizer, learning rate and seed only.
SWEEP_KEYS = [
    "task",
    "model",
    "embedding",
    "ansatz",
    "n_qubits",
    "n_layers",
    "backend",
    "diff_method",
    "batch_size",
    "epochs",
    "max_samples",
    "precision",
]
#: What tells one workload from another, as far as a study has it.
WORKLOAD = ("cell", "threads", "n_qubits", "n_layers", "batch_size", "task", "problem", "circuit", "method")
#: What is said of a number that rests on records of another machine than the one that shipped them.
ELSEWHERE = "taken elsewhere"
#: What tells the rows of all studies apart, in the order that tables are sorted by.
ROW_ORDER = ("machine", "record", "circuit", "method", "quantity", "arm", "part", "sample", "seed", "epoch", "step")


class NotMeasured(Exception):
    """The records that a rule needs are not there; the message says which."""


@dataclass(frozen=True)
class Number:
    """A quoted number with its interval, its unit and the records behind it; or a fact in `words`."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    unit: str = "1"
    records: tuple[str, ...] = field(default=())
    words: str = ""

    @classmethod
    def of(cls, interval: Interval, records: tuple[str, ...] = (), words: str = "") -> Number:
        """The number of an interval; what is not finite is left out."""

        def finite(x: float) -> float | None:
            return float(x) if math.isfinite(x) else None

        return cls(
            finite(interval.value), finite(interval.low), finite(interval.high), interval.n, interval.unit, records, words
        )

    @property
    def elsewhere(self) -> bool:
        """Whether it rests on a record that whoever shipped it had not taken."""
        return any(record.startswith(ELSEWHERE) for record in self.records)

    def _marked(self, text: str) -> str:
        return f"{text} ({ELSEWHERE})" if self.elsewhere else text

    @property
    def short(self) -> str:
        """The value alone, with its unit: "1.93", "5.4 %"; where a record was taken elsewhere, it says so."""
        return self._marked(self.words or self._unit(_digits(self.value, *self._bounds)))

    @property
    def text(self) -> str:
        """The value with its interval and unit: "1.93 [1.80, 2.11]", "5.4 [3.1, 7.7] %"."""
        if self.words or (self.low is None and self.high is None):
            return self.short
        decimals = _decimals(self.value, *self._bounds)
        low = "−∞" if self.low is None else _fixed(self.low, decimals)
        high = "∞" if self.high is None else _fixed(self.high, decimals)
        return self._marked(self._unit(f"{_digits(self.value, *self._bounds)} [{low}, {high}]"))

    @property
    def _bounds(self) -> tuple[float | None, float | None]:
        return self.low, self.high

    def _unit(self, text: str) -> str:
        return text if self.unit in {"1", "-", ""} else f"{text} {self.unit}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, rounded to six significant digits, for `claims.json`."""
        return {
            "value": _rounded(self.value),
            "low": _rounded(self.low),
            "high": _rounded(self.high),
            "n": self.n,
            "unit": self.unit,
            "records": list(self.records),
            "text": self.text,
            "short": self.short,
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


def _decimals(value: float | None, low: float | None, high: float | None) -> int:
    """Decimals so that half the interval's width keeps two digits; three significant digits where there is no width.

    Whole numbers have none: they are counts.
    """
    if all(each is None or float(each).is_integer() for each in (value, low, high)):
        return 0
    if low is not None and high is not None and high > low:
        scale = (high - low) / 2
        return min(max(1 - math.floor(math.log10(scale)), 0), 6)
    if value is None or value == 0 or float(value).is_integer():
        return 0
    return min(max(2 - math.floor(math.log10(abs(value))), 0), 6)


def _fixed(value: float, decimals: int) -> str:
    text = f"{value:.{decimals}f}"
    text = text.removeprefix("-") if float(text) == 0 else text
    return text.replace("-", "−")


def _digits(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "not reached"
    if value != 0 and abs(value) < 1e-4:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa}e{int(exponent)}".replace("-", "−")
    return _fixed(value, _decimals(value, low, high))


def cite(rows: pd.DataFrame) -> tuple[str, ...]:
    """The records behind a number: their names, or study and count where there are more than four."""
    named = rows[["study", "record"]].drop_duplicates()
    theirs = rows.loc[rows["contributed"] == "yes", "machine"] if "contributed" in rows else ()
    elsewhere = tuple(f"{ELSEWHERE} on {machine}" for machine in sorted(set(theirs)))
    if len(named) <= 4:
        return (*sorted(named["study"] + "/" + named["record"]), *elsewhere)
    return (*(f"{study} ({count} records)" for study, count in named.groupby("study").size().items()), *elsewhere)


class Records:
    """The tables of one source, each read once.

    Args:
        source: "shipped" (`data/records`, checksums verified) or "build" (this machine's own).
    """

    def __init__(self, source: str) -> None:
        if source not in {"shipped", "build"}:
            raise ConfigurationError(f"Unknown source {source!r}: 'shipped' or 'build'.")
        self.source = source
        self._tables: dict[str, pd.DataFrame] = {}

    @staticmethod
    def of(source: str | Records) -> Records:
        """The tables of a source by its name, or those that are open already: what many readers share is read once."""
        return source if isinstance(source, Records) else Records(source)

    def has(self, study: str) -> bool:
        """Whether the source holds any record of the study."""
        folder = RecordStore(study).folder if self.source == "build" else paths.data_dir() / "records" / study
        return next(folder.glob("*.parquet"), None) is not None

    def __getitem__(self, study: str) -> pd.DataFrame:
        """The study's rows.

        Raises:
            NotMeasured: the source has none.
            DataError: a file is damaged or is not the one that was shipped.
        """
        if not self.has(study):
            raise NotMeasured(f"no {study} records")
        if study not in self._tables:
            table = read_records(study, self.source)
            # A study's newest revision is the one that counts: an older one measured something else.
            if "revision" in table:
                table = table[table["revision"] == table["revision"].max()]
            # A bootstrap depends on the order of its values, and the order of rows must not decide a number.
            order = [name for name in ROW_ORDER if name in table]
            self._tables[study] = table.sort_values(order, kind="stable").reset_index(drop=True)
        return self._tables[study]


# ---------------------------------------------------------------------------------------------------------------- timing
def timing_cell(records: Records, cell: str) -> pd.DataFrame:
    """Rows of one timing cell; NotMeasured where there are none."""
    table = records["timing"]
    table = table[table["cell"] == cell]
    if table.empty:
        raise NotMeasured(f"no timing of cell {cell!r}")
    return table


def is_gpu(table: pd.DataFrame) -> pd.Series:
    """Rows that carry the proof that a GPU did the work."""
    return table["proof"].fillna("") != ""


def arms(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """What the records of timing runs say of their arms: name → "gpu" (whether one does the work) and "arguments"."""
    return {arm["name"]: arm for text in table["arms"].unique() for arm in json.loads(text)}


def update_arms(table: pd.DataFrame) -> dict[tuple[str, int], str]:
    """The arms of the cell "update": (optimizer, number of parameters) → name."""
    told = {name: arm["arguments"] for name, arm in arms(table).items() if name in set(table["arm"])}
    return {(arguments["optimizer"], arguments["n_parameters"]): name for name, arguments in told.items()}


def runs(table: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """The timing runs of a cell, one record each, smallest circuit and batch first."""
    order = ["machine", "n_qubits", "n_layers", "batch_size", "threads", "record"]
    for _, rows in table.groupby(order, sort=True):
        yield rows


def distance_to_study(rows: pd.DataFrame) -> tuple:
    """How far a timing run's workload is from the study's (8 qubits, batch 100); ties: more samples, then more threads."""
    first = rows.iloc[0]
    away = abs(first["n_qubits"] - STUDY_QUBITS) + abs(math.log2(first["batch_size"] / STUDY_BATCH))
    return away, -rows["sample"].nunique(), -first["threads"]


def machines(table: pd.DataFrame) -> list[str]:
    """The machines of a table in the order in which numbers and figures ask for them.

    One without a GPU comes first, then the one that measured most workloads, however often, then the name decides.
    """
    if table["machine"].nunique() == 1:
        return table["machine"].unique().tolist()
    has_gpu = table.assign(has_gpu=table["gpus"].fillna("") != "").groupby("machine", sort=True)["has_gpu"].any()
    workload = [name for name in WORKLOAD if name in table]
    measured = table.drop_duplicates(["machine", *workload]).groupby("machine", sort=True).size()
    return sorted(has_gpu.index, key=lambda machine: (has_gpu[machine], -measured[machine]))


def one_machine(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the first of `machines`: results of two machines share neither a number nor a curve."""
    return table[table["machine"] == machines(table)[0]]


def nearest_runs(table: pd.DataFrame) -> list[pd.DataFrame]:
    """For every machine its run nearest to the study's workload, in the order of `machines`."""
    by_machine = {name: runs(table[table["machine"] == name]) for name in machines(table)}
    return [min(found, key=distance_to_study) for found in by_machine.values()]


def pair(run: pd.DataFrame, arm_a: str, arm_b: str, part: str = "step") -> tuple[np.ndarray, np.ndarray]:
    """Seconds of two arms of one run, paired by sample; NotMeasured where an arm is not in the run."""
    wide = run[run["part"] == part].pivot_table(index="sample", columns="arm", values="seconds", aggfunc="median")
    for arm in (arm_a, arm_b):
        if arm not in wide:
            raise NotMeasured(f"no arm {arm!r} in timing cell {run['cell'].iloc[0]!r}")
    wide = wide[[arm_a, arm_b]].dropna() if arm_a != arm_b else wide[[arm_a]].dropna()
    return wide[arm_a].to_numpy(), wide[arm_b].to_numpy()


def first_call(run: pd.DataFrame, arm: str) -> float:
    """Seconds of an arm's first call: building, tracing, compiling."""
    values = run.loc[run["arm"] == arm, "first_call_seconds"].dropna()
    if values.empty:
        raise NotMeasured(f"no first-call time of arm {arm!r}")
    return float(values.max())


def shares(run: pd.DataFrame, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of one part and of the whole step, paired by sample, for the run's arm (the first in name order)."""
    arm = sorted(run["arm"].unique())[0]
    wide = run[run["arm"] == arm].pivot_table(index="sample", columns="part", values="seconds", aggfunc="median")
    for name in (part, "step"):
        if name not in wide:
            raise NotMeasured(f"no part {name!r} in timing cell 'parts'")
    wide = wide[[part, "step"]].dropna()
    return wide[part].to_numpy(), wide["step"].to_numpy()


# ---------------------------------------------------------------------------------------------------------------- energy
def energy_rows(records: Records) -> pd.DataFrame:
    """Rows of the original objective at the study's size (8 qubits, batch 100, 100 steps, or the longest runs there are)."""
    table = records["energy"]
    table = table[(table["n_qubits"] == STUDY_QUBITS) & (table["batch_size"] == STUDY_BATCH)]
    if table.empty:
        raise NotMeasured(f"no energy records of {STUDY_QUBITS} qubits and batch {STUDY_BATCH}")
    steps = STUDY_STEPS if (table["steps"] == STUDY_STEPS).any() else table["steps"].max()
    # The same configuration from a second machine is the same run again, not another seed.
    keys = ["optimizer", "learning_rate", "seed", "step"]
    return table[table["steps"] == steps].drop_duplicates(keys).sort_values(keys).reset_index(drop=True)


def final_energies(records: Records) -> pd.DataFrame:
    """Energy after the last step: one row a seed, one column an (optimizer, learning_rate)."""
    table = energy_rows(records)
    last = table.loc[table.groupby(["optimizer", "learning_rate", "seed"])["step"].idxmax()]
    return last.pivot(index="seed", columns=["optimizer", "learning_rate"], values="energy").sort_index(axis=1)


def best_rate(energies: pd.DataFrame, optimizer: str) -> float:
    """The learning rate with the best mean over seeds; a rate that some seed did not run has no mean to compare.

    Raises:
        NotMeasured: no rate has all seeds.
    """
    means = energies[optimizer].mean(axis=0, skipna=False)
    if means.isna().all():
        raise NotMeasured(f"no learning rate that every seed of {optimizer} ran")
    return float(means.idxmax())


def paired_columns(table: pd.DataFrame, a: Any, b: Any) -> tuple[np.ndarray, np.ndarray]:
    """Two columns of a table by seed, only the seeds that both have; NotMeasured where a column or all seeds are missing."""
    for column in (a, b):
        if column not in table.columns:
            named = ", ".join(str(x) for x in column) if isinstance(column, tuple) else str(column)
            raise NotMeasured(f"no runs of {named}")
    both = pd.DataFrame({"a": table[a], "b": table[b]}).dropna()
    if both.empty:
        raise NotMeasured(f"no seeds in common between {a} and {b}")
    return both["a"].to_numpy(), both["b"].to_numpy()


# -------------------------------------------------------------------------------------------------------------- training
def final_rows(records: Records) -> pd.DataFrame:
    """The last epoch of every training run."""
    table = records["training"]
    return (
        table.loc[table.groupby(["machine", "record"])["epoch"].idxmax()]
        .sort_values(["machine", "record"])
        .reset_index(drop=True)
    )
