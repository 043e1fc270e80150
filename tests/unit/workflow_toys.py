"""Tiny notebooks that run in a second, for the tests of runs and profiles."""

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

PARAMETERS = """\
n_qubits: int = 4  # wires [allowed: 2..8]
learning_rate: float = 0.1  # step size [allowed: 0.0001..1]
optimizers: list[str] = ["adam", "sgd"]  # compared [allowed: adam|sgd|nadam]
shuffle: bool = True  # new order in each epoch
"""


def toy(folder: Path, name: str, *code: str, parameters: str = PARAMETERS, box: str = "**Takes** about 2 s") -> Path:
    """Write a notebook `name` with a parameters cell and the given code cells."""
    folder.mkdir(parents=True, exist_ok=True)
    cells = [new_markdown_cell(f"# {name}\n\n> {box}"), new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    cells += [new_code_cell(source) for source in code]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    file = folder / f"{name}.ipynb"
    nbformat.write(new_notebook(cells=cells, metadata=kernel), file)
    return file


def profile(folder: Path, name: str, text: str) -> Path:
    """Write a profile file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.yaml"
    file.write_text(text)
    return file
