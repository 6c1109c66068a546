"""One seed from beginning to end, and the shortest history of one that fails."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.simulation import patches
from tests.simulation.scheduler import Violation
from tests.simulation.world import World

STEPS = 140


@dataclass(frozen=True)
class Outcome:
    """How a run ended: what was wrong ("" if nothing), its kind, and the history if it was traced."""

    wrong: str
    history: list[str]
    seen: Counter[str] = field(default_factory=Counter)

    @property
    def kind(self) -> str:
        return self.wrong.partition(":")[0]


def schedule(seed: int, steps: int = STEPS) -> list[int]:
    """The dice of each step."""
    r = random.Random(seed ^ 0x5EED)
    return [r.getrandbits(40) for _ in range(steps)]


def run(seed: int, steps: Sequence[int] | None = None, tracing: bool = False, theme: str = "") -> Outcome:
    """One history, of the theme named, or of the one that the seed draws."""
    patches.attach(None)
    world = World(seed, tracing, theme)
    patches.attach(world.sim)
    try:
        for step in schedule(seed) if steps is None else steps:
            world.step(step)
        world.settle()
    except Violation as violation:
        return Outcome(str(violation), world.sim.trace, world.seen())
    finally:
        world.sim.kill_all()
    return Outcome("", world.sim.trace, world.seen())


def shrunk(seed: int, kind: str, seconds: float = 60, theme: str = "") -> list[int]:
    """As few steps as can be found in that time that still fail in the same way."""
    steps, end = schedule(seed), time.monotonic() + seconds
    size = len(steps) // 2
    while size and time.monotonic() < end:
        place, hit = 0, False
        while place < len(steps) and time.monotonic() < end:
            fewer = steps[:place] + steps[place + size :]
            if run(seed, fewer, theme=theme).kind == kind:
                steps, hit = fewer, True
            else:
                place += size
        if not (hit and size == 1):
            size //= 2
    return steps
