"""From a table to what a circuit takes: split, scaled, reduced and mapped to angles, fitted on the train part only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from hybridbench.errors import ConfigurationError
from hybridbench.tasks.registry import CLASSIFICATION, Task, get
from hybridbench.tasks.tables import read_table

TRAIN_SHARE = 0.6
QUANTILE_BINS = 5  #: strata of a regression target
ROWS_PER_STRATUM = 10  #: fewest rows a stratum that still puts some into each part
#: Below this share of the total variance a principal component is rounding noise (border pixels that are always 0, say).
NO_VARIANCE = 1e-12


@dataclass(frozen=True, eq=False)
class PreparedTask:
    """One task, split and ready for a circuit.

    Features are float64 angles in [-pi/2, pi/2], shape (rows of the part, n_features); targets have shape (rows,): int64
    labels 0 .. n_classes-1, or the float64 target standardised by the train part's mean and standard deviation.
    """

    name: str
    kind: str  #: "classification" or "regression"
    n_classes: int  #: 1 for regression
    n_features: int
    seed: int
    x_train: np.ndarray
    y_train: np.ndarray
    x_val: np.ndarray
    y_val: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    explained_variance: float  #: share of the train part's variance that the kept components hold, 0..1


def _whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _check_seed(seed: int) -> None:
    if not _whole(seed) or not 0 <= seed < 2**32:
        raise ConfigurationError(f"Seed {seed!r} is not allowed: give a whole number from 0 to 4294967295.")


def _strata(target: pd.Series, task: Task) -> np.ndarray:
    """What every part gets its share of: the class, or the fifth of the target's range of ranks."""
    if task.kind == CLASSIFICATION:
        return target.to_numpy()
    return pd.qcut(target, QUANTILE_BINS, labels=False, duplicates="drop").to_numpy()


def split_rows(
    target: pd.Series, task: Task, seed: int, max_samples: int = 0, n_features: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row numbers of the train, validation and test parts: 60, 20 and 20 %, stratified, shuffled by `seed`.

    Args:
        target: the table's target column.
        task: says whether classes or quantile bins are the strata.
        seed: decides the subset and the split.
        max_samples: most rows to use in all, drawn in strata; 0 for all.
        n_features: how many components the train part must be able to give (raises the least `max_samples`).

    Raises:
        ConfigurationError: seed or max_samples is not allowed.
    """
    _check_seed(seed)
    strata = _strata(target, task)
    least = max(ROWS_PER_STRATUM * len(np.unique(strata)), 2 * n_features)
    if not _whole(max_samples) or (max_samples != 0 and max_samples < least):
        raise ConfigurationError(
            f"max_samples {max_samples!r} is not allowed for task {task.name!r} with {n_features} features: give 0 (all "
            f"{len(target)} rows) or a whole number from {least} up."
        )
    rows = np.arange(len(target))
    if 0 < max_samples < len(rows):
        rows, _ = train_test_split(rows, train_size=int(max_samples), random_state=seed, stratify=strata)
    train, rest = train_test_split(rows, train_size=TRAIN_SHARE, random_state=seed, stratify=strata[rows])
    val, test = train_test_split(rest, train_size=0.5, random_state=seed, stratify=strata[rest])
    return train, val, test


def _fit_features(train: np.ndarray, n_features: int, task: Task) -> Pipeline:
    """Scaling, PCA and the map to angles, fitted on the rows given: the train part and nothing else."""
    steps = Pipeline(
        [
            ("scale", StandardScaler()),
            ("pca", PCA(n_components=n_features, svd_solver="full")),
            ("angles", MinMaxScaler(feature_range=(-np.pi / 2, np.pi / 2), clip=True)),
        ]
    ).fit(train)
    real = int(np.sum(steps["pca"].explained_variance_ratio_ > NO_VARIANCE))
    if real < n_features:
        raise ConfigurationError(
            f"n_features {n_features} is not allowed for task {task.name!r}: the train part varies in {real} independent "
            f"directions only, so give a whole number from 1 to {real}."
        )
    return steps


def prepare_table(table: pd.DataFrame, task: Task, n_features: int, seed: int, max_samples: int = 0) -> PreparedTask:
    """`prepare` for a table at hand: columns of features and `target`. Same arguments, result and errors."""
    n_features_allowed = table.shape[1] - 1
    if not _whole(n_features) or not 1 <= n_features <= n_features_allowed:
        raise ConfigurationError(
            f"n_features {n_features!r} is not allowed for task {task.name!r}, whose table has {n_features_allowed} feature "
            f"columns: give a whole number from 1 to {n_features_allowed}."
        )
    parts = dict(
        zip(("train", "val", "test"), split_rows(table["target"], task, seed, max_samples, n_features), strict=True)
    )
    raw = table.drop(columns="target").to_numpy(dtype=np.float64)
    steps = _fit_features(raw[parts["train"]], int(n_features), task)
    if task.kind == CLASSIFICATION:
        target = table["target"].to_numpy(dtype=np.int64)
    else:
        values = table["target"].to_numpy(dtype=np.float64)
        target = (values - values[parts["train"]].mean()) / values[parts["train"]].std()
    return PreparedTask(
        name=task.name,
        kind=task.kind,
        n_classes=task.n_classes,
        n_features=int(n_features),
        seed=int(seed),
        **{f"x_{part}": steps.transform(raw[rows]) for part, rows in parts.items()},
        **{f"y_{part}": target[rows] for part, rows in parts.items()},
        explained_variance=float(steps["pca"].explained_variance_ratio_.sum()),
    )


def prepare(name: str, n_features: int, seed: int, max_samples: int = 0) -> PreparedTask:
    """Read task `name`, split it 60/20/20 by class (or target quantile), and turn its columns into rotation angles.

    Standardisation, PCA and the map of each component's range to [-pi/2, pi/2] are fitted on the train part only; values of
    the other parts beyond that range are clipped.

    Args:
        name: a key of `TASKS`.
        n_features: principal components to keep, one angle each; 1 to the number of the table's columns.
        seed: decides the subset and the split, 0 .. 2**32-1.
        max_samples: most rows to use over all three parts, drawn in strata; 0 for all.

    Raises:
        ConfigurationError: unknown task, or n_features, seed or max_samples is not allowed; names value and range.
        DataError: the table is missing or damaged, or (mnist_3v5) the network does not answer.
    """
    return prepare_table(read_table(name), get(name), n_features, seed, max_samples)
