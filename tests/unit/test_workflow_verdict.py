import io
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from hybridbench.workflow import verdict


@dataclass(frozen=True)
class Decided:
    id: str
    verdict: str
    needs_gpu: bool = False
    text: str = "1.5 (1.2 to 1.9)"
    claim: str = "batching helps"


@pytest.mark.parametrize(
    ("shipped", "here", "expected"),
    [
        ("confirmed", "confirmed", verdict.AGREES),
        ("refuted", "refuted", verdict.AGREES),
        ("open", "open", verdict.OPEN_IN_BOTH),
        ("confirmed", "refuted", verdict.DISAGREES),
        ("refuted", "confirmed", verdict.DISAGREES),
        ("confirmed", "open", verdict.NOT_DECIDED),
        ("refuted", "open", verdict.NOT_DECIDED),
        ("open", "confirmed", verdict.ONLY_HERE),
    ],
)
def test_the_verdict_of_a_claim(shipped, here, expected):
    rows = verdict.compare([Decided("C01", shipped)], [Decided("C01", here)], has_gpu=False)
    assert [row.verdict for row in rows] == [expected]
    assert bool(verdict.disagreements(rows)) == (expected == verdict.DISAGREES)


@pytest.mark.parametrize("here", ["confirmed", "refuted", "open"])
def test_a_gpu_claim_without_a_gpu_was_not_run_whatever_is_found(here):
    gpu = Decided("C20", "confirmed", needs_gpu=True)
    (row,) = verdict.compare([gpu], [replace(gpu, verdict=here)], has_gpu=False)
    assert row.verdict == "NOT RUN (no GPU), shipped record shown"
    assert row.shipped == "confirmed: 1.5 (1.2 to 1.9)"
    assert row.here == "-"


def test_a_gpu_claim_that_nobody_measured_says_so():
    gpu = Decided("C20", "open", needs_gpu=True, text="–")
    (row,) = verdict.compare([gpu], [gpu], has_gpu=False)
    assert row.verdict == "NOT RUN (no GPU), no shipped record"
    assert row.shipped == "open"


def test_a_gpu_claim_with_a_gpu_is_compared():
    gpu = Decided("C20", "confirmed", needs_gpu=True)
    (row,) = verdict.compare([gpu], [replace(gpu, verdict="refuted")], has_gpu=True)
    assert row.verdict == verdict.DISAGREES


@given(
    st.lists(st.tuples(*[st.sampled_from(["confirmed", "refuted", "open"])] * 2, st.booleans()), max_size=28), st.booleans()
)
def test_only_opposite_decisions_fail_a_run(claims, has_gpu):
    shipped = [Decided(f"C{i:02d}", there, gpu) for i, (there, _, gpu) in enumerate(claims)]
    here = [Decided(f"C{i:02d}", mine, gpu) for i, (_, mine, gpu) in enumerate(claims)]
    rows = verdict.compare(shipped, here, has_gpu)
    assert [row.id for row in rows] == [claim.id for claim in shipped]
    opposite = {row.id for row in verdict.disagreements(rows)}
    assert opposite == {
        f"C{i:02d}"
        for i, (there, mine, gpu) in enumerate(claims)
        if {there, mine} == {"confirmed", "refuted"} and (has_gpu or not gpu)
    }
    if not has_gpu:
        assert all(row.verdict.startswith("NOT RUN") for row, claim in zip(rows, shipped, strict=True) if claim.needs_gpu)


def test_the_table_shows_every_column():
    rows = verdict.compare([Decided("C01", "confirmed")], [Decided("C01", "refuted", text="0.8")], has_gpu=False)
    console = Console(file=io.StringIO())
    verdict.show(rows, console)
    text = console.file.getvalue()
    for word in [
        "C01",
        "batching helps",
        "confirmed: 1.5 (1.2 to 1.9)",
        "refuted: 0.8",
        "DISAGREES",
        "1 claims: 1 DISAGREES",
    ]:
        assert word in text
