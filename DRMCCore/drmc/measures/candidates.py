"""Lesion candidates: parts of an image above a threshold, for a person to keep or discard.

Two thresholds:
- PERCIST 1.0 (Wahl et al., J Nucl Med 2009): 1.5 x mean + 2 SD of the liver, on SUL. A candidate has an
  SULpeak of at least the threshold, and consists of the connected voxels at or above it. SUL and SUV of one
  patient are proportional, and so is this threshold: the candidates are the same on any SUV type.
- A fixed SUV, 4.0 by default (Barrington and Meignan, J Nucl Med 2019, for FDG in lymphoma): the connected
  voxels at or above it.

Voxels are connected where they share a face. SUVpeak is that of `drmc.measures.suv_peak`. A candidate is
uptake, not a finding: brain, heart, kidneys and bladder, gut, muscles and inflammation are hot without any
lesion. Only where a segmentation of organs is given is a candidate named physiological; else each candidate
says that it may be.

Images (z, y, x) SUV, positions (x, y, z) in mm, LPS.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from drmc.errors import InputError
from drmc.measures import mtv
from drmc.measures.suv_peak import is_at_end, suv_peak
from drmc.segments.segment import Segment

if TYPE_CHECKING:
    from drmc.imaging.geometry import Geometry

FIXED_SUV = 4.0
LEAST_ML = 1.0
LIVER_SPHERE_MM = 30.0  # diameter of PERCIST's sphere in the right lobe
MOST = 500  # more candidates than this are noise
PHYSIOLOGICAL = ("brain", "heart", "kidney", "bladder")
INSIDE = 0.5  # share of a candidate's voxels in an organ, from which on it is that organ's uptake
MAY_BE = "may be physiological"


@dataclass(frozen=True)
class Threshold:
    """A threshold [SUV] and its origin: `method` "percist" or "fixed", the liver's mean and SD, if any.

    Where the liver cannot be the reference, the blood pool stands in its place, with another factor.
    """

    suv: float
    method: str
    liver: str | None = None
    liver_mean: float | None = None
    liver_sd: float | None = None
    factor: float = 1.5

    @property
    def uses_peak(self) -> bool:
        """Whether the SUVpeak of a candidate must reach the threshold, as PERCIST defines it."""
        return self.method == "percist"


@dataclass(frozen=True)
class Candidate:
    """One candidate: its segment, named after its rank and its note, and its numbers.

    Attributes:
        segment: the voxels, named for the lesion table.
        volume_ml: their volume.
        suv_peak: None if the sphere does not fit into the image.
        suv_max: largest voxel.
        suv_mean: mean of the voxels.
        position_mm: center of the hottest voxel, LPS.
        organ: the organ that the most of its voxels lie in, if organs were given and any do.
        organ_share: the share of its voxels in that organ.
        note: what is known of physiological uptake; "" for a candidate outside of the organs given.
    """

    segment: Segment
    volume_ml: float
    suv_peak: float | None
    suv_max: float
    suv_mean: float
    position_mm: tuple[float, float, float]
    organ: str | None
    organ_share: float
    note: str

    @property
    def is_physiological(self) -> bool:
        """Whether at least half of it lies in one organ with physiological uptake."""
        return self.organ_share >= INSIDE

    @property
    def tlg(self) -> float:
        """Volume times mean [SUV x ml]."""
        return self.volume_ml * self.suv_mean


def fixed_threshold(suv: float = FIXED_SUV) -> Threshold:
    """The same threshold in every scan.

    Raises:
        InputError: it is not positive.
    """
    if not suv > 0 or not np.isfinite(suv):
        raise InputError(f"threshold {suv:g}: must be an SUV above 0")
    return Threshold(float(suv), "fixed")


def percist_threshold(suv_zyx: np.ndarray, liver: Segment) -> Threshold:
    """PERCIST's threshold of the liver, or of a sphere in it.

    Raises:
        InputError: the liver's mean is not above 0.
    """
    values = suv_zyx[liver.box][liver.inside].astype(np.float64)
    if not values.mean() > 0:
        raise InputError(f"liver reference {liver.name}: its mean SUV is {values.mean():.3g}: is it liver?")
    return Threshold(
        mtv.percist_threshold(suv_zyx, liver),
        "percist",
        liver.name,
        float(values.mean()),
        float(values.std()),
    )


def liver_sphere(geometry: Geometry, center_mm: Sequence[float]) -> Segment:
    """PERCIST's sphere of 3 cm around a point (x, y, z) in mm, LPS: the voxels whose centers lie in it.

    Raises:
        InputError: the sphere reaches out of the image.
    """
    center = np.asarray(center_mm, dtype=float)
    direction = np.reshape(geometry.direction, (3, 3))
    index = (direction.T @ (center - np.asarray(geometry.origin)) / np.asarray(geometry.spacing))[::-1]
    spacing, radius = np.asarray(geometry.spacing_zyx), LIVER_SPHERE_MM / 2
    reach = radius / spacing
    if (index - reach < -0.5).any() or (index + reach > np.asarray(geometry.shape) - 0.5).any():
        place = ", ".join(f"{one:g}" for one in center)
        raise InputError(f"liver sphere at ({place}) mm LPS: reaches out of the image: choose another point")
    offsets = np.ogrid[tuple(slice(0, n) for n in geometry.shape)]
    squares = [((axis - at) * step) ** 2 for axis, at, step in zip(offsets, index, spacing, strict=True)]
    return Segment("liver sphere", squares[0] + squares[1] + squares[2] <= radius**2)


def find_candidates(
    suv_zyx: np.ndarray,
    geometry: Geometry,
    threshold: Threshold,
    *,
    least_ml: float = LEAST_ML,
    organs: Sequence[Segment] | None = None,
    hot: Sequence[Segment] | None = None,
) -> tuple[list[Candidate], list[str]]:
    """The candidates of an image, hottest SUVpeak first, and notices.

    Args:
        suv_zyx: the image [SUV].
        geometry: its grid.
        threshold: which voxels count.
        least_ml: smaller candidates are left out.
        organs: segments on this grid, among them the ones with physiological uptake; None without any.
        hot: those with physiological uptake, where the caller knows them; None: by the names of `organs`.

    Raises:
        InputError: there are more than 500, or the least volume is negative.
    """
    if not least_ml >= 0:
        raise InputError(f"minimum volume {least_ml:g} ml: must not be negative")
    geometry = geometry.rounded()
    suv = np.asarray(suv_zyx)
    found = []
    unmeasured = 0
    for segment in _components(suv, geometry, threshold.suv, least_ml):
        peak = suv_peak(suv, segment, geometry.spacing_zyx)
        if threshold.uses_peak and (peak is None or peak < threshold.suv):
            unmeasured += peak is None or is_at_end(_hottest(suv, segment), geometry)
            continue
        found.append((segment, peak))
    values = [float(suv[segment.box][segment.inside].max()) for segment, _ in found]
    order = sorted(range(len(found)), key=lambda n: (-(found[n][1] or 0.0), -values[n], n))
    if hot is None and organs is not None:
        hot = [organ for organ in organs if is_physiological(organ.name)]
    candidates = [
        _candidate(suv, geometry, *found[number], rank, hot) for rank, number in enumerate(order, 1)
    ]
    return candidates, _notices(unmeasured, bool(candidates), organs)


def _notices(unmeasured: int, any_found: bool, organs: Sequence[Segment] | None) -> list[str]:
    notices = []
    if unmeasured:
        notices.append(f"{unmeasured} left out: their SUVpeak cannot be measured so near to the image's edge")
    if any_found and organs is None:
        notices.append(
            "no segmentation of organs was given, so that every candidate may be physiological uptake"
        )
    elif organs is not None:
        names = [_words(organ.name) for organ in organs]
        missing = [kind for kind in PHYSIOLOGICAL if not any(_is_kind(words, kind) for words in names)]
        if missing:
            notices.append(
                f"the organs given have no {', '.join(missing)}: uptake there is not marked as physiological"
            )
    return notices


def _components(suv: np.ndarray, geometry: Geometry, threshold: float, least_ml: float) -> list[Segment]:
    """The connected parts at or above a threshold that are large enough, as segments without a name."""
    labels = sitk.ConnectedComponent(sitk.GetImageFromArray((suv >= threshold).astype(np.uint8)))
    array = sitk.GetArrayViewFromImage(labels)
    counts = np.bincount(array.ravel())
    least_voxels = least_ml / geometry.voxel_ml * (1 - 1e-9)
    kept = [label for label in range(1, len(counts)) if counts[label] >= least_voxels]
    if len(kept) > MOST:
        raise InputError(
            f"{len(kept)} candidates above SUV {threshold:.3g}: these are noise, not lesions: choose a "
            "higher --threshold or --min-volume, or denoise the scan first"
        )
    shape = sitk.LabelShapeStatisticsImageFilter()
    if kept:
        shape.Execute(labels)
    segments = []
    for label in kept:
        x, y, z, width, height, depth = shape.GetBoundingBox(label)
        box = (slice(z, z + depth), slice(y, y + height), slice(x, x + width))
        mask = np.zeros(suv.shape, dtype=bool)
        mask[box] = array[box] == label
        segments.append(Segment("candidate", mask))
    return segments


def _candidate(
    suv: np.ndarray,
    geometry: Geometry,
    segment: Segment,
    peak: float | None,
    rank: int,
    hot: Sequence[Segment] | None,
) -> Candidate:
    values = suv[segment.box][segment.inside].astype(np.float64)
    x, y, z = (geometry.matrix[:3, :3] @ _hottest(suv, segment)[::-1] + geometry.matrix[:3, 3]).tolist()
    organ, share = mark(segment, hot or ())
    note = MAY_BE if hot is None else note_of(organ, share)
    segment.name = f"candidate {rank}" + (f" ({note})" if note else "")
    return Candidate(
        segment,
        values.size * geometry.voxel_ml,
        peak,
        float(values.max()),
        float(values.mean()),
        (x, y, z),
        organ,
        share,
        note,
    )


def _hottest(suv: np.ndarray, segment: Segment) -> np.ndarray:
    """Index (z, y, x) of a segment's hottest voxel."""
    inside = np.where(segment.inside, suv[segment.box], -np.inf)
    return np.unravel_index(int(inside.argmax()), inside.shape) + np.array([p.start for p in segment.box])


