"""Reading a PET image and deciding its SUV: the one way in for every format."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from drmc.errors import InputError, SUVRefusedError, UnknownUnitsError
from drmc.files import check_regular
from drmc.imaging.files import finite_float32, read_image
from drmc.imaging.formats import image_kind, stem
from drmc.imaging.geometry import Geometry
from drmc.pet.image_suv import decide_image, sidecar_of
from drmc.pet.volume import PETVolume
from drmc.suv import bounds, manual, manual_effects, rules
from drmc.suv.decision import SUVDecision
from drmc.suv.plausibility import Finding, check, check_half_life
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
    return _read_image_file(path, suv_type, accept_rule, (series_uid, series_description), units, case)


def _read_image_file(
    path: Path,
    suv_type: str,
    accept_rule: str | None,
    which: tuple[str | None, str | None],
    units: str | None,
    case: Path | None,
) -> PETVolume:
    image = read_image(path)
    array = sitk.GetArrayFromImage(image)
    array = finite_float32(array, path)
    sidecar, sidecar_path, said = sidecar_of(path, case)
    rule, vouched = accepted(accept_rule)
    if rule is not None:
        said.append(f"rule {rule} was accepted but has no effect: the image has no DICOM header")
    for what, asked in zip(("UID", "description"), which, strict=True):
        if asked is not None:
            said.append(f"the series {what} has no effect: the image is no DICOM")
    source = of_image(path)
    if sidecar is not None and sidecar_path is not None:
        source = of_sidecar(sidecar, sidecar_path.name)
        words = sidecar.get("SUVAccepted")
        vouched |= {str(word) for word in words} if isinstance(words, list) else set()
    elif units is not None:
        vouched |= {"SUV"}  # the caller has said what the voxels are
    try:
        decision, stored = decide_image(image, sidecar, sidecar_path, units, suv_type, path, vouched)
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
        array,
        Geometry.from_image(image),
        stored,
        decision,
        path,
        str(image_kind(path)),
        reported,
        [*said, *decision.notices],
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
    stated = manual.header_texts(series.slices)
    slices = manual.override(series.slices, given)
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
        decision = manual.with_manual_values_noted(decision, series.slices, given, idle)
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
