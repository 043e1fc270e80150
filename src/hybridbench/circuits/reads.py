"""What a quantum function reads besides its arguments: values of its module, its closure and the objects that it uses.

A compiled circuit is another one where these change, and none at all where they change from call to call. What a function
reads is found in its code: the names that it looks up in its module and closure, and of the objects found there the
attributes that are named in any code that it can call. Libraries count as unchanging; what cannot be compared is refused.
"""

from __future__ import annotations

import builtins
import dis
import hashlib
import inspect
import operator
import os
import random
import re
import secrets
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import date, datetime
from functools import cached_property, lru_cache, partial, partialmethod
from types import CodeType, FrameType, FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from hybridbench.stack import import_tensorflow

tf = import_tensorflow()
import pennylane as qml  # noqa: E402  (TensorFlow first, with its start-up notices held back)

from hybridbench.engine.compiler import UnsupportedCircuit  # noqa: E402

MAX_VALUES = 5000  #: values that are looked at
MAX_BYTES = 2**16  #: of an array that is kept in a key; of a larger one its digest
# As tuples, which `isinstance` takes faster than unions.
_SCALARS = (bool, int, float, complex, str, bytes, np.number, np.bool_, type(None))
_CONTAINERS = (list, tuple, set, frozenset, deque)
#: Packages whose functions do not change what a circuit is, besides the standard library.
_LIBRARIES = {
    *(
        "pennylane",
        "pennylane_lightning",
        "hybridbench",
        "numpy",
        "scipy",
        "autograd",
        "jax",
        "jaxlib",
        "torch",
        "tensorflow",
    ),
    *("autoray", "malt", "opt_einsum", "rustworkx", "wrapt", "absl", "cachetools", "typing_extensions", "hypothesis"),
    *("keras", "tf_keras", "pandas", "sklearn", "matplotlib", "networkx", "sympy", "h5py", "numba", "pytest", "_pytest"),
}
_CHANCE = {
    id(source)
    for source in (
        *(np.random.default_rng, np.random.RandomState, np.random.SeedSequence, random.Random, random.SystemRandom),
        *(os.urandom, uuid.uuid1, uuid.uuid4),
        *(getattr(secrets, name) for name in secrets.__all__),
        *(value for value in vars(time).values() if callable(value) and re.search("time|counter|monotonic", value.__name__)),
    )
}
#: Packages whose objects are what they are, or follow a graph: variables, layers, devices, operators.
_FRAMEWORKS = {
    *("pennylane", "pennylane_lightning", "hybridbench", "tensorflow", "keras", "tf_keras", "jax", "jaxlib"),
    "logging",
}
#: What looks up names that no code shows.
_DYNAMIC = {"getattr", "vars", "globals", "locals", "eval", "exec", "__dict__", "__getattribute__"}
#: Functions that read what is outside of the program's objects, besides `open`.
_OUTSIDE = {os.getenv.__code__: "the environment", inspect.unwrap(tf.keras.backend.get_value).__code__: "a variable's value"}
#: What opens files of its own accord: for source code, modules and settings.
_OWN_FILES = _FRAMEWORKS | {"autograd", "importlib", "inspect", "linecache", "tokenize", "traceback", "warnings"}
_CLOCKS = {"now", "today", "utcnow"}  #: methods of dates
#: The names in all code that a function reached when it was last looked at.
_KNOWN_NAMES: WeakKeyDictionary = WeakKeyDictionary()


