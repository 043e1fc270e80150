"""Timing of arms that cannot share a process: other environments, other thread counts, or more memory than fits at once.

`hybridbench.measurement.timing` times all arms of a cell in one process. Here every arm has a process of its own, and still
only one works at a time, on the same cores: the others are stopped by a signal. A *generation* starts one process an arm and
goes through them in rounds, in an order shuffled anew; several generations show how much the same step differs from process
to process (memory layout, placement), which no number of samples in one process can.
"""

from __future__ import annotations

import json
import math
import os
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybridbench import paths
from hybridbench.measurement.child import Child, ChildFailed
from hybridbench.measurement.evidence import check_same_work
from hybridbench.measurement.machine import available_memory_bytes
from hybridbench.measurement.timing import Arm

WORKER = Path(__file__).with_name("worker.py")
#: A sample shorter than this is the mean of as many calls as fill it.
MIN_SAMPLE_SECONDS = 0.02
#: From this on a call needs no warming up at every round, and the second call of a process counts as a sample.
SLOW_SECONDS = 1.0
MAX_CALL_SECONDS = 420.0
MAX_MEMORY_GIB = 24.0
#: Of the memory that is free when a process starts it may take this much: the machine has to stay usable.
SHARE_OF_MEMORY = 0.9
#: Most samples that an arm gives in one process.
MAX_SAMPLES = 20
ROUNDS = 5


@dataclass(frozen=True)
class ProcessArm(Arm):
    """One way of doing the work, and the process it needs.

    `factory` is called with `arguments` and what `interleave` adds. The function it returns gives its loss, or
    {"step": seconds, "loss": …} where it clocks itself.
    """

    threads: int = 0  #: threads its libraries may start; 0 for as many as there are cores
    python: str = ""  #: interpreter, relative to the checkout; empty for the one that runs this
    folder: str = ""  #: where `factory`'s module lies, relative to the checkout; empty for installed ones
    alone: bool = False  #: gives its samples before the others start, since it needs the memory
    losses: int = 2  #: of its first losses have to be the other arms'; 1 where it updates no weights, 0 for other work


class Worker(Child):
    """The process of one arm. It works between a request and its answer and is stopped otherwise.

    Args:
        arm: what it runs.
        cores: the cores it may use, the same for all arms of a comparison.
        arguments: what the factory is given besides the arm's own arguments.
        variables: environment variables on top of this process's.
        packages: names of the packages whose versions are asked for.
        max_seconds, max_memory_gib: what one answer may take, and the process may hold.
    """

    def __init__(
        self,
        arm: ProcessArm,
        cores: Sequence[int],
        arguments: Mapping[str, Any] | None = None,
        variables: Mapping[str, str] | None = None,
        packages: Sequence[str] = (),
        max_seconds: float = MAX_CALL_SECONDS,
        max_memory_gib: float = MAX_MEMORY_GIB,
    ) -> None:
        self._max_seconds = max_seconds
        environment = {**(variables or {}), "HYBRIDBENCH_TF_GPU": "0", "JAX_PLATFORMS": "cpu"}
        if arm.folder:
            environment["PYTHONPATH"] = str(paths.root() / arm.folder)
        # The interpreter's path is not resolved: an environment's Python is a link that knows its packages by its place.
        python = str(paths.root() / arm.python) if arm.python else sys.executable
        memory = min(max_memory_gib, SHARE_OF_MEMORY * available_memory_bytes() / 2**30)
        super().__init__(["-P", str(WORKER)], arm.threads or len(cores), environment, python, memory, paused=True)
        question = {"factory": arm.factory, "arguments": {**arm.arguments, **(arguments or {})}}
        self.ready = self.ask({**question, "cores": list(cores), "packages": list(packages)}, max_seconds)

    def take(self, samples: int, calls: int = 1, warmup: int = 0) -> list[float]:
        """Seconds of one step, `samples` times, each the mean of `calls` consecutive calls after `warmup` untimed ones."""
        answer = self.ask({"samples": samples, "calls": calls, "warmup": warmup}, self._max_seconds)
        self.ready["peak_memory_mib"] = answer["peak_memory_mib"]
        return answer["seconds"]


def cores_for(threads: int) -> list[int]:
    """The first `threads` cores that this process may use: those that all arms are held to."""
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    return usable[:threads]


def plan_samples(call_seconds: float, seconds: float) -> int:
    """How many samples an arm gives in one process: what fits into `seconds`, at least 1 and at most `MAX_SAMPLES`."""
    return max(1, min(MAX_SAMPLES, int(seconds / max(call_seconds, MIN_SAMPLE_SECONDS))))


