"""A real scan as a patient: its uptake is scanned again at another center, with known truth and new noise.

The result is semi-real: real anatomy and uptake, simulated acquisition. What the first scanner blurred stays
blurred.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from drmc.errors import InputError
from drmc.imaging.body import LEAST_BODY_SUV, body_mask, grow
from drmc.imaging.smoothing import FWHM_PER_SIGMA, smooth
from drmc.pet.reading import read_volume
from drmc.pet.volume import PETVolume
from drmc.segments.segment import Segment
from drmc.simulation.anatomy import Phantom
from drmc.simulation.liver import MARGIN_MM, guessed_liver, liver_given, segmented
from drmc.simulation.noise import eroded
from drmc.simulation.organs import MU_PER_MM, ORGANS
from drmc.simulation.resampling import interpolation, nearest, positions, resampled, to_lps
from drmc.simulation.shapes import Shape, Triple

SMOOTHING_MM = 8.0
ASSUMED_WEIGHT_KG = 70.0
LUNG_SHARE_OF_LIVER = 0.45
"""Lung and muscle have .2 to .35 of the liver's uptake, the mediastinum .6 to .8."""
CHEST_WALL_MM = 25.0
THORAX_MM = 150.0
_LUNG_SMOOTHING_MM = 5.0
_LUNG_OPENING_MM = 9.0
MU_RULE = (
    "from the PET alone: soft tissue inside the body contour, air outside; lung where, from the liver's dome "
    f"to {THORAX_MM:g} mm above it and {CHEST_WALL_MM:g} mm inside the body, the smoothed uptake is below "
    f"{LUNG_SHARE_OF_LIVER:g} of the liver's"
)


class RealScan:
    """A real scan as a patient of `simulate_patient`.

    The scan is reordered to LPS axes, smoothed by a Gaussian of `smoothing_mm` FWHM so that its own noise
    does not pass for anatomy, cut at 0 and at the body contour. The attenuation map follows `MU_RULE`: it
    need not be this patient's in every voxel, since the simulated scanner measures and corrects with the same
    map; it sets how much is attenuated. Frame: x left, y back (0 in the middle of the body), z toward the
    head as in the scan, mm. `lps_suv` is the scan before smoothing and `liver` the inside of its liver (none
    found: empty), (z, y, x) with `spacing` (z, y, x).

    `weight_kg`: of the scan's header if it is not given, else 70 kg, and the facts say which. `lesions`: an
    integer label image on the scan's own grid. `organs`: segments on that grid, of the file `organs_path`:
    the liver is then theirs, less 8 mm, and the lungs are where there are any. Raises InputError where the
    scan shows no body, or the organs have no liver.
    """

    region = "wholebody"
    diaphragm_mm: float | None = None  # the scan has breathed already

    def __init__(
        self,
        volume: PETVolume,
        lesions: np.ndarray | None = None,
        *,
        lesion_names: Sequence[str] = (),
        smoothing_mm: float = SMOOTHING_MM,
        weight_kg: float | None = None,
        organs: Sequence[Segment] | None = None,
        organs_path: str = "the organs",
    ):
        header = volume.suv.to_dict()["facts"].get("weight_kg")
        self.weight_kg = float(weight_kg or header or ASSUMED_WEIGHT_KG)
        self.lps_suv, geometry = to_lps(volume.suv_array(), volume.geometry, sitk.sitkLinear)
        self.spacing = geometry.spacing_zyx
        sigma = [smoothing_mm / FWHM_PER_SIGMA / step for step in self.spacing]
        suv = smooth(self.lps_suv, sigma).numpy().clip(min=0)
        body = body_mask(suv, self.spacing)
        if not body.any():
            raise InputError(
                f"{volume.source}: shows no body (no uptake above SUV {LEAST_BODY_SUV:g}): give a scan of a "
                "patient"
            )
        labels_of = lambda mask: to_lps(mask.astype(np.uint8), volume.geometry, sitk.sitkNearestNeighbor)[0]
        if organs is None:
            self.liver, liver_from = guessed_liver(self.lps_suv, self.spacing)
        else:
            liver, liver_from = liver_given(organs, organs_path)
            self.liver = eroded(labels_of(liver) > 0, self.spacing, MARGIN_MM)
        lungs = segmented(organs or (), "left lung", "right lung")
        if lungs is None:
            lung = _lungs(suv, body, self.liver, self.spacing)
        else:
            lung = (labels_of(lungs) > 0) & body
        self._activity = np.where(body, suv, 0).astype(np.float32)
        self._mu = np.where(lung, MU_PER_MM["lung"], np.where(body, MU_PER_MM["soft"], 0)).astype(np.float32)
        self._organs = (self.liver * ORGANS["liver"].label + lung * ORGANS["lung"].label).astype(np.uint8)
        self._lesions = np.zeros(body.shape, np.uint8)
        if lesions is not None:
            self._lesions = labels_of(lesions)
        x0, y0, z0 = geometry.origin
        middle = [(np.nonzero(body.any(axis=a))[0][[0, -1]]).mean() for a in ((0, 2), (0, 1))]
        # (z, y, x) of the first voxel in the patient's frame
        self.origin = (z0, float(-middle[0] * self.spacing[1]), float(-middle[1] * self.spacing[2]))
        self.shift = (float(self.origin[2] - x0), float(self.origin[1] - y0), 0.0)
        self.facts = {
            "semi_real": True,
            "scan": volume.source.name,
            "scan_voxel_mm": [float(s) for s in self.spacing],
            "scan_header": {
                key: volume.header[key]
                for key in ("manufacturer", "model", "reconstruction", "tracer", "frame_duration_s")
                if key in volume.header
            },
            "smoothing_fwhm_mm": smoothing_mm,
            "liver": liver_from,
            "mu_rule": _mu_rule(lung, lungs is not None),
            "weight_kg": self.weight_kg,
            "weight_from": "given" if weight_kg else "header" if header else "assumed",
            "shift_mm": list(self.shift),
            "lesions": self._lesion_facts(lesion_names),
        }

    def _lesion_facts(self, names: Sequence[str]) -> list[dict[str, Any]]:
        facts = []
        for label in np.unique(self._lesions[self._lesions > 0]).tolist():
            inside = self._lesions == label
            center = [
                float(o + s * i.mean())
                for o, s, i in zip(self.origin, self.spacing, np.nonzero(inside), strict=True)
            ]
            ml = float(inside.sum() * np.prod(self.spacing) / 1000)
            facts.append(
                {
                    "label": label,
                    "host": "real scan",
                    "name": names[label - 1] if label <= len(names) else str(label),
                    "diameter_mm": (6000 * ml / np.pi) ** (1 / 3),
                    "volume_ml": ml,
                    "suv": float(self._activity[inside].mean()),
                    "center_mm": tuple(reversed(center)),
                }
            )
        return facts

    def axial_range(self) -> tuple[float, float]:
        """Range of the scan's slices, from edge to edge (z_lower, z_upper), mm."""
        step = self.spacing[0]
        lower = self.origin[0] - step / 2
        return lower, lower + self._activity.shape[0] * step

    def rasterize(self, shape_zyx: Shape, spacing_zyx: Triple, origin_zyx: Triple) -> Phantom:
        """The patient on a voxel grid; origin is the center of the first voxel in mm.

        Linear interpolation (labels: nearest voxel); air outside the scan's transverse field, the last slice
        repeated beyond its ends.
        """
        grid = (shape_zyx, spacing_zyx, origin_zyx)
        own = (self._activity.shape, self.spacing, self.origin)
        weights = [
            interpolation(p, n, repeat=axis == 0)
            for axis, (p, n) in enumerate(zip(positions(grid, own), self._activity.shape, strict=True))
        ]
        organs, lesions = (nearest(volume, grid, own) for volume in (self._organs, self._lesions))
        activity, mu = (resampled(volume, weights) for volume in (self._activity, self._mu))
        return Phantom(activity, mu, organs, lesions, facts=dict(self.facts))


