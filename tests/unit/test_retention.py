"""Retention: what is past goes, nothing else does, and no level is computed from what is left of its rows."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from archive import garbage
from tesseract.config import retention as rule
from tesseract.config.dataset import Dataset, Level
from tesseract.config.manager import apply
from tesseract.config.manager import plan as changed
from tesseract.config.schema import parse
from tesseract.config.tiers import DEFAULT_LADDER, UNITS, tier_period
from tesseract.errors import ConfigError, InputError
from tesseract.ingestion.tombstones import Rows, tombstones
from tesseract.ingestion.validators import Validator
from tesseract.model import Manifest, Segment
from tesseract.processing import audit, closing, erase_items, gc, rebuild, retention
from tesseract.processing.archive_stage import ArchiveStage
from tesseract.processing.backfill_runs import Unit
from tesseract.processing.backfill_units import Units
from tesseract.processing.erase import Subject
from tesseract.processing.marking import mark
from tesseract.processing.segments import RAW
from tesseract.processing.verify import partitions_of, verify
from tesseract.processing.worklist import entries
from tesseract.storage import keys
from tesseract.storage.memory import MemoryObjects
from tesseract.utils.time_utils import from_micros, iso_seconds, to_micros
from tests.support import level_world
from tests.support.archive_world import weather
from tests.support.keeping_world import ClockedObjects
from tests.support.level_world import ALL, DAY, HOUR, plant

TWO = ("daily", "monthly")
LADDERS = [DEFAULT_LADDER, ("daily", "weekly", "monthly"), ("monthly", "quarterly", "yearly"), ("daily", "yearly"), ("weekly",)]
SPANS = st.sampled_from(["P1D", "P30D", "P90D", "P1M", "P3M", "P1Y", "P18M", "P2Y", "P5Y", "P400D", "P1Y2M1W"])
MOMENTS = st.integers(to_micros(datetime(2019, 1, 1, tzinfo=UTC)), to_micros(datetime(2025, 1, 1, tzinfo=UTC)))


# arithmetic ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "span", "wanted"),
    [
        ("2024-03-31T23:00:00", "P1M", "2024-02-29"), ("2023-03-31T01:00:00", "P1M", "2023-02-28"),
        ("2024-02-29", "P1Y", "2023-02-28"),
        ("2024-01-01", "P1Y", "2023-01-01"), ("2024-12-31", "P90D", "2024-10-02"), ("2024-05-15", "P1Y1M1W1D", "2023-04-07"),
        ("2024-05-15", "P99999Y", "0001-01-01"), ("2024-05-15", "P1W", "2024-05-08"), ("2024-05-15", "P99999W99999D", "0001-01-01"),
    ],
)  # fmt: skip
def test_a_duration_is_counted_by_the_calendar(moment: str, span: str, wanted: str) -> None:
    found = rule.before(datetime.fromisoformat(moment).replace(tzinfo=UTC), span)
    assert found == datetime.fromisoformat(wanted).replace(tzinfo=UTC)


@given(MOMENTS, st.integers(0, 40 * 86_400_000_000), SPANS)
def test_what_is_past_stays_past(moment: int, later: int, span: str) -> None:
    assert rule.before(from_micros(moment), span) <= rule.before(from_micros(moment + later), span)


# the plan -----------------------------------------------------------------------------------------------------------------


@st.composite
def limits(draw: st.DrawFn, ladder: tuple[str, ...]) -> dict[str, str]:
    """A level's limits that can be meant."""
    tiers = draw(SPANS.map(lambda span: {"*": span}) | st.dictionaries(st.sampled_from([*ladder, "*"]), SPANS))
    assume(not rule.too_short(tiers, ladder))
    return tiers


@st.composite
def manifests(draw: st.DrawFn, ladder: tuple[str, ...]) -> Manifest:
    """Segments of any tier with rows anywhere in their period."""
    segments = []
    for number in range(draw(st.integers(0, 12))):
        tier, at = draw(st.sampled_from(ladder)), draw(MOMENTS)
        period = tier_period(ladder, tier, from_micros(at))
        start, end = map(to_micros, period)
        last = draw(st.integers(at, end - 1))
        window = draw(st.integers(last, last + 90 * 86_400_000_000))
        segments.append(Segment(f"k{number}", tier, start, end, 1, 1, at, last, window, 0, 0, ""))
    return Manifest("weather", RAW, "A", 3, tuple(segments))


