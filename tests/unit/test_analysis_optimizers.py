"""The optimizer study's analysis finds what was planted, and its definitions hold on tables small enough to do by hand."""

import itertools
import json
import math
import time
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
import study_records

from hybridbench import paths
from hybridbench.analysis import optimizers
from hybridbench.analysis.tables import NotMeasured
from hybridbench.errors import ConfigurationError
from hybridbench.measurement.columns import COLUMNS
from hybridbench.training.config import PHASES, TrialConfig

TABLE = study_records.study()
WITH_ORIGINAL = study_records.study(problems=("wine", "tfim", "original"))


def runs(losses, phase="tuned", problem="wine", optimizer="adamw", rate=0.1, **more):
    """Rows of made-up runs: losses[seed][n] at step 15 n; the score is one less the loss."""
    record = json.dumps([phase, problem, optimizer, rate, sorted(more.items())])
    shared = {
        "record": record, "problem": problem, "model": "hybrid", "optimizer": optimizer, "learning_rate": rate,
        "knobs": "[]", "phase": phase, "start": "uniform", "n_layers": 2, "machine": "m1", **more,
    }  # fmt: skip
    rows = [
        {**shared, "seed": seed, "step": 15 * n, "steps": 15 * (len(of_seed) - 1), "train_loss": loss, "val_loss": loss}
        | {"train_score": 1 - loss, "val_score": 1 - loss, "test_score": 1 - loss}
        for seed, of_seed in enumerate(losses)
        for n, loss in enumerate(of_seed)
    ]
    return pd.DataFrame(rows)


# ------------------------------------------------------------------------------------------------------ the made-up study
def test_the_made_up_study_has_the_columns_of_a_record():
    assert set(TABLE.columns) <= set(COLUMNS)
    assert {field.name for field in fields(TrialConfig)} <= set(TABLE.columns)
    assert set(TABLE["phase"]) == {"tuning", "tuned", "default", "control", "rates", "starts"}
    assert not TABLE.duplicated(["record", "seed", "step"]).any()


def test_the_kinds_of_problems_are_those_of_the_study():
    from hybridbench import tasks
    from hybridbench.tasks.energies import ENERGIES
    from hybridbench.training import study

    kinds = {problem: kind for kind, problems in optimizers.KINDS.items() for problem in problems}
    assert sorted(kinds) == sorted(study.PROBLEMS)
    for problem, kind in kinds.items():
        assert kind == ("energy" if problem in ENERGIES else tasks.get(problem).kind)
    shared = ("RATES", "BUDGET", "SCORE_DECIMALS")
    assert [getattr(study, name) for name in shared] == [getattr(optimizers, name) for name in shared]
    assert set(optimizers.REFERENCE) <= set(study.OPTIMIZERS)


def test_the_protocol_says_what_the_code_runs():
    from hybridbench.training import study
    from hybridbench.training.trial import QUARTERS

    protocol = " ".join((paths.root() / "docs/protocol.md").read_text().split())

    def span(seeds):
        assert list(seeds) == list(range(seeds[0], seeds[-1] + 1))
        return f"seeds {seeds[0]} to {seeds[-1]}"

    run = TrialConfig("wine")
    *layers, deepest = study.START_LAYERS
    for words in (
        f"{study.BUDGET} quasi-random points",
        f"learning rate from {study.RATES[0]:g} to {study.RATES[1]:g}, even in the logarithm",
        f"{span(study.TUNING_SEEDS)}. Where the best",
        f"{study.MORE} more in the two decades beyond, at most twice",
        f"the chosen setting with {span(study.SEEDS)} |",
        f"Adam's chosen setting with {span(study.CONTROL_SEEDS)}",
        f"{len(study.RATE_GRID)} rates from {study.RATE_GRID[0]:g} to {study.RATE_GRID[-1]:g} in half decades",
        f"in half decades, the framework's other settings, {span(study.SEEDS)}, hybrid model |",
        f"Adam at rate {study.START_RATE:g}, {', '.join(map(str, layers))} and {deepest} layers",
        f"{run.steps} steps, evaluated every {run.every} (",
        f"in `starts` every {study.START_EVERY})",
        f"(in the phases `tuning` and `rates` every {run.steps // QUARTERS}, in",
        f"the framework's own rate and settings, {span(study.SEEDS)}, hybrid model |",
        f"identity blocks and uniform, {span(study.SEEDS)} |",
        f"more in the {['', '', 'two'][round(np.log10(study.WIDENING))]} decades beyond",
        f"agree to {['', '', '', '', '', '', 'six', '', '', 'nine'][study.SCORE_DECIMALS]} decimals",
        f"in the first {100 * optimizers.TARGET_SHARE:g} % of the steps",
        f"within {100 * optimizers.NEAR_BEST:g} % of the lowest mean validation loss",
        *(f"`{problem}`" for problem in study.PROBLEMS),
        *(f"`{name}`" for name in study.OPTIMIZERS),
        *(f"| `{phase}` |" for phase in PHASES),
    ):
        assert words in protocol, words


