"""What people and programs do: write, delete, query, ask for a rebuild, change the configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from tesseract.config.dataset import STATS, Level
from tesseract.config.tiers import UNITS
from tesseract.model import Record
from tesseract.processing.live_item import live_levels
from tesseract.processing.marking import mark
from tesseract.storage.keys import live_key
from tesseract.utils.time_utils import from_iso, from_micros, to_micros
from tests.simulation.basis import Basis
from tests.simulation.compare import rows_of
from tests.simulation.oracle import DAY, LENGTHS, MICRO
from tests.simulation.stage import NAME
from tests.simulation.themes import LIMIT, MINUTE, NUMBERS, REFS

ROADS = ("query", "query", "scan", "first", "where", "intervals")
INTERVALS = {"hourly": "1h", "daily": "1d"}


class Clients(Basis):
    """Writers, readers, operators."""

    def write(self) -> None:
        """A few records of one group, new ones or ones sent before."""
        r = self.sim.r
        if self.sent and r.random() < self.theme.again:
            group, records = r.choice(self.sent)
        else:
            group = r.choice(self.groups)
            records = [self._record(group) for _ in range(r.choice((1, 1, 2, 3)))]
            self.sent.append((group, records))
        self._send(records)

    def delete(self) -> None:
        """A tombstone of a record that is there."""
        r = self.sim.r
        group = r.choice(self.groups)
        visible = list(self.stage.oracle.visible(self.stage.oracle.by_group.get(group, ())).values())
        if visible:
            entry = r.choice(visible)
            ref = None if entry.ref is None else from_iso(entry.ref)
            self._send([Record(group, from_micros(entry.time), ref, {}, True)])

    def _record(self, group: str) -> Record:
        r = self.sim.r
        today = to_micros(self.sim.now) // DAY
        time = (today + r.choice(self.days)) * DAY + r.choice(self.minutes) * 60 * MICRO
        fields = {name: r.choice(NUMBERS[name]) for name in self.stage.newest.fields}
        ref = r.choice(REFS) if self.stage.newest.by_ref_time else None
        return Record(group, from_micros(time), ref, {name: value for name, value in fields.items() if value is not None})

    def _send(self, records: Sequence[Record]) -> None:
        writer, configs = self.sim.r.choice(self.writers)

        def body() -> None:
            used = configs.use(NAME) if hasattr(configs, "use") else configs.get(NAME)
            known = [replace(r, fields={n: v for n, v in r.fields.items() if n in used.fields}) for r in records]
            writer.write(used, enumerate(known), self.sim.clock() + 14 * MINUTE)

        self.sim.spawn("write", body, LIMIT, self._ended)

    def rebuild(self) -> None:
        """Somebody asks for a period to be computed again."""
        r, stage = self.sim.r, self.stage
        entries = stage.oracle.by_group.get(r.choice(self.groups))
        levels = live_levels(stage.newest)
        if entries and levels:
            entry, level = r.choice(entries[-4:]), r.choice(levels)
            key = live_key(NAME, entry.group, UNITS[level.name], from_micros(entry.time))
            body = lambda: mark(stage.tapped.live, key, level, self.sim.clock())
            self._park(self.sim.spawn("rebuild", body, LIMIT, self._ended), 3)

    def config(self) -> None:
        """A change of the configuration."""
        if any(actor.kind == "config" for actor in self.sim.actors):
            return
        r = self.sim.r
        now = self.stage.newest
        choice = r.choice(("ttl", "level", "level", "stats"))
        wanted = now
        if choice == "ttl":
            wanted = replace(now, buffer_ttl_hours=r.choice((24, 48, 72)))
        elif choice == "level":
            name = r.choice(("hourly", "daily"))
            if now.level(name) and len(now.levels) > 1:
                wanted = replace(now, levels=tuple(level for level in now.levels if level.name != name))
            elif not now.level(name):
                wanted = replace(now, levels=(*now.levels, Level(name, dict.fromkeys(STATS, ()))))
        else:
            name = r.choice([level.name for level in now.levels])
            shown = r.choice(((), (next(iter(now.fields)),)))
            new = Level(name, dict.fromkeys(STATS, shown))
            wanted = replace(now, levels=tuple(new if level.name == name else level for level in now.levels))
        if not self._applied(wanted):
            return
        for level in self.stage.newest.levels:
            self.sim.say("CONFIG version", self.stage.newest.version, level, f"buffer {self.stage.newest.buffer_ttl_hours} h")

    # queries ------------------------------------------------------------------------------------------------------------

    def query(self) -> None:
        """A query by a client: raw, a level, or the latest value."""
        r = self.sim.r
        levels = [level for level in self.stage.levels() if level in LENGTHS]
        what = r.choice(("raw", "latest", *levels, *levels))
        version = self.stage.newest.version
        entries = list(self.stage.oracle.log)
        group = r.choice(self.groups)
        body, judge = self._asked(what, group)
        begun = len(entries)
        done = {name: {entry.index for entry in entries if entry.done[name]} for name in self.stage.mappings}
        if what == "latest" and any(a.kind == "stream" and a.task[0] == "latest" for a in self.sim.actors):  # type: ignore[attr-defined]
            return

        known: list[Level | None] = []

        def ask() -> Any:
            known.append(self.stage.reader.dataset(NAME).level(what))
            return body()

        def ended(result: Any, error: BaseException | None) -> None:
            self._sane(error)
            newest = self.stage.newest
            # a reader's configuration may be a minute old: a level or a field that went and came back is the old one to it
            old, new = [level and (level.live_from, level.since) for level in (known[0] if known else None, newest.level(what))]
            if error is None and version == newest.version and old == new:
                judge(result, begun, done, False)

        actor = self.sim.spawn("query", ask, 5 * MINUTE, ended, name=f"query-{what}")
        if self.theme.archive:
            self._park(actor, 12)

    def _asked(self, what: str, group: str) -> tuple[Callable[[], Any], Callable[..., None]]:
        stage, checks = self.stage, self.stage.checks
        if what == "latest":
            body = lambda: self.answer(lambda: stage.reader.latest(NAME, group))
            return body, lambda rows, begun, done, exact: checks.latest(group, rows[0] if rows else None, done["latest"], exact)
        column = "valid_time" if what == "raw" else "period_start"
        groups = [group] if group else list(stage.oracle.by_group)
        road = self.sim.r.choice(ROADS)
        body = lambda: rows_of(self.answer(lambda: self._by(road, what, group or None)), column)
        if what == "raw":
            return body, lambda result, begun, done, exact: checks.raw(groups, result, begun)
        return body, lambda result, begun, done, exact: checks.level(what, groups, result, done["aggregates"], exact)

    def _by(self, road: str, what: str, group: str | None) -> Any:
        """All rows of a level, by one of the roads that give the same."""
        reader = self.stage.reader
        if road == "scan":
            return reader.scan(NAME, group, level=what).read_all()
        if road == "first":
            return reader.query(NAME, group, level=what, limit=10**6, order="desc")
        if road == "where":
            name = next(iter(reader.dataset(NAME).fields)) + ("" if what == "raw" else "_count")
            return reader.query(NAME, group, level=what, where=f"{name} > 0 or {name} <= 0 or {name} is null")
        if road == "intervals" and what in INTERVALS:
            return reader.resample(NAME, group, every=INTERVALS[what])
        return reader.query(NAME, group, level=what)

    def ask_everything(self) -> None:
        """Every query, held against the oracle as it stands."""
        log = self.stage.oracle.log
        done = {name: {entry.index for entry in log} for name in self.stage.mappings}
        for what in self.sim.r.sample(("raw", *(level for level in self.stage.levels() if level in LENGTHS)), 2):
            body, judge = self._asked(what, "")
            judge(body(), len(log), done, True)
        for group in self.stage.oracle.by_group:
            body, judge = self._asked("latest", group)
            judge(body(), len(log), done, True)
