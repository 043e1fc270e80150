"""The GPU study: its grid, its time limits, and that nothing comes of it where there is no GPU."""

import json
from collections import Counter
from types import SimpleNamespace

import pandas as pd
import pytest
import sealed

from hybridbench.analysis import claims, rules
from hybridbench.analysis.tables import Records
from hybridbench.errors import BackendError, ConfigurationError, DataError
from hybridbench.measurement import records, timing
from hybridbench.measurement.campaign import MOST_FAILURES
from hybridbench.measurement.child import TimeLimitReached
from hybridbench.measurement.records import RecordStore, config_hash
from hybridbench.measurement.timing import TimingError
from hybridbench.report import plots, style, tables
from hybridbench.training import gpu

PROOF = sealed.proof()


@pytest.fixture(autouse=True)
def cores(monkeypatch):
    """The grid of a machine with many cores and a GPU."""
    monkeypatch.setattr(records, "provenance", lambda: sealed.provenance(sealed.GPU, cores=16))
    monkeypatch.setattr(timing, "available_cores", lambda: 16)
    monkeypatch.setattr(gpu, "available_cores", lambda: 16)


@pytest.fixture
def build(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDBENCH_BUILD", str(tmp_path / "build"))
    return tmp_path / "build"


def rows_of(cell, seconds=lambda arm: 0.01):
    return [
        {
            "arm": arm.name,
            "part": "step",
            "sample": sample,
            "seconds": seconds(arm) * (1 + 0.01 * ((7 * sample + len(arm.name)) % 11 - 5)),
            "first_call_seconds": 1.0,
        }
        for arm in cell.arms
        for sample in range(cell.samples)
    ]


@pytest.fixture
def machine(build, monkeypatch):
    """A GPU of our own making, whose cells take as long as `took` says, on a clock of its own."""
    own = SimpleNamespace(now=0.0, took=lambda cell: 20.0, calls=[], limits=[])

    def measure(cell, limit):
        own.calls.append(cell)
        own.limits.append(limit)
        seconds = own.took(cell)
        if isinstance(seconds, Exception):
            own.now += 15
            raise seconds
        if seconds > limit:
            own.now += limit
            raise TimeLimitReached(f"stopped after {limit:.0f} s")
        own.now += seconds
        return rows_of(cell), PROOF

    monkeypatch.setattr(gpu, "measure", measure)
    monkeypatch.setattr(gpu, "require_gpu", lambda: ["GPU of a test"])
    monkeypatch.setattr(gpu, "gpu_facts", lambda: {"name": "GPU of a test"})
    monkeypatch.setattr(gpu, "check_engine", lambda seconds: {"complex64": 1e-6})
    return own


def run(own, name="engine", minutes=10.0):
    return gpu.run_part(name, minutes, clock=lambda: own.now)


def test_the_table_of_proven_cells(build):
    store = RecordStore("timing")
    for cell in gpu.engine_cells(16)[:2]:
        extra = {"gpu_memory_mib": 512.0, "gpu_energy_joules": None}
        rows = rows_of(cell, lambda arm: {"engine": 0.02, "engine, gpu": 0.01, "copy, gpu": 0.0005}.get(arm.name, 0.1))
        store.write(cell, [{**row, **extra} if "gpu" in row["arm"] else row for row in rows], PROOF)
    found = tables.gpu_table(store.read()).set_index("cell")
    assert found.loc["original_engine", "fastest on the CPU"] == "engine"
    assert found.loc["original_engine", "CPU time over GPU time"].startswith("2.0")
    assert found.loc["original_engine", ["ms", "memory (MiB)", "energy (J)"]].tolist() == ["10", "512", "–"]
    assert found.loc["bandwidth", ["fastest on the GPU", "CPU time over GPU time"]].tolist() == ["engine, gpu", "–"]
    with pytest.raises(DataError, match="no proven GPU row"):
        tables.gpu_table(store.read().assign(proof=""))


def test_the_table_of_bandwidths(build):
    store = RecordStore("timing")
    cell = gpu.engine_cells(16)[0]
    bytes_moved = {"copy, gpu": 2e9, "engine, gpu": 3e9, "engine, complex128, gpu": 1e9}
    rows = [{**row, "traffic_bytes": bytes_moved[row["arm"]]} for row in rows_of(cell, lambda arm: 0.001)]
    with pytest.raises(DataError, match="no bandwidth"):
        tables.bandwidth_table(pd.DataFrame({"cell": ["methods"]}))
    store.write(cell, rows, PROOF)
    found = tables.bandwidth_table(store.read()).set_index("arm")
    assert found["GB/s"].astype(float).to_dict() == pytest.approx(
        {"copy, gpu": 2000, "engine, gpu": 3000, "engine, complex128, gpu": 1000}, rel=0.01
    )
    assert found.loc["copy, gpu", "share of the copy"] == "100%"


# ----------------------------------------------------------------------------------------------------------------- the grid
@pytest.mark.parametrize("name", gpu.PARTS)
@pytest.mark.parametrize("threads", [2, 16])
def test_a_part_takes_ten_minutes_at_most_by_estimate(name, threads):
    cells = gpu.part(name, threads).cells
    assert sum(map(gpu.estimated_seconds, cells)) < 600
    assert len({config_hash(cell) for cell in cells}) == len(cells)
    assert all(cell.samples >= 30 and cell.threads in {1, threads} for cell in cells)


def test_the_grid_spans_what_the_study_asks_for():
    cells = [cell for name in gpu.PARTS for cell in gpu.part(name).cells]
    assert {cell.n_qubits for cell in cells} >= {2, 4, 8, 12, 16, 20, 24, 26}
    assert {cell.batch_size for cell in cells} >= {1, 100, 1024}
    assert {cell.n_layers for cell in cells} >= {1, 2, 8}
    assert {arm.arguments.get("precision") for cell in cells for arm in cell.arms} >= {"complex64", "complex128"}
    assert all(any(arm.gpu for arm in cell.arms) for cell in cells)
    for cell in cells:
        assert all(arm.gpu == ("gpu" in arm.name) for arm in cell.arms), cell
    beside = Counter(any(not arm.gpu for arm in cell.arms) for cell in cells)
    assert beside[True] > 4 * beside[False]


def test_the_original_workload_is_its_exact_one_with_arms_on_both_sides():
    found = [cell for cell in gpu.tensorflow_cells(16, True) if cell.cell == "original"]
    assert [(cell.n_qubits, cell.batch_size, cell.threads) for cell in found] == [(8, 100, 16), (8, 100, 1)]
    names = ["default.qubit/broadcast", "lightning.qubit/loop", "lightning.gpu/loop", "default.qubit/broadcast, gpu"]
    assert all([arm.name for arm in cell.arms] == names for cell in found)
    on_tensorflow = found[0].arms[-1]
    assert on_tensorflow.arguments == {"backend": "default.qubit", "mode": "broadcast", "device": "GPU:0"}
    assert "lightning.gpu/loop" not in [arm.name for arm in gpu.tensorflow_cells(16, False)[0].arms]


CPU = {"default.qubit/broadcast": 0.013, "lightning.qubit/loop": 0.1}


@pytest.mark.parametrize(
    ("claim", "seconds", "verdict"),
    [
        ("C01", {**CPU, "lightning.gpu/loop": 0.01, "default.qubit/broadcast, gpu": 0.02}, rules.CONFIRMED),
        ("C19", {**CPU, "lightning.gpu/loop": 0.01, "default.qubit/broadcast, gpu": 0.02}, rules.REFUTED),
        ("C01", {**CPU, "lightning.gpu/loop": 0.001, "default.qubit/broadcast, gpu": 0.01}, rules.REFUTED),
        ("C19", {**CPU, "lightning.gpu/loop": 0.001, "default.qubit/broadcast, gpu": 0.01}, rules.CONFIRMED),
        ("C07", {"lightning.gpu/adjoint": 0.002}, rules.CONFIRMED),
        ("C07", {"lightning.gpu/adjoint": 0.05}, rules.REFUTED),
        ("C24", {}, rules.OPEN),
    ],
)
def test_the_rules_find_what_they_look_for(build, claim, seconds, verdict):
    """Records of the grid's own cells, at times of our own making, decide the claims that need a GPU."""
    for cell in (*gpu.lightning_cells(16), *gpu.tensorflow_cells(16, True)):
        RecordStore("timing").write(cell, rows_of(cell, lambda arm: seconds.get(arm.name, 0.01)), PROOF)
    row = next(row for row in claims.LEDGER if row.id == claim)
    assert claims._decide(row, Records("build")).verdict == verdict


def test_every_arm_has_a_look():
    names = {arm.name for part in gpu.PARTS for cell in gpu.part(part).cells for arm in cell.arms}
    assert len(style.in_order(names)) == len(names)


def test_the_figure_of_the_engines_draws(build):
    store = RecordStore("timing")
    for cell in gpu.engine_cells(16):
        store.write(cell, rows_of(cell, lambda arm: 0.02 if arm.gpu else 0.01), PROOF)
    fig = plots.gpu_engine(store.read())
    assert len(fig.axes) >= 2
    assert [line.get_label() for line in fig.axes[0].containers]


# --------------------------------------------------------------------------------------------------------------- the limits
def test_a_part_stops_in_time_and_goes_on_where_it_stopped(machine):
    first = run(machine, minutes=1.0)
    assert machine.now <= 60
    assert len(first.done) == len(machine.calls) == 3
    total = len(gpu.part("engine").cells)
    assert len(first.left) == total - 3
    assert not first.failed
    before = list(machine.calls)
    machine.now = 0.0
    second = run(machine)
    assert second.left == []
    assert len(second.done) == total - 3
    assert not {config_hash(cell) for cell in before} & {config_hash(cell) for cell in machine.calls[3:]}
    assert run(machine).done == []


def test_a_cell_that_outlasts_the_part_is_ended_and_kept_nowhere(machine, build):
    machine.took = lambda cell: 20.0 if cell.cell == "bandwidth" else 1000.0
    done = run(machine, minutes=2.0)
    assert machine.now <= 120
    assert (len(done.done), done.failed) == (1, [])
    assert done.left[0][1] == "stopped after 100 s"
    assert len(list((build / "records" / "timing").glob("*.parquet"))) == 1
    assert machine.limits[-1] == pytest.approx(100)


def test_failures_are_reported_and_several_in_a_row_end_a_part(machine):
    total = len(gpu.part("engine").cells)
    machine.took = lambda cell: TimingError("no kernel image") if cell.n_qubits == 12 else 1.0
    done = run(machine)
    assert {reason for _, reason in done.failed} == {"no kernel image"}
    assert all("12 qubits" in cell.title for cell, _ in done.failed)
    assert done.left == []
    assert len(done.failed) == total - len(done.done)
    machine.took = lambda cell: TimingError("no kernel image")
    assert len(run(machine).failed) == MOST_FAILURES


@pytest.mark.parametrize("minutes", [0, -1, 10.5])
def test_a_part_has_a_time_limit_of_at_most_ten_minutes(machine, minutes):
    with pytest.raises(ConfigurationError, match="at most 10"):
        run(machine, minutes=minutes)


def test_an_engine_that_computes_something_else_is_not_timed(machine, build, monkeypatch):
    def wrong(seconds):
        raise TimingError("The CUDA engine differs from default.qubit")

    monkeypatch.setattr(gpu, "check_engine", wrong)
    with pytest.raises(TimingError, match="differs"):
        run(machine)
    assert machine.calls == []
    assert run(machine, "lightning").done  # the other parts do not rest on it


def difference(gap, precision="complex64"):
    about = {"n_qubits": 2, "n_layers": 1, "batch_size": 3, "precision": precision, "quantity": "value"}
    return {**about, "max_abs_difference": gap, "tolerance": 2e-5}


def counters(before, after):
    return {"before": {"launches": before}, "after": {"launches": after}}


def test_the_check_is_judged():
    good = [difference(1e-6), difference(3e-6), difference(1e-12, "complex128")]
    assert gpu.judge({"differences": good, **counters(0, 9)}) == {"complex64": 3e-6, "complex128": 1e-12}
    with pytest.raises(TimingError, match=r"differs from default.qubit by 0.001 in value at 2 qubits in complex64"):
        gpu.judge({"differences": [*good, difference(1e-3)], **counters(0, 9)})
    with pytest.raises(TimingError, match="by nan"):
        gpu.judge({"differences": [difference(float("nan"))], **counters(0, 9)})
    with pytest.raises(TimingError, match="launched no kernel"):
        gpu.judge({"differences": good, **counters(9, 9)})


def test_the_check_runs_in_a_process_of_its_own_and_is_written_down(build, monkeypatch):
    monkeypatch.setattr(gpu, "ENGINE_ARMS", "tests.unit.child_toys")
    assert gpu.check_engine(60.0) == {"complex64": 1e-6}
    (line,) = (build / "gpu" / "proof.jsonl").read_text().splitlines()
    assert json.loads(line)["check"] == "engine"
    with pytest.raises(TimeLimitReached, match=r"The check of the CUDA engine against default.qubit was stopped: no answer"):
        gpu.check_engine(0.0)


def test_the_machine_file_names_nobody(machine, build):
    import getpass
    import platform

    file = gpu.write_machine()
    found = json.loads(file.read_text())
    assert file == build / "gpu" / "machine.json"
    assert found["gpu"] == {"name": "GPU of a test"}
    assert found["packages"]["pennylane"] == "0.41.1"
    values = [str(value) for part in found.values() for value in part.values()]
    assert not {platform.node(), getpass.getuser()} & set(values)


# ------------------------------------------------------------------------------------------------------------ without a GPU
def test_without_a_gpu_nothing_runs_and_nothing_is_written(build):
    from hybridbench.measurement.proof import visible_gpus

    if visible_gpus()[0]:
        pytest.skip("this machine has a GPU")
    for name in gpu.PARTS:
        with pytest.raises(BackendError, match=r"There is no NVIDIA GPU here .* nothing was written"):
            gpu.run_part(name)
    assert not build.exists()
    assert gpu.measured_cells() == []
