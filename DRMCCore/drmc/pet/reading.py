"""Reads a PET scan of any format and decides its SUV, with its voxels or by its header alone."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from drmc.dicom.catalog import Catalog
from drmc.errors import InputError, SUVRefusedError
from drmc.files import check_regular
from drmc.imaging.files import finite_float32, read_image, read_image_header
from drmc.imaging.formats import image_kind, stem
from drmc.imaging.geometry import Geometry
from drmc.paths import AnyPath, labeled, plain
from drmc.pet import in_memory
from drmc.pet.image_suv import decide_image, sidecar_of
from drmc.pet.units import ImageHeader
from drmc.pet.volume import PETHeader, PETVolume
from drmc.suv import bounds, manual, manual_effects, rules
from drmc.suv.decision import SUVDecision
from drmc.suv.plausibility import Finding, check, check_half_life, percentile_in_body
from drmc.suv.sources import Source, accepted, of_header, of_image, of_sidecar

if TYPE_CHECKING:
    from drmc.dicom.series import SeriesHeaders


SIDECAR_KEYS = {
    "manufacturer": "Manufacturer",
    "model": "ManufacturersModelName",
    "tracer": "TracerName",
    "reconstruction": "ReconMethodName",
    "filter": "ReconFilterType",
}
"""Key of a side-car (BIDS-PET) by the fact's name in `PETHeader.header`."""


@dataclass(frozen=True)
class _Options:
    """How a scan is read; the fields are arguments of `read_volume`."""

    suv_type: str
    accept_rule: str | None
    series_uid: str | None
    series_description: str | None
    units: str | None
    header: Mapping[str, str]
    case: Path | None


@dataclass
class _Decided:
    """A header with its SUV, before it is known whether that can be true."""

    header: PETHeader
    source: Source
    vouched: Collection[str]
    found: Sequence[Finding] = field(default_factory=list)

    def checked(self, body_percentile: float | None) -> PETHeader:
        """The header with what its facts and its SUV give reason to say.

        `body_percentile`: the 99.9th percentile of the SUV in the body, None where it is unknown. Raises
        SUVRefusedError where facts or SUV cannot be true.
        """
        decision = check(self.header.suv, body_percentile, self.source, self.vouched, self.found)
        return replace(self.header, suv=decision)


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
    voxels: str | Path | None = None,
    label: str | None = None,
    catalog: Catalog | None = None,
) -> PETVolume:
    """Reads a PET image and decides its SUV.

    Args:
        path: a DICOM folder or one DICOM file of the series, or a NIfTI, NRRD or MetaImage file.
        suv_type: a key of `drmc.suv.formulas.SUV_TYPES`.
        accept_rule: the reference time to use where a DICOM header is ambiguous, and what the caller vouches
            for where it is implausible (`drmc.suv.sources.accepted`).
        series_uid: which series of a folder, by its SeriesInstanceUID.
        series_description: the same by a part of its description (drmc.dicom.choice).
        units: one of `drmc.pet.units.CHOICES`, what an image that is no DICOM holds, where nothing else says
            so.
        header: values by DICOM keyword that take the place of the header's when the SUV is decided
            (drmc.suv.manual).
        case: the side-car that a dataset's manifest names for the image, where it has none of its own.
        voxels: an image file with the voxels as another program has them, which loaded them from `path` and
            may have changed them. Voxels that differ from those of a DICOM series are refused; those that
            differ from an image file are read in its place, with a side-car of their own.
        label: what messages call the scan instead of its path, such as the name that the other program shows.
        catalog: what was read of the DICOM files so far, so that none is opened again for the same.

    Raises:
        InputError: the image or its SUV is refused.
    """
    options = _Options(suv_type, accept_rule, series_uid, series_description, units, header or {}, case)
    named = _existing(path, label)
    if _is_series(named, options):
        return _read_series(named, options, voxels, catalog or Catalog())
    return _read_image_file(named, options, None if voxels is None else labeled(voxels, label))


