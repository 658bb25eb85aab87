"""A label map as a patient: organs of a CT segmentation or of a published phantom, with simulated uptake.

Nothing of the shapes is drawn here: they test what was trained on drawn ones.
"""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from drmc.errors import InputError
from drmc.imaging.geometry import Geometry, triple
from drmc.imaging.integrity import check_grid, image_reader
from drmc.simulation.anatomy import SITE_GRID_MM, Body, one_thread
from drmc.simulation.lesion_draws import MAX_SITES, ClinicalLesions
from drmc.simulation.organs import MU_PER_MM, ORGANS, organ_label, organ_labels
from drmc.simulation.resampling import averages, nearest, resampled, to_lps
from drmc.simulation.shapes import Canvas, Shape, Triple

_ALIASES = json.loads(Path(__file__).with_name("label_aliases.json").read_text(encoding="utf-8"))["names"]
G_PER_ML = {"air": 0.0, "lung": 0.3, "fat": 0.95, "soft": 1.05, "bone": 1.6, "marrow": 1.2, "metal": 4.5}
"""Density of the tissues, for the weight of a map's body (assumed, about ICRU 46)."""
_FILLING = ("muscle", "fat", "skin")


@dataclass(frozen=True)
class LabelMap:
    """Organ labels, uint8 (z, y, x), on axes to the patient's left, back and head; lengths in mm."""

    labels: np.ndarray
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    name: str

    @property
    def patient_id(self) -> str:
        """The person, by the map's content."""
        return f"label-map-{zlib.crc32(self.labels.tobytes()):08x}"


class LabeledBody(Body):
    """The body of a label map as a patient: uptake, texture and lesions are drawn from the seed.

    `weight_kg`: the mass of the map's tissues if it is not given. Its frame: 0 in the middle of the body
    along x and y, and at the map's lower end along z. Nodal lesions need the drawn body's stations and are
    left out.
    """

    hosts_without = ("nodal",)

    @one_thread()
    def __init__(
        self,
        label_map: LabelMap,
        seed: int | np.random.SeedSequence,
        *,
        max_lesions: int = MAX_SITES,
        tracer: str = "FDG",
        wide_uptake: float = 0.0,
        weight_kg: float | None = None,
    ):
        self.label_map = label_map
        upper = [
            o + n * s
            for o, n, s in zip(label_map.origin, label_map.labels.shape, label_map.spacing, strict=True)
        ]
        super().__init__(seed, tracer, label_map.origin[::-1], upper[::-1], wide_uptake)
        self.variants = [name for name in self.variants if not name.startswith(("brown_fat", "muscle_group"))]
        self._draw_texture()
        self._weight_given = weight_kg
        self.weight_kg = weight_kg or _mass_kg(label_map)
        liver = np.flatnonzero((label_map.labels == ORGANS["liver"].label).any((1, 2)))
        step, first = label_map.spacing[0], label_map.origin[0]
        self.diaphragm_mm = float(first + liver.max() * step) if liver.size else None
        coarse = self._whole(SITE_GRID_MM)
        self._normalize(coarse)
        self._place_lesions(ClinicalLesions(self.tracer.lesions, max_lesions, self.hosts_without), coarse)

    def axial_range(self) -> tuple[float, float]:
        """Scan range (z_lower, z_upper) in mm: the map's slices, from edge to edge."""
        step, first = self.label_map.spacing[0], self.label_map.origin[0]
        return first - step / 2, first + (self.label_map.labels.shape[0] - 0.5) * step

    def _painted(self, shape_zyx: Shape, spacing_zyx: Triple, origin_zyx: Triple) -> Canvas:
        """Uptake and attenuation, averaged over voxels larger than the map's; labels of the nearest voxel."""
        canvas = Canvas(shape_zyx, spacing_zyx, origin_zyx)
        grid = (shape_zyx, spacing_zyx, origin_zyx)
        own = (self.label_map.labels.shape, self.label_map.spacing, self.label_map.origin)
        part, weights = averages(grid, own)
        labels = self.label_map.labels[part]
        uptake, mu = np.zeros(256, np.float32), np.zeros(256, np.float32)
        for name, organ in ORGANS.items():
            chosen = organ_labels(name)
            uptake[chosen], mu[chosen] = self.uptake[name], MU_PER_MM[organ.tissue]
        canvas.activity = resampled(uptake[labels], weights)
        canvas.mu = resampled(mu[labels], weights)
        canvas.label = nearest(self.label_map.labels, grid, own)
        return canvas

    def _normalize(self, coarse: Canvas) -> None:
        if self._weight_given is None:  # else the map may be a part of the body
            super()._normalize(coarse)

    def _facts(self) -> dict[str, Any]:
        return {
            "label_map": self.label_map.name,
            "label_map_voxel_mm": list(self.label_map.spacing),
            "weight_kg": self.weight_kg,
            "weight_from": "given" if self._weight_given else "the map's tissues",
            "tracer": self.tracer.name,
            "uptake": self.uptake_from,
            "variants": list(self.variants),
        }


