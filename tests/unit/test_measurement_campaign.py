"""The campaign: its order, its time limit and pace, and what stays where it fails or is interrupted."""

import math
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import toy_study  # noqa: F401  (the study of the toys)

from hybridbench.measurement import campaign
from hybridbench.measurement.campaign import Campaign
from hybridbench.measurement.child import ChildFailed, TimeLimitReached
from hybridbench.measurement.evidence import TimingError
from hybridbench.measurement.records import RecordStore

ROW = {"step": 0, "train_loss": 0.5}


@dataclass(frozen=True)
class Toy:
    task: str
    seed: int = 0

    @property
    def title(self):
        return f"toy {self.task}"


#: How many seconds a configuration takes and is expected to take, and how it fails.
FACTS = {}


def toy(task, seconds=10.0, expected=10.0, error=""):
    FACTS[task] = SimpleNamespace(seconds=seconds, expected=expected, error=error)
    return Toy(task)


class Machine:
    """Runs campaigns on a clock of its own."""

    def __init__(self, folder):
        self.store = RecordStore("toys", folder)
        self.now, self.tried, self.limits, self.positions = 0.0, [], [], []

    def measure(self, toy, attempt):
        self.tried.append(toy.task)
        self.limits.append(attempt.limit)
        facts = FACTS[toy.task]
        if facts.error == "interrupted":
            raise KeyboardInterrupt
        if facts.error:
            raise ChildFailed(facts.error)
        if facts.seconds > attempt.limit:
            self.now += attempt.limit
            raise TimeLimitReached(f"no answer after {attempt.limit:g} s")
        self.now += facts.seconds
        return [ROW], None

    def run(self, toys, seconds=math.inf, expected=lambda toy: FACTS[toy.task].expected):
        given = {"seconds": seconds, "report": self.positions.append, "clock": lambda: self.now}
        return Campaign(toys, self.store, self.measure, expected, **given).run()


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path / "records")


def test_what_is_missing_is_measured_in_order_and_once(machine):
    toys = [toy("c"), toy("a"), toy("c"), toy("b")]
    outcome = machine.run(toys)
    assert machine.tried == ["c", "a", "b"]
    assert [toy.task for toy in outcome.done] == ["c", "a", "b"]
    assert outcome.complete()["record"].nunique() == 3
    again = machine.run([*toys, toy("d")])
    assert machine.tried == ["c", "a", "b", "d"]
    assert again.table()["record"].nunique() == 4
    assert [(p.number, p.of, p.title) for p in machine.positions][-1] == (1, 1, "toy d")


def test_an_interruption_keeps_what_was_measured_and_the_next_run_goes_on(machine):
    with pytest.raises(KeyboardInterrupt):
        machine.run([toy("a"), toy("b", error="interrupted"), toy("c")])
    assert len(list(machine.store.folder.iterdir())) == 1, "whole records only"
    machine.run([toy("a"), toy("b"), toy("c")])
    assert machine.tried == ["a", "b", "b", "c"]


def test_a_failure_is_noted_and_the_others_follow(machine):
    toys = [toy("a"), toy("b", error="no kernel image."), toy("c")]
    outcome = machine.run(toys)
    assert outcome.failed == [(toys[1], "no kernel image.")]
    assert [toy.task for toy in outcome.done] == ["a", "c"]
    assert outcome.table()["record"].nunique() == 2
    with pytest.raises(
        TimingError, match=r"No record of toy b: no kernel image\. 1 of 3 records are missing; the others stay, and the same"
    ):
        outcome.complete()


def test_three_failures_in_a_row_end_a_campaign(machine):
    bad = [toy(f"bad {i}", error="no GPU") for i in range(campaign.MOST_FAILURES)]
    outcome = machine.run([*bad[:2], toy("good"), bad[2], toy("better")])
    assert [own.task for own, _ in outcome.failed] == ["bad 0", "bad 1", "bad 2"]
    assert [own.task for own in outcome.done] == ["good", "better"], "the good one between counts anew"
    outcome = machine.run([*bad, toy("last"), toy("very last")])
    assert machine.tried[-3:] == ["bad 0", "bad 1", "bad 2"]
    why = "3 in a row failed before it"
    assert [(own.task, reason) for own, reason in outcome.left] == [("last", why), ("very last", why)]


def test_other_errors_are_not_caught(machine):
    def broken(toy, attempt):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Campaign([toy("a")], machine.store, broken).run()


