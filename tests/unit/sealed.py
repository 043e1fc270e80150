"""What makes made-up rows a record: its true name, a machine that its id fits, a GPU's proof. Nothing was measured."""

import dataclasses
import json
from types import SimpleNamespace
from unittest import mock

from hybridbench.measurement import records, schema
from hybridbench.measurement.machine import Machine
from hybridbench.measurement.proof import DeviceProof

GPU, DRIVER, COMMIT = "Test GPU", "580.1", "0123456789ab"
VERSIONS = {
    "python": "3.11.7", "pennylane": "0.41.1", "pennylane_lightning": "0.41.1", "tensorflow": "2.21.0", "tf_keras": "2.21.0",
    "numpy": "2.4.6", "scipy": "1.17.1",
}  # fmt: skip


def provenance(gpu="", cpu="a processor", cores=2, memory_gib=8.0):
    """The columns of a machine of our own making."""
    machine = Machine(cpu, cores, memory_gib, gpu, DRIVER if gpu else "", "Linux")
    return {"machine": machine.id, **dataclasses.asdict(machine), **VERSIONS, "commit": COMMIT}


def on(gpu=GPU, **more):
    """Records that are written in this block come from a machine with this GPU."""
    return mock.patch.object(records, "provenance", return_value=provenance(gpu, **more))


def shipping(monkeypatch):
    """Let the machine of these records ship them: no commit of theirs is one of this repository."""
    monkeypatch.setattr(records, "_check_commits", lambda *_: None)
    monkeypatch.setattr(records, "this_machine", lambda: SimpleNamespace(id=provenance(GPU)["machine"]))


def proof(arms=None, gpu=GPU, seconds=1e6, **more):
    """What the driver would have said; `arms` is name → whether it is a GPU's."""
    seen = {
        name: {"gpu": on_gpu, "devices": [], "kernels": None, "steps": 1, "seconds": 1.0, "utilisation_percent": 90 * on_gpu,
               "memory_mib": 0.0, "energy_joules": None}
        for name, on_gpu in (arms or {}).items()
    }  # fmt: skip
    found = DeviceProof(gpu, DRIVER, True, "pid", 512.0, 90, None, None, seconds, 2 + len(seen), seen)
    return {**dataclasses.asdict(found), **more}


def polls(arms, busy=90, memory=512.0):
    """What the driver would have answered while these arms ran alone, for `proof` with as many answers."""
    phases = ["idle", *arms, "samples"]
    return [[float(k), phase, busy, memory, None] for k, phase in enumerate(phases)]


def arms(names, gpu=lambda name: "gpu" in name.lower()):
    """The column `arms` of a record with these arms; "adam, 1000" is an update of 1000 parameters."""
    listed = [
        {"name": name, "factory": "module:function", "arguments": _update(name), "gpu": bool(gpu(name))} for name in names
    ]
    return json.dumps(listed, sort_keys=True)


def _update(name):
    optimizer, _, size = name.partition(", ")
    return {"optimizer": optimizer, "n_parameters": int(size)} if size.isdecimal() else {}


def sealed(table, study, number=0):
    """`table` with the names that the configurations of its rows give."""
    kind = schema.STUDIES[study][number]
    fields = list(kind.fields)
    names = {
        values: schema.config_name(kind.config, dict(zip(fields, values, strict=True)))
        for values in table[fields].drop_duplicates().itertuples(index=False, name=None)
    }
    found = [names[values] for values in table[fields].itertuples(index=False, name=None)]
    return table.assign(record=found, study=study)
