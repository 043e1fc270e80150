"""The errors a user can cause, each one sentence: what is wrong, what is allowed, what to do."""

from __future__ import annotations

import difflib
import re
import reprlib
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
    text = shown(name)
    near = difflib.get_close_matches(name[:60] if isinstance(name, str) else text, allowed, n=3, cutoff=0.4)
    hint = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    raise ConfigurationError(f"Unknown {kind} {text}.{hint} Known: {', '.join(allowed)}.")


#: What a terminal acts on, or shows as nothing: control characters, directions of writing, characters without width.
_HIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxlevel = 3


def plain(text: object) -> str:
    """`text` without anything that a terminal would act on: what strangers' files say is shown and never obeyed."""
    return _HIDDEN.sub(lambda found: " " if found.group() in "\n\t" else "\N{REPLACEMENT CHARACTER}", str(text))


def shown(value: object, most: int = 60) -> str:
    """`value` as a short text for an error, whatever it is: never more than `most` characters, never escape codes."""
    try:
        text = _SHORT.repr(value)
    except (RecursionError, ValueError):  # a number of more digits than Python writes out
        text = f"a {type(value).__name__}"
    return plain(text if len(text) <= most else f"{text[: most - 1]}…")
