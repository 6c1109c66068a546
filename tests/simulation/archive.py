"""What the archive's timers and workers do, and TTL."""

from __future__ import annotations

from tests.simulation.basis import Basis
from tests.simulation.themes import LIMIT, MINUTE


class Archive(Basis):
    """Export, collect, work, snapshot and repair, compact; and removals."""

    def timer(self) -> None:
        """A run of a timer of the archive, or a worker's task."""
        r = self.sim.r
        stage = self.stage
        what = r.choice(("export", "export", "work", "work", "work", "close", "close", "cycle", "cycle", "compact"))
        if what == "work":
            self._work()
        elif sum(actor.kind == what for actor in self.sim.actors) < 2:
            force = r.random() < 0.7
            body = {"export": lambda: stage.export(force), "close": stage.close, "cycle": self._cycle, "compact": stage.compact}[
                what
            ]
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
        self.stage.exports.mend()
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

    def expire(self) -> None:
        """TTL removes an item of the buffer, or one of the live table, long after it might have."""
        r = self.sim.r
        now = self.sim.now.timestamp()
        table = self.stage.raw if r.random() < 0.7 else self.stage.live
        due = sorted((item["pk"], item["sk"]) for item in table.items() if item.get("expires_at", now + 1) <= now)
        for key in r.sample(due, min(len(due), r.choice((1, 1, 3, 20)))):
            table.delete(key)
