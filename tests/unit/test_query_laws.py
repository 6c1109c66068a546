"""One law for all queries: at any moment of a life, each kind of them gives what plain Python makes of the list of all writes.

Steps are drawn: writes, corrections, deletes, windows with and without snapshots, compactions, garbage collections, TTL. Raw
queries must see what was acknowledged at once; levels and latest values once the streams have been read. No step of the archive may
change an answer.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tesseract.errors import NotFoundError
from tests.support.level_world import stored_time
from tests.support.query_oracle import OLDEST, Asked, Row, Write, difference
from tests.support.query_world import DAY, HOUR, START, World

GROUPS = (("N", "a"), ("N", "b"), ("S", "a"))
ASKED_GROUPS: tuple[tuple[Any, tuple[tuple[str, ...], ...]], ...] = (
    ("N/a", GROUPS[:1]),
    (["S/a", ("N", "a")], (GROUPS[0], GROUPS[2])),
    ("N/*", GROUPS[:2]),
    ("*/a", (GROUPS[0], GROUPS[2])),
    (None, GROUPS),
)
TIMES = [
    datetime(2023, 11, 5, 5, 30, tzinfo=UTC),  # 1:30 in New York, as is
    datetime(2023, 11, 5, 6, 30, tzinfo=UTC),  # an hour later
    datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(2024, 3, 1, tzinfo=UTC),
    datetime(2024, 3, 10, 4, 59, tzinfo=UTC),  # in New York the day ends
    datetime(2024, 3, 10, 5, 0, tzinfo=UTC),
    datetime(2024, 3, 10, 7, 10, tzinfo=UTC),
    START - HOUR,
    START - HOUR + timedelta(minutes=7),
    START + 11 * HOUR,
    START + DAY,
]
REFS = [None, *(datetime(2024, 1, day, tzinfo=UTC) for day in (1, 2, 3))]
VALUES = {
    "f": [1, Decimal("0.1"), Decimal("-2.5"), Decimal("1E+20"), Decimal("0.3"), None],
    "i": [1, 2, 7, -3, None],
    "d": [2, Decimal("0.25"), Decimal("-1.5"), None],
    "w": [10**38 - 1, 1 - 10**38, 5, None],
    "s": ["x", "it's", "", None],
    "t": [stored_time(START), stored_time(TIMES[0]), None],
}
LEVELS = [("hourly", "daily"), ("hourly", "daily", "weekly", "monthly"), ("15min",), ("daily", "monthly"), ()]
UNITS = ("1min", "15min", "hourly", "daily", "weekly", "monthly", "quarterly", "yearly")
ZONES = ("America/New_York", "Asia/Kolkata", "Australia/Lord_Howe")
RANGES = [(None, None), (None, 6), (3, None), (2, 8), (4, 6), (7, 9), (5, 5)]  # places of TIMES
STEPS = [timedelta(minutes=20), 5 * HOUR, 20 * HOUR, 50 * HOUR, 10 * DAY]
SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
CONSTANTS = {
    "f": ["0.1", "1", "1e20"],
    "amount": ["2", "1.5", "-3"],
    "d": ["0.25", "1.999"],
    "w": ["5", "1e30"],
    "s": ["'x'", "'it''s'"],
    "valid_time": ["'2024-03-10T05:00:00Z'", "'2024-03-01'"],
    "site": ["'N'"],
    "rows": ["1", "2"],
    "amount_sum": ["3"],
    "f_max": ["0.1", "1"],
    "d_count": ["0", "1"],
    "period_start": ["'2024-03-10T00:00:00Z'"],
}
RAW, OF_LEVEL = list(CONSTANTS)[:7], list(CONSTANTS)[6:]
Condition = tuple[str, Callable[[Row], bool | None]]

writes = st.builds(
    lambda place, ref, fields, gone: (place, ref, {n: v for n, v in fields.items() if v is not None}, gone),
    st.integers(0, 63),
    st.integers(0, 3),
    st.fixed_dictionaries({name: st.sampled_from(values) for name, values in VALUES.items()}),
    st.sampled_from([False, False, False, True]),
)


def value_of(text: str) -> Any:
    """A constant of a condition."""
    if not text.startswith("'"):
        return Decimal(text)
    text = text[1:-1].replace("''", "'")
    return datetime.fromisoformat(text).replace(tzinfo=UTC) if text[:2] == "20" else text


def compared(column: str, sign: str, constant: str) -> Condition:
    right = value_of(constant)

    def passes(row: Row) -> bool | None:
        left = row[column]
        left = Decimal(repr(left)) if isinstance(left, float) else left
        return None if left is None else SIGNS[sign](left, right)

    return f"{column} {sign} {constant}", passes


def missing(column: str, negated: bool) -> Condition:
    return f"{column} is {'not ' if negated else ''}null", lambda row: (row[column] is None) != negated


def negation(part: Condition) -> Condition:
    return f"not ({part[0]})", lambda row: None if (found := part[1](row)) is None else not found


def joined(word: str, left: Condition, right: Condition) -> Condition:
    decides = word == "or"

    def passes(row: Row) -> bool | None:
        found = (left[1](row), right[1](row))
        return decides if decides in found else None if None in found else not decides

    return f"({left[0]}) {word} ({right[0]})", passes


def conditions(columns: list[str]) -> st.SearchStrategy[Condition]:
    """Conditions on these columns."""
    one = st.sampled_from(columns).flatmap(
        lambda column: st.builds(compared, st.just(column), st.sampled_from(list(SIGNS)), st.sampled_from(CONSTANTS[column]))
    )
    leaf = one | st.builds(missing, st.sampled_from(columns), st.booleans())
    return st.recursive(
        leaf,
        lambda inner: st.builds(negation, inner) | st.builds(joined, st.sampled_from(["and", "or"]), inner, inner),
        max_leaves=3,
    )


raw_conditions, level_conditions = conditions(RAW), conditions(OF_LEVEL)
STEPS_OF_LIFE = ["write"] * 5 + [
    "delete",
    "delete",
    "drain",
    "archive",
    "whole",
    "whole",
    "snapshot",
    "compact",
    "wait",
    "wait",
    "gc",
]
KINDS = ["raw"] * 4 + ["level"] * 3 + ["intervals"] * 3 + ["latest", "revisions", "revisions", "past", "sql"]


class Life:
    """A dataset's life, and questions at any moment, as `data` draws them."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        revisions = self.draw(["last_write", "last_write", "latest_ref", "all"])
        self.world = World(self.draw(LEVELS), revisions, self.draw([0, 0, 2]))
        self.groups = self.draw([GROUPS, GROUPS[:2]])
        self.times = self.data.draw(st.lists(st.integers(0, len(TIMES)), min_size=3, max_size=7, unique=True))
        self.drained = True
        self.pinned: list[tuple[Callable[[], Any], Any]] = []  # questions and their answers, as long as nothing is written

    def draw(self, values: Any) -> Any:
        return self.data.draw(st.sampled_from(values))

    def go(self) -> None:
        """One step, and two questions."""
        getattr(self, self.draw(STEPS_OF_LIFE))()
        for kind in self.data.draw(st.lists(st.sampled_from(KINDS), min_size=2, max_size=2)):
            getattr(self, f"ask_{kind}")()

    # what happens -------------------------------------------------------------------------------------------------------------

    def write(self) -> None:
        by_ref, found = self.world.dataset.by_ref_time, []
        for place, ref, fields, gone in self.data.draw(st.lists(writes, min_size=2, max_size=8)):
            at = self._time(self.times[place % len(self.times)])
            group = self.groups[place // 16 % len(self.groups)]
            found.append(Write(group, at, REFS[ref] if by_ref else None, {} if gone else fields, gone))
        self.world.write(found)
        self.pinned, self.drained = [], False

    def delete(self) -> None:
        visible = list(self.world.oracle.visible().values())
        if visible:
            row = self.draw(visible)
            self.world.write([Write(row.group, row.time, row.ref, {}, True)])
            self.pinned, self.drained = [], False

    def _time(self, place: int) -> datetime:
        return TIMES[place] if place < len(TIMES) else self.world.now.replace(minute=0, second=0, microsecond=0)

    def drain(self) -> None:
        self.world.drain()
        self.drained = True

    def archive(self) -> None:
        self._keep(self.world.archive)

    def whole(self) -> None:
        self._keep(self.world.whole)

    def snapshot(self) -> None:
        self._keep(self.world.snapshot)

    def compact(self) -> None:
        self._keep(self.world.compact)

    def gc(self) -> None:
        self._keep(self.world.collect_garbage)

    def wait(self) -> None:
        self._keep(lambda: self.world.pass_time(self.draw(STEPS)))

    def _keep(self, step: Callable[[], object]) -> None:
        """A step that changes no answer: the same columns, types, metadata and rows."""
        if not self.pinned and self.world.oracle.log and self.draw([True, False]):
            self.drain()
            store = self.world.store
            for ask in (
                lambda: store.query("plant"),
                lambda: store.query("plant", level="daily"),
                lambda: store.resample("plant", every="90min", fill="previous"),
            ):
                self.pinned.append((ask, ask()))
        step()
        for ask, before in self.pinned:
            found = ask()
            assert found.schema.equals(before.schema, check_metadata=True)
            assert found.equals(before)

    # questions ----------------------------------------------------------------------------------------------------------------

    def ask_raw(self) -> None:
        """Every acknowledged write is seen at once."""
        groups = self.draw(ASKED_GROUPS)
        condition = self.data.draw(st.none() | raw_conditions)
        asked = self._asked(groups[1], "", condition, [("f", "d"), ("s", "amount"), ("w",)])
        options: dict[str, Any] = {"fields": asked.fields, "where": asked.where, "limit": asked.limit}
        self._check(groups[0], asked, options | {"order": "desc" if asked.newest_first else "asc"})

    def ask_level(self) -> None:
        """A level, kept or not, on the clock of a zone or of UTC."""
        groups = self.draw(ASKED_GROUPS)
        name, zone = self.draw(UNITS), self.draw(["", "", *ZONES])
        condition = self.data.draw(st.none() | level_conditions)
        asked = self._asked(groups[1], name, condition, [("f",), ("d_sum", "w_max"), ("amount_avg",)], zone)
        options: dict[str, Any] = {"fields": asked.fields, "where": asked.where, "limit": asked.limit, "tz": zone or None}
        self.drain()
        self._check(groups[0], asked, options | {"level": name, "order": "desc" if asked.newest_first else "asc"})

    def ask_intervals(self) -> None:
        """Any interval, gaps filled in any way."""
        groups = self.draw(ASKED_GROUPS)
        every = self.draw(["90min", "6h", "12h", "1d", "5d", "2w", "1mo"])
        zone = self.draw(["", *ZONES]) if every != "90min" else ""
        fill = self.draw(["none", "none", "null", "previous", "linear", 4])
        condition = self.data.draw(st.none() | level_conditions)
        places = self.draw([*RANGES[2:-1], RANGES[0]])
        start, end = (None if place is None else TIMES[place] for place in places)
        where, passes = condition or (None, lambda row: True)
        asked = Asked(groups[1], start, end, every, zone, None, where, passes, fill=fill)
        self.drain()
        ask = lambda: self.world.store.resample(
            "plant", groups[0], start, end, every=every, fill=fill, tz=zone or None, where=where
        )
        self._answered(ask, asked, every, fill)

    def ask_latest(self) -> None:
        group = self.draw([*GROUPS, None])
        self.drain()
        rows = {name: self.world.oracle.latest(name) for name in GROUPS}
        if group is None:
            found = self.world.store.latest("plant")
            assert difference(found, [row for row in rows.values() if row], lambda _: False) == ""
        elif rows[group] is None:
            with pytest.raises(NotFoundError):
                self.world.store.latest("plant", group)
        else:
            assert difference(self.world.store.latest("plant", group), [rows[group]], lambda _: False) == ""  # type: ignore[list-item]

    def ask_revisions(self) -> None:
        """All that was ever known, and what was known at a ref time."""
        group, at = self.draw(GROUPS), self.draw([OLDEST, *REFS[1:]])
        if self.world.dataset.revisions == "all" and any(write.group == group for write in self.world.oracle.log):
            found = self.world.store.revisions("plant", group, known_at=at)
            assert difference(found.to_pylist(), self.world.oracle.revisions(group, at), lambda _: False) == ""
            asked = self._asked((group,), "", self.data.draw(st.none() | raw_conditions), [("f",)])
            options: dict[str, Any] = {"fields": asked.fields, "where": asked.where, "limit": asked.limit}
            options["order"] = "desc" if asked.newest_first else "asc"
            found = self.world.store.query("plant", group, asked.start, asked.end, known_at=at, **options)
            wanted = self.world.oracle.known(group, at, asked)
            assert difference(found.to_pylist(), wanted, lambda _: False) == ""

    def ask_past(self) -> None:
        """The archive alone as it was when a window had closed."""
        if not self.world.states:
            return
        (moment, through, count), name = self.draw(self.world.states), self.draw(["", "hourly", "daily", "weekly"])
        log = self.world.oracle.log[:count]
        groups = tuple(name for name in GROUPS if any(write.group == name for write in log))
        if groups:
            asked = Asked(groups, period=name)
            options = {"level": name} if name else {}
            result = self.world.store.read("plant", list(groups), as_of=moment, **options)
            assert result.complete_through == through
            wanted = self.world.oracle.answer(asked, log)
            assert difference(result.table.to_pylist(), wanted, _near) == ""

    def ask_sql(self) -> None:
        """Groups and times as predicates of a statement, and a filter on values."""
        name = self.draw(["", "daily", "monthly"])
        part = self.data.draw(raw_conditions if not name else level_conditions)
        time = "period_start" if name else "valid_time"
        low = self.draw(TIMES[2:8])
        self.drain()
        within = lambda row: row["unit"] == "a" and row[time] >= low and part[1](row) is True
        text = f"select * from plant{name and '_' + name} where unit = 'a' and {time} >= '{low.isoformat()}' and ({part[0]})"
        found = self.world.store.sql(f"{text} order by site, {time}")
        wanted = self.world.oracle.answer(Asked(GROUPS, period=name, condition=within))
        assert difference(found.to_pylist(), wanted, _near) == ""

    def _asked(self, groups: Any, period: str, condition: Condition | None, fields: list[Any], zone: str = "") -> Asked:
        places = self.draw(RANGES)
        start, end = (None if place is None else TIMES[place] for place in places)
        where, passes = condition or (None, lambda row: True)
        chosen = self.data.draw(st.none() | st.sampled_from(fields))
        limit, newest_first = self.draw([None, None, 1, 2, 5]), self.data.draw(st.booleans())
        return Asked(groups, start, end, period, zone, chosen, where, passes, limit, newest_first)

    def _check(self, groups: Any, asked: Asked, options: dict[str, Any]) -> None:
        if groups is None or "*" in str(groups):  # all that the stream of changes knows
            self.drain()
        method = self.draw(["query", "scan"])
        span = (asked.start, asked.end)
        ask = lambda: getattr(self.world.store, method)("plant", groups, *span, **options)
        self._answered(lambda: ask().read_all() if method == "scan" else ask(), asked, str(options), "none")

    def _answered(self, ask: Callable[[], Any], asked: Asked, what: str, fill: object) -> None:
        wanted = self.world.oracle.answer(asked)
        there = {group for group, _ in self.world.oracle.visible()}
        try:
            found = ask()
        except NotFoundError:
            assert not there.issuperset(asked.groups), what
            return
        near = (lambda name: name.startswith("f_") or _near(name)) if fill == "linear" else _near
        assert difference(found.to_pylist(), wanted, near) == "", what
        names = [
            name for name in found.column_names if name not in ("site", "unit", "valid_time", "ref_time", "period_start", "rows")
        ]
        assert found.schema.metadata[b"tesseract.dataset"] == b"plant"
        assert all(
            (found.schema.field(name).metadata or {}).get(b"unit") == "°C".encode()
            for name in names
            if name[0] == "f" and name not in ("f_count", "filled")
        )


def _near(column: str) -> bool:
    return column.endswith(("_avg", "_std"))


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows lie on several pages and in several row groups, and are read in several parts, as many are elsewhere."""
    monkeypatch.setattr("tesseract.storage.memory.PAGE_BYTES", 600)
    monkeypatch.setattr("tesseract.storage.parquet_writer.ROW_GROUP", 2)
    for module in ("engine", "scan"):
        monkeypatch.setattr(f"tesseract.query.{module}.FEWEST", 3)
        monkeypatch.setattr(f"tesseract.query.{module}.CELLS", 8)
    monkeypatch.setattr("tesseract.query.scan._rate", lambda _: 1 / (DAY // timedelta(microseconds=1)))
    monkeypatch.setattr("tesseract.query.scan._length", lambda _: 20 * DAY // timedelta(microseconds=1))
    monkeypatch.setattr("tesseract.query.portions.HOT_DAY", 1)
    monkeypatch.setattr("tesseract.query.raw_folds.FEW", 0)
    monkeypatch.setattr("tesseract.query.raw_folds.CELLS", 40)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_question_at_any_moment(data: st.DataObject) -> None:
    life = Life(data)
    for _ in range(12):
        life.go()
