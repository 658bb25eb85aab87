"""A scan to labels on its own grid: the organs' grid, the network, order in the labels, and the way back.

Axis legend: arrays (z, y, x); K classes; mm, LPS.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from drmc.imaging.geometry import Geometry, triple
from drmc.inference.device import choose_device, choose_precision
from drmc.models.card import ORGANS, ModelEntry
from drmc.models.registry import find_model
from drmc.models.weights import load_organ_network
from drmc.organs.certainty import unsure_shares, unsure_voxels
from drmc.organs.cleaning import Changes, cleaned
from drmc.organs.grid import oriented, to_organ_grid
from drmc.organs.inputs import frame_of
from drmc.runtime.control import Cancel, Progress, Stopwatch, raise_if_canceled
from drmc.runtime.hardware import device_name

if TYPE_CHECKING:
    from drmc.networks.organ_unet import OrganUNet

_SLAB_VOXELS = 4_000_000  # of the scan, that are labeled at a time
_OUTSIDE = -1e4


@dataclass(frozen=True)
class OrganResult:
    """Labels of a scan, and how they came about.

    Attributes:
        labels: classes of `drmc.organs.table`, uint8 (z, y, x), on the scan's own grid.
        changes: what was put in order.
        device: where the network was computed.
        precision: "fp32" or "bf16".
        seconds: of the stages resample, body, network, order, resample_back.
        notices: what the user should know, one line each.
        unsure: share of each organ in which the network is unsure, as `unsure_shares` gives it.
    """

    labels: np.ndarray
    changes: Changes
    device: str
    precision: str
    seconds: dict[str, float]
    notices: list[str] = field(default_factory=list)
    unsure: dict[str, float] = field(default_factory=dict)


class Segmenter:
    """A network of organs ready on a device; `segment` may be called for any number of scans.

    Raises InputError where device or precision is unknown or this machine does not have it.
    """

    def __init__(self, network: OrganUNet, length: int, *, device: str = "auto", precision: str = "auto"):
        """Prepares a network.

        Args:
            network: the network; it is moved to the device and put into evaluation mode.
            length: slices of the patches that it was trained on.
            device: as in `drmc.inference.denoiser.Denoiser`.
            precision: the same.
        """
        self.notices: list[str] = []
        self._device, self._length = choose_device(device), length
        self.precision = choose_precision(precision, self._device, self.notices)
        self._network = network.eval().to(self._device)

    @classmethod
    def from_model(
        cls,
        model: str | os.PathLike[str] | ModelEntry | None = None,
        *,
        device: str = "auto",
        precision: str = "auto",
    ) -> Segmenter:
        """A model's network, ready on a device.

        Args:
            model: a name or the path of a weight file; None: the default model of organs.
            device: as in the constructor.
            precision: the same.

        Raises:
            InputError: there is no such model, its weights are damaged, or the device is not there.
        """
        entry = model if isinstance(model, ModelEntry) else find_model(model, task=ORGANS)
        network, length = load_organ_network(entry)
        return cls(network, length, device=device, precision=precision)

    def segment(
        self,
        image_zyx: np.ndarray,
        geometry: Geometry,
        *,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
    ) -> OrganResult:
        """Labels a scan.

        Args:
            image_zyx: the scan, float32, finite, of any unit.
            geometry: its place in space; any direction.
            progress: called as (slabs done, slabs in all, seconds left or None).
            cancel: asked between slabs and organs; True stops.

        Raises:
            CanceledError: `cancel` returned True.
        """
        import torch

        from drmc.organs.scores import body_scores

        clock = Stopwatch("resample", "body", "network", "order", "resample_back")
        notices = list(self.notices)
        geometry = geometry.rounded()
        with clock("resample"):
            grid_image, grid = to_organ_grid(image_zyx, geometry)
        with clock("body"):
            frame = frame_of(grid_image)
        raise_if_canceled(cancel)
        labels, changes, unsure = np.zeros(geometry.shape, np.uint8), Changes(), {}
        if frame is None:
            notices.append("no body found: nothing is labeled")
        else:
            with clock("network"):
                dtype = torch.bfloat16 if self.precision == "bf16" else None
                scores, region = body_scores(
                    self._network, grid_image, frame, self._length, compute_dtype=dtype,
                    progress=progress, cancel=cancel,
                )  # fmt: skip
            with clock("order"):
                unsure_zyx = unsure_voxels(scores)
                found, changes = _in_order(scores, frame.middle - region[2].start)
                unsure = unsure_shares(found, unsure_zyx)
            with clock("resample_back"):
                labels = _on_scan(scores, found, _part_of(grid, region), geometry, cancel)
        device, seconds = device_name(self._device), clock.seconds
        return OrganResult(labels, changes, device, self.precision, seconds, notices, unsure)


def largest(scores: np.ndarray) -> np.ndarray:
    """The class with the largest score of each voxel, the first of equal ones: uint8 (D, H, W).

    Args:
        scores: (K, D, H, W); `argmax` of NumPy would copy all of it.
    """
    best, labels = scores[0].copy(), np.zeros(scores.shape[1:], np.uint8)
    for k, own in enumerate(scores[1:], 1):
        larger = own > best
        best[larger], labels[larger] = own[larger], k
    return labels


def _part_of(grid: Geometry, region: tuple[slice, slice, slice]) -> Geometry:
    """The grid of a part of an image."""
    first = [part.start for part in reversed(region)]
    point = grid.matrix @ np.array([*first, 1.0])
    shape = tuple(part.stop - part.start for part in region)
    return replace(grid, shape=(shape[0], shape[1], shape[2]), origin=triple(point[:3]))


def _in_order(scores: np.ndarray, middle: float) -> tuple[np.ndarray, Changes]:
    """The labels after `cleaned`; scores (K, D, H, W) are changed so that these win in every voxel."""
    labels = largest(scores)
    found, changes = cleaned(labels, middle)
    z, y, x = np.nonzero(found != labels)
    if z.size:
        was, now = labels[z, y, x], found[z, y, x]
        best, other = scores[was, z, y, x].copy(), scores[now, z, y, x].copy()
        scores[now, z, y, x], scores[was, z, y, x] = best, np.minimum(other, best - 1e-3)
    return found, changes


def _on_scan(
    scores: np.ndarray, labels: np.ndarray, part: Geometry, geometry: Geometry, cancel: Cancel | None
) -> np.ndarray:
    """Labels on the scan's grid: of each voxel the class with the largest interpolated score.

    A class is looked at around the voxels that it wins on the organs' grid.

    Args:
        scores: (K, D, H, W) on `part`.
        labels: the class that wins in each voxel of `part`.
        part: the grid of the scores.
        geometry: the scan's own grid.
        cancel: asked between classes; True stops.
    """
    template, target = oriented(np.zeros(geometry.shape, np.uint8), geometry)
    present = [int(k) for k in np.unique(labels) if k]
    boxes = {k: _wider(labels == k) for k in present}
    best = np.full(target.shape, _OUTSIDE, np.float32)
    everywhere = slice(0, part.shape[0]), slice(0, part.shape[1]), slice(0, part.shape[2])
    for k in [0, *present]:
        box = everywhere if k == 0 else boxes[k]
        for cut, values in _interpolated(scores[k][box], _part_of(part, box), target):
            raise_if_canceled(cancel)
            larger = values > best[cut]
            best[cut][larger] = values[larger]
            template[cut][larger] = k
    if target == geometry:
        return template
    direction = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(geometry.direction)
    return sitk.GetArrayFromImage(sitk.DICOMOrient(target.to_image(template), direction))


def _wider(mask: np.ndarray) -> tuple[slice, slice, slice]:
    """The box of a mask and a voxel around it."""
    cuts = []
    for axis, size in enumerate(mask.shape):
        found = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        cuts.append(slice(max(0, int(found[0]) - 1), min(size, int(found[-1]) + 2)))
    return cuts[0], cuts[1], cuts[2]


def _interpolated(
    values: np.ndarray, grid: Geometry, target: Geometry
) -> Iterator[tuple[tuple[slice, slice, slice], np.ndarray]]:
    """Values on a grid at the voxels of another of the same axes, slab by slab: (part of the target, values).

    Beyond the outermost voxels of the grid its values are repeated for half a voxel.
    """
    offsets = np.linalg.solve(target.matrix, grid.matrix @ np.array([0.0, 0.0, 0.0, 1.0]))[:3][::-1]
    cuts = []
    for first, count, step, size, own in zip(
        offsets, grid.shape, grid.spacing_zyx, target.shape, target.spacing_zyx, strict=True
    ):
        half = step / own / 2
        low = max(0, int(np.ceil(first - half - 1e-6)))
        high = min(size, int(np.floor(first + (count - 1) * step / own + half + 1e-6)) + 1)
        if low >= high:
            return
        cuts.append(slice(low, high))
    padded = np.pad(values, 1, mode="edge")
    before = grid.matrix @ np.array([-1.0, -1.0, -1.0, 1.0])
    source = replace(grid, shape=padded.shape, origin=triple(before[:3])).to_image(padded)
    plane = (cuts[1].stop - cuts[1].start) * (cuts[2].stop - cuts[2].start)
    slices = max(1, _SLAB_VOXELS // plane)
    for start in range(cuts[0].start, cuts[0].stop, slices):
        cut = slice(start, min(cuts[0].stop, start + slices)), cuts[1], cuts[2]
        place = _part_of(target, cut)
        image = sitk.Resample(
            source,
            list(reversed(place.shape)),
            sitk.Transform(),
            sitk.sitkLinear,
            place.origin,
            place.spacing,
            place.direction,
            _OUTSIDE,
            sitk.sitkFloat32,
        )
        yield cut, sitk.GetArrayViewFromImage(image)
