"""Fixtures that tests of several packages of the engine use."""

from __future__ import annotations

from pathlib import Path

import pytest
from drmc.models.weights import save_model
from support.engine.denoising_cases import tiny_network, write_case


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the model `tiny`, the only one that is found by name."""
    folder = tmp_path / "models"
    folder.mkdir()
    save_model(folder / "tiny.pt", tiny_network(), 16, {"title": "tiny", "default": True})
    save_model(folder / "zero.pt", tiny_network(zero_tail=True), 16)
    monkeypatch.setenv("DRMC_MODELS", str(folder))
    return folder


@pytest.fixture
def default_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one model that is the default."""
    folder = tmp_path / "models"
    folder.mkdir()
    card = {"title": "a tiny network", "default": True, "training": {"data": "none", "steps": 0}}
    save_model(folder / "tiny.pt", tiny_network(), 16, card)
    monkeypatch.setenv("DRMC_MODELS", str(folder))
    monkeypatch.delenv("DRMC_DEBUG", raising=False)
    return folder


@pytest.fixture
def case(tmp_path: Path) -> dict[str, Path]:
    """One case in SUV."""
    return write_case(tmp_path / "case")
