"""The liver and the blood pool of a segmentation of organs, before and after denoising.

Regions as `drmc.measures.references` places them, on the original image; the same voxels on every image. What
is guessed without such a segmentation is not guessed here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from drmc.imaging.geometry import Geometry
from drmc.measures import mtv
from drmc.measures.references import LIVER, POOL, Reference, references_of
from drmc.organs.table import called
from drmc.pages.text import number
from drmc.segments.segment import Segment

TITLES = {
    LIVER: "liver (from the segmentation, sphere of 3 cm)",
    POOL: "blood pool (from the segmentation, cylinder of 1 cm x 2 cm in the aorta)",
}


def by_organ(organs: Sequence[Segment]) -> dict[str, Segment]:
    """The segments whose names are organs of `drmc.organs.table`, by its names; the first of equal ones."""
    found: dict[str, Segment] = {}
    for segment in organs:
        one = called(segment.name)
        if one is not None:
            found.setdefault(one.name, segment)
    return found


def regions(
    original: np.ndarray, geometry: Geometry, organs: Sequence[Segment], lesions: Sequence[Segment]
) -> dict[str, Reference]:
    """The reference regions, by LIVER and POOL, as far as the organs have room for them.

    Args:
        original: SUV (z, y, x).
        geometry: its grid.
        organs: segments on that grid.
        lesions: not in the regions, apart from those with the name of an organ.
    """
    leave_out = [one for one in lesions if called(one.name) is None]
    return references_of(original, geometry, by_organ(organs), leave_out)


def threshold(original: np.ndarray, found: Mapping[str, Reference]) -> float | None:
    """PERCIST's threshold by the liver's region [SUV]; None without one, or with a mean of 0 or less."""
    has_mean = LIVER in found and found[LIVER].mean > 0
    return mtv.percist_threshold(original, found[LIVER].segment) if has_mean else None


def liver_of(lesions: Sequence[Segment], organs: Sequence[Segment], name: str | None) -> Segment | None:
    """The liver among the lesions (`mtv.liver_of`), else that of the organs, if any.

    A scan of a batch may have no lesions, among which the name could be.

    Raises:
        InputError: no lesion has the name.
    """
    found = mtv.liver_of(lesions, name if lesions else None)
    return by_organ(organs).get("liver") if found is None else found


def record(found: Mapping[str, Reference], stages: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What summary.json says of the regions: place, and mean, standard deviation and variation by stage."""
    return {
        name: {"center_lps_mm": list(one.center_mm), "stages": _numbers(one, stages)}
        for name, one in found.items()
    }


def _numbers(one: Reference, stages: Mapping[str, np.ndarray]) -> dict[str, dict[str, float | None]]:
    numbers: dict[str, dict[str, float | None]] = {}
    for stage, image in stages.items():
        values = image[one.segment.box][one.segment.inside].astype(np.float64)
        mean, sd = float(values.mean()), float(values.std())
        numbers[stage] = {"suv_mean": mean, "suv_sd": sd, "variation": sd / mean if mean > 0 else None}
    return numbers


def sentences(found: Mapping[str, Any]) -> list[str]:
    """A sentence for each region of `record`: its mean and its variation, before and after."""
    texts = []
    for name, one in found.items():
        before, after = (one["stages"][stage] for stage in ("original", "denoised"))
        text = f"{TITLES[name]}: SUVmean {number(before['suv_mean'], 2)} before, "
        text += f"{number(after['suv_mean'], 2)} after"
        if before["variation"] is not None and after["variation"] is not None:
            parts = [f"{number(100 * stage['variation'], 1)} %" for stage in (before, after)]
            text += f"; coefficient of variation {parts[0]} before, {parts[1]} after"
        texts.append(text)
    return texts
