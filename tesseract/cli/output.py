"""Results on the terminal and in files, in bounded memory whatever their size; a table in a file is held whole, to be aligned."""

from __future__ import annotations

import csv
import errno
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from itertools import chain
from pathlib import Path
from shutil import get_terminal_size
from typing import IO, TYPE_CHECKING, Any

from tesseract.errors import InputError
from tesseract.utils.text import aligned, cell, json_objects, table_text

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = ("table", "csv", "json", "ndjson", "parquet")
TABLE_ROWS = 50
BATCH = 10_000
Row = dict[str, Any]


def choose(form: str | None, path: str | None) -> str:
    """The format to write. Raises InputError where it is none, or needs a file, or where there can be no file of that name.

    A command asks this first: work of minutes must not end in a file that cannot be written.
    """
    if form is None:
        suffix = Path(path).suffix.lstrip(".") if path else "table"
        form = {"jsonl": "ndjson", "": "csv"}.get(suffix, suffix)
    if form not in FORMATS:
        raise InputError(f"{form!r} is not a format", hint=f"one of {', '.join(FORMATS)}")
    if form == "parquet" and not path:
        raise InputError("parquet is written to a file", hint="name it: -o rows.parquet")
    if path:
        check_file(Path(path))
    return form


def check_file(path: Path) -> None:
    """Raises InputError where there can be no file of that name."""
    number = errno.EISDIR if path.is_dir() else 0 if path.parent.is_dir() else errno.ENOENT
    if not number and not os.access(path if path.exists() else path.parent, os.W_OK):
        number = errno.EACCES
    if number:
        raise InputError(f"{path} cannot be written: {os.strerror(number)}")


def write_table(table: pa.Table, form: str, path: str | None) -> None:
    """An Arrow table in a format, to a file or to stdout."""
    write_batches(table.schema, table.to_batches(), form, path)


def write_batches(schema: pa.Schema, batches: Iterable[pa.RecordBatch], form: str, path: str | None) -> None:
    """Record batches in a format, to a file or to stdout, as they come. A file is there only once it is whole."""
    if form == "parquet":
        _parquet(schema, batches, str(path))
        return
    from tesseract.cli.columns import csv_rows, json_rows

    small = (batch.slice(at, BATCH) for batch in batches for at in range(0, batch.num_rows, BATCH))
    if form in ("json", "ndjson"):
        _write_text(_json(form, (text for batch in small for text in json_rows(batch))), path)
        return
    units = units_of(schema)
    if form == "table" and path is None:
        print_table(schema.names, units, *first_rows(small))
        return
    rows = (row for batch in small for row in csv_rows(batch))
    _write_text(_csv(schema.names, rows) if form == "csv" else _table(schema.names, units, rows), path)


def first_rows(batches: Iterable[pa.RecordBatch]) -> tuple[list[Any], int]:
    """The rows that a printed table shows, and how many there are."""
    rows: list[Any] = []
    count = 0
    for batch in batches:
        left = batch.slice(0, max(TABLE_ROWS - count, 0))
        rows += zip(*(column.to_pylist() for column in left.columns), strict=True)
        count += batch.num_rows
    return rows, count


def units_of(schema: pa.Schema) -> dict[str, str]:
    """The units of a result's columns, empty where there is none."""
    return {field.name: (field.metadata or {}).get(b"unit", b"").decode() for field in schema}


def write_rows(
    rows: Sequence[Row], form: str, path: str | None, columns: Sequence[str] = (), units: Mapping[str, str] | None = None
) -> None:
    """Rows as dicts, in a format; `columns` first, which a csv of no rows has, too, then others in the order in which they first
    appear. `units` of columns are shown in a table. Loads pyarrow for parquet alone."""
    names = list(dict.fromkeys((*columns, *(name for row in rows for name in row))))
    if form == "parquet":
        import pyarrow as pa

        write_table(pa.table({name: _column([row.get(name) for row in rows]) for name in names}), form, path)
        return
    values = [[row.get(name) for name in names] for row in rows]
    if form == "table" and path is None:
        print_table(names, units or {}, values, len(values))
    elif form in ("json", "ndjson"):
        _write_text(_json(form, json_objects(names, values)), path)
    else:
        cells = ([cell(value) for value in row] for row in values)
        _write_text(_csv(names, cells) if form == "csv" else _table(names, units or {}, cells), path)


