"""Ingestion, stream functions and archive over an emulator's services: moto's, or whatever AWS_ENDPOINT_URL names."""

from __future__ import annotations

import pytest

from tests.support import backends
from tests.support.real_stage import RealStage


@pytest.fixture(params=backends.backends("moto"))
def stage(request, credentials) -> RealStage:
    return RealStage(request.getfixturevalue("moto") if request.param == "moto" else backends.ENDPOINT)
