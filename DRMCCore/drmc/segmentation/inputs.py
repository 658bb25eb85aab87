"""A scan as it is read for its organs: with SUV if it has one, without it if not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from drmc.dicom.catalog import Catalog
from drmc.errors import InputError
from drmc.imaging.files import finite_float32, read_image
from drmc.imaging.formats import image_kind
from drmc.imaging.geometry import Geometry
from drmc.pet.reading import read_volume
from drmc.pet.volume import PETVolume


@dataclass(frozen=True)
class Scan:
    """A scan that is to be labeled.

    Attributes:
        image: SUV where `volume` is there, else in the scan's own unit; float32 (z, y, x).
        geometry: its grid.
        volume: what was read with its SUV, None without one.
        reason: why there is no SUV, "" where there is one.
        notices: one line each.
        files: what must not be written over.
    """

    image: np.ndarray
    geometry: Geometry
    volume: PETVolume | None
    reason: str
    notices: list[str]
    files: list[Path]

    @property
    def frame_of_reference(self) -> str | None:
        """FrameOfReferenceUID of a DICOM scan."""
        return None if self.volume is None else self.volume.frame_of_reference

    @property
    def series_uid(self) -> str | None:
        """SeriesInstanceUID of a DICOM scan."""
        return None if self.volume is None else self.volume.series_uid


def read_scan(path: Path, catalog: Catalog, *, without_suv: bool = False, **reading: Any) -> Scan:
    """Reads a scan.

    Args:
        path: what `drmc.pet.reading.read_volume` takes.
        catalog: what was read of DICOM files before.
        without_suv: whether its SUV is of no use, since it is not corrected for attenuation.
        **reading: arguments of `read_volume`.

    Raises:
        InputError: it is no image, or a damaged one.
    """
    reason = "not corrected for attenuation"
    if not without_suv:
        try:
            volume = read_volume(path, catalog=catalog, **reading)
        except InputError as error:
            reason = str(error)
        else:
            files = [path, *volume.dicom_files]
            return Scan(volume.suv_array(), volume.geometry, volume, "", list(volume.notices), files)
    image, geometry, files = _plain(path, catalog, reading)
    return Scan(image, geometry, None, reason, [], [path, *files])


def _plain(path: Path, catalog: Catalog, reading: dict[str, Any]) -> tuple[np.ndarray, Geometry, list[Path]]:
    """The voxels alone. Raises InputError where they cannot be read."""
    if path.is_dir() or image_kind(path) is None:
        from drmc.dicom.series import read_series_headers  # pydicom is needed for DICOM only

        series = read_series_headers(
            path, catalog, reading.get("series_uid"), reading.get("series_description")
        )
        return series.read_voxels(catalog), series.geometry, list(series.files)
    image = read_image(path)
    array = finite_float32(sitk.GetArrayFromImage(image), path)
    return array, Geometry.from_image(image), []
