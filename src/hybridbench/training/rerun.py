"""Records of the optimizer study, run once more: does the same configuration give the same history here?"""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd

from hybridbench.errors import ConfigurationError, DataError
from hybridbench.measurement.records import config_hash
from hybridbench.progress import Position, counter
from hybridbench.training.config import TrialConfig
from hybridbench.training.problems import MEASURES
from hybridbench.training.trial import run_trial

#: Largest difference in any measure at which two histories are the same.
SAME = 1e-6


def config_of(rows: pd.DataFrame) -> TrialConfig:
    """The configuration of a record, from its rows.

    Raises:
        DataError: the rows are not of one record, or its columns do not give the hash that names it.
    """
    names = rows["record"].unique()
    if len(names) != 1:
        raise DataError(f"{len(names)} records where one is needed: pass the rows of one record.")
    row = rows.iloc[0]
    given = {field.name: row[field.name] for field in dataclasses.fields(TrialConfig)}
    given = {name: value.item() if isinstance(value, np.generic) else value for name, value in given.items()}
    given["knobs"] = tuple(tuple(knob) for knob in json.loads(given["knobs"]))
    given["seeds"] = tuple(json.loads(given["seeds"]))
    config = TrialConfig(**given)
    if config_hash(config) != names[0]:
        raise DataError(f"Record {names[0]} does not hold the configuration that it is named by: its table was changed.")
    return config


def difference(rows: pd.DataFrame, again: pd.DataFrame) -> float:
    """Largest absolute difference between two histories of one trial, over seeds, steps and measures; inf where one is NaN.

    Raises:
        DataError: they do not have the same seeds and steps.
    """
    index = ["seed", "step"]
    a, b = (table.set_index(index)[list(MEASURES)].astype(float).sort_index() for table in (rows, again))
    if not a.index.equals(b.index):
        raise DataError("The histories have other seeds or steps: they are not of one trial.")
    a, b = a.to_numpy(), b.to_numpy()
    apart = np.where(np.isnan(a) & np.isnan(b), 0.0, np.abs(a - b))
    return float(np.nan_to_num(apart, nan=np.inf).max())


def rerun(table: pd.DataFrame, n: int, seed: int = 0) -> pd.DataFrame:
    """Run `n` records of the study again, drawn at random.

    Args:
        table: of the study.
        n: records.
        seed: of the draw.

    Returns:
        One row a record: record, machine, phase, problem, model, optimizer, learning_rate and difference (see `difference`).

    Raises:
        ConfigurationError: `n` is not from 1 to the number of records, or `seed` is negative.
        DataError: as `config_of`.
    """
    about = ["record", "machine", "phase", "problem", "model", "optimizer", "learning_rate"]
    # In this order a graph that is traced once serves all records that it fits; a machine's record is one of its own.
    groups = [rows for _, rows in table.groupby(["problem", "model", "optimizer", "record", "machine"])]
    if not 1 <= n <= len(groups):
        raise ConfigurationError(f"{n} records are to be run again, and there are {len(groups)}: give 1 to {len(groups)}.")
    if seed < 0:
        raise ConfigurationError(f"seed is {seed}, and must be at least 0.")
    groups = [groups[i] for i in sorted(np.random.default_rng(seed).choice(len(groups), n, replace=False))]
    found = []
    with counter("again") as report:
        for done, rows in enumerate(groups):
            report(Position(done, n))
            gap = difference(rows, pd.DataFrame(run_trial(config_of(rows))))
            found.append({**rows.iloc[0][about], "difference": gap})
    return pd.DataFrame(found)
