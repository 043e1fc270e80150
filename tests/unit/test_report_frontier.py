"""The frontier's figures and numbers: what is drawn, said and quoted, and that predictions never look like measurements."""

import math

import frontier_tables
import pandas as pd
import pytest

from hybridbench.analysis import numbers
from hybridbench.analysis.frontier import Machine, deep_variance
from hybridbench.analysis.statistics import Interval
from hybridbench.analysis.tables import NotMeasured
from hybridbench.errors import DataError
from hybridbench.report import frontier, gallery


def law(cost, n, depth):
    """Deep from four layers on; the local cost of shallow circuits falls as a power."""
    return deep_variance(cost, n) if cost == "global" or depth >= 4 else 0.01 * n**-2.0


def one_shot(cost, n):
    return 1 / (4 * n) if cost == "local" else 2.0**-n


TABLE = frontier_tables.everything(
    law, shot=one_shot, depths=(1, 2, 4, 8), ansaetze=("hardware_efficient", "strongly_entangling")
)


def machine(name, measured, scale):
    def step(n, layers, batch):
        value = scale * (1e-4 + 1e-9 * 2**n * layers * batch)
        return Interval(value, value / 2, 2 * value, 9, "s")

    near = lambda n, layers, batch: n <= 22  # noqa: E731
    return Machine(name, step, 16e9, measured=measured, near=near if measured else lambda *_: True)


MACHINES = [machine("m1", True, 1.0), machine("T4", False, 0.1)]


class Opened:
    """Records that hold one study."""

    def __init__(self, table):
        self.table = table

    def __getitem__(self, study):
        if study != "frontier":
            raise NotMeasured(f"no {study} records")
        return self.table

    def has(self, study):
        return study == "frontier"


@pytest.mark.parametrize("name", gallery.FRONTIER)
def test_every_figure_is_drawn_labelled_and_read(name):
    entry = gallery.FRONTIER[name]
    fig = entry.draw(TABLE)
    bottom = min(axes.get_position().y0 for axes in fig.axes)
    for axes in fig.axes:
        if axes.get_position().y0 == bottom:
            assert axes.get_xlabel(), name
    assert any(axes.get_ylabel() for axes in fig.axes)
    assert entry.caption.endswith(".")
    assert entry.alt.endswith(".")
    said = entry.says(TABLE)
    assert said.endswith(".")
    assert any(letter.isdigit() for letter in said)


@pytest.mark.parametrize("name", gallery.FRONTIER)
def test_missing_records_say_what_to_run(name):
    with pytest.raises(DataError, match="hybridbench frontier"):
        gallery.FRONTIER[name].draw(TABLE.iloc[:0])
    other = TABLE[TABLE["cell"] == ("memory" if name != "frontier_memory" else "descent")]
    with pytest.raises(DataError, match=r"cell '\w+' of the frontier study"):
        gallery.FRONTIER[name].draw(other)


def test_the_gallery_draws_and_reads_them(monkeypatch):
    monkeypatch.setattr(gallery.Records, "of", staticmethod(lambda source: Opened(TABLE)))
    fig, alt = gallery.draw("frontier_variance")
    assert len(fig.axes) == 4
    assert alt == gallery.FRONTIER["frontier_variance"].alt
    assert "qubit" in gallery.read("frontier_variance")


def test_what_was_run_is_written(tmp_path):
    only = TABLE[TABLE["cell"] == "memory"]
    text, files = gallery.write_frontier(only, tmp_path)
    assert text == frontier.memory_say(only)
    assert sorted(file.name for file in files) == sorted(p.name for p in tmp_path.iterdir())
    assert {file.stem for file in files} == {"frontier_memory"}
    with pytest.raises(DataError, match="needs three"):
        gallery.write_frontier(only[only["n_qubits"] < 12], tmp_path)
    few = TABLE[(TABLE["cell"] == "gradient") & (TABLE["n_qubits"] < 10)]
    with pytest.raises(DataError, match="Too few numbers of qubits"):
        gallery.write_frontier(few, tmp_path)
    assert set(gallery.FRONTIER_CELLS) == set(gallery.FRONTIER)


