"""Levels that got a field, or their whole life, later: what is stored is used as far as it goes, the rest comes from raw rows."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tesseract.config.dataset import Dataset, Level
from tesseract.config.retention import NEVER
from tesseract.processing.aggregator import encode_state, shown
from tesseract.query.kept import _whole
from tesseract.storage.columns import FIELDS_FROM, LevelRow, level_table
from tesseract.storage.keys import level_partition
from tesseract.utils.time_utils import from_micros, to_micros
from tests.unit.query_world import DATASET, START, World, level_rows, state_of, values

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
THROUGH = START + 10 * DAY  # what ended two days before is cold
AT = [START + hour * HOUR for hour in range(6)]
RECORDS = {at: values(index + 1) for index, at in enumerate(AT)}


def since(**moments: int) -> Dataset:
    """The dataset, whose hourly level got fields at those hours."""
    moments = {name: to_micros(START + hour * HOUR) for name, hour in moments.items()}
    return replace(DATASET, levels=(replace(DATASET.levels[0], since=moments), DATASET.levels[1]))


def rows(level: Level, wrong: set[datetime], **fields_from: datetime | None) -> list[LevelRow]:
    """Hourly rows of all records; those of `wrong` do not say what the records do, so that a reader who takes one is found out."""
    made = []
    for at in AT:
        state = state_of(at, [(at, values(99) if at in wrong else RECORDS[at])])
        moment = fields_from.get(f"h{at.hour}")
        numbers = (shown(state, level), encode_state(state), 1, level.live_from)
        made.append(LevelRow(at, state.rows, *numbers, None if moment is None else to_micros(moment)))
    return made


def stored(dataset: Dataset, made: list[LevelRow], without: str = "") -> World:
    """A world with these hourly rows, and the raw rows in the archive."""
    world, level = World(dataset), dataset.levels[0]
    world.archive([(at, fields, False, at) for at, fields in RECORDS.items()])
    table = level_table(dataset, level, "A", made)
    table = table.drop_columns([without]) if without else table
    world._commit(level_partition(level), "A", table, [row.period_start for row in made])
    world.progress(THROUGH)
    return world


def check(world: World, from_rows: int) -> None:
    """The right answer, and so many rows of it from snapshots."""
    result = world.store.read("w", "A", START, START + DAY, level="hourly")
    assert result.table.to_pylist() == level_rows(RECORDS, "hourly")
    assert (result.stats.snapshot_rows, result.stats.recomputed) == (from_rows, len(AT) - from_rows)


def test_a_row_that_lacks_a_field_is_passed_over_and_a_recomputed_one_is_not():
    dataset = since(temp=2, n=4)
    level = dataset.levels[0]
    after = from_micros(to_micros(AT[4]) + 1)
    # hours 0, 2 and 3 lack fields; 1 and 4 were computed again, with all of them; 5 began later
    made = rows(level, wrong={AT[0], AT[2], AT[3]}, h1=after, h2=AT[4], h3=None, h4=after)
    check(stored(dataset, made), from_rows=3)


def test_rows_of_a_file_of_an_earlier_release_were_never_recomputed():
    dataset = since(temp=2)
    made = rows(dataset.levels[0], wrong={AT[0], AT[1], AT[2]})
    check(stored(dataset, made, without=FIELDS_FROM), from_rows=3)
    check(stored(DATASET, rows(DATASET.levels[0], wrong=set()), without=FIELDS_FROM), from_rows=6)


def test_of_periods_before_the_level_was_kept_those_that_were_rebuilt_are_read_and_the_others_computed():
    levels = (replace(DATASET.levels[0], live_from=to_micros(AT[3])), DATASET.levels[1])
    dataset = replace(DATASET, levels=levels)
    made = rows(levels[0], wrong=set())
    check(stored(dataset, made), from_rows=6)
    check(stored(dataset, [made[1], *made[4:]]), from_rows=3)


@pytest.mark.parametrize("loose", [False, True])
def test_weeks_are_merged_from_whole_states_only(loose: bool):
    dataset = since(temp=2, n=4)
    weekly = Level("weekly", dict(DATASET.levels[0].stats))
    dataset = replace(dataset, levels=(dataset.levels[0], weekly), unknown_fields="keep" if loose else "reject")
    world = stored(dataset, rows(dataset.levels[0], wrong=set(AT[:5])))
    result = world.store.read("w", "A", START - 7 * DAY, START + DAY, level="weekly")
    (row,) = result.table.to_pylist()
    assert (row["rows"], row["n_sum"], row["temp_max"]) == (6, 1 + 2 + 3 + 4 + 5 + 6, 1.5)
    assert result.stats.snapshot_rows == 1


def test_a_field_that_is_no_number_any_more_has_no_statistics():
    loose = replace(DATASET, unknown_fields="keep", fields={name: DATASET.fields[name] for name in ("temp",)})
    world = stored(loose, rows(loose.levels[0], wrong=set()))
    assert "n_sum" in world.store.query("w", "A", START, START + DAY, level="hourly").column_names
    for wanted in (replace(loose, unknown_fields="drop"), replace(loose, fields=loose.fields | {"n": DATASET.fields["note"]})):
        world.store.catalog.put_dataset(replace(wanted, version=world.store.dataset("w").version + 1), START)
        world = stored(wanted, rows(wanted.levels[0], wrong=set()))
        found = world.store.query("w", "A", START, START + DAY, level="hourly").column_names
        assert [name for name in found if name.startswith("n_")] == []


MOMENTS = st.integers(-3, 9).map(lambda hour: to_micros(START + hour * HOUR))


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["temp", "n"]), MOMENTS), st.lists(st.none() | MOMENTS, min_size=6, max_size=6))
def test_rows_are_taken_by_the_rule_of_their_level(moments: dict[str, int], fields_from: list[int | None]):
    level = replace(DATASET.levels[0], since=moments)
    made = [replace(row, fields_from=after) for row, after in zip(rows(level, wrong=set()), fields_from, strict=True)]
    table, lacking = _whole(level_table(DATASET, level, "A", made), level, NEVER)
    kept = [row.period_start for row in made if not level.lacks(to_micros(row.period_start), row.fields_from)]
    assert table["period_start"].to_pylist() == kept
    for row in made:
        start = to_micros(row.period_start)
        assert row.period_start in kept or any(part.start <= start < part.end for part in lacking)
