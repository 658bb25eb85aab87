"""A scan as it is read for its organs: with SUV if it has one, without it if not."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from drmc.dicom.catalog import Catalog
from drmc.errors import InputError
from drmc.imaging.files import finite_float32, read_image
from drmc.imaging.formats import image_kind
from drmc.imaging.geometry import Geometry
from drmc.paths import AnyPath, labeled
from drmc.pet import in_memory
from drmc.pet.reading import read_volume
from drmc.pet.volume import PETVolume


@dataclass(frozen=True)
class Scan:
    """A scan that is to be labeled.

    Attributes:
        image: SUV where `volume` is there, else in the scan's own unit; float32 (z, y, x).
        geometry: its grid.
        source: the file or folder that was read.
        volume: what was read with its SUV, None without one.
        reason: why there is no SUV, "" where there is one.
        corrected: whether it is corrected for attenuation; None where nothing says so.
        notices: one line each.
        dicom_files: in slice order; empty where it is no DICOM.
        frame_of_reference: FrameOfReferenceUID of a DICOM scan.
        series_uid: SeriesInstanceUID of a DICOM scan.
    """

    image: np.ndarray
    geometry: Geometry
    source: Path
    volume: PETVolume | None = None
    reason: str = ""
    corrected: bool | None = None
    notices: list[str] = field(default_factory=list)
    dicom_files: list[Path] = field(default_factory=list)
    frame_of_reference: str | None = None
    series_uid: str | None = None

    @property
    def tracer(self) -> str | None:
        """What the header says of the tracer; None without it, or without SUV."""
        return None if self.volume is None else (self.volume.suv.to_dict().get("facts") or {}).get("tracer")

    @property
    def files(self) -> list[Path]:
        """What must not be written over."""
        return [self.source, *self.dicom_files]


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
            return Scan(
                volume.suv_array(),
                volume.geometry,
                volume.source,
                volume,
                corrected=True,
                notices=list(volume.notices),
                dicom_files=list(volume.dicom_files),
                frame_of_reference=volume.frame_of_reference,
                series_uid=volume.series_uid,
            )
    return _plain(path, catalog, reading, reason, False if without_suv else None)


def _plain(
    path: Path, catalog: Catalog, reading: dict[str, Any], reason: str, corrected: bool | None
) -> Scan:
    """The voxels alone. Raises InputError where they cannot be read."""
    label, voxels = reading.get("label"), reading.get("voxels")
    named = labeled(path, label)
    own = None if voxels is None else read_image(labeled(voxels, label))
    if path.is_dir() or image_kind(path) is None:
        from drmc.dicom.series import read_series_headers  # pydicom is needed for DICOM only

        series = read_series_headers(
            named, catalog, reading.get("series_uid"), reading.get("series_description")
        )
        array = series.read_voxels(catalog)
        if own is None or in_memory.same_as_series(own, array, series.geometry):
            corrections = series.slices[0].get("CorrectedImage")
            return Scan(
                array,
                series.geometry,
                path,
                reason=reason,
                corrected=corrected if corrected is not None or not corrections else "ATTN" in corrections,
                dicom_files=list(series.files),
                frame_of_reference=series.frame_of_reference,
                series_uid=series.uid,
            )
    if own is None or voxels is None:
        image, source = read_image(named), path
    elif path.is_dir() or image_kind(path) is None:
        image, source = own, Path(voxels)
    else:
        image, source = _file_or(own, Path(voxels), named)
    array = finite_float32(sitk.GetArrayFromImage(image), labeled(source, label))
    return Scan(array, Geometry.from_image(image), source, reason=reason, corrected=corrected)


def _file_or(own: sitk.Image, voxels: Path, path: AnyPath) -> tuple[sitk.Image, Path]:
    """The file as long as it has the voxels of the other program, else these."""
    try:
        image = read_image(path)
    except InputError:  # not what was loaded, whatever it is
        return own, voxels
    return (image, Path(path)) if in_memory.same_as_image(own, image) else (own, voxels)
