"""Segments that the manifest named when it was last seen are read while it is asked for again; only the one of now counts."""

from __future__ import annotations

from datetime import timedelta
from threading import Event

import msgspec

from tests.unit.query_world import NOW, START, World, values

HOUR = timedelta(hours=1)


def world() -> World:
    found = World()
    found.archive([(START + step * HOUR, values(step), False, START) for step in range(5)])
    found.progress(NOW)
    return found


def times(found: World) -> list[object]:
    return found.store.query("w", "A").column("valid_time").to_pylist()


def test_a_segment_is_read_while_the_manifest_is_asked_for(monkeypatch):
    one = world()
    assert len(times(one)) == 5
    catalog, objects = one.backend.catalog, one.backend.objects
    pages, get, fetched = catalog.pages, objects.get, Event()

    def waiting(pk, *rest, **options):
        if pk.startswith("manifest#"):
            assert fetched.wait(10)
        return pages(pk, *rest, **options)

    def fetching(*asked):
        fetched.set()
        return get(*asked)

    monkeypatch.setattr(catalog, "pages", waiting)
    monkeypatch.setattr(objects, "get", fetching)
    assert len(times(one)) == 5


def test_what_the_manifest_names_no_more_does_not_count():
    one = world()
    assert len(times(one)) == 5
    (old,) = one.store.catalog.manifest("w", "raw", "A").segments
    one.archive([(START + 9 * HOUR, values(9), False, START)])
    assert len(times(one)) == 6
    one.store.catalog.commit(
        "w", "raw", "A", lambda now: msgspec.structs.replace(now, segments=tuple(part for part in now.segments if part != old)), NOW
    )
    one.backend.objects.delete(old.key)
    assert times(one) == [START + 9 * HOUR]


def test_what_it_costs_is_the_same():
    one = world()
    first, second = (one.store.read("w", "A").stats for _ in range(2))
    assert (first.s3_requests, second.s3_requests) == (1, 1)
    assert second.dynamodb_requests <= first.dynamodb_requests
