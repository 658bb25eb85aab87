"""The inside of the liver, in a label map, or in an FDG scan as the largest even region on the right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from drmc.errors import InputError
from drmc.imaging.body import body_mask
from drmc.imaging.smoothing import smooth
from drmc.organs.table import called
from drmc.segments.segment import Segment
from drmc.simulation.noise import eroded
from drmc.simulation.organs import organ_mask

LIVER_SUV = (1.0, 4.5)
SMOOTHING_MM = 8.0  # standard deviation: the liver's own noise must not cut it up
BAND = 0.25  # around the mode, relative
OPENING_MM = 12.0
MARGIN_MM = 8.0
SMALLEST_ML = 300.0
LESION_MARGIN_MM = 10.0
GUESSED = "guessed: the largest even region on the patient's right"
NOT_FOUND = "none: no even region on the patient's right is large enough"


def inside_liver(
    organs: torch.Tensor, lesions: np.ndarray, spacing_zyx: Sequence[float], margin_mm: float = MARGIN_MM
) -> np.ndarray:
    """The liver, `margin_mm` inside its surface and away from lesions.

    Args:
        organs: organ labels (z, y, x).
        lesions: bool (z, y, x).
        spacing_zyx: mm.
        margin_mm: depth below the surface.

    Returns:
        bool (z, y, x).
    """
    mask = organ_mask(organs, "liver").numpy()
    if margin_mm:
        mask = eroded(mask, spacing_zyx, margin_mm)
    if lesions.any():
        sigma = [LESION_MARGIN_MM / 2 / step for step in spacing_zyx]
        mask &= smooth(lesions, sigma).numpy() < 0.02
    return mask


def segmented(organs: Iterable[Segment], *names: str) -> np.ndarray | None:
    """The mask of the segments that are called so, bool (z, y, x); None without any.

    Args:
        organs: segments, such as those of `drmc segment`.
        *names: of organs, as in `drmc.organs.table`.
    """
    found = [one.mask for one in organs if (known := called(one.name)) is not None and known.name in names]
    return np.logical_or.reduce(found) if found else None


def liver_given(organs: Iterable[Segment], path: str) -> tuple[np.ndarray, str]:
    """The liver of a segmentation, and where it is from, in words.

    Args:
        organs: its segments.
        path: its file, for messages.

    Raises:
        InputError: no segment is the liver.
    """
    liver = segmented(organs, "liver")
    if liver is None:
        raise InputError(f"{path}: no segment is called liver: leave it out, and the liver is guessed")
    return liver, given_by(path)


def given_by(path: str | Path) -> str:
    """The words for organs of a file."""
    return f"from the segmentation {Path(path).name}"


def guessed_liver(suv_zyx: np.ndarray, spacing_zyx: Sequence[float]) -> tuple[np.ndarray, str]:
    """The inside of the liver as `find_liver` finds it, empty without one, and the words for it."""
    try:
        return find_liver(suv_zyx, spacing_zyx), GUESSED
    except InputError:
        return np.zeros(suv_zyx.shape, bool), NOT_FOUND


def find_liver(suv_zyx: np.ndarray, spacing_zyx: Sequence[float]) -> np.ndarray:
    """Finds the inside of the liver in an FDG scan.

    Rule: smooth by 8 mm; of the voxels on the right half of the body (by the body's own middle) with a
    smoothed SUV of 1.0 to 4.5 take the mode, weighting every value by how much of it lies deep inside even
    tissue; keep the band of +-25 % around it in the whole body; open by 12 mm; keep the largest part that
    reaches into the right half; erode by 8 mm.

    Args:
        suv_zyx: SUV (z, y, x) on axes to the patient's left, back and head (LPS).
        spacing_zyx: mm.

    Returns:
        bool (z, y, x).

    Raises:
        InputError: less than 300 ml is left before the erosion.
    """
    body = body_mask(suv_zyx, spacing_zyx)
    smoothed = smooth(suv_zyx, [SMOOTHING_MM / step for step in spacing_zyx]).numpy()
    columns = np.arange(suv_zyx.shape[2])[None, None]
    middle = (columns * body).sum() / max(1, body.sum())
    right = body & (columns < middle)
    steep = np.sqrt(sum(g**2 for g in np.gradient(smoothed, *spacing_zyx)))
    even = right & (smoothed > LIVER_SUV[0]) & (smoothed < LIVER_SUV[1]) & (steep < 0.02 * smoothed)
    mask = np.zeros_like(body)
    if even.any():
        counts, edges = np.histogram(smoothed[even], bins=70, range=LIVER_SUV)
        counts = np.convolve(counts, [1, 2, 3, 2, 1], "same")
        mode = float(edges[int(np.argmax(counts))] + (edges[1] - edges[0]) / 2)
        band = body & (np.abs(smoothed - mode) < BAND * mode)
        core = eroded(band, spacing_zyx, OPENING_MM)
        labels = sitk.GetArrayFromImage(
            sitk.ConnectedComponent(sitk.GetImageFromArray(core.astype(np.uint8)))
        )
        if labels.any():
            sizes = np.bincount(labels[right], minlength=labels.max() + 1)
            sizes[0] = 0
            mask = _dilated(labels == int(np.argmax(sizes)), spacing_zyx, OPENING_MM) & band
    volume = mask.sum() * float(np.prod(spacing_zyx)) / 1000.0
    if volume < SMALLEST_ML:
        raise InputError(
            f"no liver found: the largest even region on the patient's right has {volume:.0f} ml; "
            "give a whole-body FDG scan that holds the liver"
        )
    return eroded(mask, spacing_zyx, MARGIN_MM)


def _dilated(mask: np.ndarray, spacing_zyx: Sequence[float], margin_mm: float) -> np.ndarray:
    reach = [int(margin_mm / step) + 1 for step in spacing_zyx]
    padded = np.pad(mask, [(r, r) for r in reach])
    inner = tuple(slice(r, r + n) for r, n in zip(reach, mask.shape, strict=True))
    # outside the array counts as outside for an erosion; the complement needs a frame of its own
    frame = [(2 * r, 2 * r) for r in reach]
    wide = np.pad(padded, frame)
    grown = ~eroded(~wide, spacing_zyx, margin_mm)
    return grown[tuple(slice(2 * r, 2 * r + n) for r, n in zip(reach, padded.shape, strict=True))][inner]
