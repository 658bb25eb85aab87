"""Measures a result again, with other lesions, without denoising: the scan, and the denoised image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from drmc.denoising import fingerprint
from drmc.denoising.finding import find_scan
from drmc.denoising.outputs import earlier_summary
from drmc.dicom.catalog import Catalog
from drmc.errors import InputError
from drmc.imaging.files import read_image
from drmc.imaging.geometry import Geometry
from drmc.measures.intervals import Calibration, state_intervals
from drmc.measures.rows import LesionRow
from drmc.pet.reading import read_volume
from drmc.pet.strength import FULL, strength_text
from drmc.pet.volume import PETVolume
from drmc.segments.segment import Segment


@dataclass(frozen=True)
class Result:
    """A result folder that was read.

    Attributes:
        name: the scan's name.
        original: the scan.
        denoised_suv: the denoised image in SUV (z, y, x), on the scan's grid.
        notices: that the result was measured again, and from what.
        reading: the SUV type, the accepted rule and the units of the run.
        calibration: that of the lesion intervals in the run's summary; None where there is none, or at
            another strength than the full one, at which it does not hold.
        series: the folder of the denoised DICOM series, None without one.
        made_by: name and checksum of the model, and the strength.
    """

    name: str
    original: PETVolume
    denoised_suv: np.ndarray
    notices: list[str]
    reading: dict[str, Any]
    calibration: Calibration | None
    series: Path | None
    made_by: tuple[str, str, float]

    def state_intervals(self, rows: list[LesionRow], segments: list[Segment]) -> None:
        """Sets the intervals of full dose in the rows of these segments, if there is a calibration."""
        state_intervals(
            rows,
            self.calibration,
            self.original.suv.to_dict(),
            self.original.suv_array(),
            self.denoised_suv,
            segments,
            self.original.geometry.rounded().spacing_zyx,
        )


def is_result(folder: Path) -> bool:
    """Whether a folder holds a result of `drmc denoise`."""
    return folder.is_dir() and earlier_summary(folder) is not None


def read_result(folder: Path, **other: Any) -> Result:
    """Reads the scan and the denoised image of a result folder.

    `other`: options of `read_volume` that are to be other than in the run; None takes the run's. The denoised
    image has the scan's SUV factor, as in the run. Raises InputError where the scan is no longer where it
    was, or is another one by its content, and where the denoised image is gone or of another grid.
    """
    summary = earlier_summary(folder) or {}
    settings = summary.get("settings") or {}
    image = _denoised_image(folder, summary)
    alone = f"measure the denoised image alone ({image})"
    source = Path(str(settings.get("input")))
    if not source.exists():
        raise InputError(f"{folder}: its scan is no longer at {source}: put it back, or {alone}")
    catalog = Catalog()
    scan = find_scan(source, catalog)
    made_from = (summary.get("fingerprint") or {}).get("scan")
    if made_from is None:
        raise InputError(
            f"{folder}: was made by an earlier version that did not keep the scan's checksum: denoise it "
            f"again, or {alone}"
        )
    if fingerprint.of_files(fingerprint.files_of(scan, catalog), catalog) != made_from:
        raise InputError(f"{folder}: the scan at {scan} has changed since: denoise it again, or {alone}")
    keys = ("suv_type", "accept_rule", "units", "series_uid", "series_description", "header")
    options: dict[str, Any] = {key: other.get(key) or settings.get(key) for key in keys}
    options["suv_type"] = options["suv_type"] or "bw"
    original = read_volume(scan, catalog=catalog, **options)
    return Result(
        str(summary.get("scan") or folder.name),
        original,
        _denoised_suv(image, original, options),
        [f"measured again, original: {scan}, denoised: {image}{_strength(summary)}"],
        {key: options[key] for key in ("suv_type", "accept_rule", "units")},
        _calibration(summary, folder / "summary.json"),
        folder / "denoised" if (folder / "denoised").is_dir() else None,
        _made_by(summary),
    )


def _made_by(summary: dict[str, Any]) -> tuple[str, str, float]:
    model = summary.get("model") or {}
    strength = summary.get("strength")
    return (
        str(model.get("name") or ""),
        str(model.get("sha256") or ""),
        FULL if strength is None else float(strength),
    )


def _calibration(summary: dict[str, Any], path: Path) -> Calibration | None:
    values = summary.get("lesion_intervals")
    return None if values is None or summary.get("strength") != FULL else Calibration.read(values, path)


def _strength(summary: dict[str, Any]) -> str:
    """At which strength the result was made; an earlier version did not say."""
    strength = summary.get("strength")
    return "" if strength is None else f", strength {strength_text(strength)}"


def _denoised_image(folder: Path, summary: dict[str, Any]) -> Path:
    outputs = [
        name for name in summary.get("outputs", []) if name.startswith("denoised") and name != "denoised.json"
    ]
    outputs.sort(
        key=lambda name: name == "denoised"
    )  # an image file has the exact voxels, a series 16 bits of them
    for name in outputs:
        if (folder / name).exists():
            return folder / name
    raise InputError(f"{folder}: the denoised image is gone: denoise the scan again")


def _denoised_suv(image: Path, original: PETVolume, options: dict[str, Any]) -> np.ndarray:
    """The denoised image in SUV; an image file by the scan's own factor, as in the run."""
    if image.is_dir():
        denoised = read_volume(image, suv_type=options["suv_type"], accept_rule=options["accept_rule"])
    else:
        read = read_image(image)
        array = sitk.GetArrayFromImage(read).astype(np.float32, copy=False)
        denoised = replace(original, array=array, geometry=Geometry.from_image(read))
    if not denoised.geometry.matches(original.geometry):
        raise InputError(f"{image}: is not on the grid of the scan {original.source}: denoise it again")
    return denoised.suv_array()