# ----------------------------------------------------------------------------------------------------------- rows and runs
def test_a_phase_has_every_run_once():
    rows = optimizers.of(TABLE, "tuned", "classical")
    assert set(rows["model"]) == {"classical"}
    assert set(rows["phase"]) == {"tuned"}
    assert len(optimizers.ends(rows)) == 2 * 4 * 5
    assert optimizers.of(TABLE[TABLE["phase"] == "rates"], "tuned").empty


def test_another_machine_and_shorter_runs_are_left_out():
    other = TABLE[TABLE["phase"] == "tuned"].assign(machine="m0", val_loss=0.0)
    short = TABLE[(TABLE["phase"] == "tuned") & (TABLE["step"] <= 30)].assign(steps=30, record="short", val_loss=0.0)
    again = TABLE[TABLE["phase"] == "tuned"].assign(record="the same run in a record with more seeds", val_loss=0.0)
    mixed = pd.concat([TABLE, other, short, again], ignore_index=True)
    pd.testing.assert_frame_equal(optimizers.of(mixed, "tuned"), optimizers.of(TABLE, "tuned"))


def test_of_two_tuned_settings_the_one_that_the_tuning_chooses_counts():
    stale = TABLE[(TABLE["phase"] == "tuned") & (TABLE["optimizer"] == "adam")]
    stale = stale.assign(learning_rate=0.007, record="stale" + stale["record"], test_score=0.0)
    mixed = pd.concat([stale, TABLE], ignore_index=True)
    pd.testing.assert_frame_equal(optimizers.scores(mixed), optimizers.scores(TABLE))


def test_divergence_is_a_loss_that_is_no_number_or_above_the_start():
    losses = [[1.0, 0.5, 0.2], [1.0, math.nan, math.nan], [1.0, math.inf, 0.5], [1.0, 0.5, 1.1], [1.0, 3.0, 1.0]]
    found = optimizers.ends(runs(losses))
    assert found["diverged"].tolist() == [False, True, True, True, False]
    assert found["step"].tolist() == [30] * 5


def test_shares_of_divergence():
    shares = optimizers.divergence(TABLE)
    assert list(shares.index) == ["tuning", "tuned", "default"]
    points = study_records._points("momentum", 20)
    assert shares.loc["tuning", "momentum"] == pytest.approx(np.mean([rate > 3 for rate, _ in points]))
    assert shares.loc["tuned"].eq(0).all()
    assert shares["adam"].eq(0).all()


# ---------------------------------------------------------------------------------------------------------------- tuning
def test_the_choice_is_the_lowest_mean_over_seeds():
    found = optimizers.choices(TABLE)
    assert list(found.index.names) == ["problem", "optimizer"]
    for (_, name), point in found.iterrows():
        distance = abs(np.log10(point["learning_rate"] / study_records.BEST_RATE[name]))
        assert distance <= 0.13  # half the distance between two points
        assert point["widened"] == (name == "sgd")
        assert point["n_points"] == (30 if name == "sgd" else 20)
        assert not point["at_edge"]
        assert point["knobs"] == ('[["momentum", 0.9]]' if name == "momentum" else "[]")
    tuned = optimizers.of(TABLE, "tuned").drop_duplicates(optimizers.ARM).set_index(optimizers.ARM)
    pd.testing.assert_series_equal(tuned["learning_rate"].sort_index(), found["learning_rate"])


