"""Revisions in any order of arrival: the newest wins everywhere, through batches, crashes, exports, expiry and compaction."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tesseract.config.tiers import UNITS
from tesseract.errors import ConditionFailed, Throttled
from tesseract.ingestion.writer import FRESH, Writer
from tesseract.model import Change, RawImage, Record
from tesseract.processing.aggregator import fold, identity
from tesseract.processing.changes import decode_batch
from tesseract.processing.live import Facts, apply
from tesseract.processing.live_item import LiveItem
from tesseract.processing.publisher import sizes
from tesseract.processing.segments import RAW, REVISIONS, VALID_TIME
from tesseract.storage import segment_reader
from tesseract.storage.columns import DELETED, TIMESTAMP, WRITE_TIME
from tesseract.storage.dynamodb import DynamoTable
from tesseract.storage.items import history_item, raw_item
from tesseract.storage.keys import history_key, history_valid_time, is_history, latest_key, live_key, raw_key
from tesseract.storage.memory import MemoryTable
from tesseract.storage.newest import HISTORY, Order, newest
from tesseract.storage.revisions import last_puts, put_condition
from tesseract.storage.revisions import newest as newest_record
from tesseract.storage.wire import WireError
from tesseract.utils.time_utils import from_micros, iso_micros, to_micros, utc_now
from tests.support.archive_world import weather
from tests.support.revisions_world import HOUR, KEYS, LATE, REFS, START, World, record

# laws -------------------------------------------------------------------------------------------------------------------

places = st.integers(0, len(KEYS) - 1)
refs, values = st.integers(0, len(REFS) - 1), st.integers(1, 9)
STEPS = {
    "write": st.tuples(st.lists(st.tuples(places, refs, values), min_size=1, max_size=6), st.lists(places, max_size=2)),
    "crash": st.tuples(places, st.lists(st.tuples(refs, values), min_size=1, max_size=3), st.sampled_from(["before", "after"])),
    "delete": places,
    "open": st.none(),
    "work": st.integers(0, 9),
    "compact": st.none(),
    "snapshot": st.none(),
    "poll": st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(0, 3)),
    "pass": st.sampled_from([1, 30, 70, 240]),
}
FREQUENT = ["write", "write", "delete", "work", *STEPS]
steps = st.sampled_from(FREQUENT).flatmap(lambda name: st.tuples(st.just(name), STEPS[name]))
ARCHIVE = [("open", None), ("work", 0), ("work", 0)]
OLDER_AFTER_EXPIRY = [("write", ([(4, 2, 5)], [])), *ARCHIVE, ("pass", 70), ("write", ([(4, 1, 7)], []))]
DELETED_THEN_OLDER = [("write", ([(4, 2, 5)], [])), *ARCHIVE, ("delete", 4), *ARCHIVE, ("compact", None), ("pass", 70)]
LATEST_DELETED_THEN_OLDER = [("write", ([(4, 1, 3), (5, 2, 5)], [])), ("delete", 5), ("pass", 30), *ARCHIVE, ("pass", 70)]
LATEST_DELETED_BELOW_AN_EXPIRED_ONE = [
    ("write", ([(4, 1, 3), (5, 1, 5)], [])), *ARCHIVE, ("pass", 70),
    ("write", ([(4, 1, 4), (6, 1, 6)], [])), ("pass", 30), ("delete", 6),
]  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["last_write", "latest_ref", "all"]), st.lists(steps, max_size=22))
@example("latest_ref", OLDER_AFTER_EXPIRY)
@example("all", [*OLDER_AFTER_EXPIRY, ("delete", 4), *ARCHIVE, ("compact", None), ("pass", 240)])
@example("last_write", LATEST_DELETED_BELOW_AN_EXPIRED_ONE)
@example("latest_ref", [*DELETED_THEN_OLDER, ("write", ([(4, 1, 7)], []))])
@example("latest_ref", [*LATEST_DELETED_THEN_OLDER, ("write", ([(5, 1, 7)], []))])
def test_the_newest_revision_wins_whatever_the_order_of_arrival(revisions, plan):
    world = World(revisions)
    for name, argument in plan:
        world.step(name, argument)
        world.check()
    world.check_streams()
    world.finish_archive()
    world.snapshot()
    world.check()
    world.check_streams()
    world.step("pass", 240)
    world.finish_archive()
    world.compact()
    world.snapshot()
    world.expire_archived()
    assert not list(world.raw.items())
    world.check()
    world.check_streams()
    if revisions == "all":
        world.check_history()
    else:
        assert world.catalog.groups("weather", REVISIONS) == []


ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.none() | st.integers(0, 3), st.none() | st.integers(0, 3), st.integers(0, 99)), max_size=12
)


@settings(max_examples=200, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=4), st.sampled_from([("ref_time", WRITE_TIME), (WRITE_TIME,)]), st.booleans())
def test_the_newest_row_of_each_key_is_that_of_a_sort_by_hand(parts, age, history):
    order = HISTORY if history else Order(("valid_time",), age)
    names = ["valid_time", "ref_time", WRITE_TIME, "x"]
    tables = [
        pa.table(
            {n: pa.array(column, pa.int64() if n == "x" else TIMESTAMP) for n, column in zip(names, _columns(part), strict=True)}
        )
        for part in parts
    ]
    table, below = newest(tables, order)
    best, seen = {}, {}
    for row in (dict(zip(names, row, strict=True)) for part in parts for row in part):
        key = tuple(-1 if row[name] is None else row[name] for name in order.key)
        rank = [(9 if name == WRITE_TIME else -1) if row[name] is None else row[name] for name in order.age]
        seen[key] = seen.get(key, 0) + 1
        if key not in best or rank >= best[key][0]:
            best[key] = (rank, row["x"])
    assert table["x"].to_pylist() == [best[key][1] for key in sorted(best)]
    assert below.to_pylist() == [seen[key] > 1 for key in sorted(best)]


def _columns(rows):
    return [list(column) for column in zip(*rows, strict=True)] or [[], [], [], []]


@given(st.lists(st.tuples(refs, values), min_size=1, max_size=8), st.sampled_from(["last_write", "latest_ref", "all"]))
def test_conditional_puts_leave_what_the_order_of_records_says(puts, revisions):
    dataset = weather(revisions=revisions)
    records = [record(0, *put) for put in puts]
    assert newest_record(dataset, records) == newest_record(dataset, [newest_record(dataset, records[:-1] or records), records[-1]])
    if dataset.by_ref_time:
        table = MemoryTable()
        for one in records:
            try:
                table.put(raw_item(dataset, one, START), put_condition(one))
            except ConditionFailed:
                continue
        assert table.get(raw_key("weather", "A", KEYS[0])) == raw_item(dataset, newest_record(dataset, records), START)
    kept = {one.ref_time: one for one in records}
    assert last_puts(records) == list(kept.values())


# writing ----------------------------------------------------------------------------------------------------------------


def test_a_record_that_is_older_than_the_one_there_is_accepted_and_counted():
    world = World("latest_ref")
    world.write([record(0, 2, 5)])
    world.write([record(0, 1, 7), record(0, 0, 8), record(1, 1, 1)])
    assert {item["fields"]["temp"] for item in world.raw.items()} == {5, 1}
    assert world.writer.counts == {"attempts": 2, "superseded": 1}
    world.write([record(0, 2, 6)])  # of equal ref times the later put wins: a correction
    assert world.raw.get(raw_key("weather", "A", KEYS[0]))["fields"] == {"temp": 6}


@pytest.mark.parametrize("revisions", ["last_write", "latest_ref", "all"])
def test_what_stays_throttled_is_reported_with_all_records_of_its_key(revisions):
    world = World(revisions)
    world.raw.throttled = [iso_micros(KEYS[0])] * 99

    class Clock:
        calls = 0

        def __call__(self):
            self.calls += 1
            return world.now + timedelta(seconds=self.calls)

    writer = Writer(world.raw, world.backend.live, Clock())
    records = [record(0, 1, 1), record(1, 1, 2), record(0, 2, 3)]
    assert writer.write(world.dataset, enumerate(records), world.now + timedelta(seconds=9)) == [0, 2]
    assert [item["sk"] for item in world.raw.items() if not is_history(item["sk"])] == [iso_micros(KEYS[1])]
    assert writer.counts["attempts"] > 1


@pytest.mark.parametrize("revisions", ["last_write", "latest_ref", "all"])
def test_nothing_is_sent_later_than_two_minutes_after_its_mark_and_expiry_on_any_road(revisions):
    world = World(revisions)
    world.write([record(place, 1, 1) for place in range(7)])  # the deadline is 15 minutes away
    assert set(world.raw.untils) == {world.now + FRESH}
    marks = {item["sk"] for item in world.backend.live.items() if item["pk"].endswith("#days")}
    assert marks == {"2023-08-05"}


def test_revisions_are_kept_before_any_becomes_current():
    world = World("all")
    world.write([record(0, 1, 1), record(0, 2, 2), record(0, 1, 3)], crash="before")
    kept = {item["sk"]: item["fields"]["temp"] for item in world.raw.items()}
    assert kept == {history_key("weather", "A", KEYS[0], REFS[1])[1]: 3, history_key("weather", "A", KEYS[0], REFS[2])[1]: 2}
    world.write([record(0, 1, 1), record(0, 2, 2), record(0, 1, 3)])
    assert len(list(world.raw.items())) == 3


def test_a_revision_kept_has_a_key_of_its_own_behind_the_current_items_of_its_day():
    dataset = weather(revisions="all")
    for ref in REFS:
        one = Record("A", KEYS[0], ref, {"temp": Decimal("1.5")})
        item, current = history_item(dataset, one, START), raw_item(dataset, one, START)
        assert {**item, "sk": ""} == {**current, "sk": ""}
        assert is_history(item["sk"])
        assert not is_history(current["sk"])
        assert item["sk"] > "9999-12-31T23:59:59.999999Z"
        assert history_valid_time(item["sk"]) == KEYS[0]


def test_of_writers_at_once_the_newest_ref_time_wins():
    world = World("latest_ref")
    moments = [REFS[1] + index * 7 % 16 * HOUR for index in range(16)]
    write = lambda ref: world.writer.write(
        world.dataset, [(0, Record("A", KEYS[0], ref, {"temp": ref.hour}))], world.now + timedelta(seconds=20)
    )
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(write, moments)) == [[]] * 16
    assert world.raw.get(raw_key("weather", "A", KEYS[0]))["ref_time"] == iso_micros(max(moments))


class Wire:
    """Answers of DynamoDB, in order: an error's code, or items to be handed back."""

    def __init__(self, *answers):
        self.answers, self.sent = list(answers), 0

    def call(self, operation, payload, until=None, form=None):
        self.sent += 1
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, str):
            raise WireError(answer, "")
        requests = payload.get("RequestItems", {}).get("raw", [])
        return {"UnprocessedItems": {"raw": requests[:answer]} if answer else {}}


