"""Which organs take up a tracer without disease, so that hot uptake in them is marked: a mark, no decision.

Brain, heart, kidneys and bladder count with 6 mm around them, as far as their uptake is seen beyond their
surface at the resolution of PET (assumed). Bones, lungs, prostate and adrenal glands are never marked, and
the liver only for tracers that it takes up strongly (`drmc.organs.table`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from drmc.imaging.distances import distance_from
from drmc.imaging.geometry import Geometry
from drmc.organs.table import OrganClass
from drmc.segments.segment import Segment

GROWN_MM = 6.0
_GROWN = ("brain", "heart", "left kidney", "right kidney", "urinary bladder")
_NAMES = (
    ("FDG", "fdg|deoxyglucose"),
    ("PSMA-11", "psma"),
    ("DOTATATE", r"dota-?(tate|toc|noc)|octreo|somatostatin"),
    ("FAPI", "fapi"),
)
DEFAULT = "FDG"
TRACERS = tuple(name for name, _pattern in _NAMES)


def tracer_of(text: str | None) -> str | None:
    """The tracer of the table of organs that a header's text means; None for any other or no text."""
    found = (name for name, pattern in _NAMES if re.search(pattern, text or "", re.IGNORECASE))
    return next(found, None)


def hot_organs(
    organs: Sequence[tuple[OrganClass, Segment]], geometry: Geometry, tracer: str | None
) -> tuple[list[Segment], list[str]]:
    """The organs in which uptake is marked, as segments that may overlap, and notices.

    Args:
        organs: what was found in the scan.
        geometry: its grid.
        tracer: what `tracer_of` gave.
    """
    used = tracer or DEFAULT
    notices = [] if tracer else [f"the tracer is not known: physiological uptake is marked as for {DEFAULT}"]
    found = [
        _grown(segment, geometry) if one.name in _GROWN else segment
        for one, segment in organs
        if used in one.tracers
    ]
    return found, notices


def _grown(segment: Segment, geometry: Geometry) -> Segment:
    """The segment with everything that lies within GROWN_MM of it."""
    reach = [int(GROWN_MM // step) + 1 for step in geometry.spacing_zyx]
    box = tuple(
        slice(max(0, part.start - n), min(size, part.stop + n))
        for part, n, size in zip(segment.box, reach, segment.shape, strict=True)
    )
    mask = segment.mask
    mask[box] |= distance_from(mask[box], geometry.rounded().spacing_zyx) <= GROWN_MM
    return Segment(segment.name, np.asarray(mask))
