"""The store: what `tesseract.connect` returns. Importing this module is cheap; pyarrow and DuckDB load when a call needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from tesseract.errors import InputError, NotFoundError
from tesseract.stage import stage_of, use_stage
from tesseract.utils.time_utils import iso_seconds, utc_now

if TYPE_CHECKING:
    from typing import Unpack

    import pyarrow as pa

    from tesseract.config.dataset import Dataset
    from tesseract.ingestion.producer import Producer
    from tesseract.ingestion.validators import Rejection
    from tesseract.query.asking import Options, Time
    from tesseract.query.catalog import Group, Lookup
    from tesseract.query.engine import Engine
    from tesseract.query.estimates import Plan
    from tesseract.query.latest import Latest
    from tesseract.query.question import Question
    from tesseract.query.results import Result
    from tesseract.storage.base import Backend
    from tesseract.storage.catalog import Catalog

    Groups = Group | list[Any] | None
T = TypeVar("T")


def connect(stage: str | None = None, bucket: str | None = None) -> Store:
    """The store of a stage: the one named, else the one that `bucket` belongs to, else TESSERACT_STAGE, else `local`.

    `bucket` is the archive's; its name, `tesseract-{stage}-{account}-archive`, is enough to find the stage, and with it no call is
    needed to find the account. Honours the standard AWS variables. For stage `local` without AWS_ENDPOINT_URL it finds the laptop
    cloud that runs, and points this process at it. Raises InputError where stage and bucket do not belong together or the
    bucket's name tells no stage, NotFoundError where no laptop cloud runs.
    """
    from tesseract.storage.aws import backend

    stage = use_stage(stage_of(bucket, stage) if bucket else stage)
    return Store(backend(stage, bucket), stage)


class Store:
    """A stage's datasets. Safe to share between threads.

    A group is its value (`"KJFK"`), for several group_by fields `"NETWORK/STATION"` or the tuple of the values; a list is several
    groups. A time is an aware datetime or text: `2013-07-01T12:00:00Z`, `2013-07-01`, `now`, `-3h`.
    """

    def __init__(self, backend: Backend, stage: str = "memory", clock: Callable[[], datetime] = utc_now) -> None:
        from tesseract.config.cache import Configs
        from tesseract.query.catalog import Lookup
        from tesseract.storage.catalog import Catalog

        self.stage = stage
        self.backend = backend
        self.catalog: Catalog = Catalog(backend.catalog, backend.objects)
        self._configs = Configs(self.catalog, clock)
        self._lookup: Lookup = Lookup(backend, self.catalog)
        self._clock = clock

    @cached_property
    def _engine(self) -> Engine:
        from tesseract.query.engine import Engine

        return Engine(self.backend)

    @cached_property
    def _latest(self) -> Latest:
        from tesseract.query.latest import Latest

        return Latest(self.backend.live, self.catalog, self._lookup, lambda: self._engine)

    def query(
        self,
        dataset: str,
        group: Groups = None,
        start: Time = None,
        end: Time = None,
        **options: Unpack[Options],
    ) -> pa.Table:
        """The rows of [start, end) as an Arrow table, sorted by group, then time; the same columns from every tier.

        `group` None is every group that archive or stream know; `"K*"`, `"NY/*"` are those that match; `start`, `end` None is an
        open end. Raw columns: the group_by fields, `valid_time`, `ref_time`, the fields. Of a level: the group_by fields,
        `period_start`, `rows`, `<field>_<stat>`, for the periods whose start lies in the range and that have a record. A raw query
        sees every acknowledged write; a level may lag behind by the stream's seconds. Raises InputError with what would be right,
        NotFoundError for a dataset or a group that does not exist, RetryError where it takes longer than `timeout`.

        level     raw, or a level, also one that the dataset does not keep: it is computed from what is kept
        fields    only these, of a level also single statistics: `["temp"]`, `["temp_avg"]`
        where     only rows that pass: `"temp > 20 and note is not null"`
        as_of     the archive as it was at that moment, alone: DynamoDB keeps no past of the buffer and of live items, so rows that
                  had not been archived by then are missing. States are kept as long as the dataset's `history` says
        known_at  what was known at that ref time; the dataset must keep `revisions: all`
        tz        periods of a level by the clock of this zone, such as `"America/New_York"`
        limit     the first rows alone
        order     `"desc"`: the newest rows of each group first
        timeout   seconds
        """
        return self.read(dataset, group, start, end, **options).table

    def read(self, dataset: str, group: Groups = None, start: Time = None, end: Time = None, **options: Unpack[Options]) -> Result:
        """`query`, with how the answer came about: `.table`, `.stats` (rows by source, requests, bytes), `.plan`."""
        question = self._question(dataset, group, start, end, options)
        return self._engine.read(question, self._clock())

    def scan(
        self, dataset: str, group: Groups = None, start: Time = None, end: Time = None, **options: Unpack[Options]
    ) -> pa.RecordBatchReader:
        """`query` as a stream of record batches, for answers larger than memory: Polars, DuckDB and pandas take it as it is.

        It is read while it is used, part by part, and may be left early. `timeout` is for each part.
        """
        question = self._question(dataset, group, start, end, options)
        return self._engine.scan(question, self._clock())

    def plan(self, dataset: str, group: Groups = None, start: Time = None, end: Time = None, **options: Unpack[Options]) -> Plan:
        """What `query` would read, and how many requests and bytes that is, about: `.slices`, `.requests`, `.bytes`."""
        question = self._question(dataset, group, start, end, options)
        return self._engine.plan(question, self._clock())

    def _question(self, dataset: str, group: Groups, start: Time, end: Time, options: Options) -> Question:
        from tesseract.query.asking import question

        config = self.dataset(dataset)
        return question(config, self._group_keys(config, group), self.span(start, end), options, self._clock())

    def latest(self, dataset: str, group: Groups = None) -> list[dict[str, Any]]:
        """The newest reading of a group, of several, or of every group: group_by fields, `valid_time`, `ref_time`, the fields.

        Raises NotFoundError where a group named has none.
        """
        config = self.dataset(dataset)
        groups = self._group_keys(config, group)
        return self._latest.all(config, self._clock()) if groups is None else self._latest.some(config, groups, self._clock())

    def put(self, dataset: str, data: Any) -> dict[str, Any]:
        """Send records to the stage's ingestion: `{"accepted": n, "rejected": [{index, field, value, reason, hint}, …]}`.

        `data` is a dict, an iterable of dicts, or a table: pyarrow, pandas, Polars, or anything else that hands out Arrow data. It
        is sent in order and in bounded memory; `index` counts records or rows from 0. A record that is sent twice is stored once;
        one with the group and the time of another replaces it. `warnings` is there where the stage has any. Raises Undelivered
        where it ends in between.
        """
        from tesseract.ingestion.client import transport_of
        from tesseract.ingestion.put import put

        return put(transport_of("direct", self.stage), self.dataset(dataset), data)

    def producer(
        self,
        dataset: str,
        *,
        via: str = "direct",
        flush_seconds: float = 1.0,
        queue: int = 10_000,
        close_seconds: float = 60.0,
        on_reject: Callable[[dict[str, Any], Rejection], None] | None = None,
    ) -> Producer:
        """A sender for programs that emit readings one by one: `with store.producer("weather") as p: p.send({…})`.

        Records are sent in the background, at the latest `flush_seconds` after they came, in their order. At most `queue` of them
        wait; then `send` blocks. `on_reject(record, rejection)` is called for what the stage refuses. Leaving the block sends what
        is left, for at most `close_seconds`, and raises Undelivered with the records that did not arrive. `via`: direct, http, or
        kinesis, where nobody answers and accepted means that the stream has it.
        """
        from tesseract.ingestion.client import transport_of
        from tesseract.ingestion.producer import Producer

        return Producer(
            self.dataset(dataset),
            transport_of(via, self.stage),
            flush_seconds=flush_seconds,
            queue=queue,
            close_seconds=close_seconds,
            on_reject=on_reject,
        )

    def delete(
        self,
        dataset: str,
        group: Group,
        start: Time,
        end: Time,
        say: Callable[[str], None] = lambda _: None,
        *,
        erase: bool = False,
    ) -> dict[str, int]:
        """Delete the rows of [start, end) of a group; None is an open end. Returns `{"deleted": n, "arrived": m}`.

        Every row acknowledged before the call is deleted. Queries miss it at once; levels and latest values, once the stream has
        come so far. A record written again is visible, under ref-time order if its ref time is not older. `arrived` counts rows
        that came as fast as they were deleted, and are there. Raises NotFoundError for a dataset or group that does not exist,
        RetryError where it ends in between: call it again. Raises InputError for rows that are past retention.raw, unless it is to
        `erase` them, which their aggregates must then follow.
        """
        from tesseract.ingestion.deletes import Invoke, run
        from tesseract.query.catalog import group_key, group_name, nearest

        config = self.dataset(dataset)
        key = group_key(config, group)
        result = run(Invoke(self.stage, erase), config.name, key, self.keys(dataset, group, start, end), say)
        if not result["deleted"] and not self._lookup.is_known(config, key):
            name = group_name(key)
            raise NotFoundError(f"dataset {dataset} has no group {name!r}", hint=nearest(name, self.groups(dataset)))
        return result

    def keys(self, dataset: str, group: Group, start: Time, end: Time) -> Callable[[], Iterator[list[tuple[int, int | None]]]]:
        """A look at the rows that `delete` would delete, to be taken at will: lists of (valid time, ref time), µs since 1970."""
        from tesseract.query.catalog import group_key
        from tesseract.query.portions import Stage, keys

        config, span = self.dataset(dataset), self.span(start, end)
        stage, key = Stage(self.backend, self.catalog, self._lookup), group_key(config, group)
        return lambda: keys(stage, config, key, *span, self._clock())

    def sql(self, text: str) -> pa.Table:
        """The answer to one SQL statement. Tables: each dataset by its name, each level as `<dataset>_<level>`, all groups and all
        times; of those that the statement names are read the columns, groups and times that it needs, in bounded memory. Each use
        of a table is a read of its own. Raises InputError where DuckDB does not understand it.
        """
        from tesseract.query import sql
        from tesseract.query.sql_scan import Tables

        scan = lambda question: self._engine.scan(question, self._clock())  # noqa: E731
        return sql.run(text, Tables(self.datasets, self.dataset, self._lookup.groups, scan))

    def datasets(self) -> list[str]:
        """The names of all datasets."""
        return self._ask(self.catalog.dataset_names)

    def groups(self, dataset: str) -> list[str]:
        """The groups of a dataset that archive or stream know, as `query` takes them."""
        from tesseract.query.catalog import group_name

        return [group_name(key) for key in self._lookup.groups(self.dataset(dataset))]

    def dataset(self, name: str, version: int | None = None) -> Dataset:
        """A dataset's configuration, the newest version by default. Raises NotFoundError with the datasets that there are."""
        newest = self._ask(lambda: self._configs.get(name))
        if version is None or version == newest.version:
            return newest
        found = self.catalog.dataset(name, version)
        if found is None:
            raise NotFoundError(f"dataset {name} has no version {version}", hint=f"versions 1 to {newest.version}")
        return found

    def _ask(self, call: Callable[[], T]) -> T:
        """A first call to the catalog: where its table does not exist, the stage does not."""
        try:
            return call()
        except NotFoundError as error:
            if not error.operation:  # ours, not AWS's
                raise
            raise NotFoundError(
                f"there is no stage {self.stage!r} here",
                hint="deploy it with `npx sls deploy`, or check stage, account and region",
            ) from error

    def _group_keys(self, dataset: Dataset, group: Group | list[Any] | None) -> list[str] | None:
        from tesseract.query.globs import expand

        if group is None:
            return None
        wanted = group if isinstance(group, list) else [group]
        return expand(dataset, wanted, lambda: self._lookup.groups(dataset))

    def span(self, start: Time, end: Time) -> tuple[datetime | None, datetime | None]:
        """[start, end) as moments, None an open end. Raises InputError where one is no time, or the end comes first."""
        from tesseract.query.asking import moment

        now = self._clock()
        first, last = moment(start, now, "start"), moment(end, now, "end")
        if first is not None and last is not None and last < first:
            raise InputError(f"end {iso_seconds(last)} is before start {iso_seconds(first)}")
        return first, last
