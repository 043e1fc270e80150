"""The palette of every figure: colours, dashes, and how one name is drawn.

Colours are Okabe and Ito's palette (M. Okabe, K. Ito, "Color Universal Design", 2008), which stays apart under the common
forms of colour blindness. Its yellow is too light for lines on white, so a grey takes its place.
"""

from __future__ import annotations

from typing import Any, NamedTuple

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILLION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#767676"

Dash = str | tuple[int, tuple[float, ...]]
SOLID: Dash = "-"
DASHED: Dash = (0, (5, 2))
DOTTED: Dash = (0, (1.2, 1.6))
DASHDOT: Dash = (0, (5, 1.6, 1.2, 1.6))


class Style(NamedTuple):
    """How one name is drawn."""

    label: str  #: what a legend calls it
    colour: str  #: hexadecimal RGB
    marker: str  #: matplotlib marker
    dash: Dash  #: matplotlib line style

    def line(self, **more: Any) -> dict[str, Any]:
        """Keyword arguments for `Axes.plot` and `Axes.errorbar`; `more` overrides."""
        return {"label": self.label, "color": self.colour, "marker": self.marker, "linestyle": self.dash, **more}

    def points(self, **more: Any) -> dict[str, Any]:
        """Keyword arguments for `Axes.scatter`; `more` overrides."""
        return {"label": self.label, "color": self.colour, "marker": self.marker, **more}
