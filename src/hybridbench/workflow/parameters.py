"""The parameters of a notebook, read from its one `parameters` cell and checked against it.

The cell is the schema: one line a parameter, `name: type = literal  # help [allowed: 2..8]`. The bracket is a range (either
end may be left out: `1..`), names separated by `|`, or `names of module:DICT` for the keys of a registry (or the result of
a function: `names of module:function`); for a list it holds for each element; without one, any value of the type is
allowed. Papermill itself neither checks types nor refuses unknown names, so both are done here, before anything runs and
once more in the notebook.
"""

from __future__ import annotations

import ast
import importlib
import io
import json
import re
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hybridbench import paths
from hybridbench.errors import ConfigurationError, check_name, shown

_SCALARS: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool}
_TYPES = (*_SCALARS, "list", *(f"list[{name}]" for name in _SCALARS))
_ALLOWED = re.compile(r"\[allowed:\s*(?P<body>[^\]]*)\]")
_REGISTRY = "names of "
_RANGE = re.compile(r"^(?P<low>[^.|]?[^|]*?)\.\.(?P<high>[^|]*)$")


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell."""

    name: str
    type: str  #: "int", "float", "str", "bool", "list" or "list[...]"
    default: Any
    help: str = ""
    low: float | None = None  #: smallest value, or None
    high: float | None = None  #: largest value, or None
    choices: tuple[Any, ...] = ()  #: all values, where they are named
    registry: str = ""  #: "module:DICT" or "module:function" that has the values; loaded only when a value is checked

    @property
    def allowed(self) -> str:
        """What is allowed, in words."""
        each = " with elements " if self.type.startswith("list") else " "
        if self.choices:
            return f"{self.type}{each}out of {', '.join(map(str, self.choices))}"
        if self.registry:
            return f"{self.type}{each}that are names of {self.registry}"
        if self.low is not None and self.high is not None:
            return f"{self.type}{each}from {self.low:.12g} to {self.high:.12g}"
        if self.low is not None:
            return f"{self.type}{each}of at least {self.low:.12g}"
        if self.high is not None:
            return f"{self.type}{each}of at most {self.high:.12g}"
        return f"any {self.type}"

    def check(self, value: Any, notebook: str) -> Any:
        """Return `value`, integers turned into floats where a float is asked for.

        Raises:
            ConfigurationError: wrong type or not allowed; names the notebook, the parameter and what is allowed.
        """
        if not self.type.startswith("list"):
            return self._check_one(value, self.type, value, notebook)
        if not isinstance(value, list | tuple):
            raise self._refusal(value, notebook, f"has type {type(value).__name__}")
        if not value and self.default:
            raise self._refusal(value, notebook, "is empty")
        element = self.type[5:-1]
        return [self._check_one(item, element, value, notebook) for item in value]

    def _check_one(self, item: Any, kind: str, value: Any, notebook: str) -> Any:
        where = f"has element {shown(item)}, which" if item is not value else "which"
        number = isinstance(item, int | float) and not isinstance(item, bool)
        if kind == "float" and number:
            try:
                item = float(item)
            except OverflowError:
                raise self._refusal(value, notebook, "is out of range") from None
        if kind and type(item) is not _SCALARS[kind]:
            raise self._refusal(value, notebook, f"{where} has type {type(item).__name__}".removeprefix("which "))
        if self.choices and item not in self.choices:
            raise self._refusal(value, notebook, f"{where} is not one of the choices".removeprefix("which "))
        if self.registry:
            module, _, attribute = self.registry.partition(":")
            known = getattr(importlib.import_module(module), attribute)
            try:
                check_name(self.name, item, known() if callable(known) else known)
            except ConfigurationError as error:
                raise ConfigurationError(f"Notebook {notebook}, parameter {self.name}: {error}") from error
        if self.low is not None or self.high is not None:
            low, high = -float("inf") if self.low is None else self.low, float("inf") if self.high is None else self.high
            if not number or not low <= item <= high:
                raise self._refusal(value, notebook, f"{where} is out of range".removeprefix("which "))
        return item

    def _refusal(self, value: Any, notebook: str, what: str) -> ConfigurationError:
        return ConfigurationError(
            f"Notebook {notebook}, parameter {self.name}: {shown(value)} {what}; allowed is {self.allowed}. "
            "Correct the profile, the --param option or the parameters cell."
        )


def notebook_file(notebook: str | Path, folder: Path | None = None) -> Path:
    """The file of a notebook given by name ("02_circuit_design", below `folder`, default `notebooks/`) or by path.

    Raises:
        ConfigurationError: no such notebook; names the nearest.
    """
    if isinstance(notebook, Path):
        return notebook
    folder = folder or paths.root() / "notebooks"
    return folder / f"{check_name('notebook', notebook, names(folder))}.ipynb"


def names(folder: Path | None = None) -> list[str]:
    """The notebooks in running order, without suffix: every `NN_name.ipynb` of `folder` (default `notebooks/`)."""
    folder = folder or paths.root() / "notebooks"
    return sorted(file.stem for file in folder.glob("[0-9][0-9]_*.ipynb"))


def cells(file: Path) -> list[dict[str, Any]]:
    """The cells of a notebook's file, each with `cell_type`, `source` and `metadata`.

    Raises:
        ConfigurationError: it cannot be read, or is no notebook.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))["cells"]
        for cell in found:
            "".join(cell["source"])
            cell["cell_type"], cell["metadata"].get("tags", [])
    except (OSError, AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        raise ConfigurationError(
            f"{paths.relative(file)} is not a readable notebook ({reason}); take it from git."
        ) from error
    return found


def schema(notebook: str | Path, folder: Path | None = None) -> dict[str, Parameter]:
    """The parameters of a notebook by name, in the order of its cell.

    Raises:
        ConfigurationError: not exactly one cell tagged `parameters`, or a line of it that is no
            `name: type = literal  # help`.
    """
    file = notebook_file(notebook, folder)
    tagged = [cell for cell in cells(file) if "parameters" in cell["metadata"].get("tags", [])]
    if len(tagged) != 1:
        raise ConfigurationError(f"Notebook {file.stem} has {len(tagged)} cells tagged 'parameters'; it needs exactly one.")
    return parse("".join(tagged[0]["source"]), file.stem)


def parse(source: str, notebook: str) -> dict[str, Parameter]:
    """The parameters that the source of a parameters cell declares.

    Raises:
        ConfigurationError: a line is no `name: type = literal  # help`, or its default is not allowed by itself.
    """
    try:
        statements = ast.parse(source).body
        comments = {
            token.start[0]: token.string.lstrip("# ").strip()
            for token in tokenize.generate_tokens(io.StringIO(source).readline)
            if token.type == tokenize.COMMENT
        }
    except (SyntaxError, tokenize.TokenError) as error:
        raise ConfigurationError(f"Notebook {notebook}: its parameters cell is not Python ({error}).") from error
    found: dict[str, Parameter] = {}
    for statement in statements:
        lines = range(statement.lineno, (statement.end_lineno or statement.lineno) + 1)
        comment = " ".join(comments[line] for line in lines if line in comments)
        parameter = _parse_line(statement, comment, notebook)
        if parameter.name in found:
            raise ConfigurationError(
                f"Notebook {notebook}, parameter {parameter.name}: declared twice in the parameters cell."
            )
        found[parameter.name] = parameter
    return found


def _parse_line(statement: ast.stmt, comment: str, notebook: str) -> Parameter:
    text = ast.unparse(statement)
    if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name) or statement.value is None:
        raise ConfigurationError(
            f"Notebook {notebook}: parameters cell has {text!r}; each line is 'name: type = value  # help'."
        )
    name, kind = statement.target.id, ast.unparse(statement.annotation)
    if kind not in _TYPES:
        raise ConfigurationError(f"Notebook {notebook}, parameter {name}: type {kind!r} is not one of {', '.join(_TYPES)}.")
    try:
        default = ast.literal_eval(statement.value)
    except ValueError as error:
        raise ConfigurationError(
            f"Notebook {notebook}, parameter {name}: {ast.unparse(statement.value)!r} is not a literal; "
            "derived values belong in a later cell, since they are not recomputed for other parameters."
        ) from error
    bracket = _ALLOWED.search(comment)
    body = bracket["body"].strip() if bracket else ""
    registry = body.removeprefix(_REGISTRY) if body.startswith(_REGISTRY) else ""
    low, high, choices = (
        _parse_allowed(body, kind, f"Notebook {notebook}, parameter {name}") if bracket and not registry else (None,) * 3
    )
    parameter = Parameter(name, kind, default, _ALLOWED.sub("", comment).strip(), low, high, choices or ())
    # The registry joins after the default's check: reading a schema must not load TensorFlow.
    return replace(parameter, default=parameter.check(default, notebook), registry=registry)


