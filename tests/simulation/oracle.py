"""What must be: recomputed from the accepted writes in table order, in plain Python. Shares no code with the aggregates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any

STATS = ("count", "sum", "avg", "std", "min", "max", "first", "last")
MICRO = 1_000_000
HOUR, DAY = 3600 * MICRO, 86400 * MICRO
LENGTHS = {"15min": HOUR // 4, "hourly": HOUR, "daily": DAY}
_WIDE = Context(prec=200)
_NOTHING: frozenset[str] = frozenset()


@dataclass
class Entry:
    """One accepted write, in table order. `at` is when (µs), `time` the valid time (µs), `place` its stream shard."""

    index: int
    at: int
    group: str
    time: int
    ref: str | None
    fields: dict[str, Any]
    deleted: bool
    label: str
    number: int
    shard: int
    spoilt: bool = False  # its image in the stream cannot be read
    done: dict[str, bool] = field(default_factory=lambda: {"aggregates": False, "latest": False})
    told: dict[str, bool] = field(default_factory=dict)  # whether a function that lost it must have noticed

    def __str__(self) -> str:
        what = "deleted" if self.deleted else " ".join(f"{n}={v}" for n, v in sorted(self.fields.items())) or "nulls"
        return f"{self.group} {moment(self.time)} {what}" + (f" ref {self.ref[:10]}" if self.ref else "")


@dataclass(frozen=True)
class Numbers:
    """The exact numbers of one field over a period."""

    count: int
    total: Fraction
    squares: Fraction
    minimum: Fraction
    maximum: Fraction
    first: Fraction
    last: Fraction

    @property
    def sums(self) -> tuple[Any, ...]:
        return self.count, self.total, self.squares


@dataclass(frozen=True)
class Row:
    """A period: how many records are visible, and the numbers of each field that has one."""

    rows: int
    fields: dict[str, Numbers]

    def without(self, names: Iterable[str]) -> Row:
        return Row(self.rows, {name: numbers for name, numbers in self.fields.items() if name not in names})

    @property
    def sums(self) -> Any:
        return self.rows, tuple(sorted((name, numbers.sums) for name, numbers in self.fields.items()))


class Oracle:
    """The accepted writes of one dataset."""

    def __init__(self, by_ref_time: bool) -> None:
        self.by_ref_time = by_ref_time
        self.log: list[Entry] = []
        self.by_group: dict[str, list[Entry]] = {}

    def add(self, entry: Entry) -> None:
        self.log.append(entry)
        self.by_group.setdefault(entry.group, []).append(entry)

    def insert(self, entry: Entry) -> None:
        """Add what lies between writes: it is older than those that are written after its `at`."""
        self.log.append(entry)
        own = self.by_group.setdefault(entry.group, [])
        own.insert(next((place for place, other in enumerate(own) if other.at > entry.at), len(own)), entry)

    def entries(self, group: str, start: int, end: int) -> list[Entry]:
        """The writes with valid times in [start, end), in table order."""
        return [entry for entry in self.by_group.get(group, ()) if start <= entry.time < end]

    def newest(self, entries: Iterable[Entry]) -> dict[int, Entry]:
        """Valid time → the write that counts, tombstones included."""
        found: dict[int, Entry] = {}
        for entry in entries:
            old = found.get(entry.time)
            if old is None or not self.by_ref_time or (entry.ref or "") >= (old.ref or ""):
                found[entry.time] = entry
        return found

    def visible(self, entries: Iterable[Entry]) -> dict[int, Entry]:
        """Valid time → the record, tombstones left out; in order of time."""
        return {time: entry for time, entry in sorted(self.newest(entries).items()) if not entry.deleted}

    def row(self, entries: Iterable[Entry], fields: frozenset[str] | None = None) -> Row:
        """The numbers of a period from its writes; of the `fields` named, or of all."""
        records = list(self.visible(entries).values())
        columns: dict[str, list[Fraction]] = {}
        for record in records:
            for name, value in record.fields.items():
                if fields is None or name in fields:
                    columns.setdefault(name, []).append(Fraction(value))
        return Row(len(records), {name: _numbers(values) for name, values in columns.items()})

    def states(self, entries: Sequence[Entry], first: int, fields: frozenset[str] | None = None) -> list[Row]:
        """The numbers after the first `first` writes, after one more, and so on to all of them."""
        return [self.row(entries[:end], fields) for end in range(first, len(entries) + 1)]


def _numbers(values: Sequence[Fraction]) -> Numbers:
    squares = sum((value * value for value in values), Fraction(0))
    return Numbers(len(values), sum(values, Fraction(0)), squares, min(values), max(values), values[0], values[-1])


def average(numbers: Numbers) -> float:
    return float(numbers.total / numbers.count)


def deviation(numbers: Numbers) -> float | None:
    """The sample's standard deviation, from 200 digits."""
    if numbers.count < 2:
        return None
    variance = (numbers.squares - numbers.total * numbers.total / numbers.count) / (numbers.count - 1)
    return float(_WIDE.sqrt(_WIDE.divide(Decimal(variance.numerator), Decimal(variance.denominator))))


def moment(micros: int) -> str:
    """A time as text."""
    from tesseract.utils.time_utils import from_micros

    at: datetime = from_micros(micros)
    return f"{at:%m-%dT%H:%M}" if at.year == 2024 else f"{at:%Y-%m-%dT%H:%M}"
