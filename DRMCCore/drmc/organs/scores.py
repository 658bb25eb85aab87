"""The network over a whole body: scores of every class on the grid of the organs, slab by slab.

Every slab holds the whole cross-section of the body, since sides and order need it. Slabs overlap, and their
scores are blended.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from drmc.networks.organ_unet import OrganUNet
from drmc.organs.inputs import PATCH_PLANE, Frame, channels
from drmc.runtime.control import Cancel, Progress, raise_if_canceled

HALO = 16
"""Slices at each end of a slab that count for less and less, where it is not the end of the scan."""
_MARGIN = 4  # voxels of air around the body


def body_region(frame: Frame, shape: Sequence[int], multiple: int) -> tuple[slice, slice, slice]:
    """The part of a scan that the network sees: all slices, the body's box in the plane and some air.

    Args:
        frame: where the body is.
        shape: of the scan on the grid of the organs.
        multiple: sizes that the network takes; the box is made a multiple where the scan has room for it.
    """
    cuts = [slice(0, shape[0])]
    for (first, end), size in zip(frame.box[1:], shape[1:], strict=True):
        wanted = min(size, multiple * math.ceil((end - first + 2 * _MARGIN) / multiple))
        start = min(max(0, (first + end - wanted) // 2), size - wanted)
        cuts.append(slice(start, start + wanted))
    return cuts[0], cuts[1], cuts[2]


def slab_starts(slices: int, length: int) -> list[int]:
    """First slices of slabs of a length that cover a scan; neighbors overlap by twice the halo at least."""
    if slices <= length:
        return [0]
    halo = min(HALO, length // 4)
    count = math.ceil((slices - 2 * halo) / (length - 2 * halo))
    return [round(k * (slices - length) / (count - 1)) for k in range(count)]


@torch.no_grad()
def body_scores(
    network: OrganUNet,
    image_zyx: np.ndarray,
    frame: Frame,
    length: int,
    *,
    compute_dtype: torch.dtype | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> tuple[np.ndarray, tuple[slice, slice, slice]]:
    """Scores of all classes, before softmax.

    Args:
        network: in evaluation mode.
        image_zyx: scan on the grid of the organs, float32, any unit.
        frame: of the scan.
        length: slices of a slab; that of the patches in training.
        compute_dtype: of the convolutions.
        progress: called as (slabs done, slabs in all, seconds left or None) after each slab.
        cancel: asked before each slab; True stops.

    Returns:
        float32 (K, D, H, W), and the part of the scan (z, y, x) that it covers.

    Raises:
        CanceledError: `cancel` returned True.
    """
    multiple = network.config.multiple
    device = network.head.weight.device
    region = body_region(frame, image_zyx.shape, multiple)
    relative = torch.from_numpy(np.ascontiguousarray(image_zyx[region], dtype=np.float32)) / frame.mean
    D, H, W = relative.shape
    relative = _with_air(relative, (length, *PATCH_PLANE), multiple)
    seen = channels(relative, frame.middle - region[2].start, frame.back - region[1].start)
    starts, halo = slab_starts(D, length), min(HALO, length // 4)
    scores = np.zeros((network.config.classes, D, H, W), np.float32)
    total = np.zeros(D, np.float32)
    began = time.perf_counter()
    for number, start in enumerate(starts):
        raise_if_canceled(cancel)
        x_BCDHW = seen[None, :, start : start + length]
        slab = slice(start, min(D, start + length))
        count = slab.stop - slab.start
        found = network(x_BCDHW.to(device), compute_dtype)[0][0, :, :count, :H, :W].float().cpu()
        weight = _weights(count, halo, start > 0, start + length < D)
        # class by class: a product of all would be as large as the slab's scores themselves
        for own, one in zip(scores, found.numpy(), strict=True):
            own[slab] += one * weight[:, None, None]
        del found
        total[slab] += weight
        if progress is not None:
            done = number + 1
            left = (time.perf_counter() - began) / done * (len(starts) - done)
            progress(done, len(starts), left)
    scores /= total[:, None, None]
    return scores, region


def _with_air(relative_zyx: torch.Tensor, least: Sequence[int], multiple: int) -> torch.Tensor:
    """A scan with zeros behind its last voxels, to sizes that training has and the network takes."""
    sizes = relative_zyx.shape[0], *(multiple * math.ceil(n / multiple) for n in relative_zyx.shape[1:])
    wanted = [max(n, size) for n, size in zip(least, sizes, strict=True)]
    widths = [w - n for w, n in zip(wanted, relative_zyx.shape, strict=True)]
    return F.pad(relative_zyx, (0, widths[2], 0, widths[1], 0, widths[0]))


def _weights(slices: int, halo: int, before: bool, behind: bool) -> np.ndarray:
    """Weights of a slab's slices: a ramp of twice the halo at each end that has a neighbor."""
    ramp = (np.arange(2 * halo, dtype=np.float32) + 0.5) / (2 * halo)
    weight = np.ones(slices, np.float32)
    if before:
        weight[: 2 * halo] = ramp
    if behind:
        weight[-2 * halo :] = np.minimum(weight[-2 * halo :], ramp[::-1])
    return weight
