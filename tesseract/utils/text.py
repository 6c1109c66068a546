"""Values as text: nulls are nothing, times ISO 8601, doubles their shortest text, decimals and integers all their digits."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import escape
from json.encoder import encode_basestring
from math import isfinite
from typing import Any

from tesseract.utils.time_utils import iso_micros, iso_seconds


def cell(value: Any) -> str:
    """A value as text: null is nothing."""
    quick = _CELLS.get(type(value))
    if quick is not None:
        return quick(value)
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, dict | list):
        return json_text(plain(value))
    return str(value)


def moment(value: datetime) -> str:
    """`2013-01-01T06:00:00Z`, with microseconds only where there are any, and with an offset where the zone has one.

    A time without a zone, from SQL, stays without.
    """
    if value.utcoffset() != timedelta(0):
        return value.isoformat()
    value = value.astimezone(UTC)
    return iso_micros(value) if value.microsecond else iso_seconds(value)


def plain(value: Any) -> Any:
    """A value as JSON has it, but for decimals: `json_text` writes their digits."""
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, dict):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    return value if value is None or isinstance(value, str | int | float | Decimal) else str(value)


def json_text(value: Any) -> str:
    """A plain value as JSON. A decimal is a number with all its digits, which no double may have."""
    quick = _JSON.get(type(value))
    if quick is not None:
        return quick(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{encode_basestring(name)}: {json_text(part)}" for name, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(json_text, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def json_objects(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """Rows of any values as JSON objects."""
    heads = [f"{encode_basestring(name)}: " for name in names]
    for row in rows:
        yield "{" + ", ".join([head + json_value(value) for head, value in zip(heads, row, strict=True)]) + "}"


def json_value(value: Any) -> str:
    """Any value as JSON."""
    quick = _JSON.get(type(value))
    return json_text(plain(value)) if quick is None else quick(value)


def _digits(value: Decimal) -> str:
    return format(value, "f")


def _double(value: float) -> str:
    """As JSON has it; SQL can make what JSON has not."""
    return repr(value) if isfinite(value) else "null"


def _bool(value: bool) -> str:
    return "true" if value else "false"


# most values are of these types, and there are many of them
_CELLS: dict[type, Callable[[Any], str]] = {
    str: str,
    int: str,
    float: repr,
    bool: _bool,
    Decimal: _digits,
    type(None): lambda _: "",
}
_JSON: dict[type, Callable[[Any], str]] = {
    str: encode_basestring,
    int: str,
    float: _double,
    bool: _bool,
    Decimal: _digits,
    type(None): lambda _: "null",
}


def aligned(lines: Sequence[Sequence[str]], right: Collection[int] = ()) -> str:
    """Lines of cells as columns of text, two blanks apart; `right` are the columns that end at one edge."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            text.rjust(width) if at in right else text.ljust(width)
            for at, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def html_table(head: Sequence[tuple[str, str]], lines: Iterable[Sequence[str]], caption: str = "") -> str:
    """Lines of cells as an HTML table; `head` has a name and a unit for each column."""
    names = "".join(
        f"<th>{escape(name)}<br><small>{escape(unit)}</small></th>" if unit else f"<th>{escape(name)}</th>" for name, unit in head
    )
    rows = "".join(f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in line)}</tr>" for line in lines)
    note = f"<p>{escape(caption)}</p>" if caption else ""
    return f"{note}<table><thead><tr>{names}</tr></thead><tbody>{rows}</tbody></table>"
