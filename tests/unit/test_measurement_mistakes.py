"""The mistakes of the original study, each made on purpose, and the harness that refuses it.

Its "CPU" loop re-used the GPU's tensors; a bare `except` put the CPU in the place of `lightning.gpu`; nothing waited for the
device before the clock was read, and compiling was timed as stepping; one seed stood for all; and a batch went into a
function for one circuit, which took its rows for its parameters.
"""

import ast
import json
import math
import time

import gpu_toys
import nbformat
import numpy as np
import pytest
import sealed

from hybridbench import paths
from hybridbench.circuits.qnode import original_circuit
from hybridbench.engine.backends import make_device
from hybridbench.errors import BackendError, ConfigurationError, DataError
from hybridbench.measurement import evidence, records, schema, timing
from hybridbench.measurement.timing import Arm, TimingCell, TimingError

GPU = gpu_toys.GPU


@pytest.fixture(autouse=True)
def fresh_gpu():
    GPU.__init__()


def function(call, **attributes):
    """What a factory returns: `call`, with the attributes that it has to carry."""
    for name, value in attributes.items():
        setattr(call, name, value)
    return call


def on_gpu(
    devices=("/device:GPU:0",), launch=True, waits=True, compiles=False, counted=True, tells=True, clocks=False, loss=1.0
):
    """An arm that works on the GPU of the tests, with one mistake where it is told to make one."""
    done = {"compilations": 1}

    def step():
        if launch:
            GPU.launch()
        done["compilations"] += compiles
        return {"step": 1.0} if clocks else 1.0

    def account():
        found = {"devices": list(devices), "compilations": done["compilations"]}
        return {**found, "kernels": GPU.kernels} if counted else found

    given = {"losses": lambda: [loss]}
    given |= {"evidence": account} if tells else {}
    given |= {"synchronize": GPU.synchronize} if waits else {}
    return function(step, **given)


def on_cpu(devices=None, launch=False, counted=False, loss=1.0):
    """An arm that works on the CPU, or only says so."""

    def step():
        if launch:
            GPU.launch()
            GPU.synchronize()
        return 1.0

    account = {} if devices is None else {"evidence": lambda: {"devices": list(devices)}}
    if counted:
        account = {"evidence": lambda: {"devices": ["CPU:0"], "kernels": GPU.kernels}}
    return function(step, losses=lambda: [loss], **account)


def falls_back(tells):
    """The study's own lines around its device."""
    try:
        make_device("lightning.gpu", 8)
        place = "GPU:0"
    except BackendError:  # the study had no name here
        place = "CPU:0"
    return function(lambda: 1.0, synchronize=lambda: None, evidence=lambda: {"devices": [place if tells else "GPU:0"]})


def arm(name, made, gpu=False, **arguments):
    return Arm(name, f"{__name__}:{made.__name__}", arguments, gpu)


def timed(*arms, samples=30, **driver):
    cell = TimingCell("test", 2, 1, 1, arms, samples=samples, warmup=1)
    with gpu_toys.watch(GPU, **driver) as watch:
        rows = timing.time_in_process(cell, watch)
    return rows, watch.proof()


def refused(*arms, **driver):
    with pytest.raises((TimingError, BackendError)) as caught:
        timed(*arms, **driver)
    return str(caught.value)


def test_an_honest_cell_is_timed_and_its_proof_names_every_arm():
    rows, proof = timed(arm("cpu", on_cpu, devices=["/device:CPU:0"]), arm("gpu", on_gpu, gpu=True))
    assert len(rows) == 60
    on_the_gpu = [row for row in rows if row["arm"] == "gpu"]
    assert {row["gpu_utilisation_percent"] for row in on_the_gpu} == {60}
    assert {row["gpu_memory_mib"] for row in on_the_gpu} == {512.0}
    assert {row["kernels"] for row in on_the_gpu} == {1.0}
    # 100 W over steps of at least 3 ms
    assert on_the_gpu[0]["gpu_energy_joules"] == pytest.approx(0.3, rel=0.9)
    assert not any("kernels" in row for row in rows if row["arm"] == "cpu")
    assert (proof.gpu, proof.seen_by, proof.utilisation_max_percent) == (gpu_toys.NAME, "pid", 60)
    assert proof.idle_watts == pytest.approx(100, rel=0.2)
    assert proof.arms["cpu"]["utilisation_percent"] == 0
    assert proof.arms["gpu"]["devices"] == ["/device:GPU:0"]
    assert json.loads(json.dumps(proof.as_dict()))["arms"]["gpu"]["kernels"] > 0


