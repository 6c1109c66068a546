"""Groups by patterns: each part of a compound key on its own, names as they are, and one sentence where nothing matches."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tesseract.errors import InputError, NotFoundError
from tesseract.query.catalog import group_name, group_order
from tesseract.query.globs import expand, is_pattern
from tesseract.storage.keys import join_group
from tests.unit.query_world import DATASET

PAIR = replace(DATASET, group_by=("network", "station"))
AIRPORTS = ["JFK", "KJFK", "KLGA", "KORD", "LGA"]
STATIONS = [join_group(pair) for pair in (("NY", "A"), ("NY", "B"), ("NY/X", "A"), ("OR", "A*"), ("OR", "AB"))]


def names(dataset, wanted, known):
    return [group_name(key) for key in expand(dataset, wanted, lambda: known)]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("K*", ["KJFK", "KLGA", "KORD"]),
        ("*LGA", ["KLGA", "LGA"]),
        ("K?FK", ["KJFK"]),
        ("K[JL]*", ["KJFK", "KLGA"]),
        ("K[!JL]*", ["KORD"]),
        ("K[H-L]*", ["KJFK", "KLGA"]),
        ("*", AIRPORTS),
    ],
)
def test_wildcards_of_one_field(pattern, found):
    assert names(DATASET, [pattern], AIRPORTS) == found


def test_each_part_of_a_compound_key_has_its_own_pattern():
    assert expand(PAIR, ["NY/*"], lambda: STATIONS) == STATIONS[:2]
    assert expand(PAIR, ["*/A"], lambda: STATIONS) == [STATIONS[0], STATIONS[2]]
    assert expand(PAIR, ["?[YR]/*B"], lambda: STATIONS) == [STATIONS[1], STATIONS[4]]
    assert expand(PAIR, ["*/*"], lambda: STATIONS) == STATIONS
    with pytest.raises(InputError, match="has 2 parts, NETWORK/STATION; 'NY\\*' is not one"):
        expand(PAIR, ["NY*"], lambda: STATIONS)


def test_a_group_that_has_a_wildcard_in_its_name():
    assert expand(PAIR, ["OR/A*"], lambda: STATIONS) == [STATIONS[3]]  # the name of a group is that group
    assert expand(PAIR, ["OR/A[*]"], lambda: STATIONS) == [STATIONS[3]]
    assert expand(PAIR, [("OR", "A*")], lambda: pytest.fail("needs no list")) == [STATIONS[3]]
    assert expand(PAIR, [("NY", "*")], lambda: pytest.fail("needs no list")) == [join_group(("NY", "*"))]


def test_names_need_no_list_and_patterns_one():
    assert expand(DATASET, ["X", "Y", "X"], lambda: pytest.fail("needs no list")) == ["X", "Y"]
    calls = []
    assert expand(DATASET, ["LGA", "K*", "*A", "NEW"], lambda: calls.append(1) or AIRPORTS) == [
        "LGA",
        "KJFK",
        "KLGA",
        "KORD",
        "NEW",
    ]
    assert calls == [1]
    assert expand(DATASET, [7], list) == ["7"]


def test_no_match_is_one_sentence_with_the_nearest():
    with pytest.raises(NotFoundError) as caught:
        expand(DATASET, ["KJFC*"], lambda: AIRPORTS)
    assert str(caught.value) == "no group of dataset w matches 'KJFC*' (did you mean 'KJFK'?)"
    with pytest.raises(NotFoundError, match="matches '\\*' \\(none is known yet\\)"):
        expand(DATASET, ["*"], list)
    with pytest.raises(NotFoundError, match="known: NY/A, NY/B"):
        expand(PAIR, ["?/?"], lambda: STATIONS)


texts = st.text("aB*?[]!-/ü%\n", min_size=1, max_size=5)


@given(st.lists(texts, unique=True, max_size=6), texts)
def test_a_pattern_matches_what_fnmatch_says_and_names_name_themselves(groups, pattern):
    known = sorted((join_group([name]) for name in groups), key=group_order)
    if not is_pattern(pattern):
        assert not any(fnmatchcase(name, pattern) for name in groups if name != pattern)
    expected = [key for key in known if pattern in groups and group_name(key) == pattern] or [
        key for key in known if fnmatchcase(group_name(key), pattern)
    ]
    if is_pattern(pattern) and not expected:
        with pytest.raises(NotFoundError):
            expand(DATASET, [pattern], lambda: known)
    else:
        assert expand(DATASET, [pattern], lambda: known) == (expected or [join_group([pattern])])
    for name in groups:
        assert expand(DATASET, [name], lambda: known) == [join_group([name])]
        assert expand(DATASET, [(name,)], lambda: known) == [join_group([name])]
