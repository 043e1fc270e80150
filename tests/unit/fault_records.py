"""Small true records of every study, and what may be done to them: the words that `tests/faults/records.toml` uses."""

import functools
import json
import os

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import sealed

from hybridbench.measurement import schema

COMMON = {"proof": "", "created_utc": "2026-11-23T10:00:00+00:00"}
LOSSES = {f"{part}_{what}": 0.5 for part in ("train", "val", "test") for what in ("loss", "score")}
SIZE = {"n_qubits": 8, "n_layers": 2, "batch_size": 32, "revision": 1}
BENCH = {**SIZE, "threads": 2, "processes": 2, "budget_seconds": 0.5}
ARMS = ("default.qubit/broadcast", "lightning.qubit/loop")
GPU_ARMS = ("default.qubit/broadcast", "lightning.gpu/loop")


def _timing(names, on_gpu=False):
    cell = {"cell": "original", **SIZE, "arms": sealed.arms(names), "threads": 1, "samples": 3, "warmup": 1}
    seen = {"gpu_utilisation_percent": 90.0, "gpu_memory_mib": 512.0, "kernels": 7.0} if on_gpu else {}
    return [
        {**cell, "arm": name, "part": "step", "sample": sample, "seconds": 1.0 + number, "first_call_seconds": 2.0,
         **(seen if "gpu" in name else dict.fromkeys(seen))}
        for number, name in enumerate(names) for sample in range(3)
    ]  # fmt: skip


def _bench(kind):
    ready = {"calls": 5, "first_call_seconds": 1.0, "import_seconds": 2.0, "peak_memory_mib": 500.0, "packages": "{}"}
    cell = {"cell": kind, **BENCH, "arms": sealed.arms(["compiled", "shipped"])}
    rows = [
        {**cell, "arm": "compiled", "part": "step", "process": 0, "note": "", "sample": sample, "seconds": 0.01, **ready}
        for sample in range(2)
    ]
    return [*rows, {**cell, "arm": "shipped", "part": "step", "process": 0, "note": "not measured: more than 24 GiB"}]


def _rows(name):
    if name in {"timing", "gpu"}:
        return _timing(GPU_ARMS if name == "gpu" else ARMS, name == "gpu")
    if name in {"bench", "memory"}:
        return _bench("memory" if name == "memory" else "step")
    if name == "atlas":
        cell = {**SIZE, "threads": 2, "role": "fit", "arms": sealed.arms(["fast, complex64", "slow, complex64"])}
        cell |= {"limit_seconds": 10.0, "samples": 2, "warmup": 1, "repetition": 1, "part": "step", "precision": "complex64"}
        rows = [
            {**cell, "arm": "fast, complex64", "route": "fast", "sample": sample, "seconds": 0.1, "first_call_seconds": 1.0,
             "note": ""}
            for sample in range(2)
        ]  # fmt: skip
        return [*rows, {**cell, "arm": "slow, complex64", "route": "slow", "note": "not tried: a sample takes about 6 s"}]
    if name == "energy":
        run = {"optimizer": "adam", "learning_rate": 0.01, "seed": 0, "steps": 100, "batch_size": 100, "n_qubits": 8}
        return [{**run, "revision": 1, "step": 50 * k, "energy": 0.4 + 0.1 * k, "seconds": 0.5 * k} for k in range(3)]
    if name == "training":
        run = {"task": "wine", "model": "hybrid", "embedding": "angle", "ansatz": "strongly_entangling", **SIZE}
        run |= {"backend": "default.qubit", "diff_method": "backprop", "optimizer": "adam", "learning_rate": 0.01}
        run |= {"epochs": 2, "max_samples": 0, "seed": 0, "precision": "float64", "n_parameters": 20}
        return [{**run, **LOSSES, "epoch": epoch, "step": 4 * epoch, "seconds": 0.1 * epoch} for epoch in range(3)]
    if name == "optimizers":
        run = {"problem": "wine", "model": "hybrid", "optimizer": "adam", "learning_rate": 0.01, "knobs": "[]", **SIZE}
        run |= {"phase": "tuned", "seeds": "[0, 1]", "steps": 30, "every": 15, "start": "uniform", "n_parameters": 62}
        return [
            {**run, **LOSSES, "seed": seed, "step": step, "batch_losses": "[0.5, null]" if step else "[]"}
            for seed in (0, 1) for step in (0, 15, 30)
        ]  # fmt: skip
    if name == "circuits":
        run = {"circuit": "angle/original", "embedding": "angle", "ansatz": "original", "n_qubits": 8, "n_layers": 1}
        run |= {"n_pairs": 100, "n_points": 20, "seed": 0, "revision": 1, "n_parameters": 8, "depth": 8, "n_live": 1}
        return [{**run, "n_two_qubit_gates": 7, "expressibility": 1.0, "entangling_capability": 0.5, "live_share": 0.125}]
    if name == "gradients":
        run = {"method": "default.qubit/adjoint", "embedding": "angle", "ansatz": "original", **SIZE, "seed": 0}
        return [{**run, "quantity": q, "max_abs_difference": 1e-15} for q in ("value", "gradient_weights")]
    if name == "gradient":
        run = {"ansatz": "original", "n_qubits": 8, "n_layers": 2, "n_points": 64, "seeds": "[0, 1]", "precision": "float32"}
        run |= {"cell": "gradient", "revision": 1, "cost_mean": 0.5, "gradient_variance": 0.1}
        run |= {"gradient_fourth_moment": 0.01, "gradient_mean_square": 0.1, "shot_variance": 0.2, "rounding_error": 1e-8}
        return [{**run, "cost": cost, "seed": seed} for cost in ("local", "global") for seed in (0, 1)]
    run = {"ansatz": "original", "n_qubits": 8, "n_layers": 2, "cost": "local", "shots": 0, "optimizer": "adam"}
    run |= {"learning_rate": 0.1, "steps": 30, "every": 15, "seeds": "[0, 1]", "precision": "float32", "cell": "descent"}
    return [{**run, "revision": 1, "seed": seed, "step": step, "train_loss": 0.5} for seed in (0, 1) for step in (0, 30)]


