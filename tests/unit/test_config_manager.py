"""The life of a configuration: a verdict on every change, versions applied by one at a time, copies for clients, cached reads."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tesseract.config.cache import CACHE, Configs
from tesseract.config.changes import COMPATIBLE_SETTINGS, FIELD_SETTINGS, REFUSED_SETTINGS
from tesseract.config.dataset import Dataset, Field, Level, decode_dataset
from tesseract.config.manager import MARGIN, apply, fingerprint, plan, rollback
from tesseract.errors import ConditionFailed, ConfigError, DamagedError, NotFoundError, UnknownDataset
from tesseract.storage.catalog import Catalog
from tesseract.storage.keys import config_pk, version_sk
from tesseract.storage.memory import MemoryObjects, MemoryTable
from tesseract.utils.time_utils import to_micros

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
BASE = Dataset(
    name="d",
    version=0,
    group_by=("g",),
    time_field="t",
    ref_time_field="r",
    unknown_fields="reject",
    buffer_ttl_hours=168,
    ladder=("daily", "monthly"),
    levels=(Level("hourly", {"avg": ()}), Level("daily", {"max": ("x",)}), Level("weekly", {"max": ("x",)})),
    fields={"x": Field("float", "x"), "s": Field("string", "s"), "n": Field("int", "n")},
)


def dataset(**changes) -> Dataset:
    return replace(BASE, **changes)


def fields(**changes: Field | None) -> dict[str, Field]:
    return {name: field for name, field in (BASE.fields | changes).items() if field is not None}


def grown(*wanted: Dataset) -> list[Dataset]:
    """The versions that applying these one after the other makes, a day apart."""
    versions: list[Dataset] = []
    for at, one in enumerate(wanted):
        planned = plan(versions, one, NOW + at * timedelta(days=1))
        assert not planned.refusals, planned.refusals
        versions.append(planned.dataset)
    return versions


def verdicts(*wanted: Dataset) -> dict[str, str]:
    """Setting → verdict of the last step."""
    planned = plan(grown(*wanted[:-1]), wanted[-1], NOW + timedelta(days=30))
    assert all(change.why and "\n" not in f"{change}{change.why}" for change in planned.changes)
    return {change.setting: change.verdict for change in planned.changes}


def lives(*wanted: Dataset) -> dict[str, bool]:
    """Level → whether the last step gave it a new life."""
    *versions, last = grown(*wanted)
    before = {level.name: level.live_from for level in versions[-1].levels}
    return {level.name: level.live_from != before.get(level.name, "absent") for level in last.levels}


def later(*wanted: Dataset) -> dict[str, str]:
    """Level → the fields that it got in the last step, though earlier records may hold them."""
    *versions, last = grown(*wanted)
    before = {level.name: level.since for level in versions[-1].levels}
    changed = {level.name: dict(level.since.items() - before.get(level.name, {}).items()) for level in last.levels}
    return {name: " ".join(sorted(since)) for name, since in changed.items() if since}


# verdicts -----------------------------------------------------------------------------------------------------------------


def test_every_setting_has_a_rule():
    own = {"name", "version", "revisions", "unknown_fields", "levels", "fields", "former", "shortest_ttl_hours"}
    own |= {"applied_at", "applied_by", "removed", "retention_since"}
    assert {*COMPATIBLE_SETTINGS, *REFUSED_SETTINGS, *own} == set(Dataset.__struct_fields__)
    assert {*FIELD_SETTINGS, "type", "scale", "name"} == set(Field.__struct_fields__)


def test_a_new_dataset_is_version_one_and_the_same_again_is_no_change():
    first = plan([], dataset(), NOW)
    assert (first.verdict, first.dataset.version, first.before) == ("new", 1, None)
    again = plan([first.dataset], dataset(tags={}, levels=BASE.levels), NOW)
    assert (again.verdict, again.changes, again.dataset.version) == ("unchanged", (), 1)
    assert plan([], dataset(name="datasets"), NOW).refusals == ("the name 'datasets' is taken: give the dataset another",)


@pytest.mark.parametrize(
    "change",
    [
        {"buffer_ttl_hours": 24}, {"ladder": ("weekly",)}, {"description": "x"}, {"tags": {"a": "b"}}, {"max_future_seconds": 0},
        {"time_field": "u"}, {"ref_time_field": "q"}, {"time_format": "epoch_s"}, {"time_zone": "UTC"}, {"on_invalid": "null"},
        {"records_path": "$.a"}, {"retention": {"raw": {"*": "P1Y"}}}, {"history": "P1D"}, {"unknown_fields": "drop"},
        {"unknown_fields": "keep"},
    ],
)  # fmt: skip
def test_what_concerns_new_records_only_is_compatible(change):
    planned = plan(grown(dataset()), dataset(**change), NOW)
    assert (planned.verdict, planned.dataset.version, len(planned.changes)) == ("compatible", 2, 1)
    assert not any(lives(dataset(), dataset(**change)).values())


@pytest.mark.parametrize(
    "change",
    [
        {"path": "y"},
        {"missing": (-9,)},
        {"required": True},
        {"min": 0},
        {"max": 9},
        {"unit": "m"},
        {"description": "x"},
        {"enum": (1, 2)},
    ],
)
def test_what_a_field_takes_from_now_on_is_compatible(change):
    wanted = dataset(fields=fields(x=Field("float", **({"path": "x"} | change))))
    assert set(verdicts(dataset(), wanted).values()) == {"compatible"}
    assert not any(lives(dataset(), wanted).values())


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            {"group_by": ("h",)},
            "group_by: g → h is refused: stored records are filed under the groups of the old one; give the new",
        ),
        ({"partitions": 16}, "partitioning: group → hash(16) is refused: every file"),
        (
            {"revisions": "latest_ref"},
            "revisions: last_write → latest_ref is refused: of two stored revisions another one would win",
        ),
        ({"fields": fields(x=Field("int", "x"))}, "fields.x.type: float → int is refused: stored values of type float are not all"),
        ({"fields": fields(x=Field("decimal", "x", scale=2))}, "fields.x.type: float → decimal(2)"),
        ({"fields": fields(s=Field("bool", "s"))}, "fields.s.type: string → bool"),
        ({"fields": fields(n=Field("string", "n"))}, "give the new meaning a new field name"),
        ({"fields": fields(n=Field("timestamp", "n"))}, "fields.n.type: int → timestamp"),
    ],
)
def test_a_change_of_meaning_is_refused_whatever_else_changes(change, why):
    refused = plan(grown(dataset()), dataset(**change, buffer_ttl_hours=24), NOW)
    assert (refused.verdict, refused.dataset.version, len(refused.refusals)) == ("refused", 1, 1)
    assert why in refused.refusals[0]


WIDE = {"min": 0, "max": 10**30}


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        (Field("int", "n"), Field("float", "n"), "compatible"),
        (Field("int", "n"), Field("decimal", "n", scale=3), "compatible"),
        (Field("int", "n"), Field("decimal", "n", scale=20), "refused"),
        (Field("int", "n"), Field("int", "n", **WIDE), "compatible"),
        (Field("int", "n", **WIDE), Field("int", "n"), "refused"),
        (Field("int", "n", **WIDE), Field("float", "n"), "refused"),
        (Field("int", "n", **WIDE), Field("decimal", "n"), "compatible"),
        (Field("int", "n", **WIDE), Field("decimal", "n", scale=1), "refused"),
        (Field("decimal", "n", scale=1), Field("decimal", "n", scale=2), "compatible"),
        (Field("decimal", "n", scale=2), Field("decimal", "n", scale=1), "refused"),
        (Field("decimal", "n", scale=2), Field("int", "n"), "refused"),
        (Field("decimal", "n", scale=2), Field("float", "n"), "refused"),
        (Field("float", "n"), Field("string", "n"), "refused"),
        (Field("bool", "n"), Field("int", "n"), "refused"),
    ],
)
def test_a_type_may_be_widened_and_levels_go_on_since_their_states_are_exact_decimals(old, new, verdict):
    before, after = dataset(fields=fields(n=old)), dataset(fields=fields(n=new))
    assert verdicts(before, after)["fields.n.type"] == verdict
    if verdict == "compatible":
        assert not any(lives(before, after).values())


def test_orders_of_revisions_by_ref_time_are_one_order():
    latest, every = dataset(revisions="latest_ref"), dataset(revisions="all")
    assert verdicts(latest, every) == verdicts(every, latest) == {"revisions": "compatible"}
    assert verdicts(every, dataset()) == {"revisions": "refused"}


def test_a_field_that_no_record_can_hold_is_added_without_more_ado():
    wanted = dataset(fields=fields(y=Field("float", "y")))
    assert verdicts(dataset(), wanted) == {"fields.y": "compatible"}
    assert lives(dataset(), wanted) == {"hourly": False, "daily": False, "weekly": False}


def test_a_field_that_comes_back_is_new_to_the_levels_that_show_it():
    without = dataset(fields=fields(n=None))
    assert verdicts(dataset(), without) == {"fields.n": "compatible"}
    assert verdicts(dataset(), without, dataset()) == {"fields.n": "needs backfill"}
    assert lives(dataset(), without, dataset()) == {"hourly": False, "daily": False, "weekly": False}
    assert later(dataset(), without, dataset()) == {"hourly": "n"}
    again = dataset(fields=fields(n=Field("string", "n")))
    assert verdicts(dataset(), without, again) == {"fields.n": "refused"}  # version 1 had it as a number
    text = dataset(fields=fields(s=None))
    assert verdicts(dataset(), text, dataset()) == {"fields.s": "compatible"}  # no level shows text


def test_a_field_that_was_kept_undeclared_is_new_to_the_levels_that_show_it():
    loose = dataset(fields={}, unknown_fields="keep", levels=(Level("hourly", {"avg": ()}), Level("daily", {"avg": ("x",)})))
    wanted = replace(loose, fields={"y": Field("float", "y"), "s": Field("string", "s")})
    assert verdicts(loose, wanted) == {"fields.y": "needs backfill", "fields.s": "compatible"}
    assert lives(loose, wanted) == {"hourly": False, "daily": False}
    assert later(loose, wanted) == {"hourly": "y"}
    why = plan(grown(loose), wanted, NOW).changes[0].why
    assert "one that is not of type float reads as null; level hourly has it from now on, earlier periods are computed" in why
    declared = replace(loose, fields={"x": Field("float", "x")})
    assert later(loose, declared) == {"hourly": "x", "daily": "x"}
    assert "; levels daily and hourly have it from now on" in plan(grown(loose), declared, NOW).changes[0].why


def test_undeclared_values_may_be_hidden_and_shown_again():
    keep, reject = dataset(unknown_fields="keep"), dataset()
    assert verdicts(keep, reject) == {"unknown_fields": "compatible"}
    assert verdicts(keep, reject, keep) == {"unknown_fields": "needs backfill"}
    assert lives(keep, reject, keep) == {"hourly": True, "daily": False, "weekly": False}
    once = dataset(fields=fields(n=None))
    assert verdicts(reject, once, replace(once, unknown_fields="keep")) == {"unknown_fields": "needs backfill"}
    assert later(reject, once, replace(once, unknown_fields="keep")) == {"hourly": "n"}  # a former one can be named
    assert not any(lives(reject, once, replace(once, unknown_fields="keep")).values())
    named = dataset(levels=BASE.levels[1:])
    assert verdicts(replace(named, unknown_fields="keep"), named, replace(named, unknown_fields="keep")) == {
        "unknown_fields": "compatible"
    }


def test_a_level_that_shows_more_goes_on_and_lacks_only_that():
    more = dataset(levels=(Level("hourly", {"avg": (), "max": ()}), *BASE.levels[1:]))
    assert verdicts(dataset(), more) == {"aggregations.hourly": "needs backfill"}
    assert later(dataset(), more) == {"hourly": "n x"}
    assert verdicts(more, dataset()) == {"aggregations.hourly": "compatible"}
    assert later(dataset(), more, dataset()) == {}
    assert later(dataset(), more, dataset(), more) == {"hourly": "n x"}
    assert not any(lives(dataset(), more, dataset(), more).values())
    why = plan(grown(dataset()), more, NOW).changes[0].why
    assert why.startswith("stored periods lack statistics that are new: level hourly has n and x from now on, earlier periods are")
    spelled = dataset(levels=(Level("hourly", {"avg": ("x", "n")}), *BASE.levels[1:]))
    assert verdicts(dataset(), spelled) == {"aggregations.hourly": "compatible"}  # the same statistics in other words


def test_merged_levels_may_always_change():
    more = dataset(levels=(*BASE.levels[:2], Level("weekly", {"max": ("x", "n")}), Level("monthly", {"avg": ()})))
    assert verdicts(dataset(), more) == {"aggregations.weekly": "compatible", "aggregations.monthly": "compatible"}
    assert verdicts(more, dataset()) == {"aggregations.weekly": "compatible", "aggregations.monthly": "compatible"}


def test_a_merged_level_begins_a_new_life_where_it_is_added_or_gets_another_base():
    def weekly(*names: str) -> Dataset:
        return dataset(levels=(*BASE.levels[:2], Level("weekly", {"max": names, "avg": names})))

    without = dataset(levels=BASE.levels[:2])
    assert lives(dataset(), weekly("x")) == {"hourly": False, "daily": False, "weekly": False}
    assert lives(dataset(), weekly("x", "n")) == {"hourly": False, "daily": False, "weekly": True}  # made of hours now
    assert lives(dataset(), weekly("x", "n"), weekly("x")) == {"hourly": False, "daily": False, "weekly": True}
    assert lives(dataset(), without, dataset()) == {"hourly": False, "daily": False, "weekly": True}
    assert lives(dataset(levels=BASE.levels[::2]), dataset()) == {"hourly": False, "daily": True, "weekly": True}


def test_a_level_that_is_added_counts_from_when_every_writer_knows_of_it():
    bare = dataset(levels=(), max_future_seconds=7200)
    versions = grown(bare, replace(bare, max_future_seconds=60))
    added = plan(versions, dataset(max_future_seconds=60), NOW)
    assert added.verdict == "needs backfill"
    since = to_micros(NOW + CACHE + MARGIN + timedelta(hours=2))  # the first version let records be two hours ahead
    assert [level.live_from for level in added.dataset.levels] == [since, since, since]
    removed = plan([*versions, added.dataset], replace(bare, max_future_seconds=60), NOW)
    assert {change.verdict for change in removed.changes} == {"compatible"}
    again = plan([*versions, added.dataset, removed.dataset], dataset(max_future_seconds=60), NOW + timedelta(days=1))
    assert again.dataset.level("hourly").live_from > since


def test_a_field_that_a_level_gets_later_counts_from_when_every_writer_knows_of_it_and_one_that_comes_back_from_then():
    bare = dataset(levels=(Level("hourly", {"avg": ("x",)}),), max_future_seconds=7200)
    more = replace(bare, levels=(Level("hourly", {"avg": ("x", "n"), "max": ("x",)}),))
    versions = grown(bare, more)
    moment = to_micros(NOW + timedelta(days=1) + CACHE + MARGIN + timedelta(hours=2))
    assert versions[-1].levels[0] == replace(more.levels[0], since={"n": moment, "x": moment})
    less = replace(bare, levels=(Level("hourly", {"max": ("x",)}),))
    versions = grown(bare, more, less, more)
    assert versions[2].levels[0].since == {"x": moment}  # what is not shown is not lacking
    again = versions[3].levels[0].since
    assert again.keys() == {"n", "x"}  # x has its average again, which periods of version 3 lack
    assert min(again.values()) == moment + 2 * 86_400_000_000
    gone = grown(bare, more, replace(bare, levels=()), more)[-1].levels[0]
    assert (gone.since, gone.live_from) == ({}, moment + 2 * 86_400_000_000)  # a new life has all of it
    loose = [replace(one, unknown_fields="keep") for one in (bare, more)]
    undeclared = replace(loose[1], fields=fields(n=None), levels=(Level("hourly", {"avg": (), "max": ()}),))
    anew = grown(*loose, undeclared)[-1].levels[0]
    assert (anew.since, anew.live_from) == ({}, moment + 86_400_000_000)  # nobody can name what was kept undeclared


SINCE = st.dictionaries(st.sampled_from("abc"), st.integers(-5, 5))


@given(SINCE, st.integers(-7, 7), st.none() | st.integers(-7, 7))
def test_what_a_period_lacks_is_what_came_at_or_after_its_start_and_was_not_recomputed(since, start, fields_from):
    level = Level("hourly", {"avg": ()}, since=since)
    for name, moment in since.items():
        lacking = name in level.lacks(start, fields_from)
        assert lacking == (moment >= start and (fields_from is None or moment >= fields_from))
    whole = level.fields_from(start)
    assert not level.lacks(start, whole)
    assert (whole is None) == (not level.lacks(start))
    assert level.lacks(start, fields_from) <= since.keys()


def test_the_shortest_time_in_the_buffer_that_any_version_had_is_remembered():
    versions = grown(dataset(buffer_ttl_hours=48), dataset(buffer_ttl_hours=24), dataset(buffer_ttl_hours=720))
    assert [version.shortest_ttl for version in versions] == [timedelta(hours=h) for h in (48, 24, 24)]
    assert [version.shortest_ttl_hours for version in versions] == [0, 0, 24]


FIELDS = st.sampled_from([Field("int", "p"), Field("float", "p"), Field("decimal", "p", scale=2), Field("string", "p")])
LEVELS = st.dictionaries(
    st.sampled_from(["hourly", "daily", "weekly"]), st.sampled_from([{"avg": ()}, {"max": ("a",)}, {"avg": (), "max": ()}])
)
DATASETS = st.builds(
    lambda fields, levels, unknown, ttl: dataset(
        fields={name: replace(field, path=name) for name, field in fields.items()},
        levels=tuple(Level(name, stats) for name, stats in levels.items()),
        unknown_fields=unknown,
        buffer_ttl_hours=ttl,
    ),
    st.dictionaries(st.sampled_from("abc"), FIELDS),
    LEVELS,
    st.sampled_from(["keep", "drop", "reject"]),
    st.sampled_from([24, 168]),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(DATASETS, min_size=1, max_size=6))
def test_whatever_is_applied_again_changes_nothing_and_every_step_is_told(wanted):
    versions: list[Dataset] = []
    for at, one in enumerate(wanted):
        planned = plan(versions, one, NOW + at * timedelta(days=1))
        if planned.refusals:
            assert planned.dataset.version == versions[-1].version
            continue
        same = versions and fingerprint(versions[-1]) == fingerprint(one)
        assert (planned.verdict == "unchanged") == bool(same)
        if not same:
            versions.append(planned.dataset)
        assert plan(versions, one, NOW + timedelta(days=99)).verdict == "unchanged"
        assert fingerprint(versions[-1]) == fingerprint(one)
    for old, new in pairwise(versions):
        assert new.version == old.version + 1
        assert all(level.live_from is None or level.live_from > 0 for level in new.levels)


# applying ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def catalog() -> Catalog:
    return Catalog(MemoryTable(), MemoryObjects())


def published(catalog: Catalog, name: str = "d") -> int:
    return decode_dataset(catalog.objects.get(f"config/{name}.json")).version


def test_a_version_says_who_applied_it_and_when_and_its_hash_is_of_the_body_alone(catalog):
    done = apply(catalog, dataset(), NOW, "ann@laptop")
    assert done.verdict == "new"
    stored = catalog.dataset("d")
    assert (stored.version, stored.applied_at, stored.applied_by) == (1, to_micros(NOW), "ann@laptop")
    apply(catalog, dataset(buffer_ttl_hours=24), NOW + timedelta(days=1), "bob@desk")
    apply(catalog, dataset(), NOW + timedelta(days=2), "bob@desk")
    first, second, third = catalog.versions("d")
    assert fingerprint(first) == fingerprint(third) == fingerprint(dataset()) != fingerprint(second)
    assert [version.applied_by for version in (first, second, third)] == ["ann@laptop", "bob@desk", "bob@desk"]


def test_a_version_is_taken_back_as_a_new_one_where_that_is_safe(catalog):
    apply(catalog, dataset(), NOW)
    apply(catalog, dataset(buffer_ttl_hours=24, fields=fields(n=Field("float", "n"))), NOW)
    with pytest.raises(ConfigError, match="float → int is refused"):
        rollback(catalog, "d", 1, NOW)
    apply(catalog, dataset(buffer_ttl_hours=24, fields=fields(n=Field("float", "n")), description="x"), NOW)
    done = rollback(catalog, "d", 2, NOW, "ann")
    assert (done.dataset.version, done.dataset.description, done.dataset.applied_by) == (4, "", "ann")
    assert rollback(catalog, "d", 2, NOW).verdict == "unchanged"
    with pytest.raises(NotFoundError, match=r"dataset d has no version 9 \(versions 1 to 4\)"):
        rollback(catalog, "d", 9, NOW)
    with pytest.raises(NotFoundError, match=r"there is no dataset 'e' \(known datasets: d\)"):
        rollback(catalog, "e", 1, NOW)


class Hooked:
    """A catalog in which something happens before a call, once."""

    def __init__(self, catalog: Catalog, name: str, hook) -> None:
        self._catalog, self._name, self._hook = catalog, name, hook

    def __getattr__(self, name):
        if name == self._name and self._hook:
            hook, self._hook = self._hook, None
            hook()
        return getattr(self._catalog, name)


def test_of_two_who_apply_at_once_one_is_told(catalog):
    apply(catalog, dataset(), NOW)
    late = Hooked(catalog, "put_dataset", lambda: apply(catalog, dataset(buffer_ttl_hours=24), NOW, "bob"))
    with pytest.raises(ConfigError, match="somebody applied version 2 at the same time") as caught:
        apply(late, dataset(buffer_ttl_hours=48), NOW, "ann")
    assert len(caught.value.faults) == 1
    assert [version.buffer_ttl_hours for version in catalog.versions("d")] == [168, 24]


def test_a_put_whose_answer_was_lost_is_not_taken_for_somebody_elses(catalog):
    class Lost:
        def __getattr__(self, name):
            return getattr(catalog, name)

        def put_dataset(self, one, now, unused):
            catalog.put_dataset(one, now, unused)
            raise ConditionFailed("the first attempt had arrived")

    assert apply(Lost(), dataset(), NOW, "ann").verdict == "new"
    assert catalog.dataset("d").version == 1


def test_every_version_is_published_and_the_newest_under_the_name(catalog):
    apply(catalog, dataset(), NOW)
    apply(catalog, dataset(buffer_ttl_hours=24), NOW)
    names = [info.key for info in catalog.objects.list("config/")]
    assert names == ["config/d.json", "config/d/v000000000001.json", "config/d/v000000000002.json"]
    assert [decode_dataset(catalog.objects.get(name)) for name in names[1:]] == catalog.versions("d")
    assert decode_dataset(catalog.objects.get("config/d.json")) == catalog.dataset("d")


def test_a_crash_before_publishing_is_mended_by_applying_again(catalog):
    planned = plan([], dataset(), NOW).dataset
    catalog.put_dataset(planned, NOW)  # … and the process is gone
    assert not list(catalog.objects.list("config/"))
    assert apply(catalog, dataset(), NOW).verdict == "unchanged"
    assert published(catalog) == 1
    catalog.put_dataset(plan([planned], dataset(description="x"), NOW).dataset, NOW)
    apply(catalog, dataset(description="y"), NOW)  # the copies of the version in between are made, too
    assert [info.key for info in catalog.objects.list("config/d/")] == [f"config/d/{version_sk(v)}.json" for v in (1, 2, 3)]


@pytest.mark.parametrize("call", range(1, 9))
def test_two_who_publish_at_once_leave_the_newest_whoever_is_late(catalog, call):
    """Somebody applies and publishes version 2 before the nth call of the one who publishes version 1."""
    apply(catalog, dataset(), NOW)
    catalog.objects.delete("config/d.json")
    calls = []

    class Slow:
        def __getattr__(self, name):
            calls.append(name)
            if len(calls) == call:
                apply(catalog, dataset(description="newer"), NOW)
            return getattr(catalog.objects, name)

    Catalog(catalog.table, Slow()).publish("d")
    assert published(catalog) == catalog.dataset("d").version


def test_a_copy_ahead_of_the_catalog_is_replaced(catalog):
    """The catalog was restored from before a version was put."""
    apply(catalog, dataset(), NOW)
    ahead = replace(catalog.dataset("d"), version=7)
    catalog.objects.put("config/d.json", msgspec.json.encode(ahead))
    catalog.publish("d")
    assert published(catalog) == 1


# reading -----------------------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


class Counted:
    """A catalog that counts its reads of configurations."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog, self.reads = catalog, 0

    def dataset_names(self):
        return self.catalog.dataset_names()

    def dataset(self, name, version=None):
        self.reads += 1
        return self.catalog.dataset(name, version)


