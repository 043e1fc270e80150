"""Numbers in prose come from claims.json: the lint passes on what is shipped and goes red on what is tampered with."""

import json

import pytest

from hybridbench import paths
from hybridbench.analysis import prose
from hybridbench.errors import DataError


def number(text, short):
    return {"text": text, "short": short}


CLAIMS = {
    "claims": [
        {
            "id": "C01",
            "claim": "a GPU trains 1.3x faster",
            "rule": "Confirmed if the 95 % interval holds 1.3.",
            "verdict": "open",
            "quantity": "step time, CPU over GPU",
            "number": None,
            "text": "–",
            "missing": "no GPU record",
        },
        {
            "id": "C02",
            "claim": "saves 25 %",
            "rule": "r",
            "verdict": "refuted",
            "quantity": "saving",
            "number": {"value": 5.4},
            "text": "5.4 [3.1, 7.7] %",
            "missing": "",
        },
    ],
    "numbers": {"ratio": number("1.93 [1.80, 2.11]", "1.93"), "protocol_confidence": number("95 %", "95 %")},
}
KNOWN = prose.known_numbers(CLAIMS)


@pytest.mark.parametrize(
    "text", ["It is 1.93 times.", "from 1.80 to 2.11", "5.4 % and 3.1 %", "1.3x faster", "1.93×", "95 % interval"]
)
def test_numbers_of_the_claims_file_pass(text):
    assert prose.stray_in(text, KNOWN) == []


@pytest.mark.parametrize(
    ("text", "stray"),
    [("1.94 times", "1.94"), ("a saving of 26 %", "26 %"), ("12x faster", "12x"), ("12 × faster", "12 ×"), ("26%", "26%")],
)
def test_other_numbers_are_found_with_their_line(text, stray):
    assert prose.stray_in(f"First line.\n{text}\n", KNOWN) == [(2, stray)]


@pytest.mark.parametrize(
    "text",
    [
        "Python 3.11, 3.12 or 3.13, PennyLane 0.41.1, v2.7.0",
        "arXiv:1412.6980 and doi:10.1000/182.5 and https://example.org/2.5",
        "on 2026-11-23, 8 qubits, batch 100, 4 x 4 and 4 × 4, 28 claims, Section 3.2",
    ],
)
def test_versions_dates_and_counts_are_not_results(text):
    assert prose.stray_in(text, set()) == []


BEGIN, END = (mark.format("claims") for mark in (prose.BEGIN, prose.END))


def test_markdown_code_links_and_the_generated_table_are_not_prose():
    text = f"`learning_rate=0.5`\n```\n9.99\n```\n[a](b-9.99.md) <!-- 9.99 -->\n{BEGIN}\n9.99\n{END}\nend 9.99\n"
    assert prose.stray_in(prose.markdown_prose(text), KNOWN) == [(9, "9.99")]


def test_typst_code_is_not_prose_but_its_content_blocks_are():
    text = (
        "#set text(size: 10.5pt)\n"
        "#let num(x) = text(9.1pt, x)\n"
        '#figure(image("a-1.5.svg", width: 80%), caption: [Falls by 7.5 here.])\n'
        "// 3.25\n"
        'A ratio of #num("ratio") holds, `0.5` too, and $x = 2.75$ does not.\n'
        '#emph[strongly 4.5]; a 95 % interval; #link("https://a.b/1.5")[site].\n'
        "#for x in (1.5, 2.5) {\n  [item 6.5]\n}\nplain 8.5\n"
    )
    found = prose.stray_in(prose.typst_prose(text), {"95%"})
    assert [line_number for line_number in found if line_number[1] != "6.5"] == [
        (3, "7.5"),
        (5, "2.75"),
        (6, "4.5"),
        (10, "8.5"),
    ]


def notebook(tmp_path, found):
    cells = [
        {"cell_type": "markdown", "source": ["# Title 9.1\n", "Takes 9.2 s"]},
        {"cell_type": "code", "source": ["x = 9.3"]},
        {"cell_type": "markdown", "source": ["## What we found\n", *found]},
        {"cell_type": "markdown", "source": "still 1.93"},
        {"cell_type": "markdown", "source": ["## Limits\n", "about 9.4"]},
    ]
    file = tmp_path / "05_x.ipynb"
    file.write_text(json.dumps({"cells": cells}, indent=1))
    return file


