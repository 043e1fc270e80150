"""Records of a benchmark that never ran, with times that are easy to check."""

import numpy as np
import pandas as pd

ARMS = {
    "shipped": 0.2,
    "swapped": 0.008,
    "compiled, eager": 0.001,
    "compiled": 0.0004,
    "compiled, XLA": 0.0008,
    "engine": 0.0001,
    "engine, 1 thread": 0.00018,
    "jax.jit": 0.0015,
    "C": 0.00005,
    "C, 1 thread": 0.00004,
}
SHARED = {"machine": "m", "cpu": "a processor", "cores": 2, "threads": 2, "commit": "abc", "created_utc": "2026"}


def cell(kind, size, rows, **more):
    n_qubits, n_layers, batch_size = size
    record = f"{kind}{size}{more.get('processes', 3)}"
    about = {"record": record, "cell": kind, "n_qubits": n_qubits, "n_layers": n_layers, "batch_size": batch_size}
    return pd.DataFrame([{**SHARED, "processes": 3, **about, "part": "step", "note": "", **more, **row} for row in rows])


def steps(size=(8, 2, 32), arms=ARMS, processes=3, samples=4, missing=None, **more):
    rng = np.random.default_rng(0)
    rows = [
        {"arm": arm, "process": process, "sample": sample, "seconds": seconds * rng.uniform(0.98, 1.02)}
        for arm, seconds in arms.items()
        for process in range(processes)
        for sample in range(samples)
    ]
    rows += [{"arm": arm, "process": 0, "note": f"not measured: {why}"} for arm, why in (missing or {}).items()]
    return cell("step", size, rows, processes=processes, **more)


def memory():
    peaks = {(4, 2, 8): 600.0, (20, 2, 8): 1024.0, (20, 8, 8): 1030.0, (24, 2, 1): 9000.0}
    rows = [
        cell("memory", size, [{"arm": "compiled", "process": 0, "peak_memory_mib": peak, "part": "peak memory"}])
        for size, peak in peaks.items()
    ]
    return pd.concat(rows)


def first_call():
    rows = [
        {"arm": arm, "process": process, "part": part, "seconds": seconds}
        for arm in ("engine", "compiled")
        for process in range(3)
        for part, seconds in (("empty cache", 4.0), ("filled cache", 1.5))
    ]
    return cell("first_call", (8, 2, 32), rows)


def fall_backs():
    factors = {"noise": 0.9, "mid-circuit measurement": 20.0, "shots": 1.25, "branch": 1.0}
    return pd.concat(
        cell(
            circuit,
            (4, 2, 8),
            [
                {"arm": arm, "process": process, "sample": 0, "seconds": seconds}
                for arm, seconds in (("shipped", 0.1), ("compiled", 0.1 / factor))
                for process in range(3)
            ],
        )
        for circuit, factor in factors.items()
    )


def everything():
    wide = {arm: seconds for arm, seconds in ARMS.items() if arm != "shipped"} | {"shipped, graph": 23.0}
    late = steps((16, 2, 32), wide, missing={"shipped": "more than 24 GiB of memory"})
    return pd.concat([steps(), late, memory(), first_call(), fall_backs()], ignore_index=True)
