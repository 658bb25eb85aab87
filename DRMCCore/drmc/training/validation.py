"""Validation during a training: held-out pairs, measured in a few tiles of high uptake.

Everything that does not depend on the network (the tiles, the scores of the low dose and of the best Gaussian
filter in them) is computed once per run. Arrays are (z, y, x), SUV.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from drmc.errors import InputError
from drmc.imaging.smoothing import FWHM_PER_SIGMA, smooth
from drmc.inference.tiles import halo_width, overlap_width
from drmc.measures.metrics import SUV_RANGE, nrmse, psnr, share_of_attainable
from drmc.networks.protocol import INPUT_SCALE, ResidualNetwork
from drmc.training.held_out_tiles import choose_boxes, inner_part, lead, part_of_lesion
from drmc.training.pairs import Pair

if TYPE_CHECKING:
    from drmc.training.config import TrainingConfig

# full width at half maximum
WIDTHS_MM = 2.0, 3.0, 4.0, 4.5, 5.0, 5.5, 6.0, 6.5, 7.0, 7.5, 8.0, 9.0, 10.0, 12.0, 14.0


@dataclass
class _Region:
    """One tile of a pair: what the network gets, and the inner part of it that is measured."""

    low_DHW: torch.Tensor  # network units, mirrored beyond the image as in inference
    kept: tuple[slice, ...]  # the inner part in the tile
    place: tuple[slice, ...]  # and in the image
    body: np.ndarray
    low: np.ndarray
    full: np.ndarray
    lesions: list[np.ndarray]  # flat indices into the inner part, of lesions at least half inside


@dataclass
class _HeldOut:
    """The regions of one pair."""

    dose_reduction_factor: float | None
    regions: list[_Region]

    def scores(self, estimates: Sequence[np.ndarray]) -> dict[str, float]:
        """psnr, nrmse, b_mean and b_max of estimates of the regions' inner parts; NaN without a lesion."""
        body = lambda images: np.concatenate([v[r.body] for v, r in zip(images, self.regions, strict=True)])
        estimate, full = body(estimates), body([region.full for region in self.regions])
        biases: dict[str, list[float]] = {"b_mean": [], "b_max": []}
        for values, region in zip(estimates, self.regions, strict=True):
            for index in region.lesions:
                for key, statistic in (("b_mean", np.mean), ("b_max", np.max)):
                    found, truth = (
                        float(statistic(v.ravel()[index].astype(np.float64))) for v in (values, region.full)
                    )
                    if truth > 0:
                        biases[key].append(abs(found - truth) / truth)
        return {
            "psnr": psnr(estimate, full, data_range=SUV_RANGE),
            "nrmse": nrmse(estimate, full),
            **{key: float(np.mean(values)) if values else math.nan for key, values in biases.items()},
        }