#: The records by name: their study and which of its kinds they are.
BASES = {
    "timing": ("timing", 0), "gpu": ("timing", 0), "bench": ("bench", 0), "memory": ("frontier", 2), "atlas": ("atlas", 0),
    "energy": ("energy", 0), "training": ("training", 0), "optimizers": ("optimizers", 0), "circuits": ("circuits", 0),
    "gradients": ("gradients", 0), "gradient": ("frontier", 0), "descent": ("frontier", 1),
}  # fmt: skip


def driver_told(name="gpu"):
    """The proof of the GPU record and every answer of the driver."""
    arms = {arm: "gpu" in arm for arm in GPU_ARMS}
    proof = sealed.proof(arms, seconds=60.0)
    for arm, about in proof["arms"].items():
        about |= {"seconds": 2.0, "steps": 1, "kernels": 7 if arms[arm] else 0}
    return proof, sealed.polls(list(GPU_ARMS))


def frame(name):
    """The record of that name."""
    return _frame(name).copy()


@functools.cache
def _frame(name):
    study, number = BASES[name]
    facts = sealed.provenance(sealed.GPU if name == "gpu" else "")
    table = pd.DataFrame([{**row, **facts, **COMMON} for row in _rows(name)])
    if name == "gpu":
        table["proof"] = json.dumps(driver_told()[0], sort_keys=True)
    return sealed.sealed(table, study, number)


def value_of(said):
    """A value as the table of cases says it: a number in words, or text that is repeated."""
    if isinstance(said, dict) and "times" in said:
        return said["text"] * said["times"]
    words = {"nan": float("nan"), "inf": float("inf"), "-inf": -float("inf"), "none": None}
    return words.get(said, said) if isinstance(said, str) else said


def tamper(table, study, number, steps):
    """`table` after what a case does to its rows, one step after the other."""
    for step in steps:
        rows = slice(None) if step.get("rows", "all") == "all" else [step["rows"]]
        match step:
            case {"set": column, "to": said}:
                values = table[column].astype(object) if column in table else pd.Series([None] * len(table), dtype=object)
                values.iloc[rows] = value_of(said)
                kind = type(table[column].iloc[0]) if column in table else None
                table = table.assign(**{column: values if kind is str else values.infer_objects()})
            case {"json": column, "at": path, "to": said}:
                content = json.loads(table[column].iloc[0])
                place = content
                for key in path[:-1]:
                    place = place[key]
                if said == "gone":
                    del place[path[-1]]
                else:
                    place[path[-1]] = value_of(said)
                table = table.assign(**{column: json.dumps(content, sort_keys=True)})
            case {"multiply": column, "by": factor}:
                chosen = table.index.isin(table.index[rows])
                table = table.assign(**{column: table[column].where(~chosen, table[column] * factor)})
            case {"drop": column}:
                table = table.drop(columns=column)
            case {"rename": column, "to": other}:
                table = table.rename(columns={column: other})
            case {"type": column, "to": kind}:
                table = table.assign(**{column: table[column].astype(kind)})
            case {"double": row}:
                table = pd.concat([table, table.iloc[[row]]], ignore_index=True)
            case {"delete": row}:
                table = table.drop(index=row).reset_index(drop=True)
            case {"keep": count}:
                table = table.iloc[:count]
            case {"names": count, "of": column}:
                table = pd.concat([table.iloc[[0]].assign(**{column: f"name {k}"}) for k in range(count)], ignore_index=True)
            case {"reseal": True}:
                table = sealed.sealed(table, study, number)
            case _:
                raise ValueError(step)
    return table