def test_throttling_is_sat_out_until_the_deadline_and_counted():
    item, slow = {"pk": "a", "sk": "1"}, "ProvisionedThroughputExceededException"
    soon = lambda seconds: utc_now() + timedelta(seconds=seconds)
    wire = Wire(slow, slow)
    table = DynamoTable(wire, "raw")
    table.put(item, None, soon(30))
    assert (wire.sent, table.counters.read()) == (3, {"throttled": 2})
    with pytest.raises(ConditionFailed):
        DynamoTable(Wire("ConditionalCheckFailedException"), "raw").put(item, None, soon(30))
    wire = Wire(*[slow] * 1000)
    with pytest.raises(Throttled, match="is over"):
        DynamoTable(wire, "raw").put(item, None, soon(0.05))
    late = Wire()
    with pytest.raises(Throttled):
        DynamoTable(late, "raw").put(item, None, soon(-1))
    assert DynamoTable(late, "raw").put_many([item], soon(-1)) == [item]
    assert late.sent == 0
    table = DynamoTable(Wire(2, slow, 1), "raw")
    assert table.put_many([item | {"sk": str(number)} for number in range(3)], soon(30)) == []
    assert table.counters.read() == {"unprocessed": 3, "throttled": 1}


# streams ----------------------------------------------------------------------------------------------------------------


