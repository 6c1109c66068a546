"""The policy of those who only read: it covers whatever the commands that read call, and allows nothing beside."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from fnmatch import fnmatchcase

import pytest

from tesseract import cli
from tesseract.storage import catalog
from tesseract.store import Store

from .query_world import NOW, START, World, values
from .test_template import TABLES

HOUR = timedelta(hours=1)
TABLE = {"raw": "RawTable", "live": "LiveTable", "catalog": "CatalogTable"}
ACTIONS = {"get": "GetItem", "get_many": "BatchGetItem", "query": "Query", "pages": "Query"}
POLICY = TABLES["ReadPolicy"]["Properties"]


def pairs(statement):
    """The (action, resource) that a statement is about."""

    def listed(value):
        return value if isinstance(value, list) else [value]

    for action in listed(statement["Action"]):
        for resource in listed(statement["Resource"]):
            yield action, resource.get("GetAtt") or resource["Sub"]


ALLOWED = [pair for statement in POLICY["PolicyDocument"]["Statement"] for pair in pairs(statement)]


class Recorded:
    """A table or a bucket that writes down which rights its calls need."""

    def __init__(self, inner, needs, seen):
        self._inner, self._needs, self._seen = inner, needs, seen

    def __getattr__(self, name):
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        def call(*arguments, **options):
            self._seen.add(self._needs(name, arguments))
            return found(*arguments, **options)

        return call


def recorded(backend, seen):
    def of_table(table):
        return lambda name, _: (f"dynamodb:{ACTIONS.get(name, name)}", f"{table}.Arn")

    def of_objects(name, arguments):
        action = {"get": "GetObject", "open": "GetObject", "list": "ListBucket"}.get(name, name)
        return f"s3:{action}", "S3BucketArchive.Arn" if name == "list" else f"${{S3BucketArchive.Arn}}/{arguments[0]}"

    tables = {name: Recorded(getattr(backend, name), of_table(table), seen) for name, table in TABLE.items()}
    return dataclasses.replace(backend, **tables, objects=Recorded(backend.objects, of_objects, seen))


@pytest.fixture
def seen(monkeypatch):
    """What the commands below need, over a stage with rows in the archive and in the buffer, levels, and a large manifest."""
    world = World()
    monkeypatch.setattr(catalog, "SPILL_BYTES", 600)
    for month in range(3):
        world.archive([(START + step * HOUR, values(step), False, START) for step in range(month * 24, month * 24 + 24)])
    world.buffer(NOW - HOUR, values(7))
    world.buffer(NOW - HOUR, values(7), group="B", marked=NOW)
    world.snapshot("daily", [(START, [(START + step * HOUR, values(step)) for step in range(24)], 1)])
    world.live("hourly", NOW.replace(minute=0), [(NOW, values(7))])
    world.progress(START + timedelta(days=10))
    calls = set()
    store = Store(recorded(world.backend, calls), "test", lambda: NOW)
    monkeypatch.setattr("tesseract.store.connect", lambda stage=None, bucket=None: store)
    return calls


COMMANDS = [
    ("query", "w"),
    ("query", "w", "A", "--start", "-3h", "--level", "hourly"),
    ("query", "w", "A", "B", "--start", "2026-03-01", "--level", "daily"),
    ("query", "w", "A", "--as-of", "2026-03-19"),
    ("query", "w", "new", "--start", "-1h"),
    ("latest", "w"),
    ("latest", "w", "A"),
    ("sql", "select count(*) from w where station <> 'A'"),
    ("sql", "show tables"),
    ("config", "show"),
    ("config", "show", "w"),
]


def test_the_policy_covers_what_the_commands_that_read_call_and_nothing_beside(seen, capsys):
    for command in COMMANDS:
        code = cli.run(command)
        said = capsys.readouterr().err
        assert code == 0 or "has no group 'new'" in said, (command, said)
    used = {
        next(
            (pair for pair in ALLOWED if pair[0] == action and fnmatchcase(resource, pair[1])),
            f"{action} on {resource} is not allowed",
        )
        for action, resource in seen
    }
    # seen by `watch` and by `latest` of several groups; and by S3 itself, which answers 403 for a missing object without it
    used |= {("dynamodb:BatchGetItem", "LiveTable.Arn"), ("s3:ListBucket", "S3BucketArchive.Arn")}
    assert used == set(ALLOWED)


def test_the_policy_only_reads_one_stage():
    assert POLICY["ManagedPolicyName"] == "tesseract-${sls:stage}-read"
    reads = {"dynamodb:Query", "dynamodb:GetItem", "dynamodb:BatchGetItem", "s3:GetObject", "s3:ListBucket"}
    assert {action for action, _ in ALLOWED} <= reads
    for statement in POLICY["PolicyDocument"]["Statement"]:
        assert statement["Effect"] == "Allow"
    assert all(
        not resource.startswith("*") and "quarantine" not in resource and "exports" not in resource for _, resource in ALLOWED
    )
