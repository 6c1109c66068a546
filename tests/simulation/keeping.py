"""What happens to the archive beside its round: exports that go wrong, late deliveries, compaction, removals, reads of the past."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from msgspec.structs import replace

from tesseract.errors import InputError, TesseractError
from tesseract.utils.time_utils import from_micros
from tests.simulation.archive_checks import SKEW
from tests.simulation.basis import Basis
from tests.simulation.compare import answered, rows_of
from tests.simulation.exports import FAULTS
from tests.simulation.stage import FIELDS, NAME
from tests.simulation.themes import LIMIT, MINUTE

LADDERS = (("daily", "monthly", "yearly"), ("daily", "yearly"), ("daily", "weekly", "yearly"), ("weekly", "quarterly"))


class Keeping(Basis):
    """The themes of the archive choose these; the others do without."""

    def trouble(self) -> None:
        """The next export goes wrong, AWS does not answer, or point-in-time recovery is switched off, or on again."""
        exports, r = self.stage.exports, self.sim.r
        choice = r.choice((*FAULTS, *FAULTS, "down", "recovery"))
        self.sim.say("TROUBLE:", choice)
        if choice == "down":
            exports.down = not exports.down
        elif choice == "recovery":
            exports.begun = self.sim.now if exports.begun is None else None
        else:
            exports.fault = choice

    def late_task(self) -> None:
        """The queue delivers a task again, days after it was done."""
        sent = self.stage.queue.sent
        if sent:
            body = self.sim.r.choice(sent[-8:] if self.sim.r.random() < 0.6 else sent)
            self._park(self.sim.spawn("late", lambda: self.stage.work(body), LIMIT, self._ended), 20)

    def collect(self) -> None:
        """The collector alone: two of them may be on their way."""
        self._park(self.sim.spawn("collect", self.stage.collect, LIMIT, self._ended), 10)

    def merge(self) -> None:
        """A compaction, by the timer's plan or whole."""
        if sum(actor.kind == "compact" for actor in self.sim.actors) < 2:
            whole = self.sim.r.random() < 0.5
            actor = self.sim.spawn("compact", lambda: self.stage.compact(whole), LIMIT, self._ended)
            self._park(actor, 30)
            if self.sim.r.random() < 0.3:  # it is overtaken by another one
                for _ in range(self.sim.r.randrange(30)):
                    if not actor.dead:
                        actor.resume()
                self.stage.compact()

    def gc(self) -> None:
        """The garbage collection."""
        if sum(actor.kind == "gc" for actor in self.sim.actors) < 2:
            self._park(self.sim.spawn("gc", self.stage.gc, LIMIT, self._ended), 20)

    def race(self) -> None:
        """A query is overtaken, somewhere on its way: a window closes, segments are merged, garbage is collected."""
        r, stage, before = self.sim.r, self.stage, set(self.sim.actors)
        self.query()  # type: ignore[attr-defined]
        for actor in [actor for actor in self.sim.actors if actor not in before]:
            for _ in range(r.randrange(10)):
                if not actor.dead:
                    actor.resume()
        try:
            stage.export(r.random() < 0.7)
            while stage.queue.bodies:
                stage.work(stage.queue.bodies[0])
                del stage.queue.bodies[0]
            for timer in r.choice(((), (stage.compact,), (stage.gc,), (stage.compact, stage.gc))):
                timer()
        except TesseractError as error:
            self._ended(None, error)

    def reconfigure(self) -> None:
        """Another ladder, or one more field."""
        r, now = self.sim.r, self.stage.newest
        wanted = replace(now, ladder=r.choice(LADDERS))
        missing = [name for name in FIELDS if name not in now.fields]
        if missing and r.random() < 0.4:
            name = r.choice(missing)
            wanted = replace(now, fields={**now.fields, name: FIELDS[name]})
        if not self._applied(wanted):
            return
        newest = self.stage.newest
        self.sim.say("CONFIG version", newest.version, "ladder", *newest.ladder, "fields", *newest.fields)

    def past(self) -> None:
        """A query of raw rows as of a moment whose state must still be there, or as of now."""
        r, checks = self.sim.r, self.stage.archive_checks
        if not checks.versions:
            return
        group = r.choice(sorted(checks.versions))
        reach = min(checks.kept() - 20 * MINUTE, self.sim.now - self.sim.begun)
        at = self.sim.now - timedelta(seconds=2) - r.choice((0, 0, r.random())) * reach
        if group in checks.forgotten and at - SKEW <= checks.forgotten[group]:
            return
        forgotten = self.erasures

        def body() -> Any:
            return rows_of(self.answer(lambda: self.stage.reader.query(NAME, group, as_of=at)), "valid_time")

        def ended(result: Any, error: BaseException | None) -> None:
            if forgotten != self.erasures:
                return
            if isinstance(error, InputError):
                checks.stage.checks.fail("past", f"as of {at}, asked for at {self.sim.now}: {error}")
            self._sane(error)
            if error is None:
                checks.past(group, at, result)

        self.sim.spawn("query", body, 5 * MINUTE, ended, name="query-past")

    def the_past(self) -> None:
        """At rest: the archive alone has everything, raw and levels."""
        stage = self.stage
        through = from_micros(stage.through())
        log = stage.oracle.log
        if any(from_micros(entry.at) >= through for entry in log):
            return
        done = {entry.index for entry in log}
        groups = list(stage.oracle.by_group)
        for what in ("raw", *(name for name in stage.levels() if name in ("hourly", "daily"))):
            table = answered(lambda what=what: stage.reader.query(NAME, level=what, as_of=self.sim.now))
            if what == "raw":
                stage.checks.raw(groups, rows_of(table, "valid_time"), len(log))
            else:
                stage.checks.level(what, groups, rows_of(table, "period_start"), done, True)
