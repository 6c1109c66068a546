"""Reading a stage: queries, streams of batches, resampling, revisions, latest values, SQL. What a `Store` does but for writing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from tesseract.errors import InputError, NotFoundError
from tesseract.utils.time_utils import iso_seconds, utc_now

if TYPE_CHECKING:
    from typing import Unpack

    import pyarrow as pa

    from tesseract.config.dataset import Dataset
    from tesseract.query.asking import Options, Time
    from tesseract.query.catalog import Group, Lookup
    from tesseract.query.display import Datasets
    from tesseract.query.engine import Engine
    from tesseract.query.estimates import Plan
    from tesseract.query.latest import Latest
    from tesseract.query.question import Question
    from tesseract.query.resample import Fill, Spec
    from tesseract.query.results import Result
    from tesseract.storage.base import Backend
    from tesseract.storage.catalog import Catalog

    Groups = Group | list[Any] | None
T = TypeVar("T")


class Reader:
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

        return Engine(self.backend, self._clock)

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

    def plan(
        self,
        dataset: str,
        group: Groups = None,
        start: Time = None,
        end: Time = None,
        *,
        every: str | None = None,
        stats: Iterable[str] | None = None,
        **options: Unpack[Options],
    ) -> Plan:
        """What `query`, or with `every` `resample`, would read, and how much that is, about: `.slices`, `.requests`, `.bytes`."""
        from tesseract.query.resample import parse

        spec = None if every is None else parse(every, stats=stats, tz=options.get("tz"))
        question = self._question(dataset, group, start, end, options, spec)
        return self._engine.plan(question, self._clock())

    def revisions(
        self,
        dataset: str,
        group: Groups = None,
        start: Time = None,
        end: Time = None,
        *,
        fields: Iterable[str] | None = None,
        known_at: Time = None,
    ) -> pa.Table:
        """Every revision of the records of [start, end), by group, valid time and ref time; of those known at a ref time, if given.

        The columns of a raw result, and after `ref_time` `deleted` (it is a deletion) and `current` (no newer one is there). Raises
        InputError for a dataset that does not keep `revisions: all`.
        """
        question = self._question(dataset, group, start, end, {"fields": fields, "known_at": known_at})
        return self._engine.revisions(question, self._clock())

    def resample(
        self,
        dataset: str,
        group: Groups = None,
        start: Time = None,
        end: Time = None,
        *,
        every: str,
        stats: Iterable[str] | None = None,
        fill: Fill = "none",
        **options: Unpack[Options],
    ) -> pa.Table:
        """Aggregates of any interval that starts in the range: the group_by fields, `period_start`, `rows`, `<field>_<stat>`.

        every     `90s`, `15min`, `6h`, `1d`, `1w` (from Monday), `1mo`, `1y`; counted from 1970, months from the start of the year
        stats     of count, sum, avg, std, min, max, first, last; without it those of the coarsest kept level that is not coarser,
                  else all
        fill      none: intervals without a record have no row. Else they have one, marked in `filled`: null, previous, linear
                  (between the rows around), or a number. Counts stay 0, and `std` null. Gaps before the first row and after the
                  last one are filled where start and end are given
        tz        intervals by the clock of this zone; a day may then have 23 or 25 hours
        Further options are those of `query`: fields, where (on the rows before gaps are filled), as_of, timeout.

        They are merged from exact states of the coarsest level that is kept and that they are made of, else from raw rows.
        """
        from tesseract.query.asking import range_of
        from tesseract.query.fill import filled
        from tesseract.query.resample import parse

        spec = parse(every, stats=stats, fill=fill, tz=options.get("tz"))
        question = self._question(dataset, group, start, end, options, spec)
        table, wanted = self._engine.read(question, self._clock()).table, range_of((question.start, question.end))
        return filled(table, question.dataset.group_by, spec.buckets, wanted, fill)

    def _question(
        self, dataset: str, group: Groups, start: Time, end: Time, options: Options, spec: Spec | None = None
    ) -> Question:
        from tesseract.query.asking import question

        config = self.dataset(dataset)
        return question(config, self._group_keys(config, group), self.span(start, end), options, self._clock(), spec)

    def latest(self, dataset: str, group: Groups = None) -> list[dict[str, Any]]:
        """The newest reading of a group, of several, or of every group: group_by fields, `valid_time`, `ref_time`, the fields.

        Raises NotFoundError where a group named has none.
        """
        config = self.dataset(dataset)
        groups = self._group_keys(config, group)
        return self._latest.all(config, self._clock()) if groups is None else self._latest.some(config, groups, self._clock())

    def sql(self, text: str) -> pa.Table:
        """The answer to one SQL statement. Tables: each dataset by its name, each level as `<dataset>_<level>`, all groups and all
        times; of those that the statement names are read the columns, groups and times that it needs, in bounded memory. Each use
        of a table is a read of its own. Raises InputError where DuckDB does not understand it.
        """
        from tesseract.query import sql
        from tesseract.query.sql_scan import Tables

        scan = lambda question: self._engine.scan(question, self._clock())  # noqa: E731
        return sql.run(text, Tables(self.datasets, self.dataset, self._lookup.groups, scan))

    @property
    def datasets(self) -> Datasets:
        """The names of all datasets: a list that shows at a prompt what they hold. Called, it is a plain list."""
        from tesseract.query.display import Datasets

        return Datasets(lambda: self._ask(self.catalog.dataset_names), self.dataset)

    def groups(self, dataset: str) -> list[str]:
        """The groups of a dataset that archive or stream know, as `query` takes them."""
        from tesseract.query.catalog import group_name

        return [group_name(key) for key in self._lookup.groups(self.dataset(dataset))]

    def dataset(self, name: str, version: int | None = None) -> Dataset:
        """A dataset's configuration, the newest version by default. Raises NotFoundError with the datasets that there are."""
        if not isinstance(name, str):
            raise InputError(f"a dataset goes by its name, not {name!r}")
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
