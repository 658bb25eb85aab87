"""Patients of an organ training, read from their files whenever a patch of them is drawn."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from drmc.datasets.manifest import Case
from drmc.errors import InputError
from drmc.imaging.files import read_image
from drmc.imaging.geometry import Geometry
from drmc.organs.grid import ORGAN_MM, oriented, to_organ_grid
from drmc.organs.inputs import Frame, frame_of
from drmc.organs.table import classes
from drmc.simulation.organ_classes import to_classes
from drmc.training.tasks.organ_settings import CONDITIONS


class OrganCase:
    """A patient's images by condition, and classes, on the grid of the organs; nothing is kept in memory.

    Arrays are (z, y, x). Raises InputError where the patient has no simulated organ labels.
    """

    def __init__(self, case: Case):
        if case.organs is None:
            raise InputError(
                f"case {case.case_id}: has no organ labels; simulate it with this version of drmc"
            )
        if case.facts is None or not json.loads(case.facts.read_text(encoding="utf-8")).get("Simulated"):
            raise InputError(f"case {case.case_id}: only labels of simulated patients are known by now")
        self.case = case
        low = max(case.low)
        paths = (case.full, case.low[low], case.uncorrected.get(1.0), case.uncorrected.get(low))
        self.paths: dict[str, Path] = {
            condition: path for condition, path in zip(CONDITIONS, paths, strict=True) if path is not None
        }
        self._frames: dict[str, Frame] = {}
        self._read_before: set[Path] = set()

    def image(self, condition: str) -> np.ndarray:
        """An image, float32, in its own unit.

        Raises:
            InputError: it cannot be read.
        """
        image = self._read(self.paths[condition])
        array = sitk.GetArrayFromImage(image).astype(np.float32)
        return to_organ_grid(array, Geometry.from_image(image))[0]

    def frame(self, condition: str, image: np.ndarray | None = None) -> Frame:
        """Where the body lies in an image; computed once.

        Args:
            condition: of the image.
            image: the image, if it was read already.

        Raises:
            InputError: it shows no body.
        """
        if condition not in self._frames:
            found = frame_of(self.image(condition) if image is None else image)
            if found is None:
                raise InputError(f"case {self.case.case_id}: no body found in {self.paths[condition]}")
            self._frames[condition] = found
        return self._frames[condition]

    def labels(self) -> np.ndarray:
        """The classes, uint8; on another grid the class of the largest share of each voxel.

        Raises:
            InputError: they cannot be read.
        """
        assert self.case.organs is not None
        image = self._read(self.case.organs)
        found = to_classes(sitk.GetArrayFromImage(image).astype(np.uint8))
        found, geometry = oriented(found, Geometry.from_image(image))
        if all(abs(step - ORGAN_MM) < 0.01 for step in geometry.spacing):
            return found
        return _shared(found, geometry)

    def _read(self, path: Path) -> sitk.Image:
        image = read_image(path, is_whole=path in self._read_before)
        self._read_before.add(path)
        return image


def _shared(labels: np.ndarray, geometry: Geometry) -> np.ndarray:
    best, result = None, None
    for value in range(len(classes()) + 1):
        if not value or (labels == value).any():
            share = to_organ_grid((labels == value).astype(np.float32), geometry)[0]
            if best is None or result is None:
                best, result = share, np.zeros(share.shape, np.uint8)
            else:
                larger = share > best
                best[larger], result[larger] = share[larger], value
    assert result is not None
    return result


def fingerprint(*splits: dict[str, list[Case]]) -> str:
    """SHA-256 over what a run reads: manifest entries of its cases, and checksums of their images and labels.

    The checksum of a compressed file is the one that it ends with; others are read.
    """
    digest = hashlib.sha256()
    for case in (case for split in splits for found in split.values() for case in found):
        digest.update(repr((case.case_id, case.patient, case.center, case.split)).encode())
        paths: Sequence[Path | None] = [
            case.full,
            *case.low.values(),
            *case.uncorrected.values(),
            case.organs,
        ]
        for path in paths:
            if path is not None:
                digest.update(f"{path.name} {path.stat().st_size} {_checksum(path)}".encode())
    return digest.hexdigest()


def _checksum(path: Path) -> int:
    with open(path, "rb") as file:
        if path.suffix == ".gz":
            file.seek(-8, 2)
            return int.from_bytes(file.read(), "little")
        return zlib.crc32(file.read())


@lru_cache(maxsize=1)
def class_weights(rarity: float) -> np.ndarray:
    """Weight of each class in the cross-entropy, float32: sqrt(1 / volume), 1 for organs as large as a liver.

    Args:
        rarity: the largest weight.
    """
    middle = [float(np.sqrt(low * high)) for low, high in (one.plausible_ml for one in classes())]
    return np.array([1.0, *(min(rarity, max(1.0, np.sqrt(1500 / v))) for v in middle)], np.float32)
