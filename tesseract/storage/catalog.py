"""The catalog: configurations, partitions, manifests, export windows and how far they have come. One class over one table.

A manifest version is one immutable item; a commit is the put of version n+1 if nobody has it yet. One write, no lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from hashlib import sha256

import msgspec

from tesseract.config.dataset import Dataset
from tesseract.errors import ConditionFailed, DamagedError, RetryError
from tesseract.model import Item, Manifest, Window, of_group, window_id
from tesseract.storage import copies, keys
from tesseract.storage.base import Absent, Before, Is, Objects, Table
from tesseract.storage.configurations import Configurations
from tesseract.storage.decoded import Manifests, decoded
from tesseract.utils.time_utils import to_micros

SPILL_BYTES = 64 * 1024  # a larger manifest lies in the bucket: an item holds 400 kB, and every commit writes it whole
ATTEMPTS = 50


class Progress(msgspec.Struct, frozen=True):
    """How far the archive has come, µs since 1970; 0 where nothing is known.

    `archived_through`: every write before it is in committed segments. `snapshot_through`: the same for aggregate levels.
    `marks_since`: day marks that were put before it may have been lost.
    """

    archived_through: int = 0
    snapshot_through: int = 0
    marks_since: int = 0

    def to_readers(self) -> Progress:
        """What counts for who goes by day marks: until they are whole again, nothing is known to be in the archive."""
        archived, snapshot = (
            through if through >= self.marks_since else 0 for through in (self.archived_through, self.snapshot_through)
        )
        return Progress(archived, snapshot)


class Outage(msgspec.Struct, frozen=True):
    """A time [start, end], in seconds since 1970, whose changes the stream functions may have lost."""

    start: int
    end: int


class Streams(msgspec.Struct, frozen=True):
    """An outage, if there is one, and when each stream function last applied a batch whole, seconds since 1970."""

    outage: Outage | None
    reached: dict[str, int]


class Catalog(Configurations):
    """The catalog of one stage. `objects` holds manifests that are too large for an item, and copies of configurations."""

    def __init__(self, table: Table, objects: Objects) -> None:
        super().__init__(table, objects)
        self._manifests = Manifests()

    # manifests ------------------------------------------------------------------------------------------------------

    def groups(self, dataset: str, level: str) -> list[str]:
        """The groups that have segments at a level, in order."""
        return [item["sk"] for item in self.table.query(keys.partitions_pk(dataset, level))]

    def partitions(self, dataset: Dataset, level: str) -> list[str]:
        """The partitions that exist at a level, in order: one for each group, or the buckets that they share."""
        return sorted({keys.partition_name(dataset, group) for group in self.groups(dataset.name, level)})

    def manifest_of(self, dataset: Dataset, level: str, group: str) -> Manifest:
        """What the newest manifest has of one group, for readers."""
        return of_group(self.manifest(dataset.name, level, keys.partition_name(dataset, group)), group)

    def manifest(self, dataset: str, level: str, group: str) -> Manifest:
        """The newest manifest of a partition (named as `keys.partition_name` does); one of version 0 before its first commit.

        The table is asked each time; the answer is decoded, or fetched from the bucket, where it is another than before.
        """
        pk = keys.manifest_pk(dataset, level, group)
        item = next(self.table.query(pk, "v", "w", reverse=True, limit=1), None)
        return Manifest(dataset, level, group) if item is None else self._manifests.get(pk, item, self.objects)

    def last_manifest(self, dataset: str, level: str, group: str) -> Manifest | None:
        """What `manifest` last said, without asking: perhaps no more the newest. None where it is not remembered."""
        return self._manifests.last(keys.manifest_pk(dataset, level, group))

    def manifests(self, dataset: str, level: str, group: str) -> Iterator[Manifest]:
        """The versions of a partition's manifest that are kept, newest first. Raises DamagedError at one that does not decode."""
        items = self.table.query(keys.manifest_pk(dataset, level, group), "v", "w", reverse=True)
        return (decoded(item, self.objects)[0] for item in items)

    def restore(self, manifest: Manifest) -> bool:
        """Put a version of a manifest that the table has lost, as it was; False where it has that version."""
        with suppress(ConditionFailed):  # a run that was cut short has put it, or a commit is of that number: it stays
            self.table.put(self._encode(manifest), Absent())
            return True
        return False

    def forget(self, manifest: Manifest) -> None:
        """Remove one version of a manifest, for good; what it has in the bucket is left."""
        self.table.delete((keys.manifest_pk(manifest.dataset, manifest.level, manifest.group), keys.version_sk(manifest.version)))

    def commit(
        self, dataset: str, level: str, group: str, change: Callable[[Manifest], Manifest | None], now: datetime
    ) -> Manifest | None:
        """Write the next version as `change` makes it from the newest; on a conflict, `change` is asked again.

        `change` is pure; it answers None where nothing is to be done, and so does this.
        """
        for _ in range(ATTEMPTS):
            old = self.manifest(dataset, level, group)
            new = change(old)
            if new is None:
                copies.keep(self.objects, old)  # what is there already may be the work of an attempt that died before its copy
                return None
            if not old.version and copies.exist(self.objects, dataset, level, group):
                if self.manifest(dataset, level, group).version:
                    continue  # two first commits at once: the other's came between our read and the look at the bucket
                raise copies.lost(dataset, level, group)
            for name in _unlisted(old, new):  # before the commit, so that no group has rows unlisted
                self.table.put({"pk": keys.partitions_pk(dataset, level), "sk": name})
            new = msgspec.structs.replace(new, version=old.version + 1, committed_at=to_micros(now))
            try:
                # two commits at once: both read version n, the second put finds n+1 there and starts over
                self.table.put(self._encode(new), Absent())
            except ConditionFailed:
                continue
            copies.keep(self.objects, new)
            return new
        raise RetryError("the manifest changed under every attempt", operation="commit", key=f"{dataset} {level} {group}")

    def _encode(self, manifest: Manifest) -> Item:
        body = msgspec.json.encode(manifest)
        item: Item = {
            "pk": keys.manifest_pk(manifest.dataset, manifest.level, manifest.group),
            "sk": keys.version_sk(manifest.version),
        }
        if len(body) <= SPILL_BYTES:
            return {**item, "body": body.decode()}
        name = f"catalog/manifests/{item['pk']}/{item['sk']}-{sha256(body).hexdigest()[:16]}.json"
        self.objects.put(name, body)
        return {**item, "object": name}

    # export windows -------------------------------------------------------------------------------------------------

    def windows(self, since: int | None = None) -> list[Window]:
        """All export windows, oldest first; with `since` (µs since 1970) those that start then or later, and the last before."""
        if since is None:
            return [_window(item) for item in self.table.query(keys.WINDOWS_PK)]
        first = window_id(since)
        before = self.table.query(keys.WINDOWS_PK, None, first, reverse=True, limit=1)
        return [_window(item) for item in (*before, *self.table.query(keys.WINDOWS_PK, first))]

    def newest_windows(self, count: int) -> list[Window]:
        """The newest export windows, oldest first."""
        return [_window(item) for item in self.table.query(keys.WINDOWS_PK, reverse=True, limit=count)][::-1]

    def window(self, name: str) -> Window | None:
        """One export window."""
        item = self.table.get((keys.WINDOWS_PK, name))
        return None if item is None else _window(item)

    def open_window(self, window: Window) -> None:
        """Record a new window. Raises ConditionFailed where another timer was first."""
        self.table.put(_window_item(window, 1), Absent())

    def change_window(self, window_id: str, change: Callable[[Window], Window | None]) -> Window:
        """Replace a window by what `change` makes of it; None leaves it. Returns what is stored then."""
        for _ in range(ATTEMPTS):
            item = self.table.get((keys.WINDOWS_PK, window_id))
            if item is None:
                raise DamagedError("the export window has gone", key=window_id)
            old = _window(item)
            new = change(old)
            if new is None or new == old:
                return old
            try:
                # a worker and the timer change one window: the second finds another version and looks again
                self.table.put(_window_item(new, item["version"] + 1), Is("version", item["version"]))
            except ConditionFailed:
                continue
            return new
        raise RetryError("the window changed under every attempt", operation="change_window", key=window_id)

    def finish_file(
        self, window_id: str, export_id: str, file: str, rows: int, last_write: int = 0, datasets: Mapping[str, int] | None = None
    ) -> None:
        """Record that a file's rows are committed, the last written at `last_write` (µs). Doing it twice changes nothing.

        `datasets` are the rows by dataset.
        """
        place = {"pk": keys.window_files_pk(window_id), "sk": f"{export_id}/{file}"}
        self.table.put({**place, "rows": rows, "last_write": last_write, "datasets": dict(datasets or {})})

    def last_write(self, window: Window) -> int:
        """When the last record of a window was written, µs since 1970; 0 where none was, or a full export does not say."""
        if window.kind == "full":
            return 0
        items = self.table.query(keys.window_files_pk(window.id), f"{window.export}/", f"{window.export}0")
        return max((int(item.get("last_write", 0)) for item in items), default=0)

    def finished_files(self, window_id: str, export_id: str) -> dict[str, int]:
        """The finished files of one export of a window, and their rows."""
        items = self.table.query(keys.window_files_pk(window_id), f"{export_id}/", f"{export_id}0")
        return {item["sk"].partition("/")[2]: int(item["rows"]) for item in items}

    def rows_of(self, window: Window, dataset: str) -> int:
        """How many rows of a dataset the finished files of a window have brought."""
        items = self.table.query(keys.window_files_pk(window.id), f"{window.export}/", f"{window.export}0")
        return sum(int(item.get("datasets", {}).get(dataset, 0)) for item in items)

    # progress -------------------------------------------------------------------------------------------------------

    def progress(self) -> Progress:
        """How far archive and snapshots have come."""
        pk = keys.PROGRESS_PK
        items = {item["sk"]: int(item["through"]) for item in self.table.query(pk)}
        return Progress(items.get("archived", 0), items.get("snapshot", 0), items.get("marks", 0))

    def advance(self, what: str, through: int) -> None:
        """Move `archived`, `snapshot` or `marks` forward; a smaller value than the stored one changes nothing."""
        try:
            # workers close windows in any order: progress only ever moves forward
            self.table.put({"pk": keys.PROGRESS_PK, "sk": what, "through": through}, Before("through", through))
        except ConditionFailed:
            return

    # outages --------------------------------------------------------------------------------------------------------

    def outage(self) -> Outage | None:
        """The outage that lasts, or that is not healed yet; None where there is none."""
        return self.streams().outage

    def streams(self) -> Streams:
        """How the stream functions stand: one Query."""
        items = {item["sk"]: item for item in self.table.query(keys.OUTAGE_PK)}
        outage = items.pop(keys.OUTAGE_PK, None)
        span = None if outage is None else Outage(int(outage["start"]), int(outage["end"]))
        return Streams(span, {function: int(item["reached"]) for function, item in items.items()})

    def reached(self, function: str, moment: int) -> None:
        """Note that a stream function has applied a batch whole at `moment` (s since 1970); never back."""
        with suppress(ConditionFailed):
            # two shards at once: the later moment stays, and serves both
            self.table.put({"pk": keys.OUTAGE_PK, "sk": function, "reached": moment}, Before("reached", moment))

    def extend_outage(self, wider: Outage) -> None:
        """Declare an outage, or make the one that is there as wide as `wider`; never narrower."""
        for _ in range(ATTEMPTS):
            old = self.outage()
            new = wider if old is None else Outage(min(old.start, wider.start), max(old.end, wider.end))
            if new == old:
                return
            item = {"pk": keys.OUTAGE_PK, "sk": keys.OUTAGE_PK, "start": new.start, "end": new.end}
            item["span"] = _span(new)
            try:
                # two shards declare at once: the second finds another span and takes it in
                self.table.put(item, Absent() if old is None else Is("span", _span(old)))
            except ConditionFailed:
                continue
            return
        raise RetryError("the outage changed under every attempt", operation="extend_outage")

    def end_outage(self, healed: Outage) -> bool:
        """Remove an outage; False where it has become wider meanwhile: what came in addition is not healed."""
        try:
            self.table.delete((keys.OUTAGE_PK, keys.OUTAGE_PK), Is("span", _span(healed)))
        except ConditionFailed:
            return False
        return True


def _unlisted(old: Manifest, new: Manifest) -> list[str]:
    """The groups that a commit brings into a partition."""
    if not keys.is_shared(new.group):
        return [new.group] if old.version == 0 else []
    known = {name for segment in old.segments for name in segment.groups}
    return sorted({name for segment in new.segments for name in segment.groups} - known)


def _span(outage: Outage) -> str:
    return f"{outage.start}/{outage.end}"


def _window(item: Item) -> Window:
    return msgspec.json.decode(item["body"], type=Window)


def _window_item(window: Window, version: int) -> Item:
    body = msgspec.json.encode(window).decode()
    return {"pk": keys.WINDOWS_PK, "sk": window.id, "body": body, "version": version}