def mark(segment: Segment, hot: Sequence[Segment]) -> tuple[str | None, float]:
    """The organ that the most of a segment's voxels lie in, None without one, and the share of them.

    Args:
        segment: a candidate or a lesion.
        hot: organs with physiological uptake, on the same grid; they may overlap.
    """
    shares = {organ.name: _share(segment, organ) for organ in hot}
    organ = max(shares, key=lambda name: shares[name], default=None)
    return (organ, shares[organ]) if organ is not None and shares[organ] > 0 else (None, 0.0)


def note_of(organ: str | None, share: float) -> str:
    """What `mark` has found in words; empty for a segment outside of the organs."""
    if organ is None:
        return ""
    return f"{'physiological, ' if share >= INSIDE else ''}{100 * share:.0f} % in {organ}"


def _share(segment: Segment, organ: Segment) -> float:
    """The share of a segment's voxels that lie in an organ."""
    common = [
        (max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(segment.box, organ.box, strict=True)
    ]
    if any(low >= high for low, high in common):
        return 0.0
    parts = [
        one.inside[
            tuple(
                slice(low - p.start, high - p.start) for (low, high), p in zip(common, one.box, strict=True)
            )
        ]
        for one in (segment, organ)
    ]
    return int(np.count_nonzero(parts[0] & parts[1])) / segment.voxels


def is_physiological(name: str) -> bool:
    """Whether a segment's name is that of an organ with physiological uptake, such as kidney_left."""
    return any(_is_kind(_words(name), kind) for kind in PHYSIOLOGICAL)


def _words(name: str) -> list[str]:
    return [word.removesuffix("s") for word in re.findall("[a-z]+", name.casefold())]


def _is_kind(words: Sequence[str], kind: str) -> bool:
    if kind == "bladder":
        return any(word == "bladder" and words[max(0, at - 1)] != "gall" for at, word in enumerate(words))
    return kind in words or (kind == "heart" and "myocardium" in words)
