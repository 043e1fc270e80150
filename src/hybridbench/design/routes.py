"""The catalogue of routes: every way of computing a training step that is timed, with its fields, its label and its look.

A route that is added here can be timed, drawn and asked about; nothing else says what a name means. Records call a route by
one of its `arms`: a study has its own short name for what it compares.
"""

from __future__ import annotations

from dataclasses import dataclass, field

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
from hybridbench.errors import check_name

#: How a route does its work, for the cost model. broadcast: one operation after the other for the whole batch, states of
#: the backward pass kept. loop: one circuit after the other, adjoint, with a bra for each of the n expectation values.
#: fused: the compiled circuit, a block of samples after the other, adjoint with one bra. kernels: the same, the whole batch
#: in every kernel of a GPU.
WORK = ("broadcast", "loop", "fused", "kernels")


@dataclass(frozen=True)
class Route:
    """One way of computing a training step, or the part of one that a cell times."""

    id: str  #: its one name
    label: str  #: what figures and tables call it
    layer: (
        str  #: "KerasLayer" (PennyLane's), "hybridbench.KerasLayer", "none" (Keras without a circuit), or "" without Keras
    )
    backend: str  #: what simulates the circuit: a PennyLane device, "engine", "C", or "" without a circuit
    diff_method: str  #: how the backend differentiates
    mode: str  #: "eager", "graph" or "xla"; without a layer "loop" (a sample at a time) or "broadcast" (the whole batch)
    precision: str  #: complex type of the state vector
    style: Style  #: colour, marker and dash in every figure
    arms: tuple[str, ...]  #: what records call it, one name for each study that times it
    gpu: bool = False  #: whether a GPU does the work
    engine: str = ""  #: the compiled layer's engine, where it is not "auto"
    work: str = ""  #: one of `WORK`, where the cost model knows the route
    threads: int = field(default=0)  #: 0 for those of the cell

    @property
    def device(self) -> str:
        """TensorFlow's device for what TensorFlow computes."""
        return "GPU:0" if self.gpu and (self.backend == "default.qubit" or self.engine == "tensorflow") else "CPU:0"


def _route(id: str, label: str, look: tuple, fields: str, arms: tuple[str, ...], **more: object) -> Route:
    """A route whose `fields` are layer, backend, diff_method, mode and precision, "-" for none."""
    layer, backend, diff_method, mode, precision = ("" if name == "-" else name for name in fields.split())
    return Route(id, label, layer, backend, diff_method, mode, precision, Style(label, *look), arms, **more)


