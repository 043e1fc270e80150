import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from hybridbench.errors import ConfigurationError
from hybridbench.report import figures, style

RECORDS = pd.DataFrame({"record": ["a", "a", "b"], "commit": ["c1"] * 3, "machine": ["m"] * 3, "seconds": [1.0, 2.0, 3.0]})


def drawn():
    with style.use_style():
        fig, axes = plt.subplots(figsize=(3, 2))
        axes.plot([1, 2], [1, 2], **style.style_of("adam").line())
        axes.legend()
        axes.set_xlabel("time (s)")
    plt.close(fig)
    return fig


def test_writes_three_pictures_and_their_story(tmp_path):
    written = figures.save_figure(drawn(), "one", "A caption.", "A line.", {"timing": RECORDS}, tmp_path)
    assert sorted(p.suffix for p in written) == [".json", ".pdf", ".png", ".svg"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one.json", "one.pdf", "one.png", "one.svg"]
    about = json.loads((tmp_path / "one.json").read_text())
    assert about["caption"] == "A caption."
    assert about["alt"] == "A line."
    assert about["inputs"][0] == {
        "input": "timing",
        "sha256": figures.table_sha256(RECORDS),
        "rows": 3,
        "records": 2,
        "commits": ["c1"],
        "machines": ["m"],
    }
    ElementTree.parse(tmp_path / "one.svg")


def test_same_bytes_in_another_process(tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; import test_report_figures as t;"
        "t.figures.save_figure(t.drawn(), 'one', 'c', 'a', {'timing': t.RECORDS}, Path(sys.argv[2]))"
    )
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "SOURCE_DATE_EPOCH": seed}
        here = os.path.dirname(__file__)
        subprocess.run([sys.executable, "-c", code, here, str(tmp_path / seed)], check=True, env=environment)
    for kind in ("pdf", "svg", "png", "json"):
        assert (tmp_path / "1" / f"one.{kind}").read_bytes() == (tmp_path / "2" / f"one.{kind}").read_bytes(), kind


def test_another_input_is_another_checksum():
    changed = RECORDS.assign(seconds=[1.0, 2.0, 3.5])
    assert figures.table_sha256(changed) != figures.table_sha256(RECORDS)
    assert figures.table_sha256(RECORDS.copy()) == figures.table_sha256(RECORDS)


def test_a_file_as_input(tmp_path):
    file = tmp_path / "table.csv"
    file.write_text("a\n1\n")
    assert set(figures.describe_input("table", file)) == {"input", "file", "sha256"}


@pytest.mark.parametrize(
    ("caption", "alt", "inputs"), [("", "a", {"t": RECORDS}), ("c", " ", {"t": RECORDS}), ("c", "a", {})]
)
def test_a_figure_without_its_story_is_refused(tmp_path, caption, alt, inputs):
    with pytest.raises(ConfigurationError, match="needs"):
        figures.save_figure(drawn(), "one", caption, alt, inputs, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_nothing_half_written(tmp_path, monkeypatch):
    fig = drawn()
    monkeypatch.setitem(figures.METADATA, "png", {"Software": object()})
    with pytest.raises(AttributeError):
        figures.save_figure(fig, "one", "c", "a", {"t": RECORDS}, tmp_path)
    assert not list(tmp_path.iterdir())


def test_shown_with_its_text_and_closed(monkeypatch):
    seen = {}
    monkeypatch.setattr(figures, "display", lambda data, metadata, raw: seen.update(data=data, metadata=metadata))
    fig = plt.figure()
    figures.show(fig, "Nothing drawn.")
    assert seen["metadata"] == {"image/png": {"alt": "Nothing drawn."}}
    assert seen["data"]["text/plain"] == "Figure: Nothing drawn."
    assert not plt.fignum_exists(fig.number)
    with pytest.raises(ConfigurationError):
        figures.show(plt.figure(), "")
    plt.close("all")
