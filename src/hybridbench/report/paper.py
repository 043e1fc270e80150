"""The paper: Typst reads the text, `claims.json` and the figures, and writes the same bytes every time.

Everything that the text needs is copied to one temporary folder first: Typst reads nothing outside it, no system fonts
and no clock.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import typst

from hybridbench import paths
from hybridbench.errors import ConfigurationError, DataError
from hybridbench.measurement import checksums

SOURCES = ("paper.typ", "refs.bib")
EPOCH = 0  #: the creation time in the file, seconds since 1970: fixed, so that two builds agree


def inputs(source: str) -> tuple[Path, Path]:
    """The `claims.json` and the folder of figures that the paper of a source is made from.

    Raises:
        ConfigurationError: another source.
    """
    if source == "shipped":
        return paths.data_dir() / "claims.json", paths.root() / "figures"
    if source == "build":
        return paths.build_dir() / "claims.json", paths.build_dir() / "figures"
    raise ConfigurationError(f"Unknown source {source!r}: 'shipped' or 'build'.")


def _stage(source: str, stage: Path) -> Path:
    claims, figures = inputs(source)
    if not claims.is_file():
        raise DataError(f"{paths.relative(claims)} is missing: run 'hybridbench claims --source {source}' first.")
    if not figures.is_dir():
        raise DataError(f"{paths.relative(figures)} is missing: run 'hybridbench figures --source {source}' first.")
    if source == "shipped":
        checksums.verify(claims)
    # A figure or a number that somebody changed by hand is no result.
    checksums.verify_all(figures)
    for name in SOURCES:
        shutil.copy(paths.root() / "paper" / name, stage / name)
    shutil.copy(claims, stage / "claims.json")
    shutil.copytree(figures, stage / "figures", ignore=shutil.ignore_patterns("*.png", "*.pdf", checksums.SUMS))
    return stage / "paper.typ"


def render(source: str = "shipped", kind: str = "pdf", ppi: float = 90) -> list[bytes]:
    """The paper as bytes: one item for "pdf", one a page for "png".

    Raises:
        DataError: `claims.json` or a figure is missing or was changed, or the text quotes a number that is not there.
    """
    with paths.scratch_folder() as folder:
        main = _stage(source, folder)
        try:
            made = typst.Compiler(main, root=str(folder), ignore_system_fonts=True).compile(
                format=kind, ppi=ppi, timestamp=EPOCH
            )
        except typst.TypstError as error:
            raise DataError(
                f"The paper could not be made from the {source} records ({error.message}): run the notebooks, then "
                f"'hybridbench claims --source {source}' and 'hybridbench figures --source {source}'."
            ) from error
    return made if isinstance(made, list) else [made]


def build_paper(source: str = "shipped", target: Path | None = None) -> Path:
    """Make the paper: `paper/paper.pdf` from the shipped records, `build/paper.pdf` from this machine's own.

    Raises:
        DataError: `claims.json` or a figure is missing or was changed, or the text quotes a number that is not there.
    """
    content = render(source)[0]
    if target is None:
        target = paths.root() / "paper" / "paper.pdf" if source == "shipped" else paths.build_dir() / "paper.pdf"
    paths.write_atomically(target, content)
    return target
