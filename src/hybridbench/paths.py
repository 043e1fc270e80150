"""Where things lie. Notebooks run from several working directories, so no path depends on one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hybridbench.errors import DataError


def root() -> Path:
    """The checkout that this package was installed from (editable install)."""
    here = Path(__file__).resolve().parents[2]
    if not (here / "pyproject.toml").is_file():
        raise DataError(
            f"No hybridbench checkout around {here}: the suite's data and notebooks are not part of the wheel. "
            "Install it from a clone with 'make setup' (or 'pip install -e .')."
        )
    return here


def data_dir() -> Path:
    """Shipped data and records: what the paper rests on."""
    return root() / "data"


def build_dir() -> Path:
    """What a run makes: `build/` of the checkout, or the folder named by HYBRIDBENCH_BUILD.

    A relative name is taken from the checkout: the command line and the notebooks' kernels work in different folders.
    """
    given = os.environ.get("HYBRIDBENCH_BUILD")
    # Path.resolve raises where links go round in a circle, and this does not.
    return Path(os.path.realpath(root() / given)) if given else root() / "build"


def scratch_dir() -> Path:
    """Files that a command needs while it runs, within the build folder: the next command clears away what one left."""
    return build_dir() / ".scratch"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new folder below `scratch_dir`, gone at the end."""
    scratch_dir().mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=scratch_dir()) as folder:
            yield Path(folder)
    finally:
        with suppress(OSError):  # others are in it still
            scratch_dir().rmdir()


def relative(path: Path) -> str:
    """`path` relative to the checkout where it lies inside, for outputs that are committed."""
    path = Path(os.path.realpath(path))
    return path.relative_to(root()).as_posix() if path.is_relative_to(root()) else path.as_posix()


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write `content` (text as UTF-8) to `path` whole or not at all, and make its folder.

    A reader never sees half a file, and a run that is killed leaves the old one. The temporary file begins with a dot, since
    readers of a folder of records skip such names.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        temporary.chmod(0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def append_line(path: Path, line: str) -> None:
    """Add a line to a text file, whole or not at all."""
    before = Path(path).read_bytes() if Path(path).is_file() else b""
    write_atomically(path, before + f"{line}\n".encode())