class Validation:
    """Held-out pairs of several centers, on which any network can be measured.

    Per pair there are the tile that contains most lesions, the `validation_tiles` ones of greatest full-dose
    uptake beside it, and one of ordinary tissue (`drmc.training.held_out_tiles`). Only their inner parts
    count, without the voxels that inference does not use or the loss leaves out, and they do not overlap:
    nothing is blended, and the network's zero padding has no influence.
    """

    def __init__(self, held_out: Mapping[str, Sequence[Pair]], config: TrainingConfig):
        """Chooses the tiles and scores the references.

        Raises:
            InputError: a pair has no body in any tile.
        """
        tile = config.tile or config.patch
        # Of the overlap each tile counts for the half in which it weighs more than its neighbor.
        margin = max(config.loss_margin, halo_width(tile) + -(-overlap_width(tile) // 2))
        self._centers = {
            center: [_held_out(pair, tile, margin, config.validation_tiles) for pair in pairs]
            for center, pairs in held_out.items()
        }
        self._references = {
            center: _references(prepared, held_out[center]) for center, prepared in self._centers.items()
        }

    @torch.no_grad()
    def measure(
        self, network: ResidualNetwork | Mapping[str, ResidualNetwork]
    ) -> dict[str, dict[str, float]]:
        """Scores of a network, as metric -> center -> mean over the center's pairs; NaN if undefined.

        - `psnr` [dB]: SUV, range 20, inside the body; `share`: its gain over the low dose, as a share of the
          attainable gain (`drmc.measures.metrics.attainable_gain_db`);
        - `nrmse`: over the same voxels;
        - `b_mean`, `b_max`: |S - S_full| / S_full of the mean and the maximum in lesions, mean over the
          lesions of which a tile contains at least half, of the part inside.

        Each score also of the low dose itself (`psnr_low`, ...; it has no share) and of the best isotropic
        Gaussian filter (`psnr_gaussian`, ...), whose width `gaussian_fwhm_mm` has the highest mean PSNR of
        the center on these very regions.

        Args:
            network: one for all centers, or by center, "" for those that are not named.
        """
        networks = network if isinstance(network, Mapping) else {"": network}
        result: dict[str, dict[str, float]] = {}
        for center, prepared in self._centers.items():
            mine = networks.get(center) or networks[""]
            training = mine.training
            mine.eval()
            scores = [one.scores([_estimate(mine, region) for region in one.regions]) for one in prepared]
            mine.train(training)
            own = {**_means(scores), "share": _share(prepared, scores, self._references[center].low)}
            for key, value in {**own, **self._references[center].values}.items():
                result.setdefault(key, {})[center] = value
        return result


@dataclass
class _References:
    """Scores of a center's low dose and best Gaussian filter."""

    low: list[dict[str, float]]  # of each pair
    values: dict[str, float]


def _held_out(pair: Pair, tile: int, margin: int, count: int) -> _HeldOut:
    starts = choose_boxes(pair, tile, margin, count)
    regions = [_region(pair, start, tile, margin) for start in starts]
    if not any(region.body.any() for region in regions):
        raise InputError(f"case {pair.case_id}: no body away from the image's faces to validate on")
    return _HeldOut(pair.dose_reduction_factor, regions)


def _region(pair: Pair, start: Sequence[int], tile: int, margin: int) -> _Region:
    shape = pair.full.shape
    before = [lead(n, tile) for n in shape]
    low = pair.low[tuple(slice(s, s + tile) for s in start)]
    padding = [(b, tile - n - b) for b, n in zip(before, low.shape, strict=True)]
    place = tuple(slice(*inner_part(s, n, tile, margin)) for s, n in zip(start, shape, strict=True))
    kept = tuple(slice(p.start - s + b, p.stop - s + b) for p, s, b in zip(place, start, before, strict=True))
    return _Region(
        torch.from_numpy(np.pad(low, padding, mode="symmetric") / np.float32(INPUT_SCALE)),
        kept,
        place,
        pair.body[place].copy(),
        pair.low[place].copy(),
        pair.full[place].copy(),
        [index for lesion in pair.lesions if (index := part_of_lesion(lesion, shape, place)) is not None],
    )


def _estimate(network: ResidualNetwork, region: _Region) -> np.ndarray:
    low_BCDHW = region.low_DHW[None, None].to(network.head.weight.device)
    return (network.denoise(low_BCDHW)[0, 0][region.kept] * INPUT_SCALE).float().cpu().numpy()


def _references(prepared: list[_HeldOut], pairs: Sequence[Pair]) -> _References:
    low = [one.scores([region.low for region in one.regions]) for one in prepared]
    width, gaussian = _best_gaussian(prepared, pairs)
    values = {f"{key}_low": value for key, value in _means(low).items()}
    values |= {f"{key}_gaussian": value for key, value in _means(gaussian).items()}
    values |= {"share_gaussian": _share(prepared, gaussian, low), "gaussian_fwhm_mm": width}
    return _References(low, values)


def _best_gaussian(prepared: list[_HeldOut], pairs: Sequence[Pair]) -> tuple[float, list[dict[str, float]]]:
    """Width [mm] with the highest mean PSNR, and the scores of each pair.

    It is found by climbing from the middle: over the width PSNR has one maximum, between too much noise and
    too much blur.
    """
    tried: dict[int, list[dict[str, float]]] = {}

    def value(place: int) -> float:
        if not 0 <= place < len(WIDTHS_MM):
            return -math.inf
        if place not in tried:
            tried[place] = [
                one.scores([_smoothed(pair, region, WIDTHS_MM[place]) for region in one.regions])
                for one, pair in zip(prepared, pairs, strict=True)
            ]
        return _means(tried[place])["psnr"]

    best = len(WIDTHS_MM) // 2
    for direction in (-1, 1):
        while value(best + direction) > value(best):
            best += direction
    return float(WIDTHS_MM[best]), tried[best]


def _smoothed(pair: Pair, region: _Region, fwhm_mm: float) -> np.ndarray:
    """The filtered low dose in the region's inner part; only the voxels that influence it are filtered."""
    sigma = [fwhm_mm / FWHM_PER_SIGMA / step for step in pair.spacing_zyx]
    reach = [math.ceil(4 * s) for s in sigma]
    wide = tuple(
        slice(max(0, part.start - r), part.stop + r) for part, r in zip(region.place, reach, strict=True)
    )
    inner = tuple(
        slice(part.start - cut.start, part.stop - cut.start)
        for part, cut in zip(region.place, wide, strict=True)
    )
    return smooth(pair.low[wide], sigma)[inner].numpy()


def _means(scores: list[dict[str, float]]) -> dict[str, float]:
    """Mean over the pairs for which a score is defined, NaN if there are none."""
    defined = {key: [one[key] for one in scores if not math.isnan(one[key])] for key in scores[0]}
    return {key: float(np.mean(values)) if values else math.nan for key, values in defined.items()}


def _share(prepared: list[_HeldOut], scores: list[dict[str, float]], low: list[dict[str, float]]) -> float:
    """Mean share of the attainable gain over the low dose, of the pairs with a known dose."""
    shares = [
        share_of_attainable(mine["psnr"] - before["psnr"], one.dose_reduction_factor)
        for one, mine, before in zip(prepared, scores, low, strict=True)
        if one.dose_reduction_factor is not None and one.dose_reduction_factor > 1
    ]
    return float(np.mean(shares)) if shares else math.nan
