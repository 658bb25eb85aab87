"""The window in which an image in SUV is shown: from 0 to what is usual for its tracer."""

from __future__ import annotations

import re

DEFAULT_WINDOW = 7.0  # SUV at the upper end: of FDG, and of tracers that are not known
BRAIN_WINDOW = 12.0  # of a head alone
WINDOWS = (5.0, 7.0, 10.0, 15.0)  # that are at hand
_WINDOW_OF_TRACER = (  # pattern of the name, SUV at the upper end
    (r"dota|tate\b|toc\b|noc\b", 15.0),
    (r"psma|dcfpyl|fapi", 10.0),
    (r"flt\b|fluorothymidine|choline|fluciclovine", 10.0),
    (r"fet\b|fluoroethyl|dopa|florbeta|flutemeta|amyloid|water|ammonia", 5.0),
)


def window_of_tracer(tracer: str | None) -> float:
    """SUV at the upper end of the window that is usual for a tracer, by its name in a header."""
    for pattern, top in _WINDOW_OF_TRACER:
        if re.search(pattern, tracer or "", re.IGNORECASE):
            return top
    return DEFAULT_WINDOW


def window_of_uptake(median: float) -> float:
    """SUV at the upper end for FDG, by the median of what takes up more than SUV 1.

    The gray matter of a brain has 5 to 10, the hot half of a body 1 to 2.
    """
    return BRAIN_WINDOW if median > 3 else DEFAULT_WINDOW
