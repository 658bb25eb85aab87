"""Fixtures shared by the test rings."""

from __future__ import annotations

import os
from pathlib import Path

# Before torch is imported, here and in every child: OpenMP's threads wait for each other by spinning, which costs a loaded
# machine several times the work of these small tensors, and one thread adds in one order.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import pytest  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Real PET data (never committed): DRMC_TEST_DATA, or shared/data beside the checkout; skips where absent."""
    folder = Path(os.environ.get("DRMC_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "README.md").is_file():
        pytest.skip("no test data: set DRMC_TEST_DATA to its folder")
    return folder
