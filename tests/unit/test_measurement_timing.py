"""The timing harness: its rules, and that breaking one is refused."""

import os
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from hybridbench.errors import ConfigurationError
from hybridbench.measurement import child, records, timing
from hybridbench.measurement.timing import Arm, TimingCell

# In a fresh process this file is found from the repository root; in this one it has the name that pytest gave it.
FRESH = "tests.unit.test_measurement_timing"
CALLS = []


def counting(name="gpu"):
    def call():
        CALLS.append(name)
        return 1.0

    return call


def lazy():
    return lambda: object()


def parts(whole=True):
    given = {"a": 0.25, "b": 0.5}
    return lambda: {"step": 0.75, **given} if whole else given


def settings(parent):
    """Clocks that tell what the process found: its threads, whether TensorFlow may see a GPU, whether it is a new one."""
    threads = {int(os.environ[name]) for name in child.THREAD_VARIABLES}
    found = {"threads": max(threads), "gpu": int(os.environ["HYBRIDBENCH_TF_GPU"]), "fresh": int(os.getpid() != parent)}
    assert len(threads) == 1
    return lambda: {"step": 1.0, **found}


def sleeping():
    time.sleep(30)


def failing():
    raise ValueError("no such circuit")


def lazy_later():
    results = iter([1.0] * 10)
    return lambda: next(results, object())


def hidden():
    return lambda: np.array([object()], dtype=object)


def cell(*arms, **more):
    return TimingCell("test", 2, 1, 1, tuple(arms), **more)


def arm(name, function, module=__name__, **arguments):
    return Arm(name, f"{module}:{function.__name__}", arguments)


def test_every_sample_calls_every_arm_once_in_changing_order():
    CALLS.clear()
    arms = [Arm(name, f"{__name__}:counting", {"name": name}) for name in "abc"]
    table = pd.DataFrame(timing.time_in_process(cell(*arms, samples=30, warmup=2)))
    assert table.groupby("arm").size().tolist() == [30, 30, 30]
    timed = CALLS[-90:]
    rounds = [timed[at : at + 3] for at in range(0, 90, 3)]
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1
    # one throw-away call of the first arm, a first call each, two warm-up calls each
    assert CALLS[: len(CALLS) - 90].count("a") == 4
    assert CALLS[: len(CALLS) - 90].count("b") == 3


def test_a_result_that_may_not_be_computed_yet_is_refused():
    with pytest.raises(timing.TimingError, match="must return numbers"):
        timing.time_in_process(cell(arm("lazy", lazy)))


@pytest.mark.parametrize("factory", [lazy_later, hidden])
def test_every_result_is_looked_at_and_no_array_hides_another_object(factory):
    with pytest.raises(timing.TimingError, match="must return numbers"):
        timing.time_in_process(cell(arm("sly", factory)))


def test_parts_need_their_whole():
    table = pd.DataFrame(timing.time_in_process(cell(arm("parts", parts))))
    assert table.groupby("part")["seconds"].first().to_dict() == {"a": 0.25, "b": 0.5, "step": 0.75}
    with pytest.raises(timing.TimingError, match="not the whole"):
        timing.time_in_process(cell(arm("parts", parts, whole=False)))


def test_the_process_is_fresh_its_threads_are_fixed_and_gpus_are_hidden():
    rows, proof = timing.measure(cell(arm("settings", settings, FRESH, parent=os.getpid()), threads=1))
    found = pd.DataFrame(rows).groupby("part")["seconds"].first()
    assert proof is None
    assert found[["threads", "gpu", "fresh"]].tolist() == [1, 0, 1]


def test_what_takes_too_long_is_ended_and_kept_nowhere(tmp_path):
    with pytest.raises(child.TimeLimitReached, match=r"stopped: no answer after 1 s; nothing of it was kept"):
        timing.measure(cell(arm("slow", sleeping, FRESH)), limit=1.0, log=tmp_path / "log")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("device", "seen"), [("GPU:0", "1"), ("CPU:0", "0")])
def test_tensorflow_sees_a_gpu_only_where_a_gpu_arm_names_it(device, seen):
    """Beside lightning.gpu, whose tensors are on the CPU, TensorFlow would take half of the GPU's memory."""
    beside = cell(arm("cpu", counting), replace(arm("gpu", counting, device=device), gpu=True))
    assert timing._environment(beside)["HYBRIDBENCH_TF_GPU"] == seen
    assert timing._environment(cell(arm("cpu", counting, device="GPU:0")))["HYBRIDBENCH_TF_GPU"] == "0"


def test_arms_and_cells_keep_the_names_of_their_records():
    """What is measured stays measured: a new field of `Arm` or `TimingCell` would rename every record."""
    given = TimingCell("test", 2, 1, 1, (Arm("a", "m:f", {"x": 1}), Arm("b", "m:g", gpu=True)))
    assert records.config_hash(given) == "fe2ad956dcfd3c2b"


def test_a_failing_arm_is_reported_with_its_reason():
    with pytest.raises(timing.TimingError, match=r"Timing of cell 'test' at 2 qubits failed: .*no such circuit"):
        timing.measure(cell(arm("failing", failing, FRESH)))


def test_a_gpu_arm_without_a_gpu_is_refused():
    from hybridbench.measurement.proof import visible_gpus

    if visible_gpus()[0]:
        pytest.skip("this machine has a GPU")
    with pytest.raises(timing.TimingError, match="No GPU 0 to prove the run on"):
        timing.measure(cell(replace(arm("gpu", counting, FRESH), gpu=True)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 29}, "at least 30"),
        ({"threads": 0}, "may use 1 to"),
        ({"threads": 100000}, "may use 1 to"),
        ({"arms": ()}, "names of their own"),
        ({"arms": (Arm("a", "x:y"), Arm("a", "x:z"))}, "names of their own"),
    ],
)
def test_a_cell_that_breaks_a_rule_cannot_be_made(change, message):
    with pytest.raises(ConfigurationError, match=message):
        replace(cell(arm("a", lazy)), **change)
