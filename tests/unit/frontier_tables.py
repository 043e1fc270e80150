"""Made-up records in the shape of the frontier study's, with planted laws, for the tests of what reads them."""

import math

import numpy as np
import pandas as pd

from hybridbench.design.constants import COSTS

QUBITS = (4, 6, 8, 10, 12, 14, 16)


def gradients(law, shot=lambda cost, n: 1.0, depths=(1, 2), ansaetze=("strongly_entangling",), qubits=QUBITS, seed=0):
    """Rows of the cell "gradient" with variances law(cost, n, depth), one-shot variances shot(cost, n), 20 batches."""
    rng = np.random.default_rng(seed)
    rows = []
    for ansatz in ansaetze:
        for n in qubits:
            for depth in depths:
                for cost in COSTS:
                    for batch in range(20):
                        square = law(cost, n, depth) * float(np.mean(rng.standard_normal(50) ** 2))
                        rows.append(
                            {
                                "study": "frontier", "record": f"{ansatz}-{n}-{depth}", "machine": "m1", "cell": "gradient",
                                "ansatz": ansatz, "n_qubits": n, "n_layers": depth, "cost": cost, "seed": batch,
                                "n_points": 50, "gradient_variance": square, "gradient_mean_square": square / 2,
                                "gradient_fourth_moment": 3 * square**2, "shot_variance": shot(cost, n), "cost_mean": 0.5,
                                "rounding_error": 1e-6 * math.sqrt(square) if batch == 0 else math.nan, "revision": 1,
                            }
                        )  # fmt: skip
    return pd.DataFrame(rows)


def descents(seeds=20, trained=15):
    """Rows of the cell "descent": so many seeds end at 0.05, the others at 0.9."""
    return pd.DataFrame(
        {
            "study": "frontier", "record": f"d-{cost}-{n}-{depth}-{shots}", "machine": "m1", "cell": "descent",
            "ansatz": "strongly_entangling", "cost": cost, "n_qubits": n, "n_layers": depth, "shots": shots, "seed": seed,
            "step": step, "steps": 30, "train_loss": 1.0 if step == 0 else (0.05 if seed < trained else 0.9), "revision": 1,
        }
        for cost in COSTS for n in (4, 6, 8) for depth in (2, 16) for shots in (0, 1000, 100)
        for seed in range(seeds) for step in (0, 15, 30)
    )  # fmt: skip


def memory(extra=lambda arm, n, depth: (n > 4) * 2.0 ** (n - 10) * (1 if arm == "compiled" else 30 * depth)):
    """Rows of the cell "memory": 800 MiB and extra(arm, n, depth)."""
    sizes = [("compiled", 4, 2), *(("compiled", n, 2) for n in (16, 18, 20)), ("compiled", 18, 8), ("compiled", 18, 16)]
    sizes += [("shipped", 4, 2), *(("shipped", n, 2) for n in (10, 11, 12)), ("shipped", 12, 4), ("shipped", 12, 8)]
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "study": "frontier", "record": f"m-{arm}-{n}-{depth}", "machine": "m1", "cell": "memory", "arm": arm,
            "n_qubits": n, "n_layers": depth, "batch_size": 16, "process": process, "note": "", "revision": 1,
            "peak_memory_mib": 800 + extra(arm, n, depth) + rng.normal(0, 1),
        }
        for arm, n, depth in sizes for process in (0, 1)
    )  # fmt: skip


def everything(law, **more):
    """All cells as one table."""
    return pd.concat([gradients(law, **more), descents(), memory()], ignore_index=True)