def _parse_allowed(body: str, kind: str, where: str) -> tuple[float | None, float | None, tuple[Any, ...] | None]:
    kind = kind.removeprefix("list").strip("[]")
    try:
        if found := _RANGE.match(body.strip()):
            low, high = (float(end) if end.strip() else None for end in (found["low"], found["high"]))
            if kind in {"str", "bool"} or (low is None and high is None):
                raise ValueError("a range needs numbers")
            return low, high, None
        convert = _SCALARS[kind] if kind in {"int", "float"} else str
        choices = tuple(convert(choice.strip()) for choice in body.split("|"))
        if kind == "bool" or "" in choices:
            raise ValueError("choices need names")
    except ValueError as error:
        raise ConfigurationError(
            f"{where}: [allowed: {body}] is neither a range such as 2..8 nor choices such as a|b ({error})."
        ) from error
    return None, None, choices


def check(notebook: str | Path, values: Mapping[str, Any], folder: Path | None = None) -> dict[str, Any]:
    """Check `values` against the notebook's parameters cell; returns them, integers as floats where floats are declared.

    Raises:
        ConfigurationError: unknown parameter (with the nearest names), wrong type, or value not allowed.
    """
    declared = schema(notebook, folder)
    name = notebook_file(notebook, folder).stem
    for given in values:
        check_name(f"parameter of notebook {name}", given, declared)
    return {given: declared[given].check(value, name) for given, value in values.items()}


