"""What goes wrong on a function's way: storage calls that fail, and an end in the middle of them."""

from __future__ import annotations

import random
from typing import Any


class TimedOut(BaseException):
    """The function's time is up: no code of it runs any more. The driver takes it as Lambda does, an error of the function."""


class Faults:
    """Wraps a table: some calls raise before or after they have taken effect, by a seeded dice."""

    def __init__(self, table: Any, dice: random.Random, rate: float, error: BaseException) -> None:
        self._table, self._dice, self._rate, self._error = table, dice, rate, error
        self.armed = True

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._table, name)

        def call(*arguments: Any, **options: Any) -> Any:
            if self.armed and self._dice.random() < self._rate:
                raise self._error
            result = method(*arguments, **options)
            if self.armed and self._dice.random() < self._rate:
                raise self._error  # a crash after the write, before anybody knows of it
            return result

        return call


class Deadline:
    """Wraps tables so that the function times out right after its `calls`-th call to any of them. `calls` may be set anew."""

    def __init__(self, calls: int) -> None:
        self.calls = calls

    def wrap(self, table: Any) -> Any:
        """The table, watched."""
        return _Watched(table, self)

    def count(self) -> None:
        """One call has taken effect."""
        self.calls -= 1
        if self.calls == 0:
            raise TimedOut


class _Watched:
    def __init__(self, table: Any, deadline: Deadline) -> None:
        self._table, self._deadline = table, deadline

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._table, name)

        def call(*arguments: Any, **options: Any) -> Any:
            result = method(*arguments, **options)
            self._deadline.count()
            return result

        return call
