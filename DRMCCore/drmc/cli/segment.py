"""The command `drmc segment SCAN`: organs of a PET scan, from PET alone."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drmc.cli.arguments import LESIONS, add_passed_in, add_reading, suv_type_of
from drmc.cli.batch import add_batch, asks_for_batch, run_batch_of
from drmc.cli.printing import number, print_table, printed
from drmc.errors import InputError
from drmc.runtime.arguments import add_network_arguments
from drmc.runtime.cancellation import Cancellation
from drmc.runtime.progress import Reporter, add_progress_argument, counting
from drmc.texts import RESEARCH_USE, shown

if TYPE_CHECKING:
    from drmc.segmentation.request import SegmentRequest

EXAMPLES = (
    "  drmc segment PET_FOLDER -o OUT\n"
    "  drmc segment pet.nii.gz -o OUT --lesions lesions.seg.nrrd --threshold percist\n"
    "  drmc segment nac.nii.gz -o OUT --uncorrected\n"
    "  drmc segment PET_FOLDER -o OUT --segmentation corrected.seg.nrrd     numbers of corrected organs\n"
    "  drmc segment COHORT -o OUT --resume\n\n"
    "OUT gets organs.seg.nrrd (names, SNOMED codes and colors as Slicer reads them), organs.csv,\n"
    "report.html and summary.json; with --threshold and a known SUV uptake.csv and uptake.seg.nrrd, with\n"
    "--dicom-seg segmentation/. A scan without a known SUV, or without correction for attenuation, is\n"
    "welcome: its organs are measured relative to the body. A folder of scans is a batch, as for\n"
    "drmc denoise."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument(
        "input",
        metavar="SCAN",
        nargs="?",
        help="DICOM folder or file, NIfTI, NRRD or MHA, or a folder of scans",
    )
    parser.add_argument("-o", "--output", metavar="OUT", help="folder for the results (made if need be)")
    parser.add_argument("--model", metavar="M", help="name of an installed model of organs, or a weight file")
    parser.add_argument(
        "--segmentation",
        metavar="SEG",
        help=f"{LESIONS}, with organs by their names, which are measured in place of a model's; in a batch "
        "as --lesions",
    )
    parser.add_argument(
        "--organs",
        metavar="LIST",
        help="names with commas (liver,kidney,urinary_bladder) of those that are written and measured; "
        "counted: the 23 that count in means; default all",
    )
    parser.add_argument(
        "--lesions",
        metavar="SEG",
        help=f"{LESIONS}: organs are measured without them too; in a batch a folder with files or folders "
        "of the scans' names, or a pattern with {name} or {folder}",
    )
    parser.add_argument(
        "--threshold",
        metavar="T",
        help="list the uptake at or above percist (1.5 x mean + 2 SD of a sphere in the liver), blood-pool "
        "(2 x mean + 2 SD of the aorta) or an SUV, physiological uptake marked",
    )
    parser.add_argument(
        "--uncorrected",
        action="store_true",
        help="the scan is not corrected for attenuation: no SUV is taken from it",
    )
    parser.add_argument(
        "--dicom-seg",
        action="store_true",
        help="write the organs as a DICOM segmentation (SEG) as well, from DICOM input",
    )
    parser.add_argument(
        "--list", action="store_true", help="print the organs with their label values and codes, and end"
    )
    add_network_arguments(parser)
    add_reading(parser)
    add_passed_in(parser)
    parser.add_argument("--lesions-label", metavar="NAME", help="what messages call the lesions")
    parser.add_argument("--segmentation-label", metavar="NAME", help="what messages call the segmentation")
    add_batch(parser)
    parser.add_argument(
        "--json", action="store_true", help="print the summary of a scan, or the list, as JSON"
    )
    add_progress_argument(parser)
    parser.add_argument(
        "--cancel-on-eof", action="store_true", help="stop when standard input ends (for a parent process)"
    )


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Labels a scan, prints its organs, and returns the exit code."""
    if options.list:
        return _list(options, reporter)
    if options.input is None or options.output is None:
        raise InputError("SCAN and -o OUT are needed, or --list; see drmc segment --help")
    from drmc.dicom.catalog import Catalog
    from drmc.segmentation.batch import ORGANS
    from drmc.segmentation.pipeline import run as segment
    from drmc.suv import wording

    request, catalog = _request(options), Catalog(checksums=True)
    with Cancellation() as cancel:
        if options.cancel_on_eof:
            cancel.on_end_of_input()
        if asks_for_batch(options, catalog):
            return run_batch_of(request, options, reporter, cancel, catalog, work=ORGANS)
        summary = segment(request, counting(reporter, ORGANS.counted), cancel, catalog=catalog)
    suv_warnings = wording.warning_lines(summary["suv"] or {})
    for notice in [*summary["notices"], *suv_warnings, *summary["warnings"]]:
        reporter.notice(notice)
    if options.progress == "json":
        reporter.result(output=str(options.output), outputs=summary["outputs"], summary=summary)
    elif not printed(options, reporter, {**summary, "output": str(options.output)}):
        _print(summary, Path(options.output))
    return 0