def _column(values: list[Any]) -> pa.Array:
    """Values as an Arrow column; integers beyond 64 bits are decimals there."""
    import pyarrow as pa

    wide = any(isinstance(value, int) and not -(2**63) <= value < 2**63 for value in values)
    return pa.array(values, pa.decimal128(38, 0) if wide else None)


def _write_text(parts: Iterable[str], path: str | None) -> None:
    """Text to a file or to stdout, as it comes."""
    if path is None:
        sys.stdout.writelines(parts)
        return
    with _whole(path) as place, _opened(place) as sink:
        sink.writelines(parts)


def _opened(place: Path) -> IO[str]:
    return place.open("w", encoding="utf-8", newline="")


def _parquet(schema: pa.Schema, batches: Iterable[pa.RecordBatch], path: str) -> None:
    import pyarrow as pa

    from tesseract.storage.parquet_writer import Writer

    ours = {name.decode(): value.decode() for name, value in (schema.metadata or {}).items() if name.startswith(b"tesseract.")}
    metadata = {name.removeprefix("tesseract."): value for name, value in ours.items()}
    with _whole(path) as place, Writer(place, schema, metadata) as writer:
        for batch in batches:
            writer.write(pa.Table.from_batches([batch]))
        writer.finish()


@contextmanager
def _whole(path: str) -> Iterator[Path]:
    """Where to write: a file beside the one wanted, which takes its place in the end.

    What is no plain file is written itself: /dev/stdout, a pipe, a link.
    """
    wanted = Path(path)
    special = wanted.is_symlink() or (wanted.exists() and not wanted.is_file())
    place = wanted if special else wanted.with_name(f".{wanted.name}.part")
    try:
        yield place
        if place != wanted:
            place.replace(wanted)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        if place != wanted:
            place.unlink(missing_ok=True)


def _csv(names: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    lines: list[str] = []
    writer = csv.writer(_Lines(lines), lineterminator="\n")
    for row in chain([names], rows):
        writer.writerow(row)
        yield lines.pop()


class _Lines:
    """What csv writes to."""

    def __init__(self, lines: list[str]) -> None:
        self.write = lines.append


def _json(form: str, objects: Iterator[str]) -> Iterator[str]:
    if form == "ndjson":
        yield from (text + "\n" for text in objects)
        return
    first = next(objects, None)
    yield "[" if first is None else f"[\n  {first}"
    yield from (f",\n  {text}" for text in objects)
    yield "]\n" if first is None else "\n]\n"


def _table(names: Sequence[str], units: Mapping[str, str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table in a file: all rows, aligned."""
    below = [[units.get(name, "") for name in names]] if any(units.values()) else []
    yield aligned([list(names), *below, *rows]) + "\n"


def print_table(
    names: Sequence[str], units: Mapping[str, str], rows: Sequence[Any], count: int, *, sink: IO[str] | None = None
) -> None:
    """The first of `count` rows, for a person: on a terminal the columns that fit, in a pipe all of them."""
    sink = sink or sys.stdout
    shown = rows[:TABLE_ROWS]
    numeric = [at for at in range(len(names)) if any(isinstance(row[at], int | float | Decimal) for row in shown)]
    width = get_terminal_size().columns if sink.isatty() else 0
    head = [(name, units.get(name, "")) for name in names]
    text = table_text(head, [[cell(value) for value in row] for row in shown], numeric, width, rule=True) if names else ""
    left = f"… {count - len(shown):,} more rows; use --format csv\n" if count > len(shown) else "" if count else "no rows\n"
    sink.write(f"{text}\n{left}")
