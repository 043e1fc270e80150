"""Trials: whole runs in one graph are the plain loop's runs, and no run depends on another."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pennylane as qml
import pytest
from trial_toys import START, flat, toy_problem

from hybridbench import tasks
from hybridbench.errors import ConfigurationError
from hybridbench.measurement.records import RecordStore
from hybridbench.tasks.energies import BASIN_WEIGHT
from hybridbench.training import loop, models, study, trial
from hybridbench.training.config import TrainingConfig, TrialConfig
from hybridbench.training.optimizers import OPTIMIZERS, make_optimizer, tf
from hybridbench.training.problems import MEASURES
from hybridbench.training.trial import Stepper, run_trial

SMALL = TrialConfig("wine", learning_rate=0.05, steps=8, every=2, n_qubits=2, n_layers=1, batch_size=16)
BASINS = TrialConfig("basins", learning_rate=3.0, steps=20, every=5, **study.size_of("basins"))


def config_of(problem, model="hybrid", **given):
    return TrialConfig(problem, model, **{**study.size_of(problem), **given})


def losses_of(rows):
    return [loss for row in rows for loss in json.loads(row["batch_losses"])]


def assert_same(rows, others):
    """To the last bit, NaN where NaN is."""
    assert [row.keys() for row in rows] == [row.keys() for row in others]
    for row, other in zip(rows, others, strict=True):
        for name, value in row.items():
            assert value == other[name] or (value != value and other[name] != other[name]), (row["step"], name)


def fresh(config):
    trial._traced.cache_clear()
    return run_trial(config)


# --------------------------------------------------------------------------------------------------------- repeated runs
def test_a_trial_gives_identical_rows_in_this_process_and_in_another():
    """Here after other trials, and with Keras in another precision before; there as the first thing that is done."""
    configs = [BASINS, SMALL]
    script = (
        "import json\n"
        "from hybridbench.training.trial import TrialConfig, run_trial\n"
        f"print('rows:' + json.dumps([run_trial(config) for config in {configs!r}]))"
    )
    other = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=os.environ.copy())
    run_trial(replace(SMALL, learning_rate=0.3, seeds=(5,)))
    tf.keras.backend.set_floatx("float32")
    here = [fresh(config) for config in configs]
    for config, rows in zip(configs, here, strict=True):
        assert_same(run_trial(config), rows)
    output, _ = other.communicate(timeout=120)
    there = json.loads(output.split("rows:")[1])
    for rows, others in zip(here, there, strict=True):
        assert_same(rows, others)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_one_trace_serves_all_seeds_rates_and_settings(optimizer):
    """Runs of one trace, a diverging one among them, equal those of another trace in another order."""
    model = "hybrid" if optimizer == "qng" else "classical"
    base = replace(SMALL, problem="diabetes", model=model, optimizer=optimizer)
    other = tuple((knob.name, knob.at(0.2)) for knob in OPTIMIZERS[optimizer].knobs)
    chain = [
        replace(base, learning_rate=0.3, knobs=other, seeds=(3,)),
        replace(base, learning_rate=1e200, seeds=(1,)),
        base,
        replace(base, seeds=(2, 0, 1)),
    ]
    trial._traced.cache_clear()
    first, diverged, plain, seeds = (run_trial(config) for config in chain)
    assert trial._traced.cache_info().misses == 1
    assert math.isnan(diverged[-1]["train_loss"])
    assert_same([row for row in seeds if row["seed"] == 0], plain)
    assert_same(fresh(chain[2]), plain)
    assert_same(run_trial(chain[0]), first)
    assert first[-1]["train_loss"] != plain[-1]["train_loss"]
    if other:
        assert run_trial(replace(chain[0], knobs=()))[-1]["train_loss"] != first[-1]["train_loss"]


# ------------------------------------------------------------------------------------------------------ independent loops
@pytest.mark.parametrize("name", ["sgd", "adam", "nadam", "adamw"])
def test_a_trial_is_the_plain_loop(name):
    """PennyLane's layer on default.qubit, a Keras model, a Keras optimizer, eager steps, the training loop's scores."""
    config = replace(SMALL, optimizer=name, seeds=(4,))
    rows = run_trial(config)
    data = tasks.prepare("wine", 2, 4)
    given = TrainingConfig("wine", n_qubits=2, n_layers=1, backend="default.qubit", diff_method="backprop")
    model = models.build_model(given, data, graph=False)
    model.set_weights(models.initial_weights(model, 4))
    optimizer, function, losses = make_optimizer(name, 0.05), loop.loss_of(data), []
    rng = np.random.default_rng(4)
    order = [index for _ in range(2) for index in loop.batches(len(data.x_train), 16, rng)]
    for step in range(9):
        if step % 2 == 0:
            row = rows[step // 2]
            assert (row["seed"], row["step"], row["n_parameters"]) == (4, step, model.count_params())
            for part in ("train", "val", "test"):
                x, y = getattr(data, f"x_{part}"), getattr(data, f"y_{part}")
                outputs = model(tf.constant(x)).numpy()
                loss = float(function(tf.constant(y), tf.constant(outputs)))
                assert row[f"{part}_loss"] == pytest.approx(loss, abs=1e-5)
                assert row[f"{part}_score"] == pytest.approx(loop.score(data, outputs, y), abs=1e-9)
        x, y = tf.constant(data.x_train[order[step]]), tf.constant(data.y_train[order[step]])
        with tf.GradientTape() as tape:
            loss = function(y, model(x))
        optimizer.apply_gradients(
            zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True)
        )
        losses.append(float(loss))
    assert losses_of(rows) == pytest.approx(losses[:8], rel=1e-4)
    if name == "sgd":  # no decay rates, and so nothing that Keras rounds
        assert losses_of(rows) == [float(f"{loss:.5g}") for loss in losses[:8]]


@pytest.mark.parametrize(
    ("problem", "model", "rate"), [("wine", "hybrid", 0.1), ("tfim", "classical", 0.03), ("basins", "hybrid", 1.0)]
)
def test_fused_adam_follows_adam_for_a_whole_run(problem, model, rate):
    config = config_of(problem, model, learning_rate=rate, seeds=(0, 1))
    adam, fused = (run_trial(replace(config, optimizer=name)) for name in ("adam", "fused_adam"))
    for one, other in zip(adam, fused, strict=True):
        assert one["step"] == other["step"]
        for name in MEASURES:
            assert one[name] == pytest.approx(other[name], abs=1e-6, nan_ok=True)
    assert adam[-1]["train_loss"] < adam[0]["train_loss"]


def test_natural_gradients_of_a_constant_metric_are_shorter_descent():
    damped = run_trial(replace(BASINS, optimizer="qng", knobs=(("damping", 0.5),)))
    plain = run_trial(replace(BASINS, optimizer="sgd", learning_rate=BASINS.learning_rate / (2.5 + 0.5)))
    for one, other in zip(damped, plain, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], abs=1e-12)
    assert damped[-1]["train_loss"] < damped[0]["train_loss"] - 0.01


def test_natural_gradients_need_a_circuit():
    with pytest.raises(ConfigurationError, match="Optimizer 'qng' needs a circuit, and this model has none"):
        run_trial(replace(SMALL, model="classical", optimizer="qng"))


# ------------------------------------------------------------------------------------------------------------------- SPSA
def quartic(variables):
    return tf.add_n([tf.reduce_sum(x**2 + 0.3 * x**3) for x in variables]) + variables[0][0, 1] * variables[1][0]


def test_spsas_estimate_is_the_gradient_on_average_and_leaves_the_weights_where_they_were():
    problem = toy_problem(quartic)
    stepper = Stepper(problem, "spsa", 300)
    stepper.reset(1.0, {"perturbation": 0.01}, 0)
    with tf.GradientTape() as tape:
        loss = quartic(problem.variables)
    exact = flat(tape.gradient(loss, problem.variables))

    @tf.function(autograph=False)
    def estimate(number):
        return stepper._by_spsa(tf.zeros((1,), tf.int64), number)

    estimates = []
    for seed in range(1500):
        stepper.seed.assign(seed)
        value, gradients = estimate(tf.constant(0))
        estimates.append(flat(gradients))
        assert float(value) == pytest.approx(float(loss), abs=1e-2)
    spread = np.std(estimates, axis=0) / np.sqrt(len(estimates))
    assert np.abs(np.mean(estimates, axis=0) - exact).max() < 4.5 * spread.max()
    assert spread.max() < 0.1 * np.abs(exact).max()
    assert np.mean(estimates, axis=0) @ exact > 0.99 * np.linalg.norm(np.mean(estimates, axis=0)) * np.linalg.norm(exact)
    np.testing.assert_allclose(flat(problem.variables), flat(START), atol=1e-12)


def test_spsas_directions_are_independent_over_seeds_steps_and_weights():
    problem = toy_problem(lambda variables: tf.add_n([tf.reduce_sum(x) for x in variables]))
    stepper = Stepper(problem, "spsa", 300)
    stepper.reset(1.0, {}, 0)
    directions = {}
    for seed in range(12):
        stepper.seed.assign(seed)
        for number in range(12):
            gradients = flat(stepper._by_spsa(tf.zeros((1,), tf.int64), tf.constant(number))[1])
            # Of a sum, the estimate is the direction times the sum of its signs; where that is 0 nothing can be seen.
            directions[seed, number] = np.sign(gradients) * np.sign(gradients[0])
    seen = {key: signs for key, signs in directions.items() if signs.any()}
    signs = np.array(list(seen.values()))
    assert set(np.unique(signs)) == {-1, 1}
    assert len(np.unique(signs, axis=0)) > 30  # of 93 with a sum, one of two opposite ones each
    neighbours = [(seen[s, n], seen[s + 1, n + 1]) for s, n in seen if (s + 1, n + 1) in seen]
    assert abs(np.mean([one[1:] @ other[1:] / 7 for one, other in neighbours])) < 0.2


def test_spsas_gains_are_pennylanes():
    """a_k and c_k of qml.SPSAOptimizer with its defaults, read off a linear and a quadratic loss."""
    about = OPTIMIZERS["spsa"]
    peer = qml.SPSAOptimizer(maxiter=300)
    linear = toy_problem(lambda variables: tf.reduce_sum(variables[0]), [np.zeros(3)])
    square = toy_problem(lambda variables: tf.reduce_sum(variables[0] ** 2), [np.zeros(3)])
    steppers = [Stepper(problem, "spsa", 300) for problem in (linear, square)]
    for stepper in steppers:
        stepper.reset(about.default_rate, {}, 0)
    for number in (0, 1, 7, 100, 299):
        (gradient,) = steppers[0]._by_spsa(tf.zeros((1,), tf.int64), tf.constant(number))[1]
        decay = abs(gradient.numpy()[0]) / abs(np.sign(gradient.numpy()).sum())
        assert about.default_rate * decay == pytest.approx(peer.a / (peer.A + number + 1) ** peer.alpha, rel=1e-12)
        mean, _ = steppers[1]._by_spsa(tf.zeros((1,), tf.int64), tf.constant(number))
        assert np.sqrt(float(mean) / 3) == pytest.approx(peer.c / (number + 1) ** peer.gamma, rel=1e-12)


def test_spsa_in_the_graphs_loop_is_the_written_out_loop():
    """Both losses at the right places, the weights back in between, every step: against NumPy, with the same signs."""
    config = replace(BASINS, optimizer="spsa", learning_rate=2.0, knobs=(("perturbation", 0.2),), seeds=(6,))
    rows = run_trial(config)
    angles = np.random.default_rng(6).uniform(-np.pi, np.pi, (25, 4))

    def energy(t):
        return -np.mean(np.cos(t) + BASIN_WEIGHT * np.cos(3 * t))

    losses = []
    for number in range(20):
        drawn = tf.random.stateless_uniform((100,), tf.constant([6, number], tf.int64), 0, 2, tf.int64).numpy()
        signs = (2.0 * drawn - 1).reshape(25, 4)
        size = 0.2 / (number + 1) ** 0.101
        ahead, behind = energy(angles + size * signs), energy(angles - size * signs)
        losses.append((ahead + behind) / 2)
        rate = 2.0 * ((number + 1 + 2) / (1 + 2)) ** -0.602
        angles = angles - rate * (ahead - behind) / (2 * size) * signs
        if number % 5 == 4:
            assert rows[(number + 1) // 5]["train_loss"] == pytest.approx(energy(angles) + 1.5, abs=1e-10)
    assert losses_of(rows) == [float(f"{loss:.5g}") for loss in losses]


# ------------------------------------------------------------------------------------------------------------------- rows
def test_rows_are_evaluations_and_hold_the_loss_of_every_step():
    rows = run_trial(replace(SMALL, seeds=(0, 7)))
    assert [(row["seed"], row["step"]) for row in rows] == [(seed, step) for seed in (0, 7) for step in (0, 2, 4, 6, 8)]
    assert [len(json.loads(row["batch_losses"])) for row in rows] == [0, 2, 2, 2, 2] * 2
    assert set(rows[0]) == {"seed", "step", *MEASURES, "n_parameters", "batch_losses"}
    every = run_trial(replace(SMALL, seeds=(7,), every=8))
    assert losses_of(every) == losses_of(rows[5:])
    assert every[-1]["test_loss"] == rows[-1]["test_loss"]


@pytest.mark.parametrize("phase", ["default", "control", "starts"])
def test_other_phases_keep_all_rows_but_no_single_losses(phase):
    tuned, rows = run_trial(SMALL), run_trial(replace(SMALL, phase=phase))
    assert {row["batch_losses"] for row in rows} == {""}
    assert_same([{**row, "batch_losses": ""} for row in tuned], rows)


@pytest.mark.parametrize("phase", ["tuning", "rates"])
@pytest.mark.parametrize(
    ("steps", "every", "kept"), [(60, 3, [0, 15, 30, 45, 60]), (18, 3, [0, 6, 9, 15, 18]), (6, 3, [0, 3, 6]), (3, 3, [0, 3])]
)
def test_phases_of_many_runs_keep_the_quarters_of_a_run(phase, steps, every, kept):
    config = replace(BASINS, steps=steps, every=every)
    rows = run_trial(replace(config, phase=phase))
    assert [row["step"] for row in rows] == kept
    whole = {row["step"]: row for row in run_trial(config)}
    assert_same(rows, [{**whole[step], "batch_losses": ""} for step in kept])


def test_a_plan_goes_from_tuning_to_report_over_its_records(tmp_path):
    """With real trials and real record files, as a sweep drives it."""
    store = RecordStore(study.STUDY, tmp_path)
    generator = study.plan("basins", "hybrid", "momentum", seeds=(0, 1), budget=3)
    asked = [next(generator)]
    while True:
        for config in store.missing(asked[-1]):
            store.write(config, run_trial(config))
        rows = store.read(asked[-1])
        try:
            asked.append(generator.send(rows))
        except StopIteration:
            break
    tuning = store.read(asked[0])
    assert tuning.groupby(["record", "seed"])["step"].agg(list).map(tuple).unique().tolist() == [(0, 75, 150, 225, 300)]
    final = store.read(asked[-2])
    final = final[final["step"] == 300].groupby(["learning_rate", "knobs"])["val_loss"].mean()
    tuned = rows[rows["phase"] == "tuned"]
    assert (tuned["learning_rate"].iloc[0], tuned["knobs"].iloc[0]) == final.idxmin()
    assert sorted(rows["phase"].unique()) == ["default", "rates", "tuned"]
    assert tuned.groupby("seed")["step"].agg(list).map(tuple).unique().tolist() == [tuple(range(0, 301, 15))]


@pytest.mark.parametrize(
    ("problem", "optimizer"),
    [("wine", "sgd"), ("diabetes", "adam"), ("diabetes", "qng"), ("diabetes", "spsa")],
)
def test_a_divergence_gives_rows_of_no_number_and_does_not_stop(problem, optimizer):
    config = config_of(problem, optimizer=optimizer, learning_rate=1e200, steps=12, every=3)
    rows = run_trial(config)
    assert [row["step"] for row in rows] == [0, 3, 6, 9, 12]
    assert np.isfinite([rows[0]["train_loss"], rows[0]["val_score"]]).all()
    for row in rows[2:]:
        assert all(math.isnan(row[name]) for name in MEASURES)
    assert losses_of(rows)[-1] is None
    assert losses_of(rows)[0] is not None
    json.dumps(losses_of(rows), allow_nan=False)


def test_natural_gradients_that_run_away_do_not_stop_the_study():
    """A point of the study's tuning: angles of 1e17 after 24 steps, at which states still have their length."""
    given = {"optimizer": "qng", "learning_rate": 1.76039, "knobs": (("damping", 0.000457193),)}
    rows = run_trial(config_of("diabetes", **given, seeds=(1001, 1002, 1004), steps=30, every=15))
    assert all(math.isfinite(row["val_loss"]) for row in rows)
    assert min(row["val_loss"] for row in rows if row["step"] == 30) > 1e20


