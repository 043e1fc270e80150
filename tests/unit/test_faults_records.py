"""Faults of records: strangers' and damaged ones, each refused with a sentence, and nothing is written because of it."""

import os
import runpy
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import fault_records
import numpy as np
import pandas as pd
import pytest
from workflow_toys import profile, toy

from hybridbench import paths
from hybridbench.errors import ConfigurationError, DataError, HybridbenchError, plain
from hybridbench.measurement import checksums, records, schema
from hybridbench.workflow import cli, profiles

FAULTS = tomllib.loads((Path(__file__).parents[1] / "faults" / "records.toml").read_text(encoding="utf-8"))
CASES = FAULTS["case"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A checkout of our own, with one shipped table that must stay as it is."""
    monkeypatch.setattr(paths, "root", lambda: tmp_path)
    monkeypatch.setattr(paths, "data_dir", lambda: tmp_path / "data")
    monkeypatch.setenv("HYBRIDBENCH_BUILD", str(tmp_path / "build"))
    monkeypatch.setattr(records, "_check_commits", lambda *_: None)
    (tmp_path / "data" / "records" / "timing").mkdir(parents=True)
    (tmp_path / "data" / "records" / "timing" / "amd-epyc-2c-7056ba.parquet").write_bytes(b"another study's table")
    checksums.write_checksums()
    return tmp_path


def everything(folder):
    """Every file below a folder and its bytes."""
    files = [Path(where, name) for where, _, names in os.walk(folder) for name in names]
    return {file: file.read_bytes() for file in files if file.is_file() and not file.is_symlink()}


def use(name, case, place):
    study = case.get("folder", fault_records.BASES[name][0])
    if case.get("by") == "ship":
        return records.ship([study], place / "build")
    return records.RecordStore(study).read()


@pytest.mark.parametrize("by", ["read", "ship"])
@pytest.mark.parametrize("name", fault_records.BASES)
def test_the_true_record_is_taken(place, name, by):
    fault_records.write(place / "build", name, {})
    found = use(name, {"by": by}, place)
    assert len(found)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_fault_is_refused_with_a_sentence(place, monkeypatch, case):
    if case.get("git"):
        monkeypatch.undo()
        monkeypatch.setattr(paths, "root", lambda: place)
        monkeypatch.setattr(paths, "data_dir", lambda: place / "data")
        monkeypatch.setenv("HYBRIDBENCH_BUILD", str(place / "build"))
        made = subprocess.run(["git", "init", "--quiet", str(place)], check=False)
        if made.returncode:
            pytest.skip("there is no git")
    fault_records.write(place / "build", case["record"], case)
    before = everything(place)
    with pytest.raises((DataError, ConfigurationError)) as refused:
        use(case["record"], case, place)
    sentence = str(refused.value)
    assert case["says"] in sentence
    assert sentence.isprintable()
    assert len(sentence) < 700
    assert everything(place) == before


def test_the_cases_are_many_and_differ():
    assert len(CASES) >= 150
    assert len({str({k: v for k, v in case.items() if k not in {"name", "says", "kind"}}) for case in CASES}) == len(CASES)
    assert {case["kind"] for case in CASES} == {"tampered", "forged", "malformed", "hostile"}


def test_every_flipped_bit_is_seen_or_changes_nothing(place):
    """Of a record as the suite writes it: a flip is refused with a sentence, or the rows are the very same."""
    store = records.RecordStore("energy")
    table = fault_records.frame("energy")
    file = store.folder / f"{table['record'].iloc[0]}.parquet"
    records._write_parquet(schema.table_of(table, "energy", file), file)
    true, content = store.read(), file.read_bytes()
    sentences = []
    for bit in np.random.default_rng(0).choice(8 * len(content), 250, replace=False):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << (bit % 8)
        file.write_bytes(flipped)
        try:
            found = store.read()
        except HybridbenchError as error:
            sentences.append(str(error))
        else:
            pd.testing.assert_frame_equal(found, true)
    assert len(sentences) > 150
    assert all(sentence.isprintable() for sentence in sentences)


@pytest.mark.parametrize("case", FAULTS["profile"], ids=lambda case: case["name"])
def test_a_profile_is_refused_before_anything_grows(tmp_path, case):
    for name in ("00_first", "01_second"):
        toy(tmp_path / "notebooks", name, "print(1)")
    text = case["text"] + case.get("then", "") * case.get("times", 0) + case.get("end", "")
    profile(tmp_path / "profiles", "quick", text)
    begin = time.monotonic()
    with pytest.raises(ConfigurationError) as refused:
        profiles.load("quick", tmp_path / "profiles", tmp_path / "notebooks")
    assert time.monotonic() - begin < 5
    sentence = str(refused.value)
    assert case["says"] in sentence
    assert plain(sentence) == sentence.replace("\n", " ")
    assert len(sentence) < 500


@pytest.mark.parametrize("case", FAULTS["checksums"], ids=lambda case: case["name"])
def test_a_list_of_checksums_hides_nothing(tmp_path, case):
    folder = tmp_path / "data"
    (folder / "records" / "energy").mkdir(parents=True)
    for name in ("one.csv", "two.csv", "records/energy/x.parquet"):
        (folder / name).write_text(name)
    listed = checksums.write_checksums(folder)
    assert checksums.verify_all(folder) == 3
    (tmp_path / "outside.txt").write_text("secret")
    match case:
        case {"drop": name}:
            listed.write_text("".join(line for line in listed.read_text().splitlines(True) if f"  {name}\n" not in line))
        case {"add": name} | {"change": name} | {"written": name}:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text("other")
        case {"remove": name}:
            (folder / name).unlink()
        case {"link": name}:
            (folder / name).rename(tmp_path / "moved")
            (folder / name).symlink_to(tmp_path / "moved")
        case {"linked": name} | {"written_link": name}:
            (folder / name).symlink_to(tmp_path / "outside.txt")
        case {"folder": name}:
            (folder / name).unlink()
            (folder / name).mkdir()
        case {"line": line}:
            listed.write_text(f"{listed.read_text()}{line}\n")
        case {"text": text}:
            listed.write_text(text)
    with pytest.raises(DataError) as refused:
        checksums.write_checksums(folder) if {"written", "written_link"} & set(case) else checksums.verify_all(folder)
    assert case["says"] in str(refused.value)
    assert str(refused.value).isprintable()


def test_names_with_a_dot_are_no_part_of_the_data(tmp_path):
    (tmp_path / "one.csv").write_text("1")
    (tmp_path / ".DS_Store").write_text("x")
    assert "DS_Store" not in checksums.write_checksums(tmp_path).read_text()
    assert checksums.verify_all(tmp_path) == 1


@pytest.mark.parametrize(
    "kind", ["nothing", "a file", "a file below", "an empty study", "a circle", "a name of no study", "notes"]
)
def test_a_folder_of_another_shape_is_refused_by_the_command(place, monkeypatch, capsys, kind):
    folder = place / "given"
    study = folder / "records" / "energy"
    match kind:
        case "a file":
            folder.write_text("x")
        case "a file below":
            folder.mkdir()
            (folder / "records").write_text("x")
        case "an empty study":
            study.mkdir(parents=True)
        case "a circle":
            folder.mkdir()
            (folder / "records").symlink_to("records")
        case "a name of no study":
            (folder / "records" / "\x1b[31m..x").mkdir(parents=True)
        case "notes":
            study.mkdir(parents=True)
            (study / "notes.txt").write_text("x")
    before = everything(place)
    monkeypatch.setattr(sys, "argv", ["hybridbench", "ship", "--from", str(folder)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert error.startswith("hybridbench: ")
    assert error.rstrip("\n").isprintable()
    assert everything(place) == before


def test_a_run_of_the_tests_says_how_many_faults_were_caught():
    told = runpy.run_path(str(Path(__file__).parents[1] / "conftest.py"))["caught"]
    named = "tests/unit/test_faults_records.py::test_a_fault[{}]"
    cases = (*CASES, *FAULTS["profile"], *FAULTS["checksums"])
    names = [case["name"].encode("unicode_escape").decode() for case in cases]
    (line,) = told([*(named.format(name) for name in names), named.format("no case"), "tests/unit/test_x.py::test"])
    assert line.startswith(f"faults of records caught: {len(names)} of {len(names)} (")
    assert told([named.format(names[0])]) == [f"faults of records caught: 1 of {len(names)} (1 {CASES[0]['kind']})"]
    assert told([]) == []