def test_a_change_is_picked_up_within_sixty_seconds(catalog):
    clock, counted = Clock(), Counted(catalog)
    configs = Configs(counted, clock)
    with pytest.raises(UnknownDataset, match="known datasets: none yet"):
        configs.get("d")
    apply(catalog, dataset(), NOW)
    assert configs.get("d").version == 1  # an unknown name is never answered from the cache
    apply(catalog, dataset(buffer_ttl_hours=24), NOW)
    seen = []
    for _ in range(61):
        seen.append(configs.get("d").version)
        clock.now += timedelta(seconds=1)
    assert (seen[:60], seen[60]) == ([1] * 60, 2)
    assert counted.reads == 3


def test_a_version_that_a_record_names_is_read_at_once(catalog):
    configs = Configs(catalog, Clock())
    apply(catalog, dataset(), NOW)
    assert configs.get("d").version == 1
    apply(catalog, dataset(buffer_ttl_hours=24), NOW)
    assert configs.get("d", at_least=1).version == 1
    assert configs.get("d", at_least=2).version == 2


def test_a_fresh_copy_is_read_once_a_second_at_most(catalog):
    clock, counted = Clock(), Counted(catalog)
    configs = Configs(counted, clock)
    apply(catalog, dataset(), NOW)
    for _ in range(30):
        configs.refresh("d")
        clock.now += timedelta(milliseconds=100)
    assert counted.reads == 3
    apply(catalog, dataset(description="x"), NOW)
    clock.now += timedelta(seconds=1)
    assert configs.refresh("d").version == configs.get("d").version == 2