#: In drawing order: legends and tables list them so.
ROUTES: tuple[Route, ...] = (
    # PennyLane's own layer, eagerly.
    _route(
        "shipped", "KerasLayer as shipped", (BLACK, "o", SOLID),
        "KerasLayer default.qubit backprop eager complex128",
        ("shipped", "as shipped", "default.qubit/backprop", "eager", "KerasLayer, default.qubit, complex128"),
        work="broadcast",
    ),
    _route(
        "default.qubit, adjoint", "KerasLayer, default.qubit, adjoint", (SKY, "X", DASHED),
        "KerasLayer default.qubit adjoint eager complex128", ("default.qubit/adjoint",),
    ),
    _route(
        "default.qubit, parameter-shift", "KerasLayer, default.qubit, parameter-shift", (PURPLE, "^", DOTTED),
        "KerasLayer default.qubit parameter-shift eager complex128", ("default.qubit/parameter-shift",),
    ),
    _route(
        "lightning.qubit", "KerasLayer, lightning.qubit", (ORANGE, "s", DASHED),
        "KerasLayer lightning.qubit adjoint eager complex128",
        ("lightning.qubit/adjoint", "complex128", "KerasLayer, lightning.qubit, complex128"), work="loop",
    ),
    _route(
        "lightning.qubit, complex64", "KerasLayer, lightning.qubit, complex64", (ORANGE, "<", DOTTED),
        "KerasLayer lightning.qubit adjoint eager complex64",
        ("lightning.qubit/adjoint, complex64", "complex64", "shipped, lightning.qubit"),
    ),
    _route(
        "lightning.qubit, parameter-shift", "KerasLayer, lightning.qubit, parameter-shift", (VERMILLION, "<", DOTTED),
        "KerasLayer lightning.qubit parameter-shift eager complex128", ("lightning.qubit/parameter-shift",),
    ),
    _route(
        "lightning.gpu", "KerasLayer, lightning.gpu", (GREEN, "P", SOLID),
        "KerasLayer lightning.gpu adjoint eager complex128",
        ("lightning.gpu/adjoint", "KerasLayer, lightning.gpu, complex128"), gpu=True, work="loop",
    ),
    _route(
        "lightning.gpu, complex64", "KerasLayer, lightning.gpu, complex64", (GREEN, ">", DOTTED),
        "KerasLayer lightning.gpu adjoint eager complex64", ("lightning.gpu/adjoint, complex64", "shipped, lightning.gpu"),
        gpu=True,
    ),
    _route(
        "shipped, GPU", "KerasLayer as shipped, TensorFlow's GPU", (PURPLE, "H", SOLID),
        "KerasLayer default.qubit backprop eager complex128", ("default.qubit/backprop, gpu", "eager, gpu"), gpu=True,
    ),
    # The same in a graph, which it does not do by itself.
    _route(
        "shipped, graph", "KerasLayer, graph forced by hand", (GREY, "s", DASHED),
        "KerasLayer default.qubit backprop graph complex128", ("shipped, graph", "graph"),
    ),
    _route(
        "shipped, XLA", "KerasLayer, graph with XLA forced by hand", (PURPLE, "p", DASHDOT),
        "KerasLayer default.qubit backprop xla complex128", ("xla",),
    ),
    _route(
        "shipped, graph, GPU", "KerasLayer, graph forced by hand, TensorFlow's GPU", (PURPLE, "X", DASHED),
        "KerasLayer default.qubit backprop graph complex128", ("graph, gpu", "TensorFlow on the GPU, graph, complex128"),
        gpu=True, work="broadcast",
    ),
    _route(
        "shipped, XLA, GPU", "KerasLayer, graph with XLA forced by hand, TensorFlow's GPU", (PURPLE, "d", DOTTED),
        "KerasLayer default.qubit backprop xla complex128", ("xla, gpu", "TensorFlow on the GPU, xla, complex128"),
        gpu=True, work="broadcast",
    ),
    # PennyLane's layer on this package's device.
    _route(
        "swapped", "KerasLayer, device swapped", (VERMILLION, "^", SOLID),
        "KerasLayer hybridbench.qubit adjoint eager complex128",
        ("device swapped", "KerasLayer, hybridbench.qubit, complex128"), work="fused",
    ),
    _route(
        "swapped, complex64", "KerasLayer, device swapped, complex64", (VERMILLION, "^", DASHED),
        "KerasLayer hybridbench.qubit adjoint eager complex64", ("swapped",),
    ),
    # This package's layer. Keras's own precision, and so the usual one, is single.
    _route(
        "compiled, eager", "compiled layer, eager", (SKY, "v", DASHED),
        "hybridbench.KerasLayer hybridbench.qubit adjoint eager complex64", ("compiled, eager",),
    ),
    _route(
        "compiled, complex128", "compiled layer, complex128", (SKY, "v", SOLID),
        "hybridbench.KerasLayer hybridbench.qubit adjoint graph complex128",
        ("compiled layer", "hybridbench.KerasLayer, complex128"), work="fused",
    ),
    _route(
        "compiled", "compiled layer", (BLUE, "D", SOLID),
        "hybridbench.KerasLayer hybridbench.qubit adjoint graph complex64",
        ("compiled", "single precision", "hybridbench.KerasLayer, complex64"), work="fused",
    ),
    _route(
        "compiled, XLA, complex128", "compiled layer, TensorFlow engine, XLA, complex128", (SKY, "P", DASHED),
        "hybridbench.KerasLayer hybridbench.qubit backprop xla complex128", ("XLA instead",), engine="tensorflow",
    ),
    _route(
        "compiled, XLA", "compiled layer, TensorFlow engine, XLA", (SKY, "P", DASHDOT),
        "hybridbench.KerasLayer hybridbench.qubit backprop xla complex64", ("compiled, XLA",), engine="tensorflow",
    ),
    _route(
        "compiled, XLA, GPU", "compiled layer, TensorFlow engine, XLA, GPU", (SKY, "4", DASHDOT),
        "hybridbench.KerasLayer hybridbench.qubit backprop xla complex64", ("compiled, XLA, gpu",),
        gpu=True, engine="tensorflow",
    ),
    _route(
        "compiled, CUDA, complex128", "compiled layer, CUDA engine, complex128", (GREEN, "<", DASHED),
        "hybridbench.KerasLayer hybridbench.qubit adjoint graph complex128",
        ("hybridbench.KerasLayer, cuda, complex128",), gpu=True, engine="cuda", work="kernels",
    ),
    _route(
        "compiled, CUDA", "compiled layer, CUDA engine", (GREEN, "*", DASHDOT),
        "hybridbench.KerasLayer hybridbench.qubit adjoint graph complex64",
        ("compiled, gpu", "hybridbench.KerasLayer, cuda, complex64"), gpu=True, engine="cuda", work="kernels",
    ),
    # Without Keras: the QNode of a whole training step, and the engines from NumPy to NumPy.
    _route(
        "default.qubit, loop", "default.qubit, one sample at a time", (VERMILLION, "s", DASHED),
        "- default.qubit backprop loop complex128", ("loop",),
    ),
    _route(
        "default.qubit, broadcast", "default.qubit, whole batch at once", (BLUE, "o", SOLID),
        "- default.qubit backprop broadcast complex128", ("broadcast", "default.qubit/broadcast"),
    ),
    _route(
        "default.qubit, broadcast, GPU", "default.qubit, whole batch at once, TensorFlow's GPU", (GREEN, "H", DASHED),
        "- default.qubit backprop broadcast complex128", ("default.qubit/broadcast, gpu",), gpu=True,
    ),
    _route(
        "lightning.qubit, loop", "lightning.qubit, one sample at a time", (ORANGE, "X", DASHED),
        "- lightning.qubit adjoint loop complex128", ("lightning.qubit/loop",),
    ),
    _route(
        "lightning.gpu, loop", "lightning.gpu, one sample at a time", (GREEN, "P", DASHED),
        "- lightning.gpu adjoint loop complex128", ("lightning.gpu/loop",), gpu=True,
    ),
    _route(
        "engine, 1 thread", "engine alone, one thread", (GREEN, "<", DASHDOT),
        "- engine adjoint broadcast complex64", ("engine, 1 thread",), engine="cpu", threads=1,
    ),
    _route(
        "engine", "engine alone", (GREEN, ">", SOLID),
        "- engine adjoint broadcast complex64", ("engine",), engine="cpu",
    ),
    _route(
        "engine, complex128", "engine alone, complex128", (GREY, "o", DASHED),
        "- engine adjoint broadcast complex128", ("engine, complex128",), engine="cpu",
    ),
    _route(
        "engine, CUDA", "CUDA engine alone", (GREEN, "s", SOLID),
        "- engine adjoint broadcast complex64", ("engine, gpu",), gpu=True, engine="cuda",
    ),
    _route(
        "engine, CUDA, complex128", "CUDA engine alone, complex128", (BLUE, "D", DASHED),
        "- engine adjoint broadcast complex128", ("engine, complex128, gpu",), gpu=True, engine="cuda",
    ),
    _route(
        "engine, CUDA, one call", "CUDA engine alone, a call at a time", (SKY, "v", DOTTED),
        "- engine adjoint broadcast complex64", ("engine, one call, gpu",), gpu=True, engine="cuda, one call",
    ),
    _route(
        "copy", "copy in the GPU's memory", (BLACK, "x", SOLID), "- - - - -", ("copy, gpu",), gpu=True,
    ),
    # Keras without a circuit: what it takes for itself.
    _route(
        "no circuit, eager", "Keras without a circuit, eager", (GREY, "d", DOTTED), "none - - eager -",
        ("Keras alone, eager",),
    ),
    _route("no circuit", "Keras without a circuit", (GREY, "p", SOLID), "none - - graph -", ("Keras alone",)),
    # Other people's tools, in an environment of their own.
    _route(
        "jax.jit", "PennyLane 0.45 + jax.jit", (ORANGE, "X", SOLID),
        "- default.qubit backprop broadcast complex64", ("jax.jit",),
    ),
    _route(
        "C, 1 thread", "C by hand, circuit alone, one thread", (PURPLE, "h", DASHED),
        "- C adjoint broadcast complex64", ("C, 1 thread",), threads=1,
    ),
    _route("C", "C by hand, circuit alone", (PURPLE, "*", SOLID), "- C adjoint broadcast complex64", ("C",)),
)  # fmt: skip
_BY_ARM = {arm: route for route in ROUTES for arm in route.arms}


def route_of(arm: str) -> Route:
    """The route that records call so.

    Raises:
        ConfigurationError: no route is called so, with the nearest names; add it to `ROUTES`.
    """
    return _BY_ARM[check_name("route", arm, _BY_ARM)]


def is_route(arm: str) -> bool:
    """Whether records call a route so: cells that compare optimizers name their arms after these."""
    return arm in _BY_ARM


def atlas_route(name: str, precision: str) -> Route:
    """The route of the atlas's columns "route" and "precision".

    Raises:
        ConfigurationError: the catalogue has no such route.
    """
    return route_of(f"{name}, {precision}")
