"""The arms of the GPU study on the CPU: what they compute, what they tell, and that they refuse without a GPU."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from hybridbench.errors import BackendError, ConfigurationError
from hybridbench.measurement import evidence
from hybridbench.measurement.proof import visible_gpus
from hybridbench.measurement.timing import Arm, TimingCell, time_in_process
from hybridbench.training import engine_arms, steps

CPU = "/job:localhost/replica:0/task:0/device:CPU:0"


@pytest.mark.parametrize("circuit", engine_arms.CIRCUITS)
@pytest.mark.parametrize("precision", ["complex64", "complex128"])
def test_the_engines_step_goes_down_its_gradient(circuit, precision):
    step = engine_arms.engine_step(3, 2, 5, "cpu", precision, circuit)
    values, d_shared, d_sample = step()
    assert values.shape == (5, 1 if circuit == "original" else 3)
    assert d_sample.shape == (5, 3)
    assert (d_shared.size == 0) == (circuit == "original")
    program, shared, sample, cotangent = engine_arms.program_and_numbers(circuit, 3, 2, 5)
    moved = engine_arms.cpu.expectations(program, shared - 1e-3 * d_shared, sample - 1e-3 * d_sample, precision="complex128")
    slope = np.sum((moved - values) * cotangent) / -1e-3
    assert slope == pytest.approx(np.sum(d_shared**2) + np.sum(d_sample**2), rel=0.01)
    assert step.evidence() == {"devices": ["CPU"]}


def test_losses_tell_a_wrong_gradient_apart(monkeypatch):
    """Both precisions do the same work; an arm whose gradient is half of the right one does not."""
    calls = {precision: engine_arms.engine_step(3, 1, 4, "cpu", precision) for precision in engine_arms.TOLERANCE}
    losses = evidence.declared_losses(calls)
    evidence.check_same_work(losses)
    right = engine_arms.cpu.expectations_vjp
    monkeypatch.setattr(
        engine_arms.cpu, "expectations_vjp", lambda *a, **k: tuple(None if g is None else g / 2 for g in right(*a, **k))
    )
    wrong = evidence.declared_losses({"wrong": engine_arms.engine_step(3, 1, 4)})
    with pytest.raises(evidence.TimingError, match="after one step"):
        evidence.check_same_work({**losses, **wrong})


def test_the_check_against_default_qubit_holds_for_the_cpu_engine_and_finds_a_fault(monkeypatch):
    rows = engine_arms.differences("cpu", ((2, 1, 3), (4, 2, 1)))
    assert len(rows) == 2 * 2 * 3
    assert all(row["max_abs_difference"] <= row["tolerance"] for row in rows)
    assert {row["quantity"] for row in rows} == {"value", "gradient_inputs", "gradient_weights"}
    right = engine_arms._values_and_gradients

    def wrong(name, *arguments, **options):
        found = right(name, *arguments, **options)
        return {key: value + 1e-3 * (name != "default.qubit") for key, value in found.items()}

    monkeypatch.setattr(engine_arms, "_values_and_gradients", wrong)
    assert all(row["max_abs_difference"] > row["tolerance"] for row in engine_arms.differences("cpu", ((2, 1, 3),)))


def test_the_engines_arms_need_no_tensorflow():
    """Part "engine" runs where TensorFlow is not installed."""
    program = (
        "import sys; sys.modules['tensorflow'] = sys.modules['tf_keras'] = None\n"
        "from hybridbench.training import engine_arms, gpu\n"
        "from hybridbench.measurement import machine\n"
        "engine_arms.engine_step(2, 1, 2)()\n"
        "machine.provenance()\n"
        "assert gpu.part('engine').cells\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(bool(visible_gpus()[0]), reason="this machine has a GPU")
@pytest.mark.parametrize("engine", ["cuda", "cuda, one call"])
def test_the_cuda_arms_are_refused_without_a_gpu(engine):
    with pytest.raises(BackendError):
        engine_arms.engine_step(2, 1, 2, engine)
    with pytest.raises(BackendError):
        engine_arms.copy_step()


def test_the_cuda_arms_do_the_cpu_arms_work_on_the_simulator_and_count_their_kernels():
    """Numba's simulator runs the kernels on the CPU: what is computed can be tested without a GPU, no time can be taken."""
    program = """
        from hybridbench.measurement import evidence
        from hybridbench.training import engine_arms, gpu
        for circuit in engine_arms.CIRCUITS:
            made = {engine: engine_arms.engine_step(2, 1, 3, engine, circuit=circuit) for engine in ("cpu", "cuda")}
            evidence.check_same_work(evidence.declared_losses(made))
        before = made["cuda"].evidence()
        made["cuda"]()
        made["cuda"].synchronize()
        after = made["cuda"].evidence()
        assert after["kernels"] > before["kernels"] > 0
        assert after["traffic_bytes"] > 0
        try:
            evidence.gathered("gpu", True, made["cuda"])
        except evidence.TimingError as error:
            assert "which is no GPU" in str(error), error
        else:
            raise SystemExit("the simulator passed for a GPU")
        rows = engine_arms.differences("cuda", ((2, 1, 3),))
        gpu.judge({"differences": rows, "before": {"launches": 0}, "after": {"launches": after["kernels"]}})
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_tensorflow_arms_tell_where_they_are_and_what_they_compiled():
    eager = steps.keras_step(2, 1, 4)
    eager(), eager()
    graph = steps.keras_step(2, 1, 4, mode="graph")
    graph(), graph()
    assert eager.evidence() == {"devices": [CPU], "compilations": 0}
    traced = graph.evidence()
    assert traced["devices"] == [CPU]
    assert traced["compilations"] > 0
    graph()
    assert graph.evidence() == traced
    evidence.check_same_work(evidence.declared_losses({"eager": eager, "graph": graph}))
    assert len(eager.losses()) == 2


def test_the_original_workload_declares_its_losses():
    broadcast = steps.original_step("default.qubit", "broadcast", 3, 4)
    loop = steps.original_step("lightning.qubit", "loop", 3, 4)
    sgd = steps.original_step("default.qubit", "broadcast", 3, 4, "sgd")
    calls = {"broadcast": broadcast, "loop": loop, "sgd": sgd}
    for call in calls.values():
        call(), call()
    assert broadcast.evidence()["devices"] == [CPU]
    losses = evidence.declared_losses(calls)
    assert [len(found) for found in losses.values()] == [2, 2, 1]
    evidence.check_same_work(losses)


@pytest.mark.parametrize("layer", ["shipped, lightning.qubit", "compiled"])
def test_a_layers_step_is_as_many_as_it_says(layer):
    step = steps.layer_step(2, 1, 4, layer, steps=1 if layer.startswith("shipped") else 3, floatx="float64")
    step(), step()
    traced = step.evidence()
    assert traced["devices"] == [CPU]
    step()
    assert step.evidence() == traced
    assert len(step.losses()) == 2
    assert step.losses()[1] < step.losses()[0]


def test_all_layers_do_the_same_work():
    calls = {
        "shipped": steps.layer_step(2, 1, 4, "shipped, lightning.qubit", floatx="float64"),
        "compiled": steps.layer_step(2, 1, 4, "compiled", steps=3, floatx="float64"),
    }
    for call in calls.values():
        call()
    evidence.check_same_work(evidence.declared_losses(calls))


def test_steps_of_a_call_are_divided_out():
    arm = Arm("compiled", "hybridbench.training.steps:layer_step", {"layer": "compiled", "steps": 4})
    size = {"n_qubits": 2, "n_layers": 1, "batch_size": 4}
    cell = TimingCell("layers", 2, 1, 4, (Arm(arm.name, arm.factory, {**arm.arguments, **size}),), warmup=1)
    rows = time_in_process(cell)
    assert {row["part"] for row in rows} == {"step"}
    assert len(rows) == 30


def test_devices_and_names_that_are_not_there_are_errors():
    for make in (
        lambda: steps.original_step("default.qubit", "broadcast", 2, 2, device="GPU:0"),
        lambda: steps.layer_step(2, 1, 4, "compiled", device="GPU:0"),
    ):
        with pytest.raises(BackendError, match="sees no device GPU:0"):
            make()
    with pytest.raises(ConfigurationError, match="Unknown route"):
        steps.layer_step(2, 1, 4, "fast")
    with pytest.raises(ConfigurationError, match="Unknown engine"):
        engine_arms.engine_step(2, 1, 2, "gpu")
