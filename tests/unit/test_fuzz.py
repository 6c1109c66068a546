"""A few thousand bodies of the fuzz; `make fuzz BODIES=100000` runs as many as wanted."""

from __future__ import annotations

import pytest

from tests.support.fuzz import piece


@pytest.mark.parametrize("number", [1_000_000, 1_000_001])
def test_whatever_is_sent_is_answered_and_what_is_accepted_reads_back(number):
    seen = piece(number)
    assert seen["bodies"] >= 1000
    assert seen["accepted"] > 100
    assert seen["rejected"] > 100
