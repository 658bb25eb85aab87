"""Patches of an organ training, determined by a counter alone.

Axes (z, y, x) on the grid of the organs. Images are turned, stretched and bent with their labels in one step;
sides are never exchanged.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from drmc.datasets.manifest import Case
from drmc.imaging.smoothing import FWHM_PER_SIGMA, smooth
from drmc.organs.grid import ORGAN_MM
from drmc.organs.inputs import Frame, channels
from drmc.organs.table import classes
from drmc.training.tasks.organ_cases import OrganCase
from drmc.training.tasks.organ_settings import CONDITIONS, OrganSettings

_ELASTIC_MM, _BIAS_MM = 80.0, 200.0  # distances of the nodes of smooth random fields
_LEAST_SLICES = 32  # that are left where a patch is cut
_PLACE_SD = 6.0  # voxels, of a patch's center in the plane
_ALONG = 24  # voxels, most distance along z of a patch's center from a voxel of its class
_UPTAKE_BLUR_MM = 7.0  # of changes of uptake, which no scanner resolves
_GAIN_SD = 0.1  # of the logarithm of a factor, for what a mean over the body depends on


class OrganPatch(NamedTuple):
    """A patch: the network's input (4, D, H, W), float32, and the classes (D, H, W), uint8."""

    inputs: torch.Tensor
    labels: torch.Tensor


