"""The schema of records: it fits the dataclasses that name them, and what rests on it holds."""

import ast
import io
import json
import re

import fault_records
import numpy as np
import psutil
import pytest
import sealed
from rich.console import Console

from hybridbench import paths
from hybridbench.analysis import claims, costs, prose
from hybridbench.analysis.statistics import Interval
from hybridbench.analysis.tables import ELSEWHERE, Number, cite
from hybridbench.errors import DataError, check_name, plain, shown
from hybridbench.measurement import records, schema
from hybridbench.measurement.columns import COLUMNS
from hybridbench.workflow import verdict


def fields_of(name):
    """The fields of a frozen dataclass of the suite, with those of the one that it is made from, read from its source."""
    for file in (paths.root() / "src" / "hybridbench").rglob("*.py"):
        if f"class {name}" not in (text := file.read_text()):
            continue
        for node in ast.parse(text).body:
            if isinstance(node, ast.ClassDef) and node.name == name:
                inherited = [fields_of(ast.unparse(base).rpartition(".")[2]) for base in node.bases]
                own = [line.target.id for line in node.body if isinstance(line, ast.AnnAssign)]
                return [field for fields in inherited for field in fields] + own
    raise AssertionError(f"there is no {name}")


@pytest.mark.parametrize("kind", [kind for kinds in schema.STUDIES.values() for kind in kinds], ids=lambda kind: kind.config)
def test_a_kind_of_record_has_the_fields_of_its_dataclass(kind):
    if kind.config == "Toy":
        pytest.skip("the toys of the sweeps")
    assert sorted(kind.fields) == sorted(fields_of(kind.config))
    assert {*kind.fields, *kind.results, *kind.optional, *kind.key} <= set(COLUMNS)


def test_the_name_of_a_record_is_the_hash_of_its_columns():
    from hybridbench.measurement.timing import Arm, TimingCell

    cell = TimingCell("batching", 2, 1, 1, (Arm("loop", "module:function", {"rate": 0.1, "sizes": [1, 2]}),))
    assert records.config_hash(cell) == schema.config_name("TimingCell", records.config_columns(cell))


def test_the_shipped_records_pass_as_they_are():
    for study in ("timing", "atlas", "bench", "frontier", "circuits", "gradients", "training"):
        assert len(records.read_records(study))


def test_a_number_of_another_machine_says_so_wherever_it_is_shown():
    rows = fault_records.frame("gpu")
    ours = Number.of(Interval(1.3, 1.2, 1.4, n=30), cite(rows))
    theirs = Number.of(Interval(1.3, 1.2, 1.4, n=30), cite(rows.assign(contributed="yes")))
    assert (ours.text, ours.short) == ("1.30 [1.20, 1.40]", "1.30")
    assert (theirs.text, theirs.short) == ("1.30 [1.20, 1.40] (taken elsewhere)", "1.30 (taken elsewhere)")
    assert theirs.records[-1] == f"{ELSEWHERE} on {rows['machine'].iloc[0]}"
    share = {"value": 5, "unit": "%", "text": "5.4 [3.1, 7.7] % (taken elsewhere)", "short": "5.4 % (taken elsewhere)"}
    assert {"5.4%", "3.1%", "7.7%"} <= prose.known_numbers({"claims": [], "numbers": {"share": share}})


def test_what_a_name_says_is_shown_and_never_obeyed():
    class Decided:
        id, claim, verdict, needs_gpu = "C01", "[bold]fast[/bold] \x1b[31mred", "confirmed", False
        text = "[link=http://x]1.3[/link]"

    out = io.StringIO()
    verdict.show(verdict.compare([Decided], [Decided], True), Console(file=out, force_terminal=True, width=200))
    text = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue().replace("\x1b[31mred", "RED"))
    assert "[bold]fast[/bold]" in text
    assert "[link=http://x]1.3[/link]" in text
    assert "RED" not in text
    assert "\x1b]8" not in out.getvalue()


