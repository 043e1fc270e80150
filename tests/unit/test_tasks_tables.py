"""The tables: made from their sources, shipped with checksums, compared, and refused where damaged."""

import dataclasses
import hashlib

import numpy as np
import pandas as pd
import pytest

from hybridbench import paths, tasks
from hybridbench.errors import ConfigurationError, DataError
from hybridbench.measurement import checksums
from hybridbench.tasks import generated, real, tables


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    tasks.write_tables(folder)
    return folder


@pytest.mark.parametrize("name", tasks.names())
def test_shipped_table_is_what_the_source_gives(name):
    task, shipped = tasks.get(name), tasks.read_table(name)
    assert tables.largest_difference(tasks.make_table(name), shipped) <= tables.TOLERANCE
    assert shipped.columns[-1] == "target"
    assert shipped.shape[1] == task.n_columns + 1
    assert np.isfinite(shipped.to_numpy(float)).all()
    if task.kind == "classification":
        assert sorted(shipped["target"].unique()) == list(range(task.n_classes))


def test_nine_data_sets_are_shipped_and_mnist_is_not():
    assert set(tasks.names()) == {
        *("digits_3v5", "digits", "breast_cancer", "wine", "diabetes"),
        *("hidden_manifold", "two_curves", "linearly_separable", "moons"),
    }
    assert set(tasks.TASKS) - set(tasks.names()) == {"mnist_3v5"}
    assert all(key == task.name for key, task in tasks.TASKS.items())


def test_writing_twice_gives_the_same_bytes(written, tmp_path):
    tasks.write_tables(tmp_path)
    assert (tmp_path / checksums.SUMS).read_text() == (written / checksums.SUMS).read_text()
    assert checksums.verify_all(tmp_path) == len(tasks.names()) + 1
    assert not list(tmp_path.rglob("*.part"))


def test_comparison_agrees_and_sees_one_changed_value(written, tmp_path):
    assert tasks.compare_tables(written)["agrees"].all()
    tasks.write_tables(tmp_path)
    file = tmp_path / "tasks" / "moons.csv"
    table = pd.read_csv(file)
    table.loc[7, "x1"] += 1e-5
    table.to_csv(file, index=False)
    checksums.write_checksums(tmp_path)
    compared = tasks.compare_tables(tmp_path)
    assert not compared.loc["moons", "agrees"]
    assert compared.drop("moons")["agrees"].all()


def test_comparison_does_not_pass_other_rows_or_missing_numbers():
    table = tasks.make_table("moons")
    assert tables.largest_difference(table.iloc[:-1], table) == np.inf
    assert tables.largest_difference(table.rename(columns={"x0": "y0"}), table) == np.inf
    holed = table.copy()
    holed.loc[0, "x0"] = np.nan
    assert not tables.largest_difference(holed, table) <= tables.TOLERANCE


def test_damaged_table_is_refused(written, tmp_path, monkeypatch):
    tasks.write_tables(tmp_path)
    monkeypatch.setattr(paths, "data_dir", lambda: tmp_path)
    file = tmp_path / "tasks" / "wine.csv"
    file.write_text(file.read_text().replace("14.23", "14.24", 1))
    with pytest.raises(DataError, match=r"wine\.csv is damaged"):
        tasks.prepare("wine", 2, seed=0)
    file.unlink()
    with pytest.raises(DataError, match=r"wine\.csv is missing"):
        tasks.read_table("wine")


def test_datasheet_is_the_one_the_code_writes_and_names_every_task(written):
    shipped = (paths.data_dir() / "DATASHEET.md").read_text(encoding="utf-8")
    assert shipped == (written / "DATASHEET.md").read_text(encoding="utf-8")
    for task in tasks.TASKS.values():
        assert task.name in shipped
        assert task.source in shipped
        assert task.licence in shipped


