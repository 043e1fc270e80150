import re

import numpy as np
import pandas as pd
import pytest
import study_records
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hybridbench.analysis import optimizers
from hybridbench.analysis.tables import Records
from hybridbench.errors import ConfigurationError, DataError
from hybridbench.report import gallery, study
from hybridbench.report.style import style_of
from hybridbench.tasks.energies import basin_share
from hybridbench.training.optimizers import OPTIMIZERS

TABLE = study_records.study()
ENTRIES = [name for name, entry in gallery.GALLERY.items() if entry.study == "optimizers"]


def line(axes, name):
    """The line that stands for an optimizer, and not its grey copy in another family's panel."""
    found = [drawn for drawn in axes.lines if drawn.get_label() == style_of(name).label]
    assert len(found) == 1
    return found[0]


def test_every_optimizer_belongs_to_one_family():
    assert sorted(name for names in study.FAMILIES.values() for name in names) == sorted(OPTIMIZERS)


def test_the_uniform_share_is_the_problem_s():
    assert abs(study.UNIFORM_SHARE - basin_share()) < 1e-12
    assert round(study.UNIFORM_SHARE, 3) == 0.407


@pytest.mark.parametrize("name", ENTRIES)
def test_every_figure_has_a_sentence_without_what_is_not_a_number(name):
    said = gallery.GALLERY[name].says(TABLE)
    assert said.endswith(".")
    assert not re.search(r"\b(nan|inf)\b", said)
    assert re.search(r"\d", said)


@pytest.mark.parametrize("name", ENTRIES)
def test_a_phase_that_was_not_run_is_named(name):
    phases = {"study_rates": "rates", "study_budget": "tuning"}
    phase = phases.get(name, "tuned")
    rest = TABLE[TABLE["phase"] != phase]
    for function in (gallery.GALLERY[name].draw, gallery.GALLERY[name].says):
        with pytest.raises(DataError, match=f"phase '{phase}'.*run notebook"):
            function(rest)


def test_defaults_that_were_not_run_are_named():
    with pytest.raises(DataError, match="phase 'default'"):
        study.iqm(TABLE[TABLE["phase"] != "default"])


def test_a_curve_is_the_median_and_a_column_a_family():
    axes = np.array(study.curves(TABLE).axes)
    panels = [panel for panel in axes if panel.axison]
    assert len(panels) == 6  # three problems, two families that ran
    top = next(panel for panel in panels if panel.get_ylabel() == "digits_3v5")
    assert top.get_title(loc="left") == "SGD, momentum"
    rows = TABLE[(TABLE["phase"] == "tuned") & (TABLE["model"] == "hybrid") & (TABLE["problem"] == "digits_3v5")]
    expected = rows[rows["optimizer"] == "momentum"].groupby("step")["val_loss"].median()
    np.testing.assert_allclose(line(top, "momentum").get_ydata(orig=False), expected)
    grey = [drawn for drawn in top.lines if drawn.get_color() == study.LIGHT]
    assert len(grey) == 2  # Adam and NAdam
    by_label = {panel.get_ylabel(): panel.get_yscale() for panel in panels}
    assert (by_label["digits_3v5"], by_label["basins"]) == ("linear", "log")


def test_a_diverged_run_counts_in_the_median():
    lost = TABLE.copy()
    chosen = (lost["phase"] == "tuned") & (lost["optimizer"] == "adam") & (lost["problem"] == "digits_3v5")
    rows = chosen & (lost["model"] == "hybrid") & (lost["step"] > 150) & lost["seed"].isin([0, 1, 2])
    lost.loc[rows, ["train_loss", "val_loss"]] = np.nan
    panel = next(a for a in study.curves(lost).axes if a.axison and a.get_title(loc="left") == "Adam and kin")
    assert line(panel, "adam").get_ydata(orig=False)[-1] > panel.get_ylim()[1]
    assert "Adam on 3 of 3 problems" in study.curves_say(TABLE)
    assert "Adam on 2, NAdam on 1 of 3 problems" in study.curves_say(lost)


