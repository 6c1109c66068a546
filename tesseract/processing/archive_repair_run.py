"""Repairs damaged segments of the archive: looks for them and for what they can be made from, then carries out the plan.

A segment is replaced by one commit, so that readers see the damaged one or its replacement. Nothing is removed that is not replaced
whole, unless the loss is accepted. Raw rows come first: levels are computed from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from hashlib import sha256

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from tesseract.config.dataset import Dataset
from tesseract.config.retention import rows_kept_from
from tesseract.config.tiers import LIVE_LEVELS, Period
from tesseract.errors import DamagedError, NotFoundError, RetryError
from tesseract.model import Manifest, Segment
from tesseract.processing import archive_repair, archive_repair_levels
from tesseract.processing.archive_repair import Facts, Step
from tesseract.processing.collector import Task, tasks_of
from tesseract.processing.export_tables import Known, decode_file
from tesseract.processing.merge_files import merge_segments
from tesseract.processing.merge_plan import Merge
from tesseract.processing.segments import DAY, RAW, REVISIONS, Partition, swapped, write_segment
from tesseract.processing.verify import inspect, partitions_of
from tesseract.storage import copies, keys, segment_reader
from tesseract.storage.base import Backend
from tesseract.storage.catalog import Catalog
from tesseract.storage.columns import RawRow, raw_table
from tesseract.storage.items import records_of
from tesseract.storage.newest import newest
from tesseract.utils.time_utils import from_micros, iso_day, iso_seconds

Say = Callable[[str], None]


class Done(msgspec.Struct, frozen=True):
    """What became of one damaged segment. `rows` it had, of which `lost` at least are not in its replacement, or not to be trusted.

    `outcome`: `repaired`; `planned`, of a dry run; `lost`, and left as it is; or `accepted`: replaced without what is lost.
    """

    dataset: str
    level: str
    partition: str
    groups: str
    tier: str
    period: str
    key: str
    rows: int
    lost: int
    source: str
    outcome: str


@dataclass
class Files:
    """The tasks of the exports that the bucket still has, by the commits that they made."""

    catalog: Catalog
    backend: Backend
    found: dict[str, dict[str, Task]] = field(default_factory=dict)

    def task(self, commit: str) -> Task | None:
        """The task of a commit `{window}/{export}/{file}`; None where its file has gone."""
        name, _, rest = commit.partition("/")
        if name not in self.found:
            self.found[name] = self._of_window(name)
        return self.found[name].get(rest)

    def _of_window(self, name: str) -> dict[str, Task]:
        window = self.catalog.window(name)
        if window is None or not window.export:
            return {}
        with suppress(NotFoundError, DamagedError):  # removed after 14 days, or no longer what AWS wrote
            tasks = tasks_of(self.backend.objects, window)
            there = {info.key for info in self.backend.objects.list(keys.exports_prefix(name))}
            return {f"{window.export}/{task.file}": task for task in tasks if task.key in there}
        return {}


def look(backend: Backend, catalog: Catalog, dataset: Dataset, files: Files, say: Say = lambda _: None) -> Iterator[Facts]:
    """The facts of every partition that has damaged segments; each segment of the newest manifests is read whole."""
    raw_from = rows_kept_from(dataset, RAW, catalog.progress().snapshot_through)
    for partition in sorted(partitions_of(catalog, dataset), key=_turn):
        say(f"{dataset.name} {partition.level} {partition.name}")
        versions = tuple(catalog.manifests(dataset.name, partition.level, partition.name))
        bad = tuple(one for one in (versions[0].segments if versions else ()) if inspect(backend.objects, partition, one))
        if bad:
            older = archive_repair.candidates(versions, bad)
            sound = frozenset(one.key for one in older if not inspect(backend.objects, partition, one))
            there = frozenset(name for name in archive_repair.commits(versions) if files.task(name) is not None)
            yield Facts(partition, versions, bad, sound, there, raw_from)


def _turn(partition: Partition) -> int:
    """Raw rows first: hours and days are computed from them, weeks and months merged from those."""
    if partition.level in (RAW, REVISIONS):
        return 0
    return 1 if partition.level.partition("@")[0] in LIVE_LEVELS else 2


def restore_bodies(backend: Backend, catalog: Catalog, dataset: Dataset) -> list[str]:
    """Write large manifests whose object has gone again, from their copies; their keys."""
    done = []
    for partition in partitions_of(catalog, dataset):
        for item in catalog.table.query(keys.manifest_pk(dataset.name, partition.level, partition.name)):
            key = item.get("object", "")
            if not key or _is_whole(backend, key):
                continue
            place = f"{keys.MANIFESTS}{item['pk']}/{item['sk']}.json"
            with suppress(NotFoundError, DamagedError):  # no copy either: `verify` goes on naming it
                body = msgspec.json.encode(copies.read(backend.objects, place))
                if _digest(body) in key:
                    backend.objects.put(key, body)
                    done.append(key)
    return done


def _is_whole(backend: Backend, key: str) -> bool:
    try:
        return _digest(backend.objects.get(key)) in key
    except NotFoundError:
        return False


def _digest(body: bytes) -> str:
    return sha256(body).hexdigest()[:16]


def run(
    backend: Backend,
    catalog: Catalog,
    datasets: Iterable[Dataset],
    now: datetime,
    dry_run: bool = False,
    accept_loss: bool = False,
    say: Say = lambda _: None,
) -> list[Done]:
    """Repair what is damaged and can be made again; with `accept_loss`, replace the rest by what is left of it."""
    files, done = Files(catalog, backend), []
    for dataset in datasets:
        lost: list[Step] = []
        if not dry_run:
            for key in restore_bodies(backend, catalog, dataset):
                say(f"written again from its copy: {key}")
        for facts in look(backend, catalog, dataset, files, say):
            for step in archive_repair.plan(facts, now):
                label = f"{step.segment.tier} {_period(step.segment).start:%Y-%m-%d}"
                say(f"{dataset.name} {facts.partition.level} {label}: {step.action}")
                spoiled = any(archive_repair.spoils(other, step) for other in lost)
                if dry_run or (spoiled and not accept_loss):
                    made = _left(step, spoiled, "planned" if dry_run else "lost")
                else:
                    made = _execute(backend, catalog, files, step, spoiled, now, accept_loss)
                lost += [step] if made.lost else []
                done.append(made)
    return done


def _execute(backend: Backend, catalog: Catalog, files: Files, step: Step, spoiled: bool, now: datetime, accept_loss: bool) -> Done:
    least = step.segment.rows if spoiled else 1 if step.action == "lost" else 0
    try:
        if step.action == "compute":
            output = archive_repair_levels.compute(backend, catalog, step)
        elif step.action == "merge":
            rows = archive_repair_levels.merge_anew(backend, catalog, step, now)
            return _finish(catalog, step, None, max(step.segment.rows - rows, least), now, accept_loss)
        else:
            output = _restored(backend, files, step)
    except (NotFoundError, DamagedError) as error:  # of what it is made from something is damaged, too
        return _done(step, step.segment.rows, "lost", f"{_source(step)}: {error}")
    missing = step.segment.rows - (output.rows if output else 0)
    # of a level, a period whose records are gone by now needs no row, where nothing older is to be hidden
    return _finish(catalog, step, output, max(0 if step.action == "compute" else missing, least), now, accept_loss)


def _finish(catalog: Catalog, step: Step, output: Segment | None, lost: int, now: datetime, accept_loss: bool) -> Done:
    """Put the output in the segment's place, if nothing is lost or that is accepted."""
    if lost and not accept_loss:
        return _done(step, lost, "lost")  # what was written is named by nobody: gc removes it
    operation = f"{archive_repair.REPAIR}{_source(step)}" + (f", {lost} rows lost" if lost else "")

    def change(manifest: Manifest) -> Manifest | None:
        return swapped(manifest, [step.segment.key], output, 0, operation)

    name = step.partition
    if catalog.commit(name.dataset.name, name.level, name.name, change, now) is None:
        raise RetryError("the segment was replaced meanwhile", operation="repair", key=step.segment.key)
    return _done(step, lost, "accepted" if lost else "repaired")


