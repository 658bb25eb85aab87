"""The command `drmc quantify`: volume, SUV, MTV and TLG of the segments of an image."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from drmc.cli.arguments import LESIONS, add_liver, add_passed_in, add_reading, read_scan, reading_options
from drmc.cli.printing import (
    FIXED_VOLUMES,
    TABLE_QUANTITIES,
    mark,
    number,
    print_bias,
    print_intervals,
    print_json,
    print_suv,
    print_table,
    print_volumes,
)
from drmc.measures.rows import LesionNumber, LesionRow
from drmc.runtime.progress import Reporter
from drmc.texts import shown

if TYPE_CHECKING:
    from drmc.pet.volume import PETVolume

EXAMPLES = (
    "  drmc quantify OUT/denoised.nii.gz --lesions lesions.seg.nrrd\n"
    "  drmc quantify OUT --lesions others.seg.nrrd     a result of drmc denoise: before, after and change\n"
    "  drmc quantify low.nii.gz --lesions lesions.nii.gz --reference full.nii.gz --json"
)

_COLUMNS: tuple[tuple[LesionNumber, str], ...] = (
    ("volume_ml", "volume [ml]"),
    ("suv_min", "SUVmin"),
    ("suv_median", "median"),
    *TABLE_QUANTITIES,
    *FIXED_VOLUMES,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument(
        "input",
        metavar="IMAGE",
        help="DICOM folder or file, NIfTI, NRRD or MHA; or the result folder of drmc denoise, whose scan and "
        "denoised image are both measured, without denoising again",
    )
    parser.add_argument("--lesions", metavar="SEG", required=True, help=LESIONS)
    parser.add_argument(
        "--reference",
        metavar="FULLDOSE",
        help="full-dose image on the same grid, for which --header is not: adds B_mean, B_max, B_peak",
    )
    add_liver(parser)
    add_reading(parser)
    add_passed_in(parser)
    parser.add_argument(
        "--dicom-sr",
        metavar="FILE",
        help="write the numbers as a DICOM structured report as well (TID 1500), for a scan that is DICOM",
    )
    parser.add_argument(
        "--dicom-seg",
        metavar="FILE",
        help="write the lesions as a DICOM segmentation (SEG) as well, for a scan that is DICOM",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Measures, prints a row for each segment and stage, and returns the exit code."""
    from drmc.denoising import remeasure
    from drmc.denoising.finding import scan_name
    from drmc.denoising.inputs import read_reference
    from drmc.measures import mtv
    from drmc.measures.bias import lesion_bias
    from drmc.measures.lesions import lesion_table
    from drmc.measures.sul import state_sul
    from drmc.segments.reading import read_segments
    from drmc.suv import wording

    result = None
    if remeasure.is_result(Path(options.input)):
        other = {"series_uid": options.series, "series_description": options.series_description}
        other |= {"suv_type": options.suv_type, "accept_rule": options.accept_rule}
        other |= {"units": options.units, "header": options.header}
        result = remeasure.read_result(Path(options.input), **other)
        name, volume = result.name, result.original
        volume.notices[:0] = result.notices
    else:
        path, volume = read_scan(options)
        name = options.label or scan_name(path)
    _check_objects(options, volume)
    segments, notices = read_segments(
        options.lesions, volume.geometry, volume.frame_of_reference, volume.series_uid
    )
    stages = {"original": volume.suv_array()}
    if result is not None:
        stages["denoised"] = result.denoised_suv
    reference = None
    if options.reference is not None:
        reading = reading_options(options) if result is None else result.reading
        reference = read_reference(options.reference, volume.geometry, **reading)
        stages["reference"] = reference.suv_array()
    rows = lesion_table(name, segments, stages, volume.geometry, options.liver_reference)
    state_sul(rows, volume.suv, None if reference is None else reference.suv)
    if result is not None:
        result.state_intervals(rows, segments)
    notices = [*notices, *mtv.peak_notes(rows, volume.geometry)]
    if options.dicom_sr is not None or options.dicom_seg is not None:
        from drmc.denoising import lesion_report  # pydicom is needed for DICOM only

        if options.dicom_sr is not None:
            lesion_report.write_measured(
                Path(options.dicom_sr), volume, rows, segments, result, reference, notices=notices
            )
        if options.dicom_seg is not None:
            lesion_report.write_segmentation(Path(options.dicom_seg), volume, segments)
    bias = lesion_bias(rows) if options.reference is not None else None
    if options.json:
        print_json(
            {
                "segments": rows,
                "bias": bias,
                "notices": [*volume.notices, *notices],
                "suv": wording.chosen(volume.suv.to_dict()),
                "reference": reference and {"suv": wording.chosen(reference.suv.to_dict())},
            }
        )
        return 0
    _print_rows(rows)
    if bias is not None:
        print_bias(bias)
    print_suv(volume.suv.to_dict(), volume.units)
    if reference is not None:
        print_suv(reference.suv.to_dict(), reference.units, "reference")
    for text in [*volume.notices, *notices]:
        print(f"note: {shown(text)}")
    return 0


def _check_objects(options: argparse.Namespace, volume: PETVolume) -> None:
    """Refuses DICOM objects that cannot be written, before anything is measured."""
    objects = (
        ("--dicom-sr", options.dicom_sr, "structured report"),
        ("--dicom-seg", options.dicom_seg, "segmentation"),
    )
    for option, path, what in objects:
        if path is not None:
            from drmc.denoising import lesion_report  # pydicom is needed for DICOM only

            inputs = [Path(options.lesions), *volume.dicom_files]
            lesion_report.check(volume, Path(path), inputs, what=what, option=option)


def _print_rows(rows: Sequence[LesionRow]) -> None:
    cells = [
        [row["segment"], row["stage"], *(number(row[key]) + mark(row, key) for key, _ in _COLUMNS)]
        for row in rows
    ]
    print_table(["segment", "stage", *(title for _, title in _COLUMNS)], cells)
    print_volumes(rows)
    print_intervals(rows)