def bound(span: str, through: int) -> int:
    """No segment that ends after it is retired."""
    return to_micros(rule.before(from_micros(through) - rule.RETIRED, span))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_nothing_that_is_kept_is_retired_and_who_computes_from_raw_rows_knows(data: st.DataObject) -> None:
    ladder = data.draw(st.sampled_from(LADDERS))
    dataset = weather(ladder=ladder, retention={RAW: data.draw(limits(ladder))})
    manifest, through = data.draw(manifests(ladder)), data.draw(MOMENTS)
    gone = retention.plan(manifest, dataset, through)
    kept = [segment for segment in manifest.segments if segment not in gone]
    longest = rule.longest(dataset, RAW)
    for segment in gone:
        assert segment.window_end <= through
        assert longest is not None
        assert segment.last < to_micros(rule.before(from_micros(through), longest))
        assert segment.end <= bound(longest, through) <= rule.rows_kept_from(dataset, RAW, through)
        assert all(other.end <= segment.start or segment.end <= other.start for other in kept)
    left = retention.without(manifest, dataset, through)
    assert (left is None) == (not gone)
    if left is not None:
        assert (list(left.segments), left.applied) == (kept, manifest.applied)
        assert retention.without(left, dataset, through) is None
    later = data.draw(st.integers(through, to_micros(datetime(2030, 1, 1, tzinfo=UTC))))
    assert {segment.key for segment in gone} <= {segment.key for segment in retention.plan(manifest, dataset, later)}


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_a_change_of_the_setting_forgets_nothing_of_what_was_removed(data: st.DataObject) -> None:
    """Whatever is applied when: what any version retired is known to lie where nothing is computed, and nothing is taken there."""
    moment = data.draw(MOMENTS)
    versions: list[Dataset] = []
    bounds = [rule.NEVER]
    for _ in range(data.draw(st.integers(1, 5))):
        ladder = data.draw(st.sampled_from(LADDERS))
        wanted = parse("datasets: {d: {}}")["d"]
        wanted = replace(wanted, ladder=ladder, retention=data.draw(st.just({}) | limits(ladder).map(lambda tiers: {RAW: tiers})))
        found = changed(versions, wanted, from_micros(moment)).dataset
        if not versions or found.version > versions[-1].version:
            versions.append(replace(found, applied_at=moment))
        dataset, applied = versions[-1], moment
        assert max(bounds) <= rule.rows_kept_from(dataset, RAW, moment)
        for step in sorted(data.draw(st.lists(st.integers(0, 60 * 86_400_000_000), max_size=4))):
            through = applied + step
            first = rule.rows_kept_from(dataset, RAW, through)
            assert max(bounds) <= first
            span = rule.longest(dataset, RAW)
            if span and from_micros(through) - rule.RETIRED > rule.since(dataset):
                bounds.append(bound(span, through))
            assert max(bounds) <= first
            oldest = rule.kept_from(dataset, from_micros(through))
            assert max(bounds) == rule.NEVER or (oldest is not None and max(bounds) <= to_micros(oldest))
            moment = through
        moment += data.draw(st.integers(0, 90 * 86_400_000_000))


# what is taken ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fast", [True, False])
def test_records_from_the_limit_on_are_taken_and_no_older_one(fast: bool) -> None:
    dataset = weather(retention={RAW: {"*": "P1Y"}})
    validator, now = Validator(dataset), datetime(2024, 3, 1, 15, tzinfo=UTC)
    if not fast:
        validator._fast = None
    times = ["2023-02-28T23:59:59.999999Z", "2023-03-01T00:00:00Z", "1970-01-01T00:00:00Z", "2024-03-01T00:00:00Z"]
    decoded = validator.decode([f'{{"station": "A", "time": "{time}"}}'.encode() for time in times], now)
    assert [index for index, _ in decoded.records] == [1, 3]
    assert [why.index for why in decoded.rejected] == [0, 2]
    first = decoded.rejected[0]
    assert (first.field, first.reason) == ("time", "older than 2023-03-01T00:00:00Z: retention.raw takes nothing that is")
    assert first.hint == "lies 366 days back; what is so old is removed, or has been: see retention"
    assert len(Validator(weather()).decode([f'{{"station": "A", "time": "{times[2]}"}}'.encode()], now).records) == 1


def test_rows_past_retention_are_deleted_by_an_erasure_alone() -> None:
    dataset, now = weather(retention={RAW: {"*": "P1Y"}}), datetime(2024, 3, 1, 15, tzinfo=UTC)
    old, new = to_micros(datetime(2023, 2, 1, tzinfo=UTC)), to_micros(datetime(2023, 3, 1, tzinfo=UTC))
    assert len(tombstones(dataset, Rows(["A"], [(new, None)]), now)) == 1
    with pytest.raises(InputError, match=r"rows before 2023-03-01T00:00:00Z are past retention\.raw"):
        tombstones(dataset, Rows(["A"], [(new, None), (old, None)]), now)
    assert len(tombstones(dataset, Rows(["A"], [(new, None), (old, None)], erase=True), now)) == 2


