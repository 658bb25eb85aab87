"""Fixtures shared by the test rings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Real PET data (never committed): DRMC_TEST_DATA, or shared/data beside the checkout; skips where absent."""
    folder = Path(os.environ.get("DRMC_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "README.md").is_file():
        pytest.skip("no test data: set DRMC_TEST_DATA to its folder")
    return folder
