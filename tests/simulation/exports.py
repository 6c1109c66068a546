"""Exports that take a while, and that go wrong: they fail, never end, are forgotten; recovery is switched off and on again."""

from __future__ import annotations

from datetime import datetime, timedelta

from tesseract.errors import RetryError
from tesseract.storage.base import Backend
from tesseract.storage.exports import Export
from tests.simulation.scheduler import Scheduler
from tests.support.archive_world import MemoryExports

TOKEN_LIFE = timedelta(hours=8)  # after that, AWS takes the same token for another export
FAULTS = ("fails", "never ends", "vanishes")


class SlowExports(MemoryExports):
    """Exports of a simulated stage; `mend` puts right whatever is wrong with them."""

    def __init__(self, backend: Backend, sim: Scheduler, begun: datetime) -> None:
        super().__init__(backend, begun, 2)
        self.sim = sim
        self.ready: dict[str, datetime] = {}
        self.asked: dict[str, datetime] = {}  # by token
        self.slow = True
        self.fault = ""  # of the next export

    def request(self, prefix: str, start: datetime | None, end: datetime, token: str) -> str:
        now = self.sim.now
        if token in self.asked and now - self.asked[token] > TOKEN_LIFE:
            self.tokens[f"{token} of {self.asked[token]}"] = self.tokens.pop(token)
        new = token not in self.tokens
        arn = super().request(prefix, start, end, token)
        if new:
            self.asked[token] = now
            self.ready[arn] = now + timedelta(minutes=self.sim.r.choice((0, 0, 4, 40)))
            self.sim.say("EXPORT", "full" if start is None else start, "to", end, token, self.fault)
            self._spoil(arn)
        return arn

    def _spoil(self, arn: str) -> None:
        if self.fault == "fails":
            self.status[arn] = Export("FAILED", "S3NoSuchBucket")
        elif self.fault == "vanishes":
            del self.status[arn]
        elif self.fault == "never ends":
            self.ready[arn] = self.sim.now + timedelta(days=999)
        self.fault = ""

    def describe(self, arn: str) -> Export:
        self._answers()
        known = self.status.get(arn)
        if known is None:
            return Export("GONE")
        return known if self.sim.now >= self.ready[arn] or not self.slow else Export("IN_PROGRESS")

    def _answers(self) -> None:
        if self.down:
            raise RetryError("no answer from AWS")

    def mend(self) -> None:
        """From now on all goes well."""
        self.down, self.fault = False, ""
        self.begun = self.begun or self.sim.now
        for arn, ready in self.ready.items():
            if ready - self.sim.now > timedelta(days=30):
                self.ready[arn] = self.sim.now
