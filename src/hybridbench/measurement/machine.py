"""The machine and the versions that stand in every record."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata

import psutil

from hybridbench import paths
from hybridbench.measurement.proof import visible_gpus
from hybridbench.stack import processor_facts

RECORDED_PACKAGES = (
    "pennylane",
    "pennylane-lightning",
    "tensorflow",
    "tf-keras",
    "numpy",
    "scipy",
    "pennylane-lightning-gpu",
    "numba-cuda",
)


@dataclass(frozen=True)
class Machine:
    """One computer, without anything that names its owner (no host name, no user, no address)."""

    cpu: str  #: processor model as the operating system reports it
    cores: int  #: logical cores that this process may use
    memory_gib: float  #: physical memory, GiB, one decimal
    gpus: str  #: names of the NVIDIA GPUs that NVML sees, joined by "; "; empty for none
    driver: str  #: NVIDIA driver version; empty for none
    system: str  #: kernel and architecture

    @property
    def id(self) -> str:
        """A readable, stable name: the same hardware gives the same id.

        Memory enters the name rounded to whole GiB, since kernels report slightly different totals.
        """
        digest = hashlib.sha256(f"{self.cpu}|{self.cores}|{self.memory_gib:.0f}|{self.gpus}".encode()).hexdigest()[:6]
        device = self.gpus.split(";")[0] if self.gpus else self.cpu
        slug = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")[:24].strip("-")
        return f"{slug}-{self.cores}c-{digest}"


def _cpu_model() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", processor_facts(), flags=re.MULTILINE)
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def available_cores() -> int:
    """Logical cores that this process may use (its affinity, not what the box holds)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory_bytes() -> int:
    """Memory that can be allocated now without swapping, bytes; all there is where the system does not say."""
    try:
        return psutil.virtual_memory().available
    except OSError:  # no /proc
        return _memory_bytes()


def _memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@cache
def this_machine() -> Machine:
    """The machine that this process runs on."""
    gpus, driver, _ = visible_gpus()
    return Machine(
        cpu=_cpu_model(),
        cores=available_cores(),
        memory_gib=round(_memory_bytes() / 2**30, 1),
        gpus="; ".join(gpus),
        driver=driver,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
    )


@cache
def commit() -> str:
    """The commit of the checkout, with "+changes" where files differ from it; "unknown" outside git."""
    git = ["git", "-C", str(paths.root())]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, encoding="utf-8", check=True).stdout.strip()
        status = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no", "--", "src"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head[:12] + ("+changes" if status.stdout.strip() else "")


def version(package: str) -> str:
    """The version of an installed package, "" where it is not installed: the CUDA engine is timed without TensorFlow."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def provenance() -> dict[str, str | int | float]:
    """The columns that say where a record comes from: machine, versions, commit."""
    machine = this_machine()
    columns: dict[str, str | int | float] = {"machine": machine.id, **asdict(machine)}
    columns["python"] = platform.python_version()
    for package in RECORDED_PACKAGES:
        columns[package.replace("-", "_")] = version(package)
    columns["commit"] = commit()
    return columns
