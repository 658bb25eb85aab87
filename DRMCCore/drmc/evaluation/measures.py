"""What is measured in one image of a patient, against full dose and, where it is known, the truth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from drmc.datasets.manifest import Case
from drmc.errors import InputError, NothingMarkedError
from drmc.imaging.body import LEAST_BODY_SUV, body_mask
from drmc.imaging.files import read_image
from drmc.imaging.geometry import Geometry
from drmc.imaging.resampling import resample_to_grid
from drmc.measures.bias import BIAS_QUANTITIES, lesion_bias
from drmc.measures.lesions import lesion_table
from drmc.measures.metrics import SUV_RANGE, nrmse, psnr, ssim
from drmc.measures.metrics_legacy import psnr_legacy, ssim_legacy
from drmc.measures.rows import LesionRow
from drmc.segments.reading import read_segments
from drmc.segments.segment import Segment
from drmc.simulation.liver import inside_liver

LARGE_MM = 15.0  # the aims are about lesions over this diameter
BEFORE, REFERENCE = "original", "reference"  # the stages of the lesion table


@dataclass
class Pair:
    """One patient at one dose: low and full dose as SUV (z, y, x), and what the images are measured with."""

    case: Case
    low: np.ndarray
    full: np.ndarray
    geometry: Geometry
    simulated: bool

    @classmethod
    def read(cls, case: Case, factor: float, *, simulated: bool) -> Pair:
        """Reads a case at a dose reduction factor.

        Args:
            case: the patient.
            factor: the dose reduction factor of the low dose.
            simulated: organs and truth are used; those of real patients are not.

        Raises:
            InputError: an image cannot be read, the images do not lie on one grid, or no body is seen.
        """
        low, full = case.read(case.low[factor]), case.read(case.full)
        if not low.geometry.matches(full.geometry):
            raise InputError(f"case {case.case_id}: low and full dose lie on different grids")
        pair = cls(case, low.suv_array(), full.suv_array(), full.geometry, simulated)
        if not pair.body.any():
            raise InputError(
                f"case {case.case_id}: the full-dose image shows no body (nothing above SUV "
                f"{LEAST_BODY_SUV:g})"
            )
        return pair

    @cached_property
    def body(self) -> np.ndarray:
        """The body in the full-dose image, bool (z, y, x)."""
        return body_mask(self.full, self.geometry.spacing_zyx)

    @cached_property
    def on_grid(self) -> tuple[np.ndarray, np.ndarray]:
        """The full dose on the network's grid and the body there."""
        full, grid = resample_to_grid(self.full, self.geometry)
        return full, body_mask(full, grid.spacing_zyx)

    @cached_property
    def segments(self) -> list[Segment]:
        """The lesions; none where there is no segmentation, or nothing of it in the field of view."""
        if self.case.lesions is None:
            return []
        try:
            return read_segments(self.case.lesions, self.geometry)[0]
        except NothingMarkedError:  # a patient without a lesion in the field of view
            return []

    @cached_property
    def truth(self) -> np.ndarray | None:
        """Uptake without noise and blur, SUV, where it is known on the scan's grid."""
        if self.case.truth is None:
            return None
        truth, geometry = self.case.read_truth()
        return truth if geometry.matches(self.geometry) else None

    @cached_property
    def liver(self) -> np.ndarray | None:
        """The liver 8 mm inside its surface, away from lesions; None where no organs are known."""
        if self.case.organs is None or not self.simulated:
            return None
        image = read_image(self.case.organs)
        if not Geometry.from_image(image).matches(self.geometry):
            return None
        import SimpleITK as sitk

        labels = torch.from_numpy(sitk.GetArrayFromImage(image).astype(np.uint8))
        lesions = np.zeros(self.geometry.shape, bool)
        for segment in self.segments:
            lesions[segment.box] |= segment.inside
        mask = inside_liver(labels, lesions, self.geometry.spacing_zyx)
        return mask if mask.any() else None

    @cached_property
    def tables(self) -> dict[str, list[LesionRow]]:
        """Lesion tables of what the images are compared with: full dose, and truth where it is known."""
        found = {"full": self._table(REFERENCE, self.full)}
        if self.truth is not None:
            found["truth"] = self._table(REFERENCE, self.truth)
        return found

    def _table(self, stage: str, image: np.ndarray) -> list[LesionRow]:
        return lesion_table(self.case.case_id, self.segments, {stage: image}, self.geometry)

    def metrics(self, estimate: np.ndarray) -> dict[str, float]:
        """The measures of an image, SUV (z, y, x), by name.

        Inside the body on the scan's own grid PSNR [dB], NRMSE and SSIM (SUV, range 20, unclipped), PSNR on
        the network's grid; PSNR and SSIM as in the authors' code (`drmc.measures.metrics_legacy`); relative
        change of the body's mean SUV from low and full dose; coefficient of variation in the liver, where
        that is known.
        """
        full_2mm, body_2mm = self.on_grid
        mean = float(estimate[self.body].mean(dtype=np.float64))
        found = {
            "psnr": psnr(estimate, self.full, data_range=SUV_RANGE, mask=self.body),
            "psnr_2mm": psnr(
                resample_to_grid(estimate, self.geometry)[0], full_2mm, data_range=SUV_RANGE, mask=body_2mm
            ),
            "nrmse": nrmse(estimate, self.full, mask=self.body),
            "ssim": ssim(estimate, self.full, data_range=SUV_RANGE, mask=self.body),
            **self._legacy(estimate),
            "body_mean_change": mean / float(self.low[self.body].mean(dtype=np.float64)) - 1,
            "body_mean_bias": mean / float(self.full[self.body].mean(dtype=np.float64)) - 1,
        }
        return found | self.liver_metrics(estimate)

    def _legacy(self, estimate: np.ndarray) -> dict[str, float]:
        """`psnr_legacy` and `ssim_legacy`; the first is NaN for an image without a value above 0."""
        try:
            peak_ratio = psnr_legacy(estimate, self.full)
        except ValueError:
            peak_ratio = math.nan
        return {"psnr_legacy": peak_ratio, "ssim_legacy": ssim_legacy(estimate, self.full)}

    def liver_metrics(self, estimate: np.ndarray) -> dict[str, float]:
        """`liver_cov`, where the liver is known."""
        return {} if self.liver is None else {"liver_cov": variation(estimate, self.liver)}

    def lesions(self, estimate: np.ndarray) -> list[dict[str, Any]]:
        """The lesions in an image, SUV (z, y, x), one record each.

        `lesion` (its name), `diameter_mm` of the sphere of its volume, `suv_mean`, `suv_max`, `suv_peak`, and
        their signed relative differences from full dose (`full`) and, where it is known, from the truth
        (`truth`).
        """
        rows = self._table(BEFORE, estimate)
        found = {
            row["segment"]: {
                "lesion": row["segment"],
                "diameter_mm": sphere_diameter(row["volume_ml"] or 0.0),
                **{quantity: row[quantity] for quantity in BIAS_QUANTITIES.values()},
            }
            for row in rows
        }
        for against, table in self.tables.items():
            for entry in lesion_bias([*rows, *table])["lesions"]:
                signed = dict(entry)
                found[entry["segment"]][against] = {q: signed[f"signed_{q}"] for q in BIAS_QUANTITIES}
        return list(found.values())


