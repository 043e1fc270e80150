"""Made-up records in the shape of real ones, for the tests of what reads records. The numbers mean nothing."""

import itertools

import numpy as np
import pandas as pd
import sealed
import study_records

OPTIMIZERS = ["sgd", "momentum", "nesterov", "rmsprop", "adagrad", "adam", "nadam", "adamw", "fused_adam"]
RUNGS = ["as shipped", "device swapped", "compiled layer", "XLA instead", "single precision"]
BASE = {**sealed.provenance(sealed.GPU), "created_utc": "2026-01-01T00:00:00+00:00", "revision": 1, "proof": ""}


def _table(rows):
    return pd.DataFrame([{**BASE, **row} for row in rows])


def timing():
    rng = np.random.default_rng(0)
    rows = []

    def add(cell, arm, n_qubits, batch, seconds, part="step", first=0.1):
        for sample in range(12):
            rows.append(
                {
                    "study": "timing", "record": f"{cell}-{n_qubits}-{batch}", "cell": cell, "arm": arm, "part": part,
                    "n_qubits": n_qubits, "n_layers": 2, "batch_size": batch, "threads": 1, "samples": 12, "warmup": 3,
                    "sample": sample, "seconds": seconds * rng.lognormal(0, 0.05), "first_call_seconds": first,
                }
            )  # fmt: skip

    for n_qubits, batch in itertools.product([2, 4, 6, 8], [1, 32]):
        for arm, factor in {
            "default.qubit/backprop": 1.0,
            "default.qubit/adjoint": 2.0,
            "lightning.qubit/adjoint": 0.5 * batch**0.6,
        }.items():
            add("methods", arm, n_qubits, batch, 1e-3 * factor * 1.3**n_qubits)
        if batch == 1:
            add("methods", "default.qubit/parameter-shift", n_qubits, batch, 8e-3 * 1.5**n_qubits)
    for arm, batch in itertools.product(["default.qubit/backprop", "lightning.qubit/adjoint"], [32]):
        parts = {
            "classical forward": 1,
            "quantum forward": 6,
            "quantum backward": 9,
            "classical backward": 1.5,
            "update": 0.7,
        }
        for part, ms in {**parts, "python": 2, "step": 20.2}.items():
            add("parts", arm, 4, batch, ms * 1e-3, part)
    for n_qubits, batch in itertools.product([4, 8], [1, 4, 16, 64]):
        add("batching", "loop", n_qubits, batch, 3e-3 * batch)
        add("batching", "broadcast", n_qubits, batch, 4e-3 * batch**0.1)
    for arm, seconds, first in [("eager", 2e-2, 0.3), ("graph", 4e-3, 2.5), ("xla", 2e-3, 20)]:
        for n_qubits in (4, 8):
            add("compile", arm, n_qubits, 32, seconds * 1.2**n_qubits, first=first)
    for arm, seconds in zip(RUNGS, (0.2, 2e-2, 3e-4, 7e-4, 2.5e-4), strict=True):
        add("rungs", arm, 8, 32, seconds)
    for n_qubits in (4, 8, 12):
        add("precision", "complex128", n_qubits, 32, 1e-3 * 2**n_qubits)
        add("precision", "complex64", n_qubits, 32, 0.7e-3 * 2**n_qubits)
    for name in [*OPTIMIZERS, "adam, lr 0.001", "adam, lr 0.1"]:
        add("optimizers", name, 4, 32, 1e-2 * (1 + 0.01 * len(name)))
    for size in (10, 10_000_000):
        add("update", f"adam, {size}", 0, 1, 1e-4 + 1e-8 * size)
        add("update", f"fused_adam, {size}", 0, 1, 1e-4 + 2e-8 * size)
    add("original", "default.qubit/broadcast", 8, 100, 2e-2)
    add("original", "lightning.qubit/loop", 8, 100, 9e-2)
    table = _table(rows)
    return table.assign(arms=table["record"].map(table.groupby("record")["arm"].unique().map(sealed.arms)))