def test_a_point_at_which_a_seed_diverged_is_not_chosen():
    good = [[1.0, 0.5]] * 3
    table = pd.concat(
        [
            runs(good, "tuning", rate=0.01),
            runs([[1.0, 0.1], [1.0, 0.1], [1.0, math.nan]], "tuning", rate=0.1),
            runs([[1.0, 0.2]], "tuning", rate=0.3),  # one seed only
            runs([[1.0, 0.6]] * 3, "tuning", rate=1.0),
        ]
    )
    (point,) = optimizers.choices(table).itertuples()
    assert (point.learning_rate, point.val_loss, point.n_points, point.at_edge) == (0.01, 0.5, 3, True)


def test_the_expected_best_of_n_points_by_hand_and_by_trying_all():
    losses = [0.9, 0.3, 0.5, 0.7]
    table = pd.concat([runs([[0.8, loss]] * 2, "tuning", rate=10.0**-k) for k, loss in enumerate(losses)])
    curve = optimizers.budget_curves(table).loc["wine", "adamw"]
    capped = [min(loss, 0.8) for loss in losses]  # a point worse than the untrained model counts as that
    for n in (1, 2, 3, 4):
        assert curve[n] == pytest.approx(np.mean([min(drawn) for drawn in itertools.combinations(capped, n)]))
    assert curve.index.tolist() == [1, 2, 3, 4]


def test_budget_curves_fall_and_leave_out_what_lies_beyond_the_range():
    curves = optimizers.budget_curves(TABLE)
    assert set(curves.index.get_level_values("n")) == set(range(1, 21))
    for _, of_problem in curves.groupby(level="problem"):
        assert (of_problem.diff().dropna() <= 1e-12).all(axis=None)
        assert of_problem.iloc[-1].idxmin() == "adam"
    inside = TABLE[(TABLE["learning_rate"] <= 10) | (TABLE["phase"] != "tuning")]
    pd.testing.assert_frame_equal(curves, optimizers.budget_curves(inside))


# --------------------------------------------------------------------------------------------------------------- targets
def test_target_by_hand():
    falling = [[1.0, 0.6, 0.4, 0.5, 0.1], [1.0, 0.7, 0.5, 0.6, 0.1], [1.0, 0.9, 0.8, 0.7, 0.1]]
    table = pd.concat(
        [
            runs(falling, optimizer="nadam"),  # the last step is beyond 75 %: lowest 0.4, 0.5, 0.7
            runs([[1.0, 0.9, 0.9, 0.9, 0.9]] * 3, optimizer="adamw"),
            runs([[1.0, 0.2, 0.2, 0.2, 0.2]] * 3, optimizer="adam"),  # sets no target
        ]
    )
    assert optimizers.targets(table).to_dict() == {"wine": 0.5}
    steps = optimizers.steps_to_target(table)
    assert steps["nadam"].tolist() == [30, 30, 60]
    assert steps["adam"].tolist() == [15, 15, 15]
    assert steps["adamw"].tolist() == [math.inf] * 3
    assert optimizers.median_steps(table).loc["wine"].to_dict() == {"adam": 15, "adamw": math.inf, "nadam": 30}


def test_a_diverged_run_reaches_what_it_reached_before():
    target = runs([[1.0, 0.5, 0.5, 0.5, 0.5]] * 2)
    early = runs([[1.0, 0.4, math.nan, math.nan, math.nan]] * 2, optimizer="sgd")
    assert optimizers.steps_to_target(pd.concat([target, early]))["sgd"].tolist() == [15, 15]
    lost = runs([[1.0, math.nan, math.nan, math.nan, math.nan]] * 2, optimizer="sgd")
    assert optimizers.steps_to_target(pd.concat([target, lost]))["sgd"].tolist() == [math.inf] * 2


def test_near_targets_are_nine_tenths_of_the_way_to_the_best():
    table = pd.concat([runs([[1.0, 0.6, 0.5]] * 3), runs([[1.0, 0.25, 0.2]] * 3, optimizer="sgd")])
    assert optimizers.near_targets(table)["wine"] == pytest.approx(1 - 0.9 * (1 - 0.2))
    steps = optimizers.median_steps(table, optimizers.near_targets(table))
    assert steps.loc["wine"].to_dict() == {"adamw": math.inf, "sgd": 15}
    assert optimizers.profile(table, optimizers.near_targets(table)).iloc[0].to_dict() == {"adamw": 0, "sgd": 1}
    with pytest.raises(NotMeasured, match="tuned"):
        optimizers.near_targets(table.assign(phase="rates"))


