"""The command `drmc candidates`: uptake above a threshold as segments, for a person to keep or discard."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drmc.cli.arguments import LESIONS, add_json, add_passed_in, add_reading, read_scan
from drmc.cli.printing import number, print_suv, print_table, printed
from drmc.errors import InputError
from drmc.runtime.progress import Reporter
from drmc.texts import RESEARCH_USE, shown

if TYPE_CHECKING:
    import numpy as np

    from drmc.measures.candidates import Candidate, Threshold
    from drmc.pet.volume import PETVolume
    from drmc.segments.segment import Segment

EXAMPLES = (
    "  drmc candidates PET_FOLDER                                            SUV 4.0 and above\n"
    "  drmc candidates PET_FOLDER -o lesions.seg.nrrd --organs organs.seg.nrrd   by PERCIST, with its liver\n"
    "  drmc candidates PET_FOLDER -o lesions.seg.nrrd --liver-sphere -70 5 -310\n"
    "  drmc denoise PET_FOLDER -o OUT --lesions lesions.seg.nrrd             after you have looked at them"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument("input", metavar="SCAN", help="DICOM folder or file, NIfTI, NRRD or MHA")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write the candidates as a Slicer .seg.nrrd"
    )
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="SUV",
        help="a fixed threshold (default: PERCIST where there is a liver, else 4.0)",
    )
    parser.add_argument(
        "--organs",
        metavar="SEG",
        help=f"{LESIONS}, with organs by their names: brain, heart, kidneys and bladder mark physiological "
        "uptake, liver gives the PERCIST threshold",
    )
    parser.add_argument(
        "--liver", metavar="SEGMENT", help="the segment of --organs that is the liver (default: liver)"
    )
    parser.add_argument(
        "--liver-sphere",
        type=float,
        nargs=3,
        metavar=("X", "Y", "Z"),
        help="center in mm, LPS, of a sphere of 3 cm in the right lobe of the liver, for PERCIST",
    )
    parser.add_argument(
        "--min-volume", type=float, metavar="ML", help="leave out what is smaller (default 1 ml)"
    )
    add_reading(parser)
    add_passed_in(parser)
    add_json(parser)


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Finds candidates, writes and prints them, and returns the exit code."""
    from drmc.measures.candidates import LEAST_ML, find_candidates
    from drmc.segments.reading import read_segments
    from drmc.segments.writing import write_segmentation
    from drmc.suv.lean import sul_per_suv

    _check(options)
    _, volume = read_scan(options)
    if options.output is not None:
        _protect(options.output, [volume.source, *volume.dicom_files, options.organs])
    organs, notices = None, list(volume.notices)
    if options.organs is not None:
        organs, more = read_segments(
            options.organs, volume.geometry, volume.frame_of_reference, volume.series_uid
        )
        notices += more
    suv = volume.suv_array()
    threshold = _threshold(options, suv, volume, organs)
    least_ml = LEAST_ML if options.min_volume is None else options.min_volume
    candidates, more = find_candidates(suv, volume.geometry, threshold, least_ml=least_ml, organs=organs)
    notices += more
    output = options.output
    if candidates and output is not None:
        write_segmentation(output, [one.segment for one in candidates], volume.geometry)
    elif output is not None:
        notices.append(f"no candidates: {output} was not written")
    lean, reason = sul_per_suv(volume.suv.to_dict())
    for notice in notices:
        reporter.notice(notice)
    found = {
        "scan": str(volume.source),
        "suv": volume.suv.to_dict(),
        "threshold": _threshold_record(threshold, lean),
        "min_volume_ml": least_ml,
        "candidates": [_record(one, lean) for one in candidates],
        "sul_note": reason or None,
        "notices": notices,
        "output": None if output is None or not candidates else str(output),
        "intended_use": RESEARCH_USE,
    }
    if not printed(options, reporter, found):
        _print(threshold, candidates, lean, reason, volume)
        if found["output"]:
            print(f"candidates: {shown(output)}")
        print(RESEARCH_USE)
    return 0