def test_notebook_conclusions(tmp_path):
    assert prose.check([notebook(tmp_path, ["Lightning is 1.93 times faster.\n"])], CLAIMS) == []
    file = notebook(tmp_path, ["Lightning is 1.93 times faster.\n", "Adam gains 9.5 % “more”."])
    (stray,) = prose.check([file], CLAIMS)
    assert stray.number == "9.5 %"
    assert "9.5 %" in file.read_text().splitlines()[stray.line - 1]
    assert str(stray).startswith(f"{file.as_posix()}:{stray.line}: '9.5 %' does not come from")


def test_other_files_are_refused(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match="neither Typst, Markdown nor a notebook"):
        prose.check([tmp_path / "a.txt"], CLAIMS)


def test_optimizers_stand_in_rows_and_kinds_in_columns():
    found = {"energy:adam": 0.9, "energy:sgd": 0.95, "data:adam": 0.7, "data:sgd": 0.8}
    found |= {"data:sgd:rate_low": 0.1, "data:sgd:rate_high": 10, "energy:adam:rate_low": 0.3, "energy:adam:rate_high": 0.3}
    numbers = {f"advice_{name}": {"value": value, "text": str(value)} for name, value in found.items()}
    assert prose.optimizers_table({"numbers": numbers}).splitlines() == [
        "| optimizer | data | learning rates | energy | learning rates |",
        "|---|---|---|---|---|",
        "| `sgd` | 0.8 | 0.1 to 10 | 0.95 | – |",
        "| `adam` | 0.7 | – | 0.9 | 0.3 |",
    ]


def test_readme_tables_are_renewed_once(tmp_path):
    readme, claims = tmp_path / "README.md", tmp_path / "claims.json"
    claims.write_text(json.dumps(CLAIMS))
    pairs = [f"{prose.BEGIN.format(name)}\nold\n{prose.END.format(name)}\n" for name in prose.TABLES]
    readme.write_text(f"# T\n{''.join(pairs)}rest\n")
    assert prose.update_readme(readme, claims)
    text = readme.read_text()
    assert "| C01 | a GPU trains 1.3x faster | ◇ open: no GPU record | – |" in text
    assert "| C02 | saves 25 % | ✘ refuted | 5.4 [3.1, 7.7] % |" in text
    assert text.startswith("# T\n")
    assert text.endswith("rest\n")
    assert not prose.update_readme(readme, claims)
    for lacking, text in (("claims:begin", "no markers"), ("optimizers:begin", pairs[0])):
        readme.write_text(text)
        with pytest.raises(DataError, match=lacking):
            prose.update_readme(readme, claims)
    with pytest.raises(DataError, match="hybridbench claims"):
        prose.load_claims(tmp_path / "none.json")


needs_claims = pytest.mark.skipif(not (paths.root() / "data/claims.json").is_file(), reason="no shipped claims yet")


@needs_claims
def test_shipped_prose_states_no_number_of_its_own():
    assert [str(stray) for stray in prose.check(prose.checked_files(), prose.load_claims())] == []


@needs_claims
@pytest.mark.parametrize("name", ["README.md", "paper/paper.typ"])
def test_a_typed_number_is_found_in_the_shipped_texts(tmp_path, name):
    original = paths.root() / name
    tampered = tmp_path / original.name
    tampered.write_text(original.read_text() + "\n\nThe GPU is 123.45 times faster.\n")
    before = len(prose.check([original], prose.load_claims()))
    found = prose.check([tampered], prose.load_claims())
    assert len(found) == before + 1
    assert found[-1].number == "123.45"


@needs_claims
def test_readme_tables_are_up_to_date():
    text = (paths.root() / "README.md").read_text()
    assert prose.with_tables(text, prose.load_claims()) == text, "run hybridbench.analysis.prose.update_readme()"


def test_the_readme_describes_the_optimizer_study_as_it_is():
    from hybridbench.analysis.optimizers import KINDS, LEFT_OUT
    from hybridbench.training import study
    from hybridbench.training.config import TrialConfig
    from hybridbench.training.optimizers import OPTIMIZERS

    words = dict(enumerate(("no", "one", "two", "three", "four", "five", "six", "seven", "eight"))) | {15: "fifteen"}
    classification, regression, energies = (
        words[len(set(KINDS[kind]) - {LEFT_OUT})] for kind in ("classification", "regression", "energy")
    )
    text = " ".join((paths.root() / "README.md").read_text().split())
    assert (
        f"{words[len(OPTIMIZERS)].capitalize()} optimizers, each tuned with the same budget on {classification} problems of "
        f"classification, {regression} of regression and {energies} energies, with {len(study.SEEDS)} paired seeds and runs "
        f"of {TrialConfig.steps} steps"
    ) in text
