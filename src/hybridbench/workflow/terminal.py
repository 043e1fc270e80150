"""What the commands print: answers with their table, and strangers' text as the text that it is.

Neither escape codes nor rich's markup in a record or profile act on the terminal.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from hybridbench.errors import plain


def cells(*values: object) -> list[Text]:
    """The cells of a row of a table, whatever characters the values have."""
    return [Text("\n".join(map(plain, str(value).split("\n")))) for value in values]


def show_answer(answer: str, title: str, header: Sequence[str], rows: Sequence[Sequence[str]], *notes: str) -> None:
    """Print a recommendation: the answer, the table that it was read from, and what both rest on.

    A column is at least as wide as its longest word, so that no name is broken into pieces or cut off. On a terminal that is
    too narrow for that, lines run over its edge.
    """
    console = Console()
    widths = _widths([header, *rows], console.width)
    console.width = max(console.width, sum(widths) + 2 * len(widths))
    table = Table(
        *(Column(name, width=width) for name, width in zip(header, widths, strict=True)),
        title=Text(title),
        title_justify="left",
        box=None,
        padding=(0, 2, 0, 0),
        header_style="bold",
    )
    for row in rows:
        table.add_row(*cells(*row))
    console.print(answer, highlight=False, markup=False, style="bold")
    console.print()
    console.print(table)
    for note in notes:
        console.print()
        console.print(note, highlight=False, markup=False)


def _widths(rows: Sequence[Sequence[str]], room: int) -> list[int]:
    """The columns' widths: where they do not fit, the one with most to spare over its longest word gives way."""
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    words = [max(len(word) for cell in column for word in cell.split()) for column in columns]
    while sum(widths) + 2 * len(widths) > room and widths != words:
        spare = [width - least for width, least in zip(widths, words, strict=True)]
        widths[spare.index(max(spare))] -= 1
    return widths
