"""Made-up records of the atlas with planted costs, for the tests of what reads them. The numbers mean nothing."""

import itertools
import json

import numpy as np
import pandas as pd
import sealed

from hybridbench.analysis import costs
from hybridbench.design.routes import atlas_route

BASE = {
    "study": "atlas", "part": "step", "created_utc": "2026-01-01T00:00:00+00:00", "revision": 1, "proof": "",
    "samples": 30, "warmup": 2, "limit_seconds": 10.0, "arms": "[]", "note": "", "first_call_seconds": 1.0, "repetition": 1,
    **{name: value for name, value in sealed.provenance().items() if name != "machine"},
}  # fmt: skip
#: route, precision → planted seconds a constant, launch, sample, operation, byte; and the cache.
PLANTED = {
    (costs.SHIPPED, "complex128"): ((4e-2, 6e-4, 0.0, 4e-10, 2e-10), 2.0**20),
    ("KerasLayer, lightning.qubit", "complex128"): ((3e-2, 2e-5, 2e-3, 1e-10, 1e-10), 2.0**20),
    ("KerasLayer, hybridbench.qubit", "complex128"): ((1.2e-2, 2e-5, 0.0, 1.5e-11, 1.5e-11), 2.0**22),
    (costs.COMPILED, "complex64"): ((2e-4, 5e-7, 5e-7, 8e-12, 1.2e-11), 2.0**22),
    (costs.COMPILED, "complex128"): ((2e-4, 5e-7, 5e-7, 1.6e-11, 1.2e-11), 2.0**22),
}
GPU_PLANTED = {(f"{costs.COMPILED}, cuda", "complex64"): ((5e-4, 4e-6, 0.0, 2e-14, 1e-12), 2.0**24)}
LINES = [(n, 2, 32) for n in (2, 4, 6, 8, 10, 12, 14, 16)]
LINES += [(8, 2, b) for b in (1, 4, 128, 1024)] + [(8, layers, 32) for layers in (1, 4, 8)]
LINES += [(12, 2, 1), (16, 2, 1), (18, 2, 4), (20, 2, 2), (4, 2, 1024), (12, 2, 256)]
FIT = [
    (3, 1, 34),
    (5, 7, 6),
    (9, 3, 40),
    (10, 2, 3),
    (12, 1, 162),
    (6, 2, 3),
    (11, 4, 15),
    (13, 3, 6),
    (4, 1, 371),
    (16, 2, 40),
]
HELD_OUT = [(5, 3, 60), (6, 1, 5), (11, 5, 55), (14, 2, 15), (10, 1, 966), (4, 2, 10), (8, 2, 24), (12, 5, 35)]
#: Slower routes are not timed, as in the real records.
LIMIT = 3.0


def planted_seconds(route, precision, size, planted=None):
    """The planted time of a step."""
    coefficients, cache = (planted or {**PLANTED, **GPU_PLANTED})[route, precision]
    return float(np.array(coefficients) @ costs.work_of(atlas_route(route, precision).work, *size, precision).terms(cache))


def atlas(scatter=0.05, noise=0.03, planted=None, machine="m1", threads=(2,), seed=0, samples=12, proof="", spoil=()):
    """A table of the atlas: cells are off by `scatter` (log), samples by `noise`, roles in `spoil` by a factor of ten."""
    rng = np.random.default_rng(seed)
    routes = planted or PLANTED
    rows = []
    sizes = [(role, size) for role, of in (("line", LINES), ("fit", FIT), ("held_out", HELD_OUT)) for size in of]
    for count, (role, size) in itertools.product(threads, sizes):
        name = f"{machine}-{count}-" + "-".join(map(str, size))
        where = dict(zip(costs.AXES, size, strict=True)) | {
            "record": name,
            "role": role,
            "threads": count,
            "machine": machine,
        }
        drift = rng.lognormal(0, 0.1, samples)
        for route, precision in routes:
            arm = {"arm": f"{route}, {precision}", "route": route, "precision": precision, "proof": proof}
            seconds = planted_seconds(route, precision, size, routes) * rng.lognormal(0, scatter)
            seconds *= 10 if role in spoil else 1
            if seconds > LIMIT:
                rows.append({**BASE, **where, **arm, "note": "not tried: too slow", "sample": np.nan, "seconds": np.nan})
                continue
            rows += [
                {**BASE, **where, **arm, "sample": i, "seconds": seconds * drift[i] * rng.lognormal(0, noise)}
                for i in range(samples)
            ]
    return pd.DataFrame(rows)


def passes(slow=1.0, count=3, **given):
    """The same cells from several processes, one seed each; in the last one everything takes `slow` times as long."""
    tables = [atlas(seed=seed, **given) for seed in range(count)]
    tables[-1] = tables[-1].assign(seconds=slow * tables[-1]["seconds"])
    return pd.concat(
        [table.assign(record=table["record"] + f"-{i}", repetition=i + 1) for i, table in enumerate(tables)],
        ignore_index=True,
    )


def machine_of(label="m1", gpu="", cpu="a processor"):
    """The id of the machine that is called `label` here."""
    return sealed.provenance(gpu, cpu, memory_gib=8.0 * int(label[1:]))["machine"]


def records_of(table):
    """The table as true records: a machine and names that fit, arms that are listed, and a proof of what a GPU did."""
    pieces = []
    for (_, label), rows in table.groupby(["record", "machine"], sort=False):
        names = list(rows["arm"].unique())
        on_gpu = {name: ", cuda" in name for name in names}
        proof = json.dumps(sealed.proof(on_gpu)) if rows["proof"].iloc[0] else ""
        facts = sealed.provenance(
            sealed.GPU if any(on_gpu.values()) else "", rows["cpu"].iloc[0], memory_gib=8.0 * int(label[1:])
        )
        listed = sealed.arms(names, on_gpu.get)
        pieces.append(rows.assign(**facts, arms=listed, proof=proof, samples=int(rows["sample"].max() + 1)))
    return sealed.sealed(pd.concat(pieces, ignore_index=True), "atlas")


def write(build, table):
    """The table as records in the folder `build`, one file for each machine; returns the records."""
    folder = build / "records" / "atlas"
    folder.mkdir(parents=True, exist_ok=True)
    records = records_of(table)
    for machine, rows in records.groupby("machine"):
        rows.to_parquet(folder / f"{machine}.parquet", index=False)
    return records