def test_without_the_arms_that_set_targets_there_are_none():
    with pytest.raises(NotMeasured, match="adamw"):
        optimizers.profile(TABLE[TABLE["optimizer"].isin(["adam", "sgd"])])


def test_steps_seconds_and_profile_of_the_planted_speeds():
    steps = optimizers.median_steps(TABLE)
    assert (steps["adam"] < steps["nadam"]).all()
    assert (steps["nadam"] < steps["momentum"]).all()
    assert np.isinf(steps["sgd"]).all()

    rows = [
        {"machine": "m1", "cell": "optimizers", "n_qubits": 8, "n_layers": 2, "batch_size": 100, "threads": 1, "record": "t"}
        | {"arm": arm, "part": "step", "sample": sample, "seconds": seconds, "proof": ""}
        for arm, seconds in {"adam": 0.004, "nadam": 0.001, "adam, lr 0.1": 9.0}.items()
        for sample in range(3)
    ]
    seconds = optimizers.seconds_to_target(TABLE, pd.DataFrame(rows))
    pd.testing.assert_series_equal(seconds["adam"], 0.004 * optimizers.steps_to_target(TABLE)["adam"])
    assert seconds["momentum"].isna().all()  # its step was not timed
    with pytest.raises(NotMeasured, match="optimizers"):
        optimizers.seconds_to_target(TABLE, pd.DataFrame(rows).assign(cell="methods"))

    profile = optimizers.profile(TABLE)
    assert profile.index[0] == 1
    assert profile.index[-1] == 4
    assert profile["adam"].eq(1).all()
    assert profile["nadam"].iloc[0] == 0
    assert profile["nadam"].iloc[-1] == 1
    assert profile["sgd"].eq(0).all()


def test_the_counter_example_is_in_no_aggregate():
    assert "original" in optimizers.targets(WITH_ORIGINAL).index
    assert "original" not in optimizers.median_steps(WITH_ORIGINAL).index
    assert set(optimizers.scores(WITH_ORIGINAL).index.get_level_values("problem")) == {"wine", "tfim"}
    assert ("original", "adam") in optimizers.rate_widths(WITH_ORIGINAL).index


# ---------------------------------------------------------------------------------------------------------------- scores
def test_scores_are_test_scores_and_an_energy_s_own():
    scores = optimizers.scores(TABLE)
    last = TABLE[(TABLE["phase"] == "tuned") & (TABLE["model"] == "hybrid") & (TABLE["step"] == 300)]
    for problem, column in {"digits_3v5": "test_score", "diabetes": "test_score", "basins": "val_score"}.items():
        rows = last[(last["problem"] == problem) & (last["optimizer"] == "nadam")].set_index("seed")
        pd.testing.assert_series_equal(scores["nadam"].loc[problem], rows[column].sort_index(), check_names=False)
    assert scores.shape == (15, 4)


def test_a_score_that_is_lost_or_below_zero_counts_as_zero():
    table = runs([[1.0, 0.4], [1.0, math.nan], [1.0, 7.0]])
    assert optimizers.scores(table)["adamw"].tolist() == [0.6, 0.0, 0.0]


def test_gaps():
    gaps = optimizers.gaps(TABLE)
    assert set(gaps.index.get_level_values("problem")) == {"digits_3v5", "diabetes"}
    np.testing.assert_allclose(gaps["momentum"], 0.10)
    np.testing.assert_allclose(gaps["adam"], 0.02)


def test_the_aggregate_is_the_middle_half_of_all_runs():
    found = optimizers.aggregate(TABLE)
    values = np.sort(optimizers.scores(TABLE)["adam"].to_numpy())
    cut = len(values) // 4
    assert found["adam"].value == pytest.approx(values[cut:-cut].mean())
    assert found["adam"].low <= found["adam"].value <= found["adam"].high
    assert found["adam"].value > optimizers.aggregate(TABLE, "default")["adam"].value
    assert optimizers.aggregate(TABLE, "tuned", "separable").index.tolist() == found.index.tolist()
    assert optimizers.aggregate(TABLE[TABLE["phase"] == "rates"]).empty


