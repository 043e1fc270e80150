"""At the end of a run: how many of the faults listed in tests/faults were caught."""

import tomllib
from collections import Counter
from pathlib import Path

import pytest

FAULTS = Path(__file__).parent / "faults"


def caught(passed):
    """One line per list of faults of which a test passed: how many cases were caught, of how many, by kind.

    Args:
        passed: ids of the tests that passed, "tests/unit/test_faults_records.py::test_a_fault[its name]".
    """
    lines = []
    for file in sorted(FAULTS.glob("*.toml")):
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
        cases = [(case["name"], case.get("kind", table)) for table, own in tables.items() for case in own]
        kinds = {name.encode("unicode_escape").decode(): kind for name, kind in cases}  # as pytest writes them
        own = [name.partition("[")[2].removesuffix("]") for name in passed if f"/test_faults_{file.stem}.py::" in f"/{name}"]
        found = Counter(kinds[name] for name in own if name in kinds)
        if found:
            parts = ", ".join(f"{count} {kind}" for kind, count in sorted(found.items()))
            lines.append(f"faults of {file.stem} caught: {found.total()} of {len(kinds)} ({parts})")
    return lines


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in caught([report.nodeid for report in terminalreporter.getreports("passed")]):
        terminalreporter.write_line(line)
