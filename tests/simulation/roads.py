"""Whole roads through the ingestion function: files backfilled straight into the archive, ranges deleted and erased."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from tesseract import erasing
from tesseract.config.cache import Configs
from tesseract.ingestion import deletes
from tesseract.ingestion.backfill import Backfill
from tesseract.ingestion.chunks import Line
from tesseract.ingestion.client import Report, report_of
from tesseract.ingestion.files import Source
from tesseract.ingestion.lambda_handler import Service
from tesseract.ingestion.rejects import Rejects
from tesseract.model import Manifest, Record, Segment
from tesseract.processing.erase import Subject
from tesseract.processing.rebuild import FIRST, LAST
from tesseract.storage.columns import WRITE_TIME
from tesseract.storage.keys import split_group
from tesseract.store import Store
from tesseract.utils.time_utils import from_micros, iso_micros, to_micros
from tests.simulation.basis import Basis
from tests.simulation.oracle import DAY, MICRO, Entry
from tests.simulation.stage import NAME, Stage
from tests.simulation.themes import LIMIT, NUMBERS, REFS

Spans = tuple[int, int]


class Road:
    """Chunks to a process of the ingestion function. Its lines are records, or rows to be deleted."""

    by_group = True

    def __init__(self, stage: Stage, removing: bool) -> None:
        writer, _ = stage.writer_process()
        self._service = Service(Configs(stage.shared, stage.sim.clock), writer, stage.tapped.objects, stage.sim.clock)
        self._removing = removing

    def __call__(self, dataset: str, lines: Sequence[Line], group: str) -> Report:
        bodies = [msgspec.Raw(line.body) for line in lines]
        order = {"delete": {"group": split_group(group), "rows": bodies}} if self._removing else {"records": bodies}
        body = msgspec.json.encode({"dataset": dataset, **order})
        return report_of(json.loads(json.dumps(self._service.handle(json.loads(body), 28))), lines)


@dataclass
class File:
    """Records that are backfilled, and whether the command came to its end."""

    records: list[Record]
    done: bool = False


class Roads(Basis):
    """Backfill, delete of a range, erasure. One backfill and one erasure are under way at a time."""

    def backfill(self) -> None:
        """A file of old records; one whose command was cut short is backfilled again first."""
        if any(actor.kind == "backfill" for actor in self.sim.actors):
            return
        r = self.sim.r
        if not self.files or self.files[-1].done:
            group, today = r.choice(self.groups), to_micros(self.sim.now) // DAY
            day = today - r.choice((5, 36, 37, 400))
            times = [(day - r.choice((0, 0, 1))) * DAY + r.choice(self.minutes) * 60 * MICRO for _ in range(r.choice((1, 2, 4)))]
            self.files.append(File([self._reading(group, time) for time in times]))
        file = self.files[-1]
        # of two backfills the one with the later clock is the later put: they go by one clock, which has moved on
        self.sim.now += timedelta(seconds=1)
        actor = self.sim.spawn("backfill", lambda: self._carry_out(file), LIMIT, self._ended, skew=timedelta(0))
        self._park(actor, 60)

    def _reading(self, group: str, time: int) -> Record:
        r = self.sim.r
        values = {name: r.choice(NUMBERS[name]) for name in self.stage.newest.fields}
        ref = r.choice(REFS) if self.stage.newest.by_ref_time else None
        return Record(group, from_micros(time), ref, {name: value for name, value in values.items() if value is not None})

    def _carry_out(self, file: File) -> None:
        stage = self.stage
        config = stage.shared.dataset(NAME)
        assert config is not None
        stage.archive_checks.backfilled = lambda manifest, segments: self._backfilled(file, manifest, segments)
        with TemporaryDirectory(prefix="tesseract-simulation-") as name, closing(Rejects(Path(name, "rejects.ndjson"))) as rejects:
            path, folder = Path(name, "readings.ndjson"), Path(name, "work")
            folder.mkdir()
            path.write_text("".join(_line(record) for record in file.records))
            road = Road(stage, removing=False)
            run = Backfill(
                stage.tapped, stage.shared, config, road, self.sim.clock(), self.sim.clock, folder, rejects, workers=1
            )  # fmt: skip
            tally = run.run([Source(str(path), config)])
        assert not tally.rejected, tally.shown
        file.done = True
        for entry in stage.oracle.log:
            if not entry.label:
                entry.done = dict.fromkeys(entry.done, True)

    def _backfilled(self, file: File, manifest: Manifest, segments: list[Segment]) -> None:
        """Tell the oracle what a commit has brought: with the write time of its rows, so that a later put wins."""
        oracle = self.stage.oracle
        for row in [row for segment in segments for row in self.stage.archive_checks.rows_of(segment)]:
            at, ref = to_micros(row["valid_time"]), row["ref_time"]
            record = [one for one in file.records if to_micros(one.valid_time) == at and (ref is None or one.ref_time == ref)][-1]
            text = None if record.ref_time is None else iso_micros(record.ref_time)
            entry = Entry(
                len(oracle.log), to_micros(row[WRITE_TIME]), manifest.group, at, text, record.fields, False, "", -1, 0
            )  # fmt: skip
            entry.told = dict.fromkeys(entry.done, True)
            oracle.insert(entry)
            self.sim.say("BACKFILLED", f"#{entry.index}", entry)
        self.stage.checks.seen["backfilled commits"] += 1

    def remove(self) -> None:
        """Every row of a range of a group is deleted; what was acknowledged before must be gone at its end."""
        stage, r = self.stage, self.sim.r
        group, span = r.choice(self.groups), self._span()
        begun = len(stage.oracle.log)

        def ended(result: Any, error: BaseException | None) -> None:
            self._ended(None, error)
            if error is None and not result["arrived"]:
                left = stage.oracle.visible(stage.oracle.entries(group, *span)).values()
                if any(entry.index < begun for entry in left):
                    stage.checks.fail("delete", f"of {group} left", "; ".join(map(str, left)))
                stage.checks.seen["ranges deleted"] += 1
                self.deleted.append((group, span, to_micros(self.sim.now + timedelta(seconds=5))))

        body = lambda: deletes.run(Road(stage, removing=True), NAME, group, self._look(group, span))
        self._park(self.sim.spawn("remove", body, LIMIT, ended), 40)

    def _look(self, group: str, span: Spans) -> Any:
        start, end = (None if at in (FIRST, LAST) else from_micros(at) for at in span)
        return Store(self.stage.tapped, "test", self.sim.clock).keys(NAME, group, start, end)

    def _span(self) -> Spans:
        r = self.sim.r
        if r.random() < 0.5:
            return FIRST, LAST
        day = to_micros(self.sim.now) // DAY + r.choice((0, -1, -36, -400))
        return day * DAY, (day + r.choice((1, 3))) * DAY

    def erase(self) -> None:
        """What was deleted, and whose tombstones are archived, is erased."""
        stage = self.stage
        due = [one for one in self.deleted if one[2] <= stage.through()]
        if not due or any(actor.kind == "erase" for actor in self.sim.actors):
            return
        group, span, cut = due[0]
        subject = Subject(stage.newest, group, cut, *span)
        entries = stage.oracle.entries(group, *span)
        again = any(entry.deleted and entry.at >= cut for entry in entries)  # such a tombstone may be of a window still to come
        if again or any(entry.at < cut for entry in stage.oracle.visible(entries).values()):  # something was backfilled
            self.deleted.remove(due[0])
            return
        self.erasures += 1
        stage.archive_checks.forgets(group)
        store = Store(stage.tapped, "test", self.sim.clock)

        def ended(result: Any, error: BaseException | None) -> None:
            self._ended(None, error)
            stage.archive_checks.forgets(group)
            self.erasures += 1
            if error is None:
                self.deleted.remove(due[0])
                stage.checks.seen["erasures"] += 1

        body = lambda: erasing._erase(store, subject, self.sim.clock(), lambda _: None)
        self._park(self.sim.spawn("erase", body, LIMIT, ended), 60)

    def finish_roads(self) -> None:
        """At rest: what was cut short is done again."""
        if self.files and not self.files[-1].done:
            self.sim.now += timedelta(seconds=1)
            self._carry_out(self.files[-1])


def _line(record: Record) -> str:
    values = {name: float(v) if isinstance(v, Decimal) else v for name, v in record.fields.items()}
    ref = {} if record.ref_time is None else {"refTime": iso_micros(record.ref_time)}
    return json.dumps({"station": record.group, "time": iso_micros(record.valid_time), **ref, **values}) + "\n"
