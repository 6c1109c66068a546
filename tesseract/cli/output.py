"""Results on the terminal and in files. Nulls are empty csv cells, times ISO 8601 with Z, doubles their shortest text.

Decimals and integers have all their digits in every format, JSON too.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tesseract.errors import InputError
from tesseract.utils.time_utils import iso_micros, iso_seconds

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
        _check(Path(path))
    return form


def _check(path: Path) -> None:
    number = errno.EISDIR if path.is_dir() else 0 if path.parent.is_dir() else errno.ENOENT
    if not number and not os.access(path if path.exists() else path.parent, os.W_OK):
        number = errno.EACCES
    if number:
        raise InputError(f"{path} cannot be written: {os.strerror(number)}")


def write_table(table: pa.Table, form: str, path: str | None) -> None:
    """An Arrow table in a format, to a file or to stdout."""
    if form == "parquet":
        from tesseract.storage.parquet_writer import encode

        _save(str(path), encode(table, {}).body)
        return
    batches = table.to_batches(max_chunksize=BATCH)
    rows = (row for batch in batches for row in zip(*(column.to_pylist() for column in batch.columns), strict=True))
    _write(table.column_names, rows, table.num_rows, form, path)


def write_rows(rows: Sequence[Row], form: str, path: str | None, columns: Sequence[str] = ()) -> None:
    """Rows as dicts, in a format; `columns` first, which a csv of no rows has, too, then others in the order in which they first
    appear. Loads pyarrow for parquet alone."""
    names = list(dict.fromkeys((*columns, *(name for row in rows for name in row))))
    if form == "parquet":
        import pyarrow as pa

        write_table(pa.table({name: _column([row.get(name) for row in rows]) for name in names}), form, path)
        return
    _write(names, ([row.get(name) for name in names] for row in rows), len(rows), form, path)


def _column(values: list[Any]) -> pa.Array:
    """Values as an Arrow column; integers beyond 64 bits are decimals there."""
    import pyarrow as pa

    wide = any(isinstance(value, int) and not -(2**63) <= value < 2**63 for value in values)
    return pa.array(values, pa.decimal128(38, 0) if wide else None)


def _write(names: Sequence[str], rows: Iterator[Any], count: int, form: str, path: str | None) -> None:
    if form == "table" and path is None:
        _print_table(names, rows, count)
        return
    writer: Callable[[Sequence[str], Iterator[Any], Any], None] = {"csv": _csv, "json": _json, "ndjson": _ndjson}.get(form, _text)
    if path is None:
        writer(names, rows, sys.stdout)
        return
    sink = io.StringIO()
    writer(names, rows, sink)
    _save(path, sink.getvalue().encode())


def _save(path: str, body: bytes) -> None:
    try:
        Path(path).write_bytes(body)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error


def cell(value: Any) -> str:
    """A value as text: null is nothing."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, dict | list):
        return _json_text(_plain(value))
    return str(value)


def moment(value: datetime) -> str:
    """`2013-01-01T06:00:00Z`, with microseconds only where there are any. A time without a zone, from SQL, stays without."""
    if value.tzinfo is None:
        return value.isoformat()
    value = value.astimezone(UTC)
    return iso_micros(value) if value.microsecond else iso_seconds(value)


def _plain(value: Any) -> Any:
    """A value as JSON has it, but for decimals: `_json_text` writes their digits."""
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None  # SQL can make them, JSON has none
    return value if value is None or isinstance(value, str | int | float | Decimal) else str(value)


def _json_text(value: Any) -> str:
    """A plain value as JSON. A decimal is a number with all its digits, which no double may have."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name, ensure_ascii=False)}: {_json_text(part)}" for name, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_json_text, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _objects(names: Sequence[str], rows: Iterator[Any]) -> Iterator[str]:
    for row in rows:
        yield _json_text({name: _plain(value) for name, value in zip(names, row, strict=True)})


def _csv(names: Sequence[str], rows: Iterator[Any], sink: Any) -> None:
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([cell(value) for value in row] for row in rows)


def _json(names: Sequence[str], rows: Iterator[Any], sink: Any) -> None:
    objects = _objects(names, rows)
    first = next(objects, None)
    sink.write("[" if first is None else f"[\n  {first}")
    for text in objects:
        sink.write(f",\n  {text}")
    sink.write("]\n" if first is None else "\n]\n")


def _ndjson(names: Sequence[str], rows: Iterator[Any], sink: Any) -> None:
    for text in _objects(names, rows):
        sink.write(text + "\n")


def _text(names: Sequence[str], rows: Iterator[Any], sink: Any) -> None:
    """A table in a file: all rows, aligned."""
    lines = [list(names), *([cell(value) for value in row] for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(names))]
    for line in lines:
        sink.write("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() + "\n")


def _print_table(names: Sequence[str], rows: Iterator[Any], count: int) -> None:
    """The first rows, for a person: on a terminal as wide as that is, in a pipe as wide as they are."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = list(islice(rows, TABLE_ROWS))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for at, name in enumerate(names):
        numeric = any(isinstance(row[at], int | float | Decimal) for row in shown)
        table.add_column(Text(name), justify="right" if numeric else "left", no_wrap=True, overflow="ellipsis")
    for row in shown:
        table.add_row(*(Text(cell(value)) for value in row))
    console = Console(file=sys.stdout) if sys.stdout.isatty() else Console(file=sys.stdout, width=10_000)
    console.print(table)
    if count > len(shown):
        console.print(f"… {count - len(shown):,} more rows; use --format csv", highlight=False)
    elif not count:
        console.print("no rows", highlight=False)