def test_the_command_runs_draws_and_resumes(tmp_path, monkeypatch, capsys):
    from hybridbench.measurement.records import RecordStore
    from hybridbench.training import frontier as study
    from hybridbench.workflow import cli

    monkeypatch.setenv("HYBRIDBENCH_BUILD", str(tmp_path))
    asked = []

    def configs(cells):
        asked.append(list(cells))
        sizes = [(n, depth) for n in (4, 5, 6, 7) for depth in (4, 8)]
        return [study.GradientConfig(ansatz, *size, 40) for size in sizes for ansatz in study.CIRCUITS]

    monkeypatch.setattr(study, "configs", configs)
    cli.frontier_command(cell=["gradient"])
    first = capsys.readouterr()
    assert asked == [["gradient"]]
    assert "[1/16] gradients, hardware_efficient, 4 qubits, 4 layers, about" in first.err
    assert "falls by a factor" in first.out
    assert (tmp_path / "frontier" / "frontier_variance.png").is_file()
    cli.frontier_command(cell=["gradient"])
    assert capsys.readouterr().err == ""
    store = RecordStore("frontier")
    before = {file: file.stat().st_mtime_ns for file in store.folder.iterdir()}
    cli.frontier_command(cell=["gradient"], force=True)
    assert all(file.stat().st_mtime_ns > before[file] for file in store.folder.iterdir())


def test_a_line_is_the_variance_and_follows_the_closed_form():
    fig = frontier.variance(TABLE)
    panel = next(axes for axes in fig.axes if axes.get_title(loc="left") == "strongly entangling, global cost")
    drawn = panel.containers[0].lines[0]
    for n, value in zip(drawn.get_xdata(orig=False), drawn.get_ydata(orig=False), strict=True):
        assert value == pytest.approx(deep_variance("global", n), rel=0.2)
    limit = panel.get_lines()[0].get_ydata(orig=False)
    assert list(limit) == [deep_variance("global", n) for n in frontier_tables.QUBITS]


def test_sentences_hold_the_planted_numbers():
    assert "with 1 layer falls as a power 2.0" in frontier.variance_say(TABLE)
    # 2 / 2 of the planted mean square: the shots needed are 2 * 2^n, which pass 10^4 at 12.3 qubits.
    assert "from 13 qubits on for the global cost" in frontier.shots_say(TABLE)
    assert "15 (global, 100 shots)" in frontier.descent_say(TABLE)
    assert "times the memory" in frontier.memory_say(TABLE)


def test_predictions_are_dashed_open_and_labelled():
    fig = frontier.frontier_map(TABLE, MACHINES, n_layers=4)
    _, right = fig.axes
    measured, near, predicted, none = right.get_lines()[:4]
    assert measured.get_linestyle() == "-"
    assert near.get_markerfacecolor() == measured.get_color()
    # Only at 64 layers does the hour end where a measurement is near.
    assert list(near.get_xdata(orig=False)) == [22]
    assert list(none.get_xdata(orig=False)) == []
    assert predicted.get_linestyle() == "--"
    assert predicted.get_markerfacecolor() == "white"
    labels = [text.get_text() for text in fig.legends[0].get_texts()]
    assert labels[:2] == ["m1 (measured)", "T4 (predicted, not measured)"]
    # 300 steps of 32e-9 L 2^n seconds fit into an hour up to 26 qubits at one layer; memory holds 24 of batch 32.
    assert measured.get_xdata(orig=False).max() == math.floor(math.log2(16e9 / (2 * 32 * 8)))
    said = frontier.map_say(TABLE, MACHINES, n_layers=4)
    assert "T4 (predicted, not measured)" in said
    assert "extrapolated" in said
    with pytest.raises(DataError, match="strongly_entangling circuit"):
        frontier.frontier_map(TABLE[TABLE["ansatz"] != "strongly_entangling"], MACHINES)


