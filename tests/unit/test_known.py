"""What was known at a ref time, and every revision: equal to an oracle at any moment; one sentence where none are kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tesseract.config.dataset import Field
from tesseract.errors import InputError
from tesseract.model import Record
from tesseract.query.catalog import Lookup
from tesseract.query.known import kept_since, read_known, read_revisions, require, shaped
from tesseract.query.past import AFTER_ALL, Past
from tesseract.query.plan import TIME_MAX, TIME_MIN, Facts, Range
from tesseract.query.question import Reading
from tesseract.query.results import shape
from tesseract.query.source import Source
from tesseract.utils.time_utils import to_micros
from tests.support.archive_world import weather
from tests.support.revisions_world import HOUR, KEYS, LATE, REFS, START, World, record
from tests.unit.test_revisions import DELETED_THEN_OLDER, OLDER_AFTER_EXPIRY, steps

OLDEST = datetime.min.replace(tzinfo=UTC)
MOMENTS = [REFS[1] - HOUR, *REFS[1:], REFS[2] + HOUR, REFS[3] + HOUR]


def reading(world, groups=("A",), start=TIME_MIN, end=TIME_MAX):
    lookup = Lookup(world.backend, world.catalog)
    facts = lookup.bounds(world.dataset, world.catalog.progress().to_readers().archived_through, start == TIME_MIN, world.now)
    return Reading(Source(world.backend, world.catalog, lookup), world.dataset, groups, Range(start, end), facts, facts)


def known(world, at, **options):
    rows = read_known(reading(world, **options), at)
    table = shape(world.dataset, None, [part.table for part in rows.values()], None)
    assert sum(part.stats.rows for part in rows.values()) == len(table)
    return table.to_pylist()


def revisions(world, at=None, fields=None, **options):
    rows = read_revisions(reading(world, **options), fields, at)
    return shaped(world.dataset, [part.table for part in rows.values()], fields)


def age(moment):
    return moment or OLDEST


def newest(puts):
    """The current one of the revisions of one time, in the order of their puts."""
    return max(enumerate(puts), key=lambda pair: (age(pair[1].ref_time), pair[0]))[1]


def candidates(world, at, moment):
    """What a valid time may show as of a ref time: records, None for nothing. More than one where a process died."""
    current = newest(world.puts[at])
    refs = {ref for valid, ref in {*world.kept, *world.lost} if valid == at and age(ref) <= min(moment, age(current.ref_time))}
    found = []
    for ref in sorted(refs, key=age, reverse=True):
        sure = (at, ref) in world.kept or ref == current.ref_time
        own = [*([world.kept[at, ref]] if (at, ref) in world.kept else []), *world.lost.get((at, ref), [])]
        own = [current] if ref == current.ref_time else own
        found += [None if one.deleted else one for one in own]
        if sure:
            return found
    return [*found, None]


def check(world, moment):
    rows = {row["valid_time"]: row for row in known(world, moment)}
    assert set(rows) <= set(world.puts)
    for at in world.puts:
        shown = (rows[at]["ref_time"], rows[at]["temp"]) if at in rows else None
        assert shown in [one and (one.ref_time, float(one.fields["temp"])) for one in candidates(world, at, moment)]
    now = known(world, REFS[3])
    assert [(row["valid_time"], row["ref_time"], row["temp"]) for row in now] == [
        (at, row.ref_time, float(row.fields["temp"])) for at, row in sorted(world.visible().items())
    ]
    check_revisions(world, moment, list(rows.values()))


def check_revisions(world, moment, seen):
    rows = revisions(world).to_pylist()
    keys = [(row["valid_time"], age(row["ref_time"])) for row in rows]
    assert keys == sorted(set(keys))
    newest_of = {row["valid_time"]: row for row in rows}
    assert [row for row in rows if row["current"]] == list(newest_of.values())
    acknowledged = {(at, ref) for at, ref in world.kept if age(ref) <= age(newest(world.puts[at]).ref_time)}
    assert acknowledged <= {(row["valid_time"], row["ref_time"]) for row in rows} <= {*world.kept, *world.lost}
    earlier = [row for row in rows if age(row["ref_time"]) <= moment]
    assert revisions(world, moment).to_pylist() == earlier
    last = {row["valid_time"]: row for row in earlier}
    assert seen == [
        {n: v for n, v in row.items() if n not in ("deleted", "current")} for row in last.values() if not row["deleted"]
    ]


REWRITTEN = [("write", ([(4, 1, 1), (4, 2, 2)], [])), ("open", None), ("work", 0), ("work", 0), ("write", ([(4, 1, 3)], []))]
DIED = [("write", ([(4, 1, 1)], [])), ("crash", (4, [(3, 9)], "before"))]


@settings(max_examples=30, deadline=None)
@given(st.lists(steps, max_size=16), st.tuples(*[st.sampled_from(MOMENTS)] * 3))
@example([*REWRITTEN, ("compact", None), ("pass", 70)], (REFS[1],) * 3)
@example([*DIED, ("open", None), ("work", 0), ("work", 0), ("pass", 240)], (REFS[3],) * 3)
@example(OLDER_AFTER_EXPIRY, (REFS[1],) * 3)
@example([*DELETED_THEN_OLDER, ("write", ([(4, 1, 7)], []))], (REFS[1],) * 3)
@example([("crash", (0, [(1, 1)], "before"))], (REFS[1],) * 3)
def test_what_was_known_at_any_moment_of_a_life(plan, moments):
    world = World("all")
    for name, argument in plan:
        world.step(name, argument)
    check(world, moments[0])
    world.finish_archive()
    check(world, moments[1])
    world.step("pass", 240)
    world.finish_archive()
    world.compact()
    world.expire_archived()
    assert not list(world.raw.items())
    check(world, moments[2])


def test_a_forecast_and_its_corrections():
    world = World("all")
    world.write([record(4, 1, 10), record(5, 1, 11)])
    world.finish_archive()
    world.write([record(4, 2, 20)])
    world.delete(KEYS[5])
    temps = lambda moment: [(row["valid_time"], row["temp"]) for row in known(world, moment)]
    assert temps(REFS[1] - HOUR) == []
    assert temps(REFS[1]) == [(KEYS[4], 10.0)]  # a tombstone has the ref time of what it hides
    assert temps(REFS[2]) == [(KEYS[4], 20.0)]
    table = revisions(world)
    assert table.column_names == ["station", "valid_time", "ref_time", "deleted", "current", "temp", "wind"]
    assert [tuple(row.values())[1:-1] for row in table.to_pylist()] == [
        (KEYS[4], REFS[1], False, False, 10.0),
        (KEYS[4], REFS[2], False, True, 20.0),
        (KEYS[5], REFS[1], True, True, None),
    ]


def test_range_fields_and_groups():
    world = World("all")
    others = [Record("B", KEYS[5], REFS[ref], {"temp": ref, "wind": 7}) for ref in (1, 2)]
    world.write([record(place, ref, 10 * place + ref) for place in (4, 5, 6) for ref in (1, 2)])
    world.writer.write(world.dataset, enumerate(others), world.now + timedelta(minutes=15))
    span = {"start": to_micros(KEYS[5]), "end": to_micros(KEYS[6]), "groups": ("A", "B", "C")}
    for _ in range(2):
        rows = known(world, REFS[1], **span)
        assert [(row["station"], row["valid_time"], row["temp"], row["wind"]) for row in rows] == [
            ("A", KEYS[5], 51.0, None),
            ("B", KEYS[5], 1.0, 7),
        ]
        table = revisions(world, fields=["wind"], **span)
        assert table.column_names == ["station", "valid_time", "ref_time", "deleted", "current", "wind"]
        assert table["wind"].to_pylist() == [None, None, 7, 7]
        assert table["current"].to_pylist() == [False, True, False, True]
        world.finish_archive()
        world.expire_archived()
    empty = revisions(world, start=0, end=0)
    assert empty.schema.equals(revisions(world).schema, check_metadata=True)
    assert len(empty) == 0


def test_without_a_ref_time_a_record_was_known_before_all():
    world = World("all")
    world.write([record(4, 0, 1), record(4, 2, 2)])
    assert [row["temp"] for row in known(world, OLDEST)] == [1.0]
    assert [row["temp"] for row in known(world, REFS[2])] == [2.0]


def test_records_of_before_revisions_were_kept_have_their_current_row():
    world = World("latest_ref")
    world.write([record(4, 1, 1)])
    world.write([record(4, 2, 2), record(5, 1, 3)])
    world.finish_archive()
    world.dataset = replace(world.dataset, version=2, revisions="all")
    world.write([record(4, 3, 4)])
    assert [(row["valid_time"], row["temp"]) for row in known(world, REFS[3])] == [(KEYS[4], 4.0), (KEYS[5], 3.0)]
    assert [row["temp"] for row in known(world, REFS[1])] == [3.0]


def test_a_field_that_is_named_as_a_flag_keeps_its_name():
    dataset = replace(weather(revisions="all"), fields={"current": Field("float", "current"), "deleted_": Field("int", "deleted_")})
    table = shaped(dataset, [], None)
    assert table.column_names == ["station", "valid_time", "ref_time", "deleted", "current_", "current", "deleted_"]
    assert table.schema.field("current").type == pa.float64()


def versions(*kinds):
    base = weather(applied_at=to_micros(START))
    return [
        replace(base, version=number, revisions=kind, applied_at=to_micros(START + number * HOUR))
        for number, kind in enumerate(kinds, 1)
    ]


def test_since_when_revisions_are_kept():
    minute = timedelta(minutes=1)
    assert kept_since(versions("all")) == 0
    assert kept_since(versions("all", "all")) == 0
    assert kept_since(versions("latest_ref", "all", "all")) == to_micros(START + 2 * HOUR + minute)
    assert kept_since(versions("all", "latest_ref", "all")) == to_micros(START + 3 * HOUR + minute)
    assert kept_since(versions("all", "latest_ref")) is None
    assert kept_since(versions("last_write")) is None


def test_one_sentence_where_revisions_are_not_kept():
    require(versions("all"), LATE)
    require(versions("all"), OLDEST)  # before 1970, too: all that the dataset ever had is kept
    require(versions("latest_ref", "all"), None)
    require(versions("latest_ref", "all"), START + 3 * HOUR)
    with pytest.raises(InputError) as caught:
        require(versions("last_write"), START)
    assert str(caught.value) == (
        "dataset weather keeps no revisions, of each time the newest record alone "
        "(with `revisions: all` in its configuration each one is kept, from then on)"
    )
    with pytest.raises(InputError, match="keeps no revisions any more, of each time"):
        require(versions("all", "latest_ref"), None)
    with pytest.raises(InputError) as caught:
        require(versions("latest_ref", "all"), START + 2 * HOUR)
    assert str(caught.value) == (
        "dataset weather keeps revisions since 2024-03-01T14:01:00Z, what was known at 2024-03-01T14:00:00Z may be gone "
        "(known_at from 2024-03-01T14:01:00Z on; `revisions` shows all that is kept)"
    )


def test_as_of_a_moment_and_known_at_a_ref_time():
    world = World("all")
    moments = []
    for ref in (1, 2, 3):
        world.write([record(4, ref, ref)])
        world.finish_archive()
        moments.append(world.now)
        world.compact()
        world.now += HOUR
    for number, moment in enumerate(moments, 1):
        past = Past(world.catalog, world.dataset, ["raw", "revisions"], ["A"], moment)
        assert past.complete_through() == world.catalog.windows()[number - 1].end
        now = reading(world)
        then = now._replace(source=now.source.at(past), raw=Facts(AFTER_ALL, {}))
        for ref in (1, 2, 3):
            table = read_known(then, REFS[ref])["A"].table
            assert table["temp"].to_pylist() == [float(min(ref, number))]


def test_learned_columns_of_kept_and_current_rows_meet():
    world = World("all")
    world.dataset = replace(world.dataset, unknown_fields="keep")
    extra = [Record("A", KEYS[4], REFS[ref], {"temp": 1, "extra": value}) for ref, value in ((1, "text"), (2, Decimal("2.5")))]
    world.writer.write(world.dataset, enumerate(extra), world.now + timedelta(minutes=15))
    assert [row["extra"] for row in revisions(world).to_pylist()] == ["text", "2.5"]
