"""Interleaved timing in processes of their own: its protocol and its rules, with toy arms."""

import ast
import os
import sys
import time

import psutil
import pytest

from hybridbench.measurement import interleave as module
from hybridbench.measurement.child import ChildFailed
from hybridbench.measurement.interleave import ProcessArm, Worker, check_same_work, interleave
from hybridbench.measurement.timing import TimingError


def arm(name, factory, threads=0, alone=False, losses=2, **arguments):
    return ProcessArm(
        name, f"bench_toys:{factory}", arguments, threads=threads, folder="tests/unit", alone=alone, losses=losses
    )


def take(*arms, processes=1, seconds=0.1, **more):
    return interleave(arms, threads=1, processes=processes, seconds=seconds, **more)


def test_every_arm_gives_its_samples_in_every_process():
    rounds = []
    rows = take(arm("a", "clocked", step=0.5), arm("b", "clocked", step=0.25), processes=2, started=rounds.append)
    assert rounds == [0, 1]
    for name, seconds in (("a", 0.5), ("b", 0.25)):
        own = [row for row in rows if row["arm"] == name]
        assert {row["seconds"] for row in own} == {seconds}
        assert [row["process"] for row in own] == [0] * 5 + [1] * 5, "0.1 s hold five samples of 20 ms"
        assert [row["sample"] for row in own] == [*range(5)] * 2
        assert all(row["calls"] > 1 and row["peak_memory_mib"] > 1 and not row["note"] for row in own)


def test_a_process_has_its_cores_and_threads_and_is_new_every_time():
    cores = sorted(os.sched_getaffinity(0))[:1]
    seen = set()
    for _ in range(2):
        worker = Worker(arm("a", "surroundings", threads=7), cores)
        try:
            assert worker.ready["seconds"] > 1, "the second call"
            seen.add(worker.ready["seconds"])
            assert worker.take(2) == [1.0, 7.0]
        finally:
            worker.close()
    assert len(seen) == 2
    assert os.getpid() not in seen


def wait_until_stopped(process):
    end = time.monotonic() + 5
    while process.status() != psutil.STATUS_STOPPED:
        assert time.monotonic() < end, process.status()
        time.sleep(0.01)


def test_a_process_is_stopped_while_others_work():
    worker = Worker(arm("a", "clocked"), module.cores_for(1))
    process = psutil.Process(worker.pid)
    try:
        wait_until_stopped(process)
        assert worker.take(1) == [0.25]
        wait_until_stopped(process)
    finally:
        worker.close()
    assert not process.is_running()


def test_what_a_library_prints_is_no_answer():
    assert {row["note"] for row in take(arm("a", "talking"))} == {""}


def test_slow_arms_count_their_second_call_and_need_no_more():
    worker = arm("slow", "talking", seconds=1.05)
    rows = take(worker, seconds=2.2)
    assert len(rows) == 2, "2.2 s hold two calls, one of which was the second"
    assert all(1.0 < row["seconds"] < 1.5 and row["calls"] == 1 for row in rows)
    assert len(take(arm("alone", "talking", seconds=1.05, alone=True), seconds=0.1)) == 1


def test_a_failing_arm_says_why_and_is_not_tried_again():
    rows = take(arm("bad", "failing"), arm("good", "clocked"), processes=2)
    (bad,) = (row for row in rows if row["arm"] == "bad")
    assert bad["note"] == "not measured: ValueError: no such circuit"
    assert "seconds" not in bad
    assert len({row["process"] for row in rows if row["arm"] == "good"}) == 2


def test_an_arm_that_fails_later_keeps_what_it_gave():
    rows = take(arm("bad", "failing", after=1000, losses=1))
    assert any(row["note"].startswith("stopped: ValueError") for row in rows)


@pytest.mark.parametrize(
    ("factory", "message"),
    [("dying", "exit code 3: last words"), ("lazy", "must return numbers"), ("gone", "AttributeError")],
)
def test_what_went_wrong_is_reported(factory, message):
    with pytest.raises(ChildFailed, match=message):
        Worker(arm("a", factory), module.cores_for(1))


def test_time_and_memory_are_limited():
    with pytest.raises(ChildFailed, match=r"no answer after 0.3 s"):
        Worker(arm("a", "talking", seconds=30), module.cores_for(1), max_seconds=0.3)
    with pytest.raises(ChildFailed, match=r"more than 0.1 GiB of memory"):
        Worker(arm("a", "large", gib=0.2), module.cores_for(1), max_memory_gib=0.1)


def test_arms_that_do_different_work_are_refused():
    with pytest.raises(TimingError, match="at the start is"):
        take(arm("a", "clocked", loss=1.0), arm("b", "clocked", loss=1.01))
    with pytest.raises(TimingError, match="after one step is"):
        take(arm("a", "clocked", later=0.5), arm("b", "clocked", later=0.6))
    check_same_work({"a": [1.0, 0.5], "b": [1.0001], "c": []})
    assert {row["note"] for row in take(arm("a", "clocked", loss=1.0), arm("other", "clocked", loss=3.0, losses=0))} == {""}


@pytest.mark.parametrize("samples", [0, 1, 3, 5, 20])
def test_rounds_share_all_samples(samples):
    shares = [module.share(samples, round_, 5) for round_ in range(5)]
    assert sum(shares) == samples
    assert max(shares) - min(shares) <= 1


def test_planned_samples():
    assert module.plan_samples(1e-4, 4.0) == module.MAX_SAMPLES
    assert module.plan_samples(0.5, 4.0) == 8
    assert module.plan_samples(100.0, 4.0) == 1


def test_the_worker_needs_nothing_but_the_standard_library():
    tree = ast.parse(module.WORKER.read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} <= set(sys.stdlib_module_names)
