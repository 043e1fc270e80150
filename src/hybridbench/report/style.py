"""One look for every figure: the same thing has the same colour, marker and dash wherever it appears.

Colours are Okabe and Ito's palette (M. Okabe, K. Ito, "Color Universal Design", 2008), which stays apart under the common
forms of colour blindness. Its yellow is too light for lines on white, so a grey takes its place. Nothing is told by colour
alone: within a family no two names share their (colour, marker, dash).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import matplotlib as mpl

from hybridbench.errors import check_name

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
    "backend": {
        "default.qubit/backprop": Style("default.qubit, backprop", BLUE, "o", SOLID),
        "default.qubit/adjoint": Style("default.qubit, adjoint", SKY, "s", DASHED),
        "default.qubit/parameter-shift": Style("default.qubit, parameter-shift", PURPLE, "^", DOTTED),
        "lightning.qubit/adjoint": Style("lightning.qubit, adjoint", ORANGE, "D", DASHDOT),
        "lightning.qubit/parameter-shift": Style("lightning.qubit, parameter-shift", VERMILLION, "<", DOTTED),
        "lightning.gpu/adjoint": Style("lightning.gpu, adjoint", GREEN, "P", SOLID),
        "default.qubit/backprop, gpu": Style("default.qubit, backprop, on TensorFlow's GPU", GREEN, "H", DASHED),
        "default.qubit/broadcast": Style("default.qubit, whole batch at once", BLUE, "v", SOLID),
        "lightning.qubit/loop": Style("lightning.qubit, one sample at a time", ORANGE, "X", DASHED),
        "default.qubit": Style("default.qubit", BLUE, "h", SOLID),
        "lightning.qubit": Style("lightning.qubit", ORANGE, "p", DASHED),
        "lightning.gpu": Style("lightning.gpu", GREEN, "*", SOLID),
    },
    "batching": {
        "loop": Style("one sample at a time", VERMILLION, "s", DASHED),
        "broadcast": Style("whole batch at once", BLUE, "o", SOLID),
    },
    "execution": {
        "eager": Style("eager", VERMILLION, "s", DASHED),
        "graph": Style("graph (tf.function)", BLUE, "o", SOLID),
        "xla": Style("graph with XLA", GREEN, "^", DASHDOT),
    },
    "rung": {
        "as shipped": Style("KerasLayer as shipped", BLACK, "o", SOLID),
        "device swapped": Style("device swapped", VERMILLION, "^", SOLID),
        "compiled layer": Style("compiled layer", BLUE, "D", SOLID),
        "XLA instead": Style("TensorFlow engine with XLA instead", SKY, "P", DASHDOT),
        "single precision": Style("compiled layer, single precision", GREEN, "*", SOLID),
    },
    "bench": {
        "shipped": Style("KerasLayer as shipped", BLACK, "o", SOLID),
        "shipped, graph": Style("KerasLayer, graph forced by hand", GREY, "s", DASHED),
        "swapped": Style("KerasLayer, device swapped", VERMILLION, "^", SOLID),
        "compiled, eager": Style("compiled layer, eager", SKY, "v", DASHED),
        "compiled": Style("compiled layer", BLUE, "D", SOLID),
        "compiled, XLA": Style("compiled layer, TensorFlow engine, XLA", SKY, "P", DASHDOT),
        "engine, 1 thread": Style("engine alone, one thread", GREEN, "<", DASHED),
        "engine": Style("engine alone", GREEN, ">", SOLID),
        "Keras alone, eager": Style("Keras without a circuit, eager", GREY, "d", DOTTED),
        "Keras alone": Style("Keras without a circuit", GREY, "p", SOLID),
        "jax.jit": Style("PennyLane 0.45 + jax.jit", ORANGE, "X", SOLID),
        "C, 1 thread": Style("C by hand, circuit alone, one thread", PURPLE, "h", DASHED),
        "C": Style("C by hand, circuit alone", PURPLE, "*", SOLID),
    },
    # On a GPU the colour is green, or that of the same arm on the CPU where both stand in one figure.
    "gpu": {
        "engine, complex128": Style("CPU engine, complex128", GREY, "o", DASHED),
        "engine, gpu": Style("CUDA engine", GREEN, "s", SOLID),
        "engine, complex128, gpu": Style("CUDA engine, complex128", BLUE, "D", DASHED),
        "engine, one call, gpu": Style("CUDA engine, a call at a time", SKY, "v", DOTTED),
        "copy, gpu": Style("copy in the GPU's memory", BLACK, "x", SOLID),
        "default.qubit/broadcast, gpu": Style("default.qubit, whole batch, on TensorFlow's GPU", GREEN, "H", DASHED),
        "lightning.gpu/loop": Style("lightning.gpu, one sample at a time", GREEN, "P", SOLID),
        "lightning.qubit/adjoint, complex64": Style("lightning.qubit, adjoint, complex64", ORANGE, "<", DOTTED),
        "lightning.gpu/adjoint, complex64": Style("lightning.gpu, adjoint, complex64", GREEN, ">", DOTTED),
        "eager, gpu": Style("eager, GPU", VERMILLION, "1", DASHED),
        "graph, gpu": Style("graph, GPU", BLUE, "2", SOLID),
        "xla, gpu": Style("graph with XLA, GPU", GREEN, "3", DASHDOT),
        "shipped, lightning.gpu": Style("KerasLayer as shipped, lightning.gpu", GREEN, "^", DASHED),
        "compiled, gpu": Style("compiled layer, CUDA engine", GREEN, "d", SOLID),
        "compiled, XLA, gpu": Style("compiled layer, TensorFlow engine, XLA, GPU", SKY, "*", DASHDOT),
    },
    "route": {
        "KerasLayer, default.qubit, complex128": Style("KerasLayer as shipped (default.qubit)", BLACK, "o", SOLID),
        "KerasLayer, lightning.qubit, complex128": Style("KerasLayer, lightning.qubit", ORANGE, "s", DASHED),
        "KerasLayer, hybridbench.qubit, complex128": Style("KerasLayer, device swapped", VERMILLION, "^", SOLID),
        "hybridbench.KerasLayer, complex128": Style("hybridbench.KerasLayer, complex128", SKY, "v", DASHED),
        "hybridbench.KerasLayer, complex64": Style("hybridbench.KerasLayer, complex64", BLUE, "D", SOLID),
        "KerasLayer, lightning.gpu, complex128": Style("KerasLayer, lightning.gpu", GREEN, "P", SOLID),
        "TensorFlow on the GPU, graph, complex128": Style("TensorFlow on the GPU, graph", PURPLE, "X", DASHED),
        "TensorFlow on the GPU, xla, complex128": Style("TensorFlow on the GPU, XLA", PURPLE, "d", DOTTED),
        "hybridbench.KerasLayer, cuda, complex128": Style("hybridbench.KerasLayer, GPU, complex128", GREEN, "<", DASHED),
        "hybridbench.KerasLayer, cuda, complex64": Style("hybridbench.KerasLayer, GPU, complex64", GREEN, "*", DASHDOT),
    },
    "precision": {
        "complex64": Style("complex64", ORANGE, "s", DASHED),
        "complex128": Style("complex128", BLUE, "o", SOLID),
        "float32": Style("float32", ORANGE, "D", DASHDOT),
        "float64": Style("float64", BLUE, "^", DOTTED),
    },
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
    "memory": {
        "adjoint": Style("compiled layer, adjoint", BLUE, "o", SOLID),
        "backprop": Style("KerasLayer as shipped, backprop", VERMILLION, "s", DASHED),
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
