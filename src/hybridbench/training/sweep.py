"""Run many configurations, write each one's record, and go on where an earlier run was cut off.

What is run here gives results (losses, scores), never times: tasks share the cores of a machine, so that a wall time says
nothing. Times are taken alone, by `hybridbench.measurement.timing`.
"""

from __future__ import annotations

import heapq
import itertools
import math
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pandas as pd

import hybridbench
from hybridbench import paths
from hybridbench.children import environment
from hybridbench.errors import BackendError, ConfigurationError, HybridbenchError
from hybridbench.measurement.child import THREAD_VARIABLES
from hybridbench.measurement.machine import provenance, this_machine
from hybridbench.measurement.records import RecordStore, config_hash
from hybridbench.progress import Position, counter, silent

Config = TypeVar("Config")
Rows = list[dict[str, Any]]
#: Yields configurations that it needs, is sent the table of their records, and yields those that follow from them.
Plan = Generator[Sequence[Config], pd.DataFrame, None]

#: Configurations of one plan that go to a worker together: what it traced for the first serves the others.
TASK_SIZE = 10
#: Freed memory that a worker keeps for the next step, bytes.
KEPT_BYTES = 256 << 20
#: How long a scheduler may take to answer, and how long it may be without any worker (a job queue starts them), seconds.
CONNECT_SECONDS, WORKERS_SECONDS = 10.0, 600.0
#: How often a run looks which workers there are, seconds.
LOOK_SECONDS = 2.0
#: Tasks that a worker has at once: one that runs, and one so that it need not wait for the next.
IN_FLIGHT = 2
#: Processes of a local cluster: more are a slip of the finger, and would bring the machine down.
MOST_WORKERS = 256
#: Workers that may die while running the same task.
MOST_DEATHS = 3


class SweepError(HybridbenchError, RuntimeError):
    """A configuration failed, or what runs them went away; the records written so far are whole and stay."""


def grid(make: Callable[..., Config], **values: Sequence[Any]) -> list[Config]:
    """The full factorial: `make` called with every combination of the named values, the last name changing fastest."""
    names = list(values)
    return [make(**dict(zip(names, choice, strict=True))) for choice in product(*values.values())]


def sweep(
    store: RecordStore,
    configs: Sequence[Config],
    run: Callable[[Config], Rows],
    description: str,
    cluster: str = "here",
    workers: int = 2,
) -> pd.DataFrame:
    """Run the configurations that have no record yet and return the records of all.

    Args:
        store: where the records go.
        configs: what to run; those with a record are not run again.
        run: configuration → rows.
        description: what the progress bar says.
        cluster: "here" (this process, one after the other), or as in `run_plans`.
        workers: processes of a "local" cluster.
    """
    configs = list(configs)
    # A plan keeps to one worker where it can; these have nothing in common.
    plans = [_just(few) for few in _parts(configs, TASK_SIZE)]
    run_plans(store, plans, run, description, cluster, workers)
    return store.read(configs)


def _just(configs: Sequence[Config]) -> Plan[Config]:
    yield configs


def _parts(configs: Sequence[Config], size: int) -> Iterator[Sequence[Config]]:
    return (configs[start : start + size] for start in range(0, len(configs), size))


def run_plans(
    store: RecordStore,
    plans: Sequence[Plan[Config]],
    run: Callable[[Config], Rows],
    description: str,
    cluster: str = "local",
    workers: int = 2,
) -> None:
    """Drive plans to their end: run what they ask for and has no record, and send them the records.

    Every record is written by this process as soon as it arrives, and names the machine of this process. A plan goes on as
    soon as all that it asked for has a record, and earlier plans go first. A configuration that several plans ask for is run
    once. Whatever stops a run (Ctrl-C, an error, a lost connection), the records are whole, and the next run goes on with
    what is missing. Never take times through it: tasks share the cores of their machine.

    Args:
        store: where the records go.
        plans: generators that yield lists of configurations and are sent the table of their records, as
            `RecordStore.read` gives it.
        run: configuration → rows; for a cluster a function of a module, which the workers import.
        description: what the progress bar says.
        cluster: "local" (processes on this machine with one thread each), "here" (this process) or the address of a running
            Dask scheduler, "tcp://host:port". Its workers stay as they are; each process does one task at a time.
        workers: processes of a "local" cluster.

    Raises:
        SweepError: `run` failed (the configuration is named), workers died again and again, or the scheduler went away.
        BackendError: no scheduler answers, it stays without workers, or a worker's software is another than here.
        ConfigurationError: `cluster` or `workers` is none of the above.
    """
    if cluster not in ("here", "local") and not _is_address(cluster):
        raise ConfigurationError(f"cluster is {cluster!r}, and must be 'local', 'here' or an address as 'tcp://host:8786'.")
    if isinstance(workers, bool) or not isinstance(workers, int) or not 1 <= workers <= MOST_WORKERS:
        raise ConfigurationError(f"workers is {workers!r}, and must be a whole number from 1 to {MOST_WORKERS}.")
    state = _Plans(store, plans)
    first = [(number, state.advance(number)) for number in range(len(plans))]
    if not state.total:
        return
    with _pool(run, cluster, workers) as pool, counter(description) as report:

        def submit(wanted: Iterable[tuple[int, Sequence[Config]]]) -> None:
            for number, configs in wanted:
                for few in _parts(configs, pool.task_size):
                    pool.submit(number, few)

        submit(first)
        while state.done < state.total:
            report(Position(state.done, state.total))
            for config, rows in pool.next_results():
                submit(state.arrived(config, rows))
                report(Position(state.done, state.total))


