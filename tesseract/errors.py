"""The errors of Tesseract, split by what the caller should do next.

    TesseractError
    ├── InputError            fix the input: nothing was written, the same call would fail again
    │   ├── ConfigError       ... a dataset configuration says something it may not
    │   └── NotFoundError     ... the dataset, group, version or stack that was named does not exist
    │       └── UnknownDataset ... of a dataset: nobody has applied a configuration of that name
    ├── RetryError            try again: the same call may succeed
    │   ├── ConditionFailed   ... after reading again, somebody else was first
    │   ├── Throttled         ... after waiting
    │   └── Undelivered       ... with the records that it carries or names: the others are dealt with
    ├── BackendError          give up: AWS said no, and will say so again until somebody changes something there
    └── DamagedError          stored data contradicts itself: do not go on as if it were true

Every error carries what was being done (`operation`), to what (`key`), and what would help (`hint`). Errors of a vendor's
library are translated once, by the storage backend.
"""

from __future__ import annotations

from typing import Any


class TesseractError(Exception):
    """Base of all errors that Tesseract raises on purpose; `str()` of one is a sentence for a person."""

    def __init__(self, message: str, *, operation: str = "", key: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.operation = operation
        self.key = key
        self.hint = hint

    def __str__(self) -> str:
        context = " ".join(part for part in (self.operation, self.key) if part)
        text = f"{context}: {self.message}" if context else self.message
        return f"{text} ({self.hint})" if self.hint else text


class InputError(TesseractError):
    """The caller's input is wrong; `str()` says what would be right."""


class ConfigError(InputError):
    """A configuration is not valid; `faults` lists every fault, one sentence each."""

    def __init__(self, message: str, faults: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.faults = faults


class NotFoundError(InputError):
    """What was named does not exist."""


class UnknownDataset(NotFoundError):
    """No configuration of that name has been applied."""


class RetryError(TesseractError):
    """The same call may succeed later."""


class ConditionFailed(RetryError):
    """A conditional write found another state than the one that was read."""


class Throttled(RetryError):
    """AWS asked to slow down for longer than we were willing to wait."""


class Undelivered(RetryError):
    """Records were not delivered, or nobody can tell: send them again, nothing is doubled.

    Of a producer: `records` are they. Of `store.put`: they begin at index `first`, and `answer` is about those before.
    """

    def __init__(
        self, message: str, *, records: tuple[Any, ...] = (), answer: dict[str, Any] | None = None, first: int = 0, hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.records = records
        self.answer = answer
        self.first = first


class BackendError(TesseractError):
    """AWS refused, for a reason that waiting does not mend."""


class DamagedError(TesseractError):
    """Stored data contradicts itself: a checksum, a count or a reference does not hold."""
