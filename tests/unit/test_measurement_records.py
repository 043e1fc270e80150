"""Records: named by configuration, written once and whole, checked when read."""

from dataclasses import dataclass, replace

import pandas as pd
import pytest

from hybridbench import paths
from hybridbench.errors import ConfigurationError, DataError
from hybridbench.measurement import checksums, columns, machine, records
from hybridbench.measurement.records import COMMANDS


@dataclass(frozen=True)
class EnergyConfig:
    optimizer: str = "adam"
    learning_rate: float = 0.1
    seed: int = 0
    steps: int = 100
    batch_size: int = 100
    n_qubits: int = 8
    revision: int = 1


ROWS = [{"step": 0, "energy": 0.25, "seconds": 0.0}, {"step": 1, "energy": 0.5, "seconds": 0.1}]


@pytest.fixture
def store(tmp_path):
    return records.RecordStore("energy", tmp_path / "energy")


def test_equal_configurations_have_equal_names_and_others_do_not():
    assert records.config_hash(EnergyConfig()) == records.config_hash(EnergyConfig())
    names = {records.config_hash(replace(EnergyConfig(), **change)) for change in ({}, {"seed": 1}, {"learning_rate": 0.2})}
    assert len(names) == 3


def test_a_record_holds_configuration_rows_machine_and_versions(store):
    store.write(EnergyConfig(), ROWS)
    table = store.read()
    assert table["energy"].tolist() == [0.25, 0.5]
    assert set(table["optimizer"]) == {"adam"}
    assert set(table["machine"]) == {machine.this_machine().id}
    assert set(table["pennylane"]) == {"0.41.1"}
    assert set(table["proof"]) == {""}
    assert set(table.columns) <= set(columns.COLUMNS)


def test_one_pandas_call_reads_a_folder(store):
    store.write(EnergyConfig(), ROWS)
    store.write(EnergyConfig(seed=1), ROWS)
    assert len(pd.read_parquet(store.folder)) == 4


def test_a_record_is_never_overwritten(store):
    file = store.write(EnergyConfig(), ROWS)
    before = file.read_bytes()
    with pytest.raises(DataError, match="never overwritten"):
        store.write(EnergyConfig(), [{"step": 0, "energy": 0.9, "seconds": 0.0}])
    assert file.read_bytes() == before
    assert list(store.folder.iterdir()) == [file]


def test_missing_names_what_a_resumed_run_has_to_do(store):
    every = [EnergyConfig(seed=seed) for seed in range(4)]
    store.write(every[1], ROWS)
    assert store.missing(every) == [every[0], every[2], every[3]]
    with pytest.raises(DataError, match="3 of 4 energy records are missing"):
        store.read(every)