def test_solid_lines_end_where_measurements_do():
    left, _ = frontier.frontier_map(TABLE, MACHINES, n_layers=4).axes
    _, solid = left.get_lines()[:2]
    shown = [n for n, y in zip(solid.get_xdata(orig=False), solid.get_ydata(orig=False), strict=True) if math.isfinite(y)]
    assert max(shown) == 22
    _, predicted = left.get_lines()[2:4]
    assert not any(math.isfinite(y) for y in predicted.get_ydata(orig=False))


def test_numbers_have_names_intervals_and_words():
    found = {}
    for section in (
        numbers._frontier_gradients,
        numbers._frontier_descents,
        numbers._frontier_criterion,
        numbers._frontier_memory,
    ):
        found |= section(Opened(TABLE))
    assert all(name.startswith("frontier_") for name in found)
    fall = found["frontier_fall_global_strongly_entangling_8l"]
    assert fall.low < found["frontier_fall_global_limit"].value < fall.high
    assert found["frontier_fall_global_limit"].value == pytest.approx(4, rel=0.02)
    assert found["frontier_fall_local_limit"].value == pytest.approx(2.25, rel=0.05)
    assert found["frontier_law_global_strongly_entangling_8l"].text == "exponential"
    assert found["frontier_law_local_strongly_entangling_1l"].text == "power"
    assert 0 < found["frontier_misfit_local_strongly_entangling_1l"].value < 3
    assert found["frontier_power_local_strongly_entangling_1l"].value == pytest.approx(2, abs=0.15)
    assert found["frontier_gone_1000000_local_hardware_efficient_1l"].text == "none up to 50"
    assert found["frontier_shots_growth_global_strongly_entangling_8l"].value == pytest.approx(2, rel=0.02)
    assert found["frontier_deep_depth_local_strongly_entangling_8q"].text == "4 layers"
    assert found["frontier_trained_global_strongly_entangling_16l_8q_exact"].short == "75 %"
    assert found["frontier_trained_global_strongly_entangling_16l_8q_100"].n == 20
    # No circuit of the table is both examined and trained with more shots than 0 that fails.
    assert "frontier_criterion_fails_from" not in found
    assert found["frontier_criterion_works_up_to"].value > 0
    assert found["frontier_memory_growth_adjoint"].low < 2 < found["frontier_memory_growth_adjoint"].high
    with pytest.raises(NotMeasured):
        numbers._frontier_memory(Opened(TABLE[TABLE["cell"] == "gradient"]))


def test_step_times_of_the_atlas_have_exponents():
    rows = [
        {
            "study": "atlas", "record": f"{n}-{batch}", "machine": "m1", "gpus": "", "part": "step", "threads": threads,
            "route": "a route", "precision": "complex64", "n_qubits": n, "n_layers": 2, "batch_size": batch,
            "seconds": 1e-3 + 1e-7 * 2.0**n,
        }
        for threads in (1, 2) for batch, widths in ((1, (4, 8)), (32, (4, 8, 12, 14, 16, 18, 20))) for n in widths
    ]  # fmt: skip

    class Atlas(Opened):
        def __getitem__(self, study):
            return self.table

    found = numbers._frontier_time(Atlas(pd.DataFrame(rows)))
    assert found["frontier_time_growth_a_route_complex64"].value == pytest.approx(2, rel=0.01)
    assert found["frontier_time_crossover_a_route_complex64"].text == "14 qubits"
    with pytest.raises(NotMeasured):
        numbers._frontier_time(Opened(TABLE))


def test_hours_say_whether_they_were_measured():
    found = numbers.frontier_hours(MACHINES)
    assert found["frontier_hour_t4_2l"].unit == "qubits, predicted, not measured"
    assert found["frontier_hour_measured_2l"].unit == "qubits, extrapolated"
    assert found["frontier_hour_measured_2l_ends_by"].text == "memory"
    near = Machine("m1", MACHINES[0].step, 16e9, measured=True)
    assert numbers.frontier_hours([near])["frontier_hour_measured_2l"].unit == "qubits"
    assert "frontier_hour_m1_2l" in numbers.frontier_hours([near, MACHINES[0]])
