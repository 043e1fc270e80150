"""A GPU and a driver of our own making, to show what the harness refuses. Nothing measured here enters a record."""

import os
import time
from types import SimpleNamespace

NAME = "GPU of a test"
LINGER = 0.02  # seconds that the driver goes on showing a GPU as busy


class NotSupported(Exception):
    pass


class Gpu:
    """Kernels are started at once and done later, as on a real one."""

    def __init__(self):
        self.busy_until, self.kernels, self.memory_mib = 0.0, 0, 0.0

    def launch(self, seconds=0.003):
        self.kernels += 1
        self.memory_mib = 512.0
        self.busy_until = max(self.busy_until, time.perf_counter()) + seconds

    def synchronize(self):
        time.sleep(max(0.0, self.busy_until - time.perf_counter()))

    def busy(self):
        return time.perf_counter() < self.busy_until + LINGER


GPU = Gpu()


def working_arm():
    """A GPU arm without fault."""

    def step():
        GPU.launch()
        return 1.0

    step.synchronize = GPU.synchronize
    step.evidence = lambda: {"devices": ["GPU:0"], "kernels": GPU.kernels, "traffic_bytes": 8.0}
    return step


def driver(gpu, lists_pid=True, tells=True, counts_energy=True, others=False):
    """NVML's interface for `gpu`; `tells` is whether the card gives its utilisation, `others` whether others use it too."""

    def utilisation(handle):
        if not tells:
            raise NotSupported
        return SimpleNamespace(gpu=60 if gpu.busy() or others else 0)

    def energy(handle):
        if not counts_energy:
            raise NotSupported
        return 1000 * 100 * time.perf_counter()  # 100 W, in mJ

    def processes(handle):
        listed = [SimpleNamespace(pid=os.getpid(), usedGpuMemory=int(gpu.memory_mib * 2**20))]
        return listed if lists_pid and gpu.memory_mib else []

    return SimpleNamespace(
        NVMLError=Exception,
        NVMLError_NotSupported=NotSupported,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: 1,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda handle: NAME,
        nvmlSystemGetDriverVersion=lambda: "580.1",
        nvmlDeviceGetComputeRunningProcesses=processes,
        nvmlDeviceGetUtilizationRates=utilisation,
        nvmlDeviceGetTotalEnergyConsumption=energy,
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(used=gpu.memory_mib * 2**20),
    )


def watch(gpu, **how):
    """A watch of `gpu` that does not wait as long as a real driver needs."""
    from hybridbench.measurement.proof import GpuWatch  # not above: it imports pynvml, which may be this GPU's

    return GpuWatch(nvml=driver(gpu, **how), interval=0.002, settle=2 * LINGER, probe=0.02, patience=0.1)
