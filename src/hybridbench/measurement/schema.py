"""What a record is, and the check of every record that is written, read or shipped, whoever took it.

`columns.py` says what may stand in a column. Here stand the studies: which dataclass names a record, which columns its rows
have, and what tells them apart. `check` compares tables with both and recomputes what can be recomputed: the name of a
record from its configuration, the id of a machine from its parts. A refusal names file, row, column and rule.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from hybridbench import paths
from hybridbench.design.routes import is_route, route_of
from hybridbench.errors import ConfigurationError, DataError, plain, shown
from hybridbench.measurement.columns import COLUMNS, Column
from hybridbench.measurement.machine import RECORDED_PACKAGES, Machine
from hybridbench.measurement.proof import DeviceProof

#: Rows and records that all tables of a study may have together: more would keep the analysis busy for hours.
MOST_ROWS, MOST_RECORDS = 3_000_000, 50_000
#: Different values in a column of a study: every pair of optimizers or routes is compared, on every machine.
MOST_DIFFERENT = {
    "machine": 20, "commit": 200, "cell": 100, "task": 50, "problem": 50, "optimizer": 50, "ansatz": 100, "circuit": 100,
    "arm": 200, "route": 100, "part": 100, "learning_rate": 2000, "seed": 1000,
}  # fmt: skip
#: Characters of a JSON text, and how deep its lists may be nested.
MOST_JSON, MOST_DEPTH = 100_000, 6
#: Parts of a step that are a difference of two clocks, and may come out below 0.
DIFFERENCES = ("python",)


@dataclass(frozen=True)
class Kind:
    """One kind of record: the dataclass that names it and the columns of its rows."""

    config: str  #: name of the frozen dataclass; it is part of the record's name
    fields: tuple[str, ...]  #: its fields, columns that are the same in all rows of a record
    results: tuple[str, ...]  #: columns that every row has besides
    key: tuple[str, ...]  #: columns that tell the rows of a record apart
    optional: tuple[str, ...] = ()  #: columns that a row may have


def _kind(config: str, fields: str, results: str, key: str, optional: str = "") -> Kind:
    return Kind(config, tuple(fields.split()), tuple(results.split()), tuple(key.split()), tuple(optional.split()))


_GPU = "gpu_utilisation_percent gpu_memory_mib gpu_energy_joules kernels traffic_bytes"
_MEASURES = " ".join(f"{part}_{what}" for part in ("train", "val", "test") for what in ("loss", "score"))
_BENCH = (
    "cell n_qubits n_layers batch_size arms threads processes budget_seconds revision",
    "arm part process note",
    "arm part process sample seconds",
    "sample seconds calls first_call_seconds import_seconds peak_memory_mib packages",
)

#: The studies by name; each has one kind of record or several.
STUDIES: dict[str, tuple[Kind, ...]] = {
    "circuits": (
        _kind(
            "CircuitConfig",
            "circuit embedding ansatz n_qubits n_layers n_pairs n_points seed revision",
            "n_parameters depth n_two_qubit_gates expressibility entangling_capability n_live live_share",
            "",
        ),
    ),
    "gradients": (
        _kind(
            "AgreementConfig",
            "method embedding ansatz n_qubits n_layers batch_size seed revision",
            "quantity max_abs_difference",
            "quantity",
        ),
        _kind(
            "ClosedFormConfig",
            "n_qubits batch_size seed n_layers ansatz embedding revision",
            "method quantity max_abs_difference",
            "method quantity",
        ),
    ),
    "timing": (
        _kind(
            "TimingCell",
            "cell n_qubits n_layers batch_size arms threads samples warmup revision",
            "arm part sample seconds first_call_seconds",
            "arm part sample",
            _GPU,
        ),
    ),
    "bench": (_kind("BenchCell", *_BENCH),),
    "atlas": (
        _kind(
            "AtlasCell",
            "n_qubits n_layers batch_size threads role arms limit_seconds samples warmup repetition revision",
            "arm part note route precision",
            "arm part sample",
            f"sample seconds first_call_seconds {_GPU}",
        ),
    ),
    "training": (
        _kind(
            "TrainingConfig",
            "task model embedding ansatz n_qubits n_layers backend diff_method optimizer learning_rate batch_size epochs "
            "max_samples seed precision revision",
            f"epoch step seconds n_parameters {_MEASURES}",
            "epoch",
        ),
    ),
    "energy": (
        _kind(
            "EnergyConfig",
            "optimizer learning_rate seed steps batch_size n_qubits revision",
            "step energy seconds",
            "step",
        ),
    ),
    "optimizers": (
        _kind(
            "TrialConfig",
            "problem model optimizer learning_rate knobs phase seeds steps every n_qubits n_layers batch_size start "
            "revision",
            f"seed step n_parameters batch_losses {_MEASURES}",
            "seed step",
        ),
    ),
    "frontier": (
        _kind(
            "GradientConfig",
            "ansatz n_qubits n_layers n_points seeds precision cell revision",
            "cost seed cost_mean gradient_variance gradient_fourth_moment gradient_mean_square shot_variance rounding_error",
            "cost seed",
        ),
        _kind(
            "DescentConfig",
            "ansatz n_qubits n_layers cost shots optimizer learning_rate steps every seeds precision cell revision",
            "seed step train_loss",
            "seed step",
        ),
        _kind("MemoryConfig", *_BENCH),
    ),
}

#: Studies whose records come from a command of their own; those of the others come from the notebooks.
COMMANDS = {"atlas": "measure", "bench": "bench", "frontier": "frontier", "optimizers": "study"}

_NAMING = ("record", "study")
_MACHINE = ("machine", "cpu", "cores", "memory_gib", "gpus", "driver", "system", "python")
_VERSIONS = tuple(package.replace("-", "_") for package in RECORDED_PACKAGES)
#: Packages that the first records were taken without.
_LATER = ("pennylane_lightning_gpu", "numba_cuda")
#: Columns of every record, the same in all its rows.
PROVENANCE = (*_MACHINE, *(name for name in _VERSIONS if name not in _LATER), "commit", "proof", "created_utc")
_MAY = (*_LATER, "contributed")

#: What a record's file is called: by the record, or by the machine that all its records are of.
FILE_NAMES = re.compile(rf"(?:[0-9a-f]{{16}}|{COLUMNS['machine'].pattern})\.parquet")

_PROOF = DeviceProof.__annotations__
_ARM = {"name": str, "factory": str, "arguments": dict, "gpu": bool}


def remedy(file: Path) -> str:
    """What to do about a record's file that is not as it should be."""
    if file.is_relative_to(paths.data_dir()):
        return "take it from git again ('git checkout -- data')"
    if file.is_relative_to(paths.build_dir()):
        return f"delete the file, and 'hybridbench {COMMANDS.get(file.parent.name, 'run --force')}' makes it anew"
    return "do not use it, and ask whoever took it for another copy"


