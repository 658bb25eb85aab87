"""Pairs of images on the network's grid, as training and validation read them.

If a folder is configured, they are kept there and shared by processes and runs.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from drmc.datasets.manifest import SIDECAR, Case
from drmc.errors import InputError, NothingMarkedError
from drmc.files import safe_name
from drmc.imaging.body import body_mask
from drmc.imaging.formats import stem
from drmc.imaging.geometry import Geometry
from drmc.imaging.resampling import GRID_MM, resample_to_grid
from drmc.segments.reading import read_segments

FORM = 2  # version of the stored arrays


@dataclass
class Pair:
    """One pair of low and full dose on the network's grid, cropped to the body; arrays are (z, y, x), SUV.

    The pairs of a patient share all arrays but `low`.

    Attributes:
        case_id: the case.
        low: the low dose.
        full: the full dose.
        body: mask of the body.
        body_index: flat indices of the body's voxels.
        hot_index: voxels of the body at which patches are centered by uptake.
        hot_share: cumulative share of the uptake at `hot_index`, ascending to 1.
        dose_reduction_factor: full dose over low dose, if known.
        lesions: flat indices of each lesion's voxels, if wanted.
        noise_free: the full dose without noise, if wanted.
        lesion_mask: mask of all lesions and their neighbors, if lesions are wanted.
        spacing_zyx: size of a voxel in mm.
    """

    case_id: str
    low: np.ndarray
    full: np.ndarray
    body: np.ndarray
    body_index: np.ndarray
    hot_index: np.ndarray
    hot_share: np.ndarray
    dose_reduction_factor: float | None = None
    lesions: tuple[np.ndarray, ...] = ()
    noise_free: np.ndarray | None = None
    lesion_mask: np.ndarray | None = None
    spacing_zyx: tuple[float, float, float] = (GRID_MM,) * 3


@dataclass(frozen=True)
class Wanted:
    """What is read besides the two images: lesions (by nearest neighbor), and the image without noise."""

    lesions: bool = False
    noise_free: bool = False


def load_pairs(case: Case, margin: int = 8, *, wanted: Wanted | None = None) -> list[Pair]:
    """Reads a patient's pairs, one for each low dose, on the network's grid.

    They are resampled as in inference and cropped to the body.

    Args:
        case: the case of the dataset.
        margin: voxels of air around the body.
        wanted: what else is read.

    Raises:
        InputError: an image cannot be read, grids differ, no body is found, or an image without noise is
            wanted and there is none.
    """
    wanted = wanted or Wanted()
    noise_free_path = case.noise_free if wanted.noise_free else None
    if wanted.noise_free and noise_free_path is None:
        raise InputError(
            f"case {case.case_id}: has no image without noise; simulate with --noise-free, or train with "
            "target full"
        )
    scan = case.read(case.full)
    full, grid = resample_to_grid(scan.suv_array(), scan.geometry)
    body = body_mask(full, tuple(reversed(grid.spacing)))
    if not body.any():
        raise InputError(f"case {case.case_id}: no body found in {case.full}")
    occupied = [np.flatnonzero(body.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    box = tuple(slice(max(0, o[0] - margin), o[-1] + 1 + margin) for o in occupied)
    cut = lambda image: np.ascontiguousarray(image[box], dtype=image.dtype)

    def cut_like_full(path: Path, name: str) -> np.ndarray:
        volume = case.read(path)
        if not volume.geometry.matches(scan.geometry, tolerance=0.1 * min(scan.geometry.spacing)):
            raise InputError(
                f"case {case.case_id}: {name} ({path.name}) and full dose lie on different grids "
                f"({volume.geometry}, full: {scan.geometry}): resample it to the full dose's, or take it "
                "out; drmc validate lists all of them"
            )
        return cut(resample_to_grid(volume.suv_array(), volume.geometry)[0])

    low = {factor: cut_like_full(path, "low") for factor, path in case.low.items()}
    noise_free = None if noise_free_path is None else cut_like_full(noise_free_path, "noise_free")
    lesions = _lesions(case, grid, box, full.shape) if wanted.lesions else ()
    full, body = cut(full), cut(body)
    body_index = np.flatnonzero(body).astype(np.int32)
    # a coarse subset suffices for centers drawn by uptake
    hot_index = body_index[::7]
    hot_share = np.cumsum(np.clip(full.ravel()[hot_index], 0, None).astype(np.float64))
    common = {
        "full": full,
        "body": body,
        "body_index": body_index,
        "hot_index": hot_index,
        "hot_share": hot_share / hot_share[-1],
        "lesions": lesions,
        "noise_free": noise_free,
        "spacing_zyx": tuple(grid.spacing_zyx),
        "lesion_mask": _around(lesions, full.shape) if wanted.lesions else None,
    }
    return [Pair(case.case_id, low[factor], dose_reduction_factor=factor, **common) for factor in case.low]


def _lesions(
    case: Case, grid: Geometry, box: tuple[slice, ...], shape: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """Flat indices of each lesion's voxels in the part `box` of the grid, which has `shape`."""
    if case.lesions is None:
        return ()
    try:
        segments, _ = read_segments(case.lesions, grid)
    except NothingMarkedError:  # a patient without a lesion in the field of view
        return ()
    inner = tuple(min(cut.stop, n) - cut.start for cut, n in zip(box, shape, strict=True))
    found = []
    for segment in segments:
        places = [
            axis + part.start - cut.start
            for axis, part, cut in zip(np.nonzero(segment.inside), segment.box, box, strict=True)
        ]
        inside = np.all([(p >= 0) & (p < n) for p, n in zip(places, inner, strict=True)], axis=0)
        if inside.any():
            found.append(np.ravel_multi_index([p[inside] for p in places], inner))
    return tuple(found)


