"""The errors a user can cause, each one sentence: what is wrong, what is allowed, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar


class HybridbenchError(Exception):
    """Base of every error that the suite raises on purpose."""

    exit_code: ClassVar[int] = 2  #: of the command that it ends


class ConfigurationError(HybridbenchError, ValueError):
    """A name, a parameter or a combination of them is not allowed."""


class BackendError(HybridbenchError, RuntimeError):
    """A requested simulator, device or GPU is not there, or cannot do what was asked."""


class MemoryEstimateError(HybridbenchError, MemoryError):
    """A request would need more memory than there is; nothing was allocated."""


class DataError(HybridbenchError, RuntimeError):
    """A data or record file is missing, damaged or from another version."""


class BusyError(HybridbenchError, RuntimeError):
    """Another command works in the same build folder."""


class TrainingDiverged(HybridbenchError, ArithmeticError):
    """A loss or gradient stopped being a number."""


class StackError(HybridbenchError, ImportError):
    """The installed packages cannot run the suite."""


def check_name(kind: str, name: str, allowed: Iterable[str]) -> str:
    """Return `name` if it is one of `allowed`, else raise with the nearest names.

    Args:
        kind: what is being named, in the user's words ("task", "ansatz", "optimizer").
        name: the value given.
        allowed: every valid name.

    Raises:
        ConfigurationError: names the value, the nearest matches and all that is allowed.
    """
    allowed = sorted(allowed)
    if name in allowed:
        return name
    near = difflib.get_close_matches(str(name), allowed, n=3, cutoff=0.4)
    hint = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    raise ConfigurationError(f"Unknown {kind} {name!r}.{hint} Known: {', '.join(allowed)}.")