# ----------------------------------------------------------------------------------------- the CPU arm on the GPU's tensors
def test_a_cpu_arm_on_gpu_tensors_is_refused():
    message = refused(arm("cpu", on_cpu, devices=["/job:localhost/device:GPU:0"]), arm("gpu", on_gpu, gpu=True))
    assert "CPU arm 'cpu' works on /job:localhost/device:GPU:0: a GPU would be timed under a CPU's name" in message


def test_without_a_watch_as_well():
    with pytest.raises(TimingError, match="works on GPU:0"):
        timing.time_in_process(TimingCell("test", 2, 1, 1, (arm("cpu", on_cpu, devices=["GPU:0"]),)))


def test_a_cpu_arm_that_keeps_quiet_about_it_is_seen_by_the_driver():
    message = refused(arm("cpu", on_cpu, launch=True), arm("gpu", on_gpu, gpu=True))
    assert "CPU arm 'cpu' ran alone and the GPU was busy, 60 % against 0 %" in message


def test_or_by_the_count_of_kernels_where_the_driver_does_not_tell():
    message = refused(arm("cpu", on_cpu, launch=True, counted=True), arm("gpu", on_gpu, gpu=True), tells=False)
    assert "CPU arm 'cpu' launched" in message


# --------------------------------------------------------------------------------------------- the except around the device
def test_a_gpu_arm_that_fell_back_to_the_cpu_is_refused():
    message = refused(arm("gpu", falls_back, gpu=True, tells=True))
    assert "GPU arm 'gpu' names CPU:0 as the place of its work, which is no GPU; the row is refused." in message


def test_and_if_it_lies_the_idle_gpu_gives_it_away():
    message = refused(arm("gpu", falls_back, gpu=True, tells=False))
    assert "the GPU did nothing (utilisation 0 %" in message


def test_a_gpu_arm_that_says_nothing_is_refused():
    assert "GPU arm 'gpu' has no `evidence`, so nothing says where it ran" in refused(
        arm("gpu", on_gpu, gpu=True, tells=False)
    )
    assert "names no device" in refused(arm("gpu", on_gpu, gpu=True, devices=()))


def test_a_count_of_kernels_that_stands_still_is_refused():
    with pytest.raises(TimingError, match="launched no kernel while it was timed"):
        evidence.check_timed("gpu", True, evidence.Evidence(kernels=7), evidence.Evidence(kernels=7))
    # Another program keeps the GPU busy, and the arm does nothing.
    message = refused(arm("gpu", on_gpu, gpu=True, launch=False), others=True)
    assert "the GPU did nothing (utilisation 60 %, 0 kernels)" in message


def test_nothing_in_the_suite_swallows_an_error():
    """No `except:`, and no `except Exception` (or wider) that does not raise, in the package and the notebooks."""
    sources = {file.name: file.read_text() for file in (paths.root() / "src").rglob("*.py")}
    for file in (paths.root() / "notebooks").glob("*.ipynb"):
        cells = nbformat.read(file, as_version=4).cells
        sources |= {f"{file.name}, cell {cell.id}": cell.source for cell in cells if cell.cell_type == "code"}
    assert len(sources) > 100
    found = {name: len(lines) for name, source in sources.items() if (lines := swallowing(source))}
    # One handler asks whether a user's own function is the identity; no device is near it.
    assert found == {"tracing.py": 1}


