"""Proof that a GPU did the work.

TensorFlow and PennyLane fall back to the CPU without a word. A row counts as a GPU row only with what the driver itself
(NVML) saw while it ran: this process on that GPU, the memory it held there, and the GPU's utilisation, for the whole run and
for every arm while it ran alone.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import pynvml

from hybridbench.errors import BackendError

SETTLE_SECONDS = 1.2  #: the driver's utilisation is that of up to the last second
IDLE_SECONDS = 0.2
IDLE_MARGIN = 2  #: percentage points above the idle GPU that a CPU arm may seem to use
SLOW_INTERVAL = 0.25  #: seconds between two questions while samples are taken, so that asking does not disturb them
LOG = Path("gpu", "proof.jsonl")  #: in the build folder: every answer of the driver, one line for each record
HIDDEN_MIB = 64.0  #: where the driver hides all processes, a process shows by at least so much more memory in use


@dataclass(frozen=True)
class DeviceProof:
    """What NVML saw of this process while the timed code ran."""

    gpu: str  #: name of the GPU
    driver: str  #: driver version
    pid_seen: bool  #: this process was on the GPU's list of compute processes under its own id
    seen_by: str  #: "pid"; "new process" or "memory" where the driver gives other ids, or none, as in containers
    process_memory_mib: float  #: most memory that this process held on the GPU, MiB
    utilisation_max_percent: int | None  #: highest utilisation seen, percent; None where the card does not tell
    energy_joules: float | None  #: energy that the GPU drew meanwhile, J; None where the card does not count it
    idle_watts: float | None  #: what it drew just before, while nothing ran, W
    seconds: float  #: how long it was watched
    polls: int  #: how often NVML was asked
    arms: Mapping[str, Any] = field(default_factory=dict)  #: for every arm what was seen while it ran alone

    def as_dict(self) -> dict[str, Any]:
        """The proof as plain values, for a record."""
        return asdict(self)


@dataclass
class Seen:
    """What NVML saw from one moment to another."""

    begin: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0
    memory_mib: float = 0.0  #: most memory of this process
    utilisation: int | None = None  #: highest, percent; None where the card does not tell
    energy_joules: float | None = None  #: of the whole GPU; None where the card does not count it
    polls: int = 0


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


def require_gpu(nvml: Any = pynvml) -> list[str]:
    """Names of the NVIDIA GPUs, at least one.

    Raises:
        BackendError: there is none; says what the driver says.
    """
    names, _, reason = visible_gpus(nvml)
    if not names:
        raise BackendError(
            f"There is no NVIDIA GPU here ({reason}), so nothing ran and nothing was written; "
            "run this on a machine on which nvidia-smi lists one."
        )
    return names


def chosen_index(names: list[str], environment: Mapping[str, str] = os.environ) -> int:
    """The driver's number of the GPU that CUDA programs started from here take first.

    Args:
        names: of all GPUs that the driver lists.
        environment: where CUDA_VISIBLE_DEVICES may stand.

    Raises:
        BackendError: CUDA_VISIBLE_DEVICES names a GPU otherwise than by its number, and there are several.
    """
    first = environment.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    if first.isdigit():
        return int(first)
    if len(names) == 1 and first:
        return 0
    raise BackendError(
        f"CUDA_VISIBLE_DEVICES is {first!r}, which does not say which of {len(names)} GPUs to watch; give its number."
    )


def unsupported(nvml: Any) -> tuple[type[Exception], ...]:
    """The driver's errors that mean: this card, driver or container does not tell."""
    # "Unknown" is what some containers' drivers answer to questions that they do not pass on.
    names = [f"NVMLError_{what}" for what in ("NotSupported", "FunctionNotFound", "NoPermission", "Unknown")]
    return tuple(getattr(nvml, name) for name in names if hasattr(nvml, name))


