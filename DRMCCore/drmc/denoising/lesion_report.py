"""The DICOM objects about lesions, of a run or of `drmc quantify`: structured report and segmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from drmc.denoising.remeasure import Result
from drmc.dicom.catalog import Catalog
from drmc.dicom.references import Instance, instance_of
from drmc.errors import InputError
from drmc.imaging.geometry import Geometry
from drmc.measures.rows import LesionRow, Stage
from drmc.pet.dicom_writing import SLICE_NAME, Equipment
from drmc.pet.volume import PETVolume
from drmc.report import segmentation_object, structured_report
from drmc.report.segmentation_object import Slices
from drmc.report.structured_report import MeasuredImage
from drmc.segments.segment import Segment

NO_SERIES = "the structured report has no numbers of the {stage} image, because that is no DICOM series"


def check(volume: PETVolume, path: Path, inputs: Sequence[Path], *, what: str, option: str) -> None:
    """Refuses an object that cannot be written.

    Args:
        volume: the scan.
        path: the file of the object.
        inputs: files that it must not replace.
        what: the object, in words.
        option: the option that names the file.

    Raises:
        InputError: the scan has no DICOM header, or the path is taken.
    """
    check_header(volume, what)
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(f"{path}: must be a file in a folder that exists: choose another with {option}")
    if path.exists() and any(path.samefile(source) for source in inputs if source.exists()):
        raise InputError(f"{path}: would be written over an input: choose another with {option}")


def check_header(volume: PETVolume, what: str) -> None:
    """InputError where the scan has no DICOM header, which the object (`what`, in words) needs."""
    if not volume.dicom_files:
        raise InputError(
            f"{volume.named_source}: a {volume.kind} file has no DICOM header to write a "
            f"{what} with: give the DICOM series"
        )


def images(
    volume: PETVolume,
    catalog: Catalog,
    *,
    denoised: Sequence[Instance] = (),
    reference: PETVolume | None = None,
) -> dict[Stage, MeasuredImage]:
    """The images that are DICOM, by stage; `denoised`: the instances of the denoised series, if any."""
    found: dict[Stage, MeasuredImage] = {"original": _image(volume, _instances(volume, catalog))}
    if denoised:
        found["denoised"] = _image(volume, denoised)
    if reference is not None and reference.dicom_files:
        found["reference"] = _image(reference, _instances(reference, catalog))
    return found


def write_measured(
    path: Path,
    volume: PETVolume,
    rows: Sequence[LesionRow],
    segments: Sequence[Segment],
    result: Result | None,
    reference: PETVolume | None,
    *,
    notices: Sequence[str],
) -> None:
    """Writes the report of a scan that was measured, or of a result of denoising that was measured again.

    Args:
        path: the file.
        volume: the scan.
        rows: the lesion table.
        segments: its segments.
        result: the result; its denoised image counts only as a DICOM series.
        reference: the full-dose image, if any.
        notices: those on the segments; the report has those of the scan as well.
    """
    catalog = Catalog()
    denoised: list[Instance] = []
    if result is not None and result.series is not None:
        files = [result.series / SLICE_NAME.format(z + 1) for z in range(len(result.denoised_suv))]
        denoised = [instance_of(catalog.header(file).dataset) for file in files]
    write(
        path,
        volume,
        rows,
        segments,
        images(volume, catalog, denoised=denoised, reference=reference),
        catalog,
        denoised_by=None if result is None else Equipment(*result.made_by),
        notices=[*volume.notices, *notices],
    )


def write_segmentation(
    path: Path, volume: PETVolume, segments: Sequence[Segment], catalog: Catalog | None = None
) -> None:
    """Writes the segments of a DICOM scan as a DICOM Segmentation object; InputError without a segment."""
    slices = slices_of(volume.dicom_files, volume.geometry, catalog or Catalog())
    segmentation_object.write(path, slices, segments, series=slices.instances[0].series)


def slices_of(files: Sequence[Path], geometry: Geometry, catalog: Catalog) -> Slices:
    """The slices of a DICOM scan with their headers.

    Args:
        files: those of the scan, in its order.
        geometry: its grid.
        catalog: what was read of DICOM files before.
    """
    headers = [catalog.header(file).dataset for file in files]
    found = [instance_of(header) for header in headers]
    return Slices(_of_each_slice(found, geometry.shape[0]), headers, geometry)


def _instances(volume: PETVolume, catalog: Catalog) -> list[Instance]:
    found = [instance_of(catalog.header(file).dataset) for file in volume.dicom_files]
    return _of_each_slice(found, len(volume.array))


def _of_each_slice(found: list[Instance], count: int) -> list[Instance]:
    """The instance of each slice, in the scan's order; all the same where one file has all slices."""
    return found if len(found) == count else found[:1] * count


def _image(volume: PETVolume, slices: Sequence[Instance]) -> MeasuredImage:
    return MeasuredImage(slices, volume.suv.to_dict(), volume.units)


def write(
    path: Path,
    volume: PETVolume,
    rows: Sequence[LesionRow],
    segments: Sequence[Segment],
    images: Mapping[Stage, MeasuredImage],
    catalog: Catalog,
    *,
    denoised_by: Equipment | None = None,
    notices: Sequence[str] = (),
) -> None:
    """Writes the report; the arguments are those of `structured_report.write`.

    `volume` is the source. A notice names each stage of the table without an image.
    """
    missing = [stage for stage in ("denoised", "reference") if stage not in images]
    stages = {row["stage"] for row in rows}
    structured_report.write(
        path,
        catalog.header(volume.dicom_files[0]).dataset,
        rows,
        segments,
        images,
        denoised_by=denoised_by,
        notices=[*notices, *(NO_SERIES.format(stage=stage) for stage in missing if stage in stages)],
    )