def training(seeds=3, epochs=6):
    rng = np.random.default_rng(1)
    rows = []

    def run(task, model, optimizer, rate, seed):
        setting = {
            "study": "training", "record": f"{task}-{model}-{optimizer}-{rate}-{seed}", "task": task, "model": model,
            "embedding": "angle", "ansatz": "strongly_entangling", "n_qubits": 4, "n_layers": 2, "backend": "default.qubit",
            "diff_method": "backprop", "optimizer": optimizer, "learning_rate": rate, "batch_size": 32, "epochs": epochs,
            "max_samples": 200, "seed": seed, "precision": "float64", "n_parameters": 30,
        }  # fmt: skip
        speed = np.exp(-((np.log10(rate) + 1.5) ** 2) / 2) * (1 + 0.05 * OPTIMIZERS.index(optimizer))
        for epoch in range(epochs + 1):
            diverged = optimizer == "sgd" and rate > 0.5 and epoch == 2
            loss = 0.15 + 0.55 * np.exp(-speed * epoch) * rng.lognormal(0, 0.04)
            what = {
                f"{part}_loss": np.nan if diverged else loss + 0.01 * i for i, part in enumerate(["train", "val", "test"])
            }
            what |= {f"{part}_score": np.nan if diverged else 1 - loss / 2 for part in ("train", "val", "test")}
            rows.append({**setting, **what, "epoch": epoch, "step": 5 * epoch, "seconds": 0.1 * epoch})
            if diverged:
                return

    for task, optimizer, rate, seed in itertools.product(
        ["digits_3v5", "wine"], OPTIMIZERS, [0.001, 0.01, 0.1, 1.0], range(seeds)
    ):
        run(task, "hybrid", optimizer, rate, seed)
    for task, model, seed in itertools.product(["digits_3v5", "wine"], ["separable", "classical"], range(seeds)):
        run(task, model, "adam", 0.01, seed)
    return _table(rows)


def energy(seeds=8, steps=100):
    rows = []
    for optimizer, rate, seed in itertools.product(
        ["adam", "adagrad", "fused_adam", "rmsprop"], [1e-4, 0.01, 0.1], range(seeds)
    ):
        start = 0.6065 + 0.0447 * np.random.default_rng(seed).normal()
        for step in range(steps + 1):
            rows.append(
                {
                    "study": "energy", "record": f"{optimizer}-{rate}-{seed}", "optimizer": optimizer, "learning_rate": rate,
                    "steps": steps, "batch_size": 100, "n_qubits": 8, "seed": seed, "step": step, "seconds": 0.01 * step,
                    "energy": 1 - (1 - start) * np.exp(-rate * step),
                }
            )  # fmt: skip
    return _table(rows)


def circuits():
    names = ["original", "basic_entangler", "strongly_entangling", "hardware_efficient", "separable"]
    rows = []
    for i, name in enumerate(names):
        rows.append(
            {
                "study": "circuits", "record": name, "circuit": name, "embedding": "angle", "ansatz": name, "n_qubits": 8,
                "n_layers": 1 if i == 0 else 2, "n_parameters": 8 * (i + 1), "depth": 9, "n_two_qubit_gates": 7 * (i < 4),
                "expressibility": 2.0 / (i + 1), "entangling_capability": 0.2 * i * (i < 4),
                "n_live": 1 if i == 0 else 8 * (i + 1), "live_share": 0.125 if i == 0 else 1.0, "n_pairs": 100,
                "n_points": 50, "seed": 0,
            }
        )  # fmt: skip
    return _table(rows)


def gradients():
    rows = [
        {
            "study": "gradients", "record": "g", "method": method, "quantity": quantity, "max_abs_difference": 1e-12,
            "n_qubits": 4, "n_layers": 2, "ansatz": "strongly_entangling", "embedding": "angle", "batch_size": 4, "seed": 0,
        }
        for method in ("default.qubit/adjoint", "lightning.qubit/adjoint")
        for quantity in ("value", "gradient_weights", "gradient_inputs", "energy_vs_cos")
    ]  # fmt: skip
    return _table(rows)


def everything():
    return {
        "timing": timing(), "training": training(), "energy": energy(), "circuits": circuits(), "gradients": gradients(),
        "optimizers": study_records.study(),
    }  # fmt: skip


def write(folder):
    """All tables as records of one's own, in the build folder `folder`."""
    for study, table in everything().items():
        (folder / "records" / study).mkdir(parents=True)
        table = sealed.sealed(table, study, number=1 if study == "gradients" else 0)
        table.to_parquet(folder / "records" / study / f"{BASE['machine']}.parquet", index=False)
