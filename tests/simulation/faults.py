"""How deliberate faults are put into the code, from a test: the simulation must catch every one of them (see `mutations`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from tests.simulation.runs import run

Patches = Callable[[], list[Any]]
MUTATIONS: dict[str, Patches] = {}
HUNTS: dict[str, tuple[str, int]] = {}  # which histories catch it soonest: their theme, and the first seed


def caught(name: str, seeds: int = 200) -> int | None:
    """The first seed that catches a fault, and that goes well without it; None if `seeds` of them do not."""
    theme, first = HUNTS[name]
    for seed in range(first, first + seeds):
        with applied(name):
            wrong = run(seed, theme=theme).wrong
        if wrong and not run(seed, theme=theme).wrong:
            return seed
    return None


@contextmanager
def applied(name: str) -> Iterator[None]:
    """Within, the fault of that name is in the code; "" is none."""
    with ExitStack() as stack:
        for part in MUTATIONS[name]() if name else []:
            stack.enter_context(part)
        yield


def fault(theme: str = "", first: int = 0) -> Callable[[Patches], Patches]:
    """Registers a fault."""

    def register(function: Patches) -> Patches:
        MUTATIONS[function.__name__], HUNTS[function.__name__] = function, (theme, first)
        return function

    return register
