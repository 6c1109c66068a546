"""What Amazon Timestream's UNLOAD writes, as records: Parquet files in a folder, a manifest and a description beside them.

    folder/{query}_{id}_manifest.json                          the files with their rows
    folder/{query}_{id}_metadata.json                          the columns and their types
    folder/results/{column}={value}/{query}_{id}.parquet       the rows; a column of `partitioned_by` is in the path alone

A row of Timestream is one measure, or the measures of one multi-measure record, of one series at one time. A record has all values
of its group at that time, so rows are joined by (group, time):

    measure_name = 'temp', measure_value::double = 21.5        field temp = 21.5
    any other column                                           the field of that name; those of group_by are the group
    measure_name                                               left out, unless the dataset declares it or groups by it
    a partition's column that the dataset does not declare     left out: it was computed for the folders, as a rule
    time and other timestamps, nanoseconds without a zone      UTC, in the format that the dataset's configuration names

Where two rows of one (group, time) disagree in a column, they are of two series, which the group does not tell apart: that is an
error, and nothing is backfilled. The join is DuckDB's: it needs little memory, and room in the local folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import msgspec
import pyarrow.parquet as pq

from tesseract.config.dataset import Dataset
from tesseract.errors import InputError

TYPED = "measure_value::"
TIME, MEASURE = "time", "measure_name"
MEMORY = "150MB"
_UNITS = {"epoch_s": 1_000_000, "epoch_ms": 1_000, "epoch_us": 1}  # µs


class _FileAbout(msgspec.Struct):
    row_count: int


class _ResultFile(msgspec.Struct):
    url: str
    file_metadata: _FileAbout


class _Author(msgspec.Struct):
    name: str = ""


class _Manifest(msgspec.Struct):
    result_files: list[_ResultFile]
    author: _Author


@dataclass(frozen=True)
class Converted:
    """A Parquet file of records, and what a person should know of how it came about."""

    path: str
    rows: int
    notes: tuple[str, ...]


class _Value(NamedTuple):
    """One field of the records: its column, of one measure or of all rows (None)."""

    name: str
    column: str
    kind: str
    measure: str | None = None


def is_unload(folder: Path) -> bool:
    """Whether a folder has a manifest of UNLOAD in it."""
    return folder.is_dir() and next(_manifests(folder), None) is not None


def convert(names: Sequence[str], dataset: Dataset, folder: Path) -> Converted:
    """The rows of files and folders of UNLOAD as one file of records in `folder`, joined by (group, time).

    Raises InputError for files that are missing or not complete, without the columns that the dataset needs, or of series that
    its group does not tell apart.
    """
    files = [file for name in names for file in _files(Path(name))]
    if not files:
        raise InputError(f"no Parquet file in {', '.join(names)}", hint="UNLOAD with format = 'PARQUET'")
    connection = duckdb.connect(str(folder / "unload.duckdb"))
    try:
        connection.execute(
            f"SET memory_limit = '{MEMORY}'; SET threads = 2; SET preserve_insertion_order = false; SET TimeZone = 'UTC'"
        )
        connection.execute(f"SET temp_directory = {_text(str(folder / 'unload.tmp'))}")
        return _Conversion(connection, dataset, files).run(folder / "unload.parquet")
    except duckdb.Error as error:
        raise InputError(f"the files of UNLOAD cannot be read: {str(error).splitlines()[0]}") from error
    finally:
        connection.close()
        (folder / "unload.duckdb").unlink(missing_ok=True)


class _Conversion:
    """One conversion: what the files have, and the query that makes records of it."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, dataset: Dataset, files: Sequence[Path]) -> None:
        self._connection, self._dataset = connection, dataset
        listed = ", ".join(_text(str(file)) for file in files)
        self._rows = f"read_parquet([{listed}], union_by_name = true, hive_partitioning = true, hive_types_autocast = false)"
        self._columns: dict[str, str] = {row[0]: row[1] for row in self._ask(_select("*", self._rows, "DESCRIBE"))}
        own = set(pq.read_schema(files[0]).names)
        self._folders = {part.partition("=")[0] for part in files[0].parts if "=" in part} & set(self._columns) - own

    def run(self, path: Path) -> Converted:
        dataset = self._dataset
        self._check()
        values, notes = self._values()
        keys = [*dataset.group_by, TIME]
        joined = [f"{_one('max', value)} AS {_name(value.name)}" for value in values]
        differs = " ".join(f"WHEN {_one('min', v)} IS DISTINCT FROM {_one('max', v)} THEN {_text(v.column)}" for v in values)
        conflict = f"CASE {differs} END AS __conflict" if values else "NULL AS __conflict"
        listed = ", ".join([*map(_name, keys), *joined, conflict])
        self._connection.execute(_select(listed, self._rows, "CREATE TABLE joined AS") + f" GROUP BY {', '.join(map(_name, keys))}")
        self._check_conflicts(keys)
        formats = {TIME: dataset.time_format} | {path: field.format for path, field in dataset.places()}
        kinds = {TIME: self._columns[TIME]} | {value.name: value.kind for value in values}
        kinds |= {name: self._columns[name] for name in dataset.group_by}
        shown = [
            f"{_shown(name, kind, formats.get(name, 'iso8601'))} AS {_name(dataset.time_field if name == TIME else name)}"
            for name, kind in kinds.items()
        ]
        parquet = f"TO {_text(str(path))} (FORMAT parquet, ROW_GROUP_SIZE 20000)"
        self._connection.execute(f"COPY ({_select(', '.join(shown), 'joined')}) {parquet}")
        rows = int(self._ask("SELECT count(*) FROM joined")[0][0])
        return Converted(str(path), rows, tuple(notes))

    def _check(self) -> None:
        has = ", ".join(self._columns)
        missing = [name for name in (*self._dataset.group_by, TIME) if name not in self._columns]
        if missing:
            raise InputError(f"the files of UNLOAD have no column {missing[0]!r}, they have {has}", hint="name it in the SELECT")
        if any(name.startswith(TYPED) for name in self._columns) and MEASURE not in self._columns:
            raise InputError(f"the files have {TYPED}… columns but no {MEASURE!r}", hint="name it in the SELECT")

    def _values(self) -> tuple[list[_Value], list[str]]:
        """The fields of the records, and what was left out."""
        declared = {path for path, _ in self._dataset.places()}
        plain, dropped = list[_Value](), list[str]()
        for name, kind in self._columns.items():
            if name in (*self._dataset.group_by, TIME) or name.startswith(TYPED) or (name == MEASURE and name not in declared):
                continue
            if name in self._folders and name not in declared:
                dropped.append(name)
                continue
            plain.append(_Value(name, name, kind))
        values = plain + list(self._measures({value.name for value in plain}))
        notes = [f"left out, since it is a folder's name and no declared field: {', '.join(dropped)}"] if dropped else []
        return values, notes

    def _measures(self, taken: set[str]) -> Iterator[_Value]:
        """The measures of rows that hold one each, and the column of their type."""
        typed = [name for name in self._columns if name.startswith(TYPED)]
        if not typed:
            return
        counts = ", ".join(f"count({_name(name)})" for name in typed)
        per_measure = _select(f"{MEASURE}, {counts}", self._rows) + f" GROUP BY {MEASURE} ORDER BY {MEASURE}"
        for measure, *found in self._ask(per_measure):
            columns = [name for name, count in zip(typed, found, strict=True) if count]
            if not columns:  # a multi-measure record, or nulls alone
                continue
            if measure is None or len(columns) > 1 or measure in taken:
                what = " and ".join(columns) if len(columns) > 1 else "a column of its name" if measure else "no name"
                raise InputError(f"the measure {measure!r} has values in {what}", hint="UNLOAD it alone, under another name")
            yield _Value(measure, columns[0], self._columns[columns[0]], measure)

    def _check_conflicts(self, keys: Sequence[str]) -> None:
        wanted = ", ".join(f"CAST({_name(name)} AS VARCHAR)" for name in keys)
        found = self._ask(_select(f"__conflict, {wanted}", "joined") + " WHERE __conflict IS NOT NULL LIMIT 1")
        if found:
            column, *place = found[0]
            at = ", ".join(f"{name} {value}" for name, value in zip(keys, place, strict=True))
            raise InputError(
                f"two rows at {at} differ in column {column!r}: a record has one value there",
                hint="group_by must name every dimension that tells series apart; or UNLOAD one series at a time",
            )

    def _ask(self, query: str) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = self._connection.execute(query).fetchall()
        return rows