# -------------------------------------------------------------------------------------------------------- learning rates
def test_widths_are_ordered_as_planted():
    widths = optimizers.rate_widths(TABLE)
    by_arm = widths["value"].unstack("optimizer")
    assert (by_arm["adam"] > by_arm["nadam"]).all()
    assert (by_arm["nadam"] > by_arm["momentum"]).all()
    assert ((widths["low"] <= widths["value"]) & (widths["value"] <= widths["high"])).all()


def test_a_width_ends_where_a_seed_diverges():
    rates = (0.01, 0.1, 1.0)

    def table(last):
        losses = ([[1.0, 0.2]] * 5, [[1.0, 0.2]] * 5, last)
        return pd.concat([runs(of_rate, "rates", rate=rate) for rate, of_rate in zip(rates, losses, strict=True)])

    whole, cut = ([[1.0, 0.2]] * 5, [[1.0, 0.2]] * 4 + [[1.0, math.nan]])
    assert optimizers.rate_widths(table(whole)).loc[("wine", "adamw"), "value"] == pytest.approx(2)
    found = optimizers.rate_widths(table(cut)).loc[("wine", "adamw")]
    assert found["value"] == pytest.approx(1)
    assert found["high"] == pytest.approx(2)  # seeds without the lost one
    nowhere = pd.concat([runs([[1.0, math.nan]] * 5, "rates", rate=rate) for rate in rates])
    assert optimizers.rate_widths(nowhere).isna().all(axis=None)


# ----------------------------------------------------------------------------------------------------------- comparisons
def test_comparisons_with_adam():
    found = optimizers.comparisons(TABLE)
    assert list(found.index) == ["momentum", "nadam", "sgd"]
    assert found.loc["sgd", "p_holm"] < 0.01
    assert found.loc["sgd", "median_difference"] < 0
    assert found.loc["sgd", "delta"] < 0
    assert found.loc["sgd", "improvement"] == pytest.approx(0, abs=0.01)
    scores = optimizers.scores(TABLE)
    above = scores.groupby(level="problem").apply(lambda s: (s["nadam"].to_numpy()[:, None] > s["adam"].to_numpy()).mean())
    assert found.loc["nadam", "improvement"] == pytest.approx(above.mean())
    assert above["basins"] == 1
    assert (found["improvement_low"] <= found["improvement"]).all()
    assert found["n"].eq(15).all()
    against = optimizers.comparisons(TABLE, "sgd")
    assert against.loc["adam", "improvement"] == pytest.approx(1 - found.loc["sgd", "improvement"])
    with pytest.raises(NotMeasured, match="qng"):
        optimizers.comparisons(TABLE, "qng")


def test_adam_against_itself():
    found = optimizers.control(TABLE)
    assert sorted(found) == ["basins", "diabetes", "digits_3v5"]
    assert all(values["p_holm"] >= values["p"] for values in found.values())
    assert min(values["p_holm"] for values in found.values()) > 0.05
    assert all(values["low"] <= values["difference"] <= values["high"] for values in found.values())
    biased = TABLE.copy()
    biased.loc[(biased["phase"] == "control") & (biased["problem"] == "digits_3v5"), "test_score"] -= 0.3
    found = optimizers.control(biased)["digits_3v5"]
    assert found["p_holm"] < 0.05
    assert found["low"] > 0
    assert found["delta"] == 1
    flat = TABLE.assign(test_score=0.5, val_score=0.5)
    assert {values["p"] for values in optimizers.control(flat).values()} == {1.0}
    with pytest.raises(NotMeasured, match="control"):
        optimizers.control(TABLE[TABLE["phase"] != "control"])


def test_the_hybrid_model_against_its_controls():
    found = optimizers.models(TABLE)
    assert set(found.index) == {(p, m) for p in ("digits_3v5", "diabetes") for m in ("separable", "classical")}
    assert found["optimizer"].eq("adam").all()
    by_model = found["value"].unstack("against")
    np.testing.assert_allclose(by_model["separable"], 0.03, atol=0.01)
    np.testing.assert_allclose(by_model["classical"], -0.02, atol=0.01)
    assert found["n"].eq(5).all()
    assert ((found["low"] <= found["value"]) & (found["value"] <= found["high"])).all()
    with pytest.raises(NotMeasured, match="hybrid"):
        optimizers.models(TABLE[TABLE["model"] == "hybrid"])


