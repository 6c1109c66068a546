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
from unicodedata import combining, east_asian_width

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


def aligned(lines: Sequence[Sequence[str]], right: Collection[int] = (), rule: int = 0) -> str:
    """Lines of cells as columns of text, two blanks apart; `right` are the columns that end at one edge.

    With `rule` a line is drawn below so many of the first lines.
    """
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    drawn = [
        "  ".join(_padded(text, width, at in right) for at, (text, width) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    ]
    if rule:
        drawn.insert(rule, "─" * (sum(widths) + 2 * len(widths) - 2))
    return "\n".join(line.rstrip() for line in drawn)


def _padded(text: str, width: int, right: bool) -> str:
    blanks = " " * (width - _width(text))
    return blanks + text if right else text + blanks


def _width(text: str) -> int:
    """The columns of a terminal that a text takes."""
    return (
        len(text) if text.isascii() else sum(0 if combining(sign) else 2 if east_asian_width(sign) in "WF" else 1 for sign in text)
    )


def table_text(
    head: Sequence[tuple[str, str]],
    lines: Sequence[Sequence[str]],
    right: Collection[int] = (),
    width: int = 0,
    *,
    rule: bool = False,
) -> str:
    """Lines of cells below names and, where there are any, units: as many columns as fit into `width` (0: all of them), whole.

    What is no letter, such as a line's end or a command to the terminal, is shown as its escape.
    """
    columns = [[name, unit, *map(_printable, values)] for (name, unit), *values in zip(head, *lines, strict=True)]
    shown, used = 0, -2
    for column in columns:
        used += max(map(_width, column)) + 2
        if width and used > width and shown:
            break
        shown += 1
    chosen = columns[:shown]
    units = any(column[1] for column in chosen)
    left = chosen if units else [[name, *values] for name, _, *values in chosen]
    body = aligned(list(zip(*left, strict=True)), right, 1 + units if rule else 0)
    hidden = [name for name, _ in head[shown:]]
    return f"{body}\n… {len(hidden)} more column{'' if len(hidden) == 1 else 's'}: {some(hidden, width - 24)}" if hidden else body


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def some(words: Sequence[str], width: int) -> str:
    """As many of the words as fit, and dots where some do not."""
    shown = list(words)
    while len(", ".join(shown)) > width and len(shown) > 1:
        shown.pop()
    return ", ".join(shown) + (", …" if len(shown) < len(words) else "")


def html_table(head: Sequence[tuple[str, str]], lines: Iterable[Sequence[str]], caption: str = "") -> str:
    """Lines of cells as an HTML table; `head` has a name and a unit for each column."""
    names = "".join(
        f"<th>{escape(name)}<br><small>{escape(unit)}</small></th>" if unit else f"<th>{escape(name)}</th>" for name, unit in head
    )
    rows = "".join(f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in line)}</tr>" for line in lines)
    note = f"<p>{escape(caption)}</p>" if caption else ""
    return f"{note}<table><thead><tr>{names}</tr></thead><tbody>{rows}</tbody></table>"
