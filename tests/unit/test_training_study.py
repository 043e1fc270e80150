"""The optimizer study: the tuning is the same for all, goes on where its best point is at an edge, and ends in the plan."""

import itertools
import json
import math

import numpy as np
import pandas as pd
import pytest

from hybridbench.errors import ConfigurationError
from hybridbench.measurement.records import config_columns, config_hash
from hybridbench.training import study
from hybridbench.training.optimizers import OPTIMIZERS
from hybridbench.training.study import best_point, plan, plans, starts_plan, tuning_points, widened


def table(configs, loss):
    """What the records of `configs` would hold: first and last step of each seed; `loss` of configuration and seed."""
    rows = []
    for config in configs:
        for seed in config.seeds:
            for step in (0, config.steps):
                # Where a run began must not be chosen by.
                value = loss(config, seed) if step else -100.0 * config.learning_rate
                rows.append(
                    {"record": config_hash(config), **config_columns(config), "seed": seed, "step": step, "val_loss": value}
                )
    return pd.DataFrame(rows).sort_values("record", kind="stable", ignore_index=True)


def drive(generator, loss):
    """All lists of configurations that a plan yields."""
    asked = [next(generator)]
    while True:
        try:
            asked.append(generator.send(table(asked[-1], loss)))
        except StopIteration:
            return asked


def valley(rate):
    """Lowest at `rate`, whatever the other settings."""
    return lambda config, seed: abs(math.log(config.learning_rate / rate)) + 0.001 * (seed % 10)


# ------------------------------------------------------------------------------------------------------------------ points
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_tuning_points_span_the_ranges(optimizer):
    points = tuning_points(optimizer)
    assert len(points) == study.BUDGET == 20
    places = np.array([math.log10(rate / study.RATES[0]) / 5 for rate, _ in points])
    assert ((places >= 0) & (places <= 1)).all()
    # Even to one point a tenth of the range, which independent draws would hardly be.
    assert (np.histogram(places, bins=10, range=(0, 1))[0] >= 1).all()
    for knob in OPTIMIZERS[optimizer].knobs:
        values = np.array([knobs[knob.name] for _, knobs in points])
        ends = np.log([knob.low, knob.high])
        at = (np.log(1 - values if knob.from_one else values) - ends[0]) / (ends[1] - ends[0])
        assert ((at > -1e-3) & (at < 1 + 1e-3)).all()
        assert (np.histogram(at, bins=5, range=(0, 1))[0] >= 2).all()
        assert abs(np.corrcoef(at, places)[0, 1]) < 0.4
    assert {tuple(knobs) for _, knobs in points} == {tuple(knob.name for knob in OPTIMIZERS[optimizer].knobs)}


def test_every_optimizer_is_tried_at_the_same_rates():
    rates = {tuple(rate for rate, _ in tuning_points(optimizer)) for optimizer in OPTIMIZERS}
    assert len(rates) == 1
    assert len(set(*rates)) == 20


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_first_points_of_a_larger_budget_are_those_of_a_smaller_one(optimizer):
    assert tuning_points(optimizer, 30)[:20] == tuning_points(optimizer, 20)
    assert tuning_points(optimizer, 20)[:3] == tuning_points(optimizer, 3)


def test_tuning_points_of_an_unknown_optimizer_name_the_nearest():
    with pytest.raises(ConfigurationError, match="Did you mean 'adam"):
        tuning_points("adan")


# ------------------------------------------------------------------------------------------------------------------ choice
def first_trials(optimizer="adam"):
    return next(plan("basins", "hybrid", optimizer))


def test_the_best_point_has_the_lowest_mean_final_loss():
    trials = first_trials()
    chosen = trials[7]
    rows = table(trials, lambda config, seed: 1.0 - (config == chosen) * (seed - 1000) * 0.01)
    assert best_point(rows) == (chosen.learning_rate, dict(chosen.knobs))


def test_a_point_that_diverged_with_one_seed_is_not_chosen():
    trials = first_trials()
    tempting, second = trials[3], trials[9]

    def loss(config, seed):
        if config == tempting:
            return math.nan if seed == 1004 else 0.0
        return 0.5 if config == second else 1.0

    rows = table(trials, loss)
    assert best_point(rows)[0] == second.learning_rate
    assert np.isinf(study.tuning_scores(rows)).sum() == 1


def test_only_tuning_rows_are_looked_at():
    trials = first_trials()
    rows = table(trials, valley(trials[5].learning_rate))
    foreign = rows[rows["record"] == config_hash(trials[0])].assign(phase="rates", val_loss=-1.0, learning_rate=50.0)
    assert best_point(pd.concat([rows, foreign]))[0] == trials[5].learning_rate
    assert widened(pd.concat([rows, foreign]), "adam") == []


