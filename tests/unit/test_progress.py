"""What is shown of progress, where, and where nothing is."""

import io
import time
from types import SimpleNamespace

import pytest

from hybridbench import progress
from hybridbench.progress import Position


class Screen(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on when a test says so."""
    now = [100.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.delenv("HYBRIDBENCH_PROGRESS", raising=False)
    return now


def test_a_log_gets_a_line_now_and_then_and_the_total_may_grow(clock, capsys):
    with progress.counter("trials") as report:
        for done, total in ((0, 10), (1, 10), (2, 10), (3, 40)):
            report(Position(done, total))
            clock[0] += 15.0
    assert capsys.readouterr().err.splitlines() == ["trials: 2/10, about 2 min 00 s left"]


def test_a_log_says_when_the_time_left_is_unknown(clock, capsys):
    with progress.counter("trials") as report:
        clock[0] += 30.0
        report(Position(0, 10))
        clock[0] += 30.0
        report(Position(1, 10, "second", 3.0))
    assert capsys.readouterr().err == "trials: 0/10, time left unknown\ntrials: 1/10, about 3 s left\n"


def test_a_command_prints_a_line_for_every_position(capsys):
    progress.print_position(Position(2, 9, "8 qubits", 65.0))
    progress.print_position(Position(9, 9, "the end"), run="engine")
    assert capsys.readouterr().err.splitlines() == [
        "[3/9] 8 qubits, about 1 min 05 s left",
        "[engine 9/9] the end, time left unknown",
    ]


def test_off_is_silent(clock, capsys, monkeypatch):
    monkeypatch.setenv("HYBRIDBENCH_PROGRESS", "off")
    with progress.counter("trials") as report:
        for done in (0, 1):
            clock[0] += 30.0
            report(Position(done, 2))
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_a_bar_and_takes_it_away(monkeypatch):
    monkeypatch.delenv("HYBRIDBENCH_PROGRESS", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen()
    monkeypatch.setattr(progress.sys, "stderr", screen)
    with progress.counter("timing") as report:
        for done, title in enumerate("AB"):
            report(Position(done, 2, title))
            time.sleep(0.3)  # it is drawn ten times a second
        report(Position(2, 2))
        time.sleep(0.3)
    text = screen.getvalue()
    for shown in ("timing A", "timing B", "2/2"):
        assert shown in text
    assert text.endswith("\x1b[2K"), "the line is erased at the end"
