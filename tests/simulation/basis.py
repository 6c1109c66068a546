"""A simulated stage and the dice of one seed: what all actions build on."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from tesseract.config.dataset import Dataset
from tesseract.config.manager import apply
from tesseract.errors import ConfigError, DamagedError, TesseractError
from tesseract.model import Record
from tests.simulation.compare import Unreadable, answered
from tests.simulation.scheduler import Actor, Crashed, Scheduler, Violation
from tests.simulation.stage import Stage, dataset
from tests.simulation.themes import ACTIONS, LADDERS, MINUTES, OF_STREAMS, START, THEMES


class Basis:
    """One simulated stage, and the dice that drive it: what happens how often is the seed's own."""

    def __init__(self, seed: int, tracing: bool = False, theme_name: str = "", config: Dataset | None = None) -> None:
        r = random.Random(seed)
        self.sim = Scheduler(START, seed, tracing)
        drawn = r.choice(OF_STREAMS)
        self.theme = theme = THEMES[theme_name or drawn]
        levels = r.choice(LADDERS)
        fields = r.choice((("d", "w"), ("d",), ("f", "w"), ("d", "w")))
        shown = (fields[0],) if len(fields) > 1 and r.random() < 0.3 else ()
        revisions = r.choice(("last_write", "last_write", "last_write", "latest_ref", "all"))
        drawn_config = dataset(levels, fields, shown, revisions=revisions, buffer_ttl_hours=r.choice(theme.ttls))
        if theme.archive:
            kept = theme.revisions or drawn_config.revisions
            drawn_config = replace(drawn_config, history=r.choice(("P1D", "P2D", "P7D")), revisions=kept)
        config = config or drawn_config
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
        self.down: set[tuple[str, int | None]] = set()  # (function, shard): not read any more; None is all shards
        self.writers = [self.stage.writer_process() for _ in range(2)]
        self.actions = [*ACTIONS, *theme.archive]
        self.erasures = 0  # how many have begun or ended
        self.files: list[Any] = []  # that were backfilled
        self.deleted: list[tuple[str, tuple[int, int], int]] = []  # group, range, and when all of it was deleted (µs)
        if theme.archive:
            self.weights += [r.choice((1, 2, 4)) * share for share in theme.archive.values()]
            self.rare, self.stage.poison, self.stage.whole_seconds = [], 0, theme.whole_seconds
        names, keeps = ", ".join(level.name for level in config.levels), f"{config.revisions}; buffer {config.buffer_ttl_hours} h"
        self.sim.say(f"{names}; fields {', '.join(config.fields)}; shown {', '.join(shown) or 'all'}; {keeps}")

    def seen(self) -> Counter[str]:
        """How much happened."""
        stage = self.stage
        seen = Counter(stage.checks.seen)
        seen["writes"] = len(stage.oracle.log)
        seen["invocations"] = sum(mapping.invocations for mapping in stage.mappings.values())
        windows = stage.catalog.windows()
        seen["windows"] = len(windows)
        seen["full windows"] = sum(window.kind == "full" for window in windows)
        seen["exports asked for again"] = sum(window.attempt - 1 for window in windows)
        seen["histories"] = 1
        return seen

    def is_down(self, name: str, shard: int) -> bool:
        """Whether a stream function is not called for a shard."""
        return (name, shard) in self.down or (name, None) in self.down

    # actors -------------------------------------------------------------------------------------------------------------

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

    def answer(self, call: Callable[[], Any]) -> Any:
        """The answer of a query. An erasure, and nothing else, may take the files of one that is under way."""
        begun = self.erasures
        try:
            return answered(call)
        except Unreadable:
            if self.erasures != begun or any(actor.kind == "erase" for actor in self.sim.actors):
                raise Crashed from None
            raise

    def _park(self, actor: Actor, most: int) -> None:
        """Often, an actor stops somewhere on its way, and others go on."""
        if self.sim.r.random() < 0.4:
            for _ in range(self.sim.r.randrange(most)):
                if not actor.dead:
                    self._resume(actor)
            actor.stalled = True

    def _ended(self, result: Any, error: BaseException | None) -> None:
        self._sane(error)
        if error is not None and not isinstance(error, Crashed):
            self.sim.say("ended with", repr(error))

    def _sane(self, error: BaseException | None) -> None:
        """Crashes, throttles and lost races are to be expected; nothing else is."""
        expected = (
            error is None
            or isinstance(error, Crashed)
            or (isinstance(error, TesseractError) and not isinstance(error, DamagedError))
        )
        if not expected:
            raise Violation(f"exception: {error!r}") from error

    def _applied(self, wanted: Dataset) -> bool:
        """Whether another configuration was taken: one that is new, and that no rule of changes refuses."""
        if wanted == self.stage.newest:
            return False
        try:
            self.stage.newest = apply(self.stage.catalog, wanted, self.sim.now).dataset
        except ConfigError as error:
            self.sim.say("config refused:", error)
            return False
        return True
