"""Does this machine agree with what is shipped? One row a claim: claim, shipped, here, verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hybridbench.workflow.terminal import cells

AGREES = "agrees"
OPEN_IN_BOTH = "open in both"
DISAGREES = "DISAGREES"
NOT_DECIDED = "not decided here"
ONLY_HERE = "decided here only"
NOT_RUN = "NOT RUN (no GPU), shipped record shown"
NOT_RUN_NOR_SHIPPED = "NOT RUN (no GPU), no shipped record"


class Decided(Protocol):
    """What `analysis.claims.decide` says of one claim."""

    @property
    def id(self) -> str: ...  # noqa: D102
    @property
    def claim(self) -> str: ...  # noqa: D102
    @property
    def verdict(self) -> str: ...  # noqa: D102
    @property
    def text(self) -> str: ...  # noqa: D102
    @property
    def needs_gpu(self) -> bool: ...  # noqa: D102


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    id: str
    claim: str
    shipped: str  #: verdict and number from the shipped records
    here: str  #: the same from this machine's own records
    verdict: str


def compare(shipped: Sequence[Decided], here: Sequence[Decided], has_gpu: bool) -> list[Row]:
    """One row for each shipped claim, in its order.

    A claim agrees where both sides confirm or both refute it, and disagrees where one confirms what the other refutes. A
    side that stays open (quick runs have few samples) contradicts nothing.

    Args:
        shipped: decisions on the shipped records.
        here: decisions on this machine's records, the same claims.
        has_gpu: whether this machine has an NVIDIA GPU; without one a claim about GPUs was not run, whatever is found here.
    """
    own = {decided.id: decided for decided in here}
    rows = []
    for there in shipped:
        mine = own[there.id]
        not_run = there.needs_gpu and not has_gpu
        verdict = _not_run(there) if not_run else _verdict(there, mine)
        rows.append(Row(there.id, there.claim, _text(there), "-" if not_run else _text(mine), verdict))
    return rows


def disagreements(rows: Sequence[Row]) -> list[Row]:
    """The rows that make a run fail."""
    return [row for row in rows if row.verdict == DISAGREES]


def table(rows: Sequence[Row]) -> Table:
    """The rows as a table for a terminal or a log."""
    shown = Table(
        "id", "claim", "shipped", "here", "verdict", title="Claims: shipped records and this machine's", expand=False
    )
    for row in rows:
        style = {DISAGREES: "bold red", AGREES: "green"}.get(row.verdict, "yellow")
        shown.add_row(*cells(row.id, row.claim, row.shipped, row.here), Text(row.verdict, style=style))
    return shown


def summary(rows: Sequence[Row]) -> str:
    """How many claims got which verdict, in one line."""
    counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in dict.fromkeys(row.verdict for row in rows)}
    return f"{len(rows)} claims: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items())


def this_machines_rows() -> list[Row]:
    """The rows for the records shipped with the suite and those in `build/`."""
    from hybridbench.analysis import claims
    from hybridbench.measurement.machine import this_machine

    return compare(claims.decide("shipped"), claims.decide("build"), bool(this_machine().gpus))


def show(rows: Sequence[Row], console: Console | None = None) -> None:
    """Print the table and its summary."""
    console = console or Console()
    if not console.is_terminal:
        # A log has no width of its own; 80 columns would break every cell into slivers.
        console = Console(file=console.file, width=160)
    console.print(table(rows))
    console.print(summary(rows), highlight=False)


def _text(decided: Decided) -> str:
    # An open GPU claim's number is a CPU's; without room for what it is, it stays away.
    withheld = decided.needs_gpu and decided.verdict == "open"
    return decided.verdict if withheld or decided.text in {"", "–"} else f"{decided.verdict}: {decided.text}"


def _not_run(shipped: Decided) -> str:
    return NOT_RUN_NOR_SHIPPED if shipped.verdict == "open" else NOT_RUN


def _verdict(shipped: Decided, here: Decided) -> str:
    if shipped.verdict == here.verdict:
        return OPEN_IN_BOTH if here.verdict == "open" else AGREES
    if here.verdict == "open":
        return NOT_DECIDED
    return ONLY_HERE if shipped.verdict == "open" else DISAGREES