def _select(listed: str, source: str, before: str = "") -> str:
    return f"{before} SELECT {listed} FROM {source}"  # noqa: S608 - names and texts are quoted, the data is the user's own


def _one(choose: str, value: _Value) -> str:
    """The least or the greatest value of a field among joined rows: they are the same, if the rows are of one record."""
    own = f" FILTER (WHERE {MEASURE} = {_text(value.measure)})" if value.measure is not None else ""
    return f"{choose}({_name(value.column)}){own}"


def _shown(name: str, kind: str, form: str) -> str:
    """A column as records write it: a timestamp as text with Z, or as a number, by the format that is declared."""
    if not kind.startswith("TIMESTAMP"):
        return _name(name)
    column = f"CAST({_name(name)} AS TIMESTAMP)" if "ZONE" in kind else _name(name)
    if form == "iso8601":
        return f"strftime({column}, '%Y-%m-%dT%H:%M:%S.%n') || 'Z'"
    if form == "epoch_ns":
        return f"epoch_ns({column})"
    return f"epoch_us({column}) / {_UNITS[form]}.0" if form != "epoch_us" else f"epoch_us({column})"


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


# files ------------------------------------------------------------------------------------------------------------------


def _files(path: Path) -> list[Path]:
    """The Parquet files of a folder, all that its manifests name among them; or the file itself. Raises InputError."""
    if not path.is_dir():
        if not path.is_file():
            raise InputError(f"the file {path} cannot be read: No such file or directory")
        return [path]
    files = sorted(file for file in path.rglob("*.parquet") if file.is_file())
    there = {file.name: file for file in files}
    for manifest in _manifests(path):
        for result in manifest.result_files:
            name, wanted = result.url.rpartition("/")[2], result.file_metadata.row_count
            if name not in there:
                hint = "copy the whole folder" if name.endswith(".parquet") else "UNLOAD with format = 'PARQUET'"
                raise InputError(f"{path}: the manifest names {name}, which is not there", hint=hint)
            rows = pq.read_metadata(there[name]).num_rows
            if rows != wanted:
                raise InputError(f"{there[name]} has {rows} rows, the manifest says {wanted}", hint="copy it again")
    return files


def _manifests(folder: Path) -> Iterator[_Manifest]:
    for path in sorted(folder.rglob("*_manifest.json")):
        try:
            manifest = msgspec.json.decode(path.read_bytes(), type=_Manifest)
        except (msgspec.DecodeError, OSError):
            continue
        if manifest.author.name == "Amazon Timestream":
            yield manifest
