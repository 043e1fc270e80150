"""What is told about progress, where, and where nothing is."""

import io
import time
from types import SimpleNamespace

import pytest

from hybridbench import progress


class Screen(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on when it is told to."""
    now = [100.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.delenv("HYBRIDBENCH_PROGRESS", raising=False)
    return now


def test_a_log_gets_a_line_now_and_then_and_the_total_may_grow(clock, capsys):
    with progress.counter("trials") as told:
        for done, total in ((0, 10), (1, 10), (2, 10), (3, 40)):
            told(done, total, "")
            clock[0] += 15.0
    assert capsys.readouterr().err.splitlines() == ["trials: 2/10, about 0:02:00 left"]


def test_a_log_says_when_the_time_left_is_unknown(clock, capsys):
    with progress.counter("trials") as told:
        clock[0] += 30.0
        told(0, 10, "")
    assert capsys.readouterr().err == "trials: 0/10, unknown time left\n"


def test_off_is_silent(clock, capsys, monkeypatch):
    monkeypatch.setenv("HYBRIDBENCH_PROGRESS", "off")
    for _ in progress.track([1, 2], "trials"):
        clock[0] += 30.0
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_a_bar_and_takes_it_away(monkeypatch):
    monkeypatch.delenv("HYBRIDBENCH_PROGRESS", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen()
    monkeypatch.setattr(progress.sys, "stderr", screen)
    for _ in progress.track(iter("ab"), "timing", label=str.upper):
        time.sleep(0.3)  # it is drawn ten times a second
    text = screen.getvalue()
    for shown in ("timing A", "timing B", "2/2"):
        assert shown in text
    assert text.endswith("\x1b[2K"), "the line is erased at the end"


@pytest.mark.parametrize("items", [[], [1], range(3), iter([4, 5])])
def test_every_item_comes_once(items, clock):
    expected = [] if items == [] else [4, 5] if not hasattr(items, "__len__") else list(items)
    assert list(progress.track(items, "timing")) == expected
