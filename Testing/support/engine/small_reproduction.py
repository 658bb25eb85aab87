"""A reproduction that runs in seconds: smooth images with white noise, networks of a few parameters."""

from __future__ import annotations

import json
from pathlib import Path

from support.engine.evaluation_data import write_dataset

KNOWN, UNKNOWN = ("C1", "C2"), ("C5", "C6")
DOSES = {"C1": (12,), "C2": (4,), "C5": (4,), "C6": (3, 12)}
NETWORK = {"channels": 8, "blocks": 1, "experts": 3, "heads": 2, "hidden": 4}
TRAINING = {"preset": "tiny", "network": NETWORK, "patch": 8, "tile": 16, "threads": 1, "checkpoint_every": 2}
TRAININGS = {
    "drmc": {},
    "wrong": {"learning_rat": 1.0},
    "orphan": {"initial_weights": "@wrong"},
    "diverges": {"optimizer": "sgd", "learning_rate": 1e38, "gradient_clip": 0.0, "identity_start": False},
    "general": {"strategy": "mixed", "share": 0.5},
    "ftl": {"strategy": "specialist", "initial_weights": "@general", "share": 0.5, "network": {}},
    "specialists": {"network": {**NETWORK, "experts": 1}, "strategy": "specialist"},
    "baseline": {"network": {**NETWORK, "gate": "none", "experts": 1, "blocks": 2}},
}
ROWS = [
    {"row": "3D-cGAN", "trainings": "wrong", "tables": [2, 3]},
    {"row": "FL-MRCM", "trainings": "diverges", "tables": [2, 3]},
    {"row": "FTL", "trainings": "ftl", "tables": [2, 3, 7]},
    {"row": "DRMC", "trainings": "drmc", "tables": [2, 3, 4, 6, 7]},
    {"row": "two seeds", "trainings": ["drmc", "general"], "tables": [4]},
    {"row": "Specialized baseline, trained on C1", "trainings": "specialists", "center": "C1", "tables": [5]},
    {"row": "Generalist baseline, trained on C1-C4", "trainings": "baseline", "tables": [5]},
    {"row": "Generalist DRMC, trained on C1-C4", "trainings": "drmc", "tables": [5]},
]


def write_patients(folder: Path) -> Path:
    """One dataset for training, validation and test."""
    return write_dataset(folder, doses=DOSES, splits=("train", "validation", "test"), patients=2)


def write_config(path: Path, dataset: Path, **changes) -> Path:
    """A configuration beside its output folder `out`."""
    values = {
        **{"output": "out", "dataset": str(dataset), "test_dataset": str(dataset)},
        **{"known_centers": KNOWN, "unknown_centers": UNKNOWN, "doses": [3, 12], "patches": 48},
        **{"training": TRAINING, "trainings": TRAININGS, "rows": ROWS, "threads": 1, "evaluate": "last"},
        "figure_1b": {"training": "baseline", "batches": 2, "blocks": [1], "shares": [0.5, 1]},
        **{"figure_3b": "drmc", "figure_3c": {"3": "drmc"}, "figure_3d": {"1": "drmc", "2": "baseline"}},
        **changes,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))
    return path
