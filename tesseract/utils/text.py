"""Values as text: nulls are nothing, times ISO 8601, doubles their shortest text, decimals and integers all their digits."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from tesseract.utils.time_utils import iso_micros, iso_seconds


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
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None  # SQL can make them, JSON has none
    return value if value is None or isinstance(value, str | int | float | Decimal) else str(value)


def json_text(value: Any) -> str:
    """A plain value as JSON. A decimal is a number with all its digits, which no double may have."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name, ensure_ascii=False)}: {json_text(part)}" for name, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(json_text, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
