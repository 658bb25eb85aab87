"""The report's images: projections and slices of original, denoised and residual, with their scales."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from drmc.pages import views
from drmc.pages.colors import OUTLINE, css_color, diverging_color, inverted_gray, nice_top
from drmc.pages.png import data_uri
from drmc.pages.views import anatomical_spacing, outline, to_anatomical, uptake_center
from drmc.pages.windows import window_of_tracer

if TYPE_CHECKING:
    from drmc.imaging.geometry import Geometry
    from drmc.segments.segment import Segment

_WIDER_TOPS = (10.0, 15.0, 20.0, 30.0, 50.0)
_PANEL_HEIGHT = 560  # largest height on the page, pixels
_PANEL_WIDTH = 330


def figures_html(
    original_suv: np.ndarray,
    denoised_suv: np.ndarray,
    geometry: Geometry,
    segments: Sequence[Segment] | None = None,
    tracer: str | None = None,
) -> str:
    """Rows of three panels: maximum-intensity projections, then slices, each original, denoised and residual.

    Coronal projections, coronal and axial slices; for a scan that is too flat for a coronal view (a few
    slices) only axial ones. Gray is inverted, from 0 to the SUV that is usual for the tracer (wider if
    most of the image is above, as in the brain).

    Args:
        original_suv: SUV (z, y, x) on `geometry`.
        denoised_suv: as `original_suv`.
        geometry: the grid of the scan.
        segments: the lesions, outlined on the slices.
        tracer: its name in the header.
    """
    original = to_anatomical(np.asarray(original_suv), geometry.direction)
    denoised = to_anatomical(np.asarray(denoised_suv), geometry.direction)
    spacing = anatomical_spacing(geometry.spacing_zyx, geometry.direction)
    residual = denoised.astype(np.float32) - original.astype(np.float32)
    extent = [count * step for count, step in zip(original.shape, spacing, strict=True)]
    flat = extent[0] < 0.2 * max(extent[1], extent[2])
    axis, view = (0, "Axial") if flat else (1, "Coronal")

    projection = original.max(axis=axis)
    gray_top = _gray_top(projection, window_of_tracer(tracer))
    parts = []
    projected = original.shape[axis] > 1
    if projected:
        strongest = views.strongest(residual, axis)
        residual_top = _residual_top(strongest)
        parts += [
            f"<h3>{view} maximum-intensity projections</h3>",
            _trio(
                inverted_gray(projection, gray_top),
                inverted_gray(denoised.max(axis=axis), gray_top),
                diverging_color(strongest, residual_top),
                _aspect(extent, axis),
                "strongest along each ray",
            ),
            _bars(gray_top, residual_top),
        ]
    marks = _marks(segments, geometry, original)
    point, where = _point(original, marks)
    slice_top = _residual_top(residual[:, point[1]] if not flat else residual[point[0]])
    for axis, view in ((0, "Axial"),) if flat else ((1, "Coronal"), (0, "Axial")):
        mask = None if marks is None else np.take(marks, point[axis], axis=axis)
        parts.append(f"<h3>{view} slice {escape(where)}</h3>")
        parts.append(
            _trio(
                _marked(inverted_gray(np.take(original, point[axis], axis=axis), gray_top), mask),
                _marked(inverted_gray(np.take(denoised, point[axis], axis=axis), gray_top), mask),
                _marked(diverging_color(np.take(residual, point[axis], axis=axis), slice_top), mask),
                _aspect(extent, axis),
                "denoised − original",
            )
        )
    parts.append(_bars(gray_top, slice_top))
    parts.append(_note(flat, projected, marks is not None, bool(residual.any())))
    return "".join(parts)


def _note(flat: bool, projected: bool, marked: bool, changed: bool) -> str:
    return (
        '<p class="note">Original and denoised on one scale. The residual is what was added: blue where '
        "uptake was lowered, red where it was raised, white where nothing changed"
        + (
            "; its projection shows the largest change along each ray and so looks noisier than a slice"
            * projected
        )
        + ". Patient’s right (R) on the left of the picture"
        + ("" if flat else ", head up")
        + "; true proportions."
        + (" Orange: outlines of the lesions." if marked else "")
        + ("" if changed else " The residual is 0 everywhere.")
        + "</p>"
    )


def _gray_top(projection: np.ndarray, usual: float) -> float:
    body = projection[projection > 0.5]
    if body.size == 0 or float(np.median(body)) <= 0.75 * usual:
        return usual
    high = float(np.percentile(body, 95))
    return next((top for top in _WIDER_TOPS if top >= max(high, usual)), nice_top(high))


def _residual_top(residual: np.ndarray) -> float:
    size = np.abs(residual[residual != 0])
    return nice_top(float(np.percentile(size, 99))) if size.size else 1.0


def _marks(segments: Sequence[Segment] | None, geometry: Geometry, like: np.ndarray) -> np.ndarray | None:
    if not segments:
        return None
    marks = np.zeros(geometry.shape, dtype=bool)
    for segment in segments:
        marks[segment.box] |= segment.inside
    return to_anatomical(marks, geometry.direction)


def _point(original: np.ndarray, marks: np.ndarray | None) -> tuple[tuple[int, int, int], str]:
    """The voxel of the slices and its description: the hottest lesion voxel, or the center of the uptake."""
    if marks is not None:
        hottest = np.argmax(np.where(marks, original, -np.inf))
        z, y, x = (int(i) for i in np.unravel_index(hottest, original.shape))
        return (z, y, x), "through the hottest lesion voxel"
    where = "through the center of the uptake" if (original > 0).any() else "through the center of the image"
    z, y, x = uptake_center(original)
    return (z, y, x), where


def _marked(pixels: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    if mask is None or not mask.any():
        return pixels
    color = np.repeat(pixels[..., None], 3, axis=-1) if pixels.ndim == 2 else pixels.copy()
    color[outline(mask)] = OUTLINE
    return color


def _aspect(extent: Sequence[float], axis: int) -> float:
    """Width over height of the view across `axis`."""
    return extent[2] / (extent[0] if axis == 1 else extent[1])


def _trio(
    original: np.ndarray, denoised: np.ndarray, residual: np.ndarray, aspect: float, residual_kind: str
) -> str:
    width = max(40, round(min(_PANEL_WIDTH, _PANEL_HEIGHT * aspect)))
    panels = []
    for name, kind, pixels in (
        ("Original", "", original),
        ("Denoised", "", denoised),
        ("Residual", f" ({residual_kind})", residual),
    ):
        panels.append(
            f'<figure class="panel"><figcaption><b>{name}</b>{kind}</figcaption><div class="frame" '
            f'style="max-width:{width}px;aspect-ratio:{aspect:.5f}"><img alt="{name}" '
            f'src="{data_uri(pixels)}"><span class="side left">R</span><span class="side '
            'right">L</span></div></figure>'
        )
    return f'<div class="trio">{"".join(panels)}</div>'


def _bars(gray_top: float, residual_top: float) -> str:
    levels = np.linspace(-1.0, 1.0, 9)
    colors = ", ".join(css_color(color) for color in diverging_color(levels, 1.0).tolist())
    return (
        '<div class="bars"><div class="bar"><span>0</span><span class="ramp" '
        f'style="background:linear-gradient(to right, #fff, #000)"></span><span>≥ {gray_top:g}</span><span '
        f'class="name">SUV [g/ml]</span></div><div class="bar"><span>≤ −{residual_top:g}</span><span '
        f'class="ramp" style="background:linear-gradient(to right, {colors})"></span><span>≥ '
        f'+{residual_top:g}</span><span class="name">residual, SUV [g/ml]</span></div></div>'
    )
