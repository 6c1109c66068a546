"""A store over memory whose records lie wherever a test puts them, and the oracle beside it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec

from tesseract.config.dataset import Dataset, Field, Level
from tesseract.config.tiers import UNITS
from tesseract.model import Record, Segment
from tesseract.processing.aggregator import encode_state, fold, identity, shown
from tesseract.processing.live_item import LiveItem, encode_item
from tesseract.storage.columns import LevelRow, RawRow, level_table, raw_table
from tesseract.storage.items import raw_item
from tesseract.storage.keys import days_pk, level_partition, live_key
from tesseract.storage.memory import memory_backend
from tesseract.storage.parquet_writer import encode
from tesseract.store import Store
from tesseract.utils.time_utils import from_micros, iso_day, to_micros

NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)
START = datetime(2026, 3, 1, tzinfo=UTC)
STATS = ("count", "sum", "avg", "std", "min", "max", "first", "last")
DATASET = Dataset(
    name="w",
    version=1,
    group_by=("station",),
    time_field="t",
    ref_time_field="r",
    unknown_fields="reject",
    buffer_ttl_hours=168,
    ladder=("daily", "monthly"),
    levels=tuple(Level(name, dict.fromkeys(STATS, ())) for name in ("hourly", "daily")),
    fields={
        "temp": Field("float", "temp", unit="°C"),
        "n": Field("int", "n"),
        "note": Field("string", "note"),
        "ok": Field("bool", "ok"),
    },
)


def values(number: int) -> dict:
    fields = {"temp": Decimal(number) / 4, "n": number, "note": f"r{number}", "ok": number % 2 == 0}
    return fields if number % 5 else {"n": number}


class World:
    def __init__(self, dataset: Dataset = DATASET, now: datetime = NOW) -> None:
        self.backend = memory_backend()
        self.now = now
        self.store = Store(self.backend, "test", lambda: self.now)
        self.dataset = dataset
        self.store.catalog.put_dataset(dataset, START - timedelta(days=5))
        self.made = 0

    def buffer(
        self, at: datetime, fields: dict, *, deleted: bool = False, group: str = "A", marked: datetime | None = None
    ) -> None:
        if marked is not None:
            self.backend.live.put({"pk": days_pk("w", group), "sk": iso_day(at), "marked_at": to_micros(marked)})
        self.backend.raw.put(raw_item(self.dataset, Record(group, at, None, fields, deleted), at))

    def archive(self, rows: list[tuple[datetime, dict, bool, datetime]], group: str = "A") -> None:
        """One segment of (valid time, fields, deleted, write time)."""
        made = [RawRow(at, None, fields, deleted, written, 1) for at, fields, deleted, written in sorted(rows, key=lambda r: r[0])]
        self._commit("raw", group, raw_table(self.dataset, group, made), [row.valid_time for row in made])

    def snapshot(self, level: str, rows: list[tuple[datetime, list[tuple[datetime, dict]], int]], group: str = "A") -> None:
        """One segment of (period start, its records, order)."""
        kept = self.dataset.level(level)
        made = []
        for start, records, order in sorted(rows, key=lambda row: row[0]):
            state = state_of(start, records)
            made.append(LevelRow(start, state.rows, shown(state, kept), encode_state(state), order, kept.live_from))
        table = level_table(self.dataset, kept, group, made)
        self._commit(level_partition(kept), group, table, [row.period_start for row in made])

    def live(
        self, level: str, start: datetime, records: list[tuple[datetime, dict]], *, stale: bool = False, group: str = "A"
    ) -> None:
        kept = self.dataset.level(level)
        pk, sk = live_key("w", group, UNITS[level], start)
        item = LiveItem(pk, sk, state_of(start, records), 1, stale_at=1 if stale else None, live_from=kept.live_from)
        self.backend.live.put(encode_item(item, kept, NOW))

    def progress(self, archived: datetime, snapshot: datetime | None = None) -> None:
        self.store.catalog.advance("archived", to_micros(archived))
        self.store.catalog.advance("snapshot", to_micros(snapshot or archived))

    def _commit(self, partition: str, group: str, table, times: list[datetime]) -> None:
        self.made += 1
        file = encode(table, {})
        key = f"archive/{partition}/{group}/{self.made}.parquet"
        self.backend.objects.put(key, file.body)
        first, last = to_micros(times[0]), to_micros(times[-1])
        period = UNITS["yearly"].period(from_micros(first))
        segment = Segment(
            key,
            "yearly",
            to_micros(period.start),
            to_micros(period.end),
            len(table),
            len(file.body),
            first,
            last,
            self.made,
            file.footer_offset,
            file.footer_length,
            file.sha256,
        )
        self.store.catalog.commit("w", partition, group, lambda m: msgspec.structs.replace(m, segments=(*m.segments, segment)), NOW)


def state_of(start: datetime, records: list[tuple[datetime, dict]]):
    state = identity()
    for at, fields in records:
        state = fold(state, fields, to_micros(at) - to_micros(start))
    return state


def raw_row(at: datetime, fields: dict, group: str = "A") -> dict:
    """What a query gives for a visible record."""
    temp = fields.get("temp")
    row = {"station": group, "valid_time": at, "ref_time": None, "temp": None if temp is None else float(temp)}
    return row | {name: fields.get(name) for name in ("n", "note", "ok")}


def level_rows(records: dict[datetime, dict], level: str, group: str = "A") -> list[dict]:
    """What a query gives for the periods of visible records, by the table that every tier is made with."""
    kept = DATASET.level(level)
    periods: dict[datetime, list[tuple[datetime, dict]]] = {}
    for at in sorted(records):
        periods.setdefault(UNITS[level].floor(at), []).append((at, records[at]))
    made = []
    for start, own in periods.items():
        state = state_of(start, own)
        made.append(LevelRow(start, state.rows, shown(state, kept), b"", 0, None))
    table = level_table(DATASET, kept, group, made)
    return [{name: value for name, value in row.items() if not name.startswith("__")} for row in table.to_pylist()]
