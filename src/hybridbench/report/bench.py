"""The benchmark's numbers as a page: one table a size, then threads, memory and first calls."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from hybridbench import paths
from hybridbench.analysis.bench import BASELINES, PEER, SIZE, findings
from hybridbench.report import plots
from hybridbench.report.figures import save_figure
from hybridbench.report.style import in_order, style_of

CAPTION = (
    "One training step of the hybrid model in every way (median and 95 % interval over processes and samples); the numbers "
    "say how many times faster than PennyLane's layer it is. The circuit alone is forward and adjoint without Keras."
)
ALT = (
    "One panel a size with one row a way of training: the time of a step in milliseconds on a logarithmic axis as a mark "
    "with an interval, and beside it the factor to PennyLane's KerasLayer."
)
MET = {True: "met", False: "not met"}


def _number(value: float) -> str:
    """Three significant digits without an exponent."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}" if value > 0 else f"{value:g}"


def _with_interval(row: pd.Series) -> str:
    if math.isnan(row["value"]):
        return row["note"] or "not measured"
    if not math.isfinite(row["low"]):
        return _number(row["value"])
    return f"{_number(row['value'])} ({_number(row['low'])} to {_number(row['high'])})"


def _goal(row: pd.Series) -> str:
    if math.isnan(row["goal"]):
        return ""
    sign = "≤" if row["at_most"] else "≥"
    return f"{sign} {row['goal']:g}: {MET.get(row['met'], 'open')}"


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _steps(found: pd.DataFrame) -> str:
    steps = found[found["quantity"] == "step"].set_index("arm")
    faster = found[found["quantity"] == "times faster"].set_index(["arm", "against"])
    base = next((arm for arm in BASELINES if arm in steps.index and not math.isnan(steps.loc[arm, "value"])), None)
    peer = PEER in steps.index and not math.isnan(steps.loc[PEER, "value"])
    against = [name for name in (base, PEER if peer else None) if name]
    header = ["one training step", "ms"]
    for name in against:
        header += [f"times faster than {style_of(name).label}", "goal"]
    rows = []
    for arm in in_order(steps.index):
        row = [style_of(arm).label, _with_interval(steps.loc[arm])]
        for name in against:
            known = (arm, name) in faster.index
            row += [_with_interval(faster.loc[arm, name]), _goal(faster.loc[arm, name])] if known else ["", ""]
        rows.append(row)
    text = _table(header, rows)
    if base != BASELINES[0] and base:
        why = steps.loc[BASELINES[0], "note"] if BASELINES[0] in steps.index else "not measured"
        text += f"\n{style_of(BASELINES[0]).label}: {why}. Factors are against {style_of(base).label} instead.\n"
    for _, row in found[found["quantity"] == "times as long"].iterrows():
        text += (
            f"\n{style_of(row['arm']).label} takes {_with_interval(row)} times as long as {style_of(row['against']).label}"
        )
        text += f" (goal {_goal(row)}).\n"
    for _, row in found[(found["quantity"] == "times faster") & (found["against"] == "engine, 1 thread")].iterrows():
        text += f"\nWith all threads the engine is {_with_interval(row)} times faster than with one (goal {_goal(row)}).\n"
    return text


def write(table: pd.DataFrame, folder: Path) -> tuple[str, list[Path]]:
    """Write what the records in `table` say: bench.md, bench.csv and, where steps were timed, the figure.

    Args:
        table: records of the benchmark from one machine.
        folder: where.

    Returns:
        The page, and the files.
    """
    found = findings(table)
    first = table.iloc[0]
    about = (
        f"{first['cpu']}, {first['threads']} of {first['cores']} cores, {first['processes']} processes an arm, one working "
        f"at a time; commit {first['commit']}."
    )
    text = page(found, about)
    files = [folder / "bench.md", folder / "bench.csv"]
    paths.write_atomically(files[0], text)
    paths.write_atomically(files[1], found.to_csv(index=False))
    if (found["quantity"] == "step").any():
        files += save_figure(plots.bench_steps(table), "bench_steps", CAPTION, ALT, {"bench": table}, folder)
    return text, files


def page(found: pd.DataFrame, about: str) -> str:
    """Markdown of all findings.

    Args:
        found: from `hybridbench.analysis.bench.findings`.
        about: a sentence on machine, threads and processes.
    """
    parts = [f"# One training step of workload W\n\n{about}\n\nMedians with 95 % intervals over processes and samples.\n"]
    timed = found[found["quantity"].isin(["step", "times faster", "times as long"])]
    for (n, layers, batch), rows in timed.groupby(SIZE):
        parts.append(f"## {n} qubits, {layers} layers, batch {batch}\n\n{_steps(rows)}")
    memory = found[found["quantity"].isin(["peak memory", "memory over depth"])]
    if len(memory):
        rows = [
            [
                f"{row.n_qubits} qubits, {row.n_layers} layers, batch {row.batch_size}",
                _quantity(row),
                _with_interval(row),
                _goal(row),
            ]
            for _, row in memory.sort_values(SIZE, kind="stable").iterrows()
        ]
        parts.append("## Memory of the whole process, compiled layer\n\n" + _table(["size", "what", "", "goal"], rows))
    first = found[found["quantity"].str.startswith("first call")]
    if len(first):
        rows = [[style_of(row.arm).label, _quantity(row), _with_interval(row), _goal(row)] for _, row in first.iterrows()]
        n, layers, batch = first.iloc[0][SIZE]
        title = f"## First call at {n} qubits, {layers} layers, batch {batch} (libraries imported)\n\n"
        parts.append(title + _table(["what is called", "compiled kernels", "s", "goal"], rows))
    left = found[found["quantity"].str.startswith("times faster, ")]
    if len(left):
        rows = [[_quantity(row), _with_interval(row)] for _, row in left.iterrows()]
        n, layers, batch = left.iloc[0][SIZE]
        title = f"## Circuits that the compiled layer leaves to PennyLane, at {n} qubits, {layers} layers, batch {batch}\n\n"
        parts.append(title + _table(["circuit with", "step, times faster than KerasLayer as shipped"], rows))
    return "\n".join(parts)


def _quantity(row: pd.Series) -> str:
    names = {"peak memory": "peak, GiB", "memory over depth": f"times the peak at {row['against']}"}
    return names.get(row["quantity"], row["quantity"].removeprefix("first call, ").removeprefix("times faster, "))
