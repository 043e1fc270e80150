import json
import re

import pytest
import report_tables

from hybridbench import paths
from hybridbench.analysis.claims import write_claims
from hybridbench.errors import ConfigurationError, DataError
from hybridbench.measurement import checksums
from hybridbench.report import gallery, paper


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    folder = tmp_path_factory.mktemp("build")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYBRIDBENCH_BUILD", str(folder))
        report_tables.write(folder)
        write_claims("build")
        gallery.build_figures("build")
        yield folder


def test_every_figure_of_the_gallery_is_there(build):
    names = {*gallery.GALLERY, gallery.LEDGER}
    assert {file.name for file in (build / "figures").iterdir()} == {
        "SHA256SUMS",
        *(f"{name}.{kind}" for name in names for kind in ("pdf", "svg", "png", "json")),
    }


def test_built_twice_the_same_bytes(build, monkeypatch):
    first = paper.build_paper("build").read_bytes()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert paper.build_paper("build").read_bytes() == first
    assert first.startswith(b"%PDF")
    assert not list(build.glob("*.part"))


def test_a_number_that_is_gone_stops_the_build(build):
    file = build / "claims.json"
    before = file.read_text()
    content = json.loads(before)
    del content["numbers"]["initial_energy"]
    try:
        file.write_text(json.dumps(content))
        with pytest.raises(DataError, match="initial_energy"):
            paper.render("build")
    finally:
        file.write_text(before)


def test_another_number_is_another_paper(build):
    file = build / "claims.json"
    before = file.read_text()
    first = paper.render("build")
    content = json.loads(before)
    content["numbers"]["initial_energy"]["text"] = "7 [6, 8]"
    try:
        file.write_text(json.dumps(content))
        assert paper.render("build") != first
    finally:
        file.write_text(before)


def test_a_replaced_figure_stops_the_build(build):
    file = build / "figures" / "batching.svg"
    before = file.read_bytes()
    try:
        file.write_bytes((build / "figures" / "energy.svg").read_bytes())
        with pytest.raises(DataError, match=r"batching\.svg is damaged"):
            paper.render("build")
    finally:
        file.write_bytes(before)


def test_the_shipped_paper_is_not_made_from_altered_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "data_dir", lambda: tmp_path)
    (tmp_path / "claims.json").write_text('{"claims": [], "numbers": {}}')
    checksums.write_checksums()
    (tmp_path / "claims.json").write_text('{"claims": [], "numbers": {"gpu": 1.3}}')
    with pytest.raises(DataError, match=r"claims\.json is damaged"):
        paper.render("shipped")


def test_no_decimal_is_typed_into_the_text():
    text = (paths.root() / "paper" / "paper.typ").read_text()
    lengths = r"\d+\.\d+\s*(?:em|pt|fr|mm|%)"
    typed = [found for found in re.findall(r"\d+\.\d+", re.sub(lengths, "", text)) if found not in {"1.1"}]
    assert typed == ["0.0001"]  # inside the name of a number


def test_every_picture_and_every_entry_of_the_bibliography_is_used():
    text = (paths.root() / "paper" / "paper.typ").read_text()
    pictures = set(re.findall(r'picture\("(\w+)"', text))
    assert {*gallery.GALLERY, gallery.LEDGER} <= pictures <= {*gallery.ALL, gallery.LEDGER}
    known = set(re.findall(r"^@\w+\{(\w+),", (paths.root() / "paper" / "refs.bib").read_text(), re.MULTILINE))
    assert known <= set(re.findall(r"@(\w+)", text))


def test_missing_inputs_say_what_to_run(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDBENCH_BUILD", str(tmp_path))
    with pytest.raises(DataError, match=r"claims\.json is missing: run"):
        paper.render("build")
    with pytest.raises(DataError, match="run the notebooks"):
        gallery.build_figures("build")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigurationError, match="'shipped' or 'build'"):
        paper.inputs("theirs")