def swallowing(source):
    """Lines of handlers that take any error, or a missing device, and go on as if nothing had been."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ExceptHandler):
            continue
        names = {getattr(part, "id", getattr(part, "attr", "")) for part in ast.walk(node.type)} if node.type else {""}
        wide = not node.type or names & {"Exception", "BaseException"}
        silent = all(isinstance(line, ast.Pass | ast.Continue) for line in node.body)
        told = any(
            isinstance(part, ast.Raise) or (isinstance(part, ast.Name) and part.id == node.name) for part in ast.walk(node)
        )
        if (wide and not told) or (silent and names & {"BackendError", "DeviceError", "ImportError", "RuntimeError"}):
            found.append(node.lineno)
    return found


@pytest.mark.parametrize(
    ("handler", "bad"),
    [
        ("except:\n    dev = cpu()", True),
        ("except Exception:\n    dev = cpu()", True),
        ("except (BackendError, ValueError):\n    pass", True),
        ("except qml.DeviceError:\n    pass", True),
        ("except Exception as error:\n    raise BackendError('no') from error", False),
        ("except BackendError as error:\n    print(error)", False),
    ],
)
def test_the_search_for_swallowed_errors_finds_them(handler, bad):
    assert bool(swallowing(f"try:\n    dev = gpu()\n{handler}\n")) == bad


# ------------------------------------------------------------------------------------------------------- no synchronisation
def test_a_gpu_arm_that_nobody_can_wait_for_is_refused():
    message = refused(arm("gpu", on_gpu, gpu=True, waits=False))
    assert "GPU arm 'gpu' has no `synchronize`, so the clock would stop before the work is done" in message


def test_the_clock_is_read_when_the_gpu_is_done():
    """A call only starts the kernel, in microseconds; what is recorded is the 3 ms that it takes."""
    rows, _ = timed(arm("gpu", on_gpu, gpu=True))
    assert min(row["seconds"] for row in rows) >= 0.003
    begin = time.perf_counter()
    on_gpu()()
    assert time.perf_counter() - begin < 0.003


def test_a_gpu_arm_must_not_clock_itself():
    assert "GPU arm 'gpu' of cell 'test' clocks itself" in refused(arm("gpu", on_gpu, gpu=True, clocks=True))


# ------------------------------------------------------------------------------------------------------ compile time inside
def test_compiling_while_the_clock_runs_is_refused():
    message = refused(arm("gpu", on_gpu, gpu=True, compiles=True))
    assert "Arm 'gpu' compiled 30 times while it was timed: compile time would be counted as step time" in message


# --------------------------------------------------------------------------------------------------------------- one sample
def test_a_single_sample_is_refused():
    with pytest.raises(ConfigurationError, match="samples is 1, and a timing needs at least 30"):
        timed(arm("gpu", on_gpu, gpu=True), samples=1)


# --------------------------------------------------------------------------------------------------------- rows for columns
def energies(theta, of_rows):
    """The study's energy of a batch, or, as in its last cell, of a tensor whose rows are taken for the wires' angles."""
    circuit = original_circuit(4, interface="auto")
    values = circuit(theta.T if of_rows else theta)
    return lambda: float(np.mean(values))


def original(of_rows=False):
    theta = np.random.default_rng(0).normal(size=(4, 4))
    loss = energies(theta, of_rows)
    return function(loss, losses=lambda: [loss()])


def test_rows_taken_for_columns_are_refused():
    columns, rows = arm("columns", original), arm("rows", original, of_rows=True)
    with pytest.raises(TimingError, match=r"The loss at the start is .* in arm 'rows' .* the arms do not do the same work"):
        timing.time_in_process(TimingCell("test", 4, 1, 4, (columns, rows)))
    again = arm("again", original)
    assert timing.time_in_process(TimingCell("test", 4, 1, 4, (columns, again)))


def test_a_gpu_arm_that_does_other_work_is_refused():
    assert "the arms do not do the same work" in refused(arm("cpu", on_cpu, loss=1.01), arm("gpu", on_gpu, gpu=True))


# ------------------------------------------------------------------------------------------------- what the driver may hide
def test_a_process_that_the_driver_hides_shows_by_its_memory():
    _, proof = timed(arm("gpu", on_gpu, gpu=True), lists_pid=False)
    assert (proof.seen_by, proof.pid_seen, proof.process_memory_mib) == ("memory", False, 512.0)


def test_a_card_that_tells_no_utilisation_needs_a_count_of_kernels():
    _, proof = timed(arm("gpu", on_gpu, gpu=True), tells=False, counts_energy=False)
    assert (proof.utilisation_max_percent, proof.energy_joules, proof.idle_watts) == (None, None, None)
    assert "No proof that GPU of a test did the work" in refused(arm("gpu", on_gpu, gpu=True, counted=False), tells=False)


# ------------------------------------------------------------------------------------------------------ no proof, no record
def test_a_gpu_cell_is_not_timed_without_a_witness():
    with pytest.raises(TimingError, match="nobody watches the GPU"):
        timing.time_in_process(TimingCell("test", 2, 1, 1, (arm("gpu", on_gpu, gpu=True),)))


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("/job:localhost/replica:0/task:0/device:GPU:0", True),
        ("GPU:1", True),
        ("lightning.gpu", True),
        ("Tesla T4", True),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", True),
        ("/device:CPU:0", False),
        ("numba's simulator of a GPU", False),
    ],
)
def test_names_of_gpus(name, is_one):
    assert evidence._is_gpu(name, ["Tesla T4", "NVIDIA H100 80GB HBM3"]) == is_one


def test_the_cuda_simulator_is_no_gpu(monkeypatch):
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", "1")
    with pytest.raises(TimingError, match="runs CUDA kernels on the CPU: GPU arm 'gpu' is not timed"):
        timing.measure(TimingCell("test", 2, 1, 1, (arm("gpu", on_gpu, gpu=True),)))


def test_a_fresh_process_hands_back_rows_proof_and_every_answer_of_the_driver(tmp_path, monkeypatch):
    """The whole way of a GPU cell, with a driver of our own making in pynvml's place."""
    constants = "\n".join(f"NVML_{name} = 0" for name in ("CLOCK_SM", "CLOCK_MEM", "TEMPERATURE_GPU"))
    module = f"import gpu_toys\nglobals().update(vars(gpu_toys.driver(gpu_toys.GPU)))\n{constants}\n"
    (tmp_path / "pynvml.py").write_text(module)
    here = str(paths.root() / "tests" / "unit")
    places = [str(tmp_path), here, str(paths.root() / "src")]
    monkeypatch.setenv("PYTHONPATH", ":".join(places))
    cell = TimingCell("test", 2, 1, 1, (Arm("gpu", "gpu_toys:working_arm", gpu=True),))
    rows, proof = timing.measure(cell, 60.0, tmp_path / "gpu" / "proof.jsonl")
    assert len(rows) == 30
    assert rows[0]["traffic_bytes"] == 8.0
    assert (proof["gpu"], proof["seen_by"], proof["arms"]["gpu"]["devices"]) == (gpu_toys.NAME, "pid", ["GPU:0"])
    (line,) = map(json.loads, (tmp_path / "gpu" / "proof.jsonl").read_text().splitlines())
    assert (line["record"], line["proof"]) == (records.config_hash(cell), proof)
    assert {poll[1] for poll in line["polls"]} >= {"idle", "gpu", "samples"}
    table = records.RecordStore("timing", tmp_path / "timing")
    with sealed.on(gpu_toys.NAME):
        table.write(cell, rows, proof)
    schema.check_raw_proof(table.read(), line, "proof.jsonl")  # what a real run leaves is what shipping asks for
    assert table.read()["gpu_energy_joules"].gt(0).all()


