"""The benchmark's numbers against their goals."""

import bench_tables
import numpy as np
import pandas as pd
import pytest

from hybridbench.analysis import bench
from hybridbench.errors import DataError


def number(found, quantity, arm, against="", size=(8, 2, 32)):
    rows = found[(found["quantity"] == quantity) & (found["arm"] == arm) & (found["against"] == against)]
    (row,) = (row for row in rows.itertuples() if (row.n_qubits, row.n_layers, row.batch_size) == size)
    return row


def test_findings_and_goals():
    found = bench.findings(bench_tables.everything())
    step = number(found, "step", "compiled")
    assert step.value == pytest.approx(0.4, rel=0.02)
    assert (step.unit, step.processes) == ("ms", 3)
    shipped = number(found, "times faster", "compiled", "shipped")
    assert shipped.value == pytest.approx(500, rel=0.03)
    assert (shipped.goal, shipped.met) == (400, True)
    peer = number(found, "times faster", "compiled", "jax.jit")
    assert (peer.goal, peer.met) == (3, True)
    assert number(found, "times faster", "engine", "jax.jit").met is True, "15 times"
    assert number(found, "times faster", "swapped", "shipped").met is True
    by_hand = number(found, "times as long", "engine", "C, 1 thread")
    assert by_hand.value == pytest.approx(2.5, rel=0.05)
    assert (by_hand.goal, by_hand.at_most, by_hand.met) == (3, True, True)
    assert np.isnan(number(found, "times faster", "C", "shipped").goal)


def test_the_graph_stands_in_for_a_layer_that_could_not_be_measured():
    found = bench.findings(bench_tables.everything())
    late = (16, 2, 32)
    assert np.isnan(number(found, "step", "shipped", size=late).value)
    assert "24 GiB" in number(found, "step", "shipped", size=late).note
    ratio = number(found, "times faster", "compiled", "shipped, graph", late)
    assert ratio.value == pytest.approx(57500, rel=0.03)
    assert (ratio.goal, ratio.met) == (400, True)


def test_threads_have_a_goal_where_they_have_to_help():
    found = bench.findings(bench_tables.steps((12, 2, 128)))
    threads = number(found, "times faster", "engine", "engine, 1 thread", (12, 2, 128))
    assert threads.value == pytest.approx(1.8, rel=0.03)
    assert (threads.goal, threads.met) == (1.6, True)
    assert not (bench.findings(bench_tables.steps())["against"] == "engine, 1 thread").any()


def test_memory_and_first_calls():
    found = bench.findings(bench_tables.everything())
    assert number(found, "peak memory", "compiled", size=(20, 2, 8)).met is True
    assert number(found, "peak memory", "compiled", size=(24, 2, 1)).met is False
    depth = number(found, "memory over depth", "compiled", "2 layers", (20, 8, 8))
    assert depth.value == pytest.approx(1030 / 1024)
    assert depth.met is True
    assert number(found, "first call, empty cache", "engine").met is True
    assert number(found, "first call, filled cache", "engine").met is False
    assert number(found, "first call, filled cache", "compiled").met is None


def test_circuits_that_fall_back_have_a_factor_each():
    found = bench.findings(bench_tables.everything())
    for circuit, factor in (("noise", 0.9), ("mid-circuit measurement", 20)):
        row = number(found, f"times faster, {circuit}", "compiled", "shipped", (4, 2, 8))
        assert row.value == pytest.approx(factor)
        assert row.met is None


def test_the_fullest_record_of_a_size_counts():
    without = bench_tables.steps(arms={"shipped": 1.0, "engine": 0.1}, record="other")
    ((_, rows),) = bench.step_cells(pd.concat([without, bench_tables.steps()]))
    assert set(rows["arm"]) == set(bench_tables.ARMS)


def test_machines_are_not_mixed():
    both = pd.concat([bench_tables.steps(), bench_tables.steps(machine="other")])
    with pytest.raises(DataError, match="several machines"):
        bench.findings(both)