def _mu_rule(lung: np.ndarray, is_given: bool) -> str:
    if is_given:
        return "soft tissue inside the body contour of the PET, air outside; lung of the segmentation"
    return MU_RULE if lung.any() else MU_RULE + "; no liver or lung was found: soft tissue only"


def semi_real_patient(
    path: str | Path,
    lesions: str | Path | None = None,
    *,
    units: str | None = None,
    organs: str | Path | None = None,
) -> RealScan:
    """A real scan as a patient.

    Args:
        path: in any form that `read_volume` takes.
        lesions: a segmentation of its lesions.
        units: of its voxels, where the file does not state them.
        organs: a segmentation of its organs, whose liver and lungs are taken.

    Raises:
        InputError: the scan, its SUV or a segmentation is refused.
    """
    return patient_of(read_volume(path, units=units), lesions, organs)


def patient_of(
    volume: PETVolume, lesions: str | Path | None = None, organs: str | Path | None = None
) -> RealScan:
    """`semi_real_patient` of a scan that was read already."""
    from drmc.segments.reading import read_segments

    def read(path: str | Path) -> list[Segment]:
        return read_segments(path, volume.geometry, volume.frame_of_reference, volume.series_uid)[0]

    given: dict[str, Any] = {}
    if organs is not None:
        given = {"organs": read(organs), "organs_path": str(organs)}
    if lesions is None:
        return RealScan(volume, **given)
    segments = read(lesions)
    if len(segments) > 255:
        raise InputError(f"{lesions}: has {len(segments)} segments; at most 255 lesions can be labeled")
    labels = np.zeros(volume.geometry.shape, np.uint8)
    for label, segment in enumerate(segments, 1):
        labels[segment.box][segment.inside] = label
    return RealScan(volume, labels, lesion_names=[segment.name for segment in segments], **given)


def _lungs(suv: np.ndarray, body: np.ndarray, liver: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """The voxels of `MU_RULE`'s lungs; none where there is no liver to start from."""
    area = liver.sum((1, 2))
    if not area.any():
        return np.zeros_like(body)
    dome = int(np.nonzero(area > 0.1 * area.max())[0][-1])
    thorax = np.zeros_like(body)
    thorax[dome : dome + round(THORAX_MM / spacing[0])] = True
    deep = eroded(np.pad(body, [(40, 40), (0, 0), (0, 0)], mode="edge"), spacing, CHEST_WALL_MM)[40:-40]
    low = smooth(suv, [_LUNG_SMOOTHING_MM / step for step in spacing]).numpy()
    lung = thorax & deep & (low < LUNG_SHARE_OF_LIVER * float(suv[liver].mean()))
    reach = [round(_LUNG_OPENING_MM / step) for step in spacing]
    core = eroded(lung, spacing, _LUNG_OPENING_MM)
    return grow(core, reach) & lung
