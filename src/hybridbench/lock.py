"""One command at a time works in a build folder; the lock goes with its process, however that ends."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from hybridbench import paths
from hybridbench.errors import BusyError

LOCK = ".lock"
#: Folders of the checkout that commands write to.
SHIPPED = ("data", "figures", "paper")


@contextmanager
def build_folder() -> Iterator[Path]:
    """Hold the build folder while something is made in it, and clear away what a killed command left there.

    Raises:
        BusyError: another command holds it; nothing was changed.
    """
    folder = paths.build_dir()
    with _locked(folder) as file:
        try:
            file.truncate(0)
            file.write(f"'hybridbench {' '.join(sys.argv[1:])}' (process {os.getpid()})")
            file.flush()
            _clear(folder)
            yield folder
        finally:
            shutil.rmtree(paths.scratch_dir(), ignore_errors=True)
            (folder / LOCK).unlink(missing_ok=True)
            with suppress(OSError):  # nothing was made: no folder is left either
                folder.rmdir()


def _locked(folder: Path) -> TextIO:
    while True:
        if not folder.exists():
            folder.mkdir(parents=True)
        file = (folder / LOCK).open("a+", encoding="utf-8", errors="replace")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            who = file.read().strip() or "Another command"
            file.close()
            raise BusyError(
                f"{who} works in {paths.relative(folder)}: wait until it has ended, or name another folder for this command "
                "(HYBRIDBENCH_BUILD=other)."
            ) from None
        # Who held it may have removed the file after it was opened here; such a lock binds nobody.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), (folder / LOCK).stat()):
                return file
        file.close()


def _clear(folder: Path) -> None:
    """Remove what only a killed command leaves: half-written files, and files that were its own."""
    shutil.rmtree(paths.scratch_dir(), ignore_errors=True)
    root = paths.root()
    shipped = [*root.glob(".*.part"), *(part for name in SHIPPED for part in (root / name).rglob(".*.part"))]
    for part in [*folder.rglob(".*.part"), *shipped]:
        part.unlink(missing_ok=True)
