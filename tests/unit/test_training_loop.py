"""The loop, the models and the agreement of gradients."""

import math
from dataclasses import replace

import numpy as np
import pytest

from hybridbench import tasks
from hybridbench.errors import ConfigurationError, TrainingDiverged
from hybridbench.training import agreement, loop, models
from hybridbench.training.config import EnergyConfig, TrainingConfig

SMALL = TrainingConfig("wine", n_qubits=2, n_layers=1, batch_size=16, epochs=2, learning_rate=0.1)


def test_a_history_starts_untrained_and_learns():
    rows = loop.train(replace(SMALL, epochs=6))
    assert [row["epoch"] for row in rows] == list(range(7))
    assert rows[0]["step"] == rows[0]["seconds"] == 0
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert rows[-1]["step"] == 6 * (106 // 16)
    assert all(0 <= row[f"{part}_score"] <= 1 for row in rows for part in ("train", "val", "test"))


def test_the_same_seed_gives_the_same_history_and_another_does_not():
    first, again, other = (loop.train(config) for config in (SMALL, SMALL, replace(SMALL, seed=1)))
    losses = [[row["val_loss"] for row in rows] for rows in (first, again, other)]
    # Threads add in whatever order they finish, so the last bit may differ on a busy machine.
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    assert losses[0] != pytest.approx(losses[2], rel=1e-6)


@pytest.mark.parametrize("optimizer", ["adam", "nadam", "momentum"])
def test_a_run_does_not_depend_on_the_runs_before_it(optimizer):
    """Traced updates are shared: their state has to be as new."""
    config = replace(SMALL, optimizer=optimizer)
    alone = loop.train(config)[-1]["val_loss"]
    loop.train(replace(config, learning_rate=0.5, seed=3))
    assert loop.train(config)[-1]["val_loss"] == pytest.approx(alone, rel=1e-12)


def test_the_loop_equals_keras_fit():
    """One epoch in the loop's order through model.fit gives the loop's weights, by way of the same losses."""
    config = replace(SMALL, epochs=1)
    rows = loop.train(config)
    task = tasks.prepare(config.task, config.n_qubits, config.seed)
    model = models.build_model(config, task, graph=False)
    model.set_weights(models.initial_weights(model, config.seed))
    model.compile(loop.make_optimizer("adam", config.learning_rate), loop.loss_of(task))
    order = np.concatenate(list(loop.batches(len(task.x_train), config.batch_size, np.random.default_rng(config.seed))))
    model.fit(task.x_train[order], task.y_train[order], batch_size=config.batch_size, shuffle=False, verbose=0)
    # Adam divides by the root of squares: where a gradient is rounding error, rounding decides the step.
    assert model.evaluate(task.x_val, task.y_val, verbose=0) == pytest.approx(rows[-1]["val_loss"], abs=1e-7)


def test_divergence_names_step_and_settings_or_is_recorded():
    config = replace(SMALL, task="diabetes", optimizer="sgd", learning_rate=1e200, epochs=3)
    with pytest.raises(TrainingDiverged, match=r"at step \d+ with sgd, learning rate 1e\+200, on diabetes \(seed 0\)"):
        loop.train(config)
    rows = loop.train(config, on_divergence="record")
    assert math.isnan(rows[-1]["val_loss"])
    assert rows[-1]["epoch"] <= 3


def test_regression_is_scored_by_r_squared():
    task = tasks.prepare("diabetes", 2, 0)
    assert loop.score(task, task.y_test[:, None], task.y_test) == 1
    assert loop.score(task, np.full((len(task.y_test), 1), task.y_test.mean()), task.y_test) == pytest.approx(0)


def test_models_have_as_nearly_as_possible_the_same_number_of_parameters():
    for name, n_qubits in (("digits_3v5", 4), ("digits", 4), ("wine", 4), ("diabetes", 3)):
        task = tasks.prepare(name, n_qubits, 0)
        config = TrainingConfig(name, n_qubits=n_qubits)
        counts = {m: models.build_model(replace(config, model=m), task).count_params() for m in loop_models()}
        assert counts["hybrid"] == counts["separable"]
        step = n_qubits + 1 + models.n_outputs(task)
        assert abs(counts["classical"] - counts["hybrid"]) <= step / 2 + 1


def loop_models():
    return ("hybrid", "separable", "classical")


def test_the_twin_has_no_two_qubit_gate():
    assert models.circuit_of(replace(SMALL, model="separable")).entangled is False
    assert models.circuit_of(SMALL).entangled is True


def test_initial_weights_are_decided_by_the_seed():
    task = tasks.prepare("wine", 2, 0)
    model = models.build_model(SMALL, task)
    first, again, other = (models.initial_weights(model, seed) for seed in (5, 5, 6))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
    assert first[0].min() >= 0
    assert np.pi < first[0].max() < 2 * np.pi
    assert not first[-1].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer": "adamm"}, "Did you mean 'adam"),
        ({"model": "hybird"}, "Did you mean 'hybrid'"),
        ({"learning_rate": 0.0}, "must be a positive number"),
        ({"learning_rate": math.nan}, "must be a positive number"),
        ({"batch_size": 0}, "whole number of at least 1"),
        ({"epochs": 1.5}, "whole number of at least 1"),
        ({"precision": "float16"}, "Unknown precision"),
    ],
)
def test_a_bad_configuration_cannot_be_made(change, message):
    with pytest.raises(ConfigurationError, match=message):
        replace(SMALL, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "wines"}, "Did you mean 'wine'"),
        ({"ansatz": "strong"}, "strongly_entangling"),
        ({"batch_size": 1000}, "training part of wine has 106"),
        ({"n_qubits": 14}, "13 feature columns"),
    ],
)
def test_a_configuration_that_does_not_fit_its_task_is_named(change, message):
    with pytest.raises(ConfigurationError, match=message):
        loop.train(replace(SMALL, **change))


