"""Tiny datasets and models for the tests of the evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from drmc.models.weights import save_model
from drmc.networks.drmc import DRMC, NetworkConfig
from drmc.networks.protocol import INPUT_SCALE
from drmc.simulation.organs import ORGANS

SHAPE = (20, 24, 28)
SPACING = (2.0, 2.0, 2.0)  # mm; axes of the network's grid, so that nothing is interpolated
DOSES = {"A": (4,), "B": (3, 12)}


def ball(center, radius_mm: float) -> np.ndarray:
    """Voxels whose centers lie within a sphere, bool (z, y, x)."""
    index = np.indices(SHAPE).transpose(1, 2, 3, 0)
    return (((index - center) * SPACING) ** 2).sum(-1) <= radius_mm**2


LARGE, SMALL = ball((10, 12, 7), 9.0), ball((14, 5, 20), 4.0)
LIVER = np.zeros(SHAPE, bool)
LIVER[4:17, 9:22, 15:28] = True


def write_nifti(path: Path, array: np.ndarray, spacing=SPACING) -> None:
    """Writes an image, labels as they are and anything else as float32."""
    image = sitk.GetImageFromArray(array if array.dtype == np.uint8 else array.astype(np.float32))
    image.SetSpacing(spacing)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


def write_dataset(folder: Path, doses=DOSES, splits=("train", "test"), patients: int = 1) -> Path:
    """Centers with smooth images, white noise, lesions, organs and truth; all of an image is body."""
    rng = np.random.default_rng(4)
    z, y, x = np.ogrid[tuple(slice(n) for n in SHAPE)]
    smooth = 3 + np.sin(z / 4) + np.cos(y / 5) + np.sin(x / 6) + 4 * LARGE + 6 * SMALL
    lesions = (LARGE + 2 * SMALL).astype(np.uint8)
    cases = []
    for center, factors in doses.items():
        for split in splits:
            for number in range(1, patients + 1):
                name = f"{center}-{split}" + f"-{number}" * (patients > 1)
                full = smooth + rng.normal(0, 0.2, SHAPE)
                files = {"full": full, "truth": smooth, "lesions": lesions}
                files |= {"organs": (LIVER * ORGANS["liver"].label).astype(np.uint8)}
                files |= {f"low{f}": full + rng.normal(0, 0.2 * f**0.5, SHAPE) for f in factors}
                for file, array in files.items():
                    write_nifti(folder / name / f"{file}.nii.gz", array)
                entry = {"id": name, "center": center, "split": split}
                entry |= {k: f"{name}/{k}.nii.gz" for k in ("full", "truth", "lesions", "organs")}
                cases.append(entry | {"low": {str(f): f"{name}/low{f}.nii.gz" for f in factors}})
    (folder / "dataset.json").write_text(json.dumps({"simulated": True, "cases": cases}))
    return folder


def constant_model(path: Path, offset_suv: float, *, tile: int = 16) -> Path:
    """A model that adds a constant; the same one for the same constant."""
    torch.manual_seed(0)
    network = DRMC(NetworkConfig(channels=4, blocks=1, experts=2, heads=2, hidden=4))
    with torch.no_grad():
        network.tail.weight.zero_()
        network.tail.bias.fill_(offset_suv / INPUT_SCALE)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_model(path, network, tile)
    return path
