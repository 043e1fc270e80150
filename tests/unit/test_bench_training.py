"""The benchmark's cells and arms: what is compared, that all do the same work, and that a run continues where it stopped."""

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pennylane as qml
import pytest
from typer.testing import CliRunner

from hybridbench import paths
from hybridbench.circuits.spec import CircuitSpec
from hybridbench.design.constants import FALL_BACKS
from hybridbench.errors import BackendError, ConfigurationError
from hybridbench.measurement.columns import COLUMNS
from hybridbench.measurement.interleave import cores_for, interleave
from hybridbench.measurement.records import RecordStore
from hybridbench.training import bench, bench_arms
from hybridbench.workflow import cli

PEERS = (paths.root() / bench.PEERS_PYTHON).exists()
TINY = bench.BenchCell("step", 3, 2, 5, (), threads=1, processes=1)
SIZE = {"n_qubits": 3, "n_layers": 2, "batch_size": 5}


@pytest.fixture(scope="module")
def problem(tmp_path_factory):
    return str(bench.write_problem(TINY, tmp_path_factory.mktemp("problem")))


def test_cells_are_those_that_were_asked_for():
    every = bench.cells(peers=False)
    assert [(c.n_qubits, c.n_layers, c.batch_size) for c in every if c.cell == "step"] == list(bench.SIZES)
    assert {c.cell for c in every} == {"step", "memory", "first_call", *FALL_BACKS}
    (one,) = bench.cells(False, ["8,2,32"])
    assert one.title == "8 qubits, 2 layers, batch 32"
    assert bench.cells(False, ["memory"])[1].title == "memory, 20 qubits, 2 layers, batch 8"
    assert all(bench.expected_seconds(cell) > 0 for cell in every)


def test_unknown_cells_and_numbers_are_refused(monkeypatch):
    with pytest.raises(ConfigurationError, match=r"Unknown cell '8,2'. Known: 4,2,32, 8,2,32"):
        bench.cells(False, ["8,2"])
    with pytest.raises(ConfigurationError, match="processes is 0"):
        bench.cells(False, processes=0)
    monkeypatch.setattr(bench, "PEERS_PYTHON", "nowhere/python")
    with pytest.raises(BackendError, match="'make bench-peers' makes it"):
        bench.cells(True)


def test_every_arm_has_its_factory():
    arms = [arm for n_qubits, _, batch in bench.SIZES for arm in bench.step_arms(n_qubits, batch, peers=True)]
    for arm in arms:
        module, _, name = arm.factory.partition(":")
        source = paths.root() / arm.folder / f"{module}.py" if arm.folder else Path(bench_arms.__file__)
        assert f"def {name}(" in source.read_text()


def test_a_problem_is_the_same_every_time(problem, tmp_path):
    first, second = np.load(problem), np.load(bench.write_problem(TINY, tmp_path))
    assert set(first) == set(second)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert first["x"].shape == (5, 64)
    assert first["weights"].shape == (2, 3, 3)
    assert all(first[name].dtype == np.float32 for name in first if name != "y")


@pytest.mark.parametrize(
    ("factory", "arguments"),
    [
        ("fit_step", {"layer": "graph"}),
        ("fit_step", {"layer": "swapped", "mode": "eager"}),
        ("fit_step", {"layer": "compiled", "mode": "eager"}),
        ("fit_step", {"layer": "compiled", "steps": 4}),
        ("fit_step", {"layer": "tensorflow", "steps": 4, "mode": "xla"}),
        ("engine_step", {}),
    ],
)
def test_all_arms_do_the_work_of_the_shipped_layer(problem, factory, arguments):
    shipped = bench_arms.fit_step(problem, **SIZE, layer="shipped", mode="eager")
    expected = shipped()["loss"]
    step = getattr(bench_arms, factory)(problem, **SIZE, **arguments)
    losses = step()["loss"]
    np.testing.assert_allclose(losses, expected if np.ndim(losses) else expected[0], rtol=1e-4)


@pytest.mark.parametrize("circuit", FALL_BACKS)
def test_a_circuit_that_falls_back_does_the_work_of_the_shipped_layer(problem, circuit):
    shipped, compiled = bench.fall_back_arms(circuit)
    first = bench_arms.fit_step(problem, **SIZE, **shipped.arguments)()["loss"]
    with pytest.warns(UserWarning, match="is not compiled"):
        second = bench_arms.fit_step(problem, **SIZE, **compiled.arguments)()["loss"]
    np.testing.assert_allclose(second, first, rtol=0.1 if circuit == "shots" else 1e-4)


def test_keras_alone_has_no_circuit(problem):
    step = bench_arms.fit_step(problem, **SIZE, layer="none", steps=4)
    losses = step()["loss"]
    assert losses[1] < losses[0]


@pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler here")
@pytest.mark.parametrize(("n_qubits", "n_layers", "batch"), [(1, 1, 3), (2, 2, 17), (3, 3, 5), (5, 2, 33)])
def test_the_c_by_hand_has_pennylane_s_values_and_gradients(monkeypatch, n_qubits, n_layers, batch):
    monkeypatch.syspath_prepend(str(paths.root() / "peers"))
    import c_step

    tf = bench_arms.tf
    spec = CircuitSpec("angle", "strongly_entangling", n_qubits, n_layers)
    circuit = bench_arms.build_qnode(spec, qml.device("default.qubit", wires=n_qubits), "backprop", "tf")
    rng = np.random.default_rng(0)
    angles, weights = (
        tf.Variable(rng.normal(size=(batch, n_qubits))),
        tf.Variable(rng.uniform(0, 6, (n_layers, n_qubits, 3))),
    )
    cotangent = rng.normal(size=(batch, n_qubits))
    with tf.GradientTape() as tape:
        values = tf.stack(circuit(angles, weights), axis=-1)
    expected = [values, *tape.gradient(values, [angles, weights], tf.constant(cotangent))]
    for threads in (1, 2):
        found = c_step.compile_step(n_qubits, n_layers, threads)(angles.numpy(), weights.numpy(), cotangent)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.skipif(not PEERS, reason="no .venv-peers here: 'make bench-peers' makes it")