class Same:
    """A key of an object by its identity; it keeps the object alive, so that no other one gets that identity."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.value is other.value


@lru_cache(maxsize=4096)
def _names(code: CodeType) -> frozenset[str]:
    """Names of variables and attributes in a function and those within it, and texts that may be names."""
    return frozenset(code.co_names).union(*map(_names_of_constant, code.co_consts))


def _names_of_constant(constant: Any) -> frozenset[str]:
    if isinstance(constant, CodeType):
        return _names(constant)
    if isinstance(constant, tuple | frozenset):
        return frozenset().union(*map(_names_of_constant, constant))
    return frozenset([constant] if isinstance(constant, str) and constant.isidentifier() else [])


@lru_cache(maxsize=4096)
def _imports(code: CodeType) -> tuple[str, ...]:
    """Modules that a function imports itself."""
    own = [step.argval for step in dis.get_instructions(code) if step.opname == "IMPORT_NAME"]
    return (*own, *(name for part in code.co_consts if isinstance(part, CodeType) for name in _imports(part)))


@lru_cache(maxsize=4096)
def _is_library(module: str) -> bool:
    top = module.partition(".")[0]
    return top in _LIBRARIES or top in sys.stdlib_module_names


def _is_users(value: Any) -> bool:
    module = getattr(value, "__module__", None)
    return isinstance(module, str) and not _is_library(module)


def _root(value: Any) -> str:
    """The package of an object's class."""
    return str(getattr(type(value), "__module__", "")).partition(".")[0]