# what the setting says ----------------------------------------------------------------------------------------------------


def test_a_limit_that_takes_rows_on_their_way_is_refused() -> None:
    text = "datasets: {{d: {{retention: {{raw: {}}}}}}}"
    for fine in (
        "P10D",
        "{daily: P1M, yearly: P5Y}",
        "{daily: P31D}",
        "{monthly: P1Y}",
        "{'*': P366D, yearly: P5Y}",
        "{yearly: P1D}",
    ):
        parse(text.format(fine))
    for wrong, tier in (("{daily: P30D}", "monthly"), ("{monthly: P365D}", "yearly"), ("{'*': P90D, yearly: P5Y}", "yearly")):
        with pytest.raises(ConfigError, match=f"would be removed before they come to the {tier} tier"):
            parse(text.format(wrong))


def test_what_weeks_and_months_are_merged_from_outlasts_the_raw_rows() -> None:
    text = "datasets: {{d: {{aggregations: {{daily: [avg], monthly: [avg]}}, retention: {}}}}}"
    for fine in ("{raw: P1Y}", "{raw: P1Y, daily: P13M}", "{raw: P90D, daily: P4M, monthly: P1Y}", "{monthly: P1Y}"):
        parse(text.format(fine))
    for wrong in ("{daily: P10Y}", "{raw: P1Y, daily: P1Y}", "{raw: P90D, daily: P3M}"):
        with pytest.raises(ConfigError, match="monthly are merged from it: keep it for ever, or a month longer than raw"):
            parse(text.format(wrong))


def test_the_plan_says_what_goes_when_and_that_it_does_not_come_back() -> None:
    old, now = replace(weather(), version=1), datetime(2024, 3, 1, tzinfo=UTC)
    one = replace(old, retention={RAW: {"*": "P1Y"}, "hourly": {"yearly": "P5Y"}})
    (change,) = changed([old], one, now).changes
    assert change.verdict == "compatible"
    assert change.why == (
        "hourly data older than P5Y and raw data older than P1Y are removed for good, by whole files, 14 days after "
        "this is applied at the earliest; records older than P1Y are refused at once"
    )
    (change,) = changed([one], replace(old, retention={RAW: {"*": "P2Y"}, "hourly": {"yearly": "P5Y"}}), now).changes
    assert change.why == "what is there is kept for longer, what has been removed does not come back"


# a life -------------------------------------------------------------------------------------------------------------------


class World(level_world.World):
    """A stage whose objects are as old as its clock says. Nothing older than its dataset takes is ever put."""

    def bucket(self) -> MemoryObjects:
        return ClockedObjects(lambda: self.now)

    def live(self, seed: random.Random, days: int = 3) -> None:
        """Days pass: a few records of each, corrections and deletes of whatever is still taken, then everything that timers do."""
        for _ in range(days):
            self.pass_time(DAY)
            for _ in range(2):
                self.put("A", self.now - seed.randrange(24) * HOUR, {"i": seed.randrange(90), "f": seed.randrange(9)})
            self.drain()
        oldest = rule.kept_from(self.dataset, self.now)
        taken = [at for _, at in self.written if oldest is None or at >= oldest]
        for at in seed.sample(taken, min(3, len(taken))):
            gone = seed.random() < 0.4
            self.put("A", at, {} if gone else {"i": seed.randrange(90)}, gone)
        self.drain()
        self.archive()
        closing.run(self.backend, self.catalog, self.now)
        if seed.random() < 0.6:
            self.compact(whole=False)

    def retire(self) -> retention.Retired:
        return retention.retire(self.catalog, [self.dataset], self.now)["weather"]

    def raw_times(self, as_of: datetime | None = None) -> list[datetime]:
        return self.store.query("weather", "A", as_of=as_of)["valid_time"].to_pylist()

    def check_levels(self) -> None:
        for level in self.dataset.levels:
            self.check_level(level.name, "A", datetime(2024, 1, 1, tzinfo=UTC), self.now)