def test_of_points_that_are_equal_but_for_rounding_the_lowest_rate_is_chosen():
    """So that another machine, which rounds otherwise, goes on with the same trials."""
    trials = first_trials()
    low, high = sorted((trials[2], trials[4]), key=lambda config: config.learning_rate)
    for lower in (low, high):
        rows = table(trials, lambda config, seed, lower=lower: (config not in (low, high)) + 0.1 - 1e-14 * (config == lower))
        assert best_point(rows)[0] == low.learning_rate


@pytest.mark.parametrize(("end", "factor"), [(max, 100), (min, 0.01)])
def test_the_range_widens_where_the_best_rate_is_at_its_edge(end, factor):
    trials = first_trials()
    edge = end(config.learning_rate for config in trials)
    points = widened(table(trials, valley(edge)), "adam")
    rates = [rate for rate, _ in points]
    assert len(points) == study.MORE == 10
    assert rates[-1] == pytest.approx(edge * factor, rel=1e-5)
    steps = np.diff(np.log10([edge, *rates]))
    np.testing.assert_allclose(steps, math.log10(factor) / 10, atol=1e-4)
    assert len({tuple(knobs.items()) for _, knobs in points}) == 10
    used = [dict(config.knobs) for config in trials]
    assert not any(knobs in used for _, knobs in points)


def test_the_range_stays_where_the_best_rate_is_inside():
    trials = first_trials()
    inside = sorted(config.learning_rate for config in trials)[1]
    assert widened(table(trials, valley(inside)), "adam") == []


@pytest.mark.parametrize(("rate", "widenings"), [(0.05, 0), (200.0, 1), (1e-5, 1), (1e9, 2), (1e-12, 2)])
def test_a_plan_widens_at_either_edge_and_at_most_twice(rate, widenings):
    asked = drive(plan("basins", "hybrid", "sgd"), valley(rate))
    assert [len(trials) for trials in asked[:-1]] == [20, 30, 40][: widenings + 1]
    for fewer, more in itertools.pairwise(asked[:-1]):
        assert more[: len(fewer)] == fewer  # each table holds all points so far
    best = min((trial.learning_rate for trial in asked[-2]), key=lambda tried: abs(math.log(tried / rate)))
    assert asked[-1][0].learning_rate == best
    tried = [trial.learning_rate for trial in asked[-2]]
    assert (min(tried) == pytest.approx(1e-8, rel=0.6)) == (rate == 1e-12)


def test_a_plan_whose_points_all_diverge_looks_below_and_then_reports_the_lowest_rate():
    asked = drive(plan("basins", "hybrid", "sgd"), lambda config, seed: math.nan)
    assert [len(trials) for trials in asked] == [20, 30, 40, 13]
    rates = [trial.learning_rate for trial in asked[2]]
    assert asked[3][0].learning_rate == min(rates) < study.RATES[0] / 5000


def test_a_plan_finds_rates_below_where_everything_diverged():
    loss = valley(3e-6)
    asked = drive(
        plan("basins", "hybrid", "sgd"), lambda config, seed: math.nan if config.learning_rate > 1e-4 else loss(config, 0)
    )
    assert asked[-1][0].learning_rate == pytest.approx(3e-6, rel=0.3)


# -------------------------------------------------------------------------------------------------------------------- plan
@pytest.mark.parametrize(
    ("problem", "model", "optimizer", "phases"),
    [
        ("tfim", "hybrid", "adam", ["tuned", "default", *["rates"] * 11, "control"]),
        ("wine", "hybrid", "nesterov", ["tuned", "default", *["rates"] * 11]),
        ("wine", "classical", "adam", ["tuned"]),
        ("tfim", "separable", "qng", ["tuned"]),
    ],
)
def test_what_a_plan_reports(problem, model, optimizer, phases):
    *tuning, reported = drive(plan(problem, model, optimizer), valley(0.05))
    assert [trial.phase for trial in reported] == phases
    assert {trial.phase for trials in tuning for trial in trials} == {"tuning"}
    assert {trial.seeds for trials in tuning for trial in trials} == {study.TUNING_SEEDS}
    assert {(t.problem, t.model, t.optimizer, t.start, t.steps, t.every) for t in [*tuning[0], *reported]} == {
        (problem, model, optimizer, "uniform", 300, 15)
    }
    for trial in reported:
        assert {name: getattr(trial, name) for name in study.size_of(problem)} == study.size_of(problem)
    by_phase = {trial.phase: trial for trial in reported}
    best = min(tuning[-1], key=lambda trial: abs(math.log(trial.learning_rate / 0.05)))
    assert (by_phase["tuned"].learning_rate, by_phase["tuned"].knobs) == (best.learning_rate, best.knobs)
    assert by_phase["tuned"].seeds == tuple(range(20))
    if "default" in by_phase:
        assert (by_phase["default"].learning_rate, by_phase["default"].knobs) == (OPTIMIZERS[optimizer].default_rate, ())
        assert by_phase["default"].seeds == tuple(range(20))
        rates = [trial for trial in reported if trial.phase == "rates"]
        np.testing.assert_allclose(np.log10([t.learning_rate for t in rates]), np.arange(-4, 1.1, 0.5), atol=1e-3)
        assert {(trial.knobs, trial.seeds) for trial in rates} == {((), tuple(range(20)))}
    if "control" in by_phase:
        control, tuned = by_phase["control"], by_phase["tuned"]
        assert (control.learning_rate, control.knobs) == (tuned.learning_rate, tuned.knobs)
        assert control.seeds == tuple(range(100, 120))


