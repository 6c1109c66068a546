"""Lambda's event filters: the patterns that a stream record must match to be delivered."""

from __future__ import annotations

from typing import Any

# serverless.yml's, which a test compares: no removes, no revisions kept (their sort keys begin with a letter)
OURS = [{"eventName": ["INSERT", "MODIFY"], "dynamodb": {"Keys": {"sk": {"S": [{"prefix": digit} for digit in "0123456789"]}}}}]


def matches(pattern: dict[str, Any], record: Any) -> bool:
    """Whether all names of a pattern are in the record and each has one of the values, or prefixes, that the pattern lists."""
    if not isinstance(record, dict):
        return False
    for name, rules in pattern.items():
        if name not in record:
            return False
        value = record[name]
        if not (matches(rules, value) if isinstance(rules, dict) else any(_fits(rule, value) for rule in rules)):
            return False
    return True


def _fits(rule: Any, value: Any) -> bool:
    if not isinstance(rule, dict):
        return bool(rule == value)
    (operator,) = rule
    if operator != "prefix":
        raise ValueError(f"the driver knows no filter {operator!r}: equal values and prefixes are all that it needs")
    return isinstance(value, str) and value.startswith(rule["prefix"])
