"""Paths: what is written reads back as the same steps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesseract.config.paths import parse_path, written

STEPS = st.tuples(st.text(max_size=5)).flatmap(
    lambda first: st.lists(st.text(max_size=5) | st.integers(0, 999), max_size=3).map(lambda rest: (*first, *rest))
)


@given(STEPS)
def test_a_written_path_reads_back(steps):
    assert parse_path(written(steps)) == steps


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("wind.speed", ("wind", "speed")),
        ("$.wind.speed", ("wind", "speed")),
        ("$['a.b'].c[2]", ("a.b", "c", 2)),
        ('$["it\'s"]', ("it's",)),
    ],
)
def test_both_spellings(path, steps):
    assert parse_path(path) == steps


@pytest.mark.parametrize("path", ["", ".", "a..b", "$", "$[0]", "$.a[", "$.a['b", "$.a[-1]", "$.a[*]", "a."])
def test_what_is_no_path_says_so(path):
    with pytest.raises(ValueError, match=r"path|understood|names no value"):
        parse_path(path)
