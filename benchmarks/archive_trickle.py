"""What a month of late data costs: rows written, by commits and by merges, for each row that came. The plan alone, without files.

A sensor of 1 Hz on the ladder daily → monthly → yearly, all of January, a compaction after each window. 1 % as many rows come late,
for times spread over the year before, whose yearly segment of 31.5 M rows lies there. With the default cadence there is a window a
day; with one an hour, late rows come 36 at a time.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from benchmarks.figures import Figure
from tesseract.config.tiers import first_tier, tier_period
from tesseract.model import Manifest, Segment
from tesseract.processing.merge_plan import Merge, plan
from tesseract.processing.segments import added, swapped
from tesseract.utils.time_utils import from_micros, to_micros

LADDER = ("daily", "monthly", "yearly")
YEAR, HOUR = datetime(2025, 1, 1, tzinfo=UTC), timedelta(hours=1)
NEXT_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
DAYS, HOURLY_ROWS = 31, 3600


def run() -> Iterator[Figure]:
    """Late rows alone, by the day and by the hour, and with the readings that they come with."""
    for name, hours, fresh, bar in (
        ("a month of late rows", 24, False, 4),
        ("a month of late rows, by the hour", 1, False, None),
        ("a month of readings, 1 % late", 24, True, 4),
        ("a month of readings, 1 % late, by the hour", 1, True, None),
    ):
        written, came, most = _month(hours, fresh)
        told = f"{written:,} rows written, {came:,} came; at most {most} segments of the year"
        yield Figure(f"write amplification: {name}", written / came, "×", told, bar)


def _month(hours: int, readings: bool) -> tuple[int, int, int]:
    """(rows written, rows that came, the most segments of the closed year at any time) with a window every so many hours."""
    dice = random.Random(3)
    year = _segment("yearly", [to_micros(YEAR), to_micros(NEXT_YEAR) - 1_000_000], 31_536_000, 1)
    manifest, written, most = Manifest("d", "raw", "s-0000", segments=(year,)), 0, 1
    fresh, came = HOURLY_ROWS * hours, 0
    for number in range(DAYS * 24 // hours):
        now = NEXT_YEAR + (number + 1) * hours * HOUR
        end = to_micros(now)
        late = [to_micros(YEAR) + 1_000_000 * dice.randrange(31_536_000) for _ in range(fresh // 100)]
        new = list(_filed(sorted(late), end))
        if readings:
            new.append(_segment("daily", [end - hours * 3_600_000_000, end - 1_000_000], fresh, end))
        came += sum(segment.rows for segment in new)
        written += sum(segment.rows for segment in new)
        manifest = added(manifest, new, str(number), end, end, "") or manifest
        manifest, merged = _compacted(manifest, now, end)
        written += merged
        most = max(most, sum(segment.end <= to_micros(NEXT_YEAR) for segment in manifest.segments))
    return written, came, most


def _compacted(manifest: Manifest, now: datetime, through: int) -> tuple[Manifest, int]:
    """What merges leave, and the rows that they wrote."""
    written = 0
    while merges := plan(manifest, LADDER, now, through):
        for merge in merges:
            output = _merged(merge)
            written += output.rows
            manifest = swapped(manifest, [segment.key for segment in merge.inputs], output, through, "") or manifest
    return manifest, written


def _filed(times: list[int], end: int) -> Iterator[Segment]:
    """Rows as a commit writes them: a segment a period of the finest tier that takes few."""
    tier = first_tier(LADDER, {from_micros(time) for time in times}).name
    periods: dict[object, list[int]] = {}
    for time in times:
        periods.setdefault(tier_period(LADDER, tier, from_micros(time)), []).append(time)
    for found in periods.values():
        yield _segment(tier, found, len(found), end)


def _segment(tier: str, times: list[int], rows: int, end: int) -> Segment:
    period = tier_period(LADDER, tier, from_micros(times[0]))
    key = f"{tier} {times[0]} {end} {rows}"
    return Segment(key, tier, to_micros(period.start), to_micros(period.end), rows, rows, times[0], times[-1], end, 0, 0, "")


def _merged(merge: Merge) -> Segment:
    first, last = min(segment.first for segment in merge.inputs), max(segment.last for segment in merge.inputs)
    made = _segment(merge.tier, [first, last], merge.rows, max(segment.window_end for segment in merge.inputs))
    return replace(made, key="+".join(segment.key for segment in merge.inputs)[-200:] + f" {merge.rows} {len(merge.inputs)}")
