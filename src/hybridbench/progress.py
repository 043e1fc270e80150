"""Thin progress helpers: a live bar in a terminal or a notebook someone watches, silence in stored outputs."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

#: A log gets a line this often, seconds.
LOG_EVERY = 20.0


@dataclass(frozen=True)
class Position:
    """Where a run is."""

    done: int  #: items that are finished
    of: int  #: items that the run has, as far as is known
    title: str = ""  #: the item that runs, in words
    seconds_left: float | None = None  #: until the run ends; None where nothing is known

    @property
    def number(self) -> int:
        """The item that runs, counted from 1."""
        return min(self.done + 1, self.of)

    @property
    def left(self) -> str:
        """The time left, in words."""
        return "time left unknown" if self.seconds_left is None else f"about {duration(self.seconds_left)} left"


Report = Callable[[Position], None]


def ignore(position: Position) -> None:
    """Show nothing."""


def print_position(position: Position, run: str = "") -> None:
    """Print one line to standard error: "[engine 3/20] 8 qubits, about 2 min 05 s left"; `run` says which of several."""
    where = f"[{run} {position.number}/{position.of}]" if run else f"[{position.number}/{position.of}]"
    print(f"{where} {position.title}, {position.left}", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Seconds in words: "48 s", "3 min 20 s", "1 h 04 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60:02d} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def silent() -> bool:
    """Whether HYBRIDBENCH_PROGRESS=off asks for silence, for runs whose outputs are compared cell by cell."""
    return os.environ.get("HYBRIDBENCH_PROGRESS") == "off"


@contextmanager
def counter(description: str) -> Iterator[Report]:
    """Live count of work whose total may still grow.

    Gives a function to call with every new position. A terminal shows a bar. In a notebook kernel standard error is not a
    terminal: a single line is rewritten in place through IPython's display, and cleared at the end, so that nothing
    half-way is ever stored in an executed notebook. A log gets a line now and then.
    """
    if silent():
        yield ignore
    elif sys.stderr.isatty():
        counts = (BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("elapsed"), TimeElapsedColumn())
        columns = (TextColumn("{task.description}"), *counts, TextColumn("left"), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(description, total=None)

            def update(position: Position) -> None:
                text = f"{description} {position.title}".strip()
                progress.update(task, completed=position.done, total=position.of, description=text)

            yield update
    elif _in_kernel():
        from IPython.display import clear_output, display

        def show(text: str) -> None:
            clear_output(wait=True)
            display({"text/plain": text}, raw=True)

        lines = _Lines(description, 1.0, show)
        yield lines
        if lines.shown:
            clear_output(wait=False)
    else:
        yield _Lines(description, LOG_EVERY, lambda text: print(text, file=sys.stderr, flush=True))


class _Lines:
    """Shows lines, at most one in `every` seconds."""

    def __init__(self, description: str, every: float, show: Callable[[str], None]) -> None:
        self._description, self._every, self._show = description, every, show
        self._start = self._last = time.monotonic()
        self.shown = False

    def __call__(self, position: Position) -> None:
        now = time.monotonic()
        if now - self._last <= self._every:
            return
        self._last, self.shown = now, True
        done, of, seconds = position.done, position.of, position.seconds_left
        if seconds is None and done:
            seconds = (now - self._start) / done * (of - done)
        self._show(f"{self._description}: {done}/{of}, {Position(done, of, seconds_left=seconds).left}")


def _in_kernel() -> bool:
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return hasattr(get_ipython(), "kernel")
