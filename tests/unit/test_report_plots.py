import dataclasses

import numpy as np
import pytest
import report_tables

from hybridbench.analysis.claims import LEDGER, Verdict
from hybridbench.errors import ConfigurationError, DataError
from hybridbench.report import gallery, plots

TABLES = report_tables.everything()


def rows_of(name):
    entry = gallery.GALLERY[name]
    table = TABLES[entry.study]
    return table[table["cell"] == entry.cell] if entry.cell else table


def verdicts():
    states = ["confirmed", "refuted", "open"]
    fields = [field.name for field in dataclasses.fields(Verdict) if hasattr(LEDGER[0], field.name)]
    return [
        Verdict(**{name: getattr(rule, name) for name in fields}, verdict=states[i % 3], number=None, missing="")
        for i, rule in enumerate(LEDGER)
    ]


@pytest.mark.parametrize("name", gallery.GALLERY)
def test_every_axis_says_what_it_shows(name):
    entry = gallery.GALLERY[name]
    fig = entry.draw(rows_of(name))
    for axes in fig.axes:
        ticks = axes.xaxis.get_tick_params()
        if axes.axison and (ticks.get("labelbottom", True) or ticks.get("labeltop", False)):  # not inside a grid of panels
            assert axes.get_xlabel(), name
    assert entry.caption.endswith(".")
    assert entry.alt.endswith(".")


@pytest.mark.parametrize("name", gallery.GALLERY)
def test_missing_records_are_named(name):
    with pytest.raises(DataError, match="run notebook"):
        gallery.GALLERY[name].draw(rows_of(name).iloc[:0])


def test_units_stand_on_the_axes():
    timing = TABLES["timing"]
    assert "(ms)" in plots.step_time(timing).axes[0].get_ylabel()
    assert "(s)" in plots.compilation(timing).axes[0].get_ylabel()
    assert "(%)" in plots.step_parts(timing).axes[0].get_xlabel()
    assert "(samples)" in plots.batching(timing).axes[0].get_xlabel()


def test_a_line_is_the_median():
    timing = TABLES["timing"]
    arm = "default.qubit/backprop"
    rows = timing[(timing["cell"] == "methods") & (timing["arm"] == arm) & (timing["batch_size"] == 1)]
    expected = 1e3 * rows.groupby("n_qubits")["seconds"].median()
    drawn = plots.step_time(timing).axes[0].containers[0].lines[0]
    assert list(drawn.get_xdata(orig=False)) == list(expected.index)
    np.testing.assert_allclose(drawn.get_ydata(orig=False), expected)


def test_a_size_with_one_simulator_compares_nothing_and_has_no_panel():
    timing = TABLES["timing"]
    methods = timing[(timing["cell"] == "methods") & (timing["batch_size"] == 1)]
    wide = methods[methods["arm"] == "lightning.qubit/adjoint"].assign(n_qubits=20, batch_size=3, record="wide")
    titles = [axes.get_title(loc="left") for axes in plots.step_time(report_tables.pd.concat([timing, wide])).axes]
    assert "batch 3" not in titles
    assert "batch 1" in titles


def test_machines_never_share_a_curve():
    timing = TABLES["timing"]
    slower = timing.assign(machine="zzz", seconds=timing["seconds"] * 10).iloc[:-1]
    both = report_tables.pd.concat([timing, slower])
    alone, among = (plots.step_time(table).axes[0].containers[0].lines[0].get_ydata(orig=False) for table in (timing, both))
    np.testing.assert_array_equal(alone, among)


def test_unknown_arm_is_refused():
    timing = TABLES["timing"].replace({"arm": {"loop": "lop"}})
    with pytest.raises(ConfigurationError, match="'loop'"):
        plots.batching(timing)


def test_diverged_runs_end_at_infinity():
    final = plots.final_rows(TABLES["training"])
    diverged = final[(final["optimizer"] == "sgd") & (final["learning_rate"] == 1.0)]
    assert len(diverged)
    assert np.isinf(diverged["val_loss"]).all()
    assert np.isfinite(final.drop(diverged.index)["val_loss"]).all()


def test_models_are_compared_on_one_budget():
    rows = plots.model_comparison(TABLES["training"])
    assert set(rows["model"]) == {"hybrid", "separable", "classical"}
    assert rows.groupby("task")["learning_rate"].nunique().eq(1).all()
    assert (rows.groupby(["task", "model"])["seed"].nunique() == 3).all()


def test_ledger_has_a_mark_for_every_claim():
    claims = verdicts()
    axes = plots.ledger(claims).axes[0]
    assert len(axes.collections) == len(claims) == 28
    assert [label.get_text()[:3] for label in axes.get_yticklabels()] == [c.id for c in reversed(claims)]
