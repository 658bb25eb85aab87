"""Metabolic tumor volumes by thresholds that do not follow the image.

Thresholds: SUV 2.5, SUV 4.0, 41 % of the original's SUVmax, and PERCIST's. The usual threshold, 41 % of the
SUVmax of the same image, falls with SUVmax. Denoising lowers SUVmax, so that the volume grows by definition
although no uptake has moved. Volumes in ml, TLG (volume times mean) in SUV x ml, over the voxels of the
segment at or above the threshold, 0 if there are none.

PERCIST (Wahl et al. 2009): 1.5 times the mean of the liver plus 2 of its standard deviations, here over the
segment that is the liver reference, on the original image, and the same on every image; in the SUV type of
the table (PERCIST means SUL).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from drmc.errors import InputError
from drmc.measures.rows import Quantity, ThresholdVolumes
from drmc.measures.suv_peak import edge_notes
from drmc.segments.segment import Segment

if TYPE_CHECKING:
    from drmc.imaging.geometry import Geometry

# Those whose threshold follows the SUVmax of the same image.
RELATIVE: tuple[Quantity, ...] = ("mtv41_ml", "tlg41")
FRACTION_OF_MAXIMUM = 0.41
LIVER = "liver"
MARK = "†"
EXPLANATION = (
    "the 41 % threshold follows SUVmax: when less noise makes SUVmax lower, the volume grows by definition; "
    "compare volumes at SUV 2.5 or 4.0, or at 41 % of the original's SUVmax"
)


def liver_of(segments: Iterable[Segment], name: str | None) -> Segment | None:
    """The liver reference among the segments: the one with this name, by default one called liver, if any.

    Raises:
        InputError: no segment has the name.
    """
    segments = list(segments)
    wanted = LIVER if name is None else name.strip().casefold()
    found = next((one for one in segments if one.name.strip().casefold() == wanted), None)
    if found is None and name is not None:
        names = ", ".join(one.name for one in segments[:8])
        raise InputError(f"liver reference {name}: no segment has this name: choose one of {names}")
    return found


def percist_threshold(suv_zyx: np.ndarray, liver: Segment) -> float:
    """1.5 times mean plus 2 standard deviations of the liver's voxels; SUV (z, y, x)."""
    values = suv_zyx[liver.box][liver.inside].astype(np.float64)
    return float(1.5 * values.mean() + 2.0 * values.std())


def volumes(
    suv_zyx: np.ndarray,
    segment: Segment,
    spacing_zyx: Sequence[float],
    original_max: float | None,
    percist: float | None,
) -> ThresholdVolumes:
    """Volumes and TLG of a segment on one image.

    Args:
        suv_zyx: the image, (z, y, x) [SUV].
        segment: the segment on its grid.
        spacing_zyx: voxel spacing [mm].
        original_max: SUVmax of the segment on the original.
        percist: PERCIST's threshold [SUV], None without a liver reference.
    """
    values = suv_zyx[segment.box][segment.inside].astype(np.float64)
    voxel_ml = float(np.prod(np.asarray(spacing_zyx, dtype=np.float64))) / 1000.0

    def above(threshold: float | None) -> tuple[float | None, float | None]:
        if threshold is None:
            return None, None
        hot = values[values >= threshold]
        return hot.size * voxel_ml, float(hot.sum()) * voxel_ml

    relative = FRACTION_OF_MAXIMUM * original_max if original_max is not None and original_max > 0 else None
    suv25, suv40, of_liver = above(2.5), above(4.0), above(percist)
    return {
        "mtv_suv25_ml": suv25[0],
        "tlg_suv25": suv25[1],
        "mtv_suv40_ml": suv40[0],
        "tlg_suv40": suv40[1],
        "mtv41_original_ml": above(relative)[0],
        "percist_threshold": percist,
        "mtv_percist_ml": of_liver[0],
        "tlg_percist": of_liver[1],
    }


def peak_notes(rows: Iterable[Mapping[str, Any]], geometry: Geometry) -> list[str]:
    """Notices on segments whose SUVpeak exceeds SUVmax, and on those where it leaves the SUVmax out.

    Args:
        rows: rows of the lesion table.
        geometry: the grid of its images.
    """
    rows = list(rows)
    names = dict.fromkeys(
        row["segment"]
        for row in rows
        if row["stage"] != "change_percent"
        and row.get("suv_peak") is not None
        and row.get("suv_max") is not None
        and row["suv_peak"] > row["suv_max"] * (1 + 1e-9)  # a mean of equal voxels is rounded
    )
    if not names:
        return edge_notes(rows, geometry)
    reason = (
        "correct by its rule, the sphere of 1 ml is centered in the segment but reaches out of it, into "
        "hotter voxels"
    )
    return [f"SUVpeak exceeds SUVmax in {', '.join(names)}: {reason}", *edge_notes(rows, geometry)]