def _request(options: argparse.Namespace) -> SegmentRequest:
    from drmc.segmentation.request import SegmentRequest

    names = [name.strip() for name in (options.organs or "").split(",")]
    return SegmentRequest(
        input=options.input,
        output=options.output,
        model=options.model,
        segmentation=options.segmentation,
        organs=tuple(name for name in names if name),
        lesions=options.lesions,
        threshold=options.threshold,
        uncorrected=options.uncorrected,
        dicom_seg=options.dicom_seg,
        device=options.device,
        precision=options.precision,
        units=options.units,
        suv_type=suv_type_of(options),
        accept_rule=options.accept_rule,
        series_uid=options.series,
        series_description=options.series_description,
        header=options.header,
        voxels=options.voxels,
        label=options.label,
        lesions_label=options.lesions_label,
        segmentation_label=options.segmentation_label,
    )


def _print(summary: dict[str, Any], output: Path) -> None:
    cells = [
        [
            name,
            f"{found['volume_ml']:.0f}",
            "-" if found["suv_mean"] is None else f"{found['suv_mean']:.2f}",
            "-" if found["relative_mean"] is None else f"{found['relative_mean']:.2f}",
            found["flags"],
        ]
        for name, found in summary["organs"].items()
    ]
    print_table(["organ", "ml", "SUVmean", "of body", ""], cells)
    print(f"{len(cells)} organs: {shown(output / 'organs.seg.nrrd')}")
    for name, one in summary["references"].items():
        threshold = number(one.get("threshold_suv"))
        print(
            f"{name.replace('_', ' ')} reference: SUVmean {number(one['suv_mean'])}, SD "
            f"{number(one['suv_sd'])}, PERCIST threshold SUV {threshold}"
        )
    uptake = summary["uptake"]
    if uptake is not None:
        totals = uptake["totals"]
        for key, words in (("all", "in all"), ("without_physiological", "without what is physiological")):
            total = totals[key]
            print(
                f"uptake at or above SUV {number(uptake['threshold']['suv'])} {words}: {total['count']} "
                f"parts, {number(total['volume_ml'])} ml, TLG {number(total['tlg'])}"
            )
    print(RESEARCH_USE)


def _list(options: argparse.Namespace, reporter: Reporter) -> int:
    from drmc.organs.table import classes

    listed = [
        {
            "value": one.index,
            "name": one.name,
            "key": one.key,
            "code": one.code,
            "side": one.side,
            "color": list(one.color),
            "counts": one.counts,
        }
        for one in classes()
    ]
    if printed(options, reporter, {"organs": listed}):
        return 0
    cells = [[str(one.index), one.name, one.code, "" if one.counts else "extra"] for one in classes()]
    print_table(["value", "organ", "SNOMED CT", ""], cells)
    return 0
