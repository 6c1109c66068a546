"""The worklist: which items of the live table are to be computed again by the archiver. An entry is put before its item is marked.

A crash in between leaves an entry too many, never one too few. Every put has a new token, so that the archiver deletes only the
request that it has answered, not one that came meanwhile.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime

import msgspec

from tesseract.errors import ConditionFailed
from tesseract.model import Item
from tesseract.storage.base import Is, Key, Table
from tesseract.storage.keys import split_worklist_name, worklist_key, worklist_pks
from tesseract.utils.time_utils import from_iso, iso_micros


class Entry(msgspec.Struct, frozen=True):
    """One request: the key of the item in the live table, and when it was put."""

    key: Key
    token: str
    put_at: datetime


def entry(key: Key, now: datetime) -> Item:
    """The item that asks for the repair of the live item `key`."""
    pk, sk = worklist_key(*key)
    return {"pk": pk, "sk": sk, "token": uuid.uuid4().hex, "put_at": iso_micros(now)}


def entries(live: Table) -> Iterator[Entry]:
    """All requests, in no order that matters."""
    for pk in worklist_pks():
        for item in live.query(pk):
            yield Entry(split_worklist_name(item["sk"]), item["token"], from_iso(item["put_at"]))


def remove(live: Table, done: Entry) -> None:
    """Delete a request that was answered, unless it was made again meanwhile."""
    with suppress(ConditionFailed):
        # the item is marked anew while it is repaired: the mark's entry has another token, and stays
        live.delete(worklist_key(*done.key), Is("token", done.token))