ROWS = [{"arm": "gpu", "part": "step", "sample": k, "seconds": 1.0, "first_call_seconds": 1.0} for k in range(30)]


def test_a_gpu_row_without_proof_is_neither_written_nor_shipped(tmp_path, monkeypatch):
    cell = TimingCell("test", 2, 1, 1, (arm("gpu", on_gpu, gpu=True),))
    store = records.RecordStore("timing", tmp_path / "other" / "records" / "timing")
    with pytest.raises(ConfigurationError, match="has GPU arms and no proof from the driver: nothing was written"):
        store.write(cell, ROWS)
    monkeypatch.setattr(paths, "data_dir", lambda: tmp_path / "data")
    proof = sealed.proof({"gpu": True})
    with sealed.on():
        written = store.write(cell, ROWS, proof)
    timing.write_answers(cell, "test", proof, sealed.polls(["gpu"]), tmp_path / "other" / "gpu" / "proof.jsonl")
    monkeypatch.setattr(records, "_check_commits", lambda *_: None)
    (table,) = records.ship(["timing"], tmp_path / "other")
    assert set(records.read_records("timing")["arm"]) == {"gpu"}
    shipped = table.read_bytes()
    unproven = store.read().assign(proof="")
    unproven.to_parquet(written, index=False)
    with pytest.raises(DataError, match="proves nothing of GPU arm 'gpu': it has no proof from the driver"):
        records.ship(["timing"], tmp_path / "other")
    assert table.read_bytes() == shipped


def test_the_closed_form_tells_rows_from_columns():
    """cos(theta_1), the second column: what the study's last cell would have had to compute."""
    theta = np.random.default_rng(0).normal(size=(4, 4))
    assert energies(theta, False)() == pytest.approx(np.mean(np.cos(theta[:, 1])))
    assert energies(theta, True)() == pytest.approx(np.mean(np.cos(theta[1])))
    assert not math.isclose(energies(theta, False)(), energies(theta, True)(), rel_tol=evidence.SAME_LOSS)
