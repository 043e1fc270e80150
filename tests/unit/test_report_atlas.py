import atlas_tables
import numpy as np
import pytest

from hybridbench.analysis import costs
from hybridbench.analysis.tables import Records
from hybridbench.design.routes import route_of
from hybridbench.errors import DataError
from hybridbench.report import atlas, gallery

TABLE = atlas_tables.atlas()


@pytest.mark.parametrize("name", gallery.ATLAS)
def test_every_axis_says_what_it_shows(name):
    entry = gallery.ATLAS[name]
    fig = entry.draw(TABLE)
    assert all(axes.get_xlabel() or axes.get_ylabel() for axes in fig.axes)
    assert entry.caption.endswith(".")
    assert entry.alt.endswith(".")
    said = entry.says(TABLE)
    assert said.endswith(".")
    assert any(sign.isdigit() for sign in said)


@pytest.mark.parametrize("name", gallery.ATLAS)
def test_missing_records_are_named(name):
    with pytest.raises(DataError, match="hybridbench measure"):
        gallery.ATLAS[name].draw(TABLE.iloc[:0])


def test_grey_is_where_nothing_is_near():
    model = costs.fit(TABLE[TABLE["arm"] == "hybridbench.KerasLayer, complex64"], 5)
    found = atlas._seconds(model, 2)
    assert np.isnan(found[atlas.BATCHES.index(1024), atlas.QUBITS.index(20)])
    assert found[atlas.BATCHES.index(32), atlas.QUBITS.index(8)] == pytest.approx(model.seconds(8, 2, 32))


def test_the_winner_of_the_map_is_the_faster_route():
    slow, fast = np.full((11, 19), 2.0), np.full((11, 19), 1.0)
    slow[0, 0], fast[0, 0], fast[1, 0], slow[2, 0], fast[2, 0] = np.nan, np.nan, np.nan, 0.5, 1.0
    found = atlas._fastest({"a, complex128": slow, "b, complex64": fast}, {"a, complex128": "a", "b, complex64": "b"})
    assert (0, 0) not in found
    assert (found[1, 0], found[2, 0], found[5, 5]) == ("a", "a", "b")


def test_a_second_winner_gets_a_panel_of_its_own():
    planted = {**atlas_tables.PLANTED, **atlas_tables.GPU_PLANTED}
    one, two = atlas.surface(TABLE), atlas.surface(atlas_tables.atlas(planted=planted))
    assert len(two.axes) == len(one.axes) + 1


def test_marks_are_the_measured_ratios():
    fig = atlas.lines(TABLE)
    found = costs.speedups(TABLE)
    arm = "hybridbench.KerasLayer, complex64"
    own = found[(found["arm"] == arm) & (found["n_layers"] == 2) & (found["batch_size"] == 32)].sort_values("n_qubits")
    (drawn,) = [each for each in fig.axes[0].containers if each.get_label() == route_of(arm).label]
    np.testing.assert_allclose(drawn.lines[0].get_ydata(orig=False), own["value"])


def test_the_gallery_draws_the_atlas_of_a_source_that_has_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDBENCH_BUILD", str(tmp_path))
    atlas_tables.write(tmp_path, TABLE)
    fig, alt = gallery.draw("atlas_validation", Records("build"))
    assert alt == gallery.ATLAS["atlas_validation"].alt
    assert "within a factor of 1.5" in gallery.read("atlas_validation", "build")
    assert fig.axes


def test_the_share_in_the_sentence_is_that_of_the_validation():
    spoiled = atlas_tables.atlas(spoil=("held_out",))
    assert "predicts 0" in atlas.validation_say(spoiled)
    assert "predicts 0" not in atlas.validation_say(TABLE)
