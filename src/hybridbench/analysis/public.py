"""The public CPU and GPU times of `data/public/gpu_times.csv`, by the same kind of model as this suite's own.

Two sources (see `data/public/README.md`). The model is tested by leaving out one size after the other: fitted to the others,
does it say rightly whether the GPU wins at the size that it has not seen?
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hybridbench import paths
from hybridbench.analysis.costs import (
    CACHES,
    FLOPS_PER_AMPLITUDE,
    HARDWARE,
    Work,
    least_relative,
    roofline_seconds,
)
from hybridbench.errors import DataError
from hybridbench.measurement.checksums import verify

#: Electrons of the molecules whose energy lightning-on-hpc minimises (in the minimal and split bases all are active).
ELECTRONS = {"H2": 2, "HeH+": 2, "H3+": 2, "He2": 4, "LiH": 4, "BeH2": 6, "H2O": 10, "C2H2": 14}
VQE_STEPS = 10
#: Gates of the QCBM on each qubit: two in the first layer, then eight times a CNOT and three rotations, a CNOT and two.
QCBM_GATES = 2 + 8 * 4 + 3
LIGHTNING_GPU = "lightning.gpu (A100)"
YAO_CPU, YAO_GPU = "Yao, 1 thread (Xeon 6230)", "Yao on V100"


@dataclass(frozen=True)
class Comparison:
    """One public CPU against one public GPU."""

    name: str
    cpu: str  #: values of the column system
    gpu: str
    batch: int


COMPARISONS = (
    *(
        Comparison(
            f"lightning_{threads}_threads", f"lightning.qubit {threads} thread{'s' * (threads > 1)}", LIGHTNING_GPU, 1
        )
        for threads in (1, 2, 4, 8, 16, 32)
    ),
    Comparison("yao_unbatched", YAO_CPU, YAO_GPU, 1),
    Comparison("yao_batch_1000", YAO_CPU, YAO_GPU, 1000),
)


def read_public() -> pd.DataFrame:
    """The table, its checksum verified: source, workload, system, n_qubits, batch, seconds.

    Raises:
        DataError: it is missing or not the one that was shipped.
    """
    file = paths.data_dir() / "public" / "gpu_times.csv"
    if not file.is_file():
        raise DataError(f"{paths.relative(file)} is missing: 'git checkout -- data' brings it back.")
    verify(file)
    return pd.read_csv(file)


def excitations(electrons: int, spin_orbitals: int) -> tuple[int, int]:
    """Single and double excitations that keep the spin, of an even number of electrons: one gate each in AllSinglesDoubles.

    Singles: 2 o v; doubles: 2 C(o, 2) C(v, 2) of equal and (o v)^2 of opposite spin, with o occupied and v empty orbitals.
    """
    occupied = electrons // 2
    empty = spin_orbitals // 2 - occupied
    return 2 * occupied * empty, 2 * math.comb(occupied, 2) * math.comb(empty, 2) + (occupied * empty) ** 2


def vqe_work(workload: str, n_qubits: int) -> Work:
    """Ten adjoint gradients of a molecule's energy, in complex128.

    Every term of the Hamiltonian and every excitation, whose gate is applied forward and, to two states, backward, is an
    application of an operator to a state: 10 (terms + 3 (singles + doubles)) of them.
    """
    found = re.search(r", (\S+) \S+ \((\d+) Pauli terms\)", workload)
    if not found or found.group(1) not in ELECTRONS:
        raise DataError(f"Workload {workload!r} of the public times is unknown: it has to name a molecule and its terms.")
    applied = VQE_STEPS * (int(found.group(2)) + 3 * sum(excitations(ELECTRONS[found.group(1)], n_qubits)))
    moved = applied * 2.0**n_qubits
    return Work(applied, 1, FLOPS_PER_AMPLITUDE * moved, 2 * 16 * moved, 3 * 16 * 2.0**n_qubits)


def qcbm_work(n_qubits: int, batch: int, bytes_per_amplitude: int) -> Work:
    """One forward pass of the quantum circuit Born machine for a batch: 37 n gates, each over all states."""
    gates = QCBM_GATES * n_qubits
    moved = gates * batch * 2.0**n_qubits
    held = batch * bytes_per_amplitude * 2.0**n_qubits
    return Work(gates, batch, FLOPS_PER_AMPLITUDE * moved, 2 * bytes_per_amplitude * moved, held)


def public_work(row: pd.Series) -> Work:
    """The counts of one row of the table. Yao's GPU arrays are in single precision, all else is in double."""
    if row["workload"].startswith("VQE"):
        return vqe_work(row["workload"], int(row["n_qubits"]))
    return qcbm_work(int(row["n_qubits"]), int(row["batch"]), 8 if row["system"] == YAO_GPU else 16)


def fit_public(rows: pd.DataFrame) -> Callable[[Work], float]:
    """The cost model of one public system: constant, launches, operations, and bytes beyond a cache; seconds of a work."""
    work = [public_work(row) for _, row in rows.iterrows()]
    seconds = rows["seconds"].to_numpy()
    fits = {}
    for cache in CACHES:
        counts = np.array([each.terms(cache) for each in work])
        counts[:, 2] = 0.0  # one sample, or a thousand in one launch: nothing is done for each alone
        fits[cache] = least_relative(counts, seconds)
    best = min(fits, key=lambda cache: fits[cache][1])
    return lambda each: float(fits[best][0] @ each.terms(best))


def public_signs(table: pd.DataFrame) -> pd.DataFrame:
    """Does the model, fitted without a size, know who wins there?

    Args:
        table: from `read_public`.

    Returns:
        A row a comparison and size: comparison, batch, n_qubits, measured (time on the CPU over time on the GPU; geometric
        mean of the workloads of a size), predicted (the same, with all workloads of this size left out of the fit), right.
    """
    rows = []
    for each in COMPARISONS:
        systems = [table[(table["system"] == name) & (table["batch"] == each.batch)] for name in (each.cpu, each.gpu)]
        for n_qubits in sorted(set(systems[0]["n_qubits"]) & set(systems[1]["n_qubits"])):
            measured, predicted = [], []
            for own in systems:
                here = own["n_qubits"] == n_qubits
                model = fit_public(own[~here])
                measured.append(np.log(own.loc[here, "seconds"]).mean())
                predicted.append(np.mean([math.log(model(public_work(row))) for _, row in own[here].iterrows()]))
            ratios = math.exp(measured[0] - measured[1]), math.exp(predicted[0] - predicted[1])
            known = {"comparison": each.name, "batch": each.batch, "n_qubits": int(n_qubits)}
            right = (ratios[0] > 1) == (ratios[1] > 1)
            rows.append({**known, "measured": ratios[0], "predicted": ratios[1], "right": right})
    return pd.DataFrame(rows)


def public_calibration(table: pd.DataFrame) -> np.ndarray:
    """Measured over predicted time of the roofline for the V100's public times, batch 1 and 1000; one number a row."""
    own = table[table["system"] == YAO_GPU]
    hardware = HARDWARE["V100"]
    return np.array(
        [row["seconds"] / roofline_seconds(hardware, public_work(row), "complex64") for _, row in own.iterrows()]
    )
