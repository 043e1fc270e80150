"""The shipped tables: made, written with their datasheet, read with their checksum, compared with new ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from hybridbench import paths
from hybridbench.errors import DataError
from hybridbench.measurement.checksums import verify, write_checksums
from hybridbench.tasks.registry import TASKS, Task, get, names

#: Largest difference of one value that still counts as the same: a rounding in the last kept decimal may fall either way.
TOLERANCE = 2e-6

_INTRO = """\
# The data sets

Each file `tasks/<name>.csv` is one table: feature columns, then `target` (class 0, 1 … or, for regression, a number).
`SHA256SUMS` holds the checksum of every file; a table is checked each time it is read. Notebook `01_data_preparation`
makes all tables again and compares them with these. This page is written by the same code (`hybridbench.tasks.datasheet`).

## Splits and preprocessing

The tables hold raw values. Nothing in the files is scaled, shuffled or split; `hybridbench.tasks.prepare` does that, each
time it is called:

1. **Split** by a seed into 60 % train, 20 % validation and 20 % test, keeping the share of each class in all three
   (regression: of each fifth of the target). With `max_samples` a share-keeping subset is drawn first, by the same seed.
2. **Scale** every column to mean 0 and standard deviation 1, and **reduce** the columns to `n_features` by PCA. Both are
   fitted on the train part alone.
3. **Map to angles**: each feature's range on the train part becomes [-π/2, π/2]; values beyond it are clipped.
4. **Targets**: classes become 0 .. k-1; a regression target is scaled by the mean and standard deviation of the train part.

No value of the validation or test part reaches a fitted number; `tests/unit/test_tasks_prepare.py` changes those rows and
sees the train part stay as it was.
"""


def make_table(name: str) -> pd.DataFrame:
    """Make the table of task `name` from its source: feature columns and `target`.

    Raises:
        ConfigurationError: unknown task.
        DataError: it needs the network and there is none, or the source gave something else than a table of finite numbers.
    """
    task = get(name)
    table = task.load()
    shape_is_right = table.columns[-1] == "target" and table.shape[1] == task.n_columns + 1
    if not shape_is_right or not np.isfinite(table.to_numpy(dtype=np.float64)).all():
        raise DataError(
            f"The source of task {name!r} gave a table of shape {table.shape}, or values that are not finite; "
            f"{task.n_columns} feature columns and 'target' are expected: check its loader and the version of scikit-learn."
        )
    return table


def _csv(table: pd.DataFrame) -> str:
    return table.to_csv(index=False, lineterminator="\n")


def write_tables(folder: Path) -> list[Path]:
    """Make every shipped table and write `tasks/<name>.csv`, `DATASHEET.md` and `SHA256SUMS` below `folder`.

    All tables are made before the first file is written, and each file appears whole.
    """
    tables = {name: make_table(name) for name in names()}
    written = []
    for name, table in tables.items():
        target = folder / "tasks" / f"{name}.csv"
        paths.write_atomically(target, _csv(table))
        written.append(target)
    paths.write_atomically(folder / "DATASHEET.md", datasheet(tables))
    write_checksums(folder)
    return written


def read_table(name: str, folder: Path | None = None) -> pd.DataFrame:
    """The table of task `name` from `folder` (default: the shipped `data/`), its checksum verified.

    A task that is not shipped is loaded from its source instead.

    Raises:
        ConfigurationError: unknown task.
        DataError: the file is missing, damaged or not on the list of checksums, or the source cannot be reached.
    """
    if not get(name).shipped:
        return make_table(name)
    folder = folder or paths.data_dir()
    file = folder / "tasks" / f"{name}.csv"
    verify(file, folder)
    return pd.read_csv(file)


def largest_difference(made: pd.DataFrame, shipped: pd.DataFrame) -> float:
    """Largest absolute difference of two tables' values; infinite where rows or columns differ."""
    if list(made.columns) != list(shipped.columns) or len(made) != len(shipped):
        return float("inf")
    return float(np.abs(made.to_numpy(dtype=np.float64) - shipped.to_numpy(dtype=np.float64)).max())


def compare_tables(folder: Path) -> pd.DataFrame:
    """Compare the tables below `folder` with the shipped ones.

    Returns one row a task: `rows`, `columns`, `largest_difference` and `agrees` (within `TOLERANCE`), indexed by task.
    """
    rows = {}
    for name in names():
        made, shipped = read_table(name, folder), read_table(name)
        difference = largest_difference(made, shipped)
        rows[name] = {
            "rows": len(made),
            "columns": made.shape[1] - 1,
            "largest_difference": difference,
            "agrees": difference <= TOLERANCE,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("task")


def _sheet(task: Task, table: pd.DataFrame) -> str:
    """The datasheet's section on one task."""
    features = [f"`{name}`" for name in table.columns[:-1]]
    listed = ", ".join(features) if len(features) <= 30 else f"{features[0]}, {features[1]} … {features[-1]}"
    if task.classes:
        counts = table["target"].value_counts()
        target = ", ".join(f"{label} = {meaning} ({counts[label]})" for label, meaning in enumerate(task.classes))
    else:
        low, mean, high = table["target"].min(), table["target"].mean(), table["target"].max()
        target = f"a number from {low:g} to {high:g}, mean {mean:.1f}"
    return (
        f"## {task.name}\n\n{task.description}\n\n"
        f"- **Kind:** {task.kind}\n- **Size:** {len(table)} rows, {task.n_columns} feature columns\n- **Target:** {target}\n"
        f"- **Columns:** {listed}\n- **Source:** {task.source}\n- **Licence:** {task.licence}\n"
        f"- **How it is made:** {task.made}\n- **Known limits:** {task.limits}\n"
    )


def datasheet(tables: dict[str, pd.DataFrame]) -> str:
    """The text of `DATASHEET.md`: splits and preprocessing, then every task of `tables`, then those not shipped."""
    sections = [_sheet(TASKS[name], table) for name, table in tables.items()]
    absent = "".join(
        f"- **{task.name}**: {task.description} Source: {task.source}. Licence: {task.licence}. {task.made} {task.limits}\n"
        for task in TASKS.values()
        if not task.shipped
    )
    return "\n".join([_INTRO, *sections, f"## Not shipped\n\n{absent}"])
