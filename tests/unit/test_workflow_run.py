import io
import json
import os
import signal
import subprocess
import sys
import time

import nbformat
import pytest
from rich.console import Console
from workflow_toys import profile, toy

from hybridbench import progress
from hybridbench.errors import BackendError, ConfigurationError
from hybridbench.workflow import profiles
from hybridbench.workflow import run as runs

QUICK = "00_first:\n  n_qubits: 6\n"


@pytest.fixture
def suite(tmp_path, monkeypatch):
    """Two toy notebooks that each append a line to a log; a build folder of their own."""
    monkeypatch.setenv("HYBRIDBENCH_BUILD", str(tmp_path / "build"))
    log = f"open({str(tmp_path / 'log')!r}, 'a')"
    toy(tmp_path / "notebooks", "00_first", "print(n_qubits)", f"{log}.write('first ')")
    toy(tmp_path / "notebooks", "01_second", f"{log}.write('second ')")
    profile(tmp_path / "profiles", "quick", QUICK)
    return tmp_path


def go(suite, **options):
    console = Console(file=io.StringIO(), width=200)
    done = runs.run("quick", console=console, notebooks=suite / "notebooks", profile_folder=suite / "profiles", **options)
    return done, console.file.getvalue()


def log(suite):
    file = suite / "log"
    return file.read_text().split() if file.exists() else []


def statuses(suite):
    values = profiles.load("quick", suite / "profiles", suite / "notebooks")
    return [step.status for step in runs.plan("quick", values, suite / "notebooks")]


def executed(suite, name):
    return suite / "build" / "notebooks" / "quick" / f"{name}.ipynb"


def test_a_run_executes_all_in_order_and_a_second_run_nothing(suite):
    assert statuses(suite) == ["missing", "missing"]
    done, text = go(suite)
    assert done == ["00_first", "01_second"]
    assert log(suite) == ["first", "second"]
    assert "[1/2] 00_first starts, at least 2 s left" in text
    assert "[2/2] 01_second starts, about 2 s left" in text
    assert "[2/2] 01_second done in" in text
    assert statuses(suite) == ["done", "done"]

    done, text = go(suite)
    assert done == []
    assert log(suite) == ["first", "second"]
    assert "2 notebooks are up to date" in text

    notebook = nbformat.read(executed(suite, "00_first"), as_version=4)
    assert "6\n" in [output.get("text") for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert "papermill" not in notebook.metadata
    assert str(suite) not in executed(suite, "00_first").read_text().replace(str(suite / "log"), "")


def test_what_a_change_makes_out_of_date(suite):
    go(suite)
    toy(suite / "notebooks", "01_second", f"open({str(suite / 'log')!r}, 'a').write('changed ')")
    assert statuses(suite) == ["done", "out of date"]
    go(suite)
    assert log(suite) == ["first", "second", "changed"]

    # A parameter of the first notebook makes the second, which builds on it, out of date too.
    profile(suite / "profiles", "quick", QUICK.replace("6", "7"))
    assert statuses(suite) == ["out of date", "out of date"]
    go(suite, only=["00_first"])
    assert statuses(suite) == ["done", "out of date"]
    go(suite)
    assert log(suite)[3:] == ["first", "changed"]

    executed(suite, "01_second").unlink()
    assert statuses(suite) == ["done", "missing"]
    executed(suite, "00_first").with_suffix(".json").write_text("{")
    assert statuses(suite) == ["missing", "missing"]


def test_changed_sources_or_data_make_all_out_of_date(suite, monkeypatch):
    go(suite)
    with monkeypatch.context() as patch:
        patch.setattr(runs, "_sources_digest", lambda: "other")
        assert statuses(suite) == ["out of date", "out of date"]
    (suite / "data").mkdir()
    (suite / "data" / "SHA256SUMS").write_text("0  table.csv\n")
    monkeypatch.setattr(runs.paths, "data_dir", lambda: suite / "data")
    assert statuses(suite) == ["out of date", "out of date"]


def test_only_and_force(suite):
    go(suite, only=["01_second"])
    assert log(suite) == ["second"]
    assert statuses(suite)[0] == "missing"
    go(suite)
    # The second ran before the first was there, so it runs again on top of it.
    assert log(suite) == ["second", "first", "second"]
    go(suite, only=["01_second"], force=True)
    assert log(suite) == ["second", "first", "second", "second"]
    assert statuses(suite) == ["done", "done"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"options": ["01_second.n_qubits=40"]}, "01_second, parameter n_qubits: 40 is out of range"),
        ({"options": ["01_second.n_qubit=4"]}, "Did you mean 'n_qubits'"),
        ({"only": ["02_third"]}, "Unknown notebook '02_third'"),
    ],
)
def test_bad_input_stops_before_anything_runs(suite, options, words):
    with pytest.raises(ConfigurationError, match=words):
        go(suite, **options)
    assert log(suite) == []
    assert not (suite / "build").exists()


