"""Long answers in parts, first rows, dry runs, and what a query costs: each held against the same answer made at once."""

from __future__ import annotations

import threading
from datetime import timedelta
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tesseract.errors import BackendError, InputError, NotFoundError, RetryError, Throttled
from tesseract.query import scan
from tesseract.query.engine import Engine
from tesseract.query.plan import Range
from tesseract.query.scan import FEWEST, packed
from tesseract.query.source import Source
from tesseract.storage.keys import latest_key
from tesseract.utils.time_utils import to_micros
from tests.unit.query_world import DATASET, NOW, START, World, values

HOUR = timedelta(hours=1)


@pytest.fixture
def world() -> World:
    """Three groups: one in the archive with corrections in the buffer, one in both, one in the buffer alone."""
    world = World()
    written = NOW - timedelta(days=3)
    world.archive([(START + timedelta(minutes=i), values(i), False, written) for i in range(3000)])
    world.archive([(START + timedelta(minutes=3 * i), values(i + 7), i % 10 == 0, written + HOUR) for i in range(500)])
    world.archive([(START + timedelta(minutes=5 * i), values(i), False, written) for i in range(400)], "B")
    for group in ("B", "C"):
        for i in range(200):
            world.buffer(NOW - timedelta(minutes=200 - i), values(i), group=group)
        pk, sk = latest_key("w", group)
        world.backend.live.put({"pk": pk, "sk": sk, "stale": True})  # as the stream of changes makes it known
    world.buffer(START + timedelta(minutes=11), values(111), marked=NOW)
    world.progress(NOW - timedelta(hours=2))
    return world


ranges = st.tuples(st.integers(0, 10_000), st.integers(1, 5_000), st.integers(1, 200_000)).map(
    lambda found: (Range(found[0], found[0] + found[1]), found[2])
)


@given(
    sizes=st.dictionaries(st.sampled_from("abcdef"), st.lists(ranges, max_size=4), min_size=1),
    wanted=st.tuples(st.integers(0, 9_000), st.integers(1, 9_000)).map(lambda found: Range(found[0], sum(found))),
    rows=st.integers(1_000, 300_000),
    newest_first=st.booleans(),
    growth=st.integers(0, 9),
)
def test_parts_cover_each_group_exactly_in_order(sizes, wanted, rows, newest_first, growth):
    scaled = {group: [(Range(a * 10**9, b * 10**9), rows) for (a, b), rows in own] for group, own in sizes.items()}
    wanted = Range(wanted.start * 10**9, wanted.end * 10**9)
    found = list(packed(scaled, wanted, rows, newest_first, growth))
    assert list(dict.fromkeys(group for part in found for group in part.groups)) == list(sizes)
    for group in sizes:
        own = [part.wanted for part in found if group in part.groups]
        own = own[::-1] if newest_first else own
        assert (own[0].start, own[-1].end) == wanted
        assert all(before.end == after.start for before, after in pairwise(own))


@pytest.mark.parametrize("level", ["raw", "hourly"])
@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("cells", [8, 2_000, scan.CELLS])
def test_a_scan_gives_what_a_query_gives(world, monkeypatch, level, order, cells):
    monkeypatch.setattr("tesseract.query.scan.FEWEST", 500)
    monkeypatch.setattr("tesseract.query.engine.FEWEST", 500)
    monkeypatch.setattr("tesseract.query.scan.CELLS", cells)
    reader = world.store.scan("w", level=level, order=order)
    whole = world.store.query("w", level=level, order=order)
    assert reader.schema.equals(whole.schema, check_metadata=True)
    found = reader.read_all()
    assert found.combine_chunks().equals(whole.combine_chunks())
    assert world.store.query("w", level=level, order=order, limit=137).equals(whole.slice(0, 137).combine_chunks())
    some = world.store.scan("w", level=level, order=order, limit=137, where="temp > 1" if level == "raw" else "temp_max > 1")
    column = whole["temp"] if level == "raw" else whole["temp_max"]
    assert some.read_all().equals(whole.filter(pa.compute.greater(column, 1)).slice(0, 137).combine_chunks())


def test_a_limit_behind_a_condition_that_few_rows_pass_takes_ever_larger_parts(world, monkeypatch):
    for module in ("scan", "engine"):
        monkeypatch.setattr(f"tesseract.query.{module}.FEWEST", 50)
    found = world.store.read("w", "A", START, START + timedelta(minutes=3000), where="n > 2990", limit=50)
    assert found.table.equals(world.store.query("w", "A", START, START + timedelta(minutes=3000), where="n > 2990"))
    assert found.stats.segments <= 2 * 8  # 60 parts of 50 rows of the larger segment: 1, 2, 4, …


