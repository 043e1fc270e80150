"""What a quantum function reads besides its arguments: values of its module, its closure and the objects that it holds.

A compiled circuit is another one where these change, and none at all where they are random numbers.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import partial
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

MAX_DEPTH = 4  #: of objects within objects that are looked at
MAX_VALUES = 2000  #: values that are looked at; what lies beyond counts as unchanging
MAX_BYTES = 2**16  #: of an array that is compared by content; a larger one by its identity
_SCALARS = bool | int | float | complex | str | bytes | np.number | np.bool_ | None
#: Packages whose own objects do not change what a circuit is.
_FOREIGN = ("pennylane", "tensorflow", "numpy", "keras", "tf_keras", "scipy", "torch", "jax", "hybridbench", "builtins")


def _names(code: CodeType) -> Iterator[str]:
    """Names that a function, and those within it, look up in their module."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _is_users(value: Any) -> bool:
    return (getattr(value, "__module__", None) or "").partition(".")[0] not in _FOREIGN


def _parts(value: Any) -> Iterator[tuple[Hashable, Any]]:
    """What an object holds, with a name for each."""
    if isinstance(value, FunctionType):
        names, cells = value.__code__.co_freevars, value.__closure__ or ()
        for name, cell in zip(names, cells, strict=True):
            try:
                yield name, cell.cell_contents
            except ValueError:  # a cell that is not filled yet
                continue
        for name in dict.fromkeys(_names(value.__code__)):
            if name in value.__globals__:
                yield name, value.__globals__[name]
        yield from enumerate(value.__defaults__ or ())
        yield from (value.__kwdefaults__ or {}).items()
        wrapped = getattr(value, "__wrapped__", None)
        if wrapped is not None:
            yield "wrapped", wrapped
    elif isinstance(value, MethodType):
        yield "function", value.__func__
        yield "self", value.__self__
    elif isinstance(value, partial):
        yield "function", value.func
        yield "arguments", value.args
        yield "keywords", value.keywords
    elif isinstance(value, list | tuple):
        yield from enumerate(value)
    elif isinstance(value, dict):
        yield from ((k, v) for k, v in value.items() if isinstance(k, str | int))
    elif not isinstance(value, type | ModuleType) and _is_users(type(value)):
        yield from getattr(value, "__dict__", {}).items()
        call = vars(type(value)).get("__call__")
        if isinstance(call, FunctionType):
            yield "call", call


def _reached(function: Callable) -> Iterator[tuple[tuple, Any]]:
    """Everything that a function reads or holds, breadth first, each object once, with the way to it."""
    seen, waiting = set(), [((), function)]
    while waiting and len(seen) < MAX_VALUES:
        path, value = waiting.pop(0)
        if not isinstance(value, _SCALARS):
            if id(value) in seen:
                continue
            seen.add(id(value))
        yield path, value
        follow = _is_users(value) if isinstance(value, FunctionType | MethodType) else True
        if len(path) < MAX_DEPTH and follow and not isinstance(value, _SCALARS):
            waiting += [((*path, name), part) for name, part in _parts(value)]


def reads(function: Callable) -> Hashable:
    """A key of all numbers, texts and arrays that a function reads besides its arguments; functions count by identity."""
    found = []
    for path, value in _reached(function):
        if isinstance(value, _SCALARS):
            found.append((path, type(value).__name__, value if value == value else "nan"))
        elif isinstance(value, np.ndarray) and value.dtype != object and value.nbytes <= MAX_BYTES:
            found.append((path, value.shape, value.dtype.str, value.tobytes()))
        elif isinstance(value, list | tuple | dict | set | frozenset):
            found.append((path, type(value).__name__, len(value)))
        elif callable(value) or isinstance(value, np.ndarray):
            found.append((path, id(value)))
    return tuple(found)


def _state(value: Any) -> Any:
    """The state of a source of random numbers, or None for what is none."""
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    if isinstance(value, np.random.RandomState):
        return repr(value.get_state(legacy=False))
    return value.getstate() if isinstance(value, random.Random) else None


@contextmanager
def random_numbers(function: Callable) -> Iterator[Callable[[], bool]]:
    """Sees whether random numbers are drawn; what was drawn within comes again after it.

    Yields:
        A function that says whether a source that `function` can reach, or a global one, was drawn from.
    """
    globals_ = [np.random.mtrand._rand, random._inst]
    sources = [*globals_, *(value for _, value in _reached(function) if _state(value) is not None)]
    before = [_state(source) for source in sources]
    kept = [
        source.bit_generator.state if isinstance(source, np.random.Generator)
        else source.get_state(legacy=False) if isinstance(source, np.random.RandomState)
        else source.getstate()
        for source in sources
    ]  # fmt: skip
    try:
        yield lambda: [_state(source) for source in sources] != before
    finally:
        for source, state in zip(sources, kept, strict=True):
            if isinstance(source, np.random.Generator):
                source.bit_generator.state = state
            elif isinstance(source, np.random.RandomState):
                source.set_state(state)
            else:
                source.setstate(state)
