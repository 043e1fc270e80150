"""Proof that a GPU did the work.

TensorFlow and PennyLane fall back to the CPU without a word. A row counts as a GPU row only with what the driver itself
(NVML) saw while it ran: this process on that GPU, the memory it held there, and the GPU's utilisation.
"""

from __future__ import annotations

import os
import threading
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any

import pynvml

from hybridbench.errors import BackendError


@dataclass(frozen=True)
class DeviceProof:
    """What NVML saw of this process while the timed code ran."""

    gpu: str  #: name of the GPU
    driver: str  #: driver version
    pid_seen: bool  #: this process was on the GPU's list of compute processes
    process_memory_mib: float  #: most memory that this process held on the GPU, MiB
    utilisation_max_percent: int  #: highest utilisation seen, percent
    polls: int  #: how often NVML was asked

    def as_dict(self) -> dict[str, Any]:
        """The proof as plain values, for a record."""
        return asdict(self)


def visible_gpus(nvml: Any = pynvml) -> tuple[list[str], str, str]:
    """Names of the NVIDIA GPUs, the driver version, and, where there are none, the driver's reason."""
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return [], "", f"NVML: {error}"
    try:
        names = [nvml.nvmlDeviceGetName(nvml.nvmlDeviceGetHandleByIndex(i)) for i in range(nvml.nvmlDeviceGetCount())]
        return names, nvml.nvmlSystemGetDriverVersion(), "" if names else "NVML: the driver lists no GPU"
    finally:
        nvml.nvmlShutdown()


class GpuWatch:
    """Watch one GPU while code runs; `proof()` then says what was seen, or raises.

    Use as a context manager around the timed code. Raises BackendError on entry where there is no GPU to watch.
    """

    def __init__(self, index: int = 0, interval: float = 0.02, nvml: Any = pynvml) -> None:
        self._index, self._interval, self._nvml = index, interval, nvml
        self._stop = threading.Event()
        self._memory = 0.0
        self._utilisation = 0
        self._polls = 0
        self._seen = False

    def __enter__(self) -> GpuWatch:
        names, self._driver, reason = visible_gpus(self._nvml)
        if self._index >= len(names):
            raise BackendError(f"No GPU {self._index} to prove the run on ({reason or f'{len(names)} found'}).")
        self._name = names[self._index]
        self._nvml.nvmlInit()
        self._handle = self._nvml.nvmlDeviceGetHandleByIndex(self._index)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        self._poll()
        self._nvml.nvmlShutdown()

    def _watch(self) -> None:
        while not self._stop.wait(self._interval):
            self._poll()

    def _poll(self) -> None:
        self._polls += 1
        for process in self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle):
            if process.pid == os.getpid():
                self._seen = True
                self._memory = max(self._memory, (process.usedGpuMemory or 0) / 2**20)
        self._utilisation = max(self._utilisation, self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu)

    def proof(self) -> DeviceProof:
        """What was seen.

        Raises:
            BackendError: this process never appeared on the GPU, or the GPU stayed idle: then the CPU did the work.
        """
        if not self._seen or self._utilisation == 0:
            raise BackendError(
                f"No proof that {self._name} did the work: process seen {self._seen}, utilisation at most "
                f"{self._utilisation} % in {self._polls} polls. The row is refused; check that the framework found the GPU."
            )
        return DeviceProof(self._name, self._driver, True, round(self._memory, 1), int(self._utilisation), self._polls)