def test_the_time_of_a_query_is_for_all_of_its_parts_and_that_of_a_scan_for_each(world, monkeypatch):
    for module in ("scan", "engine"):
        monkeypatch.setattr(f"tesseract.query.{module}.FEWEST", 50)
    begun = []
    within = Source.within
    monkeypatch.setattr(Source, "within", lambda source, seconds: (begun.append(seconds), within(source, seconds))[1])
    options = {"where": "n > 2990", "limit": 50, "timeout": 60}
    found = world.store.query("w", "A", **options)
    assert begun.count(60) == 1
    assert found.equals(world.store.scan("w", "A", **options).read_all())
    assert begun.count(60) > 2


def test_what_a_failed_part_has_begun_is_given_up(world, monkeypatch):
    given_up = []
    cancel = Source.cancel
    monkeypatch.setattr(Source, "cancel", lambda source: (given_up.append(source._seconds), cancel(source))[1])
    monkeypatch.setattr("tesseract.query.answers.answer", lambda *_: (_ for _ in ()).throw(RetryError("late")))
    with pytest.raises(RetryError):
        world.store.query("w", "A", limit=5, timeout=60)
    assert 60 in given_up


def test_the_newest_first_within_each_group(world):
    rows = world.store.query("w", order="desc", fields=["n"]).to_pylist()
    assert [row["station"] for row in rows] == sorted(row["station"] for row in rows)
    for group in "ABC":
        times = [row["valid_time"] for row in rows if row["station"] == group]
        assert times == sorted(times, reverse=True)
        assert len(times) > 100


def test_a_scan_may_be_left_early(world):
    before = threading.active_count()
    for _ in range(3):
        reader = world.store.scan("w")
        assert len(next(iter(reader)))
        reader.close()
        del reader
    assert threading.active_count() <= before + 17  # the pool stays, nothing else does


def test_a_scan_of_undeclared_fields_has_them_all():
    world = World(replace(DATASET, unknown_fields="keep"))
    world.buffer(NOW - HOUR, {"temp": 1, "extra": 5})
    world.buffer(NOW - HOUR / 2, {"temp": 1, "other": "x"})
    found = world.store.scan("w", "A").read_all()
    assert found.equals(world.store.query("w", "A"))
    assert {"extra", "other"} <= set(found.column_names)
    assert world.store.scan("w", "A", where="other = 'x'").read_all()["temp"].to_pylist() == [1.0]
    assert world.store.scan("w", "A", fields=["temp"]).read_all().equals(world.store.query("w", "A", fields=["temp"]))


def test_what_cannot_be_asked(world):
    store = world.store
    for options, message in {
        ("limit", 0): "limit 0 is no number of rows",
        ("order", "up"): "order 'up' is none",
        ("timeout", 0): "timeout 0 is no time",
        ("wher", "n > 1"): "a query has no option 'wher' (did you mean 'where'?)",
        ("where", "temperature > 1"): "temp",
    }.items():
        with pytest.raises(InputError) as caught:
            store.query("w", "A", **dict([options]))
        assert message in str(caught.value)
    for ask in (store.query, lambda *a, **k: list(store.scan(*a, **k))):
        with pytest.raises(NotFoundError, match="no group 'D'"):
            ask("w", ["A", "D"], order="desc")
    with pytest.raises(NotFoundError, match=r"no group of dataset w matches 'D\*'"):
        store.query("w", "D*")
    assert store.query("w", "[AB]").equals(store.query("w", ["B", "A"]))


def test_a_query_that_takes_too_long_says_so(world, monkeypatch):
    stop = threading.Event()
    query = world.backend.raw.pages
    monkeypatch.setattr(world.backend.raw, "pages", lambda *a, **k: (stop.wait(30), query(*a, **k))[1], raising=False)
    monkeypatch.setattr(world.backend.raw, "query", lambda *a, **k: (stop.wait(30), iter(()))[1])
    with pytest.raises(RetryError, match=r"took longer than 0\.05 s"):
        world.store.query("w", "C", timeout=0.05)
    with pytest.raises(RetryError, match=r"took longer than 0\.05 s"):
        world.store.scan("w", "C", timeout=0.05).read_all()
    stop.set()


def test_a_read_that_fails_is_tried_again(world, monkeypatch):
    """As long as the same may succeed later; not what is wrong for good."""
    monkeypatch.setattr("tesseract.query.source.sleep", lambda seconds: None)
    whole = world.store.query("w", "A")
    get, failures = world.backend.objects.get, ["first", "second", "third"]

    def flaky(*arguments):
        if failures:
            raise Throttled(f"the {failures.pop(0)} time")
        return get(*arguments)

    monkeypatch.setattr(world.backend.objects, "get", flaky)
    assert world.store.query("w", "A").equals(whole)
    assert not failures
    monkeypatch.setattr(world.backend.objects, "get", lambda *_: (_ for _ in ()).throw(BackendError("no")))
    with pytest.raises(BackendError):
        world.store.query("w", "A")