def read_header(
    path: str | Path,
    *,
    suv_type: str = "bw",
    accept_rule: str | None = None,
    series_uid: str | None = None,
    series_description: str | None = None,
    units: str | None = None,
    header: Mapping[str, str] | None = None,
    label: str | None = None,
    body_percentile: float | None = None,
    catalog: Catalog | None = None,
) -> PETHeader:
    """Decides the SUV of a PET image by its header.

    No voxel is read, so that the file need not even have any. The arguments are those of `read_volume`, and
    `body_percentile`: the 99.9th percentile of the voxels in the body, in the image's own units, where
    another program knows it. Without it there is no check whether the SUV that comes out can be true. Raises
    InputError where the header or its SUV is refused.
    """
    options = _Options(suv_type, accept_rule, series_uid, series_description, units, header or {}, None)
    named = _existing(path, label)
    if _is_series(named, options):
        series = _series_headers(named, options, catalog or Catalog())
        with _explained(series, options):
            decided = _decide_series(named, series, options)
            return decided.checked(_times(body_percentile, decided.header.suv))
    known = "" if body_percentile is None else _percentile_text(body_percentile, " in the body")
    decided = _decide_image(named, read_image_header(named), options, lambda: known)
    return decided.checked(_times(body_percentile, decided.header.suv))


def _times(body_percentile: float | None, suv: SUVDecision) -> float | None:
    return None if body_percentile is None else body_percentile * suv.factor


def _percentile_text(value: float, where: str = "") -> str:
    return f"{bounds.PERCENTILE:g}th percentile{where} {value:.4g}"


def _existing(path: str | Path, label: str | None) -> AnyPath:
    """The path with its label; InputError where nothing is there that can be read."""
    named = labeled(path, label)
    check_regular(named)
    if not named.exists():
        raise InputError(f"{named} does not exist: check the path of the scan")
    return named


def _is_series(path: AnyPath, options: _Options) -> bool:
    """Whether the path is DICOM. Raises InputError for header values of an image that has no such header."""
    if path.is_dir() or image_kind(path) is None:
        return True
    if options.header:
        raise InputError(
            f"{path} is no DICOM, so nothing of its header can be given by hand "
            f"({', '.join(options.header)}): write it into its side-car {stem(path)}.json"
        )
    return False


# ---- image files


def _read_image_file(path: AnyPath, options: _Options, voxels: AnyPath | None) -> PETVolume:
    image = None
    if voxels is not None:
        own = read_image(voxels)
        try:
            image = read_image(path)
        except InputError:  # not what was loaded, whatever it is
            pass
        if image is None or not in_memory.same_as_image(own, image):
            path, image = voxels, own
    image = read_image(path) if image is None else image
    array = finite_float32(sitk.GetArrayFromImage(image), path)
    decided = _decide_image(
        path, image, options, lambda: _percentile_text(float(np.percentile(array, bounds.PERCENTILE)))
    )
    return _checked_volume(decided, array, Geometry.from_image(image))


def _decide_image(path: AnyPath, image: ImageHeader, options: _Options, values: Any) -> _Decided:
    """The SUV of an image file by its fields and side-car; `values()` describes its voxels, "" if unknown."""
    sidecar, sidecar_path, notices = sidecar_of(path, options.case)
    rule, vouched = accepted(options.accept_rule)
    if rule is not None:
        notices.append(f"rule {rule} was accepted but has no effect: the image has no DICOM header")
    for what, value in (("UID", options.series_uid), ("description", options.series_description)):
        if value is not None:
            notices.append(f"the series {what} has no effect: the image is no DICOM")
    source = of_image(path)
    if sidecar is not None and sidecar_path is not None:
        source = of_sidecar(sidecar, sidecar_path.name)
        words = sidecar.get("SUVAccepted")
        vouched |= {str(word) for word in words} if isinstance(words, list) else set()
    elif options.units is not None:
        vouched |= {"SUV"}  # the caller states what the voxels are
    try:
        decision, units = decide_image(
            image,
            sidecar,
            sidecar_path,
            options.units,
            options.suv_type,
            path,
            vouched,
            lambda: "; ".join(text for text in (values(), *notices) if text),
        )
    except InputError:
        if sidecar is not None and "SUVFactor" not in sidecar:
            check_half_life(source, vouched)
        raise
    header = PETHeader(
        units,
        decision,
        plain(path),
        str(image_kind(path)),
        {name: sidecar[key] for name, key in SIDECAR_KEYS.items() if sidecar and sidecar.get(key)},
        [*notices, *decision.notices],
        label=path.label if not isinstance(path, Path) else None,
    )
    return _Decided(header, source, vouched)


