"""Records: what a configuration gave, written once and whole, as plain Parquet tables.

A record is named by the hash of the frozen dataclass that decides its result. `build/records/<study>/<hash>.parquet` holds
one record; `data/records/<study>/<machine>.parquet` holds the shipped ones, one table per study and machine. Either folder
is read by one call: `pandas.read_parquet("data/records/training")`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hybridbench import paths
from hybridbench.errors import ConfigurationError, DataError, plain, shown
from hybridbench.measurement import schema
from hybridbench.measurement.checksums import SUMS, verify, verify_all, write_checksums
from hybridbench.measurement.columns import COLUMNS
from hybridbench.measurement.machine import provenance, this_machine
from hybridbench.measurement.proof import LOG
from hybridbench.measurement.schema import COMMANDS

#: Where a record's file holds the digest of its own rows.
_DIGEST = b"hybridbench.digest"
#: Bytes that the file of a record may have, and its rows once unpacked.
MOST_BYTES, MOST_UNPACKED = 1 << 29, 1 << 32


def _line(note: str) -> str:
    return plain(note).translate(str.maketrans("<>|`", "()/'"))[:600]


def _plain(value: Any) -> Any:
    """Scalars as they are, everything else as JSON with sorted keys, so that every column is a plain type."""
    if isinstance(value, str | int | float | bool):
        return value
    if dataclasses.is_dataclass(value):
        value = dataclasses.asdict(value)
    return json.dumps(value, sort_keys=True, default=dataclasses.asdict)


def config_columns(config: Any) -> dict[str, Any]:
    """The configuration as columns of plain values."""
    if not dataclasses.is_dataclass(config):
        raise ConfigurationError(f"A record is named by a frozen dataclass, not by {type(config).__name__}.")
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def config_hash(config: Any) -> str:
    """Sixteen hexadecimal digits that name the record of `config`: equal configurations, equal names."""
    return schema.config_name(type(config).__name__, config_columns(config))


def _each_once(configs: Iterable[Any]) -> list[Any]:
    """`configs` without repetitions: a seed that is listed twice is one run."""
    return list({config_hash(config): config for config in configs}.values())


class RecordStore:
    """The records of one study in one folder.

    Args:
        study: the table's name ("training", "timing" …), also the folder's.
        folder: where; `build/records/<study>` unless told otherwise.
    """

    def __init__(self, study: str, folder: Path | None = None) -> None:
        self.study = study
        self.folder = folder or paths.build_dir() / "records" / study

    def path(self, config: Any) -> Path:
        """The file that holds, or will hold, the record of `config`."""
        return self.folder / f"{config_hash(config)}.parquet"

    def has(self, config: Any) -> bool:
        """Whether the record of `config` is there."""
        return self.path(config).is_file()

    def missing(self, configs: Iterable[Any]) -> list[Any]:
        """The configurations without a record, each once, in order: what a run that was cut off still has to do."""
        return [config for config in _each_once(configs) if not self.has(config)]

    def write(self, config: Any, rows: Sequence[Mapping[str, Any]], proof: Mapping[str, Any] | None = None) -> Path:
        """Write the record of `config`: its rows, the configuration, the machine, the versions and the proof.

        The file appears whole or not at all (temporary file, then a hard link that fails where one exists).

        Raises:
            DataError: the record exists; records are never overwritten.
            ConfigurationError: there are no rows, one breaks a rule of the schema, or one of the arms is a GPU arm and there
                is no proof.
        """
        if not proof and any(getattr(arm, "gpu", False) for arm in getattr(config, "arms", ())):
            timed = any(arm.gpu for arm in config.arms for row in rows if row.get("arm") == arm.name and "seconds" in row)
            if timed:
                raise ConfigurationError(
                    f"The record of cell {getattr(config, 'cell', self.study)!r} has GPU arms and no proof from the driver: "
                    "nothing was written; time it through hybridbench.measurement.timing.measure."
                )
        if not rows:
            raise ConfigurationError(f"The record of {config!r} has no rows; nothing was written.")
        shared = {"record": config_hash(config), "study": self.study, **config_columns(config)}
        last = {**provenance(), "proof": json.dumps(proof, sort_keys=True) if proof else ""}
        last["created_utc"] = datetime.now(UTC).isoformat(timespec="seconds")
        # A note may quote an error of a library, whatever that is.
        noted = [{**row, "note": _line(row["note"])} if "note" in row else row for row in rows]
        target = self.path(config)
        table = schema.table_of(pd.DataFrame([{**shared, **row, **last} for row in noted]), self.study, target)
        _write_parquet(table, target)
        return target

    def read(self, configs: Iterable[Any] | None = None) -> pd.DataFrame:
        """All records of the folder as one table, or those of `configs` only, sorted by record and row.

        Raises:
            DataError: there are none, one of `configs` is missing, a file is damaged, or a row breaks a rule of the schema.
        """
        if configs is None:
            files = schema.record_files(self.folder)
        else:
            configs = _each_once(configs)
            if gone := self.missing(configs):
                raise DataError(f"{len(gone)} of {len(configs)} {self.study} records are missing, the first is {gone[0]!r}.")
            files = [self.path(config) for config in configs]
            for file in files:
                schema.check_file(file)
        if not files:
            raise DataError(
                f"No {self.study} records in {paths.relative(self.folder)}: make them first "
                f"('hybridbench {COMMANDS.get(self.study, 'run')}')."
            )
        return _read(files, self.study)


def _digest(table: pa.Table) -> bytes:
    """A digest of the rows of a record, whatever file they stand in: a flipped bit that changes one is seen by it."""
    digest = hashlib.sha256()
    for name in table.column_names:
        column, about = table.column(name), COLUMNS.get(name)
        digest.update(name.encode())
        if about is None or about.kind in {"text", "data"}:
            digest.update(json.dumps(column.to_pylist(), default=repr).encode())
        else:
            numbers = column.cast(pa.float64()).to_numpy()
            digest.update(np.where(np.isnan(numbers), np.nan, numbers).tobytes())
    return digest.hexdigest().encode()


def _temporary(table: pa.Table, target: Path) -> Path:
    """`table` as a file beside `target`; the caller gives it its name, or removes it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    # Readers of a folder skip names with a dot, so that what a killed process leaves does not spoil it.
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=".part")
    os.close(handle)
    try:
        pq.write_table(table, name, compression="zstd", write_page_checksum=True)
        os.chmod(name, 0o644)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)


