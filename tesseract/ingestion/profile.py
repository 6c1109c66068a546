"""What sample records hold, path by path: kinds, ranges, nulls, sentinels, times. `infer` makes a configuration of it. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from tesseract.config.dataset import TimeFormat
from tesseract.errors import InputError
from tesseract.ingestion.fastpath import BAD_JSON
from tesseract.ingestion.validators import parse_moment

DISTINCT = 100_000  # values that are counted one by one; of more it is only known that they are many
WORDS = 20  # different texts that are kept
NULLS = {"", "-", "--", "*", ".", "?", "na", "n/a", "nan", "nil", "null", "none", "missing", "m", "#n/a", "undef", "unknown"}
_SENTINEL = re.compile(r"-?9{2,}(\.9+)?$|-?9{3,}(\.0+)?$")
_DATE = re.compile(r"^\d{4}-?\d{2}-?\d{2}[T ]")
_DECODE = msgspec.json.Decoder(float_hook=Decimal).decode
_EPOCHS: tuple[tuple[TimeFormat, int], ...] = (("epoch_s", 1), ("epoch_ms", 10**3), ("epoch_us", 10**6), ("epoch_ns", 10**9))
_FIRST, _LAST = 946_684_800, 4_102_444_800  # 2000 to 2100: a number outside is no time that a sensor writes

Scalar = str | int | Decimal | bool


@dataclass
class Column:
    """The values of one path over all records."""

    name: str
    steps: tuple[str, ...]  # from the record to the value
    present: int = 0
    nulls: int = 0
    numbers: int = 0
    fractions: int = 0
    texts: int = 0
    bools: int = 0
    times: int = 0  # texts that are a date and a time
    zoned: int = 0  # ... with a zone
    low: int | Decimal | None = None
    high: int | Decimal | None = None
    distinct: Counter[Scalar] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)  # the first texts
    many: bool = False  # more distinct values than are counted

    def add(self, value: Any) -> None:
        """Count one value of the path."""
        self.present += 1
        if value is None:
            self.nulls += 1
            return
        if not self.many:
            self.distinct[value] += 1
            self.many = len(self.distinct) > DISTINCT
        if isinstance(value, bool):
            self.bools += 1
        elif isinstance(value, str):
            self._text(value)
        else:
            self._number(value)

    def _text(self, value: str) -> None:
        self.texts += 1
        if len(self.words) <= WORDS or value in self.words:
            self.words[value] += 1
        if _DATE.match(value):
            try:
                moment = parse_moment(value)
            except ValueError:
                return
            self.times += 1
            self.zoned += moment.tzinfo is not None

    def _number(self, value: int | Decimal) -> None:
        self.numbers += 1
        self.fractions += isinstance(value, Decimal)
        self.low = value if self.low is None else min(self.low, value)
        self.high = value if self.high is None else max(self.high, value)

    @property
    def values(self) -> int:
        """How many values are not null."""
        return self.present - self.nulls

    def sentinels(self) -> tuple[str | int | float, ...]:
        """Values that look like a way to write null: a word among numbers, or nines far away from all others."""
        found: list[str | int | float] = []
        if self.numbers and len(self.words) <= WORDS:
            found += [word for word in self.words if word.lower() in NULLS]
        if self.numbers and not self.bools:
            found += [float(value) if isinstance(value, Decimal) else value for value in self._nines()]
        return tuple(found)

    def count(self, value: str | float) -> int:
        """How often a sentinel came."""
        return self.words[value] if isinstance(value, str) else self.distinct[Decimal(str(value))]

    def _nines(self) -> Iterator[int | Decimal]:
        numbers: list[int | Decimal] = [v for v in self.distinct if isinstance(v, int | Decimal) and not isinstance(v, bool)]
        ends: set[int | Decimal] = {v for v in (self.low, self.high) if v is not None and _SENTINEL.match(str(v))}
        for value in ends:
            others: list[Decimal] = [abs(Decimal(other)) for other in numbers if other != value and not _SENTINEL.match(str(other))]
            if not others or abs(Decimal(value)) > 2 * max(others):
                yield value

    def bounds(self) -> tuple[int | Decimal, int | Decimal] | None:
        """The least and the greatest number that is no sentinel; None where there is none, or where they were too many to keep."""
        skipped = {Decimal(str(v)) for v in self.sentinels() if not isinstance(v, str)}
        if not skipped:
            return None if self.low is None or self.high is None else (self.low, self.high)
        numbers = [
            v for v in self.distinct if isinstance(v, int | Decimal) and not isinstance(v, bool) and Decimal(v) not in skipped
        ]
        return None if self.many or not numbers else (min(numbers), max(numbers))

    def epoch(self) -> TimeFormat | None:
        """In which unit all its numbers are times since 1970, if they are."""
        if not self.numbers or self.texts or self.bools or self.low is None or self.high is None:
            return None
        return next((name for name, unit in _EPOCHS if _FIRST * unit <= self.low and self.high < _LAST * unit), None)


@dataclass
class Profile:
    """All records: their columns in the order of their first coming, and the records themselves, flat."""

    columns: dict[str, Column]
    rows: list[dict[str, Any]]
    records_path: str = ""


def profile(lines: Iterable[bytes]) -> Profile:
    """Read records, one JSON object each. Raises InputError for one that is none, and where there are none."""
    objects = [_object(index, line) for index, line in enumerate(lines)]
    if not objects:
        raise InputError("there is no record to learn from")
    path = _records_path(objects[0])
    if path:
        objects = [part for outer in objects for part in _opened(outer, path)]
    columns: dict[str, Column] = {}
    rows = []
    for record in objects:
        row = dict(_flat(record, ()))
        for steps, value in row.items():
            name = ".".join(steps)
            columns.setdefault(name, Column(name, steps)).add(value)
        rows.append({".".join(steps): value for steps, value in row.items()})
    return Profile(columns, rows, path)


def _object(index: int, line: bytes) -> dict[str, Any]:
    try:
        value = _DECODE(line)
    except BAD_JSON as error:
        raise InputError(f"record {index} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"record {index} is no JSON object")
    return value


def _records_path(record: dict[str, Any]) -> str:
    """The member that holds a list of objects: an envelope of many records."""
    return next((name for name, value in record.items() if isinstance(value, list) and value and isinstance(value[0], dict)), "")


def _opened(outer: dict[str, Any], path: str) -> Iterator[dict[str, Any]]:
    common = {name: value for name, value in outer.items() if name != path}
    for inner in outer.get(path) or ():
        if isinstance(inner, dict):
            yield {**common, **inner}


def _flat(value: dict[str, Any], above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, part in value.items():
        if isinstance(part, dict):
            yield from _flat(part, (*above, key))
        elif not isinstance(part, list):
            yield (*above, key), part


def moment(value: Any, form: TimeFormat) -> datetime | None:
    """A time value of a record, None where it is none."""
    try:
        if isinstance(value, str):
            parsed = parse_moment(value)
            return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
        unit = dict(_EPOCHS)[form]
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(Decimal(value) * 1_000_000 / unit))
    except (ValueError, KeyError, ArithmeticError, TypeError):
        return None
