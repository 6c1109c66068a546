"""What may happen, chosen by dice: writes, invocations, timers, queries, faults, the passing of time. And how it all comes to rest."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from msgspec.structs import replace

from tesseract.config.dataset import STATS, Level
from tesseract.config.manager import apply
from tesseract.config.tiers import UNITS
from tesseract.errors import ConfigError, DamagedError, TesseractError
from tesseract.model import Record
from tesseract.processing.live_item import live_levels
from tesseract.processing.marking import mark
from tesseract.storage.keys import live_key
from tesseract.utils.time_utils import from_iso, from_micros, to_micros
from tests.simulation.checks import rows_of
from tests.simulation.oracle import DAY, LENGTHS, MICRO
from tests.simulation.scheduler import Actor, Crashed, Scheduler, Violation
from tests.simulation.stage import NAME, START, Stage, dataset
from tests.support.driver import Invocation
from tests.support.driver import lowest as checkpoint

MINUTES = (300, 305, 320, 1200)  # of a day: two in one quarter of an hour, three in one hour
NUMBERS = {
    "d": [1, 2, 3, Decimal("0.5"), Decimal("-2.25"), None],
    "w": [1, 2, 7, 10**38 - 1, 1 - 10**38, None],
    "f": [1, 3, Decimal("0.1"), Decimal("2.5E+20"), Decimal("-1E-7"), None],
}
REFS = [None, *(START - timedelta(days=n) for n in (3, 2, 1))]
HOUR, MINUTE, SECOND = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)
LIMIT = 15 * MINUTE  # of any function
SHORT = (SECOND, 3 * SECOND, 20 * SECOND, 70 * SECOND, 5 * MINUTE, 20 * MINUTE, HOUR)
LONG = (3 * SECOND, 5 * MINUTE, HOUR, 10 * HOUR, 20 * HOUR, 30 * HOUR)
PACES = (SHORT, (*SHORT, 4 * HOUR, 10 * HOUR), LONG)
LAG, ARCHIVE_LAG = 17 * HOUR, 40 * HOUR  # what the alarms keep
TICK = 2 * HOUR  # how often they look
BURSTS = (1, 1, 1, 2, 4, 12, 40)  # calls that an actor makes in a row


LADDERS = (
    ("hourly", "daily"),
    ("hourly", "daily"),
    ("hourly", "daily"),
    ("15min", "hourly", "daily"),
    ("daily",),
    ("hourly",),
)
ACTIONS = {
    "advance": 1,
    "write": 2,
    "delete": 1.5,
    "invoke": 3,
    "time_out": 0.5,
    "rare_stream": 0.3,
    "timer": 1.5,
    "expire": 0.8,
    "rebuild": 0.3,
    "config": 0.2,
    "query": 0.4,
    "stall": 0.8,
}


@dataclass(frozen=True)
class Theme:
    """What a history is mostly about: actions that are more frequent, and from what times and settings it chooses."""

    more: dict[str, float]
    paces: tuple[Sequence[timedelta], ...] = PACES
    days: tuple[tuple[int, ...], ...] = ((0, -1, -4), (0, 0, -1), (-2, -4), (0, -400), (-4, -400), (0, 0, 1, 2), (0, -1, -2, -4, -400))
    ttls: tuple[int, ...] = (24, 48, 72)
    again: float = 0.3  # how many writes are repetitions
    latest: float = 0.3  # how many invocations are of the latest values
    rare: str = ""


THEMES = {
    "mixed": Theme({}),
    "twice": Theme({"invoke": 2, "time_out": 4, "stall": 2, "timer": 0.3, "advance": 0.3}, (SHORT,), ((0,), (-2, -4), (-4,))),
    "latest": Theme({"invoke": 2, "time_out": 2, "timer": 0.3, "advance": 0.3}, (SHORT,), ((0, -1), (-1, -2, -3)), latest=0.95),
    "old": Theme({"advance": 2, "expire": 3}, (LONG,), ((0, -1), (-1, -3), (-4,)), (24,), again=0.7),
    "repair": Theme({"rebuild": 8, "timer": 3, "stall": 2}, (SHORT, PACES[1]), ((0, -1), (-2, -4), (-400,))),
    "worklist": Theme({"rebuild": 15, "timer": 5, "stall": 3, "invoke": 0.7}, (SHORT, (5 * MINUTE, 20 * MINUTE, HOUR)), ((-4,), (0,))),
    "config": Theme({"config": 6}),
    "outage": Theme({"rare_stream": 3, "advance": 1.5}, rare="outage"),
}


class World:
    """One simulated stage, and the dice that drive it: what happens how often is the seed's own."""

    def __init__(self, seed: int, tracing: bool = False, theme_name: str = "") -> None:
        r = random.Random(seed)
        self.sim = Scheduler(START, seed, tracing)
        drawn = r.choice(list(THEMES))
        self.theme = theme = THEMES[theme_name or drawn]
        levels = r.choice(LADDERS)
        fields = r.choice((("d", "w"), ("d",), ("f", "w"), ("d", "w")))
        shown = (fields[0],) if len(fields) > 1 and r.random() < 0.3 else ()
        revisions = r.choice(("last_write", "last_write", "last_write", "latest_ref", "all"))
        config = dataset(levels, fields, shown, revisions=revisions, buffer_ttl_hours=r.choice(theme.ttls))
        self.stage = Stage(self.sim, config, seed)
        self.stage.poison = r.choice((0, 0, 0, 0, 0.1))
        self.weights = [r.choice((1, 2, 4)) * share * theme.more.get(name, 1) for name, share in ACTIONS.items()]
        self.rare = [name for name in ("split", "renew", "outage") if r.random() < 0.3] if not theme.rare else [theme.rare]
        self.throttles = r.choice((0, 0, 0.02, 0.1))
        self.crashes = r.choice((0.003, 0.01, 0.04))
        self.groups = r.choice(("A", "A", "AB"))  # few keys: changes of one record meet
        self.pace = r.choice(theme.paces)
        self.minutes = r.sample(MINUTES, r.choice((1, 2, 3, 4)))
        self.days = r.choice(theme.days)
        self.sent: list[tuple[str, list[Record]]] = []
        self.down: dict[int, Any] = {}
        self.writers = [self.stage.writer_process() for _ in range(2)]
        self.sim.say(f"{', '.join(levels)}; fields {', '.join(fields)}; shown {shown or 'all'}; {revisions}; buffer {config.buffer_ttl_hours} h")

    def seen(self) -> Counter[str]:
        """How much happened."""
        stage = self.stage
        seen = Counter(stage.checks.seen)
        seen["writes"] = len(stage.oracle.log)
        seen["invocations"] = sum(mapping.invocations for mapping in stage.mappings.values())
        seen["windows"] = len(stage.catalog.windows())
        seen["histories"] = 1
        return seen

    # the passing of time ------------------------------------------------------------------------------------------------

    def step(self, x: int) -> None:
        """One event and some calls of the actors under way, all chosen by `x`."""
        r = self.sim.r = random.Random(x)
        getattr(self, r.choices(list(ACTIONS), self.weights)[0])()
        for _ in range(r.choice((1, 2, 4, 8))):
            awake = [actor for actor in self.sim.actors if not actor.stalled]
            if not awake:
                return
            actor = r.choice(awake)
            for _ in range(r.choice(BURSTS)):
                if not actor.dead:
                    self._resume(actor)

    def _resume(self, actor: Actor) -> None:
        r = self.sim.r
        dice = r.random()
        if dice < self.throttles and actor.kind != "query":
            actor.resume("throttle")
        elif dice > 1 - self.crashes and actor.kind not in ("query", "config"):
            self.sim.say("CRASH", actor.name)
            actor.crash(r.choice(("crash before", "crash after")))
        else:
            actor.resume()

    def advance(self) -> None:
        """Let time pass, no farther than the alarms allow."""
        self.pass_time(self.sim.r.choice((10 * HOUR, 20 * HOUR, 30 * HOUR) if self.down else self.pace))

    def pass_time(self, step: timedelta) -> None:
        end = self.sim.now + step
        while self.sim.now < end:
            self.sim.now = min(end, self.sim.now + TICK)
            for actor in list(self.sim.actors):
                if not actor.dead and self.sim.now - actor.started > actor.limit:
                    self._over(actor)
            self._alarms()

    def _over(self, actor: Actor) -> None:
        """An actor's time is up."""
        if actor.kind in ("query", "config"):
            actor.finish()
        else:
            self.sim.say("TIME IS UP", actor.name)
            actor.crash(self.sim.r.choice(("crash before", "crash after")))

    def _alarms(self) -> None:
        """Streams lag less than a day unless a shard is down; the archive lags less than the hold."""
        for name in self.stage.mappings:
            for shard in range(len(self.stage.raw.shards)):
                if shard not in self.down and self._lags(name, shard):
                    self.drain(name, shard)
        if self.sim.now - from_micros(self.stage.through() or to_micros(START)) > ARCHIVE_LAG:
            self.archive()

    def _lags(self, name: str, shard: int) -> bool:
        records = self.stage.raw.shards[shard]
        for record, written in zip(reversed(records), reversed(records.written), strict=True):
            own = self.stage.writes.get(record["dynamodb"]["SequenceNumber"])
            if own and not own[0].done[name]:
                if self.sim.now - written > LAG:
                    return True
        return False

    def stall(self) -> None:
        """An actor stops for a while, or goes on."""
        stalled = [actor for actor in self.sim.actors if actor.stalled]
        if stalled and self.sim.r.random() < 0.7:
            self.sim.r.choice(stalled).stalled = False
        elif self.sim.actors:
            self.sim.r.choice(self.sim.actors).stalled = True

    def _park(self, actor: Actor, most: int) -> None:
        """Often, an actor stops somewhere on its way, and others go on."""
        if self.sim.r.random() < 0.4:
            for _ in range(self.sim.r.randrange(most)):
                if not actor.dead:
                    self._resume(actor)
            actor.stalled = True

    # writes -------------------------------------------------------------------------------------------------------------

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
            writer.write(used, enumerate(records), self.sim.clock() + 14 * MINUTE)

        self.sim.spawn("write", body, LIMIT, self._ended)

    # streams ------------------------------------------------------------------------------------------------------------

    def invoke(self) -> Actor | None:
        """An invocation of a stream function on a shard that has something for it."""
        r = self.sim.r
        name = "latest" if r.random() < self.theme.latest else "aggregates"
        shards = [shard for shard in range(len(self.stage.raw.shards)) if shard not in self.down]
        r.shuffle(shards)
        for shard in shards:
            if r.random() < 0.1:
                self._redeliver(name, shard)
            actor = self._take(name, shard)
            if actor is not None:
                return actor
        return None

    def _take(self, name: str, shard: int) -> Actor | None:
        mapping = self.stage.mappings[name]
        invocation = mapping.take(shard, hurry=True)
        if invocation is None:
            return None
        entries = [e for record in invocation.event["Records"] for e in self.stage.writes.get(record["dynamodb"]["SequenceNumber"], ())]
        for entry in entries:
            if name == "latest":
                entry.done[name] = False  # an older state may come back until the batch is through
        function = self.sim.r.choice(self.stage.processes[name])
        actor = self.sim.spawn(
            "stream", lambda: function(invocation.event), LIMIT, lambda answer, error: self._answered(name, invocation, answer, error), name=f"{name[:6]}{mapping.invocations}"
        )
        actor.task = (name, invocation)  # type: ignore[attr-defined]
        self.sim.say(actor.name, "takes of shard", shard, "the writes", ", ".join(f"#{entry.index}" for entry in entries))
        return actor

    def _answered(self, name: str, invocation: Invocation, answer: Any, error: BaseException | None) -> None:
        self._sane(error)
        mapping = self.stage.mappings[name]
        if error is not None:
            self.sim.say(name, "fails:", repr(error))
            mapping.fail(invocation, error)
            return
        numbers = [record["dynamodb"]["SequenceNumber"] for record in invocation.event["Records"]]
        place = checkpoint(answer, numbers)
        through = numbers if place is None else numbers[:place] if place >= 0 else []
        self.sim.say(name, "is through with", f"{len(through)} of {len(numbers)}", "" if invocation.state == "running" else "(nobody waits)")
        if invocation.state == "running":
            for number in through:
                for entry in self.stage.writes.get(number, ()):
                    entry.done[name] = True
        mapping.settle(invocation, answer)

    def _redeliver(self, name: str, shard: int) -> None:
        """Records come again: an invocation under way is left alone, and may still go on."""
        records = self.stage.raw.shards[shard]
        ended = records.closed and not self.stage.raw.children(shard)  # of a former stream
        if shard in self.stage.mappings[name].readers and not ended:
            records = self.sim.r.randint(1, 5)
            self.sim.say("redelivered:", name, "shard", shard, f"{records} records before")
            self.stage.mappings[name].redeliver(shard, records)

    def time_out(self) -> None:
        """An invocation is given up by Lambda, and its batch comes again while its last calls still land."""
        running = [a for a in self.sim.actors if a.kind == "stream" and a.task[1].state == "running"]  # type: ignore[attr-defined]
        actor = self.sim.r.choice(running) if running else self.invoke()
        for _ in range(self.sim.r.choice((0, 2, 4, 6, 8, 10))):
            if actor is not None and not actor.dead:
                self._resume(actor)
        if actor is not None and not actor.dead:
            name, invocation = actor.task  # type: ignore[attr-defined]
            self.sim.say("timed out:", actor.name)
            actor.stalled = self.sim.r.random() < 0.7
            self.stage.mappings[name].time_out(invocation)
            self._take(name, invocation.shard)

    def drain(self, name: str, shard: int | None = None) -> None:
        """Stream functions catch up, without faults."""
        for _ in range(400):
            for actor in [a for a in self.sim.actors if a.kind == "stream" and a.task[0] == name]:  # type: ignore[attr-defined]
                if not actor.dead:
                    actor.finish()
            shards = range(len(self.stage.raw.shards)) if shard is None else [shard]
            if shard is not None and self.stage.raw.shards[shard].parent is not None:
                shards = [s for s in range(shard + 1)]
            taken = [self._take(name, place) for place in shards if place not in self.down]
            if not any(taken):
                return
        raise Violation(f"stuck: the function {name} never gets through")

    def rare_stream(self) -> None:
        """A shard splits, the stream begins anew, or a shard is not read for a long time."""
        r = self.sim.r
        raw = self.stage.raw
        if not self.rare:
            return
        choice = r.choice(self.rare)
        if choice == "split":
            open_ones = [place for place, shard in enumerate(raw.shards) if not shard.closed]
            if len(raw.shards) < 8:
                place = r.choice(open_ones)
                self.sim.say("shard", place, "splits into", raw.split(place, r.choice((1, 2))))
        elif choice == "renew" and not self.down:
            for name in self.stage.mappings:
                self.drain(name)
            label = f"2026-0{len(raw.shards) % 9 + 1}-01T00:00:00.000"
            raw.renew(label)
            self.sim.say("the stream begins anew:", label)
        elif choice == "outage":
            self._outage()

    def _outage(self) -> None:
        raw = self.stage.raw
        if self.down:
            for place in list(self.down):
                self.sim.say("shard", place, "is read again")
                del self.down[place]
            return
        place = self.sim.r.choice([place for place, shard in enumerate(raw.shards) if not shard.closed])
        self.down[place] = self.sim.now
        self.sim.say("shard", place, "is not read any more")

    # archive ------------------------------------------------------------------------------------------------------------

    def timer(self) -> None:
        """A run of a timer of the archive, or a worker's task."""
        r = self.sim.r
        stage = self.stage
        what = r.choice(("export", "export", "work", "work", "work", "close", "close", "cycle", "cycle", "compact"))
        if what == "work":
            self._work()
        elif sum(actor.kind == what for actor in self.sim.actors) < 2:
            force = r.random() < 0.7
            body = {"export": lambda: stage.export(force), "close": stage.close, "cycle": self._cycle, "compact": stage.compact}[what]
            self._park(self.sim.spawn(what, body, LIMIT, self._ended), 60)

    def _cycle(self) -> None:
        """All timers of the archive, one after the other, and the worker."""
        stage = self.stage
        stage.export(True)
        while stage.queue.bodies:
            body = stage.queue.bodies.pop(0)
            try:
                stage.work(body)
            except BaseException:
                stage.queue.bodies.append(body)
                raise
        stage.close()

    def _work(self) -> None:
        tasks = self.stage.queue.bodies
        if tasks:
            place = self.sim.r.randrange(len(tasks))
            body = tasks[place]
            self.sim.spawn("work", lambda: self.stage.work(body), LIMIT, lambda _, error: self._worked(body, error))
            if self.sim.r.random() < 0.8:
                del tasks[place]  # else the queue delivers it twice

    def _worked(self, body: str, error: BaseException | None) -> None:
        if error is not None:
            self.stage.queue.bodies.append(body)  # it becomes visible again
        self._ended(None, error)

    def archive(self) -> None:
        """Windows opened and closed, without faults."""
        for actor in [a for a in self.sim.actors if a.kind in ("export", "work")]:
            if not actor.dead:
                actor.finish()
        for _ in range(6):
            self.stage.export(True)
            while self.stage.queue.bodies:
                self.stage.work(self.stage.queue.bodies.pop(0))
            if all(window.state == "closed" for window in self.stage.catalog.windows()):
                return
            self.sim.now += 45 * MINUTE

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

    def expire(self) -> None:
        """TTL removes an item of the buffer, or one of the live table, long after it might have."""
        r = self.sim.r
        now = self.sim.now.timestamp()
        table = self.stage.raw if r.random() < 0.7 else self.stage.live
        due = sorted((item["pk"], item["sk"]) for item in table.items() if item.get("expires_at", now + 1) <= now)
        for key in r.sample(due, min(len(due), r.choice((1, 1, 3, 20)))):
            table.delete(key)

    # configuration ------------------------------------------------------------------------------------------------------

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
        if wanted == now:
            return
        try:
            self.stage.newest = apply(self.stage.catalog, wanted, self.sim.now).dataset
        except ConfigError as error:
            self.sim.say("config refused:", error)
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

        def ended(result: Any, error: BaseException | None) -> None:
            self._sane(error)
            if error is None and version == self.stage.newest.version:
                judge(result, begun, done, False)

        self.sim.spawn("query", body, 5 * MINUTE, ended, name=f"query-{what}")

    def _asked(self, what: str, group: str) -> tuple[Callable[[], Any], Callable[..., None]]:
        stage, checks = self.stage, self.stage.checks
        if what == "latest":
            body = lambda: checks.read(lambda: stage.reader.latest(NAME, group))
            return body, lambda rows, begun, done, exact: checks.latest(group, rows[0] if rows else None, done["latest"], exact)
        column = "valid_time" if what == "raw" else "period_start"
        groups = [group] if group else list(stage.oracle.by_group)
        body = lambda: rows_of(checks.read(lambda: stage.reader.query(NAME, group or None, level=what)), column)
        if what == "raw":
            return body, lambda result, begun, done, exact: checks.raw(groups, result, begun)
        return body, lambda result, begun, done, exact: checks.level(what, groups, result, done["aggregates"], exact)

    # endings ------------------------------------------------------------------------------------------------------------

    def _ended(self, result: Any, error: BaseException | None) -> None:
        self._sane(error)
        if error is not None and not isinstance(error, Crashed):
            self.sim.say("ended with", repr(error))

    def _sane(self, error: BaseException | None) -> None:
        """Crashes, throttles and lost races are to be expected; nothing else is."""
        expected = error is None or isinstance(error, Crashed) or (isinstance(error, TesseractError) and not isinstance(error, DamagedError))
        if not expected:
            raise Violation(f"exception: {error!r}") from error

    def settle(self) -> None:
        """All comes to rest: actors end, streams are drained, windows are closed, repairs done. Then everything must be exact."""
        sim, stage = self.sim, self.stage
        sim.r = random.Random(len(stage.oracle.log))
        self.throttles = 0
        for actor in list(sim.actors):
            if not actor.dead:
                actor.finish()
        self.down.clear()
        sim.say("all comes to rest")
        known = max([0, *(level.live_from or 0 for level in stage.newest.levels), *(m for level in stage.newest.levels for m in level.since.values())])
        if known > to_micros(sim.now):  # what was marked because of a level's beginning waits until everybody knows the level
            self.pass_time(from_micros(known) - sim.now)
        stage.exports.slow = False
        for last in (False, False, False, True):
            sim.now += HOUR
            for name in stage.mappings:
                self.drain(name)
            self.archive()
            stage.close()
            if last or stage.checks.is_quiet():
                break
        stage.checks.quiet()
        stage.checks.snapshots()
        self.ask_everything()

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


