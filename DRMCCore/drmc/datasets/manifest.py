"""Datasets of low-dose and full-dose pairs: the manifest, the cases that it names, and reading their images.

    DATASET/dataset.json
    DATASET/CENTER/CASE/full.nii.gz  low_drf012.nii.gz  lesions.nii.gz  organs.nii.gz  truth.nii.gz  pet.json
                        full_nac.nii.gz  low_drf012_nac.nii.gz  noise_free.nii.gz

The manifest is the contract; training, evaluation and validation read nothing else. Per case it names `id`,
`center`, `split`, `full` and `low` (by dose reduction factor), and where there are such files `lesions` and
`organs` (labels), `truth` (the activity in SUV, of simulated cases), `noise_free` (full dose as its expected
counts give it), `uncorrected` (images without correction for attenuation, of no unit, by dose reduction
factor, "1" for the full dose) and `facts` (side-car with BIDS-PET keys); `patient`, if the same person was
scanned more than once. Paths are relative to the manifest. NumPy and SimpleITK only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from drmc.errors import InputError
from drmc.files import read_json_object
from drmc.imaging.files import read_image
from drmc.imaging.formats import image_kind, stem
from drmc.imaging.geometry import Geometry
from drmc.pet.image_suv import stated_units
from drmc.pet.reading import read_volume
from drmc.pet.volume import PETVolume

MANIFEST = "dataset.json"
SCHEMA = 1
SPLITS = ("train", "validation", "test")
SIDECAR = "pet.json"
NOISE_FREE = "noise_free"
_UNCORRECTED = "_nac"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")
_DEVICE_NAMES = {
    "con",
    "prn",
    "aux",
    "nul",
    *(f"{n}{i}" for n in ("com", "lpt") for i in range(10)),
}  # Windows
_LOW = re.compile(r"low_drf(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Case:
    """One patient of a manifest: absolute paths; `low` maps the dose reduction factor to its image.

    `units` are those of the manifest, for images whose side-car does not say; `patient` is the case unless
    the manifest says that several cases are one person.
    """

    case_id: str
    center: str
    split: str
    full: Path
    low: dict[float, Path]
    lesions: Path | None = None
    organs: Path | None = None
    truth: Path | None = None
    facts: Path | None = None
    units: str | None = None
    patient: str = ""
    uncorrected: dict[float, Path] = field(default_factory=dict)
    noise_free: Path | None = None

    def doses(self) -> Iterator[tuple[str, Path]]:
        """The measured images by name: "full", then "low 12" in ascending order of the factor."""
        yield "full", self.full
        for factor in sorted(self.low):
            yield f"low {factor:g}", self.low[factor]

    def files(self) -> Iterator[tuple[str, Path]]:
        """Every file that the manifest names for the case, by its name there."""
        yield from self.doses()
        for name in ("lesions", "organs", "truth", NOISE_FREE, "facts"):
            if (path := getattr(self, name)) is not None:
                yield name, path
        for factor in sorted(self.uncorrected):
            yield f"{'full' if factor == 1 else f'low {factor:g}'} uncorrected", self.uncorrected[factor]

    def read(self, path: Path) -> PETVolume:
        """One of the case's PET images, in SUV or Bq/ml by its side-car, else by the manifest, else in SUV.

        Whether its SUV can be true is for `drmc validate` to say of the whole dataset: here it is only a
        warning.
        """
        units = None if stated_units(path, self.facts) else (self.units or "suv")
        return read_volume(path, units=units, accept_rule="SUV", case=self.facts)

    def read_truth(self) -> tuple[np.ndarray, Geometry]:
        """The truth in SUV, float32 (z, y, x), and its grid. Raises InputError where the case has none."""
        if self.truth is None:
            raise InputError(f"case {self.case_id} has no image of the truth")
        image = read_image(self.truth)
        return sitk.GetArrayFromImage(image).astype(np.float32), Geometry.from_image(image)


def read_manifest(dataset: Path) -> list[Case]:
    """The cases of DATASET/dataset.json.

    Raises:
        InputError: the manifest is missing or bad, lists no cases, or names an image that does not exist.
    """
    path, manifest = load_manifest(dataset)
    cases = []
    for entry in manifest.get("cases", []):
        case = parse_case(path, entry, manifest.get("units"))
        for name, image in case.doses():
            if not image.is_file():
                raise InputError(f"{path}: case {case.case_id} names {image} ({name}), which is not there")
        cases.append(case)
    if not cases:
        raise InputError(f"{path}: lists no cases")
    return cases


def load_manifest(dataset: Path) -> tuple[Path, dict[str, Any]]:
    """Path and content of the manifest; only that it is a JSON object with a list of cases is checked.

    Raises:
        InputError: it is missing, or not that.
    """
    path = Path(dataset) / MANIFEST
    if not path.is_file():
        raise InputError(
            f"{path}: no such dataset; make one with 'drmc import SCANS --pairs CSV -o {dataset}', "
            f"'drmc simulate -o {dataset}' or 'drmc validate --index {dataset}'"
        )
    manifest = read_json_object(path)
    if not isinstance(manifest.get("cases", []), list):
        raise InputError(f"{path}: 'cases' is not a list")
    return path, manifest


def parse_case(path: Path, entry: Any, units: str | None = None) -> Case:
    """The case of one entry of the manifest at `path`.

    Raises:
        InputError: the entry is bad, or lacks a key.
    """
    name = entry.get("id", "?") if isinstance(entry, dict) else "?"
    at = lambda key: path.parent / entry[key] if entry.get(key) else None
    try:
        case = Case(
            entry["id"],
            entry["center"],
            entry["split"],
            path.parent / entry["full"],
            {float(factor): path.parent / image for factor, image in entry["low"].items()},
            lesions=at("lesions"),
            organs=at("organs"),
            truth=at("truth"),
            facts=at("facts"),
            noise_free=at(NOISE_FREE),
            units=units,
            patient=str(entry.get("patient") or entry["id"]),
            uncorrected={
                float(factor): path.parent / image for factor, image in entry.get("uncorrected", {}).items()
            },
        )
    except (KeyError, ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{path}: case {name} has a bad or missing entry: {error}") from None
    if not all(isinstance(value, str) and value for value in (case.case_id, case.center, case.split)):
        raise InputError(f"{path}: case {name} has a bad or missing entry: id, center and split are names")
    if not case.low:
        raise InputError(f"{path}: case {case.case_id} has no low-dose image")
    return case


def select(cases: list[Case], split: str, centers: tuple[str, ...]) -> dict[str, list[Case]]:
    """Cases of a split, by center.

    Args:
        cases: those to choose from.
        split: one of `SPLITS`.
        centers: names, or patterns such as `R2041-*`: all centers that match one count as a single center.

    Raises:
        InputError: a center has no case in the split.
    """
    chosen = {
        c: [case for case in cases if case.split == split and fnmatchcase(case.center, c)] for c in centers
    }
    for center, found in chosen.items():
        if not found:
            raise InputError(f"center {center} has no patient in the split '{split}': simulate or add some")
    return chosen


def in_both_splits(training: dict[str, list[Case]], validation: dict[str, list[Case]]) -> list[str]:
    """A warning that names patients of both splits, as `select` finds them; none if there are none."""
    both = [
        f"{center}/{patient}"
        for center in training
        for patient in sorted({c.patient for c in training[center]} & {c.patient for c in validation[center]})
    ]
    if not both:
        return []
    named = f"{', '.join(both[:3])}{' and others' * (len(both) > 3)}"
    flatter = "the validation's gain and the choice of the best model flatter"
    return [f"{named}: in the splits train and validation, so {flatter}"]


def is_simulated(dataset: Path) -> bool:
    """Whether the manifest says that its images are simulated."""
    return bool(load_manifest(dataset)[1].get("simulated", False))


def is_folder_name(name: str) -> bool:
    """Whether a center or a patient can have this name: that of a folder, on every system."""
    return bool(_NAME.fullmatch(name)) and name.casefold() not in _DEVICE_NAMES


def low_name(dose_reduction_factor: float) -> str:
    """File name of a low-dose image, e.g. low_drf012.nii.gz."""
    return f"low_drf{dose_reduction_factor:03g}.nii.gz"


def uncorrected_name(dose_reduction_factor: float) -> str:
    """File name of an image without attenuation correction, e.g. full_nac.nii.gz, low_drf012_nac.nii.gz."""
    dose = "full" if dose_reduction_factor == 1 else stem(Path(low_name(dose_reduction_factor)))
    return f"{dose}{_UNCORRECTED}.nii.gz"


def factor_of(path: Path) -> float | None:
    """The dose reduction factor in the name of a low-dose image; None for any other name."""
    found = _LOW.fullmatch(stem(path))
    return float(found[1]) if found else None


def case_entry(dataset: Path, folder: Path, *, center: str, split: str) -> dict[str, Any]:
    """The manifest's entry for the files in a case's folder, which has the layout of this module."""
    images = {stem(path): path for path in sorted(folder.iterdir()) if image_kind(path)}
    place = lambda path: path.relative_to(dataset).as_posix()
    low = {factor: path for path in images.values() if (factor := factor_of(path)) is not None}
    entry: dict[str, Any] = {"id": folder.name, "center": center, "split": split}
    if "full" in images:
        entry["full"] = place(images["full"])
    entry["low"] = {f"{factor:g}": place(low[factor]) for factor in sorted(low)}
    raw = {f: images.get(stem(Path(uncorrected_name(f)))) for f in (1.0, *sorted(low))}
    if any(raw.values()):
        entry["uncorrected"] = {f"{f:g}": place(path) for f, path in raw.items() if path is not None}
    others = ("lesions", "organs", "truth", NOISE_FREE)
    entry |= {name: place(images[name]) for name in others if name in images}
    if (folder / SIDECAR).is_file():
        entry["facts"] = place(folder / SIDECAR)
    return entry