def test_each_model_has_the_optimizer_of_its_own_tuning():
    table = TABLE.copy()
    spoiled = (table["phase"] == "tuning") & (table["model"] == "classical") & (table["optimizer"] == "adam")
    table.loc[spoiled, "val_loss"] = 5.0
    found = optimizers.models(table)
    assert set(found.xs("classical", level="against")["optimizer_other"]) == {"nadam"}
    assert set(found.xs("separable", level="against")["optimizer_other"]) == {"adam"}


def test_recommendation():
    found = optimizers.recommendation(TABLE, "classification", 300)
    assert found.index.tolist() == ["adam", "nadam", "momentum", "sgd"]
    assert found["evidence"].eq("1 problem, 5 seeds").all()
    assert found.loc["adam", "rate_low"] <= 0.03 <= found.loc["adam", "rate_high"]
    assert found.loc["momentum", "diverged"] > 0 == found.loc["adam", "diverged"]
    assert found.loc["adam", "low"] <= found.loc["adam", "score"] <= found.loc["adam", "high"]
    energies = optimizers.recommendation(WITH_ORIGINAL, "energy", 300)
    assert energies["evidence"].eq("1 problem, 5 seeds").all()  # without the counter-example


def test_within_a_budget_the_best_evaluation_counts():
    table = pd.concat([runs([[1.0, 0.3, 0.1, 0.6]] * 5), runs([[1.0, 0.2, 0.4, 0.5]] * 5, optimizer="sgd")])
    early, late = (optimizers.recommendation(table, "classification", budget)["score"] for budget in (15, 45))
    assert early.to_dict() == pytest.approx({"sgd": 0.8, "adamw": 0.7})
    assert late.to_dict() == pytest.approx({"adamw": 0.9, "sgd": 0.8})
    assert (early.index[0], late.index[0]) == ("sgd", "adamw")
    assert optimizers.recommendation(table, "classification", 14)["score"].eq(0).all()
    assert optimizers.recommendation(table, "classification", 45)[["rate_low", "diverged"]].isna().all(axis=None)


@pytest.mark.parametrize(("kind", "budget"), [("regresion", 100), ("energy", 0), ("energy", 2.5), ("energy", True)])
def test_a_recommendation_for_nonsense_is_refused(kind, budget):
    with pytest.raises(ConfigurationError, match=r"kind|whole number"):
        optimizers.recommendation(TABLE, kind, budget)


def test_a_recommendation_without_records_is_refused():
    with pytest.raises(NotMeasured, match="energy"):
        optimizers.recommendation(TABLE[TABLE["problem"] == "diabetes"], "energy", 100)


# ----------------------------------------------------------------------------------------------------------------- order
def test_the_order_of_rows_decides_nothing():
    shuffled = TABLE.sample(frac=1, random_state=2).reset_index(drop=True)
    for function in (optimizers.choices, optimizers.budget_curves, optimizers.steps_to_target, optimizers.rate_widths):
        pd.testing.assert_frame_equal(function(shuffled), function(TABLE))
    pd.testing.assert_frame_equal(optimizers.comparisons(shuffled), optimizers.comparisons(TABLE))
    assert optimizers.control(shuffled) == optimizers.control(TABLE)
    assert optimizers.aggregate(shuffled).to_dict() == optimizers.aggregate(TABLE).to_dict()


def test_a_table_as_large_as_the_study_takes_seconds():
    # Time per row: a loop over rows would take a minute on the real table.
    rows = pd.concat(
        [TABLE.assign(optimizer=TABLE["optimizer"] + str(k), record=TABLE["record"] + str(k)) for k in range(8)]
    )
    begin = time.process_time()
    optimizers.choices(rows)
    optimizers.steps_to_target(rows.replace({"optimizer": {"nadam0": "nadam"}}))
    optimizers.divergence(rows)
    assert (time.process_time() - begin) / len(rows) < 2e-5
