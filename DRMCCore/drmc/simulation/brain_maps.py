"""Brain of the ICBM152 gray and white matter maps, warped into one patient's.

The maps are given as a folder (`mni_icbm152_gm_*.nii.gz`, `mni_icbm152_wm_*.nii.gz`, 1 mm); they are not part
of the project.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from drmc.errors import InputError
from drmc.imaging.integrity import image_reader
from drmc.simulation.drawing import Uptake
from drmc.simulation.organs import MU_PER_MM, ORGANS
from drmc.simulation.shapes import Box, Canvas, LatticeField, Vector, rotation, sample_grid

SKULL_MM, CSF_MM = 9.0, 2.5  # outer and inner surface of the skull, from the brain's outline
SCALP_MM = 14.0
AFFINE = 0.06  # largest change of a semi-axis
WARP_MM = (4.0, 6.0)  # standard deviation of the nonrigid warp
WARP_LATTICE_MM = 60.0
REGION_CV, REGION_LATTICE_MM = 0.10, 30.0  # regional metabolism, about 45 mm
SHARPNESS, EDGE = 14.0, 0.45  # logistic that undoes the averaging of the gray matter map
_HEAD = 150.0


@dataclass(frozen=True)
class Maps:
    """Gray and white matter share and the distance to the brain's outline (3, z, y, x), 1 mm, LPS."""

    volumes: torch.Tensor
    origin: tuple[float, float, float]  # x, y, z of the first voxel
    middle: tuple[float, float, float]  # of the brain's box


@lru_cache(maxsize=2)
def read_maps(folder: Path) -> Maps:
    """Reads the two maps of a folder. Raises InputError where one is missing or cannot be read."""
    images = {}
    for tissue in ("gm", "wm"):
        found = sorted(Path(folder).glob(f"mni_icbm152_{tissue}_*.nii*"))
        if not found:
            raise InputError(
                f"{folder}: holds no mni_icbm152_{tissue}_*.nii.gz; give the folder of the ICBM152 maps"
            )
        with image_reader(found[0], "a map of three dimensions") as reader:
            reader.SetOutputPixelType(sitk.sitkFloat32)
            images[tissue] = sitk.DICOMOrient(reader.Execute(), "LPS")
    gray, white = (sitk.GetArrayFromImage(images[tissue]) for tissue in ("gm", "wm"))
    if gray.shape != white.shape or not np.allclose(images["gm"].GetSpacing(), 1.0, atol=0.01):
        raise InputError(f"{folder}: gray and white matter maps must share one grid of 1 mm")
    gray, white = gray / gray.max(), white / white.max()
    sharp = 1 / (1 + np.exp(-SHARPNESS * (gray - EDGE)))
    sharp[gray < 0.02] = 0
    white = white * (1 - sharp)
    distance = _outline(sharp + white > 0.25)
    inside = np.argwhere(distance < 0)
    origin = images["gm"].GetOrigin()
    middle = [o + float(v) for o, v in zip(origin, ((inside.min(0) + inside.max(0)) / 2)[::-1], strict=True)]
    volumes = torch.from_numpy(np.stack([sharp, white, distance]).astype(np.float32))
    return Maps(volumes, tuple(origin), tuple(middle))


