"""The store: what `tesseract.connect` returns. Importing this module is cheap; pyarrow and DuckDB load when a call needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from tesseract.errors import NotFoundError
from tesseract.reader import Reader
from tesseract.stage import stage_of, use_stage

if TYPE_CHECKING:
    from tesseract.ingestion.producer import Producer
    from tesseract.ingestion.validators import Rejection
    from tesseract.query.asking import Time
    from tesseract.query.catalog import Group

    Groups = Group | list[Any] | None


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


class Store(Reader):
    """A stage's datasets, to read as a `Reader` does, and to write. Safe to share between threads."""

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
