"""Sweeps: order, resuming, failures, and a real scheduler with workers that are killed."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import sweep_toys
import toy_study  # noqa: F401  (the study of the toys)
from sweep_toys import Toy

from hybridbench.errors import BackendError, ConfigurationError, DataError
from hybridbench.measurement import machine
from hybridbench.measurement.child import THREAD_VARIABLES
from hybridbench.measurement.records import RecordStore
from hybridbench.training import sweep

HERE = Path(__file__).parent
NO_HYBRIDBENCH = "import sys; sys.modules['hybridbench'] = None"


@pytest.fixture
def store(tmp_path):
    return RecordStore("toys", tmp_path / "records")


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


@pytest.fixture
def written(monkeypatch):
    """Every configuration whose record was written, in order."""
    configs, write = [], RecordStore.write

    def spy(self, config, rows, proof=None):
        configs.append(config)
        return write(self, config, rows, proof)

    monkeypatch.setattr(RecordStore, "write", spy)
    return configs


@pytest.mark.parametrize("cluster", ["here", "local"])
def test_a_plan_is_sent_the_records_of_what_it_asked_for(store, log, written, cluster):
    told = {"a": [], "b": []}
    plans = [sweep_toys.plan(task, 12, tables) for task, tables in told.items()]
    sweep.run_plans(store, plans, partial(sweep_toys.run, log=log), "toys", cluster)
    for task, tables in told.items():
        assert [table["seed"].unique().tolist() for table in tables] == [list(range(12)), [111], [211, 0]]
        assert all((table["task"] == task).all() for table in tables)
        assert (tables[1]["train_loss"] == [11.1, 12.1]).all()
        mine = [config.seed for config in written if config.task == task]
        assert sorted(mine[:12]) == list(range(12))
        assert mine[12:] == [111, 211], "what follows waits for all that it follows from, and nothing is run again"
    assert len(sweep_toys.calls(log)) == len(written) == 28
    where = {task: {process for process, other, _ in sweep_toys.calls(log) if other == task} for task in told}
    assert len(where["a"]) == len(where["b"]) == 1, "a plan keeps to the process that has its graphs"
    assert where["a"] == where["b"] == {os.getpid()} if cluster == "here" else not where["a"] & where["b"]


def test_here_and_on_workers_gives_the_same(store, log, tmp_path):
    configs, run = [Toy("a", seed) for seed in range(25)], partial(sweep_toys.run, log=log)
    here = sweep.sweep(store, configs, run, "toys")
    there = sweep.sweep(RecordStore("toys", tmp_path / "others"), configs, run, "toys", "local", 1)
    assert here["seed"].tolist() == [seed for seed in range(25) for _ in range(2)]
    assert here.drop(columns="created_utc").equals(there.drop(columns="created_utc"))


def test_here_an_earlier_plan_ends_before_a_later_one_starts(store, log):
    plans = [sweep_toys.plan(task, 2, []) for task in "ab"]
    sweep.run_plans(store, plans, partial(sweep_toys.run, log=log), "toys", "here")
    assert [(task, seed) for _, task, seed in sweep_toys.calls(log)] == [(t, s) for t in "ab" for s in (0, 1, 101, 201)]


def test_what_several_plans_ask_for_is_run_once(store, log):
    told = [[], [], []]
    plans = [sweep_toys.plan("a", 3, tables) for tables in told]
    sweep.run_plans(store, plans, partial(sweep_toys.run, log=log), "toys", "here")
    assert [seed for _, _, seed in sweep_toys.calls(log)] == [0, 1, 2, 102, 202]
    assert all(len(tables) == 3 for tables in told)


def test_a_sweep_goes_on_where_it_was_cut_off(store, log):
    configs = sweep.grid(Toy, task=["a"], seed=[0, 1, 2])

    def run(config):
        if config.seed == 2:
            raise KeyboardInterrupt
        return sweep_toys.run(config, log)

    with pytest.raises(KeyboardInterrupt):
        sweep.sweep(store, configs, run, "toys")
    kept = {file: file.stat().st_mtime_ns for file in store.folder.iterdir()}
    assert len(kept) == 2
    table = sweep.sweep(store, configs, partial(sweep_toys.run, log=log), "toys")
    assert sorted(table["seed"].unique()) == [0, 1, 2]
    assert len(sweep_toys.calls(log)) == 3
    assert all(file.stat().st_mtime_ns == at for file, at in kept.items())


def test_nothing_is_started_for_what_is_there(store, log, monkeypatch):
    told = []
    sweep.run_plans(store, [sweep_toys.plan("a", 2, [])], partial(sweep_toys.run, log=log), "toys", "here")
    # No scheduler is there to answer.
    sweep.run_plans(store, [sweep_toys.plan("a", 2, told)], None, "toys", "tcp://127.0.0.1:1")
    assert len(told) == 3
    assert len(sweep_toys.calls(log)) == 4


def test_a_seed_listed_twice_is_one_run(store, log):
    configs = [Toy("a", seed) for seed in (0, 0, 1)]
    table = sweep.sweep(store, configs, partial(sweep_toys.run, log=log), "toys")
    assert table.groupby("seed").size().tolist() == [2, 2]


def test_a_grid_is_the_full_factorial():
    assert sweep.grid(lambda **kw: tuple(kw.values()), a=[1, 2], b="xy") == [(1, "x"), (1, "y"), (2, "x"), (2, "y")]


@pytest.mark.parametrize("cluster", ["here", "local"])
def test_a_failure_names_the_configuration_and_leaves_whole_records(store, log, cluster):
    configs = [Toy("fails", seed) for seed in range(6)]
    run = partial(sweep_toys.run, log=log)
    pattern = r"Unsendable: no luck \(sweep_toys\.py, line \d+\), running Toy\(task='fails', seed=3\)\."
    with pytest.raises(sweep.SweepError, match=pattern) as caught:
        sweep.sweep(store, configs, run, "toys", cluster, workers=1)
    assert 'raise Unsendable("no", "luck")' in caught.value.__notes__[0]
    assert store.missing(configs) == configs[3:], "what ran before the failure is kept"
    assert store.read(configs[:3])["seed"].tolist() == [0, 0, 1, 1, 2, 2]
    assert {file.suffix for file in store.folder.iterdir()} == {".parquet"}


def test_a_plan_that_fails_is_not_caught(store, log):
    def plan():
        rows = yield [Toy("a")]
        raise DataError(f"{len(rows)} rows")

    with pytest.raises(DataError, match="2 rows"):
        sweep.run_plans(store, [plan()], partial(sweep_toys.run, log=log), "toys", "here")


def test_local_workers_have_one_thread_and_the_environment_comes_back(store, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    before = dict(os.environ)
    table = sweep.sweep(store, [Toy("a")], sweep_toys.threads, "toys", "local", 1)
    assert dict(zip(table["part"], table["threads"], strict=True)) == dict.fromkeys(THREAD_VARIABLES, 1)
    assert dict(os.environ) == before


def test_a_configuration_that_kills_its_workers_is_named(store, monkeypatch):
    monkeypatch.setattr(sweep, "MOST_DEATHS", 1)
    with pytest.raises(sweep.SweepError, match=r"Worker after worker died .* \[Toy\(task='a', seed=0\)\]: .*memory"):
        sweep.sweep(store, [Toy("a")], sweep_toys.kill_process, "toys", "local", 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cluster": "loacl"}, "cluster is 'loacl', and must be 'local', 'here' or an address"),
        ({"cluster": "tcp://host"}, "cluster is 'tcp://host', and must be .* an address as 'tcp://host:8786'"),
        ({"cluster": "tcp://host:port"}, "cluster is 'tcp://host:port'"),
        ({"cluster": "tcp://:8786"}, "cluster is 'tcp://:8786'"),
        ({"workers": 0}, "workers is 0, and must be a whole number from 1 to 256"),
    ],
)
def test_a_cluster_that_cannot_be_is_refused(store, given, message):
    with pytest.raises(ConfigurationError, match=message):
        sweep.sweep(store, [Toy("a")], None, "toys", **given)


def test_an_address_that_does_not_answer(store, monkeypatch):
    monkeypatch.setattr(sweep, "CONNECT_SECONDS", 0.5)
    begin = time.monotonic()
    with pytest.raises(
        BackendError, match=r"No Dask scheduler answers at tcp://127\.0\.0\.1:1 .* 'dask scheduler' starts one"
    ):
        sweep.sweep(store, [Toy("a")], None, "toys", "tcp://127.0.0.1:1")
    assert time.monotonic() - begin < 5


def dask(*arguments):
    """A process of Dask's own command line that finds this checkout and the toys."""
    found = [str(HERE), str(Path(sweep.__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(found)}
    command = [sys.executable, "-m", "dask", *arguments, "--no-dashboard"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.fixture
def processes():
    started = []
    yield started
    for process in started:
        process.kill()
        process.wait()


@contextmanager
def a_scheduler(folder):
    """A scheduler in a process in which hybridbench cannot be imported, and its address."""
    file = folder / "scheduler.json"
    given = ["--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file), "--preload", NO_HYBRIDBENCH]
    process = dask("scheduler", *given)
    try:
        wait_for(lambda: file.exists() and file.read_text().rstrip().endswith("}"))
        yield process, json.loads(file.read_text())["address"]
    finally:
        process.kill()
        process.wait()


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    with a_scheduler(tmp_path_factory.mktemp("scheduler")) as (_, address):
        yield address


def worker(address, folder, *more):
    for known in (sweep.software, machine.commit):
        known.cache_clear()  # a commit may have come since
    options = ("--nthreads", "1", "--no-nanny", "--memory-limit", "0", "--local-directory", str(folder))
    return dask("worker", address, *options, *more)


def test_a_killed_workers_tasks_run_elsewhere_and_every_record_comes_once(
    store, log, tmp_path, scheduler, processes, written, monkeypatch
):
    both = [worker(scheduler, tmp_path), worker(scheduler, tmp_path)]
    processes += both
    names, told = [f"plan{number}" for number in range(6)], [[] for _ in range(6)]
    plans = [sweep_toys.plan(name, 25, tables) for name, tables in zip(names, told, strict=True)]
    killed, before = [], RecordStore.write

    def write_and_kill(self, config, rows, proof=None):
        """In the middle, when both are at work, one of them dies."""
        if not killed and len(written) >= 50 and len({process for process, _, _ in sweep_toys.calls(log)}) == 2:
            os.kill(both[0].pid, signal.SIGKILL)
            both[0].wait()
            killed.append(len(sweep_toys.calls(log)))
        return before(self, config, rows, proof)

    monkeypatch.setattr(RecordStore, "write", write_and_kill)
    sweep.run_plans(store, plans, partial(sweep_toys.run, log=log, seconds=0.02), "toys", scheduler)

    assert killed, "nobody died: nothing was tested"
    wanted = [Toy(name, seed) for name in names for seed in (*range(25), 124, 224)]
    assert len(written) == len(set(written)) == len(wanted)
    assert set(written) == set(wanted)
    assert store.read(wanted).groupby(["task", "seed"]).size().eq(2).all()
    assert [len(tables) for tables in told] == [3] * 6
    calls = sweep_toys.calls(log)
    assert both[0].pid in {process for process, _, _ in calls[: killed[0]]}
    assert {process for process, _, _ in calls[killed[0] :]} == {both[1].pid}
    assert len(calls) > len(wanted), "what the dead worker was at has run again"


def test_a_scheduler_that_goes_away_in_the_middle(store, log, tmp_path, processes, written, monkeypatch):
    monkeypatch.setattr(sweep, "CONNECT_SECONDS", 1.0)
    configs = [Toy("a", seed) for seed in range(200)]
    run = partial(sweep_toys.run, log=log, seconds=0.02)
    with a_scheduler(tmp_path) as (process, address):
        processes.append(worker(address, tmp_path))
        threading.Thread(target=lambda: (wait_for(lambda: written), process.kill())).start()
        with pytest.raises(sweep.SweepError, match=rf"The scheduler at {address} went away: start it"):
            sweep.sweep(store, configs, run, "toys", address)
    assert 0 < len(store.read()["seed"].unique()) == len(written) < 200


def test_a_scheduler_without_workers_is_waited_for_and_not_for_ever(
    store, log, tmp_path, scheduler, processes, monkeypatch, capfd
):
    monkeypatch.setattr(sweep, "WORKERS_SECONDS", 0.5)
    run = partial(sweep_toys.run, log=log)
    with pytest.raises(BackendError, match=f"No worker came to {scheduler} .* 'dask worker ADDRESS --nthreads 1'"):
        sweep.sweep(store, [Toy("a")], run, "toys", scheduler)
    assert capfd.readouterr().err.count(f"No workers at {scheduler}: waiting") == 1
    monkeypatch.setattr(sweep, "WORKERS_SECONDS", 60.0)
    threading.Thread(target=lambda: (time.sleep(1), processes.append(worker(scheduler, tmp_path)))).start()
    assert len(sweep.sweep(store, [Toy("a")], run, "toys", scheduler)) == 2


@pytest.mark.parametrize(
    ("preload", "message"),
    [
        (NO_HYBRIDBENCH, r"Worker tcp://\S+ cannot import hybridbench .*: start it from the same checkout"),
        (
            "import hybridbench; hybridbench.__version__ = '0.0.9'",
            r"Worker tcp://\S+ has hybridbench '0\.0\.9', and '",
        ),
    ],
)
def test_a_worker_with_another_hybridbench_or_none_is_refused(store, log, tmp_path, scheduler, processes, preload, message):
    processes.append(worker(scheduler, tmp_path, "--preload", preload))
    with pytest.raises(BackendError, match=message):
        sweep.sweep(store, [Toy("a")], partial(sweep_toys.run, log=log), "toys", scheduler)
    assert not store.folder.exists()


PROGRAM = """
import signal
import sys
from functools import partial
from pathlib import Path
import sweep_toys
import toy_study
from hybridbench.measurement.records import RecordStore
from hybridbench.training import sweep

if __name__ == "__main__":
    # A test that is started in the background inherits that the signal is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = Path(sys.argv[1])
    plans = [sweep_toys.plan(name, 40, []) for name in "abc"]
    run = partial(sweep_toys.run, log=folder / "log", seconds=0.05)
    sweep.run_plans(RecordStore("toys", folder / "records"), plans, run, "toys", "local", 2)
"""


def test_ctrl_c_stops_all_processes_and_leaves_whole_records(store, log, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    found = [str(HERE), str(Path(sweep.__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        [sys.executable, str(program), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(found)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: store.folder.exists() and len(list(store.folder.glob("*.parquet"))) > 10)
    # As a terminal does: to every process of the group.
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert re.search(r"^Dashboard: http://127\.0\.0\.1:\d+/status$", error, flags=re.MULTILINE)
    # Not the number of tracebacks: an interrupted handler of an error reports that error too, and so may Dask's heartbeat.
    stopped = re.findall(r"^KeyboardInterrupt$", error, flags=re.MULTILINE)
    assert len(stopped) == 1, f"only this process says that it was stopped:\n{error}"
    assert error.rstrip().endswith("KeyboardInterrupt")
    for number in {number for number, _, _ in sweep_toys.calls(log)}:
        wait_for(lambda number=number: not Path(f"/proc/{number}").exists())
        assert not Path(f"/proc/{number}").exists()
    # A file that was being written has a name with a dot, which no reader looks at.
    n = sum(not file.name.startswith(".") for file in store.folder.iterdir())
    assert 10 < n < 126
    assert len(store.read()) == 2 * n
