"""What producers may send, and worse: whole requests by hypothesis, each with what an independent reader makes of it."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
CONFIG = """
datasets:
  plain: &plain
    group_by: [site, machine.id]
    time_field: at
    ref_time_field: seen
    fields: &fields
      f: { type: float, missing: [NA, -9999.9], min: -1000000, max: 1000000 }
      i: { type: int, missing: [-1] }
      w: { type: int, min: 0, max: 99999999999999999999999999999999999999 }
      d: { type: decimal, scale: 4 }
      s: { type: string, max_length: 40, missing: ["-"] }
      e: { type: string, enum: [red, green, "#/%", ""] }
      b: bool
      t: timestamp
      n: { type: float, path: deep.er.value }
  dropping: { <<: *plain, unknown_fields: drop }
  nulls: { <<: *plain, on_invalid: "null", time_zone: UTC }
  newest: { <<: *plain, revisions: latest_ref }
  lists: { <<: *plain, records_path: readings }
  free: { group_by: [site, machine.id], time_field: at, ref_time_field: seen, unknown_fields: keep }
"""
DATASETS = ("plain", "dropping", "nulls", "newest", "lists", "free")
TYPES = {
    "f": "float",
    "i": "int",
    "w": "int",
    "d": "decimal",
    "s": "string",
    "e": "string",
    "b": "bool",
    "t": "timestamp",
    "n": "float",
}
NULLS: dict[str, tuple[Any, ...]] = {"f": ("NA", Decimal("-9999.9")), "i": (-1,), "s": ("-",)}


@dataclass
class Request:
    """An event, and what is in it. `records` is None where the body is spoiled: then only the form of the answer is known."""

    dataset: str
    event: dict[str, Any]
    records: list[dict[str, Any]] | None
    times: dict[str, datetime] = field(default_factory=dict)  # text → the instant that it says


# values -----------------------------------------------------------------------------------------------------------------

TEXT = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["", "#", "a/b", "../..", "100%", "☂ 𝄞", "\x00", "JFK", "a b", "%2F", "x" * 300, "é" * 200, "\ud800"]),
)
MOMENTS = st.one_of(
    st.datetimes(datetime(2025, 12, 1), datetime(2026, 1, 5, 11)), st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30))
)
NUMBERS = st.one_of(
    st.integers(-100, 100),
    st.integers(-(10**40), 10**40),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(-1000, 1000).map(lambda value: round(value, 3)),
    st.sampled_from([0.0, -0.0, 1e-130, 9.9e125, 1e126, 5e-324, 1e308, 2**63, 2**63 - 1, -(2**63), 0.1, 1e16, 123456789.125]),
)
JUNK = st.one_of(
    st.none(), st.booleans(), NUMBERS, TEXT, st.lists(st.integers(), max_size=3), st.dictionaries(TEXT, st.integers(), max_size=3)
)


@st.composite
def times(draw: st.DrawFn, known: dict[str, datetime]) -> str:
    """A time as somebody may write it; what it means is noted."""
    moment = draw(MOMENTS).replace(tzinfo=UTC, microsecond=draw(st.sampled_from([0, 0, 500_000, 123_456])))
    shift = timedelta(minutes=draw(st.sampled_from([0, 0, 0, 60, -570, 840])))
    local = moment.astimezone(timezone(shift))
    text = draw(
        st.sampled_from(
            [
                moment.replace(tzinfo=None).isoformat() + "Z",
                local.isoformat(),
                local.isoformat().replace("T", " "),
                moment.replace(tzinfo=None).isoformat().lower() + "z",
                local.isoformat(timespec="microseconds"),
            ]
        )
    )
    known[text] = moment
    return text


def values(kind: str, known: dict[str, datetime]) -> st.SearchStrategy[Any]:
    """Values of a field, right and wrong."""
    right: dict[str, st.SearchStrategy[Any]] = {
        "float": NUMBERS,
        "int": st.integers(-(10**20), 10**38),
        "decimal": st.decimals(-(10**6), 10**6, places=3).map(str),
        "string": st.one_of(TEXT, st.sampled_from(["red", "green", "-", "NA"])),
        "bool": st.booleans(),
        "timestamp": times(known),
    }
    return st.one_of(right[kind], right[kind], right[kind], JUNK)


@st.composite
def record(draw: st.DrawFn, known: dict[str, datetime]) -> dict[str, Any]:
    """A record of the datasets above, mostly valid."""
    made: dict[str, Any] = {
        "site": draw(st.one_of(st.sampled_from(["a", "b"]), TEXT)),
        "machine": {"id": draw(st.one_of(st.integers(0, 3), TEXT))},
        "at": draw(times(known)),
    }
    if draw(st.booleans()):
        made["seen"] = draw(times(known))
    for name in draw(st.sets(st.sampled_from(list(TYPES)))):
        value = draw(values(TYPES[name], known))
        if name == "n":
            made["deep"] = {"er": {"value": value}}
        else:
            made[name] = value
    if draw(st.integers(0, 9)) == 0:
        made[draw(TEXT)] = draw(JUNK)
    if draw(st.integers(0, 19)) == 0:
        made.pop(draw(st.sampled_from(list(made))))
    return made


# bodies -----------------------------------------------------------------------------------------------------------------


def text_of(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=True)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """An event of one of the roads that are answered."""
    known: dict[str, datetime] = {}
    dataset = draw(st.sampled_from(DATASETS))
    records = draw(st.lists(record(known), min_size=1, max_size=5))
    if draw(st.integers(0, 3)) == 0 and dataset != "lists":
        return Request(dataset, {"dataset": dataset, "records": records}, records, known)
    sent: list[dict[str, Any]] = records
    if dataset == "lists":
        sent = [{"readings": records}] if draw(st.booleans()) else [{"readings": [one]} for one in records]
    lines = [text_of(one) for one in sent]
    form = draw(st.sampled_from(["ndjson", "array", "envelope", "crlf"]))
    body = {
        "ndjson": "\n".join(lines),
        "crlf": "\r\n\r\n".join(lines) + "\r\n",
        "array": f"[{','.join(lines)}]",
        "envelope": f'{{"records": [{",".join(lines)}]}}',
    }[form].encode()
    spoiled, body = draw(spoiling(body))
    event = draw(envelopes(dataset, body))
    return Request(dataset, event, None if spoiled else records, known)


@st.composite
def spoiling(draw: st.DrawFn, body: bytes) -> tuple[bool, bytes]:
    """The body, now and then with bytes changed, cut, or in place of it something else."""
    kind = draw(st.integers(0, 11))
    if kind == 0:
        at = draw(st.integers(0, max(len(body) - 1, 0)))
        return True, body[:at] + draw(st.binary(min_size=1, max_size=3)) + body[at + 1 :]
    if kind == 1:
        return True, body[: draw(st.integers(0, len(body)))]
    if kind == 2:
        bombs = [b"[" * 5000, b'{"a":' * 5000, b'{"at":' + b"9" * 50_000 + b"}", b"", b"[]", b"\xff\xfe", b'"x"', b"null", b"{}"]
        twice = b'{"site":"a","site":"b","machine":{"id":1},"at":"2026-01-05T00:00:00Z","f":1,"f":2}'
        many = b"{" + b",".join(b'"k%d":1' % n for n in range(3000)) + b"}"
        return True, draw(st.sampled_from([*bombs, twice, many, b'{"f":1e999999999999}', b"\n" * 1000]))
    return False, body


@st.composite
def envelopes(draw: st.DrawFn, dataset: str, body: bytes) -> dict[str, Any]:
    """The event of a gateway around a body."""
    headers = {
        "content-type": draw(
            st.sampled_from(["application/json", "application/x-ndjson", "text/plain", "application/octet-stream"])
        )
    }
    if draw(st.booleans()):
        body, headers["content-encoding"] = gzip.compress(body, 1, mtime=0), "gzip"
        encoded = True
    else:
        encoded = draw(st.booleans())
    text = base64.b64encode(body).decode() if encoded else body.decode("utf-8", "replace")
    path = f"/datasets/{dataset}/records"
    common = {"headers": headers, "body": text, "isBase64Encoded": encoded}
    return draw(
        st.sampled_from(
            [
                {"version": "2.0", "rawPath": path, "requestContext": {"http": {"method": "POST", "path": path}}, **common},
                {"httpMethod": "POST", "path": path, "pathParameters": {"dataset": dataset}, "requestContext": {}, **common},
            ]
        )
    )
