"""pytest plugin around nbval: `python -m pytest -p tests.notebooks.gate --nbval notebooks`.

Every committed notebook is run afresh, in order, and what it stored has to come out again: printed text and HTML tables.
Only pictures and standard error are left out. All notebooks of one call share one new build folder, so that a later one
finds the records of an earlier one and none finds those of a previous run.
"""

import os
import shutil
import tempfile

import pytest
from nbval.plugin import IPyNbFile

NOT_COMPARED = ("image/svg+xml", "stderr")  # png and jpeg are left out by nbval itself
_folder = pytest.StashKey[str]()


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


def compared_outputs(cell):
    """The texts of one stored code cell that the gate compares."""
    tags = cell.metadata.get("tags", [])
    if cell.execution_count is None or {"nbval-ignore-output", "nbval-skip"} & set(tags):
        return []
    if any(marker in cell.source for marker in ("NBVAL_IGNORE_OUTPUT", "NBVAL_SKIP", "PYTEST_VALIDATE_IGNORE_OUTPUT")):
        return []
    texts = []
    for output in cell.outputs:
        if output.output_type == "stream" and output.name == "stdout":
            texts.append(output.text)
        for kind in ("text/plain", "text/html"):
            if kind in output.get("data", {}):
                texts.append(output.data[kind])
    return [text for text in texts if text.strip()]
