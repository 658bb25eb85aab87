"""The files of `drmc segment` for one scan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from drmc import __version__
from drmc.denoising.outputs import SEGMENTATION, SEGMENTATION_FILE
from drmc.dicom.catalog import Catalog
from drmc.errors import InputError
from drmc.measures.burden import uptake_rows, write_uptake_csv
from drmc.measures.organs import OrganRow, write_organs_csv
from drmc.organs.table import DICOM_CATEGORY, SIDE_CODES, OrganClass
from drmc.segmentation.inputs import Scan
from drmc.segmentation.request import LoadedOrgans, SegmentRequest
from drmc.segmentation.uptake import Uptake
from drmc.segments.segment import Segment
from drmc.segments.writing import Look, look_of, write_segmentation

LABELS, TABLE, PAGE, SUMMARY = "organs.seg.nrrd", "organs.csv", "report.html", "summary.json"
UPTAKE_LABELS, UPTAKE_TABLE = "uptake.seg.nrrd", "uptake.csv"
_MARKED = (0.6, 0.6, 0.6)  # gray: physiological uptake is shown apart
_SERIES_NUMBER_STEP = 4000  # behind the segmentation of lesions


def possible_names(request: SegmentRequest) -> list[str]:
    """The files and folders that a run may write."""
    uptake = [UPTAKE_LABELS, UPTAKE_TABLE] if request.threshold is not None else []
    return [LABELS, TABLE, *uptake, *([SEGMENTATION] if request.dicom_seg else []), PAGE, SUMMARY]


def inputs_of(request: SegmentRequest) -> list[Path]:
    """The files that a request names, which must not be written over."""
    named = (request.input, request.lesions, request.segmentation, request.voxels)
    return [Path(path) for path in named if path is not None]


def check_dicom(scan: Scan, request: SegmentRequest) -> None:
    """InputError where the scan has no DICOM header, which a DICOM segmentation needs."""
    if not scan.dicom_files:
        name = f"'{request.label}'" if request.label else str(scan.source)
        raise InputError(
            f"{name}: is no DICOM series for a DICOM segmentation to refer to: leave out --dicom-seg"
        )


def write(
    folder: Path,
    request: SegmentRequest,
    name: str,
    scan: Scan,
    organs: Sequence[tuple[OrganClass, Segment]],
    rows: Sequence[OrganRow],
    uptake: Uptake,
    model: LoadedOrgans,
    catalog: Catalog,
) -> list[str]:
    """Writes all but the page and the summary; returns the names of all, summary.json last.

    Args:
        folder: where to.
        request: what was asked for.
        name: of the scan.
        scan: what was read.
        organs: those that are written.
        rows: their table.
        uptake: references and uptake.
        model: what has labeled them.
        catalog: what was read of DICOM files before.
    """
    segments = [segment for _one, segment in organs]
    looks = [Look(one.index, _shade(one), one.terminology) for one, _segment in organs]
    write_segmentation(folder / LABELS, segments, scan.geometry, looks=looks)
    write_organs_csv(folder / TABLE, rows)
    produced = [LABELS, TABLE]
    if uptake.threshold is not None:
        write_uptake_csv(folder / UPTAKE_TABLE, uptake_rows(name, uptake.found))
        produced.append(UPTAKE_TABLE)
    if uptake.found:
        _write_uptake(folder / UPTAKE_LABELS, uptake, scan)
        produced.append(UPTAKE_LABELS)
    if request.dicom_seg:
        (folder / SEGMENTATION).mkdir()
        _write_dicom(folder / SEGMENTATION / SEGMENTATION_FILE, organs, scan, model, catalog)
        produced.append(SEGMENTATION)
    return [*produced, PAGE, SUMMARY]


def _shade(one: OrganClass) -> tuple[float, float, float]:
    """The color of a segment: that of the table, the right one of a pair 15 % darker."""
    factor = 0.85 if one.side == "right" else 1.0
    red, green, blue = (factor * part / 255 for part in one.color)
    return red, green, blue


def _write_uptake(path: Path, uptake: Uptake, scan: Scan) -> None:
    """The parts above the threshold; those that are marked as physiological in gray."""
    looks = [
        Look(index + 1, _MARKED) if one.is_physiological else look_of(index)
        for index, one in enumerate(uptake.found)
    ]
    write_segmentation(path, [one.segment for one in uptake.found], scan.geometry, looks=looks)


def _write_dicom(
    path: Path,
    organs: Sequence[tuple[OrganClass, Segment]],
    scan: Scan,
    model: LoadedOrgans,
    catalog: Catalog,
) -> None:
    """The organs as a DICOM segmentation."""
    from drmc.denoising.lesion_report import slices_of  # pydicom is needed for DICOM only
    from drmc.report import segmentation_object as dicom

    kinds = [
        dicom.SegmentKind(
            (DICOM_CATEGORY[0], "SCT", DICOM_CATEGORY[1]),
            (one.code, "SCT", one.meaning),
            (SIDE_CODES[one.side][0], "SCT", SIDE_CODES[one.side][1]) if one.side else None,
            _shade(one),
        )
        for one, _segment in organs
    ]
    made_by = dicom.LESIONS.algorithm_name
    if model.entry is not None:
        made_by = f"DRMC {__version__}, {model.entry.name[:24]} {model.entry.sha256[:12]}"
    content = dicom.Content(
        "DRMC organs - Research use",
        "ORGANS",
        "Organs by DRMC from PET alone. Research use only.",
        _SERIES_NUMBER_STEP,
        "AUTOMATIC" if model.entry is not None else "SEMIAUTOMATIC",
        made_by,
    )
    slices = slices_of(scan.dicom_files, scan.geometry, catalog)
    segments = [segment for _one, segment in organs]
    dicom.write(path, slices, segments, series=slices.instances[0].series, kinds=kinds, content=content)
