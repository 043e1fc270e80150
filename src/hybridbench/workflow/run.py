"""Runs the notebooks in order through papermill; a run that was cut off continues with what is missing or out of date.

Everything is checked before anything runs. A notebook is done when its executed copy and its state file are there and the
state's digest is the one of its inputs: its source and parameters, the package's sources, the checksums of `data/`, and the
digests of the notebooks before it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat
import papermill
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
from nbclient.exceptions import DeadKernelError
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text
from traitlets.config import Config

from hybridbench import lock, paths
from hybridbench.children import bound, environment
from hybridbench.errors import BackendError, HybridbenchError, check_name
from hybridbench.measurement.checksums import SUMS
from hybridbench.progress import duration
from hybridbench.workflow import parameters, profiles

KERNEL = "python3"
#: A run that is said to have taken longer did not: a year.
MOST_SECONDS = 3.2e7
_TAKES = re.compile(
    r"\*\*Takes\*\*[^0-9\n]*?\b(?P<number>[0-9]+(?:\.[0-9]+)?|a|one)\s*(?P<unit>s|sec|seconds?|min|minutes?)\b",
    re.IGNORECASE,
)


class NotebookFailed(HybridbenchError, RuntimeError):
    """A notebook stopped with an error; its partial output was kept and no later notebook ran."""

    exit_code = 1


@dataclass(frozen=True)
class Step:
    """One notebook of a run."""

    notebook: str
    parameters: dict[str, Any]  #: what papermill injects
    status: str  #: "done", "out of date" or "missing"
    output: Path  #: the executed copy
    last_seconds: float | None  #: how long the last finished run took; None where there is none
    advertised_seconds: float | None  #: what its box says, where it runs with its defaults

    @property
    def expected_seconds(self) -> float | None:
        """How long it will take, as far as is known."""
        return self.advertised_seconds if self.last_seconds is None else self.last_seconds

    @property
    def state_file(self) -> Path:
        """What the last successful run left beside the executed copy."""
        return self.output.with_suffix(".json")


def plan(profile: str, values: dict[str, dict[str, Any]], notebooks: Path | None = None) -> list[Step]:
    """Every notebook of `values` in running order with its status; reads only.

    Args:
        profile: names the folder below `build/notebooks/`.
        values: parameters of every notebook, from `profiles.load`.
        notebooks: where notebooks lie, `notebooks/` unless told otherwise.
    """
    upstream: list[str] = []
    steps = []
    for notebook, given in values.items():
        output = paths.build_dir() / "notebooks" / profile / f"{notebook}.ipynb"
        state = _read_state(output)
        digest = _digest(notebook, given, upstream, notebooks)
        status = "missing" if not state else "done" if state["digest"] == digest else "out of date"
        advertised = _advertised_seconds(notebook, given, notebooks)
        steps.append(Step(notebook, given, status, output, state.get("seconds"), advertised))
        upstream.append(digest)
    return steps


def run(
    profile: str = "quick",
    only: Sequence[str] = (),
    force: bool = False,
    options: Sequence[str] = (),
    console: Console | None = None,
    notebooks: Path | None = None,
    profile_folder: Path | None = None,
) -> list[str]:
    """Run what is missing or out of date; returns the names of the notebooks that ran.

    Args:
        profile: which parameters.
        only: run these notebooks and no others (still skipping those that are done).
        force: run also what is done.
        options: parameters on top of the profile, "notebook.name=value".
        console: where progress goes, standard error unless told otherwise.
        notebooks, profile_folder: `notebooks/` and `profiles/` unless told otherwise.

    Raises:
        ConfigurationError: an unknown name, a wrong type or a value that is not allowed; nothing ran.
        BackendError: Jupyter would start another Python; nothing ran.
        NotebookFailed: a notebook stopped with an error.
    """
    values = profiles.override(profiles.load(profile, profile_folder, notebooks), options, notebooks)
    for notebook in only:
        check_name("notebook", notebook, values)
    # Without debugger notices or live bars in the notebooks' outputs; who sets a variable has it as it is.
    kernels = {"JUPYTER_PREFER_ENV_PATH": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1", "HYBRIDBENCH_PROGRESS": "off"}
    with environment(kernels | dict(os.environ)), lock.build_folder():
        _check_kernel()
        return _run(profile, values, only, force, console, notebooks)


def _run(
    profile: str,
    values: dict[str, dict[str, Any]],
    only: Sequence[str],
    force: bool,
    console: Console | None,
    notebooks: Path | None,
) -> list[str]:
    steps = plan(profile, values, notebooks)
    chosen = [step for step in steps if not only or step.notebook in only]
    todo = [step for step in chosen if force or step.status != "done"]
    report = _Report(console or Console(stderr=True), todo, len(chosen) - len(todo))
    with report:
        for step in todo:
            before = [other for other in steps if other.notebook < step.notebook]
            upstream = [_read_state(other.output).get("digest", "") for other in before]
            _run_one(step, upstream, report, notebooks)
    return [step.notebook for step in todo]


def _run_one(step: Step, upstream: list[str], report: _Report, notebooks: Path | None) -> None:
    source = parameters.notebook_file(step.notebook, notebooks)
    digest = _digest(step.notebook, step.parameters, upstream, notebooks)
    step.output.parent.mkdir(parents=True, exist_ok=True)
    partial = step.output.with_suffix(".partial.ipynb")
    start = time.monotonic()
    report.notebook(step)
    try:
        papermill.execute_notebook(
            str(source),
            str(partial),
            parameters=step.parameters,
            engine_name=_ProgressEngine.name,
            kernel_name=KERNEL,
            cwd=str(source.parent),
            progress_bar=False,
            kernel_manager_class=_BoundKernelManager,
            shutdown_kernel="immediate",  # asked politely, a kernel that is stopped in a cell shows tracebacks of its own
            # Without keys, the kernel writes a notice about plain-text traffic over the progress line.
            config=Config({"KernelManager": {"transport_encryption": "auto"}}),
            on_cell=report.cell,
        )
    # nbclient reports a kernel that does not start as a bare RuntimeError, one that dies as its DeadKernelError.
    except (PapermillExecutionError, RuntimeError) as error:
        _strip(partial)
        raise NotebookFailed(_failure(step, error, partial, report)) from error
    except OSError:  # no room for it: what is there is half a file
        partial.unlink(missing_ok=True)
        raise
    _strip(partial)
    seconds = time.monotonic() - start
    os.replace(partial, step.output)
    _write_state(step, digest, seconds)
    report.done(step, seconds)


class _BoundKernelManager(AsyncKernelManager):
    """Starts kernels that end with this process, with their connection files where the next command clears them away."""

    def __init__(self, **kwargs: Any) -> None:
        folder = paths.scratch_dir() / "kernels"
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(**kwargs, connection_file=str(folder / f"kernel-{uuid.uuid4()}.json"))

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
        return bound(super().format_kernel_cmd(extra_arguments))


class _ProgressEngine(NBClientEngine):
    """papermill's own engine, telling which cell starts: on_cell(index from 1, number of cells, first line of the cell)."""

    name = "hybridbench"

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, *, on_cell: Any, **kwargs: Any) -> None:
        start = nb_man.cell_start

        def cell_start(cell: Any, cell_index: int, **more: Any) -> None:
            on_cell(cell_index + 1, len(nb_man.nb.cells), (cell.source.splitlines() or [""])[0])
            start(cell, cell_index, **more)

        nb_man.cell_start = cell_start
        super().execute_managed_notebook(nb_man, kernel_name, **kwargs)


