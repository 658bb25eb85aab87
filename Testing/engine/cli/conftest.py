"""All commands find one tiny model, the default."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def models(default_model: Path) -> Path:
    """Its folder."""
    return default_model