def test_streams_never_see_the_revisions_kept():
    world = World("all")
    world.write([record(0, 1, 1), record(0, 2, 2)])
    seen = [change for shard in world.raw.shards for change in decode_batch({"Records": shard}).changes]
    assert [(change.time, change.new.fields) for change in seen] == [(iso_micros(KEYS[0]), {"temp": 2})]
    assert sum(map(len, world.raw.shards)) == 3
    assert not [batch for shard in world.raw.shards if (batch := decode_batch({"Records": shard}).poison)]


def test_an_older_revision_after_expiry_makes_latest_stale_and_readers_know_the_newer():
    world = World("latest_ref")
    for name, argument in OLDER_AFTER_EXPIRY[:-1]:
        world.step(name, argument)
    world.drain()
    world.write([record(4, 1, 7)])
    world.drain()
    item = world.backend.live.get(latest_key("weather", "A"))
    assert item["stale"]
    assert item["valid_time"] == iso_micros(LATE)
    assert world.store.latest("weather", "A")[0]["temp"] == 5.0


def test_under_ref_time_order_nothing_is_folded_once_something_may_have_expired():
    dataset = weather(revisions="latest_ref")
    level = dataset.levels[0]
    unit, key = UNITS["hourly"], live_key("weather", "A", UNITS["hourly"], LATE)
    safe = int(START.timestamp())

    def applied(seconds, old, new, by_ref=True):
        own = dataset if by_ref else weather()
        item = LiveItem(*key, state=fold(identity(), {"temp": 5}, 0), version=1, applied="s/" + "1".zfill(40), safe_until=safe)
        now = from_micros((safe + seconds) * 1_000_000)
        change = Change("weather", "A", iso_micros(LATE), to_micros(LATE), "2", "s/" + "2".zfill(40), safe + seconds, old, new)
        return apply(item, key, [change], Facts(own, level, now, lambda period: True)).item

    image = RawImage({"temp": 5}, None, False, safe + 9, 1)
    grave = RawImage({}, None, True, safe - 9, 1)
    assert unit.floor(LATE) == LATE
    assert applied(-1, image, image).stale_at is None
    assert applied(0, image, image).stale_at  # equal values: the image may be of an older revision than one that expired
    assert applied(0, image, image, by_ref=False).stale_at is None
    assert applied(-10, None, grave).safe_until == safe - 9  # when the tombstone has expired, an older revision comes as new
    assert applied(-10, None, grave, by_ref=False).safe_until == safe