class _Refusal:
    """Says in which file and row the row of a table stands that is made of several files."""

    def __init__(self, files: Sequence[tuple[Path, int]]) -> None:
        self._files, self._ends = [file for file, _ in files], np.cumsum([rows for _, rows in files])

    def __call__(self, row: int, column: str, value: object, rule: str) -> NoReturn:
        number = int(np.searchsorted(self._ends, row, side="right"))
        file, row = self._files[number], row - (int(self._ends[number - 1]) if number else 0)
        where = f"Record {plain(paths.relative(file))}, row {row + 1}, column {column!r}"
        raise DataError(f"{where}{'' if value is None or value != value else f': {shown(value)}'} {rule}; {remedy(file)}.")


def study_of(name: str) -> str:
    """`name`, if it is that of a study.

    Raises:
        DataError: it is not; names those there are.
    """
    if name not in STUDIES:
        raise DataError(f"Unknown study {shown(name)}: known are {', '.join(STUDIES)}.")
    return name


def config_name(config: str, columns: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits that name the record of a configuration, from its class's name and its columns."""
    text = json.dumps([config, dict(columns)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check(tables: Sequence[tuple[Path, pa.Table]], study: str) -> pd.DataFrame:
    """Check the tables of one study and return them as one.

    Args:
        tables: files and what they hold.
        study: what they are said to be.

    Raises:
        DataError: names the file, the row, the column, the value and the rule that it breaks.
    """
    return _checked(tables, study).to_pandas()


def _checked(tables: Sequence[tuple[Path, pa.Table]], study: str) -> pa.Table:
    for file, table in tables:
        _check_shape(file, table, study)
    together = pa.concat_tables([_plain_types(table) for _, table in tables], promote_options="permissive")
    refuse = _Refusal([(file, table.num_rows) for file, table in tables])
    if together.num_rows > MOST_ROWS:
        raise DataError(f"The {study} records have {together.num_rows} rows, and {MOST_ROWS} are the most that are read.")
    columns = {name: _Values(together.column(name), COLUMNS[name]) for name in together.column_names}
    for name, values in columns.items():
        values.check(name, refuse)
    _check_names(columns, study, refuse)
    _check_records(columns, study, refuse)
    return together


def table_of(frame: pd.DataFrame, study: str, file: Path) -> pa.Table:
    """Rows that are about to be written as `file`, checked.

    Raises:
        ConfigurationError: they break a rule; nothing may be written.
    """
    try:
        table = pa.Table.from_pandas(frame, preserve_index=False)
        _checked([(file, table)], study)
    except (DataError, pa.ArrowException, ValueError, TypeError) as error:
        what = str(error).removesuffix(f"{remedy(file)}.").rstrip("; ")
        raise ConfigurationError(f"{plain(what)}: nothing was written.") from error
    return table


# ---------------------------------------------------------------------------------------------------------------- the files
def record_files(folder: Path) -> list[Path]:
    """The files of records in a folder, in the order of their names.

    Raises:
        DataError: one is a symbolic link, no file, or has the name of no record.
    """
    files = sorted(folder.glob("*.parquet"))
    for file in files:
        check_file(file)
    return files


def check_file(file: Path) -> None:
    """Refuse what is not the file of a record by its looks.

    Raises:
        DataError: it is a symbolic link, no file, or has the name of no record.
    """
    name = plain(f"{paths.relative(file.parent)}/{file.name}")
    if file.is_symlink():
        raise DataError(f"Record {name} is a symbolic link: remove the link ('rm' leaves its target) and copy the file.")
    if not file.is_file():
        raise DataError(f"Record {name} is no file: move it away.")
    if not FILE_NAMES.fullmatch(file.name):
        raise DataError(f"Record {name} has the name of no record or machine: move the file away, or a row counts twice.")


def _check_shape(file: Path, table: pa.Table, study: str) -> None:
    """The columns of one file: known, each once, of the right type."""
    where = f"Record {plain(paths.relative(file))}"
    study_of(study)
    if not table.num_rows:
        raise DataError(f"{where} has no rows: {remedy(file)}.")
    names = table.column_names
    for name, kind in zip(names, table.schema.types, strict=True):
        if name not in COLUMNS:
            raise DataError(
                f"{where}: column {shown(name)} has no description, so nobody can tell what stands in it; add it with its "
                f"unit to hybridbench/measurement/columns.py, or {remedy(file)}."
            )
        if not _fits(kind, COLUMNS[name]):
            raise DataError(
                f"{where}: column {name!r} holds {shown(str(kind))} values, and must hold {COLUMNS[name].allowed}; "
                f"{remedy(file)}."
            )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{where}: column {twice!r} stands there twice; {remedy(file)}.")
    for name in (*_NAMING, *PROVENANCE):
        if name not in names:
            raise DataError(f"{where}: column {name!r} is missing; {remedy(file)}.")


@cache
def _fits(kind: pa.DataType, column: Column) -> bool:
    if pa.types.is_null(kind):
        return True
    if column.kind in {"text", "data"}:
        inner = kind.value_type if pa.types.is_dictionary(kind) else kind
        return pa.types.is_string(inner) or pa.types.is_large_string(inner)
    # A column of whole numbers with gaps is one of floating-point numbers.
    return pa.types.is_signed_integer(kind) or kind in (pa.float32(), pa.float64())


def _plain_types(table: pa.Table) -> pa.Table:
    """The table with texts as plain strings and without what a writer noted for its own reader."""
    fields = [
        pa.field(field.name, pa.string() if COLUMNS[field.name].kind in {"text", "data"} else field.type)
        for field in table.schema
    ]
    try:
        return table.cast(pa.schema(fields))
    except pa.ArrowException as error:
        raise DataError(f"A record holds text that is no text ({plain(error)}).") from error


# -------------------------------------------------------------------------------------------------------------- the columns
class _Values:
    """A column: codes of the rows into its different values. Texts repeat, so each is looked at once."""

    def __init__(self, column: pa.ChunkedArray, about: Column) -> None:
        self.about = about
        self.text = about.kind in {"text", "data"}
        if self.text:
            encoded = pc.dictionary_encode(column.cast(pa.string())).combine_chunks()
            if isinstance(encoded, pa.ChunkedArray):
                encoded = encoded.unify_dictionaries().combine_chunks()
            self.codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
            try:
                self.values: list[str] = encoded.dictionary.to_pylist()
            except UnicodeDecodeError:
                self.values, self.codes = ["\N{REPLACEMENT CHARACTER}\x00"], np.zeros(len(column), dtype=np.int64)
            self.missing = self.codes < 0
        else:
            self.numbers = column.cast(pa.float64()).to_numpy()
            self.missing = np.isnan(self.numbers)
            self.nulls = pc.is_null(column).to_numpy(zero_copy_only=False)

    def at(self, row: int) -> Any:
        """The value of a row."""
        if self.text:
            return self.values[self.codes[row]] if self.codes[row] >= 0 else None
        return float(self.numbers[row])

    def check(self, name: str, refuse: _Refusal) -> None:
        """Compare every value with what its column allows; gaps are looked at elsewhere."""
        if self.text:
            for code, value in enumerate(self.values):
                if rule := _text_rule(value, self.about):
                    refuse(int(np.argmax(self.codes == code)), name, value, rule)
            return
        about, found = self.about, self.numbers
        bad = ~np.isfinite(found) & ~self.missing
        low, high = about.low, about.high
        if low is not None:
            bad |= found <= low if about.above else found < low
        if high is not None:
            bad |= found > high
        if about.kind == "whole":
            bad |= (found != np.floor(found)) & ~self.missing
        if bad.any():
            row = int(np.argmax(bad))
            refuse(row, name, self.at(row), f"is not {about.allowed}")

    def same(self, first: np.ndarray) -> np.ndarray:
        """Rows whose value is that of the row in `first`."""
        if self.text:
            return self.codes == self.codes[first]
        return (self.numbers == self.numbers[first]) | (self.missing & self.missing[first])


def _text_rule(value: str, about: Column) -> str:
    """The rule that a text breaks, "" where it breaks none."""
    if about.kind == "data":
        return json_rule(value) if value else ""
    if not _compiled(about.pattern).fullmatch(value):
        return f"is not {about.allowed}"
    if about is COLUMNS["created_utc"]:
        try:
            datetime.fromisoformat(value)
        except ValueError:
            return "is no time of any calendar"
    return ""


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def json_rule(value: str) -> str:
    """What is wrong with a JSON text of a record, "" for nothing: its size, its depth, or that it is none."""
    if len(value) > MOST_JSON:
        return f"has {len(value)} characters, and {MOST_JSON} are allowed"
    depth = deepest = 0
    for char in re.sub(r'"(?:[^"\\]|\\.)*"', "", value):
        depth += (char in "[{") - (char in "]}")
        deepest = max(deepest, depth)
    if deepest > MOST_DEPTH:
        return f"is nested {deepest} deep, and {MOST_DEPTH} is allowed"
    try:
        json.loads(value, parse_constant=_no_constant)
    except ValueError:
        return "is not JSON"
    return "" if value.isascii() and value.isprintable() else "holds characters that are not printable ASCII"


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _check_names(columns: Mapping[str, _Values], study: str, refuse: _Refusal) -> None:
    """Not too many different names, and the study's own name in every row."""
    wrong = [value for value in columns["study"].values if value != study]
    if wrong or columns["study"].missing.any():
        here = columns["study"]
        row = int(np.argmax(here.missing | (here.codes != (here.values.index(study) if study in here.values else -2))))
        refuse(row, "study", here.at(row), f"is not {study!r}, in whose folder the record lies")
    for name, most in MOST_DIFFERENT.items():
        if name in columns:
            found = columns[name].codes if columns[name].text else columns[name].numbers[~columns[name].missing]
            different, rows = np.unique(found, return_index=True)
            if len(different) > most:
                row = int(rows.max())
                rule = f"is one of {len(different)} different ones, and {most} are the most that are read"
                refuse(row, name, columns[name].at(row), rule)


# -------------------------------------------------------------------------------------------------------------- the records
def _check_records(columns: Mapping[str, _Values], study: str, refuse: _Refusal) -> None:
    """Every record: named by its configuration, one machine, no row twice, and the rows that its configuration promises."""
    records = columns["record"]
    _refuse_gap(records, "record", refuse)
    if (count := len(records.values)) > MOST_RECORDS:
        raise DataError(f"There are {count} {study} records, and {MOST_RECORDS} are the most that are read: move some away.")
    # Another machine's record of the same configuration has the same name.
    machines = columns["machine"]
    _refuse_gap(machines, "machine", refuse)
    _, first, group = np.unique(
        records.codes.astype(np.int64) * len(machines.values) + machines.codes, return_index=True, return_inverse=True
    )
    for row in first:
        _check_machine(int(row), columns, refuse)
    if "arms" in columns:
        for row in first:
            if not columns["arms"].missing[row]:
                _check_arms(int(row), columns, refuse)
        if "arm" in columns:
            _check_arm_rows(columns, group, refuse)
    kinds = np.array([_kind_of(int(row), columns, study, refuse) for row in first])
    of_row, first_of_row = kinds[group], first[group]
    for number, kind in enumerate(STUDIES[study]):
        rows = of_row == number
        if rows.any():
            _check_kind(kind, rows, first_of_row, columns, refuse)
    proven = _equal(columns["proof"], "", negate=True) & (columns["arms"].missing if "arms" in columns else True)
    if proven.any():
        row = int(np.argmax(proven))
        refuse(row, "proof", columns["proof"].at(row), "proves a GPU's work in a record without arms")


def _refuse_gap(values: _Values, name: str, refuse: _Refusal) -> None:
    if values.missing.any():
        refuse(int(np.argmax(values.missing)), name, None, "is empty")


def _plain_value(values: _Values, row: int) -> Any:
    value = values.at(row)
    return int(value) if values.about.kind == "whole" and not values.missing[row] else value


def _kind_of(row: int, columns: Mapping[str, _Values], study: str, refuse: _Refusal) -> int:
    """Which of the study's kinds the record is that begins in a row: the one that gives it its name."""
    record = columns["record"].at(row)
    fitting = False
    for number, kind in enumerate(STUDIES[study]):
        if all(name in columns and not columns[name].missing[row] for name in kind.fields):
            fitting = True
            config = {name: _plain_value(columns[name], row) for name in kind.fields}
            # A number that the configuration holds as 1 stands as 1.0 beside others that are none.
            whole = {name: int(v) if isinstance(v, float) and v.is_integer() else v for name, v in config.items()}
            if record in (config_name(kind.config, config), config_name(kind.config, whole)):
                return number
    if not fitting:
        kind = min(STUDIES[study], key=lambda kind: sum(n not in columns or columns[n].missing[row] for n in kind.fields))
        lacking = next(name for name in kind.fields if name not in columns or columns[name].missing[row])
        refuse(row, lacking, None, f"is missing, and a record of {study} needs it")
    refuse(row, "record", record, "is not the name that its configuration gives: a column of the configuration was changed")


def _check_kind(kind: Kind, rows: np.ndarray, first: np.ndarray, columns: Mapping[str, _Values], refuse: _Refusal) -> None:
    def refuse_where(bad: np.ndarray, name: str, rule: str) -> None:
        bad = bad & rows
        if bad.any():
            row = int(np.argmax(bad))
            refuse(row, name, columns[name].at(row) if name in columns else None, rule)

    known = {*_NAMING, *PROVENANCE, *_MAY, *kind.fields, *kind.results, *kind.optional}
    nothing = np.ones(len(rows), dtype=bool)
    for name in (*_NAMING, *PROVENANCE, *kind.fields, *kind.results):
        gaps = COLUMNS[name].gaps
        if name not in columns:
            refuse_where(nothing, name, f"is missing, and rows of a {kind.config} need it")
        elif gaps == "never" or (gaps == "note" and "note" not in columns):
            refuse_where(columns[name].missing, name, "is empty")
    for name, values in columns.items():
        if name not in known:
            refuse_where(~values.missing, name, f"is no result of a {kind.config}")
    if "note" in kind.results:
        noted = _equal(columns["note"], "", negate=True)
        for name in ("sample", "seconds"):
            if name in columns:
                refuse_where(columns[name].missing & ~noted, name, "is empty, and no note says why")
                refuse_where(~columns[name].missing & noted, name, "stands beside a note that says why there is none")
            else:
                refuse_where(~noted, name, "is missing, and no note says why")
    for name in (*kind.fields, *PROVENANCE, *_MAY):
        if name in columns:
            refuse_where(~columns[name].same(first), name, "is another than in the record's first row")
    _check_times(kind, columns, refuse_where)
    for small, large in (("sample", "samples"), ("process", "processes"), ("step", "steps"), ("epoch", "epochs")):
        if small in columns and large in kind.fields:
            most = columns[large].numbers - (small in {"sample", "process"})
            refuse_where(columns[small].numbers > most, small, f"is more than {large!r} allows")
    if "seeds" in kind.fields:
        _check_seeds(columns, refuse_where)
    if "samples" in kind.fields:
        _check_samples(kind, rows, columns, refuse)
    doubled = _doubled(("machine", "record", *kind.key), columns, rows)
    if doubled is not None:
        refuse(doubled, "record", columns["record"].at(doubled), "has this row twice: the same record lies there again")


def _equal(values: _Values, wanted: str, negate: bool = False) -> np.ndarray:
    code = values.values.index(wanted) if wanted in values.values else -2
    return (values.codes != code) if negate else (values.codes == code)


def _check_times(kind: Kind, columns: Mapping[str, _Values], refuse_where: Callable[..., None]) -> None:
    if "seconds" not in columns or "seconds" not in {*kind.results, *kind.optional}:
        return
    seconds = columns["seconds"].numbers
    if "part" not in kind.results:
        refuse_where(seconds < 0, "seconds", "is below 0, and time does not run backwards")
        return
    between = np.isin(columns["part"].codes, [n for n, part in enumerate(columns["part"].values) if part in DIFFERENCES])
    refuse_where((seconds <= 0) & ~between, "seconds", "is not above 0, and every call takes time")


def _check_samples(kind: Kind, rows: np.ndarray, columns: Mapping[str, _Values], refuse: _Refusal) -> None:
    """Every arm that was timed has all its samples: whoever leaves out the slow ones gets another median."""
    if "sample" not in columns:
        return
    timed = np.flatnonzero(rows & ~columns["sample"].missing)
    keys = [columns[name].codes[timed] for name in ("machine", "record", *kind.key) if name != "sample"]
    found = (
        pd.DataFrame(dict(enumerate(keys))).assign(row=timed).groupby(list(range(len(keys))))["row"].agg(["size", "first"])
    )
    for size, row in zip(found["size"], found["first"], strict=True):
        promised = int(columns["samples"].numbers[row])
        if size != promised:
            arm = columns["arm"].at(int(row))
            refuse(int(row), "sample", size, f"samples of arm {shown(arm)} are there, and the record promises {promised}")


def _check_seeds(columns: Mapping[str, _Values], refuse_where: Callable[..., None]) -> None:
    seeds, found = columns["seeds"], columns["seed"].numbers
    for code, text in enumerate(seeds.values):
        listed = json.loads(text) if text else None
        if not isinstance(listed, list) or not all(type(seed) is int for seed in listed):
            refuse_where(seeds.codes == code, "seeds", "is no list of whole numbers")
        refuse_where((seeds.codes == code) & ~np.isin(found, listed), "seed", "is none of the record's seeds")


def _doubled(key: Sequence[str], columns: Mapping[str, _Values], rows: np.ndarray) -> int | None:
    """A row whose key another row has already, None where there is none."""
    codes = {
        name: columns[name].codes if columns[name].text else np.nan_to_num(columns[name].numbers, nan=-1.0)
        for name in key
        if name in columns
    }
    again = pd.DataFrame(codes)[rows].duplicated().to_numpy()
    return int(np.flatnonzero(rows)[np.argmax(again)]) if again.any() else None


def _check_machine(row: int, columns: Mapping[str, _Values], refuse: _Refusal) -> None:
    parts = [_plain_value(columns[name], row) for name in _MACHINE[1:7]]
    expected = _machine_id(*parts)
    found = columns["machine"].at(row)
    if found != expected:
        refuse(row, "machine", found, f"is not the id of these parts, which is {expected!r}")


@cache
def _machine_id(*parts: Any) -> str:
    return Machine(*parts).id


# ----------------------------------------------------------------------------------------------------------------- the arms
@cache
def arms_of(text: str) -> dict[str, bool] | str:
    """The arms of a cell by name, and whether each is a GPU's; or the rule that the text breaks."""
    listed = json.loads(text) if text else None
    if not isinstance(listed, list) or not listed:
        return "is no list of arms"
    for arm in listed:
        if not isinstance(arm, dict) or any(not isinstance(arm.get(key), kind) for key, kind in _ARM.items()):
            return "has an arm without name, factory, arguments or whether it is a GPU's"
        if is_route(arm["name"]) and route_of(arm["name"]).gpu != arm["gpu"]:
            return f"says of arm {shown(arm['name'])} that it is {'a' if arm['gpu'] else 'no'} GPU's"
    names = [arm["name"] for arm in listed]
    if len(set(names)) < len(names):
        return "names an arm twice"
    return {arm["name"]: arm["gpu"] for arm in listed}


def _check_arms(row: int, columns: Mapping[str, _Values], refuse: _Refusal) -> None:
    text = columns["arms"].at(row)
    arms = arms_of(text)
    if isinstance(arms, str):
        refuse(row, "arms", text, arms)
    proof = columns["proof"].at(row)
    if proof:
        gpus = tuple(columns["gpus"].at(row).split("; "))
        if rule := proof_rule(proof, text, gpus, columns["driver"].at(row)):
            refuse(row, "proof", proof, rule)


def _check_arm_rows(columns: Mapping[str, _Values], group: np.ndarray, refuse: _Refusal) -> None:
    """The rows are of the arms that their record names, all of them are there, and a GPU's times have a proof."""
    arms, arm = columns["arms"], columns["arm"]
    pairs = pd.DataFrame({"record": group, "arms": arms.codes, "arm": arm.codes, "proof": columns["proof"].codes})
    pairs["timed"] = ~columns["seconds"].missing if "seconds" in columns else False
    pairs["row"] = np.arange(len(pairs))
    pairs = pairs[pairs["arms"] >= 0]
    found = pairs.groupby(["record", "arm"], sort=False).agg(
        arms=("arms", "first"), proof=("proof", "first"), timed=("timed", "max"), row=("row", "first")
    )
    count = found.groupby("record", sort=False)["row"].agg(["size", "first"])
    for (_, code), line in found.iterrows():
        named, row = arms_of(arms.values[line["arms"]]), int(line["row"])
        name = arm.values[code] if code >= 0 else None
        if name not in named:
            refuse(row, "arm", name, "is none of the arms that the record's configuration names")
        if named[name] and line["timed"] and not columns["proof"].values[line["proof"]]:
            refuse(row, "proof", "", f"proves nothing of GPU arm {shown(name)}: it has no proof from the driver")
    for size, row in zip(count["size"], count["first"], strict=True):
        named = arms_of(arms.at(int(row)))
        if size < len(named):
            refuse(int(row), "arm", arm.at(int(row)), f"is one of {size} arms with rows, and the record names {len(named)}")


@cache
def proof_rule(text: str, arms: str, gpus: tuple[str, ...], driver: str) -> str:
    """The rule that a proof of the driver breaks, "" where it breaks none.

    Args:
        text: the proof, JSON.
        arms: the record's arms, JSON.
        gpus: the machine's GPUs.
        driver: the machine's driver.
    """
    proof, named = json.loads(text), arms_of(arms)
    if not isinstance(proof, dict) or set(proof) != set(_PROOF):
        return f"is no proof from the driver, which has {', '.join(_PROOF)}"
    if not any(named.values()):
        return "proves a GPU's work where no arm is a GPU's"
    if proof["gpu"] not in gpus:
        return f"is of {shown(proof['gpu'])}, which is none of the machine's GPUs"
    if proof["driver"] != driver:
        return f"is of driver {shown(proof['driver'])}, and the machine's is {shown(driver)}"
    if proof["seen_by"] not in {"pid", "new process", "memory"} or proof["pid_seen"] is not (proof["seen_by"] == "pid"):
        return "does not say how the process was seen on the GPU"
    if not _number(proof["seconds"], above=0) or not _number(proof["polls"], above=0):
        return "was watched for no time"
    if not _number(proof["process_memory_mib"]):
        return "says nothing of the process's memory on the GPU"
    busy, seen = proof["utilisation_max_percent"], proof["arms"]
    if not isinstance(seen, dict) or not all(isinstance(about, dict) for about in seen.values()):
        return "says nothing of the arms"
    if busy is not None and not (_number(busy, above=0) and busy <= 100):
        return "shows a GPU that stayed idle"
    if busy is None and not any(about.get("kernels") for about in seen.values()):
        return "shows neither a GPU at work nor a kernel"
    for name, about in seen.items():
        if named.get(name) is not about.get("gpu"):
            return f"tells of an arm {shown(name)} that the record does not name so"
        if about["gpu"] and (about.get("kernels") == 0 or about.get("utilisation_percent") == 0):
            return f"shows no work of GPU arm {shown(name)}"
        if any(not _number(about.get(key), above=0) for key in ("steps", "seconds")):
            return f"does not say how long arm {shown(name)} ran alone"
    return ""


def _number(value: Any, above: float | None = None) -> bool:
    known = isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value) and value >= 0
    return known and (above is None or value > above)


# -------------------------------------------------------------------------------------------- what the driver said, in full
def check_raw_proof(rows: pd.DataFrame, told: Mapping[str, Any] | None, where: str) -> None:
    """Compare the rows of a record with a GPU's times with every answer of the driver while they were taken.

    Args:
        rows: of one record.
        told: the line of `gpu/proof.jsonl` about it, None where there is none.
        where: the file of these lines, for an error.

    Raises:
        DataError: there is no such line, or it does not fit the record's times, card or kernels.
    """
    record = rows["record"].iloc[0]
    proof = json.loads(rows["proof"].iloc[0])

    def refuse(rule: str) -> NoReturn:
        raise DataError(f"Record {record}: {rule} (by {where}); it is not shipped: measure it again with 'hybridbench gpu'.")

    if told is None:
        refuse("no line holds what the driver answered while its GPU arms ran")
    polls = told.get("polls")
    if told.get("proof") != proof:
        refuse("the proof is another than the one that the driver's answers gave")
    if not isinstance(polls, list) or not all(isinstance(poll, list) and len(poll) == 5 for poll in polls):
        refuse("the driver's answers are not of the form [seconds, phase, utilisation, MiB, J]")
    times, phases, busy, memory, energy = zip(*polls, strict=True) if polls else ((),) * 5
    if not polls or not all(_number(at) for at in times) or not all(a <= b for a, b in pairwise(times)):
        refuse("the driver's answers are not in the order of their times")
    if len(polls) != proof["polls"] or times[-1] > proof["seconds"] + 1:
        refuse("the driver answered another number of times, or longer, than the proof says")
    if not all(value is None or (_number(value) and value <= 100) for value in busy) or not all(map(_number, memory)):
        refuse("an answer of the driver is no utilisation and memory of a GPU")
    if max((value for value in busy if value is not None), default=None) != proof["utilisation_max_percent"]:
        refuse("the GPU's highest utilisation is another than the proof says")
    if abs(max(memory) - proof["process_memory_mib"]) > 0.2:
        refuse("the process's memory on the GPU is another than the proof says")
    drawn = [value for value in energy if value is not None]
    # Two threads ask, so that neighbours may change places.
    if not all(_number(value) for value in drawn) or (drawn and drawn[-1] < drawn[0]):
        refuse("the energy that the GPU has drawn falls")
    spent = rows["seconds"].sum() + rows.groupby("arm")["first_call_seconds"].first().sum()
    if spent > 1.05 * proof["seconds"] + 1:
        refuse(f"its times make {spent:.3g} s, and the driver was asked for {proof['seconds']:.3g} s")
    for name, about in proof["arms"].items():
        if name not in phases:
            refuse(f"the driver was never asked while arm {shown(name)} ran alone")
        own = rows[(rows["arm"] == name) & (rows["part"] == "step")]
        alone = about["seconds"] / about["steps"]
        if len(own) and not 1 / 8 <= own["seconds"].median() / alone <= 8:
            refuse(
                f"a step of arm {shown(name)} took {alone:.3g} s alone, and {own['seconds'].median():.3g} s in the record"
            )
        if about["gpu"] and "kernels" in own and about.get("kernels") is not None:
            counted = own["kernels"].dropna()
            if counted.empty or not np.allclose(counted, about["kernels"] / about["steps"], rtol=1e-6):
                refuse(f"arm {shown(name)} launched another number of kernels than its rows say")