papermill_engines.register(_ProgressEngine.name, _ProgressEngine)


def _check_kernel() -> None:
    """Raise a BackendError where notebooks would not run in the Python that runs this."""
    try:
        program = Path(KernelSpecManager().get_kernel_spec(KERNEL).argv[0])
    except NoSuchKernel as error:
        raise BackendError(f"Jupyter has no kernel {KERNEL!r}: run 'make setup' again.") from error
    # A bare "python" is replaced by this interpreter when the kernel starts.
    if program.is_absolute() and program.parent != Path(sys.executable).parent:
        raise BackendError(
            f"Jupyter's kernel {KERNEL!r} starts {program}, not this environment's {sys.executable}: remove that kernel "
            "('jupyter kernelspec remove python3') or run the hybridbench of the environment made by 'make setup'."
        )


def _digest(notebook: str, given: dict[str, Any], upstream: Sequence[str], notebooks: Path | None) -> str:
    cells = parameters.cells(parameters.notebook_file(notebook, notebooks))
    source = [[cell["cell_type"], "".join(cell["source"])] for cell in cells]
    values = parameters.defaults(notebook, notebooks) | given
    sums = paths.data_dir() / SUMS
    data = hashlib.sha256(sums.read_bytes()).hexdigest() if sums.is_file() else ""
    text = json.dumps([source, values, _sources_digest(), data, list(upstream)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _sources_digest() -> str:
    package = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        digest.update(f"{file.relative_to(package).as_posix()}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def _read_state(output: Path) -> dict[str, Any]:
    """The state beside an executed copy; {} where either is missing, or the state is not what a run writes."""
    try:
        state = json.loads(output.with_suffix(".json").read_text(encoding="utf-8")) if output.is_file() else {}
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(state, dict) or not isinstance(state.get("digest"), str):
        return {}
    seconds = state.get("seconds")
    known = isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds < MOST_SECONDS
    return {"digest": state["digest"], "seconds": float(seconds) if known else None}


def _write_state(step: Step, digest: str, seconds: float) -> None:
    state = {
        "digest": digest,
        "seconds": round(seconds, 1),
        "finished_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "parameters": step.parameters,
    }
    paths.write_atomically(step.state_file, json.dumps(state, indent=1, sort_keys=True) + "\n")


def _advertised_seconds(notebook: str, given: dict[str, Any], notebooks: Path | None) -> float | None:
    """What the notebook's box says it takes, where it runs with its defaults."""
    known = parameters.defaults(notebook, notebooks)
    if any(known[name] != value for name, value in given.items()):
        return None
    return takes_seconds(parameters.cells(parameters.notebook_file(notebook, notebooks)))


def takes_seconds(cells: Sequence[dict[str, Any]]) -> float | None:
    """Seconds that the **Takes** line of a notebook's box names ("about 40 s", "2 min"); None where there is none."""
    for cell in cells:
        if cell["cell_type"] == "markdown" and (found := _TAKES.search("".join(cell["source"]))):
            number = 1.0 if found["number"].lower() in {"a", "one"} else float(found["number"])
            return number * (60.0 if found["unit"].lower().startswith("m") else 1.0)
    return None


def _strip(file: Path) -> None:
    """Remove papermill's paths and all times from an executed notebook's metadata."""
    if not file.is_file():
        return
    notebook = nbformat.read(file, as_version=4)
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
    nbformat.write(notebook, file)


def _failure(step: Step, error: PapermillExecutionError | RuntimeError, partial: Path, report: _Report) -> str:
    if isinstance(error, PapermillExecutionError):
        where = f"In [{error.exec_count}]"
        what = f"{error.ename}: {error.evalue.strip()}".removesuffix(".")
    elif isinstance(error, DeadKernelError):
        where, what = "while it ran", "the kernel died (out of memory, or killed)"
    else:
        return f"Notebook {step.notebook} did not start: {error}. Run the same command again."
    return (
        f"Notebook {step.notebook}, cell {report.k} of {report.n}, {where}, {report.line!r}: {what}. "
        f"Its outputs up to there are in {paths.relative(partial)}; no later notebook ran. "
        "Run the same command again to continue from this one."
    )


class _Left(ProgressColumn):
    """Time left, counted down at every refresh."""

    def __init__(self, report: _Report) -> None:
        super().__init__()
        self._report = report

    def render(self, task: Task) -> Text:
        return Text(self._report.left())


class _Report:
    """Progress of a run: one live line in a terminal, plain lines in a log."""

    def __init__(self, console: Console, todo: Sequence[Step], n_done: int) -> None:
        self.k, self.n, self.line = 0, 0, ""
        self._console, self._todo, self._n_done = console, list(todo), n_done
        self._index, self._start, self._shown = -1, 0.0, 0.0
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("cell"), MofNCompleteColumn())
        self._progress = Progress(
            *columns, TextColumn("·"), TimeElapsedColumn(), _Left(self), console=console, transient=True
        )
        self._bar: Any = None

    def __enter__(self) -> _Report:
        if self._n_done:
            self._print(
                f"{self._n_done} notebook{'s are' if self._n_done > 1 else ' is'} up to date (--force runs them again)."
            )
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def notebook(self, step: Step) -> None:
        """A notebook starts."""
        self._index += 1
        self.k = self.n = 0
        self._start = self._shown = time.monotonic()
        if self._console.is_terminal:
            self._bar = self._progress.add_task(self._title(step), total=None)
        else:
            self._print(f"{self._title(step)} starts, {self.left()}")

    def cell(self, k: int, n: int, line: str) -> None:
        """Cell `k` of `n` starts; `line` is its first line."""
        self.k, self.n, self.line = k, n, line
        now = time.monotonic()
        if self._bar is not None:
            self._progress.update(self._bar, completed=k - 1, total=n)
        elif now - self._shown > 20.0:
            self._shown = now
            self._print(
                f"{self._title(self._todo[self._index])} cell {k} of {n}, {duration(now - self._start)}, {self.left()}"
            )

    def done(self, step: Step, seconds: float) -> None:
        """A notebook is through."""
        if self._bar is not None:
            self._progress.remove_task(self._bar)
            self._bar = None
        self._print(f"{self._title(step)} done in {duration(seconds)}")

    def left(self) -> str:
        """Time left of the whole run, in words."""
        here, *later = self._todo[max(self._index, 0) :]
        known = [step.expected_seconds for step in later if step.expected_seconds is not None]
        elapsed = time.monotonic() - self._start
        expected = here.expected_seconds
        if expected is None and self.n and self.k > self.n / 4:
            expected = elapsed * self.n / self.k
        if expected is None and not known:
            return "time left unknown"
        total = sum(known) + max((expected or 0.0) - elapsed, 0.0)
        unknown = expected is None or len(known) < len(later)
        return f"{'at least' if unknown else 'about'} {duration(total)} left"

    def _title(self, step: Step) -> str:
        return f"[{self._todo.index(step) + 1}/{len(self._todo)}] {step.notebook}"

    def _print(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, markup=False, highlight=False)
