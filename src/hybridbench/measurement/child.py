"""Child processes that answer questions, one line of JSON each, and are watched and ended by the process that asks.

Whatever is measured away from this process goes through `Child`: cells of `timing` and of the atlas, the arms of
`interleave`, the check of the CUDA engine. A child runs the command of `serving`; `worker.py` serves where hybridbench is
not installed.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import psutil

from hybridbench.children import bound
from hybridbench.measurement.evidence import TimingError

#: Every library that starts threads reads one of these when it is loaded.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)
#: How often the time and the memory of a child that works are looked at, seconds.
LOOK_SECONDS = 0.5


class ChildFailed(TimingError):
    """A child process ended, answered with an error, or needed more than it may."""


class TimeLimitReached(ChildFailed):
    """A child process gave no answer in time and was ended."""


class Child(AbstractContextManager):
    """A fresh Python process that works between a question and its answer. It ends with this process.

    Args:
        command: what Python runs: arguments such as "-m" and a module.
        threads: threads that its libraries may start; 0 leaves that to them.
        variables: environment variables on top of this process's.
        python: the interpreter.
        max_memory_gib: memory that it may hold.
        paused: whether it is stopped by a signal while nothing is asked, so that others have the cores.
    """

    def __init__(
        self,
        command: Sequence[str],
        threads: int = 0,
        variables: Mapping[str, str] | None = None,
        python: str = sys.executable,
        max_memory_gib: float = math.inf,
        paused: bool = False,
    ) -> None:
        self.closed = False
        self._max_memory_gib, self._paused = max_memory_gib, paused
        fixed = dict.fromkeys(THREAD_VARIABLES, str(threads)) if threads else {}
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (open as long as the process)
        self._process = subprocess.Popen(
            bound([python, *command]),
            env={**os.environ, **fixed, **(variables or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        self.pid = self._process.pid

    def __exit__(self, *error: object) -> None:
        self.close()

    def ask(self, question: Any, seconds: float = math.inf) -> Any:
        """Its answer to `question`. Whatever goes wrong ends the process.

        Raises:
            TimeLimitReached: there was no answer after `seconds`.
            ChildFailed: it ended, answered {"error": reason}, or held too much memory.
        """
        try:
            if self._paused:
                os.kill(self.pid, signal.SIGCONT)
            with suppress(BrokenPipeError):  # it has ended already, and its output has the end too
                self._process.stdin.write(f"{json.dumps(question)}\n".encode())
                self._process.stdin.flush()
            line = self._read_line(seconds)
            if not line.endswith(b"\n"):
                raise ChildFailed(self._last_error())
            answer = json.loads(line)
            if isinstance(answer, dict) and "error" in answer:
                raise ChildFailed(answer["error"])
            if self._paused:
                os.kill(self.pid, signal.SIGSTOP)
        except BaseException:
            self.close()
            raise
        return answer

    def close(self) -> None:
        """End the process, whatever it does."""
        self.closed = True
        self._process.kill()
        self._process.wait()
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._errors.close()

    def _read_line(self, seconds: float) -> bytes:
        begin, line = time.monotonic(), b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                rest = seconds - (time.monotonic() - begin)
                if selector.select(timeout=max(0.0, min(LOOK_SECONDS, rest))):
                    read = os.read(self._process.stdout.fileno(), 1 << 16)
                    if not read:
                        return line
                    line += read
                elif rest <= 0:
                    raise TimeLimitReached(f"no answer after {seconds:.4g} s")
                elif self._memory_gib() > self._max_memory_gib:
                    raise ChildFailed(f"more than {self._max_memory_gib:.3g} GiB of memory")
        return line

    def _memory_gib(self) -> float:
        try:
            return psutil.Process(self.pid).memory_info().rss / 2**30
        except psutil.NoSuchProcess:
            return 0.0

    def _last_error(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        killed = "killed, as where memory runs out" if code == -signal.SIGKILL else f"exit code {code}"
        return f"{killed}: {lines[-1]}" if lines else killed


@contextmanager
def named(what: str) -> Iterator[None]:
    """Say in the error of a child what it was asked for: `what` is "Timing of ...", the start of a sentence."""
    try:
        yield
    except TimeLimitReached as late:
        raise TimeLimitReached(f"{what} was stopped: {late}; nothing of it was kept.") from late
    except ChildFailed as failure:
        raise ChildFailed(f"{what} failed: {failure}") from failure


def serving(function: str) -> list[str]:
    """The command of a child that answers with `function`, "module:name", which takes a question and returns the answer."""
    return ["-m", "hybridbench.measurement.child", function]


def _serve(function: str) -> None:
    # What libraries print, also where they are imported, goes to standard error at once, so that an error is the last line.
    channel = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    module, _, name = function.partition(":")
    answer = getattr(importlib.import_module(module), name)
    for line in sys.stdin:
        channel.write(json.dumps(answer(json.loads(line))) + "\n")


if __name__ == "__main__":
    _serve(sys.argv[1])
