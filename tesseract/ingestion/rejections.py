"""Why a record is not accepted, or accepted with a warning: every reason that the validator can give, in one table.

`docs/rejections.md` is the catalogue of them, with causes and mends; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

import msgspec

CLOSE = 0.7  # how alike a name must be to be the one that was meant
LONGEST_NAME = 64  # of names that are compared: more cost time, and are no typing mistakes

REASONS = {
    # the record as a whole
    "not_json": "not JSON: {error}",
    "not_object": "a record is a JSON object",
    "twice": "{name!r} comes twice in the record",
    "renamed": "the record has {name!r} and {former!r}, which are names of one field",
    "too_large": "the record is larger than {bytes} bytes",
    "too_many": "the record has more than {count} values",
    # the group
    "group_missing": "the group field {name!r} is missing",
    "group_kind": "a group is non-empty text or an integer",
    "group_long": "the group's key is longer than {bytes} bytes",
    # times: of the record, and fields that are timestamps
    "time_missing": "the time field {name!r} is missing",
    "time_text": "a time is ISO 8601 text such as 2013-07-01T12:00:00Z",
    "time_number": "a time is a number of {unit} since 1970",
    "time_whole": "a time is a whole number of {unit} since 1970",
    "not_time": "not a time: write ISO 8601 such as 2013-07-01T12:00:00Z",
    "leap": "not a leap second: they are at 23:59:60 UTC",
    "no_zone": "the time has no zone: add Z for UTC, or an offset such as +01:00",
    "skipped": "there is no such time in {zone}: its clocks skipped it",
    "outside": "the time is outside the years 1 to 9999",
    "future": "lies in the future: later than {limit}, now + max_future",
    "past": "older than {limit}: retention.raw takes nothing that is",
    # values of declared fields
    "required": "the required field {name!r} is missing or null",
    "kind": "field {name!r} is {wanted}, not {found}",
    "fraction": "field {name!r} is an integer, not a fraction",
    "bits": "field {name!r} must fit 64 bits",
    "digits": "field {name!r} has more than {digits} digits",
    "number": "the number of {name!r} does not fit: 1e-130 to 9.9e125 and 0 do",
    "scale": "field {name!r} has more than {digits} digits after the point",
    "whole_digits": "field {name!r} has more than {digits} digits before the point",
    "min": "field {name!r} is below its minimum {bound}",
    "max": "field {name!r} is above its maximum {bound}",
    "enum": "field {name!r} has none of the values that it may have",
    "length": "field {name!r} has more than {length} characters",
    # values of any field
    "list": "a list is not a value; send one record for each reading",
    "deep": "objects are nested deeper than {depth}",
    # fields that are not declared
    "undeclared": "no field {name!r} is declared; declare it, or set unknown_fields to keep or drop",
    "reserved": "{name!r} is a name that results use; declare the field under another name with its path",
    "name": "a field's name has 1 to {length} characters",
    # of a record that is accepted
    "large": "the item has {bytes} bytes: its writes cost {units} units each",
}


class Rejection(msgspec.Struct, frozen=True):
    """What is wrong with one record, or, as a warning, with a value of it that was stored as null.

    `field`, `value` and `hint` are cut to 100 characters, `reason` to 300. `hint` says what would be right, where that can be said.
    """

    index: int
    field: str
    value: str
    reason: str
    hint: str = ""


class Fault(Exception):
    """A reason of the table with its place and its particulars. A hint that takes time to find is a function."""

    def __init__(self, field: str, value: Any, reason: str, hint: str | Callable[[], str] = "", **particulars: Any) -> None:
        super().__init__(reason)
        self.field, self.value, self.reason, self.hint, self._particulars = field, value, reason, hint, particulars

    def rejection(self, index: int, hinted: bool = True) -> Rejection:
        """The fault of the record at `index`; without `hinted` no hint is looked for."""
        reason = REASONS[self.reason].format(**self._particulars)
        hint = self.hint if isinstance(self.hint, str) else self.hint() if hinted else ""
        return Rejection(index, cut(self.field), show(self.value), cut(reason, 300), cut(hint))


def meant(name: str, known: Iterable[str]) -> str:
    """`did you mean 'temp'?`, or nothing where nothing is near."""
    from difflib import get_close_matches  # loaded only where something is wrong

    if len(name) > LONGEST_NAME:
        return ""
    folded = {one.lower(): one for one in known}
    close = get_close_matches(name.lower(), folded, n=1, cutoff=CLOSE)
    return f"did you mean {folded[close[0]]!r}?" if close else ""


def show(value: Any) -> str:
    """A value for a message, cut to 100 characters; of a list or an object only that it is one."""
    if value is None:
        return ""
    if isinstance(value, list | dict):
        return "[…]" if isinstance(value, list) else "{…}"
    if isinstance(value, bool):
        return "true" if value else "false"
    return cut(value if isinstance(value, str) else str(value) if isinstance(value, Decimal) else repr(value))


def cut(text: str, length: int = 100) -> str:
    """A text for a message: no longer than `length`."""
    return text if len(text) <= length else text[: length - 1] + "…"
