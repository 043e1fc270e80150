"""What is done, what is out of date and what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from rich.console import Console, Group
from rich.table import Table

from hybridbench import paths
from hybridbench.errors import DataError
from hybridbench.measurement import schema
from hybridbench.progress import duration
from hybridbench.workflow import parameters, profiles, run
from hybridbench.workflow.terminal import cells


@dataclass(frozen=True)
class Records:
    """How much a study has: `files` record files and `rows` rows, in `build/` and shipped."""

    study: str
    build_files: int
    build_rows: int
    shipped_files: int
    shipped_rows: int


def records() -> list[Records]:
    """Counts of every study that has records; reads the files' footers only."""
    own, shipped = paths.build_dir() / "records", paths.data_dir() / "records"
    studies = sorted(
        {folder.name for place in (own, shipped) if place.is_dir() for folder in place.iterdir() if folder.is_dir()}
    )
    return [Records(study, *_count(own / study), *_count(shipped / study)) for study in studies]


def _count(folder: Path) -> tuple[int, int]:
    files = sorted(folder.glob("*.parquet"))
    return len(files), sum(_rows(file) for file in files)


def _rows(file: Path) -> int:
    try:
        return pq.read_metadata(file).num_rows
    # Of a file whose structure is damaged Arrow raises whatever it stumbles over.
    except Exception as error:
        name = f"{file.parent.name}/{file.name}" if file.is_symlink() else paths.relative(file)
        what = "is a symbolic link that leads nowhere: remove the link" if file.is_symlink() else f"is damaged ({error})"
        again = "" if file.is_symlink() else f"; {schema.remedy(file)}"
        raise DataError(f"Record {name} {what}{again}.") from error


def show(profile: str = "quick", console: Console | None = None) -> None:
    """Print the notebooks of `profile`, the records and the machine.

    Raises:
        ConfigurationError: unknown profile, or one that does not fit the notebooks.
    """
    notebooks = Table("notebook", "status", "last run", title=f"Profile {profile}")
    for step in run.plan(profile, profiles.load(profile)):
        style = {"done": "green", "out of date": "yellow", "missing": "red"}[step.status]
        took = duration(step.last_seconds) if step.last_seconds is not None else "-"
        notebooks.add_row(step.notebook, f"[{style}]{step.status}[/{style}]", took)
    found = Table("study", "build: files", "rows", "shipped: files", "rows", title="Records")
    for row in records():
        found.add_row(*cells(row.study, row.build_files, row.build_rows, row.shipped_files, row.shipped_rows))
    console = console or Console()
    console.print(Group(notebooks, found))
    console.print(parameters.machine_line(), soft_wrap=True, highlight=False, markup=False)
