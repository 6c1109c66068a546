"""Actors that stop at every storage call, and tables that stop them: any interleaving, crash, stall or throttle is possible.

An actor is one run of the real code (an invocation, a timer's run, a query) in a greenlet. It gives up control before each call of
a table or of the bucket; the scheduler decides when the call takes effect, and what comes of it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any, Literal

from greenlet import getcurrent, greenlet

from tesseract.errors import Throttled

Verdict = Literal["go", "throttle", "crash before", "crash after"]


class Crashed(BaseException):
    """The process of an actor ends here."""


class Violation(BaseException):
    """An invariant does not hold. No code under test can catch it."""


class Actor:
    """One run of the code. `kind` groups actors for the scheduler, `limit` is how long it may run, `skew` its clock's error."""

    def __init__(
        self,
        sim: Scheduler,
        kind: str,
        name: str,
        body: Callable[[], Any],
        limit: timedelta,
        skew: timedelta,
        done: Callable[..., None],
    ) -> None:
        self.sim, self.kind, self.name, self.limit, self.skew, self.done = sim, kind, name, limit, skew, done
        self.started = sim.now
        self.dead = self.killed = self.stalled = False
        self.calls, self.pending = 0, ""
        self._body = body
        self._greenlet = greenlet(self._run)

    def resume(self, verdict: Verdict = "go") -> None:
        """Let the actor's pending call happen, and run on to the next one, or to the end."""
        sim, before = self.sim, self.sim.current
        sim.current = self
        try:
            outcome = self._greenlet.switch(verdict)
        finally:
            sim.current = before
        if outcome is not None:
            self.dead = True
            sim.actors.remove(self)
            result, error = outcome
            if isinstance(error, Violation):
                raise error
            self.done(result, error)

    def finish(self) -> None:
        """Run to the end, without faults."""
        while not self.dead:
            self.resume()

    def crash(self, verdict: Verdict = "crash before") -> None:
        """End the process at its pending call, which takes effect or not."""
        self.resume(verdict)
        while not self.dead:
            self.resume("crash before")

    def _run(self, verdict: Verdict) -> tuple[Any, BaseException | None]:
        try:
            if verdict != "go":
                raise Crashed
            return self._body(), None
        except BaseException as error:
            return None, error

    def until(self, call: str) -> None:
        """Run on to the next pending call that begins like this: `put weather#A#hourly`."""
        self.resume()
        while not self.dead and not self.pending.startswith(call):
            self.resume()
        assert not self.dead, f"{self.name} ended without a call {call!r}"

    def pause(self, what: str) -> Verdict:
        """Called by storage: give up control before the call `what`; answers what is to become of it."""
        if self.killed:
            return "crash before"
        self.pending = what
        verdict: Verdict = getcurrent().parent.switch(None)
        self.calls += 1
        if verdict.startswith("crash"):
            self.killed = True
        return verdict


class Scheduler:
    """Time, dice, the actors that are under way, and the trace of what happened."""

    def __init__(self, now: datetime, seed: int, tracing: bool) -> None:
        self.now, self.begun = now, now
        self.r = random.Random(seed)
        self.serials = random.Random(seed)
        self.actors: list[Actor] = []
        self.current: Actor | None = None
        self.tracing = tracing
        self.trace: list[str] = []
        self.count = 0

    def clock(self) -> datetime:
        """The time, as the running actor's process has it."""
        return self.now if self.current is None else self.now + self.current.skew

    def say(self, *parts: object) -> None:
        """One line of the history."""
        if self.tracing:
            since = self.now - self.begun
            hours, rest = divmod(since.seconds, 3600)
            who = self.current.name if self.current else ""
            text = " ".join(map(str, parts))
            self.trace.append(f"[{since.days}d{hours:02}:{rest // 60:02}:{rest % 60:02}] {who:<12} {text}")

    def spawn(
        self,
        kind: str,
        body: Callable[[], Any],
        limit: timedelta,
        done: Callable[..., None],
        name: str = "",
        skew: timedelta | None = None,
    ) -> Actor:
        """A new actor; it has not begun yet."""
        self.count += 1
        skew = timedelta(seconds=self.r.choice((-2, -1, 0, 0, 1, 2))) if skew is None else skew
        actor = Actor(self, kind, name or f"{kind}{self.count}", body, limit, skew, done)
        self.actors.append(actor)
        return actor

    def call(self, what: str, do: Callable[[], Any], faulty: bool = True) -> Any:
        """A storage call of the running actor. Without one it happens at once."""
        actor = self.current
        if actor is None:
            return do()
        verdict = actor.pause(what)
        if verdict == "crash before":
            raise Crashed
        if verdict == "throttle":
            self.say("throttled:", what)
            raise Throttled("slow down", operation=what)
        result = do()
        if verdict == "crash after":
            raise Crashed
        return result

    def kill_all(self) -> None:
        """At the end of a run: no greenlet is left behind."""
        for actor in list(self.actors):
            actor.done = lambda *_: None
            actor.crash()


