"""A GPU row needs the driver's word; a GPU that stayed idle gives none."""

import os
import time
from types import SimpleNamespace

import pytest

from hybridbench.errors import BackendError
from hybridbench.measurement.proof import GpuWatch, visible_gpus


def driver(pids=(), utilisation=0, count=1, broken=False):
    class Error(Exception):
        pass

    def init():
        if broken:
            raise Error("Driver Not Loaded")

    processes = [SimpleNamespace(pid=pid, usedGpuMemory=512 * 2**20) for pid in pids]
    return SimpleNamespace(
        NVMLError=Error,
        nvmlInit=init,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: count,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda handle: "GPU of a test",
        nvmlSystemGetDriverVersion=lambda: "580.1",
        nvmlDeviceGetComputeRunningProcesses=lambda handle: processes,
        nvmlDeviceGetUtilizationRates=lambda handle: SimpleNamespace(gpu=utilisation),
    )


def watch(nvml):
    with GpuWatch(nvml=nvml, interval=0.001) as seen:
        time.sleep(0.01)
    return seen


def test_a_process_at_work_is_proven():
    proof = watch(driver(pids=[os.getpid()], utilisation=37)).proof()
    assert (proof.gpu, proof.pid_seen, proof.process_memory_mib, proof.utilisation_max_percent) == (
        "GPU of a test",
        True,
        512.0,
        37,
    )
    assert proof.polls > 1
    assert proof.as_dict()["driver"] == "580.1"


@pytest.mark.parametrize(
    "nvml",
    [driver(), driver(pids=[os.getpid()]), driver(pids=[1], utilisation=99)],
    ids=["idle", "no work", "another's work"],
)
def test_without_evidence_the_row_is_refused(nvml):
    with pytest.raises(BackendError, match="No proof that GPU of a test did the work"):
        watch(nvml).proof()


@pytest.mark.parametrize(("nvml", "reason"), [(driver(broken=True), "Driver Not Loaded"), (driver(count=0), "lists no GPU")])
def test_no_gpu_is_said_with_the_drivers_reason(nvml, reason):
    assert visible_gpus(nvml)[0] == []
    with pytest.raises(BackendError, match=reason), GpuWatch(nvml=nvml):
        pass
