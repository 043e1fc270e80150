"""Thin progress helpers: a live bar in a terminal or a notebook someone watches, silence in stored outputs."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

T = TypeVar("T")
#: Called with how many are done, how many there are so far, and what is being done.
Told = Callable[[int, int, str], None]
#: A log gets a line this often, seconds.
LOG_EVERY = 20.0


def bar(console: Console | None = None) -> Progress:
    """A rich progress bar with counts, elapsed time and time left, written to standard error."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("elapsed"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console or Console(stderr=True),
        transient=True,
    )


def silent() -> bool:
    """Whether HYBRIDBENCH_PROGRESS=off asks for silence, for runs whose outputs are compared cell by cell."""
    return os.environ.get("HYBRIDBENCH_PROGRESS") == "off"


@contextmanager
def counter(description: str) -> Iterator[Told]:
    """Live count of work whose total may still grow.

    Gives a function to call with (done, total, label). A terminal shows a bar. In a notebook kernel standard error is not a
    terminal: a single line is rewritten in place through IPython's display, and cleared at the end, so that nothing
    half-way is ever stored in an executed notebook. A log gets a line now and then.
    """
    if silent():
        yield lambda done, total, label: None
    elif sys.stderr.isatty():
        with bar() as progress:
            task = progress.add_task(description, total=None)

            def told(done: int, total: int, label: str) -> None:
                progress.update(task, completed=done, total=total, description=f"{description} {label}".strip())

            yield told
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
    """Tells by lines, at most one in `every` seconds."""

    def __init__(self, description: str, every: float, show: Callable[[str], None]) -> None:
        self._description, self._every, self._show = description, every, show
        self._start = self._last = time.monotonic()
        self.shown = False

    def __call__(self, done: int, total: int, label: str) -> None:
        now = time.monotonic()
        if now - self._last <= self._every:
            return
        self._last, self.shown = now, True
        left = f"about {timedelta(seconds=round((now - self._start) / done * (total - done)))}" if done else "unknown time"
        self._show(f"{self._description}: {done}/{total}, {left} left")


def _in_kernel() -> bool:
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return hasattr(get_ipython(), "kernel")


def track(items: Iterable[T], description: str, label: Callable[[T], str] | None = None) -> Iterator[T]:
    """Yield `items` with a live count of them, as `counter` shows it."""
    items = list(items) if not isinstance(items, Sized) else items
    with counter(description) as told:
        done = -1
        for done, item in enumerate(items):
            told(done, len(items), label(item) if label else "")
            yield item
        told(done + 1, len(items), "")