def share(samples: int, round_: int, rounds: int = ROUNDS) -> int:
    """How many of an arm's `samples` it gives in round `round_`: all rounds together give all, spread evenly."""
    return samples * (round_ + 1) // rounds - samples * round_ // rounds


class _Generation:
    """One process an arm: what each gave, as rows."""

    def __init__(self, process: int, seconds: float, start: Callable[[ProcessArm], Worker]) -> None:
        self.rows: list[dict[str, Any]] = []
        self.losses: dict[str, list[float]] = {}
        self.failed: set[str] = set()
        self._process, self._seconds, self._start = process, seconds, start
        self._running: dict[str, Worker] = {}
        self._taken: dict[str, list[float]] = {}

    def start(self, arm: ProcessArm) -> None:
        try:
            worker = self._start(arm)
        except ChildFailed as failure:
            self._failed(arm, f"not measured: {failure}")
            return
        self._running[arm.name] = worker
        slow = worker.ready["call_seconds"] >= SLOW_SECONDS
        self._taken[arm.name] = [worker.ready["seconds"]] if slow else []
        self.losses[arm.name] = worker.ready["losses"][: arm.losses]

    def take(self, arm: ProcessArm, round_: int, rounds: int) -> None:
        if arm.name not in self._running:
            return
        worker = self._running[arm.name]
        call = max(worker.ready["call_seconds"], 1e-9)
        slow = call >= SLOW_SECONDS
        wanted = share(plan_samples(call, self._seconds) - slow, round_, rounds)
        if not wanted:
            return
        calls = math.ceil(MIN_SAMPLE_SECONDS / call)
        try:
            self._taken[arm.name] += worker.take(wanted, calls, 0 if slow else calls)
        except ChildFailed as failure:
            self._failed(arm, f"stopped: {failure}")
            self.finish(arm)

    def finish(self, arm: ProcessArm) -> None:
        if (worker := self._running.pop(arm.name, None)) is None:
            return
        ready = worker.ready
        about = {
            "arm": arm.name,
            "part": "step",
            "process": self._process,
            "calls": math.ceil(MIN_SAMPLE_SECONDS / max(ready["call_seconds"], 1e-9)),
            "first_call_seconds": ready["first_call_seconds"],
            "import_seconds": ready["import_seconds"],
            "peak_memory_mib": ready["peak_memory_mib"],
            "packages": json.dumps(ready["packages"], sort_keys=True),
            "note": "",
        }
        self.rows.extend({**about, "sample": i, "seconds": seconds} for i, seconds in enumerate(self._taken[arm.name]))
        worker.close()

    def _failed(self, arm: ProcessArm, text: str) -> None:
        self.failed.add(arm.name)
        self.rows.append({"arm": arm.name, "part": "step", "process": self._process, "note": text})

    def close(self) -> None:
        for worker in self._running.values():
            worker.close()


def interleave(
    arms: Sequence[ProcessArm],
    threads: int,
    processes: int,
    seconds: float,
    arguments: Mapping[str, Any] | None = None,
    packages: Sequence[str] = (),
    rounds: int = ROUNDS,
    started: Callable[[int], None] = lambda generation: None,
) -> list[dict[str, Any]]:
    """Time `arms` against each other, each in processes of its own, on the same cores.

    Args:
        arms: what is compared.
        threads: cores that all are held to.
        processes: generations; each starts every arm anew.
        seconds: how long an arm may give samples in one process; a slow one gives one sample whatever it takes.
        arguments: what every factory is given.
        packages: names of packages whose versions are recorded.
        rounds: how often each arm works in one generation.
        started: called with the generation that starts, from 0.

    Returns:
        Rows of arm, part, process, sample, calls, seconds, first_call_seconds, import_seconds, peak_memory_mib, packages and
        note. An arm that failed has a row without times whose note says why.

    Raises:
        TimingError: two arms do not do the same work.
    """
    cores = cores_for(threads)
    rows: list[dict[str, Any]] = []
    left = list(arms)  #: what failed once is not tried again
    shuffle = random.Random(0)
    for process in range(processes):
        started(process)
        generation = _Generation(process, seconds, lambda arm: Worker(arm, cores, arguments, packages=packages))
        try:
            for arm in [arm for arm in left if arm.alone]:
                generation.start(arm)
                generation.take(arm, 0, 1)
                generation.finish(arm)
            others = [arm for arm in left if not arm.alone]
            for arm in shuffle.sample(others, len(others)):
                generation.start(arm)
            check_same_work(generation.losses)
            for round_ in range(rounds):
                for arm in shuffle.sample(others, len(others)):
                    generation.take(arm, round_, rounds)
            for arm in others:
                generation.finish(arm)
        finally:
            generation.close()
        rows.extend(generation.rows)
        left = [arm for arm in left if arm.name not in generation.failed]
    return rows
