"""Set-up: complete hashed locks without an index, the same for conda, and a Makefile that says what it can do."""

import re
import subprocess
import sys
import tomllib
from importlib import metadata

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from hybridbench import paths

ROOT = paths.root()
LOCKS = ("requirements.lock", "requirements-gpu.lock")
ENTRY = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>\S+)(?P<rest>[^\n]*(?:\n    --hash=\S+(?: \\)?)*)", re.MULTILINE)


def locked(name):
    return {canonicalize_name(m["name"]): m for m in ENTRY.finditer((ROOT / name).read_text())}


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_hashes_and_no_index_is_named(name):
    text = (ROOT / name).read_text()
    assert not re.search(r"https?://|index-url|find-links", text)
    assert len(locked(name)) == len(re.findall(r"^[\w.-]+==", text, flags=re.MULTILINE)) > 10
    assert all("--hash=sha256:" in m["rest"] for m in locked(name).values())


def test_the_locks_hold_what_the_project_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    both = locked("requirements.lock")
    for text in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(both[canonicalize_name(wanted.name)]["version"]), text
    gpu = locked("requirements-gpu.lock")
    assert {"pennylane-lightning-gpu", "nvidia-cuda-nvcc-cu12", "nvidia-cudnn-cu12"} <= set(gpu)
    assert not set(gpu) & set(both), "the second lock adds to the first and repeats nothing"


def test_the_lock_is_complete_for_what_is_installed():
    """Everything that runs here came from the lock, at its version."""
    both = locked("requirements.lock") | locked("requirements-gpu.lock")
    found = {canonicalize_name(d.name): d.version for d in metadata.distributions()}
    apart = {"pip", "setuptools", "hybridbench"}
    wrong = {n: v for n, v in found.items() if n not in apart and (n not in both or both[n]["version"] != v)}
    assert wrong == {}


def test_conda_gets_the_same_locks():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pip == [f"-r {name}" for name in LOCKS]
    (python,) = [entry for entry in environment["dependencies"] if str(entry).startswith("python=")]
    assert python.removeprefix("python=") in {"3.11", "3.12", "3.13"}


def test_python_311_to_313():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11,<3.14"
    assert (3, 11) <= sys.version_info < (3, 14)


def test_make_help_lists_every_target():
    makefile = (ROOT / "Makefile").read_text()
    phony = set(re.search(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)[1].split())
    done = subprocess.run(
        ["make", "-C", str(ROOT), "--no-print-directory", "help"], capture_output=True, text=True, check=True
    )
    assert set(re.findall(r"^  make ([\w-]+)", done.stdout, flags=re.MULTILINE)) == phony


def test_the_ci_script_calls_the_readmes_commands_and_nothing_else():
    script = (ROOT / ".ci" / "run").read_text()
    commands = [line for line in script.splitlines() if line and not line.startswith(("#", "set ", "cd "))]
    assert commands == re.search(r"```\n(make reproduce\nmake test)\n```", (ROOT / "README.md").read_text())[1].splitlines()