def lesion_metrics(lesions: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """B_mean, B_max and B_peak: mean over a patient's lesions of the absolute differences from full dose.

    With `_signed` at their end the means of the differences themselves.
    """
    found = {}
    for quantity in BIAS_QUANTITIES:
        values = biases(lesions, quantity, diameters_mm=(0.0, math.inf))
        if values:
            found[f"B_{quantity}"] = float(np.mean(np.abs(values)))
            found[f"B_{quantity}_signed"] = float(np.mean(values))
    return found


def biases(
    lesions: Sequence[Mapping[str, Any]],
    quantity: str,
    *,
    against: str = "full",
    diameters_mm: tuple[float, float] = (LARGE_MM, math.inf),
) -> list[float]:
    """Signed relative differences of a quantity (mean, max, peak) of the lesions of these diameters.

    Lesions without a defined difference are left out.
    """
    values = [
        lesion[against][quantity]
        for lesion in lesions
        if against in lesion and diameters_mm[0] < lesion["diameter_mm"] <= diameters_mm[1]
    ]
    return [value for value in values if value is not None]


def sphere_diameter(volume_ml: float) -> float:
    """Diameter [mm] of the sphere of a volume."""
    return (6000.0 * volume_ml / math.pi) ** (1 / 3)


def variation(image: np.ndarray, mask: np.ndarray) -> float:
    """Coefficient of variation, standard deviation over mean, inside a mask."""
    values = image[mask].astype(np.float64)
    return float(values.std(ddof=1) / values.mean())
