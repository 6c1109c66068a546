"""What a question would read, found out from watermarks, manifests and marks, without a look at any row."""

from __future__ import annotations

from collections.abc import Iterator

from tesseract.query.catalog import of_manifest
from tesseract.query.estimates import Plan, estimated
from tesseract.query.level_bases import main_partition
from tesseract.query.plan import level_plan, raw_plan
from tesseract.query.question import Question, Reading

WATERMARK = 1  # requests, as the others
OUTAGE = 1
GROUPS = 5
PER_GROUP = 2  # manifest and marks


def planned(reading: Reading, question: Question) -> Plan:
    """The plan of a question, about: periods of a level that turn out to be missing are read from raw rows in addition."""
    others = WATERMARK + (question.level is not None) * OUTAGE + (question.groups is None) * GROUPS
    others += len(reading.groups) * PER_GROUP
    if reading.wanted.start >= reading.wanted.end:
        return Plan((), others)
    return estimated(_plans(reading, question), others)


def _plans(reading: Reading, question: Question) -> Iterator[object]:
    source, dataset, groups, wanted, raw, live = reading
    level = question.level
    partition = "raw" if level is None else main_partition(dataset, level, wanted, live, question.buckets)
    manifests = source.manifests(dataset, partition, groups)
    marks = {group: source.submit(source.lookup.marks, dataset, group, wanted) for group in groups}
    for group in groups:
        manifest, marked = manifests[group](), source.result(marks[group])
        if partition == "raw":
            yield raw_plan(group, [wanted], manifest, of_manifest(raw, manifest.segments)._replace(marks=marked))
        else:
            facts = of_manifest(live, manifest.segments)._replace(marks=marked)
            yield level_plan(group, [wanted], manifest, facts)
