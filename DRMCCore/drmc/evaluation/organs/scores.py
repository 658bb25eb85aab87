"""What is measured of the labels of one scan: reference R against prediction P, on the scan's own grid.

dice                2 |R and P| / (|R| + |P|). An organ of which less than LEAST_ML is in the field is not
                    counted. An absent one is not counted either, but where more than LEAST_ML of it is found:
                    then it is 0.
surface_dice        share of both surfaces within TOLERANCE_MM of the other (`surfaces.py`);
surface_dice_fine   the same within FINE_MM, of the organs in FINE.
hd95_mm             95th percentile of all distances between the surfaces, both ways pooled. Not defined where
                    an organ was missed or one surface is beyond the field: it stands beside the share found.
volume_error        (V_P - V_R) / V_R.
suv_error           SUVmean in P over SUVmean in R - 1, on the image corrected for attenuation of that dose;
suv_error_truth     the same on the true activity, which separates the masks from the noise.
centroid_mm         distance of the centroids.
side_error          share of the voxels of all paired organs that are labeled as those of the other side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from drmc.evaluation.organs.surfaces import surface_distances
from drmc.imaging.geometry import Geometry
from drmc.measures.organs import LEAST_ML
from drmc.organs.table import MIDDLE, OrganClass, classes, opposite

TOLERANCE_MM, FINE_MM = 4.0, 2.0
FINE = ("thyroid_gland", "esophagus", "gallbladder", "adrenal_gland_left", "adrenal_gland_right")
"""Organs so small or thin that a tolerance of a whole voxel says little."""
PERCENTILE = 95
MEASURES = 1
"""Raise it when a measure changes: what is stored is then computed again."""


class OrganScore(TypedDict):
    """One organ of one scan; None where a measure is not defined."""

    reference_ml: float
    found_ml: float
    dice: float | None
    surface_dice: float | None
    surface_dice_fine: float | None
    hd95_mm: float | None
    volume_error: float | None
    suv_error: float | None
    suv_error_truth: float | None
    centroid_mm: float | None


class ScanScores(TypedDict):
    """One scan: its organs by key, and sides."""

    organs: dict[str, OrganScore]
    side_error: float | None


def scan_scores(
    found_zyx: np.ndarray,
    reference_zyx: np.ndarray,
    geometry: Geometry,
    *,
    corrected_zyx: np.ndarray | None = None,
    truth_zyx: np.ndarray | None = None,
) -> ScanScores:
    """Scores of the labels of a scan; organs that are neither there nor found are left out.

    Args:
        found_zyx: classes, uint8.
        reference_zyx: classes, uint8.
        geometry: their grid.
        corrected_zyx: SUV, for `suv_error`.
        truth_zyx: true activity, for `suv_error_truth`.
    """
    images = {"suv_error": corrected_zyx, "suv_error_truth": truth_zyx}
    organs: dict[str, OrganScore] = {}
    for one in classes():
        found, reference = found_zyx == one.index, reference_zyx == one.index
        if found.any() or reference.any():
            organs[one.key] = _score(one, found, reference, geometry, images)
    return {"organs": organs, "side_error": _side_error(found_zyx, reference_zyx)}


def _score(
    one: OrganClass,
    found: np.ndarray,
    reference: np.ndarray,
    geometry: Geometry,
    images: dict[str, np.ndarray | None],
) -> OrganScore:
    ml = geometry.voxel_ml
    n_found, n_reference = int(np.count_nonzero(found)), int(np.count_nonzero(reference))
    score: OrganScore = {
        "reference_ml": n_reference * ml,
        "found_ml": n_found * ml,
        "dice": None,
        "surface_dice": None,
        "surface_dice_fine": None,
        "hd95_mm": None,
        "volume_error": None,
        "suv_error": None,
        "suv_error_truth": None,
        "centroid_mm": None,
    }
    invented = n_reference == 0 and n_found * ml > LEAST_ML
    if not invented and n_reference * ml < LEAST_ML:
        return score
    fine = one.key in FINE
    if invented or n_found == 0:
        score["dice"] = score["surface_dice"] = 0.0
        score["surface_dice_fine"] = 0.0 if fine else None
        score["volume_error"] = None if invented else -1.0
        return score
    score["dice"] = 2 * int(np.count_nonzero(found & reference)) / (n_found + n_reference)
    distances = surface_distances(found, reference, geometry.spacing_zyx)
    if distances is not None:
        pooled = np.concatenate(distances)
        score["surface_dice"] = float((pooled <= TOLERANCE_MM).mean())
        score["surface_dice_fine"] = float((pooled <= FINE_MM).mean()) if fine else None
        score["hd95_mm"] = float(np.percentile(pooled, PERCENTILE))
    score["volume_error"] = n_found / n_reference - 1
    for key, image in images.items():
        if image is not None:
            score[key] = _relative(_mean(image, found), _mean(image, reference))  # type: ignore[literal-required]
    apart = _centroid(found, geometry.spacing_zyx) - _centroid(reference, geometry.spacing_zyx)
    score["centroid_mm"] = float(np.linalg.norm(apart))
    return score


def _mean(image: np.ndarray, mask: np.ndarray) -> float:
    return float(image[mask].mean(dtype=np.float64))


def _relative(value: float, reference: float) -> float | None:
    return value / reference - 1 if reference > 0 else None


def _centroid(mask: np.ndarray, spacing_zyx: Sequence[float]) -> np.ndarray:
    """(z, y, x) [mm] from the first voxel."""
    counts = [mask.sum(axis=tuple(a for a in range(3) if a != axis)) for axis in range(3)]
    return np.array([n @ np.arange(n.size) / n.sum() * s for n, s in zip(counts, spacing_zyx, strict=True)])


def _side_error(found: np.ndarray, reference: np.ndarray) -> float | None:
    crossed = paired = 0
    for one in classes():
        other = opposite(one)
        if one.side == MIDDLE or other is None:
            continue
        inside = reference == one.index
        paired += int(np.count_nonzero(inside))
        crossed += int(np.count_nonzero(inside & (found == other.index)))
    return crossed / paired if paired else None