def _outline(brain: np.ndarray) -> np.ndarray:
    """Signed distance in mm (negative inside) to the brain with its sulci closed."""
    pad = 24
    mask = sitk.GetImageFromArray(np.pad(brain, pad).astype(np.uint8)[::2, ::2, ::2])
    closed = sitk.BinaryMorphologicalClosing(mask, [4] * 3)
    distance = sitk.SignedMaurerDistanceMap(closed, insideIsPositive=False, squaredDistance=False)
    coarse = torch.from_numpy(sitk.GetArrayFromImage(distance) * 2.0 - 1.0)[None, None]
    size = [s + 2 * pad for s in brain.shape]
    index = [(torch.arange(n) + pad) / 2 / ((n + 2 * pad + 1) // 2 - 1) * 2 - 1 for n in brain.shape]
    z, y, x = torch.meshgrid(*index, indexing="ij")
    assert all(c == (s + 1) // 2 for c, s in zip(coarse.shape[2:], size, strict=True))
    fine = torch.nn.functional.grid_sample(coarse, torch.stack([x, y, z], -1)[None], align_corners=True)
    return fine[0, 0].numpy()


class MappedBrain:
    """Scalp, skull, cerebrospinal fluid and brain of one patient, painted around `center`."""

    def __init__(self, maps: Maps, rng: np.random.Generator, fields: torch.Generator, center: Vector):
        self.maps, self.center = maps, np.array(center, float)
        scale = np.diag(1 + rng.uniform(-AFFINE, AFFINE, 3))
        shear = np.eye(3) + np.triu(rng.normal(0, 0.015, (3, 3)), 1)
        self.inverse = np.linalg.inv(rotation(*rng.normal(0, 2.0, 3)) @ shear @ scale)
        self.warp_mm = float(rng.uniform(*WARP_MM)) / math.sqrt(3)
        self.asymmetry = float(rng.normal(0, 0.03))
        corners = (-_HEAD,) * 3, (_HEAD,) * 3
        self.warp = [LatticeField(fields, *corners, WARP_LATTICE_MM) for _ in range(3)]
        self.region = LatticeField(fields, *corners, REGION_LATTICE_MM)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper corner (x, y, z) in mm."""
        return self.center - _HEAD * 0.8, self.center + _HEAD * 0.8

    def paint(self, canvas: Canvas, uptake: Uptake) -> None:
        """Paints from the scalp to the white matter."""
        box = canvas.box(*self.bounds())
        if box is None:
            return
        grid = canvas.z[box[0]], canvas.y[box[1]], canvas.x[box[2]]
        mapped = self._mapped(canvas, box, grid)
        parts = self._average(canvas.spacing, mapped)
        gray, white, distance = parts[0], parts[1], parts[2]
        for organ, depth in (
            ("skin", SCALP_MM),
            ("muscle", SCALP_MM - 2),
            ("skull", SKULL_MM),
            ("csf", CSF_MM),
        ):
            share = canvas.share(distance - depth)
            canvas.blend(box, share, uptake[organ], MU_PER_MM[ORGANS[organ].tissue], ORGANS[organ].label)
        region = 1 + REGION_CV * self.region.sample(*grid)
        region = region * (1 + self.asymmetry * (mapped[0] / 15).tanh())
        left, back, up = mapped
        tent = -4 - 0.45 * (back - 40) - 0.28 * left.abs()
        fossa = (up < tent) & (back > 30 + 0.25 * left.abs())
        stem = (left.abs() < 18) & (back > 8) & (back < 46) & (up < -12) & ~fossa
        nuclei = (left.abs() < 36) & (back > -24) & (back < 30) & (up > -10) & (up < 22)
        of = lambda organ: uptake[organ]
        gray_suv = torch.where(
            fossa, of("cerebellum"), torch.where(nuclei, of("deep_gray"), of("gray_matter"))
        )
        gray_suv = torch.where(stem, torch.tensor(of("brainstem")), gray_suv)
        white_suv = torch.where(stem, of("brainstem"), of("white_matter"))
        total = (gray + white).clamp(max=1)
        suv = (gray * gray_suv * region + white * white_suv) / (gray + white).clamp(min=1e-3)
        canvas.blend(box, total, suv, MU_PER_MM["soft"], None)
        label = canvas.label[box]
        name = lambda organ: ORGANS[organ].label
        tissue = torch.where(
            gray >= white, torch.where(nuclei, name("deep_gray"), name("gray_matter")), name("white_matter")
        )
        tissue = torch.where(fossa & (gray >= white), name("cerebellum"), tissue)
        tissue = torch.where(stem, name("brainstem"), tissue).to(torch.uint8)
        label.copy_(torch.where(total > 0.5, tissue, label))

    def _mapped(
        self, canvas: Canvas, box: Box, grid: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    ) -> list[torch.Tensor]:
        """Position x, y, z of every voxel in the maps' space (LPS of the template), mm."""
        moved = [
            axis - float(c)
            for axis, c in zip(torch.broadcast_tensors(*canvas.coordinates(box)), self.center, strict=True)
        ]
        m = self.inverse
        return [
            float(m[i, 0]) * moved[0] + float(m[i, 1]) * moved[1] + float(m[i, 2]) * moved[2]
            + self.maps.middle[i] + self.warp_mm * self.warp[i].sample(*grid)
            for i in range(3)
        ]  # fmt: skip

    def _average(self, spacing_zyx: Sequence[float], mapped: list[torch.Tensor]) -> torch.Tensor:
        """The maps (3, z, y, x) at the mapped positions, averaged over voxels that are larger than theirs."""
        size = [max(1, round(s)) for s in spacing_zyx]
        volumes = torch.nn.functional.avg_pool3d(self.maps.volumes[None], size, stride=1)[0]
        lower = [o + (n - 1) / 2 for o, n in zip(self.maps.origin, reversed(size), strict=True)]
        return sample_grid(volumes, lower, 1.0, *mapped)
