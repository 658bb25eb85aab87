"""Low-dose and full-dose scans of patients, DICOM series or image files, and the table of `drmc import`."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from drmc.imaging.files import write_image
from drmc.imaging.geometry import Geometry

from support.engine.synthetic_dicom import SECRETS, write_series

GRID = Geometry((18, 22, 24), (4.0, 4.0, 4.0), (-46.0, -42.0, 10.0))
# Of the plain scan of synthetic_dicom: 70 kg over 370 MBq after an hour.
SUV_OF_BQML = 70_000 / (3.7e8 * 2 ** (-3600 / 6586.2))
COLUMNS = ("center", "patient", "low", "full")


def images(seed: int, factors: tuple[float, ...] = (4.0,)) -> tuple[np.ndarray, dict[float, np.ndarray]]:
    """Full dose and low doses, SUV (z, y, x): a body of its own with hot spots, as of thinned counts."""
    rng = np.random.default_rng(seed)
    middle = [(n - 1) / 2 + rng.uniform(-1, 1) for n in GRID.shape]
    axes = np.ogrid[tuple(slice(n) for n in GRID.shape)]
    radii = rng.uniform(7, 10, 3)
    body = sum(((a - m) / r) ** 2 for a, m, r in zip(axes, middle, radii, strict=True)) < 1
    truth = body * rng.uniform(0.8, 1.3)
    for _ in range(3):
        z, y, x = (int(m + rng.uniform(-4, 4)) for m in middle)
        truth[z : z + 3, y : y + 3, x : x + 3] = rng.uniform(3, 9)
    grain = lambda variance: np.sqrt(variance) * 0.04 * np.sqrt(truth) * rng.standard_normal(GRID.shape)
    full = truth + grain(1)
    return full, {factor: full + grain(factor - 1) for factor in factors}


def write_dicom(folder: Path, suv: np.ndarray, origin=GRID.origin, **header: object) -> Path:
    """The image as a PET series in Bq/ml of a patient who must not be named."""
    identity = dict(zip(("PatientName", "PatientID", "PatientBirthDate"), SECRETS, strict=False))
    write_series(folder, suv / SUV_OF_BQML, spacing=(4, 4), positions=4, origin=origin, **identity, **header)
    return folder


def write_file(path: Path, suv: np.ndarray, geometry: Geometry = GRID, units: str | None = "SUV") -> Path:
    """The image as a NIfTI file with a side-car, or with none where `units` is None."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, suv.astype(np.float32), geometry)
    if units is not None:
        path.with_name(path.name.replace(".nii.gz", ".json")).write_text(json.dumps({"Units": units}))
    return path


def write_table(path: Path, *rows: dict[str, object]) -> Path:
    """The table of pairs, with the columns of all rows."""
    names = list(dict.fromkeys([*COLUMNS, *(name for row in rows for name in row)]))
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def patient_row(
    root: Path, center: str, patient: str, seed: int, *, dicom: bool = False
) -> dict[str, object]:
    """Writes a pair below `root` and gives its row; the factor 4 stands in the name of the low dose."""
    full, low = images(seed)
    place = f"{center.lower()}_scans/{patient}"
    if dicom:
        write_dicom(root / place / "full", full)
        write_dicom(root / place / "low_drf004", low[4.0])
        names = ("low_drf004", "full")
    else:
        write_file(root / place / "full.nii.gz", full)
        write_file(root / place / "low_drf004.nii.gz", low[4.0])
        names = ("low_drf004.nii.gz", "full.nii.gz")
    scans = {key: f"{place}/{name}" for key, name in zip(("low", "full"), names, strict=True)}
    return {"center": center, "patient": patient, **scans}
