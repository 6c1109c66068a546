"""Logs of the command: JSON lines on stderr, with the keys of the functions' logs. The library itself only uses `logging`."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

from tesseract.errors import InputError

LEVELS = ("debug", "info", "warning", "error")
SERVICE = "tesseract"


def configure(level: str) -> None:
    """Log at `level` and above for the rest of this process. Needs structlog, which the client has. Raises InputError."""
    import structlog
    from structlog.stdlib import ExtraAdder, ProcessorFormatter

    if level.lower() not in LEVELS:
        raise InputError(f"TESSERACT_LOG={level} is not a level", hint=f"one of {', '.join(LEVELS)}")
    formatter = ProcessorFormatter(
        foreign_pre_chain=[ExtraAdder()],
        processors=[
            _shape,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=str, ensure_ascii=False),
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logger = logging.getLogger("tesseract")
    logger.handlers = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False


def _shape(logger: Any, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A record as Powertools' Logger writes it: its five keys first, then what the caller added."""
    record: logging.LogRecord = event["_record"]
    moment = logging.Formatter().formatTime(record, "%Y-%m-%d %H:%M:%S")
    zone = logging.Formatter().formatTime(record, "%z")
    shaped = {
        "level": record.levelname,
        "location": f"{record.funcName}:{record.lineno}",
        "message": event["event"],
        "timestamp": f"{moment},{int(record.msecs):03}{zone}",
        "service": SERVICE,
    }
    hidden = {"event", "_record", "_from_structlog", *shaped}
    return {**shaped, **{key: value for key, value in event.items() if key not in hidden}}