def _check(options: argparse.Namespace) -> None:
    """Refuses options that contradict each other, before the scan is read."""
    from drmc.segments.writing import ENDING

    livers = [options.liver, options.liver_sphere]
    if options.threshold is not None and any(one is not None for one in livers):
        raise InputError("--threshold: a fixed threshold needs no liver: leave out one of them")
    if all(one is not None for one in livers):
        raise InputError("--liver and --liver-sphere: two references: leave out one of them")
    if options.liver is not None and options.organs is None:
        raise InputError("--liver: names a segment of --organs, which is missing")
    if options.output is not None and not options.output.name.endswith(ENDING):
        raise InputError(f"{options.output}: a segmentation is written as {ENDING}: choose such a name")


def _protect(output: Path, inputs: Sequence[Path | str | None]) -> None:
    sources = [Path(one) for one in inputs if one is not None]
    if output.exists() and any(one.exists() and output.samefile(one) for one in sources):
        raise InputError(f"{output}: would be written over an input: choose another with -o")


def _threshold(
    options: argparse.Namespace, suv: np.ndarray, volume: PETVolume, organs: Sequence[Segment] | None
) -> Threshold:
    from drmc.measures.candidates import fixed_threshold, liver_sphere, percist_threshold
    from drmc.measures.mtv import liver_of

    if options.threshold is not None:
        return fixed_threshold(options.threshold)
    if options.liver_sphere is not None:
        return percist_threshold(suv, liver_sphere(volume.geometry, options.liver_sphere))
    liver = None if organs is None else liver_of(organs, options.liver)
    return fixed_threshold() if liver is None else percist_threshold(suv, liver)


def _threshold_record(threshold: Threshold, lean: float | None) -> dict[str, Any]:
    return {
        "method": threshold.method,
        "suv": threshold.suv,
        "sul": None if lean is None else threshold.suv * lean,
        "liver": threshold.liver,
        "liver_mean_suv": threshold.liver_mean,
        "liver_sd_suv": threshold.liver_sd,
    }


def _record(candidate: Candidate, lean: float | None) -> dict[str, Any]:
    x, y, z = candidate.position_mm
    return {
        "name": candidate.segment.name,
        "volume_ml": candidate.volume_ml,
        "suv_peak": candidate.suv_peak,
        "suv_max": candidate.suv_max,
        "suv_mean": candidate.suv_mean,
        "sul_peak": None if lean is None or candidate.suv_peak is None else candidate.suv_peak * lean,
        "suv_max_x_mm": x,
        "suv_max_y_mm": y,
        "suv_max_z_mm": z,
        "organ": candidate.organ,
        "organ_share": candidate.organ_share,
        "note": candidate.note,
    }


def _print(
    threshold: Threshold, candidates: Sequence[Candidate], lean: float | None, reason: str, volume: PETVolume
) -> None:
    where = f"SUV {number(threshold.suv)}"
    if lean is not None:
        where += f" (SUL {number(threshold.suv * lean)})"
    if threshold.method == "percist":
        mean, sd = number(threshold.liver_mean), number(threshold.liver_sd)
        where += f", PERCIST: 1.5 x mean {mean} + 2 x SD {sd} of {shown(threshold.liver)}"
    print(f"{len(candidates)} candidates at or above {where}")
    if candidates:
        titles = ["candidate", "volume [ml]", "SUVpeak", "SUVmax", "SUVmean", "SULpeak", "x, y, z [mm]"]
        cells = []
        for one in candidates:
            sul = None if lean is None or one.suv_peak is None else one.suv_peak * lean
            values = (one.volume_ml, one.suv_peak, one.suv_max, one.suv_mean, sul)
            place = ", ".join(f"{part:.0f}" for part in one.position_mm)
            cells.append([shown(one.segment.name), *map(number, values), place])
        print_table(titles, cells)
    if reason:
        print(f"SUL is not known: {reason}")
    print_suv(volume.suv.to_dict(), volume.units)
