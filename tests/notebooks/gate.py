"""pytest plugin around nbval: `python -m pytest -p tests.notebooks.gate --nbval notebooks`.

Every committed notebook is run afresh, in order, and what it stored has to come out again: printed text, HTML tables, and
pictures by what they show. Standard error is left out, and cells whose tag says that they hold times or name the machine;
the summary counts these. All notebooks of one call share one new build folder, so that a later one finds the records of an
earlier one and none finds those of a previous run.
"""

import base64
import io
import os
import shutil
import tempfile

import matplotlib.image
import numpy as np
import pytest
from nbval.plugin import IPyNbCell, IPyNbFile

NOT_COMPARED = ("image/svg+xml", "stderr")  # png and jpeg are left out by nbval itself; what png show is compared below
#: Pixels that may differ, and from which difference on one does: another processor rounds an edge otherwise.
SAME_PIXELS, SAME_COLOUR = 0.0005, 0.1
_folder = pytest.StashKey[str]()
_cells = pytest.StashKey[list]()


def pytest_configure(config):
    config.stash[_folder] = os.environ["HYBRIDBENCH_BUILD"] = tempfile.mkdtemp(prefix="hybridbench-nbval-")
    os.environ["HYBRIDBENCH_PROGRESS"] = "off"
    # The kernel of this environment, also where the user has installed another one of that name.
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"


def pytest_unconfigure(config):
    shutil.rmtree(config.stash[_folder], ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path, parent):
    collected = yield
    for file in collected:
        if isinstance(file, IPyNbFile):
            file.skip_compare += NOT_COMPARED
    return collected


def pictures(outputs):
    """The pictures of a cell's outputs, as PNG."""
    found = (output.get("data", {}).get("image/png") for output in outputs)
    return [base64.b64decode(data) for data in found if data]


def difference(stored, fresh):
    """What tells two lists of PNG apart in words, "" where they show the same."""
    if len(stored) != len(fresh):
        return f"{len(stored)} pictures are stored, and {len(fresh)} come out"
    for number, (before, after) in enumerate(zip(stored, fresh, strict=True), 1):
        try:
            one, two = (matplotlib.image.imread(io.BytesIO(content), format="png") for content in (before, after))
        except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises of a file that is no picture
            return f"stored picture {number} is none ({error})"
        if one.shape != two.shape:
            return f"stored picture {number} has {one.shape[:2]} pixels, and {two.shape[:2]} come out"
        share = float(np.mean(np.abs(one - two).max(axis=-1) > SAME_COLOUR))
        if share > SAME_PIXELS:
            return f"{100 * share:.2g} % of the pixels of stored picture {number} are others than come out"
    return ""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Let every cell compare its pictures too, once its texts are the same."""
    cells = config.stash[_cells] = [item for item in items if isinstance(item, IPyNbCell)]
    for item in cells:
        item.compare_outputs = _with_pictures(item, item.compare_outputs)


def _with_pictures(item, compare):
    def compared(test, ref, skip_compare=None):
        if not compare(test, ref, skip_compare):
            return False
        if found := difference(pictures(ref), pictures(test)):
            item.comparison_traceback.append(f"{item.colors.FAIL}{found}{item.colors.ENDC}")
            return False
        return True

    return compared


def pytest_terminal_summary(terminalreporter, config):
    left_out = {}
    for item in config.stash.get(_cells, []):
        if item.cell.outputs and not (
            compared_outputs(item.cell) or (not ignored(item.cell) and pictures(item.cell.outputs))
        ):
            left_out.setdefault(item.parent.path.stem, []).append(item)
    count = sum(map(len, left_out.values()))
    named = ", ".join(f"{name} {len(cells)}" for name, cells in left_out.items())
    terminalreporter.write_line(f"Cells whose outputs are not compared: {count}" + (f" ({named})." if named else "."))


def ignored(cell):
    """Whether a cell's outputs are left out by its tag or its text, or since it was not run."""
    if cell.execution_count is None or {"nbval-ignore-output", "nbval-skip"} & set(cell.metadata.get("tags", [])):
        return True
    return any(marker in cell.source for marker in ("NBVAL_IGNORE_OUTPUT", "NBVAL_SKIP", "PYTEST_VALIDATE_IGNORE_OUTPUT"))


def compared_outputs(cell):
    """The texts of one stored code cell that the gate compares."""
    if ignored(cell):
        return []
    texts = []
    for output in cell.outputs:
        if output.output_type == "stream" and output.name == "stdout":
            texts.append(output.text)
        for kind in ("text/plain", "text/html"):
            if kind in output.get("data", {}):
                texts.append(output.data[kind])
    return [text for text in texts if text.strip()]
