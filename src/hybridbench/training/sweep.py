"""Run many configurations, write each one's record, and go on where an earlier run was cut off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, TypeVar

import pandas as pd

from hybridbench.measurement.records import RecordStore
from hybridbench.progress import track

Config = TypeVar("Config")


def grid(make: Callable[..., Config], **values: Sequence[Any]) -> list[Config]:
    """The full factorial: `make` called with every combination of the named values, the last name changing fastest."""
    names = list(values)
    return [make(**dict(zip(names, choice, strict=True))) for choice in product(*values.values())]


def sweep(
    store: RecordStore, configs: Sequence[Config], run: Callable[[Config], list[dict[str, Any]]], description: str
) -> pd.DataFrame:
    """Run the configurations that have no record yet, one after the other, and return the records of all.

    Args:
        store: where the records go.
        configs: what to run; those with a record are not run again.
        run: configuration → rows.
        description: what the progress bar says.
    """
    for config in track(store.missing(configs), description):
        store.write(config, run(config))
    return store.read(configs)