# rows from elsewhere ----------------------------------------------------------------------------------------------------


def _restored(backend: Backend, files: Files, step: Step) -> Segment | None:
    """The segment made again from what there is; None where that is nothing."""
    segment, partition = step.segment, step.partition
    if step.segments and not step.files and not step.buffer:  # in bounded memory; tombstones stay, the next merge purges them
        inputs = tuple(sorted(step.segments, key=lambda one: (one.window_end, one.key)))
        return merge_segments(backend.objects, partition, Merge(segment.tier, _period(segment), inputs), lambda: None).output
    tables = [segment_reader.read(backend.objects, one, partition.time_column) for one in step.segments]
    for name in step.files:
        tables += _of_file(backend, files, partition, name)
    if step.buffer:
        tables += [table for group in segment.groups or [partition.name] for table in _of_buffer(backend, step, group)]
    if not tables:
        return None
    table, _ = newest(tables, partition.order)
    times = table[partition.time_column].cast(pa.int64())
    table = table.filter(pc.and_(pc.greater_equal(times, segment.start), pc.less(times, segment.end)))
    if not len(table):
        return None
    return write_segment(backend.objects, partition, segment.tier, _period(segment), table, segment.window_end)


def _of_file(backend: Backend, files: Files, partition: Partition, commit: str) -> list[pa.Table]:
    """The rows of an export file that went to the partition."""
    task = files.task(commit)
    if task is None:
        raise NotFoundError("the export file has gone", key=commit)
    found = []
    moment = from_micros(task.write_time) if task.write_time else None
    with backend.objects.open(task.key) as stream:
        for tables in decode_file(stream, task.key, task.md5, task.items, Known(partial(_dataset, files.catalog)), moment):
            for name, (dataset, table) in tables.items():
                level = REVISIONS if name.history else RAW
                own = dataset.name, level, keys.partition_name(dataset, name.group)
                if own == (partition.dataset.name, partition.level, partition.name):
                    found.append(table)
    return found