def test_the_peers_do_the_same_work(problem):
    arms = [arm for arm in bench.step_arms(3, 5, peers=True) if arm.folder or arm.name == "shipped"]
    rows = interleave(arms, 1, 1, 0.02, {"problem": problem, **SIZE})
    assert {row["arm"] for row in rows} == {"shipped", "jax.jit", "C", "C, 1 thread"}
    if shutil.which("cc"):
        assert {row["note"] for row in rows} == {""}


def rows_of(cell):
    return [
        {"arm": arm.name, "part": "step", "process": process, "sample": 0, "calls": 1, "seconds": 0.1, "note": ""}
        for arm in cell.arms
        for process in range(cell.processes)
    ]


def test_a_run_continues_with_the_cells_that_are_missing(monkeypatch, tmp_path):
    measured = []

    def measure(cell, started):
        started(0)
        started(1)
        measured.append(cell.title)
        if len(measured) == 2:
            raise KeyboardInterrupt
        return rows_of(cell)

    monkeypatch.setattr(bench, "measure", measure)
    wanted, store, positions = bench.cells(False, ["4,2,32", "8,2,32"]), RecordStore("bench", tmp_path), []
    with pytest.raises(KeyboardInterrupt):
        bench.run(wanted, store, positions.append)
    table = bench.run(wanted, store, positions.append)
    assert measured == [wanted[0].title, wanted[1].title, wanted[1].title]
    assert set(table["n_qubits"]) == {4, 8}
    assert set(table.columns) <= set(COLUMNS)
    where = [(position.number, position.of, position.title.partition("process ")[2]) for position in positions]
    second = f"2 of {wanted[0].processes}"
    assert where == [(1, 2, ""), (1, 2, second), (2, 2, ""), (2, 2, second), (1, 1, ""), (1, 1, second)]
    assert positions[0].seconds_left > positions[2].seconds_left >= 0


def test_memory_and_first_calls_are_one_row_a_process():
    toy = bench.ProcessArm("engine", "bench_toys:clocked", {}, folder="tests/unit")
    given = {}
    cell = bench.BenchCell("memory", 3, 2, 5, (toy,), threads=1, processes=1)
    (row,) = bench._memory(cell, toy, given)
    assert row["part"] == "peak memory"
    assert row["peak_memory_mib"] > 1
    rows = bench._first_call(cell, toy, given, process=2)
    assert [(row["part"], row["process"]) for row in rows] == [("empty cache", 2), ("filled cache", 2)]
    assert all(row["seconds"] == row["first_call_seconds"] for row in rows)
    (row,) = bench._memory(cell, bench.ProcessArm("engine", "bench_toys:failing", {}, folder="tests/unit"), given)
    assert row["note"] == "not measured: ValueError: no such circuit"


@pytest.mark.parametrize("command", ["bench", "bench-peers"])
def test_commands_have_examples(command):
    result = CliRunner().invoke(cli.app, [command, "--help"])
    assert result.exit_code == 0
    assert f"hybridbench {command}" in result.output.split("Example", 1)[1]


def test_the_command_measures_shows_and_can_measure_again(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("HYBRIDBENCH_BUILD", str(tmp_path))
    monkeypatch.setattr(bench, "measure", lambda cell, started: started(0) or rows_of(cell))
    for arguments, turns in (([], 1), ([], 0), (["--force"], 1)):
        monkeypatch.setattr(sys, "argv", ["hybridbench", "bench", "--cells", "8,2,32", *arguments])
        with pytest.raises(SystemExit, match="0"):
            cli.main()
        out, error = capsys.readouterr()
        assert "| compiled layer |" in out
        assert len(re.findall(r"\[1/1\] 8 qubits, 2 layers, batch 32, about \d+ .* left", error)) == turns
    table = pd.read_parquet(tmp_path / "records" / "bench")
    assert set(table["study"]) == {"bench"}
    assert (tmp_path / "bench" / "bench_steps.png").is_file()


def test_the_peers_lock_has_hashes_names_no_index_and_holds_what_is_asked_for():
    text = (paths.root() / "requirements-peers.lock").read_text()
    assert not re.search(r"https?://|index-url|find-links", text)
    entries = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    assert all("--hash=sha256:" in entry for entry in entries)
    locked = dict(re.match(r"([\w.-]+)==(\S+)", entry).groups() for entry in entries)
    assert locked["pennylane"].startswith("0.45.")
    wanted = [line for line in (paths.root() / "peers/requirements.in").read_text().splitlines() if not line.startswith("#")]
    assert {re.match(r"[\w-]+", line)[0] for line in wanted} <= set(locked)


def test_all_arms_are_held_to_the_same_cores():
    assert len(cores_for(1)) == 1
    assert cores_for(10**6) == cores_for(10**6 + 1)
