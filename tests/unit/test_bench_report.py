"""The benchmark's page, its figure and its files."""

import json
import re

import bench_tables
import pandas as pd
import pytest

from hybridbench.analysis.bench import findings
from hybridbench.errors import DataError
from hybridbench.report import bench, plots


def test_the_page_has_every_number_with_its_goal():
    text = bench.page(findings(bench_tables.everything()), "A machine.")
    assert "## 8 qubits, 2 layers, batch 32" in text
    row = next(line for line in text.splitlines() if line.startswith("| compiled layer |"))
    assert "≥ 400: met" in row
    assert "≥ 3: met" in row
    number = r"\d\.\d\d"
    by_hand = "times as long as C by hand, circuit alone, one thread"
    assert re.search(rf"engine alone takes {number} \({number} to {number}\) {by_hand} \(goal ≤ 3: met\)", text)
    assert "KerasLayer as shipped: not measured: more than 24 GiB of memory. Factors are against KerasLayer, graph" in text
    assert "| 24 qubits, 2 layers, batch 1 | peak, GiB | 8.79 | ≤ 8: not met |" in text
    assert "| engine alone | filled cache | 1.50 (1.50 to 1.50) | ≤ 1: not met |" in text
    assert "| mid-circuit measurement | 20.0 (20.0 to 20.0) |" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)


def test_without_peers_the_page_has_no_column_of_theirs():
    arms = {arm: seconds for arm, seconds in bench_tables.ARMS.items() if arm in ("shipped", "compiled", "engine")}
    text = bench.page(findings(bench_tables.steps(arms=arms)), "")
    assert "jax.jit" not in text
    assert "by hand" not in text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0123456, "0.0123"), (1.0, "1.00"), (12.34, "12.3"), (1234.5, "1,234"), (0.0, "0")]
)
def test_three_digits(value, text):
    assert bench._number(value) == text


def test_the_figure_has_a_panel_a_size_and_a_mark_an_arm():
    fig = plots.bench_steps(bench_tables.everything())
    assert [axes.get_title(loc="left") for axes in fig.axes] == [
        "8 qubits, 2 layers, batch 32",
        "16 qubits, 2 layers, batch 32",
    ]
    for axes in fig.axes:
        assert "(ms)" in axes.get_xlabel()
        assert len(axes.containers) == len(bench_tables.ARMS)
        assert any("×" in text.get_text() for text in axes.texts)
    with pytest.raises(DataError, match="make bench"):
        plots.bench_steps(bench_tables.memory())


def test_files(tmp_path):
    text, files = bench.write(bench_tables.everything(), tmp_path)
    assert {file.name for file in files} == {
        "bench.md",
        "bench.csv",
        *(f"bench_steps.{e}" for e in ("json", "pdf", "svg", "png")),
    }
    assert (tmp_path / "bench.md").read_text() == text
    assert "2 of 2 cores" in text
    assert len(pd.read_csv(tmp_path / "bench.csv")) == len(findings(bench_tables.everything()))
    assert json.loads((tmp_path / "bench_steps.json").read_text())["alt"]
    assert len(bench.write(bench_tables.first_call(), tmp_path / "other")[1]) == 2, "no steps, no figure"
