"""Checksums of everything under `data/` and under `figures/`, in the format of `sha256sum --check`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from hybridbench import paths
from hybridbench.errors import DataError, plain, shown

SUMS = "SHA256SUMS"
_LINE = re.compile(r"[0-9a-f]{64}  \S.*")


def sha256(file: Path) -> str:
    """The SHA-256 of a file's bytes, hexadecimal."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _remedy(folder: Path) -> str:
    if folder.is_relative_to(paths.build_dir()):
        return "make it anew"
    return f"take it from git again ('git checkout -- {paths.relative(folder)}')"


def _files(folder: Path) -> list[Path]:
    """Everything below `folder` that the list has to hold, in path order; names with a dot are an editor's or a system's."""
    found = sorted(file for file in folder.rglob("*") if file.name != SUMS and not file.name.startswith("."))
    return [file for file in found if file.is_symlink() or not file.is_dir()]


def write_checksums(folder: Path | None = None) -> Path:
    """(Re)write `SHA256SUMS` over all files below `folder` (default `data/`), in path order.

    Raises:
        DataError: one is a symbolic link, or its name does not fit into a line.
    """
    folder = folder or paths.data_dir()
    lines = []
    for file in _files(folder):
        name = file.relative_to(folder).as_posix()
        _check_file(file, folder)
        if name != plain(name) or "\\" in name:
            raise DataError(f"{shown(name)} is no name that a list of checksums can hold: rename the file.")
        lines.append(f"{sha256(file)}  {name}\n")
    target = folder / SUMS
    paths.write_atomically(target, "".join(lines))
    return target


def _check_file(file: Path, folder: Path) -> None:
    name = plain(f"{paths.relative(folder)}/{file.relative_to(folder).as_posix()}")
    if file.is_symlink():
        raise DataError(
            f"{name} is a symbolic link, which says nothing of what it leads to: remove the link, not its target."
        )
    if not file.is_file():
        raise DataError(f"{name} is missing: {_remedy(folder)}.")


def read_checksums(folder: Path | None = None) -> dict[str, str]:
    """Path below `folder` (default `data/`) → SHA-256.

    Raises:
        DataError: there is no list, or it is empty or damaged, or names a file twice or one outside the folder.
    """
    folder = folder or paths.data_dir()
    target = folder / SUMS
    if not target.is_file():
        raise DataError(f"{paths.relative(target)} is missing: {_remedy(folder)}.")
    lines = [line for line in target.read_text(encoding="utf-8", errors="replace").splitlines() if line]
    if not lines or not all(_LINE.fullmatch(line) for line in lines):
        raise DataError(f"{paths.relative(target)} is empty or damaged: {_remedy(folder)}.")
    listed: dict[str, str] = {}
    for digest, name in (line.split("  ", 1) for line in lines):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise DataError(f"{paths.relative(target)} names {shown(name)}, a file outside the folder: {_remedy(folder)}.")
        if name in listed:
            raise DataError(f"{paths.relative(target)} names {shown(name)} twice: {_remedy(folder)}.")
        listed[name] = digest
    return listed


def verify(file: Path, folder: Path | None = None) -> None:
    """Check one file against the list of `folder` (default `data/`).

    Raises:
        DataError: the file is not on the list, is not there, is a symbolic link, or has another checksum.
    """
    folder = folder or paths.data_dir()
    _verify(file, folder, read_checksums(folder))


def _verify(file: Path, folder: Path, listed: Mapping[str, str]) -> None:
    expected = listed.get(file.relative_to(folder).as_posix())
    if expected is None:
        name = plain(f"{paths.relative(file.parent)}/{file.name}")
        raise DataError(
            f"{name} is not listed in {SUMS}: it did not come with the suite. Move it away; own "
            "records are shipped with 'hybridbench ship'."
        )
    _check_file(file, folder)
    found = sha256(file)
    if found != expected:
        again = _remedy(folder)
        raise DataError(
            f"{paths.relative(file)} is damaged: its SHA-256 starts with {found[:12]}, {SUMS} says {expected[:12]}. "
            f"{again[0].upper()}{again[1:]}."
        )


def verify_all(folder: Path | None = None, but: Iterable[Path] = ()) -> int:
    """Check every listed file of `folder` (default `data/`), and that each file that is there is listed.

    Args:
        folder: where the list is.
        but: files that are not looked at, as they are about to be written anew.

    Returns:
        How many files are listed.

    Raises:
        DataError: a file is not on the list, is not there, or has another checksum.
    """
    folder = folder or paths.data_dir()
    listed = read_checksums(folder)
    there = [file.relative_to(folder).as_posix() for file in _files(folder)]
    left_out = {file.relative_to(folder).as_posix() for file in but}
    for name in dict.fromkeys((*listed, *there)):
        if name not in left_out:
            _verify(folder / name, folder, listed)
    return len(listed)
