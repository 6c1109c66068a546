"""What readers without our code are given: the segments of a level that hold each row once, as a list and as a DuckDB view. Pure.

Segments overlap until a compaction has merged them, and of two rows of one key only the newer counts. So the list is good up to
where the first overlap begins: `clean_through`. Its files may reach beyond it, and have tombstones and aggregate rows that hide
older ones: the view leaves both out, and so must a query over the list (`where not __deleted`, of a level `where rows > 0`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from tesseract.config.dataset import Dataset
from tesseract.model import Segment
from tesseract.processing.segments import PERIOD_START, RAW, REVISIONS, VALID_TIME
from tesseract.storage.keys import encode
from tesseract.utils.time_utils import from_micros, iso_micros


class Listing(NamedTuple):
    """The segments with rows before `clean_through` (µs; None: there is no overlap, all of them). They overlap nothing."""

    segments: tuple[Segment, ...]
    clean_through: int | None


def listing(partitions: Iterable[Sequence[Segment]]) -> Listing:
    """The clean segments of one level, whose partitions are given."""
    partitions = [sorted(segments, key=lambda segment: (segment.first, segment.last)) for segments in partitions]
    clean_through = min((first for segments in partitions for first in _overlaps(segments)), default=None)
    kept = [segment for segments in partitions for segment in segments if clean_through is None or segment.first < clean_through]
    return Listing(tuple(kept), clean_through)


def _overlaps(segments: Sequence[Segment]) -> Iterable[int]:
    """Where a run of overlapping segments begins, for each run; `segments` by their first row."""
    begin = reach = None
    for segment in segments:
        if begin is None or reach is None or segment.first > reach:
            begin, reach = segment.first, segment.last
        else:
            yield begin
            reach = max(reach, segment.last)


def list_object(dataset: str, level: str) -> str:
    """The list of a level's clean segments, in the folder that an Athena, Trino or Spark table over it has as its location."""
    return f"catalog/external/dataset={encode(dataset)}/level={encode(level)}/_symlink_format_manifest/manifest"


def view_object(dataset: str, level: str) -> str:
    """The DuckDB statement that makes a view of a level's clean segments."""
    return f"catalog/external/dataset={encode(dataset)}/level={encode(level)}/view.sql"


def documents(dataset: Dataset, level: str, shown: str, found: Listing, uri: Callable[[str], str]) -> dict[str, str]:
    """Both objects of a level, and their text. `level` is the partitions' name of it, `shown` the user's."""
    places = [uri(segment.key) for segment in found.segments]
    name = dataset.name if shown == RAW else f"{dataset.name}_{shown}"
    return {
        list_object(dataset.name, level): "".join(f"{place}\n" for place in places),
        view_object(dataset.name, level): _view(name, level, places, found.clean_through, _renamed(dataset, level, shown)),
    }


def _renamed(dataset: Dataset, level: str, shown: str) -> dict[str, str]:
    """Column → what the view calls it, of fields that were renamed: files name columns by the keys of fields."""
    kept = None if level in (RAW, REVISIONS) else dataset.level(shown)
    fields = [(key, field) for key, field in dataset.fields.items() if field.name]
    if level in (RAW, REVISIONS):
        return {key: field.name for key, field in fields}
    stats = [(key, field.name, stat) for key, field in fields if kept and field.numeric for stat in kept.wanted(key)]
    return {f"{key}_{stat}": f"{name}_{stat}" for key, name, stat in stats}


def _view(name: str, level: str, places: Sequence[str], clean_through: int | None, renamed: Mapping[str, str]) -> str:
    if not places:
        return f"drop view if exists {_quoted(name)};\n"  # DuckDB has no view of no file
    files = ",\n    ".join("'" + place.replace("'", "''") + "'" for place in places)
    time, keep = (VALID_TIME, "not __deleted") if level in (RAW, REVISIONS) else (PERIOD_START, "rows > 0")
    if clean_through is not None:
        keep += f" and {time} < timestamptz '{iso_micros(from_micros(clean_through))}'"
    rows = f"read_parquet([\n    {files}\n], union_by_name = true, hive_partitioning = false)"
    if renamed:  # a column that has such a name already is of undeclared values that were kept once: queries hide it, too
        pairs = [*renamed.items(), *((shown, f"__{shown}") for shown in renamed.values())]
        rows = f"(from {rows} select * rename ({', '.join(f'{_quoted(old)} as {_quoted(new)}' for old, new in pairs)}))"
    return f"create or replace view {_quoted(name)} as\nselect columns('^([^_]|_[^_]|_$)')\nfrom {rows}\nwhere {keep};\n"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