def _dataset(catalog: Catalog, name: str) -> Dataset:
    found = catalog.sound(name)
    if found is None:
        raise RetryError("rows of a dataset that the catalog does not know", operation="repair", key=name)
    return found


def _of_buffer(backend: Backend, step: Step, group: str) -> Iterator[pa.Table]:
    """What the buffer has of a group within the segment's days.

    Its items do not say when they were written. They count as written at the end of the segment's window: one that was written
    later comes with a later window, as it is now, or newer.
    """
    segment, dataset = step.segment, step.partition.dataset
    written = from_micros(segment.window_end - 1)
    for day in range(segment.first // DAY, segment.last // DAY + 1):
        items = backend.raw.query(keys.raw_pk(dataset.name, group, iso_day(from_micros(day * DAY))), None, keys.HISTORY)
        rows = [
            RawRow(record.valid_time, record.ref_time, record.fields, record.deleted, written, int(item["config_version"]))
            for item in items
            for record in records_of(item, group)
        ]
        if rows:
            yield raw_table(dataset, group, rows)


# what is said -----------------------------------------------------------------------------------------------------------


def _left(step: Step, spoiled: bool, outcome: str) -> Done:
    lost = step.segment.rows if spoiled or step.action == "lost" else 0
    return _done(step, lost, outcome, f"{_source(step)}, some of which are lost" if spoiled else "")


def _done(step: Step, lost: int, outcome: str, source: str = "") -> Done:
    segment, partition = step.segment, step.partition
    period = f"{iso_seconds(from_micros(segment.start))}/{iso_seconds(from_micros(segment.end))}"
    groups = ", ".join(segment.groups) or partition.name
    place = partition.dataset.name, partition.level, partition.name, groups, segment.tier, period, segment.key
    return Done(*place, segment.rows, lost, source or _source(step), outcome)


def _source(step: Step) -> str:
    """In words, what a segment is made again from."""
    if step.action == "compute":
        return "raw rows"
    if step.action == "merge":
        return "the rows of its days"
    parts = [f"{len(step.segments)} older segments"] if step.segments else []
    parts += [f"{len(step.files)} export files"] if step.files else []
    parts += ["the buffer"] if step.buffer else []
    return " and ".join(parts) or "nothing"


def _period(segment: Segment) -> Period:
    return Period(from_micros(segment.start), from_micros(segment.end))