@lru_cache(maxsize=1)
def read_label_map(path: Path, names: Path) -> LabelMap:
    """Reads a label map and the names of its labels.

    Args:
        path: image in any form that SimpleITK reads.
        names: JSON object, value to organ or organ to value, e.g. {"5": "liver", "13": "kidney_left"}: names
            of `organs.ORGANS` or of TotalSegmentator, or `background` for air; 0 need not be named.

    Raises:
        InputError: one of them cannot be read, or a label has no name or an unknown one.
    """
    named = _read_names(names)
    with image_reader(path, "a label map (NIfTI, NRRD or MHA)") as reader:
        image = reader.Execute()
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(f"{path}: is no label map of three dimensions with one value per voxel")
    check_grid(image, path)
    array = sitk.GetArrayFromImage(image)
    if array.dtype.kind == "f" and not np.array_equal(array, np.round(array)):
        raise InputError(f"{path}: holds values that are no whole numbers: give a label map")
    values = [int(value) for value in np.unique(array).tolist()]
    if missing := [str(value) for value in values if value and value not in named]:
        raise InputError(
            f"{names}: does not name label {', '.join(missing[:5])}{' and others' * (len(missing) > 5)} of "
            f"{path.name}: "
            'give each an organ, or "background" for what is air'
        )
    own = np.zeros(array.shape, np.uint8)
    for value in values:
        own[array == value] = named.get(value, 0)
    if not np.isin(own, [ORGANS[name].label for name in _FILLING]).any():
        raise InputError(
            f"{names}: names no label of {path.name} as {', '.join(_FILLING)} or body: what lies between the "
            "organs would be air; add a label of the whole body"
        )
    labels, geometry = to_lps(own, Geometry.from_image(image), sitk.sitkNearestNeighbor)
    spacing = triple(geometry.spacing_zyx)
    occupied = [
        np.flatnonzero(labels.any(tuple(a for a in range(3) if a != axis)))[[0, -1]] for axis in range(3)
    ]
    labels = np.ascontiguousarray(labels[occupied[0][0] : occupied[0][1] + 1])
    middle = [float(occupied[axis].mean()) * spacing[axis] for axis in (1, 2)]
    return LabelMap(labels, spacing, (0.0, -middle[0], -middle[1]), path.name)


def _read_names(path: Path) -> dict[int, int]:
    """Label value of `organs` by value of the map."""
    try:
        named = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}): give a JSON file of label names"
        ) from None
    except ValueError:
        raise InputError(f'{path}: is no JSON: write {{"5": "liver", "13": "kidney_left"}}') from None
    if not isinstance(named, dict) or not named:
        raise InputError(f'{path}: names no label: write {{"5": "liver", "13": "kidney_left"}}')
    found = {}
    for key, value in named.items():
        number, name = (value, key) if isinstance(value, int) else (key, value)
        if not isinstance(name, str) or not re.fullmatch(r"\d+", str(number)):
            raise InputError(
                f'{path}: "{key}": {json.dumps(value)} is no label and its organ: write "5": "liver"'
            )
        found[int(number)] = organ_of(name, path)
    return found


def organ_of(name: str, where: Path | str) -> int:
    """Label value of an organ by its name here or in TotalSegmentator, with its side; 0 for `background`.

    Raises:
        InputError: the name is unknown, or an organ that comes in pairs has no side.
    """
    plain = re.sub(r"[\s-]+", "_", name.strip().lower())
    if plain == "background":
        return 0
    side = re.search(r"_(left|right)(?=_|$)", plain)
    stem = re.sub(r"_(left|right)(?=_|$)", "", plain)
    stem = re.sub(r"_(\d+|[clts]\d+)$", "", stem)
    named = (plain, stem, _ALIASES.get(plain), _ALIASES.get(stem))
    organ = next((one for one in named if one in ORGANS), None)
    if organ is None:
        raise InputError(
            f"{where}: '{name}' is no organ known here: use one of {', '.join(sorted(ORGANS))}, with _left "
            "or _right"
        )
    if ORGANS[organ].paired and side is None:
        raise InputError(f"{where}: '{name}' comes in pairs: write {name}_left and {name}_right")
    return organ_label(organ, 1 if side is not None and side[1] == "left" else -1)


def _mass_kg(label_map: LabelMap) -> float:
    counts = np.bincount(label_map.labels.ravel(), minlength=256)
    ml = float(np.prod(label_map.spacing)) / 1000
    grams = sum(counts[organ_labels(name)].sum() * G_PER_ML[organ.tissue] for name, organ in ORGANS.items())
    return float(grams * ml / 1000)
