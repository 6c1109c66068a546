"""Tesseract: a multi-tier time-series store on AWS. Live in DynamoDB, archived in Parquet on S3, one query over both.

    import tesseract
    store = tesseract.connect(stage="prod")
    store.query("weather", "KJFK", "2013-07-01", "2013-07-08", level="hourly")

Importing this costs nothing: what a name needs is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tesseract.errors import (
        BackendError,
        ConfigError,
        DamagedError,
        InputError,
        NotFoundError,
        RetryError,
        TesseractError,
    )
    from tesseract.store import Store, connect

__all__ = [
    "BackendError",
    "ConfigError",
    "DamagedError",
    "InputError",
    "NotFoundError",
    "RetryError",
    "Store",
    "TesseractError",
    "connect",
]
_STORE = ("Store", "connect")


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("tesseract-store")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("tesseract.store" if name in _STORE else "tesseract.errors"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
