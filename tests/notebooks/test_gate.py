"""The nbval gate compares results: a changed stored result turns it red."""

import base64
import copy
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from gate import compared_outputs, difference, ignored, pictures
from nbformat.v4 import new_code_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
QUICKEST = ROOT / "notebooks" / "01_data_preparation.ipynb"


def gate(file):
    """Exit code and output of the gate over one notebook, run as the test target runs it."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.notebooks.gate",
        "--nbval",
        "--color=no",
        "-p",
        "no:cacheprovider",
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    done = subprocess.run([*command, str(file)], cwd=ROOT, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def failed(text):
    """Numbers of the code cells that failed, from the gate's output."""
    return [int(number) for number in re.findall(r"^FAILED .*::Cell (\d+)", text, flags=re.MULTILINE)]


def write(folder, *cells):
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    file = folder / "toy.ipynb"
    nbformat.write(new_notebook(cells=list(cells), metadata=kernel), file)
    return file


def stream(source, text, name="stdout", **metadata):
    output = new_output("stream", name=name, text=text)
    return new_code_cell(source, outputs=[output], execution_count=1, metadata=metadata)


def result(source, **data):
    data = {kind.replace("_", "/"): text for kind, text in data.items()}
    output = new_output("execute_result", data=data, execution_count=1)
    return new_code_cell(source, outputs=[output], execution_count=1)


TABLE = "class Table:\n    def _repr_html_(self): return '<b>0.97</b>'\n    def __repr__(self): return 'Table'\nTable()"


PICTURE = """import io
import matplotlib.figure
from IPython.display import Image
figure = matplotlib.figure.Figure((2, 1))
figure.subplots().bar([1, 2], HEIGHTS)
buffer = io.BytesIO()
figure.savefig(buffer, format="png")
Image(buffer.getvalue())"""


def picture(heights, shown):
    """A cell that draws bars, and stores bars of the heights `shown`."""
    names = {"HEIGHTS": shown}
    exec(PICTURE.replace("Image(buffer.getvalue())", "").replace("from IPython.display import Image", ""), names)
    text = base64.b64encode(names["buffer"].getvalue()).decode()
    return result(PICTURE.replace("HEIGHTS", str(heights)), image_png=text, text_plain="<IPython.core.display.Image object>")


CASES = [
    (picture([1, 2], [1, 2]), True),
    (picture([1, 2], [1, 1.7]), False),
    (result("0.97", text_plain="0.97", image_png="aGk="), False),
    (stream("print(0.97)", "0.97\n"), True),
    (stream("print(0.97)", "0.98\n"), False),
    (stream("print(0.9700001)", "0.97\n"), False),
    (stream("print('a')\nprint('b')", "a\n"), False),
    (result("0.97", text_plain="0.97"), True),
    (result("0.97", text_plain="0.98"), False),
    (result(TABLE, text_plain="Table", text_html="<b>0.97</b>"), True),
    (result(TABLE, text_plain="Table", text_html="<b>0.98</b>"), False),
    (stream("import sys; print('noise', file=sys.stderr)", "other noise\n", name="stderr"), True),
    (stream("print(0.97)", "0.98\n", tags=["nbval-ignore-output"]), True),
    # All notebooks of one call share a new build folder.
    (stream("import os; print('mine' in os.environ['HYBRIDBENCH_BUILD'])", "False\n"), True),
    (new_code_cell("1 / 0", execution_count=1), False),
]


def test_what_the_gate_compares(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDBENCH_BUILD", str(tmp_path / "mine"))
    code, text = gate(write(tmp_path, *(cell for cell, _ in CASES)))
    assert code == 1
    assert failed(text) == [number for number, (_, passes) in enumerate(CASES) if not passes], text
    assert "Cells whose outputs are not compared: 2 (toy 2)." in text


def test_the_count_of_compared_cells_sees_what_nbval_skips():
    assert compared_outputs(stream("print(1)", "1\n")) == ["1\n"]
    unrun = stream("print(1)", "1\n")
    unrun.execution_count = None
    ignored = stream("print(1)", "1\n", tags=["nbval-ignore-output"])
    commented = stream("# NBVAL_IGNORE_OUTPUT\nprint(1)", "1\n")
    picture = result("fig", image_png="aGk=")
    for cell in (unrun, ignored, commented, picture, stream("x", "noise", name="stderr")):
        assert compared_outputs(cell) == []


#: Cells of each notebook that hold times or name the machine: nothing compares what they store, so that they are few.
LEFT_OUT = {
    "00_start_here": 4,
    "01_data_preparation": 1,
    "02_circuit_design": 1,
    "03_cpu_baseline": 9,
    "04_gpu_runs": 5,
    "05_optimizer_comparison": 3,
    "06_analysis": 1,
}


def test_no_further_cell_is_left_out():
    notebooks = {file.stem: nbformat.read(file, as_version=4) for file in NOTEBOOKS}
    found = {
        name: sum(cell.cell_type == "code" and bool(cell.outputs) and ignored(cell) for cell in notebook.cells)
        for name, notebook in notebooks.items()
    }
    assert found == LEFT_OUT


def test_a_replaced_picture_is_seen():
    cells = [c for c in nbformat.read(QUICKEST, as_version=4).cells if c.cell_type == "code" and pictures(c.outputs)]
    one, two = (pictures(cell.outputs) for cell in cells[:2])
    assert difference(one, one) == ""
    assert difference(one, two)
    assert difference(one, [])
    assert "is none" in difference([b"no picture"], one)


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_at_least_five_cells_of_each_notebook_are_compared(file):
    notebook = nbformat.read(file, as_version=4)
    compared = [cell for cell in notebook.cells if cell.cell_type == "code" and compared_outputs(cell)]
    assert len(compared) >= 5


def test_a_changed_result_of_a_committed_notebook_turns_the_gate_red(tmp_path):
    """One digit of one stored result is changed; that cell fails and no other does."""
    notebook = nbformat.read(QUICKEST, as_version=4)
    tampered = copy.deepcopy(notebook)
    cells = [cell for cell in tampered.cells if cell.cell_type == "code"]
    number, output = next(
        (number, output)
        for number, cell in reversed(list(enumerate(cells)))
        for output in cell.outputs
        if compared_outputs(cell) and output.output_type == "stream" and re.search(r"\d", output.text)
    )
    output.text = re.sub(r"\d", lambda found: str((int(found[0]) + 1) % 10), output.text, count=1)
    for name, content in (("genuine", notebook), ("tampered", tampered)):
        (tmp_path / name).mkdir()
        nbformat.write(content, tmp_path / name / QUICKEST.name)

    code, text = gate(tmp_path / "genuine" / QUICKEST.name)
    assert code == 0, text
    code, text = gate(tmp_path / "tampered" / QUICKEST.name)
    assert code == 1
    assert failed(text) == [number]
    assert "Cell outputs differ" in text
