"""PET volumes: where an image lies in space, and what its values mean. Arrays are (z, y, x) float32."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from drmc.imaging.geometry import Geometry
from drmc.paths import AnyPath, labeled
from drmc.suv.decision import SUVDecision


@dataclass
class PETHeader:
    """A PET scan without its voxels: what turns them into SUV, and where it is from.

    Attributes:
        units: the stored Units ("BQML", "CNTS", "GML", "SUV", ...).
        suv: what turns stored values into SUV, and why.
        source: the file or folder that was read.
        kind: "dicom", "nifti", "nrrd" or "mha".
        header: facts that identify nobody, for reports.
        notices: what the reader of a report should know of the scan.
        dicom_files: in slice order; empty where it is no DICOM.
        header_values: what a DICOM header says where a value can be given by hand.
        given: the values that were given by hand.
        frame_of_reference: FrameOfReferenceUID (0020,0052) of a DICOM scan.
        series_uid: SeriesInstanceUID (0020,000E) of a DICOM scan.
        label: what messages call the scan instead of its source, if anything.
    """

    units: str
    suv: SUVDecision
    source: Path
    kind: str
    header: dict[str, Any] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    dicom_files: list[Path] = field(default_factory=list)
    header_values: dict[str, str] = field(default_factory=dict)
    given: dict[str, str] = field(default_factory=dict)
    frame_of_reference: str | None = None
    series_uid: str | None = None
    label: str | None = None


@dataclass(kw_only=True)
class PETVolume(PETHeader):
    """A PET image in its own units, with what turns it into SUV.

    Attributes:
        array: float32 (z, y, x), in `units`.
        geometry: where the voxels lie.
    """

    array: np.ndarray
    geometry: Geometry

    @property
    def named_source(self) -> AnyPath:
        """The source as messages name it."""
        return labeled(self.source, self.label)

    def suv_array(self) -> np.ndarray:
        """The image in SUV, float32 (z, y, x): the stored values times the factor of their slice."""
        return _times(self.array, self._factors())

    def from_suv(self, values: np.ndarray) -> np.ndarray:
        """SUV (z, y, x), such as a residual, in the scan's own units, float32; zeros stay exactly zero."""
        if values.shape != self.array.shape:
            raise ValueError(f"values of shape {values.shape} for a scan of shape {self.array.shape}")
        return _times(values, 1.0 / self._factors())

    def _factors(self) -> np.ndarray:
        per_slice = self.suv.factor_per_slice
        return np.array(per_slice if per_slice is not None else [self.suv.factor] * len(self.array))


def _times(array: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Slice by slice in float64, so that the result is the float32 nearest to the product."""
    result = np.empty(array.shape, np.float32)
    for z, factor in enumerate(factors):
        result[z] = array[z].astype(np.float64) * factor
    return result
