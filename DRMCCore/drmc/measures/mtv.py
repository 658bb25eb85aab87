"""Metabolic tumor volumes by thresholds that do not follow the image: SUV 2.5 and 4.0, 41 % of the original's SUVmax, PERCIST.

The usual threshold, 41 % of the SUVmax of the same image, falls with SUVmax. Denoising makes SUVmax lower, so that the volume grows
by definition although no uptake has moved. Volumes in ml, TLG (volume times mean) in SUV x ml; in the voxels of the segment
at or above the threshold, 0 where there are none.

PERCIST (Wahl et al. 2009): 1.5 times the mean of the liver plus 2 of its standard deviations, here over the segment that is the
liver reference, on the original, and on every image the same; in the SUV type of the table (PERCIST means SUL).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from drmc.errors import InputError
from drmc.segments.segment import Segment

FIXED = {"suv25": 2.5, "suv40": 4.0}  # SUV [g/ml]
QUANTITIES = (
    *("mtv_suv25_ml", "tlg_suv25", "mtv_suv40_ml", "tlg_suv40", "mtv41_original_ml"),
    *("percist_threshold", "mtv_percist_ml", "tlg_percist"),
)
RELATIVE = ("mtv41_ml", "tlg41")  # those whose threshold follows the SUVmax of the same image
FRACTION_OF_MAXIMUM = 0.41
LIVER = "liver"
MARK = "†"
EXPLANATION = (
    "the 41 % threshold follows SUVmax: when less noise makes SUVmax lower, the volume grows by definition; compare volumes at "
    "SUV 2.5 or 4.0, or at 41 % of the original's SUVmax"
)


def liver_of(segments: Iterable[Segment], name: str | None) -> Segment | None:
    """The liver reference among the segments: the one of this name, or one that is called liver.

    Raises InputError where a name is given and no segment has it.
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
) -> dict[str, float | None]:
    """A number or None under each of QUANTITIES.

    `suv_zyx`: one image in SUV (z, y, x); `spacing_zyx` mm; `original_max`: SUVmax of the segment on the original; `percist`: the
    threshold, None without a liver reference.
    """
    values = suv_zyx[segment.box][segment.inside].astype(np.float64)
    voxel_ml = float(np.prod(np.asarray(spacing_zyx, dtype=np.float64))) / 1000.0

    def above(threshold: float | None) -> tuple[float | None, float | None]:
        if threshold is None:
            return None, None
        hot = values[values >= threshold]
        return hot.size * voxel_ml, float(hot.sum()) * voxel_ml

    relative = FRACTION_OF_MAXIMUM * original_max if original_max is not None and original_max > 0 else None
    found: dict[str, float | None] = {}
    for name, threshold in FIXED.items():
        found[f"mtv_{name}_ml"], found[f"tlg_{name}"] = above(threshold)
    found["mtv41_original_ml"] = above(relative)[0]
    found["percist_threshold"] = percist
    found["mtv_percist_ml"], found["tlg_percist"] = above(percist)
    return found


def peak_notes(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """What is to be said where SUVpeak exceeds SUVmax, from rows of the lesion table; one line, or none."""
    names = dict.fromkeys(
        row["segment"]
        for row in rows
        if row["stage"] != "change_percent"
        and row.get("suv_peak") is not None
        and row.get("suv_max") is not None
        and row["suv_peak"] > row["suv_max"]
    )
    if not names:
        return []
    said = "right by its rule, the sphere of 1 ml is centered in the segment but reaches out of it, into hotter voxels"
    return [f"SUVpeak exceeds SUVmax in {', '.join(names)}: {said}"]
