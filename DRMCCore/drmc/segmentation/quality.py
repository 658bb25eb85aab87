"""What a reader should know of labeled organs before their numbers are used.

A warning hides no number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from drmc.imaging.geometry import Geometry
from drmc.measures.organs import WHOLE, OrganRow
from drmc.measures.physiological import TRACERS, tracer_of
from drmc.measures.references import Reference
from drmc.organs.table import by_name, classes
from drmc.texts import shown

LIVER_FDG = (1.3, 3.0)
"""SUVmean of the liver with FDG (EANM)."""
BRIGHT_LUNGS = 0.8
"""Uptake of lung over liver above which a scan looks as without correction for attenuation."""
MOST_LIVER_VARIATION = 0.15
"""Coefficient of variation in the liver above which a scan is noisier than usual."""
MOST_BLADDER_SUV = 25.0
"""SUVmean of the bladder above which its uptake spills into what lies around it."""
COARSEST_MM = 6.0
"""Spacing above which small organs are lost."""
HEAD_MM = 100.0
"""Height of the field above the thyroid gland from which a brain should be in it."""
MOST_UNSURE = 0.1
"""Share of an organ in which the network may be unsure (`drmc.organs.certainty`) without a flag."""
NEIGHBORS_IN_Z = ("brain", "thyroid gland", "heart", "liver", "left kidney", "urinary bladder")
"""Organs from head to foot."""


def flag(
    rows: Sequence[OrganRow], at_edge: dict[str, bool], unsure: Mapping[str, float] | None = None
) -> None:
    """Sets the flags of the rows in place, several with semicolons.

    Args:
        rows: the organ table.
        at_edge: for each organ whether it reaches the first or the last slice.
        unsure: share of each organ in which the network is unsure; none without a network.
    """
    for row in rows:
        one, flags = by_name()[row["organ"]], []
        low, high = one.plausible_ml
        if at_edge.get(one.name):
            flags.append("cut by the end of the scan")
        elif row["volume_ml"] < low:
            flags.append(f"smaller than {low:g} ml")
        if row["volume_ml"] > high:
            flags.append(f"larger than {high:g} ml")
        share = (unsure or {}).get(one.name, 0.0)
        if row["stage"] == WHOLE and share > MOST_UNSURE:
            flags.append(f"the model is unsure in {100 * share:.0f} % of it")
        row["flags"] = "; ".join(flags)


def warnings_of(
    rows: Sequence[OrganRow], height_mm: dict[str, float], at_edge: dict[str, bool], has_suv: bool
) -> list[str]:
    """Warnings on the whole scan, one line each.

    Args:
        rows: the organ table.
        height_mm: z of the middle of each organ, toward the head.
        at_edge: for each organ whether it reaches the first or the last slice.
        has_suv: whether the image is SUV.
    """
    found = {row["organ"]: row for row in rows if row["stage"] == WHOLE}
    texts = []
    order = [name for name in NEIGHBORS_IN_Z if name in height_mm]
    for upper, lower in pairwise(order):
        if height_mm[upper] < height_mm[lower]:
            texts.append(f"the {upper} lies below the {lower}: are the slices in reverse order?")
            break
    liver, lungs = found.get("liver"), [found.get("left lung"), found.get("right lung")]
    if liver and all(lungs) and has_suv:
        bright = [lung["relative_mean"] for lung in lungs if lung and lung["relative_mean"] is not None]
        own = liver["relative_mean"]
        if own and len(bright) == 2 and sum(bright) / 2 > BRIGHT_LUNGS * own:
            texts.append(
                f"the lungs take up {sum(bright) / 2 / own:.2f} of the liver: the scan looks as without "
                "correction for attenuation, and its SUV would be wrong"
            )
    between = _missing_between(found, height_mm, at_edge)
    if between:
        texts.append(f"not found though the scan should hold them: {', '.join(between)}")
    return texts


def warnings_of_field(
    rows: Sequence[OrganRow], geometry: Geometry, height_mm: dict[str, float], tracer: str | None
) -> list[str]:
    """Warnings on what the scan is and how far it reaches, one line each.

    Args:
        rows: the organ table.
        geometry: the scan's grid.
        height_mm: z of the middle of each organ, toward the head.
        tracer: the header's text; None if it says nothing.
    """
    found = {row["organ"]: row for row in rows if row["stage"] == WHOLE}
    texts = []
    if max(geometry.spacing) > COARSEST_MM:
        texts.append(
            f"voxels of {max(geometry.spacing):.1f} mm, more than {COARSEST_MM:g} mm: small organs are lost"
        )
    last = np.array(geometry.shape[::-1]) - 1
    top = max((geometry.matrix @ [*end, 1.0])[2] for end in (np.zeros(3), last))
    if "thyroid gland" in found and "brain" not in found and top - height_mm["thyroid gland"] > HEAD_MM:
        reach = top - height_mm["thyroid gland"]
        texts.append(f"no brain was found, though the scan reaches {reach:.0f} mm above the thyroid gland")
    bladder = found.get("urinary bladder")
    if bladder and bladder["suv_mean"] is not None and bladder["suv_mean"] > MOST_BLADDER_SUV:
        texts.append(
            f"SUVmean {bladder['suv_mean']:.0f} of the bladder, more than {MOST_BLADDER_SUV:g}: it spills "
            "into the organs around it"
        )
    if tracer and tracer_of(tracer) is None:
        known = ", ".join(TRACERS)
        texts.append(f"tracer {shown(tracer)}: none of those that are known here ({known})")
    return texts


def warnings_of_liver(liver: Reference, tracer: str | None) -> list[str]:
    """Warnings on the liver's reference region.

    Args:
        liver: the region, on SUV.
        tracer: as `drmc.measures.physiological.tracer_of`.
    """
    texts = []
    low, high = LIVER_FDG
    if tracer == "FDG" and not low <= liver.mean <= high:
        texts.append(
            f"SUVmean {liver.mean:.2f} of the liver, {low:g} to {high:g} is usual with FDG: is the SUV "
            "right, the time after injection usual, all of the dose injected?"
        )
    if liver.variation is not None and liver.variation > MOST_LIVER_VARIATION:
        texts.append(
            f"the liver varies by {100 * liver.variation:.0f} %, more than "
            f"{100 * MOST_LIVER_VARIATION:.0f} %: noise raises SUVmax and thresholds by mean and SD"
        )
    return texts


def _missing_between(
    found: dict[str, OrganRow], height_mm: dict[str, float], at_edge: dict[str, bool]
) -> list[str]:
    """Large single organs that are missing although organs above and below them are whole."""
    order = ("brain", "heart", "liver", "spleen", "urinary bladder")
    missing = []
    for place, name in enumerate(order):
        above = any(other in found and not at_edge.get(other) for other in order[:place])
        below = any(other in found and not at_edge.get(other) for other in order[place + 1 :])
        if name not in found and above and below:
            missing.append(name)
    return [one.name for one in classes() if one.name in missing]
