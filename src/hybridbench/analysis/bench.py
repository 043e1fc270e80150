"""What the records of the benchmark say: step times, how many times faster, memory and first calls, against their goals.

Arms ran in several processes each, those of the same index interleaved, so intervals are those of the nested bootstrap.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from hybridbench.analysis.statistics import Interval, Times, nested_median, nested_ratio
from hybridbench.design.constants import FALL_BACKS
from hybridbench.errors import DataError

SIZE = ["n_qubits", "n_layers", "batch_size"]
BASELINES = ("shipped", "shipped, graph")  #: the second stands in where the first could not be measured
PEER = "jax.jit"
BY_HAND = ("C", "C, 1 thread")

#: (arm, what it is compared with) → size → how many times faster it has to be.
GOALS: dict[tuple[str, str], dict[tuple[int, int, int], float]] = {
    ("swapped", "shipped"): {(8, 2, 32): 20},
    ("compiled", "shipped"): {
        (8, 2, 32): 400,
        (10, 2, 128): 500,
        (12, 2, 32): 500,
        (12, 2, 128): 1000,
        (16, 2, 32): 400,
    },
    ("compiled", PEER): {(8, 2, 32): 3, (10, 2, 128): 20, (12, 2, 32): 20, (12, 2, 128): 20, (16, 2, 32): 12},
    ("engine", PEER): {(8, 2, 32): 15, (10, 2, 128): 35, (12, 2, 32): 28, (12, 2, 128): 30, (16, 2, 32): 17},
    ("engine", "engine, 1 thread"): {(12, 2, 128): 1.6},
}
#: At most so many times the time of the hand-written C.
GOAL_BY_HAND = 3.0
GOAL_MEMORY_GIB = 8.0
#: Peak memory at four times the depth over that at the depth itself, at most.
GOAL_DEPTH = 1.05
GOAL_FIRST_CALL = {"empty cache": 5.0, "filled cache": 1.0}


def step_cells(table: pd.DataFrame) -> list[tuple[tuple[int, int, int], pd.DataFrame]]:
    """The rows of every size whose steps were timed, small sizes first; where several records have a size, the fullest one.

    Raises:
        DataError: the table holds more than one machine.
    """
    if table["machine"].nunique() > 1:
        raise DataError(
            "These records are of several machines, and a table of the benchmark is about one: choose one of them."
        )
    chosen = []
    for size, rows in table[table["cell"] == "step"].groupby(SIZE):
        records = [part for _, part in rows.groupby("record")]
        chosen.append((size, max(records, key=lambda part: (part["arm"].nunique(), part["created_utc"].iloc[0]))))
    return chosen


def times_of(rows: pd.DataFrame) -> dict[str, dict[int, np.ndarray]]:
    """Arm → process → seconds of its samples; arms without times are left out."""
    timed = rows.dropna(subset=["seconds"])
    return {
        arm: {int(process): part["seconds"].to_numpy() for process, part in own.groupby("process")}
        for arm, own in timed.groupby("arm", sort=False)
    }


def baseline(times: Mapping[str, Times]) -> str | None:
    """What factors are taken against: PennyLane's layer as shipped or, where it could not be measured, its graph."""
    return next((arm for arm in BASELINES if arm in times), None)