def test_nothing_is_written_when_one_table_cannot_be_made(tmp_path, monkeypatch):
    holed = dataclasses.replace(tasks.TASKS["wine"], load=lambda: real.wine().iloc[:, 1:])
    monkeypatch.setitem(tasks.TASKS, "wine", holed)
    with pytest.raises(DataError, match="'wine' gave a table of shape"):
        tasks.write_tables(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_unknown_task_names_the_nearest():
    with pytest.raises(ConfigurationError, match=r"Unknown task 'digit_3v5'\. Did you mean 'digits_3v5'"):
        tasks.make_table("digit_3v5")
    with pytest.raises(ConfigurationError, match="Did you mean 'moons'"):
        tasks.prepare("moon", 2, seed=0)


def test_a_new_task_needs_one_entry(tmp_path, monkeypatch):
    def rings() -> pd.DataFrame:
        angle = np.linspace(0, 6, 80)
        radius = 1 + np.arange(80) % 2
        return pd.DataFrame({"x0": radius * np.cos(angle), "x1": radius * np.sin(angle), "target": np.arange(80) % 2})

    task = tasks.Task(
        name="rings",
        kind="classification",
        classes=("inner", "outer"),
        n_columns=2,
        source="this test",
        licence="Apache-2.0",
        description="Two rings.",
        made="By a formula.",
        limits="Tiny.",
        load=rings,
    )
    monkeypatch.setitem(tasks.TASKS, "rings", task)
    monkeypatch.setattr(paths, "data_dir", lambda: tmp_path)
    tasks.write_tables(tmp_path)
    prepared = tasks.prepare("rings", 2, seed=0)
    assert prepared.x_train.shape == (48, 2)
    assert "## rings" in (tmp_path / "DATASHEET.md").read_text(encoding="utf-8")


def test_generators_follow_their_formulas():
    curves = generated.two_curves(noise=0.0, offset=0.25, n_samples=60)
    again = generated.two_curves(noise=0.0, offset=0.0, n_samples=60)
    shift = curves.drop(columns="target") - again.drop(columns="target")
    assert np.allclose(shift.to_numpy(), 0.25 * curves["target"].to_numpy()[:, None], atol=2e-6)
    cube = generated.linearly_separable(n_samples=200, n_columns=6, margin=1.0)
    sums = cube.drop(columns="target").sum(axis=1)
    assert (sums.abs() > 1.0 - 1e-5).all()
    assert ((sums > 0) == (cube["target"] == 1)).all()
    sheet = generated.hidden_manifold(n_samples=100, n_columns=9, manifold_dimension=2)
    assert sheet["target"].sum() == 50
    # Undoing the tanh leaves a two-dimensional plane.
    plane = np.arctanh(sheet.drop(columns="target").to_numpy())
    spread = np.linalg.svd(plane - plane.mean(axis=0), compute_uv=False)
    assert spread[2] < 1e-2 * spread[1]


def test_linearly_separable_stays_so_with_few_features():
    prepared = tasks.prepare("linearly_separable", 2, seed=0)
    first = prepared.x_test[:, 0]
    assert max(first[prepared.y_test == 0]) < min(first[prepared.y_test == 1]) or max(first[prepared.y_test == 1]) < min(
        first[prepared.y_test == 0]
    )


def test_mnist_without_a_network_says_what_to_use(tmp_path, monkeypatch):
    def no_network(*args, **kwargs):
        raise OSError("no route")

    monkeypatch.setattr(real, "_mnist_cache", lambda: tmp_path / "absent.npz")
    monkeypatch.setattr(real.urllib.request, "urlopen", no_network)
    with pytest.raises(DataError, match=r"needs the network.*use the task 'digits_3v5'"):
        tasks.prepare("mnist_3v5", 4, seed=0)


def test_mnist_with_a_network_is_a_table_like_the_others(tmp_path, monkeypatch):
    import tensorflow as tf

    rng = np.random.RandomState(0)
    digit = np.tile(np.arange(10), 30)
    images = rng.randint(0, 256, size=(300, 28, 28)).astype(np.uint8)
    cached = tmp_path / "mnist.npz"
    cached.write_bytes(b"")
    monkeypatch.setattr(real, "_mnist_cache", lambda: cached)
    monkeypatch.setattr(tf.keras.datasets.mnist, "load_data", lambda: ((images, digit), (images[:50], digit[:50])))
    assert tf.keras.Model.__module__.startswith("tf_keras")
    table = tasks.make_table("mnist_3v5")
    assert table.shape == (70, 785)
    prepared = tasks.prepare("mnist_3v5", 3, seed=0, max_samples=40)
    assert prepared.x_train.shape == (24, 3)
    assert set(prepared.y_train) == {0, 1}


def test_digits_3v5_is_taken_from_digits():
    both, two = tasks.read_table("digits"), tasks.read_table("digits_3v5")
    chosen = both[both["target"].isin([3, 5])].reset_index(drop=True)
    assert (chosen.drop(columns="target") == two.drop(columns="target")).all().all()
    assert ((chosen["target"] == 5).astype(int) == two["target"]).all()


def test_diabetes_is_not_scaled_over_all_rows():
    assert tasks.read_table("diabetes")["age"].between(18, 100).all()


def test_tables_are_plain_text_with_unix_line_ends():
    for name in tasks.names():
        content = (paths.data_dir() / "tasks" / f"{name}.csv").read_bytes()
        assert b"\r" not in content
        assert hashlib.sha256(content).hexdigest() == checksums.read_checksums()[f"tasks/{name}.csv"]