def defaults(notebook: str | Path, folder: Path | None = None) -> dict[str, Any]:
    """The values in the notebook's parameters cell."""
    return {parameter.name: parameter.default for parameter in schema(notebook, folder).values()}


def validate(notebook: str, namespace: Mapping[str, Any], folder: Path | None = None) -> None:
    """Check a running notebook's parameters and print one line that says which profile they make.

    Call it right after the parameters cell, as `validate("02_circuit_design", globals())`.

    Raises:
        ConfigurationError: a parameter is missing, has the wrong type or a value that is not allowed.
    """
    declared = schema(notebook, folder)
    missing = [name for name in declared if name not in namespace]
    if missing:
        raise ConfigurationError(f"Notebook {notebook}, parameter {missing[0]}: not set; run the parameters cell first.")
    values = check(notebook, {name: namespace[name] for name in declared}, folder)
    changed = [f"{name} = {values[name]!r}" for name, known in declared.items() if values[name] != known.default]
    print(f"Profile: other than the defaults: {', '.join(changed)}" if changed else "Profile: notebook defaults (quick)")


def machine_line() -> str:
    """One line about the machine, for a cell whose output is not compared."""
    from hybridbench.measurement.machine import this_machine

    machine = this_machine()
    gpus = f"GPU {machine.gpus}, driver {machine.driver}" if machine.gpus else "no NVIDIA GPU"
    return (
        f"Machine: {machine.id} ({machine.cpu}, {machine.cores} cores, {machine.memory_gib:g} GiB, {gpus}, {machine.system})"
    )