def findings(table: pd.DataFrame) -> pd.DataFrame:
    """Every number that the benchmark gives, one row each.

    Args:
        table: records of one machine.

    Returns:
        Columns n_qubits, n_layers, batch_size, quantity, arm, against, value, low, high, unit, processes, goal, at_most, met
        and note. quantity is "step" (ms), "times faster", "times as long", "peak memory" (GiB), "memory over depth",
        "first call, empty cache", "first call, filled cache" (s) or "times faster, " and one of `FALL_BACKS`. `goal` is NaN
        where there is none, an upper bound where `at_most`; `met` is None then, and where nothing was measured.
    """
    rows: list[dict] = []

    def add(
        size: tuple,
        quantity: str,
        arm: str,
        interval: Interval | None,
        against: str = "",
        goal: float = math.nan,
        at_most: bool = False,
        note: str = "",
    ) -> None:
        shown = interval or Interval(math.nan, -math.inf, math.inf, 0)
        met = None
        if not math.isnan(goal) and interval:
            met = bool(shown.value <= goal if at_most else shown.value >= goal)
        numbers = {"value": shown.value, "low": shown.low, "high": shown.high, "unit": shown.unit, "processes": shown.n}
        where = dict(zip(SIZE, size, strict=True))
        rows.append(
            {**where, "quantity": quantity, "arm": arm, "against": against, **numbers}
            | {"goal": goal, "at_most": at_most, "met": met, "note": note}
        )

    for size, cell in step_cells(table):
        times = times_of(cell)
        base = baseline(times)
        notes = cell[cell["note"] != ""].groupby("arm", sort=False)["note"].first()
        for arm in cell["arm"].unique():
            add(size, "step", arm, nested_median(times[arm], 1e3, "ms") if arm in times else None, note=notes.get(arm, ""))
        for against in [base, PEER, *BY_HAND, "engine, 1 thread"]:
            # The baseline against the peer is the peer against the baseline the other way round.
            for arm in [arm for arm in times if not (arm in BASELINES and against == PEER)]:
                name = (
                    "shipped" if against == base else against
                )  # a goal against the layer as shipped holds for its stand-in
                goal = GOALS.get((arm, name), {}).get(size, math.nan)
                if against in times and arm != against and (against in (base, PEER) or not math.isnan(goal)):
                    add(size, "times faster", arm, nested_ratio(times[against], times[arm]), against, goal)
        by_hand = [arm for arm in BY_HAND if arm in times]
        if "engine" in times and by_hand:
            fastest = min(by_hand, key=lambda arm: nested_median(times[arm]).value)
            ratio = nested_ratio(times["engine"], times[fastest])
            add(size, "times as long", "engine", ratio, fastest, GOAL_BY_HAND, at_most=True)

    peaks: dict[tuple, float] = {}
    for (*size, arm), own in table[table["cell"] == "memory"].groupby([*SIZE, "arm"]):
        peak = own["peak_memory_mib"].max() / 1024
        found = None if math.isnan(peak) else Interval(peak, -math.inf, math.inf, len(own), "GiB")
        add(tuple(size), "peak memory", arm, found, goal=GOAL_MEMORY_GIB, at_most=True, note=own["note"].iloc[0])
        peaks[tuple(size)] = peak
    for (n, layers, batch), peak in peaks.items():
        shallow = min(other[1] for other in peaks if (other[0], other[2]) == (n, batch))
        if layers > shallow:
            ratio = Interval(peak / peaks[n, shallow, batch], -math.inf, math.inf, 1)
            add(
                (n, layers, batch),
                "memory over depth",
                "compiled",
                ratio,
                f"{shallow} layers",
                GOAL_DEPTH,
                at_most=True,
            )

    for circuit in FALL_BACKS:
        for size, own in table[table["cell"] == circuit].groupby(SIZE):
            times = times_of(own)
            if {"shipped", "compiled"} <= set(times):
                ratio = nested_ratio(times["shipped"], times["compiled"])
                add(size, f"times faster, {circuit}", "compiled", ratio, "shipped")

    first = table[table["cell"] == "first_call"]
    for (*size, arm, part), own in first.groupby([*SIZE, "arm", "part"], sort=False):
        found = {
            int(process): group.to_numpy() for process, group in own.dropna(subset=["seconds"]).groupby("process")["seconds"]
        }
        goal = GOAL_FIRST_CALL[part] if arm == "engine" else math.nan
        interval = nested_median(found) if found else None
        add(tuple(size), f"first call, {part}", arm, interval, goal=goal, at_most=True, note=own["note"].iloc[0])
    return pd.DataFrame(rows)
