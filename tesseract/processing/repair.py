"""Repair of stale items, at the end of every window W: computed from the archive as it was at W, and from nothing later.

    stream:   a  b  c │ d  e          the archive as of W holds a, b, c
    ──────────────────┼──────▶        a repaired item says `repaired_through` W:
                      W               a, b, c, wherever the stream is by now, are in it and pass; d, e are folded as usual

Only an item whose last mark lies before W is repaired: a mark that came with d has swallowed d, which the archive as of W lacks.
Nothing else ever writes a recomputed state into a live item: a change that is still in the stream would count twice.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from itertools import groupby, repeat
from typing import Literal

from msgspec.structs import replace

from tesseract.config.dataset import Dataset, Level
from tesseract.config.retention import NEVER, rows_kept_from
from tesseract.errors import ConditionFailed, InputError, NotFoundError
from tesseract.model import Item, Manifest
from tesseract.processing import raw_rows
from tesseract.processing.aggregator import State, encode_state, shown
from tesseract.processing.coarser import commit_merged
from tesseract.processing.live_item import NO_LIMIT, LiveItem, decode_item, encode_item
from tesseract.processing.marking import mark
from tesseract.processing.segments import DAY, RAW, Partition, commit_rows
from tesseract.processing.snapshots import folded
from tesseract.processing.text_numbers import known_numbers
from tesseract.processing.worklist import Entry, entries, remove
from tesseract.storage.base import Backend, Is
from tesseract.storage.catalog import Catalog
from tesseract.storage.columns import LevelRow, level_table
from tesseract.storage.keys import is_latest_pk, level_partition, split_latest_pk, split_live_key
from tesseract.utils.time_utils import from_micros, iso_micros, iso_seconds, to_micros

logger = logging.getLogger(__name__)
SECOND = 1_000_000  # µs
PARALLEL = 16
Outcome = Literal["repaired", "waiting", "dropped"]
LONGEST_ATTEMPT = timedelta(minutes=15)  # of a function: then an entry without its mark will never get one


@dataclass
class Report:
    """What a pass over the worklist did. `through` is W in µs, 0 where nothing is archived; `waiting` are left for a later W."""

    through: int = 0
    repaired: int = 0
    waiting: int = 0
    dropped: int = 0  # entries whose item needs no repair


@dataclass
class _Work:
    """The requests of one group."""

    dataset: Dataset
    group: str
    entries: list[Entry]


class Repairer:
    """One pass over the worklist of a stage."""

    def __init__(self, backend: Backend, catalog: Catalog, now: datetime) -> None:
        self._backend, self._catalog, self._now = backend, catalog, now
        self.report = Report(catalog.progress().archived_through)

    def run(self) -> Report:
        """Repair what can be repaired as of W. Doing it again, or twice at once, changes nothing that is right."""
        if self.report.through:
            for work in self._by_group(entries(self._backend.live)):
                self._group(work)
        return self.report

    def _by_group(self, found: Iterable[Entry]) -> list[_Work]:
        works: dict[tuple[str, str], _Work] = {}
        for entry in found:
            name, group = _owner(entry)
            if (name, group) not in works:
                dataset = self._catalog.sound(name)
                if dataset is None:
                    logger.warning("an entry of the worklist is of a dataset that nobody has configured: %s", entry.key)
                    continue
                works[name, group] = _Work(dataset, group, [])
            works[name, group].entries.append(entry)
        return [works[place] for place in sorted(works)]

    def _group(self, work: _Work) -> None:
        items = self._backend.live.get_many(entry.key for entry in work.entries)
        due = [(entry, items[entry.key]) for entry in work.entries if self._is_due(entry, items.get(entry.key))]
        manifest = raw_rows.as_of(self._catalog.manifest_of(work.dataset, RAW, work.group), self.report.through) if due else None
        if manifest is None:
            self.report.waiting += len(due)
            return
        aggregates: dict[str, list[tuple[Entry, LiveItem]]] = {}
        for entry, item in due:
            if is_latest_pk(entry.key[0]):
                self._latest(work, manifest, entry, item)
            else:
                aggregates.setdefault(split_live_key(*entry.key)[2], []).append((entry, decode_item(item)))
        self._levels(work, manifest, aggregates)

    def _is_due(self, entry: Entry, item: Item | None) -> bool:
        """Whether an entry's item is to be repaired now. One that needs no repair leaves the list once no mark can follow."""
        if item is None or item.get("stale_at") is None:
            if self._now - entry.put_at > LONGEST_ATTEMPT:
                remove(self._backend.live, entry)
                self.report.dropped += 1
            return False
        if int(item["stale_at"]) * SECOND > self.report.through:
            self.report.waiting += 1
            return False
        return True

    # aggregates -----------------------------------------------------------------------------------------------------

    def _levels(self, work: _Work, manifest: Manifest, due: dict[str, list[tuple[Entry, LiveItem]]]) -> None:
        kept: list[tuple[Level, list[tuple[Entry, LiveItem]]]] = []
        first = rows_kept_from(work.dataset, RAW, self._catalog.progress().snapshot_through) if due else NEVER
        for name, own in due.items():
            level = work.dataset.level(name)
            if level is None:  # nobody reads it any more
                for entry, _ in own:
                    remove(self._backend.live, entry)
                self.report.dropped += len(own)
                continue
            gone = [entry for entry, item in own if item.start < first]
            for entry in gone:  # retention may have removed raw rows of it: what the archive has of the level stays
                remove(self._backend.live, entry)
            self.report.dropped += len(gone)
            own = [(entry, item) for entry, item in own if item.start >= first]
            former = [entry for entry, item in own if item.live_from != level.live_from]
            for entry in former:  # of another life: a window after this level was known everywhere
                mark(self._backend.live, entry.key, level, self._now)
            self.report.waiting += len(former)
            kept.append((level, [(entry, item) for entry, item in own if item.live_from == level.live_from]))
        states = self._states(work, manifest, kept)
        for level, own in kept:
            self._commit(work, level, [(item.start, states[level.name][item.start]) for _, item in own])
            touched = {level.name: {work.group: [item.start for _, item in own]}}
            commit_merged(self._backend, self._catalog, work.dataset.name, touched, self.report.through, self._now)
            write = partial(self._write, work.dataset, level)
            parts = [(entry, item, states[level.name][item.start]) for entry, item in own]
            with ThreadPoolExecutor(PARALLEL) as pool:
                self._count(pool.map(lambda write, part: write(*part), repeat(write), parts))

    def _count(self, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            setattr(self.report, outcome, getattr(self.report, outcome) + 1)

    def _states(
        self, work: _Work, manifest: Manifest, kept: Sequence[tuple[Level, list[tuple[Entry, LiveItem]]]]
    ) -> dict[str, dict[int, State]]:
        """Level → period start (µs) → exact state as of W. Month by month: memory is bounded."""
        wanted = {level.name: sorted(item.start for _, item in own) for level, own in kept}
        states: dict[str, dict[int, State]] = {name: {} for name in wanted}
        days = sorted({start // DAY for starts in wanted.values() for start in starts})
        for _, part in groupby(days, lambda day: iso_seconds(from_micros(day * DAY))[:7]):
            month = list(part)
            known = partial(known_numbers, self._backend, self._catalog, work.dataset, work.group, month)
            records = raw_rows.read(self._backend, manifest, work.dataset, month, buffer=False, known=known)
            for level, _ in kept:
                starts = [start for start in wanted[level.name] if month[0] <= start // DAY <= month[-1]]
                states[level.name] |= folded(records, level, starts)
        return states

    def _commit(self, work: _Work, level: Level, states: Sequence[tuple[int, State]]) -> None:
        """The rows of the level's segments, before the items: a reader of either finds what was repaired."""
        through = self.report.through
        rows = [
            LevelRow(
                from_micros(start), state.rows, shown(state, level), encode_state(state), through, level.live_from,
                level.fields_from(start),
            )
            for start, state in sorted(states)
        ]  # fmt: skip
        if not rows:
            return
        table = level_table(work.dataset, level, work.group, rows)
        partition = Partition.of(work.dataset, level_partition(level), work.group)
        starts = ",".join([*([work.group] if partition.shared else []), *(str(start) for start, _ in sorted(states))])
        commit = f"{through}/repair/{sha256(starts.encode()).hexdigest()[:16]}"
        closed = self._catalog.progress().snapshot_through
        operation = f"repair {len(rows)} rows as of {iso_micros(from_micros(through))}"
        commit_rows(self._catalog, self._backend.objects, partition, table, commit, through, closed, operation, self._now)

    def _write(self, dataset: Dataset, level: Level, entry: Entry, item: LiveItem, state: State) -> Outcome:
        expiry = item.start // SECOND + int(dataset.shortest_ttl.total_seconds())
        new = replace(
            item,
            state=state,
            version=item.version + 1,
            safe_until=min(expiry, NO_LIMIT) if expiry > to_micros(self._now) // SECOND else 0,
            stale_at=None,
            repaired_through=self.report.through // SECOND,
            fields_from=level.fields_from(item.start),
            config_version=dataset.version,
        )
        return self._replace(entry, encode_item(new, level, self._now), item.version)

    # latest values --------------------------------------------------------------------------------------------------

    def _latest(self, work: _Work, manifest: Manifest, entry: Entry, item: Item) -> None:
        record = raw_rows.last_visible(self._backend, manifest, work.dataset)
        version = int(item["version"])
        new: Item = {"pk": item["pk"], "sk": item["sk"], "version": version + 1, "updated_at": iso_micros(self._now)}
        if record is None:
            new |= {"valid_time": "", "none": True}  # older than any record to come; the item stays, so that versions only grow
        else:
            new |= {"valid_time": iso_micros(record.valid_time), "fields": record.fields}
            new |= {} if record.ref_time is None else {"ref_time": iso_micros(record.ref_time)}
        self._count([self._replace(entry, new, version)])

    def _replace(self, entry: Entry, item: Item, version: int) -> Outcome:
        try:
            # a change marks the item anew while it is computed: its version is another then, and so is its entry's token
            self._backend.live.put(item, Is("version", version))
        except ConditionFailed:
            return "waiting"
        except InputError as error:
            if isinstance(error, NotFoundError):
                raise
            # statistics of thousands of fields: it stays stale, and readers compute its period from raw records
            logger.error("an item cannot be repaired: %s", error)
            remove(self._backend.live, entry)
            return "dropped"
        remove(self._backend.live, entry)
        return "repaired"


def run(backend: Backend, catalog: Catalog, now: datetime) -> Report:
    """Repair the items of the worklist as of `archived_through`."""
    return Repairer(backend, catalog, now).run()


def _owner(entry: Entry) -> tuple[str, str]:
    """(dataset, group) of an entry's item."""
    pk, sk = entry.key
    return (split_latest_pk(pk), sk) if is_latest_pk(pk) else split_live_key(pk, sk)[:2]