class OrganSampler:
    """Draws patches; those of step t are determined by (seed, t, center, slot) alone.

    So a resumed run and other numbers of processes see the same data.
    """

    def __init__(
        self,
        cases: dict[str, list[Case]],
        settings: OrganSettings,
        *,
        patch: int,
        seed: int,
        pooled: bool = False,
    ):
        """Prepares the draws.

        Args:
            cases: of every center of the run, empty for centers without draws.
            settings: what is drawn.
            patch: slices of a patch.
            seed: of all draws.
            pooled: whether every slot draws from the patients of all centers.

        Raises:
            InputError: a case has no simulated organ labels.
        """
        self.settings, self.seed, self.shape = settings, seed, (patch, *settings.plane)
        self.centers = list(cases)
        self.cases = {center: [OrganCase(case) for case in found] for center, found in cases.items()}
        self.pool = [case for found in self.cases.values() for case in found] if pooled else None

    def draw(self, step: int, center: str, slot: int) -> OrganPatch:
        """One patch.

        Raises:
            InputError: an image cannot be read.
        """
        key = [self.seed, step, self.centers.index(center), slot]
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
        settings = self.settings
        cases = self.pool or self.cases[center]
        case = cases[int(rng.integers(len(cases)))]
        image, frame = self._image(case, rng)
        labels = case.labels()
        place = self._place(labels, frame, rng)
        turn, field = self._turn(rng), self._displacement(rng)
        sampled, seen = self._sampled(image, labels, place, turn, field)
        relative = self._changed(sampled, seen, rng)
        if rng.random() < settings.cut_fraction:
            self._cut(relative, seen, rng)
        offset = np.linalg.solve(turn, np.array([0.0, frame.back, frame.middle]) - [0.0, *place[1:]])
        middle = np.array([0.0, *((n - 1) / 2 for n in self.shape[1:])]) + offset
        told = bool(rng.random() >= settings.blind_fraction)
        return OrganPatch(channels(relative, float(middle[2]), float(middle[1]), positions=told), seen)

    def _image(self, case: OrganCase, rng: np.random.Generator) -> tuple[np.ndarray, Frame]:
        """An image over the mean of its body, of a random condition, and its frame."""
        known = [name for name in CONDITIONS if name in case.paths]
        shares = np.array([self.settings.conditions[CONDITIONS.index(name)] for name in known])
        if not shares.sum():
            shares = np.ones(len(known))
        condition = known[int(rng.choice(len(known), p=shares / shares.sum()))]
        image = case.image(condition)
        frame = case.frame(condition, image)
        image = image / np.float32(frame.mean)
        share = np.float32(rng.random())
        full = condition.replace("_low", "_full")
        if rng.random() < self.settings.dose_mixing and full != condition and full in case.paths:
            other = case.image(full)
            # low and full dose share events: a dose between the two has a part of their difference
            image = share * image + (1 - share) * (other / np.float32(case.frame(full, other).mean))
        return image, frame

    def _place(self, labels: np.ndarray, frame: Frame, rng: np.random.Generator) -> np.ndarray:
        """The voxel (z, y, x) in the middle of the patch."""
        center = [(first + end - 1) / 2 for first, end in frame.box]
        plane = rng.normal(0, _PLACE_SD, 2)
        z = float(rng.uniform(0, len(labels) - 1))
        present = np.flatnonzero(np.bincount(labels.ravel(), minlength=len(classes()) + 1)[1:]) + 1
        if rng.random() < self.settings.organ_fraction and present.size:
            of_class = np.flatnonzero(labels == present[int(rng.integers(present.size))])
            flat = int(of_class[int(rng.integers(of_class.size))])
            z = flat // (labels.shape[1] * labels.shape[2]) + float(rng.uniform(-_ALONG, _ALONG))
        return np.array([z, center[1] + plane[0], center[2] + plane[1]])

    def _turn(self, rng: np.random.Generator) -> np.ndarray:
        """(3, 3), from an offset in the patch to one in the image."""
        angles = np.radians(self.settings.rotation) * rng.uniform(-1, 1, 3)
        turn = np.eye(3)
        for axis, angle in enumerate(angles):
            one, two = [a for a in range(3) if a != axis]
            part = np.eye(3)
            part[[one, one, two, two], [one, two, one, two]] = (
                math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle)
            )  # fmt: skip
            turn = turn @ part
        return turn @ np.diag(self.settings.stretch ** rng.uniform(-1, 1, 3))

    def _displacement(self, rng: np.random.Generator) -> torch.Tensor | None:
        """A smooth random displacement (z, y, x) of every voxel of the patch, (D, H, W, 3), in voxels."""
        nodes = self._nodes(rng, 3, _ELASTIC_MM)
        if not self.settings.elastic_mm:
            return None
        return self._spread(nodes)[0].movedim(0, -1) * (self.settings.elastic_mm / ORGAN_MM)

    def _nodes(self, rng: np.random.Generator, count: int, distance_mm: float) -> torch.Tensor:
        sizes = [2 + math.ceil(n * ORGAN_MM / distance_mm) for n in self.shape]
        return torch.from_numpy(rng.standard_normal((1, count, *sizes)).astype(np.float32))

    def _spread(self, nodes: torch.Tensor) -> torch.Tensor:
        return F.interpolate(nodes, self.shape, mode="trilinear", align_corners=True)

    def _sampled(
        self,
        image: np.ndarray,
        labels: np.ndarray,
        place: np.ndarray,
        turn: np.ndarray,
        displacement: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Image and labels in the patch; beyond the image there are air and background."""
        axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in self.shape]
        offsets = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
        points = offsets @ torch.from_numpy(turn.T.astype(np.float32))
        points += torch.from_numpy(place.astype(np.float32))
        if displacement is not None:
            points += displacement
        sizes = torch.tensor([max(n - 1, 1) for n in image.shape], dtype=torch.float32)
        grid = (2 * points / sizes - 1).flip(-1)[None]
        sample = lambda volume, mode: F.grid_sample(
            torch.from_numpy(volume)[None, None], grid, mode=mode, padding_mode="zeros", align_corners=True
        )[0, 0]
        seen = sample(labels.astype(np.float32), "nearest").to(torch.uint8)
        return sample(np.ascontiguousarray(image), "bilinear"), seen

    def _changed(
        self, relative: torch.Tensor, labels: torch.Tensor, rng: np.random.Generator
    ) -> torch.Tensor:
        """The uptake with random changes of organs, sensitivity, resolution and scale."""
        settings = self.settings
        drawn = rng.random(4) < settings.changed
        factors = np.exp(rng.normal(0, settings.uptake, len(classes()) + 1)).astype(np.float32)
        nodes = self._nodes(rng, 1, _BIAS_MM)
        blur_mm, exponent = rng.uniform(0, settings.blur_mm), settings.gamma ** rng.uniform(-1, 1)
        gain = math.exp(rng.normal(0, _GAIN_SD))
        if drawn[0]:
            of_organs = torch.from_numpy(factors)[labels.int()]
            relative = relative * smooth(of_organs, [_UPTAKE_BLUR_MM / FWHM_PER_SIGMA / ORGAN_MM] * 3)
        if drawn[1]:
            relative = relative * torch.exp(settings.bias * self._spread(nodes)[0, 0])
        if drawn[2]:
            relative = smooth(relative, [blur_mm / FWHM_PER_SIGMA / ORGAN_MM] * 3)
        if drawn[3]:
            relative = relative.clamp(min=0) ** exponent
        return relative * gain

    def _cut(self, relative: torch.Tensor, labels: torch.Tensor, rng: np.random.Generator) -> None:
        """Ends the scan at a random slice of the patch, in place."""
        slices = self.shape[0]
        kept = int(rng.integers(min(_LEAST_SLICES, slices), slices + 1))
        outside = slice(kept, None) if rng.random() < 0.5 else slice(0, slices - kept)
        relative[outside], labels[outside] = 0.0, 0
