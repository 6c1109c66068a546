"""What a benchmark gives, and how two things are timed fairly: alternating, so that both see the same machine, and by medians."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One line of the results. `bar` is the limit that the figure must not pass; None where it is only told."""

    name: str
    figure: float
    unit: str
    against: str
    bar: float | None = None
    more_is_better: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the figure keeps its bar; None without one."""
        if self.bar is None:
            return None
        return self.figure >= self.bar if self.more_is_better else self.figure <= self.bar


def medians(rounds: int, *timed: Callable[[], float]) -> list[float]:
    """The median seconds of each, measured in turns after one round that does not count."""
    runs = [[measure() for measure in timed] for _ in range(rounds + 1)][1:]
    return [statistics.median(column) for column in zip(*runs, strict=True)]