def test_levels_stay_right_while_their_raw_rows_go() -> None:
    chance, week = random.Random(7), {RAW: {"*": "P7D"}}
    world = World(plant("hourly", "daily", "monthly", retention=week, history="P3D", ladder=TWO))
    named: dict[str, datetime] = {}  # objects that were retired, and when
    before: tuple[datetime, list[datetime]] | None = None  # the last moment before the last retirement, and the rows of then
    for _ in range(16):
        world.live(chance, 2)
        moment, rows = world.now, world.raw_times()
        segments = {segment.key for segment in world.catalog.manifest("weather", RAW, "A").segments}
        world.now += timedelta(seconds=1)
        done = world.retire()
        assert world.retire() == retention.Retired()
        gone = segments - {segment.key for segment in world.catalog.manifest("weather", RAW, "A").segments}
        assert len(gone) == done.segments
        named |= dict.fromkeys(gone, world.now)
        before = (moment, rows) if gone else before
        oldest = rule.kept_from(world.dataset, world.now)
        assert oldest is not None
        assert [at for at in world.raw_times() if at >= oldest] == sorted(at for _, at in world.written if at >= oldest)
        gc.collect(world.catalog, world.backend.objects, [world.dataset], world.now)
        there = {info.key for info in world.backend.objects.list("archive/")}
        for key, since in named.items():
            assert (key in there) or world.now - since > 3 * DAY, "history has it"
            assert (key not in there) or world.now - since <= 3 * DAY + 2 * gc.GRACE + 2 * DAY
        if before and world.now - before[0] < 2 * DAY:  # what was in the archive then is there still, as it was
            assert set(world.raw_times(before[0])) >= {at for at in before[1] if at < world.now - 10 * DAY}
    assert len(named) > 3
    assert min(world.raw_times()) > min(at for _, at in world.written)
    world.check_levels()
    assert not verify(world.catalog, world.backend.objects, [world.dataset], world.now).damaged


def past(**changes: Any) -> World:
    """A stage whose rows of three days are past their retention, and not yet retired."""
    world = World(plant("hourly", "daily", retention={RAW: {"*": "P7D"}}, **changes))
    for day in range(3):
        for hour in (1, 5, 6):
            world.put("A", world.now - day * DAY + hour * HOUR, {"i": day + hour, "f": hour})
    world.drain()
    world.settle()
    world.drain()  # what the buffer forgets is a change of the stream, too
    world.pass_time(24 * DAY)
    world.put("A", world.now - HOUR, {"i": 1})
    close(world)
    return world


def close(world: World) -> closing.Outcome:
    world.drain()
    world.pass_time(timedelta(minutes=1))
    world.archive()
    return closing.run(world.backend, world.catalog, world.now)


def test_what_is_past_is_never_computed_from_what_is_left() -> None:
    world = past()
    before = world.now
    assert len(world.raw_times()) == 10
    world.now += timedelta(seconds=1)
    assert world.retire().rows == 9
    assert len(world.raw_times()) == 1
    assert len(world.raw_times(before)) == 10, "a former state"
    world.check_levels()
    hour, old = world.dataset.levels[0], datetime(2024, 3, 1, 5, tzinfo=UTC)
    key = keys.live_key("weather", "A", UNITS["hourly"], old)
    # marked stale by anything at all: it is dropped, and its row stays
    mark(world.backend.live, key, hour, world.now)
    world.put("A", world.now, {"i": 5})
    assert close(world).repairs.dropped >= 1
    assert not list(entries(world.backend.live))
    world.check_levels()
    # a record that came by a road of its own
    world.put("A", old + timedelta(minutes=1), {"i": 77})
    world.written.pop(("A", old + timedelta(minutes=1)))
    close(world)
    world.check_levels()
    # an audit
    stage = audit.Stage(world.backend, world.catalog, world.dataset, audit.Queries(lambda group: None, lambda group, item: None))
    report = audit.run(stage, ["A"], world.dataset.levels, audit.Sample(audit.share_of("100%"), "s"), lambda: None, latest=False)
    assert (report.different, report.stale) == (0, 0)
    assert report.compared > 0
    # a rebuild
    marks = rebuild.run(
        world.backend, world.catalog, world.dataset, "A", world.dataset.levels, rebuild.Span(), lambda span: [], lambda: world.now
    )
    assert from_micros(marks.first) == rule.before(from_micros(world.catalog.progress().snapshot_through) - rule.TRAVEL, "P7D")
    assert all(sk >= iso_seconds(from_micros(marks.first)) for found in marks.keys.values() for _, sk in found)
    # a field that the level got later: what is behind it cannot be computed any more
    later = tuple(replace(level, since={"f": to_micros(world.now)}) for level in world.dataset.levels)
    rows = world.store.query("weather", "A", level="hourly").num_rows
    world.catalog.put_dataset(replace(world.dataset, version=2, levels=later), world.now)
    world.now += timedelta(minutes=2)
    assert world.store.query("weather", "A", end=old + DAY, level="hourly")["rows"].to_pylist() == [1] * 9
    assert world.store.query("weather", "A", level="hourly").num_rows == rows


