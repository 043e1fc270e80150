"""Profiles: the parameters of every notebook, by name, in `profiles/<profile>.yaml`."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import yaml

from hybridbench import paths
from hybridbench.errors import ConfigurationError, check_name, shown
from hybridbench.workflow import parameters


class _Loader(yaml.SafeLoader):
    """YAML as people write it: 1e-3 is a number (YAML 1.1 takes it for text), and a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if not isinstance(name, Hashable):
                raise yaml.constructor.ConstructorError(None, None, f"{name!r} is no name", key.start_mark)
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{name!r} is given twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


#: Characters of a profile, and how deep its lists may be nested.
MOST_TEXT, MOST_DEPTH = 1 << 18, 8


def _check_events(text: str, source: str) -> None:
    """Refuse what grows when it is read: aliases, which repeat a part, and nesting. Nothing is built for it."""
    if len(text) > MOST_TEXT:
        raise ConfigurationError(f"{source} has {len(text)} characters, and {MOST_TEXT} are allowed; shorten it.")
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise ConfigurationError(f"{source}, line {line}: '*{event.anchor}' is an alias; write the value out.")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_DEPTH:
            raise ConfigurationError(f"{source}, line {line}: nested more than {MOST_DEPTH} deep; no parameter is.")


def _read(text: str, source: str) -> Any:
    """Parsed YAML; ConfigurationError with the line where it is broken."""
    try:
        _check_events(text, source)
        # _Loader is a SafeLoader, it builds plain values only.
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigurationError(f"{source}, line {line}: {error.problem or 'not YAML'}; correct the line.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date such as 2026-13-45
        raise ConfigurationError(f"{source} is not YAML ({error}); correct it.") from error


def profile_names(folder: Path | None = None) -> list[str]:
    """Every profile of `folder` (default `profiles/`)."""
    return sorted(file.stem for file in (folder or paths.root() / "profiles").glob("*.yaml"))


def load(profile: str, folder: Path | None = None, notebooks: Path | None = None) -> dict[str, dict[str, Any]]:
    """The parameters of every notebook in running order, checked; {} where a profile names none for a notebook.

    Args:
        profile: "quick", "full" or another file's name without suffix.
        folder: where profiles lie, `profiles/` unless told otherwise.
        notebooks: where notebooks lie, `notebooks/` unless told otherwise.

    Raises:
        ConfigurationError: unknown profile, notebook or parameter (with the nearest names), wrong type, value not allowed,
            or broken YAML (with the line).
    """
    folder = folder or paths.root() / "profiles"
    file = folder / f"{check_name('profile', profile, profile_names(folder))}.yaml"
    source = paths.relative(file)
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{source} is not UTF-8 text ({error}); correct it.") from error
    given = _read(text, source) or {}
    if not isinstance(given, dict):
        raise ConfigurationError(
            f"{source} holds a {type(given).__name__}; it is 'notebook:' with 'parameter: value' below."
        )
    known = parameters.names(notebooks)
    for notebook, values in given.items():
        check_name(f"notebook in {source}", notebook, known)
        if values is not None and not isinstance(values, dict):
            raise ConfigurationError(
                f"{source}, notebook {shown(notebook)}: {shown(values)} is not a list of 'parameter: value' lines."
            )
    return {notebook: parameters.check(notebook, given.get(notebook) or {}, notebooks) for notebook in known}


def defaults_text(notebooks: Path | None = None) -> str:
    """The notebooks' own defaults as the text of a profile: what `profiles/quick.yaml` holds."""
    lines = ["# The notebooks' own defaults, printed by 'hybridbench defaults'; a test compares them."]
    for notebook in parameters.names(notebooks):
        # JSON values are YAML values.
        values = [f"  {name}: {json.dumps(value)}" for name, value in parameters.defaults(notebook, notebooks).items()]
        lines += ["", f"{notebook}:", *values]
    return "\n".join(lines) + "\n"


def override(
    profile: dict[str, dict[str, Any]], options: Iterable[str], notebooks: Path | None = None
) -> dict[str, dict[str, Any]]:
    """`profile` with options such as "05_optimizer_comparison.seeds=[0, 1]" on top; values are written as in YAML.

    Raises:
        ConfigurationError: not of that form, or not allowed by the notebook's parameters cell.
    """
    changed = {notebook: dict(values) for notebook, values in profile.items()}
    for option in options:
        target, equals, text = option.partition("=")
        notebook, dot, name = target.strip().partition(".")
        if not equals or not dot:
            raise ConfigurationError(f"--param {shown(option)} is not of the form notebook.parameter=value.")
        check_name("notebook", notebook, changed)
        value = _read(text, f"--param {shown(option)}")
        changed[notebook] |= parameters.check(notebook, {name.strip(): value}, notebooks)
    return changed
