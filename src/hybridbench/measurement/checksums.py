"""Checksums of everything under `data/`, in the format of `sha256sum --check`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from hybridbench import paths
from hybridbench.errors import DataError

SUMS = "SHA256SUMS"
_LINE = re.compile(r"[0-9a-f]{64}  \S.*")


def sha256(file: Path) -> str:
    """The SHA-256 of a file's bytes, hexadecimal."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def write_checksums(folder: Path | None = None) -> Path:
    """(Re)write `SHA256SUMS` over all files below `folder` (default `data/`), in path order."""
    folder = folder or paths.data_dir()
    files = sorted(f for f in folder.rglob("*") if f.is_file() and f.name != SUMS)
    text = "".join(f"{sha256(f)}  {f.relative_to(folder).as_posix()}\n" for f in files)
    target = folder / SUMS
    target.write_text(text)
    return target


def read_checksums(folder: Path | None = None) -> dict[str, str]:
    """Path below `folder` (default `data/`) → SHA-256.

    Raises:
        DataError: there is no list, or it is empty or damaged.
    """
    target = (folder or paths.data_dir()) / SUMS
    if not target.is_file():
        raise DataError(f"{paths.relative(target)} is missing: take it from git ('git checkout -- data').")
    lines = [line for line in target.read_text(errors="replace").splitlines() if line]
    if not lines or not all(_LINE.fullmatch(line) for line in lines):
        raise DataError(f"{paths.relative(target)} is empty or damaged: take it from git ('git checkout -- data').")
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}


def verify(file: Path, folder: Path | None = None) -> None:
    """Check one file against the list of `folder` (default `data/`).

    Raises:
        DataError: the file is not on the list, is not there, or has another checksum.
    """
    folder = folder or paths.data_dir()
    name = file.relative_to(folder).as_posix()
    expected = read_checksums(folder).get(name)
    if expected is None:
        raise DataError(
            f"{paths.relative(file)} is not listed in {SUMS}: it did not come with the suite. Move it away; own records are "
            "shipped with 'hybridbench ship'."
        )
    if not file.is_file():
        raise DataError(f"{paths.relative(file)} is missing: take it from git ('git checkout -- data').")
    found = sha256(file)
    if found != expected:
        raise DataError(
            f"{paths.relative(file)} is damaged: its SHA-256 starts with {found[:12]}, {SUMS} says {expected[:12]}. "
            "Take it from git again ('git checkout -- data')."
        )


def verify_all(folder: Path | None = None, but: Iterable[Path] = ()) -> int:
    """Check every listed file of `folder` (default `data/`), and that each table of records is listed.

    Args:
        folder: where the list is.
        but: files that are not looked at, as they are about to be written anew.

    Returns:
        How many files are listed.

    Raises:
        DataError: a file is not on the list, is not there, or has another checksum.
    """
    folder = folder or paths.data_dir()
    names = read_checksums(folder)
    tables = (table.relative_to(folder).as_posix() for table in sorted((folder / "records").glob("*/*.parquet")))
    left_out = {file.relative_to(folder).as_posix() for file in but}
    for name in dict.fromkeys((*names, *tables)):
        if name not in left_out:
            verify(folder / name, folder)
    return len(names)
