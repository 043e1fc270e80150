"""The arms of the timing cells do what their names say."""

import numpy as np
import pytest

from hybridbench.errors import BackendError, ConfigurationError
from hybridbench.training import steps
from hybridbench.training.optimizers import OPTIMIZERS


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


def test_optimizer_arms_share_gradients_and_not_weights():
    first, second = (steps.optimizer_step(2, 1, 4, name, 0.1) for name in ("sgd", "adam"))
    assert first()[0] == second()[0]
    assert not np.allclose(first()[1], second()[1])


def test_cells_name_their_arms():
    cell = steps.optimizers_cell(2, 1, 4, list(OPTIMIZERS))
    assert [arm.name for arm in cell.arms] == [*OPTIMIZERS, "adam, lr 0.001", "adam, lr 0.1"]
    assert [arm.gpu for arm in steps.gpu_cell(2, 1, 4, ["lightning.gpu/adjoint"]).arms] == [False, False, True]
    assert [arm.gpu for arm in steps.methods_cell(2, 1, 4, ["lightning.qubit/adjoint", "lightning.gpu/adjoint"]).arms] == [
        False,
        True,
    ]
    assert [arm.gpu for arm in steps.parts_cell(2, 1, 4, ["lightning.gpu/adjoint"]).arms] == [True]
    assert [arm.name for arm in steps.methods_cell(2, 1, 4, ["lightning.qubit/adjoint"]).arms] == ["lightning.qubit/adjoint"]


def test_a_device_that_is_not_there_is_an_error():
    with pytest.raises(BackendError, match="sees no device GPU:0"):
        steps.keras_step(2, 1, 4, device="GPU:0")
    with pytest.raises(ConfigurationError, match="Unknown mode"):
        steps.keras_step(2, 1, 4, mode="compiled")
