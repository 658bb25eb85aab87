"""Two small hospitals."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.engine.federations import make_hospitals


@pytest.fixture(scope="session")
def hospitals(tmp_path_factory) -> Path:
    return make_hospitals(tmp_path_factory.mktemp("hospitals"))