def _write_parquet(table: pa.Table, target: Path) -> None:
    sealed = table.replace_schema_metadata({_DIGEST: _digest(table)})
    temporary = _temporary(sealed, target)
    try:
        os.link(temporary, target)
    except FileExistsError as error:
        raise DataError(
            f"Record {paths.relative(target)} exists and is never overwritten; to measure again, delete it and "
            "run 'hybridbench run --force'."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _read(files: Sequence[Path], study: str) -> pd.DataFrame:
    """The rows of files of one study, checked."""
    tables = [(file, _read_parquet(file)) for file in files]
    checked = schema.check(tables, study)
    for file, table in tables:
        if not any(table.column(name).unique().to_pylist() == [file.stem] for name in ("record", "machine")):
            raise DataError(
                f"Record {paths.relative(file)} is called neither by the one record in it nor by the one machine of all its "
                f"rows; {schema.remedy(file)}."
            )
    return checked


def _read_parquet(file: Path) -> pa.Table:
    try:
        if (size := file.stat().st_size) > MOST_BYTES:
            raise ValueError(f"{size} bytes, of at most {MOST_BYTES}")
        with pq.ParquetFile(file, page_checksum_verification=True) as opened:
            about = opened.metadata
            unpacked = sum(about.row_group(group).total_byte_size for group in range(about.num_row_groups))
            if about.num_rows > schema.MOST_ROWS or about.num_columns > len(COLUMNS) or unpacked > MOST_UNPACKED:
                raise ValueError(f"{about.num_rows} rows, {about.num_columns} columns and {unpacked} bytes are too many")
            table = opened.read(use_threads=about.num_rows > 10_000)
        found = (table.schema.metadata or {}).get(_DIGEST)
        if found is not None and found != _digest(table):
            raise ValueError("its rows are not those that its digest is of")
        return table.replace_schema_metadata(None)
    # Of a file whose structure is damaged Arrow raises whatever it stumbles over.
    except Exception as error:
        raise DataError(
            f"Record {plain(paths.relative(file))} is damaged and cannot be read as Parquet ({type(error).__name__}: "
            f"{plain(error)[:200]}); {schema.remedy(file)}."
        ) from error


def shipped_studies() -> list[str]:
    """Names of the studies with shipped records."""
    return sorted({file.parent.name for file in (paths.data_dir() / "records").glob("*/*.parquet")})


def read_records(study: str, source: str = "shipped") -> pd.DataFrame:
    """The records of one study: "shipped" (`data/records/`, checksums verified) or "build" (this machine's own).

    Raises:
        DataError: there are none, or a file's checksum is not the one in `data/SHA256SUMS`.
        ConfigurationError: another source.
    """
    if source == "build":
        return RecordStore(study).read()
    if source != "shipped":
        raise ConfigurationError(f"Unknown source {source!r}: 'shipped' or 'build'.")
    schema.study_of(study)
    files = schema.record_files(paths.data_dir() / "records" / study)
    if not files:
        raise DataError(f"No shipped records of study {study!r} in data/records; there are {shipped_studies()}.")
    for file in files:
        verify(file)
    return _read(files, study)


def ship(studies: Sequence[str], build: Path | None = None) -> list[Path]:
    """Replace shipped tables by own records and renew the checksums.

    A study's rows are taken whole: what `records/<study>` of the folder holds is what is shipped for its machine, nothing
    else. Studies and machines without own records keep the shipped table. Rows that were taken on another machine than this
    one are marked as contributed, and every number that rests on them says so.

    Args:
        studies: which.
        build: the folder of what a run made, this machine's unless given: another machine's, copied here, ships as well.

    Returns:
        The tables written.

    Raises:
        DataError: a study has no records, a row breaks a rule of the schema, a GPU's times do not fit what the driver
            answered, a commit is none of this repository, or another file of `data/` is damaged: the new checksums would
            hide it. Nothing was written.
    """
    source = build or paths.build_dir()
    tables = {study: RecordStore(schema.study_of(study), source / "records" / study).read() for study in studies}
    for study, table in tables.items():
        _check_commits(table, study)
        _check_driver(table, source / LOG)
    targets = {
        paths.data_dir() / "records" / study / f"{machine}.parquet": rows
        for study, table in tables.items()
        for machine, rows in table.groupby("machine", sort=True)
    }
    for target in targets:
        for place in (target.parent, target):
            if place.is_symlink():
                raise DataError(f"{place} is a symbolic link, and records are not shipped through one: remove the link.")
    if (paths.data_dir() / SUMS).is_file():
        verify_all(but=targets)
    written: dict[Path, Path] = {}
    try:
        for target, rows in targets.items():
            rows = rows.drop(columns="contributed", errors="ignore")
            if target.stem != this_machine().id:
                rows = rows.assign(contributed="yes")
            ordered = rows.sort_values(["record"], kind="stable").reset_index(drop=True)
            table = pa.Table.from_pandas(ordered, preserve_index=False)
            written[_temporary(table, target)] = target
        # All tables are whole before the first takes its place.
        for temporary, target in written.items():
            os.replace(temporary, target)
    finally:
        for temporary in written:
            temporary.unlink(missing_ok=True)
    write_checksums()
    return list(targets)


def _check_commits(table: pd.DataFrame, study: str) -> None:
    """Where git knows the history: every commit that a record names is one of this repository."""
    named = {commit: str(commit).removesuffix("+changes") for commit in table["commit"].unique()}
    asked = "".join(f"{name}^{{commit}}\n" for name in named.values())
    git = ["git", "-C", str(paths.root())]
    pipes = {"capture_output": True, "encoding": "utf-8", "errors": "replace", "check": True}
    try:
        shallow = subprocess.run([*git, "rev-parse", "--is-shallow-repository"], **pipes)
        found = subprocess.run([*git, "cat-file", "--batch-check"], input=asked, **pipes)
    except (OSError, subprocess.CalledProcessError):
        return  # no git here, or no repository: nobody can be asked
    if shallow.stdout.strip() == "true":
        return
    for (commit, name), answer in zip(named.items(), found.stdout.splitlines(), strict=True):
        if name != "unknown" and answer.split()[1:2] != ["commit"]:
            record = table.loc[table["commit"] == commit, "record"].iloc[0]
            raise DataError(
                f"Record {record} of study {study!r}, column 'commit': {shown(commit)} is no commit of this repository; "
                "fetch the branch that it was taken with, or measure again."
            )


def _check_driver(table: pd.DataFrame, log: Path) -> None:
    """Every record with a proof: all answers of the driver are there, and fit its times, card and kernels."""
    proven = table[table["proof"] != ""]
    if proven.empty:
        return
    told: dict[str, Any] = {}
    where = plain(paths.relative(log))
    try:
        with log.open(encoding="utf-8") as lines:
            for line in lines:
                about = json.loads(line)
                if isinstance(about, dict) and isinstance(about.get("record"), str):
                    told[about["record"]] = about
    except FileNotFoundError:
        pass
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{where} is damaged ({type(error).__name__}): copy it again from the machine with the GPU."
        ) from error
    for record, rows in proven.groupby("record", sort=True):
        schema.check_raw_proof(rows, told.get(record), where)
