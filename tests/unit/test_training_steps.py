"""The arms of the timing cells do what their names say."""

import numpy as np
import pytest

from hybridbench.errors import BackendError, ConfigurationError, MemoryEstimateError
from hybridbench.measurement.timing import time_in_process
from hybridbench.training import steps, trial
from hybridbench.training.config import TrialConfig
from hybridbench.training.optimizers import OPTIMIZERS, make_optimizer
from hybridbench.training.trial import Stepper


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_a_keras_step_trains(mode):
    step = steps.keras_step(2, 1, 4, mode=mode)
    losses = [step()[0] for _ in range(8)]
    assert losses[-1] < losses[0]


def test_eager_and_graph_and_lightning_take_the_same_steps():
    makes = [{}, {"mode": "graph"}, {"backend": "lightning.qubit", "diff_method": "adjoint"}]
    paths = [[float(step()[0]) for _ in range(3)] for step in (steps.keras_step(2, 1, 4, **make) for make in makes)]
    np.testing.assert_allclose(paths[1], paths[0], atol=1e-9)
    np.testing.assert_allclose(paths[2], paths[0], atol=1e-9)


def test_the_pieces_of_a_step_add_up_to_it():
    parts = steps.step_parts(2, 1, 4, "default.qubit", "backprop")()
    assert sum(value for name, value in parts.items() if name != "step") == pytest.approx(parts["step"])
    assert all(value > 0 for name, value in parts.items() if name != "python")


def test_taking_a_step_apart_gives_the_same_update():
    """Two whole steps by parts leave the weights where four Keras steps leave them (each call does both)."""
    whole = steps.keras_step(2, 1, 4)
    path = [whole()[1] for _ in range(4)]
    model = steps.step_model
    made = []
    steps.step_model = lambda *args, **kwargs: made.append(model(*args, **kwargs)) or made[-1]
    try:
        by_parts = steps.step_parts(2, 1, 4, "default.qubit", "backprop")
    finally:
        steps.step_model = model
    by_parts()
    by_parts()
    np.testing.assert_allclose(made[0].trainable_variables[-1].numpy(), path[-1], atol=1e-12)


def test_loop_and_broadcast_give_the_same_gradient():
    loop, broadcast = (steps.batching_step(2, 1, 3, mode)() for mode in ("loop", "broadcast"))
    np.testing.assert_allclose(loop, broadcast, atol=1e-12)


def test_the_original_workload_is_the_same_on_both_routes():
    made = {"n_qubits": 3, "batch_size": 4}
    broadcast = steps.original_step("default.qubit", "broadcast", **made)()
    loop = steps.original_step("lightning.qubit", "loop", **made)()
    np.testing.assert_allclose(broadcast[0], loop[0], atol=1e-12)
    np.testing.assert_allclose(broadcast[1], loop[1], atol=1e-9)


@pytest.mark.parametrize("name", ["adam", "nadam", "qng", "spsa"])
def test_an_optimizer_arm_takes_the_steps_of_a_trial(name, monkeypatch):
    """After every call the weights are those that a trial of as many steps ends with."""
    made = []
    monkeypatch.setattr(steps, "Stepper", lambda *args: made.append(Stepper(*args)) or made[-1])
    step = steps.optimizer_step(2, 1, 8, name, 0.05)
    step()
    assert list(step()) == ["step"]
    given = {"n_qubits": 2, "n_layers": 1, "batch_size": 8}
    config = TrialConfig("digits_3v5", "hybrid", name, 0.05, steps=steps.TRIAL_STEPS, **given)
    monkeypatch.setattr(trial, "Stepper", lambda *args: made.append(Stepper(*args)) or made[-1])
    trial._traced.cache_clear()
    rows = trial.run_trial(config)
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    for here, there in zip(*(stepper.problem.variables for stepper in made), strict=True):
        np.testing.assert_allclose(here.numpy(), there.numpy(), atol=1e-9)


@pytest.mark.parametrize("name", ["adam", "fused_adam"])
def test_an_update_moves_every_parameter_as_adam_does(name, monkeypatch):
    """By the same gradient g again and again, Adam's step is the learning rate against g's sign, whatever its size."""
    built = []

    def make(name, learning_rate):
        optimizer = make_optimizer(name, learning_rate)
        build = optimizer.build
        optimizer.build = lambda variables: built.append(variables) or build(variables)
        return optimizer

    monkeypatch.setattr(steps, "make_optimizer", make)
    clocked = steps.update_step(21, name)()
    assert list(clocked) == ["step"]
    assert clocked["step"] > 0
    variables = built[0]
    assert len(variables) == steps.N_VARIABLES
    gradients = np.random.default_rng(0).normal(size=21)
    two_calls = -2 * steps.TRIAL_STEPS * 0.001 * np.sign(gradients)
    np.testing.assert_allclose(np.concatenate([variable.numpy() for variable in variables]), two_calls, rtol=1e-4)


def test_the_update_cell_runs_for_every_size():
    cell = steps.update_cell([10, 1000])
    assert [arm.name for arm in cell.arms] == ["adam, 10", "fused_adam, 10", "adam, 1000", "fused_adam, 1000"]
    assert {row["part"] for row in time_in_process(cell)} == {"step"}


def test_updates_that_do_not_fit_are_refused(monkeypatch):
    with pytest.raises(ConfigurationError, match="do not fill 8 variables"):
        steps.update_cell([1000, 7])
    monkeypatch.setattr(steps, "available_memory_bytes", lambda: 2**30)
    steps.update_cell([1_000_000])
    with pytest.raises(MemoryEstimateError, match=r"10000000 parameters need about 1\.\d+ GiB"):
        steps.update_cell([10, 10_000_000])


def test_cells_name_their_arms():
    cell = steps.optimizers_cell(2, 1, 4, list(OPTIMIZERS))
    assert [arm.name for arm in cell.arms] == [*OPTIMIZERS, "adam, lr 0.001", "adam, lr 0.1"]
    assert [arm.gpu for arm in steps.methods_cell(2, 1, 4, ["lightning.qubit/adjoint", "lightning.gpu/adjoint"]).arms] == [
        False,
        True,
    ]
    assert [arm.gpu for arm in steps.parts_cell(2, 1, 4, ["lightning.gpu/adjoint"]).arms] == [True]
    assert [arm.name for arm in steps.methods_cell(2, 1, 4, ["lightning.qubit/adjoint"]).arms] == ["lightning.qubit/adjoint"]


def test_the_frontier_is_timed_with_both_workloads_at_the_width_asked_for():
    cells = steps.frontier_cells(3, 1, warmup=1)
    assert [(cell.cell, cell.n_qubits, cell.batch_size) for cell in cells] == [("methods", 3, 1), ("original", 3, 2)]
    for cell in cells:
        (arm,) = cell.arms
        assert (arm.arguments["n_qubits"], arm.arguments["batch_size"]) == (3, cell.batch_size)
        assert {row["part"] for row in time_in_process(cell)} == {"step"}


def test_a_device_that_is_not_there_is_an_error():
    with pytest.raises(BackendError, match="sees no device GPU:0"):
        steps.keras_step(2, 1, 4, device="GPU:0")
    with pytest.raises(ConfigurationError, match="Unknown mode"):
        steps.keras_step(2, 1, 4, mode="compiled")