def test_what_does_not_fit_is_left_and_smaller_ones_fill_the_time(machine):
    toys = [toy("a"), toy("large", expected=500.0), toy("b"), toy("c"), toy("d")]
    outcome = machine.run(toys, seconds=35.0)
    assert machine.now <= 35
    assert machine.tried == ["a", "b", "c"]
    assert [(toy.task, why) for toy, why in outcome.left] == [
        ("large", "it did not fit into the time left"),
        ("d", "it did not fit into the time left"),
    ]
    assert all(position.seconds_left <= 35.0 for position in machine.positions)
    assert machine.run(toys, seconds=0.0).done == []


def test_the_pace_of_the_machine_decides_what_fits(machine):
    slow = [toy(f"{i}", seconds=60.0, expected=20.0) for i in range(9)]
    outcome = machine.run(slow, seconds=400.0)
    assert len(outcome.done) == 6
    assert machine.limits[-1] == 100.0, "that was left when the last one began"
    fast = Machine(machine.store.folder.parent / "fast")
    assert len(fast.run([toy(f"{i}", seconds=2.0, expected=20.0) for i in range(9)], seconds=60.0).done) == 9


def test_a_few_short_ones_do_not_decide_the_pace(machine):
    """The first cell of a fresh process takes ten times what is expected; a longer one fits all the same."""
    outcome = machine.run([toy("first", seconds=10.0, expected=1.0), toy("long", expected=50.0)], seconds=100.0)
    assert len(outcome.done) == 2


def test_the_time_left_follows_the_pace_and_what_is_reported(machine):
    def measure(toy, attempt):
        machine.now += 10.0
        attempt.report(0.5, "process 2 of 2")
        machine.now += 10.0
        return [ROW], None

    toys = [toy("a"), toy("b")]
    Campaign(
        toys, machine.store, measure, lambda toy: 10.0, report=machine.positions.append, clock=lambda: machine.now
    ).run()
    first, half, second, end = machine.positions
    assert (first.title, half.title) == ("toy a", "toy a, process 2 of 2")
    assert first.seconds_left == 20.0
    assert half.seconds_left == pytest.approx((30 + 10) / (30 + 5) * 15)
    assert second.seconds_left == pytest.approx((30 + 20) / (30 + 10) * 10)
    assert end.seconds_left == pytest.approx((50 + 10) / (40 + 5) * 5)


def test_one_that_takes_too_long_is_left_and_slows_the_pace(machine):
    endless, long = toy("endless", seconds=math.inf), toy("long", expected=100.0)
    outcome = machine.run([endless, long, toy("next")], seconds=400.0)
    limit = campaign.SLOWEST_PACE * 10 + campaign.GRACE_SECONDS
    assert machine.limits[0] == limit
    assert outcome.left[0] == (endless, f"no answer after {limit:g} s")
    assert [toy.task for toy, _ in outcome.left] == ["endless", "long"], "100 s at that pace are more than are left"
    assert [toy.task for toy in outcome.done] == ["next"]
    assert outcome.failed == []


def test_nothing_outlasts_the_time_limit(machine):
    outcome = machine.run([toy("a", seconds=1000.0), toy("b")], seconds=50.0)
    assert (machine.now, machine.limits) == (50.0, [50.0])
    assert [toy.task for toy, _ in outcome.left] == ["a", "b"]


def test_a_wrong_estimate_does_not_keep_the_first_from_being_measured(machine):
    toys = [
        toy("far too large", expected=10_000.0),
        toy("wrong", seconds=50.0, expected=200.0),
        toy("other", expected=300.0),
    ]
    outcome = machine.run(toys, seconds=100.0)
    assert machine.tried == ["wrong"]
    assert [toy.task for toy, _ in outcome.left] == ["far too large", "other"]


def test_without_an_estimate_the_time_left_is_unknown_and_nothing_is_limited(machine):
    outcome = machine.run([toy("a"), toy("b", seconds=1e6)], expected=None)
    assert len(outcome.done) == 2
    assert {position.seconds_left for position in machine.positions} == {None}
    assert machine.limits == [math.inf, math.inf]


def test_without_an_estimate_the_time_limit_counts_too(machine):
    outcome = machine.run([toy("a"), toy("b"), toy("c")], seconds=15.0, expected=None)
    assert (machine.tried, machine.now) == (["a", "b"], 15.0)
    assert [why for _, why in outcome.left] == ["no answer after 5 s", "it did not fit into the time left"]


def test_a_folder_that_cannot_be_stops_before_anything_is_measured(tmp_path):
    (tmp_path / "file").write_text("in the way")
    machine = Machine(tmp_path / "file" / "records")
    with pytest.raises(OSError, match="file"):
        machine.run([toy("a")])
    assert machine.tried == []
