"""What the network of organs sees of a scan: uptake relative to the body, and where in the body.

No unit is needed, since the scan is divided by the mean of its own body: scans without correction for
attenuation have none. Axes as in `drmc.organs.grid`, (4, D, H, W) for the channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from drmc.imaging.body import body_mask_of_any_scale, near_body
from drmc.imaging.smoothing import FWHM_PER_SIGMA, smooth
from drmc.organs.grid import ORGAN_MM

CHANNELS = 4
"""Relative uptake, the same smoothed, position along x and along y."""

PATCH_PLANE = (80, 112)
"""Voxels along y and x of a patch in training, the whole cross-section of most people; smaller scans are
shown with air around them, since the network normalizes over all that it sees."""

GAIN = 2.0  # of the uptake relative to the body before asinh, which compresses values far above one
SMOOTHING_MM = 12.0  # FWHM of the second channel
POSITION_MM = 200.0  # position channels count in these


@dataclass(frozen=True)
class Frame:
    """Where the body lies in a scan on the grid of the organs, and how much it takes up.

    Attributes:
        mean: of the scan in the body, in the scan's unit.
        middle: x of the body's middle [voxels].
        back: y of the body's back [voxels].
        box: first voxel and end of the body along z, y and x.
    """

    mean: float
    middle: float
    back: float
    box: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def frame_of(image_zyx: np.ndarray) -> Frame | None:
    """The frame of a scan on the grid of the organs; None if it shows no body.

    It is that of the scan cropped to its body, which scans of a training are and others are not, with as
    much air around it in every scan: without any the threshold would be one between organs and muscle.
    """
    near = near_body(image_zyx, (ORGAN_MM,) * 3)
    body: np.ndarray = np.zeros(image_zyx.shape, bool)
    inner = image_zyx[near]
    H, W = inner.shape[-2:]
    y, x = H // 4, W // 4
    found = body_mask_of_any_scale(np.pad(inner, ((0, 0), (y, y), (x, x))), (ORGAN_MM,) * 3)
    body[near] = found[:, y : y + H, x : x + W]
    if not body.any():
        return None
    mean = float(image_zyx[body].mean(dtype=np.float64))
    if not mean > 0:
        return None
    along = [body.sum(axis=tuple(a for a in range(3) if a != axis)) for axis in range(3)]
    ends = [(int(np.flatnonzero(n)[0]), int(np.flatnonzero(n)[-1]) + 1) for n in along]
    middle = float(along[2] @ np.arange(body.shape[2]) / along[2].sum())
    share = np.cumsum(along[1]) / along[1].sum()
    back = float(np.searchsorted(share, 0.995))
    return Frame(mean, middle, back, (ends[0], ends[1], ends[2]))


def channels(
    relative_zyx: torch.Tensor, middle: float, back: float, *, positions: bool = True
) -> torch.Tensor:
    """The network's input, (4, D, H, W).

    Args:
        relative_zyx: uptake over the mean of the body, float32 (D, H, W).
        middle: x of the body's middle in it [voxels].
        back: y of the body's back in it [voxels].
        positions: whether the network is told where in the body a voxel is; else these channels are 0.
    """
    D, H, W = relative_zyx.shape
    found = torch.zeros(CHANNELS, D, H, W)
    found[0] = torch.asinh(GAIN * relative_zyx)
    found[1] = smooth(found[0], [SMOOTHING_MM / FWHM_PER_SIGMA / ORGAN_MM] * 3)
    if positions:
        found[2] = (torch.arange(W) - middle) * (ORGAN_MM / POSITION_MM)
        found[3] = ((torch.arange(H) - back) * (ORGAN_MM / POSITION_MM))[:, None]
    return found
