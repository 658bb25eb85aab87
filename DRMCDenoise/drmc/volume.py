"""PET volumes: what the values of an image mean, and reading them. Arrays are (z, y, x) float32."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from drmc import sidecars
from drmc import units as unit_names
from drmc.errors import InputError, SUVRefusedError, UnknownUnitsError
from drmc.files import check_regular
from drmc.imaging.files import finite_float32, read_image
from drmc.imaging.formats import image_kind, stem
from drmc.imaging.geometry import Geometry
from drmc.suv import bounds, manual, manual_effects, rules
from drmc.suv.decision import SUVDecision
from drmc.suv.formulas import SUV_TYPES, suv_type_name
from drmc.suv.plausibility import Finding, check, check_half_life
from drmc.suv.sidecar import ACTIVITY_UNITS, decide_sidecar
from drmc.suv.sources import Source, accepted, of_header, of_image, of_sidecar

if TYPE_CHECKING:
    from drmc.dicom.series import PETSeries


# Facts of a side-car for reports (BIDS-PET keys).
_REPORTED = {
    "manufacturer": "Manufacturer",
    "model": "ManufacturersModelName",
    "tracer": "TracerName",
    "reconstruction": "ReconMethodName",
    "filter": "ReconFilterType",
}


@dataclass
class PETVolume:
    """A PET image in its own units, with what turns it into SUV.

    `array` float32 (z, y, x); `units` the stored Units ("BQML", "CNTS", "GML", "SUV"...); `kind` "dicom",
    "nifti", "nrrd" or "mha"; `header` facts that identify nobody; `dicom_files` in slice order, empty where
    it is no DICOM. `stated`: what a DICOM header says where a value can be given by hand, and `given` what was.
    `frame_of_reference`: FrameOfReferenceUID (0020,0052), `series_uid`: SeriesInstanceUID (0020,000E), of a DICOM scan.
    """

    array: np.ndarray
    geometry: Geometry
    units: str
    suv: SUVDecision
    source: Path
    kind: str
    header: dict[str, Any] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    dicom_files: list[Path] = field(default_factory=list)
    stated: dict[str, str] = field(default_factory=dict)
    given: dict[str, str] = field(default_factory=dict)
    frame_of_reference: str | None = None
    series_uid: str | None = None

    def suv_array(self) -> np.ndarray:
        """The image in SUV, float32 (z, y, x): the stored values times the factor of their slice."""
        return _times(self.array, self._factors())

    def from_suv(self, values: np.ndarray) -> np.ndarray:
        """SUV (z, y, x), such as a residual, in the scan's own units, float32; zeros stay exactly zero."""
        if values.shape != self.array.shape:
            raise ValueError(f"values of shape {values.shape} for a scan of shape {self.array.shape}")
        return _times(values, 1.0 / self._factors())

    def _factors(self) -> np.ndarray:
        per_slice = self.suv.factor_per_slice
        return np.array(per_slice if per_slice is not None else [self.suv.factor] * len(self.array))


