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
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hybridbench import paths
from hybridbench.errors import ConfigurationError, DataError
from hybridbench.measurement.checksums import SUMS, verify, verify_all, write_checksums
from hybridbench.measurement.columns import COLUMNS
from hybridbench.measurement.machine import provenance

#: Studies whose records come from a command of their own; those of the others come from the notebooks.
COMMANDS = {"atlas": "measure", "bench": "bench", "frontier": "frontier", "optimizers": "study"}


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
    text = json.dumps([type(config).__name__, config_columns(config)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


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
            ConfigurationError: there are no rows, a column is not documented in `columns.py`, or one of the arms is a GPU
                arm and there is no proof.
        """
        if not proof and any(getattr(arm, "gpu", False) for arm in getattr(config, "arms", ())):
            raise ConfigurationError(
                f"The record of cell {config.cell!r} has GPU arms and no proof from the driver: nothing was written; "
                "time it through hybridbench.measurement.timing.measure."
            )
        if not rows:
            raise ConfigurationError(f"The record of {config!r} has no rows; nothing was written.")
        shared = {"record": config_hash(config), "study": self.study, **config_columns(config)}
        last = {**provenance(), "proof": json.dumps(proof, sort_keys=True) if proof else ""}
        last["created_utc"] = datetime.now(UTC).isoformat(timespec="seconds")
        table = pd.DataFrame([{**shared, **row, **last} for row in rows])
        unknown = [name for name in table.columns if name not in COLUMNS]
        if unknown:
            raise ConfigurationError(
                f"Column {unknown[0]!r} has no description: add it with its unit to hybridbench/measurement/columns.py."
            )
        target = self.path(config)
        _write_parquet(table, target)
        return target

    def read(self, configs: Iterable[Any] | None = None) -> pd.DataFrame:
        """All records of the folder as one table, or those of `configs` only, sorted by record and row.

        Raises:
            DataError: there are none, one of `configs` is missing, or a file is damaged.
        """
        if configs is None:
            files = sorted(self.folder.glob("*.parquet"))
        else:
            configs = _each_once(configs)
            if gone := self.missing(configs):
                raise DataError(f"{len(gone)} of {len(configs)} {self.study} records are missing, the first is {gone[0]!r}.")
            files = [self.path(config) for config in configs]
        if not files:
            raise DataError(
                f"No {self.study} records in {paths.relative(self.folder)}: make them first "
                f"('hybridbench {COMMANDS.get(self.study, 'run')}')."
            )
        return pd.concat([_read_parquet(file) for file in files], ignore_index=True)


def _write_parquet(table: pd.DataFrame, target: Path, replace: bool = False) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    # Readers of a folder skip names with a dot, so that what a killed process leaves does not spoil it.
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=".part")
    os.close(handle)
    try:
        pq.write_table(
            pa.Table.from_pandas(table, preserve_index=False), temporary, compression="zstd", write_page_checksum=True
        )
        os.chmod(temporary, 0o644)
        if replace:
            os.replace(temporary, target)
        else:
            os.link(temporary, target)
    except FileExistsError as error:
        raise DataError(
            f"Record {paths.relative(target)} exists and is never overwritten; to measure again, delete it and "
            "run 'hybridbench run --force'."
        ) from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def _read_parquet(file: Path) -> pd.DataFrame:
    try:
        return pq.read_table(file, page_checksum_verification=True).to_pandas()
    except (pa.ArrowInvalid, OSError) as error:
        command = COMMANDS.get(file.parent.name, "run --force")
        what = (
            "take it from git again ('git checkout -- data')"
            if file.is_relative_to(paths.data_dir())
            else f"delete it, and 'hybridbench {command}' makes it anew"
        )
        raise DataError(
            f"Record {paths.relative(file)} is damaged and cannot be read as Parquet ({type(error).__name__}): {what}."
        ) from error


def shipped_studies() -> list[str]:
    """Names of the studies with shipped records."""
    return sorted(p.name for p in (paths.data_dir() / "records").glob("*") if p.is_dir())


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
    files = sorted((paths.data_dir() / "records" / study).glob("*.parquet"))
    if not files:
        raise DataError(f"No shipped records of study {study!r} in data/records; there are {shipped_studies()}.")
    for file in files:
        verify(file)
    return pd.concat([_read_parquet(file) for file in files], ignore_index=True)


def ship(studies: Sequence[str], build: Path | None = None) -> list[Path]:
    """Replace shipped tables by own records and renew the checksums.

    A study's rows are taken whole: what `records/<study>` of the folder holds is what is shipped for its machine, nothing
    else. Studies and machines without own records keep the shipped table.

    Args:
        studies: which.
        build: the folder of what a run made, this machine's unless given: another machine's, copied here, ships as well.

    Returns:
        The tables written.

    Raises:
        DataError: a study has no records, a GPU row has no proof, or another file of `data/` is damaged: the new checksums
            would hide it. Nothing was written.
    """
    folder = (build or paths.build_dir()) / "records"
    tables = {study: RecordStore(study, folder / study).read() for study in studies}
    targets = {
        paths.data_dir() / "records" / study / f"{machine}.parquet": rows
        for study, table in tables.items()
        for machine, rows in table.groupby("machine", sort=True)
    }
    if (paths.data_dir() / SUMS).is_file():
        verify_all(but=targets)
    for study, table in tables.items():
        if "arms" in table:
            unproven = table[table["arms"].str.contains('"gpu": true') & (table["proof"] == "")]
            if len(unproven):
                raise DataError(
                    f"Record {unproven['record'].iloc[0]} of study {study!r} has GPU arms and no proof from the driver; "
                    "delete it and measure again."
                )
    for target, rows in targets.items():
        _write_parquet(rows.sort_values(["record"], kind="stable").reset_index(drop=True), target, replace=True)
    write_checksums()
    return list(targets)
