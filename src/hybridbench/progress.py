"""One thin progress helper: a live bar in a terminal or a notebook someone watches, silence in stored outputs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

T = TypeVar("T")


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


def track(items: Iterable[T], description: str, label: Callable[[T], str] | None = None) -> Iterator[T]:
    """Yield `items` with a live bar where standard error is a terminal.

    In a notebook kernel standard error is not a terminal: a single line there is rewritten in place through
    IPython's display, and cleared at the end, so that nothing half-way is ever stored in an executed notebook.
    HYBRIDBENCH_PROGRESS=off keeps it silent, for runs whose outputs are compared cell by cell.
    """
    if os.environ.get("HYBRIDBENCH_PROGRESS") == "off":
        yield from items
        return
    items = list(items) if not isinstance(items, Sized) else items
    if sys.stderr.isatty():
        with bar() as progress:
            task = progress.add_task(description, total=len(items))
            for item in items:
                progress.update(task, description=f"{description} {label(item)}" if label else description)
                yield item
                progress.advance(task)
        return
    yield from _track_in_notebook(items, description, label)


def _track_in_notebook(items: Sized, description: str, label: Callable | None) -> Iterator:
    import time

    try:
        from IPython import get_ipython
        from IPython.display import clear_output, display
    except ImportError:
        yield from items
        return
    shell = get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        yield from items
        return
    start = shown = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if now - shown > 1.0:
            shown = now
            left = (now - start) / done * (len(items) - done) if done else float("nan")
            clear_output(wait=True)
            display({"text/plain": f"{description}: {done}/{len(items)}, about {left:.0f} s left"}, raw=True)
        yield item
    if shown != start:
        clear_output(wait=False)