def test_a_smaller_study_takes_fewer_seeds_and_points():
    *tuning, reported = drive(plan("basins", "hybrid", "adam", seeds=range(3), budget=6), valley(0.05))
    assert len(tuning[0]) == 6
    assert tuning[0] == first_trials()[:6]
    assert {trial.phase: len(trial.seeds) for trial in reported} == {"tuned": 3, "default": 3, "rates": 3, "control": 3}


def test_seeds_of_tuning_report_and_control_have_nothing_in_common():
    reported, control, tuning = (set(seeds) for seeds in (study.SEEDS, study.CONTROL_SEEDS, study.TUNING_SEEDS))
    assert len(reported | control | tuning) == len(reported) + len(control) + len(tuning) == 20 + 20 + 5


def test_starts_are_compared_on_the_ising_circuit_alone():
    (trials,) = drive(starts_plan(), valley(1.0))
    assert {(t.problem, t.model, t.optimizer, t.learning_rate, t.phase, t.every, t.n_qubits) for t in trials} == {
        ("tfim", "hybrid", "adam", 0.03, "starts", 5, 8)
    }
    expected = {(depth, start) for depth in (2, 4, 8) for start in ("uniform", "normal", "small", "identity")}
    assert {(trial.n_layers, trial.start) for trial in trials} == expected
    assert {trial.seeds for trial in trials} == {tuple(range(20))}


def test_the_whole_study_is_every_problem_model_and_optimizer_that_fit():
    asked = [next(one) for one in plans()]
    arms = [(trials[0].problem, trials[0].model, trials[0].optimizer) for trials in asked if trials[0].phase == "tuning"]
    assert len(arms) == len(set(arms)) == 7 * (15 + 15 + 14) + 2 * 15
    assert len(asked) == len(arms) + 1
    assert {arm for arm in arms if arm[1] == "classical" and arm[2] == "qng"} == set()
    assert {model for problem, model, _ in arms if problem in ("basins", "original")} == {"hybrid"}
    assert {problem for problem, _, _ in arms} == set(study.PROBLEMS)
    # The slow natural gradients first.
    assert [optimizer == "qng" for _, _, optimizer in arms] == sorted((arm[2] == "qng" for arm in arms), reverse=True)


def test_a_part_of_the_study_is_asked_for_by_names():
    assert len(plans(["wine", "basins"], ["hybrid", "classical"], ["qng", "sgd"])) == 1 + 2 + 2
    assert len(plans(["tfim"], ["hybrid"], ["adam"])) == 2  # with the comparison of starts
    for names, message in (
        ((["wines"],), "Unknown problem 'wines'. Did you mean 'wine'"),
        ((["wine"], ["hybird"]), "Did you mean 'hybrid'"),
        ((["wine"], ["hybrid"], ["adan"]), "Did you mean 'adam"),
        ((["iris"],), "Unknown problem 'iris'"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            plans(*names)


# ------------------------------------------------------------------------------------------------------------------ hashes
def test_the_trials_names_do_not_depend_on_the_platform(monkeypatch):
    """No number is so near to where it would be rounded otherwise that the last bits of a power or a logarithm decide it."""
    honest, raw = study._round, []
    monkeypatch.setattr(study, "_round", lambda value: raw.append(value) or honest(value))
    trials = [
        trial
        for optimizer in OPTIMIZERS
        for rate in (1e9, 1e-12)  # two widenings up, two down
        for few in drive(plan("tfim", "hybrid", optimizer), valley(rate))
        for trial in few
    ]
    assert len(raw) > 1000
    for value in raw:
        assert honest(value * (1 - 1e-11)) == honest(value) == honest(value * (1 + 1e-11))
    for trial in [*trials, *next(starts_plan())]:
        for value in (trial.learning_rate, *(value for _, value in trial.knobs)):
            assert honest(value) == value
            assert type(value) is float


def test_the_trials_names_stay():
    """Another generator of points, or another field, would orphan the shipped records: then these change too."""
    knobs = {"beta_1": 0.796597, "beta_2": 0.979513, "weight_decay": 0.000758714}
    assert tuning_points("adamw")[1] == (0.098994, knobs)
    trial = next(plan("wine", "hybrid", "adamw"))[1]
    assert json.loads(config_columns(trial)["knobs"]) == [list(pair) for pair in trial.knobs]
    assert config_hash(trial) == "903fc93cf7655ae6"