# archive ----------------------------------------------------------------------------------------------------------------


def test_tombstones_stay_in_the_archive_under_ref_time_order_and_go_under_write_time_order():
    for revisions, left in (("last_write", 0), ("latest_ref", 1)):
        world = World(revisions)
        for name, argument in DELETED_THEN_OLDER:
            world.step(name, argument)
        segments = world.catalog.manifest("weather", RAW, "A").segments
        rows = [row for s in segments for row in segment_reader.read(world.backend.objects, s, VALID_TIME)[DELETED].to_pylist()]
        assert rows == [True] * left
        assert world.archived("A") == ({to_micros(LATE): None} if left else {})


def test_revisions_kept_lie_in_a_partition_of_their_own_and_are_compacted_each_once():
    world = World("all")
    for value in (1, 2):
        world.write([record(4, ref, value * ref) for ref in (1, 2, 3)])
        world.finish_archive()
    world.compact()
    (segment,) = world.catalog.manifest("weather", REVISIONS, "A").segments
    assert (segment.tier, segment.rows) == ("yearly", 3)
    assert "/level=revisions/" in segment.key
    rows = segment_reader.read(world.backend.objects, segment, VALID_TIME).to_pylist()
    assert [(row["ref_time"], row["temp"]) for row in rows] == [(REFS[ref], 2.0 * ref) for ref in (1, 2, 3)]
    assert world.archived("A") == {to_micros(LATE): {"temp": 6.0}}
    assert {size.level for size in sizes(world.catalog, world.dataset)} == {RAW, REVISIONS}
