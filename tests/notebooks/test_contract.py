"""Every notebook keeps the notebook contract, and the quick profile is the notebooks' own defaults."""

import json
import re
import statistics
from pathlib import Path

import nbformat
import pytest

from hybridbench.workflow import parameters, profiles, run

ROOT = Path(__file__).resolve().parents[2]
NAMES = [
    "00_start_here",
    "01_data_preparation",
    "02_circuit_design",
    "03_cpu_baseline",
    "04_gpu_runs",
    "05_optimizer_comparison",
    "06_analysis",
]
BOX = ("Question", "Method", "You will see", "Takes", "Needs", "Produces")
CLOSING = ["What we found", "Limits", "Next"]
PICTURES = {"image/png", "image/jpeg", "image/svg+xml"}
ABSOLUTE = re.compile(r"(?<![\w./:~\-])/(?:home|root|tmp|work|usr|opt|Users|content|mnt|var)/[\w.\-]+|[A-Z]:\\\\\w+")


def read(name):
    file = ROOT / "notebooks" / f"{name}.ipynb"
    if not file.is_file():
        pytest.fail(f"notebooks/{name}.ipynb is missing")
    return nbformat.read(file, as_version=4)


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def notebook(name):
    return read(name)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def markdown(notebook):
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def headings(notebook, level):
    # A "#" within a fenced block is code.
    prose = re.sub(r"^```.*?^```", "", markdown(notebook), flags=re.MULTILINE | re.DOTALL)
    return re.findall(rf"^{'#' * level} +(.+?) *$", prose, flags=re.MULTILINE)


def words(text):
    """Words that a reader reads: no code blocks, formulas, table rules, link targets or images."""
    text = re.sub(r"```.*?```|\$\$.*?\$\$", " ", text, flags=re.DOTALL)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return len(re.findall(r"\w[\w'’.\-]*", text))


def lines(cell):
    return len([line for line in cell.source.splitlines() if line.strip()])


def test_there_are_seven_notebooks():
    assert parameters.names() == NAMES


def test_a_notebook_is_valid_and_asks_for_the_plain_python_kernel(notebook):
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor >= 5) == (4, True)
    assert notebook.metadata.kernelspec.name == "python3"
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)


def test_it_opens_with_a_title_badges_and_the_box(notebook):
    opening = []
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            break
        opening.append(cell.source)
    opening = "\n\n".join(opening)
    assert opening.startswith("# ")
    assert len(headings(notebook, 1)) == 1
    assert "colab.research.google.com" in opening
    assert "icense" in opening
    positions = [opening.find(f"**{word}**") for word in BOX]
    assert -1 not in positions, f"the box lacks {[word for word, at in zip(BOX, positions, strict=True) if at < 0]}"
    assert positions == sorted(positions)


def test_the_box_says_how_long_it_takes_in_words_the_run_understands(notebook):
    seconds = run.takes_seconds(notebook.cells)
    assert seconds is not None, "write **Takes** as '... 40 s ...' or '... 2 minutes ...'"
    assert seconds < 600


def test_bootstrap_then_parameters_then_their_check_then_the_machine(name, notebook):
    cells = code_cells(notebook)
    assert cells[0].source.startswith("# bootstrap")
    tagged = [number for number, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", [])]
    assert tagged == [1]
    assert f'validate("{name}", globals())' in cells[2].source
    early = [cell for cell in cells[2:5] if "machine_line()" in cell.source]
    assert early
    assert all("nbval-ignore-output" in cell.metadata.get("tags", []) for cell in early)
    assert parameters.schema(name)
    assert all(known.help for known in parameters.schema(name).values())


def test_the_stored_run_used_the_defaults(notebook):
    (output,) = code_cells(notebook)[2].outputs
    assert output.text.startswith("Profile: notebook defaults (quick)\n")
    assert not any("injected-parameters" in cell.metadata.get("tags", []) for cell in notebook.cells)


def test_sections(notebook):
    found = headings(notebook, 2)
    assert found[-3:] == CLOSING
    assert 4 <= len(found) - 3 <= 7, found


def test_what_we_found_is_printed_from_results(notebook):
    titles = [
        number for number, cell in enumerate(notebook.cells) if re.search(r"^## What we found", cell.source, re.MULTILINE)
    ]
    limits = [number for number, cell in enumerate(notebook.cells) if re.search(r"^## Limits", cell.source, re.MULTILINE)]
    between = [cell for cell in notebook.cells[titles[0] : limits[0]] if cell.cell_type == "code"]
    assert any(cell.outputs for cell in between)


def test_words_and_lines(notebook):
    cells = code_cells(notebook)
    assert 35 <= words(markdown(notebook)) / len(cells) <= 60
    assert statistics.median(lines(cell) for cell in cells) <= 8
    longest = max(cells, key=lines)
    assert lines(longest) <= 30, longest.id


def test_a_sentence_reads_every_figure(notebook):
    for cell, after in zip(notebook.cells, [*notebook.cells[1:], None], strict=True):
        if cell.cell_type == "code" and any(PICTURES & set(output.get("data", {})) for output in cell.outputs):
            assert after is not None, cell.id
            assert after.cell_type == "markdown", f"no sentence after the figure of cell {cell.id}"
            assert not after.source.startswith("#"), f"a heading, no sentence, after the figure of cell {cell.id}"


def test_pictures_have_alt_text(notebook):
    for cell in code_cells(notebook):
        for output in cell.outputs:
            for kind in PICTURES & set(output.get("data", {})):
                meta = output.metadata
                assert meta.get(kind, {}).get("alt") or meta.get("alt"), f"no alt text in cell {cell.id}"


def test_it_is_stored_as_one_clean_run_from_top_to_bottom(notebook):
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        for output in cell.outputs:
            assert output.output_type != "error", cell.id
            assert output.get("name") != "stderr", f"cell {cell.id}: {output.text[:200]}"


def test_it_names_no_absolute_path_and_no_time_of_execution(name, notebook):
    for cell in notebook.cells:
        assert not {"papermill", "execution"} & set(cell.metadata), cell.id
        texts = [cell.source]
        for output in cell.get("outputs", []):
            texts += [
                output.get("text", ""),
                *(str(value) for kind, value in output.get("data", {}).items() if kind not in PICTURES),
            ]
        for text in texts:
            found = ABSOLUTE.search(text)
            assert not found, f"cell {cell.id} of {name}: {found[0]}"
    assert "papermill" not in notebook.metadata


def test_the_quick_profile_is_the_notebooks_defaults():
    """Written by 'hybridbench defaults > profiles/quick.yaml'."""
    assert profiles.load("quick") == {name: parameters.defaults(name) for name in NAMES}


def test_the_full_profile_fits_every_notebook_and_is_larger():
    full = profiles.load("full")
    assert list(full) == NAMES
    assert full != profiles.load("quick")


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ("see /home/me/x.csv", True),
        ("in '/tmp/abc'", True),
        ("https://example.org/home/page", False),
        ("build/tmp/x", False),
        ("a/b and c", False),
        (json.dumps({"path": "/opt/repo/file"}), True),
    ],
)
def test_the_search_for_absolute_paths_finds_them(text, bad):
    assert bool(ABSOLUTE.search(text)) == bad


def test_words_are_counted_as_a_reader_does():
    assert words("One [two](https://example.org/three) $$four$$\n```\nfive\n```") == 2