def _times(array: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Slice by slice in float64, so that the result is the float32 nearest to the product."""
    result = np.empty(array.shape, np.float32)
    for z, factor in enumerate(factors):
        result[z] = array[z].astype(np.float64) * factor
    return result


def read_volume(
    path: str | Path,
    *,
    suv_type: str = "bw",
    accept_rule: str | None = None,
    series_uid: str | None = None,
    series_description: str | None = None,
    units: str | None = None,
    header: Mapping[str, str] | None = None,
    case: Path | None = None,
) -> PETVolume:
    """Reads a PET image and decides its SUV.

    `path`: a DICOM folder or one DICOM file of the series, or a NIfTI, NRRD or MetaImage file. `suv_type`: a
    key of `suv.SUV_TYPES`. `accept_rule`: the reference time to use where a DICOM header is ambiguous, and what the
    caller vouches for where it is implausible (`plausibility.accepted`). `series_uid`, `series_description`: which series of a folder, by
    its UID or by a part of its description (drmc.dicom.choice).
    `units`: one of `units.CHOICES`, what an image that is no DICOM holds, where nothing else says so. `header`: values by DICOM keyword that take the place of the header's when the SUV
    is decided (drmc.suv.manual). `case`: the side-car that a dataset's manifest names for the image, where it has
    none of its own.

    Raises InputError where the image or its SUV is refused.
    """
    path = Path(path)
    check_regular(path)
    if not path.exists():
        raise InputError(f"{path} does not exist: check the path of the scan")
    kind = None if path.is_dir() else image_kind(path)
    if kind is None:
        volume = _read_dicom(path, suv_type, accept_rule, (series_uid, series_description), header or {})
        idle = (
            []
            if units is None
            else [f"the units asked for ({units}) have no effect: the DICOM header states them"]
        )
        return replace(volume, notices=[*volume.notices, *idle])
    if header:
        raise InputError(
            f"{path} is no DICOM, so nothing of its header can be given by hand ({', '.join(header)}): write it into "
            f"its side-car {stem(path)}.json"
        )
    image = read_image(path)
    array = sitk.GetArrayFromImage(image)
    array = finite_float32(array, path)
    sidecar, sidecar_path, said = _sidecar(path, case)
    rule, vouched = accepted(accept_rule)
    if rule is not None:
        said.append(f"rule {rule} was accepted but has no effect: the image has no DICOM header")
    if series_uid is not None:
        said.append("the series UID has no effect: the image is no DICOM")
    if series_description is not None:
        said.append("the series description has no effect: the image is no DICOM")
    source = of_image(path)
    if sidecar is not None:
        source = of_sidecar(sidecar, sidecar_path.name)
        words = sidecar.get("SUVAccepted")
        vouched |= {str(word) for word in words} if isinstance(words, list) else set()
    elif units is not None:
        vouched |= {"SUV"}  # the caller has said what the voxels are
    try:
        decision, stored = _decide_image(image, sidecar, sidecar_path, units, suv_type, path, vouched)
    except UnknownUnitsError as error:
        also = "".join(f"; {text}" for text in said)
        high = float(np.percentile(array, bounds.PERCENTILE))
        known = f"99.9th percentile {high:.4g}{also}"
        raise UnknownUnitsError(str(error).replace("%VALUES", known)) from None
    except InputError:
        if sidecar is not None and "SUVFactor" not in sidecar:
            check_half_life(source, vouched)
        raise
    reported = {name: sidecar[key] for name, key in _REPORTED.items() if sidecar and sidecar.get(key)}
    volume = PETVolume(
        array, Geometry.from_image(image), stored, decision, path, kind, reported, [*said, *decision.notices]
    )
    return _checked(volume, source, vouched)


def _checked(
    volume: PETVolume,
    source: Source,
    vouched: Collection[str],
    found: Sequence[Finding] = (),
) -> PETVolume:
    """The volume with what its facts and its SUV give reason to say; SUVRefusedError where they cannot be true."""
    spacing = volume.geometry.spacing_zyx
    decision = check(volume.suv, volume.suv_array(), spacing, source, vouched, found)
    return replace(volume, suv=decision)


def _read_dicom(
    path: Path,
    suv_type: str,
    accept_rule: str | None,
    which: tuple[str | None, str | None],
    header: Mapping[str, str],
) -> PETVolume:
    from drmc.dicom import times
    from drmc.dicom.series import read_pet_series  # pydicom is needed for DICOM only

    given = manual.checked(header)
    rule, vouched = accepted(accept_rule)
    series = read_pet_series(path, *which)
    stated = manual.stated(series.slices)
    slices = manual.replaced(series.slices, given)
    source = of_header(slices, series.synonyms)

    def decide(facts: Sequence[Mapping[str, Any]]) -> SUVDecision:
        return rules.decide(
            facts,
            suv_type=suv_type,
            accept_rule=rule,
            accept_clock="CLOCK" in vouched,
            synonyms=series.synonyms,
        )

    try:
        try:
            decision = decide(slices)
        except SUVRefusedError:
            check_half_life(source, vouched)
            raise
        differ = manual_effects.philips_disagreement(decision, slices, decide)
        if given and not manual_effects.philips_disagreement(decision, series.slices, decide):
            # The header agrees with itself, and the values by hand are told to have no effect.
            differ = [replace(one, implausible=False) for one in differ]
        idle = manual_effects.without_effect(decision, series.slices, given, decide) if given else []
        decision = manual.told(decision, series.slices, given, idle)
        volume = _volume_of(series, decision, path, stated, given)
        return _checked(volume, source, vouched, differ)
    except SUVRefusedError as error:
        error.stated = stated
        error.args = (f"{error}{times.unreadable_times(slices, series.synonyms)}",)
        raise


def _volume_of(
    series: PETSeries, decision: SUVDecision, path: Path, stated: dict[str, str], given: dict[str, str]
) -> PETVolume:
    return PETVolume(
        series.array,
        series.geometry,
        decision.facts["units"],
        decision,
        path,
        "dicom",
        series.header,
        series.notices + decision.notices,
        series.files,
        stated,
        given,
        series.frame_of_reference,
        series.uid,
    )


def _sidecar(path: Path, case: Path | None = None) -> tuple[dict[str, Any] | None, Path | None, list[str]]:
    """The JSON that belongs to an image (drmc.sidecars), its path, and what is to be said of it."""
    found, said = sidecars.find(path, stem(path))
    if found is None and case is not None and case.is_file():
        found, said = case, [f"units and SUV by {case.name}, which the dataset names"]
    return (None if found is None else sidecars.read(found)), found, said


def stated_units(path: str | Path, case: Path | None = None) -> str | None:
    """The code of units (drmc.units) that the side-car JSON of an image says; None where there is none or it does not
    say; `case` as for `read_volume`."""
    sidecar, _, _ = _sidecar(Path(path), case)
    return None if sidecar is None else unit_names.stated(sidecar.get("Units"))


def _decide_image(
    image: sitk.Image,
    sidecar: Mapping[str, Any] | None,
    sidecar_path: Path | None,
    units: str | None,
    suv_type: str,
    path: Path,
    vouched: Collection[str],
) -> tuple[SUVDecision, str]:
    """The SUV of an image that is no DICOM, and its stored units (a code of drmc.units)."""
    kind = suv_type_name(suv_type)
    mend = f'write a side-car {stem(path)}.json with "Units": "SUV" or "Bq/mL"'
    asked = None if units is None else unit_names.stated(units)
    if units is not None and asked is None:
        raise InputError(f"units {units!r} are unknown: say {', '.join(unit_names.CHOICES)}")
    if sidecar is not None:
        stored = unit_names.stated(sidecar.get("Units")) or (asked if "Units" not in sidecar else None)
        if stored is None:
            raise InputError(
                f'{sidecar_path}: "Units" is {sidecar.get("Units")!r}: write "SUV", "Bq/mL" or "kBq/mL"'
            )
        if asked not in (None, stored):
            raise InputError(
                f'{sidecar_path} says "Units": {sidecar["Units"]!r} but {units} was asked for: correct one'
            )
        name = str(sidecar_path)
        return decide_sidecar(sidecar, stored, kind, name, image.GetSize()[2], "CLOCK" in vouched), stored
    stored, said, text = (asked, "the caller", "") if asked else unit_names.of_fields(image, path)
    if stored in ACTIVITY_UNITS:
        raise InputError(
            f"{path} holds {unit_names.shown(stored)} by {said}, and nothing gives its SUV: {mend}, dose, weight and "
            "times"
        )
    if stored is None:
        why = (
            f"says by {said} that it holds {text[:40]!r}, which is no known unit"
            if said
            else "does not say its units"
        )
        raise UnknownUnitsError(f"{path} {why} (%VALUES): {mend}, or say --units suv")
    if kind != "bw":
        raise InputError(f"{path} is taken as SUVbw: for {SUV_TYPES[kind][0]} {mend}, weight, height and sex")
    facts = {"units": "SUV", "suv_formula": SUV_TYPES[kind][2]}
    return SUVDecision(1.0, rule="declared", source=f"SUV by {said}", facts=facts), "SUV"
