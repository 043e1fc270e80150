"""Child processes: they answer, are watched, and end with a reason."""

import os
import time

import psutil
import pytest

from hybridbench.measurement.child import THREAD_VARIABLES, Child, ChildFailed, TimeLimitReached, named, serving


def child(name, variables=None, **more):
    return Child(serving(f"tests.unit.child_toys:{name}"), variables=variables, **more)


def test_a_child_answers_one_question_after_the_other_whatever_libraries_print():
    with child("echo") as process:
        pid = process.pid
        for question in ({"a": [1, 2]}, "ünï", None):
            assert process.ask(question) == {"question": question, "process": pid}
        assert not process.closed
    assert process.closed
    assert not psutil.pid_exists(pid)


def test_its_threads_and_variables_are_fixed():
    with child("variables", {"OWN": "x"}, threads=3) as process:
        assert process.ask(["OWN", *THREAD_VARIABLES]) == ["x", *["3"] * len(THREAD_VARIABLES)]
    assert "OWN" not in os.environ


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("raise", "exit code 1: ZeroDivisionError: division by zero"),
        ("exit", "exit code 3"),
        ("kill", "killed, as where memory runs out"),
        ("answer", "no such circuit"),
        ("silent", "exit code 0: last words"),
    ],
)
def test_a_child_that_fails_says_why_and_is_ended(how, reason):
    process = child("failing")
    with pytest.raises(ChildFailed) as raised:
        process.ask(how)
    assert str(raised.value).startswith(reason)
    assert process.closed
    process.close()  # once more does no harm


def test_a_child_that_gives_no_answer_in_time_is_ended():
    process, begin = child("sleeping"), time.monotonic()
    message = r"^Timing of a cell was stopped: no answer after 0.3 s; nothing of it was kept.$"
    with pytest.raises(TimeLimitReached, match=message), named("Timing of a cell"):
        process.ask(60, 0.3)
    assert time.monotonic() - begin < 3
    assert not psutil.pid_exists(process.pid)


def test_the_error_names_what_was_asked():
    failed = pytest.raises(ChildFailed, match=r"^The check failed: exit code 1: AttributeError: .* 'nothing'")
    with child("nothing") as process, failed, named("The check"):
        process.ask(1)


def test_a_child_that_ended_before_it_was_asked_says_why():
    process = Child(["-c", "raise SystemExit('no such module')"])
    process._process.wait()
    with pytest.raises(ChildFailed, match=r"^exit code 1: no such module$"):
        process.ask(1)


def test_an_interruption_ends_the_child(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    process = child("echo")
    monkeypatch.setattr(process, "_read_line", interrupted)
    with pytest.raises(KeyboardInterrupt):
        process.ask(1)
    assert not psutil.pid_exists(process.pid)
