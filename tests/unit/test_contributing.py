"""Each recipe of CONTRIBUTING.md, followed to the letter."""

import re

import numpy as np
import pandas as pd
import pytest

from hybridbench import paths, tasks
from hybridbench.circuits import ansatze, spec
from hybridbench.circuits.properties import gradient_liveness
from hybridbench.design import routes
from hybridbench.measurement import checksums, records
from hybridbench.report import style
from hybridbench.training import loop, optimizers, steps, study
from hybridbench.training.config import TrainingConfig
from hybridbench.workflow import profiles


def section(title):
    text = (paths.root() / "CONTRIBUTING.md").read_text()
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


def code(title):
    (block,) = re.findall(r"```python\n(.*?)```", section(title), flags=re.DOTALL)
    return block


def test_a_circuit(monkeypatch):
    monkeypatch.setattr(spec, "ANSAETZE", dict(ansatze.ANSAETZE))
    names = {"ANSAETZE": spec.ANSAETZE, "Ansatz": ansatze.Ansatz, "qml": ansatze.qml}
    exec(code("A circuit"), names)
    made = spec.CircuitSpec("angle", "brick_wall", n_qubits=4, n_layers=2)
    assert made.weight_shape == (2, 4, 2)
    assert gradient_liveness(made, n_points=3, seed=0).n_live > 0
    assert made.separable_twin().n_parameters == made.n_parameters


def test_a_route(monkeypatch):
    names = dict(vars(routes))
    exec(code("A route"), names)
    (made,) = set(names["ROUTES"]) - set(routes.ROUTES)
    (arm,) = made.arms
    monkeypatch.setitem(routes._BY_ARM, arm, made)
    (call,) = re.findall(r"`steps\.(methods_cell\(.*\))`", section("A route"))
    cell = eval(call, vars(steps).copy())
    assert cell.arms[0].arguments["backend"] == "lightning.kokkos"
    assert not cell.arms[0].gpu
    assert all((made.style.colour, made.style.marker, made.style.dash) != tuple(old.style[1:]) for old in routes.ROUTES)


def test_an_optimizer(monkeypatch):
    monkeypatch.setattr(optimizers, "OPTIMIZERS", dict(optimizers.OPTIMIZERS))
    monkeypatch.setitem(style.STYLES["optimizer"], "adamax", style.Style("Adamax", "#000000", "o", "-"))
    names = {"OPTIMIZERS": optimizers.OPTIMIZERS, "Optimizer": optimizers.Optimizer, "tf": optimizers.tf}
    exec(code("An optimizer"), names)
    rows = loop.train(TrainingConfig("wine", n_qubits=2, n_layers=1, batch_size=16, epochs=1, optimizer="adamax"))
    assert np.isfinite(rows[-1]["val_loss"])
    (named,) = re.findall(r"hybridbench study((?: --optimizer \w+)+)`", section("An optimizer"))
    monkeypatch.setattr(study, "OPTIMIZERS", optimizers.OPTIMIZERS)
    assert study.plans(["basins"], ["hybrid"], named.split()[1::2])


def test_a_task(monkeypatch, tmp_path):
    from hybridbench.tasks import registry

    def load():
        rng = np.random.default_rng(0)
        x = rng.normal(size=(60, 3)).round(6)
        return pd.DataFrame(x, columns=["a", "b", "c"]).assign(target=(x[:, 0] > 0).astype(int))

    example = tasks.get("wine")
    fields = {**vars(example), "name": "sign", "n_columns": 3, "load": load}
    fields |= {"classes": ("below", "above")} if "classes" in fields else {}
    monkeypatch.setitem(registry.TASKS, "sign", type(example)(**fields))
    monkeypatch.setattr(paths, "data_dir", lambda: tmp_path)
    tasks.write_tables(tmp_path)
    checksums.verify_all(tmp_path)
    assert "sign" in (tmp_path / "DATASHEET.md").read_text()
    assert tasks.prepare("sign", 2, 0).x_train.shape == (36, 2)
    (line,) = re.findall(r"--param (\S+data)`", section("A task"))
    assert profiles.override(profiles.load("quick"), [line])["01_data_preparation"]["output"] == "data"


def test_a_machines_records(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "data_dir", lambda: tmp_path / "data")
    monkeypatch.setenv("HYBRIDBENCH_BUILD", str(tmp_path / "build"))
    cell = steps.batching_cell(2, 1, 2)
    store = records.RecordStore("timing")
    rows = [
        {"arm": arm.name, "part": "step", "sample": sample, "seconds": 0.1, "first_call_seconds": 0.2}
        for arm in cell.arms
        for sample in range(cell.samples)
    ]
    store.write(cell, rows)
    records.ship(["timing"])
    shipped = records.read_records("timing")
    assert len(shipped) == 60
    assert set(shipped["cell"]) == {"batching"}


@pytest.mark.parametrize("title", ["A circuit", "An optimizer", "A task", "A machine's records"])
def test_recipes_name_files_that_exist(title):
    for name in re.findall(r"`((?:src|docs|data)/[\w/.]+\.(?:py|md))`", section(title)):
        assert (paths.root() / name).is_file(), name
