"""`hybridbench gpu`, `make gpu` and the records of another machine."""

import shutil
import subprocess
import sys

import pytest
import sealed
from typer.testing import CliRunner

from hybridbench import paths
from hybridbench.analysis.statistics import Interval
from hybridbench.analysis.tables import Number, cite
from hybridbench.errors import BackendError
from hybridbench.measurement import checksums, records
from hybridbench.measurement.campaign import Outcome
from hybridbench.measurement.machine import this_machine
from hybridbench.measurement.proof import visible_gpus
from hybridbench.measurement.timing import Arm, TimingCell, write_answers
from hybridbench.progress import Position
from hybridbench.training import gpu
from hybridbench.workflow import cli


def call(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["hybridbench", *arguments])
    try:
        cli.main()
    except SystemExit as end:
        return end.code or 0, *capsys.readouterr()
    return 0, *capsys.readouterr()


@pytest.fixture
def build(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDBENCH_BUILD", str(tmp_path / "build"))
    return tmp_path / "build"


CELL = TimingCell("engine", 2, 1, 1, (Arm("engine, gpu", "module:function", gpu=True),))


def outcome(**ends):
    return Outcome((), records.RecordStore("timing"), **ends)


@pytest.fixture
def parts(build, monkeypatch):
    """Parts that end as a test says."""
    ends = {}

    def run_part(name, minutes, report):
        report(Position(0, 2, "a cell", 65.0))
        end = ends.get(name, outcome(done=[CELL]))
        if isinstance(end, BaseException):
            raise end
        return end

    monkeypatch.setattr(gpu, "run_part", run_part)
    monkeypatch.setattr("hybridbench.measurement.proof.require_gpu", lambda: ["GPU of a test"])
    return ends


@pytest.mark.skipif(bool(visible_gpus()[0]), reason="this machine has a GPU")
@pytest.mark.parametrize("more", [(), ("--part", "engine"), ("--part", "lightning", "--minutes", "1")])
def test_without_a_gpu_it_is_one_sentence_and_nothing_is_written(build, monkeypatch, capsys, more):
    code, out, error = call(monkeypatch, capsys, "gpu", *more)
    assert (code, out) == (2, "")
    assert error.startswith("hybridbench: There is no NVIDIA GPU here (NVML: ")
    assert error.count("\n") == 1
    assert not build.exists()


def test_all_parts_run_in_order_with_the_time_left(parts, monkeypatch, capsys):
    code, out, error = call(monkeypatch, capsys, "gpu")
    assert code == 0
    assert [line.split(":")[0] for line in out.splitlines()[1:4]] == ["Part engine", "Part lightning", "Part tensorflow"]
    assert "1 cells in 0 s. Nothing is left." in out
    assert "[engine 1/2] a cell, about 1 min 05 s left" in error


def test_what_failed_is_reported_and_the_other_parts_run(parts, monkeypatch, capsys):
    parts["engine"] = gpu.TimingError("the CUDA engine differs")
    left = [(CELL, "it did not fit into the time left")] * 2
    parts["lightning"] = outcome(failed=[(CELL, "no custatevec")], left=left)
    code, out, error = call(monkeypatch, capsys, "gpu")
    assert code == 1
    assert "Part engine was not run: the CUDA engine differs" in error
    assert f"No record of {CELL.title}: no custatevec" in error
    assert "2 more are left: the same command goes on with them. The first, engine, 2 qubits" in out
    assert "Part tensorflow: 1 cells" in out


def test_time_that_is_up_is_no_failure(parts, monkeypatch, capsys):
    parts["engine"] = outcome(left=[(CELL, "stopped after 9 s")])
    code, out, _ = call(monkeypatch, capsys, "gpu", "--part", "engine")
    assert code == 0
    assert "stopped after 9 s" in out
    assert "Part lightning" not in out


def test_an_interruption_says_what_is_kept(parts, monkeypatch, capsys):
    parts["engine"] = KeyboardInterrupt()
    code, out, error = call(monkeypatch, capsys, "gpu")
    assert (code, "Part" in out) == (130, False)
    assert error.splitlines()[-1] == (
        "hybridbench: Stopped. 0 records are kept, and the same command goes on with what is missing."
    )


def test_mistakes_are_one_line(build, monkeypatch, capsys):
    code, _, error = call(monkeypatch, capsys, "gpu", "--part", "lightening")
    assert code == 2
    assert error.startswith("hybridbench: Unknown part 'lightening'. Did you mean 'lightning'")
    assert error.endswith("Known: engine, lightning, tensorflow.\n")
    with pytest.raises(BackendError) if not visible_gpus()[0] else pytest.raises(ValueError):
        gpu.run_part("engine")


def test_the_command_and_the_target_are_explained():
    result = CliRunner().invoke(cli.app, ["gpu", "--help"])
    assert "hybridbench gpu" in result.output.split("Example", 1)[1]
    make = shutil.which("make")
    if make is None:
        pytest.skip("there is no make")
    done = subprocess.run(
        [make, "--no-print-directory", "-n", "-o", "setup", "gpu", "PART=engine", "MINUTES=5"],
        cwd=paths.root(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip().splitlines()[-1] == ".venv/bin/hybridbench gpu --part engine --minutes 5"


def rows_of(arm):
    row = {"arm": arm, "part": "step", "seconds": 1.0, "first_call_seconds": 1.0}
    return [{**row, "sample": sample} for sample in range(30)]


def test_another_machines_records_are_shipped_beside_ours(tmp_path, build, monkeypatch, capsys):
    monkeypatch.setattr(paths, "root", lambda: tmp_path)
    monkeypatch.setattr(paths, "data_dir", lambda: tmp_path / "data")
    cell = CELL
    ours = records.RecordStore("timing")
    cpu = TimingCell("batching", 2, 1, 1, (Arm("loop", "module:function"),))
    ours.write(cpu, rows_of("loop"))
    records.ship(["timing"])
    other = tmp_path / "other"
    theirs = records.RecordStore("timing", other / "records" / "timing")
    proof, polls = sealed.proof({"engine, gpu": True}, seconds=60.0), sealed.polls(["engine, gpu"])
    with sealed.on():
        theirs.write(cell, rows_of("engine, gpu"), proof)
    code, _, error = call(monkeypatch, capsys, "ship", "timing", "--from", str(other))
    assert (code, "no line holds what the driver answered" in error) == (2, True)
    write_answers(cell, "engine", proof, polls, other / "gpu" / "proof.jsonl")
    code, out, _ = call(monkeypatch, capsys, "ship", "timing", "--from", str(other))
    name = sealed.provenance(sealed.GPU)["machine"]
    written = f"wrote data/records/timing/{name}.parquet: 1 record, and nothing else of that machine\n"
    assert (code, out) == (0, written)
    table = records.read_records("timing")
    assert table.groupby("machine")["contributed"].first().isna().to_dict() == {name: False, this_machine().id: True}
    assert Number.of(Interval(1.3, 1.2, 1.4, n=30), cite(table)).text == "1.30 [1.20, 1.40] (taken elsewhere)"
    checksums.verify_all()
    code, _, error = call(monkeypatch, capsys, "ship", "--from", str(tmp_path / "nowhere"))
    assert (code, error) == (2, "hybridbench: No records in nowhere/records: give the folder that holds records/.\n")
