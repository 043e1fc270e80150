"""One arm of an interleaved measurement, alone in a process of its own: builds it, then clocks it when asked.

`hybridbench.measurement.interleave` starts this file by its path, in whatever environment the arm needs, so it imports
nothing but the standard library. Questions and answers are lines of JSON on standard input and output; what libraries print
goes to standard error. The first question names the arm; its answer says how long import and first call took.
"""

import contextlib
import gc
import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from typing import Any


def _numbers(result: Any) -> list[float]:
    """A result as plain numbers; TypeError for what may not be computed yet (a tensor, None)."""
    if isinstance(result, list | tuple):
        return [number for value in result for number in _numbers(value)]
    if type(result).__module__ == "numpy":
        return [float(number) for number in result.ravel()]
    if isinstance(result, int | float):
        return [float(result)]
    raise TypeError(f"a timed call must return numbers or NumPy arrays on the host, not {type(result).__name__}")


def _clock(call: Callable[[], Any], calls: int = 1) -> tuple[float, float, list[float]]:
    """Seconds of one step (mean of `calls` calls), wall seconds of all calls, and the losses of the last one.

    An arm that clocks itself returns {"step": seconds, "loss": …}.
    """
    own, result = 0.0, None
    begin = time.perf_counter()
    for _ in range(calls):
        result = call()
        if isinstance(result, Mapping):
            own += result["step"]
    wall = time.perf_counter() - begin
    if isinstance(result, Mapping):
        return own / calls, wall, _numbers(result.get("loss", []))
    return wall / calls, wall, _numbers(result)


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """No garbage collection within a timed call, and between them only of what was made since."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.enable()


def _take(call: Callable[[], Any], samples: int, calls: int, warmup: int) -> list[float]:
    with _without_collection():
        for _ in range(warmup):
            call()
        seconds = []
        for _ in range(samples):
            seconds.append(_clock(call, calls)[0])
            gc.collect()
    return seconds


def _peak_memory_mib() -> float:
    """Most memory that this program has held at once, MiB. On Linux without what the process was before it became this."""
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="utf-8") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _versions(packages: list[str]) -> dict[str, str]:
    found = {}
    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return {"python": sys.version.split()[0], **found}


def main() -> None:
    """Build the arm of the first question, then answer requests {"samples", "calls", "warmup"} until the input ends."""
    given = json.loads(sys.stdin.readline())
    if sys.platform == "linux":
        os.sched_setaffinity(0, given["cores"])
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="utf-8") as score:
            score.write("1000")  # where memory runs out this process goes first, and the parent tells of it
    answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)

    def answer(**what: Any) -> None:
        answers.write(json.dumps(what) + "\n")

    try:
        module, _, name = given["factory"].partition(":")
        begin = time.perf_counter()
        factory = getattr(importlib.import_module(module), name)
        imported = time.perf_counter() - begin
        begin = time.perf_counter()
        call = factory(**given["arguments"])
        _, _, losses = _clock(call)
        first = time.perf_counter() - begin
        with _without_collection():
            seconds, wall, more = _clock(call)
        answer(
            import_seconds=imported,
            first_call_seconds=first,
            seconds=seconds,
            call_seconds=wall,
            losses=(losses + more)[:2],
            peak_memory_mib=_peak_memory_mib(),
            packages=_versions(given["packages"]),
        )
        for line in sys.stdin:
            taken = _take(call, **json.loads(line))
            answer(seconds=taken, peak_memory_mib=_peak_memory_mib())
    except Exception as error:
        # Keras puts the reason into the third line of its message.
        answer(error=f"{type(error).__name__}: {' '.join(str(error).split())}"[:300])
        raise


if __name__ == "__main__":
    main()