def test_the_version_before_is_read_once(catalog):
    counted = Counted(catalog)
    configs = Configs(counted, Clock())
    apply(catalog, dataset(), NOW)
    first = configs.get("d")
    assert configs.before(first) is None
    apply(catalog, dataset(description="x"), NOW)
    second = configs.get("d", at_least=2)
    reads = counted.reads
    assert configs.before(second) == configs.before(second) == first
    assert counted.reads == reads + 1


def damage(catalog: Catalog, name: str, version: int, body: str = '{"name": "d", "type": "hologram"}') -> None:
    catalog.table.put({"pk": config_pk(name), "sk": version_sk(version), "body": body})


@pytest.mark.parametrize("body", ["", "{", "[]", '{"name":"d"}', json.dumps({"fields": {"x": {"type": "hologram", "path": "x"}}})])
def test_a_damaged_configuration_is_named_and_does_not_stop_the_others(catalog, body):
    apply(catalog, dataset(), NOW)
    apply(catalog, dataset(name="e"), NOW)
    damage(catalog, "d", 2, body)
    configs = Configs(catalog, Clock())
    assert configs.get("e").name == "e"
    for read in (configs.get, configs.knows, configs.refresh, catalog.dataset, catalog.versions):
        with pytest.raises(DamagedError, match="d version 2: the configuration does not decode"):
            read("d")
    with pytest.raises(DamagedError):
        apply(catalog, dataset(description="x"), NOW)
    assert [found.name for found in catalog.datasets()] == ["e"]
    assert catalog.sound("d").version == 1
    apply(catalog, dataset(name="e", description="x"), NOW)
    assert published(catalog, "e") == 2