def _is_address(cluster: str) -> bool:
    """Whether `cluster` names a protocol, a host and a port."""
    try:
        parts = urlsplit(cluster)
        return bool("://" in cluster and parts.hostname and parts.port)
    except ValueError:  # the port is no number, or too large
        return False


class _Plans:
    """Where every plan is, and which of them wait for which record."""

    def __init__(self, store: RecordStore, plans: Sequence[Plan]) -> None:
        self._store, self._plans = store, list(plans)
        self._wanted: list[Sequence] = [[] for _ in plans]  #: what each plan asked for last
        self._open = [0 for _ in plans]  #: how many records of it are not there
        self._waiting: dict[str, list[int]] = {}  #: name of a record that is being made → plans that wait for it
        self.done = self.total = 0  #: configurations run, and known to be run

    def advance(self, number: int) -> list:
        """Drive a plan until it asks for what has no record; returns what of that nobody runs yet."""
        plan, wanted = self._plans[number], self._wanted[number]
        try:
            wanted = plan.send(self._store.read(wanted)) if wanted else next(plan)
            while not (missing := self._store.missing(wanted)):
                wanted = plan.send(self._store.read(wanted))
        except StopIteration:
            return []
        new = []
        for config in missing:
            waiting = self._waiting.setdefault(config_hash(config), [])
            if not waiting:
                new.append(config)
            waiting.append(number)
        self._wanted[number], self._open[number] = wanted, len(missing)
        self.total += len(new)
        return new

    def arrived(self, config: Any, rows: Rows) -> Iterator[tuple[int, list]]:
        """Write a record; yields the plans that can go on with what they want run next."""
        self._store.write(config, rows)
        self.done += 1
        for number in self._waiting.pop(config_hash(config)):
            self._open[number] -= 1
            if not self._open[number]:
                yield number, self.advance(number)


def _run_one(run: Callable[[Config], Rows], config: Config) -> Rows:
    try:
        return run(config)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        failed = SweepError(
            f"{type(error).__name__}: {error} ({Path(where.filename).name}, line {where.lineno}), running {config!r}."
        )
        failed.add_note(traceback.format_exc())
        raise failed from error


class _Here:
    """Runs configurations in this process, those of earlier plans first."""

    task_size = 1  # a record is written before the next configuration runs

    def __init__(self, run: Callable[[Config], Rows]) -> None:
        self._run, self._order, self._tasks = run, itertools.count(), []

    def submit(self, number: int, configs: Sequence[Config]) -> None:
        heapq.heappush(self._tasks, (number, next(self._order), configs))

    def next_results(self) -> Iterator[tuple[Config, Rows]]:
        for config in heapq.heappop(self._tasks)[-1]:
            yield config, _run_one(self._run, config)


