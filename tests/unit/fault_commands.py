"""The circumstances in which a command of tests/faults/commands.toml runs, by the words of that file."""

import contextlib
import fcntl
import importlib.metadata
import os
import resource
import shlex
import subprocess
import sys
from pathlib import Path

from workflow_toys import profile, toy

from hybridbench import paths, stack
from hybridbench.workflow import cli

SOURCES = Path(cli.__file__).parents[2]
#: What a test machine may set and a case has to be free of.
OURS = ("HYBRIDBENCH", "TF_", "LC_", "LANG", "PYTHONUTF8", "PYTHONIOENCODING", "PYTHONCOERCECLOCALE", "OPENBLAS")


def checkout(folder):
    """A checkout of one notebook and one profile, without records."""
    toy(folder / "notebooks", "00_first", "print(n_qubits, 'Größe, R²')")
    profile(folder / "profiles", "quick", "00_first:\n  n_qubits: 6\n")
    (folder / "data" / "records").mkdir(parents=True)
    (folder / "pyproject.toml").write_text("", encoding="utf-8")
    return folder


def everything(folder):
    """Every path below a folder and what is in the files."""
    found = {}
    for where, folders, names in os.walk(folder):
        found |= {Path(where, name): None for name in folders}
        found |= {Path(where, name): Path(where, name).read_bytes() for name in names if Path(where, name).is_file()}
    return found


def arrange(case, place, monkeypatch):
    """Bring about what `case` says of files, links, environment, packages and processors; returns what has to be closed."""
    for name, text in case.get("files", {}).items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text, encoding="utf-8")
    for name, text in case.get("bytes", {}).items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(bytes.fromhex(text))
    for name in case.get("folders", []):
        (place / name).mkdir(parents=True)
    for name, target in case.get("links", {}).items():
        (place / name).symlink_to(target)
    monkeypatch.setattr(paths, "root", lambda: place)
    monkeypatch.setenv("HYBRIDBENCH_BUILD", str(place / "build"))
    for name, value in case.get("environment", {}).items():
        monkeypatch.setenv(name, value.replace("CHECKOUT", str(place)))
    if "packages" in case:
        monkeypatch.setattr(stack.metadata, "version", _versions(case["packages"]))
    if "cpuinfo" in case:
        monkeypatch.setattr(stack, "CPUINFO", place / case["cpuinfo"])
    held = contextlib.ExitStack()
    if "held_by" in case:
        (place / "build").mkdir(exist_ok=True)
        lock = held.enter_context((place / "build" / ".lock").open("w", encoding="utf-8"))
        lock.write(case["held_by"])
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
    return held


def _versions(given):
    true = importlib.metadata.version

    def version(name):
        if given.get(name) == "missing":
            raise importlib.metadata.PackageNotFoundError(name)
        return given.get(name) or true(name)

    return version


def words(case, place):
    """The command's arguments; LONG is a number of 400 digits, DEEP a list in a list in a list and so on."""
    text = case["command"].replace("CHECKOUT", str(place)).replace("LONG", "9" * 400).replace("DEEP", "[" * 1500)
    return [word.replace("\\xff", "\udcff") for word in shlex.split(text)]


def here(arguments, monkeypatch, capsys):
    """Exit code, standard output and standard error of the entry point, in this process."""
    monkeypatch.setattr(sys, "argv", ["hybridbench", *arguments])
    code = 0
    try:
        cli.main()
    except SystemExit as end:
        code = end.code
    return code, *capsys.readouterr()


def _limits(case):
    """Sets the limits of a process that starts."""

    def limit():
        if "memory_mib" in case:
            resource.setrlimit(resource.RLIMIT_AS, (case["memory_mib"] << 20,) * 2)
        if "file_bytes" in case:
            resource.setrlimit(resource.RLIMIT_FSIZE, (case["file_bytes"],) * 2)

    return limit


def apart(case, place):
    """The same in a process of its own, for what a process cannot do to itself."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    environment |= {"PYTHONPATH": str(SOURCES), "HYBRIDBENCH_BUILD": str(place / "build")}
    environment |= {name: value.replace("CHECKOUT", str(place)) for name, value in case.get("environment", {}).items()}
    program = [
        "import sys, pathlib; sys.argv = ['hybridbench', *sys.argv[2:]]",
        *case.get("before", []),
        f"from hybridbench import paths; paths.root = lambda: pathlib.Path({str(place)!r})",
        "from hybridbench.workflow import cli; cli.main()",
    ]
    return subprocess.run(
        [sys.executable, "-c", "\n".join(program), "x", *words(case, place)],
        env=environment, capture_output=True, encoding="utf-8", errors="replace", check=False, timeout=60,
        preexec_fn=_limits(case), cwd=place,
    )  # fmt: skip