class GpuWatch:
    """Watch one GPU while code runs; `proof()` then says what was seen, or raises.

    Use as a context manager around all code that touches the GPU, and `during` around what is to be seen by itself. Raises
    BackendError on entry where there is no GPU to watch.

    Args:
        index: the driver's number of the GPU; that of CUDA_VISIBLE_DEVICES unless given.
        interval: seconds between two questions to the driver.
        nvml: the driver's interface.
        settle: seconds that the driver's readings need to come to rest.
        probe: seconds that every arm runs alone.
        patience: seconds that a GPU arm may run alone until the driver shows that the GPU works.
    """

    def __init__(
        self,
        index: int | None = None,
        interval: float = 0.02,
        nvml: Any = pynvml,
        settle: float = SETTLE_SECONDS,
        probe: float = 0.6,
        patience: float = 3.0,
    ) -> None:
        self._index, self._interval, self._nvml, self._settle = index, interval, nvml, settle
        self.probe, self.patience = probe, patience
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._whole = Seen()
        self._now: Seen | None = None
        self._phase = ""
        self._wait = interval
        self._error: Exception | None = None
        self._seen_by = ""
        self.seen: dict[str, Seen] = {}  #: by name of what ran
        self.arms: dict[str, dict[str, Any]] = {}  #: what the harness found about every arm, for the proof
        self.log: list[tuple] = []  #: (seconds, phase, utilisation, MiB of this process, J so far) of every question

    def __enter__(self) -> GpuWatch:
        self.names, self._driver, reason = visible_gpus(self._nvml)
        if not self.names:
            raise BackendError(f"No GPU 0 to prove the run on ({reason}).")
        index = chosen_index(self.names) if self._index is None else self._index
        if index >= len(self.names):
            raise BackendError(f"No GPU {index} to prove the run on ({len(self.names)} found).")
        self._name = self.names[index]
        self._nvml.nvmlInit()
        self._handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
        self._before = {process.pid for process in self._processes()}
        self._used_before = self._used_mib()
        self._whole = Seen()
        self._first_energy = self._energy()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        self._poll()
        self._finish(self._whole, self._first_energy)
        self._nvml.nvmlShutdown()

    @contextmanager
    def during(self, name: str, interval: float | None = None) -> Iterator[Seen]:
        """What is seen within the block by itself; left in `seen[name]` too.

        Args:
            name: of what runs.
            interval: seconds between two questions meanwhile; the watch's own unless given.
        """
        energy = self._energy()
        with self._lock:
            self._now, self._phase, self._wait = Seen(), name, interval or self._interval
            now = self.seen[name] = self._now
        try:
            yield now
        finally:
            self._poll()
            with self._lock:
                self._now, self._phase, self._wait = None, "", self._interval
            self._finish(now, energy)

    def rest(self) -> Seen:
        """Wait until the driver's readings have come to rest, and look at the idle GPU."""
        time.sleep(self._settle)
        with self.during("idle") as idle:
            time.sleep(min(IDLE_SECONDS, self._settle))
        return idle

    def memory_mib(self) -> float:
        """Memory that this process holds on the GPU now, MiB."""
        return self._own_memory_mib()

    def _watch(self) -> None:
        while not self._stop.wait(self._wait):
            try:
                self._poll()
            except self._nvml.NVMLError as error:  # a thread's error would be lost: proof() raises it
                self._error = error
                return

    def _poll(self) -> None:
        memory, utilisation, energy = self._own_memory_mib(), self._utilisation(), self._energy()
        with self._lock:
            for seen in filter(None, (self._whole, self._now)):
                seen.polls += 1
                seen.memory_mib = max(seen.memory_mib, memory)
                if utilisation is not None:
                    seen.utilisation = max(seen.utilisation or 0, utilisation)
            at = round(time.perf_counter() - self._whole.begin, 3)
            self.log.append((at, self._phase, utilisation, round(memory, 1), energy))

    def _finish(self, seen: Seen, energy: float | None) -> None:
        seen.seconds = time.perf_counter() - seen.begin
        last = self._energy()
        seen.energy_joules = None if energy is None or last is None else last - energy

    def _ask(self, question: str) -> Any:
        """The driver's answer about the GPU, None where the card does not tell."""
        try:
            return getattr(self._nvml, question)(self._handle)
        except unsupported(self._nvml):
            return None

    def _processes(self) -> list[Any]:
        return self._ask("nvmlDeviceGetComputeRunningProcesses") or []

    def _utilisation(self) -> int | None:
        rates = self._ask("nvmlDeviceGetUtilizationRates")
        return None if rates is None else int(rates.gpu)

    def _energy(self) -> float | None:
        millijoules = self._ask("nvmlDeviceGetTotalEnergyConsumption")
        return None if millijoules is None else millijoules / 1000

    def _used_mib(self) -> float:
        memory = self._ask("nvmlDeviceGetMemoryInfo")
        return 0.0 if memory is None else memory.used / 2**20

    def _own_memory_mib(self) -> float:
        """Memory of this process on the GPU, MiB; `_seen_by` says how it was told from others'."""
        processes = self._processes()
        own = [process for process in processes if process.pid == os.getpid()]
        new = [process for process in processes if process.pid not in self._before]
        grown = self._used_mib() - self._used_before
        if own:
            self._seen_by = "pid"
        elif new and self._seen_by != "pid":
            self._seen_by = "new process"
        elif not processes and not self._before and grown >= HIDDEN_MIB and not self._seen_by:
            self._seen_by = "memory"
        known = [process.usedGpuMemory for process in own or new if process.usedGpuMemory]
        if known:
            return sum(known) / 2**20
        return max(grown, 0.0) if self._seen_by else 0.0

    def proof(self) -> DeviceProof:
        """What was seen.

        Raises:
            BackendError: this process never appeared on the GPU, or the GPU stayed idle: then the CPU did the work.
        """
        if self._error is not None:
            raise BackendError(f"The driver stopped answering while {self._name} was watched ({self._error}).")
        whole = self._whole
        counted = any(arm.get("kernels") for arm in self.arms.values())
        if not self._seen_by or whole.utilisation == 0 or (whole.utilisation is None and not counted):
            raise BackendError(
                f"No proof that {self._name} did the work: process seen {bool(self._seen_by)}, utilisation at most "
                f"{whole.utilisation} % in {whole.polls} polls. The row is refused; check that the framework found the GPU."
            )
        idle = self.seen.get("idle")
        watts = idle.energy_joules / idle.seconds if idle and idle.energy_joules is not None and idle.seconds else None
        return DeviceProof(
            gpu=self._name,
            driver=self._driver,
            pid_seen=self._seen_by == "pid",
            seen_by=self._seen_by,
            process_memory_mib=round(whole.memory_mib, 1),
            utilisation_max_percent=whole.utilisation,
            energy_joules=None if whole.energy_joules is None else round(whole.energy_joules, 3),
            idle_watts=None if watts is None else round(watts, 1),
            seconds=round(whole.seconds, 3),
            polls=whole.polls,
            arms=self.arms,
        )


