"""What strangers' files say, shown in a terminal as the text that it is: neither escape codes nor rich's markup act."""

from __future__ import annotations

from rich.text import Text

from hybridbench.errors import plain


def cells(*values: object) -> list[Text]:
    """The cells of a row of a table, whatever characters the values have."""
    return [Text("\n".join(map(plain, str(value).split("\n")))) for value in values]
