"""Commands that end badly: each with one sentence and its exit code, nothing half-written, no child left."""

import ast
import functools
import os
import random
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import fault_commands
import psutil
import pytest
import typer
from workflow_toys import toy

from hybridbench import children, lock, paths, stack
from hybridbench.errors import BusyError, HybridbenchError
from hybridbench.workflow import cli, run

TESTS = Path(__file__).parents[1]
CASES = tomllib.loads((TESTS / "faults" / "commands.toml").read_text(encoding="utf-8"))["case"]
PACKAGE = Path(stack.__file__).parent


@pytest.fixture
def place(tmp_path):
    return fault_commands.checkout(tmp_path)


def in_one_sentence(case, code, out, error):
    assert "Traceback" not in out + error, error
    assert code == case.get("exit", 2), error
    assert case.get("prints", "") in out
    if "says" in case:
        lines = error.splitlines()
        assert len(lines) == case.get("lines", 1), error
        assert lines[-1].startswith("hybridbench: ")
        assert case["says"] in lines[-1]


@pytest.mark.parametrize("case", [case for case in CASES if "call" not in case], ids=lambda case: case["name"])
def test_a_command_ends_in_one_sentence_and_leaves_all_as_it_was(case, place, monkeypatch, capsys):
    with fault_commands.arrange(case, place, monkeypatch):
        before = fault_commands.everything(place)
        if "apart" in case:
            done = fault_commands.apart(case, place)
            result = done.returncode, done.stdout, done.stderr
        else:
            result = fault_commands.here(fault_commands.words(case, place), monkeypatch, capsys)
        in_one_sentence(case, *result)
        assert fault_commands.everything(place) == before


def _cuda():
    from hybridbench.engine import cuda

    cuda.require.cache_clear()
    cuda.require()


def _keras_3():
    symbol = type("KerasTensor", (), {"__module__": "keras.src.backend.common.keras_tensor"})()
    stack.refuse_keras_3([None, symbol])


CALLS = {"cuda": _cuda, "keras_3": _keras_3, "prepare": stack.prepare_stack}


@pytest.mark.parametrize("case", [case for case in CASES if "call" in case], ids=lambda case: case["name"])
def test_a_program_is_told_in_one_sentence(case, place, monkeypatch):
    with fault_commands.arrange(case, place, monkeypatch), pytest.raises(HybridbenchError) as raised:
        CALLS[case["call"]]()
    assert case["says"] in str(raised.value)


def test_the_cases_have_names_of_their_own_and_known_words():
    assert len({case["name"] for case in CASES}) == len(CASES) >= 80
    known = {
        "name",
        "kind",
        "command",
        "files",
        "bytes",
        "folders",
        "links",
        "environment",
        "packages",
        "cpuinfo",
        "held_by",
    }
    known |= {"apart", "before", "memory_mib", "file_bytes", "call", "says", "prints", "lines", "exit"}
    assert set().union(*CASES) == known


# ------------------------------------------------------------------------------------------------------- drawn command lines
NASTY = (
    "",
    "nan",
    "-inf",
    "1e400",
    "-1",
    "0",
    "9" * 400,
    "é",
    "\udcff",
    "[" * 1500,
    "../..",
    "/",
    "None",
    "a b",
    "-",
    "%s",
    "{x}",
)


def _options():
    commands = typer.main.get_command(cli.app).commands
    return [(name, option) for name, command in commands.items() for option in command.params if option.name != "help"]


def _line(command, parameter, chosen):
    """A command line with what the command requires, and a drawn value for one parameter."""
    required = {"recommend": ["-q", "8", "-b", "8", "-l", "2"], "recommend-optimizer": ["-t", "energy", "-b", "9"]}
    flag = getattr(parameter, "is_flag", False)
    name = parameter.opts[0]
    drawn = [name] if flag else [name, chosen] if name.startswith("-") else [chosen]
    return [command, *required.get(command, []), *drawn]


@pytest.mark.parametrize("command", sorted({name for name, _ in _options()}))
def test_whatever_is_typed_there_is_no_traceback(command, place, monkeypatch, capsys):
    """Where what is typed is allowed, the busy build folder or the missing records end the command."""
    case = {"held_by": "'hybridbench run' (process 7)"}
    draw = random.Random(command)
    with fault_commands.arrange(case, place, monkeypatch):
        before = fault_commands.everything(place)
        for name, parameter in _options():
            for chosen in draw.sample(NASTY, 6) if name == command else ():
                line = _line(command, parameter, chosen)
                code, out, error = fault_commands.here(line, monkeypatch, capsys)
                assert code in ({0, 2} if command in ("status", "defaults", "run", "gpu") else {2}), (line, error)
                assert "Traceback" not in out + error, line
                assert not code or error.splitlines()[-1].startswith("hybridbench: "), (line, error)
        assert fault_commands.everything(place) == before