def test_the_daily_run_retires_first_and_a_dry_run_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    world = past()
    monkeypatch.setattr(garbage, "archive_stage", lambda: ArchiveStage(world.backend, world.catalog, world.exports))
    monkeypatch.setattr(garbage, "utc_now", lambda: world.now)
    versions = [
        world.catalog.manifest("weather", part.level, part.name).version for part in partitions_of(world.catalog, world.dataset)
    ]
    dry = garbage.handler({"dry_run": True}, None)["removed"]
    assert versions == [
        world.catalog.manifest("weather", part.level, part.name).version for part in partitions_of(world.catalog, world.dataset)
    ]
    assert [one["rows"] for one in dry] == [9]
    assert garbage.handler({}, None)["removed"][0]["retired"] == dry[0]["retired"] > 0
    assert world.catalog.manifest("weather", RAW, "A").operation == f"retire {dry[0]['retired']} segments, 9 rows"
    assert garbage.handler({}, None)["removed"][0]["retired"] == 0


def test_a_shorter_limit_waits_two_weeks_and_a_longer_one_lets_nothing_back() -> None:
    world = past()
    world.dataset = apply(world.catalog, replace(world.dataset, retention={RAW: {"*": "P3D"}}), world.now).dataset
    assert world.retire() == retention.Retired(), "it was applied just now"
    world.dataset = apply(world.catalog, replace(world.dataset, retention={}), world.now + DAY).dataset
    assert world.dataset.removed == {RAW: to_micros(rule.before(world.now, "P7D"))}, "what the first one may have removed"
    assert rule.kept_from(world.dataset, world.now + 9999 * DAY) == rule.before(world.now, "P7D")


def test_levels_have_a_limit_of_their_own() -> None:
    world = past()
    world.dataset = replace(
        world.dataset, version=2, retention={"hourly": {"*": "P7D"}}, levels=(*world.dataset.levels, Level("monthly", dict(ALL)))
    )
    world.catalog.put_dataset(world.dataset, world.now)
    assert world.retire().rows == 9
    world.now += timedelta(minutes=2)
    assert world.store.query("weather", "A", level="hourly").num_rows == 1
    assert len(world.raw_times()) == 10
    assert sum(world.store.query("weather", "A", level="monthly")["rows"].to_pylist()) == 10


def test_an_erasure_takes_the_items_of_periods_that_nobody_computes_any_more() -> None:
    world = past()
    start, first = datetime(2024, 3, 1, 5, tzinfo=UTC), to_micros(datetime(2024, 3, 1, 5, 30, tzinfo=UTC))
    items = lambda: {item["sk"] for item in world.backend.live.query(keys.live_pk("weather", "A", "hourly"))}
    before = items()
    subject = Subject(world.dataset, "A", to_micros(world.now), first, first + 1)
    assert erase_items.remove_live(world.backend, world.catalog, subject) == 2, "the hour, and its day"
    assert before - items() == {iso_seconds(start)}


def test_a_month_is_not_merged_from_what_is_left_of_its_days() -> None:
    world = past()
    levels = (*world.dataset.levels, Level("monthly", dict(ALL)))
    world.dataset = replace(world.dataset, version=2, retention={RAW: {"*": "P7D"}, "daily": {"*": "P7D"}}, levels=levels)
    world.catalog.put_dataset(world.dataset, world.now)
    world.now += timedelta(minutes=2)
    assert world.retire().rows > 9
    assert world.store.query("weather", "A", level="daily")["rows"].to_pylist() == [1]
    assert world.store.query("weather", "A", level="monthly").num_rows == 0, "of March the last days are left"
    world.pass_time(3 * DAY)
    world.put("A", world.now, {"i": 1})
    close(world)
    assert not world.catalog.manifest("weather", "monthly", "A").segments


def test_a_backfill_that_retention_has_overtaken_writes_nothing(tmp_path: Path) -> None:
    world = past()
    writer = Units(world.backend, world.catalog, world.dataset, world.now, lambda: world.now, lambda lines: None, tmp_path)
    days = {"A": {(datetime(2024, 3, day, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).days for day in (2, 29)}}
    with pytest.raises(InputError, match=r"records of 2024-03-02 are past retention\.raw by now"):
        writer.take(Unit("A", 2024, tmp_path / "unit", 1, days))
    writer.close()
