"""Rooms import downwards only, without a circle, and the light ones load no model code."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import hybridbench

PACKAGE = Path(hybridbench.__file__).parent
FOUNDATION = {"children", "errors", "lock", "paths", "progress", "stack"}
ALLOWED = {
    "design": set(),
    "measurement": {"design"},
    "tasks": {"design", "measurement"},
    "engine": {"design", "measurement"},
    "circuits": {"design", "engine"},
    "training": {"design", "circuits", "engine", "tasks", "measurement"},
    "analysis": {"design", "measurement"},
    "report": {"design", "analysis", "measurement"},
    "workflow": {"design", "tasks", "engine", "circuits", "training", "measurement", "analysis", "report"},
}


def imported_rooms(source):
    """First parts below hybridbench of everything that a module imports, at any depth of nesting."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "hybridbench":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("hybridbench.")}
    return found


def violations(room, source):
    return imported_rooms(source) - FOUNDATION - {room} - ALLOWED[room]


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_imports_only_what_lies_below(room):
    files = sorted((PACKAGE / room).rglob("*.py"))
    assert files
    assert {str(file): bad for file in files if (bad := violations(room, file.read_text()))} == {}


def test_the_foundation_imports_no_room():
    for name in FOUNDATION:
        assert imported_rooms((PACKAGE / f"{name}.py").read_text()) <= FOUNDATION


def test_every_folder_is_a_room():
    assert {folder.name for folder in PACKAGE.iterdir() if folder.is_dir() and folder.name != "__pycache__"} == set(ALLOWED)


def test_the_check_sees_an_upward_import():
    assert violations("analysis", "def f():\n    from hybridbench.training.loop import train") == {"training"}


@pytest.mark.parametrize(
    "module", ["hybridbench", "hybridbench.analysis.claims", "hybridbench.report.plots", "hybridbench.workflow.cli"]
)
def test_light_modules_load_no_simulator(module):
    code = f"import sys, {module}; sys.exit(', '.join(sorted({{'tensorflow', 'pennylane'}} & set(sys.modules))) or None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