def test_a_failing_notebook_keeps_its_partial_output_and_stops_the_run(suite):
    toy(suite / "notebooks", "00_first", "print('kept')", "ratio = 1 / 0", "print('never')")
    with pytest.raises(runs.NotebookFailed) as caught:
        go(suite)
    message = str(caught.value)
    partial = suite / "build" / "notebooks" / "quick" / "00_first.partial.ipynb"
    for word in ["00_first", "cell 5 of 6", "'ratio = 1 / 0'", "ZeroDivisionError: division by zero", str(partial)]:
        assert word in message
    assert "kept" in partial.read_text()
    assert '"papermill"' not in partial.read_text()
    assert log(suite) == []
    assert statuses(suite) == ["missing", "missing"]


def test_a_kernel_that_dies_is_a_failing_notebook(suite):
    toy(suite / "notebooks", "00_first", "import os\nos._exit(1)")
    with pytest.raises(runs.NotebookFailed, match="the kernel died"):
        go(suite)


def test_a_kernel_that_does_not_start_is_a_failing_notebook(suite, monkeypatch):
    def no_kernel(*_, **__):
        raise RuntimeError("Kernel didn't respond in 60 seconds")

    monkeypatch.setattr(runs.NBClientEngine, "execute_managed_notebook", no_kernel)
    with pytest.raises(runs.NotebookFailed, match="00_first did not start: Kernel didn't respond"):
        go(suite)
    assert statuses(suite) == ["missing", "missing"]


def test_an_interrupted_forced_run_leaves_the_finished_copy(suite):
    go(suite)
    before = executed(suite, "00_first").read_bytes()
    toy(suite / "notebooks", "00_first", "1 / 0")
    with pytest.raises(runs.NotebookFailed):
        go(suite, force=True)
    assert executed(suite, "00_first").read_bytes() == before


def test_a_killed_run_started_again_does_only_what_is_missing(suite):
    wait = f"import pathlib, time\nwhile not pathlib.Path({str(suite / 'go')!r}).exists(): time.sleep(0.05)"
    toy(suite / "notebooks", "01_second", wait, f"open({str(suite / 'log')!r}, 'a').write('second ')")
    program = (
        "from pathlib import Path; from hybridbench.workflow.run import run; "
        f"run('quick', notebooks=Path({str(suite / 'notebooks')!r}), profile_folder=Path({str(suite / 'profiles')!r}))"
    )
    partial = suite / "build" / "notebooks" / "quick" / "01_second.partial.ipynb"
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not partial.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert partial.exists()
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert statuses(suite) == ["done", "missing"]
    (suite / "go").touch()
    assert go(suite)[0] == ["01_second"]
    assert log(suite) == ["first", "second"]
    assert not partial.exists()


def test_a_kernel_of_another_python_is_refused(suite, monkeypatch):
    kernel = suite / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(json.dumps({"argv": ["/opt/other/bin/python", "-m", "x"], "display_name": "other"}))
    monkeypatch.setenv("JUPYTER_PATH", str(suite / "jupyter"))
    with pytest.raises(BackendError, match=r"starts /opt/other/bin/python, not this environment's"):
        go(suite)
    assert log(suite) == []


def test_time_left_adds_what_is_known(suite):
    toy(suite / "notebooks", "01_second", box="no such line")
    values = profiles.load("quick", suite / "profiles", suite / "notebooks")
    assert [step.expected_seconds for step in runs.plan("quick", values, suite / "notebooks")] == [None, None]
    profile(suite / "profiles", "quick", "")
    values = profiles.load("quick", suite / "profiles", suite / "notebooks")
    assert [step.expected_seconds for step in runs.plan("quick", values, suite / "notebooks")] == [2.0, None]
    assert "at least 2 s left" in go(suite)[1]


@pytest.mark.parametrize(
    ("box", "seconds"),
    [
        ("**Takes** about 40 s on two cores", 40),
        ("| **Takes** | 1.5 minutes |", 90),
        ("**Takes** About a minute", 60),
        ("**Takes** long", None),
        ("", None),
    ],
)
def test_the_box_says_how_long_it_takes(box, seconds):
    assert runs.takes_seconds([{"cell_type": "markdown", "source": [box]}]) == seconds


@pytest.mark.parametrize(
    ("seconds", "words"), [(47.6, "48 s"), (200, "3 min 20 s"), (3840, "1 h 04 min"), (59.7, "1 min 00 s")]
)
def test_durations_in_words(seconds, words):
    assert progress.duration(seconds) == words


def test_a_terminal_shows_the_cell_and_time_left(suite):
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    runs.run("quick", console=console, notebooks=suite / "notebooks", profile_folder=suite / "profiles")
    text = console.file.getvalue()
    assert "00_first" in text
    assert "left" in text
    assert "cell" in text
