"""One look for every figure: the same thing has the same label, colour, marker and dash wherever it appears.

How routes are drawn stands in their catalogue, `hybridbench.design.routes`. Nothing is told by colour alone: within a figure
no two names share their marker.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl

from hybridbench.design.look import (
    BLACK,
    BLUE,
    DASHDOT,
    DASHED,
    DOTTED,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    SOLID,
    VERMILLION,
    Style,
)
from hybridbench.design.routes import ROUTES
from hybridbench.errors import check_name

STYLES: dict[str, dict[str, Style]] = {
    # One colour a family of optimizers, so that figures of all fifteen can be read by family; black is plain SGD.
    "optimizer": {
        "sgd": Style("SGD", BLACK, "h", SOLID),
        "momentum": Style("Momentum", ORANGE, "s", DASHED),
        "nesterov": Style("Nesterov", ORANGE, "D", DOTTED),
        "rmsprop": Style("RMSprop", VERMILLION, "^", SOLID),
        "rmsprop_corrected": Style("RMSprop (corrected)", VERMILLION, "<", DASHED),
        "rmsprop_torch": Style("RMSprop (PyTorch)", VERMILLION, "H", DOTTED),
        "adagrad": Style("Adagrad", GREEN, "v", SOLID),
        "adagrad_torch": Style("Adagrad (PyTorch)", GREEN, ">", DASHED),
        "adam": Style("Adam", BLUE, "o", SOLID),
        # Fused Adam is the same mathematics as Adam: the same colour, another dash.
        "fused_adam": Style("Fused Adam", BLUE, "x", DOTTED),
        "nadam": Style("NAdam", SKY, "P", DASHED),
        "adamw": Style("AdamW", SKY, "X", DASHDOT),
        "amsgrad": Style("AMSGrad", BLUE, "p", DASHDOT),
        "qng": Style("QNG", PURPLE, "*", SOLID),
        "spsa": Style("SPSA", PURPLE, "d", DASHED),
        "adam, lr 0.001": Style("Adam, learning rate 0.001", BLUE, "1", DASHED),
        "adam, lr 0.1": Style("Adam, learning rate 0.1", BLUE, "2", (0, (3, 1, 1.2, 1, 1.2, 1))),
    },
    "start": {
        "uniform": Style("uniform on the circle", BLUE, "o", SOLID),
        "normal": Style("standard normal", ORANGE, "s", DASHED),
        "small": Style("small", GREEN, "^", DASHDOT),
        "identity": Style("identity blocks", PURPLE, "D", DOTTED),
    },
    "phase": {
        "tuned": Style("tuned", BLUE, "o", SOLID),
        "default": Style("framework's defaults", ORANGE, "s", DASHED),
    },
    "route": {arm: route.style for route in ROUTES for arm in route.arms},
    "model": {
        "hybrid": Style("hybrid", BLUE, "o", SOLID),
        "separable": Style("separable twin", SKY, "s", DASHED),
        "classical": Style("classical, parameter-matched", VERMILLION, "^", DASHDOT),
    },
    "part": {
        "classical forward": Style("classical forward", SKY, "o", SOLID),
        "classical backward": Style("classical backward", BLUE, "s", SOLID),
        "quantum forward": Style("quantum forward", ORANGE, "^", SOLID),
        "quantum backward": Style("quantum backward", VERMILLION, "v", SOLID),
        "update": Style("update", GREEN, "D", SOLID),
        "python": Style("Python and the rest", GREY, "x", SOLID),
        "step": Style("whole step", BLACK, "P", SOLID),
    },
    "depth": {
        "1 layer": Style("1 layer", GREY, "o", SOLID),
        "2 layers": Style("2 layers", SKY, "s", DASHED),
        "4 layers": Style("4 layers", BLUE, "^", DASHDOT),
        "8 layers": Style("8 layers", GREEN, "D", DOTTED),
        "16 layers": Style("16 layers", ORANGE, "v", SOLID),
        "32 layers": Style("32 layers", VERMILLION, "P", DASHED),
        "64 layers": Style("64 layers", PURPLE, "X", DASHDOT),
    },
    "noise": {
        "exact gradients": Style("exact gradients", BLUE, "o", SOLID),
        "10000 shots": Style("10000 shots", GREEN, "D", DASHDOT),
        "1000 shots": Style("1000 shots", ORANGE, "s", DASHED),
        "100 shots": Style("100 shots", VERMILLION, "^", DOTTED),
    },
    "verdict": {
        "confirmed": Style("confirmed", BLUE, "o", SOLID),
        "refuted": Style("refuted", VERMILLION, "X", SOLID),
        "open": Style("open", GREY, "D", DOTTED),
    },
}


def family(name: str) -> dict[str, Style]:
    """All names of one family ("optimizer", "backend", "model", "part" …), in drawing order.

    Raises:
        ConfigurationError: there is no such family.
    """
    return STYLES[check_name("style family", name, STYLES)]


def style_of(name: str) -> Style:
    """How `name` (an optimizer, an arm, a model, a part of a step, a verdict) is drawn.

    Raises:
        ConfigurationError: the name has no style, with the nearest ones; add one in `STYLES`.
    """
    every = {key: style for styles in STYLES.values() for key, style in styles.items()}
    return every[check_name("name in a figure", name, every)]


def in_order(names: Iterable[str]) -> list[str]:
    """The distinct `names` in the order of the style table, so that legends agree between figures."""
    every = [key for styles in STYLES.values() for key in styles]
    wanted = set(names)
    for name in wanted:
        check_name("name in a figure", name, every)
    return [name for name in every if name in wanted]


RC: dict[str, Any] = {
    "figure.constrained_layout.use": True,
    "figure.dpi": 110,
    "savefig.dpi": 160,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters on every machine
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "errorbar.capsize": 2.5,
    "axes.formatter.useoffset": False,
    "svg.hashsalt": "hybridbench",  # else element ids differ from run to run
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
}


@contextmanager
def use_style() -> Iterator[None]:
    """Draw with the suite's settings inside the `with` block; matplotlib's own are back afterwards."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(RC)
        yield
