"""PET volumes: where an image lies in space, and what its values mean. Arrays are (z, y, x) float32."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from drmc.imaging.geometry import Geometry
from drmc.suv.decision import SUVDecision


@dataclass
class PETVolume:
    """A PET image in its own units, with what turns it into SUV.

    `array` float32 (z, y, x); `units` the stored Units ("BQML", "CNTS", "GML", "SUV"...); `kind` "dicom",
    "nifti", "nrrd" or "mha"; `header` facts that identify nobody; `dicom_files` in slice order, empty where
    it is no DICOM. `stated`: what a DICOM header says where a value can be given by hand, and `given` what was.
    `frame_of_reference`: FrameOfReferenceUID (0020,0052), `series_uid`: SeriesInstanceUID (0020,000E), of a DICOM scan.
    """

    array: np.ndarray
    geometry: Geometry
    units: str
    suv: SUVDecision
    source: Path
    kind: str
    header: dict[str, Any] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    dicom_files: list[Path] = field(default_factory=list)
    stated: dict[str, str] = field(default_factory=dict)
    given: dict[str, str] = field(default_factory=dict)
    frame_of_reference: str | None = None
    series_uid: str | None = None

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
