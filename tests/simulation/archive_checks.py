"""The invariants of the archive: manifests name what was written, nothing that is needed goes, and the past stays as it was."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from tesseract.errors import NotFoundError
from tesseract.model import Manifest, Segment
from tesseract.storage.columns import DELETED, WRITE_TIME
from tesseract.storage.keys import PROGRESS_PK
from tesseract.utils.time_utils import from_micros, parse_duration, to_micros
from tests.simulation.compare import Result
from tests.simulation.oracle import Entry, moment

if TYPE_CHECKING:
    from tests.simulation.stage import Stage

SKEW = timedelta(seconds=3)  # of the clock of who commits
ATTEMPT = timedelta(minutes=16)  # a commit may be dated from the beginning of its attempt
Rows = dict[int, dict[str, Any] | None]  # valid time (µs) → the newest row; None for a tombstone


class Version(NamedTuple):
    """What a version of a group's raw manifest shows, and since when (µs) it was the newest one."""

    since: int
    rows: Rows


class ArchiveChecks:
    """Looks at every version of a manifest as it is put. `read` gives the rows of a segment."""

    def __init__(self, stage: Stage, read: Callable[[bytes], list[dict[str, Any]]]) -> None:
        self.stage = stage
        self._read = read
        self._segments: dict[str, list[dict[str, Any]]] = {}
        self.newest: dict[str, Manifest] = {}  # by the item's pk
        self.commits: set[tuple[str, str]] = set()  # every one that was ever made
        self.forgotten: dict[str, datetime] = {}  # group → when an erasure last began or ended
        self.versions: dict[str, list[Version]] = {}  # of raw rows, by group
        self.backfilled: Callable[[Manifest, list[Segment]], None] = lambda manifest, segments: None

    # what is committed ----------------------------------------------------------------------------------------------------

    def put(self, item: dict[str, Any]) -> None:
        """An item of the catalog was put."""
        if item["pk"].startswith("manifest#"):
            self._manifest(item)
        elif item["pk"] == PROGRESS_PK and item["sk"] == "archived":
            self.stage.sim.say("archived through", from_micros(int(item["through"])))
            for group in self.versions:
                self.sound(group)

    def _manifest(self, item: dict[str, Any]) -> None:
        manifest = msgspec.json.decode(item["body"], type=Manifest)
        before = self.newest.get(item["pk"])
        self.newest[item["pk"]] = manifest
        self.stage.sim.say(f"manifest {item['pk'].split('#', 2)[2]} v{manifest.version}:", manifest.operation)
        self.stage.checks.seen["commits"] += 1
        fresh_ids = [applied.id for applied in manifest.applied]
        for known_id in before.applied if before else ():
            if known_id.id in fresh_ids:
                fresh_ids.remove(known_id.id)
        for commit in fresh_ids:
            if (item["pk"], commit) in self.commits and not commit.startswith("backfill"):
                self.stage.checks.fail("commit", f"{commit} was made twice in", item["pk"])
            self.commits.add((item["pk"], commit))
        old = {segment.key: segment for segment in before.segments} if before else {}
        fresh = [segment for segment in manifest.segments if segment.key not in old]
        if manifest.operation.startswith("compact"):
            self._merge(manifest, [old[key] for key in old.keys() - {segment.key for segment in manifest.segments}], fresh)
        if manifest.level != "raw":
            return
        if manifest.operation.startswith("backfill"):
            self.backfilled(manifest, fresh)
        own = self.versions.setdefault(manifest.group, [])
        own.append(Version(to_micros(self.stage.sim.now), self._rows(manifest)))
        self.sound(manifest.group)

    def _merge(self, manifest: Manifest, inputs: list[Segment], outputs: list[Segment]) -> None:
        """A merge takes segments of windows that are closed, and puts in nothing but rows of those."""
        self.stage.checks.seen["merges"] += 1
        progress = self.stage.catalog.progress()
        through = progress.archived_through if manifest.level in ("raw", "revisions") else progress.snapshot_through
        if any(segment.window_end > through for segment in inputs):
            self.stage.checks.fail("merge", "of a window that is not closed:", manifest.operation)
        if manifest.level == "raw":
            taken = {_identity(row) for segment in inputs for row in self.rows_of(segment)}
            if not taken.issuperset(_identity(row) for segment in outputs for row in self.rows_of(segment)):
                self.stage.checks.fail("merge", "of rows that somebody had taken before:", manifest.operation)

    def _rows(self, manifest: Manifest) -> Rows:
        """The newest row of each key: ref time under ref-time order, then write time."""
        found: dict[int, tuple[Any, dict[str, Any]]] = {}
        for segment in sorted(manifest.segments, key=lambda segment: segment.window_end):
            for row in self.rows_of(segment):
                ref = row["ref_time"].isoformat() if self.stage.newest.by_ref_time and row["ref_time"] else ""
                age, at = (ref, row[WRITE_TIME]), to_micros(row["valid_time"])
                if at not in found or age >= found[at][0]:
                    found[at] = age, row
        return {at: None if row[DELETED] else row for at, (_, row) in found.items()}

    def rows_of(self, segment: Segment) -> list[dict[str, Any]]:
        """The rows of a segment."""
        if segment.key not in self._segments:
            try:
                rows = self._read(self.stage.store.objects.get(segment.key))
            except NotFoundError:
                self.stage.checks.fail("removed", "an object before it was named:", segment.key)
            if len(rows) != segment.rows:
                self.stage.checks.fail("segment", f"{segment.key} has {len(rows)} rows, not {segment.rows}")
            self._segments[segment.key] = rows
        return self._segments[segment.key]

    def sound(self, group: str) -> None:
        """The archive has every write before `archived_through`, and shows no row that was not to be seen since."""
        through, oracle = self.stage.through(), self.stage.oracle
        rows = self.versions[group][-1].rows
        keys: dict[int, list[Entry]] = {at: [] for at in rows}
        blank = dict.fromkeys(self.stage.newest.fields)
        for entry in oracle.by_group.get(group, ()):
            keys.setdefault(entry.time, []).append(entry)
        for at, own in keys.items():
            first = sum(entry.at < through for entry in own)
            allowed = [oracle.visible(own[:end]).get(at) for end in range(first, len(own) + 1)]
            row = rows.get(at)
            got = None if row is None else blank | row
            if not any(self.stage.checks.same_record(got, entry) for entry in allowed):
                shown = "; ".join(map(str, allowed))
                self.stage.checks.fail(
                    "archive", f"through {from_micros(through)}: {group} {moment(at)} is {_brief(got)}, allowed: {shown}"
                )

    # what is removed ------------------------------------------------------------------------------------------------------

    def removed(self, key: str) -> None:
        """An object was removed: the newest manifests must not name it."""
        self.stage.sim.say("object gone:", key)
        self.stage.checks.seen["segments removed"] += key.startswith("archive/")
        if any(segment.key == key for manifest in self.newest.values() for segment in manifest.segments):
            self.stage.checks.fail("removed", "an object that the newest manifest names:", key)

    # the past -------------------------------------------------------------------------------------------------------------

    def forgets(self, group: str) -> None:
        """An erasure may remove every former state of a group."""
        self.forgotten[group] = self.stage.sim.now
        if group in self.versions:
            self.versions[group] = self.versions[group][-1:]

    def kept(self) -> timedelta:
        """How far back states must be readable."""
        return parse_duration(self.stage.newest.history)

    def past(self, group: str, at: datetime, result: Result) -> None:
        """What a query showed of the archive as of a moment is what the archive held then."""
        self.stage.checks.seen["queries of the past"] += 1
        versions = self.versions.get(group, [])
        since = [version.since for version in versions]
        low, high = (bisect_right(since, to_micros(moment)) for moment in (at - SKEW, at + ATTEMPT))
        allowed = [versions[place - 1].rows if place else {} for place in range(low, high + 1)]
        got = {time: row for (_, time), row in result.items()}
        if not any(self._equal(got, rows) for rows in allowed):
            self.stage.checks.fail(
                "past", f"{group} as of {at} is {[f'{moment(t)} {_brief(r)}' for t, r in sorted(got.items())]},",
                f"was {[[f'{moment(t)} {_brief(r)}' for t, r in sorted(rows.items()) if r] for rows in allowed]}",
            )  # fmt: skip

    def _equal(self, got: Rows, rows: Rows) -> bool:
        visible = {at: row for at, row in rows.items() if row is not None}
        names = [*self.stage.newest.fields, "ref_time"]
        return got.keys() == visible.keys() and all(
            row is not None and all(row.get(name) == visible[at].get(name) for name in names) for at, row in got.items()
        )


def _identity(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["valid_time"], row["ref_time"], row[WRITE_TIME]


def _brief(row: dict[str, Any] | None) -> str:
    if row is None:
        return "absent"
    return " ".join(
        f"{n}={v}" for n, v in row.items() if v is not None and not n.startswith("__") and n not in ("station", "valid_time")
    )
