"""The fuzz of ingestion: `make fuzz BODIES=100000`, in pieces that a journal remembers, so that it goes on where it was.

For every request: no exception, no 5xx, accepted and rejected add up to what an independent reader counts, and what was
accepted reads back equal to what that reader made of the same bytes.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hypothesis import HealthCheck, Phase, given, seed, settings

from tesseract.config.cache import Configs
from tesseract.config.manager import apply
from tesseract.config.schema import parse
from tesseract.ingestion.lambda_handler import Service
from tesseract.ingestion.writer import Writer
from tesseract.storage.catalog import Catalog
from tesseract.storage.memory import MemoryObjects, MemoryTable
from tesseract.utils.time_utils import iso_micros
from tests.support.fuzz_bodies import CONFIG, NOW, NULLS, TYPES, Request, requests

JOURNAL = Path(__file__).parents[2] / ".fuzz"
PIECE = 1000
FINE = {200, 207, 400, 404, 413, 415}
SETTINGS = {
    "deadline": None,
    "database": None,
    "suppress_health_check": list(HealthCheck),
    "phases": [Phase.generate, Phase.shrink],
}


class Stage:
    """Ingestion over memory, with a raw table that is empty before every request."""

    def __init__(self) -> None:
        self.raw = MemoryTable("raw")
        clock = lambda: NOW
        catalog = Catalog(MemoryTable("catalog"), MemoryObjects())
        for dataset in parse(CONFIG).values():
            apply(catalog, dataset, NOW - timedelta(days=9))
        writer = Writer(self.raw, MemoryTable("live"), clock)
        self.service = Service(Configs(catalog, clock), writer, MemoryObjects(), clock)
        self.seen: Counter[str] = Counter()

    def check(self, request: Request) -> None:
        """Send a request, and hold the answer against the independent reading of it."""
        self.raw._partitions.clear()
        self.raw._order.clear()
        answer = self.service.handle(request.event, 60)
        status = answer.get("statusCode", answer.get("status"))
        body = json.loads(answer["body"]) if "body" in answer else answer
        assert status in FINE, answer
        assert len(json.dumps(body)) < 6_000_000
        rejected = {entry["index"] for entry in body["rejected"]}
        assert len(rejected) == len(body["rejected"])
        assert all(entry["reason"] and len(entry["value"]) <= 100 and len(entry["field"]) <= 100 for entry in body["rejected"])
        self.seen[f"status {status}"] += 1
        self.seen["accepted"] += body["accepted"]
        self.seen["rejected"] += len(rejected)
        # in an envelope of a list, half a surrogate pair spoils the readings beside it: they are rejected together, as one
        split = request.dataset != "lists" or "\\ud800" not in json.dumps(request.records)
        if request.records is not None and split:
            self._compare(request, body, rejected)

    def _compare(self, request: Request, body: dict[str, Any], rejected: set[int]) -> None:
        records = request.records
        assert records is not None
        assert body["accepted"] + len(rejected) == len(records)
        assert rejected <= set(range(len(records)))
        nulled = {(entry["index"], entry["field"]) for entry in body.get("warnings", ())}
        expected: dict[tuple[str, str], tuple[str, int]] = {}
        for index, record in enumerate(records):
            if index in rejected:
                continue
            key = _key(request, record)
            ref = iso_micros(request.times[record["seen"]]) if record.get("seen") is not None else ""
            if request.dataset != "newest" or key not in expected or ref >= expected[key][0]:
                expected[key] = (ref, index)
        stored = {(item["pk"], item["sk"]): item for item in self.raw.items()}
        assert stored.keys() == expected.keys()
        for key, (ref, index) in expected.items():
            assert stored[key].get("ref_time", "") == ref
            _same(request, records[index], stored[key]["fields"], {name for place, name in nulled if place == index})


def _key(request: Request, record: dict[str, Any]) -> tuple[str, str]:
    group = "/".join(quote(str(part), safe="") for part in (record["site"], record["machine"]["id"]))
    at = iso_micros(request.times[record["at"]])
    return f"{request.dataset}#{group}#{at[:10]}", at


def _same(request: Request, record: dict[str, Any], fields: dict[str, Any], nulled: set[str]) -> None:
    """What is stored says what was sent, and nothing else."""
    sent = dict(_flat(record, ""))
    for name in ("site", "machine.id", "at", "seen"):
        sent.pop(name, None)
    free = request.dataset == "free"
    known = set(fields)
    for name, value in sent.items():
        field = name if free else "n" if name == "deep.er.value" else name
        if not free and field not in TYPES:
            assert request.dataset in ("dropping",), name
            continue
        if {field, name} & nulled or value is None or (not free and any(_equal(value, word) for word in NULLS.get(field, ()))):
            assert field not in fields
            continue
        known.discard(field)
        kind = "" if free else TYPES[field]
        assert _kept(request, kind, value, fields[field]), (name, value, fields[field])
    assert not known, known


def _flat(value: dict[str, Any], prefix: str) -> Any:
    for name, part in value.items():
        if isinstance(part, dict):
            yield from _flat(part, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", part


def _equal(value: Any, word: Any) -> bool:
    if isinstance(value, bool) or isinstance(value, str) != isinstance(word, str):
        return False
    return bool(value == word or (not isinstance(value, str) and float(value) == float(word)))


def _kept(request: Request, kind: str, sent: Any, stored: Any) -> bool:
    if isinstance(sent, bool) or isinstance(stored, bool):
        return sent is stored
    if kind == "timestamp":
        return bool(iso_micros(request.times[sent]) == stored)
    if kind == "decimal":
        return Decimal(str(sent)) == stored
    if isinstance(sent, str):
        return bool(sent == stored)
    if isinstance(sent, int) and (kind == "int" or (not kind and -(2**63) <= sent < 2**63)):
        return bool(sent == stored)
    return float(sent) == float(stored)


def piece(number: int, bodies: int = PIECE) -> Counter[str]:
    """One piece; its number is its seed. Raises what a request did, shrunk by hypothesis."""
    stage = Stage()

    @seed(number)
    @settings(max_examples=bodies, **SETTINGS)
    @given(requests())
    def run(request: Request) -> None:
        stage.seen["bodies"] += 1
        stage.check(request)

    run()
    return stage.seen


def main(bodies: int, first: int = 0) -> int:
    """Run pieces until `bodies` are done; those in the journal are done already."""
    JOURNAL.mkdir(exist_ok=True)
    journal = JOURNAL / "pieces.ndjson"
    done = {entry["piece"]: Counter(entry["seen"]) for entry in map(json.loads, journal.open())} if journal.exists() else {}
    wanted = range(first, first + -(-bodies // PIECE))
    left = [number for number in wanted if number not in done]
    started = time.monotonic()
    with ProcessPoolExecutor(2) as pool:
        futures = {pool.submit(piece, number): number for number in left}
        for count, future in enumerate(as_completed(futures), 1):
            number = futures[future]
            try:
                done[number] = future.result()
            except BaseException as error:
                pool.shutdown(cancel_futures=True)
                print(f"piece {number} failed; again: python -m tests.support.fuzz {PIECE} {number}\n{error!r}", flush=True)
                raise
            with journal.open("a") as file:
                file.write(json.dumps({"piece": number, "seen": done[number]}) + "\n")
            print(f"piece {number}: {count} of {len(left)}, {time.monotonic() - started:.0f} s", flush=True)
    total = sum((done[number] for number in wanted), Counter())
    print(", ".join(f"{name}: {number:,}" for name, number in sorted(total.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:3])))
