"""What the modules that draw share: panels, legends, bars, and the error for records that are not there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hybridbench.analysis.statistics import Interval
from hybridbench.errors import DataError


def need(rows: pd.DataFrame, what: str, where: str) -> pd.DataFrame:
    """The rows as they are.

    Raises:
        DataError: there are none; names `what` is missing and `where` it is made.
    """
    if rows.empty:
        raise DataError(f"No records of {what}: run {where}, then draw again.")
    return rows


def panels(n: int, width: float, height: float, columns: int = 3, **share: Any) -> tuple[Figure, list[Axes]]:
    """A figure of `n` panels, `width` × `height` inches each."""
    columns = min(n, columns)
    rows = -(-n // columns)
    fig = Figure(figsize=(max(width * columns, 5.2), height * rows))  # one panel alone still has room for a legend
    axes = fig.subplots(rows, columns, squeeze=False, **share).ravel()
    for empty in axes[n:]:
        empty.remove()
    return fig, list(axes[:n])


def legend_below(fig: Figure, axes: Sequence[Axes], columns: int = 4) -> None:
    """One legend for all panels, each name once, in the style table's order, below them."""
    handles: dict[str, Any] = {}
    for panel in axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    fig.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(columns, len(handles)))


def bars(intervals: Sequence[Interval]) -> np.ndarray:
    """Lengths of error bars, shape (2, n); none where the data supported no interval."""
    return np.array([[i.value - i.low if i.bounded else 0, i.high - i.value if i.bounded else 0] for i in intervals]).T