def test_the_map_of_rates_marks_the_best_and_the_lost():
    fig = study.rates(TABLE)
    panel = next(panel for panel in fig.axes if panel.get_title(loc="left") == "digits_3v5")
    arms = [label.get_text() for label in panel.get_yticklabels()]
    lost, near = panel.lines
    momentum = arms.index("Momentum")
    assert set(lost.get_ydata()) == {momentum}
    np.testing.assert_allclose(sorted(lost.get_xdata()), [0.5, 1.0], atol=1e-3)  # rates above 3
    adam = near.get_xdata()[near.get_ydata() == arms.index("Adam")]
    assert min(adam) <= np.log10(study_records.BEST_RATE["adam"]) <= max(adam)
    colours = panel.collections[0].get_array()
    assert colours.shape == (len(arms), len(study_records.RATES))
    assert colours.max() == pytest.approx(1)
    assert colours[momentum, -1] == 0


def test_a_score_that_needs_no_training_marks_no_rate():
    # Descent keeps the share of coordinates in the global basin that it starts with, at any small rate.
    kept = TABLE.assign(val_score=TABLE["val_score"].where(TABLE["problem"] != "basins", study.UNIFORM_SHARE))
    panel = next(panel for panel in study.rates(kept).axes if panel.get_title(loc="left") == "basins")
    assert min(panel.lines[1].get_xdata()) > -3


def test_profiles_are_shares_in_percent():
    fig = study.profiles(TABLE)
    panel = next(panel for panel in fig.axes if panel.get_title(loc="left") == "Adam and kin")
    expected = 100 * optimizers.profile(TABLE)["adam"]
    np.testing.assert_allclose(line(panel, "adam").get_ydata(orig=False), expected)
    assert "First at the target most often: Adam, on 100 % of the problems" in study.profiles_say(TABLE)


def test_targets_without_the_arms_that_set_them():
    rest = TABLE[TABLE["optimizer"].isin(["sgd", "adam"])]
    with pytest.raises(DataError, match=r"adamw.*run notebook"):
        study.profiles(rest)


def test_ranks_name_every_optimizer_with_its_rank():
    texts = [text.get_text() for text in study.ranks(TABLE).axes[0].texts]
    assert len(texts) == len(study_records.ARMS)
    ranks = optimizers.scores(TABLE).rank(axis=1, ascending=False).mean()
    for name, rank in ranks.items():
        assert any(style_of(name).label in text and f"{rank:.1f}" in text for text in texts)
    assert f"{style_of(ranks.idxmin()).label} has the best mean rank" in study.ranks_say(TABLE)
    with pytest.raises(DataError, match="three optimizers"):
        study.ranks(TABLE[TABLE["optimizer"].isin(["momentum", "adam"])])


def test_the_budget_s_missing_share_falls_from_what_one_point_misses():
    missing = study.missing_share(TABLE)
    assert missing.index.tolist() == list(range(1, 21))
    assert (missing.diff().dropna() <= 1e-12).all(axis=None)
    assert missing.min(axis=None) >= 0
    assert missing.iloc[-1].idxmin() == "adam"
    alone = TABLE[TABLE["problem"] == "digits_3v5"]
    curves = optimizers.budget_curves(alone).loc["digits_3v5"]
    starts = alone[(alone["phase"] == "tuning") & (alone["model"] == "hybrid") & (alone["step"] == 0)]["val_loss"]
    expected = (curves.loc[1, "sgd"] - curves["adam"].min()) / (starts.median() - curves["adam"].min())
    assert study.missing_share(alone).loc[1, "sgd"] == pytest.approx(expected)
    panel = next(panel for panel in study.budget(TABLE).axes if panel.get_title(loc="left") == "Adam and kin")
    np.testing.assert_allclose(line(panel, "adam").get_ydata(orig=False), 100 * missing["adam"])


def test_the_gaps_have_a_mark_for_every_optimizer_and_model():
    scores, gaps = study.gaps(TABLE).axes
    assert [label.get_text() for label in scores.get_yticklabels()] == ["digits_3v5", "diabetes"]
    marks = [drawn for drawn in gaps.lines if drawn.get_linestyle() == "None"]
    assert len(marks) == 6  # three models on two tasks
    assert {len(drawn.get_xdata()) for drawn in marks} == {len(study_records.ARMS)}
    means = optimizers.gaps(TABLE, "tuned", "classical").loc["digits_3v5"].mean()
    classical = next(drawn for drawn in marks if drawn.get_color() == style_of("classical").colour)
    np.testing.assert_allclose(sorted(classical.get_xdata()), sorted(means))