def test_one_and_one_point_zero_name_the_same_record():
    assert replace(SMALL, learning_rate=1) == replace(SMALL, learning_rate=1.0)
    assert isinstance(replace(SMALL, learning_rate=1).learning_rate, float)


def test_the_energy_starts_at_its_closed_form_and_is_maximised():
    rows = loop.maximise_energy(EnergyConfig("adam", 0.1, seed=0, steps=30))
    theta = np.random.default_rng(0).normal(size=(100, 8))
    assert rows[0]["energy"] == pytest.approx(np.cos(theta[:, 1]).mean(), abs=1e-12)
    assert rows[-1]["energy"] > 0.99
    assert len(rows) == 31


def test_gradients_agree_and_the_comparison_can_fail(monkeypatch):
    config = agreement.AgreementConfig("lightning.qubit/adjoint", n_qubits=2, n_layers=1, batch_size=2)
    found = {row["quantity"]: row["max_abs_difference"] for row in agreement.compare(config)}
    assert set(found) == {"value", "gradient_weights", "gradient_inputs"}
    assert max(found.values()) < 1e-12
    shift = agreement.compare(replace(config, method="default.qubit/parameter-shift"))
    assert {row["quantity"] for row in shift} == {"value", "gradient_weights"}
    honest = agreement.value_and_gradients
    monkeypatch.setattr(
        agreement,
        "value_and_gradients",
        lambda config, method: {k: v + (method != agreement.REFERENCE) for k, v in honest(config, method).items()},
    )
    assert min(row["max_abs_difference"] for row in agreement.compare(config)) > 0.5


def test_a_regressions_loss_is_the_mean_squared_error():
    config = TrainingConfig("diabetes", n_qubits=2, n_layers=1, batch_size=32, epochs=1, max_samples=100)
    task = tasks.prepare("diabetes", 2, 0, 100)
    for row in loop.train(config):
        # Of a standardised target, R squared fixes the mean squared error.
        expected = (1 - row["val_score"]) * np.var(task.y_val)
        assert row["val_loss"] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n_qubits", [2, 3])
def test_amplitude_embedding_is_trained_with_padding(n_qubits):
    rows = loop.train(replace(SMALL, embedding="amplitude", n_qubits=n_qubits, epochs=3))
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    config = replace(SMALL, embedding="amplitude", n_qubits=n_qubits)
    task = tasks.prepare("wine", n_qubits, 0)
    traced, shipped = (models.build_model(config, task, graph) for graph in (True, False))
    shipped.set_weights(traced.get_weights())
    graph = loop.tf.function(traced)
    assert np.allclose(graph(task.x_val).numpy(), shipped(loop.tf.constant(task.x_val)).numpy(), atol=1e-12)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, True])
def test_a_seed_that_numpy_cannot_take_is_refused_at_once(seed):
    with pytest.raises(ConfigurationError, match="seed is"):
        EnergyConfig("adam", 0.1, seed)
    with pytest.raises(ConfigurationError, match="seed is"):
        replace(SMALL, seed=seed)