# ------------------------------------------------------------------------------------------------------------------ the lock
@pytest.fixture
def build(place, monkeypatch):
    monkeypatch.setattr(paths, "root", lambda: place)
    monkeypatch.setenv("HYBRIDBENCH_BUILD", str(place / "build"))
    return place / "build"


def test_one_command_at_a_time_holds_a_build_folder(build):
    with lock.build_folder():
        with pytest.raises(BusyError, match=r"works in build: wait until it has ended"), lock.build_folder():
            pass
        assert (build / lock.LOCK).is_file()
    assert not build.exists()
    with lock.build_folder() as folder:
        (folder / "kept").touch()
    assert [path.name for path in build.iterdir()] == ["kept"]


def test_what_a_killed_command_left_is_cleared_and_nothing_else(build, place):
    for name in ("build/records/timing/.a1.part", "data/.b2.part", "paper/.c3.part", ".d4.part", "build/.scratch/x/y"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).touch()
    kept = build / "records" / "timing" / "record.parquet"
    kept.touch()
    with lock.build_folder():
        assert not list(place.rglob(".*.part"))
        assert not paths.scratch_dir().exists()
    assert kept.is_file()


def start(place, program, **environment):
    """A Python that runs `program` with the toy checkout as its own."""
    before = f"import pathlib, sys; from hybridbench import paths; paths.root = lambda: pathlib.Path({str(place)!r})\n"
    variables = {"PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), str(Path(__file__).parent)]), **environment}
    variables |= {"HYBRIDBENCH_BUILD": str(place / "build"), "HYBRIDBENCH_PROGRESS": "off"}
    return subprocess.Popen(
        [sys.executable, "-c", before + program], env={**os.environ, **variables}, stderr=subprocess.PIPE, text=True
    )


def until(true, seconds=20.0):
    """Wait until `true()` is; says whether it came to be."""
    end = time.monotonic() + seconds
    while not (found := true()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def numbers(*files):
    """The process ids in files, once all of them are there."""
    found = [file.read_text(encoding="utf-8").split() for file in files if file.is_file()]
    return [int(pid) for pids in found for pid in pids] if len(found) == len(files) and all(found) else []


def gone(pids):
    def lives(pid):
        try:
            return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    return not any(map(lives, pids))


# ------------------------------------------------------------------------------------------------------------------- killed
CHILD = "import os, time; open({!r}, 'w').write(str(os.getpid())); time.sleep(60)"

#: What a process does, and the files in which its children say who they are.
STARTS = {
    "a child that is stopped": "import subprocess, os, signal, time\nfrom hybridbench.children import bound\n"
    "child = subprocess.Popen(bound([sys.executable, '-c', {child!r}]))\n"
    "while not os.path.exists({pids!r}): time.sleep(0.05)\nos.kill(child.pid, signal.SIGSTOP); time.sleep(60)",
    "a timing": "from hybridbench.measurement.timing import Arm, TimingCell, measure\n"
    "measure(TimingCell('toy', 1, 1, 1, (Arm('a', 'fault_arms:sleeping', {{'pids': {pids!r}}}),)))",
    "an interleaved timing": "from hybridbench.measurement.interleave import ProcessArm, Worker, cores_for\n"
    "Worker(ProcessArm('a', 'fault_arms:sleeping', {{'pids': {pids!r}}}), cores_for(1))",
    "a sweep": "from fault_arms import Slow, run; from functools import partial\n"
    "from hybridbench.measurement.records import RecordStore; from hybridbench.training.sweep import sweep\n"
    "if __name__ == '__main__': sweep(RecordStore('energy'), [Slow({pids!r})], run, 'toys', 'local', 1)",
}


@pytest.mark.parametrize("what", STARTS)
def test_a_killed_process_leaves_no_child(what, place):
    pids = place / "pids"
    process = start(place, STARTS[what].format(child=CHILD.format(str(pids)), pids=str(pids)))
    try:
        assert until(lambda: numbers(pids)), process.poll()
    finally:
        process.kill()
        process.wait()
    own = numbers(pids)
    assert until(lambda: gone(own), 5.0)


RUN = """
sys.argv = ["hybridbench", "run"]
from hybridbench.workflow import cli, verdict
verdict.this_machines_rows = list
cli.main()
"""
#: The first time a notebook starts a child and waits for it.
NOTEBOOK = """
import os, subprocess, sys
from hybridbench.children import bound
if not os.path.exists({go!r}):
    open({kernel!r}, "w").write(str(os.getpid()))
    subprocess.run(bound([sys.executable, "-c", {child!r}]), capture_output=True)
"""


@pytest.fixture
def running(place):
    """A run whose notebook has started a child of its own, and the processes of both."""
    kernel, child = place / "kernel", place / "child"
    source = NOTEBOOK.format(go=str(place / "go"), kernel=str(kernel), child=CHILD.format(str(child)))
    toy(place / "notebooks", "00_first", source)
    process = start(place, RUN)
    assert until(lambda: numbers(kernel, child), 40.0), process.poll()
    yield process, numbers(kernel, child)
    process.kill()
    process.wait()


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "end"])
def test_a_stopped_run_leaves_nothing_and_goes_on(running, build, place, monkeypatch, capsys, sent):
    process, pids = running
    code, _, error = fault_commands.here(["run"], monkeypatch, capsys)
    assert (code, "works in build: wait until it has ended" in error) == (2, True), error
    process.send_signal(sent)
    _, error = process.communicate(timeout=30)
    assert until(lambda: gone(pids), 5.0)
    if sent == signal.SIGTERM:
        assert process.returncode == 130
        assert error.splitlines()[-1].startswith("hybridbench: Stopped.")
        assert "Traceback" not in error
        assert not paths_below(build, ".scratch", ".lock")
    (place / "go").touch()
    assert run.run() == ["00_first"]
    assert sorted(file.name for file in build.rglob("*") if file.is_file()) == ["00_first.ipynb", "00_first.json"]