def _of_function(function: FunctionType, names: set[str]) -> Iterator[tuple[Hashable, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # a cell that is not filled yet
            continue
    own = _names(function.__code__)
    for name in sorted(function.__globals__ if own & {"globals", "eval", "exec"} else own):
        if name in function.__globals__:
            yield name, function.__globals__[name]
    yield from ((name, sys.modules[name]) for name in _imports(function.__code__) if name in sys.modules)
    yield from enumerate(function.__defaults__ or ())
    yield from (function.__kwdefaults__ or {}).items()
    yield from ((name, value) for name, value in vars(function).items() if name in names or name == "__wrapped__")


def _of_class(kind: type, names: set[str]) -> Iterator[tuple[Hashable, Any]]:
    for base in kind.__mro__:
        if not _is_users(base):
            continue
        for name, value in vars(base).items():
            if isinstance(value, staticmethod | classmethod):
                value = value.__func__
            elif isinstance(value, partialmethod):
                value = value.func
            parts = (value.fget, value.fset) if isinstance(value, property) else (value,)
            for part in parts:
                if isinstance(part, FunctionType) or (name in names and not isinstance(part, MemberDescriptorType)):
                    yield (base.__qualname__, name), part


def _of_object(value: Any, names: set[str]) -> Iterator[tuple[Hashable, Any]]:
    # Of a library's object its own code may read every attribute, and so may code that computes names.
    every = _root(value) not in _FRAMEWORKS and (not _is_users(type(value)) or bool(names & _DYNAMIC))
    held = getattr(value, "__dict__", None)
    if isinstance(held, dict):
        shown = [name for name in held if not isinstance(getattr(type(value), str(name), None), cached_property)]
        yield from ((name, held[name]) for name in (shown if every else sorted(names.intersection(held))))
    for base in type(value).__mro__:
        for name in vars(base) if every else names.intersection(vars(base)):
            if isinstance(vars(base)[name], MemberDescriptorType):  # of __slots__
                try:
                    yield name, vars(base)[name].__get__(value)
                except AttributeError:
                    continue
    if isinstance(value, qml.operation.Operator):
        yield from enumerate(value.data)
    if isinstance(value, qml.QNode):
        yield "function", value.func
    owner = getattr(value, "__self__", None)  # of a method
    if owner is not None and not isinstance(owner, ModuleType):
        yield "self", owner


def _parts(value: Any, names: set[str]) -> Iterator[tuple[Hashable, Any]]:
    """What an object holds that code with these names may read, with a name for each."""
    if isinstance(value, FunctionType):
        if _is_users(value):
            yield from _of_function(value, names)
    elif isinstance(value, MethodType):
        yield "function", value.__func__
        yield "self", value.__self__
    elif isinstance(value, partial):
        yield from (("function", value.func), ("arguments", value.args), ("keywords", value.keywords))
    elif isinstance(value, ModuleType):
        everything = not _is_library(value.__name__)
        for name in sorted(names.intersection(vars(value))):
            part = vars(value)[name]
            if (
                everything
                or id(part) in _CHANCE
                or part is date
                or part is datetime
                or isinstance(part, (ModuleType, Mapping))
            ):
                yield name, part
    elif isinstance(value, type):
        yield from _of_class(value, names)
    else:
        if isinstance(value, Mapping):
            yield from ((_key_of(name), part) for name, part in value.items())
        elif isinstance(value, set | frozenset):
            yield from enumerate(sorted(value, key=repr))
        elif isinstance(value, _CONTAINERS) or (isinstance(value, np.ndarray) and value.dtype == object):
            yield from enumerate(value)
        elif isinstance(value, ContextVar):
            yield "value", value.get(None)
        yield from _of_object(value, names)
        if _is_users(type(value)):
            yield "class", type(value)


def _key_of(name: Any) -> Hashable:
    return name if isinstance(name, _SCALARS) or (isinstance(name, tuple) and all(map(_is_scalar, name))) else Same(name)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, _SCALARS)


def _is_plain(value: Any) -> bool:
    """Whether a list or tuple holds scalars only."""
    return type(value) in (list, tuple) and all(map(_is_scalar, value))


def _walk(function: Callable, names: set[str]) -> tuple[list[tuple[tuple, Any]], set[str]]:
    """Everything that a function reads or holds, each object once, with the way to it; the names in its code."""
    found, seen, waiting, used = [], set(), deque([((), function)]), set()
    while waiting:
        path, value = waiting.popleft()
        if not _is_scalar(value):
            if id(value) in seen:
                continue
            seen.add(id(value))
        found.append((path, value))
        if len(found) > MAX_VALUES:
            raise UnsupportedCircuit(
                f"its quantum function can read more than {MAX_VALUES} values besides its arguments, too many to see "
                "whether they change: give it what it needs in a closure or a list"
            )
        if isinstance(value, FunctionType) and _is_users(value):
            used |= _names(value.__code__)
        if not _is_scalar(value) and not _is_plain(value):
            waiting += [((*path, name), part) for name, part in _parts(value, names)]
    return found, used


def _reached(function: Callable) -> list[tuple[tuple, Any]]:
    """Everything that a function reads or holds: attributes count where code that it can call has their names."""
    at = inspect.unwrap(function) if callable(function) else function
    names = set(_KNOWN_NAMES.get(at, ())) if isinstance(at, FunctionType) else set()
    while True:
        found, used = _walk(function, names)
        if used <= names:
            break
        names |= used
    if isinstance(at, FunctionType):
        _KNOWN_NAMES[at] = frozenset(names)
    if names & _CLOCKS and any(isinstance(value, type) and issubclass(value, date) for _, value in found):
        raise UnsupportedCircuit("its quantum function reads the clock, and is another one at every call")
    return found


def reads(function: Callable) -> Hashable:
    """A key of all that a function reads besides its arguments: numbers, texts and arrays by content, code as it is.

    Raises:
        UnsupportedCircuit: it reads what is another thing at every call, or what cannot be compared.
    """
    try:
        return tuple((path, _frozen(path, value)) for path, value in _reached(function))
    except UnsupportedCircuit:
        raise
    except Exception as error:  # objects may answer to a look with anything
        raise UnsupportedCircuit(
            f"what its quantum function reads cannot be compared: {type(error).__name__}: {error}"
        ) from error


def _frozen(path: tuple, value: Any) -> Hashable:
    if isinstance(value, _SCALARS):
        return type(value).__name__, value if value == value else "nan"
    if _is_plain(value):
        return type(value).__name__, tuple((type(v).__name__, v if v == v else "nan") for v in value)
    if isinstance(value, np.ndarray) and value.dtype != object:
        content = value.tobytes()
        return value.shape, value.dtype.str, content if len(content) <= MAX_BYTES else hashlib.blake2b(content).digest()
    content = _content(value)
    if content is not None:
        return content
    if isinstance(value, operator.attrgetter | operator.methodcaller):
        raise UnsupportedCircuit(
            f"its quantum function reads through {value!r} ({_word(path)}), and what it finds is not seen"
        )
    if isinstance(value, Iterator):
        raise UnsupportedCircuit(f"its quantum function reads an iterator ({_word(path)}), which moves on at every call")
    if isinstance(value, FunctionType):
        return value.__code__
    if isinstance(value, (*_CONTAINERS, Mapping)):
        return type(value).__name__, len(value)
    if isinstance(value, MethodType | partial):
        return type(value).__name__
    return Same(type(value) if _is_users(type(value)) else value)


def _content(value: Any) -> Hashable | None:
    """The numbers that an object of a library holds; None where it is no such object."""
    if _root(value) in _FRAMEWORKS:
        return None
    try:
        return hashlib.blake2b(memoryview(value).tobytes()).digest()
    except TypeError:  # no buffer
        pass
    if isinstance(value, type) or not hasattr(type(value), "__array__"):
        return None
    array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    content = repr(array.tolist()).encode() if array.dtype == object else array.tobytes()
    return array.shape, array.dtype.str, hashlib.blake2b(content).digest()


def _word(path: tuple) -> str:
    return ".".join(str(part) for part in path if isinstance(part, str | int)) or "itself"


def _state(value: Any) -> Any:
    """The state of a source of random numbers, or None for what is none."""
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    if isinstance(value, np.random.RandomState):
        return repr(value.get_state(legacy=False))
    known = isinstance(value, random.Random) and not isinstance(value, random.SystemRandom)
    return value.getstate() if known else None


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


class Calls:
    """What functions called within `watched` ran and read."""

    def __init__(self) -> None:
        self.names: set[str] = set()  #: in the code of the user's functions that ran
        self.outside: list[str] = []  #: what they read from files, the environment or variables, which no later look can see

    def refuse(self, function: Callable) -> None:
        """Raise where these calls make a function another one at every call, or one that may change unseen.

        Raises:
            UnsupportedCircuit: they do.
        """
        if self.outside:
            raise UnsupportedCircuit(f"its quantum function reads {self.outside[0]}, and whether that changes is not seen")
        reached = dict(_reached(function))
        for path, value in reached.items():
            if (id(value) in _CHANCE or isinstance(value, random.SystemRandom)) and self._use(path, reached.get(path[:-1])):
                raise UnsupportedCircuit(
                    f"its quantum function can draw random numbers or read the clock ({_word(path)}), and is another one at "
                    "every call"
                )

    def _use(self, path: tuple, holder: Any) -> bool:
        """Whether they can use what lies at the end of a path: a name that is in none of their code is not used."""
        name = path[-1][-1] if path and isinstance(path[-1], tuple) else path[-1] if path else None
        named = isinstance(name, str) and not isinstance(holder, (*_CONTAINERS, Mapping, partial, MethodType))
        computed = bool(self.names & _DYNAMIC) and not isinstance(holder, ModuleType)  # getattr(qml, gate) is common
        return not named or name in self.names or computed


@contextmanager
def watched() -> Iterator[Calls]:
    """Sees, as a profiler does, which of the user's functions run within, and what they read from outside."""
    found = Calls()

    def look(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and not _is_library(str(frame.f_globals.get("__name__", ""))):
            found.names |= _names(frame.f_code).union(frame.f_code.co_freevars, frame.f_code.co_varnames)
        if event == "c_call" and argument is builtins.open:
            what, caller, own = "a file", frame, _OWN_FILES
        elif event == "call" and frame.f_code in _OUTSIDE:
            what, caller, own = _OUTSIDE[frame.f_code], frame.f_back, set()
        else:
            return
        while caller is not None:
            module = str(caller.f_globals.get("__name__", ""))
            if not _is_library(module):
                found.outside.append(what)
            if not _is_library(module) or module.partition(".")[0] in own:
                return
            caller = caller.f_back

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        yield found
    finally:
        sys.setprofile(before)
