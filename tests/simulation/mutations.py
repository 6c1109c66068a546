"""The deliberate faults of the protocols."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from msgspec.structs import replace

from tesseract.processing import aggregator, batches, changes, extremes, live, mismatches, outage, raw_rows, repair
from tesseract.processing.aggregates import AggregateProcessor
from tesseract.processing.aggregator import identity, merge, shift
from tesseract.processing.latest import LatestProcessor
from tesseract.processing.live_item import encode_item
from tesseract.processing.repair import Repairer
from tests.simulation.faults import fault

# the stream: watermarks, conditions, answers ----------------------------------------------------------------------------


@fault("twice", 44)
def no_condition() -> list[Any]:
    """An item is written whatever somebody else has written since it was read."""

    def write(self: AggregateProcessor, task: Any, old: Any, new: Any) -> bool:
        self._live.put(encode_item(new, task.facts.level, self._clock()))
        return True

    return [patch.object(AggregateProcessor, "_write", write)]


@fault()
def sequence_as_text() -> list[Any]:
    """Sequence numbers are compared as the stream gives them."""
    return [patch.object(changes, "SEQUENCE_DIGITS", 0)]


@fault()
def below_the_watermark() -> list[Any]:
    """A change is folded though the item holds it."""
    begin = live._Draft.__init__

    def forgetful(self: Any, *arguments: Any) -> None:
        begin(self, *arguments)
        self.applied = self.prefix

    return [patch.object(live._Draft, "__init__", forgetful)]


@fault("", 65)
def acknowledged_in_part() -> list[Any]:
    """A batch is acknowledged whatever of it was written."""
    process = AggregateProcessor.process

    def all_of_it(self: AggregateProcessor, *batch: Any) -> None:
        process(self, *batch)

    return [patch.object(AggregateProcessor, "process", all_of_it)]


@fault()
def carried_on() -> list[Any]:
    """After a failure the changes behind it are applied, one by one; the lowest that failed is answered."""
    process = AggregateProcessor.process

    def one_by_one(self: AggregateProcessor, batch: Any, *_: Any) -> str | None:
        failed = [process(self, [change]) for change in batch]
        return min((number for number in failed if number is not None), key=int, default=None)

    return [patch.object(AggregateProcessor, "process", one_by_one)]


@fault()
def delta_always() -> list[Any]:
    """The day takes what its hours have folded of the batch, whatever its own watermark."""

    def of_parts(task: Any, applied: Any, deltas: Any) -> Any:
        total = identity()
        for part in task.parts:
            if id(part) in deltas:
                finer, state = deltas[id(part)]
                total = merge(total, shift(state, finer.item.start - applied.item.start))
        return total

    return [patch.object(batches, "_of_parts", of_parts)]


# retraction and extremes ------------------------------------------------------------------------------------------------


@fault()
def no_retraction() -> list[Any]:
    """A replaced value stays in the sums."""
    return [
        patch.object(live, "retract", lambda state, *_: state),
        patch.object(live, "correct", lambda s, _, new, at, f: live.fold(s, new, at, f)),
    ]


@fault("", 16)
def extremes_kept() -> list[Any]:
    """An extreme that is taken out is not looked up again."""
    retracted = aggregator.retracted

    def kept(field: Any, value: Any, at: int) -> Any:
        after = retracted(field, value, at)
        if not after.n:
            return after
        old = field if field.scale == after.scale else aggregator.aligned(field, after)[0]
        return after._replace(minimum=old.minimum, maximum=old.maximum, first=old.first, last=old.last)

    return [patch.object(aggregator, "retracted", kept)]


@fault("", 18)
def look_up_believed() -> list[Any]:
    """What a look-up found is taken, though raw items were ahead of the stream."""
    return [patch.object(extremes, "same_sums", lambda *_: True)]


# completeness -----------------------------------------------------------------------------------------------------------


@fault("old", 77)
def safe_until_ignored() -> list[Any]:
    """An insert is folded even when a copy of the record may have expired."""
    begin = live._Draft.__init__

    def careless(self: Any, *arguments: Any) -> None:
        begin(self, *arguments)
        self.safe_until = live.NO_LIMIT

    return [patch.object(live._Draft, "__init__", careless)]


@fault("config", 12)
def live_from_ignored() -> list[Any]:
    """A level that is added later takes periods that began before."""
    return [patch.object(live, "covers", lambda *_: True)]


@fault("old", 132)
def archive_not_asked() -> list[Any]:
    """A first insert into an old period is folded, whatever the archive has of it."""
    return [patch.object(AggregateProcessor, "_archived", lambda *_: False)]


@fault("outage", 93)
def outage_ignored() -> list[Any]:
    """No outage is ever declared."""
    return [patch.object(outage.Watch, "begin", lambda *_: False)]


@fault("outage", 180)
def silence_ignored() -> list[Any]:
    """A function that was not called for more than a day takes it that nothing was lost."""
    return [patch.object(outage.Watch, "_silent_since", lambda *_: None)]


@fault("outage", 184)
def not_compared() -> list[Any]:
    """Live items are not compared with raw rows when a window closes."""
    return [patch.object(mismatches, "note", lambda *_: None)]


@fault()
def another_stream_trusted() -> list[Any]:
    """The label of the stream is not part of a watermark."""
    decode = changes._decode

    def unlabelled(record: Any) -> Any:
        change = decode(record)
        return None if change is None else replace(change, watermark="x/" + change.watermark.rpartition("/")[2])

    return [patch.object(changes, "_decode", unlabelled)]


# repair -----------------------------------------------------------------------------------------------------------------


@fault("repair")
def stale_at_ignored() -> list[Any]:
    """An item is repaired from a window that ends before its last mark."""
    is_due = Repairer._is_due
    soon = lambda self, entry, item: is_due(
        self, entry, None if item is None else {**item, "stale_at": 0} if "stale_at" in item else item
    )
    return [patch.object(Repairer, "_is_due", soon)]


@fault("repair", 4)
def no_repaired_through() -> list[Any]:
    """A repaired item does not say what it holds."""
    write = repair.replace

    def unsaid(item: Any, **changes: Any) -> Any:
        return write(item, **{**changes, "repaired_through": None} if "repaired_through" in changes else changes)

    return [patch.object(repair, "replace", unsaid)]


@fault("repair", 44)
def no_band() -> list[Any]:
    """Creation times are believed to the second, and all clocks agree."""
    return [patch.object(live, "DELTA", 0)]


@fault("repair", 6)
def repaired_from_the_present() -> list[Any]:
    """A repair takes rows of windows that end after its own."""
    read = raw_rows.read
    return [patch.object(raw_rows, "as_of", lambda manifest, _: manifest), patch.object(raw_rows, "read", lambda *a, **_: read(*a))]


@fault("old", 106)
def entry_after_the_mark() -> list[Any]:
    """An item is marked first, and put on the worklist behind that."""

    class Late:
        def __init__(self, table: Any) -> None:
            self.table, self.held = table, []

        def put(self, item: Any, condition: Any = None) -> None:
            if item["pk"].startswith("worklist"):
                self.held.append(item)
                return
            self.table.put(item, condition)
            held, self.held = self.held, []
            for entry in held:
                self.table.put(entry)

        def put_many(self, items: Any) -> list[Any]:
            for item in items:
                self.put(item)
            return []

        def __getattr__(self, name: str) -> Any:
            return getattr(self.table, name)

    process = AggregateProcessor.process

    def processed(self: AggregateProcessor, *batch: Any) -> str | None:
        real, self._live = self._live, Late(self._live)
        try:
            return process(self, *batch)
        finally:
            self._live = real

    return [patch.object(AggregateProcessor, "process", processed)]


# latest values ----------------------------------------------------------------------------------------------------------


@fault("latest", 19)
def no_second_look() -> list[Any]:
    """A value that was looked up is not looked at again after it is written."""
    write, look_up = LatestProcessor._write, LatestProcessor._look_up

    def wrote(self: Any, key: Any, old: Any, at: str, reading: Any, *rest: Any) -> bool:
        done = write(self, key, old, at, reading, *rest)
        self.just = reading if done else None
        return done

    def looked(self: Any, dataset: Any, group: str, valid_time: str) -> Any:
        just, self.just = getattr(self, "just", None), None
        return just if just is not None and just.valid_time == valid_time else look_up(self, dataset, group, valid_time)

    return [patch.object(LatestProcessor, "_write", wrote), patch.object(LatestProcessor, "_look_up", looked)]


@fault("latest", 42)
def latest_without_condition() -> list[Any]:
    """Batches of two shards overwrite each other's latest value."""
    from tesseract.processing import latest

    class Always:
        def __init__(self, *_: Any) -> None: ...

    return [patch.object(latest, "Absent", lambda: None), patch.object(latest, "Is", lambda *_: None)]


@fault("latest")
def latest_not_looked_up() -> list[Any]:
    """A delete or a correction of the latest value is not looked up."""
    from tesseract.processing import latest

    wanted = latest.wanted
    return [patch.object(latest, "wanted", lambda changes: replace(wanted(changes), seen=frozenset()))]