def test_aggregates_stand_in_order_with_their_intervals():
    axes = study.iqm(TABLE).axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    tuned = optimizers.aggregate(TABLE)
    assert names == [style_of(name).label for name in sorted(tuned.index, key=lambda name: tuned[name].value)]
    drawn = axes.containers[0]
    np.testing.assert_allclose(drawn.lines[0].get_xdata(orig=False), sorted(interval.value for interval in tuned))
    ends = np.array([segment[:, 0] for segment in drawn.lines[2][0].get_segments()])
    best = max(tuned.index, key=lambda name: tuned[name].value)
    np.testing.assert_allclose(ends[-1], [tuned[best].low, tuned[best].high])


def test_basins_are_held_against_the_uniform_start():
    axes = study.basins(TABLE).axes[0]
    assert axes.lines[0].get_xdata()[0] == pytest.approx(100 * basin_share())
    assert axes.get_yticklabels()[-1].get_text() == "NAdam"
    assert "Of 4 optimizers 4 end in the global basin more often" in study.basins_say(TABLE)
    below = TABLE.assign(val_score=TABLE["val_score"].where(TABLE["problem"] != "basins", 0.2 + 0.001 * TABLE["seed"]))
    assert " 0 end in the global basin more often than a uniform start and 4 less" in study.basins_say(below)
    with pytest.raises(DataError, match="'basins'"):
        study.basins(TABLE[TABLE["problem"] != "basins"])


def test_a_sentence_is_read_by_name(monkeypatch):
    opened = Records("shipped")
    monkeypatch.setattr(opened, "_tables", {"optimizers": TABLE})
    assert gallery.read("study_iqm", opened) == study.iqm_say(TABLE)
    with pytest.raises(ConfigurationError, match="'study_iqm'"):
        gallery.read("study_iq")


@pytest.mark.parametrize("arms", [["adam", "nadam", "momentum"], ["momentum", "adam", "qng"]])
def test_few_optimizers_and_problems_are_drawn_too(arms):
    table = study_records.study(problems=("wine", "basins"), arms=arms, seeds=2)
    for name in ENTRIES:
        fig = gallery.GALLERY[name].draw(table)
        assert fig.axes
        assert isinstance(gallery.GALLERY[name].says(table), str)


def overlaps(fig):
    """Pairs of texts of a figure that cover one another."""
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    texts = [*fig.texts, *(text for legend in fig.legends for text in legend.get_texts())]
    for axes in fig.axes:
        if axes.get_legend():
            texts += axes.get_legend().get_texts()
        if axes.axison:
            for axis, at, limits in ((axes.xaxis, 0, axes.get_xlim()), (axes.yaxis, 1, axes.get_ylim())):
                # A tick beyond the limits has a label that is never drawn.
                inside = [t for t in axis.get_ticklabels() if min(limits) <= t.get_position()[at] <= max(limits)]
                texts += inside if axis.get_visible() else []
        texts += [*axes.texts, axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label]
    boxes = [
        (text.get_text(), text.get_window_extent(canvas.get_renderer()).shrunk(0.96, 0.9))
        for text in texts
        if text.get_text() and text.get_visible()
    ]
    return [(one, two) for k, (one, box) in enumerate(boxes) for two, other in boxes[k + 1 :] if box.overlaps(other)]


def test_the_search_for_overlaps_finds_one():
    fig = Figure()
    axes = fig.subplots()
    axes.text(0.5, 0.5, "one")
    assert overlaps(fig) == []
    axes.text(0.51, 0.5, "two")
    assert overlaps(fig) == [("one", "two")]


def test_all_fifteen_on_all_nine_fit_without_overlap():
    problems = [problem for kind in optimizers.KINDS.values() for problem in kind]
    table = pd.DataFrame(study_records.study(problems=problems, arms=list(OPTIMIZERS), seeds=5, points=6))
    for name in ENTRIES:
        assert overlaps(gallery.GALLERY[name].draw(table)) == [], name