def _checked_volume(decided: _Decided, array: np.ndarray, geometry: Geometry) -> PETVolume:
    """The volume once its SUV was found plausible; SUVRefusedError where it cannot be true."""
    volume = PETVolume(**vars(decided.header), array=array, geometry=geometry)
    header = decided.checked(percentile_in_body(volume.suv_array(), geometry.spacing_zyx))
    return replace(volume, suv=header.suv)


# ---- DICOM series


def _read_series(path: AnyPath, options: _Options, voxels: str | Path | None, catalog: Catalog) -> PETVolume:
    series = _series_headers(path, options, catalog)
    with _explained(series, options):
        decided = _decide_series(path, series, options)
        array = series.read_voxels(catalog)
        if voxels is not None and not in_memory.same_as_series(read_image(voxels), array, series.geometry):
            raise InputError(
                f"{path} no longer holds what its DICOM files hold, so their SUV factor may not apply: load "
                "the series again, or say what the voxels are"
            )
        return _checked_volume(decided, array, series.geometry)


def _series_headers(path: AnyPath, options: _Options, catalog: Catalog) -> SeriesHeaders:
    from drmc.dicom.series import read_series_headers  # pydicom is needed for DICOM only

    manual.checked(options.header)
    accepted(options.accept_rule)
    return read_series_headers(path, catalog, options.series_uid, options.series_description)


@contextmanager
def _explained(series: SeriesHeaders, options: _Options) -> Iterator[None]:
    """Adds to a refusal of the SUV the header's values, and the times that cannot be read."""
    from drmc.dicom import times

    try:
        yield
    except SUVRefusedError as error:
        error.stated = manual.header_texts(series.slices)
        slices = manual.override(series.slices, manual.checked(options.header))
        error.args = (f"{error}{times.unreadable_times(slices, series.synonyms)}",)
        raise


def _decide_series(path: AnyPath, series: SeriesHeaders, options: _Options) -> _Decided:
    given = manual.checked(options.header)
    rule, vouched = accepted(options.accept_rule)
    slices = manual.override(series.slices, given)
    source = of_header(slices, series.synonyms)

    def decide(facts: Sequence[Mapping[str, Any]]) -> SUVDecision:
        return rules.decide(
            facts,
            suv_type=options.suv_type,
            accept_rule=rule,
            accept_clock="CLOCK" in vouched,
            synonyms=series.synonyms,
        )

    try:
        decision = decide(slices)
    except SUVRefusedError:
        check_half_life(source, vouched)
        raise
    differ = manual_effects.philips_disagreement(decision, slices, decide)
    if given and not manual_effects.philips_disagreement(decision, series.slices, decide):
        # The header agrees with itself, and that the values by hand have no effect is in the decision's
        # notices.
        differ = [replace(one, implausible=False) for one in differ]
    idle = manual_effects.without_effect(decision, series.slices, given, decide) if given else []
    decision = manual.with_manual_values_noted(decision, series.slices, given, idle)
    notices = [*series.notices, *decision.notices]
    if options.units is not None:
        notices.append(f"the units asked for ({options.units}) have no effect: the DICOM header states them")
    header = PETHeader(
        decision.facts["units"],
        decision,
        plain(path),
        "dicom",
        series.header,
        notices,
        series.files,
        manual.header_texts(series.slices),
        given,
        series.frame_of_reference,
        series.uid,
        label=path.label if not isinstance(path, Path) else None,
    )
    return _Decided(header, source, vouched, differ)