def arrow(table, steps):
    """`table` for a file, with the types that no data frame has."""
    made = pa.Table.from_pandas(table, preserve_index=False)
    for step in steps:
        match step:
            case {"arrow": column, "to": "binary"}:
                values = pa.array([str(value).encode() for value in made.column(column).to_pylist()], pa.binary())
            case {"arrow": column, "to": "not utf-8"}:
                offsets = pa.py_buffer(bytes(pa.array(range(len(made) + 1), pa.int32()).buffers()[1])[: 4 * (len(made) + 1)])
                values = pa.Array.from_buffers(pa.string(), len(made), [None, offsets, pa.py_buffer(b"\xff" * len(made))])
            case {"arrow": column, "to": "list"}:
                values = pa.array([[value] for value in made.column(column).to_pylist()])
            case {"arrow": column, "to": "struct"}:
                values = pa.array([{"value": value} for value in made.column(column).to_pylist()])
            case {"arrow": column, "to": "timestamp"}:
                values = pa.array([0] * len(made), pa.timestamp("s"))
            case {"arrow": column, "to": "bool"}:
                values = pa.array([True] * len(made))
            case {"arrow": column, "to": "unsigned"}:
                values = pa.array([2**64 - 1] * len(made), pa.uint64())
            case {"twice": column}:
                made = made.append_column(column, made.column(column))
                continue
        made = made.set_column(made.column_names.index(column), column, values)
    return made


def spoil(file, said):
    """What a case does to the file; returns nothing."""
    content = file.read_bytes()
    other = file.parent / said.get("name", "x")
    match said["do"]:
        case "cut":
            file.write_bytes(content[: int(len(content) * said["share"])])
        case "empty":
            file.write_bytes(b"")
        case "text":
            file.write_text(said["text"])
        case "append":
            file.write_bytes(content + b"x" * said["bytes"])
        case "prepend":
            file.write_bytes(b"x" * said["bytes"] + content)
        case "overwrite":
            file.write_bytes(content[: said["at"]] + bytes(said["bytes"]) + content[said["at"] + said["bytes"] :])
        case "footer length":
            file.write_bytes(content[:-8] + (2**31 - 1).to_bytes(4, "little") + b"PAR1")
        case "copy":
            other.write_bytes(content)
        case "name":
            file.rename(other)
        case "link":
            file.rename(file.with_suffix(".elsewhere"))
            file.symlink_to(file.with_suffix(".elsewhere"))
        case "dangling link":
            file.unlink()
            file.symlink_to("/nowhere")
        case "folder":
            file.unlink()
            file.mkdir()
        case "pipe":
            file.unlink()
            os.mkfifo(file)
        case "csv":
            pd.read_parquet(file).to_csv(file)
        case "feather":
            pd.read_parquet(file).to_feather(file)
        case _:
            raise ValueError(said)


def write(folder, name, case):
    """The record `name` with the faults of a case, in the build folder `folder`; returns the file."""
    study, number = BASES[name]
    steps = case.get("rows", [])
    table = tamper(frame(name), study, number, steps)
    place = folder / "records" / case.get("folder", study)
    place.mkdir(parents=True, exist_ok=True)
    file = place / f"{table['record'].iloc[0] if len(table) and 'record' in table else ''}.parquet"
    if not schema.FILE_NAMES.fullmatch(file.name):
        file = place / f"{'0' * 16}.parquet"
    pq.write_table(arrow(table, case.get("arrow", [])), file)
    if name == "gpu" and case.get("told", True) is not False:
        proof = table["proof"].iloc[0]
        line = {"record": table["record"].iloc[0], "cell": "original", "polls": driver_told()[1]}
        line["proof"] = json.loads(proof) if proof.startswith(("{", "[")) else None
        for step in case.get("answers", []):
            place = line
            for key in step["at"][:-1]:
                place = place[key]
            if step["to"] == "gone":
                del place[step["at"][-1]]
            else:
                place[step["at"][-1]] = value_of(step["to"])
        (folder / "gpu").mkdir(exist_ok=True)
        (folder / "gpu" / "proof.jsonl").write_text(case.get("log", json.dumps(line)) + "\n")
    if "file" in case:
        spoil(file, case["file"])
    return file
