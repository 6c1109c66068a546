"""Items of the buffer as columns: the vectorised roads give what the plain one gives, value for value and type for type."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesseract.model import Record
from tesseract.storage import buffer_columns
from tesseract.storage.buffer_columns import buffer_table, plain
from tesseract.storage.codec import item_from_wire, item_to_json
from tesseract.storage.columns import RawRow, raw_table
from tesseract.storage.items import history_item, raw_item
from tests.support.archive_world import START
from tests.unit.test_export_tables import DATASETS, GROUPS, as_declared, fields, ref_times, texts, valid_times

records = st.builds(
    lambda at, ref, values, gone: Record("", at, ref, {} if gone else values, gone),
    valid_times,
    ref_times,
    fields,
    st.sampled_from([False] * 8 + [True]),
)
whole = st.builds(
    lambda at, ref, values: Record("", at, ref, values, False),
    valid_times,
    st.just(None),
    st.fixed_dictionaries({name: as_declared[name] for name in ("f", "i", "d", "w")} | {"s": texts}),
)


def row(record: Record, item: msgspec.Raw) -> RawRow:
    values = item_from_wire(item)["fields"]  # 2.0 is stored as 2
    return RawRow(record.valid_time, record.ref_time, values, record.deleted, None, 1)


def written(record: Record, name: str, group: str, revision: bool, spaced: bool) -> msgspec.Raw:
    own = Record(group, record.valid_time, record.ref_time, record.fields, record.deleted)
    body = item_to_json((history_item if revision else raw_item)(DATASETS[name], own, START))
    return msgspec.Raw(json.dumps(json.loads(bytes(body)), ensure_ascii=False).encode()) if spaced else body


def equal(found: pa.Table, wanted: pa.Table) -> None:
    found.validate(full=True)
    assert found.schema.equals(wanted.schema)
    assert found.equals(wanted), (found.to_pylist(), wanted.to_pylist())


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(DATASETS)), st.lists(records, max_size=12) | st.lists(whole, max_size=12), st.booleans(), st.data())
def test_the_table_of_items_is_that_of_their_records(name, drawn, spaced, data):
    group = data.draw(st.sampled_from(GROUPS[name]))
    revisions = data.draw(st.lists(st.booleans(), min_size=len(drawn), max_size=len(drawn)) | st.just([False] * len(drawn)))
    items = [written(record, name, group, revision, spaced) for record, revision in zip(drawn, revisions, strict=True)]
    wanted = raw_table(DATASETS[name], group, [row(*pair) for pair in zip(drawn, items, strict=True)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(buffer_columns, "FEW", 0)
        equal(buffer_table(DATASETS[name], group, items), wanted)
    equal(buffer_table(DATASETS[name], group, items), wanted)
    equal(plain(DATASETS[name], group, items), wanted)


@pytest.mark.parametrize("spaced", [False, True])
@pytest.mark.parametrize("kind", ["whole", "nulls", "undeclared", "tombstones", "revisions"])
def test_what_is_as_sensors_write_it_goes_by_the_vectorised_road(spaced, kind, monkeypatch):
    drawn = [
        Record(
            "",
            START + timedelta(seconds=second),
            START if kind == "revisions" else None,
            {}
            if kind == "tombstones" and second % 7 == 0
            else {"f": Decimal(second) / 4, "i": second, "s": f"{second} ü"}
            | ({} if kind == "nulls" and second % 3 else {"d": Decimal("1.5")})
            | ({"new": second} if kind == "undeclared" and second % 5 == 0 else {}),
            kind == "tombstones" and second % 7 == 0,
        )
        for second in range(200)
    ]
    items = [written(record, "plain", "A", kind == "revisions", spaced) for record in drawn]
    wanted = plain(DATASETS["plain"], "A", items)
    monkeypatch.setattr(buffer_columns, "plain", None)
    equal(buffer_table(DATASETS["plain"], "A", items), wanted)