@contextmanager
def _pool(run: Callable[[Config], Rows], cluster: str, workers: int) -> Iterator[_Here | _Workers]:
    if cluster == "here":
        yield _Here(run)
        return
    import dask
    from distributed import Client, LocalCluster

    with ExitStack() as stack:
        place: Any = cluster
        if cluster == "local":
            # Dask's nannies leave variables of their own, which would set the threads of this process too.
            stack.enter_context(environment(_one_thread_each()))
            # A terminal sends Ctrl-C to all processes, and this one ends the others.
            deaf = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
            # Who is silent for long is not dead here, where a death is seen at once: a laptop may have slept.
            with dask.config.set({"distributed.scheduler.worker-ttl": None}):
                place = LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    dashboard_address="127.0.0.1:0",
                    preload=[deaf],
                    local_directory=str(paths.scratch_dir() / "dask"),
                )
            stack.enter_context(place)
        try:
            client = Client(place, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise BackendError(
                f"No Dask scheduler answers at {cluster} ({error}): 'dask scheduler' starts one and prints its address."
            ) from error
        stack.enter_context(client)
        yield _Workers(client, run, cluster)


def _one_thread_each() -> dict[str, str]:
    """Variables of worker processes: one thread for every library.

    Dask tells the C library to give freed memory back at once, and the next step would have to get it anew: a state vector
    of every step is pages of zeros then, and a third of the time is the kernel's.
    """
    kept = dict.fromkeys(("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"), str(KEPT_BYTES))
    return dict.fromkeys(THREAD_VARIABLES, "1") | kept


@dataclass
class _Task:
    """Configurations that go to a worker together."""

    number: int  #: of the plan
    configs: Sequence
    deaths: int = 0  #: workers that died while running it
    address: str = ""  #: of the worker that has it
    future: Any = None


class _Workers:
    """Hands configurations to the workers of a Dask cluster, a few at a time.

    Which worker gets what is decided here and not by the scheduler: that one would see in all tasks of a worker that died
    the cause of its death, and would keep those for ever whose preferred worker was the last to go.
    """

    task_size = TASK_SIZE

    def __init__(self, client: Any, run: Callable[[Config], Rows], cluster: str) -> None:
        self._client, self._run = client, run
        self._name = "the local cluster" if cluster == "local" else cluster
        self._function = _by_value()
        self._wanted = {} if cluster == "local" else software()
        self._ready: list[_Task] = []
        self._given: dict[str, _Task] = {}  #: by the key of the future
        self._busy: dict[str, list[_Task]] = {}  #: worker → what it has, the first is running
        self._homes: dict[int, str] = {}  #: plan → the worker that has its traced graphs
        self._finished: queue.SimpleQueue = queue.SimpleQueue()
        self._looked = -math.inf
        self._machines = {this_machine().id}
        if not silent() and (link := _dashboard(client)):
            _say(f"Dashboard: {link}")

    def submit(self, number: int, configs: Sequence[Config]) -> None:
        self._ready.append(_Task(number, configs))

    def next_results(self) -> Iterator[tuple[Config, Rows]]:
        task = self._next_finished()
        result = self._result(task)
        if result is None:
            return
        self._busy[task.address].remove(task)
        address, refusal, answer = result
        if refusal:
            raise BackendError(f"Worker {address} {refusal}: start it from the same checkout, in the same environment.")
        machine, found, failure = answer
        if machine not in self._machines:
            self._machines.add(machine)
            _say(f"Worker {address} runs on {machine}; the records name {this_machine().id}, which writes them.")
        yield from zip(task.configs, found, strict=False)  # after a failure fewer rows than configurations
        if failure:
            failed = SweepError(failure[0])
            failed.add_note(failure[1])
            raise failed

    def _next_finished(self) -> _Task:
        while True:
            if time.monotonic() - self._looked > LOOK_SECONDS:
                self._look()
            self._hand_out()
            try:
                future = self._finished.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                continue
            if task := self._given.pop(future.key, None):
                return task

    def _result(self, task: _Task) -> Any:
        """What a worker answered; None where it died before it could send that, and the task is ready again."""
        from distributed import CancelledError, KilledWorker

        while True:
            try:
                return task.future.result(timeout=LOOK_SECONDS)
            except TimeoutError:
                self._look()
                if not task.address:
                    return None
            except KilledWorker as error:
                raise self._deadly(task) from error
            except (CancelledError, OSError) as error:
                raise self._gone() from error

    def _hand_out(self) -> None:
        """Give a worker what belongs to the plans that it has begun, then a plan that nobody has."""
        for others_too in (False, True):
            for address, has in self._busy.items():
                # What another worker has begun is taken only where nothing else is to do.
                while len(has) < (1 if others_too else IN_FLIGHT):
                    mine = (address, None)
                    fitting = [task for task in self._ready if others_too or self._homes.get(task.number) in mine]
                    if not fitting:
                        break
                    task = min(fitting, key=lambda task: (self._homes.get(task.number) != address, task.number))
                    self._ready.remove(task)
                    self._homes.setdefault(task.number, address)
                    self._give(task, address)
                    has.append(task)

    def _give(self, task: _Task, address: str) -> None:
        from distributed.client import ClosedClientError
        from distributed.protocol import pickle

        # As bytes: the scheduler, which looks into tasks, would otherwise import TensorFlow.
        what = pickle.dumps((self._run, list(task.configs)))
        task.address = address
        try:
            task.future = self._client.submit(self._function, what, self._wanted, workers=[address], pure=False)
        except ClosedClientError as error:
            raise self._gone() from error
        self._given[task.future.key] = task
        task.future.add_done_callback(self._finished.put)

    def _look(self) -> None:
        """See which workers there are. What one had that is gone is ready for another."""
        addresses = self._wait_for_workers()
        self._looked = time.monotonic()
        for address in set(self._busy) - addresses:
            self._homes = {number: home for number, home in self._homes.items() if home != address}
            for place, task in enumerate(self._busy.pop(address)):
                task.deaths += place == 0
                if task.deaths > MOST_DEATHS:
                    raise self._deadly(task)
                self._given.pop(task.future.key, None)
                task.future.cancel()
                task.address = ""
                self._ready.append(task)
        for address in sorted(addresses - set(self._busy)):
            self._busy[address] = []

    def _wait_for_workers(self) -> set[str]:
        begin = time.monotonic()
        said = False
        while True:
            info: dict[str, Any] = {}
            with suppress(OSError):
                info = self._client.scheduler_info()
            if self._client.status != "running" or "workers" not in info:
                if not self._given:
                    raise self._gone()
                return set(self._busy)  # what a lost scheduler was given is cancelled, and the first of it says so
            if addresses := set(info["workers"]):
                return addresses
            if time.monotonic() - begin > WORKERS_SECONDS:
                raise BackendError(
                    f"No worker came to {self._name} in {WORKERS_SECONDS:.0f} s: start some with 'dask worker ADDRESS "
                    "--nthreads 1', and run this again to go on."
                )
            if not said:
                _say(f"No workers at {self._name}: waiting up to {WORKERS_SECONDS / 60:.0f} minutes for the first.")
                said = True
            time.sleep(min(0.5, WORKERS_SECONDS / 10))

    def _deadly(self, task: _Task) -> SweepError:
        return SweepError(
            f"Worker after worker died while running one of {task.configs!r}: where memory ran out, take fewer workers."
        )

    def _gone(self) -> SweepError:
        return SweepError(f"The scheduler at {self._name} went away: start it and its workers again.")


def _dashboard(client: Any) -> str:
    try:
        return client.dashboard_link or ""
    except KeyError:  # Dask's way of saying that the scheduler has none
        return ""


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@cache
def software() -> dict[str, Any]:
    """What has to be the same on every worker, since it stands in the records: versions and commit."""
    of_machine = {"machine", *asdict(this_machine())}
    columns = {name: value for name, value in provenance().items() if name not in of_machine}
    return {"hybridbench": hybridbench.__version__, **columns}


def _by_value() -> Callable[[bytes, dict[str, Any]], tuple[str, str, Any]]:
    """The function that a worker runs.

    A function within a function is sent by value, so that a worker without hybridbench can say so, and the scheduler
    does not need it at all.
    """

    def run_configurations(what: bytes, wanted: dict[str, Any]) -> tuple[str, str, Any]:
        from distributed import get_worker

        address = get_worker().address
        try:
            from hybridbench.training.sweep import answer
        except ImportError as error:
            return address, f"cannot import hybridbench ({error})", None
        return address, *answer(what, wanted)

    return run_configurations


_one_task = threading.Lock()


def answer(what: bytes, wanted: dict[str, Any]) -> tuple[str, Any]:
    """On a worker: run pickled (function, configurations) where the software is the wanted one.

    Returns:
        Why not ("" where it was run), and (machine id, rows of every configuration up to the first that failed, None or
        the failure's message and traceback: as text, because not every exception can be sent).
    """
    from distributed.protocol import pickle

    for name, value in wanted.items():
        if software().get(name) != value:
            return f"has {name} {software().get(name)!r}, and {value!r} is wanted", None
    try:
        run, configs = pickle.loads(what)
    except ImportError as error:
        return f"cannot import what is run ({error})", None
    found: list[Rows] = []
    with _one_task:  # traced graphs and their variables belong to the process, not to a thread
        for config in configs:
            try:
                found.append(_run_one(run, config))
            except SweepError as failed:
                return "", (this_machine().id, found, (str(failed), failed.__notes__[0]))
    return "", (this_machine().id, found, None)