@pytest.mark.parametrize(
    "value",
    ["\x1b]0;x\x07", "a\u202eb", "x" * 10**6, 10**5000, float("nan"), [[[[[[1]]]]]], {"a": "\x1b"}, b"\x1b"],
    ids=lambda value: type(value).__name__,
)
def test_any_value_is_shown_short_and_plain(value):
    assert shown(value).isprintable()
    assert len(shown(value)) <= 60
    assert plain(value if isinstance(value, str) else "") == plain(plain(value if isinstance(value, str) else ""))


def test_a_name_of_a_megabyte_makes_no_error_of_a_megabyte():
    with pytest.raises(ValueError, match="Unknown task") as refused:
        check_name("task", "x" * 10**6, ["wine"])
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("seconds", [[-1.0, 1.0], [0.0, 1.0], [np.nan, 1.0], [np.inf, 1.0]])
def test_times_below_zero_end_in_a_sentence_and_not_the_interpreter(seconds):
    with pytest.raises(DataError, match="needs times above 0"):
        costs.least_relative(np.ones((2, 5)), np.array(seconds))
    with pytest.raises(DataError, match="needs times above 0"):
        costs.least_relative(np.zeros((2, 5)), np.ones(2))


def test_only_this_machine_reaches_the_workers_and_their_dashboard():
    from distributed import Client

    from hybridbench.training import sweep

    me = psutil.Process()
    with sweep._pool(print, "local", 1) as pool:
        assert isinstance(pool._client, Client)
        processes = [me, *me.children(recursive=True)]
        listening = [c.laddr.ip for p in processes for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert listening
    assert set(listening) <= {"127.0.0.1", "::1"}


def test_a_commit_has_to_be_one_of_the_repository(tmp_path, monkeypatch):
    table = fault_records.frame("energy")
    for commit in ("unknown", "unknown+changes"):
        records._check_commits(table.assign(commit=commit), "energy")
    monkeypatch.setattr(paths, "root", lambda: tmp_path)  # no repository: nobody can be asked
    records._check_commits(table, "energy")


def test_a_proof_of_the_made_up_driver_is_one():
    table = fault_records.frame("gpu")
    proof, polls = fault_records.driver_told()
    schema.check_raw_proof(table, {"proof": proof, "polls": polls}, "proof.jsonl")
    assert schema.proof_rule(json.dumps(proof), table["arms"].iloc[0], (sealed.GPU,), sealed.DRIVER) == ""


def test_a_table_that_is_gone_is_missed(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "data_dir", lambda: tmp_path)
    number = {"records": ["energy (560 records)", "timing/0123456789abcdef"]}
    (tmp_path / "claims.json").write_text(json.dumps({"claims": [{"number": None}], "numbers": {"one": number}}))
    for study in ("energy", "timing"):
        (tmp_path / "records" / study).mkdir(parents=True)
        (tmp_path / "records" / study / "a.parquet").write_bytes(b"")
    claims.check_quoted()
    (tmp_path / "records" / "energy" / "a.parquet").unlink()
    with pytest.raises(DataError, match=r"no table of energy, and data/claims\.json quotes numbers from it"):
        claims.check_quoted()
    for content in ({"claims": [], "numbers": []}, {"claims": [1], "numbers": {}}, {"claims": [], "numbers": {"one": 1.3}}):
        (tmp_path / "claims.json").write_text(json.dumps(content))
        with pytest.raises(DataError, match="is not as it was written"):
            claims.check_quoted()


def test_the_state_of_a_run_is_a_strangers_file_too(tmp_path):
    from hybridbench.workflow.run import _read_state

    (tmp_path / "one.ipynb").write_text("{}")
    for text in ("[" * 100_000, "[]", '{"digest": 1}', "\x00"):
        (tmp_path / "one.json").write_text(text)
        assert _read_state(tmp_path / "one.ipynb") == {}
    for said, kept in (("1.5", 1.5), ('"long"', None), ("-1", None), ("NaN", None), ("true", None), ("1e400", None)):
        (tmp_path / "one.json").write_text(f'{{"digest": "x", "seconds": {said}}}')
        assert _read_state(tmp_path / "one.ipynb") == {"digest": "x", "seconds": kept}