def _around(lesions: Sequence[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Mask of the lesions' voxels and their neighbors along the axes, where blur moves their uptake to."""
    mask = np.zeros(shape, bool)
    for lesion in lesions:
        mask.ravel()[lesion] = True
    grown = mask.copy()
    for axis in range(3):
        first, last = (
            tuple(slice(a, b) if k == axis else slice(None) for k in range(3))
            for a, b in ((1, None), (None, -1))
        )
        grown[first] |= mask[last]
        grown[last] |= mask[first]
    return grown


def pairs_of(
    cases: dict[str, list[Case]], folder: Path | None = None, *, wanted: Wanted | None = None
) -> dict[str, list[Pair]]:
    """The pairs of the cases of each center, in memory, or in a folder as by `kept_pairs`.

    Raises:
        InputError: as `load_pairs`.
        OSError: the folder cannot be written.
    """

    def read(case: Case) -> list[Pair]:
        return load_pairs(case, wanted=wanted) if folder is None else kept_pairs(case, folder, wanted=wanted)

    return {center: [pair for case in found for pair in read(case)] for center, found in cases.items()}


# ---- on disk
def kept_pairs(case: Case, folder: Path, *, wanted: Wanted | None = None) -> list[Pair]:
    """The same as `load_pairs`, with arrays that are stored in a folder once and memory-mapped from it.

    Any number of processes and runs can share them; a case whose images change is stored anew.

    Args:
        case: the case of the dataset.
        folder: where the arrays are stored.
        wanted: what else is read.

    Raises:
        InputError: as `load_pairs`.
        OSError: the folder cannot be written.
    """
    wanted = wanted or Wanted()
    key = f"{FORM} {wanted} {sorted(case.low)} {case_digest(case)}"
    place = folder / f"{safe_name(case.case_id)}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    if not place.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".part-{place.name}-", dir=folder))
        try:
            _write(load_pairs(case, wanted=wanted), temporary)
            temporary.rename(place)
        except OSError:
            if not place.is_dir():  # otherwise another process was faster
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return _read(place)


_APART = ("case_id", "low", "dose_reduction_factor", "lesions", "spacing_zyx")
_SHARED = [f.name for f in fields(Pair) if f.name not in _APART]


def _write(pairs: list[Pair], folder: Path) -> None:
    for number, pair in enumerate(pairs):
        np.save(folder / f"low{number}.npy", pair.low)
    for name in _SHARED:
        if (array := getattr(pairs[0], name)) is not None:
            np.save(folder / f"{name}.npy", array)
    for number, lesion in enumerate(pairs[0].lesions):
        np.save(folder / f"lesion{number}.npy", lesion)
    about = {
        "case": pairs[0].case_id,
        "doses": [pair.dose_reduction_factor for pair in pairs],
        "lesions": len(pairs[0].lesions),
        "spacing_zyx": pairs[0].spacing_zyx,
    }
    (folder / "pairs.json").write_text(json.dumps(about), encoding="utf-8")
    for path in folder.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())


def _read(folder: Path) -> list[Pair]:
    about = json.loads((folder / "pairs.json").read_text(encoding="utf-8"))
    # copy on write: PyTorch needs writable arrays
    read = lambda name: np.load(folder / f"{name}.npy", mmap_mode="c")
    common = {name: read(name) for name in _SHARED if (folder / f"{name}.npy").is_file()}
    common["spacing_zyx"] = tuple(about["spacing_zyx"])
    lesions = tuple(np.array(read(f"lesion{number}")) for number in range(about["lesions"]))
    return [
        Pair(about["case"], read(f"low{number}"), dose_reduction_factor=dose, lesions=lesions, **common)
        for number, dose in enumerate(about["doses"])
    ]


# ---- fingerprints
def fingerprint(*splits: dict[str, list[Case]]) -> str:
    """SHA-256 over what a run reads: manifest entries of its cases, content of their images and side-cars.

    Other cases of the dataset and its location do not count.
    """
    digest = hashlib.sha256()
    for case in (case for split in splits for found in split.values() for case in found):
        digest.update(repr((case.case_id, case.patient, case.center, case.split, case.units)).encode())
        _add_content(digest, case, [*case.doses(), *_noise_free(case)])
    return digest.hexdigest()


def case_digest(case: Case) -> str:
    """SHA-256 over the content of all of a case's images, labels and side-cars."""
    digest = hashlib.sha256(repr(case.units).encode())
    labels = [("lesions", case.lesions)] if case.lesions is not None else []
    _add_content(digest, case, [*case.doses(), *_noise_free(case), *labels])
    return digest.hexdigest()


def _noise_free(case: Case) -> list[tuple[str, Path]]:
    return [("noise_free", case.noise_free)] if case.noise_free is not None else []


def _add_content(digest: hashlib._Hash, case: Case, images: Sequence[tuple[str, Path]]) -> None:
    for name, image in images:
        for path in (image, image.with_name(f"{stem(image)}.json"), image.with_name(SIDECAR)):
            if path.is_file():
                digest.update(f"{name} {path.name} {path.stat().st_size}\n".encode())
                with open(path, "rb") as file:
                    while chunk := file.read(1 << 20):
                        digest.update(chunk)
