"""A GPU row needs the driver's word; a GPU that stayed idle gives none."""

import os
import time
from types import SimpleNamespace

import pytest

from hybridbench.errors import BackendError
from hybridbench.measurement.proof import GpuWatch, chosen_index, gpu_facts, require_gpu, visible_gpus


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
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: 2000,
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(total=80 * 2**30, used=2**30),
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
    assert (proof.seen_by, proof.energy_joules) == ("pid", 0.0)
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


def test_every_answer_of_the_driver_is_kept():
    with GpuWatch(nvml=driver(pids=[os.getpid()], utilisation=37), interval=0.001) as seen, seen.during("an arm") as arm:
        time.sleep(0.01)
    assert (arm.utilisation, arm.memory_mib, arm.energy_joules) == (37, 512.0, 0.0)
    assert arm.polls <= len(seen.log)
    assert {phase for _, phase, *_ in seen.log} == {"an arm", ""}


def test_an_error_of_the_driver_in_the_midst_is_not_lost():
    nvml = driver(pids=[os.getpid()], utilisation=37)
    seen = GpuWatch(nvml=nvml, interval=0.001)

    def fall_off(handle):
        raise nvml.NVMLError("GPU is lost")

    with seen:
        answers, nvml.nvmlDeviceGetUtilizationRates = nvml.nvmlDeviceGetUtilizationRates, fall_off
        seen._thread.join(1)
        nvml.nvmlDeviceGetUtilizationRates = answers
    with pytest.raises(BackendError, match=r"stopped answering .*GPU is lost"):
        seen.proof()


@pytest.mark.parametrize(
    ("variables", "names", "index"),
    [({}, ["a", "b"], 0), ({"CUDA_VISIBLE_DEVICES": "1,0"}, ["a", "b"], 1), ({"CUDA_VISIBLE_DEVICES": "GPU-7f"}, ["a"], 0)],
)
def test_the_gpu_that_programs_take_is_the_one_that_is_watched(variables, names, index):
    assert chosen_index(names, variables) == index


@pytest.mark.parametrize(("name", "names"), [("GPU-7f", ["a", "b"]), ("", ["a"])])
def test_where_that_is_unclear_nothing_is_watched(name, names):
    with pytest.raises(BackendError, match=r"which of . GPUs to watch"):
        chosen_index(names, {"CUDA_VISIBLE_DEVICES": name})


def test_facts_of_the_card_name_nobody_and_leave_out_what_is_not_told():
    nvml = driver()
    nvml.NVMLError_NotSupported = nvml.NVMLError

    def not_supported(*_):
        raise nvml.NVMLError("Not Supported")

    nvml.nvmlDeviceGetEnforcedPowerLimit = lambda handle: 700_000
    nvml.nvmlSystemGetCudaDriverVersion = lambda: 13010
    nvml.nvmlDeviceGetCudaComputeCapability = lambda handle: (9, 0)
    for question in ("MaxClockInfo", "ClockInfo", "MemoryBusWidth", "CurrPcieLinkGeneration", "CurrPcieLinkWidth"):
        setattr(nvml, f"nvmlDeviceGet{question}", not_supported)
    for question in ("NumGpuCores", "Temperature", "MigMode"):
        setattr(nvml, f"nvmlDeviceGet{question}", not_supported)
    facts = gpu_facts(nvml)
    assert (facts["name"], facts["driver"], facts["memory_mib"]) == ("GPU of a test", "580.1", 80 * 1024)
    assert (facts["power_limit_watts"], facts["cuda_driver"], facts["compute_capability"]) == (700, "13.1", "9.0")
    assert facts["sm_clock_max_mhz"] is None
    assert not [name for name in facts if "serial" in name or "uuid" in name]


def test_no_gpu_is_one_sentence():
    with pytest.raises(BackendError, match=r"^There is no NVIDIA GPU here \(NVML: Driver Not Loaded\), so nothing ran"):
        require_gpu(driver(broken=True))
