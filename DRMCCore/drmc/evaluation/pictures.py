"""Small pictures of a patient for the report: a projection and a slice from the front."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from drmc.pages.colors import inverted_gray
from drmc.pages.png import data_uri
from drmc.pages.views import anatomical_spacing, extent, resized, to_anatomical, uptake_center
from drmc.pages.windows import window_of_uptake

if TYPE_CHECKING:
    from drmc.evaluation.measures import Pair

VIEWS = ("projection", "slice")
_TALLEST, _FINEST_MM = 300, 1.5


def pictures(image: np.ndarray, pair: Pair) -> dict[str, str]:
    """Coronal projection and slice through the center of the full dose's uptake, cut to the body.

    Head up, patient's right on the left, square pixels, inverted gray on one scale for all images of the
    patient; as data addresses under `VIEWS`.
    """
    direction = pair.geometry.direction
    spacing = anatomical_spacing(pair.geometry.spacing_zyx, direction)
    turned = lambda array: to_anatomical(array, direction)
    body = turned(pair.body)
    box = tuple(extent(body, axis, spacing[axis]) for axis in range(3))
    full, shown = turned(pair.full)[box], turned(image)[box]
    through = uptake_center(full)[1]
    hot = full[full > 1]
    top = window_of_uptake(float(np.median(hot)) if hot.size else 0.0)
    step = max(_FINEST_MM, full.shape[0] * spacing[0] / _TALLEST)
    views = (shown.max(axis=1), shown[:, through])
    return {
        name: data_uri(inverted_gray(resized(view, (spacing[0], spacing[2]), step), top))
        for name, view in zip(VIEWS, views, strict=True)
    }
