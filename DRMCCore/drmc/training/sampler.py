"""Training patches that are determined by a counter alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from drmc.networks.protocol import INPUT_SCALE
from drmc.training.pairs import Pair
from drmc.training.virtual_spots import VirtualSpots, draw_spots, noise_factor

_Cut = Callable[[np.ndarray], np.ndarray]  # an image to the same patch of each
_COMMON_NOISE, _LEAST_NOISE = 0.02, 0.002  # SUV / 20, RMS of a patch
TARGETS = ("full", "noise_free", "expected_full")


class Patch(NamedTuple):
    """Cubes (z, y, x) of equal size, in network units (SUV / 20).

    Attributes:
        low: what the network sees.
        target: what it is to return.
        weight: each voxel's weight in the loss, None: 1.
    """

    low: np.ndarray
    target: np.ndarray
    weight: np.ndarray | None = None


class PatchSampler:
    """Draws patches; those of step t are determined by (seed, t, center, slot) alone.

    So a resumed run and other numbers of processes see the same data.

    A target is "full", the measured full dose; "noise_free", the expected value of its measurement; or
    "expected_full", the expected full dose given this very low dose, noise_free + (low - noise_free) / dose
    reduction factor, since the events of the low dose are a part of those of the full dose. A network learns
    the same from it as from "full", whose noise it would have to average out.
    """

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
        target: str = "full",
        lesion_weight: float = 1.0,
        spots: float = 0.0,
        noise_balance: float = 0.0,
        faint_weight: float = 4.0,
    ):
        """Prepares the draws.

        Args:
            pairs: of every center of the run, empty for centers without draws.
            patch: edge of a patch in voxels.
            seed: of all draws.
            hot_fraction: share of patches centered by uptake.
            scale_range: largest random factor on a patch.
            flips: whether patches are flipped and turned.
            dose_mixing: share of patches with an input between low and full dose.
            pooled: whether every slot draws from the patients of all centers.
            target: one of `TARGETS`.
            lesion_weight: weight of lesions and their neighbors in the loss.
            spots: share of patches with virtual spots, which weigh as lesions, faint ones more.
            noise_balance: exponent of a patch's noise by which its loss is divided.
            faint_weight: weight of faint spots, see `draw_spots`.
        """
        self.pairs, self.patch, self.seed = pairs, patch, seed
        self.hot_fraction, self.scale_range, self.flips = hot_fraction, scale_range, flips
        self.dose_mixing, self.target, self.lesion_weight = dose_mixing, target, lesion_weight
        self.spots, self.noise_balance, self.faint_weight = spots, noise_balance, faint_weight
        self.centers = list(pairs)
        self.pool = [pair for found in pairs.values() for pair in found] if pooled else None

    def draw(self, step: int, center: str, slot: int) -> Patch:
        """One patch, augmented by flips, turns, a common scale, and doses between low and full.

        Raises:
            ValueError: the pair was read without what target or weights need.
        """
        key = [self.seed, step, self.centers.index(center), slot]
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
        pairs = self.pool or self.pairs[center]
        pair = pairs[int(rng.integers(len(pairs)))]
        if rng.random() < self.hot_fraction:
            flat = pair.hot_index[int(np.searchsorted(pair.hot_share, rng.random()))]
        else:
            flat = pair.body_index[int(rng.integers(len(pair.body_index)))]
        middle = np.unravel_index(int(flat), pair.full.shape)
        place = np.add(middle, rng.integers(-(self.patch // 4), self.patch // 4 + 1, 3))
        scale = np.float32(self.scale_range ** rng.uniform(-1, 1) / INPUT_SCALE)
        flips = tuple(int(axis) for axis in np.flatnonzero(rng.random(3) < 0.5))
        turn = bool(rng.random() < 0.5)
        if not self.flips:
            flips, turn = (), False

        def patch_of(image: np.ndarray) -> np.ndarray:
            cut = np.flip(self._cut(image, place), flips)
            return np.ascontiguousarray(cut.swapaxes(1, 2) if turn else cut)

        images = _Images(pair, patch_of)
        if rng.random() < self.dose_mixing:
            images.mix(rng.random())
        counts = self._lesions(pair, patch_of)
        if self.spots and rng.random() < self.spots:
            spots = draw_spots(rng, images.surroundings, pair.spacing_zyx, self.faint_weight)
            images.add(spots)
            counts = None if counts is None else np.maximum(counts, spots.weight)
        low, target = images.low * scale, images.target(self.target) * scale
        return Patch(low, target, self._weight(counts, low - target))

    def _weight(self, counts: np.ndarray | None, noise: np.ndarray) -> np.ndarray | None:
        """The weight of each voxel: that of the patch, `counts` times that of lesions where it is not 0."""
        if counts is None and not self.noise_balance:
            return None
        weight = np.ones(noise.shape, np.float32)
        if counts is not None:
            weight = np.where(counts > 0, counts * np.float32(self.lesion_weight), weight)
        if self.noise_balance:
            level = max(float(np.sqrt(np.mean(np.square(noise, dtype=np.float64)))), _LEAST_NOISE)
            weight *= np.float32((_COMMON_NOISE / level) ** self.noise_balance)
        return weight

    def _lesions(self, pair: Pair, patch_of: _Cut) -> np.ndarray | None:
        """1 where there is a lesion, else 0; None if lesions weigh no more than the rest."""
        if self.lesion_weight == 1:
            return None
        if pair.lesion_mask is None:
            raise ValueError(f"{pair.case_id}: read without lesions, which lesion_weight needs")
        return patch_of(pair.lesion_mask).astype(np.float32)

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


class _Images:
    """The images of one patch in SUV."""

    def __init__(self, pair: Pair, patch_of: _Cut):
        self.case_id, self.dose_reduction_factor = pair.case_id, pair.dose_reduction_factor
        self.low, self.full = patch_of(pair.low), patch_of(pair.full)
        self.noise_free = None if pair.noise_free is None else patch_of(pair.noise_free)

    @property
    def surroundings(self) -> np.ndarray:
        """The image with the least noise."""
        return self.full if self.noise_free is None else self.noise_free

    def mix(self, position: float) -> None:
        """Brings the low dose nearer to the full: D^position takes the place of the dose reduction factor D.

        If that is not known, `position` is the share of the low dose.
        """
        share, known = position, self.dose_reduction_factor
        if known is not None and known > 1:
            self.dose_reduction_factor = known**position
            # Low and full dose share events: low = full + independent noise, D - 1 times as strong as full's.
            share = np.sqrt((self.dose_reduction_factor - 1) / (known - 1))
        self.low = self.full + np.float32(share) * (self.low - self.full)

    def add(self, spots: VirtualSpots) -> None:
        """Puts virtual spots into all images, with their noise if the image without noise is known."""
        if self.noise_free is None:
            self.low, self.full = self.low + spots.uptake, self.full + spots.uptake
            return
        factor, expected = noise_factor(spots, self.noise_free), self.noise_free + spots.uptake
        self.low, self.full = (
            expected + factor * (image - self.noise_free) for image in (self.low, self.full)
        )
        self.noise_free = expected

    def target(self, kind: str) -> np.ndarray:
        """What the network is to return, one of `TARGETS`."""
        if kind == "full":
            return self.full
        if self.noise_free is None:
            raise ValueError(f"{self.case_id}: read without the image without noise, which the target needs")
        if kind == "noise_free":
            return self.noise_free
        return self.noise_free + (self.low - self.noise_free) / np.float32(self.dose_reduction_factor)
