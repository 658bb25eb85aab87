"""The made-up torso with noise, an aorta, kidneys and lesions, its organs as a segmentation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from drmc.imaging.geometry import Geometry
from drmc.organs.table import by_name
from drmc.segments.segment import Segment
from drmc.segments.writing import Look, write_segmentation

from support.engine.torso import ORIGIN, SHAPE, SPACING, torso

GEOMETRY = Geometry(SHAPE, SPACING, ORIGIN)
LESIONS = ("lesion in the liver", "lesion in soft tissue")


def ball(center: tuple[float, float, float], radius: float) -> np.ndarray:
    """Mask of a ball around a point (x, y, z) of `torso`, which has its own middle as origin."""
    axes = [np.arange(n) * s - c for n, s, c in zip(SHAPE, SPACING, (240, 132, 180), strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return sum((axis - at) ** 2 for axis, at in zip((x, y, z), center, strict=True)) <= radius**2


def labeled_torso() -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """SUV (z, y, x), the masks of its organs by name, and those of its lesions; one lies in the liver."""
    suv, parts = torso()
    axes = [np.arange(n) * s - c for n, s, c in zip(SHAPE, SPACING, (240, 132, 180), strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    organs = {name: parts[name] for name in ("liver", "heart")}
    organs["urinary bladder"] = parts["bladder"]
    organs["aorta"] = ((x - 20) ** 2 + (y - 45) ** 2 <= 15**2) & (np.abs(z) < 130)
    organs["left kidney"], organs["right kidney"] = (ball((at, 50, -95), 28) for at in (60, -60))
    organs["right kidney"] &= ~organs["liver"]
    for name, value in (("aorta", 1.6), ("left kidney", 9.0), ("right kidney", 9.0)):
        suv[organs[name]] = value
    lesions = dict(zip(LESIONS, (ball((-95, -20, 0), 14), ball((40, -40, -60), 14)), strict=True))
    for mask in lesions.values():
        suv[mask] = 8.0
    noise = np.random.default_rng(5).normal(1.0, 0.05, suv.shape)
    return (suv * noise).astype(np.float32), organs, lesions


def write_torso(folder: Path) -> dict[str, Path]:
    """Writes scan, organs and lesions as files; returns their paths."""
    suv, organs, lesions = labeled_torso()
    folder.mkdir(parents=True, exist_ok=True)
    paths = {"scan": folder / "pet.nii.gz"}
    sitk.WriteImage(GEOMETRY.to_image(suv), str(paths["scan"]))
    (folder / "pet.json").write_text(json.dumps({"Units": "SUV", "TracerName": "FDG"}))
    paths |= {"organs": write_organs(folder, organs), "lesions": folder / "lesions.seg.nrrd"}
    write_segmentation(paths["lesions"], [Segment(*one) for one in lesions.items()], GEOMETRY)
    return paths


def write_organs(folder: Path, organs: dict[str, np.ndarray], geometry: Geometry = GEOMETRY) -> Path:
    """Writes organs.seg.nrrd with label values and codes of the table."""
    named = [by_name()[name] for name in organs]
    looks = [Look(one.index, (0.5, 0.5, 0.5), one.terminology) for one in named]
    path = folder / "organs.seg.nrrd"
    write_segmentation(path, [Segment(*one) for one in organs.items()], geometry, looks=looks)
    return path
