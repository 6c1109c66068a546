"""The whole: steps chosen by dice, the passing of time, and how it all comes to rest."""

from __future__ import annotations

import random
from datetime import timedelta

from tesseract.utils.time_utils import from_micros, to_micros
from tests.simulation.archive import Archive
from tests.simulation.clients import Clients
from tests.simulation.keeping import Keeping
from tests.simulation.oracle import DAY
from tests.simulation.roads import Roads
from tests.simulation.scheduler import Actor
from tests.simulation.streams import Streams
from tests.simulation.themes import ARCHIVE_LAG, BURSTS, HOUR, LAG, START, TICK

RESTS = (False, False, False, True, True, True, True)  # rounds until all must be quiet; whether beyond the last period's end


class World(Clients, Streams, Archive, Keeping, Roads):
    """One history: every step is chosen by one number."""

    def step(self, x: int) -> None:
        """One event and some calls of the actors under way, all chosen by `x`."""
        r = self.sim.r = random.Random(x)
        getattr(self, r.choices(self.actions, self.weights)[0])()
        for _ in range(r.choice((1, 2, 4, 8))):
            awake = [actor for actor in self.sim.actors if not actor.stalled]
            if not awake:
                return
            actor = r.choice(awake)
            for _ in range(r.choice(BURSTS)):
                if not actor.dead:
                    self._resume(actor)

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
                if not self.is_down(name, shard) and self._lags(name, shard):
                    self.drain(name, shard)
        if self.sim.now - from_micros(self.stage.through() or to_micros(START)) > ARCHIVE_LAG:
            self.archive()

    def _lags(self, name: str, shard: int) -> bool:
        records = self.stage.raw.shards[shard]
        for record, written in zip(reversed(records), reversed(records.written), strict=True):
            age = self.sim.now - written
            if age > self.stage.raw.retention:
                return False
            own = self.stage.writes.get(record["dynamodb"]["SequenceNumber"])
            if own and not own[0].done[name] and age > LAG:
                return True
        return False

    def stall(self) -> None:
        """An actor stops for a while, or goes on."""
        stalled = [actor for actor in self.sim.actors if actor.stalled]
        if stalled and self.sim.r.random() < 0.7:
            self.sim.r.choice(stalled).stalled = False
        elif self.sim.actors:
            self.sim.r.choice(self.sim.actors).stalled = True

    def settle(self) -> None:
        """All comes to rest: actors end, streams are drained, windows are closed, repairs done. Then everything must be exact."""
        sim, stage = self.sim, self.stage
        sim.r = random.Random(len(stage.oracle.log))
        self.throttles = 0
        for actor in list(sim.actors):
            if not actor.dead:
                actor.finish()
        self.down.clear()
        self.finish_roads()
        sim.say("all comes to rest")
        known = max(
            [
                0,
                *(level.live_from or 0 for level in stage.newest.levels),
                *(m for level in stage.newest.levels for m in level.since.values()),
            ]
        )
        if known > to_micros(sim.now):  # what was marked because of a level's beginning waits until everybody knows the level
            self.pass_time(from_micros(known) - sim.now)
        stage.exports.slow = False
        for rest in RESTS:
            # what one silent shard has lost is found when its period has ended, and mended two windows later
            ends = [entry.time // DAY * DAY + DAY for entry in stage.oracle.log] if rest else []
            sim.now = max([sim.now, *map(from_micros, ends)]) + HOUR
            for name in stage.mappings:
                self.drain(name)
            self.archive()
            stage.close()
            if stage.checks.is_quiet():
                break
        stage.checks.quiet()
        stage.checks.snapshots()
        self.ask_everything()
        if self.theme.archive:
            self.the_past()