def test_a_divergence_does_not_reach_the_next_seed():
    """A step so long that the loss overflows, by an enormous target's seed only: both seeds in one trial."""
    problem = trial._traced(replace(SMALL, learning_rate=1.0)).problem
    load = problem.load

    def spoiled(seed):
        load(seed)
        if seed == 1:
            problem.variables[-1].assign(np.full(3, np.nan))

    object.__setattr__(problem, "load", spoiled)
    try:
        rows = run_trial(replace(SMALL, seeds=(1, 0)))
    finally:
        object.__setattr__(problem, "load", load)
    assert all(math.isnan(row[name]) for row in rows[:5] for name in MEASURES)
    assert_same(rows[5:], run_trial(SMALL))


# ---------------------------------------------------------------------------------------------------------- configurations
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"every": 3}, "every is 3, and must divide steps, which is 8"),
        ({"seeds": ()}, "seeds is empty"),
        ({"seeds": (0, 1, 0)}, "must name every seed once"),
        ({"seeds": (0, -1)}, "seed is -1"),
        ({"optimizer": "adamm"}, "Did you mean 'adam"),
        ({"knobs": (("beta1", 0.9),)}, "Unknown knob of adam 'beta1'. Did you mean 'beta_1'"),
        ({"knobs": (("beta_1", math.nan),)}, "knob beta_1 is nan, and must be a finite number"),
        ({"knobs": (("beta_1", "0.9"),)}, "knob beta_1 is '0.9'"),
        ({"phase": "tune"}, "Did you mean 'tuned'"),
        ({"start": "zero"}, "Unknown start 'zero'"),
        ({"learning_rate": -1.0}, "must be a positive number"),
        ({"model": "quantum"}, "Unknown model 'quantum'"),
    ],
)
def test_a_bad_configuration_cannot_be_made(change, message):
    with pytest.raises(ConfigurationError, match=message):
        replace(SMALL, **change)


def test_settings_are_one_configuration_in_whatever_order_they_are_written():
    one = replace(SMALL, knobs=(("beta_2", 0.9), ("beta_1", 1)))
    assert one == replace(SMALL, knobs=(("beta_1", 1.0), ("beta_2", 0.9)))
