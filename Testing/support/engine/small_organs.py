"""A small dataset of organs: blocks of uptake with the simulator's labels, and a training of a second."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from drmc.networks.organ_unet import OrganUNetConfig
from drmc.simulation.organs import organ_label
from drmc.training.config import TrainingConfig
from drmc.training.tasks.organ_settings import OrganSettings

TINY_UNET = OrganUNetConfig(widths=(6, 8), units=(1, 1))
BODY = (40, 24, 32)
SUV = {
    "muscle": 1.0,
    "lung": 0.4,
    "liver": 3.0,
    "spleen": 2.0,
    "brain": 9.0,
    "bladder": 20.0,
}


def body(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the simulator and uptake (z, y, x) of a body that is a little different each time."""
    labels = np.zeros(BODY, np.uint8)
    activity = np.zeros(BODY, np.float32)

    def paint(name: str, suv: float, box: tuple[tuple[int, int], ...], side: int = 0) -> None:
        shift = rng.integers(-1, 2, 3)
        cut = tuple(slice(a + int(s), b + int(s)) for (a, b), s in zip(box, shift, strict=True))
        labels[cut], activity[cut] = organ_label(name, side), suv

    labels[:, 3:21, 4:28], activity[:, 3:21, 4:28] = organ_label("muscle"), SUV["muscle"]
    paint("lung", SUV["lung"], ((20, 28), (6, 18), (7, 13)), -1)
    paint("lung", SUV["lung"], ((20, 28), (6, 18), (19, 25)), 1)
    paint("liver", SUV["liver"], ((12, 19), (6, 16), (6, 17)))
    paint("spleen", SUV["spleen"], ((12, 18), (10, 18), (20, 26)))
    paint("gray_matter", SUV["brain"], ((31, 38), (6, 16), (10, 22)))
    paint("bladder", SUV["bladder"], ((3, 8), (8, 14), (12, 20)))
    return labels, activity


def write(path: Path, array: np.ndarray, spacing: float = 4.0) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((spacing,) * 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


def make_organ_dataset(folder: Path, patients: int = 2, center: str = "A") -> Path:
    """Simulated patients of one center, with images of all conditions."""
    rng = np.random.default_rng(3)
    cases = []
    for split, count in (("train", patients), ("validation", 1)):
        for index in range(count):
            name = f"{center}-{split}-{index}"
            labels, full = body(rng)
            noise = rng.normal(0, 0.1, full.shape).astype(np.float32) * (full > 0)
            images = {
                "full": full,
                "low": full + 3 * noise,
                "full_nac": 0.1 * full,
                "low_nac": 0.1 * full + 0.3 * noise,
            }
            for key, image in images.items():
                write(folder / name / f"{key}.nii.gz", image.astype(np.float32))
            write(folder / name / "organs.nii.gz", labels)
            (folder / name / "pet.json").write_text(json.dumps({"Simulated": True, "Units": "SUV"}))
            at = lambda key, name=name: f"{name}/{key}.nii.gz"
            cases.append(
                {
                    "id": name,
                    "center": center,
                    "split": split,
                    "full": at("full"),
                    "low": {"12": at("low")},
                    "uncorrected": {"1": at("full_nac"), "12": at("low_nac")},
                    "organs": at("organs"),
                    "facts": f"{name}/pet.json",
                }
            )
    (folder / "dataset.json").write_text(json.dumps({"simulated": True, "cases": cases}))
    return folder


def tiny_organ_config(dataset: Path, output: Path, **changes) -> TrainingConfig:
    settings = {
        "name": "tiny",
        "centers": ("A",),
        "network": TINY_UNET,
        "patch": 16,
        "organs": OrganSettings(plane=(24, 32)),
        "patches_per_center": 2,
        "steps": 6,
        "learning_rate": 3e-3,
        "warmup_steps": 2,
        "checkpoint_every": 100,
        "validate_every": 100,
        "threads": 1,
    }
    return TrainingConfig(str(dataset), str(output), **{**settings, **changes})
