"""Circuits as pictures, by `qml.draw_mpl`, several in one figure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pennylane as qml
from matplotlib.figure import Figure

from hybridbench.circuits.spec import CircuitSpec

_INCHES = 0.36  # width of a gate's column


def draw_circuits(specs: Mapping[str, CircuitSpec], columns: int = 2) -> Figure:
    """One panel a circuit, without parameter values.

    Args:
        specs: title → circuit.
        columns: panels side by side.

    Returns:
        The figure, not shown.
    """
    rows = math.ceil(len(specs) / columns)
    fig = plt.figure(layout="none")
    panels = np.ravel(fig.subfigures(rows, columns, squeeze=False))
    drawn = []
    with plt.rc_context():  # draw_mpl's style changes matplotlib's settings
        for panel, (title, spec) in zip(panels, specs.items(), strict=False):

            @qml.qnode(qml.device("default.qubit", wires=spec.n_qubits))
            def circuit(x: Any, w: Any, spec: CircuitSpec = spec) -> list[qml.measurements.ExpectationMP]:
                spec.apply(x, w)
                return [qml.expval(qml.Z(wire)) for wire in range(spec.n_qubits)]

            # draw_mpl sets the size of the figure that it is given, which a panel of a figure does not have
            panel.set_figwidth = panel.set_figheight = lambda inches: None
            features, weights = np.ones(spec.n_features), np.ones(spec.weight_shape)
            _, axes = qml.draw_mpl(circuit, style="black_white", show_all_wires=True, fig=panel)(features, weights)
            axes.set_title(title, loc="left", fontsize=11, fontweight="bold", pad=2)
            drawn.append(axes)
    width = max(axes.get_xlim()[1] for axes in drawn) + 2
    height = max(spec.n_qubits for spec in specs.values()) + 1
    for axes in drawn:  # the same scale in every panel: a longer circuit looks longer
        axes.set(xlim=(-2, width - 2), position=(0, 0, 1, 0.88))
        axes.set_ylim(height - 1, -1)
        axes.set_aspect("equal", anchor="W")
        for text in axes.texts:
            text.set(fontsize=8, rotation=0)
        for line in (*axes.patches, *axes.lines):
            line.set_linewidth(1.2)
    fig.set_size_inches(columns * width * _INCHES, rows * (height * _INCHES / 0.88 + 0.1))
    return fig
