"""The software stack that the suite needs, checked once on import with a sentence that says what to do.

KerasLayer exists up to PennyLane 0.41.1 and needs Keras 2 (`tf_keras`), which TensorFlow uses only where
TF_USE_LEGACY_KERAS=1 was set before `tf.keras` was first used.
"""

from __future__ import annotations

import importlib
import logging
import os
import platform
import re
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

from hybridbench.errors import StackError

PENNYLANE = "0.41.1"
LLVMLITE = "0.44"
NUMBA_CUDA = "0.20"
CPUINFO = Path("/proc/cpuinfo")
INSTALL = "run 'make setup', or 'pip install --require-hashes -r requirements.lock'"


def _is_no_cast_notice(record: logging.LogRecord) -> bool:
    return "You are casting an input of type complex" not in record.getMessage()


def processor_facts() -> str:
    """What Linux says of the processor; empty where it says nothing, as in some containers."""
    try:
        return CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _has_avx2() -> bool:
    return platform.machine() == "x86_64" and " avx2" in processor_facts()


def check_package(name: str, why: str, least: str = "", exactly: str = "") -> None:
    """Check that a package is installed, in the version that the suite needs.

    Args:
        name: as `pip` knows it.
        why: what it is needed for, in words that end the sentence.
        least, exactly: versions.

    Raises:
        StackError: it is not there, or another version is.
    """
    wanted = exactly or f"{least} or later"
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        raise StackError(f"{name} is not installed, and the suite needs {wanted}, {why}: {INSTALL}.") from None
    if found != exactly if exactly else _numbers(found) < _numbers(least):
        raise StackError(f"{name} {found} is installed, and the suite needs {wanted}, {why}: {INSTALL}.")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"[0-9]+", version)[:3])


def refuse_keras_3(inputs: Iterable[object]) -> None:
    """Refuse the symbols of which Keras 3 builds a model: no layer of Keras 2 can take them.

    Raises:
        StackError: one of `inputs` is such a symbol.
    """
    if any(type(value).__module__.startswith("keras.") for value in inputs):
        raise StackError(
            "A layer of Keras 2 was given to a model of Keras 3: build the model with tf.keras after 'import hybridbench', "
            "not with keras."
        )


def is_command() -> bool:
    """Whether this process is the command `hybridbench`, and not a program that imports the package."""
    return Path(sys.argv[0] if sys.argv else "").name == "hybridbench" or "hybridbench.workflow.cli" in sys.orig_argv[:4]


def prepare_stack() -> None:
    """Switch TensorFlow to Keras 2, and check PennyLane and llvmlite.

    Raises:
        StackError: Keras 3 was used before the switch could be set, or a package is not there or another version.
    """
    check_package("PennyLane", "the last with KerasLayer", exactly=PENNYLANE)
    check_package("llvmlite", "which compiles its kernels", least=LLVMLITE)
    # OpenBLAS has kernels for every kind of processor, and their rounding differs: principal components would too, and with
    # them every run at a rate at which training is chaotic. Those for Haswell serve wherever there is AVX2.
    if _has_avx2():
        os.environ.setdefault("OPENBLAS_CORETYPE", "Haswell")  # read when NumPy is loaded
    if os.environ.get("TF_USE_LEGACY_KERAS") not in {"1", "True", "true"}:
        os.environ["TF_USE_LEGACY_KERAS"] = "1"
        # TensorFlow looks at the switch when `tf.keras` is first used, which may be long after its import.
        tensorflow = sys.modules.get("tensorflow")
        if tensorflow is not None:
            if not tensorflow.keras.optimizers.Adam.__module__.startswith("tf_keras"):
                raise StackError(
                    "TensorFlow's Keras 3 was used before hybridbench could switch to Keras 2: restart Python and import "
                    "hybridbench first, or set TF_USE_LEGACY_KERAS=1 in the environment."
                )
            # `from tensorflow.keras import ...` has been decided already; let it find the same Keras.
            sys.modules["tensorflow.keras"] = importlib.import_module("tf_keras.api._v2.keras")
    # The pin is deliberate, so PennyLane need not say on every layer that its next version has none.
    warnings.filterwarnings("ignore", message="The 'KerasLayer' class is deprecated")
    # Backprop on default.qubit casts real angles to complex, and therefore their gradients back, for every gate of every
    # step, in float64 models too; the imaginary part that is dropped belongs to a derivative that does not exist.
    logging.getLogger("tensorflow").addFilter(_is_no_cast_notice)
    # Warnings and errors still show. oneDNN's kernels reorder sums, so that equal seeds would not give equal results.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")


# What TensorFlow 2.21 writes to standard error on every machine without CUDA, before its log level is in force.
_START_NOTICES = re.compile(
    r"before absl::InitializeLog\(\)|Could not find cuda drivers|failed call to cuInit|TF-TRT Warning|"
    r"oneDNN custom operations|optimized to use available CPU instructions|To enable the following instructions|"
    r"hostname: |retrieving CUDA diagnostic information|libcuda reported version|kernel version seems to match|"
    r"kernel driver does not appear to be running|verbose logging is disabled|no CUDA-capable device is detected|"
    r"possibly insufficient driver version"
)


def _nameless_file() -> BinaryIO:
    """A file in memory where the system has such: no folder for temporary files needs to be there."""
    return os.fdopen(os.memfd_create("notices"), "w+b") if hasattr(os, "memfd_create") else tempfile.TemporaryFile()


@contextmanager
def _without_start_notices() -> Iterator[None]:
    """Hold back what C++ code writes to standard error, and pass on all but the known start-up notices."""
    sys.stderr.flush()
    saved = os.dup(2)
    with _nameless_file() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            held.seek(0)
            for line in held.read().decode(errors="replace").splitlines():
                if line.strip() and not _START_NOTICES.search(line):
                    print(line, file=sys.stderr)


def import_tensorflow() -> ModuleType:
    """TensorFlow with Keras 2, on the CPU, started without its notices about GPUs that are not there.

    TensorFlow puts work on a GPU as soon as it sees one, and so a "CPU" measurement would be a GPU's. GPUs are therefore
    hidden from it, unless HYBRIDBENCH_TF_GPU=1 says that this process measures them; each piece of work then names its
    device. A plain `import tensorflow` after `import hybridbench` gives the same module, with notices and GPUs.
    """
    with _without_start_notices():
        import tensorflow as tf

        if os.environ.get("HYBRIDBENCH_TF_GPU") != "1" and tf.config.get_visible_devices("GPU"):
            tf.config.set_visible_devices([], "GPU")
        for gpu in tf.config.get_visible_devices("GPU"):
            # TensorFlow would take all of the GPU's memory, and lightning.gpu and the CUDA engine need some beside it.
            if not tf.config.experimental.get_memory_growth(gpu):
                tf.config.experimental.set_memory_growth(gpu, True)
        # Devices are looked for on first use: look now, while the notices are held back.
        tf.config.list_physical_devices()
        tf.constant(0.0)
    return tf