#: What `gpu_facts` asks the driver: name → (question, its other arguments, factor to the unit in the name).
_FACTS: dict[str, tuple[str, tuple[Any, ...], float]] = {
    "sm_clock_max_mhz": ("nvmlDeviceGetMaxClockInfo", (pynvml.NVML_CLOCK_SM,), 1),
    "memory_clock_max_mhz": ("nvmlDeviceGetMaxClockInfo", (pynvml.NVML_CLOCK_MEM,), 1),
    "sm_clock_mhz": ("nvmlDeviceGetClockInfo", (pynvml.NVML_CLOCK_SM,), 1),
    "memory_clock_mhz": ("nvmlDeviceGetClockInfo", (pynvml.NVML_CLOCK_MEM,), 1),
    "memory_bus_bits": ("nvmlDeviceGetMemoryBusWidth", (), 1),
    "power_limit_watts": ("nvmlDeviceGetEnforcedPowerLimit", (), 1e-3),
    "pcie_generation": ("nvmlDeviceGetCurrPcieLinkGeneration", (), 1),
    "pcie_width": ("nvmlDeviceGetCurrPcieLinkWidth", (), 1),
    "cores": ("nvmlDeviceGetNumGpuCores", (), 1),
    "temperature_celsius": ("nvmlDeviceGetTemperature", (pynvml.NVML_TEMPERATURE_GPU,), 1),
}


def gpu_facts(nvml: Any = pynvml) -> dict[str, Any]:
    """What the driver says of the GPU that is watched: card, driver, clocks, memory, power limit; None for what it does not.

    Nothing in it tells one card from another of its kind: no serial number, no id.

    Raises:
        BackendError: there is no GPU.
    """
    names = require_gpu(nvml)
    index = chosen_index(names)
    nvml.nvmlInit()

    def ask(question: str, *given: Any) -> Any:
        try:
            return getattr(nvml, question)(*given)
        except unsupported(nvml):
            return None

    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        memory = ask("nvmlDeviceGetMemoryInfo", handle)
        capability = ask("nvmlDeviceGetCudaComputeCapability", handle)
        cuda = ask("nvmlSystemGetCudaDriverVersion")
        facts: dict[str, Any] = {
            "name": names[index],
            "gpus": len(names),
            "driver": nvml.nvmlSystemGetDriverVersion(),
            "cuda_driver": None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
            "compute_capability": None if capability is None else ".".join(map(str, capability)),
            "memory_mib": None if memory is None else round(memory.total / 2**20),
        }
        for name, (question, given, factor) in _FACTS.items():
            value = ask(question, handle, *given)
            facts[name] = None if value is None else value * factor
        mig = ask("nvmlDeviceGetMigMode", handle)
        facts["mig"] = None if mig is None else bool(mig[0])
        return facts
    finally:
        nvml.nvmlShutdown()
