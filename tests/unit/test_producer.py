"""`store.producer` over a stage that kills connections, throttles and takes parts: all is delivered or given back."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesseract.config.schema import parse
from tesseract.errors import BackendError, InputError, Throttled, Undelivered
from tesseract.ingestion import chunks, producer
from tesseract.ingestion.client import Busy, Report, backoff
from tesseract.ingestion.producer import Producer
from tesseract.ingestion.transports import Http, Kinesis
from tesseract.storage.memory import memory_backend
from tesseract.store import Store
from tests.support.flaky_api import FlakyApi
from tests.support.ingest_world import NOW, World, reading

PLANT = parse("datasets: {plant: {group_by: g, time_field: t, fields: {x: float}}}")["plant"]


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(producer, "CHUNK_RECORDS", 5)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")


class Road:
    """A transport whose answers a test scripts; `sent` are the indices of each call."""

    by_group = False

    def __init__(self, *script):
        self.script, self.sent, self.bodies = list(script), [], []

    def __call__(self, dataset, lines, group):
        self.sent.append([line.index for line in lines])
        self.bodies += [line.body for line in lines]
        step = self.script.pop(0) if self.script else None
        if isinstance(step, Exception):
            raise step
        return step(lines) if step else Report(len(lines))


def made(road, **options):
    return Producer(PLANT, road, **{"flush_seconds": 60, "pause": lambda attempts, at_least: 0, **options})


def emit(p, *records, error=None):
    """A program: it sends its records, and perhaps breaks."""
    with p:
        for record in records:
            p.send(record)
        if error:
            raise error


# the stage over HTTP ----------------------------------------------------------------------------------------------------

MODES = ["drop", "lose", "half", "busy", "down", "partial", "none", "ok"]
READINGS = st.lists(st.tuples(st.integers(0, 6), st.one_of(st.integers(0, 99), st.just("bad"))), max_size=40)


@given(READINGS, st.lists(st.sampled_from(MODES), max_size=12))
@settings(max_examples=40, deadline=None)
def test_whatever_the_stage_does_all_is_accepted_or_reported_and_the_later_put_wins(readings, script):
    world, told = World(), []
    with FlakyApi(world, script) as api, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TESSERACT_API_URL", api.url)
        with made(Http("test"), on_reject=lambda record, rejection: told.append((rejection.index, record))) as p:
            for minute, value in readings:
                p.send(reading(minute, value))
    good = [(minute, value) for minute, value in readings if value != "bad"]
    assert (p.counts.sent, p.counts.accepted, p.counts.pending) == (len(readings), len(good), 0)
    assert [index for index, _ in told] == [index for index, (_, value) in enumerate(readings) if value == "bad"]
    assert all(record["x"] == "bad" for _, record in told)
    assert list(p.rejected) == sorted(p.rejected, key=lambda entry: entry.index)
    stored = {sk[14:16]: fields["x"] for (_, sk), fields in world.stored().items()}
    assert stored == {f"{minute:02}": value for minute, value in good}


def test_connections_are_kept():
    with FlakyApi(World()) as api, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TESSERACT_API_URL", api.url)
        with made(Http("test")) as p:
            for minute in range(40):
                p.send(reading(minute))
    assert len(api.modes) >= 8
    assert api.connections == 1


def test_a_stage_that_stays_away_costs_nothing_that_is_not_given_back():
    world = World()
    with FlakyApi(world, ["ok", *["lose"] * 10_000]) as api, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TESSERACT_API_URL", api.url)
        p = made(Http("test"), close_seconds=0.3)
        with pytest.raises(Undelivered, match=r"\d+ records of 'plant' are not delivered: .*within 0\.3 s") as caught:
            emit(p, *map(reading, range(12)), reading(13, x=float("nan")))
    assert caught.value.records == tuple(reading(minute) for minute in range(p.counts.accepted, 12))
    assert p.counts.sent == 13 == p.counts.accepted + p.counts.rejected + p.counts.pending
    assert p.counts.rejected == 1


# batches ----------------------------------------------------------------------------------------------------------------


def test_a_batch_goes_when_it_is_full_or_old_or_asked_for():
    arrived = threading.Event()

    def tell(lines):
        arrived.set()
        return Report(len(lines))

    road = Road(tell, tell)
    with made(road) as p:  # a minute is far away
        for minute in range(5):
            p.send(reading(minute))
        assert arrived.wait(10)
        p.send(reading(6))
        p.flush()
        assert road.sent == [[0, 1, 2, 3, 4], [5]]
        p.flush()  # of nothing
    arrived.clear()
    with made(Road(tell), flush_seconds=0.001) as p:
        p.send(reading(0))
        assert arrived.wait(10)


def test_a_batch_is_bounded_in_bytes(monkeypatch):
    monkeypatch.setattr(producer, "CHUNK_BYTES", 100)
    road = Road()
    with made(road) as p:
        for minute in range(4):
            p.send(reading(minute))
    assert road.sent == [[0, 1, 2], [3]]


def test_only_what_was_not_written_is_sent_again_before_anything_newer():
    from tesseract.ingestion.answers import NOT_WRITTEN
    from tesseract.ingestion.validators import Rejection

    partial = lambda lines: Report(3, [Rejection(lines[place].index, "", "", NOT_WRITTEN) for place in (1, 3)], retry_after=4)
    asked = []
    road = Road(partial, Busy("slow", 7))
    with made(road, pause=lambda attempts, at_least: asked.append((attempts, at_least)) or 0) as p:
        for minute in range(7):
            p.send(reading(minute))
    assert road.sent == [[0, 1, 2, 3, 4], [1, 3], [1, 3], [5, 6]]
    assert asked == [(1, 4), (2, 7)]
    assert p.counts == (7, 7, 0, 4, 0)


def test_back_off_is_full_jitter_above_what_the_server_asked_for():
    assert all(3 <= backoff(2, 3) <= 3.4 for _ in range(100))
    assert max(backoff(60) for _ in range(100)) <= 20
    assert len({backoff(5) for _ in range(10)}) == 10


def test_kinesis_gets_each_group_apart(monkeypatch):
    put = []
    stream = type("S", (), {"put": staticmethod(lambda *record: put.append(record))})
    monkeypatch.setattr("tesseract.ingestion.transports.Stream", lambda name: stream)
    with made(Kinesis("test")) as p:
        for place, group in enumerate("aba"):
            p.send(reading(place, g=group))
        p.send({"g": "big", "t": "2026-01-05T11:00:00Z", "x": Decimal("1e999")})
    assert [key for _, key in put] == ["a", "b", "big"]
    assert p.counts.accepted == 4


def test_an_envelope_counts_as_its_records():
    dataset = parse("datasets: {plant: {group_by: g, time_field: t, records_path: rows, fields: {x: float}}}")["plant"]
    road = Road()
    with Producer(dataset, road) as p:
        p.send({"g": "a", "rows": [{"t": "2026-01-05T11:00:00Z", "x": x} for x in range(3)]})
    assert (p.counts.sent, road.sent) == (3, [[0, 1, 2]])


# pressure and ends ------------------------------------------------------------------------------------------------------


def held():
    """A road that lets nothing through until it is opened."""
    gate, reached = threading.Event(), threading.Event()

    def wait(lines):
        reached.set()
        assert gate.wait(30)
        return Report(len(lines))

    return Road(wait), gate, reached


def test_a_full_queue_blocks_and_a_time_out_takes_nothing():
    road, gate, reached = held()
    with made(road, queue=5) as p:
        for minute in range(5):
            p.send(reading(minute))
        assert reached.wait(10)
        with pytest.raises(Throttled, match=r"5 records wait to be sent, and none left within 0\.01 s"):
            p.send(reading(5), timeout=0.01)
        with pytest.raises(Throttled, match=r"5 records are not sent after 0\.01 s"):
            p.flush(timeout=0.01)
        assert p.counts == (5, 0, 0, 0, 5)
        blocked = threading.Thread(target=p.send, args=(reading(5),))
        blocked.start()
        gate.set()
        blocked.join(10)
    assert p.counts == (6, 6, 0, 0, 0)


def test_a_queue_is_bounded_in_bytes(monkeypatch):
    monkeypatch.setattr(producer, "QUEUE_BYTES", 10)
    road, gate, _ = held()
    with made(road) as p:
        p.send(reading(0))
        with pytest.raises(Throttled):
            p.send(reading(1), timeout=0.01)
        gate.set()


def test_what_waiting_does_not_mend_is_said_at_once_and_the_records_come_back():
    road = Road(None, BackendError("AWS said no"))
    p = made(road)

    def program():
        with p:
            p.send(reading(0))
            p.flush()
            p.send(reading(1))
            p.send(reading(2))
            with pytest.raises(BackendError, match="AWS said no"):
                p.flush()
            with pytest.raises(BackendError, match="AWS said no"):
                p.send(reading(3))

    with pytest.raises(Undelivered, match="2 records of 'plant' are not delivered: AWS said no") as caught:
        program()
    assert caught.value.records == (reading(1), reading(2))
    assert isinstance(caught.value.__cause__, BackendError)
    assert p.counts == (3, 1, 0, 0, 2)


def test_a_fault_of_ours_gives_the_records_back_too(caplog):
    with pytest.raises(Undelivered, match="the sender failed: ValueError") as caught:
        emit(made(Road(ValueError("oops"))), reading(0))
    assert caught.value.records == (reading(0),)


def test_an_answer_that_comes_after_the_end_counts_no_more():
    road, gate, reached = held()
    p = made(road, close_seconds=0.01)
    with pytest.raises(Undelivered) as caught:
        emit(p, reading(0))
    assert reached.wait(10)
    gate.set()
    p._thread.join(10)
    assert caught.value.records == (reading(0),)
    assert p.counts == (1, 0, 0, 0, 1)


def test_an_exception_in_the_block_still_sends_what_was_taken():
    broken = RuntimeError("the sensor broke")
    p = made(Road())
    with pytest.raises(RuntimeError, match="the sensor broke"):
        emit(p, reading(0), error=broken)
    assert p.counts == (1, 1, 0, 0, 0)
    with pytest.raises(Undelivered) as caught:
        emit(made(Road(BackendError("no"))), reading(0), error=broken)
    assert caught.value.records == (reading(0),)
    assert caught.value.__context__ is broken


def test_a_record_may_be_changed_after_it_was_taken_and_comes_back_as_it_was():
    exact = Decimal("0.10000000000000000000000000000000000001")
    record = reading(0)

    def program():
        with made(Road(BackendError("no"))) as p:
            for record["x"] in (1.5, exact):
                p.send(record)

    with pytest.raises(Undelivered) as caught:
        program()
    assert [given["x"] for given in caught.value.records] == [1.5, exact]


def test_a_callback_that_fails_costs_nothing(caplog):
    def broken(record, rejection):
        raise KeyError("oops")

    road = Road()
    with made(road, on_reject=broken) as p:
        p.send(reading(0, x=float("inf")))
        p.send({"x": "\ud800"})
        p.send(reading(1))
    assert p.counts == (3, 1, 2, 0, 0)
    assert [entry.index for entry in p.rejected] == [0, 1]
    assert "on_reject failed" in caplog.text


def test_it_is_used_in_one_block():
    p = made(Road())
    with pytest.raises(InputError, match="not open"):
        p.send(reading(0))
    with p:
        pass
    with pytest.raises(InputError, match="not open"):
        p.send(reading(0))
    with pytest.raises(InputError, match="used once"), p:
        pass


def test_many_threads_share_one(monkeypatch):
    monkeypatch.setattr(producer, "CHUNK_RECORDS", chunks.CHUNK_RECORDS)
    road = Road(*[Busy("slow")] * 3)
    with made(road, queue=50) as p:
        threads = [
            threading.Thread(target=lambda: [p.send(reading(minute % 60)) for minute in range(200)], daemon=True) for _ in range(5)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert p.counts.accepted == 1000
    arrived = Counter(index for call in road.sent[3:] for index in call)
    assert set(arrived) == set(range(1000))


def test_the_store_makes_one(monkeypatch):
    store = Store(memory_backend(), "test", lambda: NOW)
    store.catalog.put_dataset(PLANT, NOW - timedelta(days=1))
    road = Road()
    monkeypatch.setattr("tesseract.ingestion.client.transport_of", lambda via, stage: {"http": road}[via])
    with store.producer("plant", via="http", flush_seconds=0.01) as p:
        p.send(reading(0))
    assert p.counts.accepted == 1
    with pytest.raises(InputError, match="there is no dataset 'plnat'"):
        store.producer("plnat", via="http")