def paths_below(folder, *names):
    return [path for path in folder.rglob("*") if path.name in names]


# -------------------------------------------------------------------------------------------------- what the sources must be
@functools.cache
def calls(source):
    """Every call of a module: its node, and the name that is called."""
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [(node, ast.unparse(node.func)) for node in found]


def without_encoding(source):
    """Lines that read or write text, or a child's output, in the machine's own encoding."""
    bad = []
    for node, name in calls(source):
        given = {keyword.arg for keyword in node.keywords}
        last = name.rpartition(".")[2]
        modes = {value.value for value in (*node.args, *(k.value for k in node.keywords)) if isinstance(value, ast.Constant)}
        opened = last in {"open", "fdopen"} and name != "os.open" and not modes & {"rb", "wb", "ab", "r+b", "w+b", "x+b"}
        if opened or last in {"read_text", "write_text"} or {"text", "universal_newlines"} & given:
            bad += [f"line {node.lineno}: {name}"] if "encoding" not in given else []
    return bad


STARTED = {f"subprocess.{name}" for name in ("Popen", "run", "call", "check_call", "check_output")} | {
    "os.system",
    "os.fork",
}


def unbound(source):
    """Lines that start a process that would outlive this one; git's ends by itself."""
    bad = []
    for node, name in calls(source):
        if name in STARTED:
            command = ast.unparse(node.args[0]) if node.args else ""
            bad += [] if command.startswith(("bound(", "[*git", "command")) else [f"line {node.lineno}"]
    return bad


FILES = {file.relative_to(PACKAGE).as_posix(): file for file in sorted(PACKAGE.rglob("*.py"))}


@pytest.mark.parametrize("name", FILES)
def test_text_has_an_encoding_and_every_child_a_parent(name):
    source = FILES[name].read_text(encoding="utf-8")
    assert without_encoding(source) == []
    assert unbound(source) == []


def test_the_checks_of_sources_see_what_they_look_for():
    assert len(without_encoding("p.read_text()\np.write_text('x')\nopen(p)\np.open('a')\nrun(text=True)")) == 5
    assert without_encoding("open(p, 'rb')\np.open(encoding='utf-8')\nos.open(p, 0)\np.read_bytes()") == []
    assert unbound("subprocess.run([sys.executable])") == ["line 1"]
    assert unbound("subprocess.run(bound([sys.executable]))\nsubprocess.run([*git, 'status'])") == []


def test_notices_need_no_folder_for_temporary_files(monkeypatch, capfd):
    with monkeypatch.context() as patch:
        patch.setattr("tempfile._candidate_tempdir_list", lambda: ["/not/there"])
        patch.setattr("tempfile.tempdir", None)
        with stack._without_start_notices():
            os.write(2, b"something broke\n")
    assert capfd.readouterr().err == "something broke\n"


def test_a_child_of_a_parent_that_is_gone_does_not_begin():
    command = [sys.executable, children.__file__, "1", sys.executable, "-c", "print(1)"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