class TapTable:
    """A table whose every call is a point where the running actor may stop, crash or be throttled."""

    def __init__(self, table: Any, sim: Scheduler) -> None:
        self.table, self.sim, self.counters = table, sim, table.counters

    def get(self, key: Any) -> Any:
        return self.sim.call(f"get {key[0]}", lambda: self.table.get(key))

    def get_many(self, keys: Iterable[Any]) -> dict[Any, Any]:
        keys = list(keys)
        found: dict[Any, Any] = {}
        # the items of a BatchGetItem are read one by one
        for share in _shares(self.sim, keys):
            found |= self.sim.call("get_many", lambda share=share: self.table.get_many(share))
        return found

    def query(self, pk: str, low: Any = None, high: Any = None, *, reverse: bool = False, limit: int = 0) -> Iterator[Any]:
        found: Iterator[Any] = self.sim.call(f"query {pk}", lambda: self.table.query(pk, low, high, reverse=reverse, limit=limit))
        return found

    def pages(self, pk: str, low: Any = None, high: Any = None, *, reverse: bool = False, limit: int = 0) -> Iterator[Any]:
        pages = self.table.pages(pk, low, high, reverse=reverse, limit=limit)
        while (page := self.sim.call(f"query {pk}", lambda: next(pages, None))) is not None:
            yield page

    def put(self, item: Any, condition: Any = None, until: datetime | None = None) -> None:
        self.sim.call(f"put {item['pk']}", lambda: self._put(item, condition, until))

    def put_checked(self, item: Any, condition: Any, check_key: Any, check: Any) -> None:
        self.sim.call("put_checked", lambda: self.table.put_checked(item, condition, check_key, check))

    def put_many(self, items: Iterable[Any], until: datetime | None = None) -> list[Any]:
        items = list(items)
        left: list[Any] = []
        for share in _shares(self.sim, items):
            try:
                for item in share:
                    self.sim.call(f"put_many {item['pk']}", lambda item=item: self._put(item, None, until))
            except Throttled:
                left += share[share.index(item) :]
        return left

    def delete(self, key: Any, condition: Any = None) -> None:
        self.sim.call(f"delete {key[0]}", lambda: self.table.delete(key, condition))

    def _put(self, item: Any, condition: Any, until: datetime | None) -> None:
        if until is not None and self.sim.clock() > until:
            self.sim.say("not sent, too late:", item["pk"], item["sk"])
            raise Throttled("throttled for too long")
        self.table.put(item, condition)


class TapObjects:
    """A bucket whose every call is such a point."""

    def __init__(self, objects: Any, sim: Scheduler) -> None:
        self.objects, self.sim = objects, sim

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.objects, name)
        return lambda *arguments, **options: self.sim.call(name, lambda: method(*arguments, **options))


class Serial:
    """Stands in for a pool of threads: jobs run in the actor's own greenlet, in an order that the dice chooses."""

    sim: Scheduler | None = None

    def __init__(self, *_: Any, **__: Any) -> None:
        self._waiting: list[Job] = []

    def __enter__(self) -> Serial:
        return self

    def __exit__(self, *_: object) -> None:
        for job in self._waiting:
            job.run()

    def shutdown(self, *_: Any, **__: Any) -> None: ...

    def submit(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Job:
        """A job that runs at once, or not before its result is asked for: of jobs begun together, any may be the last."""
        job = Job(function, arguments, options)
        if self.sim is None or self.sim.r.random() < 0.5:
            job.run()
        else:
            self._waiting.append(job)
        return job

    def map(self, function: Callable[..., Any], *values: Iterable[Any], **_: Any) -> Iterator[Any]:
        jobs = [Job(function, arguments, {}) for arguments in zip(*values, strict=False)]
        order = list(jobs)
        if self.sim is not None and len(order) > 1:
            self.sim.r.shuffle(order)
        for job in order:
            job.run()
        return iter([job.result() for job in jobs])


class Job:
    """What a pool would call a future."""

    def __init__(self, function: Callable[..., Any], arguments: Any, options: Any) -> None:
        self._call = lambda: function(*arguments, **options)
        self._error: Exception | None = None
        self._state = "waiting"

    def run(self) -> None:
        """Run, if it has not and is wanted still."""
        if self._state != "waiting":
            return
        self._state = "done"
        try:
            self._result = self._call()
        except Exception as error:
            self._error = error

    def result(self, timeout: float | None = None) -> Any:
        self.run()
        if self._error is not None:
            raise self._error
        return self._result

    def cancel(self) -> bool:
        if self._state == "waiting":
            self._state = "cancelled"
        return self._state == "cancelled"

    def done(self) -> bool:
        return self._state == "done"

    def add_done_callback(self, call: Callable[[Job], object]) -> None:
        call(self)


def _shares(sim: Scheduler, items: list[Any]) -> list[list[Any]]:
    """Mostly all at once; sometimes in two."""
    if sim.current is None or len(items) < 2 or sim.r.random() < 0.7:
        return [items] if items else []
    cut = sim.r.randrange(1, len(items))
    return [items[:cut], items[cut:]]