def test_a_dry_run_looks_at_no_row(world):
    plan = world.store.plan("w", "A")
    assert [part.source for part in plan.slices[:2]] == ["archive", "archive"]
    assert plan.slices[0].rows == 3000
    assert plan.requests == plan.others + len(plan.slices)
    assert "archive   A  archive/raw/A/1.parquet" in str(plan)
    half = world.store.plan("w", "A", START, START + timedelta(minutes=1500))
    assert half.slices[0].rows == pytest.approx(1500, abs=1)
    hourly = world.store.plan("w", level="hourly")
    assert {part.source for part in hourly.slices} == {"live"}
    result = world.store.read("w", "A")
    assert [(part.what, part.start, part.end) for part in result.plan.slices if part.source == "archive"] == [
        (part.what, part.start, part.end) for part in plan.slices if part.source == "archive"
    ]


def test_requests_of_a_query(world):
    """Manifest, marks, a Query a day of the buffer, a GET a segment; the watermark is asked for beside them."""
    store = world.store
    store.query("w", "A", NOW - HOUR, NOW)  # the dataset's versions are read once in a process
    stats = store.read("w", "A", NOW - HOUR, NOW).stats
    assert (stats.dynamodb_requests, stats.s3_requests, stats.buffer_queries) == (4, 0, 1)
    stats = store.read("w", "A", NOW - timedelta(days=15), NOW - timedelta(days=14)).stats
    assert (stats.dynamodb_requests, stats.s3_requests) == (3, 0)
    stats = store.read("w", "A", START, START + HOUR).stats
    assert (stats.dynamodb_requests, stats.s3_requests, stats.buffer_queries) == (4, 2, 1)  # the day is marked
    assert stats.s3_bytes == stats.segment_bytes
    one, three = (store.read("w", groups, NOW - HOUR, NOW).stats.dynamodb_requests for groups in ("B", ["A", "B", "C"]))
    assert three - 1 == 3 * (one - 1)


def test_an_older_watermark_gives_the_same_rows(world):
    """What a process has seen lately is what it goes by, though the archive has come further meanwhile."""
    before = world.store.query("w", "B")
    world.archive([(NOW - timedelta(minutes=200 - i), values(i), False, NOW) for i in range(200)], "B")
    world.progress(NOW + timedelta(days=3))
    late = NOW - timedelta(days=9)
    world.buffer(late, values(4), group="B", marked=NOW + timedelta(days=3))
    world.now += timedelta(minutes=5)
    found = world.store.query("w", "B")
    assert len(found) == len(before) + 1
    assert late in found["valid_time"].to_pylist()


def test_marks_that_were_lost_meanwhile_count_no_more(world):
    """Days whose marks are gone are read from the buffer, whatever this process knew before they were lost."""
    world.store.query("w", "B")
    at = NOW - timedelta(days=9)
    world.buffer(at, values(4), group="B")  # its mark was lost
    world.store.catalog.advance("marks", to_micros(NOW))
    world.now += timedelta(seconds=2)
    assert at in world.store.query("w", "B", at, at + HOUR)["valid_time"].to_pylist()


def test_a_segment_of_one_row_does_not_cut_a_scan_into_minutes(monkeypatch):
    world = World()
    world.archive([(NOW - timedelta(days=5), values(3), False, NOW - timedelta(days=4))])
    world.buffer(NOW - HOUR, values(4))
    world.progress(NOW - 2 * HOUR)
    asked = []
    whole = Engine._again
    monkeypatch.setattr(
        Engine, "_again", lambda self, source, question, *rest: asked.append(question) or whole(self, source, question, *rest)
    )
    assert len(world.store.scan("w", "A").read_all()) == 2
    assert len(asked) == 1
    assert len(world.store.query("w", "A", limit=2)) == 2
    assert len(asked) <= 3


def test_few_rows_are_a_part(world):
    assert FEWEST >= 1000
    stats = world.store.read("w", limit=5).stats
    assert stats.dynamodb_requests < 40


def test_intervals_have_a_plan_and_no_options_of_rows(world):
    plan = world.store.plan("w", "A", START, NOW, every="2h", stats=["avg"])
    assert {part.what for part in plan.slices} == {"hourly items"}
    assert {part.source for part in world.store.plan("w", "A", START, NOW, every="90s").slices} == {"archive", "buffer"}
    for option in ({"limit": 3}, {"order": "desc"}, {"level": "hourly"}, {"known_at": NOW}):
        with pytest.raises(InputError, match="does not go with intervals"):
            world.store.resample("w", "A", every="2h", **option)
