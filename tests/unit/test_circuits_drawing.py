"""Drawn circuits: one titled panel each, on one scale."""

import matplotlib.pyplot as plt

from hybridbench.circuits.drawing import draw_circuits
from hybridbench.circuits.spec import CircuitSpec


def test_every_circuit_gets_its_panel_and_settings_stay():
    before = dict(plt.rcParams)
    specs = {
        "short": CircuitSpec("angle", "separable", 2, 1),
        "long": CircuitSpec("amplitude", "strongly_entangling", 3, 2),
        "no data": CircuitSpec("none", "original", 3, 1),
    }
    fig = draw_circuits(specs, columns=2)
    assert [axes.get_title(loc="left") for axes in fig.axes] == list(specs)
    assert len({axes.get_xlim() for axes in fig.axes}) == 1
    assert dict(plt.rcParams) == before
    plt.close(fig)
