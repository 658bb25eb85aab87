"""Training data: pairs of images on the 2 mm grid, and patches that follow from a counter alone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from drmc.body import body_mask
from drmc.dataset import SIDECAR, Case
from drmc.errors import InputError
from drmc.network import INPUT_SCALE
from drmc.resampling import resample_to_grid
from drmc.segments import read_segments
from drmc.volume import Geometry, stem


@dataclass
class Pair:
    """One low / full pair on the 2 mm grid, cropped to the body: SUV (z, y, x), and where patches may be centered."""

    case_id: str
    low: np.ndarray
    full: np.ndarray
    body: np.ndarray
    body_index: np.ndarray  # flat indices of body voxels
    hot_index: np.ndarray  # body voxels in ascending order of uptake's cumulated share
    hot_share: np.ndarray
    dose_reduction_factor: float | None = None
    lesions: tuple[np.ndarray, ...] = ()  # flat indices of each lesion's voxels, where they were asked for


def load_pair(
    case: Case, dose_reduction_factor: float, margin: int = 8, *, with_lesions: bool = False
) -> Pair:
    """Reads one pair, resamples it as inference does, and crops it to the body with `margin` voxels of air.

    `with_lesions` reads the case's lesions as well, if it has any, by nearest neighbor.
    """
    images = []
    for path in (case.low[dose_reduction_factor], case.full):
        volume = case.read(path)
        image, grid = resample_to_grid(volume.suv_array(), volume.geometry)
        images.append(image)
    low, full = images
    if low.shape != full.shape:
        raise InputError(
            f"case {case.case_id}: low and full dose differ in size ({low.shape} and {full.shape})"
        )
    body = body_mask(full, tuple(reversed(grid.spacing)))
    if not body.any():
        raise InputError(f"case {case.case_id}: no body found in {case.full}")
    occupied = [np.flatnonzero(body.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    box = tuple(slice(max(0, o[0] - margin), o[-1] + 1 + margin) for o in occupied)
    low, full, body = (np.ascontiguousarray(v[box], dtype=v.dtype) for v in (low, full, body))
    body_index = np.flatnonzero(body)
    # a coarse subset is enough to draw centers by uptake
    hot_index = body_index[::7]
    hot_share = np.cumsum(np.clip(full.ravel()[hot_index], 0, None).astype(np.float64))
    return Pair(
        case.case_id,
        low,
        full,
        body,
        body_index,
        hot_index,
        hot_share / hot_share[-1],
        dose_reduction_factor,
        _lesions(case, grid, box, full.shape) if with_lesions else (),
    )


def _lesions(
    case: Case, grid: Geometry, box: tuple[slice, ...], shape: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """Flat indices of each lesion's voxels in the part `box`, of `shape`, of the grid."""
    if case.lesions is None:
        return ()
    try:
        segments, _ = read_segments(case.lesions, grid)
    except InputError:  # a patient without a lesion in the field of view
        return ()
    found = []
    for segment in segments:
        places = [
            axis + part.start - cut.start
            for axis, part, cut in zip(np.nonzero(segment.inside), segment.box, box, strict=True)
        ]
        inside = np.all([(p >= 0) & (p < n) for p, n in zip(places, shape, strict=True)], axis=0)
        if inside.any():
            found.append(np.ravel_multi_index([p[inside] for p in places], shape))
    return tuple(found)


def fingerprint(*splits: dict[str, list[Case]]) -> str:
    """SHA-256 over what a run reads: its cases' entries in the manifest, and the content of their images and
    side-cars.

    Neither other cases of the dataset nor the place where it lies count.
    """
    digest = hashlib.sha256()
    for case in (case for split in splits for found in split.values() for case in found):
        entry = (case.case_id, case.patient, case.center, case.split, case.units)
        digest.update(repr(entry).encode())
        for name, image in case.doses():
            for path in (image, image.with_name(f"{stem(image)}.json"), image.with_name(SIDECAR)):
                if path.is_file():
                    digest.update(f"{name} {path.name} {path.stat().st_size}\n".encode())
                    with open(path, "rb") as file:
                        while chunk := file.read(1 << 20):
                            digest.update(chunk)
    return digest.hexdigest()


class PatchSampler:
    """Patches of step t follow from (seed, t, center, slot) alone: resuming and other world sizes see the same data."""

    def __init__(
        self,
        pairs: dict[str, list[Pair]],
        *,
        patch: int,
        seed: int,
        hot_fraction: float,
        scale_range: float,
        flips: bool = True,
        dose_mixing: float = 0.0,
        pooled: bool = False,
    ):
        """`pairs`: of every center of the run, empty where none is drawn; `pooled`: every slot draws from all."""
        self.pairs, self.patch, self.seed = pairs, patch, seed
        self.hot_fraction, self.scale_range, self.flips = hot_fraction, scale_range, flips
        self.dose_mixing = dose_mixing
        self.centers = list(pairs)
        self.pool = [pair for found in pairs.values() for pair in found] if pooled else None

    def draw(self, step: int, center: str, slot: int) -> tuple[np.ndarray, np.ndarray]:
        """(low, full) patches (patch, patch, patch) in network units, augmented by flips, turns, a common scale and doses between."""
        key = [self.seed, step, self.centers.index(center), slot]
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
        pairs = self.pool or self.pairs[center]
        pair = pairs[int(rng.integers(len(pairs)))]
        if rng.random() < self.hot_fraction:
            flat = pair.hot_index[int(np.searchsorted(pair.hot_share, rng.random()))]
        else:
            flat = pair.body_index[int(rng.integers(len(pair.body_index)))]
        middle = np.unravel_index(int(flat), pair.full.shape)
        jitter = rng.integers(-(self.patch // 4), self.patch // 4 + 1, 3)
        scale = np.float32(self.scale_range ** rng.uniform(-1, 1) / INPUT_SCALE)
        flips = tuple(int(axis) for axis in np.flatnonzero(rng.random(3) < 0.5))
        turn = bool(rng.random() < 0.5)
        if not self.flips:
            flips, turn = (), False
        patches = []
        for image in (pair.low, pair.full):
            cut = self._cut(image, np.add(middle, jitter)) * scale
            cut = np.flip(cut, flips)
            patches.append(np.ascontiguousarray(cut.swapaxes(1, 2) if turn else cut))
        low, full = patches
        if rng.random() < self.dose_mixing:
            # Low and full share their events, so that low = full + noise of its own; a part of that noise is what a
            # dose between the two has.
            low = full + np.float32(rng.random()) * (low - full)
        return low, full

    def _cut(self, image: np.ndarray, middle: np.ndarray) -> np.ndarray:
        starts = [
            int(np.clip(m - self.patch // 2, 0, max(0, n - self.patch)))
            for m, n in zip(middle, image.shape, strict=True)
        ]
        cut = image[tuple(slice(s, s + self.patch) for s in starts)]
        missing = [self.patch - n for n in cut.shape]
        if any(missing):  # an image smaller than a patch: mirrored, as inference pads it
            cut = np.pad(cut, [(m // 2, m - m // 2) for m in missing], mode="symmetric")
        return cut
