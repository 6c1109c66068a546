"""What happens to the stream functions: invocations, redeliveries, time-outs, splits, new streams, outages."""

from __future__ import annotations

from typing import Any

from tesseract.utils.time_utils import to_micros
from tests.simulation.basis import Basis
from tests.simulation.scheduler import Actor, Violation
from tests.simulation.themes import LIMIT
from tests.support.driver import Invocation
from tests.support.driver import lowest as checkpoint


class Streams(Basis):
    """The two functions on the raw table's stream."""

    def invoke(self) -> Actor | None:
        """An invocation of a stream function on a shard that has something for it."""
        r = self.sim.r
        name = "latest" if r.random() < self.theme.latest else "aggregates"
        shards = [shard for shard in range(len(self.stage.raw.shards)) if not self.is_down(name, shard)]
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
        invocation = None if self.is_down(name, shard) else mapping.take(shard, hurry=True)
        if invocation is None:
            return None
        self.stage.checks.called(name)
        entries = [
            e for record in invocation.event["Records"] for e in self.stage.writes.get(record["dynamodb"]["SequenceNumber"], ())
        ]
        for entry in entries:
            if name == "latest":
                entry.done[name] = False  # an older state may come back until the batch is through
        function = self.sim.r.choice(self.stage.processes[name])
        actor = self.sim.spawn(
            "stream",
            lambda: function(invocation.event),
            LIMIT,
            lambda answer, error: self._answered(name, invocation, answer, error),
            name=f"{name[:6]}{mapping.invocations}",
        )
        actor.task = (name, invocation)  # type: ignore[attr-defined]
        self.sim.say(actor.name, "takes of shard", shard, "the writes", ", ".join(f"#{entry.index}" for entry in entries))
        return actor

    def _answered(self, name: str, invocation: Invocation, answer: Any, error: BaseException | None) -> None:
        self._sane(error)
        self.stage.checks.last_active[name] = to_micros(self.sim.now)
        mapping = self.stage.mappings[name]
        if error is not None:
            self.sim.say(name, "fails:", repr(error))
            mapping.fail(invocation, error)
            return
        numbers = [record["dynamodb"]["SequenceNumber"] for record in invocation.event["Records"]]
        place = checkpoint(answer, numbers)
        through = numbers if place is None else numbers[:place] if place >= 0 else []
        self.sim.say(
            name, "is through with", f"{len(through)} of {len(numbers)}", "" if invocation.state == "running" else "(nobody waits)"
        )
        if invocation.state == "running":
            for number in through:
                for entry in self.stage.writes.get(number, ()):
                    entry.done[name] = True
        mapping.settle(invocation, answer)
        if name == "latest" and not any(a.kind == "stream" and a.task[0] == name for a in self.sim.actors):  # type: ignore[attr-defined]
            self.stage.checks.latest_through()

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
                shards = list(range(shard + 1))
            taken = [self._take(name, place) for place in shards]
            if not any(taken):
                return
        raise Violation(f"stuck: the function {name} never gets through")

    def rare_stream(self) -> None:
        """A shard splits, the stream begins anew, or a shard or a whole function stands still for a long time."""
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
            self.sim.say("all shards are read again")
            self.down.clear()
            return
        r = self.sim.r
        place = r.choice((None, r.choice([place for place, shard in enumerate(raw.shards) if not shard.closed])))
        names = r.choice((("aggregates",), ("latest",), ("aggregates", "latest")))
        self.down |= {(name, place) for name in names}
        self.sim.say("stopped:", *names, "of all shards" if place is None else f"of shard {place}")
