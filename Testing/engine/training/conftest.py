"""A small dataset, its configuration and its pairs."""

from __future__ import annotations

from pathlib import Path

import pytest
from drmc.datasets.manifest import read_manifest, select
from drmc.training.config import TrainingConfig
from drmc.training.pairs import Pair
from support.engine.small_training import (
    CENTERS,
    load_pair,
    make_dataset,
    tiny_config,
)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture
def config(dataset, tmp_path) -> TrainingConfig:
    return tiny_config(dataset, tmp_path / "run")


@pytest.fixture(scope="session")
def pairs(dataset) -> dict[str, list[Pair]]:
    found = select(read_manifest(dataset), "train", CENTERS)
    return {center: [load_pair(case, 4.0) for case in cases] for center, cases in found.items()}
