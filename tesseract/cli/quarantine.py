"""`tesseract quarantine`: what could be neither accepted nor answered, why, and once more through the present configuration."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from tesseract.cli.common import Format, Output, Stage, note, open_store, say, thousands
from tesseract.utils.time_utils import MAX_TIME, MICROSECOND, iso_day, iso_micros, parse_time, utc_now

if TYPE_CHECKING:
    from tesseract.config.dataset import Dataset
    from tesseract.ingestion.quarantine import Archived, Key, Row, Tally
    from tesseract.storage.quarantine import Entry, Place
    from tesseract.store import Store

quarantine_app = typer.Typer(name="quarantine", help="Records that Kinesis brought and nobody could accept.", no_args_is_help=True)
Name = Annotated[
    str, typer.Argument(metavar="DATASET", help="Its name; _unknown: records that name none; _stream: items of the raw table.")
]
Since = Annotated[str | None, typer.Option(help="Only what was received from here on: -3h, 2026-03-01, 2026-03-01T10:00:00Z.")]
Until = Annotated[str | None, typer.Option(help="Only what was received before.")]
PARALLEL = 8  # reads of the archive at once
REASONS = 3  # of an object, in a table
CUT = 120  # characters of a record, in a table


class _Span(NamedTuple):
    since: datetime | None
    until: datetime | None

    def may_hold(self, place: Place) -> bool:
        """Whether an object can hold entries of the span. Its day is that of its first record; the others came soon after."""
        return (self.until is None or place.day <= iso_day(self.until)) and (
            self.since is None or place.day >= iso_day(self.since - timedelta(days=1))
        )


@quarantine_app.command("list")
def list_objects(
    dataset: Annotated[str | None, typer.Argument(metavar="[DATASET]", help="One dataset; else all.", show_default=False)] = None,
    since: Since = None,
    until: Until = None,
    reason: Annotated[str | None, typer.Option(help="Only records whose reason has this text in it.", show_default=False)] = None,
    form: Format = None,
    output: Output = None,
    stage: Stage = None,
) -> None:
    """What is in quarantine: per object its records, the reasons, and when the first and the last were received."""
    from tesseract.cli.output import choose, write_rows
    from tesseract.ingestion.quarantine import within

    form = choose(form, output)
    span, store = _span(since, until), open_store(stage)
    rows: list[dict[str, Any]] = []
    for place in _places(store, dataset, (), span):
        entries = [
            entry for entry in _read(store, place) if within(entry, *span) and (reason or "").lower() in entry.reason.lower()
        ]
        if entries:
            rows.append(_summary(place, entries, form == "table"))
    write_rows(rows, form, output)
    if form == "table" and rows:
        note(f"records: {thousands(sum(row['records'] for row in rows))}, objects: {thousands(len(rows))}")


@quarantine_app.command()
def show(
    dataset: Name,
    objects: Annotated[
        list[str] | None, typer.Argument(metavar="OBJECT", help="Objects, as `list` names them; all without.")
    ] = None,
    limit: Annotated[int, typer.Option(help="At most so many records.", min=1)] = 20,
    form: Format = None,
    output: Output = None,
    stage: Stage = None,
) -> None:
    """Records in quarantine, with reason and hint. A table cuts long records; --format json has them whole."""
    from tesseract.cli.output import choose, write_rows

    form = choose(form, output)
    store = open_store(stage)
    rows: list[dict[str, Any]] = []
    left = 0
    for place in _places(store, dataset, objects or (), _Span(None, None)):
        entries = _read(store, place)
        room = limit - len(rows)
        rows += [_shown(place, entry, form == "table") for entry in entries[:room]]
        left += len(entries[room:])
    write_rows(rows, form, output)
    if left:
        note(f"… {thousands(left)} more; use --limit")


@quarantine_app.command()
def replay(
    dataset: Name,
    objects: Annotated[
        list[str] | None, typer.Argument(metavar="OBJECT", help="Objects, as `list` names them; all without.")
    ] = None,
    since: Since = None,
    until: Until = None,
    target: Annotated[
        str | None, typer.Option("--as", metavar="DATASET", help="With _unknown: the dataset of the records.", show_default=False)
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace rows that are there with other values, though they may be newer.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and change nothing.")] = False,
    stage: Stage = None,
) -> None:
    """Send records once more, through the present configuration. Those accepted leave; the others stay with the new reason.

    Exits with 1 where any stays. Doing it twice changes nothing.
    """
    from tesseract.config.cache import Configs
    from tesseract.errors import InputError
    from tesseract.ingestion.client import transport_of
    from tesseract.ingestion.quarantine import Options, Replay, Tally
    from tesseract.storage.quarantine import STREAM, UNKNOWN

    if target is not None and dataset != UNKNOWN:
        raise InputError(f"--as is for {UNKNOWN} alone: the records of {dataset!r} have their dataset")
    if dataset == STREAM:
        raise InputError("changes of the raw table are no records and cannot be replayed", hint="ingest the record itself again")
    span, store = _span(since, until), open_store(stage)
    if dataset != UNKNOWN or target is not None:
        store.dataset(target or dataset)  # a name that nobody has configured is said once, not for every record
    options = Options(*span, target, overwrite, dry_run)
    road = transport_of("direct", store.stage)
    run = Replay(store.backend, Configs(store.catalog, utc_now), road, archived(store), options)
    total = Tally()
    try:
        for place in _places(store, dataset, objects or (), span):
            total.add(run.run(place, utc_now()))
    finally:  # also where the road ends in between: that much is done
        _report(total, dry_run)
    if total.kept:
        raise typer.Exit(1)


def archived(store: Store) -> Archived:
    """Which keys the archive (or a buffer written to just now) holds: one read for each group and UTC day."""

    def look(dataset: Dataset, keys: Sequence[Key]) -> Mapping[Key, Row]:
        from tesseract.ingestion.quarantine import Row

        days: dict[tuple[str, str], list[datetime]] = {}
        for group, valid_time in keys:
            days.setdefault((group, iso_day(valid_time)), []).append(valid_time)
        found: dict[Key, Row] = {}
        with ThreadPoolExecutor(PARALLEL) as pool:
            lots = pool.map(lambda day: _times(store, dataset, day[0], days[day]), days)
            for (group, _), times in zip(days, lots, strict=True):
                found |= {(group, at): Row(ref_time, None) for at, ref_time in times}
        return {key: found[key] for key in keys if key in found}

    return look


def _times(store: Store, dataset: Dataset, group: str, times: Sequence[datetime]) -> list[tuple[datetime, datetime | None]]:
    from tesseract.errors import NotFoundError
    from tesseract.storage.keys import split_group

    last = max(times)
    try:
        table = store.query(
            dataset.name, [split_group(group)], min(times), None if last == MAX_TIME else last + MICROSECOND, fields=[]
        )
    except NotFoundError:  # nobody has written to the group
        return []
    return list(zip(table["valid_time"].to_pylist(), table["ref_time"].to_pylist(), strict=True))


def _places(store: Store, dataset: str | None, names: Sequence[str], span: _Span) -> list[Place]:
    """The objects asked for, in the order of arrival. Raises NotFoundError for a dataset or an object that is not there."""
    from tesseract.errors import NotFoundError
    from tesseract.storage.quarantine import STREAM, UNKNOWN, places

    found = list(places(store.backend.objects, dataset))
    if not found and dataset not in (None, UNKNOWN, STREAM):
        store.dataset(dataset)  # nothing is there; is it the name?
    own = {name: place for place in found for name in (place.id, place.name, place.key)}
    wrong = next((name for name in names if name not in own), None)
    if wrong is not None:
        raise NotFoundError(f"there is no object {wrong!r} in quarantine", hint=f"see `tesseract quarantine list {dataset}`")
    chosen = {own[name].key for name in names}
    return [place for place in found if (not names or place.key in chosen) and span.may_hold(place)]


def _read(store: Store, place: Place) -> list[Entry]:
    from tesseract.errors import NotFoundError
    from tesseract.storage.quarantine import read

    try:
        return read(store.backend.objects, place.key)
    except NotFoundError:  # replayed since it was listed
        return []


def _span(since: str | None, until: str | None) -> _Span:
    now = utc_now()
    return _Span(
        None if since is None else parse_time(since, now, "since"), None if until is None else parse_time(until, now, "until")
    )


def _summary(place: Place, entries: Sequence[Entry], short: bool) -> dict[str, Any]:
    counts = Counter(entry.reason for entry in entries).most_common()
    more = f"; … {len(counts) - REASONS} more" if len(counts) > REASONS else ""
    return {
        "dataset": place.dataset,
        "date": place.day,
        "object": place.id,
        "records": len(entries),
        "first": iso_micros(min(entry.received for entry in entries)),
        "last": iso_micros(max(entry.received for entry in entries)),
        "reasons": _plain("; ".join(f"{count} × {reason}" for reason, count in counts[:REASONS]) + more) if short else dict(counts),
    } | ({} if short else {"key": place.key})


def _shown(place: Place, entry: Entry, short: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"received": iso_micros(entry.received), "object": place.id}
    if not short:
        row |= {"origin": entry.origin, "sequence": entry.sequence, "config_version": entry.config_version}
    row |= {"field": entry.field, "reason": entry.reason, "hint": entry.hint}
    try:
        text, name = entry.record.decode(), "record"
    except UnicodeDecodeError:
        text, name = base64.b64encode(entry.record).decode(), "record_base64"
    if not short:
        return row | {"record": None, "record_base64": None, name: text}
    if name != "record":
        text = repr(entry.record[:CUT])
    return {column: _plain(value) for column, value in row.items()} | {
        "record": _plain(text if len(text) <= CUT else f"{text[:CUT]}…")
    }


def _plain(text: str) -> str:
    """A text for a terminal: what a producer sent must not move the cursor."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _report(total: Tally, dry_run: bool) -> None:
    would = "would be " if dry_run else ""
    say(
        f"{thousands(total.accepted)} {would}accepted, {thousands(total.there)} written already, "
        f"{thousands(total.kept.total())} {'would ' if dry_run else ''}stay in quarantine"
    )
    for reason, count in total.kept.most_common():
        say(f"  {thousands(count)} × {_plain(reason)}")
    if total.outside:
        note(f"{thousands(total.outside)} records lie outside the times asked for")