def test_nothing_half_written_stays(store, monkeypatch):
    def broken(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(records.pq, "write_table", broken)
    with pytest.raises(OSError, match="disk full"):
        store.write(EnergyConfig(), ROWS)
    assert list(store.folder.iterdir()) == []


def test_an_undocumented_column_and_an_empty_record_are_refused(store):
    with pytest.raises(ConfigurationError, match="'enrgy' has no description"):
        store.write(EnergyConfig(), [{**ROWS[0], "enrgy": 1.0}])
    with pytest.raises(ConfigurationError, match="no rows"):
        store.write(EnergyConfig(), [])
    with pytest.raises(ConfigurationError, match="frozen dataclass"):
        store.write({"a": 1}, ROWS)


@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_a_damaged_record_is_named(store, damage):
    rows = [{"step": step, "energy": step / 700, "seconds": step / 7} for step in range(100)]
    file = store.write(EnergyConfig(), rows)
    data = bytearray(file.read_bytes())
    if damage == "flip":
        data[200] ^= 0xFF
    file.write_bytes(bytes(data) if damage == "flip" else bytes(data[: len(data) // 2]))
    with pytest.raises(DataError, match=f"{file.name} is damaged"):
        store.read()


def test_no_records_says_what_to_run(store):
    with pytest.raises(DataError, match="'hybridbench run'"):
        store.read()
    with pytest.raises(DataError, match=r"No optimizers records .*'hybridbench study'"):
        records.RecordStore("optimizers", store.folder).read()


def test_the_commands_that_make_records_exist():
    from hybridbench.workflow.cli import app

    known = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert set(COMMANDS.values()) <= known


def test_shipping_copies_own_records_and_a_damaged_table_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "data_dir", lambda: tmp_path / "data")
    monkeypatch.setenv("HYBRIDBENCH_BUILD", str(tmp_path / "build"))
    store = records.RecordStore("energy")
    store.write(EnergyConfig(), ROWS)
    (written,) = records.ship(["energy"])
    assert written.name == f"{machine.this_machine().id}.parquet"
    assert len(records.read_records("energy")) == 2
    store.write(EnergyConfig(seed=1), ROWS)
    records.ship(["energy"])
    assert len(records.read_records("energy")) == 4
    assert checksums.verify_all() == 1
    written.write_bytes(written.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match="is damaged"):
        records.read_records("energy")


def test_an_unknown_source_or_study_is_named():
    with pytest.raises(ConfigurationError, match="'shipped' or 'build'"):
        records.read_records("energy", "mine")
    with pytest.raises(DataError, match="Unknown study 'nothing': known are circuits, "):
        records.read_records("nothing")


def test_all_shipped_data_have_their_checksums_and_every_file_is_listed():
    folder = paths.data_dir()
    files = {f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file() and f.name != checksums.SUMS}
    assert set(checksums.read_checksums()) == files
    assert checksums.verify_all() == len(files)


def test_shipped_records_are_plain_small_and_documented():
    files = sorted((paths.data_dir() / "records").rglob("*.*"))
    assert files
    assert {file.suffix for file in files} == {".parquet"}
    assert sum(file.stat().st_size for file in files) < 60 * 2**20
    for study in records.shipped_studies():
        table = records.read_records(study)
        assert set(table.columns) <= set(columns.COLUMNS)
        assert not table[["machine", "cpu", "python", "pennylane", "tensorflow", "commit"]].eq("").any().any()


def test_the_page_of_the_columns_is_the_table_in_the_code():
    assert columns.as_markdown() in (paths.root() / "docs" / "records.md").read_text()


def test_the_machine_names_no_owner():
    import getpass
    import socket

    text = " ".join(map(str, machine.provenance().values()))
    assert socket.gethostname() not in text.split()
    assert f"/{getpass.getuser()}" not in text
    assert machine.this_machine().id == machine.this_machine().id
    assert machine.this_machine().cores >= 1


def test_what_a_killed_process_leaves_does_not_spoil_the_folder(store, monkeypatch):
    store.write(EnergyConfig(), ROWS)
    monkeypatch.setattr(records.Path, "unlink", lambda *_, **__: None)
    monkeypatch.setattr(records.os, "link", lambda *_: None)
    store.write(EnergyConfig(seed=1), ROWS)
    (left,) = store.folder.glob(".*")
    left.write_bytes(b"half")
    assert len(pd.read_parquet(store.folder)) == 2
    assert len(store.read()) == 2


def test_shipping_hides_no_damage(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "data_dir", lambda: tmp_path / "data")
    monkeypatch.setenv("HYBRIDBENCH_BUILD", str(tmp_path / "build"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data/table.csv").write_text("1\n")
    checksums.write_checksums()
    records.RecordStore("energy").write(EnergyConfig(), ROWS)
    (tmp_path / "data/table.csv").write_text("2\n")
    with pytest.raises(DataError, match=r"table.csv is damaged"):
        records.ship(["energy"])
    assert not (tmp_path / "data/records").exists()


def test_a_table_that_was_never_shipped_is_seen_and_not_adopted(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "data_dir", lambda: tmp_path / "data")
    monkeypatch.setenv("HYBRIDBENCH_BUILD", str(tmp_path / "build"))
    records.RecordStore("energy").write(EnergyConfig(), ROWS)
    (written,) = records.ship(["energy"])
    extra = written.with_name("extra.parquet")
    extra.write_bytes(written.read_bytes())
    with pytest.raises(DataError, match=r"extra.parquet is not listed in SHA256SUMS.*Move it away"):
        checksums.verify_all()
    with pytest.raises(DataError, match=r"extra.parquet is not listed"):
        records.ship(["energy"])
    extra.unlink()
    # Another machine's table of the same study stays, and no damage of it is hidden.
    other = written.with_name("other.parquet")
    other.write_bytes(written.read_bytes())
    checksums.write_checksums()
    other.write_bytes(written.read_bytes() + b" ")
    with pytest.raises(DataError, match=r"other.parquet is damaged"):
        records.ship(["energy"])


def test_a_table_that_cannot_be_written_leaves_the_shipped_one(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "data_dir", lambda: tmp_path / "data")
    monkeypatch.setenv("HYBRIDBENCH_BUILD", str(tmp_path / "build"))
    records.RecordStore("energy").write(EnergyConfig(), ROWS)
    (written,) = records.ship(["energy"])
    before = written.read_bytes()

    def full(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr(records.pq, "write_table", full)
    with pytest.raises(OSError, match="no space"):
        records.ship(["energy"])
    assert written.read_bytes() == before
    assert list(written.parent.iterdir()) == [written]


@pytest.mark.parametrize("text", ["", "\n", "abc\n", "0" * 64 + " one-space\n"])
def test_a_damaged_list_of_checksums_is_named(tmp_path, text):
    (tmp_path / checksums.SUMS).write_text(text)
    with pytest.raises(DataError, match="empty or damaged"):
        checksums.verify_all(tmp_path)


def test_a_relative_build_folder_does_not_depend_on_where_one_stands(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDBENCH_BUILD", "elsewhere")
    before = paths.build_dir()
    monkeypatch.chdir(tmp_path)
    assert paths.build_dir() == before == paths.root() / "elsewhere"
