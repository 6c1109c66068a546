"""The replay of quarantine: records that were refused, through the present configuration and by the road of every other record.

An old record must not replace a newer one in silence. A raw item carries no time of receipt, so nobody can tell whether the row of
a key is older than the record that waits here; where one is there with other values, the record stays, unless the caller decides.
What stays is put before what it came from is removed, so that a crash, or two replays at once, can only make a record be sent
again (docs/decisions/0017).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from tesseract.config.cache import Configs
from tesseract.config.dataset import Dataset
from tesseract.errors import InputError, NotFoundError, UnknownDataset
from tesseract.ingestion.answers import TooLarge
from tesseract.ingestion.bodies import Line
from tesseract.ingestion.client import Transport, send
from tesseract.ingestion.fastpath import BAD_JSON
from tesseract.ingestion.kinesis_records import Envelope, Part, Reader
from tesseract.ingestion.records_path import alone, expand
from tesseract.ingestion.validators import Decoded, Rejection, Validator
from tesseract.model import Record
from tesseract.storage.base import Backend
from tesseract.storage.items import records_of
from tesseract.storage.keys import raw_key
from tesseract.storage.quarantine import STREAM, UNKNOWN, Entry, Place, order, read, write

Key = tuple[str, datetime]  # (group, valid time)
LATER = "a record of this key is there with other values, and it may be the newer one"
OVERWRITE = "compare the two; with --overwrite this one becomes the later put"


class Row(NamedTuple):
    """What is stored at a key. `record` is None for a row of the archive, whose values are not compared."""

    ref_time: datetime | None
    record: Record | None


Archived = Callable[[Dataset, Sequence[Key]], Mapping[Key, Row]]  # which of these keys the archive holds


@dataclass(frozen=True)
class Options:
    """Which entries, [since, until) by when they were received, and how.

    `target` is the dataset of records that name none, or none that there is.
    """

    since: datetime | None = None
    until: datetime | None = None
    target: str | None = None
    overwrite: bool = False
    dry_run: bool = False


@dataclass
class Tally:
    """What became of records: written now, found written already, kept (by reason), and not looked at."""

    accepted: int = 0
    there: int = 0
    kept: Counter[str] = field(default_factory=Counter)
    outside: int = 0

    def add(self, other: Tally) -> None:
        """Count another tally into this one."""
        self.accepted += other.accepted
        self.there += other.there
        self.kept.update(other.kept)
        self.outside += other.outside


class Plan(NamedTuple):
    """What to do with the entries of one object and dataset, by their places in the list."""

    send: list[int]
    there: list[int]
    kept: dict[int, Rejection]


def within(entry: Entry, since: datetime | None, until: datetime | None) -> bool:
    """Whether an entry was received in [since, until)."""
    return (since is None or since <= entry.received) and (until is None or entry.received < until)


def plan(
    dataset: Dataset, decoded: Decoded, rows: Mapping[Key, Row], ours: Callable[[int, Record], bool] = lambda index, row: False
) -> Plan:
    """Which entries to send, one record each, given what is stored at their keys. Pure.

    An entry whose values are those of the row is there already; so is one that an entry behind it, of the same key, replaced. Under
    ref-time order the table itself refuses an older record, and only equal ref times are in question. `ours` says whether the row
    was written by this replay, from a record that was received before the one at `index`.
    """
    last: dict[Key, int] = {}
    for index, record in decoded.records:
        row = rows.get(_key(record))
        if row is not None and row.record is not None and same(row.record, record):
            last[_key(record)] = index
    planned = Plan([], [], {rejection.index: rejection for rejection in reversed(decoded.rejected)})
    for index, record in decoded.records:
        row = rows.get(_key(record))
        if row is None or (dataset.by_ref_time and row.ref_time != record.ref_time):
            planned.send.append(index)
        elif index <= last.get(_key(record), -1):
            planned.there.append(index)
        elif row.record is not None and ours(index, row.record):
            planned.send.append(index)
        else:
            planned.kept[index] = Rejection(index, dataset.time_field, record.valid_time.isoformat(), LATER, OVERWRITE)
    return planned


def same(one: Record, other: Record) -> bool:
    """Whether two records of a key say the same: as tables compare, where true is not 1."""
    return (one.ref_time, one.deleted, _values(one)) == (other.ref_time, other.deleted, _values(other))


def unfold(dataset: Dataset, lot: Iterable[Entry]) -> tuple[list[Entry], list[Line], list[Rejection]]:
    """Entries with one record each, these records, and what is wrong with those that hold none.

    By the dataset's `records_path` one entry may hold several records; each then becomes an entry of its own.
    """
    entries: list[Entry] = []
    lines: list[Line] = []
    found: Sequence[Line]
    faults: list[Rejection] = []
    for entry in lot:
        try:
            found, _, wrong = expand(dataset, [entry.record])
        except TooLarge as error:
            found, wrong = [entry.record], {0: str(error)}
        faults += [Rejection(len(lines) + place, "", "", reason) for place, reason in wrong.items()]
        whole = len(found) == 1
        entries += [entry if whole else replace(entry, record=alone(dataset, line)) for line in found]
        lines += found
    return entries, lines, faults


class Replay:
    """One replay: hand it the objects in key order, which is the order of arrival.

    It remembers what it has written, some 200 bytes a record, to let a later entry of a key follow an earlier one.
    """

    def __init__(self, backend: Backend, configs: Configs, transport: Transport, archived: Archived, options: Options) -> None:
        self._backend, self._configs, self._transport, self._archived = backend, configs, transport, archived
        self._options = options
        self._validators: dict[tuple[str, int], Validator] = {}
        self._reader = Reader(self._dataset, options.target or "")
        self._written: dict[tuple[str, str], tuple[datetime, int]] = {}

    def run(self, place: Place, now: datetime) -> Tally:
        """Replay one object: what is accepted leaves it, what is not stays with its new reason.

        Raises UnknownDataset for an object of a dataset that is not there, DamagedError for one that cannot be read, and the errors
        of the road: the object is then as it was, and what did arrive is found written by the next replay.
        """
        if place.dataset == STREAM:
            raise InputError("changes of the raw table are no records and cannot be replayed", hint="put the record again")
        try:
            entries = read(self._backend.objects, place.key)
        except NotFoundError:  # somebody else has replayed it meanwhile
            return Tally()
        tally = Tally()
        kept: dict[str, list[Entry]] = {place.dataset: []}
        lots: dict[str, list[Entry]] = {}
        for entry in entries:
            if not within(entry, self._options.since, self._options.until):
                tally.outside += 1
                kept[place.dataset].append(entry)
            else:
                self._sort(place, entry, lots, kept, tally)
        for name, lot in lots.items():
            kept.setdefault(name, []).extend(self._lot(name, lot, tally, now))
        if not self._options.dry_run:
            self._settle(place, kept)
        return tally

    def _sort(self, place: Place, entry: Entry, lots: dict[str, list[Entry]], kept: dict[str, list[Entry]], tally: Tally) -> None:
        """Put an entry into its dataset's lot. One that names its dataset itself is read as Kinesis records are."""
        if place.dataset != UNKNOWN and not _is_envelope(entry.record):
            lots.setdefault(place.dataset, []).append(entry)
            return
        for part in self._reader.read(entry.record):
            if isinstance(part, Part):
                lots.setdefault(self._dataset(part.dataset).name, []).append(replace(entry, record=bytes(part.line)))
            else:
                about = {"reason": part.reason, "field": part.field, "hint": part.hint}
                kept.setdefault(part.dataset, []).append(replace(entry, record=part.data, **about))
                tally.kept[part.reason] += 1

    def _dataset(self, name: str) -> Dataset:
        """The dataset of that name, else the one that the caller has named for records without."""
        try:
            return self._configs.get(name)
        except UnknownDataset:
            if self._options.target is None:
                raise
            return self._configs.get(self._options.target)

    def _lot(self, name: str, lot: list[Entry], tally: Tally, now: datetime) -> list[Entry]:
        """Send what can be sent of the entries of one dataset, and return what stays."""
        dataset = self._configs.get(name)
        lot, lines, faults = unfold(dataset, lot)
        found = self._validator(dataset).decode(lines, now)
        faulty = {rejection.index for rejection in faults}
        decoded = Decoded([pair for pair in found.records if pair[0] not in faulty], faults + found.rejected)
        rows = {} if self._options.overwrite else self._rows(dataset, (record for _, record in decoded.records))
        planned = plan(dataset, decoded, rows, lambda index, row: self._ours(name, lot[index], row))
        kept = planned.kept | self._send(dataset, lot, planned.send)
        for index, record in decoded.records:
            if index not in kept:
                self._written[raw_key(name, record.group, record.valid_time)] = (lot[index].received, _hash(record))
        tally.there += len(planned.there)
        tally.accepted += len(lot) - len(planned.there) - len(kept)
        tally.kept.update(rejection.reason for rejection in kept.values())
        return [_refused(lot[index], kept[index], dataset.version) for index in sorted(kept)]

    def _validator(self, dataset: Dataset) -> Validator:
        key = (dataset.name, dataset.version)
        if key not in self._validators:
            self._validators[key] = Validator(dataset)
        return self._validators[key]

    def _send(self, dataset: Dataset, lot: list[Entry], indices: list[int]) -> dict[int, Rejection]:
        """What the stage's functions did not accept, by place in the lot."""
        if self._options.dry_run:
            return {}
        report = send(dataset, (lot[index].record for index in indices), self._transport)
        return {indices[rejection.index]: rejection for rejection in report.rejected}

    def _rows(self, dataset: Dataset, records: Iterable[Record]) -> dict[Key, Row]:
        """What is stored at the records' keys: in the buffer, tombstones too, else in the archive."""
        wanted = {raw_key(dataset.name, record.group, record.valid_time): _key(record) for record in records}
        rows: dict[Key, Row] = {}
        for place, item in self._backend.raw.get_many(wanted).items():
            group, valid_time = wanted[place]
            for record in records_of(item, group):
                if record.valid_time == valid_time:
                    rows[group, valid_time] = Row(record.ref_time, record)
        missing = [key for key in wanted.values() if key not in rows]
        return rows | dict(self._archived(dataset, missing)) if missing else rows

    def _ours(self, dataset: str, entry: Entry, row: Record) -> bool:
        written = self._written.get(raw_key(dataset, row.group, row.valid_time))
        return written is not None and written[0] <= entry.received and written[1] == _hash(row)

    def _settle(self, place: Place, kept: Mapping[str, list[Entry]]) -> None:
        """Put what stays, then remove what it came from. An object that stays whole is written over, with its new reasons."""
        keys = [key for name, entries in kept.items() for key in write(self._backend.objects, name, sorted(entries, key=order))]
        if place.key not in keys:
            self._backend.objects.delete(place.key)


def _is_envelope(record: bytes) -> bool:
    try:
        msgspec.json.decode(record, type=Envelope)
    except BAD_JSON:
        return False
    return True


def _key(record: Record) -> Key:
    return record.group, record.valid_time


def _values(record: Record) -> list[tuple[str, bool, object]]:
    return sorted((name, isinstance(value, bool), value) for name, value in record.fields.items())


def _hash(record: Record) -> int:
    return hash((record.ref_time, record.deleted, tuple(_values(record))))


def _refused(entry: Entry, rejection: Rejection, version: int) -> Entry:
    """The entry with its new reason."""
    return replace(entry, reason=rejection.reason, field=rejection.field, hint=rejection.hint, config_version=version)
